import t from 'tap'
import { startBareBroker } from '../helpers/bare-broker.js'
import { until } from '../helpers/mqtt.js'

const acl = 'topic read #\ntopic write open/#\ntopic deny open/secret'

t.test('MQTT 3.1.1: a denied publish is acknowledged as any other and goes nowhere', async t => {
  const { connect, log } = await startBareBroker(t, { acl })
  const reader = await connect()
  await reader.connect({ clientId: 'reader' })
  await reader.subscribe('#', 2)
  const writer = await connect()
  await writer.connect({ clientId: 'writer' })
  writer.takeBytes()

  writer.publish('closed/a', 'x')
  writer.publish('open/secret', 'x', { qos: 1, messageId: 0x1234 })
  await writer.next('puback')
  t.equal(writer.takeBytes(), '40021234')
  writer.publish('closed/b', 'x', { qos: 2, messageId: 7, retain: true })
  await writer.next('pubrec')
  t.equal(writer.takeBytes(), '50020007')
  writer.send({ cmd: 'pubrel', messageId: 7 })
  await writer.next('pubcomp')
  t.equal(writer.takeBytes(), '70020007')

  writer.publish('open/c', 'allowed', { qos: 1, messageId: 8 })
  await writer.next('puback')
  const { topic, payload } = await reader.next('publish')
  t.same([topic, String(payload)], ['open/c', 'allowed'], 'the first message that arrives is the allowed one')
  t.same(
    log.lines.filter(line => line.startsWith('Denied')),
    [
      "Denied PUBLISH from writer (d0, q0, r0, m0, 'closed/a', ... (1 bytes)): no username, no rule allows it.",
      `Denied PUBLISH from writer (d0, q1, r0, m4660, 'open/secret', ... (1 bytes)): no username, deny rule "topic deny open/secret" at acl:3.`,
      "Denied PUBLISH from writer (d0, q2, r1, m7, 'closed/b', ... (1 bytes)): no username, no rule allows it."
    ]
  )
})

t.test('MQTT 5: a denied publish is answered with 0x87 in the shortest encoding, and the connection stays', async t => {
  const { connect } = await startBareBroker(t, { acl })
  const writer = await connect(5)
  await writer.connect({ clientId: 'writer' })
  writer.takeBytes()

  writer.publish('closed/a', 'x')
  writer.publish('closed/a', 'x', { qos: 1, messageId: 0x1234 })
  await writer.next('puback')
  t.equal(writer.takeBytes(), '4003123487')
  writer.publish('closed/a', 'x', { qos: 2, messageId: 2 })
  await writer.next('pubrec')
  t.equal(writer.takeBytes(), '5003000287')
  await writer.ping()
})

t.test('a denied publish is logged once for each client and topic', async t => {
  const { connect, log } = await startBareBroker(t, { acl })
  const writer = await connect()
  await writer.connect({ clientId: 'writer' })
  for (let i = 0; i < 5; i++) writer.publish('closed/a', String(i))
  await writer.ping()
  t.equal(log.lines.filter(line => line.startsWith('Denied')).length, 1)
  t.equal(log.debug.filter(line => line === "Denied PUBLISH from writer (d0, q0, r0, m0, 'closed/a', ... (1 bytes))").length, 4)
})

t.test('message_size_limit: a larger payload is dropped and acknowledged, MQTT 5 says 0x95', async t => {
  const { connect } = await startBareBroker(t, { limits: { messageSizeLimit: 4 } })
  const reader = await connect()
  await reader.connect({ clientId: 'reader' })
  await reader.subscribe('#')
  const old = await connect()
  await old.connect({ clientId: 'old' })
  old.takeBytes()
  old.publish('a', '12345', { qos: 1, messageId: 1 })
  await old.next('puback')
  t.equal(old.takeBytes(), '40020001')
  const writer = await connect(5)
  await writer.connect({ clientId: 'writer' })
  writer.takeBytes()
  writer.publish('a', '12345', { qos: 1, messageId: 1 })
  // Mosquitto's answer, which the specification doesn't list for a PUBACK: our test client's parser doesn't know it.
  t.equal(await writer.nextBytes(5), '4003000195')
  writer.publish('a', '1234', { qos: 1, messageId: 2 })
  t.equal(String((await reader.next('publish')).payload), '1234')
})

t.test('a will is judged when it is published, by what its client was', async t => {
  const { connect, log } = await startBareBroker(t, { acl: 'topic read #\npattern write will/%c' })
  const reader = await connect()
  await reader.connect({ clientId: 'reader' })
  await reader.subscribe('#')
  for (const [clientId, topic] of [
    ['bad', 'will/somebody-else'],
    ['good', 'will/good']
  ] as const) {
    const client = await connect()
    await client.connect({ clientId, will: { topic, payload: Buffer.from(clientId), qos: 0, retain: false } })
    client.destroy()
    await until(() => log.lines.some(line => line.startsWith(`Client ${clientId} [`)), 'the end of the client')
  }
  t.equal(String((await reader.next('publish')).payload), 'good')
  t.ok(log.lines.includes("Denied will of bad ('will/somebody-else'): no username, no rule allows it."))
})

t.test('delivery and retained delivery are judged for each message; SUBSCRIBE is granted', async t => {
  const { connect } = await startBareBroker(t, { acl: 'topic write #\ntopic read open/#' })
  const writer = await connect()
  await writer.connect({ clientId: 'writer' })
  writer.publish('closed/retained', 'no', { retain: true, qos: 1, messageId: 1 })
  await writer.next('puback')
  writer.publish('open/retained', 'yes', { retain: true, qos: 1, messageId: 2 })
  await writer.next('puback')

  const reader = await connect()
  await reader.connect({ clientId: 'reader' })
  reader.takeBytes()
  await reader.subscribe('#', 1)
  t.equal(reader.takeBytes().slice(0, 10), '9003000101')
  t.equal(String((await reader.next('publish')).payload), 'yes')
  writer.publish('closed/live', 'no')
  writer.publish('open/live', 'live')
  t.equal(String((await reader.next('publish')).payload), 'live')
})

t.test('a message that may not be read takes no other message of a persistent session with it', async t => {
  const { connect } = await startBareBroker(t, { acl: 'topic write #\ntopic read open/#' })
  const reader = await connect()
  await reader.connect({ clientId: 'reader', clean: false })
  await reader.subscribe('#', 1)
  const writer = await connect()
  await writer.connect({ clientId: 'writer' })
  const send = async (topic: string, messageId: number) => {
    writer.publish(topic, topic, { qos: 1, messageId })
    await writer.next('puback')
  }
  reader.destroy()
  await send('open/1', 1)
  await send('closed/1', 2)
  const again = await connect()
  t.equal((await again.connect({ clientId: 'reader', clean: false })).sessionPresent, true)
  const first = await again.next('publish')
  t.equal(first.topic, 'open/1')
  await send('closed/2', 3)
  await send('open/2', 4)
  t.equal((await again.next('publish')).topic, 'open/2')
  // Neither was acknowledged: both are still there, and nothing else is.
  again.destroy()
  const third = await connect()
  await third.connect({ clientId: 'reader', clean: false })
  t.same([(await third.next('publish')).topic, (await third.next('publish')).topic], ['open/1', 'open/2'])
  await third.ping()
  t.equal(third.packets.length, 0)
})

t.test("aedes' own $SYS topics are neither seen nor written by clients", async t => {
  const { connect, broker } = await startBareBroker(t)
  const reader = await connect()
  await reader.connect({ clientId: 'reader' })
  await reader.subscribe('$SYS/#')
  const writer = await connect()
  await writer.connect({ clientId: 'writer' })
  // Would throw the reader off.
  writer.publish(`$SYS/somewhere-else/new/clients`, 'reader', { qos: 1, messageId: 1 })
  await writer.next('puback')
  writer.publish(`$SYS/${broker.id}/heartbeat`, 'x')
  await writer.ping()
  broker.publish({ cmd: 'publish', topic: '$SYS/broker/uptime', payload: '1 seconds', qos: 0, retain: false, dup: false }, () => {})
  t.equal((await reader.next('publish')).topic, '$SYS/broker/uptime')
})

t.test('names of the language are names like any other', async t => {
  const { connect } = await startBareBroker(t)
  for (const clientId of ['constructor', '__proto__', 'toString', 'hasOwnProperty']) {
    const client = await connect(5)
    t.equal((await client.connect({ clientId, username: '__proto__' })).reasonCode, 0)
    await client.subscribe('constructor')
    await client.subscribe('a/__proto__/constructor')
    client.publish('a/__proto__/constructor', clientId)
    t.equal(String((await client.next('publish')).payload), clientId)
    client.publish('constructor', clientId)
    t.equal(String((await client.next('publish')).payload), clientId)
    client.destroy()
  }
  const client = await connect(5)
  await client.connect({ clientId: 'two' })
  client.send({
    cmd: 'subscribe',
    messageId: 1,
    subscriptions: [
      { topic: '__proto__', qos: 0 },
      { topic: 'a', qos: 0 }
    ]
  })
  t.same((await client.next('suback')).granted, [0, 0])
  client.publish('__proto__', 'x')
  t.equal((await client.next('publish')).topic, '__proto__')
})

t.test('two PUBREL for one identifier in one segment are answered', async t => {
  const { connect } = await startBareBroker(t)
  const client = await connect()
  await client.connect({ clientId: 'twice' })
  client.publish('a', 'x', { qos: 2, messageId: 9 })
  await client.next('pubrec')
  client.stream.write(Buffer.from('6202000962020009', 'hex'))
  await client.next('pubcomp')
  await client.next('pubcomp')
  await client.ping()
})

t.test('a delayed will of MQTT 5 arrives without its delay, and a kicked client sends its will too', async t => {
  const { connect, broker } = await startBareBroker(t)
  const reader = await connect(5)
  await reader.connect({ clientId: 'reader' })
  await reader.subscribe('w/#')
  const client = await connect(5)
  await client.connect({
    clientId: 'c',
    properties: { sessionExpiryInterval: 60 },
    will: { topic: 'w/1', payload: Buffer.from('gone'), qos: 1, retain: false, properties: { willDelayInterval: 1, contentType: 'text' } }
  })
  client.destroy()
  const will = await reader.next('publish')
  t.same([will.topic, String(will.payload), { ...will.properties }], ['w/1', 'gone', { contentType: 'text' }])
  const kicked = await connect(5)
  await kicked.connect({ clientId: 'k', will: { topic: 'w/2', payload: Buffer.from('kicked'), qos: 1, retain: false } })
  await broker.recheckClients(({ admitted }) => (admitted.identity.clientId === 'k' ? 'not-authorised' : admitted))
  t.equal((await reader.next('publish')).topic, 'w/2')
})
