// The persistence database of the Mosquitto that is installed: what it writes we read, what we write it goes on with.

import { once } from 'node:events'
import { readFileSync, writeFileSync } from 'node:fs'
import { connect as connectTcp } from 'node:net'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { Message } from '../../dist/message.js'
import type { QueueEntry } from '../../dist/storage.js'
import { type KeptChange, parseMosquittoDb } from '../../dist/store/mosquitto-db.js'
import { writeMosquittoDb } from '../../dist/store/mosquitto-db-writer.js'
import { type ClientOptions, connectText, Peer } from '../helpers/arena.js'
import { freePort, type Running, start, userLine } from '../helpers/command.js'
import { keptBy } from '../helpers/kept.js'
import { bytesOf, uint32 } from '../helpers/packet-text.js'

interface Real {
  readonly port: number
  readonly file: string
  client(clientId: string, options?: ClientOptions): Promise<Peer>
  /** What it writes now. */
  save(): Promise<Buffer>
  log(): string
  stop(): Promise<void>
}

async function startReal(t: Test, database?: Buffer): Promise<Real> {
  const dir = t.testdir({})
  const file = join(dir, 'mosquitto.db')
  if (database !== undefined) writeFileSync(file, database)
  const port = await freePort()
  const conf = [
    'persistence true',
    `persistence_location ${dir}/`,
    'allow_anonymous true',
    'log_type all',
    'set_tcp_nodelay true',
    `listener ${port} 127.0.0.1`
  ]
  writeFileSync(join(dir, 'mosquitto.conf'), `${userLine}${conf.join('\n')}\nqueue_qos0_messages true\n`)
  const running: Running = start(t, 'mosquitto', ['-c', join(dir, 'mosquitto.conf')])
  await running.line(/ running$/)
  const client = async (clientId: string, options: ClientOptions = {}) => {
    const socket = connectTcp({ port, host: '127.0.0.1', noDelay: true })
    t.teardown(() => socket.destroy())
    await once(socket, 'connect')
    const peer = new Peer(socket, options.version ?? 4)
    peer.send(connectText(clientId, options))
    const [head, , present, code] = await peer.next()
    t.same([head, present, code], [0x20, options.present ?? 0, 0], `${clientId} is let in`)
    return peer
  }
  return {
    port,
    file,
    client,
    save: async () => {
      const watcher = await client('watcher')
      running.child.kill('SIGUSR1')
      await running.line(/Saving in-memory database/)
      // It does one thing at a time.
      await watcher.ping()
      await watcher.disconnect()
      return readFileSync(file)
    },
    log: () => running.stderr(),
    // Not SIGTERM: one that comes right after the line "running" is forgotten by 2.0.
    stop: async () => void (await running.stop('SIGKILL'))
  }
}

const never = 0xffffffff
const keyOf = (port: number) => `any ${port} `
const read = (bytes: Buffer) => keptBy(parseMosquittoDb(bytes, { listenerOf: keyOf }))

async function written(changes: readonly KeptChange[]): Promise<Buffer> {
  const blocks: Buffer[] = []
  for await (const block of writeMosquittoDb(changes)) blocks.push(block)
  return Buffer.concat(blocks)
}

const subscription = (filter: string, qos: 0 | 1 | 2, more: object = {}) => ({
  filter,
  qos,
  noLocal: false,
  retainAsPublished: false,
  retainHandling: 0,
  identifier: 0,
  ...more
})

t.test('sessions and their subscriptions are read as Mosquitto has them', async t => {
  const real = await startReal(t)
  const listener = keyOf(real.port)
  const before = Math.floor(Date.now() / 1000)
  for (const [clientId, options] of [
    ['never', { version: 5, clean: false, properties: '11 ffffffff' }],
    ['old', { version: 3, clean: false }],
    ['clean', { clean: true }],
    ['ends with its connection', { version: 5, clean: false }],
    ['three', { clean: false, username: 'ann' }]
  ] as const) {
    const client = await real.client(clientId, options)
    await client.subscribe('a/+', 1)
    await client.drop()
  }
  const five = await real.client('fünf/ω 🦟', { version: 5, clean: false, properties: '11 000003e8', username: 'bén' })
  await five.subscribe('plain/#', 2)
  await five.subscribe('no local', 1, { options: 0x04 })
  await five.subscribe('as published', 0, { options: 0x08 })
  await five.subscribe('handling', 1, { options: 0x20 })
  await five.subscribe('/x//', 0)
  await five.subscribe('identified', 1, { properties: '0b ac02' })
  await five.subscribe('$share/g/s/#', 1)
  await five.disconnect()
  const connected = await real.client('connected', { version: 5, clean: false, properties: '11 000003e8', username: 'cy' })
  await connected.subscribe('$SYS/broker/uptime', 0)

  const { sessions, problem } = read(await real.save())
  t.equal(problem, undefined)
  t.same(Object.keys(sessions).sort(), ['connected', 'fünf/ω 🦟', 'never', 'old', 'three'])
  const { expiresAt = 0, ...record } = sessions['fünf/ω 🦟']?.record ?? {}
  t.same(record, { clientId: 'fünf/ω 🦟', username: 'bén', version: 5, listener, expiryInterval: 1000 })
  t.ok(expiresAt >= (before + 1000) * 1000 && expiresAt <= Date.now() + 1_001_000, `${expiresAt}`)
  t.same(sessions.connected?.record, { clientId: 'connected', username: 'cy', version: 5, listener, expiryInterval: 1000 })
  t.same(sessions.three?.record, { clientId: 'three', username: 'ann', version: 4, listener, expiryInterval: never })
  t.same(sessions.old?.record, { clientId: 'old', version: 4, listener, expiryInterval: never })
  t.same(sessions.never?.record, { clientId: 'never', version: 4, listener, expiryInterval: never })
  t.same(sessions.three?.subscriptions, { 'a/+': subscription('a/+', 1) })
  t.same(sessions.connected?.subscriptions, { '$SYS/broker/uptime': subscription('$SYS/broker/uptime', 0) })
  // 2.0 writes neither the retain handling, which matters at SUBSCRIBE only, nor shared subscriptions, which it loses.
  t.same(sessions['fünf/ω 🦟']?.subscriptions, {
    'plain/#': subscription('plain/#', 2),
    'no local': subscription('no local', 1, { noLocal: true }),
    'as published': subscription('as published', 0, { retainAsPublished: true }),
    handling: subscription('handling', 1),
    '/x//': subscription('/x//', 0),
    identified: subscription('identified', 1, { identifier: 300 })
  })
})

t.test('a client without a username is not given what 2.0 wrote of another', async t => {
  const real = await startReal(t)
  for (const [clientId, username] of [['a', 'ann'], ['b'], ['c', 'carol']] as const) {
    const client = await real.client(clientId, { clean: false, ...(username !== undefined && { username }) })
    await client.disconnect()
  }
  const { sessions, problem } = read(await real.save())
  t.equal(problem, undefined)
  t.same(
    Object.values(sessions).map(({ record }) => record.username),
    ['ann', undefined, 'carol']
  )
})

t.test('messages of every stage, both ways, and retained ones are read as Mosquitto has them', async t => {
  const real = await startReal(t)
  const listener = keyOf(real.port)
  const flight = await real.client('flight', { clean: false })
  await flight.subscribe('f/#', 2)
  const five = await real.client('five', { version: 5, clean: false, properties: '11 000003e8' })
  await five.subscribe('+/5', 1, { options: 0x08, properties: '0b ac02' })
  await five.disconnect()
  const publisher = await real.client('publisher', { version: 5, username: 'paul' })
  await publisher.publish('f/1', 'one', { qos: 1 })
  await publisher.publish('f/2', 'two', { qos: 2 })
  await publisher.publish('f/3', 'three', { qos: 2 })
  await flight.expect(`32 "f/1" 0001 'one'`, `34 "f/2" 0002 'two'`, `34 "f/3" 0003 'three'`)
  flight.send('50 0003')
  await flight.expect('62 0003')
  await flight.drop()
  const before = Math.floor(Date.now() / 1000)
  await publisher.publish('f/4', 'four', { qos: 1 })
  const properties = '01 01 03 "text/plain" 08 "re/ply" 09 "corr" 26 "k" "v" 26 "k" "w"'
  await publisher.publish('f/5', 'five', { qos: 2, retain: true, properties: `${properties} 02 ${uint32(500)}` })
  await publisher.publish('f/6', 'six')
  await publisher.publish('ω', '', { retain: true })
  await publisher.publish('ω', 'ü', { retain: true })
  const incoming = await real.client('incoming', { clean: false })
  incoming.send(`35 "in/1" 004d 'held'`, `34 "in/2" 0005 'released'`, '62 0005')
  await incoming.expect('50 004d', '50 0005', '70 0005')
  await incoming.drop()

  const { sessions, retained, problem } = read(await real.save())
  t.equal(problem, undefined)
  const message = (topic: string, payload: string, qos: number, more: object = {}) => ({
    topic,
    payload,
    qos,
    retain: false,
    properties: '',
    expiresAt: Number.POSITIVE_INFINITY,
    source: { clientId: 'publisher', username: 'paul', listener },
    ...more
  })
  const fifth = retained['f/5']
  const expiresAt = fifth !== undefined && 'expiresAt' in fifth ? Number(fifth.expiresAt) : 0
  // Mosquitto looks at the clock once for each turn, which may have begun in the second before.
  t.ok(expiresAt >= (before + 499) * 1000 && expiresAt <= Date.now() + 501_000, `${expiresAt} for ${before}`)
  const hex = bytesOf([`f0 ${properties}`], 4)
    .subarray(2)
    .toString('hex')
  const f5 = message('f/5', 'five', 2, { retain: true, properties: hex, expiresAt })
  t.same(retained, { 'f/5': f5, ω: message('ω', Buffer.from('ü').toString('latin1'), 0, { retain: true }) })
  const entry = (sequence: number, state: string, packetId: number, message: { qos: number }) => ({
    clientId: 'flight',
    sequence,
    qos: message.qos,
    retain: false,
    subscriptionIdentifier: 0,
    packetId,
    state,
    message
  })
  t.same(sessions.flight?.queue, [
    entry(1, 'sent', 1, message('f/1', 'one', 1)),
    entry(2, 'sent', 2, message('f/2', 'two', 2)),
    entry(3, 'received', 3, message('f/3', 'three', 2)),
    entry(4, 'queued', 4, message('f/4', 'four', 1)),
    entry(5, 'queued', 5, f5),
    entry(6, 'queued', 0, message('f/6', 'six', 0))
  ])
  t.equal(sessions.flight?.lastPacketId, 5)
  t.same(sessions.five?.queue, [
    { clientId: 'five', sequence: 1, qos: 1, retain: true, subscriptionIdentifier: 300, packetId: 1, state: 'queued', message: f5 }
  ])
  t.same(sessions.incoming?.held, { 77: message('in/1', 'held', 2, { retain: true, source: { clientId: 'incoming', listener } }) })
})

t.test('Mosquitto goes on with what we write', async t => {
  const expiresAt = Date.now() + 500_000
  const source = { clientId: 'publisher', username: 'paul', listener: keyOf(1883) }
  const message = (topic: string, payload: string, qos: 0 | 1 | 2, more: object = {}) =>
    new Message({ topic, payload: Buffer.from(payload), qos, retain: false, source, ...more })
  const properties = bytesOf(['f0 03 "text/plain" 26 "k" "v"'], 4).subarray(2)
  const both = message('f/5', 'five', 2, { retain: true, properties, expiresAt })
  let sequence = 0
  const enqueue = (clientId: string, message: Message, packetId: number, state: QueueEntry['state'], more: object = {}): KeptChange => ({
    kind: 'enqueue',
    message,
    entries: [
      { clientId, sequence: ++sequence, message, qos: message.qos, retain: false, subscriptionIdentifier: 0, packetId, state, ...more }
    ]
  })
  const session = (clientId: string, more: object = {}, lastPacketId = 0): KeptChange => ({
    kind: 'session',
    session: { clientId, version: 4, expiryInterval: never, ...more },
    lastPacketId
  })
  const subscribe = (clientId: string, filter: string, qos: 0 | 1 | 2, more: object = {}): KeptChange => ({
    kind: 'subscribe',
    clientId,
    subscription: { filter, qos, noLocal: false, retainAsPublished: false, retainHandling: 0, identifier: 0, ...more }
  })
  const five = { version: 5, expiryInterval: 1000 } as const
  const real = await startReal(
    t,
    await written([
      session('flight', { username: 'ann' }, 40),
      session('fünf', { ...five, username: 'bén', expiresAt }),
      session('away', { ...five, expiresAt }),
      session('connected', five),
      session('incoming'),
      subscribe('flight', 'f/#', 2),
      subscribe('flight', 'in/+', 2),
      subscribe('fünf', 'f/5', 1, { retainAsPublished: true, identifier: 300 }),
      subscribe('fünf', 'mine', 1, { noLocal: true, retainHandling: 2 }),
      subscribe('connected', 's/#', 1, { group: 'g' }),
      { kind: 'hold', clientId: 'incoming', packetId: 77, message: message('in/1', 'held', 2, { source: { clientId: 'incoming' } }) },
      enqueue('flight', message('f/1', 'one', 1), 11, 'sent'),
      enqueue('flight', message('f/2', 'two', 2), 12, 'sent'),
      enqueue('flight', message('f/3', 'three', 2), 13, 'received'),
      enqueue('flight', message('f/4', 'four', 1), 15, 'queued'),
      enqueue('flight', both, 39, 'queued'),
      enqueue('flight', message('f/6', 'six', 0), 0, 'queued'),
      enqueue('fünf', both, 1, 'queued', { qos: 1, retain: true, subscriptionIdentifier: 300 }),
      { kind: 'retain', topic: 'f/5', message: both },
      { kind: 'retain', topic: '$SYS/broker/uptime', message: message('$SYS/broker/uptime', 'for ever', 0) }
    ])
  )
  t.notMatch(real.log(), /error|warning: (?!Mosquitto should not be run as root)/i)

  await t.test('to a session, in the order of its queue, with the same packet identifiers', async () => {
    const flight = await real.client('flight', { clean: false, username: 'ann', present: 1 })
    await flight.expect(
      `3a "f/1" 000b 'one'`,
      `3c "f/2" 000c 'two'`,
      '62 000d',
      `32 "f/4" 000f 'four'`,
      `34 "f/5" 0027 'five'`,
      `30 "f/6" 'six'`
    )
    flight.send('40 000b', '50 000c', '70 000d', '40 000f', '50 0027')
    await flight.expect('62 000c', '62 0027')
    flight.send('70 000c', '70 0027')
    await flight.ping()
    const incoming = await real.client('incoming', { clean: false, present: 1 })
    incoming.send(`3c "in/1" 004d 'held'`)
    await incoming.expect('50 004d')
    await flight.expectNothing()
    incoming.send('62 004d')
    await incoming.expect('70 004d')
    // And counts on from the last one.
    await flight.expect(`34 "in/1" 0029 'held'`)
    await flight.drop()
    await incoming.disconnect()
  })

  await t.test('to MQTT 5, with properties and what is left of the expiry', async t => {
    const client = await real.client('fünf', { version: 5, clean: false, properties: '11 000003e8', username: 'bén', present: 1 })
    const packet = (await client.next()).toString('hex')
    const [, left = ''] = new RegExp(`^33..0003662f350001..0bac02${properties.toString('hex')}02(.{8})66697665$`).exec(packet) ?? []
    const seconds = Number.parseInt(left, 16)
    t.ok(seconds > 400 && seconds <= 500, packet)
    client.send('40 0001')
    await client.publish('mine', 'not for me')
    await client.disconnect()
  })

  await t.test('retained messages, but for those about the broker', async t => {
    const client = await real.client('new', {})
    await client.subscribe('f/#', 0)
    await client.expect(`31 "f/5" 'five'`)
    await client.subscribe('$SYS/broker/uptime', 0)
    t.notMatch((await client.next()).toString(), 'for ever')
    await client.disconnect()
  })

  await t.test('what comes after it is kept beside what was there, a shared subscription works', async t => {
    const client = await real.client('publisher', {})
    await client.publish('f/7', 'seven', { qos: 1 })
    await client.publish('s/1', 'shared', { qos: 1 })
    const { sessions, retained, problem } = read(await real.save())
    t.equal(problem, undefined)
    t.same(Object.keys(retained), ['f/5'])
    t.match(sessions.flight, {
      record: { username: 'ann' },
      lastPacketId: 42,
      queue: [
        { packetId: 41, state: 'sent', message: { topic: 'in/1', source: { clientId: 'incoming' } } },
        { packetId: 42, state: 'queued', message: { topic: 'f/7' } }
      ]
    })
    // When it ends is all that can be asked: 2.0 lets no session end that it has read.
    t.equal(sessions.away?.record.expiresAt, Math.floor(expiresAt / 1000) * 1000)
    t.match(sessions.connected, { record: { expiryInterval: 1000 }, queue: [{ packetId: 1, message: { topic: 's/1' } }] })
    t.same(sessions.fünf?.subscriptions.mine, { ...subscription('mine', 1), noLocal: true })
  })
})
