import fc from 'fast-check'
import t from 'tap'
import { addressGroup, LoginThrottle } from '../../dist/auth/throttle.js'

const fail = (throttle: LoginThrottle, times: number, address: string, username: string | undefined, now = 0) => {
  for (let i = 0; i < times; i++) throttle.failed(address, username, now)
}

t.test('ten failures of an address delay its next tries, whoever they are for, growing to ten seconds', async t => {
  const throttle = new LoginThrottle()
  for (let i = 0; i < 9; i++) throttle.failed('192.0.2.1', `user${i}`, 0)
  t.equal(throttle.delay('192.0.2.1', 'ann', 0), 0)
  const delays = []
  for (let i = 0; i < 9; i++) {
    throttle.failed('192.0.2.1', `other${i}`, 0)
    delays.push(throttle.delay('192.0.2.1', 'ann', 0))
  }
  t.same(delays, [500, 1000, 2000, 4000, 8000, 10_000, 10_000, 10_000, 10_000])
  t.equal(throttle.delay('192.0.2.2', 'ann', 0), 0, 'another address is not touched')
})

t.test('ten failures of a user from anywhere delay that user, not others', async t => {
  const throttle = new LoginThrottle()
  for (let i = 0; i < 10; i++) throttle.failed(`192.0.2.${i}`, 'ann', 0)
  t.equal(throttle.delay('198.51.100.1', 'ann', 0), 500)
  t.equal(throttle.delay('198.51.100.1', 'bob', 0), 0)
  t.equal(throttle.delay('198.51.100.1', undefined, 0), 0)
})

t.test('only failures of the last minute count', async t => {
  const throttle = new LoginThrottle()
  for (let i = 0; i < 30; i++) throttle.failed('192.0.2.1', 'ann', i * 7000)
  t.equal(throttle.delay('192.0.2.1', 'ann', 29 * 7000), 0, 'one in seven seconds is nine a minute')
  fail(throttle, 10, '192.0.2.2', 'bob', 1_000_000)
  t.equal(throttle.delay('192.0.2.2', 'bob', 1_059_999), 500)
  t.equal(throttle.delay('192.0.2.2', 'bob', 1_060_000), 0)
})

t.test('a user who has logged in from an address is not slowed there by the failures of others', async t => {
  const throttle = new LoginThrottle()
  throttle.succeeded('192.0.2.1', 'ann', 0)
  fail(throttle, 20, '203.0.113.9', 'ann')
  fail(throttle, 20, '192.0.2.1', 'broken-device')
  t.equal(throttle.delay('192.0.2.1', 'ann', 1), 0)
  t.equal(throttle.delay('203.0.113.9', 'ann', 1), 10_000)
  t.equal(throttle.delay('198.51.100.7', 'ann', 1), 10_000, 'delayed elsewhere, never locked out')
  fail(throttle, 10, '192.0.2.1', 'ann', 1)
  t.equal(throttle.delay('192.0.2.1', 'ann', 1), 500, 'guesses at that user from that address count')
  t.equal(throttle.delay('192.0.2.1', 'ann', 100_000), 0)
  fail(throttle, 10, '203.0.113.9', 'ann', 25 * 3_600_000)
  t.equal(throttle.delay('192.0.2.1', 'ann', 25 * 3_600_000), 500, 'trust ends after a day')
})

t.test('a right password does not cover guesses at other users', async t => {
  const throttle = new LoginThrottle()
  fail(throttle, 10, '192.0.2.1', 'ann')
  throttle.succeeded('192.0.2.1', 'attacker', 0)
  t.equal(throttle.delay('192.0.2.1', 'ann', 0), 500)
  t.equal(throttle.delay('192.0.2.1', 'attacker', 0), 0)
})

t.test('what is remembered has an end, and a flood of names does not hide its address', async t => {
  const throttle = new LoginThrottle(100)
  for (let i = 0; i < 1000; i++) throttle.failed('192.0.2.1', `${i}`.repeat(1000), 0)
  t.equal(throttle.delay('192.0.2.1', 'new', 0), 10_000)
  fail(throttle, 10, '198.51.100.1', 'ann')
  for (let i = 0; i < 100; i++) throttle.failed(`203.0.113.${i}`, `u${i}`, 0)
  t.equal(throttle.delay('198.51.100.1', 'ann', 0), 0, 'the longest unused is forgotten')
})

t.test('IPv6 addresses count by their /64', async t => {
  const rows: [address: string, group: string][] = [
    ['2001:db8:1:2:3:4:5:6', '2001:db8:1:2::/64'],
    ['2001:db8:1:2::1', '2001:db8:1:2::/64'],
    ['2001:0DB8:1:2:ffff::', '2001:db8:1:2::/64'],
    ['2001:db8::5', '2001:db8:0:0::/64'],
    ['fe80::1%eth0', 'fe80:0:0:0::/64'],
    ['::1', '0:0:0:0::/64'],
    ['64:ff9b::192.0.2.1', '64:ff9b:0:0::/64'],
    ['::ffff:192.0.2.1', '192.0.2.1'],
    ['192.0.2.1', '192.0.2.1'],
    ['/run/a:1.sock', '/run/a:1.sock']
  ]
  for (const [address, group] of rows) t.equal(addressGroup(address), group)
  const throttle = new LoginThrottle()
  for (let i = 0; i < 10; i++) throttle.failed(`2001:db8::${i}`, `u${i}`, 0)
  t.equal(throttle.delay('2001:db8::ffff', 'ann', 0), 500)
  t.equal(throttle.delay('2001:db8:0:1::1', 'ann', 0), 0)
})

t.test('any address has a group, the same for all of its /64', async t => {
  fc.assert(
    fc.property(fc.ipV6(), address => {
      const group = addressGroup(address)
      t.match(group, /^([0-9a-f]{1,4}(:[0-9a-f]{1,4}){3}::\/64|\d+\.\d+\.\d+\.\d+)$/)
    })
  )
})

t.test('only so many of one address wait out a delay at a time', async t => {
  const throttle = new LoginThrottle()
  const leaves = Array.from({ length: 20 }, () => throttle.wait('192.0.2.1'))
  t.ok(leaves.every(leave => leave !== undefined))
  t.equal(throttle.wait('192.0.2.1'), undefined)
  t.type(throttle.wait('192.0.2.2'), 'function', 'another address has places of its own')
  leaves[0]?.()
  t.type(throttle.wait('192.0.2.1'), 'function')
  t.equal(throttle.wait('192.0.2.1'), undefined)
})
