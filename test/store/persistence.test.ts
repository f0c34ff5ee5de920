import { Readable } from 'node:stream'
import t from 'tap'
import { guardPersistence, type Persistence } from '../../dist/store/persistence.js'

const guard = { withoutPause: true, mayQueue: () => true, wasRefused: () => false, failed: () => {} }

function fakePersistence(calls: string[]): Persistence {
  return {
    setup: async () => {},
    createRetainedStream: filter => {
      calls.push(`retained ${filter}`)
      return Readable.from([`for ${filter}`])
    },
    createRetainedStreamCombi: filters => {
      calls.push(`combined ${filters}`)
      return Readable.from(filters)
    },
    addSubscriptions: async (_, subscriptions) => void calls.push(`add ${subscriptions.length}`),
    outgoingEnqueueCombi: async () => {},
    outgoingClearMessageId: async () => undefined,
    incomingDelPacket: async () => {},
    putWill: async () => {},
    delWill: async () => {},
    streamWill: () => Readable.from([])
  }
}

t.test('the filters of one SUBSCRIBE are stored once, however often Aedes asks', async t => {
  const calls: string[] = []
  const persistence = fakePersistence(calls)
  guardPersistence(persistence, guard)
  const subscriptions = [{ topic: 'a' }, { topic: 'b' }]
  for (const _ of subscriptions) await persistence.addSubscriptions({ id: 'c' }, subscriptions)
  await persistence.addSubscriptions({ id: 'c' }, [...subscriptions])
  t.same(calls, ['add 2', 'add 2'])
})

t.test('the memory store is asked for retained messages one filter in each turn, Redis for all at once', async t => {
  const calls: string[] = []
  const memory = fakePersistence(calls)
  guardPersistence(memory, guard)
  const stream = memory.createRetainedStreamCombi(['a', 'b'])
  setImmediate(() => setImmediate(() => calls.push('others')))
  t.same(await stream.toArray(), ['for a', 'for b'])
  t.same(calls, ['retained a', 'others', 'retained b'])
  const redis = fakePersistence(calls)
  guardPersistence(redis, { ...guard, withoutPause: false })
  t.same(await redis.createRetainedStreamCombi(['a', 'b']).toArray(), ['a', 'b'])
})
