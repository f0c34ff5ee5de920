// What changes make of a broker, as an object to compare: sessions with all that is theirs, and retained messages.

import { Message } from '../../dist/message.js'
import type { SessionRecord, Subscription } from '../../dist/storage.js'
import type { DatabaseProblem, KeptChange } from '../../dist/store/mosquitto-db.js'
import { joinSharedFilter } from '../../dist/store/shared-filter.js'

export interface KeptSession {
  readonly record: SessionRecord
  readonly lastPacketId: number
  readonly subscriptions: Record<string, Subscription>
  readonly held: Record<number, object>
  readonly queue: object[]
}

export interface Kept {
  readonly sessions: Record<string, KeptSession>
  readonly retained: Record<string, object>
  readonly problem: DatabaseProblem | undefined
}

export function keptBy(changes: Iterator<KeptChange, DatabaseProblem | undefined>): Kept {
  const sessions: Record<string, KeptSession> = {}
  const retained: Record<string, object> = {}
  const sessionOf = (clientId: string): KeptSession => {
    const session = sessions[clientId]
    if (session === undefined) throw new Error(`${clientId} comes after what is its own`)
    return session
  }
  for (;;) {
    const { done, value } = changes.next()
    if (done) return { sessions, retained, problem: value }
    switch (value.kind) {
      case 'session': {
        const { subscriptions = {}, held = {}, queue = [] } = sessions[value.session.clientId] ?? {}
        sessions[value.session.clientId] = { record: value.session, lastPacketId: value.lastPacketId ?? 0, subscriptions, held, queue }
        break
      }
      case 'subscribe':
        sessionOf(value.clientId).subscriptions[joinSharedFilter(value.subscription.filter, value.subscription.group)] = value.subscription
        break
      case 'hold':
        sessionOf(value.clientId).held[value.packetId] = shown(value.message)
        break
      case 'enqueue':
        for (const { message, ...entry } of value.entries) sessionOf(entry.clientId).queue.push({ ...entry, message: shown(message) })
        break
      case 'received':
        break
      case 'retain':
        if (value.message !== undefined) retained[value.topic] = shown(value.message)
    }
  }
}

/** A copy of the value in which each message, however deep, is what it says, wherever in memory it says it. */
export function said(value: unknown): unknown {
  if (value instanceof Message) return shown(value)
  if (Array.isArray(value)) return value.map(said)
  if (value instanceof Map) return new Map([...value].map(([key, one]) => [key, said(one)]))
  if (typeof value !== 'object' || value === null || !isPlain(value)) return value
  return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, said(one)]))
}

const isPlain = (value: object): boolean => [Object.prototype, null].includes(Object.getPrototypeOf(value))

export function shown({ topic, payload, qos, retain, properties, expiresAt, source }: Message): object {
  return { topic, payload: payload.toString('latin1'), qos, retain, properties: properties.toString('hex'), expiresAt, source }
}
