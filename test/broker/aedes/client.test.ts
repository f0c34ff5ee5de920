// The client: what it tells of itself, and what a program may do with it.

import { once } from 'node:events'
import type { Client } from 'aedes'
import t from 'tap'
import { createBroker, join, joinWith, message, Peer, publish, received, record } from '../../helpers/embedded.js'
import { gated, openGate } from '../../helpers/gated-persistence.js'
import { until } from '../../helpers/mqtt.js'

t.test('what a client tells of itself', async t => {
  const broker = await createBroker(t)
  const stranger = new Peer(broker)
  const { id, version, clean, connecting, connected, closed, disconnectReasonCode } = stranger.client
  t.same([id, version, clean, connecting, connected, closed, disconnectReasonCode], [null, null, true, false, false, false, null])

  const { client: old } = await join(broker, { clientId: 'old', clean: false })
  t.same([old.id, old.version, old.clean, old.connected], ['old', 4, false, true])
  t.same([old.sessionExpiryInterval, old.receiveMaximum, old.maximumPacketSize], [0xffffffff, 65535, undefined])
  const { client: oldest } = await join(broker, { clientId: 'oldest', protocolVersion: 3 })
  t.same([oldest.version, oldest.clean, oldest.sessionExpiryInterval], [3, true, 0])
  const { client: young } = await join(broker, {
    clientId: 'young',
    protocolVersion: 5,
    properties: { sessionExpiryInterval: 60, receiveMaximum: 7, maximumPacketSize: 1000 }
  })
  t.same(
    [young.version, young.clean, young.sessionExpiryInterval, young.receiveMaximum, young.maximumPacketSize],
    [5, false, 60, 7, 1000],
    'clean tells whether the session ends with the connection'
  )
})

t.test('broker.clients has everybody by name, whatever the name means in JavaScript', async t => {
  const broker = await createBroker(t)
  for (const clientId of ['__proto__', 'constructor', 'hasOwnProperty', 'plain']) {
    const peer = await join(broker, { clientId })
    t.equal(broker.clients[clientId], peer.client, clientId)
    t.ok(Object.keys(broker.clients).includes(clientId), clientId)
    peer.destroy()
    await until(() => peer.client.closed, 'the end')
    t.notOk(clientId in broker.clients, clientId)
  }
  t.equal(broker.connectedClients, 0)
})

t.test('DISCONNECT of MQTT 5 may change the session expiry interval', async t => {
  const broker = await createBroker(t, { sessionExpiryIntervalLimit: 500 })
  for (const [asked, got] of [
    [0, 0],
    [30, 30],
    [1000, 500]
  ] as const) {
    const peer = await join(broker, { clientId: 'one', protocolVersion: 5, properties: { sessionExpiryInterval: 60 } })
    const gone = once(broker, 'clientDisconnect')
    peer.send({ cmd: 'disconnect', reasonCode: 0, properties: { sessionExpiryInterval: asked } })
    await gone
    t.same([peer.client.sessionExpiryInterval, peer.client.clean], [got, got === 0])
  }
})

t.test('an empty client identifier gets one', async t => {
  const broker = await createBroker(t)
  const { peer, connack } = await joinWith(broker, { clientId: '', protocolVersion: 5 })
  t.match(peer.client.id, /^auto-[0-9A-F]{8}(-[0-9A-F]{4}){3}-[0-9A-F]{12}$/)
  t.equal(connack.properties?.assignedClientIdentifier, peer.client.id)
})

for (const qos of [0, 1, 2] as const) {
  t.test(`client.publish, QoS ${qos}: to this client alone, subscribed or not`, async t => {
    const asked: string[] = []
    const broker = await createBroker(t, {
      authorizePublish: (_client, _packet, done) => {
        asked.push('authorizePublish')
        done()
      }
    })
    const peer = await join(broker, { clientId: 'one' })
    const other = await join(broker, { clientId: 'other' })
    await other.subscribe('#', 2)
    await new Promise<void>((resolve, reject) =>
      peer.client.publish(message('a', 'x', { qos }), error => (error ? reject(error) : resolve()))
    )
    t.match(await peer.next('publish'), { topic: 'a', payload: Buffer.from('x'), qos, retain: false, dup: false })
    if (qos === 2) {
      peer.send({ cmd: 'pubrec', messageId: 1 })
      t.equal((await peer.next('pubrel')).messageId, 1)
      peer.send({ cmd: 'pubcomp', messageId: 1 })
    }
    t.same(await other.messages(), [])
    t.same(asked, [])
  })
}

t.test('client.publish to a persistent session is kept until it is acknowledged', async t => {
  const broker = await createBroker(t)
  const peer = await join(broker, { clientId: 'one', clean: false })
  await new Promise<void>(resolve => peer.client.publish(message('a', 'x', { qos: 1 }), () => resolve()))
  t.match(await peer.next('publish'), { messageId: 1, dup: false })
  peer.destroy()
  await until(() => peer.client.closed, 'the end of the client')
  const again = await join(broker, { clientId: 'one', clean: false })
  t.match(await again.next('publish'), { topic: 'a', messageId: 1, dup: true })
})

t.test('client.publish passes authorizeForward', async t => {
  const broker = await createBroker(t, { authorizeForward: (_client, packet) => (packet.topic === 'no' ? null : packet) })
  const peer = await join(broker, { clientId: 'one' })
  for (const topic of ['no', 'yes']) await new Promise<void>(resolve => peer.client.publish(message(topic, 'x'), () => resolve()))
  t.equal(await received(peer), 'yes x')
})

t.test('client.subscribe: one, several, or a whole SUBSCRIBE', async t => {
  const broker = await createBroker(t, {
    authorizeSubscribe: (_client, subscription, done) => done(null, subscription.topic === 'no' ? null : subscription)
  })
  const peer = await join(broker, { clientId: 'one' })
  const { client } = peer
  await publish(broker, message('kept', 'kept', { retain: true }))
  const events: unknown[] = []
  broker.on('subscribe', subscriptions => events.push(subscriptions.map(({ topic, qos }) => `${topic} ${qos}`)))
  const plain = { nl: false, rap: false, rh: 0 } as const
  await new Promise<void>(resolve => client.subscribe({ topic: 'a', qos: 0, ...plain }, () => resolve()))
  await new Promise<void>(resolve =>
    client.subscribe(
      [
        { topic: 'b', qos: 1, ...plain },
        { topic: 'no', qos: 1, ...plain }
      ],
      () => resolve()
    )
  )
  await new Promise<void>(resolve => client.subscribe({ subscriptions: [{ topic: 'kept', qos: 1, ...plain }] }, () => resolve()))
  t.equal(await received(peer), 'kept kept', 'no SUBACK before it')
  await new Promise<void>(resolve =>
    client.subscribe({ cmd: 'subscribe', messageId: 4242, subscriptions: [{ topic: 'd', qos: 2, ...plain }] }, () => resolve())
  )
  t.match(await peer.next('suback'), { messageId: 4242, granted: [2] })
  for (const topic of ['a', 'b', 'no', 'd']) await publish(broker, message(topic, 'x', { qos: 2 }))
  t.same(
    (await peer.messages()).map(({ topic, qos }) => `${topic} ${qos}`),
    ['a 0', 'b 1', 'd 2']
  )
  t.same(events, [['a 0'], ['b 1', 'no 128'], ['kept 1'], ['d 2']])
})

t.test('client.subscribe of a filter that is none calls back with an error', async t => {
  const broker = await createBroker(t)
  const { client } = await join(broker, { clientId: 'one' })
  const error = await new Promise(resolve => client.subscribe({ topic: 'a/#/b', qos: 0, nl: false, rap: false, rh: 0 }, resolve))
  t.ok(error instanceof Error)
})

t.test('client.subscribe and client.unsubscribe call back when the store has it, not before', async t => {
  const store = openGate()
  const broker = await createBroker(t, { persistence: gated(store.gate) })
  const { client } = await join(broker, { clientId: 'one', clean: false })
  const events = record(broker, ['subscribe', 'unsubscribe'], event => event)
  for (const request of ['subscribe', 'unsubscribe'] as const) {
    store.shut()
    events.push('asked')
    client[request]({ subscriptions: [{ topic: 'a', qos: 1, nl: false, rap: false, rh: 0 }] }, error =>
      events.push(error?.message ?? 'done')
    )
    await until(() => store.waiting > 0, 'the store')
    await new Promise(resolve => setImmediate(resolve))
    t.same(events, ['asked'], request)
    store.open()
    await until(() => events.length === 3, 'the answer')
    t.same(events.splice(0), ['asked', request, 'done'])
  }
})

t.test('client.subscribe calls back with an error where its client goes before the store has it', async t => {
  const store = openGate()
  const broker = await createBroker(t, { persistence: gated(store.gate) })
  const { client } = await join(broker, { clientId: 'one', clean: false })
  store.shut()
  t.teardown(() => store.open())
  const answered = new Promise(resolve => client.subscribe({ topic: 'a', qos: 1, nl: false, rap: false, rh: 0 }, resolve))
  await until(() => store.waiting > 0, 'the store')
  client.close()
  t.match(await answered, { message: 'client is closed' })
})

t.test('client.subscribe takes the subscription identifier of a whole SUBSCRIBE', async t => {
  const broker = await createBroker(t)
  const peer = await join(broker, { clientId: 'one', protocolVersion: 5 })
  const subscriptions = [{ topic: 'a', qos: 0, nl: false, rap: false, rh: 0 } as const]
  await new Promise<void>(resolve =>
    peer.client.subscribe({ cmd: 'subscribe', messageId: 9, subscriptions, properties: { subscriptionIdentifier: 300 } }, () => resolve())
  )
  await peer.next('suback')
  await publish(broker, message('a', 'x'))
  t.equal((await peer.next('publish')).properties?.subscriptionIdentifier, 300)
})

for (const persistence of ['memory', 'a store that takes its time']) {
  t.test(`what is asked for when a client is told of comes behind its CONNACK: ${persistence}`, async t => {
    const store = openGate()
    const broker = await createBroker(t, persistence === 'memory' ? {} : { persistence: gated(store.gate) })
    const answers: string[] = []
    const told = (name: string) => (error?: Error) => answers.push(`${name} ${error?.message ?? 'done'}`)
    const plain = { nl: false, rap: false, rh: 0 } as const
    await publish(broker, message('kept', 'kept', { retain: true }))
    broker.on('client', client => {
      if (client.id !== 'one') return
      client.publish(message('q0', 'x'), told('q0'))
      client.publish(message('q1', 'x', { qos: 1 }), told('q1'))
      client.subscribe({ topic: 'plain', qos: 0, ...plain }, told('plain'))
      client.subscribe({ cmd: 'subscribe', messageId: 7, subscriptions: [{ topic: 'kept', qos: 0, ...plain }] }, told('whole'))
      Reflect.apply(client.unsubscribe, client, ['none', told('unsubscribe')])
      broker.publish(message('plain', 'from the broker'), () => {})
      store.shut()
    })
    const peer = new Peer(broker, 5)
    const connected = peer.connect({ clientId: 'one', clean: false, properties: { sessionExpiryInterval: 60 } })
    if (persistence !== 'memory') {
      await until(() => store.waiting > 0, 'the store')
      t.equal(peer.takeBytes(), '')
      store.open()
    }
    t.equal((await connected).cmd, 'connack', 'the first of all')
    await until(() => answers.length === 5, 'all answers')
    t.same(answers.sort(), ['plain done', 'q0 done', 'q1 done', 'unsubscribe done', 'whole done'])
    await until(() => peer.packets.length === 5, 'all packets')
    t.same(peer.packets.map(packet => (packet.cmd === 'publish' ? packet.topic : packet.cmd)).sort(), [
      'kept',
      'plain',
      'q0',
      'q1',
      'suback'
    ])
    await publish(broker, message('plain', 'later'))
    await until(() => peer.packets.length === 6, 'a message for the subscription')
  })
}

t.test('client.disconnect when a client is told of ends it without a word: there was no CONNACK', async t => {
  const broker = await createBroker(t)
  broker.on('client', client => client.disconnect({ reasonCode: 0x98 }))
  const peer = new Peer(broker, 5)
  peer.send({ cmd: 'connect', clientId: 'one', protocolId: 'MQTT', protocolVersion: 5, clean: true, keepalive: 0 })
  await peer.closed()
  t.equal(peer.takeBytes(), '')
  t.equal(peer.client.disconnectReasonCode, 0x98)
})

t.test('who is taken over while the store keeps its CONNACK back gets no DISCONNECT', async t => {
  const store = openGate()
  const broker = await createBroker(t, { persistence: gated(store.gate) })
  const options = { clientId: 'one', clean: false, properties: { sessionExpiryInterval: 60 } }
  store.shut()
  const first = new Peer(broker, 5)
  const refused = t.rejects(first.connect(options), /closed before CONNACK/)
  await until(() => store.waiting > 0, 'the store')
  const second = new Peer(broker, 5)
  const connected = second.connect(options)
  await refused
  t.equal(first.takeBytes(), '')
  store.open()
  t.equal((await connected).reasonCode, 0)
})

t.test('what is asked of a client before it is let in, and after its end, is answered with an error', async t => {
  const answers: string[] = []
  const ask = (client: Client) => {
    client.publish(message('a', 'x'), error => answers.push(error?.message ?? 'done'))
    client.subscribe({ topic: 'a', qos: 0, nl: false, rap: false, rh: 0 }, error => answers.push(error?.message ?? 'done'))
    Reflect.apply(client.unsubscribe, client, ['a', (error?: Error) => answers.push(error?.message ?? 'done')])
  }
  const broker = await createBroker(t, {
    authenticate: (client, _username, _password, done) => {
      ask(client)
      done(null, true)
    }
  })
  const peer = await join(broker, { clientId: 'one' })
  await until(() => answers.length === 3, 'answers')
  t.same(answers.splice(0), Array(3).fill('client is not connected yet'))
  t.same(await peer.messages(), [])
  peer.destroy()
  await until(() => peer.client.closed, 'the end of the client')
  ask(peer.client)
  await until(() => answers.length === 3, 'answers')
  t.same(answers, Array(3).fill('client is closed'))
})

t.test('client.unsubscribe: names, or a whole UNSUBSCRIBE', async t => {
  const broker = await createBroker(t)
  const peer = await join(broker, { clientId: 'one' })
  const { client } = peer
  for (const topic of ['a', 'b', 'c', 'd']) await peer.subscribe(topic)
  const unsubscribe = (what: unknown) =>
    new Promise<void>((resolve, reject) =>
      Reflect.apply(client.unsubscribe, client, [what, (error?: Error) => (error ? reject(error) : resolve())])
    )
  await unsubscribe('a')
  await unsubscribe(['b'])
  await unsubscribe({ unsubscriptions: ['c'] })
  for (const topic of ['a', 'b', 'c', 'd']) await publish(broker, message(topic, 'x'))
  t.same(
    (await peer.messages()).map(({ topic }) => topic),
    ['d']
  )
  await unsubscribe({ cmd: 'unsubscribe', messageId: 4243, unsubscriptions: ['d'] })
  t.equal((await peer.next('unsuback')).messageId, 4243)
})

t.test('client.close ends the connection, publishes the will and calls back, also the second time', async t => {
  const broker = await createBroker(t)
  const watcher = await join(broker, { clientId: 'watcher' })
  await watcher.subscribe('w')
  const peer = await join(broker, { clientId: 'one', will: { topic: 'w', payload: Buffer.from('bye'), qos: 0, retain: false } })
  await new Promise<void>(resolve => peer.client.close(resolve))
  t.same([peer.client.closed, peer.client.connected], [true, false])
  await peer.closed()
  t.equal(await received(watcher), 'w bye')
  await new Promise<void>(resolve => peer.client.close(resolve))
})

t.test('client.disconnect tells an MQTT 5 client why, with properties where they are given', async t => {
  const broker = await createBroker(t)
  const ends: readonly [(peer: Peer, done: () => void) => void, string, number][] = [
    [({ client }, done) => client.disconnect(done), 'e000', 0],
    [({ client }, done) => client.disconnect({}, done), 'e000', 0],
    [({ client }, done) => client.disconnect({ reasonCode: 0x98 }, done), 'e00198', 0x98],
    [({ client }, done) => client.disconnect({ reasonCode: 0x9d, properties: { serverReference: 'b' } }, done), 'e0069d041c000162', 0x9d]
  ]
  for (const [end, bytes, reasonCode] of ends) {
    const peer = await join(broker, { clientId: 'new', protocolVersion: 5 })
    await new Promise<void>(resolve => end(peer, resolve))
    await peer.closed()
    t.equal(peer.takeBytes(), bytes)
    t.equal(peer.client.disconnectReasonCode, reasonCode)
    const old = await join(broker, { clientId: 'old' })
    await new Promise<void>(resolve => end(old, resolve))
    await old.closed()
    t.equal(old.takeBytes(), '')
    t.equal(old.client.disconnectReasonCode, null)
  }
})

t.test('error on the client tells once what ended it, and nobody needs to listen', async t => {
  const broker = await createBroker(t)
  const seen: string[] = []
  broker.on('clientError', (client, error) => seen.push(`broker: ${client.id} ${error.message}`))
  broker.on('connectionError', (_client, error) => seen.push(`broker: nobody ${error.message}`))
  const watch = (peer: Peer) => peer.client.on('error', error => seen.push(`client: ${error.message}`))

  const malformed = await join(broker, { clientId: 'malformed' })
  watch(malformed)
  malformed.stream.write(Buffer.from([0x36, 0]))
  await malformed.closed()
  t.same(seen.splice(0), ['broker: malformed malformed packet', 'client: malformed packet'])

  const stranger = new Peer(broker)
  watch(stranger)
  stranger.stream.write(Buffer.from([0xc0, 0]))
  await stranger.closed()
  t.same(seen.splice(0), ['broker: nobody protocol error', 'client: protocol error'])

  for (const isHeard of [true, false]) {
    const peer = await join(broker, { clientId: 'emitted' })
    if (isHeard) watch(peer)
    peer.client.emit('error', new Error('enough'))
    peer.client.emit('error', new Error('again'))
    await peer.closed()
    t.same(seen.splice(0), ['broker: emitted enough', ...(isHeard ? ['client: enough', 'client: again'] : [])])
  }

  const gone = await join(broker, { clientId: 'gone' })
  watch(gone)
  gone.send({ cmd: 'disconnect', reasonCode: 0 })
  await gone.closed()
  t.same(seen, [])
})

t.test('client.emptyOutgoingQueue forgets what waits for the client', async t => {
  const broker = await createBroker(t)
  const peer = await join(broker, { clientId: 'one', clean: false })
  await peer.subscribe('a', 1)
  peer.destroy()
  await until(() => peer.client.closed, 'the end of the client')
  for (let i = 0; i < 60; i++) await publish(broker, message('a', String(i), { qos: 1 }))
  await new Promise<void>(resolve => peer.client.emptyOutgoingQueue(() => resolve()))
  const again = await join(broker, { clientId: 'one', clean: false })
  t.same(await again.messages(), [])
})

t.test('a client whose session goes on keeps its subscriptions and messages; a session is present even without any', async t => {
  const broker = await createBroker(t)
  const bare = await join(broker, { clientId: 'bare', clean: false })
  bare.destroy()
  await until(() => bare.client.closed, 'the end of the client')
  t.equal((await joinWith(broker, { clientId: 'bare', clean: false })).connack.sessionPresent, true)

  const peer = await join(broker, { clientId: 'one', clean: false })
  await peer.subscribe('a', 1)
  peer.destroy()
  await until(() => peer.client.closed, 'the end of the client')
  await publish(broker, message('a', '1', { qos: 1 }))
  await publish(broker, message('a', '2', { qos: 1 }))
  const { peer: again, connack } = await joinWith(broker, { clientId: 'one', clean: false })
  t.equal(connack.sessionPresent, true)
  t.same(
    (await again.messages()).map(({ payload, messageId }) => [String(payload), messageId]),
    [
      ['1', 1],
      ['2', 2]
    ]
  )
})

t.test('MQTT 5 is told with 0x10 that nobody receives a message', async t => {
  const broker = await createBroker(t)
  const peer = await join(broker, { clientId: 'one', protocolVersion: 5 })
  peer.publish('nobody', 'x', { qos: 1, messageId: 1 })
  t.equal((await peer.next('puback')).reasonCode, 0x10)
})
