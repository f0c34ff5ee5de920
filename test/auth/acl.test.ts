import fc from 'fast-check'
import t from 'tap'
import { type Access, closedAcl, compileAcl, decide, explainDecision, openAcl } from '../../dist/auth/acl.js'
import { type AclRule, aclAccesses, parseAcl } from '../../dist/auth/acl-file.js'
import type { Identity } from '../../dist/auth/identity.js'
import { because, readAclCases } from '../helpers/acl-cases.js'

const compile = (text: string) => compileAcl(parseAcl(text, 'acl').rules)

for (const { name, acl, questions } of readAclCases()) {
  t.test(`the golden case ${name} is decided line by line`, async t => {
    const parsed = parseAcl(acl ?? '', 'acl')
    t.same(
      parsed.problems.filter(({ severity }) => severity === 'error'),
      []
    )
    const compiled = acl === undefined ? openAcl : compileAcl(parsed.rules)
    for (const { at, identity, access, topic, allowed, because: reason } of questions) {
      const decision = decide(compiled, identity, access, topic)
      t.strictSame({ at, allowed: decision.allowed, because: because(decision) }, { at, allowed, because: reason })
    }
  })
}

t.test('the golden cases are many', async t => {
  t.ok(readAclCases().flatMap(({ questions }) => questions).length >= 100)
})

t.test('the same question gives the same frozen object', async t => {
  const acl = compile('topic read a\npattern deny %c')
  for (const topic of ['a', 'dev', 'b', '$SYS/x']) {
    const decision = decide(acl, { clientId: 'dev' }, 'write', topic)
    t.ok(Object.isFrozen(decision))
    t.equal(decide(acl, { clientId: 'dev' }, 'write', topic), decision)
  }
})

t.test('a client without a listener may neither read nor write', async t => {
  t.match(decide(closedAcl, { clientId: 'c' }, 'read', 'a'), { allowed: false, reason: 'no-listener' })
  t.match(decide(closedAcl, { clientId: 'c', username: 'u' }, 'write', 'a'), { allowed: false, reason: 'no-listener' })
})

t.test('an empty username is a name, and never fills %u', async t => {
  const acl = compile('topic read a\npattern read u/%u/x')
  t.equal(decide(acl, { clientId: 'c', username: '' }, 'read', 'a').allowed, false)
  t.equal(decide(acl, { clientId: 'c', username: '' }, 'read', 'u//x').allowed, false)
})

t.test('a decision explains itself with the line that decides', async t => {
  const acl = compile('user ann\ntopic plant/#\ntopic deny plant/secret/#\npattern read by/%c')
  const explain = (access: Access, topic: string, identity: Identity = { clientId: 'c', username: 'ann' }) =>
    explainDecision(decide(acl, identity, access, topic))
  t.equal(explain('read', 'plant/a'), 'rule "topic readwrite plant/#" at acl:2')
  t.equal(explain('write', 'plant/secret/x'), 'deny rule "topic deny plant/secret/#" at acl:3')
  t.equal(explain('read', 'by/c'), 'rule "pattern read by/%c" at acl:4')
  t.equal(explain('write', 'x'), 'no rule allows it')
  t.equal(explain('write', '$SYS/x'), 'only the broker writes to $SYS')
  t.equal(explain('write', 'x', { clientId: 'a+' }), 'the client id holds + or #, and the ACL file has patterns')
})

const level = fc.constantFrom('', 'a', 'b', '+', '%c', '%u', 'x%u', '$SYS', '$share', '__proto__')
const filter = fc
  .tuple(fc.array(level, { minLength: 1, maxLength: 4 }), fc.boolean())
  .map(([levels, all]) => [...levels, ...(all ? ['#'] : [])].join('/'))
  .filter(text => text !== '')
const name = fc.constantFrom('', 'a', 'b', 'a/b', '+', '#', '__proto__', 'constructor', '$SYS')
const topic = fc.oneof(
  fc.array(fc.constantFrom('', 'a', 'b', 'c', '$SYS', '__proto__'), { maxLength: 5 }).map(levels => levels.join('/')),
  fc.string()
)
const identity: fc.Arbitrary<Identity> = fc.oneof(
  fc.record({ clientId: name }),
  fc.record({ clientId: fc.oneof(name, fc.string()), username: fc.oneof(name, fc.string()) })
)
const access = fc.constantFrom<Access>('read', 'write', 'subscribe', 'unsubscribe')
const at = { file: 'acl', line: 1 }
const patternRule = fc.record({ kind: fc.constant('pattern'), access: fc.constantFrom(...aclAccesses), filter, at: fc.constant(at) })
const topicRule = fc.record({ kind: fc.constant('topic'), access: fc.constantFrom(...aclAccesses), filter, at: fc.constant(at) })
const userRule = fc.record({
  kind: fc.constant('topic'),
  access: fc.constantFrom(...aclAccesses),
  filter,
  username: name,
  at: fc.constant(at)
})
const rules: fc.Arbitrary<AclRule[]> = fc.array(fc.oneof(patternRule, topicRule, userRule), { maxLength: 8 })

t.test('any question gets a decision with words', async t => {
  fc.assert(
    fc.property(rules, identity, access, topic, (rules, identity, access, topic) => {
      const decision = decide(compileAcl(rules), identity, access, topic)
      return typeof decision.allowed === 'boolean' && explainDecision(decision).length > 0
    }),
    { numRuns: 2000 }
  )
  t.pass()
})

t.test('one more deny rule never allows what was denied', async t => {
  const deny = fc.oneof(patternRule, topicRule, userRule).map((rule): AclRule => ({ ...rule, access: 'deny' }))
  fc.assert(
    fc.property(rules, deny, fc.nat(8), identity, access, topic, (rules, deny, place, identity, access, topic) => {
      const before = decide(compileAcl(rules), identity, access, topic)
      const after = decide(compileAcl(rules.toSpliced(place, 0, deny)), identity, access, topic)
      return before.allowed || !after.allowed
    }),
    { numRuns: 3000 }
  )
  t.pass()
})

t.test('the order of lines changes no verdict', async t => {
  fc.assert(
    fc.property(rules, identity, access, topic, (rules, identity, access, topic) => {
      const verdict = (rules: AclRule[]) => decide(compileAcl(rules), identity, access, topic).allowed
      return verdict(rules) === verdict(rules.toReversed())
    }),
    { numRuns: 2000 }
  )
  t.pass()
})
