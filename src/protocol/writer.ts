// Numbers and text into a buffer, big endian; each gives the place behind what it wrote.

/** How many bytes a variable byte integer takes. */
export function variableLength(value: number): number {
  return value < 0x80 ? 1 : value < 0x4000 ? 2 : value < 0x20_0000 ? 3 : 4
}

export function writeVariable(buffer: Buffer, at: number, value: number): number {
  let rest = value
  let next = at
  while (rest > 0x7f) {
    buffer[next++] = (rest & 0x7f) | 0x80
    rest >>>= 7
  }
  buffer[next++] = rest
  return next
}

export function writeUint16(buffer: Buffer, at: number, value: number): number {
  buffer[at] = value >> 8
  buffer[at + 1] = value & 0xff
  return at + 2
}

export function writeUint32(buffer: Buffer, at: number, value: number): number {
  return writeUint16(buffer, writeUint16(buffer, at, Math.floor(value / 0x1_0000)), value % 0x1_0000)
}

/** Text behind its length in bytes, which the caller knows. */
export function writeText(buffer: Buffer, at: number, text: string, bytes: number): number {
  const start = writeUint16(buffer, at, bytes)
  if (bytes > 0) buffer.write(text, start, bytes, bytes === text.length ? 'latin1' : 'utf8')
  return start + bytes
}

/** So few are copied one by one: anything else costs more than they do. */
const few = 48

/** The bytes of `source` from `start` up to `end`, where there is room for them. */
export function copyBytes(source: Buffer, start: number, end: number, into: Buffer, at: number): void {
  const length = end - start
  if (length > few) into.set(new Uint8Array(source.buffer, source.byteOffset + start, length), at)
  else for (let i = 0; i < length; i++) into[at + i] = source[start + i] ?? 0
}

export function writeBytes(buffer: Buffer, at: number, bytes: Buffer): number {
  if (bytes.length > 0) buffer.set(bytes, at)
  return at + bytes.length
}
