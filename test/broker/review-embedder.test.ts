// What an embedder's own code may do wrong: it costs what it was asked about, and nobody else anything.

import type { EventEmitter } from 'node:events'
import { createRequire } from 'node:module'
import type { AedesOptions, AedesPublishPacket, Client } from 'aedes'
import t from 'tap'
import { createBroker, errorsOf, join, joinWith, message, Peer, publish, received } from '../helpers/embedded.js'
import { until } from '../helpers/until.js'

const memoryPersistence: () => NonNullable<AedesOptions['persistence']> = createRequire(import.meta.url)('aedes-persistence')

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

t.test('a hook of a program in JavaScript refuses with whatever is true', async t => {
  // What its types would not let through.
  const say = (done: object, ...answer: unknown[]) => Reflect.apply(Function.prototype.call, done, [undefined, ...answer])
  const broker = await createBroker(t, {
    authenticate: (_client, username, _password, done) => say(done, username === 'text' ? 'no' : undefined, username !== 'text'),
    authorizePublish: (_client, packet, done) => say(done, { text: 'no', object: { code: 5 } }[packet.topic]),
    authorizeSubscribe: (_client, subscription, done) => say(done, subscription.topic === 'object' && { message: 'no' }, subscription)
  })
  const errors: unknown[] = []
  broker.on('clientError', (_client, error) => errors.push(error instanceof Error))
  const client = await join(broker, { clientId: 'c' })
  for (const [i, topic] of ['text', 'object', 'right'].entries()) client.publish(topic, 'x', { qos: 1, messageId: i + 1 })
  for (const messageId of [1, 2, 3]) t.equal((await client.next('puback')).messageId, messageId)
  t.same(errors, [true, true])
  t.equal((await new Peer(broker).connect({ clientId: 'r', username: 'text' })).returnCode, 5)
})

for (const [how, fail] of [
  [
    'throws',
    (error: Error) => {
      throw error
    }
  ],
  [
    'rejects',
    async (error: Error) => {
      throw error
    }
  ]
] as const) {
  t.test(`a hook that ${how} behind its answer has answered: the error is told, and nobody is closed`, async t => {
    const broker = await createBroker(t, {
      preConnect: (_client, _packet, done) => {
        done(null, true)
        return fail(new Error('preConnect'))
      },
      authenticate: (_client, _username, _password, done) => {
        done(null, true)
        return fail(new Error('authenticate'))
      },
      authorizeSubscribe: (_client, subscription, done) => {
        done(null, subscription)
        return fail(new Error('authorizeSubscribe'))
      },
      authorizePublish: (_client, { topic }, done) => {
        done(null)
        return fail(new Error(`authorizePublish ${topic}`))
      },
      published: ({ topic }, _client, done) => {
        done()
        return topic.length === 1 ? fail(new Error(`published ${topic}`)) : undefined
      }
    })
    const errors = errorsOf(broker)
    broker.on('clientError', (_client, error) => t.fail(error.message))
    const client = await join(broker, { clientId: 'c', will: { topic: 'w', payload: Buffer.from('bye'), qos: 0, retain: false } })
    const watcher = await join(broker, { clientId: 'd' })
    await watcher.subscribe('+')
    client.publish('a', '1', { qos: 1, messageId: 1 })
    await client.next('puback')
    t.equal(await received(watcher), 'a 1')
    client.publish('b', '2')
    t.equal(await received(watcher), 'b 2')
    client.destroy()
    t.equal(await received(watcher), 'w bye')
    await watcher.ping()
    t.same(errors.map(error => error.message).sort(), [
      ...['authenticate', 'authenticate', 'authorizePublish a', 'authorizePublish b', 'authorizePublish w', 'authorizeSubscribe'],
      ...['preConnect', 'preConnect', 'published a', 'published b', 'published w']
    ])
  })
}

t.test('a callback that throws is told of, and nobody pays for it', async t => {
  const broker = await createBroker(t)
  const errors = errorsOf(broker)
  const peer = await join(broker, { clientId: 'c' })
  const fail = () => {
    throw new Error('callback')
  }
  broker.publish(message('a', 'x', { qos: 1 }), fail)
  peer.client.publish(message('a', 'x'), fail)
  peer.client.publish(message('a', 'x', { qos: 2 }), fail)
  peer.client.subscribe({ topic: 'a', qos: 0, nl: false, rap: false, rh: 0 }, fail)
  await until(() => errors.length === 4)
  t.equal((await peer.messages()).length, 2)
  await peer.ping()
})

t.test('what nobody hears of is a warning of the process, which goes on', async t => {
  const warnings: string[] = []
  const warned = ({ name, message }: Error) => warnings.push(`${name}: ${message}`)
  process.on('warning', warned)
  t.teardown(() => process.off('warning', warned))
  const broker = await createBroker(t)
  broker.on('client', () => {
    throw new Error('listener')
  })
  const peer = await join(broker, { clientId: 'c' })
  await peer.ping()
  await until(() => warnings.length > 0)
  t.same(warnings, ['MosquiteroWarning: Error: The program that embeds the broker failed: listener'])
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

for (const [how, fail] of Object.entries({
  throws: () => {
    throw new Error('hook')
  },
  rejects: async () => {
    throw new Error('hook')
  },
  'answers with a topic that is none': (packet: AedesPublishPacket) => ({ ...packet, topic: 'a/#' }),
  'answers with no topic': (packet: AedesPublishPacket) => ({ ...packet, topic: undefined }),
  'answers with a number for a topic': (packet: AedesPublishPacket) => ({ ...packet, topic: 5 }),
  'answers with a property that is none': (packet: AedesPublishPacket) => ({ ...packet, properties: { responseTopic: 5 } })
})) {
  t.test(`authorizeForward that ${how} for one stored session takes the message from no other, and fills no queue`, async t => {
    const persistence = memoryPersistence()
    const broker = await createBroker(t, { persistence })
    const failed: string[] = []
    broker.on('clientError', client => {
      failed.push(client.id)
      // Nor does a listener that throws.
      throw new Error('listener')
    })
    const ids = ['before', 'bad', 'behind', 'away']
    const peers = new Map<string, Peer>()
    for (const clientId of ids) {
      const peer = await join(broker, { clientId, clean: false })
      await peer.subscribe('a', 1)
      peers.set(clientId, peer)
    }
    peers.get('away')?.destroy()
    await until(() => peers.get('away')?.client.closed === true)
    Reflect.set(broker, 'authorizeForward', (client: Client, packet: AedesPublishPacket) => (client.id === 'bad' ? fail(packet) : packet))
    const writer = await join(broker, { clientId: 'writer' })
    for (let i = 1; i <= 30; i++) {
      writer.publish('a', String(i), { qos: 1, retain: i === 30, messageId: i })
      t.equal((await writer.next('puback')).messageId, i)
      for (const clientId of ['before', 'behind']) {
        const peer = peers.get(clientId)
        const { payload, messageId = 0 } = (await peer?.next('publish')) ?? {}
        t.equal(String(payload), String(i))
        peer?.send({ cmd: 'puback', messageId })
      }
    }
    await until(() => failed.length === 30)
    t.same([...new Set(failed)], ['bad'])
    t.same(await peers.get('bad')?.messages(), [])
    // With rights again it gets the next one at once: nothing of the others stands in its queue.
    Reflect.set(broker, 'authorizeForward', (_client: Client, packet: AedesPublishPacket) => packet)
    writer.publish('a', 'last', { qos: 1, messageId: 31 })
    t.equal(await received(peers.get('bad') ?? writer), 'a last')
    const away = await join(broker, { clientId: 'away', clean: false })
    for (let i = 1; i <= 31; i++) {
      const { payload, messageId = 0 } = await away.next('publish')
      t.equal(String(payload), i === 31 ? 'last' : String(i))
      away.send({ cmd: 'puback', messageId })
    }
  })
}

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
