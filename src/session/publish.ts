// PUBLISH from a client, and PUBREL that lets a QoS 2 message go: decided, routed, and acknowledged once what that promises is durable.

import type { LogFields } from '../log-events.js'
import { Message, type RawPublish } from '../message.js'
import { encodeAcknowledgement, encodeExplained } from '../protocol/encode.js'
import { type Publish, packetTypes, payloadOf, propertiesOf, type Qos } from '../protocol/packets.js'
import { encodeProperties } from '../protocol/properties.js'
import { reasonCodes } from '../protocol/reason-codes.js'
import { isControlTopic, isTopicName } from '../topic.js'
import type { Connection } from './connection.js'
import type { PublishRequest, Routing, UnderWay } from './host.js'
import type { Commit } from './ledger.js'
import type { Held, Session } from './session.js'

/** QoS 2 messages of an MQTT 3 client that wait for their PUBREL, and what they take. It can't be told of a limit, so it is a wide one. */
const mostHeld = 10_000
const mostHeldBytes = 16_777_216
/** Characters of a hook's words: no answer to a PUBLISH is longer than it need be. */
const longestReason = 1000

/** A PUBLISH as its client sent it, or as a hook left it. */
type Incoming = Pick<
  Publish,
  'dup' | 'qos' | 'retain' | 'packetId' | 'properties' | 'messageExpiryInterval' | 'buffer' | 'propertiesAt' | 'payloadAt' | 'end'
>

/** PUBLISH: its topic in full, then the embedder's hook where there is one, then decided, routed and answered. */
export function handlePublish(connection: Connection, packet: Publish): void {
  const { session, host, listener } = connection
  if (session === undefined) return
  const { qos, retain, topicAlias } = packet
  if (qos > listener.maxQos) {
    host.log.write('publishInvalid', { clientId: connection.clientId, what: 'Too high QoS in PUBLISH' })
    connection.fail(reasonCodes.qosNotSupported, 'used disallowed feature (QoS too high)')
    return
  }
  if (retain && !host.delivery.retainAvailable) {
    connection.fail(reasonCodes.retainNotSupported, 'used disallowed feature (retain)')
    return
  }
  let { topic } = packet
  if (topicAlias !== undefined) {
    const meant = connection.aliases.incoming(topicAlias, topic)
    if (meant === 'too high') {
      connection.fail(reasonCodes.topicAliasInvalid, 'topic alias invalid')
      return
    }
    if (meant === undefined) {
      connection.fail(reasonCodes.malformedPacket, 'malformed packet')
      return
    }
    topic = meant
  }
  const { mountPoint } = listener
  if (mountPoint !== undefined) {
    topic = `${mountPoint}${topic}`
    // A length above 65535 would be cut on its way out, and with it the topic.
    if (!isTopicName(topic)) {
      connection.fail(reasonCodes.malformedPacket, 'malformed packet')
      return
    }
  }
  host.stats.publishReceived += 1
  host.stats.publishBytesReceived += packet.end - packet.payloadAt
  const { authorizePublish } = host.hooks
  if (authorizePublish === undefined) {
    accept(connection, session, packet, topic, packet.forwardable && mountPoint === undefined ? packet : undefined)
    return
  }
  const { dup, packetId, messageExpiryInterval } = packet
  const expiry = messageExpiryInterval !== undefined && { messageExpiryInterval }
  const content = { payload: payloadOf(packet), properties: propertiesOf(packet) }
  askHook(connection, session, { dup, qos, retain, packetId, topic, ...content, ...expiry }, authorizePublish)
}

/** PUBREL: the message goes to everybody now [MQTT-4.3.3-2], as Mosquitto does it. */
export function handlePubrel(connection: Connection, packetId: number): void {
  const { session, host } = connection
  if (session === undefined) return
  const message = session.release(packetId)
  if (message === undefined) {
    // It may have come by an earlier connection and be on its way now, or to the store. Nobody else's is waited for: they may never end.
    if (session.isLeaving(packetId)) connection.defer(() => handlePubrel(connection, packetId))
    else answer(connection, packetTypes.pubcomp, packetId, reasonCodes.success, session.isStored ? host.ledger.latest : undefined)
    return
  }
  const routing = host.route(message, session.isStored ? { session, packetId } : undefined)
  if (routing.underWay === undefined) released(connection, packetId, message, routing)
  else releaseLater(connection, session, packetId, message, routing.underWay)
}

function released(connection: Connection, packetId: number, message: Message, { commit }: Routing): void {
  answer(connection, packetTypes.pubcomp, packetId, reasonCodes.success, commit)
  published(connection, message)
}

// The next packet waits.
function releaseLater(connection: Connection, session: Session, packetId: number, message: Message, underWay: UnderWay): void {
  connection.hold()
  session.beginLeaving(packetId, message)
  underWay.done = routing => {
    session.hasLeft(packetId, message)
    released(connection, packetId, message, routing)
    connection.release()
  }
}

function askHook(
  connection: Connection,
  session: Session,
  request: PublishRequest,
  ask: NonNullable<Connection['host']['hooks']['authorizePublish']>
): void {
  connection.hold()
  ask(connection, request, (error, edited) => {
    const goOn = () => {
      // Of QoS 2 its client has no PUBREC, and sends it again.
      if (connection.closed && (error !== null || request.qos === 2)) return
      if (error === null) {
        const { topic, payload, ...rest } = edited
        const place = { buffer: payload, propertiesAt: 0, payloadAt: 0, end: payload.length }
        accept(connection, session, { ...rest, ...place }, topic, undefined, request.qos)
        return
      }
      connection.host.events.clientError(connection, error)
      drop(connection, request, reasonCodes.notAuthorized, error.message)
    }
    connection.goOn(goOn, true)
  })
}

// `raw`: the packet, where it may go on as it is. `qos`: as the client sent it, which is what it is answered; a hook may have given the
// message another one.
function accept(
  connection: Connection,
  session: Session,
  packet: Incoming,
  topic: string,
  raw: RawPublish | undefined,
  qos: Qos = packet.qos
): void {
  const { host } = connection
  const { messageSizeLimit } = host.limits
  if (messageSizeLimit > 0 && packet.end - packet.payloadAt > messageSizeLimit) {
    host.log.write('publishTooLarge', fieldsOf(connection, packet, topic))
    drop(connection, { qos, packetId: packet.packetId }, reasonCodes.packetTooLarge)
    return
  }
  const decision = connection.mayWrite(session, topic)
  if (!decision.allowed) {
    host.deniedPublish(session, { ...fieldsOf(connection, packet, topic), decision })
    drop(connection, { qos, packetId: packet.packetId }, reasonCodes.notAuthorized)
    return
  }
  if (decision.shadow !== undefined) host.shadowedPublish(session, topic, decision.shadow)
  if (host.isDebugging) host.log.write('publishReceived', fieldsOf(connection, packet, topic))
  // Without plugins nobody answers, and Mosquitto says no more than that it came.
  if (isControlTopic(topic)) {
    drop(connection, { qos, packetId: packet.packetId }, reasonCodes.success)
    return
  }
  if (qos === 2) {
    hold(connection, session, packet, topic, raw)
    return
  }
  if (qos === 1 && session.held > 0) forgetHeld(connection, session, packet.packetId)
  const message = messageOf(connection, packet, topic, raw)
  const routing = host.route(message)
  if (routing.underWay === undefined) accepted(connection, qos, packet.packetId, message, routing)
  else acceptLater(connection, qos, packet.packetId, message, routing.underWay)
}

function accepted(connection: Connection, qos: Qos, packetId: number, message: Message, { isMatched, commit }: Routing): void {
  if (!connection.closed) {
    if (qos === 1) {
      const reasonCode = isMatched || connection.version !== 5 ? reasonCodes.success : reasonCodes.noMatchingSubscribers
      answer(connection, packetTypes.puback, packetId, reasonCode, commit)
    } else if (commit !== undefined) {
      // Nobody is told, but reading stops for whoever is faster than the store.
      connection.owe(undefined, commit)
    }
  }
  published(connection, message)
}

// The next packet waits.
function acceptLater(connection: Connection, qos: Qos, packetId: number, message: Message, underWay: UnderWay): void {
  connection.hold()
  underWay.done = routing => {
    accepted(connection, qos, packetId, message, routing)
    connection.release()
  }
}

// Until PUBREL. The same identifier with another message means that one; the same message once more is a repetition [MQTT-4.3.3-2].
function hold(connection: Connection, session: Session, packet: Incoming, topic: string, raw: RawPublish | undefined): void {
  const { host } = connection
  const { packetId } = packet
  const held = session.heldAs(packetId)
  if (held !== undefined) {
    const { message } = held
    if (message.topic === topic && message.payload.equals(payloadOf(packet))) {
      held.repeats += 1
      if (held.repeats > 1) connection.fail(reasonCodes.protocolError, 'protocol error')
      else answer(connection, packetTypes.pubrec, packetId, reasonCodes.success, undefined)
      return
    }
    noteFault(connection, 'packetIdReused', { clientId: connection.clientId, packetId })
  }
  if (isFull(connection, session, held)) {
    noteFault(connection, 'receiveMaximumExceeded', { clientId: connection.clientId })
    // Not acknowledged, so nothing is lost: an MQTT 3 client sends it again with its next connection.
    if (connection.version === 5) answer(connection, packetTypes.pubrec, packetId, reasonCodes.quotaExceeded, undefined)
    else connection.finish({ words: 'receive maximum exceeded' })
    return
  }
  const message = messageOf(connection, packet, topic, raw)
  message.keep()
  session.hold(packetId, message)
  const commit = session.isStored ? host.ledger.record({ kind: 'hold', clientId: session.clientId, packetId, message }) : undefined
  answer(connection, packetTypes.pubrec, packetId, reasonCodes.success, commit)
}

// The identifier of a QoS 2 message that waits for its PUBREL comes with QoS 1: as with Mosquitto the client has given that message up.
function forgetHeld(connection: Connection, session: Session, packetId: number): void {
  const { host, clientId } = connection
  if (session.release(packetId) === undefined) return
  noteFault(connection, 'packetIdReused', { clientId, packetId })
  if (session.isStored) host.ledger.record({ kind: 'release', clientId: session.clientId, packetId })
}

type Fault = 'packetIdReused' | 'receiveMaximumExceeded'

const faults = new WeakMap<Connection, Record<Fault, number>>()

// Mosquitto says each, and a client can do so with every packet: here the first has its line, and then each time that there are ten times as many.
function noteFault<Name extends Fault>(connection: Connection, fault: Name, fields: LogFields<Name>): void {
  const counts = faults.get(connection) ?? { packetIdReused: 0, receiveMaximumExceeded: 0 }
  faults.set(connection, counts)
  counts[fault] += 1
  const { log } = connection.host
  const count = counts[fault]
  if (count === 1) log.write(fault, fields)
  else if (Number.isInteger(Math.log10(count))) log.write('faultRepeated', { clientId: connection.clientId, fault, count })
}

// `replaced`: the one that goes for it.
function isFull({ version, inboundMaximum }: Connection, { held, heldBytes }: Session, replaced: Held | undefined): boolean {
  const count = replaced === undefined ? held : held - 1
  if (version === 5 && inboundMaximum > 0) return count >= inboundMaximum
  return count >= mostHeld || heldBytes - (replaced?.message.weight ?? 0) >= mostHeldBytes
}

// Denied, yet acknowledged: MQTT 3 has no negative PUBACK, and Mosquitto keeps the connection. Its PUBREL will find nothing and is answered.
function drop(connection: Connection, { qos, packetId }: Pick<Publish, 'qos' | 'packetId'>, reasonCode: number, reason = ''): void {
  if (qos === 0) return
  const type = qos === 1 ? packetTypes.puback : packetTypes.pubrec
  if (connection.version === 5 && reason !== '' && connection.connect?.requestProblemInformation) {
    explain(connection, type, packetId, reasonCode, reason)
    return
  }
  answer(connection, type, packetId, connection.version === 5 ? reasonCode : reasonCodes.success, undefined)
}

// With a hook's words, as Aedes; Mosquitto has none of its own.
function explain(connection: Connection, type: 4 | 5, packetId: number, reasonCode: number, reason: string): void {
  const properties = encodeProperties({ reasonString: readable(reason.slice(0, longestReason)) })
  const packet = encodeExplained(type, packetId, reasonCode, properties)
  const { maximumPacketSize = Number.POSITIVE_INFINITY } = connection
  // Left out where the packet would be too large with it [MQTT-3.4.2-2, MQTT-3.5.2-2].
  if (packet.length > maximumPacketSize) {
    answer(connection, type, packetId, reasonCode, undefined)
    return
  }
  connection.owe(packet, undefined)
  if (connection.host.isDebugging) connection.logSent(names[type], packetId, reasonCode)
}

// A receiver may close its connection on anything else [MQTT-1.5.4].
function readable(text: string): string {
  return text.replace(/[\p{Control}\p{Surrogate}\p{Noncharacter_Code_Point}]/gu, ' ')
}

function answer(connection: Connection, type: 4 | 5 | 7, packetId: number, reasonCode: number, commit: Commit | undefined): void {
  if (connection.closed) return
  connection.owe(encodeAcknowledgement(type, packetId, reasonCode, connection.version), commit)
  if (connection.host.isDebugging) connection.logSent(names[type], packetId, reasonCode)
}

const names = { 4: 'PUBACK', 5: 'PUBREC', 7: 'PUBCOMP' } as const

function published(connection: Connection, message: Message): void {
  connection.host.routed(message, connection)
  const { published: ask } = connection.host.hooks
  if (ask !== undefined) tellHook(connection, message, ask)
}

function tellHook(connection: Connection, message: Message, ask: NonNullable<Connection['host']['hooks']['published']>): void {
  connection.hold()
  ask(message, connection, () => connection.release())
}

function messageOf({ source }: Connection, packet: Incoming, topic: string, raw: RawPublish | undefined): Message {
  const { qos, retain, messageExpiryInterval } = packet
  // Where the packet itself goes on, it says no time after which it must not.
  if (raw !== undefined) return new Message({ topic, qos, retain, source, raw })
  return new Message({
    topic,
    payload: payloadOf(packet),
    qos,
    retain,
    properties: propertiesOf(packet),
    source,
    ...(messageExpiryInterval !== undefined && messageExpiryInterval > 0 && { expiresAt: Date.now() + messageExpiryInterval * 1000 })
  })
}

function fieldsOf({ clientId }: Connection, { dup, qos, retain, packetId, payloadAt, end }: Incoming, topic: string) {
  return { clientId, dup, qos, retain, packetId, topic, bytes: end - payloadAt }
}
