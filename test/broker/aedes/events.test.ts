// The events of the broker: what comes when, and with what.

import { once } from 'node:events'
import { generate } from 'mqtt-packet'
import t from 'tap'
import { Broker } from '../../../dist/index.js'
import { close, createBroker, join, joinWith, listen, message, Peer, publish, received, record } from '../../helpers/embedded.js'
import { until } from '../../helpers/mqtt.js'

const isClient = (value: unknown): value is Peer['client'] => typeof value === 'object' && value !== null && 'connackSent' in value

t.test('client, connackSent, clientReady, clientDisconnect: once each, in this order, with the state that belongs to them', async t => {
  const broker = await createBroker(t)
  const seen = record(broker, ['client', 'connackSent', 'clientReady', 'clientDisconnect'], (event, args) => {
    const client = args.find(isClient)
    return `${event} ${client?.id} connecting ${client?.connecting} connected ${client?.connected} of ${broker.connectedClients}`
  })
  const peer = await join(broker, { clientId: 'one' })
  await peer.ping()
  peer.send({ cmd: 'disconnect' })
  await until(() => seen.length === 4, 'the end')
  t.same(seen, [
    'client one connecting true connected false of 1',
    'connackSent one connecting true connected false of 1',
    'clientReady one connecting false connected true of 1',
    'clientDisconnect one connecting false connected false of 0'
  ])
})

t.test('clientReady comes when the client may have read its CONNACK, so that a program may listen then', async t => {
  const broker = await createBroker(t)
  const peer = new Peer(broker)
  await peer.connect({ clientId: 'one' })
  t.same([peer.client.connecting, peer.client.connected], [true, false])
  const [client] = await once(broker, 'clientReady')
  t.equal(client, peer.client)
  t.same([client.connecting, client.connected], [false, true])
})

t.test('clientReady comes before everything that the client sends behind its CONNECT', async t => {
  const broker = await createBroker(t)
  const seen = record(broker, ['client', 'connackSent', 'clientReady', 'ping', 'publish', 'clientDisconnect'], (event, [packet]) =>
    packet instanceof Object && 'topic' in packet ? `${event} ${packet.topic}` : event
  )
  const peer = new Peer(broker)
  const connect = { cmd: 'connect', clientId: 'one', protocolId: 'MQTT', protocolVersion: 4, clean: true, keepalive: 0 } as const
  const publish = { cmd: 'publish', topic: 'a', payload: 'x', qos: 0, dup: false, retain: false } as const
  peer.stream.write(Buffer.concat([generate(connect), generate({ cmd: 'pingreq' }), generate(publish), generate({ cmd: 'disconnect' })]))
  await peer.closed()
  t.same(
    seen.filter(line => !line.includes('$SYS')),
    ['client', 'connackSent', 'clientReady', 'ping', 'publish a', 'clientDisconnect']
  )
})

t.test('what comes of a packet may be listened to behind the write, also where the stream hands it over at once', async t => {
  const broker = await createBroker(t)
  const peer = await join(broker, { clientId: 'one' })
  peer.send({ cmd: 'pingreq' })
  t.equal((await once(broker, 'ping'))[1], peer.client)
  peer.publish('a', 'x')
  t.equal((await once(broker, 'publish'))[0].topic, 'a')
  peer.publish('a', 'last')
  peer.send({ cmd: 'disconnect' })
  peer.stream.end()
  t.equal(String((await once(broker, 'publish'))[0].payload), 'last')
})

t.test('the error of who is refused may be listened to behind the answer', async t => {
  const broker = await createBroker(t, { authenticate: (_client, _username, _password, done) => done(null, false) })
  await joinWith(broker, { clientId: 'one' })
  t.match((await once(broker, 'clientError'))[1], { message: 'not authorized', errorCode: 5 })
  const peer = new Peer(broker)
  // Neither a clean session nor a client identifier.
  peer.stream.write(Buffer.from('100c00044d5154540400003c0000', 'hex'))
  t.equal((await peer.next('connack')).returnCode, 2)
  t.match((await once(broker, 'connectionError'))[1], { message: 'identifier rejected', errorCode: 2 })
})

t.test('an error of the stream is a clientError, or a connectionError of who is no client yet', async t => {
  const broker = await createBroker(t)
  const failure = Object.assign(new Error('read ECONNRESET'), { code: 'ECONNRESET' })
  const stranger = new Peer(broker)
  const strange = once(broker, 'connectionError')
  stranger.client.conn.destroy(failure)
  t.same(await strange, [stranger.client, failure])
  const peer = await join(broker, { clientId: 'one' })
  const seen = record(broker, ['clientError', 'clientDisconnect'], (event, [client, error]) =>
    error instanceof Error && client === peer.client ? `${event} ${error.message}` : event
  )
  peer.client.conn.destroy(failure)
  await until(() => seen.length === 2, 'the end')
  t.same(seen, ['clientError read ECONNRESET', 'clientDisconnect'])
})

t.test('clientDisconnect comes however a client goes, and says with which reason the broker sent it away', async t => {
  const broker = await createBroker(t)
  const seen: unknown[] = []
  broker.on('clientDisconnect', ({ id, disconnectReasonCode, closed }) => seen.push([id, disconnectReasonCode, closed]))
  const ends: readonly [string, (peer: Peer) => unknown, number | null][] = [
    ['says so', peer => peer.send({ cmd: 'disconnect' }), null],
    ['drops', peer => peer.destroy(), null],
    ['is closed', peer => peer.client.close(), null],
    ['is disconnected', peer => peer.client.disconnect({ reasonCode: 0x9c }), 0x9c],
    ['is taken over', peer => join(broker, { clientId: peer.client.id, protocolVersion: 5 }), 0x8e]
  ]
  for (const [clientId, end, reasonCode] of ends) {
    const peer = await join(broker, { clientId, protocolVersion: 5 })
    seen.length = 0
    end(peer)
    await peer.closed()
    await until(() => seen.length > 0, 'clientDisconnect')
    t.same(seen, [[clientId, reasonCode, true]])
  }
})

t.test('a take-over: the old client is gone before the new one is there', async t => {
  const broker = await createBroker(t)
  const old = await join(broker, { clientId: 'same', protocolVersion: 5 })
  const seen = record(
    broker,
    ['client', 'clientReady', 'clientDisconnect'],
    (event, [client]) => `${event} ${client === old.client ? 'old' : 'new'}`
  )
  const next = await join(broker, { clientId: 'same' })
  t.same(seen, ['clientDisconnect old', 'client new', 'clientReady new'])
  t.equal((await old.next('disconnect')).reasonCode, 0x8e)
  await next.ping()
})

t.test('connackSent has the packet as it was sent', async t => {
  const broker = await createBroker(t, { authenticate: ({ id }, _username, _password, done) => done(null, id !== 'refused') })
  const seen: unknown[] = []
  broker.on('connackSent', packet => seen.push(packet))
  await join(broker, { clientId: 'old' })
  await join(broker, { clientId: '', protocolVersion: 5 })
  await joinWith(broker, { clientId: 'refused' })
  await joinWith(broker, { clientId: 'refused', protocolVersion: 5 })
  t.match(seen, [
    { cmd: 'connack', sessionPresent: false, returnCode: 0 },
    {
      cmd: 'connack',
      sessionPresent: false,
      reasonCode: 0,
      properties: { topicAliasMaximum: 10, maximumPacketSize: 2_000_000, receiveMaximum: 20, assignedClientIdentifier: String }
    },
    { cmd: 'connack', sessionPresent: false, returnCode: 5 },
    { cmd: 'connack', sessionPresent: false, reasonCode: 0x87 }
  ])
})

t.test('connectionError for who is no client yet, clientError for who is one', async t => {
  const broker = await createBroker(t)
  const seen: [string, unknown, boolean][] = []
  for (const event of ['connectionError', 'clientError'] as const) {
    broker.on(event, (client, error) => seen.push([event, client.id, error instanceof Error]))
  }
  const stranger = new Peer(broker)
  stranger.send({ cmd: 'pingreq' })
  await stranger.closed()
  const noise = new Peer(broker)
  noise.stream.write(Buffer.from('GET / HTTP/1.1\r\n\r\n'))
  await noise.closed()
  const peer = await join(broker, { clientId: 'wrong' })
  peer.publish('a/+', 'x')
  await peer.closed()
  await until(() => seen.length === 3, 'three errors')
  t.same(seen, [
    ['connectionError', null, true],
    ['connectionError', null, true],
    ['clientError', 'wrong', true]
  ])
})

t.test('keepaliveTimeout, then clientError, for who is silent for one and a half times its keep alive', async t => {
  const broker = await createBroker(t)
  const seen = record(broker, ['keepaliveTimeout', 'clientError', 'clientDisconnect'], (event, args) =>
    [event, ...args.map(arg => (isClient(arg) ? arg.id : String(arg)))].join(' ')
  )
  const silent = await join(broker, { clientId: 'silent', protocolVersion: 5, keepalive: 1 })
  const lively = await join(broker, { clientId: 'lively', keepalive: 1 })
  const timer = setInterval(() => lively.send({ cmd: 'pingreq' }), 200)
  t.teardown(() => clearInterval(timer))
  await silent.closed()
  await until(() => seen.length === 3, 'three events')
  t.same(seen, ['keepaliveTimeout silent', 'clientError silent Error: keep alive timeout', 'clientDisconnect silent'])
  t.equal(lively.client.connected, true)
})

t.test('publish comes for every message: of clients, of the broker, and its own notices', async t => {
  const broker = await createBroker(t)
  const seen: string[] = []
  broker.on('publish', ({ topic, payload, qos, retain }, client) => seen.push([topic, payload, qos, retain, client?.id].join(' ')))
  const peer = await join(broker, { clientId: 'one' })
  t.same(seen, [`$SYS/${broker.id}/new/clients one 0 false `])
  seen.length = 0
  peer.publish('a', '0', { retain: true })
  peer.publish('a', '1', { qos: 1, messageId: 1 })
  await peer.next('puback')
  peer.publish('a', '2', { qos: 2, messageId: 2 })
  await peer.next('pubrec')
  t.same(seen, ['a 0 0 true one', 'a 1 1 false one'])
  peer.send({ cmd: 'pubrel', messageId: 2 })
  await peer.next('pubcomp')
  await publish(broker, message('a', '3'))
  t.same(seen, ['a 0 0 true one', 'a 1 1 false one', 'a 2 2 false one', 'a 3 0 false '])
})

t.test('publish does not come for what was refused', async t => {
  const broker = await createBroker(t, { authorizePublish: (_client, _packet, done) => done(new Error('no')) })
  const peer = await join(broker, { clientId: 'one' })
  const seen = record(broker, ['publish'], event => event)
  peer.publish('a', 'x', { qos: 1, messageId: 1 })
  await peer.next('puback')
  t.same(seen, [])
})

for (const clean of [true, false]) {
  t.test(`ack: the PUBLISH for QoS 1, PUBREL for QoS 2, when the client has confirmed, clean ${clean}`, async t => {
    const broker = await createBroker(t)
    const seen: unknown[] = []
    broker.on('ack', (packet, client) => seen.push([packet, client.id]))
    const peer = await join(broker, { clientId: 'one', clean })
    await peer.subscribe('a', 2)
    await publish(broker, message('a', 'x', { qos: 1 }))
    t.equal((await peer.next('publish')).messageId, 1)
    t.same(seen, [])
    peer.send({ cmd: 'puback', messageId: 1 })
    await until(() => seen.length === 1, 'the first ack')
    t.match(seen[0], [{ cmd: 'publish', topic: 'a', qos: 1, messageId: 1 }, 'one'])

    await publish(broker, message('a', 'y', { qos: 2 }))
    t.equal((await peer.next('publish')).messageId, 2)
    peer.send({ cmd: 'pubrec', messageId: 2 })
    await peer.next('pubrel')
    t.equal(seen.length, 1)
    peer.send({ cmd: 'pubcomp', messageId: 2 })
    await until(() => seen.length === 2, 'the second ack')
    t.match(seen[1], [{ cmd: 'pubrel', messageId: 2 }, 'one'])
  })
}

t.test('ping has the packet and the client', async t => {
  const broker = await createBroker(t)
  const pinged = once(broker, 'ping')
  const peer = await join(broker, { clientId: 'one' })
  await peer.ping()
  const [packet, client] = await pinged
  t.equal(packet.cmd, 'pingreq')
  t.ok(client === peer.client)
})

t.test('subscribe has every filter with the code it was granted, after SUBACK', async t => {
  const broker = await createBroker(t, {
    authorizeSubscribe: (_client, subscription, done) => done(null, subscription.topic === 'no' ? null : subscription)
  })
  for (const [protocolVersion, refused] of [
    [4, 128],
    [5, 0x87]
  ] as const) {
    const peer = await join(broker, { clientId: 'one', protocolVersion })
    const subscribed = once(broker, 'subscribe')
    peer.send({
      cmd: 'subscribe',
      messageId: 1,
      subscriptions: [
        { topic: 'a', qos: 1, nl: false, rap: false, rh: 0 },
        { topic: 'no', qos: 0, nl: false, rap: false, rh: 0 }
      ]
    })
    const [subscriptions, client] = await subscribed
    t.match(subscriptions, [
      { topic: 'a', qos: 1 },
      { topic: 'no', qos: refused }
    ])
    t.ok(client === peer.client)
  }
})

t.test('subscribe tells a filter once that was named twice, as it is now', async t => {
  const broker = await createBroker(t)
  const peer = await join(broker, { clientId: 'one' })
  const subscribed = once(broker, 'subscribe')
  const asked = [
    { topic: 'a', qos: 1 },
    { topic: 'constructor', qos: 2 },
    { topic: 'a', qos: 0 }
  ] as const
  peer.send({ cmd: 'subscribe', messageId: 1, subscriptions: asked.map(one => ({ ...one, nl: false, rap: false, rh: 0 })) })
  t.same((await peer.next('suback')).granted, [1, 2, 0])
  const [subscriptions] = await subscribed
  t.same(subscriptions, [
    { topic: 'a', qos: 0 },
    { topic: 'constructor', qos: 2 }
  ])
})

t.test('unsubscribe has the filters, also those that were not subscribed', async t => {
  const broker = await createBroker(t)
  const peer = await join(broker, { clientId: 'one' })
  await peer.subscribe('a')
  const unsubscribed = once(broker, 'unsubscribe')
  peer.send({ cmd: 'unsubscribe', messageId: 2, unsubscriptions: ['a', 'b'] })
  await peer.next('unsuback')
  const [filters, client] = await unsubscribed
  t.same(filters, ['a', 'b'])
  t.ok(client === peer.client)
})

t.test('a session that comes back says nothing of subscriptions', async t => {
  const broker = await createBroker(t)
  const peer = await join(broker, { clientId: 'one', clean: false })
  await peer.subscribe('a', 1)
  const seen = record(broker, ['subscribe', 'unsubscribe'], event => event)
  peer.destroy()
  await until(() => peer.client.closed, 'the end of the client')
  await join(broker, { clientId: 'one', clean: false })
  t.same(seen, [])
})

t.test('sessionExpired when a session has ended by its time', async t => {
  const broker = await createBroker(t)
  const expired = once(broker, 'sessionExpired')
  const seen = record(broker, ['sessionExpired'], (_event, [client]) => (isClient(client) ? client.id : ''))
  for (const [clientId, sessionExpiryInterval] of [
    ['none', 0],
    ['short', 1],
    ['long', 1000]
  ] as const) {
    const peer = await join(broker, { clientId, protocolVersion: 5, properties: { sessionExpiryInterval } })
    peer.destroy()
  }
  await expired
  t.same(seen, ['short'])
  const { connack } = await joinWith(broker, { clientId: 'short', protocolVersion: 5, clean: false })
  t.equal(connack.sessionPresent, false)
})

t.test('a will that waits for its time when the broker stops is sent, as by Mosquitto, so that willDropped never comes', async t => {
  const broker = await Broker.createBroker()
  const seen = await listen(broker, 'w')
  const dropped = record(broker, ['willDropped'], event => event)
  const peer = await join(broker, {
    clientId: 'one',
    protocolVersion: 5,
    properties: { sessionExpiryInterval: 1000 },
    will: { topic: 'w', payload: Buffer.from('bye'), qos: 1, retain: false, properties: { willDelayInterval: 900 } }
  })
  peer.destroy()
  await until(() => peer.client.closed, 'the end of the client')
  t.same(seen, [])
  await close(broker)
  t.same(seen, ['w bye'])
  t.same(dropped, [])
})

t.test('a listener that throws harms nobody, and is told by an error event', async t => {
  const broker = await createBroker(t)
  const errors: unknown[] = []
  Reflect.apply(broker.on, broker, ['error', (error: unknown) => errors.push(error)])
  const fault = new Error('thrown by a listener')
  broker.on('ping', () => {
    throw fault
  })
  const peer = await join(broker, { clientId: 'one' })
  await peer.ping()
  await until(() => errors.length === 1, 'the error')
  t.equal(errors[0], fault)
  await peer.subscribe('a')
  await publish(broker, message('a', 'x'))
  t.equal(await received(peer), 'a x')
})
