// The end of the running command under load, and its limits on connections.

import { existsSync, writeFileSync } from 'node:fs'
import { connect as connectTcp, type Socket } from 'node:net'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { freePort, startBroker, userLine } from '../helpers/command.js'
import { connectMqtt, type MqttClient } from '../helpers/mqtt.js'
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
