// Everything that lies in a disk store, read once at the start. What is not what was written, and what is nobody's, is left out and named.

import { setImmediate as nextTurn } from 'node:timers/promises'
import type { Message } from '../message.js'
import type { SessionRecord, StoredSession, Subscription } from '../storage.js'
import { Bodies } from './disk-bodies.js'
import type { Place } from './disk-index.js'
import {
  decodeEntry,
  decodeLast,
  decodeMessage,
  decodeSession,
  decodeSubscription,
  type EntryRecord,
  isEntryKey,
  nameOf,
  numberOf,
  packetIdOf,
  type RecordKind,
  rangeOf,
  recordKinds,
  sequenceOf,
  sessionKey,
  unseal
} from './disk-records.js'
import { decodeProgress, decodeRun, isRun } from './disk-run.js'
import { type Level, Operations } from './level.js'

export interface Reading {
  readonly sessions: readonly StoredSession[]
  readonly retained: Message[]
  /** What is to be removed: wrong, or of nobody. */
  readonly useless: Operations
  readonly places: Map<string, Place>
  /** A number that no session has, nor had. */
  readonly nextSession: number
  readonly bodies: Bodies
}

interface Found {
  readonly record: SessionRecord
  readonly place: Place
  readonly subscriptions: Subscription[]
  readonly held: Map<number, Message>
  messages: number
  bytes: number
}

/** Records that are read at a time. */
const pageSize = 1000

/** Rejects when LevelDB can't read it. */
export async function readDisk(level: Level): Promise<Reading> {
  const places = new Map<string, Place>()
  const counts = new Map<number, number>()
  let nextSession = 1
  let nextBody = 1
  const sessions = new Map<number, Found>()
  const retained: Message[] = []
  // Wrong, or of nobody.
  const useless = new Operations()
  let wrong = 0
  const read = async (kind: RecordKind, take: (key: Buffer, content: Buffer) => 'wrong' | 'nobody' | undefined): Promise<void> => {
    for await (const records of level.read(rangeOf(kind), pageSize)) {
      for (const [key, value] of records) {
        const content = unseal(key, value)
        const fault = content === undefined ? 'wrong' : take(key, content)
        if (fault === undefined) continue
        if (fault === 'wrong') wrong += 1
        useless.delete(key)
      }
      await nextTurn()
    }
  }
  await read(recordKinds.session, (key, content) => {
    const [record, number] = [decodeSession(content), numberOf(key)]
    if (record === undefined || number < 0) return 'wrong'
    // One that had ended, and came up again when a damaged store was repaired.
    const older = places.get(record.clientId)
    if (older !== undefined) {
      sessions.delete(older.number)
      useless.delete(sessionKey(older.number))
      wrong += 1
    }
    const place = { number, sequence: 0, packetId: 0, readable: 0 }
    places.set(record.clientId, place)
    nextSession = Math.max(nextSession, number + 1)
    sessions.set(number, { record, place, subscriptions: [], held: new Map(), messages: 0, bytes: 0 })
    return undefined
  })
  await read(recordKinds.last, (key, content) => {
    const [last, found] = [decodeLast(content), sessions.get(numberOf(key))]
    nextSession = Math.max(nextSession, numberOf(key) + 1)
    if (last === undefined) return 'wrong'
    if (found === undefined) return 'nobody'
    Object.assign(found.place, last)
    return undefined
  })
  await read(recordKinds.filter, (key, content) => {
    const [subscription, found] = [decodeSubscription(key, content), sessions.get(numberOf(key))]
    nextSession = Math.max(nextSession, numberOf(key) + 1)
    if (subscription === undefined) return 'wrong'
    if (found === undefined) return 'nobody'
    found.subscriptions.push(subscription)
    return undefined
  })
  await read(recordKinds.held, (key, content) => {
    const [message, found] = [decodeMessage(content), sessions.get(numberOf(key))]
    nextSession = Math.max(nextSession, numberOf(key) + 1)
    if (message === undefined) return 'wrong'
    if (found === undefined) return 'nobody'
    found.held.set(packetIdOf(key), message)
    return undefined
  })
  let last: { readonly key: Buffer; readonly entries: readonly EntryRecord[] } | undefined
  await read(recordKinds.queue, (key, content) => {
    const found = sessions.get(numberOf(key))
    nextSession = Math.max(nextSession, numberOf(key) + 1)
    if (found === undefined) return 'nobody'
    if (!isEntryKey(key)) {
      if (last?.key.compare(key, 0, key.length - 1, 0, key.length - 1) !== 0) return 'nobody'
      // A single one that is done is gone.
      const all = last.entries.length > 1 ? decodeProgress(content, last.entries.length) : []
      if (all === undefined) return 'wrong'
      for (const [i, { progress }] of all.entries()) if (progress === 'done') count(found, last.entries[i], -1)
      return undefined
    }
    const entries = isRun(content) ? decodeRun(content) : listOf(decodeEntry(content))
    if (entries === undefined) return 'wrong'
    last = { key, entries }
    for (const entry of entries) {
      count(found, entry, 1)
      if (typeof entry.content === 'number') counts.set(entry.content, (counts.get(entry.content) ?? 0) + 1)
    }
    // Later ones may have gone before it.
    const sequence = sequenceOf(key)
    if (sequence > found.place.sequence) {
      found.place.sequence = sequence
      found.place.packetId = entries.findLast(({ packetId }) => packetId > 0)?.packetId ?? found.place.packetId
    }
    return undefined
  })
  await read(recordKinds.body, (key, content) => {
    const number = numberOf(key)
    nextBody = Math.max(nextBody, number + 1)
    if (!counts.has(number)) return 'nobody'
    return decodeMessage(content) === undefined ? 'wrong' : undefined
  })
  for (const body of counts.keys()) nextBody = Math.max(nextBody, body + 1)
  await read(recordKinds.retained, (key, content) => {
    const message = decodeMessage(content)
    if (message === undefined || message.topic !== nameOf(key)) return 'wrong'
    retained.push(message)
    return undefined
  })
  if (wrong > 0) level.damage.push(`${wrong} ${wrong === 1 ? 'record is' : 'records are'} not what was written`)
  return {
    sessions: Array.from(sessions.values(), storedSession),
    retained,
    useless,
    places,
    nextSession,
    bodies: new Bodies(counts, nextBody)
  }
}

function count(found: Found, entry: EntryRecord | undefined, by: 1 | -1): void {
  if (entry === undefined) return
  found.messages += by
  found.bytes += by * entry.payloadLength
}

const listOf = (entry: EntryRecord | undefined): readonly EntryRecord[] | undefined => entry && [entry]

function storedSession({ record, place, subscriptions, held, messages, bytes }: Found): StoredSession {
  return {
    ...record,
    subscriptions,
    held,
    queued: { messages, bytes },
    lastSequence: place.sequence,
    lastPacketId: place.packetId
  }
}
