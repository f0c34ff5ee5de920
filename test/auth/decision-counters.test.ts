import t from 'tap'
import { compileAcl, decide } from '../../dist/auth/acl.js'
import { parseAcl } from '../../dist/auth/acl-file.js'
import { DecisionCounters } from '../../dist/auth/decision-counters.js'

const compile = (text: string, file = 'acl') => compileAcl(parseAcl(text, file).rules)
const client = { clientId: 'c' }

t.test('each rule, and the want of one, has its own count', async t => {
  const counters = new DecisionCounters()
  const acl = compile('topic #\ntopic deny a/#\ntopic deny b/#')
  for (const topic of ['a/1', 'a/2', 'b', 'a/1']) counters.add(decide(acl, client, 'write', topic), 'publishes')
  counters.add(decide(acl, client, 'read', 'b'), 'deliveries')
  counters.add(decide(compile('user x\ntopic a'), client, 'read', 'b'), 'wills')
  t.match(counters.list(), [
    { why: 'deny rule "topic deny a/#" at acl:2', reason: 'rule', rule: { at: { line: 2 } }, publishes: 3, deliveries: 0 },
    { why: 'deny rule "topic deny b/#" at acl:3', publishes: 1, deliveries: 1 },
    { why: 'the ACL file has no rules for this user', reason: 'no-section', wills: 1, publishes: 0 }
  ])
  t.equal(counters.list()[2]?.rule, undefined)
})

t.test('a rule that moved to another line goes on being counted, at its new place', async t => {
  const counters = new DecisionCounters()
  const deny = (text: string) => counters.add(decide(compile(text), client, 'write', 'a'), 'publishes')
  deny('topic deny a')
  counters.renew()
  t.match(counters.list(), [{ publishes: 1, rule: { at: { line: 1 } } }])
  deny('# moved\n\ntopic deny a')
  deny('# moved\n\ntopic deny a')
  const list = counters.list()
  t.match(list, [{ publishes: 3, rule: { at: { line: 3 } } }])
  t.same(counters.list(), list, 'asking changes nothing')
  counters.renew()
  deny('topic deny +')
  t.same(
    counters.list().map(({ publishes }) => publishes),
    [3, 1],
    'another rule is another'
  )
})

t.test('the same words for another user, or in another file, are another rule', async t => {
  const counters = new DecisionCounters()
  const acl = compile('topic deny a\nuser ann\ntopic deny a')
  counters.add(decide(acl, client, 'write', 'a'), 'publishes')
  counters.add(decide(acl, { clientId: 'c', username: 'ann' }, 'write', 'a'), 'publishes')
  counters.add(decide(compile('topic deny a', 'other'), client, 'write', 'a'), 'publishes')
  counters.renew()
  t.equal(counters.list().length, 3)
})

t.test('rules of files that are long gone are forgotten at some time', async t => {
  const counters = new DecisionCounters()
  const acl = compile(Array.from({ length: 10_001 }, (_, i) => `topic deny ${i}`).join('\n'))
  for (let i = 0; i <= 10_000; i++) counters.add(decide(acl, client, 'write', String(i)), 'publishes')
  t.equal(counters.list().length, 10_001)
  counters.renew()
  t.equal(counters.list().length, 10_000)
})
