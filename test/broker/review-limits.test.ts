// What one client may cost: answers that it doesn't read, messages that it never releases; and that a clock which is set costs nobody.

import { setImmediate as turn } from 'node:timers/promises'
import t from 'tap'
import { MatchCache } from '../../dist/broker/match-cache.js'
import { startBareBroker } from '../helpers/bare-broker.js'
import { createBroker, join } from '../helpers/embedded.js'
import { usedHeap } from '../helpers/heap.js'
import { dial } from '../helpers/light-client.js'
import { field, packet, publish, subscribe, uint16, unsubscribe } from '../helpers/raw-mqtt.js'
import { until } from '../helpers/until.js'

t.test('a client that does not read its answers is not read either, and is served in full when it reads again', async t => {
  const broker = await createBroker(t)
  const peer = await join(broker, { clientId: 'flood' })
  const client = broker.clients.flood
  if (client === undefined) throw new Error('no client')
  const pings = 200_000
  peer.stream.pause()
  peer.stream.write(Buffer.from('c000'.repeat(pings), 'hex'))
  const waiting = (): number => Number(Reflect.get(client, 'waiting'))
  // Stopped for good, not for its next turn.
  await until(async () => {
    for (let i = 0; i < 50; i++) {
      await turn()
      if (!client.conn.isPaused()) return false
    }
    return true
  })
  t.ok(waiting() < 50_000, `${waiting()} answers wait`)
  peer.stream.resume()
  t.equal(await peer.nextBytes(pings * 2), 'd000'.repeat(pings))
})

t.test('QoS 2 messages that take the place of small ones count as well', async t => {
  const { connect } = await startBareBroker(t)
  const client = await connect()
  await client.connect({ clientId: 'holder' })
  for (let messageId = 1; messageId <= 20; messageId++) client.publish('a', 'small', { qos: 2, messageId })
  for (let i = 1; i <= 20; i++) await client.next('pubrec')
  const large = Buffer.alloc(1_900_000)
  for (let messageId = 1; messageId <= 20; messageId++) client.publish('a', large, { qos: 2, messageId })
  await client.closed()
  t.ok(client.packets.length < 12)
})

t.test('nor are QoS 2 messages small whose topics are long', async t => {
  const { connect } = await startBareBroker(t)
  const client = await connect()
  await client.connect({ clientId: 'holder' })
  for (let messageId = 1; messageId <= 400; messageId++) client.publish(`${messageId}`.padEnd(60_000, '/'), '', { qos: 2, messageId })
  await client.closed()
  t.ok(client.packets.length < 150, `${client.packets.length} packets`)
})

t.test('what is unsubscribed before its retained messages come brings none', async t => {
  const { port } = await startBareBroker(t, { limits: { maxInflightMessages: 1 } })
  const topics: string[] = []
  const client = await (await dial(port, { onPublish: topic => topics.push(topic.toString()) })).connect({ clientId: 'c' })
  client.send(subscribe(['own']), publish('a', { retain: true }), publish('b', { retain: true }))
  client.send(publish('own', { qos: 1 }), publish('own', { qos: 1 }))
  await client.has(3, 1)
  client.send(subscribe(['a', 'b']), unsubscribe(['a']))
  await client.has(11, 1)
  await client.ping()
  t.same(topics, ['own'])
  for (const id of [1, 2, 3]) client.send(packet(0x40, uint16(id)))
  await client.has(3, 3)
  await client.ping()
  t.same(topics, ['own', 'own', 'b'])
})

t.test('a connection does not keep its CONNECT', async t => {
  const { port } = await startBareBroker(t)
  const property = (bytes: number): Buffer => Buffer.concat([Buffer.from([0x26]), field('k'), field(Buffer.alloc(bytes, 'v'))])
  const properties = Buffer.concat([property(60_000), property(30_000)])
  const connectOne = async (i: number): Promise<void> => {
    const client = await dial(port)
    await client.connect({ version: 5, clientId: `c${i}`, username: 'u', password: 'p', will: { topic: 'w', payload: 'x' }, properties })
    t.equal(client.connackCode, 0)
    await client.ping()
  }
  await connectOne(0)
  usedHeap()
  const before = process.memoryUsage().arrayBuffers
  for (let i = 1; i <= 50; i++) await connectOne(i)
  usedHeap()
  const each = (process.memoryUsage().arrayBuffers - before) / 50
  t.ok(each < 20_000, `${each} bytes for each`)
})

t.test('a long topic is not remembered', t => {
  const cache = new MatchCache<number>({ topics: 10, weight: 10 })
  cache.get('', 1)
  cache.set('x'.repeat(60_000), 1, 1)
  t.equal(cache.size, 0)
  t.end()
})

t.test('a clock that is set forward throws nobody out, and one that is set back lets nobody stay', async t => {
  const { connect, broker } = await startBareBroker(t)
  const [patient, silent, other] = [await connect(), await connect(), await connect()]
  await patient.connect({ clientId: 'patient', keepalive: 600 })
  const { now } = Date
  t.teardown(() => {
    Date.now = now
  })
  await silent.connect({ clientId: 'silent', keepalive: 1 })
  Date.now = () => now() + 3_600_000
  await silent.closed()
  await patient.ping()
  await other.connect({ clientId: 'other', keepalive: 1 })
  Date.now = () => now() - 3_600_000
  await other.closed()
  t.equal(broker.clientCount, 1)
})

t.test('max_queued_bytes counts for QoS 0 too, where the number of messages has no limit', async t => {
  const { connect, broker } = await startBareBroker(t, { limits: { maxQueuedMessages: 0, maxQueuedBytes: 3_000_000 } })
  const [reader, writer] = [await connect(), await connect()]
  await reader.connect({ clientId: 'reader' })
  await reader.subscribe('a')
  await writer.connect({ clientId: 'writer' })
  reader.stream.pause()
  for (let round = 0; round < 40; round++) {
    writer.publish('a', Buffer.alloc(1_000_000))
    await writer.ping()
  }
  const waiting = Number(Reflect.get(broker.clients.reader ?? {}, 'waitingBytes'))
  t.ok(waiting < 6_000_000, `${waiting} bytes wait`)
})
