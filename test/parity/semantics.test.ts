// What the scenarios say of Mosquitto is true of the Mosquitto that is installed, but for what 2.1 changed.

import t from 'tap'
import { runScenarios } from '../helpers/arena.js'
import { rooms } from '../semantics/all.js'

runScenarios(t, 'mosquitto', Object.values(rooms).flat())
