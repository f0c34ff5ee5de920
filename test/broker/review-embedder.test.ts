// What an embedder's own code may do wrong: it costs what it was asked about, and nobody else anything.

import type { EventEmitter } from 'node:events'
import type { AedesPublishPacket, Client } from 'aedes'
import t from 'tap'
import { createBroker, join, joinWith, message, Peer, publish, received } from '../helpers/embedded.js'
import { until } from '../helpers/until.js'

t.test('a client that is closed by who is told of it leaves no dead connection in its session', async t => {
  const broker = await createBroker(t)
  let isBanned = true
  broker.on('client', (client: Client) => {
    if (isBanned && client.id === 'reader') client.close()
  })
  const banned = new Peer(broker)
  await t.rejects(banned.connect({ clientId: 'reader', clean: false }), /closed before CONNACK/)
  isBanned = false
  const reader = await join(broker, { clientId: 'reader', clean: false })
  await reader.subscribe('a', 1)
  reader.client.close()
  await reader.closed()
  isBanned = true
  await t.rejects(new Peer(broker).connect({ clientId: 'reader', clean: false }), /closed before CONNACK/)
  isBanned = false
  broker.once('clientReady', () => t.fail('nobody is ready'))
  await publish(broker, message('a', '1', { qos: 0 }))
  broker.removeAllListeners('clientReady')
  await publish(broker, message('a', '2', { qos: 1 }))
  const again = new Peer(broker)
  await again.connect({ clientId: 'reader', clean: false })
  t.equal(await received(again), 'a 2')
})

t.test('a listener that throws stops neither a take-over nor the others', async t => {
  const broker = await createBroker(t)
  const errors: unknown[] = []
  const emitter: EventEmitter = broker
  emitter.on('error', error => errors.push(error))
  broker.on('clientDisconnect', () => {
    throw new Error('listener')
  })
  broker.on('clientReady', () => {
    throw new Error('listener')
  })
  const first = await join(broker, { clientId: 'same' })
  const { connack } = await joinWith(broker, { clientId: 'same' })
  t.equal(connack.returnCode, 0)
  await first.closed()
  t.equal(broker.connectedClients, 1)
  t.ok(errors.length >= 2)
})

t.test('authorizeForward that throws keeps the message from that receiver alone', async t => {
  const broker = await createBroker(t)
  broker.authorizeForward = (client: Client, packet: AedesPublishPacket) => {
    if (client.id === 'bad') throw new Error('hook')
    return packet
  }
  const [bad, good, writer] = [
    await join(broker, { clientId: 'bad' }),
    await join(broker, { clientId: 'good', clean: false }),
    await join(broker, { clientId: 'writer' })
  ]
  await bad.subscribe('a', 1)
  await good.subscribe('a', 1)
  writer.publish('a', '1', { qos: 1, messageId: 1 })
  t.equal((await writer.next('puback')).messageId, 1)
  t.equal(await received(good), 'a 1')
  t.same(await bad.messages(), [])
})

t.test('authorizePublish that leaves a property that is none refuses, and the next packet is handled', async t => {
  const broker = await createBroker(t)
  broker.authorizePublish = (_client, packet, done) => {
    if (packet.topic === 'bad') Object.assign(packet, { properties: { contentType: 7 } })
    done(null)
  }
  const client = await join(broker, { clientId: 'c' })
  await client.subscribe('#')
  client.publish('bad', '1')
  client.publish('good', '2')
  t.equal(await received(client), 'good 2')
})

t.test('hooks that are async functions and reject have refused', async t => {
  const broker = await createBroker(t)
  const fail = async () => {
    throw new Error('hook')
  }
  broker.authenticate = fail
  const { connack } = await joinWith(broker, { clientId: 'c' })
  t.equal(connack.returnCode, 5)
  broker.authenticate = (_client, _username, _password, done) => done(null, true)
  broker.authorizePublish = fail
  const client = await join(broker, { clientId: 'd' })
  client.publish('a', '1', { qos: 1, messageId: 1 })
  await client.next('puback')
  t.pass('it was answered')
})

t.test('a hook that publishes while a message is on its way mixes up neither', async t => {
  const broker = await createBroker(t)
  broker.authorizeForward = (client: Client, packet: AedesPublishPacket) => {
    if (client.id === 'second' && packet.topic === 'a') broker.publish(message('b', 'inner', { qos: 1 }), () => {})
    return packet
  }
  const [first, second] = [
    await join(broker, { clientId: 'first', clean: false }),
    await join(broker, { clientId: 'second', clean: false })
  ]
  for (const peer of [first, second]) {
    await peer.subscribe('a', 1)
    await peer.subscribe('b', 1)
  }
  await publish(broker, message('a', 'outer', { qos: 1 }))
  await until(() => first.packets.length >= 2 && second.packets.length >= 2)
  const seen = (peer: Peer) =>
    peer.packets.map(packet => (packet.cmd === 'publish' ? `${packet.topic} ${packet.payload}` : packet.cmd)).sort()
  t.same(seen(first), ['a outer', 'b inner'])
  t.same(seen(second), ['a outer', 'b inner'])
})
