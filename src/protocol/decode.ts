// Bytes to packets, as strict as Mosquitto 2.1 and with its answers: the same checks in the same order, so that the same code goes to the
// client. Nothing throws, whatever the bytes. What the decoder can't know (maximum_qos, retain_available, the alias maximum, the session) is the
// caller's.

import type { ClientDetail, ConnectDetail } from '../log-events.js'
import { isTopicName, parseFilter } from '../topic.js'
import type { Frame, Framing } from './framing.js'
import {
  type Acknowledgement,
  type Auth,
  type Connect,
  type ConnectFault,
  type ConnectFaultDetail,
  type Disconnect,
  type Fault,
  type FaultDetail,
  neverExpires,
  type Packet,
  type Pingreq,
  type Publish,
  packetTypes,
  type Qos,
  type Subscribe,
  type SubscriptionRequest,
  type Unsubscribe,
  type Version,
  type Will
} from './packets.js'
import { type PropertiesWrong, places, readProperties, Values } from './properties.js'
import { Reader, textOf, topicKind, uint16At } from './reader.js'
import { reasonCodes, returnCodes } from './reason-codes.js'

/** A CONNECT with a longer body is not read: set `limit` of the framing to one more until it has come. */
export const longestConnect = 100_000
// As Mosquitto 2.1 has them (packet_max_sub, packet_max_simple, packet_max_auth), MQTT 5 only.
const longestSubscribe = 100_000
const longestAcknowledgement = 10_000

const filtersOfAStep = 256

const none = Buffer.alloc(0)

const malformed = fault(reasonCodes.malformedPacket, 'malformed packet')
const protocolError = fault(reasonCodes.protocolError, 'protocol error')
// What Mosquitto closes on without a DISCONNECT.
const malformedSilently = fault(0, 'malformed packet')
const protocolErrorSilently = fault(0, 'protocol error')
const badText = fault(0, 'bad socket read/write: Malformed UTF-8')
const oversize = fault(0, 'oversize packet')
const tooLarge = fault(reasonCodes.packetTooLarge, 'oversize packet')

// What has a line of its own in Mosquitto's log. PUBLISH:
const duplicateOfQos0 = detailed(malformed, { event: 'publishInvalid', what: 'Invalid PUBLISH (QoS=0 and DUP=1)' })
const noQosOfPublish = detailed(malformed, { event: 'publishInvalid', what: 'Invalid QoS in PUBLISH' })
// SUBSCRIBE and UNSUBSCRIBE:
const emptyFilter = detailed(malformed, { event: 'subscribeInvalid', what: 'Empty subscription string' })
const wrongFilter = detailed(malformed, { event: 'subscribeInvalid', what: 'Invalid subscription string' })
const noQosOfSubscribe = detailed(malformed, { event: 'subscribeInvalid', what: 'Invalid QoS in subscription command' })
const emptyUnsubscription = detailed(malformed, { event: 'unsubscribeInvalid', what: 'Empty unsubscription string' })
const wrongUnsubscription = detailed(malformed, { event: 'unsubscribeInvalid', what: 'Invalid unsubscription string' })
const noLocalOfShared = detailed(protocolError, { event: 'protocolError', what: '$share subscription with no-local set' })

const pingreq: Pingreq = Object.freeze({ type: packetTypes.pingreq })

function fault(reasonCode: number, words: string): Fault {
  return Object.freeze({ type: 0, reasonCode, words })
}

function detailed(fault: Fault, detail: FaultDetail): Fault {
  return Object.freeze({ ...fault, detail })
}

/** What becomes of a connection whose bytes are no packet. A DISCONNECT is for who has had a CONNACK. */
export function faultOfFraming(fault: NonNullable<Framing['fault']>): Fault {
  switch (fault) {
    case 'malformed':
      return malformedSilently
    case 'reserved':
      return protocolError
    case 'oversize':
      return tooLarge
  }
}

/** Anything after CONNECT. `previousTopic`: of the last PUBLISH that came out of here. */
export function decodePacket(version: Version, frame: Frame, previousTopic = ''): Packet | Fault {
  const { head, buffer, start, end } = frame
  switch (head >> 4) {
    case packetTypes.publish:
      return decodePublish(version, frame, previousTopic)
    case packetTypes.puback:
    case packetTypes.pubrec:
    case packetTypes.pubrel:
    case packetTypes.pubcomp:
      return decodeAcknowledgement(version, head, buffer, start, end)
    case packetTypes.subscribe:
    case packetTypes.unsubscribe:
      return lastOf(decodeFilters(version, head, buffer, start, end))
    case packetTypes.pingreq:
      // Mosquitto reads the body before it looks at the flags.
      if (start !== end) return version === 5 ? malformed : malformedSilently
      return head === 0xc0 ? pingreq : malformed
    case packetTypes.pingresp:
      if (start !== end) return version === 5 ? malformed : malformedSilently
      return head === 0xd0 ? protocolError : malformed
    case packetTypes.disconnect:
      return decodeDisconnect(version, head, new Reader(buffer, start, end))
    case packetTypes.auth:
      return decodeAuth(version, head, new Reader(buffer, start, end))
    case packetTypes.connect:
      return protocolErrorSilently
    default:
      return protocolError
  }
}

// --- PUBLISH ---

// Used again and again: nothing of a packet is left in them.
const publishReader = new Reader(none, 0, 0)
const publishValues = new Values()

/** `previousTopic`: a topic that this function gave; an equal one is the same string again, unchecked. */
export function decodePublish(version: Version, frame: Frame, previousTopic = ''): Publish | Fault {
  const { head, buffer, start, end } = frame
  const qos = qosOf(head >> 1)
  const dup = (head & 8) !== 0
  const retain = (head & 1) !== 0
  if (dup && qos === 0) return duplicateOfQos0
  if (qos === undefined) return noQosOfPublish
  if (start + 2 > end) return malformed

  const topicStart = start + 2
  const topicEnd = topicStart + uint16At(buffer, start)
  if (topicEnd > end) return malformed
  const isSame = isEqual(previousTopic, buffer, topicStart, topicEnd)
  const topic = isSame ? previousTopic : readTopic(buffer, topicStart, topicEnd)
  if (topic === undefined || (topic === '' && version !== 5)) return malformed

  let at = topicEnd
  let packetId = 0
  if (qos > 0) {
    if (at + 2 > end) return malformed
    packetId = uint16At(buffer, at)
    if (packetId === 0) return protocolError
    at += 2
  }

  let forwardable = frame.minimal
  if (version !== 5 || buffer[at] === 0) {
    if (version === 5 && at++ === end) return malformed
    if (topic === null || topic === '') return malformed
    return {
      type: packetTypes.publish,
      dup,
      qos,
      retain,
      packetId,
      topic,
      buffer,
      start: frame.frameStart,
      propertiesAt: at,
      payloadAt: at,
      end,
      isNew: version === 5,
      properties: undefined,
      forwardable
    }
  }

  const reader = publishReader
  const values = publishValues
  reader.reset(buffer, at, end)
  const wrong = readProperties(reader, places.publish, values)
  const { messageExpiryInterval, topicAlias, picked, start: propertiesAt, end: payloadAt } = values
  reader.reset(none, 0, 0)
  values.reset()
  if (wrong !== undefined) return faultOf(wrong)
  // A topic that may not be is Mosquitto's last check; without a topic there must be an alias.
  if (topic === null || (topic === '' && topicAlias < 0)) return malformed
  forwardable &&= messageExpiryInterval < 0 && topicAlias < 0
  return {
    type: packetTypes.publish,
    dup,
    qos,
    retain,
    packetId,
    topic,
    buffer,
    start: frame.frameStart,
    propertiesAt,
    payloadAt,
    end,
    isNew: true,
    properties: picked,
    forwardable,
    ...(messageExpiryInterval >= 0 && { messageExpiryInterval }),
    ...(topicAlias >= 0 && { topicAlias })
  }
}

// Only ASCII can be compared so; other text takes the long way.
function isEqual(text: string, buffer: Buffer, start: number, end: number): boolean {
  const length = end - start
  if (text.length !== length || length === 0) return false
  for (let i = 0; i < length; i++) {
    const byte = buffer[start + i] ?? 0
    if (byte !== text.charCodeAt(i) || byte > 0x7f) return false
  }
  return true
}

// '' is given as it is: with MQTT 5 an alias may stand for it. Undefined: no text; null: text that is no topic name.
function readTopic(buffer: Buffer, start: number, end: number): string | undefined | null {
  const kind = topicKind(buffer, start, end)
  if (kind === 'wrong') return undefined
  return kind === 'none' ? null : textOf(kind, buffer, start, end)
}

// --- the other packets ---

function decodeAcknowledgement(version: Version, head: number, buffer: Buffer, start: number, end: number): Acknowledgement | Fault {
  const length = end - start
  if (version === 5 ? length > longestAcknowledgement : length !== 2) return version === 5 ? oversize : malformedSilently
  const type = acknowledgementOf(head)
  if (type === packetTypes.pubrel) {
    if ((head & 0x0f) !== 2 && version !== 3) return protocolError
  } else if ((head & 0x0f) !== 0) {
    return malformed
  }
  if (length < 2) return malformed
  const packetId = uint16At(buffer, start)
  if (packetId === 0) return protocolError
  if (length === 2) return { type, packetId, reasonCode: reasonCodes.success }

  const reasonCode = buffer[start + 2] ?? 0
  const isKnown = (type === packetTypes.puback || type === packetTypes.pubrec ? receiptCodes : releaseCodes).includes(reasonCode)
  // PUBREC and PUBREL: the code is checked before the properties, PUBACK and PUBCOMP: behind them.
  const isCodeFirst = type === packetTypes.pubrec || type === packetTypes.pubrel
  if (isCodeFirst && !isKnown) return protocolError
  if (length > 3) {
    const reader = new Reader(buffer, start + 3, end)
    const wrong = readProperties(reader, places.acknowledgement, new Values())
    if (wrong !== undefined) return faultOf(wrong)
    if (!isKnown) return protocolError
    if (reader.left > 0) return malformed
  }
  return isKnown ? { type, packetId, reasonCode } : protocolError
}

function acknowledgementOf(head: number): Acknowledgement['type'] {
  switch (head >> 4) {
    case packetTypes.puback:
      return packetTypes.puback
    case packetTypes.pubrec:
      return packetTypes.pubrec
    case packetTypes.pubrel:
      return packetTypes.pubrel
    default:
      return packetTypes.pubcomp
  }
}

/** What a receiver may answer to a PUBLISH. */
const receiptCodes: readonly number[] = [
  reasonCodes.success,
  reasonCodes.noMatchingSubscribers,
  reasonCodes.unspecifiedError,
  reasonCodes.implementationSpecificError,
  reasonCodes.notAuthorized,
  reasonCodes.topicNameInvalid,
  reasonCodes.packetIdentifierInUse,
  reasonCodes.quotaExceeded,
  reasonCodes.payloadFormatInvalid
]
const releaseCodes: readonly number[] = [reasonCodes.success, reasonCodes.packetIdentifierNotFound]

/** SUBSCRIBE and UNSUBSCRIBE, which may be long: a step is some of their filters, the last one gives the packet. */
export function decodeFilters(
  version: Version,
  head: number,
  buffer: Buffer,
  start: number,
  end: number
): Generator<void, Subscribe | Unsubscribe | Fault> {
  const reader = new Reader(buffer, start, end)
  return head >> 4 === packetTypes.subscribe ? decodeSubscribe(version, head, reader) : decodeUnsubscribe(version, head, reader)
}

function lastOf<Value>(steps: Generator<void, Value>): Value {
  for (;;) {
    const { done, value } = steps.next()
    if (done === true) return value
  }
}

function* decodeSubscribe(version: Version, head: number, reader: Reader): Generator<void, Subscribe | Fault> {
  if (version === 5 && reader.left > longestSubscribe) return oversize
  if (head !== 0x82) return malformed
  const packetId = reader.uint16()
  if (packetId === 0) return malformed
  let subscriptionIdentifier = 0
  if (version === 5) {
    const values = new Values()
    const wrong = readProperties(reader, places.subscribe, values)
    // A property that may not stand here is malformed in SUBSCRIBE and UNSUBSCRIBE alone.
    if (wrong !== undefined) return wrong === 'disallowed' ? malformed : faultOf(wrong)
    if (values.subscriptionIdentifier === 0) return protocolError
    subscriptionIdentifier = Math.max(values.subscriptionIdentifier, 0)
  }
  const subscriptions: SubscriptionRequest[] = []
  while (reader.left > 0) {
    const filter = reader.string()
    if (reader.wrong !== undefined) return malformed
    const parsed = parseFilter(filter)
    if (parsed === 'malformed') return filter === '' ? emptyFilter : wrongFilter
    const options = reader.byte()
    if (reader.wrong !== undefined) return malformed
    const noLocal = (options & 4) !== 0
    if (noLocal && filter.startsWith('$share/')) return noLocalOfShared
    const qos = qosOf(options)
    const retainHandling = retainHandlingOf(options >> 4)
    // The options of MQTT 3 are a QoS and nothing else.
    if (version === 5 && (retainHandling === undefined || options > 0x3f)) return malformed
    if (qos === undefined || retainHandling === undefined || (version !== 5 && options > 2)) return noQosOfSubscribe
    if (parsed === 'protocol-error') return protocolError
    if (subscriptions.length % filtersOfAStep === filtersOfAStep - 1) yield
    subscriptions.push({ filter, qos, noLocal, retainAsPublished: (options & 8) !== 0, retainHandling })
  }
  // MQTT 3.1 has no rule against it, and Mosquitto answers.
  if (subscriptions.length === 0 && version !== 3) return malformed
  return { type: packetTypes.subscribe, packetId, subscriptions, subscriptionIdentifier }
}

function* decodeUnsubscribe(version: Version, head: number, reader: Reader): Generator<void, Unsubscribe | Fault> {
  if (version === 5 && reader.left > longestSubscribe) return oversize
  if (head !== 0xa2) return malformed
  const packetId = reader.uint16()
  if (packetId === 0) return malformed
  if (version === 5) {
    const wrong = readProperties(reader, places.unsubscribe, new Values())
    if (wrong !== undefined) return wrong === 'disallowed' ? malformed : faultOf(wrong)
  }
  const filters: string[] = []
  while (reader.left > 0) {
    const filter = reader.string()
    if (reader.wrong !== undefined) return malformed
    const parsed = parseFilter(filter)
    if (parsed === 'malformed') return filter === '' ? emptyUnsubscription : wrongUnsubscription
    if (parsed === 'protocol-error') return protocolError
    if (filters.length % filtersOfAStep === filtersOfAStep - 1) yield
    filters.push(filter)
  }
  if (filters.length === 0 && version !== 3) return malformed
  return { type: packetTypes.unsubscribe, packetId, filters }
}

function decodeDisconnect(version: Version, head: number, reader: Reader): Disconnect | Fault {
  if (version !== 5 && reader.left > 0) return malformedSilently
  if (reader.left > longestAcknowledgement) return oversize
  if (head !== 0xe0) return protocolError
  if (reader.left === 0) return { type: packetTypes.disconnect, reasonCode: reasonCodes.normalDisconnection }
  const reasonCode = reader.byte()
  if (reader.left === 0) return { type: packetTypes.disconnect, reasonCode }
  const values = new Values()
  const wrong = readProperties(reader, places.disconnect, values)
  if (wrong !== undefined) return faultOf(wrong)
  if (reader.left > 0) return protocolError
  const { sessionExpiryInterval } = values
  return { type: packetTypes.disconnect, reasonCode, ...(sessionExpiryInterval >= 0 && { sessionExpiryInterval }) }
}

// No client gets as far with an authentication method, so all of it ends in 0x82; the fields are for who knows a method.
function decodeAuth(version: Version, head: number, reader: Reader): Auth | Fault {
  if (reader.left > longestSubscribe) return oversize
  if (version !== 5 || head !== 0xf0) return protocolError
  if (reader.left === 0) return { type: packetTypes.auth, reasonCode: reasonCodes.success }
  const reasonCode = reader.byte()
  if (reader.left > 0 && readProperties(reader, places.auth, new Values()) !== undefined) return protocolError
  return reader.left > 0 ? protocolError : { type: packetTypes.auth, reasonCode }
}

function qosOf(bits: number): Qos | undefined {
  switch (bits & 3) {
    case 0:
      return 0
    case 1:
      return 1
    case 2:
      return 2
    default:
      return undefined
  }
}

const retainHandlingOf = qosOf

function faultOf(wrong: PropertiesWrong): Fault {
  switch (wrong) {
    case 'malformed':
      return malformed
    case 'utf8':
      return badText
    case 'disallowed':
    case 'duplicate':
      return protocolError
  }
}

// --- CONNECT ---

const silent: ConnectFault = Object.freeze({ type: 0, words: 'protocol error' })
const textFault: ConnectFault = Object.freeze({ type: 0, words: 'bad socket read/write: Malformed UTF-8' })
const topicFault: ConnectFault = Object.freeze({ type: 0, words: 'bad socket read/write: Invalid input' })

function refuse(version: Version, code: number, words: string, detail?: ConnectFaultDetail): ConnectFault {
  return { type: 0, answer: { version, code }, words, ...(detail !== undefined && { detail }) }
}

function silentWith(detail: ConnectFaultDetail): ConnectFault {
  return { ...silent, detail }
}

const invalid = (what: ConnectDetail): ConnectFault => silentWith({ event: 'connectInvalid', what })

/** Nobody knows that level, or the listener does not take it. */
function badVersion(level: number): ConnectFault {
  const words = 'unsupported protocol version'
  return level === 3 || level === 4
    ? refuse(4, returnCodes.unacceptableProtocolVersion, words)
    : refuse(5, reasonCodes.unsupportedProtocolVersion, words)
}

const hexOf = (byte: number): string => byte.toString(16).toUpperCase().padStart(2, '0')

const allVersions: readonly number[] = [3, 4, 5]

/** The first packet. `accepted`: accept_protocol_versions of the listener. */
export function decodeConnect(
  head: number,
  buffer: Buffer,
  start: number,
  end: number,
  accepted: readonly number[] = allVersions
): Connect | ConnectFault {
  if (head >> 4 !== packetTypes.connect || end - start > longestConnect) return silent
  const reader = new Reader(buffer, start, end)
  const length = reader.uint16()
  if (reader.wrong !== undefined) return invalid('CONNECT with missing protocol string length')
  if (length !== 4 && length !== 6) return invalid(`CONNECT with incorrect protocol string length (${length})`)
  if (length > reader.left) return invalid('CONNECT with missing protocol string')
  reader.at += length
  const name = buffer.toString('latin1', reader.at - length, reader.at)
  const level = reader.byte()
  if (reader.wrong !== undefined) return invalid('CONNECT with missing protocol version')
  const known = versionOf(level & 0x7f)
  if (known === undefined || !accepted.includes(known)) return badVersion(level)
  const isBridge = level > 0x7f
  if (name !== 'MQTT' && name !== 'MQIsdp') {
    return silentWith({ event: 'connectProtocolUnknown', what: `invalid protocol "${name}"` })
  }
  if ((name === 'MQIsdp') !== (known === 3)) {
    const what = `invalid protocol version (${level})` as const
    return refuse(4, returnCodes.unacceptableProtocolVersion, silent.words, { event: 'connectProtocolUnknown', what })
  }
  if (known !== 3 && (head & 0x0f) !== 0) return invalid(`CONNECT with non-zero reserved flags (${hexOf(head)})`)
  // A bridge says so with MQTT 3 only; what Mosquitto makes of 0x85 is no packet.
  if (isBridge && known === 5) return silent
  return decodeSession(known, isBridge, reader, start)
}

function versionOf(level: number): Version | undefined {
  return level === 3 || level === 4 || level === 5 ? level : undefined
}

// `start`: of the body.
function decodeSession(version: Version, bridge: boolean, reader: Reader, start: number): Connect | ConnectFault {
  const flags = reader.byte()
  if (reader.wrong !== undefined) return invalid('CONNECT with missing connect flags')
  if (version !== 3 && (flags & 1) !== 0) return invalid(`CONNECT with non-zero connect reserved flag (${hexOf(flags)})`)
  const clean = (flags & 2) !== 0
  const keepalive = reader.uint16()
  if (reader.wrong !== undefined) return silent

  const values = new Values()
  if (version === 5) {
    const wrong = readProperties(reader, places.connect, values)
    if (wrong !== undefined) return connectFaultOf(wrong)
  }
  const hasWill = (flags & 4) !== 0
  const willQos = qosOf(flags >> 3)
  if (willQos === undefined) return invalid('CONNECT with invalid Will QoS (3)')
  if (values.hasAuthenticationData && values.authenticationMethod === undefined) return connectFaultOf('disallowed')

  const clientId = reader.string()
  if (reader.wrong === 'utf8') return version === 5 ? refuse(5, reasonCodes.clientIdentifierNotValid, textFault.words) : textFault
  if (reader.wrong !== undefined) return silent
  // An MQTT 5 client without an id keeps its session under the one that it gets.
  if (clientId === '' && (version === 3 || (version === 4 && !clean))) {
    const what = version === 3 ? 'v3.1 CONNECT with zero length clientid' : 'CONNECT with zero length clientid when forbidden'
    return refuse(version, returnCodes.identifierRejected, silent.words, { event: 'connectInvalid', what })
  }

  let will: Will | undefined
  if (hasWill) {
    const read = decodeWill(version, reader, willQos, (flags & 0x20) !== 0, clientId)
    if ('type' in read) return read
    will = read
  } else if (version !== 3 && (flags & 0x38) !== 0) {
    return silent
  }

  const hasUsername = (flags & 0x80) !== 0
  const hasPassword = (flags & 0x40) !== 0
  if (!hasUsername && hasPassword && version !== 5) return silentWith({ event: 'passwordWithoutUsername', clientId })
  // MQTT 3.1 allows a flag without its field at the end of the packet [MQTT 3.1, 3.1].
  const username = hasUsername && !(version === 3 && reader.left === 0) ? reader.string() : undefined
  if (reader.wrong !== undefined) return wrongCredential(clientId, 'CONNECT with username flag but no username')
  const password = hasPassword && !(version === 3 && reader.left === 0) ? reader.binary() : undefined
  if (reader.wrong !== undefined) return wrongCredential(clientId, 'CONNECT with password flag but no password')
  if (reader.left > 0) {
    const what = `CONNECT packet with overlong remaining length (${reader.at - start}:${reader.end - start})` as const
    const detail = { event: 'protocolError', what, clientId } as const
    return version === 5 ? refuse(5, reasonCodes.malformedPacket, silent.words, detail) : silentWith(detail)
  }

  return {
    type: packetTypes.connect,
    version,
    bridge,
    clean,
    keepalive,
    clientId,
    ...(username !== undefined && { username }),
    ...(password !== undefined && { password }),
    ...(will !== undefined && { will }),
    sessionExpiryInterval: version === 5 ? Math.max(values.sessionExpiryInterval, 0) : clean ? 0 : neverExpires,
    receiveMaximum: values.receiveMaximum < 0 ? 0xffff : values.receiveMaximum,
    maximumPacketSize: Math.max(values.maximumPacketSize, 0),
    topicAliasMaximum: Math.max(values.topicAliasMaximum, 0),
    requestProblemInformation: values.requestProblemInformation !== 0,
    requestResponseInformation: values.requestResponseInformation === 1,
    ...(values.authenticationMethod !== undefined && { authenticationMethod: values.authenticationMethod }),
    properties: version === 5 ? reader.buffer.subarray(values.start, values.end) : none
  }
}

const wrongCredential = (clientId: string, what: ClientDetail): ConnectFault => silentWith({ event: 'protocolError', what, clientId })

function decodeWill(version: Version, reader: Reader, qos: Qos, retain: boolean, clientId: string): Will | ConnectFault {
  const values = new Values()
  if (version === 5) {
    const wrong = readProperties(reader, places.will, values)
    if (wrong !== undefined) return connectFaultOf(wrong)
  }
  const topic = reader.string()
  if (reader.wrong === undefined && topic === '') {
    const detail = { event: 'protocolError', what: 'Will with empty topic', clientId } as const
    return version === 5 ? refuse(5, reasonCodes.protocolError, silent.words, detail) : silentWith(detail)
  }
  if (reader.wrong === undefined && !isTopicName(topic)) return topicFault
  const payload = reader.binary()
  if (reader.wrong !== undefined) return version === 5 ? connectFaultOf(reader.wrong) : silent
  const { willDelayInterval, messageExpiryInterval } = values
  return {
    topic,
    payload,
    qos,
    retain,
    delayInterval: Math.max(willDelayInterval, 0),
    ...(messageExpiryInterval >= 0 && { messageExpiryInterval }),
    properties: values.picked ?? reader.buffer.subarray(values.start, values.end)
  }
}

// MQTT 5. Text that is wrong: closed without an answer, as Mosquitto does.
function connectFaultOf(wrong: PropertiesWrong): ConnectFault {
  switch (wrong) {
    case 'malformed':
      return refuse(5, reasonCodes.malformedPacket, 'malformed packet')
    case 'utf8':
      return textFault
    case 'disallowed':
    case 'duplicate':
      return refuse(5, reasonCodes.protocolError, 'protocol error')
  }
}
