// What is to happen at which second: keep alive, session expiry, will delays, for a million items. Values in, values out: no timer, the
// clock is the caller's. Nothing comes early, nothing is forgotten, and a turn takes as much as it asks for.

interface Entry<Item> {
  readonly item: Item
  bucket: Bucket<Item>
  previous: Entry<Item> | undefined
  next: Entry<Item> | undefined
}

/** All that is due at one second, in the order in which it was set. */
interface Bucket<Item> {
  readonly second: number
  first: Entry<Item> | undefined
  last: Entry<Item> | undefined
  /** Its place in the heap. */
  index: number
}

/**
 * At most one deadline per item. Items of one second share a bucket, the buckets form a heap: `set` and `delete` are O(1) wherever the
 * bucket stays, and touch the heap (logarithmic in the number of distinct seconds) only when one begins or ends. No step is larger than
 * that: no sweep, no rebuilding.
 */
export class Deadlines<Item extends object> {
  readonly #entries = new Map<Item, Entry<Item>>()
  readonly #buckets = new Map<number, Bucket<Item>>()
  readonly #heap: Bucket<Item>[] = []

  get size(): number {
    return this.#entries.size
  }

  /** When the earliest is due, in the milliseconds of `set`; undefined: nothing is scheduled. */
  get next(): number | undefined {
    const [bucket] = this.#heap
    return bucket && bucket.second * 1000
  }

  /** Replaces an earlier deadline of the item. Rounded up to a whole second; within the same second nothing happens, at no cost. */
  set(item: Item, at: number): void {
    if (!Number.isFinite(at)) throw new TypeError(`a deadline is a finite number of milliseconds, not ${at}: delete what has none`)
    const second = Math.ceil(at / 1000)
    const entry = this.#entries.get(item)
    if (entry === undefined) {
      const bucket = this.#bucketOf(second)
      const added = { item, bucket, previous: undefined, next: undefined }
      this.#entries.set(item, added)
      append(bucket, added)
    } else if (entry.bucket.second !== second) {
      this.#unlink(entry)
      entry.bucket = this.#bucketOf(second)
      append(entry.bucket, entry)
    }
  }

  /** Whether there was one. */
  delete(item: Item): boolean {
    const entry = this.#entries.get(item)
    if (entry === undefined) return false
    this.#entries.delete(item)
    this.#unlink(entry)
    return true
  }

  /** Takes out what is due, the earliest first, at most `limit`: while that many come, more may be waiting. */
  takeDue(now: number, limit: number): Item[] {
    const due: Item[] = []
    while (due.length < limit) {
      const [bucket] = this.#heap
      if (bucket === undefined || bucket.second * 1000 > now || bucket.first === undefined) break
      const { item } = bucket.first
      this.delete(item)
      due.push(item)
    }
    return due
  }

  #bucketOf(second: number): Bucket<Item> {
    const found = this.#buckets.get(second)
    if (found) return found
    const bucket = { second, first: undefined, last: undefined, index: this.#heap.length }
    this.#buckets.set(second, bucket)
    this.#heap.push(bucket)
    this.#rise(bucket)
    return bucket
  }

  #unlink(entry: Entry<Item>): void {
    const { bucket, previous, next } = entry
    if (previous) previous.next = next
    else bucket.first = next
    if (next) next.previous = previous
    else bucket.last = previous
    entry.previous = undefined
    entry.next = undefined
    if (bucket.first === undefined) this.#drop(bucket)
  }

  #drop(bucket: Bucket<Item>): void {
    this.#buckets.delete(bucket.second)
    const last = this.#heap.pop()
    if (last === undefined || last === bucket) return
    this.#place(last, bucket.index)
    this.#rise(last)
    this.#sink(last)
  }

  #rise(bucket: Bucket<Item>): void {
    while (bucket.index > 0) {
      const parent = this.#heap[(bucket.index - 1) >> 1]
      if (parent === undefined || parent.second <= bucket.second) return
      this.#swap(bucket, parent)
    }
  }

  #sink(bucket: Bucket<Item>): void {
    for (;;) {
      const left = this.#heap[2 * bucket.index + 1]
      const right = this.#heap[2 * bucket.index + 2]
      const child = left && right && right.second < left.second ? right : left
      if (child === undefined || child.second >= bucket.second) return
      this.#swap(bucket, child)
    }
  }

  #swap(one: Bucket<Item>, other: Bucket<Item>): void {
    const { index } = one
    this.#place(one, other.index)
    this.#place(other, index)
  }

  #place(bucket: Bucket<Item>, index: number): void {
    bucket.index = index
    this.#heap[index] = bucket
  }
}

function append<Item>(bucket: Bucket<Item>, entry: Entry<Item>): void {
  entry.previous = bucket.last
  if (bucket.last) bucket.last.next = entry
  else bucket.first = entry
  bucket.last = entry
}
