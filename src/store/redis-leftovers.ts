// What a crash leaves of our packets in Redis: the persistence writes a packet and then puts its key into a queue, or takes that out and then
// removes the packet; where it ends between the two nobody asks for the packet again. It is removed after the next start, by and by, beside
// everything else.
//
// Another broker may have the same Redis, ours or an Aedes, and be between the two just now. So only packets of our own are looked at, and
// only those go that no queue has some time later: whoever was between the two is through by then.

import { setTimeout as pause } from 'node:timers/promises'
import { runPrefix } from './aedes-packet.js'

/** What is asked of Redis. */
export interface LeftoverRedis {
  scan(cursor: string, match: 'MATCH', pattern: string, count: 'COUNT', keys: number): Promise<[cursor: string, keys: string[]]>
  lrange(key: string, start: number, stop: number): Promise<string[]>
  unlink(keys: string[]): Promise<number>
}

export interface LeftoverOptions {
  /** By name: broker id, colon, counter. */
  isInUse(name: string): boolean
  /** How long whoever is at it may take, milliseconds. */
  readonly patience: number
  readonly signal: AbortSignal
}

const packetKey = new RegExp(`^packet:(${runPrefix}[^:]+:\\d+)(?::offlineCount)?$`)
/** A client identifier has no colon there. Keys that go on are what Aedes keeps of a QoS 2 message after PUBREC. */
const queueKey = /^outgoing:[^:]*$/
/** Keys that Redis looks at in one go. */
const perScan = 1000
/** Queues that are read, packets that are removed at a time. */
const atOnce = 32
/** So many are kept in mind; the rest is for the next start. */
const mostSuspects = 100_000

/** How many packets were removed. Rejects when Redis does not answer, or the signal says so: then some may be left. */
export async function removeLeftovers(redis: LeftoverRedis, { isInUse, patience, signal }: LeftoverOptions): Promise<number> {
  const suspects = new Set<string>()
  for await (const keys of scan(redis, `packet:${runPrefix}*`, signal)) {
    for (const key of keys) {
      const name = packetKey.exec(key)?.[1]
      if (name !== undefined && !isInUse(name)) suspects.add(name)
    }
    if (suspects.size >= mostSuspects) break
  }
  if (suspects.size === 0) return 0
  await pause(patience, undefined, { signal, ref: false })
  for await (const keys of scan(redis, 'outgoing:*', signal)) {
    for (const some of slices(keys.filter(key => queueKey.test(key)))) {
      for (const queue of await Promise.all(some.map(key => redis.lrange(key, 0, -1)))) {
        for (const key of queue) suspects.delete(lastTwo(key))
      }
    }
  }
  for (const names of slices([...suspects])) {
    signal.throwIfAborted()
    await redis.unlink(names.flatMap(name => [`packet:${name}`, `packet:${name}:offlineCount`]))
  }
  return suspects.size
}

async function* scan(redis: LeftoverRedis, pattern: string, signal: AbortSignal): AsyncGenerator<string[]> {
  let cursor = '0'
  do {
    signal.throwIfAborted()
    const [next, keys] = await redis.scan(cursor, 'MATCH', pattern, 'COUNT', perScan)
    cursor = next
    if (keys.length > 0) yield keys
  } while (cursor !== '0')
}

function* slices<T>(all: readonly T[]): Generator<readonly T[]> {
  for (let i = 0; i < all.length; i += atOnce) yield all.slice(i, i + atOnce)
}

// Of a packet's key, and of what Aedes keeps of it for one client.
function lastTwo(key: string): string {
  return key.slice(key.lastIndexOf(':', key.lastIndexOf(':') - 1) + 1)
}
