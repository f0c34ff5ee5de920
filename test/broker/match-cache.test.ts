import fc from 'fast-check'
import t from 'tap'
import { MatchCache } from '../../dist/broker/match-cache.js'
import { Sightings } from '../../dist/broker/sightings.js'

t.test('a value is there until another version is asked for', async t => {
  const cache = new MatchCache<string>({ topics: 10, weight: 100 })
  t.equal(cache.get('a', 1), undefined)
  cache.set('a', 'one', 3)
  t.equal(cache.get('a', 1), 'one')
  cache.set('a', 'uno', 4)
  t.equal(cache.get('a', 1), 'uno')
  t.same([cache.size, cache.weight], [1, 4])
  t.equal(cache.get('b', 2), undefined)
  t.same([cache.size, cache.weight], [0, 0])
  t.equal(cache.get('a', 2), undefined)
  t.equal(cache.get('__proto__', 2), undefined)
})

t.test('what is asked for often stays, what is not goes', async t => {
  const cache = new MatchCache<number>({ topics: 100, weight: 1000 })
  cache.get('', 1)
  cache.set('hot', -1, 1)
  cache.set('cold', -2, 1)
  for (let i = 0; i < 1000; i++) {
    cache.set(`t/${i}`, i, 1)
    cache.set(`t/${i}`, i, 1)
    t.equal(cache.get('hot', 1), -1)
  }
  t.equal(cache.get('cold', 1), undefined)
  t.equal(cache.get('t/999', 1), 999)
})

t.test('a full cache takes what is asked for again, and topics that come once drive nothing out', async t => {
  const cache = new MatchCache<number>({ topics: 100, weight: 1000 })
  cache.get('', 1)
  for (let i = 0; i < 100; i++) cache.set(`early/${i}`, i, 1)
  const here = () => Array.from({ length: 100 }, (_, i) => cache.get(`early/${i}`, 1)).filter(value => value !== undefined).length
  const before = here()
  t.ok(before >= 50)
  for (let i = 0; i < 10_000; i++) cache.set(`once/${i}`, i, 1)
  // Some of them look like others that came before.
  t.ok(here() >= before / 2)
  cache.set('again', 1, 1)
  t.equal(cache.get('again', 1), undefined)
  cache.set('again', 1, 1)
  t.equal(cache.get('again', 1), 1)
})

t.test('what was seen lately is known, what was never seen hardly ever taken for it', async t => {
  const sightings = new Sightings(1000)
  fc.assert(
    fc.property(fc.string(), text => {
      sightings.see(text)
      return sightings.see(text)
    })
  )
  const few = new Sightings(100_000)
  for (let i = 0; i < 1000; i++) few.see(`a/${i}`)
  t.equal(Array.from({ length: 1000 }, (_, i) => few.see(`a/${i}`)).filter(Boolean).length > 950, true)
  t.equal(Array.from({ length: 10_000 }, (_, i) => few.see(`b/${i}`)).filter(Boolean).length < 100, true)
})

t.test('what is too heavy is not kept, nor is what it would replace', async t => {
  const cache = new MatchCache<string>({ topics: 10, weight: 100 })
  cache.get('', 1)
  cache.set('a', 'light', 1)
  cache.set('a', 'heavy', 51)
  t.equal(cache.get('a', 1), undefined)
  t.equal(cache.weight, 0)
  cache.set('a', 'just so', 50)
  t.equal(cache.get('a', 1), 'just so')
})

t.test('whatever is set, the limits hold and no value is an old one', async t => {
  const step = fc.record({
    topic: fc.constantFrom('a', 'b', 'c', 'd', 'e', 'f', 'g', 'h'),
    weight: fc.integer({ min: 1, max: 12 }),
    renew: fc.integer({ min: 0, max: 15 }).map(n => n === 0),
    isSet: fc.boolean()
  })
  fc.assert(
    fc.property(fc.array(step, { maxLength: 100 }), steps => {
      const cache = new MatchCache<object>({ topics: 6, weight: 20 })
      const last = new Map<string, object>()
      const weights = new Map<object, number>()
      let version = 0
      for (const { topic, weight, renew, isSet } of steps) {
        if (renew) {
          version++
          last.clear()
        }
        const known = cache.get(topic, version)
        if (known !== undefined && known !== last.get(topic)) return false
        if (isSet) {
          const value = {}
          last.set(topic, value)
          weights.set(value, weight)
          cache.set(topic, value, weight)
          const kept = cache.get(topic, version)
          if (kept !== undefined && kept !== value) return false
          cache.set(topic, value, weight)
          if (weight <= 10 && cache.get(topic, version) !== value) return false
        }
        if (cache.size > 6 || cache.weight > 20) return false
      }
      // The weight is that of what is there, not of what was. Asking for one may let others go.
      const there = [...last.values()].reduce((sum, value) => sum + (weights.get(value) ?? 0), 0)
      return cache.weight <= there && cache.size <= last.size
    }),
    { numRuns: 5000 }
  )
  t.pass()
})
