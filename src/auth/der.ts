// Reads DER, the encoding of certificates and revocation lists [X.690]. Every length is checked against what holds it, so malformed
// input is an exception here and never a wrong value further on.

/** One element. `start` is where its tag stands in the buffer it was read from, `end` the first byte behind it. */
export interface DerElement {
  readonly tag: number
  readonly content: Buffer
  readonly start: number
  readonly end: number
}

export const tags = {
  boolean: 0x01,
  integer: 0x02,
  bitString: 0x03,
  octetString: 0x04,
  objectIdentifier: 0x06,
  enumerated: 0x0a,
  sequence: 0x30,
  set: 0x31,
  utcTime: 0x17,
  generalizedTime: 0x18,
  /** Context-specific, constructed: `[n]`. */
  context: (n: number): number => 0xa0 + n
} as const

/** The bytes are not DER, or not of the expected form. */
export class DerError extends Error {
  override readonly name = 'DerError'
}

/** The element that starts at `offset`. */
export function readElement(bytes: Buffer, offset = 0): DerElement {
  const tag = byteAt(bytes, offset)
  const end = elementEnd(bytes, offset, bytes.length)
  return { tag, content: bytes.subarray(contentStart(bytes, offset, tag), end), start: offset, end }
}

/** Where the content of the element at `offset` begins, which must carry this tag: without a value of its own, for very many elements. */
export function contentStart(bytes: Buffer, offset: number, tag: number): number {
  const found = byteAt(bytes, offset)
  if (found !== tag) throw new DerError(`tag ${found} found where ${tag} belongs`)
  const first = byteAt(bytes, offset + 1)
  return offset + 2 + (first >= 0x80 ? first & 0x7f : 0)
}

/** The first byte behind the element at `offset`, which must end at `limit` or before. */
export function elementEnd(bytes: Buffer, offset: number, limit: number): number {
  // Tag numbers above 30 take more bytes; nothing that we read has one.
  if ((byteAt(bytes, offset) & 0x1f) === 0x1f) throw new DerError('multi-byte tag')
  let length = byteAt(bytes, offset + 1)
  let begin = offset + 2
  if (length >= 0x80) {
    const count = length & 0x7f
    if (count === 0 || count > 4) throw new DerError('length out of range')
    length = 0
    for (let i = 0; i < count; i += 1) length = length * 256 + byteAt(bytes, begin + i)
    begin += count
  }
  if (begin + length > limit) throw new DerError('element ends behind its container')
  return begin + length
}

/** All elements inside, in order. */
export function* elements(content: Buffer): Generator<DerElement> {
  for (let offset = 0; offset < content.length; ) {
    const element = readElement(content, offset)
    yield element
    offset = element.end
  }
}

/** The elements of a SEQUENCE (or of another constructed `tag`). */
export function childrenOf(element: DerElement | undefined, tag: number = tags.sequence): DerElement[] {
  const content = contentOf(element, tag)
  const children: DerElement[] = []
  for (let offset = 0; offset < content.length; ) {
    const child = readElement(content, offset)
    children.push(child)
    offset = child.end
  }
  return children
}

/** The content of an element that must be there and carry this tag. */
export function contentOf(element: DerElement | undefined, tag: number): Buffer {
  if (element === undefined) throw new DerError('element missing')
  if (element.tag !== tag) throw new DerError(`tag ${element.tag} found where ${tag} belongs`)
  return element.content
}

/** The whole encoding of an element, tag and length included. */
export function encodingOf(container: Buffer, element: DerElement): Buffer {
  return container.subarray(element.start, element.end)
}

const longestIdentifier = 128

/** `2.5.4.3`. */
export function readObjectIdentifier(content: Buffer): string {
  const last = content.at(-1)
  if (last === undefined || last >= 0x80) throw new DerError('object identifier cut off')
  // A long arc takes time in the square of its length.
  if (content.length > longestIdentifier) throw new DerError('object identifier too long')
  let text = ''
  for (let start = 0; start < content.length; ) {
    let end = start
    while ((content[end] ?? 0) >= 0x80) end += 1
    const arc = readArc(content, start, end)
    if (start > 0) text += `.${arc}`
    // The first two arcs share a number: 40 × first + second [X.690, 8.19.4].
    else text = arc >= 80 ? `2.${BigInt(arc) - 80n}` : `${arc < 40 ? 0 : 1}.${Number(arc) % 40}`
    start = end + 1
  }
  return text
}

// `end`: its last byte. Numbers hold seven bytes of seven bits; longer ones are rare.
function readArc(content: Buffer, start: number, end: number): number | bigint {
  if (end - start >= 7) {
    let long = 0n
    for (let i = start; i <= end; i++) long = (long << 7n) | BigInt((content[i] ?? 0) & 0x7f)
    return long
  }
  let arc = 0
  for (let i = start; i <= end; i++) arc = arc * 128 + ((content[i] ?? 0) & 0x7f)
  return arc
}

/** A UTCTime or GeneralizedTime in the forms that certificates may use [RFC 5280, 4.1.2.5]. */
export function readTime(element: DerElement | undefined): Date {
  const text = element?.content.toString('latin1') ?? ''
  const long = element?.tag === tags.generalizedTime
  if (!long && element?.tag !== tags.utcTime) throw new DerError('time missing')
  const match = /^(\d{2}|\d{4})(\d{2})(\d{2})(\d{2})(\d{2})(\d{2})Z$/.exec(text)
  const [, year = '', month, day, hours, minutes, seconds] = match ?? []
  if (match === null || (year.length === 4) !== long) throw new DerError('time of another form')
  const century = long ? '' : Number(year) < 50 ? '20' : '19'
  const time = new Date(`${century}${year}-${month}-${day}T${hours}:${minutes}:${seconds}Z`)
  if (Number.isNaN(time.getTime())) throw new DerError('no such time')
  return time
}

/** An INTEGER as a key that equals another's exactly when the numbers are equal. */
export function integerKey(content: Buffer): string {
  if (content.length === 0) throw new DerError('empty integer')
  let start = 0
  while (start < content.length - 1 && content[start] === 0 && (content[start + 1] ?? 0) < 0x80) start += 1
  return content.toString('latin1', start)
}

function byteAt(bytes: Buffer, offset: number): number {
  const byte = bytes[offset]
  if (byte === undefined) throw new DerError('element cut off')
  return byte
}
