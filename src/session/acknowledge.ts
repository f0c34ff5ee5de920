// The client's acknowledgements of what it was sent. One that belongs to another flow ends the connection; one for an identifier that
// nobody knows does no harm [MQTT-4.3.2, MQTT-4.3.3].

import { encodeAcknowledgement } from '../protocol/encode.js'
import { type Acknowledgement, packetTypes } from '../protocol/packets.js'
import { reasonCodes } from '../protocol/reason-codes.js'
import type { Connection } from './connection.js'
import { handlePubrel } from './publish.js'

const names = { 4: 'PUBACK', 5: 'PUBREC', 6: 'PUBREL', 7: 'PUBCOMP' } as const

export function handleAcknowledgement(connection: Connection, { type, packetId, reasonCode }: Acknowledgement): void {
  const { session, host } = connection
  if (session === undefined) return
  if (host.isDebugging) {
    host.log.write('acknowledgementReceived', { clientId: connection.clientId, packet: names[type], packetId, reasonCode })
  }
  switch (type) {
    case packetTypes.puback:
    case packetTypes.pubcomp: {
      const entry = type === packetTypes.puback ? session.puback(packetId) : session.pubcomp(packetId)
      if (entry === 'protocol error') connection.fail(reasonCodes.protocolError, 'protocol error')
      else if (entry !== undefined) {
        host.events.acknowledged(connection, entry)
        session.pump()
      }
      break
    }
    case packetTypes.pubrec:
      handlePubrec(connection, packetId, reasonCode)
      break
    case packetTypes.pubrel:
      handlePubrel(connection, packetId)
  }
}

function handlePubrec(connection: Connection, packetId: number, reasonCode: number): void {
  const { session, host, version } = connection
  if (session === undefined) return
  const entry = session.pubrec(packetId, reasonCode)
  if (entry === 'protocol error') {
    connection.fail(reasonCodes.protocolError, 'protocol error')
    return
  }
  // A refusal ends the handshake, known or not [MQTT-4.3.3-4].
  if (reasonCode >= reasonCodes.unspecifiedError) {
    session.pump()
    return
  }
  // Durable before PUBREL: after it the client may forget that it ever had the message.
  const commit = entry !== undefined && session.isStored ? host.ledger.record({ kind: 'received', entry }) : undefined
  connection.owe(encodeAcknowledgement(packetTypes.pubrel, packetId, reasonCodes.success, version), commit)
  connection.logSent('PUBREL', packetId, reasonCodes.success)
}
