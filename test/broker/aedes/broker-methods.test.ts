// broker.publish, broker.subscribe and broker.unsubscribe, and the notices of the broker itself.

import { once } from 'node:events'
import type { AedesPublishPacket } from 'aedes'
import t from 'tap'
import { Broker } from '../../../dist/index.js'
import { close, createBroker, errorsOf, join, listen, message, publish, received } from '../../helpers/embedded.js'
import { until } from '../../helpers/mqtt.js'

t.test('publish reaches clients with the lower of both QoS, and bypasses authorizePublish', async t => {
  const broker = await createBroker(t, { authorizePublish: (_client, _packet, done) => done(new Error('no')) })
  const peer = await join(broker, { clientId: 'one' })
  await peer.subscribe('a', 1)
  for (const qos of [0, 1, 2] as const) await publish(broker, message('a', String(qos), { qos }))
  const got = await peer.messages()
  t.same(
    got.map(({ payload, qos, messageId }) => [String(payload), qos, messageId]),
    [
      ['0', 0, undefined],
      ['1', 1, 1],
      ['2', 1, 2]
    ]
  )
})

t.test('publish with retain is kept, and an empty one takes it back', async t => {
  const broker = await createBroker(t)
  await publish(broker, message('a', 'kept', { retain: true }))
  const peer = await join(broker, { clientId: 'one' })
  await peer.subscribe('a')
  t.match(await peer.next('publish'), { payload: Buffer.from('kept'), retain: true })
  await publish(broker, message('a', '', { retain: true }))
  t.match(await peer.next('publish'), { payload: Buffer.alloc(0), retain: false })
  await peer.subscribe('a')
  t.same(await peer.messages(), [])
})

t.test('publish takes a payload as text and the least that makes a message, as JavaScript programs give it', async t => {
  const broker = await createBroker(t)
  const peer = await join(broker, { clientId: 'one' })
  await peer.subscribe('#')
  const bare: object = { topic: 'a', payload: 'text' }
  await new Promise<void>(resolve => Reflect.apply(broker.publish, broker, [bare, () => resolve()]))
  Reflect.apply(broker.publish, broker, [{ topic: 'b' }])
  t.equal(await received(peer), 'a text')
  t.equal(await received(peer), 'b ')
})

t.test('publish without receivers calls back without an error', async t => {
  const broker = await createBroker(t)
  for (const qos of [0, 1, 2] as const) await publish(broker, message('nobody', 'x', { qos }))
  t.pass()
})

t.test('the object that was published may be used again: nobody sees the change', async t => {
  const broker = await createBroker(t)
  const peer = await join(broker, { clientId: 'one' })
  await peer.subscribe('#')
  const packet = message('a', '1')
  broker.publish(packet, () => {})
  packet.topic = 'b'
  packet.payload = Buffer.from('2')
  await publish(broker, packet)
  t.equal(await received(peer), 'a 1')
  t.equal(await received(peer), 'b 2')
})

t.test('subscribe gets packets as aedes makes them: whose, and by which broker in which order', async t => {
  const broker = await createBroker(t, { id: 'me' })
  const seen: AedesPublishPacket[] = []
  await new Promise<void>(resolve =>
    broker.subscribe(
      'a/+',
      (packet, done) => {
        seen.push(packet)
        done()
      },
      resolve
    )
  )
  const peer = await join(broker, { clientId: 'one', protocolVersion: 5 })
  peer.publish('a/b', 'x', { qos: 1, messageId: 77, retain: true, properties: { contentType: 'text' } })
  await peer.next('puback')
  await publish(broker, message('a/c', 'y'))
  t.match(seen, [
    {
      cmd: 'publish',
      topic: 'a/b',
      payload: Buffer.from('x'),
      qos: 1,
      retain: true,
      clientId: 'one',
      brokerId: 'me',
      properties: { contentType: 'text' }
    },
    { cmd: 'publish', topic: 'a/c', payload: Buffer.from('y'), qos: 0, retain: false, brokerId: 'me' }
  ])
  const [first, second] = seen
  t.ok((first?.brokerCounter ?? 0) < (second?.brokerCounter ?? 0))
})

t.test('subscribe bypasses authorizeSubscribe and authorizeForward, and gets no retained messages', async t => {
  const broker = await createBroker(t, {
    authorizeSubscribe: (_client, _subscription, done) => done(null, null),
    authorizeForward: () => null
  })
  await publish(broker, message('a', 'kept', { retain: true }))
  const seen = await listen(broker, '#')
  await publish(broker, message('a', 'live'))
  t.same(
    seen.filter(line => line.startsWith('a')),
    ['a live']
  )
})

t.test('topic and function together name a subscription: the same function on two filters is called for each', async t => {
  const broker = await createBroker(t)
  const seen: string[] = []
  const deliver = ({ topic }: AedesPublishPacket, done: () => void) => {
    seen.push(topic)
    done()
  }
  await new Promise<void>(resolve => broker.subscribe('a/#', deliver, resolve))
  await new Promise<void>(resolve => broker.subscribe('a/+', deliver, resolve))
  await publish(broker, message('a/b', 'x'))
  t.same(seen, ['a/b', 'a/b'])
  await new Promise<void>(resolve => broker.unsubscribe('a/+', deliver, resolve))
  await publish(broker, message('a/c', 'x'))
  t.same(seen, ['a/b', 'a/b', 'a/c'])
  await new Promise<void>(resolve => broker.unsubscribe('a/#', () => {}, resolve))
  await publish(broker, message('a/d', 'x'))
  t.same(seen.at(-1), 'a/d', 'another function is another subscription')
  await new Promise<void>(resolve => broker.unsubscribe('a/#', deliver, resolve))
  await publish(broker, message('a/e', 'x'))
  t.same(seen.at(-1), 'a/d')
})

t.test('subscribe and unsubscribe need no callback', async t => {
  const broker = await createBroker(t)
  const seen: string[] = []
  const deliver = ({ topic }: AedesPublishPacket, done: () => void) => {
    seen.push(topic)
    done()
  }
  Reflect.apply(broker.subscribe, broker, ['a', deliver])
  await publish(broker, message('a', 'x'))
  t.same(seen, ['a'])
  Reflect.apply(broker.unsubscribe, broker, ['a', deliver])
  await new Promise(resolve => setImmediate(resolve))
  await publish(broker, message('a', 'x'))
  t.same(seen, ['a'])
})

t.test('publish calls back when every deliver function has, so that a slow one slows its publisher', async t => {
  const broker = await createBroker(t)
  const order: string[] = []
  broker.subscribe(
    'a',
    (_packet, done) => {
      setImmediate(() => {
        order.push('delivered')
        done()
      })
    },
    () => {}
  )
  await publish(broker, message('a', 'x'))
  order.push('called back')
  t.same(order, ['delivered', 'called back'])
})

t.test("the broker's notices are for broker.subscribe", async t => {
  const broker = new Broker({ id: 'me' })
  t.teardown(() => close(broker))
  const seen: string[] = []
  broker.subscribe(
    '$SYS/me/#',
    ({ topic, payload }, done) => {
      seen.push(`${topic} ${payload}`)
      done()
    },
    () => {}
  )
  await broker.listen()
  await until(() => seen.length === 1, 'the birth')
  const peer = await join(broker, { clientId: 'one' })
  await peer.subscribe('a', 1)
  peer.send({ cmd: 'unsubscribe', messageId: 2, unsubscriptions: ['a'] })
  await peer.next('unsuback')
  peer.send({ cmd: 'disconnect' })
  await until(() => seen.some(line => line.includes('/disconnect/')), 'the end')
  t.same(
    seen.map(line => line.split(' ')[0]),
    ['$SYS/me/birth', '$SYS/me/new/clients', '$SYS/me/new/subscribes', '$SYS/me/new/unsubscribes', '$SYS/me/disconnect/clients']
  )
  t.equal(seen[0], '$SYS/me/birth me')
  t.equal(seen[1], '$SYS/me/new/clients one')
  const parse = (line = ''): unknown => JSON.parse(line.slice(line.indexOf(' ')))
  t.match(parse(seen[2]), { clientId: 'one', subs: [{ topic: 'a', qos: 1 }] })
  t.same(parse(seen[3]), { clientId: 'one', subs: ['a'] })
})

t.test('no connection is told of them, whatever it subscribes to', async t => {
  const broker = await createBroker(t, { id: 'me', heartbeatInterval: 5 })
  const beats = await listen(broker, '$SYS/me/heartbeat')
  const peer = await join(broker, { clientId: 'nosy' })
  for (const filter of ['#', '+/#', '$SYS/#', '$SYS/me/#', '$SYS/+/heartbeat', '$SYS/me/new/clients', '$SYS/me/heartbeat']) {
    await peer.subscribe(filter, 1)
  }
  const other = await join(broker, { clientId: 'other' })
  await other.subscribe('a')
  other.destroy()
  const before = beats.length
  await until(() => beats.length > before + 1, 'two heartbeats')
  t.same(await peer.messages(), [])
})

t.test("what an embedder publishes below the broker's own $SYS reaches who subscribed, by their names only", async t => {
  const broker = await createBroker(t, { id: 'me' })
  const peer = await join(broker, { clientId: 'one' })
  const heard = await listen(broker, '$SYS/me/#')
  for (const filter of ['$SYS/me/#', '#', '+/me/mine']) await peer.subscribe(filter)
  for (const [topic, qos] of [
    ['$SYS/me/mine', 0],
    ['$SYS/me/new', 1],
    ['$SYS/me/new/clients/here', 0]
  ] as const) {
    await publish(broker, message(topic, 'x', { qos, retain: true }))
  }
  for (const notice of ['heartbeat', 'birth', 'new/clients', 'disconnect/clients', 'new/subscribes', 'new/unsubscribes']) {
    await publish(broker, message(`$SYS/me/${notice}`, 'x', { retain: true }))
  }
  await publish(broker, message('$SYS/sub/add', 'x'))
  const own = ['$SYS/me/mine', '$SYS/me/new', '$SYS/me/new/clients/here']
  t.same(
    (await peer.messages()).map(({ topic }) => topic),
    own
  )
  t.equal(heard.filter(line => line.endsWith(' x')).length, 9, 'broker.subscribe hears all of them')
  const later = await join(broker, { clientId: 'later' })
  await later.subscribe('$SYS/me/#')
  t.same((await later.messages()).map(({ topic }) => topic).sort(), own)
})

const chains: readonly [name: string, start: (broker: Broker, next: () => void) => void][] = [
  [
    'functions given to broker.subscribe',
    (broker, next) =>
      broker.subscribe(
        'chain/+',
        (_packet, done) => {
          next()
          done()
        },
        () => {}
      )
  ],
  ['the event publish', (broker, next) => broker.on('publish', ({ topic }) => topic.startsWith('chain/') && next())],
  [
    'the hook published',
    (broker, next) => {
      broker.published = ({ topic }, _client, done) => {
        if (topic.startsWith('chain/')) next()
        done()
      }
    }
  ]
]
for (const [name, start] of chains) {
  t.test(`a chain of publishes from within ${name} is as long as it likes, in order, and holds up nobody`, async t => {
    const broker = await createBroker(t)
    const errors = errorsOf(broker)
    const length = 20_000
    let count = 0
    let finished = 0
    const next = () => {
      if (count < length) broker.publish(message(`chain/${count++}`, 'x'), () => finished++)
    }
    start(broker, next)
    const peer = await join(broker, { clientId: 'one' })
    const other = await join(broker, { clientId: 'two' })
    await peer.subscribe('chain/+')
    next()
    await other.ping()
    t.ok(count < length, 'it takes several turns')
    await until(() => finished === length, 'the end of the chain')
    t.same(errors, [])
    const { topic } = (await peer.messages()).at(-1) ?? { topic: undefined }
    t.equal(topic, `chain/${length - 1}`)
  })
}

t.test('what a listener publishes is told when all have heard what it listened to', async t => {
  const broker = await createBroker(t)
  const order: string[] = []
  broker.subscribe(
    '+',
    ({ topic }, done) => {
      order.push(`first ${topic}`)
      if (topic === 'a') broker.publish(message('b', 'x'), () => {})
      done()
    },
    () => {}
  )
  broker.subscribe(
    '+',
    ({ topic }, done) => {
      order.push(`second ${topic}`)
      done()
    },
    () => {}
  )
  broker.on('publish', ({ topic }) => topic.length === 1 && order.push(`event ${topic}`))
  await publish(broker, message('a', 'x'))
  await until(() => order.length === 6, 'both messages')
  t.same(order, ['first a', 'second a', 'event a', 'first b', 'second b', 'event b'])
})

t.test('broker.publish in the name of a client is told of with that client', async t => {
  const broker = await createBroker(t)
  const { client } = await join(broker, { clientId: 'one' })
  const published = once(broker, 'publish')
  broker.publish(message('a', 'x'), client, () => {})
  const [packet, publisher] = await published
  t.equal(packet.clientId, 'one')
  t.ok(publisher === client)
})
