// What outlives a connection: subscriptions, the queue towards the client with its window, QoS 2 messages that wait for their PUBREL,
// the will. A session that ends with its connection keeps all of it here; the queue of one that doesn't lies in the store, and only what
// is under way and what comes next is here.

import type { Decision } from '../auth/acl.js'
import type { Identity, Connection as Transport } from '../auth/identity.js'
import type { DeliveryConfig, LimitsConfig } from '../config/types.js'
import type { Log } from '../log-events.js'
import type { Message } from '../message.js'
import { neverExpires, type Qos, type Version } from '../protocol/packets.js'
import type { QueueEntry, SessionRecord, Store, StoredSession, StoredWill, Subscription } from '../storage.js'
import { Deque } from './deque.js'
import { Entry } from './entry.js'
import type { EntryTaker, Ledger } from './ledger.js'
import { PacketRing } from './packet-ring.js'
import type { Turns } from './turns.js'

/** What a session asks of the broker it lives in. */
export interface SessionHost {
  readonly log: Log
  readonly limits: LimitsConfig
  readonly delivery: DeliveryConfig
  readonly store: Store
  readonly ledger: Ledger
  readonly turns: Turns
  /** Raised whenever a decision may be another one. */
  readonly policyVersion: number
  mayRead(session: Session, topic: string): Decision
  mayWrite(session: Session, topic: string): Decision
  /** It is not sent a message that it may not read: for the log, and counted. */
  deniedDelivery(session: Session, message: Message, decision: Decision): void
  /** It is, and the file of `#!acl_shadow` says that it may not. */
  shadowedDelivery(session: Session, message: Message, shadow: Decision): void
  /** What the embedder's hook makes of a delivery; undefined: nothing is delivered. */
  readonly forward: ((session: Session, message: Message) => Message | undefined) | undefined
  /** The retained messages that a new subscription gets. */
  replayOf(session: Session, subscription: Subscription): Replay
  /** One that a replay has come to. */
  deliverRetained(session: Session, subscription: Subscription, message: Message, connection: Receiver): void
  /** A message was dropped for want of room. */
  dropped(): void
}

/** What a session asks of the connection it has. */
export interface Receiver {
  /** CONNACK went out, and it is not being closed. */
  readonly isReady: boolean
  readonly hasRoom: boolean
  /** It doesn't take what it was sent: QoS 0 messages may be dropped now. */
  readonly isBehind: boolean
  /** How many QoS 1 and 2 messages the client takes at a time. */
  readonly receiveMaximum: number
  /** False: the client would not take a packet of that size. */
  sendQueued(entry: QueueEntry): boolean
  /** QoS 0, now or never. */
  sendLive(message: Message, retain: boolean, subscriptionIdentifier: number): void
  sendPubrel(packetId: number): void
  /** Another connection has its session now. */
  displaced(): void
}

/** Retained messages for a new subscription, one step at a time. */
export interface Replay {
  readonly subscription: Subscription
  /** `pause`: time to look at the clock. */
  next(): Message | 'pause' | undefined
}

/** An acknowledgement that doesn't belong to what it answers [MQTT-4.3.2, MQTT-4.3.3]. */
export type AckFault = 'protocol error'

/** A QoS 2 message until its PUBREL. */
export interface Held {
  readonly packetId: number
  readonly message: Message
  /** How often it came again. */
  repeats: number
}

/** As many entries of a stored queue are here, ahead of the window, as long as the queue has no more than so many bytes. */
const lookahead = 1000
const lookaheadBytes = 1_048_576
const pageSize = 200
/** A store that could not be read is asked again after so many milliseconds. */
const readPause = 1000
/** With so many in a queue packet identifiers may meet again: which is free is looked for when the packet is sent. */
const manyIds = 60_000
const maxPacketId = 65_535
/** Filters that are unsubscribed before their retained messages come may stay in the list as long as they are no more than the others, and so many. */
const mostForgotten = 16
/** Packets between two looks at the clock. */
const perLook = 32

/** Sessions made so far. */
let made = 0

export class Session implements EntryTaker {
  /** Later ones have higher numbers. */
  readonly number = ++made
  readonly clientId: string
  readonly subscriptions = new Map<string, Subscription>()
  identity: Identity
  version: Version
  /** The transport it came by last; absent after a restart. */
  transport: Transport | undefined
  connection: Receiver | undefined
  /** Seconds; `neverExpires`. */
  expiryInterval: number
  /** Milliseconds since 1970. */
  expiresAt: number | undefined
  /** When its connection ended, milliseconds since 1970; undefined: it has one, or nobody knows. */
  leftAt: number | undefined
  will: StoredWill | undefined
  /** The connection whose will it is, until that is sent or void; absent after a restart. */
  testator: Receiver | undefined
  /** Of the listener of its last connection, as `listenerKey` gives it. */
  listenerName: string | undefined
  /** The store knows it: it outlives its connection, or did so before. */
  isStored: boolean
  readonly #host: SessionHost
  /** Sent and not done. */
  readonly #inflight = new PacketRing<QueueEntry>()
  #inflightBytes = 0
  readonly #held = new PacketRing<Held>()
  #heldBytes = 0
  /** Those that PUBREL let go and that are on their way over several turns; made for the first. */
  #leaving: Map<number, Message> | undefined
  /** What comes next, in order. */
  readonly #next = new Deque<QueueEntry>()
  /** All that is not under way, whether here, in the store or on its way there. */
  #queued = 0
  #queuedBytes = 0
  /** So many of them are on their way to the store. */
  #untaken = 0
  #lastSequence: number
  #lastPacketId: number
  /** The store has more than is here, behind this sequence. */
  #isBehind: boolean
  #readUntil = 0
  /** The last that ever came from the store. */
  #pagedUntil = 0
  /** All up to here was forgotten; what of it was on its way to the store goes when it gets there. */
  #emptiedUntil = 0
  #reading = false
  /** One came while the store was read: it may not have been among what was read. */
  #missed = false
  /** Entries up to here are judged again before they are sent: the username or the rules may be others. */
  #judgeUntil = 0
  /** The host's, when the last one came into the queue. */
  #policyVersion: number
  /** Nobody comes back to it: it is not in the broker's list any more, and takes nothing. */
  hasEnded = false
  /** The embedder is asked about entries up to here: he was not while the client was away, or may think otherwise now. */
  #askUntil = 0
  #saidDropping = false
  /**
   * Up to here entries may have been sent before the broker died, which says it of none: what was acknowledged last was still to be written,
   * so that more than a window may be under way. 0: no such entry is left.
   */
  #maySentUntil = 0
  /** Filters whose retained messages are to come, each once, with the subscription that asked last; and the one whose come now. */
  readonly #replays = new Deque<string>()
  readonly #asking = new Map<string, Subscription>()
  #replay: Replay | undefined
  #pumping = false
  /** Its part of this turn is used up. */
  #isResting = false

  constructor(host: SessionHost, record: SessionRecord, stored?: StoredSession) {
    this.#host = host
    this.#policyVersion = host.policyVersion
    this.clientId = record.clientId
    this.identity = identityIn(record)
    this.version = record.version
    this.expiryInterval = record.expiryInterval
    this.expiresAt = record.expiresAt
    this.leftAt = record.leftAt
    this.will = record.will
    this.listenerName = record.listener
    this.isStored = record.expiryInterval > 0
    this.#lastSequence = stored?.lastSequence ?? 0
    this.#lastPacketId = stored?.lastPacketId ?? 0
    this.#queued = stored?.queued.messages ?? 0
    this.#queuedBytes = stored?.queued.bytes ?? 0
    this.#isBehind = this.#queued > 0
    if (stored !== undefined && stored.leftAt === undefined && host.store.load === undefined) this.#maySentUntil = stored.lastSequence
    for (const [packetId, message] of stored?.held ?? []) this.hold(packetId, message)
  }

  /** Its time is up, and no sweep has come to it: there is one in a second, and after a start there was none. */
  get isOver(): boolean {
    return this.connection === undefined && this.expiresAt !== undefined && this.expiresAt <= Date.now()
  }

  /** Messages for the client, sent or not. */
  get pending(): number {
    return this.#queued + this.#inflight.size
  }

  get pendingBytes(): number {
    return this.#queuedBytes + this.#inflightBytes
  }

  get inflight(): number {
    return this.#inflight.size
  }

  /** Sent and not done, in the order of sending, which is that of the queue. */
  underWay(): readonly QueueEntry[] {
    return this.#inflight.all().sort((a, b) => a.sequence - b.sequence)
  }

  /** All that is here for the client, in order; of a stored session the store has the rest. */
  waiting(): readonly QueueEntry[] {
    return [...this.underWay(), ...this.#next]
  }

  /** What a store is to know. */
  get record(): SessionRecord {
    const { clientId, identity, version, expiryInterval, expiresAt, will, listenerName } = this
    // Where the broker died under it that is still to be known after another crash.
    const leftAt = this.#maySentUntil > 0 && this.pending > 0 ? undefined : this.leftAt
    return {
      clientId,
      version,
      expiryInterval,
      ...(identity.username !== undefined && { username: identity.username }),
      ...(identity.certificate !== undefined && { certificate: identity.certificate }),
      ...(listenerName !== undefined && { listener: listenerName }),
      ...(expiresAt !== undefined && { expiresAt }),
      ...(leftAt !== undefined && { leftAt }),
      ...(will !== undefined && { will })
    }
  }

  /**
   * Puts a message into the queue; undefined: there is no room, or it is not one that waits. For a stored session the entry counts once it
   * is committed: then `take` it.
   */
  enqueue(message: Message, qos: Qos, retain: boolean, subscriptionIdentifier: number): QueueEntry | undefined {
    if (!this.#hasPlace(qos)) {
      this.#drop()
      return undefined
    }
    // With a store that is this memory it may lie here for days.
    if (this.connection === undefined && this.#host.store.isDurableAtOnce) message.settle()
    else message.keep()
    this.#noticePolicy()
    const packetId = qos === 0 ? 0 : this.#nextPacketId(this.pending < manyIds)
    this.#queued += 1
    this.#queuedBytes += message.payloadLength
    this.#untaken += 1
    this.#lastSequence += 1
    return new Entry(this.clientId, this.#lastSequence, message, qos, retain, subscriptionIdentifier, packetId)
  }

  /** The entry is durable, or need not be: it is sent when its turn comes. */
  take(entry: QueueEntry): void {
    this.#untaken -= 1
    if (entry.sequence <= this.#emptiedUntil) {
      this.#done(entry)
      return
    }
    // The store gave it already, before it said that the entry is durable.
    if (entry.sequence <= this.#pagedUntil) return
    if (this.isStored && (this.connection === undefined || this.#isBehind || this.#isFarAhead)) {
      this.#isBehind = true
      this.#missed = true
    } else {
      this.#next.push(entry)
      this.#readUntil = entry.sequence
    }
    this.pump()
  }

  get #isFarAhead(): boolean {
    const { size } = this.#next
    return size >= lookahead || (size > 0 && this.#queuedBytes > lookaheadBytes)
  }

  /**
   * Its retained messages are sent as there is room, behind what is queued, from the next `pump` on. A filter that waits for its own already
   * waits once, with what was asked last: they come behind both SUBACKs [MQTT-3.8.4-3], and who asks thousands of times before he reads costs
   * no more.
   */
  replayLater(subscription: Subscription): void {
    const { filter } = subscription
    if (!this.#asking.has(filter)) this.#replays.push(filter)
    this.#asking.set(filter, subscription)
  }

  /** It has unsubscribed from it: what is left of its retained messages doesn't come [MQTT-3.10.4-2]. */
  forgetReplay(filter: string): void {
    if (this.#replay?.subscription.filter === filter) this.#replay = undefined
    if (!this.#asking.delete(filter) || this.#replays.size < 2 * this.#asking.size + mostForgotten) return
    this.#replays.clear()
    for (const left of this.#asking.keys()) this.#replays.push(left)
  }

  /** Sends what may be sent now; what takes long, over several turns. */
  pump(): void {
    const { connection } = this
    if (!connection?.isReady || this.#pumping || this.#isResting) return
    this.#pumping = true
    let count = 0
    while (connection.hasRoom && (this.#sendNext(connection) || this.#replayNext(connection))) {
      if (++count % perLook === 0 && this.#host.turns.isOver) {
        this.#rest()
        break
      }
    }
    this.#pumping = false
  }

  #rest(): void {
    this.#isResting = true
    this.#host.turns.later(() => {
      this.#isResting = false
      this.pump()
    })
  }

  /** A new connection: what was under way is sent again, in order and with its identifiers, before anything else [MQTT-4.4.0-1]. */
  resume(connection: Receiver): void {
    this.connection = connection
    this.#judgeUntil = this.#lastSequence
    this.#askUntil = this.#lastSequence
    this.#saidDropping = false
    this.#requeueInflight()
    for (const held of this.#held.all()) {
      const { packetId } = held
      held.repeats = 0
      if (this.#host.mayWrite(this, held.message.topic).allowed) continue
      this.release(packetId)
      if (this.isStored) this.#host.ledger.record({ kind: 'release', clientId: this.clientId, packetId })
    }
  }

  // Other rules: what is in the queue was judged by the old ones.
  #noticePolicy(): void {
    const { policyVersion } = this.#host
    if (this.#policyVersion === policyVersion) return
    this.#policyVersion = policyVersion
    this.#judgeUntil = this.#lastSequence
  }

  /** Its connection is gone. */
  suspend(): void {
    this.connection = undefined
    this.#replays.clear()
    this.#asking.clear()
    this.#replay = undefined
    if (!this.isStored) return
    this.#keepInflight()
    for (const entry of this.underWay()) if (entry.state === 'sent') this.#host.ledger.record({ kind: 'sent', entry })
    const { first } = this.#next
    if (first === undefined) return
    // The store has them.
    this.#isBehind = true
    this.#readUntil = first.sequence - 1
    this.#next.clear()
  }

  /** PUBACK came. An unknown identifier is nothing to complain about. */
  puback(packetId: number): QueueEntry | AckFault | undefined {
    const entry = this.#inflight.get(packetId)
    if (entry === undefined) return undefined
    if (entry.qos !== 1) return 'protocol error'
    this.#finish(entry)
    return entry
  }

  /** PUBREC came. The entry whose PUBREL is to be sent; undefined: nobody knows it. */
  pubrec(packetId: number, reasonCode: number): QueueEntry | AckFault | undefined {
    const entry = this.#inflight.get(packetId)
    if (entry === undefined) return undefined
    if (entry.qos !== 2) return 'protocol error'
    if (reasonCode >= 0x80) this.#finish(entry)
    else entry.state = 'received'
    return entry
  }

  /** PUBCOMP came. */
  pubcomp(packetId: number): QueueEntry | AckFault | undefined {
    const entry = this.#inflight.get(packetId)
    if (entry === undefined) return undefined
    if (entry.state !== 'received') return 'protocol error'
    this.#finish(entry)
    return entry
  }

  /** The message that PUBREL lets go; undefined: nobody knows it. Where the session is stored the caller records it. */
  release(packetId: number): Message | undefined {
    const held = this.#held.get(packetId)
    if (held === undefined) return undefined
    this.#held.delete(held)
    this.#heldBytes -= held.message.weight
    return held.message
  }

  /** Keeps a QoS 2 message until its PUBREL, instead of one of the same identifier. Where the session is stored the caller records it. */
  hold(packetId: number, message: Message): void {
    this.release(packetId)
    this.#held.add({ packetId, message, repeats: 0 })
    this.#heldBytes += message.weight
  }

  /** What was released takes several turns to get to everybody. */
  beginLeaving(packetId: number, message: Message): void {
    this.#leaving ??= new Map()
    this.#leaving.set(packetId, message)
  }

  /** It got there. The identifier may be another's by now. */
  hasLeft(packetId: number, message: Message): void {
    if (this.#leaving?.get(packetId) === message) this.#leaving.delete(packetId)
  }

  isLeaving(packetId: number): boolean {
    return this.#leaving?.has(packetId) === true
  }

  /** QoS 2 messages that wait for their PUBREL. */
  get held(): number {
    return this.#held.size
  }

  /** One of them. */
  heldAs(packetId: number): Held | undefined {
    return this.#held.get(packetId)
  }

  /** What they take: a topic may be 64 KB, and so may properties. */
  get heldBytes(): number {
    return this.#heldBytes
  }

  /** Forgets all messages for the client. */
  async empty(): Promise<void> {
    const rest = [...this.underWay(), ...this.#next]
    for (const entry of rest) this.#done(entry)
    const mayBeStored = this.#isBehind
    const until = this.#lastSequence
    let readUntil = this.#readUntil
    this.#readUntil = until
    this.#emptiedUntil = until
    this.#inflight.clear()
    this.#next.clear()
    this.#inflightBytes = 0
    this.#queued = 0
    this.#queuedBytes = 0
    this.#isBehind = false
    if (!mayBeStored) return
    for (let page = await this.#host.store.page(this.clientId, readUntil, pageSize); page.length > 0; ) {
      for (const entry of page) {
        // It came later.
        if (entry.sequence > until) return
        this.#done(entry)
        readUntil = entry.sequence
      }
      page = await this.#host.store.page(this.clientId, readUntil, pageSize)
    }
  }

  // False: the queue is empty. A queue that has to wait makes the replays wait too.
  #sendNext(connection: Receiver): boolean {
    let entry = this.#next.first
    if (entry === undefined && this.#isBehind && this.#read()) entry = this.#next.first
    if (entry === undefined || (entry.qos > 0 && !this.#isWindowOpen(connection))) return false
    this.#next.shift()
    this.#queued -= 1
    this.#queuedBytes -= entry.message.payloadLength
    this.#send(entry, connection)
    return true
  }

  #replayNext(connection: Receiver): boolean {
    // What has QoS 0 would be dropped for who is behind.
    if (this.#queued > 0 || connection.isBehind) return false
    if (this.#replay === undefined) {
      const filter = this.#replays.shift()
      if (filter === undefined) return false
      const subscription = this.#asking.get(filter)
      // Unsubscribed meanwhile.
      if (subscription === undefined) return true
      this.#asking.delete(filter)
      this.#replay = this.#host.replayOf(this, subscription)
    }
    const replay = this.#replay
    const message = replay.next()
    if (message === 'pause') {
      if (!this.#host.turns.isOver) return true
      this.#rest()
      return false
    }
    if (message === undefined) this.#replay = undefined
    else this.#host.deliverRetained(this, replay.subscription, message, connection)
    return true
  }

  #send(entry: QueueEntry, connection: Receiver): void {
    const { message } = entry
    if (entry.state === 'received') {
      this.#inflight.add(entry)
      this.#inflightBytes += message.payloadLength
      connection.sendPubrel(entry.packetId)
      return
    }
    this.#noticePolicy()
    const isStale = message.expiresAt !== Number.POSITIVE_INFINITY && message.hasExpired(Date.now())
    const isAllowed = entry.sequence > this.#judgeUntil || this.#mayStillRead(message)
    // Its identifier may have come round to another that was faster.
    const needsId = entry.qos > 0 && (entry.packetId === 0 || (entry.state === 'queued' && this.#inflight.has(entry.packetId)))
    if (needsId) entry.packetId = this.#nextPacketId(true)
    if (entry.sequence > this.#maySentUntil) this.#maySentUntil = 0
    else if (entry.qos > 0) entry.state = 'sent'
    const shown = entry.sequence > this.#askUntil ? entry : this.#askAbout(entry)
    if (isStale || !isAllowed || shown === undefined || !connection.sendQueued(shown)) {
      this.#done(entry)
      return
    }
    if (entry.qos === 0) {
      this.#done(entry)
      return
    }
    entry.state = 'sent'
    this.#inflight.add(entry)
    this.#inflightBytes += message.payloadLength
    // After a crash it comes again with this one.
    if (needsId && this.isStored) this.#host.ledger.record({ kind: 'sent', entry })
  }

  #mayStillRead(message: Message): boolean {
    const decision = this.#host.mayRead(this, message.topic)
    if (!decision.allowed) this.#host.deniedDelivery(this, message, decision)
    return decision.allowed
  }

  #askAbout(entry: QueueEntry): QueueEntry | undefined {
    const { forward } = this.#host
    if (forward === undefined) return entry
    const message = forward(this, entry.message)
    return message === undefined || message === entry.message ? message && entry : { ...entry, message }
  }

  // The next page of the store's queue. False: nothing came now.
  #read(): boolean {
    if (this.#reading) return false
    this.#reading = true
    this.#missed = false
    const page = this.#host.store.page(this.clientId, this.#readUntil, pageSize)
    if (!(page instanceof Promise)) return this.#pageRead(page)
    const { connection } = this
    page
      .then(entries => {
        this.#reading = false
        // Somebody else reads for the next connection.
        if (this.connection === connection) this.#pageRead(entries)
        this.pump()
      })
      .catch(() => {
        // The store says so in the log.
        this.#reading = false
        setTimeout(() => this.pump(), readPause).unref()
      })
    return false
  }

  #pageRead(entries: readonly QueueEntry[]): boolean {
    this.#reading = false
    for (const entry of entries) {
      // Forgotten while it was read.
      if (entry.sequence <= this.#readUntil) continue
      this.#next.push(entry)
      this.#readUntil = entry.sequence
    }
    this.#pagedUntil = Math.max(this.#pagedUntil, this.#readUntil)
    if (entries.length < pageSize && !this.#missed) this.#isBehind = false
    return entries.length > 0 || this.#missed
  }

  #requeueInflight(): void {
    this.#next.prepend(this.underWay())
    this.#queued += this.#inflight.size
    this.#queuedBytes += this.#inflightBytes
    this.#inflight.clear()
    this.#inflightBytes = 0
  }

  // What was to be sent again and was not: the store doesn't know that it was sent, and what is done since may be in it still.
  #keepInflight(): void {
    for (let entry = this.#next.first; entry !== undefined && entry.state !== 'queued'; entry = this.#next.first) {
      this.#next.shift()
      this.#queued -= 1
      this.#queuedBytes -= entry.message.payloadLength
      this.#inflight.add(entry)
      this.#inflightBytes += entry.message.payloadLength
    }
  }

  #finish(entry: QueueEntry): void {
    this.#inflight.delete(entry)
    this.#inflightBytes -= entry.message.payloadLength
    this.#done(entry)
  }

  #done(entry: QueueEntry): void {
    if (this.isStored) this.#host.ledger.record({ kind: 'done', entry })
  }

  // Mosquitto's db__ready_for_flight.
  #isWindowOpen({ receiveMaximum }: Receiver): boolean {
    const { maxInflightMessages, maxInflightBytes } = this.#host.limits
    const { size } = this.#inflight
    if (size >= receiveMaximum || (maxInflightMessages > 0 && size >= maxInflightMessages)) return false
    return maxInflightBytes === 0 || this.#inflightBytes < maxInflightBytes
  }

  // Mosquitto's db__ready_for_queue: what is under way doesn't count while the client is connected. Nor does what the window has room for, and
  // only waits for the store or for the end of a write.
  #hasPlace(qos: Qos): boolean {
    const { connection } = this
    const { maxQueuedMessages, maxQueuedBytes } = this.#host.limits
    const free = connection === undefined || qos === 0 ? 0 : this.#freeWindow(connection)
    if (this.#queued < free) return true
    const messages = connection === undefined ? this.pending : Math.max(0, this.#queued - free)
    if (maxQueuedMessages > 0 && messages >= maxQueuedMessages) return false
    if (maxQueuedBytes === 0) return true
    // Their share of the bytes: which of them come into the window is known, but not here.
    const bytes = connection === undefined ? this.pendingBytes : messages > 0 ? (this.#queuedBytes * messages) / this.#queued : 0
    return bytes < maxQueuedBytes
  }

  // How many of the queue it takes at most. Without a limit who doesn't read has room for no more than waits for the store: the rest is his queue.
  #freeWindow(connection: Receiver): number {
    const { maxInflightMessages, maxInflightBytes } = this.#host.limits
    if (maxInflightBytes > 0 && this.#inflightBytes + this.#queuedBytes >= maxInflightBytes) return 0
    if (maxInflightMessages === 0 && connection.isBehind) return this.#untaken
    const { receiveMaximum } = connection
    const window = maxInflightMessages > 0 && maxInflightMessages < receiveMaximum ? maxInflightMessages : receiveMaximum
    return Math.max(0, window - this.#inflight.size)
  }

  #drop(): void {
    this.#host.dropped()
    this.sayDropping()
  }

  /** Once for each connection, as Mosquitto. */
  sayDropping(): void {
    if (this.#saidDropping) return
    this.#saidDropping = true
    this.#host.log.write('outgoingDropped', { clientId: this.clientId })
  }

  // From 1 on, one more each time. Never one that is under way is sent [MQTT-2.2.1-3]; in a queue that is longer than there are identifiers
  // they go round, as Mosquitto's do.
  #nextPacketId(isFree: boolean): number {
    do this.#lastPacketId = (this.#lastPacketId % maxPacketId) + 1
    while (isFree && this.#inflight.has(this.#lastPacketId))
    return this.#lastPacketId
  }
}

/** When a session that was left then ends, milliseconds since 1970; undefined: never. `limit`: `persistent_client_expiration`, seconds. */
export function sessionEnd(expiryInterval: number, limit: number | undefined, leftAt: number): number | undefined {
  const seconds = Math.min(expiryInterval, limit ?? neverExpires)
  return seconds >= neverExpires ? undefined : leftAt + seconds * 1000
}

function identityIn({ clientId, username, certificate }: SessionRecord): Identity {
  return { clientId, ...(username !== undefined && { username }), ...(certificate !== undefined && { certificate }) }
}
