import t from 'tap'
import { FairQueue } from '../../dist/auth/fair-queue.js'

function drain(queue: FairQueue<string>): string[] {
  const entries: string[] = []
  for (let entry = queue.shift(); entry !== undefined; entry = queue.shift()) entries.push(entry)
  return entries
}

t.test('sources take turns, each in its own order', async t => {
  const queue = new FairQueue<string>(10)
  for (const entry of ['a1', 'a2', 'a3', 'b1', 'c1', 'c2']) queue.push(entry.slice(0, 1), entry)
  t.equal(queue.size, 6)
  t.same(drain(queue), ['a1', 'b1', 'c1', 'a2', 'c2', 'a3'])
  t.equal(queue.size, 0)
})

t.test('when it is full the newest of who has most waiting gives way, and nobody gains by pushing', async t => {
  const queue = new FairQueue<string>(4)
  for (const entry of ['a1', 'a2', 'a3', 'a4']) t.equal(queue.push('a', entry), undefined)
  t.equal(queue.push('a', 'a5'), 'a5')
  t.equal(queue.push('b', 'b1'), 'a4')
  t.equal(queue.push('b', 'b2'), 'a3')
  t.equal(queue.push('b', 'b3'), 'b3')
  t.equal(queue.push('a', 'a6'), 'a6')
  t.equal(queue.push('c', 'c1'), 'a2')
  t.equal(queue.size, 4)
  t.same(drain(queue), ['a1', 'b1', 'c1', 'b2'])
})

t.test('a queue without places takes nothing', async t => {
  t.equal(new FairQueue<string>(0).push('a', 'a1'), 'a1')
})
