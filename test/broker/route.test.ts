// Who gets a message, in which form, and what the store is told: sessions and receivers without connections.

import t, { type Test } from 'tap'
import { Message } from '../../dist/message.js'
import { Host } from '../helpers/exchange-host.js'
import { growthOf } from '../helpers/heap.js'
import { gathered, messageOf, type NotingReceiver, replay, SlowStore, subscriptionOf, usualDelivery } from '../helpers/session-bench.js'

const live = ({ live }: NotingReceiver) => live.map(({ message }) => message.topic)
const queued = ({ queued }: NotingReceiver) => queued.map(({ message, qos }) => `${message.topic} ${qos}`)

t.test('what is known of a topic is forgotten when a subscription or a rule changes, and not before', async t => {
  const host = new Host()
  const { exchange } = host
  const [a, b] = [host.add('a'), host.add('b')]
  const publish = () => exchange.route(messageOf('x', { qos: 0 })).isMatched
  t.equal(publish(), false)
  t.equal(exchange.subscribe(a.session, subscriptionOf('x')), true)
  t.equal(publish(), true)
  publish()
  t.equal(host.asked, 1)
  t.equal(exchange.subscribe(b.session, subscriptionOf('+')), true)
  publish()
  t.same([live(a.receiver).length, live(b.receiver).length], [3, 1])
  host.denied.add('a x')
  publish()
  t.equal(live(a.receiver).length, 4)
  host.policyVersion += 1
  publish()
  t.same([live(a.receiver).length, live(b.receiver).length, host.deniedDeliveries], [4, 3, ['a x']])
  t.equal(exchange.unsubscribe(b.session, '+', undefined), true)
  t.equal(publish(), true)
  t.equal(live(b.receiver).length, 3)
  exchange.subscribe(b.session, subscriptionOf('x', { identifier: 7 }))
  publish()
  t.equal(b.receiver.live.at(-1)?.identifier, 7)
})

t.test('one copy for each filter, or for MQTT 3 one with the highest QoS', async t => {
  const host = new Host()
  const { exchange } = host
  const [old, other] = [host.add('old'), host.add('new', { version: 5 })]
  for (const { session } of [old, other]) {
    exchange.subscribe(session, subscriptionOf('x', { qos: 1 }))
    exchange.subscribe(session, subscriptionOf('+', { qos: 2 }))
    exchange.subscribe(session, subscriptionOf('#', { qos: 0 }))
  }
  exchange.route(messageOf('x', { qos: 2 }))
  t.same([queued(old.receiver).sort(), live(old.receiver)], [['x 1', 'x 2'], ['x']])
  host.delivery = { ...usualDelivery, allowDuplicateMessages: false }
  host.policyVersion += 1
  exchange.route(messageOf('x', { qos: 2 }))
  t.same([queued(old.receiver).slice(2), live(old.receiver)], [['x 2'], ['x']])
  t.same([queued(other.receiver).length, live(other.receiver).length], [4, 2])
})

t.test('QoS, retain as published, no local, identifiers', async t => {
  const host = new Host()
  const { exchange } = host
  const a = host.add('a', { version: 5 })
  exchange.subscribe(a.session, subscriptionOf('x', { qos: 1, retainAsPublished: true, identifier: 5 }))
  for (const qos of [0, 1, 2] as const) exchange.route(messageOf('x', { qos, retain: qos > 0 }))
  t.same(
    a.receiver.queued.map(({ qos, retain, subscriptionIdentifier }) => [qos, retain, subscriptionIdentifier]),
    [
      [1, true, 5],
      [1, true, 5]
    ]
  )
  t.same(
    a.receiver.live.map(({ retain, identifier }) => [retain, identifier]),
    [[false, 5]]
  )
  host.delivery = { ...usualDelivery, upgradeOutgoingQos: true }
  exchange.route(messageOf('x', { qos: 0 }))
  t.same(queued(a.receiver).slice(2), ['x 1'])
  exchange.subscribe(a.session, subscriptionOf('x', { qos: 1 }))
  exchange.route(messageOf('x', { qos: 1, retain: true }))
  t.equal(a.receiver.queued.at(-1)?.retain, false)
  exchange.subscribe(a.session, subscriptionOf('own', { noLocal: true }))
  const own = (clientId: string) => {
    const { topic, payload, qos, retain } = messageOf('own')
    return new Message({ topic, payload, qos, retain, source: { clientId } })
  }
  exchange.route(own('a'))
  exchange.route(own('b'))
  t.equal(queued(a.receiver).filter(each => each === 'own 2').length, 1)
})

t.test('who is away gets what is queued: stored sessions alone, QoS 0 if it is told to', async t => {
  const host = new Host()
  const { exchange } = host
  const [stored, gone] = [host.add('stored', { isStored: true, isAway: true }), host.add('gone', { isAway: true })]
  for (const { session } of [stored, gone]) exchange.subscribe(session, subscriptionOf('x'))
  exchange.route(messageOf('x', { qos: 0 }))
  t.same([stored.session.pending, gone.session.pending], [0, 0])
  host.delivery = { ...usualDelivery, queueQos0Messages: true }
  exchange.route(messageOf('x', { qos: 0 }))
  t.same([stored.session.pending, gone.session.pending], [1, 0])
})

t.test('all stored receivers of a message are one change, and wait for it', async t => {
  const store = new SlowStore()
  const host = new Host(store)
  const { exchange } = host
  const stored = ['a', 'b', 'c'].map(clientId => host.add(clientId, { isStored: true, isAway: clientId === 'c' }))
  const unstored = host.add('d')
  for (const { session } of [...stored, unstored]) exchange.subscribe(session, subscriptionOf('x'))
  const { commit } = exchange.route(messageOf('x', { retain: true }))
  t.ok(commit)
  t.same([queued(unstored.receiver), stored.map(({ receiver }) => queued(receiver))], [['x 1'], [[], [], []]])
  await gathered()
  t.same(host.enqueued, [{ topic: 'x', to: ['a', 'b', 'c'] }])
  for (let pick = 1; !store.isIdle; pick++) store.step(pick)
  await gathered()
  t.equal(commit?.isDurable, true)
  t.same(
    stored.map(({ receiver }) => queued(receiver)),
    [['x 1'], ['x 1'], []]
  )
  t.equal(exchange.route(messageOf('y')).commit, undefined)
})

t.test('a store that knows sessions we do not is told of every message that could be theirs', async t => {
  const host = new Host(Object.assign(new SlowStore(), { load: async () => undefined }))
  t.ok(host.exchange.route(messageOf('x', { qos: 1 })).commit)
  t.equal(host.exchange.route(messageOf('x', { qos: 0 })).commit, undefined)
  await gathered()
  t.same(host.enqueued, [{ topic: 'x', to: [] }])
})

t.test('a retained message whose turn comes while another is on its way is stored by itself', async t => {
  const store = new SlowStore()
  const host = new Host(store)
  const { exchange } = host
  exchange.route(messageOf('old', { retain: true }))
  const kept = host.add('kept', { isStored: true })
  const asking = host.add('asking')
  const both = host.add('both', { isStored: true })
  for (const { session } of [kept, asking, both]) exchange.subscribe(session, subscriptionOf('x'))
  asking.receiver.hasRoom = false
  const subscription = subscriptionOf('old')
  replay(asking.session, [subscription])
  asking.receiver.hasRoom = true
  const { commit } = exchange.route(messageOf('x'))
  t.ok(commit, 'its publisher waits')
  t.same(queued(asking.receiver), ['x 1', 'old 1'])
  replay(both.session, [subscription])
  for (let pick = 1; pick < 50; pick++) {
    await gathered()
    if (!store.isIdle) store.step(pick)
  }
  t.same(host.enqueued, [
    { topic: 'x', to: ['kept', 'both'] },
    { topic: 'old', to: ['both'] }
  ])
  t.same([queued(kept.receiver), queued(both.receiver)], [['x 1'], ['x 1', 'old 1']])
})

t.test('a hook that publishes, or throws, in the midst of a delivery mixes nothing up', async t => {
  const host = new Host(new SlowStore())
  const { exchange } = host
  for (const clientId of ['a', 'b', 'c']) {
    const { session } = host.add(clientId, { isStored: true })
    exchange.subscribe(session, subscriptionOf('outer'))
    if (clientId !== 'a') exchange.subscribe(session, subscriptionOf('inner'))
  }
  host.forward = ({ clientId }, message) => {
    if (message.topic === 'outer' && clientId === 'b') exchange.route(messageOf('inner'))
    if (message.topic === 'thrown' && clientId === 'b') throw new Error('hook')
    return clientId === 'c' && message.topic === 'outer' ? messageOf('changed') : message
  }
  t.ok(exchange.route(messageOf('outer')).commit)
  const { session: live, receiver } = host.add('live')
  for (const clientId of ['d', 'b', 'e']) {
    const { session } = host.add(clientId, { isStored: true })
    exchange.subscribe(session, subscriptionOf('thrown'))
  }
  exchange.subscribe(live, subscriptionOf('thrown'))
  t.ok(exchange.route(messageOf('thrown')).commit)
  t.same(host.failures, ['b Error: hook'])
  t.equal(receiver.queued.length + receiver.live.length, 1)
  exchange.route(messageOf('inner'))
  await gathered()
  t.same(host.enqueued, [
    { topic: 'outer', to: ['a'] },
    { topic: 'inner', to: ['b', 'c'] },
    { topic: 'outer', to: ['b', 'c'] },
    { topic: 'thrown', to: ['d', 'e'] },
    { topic: 'inner', to: ['b', 'c'] }
  ])
})

t.test('a shared message goes to one who is there and may read it, else to one who is away', async t => {
  const host = new Host()
  const { exchange } = host
  const members = ['a', 'b', 'c'].map(clientId => host.add(clientId, { isStored: true, isAway: clientId === 'b' }))
  for (const { session } of members) exchange.subscribe(session, subscriptionOf('x', { group: 'g' }))
  t.equal(exchange.sharedCount, 3)
  const publish = (count: number) => {
    for (let i = 0; i < count; i++) t.equal(exchange.route(messageOf('x')).isMatched, true)
  }
  const pending = () => members.map(({ session }) => session.pending)
  publish(4)
  t.same(pending(), [2, 0, 2])
  host.denied.add('a x')
  publish(2)
  t.same(pending(), [2, 0, 4])
  members[2]?.session.suspend()
  publish(2)
  t.same(pending(), [2, 1, 5])
  t.same(host.deniedDeliveries, [], 'somebody else has it')
  host.denied.add('b x').add('c x')
  publish(1)
  t.same(pending(), [2, 1, 5])
  t.same(host.deniedDeliveries.toSorted(), ['a x', 'b x', 'c x'], 'nobody may have it')
})

async function retainedSetting(t: Test): Promise<{ host: Host; replay(filter: string): (string | undefined)[] }> {
  const host = new Host()
  t.teardown(() => {})
  const { session } = host.add('a')
  return {
    host,
    replay: filter => {
      const found: (string | undefined)[] = []
      const replay = host.exchange.replayOf(session, subscriptionOf(filter))
      for (let message = replay.next(); message !== undefined; message = replay.next()) {
        found.push(message === 'pause' ? undefined : message.topic)
      }
      return found
    }
  }
}

t.test('retained: set, replaced, cleared, kept from who may not see it', async t => {
  const { host, replay } = await retainedSetting(t)
  const { exchange } = host
  exchange.route(messageOf('x', { payload: '1', retain: true, qos: 0 }))
  exchange.route(messageOf('x', { payload: '2', retain: true, qos: 0 }))
  exchange.route(messageOf('x', { payload: '3', qos: 0 }))
  exchange.route(messageOf('y', { retain: true, qos: 0 }))
  t.equal(exchange.retained.get('x')?.payload.toString(), '2')
  t.same(replay('#'), ['x', 'y'])
  host.deniedWriters.add('x')
  t.same(replay('#'), [undefined, 'y'])
  host.denied.add('a y')
  t.same(host.deniedDeliveries, [])
  t.same(replay('#'), [undefined, undefined])
  t.same(host.deniedDeliveries, ['a y'])
  exchange.route(messageOf('x', { payload: '', retain: true, qos: 0 }))
  t.equal(exchange.retained.get('x'), undefined)
  t.same(
    host.changes.map(change => (change.kind === 'retain' ? [change.topic, change.message?.payload.toString()] : [])),
    [
      ['x', '1'],
      ['x', '2'],
      ['y', 'x'],
      ['x', undefined]
    ]
  )
})

t.test('$SYS is retained, and no store hears of it', async t => {
  const host = new Host(new SlowStore())
  t.equal(host.exchange.route(messageOf('$SYS/a', { retain: true })).commit, undefined)
  t.ok(host.exchange.retained.get('$SYS/a'))
  await gathered()
  t.same(host.changes, [])
})

t.test('retain_expiry_interval is an end, unless the message has an earlier one', async t => {
  const { host } = await retainedSetting(t)
  const { exchange } = host
  host.delivery = { ...usualDelivery, retainExpiryInterval: 60 }
  const before = Date.now()
  exchange.route(messageOf('x', { retain: true }))
  exchange.route(messageOf('y', { retain: true, expiresAt: before + 5000 }))
  const end = exchange.retained.get('x')?.expiresAt ?? 0
  t.ok(end >= before + 60_000 && end <= Date.now() + 60_000)
  t.equal(exchange.retained.get('y')?.expiresAt, before + 5000)
  host.changes.length = 0
  for (const _ of exchange.expireRetained(before + 5000));
  t.same(host.changes, [{ kind: 'retain', topic: 'y' }])
  t.ok(exchange.retained.get('x'))
})

t.test('a retained message says that it is one, in the QoS of the subscription', async t => {
  const host = new Host()
  const { exchange } = host
  const { session, receiver } = host.add('a', { isStored: true })
  exchange.route(messageOf('x', { retain: true, qos: 2 }))
  replay(session, [subscriptionOf('x', { qos: 1, identifier: 3 })])
  replay(session, [subscriptionOf('x', { qos: 0, identifier: 4 })])
  t.same(
    receiver.queued.map(({ qos, retain, subscriptionIdentifier }) => [qos, retain, subscriptionIdentifier]),
    [[1, true, 3]]
  )
  t.same(
    receiver.live.map(({ retain, identifier }) => [retain, identifier]),
    [[true, 4]]
  )
  host.forward = () => undefined
  replay(session, [subscriptionOf('x')])
  t.equal(receiver.queued.length, 1)
})

t.test('what is remembered for a topic counts its shared groups', t => {
  const host = new Host()
  const { session } = host.add('away', { isAway: true })
  for (let i = 0; i < 900; i++) host.exchange.subscribe(session, subscriptionOf('#', { group: `g${i}` }))
  const grown = growthOf(() => {
    for (let i = 0; i < 3000; i++) host.exchange.route(messageOf(`t/${i}`, { qos: 0 }))
  })
  t.ok(grown < 8_000_000, `${grown} bytes`)
  t.end()
})

t.test('the effort of a message is what was looked at for it: nodes of filters, receivers, members', t => {
  const host = new Host()
  const { exchange } = host
  const { session } = host.add('c')
  const effortOf = (topic: string): number => {
    const { effort } = exchange
    exchange.route(messageOf(topic, { qos: 0 }))
    return exchange.effort - effort
  }
  t.ok(effortOf('x') < 5)
  const levels = [0, 1, 2, 3, 4, 5, 6, 7]
  for (let i = 0; i < 256; i++) exchange.subscribe(session, subscriptionOf(levels.map(n => ((i >> n) & 1 ? '+' : 'a')).join('/')))
  t.ok(effortOf('a/a/a/a/a/a/a/b') >= 256)
  t.end()
})
