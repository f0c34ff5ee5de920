// Why a CONNECT is refused: the codes of the CONNACK by protocol version, and the words of the log. Bytes as Mosquitto sends them.

import type { Refusal as PolicyRefusal } from '../auth/policy.js'

interface RefusalAnswer {
  /** CONNACK return code of MQTT 3.1 and 3.1.1. */
  readonly v3: number
  /** CONNACK reason code of MQTT 5. */
  readonly v5: number
  readonly words: string
}

export const refusals = {
  'protocol-version': { v3: 1, v5: 0x84, words: 'unsupported protocol version' },
  'empty-client-id': { v3: 2, v5: 0x80, words: 'protocol error' },
  // MQTT 3 has no code for it; Mosquitto takes 2. MQTT 5 clients are told the limit instead [MQTT-3.2.2-22].
  keepalive: { v3: 2, v5: 0, words: 'keep alive above max_keepalive' },
  'will-too-large': { v3: 5, v5: 0x95, words: 'oversize payload' },
  unavailable: { v3: 3, v5: 0x88, words: 'server unavailable' },
  busy: { v3: 3, v5: 0x97, words: 'server busy' },
  'bad-credentials': { v3: 4, v5: 0x86, words: 'bad username or password' },
  'not-authorised': { v3: 5, v5: 0x87, words: 'not authorised' }
} as const satisfies Record<PolicyRefusal, RefusalAnswer> & Record<string, RefusalAnswer>

export type Refusal = keyof typeof refusals

/** The whole CONNACK. */
export function refusalBytes(refusal: Refusal, protocolVersion: number): Buffer {
  const { v3, v5 } = refusals[refusal]
  return protocolVersion === 5 ? Buffer.from([0x20, 3, 0, v5, 0]) : Buffer.from([0x20, 2, 0, v3])
}
