// Messages and packets as Aedes' users know them: what hooks are shown and may change, what events carry, what `broker.publish` takes.

import type {
  AedesPublishPacket,
  ConnectPacket,
  PublishPacket,
  SubscribePacket,
  Subscription,
  Subscriptions,
  UnsubscribePacket
} from 'aedes'
import { Message, type MessageSource } from '../message.js'
import {
  type Connect,
  neverExpires,
  packetTypes,
  type Qos,
  type Subscribe,
  type SubscriptionRequest,
  type Unsubscribe,
  type Will
} from '../protocol/packets.js'
import { decodeProperties, encodeProperties, places } from '../protocol/properties.js'
import { isWellFormed } from '../protocol/reader.js'
import type { PublishRequest } from '../session/host.js'
import { isTopicName, parseFilter } from '../topic.js'

/** What `client.subscribe` and `client.unsubscribe` take. */
export type Filters = Subscriptions | Subscription | Subscription[] | SubscribePacket | UnsubscribePacket

/** Who counts packets: the broker. */
export interface PacketCounter {
  readonly id: string
  counter: number
}

const none = Buffer.alloc(0)
/** Of a packet behind its length [MQTT5 1.5.5]; and what stands in it before properties and payload, at most, with a receiver's own properties. */
const mostBytes = 268_435_455
const roomForHead = 66_000
const longestShown = 100
const nothingCarried = Object.freeze({ properties: none, messageExpiryInterval: 0 })

export function packetOf(message: Message, broker: PacketCounter): AedesPublishPacket {
  broker.counter += 1
  const { topic, payload, qos, retain, properties, source } = message
  const clientId = source?.clientId
  return {
    cmd: 'publish',
    brokerId: broker.id,
    brokerCounter: broker.counter,
    topic,
    payload,
    qos,
    retain,
    dup: false,
    ...(clientId !== undefined && { clientId }),
    ...propertiesField(properties, message.expiresAt === Number.POSITIVE_INFINITY ? undefined : message.secondsLeft(Date.now()))
  }
}

/** What `broker.publish` and another broker's emitter give, or a hook has left. What can't be sent is a TypeError. */
export function messageOf(packet: Partial<PublishPacket>, source?: MessageSource): Message {
  const { messageExpiryInterval, ...content } = contentOf(packet)
  return new Message({
    ...content,
    ...(source !== undefined && { source }),
    ...(messageExpiryInterval > 0 && { expiresAt: Date.now() + messageExpiryInterval * 1000 })
  })
}

/** Who published a packet that came by an emitter or from the embedder. */
export function sourceIn(packet: unknown): MessageSource | undefined {
  const clientId = isFields(packet) ? packet.clientId : undefined
  return typeof clientId === 'string' ? { clientId } : undefined
}

export function packetOfRequest(request: PublishRequest): PublishPacket {
  const { topic, payload, qos, retain, dup, packetId, properties, messageExpiryInterval } = request
  return {
    cmd: 'publish',
    topic,
    payload,
    qos,
    retain,
    dup,
    // A will has none.
    ...(packetId > 0 && { messageId: packetId }),
    ...propertiesField(properties, messageExpiryInterval)
  }
}

/** The request as a hook left the packet; a TypeError where that is none. */
export function requestOf(packet: PublishPacket, request: PublishRequest): PublishRequest {
  const { messageExpiryInterval: _, ...rest } = request
  const { messageExpiryInterval, ...content } = contentOf(packet)
  return { ...rest, ...content, ...(packet.properties?.messageExpiryInterval !== undefined && { messageExpiryInterval }) }
}

export function connectPacketOf(connect: Connect): ConnectPacket {
  const { version, clean, keepalive, clientId, username, password, will, properties } = connect
  const known = decodeProperties(properties)
  return {
    cmd: 'connect',
    protocolId: version === 3 ? 'MQIsdp' : 'MQTT',
    protocolVersion: version,
    clean,
    keepalive,
    clientId,
    ...(username !== undefined && { username }),
    ...(password !== undefined && { password }),
    ...(will !== undefined && {
      will: {
        topic: will.topic,
        payload: will.payload,
        qos: will.qos,
        retain: will.retain,
        ...(version === 5 && {
          properties: {
            ...decodeProperties(will.properties),
            ...(will.delayInterval > 0 && { willDelayInterval: will.delayInterval }),
            ...(will.messageExpiryInterval !== undefined && { messageExpiryInterval: will.messageExpiryInterval })
          }
        })
      }
    }),
    ...(version === 5 && { properties: known })
  }
}

/** The CONNECT as a hook left the packet; a TypeError where that is none. */
export function connectOf(packet: ConnectPacket, connect: Connect): Connect {
  const { clean = connect.clean, keepalive = connect.keepalive, username, password, will, properties = {} } = packet
  const { username: _, password: __, will: ___, authenticationMethod: ____, ...rest } = connect
  const isNew = connect.version === 5
  const { authenticationMethod } = properties
  return {
    ...rest,
    clientId: textOf('clientId', packet.clientId),
    clean: Boolean(clean),
    keepalive: keepaliveOf(keepalive),
    ...(username !== undefined && username !== null && { username: textOf('username', username) }),
    ...(password !== undefined && password !== null && { password: bytesOf('password', password) }),
    ...(will !== undefined && will !== null && { will: willOf(will, isNew) }),
    ...(isNew
      ? {
          properties: encodeProperties(properties, places.connect),
          sessionExpiryInterval: properties.sessionExpiryInterval ?? 0,
          receiveMaximum: properties.receiveMaximum ?? 0xffff,
          maximumPacketSize: properties.maximumPacketSize ?? 0,
          topicAliasMaximum: properties.topicAliasMaximum ?? 0,
          requestProblemInformation: properties.requestProblemInformation ?? true,
          requestResponseInformation: properties.requestResponseInformation ?? false,
          ...(typeof authenticationMethod === 'string' && { authenticationMethod })
        }
      : { sessionExpiryInterval: clean ? 0 : neverExpires })
  }
}

function willOf(will: NonNullable<ConnectPacket['will']>, isNew: boolean): Will {
  const { willDelayInterval: delayInterval = 0, ...properties } = (isNew && will.properties) || {}
  encodeProperties({ willDelayInterval: delayInterval }, places.will)
  const { messageExpiryInterval, ...content } = contentOf({ ...will, properties })
  return { ...content, delayInterval, ...(properties.messageExpiryInterval !== undefined && { messageExpiryInterval }) }
}

/** What `client.subscribe` takes: one, several, or a whole SUBSCRIBE. What can't be subscribed to is a TypeError. */
export function subscribeOf(filters: Filters): Subscribe {
  const subscriptions = listIn('subscriptions', filters).map(subscriptionRequestOf)
  return {
    type: packetTypes.subscribe,
    packetId: identifierIn(filters),
    subscriptions,
    subscriptionIdentifier: subscriptionIdentifierIn(filters)
  }
}

/** The same for `client.unsubscribe`, which takes the names of filters too. */
export function unsubscribeOf(filters: Filters | string | readonly string[]): Unsubscribe {
  const key = isFields(filters) && 'unsubscriptions' in filters ? 'unsubscriptions' : 'subscriptions'
  const names = listIn(key, filters).map(filter => filterOf(isFields(filter) ? filter.topic : filter))
  return { type: packetTypes.unsubscribe, packetId: identifierIn(filters), filters: names }
}

function listIn(key: string, filters: unknown): readonly unknown[] {
  if (Array.isArray(filters)) return filters
  const inside = isFields(filters) ? filters[key] : undefined
  return Array.isArray(inside) ? inside : [filters]
}

function identifierIn(packet: unknown): number {
  const messageId = isFields(packet) ? packet.messageId : undefined
  if (messageId === undefined || messageId === null) return 0
  if (typeof messageId === 'number' && Number.isInteger(messageId) && messageId > 0 && messageId <= 0xffff) return messageId
  throw new TypeError(`messageId is a whole number from 1 to 65535, not ${String(messageId)}`)
}

function subscriptionIdentifierIn(packet: unknown): number {
  const properties = isFields(packet) ? packet.properties : undefined
  const identifier = isFields(properties) ? properties.subscriptionIdentifier : undefined
  if (identifier === undefined || identifier === null) return 0
  if (typeof identifier === 'number' && Number.isInteger(identifier) && identifier > 0 && identifier <= 0xfff_ffff) return identifier
  throw new TypeError(`subscriptionIdentifier is a whole number from 1 to 268435455, not ${String(identifier)}`)
}

/** Of a DISCONNECT that an embedder asks for. */
export function reasonCodeOf(code: unknown): number {
  if (typeof code === 'number' && Number.isInteger(code) && code >= 0 && code <= 0xff) return code
  throw new TypeError(`reasonCode is a whole number from 0 to 255, not ${String(code)}`)
}

/** A subscription as an embedder gives it; a TypeError where that is none. */
export function subscriptionRequestOf(subscription: unknown): SubscriptionRequest {
  if (!isFields(subscription)) throw new TypeError('a subscription is an object with a topic and a qos')
  const { topic, qos, nl, rap, rh } = subscription
  const retainHandling = rh ?? 0
  if (retainHandling !== 0 && retainHandling !== 1 && retainHandling !== 2) throw new TypeError(`rh is 0, 1 or 2, not ${String(rh)}`)
  return { filter: filterOf(topic), qos: qosOf(qos), noLocal: Boolean(nl), retainAsPublished: Boolean(rap), retainHandling }
}

function filterOf(filter: unknown): string {
  if (typeof filter !== 'string') throw new TypeError('a topic filter is a string')
  if (typeof parseFilter(filter) !== 'string' && isWellFormed(filter)) return filter
  throw new TypeError(`${shown(filter)} is no topic filter`)
}

function qosOf(value: unknown): Qos {
  if (value === undefined || value === null) return 0
  if (value === 0 || value === 1 || value === 2) return value
  throw new TypeError(`qos is 0, 1 or 2, not ${String(value)}`)
}

interface Content {
  readonly topic: string
  readonly payload: Buffer
  readonly qos: Qos
  readonly retain: boolean
  readonly properties: Buffer
  /** Seconds; 0: none. */
  readonly messageExpiryInterval: number
}

// Whoever writes JavaScript leaves out what has a default.
function contentOf(packet: Partial<PublishPacket>): Content {
  if (!isFields(packet)) throw new TypeError('a packet is an object with a topic')
  const topic = topicOf(packet.topic)
  const payload = bytesOf('payload', packet.payload)
  const qos = qosOf(packet.qos)
  const carried = forwarded(packet.properties)
  if (payload.length + carried.properties.length > mostBytes - roomForHead) throw new TypeError('a packet is at most 256 MB large')
  return { topic, payload, qos, retain: Boolean(packet.retain), ...carried }
}

function topicOf(topic: unknown): string {
  if (typeof topic !== 'string') throw new TypeError('topic is a string')
  if (isTopicName(topic) && isWellFormed(topic)) return topic
  throw new TypeError(`${shown(topic)} is no topic name: that is text without wildcards, of at most 65535 bytes and 200 slashes`)
}

function shown(text: string): string {
  return JSON.stringify(text.length > longestShown ? `${text.slice(0, longestShown)}…` : text)
}

function textOf(name: string, text: unknown): string {
  if (typeof text === 'string' && isWellFormed(text) && Buffer.byteLength(text) <= 0xffff) return text
  throw new TypeError(`${name} is text of at most 65535 bytes, without control characters`)
}

function keepaliveOf(seconds: unknown): number {
  if (typeof seconds === 'number' && Number.isInteger(seconds) && seconds >= 0 && seconds <= 0xffff) return seconds
  throw new TypeError('keepalive is a whole number from 0 to 65535')
}

function bytesOf(name: string, bytes: unknown): Buffer {
  if (Buffer.isBuffer(bytes)) return bytes
  if (bytes instanceof Uint8Array) return Buffer.from(bytes)
  if (typeof bytes === 'string') return Buffer.from(bytes)
  if (bytes === undefined || bytes === null) return none
  throw new TypeError(`${name} is a string or bytes, not of type ${typeof bytes}`)
}

// What belongs to one hop, or is kept elsewhere, doesn't go on.
function forwarded(properties: PublishPacket['properties'] | null): Pick<Content, 'properties' | 'messageExpiryInterval'> {
  if (properties === undefined || properties === null) return nothingCarried
  if (!isFields(properties)) throw new TypeError('properties is an object')
  const { messageExpiryInterval, topicAlias: _, subscriptionIdentifier: __, ...rest } = properties
  encodeProperties({ messageExpiryInterval }, places.publish)
  return { properties: encodeProperties(rest, places.publish), messageExpiryInterval: messageExpiryInterval ?? 0 }
}

function isFields(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function propertiesField(properties: Buffer, messageExpiryInterval: number | undefined): Pick<PublishPacket, 'properties'> {
  if (properties.length === 0 && messageExpiryInterval === undefined) return {}
  return {
    properties: { ...decodeProperties(properties), ...(messageExpiryInterval !== undefined && { messageExpiryInterval }) }
  }
}
