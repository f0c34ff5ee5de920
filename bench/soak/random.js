// The same choices for the same seed (mulberry32), so that what a run finds can be looked for again.

export class Random {
  #state

  constructor(seed) {
    this.#state = seed
  }

  /** From 0, below 1. */
  next() {
    this.#state = (this.#state + 0x6d2b79f5) | 0
    let t = Math.imul(this.#state ^ (this.#state >>> 15), 1 | this.#state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296
  }

  below(limit) {
    return Math.floor(this.next() * limit)
  }

  pick(list) {
    return list[this.below(list.length)]
  }

  bytes(length) {
    return Buffer.from(Array.from({ length }, () => this.below(256)))
  }
}
