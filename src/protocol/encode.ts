// Packets to bytes: everything the broker sends, in Mosquitto 2.1's encodings, which are the shortest: no property length where none is
// needed, properties in its order. People compare packets byte for byte with Mosquitto's.

import { packetTypes, type Qos, type Version } from './packets.js'
import { variableLength, writeBytes, writeText, writeUint16, writeUint32, writeVariable } from './writer.js'

const none = Buffer.alloc(0)

// Shared: nobody writes into a packet that has no packet identifier.
export const pingresp: Buffer = Buffer.from([packetTypes.pingresp << 4, 0])

/** `code`: a return code for MQTT 3, a reason code for MQTT 5. */
export function encodeConnack(version: Version, sessionPresent: boolean, code: number, properties: Buffer = none): Buffer {
  const flags = sessionPresent ? 1 : 0
  if (version !== 5) return Buffer.from([packetTypes.connack << 4, 2, flags, code])
  const length = 2 + variableLength(properties.length) + properties.length
  const packet = allocate(packetTypes.connack << 4, length)
  let at = packet.length - length
  packet[at++] = flags
  packet[at++] = code
  writeBytes(packet, writeVariable(packet, at, properties.length), properties)
  return packet
}

export interface ConnackProperties {
  readonly serverKeepAlive?: number
  readonly topicAliasMaximum?: number
  readonly assignedClientIdentifier?: string
  readonly authenticationMethod?: string
  readonly retainAvailable?: boolean
  readonly maximumPacketSize?: number
  readonly receiveMaximum?: number
  readonly maximumQos?: Qos
}

/** Mosquitto's order. What is the default of the protocol (retain available, QoS 2, no alias, no limit: 0) is left out. */
export function connackProperties({
  serverKeepAlive,
  topicAliasMaximum = 0,
  assignedClientIdentifier,
  authenticationMethod,
  retainAvailable = true,
  maximumPacketSize = 0,
  receiveMaximum = 0,
  maximumQos = 2
}: ConnackProperties): Buffer {
  const parts: Buffer[] = []
  if (serverKeepAlive !== undefined) parts.push(uint16Property(0x13, serverKeepAlive))
  if (topicAliasMaximum > 0) parts.push(uint16Property(0x22, topicAliasMaximum))
  if (assignedClientIdentifier !== undefined) parts.push(textProperty(0x12, assignedClientIdentifier))
  if (authenticationMethod !== undefined) parts.push(textProperty(0x15, authenticationMethod))
  if (!retainAvailable) parts.push(Buffer.of(0x25, 0))
  if (maximumPacketSize > 0) parts.push(uint32Property(0x27, maximumPacketSize))
  if (receiveMaximum > 0) parts.push(uint16Property(0x21, receiveMaximum))
  if (maximumQos < 2) parts.push(Buffer.of(0x24, maximumQos))
  return Buffer.concat(parts)
}

/** A packet; a number is one of four bytes, the first in its highest bits. */
export type Answer = Buffer | number

/** PUBACK, PUBREC, PUBREL or PUBCOMP: a word, but where MQTT 5 is told something other than success. */
export function encodeAcknowledgement(type: 4 | 5 | 6 | 7, packetId: number, reasonCode: number, version: Version): Answer {
  const head = (type << 4) | (type === packetTypes.pubrel ? 2 : 0)
  if (version !== 5 || reasonCode === 0) return (head << 24) | (2 << 16) | packetId
  return Buffer.of(head, 3, packetId >> 8, packetId & 0xff, reasonCode)
}

/** The same for MQTT 5 with properties, which are given without their length. */
export function encodeExplained(type: 4 | 5, packetId: number, reasonCode: number, properties: Buffer): Buffer {
  const length = 3 + variableLength(properties.length) + properties.length
  const packet = allocate(type << 4, length)
  const at = writeUint16(packet, packet.length - length, packetId)
  packet[at] = reasonCode
  writeBytes(packet, writeVariable(packet, at + 1, properties.length), properties)
  return packet
}

/** One code for each subscription of the SUBSCRIBE. `properties`: without their length, for MQTT 5 alone. */
export function encodeSuback(version: Version, packetId: number, codes: readonly number[], properties: Buffer = none): Buffer {
  return encodeCodes(packetTypes.suback << 4, version, packetId, codes, properties)
}

/** MQTT 3 has no codes. */
export function encodeUnsuback(version: Version, packetId: number, codes: readonly number[]): Buffer {
  return encodeCodes(packetTypes.unsuback << 4, version, packetId, version === 5 ? codes : [])
}

function encodeCodes(head: number, version: Version, packetId: number, codes: readonly number[], properties: Buffer = none): Buffer {
  const length = 2 + (version === 5 ? variableLength(properties.length) + properties.length : 0) + codes.length
  const packet = allocate(head, length)
  let at = writeUint16(packet, packet.length - length, packetId)
  if (version === 5) at = writeBytes(packet, writeVariable(packet, at, properties.length), properties)
  packet.set(codes, at)
  return packet
}

/** MQTT 5 only. */
export function encodeDisconnect(reasonCode: number, properties: Buffer = none): Buffer {
  if (properties.length === 0)
    return Buffer.from(reasonCode === 0 ? [packetTypes.disconnect << 4, 0] : [packetTypes.disconnect << 4, 1, reasonCode])
  const length = 1 + variableLength(properties.length) + properties.length
  const packet = allocate(packetTypes.disconnect << 4, length)
  const at = packet.length - length
  packet[at] = reasonCode
  writeBytes(packet, writeVariable(packet, at + 1, properties.length), properties)
  return packet
}

export interface OutgoingPublish {
  readonly version: Version
  readonly topic: string
  readonly payload: Buffer
  readonly qos: Qos
  readonly dup?: boolean
  readonly retain: boolean
  /** With QoS 0 of no account. */
  readonly packetId?: number
  /** From here on MQTT 5 only: what a version does not know is left out. As `Publish` has them. */
  readonly properties?: Buffer
  /** Seconds that are left. */
  readonly messageExpiryInterval?: number | undefined
  readonly topicAlias?: number | undefined
  /** The receiver knows the alias: the topic stays away. */
  readonly aliasOnly?: boolean | undefined
  /** 0: none. */
  readonly subscriptionIdentifier?: number | undefined
}

export function encodePublish(publish: OutgoingPublish): Buffer {
  return encode(publish, publish.payload.length)
}

/** The bytes before the payload, which is written behind them as it is. */
export function encodePublishHead(publish: OutgoingPublish): Buffer {
  return encode(publish, 0)
}

/** Bytes of the whole packet: the client's Maximum Packet Size counts all of them [MQTT5 3.1.2.11.4]. */
export function publishSize(publish: OutgoingPublish): number {
  const length = bodyLength(publish, topicLength(publish), propertiesLength(publish))
  return 1 + variableLength(length) + length
}

/** Where the packet identifier of an encoded PUBLISH with QoS 1 or 2 lies, so that it, or a copy, can get another. */
export function packetIdAt(buffer: Buffer, start: number): number {
  let at = start + 1
  while ((buffer[at++] ?? 0) > 0x7f);
  return at + 2 + (((buffer[at] ?? 0) << 8) | (buffer[at + 1] ?? 0))
}

// `room`: how many bytes of the payload come into the buffer, all or none.
function encode(publish: OutgoingPublish, room: number): Buffer {
  const { version, topic, payload, qos, dup, retain, packetId = 0 } = publish
  const topicBytes = topicLength(publish)
  const propertyBytes = propertiesLength(publish)
  const length = bodyLength(publish, topicBytes, propertyBytes)
  const packet = Buffer.allocUnsafe(1 + variableLength(length) + length - payload.length + room)
  packet[0] = (packetTypes.publish << 4) | (dup === true ? 8 : 0) | (qos << 1) | (retain ? 1 : 0)
  let at = writeVariable(packet, 1, length)
  at = writeText(packet, at, topic, topicBytes)
  if (qos > 0) at = writeUint16(packet, at, packetId)
  if (version === 5) at = writeProperties(packet, at, publish, propertyBytes)
  if (room > 0) packet.set(payload, at)
  return packet
}

function bodyLength({ version, qos, payload }: OutgoingPublish, topicBytes: number, propertyBytes: number): number {
  return 2 + topicBytes + (qos > 0 ? 2 : 0) + (version === 5 ? variableLength(propertyBytes) + propertyBytes : 0) + payload.length
}

function topicLength({ version, topic, aliasOnly }: OutgoingPublish): number {
  return aliasOnly === true && version === 5 ? 0 : Buffer.byteLength(topic)
}

function propertiesLength({
  version,
  properties = none,
  messageExpiryInterval,
  topicAlias = 0,
  subscriptionIdentifier = 0
}: OutgoingPublish): number {
  if (version !== 5) return 0
  return (
    properties.length +
    (messageExpiryInterval === undefined ? 0 : 5) +
    (topicAlias > 0 ? 3 : 0) +
    (subscriptionIdentifier > 0 ? 1 + variableLength(subscriptionIdentifier) : 0)
  )
}

// Mosquitto's order: what the publisher sent, then expiry, alias, identifier.
function writeProperties(
  packet: Buffer,
  start: number,
  { properties = none, messageExpiryInterval, topicAlias = 0, subscriptionIdentifier = 0 }: OutgoingPublish,
  length: number
): number {
  let at = writeBytes(packet, writeVariable(packet, start, length), properties)
  if (messageExpiryInterval !== undefined) {
    packet[at++] = 0x02
    at = writeUint32(packet, at, messageExpiryInterval)
  }
  if (topicAlias > 0) {
    packet[at++] = 0x23
    at = writeUint16(packet, at, topicAlias)
  }
  if (subscriptionIdentifier > 0) {
    packet[at++] = 0x0b
    at = writeVariable(packet, at, subscriptionIdentifier)
  }
  return at
}

function allocate(head: number, length: number): Buffer {
  const packet = Buffer.allocUnsafe(1 + variableLength(length) + length)
  packet[0] = head
  writeVariable(packet, 1, length)
  return packet
}

const uint16Property = (id: number, value: number): Buffer => Buffer.of(id, value >> 8, value & 0xff)

function uint32Property(id: number, value: number): Buffer {
  const bytes = Buffer.allocUnsafe(5)
  bytes[0] = id
  writeUint32(bytes, 1, value)
  return bytes
}

function textProperty(id: number, text: string): Buffer {
  const length = Buffer.byteLength(text)
  const bytes = Buffer.allocUnsafe(3 + length)
  bytes[0] = id
  writeText(bytes, 1, text, length)
  return bytes
}
