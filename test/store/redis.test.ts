import { setImmediate as nextTurn } from 'node:timers/promises'
import t from 'tap'
import { openRedisStore, parseRedisUrl, type RedisStore } from '../../dist/store/redis.js'
import { type BareBroker, type BareOptions, recordLog, startBareBroker } from '../helpers/bare-broker.js'
import { freePort } from '../helpers/command.js'
import { until } from '../helpers/mqtt.js'
import { socketPath, startRedis } from '../helpers/redis-server.js'

type Teardown = Parameters<typeof startBareBroker>[0]

async function startWithRedis(t: Teardown, url: string, options: BareOptions = {}) {
  const log = recordLog()
  const store = openRedisStore(url, log)
  t.teardown(() => store.close())
  await store.ready
  const broker = await startBareBroker(t, { ...options, store: store.store })
  return { store, log, broker }
}

async function stop({ store, broker }: { store: RedisStore; broker: BareBroker }) {
  await broker.close()
  await store.close()
}

const unhandled: unknown[] = []
process.on('unhandledRejection', reason => unhandled.push(reason))

t.test('retained messages and persistent sessions survive a restart of the broker', async t => {
  const dir = t.testdir()
  const socket = socketPath(t)
  await startRedis(t, dir, ['--port', '0', '--unixsocket', socket])
  const first = await startWithRedis(t, `unix://${socket}`)
  const reader = await first.broker.connect()
  await reader.connect({ clientId: 'reader', clean: false })
  reader.send({
    cmd: 'subscribe',
    messageId: 1,
    subscriptions: [
      { topic: 'queue/#', qos: 1 },
      { topic: 'other', qos: 1 }
    ]
  })
  t.same((await reader.next('suback')).granted, [1, 1], 'several filters in one SUBSCRIBE')
  reader.send({ cmd: 'disconnect' })
  await reader.closed()
  const writer = await first.broker.connect()
  await writer.connect({ clientId: 'writer' })
  for (const [messageId, topic] of ['queue/1', 'queue/2', 'kept/x'].entries()) {
    writer.publish(topic, topic, { qos: 1, messageId: messageId + 1, retain: topic === 'kept/x' })
    await writer.next('puback')
  }
  writer.publish('kept/x', 'last', { qos: 2, messageId: 9, retain: true })
  await writer.next('pubrec')
  writer.send({ cmd: 'pubrel', messageId: 9 })
  await writer.next('pubcomp')
  await stop(first)

  const second = await startWithRedis(t, `unix://${socket}`)
  const again = await second.broker.connect()
  t.equal((await again.connect({ clientId: 'reader', clean: false })).sessionPresent, true)
  const queued = [await again.next('publish'), await again.next('publish')]
  t.same(
    queued.map(({ topic, qos }) => [topic, qos]),
    [
      ['queue/1', 1],
      ['queue/2', 1]
    ]
  )
  for (const { messageId = 0 } of queued) again.send({ cmd: 'puback', messageId })
  await again.subscribe('kept/#', 0, 2)
  const { payload, retain } = await again.next('publish')
  t.same([String(payload), retain], ['last', true])
  await again.ping()
  again.destroy()
  await until(() => second.broker.broker.clientCount === 0, 'gone')
  const third = await second.broker.connect()
  await third.connect({ clientId: 'reader', clean: false })
  await third.ping()
  t.equal(third.packets.length, 0, 'what was acknowledged does not come again')
})

t.test('Redis goes away and comes back: said once, nothing acknowledged meanwhile, nobody thrown off', async t => {
  const dir = t.testdir()
  const port = await freePort()
  const redis = await startRedis(t, dir, ['--port', String(port)])
  const { store, log, broker } = await startWithRedis(t, `redis://127.0.0.1:${port}/0`)
  t.same(log.lines, [`Redis at 127.0.0.1:${port} answers.`])
  const reader = await broker.connect(5)
  await reader.connect({ clientId: 'reader', clean: false, properties: { sessionExpiryInterval: 3600 } })
  await reader.subscribe('#', 1)
  const writer = await broker.connect()
  await writer.connect({ clientId: 'writer' })
  writer.publish('before', 'x', { qos: 1, messageId: 1 })
  await writer.next('puback')
  const before = await reader.next('publish')

  await redis.kill()
  await until(() => log.lines.length === 2, 'the line')
  t.match(log.lines[1], new RegExp(`^Error: Lost Redis at 127\\.0\\.0\\.1:${port} \\(.+\\)\\. Until it is back`))
  t.equal(store.up, false)

  const other = await broker.connect()
  await other.connect({ clientId: 'other', clean: false }).catch(() => {})
  t.equal(other.takeBytes(), '20020003', 'a session that is to be kept: server unavailable')
  const newer = await broker.connect(5)
  await newer.connect({ clientId: 'newer', properties: { sessionExpiryInterval: 60 } })
  t.equal(newer.takeBytes(), '2003008800')
  const again = await broker.connect()
  t.equal((await again.connect({ clientId: 'reader' })).returnCode, 3, 'one that would be ended')
  const clean = await broker.connect(5)
  t.equal((await clean.connect({ clientId: 'clean' })).reasonCode, 0, 'one that needs no store')

  reader.send({ cmd: 'puback', messageId: before.messageId ?? 0 })
  reader.publish('qos0', 'flows')
  t.equal((await reader.next('publish')).topic, 'qos0', 'QoS 0 flows')
  writer.publish('during', 'x', { qos: 1, messageId: 2 })
  reader.publish('qos0/again', 'flows')
  t.equal((await reader.next('publish')).topic, 'qos0/again')
  t.equal(writer.packets.length, 0, 'QoS 1 is not acknowledged')

  await redis.start()
  t.equal((await writer.next('puback')).messageId, 2)
  t.equal((await reader.next('publish')).topic, 'during')
  t.match(log.lines[2], new RegExp(`^Redis at 127\\.0\\.0\\.1:${port} is back after \\d+ seconds\\.$`))
  const late = await broker.connect()
  t.equal((await late.connect({ clientId: 'late', clean: false })).returnCode, 0)
  t.equal(log.lines.length, 3)
})

t.test('a Redis that hangs is noticed, and found again', async t => {
  const port = await freePort()
  const redis = await startRedis(t, t.testdir(), ['--port', String(port)])
  const { store, log, broker } = await startWithRedis(t, `redis://127.0.0.1:${port}`)
  const client = await broker.connect()
  await client.connect({ clientId: 'c', clean: false })
  t.teardown(() => redis.resume())
  redis.pause()
  client.publish('kept', 'x', { qos: 1, messageId: 1, retain: true })
  await until(() => !store.up, 'the command that timed out')
  t.match(log.lines.at(-1), new RegExp(`^Error: Lost Redis at 127\\.0\\.0\\.1:${port} `))
  const other = await broker.connect()
  t.equal((await other.connect({ clientId: 'other', clean: false })).returnCode, 3, 'server unavailable')
  redis.resume()
  await until(() => store.up, 'Redis')
  t.equal((await client.next('puback')).messageId, 1)
  const late = await broker.connect()
  t.equal((await late.connect({ clientId: 'late', clean: false })).returnCode, 0)
})

t.test('a command while Redis is away fails at once and is not kept for later', async t => {
  const port = await freePort()
  const redis = await startRedis(t, t.testdir(), ['--port', String(port)])
  const { store } = await startWithRedis(t, `redis://127.0.0.1:${port}`)
  await redis.kill()
  await until(() => !store.up, 'the loss')
  const storing = store.persistence.addSubscriptions({ id: 'c' }, [{ topic: 't', qos: 1 }]).then(
    () => 'stored',
    () => 'failed'
  )
  t.equal(await Promise.race([storing, nextTurn('kept')]), 'failed')
})

t.test('a broker that starts while Redis is away waits for it', async t => {
  const dir = t.testdir()
  const port = await freePort()
  const log = recordLog()
  const store = openRedisStore(`redis://:very%20secret@127.0.0.1:${port}`, log)
  t.teardown(() => store.close())
  await until(() => log.lines.length === 1, 'the line')
  t.match(log.lines[0], new RegExp(`^Error: Redis at 127\\.0\\.0\\.1:${port} does not answer \\(.*(refused|ECONNREFUSED).*\\)`))
  await startRedis(t, dir, ['--port', String(port), '--requirepass', 'very secret'])
  await store.ready
  t.equal(store.up, true)
  t.equal(log.lines.at(-1), `Redis at 127.0.0.1:${port} answers.`)
  t.notMatch(log.lines.join('\n'), /secret/)
  const broker = await startBareBroker(t, { store: store.store })
  const client = await broker.connect()
  t.equal((await client.connect({ clientId: 'c', clean: false })).returnCode, 0)
})

t.test('a wrong password is said without the password', async t => {
  const dir = t.testdir()
  const port = await freePort()
  await startRedis(t, dir, ['--port', String(port), '--requirepass', 'right'])
  const log = recordLog()
  const store = openRedisStore(`redis://:wrong-secret@127.0.0.1:${port}`, log)
  t.teardown(() => store.close())
  await until(() => log.lines.length > 0, 'the line')
  t.match(log.lines[0], /WRONGPASS/)
  t.notMatch(log.lines.join('\n'), 'wrong-secret')
})

t.test('closing while Redis is away ends the wait', async t => {
  const store = openRedisStore(`redis://127.0.0.1:${await freePort()}`, recordLog())
  const waiting = store.ready
  await store.close()
  await t.rejects(waiting, { code: 'ERR_STORE' })
})

t.test('a Redis Cluster is refused', async t => {
  const dir = t.testdir()
  const port = await freePort()
  await startRedis(t, dir, ['--port', String(port), '--cluster-enabled', 'yes', '--cluster-port', String(await freePort())])
  const store = openRedisStore(`redis://127.0.0.1:${port}`, recordLog())
  t.teardown(() => store.close())
  await t.rejects(store.ready, { code: 'ERR_STORE', message: /is part of a cluster, which is not supported/ })
})

t.test('what a #!store line may say', async t => {
  const address = (url: string) => parseRedisUrl(url).address
  t.equal(address('redis://localhost'), 'localhost:6379')
  t.equal(address('redis://u:p@[::1]:7000/3'), '[::1]:7000')
  t.same(parseRedisUrl('redis://u:p%40@[::1]:7000/3').options, { host: '::1', port: 7000, db: 3, username: 'u', password: 'p@' })
  t.same(parseRedisUrl('rediss://redis.example').options, { host: 'redis.example', port: 6379, db: 0, tls: {} })
  t.same(parseRedisUrl('unix:///run/redis.sock?db=2').options, { path: '/run/redis.sock', db: 2 })
  for (const url of ['secret', 'http://:secret@h', 'redis://:secret@h/x', 'redis-cluster://:secret@h', 'redis://']) {
    try {
      parseRedisUrl(url, { file: 'mosquitto.conf', line: 3 })
      t.fail(url)
    } catch (error) {
      t.match(error, { code: 'ERR_STORE', at: { line: 3 } }, url)
      t.notMatch(String(error), 'secret', url)
    }
  }
})

t.test('nothing of all this left a rejection unhandled', async t => {
  t.same(unhandled, [])
})
