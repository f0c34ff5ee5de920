// Messages and packets as Aedes' users know them: what hooks are shown and may change, what events carry, what `broker.publish` takes.

import type { AedesPublishPacket, ConnectPacket, PublishPacket } from 'aedes'
import { Message, type MessageSource } from '../message.js'
import type { Connect, Qos } from '../protocol/packets.js'
import { decodeProperties, encodeProperties } from '../protocol/properties.js'
import type { PublishRequest } from '../session/host.js'

/** Who counts packets: the broker. */
export interface PacketCounter {
  readonly id: string
  counter: number
}

const none = Buffer.alloc(0)

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

/** What `broker.publish` and another broker's emitter give. */
export function messageOf(packet: Partial<PublishPacket> & { readonly topic: string }, source?: MessageSource): Message {
  const { topic, qos = 0, retain = false, properties } = packet
  const { messageExpiryInterval } = properties ?? {}
  return new Message({
    topic,
    payload: bytesOf(packet.payload),
    qos,
    retain,
    properties: forwarded(properties),
    ...(source !== undefined && { source }),
    ...(messageExpiryInterval !== undefined && messageExpiryInterval > 0 && { expiresAt: Date.now() + messageExpiryInterval * 1000 })
  })
}

/** Who published a packet that came by an emitter or from the embedder. */
export function sourceIn(packet: object): MessageSource | undefined {
  const clientId: unknown = Reflect.get(packet, 'clientId')
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
    ...(qos > 0 && { messageId: packetId }),
    ...propertiesField(properties, messageExpiryInterval)
  }
}

/** The request as a hook left the packet. */
export function requestOf(packet: PublishPacket, request: PublishRequest): PublishRequest {
  const { topic, qos, retain, properties } = packet
  const { messageExpiryInterval: _, ...rest } = request
  const interval = properties?.messageExpiryInterval
  return {
    ...rest,
    topic,
    qos: qosOf(qos),
    retain,
    payload: bytesOf(packet.payload),
    properties: forwarded(properties),
    ...(interval !== undefined && { messageExpiryInterval: interval })
  }
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

/** The CONNECT as a hook left the packet. */
export function connectOf(packet: ConnectPacket, connect: Connect): Connect {
  const { clientId, clean = connect.clean, keepalive = connect.keepalive, username, password } = packet
  const { username: _, password: __, ...rest } = connect
  return {
    ...rest,
    clientId,
    clean,
    keepalive,
    ...(username !== undefined && { username }),
    ...(password !== undefined && { password: bytesOf(password) })
  }
}

export function qosOf(value: number): Qos {
  return value === 1 || value === 2 ? value : 0
}

function bytesOf(payload: unknown): Buffer {
  if (Buffer.isBuffer(payload)) return payload
  if (payload instanceof Uint8Array) return Buffer.from(payload)
  return typeof payload === 'string' ? Buffer.from(payload) : none
}

// What belongs to one hop, or is kept elsewhere, doesn't go on.
function forwarded(properties: PublishPacket['properties']): Buffer {
  if (properties === undefined) return none
  const { messageExpiryInterval: _, topicAlias: __, subscriptionIdentifier: ___, ...rest } = properties
  return encodeProperties(rest)
}

function propertiesField(properties: Buffer, messageExpiryInterval: number | undefined): Pick<PublishPacket, 'properties'> {
  if (properties.length === 0 && messageExpiryInterval === undefined) return {}
  return {
    properties: { ...decodeProperties(properties), ...(messageExpiryInterval !== undefined && { messageExpiryInterval }) }
  }
}
