// Reads the fields of one packet, strictly. Nothing throws: the first field that is wrong sets `wrong`, and from then on every field is
// empty, so that whoever reads asks once at the end of a step.

import { isTopicName, maxSlashes } from '../topic.js'

const none = Buffer.alloc(0)

/** `malformed`: cut off, or a length that is wrong. `utf8`: text that MQTT or Mosquitto does not allow. */
export type Wrong = 'malformed' | 'utf8'

export class Reader {
  buffer: Buffer
  at: number
  end: number
  wrong: Wrong | undefined

  constructor(buffer: Buffer, start: number, end: number) {
    this.buffer = buffer
    this.at = start
    this.end = end
  }

  /** Reads from there, as a new one would. */
  reset(buffer: Buffer, start: number, end: number): void {
    this.buffer = buffer
    this.at = start
    this.end = end
    this.wrong = undefined
  }

  get left(): number {
    return this.end - this.at
  }

  byte(): number {
    if (!this.#has(1)) return 0
    return this.buffer[this.at++] ?? 0
  }

  uint16(): number {
    if (!this.#has(2)) return 0
    const value = uint16At(this.buffer, this.at)
    this.at += 2
    return value
  }

  uint32(): number {
    if (!this.#has(4)) return 0
    const value = uint16At(this.buffer, this.at) * 0x10000 + uint16At(this.buffer, this.at + 2)
    this.at += 4
    return value
  }

  /** A variable byte integer, in its shortest form [MQTT5-1.5.5-1]. */
  varint(): number {
    let value = 0
    for (let shift = 0; shift < 28; shift += 7) {
      const byte = this.byte()
      value |= (byte & 0x7f) << shift
      if (byte > 0x7f) continue
      if (byte === 0 && shift > 0) break
      return this.wrong === undefined ? value : 0
    }
    return this.#fail('malformed')
  }

  /** A slice: whoever keeps it copies it. */
  binary(): Buffer {
    const length = this.uint16()
    if (!this.#has(length)) return none
    this.at += length
    return this.buffer.subarray(this.at - length, this.at)
  }

  string(): string {
    const length = this.uint16()
    if (length === 0 || !this.#has(length)) return ''
    const start = this.at
    this.at += length
    const kind = textKind(this.buffer, start, this.at)
    if (kind === 'wrong') this.#fail('utf8')
    return kind === 'wrong' ? '' : textOf(kind, this.buffer, start, this.at)
  }

  /** Goes past a string or bytes. */
  skip(isText: boolean): void {
    const length = this.uint16()
    if (!this.#has(length)) return
    if (isText && textKind(this.buffer, this.at, this.at + length) === 'wrong') this.#fail('utf8')
    this.at += length
  }

  /** Goes past a string. Is it the name of a topic? */
  skipTopicName(): boolean {
    const length = this.uint16()
    if (length === 0 || !this.#has(length)) return false
    const kind = topicKind(this.buffer, this.at, this.at + length)
    if (kind === 'wrong') this.#fail('utf8')
    this.at += length
    return kind !== 'none'
  }

  #has(bytes: number): boolean {
    if (this.wrong !== undefined) return false
    if (this.at + bytes <= this.end) return true
    this.#fail('malformed')
    return false
  }

  #fail(wrong: Wrong): 0 {
    this.wrong ??= wrong
    return 0
  }
}

export function uint16At(buffer: Buffer, at: number): number {
  return ((buffer[at] ?? 0) << 8) | (buffer[at + 1] ?? 0)
}

export type TextKind = 'ascii' | 'unicode' | 'wrong'

export function textOf(kind: 'ascii' | 'unicode', buffer: Buffer, start: number, end: number): string {
  return buffer.toString(kind === 'ascii' ? 'latin1' : 'utf8', start, end)
}

/**
 * Is it text for MQTT? Well-formed UTF-8 without U+0000 and surrogates [MQTT-1.5.4], and, as Mosquitto has it, without what the
 * specification only advises against: control characters and noncharacters.
 */
export function textKind(buffer: Buffer, start: number, end: number): TextKind {
  for (let at = start; at < end; at++) {
    const byte = buffer[at] ?? 0
    if (byte < 0x20 || byte > 0x7e) return byte > 0x7f && isText(buffer, at, end) ? 'unicode' : 'wrong'
  }
  return 'ascii'
}

/** The same of a topic name, without a string where all of it is ASCII. `none`: it is text, but no name. An empty one may be one. */
export function topicKind(buffer: Buffer, start: number, end: number): TextKind | 'none' {
  let slashes = 0
  let isName = true
  for (let at = start; at < end; at++) {
    const byte = buffer[at] ?? 0
    if (byte < 0x20 || byte > 0x7e) {
      const kind = textKind(buffer, start, end)
      return kind === 'wrong' || isTopicName(textOf(kind, buffer, start, end)) ? kind : 'none'
    }
    if (byte === 0x2f) slashes++
    else if (byte === 0x2b || byte === 0x23) isName = false
  }
  return isName && slashes <= maxSlashes ? 'ascii' : 'none'
}

/** The same of text that did not come in bytes: a receiver may close its connection on any other [MQTT-1.5.4]. */
export function isWellFormed(text: string): boolean {
  if (/^[ -~]*$/.test(text)) return true
  if (/\p{Surrogate}/u.test(text)) return false
  const bytes = Buffer.from(text)
  return textKind(bytes, 0, bytes.length) !== 'wrong'
}

function isText(buffer: Buffer, start: number, end: number): boolean {
  let at = start
  while (at < end) {
    const byte = buffer[at++] ?? 0
    if (byte <= 0x7f) {
      if (isControl(byte)) return false
      continue
    }
    const more = byte >= 0xf0 ? 3 : byte >= 0xe0 ? 2 : 1
    // 0x80 to 0xc1: a continuation without a start, or an overlong form of ASCII. Above 0xf4: above U+10FFFF.
    if (byte < 0xc2 || byte > 0xf4 || at + more > end) return false
    let point = byte & (0x3f >> more)
    for (let i = 0; i < more; i++) {
      const next = buffer[at++] ?? 0
      if ((next & 0xc0) !== 0x80) return false
      point = (point << 6) | (next & 0x3f)
    }
    const isOverlong = (more === 2 && point < 0x800) || (more === 3 && point < 0x1_0000)
    if (isOverlong || point > 0x10_ffff || isControl(point) || isSurrogate(point) || isNoncharacter(point)) return false
  }
  return true
}

const isControl = (point: number): boolean => point < 0x20 || (point >= 0x7f && point <= 0x9f)
const isSurrogate = (point: number): boolean => point >= 0xd800 && point <= 0xdfff
const isNoncharacter = (point: number): boolean => (point & 0xfffe) === 0xfffe || (point >= 0xfdd0 && point <= 0xfdef)
