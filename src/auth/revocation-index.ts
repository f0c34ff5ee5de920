// The serial numbers of a revocation list, found again in the list's own bytes: a hash table of places. A million of them take 16 MB, go
// from one thread to another without being copied, and cost the garbage collector nothing.

import { readExtension } from './certificate.js'
import { childrenOf, contentStart, DerError, elementEnd, readElement, tags } from './der.js'

export interface SerialIndex {
  /** Different serial numbers. */
  readonly size: number
  /** Where an entry begins, plus one; 0: nothing. As long as a power of two, and at most half full. */
  readonly places: Uint32Array
  /** Of the hash: unknown to whoever chooses serial numbers. */
  readonly seed: number
}

/** Looks at each entry just enough to find it again and to be sure that we understand it. Throws a DerError where we don't. */
export function indexSerials(content: Buffer, seed: number): SerialIndex {
  const places = new Uint32Array(tableLength(countElements(content)))
  let size = 0
  for (let at = 0; at < content.length; ) {
    const end = elementEnd(content, at, content.length)
    const serial = contentStart(content, at, tags.sequence)
    const serialEnd = checkEntry(content, serial, end)
    if (insert(content, places, seed, at, significantStart(content, serial, serialEnd), serialEnd)) size += 1
    at = end
  }
  return { size, places, seed }
}

/** Where in the content the entry of this serial number (`integerKey`) begins; undefined: it has none. */
export function findSerial(content: Buffer, { places, seed }: SerialIndex, key: string): number | undefined {
  const serial = Buffer.from(key, 'latin1')
  const mask = places.length - 1
  for (let slot = hash(serial, 0, serial.length, seed) & mask; ; slot = (slot + 1) & mask) {
    const place = places[slot]
    if (place === undefined || place === 0) return undefined
    const [start, end] = serialAt(content, place - 1)
    if (content.compare(serial, 0, serial.length, start, end) === 0) return place - 1
  }
}

function countElements(content: Buffer): number {
  let count = 0
  for (let at = 0; at < content.length; at = elementEnd(content, at, content.length)) count += 1
  return count
}

function tableLength(count: number): number {
  let length = 8
  while (length < 2 * count) length *= 2
  return length
}

/** Is it a new one? */
function insert(content: Buffer, places: Uint32Array, seed: number, at: number, start: number, end: number): boolean {
  const mask = places.length - 1
  for (let slot = hash(content, start, end, seed) & mask; ; slot = (slot + 1) & mask) {
    const place = places[slot]
    if (place === undefined || place === 0) {
      places[slot] = at + 1
      return true
    }
    const [otherStart, otherEnd] = serialAt(content, place - 1)
    if (content.compare(content, start, end, otherStart, otherEnd) === 0) return false
  }
}

function serialAt(content: Buffer, entry: number): [start: number, end: number] {
  const serial = contentStart(content, entry, tags.sequence)
  const end = elementEnd(content, serial, content.length)
  return [significantStart(content, serial, end), end]
}

/** As `integerKey`: without the zeros that say nothing. */
function significantStart(content: Buffer, serial: number, end: number): number {
  let start = contentStart(content, serial, tags.integer)
  if (start === end) throw new DerError('empty integer')
  while (start < end - 1 && content[start] === 0 && (content[start + 1] ?? 0) < 0x80) start += 1
  return start
}

/** FNV-1a, begun with the seed. */
function hash(bytes: Buffer, start: number, end: number, seed: number): number {
  let value = seed
  for (let i = start; i < end; i += 1) value = Math.imul(value ^ (bytes[i] ?? 0), 0x01000193)
  return (value ^ (value >>> 15)) >>> 0
}

/** Serial number, date, and perhaps extensions, from `serial` to `end`. Returns where the number ends. */
function checkEntry(content: Buffer, serial: number, end: number): number {
  const time = elementEnd(content, serial, end)
  const tag = time < end ? content[time] : undefined
  if (tag !== tags.utcTime && tag !== tags.generalizedTime) throw new DerError('revocation without a date')
  const extensions = elementEnd(content, time, end)
  if (extensions < end) checkExtensions(content, extensions, end)
  return time
}

// reasonCode, 2.5.29.21, not critical: what most entries have, and nothing else.
const reasonCode = Buffer.from('0603551d1504', 'hex')

function checkExtensions(content: Buffer, at: number, end: number): void {
  const first = contentStart(content, at, tags.sequence)
  const isReasonAlone =
    elementEnd(content, at, end) === end &&
    first < end &&
    elementEnd(content, first, end) === end &&
    content.compare(reasonCode, 0, reasonCode.length, contentStart(content, first, tags.sequence), first + 2 + reasonCode.length) === 0
  if (isReasonAlone) return
  for (const extension of childrenOf(readElement(content.subarray(at, end)))) {
    const { oid, critical } = readExtension(extension)
    if (oid === '2.5.29.29') throw new DerError('it is an indirect CRL, which is not supported')
    if (critical) throw new DerError(`one of its entries has the critical extension ${oid}, which is not supported`)
  }
}
