// A queue with two ends, in a ring: what leaves moves nothing, and a queue that fills and empties again and again asks for no memory.

const fewest = 4
/** Up to here the ring is kept as large as it was. */
const small = 64

export class Deque<Item> implements Iterable<Item> {
  /** As long as a power of two, so that a place is found by a mask. */
  #ring: (Item | undefined)[] = []
  #head = 0
  #size = 0

  get size(): number {
    return this.#size
  }

  get first(): Item | undefined {
    return this.#size === 0 ? undefined : this.#ring[this.#head]
  }

  get last(): Item | undefined {
    return this.#size === 0 ? undefined : this.#ring[(this.#head + this.#size - 1) & (this.#ring.length - 1)]
  }

  push(item: Item): void {
    if (this.#size === this.#ring.length) this.#resize(Math.max(fewest, 2 * this.#size))
    this.#ring[(this.#head + this.#size) & (this.#ring.length - 1)] = item
    this.#size += 1
  }

  /** Before all others, in this order. */
  prepend(items: readonly Item[]): void {
    const all = [...items, ...this]
    this.clear()
    for (const item of all) this.push(item)
  }

  shift(): Item | undefined {
    if (this.#size === 0) return undefined
    const item = this.#ring[this.#head]
    this.#ring[this.#head] = undefined
    this.#head = (this.#head + 1) & (this.#ring.length - 1)
    this.#size -= 1
    if (this.#ring.length > small && 4 * this.#size <= this.#ring.length) this.#resize(this.#ring.length / 2)
    return item
  }

  clear(): void {
    this.#ring = []
    this.#head = 0
    this.#size = 0
  }

  *[Symbol.iterator](): Iterator<Item> {
    for (let i = 0; i < this.#size; i++) {
      const item = this.#ring[(this.#head + i) & (this.#ring.length - 1)]
      if (item !== undefined) yield item
    }
  }

  #resize(length: number): void {
    const ring = new Array<Item | undefined>(length).fill(undefined)
    for (let i = 0; i < this.#size; i++) ring[i] = this.#ring[(this.#head + i) & (this.#ring.length - 1)]
    this.#ring = ring
    this.#head = 0
  }
}
