// The records of a queue, read as its entries.

import { Message } from '../message.js'
import type { QueueEntry } from '../storage.js'
import type { Bodies } from './disk-bodies.js'
import { decodeEntry, decodeState, type EntryRecord, isEntryKey, sequenceOf, unseal } from './disk-records.js'
import { decodeProgress, decodeRun, isRun, Run } from './disk-run.js'
import type { Level, View } from './level.js'

/** An entry as it lies here. */
export interface Row {
  readonly sequence: number
  readonly entry: EntryRecord
  state: QueueEntry['state']
  packetId: number
  /** What it is a part of. */
  run?: Run
}

/** The rows of records that come in the order of their keys. Those of the last record are known only when the next one comes, or none. */
export class Rows {
  readonly #after: number
  #rows: Row[] = []
  #latest: Row[] = []

  /** `after`: only those behind this sequence. */
  constructor(after = 0) {
    this.#after = after
  }

  /** How many are known. */
  get size(): number {
    return this.#rows.length
  }

  /** Takes an entry, a run, or how far what came before it has come. */
  add(key: Buffer, value: Buffer): void {
    if (isEntryKey(key)) {
      this.#settle()
      this.#latest = rowsOf(key, value)
    } else if (this.#latest.at(-1)?.sequence === sequenceOf(key)) {
      const content = unseal(key, value)
      if (this.#latest[0]?.run === undefined) this.#setState(content)
      else this.#setProgress(content)
    }
  }

  /** All there are. */
  take(): readonly Row[] {
    this.#settle()
    const rows = this.#rows
    this.#rows = []
    return rows
  }

  #settle(): void {
    for (const row of this.#latest) if (row.sequence > this.#after) this.#rows.push(row)
    this.#latest = []
  }

  #setState(content: Buffer | undefined): void {
    const { state, packetId } = (content && decodeState(content)) ?? { state: 'sent', packetId: 0 }
    for (const row of this.#latest) set(row, state, packetId)
  }

  #setProgress(content: Buffer | undefined): void {
    const rows = this.#latest
    const [last] = rows.slice(-1)
    const all = content && decodeProgress(content, rows.length)
    if (last === undefined || content === undefined || all === undefined) {
      for (const row of rows) row.state = 'sent'
      return
    }
    const run = new Run(last.sequence, rows.length, content)
    this.#latest = rows.filter((row, i) => {
      const { progress, packetId } = all[i] ?? { progress: 'done', packetId: 0 }
      row.run = run
      if (progress === 'done') return false
      set(row, progress, packetId)
      return true
    })
  }
}

function set(row: Row, state: QueueEntry['state'], packetId: number): void {
  row.state = state
  // One that had none when it was queued.
  if (packetId > 0) row.packetId = packetId
}

function rowsOf(key: Buffer, value: Buffer): Row[] {
  const sequence = sequenceOf(key)
  const content = unseal(key, value)
  const entries = content && isRun(content) ? decodeRun(content) : undefined
  if (entries === undefined) {
    const entry = entryIn(content)
    return [{ sequence, entry, state: 'queued', packetId: entry.packetId }]
  }
  const run = new Run(sequence, entries.length)
  const first = sequence - entries.length + 1
  return entries.map((entry, i) => ({ sequence: first + i, entry, state: 'queued', packetId: entry.packetId, run }))
}

/** With their messages. */
export async function entriesOf(
  clientId: string,
  rows: readonly Row[],
  bodies: Bodies,
  level: Level,
  view?: View
): Promise<readonly QueueEntry[]> {
  const numbers = rows.flatMap(({ entry: { content } }) => (typeof content === 'number' ? [content] : []))
  const messages = numbers.length === 0 ? undefined : await bodies.read(numbers, level, view)
  return rows.map(({ sequence, entry: { content, payloadLength: _, ...fields }, state, packetId, run }) => {
    const message = typeof content === 'number' ? (messages?.get(content) ?? lost()) : content
    const entry: QueueEntry = { clientId, sequence, ...fields, packetId, state, message, ...(run && { record: run }) }
    if (typeof content === 'number') bodies.note(entry, content)
    return entry
  })
}

/** The body of each entry of a record that has one. */
export function bodiesIn(key: Buffer, value: Buffer): readonly number[] {
  return rowsOf(key, value).flatMap(({ entry: { content } }) => (typeof content === 'number' ? [content] : []))
}

/** What a disk lost while we ran is nothing that could be delivered: it is dropped in its turn, as what has expired. */
function entryIn(content: Buffer | undefined): EntryRecord {
  return (
    (content && decodeEntry(content)) ?? {
      qos: 1,
      retain: false,
      subscriptionIdentifier: 0,
      packetId: 0,
      payloadLength: 0,
      content: lost()
    }
  )
}

function lost(): Message {
  return new Message({ topic: '', payload: Buffer.alloc(0), qos: 0, retain: false, expiresAt: 0 })
}
