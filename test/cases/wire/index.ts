// Every case of what goes over the wire.

import type { WireCase } from '../../helpers/wire.js'
import { encodings } from './encodings.js'
import { limits } from './limits.js'
import { malformed } from './malformed.js'

export const wireCases: readonly WireCase[] = [...encodings, ...malformed, ...limits]
