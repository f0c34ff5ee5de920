// authorizeSubscribe, as an option and assigned later.

import { createRequire } from 'node:module'
import type { AedesOptions, Subscription } from 'aedes'
import t from 'tap'
import { createBroker, gate, join, message, publish, received } from '../../helpers/embedded.js'
import { until } from '../../helpers/mqtt.js'

const memoryPersistence: () => NonNullable<AedesOptions['persistence']> = createRequire(import.meta.url)('aedes-persistence')

type AuthorizeSubscribe = NonNullable<AedesOptions['authorizeSubscribe']>

const plain = { nl: false, rap: false, rh: 0 } as const

t.test('authorizeSubscribe gets every filter of a SUBSCRIBE with its options, in order', async t => {
  const seen: [string, Subscription][] = []
  const broker = await createBroker(t, {
    authorizeSubscribe: (client, subscription, done) => {
      seen.push([client.id, { ...subscription }])
      done(null, subscription)
    }
  })
  const peer = await join(broker, { clientId: 'one', protocolVersion: 5 })
  peer.send({
    cmd: 'subscribe',
    messageId: 5,
    subscriptions: [
      { topic: 'a/#', qos: 1, nl: true, rap: true, rh: 2 },
      { topic: 'b', qos: 0, ...plain }
    ]
  })
  t.same((await peer.next('suback')).granted, [1, 0])
  t.match(seen, [
    ['one', { topic: 'a/#', qos: 1, nl: true, rap: true, rh: 2 }],
    ['one', { topic: 'b', qos: 0, ...plain }]
  ])
})

t.test('authorizeSubscribe is asked side by side, also for a session that comes back; the answers stay in order', async t => {
  const waiting: (() => void)[] = []
  const broker = await createBroker(t, {
    authorizeSubscribe: (_client, subscription, done) => {
      waiting.push(() => done(null, subscription.topic === 'b' ? null : subscription))
      if (waiting.length < 3) return
      for (const answer of waiting.splice(0).reverse()) answer()
    }
  })
  const peer = await join(broker, { clientId: 'one', clean: false })
  const subscriptions = ['a', 'b', 'c'].map(topic => ({ topic, qos: 1 as const, ...plain }))
  peer.send({ cmd: 'subscribe', messageId: 1, subscriptions })
  t.same((await peer.next('suback')).granted, [1, 0x80, 1])
  peer.send({ cmd: 'subscribe', messageId: 2, subscriptions: ['d', 'b', 'c'].map(topic => ({ topic, qos: 1 as const, ...plain })) })
  t.same((await peer.next('suback')).granted, [1, 0x80, 1])
  peer.destroy()
  await until(() => peer.client.closed, 'the end')
  const again = await join(broker, { clientId: 'one', clean: false })
  await publish(broker, message('d', 'x'))
  t.equal(await received(again), 'd x')
})

for (const how of ['as an option', 'assigned']) {
  t.test(`authorizeSubscribe, ${how}: null refuses one filter, the others are granted, the connection stays`, async t => {
    const hook: AuthorizeSubscribe = (_client, subscription, done) => done(null, subscription.topic === 'no' ? null : subscription)
    const broker = await createBroker(t, how === 'as an option' ? { authorizeSubscribe: hook } : {})
    if (how === 'assigned') broker.authorizeSubscribe = hook
    for (const [protocolVersion, refused] of [
      [4, 0x80],
      [5, 0x87]
    ] as const) {
      const peer = await join(broker, { clientId: 'one', protocolVersion })
      peer.send({
        cmd: 'subscribe',
        messageId: 1,
        subscriptions: [
          { topic: 'yes', qos: 1, ...plain },
          { topic: 'no', qos: 1, ...plain },
          { topic: 'also', qos: 2, ...plain }
        ]
      })
      t.same((await peer.next('suback')).granted, [1, refused, 2])
      await publish(broker, message('no', 'x'))
      await publish(broker, message('yes', 'x'))
      t.equal(await received(peer), 'yes x')
    }
  })
}

t.test('a filter that was refused is in no session, here or on the next broker', async t => {
  const persistence = memoryPersistence()
  const refuse: AuthorizeSubscribe = (_client, subscription, done) => done(null, subscription.topic === 'no' ? null : subscription)
  const first = await createBroker(t, { persistence, authorizeSubscribe: refuse })
  const peer = await join(first, { clientId: 'one', clean: false })
  const subscriptions = ['yes', 'no'].map(topic => ({ topic, qos: 1 as const, ...plain }))
  peer.send({ cmd: 'subscribe', messageId: 1, subscriptions })
  t.same((await peer.next('suback')).granted, [1, 0x80])
  peer.destroy()
  await until(() => peer.client.closed, 'the end')
  const second = await createBroker(t, { persistence })
  for (const broker of [first, second]) {
    for (const topic of ['no', 'yes']) await publish(broker, message(topic, 'x', { qos: 1 }))
    const again = await join(broker, { clientId: 'one', clean: false })
    for (const topic of ['no', 'yes']) await publish(broker, message(topic, 'y', { qos: 1 }))
    const seen: string[] = []
    for (let i = 0; i < 2; i++) {
      const { topic, payload, messageId = 0 } = await again.next('publish')
      seen.push(`${topic} ${payload}`)
      again.send({ cmd: 'puback', messageId })
    }
    t.same(seen, ['yes x', 'yes y'])
    t.same(await again.messages(), [])
    again.destroy()
    await until(() => again.client.closed, 'the end')
  }
})

t.test('MQTT 3.1 has no code for a refusal: SUBACK has the QoS that was asked, as with Mosquitto, and nothing comes', async t => {
  const broker = await createBroker(t, {
    authorizeSubscribe: (_client, subscription, done) => done(null, subscription.topic === 'no' ? null : subscription)
  })
  const told: unknown[] = []
  broker.on('subscribe', subscriptions => told.push(...subscriptions))
  const peer = await join(broker, { clientId: 'one', protocolVersion: 3 })
  t.match(await peer.subscribe('no', 1), { granted: [1] })
  t.match(await peer.subscribe('yes', 0), { granted: [0] })
  await publish(broker, message('no', 'x'))
  await publish(broker, message('yes', 'x'))
  t.equal(await received(peer), 'yes x')
  t.match(told, [
    { topic: 'no', qos: 128 },
    { topic: 'yes', qos: 0 }
  ])
})

t.test('authorizeSubscribe may change filter and QoS: the client is told the QoS it has', async t => {
  const broker = await createBroker(t, {
    authorizeSubscribe: (_client, subscription, done) => {
      subscription.topic = 'changed'
      subscription.qos = 0
      setImmediate(done, null, subscription)
    }
  })
  const peer = await join(broker, { clientId: 'one' })
  t.match(await peer.subscribe('asked', 2), { granted: [0] })
  await publish(broker, message('asked', 'x', { qos: 1 }))
  await publish(broker, message('changed', 'x', { qos: 1 }))
  t.match(await peer.next('publish'), { topic: 'changed', qos: 0 })
})

t.test('authorizeSubscribe may answer with a subscription of its own', async t => {
  const broker = await createBroker(t, {
    authorizeSubscribe: (_client, _subscription, done) => done(null, { topic: 'own', qos: 1, ...plain })
  })
  const peer = await join(broker, { clientId: 'one' })
  await peer.subscribe('asked', 1)
  await publish(broker, message('own', 'x'))
  t.equal(await received(peer), 'own x')
})

t.test('an error of authorizeSubscribe ends the connection, with clientError and without SUBACK', async t => {
  const broker = await createBroker(t, { authorizeSubscribe: (_client, _subscription, done) => done(new Error('wrong topic')) })
  const failed = new Promise<string>(resolve => broker.once('clientError', (client, error) => resolve(`${client.id}: ${error.message}`)))
  const peer = await join(broker, { clientId: 'one' })
  peer.send({ cmd: 'subscribe', messageId: 1, subscriptions: [{ topic: 'a', qos: 0, ...plain }] })
  t.equal(await failed, 'one: wrong topic')
  await peer.closed()
  t.equal(peer.takeBytes(), '')
})

t.test('client.subscribe calls back also where its client goes before the hook has answered', async t => {
  const { opened, open } = gate()
  const broker = await createBroker(t, {
    authorizeSubscribe: (_client, subscription, done) => void opened.then(() => done(null, subscription))
  })
  const peer = await join(broker, { clientId: 'one', clean: false })
  const subscribed = new Promise<void>(resolve => peer.client.subscribe({ topic: 'a', qos: 1 }, () => resolve()))
  peer.destroy()
  await until(() => peer.client.closed, 'the end')
  open()
  await subscribed
  await publish(broker, message('a', 'x', { qos: 1 }))
  const again = await join(broker, { clientId: 'one', clean: false })
  t.same(await again.messages(), [])
})

t.test('the same filter twice is asked and answered twice; the last counts', async t => {
  const broker = await createBroker(t)
  const peer = await join(broker, { clientId: 'one' })
  peer.send({
    cmd: 'subscribe',
    messageId: 1,
    subscriptions: [
      { topic: 'a', qos: 1, ...plain },
      { topic: 'a', qos: 0, ...plain }
    ]
  })
  t.same((await peer.next('suback')).granted, [1, 0])
  await publish(broker, message('a', 'x', { qos: 1 }))
  t.same(
    (await peer.messages()).map(({ qos }) => qos),
    [0]
  )
})

t.test('an answer that takes its time holds what follows on its connection, so that a message behind SUBSCRIBE is received', async t => {
  const { opened, open } = gate()
  const broker = await createBroker(t, {
    authorizeSubscribe: (_client, subscription, done) => void opened.then(() => done(null, subscription))
  })
  const peer = await join(broker, { clientId: 'one' })
  peer.send({ cmd: 'subscribe', messageId: 1, subscriptions: [{ topic: 'a', qos: 0, ...plain }] })
  peer.publish('a', 'x')
  const other = await join(broker, { clientId: 'other' })
  await other.ping()
  t.equal(peer.takeBytes(), '')
  open()
  await peer.next('suback')
  t.equal(await received(peer), 'a x')
})

t.test('a session that comes back has its subscriptions asked for again', async t => {
  const asked: string[] = []
  let refused = ''
  const broker = await createBroker(t, {
    authorizeSubscribe: (client, subscription, done) => {
      asked.push(`${client.id} ${subscription.topic} ${subscription.qos}`)
      done(null, subscription.topic === refused ? null : subscription)
    }
  })
  const first = await join(broker, { clientId: 'one', clean: false })
  await first.subscribe('a', 1)
  await first.subscribe('b', 1)
  first.destroy()
  await until(() => first.client.closed, 'the end of the client')
  asked.length = 0
  refused = 'b'
  const again = await join(broker, { clientId: 'one', clean: false })
  t.same(asked.sort(), ['one a 1', 'one b 1'])
  await publish(broker, message('b', 'x'))
  await publish(broker, message('a', 'x'))
  t.equal(await received(again), 'a x')
})

t.test('shared subscriptions come to the hook as they were sent', async t => {
  const asked: string[] = []
  const broker = await createBroker(t, {
    authorizeSubscribe: (_client, subscription, done) => {
      asked.push(subscription.topic)
      done(null, subscription)
    }
  })
  const peers = [await join(broker, { clientId: 'one' }), await join(broker, { clientId: 'two', protocolVersion: 5 })]
  for (const peer of peers) t.match(await peer.subscribe('$share/group/a/+', 1), { granted: [1] })
  t.same(asked, ['$share/group/a/+', '$share/group/a/+'])
  for (const payload of ['1', '2']) await publish(broker, message('a/b', payload))
  t.same(await Promise.all(peers.map(async peer => (await peer.messages()).map(({ payload }) => String(payload)))), [['1'], ['2']])
})
