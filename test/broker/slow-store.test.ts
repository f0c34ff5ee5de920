// What a store that takes its time, or is in trouble, may not do: nothing is acknowledged before it is kept, nothing is overtaken for good,
// and there is one connection for an identifier.

import { setTimeout as pause } from 'node:timers/promises'
import t from 'tap'
import { startBareBroker } from '../helpers/bare-broker.js'
import { type Gate, gated, openGate, openMemory } from '../helpers/gated-persistence.js'
import type { MqttClient } from '../helpers/mqtt.js'
import { below, seededRandom } from '../helpers/raw-mqtt.js'
import { until } from '../helpers/until.js'

async function awayReader(connect: () => Promise<MqttClient>): Promise<void> {
  const reader = await connect()
  await reader.connect({ clientId: 'reader', clean: false })
  await reader.subscribe('a', 2)
  reader.destroy()
}

const acknowledgements = ({ packets }: MqttClient) =>
  packets.filter(({ cmd }) => cmd === 'puback' || cmd === 'pubcomp').map(({ cmd }) => cmd)

t.test('a message for a session that is kept is acknowledged when the store has it, not before', async t => {
  const store = openGate()
  const { connect } = await startBareBroker(t, { persistence: gated(store.gate) })
  await awayReader(connect)
  const [writer, other] = [await connect(), await connect()]
  await writer.connect({ clientId: 'writer' })
  await other.connect({ clientId: 'other' })
  store.shut()
  writer.publish('a', '1', { qos: 1, messageId: 1 })
  await until(() => store.waiting > 0)
  // Others are not held up by it, and the broker is seen to live.
  await other.ping()
  await writer.ping()
  t.same(acknowledgements(writer), [])
  store.open()
  await until(() => acknowledgements(writer).length > 0)
  t.same(acknowledgements(writer), ['puback'])
})

t.test('the end of a QoS 2 handshake comes when the store has the message', async t => {
  const store = openGate()
  const { connect } = await startBareBroker(t, { persistence: gated(store.gate) })
  await awayReader(connect)
  const [writer, other] = [await connect(), await connect()]
  await writer.connect({ clientId: 'writer' })
  await other.connect({ clientId: 'other' })
  writer.publish('a', '1', { qos: 2, messageId: 1 })
  await writer.next('pubrec')
  store.shut()
  writer.send({ cmd: 'pubrel', messageId: 1 })
  await until(() => store.waiting > 0)
  await other.ping()
  t.same(acknowledgements(writer), [])
  store.open()
  await until(() => acknowledgements(writer).length > 0)
  t.same(acknowledgements(writer), ['pubcomp'])
})

type Step = (peer: MqttClient) => void

const prepare: Step = peer => peer.publish('held', 'x', { qos: 2, messageId: 9 })
const one = { topic: 'a', qos: 2, nl: false, rap: false, rh: 0 } as const
for (const [what, cmd, ask] of [
  ['PUBACK of a retained message', 'puback', peer => peer.publish('kept', 'x', { qos: 1, messageId: 1, retain: true })],
  ['PUBREC', 'pubrec', peer => peer.publish('a', 'x', { qos: 2, messageId: 1 })],
  ['PUBCOMP', 'pubcomp', peer => peer.send({ cmd: 'pubrel', messageId: 9 })],
  ['SUBACK', 'suback', peer => peer.send({ cmd: 'subscribe', messageId: 1, subscriptions: [one] })],
  ['UNSUBACK', 'unsuback', peer => peer.send({ cmd: 'unsubscribe', messageId: 1, unsubscriptions: ['b'] })],
  ['PUBREL', 'pubrel', peer => peer.send({ cmd: 'pubrec', messageId: 1 })]
] satisfies readonly (readonly [string, string, Step])[]) {
  t.test(`what ${what} promises is in the store when it is sent`, async t => {
    const store = openGate()
    const { connect } = await startBareBroker(t, { persistence: gated(store.gate) })
    const [peer, other] = [await connect(), await connect()]
    await other.connect({ clientId: 'other' })
    await peer.connect({ clientId: 'kept', clean: false })
    await peer.subscribe('b', 2)
    prepare(peer)
    await peer.next('pubrec')
    other.publish('b', 'x', { qos: 2, messageId: 1 })
    await other.next('pubrec')
    other.send({ cmd: 'pubrel', messageId: 1 })
    await other.next('pubcomp')
    t.equal((await peer.next('publish')).messageId, 1)
    store.shut()
    ask(peer)
    await until(() => store.waiting > 0)
    await peer.ping()
    await other.ping()
    t.notOk(peer.packets.some(packet => packet.cmd === cmd))
    store.open()
    await until(() => peer.packets.some(packet => packet.cmd === cmd))
  })
}

t.test('CONNACK says that a session is kept when the store has it', async t => {
  const store = openGate()
  const { connect } = await startBareBroker(t, { persistence: gated(store.gate) })
  const [peer, other] = [await connect(), await connect()]
  await other.connect({ clientId: 'other' })
  store.shut()
  peer.send({ cmd: 'connect', clientId: 'kept', protocolId: 'MQTT', protocolVersion: 4, clean: false, keepalive: 0 })
  await until(() => store.waiting > 0)
  await other.ping()
  t.same(peer.packets, [])
  store.open()
  t.equal((await peer.next('connack')).returnCode, 0)
})

t.test('nothing comes before CONNACK: neither what is queued nor what is published while the store keeps it waiting', async t => {
  const store = openGate()
  const { connect } = await startBareBroker(t, { persistence: gated(store.gate) })
  await awayReader(connect)
  const [reader, writer] = [await connect(), await connect()]
  await writer.connect({ clientId: 'writer' })
  writer.publish('a', 'queued', { qos: 1, messageId: 1 })
  await writer.next('puback')
  store.shut()
  reader.send({ cmd: 'connect', clientId: 'reader', protocolId: 'MQTT', protocolVersion: 4, clean: false, keepalive: 0 })
  await until(() => store.waiting > 0)
  writer.publish('a', 'live')
  writer.publish('a', 'stored', { qos: 1, messageId: 2 })
  await writer.ping()
  t.same(reader.packets, [])
  store.open()
  t.equal((await reader.next('connack')).sessionPresent, true)
  const payloads = [String((await reader.next('publish')).payload), String((await reader.next('publish')).payload)]
  t.same(payloads, ['queued', 'stored'])
})

t.test('a slow QoS 1 message that a QoS 0 one overtakes still arrives', async t => {
  const store = openGate()
  const { connect } = await startBareBroker(t, { persistence: gated(store.gate) })
  await awayReader(connect)
  const [online, slow, fast] = [await connect(), await connect(), await connect()]
  // Its session is kept: what has QoS 1 comes when the store has it, what has QoS 0 at once.
  await online.connect({ clientId: 'online', clean: false })
  await online.subscribe('#', 1)
  await slow.connect({ clientId: 'slow' })
  await fast.connect({ clientId: 'fast' })
  store.shut()
  slow.publish('a', 'slow', { qos: 1, messageId: 1 })
  await until(() => store.waiting > 0)
  fast.publish('b', 'fast')
  await fast.ping()
  store.open()
  const payloads = [await online.next('publish'), await online.next('publish')].map(({ payload }) => String(payload))
  t.same(payloads, ['fast', 'slow'])
  const reader = await connect()
  await reader.connect({ clientId: 'reader', clean: false })
  t.equal(String((await reader.next('publish')).payload), 'slow')
})

t.test('what comes while a CONNACK waits for the store comes behind it', async t => {
  const store = openGate()
  const { connect } = await startBareBroker(t, { persistence: gated(store.gate) })
  await awayReader(connect)
  const [reader, writer] = [await connect(), await connect()]
  await writer.connect({ clientId: 'writer' })
  store.shut()
  const connected = reader.connect({ clientId: 'reader', clean: false })
  await until(() => store.waiting > 0)
  writer.publish('a', 'now or never')
  writer.publish('a', 'kept', { qos: 1, messageId: 1 })
  writer.publish('a', 'kept too', { qos: 2, messageId: 2 })
  writer.send({ cmd: 'pubrel', messageId: 2 })
  await writer.ping()
  t.equal(reader.takeBytes(), '')
  store.open()
  t.match(await connected, { returnCode: 0, sessionPresent: true })
  t.equal(String((await reader.next('publish')).payload), 'kept')
  t.equal(String((await reader.next('publish')).payload), 'kept too')
})

t.test('the order of one publisher is kept, however long each step of the store takes', async t => {
  const random = seededRandom(1)
  const { connect } = await startBareBroker(t, { persistence: gated(() => pause(below(random, 4))) })
  await awayReader(connect)
  const writer = await connect()
  await writer.connect({ clientId: 'writer' })
  // A few at a time, so that there are many commits.
  for (let i = 1; i <= 20; i++) {
    writer.publish('a', String(i), { qos: 1, messageId: i })
    if (i % 3 === 0) await pause(1)
  }
  for (let i = 1; i <= 20; i++) t.equal((await writer.next('puback')).messageId, i)
  const reader = await connect()
  await reader.connect({ clientId: 'reader', clean: false })
  for (let i = 1; i <= 20; i++) {
    const { payload, messageId = 0 } = await reader.next('publish')
    t.equal(String(payload), String(i))
    reader.send({ cmd: 'puback', messageId })
  }
})

t.test('a store that refuses for a while delays the acknowledgement, and loses nothing', async t => {
  let refusals = 0
  const refuse: Gate = method => {
    if (/^outgoingEnqueue/.test(method) && refusals++ < 2) throw new Error('not now')
  }
  const { connect } = await startBareBroker(t, { persistence: gated(refuse) })
  await awayReader(connect)
  const writer = await connect()
  await writer.connect({ clientId: 'writer' })
  writer.publish('a', '1', { qos: 1, messageId: 1 })
  await writer.next('puback')
  t.ok(refusals > 2)
  const reader = await connect()
  await reader.connect({ clientId: 'reader', clean: false })
  t.equal(String((await reader.next('publish')).payload), '1')
})

t.test('a publisher that the store keeps waiting is not read without end, and loses nothing', async t => {
  const count = 4000
  const store = openGate()
  const { connect } = await startBareBroker(t, { persistence: gated(store.gate), limits: { maxQueuedMessages: 0 } })
  await awayReader(connect)
  const [online, writer, other] = [await connect(), await connect(), await connect()]
  await online.connect({ clientId: 'online' })
  await online.subscribe('a')
  await writer.connect({ clientId: 'writer' })
  await other.connect({ clientId: 'other' })
  store.shut()
  for (let i = 1; i <= count; i++) writer.publish('a', `${i}`, { qos: 1, messageId: i })
  // What is read reaches who is here.
  await until(() => online.packets.length >= 1000)
  for (let i = 0; i < 20; i++) await other.ping()
  t.ok(online.packets.length < 1100, `${online.packets.length} were read`)
  t.same(acknowledgements(writer), [])
  store.open()
  await until(() => acknowledgements(writer).length === count)
})

t.test('retained messages of QoS 0, which nobody acknowledges, are not read faster than the store takes them either', async t => {
  const store = openGate()
  const { connect } = await startBareBroker(t, { persistence: gated(store.gate) })
  const [online, writer, other] = [await connect(), await connect(), await connect()]
  await online.connect({ clientId: 'online' })
  await online.subscribe('a')
  await writer.connect({ clientId: 'writer' })
  await other.connect({ clientId: 'other' })
  store.shut()
  for (let i = 1; i <= 4000; i++) writer.publish('a', `${i}`, { retain: true })
  await until(() => online.packets.length >= 900)
  for (let i = 0; i < 20; i++) await other.ping()
  t.ok(online.packets.length < 1100, `${online.packets.length} were read`)
  store.open()
  await until(() => online.packets.length === 4000)
})

t.test('a queue that could not be read is read as soon as it can be, without anything else having to happen', async t => {
  let isAway = false
  const memory = openMemory()
  let refusals = 0
  const persistence = new Proxy(memory, {
    get(target, name) {
      const found: unknown = Reflect.get(target, name)
      if (typeof found !== 'function') return found
      return (...args: readonly unknown[]) => {
        if (name !== 'outgoingStream' || !isAway) return Reflect.apply(found, target, args)
        refusals += 1
        throw new Error('not now')
      }
    }
  })
  const { connect } = await startBareBroker(t, { persistence })
  await awayReader(connect)
  const writer = await connect()
  await writer.connect({ clientId: 'writer' })
  writer.publish('a', '1', { qos: 1, messageId: 1 })
  await writer.next('puback')
  isAway = true
  const reader = await connect()
  await reader.connect({ clientId: 'reader', clean: false })
  await until(() => refusals > 0)
  isAway = false
  t.equal(String((await reader.next('publish')).payload), '1')
})

t.test('a store that is there and silent is named in the log once, and once more when it answers', async t => {
  const store = openGate()
  const { connect, log } = await startBareBroker(t, { persistence: gated(store.gate) })
  await awayReader(connect)
  const writer = await connect()
  await writer.connect({ clientId: 'writer' })
  store.shut()
  writer.publish('a', '1', { qos: 1, messageId: 1 })
  await until(() => store.waiting > 0)
  const said = () => log.lines.filter(line => /store/i.test(line))
  const { now } = performance
  let jump = 60_000
  t.teardown(() => {
    performance.now = now
  })
  performance.now = () => now.call(performance) + jump
  await until(() => said().length > 0)
  jump += 60_000
  store.open()
  await writer.next('puback')
  await until(() => said().length > 1)
  t.match(said(), [
    /^Warning: The store has not answered for 6\d seconds: messages of QoS 1 and 2 wait for it, unacknowledged\.$/,
    /^The store answers again after 12\d seconds\.$/
  ])
})

t.test('six connections at once with one identifier, and a store that takes up to 10 ms: one stays, the count is right', async t => {
  const random = seededRandom(2)
  const { broker, connect } = await startBareBroker(t, { persistence: gated(() => pause(below(random, 10))) })
  for (let round = 0; round < 20; round++) {
    const clients = await Promise.all(Array.from({ length: 6 }, () => connect()))
    // Five get a CONNACK or are closed before it; one stays.
    await Promise.allSettled(clients.map(client => client.connect({ clientId: 'same', clean: round % 2 === 0 })))
    await until(() => clients.filter(({ stream }) => stream.closed).length === 5)
    t.equal(broker.connectedClients, 1, `round ${round}`)
    for (const client of clients) client.destroy()
    await until(() => broker.connectedClients === 0)
  }
})
