// Redis behind the running command: what survives a restart, and what a Redis that is away, refuses or is full does to the broker. Whatever
// it does: clear lines, no exit, no stack trace, no password in any line.

import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { freePort, mosquitero, must, type Running, run, start, startBroker, userLine } from '../helpers/command.js'
import { connectMqtt } from '../helpers/mqtt.js'
import { startRedis } from '../helpers/redis-server.js'

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
    const kept = ['-i', 'kept', '-c', '-q', '1', '-t', 't/#', '-E']
    t.equal((await run(t, 'mosquitto_sub', [...here.at, ...kept])).status, 3, 'server unavailable')
    await must(t, 'mosquitto_pub', [...here.at, '-t', 't/flows', '-m', 'x'])
    await subscriber.line(/^t\/flows x$/)
    const waiting = start(t, 'mosquitto_pub', [...here.at, '-q', '1', '-t', 't/waits', '-m', 'x'])
    await broker.line(/: Received PUBLISH from .*'t\/waits'/)
    broker.child.kill('SIGHUP')
    await broker.line(/: Config reloaded: .*; 0 clients disconnected/)
    await redis.start()
    await broker.line(/: Redis at 127\.0\.0\.1:\d+ is back after \d+ seconds\.$/)
    t.equal((await waiting.ended).status, 0, 'acknowledged after all')
    await must(t, 'mosquitto_pub', [...here.at, '-q', '1', '-t', 't/after', '-m', 'x'])
    await subscriber.line(/^t\/after x$/)
    t.equal(subscriber.stdout(), 't/before x\nt/flows x\nt/waits x\nt/after x\n')
    t.equal(broker.stderr().match(/Lost Redis/g)?.length, 1)
    isHonest(t, broker)
    await stops(t, broker)
  })
}

t.test('a server in a program closes its connections to Redis, its ports and nothing else keeps the program', async t => {
  const here = await setting(t)
  await redisOf(t, here)
  const program = `
    import { createServer } from ${JSON.stringify(new URL('../../dist/index.js', import.meta.url).href)}
    const server = await createServer({ config: ${JSON.stringify(join(here.dir, 'm.conf'))} })
    await server.close()
    console.log('closed')`
  const { status, stdout } = await run(t, process.execPath, ['--input-type=module', '-e', program])
  t.equal(status, 0)
  t.match(stdout, /closed/)
})

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

t.test('Redis hangs under connected clients: said, nothing is acknowledged, and it goes on when Redis does', async t => {
  const here = await setting(t)
  const redis = await redisOf(t, here)
  t.teardown(() => redis.resume())
  const broker = await startBroker(t, here.args)
  const subscriber = start(t, 'mosquitto_sub', [...here.at, '-i', 'sub', '-c', '-q', '2', '-t', 't/#', '-v'])
  await broker.line(/: sub 2 t\/#$/)
  redis.pause()
  const publishers = [1, 2].map(qos => start(t, 'mosquitto_pub', [...here.at, '-q', `${qos}`, '-t', `t/${qos}`, '-m', 'x']))
  await broker.line(/: Error: Lost Redis at 127\.0\.0\.1:\d+ \(.+\)\. Until it is back/)
  t.same(
    publishers.map(({ child }) => child.exitCode),
    [null, null],
    'both wait'
  )
  redis.resume()
  for (const { ended } of publishers) t.equal((await ended).status, 0)
  await subscriber.line(/^t\/1 x$/)
  await subscriber.line(/^t\/2 x$/)
  t.equal(broker.stderr().match(/Lost Redis/g)?.length, 1)
  isHonest(t, broker)
  await stops(t, broker)
})

t.test('a stop while Redis is away, and messages wait for it, takes no longer than a stop may', async t => {
  const here = await setting(t)
  const redis = await redisOf(t, here)
  const broker = await startBroker(t, here.args)
  await redis.kill()
  await broker.line(/: Error: Lost Redis/)
  const waiting = start(t, 'mosquitto_pub', [...here.at, '-q', '1', '-r', '-t', 't', '-m', 'x'])
  await broker.line(/: Received PUBLISH from /)
  await stops(t, broker)
  t.equal(waiting.stdout(), '')
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

/** Redis answers and takes nothing: QoS 0 flows, nothing is acknowledged that is not kept, a stop is orderly. */
async function refusesToStore(t: Test, here: Setting, reason: RegExp, refuse: () => Promise<unknown> = async () => {}): Promise<void> {
  const broker = await startBroker(t, here.args)
  const subscriber = start(t, 'mosquitto_sub', [...here.at, '-i', 'clean', '-t', 't/#', '-v'])
  await broker.line(/: clean 0 t\/#$/)
  await refuse()
  const client = await connectMqtt(here.port)
  t.teardown(() => client.destroy())
  await client.connect({ clientId: 'raw' })
  for (const qos of [1, 2] as const) client.publish('stored', 'x', { qos, messageId: qos, retain: true })
  await broker.line(new RegExp(`: Error: .*${reason.source}`))
  t.equal((await run(t, 'mosquitto_sub', [...here.at, '-i', 'kept', '-c', '-t', 't/#', '-E'])).status, 3, 'server unavailable')
  await must(t, 'mosquitto_pub', [...here.at, '-t', 't/flows', '-m', 'x'])
  await subscriber.line(/^t\/flows x$/)
  t.same(client.packets, [], 'nothing is acknowledged')
  isHonest(t, broker)
  t.equal(broker.stderr().match(/ refuses what is asked of it/g)?.length, 1)
  await stops(t, broker)
}
