// What the engine asks of a store, and what lies in one. The engine keeps sessions and retained messages in memory too; the queue of a
// session that outlives its connection is the store's: the engine reads it page by page.

import type { CertificateFacts } from './auth/identity.js'
import type { Message } from './message.js'
import type { Qos, Version } from './protocol/packets.js'

export interface Store {
  /** `commit` always returns undefined. */
  readonly isDurableAtOnce: boolean
  /** `commit` may be called again while earlier calls are under way; they end in the order of the calls. */
  readonly takesMore?: boolean
  /** Everything that was kept, once. Later the engine knows better. */
  open(): Promise<StoredState>
  /**
   * Takes changes over, in order, all or none as far as the back end can. Resolves when they are durable; `undefined`: they are already.
   * Never rejects: a store in trouble says so in the log, keeps what it was given and tries until it works or is closed. Without
   * `takesMore` the engine has one call under way at a time.
   */
  commit(changes: readonly Change[]): Promise<void> | undefined
  /** The entries of a queue behind this sequence (0: from its start), in order, committed ones only. Fewer than `limit`: that is all. Rejects when they can't be read now. */
  page(clientId: string, after: number, limit: number): Promise<readonly QueueEntry[]> | readonly QueueEntry[]
  /**
   * Present where `open` can't name every session (an Aedes persistence can't list them): one that is asked for by name. From then on the
   * engine knows it. Rejects when it can't be read now.
   */
  load?(clientId: string): Promise<StoredSession | undefined>
  /** Is the store there? Absent: always. New sessions that need it are refused while it is not. */
  readonly up?: boolean
  close(): Promise<void>
}

export interface StoredState {
  readonly sessions: readonly StoredSession[]
  readonly retained: readonly Message[]
}

/** What a session is, apart from its subscriptions and messages. */
export interface SessionRecord {
  readonly clientId: string
  readonly username?: string
  /** What the ACL asked of the certificate of its last connection. */
  readonly certificate?: CertificateFacts
  readonly version: Version
  /** `listenerKey` of the listener of its last connection. */
  readonly listener?: string
  /** Seconds; `neverExpires`: never. */
  readonly expiryInterval: number
  /** When it ends, milliseconds since 1970; absent while it is connected or when it never ends. */
  readonly expiresAt?: number
  /** When its connection ended, milliseconds since 1970; absent while it is connected. */
  readonly leftAt?: number
  readonly will?: StoredWill
}

export interface StoredWill {
  readonly message: Message
  /** Seconds. */
  readonly delayInterval: number
  /** Seconds from its publication on. */
  readonly messageExpiryInterval?: number
  /** When it is published, milliseconds since 1970; absent while its connection lives. */
  readonly dueAt?: number
}

export interface StoredSession extends SessionRecord {
  readonly subscriptions: readonly Subscription[]
  /** The highest sequence of its queue, 0 if there never was one. */
  readonly lastSequence: number
  /** Entries in its queue, and the bytes of their payloads. */
  readonly queued: { readonly messages: number; readonly bytes: number }
  /** QoS 2 messages whose PUBREL is awaited, by the client's packet identifier. */
  readonly held: ReadonlyMap<number, Message>
  /** The packet identifier that was given last, 0 if none. */
  readonly lastPacketId: number
}

export interface Subscription {
  /** Without the `$share/GROUP/` before it. */
  readonly filter: string
  /** Of a shared subscription. */
  readonly group?: string
  readonly qos: Qos
  readonly noLocal: boolean
  readonly retainAsPublished: boolean
  readonly retainHandling: 0 | 1 | 2
  /** 0: none. */
  readonly identifier: number
}

/** One message for one session. */
export interface QueueEntry {
  readonly clientId: string
  /** Its place in the queue: increasing, not gapless. */
  readonly sequence: number
  readonly message: Message
  /** Of the delivery. */
  readonly qos: Qos
  readonly retain: boolean
  /** 0: none. */
  readonly subscriptionIdentifier: number
  /** Given when it is queued, so that a resend after a crash has the same; 0 with QoS 0. */
  packetId: number
  /** `sent`: its PUBLISH went out at least once, so that the next has DUP. `received`: PUBREC came, PUBREL is what is sent from now on. */
  state: 'queued' | 'sent' | 'received'
  /** The store's own: what the entry lies in. */
  record?: unknown
}

export type Change =
  /**
   * Makes it or replaces what is known of it; subscriptions and queue stay. `lastPacketId`: of a session that comes from another store,
   * where it was given to messages that are no more.
   */
  | { readonly kind: 'session'; readonly session: SessionRecord; readonly lastPacketId?: number }
  /** With all that belongs to it. */
  | { readonly kind: 'drop'; readonly clientId: string }
  /** Replaces one of the same filter and group. */
  | { readonly kind: 'subscribe'; readonly clientId: string; readonly subscription: Subscription }
  | { readonly kind: 'unsubscribe'; readonly clientId: string; readonly filter: string; readonly group?: string }
  /** One message into several queues. With a store that has `load`, also without entries: there may be sessions the engine doesn't know. */
  | { readonly kind: 'enqueue'; readonly message: Message; readonly entries: readonly QueueEntry[] }
  /** Its PUBLISH went out; said when its connection ends, or where it got its packet identifier only then. Nobody waits for it. */
  | { readonly kind: 'sent'; readonly entry: QueueEntry }
  /** PUBREC came for it. */
  | { readonly kind: 'received'; readonly entry: QueueEntry }
  /** PUBACK or PUBCOMP came for it, or it was dropped. */
  | { readonly kind: 'done'; readonly entry: QueueEntry }
  /** A QoS 2 message came in; kept until PUBREL. Replaces one of the same identifier. */
  | { readonly kind: 'hold'; readonly clientId: string; readonly packetId: number; readonly message: Message }
  | { readonly kind: 'release'; readonly clientId: string; readonly packetId: number }
  /** Without a message: removed. */
  | { readonly kind: 'retain'; readonly topic: string; readonly message?: Message }
