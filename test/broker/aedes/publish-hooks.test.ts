// authorizePublish, authorizeForward and published, as options and assigned later.

import type { AedesOptions, AedesPublishPacket, Client, PublishPacket } from 'aedes'
import t from 'tap'
import { createBroker, gate, join, listen, message, type Peer, publish, received } from '../../helpers/embedded.js'
import { until } from '../../helpers/mqtt.js'

type AuthorizePublish = NonNullable<AedesOptions['authorizePublish']>
type AuthorizeForward = NonNullable<AedesOptions['authorizeForward']>
type Published = NonNullable<AedesOptions['published']>

t.test('authorizePublish gets the client and the packet as it came', async t => {
  const seen: [Client | null, PublishPacket][] = []
  const broker = await createBroker(t, {
    authorizePublish: (client, packet, done) => {
      seen.push([client, packet])
      done(null)
    }
  })
  const peer = await join(broker, { clientId: 'one', protocolVersion: 5 })
  peer.publish('a/b', 'x', {
    qos: 1,
    retain: true,
    messageId: 9,
    properties: { contentType: 'text', messageExpiryInterval: 60, userProperties: { k: 'v' } }
  })
  await peer.next('puback')
  t.equal(seen.length, 1)
  t.ok(seen[0]?.[0] === peer.client)
  t.match(seen[0]?.[1], {
    cmd: 'publish',
    topic: 'a/b',
    payload: Buffer.from('x'),
    qos: 1,
    retain: true,
    dup: false,
    messageId: 9,
    properties: { contentType: 'text', messageExpiryInterval: 60, userProperties: { k: 'v' } }
  })
})

for (const how of ['as an option', 'assigned']) {
  t.test(`authorizePublish, ${how}, may change topic, payload, QoS and retain`, async t => {
    const hook: AuthorizePublish = (_client, packet, done) => {
      packet.topic = `edited/${packet.topic}`
      packet.payload = Buffer.from('edited')
      packet.qos = 0
      packet.retain = true
      setImmediate(done, null)
    }
    const broker = await createBroker(t, how === 'as an option' ? { authorizePublish: hook } : {})
    if (how === 'assigned') broker.authorizePublish = hook
    const reader = await join(broker, { clientId: 'reader' })
    await reader.subscribe('#', 1)
    const writer = await join(broker, { clientId: 'writer' })
    writer.publish('a', 'original', { qos: 1, messageId: 1 })
    t.equal((await writer.next('puback')).messageId, 1, 'acknowledged as it was sent')
    t.match(await reader.next('publish'), { topic: 'edited/a', payload: Buffer.from('edited'), qos: 0, retain: false })
    const late = await join(broker, { clientId: 'late' })
    await late.subscribe('#')
    t.match(await late.next('publish'), { topic: 'edited/a', retain: true })
  })
}

t.test('authorizePublish may change what an MQTT 5 message carries', async t => {
  const broker = await createBroker(t, {
    authorizePublish: (client, packet, done) => {
      packet.properties = { ...packet.properties, userProperties: { from: String(client?.id) } }
      done()
    }
  })
  const peer = await join(broker, { clientId: 'one', protocolVersion: 5 })
  await peer.subscribe('a')
  peer.publish('a', 'x', { properties: { contentType: 'text' } })
  t.match((await peer.next('publish')).properties, { contentType: 'text', userProperties: { from: 'one' } })
})

t.test('a hook that answers later keeps the order of its connection and holds up no other', async t => {
  const { opened, open } = gate()
  const broker = await createBroker(t, {
    authorizePublish: (_client, packet, done) => {
      if (packet.topic === 'slow') void opened.then(() => done())
      else done()
    }
  })
  const seen = await listen(broker, '+')
  const held = await join(broker, { clientId: 'held' })
  held.publish('slow', '1')
  held.publish('quick', '2')
  const other = await join(broker, { clientId: 'other' })
  other.publish('quick', 'other')
  await other.ping()
  t.same(seen, ['quick other'])
  open()
  await held.ping()
  t.same(seen, ['quick other', 'slow 1', 'quick 2'])
})

t.test('a refused publish goes nowhere; MQTT 3 is acknowledged, MQTT 5 told, and both stay connected', async t => {
  const broker = await createBroker(t, { authorizePublish: (_client, _packet, done) => done(new Error('not this')) })
  const errors: string[] = []
  broker.on('clientError', (client, error) => errors.push(`${client.id}: ${error.message}`))
  const seen = await listen(broker, 'a')
  const acks = {
    4: ['40021234', '50020007', '70020007'],
    // 0x87 and the hook's words as reason string.
    5: ['400f1234870b1f00086e6f742074686973', '500f0007870b1f00086e6f742074686973', undefined]
  }
  for (const protocolVersion of [4, 5] as const) {
    const peer = await join(broker, { clientId: `v${protocolVersion}`, protocolVersion })
    const [puback, pubrec, pubcomp] = acks[protocolVersion]
    peer.publish('a', 'x')
    peer.publish('a', 'x', { qos: 1, messageId: 0x1234 })
    await peer.next('puback')
    t.equal(peer.takeBytes(), puback)
    peer.publish('a', 'x', { qos: 2, messageId: 7 })
    await peer.next('pubrec')
    t.equal(peer.takeBytes(), pubrec)
    if (pubcomp !== undefined) {
      peer.send({ cmd: 'pubrel', messageId: 7 })
      await peer.next('pubcomp')
      t.equal(peer.takeBytes(), pubcomp)
    }
    await peer.ping()
  }
  t.same(seen, [])
  t.same(errors, ['v4: not this', 'v4: not this', 'v4: not this', 'v5: not this', 'v5: not this', 'v5: not this'])
})

t.test('why a publish was refused is told to those who want to know, and where it fits', async t => {
  const broker = await createBroker(t, { authorizePublish: (_client, _packet, done) => done(new Error('not this')) })
  for (const properties of [{ requestProblemInformation: false }, { maximumPacketSize: 16 }]) {
    const peer = await join(broker, { clientId: 'one', protocolVersion: 5, properties })
    peer.publish('a', 'x', { qos: 1, messageId: 0x1234 })
    await peer.next('puback')
    t.equal(peer.takeBytes(), '4003123487')
  }
})

t.test('without a hook nobody but the broker publishes to $SYS', async t => {
  const broker = await createBroker(t)
  const seen = await listen(broker, '$SYS/#')
  const peer = await join(broker, { clientId: 'one' })
  seen.length = 0
  peer.publish('$SYS/broker/mine', 'x', { qos: 1, messageId: 1 })
  await peer.next('puback')
  t.same(
    seen.filter(line => line.startsWith('$SYS/broker/mine')),
    []
  )
})

t.test("what is below $SYS stays the broker's own, also where authorizePublish says yes to everything", async t => {
  const broker = await createBroker(t, { authorizePublish: (_client, _packet, done) => done(null) })
  const seen = await listen(broker, '$SYS/#')
  const victim = await join(broker, { clientId: 'victim' })
  const peer = await join(broker, { clientId: 'one', protocolVersion: 5 })
  seen.length = 0
  for (const [i, topic] of [`$SYS/${broker.id}/new/clients`, '$SYS/other/new/clients', '$SYS/sub/add', '$SYS/mine'].entries()) {
    peer.publish(topic, 'victim', { qos: 1, messageId: i + 1 })
    t.match(await peer.next('puback'), { messageId: i + 1, reasonCode: 0x87 })
  }
  t.same(seen, [])
  await victim.ping()
})

t.test('authorizePublish is asked for a will when it is due, and not for what the broker publishes', async t => {
  const asked: string[] = []
  const broker = await createBroker(t, {
    authorizePublish: (client, { topic, payload, qos, retain }, done) => {
      asked.push([client?.id, topic, payload, qos, retain].join(' '))
      done(topic === 'will/bad' ? new Error('no') : null)
    }
  })
  const seen = await listen(broker, 'will/+')
  for (const clientId of ['bad', 'good']) {
    const peer = await join(broker, { clientId, will: { topic: `will/${clientId}`, payload: Buffer.from('bye'), qos: 1, retain: false } })
    t.same(
      asked.filter(line => line.startsWith(clientId)),
      []
    )
    peer.destroy()
    await until(() => asked.some(line => line.startsWith(clientId)), 'the question')
  }
  await publish(broker, message('will/broker', 'x'))
  await until(() => seen.length === 2, 'two messages')
  t.same(seen.sort(), ['will/broker x', 'will/good bye'])
  t.same(asked, ['bad will/bad bye 1 false', 'good will/good bye 1 false'])
})

t.test('authorizePublish gets the client of a will, also where that has gone long before', async t => {
  const asked: unknown[] = []
  const broker = await createBroker(t, {
    authorizePublish: (client, { topic }, done) => {
      asked.push([topic, client?.id, client?.version, client?.closed])
      done(null)
    }
  })
  const seen = await listen(broker, 'will/+')
  for (const [clientId, willDelayInterval] of [
    ['now', 0],
    ['later', 1]
  ] as const) {
    const peer = await join(broker, {
      clientId,
      protocolVersion: 5,
      properties: { sessionExpiryInterval: 60 },
      will: { topic: `will/${clientId}`, payload: Buffer.from('bye'), qos: 0, retain: false, properties: { willDelayInterval } }
    })
    peer.destroy()
  }
  await until(() => seen.length === 2, 'both wills')
  t.same(asked, [
    ['will/now', 'now', 5, true],
    ['will/later', 'later', 5, true]
  ])
})

t.test('a will has the very client that left it, with all that a hook once put there', async t => {
  const users = new WeakMap<Client, string>()
  const seen: unknown[] = []
  const broker = await createBroker(t, {
    authenticate: (client, username, _password, done) => {
      users.set(client, String(username))
      done(null, true)
    },
    authorizePublish: (client, { topic }, done) => {
      seen.push(['asked', topic, client && users.get(client), client?.closed])
      done(null)
    },
    published: (packet, client, done) => {
      if (packet.topic.startsWith('will')) seen.push(['published', Reflect.get(packet, 'clientId'), client && users.get(client)])
      done()
    }
  })
  broker.on('publish', ({ topic }, client) => topic.startsWith('will') && seen.push(['publish', client && users.get(client)]))
  const leave = async (clientId: string, willDelayInterval: number, end: (peer: Peer) => unknown) => {
    const peer = await join(broker, {
      clientId,
      username: `${clientId}'s user`,
      protocolVersion: 5,
      properties: { sessionExpiryInterval: 60 },
      will: { topic: `will/${clientId}`, payload: Buffer.from('bye'), qos: 1, retain: false, properties: { willDelayInterval } }
    })
    seen.length = 0
    await end(peer)
    await until(() => seen.length === 3, 'the will')
    t.same(seen, [
      ['asked', `will/${clientId}`, `${clientId}'s user`, true],
      ['published', clientId, `${clientId}'s user`],
      ['publish', `${clientId}'s user`]
    ])
  }
  await leave('now', 0, peer => peer.destroy())
  await leave('later', 1, peer => peer.destroy())
  // A clean start ends the session of the one before, and with it comes his will.
  await leave('displaced', 60, () => join(broker, { clientId: 'displaced', username: 'another', protocolVersion: 5 }))
})

t.test('authorizePublish sees and may change how long a will lasts', async t => {
  const seen: unknown[] = []
  const broker = await createBroker(t, {
    authorizePublish: (_client, packet, done) => {
      seen.push(packet.properties?.messageExpiryInterval)
      if (packet.topic === 'will/edited') packet.properties = { messageExpiryInterval: 500 }
      done(null)
    }
  })
  const watcher = await join(broker, { clientId: 'watcher', protocolVersion: 5 })
  await watcher.subscribe('will/+')
  for (const clientId of ['kept', 'edited']) {
    const properties = { messageExpiryInterval: 100 }
    const will = { topic: `will/${clientId}`, payload: Buffer.from('bye'), qos: 0, retain: false, properties } as const
    const peer = await join(broker, { clientId, protocolVersion: 5, will })
    peer.destroy()
    const { properties: got } = await watcher.next('publish')
    t.equal(got?.messageExpiryInterval, clientId === 'kept' ? 100 : 500)
  }
  t.same(seen, [100, 100])
})

t.test('a message counts whose client leaves before authorizePublish has answered', async t => {
  const { opened, open } = gate()
  let asked = 0
  const broker = await createBroker(t, {
    authorizePublish: (_client, { topic }, done) => {
      asked++
      void opened.then(() => done(topic === 'denied' ? new Error('not this') : null))
    }
  })
  const errors: string[] = []
  broker.on('clientError', (_client, { message }) => errors.push(message))
  const watcher = await join(broker, { clientId: 'watcher' })
  await watcher.subscribe('#', 1)
  const brief = await join(broker, { clientId: 'brief' })
  brief.publish('last', '1', { qos: 1, messageId: 1 })
  const denied = await join(broker, { clientId: 'denied' })
  denied.publish('denied', 'x')
  await until(() => asked === 2, 'the hook')
  brief.destroy()
  denied.destroy()
  await until(() => brief.client.closed && denied.client.closed, 'the end of two')
  open()
  t.equal(await received(watcher), 'last 1')
  t.same(await watcher.messages(), [])
  t.same(errors, [])
})

t.test('a QoS 2 publish is authorised when it comes and released with PUBREL', async t => {
  const order: string[] = []
  const broker = await createBroker(t, {
    authorizePublish: (_client, _packet, done) => {
      order.push('authorised')
      done()
    },
    published: (packet, _client, done) => {
      if (packet.topic === 'a') order.push('published')
      done()
    }
  })
  const peer = await join(broker, { clientId: 'one' })
  peer.publish('a', 'x', { qos: 2, messageId: 1 })
  await peer.next('pubrec')
  t.same(order, ['authorised'])
  peer.send({ cmd: 'pubrel', messageId: 1 })
  await peer.next('pubcomp')
  t.same(order, ['authorised', 'published'])
})

for (const how of ['as an option', 'assigned']) {
  t.test(`authorizeForward, ${how}, keeps a message from one receiver or gives it a copy of its own`, async t => {
    const hook: AuthorizeForward = ({ id }, packet) => {
      switch (id) {
        case 'never':
          return null
        case 'nothing':
          return
        case 'edits':
          packet.topic = 'changed'
          packet.payload = Buffer.from('edited')
          packet.properties = { ...packet.properties, contentType: 'edited' }
          return packet
        case 'inside':
          if (packet.properties) packet.properties.contentType = 'inside'
          return packet
        case 'other':
          return { ...packet, payload: Buffer.from('other') }
        default:
          return packet
      }
    }
    const broker = await createBroker(t, how === 'as an option' ? { authorizeForward: hook } : {})
    if (how === 'assigned') broker.authorizeForward = hook
    for (const qos of [0, 1, 2] as const) {
      const names = ['never', 'plain', 'nothing', 'edits', 'inside', 'other', 'plain-too']
      const peers = await Promise.all(names.map(clientId => join(broker, { clientId, protocolVersion: 5 })))
      for (const peer of peers) await peer.subscribe('a', qos)
      await publish(broker, message('a', 'original', { qos, properties: { contentType: 'text' } }))
      const got: string[] = []
      for (const [index, peer] of peers.entries()) {
        for (const { topic, payload, properties, qos: delivered } of await peer.messages()) {
          got.push(`${names[index]}: ${topic} ${payload} ${properties?.contentType} ${delivered}`)
        }
        peer.destroy()
      }
      t.same(got, [
        `plain: a original text ${qos}`,
        `edits: changed edited edited ${qos}`,
        `inside: a original inside ${qos}`,
        `other: a other text ${qos}`,
        `plain-too: a original text ${qos}`
      ])
    }
  })
}

t.test('authorizeForward is told who published, and sees retained and queued messages too', async t => {
  const seen: string[] = []
  const packets: AedesPublishPacket[] = []
  const broker = await createBroker(t, {
    authorizeForward: (client, packet) => {
      seen.push(`${client.id}: ${packet.topic} retain ${packet.retain}`)
      packets.push(packet)
      return packet.topic === 'hidden' ? null : packet
    }
  })
  const reader = await join(broker, { clientId: 'reader', clean: false })
  await reader.subscribe('queued', 1)
  await reader.subscribe('hidden', 1)
  reader.destroy()
  await until(() => reader.client.closed, 'the end of the reader')
  const writer = await join(broker, { clientId: 'writer' })
  for (const [messageId, topic] of [
    [1, 'hidden'],
    [2, 'queued']
  ] as const) {
    writer.publish(topic, 'x', { qos: 1, messageId })
    await writer.next('puback')
  }
  writer.publish('kept', 'x', { qos: 1, messageId: 3, retain: true })
  await writer.next('puback')

  const again = await join(broker, { clientId: 'reader', clean: false })
  t.equal(await received(again), 'queued x')
  again.send({ cmd: 'puback', messageId: 2 })
  await again.subscribe('kept', 1)
  t.match(await again.next('publish'), { topic: 'kept', retain: true })
  t.ok(seen.includes('reader: hidden retain false'))
  t.ok(seen.includes('reader: queued retain false'))
  t.ok(seen.includes('reader: kept retain true'))
  t.ok(packets.every(({ cmd, brokerCounter }) => cmd === 'publish' && typeof brokerCounter === 'number'))
  t.match(
    packets.find(({ topic }) => topic === 'queued'),
    { clientId: 'writer', brokerId: broker.id }
  )
})

for (const how of ['as an option', 'assigned']) {
  t.test(`published, ${how}, holds the next packet of its connection until it calls back`, async t => {
    const waiting: (() => void)[] = []
    const seen: string[] = []
    const hook: Published = ({ topic, payload }, client, done) => {
      if (topic.startsWith('$SYS/')) return done()
      seen.push(`${topic} ${payload} ${client?.id}`)
      waiting.push(done)
    }
    const broker = await createBroker(t, how === 'as an option' ? { published: hook } : {})
    if (how === 'assigned') broker.published = hook
    const peer = await join(broker, { clientId: 'one' })
    const other = await join(broker, { clientId: 'other' })
    peer.publish('a', '1')
    peer.publish('a', '2')
    await until(() => seen.length === 1, 'the first')
    other.publish('a', '3')
    await until(() => seen.length === 2, "another connection's")
    t.same(seen, ['a 1 one', 'a 3 other'])
    waiting.shift()?.()
    await until(() => seen.length === 3, 'the second')
    t.same(seen, ['a 1 one', 'a 3 other', 'a 2 one'])
    for (const done of waiting) done()
    await peer.ping()
  })
}

t.test('published comes after the receivers got it, also for what the broker publishes, with null for a client', async t => {
  const order: string[] = []
  const broker = await createBroker(t, {
    published: ({ topic }, client, done) => {
      if (topic === 'a') order.push(`published by ${client === null ? 'the broker' : client.id}`)
      done()
    }
  })
  broker.subscribe(
    'a',
    (_packet, done) => {
      order.push('received')
      done()
    },
    () => {}
  )
  await publish(broker, message('a', 'x'))
  order.push('called back')
  t.same(order, ['received', 'published by the broker', 'called back'])
})

t.test('an embedder that refuses everything is heard by everybody: nothing is forwarded', async t => {
  const broker = await createBroker(t, { authorizeForward: () => null })
  const peer = await join(broker, { clientId: 'one' })
  await peer.subscribe('#', 1)
  await publish(broker, message('a', 'x', { qos: 1 }))
  peer.publish('a', 'y')
  t.same(await peer.messages(), [])
})
