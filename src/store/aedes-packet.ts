// Our messages and sessions as an Aedes persistence keeps them, and back. What comes out of a persistence is anybody's: read with care,
// as data of Aedes itself may lie there too.

import { randomBytes } from 'node:crypto'
import { readCertificateFacts } from '../auth/identity.js'
import { Message, type MessageSource } from '../message.js'
import { neverExpires, type Qos, type Version } from '../protocol/packets.js'
import { decodeProperties, encodeProperties } from '../protocol/properties.js'
import type { QueueEntry, SessionRecord, StoredWill } from '../storage.js'

type Fields = Readonly<Record<string, unknown>>

/** A packet that was read. */
export interface Packet {
  readonly cmd: unknown
  readonly brokerId: string
  readonly brokerCounter: number
  /** 0: none. */
  readonly messageId: number
  readonly topic: string
  readonly payload: Buffer
  readonly qos: Qos
  readonly retain: boolean
  readonly properties: Fields
  readonly messageExpiry: unknown
  readonly clientId: unknown
  readonly source: unknown
}

type Delivery = Pick<QueueEntry, 'message' | 'qos' | 'retain' | 'subscriptionIdentifier'>

/** Of the broker id of our packets. */
export const runPrefix = 'mosquitero-'
const idRange = 0x1_0000
const none = Buffer.alloc(0)

/** Sorts by time: aedes-persistence-level reads a queue in the order of broker ids. */
export function runId(): string {
  return `${runPrefix}${Date.now().toString(36).padStart(9, '0')}-${randomBytes(8).toString('hex')}`
}

/** The one number of a packet that every persistence keeps as it is has room for the packet identifier. */
export function counterOf(count: number, packetId: number): number {
  return count * idRange + packetId
}

/** A `messageId` that says: PUBREC came. */
export function wasReceived(packetId: number): number {
  return idRange + packetId
}

/** 0: it has none yet. */
export function packetIdOf(packet: Packet): { readonly packetId: number; readonly state: QueueEntry['state'] } {
  const { brokerId, brokerCounter, messageId } = packet
  if (isPubrel(packet)) return { packetId: messageId % idRange, state: 'received' }
  if (!brokerId.startsWith(runPrefix)) return { packetId: messageId % idRange, state: messageId === 0 ? 'queued' : 'sent' }
  if (messageId > idRange && messageId < 2 * idRange) return { packetId: messageId - idRange, state: 'received' }
  return { packetId: brokerCounter % idRange, state: 'queued' }
}

/** What Aedes leaves of a QoS 2 message after PUBREC. */
export function isPubrel({ cmd }: Packet): boolean {
  return cmd === 'pubrel'
}

/** What is left of a message whose removal was cut off. */
export function isRemains(packet: Packet): boolean {
  return packet.topic === '' && !isPubrel(packet)
}

export function entryPacket(
  { message, qos, retain, subscriptionIdentifier }: Delivery,
  place: { brokerId: string; brokerCounter: number }
) {
  const { brokerId, brokerCounter } = place
  const packet = { ...packetOf(message), brokerId, brokerCounter, qos, retain }
  return subscriptionIdentifier === 0 ? packet : { ...packet, properties: { ...packet.properties, subscriptionIdentifier } }
}

export function heldPacket(messageId: number, message: Message) {
  return { ...packetOf(message), messageId }
}

/** Without a message: what removes it. */
export function retainedPacket(topic: string, message: Message | undefined) {
  if (message === undefined) return { cmd: 'publish', topic, payload: none, qos: 0, retain: true }
  return { ...packetOf(message), ...(message.source && { source: message.source }) }
}

function packetOf({ topic, payload, qos, retain, properties, expiresAt, source }: Message) {
  return {
    cmd: 'publish',
    topic,
    payload,
    qos,
    retain,
    dup: false,
    ...(properties.length > 0 && { properties: namedProperties(properties) }),
    ...(expiresAt !== Number.POSITIVE_INFINITY && { messageExpiry: expiresAt }),
    ...(source && { clientId: source.clientId })
  }
}

// By name, as Aedes has them. But the order of user properties must stay [MQTT-3.3.2-18], which an object can't promise, and msgpack
// loses one that is called `__proto__`: then as bytes.
function namedProperties(bytes: Buffer): Fields {
  const properties = decodeProperties(bytes)
  const isSafe = properties.userProperties === undefined || !Object.hasOwn(properties.userProperties, '__proto__')
  return isSafe && encoded(properties).equals(bytes) ? { ...properties } : { bytes }
}

// Nothing, where they are none.
function encoded(properties: Parameters<typeof encodeProperties>[0]): Buffer {
  try {
    return encodeProperties(properties)
  } catch {
    return none
  }
}

export function readPacket(value: unknown): Packet | undefined {
  if (!isFields(value)) return undefined
  const { cmd, messageExpiry, clientId, source } = value
  return {
    cmd,
    brokerId: text(value.brokerId),
    brokerCounter: number(value.brokerCounter),
    messageId: number(value.messageId),
    topic: text(value.topic),
    payload: bytesOf(value.payload),
    qos: qosOf(value.qos),
    retain: value.retain === true,
    properties: isFields(value.properties) ? value.properties : {},
    messageExpiry,
    clientId,
    source
  }
}

/** `source`: for a message that can only be from there. */
export function messageOf(packet: Packet, source: MessageSource | undefined = readSource(packet)): Message {
  const { topic, payload, qos, retain, messageExpiry } = packet
  return new Message({
    topic,
    payload,
    qos,
    retain,
    properties: propertiesOf(packet),
    ...(typeof messageExpiry === 'number' && { expiresAt: messageExpiry }),
    ...(source && { source: sourceFields(source) })
  })
}

export function entryOf(clientId: string, packet: Packet, place: Pick<QueueEntry, 'sequence' | 'packetId' | 'state'>): QueueEntry {
  const { sequence, packetId, state } = place
  const identifiers = [packet.properties.subscriptionIdentifier].flat()
  const [subscriptionIdentifier] = identifiers.filter(one => typeof one === 'number')
  const { qos, retain } = packet
  return {
    clientId,
    sequence,
    message: messageOf(packet),
    qos,
    retain,
    subscriptionIdentifier: subscriptionIdentifier ?? 0,
    packetId,
    state
  }
}

function propertiesOf({ properties }: Packet): Buffer {
  const { bytes, messageExpiryInterval, topicAlias, subscriptionIdentifier, ...named } = properties
  if (bytes !== undefined) return bytesOf(bytes)
  const { correlationData } = named
  return encoded(correlationData === undefined ? named : { ...named, correlationData: bytesOf(correlationData) })
}

/** One line of text: what a persistence keeps of a field that it doesn't know, it keeps of a text. */
export function writeFacts({ clientId, will, ...facts }: SessionRecord): string {
  return JSON.stringify({ ...facts, ...(will && { will: { ...will, message: writeMessage(will.message) } }) })
}

/** Undefined: there are none. */
export function readFacts(clientId: string, facts: unknown): SessionRecord | undefined {
  const value = typeof facts === 'string' ? parse(facts) : undefined
  if (!isFields(value)) return undefined
  const { username, listener, version, expiryInterval, expiresAt, leftAt } = value
  const will = readWill(value.will)
  const certificate = readCertificateFacts(value.certificate)
  return {
    clientId,
    version: version === 3 || version === 5 ? version : 4,
    expiryInterval: typeof expiryInterval === 'number' ? expiryInterval : neverExpires,
    ...(typeof username === 'string' && { username }),
    ...(certificate && { certificate }),
    ...(typeof listener === 'string' && { listener }),
    ...(typeof expiresAt === 'number' && { expiresAt }),
    ...(typeof leftAt === 'number' && { leftAt }),
    ...(will && { will })
  }
}

/** A session that Aedes stored, or that lies where facts are not kept. */
export function withoutFacts(clientId: string): SessionRecord {
  const version: Version = 4
  return { clientId, version, expiryInterval: neverExpires }
}

function readWill(value: unknown): StoredWill | undefined {
  if (!isFields(value)) return undefined
  const message = isFields(value.message) ? value.message : undefined
  if (message === undefined || typeof message.topic !== 'string') return undefined
  const { topic, retain, expiresAt } = message
  const source = sourceOf(message.source)
  return {
    message: new Message({
      topic,
      payload: fromBase64(message.payload),
      qos: qosOf(message.qos),
      retain: retain === true,
      properties: fromBase64(message.properties),
      ...(typeof expiresAt === 'number' && { expiresAt }),
      ...(source && { source })
    }),
    delayInterval: number(value.delayInterval),
    ...(typeof value.dueAt === 'number' && { dueAt: value.dueAt })
  }
}

function writeMessage({ topic, payload, qos, retain, properties, expiresAt, source }: Message): Fields {
  return {
    topic,
    payload: payload.toString('base64'),
    qos,
    retain,
    properties: properties.toString('base64'),
    // JSON makes null of Infinity.
    expiresAt,
    source
  }
}

function readSource({ source, clientId }: Packet): MessageSource | undefined {
  return sourceOf(source) ?? (typeof clientId === 'string' ? { clientId } : undefined)
}

function sourceOf(value: unknown): MessageSource | undefined {
  if (!isFields(value) || typeof value.clientId !== 'string') return undefined
  const { clientId, username, listener } = value
  const certificate = readCertificateFacts(value.certificate)
  return sourceFields({
    clientId,
    ...(typeof username === 'string' && { username }),
    ...(typeof listener === 'string' && { listener }),
    ...(certificate && { certificate })
  })
}

function sourceFields({ clientId, username, listener, certificate }: MessageSource): MessageSource {
  return {
    clientId,
    ...(username !== undefined && { username }),
    ...(listener !== undefined && { listener }),
    ...(certificate !== undefined && { certificate })
  }
}

export function isFields(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null
}

export function qosOf(value: unknown): Qos {
  return value === 1 || value === 2 ? value : 0
}

function text(value: unknown): string {
  return typeof value === 'string' ? value : ''
}

function number(value: unknown): number {
  const found = Number(value ?? 0)
  return Number.isFinite(found) ? found : 0
}

function fromBase64(value: unknown): Buffer {
  return Buffer.from(text(value), 'base64')
}

/** Buffers come back as such, as plain byte arrays, or wrapped (BSON's Binary). */
function bytesOf(value: unknown): Buffer {
  if (Buffer.isBuffer(value)) return value
  if (typeof value === 'string') return Buffer.from(value)
  if (value instanceof Uint8Array) return Buffer.from(value.buffer, value.byteOffset, value.byteLength)
  return isFields(value) && value.buffer instanceof Uint8Array ? bytesOf(value.buffer) : none
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
