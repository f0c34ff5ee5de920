// The end of a turn: every connection that got something to send in this turn of the event loop writes it once. Receivers of the same
// packets share the bytes that are written.

/** What wants to be flushed. */
export interface Flushable {
  flush(): void
}

/** Flushing may take so long in one turn, then others come first; what streams do behind each write takes half as long again. Milliseconds. */
const slice = 4
/** Between two looks at the clock. */
const perLook = 64

export class Flusher {
  #dirty: Flushable[] = []
  #scheduled = false
  #joinedFrom: readonly Buffer[] = []
  #joined: Buffer = Buffer.alloc(0)

  /** Once for each turn: the caller remembers that it has asked. */
  schedule(item: Flushable): void {
    this.#dirty.push(item)
    this.#runLater()
  }

  /** The bytes of all pieces in one buffer. The next caller with the same pieces gets the same buffer: with a fan-out all of them do. */
  join(pieces: readonly Buffer[], bytes: number): Buffer {
    if (!isSame(pieces, this.#joinedFrom)) {
      this.#joined = concat(pieces, bytes)
      this.#joinedFrom = pieces
    }
    return this.#joined
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
    this.#joinedFrom = []
    this.#joined = Buffer.alloc(0)
  }
}

function isSame(a: readonly Buffer[], b: readonly Buffer[]): boolean {
  if (a.length !== b.length) return false
  for (let i = 0; i < a.length; i++) {
    const x = a[i]
    const y = b[i]
    if (x === y) continue
    if (x === undefined || y === undefined || x.length !== y.length || x.byteOffset !== y.byteOffset || x.buffer !== y.buffer) return false
  }
  return true
}

// Of many small pieces, `set` on each costs more than the bytes do.
const small = 48

function concat(pieces: readonly Buffer[], bytes: number): Buffer {
  const joined = Buffer.allocUnsafe(bytes)
  let at = 0
  for (const piece of pieces) {
    if (piece.length > small) joined.set(piece, at)
    else for (let i = 0; i < piece.length; i++) joined[at + i] = piece[i] ?? 0
    at += piece.length
  }
  return joined
}
