// What one connection is still to be sent. Packets gather during a turn of the event loop and leave in one write; one write is under way
// at a time, everything else waits here, where its number and size can be limited. A receiver that doesn't read costs this and no more.

import type { Writable } from 'node:stream'
import { errorOf } from '../errors.js'
import type { Flusher } from './flusher.js'

/** Bytes of one write. */
const writeSize = 65_536
/** From this average size on pieces are not joined, unless one TLS record holds them all: Node would join them, and it takes it longer. */
const largePiece = 1024
const recordSize = 16_384
/** As much may gather for a receiver that keeps up, before the limit on messages counts: a burst within one turn is no slow receiver. */
const burst = 1_048_576
/** What had room for more pieces than these gives it back. */
const mostPlaces = 64

const none = Buffer.alloc(0)

export class Outbox {
  readonly #stream: Writable
  readonly #flusher: Flusher
  readonly #written: (error?: Error | null) => void
  /** The first `#count` of them. A place is there from the beginning: what leaves alone, as most does, asks for no memory. */
  #pieces: Buffer[] = [none]
  /** How many packets each piece is. */
  #packets: number[] = [0]
  #count = 0
  #waiting = 0
  #bytes = 0
  // Packets that are passed on where they lie, while each lies right behind the one before: one piece for all of them.
  #chunk: Buffer | undefined
  #from = 0
  #to = 0
  #forwarded = 0
  /** The pieces before this one lie in memory of our own, not in a chunk that somebody else sent. */
  #owned = 0
  #writing = false
  #writes = 0
  #stalled = false
  #scheduled = false
  #closed = false

  /** `written`: a write has left. */
  constructor(stream: Writable, flusher: Flusher, written: () => void) {
    this.#stream = stream
    this.#flusher = flusher
    this.#written = error => {
      this.#writing = false
      this.#writes += 1
      if (error || this.#closed) return
      this.#stalled = false
      if (this.#bytes > 0) this.flush()
      written()
    }
  }

  /** Is a write under way? */
  get isWriting(): boolean {
    return this.#writing
  }

  /** How many writes have ended. */
  get writes(): number {
    return this.#writes
  }

  /** Bytes that wait. */
  get bytes(): number {
    return this.#bytes
  }

  /** Packets that wait. */
  get waiting(): number {
    return this.#waiting
  }

  /** It takes nothing any more. */
  get isClosed(): boolean {
    return this.#closed
  }

  /** May queues be drawn from, or is there enough for the next write? */
  get hasRoom(): boolean {
    return this.#bytes < writeSize && !this.#closed
  }

  /** Did the receiver not take what it was sent a turn ago, or gather more than a burst? */
  get isBehind(): boolean {
    return this.#stalled || this.#bytes > burst
  }

  /** One packet, or its beginning when `more` comes right behind. The buffer is not copied: it must not change any more. */
  push(packet: Buffer, more?: Buffer): void {
    if (this.#closed) return
    if (this.#chunk !== undefined) this.#closeSlice()
    this.#add(packet, 1)
    this.#bytes += packet.length
    if (more !== undefined && more.length > 0) {
      this.#add(more, 0)
      this.#bytes += more.length
    }
    this.#waiting += 1
    this.#schedule()
  }

  /** A packet of four bytes, the first in the highest bits. */
  pushWord(word: number): void {
    const { arena } = this.#flusher
    const at = arena.put(word)
    this.forward(arena.buffer, at, at + 4)
  }

  /** One packet where it lies, which must not change any more. */
  forward(chunk: Buffer, start: number, end: number): void {
    if (this.#closed) return
    if (this.#chunk === chunk && this.#to === start) {
      this.#to = end
    } else {
      if (this.#chunk !== undefined) this.#closeSlice()
      this.#chunk = chunk
      this.#from = start
      this.#to = end
    }
    this.#forwarded += 1
    this.#bytes += end - start
    this.#waiting += 1
    this.#schedule()
  }

  flush(): void {
    this.#scheduled = false
    try {
      this.#flush()
    } catch (error) {
      // A stream of an embedder's that throws instead of failing, or memory that it gave away: that connection alone ends.
      this.#stream.destroy(errorOf(error))
    }
  }

  #flush(): void {
    if (this.#chunk !== undefined) this.#closeSlice()
    if (this.#closed || this.#bytes === 0) return
    if (this.#writing) {
      this.#stalled = true
      this.#own()
      return
    }
    this.#writing = true
    if (this.#count === 1 && this.#bytes <= writeSize) this.#writeOne()
    else if (this.#bytes <= writeSize && isJoined(this.#bytes, this.#count)) this.#writeJoined()
    else this.#write(this.#take())
    // What is left waits for this write, and longer than the chunks it lies in should.
    if (this.#bytes > 0) this.#own()
  }

  /** Sends what there is, then ends the stream. Nothing is taken any more. */
  end(): void {
    if (this.#closed) return
    if (this.#chunk !== undefined) this.#closeSlice()
    this.#closed = true
    const rest = this.#pieces.slice(0, this.#count)
    this.#clear()
    for (const piece of rest) this.#stream.write(piece)
    this.#stream.end()
  }

  /** Forgets what was not sent. */
  close(): void {
    this.#closed = true
    this.#clear()
  }

  #schedule(): void {
    if (this.#scheduled) return
    this.#scheduled = true
    this.#flusher.schedule(this)
  }

  #add(piece: Buffer, packets: number): void {
    this.#pieces[this.#count] = piece
    this.#packets[this.#count] = packets
    this.#count += 1
  }

  #writeOne(): void {
    const piece = this.#pieces[0]
    this.#pieces[0] = none
    this.#empty()
    this.#stream.write(piece ?? '', this.#written)
  }

  // Small pieces are joined, and their places used again.
  #writeJoined(): void {
    const joined = this.#flusher.join(this.#pieces, this.#count, this.#bytes)
    if (this.#pieces.length > mostPlaces) this.#clear()
    else {
      this.#pieces.fill(none, 0, this.#count)
      this.#empty()
    }
    this.#stream.write(joined, this.#written)
  }

  // Large ones are not: the stream takes them together (writev), and joining would cost memory for nothing.
  #write(pieces: readonly Buffer[]): void {
    const [first] = pieces
    const bytes = lengthOf(pieces)
    if (pieces.length < 2) {
      this.#stream.write(first ?? '', this.#written)
    } else if (isJoined(bytes, pieces.length)) {
      this.#stream.write(this.#flusher.join(pieces, pieces.length, bytes), this.#written)
    } else {
      this.#stream.cork()
      for (let i = 0; i < pieces.length - 1; i++) this.#stream.write(pieces[i])
      this.#stream.write(pieces[pieces.length - 1], this.#written)
      this.#stream.uncork()
    }
  }

  // At most one write's worth.
  #take(): readonly Buffer[] {
    if (this.#bytes <= writeSize) {
      const all = this.#pieces.slice(0, this.#count)
      this.#clear()
      return all
    }
    let count = 0
    let bytes = 0
    let next = this.#pieces[0]?.length ?? 0
    while (bytes + next <= writeSize) {
      this.#waiting -= this.#packets[count] ?? 0
      bytes += next
      count += 1
      next = this.#pieces[count]?.length ?? 0
    }
    const taken = this.#pieces.slice(0, count)
    this.#pieces = this.#pieces.slice(count)
    this.#packets = this.#packets.slice(count)
    this.#count -= count
    this.#owned = Math.max(0, this.#owned - count)
    this.#bytes -= bytes
    if (bytes < writeSize && next >= largePiece) taken.push(this.#takePart(writeSize - bytes))
    return taken
  }

  // A large payload leaves in parts: what a receiver that doesn't read costs has an end.
  #takePart(length: number): Buffer {
    const [piece = none] = this.#pieces
    this.#pieces[0] = piece.subarray(length)
    this.#bytes -= length
    return piece.subarray(0, length)
  }

  #closeSlice(): void {
    if (this.#chunk === undefined) return
    this.#add(this.#flusher.slice(this.#chunk, this.#from, this.#to), this.#forwarded)
    this.#chunk = undefined
    this.#forwarded = 0
  }

  // A small slice would keep the whole chunk it lies in. What lies in Node's pool or an arena was made for all receivers together.
  #own(): void {
    for (let i = this.#owned; i < this.#count; i++) {
      const piece = this.#pieces[i]
      if (piece === undefined || piece.buffer.byteLength <= Buffer.poolSize) continue
      if (piece.length * 2 < piece.buffer.byteLength) this.#pieces[i] = Buffer.from(piece)
    }
    this.#owned = this.#count
  }

  #clear(): void {
    this.#pieces = [none]
    this.#packets = [0]
    this.#empty()
  }

  #empty(): void {
    this.#count = 0
    this.#chunk = undefined
    this.#forwarded = 0
    this.#owned = 0
    this.#waiting = 0
    this.#bytes = 0
  }
}

const isJoined = (bytes: number, pieces: number): boolean => bytes <= recordSize || bytes < pieces * largePiece

function lengthOf(pieces: readonly Buffer[]): number {
  let bytes = 0
  for (const piece of pieces) bytes += piece.length
  return bytes
}
