// Order, delivery, sessions and wills as Mosquitto has them, to the byte.

import t from 'tap'
import { runScenarios } from '../helpers/arena.js'
import { rooms } from '../semantics/all.js'

runScenarios(t, 'ours', Object.values(rooms).flat())
