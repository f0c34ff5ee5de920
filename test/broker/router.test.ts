import fc from 'fast-check'
import t from 'tap'
import { Router, type SharedGroup, type Target } from '../../dist/broker/router.js'
import type { Subscription } from '../../dist/storage.js'
import { isTopicFilter, isTopicName, matchesFilter } from '../../dist/topic.js'
import { growthOf } from '../helpers/heap.js'

interface Subscriber {
  readonly name: string
}

const subscriber = (name: string): Subscriber => ({ name })
const [ann, bob, cid] = [subscriber('ann'), subscriber('bob'), subscriber('cid')]

function to(filter: string, options: Partial<Subscription> = {}): Subscription {
  return { filter, qos: 0, noLocal: false, retainAsPublished: false, retainHandling: 0, identifier: 0, ...options }
}

const filtersFor = (router: Router<Subscriber>, topic: string): string[] =>
  router.match(topic).targets.map(({ subscription }) => subscription.filter)
const namesFor = (router: Router<Subscriber>, topic: string): string[] =>
  router.match(topic).targets.map(({ subscriber }) => subscriber.name)
const everybody = (): boolean => true

function turns(group: SharedGroup<Subscriber> | undefined, count: number, eligible: (name: string) => boolean = everybody): string {
  return Array.from({ length: count }, () => group?.next(({ subscriber }) => eligible(subscriber.name))?.subscriber.name ?? '-').join(' ')
}

t.test('filters are found in the order of Mosquitto: literal, +, #; what lies deeper first', async t => {
  const router = new Router<Subscriber>()
  for (const filter of ['#', '+/#', '+/+', 'a/#', 'a/+', '+/b', 'a/b', 'a/b/#', 'a/b/+', 'a/+/#', '+/b/#', '+/+/#'])
    router.add(ann, to(filter))
  // As mosquitto 2.0.11 sent them to a client with one subscription identifier for each filter.
  const rows: Record<string, string[]> = {
    'a/b': ['a/b/#', 'a/b', 'a/+/#', 'a/+', 'a/#', '+/b/#', '+/b', '+/+/#', '+/+', '+/#', '#'],
    a: ['a/#', '+/#', '#'],
    'a/b/c': ['a/b/+', 'a/b/#', 'a/+/#', 'a/#', '+/b/#', '+/+/#', '+/#', '#'],
    'a/b/': ['a/b/+', 'a/b/#', 'a/+/#', 'a/#', '+/b/#', '+/+/#', '+/#', '#'],
    '/b': ['+/b/#', '+/b', '+/+/#', '+/+', '+/#', '#']
  }
  for (const [topic, filters] of Object.entries(rows)) t.same(filtersFor(router, topic), filters, topic)
})

t.test('inside one filter in the order of subscribing; one that is replaced keeps its place', async t => {
  const router = new Router<Subscriber>()
  for (const one of [ann, bob, cid]) t.ok(router.add(one, to('o/+')))
  const before = router.match('o/1')
  t.notOk(router.add(ann, to('o/+', { qos: 2, identifier: 7 })))
  t.same(namesFor(router, 'o/1'), ['ann', 'bob', 'cid'])
  t.match(router.match('o/1').targets[0]?.subscription, { qos: 2, identifier: 7 })
  t.equal(before.targets[0]?.subscription.qos, 0, 'what was matched before stays as it was')
  t.ok(router.remove(ann, 'o/+'))
  t.notOk(router.remove(ann, 'o/+'))
  t.ok(router.add(ann, to('o/+')))
  t.same(namesFor(router, 'o/1'), ['bob', 'cid', 'ann'])
})

t.test('leading wildcards do not match $ topics, unless they are taken alike', async t => {
  const apart = new Router<Subscriber>()
  const alike = new Router<Subscriber>({ dollar: 'alike' })
  for (const router of [apart, alike]) for (const filter of ['#', '+/x', '+/#', '$SYS/#', '$SYS/+']) router.add(ann, to(filter))
  t.same(filtersFor(apart, '$SYS/x'), ['$SYS/+', '$SYS/#'])
  t.same(filtersFor(alike, '$SYS/x'), ['$SYS/+', '$SYS/#', '+/x', '+/#', '#'])
})

t.test('names of the prototype are levels like others', async t => {
  const router = new Router<Subscriber>()
  t.same(router.match('__proto__/constructor').targets, [])
  for (const filter of ['__proto__/constructor', '+/toString', 'hasOwnProperty/#']) router.add(ann, to(filter))
  t.same(filtersFor(router, '__proto__/constructor'), ['__proto__/constructor'])
  t.same(filtersFor(router, 'constructor/toString'), ['+/toString'])
  t.same(filtersFor(router, 'hasOwnProperty'), ['hasOwnProperty/#'])
})

t.test('200 slashes, literal and wild, are no trouble', async t => {
  const router = new Router<Subscriber>()
  const filters = ['/'.repeat(200), `${'+/'.repeat(200)}#`, `${'a/'.repeat(200)}a`, `${'a/'.repeat(200)}+`]
  for (const filter of filters) router.add(ann, to(filter))
  t.same(filtersFor(router, `${'a/'.repeat(200)}a`), [filters[2], filters[3], filters[1]])
  t.same(filtersFor(router, '/'.repeat(200)), [filters[0], filters[1]])
})

t.test('a group serves its members in turn, beginning with the first subscriber', async t => {
  const router = new Router<Subscriber>()
  for (const one of [ann, bob, cid]) t.ok(router.add(one, to('s/+', { group: 'g' })))
  const [group] = router.match('s/1').groups
  t.equal(turns(group, 5), 'ann bob cid ann bob')
  t.equal(
    turns(group, 3, name => name !== 'cid'),
    'ann bob ann',
    'who is not eligible is passed over'
  )
  t.equal(turns(group, 2), 'cid bob', 'and keeps its turn')
  t.equal(
    turns(group, 1, () => false),
    '-'
  )
  t.notOk(router.add(bob, to('s/+', { group: 'g', qos: 2 })))
  t.equal(turns(group, 3), 'ann cid bob', 'a new subscription in place of the old one keeps the turn')
  t.ok(router.remove(ann, 's/+', 'g'))
  t.equal(turns(group, 3), 'cid bob cid')
})

t.test('groups and normal subscriptions of one filter have nothing to do with each other', async t => {
  const router = new Router<Subscriber>()
  t.ok(router.add(ann, to('f')))
  t.ok(router.add(ann, to('f', { group: 'g' })))
  t.ok(router.add(ann, to('f', { group: 'h' })))
  t.same([router.subscriptionCount, router.sharedCount], [1, 2])
  t.notOk(router.remove(ann, 'f', 'x'))
  t.ok(router.remove(ann, 'f'))
  t.same(router.match('f').targets, [])
  t.same(
    router.match('f').groups.map(({ name }) => name),
    ['g', 'h']
  )
  t.ok(router.remove(ann, 'f', 'g'))
  t.ok(router.remove(ann, 'f', 'h'))
  t.same([router.subscriptionCount, router.sharedCount, router.match('f').groups], [0, 0, []])
})

t.test('the version rises when a match changes, and only then', async t => {
  const router = new Router<Subscriber>()
  const rises = (change: () => void): boolean => {
    const before = router.version
    change()
    return router.version > before
  }
  t.ok(rises(() => router.add(ann, to('f'))))
  t.notOk(
    rises(() => router.add(ann, to('f'))),
    'the same again'
  )
  for (const options of [{ qos: 1 }, { noLocal: true }, { retainAsPublished: true }, { retainHandling: 2 }, { identifier: 3 }] as const) {
    t.ok(rises(() => router.add(ann, to('f', options))))
    t.match(router.match('f').targets[0]?.subscription, options)
  }
  t.notOk(rises(() => router.remove(bob, 'f')))
  t.notOk(rises(() => router.remove(ann, 'f/x')))
  t.ok(rises(() => router.add(ann, to('f', { group: 'g' }))))
  t.notOk(
    rises(() => router.add(bob, to('f', { group: 'g' }))),
    'the group was in the match before'
  )
  t.notOk(rises(() => router.remove(ann, 'f', 'g')))
  t.ok(rises(() => router.remove(bob, 'f', 'g')))
  t.ok(rises(() => router.remove(ann, 'f')))
})

t.test('what is removed leaves nothing behind', async t => {
  const router = new Router<Subscriber>()
  // Two children and two subscribers each, so that every way of holding them is left behind.
  const filters = Array.from({ length: 50_000 }, (_, i) => `plant/${i >> 1}/${i % 2}/${i % 3 === 0 ? '#' : 'x'}`)
  const subscriptions = filters.map((filter, i) => to(filter, i % 5 === 0 ? { group: 'g' } : {}))
  const each = (work: (who: Subscriber, subscription: Subscription) => boolean) => (): void => {
    for (const subscription of subscriptions) for (const who of [ann, bob]) work(who, subscription)
  }
  const added = growthOf(each((who, subscription) => router.add(who, subscription)))
  t.ok(added > 100_000 * 50, `the measure works: ${added} bytes`)
  const left = added + growthOf(each((who, { filter, group }) => router.remove(who, filter, group)))
  t.ok(left < added / 20, `${left} of ${added} bytes are left`)
  t.same([router.subscriptionCount, router.sharedCount], [0, 0])
})

const few = ['a', 'b', 'a/b', '$x/a', '__proto__/a', '/a', 'a/', '+', '#', 'a/#', 'a/+', '+/b', '+/#', '+/+', '$x/#', '$x/+']
const path = (...levels: string[]) =>
  fc.array(fc.constantFrom('', 'a', 'b', '$x', '__proto__', ...levels), { minLength: 1, maxLength: 4 }).map(levels => levels.join('/'))
const topics = fc.oneof(fc.constantFrom(...few), path()).filter(isTopicName)
const filters = fc.oneof({ weight: 3, arbitrary: fc.constantFrom(...few) }, { weight: 1, arbitrary: path('+', '#') }).filter(isTopicFilter)

// Where Mosquitto has a filter among those that match a topic: literal, `+`, `#`, at its end after `#`.
const rank = (filter: string): string =>
  `${filter
    .split('/')
    .map(level => (level === '#' ? '2' : level === '+' ? '1' : '0'))
    .join('')}3`

// Nobody is eligible: everybody is asked, in turn.
function membersOf(group: SharedGroup<Subscriber>): Target<Subscriber>[] {
  const members: Target<Subscriber>[] = []
  group.next(member => members.push(member) === 0)
  return members
}

function groupLines(members: readonly Target<Subscriber>[]): string[] {
  const lines = new Map<string, string>()
  for (const { subscriber, subscription } of members) {
    const group = `${subscription.group} ${subscription.filter}:`
    lines.set(group, `${lines.get(group) ?? group} ${subscriber.name}${subscription.qos}`)
  }
  return [...lines.values()].sort()
}

interface Known {
  readonly who: Subscriber
  subscription: Subscription
}

// A list of all subscriptions, asked one by one; a group's list is in the order of turns.
class Naive {
  readonly all: Known[] = []

  find(who: Subscriber, filter: string, group?: string): number {
    return this.all.findIndex(known => known.who === who && known.subscription.filter === filter && known.subscription.group === group)
  }

  add(who: Subscriber, subscription: Subscription): boolean {
    const known = this.all[this.find(who, subscription.filter, subscription.group)]
    if (known) known.subscription = subscription
    else this.all.push({ who, subscription })
    return known === undefined
  }

  remove(who: Subscriber, filter: string, group?: string): boolean {
    const at = this.find(who, filter, group)
    return at >= 0 && this.all.splice(at, 1).length === 1
  }

  match(topic: string): Known[] {
    const found = this.all.filter(({ subscription }) => subscription.group === undefined && matchesFilter(subscription.filter, topic))
    return found.sort((a, b) => rank(a.subscription.filter).localeCompare(rank(b.subscription.filter)))
  }

  /** All groups for the topic with their members in turn. */
  groups(topic: string): string[] {
    const shared = this.all.filter(({ subscription }) => subscription.group !== undefined && matchesFilter(subscription.filter, topic))
    return groupLines(shared.map(({ who, subscription }) => ({ subscriber: who, subscription })))
  }

  next(filter: string, group: string, eligible: (who: Subscriber) => boolean): Subscriber | undefined {
    const turn = this.all.findIndex(
      ({ who, subscription }) => subscription.filter === filter && subscription.group === group && eligible(who)
    )
    const [served] = turn < 0 ? [] : this.all.splice(turn, 1)
    if (served) this.all.push(served)
    return served?.who
  }
}

t.test('whatever is added and removed, a match is what a list of all subscriptions gives', async t => {
  const who = fc.constantFrom(ann, bob, cid)
  const group = fc.option(fc.constantFrom('g', 'h'), { nil: undefined })
  const step = fc.record({
    kind: fc.constantFrom('add', 'add', 'remove', 'next'),
    who,
    filter: filters,
    group,
    qos: fc.constantFrom(0, 1, 2),
    topic: topics,
    barred: who,
    pick: fc.nat(5)
  })
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), steps => {
      const router = new Router<Subscriber>()
      const naive = new Naive()
      for (const { kind, who, filter, group, qos, topic, barred, pick } of steps) {
        const version = router.version
        const before = router.match(topic)
        if (kind === 'add') {
          const subscription = to(filter, group === undefined ? { qos } : { qos, group })
          if (router.add(who, subscription) !== naive.add(who, subscription)) return false
        } else if (kind === 'remove') {
          if (router.remove(who, filter, group) !== naive.remove(who, filter, group)) return false
        } else {
          const { groups } = router.match(topic)
          const served = groups[pick % groups.length]?.next(({ subscriber }) => subscriber !== barred)
          if (served) {
            const { filter, group = '' } = served.subscription
            if (served.subscriber !== naive.next(filter, group, one => one !== barred)) return false
          }
        }
        const match = router.match(topic)
        const expected = naive.match(topic)
        if (match.targets.length !== expected.length) return false
        for (const [i, { subscriber, subscription }] of match.targets.entries()) {
          const wanted = expected[i]
          if (subscriber !== wanted?.who || rank(subscription.filter) !== rank(wanted.subscription.filter)) return false
          if (subscription.qos !== wanted.subscription.qos) return false
        }
        if (groupLines(match.groups.flatMap(membersOf)).join() !== naive.groups(topic).join()) return false
        const ranks = match.groups.map(one => rank(membersOf(one)[0]?.subscription.filter ?? ''))
        if (ranks.join() !== ranks.toSorted().join()) return false
        if (router.version === version) {
          // A caller keeps the earlier match then: it must be as good.
          if (before.targets.some((target, i) => target !== match.targets[i]) || before.targets.length !== match.targets.length)
            return false
          if (before.groups.some((one, i) => one !== match.groups[i]) || before.groups.length !== match.groups.length) return false
        }
      }
      const shared = naive.all.filter(({ subscription }) => subscription.group !== undefined).length
      return router.sharedCount === shared && router.subscriptionCount === naive.all.length - shared
    }),
    { numRuns: 2000 }
  )
  t.pass()
})
