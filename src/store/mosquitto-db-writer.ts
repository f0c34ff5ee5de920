// Changes written as Mosquitto's persistence database, so that Mosquitto can be started where we stopped. It streams: all that is held for the
// whole time is the numbers of messages.

import type { Message } from '../message.js'
import { neverExpires, type Qos } from '../protocol/packets.js'
import { listenerPort } from '../reload.js'
import type { QueueEntry, SessionRecord, Subscription } from '../storage.js'
import { type Chunk, encodeChunk, headLength, magic, newestVersion, optionBits, states } from './mosquitto-chunk.js'
import type { KeptChange } from './mosquitto-db.js'
import { joinSharedFilter } from './shared-filter.js'

export interface WriteOptions {
  /** Milliseconds since 1970. */
  readonly now?: number
}

/** How much is gathered before it is handed on, unless that takes longer than a turn may. */
const blockSize = 65_536
/** Milliseconds. */
const slice = 4

/**
 * Version 6, in blocks. A session is best given its `lastPacketId`: Mosquitto counts on from there, whatever is still under way. The state of
 * an entry is the one it has when it comes, so that `received` has nothing to add.
 */
export async function* writeMosquittoDb(
  changes: AsyncIterable<KeptChange> | Iterable<KeptChange>,
  { now = Date.now() }: WriteOptions = {}
): AsyncGenerator<Buffer> {
  const writer = new Writer(now)
  writer.begin()
  let end = performance.now() + slice
  for await (const change of changes) {
    writer.put(change)
    if (!writer.isFull && performance.now() < end) continue
    yield* writer.take()
    end = performance.now() + slice
  }
  writer.end()
  yield* writer.take()
}

class Writer {
  readonly #now: number
  readonly #ids = new WeakMap<Message, bigint>()
  readonly #idsOfBodies = new Map<number, bigint>()
  #lastId = 0n
  #parts: Buffer[] = []
  #length = 0

  constructor(now: number) {
    this.#now = now
  }

  get isFull(): boolean {
    return this.#length >= blockSize
  }

  /** What has been put since the last time: small parts in one piece, large ones as they are. */
  *take(): Generator<Buffer> {
    const parts = this.#parts
    this.#parts = []
    this.#length = 0
    let small: Buffer[] = []
    for (const part of parts) {
      if (part.length < blockSize) {
        small.push(part)
        continue
      }
      if (small.length > 0) yield Buffer.concat(small)
      small = []
      yield part
    }
    if (small.length > 0) yield Buffer.concat(small)
  }

  begin(): void {
    const head = Buffer.alloc(headLength)
    magic.copy(head)
    head.writeUInt32BE(newestVersion, magic.length + 4)
    this.#add(head)
    this.#putConfig()
  }

  /** Only now is it known which number was the last; Mosquitto takes the last chunk that says so. */
  end(): void {
    this.#putConfig()
  }

  put(change: KeptChange): void {
    switch (change.kind) {
      case 'session':
        this.#putSession(change.session, change.lastPacketId ?? 0)
        return
      case 'subscribe':
        this.#putSubscription(change.clientId, change.subscription)
        return
      case 'hold': {
        const { clientId, packetId, message } = change
        // Mosquitto looks for the packet identifier in the message itself when it comes again: this body is nobody else's.
        const messageId = this.#putMessage(message, packetId)
        const { retain } = message
        this.#addChunk({
          kind: 'clientMessage',
          clientId,
          messageId,
          packetId,
          qos: 2,
          state: states.waitForPubrel,
          retain,
          dup: false,
          isIncoming: true,
          subscriptionIdentifier: 0
        })
        return
      }
      case 'enqueue':
        for (const entry of change.entries) this.#putEntry(entry, change.body)
        return
      case 'received':
        return
      case 'retain':
        if (change.message !== undefined && !isSysTopic(change.topic))
          this.#addChunk({ kind: 'retained', messageId: this.#idOf(change.message) })
    }
  }

  #putConfig(): void {
    this.#addChunk({ kind: 'config', lastMessageId: this.#lastId })
  }

  #putSession({ clientId, username = '', listener, expiryInterval, expiresAt }: SessionRecord, lastPacketId: number): void {
    // Of one that is connected: should it not come back, its time began now.
    const ends = expiresAt ?? (expiryInterval === neverExpires ? 0 : this.#now + expiryInterval * 1000)
    this.#addChunk({
      kind: 'client',
      clientId,
      username,
      port: portOf(listener),
      expiryInterval,
      expiryTime: secondsOf(ends),
      lastPacketId
    })
  }

  #putSubscription(clientId: string, { filter, group, qos, identifier, ...subscription }: Subscription): void {
    const options =
      (subscription.noLocal ? optionBits.noLocal : 0) |
      (subscription.retainAsPublished ? optionBits.retainAsPublished : 0) |
      (subscription.retainHandling << optionBits.retainHandlingShift)
    this.#addChunk({ kind: 'subscription', clientId, filter: joinSharedFilter(filter, group), qos, options, identifier })
  }

  #putEntry({ clientId, message, packetId, qos, retain, state, subscriptionIdentifier }: QueueEntry, body?: number): void {
    const messageId = this.#idOf(message, body)
    const dup = qos > 0 && state !== 'queued'
    this.#addChunk({
      kind: 'clientMessage',
      clientId,
      messageId,
      packetId,
      qos,
      state: stateNumber(qos, state),
      retain,
      dup,
      isIncoming: false,
      subscriptionIdentifier
    })
  }

  #idOf(message: Message, body?: number): bigint {
    const known = body === undefined ? this.#ids.get(message) : this.#idsOfBodies.get(body)
    if (known !== undefined) return known
    const id = this.#putMessage(message, 0)
    if (body === undefined) this.#ids.set(message, id)
    else this.#idsOfBodies.set(body, id)
    return id
  }

  #putMessage({ topic, qos, retain, payload, properties, expiresAt, source }: Message, sourcePacketId: number): bigint {
    this.#lastId += 1n
    this.#addChunk({
      kind: 'message',
      id: this.#lastId,
      expiryTime: expiresAt === Number.POSITIVE_INFINITY ? 0 : Math.max(1, secondsOf(expiresAt)),
      sourcePacketId,
      sourceClientId: source?.clientId ?? '',
      sourceUsername: source?.username ?? '',
      sourcePort: portOf(source?.listener),
      topic,
      qos,
      retain: retain && !isSysTopic(topic),
      payload,
      properties
    })
    return this.#lastId
  }

  #addChunk(chunk: Chunk): void {
    for (const part of encodeChunk(chunk)) this.#add(part)
  }

  #add(part: Buffer): void {
    this.#parts.push(part)
    this.#length += part.length
  }
}

function stateNumber(qos: Qos, state: QueueEntry['state']): number {
  if (qos === 0 || state === 'queued') return states.queued
  if (qos === 1) return states.waitForPuback
  return state === 'sent' ? states.waitForPubrec : states.waitForPubcomp
}

/** Down, as Mosquitto counts: else the receiver of a message could be told of more time than its publisher gave it. */
const secondsOf = (milliseconds: number): number => Math.floor(milliseconds / 1000)

const portOf = (listener: string | undefined): number => (listener === undefined ? 0 : listenerPort(listener))

/** Mosquitto looks at no more than this. */
const isSysTopic = (topic: string): boolean => topic.startsWith('$SYS')
