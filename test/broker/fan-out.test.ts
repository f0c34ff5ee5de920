// A message to very many goes to them over several turns: whatever happens in between, every receiver gets what it should, in the order of
// publishing, and what is to be durable is so together.

import fc from 'fast-check'
import t from 'tap'
import { Turns } from '../../dist/session/turns.js'
import { type BareBroker, startBareBroker } from '../helpers/bare-broker.js'
import { Host } from '../helpers/exchange-host.js'
import { dial, type LightClient } from '../helpers/light-client.js'
import { connect, packet, publish, subscribe, unsubscribe } from '../helpers/raw-mqtt.js'
import { messageOf, type NotingReceiver, SlowStore, subscriptionOf, turn } from '../helpers/session-bench.js'
import { crowd as crowdOf, Sink } from '../helpers/sink.js'

/** Time for as little as there can be. */
class ShortTurns extends Turns {
  override get isOver(): boolean {
    return true
  }
}

const shortTurns = (): Turns =>
  new ShortTurns(error => {
    throw error
  })

/** More than go in one turn. */
const many = 1200

type Added = ReturnType<Host['add']>

interface Crowd {
  readonly host: Host
  readonly all: readonly Added[]
}

/** Each with a subscription to `many`; every tenth also to `few`. */
function crowd(host: Host, fieldsOf: (i: number) => Parameters<Host['add']>[1] = () => ({})): Crowd {
  const all = Array.from({ length: many }, (_, i) => host.add(`c${i}`, fieldsOf(i)))
  for (const [i, { session }] of all.entries()) {
    host.exchange.subscribe(session, subscriptionOf('many'))
    if (i % 10 === 0) host.exchange.subscribe(session, subscriptionOf('few'))
  }
  return { host, all }
}

const received = ({ queued, live }: NotingReceiver): string[] =>
  [...queued.map(({ message }) => message), ...live.map(({ message }) => message)].map(({ payload }) => payload.toString())

const route = ({ exchange }: Host, topic: string, payload: string, qos: 0 | 1 | 2 = 1) => exchange.route(messageOf(topic, { payload, qos }))

async function untilRouted({ exchange }: Host): Promise<void> {
  while (exchange.isRouting) await turn()
  // Publishers are told in turns of their own.
  for (let i = 0; i < 30; i++) await turn()
}

t.test('few get it at once, very many over several turns, and then its publisher is told', async t => {
  const { host, all } = crowd(new Host(undefined, shortTurns()))
  t.equal(route(host, 'few', '1').underWay, undefined)
  const { underWay } = route(host, 'many', '2')
  t.ok(underWay)
  let told = 0
  if (underWay !== undefined) {
    underWay.done = ({ isMatched, commit }) => {
      told += 1
      t.same([isMatched, commit], [true, undefined])
      t.ok(all.every(({ receiver }) => received(receiver).includes('2')))
    }
  }
  await turn()
  const reached = () => all.filter(({ receiver }) => received(receiver).includes('2')).length
  t.ok(reached() > 0 && reached() < many, `${reached()} after a turn`)
  await untilRouted(host)
  t.same([reached(), told], [many, 1])
})

t.test('shared groups are receivers: to very many of them it goes over several turns too', async t => {
  const host = new Host(undefined, shortTurns())
  const { session, receiver } = host.add('c')
  for (let i = 0; i < many; i++) host.exchange.subscribe(session, subscriptionOf('many', { group: `g${i}` }))
  t.ok(route(host, 'many', '1').underWay)
  await turn()
  const reached = received(receiver).length
  t.ok(reached > 0 && reached < many, `${reached} after a turn`)
  await untilRouted(host)
  t.equal(received(receiver).length, many)
})

t.test('and it is put off where many members have to be looked at; each of them once', async t => {
  const host = new Host(undefined, shortTurns())
  const members = Array.from({ length: many }, (_, i) => host.add(`c${i}`).session)
  const { session, receiver } = host.add('last')
  const groups = 10
  for (let i = 0; i < groups; i++) {
    for (const member of members) host.exchange.subscribe(member, subscriptionOf('many', { group: `g${i}` }))
    if (i % 2 === 0) host.exchange.subscribe(session, subscriptionOf('many', { group: `g${i}` }))
  }
  for (const { clientId } of members) host.denied.add(`${clientId} many`)
  host.exchange.subscribe(session, subscriptionOf('many'))
  t.ok(route(host, 'many', '1').underWay)
  const reached = received(receiver).length
  t.ok(reached > 1 && reached < 6, `${reached} at once`)
  await untilRouted(host)
  t.equal(received(receiver).length, 6)
  t.equal(host.deniedDeliveries.length, (many * groups) / 2)
  t.ok(host.asked <= many * groups + 2 * groups, `${host.asked} decisions`)
})

t.test('what comes meanwhile waits behind it; each publisher is told once, in order', async t => {
  const { host, all } = crowd(new Host(undefined, shortTurns()))
  const told: string[] = []
  for (const [topic, payload] of [
    ['many', '1'],
    ['few', '2'],
    ['none', '3'],
    ['many', '4'],
    ['few', '5']
  ] as const) {
    const { underWay } = route(host, topic, payload)
    t.ok(underWay, payload)
    if (underWay !== undefined) underWay.done = ({ isMatched }) => told.push(`${payload} ${isMatched}`)
    await turn()
  }
  await untilRouted(host)
  t.same(told, ['1 true', '2 true', '3 false', '4 true', '5 true'])
  for (const [i, { receiver }] of all.entries()) {
    if (i % 10 > 1) continue
    const expected = i % 10 === 0 ? '1,2,4,5' : '1,4'
    if (received(receiver).join() !== expected) t.fail(`c${i}: ${received(receiver)}`)
  }
  t.equal(route(host, 'few', '6').underWay, undefined)
})

t.test(
  'who unsubscribes, ends or loses the right in the middle gets nothing more; who comes gets no copy; who comes back gets his',
  async t => {
    const { host, all } = crowd(new Host(undefined, shortTurns()))
    const { exchange } = host
    const late = host.add('late')
    route(host, 'many', '1')
    await turn()
    const [gone, ended, denied, changed, taken] = all.slice(-5)
    if (!gone || !ended || !denied || !changed || !taken) throw new Error('too few')
    exchange.unsubscribe(gone.session, 'many', undefined)
    ended.session.suspend()
    ended.session.hasEnded = true
    host.denied.add(`${denied.session.clientId} many`)
    host.policyVersion += 1
    exchange.subscribe(changed.session, subscriptionOf('many', { qos: 0, identifier: 7 }))
    exchange.subscribe(late.session, subscriptionOf('many'))
    const { receiver: next } = host.add('next')
    taken.session.suspend()
    taken.session.resume(next)
    await untilRouted(host)
    for (const { receiver } of [gone, ended, denied, late, taken]) t.same(received(receiver), [])
    t.same(host.deniedDeliveries, [`${denied.session.clientId} many`])
    t.same(
      changed.receiver.live.map(({ identifier }) => identifier),
      [7]
    )
    t.same(received(next), ['1'])
    for (const { receiver } of all.slice(0, -5)) if (received(receiver).join() !== '1') t.same(received(receiver), ['1'])
    route(host, 'many', '2')
    await untilRouted(host)
    t.same([received(late.receiver), received(gone.receiver)], [['2'], []])
  }
)

t.test('a hook that throws takes its own copy alone, one that publishes is behind', async t => {
  const { host, all } = crowd(new Host(undefined, new ShortTurns(error => t.fail(String(error)))))
  host.forward = ({ clientId }, message) => {
    if (message.topic === 'many' && clientId === 'c701') throw new Error('hook')
    if (message.topic === 'many' && clientId === 'c40') route(host, 'few', 'said')
    return message
  }
  route(host, 'many', '1')
  await untilRouted(host)
  t.equal(host.failures.length, 1)
  t.same(received(all[701]?.receiver ?? never()), [])
  t.same(received(all[40]?.receiver ?? never()), ['1', 'said'])
  t.same(received(all[1100]?.receiver ?? never()), ['1', 'said'])
  t.same(received(all[1199]?.receiver ?? never()), ['1'])
})

function never(): never {
  throw new Error('never')
}

async function work(host: Host, store: SlowStore): Promise<void> {
  await untilRouted(host)
  for (let pick = 1, quiet = 0; quiet < 60; pick++) {
    quiet = store.isIdle ? quiet + 1 : 0
    if (!store.isIdle) store.step(pick)
    await turn()
  }
}

t.test('entries of stored sessions and the release are one commit, whatever the store does meanwhile', async t => {
  const store = new SlowStore()
  store.fails = false
  const commits: string[][] = []
  const host = new Host(store, shortTurns())
  const seen = store.commit
  store.commit = changes => {
    commits.push(
      changes.map(change => (change.kind === 'enqueue' ? `enqueue ${change.message.payload} ${change.entries.length}` : change.kind))
    )
    return Reflect.apply(seen, store, [changes])
  }
  const { all } = crowd(host, i => ({ isStored: i % 2 === 0, isAway: i % 4 === 0 }))
  await work(host, store)
  commits.length = 0
  const { session } = host.add('publisher', { isStored: true })
  const { underWay } = host.exchange.route(messageOf('many', { qos: 2, payload: '1', retain: true }), { session, packetId: 5 })
  let isKept = false
  if (underWay !== undefined) {
    underWay.done = ({ commit }) => commit?.wait({ settle: () => (isKept = true) })
  }
  for (let pick = 1; pick < 8; pick++) {
    await turn()
    if (!store.isIdle) store.step(pick)
  }
  // It ends in the middle, and with it what it was to get.
  const ended = all[2]
  if (ended === undefined) throw new Error('none')
  ended.session.suspend()
  ended.session.hasEnded = true
  host.ledger.record({ kind: 'drop', clientId: ended.session.clientId })
  t.equal(isKept, false)
  await work(host, store)
  t.equal(isKept, true)
  const last = commits.filter(kinds => kinds.some(kind => kind !== 'done')).at(-1)
  t.same(
    last?.filter(kind => !kind.startsWith('drop')),
    [`enqueue 1 ${many / 2 - 1}`, 'release']
  )
  t.ok(commits[0]?.includes('retain'), 'what is retained is so from the start')
  t.equal(store.queues.get(ended.session.clientId), undefined)
  for (const [i, { receiver }] of all.entries()) {
    const expected = i === 2 || i % 4 === 0 ? '' : '1'
    if (received(receiver).join() !== expected) t.fail(`c${i}: ${received(receiver)}`)
  }
})

t.test('an entry of its own, in the middle, keeps the order of its queue in the store', async t => {
  const store = new SlowStore()
  store.fails = false
  const host = new Host(store, shortTurns())
  const { all } = crowd(host, () => ({ isStored: true }))
  route(host, 'many', '1')
  await turn()
  await turn()
  for (const { session } of [...all.slice(0, 3), ...all.slice(-3)]) {
    host.exchange.enqueueAlone(session, messageOf('own', { payload: 'own' }), 1, false, 0)
  }
  await work(host, store)
  for (const { receiver } of all.slice(0, 3)) t.same(received(receiver), ['1', 'own'])
  for (const { receiver } of all.slice(-3)) t.same(received(receiver), ['own', '1'])
})

t.test('whatever is done in between, everybody gets the messages in the order they were published, once', async () => {
  const step = fc.oneof(
    {
      weight: 4,
      arbitrary: fc.record({ kind: fc.constant('publish' as const), topic: fc.constantFrom('many', 'few', 'few'), retain: fc.boolean() })
    },
    { weight: 6, arbitrary: fc.record({ kind: fc.constant('turns' as const), count: fc.integer({ min: 1, max: 30 }) }) },
    {
      weight: 1,
      arbitrary: fc.record({
        kind: fc.constantFrom('leave' as const, 'return' as const, 'forget' as const, 'policy' as const),
        who: fc.nat(many - 1)
      })
    }
  )
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 25 }), fc.boolean(), fc.nat(1000), async (steps, isSlow, seed) => {
      const store = new SlowStore()
      store.fails = false
      const host = new Host(isSlow ? store : undefined, shortTurns())
      const { all } = crowd(host, i => ({ isStored: i % 3 === 0 }))
      const published: { payload: string; topic: string }[] = []
      const touched = new Set<number>()
      let told = 0
      let pick = seed
      for (const each of steps) {
        if (each.kind === 'publish') {
          const payload = String(published.length)
          published.push({ payload, topic: each.topic })
          const { underWay } = route(host, each.topic, payload)
          if (underWay === undefined) told += 1
          else underWay.done = () => (told += 1)
        } else if (each.kind === 'turns') {
          for (let i = 0; i < each.count; i++) {
            await turn()
            if (!store.isIdle) store.step(pick++)
          }
        } else if (each.kind === 'policy') {
          host.policyVersion += 1
        } else {
          const { session, receiver } = all[each.who] ?? never()
          touched.add(each.who)
          if (each.kind === 'forget') host.exchange.unsubscribe(session, 'many', undefined)
          else if (each.kind === 'leave') session.suspend()
          else if (session.connection === undefined) session.resume(receiver)
        }
      }
      await work(host, store)
      if (told !== published.length) throw new Error(`${told} of ${published.length} were told`)
      for (const [clientId, queue] of store.queues) {
        const sequences = [...queue.keys()]
        if (sequences.some((sequence, i) => i > 0 && sequence < (sequences[i - 1] ?? 0))) throw new Error(`${clientId}: ${sequences}`)
      }
      for (const [i, { receiver }] of all.entries()) {
        const got = received(receiver)
        const due = published.filter(({ topic }) => topic === 'many' || i % 10 === 0).map(({ payload }) => payload)
        const isRight = touched.has(i) ? inOrder(new Set(got), due) : got.join() === due.join()
        if (!isRight) throw new Error(`c${i} got ${got}, was due ${due}`)
      }
    }),
    { numRuns: 40 }
  )
})

/** What was sent before a connection was lost may come again; nothing comes early. */
function inOrder(got: ReadonlySet<string>, due: readonly string[]): boolean {
  let last = -1
  for (const each of got) {
    const at = due.indexOf(each)
    if (at <= last) return false
    last = at
  }
  return true
}

// Over sockets.

const subscribers = (broker: BareBroker): Promise<Sink[]> =>
  crowdOf(broker, many, i => [{ clientId: `r${i}` }, subscribe(['many'], 4, i % 3)])

async function reader(broker: BareBroker, filters: readonly string[], seen: string[] = []): Promise<LightClient> {
  const client = await dial(broker.port, {
    acknowledges: true,
    onPublish: (topic, payload) => seen.push(`${topic} ${payload}`)
  })
  await client.connect({ clientId: 'reader' })
  client.send(subscribe(filters, 4, 2))
  await client.has(9, 1)
  return client
}

t.test('two publishers, messages of every QoS to few and to many: each in order, each answered, nobody else waits', async t => {
  const broker = await startBareBroker(t, { debug: false, limits: { maxQueuedMessages: 0, maxInflightMessages: 0 } })
  await subscribers(broker)
  const seen: string[] = []
  const last = await reader(broker, ['many', 'few'], seen)
  const neighbour = await (await dial(broker.port)).connect({ clientId: 'neighbour' })
  const before = Sink.total
  const count = 60
  const topicOf = (i: number) => (i % 4 === 0 ? 'many' : 'few')
  const writers = await Promise.all(
    ['a', 'b'].map(async clientId => {
      const writer = await (await dial(broker.port, { acknowledges: true })).connect({ clientId })
      for (let i = 0; i < count; i++) writer.send(publish(topicOf(i), { qos: i % 3, messageId: i + 1, payload: `${clientId} ${i}` }))
      return writer
    })
  )
  for (let i = 0; i < 10; i++) await neighbour.ping()
  for (const writer of writers) {
    await writer.has(4, count / 3)
    await writer.has(7, count / 3)
  }
  await last.has(3, 2 * count)
  for (const clientId of ['a', 'b']) {
    for (const qos of [[0, 1], [2]]) {
      // QoS 2 goes out at PUBREL, behind what was sent in between.
      const expected = Array.from({ length: count }, (_, i) => i).filter(i => qos.includes(i % 3))
      const got = seen.filter(each => each.split(' ')[1] === clientId).map(each => Number(each.split(' ')[2]))
      t.same(
        got.filter(i => qos.includes(i % 3)),
        expected,
        `${clientId}, QoS ${qos}`
      )
    }
  }
  let bytes = 0
  for (const clientId of ['a', 'b']) {
    for (let i = 0; i < count; i += 4) {
      for (let who = 0; who < many; who++)
        bytes += publish('many', { qos: Math.min(i % 3, who % 3), messageId: 1, payload: `${clientId} ${i}` }).length
    }
  }
  // Those of QoS 2 acknowledge nothing, but their window has no end.
  while (Sink.total < before + bytes) await turn()
  await neighbour.ping()
  t.equal(Sink.total, before + bytes, 'everybody gets everything, once')
})

t.test('nothing comes behind UNSUBACK, and a reload counts at once', async t => {
  const broker = await startBareBroker(t, { debug: false })
  await subscribers(broker)
  const seen: string[] = []
  const last = await reader(broker, ['many'], seen)
  const done = new Promise<void>(resolve =>
    broker.broker.publish({ cmd: 'publish', topic: 'many', payload: Buffer.from('1'), qos: 1, retain: false, dup: false }, () => resolve())
  )
  last.send(unsubscribe(['many']))
  await last.has(11, 1)
  const { publishes } = last
  await done
  await last.ping()
  t.equal(last.publishes, publishes)
  last.send(subscribe(['many'], 4, 2))
  await last.has(9, 2)
  const before = Sink.total
  const published = new Promise<void>(resolve =>
    broker.broker.publish({ cmd: 'publish', topic: 'many', payload: Buffer.from('2'), qos: 1, retain: false, dup: false }, () => resolve())
  )
  broker.reload({ acl: 'topic read none' })
  await published
  await last.ping()
  t.same([Sink.total - before, last.publishes], [0, publishes])
})

t.test('PUBREL once more, by the next connection, is answered behind its message', async t => {
  const broker = await startBareBroker(t, { debug: false })
  await subscribers(broker)
  const first = await (await dial(broker.port)).connect({ clientId: 'writer', clean: false })
  first.send(publish('many', { qos: 2, messageId: 1, payload: '1' }))
  await first.has(5, 1)
  const before = Sink.total
  const released = packet(0x62, Buffer.from([0, 1]))
  first.send(released)
  const next = await dial(broker.port)
  next.send(connect({ clientId: 'writer', clean: false }), released)
  await next.has(7, 1)
  const each = (qos: number) => publish('many', { qos, messageId: 1, payload: '1' }).length
  const bytes = (many / 3) * (each(0) + each(1) + each(2))
  while (Sink.total < before + bytes) await turn()
  await next.ping()
  t.equal(Sink.total, before + bytes, 'once')
  t.equal(next.counts[7], 1)
})

t.test('PUBREL that nothing waits for is answered at once, however many messages to very many follow each other', async t => {
  const broker = await startBareBroker(t, { debug: false })
  await subscribers(broker)
  const device = await (await dial(broker.port)).connect({ clientId: 'device', clean: false })
  const writers = await Promise.all(['one', 'two'].map(async clientId => (await dial(broker.port)).connect({ clientId })))
  const each = 100
  const messages = Array.from({ length: each }, (_, i) => publish('many', { qos: 1, messageId: i + 1 }))
  for (const writer of writers) writer.send(...messages)
  await Promise.all(writers.map(writer => writer.has(4, 1)))
  device.send(packet(0x62, Buffer.from([0, 9])))
  await device.has(7, 1)
  await device.ping()
  const answered = writers.map(({ counts }) => counts[4] ?? 0)
  t.ok(Math.max(...answered) < each, `${answered} messages were through`)
  await Promise.all(writers.map(writer => writer.has(4, each)))
})

t.test('the broker stops in the middle: everybody gets it, publishers are told, wills are sent', async t => {
  const broker = await startBareBroker(t, { debug: false })
  await (await dial(broker.port)).connect({ clientId: 'mortal', will: { topic: 'will', payload: 'gone' } })
  await subscribers(broker)
  const seen: string[] = []
  const last = await reader(broker, ['many', 'few', 'will'], seen)
  const told: string[] = []
  for (const topic of ['many', 'few', 'many']) {
    broker.broker.publish({ cmd: 'publish', topic, payload: Buffer.from('x'), qos: 1, retain: false, dup: false }, () => told.push(topic))
  }
  t.same(told, [])
  await broker.close()
  while (!last.isClosed) await turn()
  t.same(seen, ['many x', 'few x', 'many x', 'will gone'])
  t.same(told, ['many', 'few', 'many'])
})
