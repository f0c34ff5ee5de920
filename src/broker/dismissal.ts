// Why the broker ends a connection that it once let in, and how it says so.

import { encodeProperties, places } from '../protocol/properties.js'
import { reasonCodes } from '../protocol/reason-codes.js'
import type { LossReason } from '../reload-report.js'
import type { End } from '../session/connection.js'

/** For MQTT 5 clients, for the count of a reload, and in words for the log. */
export interface Dismissal {
  readonly reason: DisconnectReason
  readonly loss: LossReason
  readonly why?: string
  /** It is about the certificate: what an MQTT 5 client reads of it. */
  readonly ofCertificate?: string
}

/** The same for an MQTT 5 client and the log in general. */
export type DisconnectReason = keyof typeof disconnectReasons

const disconnectReasons = {
  'not-authorised': { reasonCode: reasonCodes.notAuthorized, words: 'not authorised' },
  'administrative-action': { reasonCode: reasonCodes.administrativeAction, words: 'administrative action' },
  // Its door closes; the broker goes on behind others.
  'listener-removed': { reasonCode: reasonCodes.serverShuttingDown, words: 'listener removed' }
} as const satisfies Record<string, { reasonCode: number; words: string }>

export function endOf({ reason, loss, why, ofCertificate }: Dismissal): End {
  // A reason string may be sent here whatever the client asked for [MQTT5 3.1.2.11.7].
  const properties = ofCertificate === undefined ? undefined : encodeProperties({ reasonString: ofCertificate }, places.disconnect)
  return { ...disconnectReasons[reason], loss, ...(why !== undefined && { why }), ...(properties && { properties }) }
}
