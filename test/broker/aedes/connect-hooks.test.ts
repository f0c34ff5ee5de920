// preConnect and authenticate, as options and assigned later.

import { once } from 'node:events'
import type { AedesOptions, ConnectPacket } from 'aedes'
import t from 'tap'
import type { Broker } from '../../../dist/index.js'
import { createBroker, gate, join, joinWith, Peer, record } from '../../helpers/embedded.js'
import { until } from '../../helpers/mqtt.js'

type PreConnect = NonNullable<AedesOptions['preConnect']>
type Authenticate = NonNullable<AedesOptions['authenticate']>

const connect = { cmd: 'connect', clientId: 'one', protocolId: 'MQTT', protocolVersion: 4, clean: true, keepalive: 0 } as const

function failure(broker: Broker, event: 'connectionError' | 'clientError'): Promise<Error> {
  return new Promise(resolve => broker.once(event, (_client, error) => resolve(error)))
}

t.test('preConnect sees the client in its first state and the whole CONNECT', async t => {
  const seen: ConnectPacket[] = []
  const states: unknown[] = []
  const broker = await createBroker(t, {
    preConnect: (client, packet, done) => {
      states.push([client.id, client.connecting, client.connected])
      seen.push(packet)
      done(null, true)
    }
  })
  await join(broker, {
    clientId: 'whole',
    username: 'ann',
    password: Buffer.from('secret'),
    keepalive: 7,
    will: { topic: 'w', payload: Buffer.from('bye'), qos: 1, retain: true }
  })
  t.same(states, [[null, true, false]])
  t.match(seen, [
    {
      cmd: 'connect',
      protocolId: 'MQTT',
      protocolVersion: 4,
      clean: true,
      clientId: 'whole',
      keepalive: 7,
      username: 'ann',
      password: Buffer.from('secret'),
      will: { topic: 'w', payload: Buffer.from('bye'), qos: 1, retain: true }
    }
  ])
})

t.test('preConnect may change the client identifier, the name and the password', async t => {
  const logins: string[] = []
  const broker = await createBroker(t, {
    preConnect: (_client, packet, done) => {
      packet.clientId = 'changed'
      packet.username = 'bob'
      packet.password = Buffer.from('other')
      done(null, true)
    },
    authenticate: (client, username, password, done) => {
      logins.push(`${client.id} ${username} ${password}`)
      done(null, true)
    }
  })
  const peer = await join(broker, { clientId: 'original', username: 'ann', password: Buffer.from('secret') })
  t.equal(peer.client.id, 'changed')
  t.same(logins, ['changed bob other'])
})

const farewell = { topic: 'will', payload: Buffer.from('bye'), qos: 0, retain: false } as const

const wills: readonly [name: string, edit: (packet: ConnectPacket) => void, willOfClient: boolean, seen: string[]][] = [
  [
    'edits it',
    ({ will }) => will && Object.assign(will, { topic: 'will/edited', payload: Buffer.from('edited'), qos: 1 }),
    true,
    ['will/edited edited 1']
  ],
  ['takes it away', packet => Reflect.deleteProperty(packet, 'will'), true, []],
  [
    'puts another in its place',
    packet => Object.assign(packet, { will: { topic: 'will/other', payload: 'text' } }),
    true,
    ['will/other text 0']
  ],
  ['gives one', packet => Object.assign(packet, { will: { topic: 'will/given', payload: 'text', qos: 2 } }), false, ['will/given text 2']]
]
for (const [name, edit, hasWill, expected] of wills) {
  for (const protocolVersion of [4, 5] as const) {
    t.test(`preConnect ${name}: the will of an MQTT ${protocolVersion} client`, async t => {
      const broker = await createBroker(t, {
        preConnect: (_client, packet, done) => {
          edit(packet)
          done(null, true)
        }
      })
      const seen: string[] = []
      broker.on('publish', ({ topic, payload, qos }) => topic.startsWith('will') && seen.push(`${topic} ${payload} ${qos}`))
      const peer = await join(broker, { clientId: 'one', protocolVersion, ...(hasWill && { will: farewell }) })
      peer.destroy()
      await until(() => peer.client.closed, 'the end of the client')
      t.same(seen, expected)
    })
  }
}

t.test('preConnect may change what an MQTT 5 client asks for, and what its will carries', async t => {
  const broker = await createBroker(t, {
    preConnect: (_client, packet, done) => {
      packet.properties = { ...packet.properties, sessionExpiryInterval: 77, receiveMaximum: 2, maximumPacketSize: 5000 }
      if (packet.will?.properties) Object.assign(packet.will.properties, { contentType: 'edited', willDelayInterval: 0 })
      done(null, true)
    }
  })
  const { peer, connack } = await joinWith(broker, {
    clientId: 'one',
    protocolVersion: 5,
    properties: { sessionExpiryInterval: 5, requestResponseInformation: true },
    will: { ...farewell, properties: { willDelayInterval: 60, userProperties: { a: 'b' } } }
  })
  t.equal(connack.reasonCode, 0)
  const { sessionExpiryInterval, receiveMaximum, maximumPacketSize, clean } = peer.client
  t.same([sessionExpiryInterval, receiveMaximum, maximumPacketSize, clean], [77, 2, 5000, false])
  const sent = once(broker, 'publish')
  peer.destroy()
  t.match((await sent)[0], { topic: 'will', properties: { contentType: 'edited', userProperties: { a: 'b' } } })
})

t.test('preConnect that makes a session of MQTT 3 clean, or keeps it', async t => {
  let clean = true
  const broker = await createBroker(t, {
    preConnect: (_client, packet, done) => {
      Object.assign(packet, { clean })
      done(null, true)
    }
  })
  for (const [asked, given] of [
    [false, true],
    [true, false]
  ] as const) {
    clean = given
    const { peer } = await joinWith(broker, { clientId: `one ${given}`, clean: asked })
    t.equal(peer.client.clean, given)
    await peer.subscribe('a')
    peer.destroy()
    await until(() => peer.client.closed, 'the end of the client')
    const { connack } = await joinWith(broker, { clientId: `one ${given}`, clean: false })
    t.equal(connack.sessionPresent, !given)
  }
})

t.test('preConnect can not change the version that a client speaks', async t => {
  const broker = await createBroker(t, {
    preConnect: (_client, packet, done) => {
      packet.protocolVersion = 4
      done(null, true)
    }
  })
  const { peer, connack } = await joinWith(broker, { clientId: 'one', protocolVersion: 5 })
  t.same([connack.reasonCode, peer.client.version], [0, 5])
})

const malformed: readonly [string, object][] = [
  ['clientId is text', { clientId: 7 }],
  ['clientId is text', { clientId: 'a\0b' }],
  ['username is text', { username: {} }],
  ['password is a string or bytes', { password: 5 }],
  ['keepalive is a whole number', { keepalive: -1 }],
  ['topic is a string', { will: {} }],
  ['"a/#" is no topic name', { will: { topic: 'a/#' } }],
  ['qos is 0, 1 or 2, not 3', { will: { topic: 'a', qos: 3 } }],
  ['payload is a string or bytes', { will: { topic: 'a', payload: {} } }],
  ['willDelayInterval is a whole number', { will: { topic: 'a', properties: { willDelayInterval: 'soon' } } }],
  ['sessionExpiryInterval is a whole number', { properties: { sessionExpiryInterval: 1.5 } }],
  ['receiveMaximum is a whole number from 1', { properties: { receiveMaximum: 0 } }]
]
for (const [reason, edit] of malformed) {
  t.test(`preConnect that leaves what is no CONNECT is told, and its client is not let in: ${JSON.stringify(edit)}`, async t => {
    const broker = await createBroker(t, {
      preConnect: (_client, packet, done) => {
        Object.assign(packet, edit)
        done(null, true)
      }
    })
    broker.on('client', () => t.fail('registered'))
    const failed = failure(broker, 'connectionError')
    const peer = new Peer(broker, 5)
    peer.send({ ...connect, protocolVersion: 5 })
    const error = await failed
    t.ok(error instanceof TypeError)
    t.match(error.message, reason)
    await peer.closed()
    t.equal(peer.takeBytes(), '')
  })
}

const refusals: readonly [string, PreConnect][] = [
  ['an error', (_client, _packet, done) => done(new Error('not you'), false)],
  ['an error and true', (_client, _packet, done) => done(new Error('not you'), true)],
  ['an error that comes later', (_client, _packet, done) => setImmediate(done, new Error('not you'), false)]
]
for (const [name, preConnect] of refusals) {
  for (const how of ['as an option', 'assigned']) {
    t.test(`preConnect that answers ${name}, ${how}: no CONNACK, connectionError`, async t => {
      const broker = await createBroker(t, how === 'as an option' ? { preConnect } : {})
      if (how === 'assigned') broker.preConnect = preConnect
      broker.on('client', () => t.fail('registered'))
      const failed = failure(broker, 'connectionError')
      const peer = new Peer(broker)
      peer.send(connect)
      t.equal((await failed).message, 'not you')
      await peer.closed()
      t.equal(peer.takeBytes(), '')
      t.equal(broker.connectedClients, 0)
    })
  }
}

// What its types would not let through.
const say = (done: object, ...answer: unknown[]) => Reflect.apply(Function.prototype.call, done, [undefined, ...answer])

for (const answer of [false, undefined, 1, 'yes']) {
  t.test(`preConnect that answers ${answer} without an error closes the connection`, async t => {
    const broker = await createBroker(t, { preConnect: (_client, _packet, done) => say(done, null, answer) })
    const peer = new Peer(broker)
    peer.send(connect)
    await peer.closed()
    t.equal(peer.takeBytes(), '')
  })
}

t.test('authenticate that answers with a user, as many programs do, lets its client in', async t => {
  const broker = await createBroker(t, { authenticate: (_client, username, _password, done) => say(done, null, username && { username }) })
  t.equal((await joinWith(broker, { clientId: 'one', username: 'ann' })).connack.returnCode, 0)
  t.equal((await joinWith(broker, { clientId: 'two' })).connack.returnCode, 5)
})

for (const hook of ['preConnect', 'authenticate'] as const) {
  for (const [given, reasonCode] of [
    [undefined, 0x9c],
    [0x9d, 0x9d],
    [0x87, 0x9c]
  ] as const) {
    t.test(`${hook}: an error with serverReference and reason code ${given} sends an MQTT 5 client elsewhere`, async t => {
      const error = Object.assign(new Error('moved'), {
        serverReference: 'other.example:1883',
        returnCode: 3 as const,
        ...(given !== undefined && { reasonCode: given })
      })
      const broker = await createBroker(
        t,
        hook === 'preConnect'
          ? { preConnect: (_client, _packet, done) => done(error, false) }
          : { authenticate: (_client, _username, _password, done) => done(error, false) }
      )
      const { peer, connack } = await joinWith(broker, { clientId: 'one', protocolVersion: 5 })
      t.equal(connack.reasonCode, reasonCode)
      t.equal(connack.properties?.serverReference, 'other.example:1883')
      await peer.closed()
    })
  }
}

t.test('authenticate gets the client with its identifier, the name and the password as bytes', async t => {
  const logins: unknown[][] = []
  const broker = await createBroker(t, {
    authenticate: (client, username, password, done) => {
      logins.push([client.id, client.version, client.clean, username, password])
      done(null, true)
    }
  })
  await join(broker, { clientId: 'named', username: 'ann', password: Buffer.from([0, 255]) })
  await join(broker, { clientId: 'nameless', protocolVersion: 5 })
  t.same(logins, [
    ['named', 4, true, 'ann', Buffer.from([0, 255])],
    ['nameless', 5, true, undefined, undefined]
  ])
})

const answers: readonly [string, Authenticate, v3: number, v5: number, message: string | RegExp][] = [
  ['false', (_c, _u, _p, done) => done(null, false), 5, 0x87, 'not authorized'],
  ['null', (_c, _u, _p, done) => done(null, null), 5, 0x87, 'not authorized'],
  ['an error without a code', withError({}), 5, 0x87, 'why'],
  ['return code 1', withError({ returnCode: 1 }), 5, 0x87, 'why'],
  ['return code 2', withError({ returnCode: 2 }), 2, 0x85, 'why'],
  ['return code 3', withError({ returnCode: 3 }), 3, 0x88, 'why'],
  ['return code 4', withError({ returnCode: 4 }), 4, 0x86, 'why'],
  ['return code 5', withError({ returnCode: 5 }), 5, 0x87, 'why'],
  ['return code 6', withError({ returnCode: 6 }), 5, 0x87, 'why'],
  ['a return code that is no number', withError({ returnCode: 'four' }), 5, 0x87, 'why']
]
for (const [name, authenticate, v3, v5, reason] of answers) {
  for (const how of ['as an option', 'assigned']) {
    t.test(`authenticate that answers ${name}, ${how}`, async t => {
      const broker = await createBroker(t, how === 'as an option' ? { authenticate } : {})
      if (how === 'assigned') broker.authenticate = authenticate
      broker.on('client', () => t.fail('registered'))
      for (const [protocolVersion, bytes] of [
        [4, `200200${hex(v3)}`],
        [5, `200300${hex(v5)}00`]
      ] as const) {
        const failed = failure(broker, 'clientError')
        const peer = new Peer(broker, protocolVersion)
        await peer.connect({ clientId: 'refused' })
        t.equal(peer.takeBytes(), bytes)
        await peer.closed()
        t.match(await failed, { message: reason, errorCode: v3 })
      }
      t.equal(broker.connectedClients, 0)
    })
  }
}

t.test('a refused client does no harm to the one of the same name that is connected', async t => {
  const broker = await createBroker(t, { authenticate: (_client, username, _password, done) => done(null, username === 'ann') })
  const good = await join(broker, { clientId: 'same', username: 'ann' })
  const { peer } = await joinWith(broker, { clientId: 'same', username: 'eve' })
  await peer.closed()
  await good.ping()
  t.equal(broker.connectedClients, 1)
})

t.test('authenticate may take its time; who leaves meanwhile is never registered', async t => {
  const { opened, open } = gate()
  let asked = 0
  const broker = await createBroker(t, {
    authenticate: (_client, _username, _password, done) => {
      asked++
      void opened.then(() => done(null, true))
    }
  })
  const seen = record(broker, ['client', 'clientReady', 'clientDisconnect'], event => event)
  const leaver = new Peer(broker)
  leaver.send(connect)
  await until(() => asked === 1, 'the hook')
  leaver.destroy()
  await until(() => leaver.client.closed, 'the end of the client')
  open()
  await join(broker, { clientId: 'two' })
  t.same(seen, ['client', 'clientReady'])
})

t.test('the answer of authenticate counts once', async t => {
  const broker = await createBroker(t, {
    authenticate: (_client, _username, _password, done) => {
      done(null, true)
      done(null, false)
    }
  })
  const seen = record(broker, ['client', 'clientReady', 'clientError'], event => event)
  const peer = await join(broker, { clientId: 'one' })
  await peer.ping()
  t.same(seen, ['client', 'clientReady'])
})

t.test('a hook that throws refuses its own client only', async t => {
  const broker = await createBroker(t)
  const other = await join(broker, { clientId: 'other' })
  broker.authenticate = () => {
    throw new Error('thrown')
  }
  const failed = once(broker, 'clientError')
  const peer = new Peer(broker)
  peer.send(connect)
  await peer.closed()
  t.equal((await failed)[1].message, 'thrown')
  await other.ping()
})

function withError(fields: object): Authenticate {
  return (_client, _username, _password, done) => Reflect.apply(done, undefined, [Object.assign(new Error('why'), fields), null])
}

function hex(byte: number): string {
  return byte.toString(16).padStart(2, '0')
}
