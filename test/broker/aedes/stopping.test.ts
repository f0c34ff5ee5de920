// A broker that is being opened, could not be opened, is being closed, or is closed: nothing is let in that can't be served, and whoever
// waits is told.

import { duplexPair } from 'node:stream'
import t from 'tap'
import { Broker } from '../../../dist/index.js'
import { close, createBroker, errorsOf, join, message, Peer, publish, received } from '../../helpers/embedded.js'
import { gated, openGate, openMemory } from '../../helpers/gated-persistence.js'
import { MqttClient, until } from '../../helpers/mqtt.js'

const connect = { cmd: 'connect', clientId: 'late', protocolId: 'MQTT', protocolVersion: 4, clean: true, keepalive: 0 } as const

t.test('a client that comes while the broker closes is closed, as one that comes after', async t => {
  const broker = await createBroker(t)
  const late: MqttClient[] = []
  const handOver = (): void => {
    const [near, far] = duplexPair()
    const peer = new MqttClient(near)
    far.on('close', () => setImmediate(() => near.destroy()))
    broker.handle(far)
    peer.send(connect)
    late.push(peer)
  }
  broker.on('clientDisconnect', handOver)
  broker.on('client', client => client.id === 'late' && t.fail('it was let in'))
  await join(broker, { clientId: 'one' })
  const closing = close(broker)
  t.equal(broker.closed, true, 'from the moment that close is called, as with Aedes')
  handOver()
  setImmediate(handOver)
  await closing
  handOver()
  t.equal(late.length, 4)
  await Promise.all(late.map(peer => peer.closed()))
  t.same(
    late.flatMap(({ packets }) => packets),
    []
  )
  t.equal(broker.connectedClients, 0)
})

t.test('whoever calls close a second time waits for the same end', async t => {
  const broker = await Broker.createBroker()
  const order: string[] = []
  broker.on('closed', () => order.push('closed'))
  const first = new Promise<void>(resolve => broker.close(resolve)).then(() => order.push('first'))
  const second = new Promise<void>(resolve => broker.close(resolve)).then(() => order.push('second'))
  await Promise.all([first, second])
  t.same(order, ['closed', 'first', 'second'])
})

t.test('a broker whose store could not be opened may be opened again', async t => {
  let failures = 2
  const persistence = gated(method => {
    if (method === 'setup' && failures-- > 0) throw new Error('no store')
  })
  const broker = new Broker({ persistence })
  t.teardown(() => close(broker))
  for (let i = 0; i < 2; i++) {
    await t.rejects(broker.listen(), { message: 'no store' })
    t.equal(broker.closed, true)
    const peer = new Peer(broker)
    peer.send(connect)
    await peer.closed()
    t.same(peer.packets, [], 'nobody is let in without a store')
  }
  await broker.listen()
  t.equal(broker.closed, false)
  await broker.listen()
  const peer = await join(broker, { clientId: 'one', clean: false })
  await peer.subscribe('a', 1)
  await publish(broker, message('a', 'x', { qos: 1 }))
  t.equal(await received(peer), 'a x')
})

t.test('a broker that was closed is not opened again', async t => {
  const broker = await Broker.createBroker()
  await close(broker)
  await t.rejects(broker.listen(), { message: /was closed/ })
  t.equal(broker.closed, true)
})

t.test('a broker that is closed before its store has opened stays closed', async t => {
  const store = openGate()
  store.shut()
  const broker = new Broker({ persistence: gated(store.gate) })
  const opening = t.rejects(broker.listen(), { message: /was closed/ })
  await close(broker)
  store.open()
  await opening
  t.equal(broker.closed, true)
})

t.test('a client that comes while the store is being opened waits, and finds its session', async t => {
  const persistence = openMemory()
  const first = await Broker.createBroker({ persistence })
  const before = await join(first, { clientId: 'one', clean: false })
  await before.subscribe('a', 1)
  await close(first)
  const store = openGate()
  store.shut()
  const second = new Broker({ persistence: gated(store.gate, persistence) })
  t.teardown(() => close(second))
  const opening = second.listen()
  const peer = new Peer(second)
  const connack = peer.connect({ clientId: 'one', clean: false })
  await new Promise(resolve => setImmediate(resolve))
  t.same(peer.packets, [])
  store.open()
  await opening
  t.equal((await connack).sessionPresent, true)
})

t.test('publish calls back with an error when the broker is closed, and while it closes with an answer at least', async t => {
  const broker = await Broker.createBroker()
  const answers: (string | undefined)[] = []
  const ask = () => broker.publish(message('a', 'x', { qos: 1 }), error => answers.push(error?.message))
  await join(broker, { clientId: 'one' })
  broker.on('clientDisconnect', ask)
  const closing = close(broker)
  ask()
  await closing
  t.same(answers, [undefined, undefined], 'while it closes what is published goes where it can')
  for (const qos of [0, 1, 2] as const) {
    await t.rejects(publish(broker, message('a', 'x', { qos })), { message: 'the broker is closed' })
  }
  const errors = errorsOf(broker)
  Reflect.apply(broker.publish, broker, [message('a', 'x')])
  t.same(errors, [], 'whoever gave no callback did not want to know')
})

t.test('publish that waits for a store which is in trouble is told at the end', async t => {
  let isInTrouble = false
  let failures = 0
  const persistence = gated(() => {
    if (!isInTrouble) return
    failures++
    throw new Error('no store')
  })
  const broker = await Broker.createBroker({ persistence })
  const reader = await join(broker, { clientId: 'reader', clean: false })
  await reader.subscribe('a', 1)
  isInTrouble = true
  const waiting = t.rejects(publish(broker, message('a', 'x', { qos: 1 })), { message: 'the broker is closed' })
  const asked = new Promise(resolve => reader.client.publish(message('b', 'x', { qos: 1 }), resolve))
  await until(() => failures > 0, 'the store')
  await close(broker)
  await waiting
  t.match(await asked, { message: 'client is closed' })
})
