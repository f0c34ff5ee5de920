// What lies in the disk store, as bytes. Keys sort the way they are read; a value begins with a checksum over its key and itself, so that
// whatever a disk or a hand did to it is seen, and nothing that was read wrong is believed.
//
// | key | value |
// |---|---|
// | `m` NAME | what this store is, and what was done with it |
// | `s` SESSION | a session: SESSION is a number that is never given again |
// | `l` SESSION | the last sequence and packet identifier of its queue, once the entry that had them is gone |
// | `f` SESSION FILTER | a subscription |
// | `q` SESSION SEQUENCE 0 | an entry of its queue, with its message or the number of a body; or a run of entries, the last of which this is (disk-run) |
// | `q` SESSION SEQUENCE 1 | how far its delivery has come; of a run how far that of each has |
// | `h` SESSION PACKET-ID | a QoS 2 message that waits for PUBREL |
// | `b` BODY | a message of several entries, or a large one |
// | `r` TOPIC | a retained message |
//
// Numbers are big endian, of 48 bits where nothing smaller is sure to do. A session that ended is its `s` gone: what is left of its number is
// nobody's, and is removed in time.

import { crc32 } from 'node:zlib'
import { readCertificateFacts } from '../auth/identity.js'
import { Message, type MessageSource } from '../message.js'
import type { Qos } from '../protocol/packets.js'
import { copyBytes, writeUint16, writeUint32 } from '../protocol/writer.js'
import type { QueueEntry, SessionRecord, StoredWill, Subscription } from '../storage.js'
import { joinSharedFilter, splitSharedFilter } from './shared-filter.js'

export const recordKinds = {
  meta: 0x6d,
  session: 0x73,
  last: 0x6c,
  filter: 0x66,
  queue: 0x71,
  held: 0x68,
  body: 0x62,
  retained: 0x72
} as const

export type RecordKind = (typeof recordKinds)[keyof typeof recordKinds]

/** Of the checksum, before the value proper. */
export const sealLength = 4
const numberLength = 6
const entryPart = 0
const statePart = 1

// Keys

export const metaKey = (name: string): Buffer => namedKey(recordKinds.meta, name)
export const sessionKey = (session: number): Buffer => numberedKey(recordKinds.session, session, 0)
export const lastKey = (session: number): Buffer => numberedKey(recordKinds.last, session, 0)
export const bodyKey = (body: number): Buffer => numberedKey(recordKinds.body, body, 0)
export const retainedKey = (topic: string): Buffer => namedKey(recordKinds.retained, topic)
export const entryKey = (session: number, sequence: number): Buffer => queueKey(session, sequence, entryPart)
export const stateKey = (session: number, sequence: number): Buffer => queueKey(session, sequence, statePart)

export function filterKey(session: number, filter: string, group: string | undefined): Buffer {
  const text = joinSharedFilter(filter, group)
  const key = numberedKey(recordKinds.filter, session, Buffer.byteLength(text))
  key.write(text, 1 + numberLength)
  return key
}

export function heldKey(session: number, packetId: number): Buffer {
  const key = numberedKey(recordKinds.held, session, 2)
  key.writeUInt16BE(packetId, 1 + numberLength)
  return key
}

/** All keys of a kind; `to` is none of them. */
export const rangeOf = (kind: RecordKind): { readonly from: Buffer; readonly to: Buffer } => ({
  from: Buffer.of(kind),
  to: Buffer.of(kind + 1)
})

/** All keys of a kind and session: from here up to, and without, the one of the next number. */
export const sessionStart = (kind: RecordKind, session: number): Buffer => numberedKey(kind, session, 0)

/** The number of a key's session or body. */
export function numberOf(key: Buffer): number {
  return key.length < 1 + numberLength ? -1 : key.readUIntBE(1, numberLength)
}

export const nameOf = (key: Buffer): string => key.toString('utf8', 1)

export function filterOf(key: Buffer): { readonly filter: string; readonly group?: string } {
  return splitSharedFilter(key.toString('utf8', 1 + numberLength))
}

export const packetIdOf = (key: Buffer): number => (key.length === 3 + numberLength ? key.readUInt16BE(1 + numberLength) : 0)

export const sequenceOf = (key: Buffer): number =>
  key.length === 2 + 2 * numberLength ? key.readUIntBE(1 + numberLength, numberLength) : -1

/** Is it the key of an entry, and not of how far it has come? */
export const isEntryKey = (key: Buffer): boolean => key[1 + 2 * numberLength] === entryPart

function numberedKey(kind: RecordKind, number: number, more: number): Buffer {
  const key = Buffer.allocUnsafe(1 + numberLength + more)
  key[0] = kind
  key.writeUIntBE(number, 1, numberLength)
  return key
}

function namedKey(kind: RecordKind, name: string): Buffer {
  const key = Buffer.allocUnsafe(1 + Buffer.byteLength(name))
  key[0] = kind
  key.write(name, 1)
  return key
}

function queueKey(session: number, sequence: number, part: number): Buffer {
  const key = numberedKey(recordKinds.queue, session, numberLength + 1)
  key.writeUIntBE(sequence, 1 + numberLength, numberLength)
  key[1 + 2 * numberLength] = part
  return key
}

// Values

/** What stands behind the checksum; undefined: it is not what was written under this key. */
export function unseal(key: Buffer, value: Buffer): Buffer | undefined {
  if (value.length < sealLength) return undefined
  const content = value.subarray(sealLength)
  return value.readUInt32BE(0) === crc32(content, crc32(key)) ? content : undefined
}

/** Puts the checksum before it, where there is room for it. */
export function seal(key: Buffer, value: Buffer): Buffer {
  value.writeUInt32BE(crc32(value.subarray(sealLength), crc32(key)), 0)
  return value
}

export function encodeJson(key: Buffer, content: object): Buffer {
  const text = JSON.stringify(content)
  const value = Buffer.allocUnsafe(sealLength + Buffer.byteLength(text))
  value.write(text, sealLength)
  return seal(key, value)
}

/** The fields of an object; undefined: it is none. */
export function decodeJson(content: Buffer): Readonly<Record<string, unknown>> | undefined {
  try {
    const value: unknown = JSON.parse(content.toString('utf8'))
    return typeof value === 'object' && value !== null && !Array.isArray(value) ? Object.fromEntries(Object.entries(value)) : undefined
  } catch {
    return undefined
  }
}

export function encodeSession(key: Buffer, { will, ...record }: SessionRecord): Buffer {
  return encodeJson(key, { ...record, ...(will && { will: willFields(will) }) })
}

export function decodeSession(content: Buffer): SessionRecord | undefined {
  const fields = decodeJson(content)
  if (fields === undefined) return undefined
  const { clientId, username, version, listener, expiryInterval, expiresAt, leftAt } = fields
  const certificate = readCertificateFacts(fields.certificate)
  if (typeof clientId !== 'string' || typeof expiryInterval !== 'number') return undefined
  if (version !== 3 && version !== 4 && version !== 5) return undefined
  const will = readWill(fields.will)
  return {
    clientId,
    version,
    expiryInterval,
    ...(typeof username === 'string' && { username }),
    ...(certificate && { certificate }),
    ...(typeof listener === 'string' && { listener }),
    ...(typeof expiresAt === 'number' && { expiresAt }),
    ...(typeof leftAt === 'number' && { leftAt }),
    ...(will && { will })
  }
}

function willFields({ message, delayInterval, messageExpiryInterval, dueAt }: StoredWill): object {
  const bytes = Buffer.allocUnsafe(messageLength(message))
  writeMessage(bytes, 0, message)
  return { message: bytes.toString('base64'), delayInterval, messageExpiryInterval, dueAt }
}

function readWill(value: unknown): StoredWill | undefined {
  if (typeof value !== 'object' || value === null) return undefined
  const { message: text, delayInterval, messageExpiryInterval, dueAt }: Record<string, unknown> = { ...value }
  const message = typeof text === 'string' ? decodeMessage(Buffer.from(text, 'base64')) : undefined
  if (message === undefined || typeof delayInterval !== 'number') return undefined
  return {
    message,
    delayInterval,
    ...(typeof messageExpiryInterval === 'number' && { messageExpiryInterval }),
    ...(typeof dueAt === 'number' && { dueAt })
  }
}

export interface Last {
  readonly sequence: number
  readonly packetId: number
}

export function encodeLast(key: Buffer, { sequence, packetId }: Last): Buffer {
  const value = Buffer.allocUnsafe(sealLength + numberLength + 2)
  value.writeUIntBE(sequence, sealLength, numberLength)
  value.writeUInt16BE(packetId, sealLength + numberLength)
  return seal(key, value)
}

export function decodeLast(content: Buffer): Last | undefined {
  if (content.length !== numberLength + 2) return undefined
  return { sequence: content.readUIntBE(0, numberLength), packetId: content.readUInt16BE(numberLength) }
}

const noLocalBit = 4
const retainAsPublishedBit = 8
const retainHandlingShift = 4

export function encodeSubscription(key: Buffer, one: Subscription): Buffer {
  const value = Buffer.allocUnsafe(sealLength + 5)
  const flags = one.qos | (one.noLocal ? noLocalBit : 0) | (one.retainAsPublished ? retainAsPublishedBit : 0)
  value[sealLength] = flags | (one.retainHandling << retainHandlingShift)
  value.writeUInt32BE(one.identifier, sealLength + 1)
  return seal(key, value)
}

export function decodeSubscription(key: Buffer, content: Buffer): Subscription | undefined {
  const flags = content[0]
  if (content.length !== 5 || flags === undefined) return undefined
  const qos = qosOf(flags)
  const retainHandling = qosOf(flags >> retainHandlingShift)
  if (qos === undefined || retainHandling === undefined) return undefined
  const { filter, group } = filterOf(key)
  const noLocal = (flags & noLocalBit) > 0
  const retainAsPublished = (flags & retainAsPublishedBit) > 0
  const identifier = content.readUInt32BE(1)
  // Read by the million, so not put together of parts; and of one shape, so that they need less memory.
  return group === undefined
    ? { filter, qos, noLocal, retainAsPublished, retainHandling, identifier }
    : { filter, group, qos, noLocal, retainAsPublished, retainHandling, identifier }
}

/** An entry without what its key says; `body`: where its message lies, when not here. */
export interface EntryRecord extends Pick<QueueEntry, 'qos' | 'retain' | 'subscriptionIdentifier' | 'packetId'> {
  /** Of its message. */
  readonly payloadLength: number
  readonly content: Message | number
}

const retainBit = 4
const apartBit = 8
const entryHead = 11

export function encodeEntry(key: Buffer, entry: QueueEntry, body: number | undefined): Buffer {
  const value = Buffer.allocUnsafe(sealLength + entryLength(entry, body))
  writeEntry(value, sealLength, entry, body)
  return seal(key, value)
}

/** Bytes of an entry; `body`: where its message lies, when not in it. */
export function entryLength({ message }: QueueEntry, body: number | undefined): number {
  return entryHead + (body === undefined ? messageLength(message) : numberLength)
}

export function writeEntry(into: Buffer, at: number, entry: QueueEntry, body: number | undefined): void {
  const { message, qos, retain, packetId, subscriptionIdentifier } = entry
  into[at] = qos | (retain ? retainBit : 0) | (body === undefined ? 0 : apartBit)
  writeUint16(into, at + 1, packetId)
  writeUint32(into, at + 3, subscriptionIdentifier)
  writeUint32(into, at + 7, message.payloadLength)
  if (body === undefined) writeMessage(into, at + entryHead, message)
  else into.writeUIntBE(body, at + entryHead, numberLength)
}

export function decodeEntry(content: Buffer): EntryRecord | undefined {
  const flags = content[0]
  if (content.length < entryHead + numberLength || flags === undefined) return undefined
  const qos = qosOf(flags)
  const where = (flags & apartBit) > 0 ? content.readUIntBE(entryHead, numberLength) : decodeMessage(content.subarray(entryHead))
  if (qos === undefined || where === undefined) return undefined
  return {
    qos,
    retain: (flags & retainBit) > 0,
    packetId: content.readUInt16BE(1),
    subscriptionIdentifier: content.readUInt32BE(3),
    payloadLength: content.readUInt32BE(7),
    content: where
  }
}

/** How far a delivery has come, by the number that stands for it. */
export const states = ['queued', 'sent', 'received'] as const

export interface StateRecord {
  readonly state: QueueEntry['state']
  /** 0: the one that its entry says. */
  readonly packetId: number
}

export function encodeState(key: Buffer, state: QueueEntry['state'], packetId: number): Buffer {
  const value = Buffer.allocUnsafe(sealLength + 3)
  value[sealLength] = states.indexOf(state)
  value.writeUInt16BE(packetId, sealLength + 1)
  return seal(key, value)
}

export function decodeState(content: Buffer): StateRecord | undefined {
  const state = states[content[0] ?? -1]
  return content.length === 3 && state !== undefined ? { state, packetId: content.readUInt16BE(1) } : undefined
}

export function encodeMessage(key: Buffer, message: Message): Buffer {
  const value = Buffer.allocUnsafe(sealLength + messageLength(message))
  writeMessage(value, sealLength, message)
  return seal(key, value)
}

// A message: flags, topic, what the flags name, and the payload up to the end. Lengths are of 32 bits.
const propertiesBit = 8
const expiryBit = 16
const sourceBit = 32
const usernameBit = 64
const listenerBit = 128

function messageLength({ topic, payloadLength, properties, expiresAt, source }: Message): number {
  return (
    5 +
    topicBytes(topic).length +
    (properties.length > 0 ? 4 + properties.length : 0) +
    (expiresAt === Number.POSITIVE_INFINITY ? 0 : 8) +
    (source === undefined ? 0 : sourceRecord(source).bytes.length) +
    payloadLength
  )
}

function writeMessage(into: Buffer, start: number, message: Message): void {
  const { topic, qos, retain, properties, expiresAt, source } = message
  const expires = expiresAt !== Number.POSITIVE_INFINITY
  into[start] =
    qos |
    (retain ? retainBit : 0) |
    (properties.length > 0 ? propertiesBit : 0) |
    (expires ? expiryBit : 0) |
    (source === undefined ? 0 : sourceRecord(source).flags)
  let at = writeField(into, start + 1, topicBytes(topic))
  if (properties.length > 0) at = writeField(into, at, properties)
  if (expires) at = into.writeDoubleBE(expiresAt, at)
  if (source !== undefined) {
    const { bytes } = sourceRecord(source)
    copyBytes(bytes, 0, bytes.length, into, at)
    at += bytes.length
  }
  copyBytes(message.buffer, message.payloadAt, message.end, into, at)
}

let lastTopic = ''
let lastTopicBytes: Buffer = Buffer.alloc(0)

// Messages to one topic come several at a time, and are asked for it twice each.
function topicBytes(topic: string): Buffer {
  if (topic === lastTopic) return lastTopicBytes
  lastTopic = topic
  lastTopicBytes = Buffer.from(topic)
  return lastTopicBytes
}

interface SourceRecord {
  readonly flags: number
  readonly bytes: Buffer
}

const sourceRecords = new WeakMap<MessageSource, SourceRecord>()
let lastSource: MessageSource | undefined
let lastRecord: SourceRecord = { flags: 0, bytes: Buffer.alloc(0) }

// Made once for a publisher and not for each of its messages, which come several at a time.
function sourceRecord(source: MessageSource): SourceRecord {
  if (source === lastSource) return lastRecord
  const record = sourceRecords.get(source) ?? encodeSource(source)
  sourceRecords.set(source, record)
  lastSource = source
  lastRecord = record
  return record
}

function encodeSource(source: MessageSource): SourceRecord {
  const { clientId, username } = source
  const door = doorOf(source)
  const texts = [clientId, username, door].filter(text => text !== undefined)
  const bytes = Buffer.alloc(texts.reduce((sum, text) => sum + 4 + Buffer.byteLength(text), 0))
  let at = 0
  for (const text of texts) at = writeField(bytes, at, Buffer.from(text))
  return { flags: sourceBit | (username === undefined ? 0 : usernameBit) | (door === undefined ? 0 : listenerBit), bytes }
}

// Its flags are used up: what the ACL asked of a certificate stands behind the listener and a NUL, which no listener holds.
function doorOf({ listener, certificate }: MessageSource): string | undefined {
  return certificate === undefined ? listener : `${listener ?? ''}\0${JSON.stringify(certificate)}`
}

function readDoor(text: string): Pick<MessageSource, 'listener' | 'certificate'> {
  const nul = text.indexOf('\0')
  if (nul === -1) return { listener: text }
  const certificate = readCertificateFacts(decodeJson(Buffer.from(text.slice(nul + 1))))
  return { ...(nul > 0 && { listener: text.slice(0, nul) }), ...(certificate && { certificate }) }
}

function writeField(into: Buffer, start: number, bytes: Buffer): number {
  const at = writeUint32(into, start, bytes.length)
  copyBytes(bytes, 0, bytes.length, into, at)
  return at + bytes.length
}

/** Undefined: it is none. The payload is a part of `content`. */
export function decodeMessage(content: Buffer): Message | undefined {
  const flags = content[0]
  if (flags === undefined) return undefined
  const qos = qosOf(flags)
  const reader = new Fields(content, 1)
  const topic = reader.text()
  const properties = (flags & propertiesBit) > 0 ? reader.bytes() : undefined
  const expiresAt = (flags & expiryBit) > 0 ? reader.double() : undefined
  const clientId = (flags & sourceBit) > 0 ? reader.text() : undefined
  const username = (flags & usernameBit) > 0 ? reader.text() : undefined
  const door = (flags & listenerBit) > 0 ? reader.text() : undefined
  if (reader.isCutOff || qos === undefined) return undefined
  const source =
    clientId === undefined
      ? undefined
      : { clientId, ...(username !== undefined && { username }), ...(door !== undefined && readDoor(door)) }
  return new Message({
    topic,
    payload: reader.rest(),
    qos,
    retain: (flags & retainBit) > 0,
    ...(properties && { properties }),
    ...(expiresAt !== undefined && { expiresAt }),
    ...(source && { source })
  })
}

/** Reads on until something is missing; from then on everything is empty. */
class Fields {
  readonly #content: Buffer
  #at: number
  isCutOff = false

  constructor(content: Buffer, at: number) {
    this.#content = content
    this.#at = at
  }

  bytes(): Buffer {
    const length = this.#has(4) ? this.#content.readUInt32BE(this.#at) : 0
    this.#at += 4
    return this.#has(length) ? this.#take(length) : Buffer.alloc(0)
  }

  text(): string {
    return this.bytes().toString('utf8')
  }

  double(): number {
    return this.#has(8) ? this.#take(8).readDoubleBE(0) : 0
  }

  rest(): Buffer {
    return this.#content.subarray(this.#at)
  }

  #take(length: number): Buffer {
    this.#at += length
    return this.#content.subarray(this.#at - length, this.#at)
  }

  #has(length: number): boolean {
    if (this.#at + length > this.#content.length) this.isCutOff = true
    return !this.isCutOff
  }
}

function qosOf(bits: number): Qos | undefined {
  const value = bits & 3
  return value === 3 ? undefined : value === 2 ? 2 : value === 1 ? 1 : 0
}
