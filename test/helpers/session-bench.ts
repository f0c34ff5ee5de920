// What a session, an exchange or the registry of sessions needs around it, with nothing behind it: limits, a store that takes its time, a
// receiver that notes what it is sent.

import type { Decision } from '../../dist/auth/acl.js'
import type { Connection as Transport } from '../../dist/auth/identity.js'
import type { DeliveryConfig, LimitsConfig, ListenerConfig } from '../../dist/config/types.js'
import type { Log } from '../../dist/log-events.js'
import { Message } from '../../dist/message.js'
import type { Qos } from '../../dist/protocol/packets.js'
import type { Receiver, Session } from '../../dist/session/session.js'
import { Turns } from '../../dist/session/turns.js'
import type { Change, QueueEntry, Store, StoredSession, StoredState, Subscription } from '../../dist/storage.js'

export const noLimits: LimitsConfig = {
  globalMaxConnections: -1,
  globalMaxClients: -1,
  maxInflightMessages: 0,
  maxInflightBytes: 0,
  maxQueuedMessages: 0,
  maxQueuedBytes: 0,
  maxKeepalive: 0,
  maxPacketSize: 0,
  messageSizeLimit: 0
}

export const usualDelivery: DeliveryConfig = {
  allowDuplicateMessages: true,
  checkRetainSource: true,
  queueQos0Messages: false,
  upgradeOutgoingQos: false,
  retainAvailable: true,
  retainExpiryInterval: 0,
  sysInterval: 0,
  aclSubscribeCheck: 'warn',
  acknowledge: 'stored'
}

export const yes: Decision = { allowed: true, reason: 'no-acl-file' }
export const no: Decision = { allowed: false, reason: 'no-rule' }

export const silent: Log = { write: () => {}, enabled: () => false }

/** One with time enough. */
export class LongTurns extends Turns {
  override get isOver(): boolean {
    return false
  }
}

export const longTurns = new LongTurns(error => {
  throw error
})

/** A turn of the event loop. */
export const turn = (): Promise<void> => new Promise(resolve => setImmediate(resolve))

/** As long as a commit waits for more that doesn't come. */
export async function gathered(): Promise<void> {
  await turn()
  await turn()
}

export function messageOf(
  topic: string,
  fields: { payload?: string | Buffer; qos?: Qos; retain?: boolean; expiresAt?: number } = {}
): Message {
  const { payload = 'x', qos = 1, retain = false, expiresAt } = fields
  return new Message({ topic, payload: Buffer.from(payload), qos, retain, ...(expiresAt !== undefined && { expiresAt }) })
}

export function subscriptionOf(filter: string, fields: Partial<Subscription> = {}): Subscription {
  return { filter, qos: 2, noLocal: false, retainAsPublished: false, retainHandling: 0, identifier: 0, ...fields }
}

/** As at the end of a SUBSCRIBE. */
export function replay(session: Session, subscriptions: readonly Subscription[]): void {
  for (const subscription of subscriptions) session.replayLater(subscription)
  session.pump()
}

export interface SentLive {
  readonly message: Message
  readonly retain: boolean
  readonly identifier: number
}

/** Takes everything at once and keeps it. */
export class NotingReceiver implements Receiver {
  isReady = true
  isBehind = false
  hasRoom = true
  receiveMaximum = 65_535
  readonly queued: QueueEntry[] = []
  readonly live: SentLive[] = []
  readonly released: number[] = []
  isDisplaced = false

  sendQueued(entry: QueueEntry): boolean {
    this.queued.push({ ...entry })
    return true
  }

  sendLive(message: Message, retain: boolean, identifier: number): void {
    this.live.push({ message, retain, identifier })
  }

  sendPubrel(packetId: number): void {
    this.released.push(packetId)
  }

  displaced(): void {
    this.isDisplaced = true
  }
}

/**
 * One that does a step of its work when it is told to: a commit is seen by readers piece by piece before it is reported, a page is read
 * and handed over at different times, or not at all.
 */
export class SlowStore implements Store {
  readonly isDurableAtOnce = false
  readonly takesMore: boolean
  /** Commits, in the order in which they came and end. */
  readonly #commits: { isDone: boolean; end(): void }[] = []
  readonly #ended = new Map<string, number>()
  readonly queues = new Map<string, Map<number, QueueEntry>>()
  readonly changes: Change[] = []
  readonly #lastSequence = new Map<string, number>()
  readonly #lastPacketId = new Map<string, number>()
  /** Now and then a page can't be read. */
  fails = true
  /** Each does a part; true: it was the last. */
  #work: ((pick: number) => boolean)[] = []

  constructor(takesMore = false) {
    this.takesMore = takesMore
  }

  get isIdle(): boolean {
    return this.#work.length === 0
  }

  step(pick: number): void {
    const index = pick % this.#work.length
    const isDone = this.#work[index]?.(pick)
    if (isDone === true) this.#work.splice(index, 1)
  }

  async open(): Promise<StoredState> {
    return { sessions: [], retained: [] }
  }

  commit(changes: readonly Change[]): Promise<void> {
    let at = 0
    return new Promise(resolve => {
      const end = () => {
        for (const change of changes) {
          if (change.kind === 'enqueue') for (const { clientId, sequence } of change.entries) this.#ended.set(clientId, sequence)
        }
        resolve()
      }
      const commit = { isDone: false, end }
      this.#commits.push(commit)
      this.#work.push(pick => {
        // What is written side by side has nothing to do with each other; the rest goes one behind the other.
        if (this.#commits[0] !== commit && !changes.every(({ kind }) => kind === 'enqueue' || kind === 'done')) return false
        const until = at + 1 + ((pick * 7) % 300)
        for (; at < until && at < changes.length; at++) this.#take(changes[at])
        if (at < changes.length || (pick >> 2) % 3 === 0) return false
        commit.isDone = true
        while (this.#commits[0]?.isDone) this.#commits.shift()?.end()
        return true
      })
    })
  }

  page(clientId: string, after: number, limit: number): Promise<readonly QueueEntry[]> {
    let entries: QueueEntry[] | undefined
    return new Promise((resolve, reject) =>
      this.#work.push(pick => {
        if (entries === undefined) {
          const until = this.takesMore ? (this.#ended.get(clientId) ?? 0) : Number.POSITIVE_INFINITY
          entries = Array.from(this.queues.get(clientId)?.values() ?? [])
            .filter(({ sequence }) => sequence > after && sequence <= until)
            .sort((a, b) => a.sequence - b.sequence)
            .slice(0, limit)
            .map(entry => ({ ...entry }))
          return false
        }
        if (pick % 16 === 0 && this.fails) reject(new Error('away'))
        else resolve(entries)
        return true
      })
    )
  }

  async close(): Promise<void> {}

  stored(record: { clientId: string; version: 3 | 4 | 5; expiryInterval: number }): StoredSession {
    const { clientId } = record
    const queue = [...(this.queues.get(clientId)?.values() ?? [])]
    let bytes = 0
    for (const { message } of queue) bytes += message.payload.length
    return {
      ...record,
      subscriptions: [],
      held: new Map(),
      leftAt: 1,
      lastSequence: this.#lastSequence.get(clientId) ?? 0,
      lastPacketId: this.#lastPacketId.get(clientId) ?? 0,
      queued: { messages: queue.length, bytes }
    }
  }

  #take(change: Change | undefined): void {
    if (change === undefined) return
    this.changes.push(change)
    if (change.kind === 'enqueue') {
      for (const entry of change.entries) {
        const queue = this.queues.get(entry.clientId) ?? new Map<number, QueueEntry>()
        // As it was queued: whatever the engine does to it later is not known here.
        queue.set(entry.sequence, { ...entry, state: 'queued' })
        this.queues.set(entry.clientId, queue)
        // Another commit may have been written before.
        if (entry.sequence < (this.#lastSequence.get(entry.clientId) ?? 0)) continue
        this.#lastSequence.set(entry.clientId, entry.sequence)
        if (entry.packetId !== 0) this.#lastPacketId.set(entry.clientId, entry.packetId)
      }
    } else if (change.kind === 'received') {
      const entry = this.queues.get(change.entry.clientId)?.get(change.entry.sequence)
      if (entry !== undefined) entry.state = 'received'
    } else if (change.kind === 'done') {
      this.queues.get(change.entry.clientId)?.delete(change.entry.sequence)
    }
  }
}

/** Of a plain listener, with what is told. */
export function transportOf(fields: Partial<ListenerConfig> = {}): Transport {
  const listener: ListenerConfig = {
    port: 1883,
    bind: { kind: 'any' },
    security: { allowAnonymous: true, allowZeroLengthClientId: true, autoIdPrefix: '' },
    username: 'from-connect',
    useUsernameAsClientId: false,
    maxConnections: -1,
    maxTopicAlias: 10,
    maxTopicAliasBroker: 10,
    maxQos: 2,
    ...fields
  }
  return { listener, remoteAddress: '127.0.0.1', remotePort: 1 }
}
