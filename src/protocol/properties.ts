// The properties of MQTT 5 [MQTT5 2.2.2]: one table for reading, writing and for what embedders see. Objects have the names and shapes of
// mqtt-packet's `properties`, which is what programs written for Aedes know.

import { isTopicName } from '../topic.js'
import { isWellFormed, Reader, type Wrong } from './reader.js'
import { variableLength, writeUint32, writeVariable } from './writer.js'

/** Where a property may stand, in what clients send and in a will, as bits. */
export const places = {
  connect: 1,
  will: 2,
  publish: 4,
  acknowledgement: 8,
  subscribe: 16,
  unsubscribe: 32,
  disconnect: 64,
  auth: 128,
  /** Only from a server. */
  connack: 256
} as const

type Place = (typeof places)[keyof typeof places]

type Kind = 'boolean' | 'byte' | 'uint16' | 'uint32' | 'varint' | 'string' | 'binary' | 'pair'

interface Property {
  readonly id: number
  readonly kind: Kind
  /** Bits of `places`. */
  readonly allowed: number
  /** 0 is no value of it. */
  readonly positive?: true
}

const { connect, will, publish, acknowledgement, subscribe, unsubscribe, disconnect, auth, connack } = places
const message = publish | will

export const properties = {
  payloadFormatIndicator: { id: 0x01, kind: 'boolean', allowed: message },
  messageExpiryInterval: { id: 0x02, kind: 'uint32', allowed: message },
  contentType: { id: 0x03, kind: 'string', allowed: message },
  responseTopic: { id: 0x08, kind: 'string', allowed: message },
  correlationData: { id: 0x09, kind: 'binary', allowed: message },
  subscriptionIdentifier: { id: 0x0b, kind: 'varint', allowed: subscribe },
  sessionExpiryInterval: { id: 0x11, kind: 'uint32', allowed: connect | connack | disconnect },
  assignedClientIdentifier: { id: 0x12, kind: 'string', allowed: connack },
  serverKeepAlive: { id: 0x13, kind: 'uint16', allowed: connack },
  authenticationMethod: { id: 0x15, kind: 'string', allowed: connect | connack | auth },
  authenticationData: { id: 0x16, kind: 'binary', allowed: connect | connack | auth },
  requestProblemInformation: { id: 0x17, kind: 'boolean', allowed: connect },
  willDelayInterval: { id: 0x18, kind: 'uint32', allowed: will },
  requestResponseInformation: { id: 0x19, kind: 'boolean', allowed: connect },
  responseInformation: { id: 0x1a, kind: 'string', allowed: connack },
  serverReference: { id: 0x1c, kind: 'string', allowed: connack | disconnect },
  reasonString: { id: 0x1f, kind: 'string', allowed: connack | acknowledgement | disconnect | auth },
  receiveMaximum: { id: 0x21, kind: 'uint16', allowed: connect | connack, positive: true },
  topicAliasMaximum: { id: 0x22, kind: 'uint16', allowed: connect | connack },
  topicAlias: { id: 0x23, kind: 'uint16', allowed: publish, positive: true },
  maximumQoS: { id: 0x24, kind: 'byte', allowed: connack },
  retainAvailable: { id: 0x25, kind: 'boolean', allowed: connack },
  userProperties: {
    id: 0x26,
    kind: 'pair',
    allowed: connect | message | acknowledgement | subscribe | unsubscribe | disconnect | auth | connack
  },
  maximumPacketSize: { id: 0x27, kind: 'uint32', allowed: connect | connack, positive: true },
  wildcardSubscriptionAvailable: { id: 0x28, kind: 'boolean', allowed: connack },
  subscriptionIdentifiersAvailable: { id: 0x29, kind: 'boolean', allowed: connack },
  sharedSubscriptionAvailable: { id: 0x2a, kind: 'boolean', allowed: connack }
} as const satisfies Record<string, Property>

export type PropertyName = keyof typeof properties

interface NamedProperty extends Property {
  readonly name: PropertyName
}

const propertyNames: readonly PropertyName[] = Object.keys(properties).filter(isPropertyName)

// By identifier, so that a lookup is one load. All identifiers lie below 0x30.
const byId: readonly (NamedProperty | undefined)[] = Array.from({ length: 0x30 }, (_, id) => {
  const name = propertyNames.find(name => properties[name].id === id)
  return name === undefined ? undefined : { name, ...properties[name] }
})

function isPropertyName(name: string): name is PropertyName {
  return Object.hasOwn(properties, name)
}

// --- reading a packet ---

/** The values that the broker acts on; numbers that are absent are -1. */
export class Values {
  messageExpiryInterval = -1
  subscriptionIdentifier = -1
  sessionExpiryInterval = -1
  willDelayInterval = -1
  receiveMaximum = -1
  topicAliasMaximum = -1
  topicAlias = -1
  maximumPacketSize = -1
  requestProblemInformation = -1
  requestResponseInformation = -1
  authenticationMethod: string | undefined
  hasAuthenticationData = false
  /** Where all of them lie. */
  start = 0
  end = 0
  /** Those that go on to receivers, in their order; undefined: they are all there are. */
  picked: Buffer | undefined

  /** As new for a PUBLISH, which is asked for no more: the others are of other packets. Nothing that could be large stays. */
  reset(): void {
    this.messageExpiryInterval = -1
    this.topicAlias = -1
    this.authenticationMethod = undefined
    this.picked = undefined
  }
}

/** `disallowed`: also a value out of range. */
export type PropertiesWrong = Wrong | 'disallowed' | 'duplicate'

/**
 * Reads the length and the properties behind it. What can't be read counts before what may not stand there, as in Mosquitto, which reads all
 * of them first.
 */
export function readProperties(reader: Reader, place: Place, values: Values): PropertiesWrong | undefined {
  const length = reader.varint()
  if (reader.wrong !== undefined) return reader.wrong
  if (length > reader.left) return 'malformed'
  const { end } = reader
  values.start = reader.at
  values.end = reader.at + length
  reader.end = values.end
  const wrong = readList(reader, place, values)
  reader.at = values.end
  reader.end = end
  return wrong
}

// Up to the end of the reader.
function readList(list: Reader, place: Place, values: Values): PropertiesWrong | undefined {
  let wrong: PropertiesWrong | undefined
  // Two sets of bits: identifiers below 0x20 and the others.
  let seenLow = 0
  let seenHigh = 0
  // The run of forwarded properties that is being read, and the earlier ones.
  let runStart = list.at
  let runEnd = list.at
  let runs: Buffer[] | undefined
  while (list.left > 0) {
    const from = list.at
    const property = byId[list.varint()]
    if (property === undefined) return 'malformed'
    const isValid = readValue(list, property, values)
    if (list.wrong !== undefined) return list.wrong

    const bit = 1 << (property.id & 0x1f)
    const isRepeated = ((property.id < 0x20 ? seenLow : seenHigh) & bit) !== 0
    if (property.id < 0x20) seenLow |= bit
    else seenHigh |= bit
    if (!isValid || (property.allowed & place) === 0) wrong ??= 'disallowed'
    else if (isRepeated && property.kind !== 'pair') wrong ??= 'duplicate'

    // Once something is wrong nothing is collected: each run must stay worth its cost.
    if (wrong === undefined && isForwarded(property.id)) {
      if (from !== runEnd) {
        if (runEnd > runStart) runs = [...(runs ?? []), list.buffer.subarray(runStart, runEnd)]
        runStart = from
      }
      runEnd = list.at
    }
  }
  if (wrong === undefined && (runs !== undefined || runStart > values.start || runEnd < values.end)) {
    const last = list.buffer.subarray(runStart, runEnd)
    values.picked = runs === undefined ? last : Buffer.concat([...runs, last])
  }
  return wrong
}

const isForwarded = (id: number): boolean => id !== 0x02 && id !== 0x23 && id !== 0x18

// Reads one value; false when it may not be. Mosquitto checks 0 and 1 of a flag, and that a response topic is a topic name.
function readValue(list: Reader, property: NamedProperty, values: Values): boolean {
  switch (property.kind) {
    case 'boolean':
    case 'byte': {
      const value = list.byte()
      if (property.id === 0x17) values.requestProblemInformation = value
      else if (property.id === 0x19) values.requestResponseInformation = value
      return value <= 1
    }
    case 'uint16': {
      const value = list.uint16()
      if (property.id === 0x21) values.receiveMaximum = value
      else if (property.id === 0x22) values.topicAliasMaximum = value
      else if (property.id === 0x23) values.topicAlias = value
      return value > 0 || property.positive === undefined
    }
    case 'uint32': {
      const value = list.uint32()
      if (property.id === 0x02) values.messageExpiryInterval = value
      else if (property.id === 0x11) values.sessionExpiryInterval = value
      else if (property.id === 0x18) values.willDelayInterval = value
      else if (property.id === 0x27) values.maximumPacketSize = value
      return value > 0 || property.positive === undefined
    }
    case 'varint':
      values.subscriptionIdentifier = list.varint()
      return true
    case 'string':
      if (property.id === 0x08) return list.skipTopicName()
      if (property.id === 0x15) values.authenticationMethod = list.string()
      else list.skip(true)
      return true
    case 'binary':
      if (property.id === 0x16) values.hasAuthenticationData = true
      list.skip(false)
      return true
    case 'pair':
      list.skip(true)
      list.skip(true)
      return true
  }
}

// --- for embedders ---

export type UserProperties = Record<string, string | string[]>

/** As mqtt-packet has them. */
export interface Properties {
  payloadFormatIndicator?: boolean
  messageExpiryInterval?: number
  contentType?: string
  responseTopic?: string
  correlationData?: Buffer
  subscriptionIdentifier?: number | number[]
  sessionExpiryInterval?: number
  assignedClientIdentifier?: string
  serverKeepAlive?: number
  authenticationMethod?: string
  authenticationData?: Buffer
  requestProblemInformation?: boolean
  willDelayInterval?: number
  requestResponseInformation?: boolean
  responseInformation?: string
  serverReference?: string
  reasonString?: string
  receiveMaximum?: number
  topicAliasMaximum?: number
  topicAlias?: number
  maximumQoS?: number
  retainAvailable?: boolean
  userProperties?: UserProperties
  maximumPacketSize?: number
  wildcardSubscriptionAvailable?: boolean
  subscriptionIdentifiersAvailable?: boolean
  sharedSubscriptionAvailable?: boolean
}

/** Of bytes that the decoder has seen: reading stops where they are wrong. */
export function decodeProperties(bytes: Buffer): Properties {
  const reader = new Reader(bytes, 0, bytes.length)
  const found: Record<string, unknown> = {}
  // Without a prototype: a client may call a property `__proto__`.
  const userProperties: UserProperties = Object.create(null)
  while (reader.left > 0) {
    const property = byId[reader.varint()]
    if (property === undefined) break
    const value = property.kind === 'pair' ? readPair(reader, userProperties) : decodeValue(reader, property.kind)
    if (reader.wrong !== undefined) break
    const earlier = property.kind === 'varint' ? found[property.name] : undefined
    found[property.name] = earlier === undefined ? value : [earlier, value].flat()
  }
  return found
}

function readPair(reader: Reader, all: UserProperties): UserProperties {
  const key = reader.string()
  const value = reader.string()
  if (reader.wrong !== undefined) return all
  const earlier = all[key]
  if (earlier === undefined) all[key] = value
  else if (Array.isArray(earlier)) earlier.push(value)
  else all[key] = [earlier, value]
  return all
}

function decodeValue(reader: Reader, kind: Exclude<Kind, 'pair'>): boolean | number | string | Buffer {
  switch (kind) {
    case 'boolean':
      return reader.byte() !== 0
    case 'byte':
      return reader.byte()
    case 'uint16':
      return reader.uint16()
    case 'uint32':
      return reader.uint32()
    case 'varint':
      return reader.varint()
    case 'string':
      return reader.string()
    case 'binary':
      return reader.binary()
  }
}

/**
 * The bytes without their length, in the order of the object; names that are no property and undefined values don't count. A value that a
 * receiver would not take is a TypeError, and so is, where `place` is given, a property that may not stand there.
 */
export function encodeProperties(object: { readonly [Name in PropertyName]?: Properties[Name] | undefined }, place?: Place): Buffer {
  const parts: Buffer[] = []
  for (const [name, value] of Object.entries(object)) {
    if (value === undefined || value === null || !isPropertyName(name)) continue
    const { id, kind, allowed } = properties[name]
    if (place !== undefined && (allowed & place) === 0) throw new TypeError(`${name} is no property of this packet`)
    // All others may be there once [MQTT5 2.2.2.2].
    const values = kind === 'pair' ? pairsOf(value) : kind === 'varint' ? [value].flat() : [value]
    for (const one of values) parts.push(Buffer.of(id), encodeValue(name, kind, one))
  }
  return Buffer.concat(parts)
}

function encodeValue(name: PropertyName, kind: Kind, value: unknown): Buffer {
  const number = typeof value === 'boolean' ? Number(value) : value
  switch (kind) {
    case 'boolean':
      return Buffer.of(numberBelow(name, number, 2))
    case 'byte':
      return Buffer.of(numberBelow(name, number, 0x100))
    case 'uint16':
      return uint16(numberBelow(name, number, 0x1_0000))
    case 'uint32': {
      const bytes = Buffer.allocUnsafe(4)
      writeUint32(bytes, 0, numberBelow(name, number, 0x1_0000_0000))
      return bytes
    }
    case 'varint': {
      const checked = numberBelow(name, number, 0x1000_0000)
      const bytes = Buffer.allocUnsafe(variableLength(checked))
      writeVariable(bytes, 0, checked)
      return bytes
    }
    case 'string':
      return textField(name, value)
    case 'binary':
      if (typeof value !== 'string' && !(value instanceof Uint8Array)) throw new TypeError(`${name} is a string or bytes`)
      return field(name, Buffer.from(value))
    case 'pair':
      if (!Array.isArray(value)) throw new TypeError(`${name} is an object of strings`)
      return Buffer.concat(value.map(text => textField(name, text)))
  }
}

function pairsOf(value: unknown): [string, unknown][] {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw new TypeError('userProperties is an object of strings')
  return Object.entries(value).flatMap(([key, values]) => [values].flat().map((one): [string, unknown] => [key, one]))
}

function numberBelow(name: PropertyName, value: unknown, limit: number): number {
  const property: Property = properties[name]
  const least = property.positive === true ? 1 : 0
  if (typeof value === 'number' && Number.isInteger(value) && value >= least && value < limit) return value
  throw new TypeError(`${name} is a whole number from ${least} to ${limit - 1}`)
}

function textField(name: PropertyName, value: unknown): Buffer {
  if (typeof value !== 'string') throw new TypeError(`${name} is a string`)
  if (!isWellFormed(value)) throw new TypeError(`${name} is text without control characters`)
  if (name === 'responseTopic' && !isTopicName(value)) throw new TypeError(`${name} is a topic name`)
  return field(name, Buffer.from(value))
}

function field(name: PropertyName, bytes: Buffer): Buffer {
  if (bytes.length > 0xffff) throw new TypeError(`${name} is at most 65535 bytes long`)
  return Buffer.concat([uint16(bytes.length), bytes])
}

const uint16 = (value: number): Buffer => Buffer.of(value >> 8, value & 0xff)
