import fc from 'fast-check'
import t from 'tap'
import { Denials } from '../../dist/auth/denials.js'
import { logEvents } from '../../dist/log-events.js'

const minute = 60_000
const hour = 60 * minute

t.test('a client and topic are said once', async t => {
  const denials = new Denials()
  t.same(denials.report('a', 'x', 0), { show: true, hidden: 0 })
  t.same(denials.report('a', 'x', 1), { show: false, hidden: 0 })
  t.same(denials.report('a', 'y', 2), { show: true, hidden: 0 })
  t.same(denials.report('b', 'x', 3), { show: true, hidden: 0 })
  t.same(denials.report('a', 'x', 30 * minute), { show: false, hidden: 0 })
})

t.test('a denied publish reads as in Mosquitto, and then says who and why', async t => {
  const packet = { clientId: 'dev-1', dup: false, qos: 1, retain: true, packetId: 7, topic: 'plant/a', bytes: 12 } as const
  const start = "Denied PUBLISH from dev-1 (d0, q1, r1, m7, 'plant/a', ... (12 bytes)): "
  t.equal(logEvents.publishDenied.text({ ...packet, why: 'no rule allows it' }), `${start}no username, no rule allows it.`)
  const why = 'deny rule "topic deny plant/#" at acl:3'
  t.equal(logEvents.publishDenied.text({ ...packet, username: 'ann', why }), `${start}user 'ann', ${why}.`)
  t.equal(logEvents.willDenied.text({ clientId: 'c', topic: 'a', why }), `Denied will of c ('a'): no username, ${why}.`)
})

t.test('after an hour they are news again', async t => {
  const denials = new Denials()
  denials.report('a', 'x', 0)
  t.notOk(denials.report('a', 'x', hour - 1).show)
  t.ok(denials.report('a', 'x', hour).show)
  t.notOk(denials.report('a', 'x', hour + 1).show)
  t.equal(denials.size, 1)
})

t.test('over the lines of a minute they are counted, and the count is said once', async t => {
  const denials = new Denials({ lines: 3 })
  const show = ['a', 'b', 'c', 'd', 'e'].map(client => denials.report(client, 'x', 10).show)
  t.same(show, [true, true, true, false, false])
  t.same(denials.report('a', 'x', 20), { show: false, hidden: 0 }, 'what was said before is no news and not counted')
  t.same(denials.report('d', 'x', 10 + minute), { show: true, hidden: 2 }, 'what got no line gets it at its next try')
  t.same(denials.report('f', 'x', 11 + minute), { show: true, hidden: 0 })
})

t.test('a timer can fetch the count when nothing follows', async t => {
  const denials = new Denials({ lines: 1 })
  denials.report('a', 'x', 0)
  denials.report('a', 'y', 0)
  t.equal(denials.settle(minute - 1), 0)
  t.equal(denials.settle(minute), 1)
  t.equal(denials.settle(2 * minute), 0)
})

t.test('one client with many topics leaves room for others', async t => {
  const denials = new Denials({ topicsPerClient: 2 })
  const show = ['1', '2', '3', '4'].map(topic => denials.report('noisy', topic, 0).show)
  t.same(show, [true, true, false, false])
  t.ok(denials.report('other', '1', 0).show)
  t.equal(denials.settle(minute), 2)
})

t.test('the client not heard of for longest is forgotten first', async t => {
  const denials = new Denials({ topics: 2 })
  denials.report('a', 'x', 0)
  denials.report('b', 'x', 1)
  denials.report('a', 'x', 2)
  denials.report('c', 'x', 3)
  t.notOk(denials.report('a', 'x', 4).show)
  t.ok(denials.report('b', 'x', 5).show)
  t.equal(denials.size, 2)
})

t.test('long topics of a client are remembered as one', async t => {
  const denials = new Denials()
  t.ok(denials.report('a', 'x'.repeat(1000), 0).show)
  t.notOk(denials.report('a', 'y'.repeat(65_535), 0).show)
  t.ok(denials.report('a', 'y', 0).show)
})

t.test('whatever is reported, memory and lines stay within their limits', async t => {
  const limits = { lines: 5, window: 100, memory: 1000, topicsPerClient: 3, topics: 7 }
  const denial = fc.record({ client: fc.nat(12), topic: fc.nat(6), after: fc.nat(40) })
  fc.assert(
    fc.property(fc.array(denial, { maxLength: 200 }), list => {
      const denials = new Denials(limits)
      const shownAt: number[] = []
      let now = 0
      for (const { client, topic, after } of list) {
        now += after
        if (denials.report(`c${client}`, `t${topic}`, now).show) shownAt.push(now)
        if (denials.size > limits.topics) return false
      }
      // A span as long as a window touches at most two.
      return shownAt.every(from => shownAt.filter(at => at >= from && at < from + limits.window).length <= 2 * limits.lines)
    })
  )
  t.pass()
})
