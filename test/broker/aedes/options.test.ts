// Every option of aedes' createBroker, with what it does here. Absent options mean Mosquitto's defaults.

import { once } from 'node:events'
import type { AedesOptions } from 'aedes'
import t from 'tap'
import { createBroker, gate, join, joinWith, listen, message, Peer, publish, received } from '../../helpers/embedded.js'
import { until } from '../../helpers/mqtt.js'

t.test("without options MQTT 5 clients are told Mosquitto's limits", async t => {
  const broker = await createBroker(t)
  const { connack } = await joinWith(broker, { clientId: 'one', protocolVersion: 5 })
  const { topicAliasMaximum, maximumPacketSize, receiveMaximum } = connack.properties ?? {}
  t.same(
    { topicAliasMaximum, maximumPacketSize, receiveMaximum },
    { topicAliasMaximum: 10, maximumPacketSize: 2_000_000, receiveMaximum: 20 }
  )
})

t.test('topicAliasMaximum, maximumPacketSize and receiveMaximum are announced and kept', async t => {
  const broker = await createBroker(t, { topicAliasMaximum: 3, maximumPacketSize: 200, receiveMaximum: 5 })
  const { peer, connack } = await joinWith(broker, { clientId: 'one', protocolVersion: 5 })
  const { topicAliasMaximum, maximumPacketSize, receiveMaximum } = connack.properties ?? {}
  t.same({ topicAliasMaximum, maximumPacketSize, receiveMaximum }, { topicAliasMaximum: 3, maximumPacketSize: 200, receiveMaximum: 5 })

  await peer.subscribe('#')
  peer.publish('a', '1', { properties: { topicAlias: 3 } })
  t.equal(await received(peer), 'a 1')
  peer.publish('', '2', { properties: { topicAlias: 3 } })
  t.equal(await received(peer), 'a 2')
  peer.publish('b', '3', { properties: { topicAlias: 4 } })
  t.equal((await peer.next('disconnect')).reasonCode, 0x94)
  await peer.closed()
})

t.test('0 is no alias, no limit of packets and no window', async t => {
  const broker = await createBroker(t, { topicAliasMaximum: 0, maximumPacketSize: 0, receiveMaximum: 0 })
  const { peer, connack } = await joinWith(broker, { clientId: 'one', protocolVersion: 5 })
  const { topicAliasMaximum, maximumPacketSize, receiveMaximum } = connack.properties ?? {}
  t.same([topicAliasMaximum, maximumPacketSize, receiveMaximum], [undefined, undefined, undefined])
  await peer.subscribe('#', 1)
  for (let i = 0; i < 100; i++) await publish(broker, message('a', String(i), { qos: 1 }))
  t.equal((await peer.messages()).length, 100)
  for (let i = 1; i <= 100; i++) {
    peer.publish('b', 'held', { qos: 2, messageId: i })
    t.match(await peer.next('pubrec'), { messageId: i, reasonCode: 0 })
  }
  peer.publish('c', 'x'.repeat(3_000_000))
  t.equal((await peer.next('publish')).payload.length, 3_000_000)
  peer.publish('d', 'x', { properties: { topicAlias: 1 } })
  t.equal((await peer.next('disconnect')).reasonCode, 0x94)
})

t.test('maximumPacketSize: what is larger ends its connection, and clientError says by how much', async t => {
  const broker = await createBroker(t, { maximumPacketSize: 200 })
  for (const protocolVersion of [4, 5] as const) {
    const peer = await join(broker, { clientId: 'large', protocolVersion })
    const failed = new Promise<Error>(resolve => broker.once('clientError', (_client, error) => resolve(error)))
    peer.publish('a', 'x'.repeat(300))
    t.match(await failed, { message: 'packet too large', maximumPacketSize: 200, size: protocolVersion === 5 ? 307 : 306 })
    if (protocolVersion === 5) t.equal((await peer.next('disconnect')).reasonCode, 0x95)
    await peer.closed()
  }
})

t.test('keepaliveLimit: MQTT 5 clients are told it, others are refused as Mosquitto does', async t => {
  const broker = await createBroker(t, { keepaliveLimit: 60 })
  for (const keepalive of [0, 61]) {
    const { connack } = await joinWith(broker, { clientId: 'new', protocolVersion: 5, keepalive })
    t.equal(connack.properties?.serverKeepAlive, 60)
    const failed = new Promise<Error>(resolve => broker.once('connectionError', (_client, error) => resolve(error)))
    const { peer, connack: refusal } = await joinWith(broker, { clientId: 'old', keepalive })
    t.equal(refusal.returnCode, 2)
    await peer.closed()
    t.equal((await failed).message, 'keep alive limit exceeded')
  }
  const { connack } = await joinWith(broker, { clientId: 'new', protocolVersion: 5, keepalive: 60 })
  t.equal(connack.properties?.serverKeepAlive, undefined)
  t.equal((await joinWith(broker, { clientId: 'old', keepalive: 60 })).connack.returnCode, 0)
})

t.test('connectTimeout: who says nothing is closed, with a connectionError', async t => {
  const broker = await createBroker(t, { connectTimeout: 20 })
  const peer = new Peer(broker)
  const [client, error] = await once(broker, 'connectionError')
  t.ok(client === peer.client)
  t.equal(error.message, 'connect did not arrive in time')
  await peer.closed()
  const quick = await join(broker, { clientId: 'quick' })
  const other = new Peer(broker)
  await other.closed()
  await quick.ping()
})

t.test("heartbeatInterval: the broker's heartbeat, for other brokers and for broker.subscribe", async t => {
  const broker = await createBroker(t, { id: 'beating', heartbeatInterval: 10 })
  const beats = await listen(broker, '$SYS/+/heartbeat')
  await until(() => beats.length >= 2, 'two heartbeats')
  t.same(beats.slice(0, 2), ['$SYS/beating/heartbeat beating', '$SYS/beating/heartbeat beating'])
})

t.test('maxClientsIdLength: a limit for MQTT 3.1 when it is given; Mosquitto has none', async t => {
  const clientId = 'x'.repeat(24)
  const open = await createBroker(t)
  t.equal((await joinWith(open, { clientId, protocolVersion: 3 })).connack.returnCode, 0)
  const strict = await createBroker(t, { maxClientsIdLength: 23 })
  const failed = new Promise<Error>(resolve => strict.once('connectionError', (_client, error) => resolve(error)))
  t.equal((await joinWith(strict, { clientId, protocolVersion: 3 })).connack.returnCode, 2)
  t.equal((await failed).message, 'identifier rejected')
  t.equal((await joinWith(strict, { clientId, protocolVersion: 4 })).connack.returnCode, 0)
  t.equal((await joinWith(strict, { clientId: 'x'.repeat(23), protocolVersion: 3 })).connack.returnCode, 0)
})

t.test('maxTopicLevels counts for the filters of broker.subscribe alone: a topic has up to 200 slashes', async t => {
  const broker = await createBroker(t, { maxTopicLevels: 2 })
  const deep = `a${'/a'.repeat(200)}`
  const told = await new Promise<unknown>(resolve => Reflect.apply(broker.subscribe, broker, ['a/b/c', () => {}, resolve]))
  t.match(told, { message: 'topic has too many levels' })
  const seen = await listen(broker, 'a/#')
  const peer = await join(broker, { clientId: 'one' })
  await peer.subscribe(deep)
  await publish(broker, message(deep, 'broker'))
  peer.publish(deep, 'client')
  const other = await join(broker, { clientId: 'other', will: { topic: deep, payload: Buffer.from('will'), qos: 0, retain: false } })
  for (const payload of ['broker', 'client']) t.equal(await received(peer), `${deep} ${payload}`)
  other.destroy()
  t.equal(await received(peer), `${deep} will`)
  t.same(
    seen,
    ['broker', 'client', 'will'].map(payload => `${deep} ${payload}`)
  )
  peer.publish(`${deep}/a`, 'x')
  await peer.closed()
})

t.test('sessionExpiryIntervalLimit: longer sessions are cut, and their clients told', async t => {
  const broker = await createBroker(t, { sessionExpiryIntervalLimit: 100 })
  for (const [asked, told] of [
    [50, undefined],
    [100, undefined],
    [101, 100],
    [0xffffffff, 100]
  ] as const) {
    const { peer, connack } = await joinWith(broker, {
      clientId: 'one',
      protocolVersion: 5,
      properties: { sessionExpiryInterval: asked }
    })
    t.equal(connack.properties?.sessionExpiryInterval, told)
    t.equal(peer.client.sessionExpiryInterval, told ?? asked)
    t.equal(peer.client.clean, false)
  }
})

t.test('pendingSessionsLimit: sessions beyond it end with their connection, and sessionLimitReached says so', async t => {
  const broker = await createBroker(t, { pendingSessionsLimit: 1 })
  const reached: string[] = []
  broker.on('sessionLimitReached', (client, { reason, limit }) => reached.push(`${client.id} ${reason} ${limit}`))
  for (const clientId of ['first', 'second']) {
    const peer = await join(broker, { clientId, protocolVersion: 5, properties: { sessionExpiryInterval: 1000 } })
    const gone = once(broker, 'clientDisconnect')
    peer.send({ cmd: 'disconnect', reasonCode: 0 })
    await gone
  }
  await until(() => reached.length > 0, 'sessionLimitReached')
  t.same(reached, ['second sessionExpiry 1'])
  const resume = async (clientId: string) => {
    const { peer, connack } = await joinWith(broker, { clientId, protocolVersion: 5, clean: false })
    peer.destroy()
    return connack.sessionPresent
  }
  t.same([await resume('first'), await resume('second')], [true, false])
})

t.test('pendingSessionsLimit: a delayed will beyond it is published at once', async t => {
  const broker = await createBroker(t, { pendingSessionsLimit: 1 })
  const wills = await listen(broker, 'will/+')
  const reached = once(broker, 'sessionLimitReached')
  for (const clientId of ['first', 'second']) {
    const peer = await join(broker, {
      clientId,
      protocolVersion: 5,
      properties: { sessionExpiryInterval: 1000 },
      will: { topic: `will/${clientId}`, payload: Buffer.from('bye'), qos: 0, retain: false, properties: { willDelayInterval: 900 } }
    })
    const gone = once(broker, 'clientDisconnect')
    peer.destroy()
    await gone
  }
  await reached
  await until(() => wills.length > 0, 'a will')
  t.same(wills, ['will/second bye'])
})

const responseInformation: readonly [string, NonNullable<AedesOptions['responseInformation']> | null, string | undefined][] = [
  ['a string', 'base/', 'base/'],
  ['a function of the client', client => `base/${client.id}/`, 'base/asking/'],
  ['a function that declines', () => undefined, undefined],
  ['null', null, undefined]
]
for (const [name, option, told] of responseInformation) {
  t.test(`responseInformation as ${name} is for those who ask`, async t => {
    const broker = await createBroker(t, { responseInformation: option })
    const { connack } = await joinWith(broker, {
      clientId: 'asking',
      protocolVersion: 5,
      properties: { requestResponseInformation: true }
    })
    t.equal(connack.properties?.responseInformation, told)
    const { connack: other } = await joinWith(broker, { clientId: 'other', protocolVersion: 5 })
    t.equal(other.properties?.responseInformation, undefined)
  })
}

t.test('responseInformation that throws is a clientError and keeps nobody out', async t => {
  const broker = await createBroker(t, {
    responseInformation: () => {
      throw new Error('no answer')
    }
  })
  const failed = new Promise<string>(resolve => broker.once('clientError', (_client, error) => resolve(error.message)))
  const { connack } = await joinWith(broker, {
    clientId: 'asking',
    protocolVersion: 5,
    properties: { requestResponseInformation: true }
  })
  t.equal(connack.reasonCode, 0)
  t.equal(await failed, 'no answer')
})

t.test('queueLimit has nothing left to limit: what follows CONNECT waits unread until the client is let in', async t => {
  const { opened, open } = gate()
  const broker = await createBroker(t, {
    queueLimit: 1,
    authenticate: (_client, _username, _password, done) => void opened.then(() => done(null, true))
  })
  const seen = await listen(broker, 'n')
  const peer = new Peer(broker)
  peer.send({ cmd: 'connect', clientId: 'eager', protocolId: 'MQTT', protocolVersion: 4, clean: true, keepalive: 0 })
  for (let i = 0; i < 100; i++) peer.publish('n', String(i))
  await new Promise(resolve => setImmediate(resolve))
  t.same(seen, [])
  open()
  await peer.next('connack')
  await peer.ping()
  t.same(
    seen,
    Array.from({ length: 100 }, (_, i) => `n ${i}`)
  )
})

t.test('concurrency and drainTimeout have nothing left to limit: a client that stops reading holds up nobody', async t => {
  const broker = await createBroker(t, { concurrency: 1, drainTimeout: 0 })
  const frozen = await join(broker, { clientId: 'frozen' })
  await frozen.subscribe('a')
  frozen.stream.pause()
  const reader = await join(broker, { clientId: 'reader' })
  await reader.subscribe('a', 1)
  const payload = 'x'.repeat(100_000)
  for (let i = 0; i < 50; i++) await publish(broker, message('a', payload))
  for (let i = 0; i < 50; i++) t.equal((await reader.next('publish')).payload.length, payload.length)
})

t.test('decodeProtocol, trustProxy and trustedProxies are taken and do nothing, as in aedes', async t => {
  const broker = await createBroker(t, { decodeProtocol: () => t.fail('called'), trustProxy: true, trustedProxies: ['127.0.0.1'] })
  await join(broker, { clientId: 'one' })
})
