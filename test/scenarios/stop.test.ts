// The end of the running command under load, and its limits on connections.

import { existsSync, writeFileSync } from 'node:fs'
import { connect as connectTcp, type Socket } from 'node:net'
import { join } from 'node:path'
import type { Packet } from 'mqtt-packet'
import t, { type Test } from 'tap'
import { freePort, mosquitero, start, startBroker, userLine } from '../helpers/command.js'
import { type ConnectOptions, connectMqtt, type MqttClient } from '../helpers/mqtt.js'
import { socketPath, startRedis } from '../helpers/redis-server.js'
import { until } from '../helpers/until.js'

async function startWith(t: Test, options: (port: number) => string) {
  const port = await freePort()
  const dir = t.testdir()
  writeFileSync(join(dir, 'm.conf'), `${options(port)}allow_anonymous true\n${userLine}`)
  return { port, broker: await startBroker(t, ['-c', join(dir, 'm.conf')]) }
}

async function clientsOf(t: Test, port: number, count: number): Promise<MqttClient[]> {
  const clients: MqttClient[] = []
  t.teardown(() => {
    for (const client of clients) client.destroy()
  })
  for (let i = 0; i < count; i++) {
    const version = i % 2 === 0 ? 4 : 5
    const client = await connectMqtt(port, version)
    clients.push(client)
    await client.connect({ clientId: `c${i}`, will: { topic: 'wills', payload: Buffer.from(`${i}`), qos: 1, retain: false } })
    await client.subscribe('wills', 1)
  }
  return clients
}

/** What it doesn't read fills its socket, then the broker's. */
async function freeze(clients: readonly MqttClient[], publisher: MqttClient): Promise<void> {
  for (const client of clients) client.stream.pause()
  for (let i = 0; i < 30; i++) publisher.publish('wills', Buffer.alloc(100_000))
  await publisher.ping().catch(() => {})
}

// They wait for deadlines.
t.jobs = 2

t.test('SIGTERM with 200 clients, some of them frozen, ends in time with 0', async t => {
  const { port, broker } = await startWith(t, port => `listener ${port} 127.0.0.1\n`)
  const clients = await clientsOf(t, port, 200)
  const frozen = clients.slice(0, 5)
  const [publisher] = clients.slice(-1)
  if (publisher === undefined) throw new Error('no clients')
  for (const client of clients.slice(5)) client.stream.on('data', () => client.packets.splice(0))
  void freeze(frozen, publisher)
  await until(() => frozen.every(({ stream }) => stream.readableLength > 0))
  const began = performance.now()
  t.equal((await broker.stop()).status, 0)
  t.ok(performance.now() - began < 9000, `${Math.round(performance.now() - began)} ms`)
  t.match(broker.stderr(), / terminating\n/)
  t.notMatch(broker.stderr(), /Internal fault/)
})

type Will = NonNullable<ConnectOptions['will']>

/** Who hears what at the end of a broker, what is kept for those that come back, and what is retained. */
async function goodbyes(t: Test, command: 'mosquitto' | 'mosquitero') {
  const port = await freePort()
  const dir = t.testdir({
    'm.conf': `listener ${port} 127.0.0.1\nallow_anonymous true\npersistence true\npersistence_location ./\n${userLine}`
  })
  const run = async () => {
    const broker =
      command === 'mosquitto' ? start(t, command, ['-c', 'm.conf'], { cwd: dir }) : mosquitero(t, ['-c', 'm.conf'], { cwd: dir })
    await broker.line(/ version \S+ running$/)
    return broker
  }
  const clients = new Map<string, MqttClient>()
  const login = async (clientId: string, version: 4 | 5, options: ConnectOptions = {}, will?: Will) => {
    const client = await connectMqtt(port, version)
    t.teardown(() => client.destroy())
    await client.connect({ clientId, ...(will && { will }), ...options })
    return client
  }
  const join = async (...args: Parameters<typeof login>) => {
    const client = await login(...args)
    await client.subscribe('wills/#', 1)
    clients.set(args[0], client)
  }
  const named = (clientId: string, more: Partial<Will> = {}): Will => {
    return { topic: `wills/${clientId}`, payload: Buffer.from('x'), qos: 1, retain: false, ...more }
  }
  const kept5 = { clean: false, properties: { sessionExpiryInterval: 1000 } }
  const broker = await run()
  await join('clean5', 5, {}, named('clean5'))
  await join('clean4', 4, {}, named('clean4'))
  await join('kept5', 5, kept5, named('kept5'))
  await join('kept4', 4, { clean: false }, named('kept4', { retain: true }))
  await join('delayed', 5, kept5, named('delayed', { properties: { willDelayInterval: 600 } }))
  await join('last', 4, {}, named('last'))
  await join('away', 4, { clean: false })
  const away = clients.get('away')
  away?.send({ cmd: 'disconnect' })
  await away?.closed()
  clients.delete('away')
  const { status } = await broker.stop()
  const textOf = (packet: Packet) => (packet.cmd === 'publish' ? `${packet.topic} ${packet.qos}` : packet.cmd)
  const heard: Record<string, readonly string[]> = {}
  const codes: Record<string, number | undefined> = {}
  for (const [clientId, client] of clients) {
    await client.closed()
    const goodbye = client.packets.find(({ cmd }) => cmd === 'disconnect')
    if (goodbye?.cmd === 'disconnect') codes[clientId] = goodbye.reasonCode
    heard[clientId] = client.packets.filter(packet => packet !== goodbye).map(textOf)
  }
  const again = await run()
  for (const [clientId, version, options] of [
    ['kept5', 5, kept5],
    ['kept4', 4, { clean: false }],
    ['away', 4, { clean: false }]
  ] as const) {
    const client = await login(clientId, version, options)
    await until(() => client.packets.filter(({ cmd }) => cmd === 'publish').length >= 6)
    heard[`${clientId} again`] = client.packets.filter(({ cmd }) => cmd === 'publish').map(textOf)
  }
  const reader = await login('reader', 4)
  await reader.subscribe('wills/#')
  heard.retained = [textOf(await reader.next('publish'))]
  await again.stop()
  return { status, heard, codes }
}

t.test('everybody hears all wills before the end, the delayed ones too, as with Mosquitto; MQTT 5 clients are told 0x8B', async t => {
  const ours = await goodbyes(t, 'mosquitero')
  const theirs = await goodbyes(t, 'mosquitto')
  t.same(ours.heard, theirs.heard)
  t.same([ours.status, theirs.status], [0, 0])
  t.same(
    ours.heard.clean5,
    ['clean5', 'clean4', 'kept5', 'kept4', 'last', 'delayed'].map(name => `wills/${name} 1`)
  )
  t.same(ours.codes, { clean5: 0x8b, kept5: 0x8b, delayed: 0x8b })
})

t.test('a Redis that is gone, or hangs, holds up the end no longer than its own deadline', async t => {
  for (const signal of ['SIGKILL', 'SIGSTOP'] as const) {
    const redisPort = await freePort()
    const redis = await startRedis(t, t.testdir(), ['--port', `${redisPort}`])
    const { port, broker } = await startWith(t, port => `#!store redis://127.0.0.1:${redisPort}\nlistener ${port} 127.0.0.1\n`)
    const client = await connectMqtt(port)
    t.teardown(() => client.destroy())
    await client.connect({ clientId: 'kept', clean: false })
    await client.subscribe('t', 1)
    if (signal === 'SIGSTOP') redis.pause()
    else await redis.kill()
    // What waits for the store is promised to nobody.
    client.publish('t', 'x', { qos: 1, messageId: 1 })
    client.publish('t', 'x', { qos: 1, messageId: 2, retain: true })
    const began = performance.now()
    t.equal((await broker.stop()).status, 0, signal)
    t.ok(performance.now() - began < 9000, `${Math.round(performance.now() - began)} ms`)
  }
})

t.test('a SIGTERM at any moment of the start ends it in order, and soon', async t => {
  for (const moment of [/running as user/, / starting$/, /Config loaded/, /Opening ipv4/, /Listener on port/, / running$/]) {
    const dir = t.testdir()
    writeFileSync(
      join(dir, 'm.conf'),
      `listener ${await freePort()} 127.0.0.1\npersistence true\npersistence_location ${dir}/\n${userLine}`
    )
    const broker = mosquitero(t, ['-c', join(dir, 'm.conf')])
    await broker.line(moment)
    const began = performance.now()
    t.equal((await broker.stop()).status, 0, `${moment}`)
    t.ok(performance.now() - began < 8000, `${Math.round(performance.now() - began)} ms`)
    t.equal(/ terminating$/m.test(broker.stderr()), / running$/m.test(broker.stderr()), 'what ran says that it ends')
  }
})

t.test('a second SIGTERM ends at once what the first would wait for', async t => {
  const redisPort = await freePort()
  const redis = await startRedis(t, t.testdir(), ['--port', `${redisPort}`])
  // Not in the folder of the configuration: another call of t.testdir() empties it.
  const pidFile = `${socketPath(t)}.pid`
  const { broker } = await startWith(t, port => `pid_file ${pidFile}\n#!store redis://127.0.0.1:${redisPort}\nlistener ${port} 127.0.0.1\n`)
  // The store is to be told goodbye, and a Redis that hangs is given five seconds for its answer.
  redis.pause()
  broker.child.kill('SIGTERM')
  await broker.line(/ terminating$/)
  const began = performance.now()
  t.equal((await broker.stop()).status, 0)
  t.ok(performance.now() - began < 3000)
  t.notOk(existsSync(pidFile), 'the pid file goes all the same')
})

t.test(
  'max_connections and global_max_connections: who is above is closed with a line, and a place that is left is given again',
  async t => {
    const second = await freePort()
    const { port, broker } = await startWith(
      t,
      port => `global_max_connections 5\nlistener ${port} 127.0.0.1\nmax_connections 3\nlistener ${second} 127.0.0.1\n`
    )
    const [first, ...others] = await clientsOf(t, port, 3)
    await refused(port)
    await broker.line(/: Client connection from 127\.0\.0\.1 denied: max_connections exceeded\.$/)
    const elsewhere = await connectMqtt(second)
    const again = await connectMqtt(second)
    t.equal((await elsewhere.connect({ clientId: 'e' })).returnCode, 0)
    t.equal((await again.connect({ clientId: 'f' })).returnCode, 0)
    await refused(second)
    first?.destroy()
    await broker.line(/: Client c0 \[127\.0\.0\.1:\d+\] disconnected/)
    const late = await connectMqtt(port)
    t.equal((await late.connect({ clientId: 'late' })).returnCode, 0)
    for (const client of [...others, elsewhere, again, late]) client.destroy()
  }
)

/** Closed without a byte. */
function refused(port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const socket: Socket = connectTcp(port, '127.0.0.1')
    socket.once('data', () => reject(new Error('let in')))
    socket.on('error', () => {})
    socket.once('close', () => resolve())
  })
}
