// Room for small packets that lie side by side: what one connection is sent one behind the other is one piece of memory then, and leaves as
// one. A packet asks for no Buffer of its own, which costs more than its bytes do. Its place is never given to another.

import { markAsUntransferable } from 'node:worker_threads'
import { copyBytes } from './writer.js'

// Newer versions of Node 24 make the pool of small buffers eight times as large: a message that stays would keep all of the 64 KB it lies
// in, and nobody could tell them from a chunk that came in. The property is there to be set.
Buffer.poolSize = Math.min(Buffer.poolSize, 8192)

/** Bytes. As many as Node's own pool has: an outbox takes what lies in that for small, and lets it be. */
const size = 8192
/** A longer one has a Buffer to itself: it is worth it, and what it takes along when it stays is its own. */
const longest = 1024

export class Arena {
  /** Where `put` and `copy` have put the last one. */
  buffer: Buffer = Buffer.alloc(0)
  #block: Buffer = this.buffer
  #at = 0

  /** `word`: four bytes, the first in its highest bits. Where they lie now in `buffer`. */
  put(word: number): number {
    const at = this.#make(4)
    const { buffer } = this
    buffer[at] = word >> 24
    buffer[at + 1] = (word >> 16) & 0xff
    buffer[at + 2] = (word >> 8) & 0xff
    buffer[at + 3] = word & 0xff
    return at
  }

  /** The bytes of `source` from `start` up to `end`. Where they lie now in `buffer`. */
  copy(source: Buffer, start: number, end: number): number {
    const at = this.#make(end - start)
    copyBytes(source, start, end, this.buffer, at)
    return at
  }

  #make(length: number): number {
    if (length > longest) {
      this.buffer = Buffer.allocUnsafe(length)
      return 0
    }
    if (this.#at + length > this.#block.length) {
      this.#block = Buffer.allocUnsafeSlow(size)
      // An embedder that gives the memory of one payload to a worker would take away what is others'.
      markAsUntransferable(this.#block.buffer)
      this.#at = 0
    }
    this.buffer = this.#block
    const at = this.#at
    this.#at = at + length
    return at
  }
}
