import fc from 'fast-check'
import t from 'tap'
import { RetainedMessages } from '../../dist/broker/retained.js'
import { Message } from '../../dist/message.js'
import { isTopicFilter, isTopicName, matchesFilter } from '../../dist/topic.js'
import { growthOf } from '../helpers/heap.js'

const message = (topic: string, payload = topic, expiresAt?: number): Message =>
  new Message({ topic, payload: Buffer.from(payload), qos: 0, retain: true, ...(expiresAt === undefined ? {} : { expiresAt }) })

function retaining(...topics: string[]): RetainedMessages {
  const retained = new RetainedMessages(() => 0)
  for (const topic of topics) retained.set(message(topic))
  return retained
}

const topicsOf = (walk: Iterable<Message | undefined>): string[] => [...walk].flatMap(message => message?.topic ?? [])

t.test('a walk has the order of Mosquitto', async t => {
  // Both sides are what mosquitto 2.0.11 sends after these publishes.
  const retained = retaining(
    ...['b/2', 'a/1/x', 'a', 'b', 'a/1', 'b/1/z', 'a/2', 'c', 'x/y/z', 'x/y', 'x', 'x/y/q/r', 'a/', '/a', '$foo', '$foo/1']
  )
  const rows: Record<string, string> = {
    '#': 'b b/2 b/1/z a a/1 a/1/x a/2 a/ c x x/y x/y/z x/y/q/r /a',
    'x/#': 'x/y x/y/z x/y/q/r x',
    '+/#': 'b/2 b/1/z b a/1 a/1/x a/2 a/ a c x/y x/y/z x/y/q/r x /a',
    'a/#': 'a/1 a/1/x a/2 a/ a',
    'a/+/#': 'a/1/x a/1 a/2 a/',
    'x/y/#': 'x/y/z x/y/q/r x/y',
    '+': 'b a c x',
    'a/+': 'a/1 a/2 a/',
    '+/+': 'b/2 a/1 a/2 a/ x/y /a',
    'c/#': 'c',
    '$foo/#': '$foo/1 $foo',
    $foo: '$foo',
    'b/1/#': 'b/1/z',
    '+/y/#': 'x/y/z x/y/q/r x/y',
    'a/': 'a/',
    '/#': '/a',
    '/+': '/a',
    'a/b': '',
    'b/1': '',
    'nothing/#': ''
  }
  for (const [filter, topics] of Object.entries(rows)) t.equal(topicsOf(retained.walk(filter)).join(' '), topics, filter)
})

t.test('a new message takes the place of the old one, an empty one removes it', async t => {
  const retained = retaining('a', 'b', 'c')
  t.ok(retained.set(message('a', 'new')))
  t.same(topicsOf(retained.walk('+')), ['a', 'b', 'c'])
  t.equal(retained.get('a')?.payload.toString(), 'new')
  t.same([retained.count, retained.bytes], [3, 5])
  t.ok(retained.set(message('a', '')))
  t.notOk(retained.set(message('a', '')))
  t.notOk(retained.delete('a'))
  t.equal(retained.get('a'), undefined)
  t.same([retained.count, retained.bytes], [2, 2])
  retained.set(message('a'))
  t.same(topicsOf(retained.walk('#')), ['b', 'c', 'a'])
})

t.test('a topic is not its parent and not its child', async t => {
  const retained = retaining('a/b')
  for (const topic of ['a', 'a/b/c', 'a/', 'b', '__proto__', 'constructor', 'a/constructor']) {
    t.equal(retained.get(topic), undefined, topic)
    t.notOk(retained.delete(topic), topic)
  }
  retained.set(message('__proto__/constructor'))
  t.same(topicsOf(retained.walk('__proto__/#')), ['__proto__/constructor'])
  t.ok(retained.delete('a/b'))
  t.equal(retained.count, 1)
})

t.test('what has expired is passed over, and goes when it is looked for', async t => {
  let now = 1000
  const retained = new RetainedMessages(() => now)
  for (const [topic, expiresAt] of [
    ['a', 2000],
    ['a/b', 3000],
    ['a/c', undefined],
    ['a/d', 2000]
  ] as const)
    retained.set(message(topic, 'x', expiresAt))
  t.same(topicsOf(retained.walk('#')), ['a', 'a/b', 'a/c', 'a/d'])
  now = 2000
  t.equal(retained.get('a/d'), undefined)
  t.same(topicsOf(retained.walk('a/#')), ['a/b', 'a/c'])
  t.same([retained.count, retained.bytes], [4, 4], 'whoever stores it has to hear of its end')
  t.same(topicsOf(retained.expire(2999)), ['a', 'a/d'])
  t.same(topicsOf(retained.expire(3000)), ['a/b'])
  t.same([retained.count, retained.bytes], [1, 1])
  t.same(topicsOf(retained.expire(Number.MAX_SAFE_INTEGER)), [])
  t.same(topicsOf(retained.walk('#')), ['a/c'])
})

t.test('expiry looks through everything, in steps, and only when something can expire', async t => {
  const retained = retaining(...Array.from({ length: 1000 }, (_, i) => `s/${i % 10}/${i}`))
  t.same([...retained.expire(5000)], [])
  for (const topic of ['s/3/903', 's/7', 's/7/new/deep']) retained.set(message(topic, 'x', 5000))
  const steps = [...retained.expire(5000)]
  t.same(topicsOf(steps), ['s/3/903', 's/7', 's/7/new/deep'])
  t.ok(steps.includes(undefined))
  t.equal(retained.count, 999)
})

t.test('a walk pauses after every 256 nodes, whether they match or not', async t => {
  const retained = retaining(...Array.from({ length: 1023 }, (_, i) => `s/${i}`))
  for (const filter of ['#', 's/#', '+/+', '+/+/nothing']) {
    const steps = [...retained.walk(filter)]
    const pauses = steps.filter(step => step === undefined).length
    t.equal(pauses, 4, filter)
  }
})

t.test('a level without a wildcard is looked up among however many, not looked for', async t => {
  const retained = retaining(...Array.from({ length: 20_000 }, (_, i) => `a/${i}/x`))
  for (const filter of ['a/777/x', 'a/777/+', 'a/777/#', '+/777/x', 'b/#', 'a/none/#']) {
    // A pause would be a step too.
    t.same(
      Array.from(retained.walk(filter), found => found?.topic),
      filter.includes('777') ? ['a/777/x'] : [],
      filter
    )
  }
})

t.test('200 slashes are no trouble', async t => {
  const deep = `${'a/'.repeat(200)}a`
  const retained = retaining(deep, '/'.repeat(200))
  for (const filter of ['#', '+/#', 'a/#', `${'+/'.repeat(200)}+`, deep, `${deep.slice(0, -1)}#`])
    t.ok(topicsOf(retained.walk(filter)).includes(deep))
})

t.test('what is removed leaves nothing behind', async t => {
  const retained = new RetainedMessages(() => 0)
  const messages = Array.from({ length: 100_000 }, (_, i) => message(`plant/${i % 100}/${i}/state`, 'x'))
  const added = growthOf(() => messages.forEach(one => void retained.set(one)))
  t.ok(added > 100_000 * 50, `the measure works: ${added} bytes`)
  const left = added + growthOf(() => messages.forEach(({ topic }) => void retained.delete(topic)))
  t.ok(left < added / 20, `${left} of ${added} bytes are left`)
})

t.test('a walk ends, though somebody goes on publishing to new topics', async t => {
  const retained = retaining(...Array.from({ length: 300 }, (_, i) => `s/${i}`))
  let steps = 0
  for (const found of retained.walk('#')) {
    if (++steps > 400) break
    retained.set(message(`s/new/${steps}`))
    retained.set(message(`new/${steps}`))
    if (found) retained.delete(found.topic)
    if (found) retained.set(found)
  }
  t.equal(steps, 301, 'what was there and one pause')
})

const topic = fc
  .array(fc.constantFrom('', 'a', 'b', 'c', '$x', '__proto__'), { minLength: 1, maxLength: 4 })
  .map(levels => levels.join('/'))
  .filter(isTopicName)
const filter = fc
  .array(fc.constantFrom('', 'a', 'b', 'c', '$x', '+', '+', '#'), { minLength: 1, maxLength: 4 })
  .map(levels => levels.join('/'))
  .filter(isTopicFilter)

// Remembers since when there has been something on or below each prefix; sorts by that.
class Naive {
  readonly messages = new Map<string, Message>()
  readonly #since = new Map<string, number>()
  #clock = 0

  set(message: Message): void {
    this.messages.set(message.topic, message)
    for (const prefix of prefixes(message.topic)) if (!this.#since.has(prefix)) this.#since.set(prefix, ++this.#clock)
  }

  delete(topic: string): boolean {
    const known = this.messages.delete(topic)
    const alive = new Set([...this.messages.keys()].flatMap(prefixes))
    for (const prefix of this.#since.keys()) if (!alive.has(prefix)) this.#since.delete(prefix)
    return known
  }

  walk(filter: string): Message[] {
    const found = [...this.messages.values()].filter(({ topic }) => matchesFilter(filter, topic))
    return found.sort((a, b) => this.#compare(this.#place(a.topic, filter), this.#place(b.topic, filter)))
  }

  // `x` of `x/#` stands behind all that is below it.
  #place(topic: string, filter: string): number[] {
    const place = prefixes(topic).map(prefix => this.#since.get(prefix) ?? 0)
    return filter.endsWith('/#') && place.length === filter.split('/').length - 1 ? [...place, Number.POSITIVE_INFINITY] : place
  }

  #compare(a: number[], b: number[]): number {
    const at = a.findIndex((number, i) => number !== b[i])
    return at < 0 ? a.length - b.length : (a[at] ?? 0) - (b[at] ?? -1)
  }
}

function prefixes(topic: string): string[] {
  return topic.split('/').map((_, i, levels) => levels.slice(0, i + 1).join('/'))
}

const change = fc.record({ topic, kind: fc.constantFrom('set', 'set', 'delete', 'clear') })
type Change = typeof change extends fc.Arbitrary<infer T> ? T : never

function apply({ topic, kind }: Change, retained: RetainedMessages, naive: Naive): boolean {
  if (kind === 'set') {
    const one = message(topic)
    naive.set(one)
    return retained.set(one)
  }
  return (kind === 'clear' ? retained.set(message(topic, '')) : retained.delete(topic)) === naive.delete(topic)
}

t.test('whatever is set and deleted, a walk is what a filtered and sorted list gives', async t => {
  fc.assert(
    fc.property(fc.array(change, { maxLength: 60 }), fc.array(filter, { minLength: 1, maxLength: 10 }), (changes, filters) => {
      const retained = new RetainedMessages(() => 0)
      const naive = new Naive()
      for (const one of changes) if (!apply(one, retained, naive)) return false
      const bytes = [...naive.messages.values()].reduce((sum, { payload }) => sum + payload.length, 0)
      if (retained.count !== naive.messages.size || retained.bytes !== bytes) return false
      for (const [topic, one] of naive.messages) if (retained.get(topic) !== one) return false
      return filters.every(filter => {
        const expected = naive.walk(filter)
        const walked = [...retained.walk(filter)]
        return walked.length === expected.length && walked.every((one, i) => one === expected[i])
      })
    }),
    { numRuns: 3000 }
  )
  t.pass()
})

t.test('changes while a walk is suspended cost it nothing that was there all along', async t => {
  const many = fc.array(topic, { minLength: 5, maxLength: 60 })
  fc.assert(
    fc.property(many, filter, fc.array(fc.array(change, { maxLength: 3 }), { maxLength: 40 }), (topics, filter, pauses) => {
      const retained = new RetainedMessages(() => 0)
      const naive = new Naive()
      for (const topic of topics) apply({ topic, kind: 'set' }, retained, naive)
      const before = naive.walk(filter)
      const touched = new Set<string>()
      const seen: Message[] = []
      const walk = retained.walk(filter)
      for (let i = 0; ; i++) {
        const { value, done } = walk.next()
        if (done) break
        // Nothing that is not there, nothing that doesn't match.
        if (value && (naive.messages.get(value.topic) !== value || !matchesFilter(filter, value.topic))) return false
        if (value) seen.push(value)
        for (const one of pauses[i] ?? []) {
          apply(one, retained, naive)
          touched.add(one.topic)
        }
      }
      const untouched = before.filter(({ topic }) => !touched.has(topic))
      const rest = seen.filter(({ topic }) => !touched.has(topic))
      const after = [...retained.walk(filter)]
      const expected = naive.walk(filter)
      return (
        rest.length === untouched.length &&
        rest.every((one, i) => one === untouched[i]) &&
        after.length === expected.length &&
        after.every((one, i) => one === expected[i])
      )
    }),
    { numRuns: 5000 }
  )
  t.pass()
})
