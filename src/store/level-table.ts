// The tables of a LevelDB, looked at without it: it trusts them, and ends the process when the keys of one are out of order. Each block of a
// table has a checksum; those that are wrong are left out. Tables are written without compression, so that this can be read here.
// https://github.com/google/leveldb/blob/main/doc/table_format.md

/** Where a block lies, without its trailer. */
interface Handle {
  readonly offset: number
  readonly size: number
}

/** A data block, under the key that its index has for it. */
interface Part {
  readonly key: Buffer
  readonly handle: Handle
}

const footerLength = 48
const magic = Buffer.from('57fb808b247547db', 'hex')
/** Type and checksum behind each block. */
const trailerLength = 5
/** A block without entries: one restart, at 0. */
const emptyBlock = Buffer.from('0000000001000000', 'hex')

/** Is every block of it what was written? Of one that somebody else wrote, with compression, that can't be said: it is believed. */
export function isTableWhole(table: Buffer): boolean {
  const handles = handlesOf(table)
  return handles?.every(handle => isRight(table, handle) && (!isPlain(table, handle) || areRight(table, partsAt(table, handle)))) === true
}

/** The same table without the blocks that are wrong; undefined: nothing of it can be read. */
export function salvageTable(table: Buffer): Buffer | undefined {
  const [, index] = handlesOf(table) ?? []
  const good = ((index && partsAt(table, index)) ?? []).filter(({ handle }) => isRight(table, handle))
  if (good.length === 0) return undefined
  const meta = sealedBlock(emptyBlock)
  const goodIndex = sealedBlock(indexBlock(good))
  const footer = Buffer.alloc(footerLength)
  const handles = [
    { offset: table.length, size: meta.length - trailerLength },
    { offset: table.length + meta.length, size: goodIndex.length - trailerLength }
  ]
  Buffer.concat(handles.map(handleBytes)).copy(footer)
  magic.copy(footer, footerLength - magic.length)
  return Buffer.concat([table, meta, goodIndex, footer])
}

/** Of the index of filters, and that of the data. */
function handlesOf(table: Buffer): readonly [Handle, Handle] | undefined {
  const start = table.length - footerLength
  if (start < 0 || !table.subarray(-magic.length).equals(magic)) return undefined
  const reader = new Numbers(table.subarray(start))
  const handles = [reader.handle(), reader.handle()] as const
  return reader.isCutOff ? undefined : handles
}

function areRight(table: Buffer, parts: readonly Part[] | undefined): boolean {
  return parts?.every(({ handle }) => isRight(table, handle)) === true
}

function partsAt(table: Buffer, handle: Handle): Part[] | undefined {
  if (!isRight(table, handle) || !isPlain(table, handle)) return undefined
  return partsOf(table.subarray(handle.offset, handle.offset + handle.size))
}

function partsOf(block: Buffer): Part[] | undefined {
  const restarts = block.length < 4 ? -1 : block.readUInt32LE(block.length - 4)
  const end = block.length - 4 - 4 * restarts
  if (restarts < 0 || end < 0) return undefined
  const parts: Part[] = []
  const reader = new Numbers(block.subarray(0, end))
  let key: Buffer = Buffer.alloc(0)
  while (!reader.isAtEnd) {
    const [shared, more, length] = [reader.next(), reader.next(), reader.next()]
    key = Buffer.concat([key.subarray(0, shared), reader.take(more)])
    const handle = new Numbers(reader.take(length)).handle()
    if (reader.isCutOff) return undefined
    parts.push({ key, handle })
  }
  return parts
}

function isRight(table: Buffer, { offset, size }: Handle): boolean {
  const end = offset + size + trailerLength
  return end <= table.length && table.readUInt32LE(end - 4) === maskedSum(table.subarray(offset, end - 4))
}

const isPlain = (table: Buffer, { offset, size }: Handle): boolean => table[offset + size] === 0

function indexBlock(parts: readonly Part[]): Buffer {
  const pieces: Buffer[] = []
  const restarts = Buffer.alloc(4 * parts.length + 4)
  let at = 0
  for (const [i, { key, handle }] of parts.entries()) {
    const value = handleBytes(handle)
    const entry = Buffer.concat([numberBytes(0), numberBytes(key.length), numberBytes(value.length), key, value])
    restarts.writeUInt32LE(at, 4 * i)
    at += entry.length
    pieces.push(entry)
  }
  restarts.writeUInt32LE(parts.length, 4 * parts.length)
  return Buffer.concat([...pieces, restarts])
}

function sealedBlock(content: Buffer): Buffer {
  const block = Buffer.concat([content, Buffer.alloc(trailerLength)])
  block.writeUInt32LE(maskedSum(block.subarray(0, -4)), block.length - 4)
  return block
}

function handleBytes({ offset, size }: Handle): Buffer {
  return Buffer.concat([numberBytes(offset), numberBytes(size)])
}

function numberBytes(number: number): Buffer {
  const bytes: number[] = []
  let rest = number
  for (; rest >= 0x80; rest = Math.floor(rest / 0x80)) bytes.push((rest % 0x80) | 0x80)
  return Buffer.from([...bytes, rest])
}

/** Reads on until something is missing. */
class Numbers {
  readonly #bytes: Buffer
  #at = 0
  isCutOff = false

  constructor(bytes: Buffer) {
    this.#bytes = bytes
  }

  get isAtEnd(): boolean {
    return this.isCutOff || this.#at === this.#bytes.length
  }

  /** Seven bits a byte, the lowest first. */
  next(): number {
    let number = 0
    for (let factor = 1; ; factor *= 0x80) {
      const byte = this.#bytes[this.#at++]
      if (byte === undefined || factor > Number.MAX_SAFE_INTEGER / 0x80) {
        this.isCutOff = true
        return 0
      }
      number += (byte & 0x7f) * factor
      if (byte < 0x80) return number
    }
  }

  handle(): Handle {
    return { offset: this.next(), size: this.next() }
  }

  take(length: number): Buffer {
    if (this.#at + length > this.#bytes.length) this.isCutOff = true
    const taken = this.isCutOff ? Buffer.alloc(0) : this.#bytes.subarray(this.#at, this.#at + length)
    this.#at += length
    return taken
  }
}

// CRC-32C, which is none of zlib's.
const sums = Uint32Array.from({ length: 256 }, (_, byte) => {
  let sum = byte
  for (let bit = 0; bit < 8; bit++) sum = (sum >>> 1) ^ (sum & 1 ? 0x82f63b78 : 0)
  return sum
})

function maskedSum(bytes: Buffer): number {
  let sum = 0xffffffff
  for (const byte of bytes) sum = (sum >>> 8) ^ (sums[(sum ^ byte) & 0xff] ?? 0)
  sum = ~sum
  return (((sum >>> 15) | (sum << 17)) + 0xa282ead8) >>> 0
}
