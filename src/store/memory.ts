// The store of a broker without persistence: everything as committed, for as long as the process lives. A commit is done when it
// returns, and allocates nothing but the places in its maps: it is on the way of every message for a session that outlives its connection.

import type { Message } from '../message.js'
import type { Change, QueueEntry, SessionRecord, Store, StoredSession, StoredState, Subscription } from '../storage.js'
import { joinSharedFilter } from './shared-filter.js'

export function openMemoryStore(): Store {
  return new MemoryStore()
}

class MemoryStore implements Store {
  readonly isDurableAtOnce = true
  readonly #sessions = new Map<string, MemorySession>()
  readonly #retained = new Map<string, Message>()

  async open(): Promise<StoredState> {
    return { sessions: Array.from(this.#sessions.values(), session => session.read()), retained: [...this.#retained.values()] }
  }

  commit(changes: readonly Change[]): undefined {
    for (const change of changes) this.#take(change)
  }

  page(clientId: string, after: number, limit: number): readonly QueueEntry[] {
    return this.#sessions.get(clientId)?.page(after, limit) ?? []
  }

  async close(): Promise<void> {}

  #take(change: Change): void {
    switch (change.kind) {
      case 'session': {
        const known = this.#sessions.get(change.session.clientId)
        const session = known ?? new MemorySession(change.session)
        session.record = change.session
        session.lastPacketId = change.lastPacketId ?? session.lastPacketId
        if (known === undefined) this.#sessions.set(change.session.clientId, session)
        return
      }
      case 'drop':
        this.#sessions.delete(change.clientId)
        return
      case 'subscribe': {
        const { filter, group } = change.subscription
        this.#sessions.get(change.clientId)?.subscriptions.set(joinSharedFilter(filter, group), change.subscription)
        return
      }
      case 'unsubscribe':
        this.#sessions.get(change.clientId)?.subscriptions.delete(joinSharedFilter(change.filter, change.group))
        return
      case 'enqueue':
        for (const entry of change.entries) this.#sessions.get(entry.clientId)?.add(entry)
        return
      case 'sent':
        // In the entry itself.
        return
      case 'received': {
        // Nearly always the same object, in which the engine has already said so.
        const kept = this.#sessions.get(change.entry.clientId)?.queue.get(change.entry.sequence)
        if (kept !== undefined) kept.state = 'received'
        return
      }
      case 'done':
        this.#sessions.get(change.entry.clientId)?.queue.delete(change.entry.sequence)
        return
      case 'hold':
        this.#sessions.get(change.clientId)?.held.set(change.packetId, change.message)
        return
      case 'release':
        this.#sessions.get(change.clientId)?.held.delete(change.packetId)
        return
      case 'retain':
        if (change.message === undefined) this.#retained.delete(change.topic)
        else this.#retained.set(change.topic, change.message)
    }
  }
}

class MemorySession {
  record: SessionRecord
  readonly subscriptions = new Map<string, Subscription>()
  /** By sequence, which is the order of insertion too. */
  readonly queue = new Map<number, QueueEntry>()
  readonly held = new Map<number, Message>()
  lastPacketId = 0
  #lastSequence = 0
  /** Where the last page ended, and the way on from there: an iterator of a map goes on past what was added or removed meanwhile. */
  #pageEnd = -1
  #behindPage: Iterator<QueueEntry> | undefined

  constructor(record: SessionRecord) {
    this.record = record
  }

  add(entry: QueueEntry): void {
    this.queue.set(entry.sequence, entry)
    this.#lastSequence = entry.sequence
    if (isAhead(entry.packetId, this.lastPacketId)) this.lastPacketId = entry.packetId
  }

  page(after: number, limit: number): readonly QueueEntry[] {
    const goesOn = after === this.#pageEnd ? this.#behindPage : undefined
    const iterator = goesOn ?? this.queue.values()
    const entries: QueueEntry[] = []
    let ended = false
    while (entries.length < limit) {
      const { done, value } = iterator.next()
      if (done === true) {
        ended = true
        break
      }
      if (value.sequence > after) entries.push(value)
    }
    // An iterator that came to its end stays there, whatever is added.
    this.#behindPage = ended ? undefined : iterator
    this.#pageEnd = entries.at(-1)?.sequence ?? after
    return entries
  }

  read(): StoredSession {
    let bytes = 0
    for (const { message } of this.queue.values()) bytes += message.payloadLength
    return {
      ...this.record,
      subscriptions: [...this.subscriptions.values()],
      lastSequence: this.#lastSequence,
      queued: { messages: this.queue.size, bytes },
      held: new Map(this.held),
      lastPacketId: this.lastPacketId
    }
  }
}

// They go round. What comes from another store was given its identifiers before the session came to its last one.
const isAhead = (packetId: number, last: number): boolean => packetId !== 0 && (last === 0 || ((packetId - last) & 0xffff) < 0x8000)
