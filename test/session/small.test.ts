// The small parts of a session: the queue with two ends, the ledger, what is owed, topic aliases.

import assert from 'node:assert/strict'
import fc from 'fast-check'
import t from 'tap'
import { Deque } from '../../dist/session/deque.js'
import { Commit, Ledger } from '../../dist/session/ledger.js'
import { Owed } from '../../dist/session/owed.js'
import { TopicAliases } from '../../dist/session/topic-aliases.js'
import type { Change, QueueEntry } from '../../dist/storage.js'
import { openMemoryStore } from '../../dist/store/memory.js'
import { gathered, longTurns, messageOf, SlowStore, transportOf } from '../helpers/session-bench.js'
import { until } from '../helpers/until.js'

t.test('a deque is an array with two ends', async () => {
  const step = fc.oneof(
    fc.record({ kind: fc.constantFrom('push' as const, 'shift' as const), count: fc.constantFrom(1, 2, 10, 1500) }),
    fc.record({ kind: fc.constantFrom('prepend' as const, 'clear' as const), count: fc.constantFrom(1, 3) })
  )
  fc.assert(
    fc.property(fc.array(step, { maxLength: 30 }), steps => {
      const deque = new Deque<number>()
      const model: number[] = []
      let n = 0
      for (const { kind, count } of steps) {
        for (let i = 0; i < count; i++) {
          if (kind === 'push') model.push(++n) && deque.push(n)
          else if (kind === 'prepend') {
            model.unshift(++n, ++n)
            deque.prepend([n - 1, n])
          } else if (kind === 'shift') assert.equal(deque.shift(), model.shift())
        }
        if (kind === 'clear') {
          deque.clear()
          model.length = 0
        }
        assert.equal(deque.size, model.length)
        assert.equal(deque.first, model[0])
        assert.equal(deque.last, model.at(-1))
        assert.deepEqual([...deque], model)
      }
    })
  )
})

const change = (topic: string): Change => ({ kind: 'retain', topic })
const entryOf = (sequence: number): QueueEntry => ({
  clientId: 'c',
  sequence,
  message: messageOf('a'),
  qos: 1,
  retain: false,
  subscriptionIdentifier: 0,
  packetId: sequence,
  state: 'queued'
})

t.test('with a store that is durable at once nothing waits', async t => {
  const store = openMemoryStore()
  const ledger = new Ledger(store, longTurns)
  t.equal(ledger.record({ kind: 'retain', topic: 'a', message: messageOf('a') }), undefined)
  t.equal((await store.open()).retained.length, 1)
  await ledger.drained()
})

t.test('changes of a turn are one commit; one is under way at a time, in order', async t => {
  const store = new SlowStore()
  const commits: string[][] = []
  const { commit } = store
  store.commit = changes => {
    commits.push(changes.map(each => (each.kind === 'retain' ? each.topic : '')))
    return Reflect.apply(commit, store, [changes])
  }
  const ledger = new Ledger(store, longTurns)
  const order: string[] = []
  const first = ledger.record(change('a'))
  t.equal(ledger.record(change('b')), first)
  first?.wait({ settle: () => order.push('waiter') })
  first?.hand(entryOf(1), { take: ({ sequence }) => order.push(`entry ${sequence}`) })
  first?.hand(entryOf(2), { take: ({ sequence }) => order.push(`entry ${sequence}`) })
  await gathered()
  const second = ledger.record(change('c'))
  t.not(second, first)
  let isDrained = false
  const drained = ledger.drained().then(() => {
    isDrained = true
  })
  await gathered()
  t.same(commits, [['a', 'b']])
  t.equal(first?.isDurable, false)
  t.same(order, [])
  for (let pick = 1; !store.isIdle; pick++) store.step(pick)
  await gathered()
  t.same(order, ['entry 1', 'entry 2', 'waiter'])
  t.equal(first?.isDurable, true)
  t.equal(isDrained, false)
  await gathered()
  t.same(commits, [['a', 'b'], ['c']])
  for (let pick = 1; !store.isIdle; pick++) store.step(pick)
  await drained
  t.equal(second?.isDurable, true)
})

/** Takes commits over, and ends them when told. */
class HeldStore extends SlowStore {
  readonly commits: Change[][] = []
  readonly #ends: (() => void)[] = []

  override commit(changes: readonly Change[]): Promise<void> {
    this.commits.push([...changes])
    return new Promise(resolve => this.#ends.push(resolve))
  }

  async end(): Promise<void> {
    this.#ends.shift()?.()
    await gathered()
  }
}

t.test('a store that takes more gets a commit for each turn, two at most; they are settled in order', async t => {
  const store = new HeldStore(true)
  const ledger = new Ledger(store, longTurns)
  const settled: number[] = []
  for (let i = 0; i < 5; i++) {
    ledger.record(change(`${i}`))?.wait({ settle: () => settled.push(i) })
    await gathered()
  }
  t.same(
    store.commits.map(({ length }) => length),
    [1, 1]
  )
  await store.end()
  await gathered()
  t.same(settled, [0])
  t.same(
    store.commits.map(({ length }) => length),
    [1, 1, 3],
    'what came meanwhile goes together'
  )
  for (let i = 0; i < 2; i++) await store.end()
  await gathered()
  t.same(settled, [0, 1, 2, 3, 4])
  await ledger.drained()
})

t.test('what is done with goes along with what somebody waits for, or on its own after a while', async t => {
  const patient = new HeldStore()
  const patientLedger = new Ledger(patient, longTurns, 100_000_000)
  patientLedger.record({ kind: 'done', entry: entryOf(1) })
  for (let i = 0; i < 5; i++) await gathered()
  t.same(patient.commits, [])
  const isDrained = patientLedger.drained()
  await gathered()
  await patient.end()
  await isDrained
  const store = new HeldStore()
  const ledger = new Ledger(store, longTurns)
  ledger.record({ kind: 'done', entry: entryOf(1) })
  ledger.record(change('a'))
  await gathered()
  t.same(
    store.commits.map(changes => changes.map(({ kind }) => kind)),
    [['done', 'retain']]
  )
  await store.end()
  ledger.record({ kind: 'done', entry: entryOf(2) })
  await until(() => store.commits.length === 2)
  await store.end()
  ledger.record({ kind: 'done', entry: entryOf(3) })
  ledger.latest?.wait({ settle: () => {} })
  await gathered()
  t.equal(store.commits.length, 3, 'somebody waits for it')
  await store.end()
  ledger.record({ kind: 'done', entry: entryOf(4) })
  const drained = ledger.drained()
  await gathered()
  t.equal(store.commits.length, 4, 'at the end too')
  await store.end()
  await drained
})

t.test('acknowledgements leave in the order of what they answer, each when it is durable, and CONNACK before all of them', async () => {
  const step = fc.oneof(
    fc.record({ kind: fc.constant('open' as const), commit: fc.option(fc.nat(3)) }),
    fc.record({ kind: fc.constant('add' as const), commit: fc.option(fc.nat(3)), hasPacket: fc.boolean() }),
    fc.record({ kind: fc.constant('settle' as const), commit: fc.nat(3) })
  )
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), steps => {
      const commits = Array.from({ length: 4 }, () => new Commit())
      const expected: { n: number; commit: Commit | undefined; hasPacket: boolean }[] = []
      const log: string[] = []
      let paid = 0
      let count = 0
      let isOpen = false
      const owed = new Owed(
        packet => log.push(`packet ${packet}`),
        () => paid++
      )
      for (const step of steps) {
        const commit = step.commit === null ? undefined : commits[step.commit]
        if (step.kind === 'add') {
          const n = count++
          expected.push({ n, commit, hasPacket: step.hasPacket })
          owed.add(step.hasPacket ? Buffer.from(`${n}`) : undefined, commit, () => log.push(`then ${n}`))
        } else if (step.kind === 'open') {
          if (isOpen) continue
          isOpen = true
          const n = count++
          expected.unshift({ n, commit, hasPacket: true })
          owed.open(Buffer.from(`${n}`), commit, () => log.push(`then ${n}`))
        } else if (commit?.isDurable === false) {
          const { size } = owed
          const before = paid
          commit.settle(longTurns)
          assert.equal(paid - before, owed.size < size ? 1 : 0)
        }
        const blocked = expected.findIndex(({ commit }) => commit?.isDurable === false)
        const left: typeof expected = !isOpen ? [] : blocked < 0 ? expected : expected.slice(0, blocked)
        assert.deepEqual(
          log,
          left.flatMap(({ n, hasPacket }) => [...(hasPacket ? [`packet ${n}`] : []), `then ${n}`])
        )
        assert.equal(owed.size, expected.length - left.length)
      }
      owed.cancel()
      const { length } = log
      for (const commit of commits) if (!commit.isDurable) commit.settle(longTurns)
      assert.equal(log.length, length)
      assert.equal(owed.size, 0)
    })
  )
})

t.test('what is done with one may end them all', async t => {
  const commit = new Commit()
  const log: string[] = []
  const owed = new Owed(
    packet => log.push(String(packet)),
    () => log.push('paid')
  )
  owed.open(Buffer.from('connack'), undefined, () => {})
  owed.add(Buffer.from('a'), commit, () => owed.cancel())
  owed.add(Buffer.from('b'), commit)
  commit.settle(longTurns)
  t.same(log, ['connack', 'paid', 'a'])
  t.equal(owed.size, 0)
})

t.test('topic aliases have limits of their own each way', async t => {
  const aliases = new TopicAliases()
  t.equal(aliases.mayBeSent, false)
  t.equal(aliases.outgoing('a'), undefined)
  t.equal(aliases.incoming(1, 'a'), 'too high')
  const { listener } = transportOf({ maxTopicAlias: 2, maxTopicAliasBroker: 3 })
  aliases.limit(listener, 2)
  t.equal(aliases.mayBeSent, true)
  t.equal(aliases.incoming(2, ''), undefined)
  t.equal(aliases.incoming(2, 'a'), 'a')
  t.equal(aliases.incoming(2, ''), 'a')
  t.equal(aliases.incoming(2, 'b'), 'b')
  t.equal(aliases.incoming(2, ''), 'b')
  t.equal(aliases.incoming(1, ''), undefined)
  t.equal(aliases.incoming(3, 'a'), 'too high')
  t.same(aliases.outgoing('a'), { number: 1, isKnown: false })
  t.same(aliases.outgoing('a'), { number: 1, isKnown: true })
  t.same(aliases.outgoing('b'), { number: 2, isKnown: false })
  aliases.forget('b')
  t.same(aliases.outgoing('c'), { number: 2, isKnown: false })
  t.equal(aliases.outgoing('d'), undefined)
  t.same(aliases.outgoing('c'), { number: 2, isKnown: true })
  aliases.limit(transportOf({ maxTopicAlias: 0, maxTopicAliasBroker: 0 }).listener, 10)
  t.equal(aliases.outgoing('a'), undefined)
})
