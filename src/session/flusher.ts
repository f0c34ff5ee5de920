// The end of a turn: every connection that got something to send in this turn of the event loop writes it once. Receivers of the same
// packets share the bytes that are written.

import { Arena } from '../protocol/arena.js'

/** What wants to be flushed. */
export interface Flushable {
  flush(): void
}

/** Flushing may take so long in one turn, then others come first; what streams do behind each write takes half as long again. Milliseconds. */
const slice = 4
/** Between two looks at the clock. */
const perLook = 64
/** What is remembered of more pieces than these is given back. */
const mostPlaces = 256

const none = Buffer.alloc(0)

export class Flusher {
  #dirty: Flushable[] = []
  #scheduled = false
  /** For all outboxes together, as they are filled in turn. */
  readonly arena = new Arena()
  /** What `slice` gave last, and where it lies. */
  #slice: Buffer = none
  #sliceChunk: Buffer = none
  #sliceFrom = 0
  /** The first `#joinedCount` of them became `#joined`; of the others some may have done so before, in this turn. */
  readonly #joinedFrom: Buffer[] = []
  #joinedCount = 0
  #joined: Buffer = none

  /** Once for each turn: the caller remembers that it has asked. */
  schedule(item: Flushable): void {
    this.#dirty.push(item)
    this.#runLater()
  }

  /** The first `count` pieces in one buffer. The next caller with the same pieces gets the same buffer: with a fan-out all of them do. */
  join(pieces: readonly Buffer[], count: number, bytes: number): Buffer {
    if (count !== this.#joinedCount || !isSame(pieces, this.#joinedFrom, count)) {
      this.#joined = concat(pieces, count, bytes)
      this.#joinedCount = count
      for (let i = 0; i < count; i++) this.#joinedFrom[i] = pieces[i] ?? none
    }
    return this.#joined
  }

  /** A part of the chunk. The next caller with the same part gets the same buffer. */
  slice(chunk: Buffer, from: number, to: number): Buffer {
    if (chunk !== this.#sliceChunk || from !== this.#sliceFrom || to - from !== this.#slice.length) {
      this.#slice = chunk.subarray(from, to)
      this.#sliceChunk = chunk
      this.#sliceFrom = from
    }
    return this.#slice
  }

  #runLater(): void {
    if (this.#scheduled) return
    this.#scheduled = true
    setImmediate(this.#run)
  }

  readonly #run = (): void => {
    const dirty = this.#dirty
    this.#dirty = []
    this.#scheduled = false
    const start = performance.now()
    for (let i = 0; i < dirty.length; i++) {
      dirty[i]?.flush()
      if (i % perLook === perLook - 1 && performance.now() - start > slice) {
        this.#dirty = dirty.slice(i + 1).concat(this.#dirty)
        if (this.#dirty.length > 0) this.#runLater()
        break
      }
    }
    // What was sent need not be kept.
    if (this.#joinedCount > 0) this.#forget()
    this.#slice = none
    this.#sliceChunk = none
  }

  #forget(): void {
    if (this.#joinedFrom.length > mostPlaces) this.#joinedFrom.length = 0
    else this.#joinedFrom.fill(none)
    this.#joinedCount = 0
    this.#joined = none
  }
}

function isSame(a: readonly Buffer[], b: readonly Buffer[], count: number): boolean {
  for (let i = 0; i < count; i++) {
    const x = a[i]
    const y = b[i]
    if (x === y) continue
    if (x === undefined || y === undefined || x.length !== y.length || x.byteOffset !== y.byteOffset || x.buffer !== y.buffer) return false
  }
  return true
}

// Of many small pieces, `set` on each costs more than the bytes do.
const small = 48

function concat(pieces: readonly Buffer[], count: number, bytes: number): Buffer {
  const joined = Buffer.allocUnsafe(bytes)
  let at = 0
  for (let n = 0; n < count; n++) {
    const piece = pieces[n] ?? none
    if (piece.length > small) joined.set(piece, at)
    else for (let i = 0; i < piece.length; i++) joined[at + i] = piece[i] ?? 0
    at += piece.length
  }
  return joined
}
