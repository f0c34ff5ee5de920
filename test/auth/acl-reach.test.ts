import fc from 'fast-check'
import t from 'tap'
import { closedAcl, compileAcl, decide, explainDecision, openAcl } from '../../dist/auth/acl.js'
import { type AclRule, aclAccesses, parseAcl } from '../../dist/auth/acl-file.js'
import { decideFilter, type Reach, reachOf } from '../../dist/auth/acl-reach.js'
import type { Identity } from '../../dist/auth/identity.js'
import { isTopicFilter, isTopicName, matchesFilter } from '../../dist/topic.js'

const compile = (text: string) => compileAcl(parseAcl(text, 'acl').rules)

const shown = ({ extent, delivered, denied }: Reach): string =>
  [
    extent,
    ...delivered.map(({ filter, decision }) => `+${filter} ${decision.rule?.at.line}`),
    ...denied.map(({ filter, decision }) => `-${filter} ${decision.rule?.at.line}`)
  ].join(', ')

const plant = `user ann
topic read plant/#
topic deny plant/secret/#
topic write only/write
topic read +/status
topic deny x/#
topic readwrite x/y/z
pattern read by/%c/%u/#
pattern deny plant/#
pattern read $SYS/#
`

// FILTER, what of it comes through to ann@panel.
const rows: readonly [filter: string, reach: string][] = [
  ['plant/#', 'part, +plant/# 2, -plant/secret/# 3'],
  ['plant/a', 'all, +plant/a 2'],
  ['plant/+', 'part, +plant/+ 2, -plant/secret 3'],
  ['plant/+/a', 'part, +plant/+/a 2, -plant/secret/a 3'],
  ['plant', 'all, +plant 2'],
  ['plant/secret/#', 'nothing'],
  ['plant/secret', 'nothing'],
  ['+/secret/x', 'nothing'],
  ['+/secret', 'nothing'],
  ['+/status', 'part, +plant/status 2, ++/status 5, -x/status 6'],
  ['#', 'part, +plant/# 2, ++/status 5, +by/panel/ann/# 8, -plant/secret/# 3, -x/# 6'],
  ['+', 'part, +plant 2'],
  ['/#', 'part, +/status 5'],
  ['only/write', 'nothing'],
  ['x/y/z', 'nothing'],
  ['x/#', 'nothing'],
  ['by/panel/+/a', 'part, +by/panel/ann/a 8'],
  ['by/other/#', 'nothing'],
  ['$SYS/#', 'all, +$SYS/# 10'],
  ['$SYS/+/x', 'all, +$SYS/+/x 10'],
  ['$other/#', 'nothing'],
  ['elsewhere', 'nothing']
]

for (const [filter, expected] of rows) {
  t.test(`of ${filter} comes through: ${expected}`, async t => {
    const identity = { clientId: 'panel', username: 'ann' }
    const acl = compile(plant)
    t.equal(shown(reachOf(acl, identity, filter)), expected)
    t.equal(decideFilter(acl, identity, filter).allowed, expected !== 'nothing')
  })
}

t.test('a filter of which nothing comes through says why', async t => {
  const explain = (filter: string, identity: Identity = { clientId: 'panel', username: 'ann' }) =>
    explainDecision(decideFilter(compile(plant), identity, filter))
  t.equal(explain('plant/secret/#'), 'deny rule "topic deny plant/secret/#" at acl:3')
  t.equal(explain('+/secret/x'), 'deny rule "topic deny plant/secret/#" at acl:3')
  t.equal(explain('elsewhere/a'), 'no rule allows it')
  t.equal(explain('only/write'), 'no rule allows it')
  t.equal(explain('plant/a', { clientId: 'a+' }), 'the client id holds + or #, and the ACL file has patterns')
})

t.test('without an ACL file everything comes through but what is no topic', async t => {
  const client = { clientId: 'c' }
  for (const filter of ['#', 'a/+', '$SYS/#', '+']) {
    t.equal(decideFilter(openAcl, client, filter).allowed, true)
    t.match(reachOf(openAcl, client, filter), { extent: 'all', delivered: [{ filter, decision: { reason: 'no-acl-file' } }] })
  }
  t.match(decideFilter(openAcl, client, '$shared/#'), { allowed: false, reason: 'share-name' })
  t.match(decideFilter(closedAcl, client, '#'), { allowed: false, reason: 'no-listener' })
  t.equal(reachOf(closedAcl, client, '#').extent, 'nothing')
})

t.test('lines that take back each other are not tried for ever: whoever subscribes is let in then', async t => {
  const numbers = Array.from({ length: 4000 }, (_, i) => i)
  const acl = compile(numbers.map(i => `topic read a/${i}/#\ntopic deny a/${i}/#`).join('\n'))
  t.match(decideFilter(acl, { clientId: 'c' }, 'a/#'), { allowed: true, reason: 'subscribe' })
  t.match(decideFilter(acl, { clientId: 'c' }, 'a/7/#'), { allowed: false, reason: 'rule' })
  t.equal(reachOf(acl, { clientId: 'c' }, 'a/7/#').extent, 'nothing')
})

t.test('of lines that say the same the first is named', async t => {
  const acl = compile('topic read a/+/c\ntopic read a/b/c\ntopic read a/#\ntopic read a/b/#\ntopic read a')
  t.equal(shown(reachOf(acl, { clientId: 'c' }, '#')), 'part, +a/+/c 1, +a/# 3')
})

t.test('a name that holds / or $ fills no pattern', async t => {
  const acl = compile('pattern read %c/x\npattern read a/%u')
  t.notOk(decideFilter(acl, { clientId: 'a/b' }, '+/x').allowed)
  t.notOk(decideFilter(acl, { clientId: '$SYS' }, '$SYS/x').allowed)
  t.notOk(decideFilter(acl, { clientId: '$SYS' }, '+/x').allowed)
  t.notOk(decideFilter(acl, { clientId: 'c', username: '' }, 'a/#').allowed)
  t.ok(decideFilter(acl, { clientId: 'c' }, '+/x').allowed)
})

// A small alphabet, of which every name of up to four levels is tried: one more than any filter spells out. Outside of patterns %c and %u are
// words like others; `z` is in no filter, and stands for all the rest.
const words = ['', 'a', 'b', 'c', 'z', '$x', '%c', '%u', 'a:b']
const level = fc.constantFrom('', 'a', 'b', '+', '+', '%c', '%u', '$x')
const ownLevel = fc.constantFrom('', 'a', 'b', '+', '%c', '%u', '%o', '%s', '%{c:1}', '%{c:2}', '$x')
const askedLevel = fc.constantFrom('', 'a', 'b', '+', '+', '$x')
const filterOf = (levels: fc.Arbitrary<string>) =>
  fc
    .tuple(fc.array(levels, { minLength: 0, maxLength: 3 }), fc.boolean())
    .map(([levels, all]) => [...levels, ...(all ? ['#'] : [])].join('/'))
    .filter(isTopicFilter)
const at = { file: 'acl', line: 1 }
const ruleOf = (filter: fc.Arbitrary<string>): fc.Arbitrary<AclRule> =>
  fc.oneof(
    fc.record({ kind: fc.constant('pattern' as const), access: fc.constantFrom(...aclAccesses), filter, at: fc.constant(at) }),
    fc.record({ kind: fc.constant('topic' as const), access: fc.constantFrom(...aclAccesses), filter, at: fc.constant(at) }),
    fc.record({
      kind: fc.constant('topic' as const),
      access: fc.constantFrom(...aclAccesses),
      filter,
      username: fc.constantFrom('a', 'b'),
      at: fc.constant(at)
    })
  )
const ownRule = fc.record({
  kind: fc.constant('#!pattern' as const),
  access: fc.constantFrom(...aclAccesses),
  filter: filterOf(ownLevel),
  at: fc.constant(at)
})
const rules = fc.array(fc.oneof({ arbitrary: ruleOf(filterOf(level)), weight: 3 }, { arbitrary: ownRule, weight: 2 }), { maxLength: 7 })
const name = fc.constantFrom('a', 'b', 'a/b', '$x', '+', 'c', 'a:b')
const identity: fc.Arbitrary<Identity> = fc.oneof(
  fc.record({ clientId: name }),
  fc.record({ clientId: name, username: fc.constantFrom('a', 'b', '', 'a/b') }),
  fc.record({
    clientId: name,
    username: fc.constantFrom('a', 'b'),
    certificate: fc.record({ organization: fc.constantFrom('a', 'b', 'c'), serial: fc.constantFrom('a', 'c') })
  })
)

function* namesOf(depth: number): Generator<string> {
  if (depth === 0) return
  for (const word of words) {
    if (word !== '') yield word
    for (const rest of namesOf(depth - 1)) yield `${word}/${rest}`
    yield `${word}/`
  }
}
const names = [...new Set(namesOf(4))].filter(isTopicName)

t.test('what is said of a filter is true of every name that it matches', async t => {
  const extents = { all: 0, part: 0, nothing: 0 }
  fc.assert(
    fc.property(rules, identity, filterOf(askedLevel), (rules, identity, filter) => {
      const acl = compileAcl(rules)
      const answers = names.filter(name => matchesFilter(filter, name)).map(name => decide(acl, identity, 'read', name).allowed)
      const expected = answers.every(Boolean) ? 'all' : answers.some(Boolean) ? 'part' : 'nothing'
      const { extent, delivered, denied } = reachOf(acl, identity, filter)
      extents[extent] += 1
      const within = [...delivered, ...denied].every(part =>
        names.every(name => !matchesFilter(part.filter, name) || matchesFilter(filter, name))
      )
      return extent === expected && decideFilter(acl, identity, filter).allowed === (extent !== 'nothing') && within
    }),
    { numRuns: 1500 }
  )
  t.ok(extents.all > 50 && extents.part > 50 && extents.nothing > 50, JSON.stringify(extents))
})

t.test('the parts are what is delivered, and what is taken away of it', async t => {
  fc.assert(
    fc.property(rules, identity, filterOf(askedLevel), (rules, identity, filter) => {
      const acl = compileAcl(rules)
      const { delivered, denied } = reachOf(acl, identity, filter)
      const inAny = (parts: Reach['denied'], name: string) => parts.some(part => matchesFilter(part.filter, name))
      return names.every(name => {
        if (!matchesFilter(filter, name)) return true
        const { allowed } = decide(acl, identity, 'read', name)
        return allowed ? inAny(delivered, name) : !inAny(delivered, name) || inAny(denied, name)
      })
    }),
    { numRuns: 500 }
  )
  t.pass()
})
