// Messages that lie apart from the entries of queues: those of several receivers, and large ones. How many entries each still has is counted here,
// and with the last of them it goes.

import type { Message } from '../message.js'
import type { QueueEntry } from '../storage.js'
import { bodyKey, decodeMessage, encodeMessage, unseal } from './disk-records.js'
import type { Level, Operations, View } from './level.js'

/** A single message with a longer payload lies apart from its entry, so that a start need not read it. */
const longestInside = 4096
/** Messages that are kept for the next reader of the same, and the longest of them. */
const cachedBodies = 1000
const longestCached = 16_384

export class Bodies {
  /** Entries that are left, by the number of their body. */
  readonly #counts: Map<number, number>
  /** Where a message lies that lies apart, and where that of an entry does: it may be one of the same message that lies in its entry. */
  readonly #bodyOf = new WeakMap<Message, number>()
  readonly #bodyOfEntry = new WeakMap<QueueEntry, number>()
  readonly #cache = new Map<number, Message>()
  /** Where the entries of a message come one by one: those that lie in an entry, as the next one shares what the first could not know of. */
  readonly #inside = new WeakSet<Message>()
  comesOneByOne = false
  #next: number

  /** `counts`: entries of each that are there; `next`: a number that none has, nor any behind it. */
  constructor(counts: Map<number, number> = new Map(), next = 1) {
    this.#counts = counts
    this.#next = next
  }

  /** The body of a new entry; undefined: its message lies in it. */
  add(entry: QueueEntry, isShared: boolean, operations: Operations): number | undefined {
    const body = this.#bodyFor(entry.message, isShared, operations)
    if (body !== undefined) this.#bodyOfEntry.set(entry, body)
    return body
  }

  /** The entry is gone. Twice is once. */
  removeEntry(entry: QueueEntry, operations: Operations): void {
    const body = this.#bodyOfEntry.get(entry)
    this.#bodyOfEntry.delete(entry)
    if (body !== undefined) this.remove(body, operations)
  }

  /** One of its entries is gone. */
  remove(body: number, operations: Operations): void {
    const left = (this.#counts.get(body) ?? 0) - 1
    if (left > 0) {
      this.#counts.set(body, left)
      return
    }
    this.#counts.delete(body)
    this.#cache.delete(body)
    operations.delete(bodyKey(body))
  }

  /** An entry that was read from the store. */
  note(entry: QueueEntry, body: number): void {
    this.#bodyOfEntry.set(entry, body)
  }

  /** Undefined: the message of this entry lies in it. */
  numberOf(entry: QueueEntry): number | undefined {
    return this.#bodyOfEntry.get(entry)
  }

  /** Those that are there. */
  async read(numbers: Iterable<number>, level: Level, view?: View): Promise<ReadonlyMap<number, Message>> {
    const bodies = new Map<number, Message>()
    const missing: number[] = []
    for (const number of new Set(numbers)) {
      const known = this.#cache.get(number)
      if (known === undefined) missing.push(number)
      else bodies.set(number, known)
    }
    if (missing.length === 0) return bodies
    const values = await level.get(missing.map(bodyKey), view)
    for (const [i, number] of missing.entries()) {
      const value = values[i]
      const content = value && unseal(bodyKey(number), value)
      const message = content && decodeMessage(content)
      if (message === undefined) continue
      this.#bodyOf.set(message, number)
      bodies.set(number, message)
      this.#keep(number, message)
    }
    return bodies
  }

  #bodyFor(message: Message, isShared: boolean, operations: Operations): number | undefined {
    const known = this.#bodyOf.get(message)
    // One that has lost its last entry is gone.
    const count = known === undefined ? undefined : this.#counts.get(known)
    if (known !== undefined && count !== undefined) {
      this.#counts.set(known, count + 1)
      return known
    }
    if (!isShared && message.payloadLength <= longestInside && !this.#isAgain(message)) return undefined
    const body = this.#next++
    const key = bodyKey(body)
    operations.put(key, encodeMessage(key, message))
    this.#bodyOf.set(message, body)
    this.#counts.set(body, 1)
    return body
  }

  #isAgain(message: Message): boolean {
    if (!this.comesOneByOne) return false
    if (this.#inside.has(message)) return true
    this.#inside.add(message)
    return false
  }

  #keep(number: number, message: Message): void {
    if (message.payloadLength > longestCached) return
    this.#cache.set(number, message)
    if (this.#cache.size <= cachedBodies) return
    const [oldest] = this.#cache.keys()
    if (oldest !== undefined) this.#cache.delete(oldest)
  }
}
