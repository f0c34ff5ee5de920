// The packets that a client sends, as values, and the few numbers of the protocol that everybody needs. MQTT 3.1, 3.1.1 and 5.0 share
// one form: what a version does not know is absent.

import type { ClientDetail, ConnectDetail, ProtocolDetail, PublishDetail, SubscribeDetail, UnsubscribeDetail } from '../log-events.js'

/** The protocol level of CONNECT: MQTT 3.1, 3.1.1, 5.0. */
export type Version = 3 | 4 | 5

export type Qos = 0 | 1 | 2

export const packetTypes = {
  connect: 1,
  connack: 2,
  publish: 3,
  puback: 4,
  pubrec: 5,
  pubrel: 6,
  pubcomp: 7,
  subscribe: 8,
  suback: 9,
  unsubscribe: 10,
  unsuback: 11,
  pingreq: 12,
  pingresp: 13,
  disconnect: 14,
  auth: 15
} as const

/** A session expiry interval that never ends [MQTT-3.1.2-23]. */
export const neverExpires = 0xffffffff

export interface Connect {
  readonly type: typeof packetTypes.connect
  readonly version: Version
  /** The bridge bit of the protocol level, as Mosquitto's bridges set it. */
  readonly bridge: boolean
  /** Clean session of MQTT 3, clean start of MQTT 5. */
  readonly clean: boolean
  /** Seconds; 0: none. */
  readonly keepalive: number
  /** '' when the client leaves it to the broker. */
  readonly clientId: string
  readonly username?: string
  readonly password?: Buffer
  readonly will?: Will
  /** Seconds. MQTT 3: 0 with clean session, else never. */
  readonly sessionExpiryInterval: number
  /** How many QoS 1 and 2 messages the client takes unacknowledged. */
  readonly receiveMaximum: number
  /** Bytes; 0: no limit. */
  readonly maximumPacketSize: number
  /** How many topic aliases the broker may use. */
  readonly topicAliasMaximum: number
  readonly requestProblemInformation: boolean
  readonly requestResponseInformation: boolean
  readonly authenticationMethod?: string
  /** All of them as bytes, without their length: what a hook is shown. */
  readonly properties: Buffer
}

export interface Will {
  readonly topic: string
  readonly payload: Buffer
  readonly qos: Qos
  readonly retain: boolean
  /** Seconds. */
  readonly delayInterval: number
  /** Seconds. */
  readonly messageExpiryInterval?: number
  /** The MQTT 5 properties that go on to receivers, as `Publish` has them. */
  readonly properties: Buffer
}

export interface Publish {
  readonly type: typeof packetTypes.publish
  readonly dup: boolean
  readonly qos: Qos
  readonly retain: boolean
  /** 0 with QoS 0. */
  readonly packetId: number
  /** '' where the alias stands for it. */
  readonly topic: string
  /** The chunk that came in; whoever keeps something of it copies that. */
  readonly buffer: Buffer
  /** In `buffer`: the packet, from its first byte on. */
  readonly start: number
  /** And its payload, which is the end of it, behind the properties; see `payloadOf` and `propertiesOf`. */
  readonly propertiesAt: number
  readonly payloadAt: number
  readonly end: number
  /** MQTT 5. */
  readonly isNew: boolean
  /**
   * The MQTT 5 properties that go on to receivers, as bytes in the order they came, without their length: everything but topic alias and
   * message expiry interval. Undefined: those are all that there are.
   */
  readonly properties: Buffer | undefined
  /** Seconds. */
  readonly messageExpiryInterval?: number
  readonly topicAlias?: number
  /**
   * The packet could go out to a receiver of the same protocol family (MQTT 3, or MQTT 5) as the very bytes it came in, but for the first and its
   * packet identifier.
   */
  readonly forwardable: boolean
}

const none = Buffer.alloc(0)

/** Those that go on to receivers; a slice of the chunk where they lie together. */
export function propertiesOf({
  properties,
  buffer,
  propertiesAt,
  payloadAt
}: Pick<Publish, 'properties' | 'buffer' | 'propertiesAt' | 'payloadAt'>): Buffer {
  return properties ?? (propertiesAt === payloadAt ? none : buffer.subarray(propertiesAt, payloadAt))
}

/** A slice of the chunk it came in. */
export function payloadOf({ buffer, payloadAt, end }: Pick<Publish, 'buffer' | 'payloadAt' | 'end'>): Buffer {
  return buffer.subarray(payloadAt, end)
}

export interface Acknowledgement {
  readonly type: 4 | 5 | 6 | 7
  readonly packetId: number
  readonly reasonCode: number
}

export interface SubscriptionRequest {
  /** As sent: `$share/GROUP/FILTER` is taken apart by `parseFilter` of `topic.ts`. */
  readonly filter: string
  readonly qos: Qos
  readonly noLocal: boolean
  readonly retainAsPublished: boolean
  /** 0: send retained messages, 1: only for a new subscription, 2: never. */
  readonly retainHandling: 0 | 1 | 2
}

export interface Subscribe {
  readonly type: typeof packetTypes.subscribe
  readonly packetId: number
  readonly subscriptions: readonly SubscriptionRequest[]
  /** 0: none. */
  readonly subscriptionIdentifier: number
}

export interface Unsubscribe {
  readonly type: typeof packetTypes.unsubscribe
  readonly packetId: number
  readonly filters: readonly string[]
}

export interface Pingreq {
  readonly type: typeof packetTypes.pingreq
}

export interface Disconnect {
  readonly type: typeof packetTypes.disconnect
  readonly reasonCode: number
  readonly sessionExpiryInterval?: number
}

export interface Auth {
  readonly type: typeof packetTypes.auth
  readonly reasonCode: number
}

/** What may follow a CONNECT. */
export type Packet = Publish | Acknowledgement | Subscribe | Unsubscribe | Pingreq | Disconnect | Auth

/** Bytes that are no packet, or one that may not be sent here. `reasonCode`: for DISCONNECT to an MQTT 5 client; 0: close without one. */
export interface Fault {
  readonly type: 0
  readonly reasonCode: number
  /** For the log, in Mosquitto's words: `malformed packet`, `protocol error`. */
  readonly words: string
  readonly detail?: FaultDetail
}

/** A CONNECT that can't be taken. `answer`: the CONNACK to send before the close; absent: just close. */
export interface ConnectFault {
  readonly type: 0
  readonly answer?: ConnectRefusal
  readonly words: string
  readonly detail?: ConnectFaultDetail
}

/** `code`: a return code for MQTT 3, a reason code for MQTT 5. */
export interface ConnectRefusal {
  readonly version: Version
  readonly code: number
}

/** A line of its own before that of the end: the event of `log-events.ts`, and what it says. Not every fault has one, as with Mosquitto. */
export type FaultDetail =
  | { readonly event: 'publishInvalid'; readonly what: PublishDetail }
  | { readonly event: 'subscribeInvalid'; readonly what: SubscribeDetail }
  | { readonly event: 'unsubscribeInvalid'; readonly what: UnsubscribeDetail }
  | { readonly event: 'protocolError'; readonly what: ClientDetail }

/** `clientId`: as the CONNECT says it. */
export type ConnectFaultDetail =
  | { readonly event: 'connectInvalid'; readonly what: ConnectDetail }
  | { readonly event: 'connectProtocolUnknown'; readonly what: ProtocolDetail }
  | { readonly event: 'protocolError'; readonly what: ClientDetail; readonly clientId: string }
  | { readonly event: 'passwordWithoutUsername'; readonly clientId: string }
