// Packets that are none, as programs in JavaScript make them: whoever gave them is told, nothing of them goes out, and no client pays for it.

import type { AedesPublishPacket, Client } from 'aedes'
import mqemitter from 'mqemitter'
import t from 'tap'
import { createBroker, errorsOf, join, joinWith, message, publish, received } from '../../helpers/embedded.js'
import { until } from '../../helpers/mqtt.js'

/** Calls what types would not let through; resolves with what the callback got. */
function call(method: (...args: never[]) => unknown, self: object, ...args: readonly unknown[]): Promise<unknown> {
  return new Promise(resolve => Reflect.apply(method, self, [...args, resolve]))
}

const packets: readonly [reason: string, packet: unknown][] = [
  ['a packet is an object', undefined],
  ['a packet is an object', null],
  ['a packet is an object', 'text'],
  ['topic is a string', { payload: 'x' }],
  ['topic is a string', { topic: Buffer.from('a') }],
  ['"" is no topic name', { topic: '' }],
  ['"a/#" is no topic name', { topic: 'a/#' }],
  ['"+/a" is no topic name', { topic: '+/a' }],
  ['"a\\u0000b" is no topic name', { topic: 'a\0b' }],
  ['"a\\nb" is no topic name', { topic: 'a\nb' }],
  ['"a\\ud800" is no topic name', { topic: 'a\ud800' }],
  ['is no topic name', { topic: 'x'.repeat(65_536) }],
  ['is no topic name', { topic: '/'.repeat(201) }],
  ['qos is 0, 1 or 2, not 3', { topic: 'a', qos: 3 }],
  ['qos is 0, 1 or 2, not 1', { topic: 'a', qos: '1' }],
  ['qos is 0, 1 or 2, not -1', { topic: 'a', qos: -1 }],
  ['payload is a string or bytes, not of type number', { topic: 'a', payload: 5 }],
  ['payload is a string or bytes, not of type object', { topic: 'a', payload: { a: 1 } }],
  ['properties is an object', { topic: 'a', properties: 'text' }],
  ['contentType is a string', { topic: 'a', properties: { contentType: 7 } }],
  ['contentType is text without control characters', { topic: 'a', properties: { contentType: 'a\0' } }],
  ['contentType is at most 65535 bytes long', { topic: 'a', properties: { contentType: 'x'.repeat(70_000) } }],
  ['contentType is a string', { topic: 'a', properties: { contentType: ['a', 'b'] } }],
  ['responseTopic is a topic name', { topic: 'a', properties: { responseTopic: 'a/#' } }],
  ['payloadFormatIndicator is a whole number from 0 to 1', { topic: 'a', properties: { payloadFormatIndicator: 2 } }],
  ['messageExpiryInterval is a whole number', { topic: 'a', properties: { messageExpiryInterval: '5' } }],
  ['messageExpiryInterval is a whole number', { topic: 'a', properties: { messageExpiryInterval: -1 } }],
  ['correlationData is a string or bytes', { topic: 'a', properties: { correlationData: 1 } }],
  ['userProperties is an object of strings', { topic: 'a', properties: { userProperties: 'text' } }],
  ['userProperties is a string', { topic: 'a', properties: { userProperties: { a: 1 } } }],
  ['sessionExpiryInterval is no property of this packet', { topic: 'a', properties: { sessionExpiryInterval: 1 } }]
]

const shown = (packet: unknown) => JSON.stringify(packet)?.slice(0, 80)

for (const [reason, packet] of packets) {
  t.test(`${reason}: ${shown(packet)}`, async t => {
    const broker = await createBroker(t)
    const errors = errorsOf(broker)
    const peers = [await join(broker, { clientId: 'old' }), await join(broker, { clientId: 'new', protocolVersion: 5 })]
    for (const peer of peers) {
      await peer.subscribe('#', 2)
      peer.takeBytes()
    }
    const [first] = peers
    if (first === undefined) return
    for (const [method, self] of [
      [broker.publish, broker],
      [first.client.publish, first.client]
    ] as const) {
      const error = await call(method, self, packet)
      t.ok(error instanceof TypeError)
      t.match(error, { message: reason })
      t.same(errors, [])
      Reflect.apply(method, self, [packet])
      t.match(errors.splice(0), [{ message: reason }], 'without a callback it is an error event')
    }
    for (const peer of peers) {
      await peer.ping()
      t.equal(peer.takeBytes(), 'd000')
    }
  })
}

t.test('a packet that is too large for MQTT', async t => {
  const broker = await createBroker(t)
  const peer = await join(broker, { clientId: 'one' })
  await peer.subscribe('#')
  // Never touched, so that it takes no memory.
  const payload = Buffer.alloc(268_435_455)
  t.match(await call(broker.publish, broker, { topic: 'a', payload }), { name: 'TypeError', message: 'a packet is at most 256 MB large' })
  t.same(await peer.messages(), [])
})

t.test('what has a default may be left out, and what no other broker would mind is taken', async t => {
  const broker = await createBroker(t)
  const errors = errorsOf(broker)
  const peer = await join(broker, { clientId: 'one', protocolVersion: 5 })
  await peer.subscribe('#', 2)
  for (const packet of [
    { topic: 'a' },
    { topic: 'a', payload: null, qos: null, retain: null, properties: null },
    {
      topic: 'a',
      payload: new Uint8Array(),
      qos: undefined,
      dup: true,
      messageId: 99_999,
      cmd: 'other',
      properties: { unknown: 1, contentType: undefined }
    },
    { topic: 'a', properties: { topicAlias: 70_000, subscriptionIdentifier: -1 } }
  ]) {
    t.equal(await call(broker.publish, broker, packet), undefined)
    t.match(await peer.next('publish'), { topic: 'a', payload: Buffer.alloc(0), qos: 0, dup: false, retain: false })
  }
  t.same(errors, [])
})

const filters: readonly [reason: string, filters: unknown][] = [
  ['a subscription is an object', undefined],
  ['a subscription is an object', 'a'],
  ['a subscription is an object', ['a']],
  ['a topic filter is a string', {}],
  ['a topic filter is a string', [{ topic: 7, qos: 0 }]],
  ['"a/#/b" is no topic filter', { topic: 'a/#/b', qos: 0 }],
  ['"a\\u0000" is no topic filter', { topic: 'a\0', qos: 0 }],
  ['"$share/a" is no topic filter', { topic: '$share/a', qos: 0 }],
  ['qos is 0, 1 or 2, not 3', { topic: 'a', qos: 3 }],
  ['rh is 0, 1 or 2, not 3', { topic: 'a', qos: 0, rh: 3 }],
  ['messageId is a whole number', { subscriptions: [{ topic: 'a', qos: 0 }], messageId: 70_000 }],
  ['messageId is a whole number', { subscriptions: [{ topic: 'a', qos: 0 }], messageId: '1' }],
  ['subscriptionIdentifier is a whole number', { subscriptions: [{ topic: 'a', qos: 0 }], properties: { subscriptionIdentifier: 0 } }]
]
for (const [reason, wrong] of filters) {
  t.test(`client.subscribe, ${reason}: ${JSON.stringify(wrong)}`, async t => {
    const broker = await createBroker(t)
    const errors = errorsOf(broker)
    const peer = await join(broker, { clientId: 'one', protocolVersion: 5 })
    t.match(await call(peer.client.subscribe, peer.client, wrong), { name: 'TypeError', message: reason })
    Reflect.apply(peer.client.subscribe, peer.client, [wrong])
    t.match(errors, [{ message: reason }])
    await publish(broker, message('a', 'x'))
    t.same(await peer.messages(), [])
  })
}

t.test('client.unsubscribe of what is no filter', async t => {
  const broker = await createBroker(t)
  const { client } = await join(broker, { clientId: 'one' })
  for (const wrong of [undefined, 7, ['a', 7], { unsubscriptions: ['a/#/b'] }, { unsubscriptions: ['a'], messageId: 0.5 }]) {
    t.match(await call(client.unsubscribe, client, wrong), { name: 'TypeError' })
  }
})

t.test('client.disconnect with what can not be sent ends the client, and is a clientError', async t => {
  const broker = await createBroker(t)
  for (const wrong of [{ reasonCode: 300 }, { reasonCode: 'no' }, { properties: { reasonString: 7 } }, { properties: { topicAlias: 1 } }]) {
    const peer = await join(broker, { clientId: 'one', protocolVersion: 5 })
    const failed = new Promise<Error>(resolve => broker.once('clientError', (_client, error) => resolve(error)))
    t.equal(await call(peer.client.disconnect, peer.client, wrong), undefined)
    t.ok((await failed) instanceof TypeError)
    await peer.closed()
    t.equal(peer.takeBytes(), '')
  }
})

t.test('client.disconnect leaves out words that its client would not take', async t => {
  const broker = await createBroker(t)
  const peer = await join(broker, { clientId: 'one', protocolVersion: 5, properties: { maximumPacketSize: 40 } })
  peer.client.disconnect({ reasonCode: 0x98, properties: { reasonString: 'x'.repeat(50) } })
  await peer.closed()
  t.equal(peer.takeBytes(), 'e00198')
})

const edits: readonly [reason: string, edit: object][] = [
  ['topic is a string', { topic: undefined }],
  ['"a/#" is no topic name', { topic: 'a/#' }],
  ['qos is 0, 1 or 2, not 3', { qos: 3 }],
  ['payload is a string or bytes', { payload: { a: 1 } }],
  ['contentType is a string', { properties: { contentType: 7 } }]
]
t.test('a hook that leads a message to where nobody answers changes nothing of its acknowledgement', async t => {
  const broker = await createBroker(t, {
    authorizePublish: (_client, packet, done) => {
      Object.assign(packet, { topic: '$CONTROL/x/v1', qos: packet.qos === 1 ? 0 : 1 })
      done(null)
    }
  })
  const peer = await join(broker, { clientId: 'one' })
  peer.publish('a', 'x', { qos: 1, messageId: 5 })
  t.equal((await peer.next('puback')).messageId, 5)
  peer.publish('a', 'x', { qos: 2, messageId: 6 })
  t.equal((await peer.next('pubrec')).messageId, 6)
})

for (const [reason, edit] of edits) {
  t.test(`authorizePublish that leaves ${JSON.stringify(edit)} has refused, and is told`, async t => {
    const broker = await createBroker(t, {
      authorizePublish: (_client, packet, done) => {
        if (packet.topic === 'bad') Object.assign(packet, edit)
        done(null)
      }
    })
    const told: Error[] = []
    broker.on('clientError', (_client, error) => told.push(error))
    for (const protocolVersion of [4, 5] as const) {
      const peer = await join(broker, { clientId: 'one', protocolVersion })
      await peer.subscribe('#', 2)
      peer.publish('bad', 'x', { qos: 1, messageId: 5 })
      const { reasonCode = 0 } = await peer.next('puback')
      t.equal(reasonCode, protocolVersion === 5 ? 0x87 : 0)
      peer.publish('bad', 'x')
      peer.publish('good', 'x')
      t.equal(await received(peer), 'good x')
      t.match(told.splice(0), [{ message: reason }, { message: reason }])
    }
    const gone = await join(broker, { clientId: 'gone', will: { topic: 'bad', payload: Buffer.from('bye'), qos: 1, retain: false } })
    gone.destroy()
    await until(() => told.length === 1, 'the will')
    t.match(told, [{ name: 'TypeError', message: reason }])
  })

  t.test(`authorizeForward that answers with ${JSON.stringify(edit)} keeps the message from that receiver, and is told`, async t => {
    const broker = await createBroker(t, {
      authorizeForward: ({ id }, packet) => (id === 'bad' ? Object.assign(packet, edit) : packet)
    })
    const told: unknown[] = []
    broker.on('clientError', ({ id }, { message }) => told.push([id, message]))
    const [bad, good] = [await join(broker, { clientId: 'bad' }), await join(broker, { clientId: 'good' })]
    await bad.subscribe('a', 2)
    await good.subscribe('a', 2)
    for (const qos of [0, 2] as const) {
      await publish(broker, message('a', 'x', { qos, properties: { contentType: 'text' } }))
      t.equal(await received(good), 'a x')
    }
    t.same(await bad.messages(), [])
    t.match(told, [
      ['bad', reason],
      ['bad', reason]
    ])
  })
}

const answers: readonly [reason: string, answer: unknown][] = [
  ['a topic filter is a string', true],
  ['a topic filter is a string', {}],
  ['"a/#/b" is no topic filter', { topic: 'a/#/b', qos: 0 }],
  ['qos is 0, 1 or 2, not 9', { topic: 'a', qos: 9 }],
  ['rh is 0, 1 or 2, not 9', { topic: 'a', qos: 0, rh: 9 }]
]
for (const [reason, answer] of answers) {
  t.test(`authorizeSubscribe that answers with ${JSON.stringify(answer)} refuses that filter alone, and is told`, async t => {
    const broker = await createBroker(t, {
      authorizeSubscribe: (_client, subscription, done) =>
        Reflect.apply(done, undefined, [null, subscription.topic === 'bad' ? answer : subscription])
    })
    const told: Error[] = []
    broker.on('clientError', (_client: Client, error) => told.push(error))
    const peer = await join(broker, { clientId: 'one', protocolVersion: 5 })
    const plain = { qos: 1, nl: false, rap: false, rh: 0 } as const
    peer.send({
      cmd: 'subscribe',
      messageId: 1,
      subscriptions: [
        { topic: 'bad', ...plain },
        { topic: 'good', ...plain }
      ]
    })
    t.same((await peer.next('suback')).granted, [0x87, 1])
    t.match(told, [{ name: 'TypeError', message: reason }])
    await publish(broker, message('good', 'x'))
    t.equal(await received(peer), 'good x')
  })
}

t.test('responseInformation that is no text is a clientError and keeps nobody out', async t => {
  for (const information of [7, 'a\0b', 'x'.repeat(70_000)]) {
    const broker = await createBroker(t, { responseInformation: () => JSON.parse(JSON.stringify(information)) })
    const failed = new Promise<Error>(resolve => broker.once('clientError', (_client, error) => resolve(error)))
    const { connack } = await joinWith(broker, { clientId: 'one', protocolVersion: 5, properties: { requestResponseInformation: true } })
    t.equal(connack.reasonCode, 0)
    t.equal(connack.properties?.responseInformation, undefined)
    t.match(await failed, { name: 'TypeError', message: /responseInformation/ })
  }
})

t.test('a reason of several lines is told in one that no client minds', async t => {
  const broker = await createBroker(t, { authorizePublish: (_client, _packet, done) => done(new Error('first\nsecond\0\ud800')) })
  const peer = await join(broker, { clientId: 'one', protocolVersion: 5 })
  peer.publish('a', 'x', { qos: 1, messageId: 1 })
  t.equal((await peer.next('puback')).properties?.reasonString, 'first second  ')
})

t.test('serverReference that is no text: the client is refused as any other', async t => {
  const error = Object.assign(new Error('elsewhere'), { serverReference: 'a\0b', returnCode: 3 as const })
  const broker = await createBroker(t, { authenticate: (_client, _username, _password, done) => done(error, false) })
  const { connack } = await joinWith(broker, { clientId: 'one', protocolVersion: 5 })
  t.same([connack.reasonCode, connack.properties?.serverReference], [0x88, undefined])
})

t.test('what another broker on the emitter sends and is none is an error event', async t => {
  const mq = mqemitter()
  const broker = await createBroker(t, { mq })
  const errors = errorsOf(broker)
  const peer = await join(broker, { clientId: 'one' })
  await peer.subscribe('#')
  const say = (packet: object) =>
    new Promise(resolve => mq.emit({ brokerId: 'theirs', brokerCounter: 1, ...packet } as AedesPublishPacket, resolve))
  await say({ topic: 'a/#', payload: 'x' })
  await say({ topic: 'a', payload: { type: 'Buffer' } })
  await say({ topic: 'a', payload: 'x' })
  t.equal(await received(peer), 'a x')
  t.equal(errors.length, 2)
})

t.test('broker.subscribe and broker.unsubscribe without a topic or a function call back with an error', async t => {
  const broker = await createBroker(t)
  const errors = errorsOf(broker)
  for (const method of [broker.subscribe, broker.unsubscribe]) {
    for (const wrong of [
      [undefined, () => {}],
      ['', () => {}],
      [7, () => {}],
      ['a', undefined],
      ['a', 'text']
    ]) {
      t.match(await call(method, broker, ...wrong), { name: 'TypeError' })
      Reflect.apply(method, broker, wrong)
      t.equal(errors.splice(0).length, 1)
    }
  }
  await publish(broker, message('a', 'x'))
  t.same(errors, [])
})
