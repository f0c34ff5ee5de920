// Cuts a stream of bytes into packets. Pulled: `append` what came in, then `next` until it says false. A packet that lies in one chunk is
// not copied and costs no allocation; one that is spread over chunks is copied once into a buffer of its own. No chunk outlives its packets.

const none = Buffer.alloc(0)

/** Bytes of the longest header: the first byte and four of length. */
const longestHeader = 5

/** Up to here a packet gets its whole buffer at once; a longer one grows with what has come, so that an announced length costs nothing. */
const wholeAtOnce = 65_536

/** One packet in the bytes it came in. */
export interface Frame {
  /** The first byte. */
  readonly head: number
  readonly buffer: Buffer
  /** Of the head byte. */
  readonly frameStart: number
  /** Of the body. */
  readonly start: number
  readonly end: number
  /** The length is in its shortest form. */
  readonly minimal: boolean
}

export class Framing implements Frame {
  /** First byte of the packet that stands here; after `false` that of the packet which has only begun, or -1. */
  head = -1
  buffer: Buffer = none
  /** Of the head byte. */
  frameStart = 0
  /** Of the body. */
  start = 0
  end = 0
  /** The length is in its shortest form. */
  minimal = true

  /** Largest packet in bytes, counted as Mosquitto counts max_packet_size: the first byte and the body, without the length. 0: none. */
  limit = 0
  /**
   * Set as soon as it is known; nothing comes after it. `reserved`: packet type 0, known by the first byte; `malformed`: a length of more than
   * four bytes. See `faultOfFraming`.
   */
  fault: 'oversize' | 'malformed' | 'reserved' | undefined

  /** Where it is `oversize`: the body of that packet, bytes. */
  oversize = 0

  #chunk: Buffer = none
  #at = 0
  #waiting: Buffer[] = []
  #waitingBytes = 0

  // The packet that did not end with its chunk: what it has so far, and its whole size once its length is known.
  #parts: Buffer = none
  #filled = 0
  #size = 0
  #bodyStart = 0

  /** Bytes held that belong to no packet given out yet. */
  get buffered(): number {
    return this.#filled + (this.#chunk.length - this.#at) + this.#waitingBytes
  }

  append(chunk: Buffer): void {
    if (this.fault !== undefined) return
    if (this.#at === this.#chunk.length && this.#waiting.length === 0) {
      this.#chunk = chunk
      this.#at = 0
    } else {
      this.#waiting.push(chunk)
      this.#waitingBytes += chunk.length
    }
  }

  /** Is there one complete packet more? Its place is in the fields, until the next call. */
  next(): boolean {
    if (this.fault !== undefined) return this.#nothing()
    if (this.#filled > 0) return this.#continue()
    if (this.#at === this.#chunk.length && !this.#advance()) return this.#nothing()

    const chunk = this.#chunk
    const from = this.#at
    this.head = chunk[from] ?? 0
    if (this.head <= 0x0f) {
      this.fault = 'reserved'
      return this.#nothing()
    }
    let at = from + 1
    let length = 0
    let shift = 0
    let byte: number
    do {
      if (at === chunk.length) return this.#begin()
      byte = chunk[at++] ?? 0
      length |= (byte & 0x7f) << shift
      shift += 7
    } while (byte > 0x7f && shift < 28)

    if (!this.#accepts(byte, length)) return this.#nothing()
    const end = at + length
    if (end > chunk.length) return this.#begin()
    this.buffer = chunk
    this.frameStart = from
    this.start = at
    this.end = end
    this.minimal = byte !== 0 || shift === 7
    this.#at = end
    return true
  }

  #accepts(lastLengthByte: number, length: number): boolean {
    if (lastLengthByte > 0x7f) this.fault = 'malformed'
    else if (this.limit > 0 && length + 1 > this.limit) {
      this.fault = 'oversize'
      this.oversize = length
    }
    return this.fault === undefined
  }

  #advance(): boolean {
    this.#chunk = none
    this.#at = 0
    while (this.#chunk.length === 0) {
      const chunk = this.#waiting.shift()
      if (chunk === undefined) return false
      this.#waitingBytes -= chunk.length
      this.#chunk = chunk
    }
    return true
  }

  #nothing(): false {
    if (this.fault !== undefined) {
      this.#chunk = none
      this.#at = 0
      this.#waiting = []
      this.#waitingBytes = 0
      this.#parts = none
      this.#filled = 0
    } else if (this.#filled === 0) {
      this.head = -1
    }
    this.buffer = none
    this.frameStart = 0
    this.start = 0
    this.end = 0
    return false
  }

  // The packet at #at goes on behind its chunk.
  #begin(): boolean {
    this.#parts = Buffer.allocUnsafe(longestHeader)
    this.#size = 0
    this.#filled = 0
    return this.#continue()
  }

  #continue(): boolean {
    while (this.#at < this.#chunk.length || this.#advance()) {
      if (this.#size === 0) {
        this.#takeHeaderByte()
        if (this.fault !== undefined) return this.#nothing()
      } else {
        this.#takeBody()
      }
      if (this.#filled === this.#size) return this.#joined()
    }
    return this.#nothing()
  }

  #takeHeaderByte(): void {
    const byte = this.#chunk[this.#at++] ?? 0
    this.#parts[this.#filled++] = byte
    if (this.#filled > 1 && (byte <= 0x7f || this.#filled === longestHeader)) {
      let length = 0
      for (let i = 1; i < this.#filled; i++) length |= ((this.#parts[i] ?? 0) & 0x7f) << (7 * (i - 1))
      if (!this.#accepts(byte, length)) return
      this.minimal = byte !== 0 || this.#filled === 2
      this.#size = this.#filled + length
      this.#bodyStart = this.#filled
    }
  }

  #takeBody(): void {
    const take = Math.min(this.#size - this.#filled, this.#chunk.length - this.#at)
    const needed = this.#filled + take
    if (needed > this.#parts.length) {
      const room = this.#size <= wholeAtOnce ? this.#size : Math.min(this.#size, Math.max(wholeAtOnce, needed * 2))
      const parts = Buffer.allocUnsafeSlow(room)
      this.#parts.copy(parts, 0, 0, this.#filled)
      this.#parts = parts
    }
    this.#chunk.copy(this.#parts, this.#filled, this.#at, this.#at + take)
    this.#filled += take
    this.#at += take
  }

  #joined(): true {
    this.buffer = this.#parts
    this.frameStart = 0
    this.start = this.#bodyStart
    this.end = this.#size
    this.#parts = none
    this.#filled = 0
    this.#size = 0
    return true
  }
}
