// What is under way by packet identifier, in either direction. Identifiers go up by one with each message and are done in nearly the same
// order, so their last bits are places in a ring: one write to come in, one to go. A Map is built anew each time as many have come and gone as
// it has room for, which is felt where every message passes through it; and what it was before, dead in the old generation, keeps the messages
// of its time until the next full collection.

interface Placed {
  readonly packetId: number
}

const smallest = 16
/** A ring with a place for every identifier; nothing meets in it. */
const largest = 65_536
/** Of one that nothing was put in. */
const noPlaces = emptyRing<never>(1)

export class PacketRing<T extends Placed> {
  #places: (T | undefined)[] = noPlaces
  /** Those that had to leave their place to a later one: left by a client that is long past them. */
  readonly #overtaken = new Map<number, T>()
  #size = 0

  get size(): number {
    return this.#size
  }

  has(packetId: number): boolean {
    return this.get(packetId) !== undefined
  }

  get(packetId: number): T | undefined {
    const item = this.#places[packetId & (this.#places.length - 1)]
    if (item?.packetId === packetId) return item
    return this.#overtaken.size === 0 ? undefined : this.#overtaken.get(packetId)
  }

  /** Its packet identifier must not be one that is here. */
  add(item: T): void {
    if (this.#places === noPlaces) this.#places = emptyRing(smallest)
    this.#size += 1
    let at = item.packetId & (this.#places.length - 1)
    while (this.#places[at] !== undefined && this.#size * 2 > this.#places.length && this.#places.length < largest) {
      this.#grow()
      at = item.packetId & (this.#places.length - 1)
    }
    this.#put(item)
  }

  /** One that is here. */
  delete(item: T): void {
    const at = item.packetId & (this.#places.length - 1)
    if (this.#places[at] === item) this.#places[at] = undefined
    else if (!this.#overtaken.delete(item.packetId)) return
    this.#size -= 1
    // A burst is over.
    if (this.#size === 0 && this.#places.length > smallest * 16) this.clear()
  }

  clear(): void {
    this.#places = noPlaces
    this.#overtaken.clear()
    this.#size = 0
  }

  /** In no order. */
  all(): T[] {
    const all = [...this.#overtaken.values()]
    for (const item of this.#places) if (item !== undefined) all.push(item)
    return all
  }

  // Who has a place leaves it to who comes.
  #put(item: T): void {
    const at = item.packetId & (this.#places.length - 1)
    const before = this.#places[at]
    if (before !== undefined) this.#overtaken.set(before.packetId, before)
    this.#places[at] = item
  }

  #grow(): void {
    const all = this.all()
    this.#places = emptyRing(this.#places.length * 2)
    this.#overtaken.clear()
    for (const item of all) this.#put(item)
  }
}

// Filled: an array with holes is a slower one.
function emptyRing<T>(size: number): (T | undefined)[] {
  return new Array<T | undefined>(size).fill(undefined)
}
