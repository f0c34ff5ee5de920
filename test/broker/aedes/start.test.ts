// The ways in which programs on aedes start a broker and give it connections.

import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { IncomingMessage } from 'node:http'
import { connect as connectTcp, createServer, Socket } from 'node:net'
import { duplexPair } from 'node:stream'
import { connect as connectTls, createServer as createTlsServer } from 'node:tls'
import { Aedes } from 'aedes'
import t from 'tap'
import { Broker } from '../../../dist/index.js'
import { portOf } from '../../helpers/bare-broker.js'
import { close, createBroker, join, joinWith, message, Peer, publish, received } from '../../helpers/embedded.js'
import { MqttClient, until } from '../../helpers/mqtt.js'
import { testPki } from '../../helpers/pki.js'

t.test('createBroker without options: a broker that is an Aedes and takes clients', async t => {
  const broker = await createBroker(t)
  t.ok(broker instanceof Broker)
  t.ok(broker instanceof Aedes)
  t.equal(broker.closed, false)
  t.equal(broker.connectedClients, 0)
  t.match(broker.id, /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/)

  const { connack } = await joinWith(broker, { clientId: 'one' })
  t.same([connack.returnCode, connack.sessionPresent], [0, false])
  t.equal(broker.connectedClients, 1)
})

t.test('new Broker and listen are createBroker in two steps', async t => {
  const broker = new Broker({ id: 'my-broker' })
  t.equal(broker.closed, true)
  await broker.listen()
  t.teardown(() => close(broker))
  t.equal(broker.closed, false)
  t.equal(broker.id, 'my-broker')
  await join(broker, { clientId: 'one' })
})

t.test('two brokers of one process have nothing in common', async t => {
  const [one, two] = [await createBroker(t), await createBroker(t)]
  t.not(one.id, two.id)
  const [a, b] = [await join(one, { clientId: 'same' }), await join(two, { clientId: 'same' })]
  await a.subscribe('#')
  await b.subscribe('#')
  await publish(one, message('from', 'one'))
  await publish(two, message('from', 'two'))
  t.equal(await received(a), 'from one')
  t.equal(await received(b), 'from two')
})

t.test('handle needs no `this`: net.createServer(broker.handle)', async t => {
  const broker = await createBroker(t)
  const { handle } = broker
  const server = createServer(handle)
  t.teardown(() => server.close())
  await once(server.listen(0, '127.0.0.1'), 'listening')
  const socket = connectTcp(portOf(server.address()), '127.0.0.1')
  t.teardown(() => socket.destroy())
  const ready = new Promise<Socket>(resolve =>
    broker.once('clientReady', ({ conn }) => {
      if (conn instanceof Socket) resolve(conn)
    })
  )
  const peer = new MqttClient(socket)
  await peer.connect({ clientId: 'by-tcp' })
  t.equal((await ready).remoteAddress, '127.0.0.1')
  await peer.subscribe('a')
  peer.publish('a', 'over TCP')
  t.equal(await received(peer), 'a over TCP')
})

t.test('tls.createServer(options, broker.handle), with the client certificate on client.conn', async t => {
  const pki = await testPki(t)
  const [server, client] = [await pki.server(), await pki.client('press-7')]
  const read = (path: string) => readFileSync(path)
  const names: unknown[] = []
  const broker = await createBroker(t, {
    authenticate: ({ conn }, _username, _password, done) => {
      names.push('getPeerCertificate' in conn && typeof conn.getPeerCertificate === 'function' && conn.getPeerCertificate().subject.CN)
      done(null, true)
    }
  })
  const listener = createTlsServer(
    { cert: read(server.cert), key: read(server.key), ca: read(pki.ca), requestCert: true, rejectUnauthorized: true },
    broker.handle
  )
  t.teardown(() => listener.close())
  await once(listener.listen(0, '127.0.0.1'), 'listening')
  const socket = connectTls({
    port: portOf(listener.address()),
    host: '127.0.0.1',
    servername: 'localhost',
    ca: read(pki.ca),
    cert: read(client.cert),
    key: read(client.key)
  })
  t.teardown(() => socket.destroy())
  await once(socket, 'secureConnect')
  const peer = new MqttClient(socket, 5)
  await peer.connect({ clientId: 'by-tls' })
  t.same(names, ['press-7'])
  await peer.subscribe('a')
  peer.publish('a', 'x'.repeat(100_000))
  t.equal((await peer.next('publish')).payload.length, 100_000)
})

t.test('handle takes any duplex stream and returns the client; a request that led to it is client.req', async t => {
  const broker = await createBroker(t)
  const [near, far] = duplexPair()
  t.teardown(() => near.destroy())
  const request = new IncomingMessage(new Socket())
  const client = broker.handle(far, request)
  t.ok(client.conn === far)
  t.ok(client.req === request)
  t.same([client.connecting, client.connected, client.closed], [false, false, false])
  const ready = once(client, 'connected')
  await new MqttClient(near).connect({ clientId: 'by-pair' })
  await ready
  t.same([client.id, client.connecting, client.connected, client.closed], ['by-pair', false, true, false])
})

t.test('close ends every connection, calls back once and says `closed` once', async t => {
  const broker = await Broker.createBroker()
  let said = 0
  broker.on('closed', () => said++)
  const old = await join(broker, { clientId: 'old' })
  const peer = await join(broker, { clientId: 'new', protocolVersion: 5 })
  const stranger = new Peer(broker)

  await close(broker)
  t.equal(broker.closed, true)
  t.equal((await peer.next('disconnect')).reasonCode, 0x8b)
  await Promise.all([old.closed(), peer.closed(), stranger.closed()])
  t.equal(broker.connectedClients, 0)
  await close(broker)
  t.equal(said, 1)
})

t.test('a connection that comes after close is closed', async t => {
  const broker = await Broker.createBroker()
  await close(broker)
  const peer = new Peer(broker)
  peer.send({ cmd: 'connect', clientId: 'late', protocolId: 'MQTT', protocolVersion: 4, clean: true, keepalive: 0 })
  await peer.closed()
  t.same(peer.packets, [])
})

t.test('connectedClients counts those that are connected now', async t => {
  const broker = await createBroker(t)
  const one = await join(broker, { clientId: 'one' })
  const two = await join(broker, { clientId: 'two' })
  new Peer(broker)
  t.equal(broker.connectedClients, 2)
  one.destroy()
  await until(() => broker.connectedClients === 1, 'one client gone')
  await join(broker, { clientId: 'two' })
  await two.closed()
  t.equal(broker.connectedClients, 1, 'a take-over leaves one')
})

t.test('a persistence whose setup is no async function is refused by listen', async t => {
  const broker = new Broker({ persistence: { setup: () => {} } })
  await t.rejects(broker.listen(), { message: 'persistence.setup() must be an async function' })
  t.equal(broker.closed, true)
})

t.test('broker.brokers has those that are heard of, until they miss three heartbeats', async t => {
  const broker = await createBroker(t, { heartbeatInterval: 20 })
  await until(() => broker.brokers[broker.id] !== undefined, 'its own heartbeat')
  await publish(broker, message('$SYS/other/heartbeat', 'other'))
  t.ok(broker.brokers.other)
  await until(() => broker.brokers.other === undefined, 'the end of the other')
  t.ok(broker.brokers[broker.id])
})
