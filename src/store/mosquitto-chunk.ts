// One chunk of Mosquitto's persistence database, read as its versions 2 to 6 have it and written as version 6, which 1.6 to 2.1 and later
// read. Versions 5 and 6 are C structures as they lie in memory, with texts behind them; numbers of 64 bits are in the byte order of the
// machine, here always little endian, the others big endian:
//
// | chunk         | fields (bytes)                                                                                                   |
// |---------------|------------------------------------------------------------------------------------------------------------------|
// | config        | last message id 8, clean shutdown 1, size of an id 1, padding                                                    |
// | message       | id 8, expiry time 8, payload length 4, source packet id 2, source client id length 2, source username length 2,  |
// |               | topic length 2, source port 2, QoS 1, retain 1; source client id, source username, topic, payload, properties    |
// | clientMessage | message id 8, packet id 2, client id length 2, QoS 1, state 1, retain and DUP 1, direction 1; client id,         |
// |               | properties                                                                                                       |
// | retained      | message id 8                                                                                                     |
// | subscription  | identifier 4, client id length 2, filter length 2, QoS 1, options 1, padding; client id, filter                  |
// | client        | expiry time 8, expiry interval 4, last packet id 2, client id length 2, (6: port 2, username length 2,) padding; |
// |               | client id, username                                                                                              |
//
// Versions 2 to 4 (before 1.6) are written field by field, texts behind their length. There are no chunks for wills: Mosquitto loses those.

import { isUtf8 } from 'node:buffer'
import { neverExpires } from '../protocol/packets.js'
import { decodeProperties, places, readProperties, Values } from '../protocol/properties.js'
import { Reader } from '../protocol/reader.js'
import { variableLength, writeVariable } from '../protocol/writer.js'

/** What a file begins with; behind it a checksum that nobody makes, and the version. */
export const magic = Buffer.from('\x00\xb5\x00mosquitto db', 'latin1')
export const headLength = magic.length + 8
export const newestVersion = 6
export const oldestVersion = 2

export const chunkTypes = { config: 1, message: 2, clientMessage: 3, retained: 4, subscription: 5, client: 6 } as const

/** Times are seconds since 1970, 0: none. A port of 0: not known. */
export type Chunk =
  | { readonly kind: 'config'; readonly lastMessageId: bigint }
  | MessageChunk
  | ClientMessageChunk
  | { readonly kind: 'retained'; readonly messageId: bigint }
  | SubscriptionChunk
  | ClientChunk

export interface MessageChunk {
  readonly kind: 'message'
  readonly id: bigint
  readonly expiryTime: number
  /** Of the PUBLISH that brought it: how an incoming QoS 2 message is found when it comes again. */
  readonly sourcePacketId: number
  readonly sourceClientId: string
  readonly sourceUsername: string
  readonly sourcePort: number
  readonly topic: string
  readonly qos: number
  readonly retain: boolean
  /** A slice, like the properties. */
  readonly payload: Buffer
  /** Those that go on to receivers, without their length. */
  readonly properties: Buffer
}

export interface ClientMessageChunk {
  readonly kind: 'clientMessage'
  readonly clientId: string
  readonly messageId: bigint
  readonly packetId: number
  readonly qos: number
  /** One of `states`. */
  readonly state: number
  readonly retain: boolean
  readonly dup: boolean
  readonly isIncoming: boolean
  readonly subscriptionIdentifier: number
}

export interface SubscriptionChunk {
  readonly kind: 'subscription'
  readonly clientId: string
  readonly filter: string
  readonly qos: number
  /** Those of SUBSCRIBE [MQTT5 3.8.3.1], without the QoS. 2.0 writes no retain handling. */
  readonly options: number
  readonly identifier: number
}

export interface ClientChunk {
  readonly kind: 'client'
  readonly clientId: string
  readonly username: string
  readonly port: number
  readonly expiryInterval: number
  readonly expiryTime: number
  readonly lastPacketId: number
}

/** Mosquitto's `mosquitto_msg_state`, where it matters. */
export const states = {
  waitForPuback: 3,
  waitForPubrec: 5,
  resendPubrel: 6,
  waitForPubrel: 7,
  waitForPubcomp: 9,
  queued: 11
} as const

/** In the byte of a subscription. */
export const optionBits = { noLocal: 0x04, retainAsPublished: 0x08, retainHandlingShift: 4 } as const

const none = Buffer.alloc(0)
const incoming = 0
const outgoing = 1
const subscriptionIdentifierId = 0x0b

// --- reading ---

export interface ChunkHead {
  readonly type: number
  readonly length: number
  /** Of the head itself. */
  readonly size: number
}

/** Undefined: there are not enough bytes for one. */
export function readChunkHead(bytes: Buffer, at: number, version: number): ChunkHead | undefined {
  const size = version < 5 ? 6 : 8
  if (bytes.length - at < size) return undefined
  const type = version < 5 ? bytes.readUInt16BE(at) : bytes.readUInt32BE(at)
  return { type, length: bytes.readUInt32BE(at + size - 4), size }
}

/** Undefined: not one that is known, or what it says can't be. */
export function readChunk(type: number, body: Buffer, version: number): Chunk | undefined {
  const fields = new Fields(body)
  const chunk = version < 5 ? readOld(type, fields, version) : readNew(type, fields, version)
  return fields.isWrong ? undefined : chunk
}

function readNew(type: number, fields: Fields, version: number): Chunk | undefined {
  switch (type) {
    case chunkTypes.config:
      return { kind: 'config', lastMessageId: fields.id() }
    case chunkTypes.message:
      return readMessage(fields)
    case chunkTypes.clientMessage:
      return readClientMessage(fields)
    case chunkTypes.retained:
      return { kind: 'retained', messageId: fields.id() }
    case chunkTypes.subscription:
      return readSubscription(fields)
    case chunkTypes.client:
      return readClient(fields, version)
  }
  return undefined
}

function readMessage(fields: Fields): MessageChunk {
  const id = fields.id()
  const expiryTime = fields.time()
  const payloadLength = fields.uint32()
  const sourcePacketId = fields.uint16()
  const sourceClientIdLength = fields.uint16()
  const sourceUsernameLength = fields.uint16()
  const topicLength = fields.uint16()
  const sourcePort = fields.uint16()
  const qos = fields.byte(2)
  const retain = fields.flag()
  return {
    kind: 'message',
    id,
    expiryTime,
    sourcePacketId,
    sourcePort,
    qos,
    retain,
    sourceClientId: fields.text(sourceClientIdLength),
    sourceUsername: fields.text(sourceUsernameLength),
    topic: fields.text(topicLength),
    payload: fields.bytes(payloadLength),
    properties: fields.properties()
  }
}

function readClientMessage(fields: Fields): ClientMessageChunk {
  const messageId = fields.id()
  const packetId = fields.uint16()
  const clientIdLength = fields.uint16()
  const qos = fields.byte(2)
  const state = fields.byte(states.queued)
  const retainAndDup = fields.byte(0xff)
  return {
    kind: 'clientMessage',
    messageId,
    packetId,
    qos,
    state,
    retain: retainAndDup >> 4 !== 0,
    dup: (retainAndDup & 0x0f) !== 0,
    isIncoming: fields.byte(outgoing) === incoming,
    clientId: fields.text(clientIdLength),
    subscriptionIdentifier: fields.subscriptionIdentifier()
  }
}

function readSubscription(fields: Fields): SubscriptionChunk {
  const identifier = fields.uint32()
  const clientIdLength = fields.uint16()
  const filterLength = fields.uint16()
  const qos = fields.byte(2)
  const options = fields.byte(0xff)
  fields.padUntil(clientIdLength + filterLength)
  return { kind: 'subscription', identifier, qos, options, clientId: fields.text(clientIdLength), filter: fields.text(filterLength) }
}

function readClient(fields: Fields, version: number): ClientChunk {
  const expiryTime = fields.time()
  const expiryInterval = fields.uint32()
  const lastPacketId = fields.uint16()
  const clientIdLength = fields.uint16()
  const port = version < 6 ? 0 : fields.uint16()
  const usernameLength = version < 6 ? 0 : fields.uint16()
  // Four bytes, but on 32-bit x86.
  fields.padUntil(clientIdLength + usernameLength)
  return {
    kind: 'client',
    expiryTime,
    expiryInterval,
    lastPacketId,
    port,
    clientId: fields.text(clientIdLength),
    username: fields.username(usernameLength)
  }
}

function readOld(type: number, fields: Fields, version: number): Chunk | undefined {
  switch (type) {
    case chunkTypes.config:
      fields.bytes(2)
      return { kind: 'config', lastMessageId: fields.id() }
    case chunkTypes.message:
      return readOldMessage(fields, version)
    case chunkTypes.clientMessage:
      return readOldClientMessage(fields)
    case chunkTypes.retained:
      return { kind: 'retained', messageId: fields.id() }
    case chunkTypes.subscription: {
      const clientId = fields.text(fields.uint16())
      const filter = fields.text(fields.uint16())
      return { kind: 'subscription', clientId, filter, qos: fields.byte(2), options: 0, identifier: 0 }
    }
    case chunkTypes.client: {
      const clientId = fields.text(fields.uint16())
      // Behind it, from version 3 on: when it disconnected, in the machine's own size. Mosquitto makes nothing of it any more.
      return { kind: 'client', clientId, username: '', port: 0, expiryInterval: neverExpires, expiryTime: 0, lastPacketId: fields.uint16() }
    }
  }
  return undefined
}

function readOldMessage(fields: Fields, version: number): MessageChunk {
  const id = fields.id()
  const sourceClientId = fields.text(fields.uint16())
  const sourceUsername = version < 4 ? '' : fields.text(fields.uint16())
  const sourcePort = version < 4 ? 0 : fields.uint16()
  const sourcePacketId = fields.uint16()
  // Another packet identifier, of no use.
  fields.uint16()
  const topic = fields.text(fields.uint16())
  const qos = fields.byte(2)
  const retain = fields.flag()
  const payload = fields.bytes(fields.uint32())
  return {
    kind: 'message',
    id,
    expiryTime: 0,
    sourcePacketId,
    sourceClientId,
    sourceUsername,
    sourcePort,
    topic,
    qos,
    retain,
    payload,
    properties: none
  }
}

function readOldClientMessage(fields: Fields): ClientMessageChunk {
  const clientId = fields.text(fields.uint16())
  const messageId = fields.id()
  const packetId = fields.uint16()
  const qos = fields.byte(2)
  const retain = fields.flag()
  const isIncoming = fields.byte(outgoing) === incoming
  const state = fields.byte(states.queued)
  return {
    kind: 'clientMessage',
    clientId,
    messageId,
    packetId,
    qos,
    retain,
    isIncoming,
    state,
    dup: fields.flag(),
    subscriptionIdentifier: 0
  }
}

/** Reads the fields of one chunk; what is not there or can't be sets `isWrong`, and is empty. */
class Fields {
  isWrong = false
  readonly #body: Buffer
  #at = 0

  constructor(body: Buffer) {
    this.#body = body
  }

  get #left(): number {
    return this.#body.length - this.#at
  }

  byte(highest: number): number {
    const at = this.#take(1)
    const value = at === undefined ? 0 : this.#body.readUInt8(at)
    if (value > highest) this.isWrong = true
    return value
  }

  /** C takes every value but 0 for true. */
  flag(): boolean {
    return this.byte(0xff) !== 0
  }

  uint16(): number {
    const at = this.#take(2)
    return at === undefined ? 0 : this.#body.readUInt16BE(at)
  }

  uint32(): number {
    const at = this.#take(4)
    return at === undefined ? 0 : this.#body.readUInt32BE(at)
  }

  id(): bigint {
    const at = this.#take(8)
    return at === undefined ? 0n : this.#body.readBigUInt64LE(at)
  }

  /** What makes no date is no time: nothing is worth keeping for so long. */
  time(): number {
    const at = this.#take(8)
    const value = at === undefined ? 0n : this.#body.readBigInt64LE(at)
    if (value >= 0n && value <= latestTime) return Number(value)
    this.isWrong = true
    return 0
  }

  bytes(length: number): Buffer {
    const at = this.#take(length)
    return at === undefined ? none : this.#body.subarray(at, at + length)
  }

  text(length: number): string {
    const bytes = this.bytes(length)
    if (!isUtf8(bytes) || bytes.includes(0)) this.isWrong = true
    return this.isWrong ? '' : bytes.toString('utf8')
  }

  /**
   * For a client that has none 2.0 writes the username of the one before, or, every other time, its length with the bytes swapped and as much
   * of the memory from there on (`persist__client_save` starts from what is left of the last client). The latter shows: a text ends with NUL.
   */
  username(length: number): string {
    const bytes = this.bytes(length)
    if (bytes.includes(0)) return ''
    if (!isUtf8(bytes)) this.isWrong = true
    return this.isWrong ? '' : bytes.toString('utf8')
  }

  /** To where so many bytes are left. */
  padUntil(left: number): void {
    const padding = this.#left - left
    if (padding < 0 || padding >= 8) this.isWrong = true
    else this.#at += padding
  }

  /** What is left, if anything is: properties behind their length. */
  properties(): Buffer {
    if (this.#left === 0 || this.isWrong) return none
    const reader = new Reader(this.#body, this.#at, this.#body.length)
    const values = new Values()
    if (readProperties(reader, places.publish, values) !== undefined || reader.left > 0) this.isWrong = true
    return values.picked ?? this.#body.subarray(values.start, values.end)
  }

  /** The same, of one receiver. */
  subscriptionIdentifier(): number {
    if (this.#left === 0 || this.isWrong) return 0
    const reader = new Reader(this.#body, this.#at, this.#body.length)
    if (reader.varint() !== reader.left || reader.wrong !== undefined) this.isWrong = true
    const { subscriptionIdentifier = 0 } = decodeProperties(this.#body.subarray(reader.at))
    return typeof subscriptionIdentifier === 'number' ? subscriptionIdentifier : (subscriptionIdentifier.at(-1) ?? 0)
  }

  #take(length: number): number | undefined {
    if (this.isWrong || length > this.#left) {
      this.isWrong = true
      return undefined
    }
    this.#at += length
    return this.#at - length
  }
}

/** The end of JavaScript's calendar. */
const latestTime = 8_640_000_000_000n

// --- writing ---

/** Head and body; the payload of a message is a part of its own, and not copied. */
export function encodeChunk(chunk: Chunk): readonly Buffer[] {
  const parts = encodeBody(chunk)
  const head = Buffer.alloc(8)
  head.writeUInt32BE(chunkTypes[chunk.kind], 0)
  head.writeUInt32BE(
    parts.reduce((length, part) => length + part.length, 0),
    4
  )
  return [head, ...parts]
}

function encodeBody(chunk: Chunk): readonly Buffer[] {
  switch (chunk.kind) {
    case 'config': {
      const fixed = Buffer.alloc(16)
      fixed.writeBigUInt64LE(chunk.lastMessageId, 0)
      fixed[8] = 1
      fixed[9] = 8
      return [fixed]
    }
    case 'message':
      return encodeMessage(chunk)
    case 'clientMessage':
      return encodeClientMessage(chunk)
    case 'retained': {
      const fixed = Buffer.alloc(8)
      fixed.writeBigUInt64LE(chunk.messageId, 0)
      return [fixed]
    }
    case 'subscription': {
      const [clientId, filter] = [Buffer.from(chunk.clientId), Buffer.from(chunk.filter)]
      const fixed = Buffer.alloc(12)
      fixed.writeUInt32BE(chunk.identifier, 0)
      fixed.writeUInt16BE(clientId.length, 4)
      fixed.writeUInt16BE(filter.length, 6)
      fixed[8] = chunk.qos
      fixed[9] = chunk.options
      return [fixed, clientId, filter]
    }
    case 'client': {
      const [clientId, username] = [Buffer.from(chunk.clientId), Buffer.from(chunk.username)]
      const fixed = Buffer.alloc(24)
      fixed.writeBigInt64LE(BigInt(chunk.expiryTime), 0)
      fixed.writeUInt32BE(chunk.expiryInterval, 8)
      fixed.writeUInt16BE(chunk.lastPacketId, 12)
      fixed.writeUInt16BE(clientId.length, 14)
      fixed.writeUInt16BE(chunk.port, 16)
      fixed.writeUInt16BE(username.length, 18)
      return [fixed, clientId, username]
    }
  }
}

function encodeMessage(chunk: MessageChunk): readonly Buffer[] {
  const texts = [chunk.sourceClientId, chunk.sourceUsername, chunk.topic].map(text => Buffer.from(text))
  const fixed = Buffer.alloc(32)
  fixed.writeBigUInt64LE(chunk.id, 0)
  fixed.writeBigInt64LE(BigInt(chunk.expiryTime), 8)
  fixed.writeUInt32BE(chunk.payload.length, 16)
  fixed.writeUInt16BE(chunk.sourcePacketId, 20)
  for (const [i, text] of texts.entries()) fixed.writeUInt16BE(text.length, 22 + 2 * i)
  fixed.writeUInt16BE(chunk.sourcePort, 28)
  fixed[30] = chunk.qos
  fixed[31] = Number(chunk.retain)
  return [fixed, ...texts, chunk.payload, encodeProperties(chunk.properties)]
}

function encodeClientMessage(chunk: ClientMessageChunk): readonly Buffer[] {
  const clientId = Buffer.from(chunk.clientId)
  const fixed = Buffer.alloc(16)
  fixed.writeBigUInt64LE(chunk.messageId, 0)
  fixed.writeUInt16BE(chunk.packetId, 8)
  fixed.writeUInt16BE(clientId.length, 10)
  fixed[12] = chunk.qos
  fixed[13] = chunk.state
  fixed[14] = (Number(chunk.retain) << 4) | Number(chunk.dup)
  fixed[15] = chunk.isIncoming ? incoming : outgoing
  const { subscriptionIdentifier } = chunk
  const identifier =
    subscriptionIdentifier === 0 ? none : Buffer.concat([Buffer.of(subscriptionIdentifierId), variable(subscriptionIdentifier)])
  return [fixed, clientId, encodeProperties(identifier)]
}

/** Behind their length; nothing at all when there are none. */
function encodeProperties(properties: Buffer): Buffer {
  return properties.length === 0 ? none : Buffer.concat([variable(properties.length), properties])
}

function variable(value: number): Buffer {
  const bytes = Buffer.alloc(variableLength(value))
  writeVariable(bytes, 0, value)
  return bytes
}
