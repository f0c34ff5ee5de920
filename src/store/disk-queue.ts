// The records of a queue, read as its entries.

import { Message } from '../message.js'
import type { QueueEntry } from '../storage.js'
import type { Bodies } from './disk-bodies.js'
import { decodeEntry, decodeState, type EntryRecord, isEntryKey, sequenceOf, unseal } from './disk-records.js'
import type { Level, View } from './level.js'

/** An entry as it lies here. */
export interface Row {
  readonly sequence: number
  readonly record: EntryRecord
  state: QueueEntry['state']
  packetId: number
}

/** Takes a record of a queue: an entry, or how far the one before it has come. */
export function addTo(rows: Row[], key: Buffer, value: Buffer): void {
  const sequence = sequenceOf(key)
  const last = rows.at(-1)
  if (isEntryKey(key)) {
    const record = entryOf(key, value)
    rows.push({ sequence, record, state: 'queued', packetId: record.packetId })
  } else if (last?.sequence === sequence) {
    const content = unseal(key, value)
    const { state, packetId } = (content && decodeState(content)) ?? { state: 'sent', packetId: 0 }
    last.state = state
    // One that had none when it was queued.
    if (packetId > 0) last.packetId = packetId
  }
}

/** With their messages. */
export async function entriesOf(
  clientId: string,
  rows: readonly Row[],
  bodies: Bodies,
  level: Level,
  view?: View
): Promise<readonly QueueEntry[]> {
  const numbers = rows.flatMap(({ record: { content } }) => (typeof content === 'number' ? [content] : []))
  const messages = numbers.length === 0 ? undefined : await bodies.read(numbers, level, view)
  return rows.map(({ sequence, record: { content, payloadLength: _, ...record }, state, packetId }) => {
    const message = typeof content === 'number' ? (messages?.get(content) ?? lost()) : content
    const entry: QueueEntry = { clientId, sequence, ...record, packetId, state, message }
    if (typeof content === 'number') bodies.note(entry, content)
    return entry
  })
}

/** What a disk lost while we ran is nothing that could be delivered: it is dropped in its turn, as what has expired. */
export function entryOf(key: Buffer, value: Buffer): EntryRecord {
  const content = unseal(key, value)
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
