// What connections ask of the broker they belong to.

import type { Decision } from '../auth/acl.js'
import type { Connection as Transport } from '../auth/identity.js'
import type { Admitted, Policy } from '../auth/policy.js'
import type { Stats } from '../broker/stats.js'
import type { ListenerConfig } from '../config/types.js'
import type { Message } from '../message.js'
import type { Connect, Publish, Qos, SubscriptionRequest } from '../protocol/packets.js'
import type { QueueEntry, Subscription } from '../storage.js'
import type { Connection } from './connection.js'
import type { Flusher } from './flusher.js'
import type { Commit } from './ledger.js'
import type { Session, SessionHost } from './session.js'

export interface ConnectionHost extends SessionHost {
  readonly flusher: Flusher
  /** Grows by the receivers of each message and by what was looked at to find them: how much a packet was to do. */
  readonly effort: number
  readonly stats: Stats
  readonly hooks: Hooks
  readonly events: Events
  /** Of how long a connection may be silent before its CONNECT, milliseconds. */
  readonly connectTimeout: number
  readonly bounds: Bounds
  /** Does the log take lines of the type debug? Asked for every packet. */
  readonly isDebugging: boolean
  policyOf(transport: Transport): Policy
  /** Its listener as it is configured now. */
  listenerOf(transport: Transport): ListenerConfig
  /** Who has this client identifier, as far as the store knows; resolves at once where the engine knows all sessions. */
  findSession(clientId: string): Promise<void> | undefined
  /** Of a session that is known. */
  subscriptionsOf(clientId: string): readonly Subscription[]
  /** Takes over, resumes or makes the session of an admitted client. `unavailable`: it can't be without the store, which is away. */
  openSession(connection: Connection, connect: Connect, admitted: Admitted): OpenedSession | 'too-many-clients' | 'unavailable'
  /** The connection of this session is gone. `isClean`: its client said goodbye, and its will is void. */
  leaveSession(connection: Connection, session: Session, isClean: boolean): void
  /** To everybody who subscribed. `release`: what is forgotten in the same commit. */
  route(message: Message, release?: Release): Routing
  /** Into the queue of this session alone; what has to be durable. */
  enqueueAlone(session: Session, message: Message, qos: Qos, retain: boolean, subscriptionIdentifier: number): Commit | 'full' | undefined
  /** It was: for whoever listens beside the clients. */
  routed(message: Message, connection: Connection): void
  /** True: the session had no such subscription. */
  subscribe(session: Session, subscription: Subscription): boolean
  unsubscribe(session: Session, filter: string, group: string | undefined): boolean
  /** Ends the connection when it is silent for too long; on the same clock as everything else. */
  watch(connection: Connection, deadline: number): void
  unwatch(connection: Connection): void
  /** May anything that matches this filter be delivered? */
  mayReceive(session: Session, filter: string): Decision
  /** Nothing may: for the log, and counted. */
  deniedSubscription(session: Session, filter: string, decision: Decision): void
  /** For the log, and counted. */
  deniedPublish(session: Session, publish: DeniedPublish): void
  /** It is not denied, and would be by the file of `#!acl_shadow`. */
  shadowedPublish(session: Session, topic: string, shadow: Decision): void
  /** It has its session; CONNACK follows. */
  registered(connection: Connection): void
  closed(connection: Connection): void
}

/** What an embedder bounds beyond Mosquitto's options; Infinity: nothing. */
export interface Bounds {
  /** Characters of a client identifier of MQTT 3.1. */
  readonly clientIdLength: number
  /** Seconds that a session of MQTT 5 may ask for. */
  readonly sessionExpiry: number
  /** Sessions, and as many wills, that wait for their time. */
  readonly pendingSessions: number
}

export interface OpenedSession {
  readonly session: Session
  /** Session present of CONNACK [MQTT-3.2.2-2]. */
  readonly isPresent: boolean
  /** What has to be durable before CONNACK. */
  readonly commit: Commit | undefined
}

/** Used again for each message: read it at once. */
export interface Routing {
  /** Somebody subscribes to this topic, allowed to read it or not. */
  readonly isMatched: boolean
  /** What has to be durable before it is acknowledged. */
  readonly commit: Commit | undefined
  /** Present: it takes several turns, or waits for another that does, and nothing is known before its end. */
  readonly underWay: UnderWay | undefined
}

/** A message that is not routed yet. */
export interface UnderWay {
  /** To be set at once: called when it is. */
  done: ((routing: Routing) => void) | undefined
}

/** A QoS 2 message of a stored session that its PUBREL lets go. */
export interface Release {
  readonly session: Session
  readonly packetId: number
}

export interface DeniedPublish extends Pick<Publish, 'dup' | 'qos' | 'retain' | 'packetId' | 'topic'> {
  /** Of its payload. */
  readonly bytes: number
  readonly decision: Decision
}

/** A PUBLISH with everything that a hook may change. */
export interface PublishRequest extends Pick<Publish, 'dup' | 'qos' | 'retain' | 'packetId' | 'topic' | 'messageExpiryInterval'> {
  readonly payload: Buffer
  readonly properties: Buffer
}

/** An embedder's hooks, asked beside our policy and never around it; undefined: there is none, which is the fast way. */
export interface Hooks {
  readonly preConnect:
    | ((connection: Connection, connect: Connect, done: (error: Error | null, connect: Connect | undefined) => void) => void)
    | undefined
  readonly authenticate:
    | ((connection: Connection, connect: Connect, done: (error: Error | null, isAllowed: boolean) => void) => void)
    | undefined
  readonly authorizePublish:
    | ((connection: Connection, publish: PublishRequest, done: (error: Error | null, publish: PublishRequest) => void) => void)
    | undefined
  /** `null`: refused. */
  readonly authorizeSubscribe:
    | ((
        connection: Connection,
        request: SubscriptionRequest,
        done: (error: Error | null, request: SubscriptionRequest | null) => void
      ) => void)
    | undefined
  /** `undefined` when called: it is not delivered to this session. */
  readonly authorizeForward: ((session: Session, message: Message) => Message | undefined) | undefined
  readonly authorizeWill: ((session: Session, will: Message, done: (will: Message | undefined) => void) => void) | undefined
  readonly published: ((message: Message, connection: Connection | undefined, done: () => void) => void) | undefined
  /** For CONNACK, where the client asks for it. */
  readonly responseInformation: ((connection: Connection) => string | undefined) | undefined
}

/** What embedders listen to. Nobody listening costs no more than the question; what a listener throws is its own matter. */
export interface Events {
  /** Does anybody want to know what a SUBSCRIBE came to? */
  readonly wantsSubscribed: boolean
  connackSent(connection: Connection, sessionPresent: boolean, code: number, properties: Buffer | undefined): void
  /** CONNACK is sent: `announce` is due, in a later turn if nothing comes before. */
  ready(connection: Connection): void
  /** Before the first packet that comes behind CONNACK. Once. */
  announce(connection: Connection): void
  /** The connection goes on. */
  clientError(connection: Connection, error: Error): void
  keepaliveTimeout(connection: Connection): void
  pinged(connection: Connection): void
  /** The client has confirmed this message for good. */
  acknowledged(connection: Connection, entry: QueueEntry): void
  subscribed(connection: Connection, subscriptions: readonly { readonly topic: string; readonly qos: number }[]): void
  unsubscribed(connection: Connection, filters: readonly string[]): void
  sessionLimitReached(session: Session, reason: 'sessionExpiry' | 'willDelay'): void
}
