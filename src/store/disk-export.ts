// All of a disk store as changes that make it again elsewhere, as it was at one moment, while it goes on.

import type { QueueEntry } from '../storage.js'
import type { Bodies } from './disk-bodies.js'
import { entriesOf, Rows } from './disk-queue.js'
import {
  decodeLast,
  decodeMessage,
  decodeSession,
  decodeSubscription,
  isEntryKey,
  nameOf,
  numberOf,
  packetIdOf,
  type RecordKind,
  rangeOf,
  recordKinds,
  unseal
} from './disk-records.js'
import type { Entry, Level, View } from './level.js'
import type { KeptChange } from './mosquitto-db.js'

/** Records that are read at a time, all of them in one turn. */
const pageSize = 250

/** Sessions first, retained messages last, each queue in its order. `packetIdOf`: the identifier that was given last to a session's messages. */
export async function* exportChanges(
  level: Level,
  bodies: Bodies,
  lastPacketIdOf: (clientId: string) => number | undefined
): AsyncGenerator<KeptChange, void> {
  const view = level.view()
  try {
    const lasts = new Map<number, number>()
    for await (const [key, content] of contents(level, recordKinds.last, view)) {
      const last = decodeLast(content)
      if (last !== undefined) lasts.set(numberOf(key), last.packetId)
    }
    const names = new Map<number, string>()
    for await (const [key, content] of contents(level, recordKinds.session, view)) {
      const session = decodeSession(content)
      if (session === undefined) continue
      names.set(numberOf(key), session.clientId)
      const lastPacketId = lastPacketIdOf(session.clientId) ?? lasts.get(numberOf(key)) ?? 0
      yield { kind: 'session', session, ...(lastPacketId > 0 && { lastPacketId }) }
    }
    for await (const [key, content] of contents(level, recordKinds.filter, view)) {
      const [clientId, subscription] = [names.get(numberOf(key)), decodeSubscription(key, content)]
      if (clientId !== undefined && subscription !== undefined) yield { kind: 'subscribe', clientId, subscription }
    }
    for await (const [key, content] of contents(level, recordKinds.held, view)) {
      const [clientId, message] = [names.get(numberOf(key)), decodeMessage(content)]
      if (clientId !== undefined && message !== undefined) yield { kind: 'hold', clientId, packetId: packetIdOf(key), message }
    }
    for await (const entry of queues(level, bodies, view, names)) {
      const body = bodies.numberOf(entry)
      yield { kind: 'enqueue', message: entry.message, entries: [entry], ...(body !== undefined && { body }) }
    }
    for await (const [key, content] of contents(level, recordKinds.retained, view)) {
      const message = decodeMessage(content)
      if (message !== undefined) yield { kind: 'retain', topic: nameOf(key), message }
    }
  } finally {
    await view.close()
  }
}

async function* queues(level: Level, bodies: Bodies, view: View, names: ReadonlyMap<number, string>): AsyncGenerator<QueueEntry, void> {
  const rows = new Rows()
  let owner = -1
  const complete = (): Promise<readonly QueueEntry[]> => {
    const clientId = names.get(owner)
    const taken = rows.take()
    return clientId === undefined ? Promise.resolve([]) : entriesOf(clientId, taken, bodies, level, view)
  }
  for await (const records of level.read(rangeOf(recordKinds.queue), pageSize, view)) {
    for (const [key, value] of records) {
      if (numberOf(key) !== owner || (rows.size >= pageSize && isEntryKey(key))) {
        yield* await complete()
        owner = numberOf(key)
      }
      rows.add(key, value)
    }
  }
  yield* await complete()
}

async function* contents(level: Level, kind: RecordKind, view: View): AsyncGenerator<Entry, void> {
  for await (const records of level.read(rangeOf(kind), pageSize, view)) {
    for (const [key, value] of records) {
      const content = unseal(key, value)
      if (content !== undefined) yield [key, content]
    }
  }
}
