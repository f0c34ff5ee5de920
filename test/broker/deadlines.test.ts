import fc from 'fast-check'
import t from 'tap'
import { Deadlines } from '../../dist/broker/deadlines.js'

interface Item {
  readonly name: number
}

const names = ({ name }: Item): number => name

t.test('nothing comes early, and in the order of the seconds', async t => {
  const deadlines = new Deadlines<Item>()
  const [late, early, same] = [{ name: 1 }, { name: 2 }, { name: 3 }]
  t.equal(deadlines.next, undefined)
  deadlines.set(late, 10_001)
  deadlines.set(early, 9_500)
  deadlines.set(same, 10_000)
  t.equal(deadlines.next, 10_000)
  t.same(deadlines.takeDue(9_999, 10), [])
  t.same(deadlines.takeDue(10_000, 10), [early, same], 'of one second the one that was set first')
  t.equal(deadlines.next, 11_000)
  t.same(deadlines.takeDue(10_999, 10), [])
  t.same(deadlines.takeDue(60_000, 10), [late])
  t.equal(deadlines.next, undefined)
})

t.test('an item has one deadline, and none once deleted', async t => {
  const deadlines = new Deadlines<Item>()
  const item = { name: 1 }
  deadlines.set(item, 5_000)
  deadlines.set(item, 3_000)
  t.equal(deadlines.size, 1)
  t.equal(deadlines.next, 3_000)
  deadlines.set(item, 8_000)
  t.same(deadlines.takeDue(7_999, 1), [])
  t.ok(deadlines.delete(item))
  t.notOk(deadlines.delete(item))
  t.same(deadlines.takeDue(100_000, 1), [])
  t.equal(deadlines.size, 0)
})

t.test('a turn takes what it asks for', async t => {
  const deadlines = new Deadlines<Item>()
  for (let name = 0; name < 5; name++) deadlines.set({ name }, 1_000)
  t.same(deadlines.takeDue(1_000, 0), [])
  t.same(deadlines.takeDue(1_000, 2).map(names), [0, 1])
  t.equal(deadlines.next, 1_000)
  t.same(deadlines.takeDue(1_000, 10).map(names), [2, 3, 4])
})

t.test('never is no deadline', async t => {
  const deadlines = new Deadlines<Item>()
  for (const at of [Number.NaN, Number.POSITIVE_INFINITY]) t.throws(() => deadlines.set({ name: 1 }, at), TypeError)
  t.equal(deadlines.size, 0)
})

const command = fc.oneof(
  { weight: 5, arbitrary: fc.record({ do: fc.constant('set' as const), item: fc.nat(15), at: fc.integer({ min: -3_000, max: 40_000 }) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('delete' as const), item: fc.nat(15) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('take' as const), by: fc.nat(6_000), limit: fc.nat(4) }) }
)

/** The same, searched from one end to the other. */
class NaiveDeadlines {
  #entries: { item: Item; second: number }[] = []

  set(item: Item, at: number): void {
    const second = Math.ceil(at / 1000)
    const known = this.#entries.find(entry => entry.item === item)
    if (known?.second === second) return
    this.delete(item)
    this.#entries.push({ item, second })
  }

  delete(item: Item): boolean {
    const before = this.#entries.length
    this.#entries = this.#entries.filter(entry => entry.item !== item)
    return this.#entries.length < before
  }

  takeDue(now: number, limit: number): Item[] {
    const due = this.#entries
      .filter(({ second }) => second * 1000 <= now)
      .toSorted((a, b) => a.second - b.second)
      .slice(0, limit)
    this.#entries = this.#entries.filter(entry => !due.includes(entry))
    return due.map(({ item }) => item)
  }

  get next(): number | undefined {
    return this.#entries.length === 0 ? undefined : Math.min(...this.#entries.map(({ second }) => second)) * 1000
  }

  get size(): number {
    return this.#entries.length
  }
}

t.test('any sequence of calls answers as a plain list would', async () => {
  fc.assert(
    fc.property(fc.array(command, { maxLength: 200 }), commands => {
      const items = Array.from({ length: 16 }, (_, name): Item => ({ name }))
      const deadlines = new Deadlines<Item>()
      const naive = new NaiveDeadlines()
      let now = 0
      const answer = (to: Deadlines<Item> | NaiveDeadlines, given: (typeof commands)[number]): unknown => {
        switch (given.do) {
          case 'take':
            return to.takeDue(now, given.limit).map(names)
          case 'delete':
            return to.delete(items[given.item] ?? { name: -1 })
          case 'set':
            return to.set(items[given.item] ?? { name: -1 }, given.at)
        }
      }
      for (const given of commands) {
        if (given.do === 'take') now += given.by
        const ours = JSON.stringify([answer(deadlines, given), deadlines.next, deadlines.size])
        const theirs = JSON.stringify([answer(naive, given), naive.next, naive.size])
        if (ours !== theirs) throw new Error(`${JSON.stringify(given)} at ${now}: ${ours}, not ${theirs}`)
      }
    }),
    { numRuns: 500 }
  )
})

t.test('many items over as many seconds come out in slices, each once, in order', async t => {
  const deadlines = new Deadlines<Item>()
  const count = 200_000
  // A permutation, so that the heap has work to do.
  for (let name = 0; name < count; name++) deadlines.set({ name }, ((name * 7_919) % count) * 1000)
  t.equal(deadlines.size, count)
  let taken = 0
  let inOrder = true
  for (let slice = deadlines.takeDue(count * 1000, 1000); slice.length > 0; slice = deadlines.takeDue(count * 1000, 1000)) {
    for (const { name } of slice) inOrder &&= (name * 7_919) % count === taken++
  }
  t.ok(inOrder)
  t.equal(taken, count)
})
