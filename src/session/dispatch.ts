// One packet of a client, from its bytes to who handles it.

import { decodeConnect, decodeFilters, decodePacket, decodePublish } from '../protocol/decode.js'
import { pingresp } from '../protocol/encode.js'
import type { Framing } from '../protocol/framing.js'
import { type Fault, type Packet, packetTypes } from '../protocol/packets.js'
import { reasonCodes } from '../protocol/reason-codes.js'
import { handleAcknowledgement } from './acknowledge.js'
import { admit, refuseConnect } from './connect.js'
import type { Connection } from './connection.js'
import { logFault } from './connection-log.js'
import { handlePublish } from './publish.js'
import { handleSubscribe, handleUnsubscribe } from './subscribe.js'

/** A SUBSCRIBE or UNSUBSCRIBE of more bytes is decoded over several turns. */
const longPacket = 16_384

/** The packet that `framing` stands at. */
export function handlePacket(connection: Connection, framing: Framing): void {
  const { head, buffer, start, end } = framing
  const { host, version, clientId } = connection
  host.stats.messagesReceived += 1
  if (connection.connect === undefined) {
    handleFirst(connection, framing)
    return
  }
  const type = head >> 4
  if (type === packetTypes.publish) {
    const packet = decodePublish(version, framing, connection.lastTopic)
    if (packet.type === 0) {
      refusePacket(connection, packet)
      return
    }
    if (packet.topic !== '') connection.lastTopic = packet.topic
    handlePublish(connection, packet)
    return
  }
  if (type === packetTypes.connect) {
    host.log.write('secondConnect', { clientId })
    connection.finish({ words: 'protocol error' })
    return
  }
  if (end - start > longPacket && (type === packetTypes.subscribe || type === packetTypes.unsubscribe)) {
    decodeLong(connection, decodeFilters(version, head, buffer, start, end))
    return
  }
  dispatch(connection, decodePacket(version, framing))
}

/** Bytes that are no packet, or not one for this moment: said to MQTT 5 clients, then the end. */
export function refusePacket(connection: Connection, { reasonCode, words, detail }: Fault): void {
  if (detail !== undefined) logFault(connection, detail)
  connection.finish(reasonCode === 0 ? { words } : { words, reasonCode })
}

function handleFirst(connection: Connection, { head, buffer, start, end }: Framing): void {
  connection.connectCame()
  if (connection.state !== 'new' || head >> 4 !== packetTypes.connect) {
    connection.finish({ words: 'protocol error' })
    return
  }
  const connect = decodeConnect(head, buffer, start, end, connection.listener.acceptProtocolVersions)
  if (connect.type === 0) {
    refuseConnect(connection, connect)
    return
  }
  connection.state = 'connecting'
  connection.version = connect.version
  // Nothing that comes behind is looked at before it is decided.
  connection.hold()
  void admit(connection, connect).finally(() => connection.release())
}

function decodeLong(connection: Connection, steps: Generator<void, Packet | Fault>): void {
  do {
    const { done, value } = steps.next()
    if (done === true) {
      dispatch(connection, value)
      return
    }
  } while (!connection.host.turns.isOver)
  connection.defer(() => decodeLong(connection, steps))
}

function dispatch(connection: Connection, packet: Packet | Fault): void {
  switch (packet.type) {
    case 0:
      refusePacket(connection, packet)
      break
    case packetTypes.publish:
      handlePublish(connection, packet)
      break
    case packetTypes.puback:
    case packetTypes.pubrec:
    case packetTypes.pubrel:
    case packetTypes.pubcomp:
      handleAcknowledgement(connection, packet)
      break
    case packetTypes.subscribe:
      handleSubscribe(connection, packet)
      break
    case packetTypes.unsubscribe:
      handleUnsubscribe(connection, packet)
      break
    case packetTypes.pingreq:
      handlePingreq(connection)
      break
    case packetTypes.disconnect:
      handleDisconnect(connection, packet.reasonCode, packet.sessionExpiryInterval)
      break
    case packetTypes.auth:
      // Nobody began an authentication that could go on [MQTT-4.12.0-6].
      connection.fail(reasonCodes.protocolError, 'protocol error')
  }
}

// Beside the order of acknowledgements: it is here, also while the store keeps those waiting.
function handlePingreq(connection: Connection): void {
  const { host, clientId } = connection
  logReceived(connection, 'PINGREQ')
  if (connection.isReady) connection.send(pingresp)
  else connection.owe(pingresp, undefined)
  if (host.isDebugging) host.log.write('packetSent', { clientId, packet: 'PINGRESP' })
  host.events.pinged(connection)
}

// A reason code other than 0 leaves the will in force [MQTT-3.14.4-3, MQTT-3.1.2-8].
function handleDisconnect(connection: Connection, reasonCode: number, sessionExpiryInterval: number | undefined): void {
  const { session, host } = connection
  if (session === undefined) return
  if (sessionExpiryInterval !== undefined) {
    if (session.expiryInterval === 0 && sessionExpiryInterval > 0) {
      connection.fail(reasonCodes.protocolError, 'protocol error')
      return
    }
    session.expiryInterval = Math.min(sessionExpiryInterval, host.bounds.sessionExpiry)
  }
  logReceived(connection, 'DISCONNECT')
  connection.finish(reasonCode === reasonCodes.success ? { words: '' } : { words: '', keepsWill: true })
}

function logReceived({ host, clientId }: Connection, packet: string): void {
  if (host.isDebugging) host.log.write('packetReceived', { clientId, packet })
}
