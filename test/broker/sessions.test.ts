// Who has an identifier, what becomes of the one before, and what happens when its time is over: the engine without sockets.

import { Duplex } from 'node:stream'
import t from 'tap'
import { Engine, type EngineOptions, openPolicy } from '../../dist/broker/engine.js'
import type { DeliveryConfig, LimitsConfig, ListenerConfig } from '../../dist/config/types.js'
import type { Message } from '../../dist/message.js'
import { type Connect, neverExpires, packetTypes, type Will } from '../../dist/protocol/packets.js'
import { Connection } from '../../dist/session/connection.js'
import { type Session, sessionEnd } from '../../dist/session/session.js'
import type { SessionRecord, StoredSession } from '../../dist/storage.js'
import { openMemoryStore } from '../../dist/store/memory.js'
import { messageOf, noLimits, silent, subscriptionOf, transportOf, usualDelivery } from '../helpers/session-bench.js'

const none = Buffer.alloc(0)

const noHooks = {
  preConnect: undefined,
  authenticate: undefined,
  authorizePublish: undefined,
  authorizeSubscribe: undefined,
  authorizeForward: undefined,
  authorizeWill: undefined,
  published: undefined,
  responseInformation: undefined
}

const noEvents: EngineOptions['events'] = {
  wantsSubscribed: false,
  connackSent: () => {},
  ready: () => {},
  announce: () => {},
  clientError: () => {},
  keepaliveTimeout: () => {},
  pinged: () => {},
  acknowledged: () => {},
  subscribed: () => {},
  unsubscribed: () => {},
  sessionLimitReached: () => {}
}
const unbounded = {
  clientIdLength: Number.POSITIVE_INFINITY,
  sessionExpiry: Number.POSITIVE_INFINITY,
  pendingSessions: Number.POSITIVE_INFINITY
}

interface Opened {
  readonly connection: Connection
  readonly session: Session
  readonly isPresent: boolean
}

class Bench {
  readonly engine: Engine
  readonly store = openMemoryStore()
  readonly published: Message[] = []
  readonly expired: string[] = []
  readonly deniedUsers = new Set<string>()

  constructor({ limits = {}, delivery = {} }: { limits?: Partial<LimitsConfig>; delivery?: Partial<DeliveryConfig> } = {}) {
    const policy: typeof openPolicy = {
      ...openPolicy,
      authorize: (identity, access, topic) =>
        this.deniedUsers.has(identity.username ?? '')
          ? { allowed: false, reason: 'no-rule' }
          : openPolicy.authorize(identity, access, topic)
    }
    const options: EngineOptions = {
      log: silent,
      store: this.store,
      hooks: noHooks,
      events: noEvents,
      connectTimeout: 0,
      bounds: unbounded,
      version: 'test',
      limits: { ...noLimits, ...limits },
      delivery: { ...usualDelivery, ...delivery },
      policyOf: () => policy,
      policyOfAbsent: () => policy,
      routed: message => this.published.push(message),
      registered: () => {},
      gone: () => {},
      expired: ({ clientId }) => this.expired.push(clientId)
    }
    this.engine = new Engine(options)
  }

  try(clientId: string, fields: Partial<Connect> & { listener?: Partial<ListenerConfig> } = {}): Opened | string {
    const { listener, ...changed } = fields
    const connect: Connect = {
      type: packetTypes.connect,
      version: 5,
      bridge: false,
      clean: false,
      keepalive: 0,
      clientId,
      sessionExpiryInterval: 100,
      receiveMaximum: 65_535,
      maximumPacketSize: 0,
      topicAliasMaximum: 0,
      requestProblemInformation: true,
      requestResponseInformation: false,
      properties: none,
      ...changed
    }
    const { username } = connect
    const identity = username === undefined ? { clientId } : { clientId, username }
    const connection = new Connection(
      new Duplex({ read() {}, write: (_chunk, _encoding, done) => done() }),
      transportOf(listener),
      this.engine
    )
    connection.clientId = clientId
    const opened = this.engine.openSession(connection, connect, { ok: true, identity, provenBy: 'anonymous', credentials: { clientId } })
    if (typeof opened === 'string') return opened
    const { session, isPresent } = opened
    connection.begin(connect, session)
    session.resume(connection)
    connection.ready()
    return { connection, session, isPresent }
  }

  open(clientId: string, fields: Partial<Connect> & { listener?: Partial<ListenerConfig> } = {}): Opened {
    const opened = this.try(clientId, fields)
    if (typeof opened === 'string') throw new Error(opened)
    return opened
  }

  lose({ connection }: Opened): void {
    connection.finish({ words: 'connection closed by client' })
  }

  goodbye({ connection }: Opened): void {
    connection.finish({ words: '' })
  }

  /** So many seconds from now. */
  sweep(seconds: number): void {
    this.engine.sessions.sweep(Date.now() + seconds * 1000)
  }

  get wills(): string[] {
    return this.published.map(({ topic }) => topic)
  }

  async storedSession(clientId: string): Promise<StoredSession | undefined> {
    return (await this.store.open()).sessions.find(session => session.clientId === clientId)
  }
}

const willOf = (topic: string, fields: Partial<Will> = {}): Will => {
  return { topic, payload: Buffer.from('w'), qos: 0, retain: false, delayInterval: 0, properties: none, ...fields }
}

/** The old one's expiry and will delay, the new one's clean; what becomes of them. */
const takeOvers: readonly [expiry: number, delay: number, clean: boolean, isPresent: boolean, wills: string[]][] = [
  [100, 0, false, true, []],
  [100, 50, false, true, []],
  [100, 0, true, false, ['old']],
  [100, 50, true, false, ['old']],
  [0, 0, false, false, ['old']],
  [0, 50, false, false, ['old']],
  [0, 0, true, false, ['old']],
  [neverExpires, 50, false, true, []],
  [neverExpires, 50, true, false, ['old']]
]

for (const isAlive of [true, false]) {
  for (const [expiry, delay, clean, isPresent, wills] of takeOvers) {
    // Who is gone without a session, or whose will was due at once, has nothing left to be taken over.
    if (!isAlive && (expiry === 0 || delay === 0)) continue
    t.test(`take-over of one ${isAlive ? 'connected' : 'away'}: expiry ${expiry}, will delay ${delay}, clean ${clean}`, async t => {
      const bench = new Bench()
      const old = bench.open('c', { sessionExpiryInterval: expiry, will: willOf('old', { delayInterval: delay }) })
      bench.engine.subscribe(old.session, subscriptionOf('x'))
      if (!isAlive) bench.lose(old)
      const next = bench.open('c', { clean, will: willOf('new') })
      t.equal(next.isPresent, isPresent)
      t.equal(next.session === old.session, isPresent)
      t.same(bench.wills, wills)
      t.equal(old.connection.closed, true)
      t.equal(old.connection.session === undefined || !isAlive, true)
      t.equal(next.session.connection, next.connection)
      t.equal(bench.engine.sessions.count, 1)
      t.equal(bench.engine.exchange.subscriptionCount, isPresent ? 1 : 0)
      // The old one's end, whenever it is noticed, is not the new one's.
      bench.engine.leaveSession(old.connection, old.session, false)
      t.equal(next.session.connection, next.connection)
      bench.sweep(1000)
      t.equal(bench.engine.sessions.get('c'), next.session)
      t.same(bench.wills, wills)
      bench.lose(next)
      t.same(bench.wills, [...wills, 'new'])
    })
  }
}

t.test('a will waits for its delay, not longer than for the end of its session, and goes once', async t => {
  const bench = new Bench()
  const late = bench.open('late', { sessionExpiryInterval: 100, will: willOf('late', { delayInterval: 50 }) })
  const cut = bench.open('cut', { sessionExpiryInterval: 30, will: willOf('cut', { delayInterval: 50 }) })
  const void_ = bench.open('void', { will: willOf('void') })
  const now = bench.open('now', { sessionExpiryInterval: 0, will: willOf('now', { delayInterval: 50 }) })
  for (const each of [late, cut, now]) bench.lose(each)
  bench.goodbye(void_)
  t.same(bench.wills, ['now'])
  bench.sweep(28)
  t.same(bench.wills, ['now'])
  bench.sweep(32)
  t.same(bench.wills, ['now', 'cut'])
  t.same(bench.expired, ['cut'])
  t.ok((await bench.storedSession('late'))?.will)
  bench.sweep(48)
  t.same(bench.wills, ['now', 'cut'])
  bench.sweep(52)
  t.same(bench.wills, ['now', 'cut', 'late'])
  t.ok(bench.engine.sessions.get('late'))
  // Not again after a restart.
  t.equal((await bench.storedSession('late'))?.will, undefined)
  bench.sweep(102)
  t.same(bench.wills, ['now', 'cut', 'late'])
  t.same(bench.expired, ['cut', 'late', 'void'])
  t.equal(bench.engine.sessions.count, 0)
  t.equal(await bench.storedSession('late'), undefined)
})

t.test('at the end of the broker wills go that wait, and no others', async t => {
  const bench = new Bench()
  bench.lose(bench.open('a', { will: willOf('a', { delayInterval: 50 }) }))
  bench.open('b', { will: willOf('b', { delayInterval: 50 }) })
  bench.engine.sessions.sendWills()
  t.same(bench.wills, ['a'])
  t.equal((await bench.storedSession('a'))?.will, undefined)
})

t.test('a session ends when its time is over; one that is connected does not', async t => {
  const bench = new Bench({ delivery: { persistentClientExpiration: 60 } })
  const [short, long, never, back] = ['short', 'long', 'never', 'back'].map(clientId =>
    // MQTT 3.1.1 has no way to say when.
    bench.open(
      clientId,
      clientId === 'never'
        ? { version: 4, sessionExpiryInterval: neverExpires }
        : { sessionExpiryInterval: clientId === 'short' ? 10 : 1000 }
    )
  )
  for (const each of [short, long, never, back]) if (each !== undefined) bench.lose(each)
  bench.open('back', { sessionExpiryInterval: 1000 })
  bench.sweep(8)
  t.equal(bench.engine.sessions.count, 4)
  bench.sweep(12)
  t.same(bench.expired, ['short'])
  bench.sweep(62)
  t.same(bench.expired, ['short', 'long', 'never'])
  t.ok(bench.engine.sessions.get('back'))
  t.equal(bench.engine.stats.clientsExpired, 3)
})

t.test('a session that ends leaves no subscription, whatever its filters mean in JavaScript', async t => {
  const bench = new Bench()
  const { exchange } = bench.engine
  const one = bench.open('__proto__', { sessionExpiryInterval: 0 })
  for (const filter of ['__proto__', 'constructor', 'hasOwnProperty', 'a']) bench.engine.subscribe(one.session, subscriptionOf(filter))
  t.equal(exchange.subscriptionCount, 4)
  t.equal(bench.engine.subscriptionsOf('__proto__').length, 4)
  bench.lose(one)
  t.equal(exchange.subscriptionCount, 0)
})

t.test('when a session ends', async t => {
  t.equal(sessionEnd(10, undefined, 5000), 15_000)
  t.equal(sessionEnd(10, 3, 5000), 8000)
  t.equal(sessionEnd(neverExpires, undefined, 5000), undefined)
  t.equal(sessionEnd(neverExpires, 3, 5000), 8000)
})

t.test('what a store had: deadlines of the past are due, subscriptions hold, time without one begins now', async t => {
  const bench = new Bench()
  const stored = (record: Partial<SessionRecord> & { clientId: string }): StoredSession => ({
    version: 5,
    expiryInterval: 100,
    subscriptions: [subscriptionOf('x')],
    lastSequence: 0,
    queued: { messages: 0, bytes: 0 },
    held: new Map(),
    lastPacketId: 0,
    ...record
  })
  const now = Date.now()
  const message = messageOf('will')
  const { sessions, exchange } = bench.engine
  sessions.restore(
    stored({ clientId: 'past', expiresAt: now - 5000, will: { message: messageOf('past'), delayInterval: 9, dueAt: now - 9000 } })
  )
  sessions.restore(stored({ clientId: 'will', expiresAt: now + 50_000, will: { message, delayInterval: 9, dueAt: now - 1 } }))
  sessions.restore(stored({ clientId: 'crashed' }))
  sessions.restore(stored({ clientId: 'crashed', expiresAt: 1 }))
  sessions.restore(stored({ clientId: 'never', expiryInterval: neverExpires }))
  t.equal(sessions.count, 4)
  t.equal(exchange.subscriptionCount, 4)
  bench.sweep(1)
  t.same(bench.wills.sort(), ['past', 'will'])
  t.same(bench.expired, ['past'])
  bench.sweep(98)
  t.equal(sessions.count, 2)
  bench.sweep(102)
  t.same(
    [...sessions.all()].map(({ clientId }) => clientId),
    ['never']
  )
  t.equal(exchange.subscriptionCount, 1)
})

t.test('the time of a session counts from when it was left, however often the broker was started since', async t => {
  const bench = new Bench({ delivery: { persistentClientExpiration: 60 } })
  const { sessions } = bench.engine
  const now = Date.now()
  const restore = (clientId: string, record: Partial<SessionRecord>): void =>
    sessions.restore({
      clientId,
      version: 4,
      expiryInterval: neverExpires,
      subscriptions: [],
      lastSequence: 0,
      queued: { messages: 0, bytes: 0 },
      held: new Map(),
      lastPacketId: 0,
      ...record
    })
  restore('over', { leftAt: now - 61_000 })
  restore('soon over', { leftAt: now - 50_000 })
  restore('asked for less', { version: 5, expiryInterval: 20, leftAt: now - 15_000, expiresAt: now + 5000 })
  restore('left before the limit was so short', { version: 5, expiryInterval: 9000, leftAt: now - 40_000, expiresAt: now + 8_960_000 })
  restore('has an end of its own', { leftAt: now - 10_000, expiresAt: now + 30_000 })
  restore('crashed', {})
  for (const [seconds, clientId] of [
    [0, 'over'],
    [6, 'asked for less'],
    [11, 'soon over'],
    [21, 'left before the limit was so short'],
    [31, 'has an end of its own'],
    [61, 'crashed']
  ] as const) {
    bench.expired.length = 0
    bench.sweep(seconds)
    t.same(bench.expired, [clientId], `after ${seconds} seconds`)
  }
})

t.test('who comes after the end of its session begins a new one, also where no sweep was there before', async t => {
  const bench = new Bench()
  const { sessions } = bench.engine
  const will = { message: messageOf('will'), delayInterval: 9, dueAt: Date.now() + 9000 }
  const stored = { version: 5, expiryInterval: 100, subscriptions: [], lastSequence: 0, held: new Map(), lastPacketId: 0 } as const
  const queued = { messages: 0, bytes: 0 }
  sessions.restore({ ...stored, clientId: 'over', queued, expiresAt: Date.now() - 1, leftAt: Date.now() - 100_001, will })
  sessions.restore({ ...stored, clientId: 'not yet', queued, expiresAt: Date.now() + 50_000, leftAt: Date.now() - 50_000 })
  t.equal(bench.open('over').isPresent, false)
  t.same(bench.wills, ['will'])
  t.equal(bench.open('not yet').isPresent, true)
})

t.test('a session whose time is over takes no share of a group, also where no sweep was there before', async t => {
  const bench = new Bench()
  const { sessions, exchange } = bench.engine
  const subscriptions = [subscriptionOf('x', { group: 'g' })]
  const stored = { version: 5, expiryInterval: 100, subscriptions, lastSequence: 0, held: new Map(), lastPacketId: 0 } as const
  const queued = { messages: 0, bytes: 0 }
  sessions.restore({ ...stored, clientId: 'over', queued, expiresAt: Date.now() - 1, leftAt: Date.now() - 100_001 })
  for (let i = 0; i < 2; i++) exchange.route(messageOf('x'))
  t.equal(sessions.get('over')?.pending, 0)
  sessions.restore({ ...stored, clientId: 'away', queued, expiresAt: Date.now() + 50_000, leftAt: Date.now() - 50_000 })
  for (let i = 0; i < 4; i++) exchange.route(messageOf('x'))
  t.equal(sessions.get('over')?.pending, 0)
  t.equal(sessions.get('away')?.pending, 4)
})

t.test('a sweep that is done says so', async t => {
  const bench = new Bench()
  for (let i = 0; i < 450; i++) bench.lose(bench.open(`${i}`))
  const later = Date.now() + 200_000
  const { sessions } = bench.engine
  while (!sessions.sweep(later));
  t.equal(sessions.count, 0)
})

t.test('global_max_clients counts sessions; who has one may come back', async t => {
  const bench = new Bench({ limits: { globalMaxClients: 2 } })
  const first = bench.open('a')
  bench.open('b', { sessionExpiryInterval: 0 })
  t.equal(bench.try('c'), 'too-many-clients')
  bench.lose(first)
  t.equal(bench.try('c'), 'too-many-clients')
  t.equal(bench.open('a', { clean: true }).isPresent, false)
  bench.lose(bench.open('b', { sessionExpiryInterval: 0 }))
  t.not(bench.try('c'), 'too-many-clients')
  t.equal(bench.engine.stats.clientsMaximum, 2)
})

t.test('who comes back under another name, or by another door, is judged as that', async t => {
  const bench = new Bench()
  const { engine } = bench
  const old = bench.open('c', { username: 'ann' })
  engine.subscribe(old.session, subscriptionOf('x'))
  const publish = () => engine.route(messageOf('x', { qos: 1 }))
  publish()
  t.equal(old.session.pending, 1)
  bench.deniedUsers.add('bob')
  bench.open('c', { username: 'bob' })
  t.equal(old.session.pending, 0)
  publish()
  t.equal(old.session.pending, 0)
  bench.open('c', { username: 'ann' })
  publish()
  t.equal(old.session.pending, 1)
  const { policyVersion } = engine
  bench.open('c', { username: 'ann' })
  t.equal(engine.policyVersion, policyVersion)
  bench.open('c', { username: 'ann', listener: { port: 1 } })
  bench.open('c', { username: 'ann', listener: { port: 1 }, version: 4 })
  t.equal(engine.policyVersion, policyVersion + 2)
})
