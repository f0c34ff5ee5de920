// A run: entries of one queue that were committed together, in one record under the sequence of the last. LevelDB is given one record for fifty
// messages then, and is told once that it may forget them. How far each has come stands in one more record, as long as some are done and some
// aren't.

import { writeUint16 } from '../protocol/writer.js'
import type { QueueEntry } from '../storage.js'
import { decodeEntry, type EntryRecord, entryLength, seal, sealLength, states, writeEntry } from './disk-records.js'

/** Entries of a run, and their bytes: what a damaged record loses has an end. */
const mostEntries = 64
const longestRun = 16_384

/** In the first byte, where an entry has its flags. */
const runBit = 0x10
/** That byte, and the number of entries; then each, behind its length. */
const headLength = 3
const lengthLength = 2
/** Of each entry: a state, and its packet identifier. */
const progressLength = 3
const done = 3

/** How far an entry of a run has come. */
export type Progress = QueueEntry['state'] | 'done'

/** Where a run lies: without gaps, up to a sequence. */
export class Run {
  readonly last: number
  readonly count: number
  /** What the store said of its progress when it was read. */
  readonly found: Buffer | undefined
  /** Once an entry of it is not as it was written. */
  progress: RunProgress | undefined = undefined

  constructor(last: number, count: number, found?: Buffer) {
    this.last = last
    this.count = count
    this.found = found
  }
}

/** Entries that come to a queue, until they are written. */
export class Gathered {
  readonly entries: QueueEntry[] = []
  readonly #lengths: number[] = []
  #bytes = headLength

  /** False: it is not the next, or there is no room for it. */
  take(entry: QueueEntry): boolean {
    const last = this.entries.at(-1)
    const length = entryLength(entry, undefined)
    const bytes = this.#bytes + lengthLength + length
    if (last !== undefined && (entry.sequence !== last.sequence + 1 || this.entries.length === mostEntries || bytes > longestRun))
      return false
    this.entries.push(entry)
    this.#lengths.push(length)
    this.#bytes = bytes
    return true
  }

  encode(key: Buffer): Buffer {
    const { entries } = this
    const value = Buffer.allocUnsafe(sealLength + this.#bytes)
    value[sealLength] = runBit
    value.writeUInt16BE(entries.length, sealLength + 1)
    let at = sealLength + headLength
    for (let i = 0; i < entries.length; i++) {
      const entry = entries[i]
      const length = this.#lengths[i] ?? 0
      writeUint16(value, at, length)
      if (entry !== undefined) writeEntry(value, at + lengthLength, entry, undefined)
      at += lengthLength + length
    }
    return seal(key, value)
  }
}

/** How far the entries of a run have come; made with the first of them that is not as it was written. */
export class RunProgress {
  readonly run: Run
  /** Entries that are not done. */
  left: number
  /** The store has a record of it. */
  isWritten: boolean
  /** All of it is done, and gone. */
  isOver = false
  /** The commit that changed it last, and the one that is about to. */
  commit = 0
  plan = 0
  readonly #bytes: Buffer

  constructor(run: Run) {
    this.run = run
    this.isWritten = run.found !== undefined
    this.#bytes = Buffer.alloc(run.count * progressLength)
    if (run.found?.length === this.#bytes.length) this.#bytes.set(run.found)
    this.left = run.count
    for (let i = 0; i < run.count; i++) if (this.#bytes[i * progressLength] === done) this.left -= 1
  }

  note(sequence: number, progress: Progress, packetId: number): void {
    const at = (sequence - this.run.last + this.run.count - 1) * progressLength
    if (this.#bytes[at] === done) return
    if (progress === 'done') this.left -= 1
    this.#bytes[at] = progress === 'done' ? done : states.indexOf(progress)
    writeUint16(this.#bytes, at + 1, packetId)
  }

  encode(key: Buffer): Buffer {
    const value = Buffer.allocUnsafe(sealLength + this.#bytes.length)
    value.set(this.#bytes, sealLength)
    return seal(key, value)
  }
}

export const isRun = (content: Buffer): boolean => ((content[0] ?? 0) & runBit) > 0

/** Undefined: it is none. */
export function decodeRun(content: Buffer): readonly EntryRecord[] | undefined {
  if (content.length < headLength || !isRun(content)) return undefined
  const records: EntryRecord[] = []
  const count = content.readUInt16BE(1)
  let at = headLength
  for (let i = 0; i < count; i++) {
    const length = at + lengthLength <= content.length ? content.readUInt16BE(at) : 0
    at += lengthLength + length
    const record = at <= content.length ? decodeEntry(content.subarray(at - length, at)) : undefined
    if (record === undefined) return undefined
    records.push(record)
  }
  return at === content.length && count > 1 ? records : undefined
}

/** Of each entry, in order; undefined: it is none of a run of so many. Identifier 0: as its entry says. */
export function decodeProgress(
  content: Buffer,
  count: number
): readonly { readonly progress: Progress; readonly packetId: number }[] | undefined {
  if (content.length !== count * progressLength) return undefined
  return Array.from({ length: count }, (_, i) => {
    const at = i * progressLength
    return { progress: states[content[at] ?? 0] ?? 'done', packetId: content.readUInt16BE(at + 1) }
  })
}
