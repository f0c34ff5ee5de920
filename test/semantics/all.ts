// Every scenario, in its rooms.

import type { Scenario } from '../helpers/arena.js'
import { adversity } from './adversity.js'
import { order } from './order.js'
import { passing } from './passing.js'
import { queues } from './queues.js'
import { retained } from './retained.js'
import { sessions } from './sessions.js'
import { subscriptions } from './subscriptions.js'

export const rooms: Readonly<Record<string, readonly Scenario[]>> = { order, subscriptions, retained, sessions, queues, passing, adversity }
