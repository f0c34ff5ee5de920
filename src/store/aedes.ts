// Our store over any Aedes persistence (promise form), with what that contract can promise. It knows subscriptions, queues, incoming QoS 2
// and retained messages; what it has no place for travels where every persistence lets it through:
//
// | what | where | kept by |
// |---|---|---|
// | packet identifier of a queued message | low 16 bits of its `brokerCounter` | all |
// | PUBREC came | `messageId` above 65535 | all |
// | which QoS 2 identifiers are held | a subscription `$held#ID` | all |
// | username, facts of the certificate, listener, version, expiry, will of a session | field `facts` of a subscription `$session#` | who keeps fields it doesn't know: Redis |
// | properties | by name, as Aedes has them; as bytes where names lose something | all |
// | publisher of a message | `clientId`; of a retained one with `username`, `listener` and `certificate` | all; retained: who keeps fields it doesn't know |
// | QoS and retain flag as published, of a queued message | nowhere: those of its delivery are kept | |
// | last sequence and packet identifier | nowhere: those of the queue | |
// | that a queued message was sent | nowhere | |
//
// Such a filter has its `#` where no client may write one. A commit goes on where it stopped, with pauses, until it is done or the store
// is closed; then it stays pending for ever, which acknowledges nothing. Only the place of an entry in the persistence is held in
// memory, not its message.

import { EventEmitter } from 'node:events'
import { Readable } from 'node:stream'
import { setImmediate as nextTurn, setTimeout as pause } from 'node:timers/promises'
import type { Message } from '../message.js'
import type { Qos } from '../protocol/packets.js'
import type { Change, QueueEntry, SessionRecord, Store, StoredSession, StoredState, Subscription } from '../storage.js'
import { matchesFilter } from '../topic.js'
import {
  counterOf,
  entryOf,
  entryPacket,
  heldPacket,
  isFields,
  isPubrel,
  isRemains,
  messageOf,
  type Packet,
  packetIdOf,
  qosOf,
  readFacts,
  readPacket,
  retainedPacket,
  runId,
  wasReceived,
  withoutFacts,
  writeFacts
} from './aedes-packet.js'
import { joinSharedFilter, splitSharedFilter } from './shared-filter.js'

interface Client {
  readonly id: string
}

/** The part of Aedes' persistence contract that is used. Wills are the engine's: nothing but Aedes' own sweep would read them. */
export interface AedesPersistence {
  setup(broker: AedesBroker): Promise<unknown>
  storeRetained(packet: object): Promise<unknown>
  createRetainedStreamCombi(filters: readonly string[]): AsyncIterable<unknown>
  addSubscriptions(client: Client, subscriptions: readonly object[]): Promise<unknown>
  removeSubscriptions(client: Client, filters: readonly string[]): Promise<unknown>
  subscriptionsByClient(client: Client): Promise<unknown>
  subscriptionsByTopic(topic: string): Promise<unknown>
  cleanSubscriptions(client: Client): Promise<unknown>
  outgoingEnqueue(subscription: { readonly clientId: string }, packet: object): Promise<unknown>
  outgoingUpdate(client: Client, packet: object): Promise<unknown>
  outgoingClearMessageId(client: Client, packet: object): Promise<unknown>
  outgoingStream(client: Client): AsyncIterable<unknown>
  incomingStorePacket(client: Client, packet: object): Promise<unknown>
  incomingGetPacket(client: Client, packet: object): Promise<unknown>
  incomingDelPacket(client: Client, packet: object): Promise<unknown>
}

type Listener = (packet: object, done: () => void) => void

/** What a persistence asks of its broker: an Aedes. Those that several brokers share tell each other of subscriptions by it. */
export interface AedesBroker {
  readonly id: string
  publish(packet: { readonly topic: string }, done: (error?: Error) => void): void
  subscribe(filter: string, listener: Listener, done: (error?: Error) => void): void
  unsubscribe(filter: string, listener: Listener, done: (error?: Error) => void): void
}

export interface AedesStoreOptions {
  /** Absent: the persistence talks to itself. */
  readonly broker?: AedesBroker
  readonly availability?: { readonly up: boolean; whenUp(): Promise<void> }
  /** Every session there is, if the back end can say: then `open` gives them all, and there is no `load`. */
  clientIds?(): Promise<readonly string[]>
  /** Removes what a removal that was cut off may have left of a queued packet. */
  sweep?(brokerId: string, brokerCounter: number): Promise<unknown>
  /** Everything was read: what is queued, by broker id, colon, counter. What is queued from now on has this broker id. */
  opened?(brokerId: string, queued: ReadonlySet<string>): void
  /** A commit did not go through; once per trouble. It is tried again. */
  failed(error: unknown): void
  /** It went through after all. */
  mended?(): void
}

export function openAedesStore(persistence: AedesPersistence, options: AedesStoreOptions): Store {
  return new AedesStore(persistence, options)
}

/** Where an entry lies. */
interface Place {
  readonly sequence: number
  readonly brokerId: string
  readonly brokerCounter: number
  packetId: number
  /** Aedes replaced the message by its PUBREL. */
  readonly pubrel: boolean
  state: QueueEntry['state']
  /** Being written. */
  pending: boolean
}

/** A stream that a page left, to be gone on with. */
interface Cursor {
  readonly packets: AsyncIterator<unknown>
  /** The sequence of the last entry that was taken from it. */
  end: number
}

type Step = () => Promise<unknown>

/** Steps of one lane follow one another; lanes are independent. */
type Lanes = Map<string, Step[]>

type Enqueuing = Extract<Change, { kind: 'enqueue' }>

const sessionText = '$session#'
const heldText = '$held#'
/** Before a filter or topic that can't lie there as it is: one level, of which the persistence's routing never sees more. */
const escapeText = '$filter#'
/** The persistences' own routing throws on more, for ever, and their list of retained messages with it. A client may have 201. */
const maxLevels = 100
const firstPause = 100
const longestPause = 3000
/** Sessions that are read, entries that are removed at a time. */
const atOnce = 32
/** Streams that wait between two pages. */
const maxCursors = 64
const lastId = 65_535
/** Queues that one message is put into at a time. */
const perWave = 250
/** Of a commit that the close overtook. */
const never = new Promise<never>(() => {})

class AedesStore implements Store {
  readonly isDurableAtOnce = false
  readonly load?: (clientId: string) => Promise<StoredSession | undefined>
  readonly #persistence: AedesPersistence
  readonly #options: AedesStoreOptions
  readonly #sessions = new Map<string, Places>()
  readonly #cursors = new Set<Places>()
  /** Never one that was used before: the packets of an earlier start would be overwritten. */
  readonly #run = runId()
  readonly #closed = new AbortController()
  #counter = 0
  #turn: Promise<unknown> = Promise.resolve()
  #troubled = false

  constructor(persistence: AedesPersistence, options: AedesStoreOptions) {
    this.#persistence = persistence
    this.#options = options
    // What is loaded must not miss what is being queued.
    if (options.clientIds === undefined) this.load = clientId => this.#load(clientId)
  }

  get up(): boolean {
    return !this.#troubled && !this.#closed.signal.aborted && (this.#options.availability?.up ?? true)
  }

  async open(): Promise<StoredState> {
    const { availability } = this.#options
    for (;;) {
      try {
        return await this.#open()
      } catch (error) {
        // What goes away is waited for; what answers with an error is not what was meant.
        if (availability === undefined || availability.up || this.#closed.signal.aborted) throw error
        await this.#untilUp(availability)
      }
    }
  }

  commit(changes: readonly Change[]): Promise<void> {
    return this.#inTurn(async () => {
      for (const lanes of this.#waves(changes)) {
        const isLarge = lanes.size >= perWave
        await this.#complete(lanes)
        if (isLarge) await nextTurn()
      }
    })
  }

  async page(clientId: string, after: number, limit: number): Promise<readonly QueueEntry[]> {
    const places = this.#sessions.get(clientId)
    const entries: QueueEntry[] = []
    if (places === undefined || limit <= 0) return entries
    let end = after
    let cursor = this.#takeCursor(places, after)
    for (;;) {
      if (end >= places.lastSequence) break
      // A stream shows what was there when it began: only the end of a new one is the end.
      const isNew = cursor === undefined
      cursor ??= { packets: quiet(this.#persistence.outgoingStream({ id: clientId })), end }
      const more = await collect(clientId, places, cursor, entries, limit)
      end = cursor.end
      if (more) {
        this.#keepCursor(places, cursor)
        return entries
      }
      cursor = undefined
      if (isNew) break
    }
    cursor?.packets.return?.().catch(() => {})
    return entries
  }

  async close(): Promise<void> {
    this.#closed.abort()
    for (const places of this.#cursors) this.#dropCursor(places)
  }

  async #open(): Promise<StoredState> {
    await this.#persistence.setup(this.#options.broker ?? loopback(this.#run))
    const retained = new Map<string, Message>()
    for await (const value of quiet(this.#persistence.createRetainedStreamCombi(['#', '$SYS/#']))) {
      const packet = readPacket(value)
      if (packet === undefined) continue
      const topic = unescaped(packet.topic)
      retained.set(topic, messageOf({ ...packet, topic }))
    }
    const sessions: StoredSession[] = []
    const queued = new Set<string>()
    const clientIds = (await this.#options.clientIds?.()) ?? []
    for (let i = 0; i < clientIds.length; i += atOnce) {
      for (const session of await Promise.all(clientIds.slice(i, i + atOnce).map(clientId => this.#read(clientId)))) {
        if (session === undefined) continue
        sessions.push(session)
        if (this.#options.opened !== undefined) this.#sessions.get(session.clientId)?.addNames(queued)
      }
    }
    this.#options.opened?.(this.#run, queued)
    return { sessions, retained: [...retained.values()] }
  }

  async #load(clientId: string): Promise<StoredSession | undefined> {
    if (this.#troubled) throw new Error('the store is in trouble')
    return this.#inTurn(() => this.#read(clientId))
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#turn.then(work)
    this.#turn = result.catch(() => {})
    return result
  }

  // Changes of one kind that follow one another touch different things, or go in order within their lane.
  *#waves(changes: readonly Change[]): Generator<Lanes> {
    for (let i = 0; i < changes.length; ) {
      const lanes: Lanes = new Map()
      const batches = new Map<string, Map<string, object>>()
      const first = changes[i]
      if (first?.kind === 'enqueue' && isToMany(first)) {
        yield* this.#parts(first)
        i++
        continue
      }
      for (let change = first; change !== undefined && change.kind === first?.kind && !isToMany(change); change = changes[++i]) {
        this.#plan(change, lanes, batches)
      }
      yield lanes
    }
  }

  // So many queues at a time: it is work in the turns of the event loop that it is done in.
  *#parts({ message, entries }: Enqueuing): Generator<Lanes> {
    for (let at = 0; at < entries.length; at += perWave) {
      const lanes: Lanes = new Map()
      this.#enqueue(entries.slice(at, at + perWave), lanes)
      if (at + perWave >= entries.length) this.#tellStrangers(message, lanes)
      yield lanes
    }
  }

  #enqueue(entries: readonly QueueEntry[], lanes: Lanes): void {
    for (const entry of entries) {
      const places = this.#sessions.get(entry.clientId)
      if (places === undefined) continue
      const place = places.add(entry, this.#run, this.#nextCounter(entry.packetId))
      const packet = entryPacket(entry, place)
      add(lanes, entry.clientId, async () => {
        await this.#persistence.outgoingEnqueue({ clientId: entry.clientId }, packet)
        place.pending = false
      })
    }
  }

  // No lane of theirs: a session that nobody knows has no other changes.
  #tellStrangers(message: Message, lanes: Lanes): void {
    if (this.load !== undefined) add(lanes, '', this.#forStrangers(message))
  }

  #plan(change: Change, lanes: Lanes, batches: Map<string, Map<string, object>>): void {
    switch (change.kind) {
      case 'session':
        add(lanes, change.session.clientId, () => this.#storeSession(change.session))
        return
      case 'drop':
        add(lanes, change.clientId, () => this.#drop(change.clientId))
        return
      case 'subscribe': {
        if (!this.#sessions.has(change.clientId)) return
        const { filter, group } = change.subscription
        const known = batches.get(change.clientId)
        const batch = known ?? new Map<string, object>()
        batch.set(textOf(filter, group), subscriptionOf(change.subscription))
        if (known !== undefined) return
        // All filters of a client at once: ten thousand in one SUBSCRIBE would be as many round trips.
        batches.set(change.clientId, batch)
        add(lanes, change.clientId, () => this.#persistence.addSubscriptions({ id: change.clientId }, [...batch.values()]))
        return
      }
      case 'unsubscribe': {
        if (!this.#sessions.has(change.clientId)) return
        const known = batches.get(change.clientId)
        const batch = known ?? new Map<string, object>()
        batch.set(textOf(change.filter, change.group), change)
        if (known !== undefined) return
        batches.set(change.clientId, batch)
        add(lanes, change.clientId, () => this.#persistence.removeSubscriptions({ id: change.clientId }, [...batch.keys()]))
        return
      }
      case 'enqueue':
        this.#enqueue(change.entries, lanes)
        this.#tellStrangers(change.message, lanes)
        return
      case 'sent':
        return
      case 'received': {
        const place = this.#sessions.get(change.entry.clientId)?.bySequence.get(change.entry.sequence)
        if (place === undefined) return
        add(lanes, change.entry.clientId, async () => {
          const packet = { ...entryPacket(change.entry, place), messageId: wasReceived(place.packetId) }
          await unlessGone(this.#persistence.outgoingUpdate({ id: change.entry.clientId }, packet))
          place.state = 'received'
        })
        return
      }
      case 'done': {
        const places = this.#sessions.get(change.entry.clientId)
        const place = places?.bySequence.get(change.entry.sequence)
        if (places === undefined || place === undefined) return
        // Readers pass it by from now on.
        places.remove(place)
        add(lanes, change.entry.clientId, this.#removal({ id: change.entry.clientId }, place))
        return
      }
      case 'hold': {
        const { clientId, packetId, message } = change
        const places = this.#sessions.get(clientId)
        if (places === undefined) return
        add(lanes, clientId, async () => {
          const client = { id: clientId }
          const storing = this.#persistence.incomingStorePacket(client, heldPacket(packetId, message))
          await both(
            storing,
            places.held.has(packetId) ? undefined : this.#persistence.addSubscriptions(client, [marker(heldText + packetId)])
          )
          places.held.add(packetId)
        })
        return
      }
      case 'release': {
        const { clientId, packetId } = change
        const places = this.#sessions.get(clientId)
        if (places?.held.has(packetId) !== true) return
        add(lanes, clientId, () => this.#release({ id: clientId }, places, packetId))
        return
      }
      case 'retain': {
        const topic = isDeep(change.topic) ? escaped(change.topic) : change.topic
        const packet = { ...retainedPacket(change.topic, change.message), topic }
        add(lanes, change.topic, () => this.#persistence.storeRetained(packet))
      }
    }
  }

  async #complete(lanes: Lanes): Promise<void> {
    for (let wait = firstPause; ; wait = Math.min(2 * wait, longestPause)) {
      if (this.#closed.signal.aborted) return never
      const failures = await attempt(lanes)
      if (lanes.size === 0) break
      if (!this.#troubled && !this.#closed.signal.aborted) {
        this.#troubled = true
        this.#options.failed(failures[0])
      }
      await pause(wait, undefined, { signal: this.#closed.signal }).catch(() => {})
      if (this.#options.availability?.up === false) await this.#untilUp(this.#options.availability)
    }
    if (!this.#troubled) return
    this.#troubled = false
    this.#options.mended?.()
  }

  async #untilUp(availability: { whenUp(): Promise<void> }): Promise<void> {
    const { signal } = this.#closed
    if (signal.aborted) return
    await new Promise<void>((resolve, reject) => {
      const close = () => resolve()
      signal.addEventListener('abort', close, { once: true })
      availability
        .whenUp()
        .finally(() => signal.removeEventListener('abort', close))
        .then(resolve, reject)
    }).catch(() => {})
  }

  #nextCounter(packetId: number): number {
    return counterOf(++this.#counter, packetId)
  }

  async #storeSession(session: SessionRecord): Promise<void> {
    await this.#persistence.addSubscriptions({ id: session.clientId }, [{ ...marker(sessionText), facts: writeFacts(session) }])
    if (!this.#sessions.has(session.clientId)) this.#sessions.set(session.clientId, new Places())
  }

  async #drop(clientId: string): Promise<void> {
    const client = { id: clientId }
    // Those of `open` are all there are.
    if (!this.#sessions.has(clientId) && (this.load === undefined || (await this.#read(clientId)) === undefined)) return
    const places = this.#sessions.get(clientId)
    if (places === undefined) return
    this.#dropCursor(places)
    const queue = [...places.bySequence.values()]
    for (let i = 0; i < queue.length; i += atOnce) {
      const removals = queue.slice(i, i + atOnce).map(async place => {
        await this.#removal(client, place)()
        places.remove(place)
      })
      await both(...removals)
    }
    for (const packetId of places.held) await this.#release(client, places, packetId)
    await this.#persistence.cleanSubscriptions(client)
    this.#sessions.delete(clientId)
  }

  // The contract removes by an identifier that was given by an update: one of its own, so that it can't be another's, given only now. What
  // an update leaves if the removal behind it is cut off has no topic: `#read` ends it.
  #removal(client: Client, { brokerId, brokerCounter, pubrel }: Place): Step {
    const messageId = this.#nextCounter(0)
    let failed = false
    return async () => {
      try {
        const packet = { cmd: pubrel ? 'pubrel' : 'publish', brokerId, brokerCounter, messageId }
        await unlessGone(this.#persistence.outgoingUpdate(client, packet))
        await unlessGone(this.#persistence.outgoingClearMessageId(client, { messageId }))
        if (failed) await this.#options.sweep?.(brokerId, brokerCounter)
      } catch (error) {
        failed = true
        throw error
      }
    }
  }

  async #release(client: Client, places: Places, packetId: number): Promise<void> {
    await both(
      unlessGone(this.#persistence.incomingDelPacket(client, { messageId: packetId })),
      this.#persistence.removeSubscriptions(client, [heldText + packetId])
    )
    places.held.delete(packetId)
  }

  // One copy at the highest QoS, without an identifier: a persistence doesn't tell it here. When the session is known one day, the
  // engine asks its rights before anything goes out.
  #forStrangers(message: Message): Step {
    const told = new Set<string>()
    return async () => {
      if (message.qos === 0) return
      const best = new Map<string, { readonly qos: Qos; readonly retain: boolean }>()
      for (const subscription of listOf(await this.#persistence.subscriptionsByTopic(topLevels(message.topic)))) {
        const { clientId, topic, rap, nl } = subscription
        if (typeof clientId !== 'string' || typeof topic !== 'string' || !matchesFilter(topic, message.topic)) continue
        if (this.#sessions.has(clientId) || told.has(clientId) || (nl === true && message.source?.clientId === clientId)) continue
        const qos = lower(qosOf(subscription.qos), message.qos)
        if (qos > (best.get(clientId)?.qos ?? 0)) best.set(clientId, { qos, retain: rap === true && message.retain })
      }
      const queuing = Array.from(best, async ([clientId, { qos, retain }]) => {
        const entry = { message, qos, retain, subscriptionIdentifier: 0 }
        const packet = entryPacket(entry, { brokerId: this.#run, brokerCounter: this.#nextCounter(0) })
        await this.#persistence.outgoingEnqueue({ clientId }, packet)
        told.add(clientId)
      })
      await both(...queuing)
    }
  }

  async #read(clientId: string): Promise<StoredSession | undefined> {
    const client = { id: clientId }
    const stored = listOf(await this.#persistence.subscriptionsByClient(client))
    if (stored.length === 0) return undefined
    const facts = stored.find(({ topic }) => topic === sessionText)?.facts
    const record = readFacts(clientId, facts) ?? withoutFacts(clientId)
    const places = this.#sessions.get(clientId) ?? new Places()
    const subscriptions: Subscription[] = []
    const held = new Map<number, Message>()
    for (const subscription of stored) {
      if (typeof subscription.topic !== 'string' || subscription.topic === sessionText) continue
      if (!subscription.topic.startsWith(heldText)) {
        subscriptions.push(readSubscription(subscription.topic, subscription))
        continue
      }
      const packetId = Number(subscription.topic.slice(heldText.length))
      const packet = readPacket(await unlessGone(this.#persistence.incomingGetPacket(client, { messageId: packetId })))
      places.held.add(packetId)
      if (packet !== undefined) held.set(packetId, messageOf(packet, record))
    }
    const remains: Place[] = []
    const withoutId: Place[] = []
    const found = new Set<Place>()
    let bytes = 0
    for await (const value of quiet(this.#persistence.outgoingStream(client))) {
      const packet = readPacket(value)
      if (packet === undefined) continue
      if (isRemains(packet)) {
        remains.push(places.placeOf(packet))
        continue
      }
      const place = places.find(packet) ?? places.take(packet)
      // A write that was cut off and repeated is there twice.
      if (found.has(place)) continue
      found.add(place)
      bytes += packet.payload.length
      if (place.packetId === 0 && packet.qos > 0) withoutId.push(place)
    }
    places.number(withoutId)
    for (const place of remains) await this.#removal(client, place)()
    this.#sessions.set(clientId, places)
    return {
      ...record,
      subscriptions,
      held,
      lastSequence: places.lastSequence,
      queued: { messages: places.bySequence.size, bytes },
      lastPacketId: places.lastPacketId
    }
  }

  #takeCursor(places: Places, after: number): Cursor | undefined {
    const { cursor } = places
    if (cursor?.end !== after) {
      this.#dropCursor(places)
      return undefined
    }
    places.cursor = undefined
    this.#cursors.delete(places)
    return cursor
  }

  #keepCursor(places: Places, cursor: Cursor): void {
    this.#dropCursor(places)
    if (this.#closed.signal.aborted) return void cursor.packets.return?.().catch(() => {})
    places.cursor = cursor
    this.#cursors.add(places)
    const [oldest] = this.#cursors
    if (this.#cursors.size > maxCursors && oldest !== undefined) this.#dropCursor(oldest)
  }

  #dropCursor(places: Places): void {
    places.cursor?.packets.return?.().catch(() => {})
    places.cursor = undefined
    this.#cursors.delete(places)
  }
}

/** The queue of a session: where its entries lie. */
class Places {
  readonly bySequence = new Map<number, Place>()
  readonly held = new Set<number>()
  lastSequence = 0
  lastPacketId = 0
  cursor: Cursor | undefined
  readonly #byPacket = new Map<string, Place>()

  add({ sequence, packetId, state }: QueueEntry, brokerId: string, brokerCounter: number): Place {
    return this.#keep({ sequence, brokerId, brokerCounter, packetId, pubrel: false, state, pending: true })
  }

  /** Of an earlier start. */
  take(packet: Packet): Place {
    return this.#keep(this.placeOf(packet))
  }

  placeOf(packet: Packet): Place {
    const { brokerId, brokerCounter } = packet
    return { sequence: this.lastSequence + 1, brokerId, brokerCounter, ...packetIdOf(packet), pubrel: isPubrel(packet), pending: false }
  }

  find({ brokerId, brokerCounter }: Packet): Place | undefined {
    return this.#byPacket.get(`${brokerId}:${brokerCounter}`)
  }

  addNames(to: Set<string>): void {
    for (const name of this.#byPacket.keys()) to.add(name)
  }

  remove(place: Place): void {
    this.bySequence.delete(place.sequence)
    this.#byPacket.delete(`${place.brokerId}:${place.brokerCounter}`)
  }

  #keep(place: Place): Place {
    this.bySequence.set(place.sequence, place)
    this.#byPacket.set(`${place.brokerId}:${place.brokerCounter}`, place)
    this.lastSequence = place.sequence
    if (place.packetId !== 0) this.lastPacketId = place.packetId
    return place
  }

  /** Aedes queues without one, and so do we for a session that nobody knew. */
  number(places: readonly Place[]): void {
    const used = new Set(Array.from(this.bySequence.values(), ({ packetId }) => packetId))
    for (const place of places) {
      if (used.size > lastId) return
      do this.lastPacketId = (this.lastPacketId % lastId) + 1
      while (used.has(this.lastPacketId))
      place.packetId = this.lastPacketId
      used.add(place.packetId)
    }
  }
}

/** Are there more? The entries behind the cursor, until there are enough. */
async function collect(clientId: string, places: Places, cursor: Cursor, entries: QueueEntry[], limit: number): Promise<boolean> {
  while (entries.length < limit) {
    const { done, value } = await cursor.packets.next()
    if (done === true) return false
    const packet = readPacket(value)
    // One that is gone: an older stream may still show it.
    const place = packet && places.find(packet)
    if (packet === undefined || place === undefined || place.sequence <= cursor.end) continue
    // Not committed. What comes behind it isn't either.
    if (place.pending) {
      cursor.packets.return?.().catch(() => {})
      return false
    }
    entries.push(entryOf(clientId, packet, place))
    cursor.end = place.sequence
  }
  return true
}

/** Leaves in `lanes` what has failed and what is behind it. */
function isToMany(change: Change): boolean {
  return change.kind === 'enqueue' && change.entries.length > perWave
}

async function attempt(lanes: Lanes): Promise<unknown[]> {
  const failures: unknown[] = []
  const run = async ([lane, steps]: [string, Step[]]) => {
    let done = 0
    try {
      for (const step of steps) {
        await step()
        done++
      }
      lanes.delete(lane)
    } catch (error) {
      steps.splice(0, done)
      failures.push(error)
    }
  }
  await Promise.all(Array.from(lanes, run))
  return failures
}

function add(lanes: Lanes, lane: string, step: Step): void {
  const steps = lanes.get(lane)
  if (steps === undefined) lanes.set(lane, [step])
  else steps.push(step)
}

/** All have ended when it has; the first failure is thrown. */
async function both(...under: readonly (Promise<unknown> | undefined)[]): Promise<void> {
  const results = await Promise.allSettled(under)
  for (const result of results) if (result.status === 'rejected') throw result.reason
}

// The words of the contract's own tests. Level says it by a code.
async function unlessGone(asking: Promise<unknown>): Promise<unknown> {
  try {
    return await asking
  } catch (error) {
    if (error instanceof Error && (/no such packet/.test(error.message) || ('code' in error && error.code === 'LEVEL_NOT_FOUND')))
      return undefined
    throw error
  }
}

// An iterator hears of its stream's errors only while it is asked, and `error` without a listener ends the process.
function quiet(stream: AsyncIterable<unknown>): AsyncIterableIterator<unknown> {
  if (stream instanceof EventEmitter) stream.on('error', () => {})
  const iterator = stream[Symbol.asyncIterator]()
  return {
    next: () => iterator.next(),
    // A generator that was never asked would leave its stream open.
    return: async () => {
      if (stream instanceof Readable) stream.destroy()
      return (await iterator.return?.()) ?? { done: true, value: undefined }
    },
    [Symbol.asyncIterator]() {
      return this
    }
  }
}

function marker(topic: string): { topic: string; qos: 0; rh: 0; rap: false; nl: false } {
  return { topic, qos: 0, rh: 0, rap: false, nl: false }
}

function textOf(filter: string, group: string | undefined): string {
  const text = joinSharedFilter(filter, group)
  // That is no good as a key of an object, which is what aedes-persistence-redis makes of it.
  return text === '__proto__' || isDeep(text) ? escaped(text) : text
}

function escaped(text: string): string {
  return escapeText + text.replace(/[%/]/g, encodeURIComponent)
}

function unescaped(text: string): string {
  return text.startsWith(escapeText) ? text.slice(escapeText.length).replaceAll('%2F', '/').replaceAll('%25', '%') : text
}

function isDeep(text: string): boolean {
  return endOfLevels(text) !== -1
}

// A filter that lies there as it is and matches all of a deep topic ends in `#`, and matches its top levels as well.
function topLevels(topic: string): string {
  const end = endOfLevels(topic)
  return end === -1 ? topic : topic.slice(0, end)
}

/** Where the levels end that a persistence can take; -1: it can take all. */
function endOfLevels(text: string): number {
  let end = -1
  for (let levels = 0; levels < maxLevels; levels++) {
    end = text.indexOf('/', end + 1)
    if (end === -1) break
  }
  return end
}

function subscriptionOf({ filter, group, qos, noLocal, retainAsPublished, retainHandling, identifier }: Subscription): object {
  return {
    topic: textOf(filter, group),
    qos,
    rh: retainHandling,
    rap: retainAsPublished,
    nl: noLocal,
    ...(identifier !== 0 && { subscriptionIdentifier: identifier })
  }
}

function readSubscription(topic: string, { qos, rh, rap, nl, subscriptionIdentifier }: Readonly<Record<string, unknown>>): Subscription {
  return {
    ...splitSharedFilter(unescaped(topic)),
    qos: qosOf(qos),
    noLocal: nl === true,
    retainAsPublished: rap === true,
    retainHandling: qosOf(rh),
    identifier: typeof subscriptionIdentifier === 'number' ? subscriptionIdentifier : 0
  }
}

function listOf(value: unknown): readonly Readonly<Record<string, unknown>>[] {
  return Array.isArray(value) ? value.filter(isFields) : []
}

function lower(a: Qos, b: Qos): Qos {
  return a < b ? a : b
}

function loopback(id: string): AedesBroker {
  const listeners = new Map<Listener, string>()
  return {
    id,
    publish(packet, done) {
      for (const [listener, filter] of listeners) if (matchesFilter(filter, packet.topic)) listener(packet, () => {})
      queueMicrotask(done)
    },
    subscribe(filter, listener, done) {
      listeners.set(listener, filter)
      queueMicrotask(done)
    },
    unsubscribe(_, listener, done) {
      listeners.delete(listener)
      queueMicrotask(done)
    }
  }
}
