// What every store promises the session engine, told once. What a back end can't promise is named in `Promises`, and then the suite
// asks for what is left of it.

import type { Test } from 'tap'
import { Message, type MessageFields } from '../../dist/message.js'
import type { Change, QueueEntry, SessionRecord, Store, StoredSession, StoredState, Subscription } from '../../dist/storage.js'
import { said } from '../helpers/kept.js'

export interface Promises {
  /** `open` names every session; else each is loaded by its name. */
  readonly listsSessions: boolean
  /** Username, listener, version, expiry and will of a session. */
  readonly keepsRecord: boolean
  /** Username and listener of the publisher of a queued message; else the client identifier only. */
  readonly keepsSource: boolean
  /** Of a queued message, QoS and retain flag as published; else those of the delivery. */
  readonly keepsPublished: boolean
  /** The last sequence and packet identifier of a queue that is empty. */
  readonly keepsLast: boolean
}

export interface Backend {
  readonly store: Store
  /** As after a restart of the broker: the store that was open is of no use any more. */
  reopen(): Promise<Store>
  /** What lies there when nothing should. */
  leftovers?(): Promise<readonly string[]>
}

export const everything: Promises = { listsSessions: true, keepsRecord: true, keepsSource: true, keepsPublished: true, keepsLast: true }

const strangeNames = ['__proto__', 'constructor', 'a:b/%', 'toString', '€ %2F', '$SYS/x', 'packet:1']

type Open = (t: Test) => Promise<Backend>

export function storeContract(t: Test, name: string, open: Open, promises: Promises = everything): void {
  t.test(`${name}: sessions and what is known of them`, async t => {
    const backend = await opened(t, open)
    const records: SessionRecord[] = [
      record('plain'),
      {
        ...record('full'),
        version: 5,
        username: 'ann',
        certificate: { organization: 'Acme', organizationalUnit: 'press', serial: '0A' },
        listener: '8883',
        expiryInterval: 60,
        expiresAt: 1_900_000_000_000,
        will: someWill
      },
      { ...record('changed'), version: 3, expiresAt: 5 }
    ]
    await commit(backend.store, ...records.map(session => ({ kind: 'session', session }) as const))
    const changed = { ...record('changed'), version: 5, username: 'bob' } as const
    await commit(backend.store, { kind: 'session', session: changed })
    const { session } = await reopened(backend)
    for (const expected of [records[0], records[1], changed]) {
      const found = await session(expected?.clientId ?? '')
      t.same(found?.subscriptions, [])
      t.same(recordOf(found), promises.keepsRecord ? expected : { ...record(expected?.clientId ?? ''), version: 4 })
    }
    t.equal(await session('nobody'), undefined)
  })

  t.test(`${name}: subscriptions with every option`, async t => {
    const backend = await opened(t, open)
    const { store } = backend
    const wanted = subscriptions()
    await commit(store, newSession('c'), newSession('other'), ...wanted.map(one => subscribe('c', one)), subscribe('other', plain('a/b')))
    await commit(store, subscribe('c', { ...plain('again'), qos: 2, identifier: 7 }), subscribe('c', plain('gone')))
    const again = { ...plain('again'), qos: 1 } as const
    await commit(store, subscribe('c', again))
    await commit(
      store,
      { kind: 'unsubscribe', clientId: 'c', filter: 'gone' },
      { kind: 'unsubscribe', clientId: 'c', filter: 'never there' },
      { kind: 'unsubscribe', clientId: 'c', filter: 'both', group: 'g' }
    )
    const { session } = await reopened(backend)
    const expected = [...wanted.filter(({ filter, group }) => !(filter === 'both' && group === 'g')), again]
    t.same(sorted((await session('c'))?.subscriptions ?? []), sorted(expected))
    t.same((await session('other'))?.subscriptions, [plain('a/b')])
  })

  t.test(`${name}: ten thousand filters at once`, async t => {
    const backend = await opened(t, open)
    const all = Array.from({ length: 10_000 }, (_, i) => plain(`many/${i}`))
    await commit(backend.store, newSession('c'), ...all.map(one => subscribe('c', one)))
    await commit(backend.store, ...all.slice(1).map(({ filter }) => ({ kind: 'unsubscribe', clientId: 'c', filter }) as const))
    const { session } = await reopened(backend)
    t.same((await session('c'))?.subscriptions, [plain('many/0')])
  })

  t.test(`${name}: a long queue, read page by page, in order, to the end`, async t => {
    const backend = await opened(t, open)
    const { store } = backend
    await commit(store, newSession('c'), subscribe('c', plain('q')))
    const entries = Array.from({ length: 3000 }, (_, i) => entry('c', 2 * i + 1, { topic: `q/${i}`, payload: Buffer.from(`${i}`) }))
    for (let i = 0; i < entries.length; i += 250) await commit(store, ...entries.slice(i, i + 250).map(enqueue))
    const expected = entries.map(({ message }) => message.topic)
    for (const limit of [1000, 99]) t.same(topicsOf(await readAll(store, 'c', limit)), expected)
    t.same(topicsOf(await store.page('c', entries[9]?.sequence ?? 0, 5)), expected.slice(10, 15))
    t.same(await store.page('c', entries.at(-1)?.sequence ?? 0, 5), [])
    t.same(await store.page('nobody', 0, 5), [])

    // Taken as an engine does: the window is acknowledged, then the next page; meanwhile more comes in.
    const taken: string[] = []
    let after = 0
    for (let more = 0; ; ) {
      const page = await store.page('c', after, 100)
      taken.push(...topicsOf(page))
      after = page.at(-1)?.sequence ?? after
      if (page.length < 100) break
      await commit(store, ...page.filter((_, i) => i % 10 !== 0).map(done))
      if (more++ < 5) await commit(store, enqueue(entry('c', 10_000 + more, { topic: `more/${more}` })))
    }
    t.same(taken, [...expected, ...[1, 2, 3, 4, 5].map(n => `more/${n}`)])

    const left = topicsOf(await readAll(store, 'c', 50))
    const { session, store: second } = await reopened(backend)
    const found = await session('c')
    t.same(found?.queued.messages, left.length)
    t.ok(left.length > 300 && left.length < 400)
    const again = await readAll(second, 'c', 64)
    t.same(topicsOf(again), left)
    t.equal(found?.lastSequence, again.at(-1)?.sequence)
    t.same(
      again.map(({ packetId }) => packetId),
      left.map(topic => entries.find(({ message }) => message.topic === topic)?.packetId ?? Number(topic.slice(5)) + 10_000)
    )
  })

  t.test(`${name}: several receivers of one message, each with its own QoS, identifiers and state`, async t => {
    const backend = await opened(t, open)
    const { store } = backend
    const shared = message({ topic: 'shared', qos: 2, retain: true, expiresAt: 1_900_000_000_000, source: someSource, properties })
    const entries = [
      { ...entry('a', 1), message: shared, qos: 2, packetId: 11, subscriptionIdentifier: 5 },
      { ...entry('b', 1), message: shared, qos: 1, packetId: 22, retain: true },
      { ...entry('b', 2), message: shared, qos: 2, packetId: 23, subscriptionIdentifier: 268_435_455 },
      { ...entry('c', 1), message: shared, qos: 0, packetId: 0 },
      { ...entry('d', 1), message: shared, qos: 2, packetId: 65_535 }
    ] as const
    await commit(store, ...['a', 'b', 'c', 'd'].flatMap(id => [newSession(id), subscribe(id, plain('shared'))]))
    await commit(store, { kind: 'enqueue', message: shared, entries: [...entries] })
    const received: QueueEntry[] = [entries[0], entries[4]]
    for (const one of received) one.state = 'received'
    await commit(store, ...received.map(one => ({ kind: 'received', entry: one }) as const), done(entries[1]))
    const { session, store: second } = await reopened(backend)
    for (const [clientId, expected] of Object.entries({ a: [entries[0]], b: [entries[2]], c: [entries[3]], d: [entries[4]] })) {
      const found = await session(clientId)
      t.same(found?.queued, { messages: 1, bytes: shared.payload.length })
      t.equal(found?.lastPacketId, expected[0]?.packetId)
      const page = await second.page(clientId, 0, 10)
      t.same(said(page.map(withoutSequence)), said(expected.map(one => withoutSequence(kept(one, promises)))))
      await commit(second, ...page.map(done))
      t.same(await second.page(clientId, 0, 10), [])
    }
    const third = await reopened({ ...backend, store: second })
    for (const clientId of ['a', 'b', 'c', 'd']) t.same((await third.session(clientId))?.queued, { messages: 0, bytes: 0 })
  })

  t.test(`${name}: what one start of the broker queued is not overwritten by what the next ones queue`, async t => {
    const backend = await opened(t, open)
    const starts = ['first', 'second', 'third']
    let { store } = backend
    const tail = (clientId: string): string[] => [1, 2, 3, 4, 5].map(n => `${clientId}/${n}`)
    for (const clientId of starts) {
      // The same identifiers each time, for another session.
      await commit(store, newSession(clientId), subscribe(clientId, plain('q')))
      for (let i = 1; i <= 5; i++) await commit(store, enqueue(entry(clientId, i, { topic: `${clientId}/${i}` })))
      store = (await reopened({ ...backend, store })).store
    }
    const { session, store: last } = await reopened({ ...backend, store })
    for (const clientId of starts) {
      t.equal((await session(clientId))?.queued.messages, 5)
      t.same(topicsOf(await readAll(last, clientId, 10)), tail(clientId))
    }
  })

  t.test(`${name}: what the last sequence and packet identifier were`, async t => {
    const backend = await opened(t, open)
    const entries = [entry('c', 3), entry('c', 9)]
    await commit(backend.store, newSession('c'), newSession('new'), ...entries.map(enqueue))
    await commit(backend.store, ...entries.map(done))
    const { session } = await reopened(backend)
    const found = await session('c')
    t.same([found?.lastSequence, found?.lastPacketId], promises.keepsLast ? [9, 9] : [0, 0])
    const never = await session('new')
    t.same([never?.lastSequence, never?.lastPacketId], [0, 0])
  })

  t.test(`${name}: QoS 2 messages that wait for PUBREL`, async t => {
    const backend = await opened(t, open)
    const { store } = backend
    const hold = (packetId: number, fields: Fields = {}): Change => {
      return { kind: 'hold', clientId: 'c', packetId, message: message({ qos: 2, source: { clientId: 'c' }, ...fields }) }
    }
    await commit(store, newSession('c'), newSession('d'))
    await commit(store, hold(1), hold(65_535, { topic: 'last', properties, retain: true }), hold(7, { topic: 'replaced' }))
    await commit(store, hold(7, { topic: 'new', payload: Buffer.alloc(0) }), { kind: 'release', clientId: 'c', packetId: 1 })
    await commit(store, { kind: 'release', clientId: 'c', packetId: 1 }, { kind: 'release', clientId: 'nobody', packetId: 1 })
    const { session } = await reopened(backend)
    const held = (await session('c'))?.held ?? new Map<number, Message>()
    t.same([...held.keys()].sort(), [65_535, 7])
    t.match(held.get(7), { topic: 'new', payload: Buffer.alloc(0), qos: 2, retain: false, source: { clientId: 'c' } })
    t.match(held.get(65_535), { topic: 'last', properties, retain: true })
    t.equal((await session('d'))?.held.size, 0)
  })

  t.test(`${name}: retained messages, with properties and publisher`, async t => {
    const backend = await opened(t, open)
    const { store } = backend
    const retain = (one: Message): Change => ({ kind: 'retain', topic: one.topic, message: one })
    const full = message({ topic: 'a/b', qos: 2, retain: true, properties, source: someSource, expiresAt: 1_900_000_000_000 })
    const strange = ['/', 'a//b', 'room[1]/*?', '$SYS/broker/x', ...strangeNames].map(topic => message({ topic, retain: true }))
    await commit(store, ...[full, ...strange, message({ topic: 'gone' }), message({ topic: 'new' })].map(retain))
    const newer = message({ topic: 'new', payload: Buffer.from('newer'), qos: 1, retain: true })
    await commit(store, { kind: 'retain', topic: 'gone' }, { kind: 'retain', topic: 'never there' }, retain(newer))
    const { state } = await reopened(backend)
    const found = new Map(state.retained.map(one => [one.topic, one]))
    t.equal(found.size, state.retained.length, 'each once')
    for (const expected of [full, newer, ...strange]) t.same(said(found.get(expected.topic)), said(expected), expected.topic)
    t.equal(found.size, new Set([full, newer, ...strange].map(({ topic }) => topic)).size)
  })

  t.test(`${name}: a session that is dropped is gone with all that belongs to it, and only it`, async t => {
    const backend = await opened(t, open)
    const fill = (clientId: string): Change[] => [
      newSession(clientId),
      ...subscriptions().map(one => subscribe(clientId, one)),
      ...Array.from({ length: 100 }, (_, i) => enqueue(entry(clientId, i + 1))),
      { kind: 'hold', clientId, packetId: 3, message: message({ qos: 2 }) }
    ]
    await commit(backend.store, ...fill('dropped'), ...fill('stays'))
    const [, second, third] = await backend.store.page('dropped', 0, 3)
    if (second === undefined || third === undefined) throw new Error('no entries')
    second.state = 'received'
    await commit(backend.store, { kind: 'received', entry: second }, done(third), { kind: 'drop', clientId: 'dropped' })
    await commit(backend.store, { kind: 'drop', clientId: 'dropped' }, { kind: 'drop', clientId: 'nobody' })
    t.same(await backend.store.page('dropped', 0, 10), [])
    // Late news of what was in it.
    await commit(
      backend.store,
      done(second),
      { kind: 'received', entry: third },
      { kind: 'unsubscribe', clientId: 'dropped', filter: 'a/b' }
    )
    const { session, store } = await reopened(backend)
    t.equal(await session('dropped'), undefined)
    const stays = await session('stays')
    t.same([stays?.queued.messages, stays?.held.size, stays?.subscriptions.length], [100, 1, subscriptions().length])
    await commit(store, newSession('dropped'))
    t.same(await store.page('dropped', 0, 10), [], 'a new one of that name has nothing of it')
    await commit(store, { kind: 'drop', clientId: 'stays' }, { kind: 'drop', clientId: 'dropped' })
    t.same((await backend.leftovers?.()) ?? [], [])
  })

  t.test(`${name}: names that are something else elsewhere`, async t => {
    const backend = await opened(t, open)
    const { store } = backend
    for (const name of strangeNames) {
      const one = entry(name, 1, { topic: name, source: { clientId: name } })
      await commit(store, newSession(name), subscribe(name, plain(name)), subscribe(name, { ...plain(name), group: 'constructor' }))
      await commit(store, enqueue(one), { kind: 'hold', clientId: name, packetId: 1, message: one.message })
    }
    const { session, store: second } = await reopened(backend)
    for (const name of strangeNames) {
      const found = await session(name)
      t.same(sorted(found?.subscriptions ?? []), sorted([plain(name), { ...plain(name), group: 'constructor' }]), name)
      t.equal(found?.held.get(1)?.topic, name)
      t.same(topicsOf(await second.page(name, 0, 10)), [name])
    }
    await commit(second, ...strangeNames.map(clientId => ({ kind: 'drop', clientId }) as const))
    t.same((await backend.leftovers?.()) ?? [], [])
  })

  // The routing of Aedes' persistences takes 100 levels, a client may have 201.
  for (const levels of [100, 101, 201]) {
    t.test(`${name}: ${levels} levels`, async t => {
      const backend = await opened(t, open)
      const topic = Array.from({ length: levels }, (_, i) => ['%', '%2F', '', '€', 'a'][i % 5] ?? '').join('/')
      const filter = `${topic.slice(0, topic.lastIndexOf('/'))}/#`
      const group = levels === 201 ? {} : { group: 'g' }
      const wanted = [topic, filter].map(filter => ({ ...plain(filter), ...group, qos: 1 }) as const)
      const gone = { ...plain(`x${topic.slice(1)}`), qos: 2 } as const
      const one = entry('c', 1, { topic })
      await commit(backend.store, newSession('c'), ...[...wanted, gone].map(subscription => subscribe('c', subscription)))
      await commit(backend.store, enqueue(one), { kind: 'unsubscribe', clientId: 'c', filter: gone.filter })
      await commit(backend.store, { kind: 'hold', clientId: 'c', packetId: 1, message: one.message })
      const retain = (topic: string): Change => ({ kind: 'retain', topic, message: message({ topic, retain: true }) })
      await commit(backend.store, retain(topic), retain(gone.filter), { kind: 'retain', topic: gone.filter })
      const { state, session, store } = await reopened(backend)
      t.same(said(state.retained), said([message({ topic, retain: true })]))
      const found = await session('c')
      t.same(sorted(found?.subscriptions ?? []), sorted(wanted))
      t.equal(found?.held.get(1)?.topic, topic)
      t.same(topicsOf(await store.page('c', 0, 10)), [topic])
      await commit(store, { kind: 'drop', clientId: 'c' }, { kind: 'retain', topic })
      t.same((await backend.leftovers?.()) ?? [], [])
    })
  }

  t.test(`${name}: names as long as a client may have them`, async t => {
    for (const unit of ['x', '€', '%']) {
      const backend = await opened(t, open)
      const long = unit.repeat(65_535 / Buffer.byteLength(unit))
      const one = entry(long, 1, { topic: long, source: { clientId: long } })
      await commit(backend.store, newSession(long), subscribe(long, { ...plain(long), qos: 1 }), enqueue(one))
      await commit(backend.store, { kind: 'hold', clientId: long, packetId: 1, message: one.message })
      await commit(backend.store, { kind: 'retain', topic: long, message: one.message })
      const { session, store, state } = await reopened(backend)
      const found = await session(long)
      t.ok(found?.subscriptions[0]?.filter === long)
      t.ok(found?.held.get(1)?.topic === long)
      t.ok(state.retained[0]?.topic === long)
      t.ok((await store.page(long, 0, 10))[0]?.message.topic === long)
      await commit(store, { kind: 'drop', clientId: long }, { kind: 'retain', topic: long })
      t.same((await backend.leftovers?.()) ?? [], [])
    }
  })

  t.test(`${name}: payloads of nothing and of a megabyte, and strange properties, to the byte`, async t => {
    const backend = await opened(t, open)
    const big = Buffer.alloc(1_000_000, 'ÿ')
    const odd = Buffer.concat([userProperty('b', '1'), userProperty('__proto__', 'x'), userProperty('a', '2'), userProperty('b', '3')])
    const messages = [
      message({ topic: 'empty', payload: Buffer.alloc(0) }),
      message({ topic: 'big', payload: big }),
      message({ topic: 'odd', properties: odd })
    ]
    await commit(backend.store, newSession('c'), ...messages.map((one, i) => enqueue({ ...entry('c', i + 1), message: one })))
    const { session, store } = await reopened(backend)
    t.equal((await session('c'))?.queued.bytes, 1_000_000 + 'x'.length)
    const page = await store.page('c', 0, 10)
    t.same(
      page.map(({ message }) => [message.topic, message.payload.length, message.properties.toString('hex')]),
      messages.map(one => [one.topic, one.payload.length, one.properties.toString('hex')])
    )
    t.ok(page[1]?.message.payload.equals(big))
  })

  t.test(`${name}: what no session is there for is left alone`, async t => {
    const backend = await opened(t, open)
    await commit(
      backend.store,
      subscribe('ghost', plain('a')),
      enqueue(entry('ghost', 1)),
      done(entry('ghost', 1)),
      { kind: 'hold', clientId: 'ghost', packetId: 1, message: message({ qos: 2 }) },
      { kind: 'received', entry: entry('ghost', 1) }
    )
    t.same(await backend.store.page('ghost', 0, 10), [])
    const { session } = await reopened(backend)
    t.equal(await session('ghost'), undefined)
    t.same((await backend.leftovers?.()) ?? [], [])
  })

  async function reopened(backend: Backend) {
    const store = await backend.reopen()
    const state = await store.open()
    t.equal(store.load === undefined, promises.listsSessions)
    return { store, state, session: (clientId: string) => sessionOf(store, state, clientId) }
  }
}

async function opened(t: Test, open: Open): Promise<Backend> {
  const backend = await open(t)
  t.same(await backend.store.open(), { sessions: [], retained: [] })
  return backend
}

async function commit(store: Store, ...changes: Change[]): Promise<void> {
  await store.commit(changes)
}

async function sessionOf(store: Store, state: StoredState, clientId: string): Promise<StoredSession | undefined> {
  return store.load === undefined ? state.sessions.find(session => session.clientId === clientId) : await store.load(clientId)
}

async function readAll(store: Store, clientId: string, limit: number): Promise<QueueEntry[]> {
  const all: QueueEntry[] = []
  for (;;) {
    const page = await store.page(clientId, all.at(-1)?.sequence ?? 0, limit)
    all.push(...page)
    if (page.length < limit) return all
  }
}

const someSource = { clientId: 'writer', username: 'will', listener: '1883', certificate: { organization: 'Größe', serial: '0A' } }

const userProperty = (name: string, value: string): Buffer =>
  Buffer.concat([Buffer.of(0x26), ...[name, value].flatMap(text => [Buffer.of(0, text.length), Buffer.from(text)])])

/** Content type, correlation data, two of one name. */
const properties = Buffer.concat([Buffer.from('0300037478740900020001', 'hex'), userProperty('n', '1'), userProperty('n', '2')])

type Fields = Partial<Extract<MessageFields, { payload: Buffer }>>

const message = (fields: Fields = {}): Message => new Message({ topic: 't', payload: Buffer.from('x'), qos: 1, retain: false, ...fields })

const someWill = {
  message: message({ topic: 'will', payload: Buffer.from([0, 255]), qos: 2, retain: true, properties, source: someSource }),
  delayInterval: 30,
  dueAt: 1_900_000_000_000
}

const record = (clientId: string): SessionRecord => ({ clientId, version: 4, expiryInterval: 0xffffffff })
const newSession = (clientId: string): Change => ({ kind: 'session', session: record(clientId) })
const subscribe = (clientId: string, subscription: Subscription): Change => ({ kind: 'subscribe', clientId, subscription })
const enqueue = (one: QueueEntry): Change => ({ kind: 'enqueue', message: one.message, entries: [one] })
const done = (one: QueueEntry): Change => ({ kind: 'done', entry: one })

function plain(filter: string): Subscription {
  return { filter, qos: 0, noLocal: false, retainAsPublished: false, retainHandling: 0, identifier: 0 }
}

function subscriptions(): Subscription[] {
  return [
    plain('a/b'),
    { ...plain('#'), qos: 2 },
    { ...plain('+/x/#'), qos: 1, noLocal: true, retainHandling: 2, identifier: 268_435_455 },
    { ...plain('/'), retainAsPublished: true, retainHandling: 1, identifier: 1 },
    { ...plain('both'), qos: 1 },
    { ...plain('both'), group: 'g', qos: 2 },
    { ...plain('both'), group: 'h', qos: 1, identifier: 3, retainAsPublished: true }
  ]
}

function entry(clientId: string, sequence: number, fields: Fields = {}): QueueEntry {
  const one = message(fields)
  return { clientId, sequence, message: one, qos: 1, retain: false, subscriptionIdentifier: 0, packetId: sequence, state: 'queued' }
}

function kept(one: QueueEntry, { keepsSource, keepsPublished }: Promises): QueueEntry {
  const { message: was } = one
  const { topic, payload, properties, expiresAt, source: publisher } = was
  const source = keepsSource || publisher === undefined ? publisher : { clientId: publisher.clientId }
  const { qos, retain } = keepsPublished ? was : one
  const fields = { topic, payload, properties, expiresAt, qos, retain }
  return { ...one, message: new Message({ ...fields, ...(source && { source }) }) }
}

const topicsOf = (entries: readonly QueueEntry[]): string[] => entries.map(({ message }) => message.topic)
const withoutSequence = ({ sequence: _, ...rest }: QueueEntry) => rest
const sorted = (list: readonly Subscription[]): Subscription[] =>
  [...list].sort((a, b) => (`${a.group} ${a.filter}` < `${b.group} ${b.filter}` ? -1 : 1))

function recordOf(session: StoredSession | undefined): SessionRecord | undefined {
  if (session === undefined) return undefined
  const { subscriptions: _s, lastSequence: _l, queued: _q, held: _h, lastPacketId: _p, ...rest } = session
  return rest
}
