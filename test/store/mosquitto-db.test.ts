// Mosquitto's persistence database without a Mosquitto: every version, whatever can be kept, and whatever can be wrong with a file.

import fc from 'fast-check'
import t from 'tap'
import { Message } from '../../dist/message.js'
import { encodeProperties } from '../../dist/protocol/properties.js'
import type { QueueEntry } from '../../dist/storage.js'
import { type DatabaseProblem, type KeptChange, parseMosquittoDb } from '../../dist/store/mosquitto-db.js'
import { writeMosquittoDb } from '../../dist/store/mosquitto-db-writer.js'
import { type Kept, keptBy } from '../helpers/kept.js'
import { below, field, seededRandom, uint16 } from '../helpers/raw-mqtt.js'

const never = 0xffffffff

async function blocksOf(changes: AsyncIterable<KeptChange> | Iterable<KeptChange>, now?: number): Promise<Buffer[]> {
  const blocks: Buffer[] = []
  for await (const block of writeMosquittoDb(changes, now === undefined ? {} : { now })) blocks.push(block)
  return blocks
}

const written = async (changes: Iterable<KeptChange>, now?: number): Promise<Buffer> => Buffer.concat(await blocksOf(changes, now))
const listenerOf = (port: number): string => `any ${port} `
const read = (bytes: Buffer): Kept => keptBy(parseMosquittoDb(bytes, { listenerOf }))

function changesOf(bytes: Buffer): { changes: KeptChange[]; problem: DatabaseProblem | undefined } {
  const changes: KeptChange[] = []
  const reading = parseMosquittoDb(bytes, { listenerOf })
  for (;;) {
    const { done, value } = reading.next()
    if (done) return { changes, problem: value }
    changes.push(value)
  }
}

// --- files by hand ---

const uint32 = (value: number): Buffer => Buffer.concat([uint16(value >>> 16), uint16(value & 0xffff)])
const native64 = (value: number): Buffer => {
  const bytes = Buffer.alloc(8)
  bytes.writeBigInt64LE(BigInt(value))
  return bytes
}
const hex = (text: string): Buffer => Buffer.from(text.replaceAll(' ', ''), 'hex')
const head = (version: number): Buffer => Buffer.concat([Buffer.from('\x00\xb5\x00mosquitto db', 'latin1'), uint32(0), uint32(version)])

/** Of versions 5 and 6. */
const chunk = (type: number, ...parts: readonly Buffer[]): Buffer => {
  const body = Buffer.concat(parts)
  return Buffer.concat([uint32(type), uint32(body.length), body])
}

/** Of versions 2 to 4. */
const oldChunk = (type: number, ...parts: readonly Buffer[]): Buffer => {
  const body = Buffer.concat(parts)
  return Buffer.concat([uint16(type), uint32(body.length), body])
}

const text = (value: string): Buffer => Buffer.from(value)

const messageChunk = chunk(2, native64(9), native64(0), uint32(2), hex('0000 0000 0000 0003 0000 01 00'), text('a/b'), text('hi'))

t.test('version 5 has no username and no port', async t => {
  const client = chunk(6, native64(1_800_000_000), uint32(60), uint16(7), uint16(2), text('me'))
  const queued = chunk(3, native64(9), uint16(7), uint16(2), hex('01 03 10 01'), text('me'))
  const { sessions, problem } = read(Buffer.concat([head(5), messageChunk, client, queued]))
  t.equal(problem, undefined)
  t.same(sessions.me?.record, { clientId: 'me', version: 5, expiryInterval: 60, expiresAt: 1_800_000_000_000 })
  t.match(sessions.me, {
    lastPacketId: 7,
    queue: [{ packetId: 7, qos: 1, retain: true, state: 'sent', message: { topic: 'a/b', payload: 'hi' } }]
  })
})

for (const version of [2, 3, 4]) {
  t.test(`version ${version} is written field by field`, async t => {
    const source = version === 4 ? [field('paul'), uint16(1883)] : []
    const disconnected = version === 2 ? [] : [native64(1_500_000_000)]
    const bytes = Buffer.concat([
      head(version),
      oldChunk(1, hex('01 08'), native64(9)),
      oldChunk(2, native64(9), field('pub'), ...source, uint16(3), uint16(0), field('a/b'), hex('02 01'), uint32(2), text('hi')),
      oldChunk(6, field('me'), uint16(7), ...disconnected),
      oldChunk(3, field('me'), native64(9), uint16(7), hex('02 00 01 05 01')),
      oldChunk(3, field('me'), native64(9), uint16(3), hex('02 01 00 07 00')),
      oldChunk(5, field('me'), field('a/#'), hex('02')),
      oldChunk(4, native64(9))
    ])
    const message = {
      topic: 'a/b',
      payload: 'hi',
      qos: 2,
      retain: true,
      properties: '',
      expiresAt: Number.POSITIVE_INFINITY,
      source: { clientId: 'pub', ...(version === 4 && { username: 'paul', listener: 'any 1883 ' }) }
    }
    t.same(read(bytes), {
      sessions: {
        me: {
          record: { clientId: 'me', version: 4, expiryInterval: never },
          lastPacketId: 7,
          subscriptions: {
            'a/#': { filter: 'a/#', qos: 2, noLocal: false, retainAsPublished: false, retainHandling: 0, identifier: 0 }
          },
          held: { 3: message },
          queue: [{ clientId: 'me', sequence: 1, qos: 2, retain: false, subscriptionIdentifier: 0, packetId: 7, state: 'sent', message }]
        }
      },
      retained: { 'a/b': message },
      problem: undefined
    })
  })
}

t.test('32-bit x86 has no padding', async t => {
  const config = chunk(1, native64(9), hex('01 08 00 00'))
  const client = chunk(6, native64(0), uint32(never), uint16(0), uint16(2), uint16(8883), uint16(3), text('me'), text('ann'))
  const { sessions, problem } = read(Buffer.concat([head(6), config, client]))
  t.equal(problem, undefined)
  t.same(sessions.me?.record, { clientId: 'me', username: 'ann', version: 4, listener: 'any 8883 ', expiryInterval: never })
})

t.test('every state of an outgoing message is one of ours', async t => {
  // Of mosquitto_msg_state; `dup` says that it was sent, whatever comes next.
  const cases: readonly [qos: number, state: number, dup: number, ours: QueueEntry['state']][] = [
    [0, 1, 0, 'queued'],
    [0, 11, 0, 'queued'],
    [1, 2, 0, 'queued'],
    [1, 2, 1, 'sent'],
    [1, 3, 0, 'sent'],
    [1, 11, 0, 'queued'],
    [1, 11, 1, 'sent'],
    [2, 4, 0, 'queued'],
    [2, 4, 1, 'sent'],
    [2, 5, 1, 'sent'],
    [2, 6, 1, 'received'],
    [2, 9, 1, 'received'],
    [2, 11, 0, 'queued']
  ]
  for (const [qos, state, dup, ours] of cases) {
    const queued = chunk(3, native64(9), uint16(7), uint16(2), Buffer.of(qos, state, dup, 1), text('me'))
    const { sessions } = read(Buffer.concat([head(6), messageChunk, queued]))
    t.match(sessions.me?.queue, [{ qos, packetId: qos === 0 ? 0 : 7, state: ours }], `QoS ${qos}, state ${state}, DUP ${dup}`)
  }
})

t.test('an incoming message that nobody waits for is left out', async t => {
  const held = (qos: number) => chunk(3, native64(9), uint16(7), uint16(2), Buffer.of(qos, 7, 0, 0), text('me'))
  const { sessions, problem } = read(Buffer.concat([head(6), messageChunk, held(1)]))
  t.same({ sessions, problem }, { sessions: {}, problem: undefined })
  t.ok(read(Buffer.concat([head(6), messageChunk, held(2)])).sessions.me?.held[7])
})

// --- what is wrong ---

t.test('a file of somebody else is told apart from a damaged one', async t => {
  const problem = (bytes: Buffer) => changesOf(bytes).problem
  t.same(problem(Buffer.from('SQLite format 3\0 and so on')), { kind: 'foreign', message: 'is not a persistence database of Mosquitto' })
  t.same(problem(Buffer.from('x')), { kind: 'foreign', message: 'is not a persistence database of Mosquitto' })
  t.same(problem(Buffer.alloc(0)), { kind: 'damaged', message: 'is empty' })
  t.same(problem(head(6).subarray(0, 10)), { kind: 'damaged', message: 'is cut off in what begins at byte 0' })
  t.same(problem(head(6).subarray(0, 20)), { kind: 'damaged', message: 'is cut off in what begins at byte 0' })
  t.equal(problem(head(6)), undefined)
  for (const version of [0, 1, 7, never]) {
    t.same(problem(Buffer.concat([head(version), messageChunk])), {
      kind: 'version',
      message: `has version ${version} of Mosquitto's database; versions 2 to 6 can be read`
    })
  }
})

t.test('a chunk that makes no sense is left out, and the next one is found', async t => {
  const retained = chunk(4, native64(9))
  const wrong: Readonly<Record<string, Buffer>> = {
    'of no known type': chunk(7, text('whatever')),
    'with a field too few': chunk(4, hex('01')),
    'about a message that is not there': chunk(4, native64(8)),
    'with a wildcard in a topic': chunk(2, native64(1), native64(0), uint32(0), hex('0000 0000 0000 0001 0000 01 00'), text('#')),
    'with a QoS of 3': chunk(2, native64(1), native64(0), uint32(0), hex('0000 0000 0000 0001 0000 03 00'), text('a')),
    'with a payload longer than itself': chunk(
      2,
      native64(1),
      native64(0),
      uint32(never),
      hex('0000 0000 0000 0001 0000 01 00'),
      text('a')
    ),
    'with properties that are none': chunk(
      2,
      native64(1),
      native64(0),
      uint32(0),
      hex('0000 0000 0000 0001 0000 01 00'),
      text('a'),
      hex('02 01')
    ),
    'with the number of another message': messageChunk,
    'with a time before time': chunk(6, native64(-1), uint32(0), hex('0000 0001 0000 0000 00000000'), text('c')),
    'without a client identifier': chunk(6, native64(0), uint32(0), hex('0000 0000 0000 0000 00000000')),
    'with text that is none': chunk(6, native64(0), uint32(0), hex('0000 0001 0000 0000 00000000'), hex('ff')),
    'with NUL in a text': chunk(6, native64(0), uint32(0), hex('0000 0001 0000 0000 00000000'), hex('00')),
    'with a filter that is none': chunk(5, uint32(0), hex('0001 0003 00 00 0000'), text('ca#b')),
    'with a state that is none': chunk(3, native64(9), hex('0001 0001 01 0c 00 01'), text('c'))
  }
  const before = Buffer.concat([head(6), messageChunk])
  for (const [name, bytes] of Object.entries(wrong)) {
    const { retained: kept, sessions, problem } = read(Buffer.concat([before, bytes, retained]))
    t.same(Object.keys(kept), ['a/b'], name)
    t.same(sessions, {}, name)
    t.same(problem, { kind: 'damaged', message: `is damaged: 1 of its parts can't be read, the first at byte ${before.length}` }, name)
  }
})

// --- both ways ---

const plain = (clientId: string): KeptChange => ({ kind: 'session', session: { clientId, version: 4, expiryInterval: never } })

t.test('a message of several receivers is there once, one that is held has its own', async t => {
  const message = new Message({ topic: 'topic of all', payload: text('body'), qos: 2, retain: true })
  const entryOf = (clientId: string, sequence: number): QueueEntry => ({
    clientId,
    sequence,
    message,
    qos: 1,
    retain: false,
    subscriptionIdentifier: 0,
    packetId: 1,
    state: 'queued'
  })
  const bytes = await written([
    plain('a'),
    plain('b'),
    plain('c'),
    { kind: 'hold', clientId: 'c', packetId: 5, message },
    { kind: 'enqueue', message, entries: [entryOf('a', 1), entryOf('b', 1)] },
    { kind: 'enqueue', message, entries: [entryOf('a', 2)] },
    { kind: 'retain', topic: 'topic of all', message }
  ])
  t.equal(bytes.toString('latin1').split('topic of all').length - 1, 2)
  const { changes } = changesOf(bytes)
  const messages = changes.flatMap(change => (change.kind === 'enqueue' || change.kind === 'retain' ? [change.message] : []))
  t.equal(messages.length, 4)
  t.equal(new Set(messages).size, 1)
})

t.test('a session that is connected has its time from now on', async t => {
  const bytes = await written([{ kind: 'session', session: { clientId: 'me', version: 5, expiryInterval: 60 } }], 1_800_000_000_001)
  t.same(read(bytes).sessions.me?.record, { clientId: 'me', version: 5, expiryInterval: 60, expiresAt: 1_800_000_060_000 })
})

t.test('a socket has no port, a removal and news about the broker are not kept', async t => {
  const message = new Message({ topic: '$SYS/broker/uptime', payload: text('1'), qos: 0, retain: true })
  const bytes = await written([
    { kind: 'session', session: { clientId: 'me', version: 4, listener: 'unix /run/mqtt 1883 ', expiryInterval: never } },
    { kind: 'retain', topic: '$SYS/broker/uptime', message },
    { kind: 'retain', topic: 'a' }
  ])
  const { sessions, retained, problem } = read(bytes)
  t.same(sessions.me?.record, { clientId: 'me', version: 4, expiryInterval: never })
  t.same({ retained, problem }, { retained: {}, problem: undefined })
})

t.test('blocks are of one size, whatever there is, and a large payload is handed on as it is', async t => {
  const payload = Buffer.alloc(300_000, 'x')
  const large = new Message({ topic: 'large', payload, qos: 0, retain: true })
  async function* many(): AsyncGenerator<KeptChange> {
    for (let i = 0; i < 20_000; i++) {
      yield { kind: 'retain', topic: `t/${i}`, message: new Message({ topic: `t/${i}`, payload: text(`${i}`), qos: 0, retain: true }) }
    }
    yield { kind: 'retain', topic: 'large', message: large }
  }
  const blocks = await blocksOf(many())
  t.ok(blocks.length > 10)
  t.same(
    blocks.filter(block => block !== payload && block.length > 70_000).map(block => block.length),
    []
  )
  t.equal(blocks.filter(block => block === payload).length, 1)
  const { retained, problem } = read(Buffer.concat(blocks))
  t.equal(problem, undefined)
  t.equal(Object.keys(retained).length, 20_001)
})

// --- as properties ---

const words = fc
  .string({ unit: 'grapheme', minLength: 1, maxLength: 12 })
  .filter(word => !/[\0+#/$]/.test(word) && Buffer.from(word).toString() === word)
const path = fc.array(words, { minLength: 1, maxLength: 4 }).map(levels => levels.join('/'))
const qos = fc.constantFrom(0, 1, 2)
const seconds = fc.integer({ min: 1, max: 4_000_000_000 })
const listener = fc.option(fc.integer({ min: 1, max: 65_535 }).map(listenerOf), { nil: undefined })
const maybe = <T>(name: string, value: T | undefined): Record<string, T> => (value === undefined ? {} : { [name]: value })

const messages = fc
  .record({
    topic: path,
    payload: fc.uint8Array({ maxLength: 50 }),
    qos,
    retain: fc.boolean(),
    expiry: fc.option(seconds),
    clientId: fc.option(words),
    username: fc.option(words, { nil: undefined }),
    listener,
    contentType: fc.option(words, { nil: undefined }),
    key: fc.option(words)
  })
  .map(({ topic, payload, qos, retain, expiry, clientId, username, listener, contentType, key }) => {
    const userProperties = key === null ? {} : { userProperties: { [key]: ['1', '2'] } }
    return new Message({
      topic,
      payload: Buffer.from(payload),
      qos,
      retain,
      properties: encodeProperties({ ...userProperties, contentType }),
      ...(expiry !== null && { expiresAt: expiry * 1000 }),
      ...(clientId !== null && { source: { clientId, ...maybe('username', username), ...maybe('listener', listener) } })
    })
  })

const subscriptions = fc.record({
  filter: fc.tuple(path, fc.constantFrom('', '/#', '/+', '/+/x')).map(parts => parts.join('')),
  group: fc.option(words, { nil: undefined }),
  qos,
  noLocal: fc.boolean(),
  retainAsPublished: fc.boolean(),
  retainHandling: fc.constantFrom(0, 1, 2),
  identifier: fc.integer({ min: 0, max: 268_435_455 })
})

const entries = fc.record({
  message: fc.nat({ max: 4 }),
  qos,
  retain: fc.boolean(),
  subscriptionIdentifier: fc.integer({ min: 0, max: 268_435_455 }),
  packetId: fc.integer({ min: 1, max: 65_535 }),
  state: fc.constantFrom('queued', 'sent', 'received')
})

const sessions = fc.record({
  clientId: words,
  username: fc.option(words, { nil: undefined }),
  listener,
  expiryInterval: fc.oneof(seconds, fc.constant(never)),
  expiresAt: seconds.map(value => value * 1000),
  lastPacketId: fc.integer({ min: 0, max: 65_535 }),
  subscriptions: fc.uniqueArray(subscriptions, { maxLength: 4, selector: ({ filter, group }) => `${group}/${filter}` }),
  held: fc.uniqueArray(fc.integer({ min: 1, max: 65_535 }), { maxLength: 3 }),
  queue: fc.array(entries, { maxLength: 5 })
})

const databases = fc
  .record({
    sessions: fc.uniqueArray(sessions, { maxLength: 4, selector: ({ clientId }) => clientId }),
    messages: fc.array(messages, { minLength: 5, maxLength: 5 }),
    retained: fc.array(messages, { maxLength: 3 })
  })
  .map(({ sessions, messages, retained }): KeptChange[] => {
    const [first] = messages
    if (first === undefined) return []
    return [
      ...sessions.map(
        ({ clientId, username, listener, expiryInterval, expiresAt, lastPacketId }): KeptChange => ({
          kind: 'session',
          session: {
            clientId,
            ...maybe('username', username),
            version: expiryInterval === never ? 4 : 5,
            ...maybe('listener', listener),
            expiryInterval,
            expiresAt
          },
          ...(lastPacketId > 0 && { lastPacketId })
        })
      ),
      ...sessions.flatMap(({ clientId, subscriptions }) =>
        subscriptions.map(({ group, ...subscription }): KeptChange => {
          return { kind: 'subscribe', clientId, subscription: { ...subscription, ...maybe('group', group) } }
        })
      ),
      ...sessions.flatMap(({ clientId, held }) =>
        held.map((packetId, i): KeptChange => ({ kind: 'hold', clientId, packetId, message: messages[i] ?? first }))
      ),
      ...sessions.flatMap(({ clientId, queue }) =>
        queue.map(({ message: index, qos, packetId, state, ...more }, i): KeptChange => {
          const message = messages[index] ?? first
          const known = qos === 0 ? 'queued' : qos === 1 && state === 'received' ? 'sent' : state
          const entry: QueueEntry = { ...more, clientId, sequence: i + 1, message, qos, packetId: qos === 0 ? 0 : packetId, state: known }
          return { kind: 'enqueue', message, entries: [entry] }
        })
      ),
      ...retained.map((message): KeptChange => ({ kind: 'retain', topic: message.topic, message }))
    ]
  })

function* allOf(changes: readonly KeptChange[]): Generator<KeptChange, undefined> {
  yield* changes
  return undefined
}

t.test('what is written is read again', async () => {
  await fc.assert(
    fc.asyncProperty(databases, async changes => {
      t.same(read(await written(changes)), keptBy(allOf(changes)))
    }),
    { numRuns: 300 }
  )
})

// --- cut off, and scribbled on ---

const [small = []] = fc.sample(
  databases.filter(changes => ['subscribe', 'hold', 'enqueue', 'retain'].every(kind => changes.some(change => change.kind === kind))),
  { numRuns: 1, seed: 7 }
)

/** To compare without the identity of messages. */
const told = (changes: readonly KeptChange[]): string[] =>
  changes.map(change => JSON.stringify(change, (_, value: unknown) => (typeof value === 'bigint' ? `${value}` : value)))

t.test('of a file that is cut off all that came before is kept', async t => {
  const bytes = await written(small)
  const whole = told(changesOf(bytes).changes)
  t.ok(whole.length > 5)
  let least = 0
  for (let length = 0; length < bytes.length; length++) {
    const { changes, problem } = changesOf(Buffer.from(bytes.subarray(0, length)))
    const kept = told(changes)
    if (kept.some((change, i) => change !== whole[i]) || kept.length < least) t.fail(`cut off at ${length}`)
    if (problem !== undefined && problem.kind !== 'damaged') t.fail(`cut off at ${length}: ${problem.message}`)
    least = kept.length
  }
  t.equal(least, whole.length)
})

t.test('a file that is scribbled on throws nothing, and loses nothing of what came before', async t => {
  const bytes = await written(small)
  // What has been read when so many bytes are whole.
  const kept = Array.from({ length: bytes.length + 1 }, (_, length) => told(changesOf(Buffer.from(bytes.subarray(0, length))).changes))
  const random = seededRandom(20_261)
  for (let run = 0; run < 20_000; run++) {
    const wrong = Buffer.from(bytes)
    let first = wrong.length
    for (let i = below(random, 6); i >= 0; i--) {
      const at = 23 + below(random, wrong.length - 23)
      wrong[at] = random() < 0.5 ? below(random, 256) : (wrong[at] ?? 0) ^ (1 << below(random, 8))
      first = Math.min(first, at)
    }
    const before = kept[first] ?? []
    const now = told(changesOf(wrong).changes)
    if (before.some((change, i) => change !== now[i])) t.fail(`run ${run}: lost what came before byte ${first}`)
  }
  t.pass('20000 files')
})
