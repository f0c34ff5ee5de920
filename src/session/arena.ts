// Room for packets of four bytes, as nearly all acknowledgements are: those that one connection is sent one behind the other lie side by side,
// and leave as one piece. What was written once stays as it is.

/** Bytes. Not more than Node's own pool has: an outbox takes what lies in that for small, and lets it be. */
const size = Buffer.poolSize

export class Arena {
  buffer: Buffer = Buffer.alloc(0)
  #at = 0

  /** `word`: four bytes, the first in its highest bits. Where they lie now in `buffer`. */
  put(word: number): number {
    if (this.#at === this.buffer.length) {
      this.buffer = Buffer.allocUnsafeSlow(size)
      this.#at = 0
    }
    const { buffer } = this
    const at = this.#at
    buffer[at] = word >> 24
    buffer[at + 1] = (word >> 16) & 0xff
    buffer[at + 2] = (word >> 8) & 0xff
    buffer[at + 3] = word & 0xff
    this.#at = at + 4
    return at
  }
}
