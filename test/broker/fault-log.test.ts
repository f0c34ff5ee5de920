// What the log says of packets, those that break the rules and those that keep them, in Mosquitto's words and order.
// test/parity/log-lines.test.ts asks the real one for the words.

import t, { type Test } from 'tap'
import { type BareOptions, startBareBroker } from '../helpers/bare-broker.js'
import { connect, connectV3, connectV5, field, packet, publish, subscribe, uint16 } from '../helpers/raw-mqtt.js'
import { until } from '../helpers/until.js'
import { hexOf, openWire } from '../helpers/wire.js'

const connack3 = '20020000'
const hex = (text: string): Buffer => Buffer.from(hexOf(text), 'hex')
const unsubscribe = (filter: string): Buffer => packet(0xa2, uint16(1), field(filter))
const named = (name: string, level: number): Buffer => packet(0x10, field(name), Buffer.from([level, 2, 0, 60]), field('n'))

/** Sends it all, waits until the broker ends the connection, and gives the lines that come behind those of the CONNECT. */
async function linesOf(t: Test, bytes: Buffer, options?: BareOptions): Promise<readonly string[]> {
  const { port, log } = await startBareBroker(t, options)
  const wire = await openWire(port)
  wire.send(bytes)
  await until(() => log.lines.some(line => line.startsWith('Client ')))
  wire.drop()
  return log.lines.filter(line => !line.startsWith('New client')).map(line => line.replaceAll(/127\.0\.0\.1:\d+/g, 'ADDRESS'))
}

t.test('a CONNECT that can not be taken is told before the line of its end', async t => {
  const ends = (words: string) => `Client <unknown> [ADDRESS] disconnected: ${words}.`
  for (const [bytes, line, words = 'protocol error'] of [
    ['10 00', 'Protocol error from ADDRESS: CONNECT with missing protocol string length.'],
    ['10 07 0005 4d51545454', 'Protocol error from ADDRESS: CONNECT with incorrect protocol string length (5).'],
    ['10 04 0004 4d51', 'Protocol error from ADDRESS: CONNECT with missing protocol string.'],
    ['10 06 0004 4d515454', 'Protocol error from ADDRESS: CONNECT with missing protocol version.'],
    ['10 07 0004 4d515454 04', 'Protocol error from ADDRESS: CONNECT with missing connect flags.'],
    ['11 0d 0004 4d515454 04 02 003c 0001 6e', 'Protocol error from ADDRESS: CONNECT with non-zero reserved flags (11).'],
    ['10 0d 0004 4d515454 04 0b 003c 0001 6e', 'Protocol error from ADDRESS: CONNECT with non-zero connect reserved flag (0B).'],
    [named('MQTX', 4), 'Protocol error from ADDRESS: CONNECT with invalid protocol "MQTX".'],
    [named('MQTT', 3), 'Protocol error from ADDRESS: CONNECT with invalid protocol version (3).'],
    [named('MQTT', 6), undefined, 'unsupported protocol version'],
    [connectV3('n', { will: { topic: 'w', payload: '', qos: 3 } }), 'Protocol error from ADDRESS: CONNECT with invalid Will QoS (3).'],
    [connect({ version: 3 }), 'Protocol error from ADDRESS: v3.1 CONNECT with zero length clientid.'],
    [connectV3('', { clean: false }), 'Protocol error from ADDRESS: CONNECT with zero length clientid when forbidden.'],
    [connectV3('n', { will: { topic: '', payload: '' } }), 'Protocol error from n: Will with empty topic.'],
    [connectV5('n', { will: { topic: '', payload: '' } }), 'Protocol error from n: Will with empty topic.'],
    [connectV3('n', { password: 'p' }), 'Protocol error from n: password without username, closing connection.'],
    ['10 0d 0004 4d515454 04 82 003c 0001 6e', 'Protocol error from n: CONNECT with username flag but no username.'],
    ['10 10 0004 4d515454 04 c2 003c 0001 6e 0001 75', 'Protocol error from n: CONNECT with password flag but no password.'],
    ['10 0f 0004 4d515454 04 02 003c 0001 6e 0000', 'Protocol error from n: CONNECT packet with overlong remaining length (13:15).']
  ] as const) {
    const found = await linesOf(t, typeof bytes === 'string' ? hex(bytes) : bytes)
    t.same(found, [...(line === undefined ? [] : [line]), ends(words)])
  }
})

t.test('so is any other packet that Mosquitto has words for', async t => {
  const low = { listener: { maxQos: 1 } } as const
  for (const [bytes, line, words = 'malformed packet', options] of [
    [hex('36 00'), 'Invalid QoS in PUBLISH from n, disconnecting.'],
    [hex('38 00'), 'Invalid PUBLISH (QoS=0 and DUP=1) from n, disconnecting.'],
    [publish('t', { qos: 2 }), 'Too high QoS in PUBLISH from n, disconnecting.', 'used disallowed feature (QoS too high)', low],
    [subscribe([''], 4, 0), 'Empty subscription string from 127.0.0.1, disconnecting.'],
    [subscribe(['a#'], 4, 0), 'Invalid subscription string from 127.0.0.1, disconnecting.'],
    [subscribe(['a'], 4, 3), 'Invalid QoS in subscription command from 127.0.0.1, disconnecting.'],
    [subscribe(['$share/g/a'], 4, 4), 'Protocol error from n: $share subscription with no-local set.', 'protocol error'],
    [unsubscribe(''), 'Empty unsubscription string from n, disconnecting.'],
    [unsubscribe('a#'), 'Invalid unsubscription string from n, disconnecting.'],
    [connectV3('n'), 'Bad client n sending multiple CONNECT messages.', 'protocol error']
  ] as const) {
    const found = await linesOf(t, Buffer.concat([connectV3('n'), bytes]), options)
    t.same(found, [line, `Client n [ADDRESS] disconnected: ${words}.`])
  }
})

t.test('MQTT 5 has options of its own, which are malformed without a word', async t => {
  for (const options of [0x30, 0x40, 0x80]) {
    const found = await linesOf(t, Buffer.concat([connectV5('n'), subscribe(['a'], 5, options)]))
    t.same(found, ['Client n [ADDRESS] disconnected: malformed packet.'])
  }
})

t.test('a will that is too large has a line of its own', async t => {
  const { port, log } = await startBareBroker(t, { limits: { messageSizeLimit: 3 } })
  const wire = await openWire(port)
  wire.send(connectV3('n', { will: { topic: 'w', payload: 'four' } }))
  await wire.expect('20020005')
  await wire.expectClosed()
  t.same(log.debug, ['Client n connected with too large Will payload', 'Sending CONNACK to n (0, 5)'])
})

t.test('who is refused before it has a name shows with its address', async t => {
  const { port, log } = await startBareBroker(t)
  const wire = await openWire(port)
  wire.send(named('MQTT', 6))
  await wire.expect('2003008400')
  await wire.expectClosed()
  t.same(log.debug, ['Sending CONNACK to 127.0.0.1 (0, 132)'])
})

// As the real one prints them with `log_type all`, and `mount_point mp/`: SUBSCRIBE shows it, UNSUBSCRIBE doesn't.
t.test('each filter of SUBSCRIBE and UNSUBSCRIBE has its line before what comes of it', async t => {
  const { port, log } = await startBareBroker(t, { listener: { mountPoint: 'mp/', maxQos: 1 } })
  const wire = await openWire(port)
  wire.send(connectV3('c'), '82 0c 0001 0003 612f62 01 0001 62 02', 'a2 08 0002 0001 62 0001 7a', 'e000')
  await wire.expect(connack3, '9004 0001 01 01', 'b002 0002')
  await wire.expectClosed()
  t.same(log.all.slice(3, -1), [
    'Received SUBSCRIBE from c',
    '\tmp/a/b (QoS 1)',
    'c 1 mp/a/b',
    '\tmp/b (QoS 1)',
    'c 1 mp/b',
    'Sending SUBACK to c',
    'Received UNSUBSCRIBE from c',
    '\tb',
    'c b',
    '\tz',
    'c z',
    'Sending UNSUBACK to c',
    'Received DISCONNECT from c'
  ])
})

t.test('a PUBLISH that goes nowhere is not said to have been received', async t => {
  const { port, log } = await startBareBroker(t, { acl: 'topic write mine', limits: { messageSizeLimit: 2 } })
  const wire = await openWire(port)
  wire.send(connectV3('c'))
  await wire.expect(connack3)
  wire.send(publish('mine', { payload: 'ok' }), publish('mine', { payload: 'too much' }), publish('other', { payload: 'no' }))
  await wire.expectNothing()
  t.same(
    log.all.filter(line => line.includes('PUBLISH')).map(line => line.replace(/ \(d0.*/, '')),
    ['Received PUBLISH from c', 'Dropped too large PUBLISH from c', 'Denied PUBLISH from c']
  )
})

// What MQTT 3 can't be told: it is held as long as there is room for it, then the connection ends.
t.test('half QoS 2 handshakes of MQTT 3 have a limit, in number and in bytes, and the log names who passed it', async t => {
  const flood = async (count: number, payload: Buffer) => {
    const { port, log } = await startBareBroker(t)
    const wire = await openWire(port)
    wire.send(connectV3('n'))
    await wire.expect(connack3)
    for (let id = 1; id <= count; id++) wire.send(publish('t', { qos: 2, messageId: id, payload }))
    await wire.expect(Buffer.concat(Array.from({ length: count - 1 }, (_, i) => packet(0x50, uint16(i + 1)))))
    await wire.expectClosed()
    t.match(log.lines.slice(1), [
      'Client n has exceeded its receive-maximum quota. This behaviour must be fixed on the client.',
      /^Client n \[.*\] disconnected: receive maximum exceeded\.$/
    ])
  }
  await flood(10_001, Buffer.from('x'))
  await flood(18, Buffer.alloc(1_000_000))
})

t.test('a DISCONNECT that keeps the will is a goodbye too', async t => {
  const { port, log } = await startBareBroker(t)
  const [wire, other] = [await openWire(port), await openWire(port)]
  other.send(connectV3('other'), subscribe(['w'], 4, 0))
  await other.expect(connack3, '9003 0007 00')
  wire.send(connectV5('n', { will: { topic: 'w', payload: 'x' } }), 'e0 01 04')
  await other.expect(publish('w', { payload: 'x' }))
  await until(() => log.lines.some(line => /^Client n \[.*\] disconnected\.$/.test(line)))
})

t.test('a bridge of Mosquitto shows as one', async t => {
  const { port, log } = await startBareBroker(t)
  const wire = await openWire(port)
  wire.send(named('MQTT', 0x84))
  await wire.expect(connack3)
  wire.drop()
  t.match(log.lines[0], /^New bridge connected from 127\.0\.0\.1:\d+ as n \(p4, c1, k60\)\.$/)
})

t.test('what a client could do with every packet is a line the first time, and each time that there are ten times as many', async t => {
  const { port, log } = await startBareBroker(t)
  const told = async (bytes: readonly Buffer[], last: string, ...before: readonly string[]) => {
    log.lines.length = 0
    const wire = await openWire(port)
    wire.send(Buffer.concat(bytes))
    await until(() => log.lines.some(line => line.startsWith('Client n [')))
    wire.drop()
    t.same(
      log.lines.filter(line => !/^New |\[/.test(line)),
      [...before, last]
    )
  }
  const reused = Array.from({ length: 102 }, (_, i) => publish('t', { qos: 2, messageId: 1, payload: String(i) }))
  const times = (count: number, what: string) => `Client n has ${what} ${count} times since it connected.`
  const ids = 'reused message IDs that are not free'
  const first = 'Reused message ID 1 from n detected. Clearing from storage.'
  await told([connectV3('n'), ...reused, hex('e0 00')], times(100, ids), first, times(10, ids))
  const beyond = Array.from({ length: 20 + 11 }, (_, i) => publish('t', { version: 5, qos: 2, messageId: i + 1 }))
  const quota = 'exceeded its receive-maximum quota'
  const warned = `Client n has ${quota}. This behaviour must be fixed on the client.`
  await told([connectV5('n'), ...beyond, hex('e0 00')], times(10, quota), warned)
})
