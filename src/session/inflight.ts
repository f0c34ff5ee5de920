// What was sent to a client and is not done, by packet identifier. Identifiers go up by one with each message and are done in nearly the same
// order, so their last bits are places in a ring: one write to come in, one to go. A Map is built anew each time as many have come and gone as
// it has room for, which is felt where every message of every receiver passes through it.

import type { QueueEntry } from '../storage.js'

const smallest = 16
/** A ring with a place for every identifier; nothing meets in it. */
const largest = 65_536

export class Inflight {
  #places: (QueueEntry | undefined)[] = emptyRing(smallest)
  /** Those that had to leave their place to a later one: left by a client that is long past them. */
  readonly #overtaken = new Map<number, QueueEntry>()
  #size = 0

  get size(): number {
    return this.#size
  }

  has(packetId: number): boolean {
    return this.get(packetId) !== undefined
  }

  get(packetId: number): QueueEntry | undefined {
    const entry = this.#places[packetId & (this.#places.length - 1)]
    if (entry?.packetId === packetId) return entry
    return this.#overtaken.size === 0 ? undefined : this.#overtaken.get(packetId)
  }

  /** Its packet identifier must not be one that is here. */
  add(entry: QueueEntry): void {
    this.#size += 1
    let at = entry.packetId & (this.#places.length - 1)
    while (this.#places[at] !== undefined && this.#size * 2 > this.#places.length && this.#places.length < largest) {
      this.#grow()
      at = entry.packetId & (this.#places.length - 1)
    }
    const before = this.#places[at]
    if (before !== undefined) this.#overtaken.set(before.packetId, before)
    this.#places[at] = entry
  }

  /** One that is here. */
  delete(entry: QueueEntry): void {
    const at = entry.packetId & (this.#places.length - 1)
    if (this.#places[at] === entry) this.#places[at] = undefined
    else if (!this.#overtaken.delete(entry.packetId)) return
    this.#size -= 1
    // A burst is over.
    if (this.#size === 0 && this.#places.length > smallest * 16) this.clear()
  }

  clear(): void {
    this.#places = emptyRing(smallest)
    this.#overtaken.clear()
    this.#size = 0
  }

  /** In the order of sending, which is that of the queue. */
  inOrder(): QueueEntry[] {
    const all = [...this.#overtaken.values()]
    for (const entry of this.#places) if (entry !== undefined) all.push(entry)
    return all.sort((a, b) => a.sequence - b.sequence)
  }

  #grow(): void {
    const all = this.inOrder()
    const places = emptyRing(this.#places.length * 2)
    this.#overtaken.clear()
    for (const entry of all) {
      const at = entry.packetId & (places.length - 1)
      const before = places[at]
      if (before !== undefined) this.#overtaken.set(before.packetId, before)
      places[at] = entry
    }
    this.#places = places
  }
}

// Filled: an array with holes is a slower one.
function emptyRing(size: number): (QueueEntry | undefined)[] {
  return new Array<QueueEntry | undefined>(size).fill(undefined)
}
