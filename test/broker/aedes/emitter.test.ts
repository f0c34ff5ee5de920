// An `mq` of the embedder: brokers that share one are told of each other's messages.

import type { AedesOptions } from 'aedes'
import mqemitter from 'mqemitter'
import type { Test } from 'tap'
import t from 'tap'
import type { Broker } from '../../../dist/index.js'
import { createBroker, errorsOf, join, listen, message, publish, received } from '../../helpers/embedded.js'
import { until } from '../../helpers/mqtt.js'

type Emitted = mqemitter.Message

/** Another broker on the same emitter, as far as ours can see one. */
interface Neighbour {
  readonly heard: Emitted[]
  say(packet: Emitted): Promise<void>
}

async function neighbourhood(
  t: Pick<Test, 'teardown'>,
  options: AedesOptions = {}
): Promise<{ broker: Broker; mq: mqemitter.MQEmitter; neighbour: Neighbour }> {
  const mq = mqemitter()
  const heard: Emitted[] = []
  await new Promise<void>(resolve =>
    mq.on(
      '#',
      (packet, done) => {
        heard.push(packet)
        done()
      },
      resolve
    )
  )
  const broker = await createBroker(t, { id: 'ours', ...options, mq })
  let counter = 0
  const say = (packet: Emitted) =>
    new Promise<void>((resolve, reject) => {
      counter += 1
      const whole = {
        cmd: 'publish',
        payload: Buffer.alloc(0),
        qos: 0,
        retain: false,
        dup: false,
        brokerId: 'theirs',
        brokerCounter: counter,
        ...packet
      }
      mq.emit(whole, error => (error ? reject(error) : resolve()))
    })
  return { broker, mq, neighbour: { heard, say } }
}

t.test('every message of ours is emitted, with our id, a counter and who published it', async t => {
  const { broker, neighbour } = await neighbourhood(t)
  const peer = await join(broker, { clientId: 'one', protocolVersion: 5 })
  neighbour.heard.length = 0
  peer.publish('a', '0', { properties: { contentType: 'text' } })
  peer.publish('a', '1', { qos: 1, messageId: 1, retain: true })
  await peer.next('puback')
  peer.publish('a', '2', { qos: 2, messageId: 2 })
  await peer.next('pubrec')
  t.equal(neighbour.heard.length, 2, 'QoS 2 comes with PUBREL')
  peer.send({ cmd: 'pubrel', messageId: 2 })
  await peer.next('pubcomp')
  await publish(broker, message('a', '3'))
  t.match(neighbour.heard, [
    {
      cmd: 'publish',
      topic: 'a',
      payload: Buffer.from('0'),
      qos: 0,
      retain: false,
      brokerId: 'ours',
      clientId: 'one',
      properties: { contentType: 'text' }
    },
    { cmd: 'publish', topic: 'a', payload: Buffer.from('1'), qos: 1, retain: true, brokerId: 'ours', clientId: 'one' },
    { cmd: 'publish', topic: 'a', payload: Buffer.from('2'), qos: 2, retain: false, brokerId: 'ours', clientId: 'one' },
    { cmd: 'publish', topic: 'a', payload: Buffer.from('3'), qos: 0, retain: false, brokerId: 'ours' }
  ])
  const counters = neighbour.heard.map(({ brokerCounter }) => Number(brokerCounter))
  t.same(
    counters,
    [...counters].sort((a, b) => a - b)
  )
  t.equal(new Set(counters).size, 4)
})

t.test('what was refused is not emitted', async t => {
  const { broker, neighbour } = await neighbourhood(t, { authorizePublish: (_client, _packet, done) => done(new Error('no')) })
  const peer = await join(broker, { clientId: 'one' })
  peer.publish('a', 'x', { qos: 1, messageId: 1 })
  await peer.next('puback')
  t.same(
    neighbour.heard.filter(({ topic }) => topic === 'a'),
    []
  )
})

t.test('a message of another broker reaches our clients and broker.subscribe, each once', async t => {
  const { broker, neighbour } = await neighbourhood(t)
  const seen = await listen(broker, 'a/+')
  const peer = await join(broker, { clientId: 'one' })
  await peer.subscribe('a/#', 1)
  await neighbour.say({ topic: 'a/0', payload: Buffer.from('x') })
  await neighbour.say({ topic: 'a/1', payload: Buffer.from('x'), qos: 1, retain: true })
  t.match(await peer.next('publish'), { topic: 'a/0', qos: 0 })
  t.match(await peer.next('publish'), { topic: 'a/1', qos: 1, messageId: 1, retain: false })
  t.same(await peer.messages(), [])
  t.same(seen, ['a/0 x', 'a/1 x'])
})

t.test('what a program without a broker emits reaches our clients too, but not as a notice of ours', async t => {
  const { broker, mq } = await neighbourhood(t)
  const peer = await join(broker, { clientId: 'one' })
  for (const filter of ['#', '$SYS/#']) await peer.subscribe(filter, 1)
  const emit = (packet: Emitted) => new Promise(resolve => mq.emit(packet, resolve))
  await emit({ topic: 'a', payload: 'text', qos: 1 })
  await emit({ topic: '$SYS/ours/new/clients', payload: 'two' })
  await emit({ topic: 'b' })
  t.same(
    (await peer.messages()).map(({ topic, payload, qos }) => [topic, String(payload), qos]),
    [
      ['a', 'text', 1],
      ['b', '', 0]
    ]
  )
})

t.test('our own message does not come back to us', async t => {
  const { broker } = await neighbourhood(t)
  const peer = await join(broker, { clientId: 'one' })
  await peer.subscribe('a', 1)
  peer.publish('a', 'x', { qos: 1, messageId: 1 })
  t.equal(await received(peer), 'a x')
  await peer.next('puback')
  t.same(await peer.messages(), [])
})

t.test('No Local counts for a client of another broker that has the same name', async t => {
  const { broker, neighbour } = await neighbourhood(t)
  const peer = await join(broker, { clientId: 'one', protocolVersion: 5 })
  peer.send({ cmd: 'subscribe', messageId: 1, subscriptions: [{ topic: 'a', qos: 0, nl: true, rap: false, rh: 0 }] })
  await peer.next('suback')
  await neighbour.say({ topic: 'a', payload: Buffer.from('own'), clientId: 'one' })
  await neighbour.say({ topic: 'a', payload: Buffer.from('other'), clientId: 'two' })
  t.equal(await received(peer), 'a other')
})

t.test('authorizeForward is asked for messages of other brokers', async t => {
  const { broker, neighbour } = await neighbourhood(t, { authorizeForward: (_client, packet) => (packet.topic === 'no' ? null : packet) })
  const peer = await join(broker, { clientId: 'one' })
  await peer.subscribe('+')
  await neighbour.say({ topic: 'no', payload: Buffer.from('x') })
  await neighbour.say({ topic: 'yes', payload: Buffer.from('x') })
  t.equal(await received(peer), 'yes x')
})

t.test('an emitter that never answers holds up no delivery of ours', async t => {
  const { broker, mq } = await neighbourhood(t)
  const emitted: unknown[] = []
  Reflect.set(mq, 'emit', (packet: Emitted) => emitted.push(packet.topic))
  const [reader, writer] = [await join(broker, { clientId: 'reader', clean: false }), await join(broker, { clientId: 'writer' })]
  await reader.subscribe('a', 2)
  for (const qos of [0, 1, 2] as const) {
    writer.publish('a', String(qos), { qos, messageId: 7 })
    if (qos === 1) await writer.next('puback')
    if (qos === 2) await writer.next('pubrec')
    if (qos === 2) writer.send({ cmd: 'pubrel', messageId: 7 })
    if (qos === 2) await writer.next('pubcomp')
    t.equal(await received(reader), `a ${qos}`)
  }
  t.equal(emitted.filter(topic => topic === 'a').length, 3)
})

t.test('a topic deeper than the emitter takes is delivered here, and the error tells that others do not have it', async t => {
  const { broker } = await neighbourhood(t)
  const errors: string[] = []
  Reflect.apply(broker.on, broker, ['error', (error: Error) => errors.push(error.message)])
  const [reader, writer] = [await join(broker, { clientId: 'reader' }), await join(broker, { clientId: 'writer' })]
  await reader.subscribe('#', 2)
  const deep = `a${'/a'.repeat(150)}`
  for (const [i, qos] of ([0, 1, 2] as const).entries()) {
    writer.publish(deep, String(qos), { qos, messageId: 7 })
    if (qos === 1) await writer.next('puback')
    if (qos === 2) await writer.next('pubrec')
    if (qos === 2) writer.send({ cmd: 'pubrel', messageId: 7 })
    if (qos === 2) await writer.next('pubcomp')
    t.equal(await received(reader), `${deep} ${qos}`)
    t.equal(errors.length, i + 1)
  }
  await publish(broker, message(deep, 'broker'))
  t.equal(await received(reader), `${deep} broker`)
  await writer.ping()
})

t.test('a client that connects to another broker is closed here', async t => {
  const { broker, neighbour } = await neighbourhood(t)
  const peer = await join(broker, { clientId: 'one' })
  const other = await join(broker, { clientId: 'other' })
  await neighbour.say({ topic: '$SYS/theirs/new/clients', payload: Buffer.from('one') })
  await peer.closed()
  await until(() => broker.connectedClients === 1, 'one client')
  await other.ping()
})

t.test('no name that another broker tells is one of the language', async t => {
  const { broker, neighbour } = await neighbourhood(t)
  const names = ['constructor', '__proto__', 'toString', 'hasOwnProperty']
  for (const name of names) await neighbour.say({ topic: '$SYS/theirs/new/clients', payload: Buffer.from(name) })
  const peers = await Promise.all(names.map(clientId => join(broker, { clientId })))
  t.same(Object.keys(broker.clients).sort(), [...names].sort())
  for (const name of names) await neighbour.say({ topic: '$SYS/theirs/new/clients', payload: Buffer.from(name) })
  for (const peer of peers) await peer.closed()
  await until(() => broker.connectedClients === 0, 'the end of all')
  t.same(Object.keys(broker.clients), [])
})

t.test('other brokers are known by their heartbeat, and their birth harms nobody', async t => {
  const { broker, neighbour } = await neighbourhood(t)
  const peer = await join(broker, { clientId: 'one' })
  await neighbour.say({ topic: '$SYS/theirs/birth', payload: Buffer.from('theirs') })
  await neighbour.say({ topic: '$SYS/theirs/heartbeat', payload: Buffer.from('theirs') })
  await until(() => 'theirs' in broker.brokers, 'the neighbour')
  await peer.subscribe('#')
  await peer.ping()
})

t.test('notices of another broker are for broker.subscribe, not for connections', async t => {
  const { broker, neighbour } = await neighbourhood(t)
  const seen = await listen(broker, '$SYS/theirs/+')
  const peer = await join(broker, { clientId: 'one' })
  for (const filter of ['#', '$SYS/#', '$SYS/theirs/heartbeat']) await peer.subscribe(filter)
  await neighbour.say({ topic: '$SYS/theirs/heartbeat', payload: Buffer.from('theirs') })
  t.same(seen, ['$SYS/theirs/heartbeat theirs'])
  t.same(await peer.messages(), [])
})

t.test('two brokers on one emitter: a message reaches the clients of both once', async t => {
  const mq = mqemitter()
  const [one, two] = [await createBroker(t, { mq }), await createBroker(t, { mq })]
  const [a, b] = [await join(one, { clientId: 'a' }), await join(two, { clientId: 'b' })]
  await a.subscribe('n', 1)
  await b.subscribe('n', 1)
  for (let i = 0; i < 20; i++) await publish(i % 2 === 0 ? one : two, message('n', String(i), { qos: 1 }))
  const expected = Array.from({ length: 20 }, (_, i) => String(i))
  for (const peer of [a, b]) {
    t.same(
      (await peer.messages()).map(({ payload }) => String(payload)),
      expected
    )
  }
})

t.test('an emitter that another broker has closed is told of with a message, not with each notice', async t => {
  const { broker, mq } = await neighbourhood(t)
  const errors = errorsOf(broker)
  const peer = await join(broker, { clientId: 'one' })
  await peer.subscribe('a')
  await new Promise<void>(resolve => mq.close(resolve))
  peer.publish('a', 'x')
  t.equal(await received(peer), 'a x')
  peer.destroy()
  await until(() => peer.client.closed, 'the end of the client')
  await new Promise(resolve => setImmediate(resolve))
  t.same(
    errors.map(error => error.message),
    ['mqemitter is closed']
  )
})
