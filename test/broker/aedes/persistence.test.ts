// A `persistence` of the embedder: what outlives the broker lies there.

import { createRequire } from 'node:module'
import { setTimeout as pause } from 'node:timers/promises'
import t from 'tap'
import { Broker } from '../../../dist/index.js'
import { close, createBroker, join, joinWith, message, publish, received } from '../../helpers/embedded.js'
import { until } from '../../helpers/mqtt.js'

// What is used of it here: its own types describe an ES module with other arguments.
interface MemoryPersistence {
  setup(broker: unknown): Promise<void>
  outgoingEnqueue(subscription: unknown, packet: unknown): Promise<void>
}

const memory: () => MemoryPersistence = createRequire(import.meta.url)('aedes-persistence')

t.test('sessions with their messages and retained messages are there for the next broker', async t => {
  const persistence = memory()
  const first = await Broker.createBroker({ persistence })
  const reader = await join(first, { clientId: 'reader', clean: false })
  await reader.subscribe('a/+', 1)
  reader.destroy()
  await until(() => reader.client.closed, 'the end of the reader')
  const writer = await join(first, { clientId: 'writer' })
  for (const [messageId, payload] of [
    [1, 'one'],
    [2, 'two'],
    [3, 'three']
  ] as const) {
    writer.publish('a/b', payload, { qos: 1, messageId })
    await writer.next('puback')
  }
  writer.publish('kept', 'retained', { qos: 1, messageId: 4, retain: true })
  await writer.next('puback')
  await close(first)

  const second = await createBroker(t, { persistence })
  const { peer, connack } = await joinWith(second, { clientId: 'reader', clean: false })
  t.equal(connack.sessionPresent, true)
  t.same(
    (await peer.messages()).map(({ topic, payload, qos }) => [topic, String(payload), qos]),
    [
      ['a/b', 'one', 1],
      ['a/b', 'two', 1],
      ['a/b', 'three', 1]
    ]
  )
  await publish(second, message('a/c', 'live'))
  t.equal(await received(peer), 'a/c live', 'its subscription is in force')
  const other = await join(second, { clientId: 'other' })
  await other.subscribe('+')
  t.match(await other.next('publish'), { topic: 'kept', payload: Buffer.from('retained'), retain: true })
})

t.test('topics deeper than its routing takes block nobody and outlive the broker', async t => {
  const persistence = memory()
  const first = await Broker.createBroker({ persistence })
  const topic = 'a'.padEnd(401, '/a')
  const all = await join(first, { clientId: 'all', clean: false })
  await all.subscribe('#', 1)
  const deep = await join(first, { clientId: 'deep', clean: false })
  await deep.subscribe(topic, 1)
  deep.destroy()
  all.destroy()
  await until(() => deep.client.closed && all.client.closed, 'the end of the readers')
  const writer = await join(first, { clientId: 'writer' })
  writer.publish(topic, 'one', { qos: 1, messageId: 1, retain: true })
  await writer.next('puback')
  await close(first)

  const second = await createBroker(t, { persistence })
  const stranger = await join(second, { clientId: 'writer' })
  stranger.publish(topic, 'two', { qos: 1, messageId: 1 })
  await stranger.next('puback')
  for (const [clientId, expected] of [
    ['deep', ['one']],
    ['all', ['one', 'two']]
  ] as const) {
    const { peer, connack } = await joinWith(second, { clientId, clean: false })
    t.equal(connack.sessionPresent, true)
    t.same(
      (await peer.messages()).map(({ payload }) => String(payload)),
      expected
    )
    await publish(second, message(topic, 'live'))
    t.equal(await received(peer), `${topic} live`, 'its subscription is in force')
  }
  await stranger.subscribe(topic)
  t.match(await stranger.next('publish'), { topic, payload: Buffer.from('one'), retain: true })
})

t.test('what was acknowledged is gone from it', async t => {
  const persistence = memory()
  const first = await Broker.createBroker({ persistence })
  const reader = await join(first, { clientId: 'reader', clean: false })
  await reader.subscribe('a', 1)
  for (const payload of ['one', 'two']) await publish(first, message('a', payload, { qos: 1 }))
  await reader.next('publish')
  reader.send({ cmd: 'puback', messageId: 1 })
  await reader.messages()
  await close(first)

  const second = await createBroker(t, { persistence })
  const again = await join(second, { clientId: 'reader', clean: false })
  t.same(
    (await again.messages()).map(({ payload }) => String(payload)),
    ['two']
  )
})

t.test('a clean session takes the stored one away', async t => {
  const persistence = memory()
  const broker = await createBroker(t, { persistence })
  const first = await join(broker, { clientId: 'one', clean: false })
  await first.subscribe('a', 1)
  first.destroy()
  await until(() => first.client.closed, 'the end of the client')
  await publish(broker, message('a', 'x', { qos: 1 }))
  const second = await join(broker, { clientId: 'one', clean: true })
  t.same(await second.messages(), [])
  second.destroy()
  await until(() => second.client.closed, 'the end of the client')
  const { peer, connack } = await joinWith(broker, { clientId: 'one', clean: false })
  t.equal(connack.sessionPresent, false)
  t.same(await peer.messages(), [])
})

t.test('a persistence is set up with the broker before anything else is asked of it', async t => {
  const persistence = memory()
  const setup = persistence.setup.bind(persistence)
  const given: unknown[] = []
  persistence.setup = async broker => {
    given.push(broker)
    await setup(broker)
  }
  const broker = await createBroker(t, { persistence })
  t.equal(given.length, 1)
  t.ok(given[0] === broker)
})

t.test('a persistence whose setup is no async function is refused, as by aedes', async t => {
  const persistence = { setup: () => {} }
  await t.rejects(Broker.createBroker({ persistence }), { message: 'persistence.setup() must be an async function' })
})

t.test('a persistence that fails to set up fails the start', async t => {
  const persistence = {
    setup: async () => {
      throw new Error('no database')
    }
  }
  await t.rejects(Broker.createBroker({ persistence }), { message: 'no database' })
})

t.test('close ends the tries of a persistence in trouble', async t => {
  const persistence = memory()
  let tries = 0
  const broker = await Broker.createBroker({ persistence })
  const reader = await join(broker, { clientId: 'reader', clean: false })
  await reader.subscribe('a', 1)
  persistence.outgoingEnqueue = async () => {
    tries += 1
    throw new Error('no room')
  }
  const writer = await join(broker, { clientId: 'writer' })
  writer.publish('a', 'x', { qos: 1, messageId: 1 })
  await until(() => tries > 1, 'a second try')
  await close(broker)
  const before = tries
  // The pauses are of tenths of a second yet.
  await pause(1000)
  t.equal(tries, before)
  t.same(writer.packets, [], 'nothing was acknowledged')
})

t.test('a QoS 1 message is acknowledged when the persistence has it', async t => {
  const persistence = memory()
  const steps: string[] = []
  const enqueue = persistence.outgoingEnqueue.bind(persistence)
  let release = () => {}
  const held = new Promise<void>(resolve => {
    release = resolve
  })
  persistence.outgoingEnqueue = async (subscription, packet) => {
    steps.push('asked')
    await held
    await enqueue(subscription, packet)
    steps.push('stored')
  }
  const broker = await createBroker(t, { persistence })
  const reader = await join(broker, { clientId: 'reader', clean: false })
  await reader.subscribe('a', 1)
  reader.destroy()
  await until(() => reader.client.closed, 'the end of the reader')
  const writer = await join(broker, { clientId: 'writer' })
  const other = await join(broker, { clientId: 'other' })
  writer.publish('a', 'x', { qos: 1, messageId: 1 })
  await until(() => steps.length > 0, 'the message at the persistence')
  await other.ping()
  t.same(writer.packets, [], 'other clients go on, and there is no PUBACK')
  release()
  await writer.next('puback')
  t.same(steps, ['asked', 'stored'])
})
