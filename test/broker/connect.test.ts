import { createServer } from 'node:net'
import t from 'tap'
import type { ClientCertificate } from '../../dist/auth/identity.js'
import { portOf, startBareBroker } from '../helpers/bare-broker.js'
import { passwordLine } from '../helpers/hash.js'
import { connectMqtt, until } from '../helpers/mqtt.js'

const certificate: ClientCertificate = {
  commonName: 'press-7',
  subject: 'CN=press-7,O=Plant',
  issuer: 'CN=Plant CA',
  serial: '01',
  notBefore: new Date(0),
  notAfter: new Date(1e13),
  raw: Buffer.alloc(0)
}

t.test('who is refused gets the CONNACK of the protocol version, and the log says why', async t => {
  const rows: readonly {
    name: string
    options: Parameters<typeof startBareBroker>[1]
    connect: object | string
    v3?: string
    v5?: string
    /** Comes before that of the end. */
    line?: string
    reason: string
    clientId?: string
  }[] = [
    {
      name: 'no username, anonymous forbidden',
      options: { allowAnonymous: false },
      connect: {},
      v3: '20020005',
      v5: '2003008700',
      reason: 'not authorised'
    },
    {
      name: 'wrong password',
      options: { passwords: passwordLine('ann', 'right') },
      connect: { username: 'ann', password: Buffer.from('wrong') },
      v3: '20020005',
      v5: '2003008700',
      reason: 'not authorised'
    },
    {
      name: 'name from a certificate that is not there',
      options: { listener: { username: 'from-common-name' } },
      connect: { username: 'ann' },
      v3: '20020004',
      v5: '2003008600',
      line: 'Connection from 127\\.0\\.0\\.1:\\d+ rejected, the listener takes the username from the common name of the certificate, and there is none',
      reason: 'bad username or password'
    },
    {
      name: 'use_username_as_clientid without a username',
      options: { listener: { useUsernameAsClientId: true } },
      connect: {},
      v3: '20020005',
      v5: '2003008700',
      reason: 'not authorised'
    },
    {
      name: 'clientid_prefixes',
      options: { clientIdPrefix: 'plant-' },
      connect: {},
      v3: '20020005',
      v5: '2003008700',
      reason: 'not authorised'
    },
    {
      name: 'accept_protocol_versions, MQTT 5 only',
      options: { listener: { acceptProtocolVersions: [5] } },
      connect: {},
      v3: '20020001',
      reason: 'unsupported protocol version',
      clientId: '<unknown>'
    },
    {
      name: 'accept_protocol_versions, MQTT 3.1.1 only',
      options: { listener: { acceptProtocolVersions: [4] } },
      connect: {},
      v5: '2003008400',
      reason: 'unsupported protocol version',
      clientId: '<unknown>'
    },
    {
      name: 'allow_zero_length_clientid false',
      options: { listener: { security: { allowAnonymous: true, allowZeroLengthClientId: false, autoIdPrefix: '' } } },
      connect: { clientId: '' },
      v3: '20020002',
      v5: '2003008000',
      line: 'Protocol error from 127\\.0\\.0\\.1:\\d+: CONNECT with zero length clientid when forbidden',
      reason: 'protocol error',
      clientId: '<unknown>'
    },
    {
      name: 'an empty client id for a persistent session',
      options: {},
      // The test client's generator refuses to make it.
      connect: '100c00044d5154540400003c0000',
      v3: '20020002',
      line: 'Protocol error from 127\\.0\\.0\\.1:\\d+: CONNECT with zero length clientid when forbidden',
      reason: 'protocol error',
      clientId: '<unknown>'
    },
    {
      name: 'keep alive above max_keepalive',
      options: { limits: { maxKeepalive: 60 } },
      connect: { keepalive: 61 },
      v3: '20020002',
      reason: 'keep alive above max_keepalive'
    },
    {
      name: 'a will above message_size_limit',
      options: { limits: { messageSizeLimit: 3 } },
      connect: { will: { topic: 'w', payload: Buffer.from('1234'), qos: 0, retain: false } },
      v3: '20020005',
      v5: '2003009500',
      reason: 'oversize payload'
    }
  ]
  for (const { name, options, connect: packet, v3, v5, line, reason, clientId = 'dev-1' } of rows) {
    for (const [version, bytes] of [
      [4, v3],
      [5, v5]
    ] as const) {
      if (bytes === undefined) continue
      const { connect, log } = await startBareBroker(t, options)
      const client = await connect(version)
      if (typeof packet === 'string') client.stream.write(Buffer.from(packet, 'hex'))
      else await client.connect({ clientId: 'dev-1', ...packet })
      await client.closed()
      t.equal(client.takeBytes(), bytes, `${name}, version ${version}`)
      const expected = [...(line === undefined ? [] : [line]), `Client ${clientId} \\[127\\.0\\.0\\.1:\\d+\\] disconnected: ${reason}`]
      await until(() => log.lines.length >= expected.length, 'the lines')
      t.match(
        log.lines,
        expected.map(line => new RegExp(`^${line}\\.$`)),
        name
      )
      t.equal(log.lines.length, expected.length, name)
    }
  }
})

t.test('the certificate names the client: no password, no entry in password_file', async t => {
  const options = {
    allowAnonymous: false,
    passwords: passwordLine('ann', 'x'),
    acl: 'user press-7\ntopic write from/cn\nuser ann\ntopic write from/connect\nuser reader\ntopic read #',
    tls: { version: 'TLSv1.3', cipher: 'TLS_AES_256_GCM_SHA384', certificate }
  }
  const { connect, log } = await startBareBroker(t, { ...options, listener: { username: 'from-common-name', useUsernameAsClientId: true } })
  const client = await connect(5)
  await client.connect({ clientId: 'ignored', username: 'ann', password: Buffer.from('x'), keepalive: 30 })
  t.match(log.lines, [
    /^New client connected from 127\.0\.0\.1:\d+ as press-7 \(p5, c1, k30, u'press-7'\)\.$/,
    /^Client press-7 negotiated TLSv1\.3 cipher TLS_AES_256_GCM_SHA384$/
  ])
  client.takeBytes()
  client.publish('from/connect', 'x', { qos: 1, messageId: 1 })
  await client.next('puback')
  client.publish('from/cn', 'x', { qos: 1, messageId: 2 })
  await client.next('puback')
  t.equal(client.takeBytes().slice(0, 10), '4003000187', 'the rights are those of the CN')
})

t.test('use_subject_as_username takes the whole subject', async t => {
  const { connect, log } = await startBareBroker(t, {
    listener: { username: 'from-subject' },
    tls: { version: 'TLSv1.2', cipher: 'X', certificate }
  })
  const client = await connect()
  await client.connect({ clientId: 'c' })
  t.match(log.lines, [/ as c \(p4, c1, k60, u'CN=press-7,O=Plant'\)\.$/, 'Client c negotiated TLSv1.2 cipher X'])
})

t.test('a client without an identifier gets one, and MQTT 5 is told', async t => {
  const { connect, log } = await startBareBroker(t)
  const old = await connect()
  t.equal((await old.connect({ clientId: '' })).returnCode, 0)
  t.match(log.lines, [/ as auto-[0-9A-F]{8}(-[0-9A-F]{4}){3}-[0-9A-F]{12} \(p4, /])
  const client = await connect(5)
  const { properties } = await client.connect({ clientId: '' })
  t.match(properties?.assignedClientIdentifier, /^auto-[0-9A-F-]{36}$/)
})

t.test('CONNACK announces the limits', async t => {
  const { connect } = await startBareBroker(t, { limits: { maxKeepalive: 20 } })
  const client = await connect(5)
  const { properties } = await client.connect({ keepalive: 60 })
  t.match(properties, { topicAliasMaximum: 10, maximumPacketSize: 2_000_000, receiveMaximum: 20, serverKeepAlive: 20 })
})

t.test('a packet above max_packet_size ends the connection', async t => {
  const { connect, log } = await startBareBroker(t, { limits: { maxPacketSize: 100 } })
  const client = await connect(5)
  await client.connect({ clientId: 'big' })
  client.publish('a', Buffer.alloc(200))
  const { reasonCode } = await client.next('disconnect')
  t.equal(reasonCode, 0x95)
  await until(() => log.lines.some(line => /^Client big \[.*\] disconnected: oversize packet\.$/.test(line)), 'the line')
})

t.test('a CONNECT above 100000 bytes ends with its first bytes, whatever max_packet_size says', async t => {
  const { connect, log } = await startBareBroker(t)
  const client = await connect()
  client.stream.write(Buffer.from('10c19a0c00044d51', 'hex'))
  await client.closed()
  await until(() => log.lines.some(line => /^Client <unknown> \[.*\] disconnected: oversize packet\.$/.test(line)), 'the line')
  const other = await connect()
  const admitted = other.connect({ clientId: 'other', username: 'u', password: Buffer.alloc(40_000) })
  other.publish('t', Buffer.alloc(150_000))
  t.equal((await admitted).returnCode, 0, 'what comes behind it has the other limit')
  await other.ping()
})

t.test('every end of a connection has its reason', async t => {
  const { connect, log, broker } = await startBareBroker(t)
  const ended = (pattern: RegExp) => until(() => log.lines.some(line => pattern.test(line)), String(pattern))

  const polite = await connect()
  await polite.connect({ clientId: 'polite' })
  polite.send({ cmd: 'disconnect' })
  await ended(/^Client polite \[127\.0\.0\.1:\d+\] disconnected\.$/)

  const rude = await connect()
  await rude.connect({ clientId: 'rude' })
  rude.destroy()
  await ended(/^Client rude \[.*\] disconnected: connection closed by client\.$/)

  const silent = await connect()
  silent.destroy()
  await ended(/^Client <unknown> \[.*\] disconnected: connection closed by client\.$/)

  const noise = await connect()
  noise.stream.write('GET / HTTP/1.1\r\n\r\n')
  await noise.closed()
  await ended(/^Client <unknown> \[.*\] disconnected: protocol error\.$/)

  const broken = await connect()
  await broken.connect({ clientId: 'broken' })
  broken.stream.write(Buffer.from('3600', 'hex'))
  await broken.closed()
  await ended(/^Client broken \[.*\] disconnected: malformed packet\.$/)

  const wrong = await connect()
  await wrong.connect({ clientId: 'wrong' })
  // AUTH, which MQTT 3 doesn't have.
  wrong.stream.write(Buffer.from('f000', 'hex'))
  await wrong.closed()
  await ended(/^Client wrong \[.*\] disconnected: protocol error\.$/)

  const first = await connect(5)
  await first.connect({ clientId: 'same' })
  const second = await connect(5)
  await second.connect({ clientId: 'same' })
  t.equal((await first.next('disconnect')).reasonCode, 0x8e)
  await ended(/session taken over/)
  await until(() => log.lines.filter(line => line.includes(' as same ')).length === 2, 'both came')
  const taken = log.lines.findIndex(line => /^Client same \[.*\] disconnected: session taken over\.$/.test(line))
  t.match(log.lines.slice(taken), [/session taken over/, / as same /], 'the old one goes before the new one comes')
  t.equal(broker.clientCount, 1)

  const late = await connect()
  await late.connect({ clientId: 'late', keepalive: 1 })
  await late.closed()
  await ended(/^Client late \[.*\] disconnected: exceeded timeout\.$/)
})

t.test('subscribing and unsubscribing have their lines', async t => {
  const { connect, log } = await startBareBroker(t)
  const client = await connect()
  await client.connect({ clientId: 'c' })
  await client.subscribe('a/#', 1)
  client.send({ cmd: 'unsubscribe', messageId: 2, unsubscriptions: ['a/#'] })
  await client.next('unsuback')
  t.same(log.lines.slice(1), ['c 1 a/#', 'c a/#'])
  client.destroy()
  await until(() => log.lines.length === 4, 'the end')
  t.match(log.lines[3], /disconnected/)
  t.match(log.debug, [
    'No will message specified.',
    'Sending CONNACK to c (0, 0)',
    'Received SUBSCRIBE from c',
    '\ta/# (QoS 1)',
    'Sending SUBACK to c',
    'Received UNSUBSCRIBE from c',
    '\ta/#',
    'Sending UNSUBACK to c'
  ])
})

t.test(
  "a connection of an embedder's own server is judged by our policy, and a hook can close what it opens but not open what it closes",
  async t => {
    const { broker, reload } = await startBareBroker(t, { allowAnonymous: false })
    const server = createServer(broker.handle)
    await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
    t.teardown(() => server.close())
    let isAllowed = true
    broker.authenticate = (_client, _username, _password, done) => done(null, isAllowed)
    const codeOf = async () => {
      const client = await connectMqtt(portOf(server.address()))
      t.teardown(() => client.destroy())
      return (await client.connect()).returnCode
    }
    t.equal(await codeOf(), 5, 'the policy says no')
    reload({})
    t.equal(await codeOf(), 0, 'both say yes')
    isAllowed = false
    t.equal(await codeOf(), 5, 'the hook says no')
  }
)
