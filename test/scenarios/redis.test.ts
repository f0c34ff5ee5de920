// Redis behind the running command: what survives a restart, and what a Redis that is away, refuses or is full does to the broker. Whatever
// it does: clear lines, no exit, no stack trace, no password in any line.

import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { freePort, mosquitero, must, type Running, run, start, startBroker, userLine } from '../helpers/command.js'
import { connectMqtt } from '../helpers/mqtt.js'
import { startRedis } from '../helpers/redis-server.js'
import { until } from '../helpers/until.js'

interface Setting {
  readonly dir: string
  readonly port: number
  readonly redisPort: number
  readonly args: readonly string[]
  /** Arguments of Mosquitto's clients. */
  readonly at: readonly string[]
}

const password = 'correct-horse'

async function setting(t: Test, credentials = ''): Promise<Setting> {
  const [port, redisPort] = [await freePort(), await freePort()]
  const dir = t.testdir({ data: {} })
  const conf = `listener ${port} 127.0.0.1\nallow_anonymous true\n#!store redis://${credentials}127.0.0.1:${redisPort}\n${userLine}`
  writeFileSync(join(dir, 'm.conf'), conf)
  return { dir, port, redisPort, args: ['-v', '-c', join(dir, 'm.conf')], at: ['-h', '127.0.0.1', '-p', `${port}`] }
}

const redisOf = (t: Test, { dir, redisPort }: Setting, ...more: string[]) =>
  startRedis(t, join(dir, 'data'), ['--port', `${redisPort}`, '--bind', '127.0.0.1', ...more])

const redisCli = (t: Test, { redisPort }: Setting, ...args: string[]) => must(t, 'redis-cli', ['-p', `${redisPort}`, ...args])

/** No stack trace, no fault of ours, no secret; every line with its time. */
function isHonest(t: Test, broker: Running): void {
  const lines = broker.stderr().trimEnd().split('\n')
  t.same(
    lines.filter(line => !/^\d{10}: /.test(line) || /Internal fault|node_modules|node:internal|correct-horse|wrong-horse/.test(line)),
    [],
    'an honest log'
  )
  t.equal(broker.child.exitCode, null, 'still runs')
}

async function stops(t: Test, broker: Running): Promise<void> {
  const began = performance.now()
  t.equal((await broker.stop()).status, 0)
  t.ok(performance.now() - began < 8000, 'it stops in time')
}

t.test('a queue and retained messages survive a restart of the broker', async t => {
  const here = await setting(t)
  await redisOf(t, here)
  const first = await startBroker(t, here.args)
  const session = ['-i', 'keeper', '-c', '-q', '1', '-t', 'queue/#', '-v']
  t.equal((await run(t, 'mosquitto_sub', [...here.at, ...session, '-E'])).status, 0)
  for (const n of [1, 2, 3]) await must(t, 'mosquitto_pub', [...here.at, '-q', '1', '-t', `queue/${n}`, '-m', `m${n}`])
  await must(t, 'mosquitto_pub', [...here.at, '-q', '1', '-r', '-t', 'kept', '-m', 'still here'])
  await stops(t, first)
  const second = await startBroker(t, here.args)
  t.equal(await must(t, 'mosquitto_sub', [...here.at, ...session, '-C', '3', '-W', '10']), 'queue/1 m1\nqueue/2 m2\nqueue/3 m3\n')
  t.equal(await must(t, 'mosquitto_sub', [...here.at, '-t', 'kept', '-C', '1', '-W', '10']), 'still here\n')
  isHonest(t, second)
  await stops(t, second)
})

for (const data of ['with its data', 'without its data'] as const) {
  t.test(`Redis crashes under connected clients and comes back ${data}`, async t => {
    const here = await setting(t)
    const redis = await redisOf(t, here, ...(data === 'with its data' ? [] : ['--appendonly', 'no']))
    const broker = await startBroker(t, here.args)
    const subscriber = start(t, 'mosquitto_sub', [...here.at, '-i', 'sub', '-c', '-q', '1', '-t', 't/#', '-v'])
    await broker.line(/: sub 1 t\/#$/)
    await must(t, 'mosquitto_pub', [...here.at, '-q', '1', '-t', 't/before', '-m', 'x'])
    await subscriber.line(/^t\/before x$/)
    await redis.kill()
    await broker.line(/: Error: Lost Redis at 127\.0\.0\.1:\d+ \(.+\)\. Until it is back/)
    t.equal((await run(t, 'mosquitto_pub', [...here.at, '-t', 't/refused', '-m', 'x'])).status, 3, 'server unavailable')
    broker.child.kill('SIGHUP')
    await broker.line(/: Config reloaded, 0 clients disconnected\.$/)
    await redis.start()
    await broker.line(/: Redis at 127\.0\.0\.1:\d+ is back after \d+ seconds\.$/)
    await must(t, 'mosquitto_pub', [...here.at, '-q', '1', '-t', 't/after', '-m', 'x'])
    await subscriber.line(/^t\/after x$/)
    isHonest(t, broker)
    await stops(t, broker)
  })
}

t.test('Redis away at the start: the broker waits, a signal ends the wait', async t => {
  const here = await setting(t, `:${password}@`)
  const broker = mosquitero(t, here.args)
  await broker.line(/: Error: Redis at 127\.0\.0\.1:\d+ does not answer \(.+\)\. Clients are let in once it does/)
  isHonest(t, broker)
  const began = performance.now()
  t.equal((await broker.stop()).status, 0)
  t.ok(performance.now() - began < 3000)
  t.match(broker.stderr(), /terminating$|does not answer/m)
})

t.test('a wrong password is named without it, and the broker waits', async t => {
  const here = await setting(t, ':wrong-horse@')
  await redisOf(t, here, '--requirepass', password)
  const broker = mosquitero(t, here.args)
  await broker.line(/: Error: Redis at 127\.0\.0\.1:\d+ does not answer \(.*WRONGPASS/)
  isHonest(t, broker)
  await stops(t, broker)
})

t.test('a Redis that demands a password of whom has none', async t => {
  const here = await setting(t)
  await redisOf(t, here, '--requirepass', password)
  const broker = mosquitero(t, here.args)
  await broker.line(/: Error: Redis at 127\.0\.0\.1:\d+ does not answer \(.*NOAUTH/)
  isHonest(t, broker)
  await stops(t, broker)
})

t.test('an account of Redis that may only read: said, and nobody is ended by it', async t => {
  const here = await setting(t, `limited:${password}@`)
  await redisOf(t, here)
  await redisCli(t, here, 'ACL', 'SETUSER', 'limited', 'on', `>${password}`, '~*', '&*', '+@all', '-set', '-rpush', '-hset', '-mset')
  await refusesToStore(t, here, /NOPERM/)
})

t.test('a full Redis: said, and nobody is ended by it', async t => {
  const here = await setting(t)
  await redisOf(t, here, '--maxmemory-policy', 'noeviction')
  await refusesToStore(t, here, /OOM/, () => redisCli(t, here, 'CONFIG', 'SET', 'maxmemory', '1'))
})

t.test('a replica that is read only: said, and nobody is ended by it', async t => {
  const here = await setting(t)
  await redisOf(t, here)
  await refusesToStore(t, here, /READONLY/, () => redisCli(t, here, 'REPLICAOF', '127.0.0.1', '1'))
})

/** Redis answers and takes nothing: others go on, QoS 0 flows, a stop is orderly. */
async function refusesToStore(t: Test, here: Setting, reason: RegExp, refuse: () => Promise<unknown> = async () => {}): Promise<void> {
  const broker = await startBroker(t, here.args)
  const subscriber = start(t, 'mosquitto_sub', [...here.at, '-i', 'clean', '-t', 't/#', '-v'])
  await broker.line(/: clean 0 t\/#$/)
  await refuse()
  const client = await connectMqtt(here.port)
  await client.connect({ clientId: 'raw', clean: false }).catch(() => {})
  client.send({ cmd: 'subscribe', messageId: 1, subscriptions: [{ topic: 'q', qos: 1 }] })
  for (const qos of [1, 2] as const) client.publish('stored', 'x', { qos, messageId: qos, retain: true })
  await broker.line(new RegExp(`: Error: .*${reason.source}`))
  await run(t, 'mosquitto_pub', [...here.at, '-q', '1', '-r', '-t', 'stored', '-m', 'x', '-W', '3'].slice(0, -2))
  await must(t, 'mosquitto_pub', [...here.at, '-t', 't/flows', '-m', 'x'])
  await subscriber.line(/^t\/flows x$/)
  await until(() => broker.child.exitCode === null)
  client.destroy()
  isHonest(t, broker)
  t.comment(
    broker
      .stderr()
      .split('\n')
      .filter(line => /Error/.test(line))
      .join('\n')
  )
  await stops(t, broker)
}
