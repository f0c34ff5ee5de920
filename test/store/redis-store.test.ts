// Our store in a real Redis: the contract, and that nothing is left behind.

import { Redis } from 'ioredis'
import t, { type Test } from 'tap'
import { openRedisStore } from '../../dist/store/redis.js'
import { type LeftoverRedis, removeLeftovers } from '../../dist/store/redis-leftovers.js'
import { everything, storeContract } from '../contract/store.js'
import { recordLog } from '../helpers/bare-broker.js'
import { socketPath, startRedis } from '../helpers/redis-server.js'
import { messageOf } from '../helpers/session-bench.js'
import { until } from '../helpers/until.js'

const socket = socketPath(t)
await startRedis(t, t.testdir(), ['--port', '0', '--unixsocket', socket, '--databases', '64', '--appendfsync', 'no'])
let databases = 0

storeContract(
  t,
  'Redis',
  async t => {
    const db = databases++
    const watcher = new Redis({ path: socket, db })
    t.teardown(() => watcher.disconnect())
    const open = async () => {
      const redis = openRedisStore(`unix://${socket}?db=${db}`, recordLog())
      t.teardown(() => redis.close())
      await redis.ready
      return redis.store
    }
    return { store: await open(), reopen: open, leftovers: () => watcher.keys('*') }
  },
  { ...everything, keepsSource: false, keepsPublished: false, keepsLast: false }
)

function watch(t: Pick<Test, 'teardown'>, db: number): Redis {
  const watcher = new Redis({ path: socket, db })
  t.teardown(() => watcher.disconnect())
  return watcher
}

const packet = (name: string): readonly [string, string, string, string] => [`packet:${name}`, 'x', `packet:${name}:offlineCount`, '1']

t.test('what a crash left of packets is removed after the next start, and nothing that is queued', async t => {
  const db = databases++
  const watcher = watch(t, db)
  const open = async () => {
    const redis = openRedisStore(`unix://${socket}?db=${db}`, recordLog(), undefined, 0)
    t.teardown(() => redis.close())
    await redis.ready
    return redis
  }
  const before = await open()
  await before.store.open()
  const entry = { sequence: 1, qos: 1, retain: false, subscriptionIdentifier: 0, packetId: 1, state: 'queued' } as const
  const message = messageOf('a')
  await before.store.commit([
    { kind: 'session', session: { clientId: 'c', version: 5, expiryInterval: 1000 } },
    { kind: 'enqueue', message, entries: [{ ...entry, clientId: 'c', message }] }
  ])
  await before.close()
  const kept = (await watcher.keys('*')).sort()
  t.equal(kept.length, 5)
  await watcher.mset(...packet('mosquitero-abc-1:65537'), ...packet('mosquitero-abc-1:131074'))
  const { store } = await open()
  const { sessions } = await store.open()
  t.match(sessions, [{ clientId: 'c', queued: { messages: 1 } }])
  await until(async () => (await watcher.keys('*')).length === kept.length)
  t.same((await watcher.keys('*')).sort(), kept)
})

t.test('of packets that nobody asks for only our own are removed, and none that somebody else queues', async t => {
  const watcher = watch(t, databases++)
  const { signal } = new AbortController()
  const run = 'mosquitero-abc-1'
  await watcher.mset(
    ...packet(`${run}:1`),
    ...packet(`${run}:2`),
    ...packet(`${run}:3`),
    ...packet(`${run}:4`),
    ...packet(`${run}:5`),
    ...[`packet:${run}:6:offlineCount`, '1'],
    ...packet('mosquitero-now-1:1'),
    ...packet('aedes:1'),
    ...['packet:mosquitero-shop', 'x', 'outgoing:c:somebody:1', 'x', 'outgoings', 'x']
  )
  await watcher.rpush('outgoing:a%3Ab', `packet:${run}:2`)
  // As Aedes has a QoS 2 message after PUBREC.
  await watcher.rpush('outgoing:c', 'packet:aedes:7', `outgoing:c:${run}:3`)
  let asked = 0
  const redis: LeftoverRedis = {
    async scan(cursor, match, pattern, count, keys) {
      // One that another broker is about to queue.
      if (pattern.startsWith('outgoing') && asked++ === 0) await watcher.rpush('outgoing:d', `packet:${run}:4`)
      return watcher.scan(cursor, match, pattern, count, keys)
    },
    lrange: (key, start, stop) => watcher.lrange(key, start, stop),
    unlink: keys => watcher.unlink(keys)
  }
  const isInUse = (name: string) => name === `${run}:5` || name.startsWith('mosquitero-now-1:')
  t.equal(await removeLeftovers(redis, { isInUse, patience: 0, signal }), 2)
  const left = await watcher.keys('packet:*')
  t.same(left.filter(key => !key.endsWith(':offlineCount')).sort(), [
    'packet:aedes:1',
    ...[2, 3, 4, 5].map(i => `packet:${run}:${i}`),
    'packet:mosquitero-now-1:1',
    'packet:mosquitero-shop'
  ])
  t.equal(left.length, 13)
  t.equal(asked, 1)
  t.equal(await removeLeftovers(redis, { isInUse: () => true, patience: 0, signal }), 0)
  t.equal(asked, 1, 'where nothing is left no queue is read')
})

t.test('a close ends the search for what a crash left', async t => {
  const watcher = watch(t, databases++)
  await watcher.mset(...packet('mosquitero-abc-1:1'))
  const closed = new AbortController()
  const searching = removeLeftovers(watcher, { isInUse: () => false, patience: 1_000_000, signal: closed.signal })
  closed.abort()
  await t.rejects(searching, { name: 'AbortError' })
  t.equal(await watcher.exists('packet:mosquitero-abc-1:1'), 1)
})
