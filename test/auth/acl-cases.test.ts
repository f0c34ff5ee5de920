import fc from 'fast-check'
import t from 'tap'
import { compileAcl, decide, openAcl } from '../../dist/auth/acl.js'
import { type AclCase, anyClientId, meets, parseAclCases } from '../../dist/auth/acl-cases.js'
import { parseAcl } from '../../dist/auth/acl-file.js'
import { explain, type Rights } from '../../dist/auth/explanation.js'
import { isTopicFilter, isTopicName, parseFilter } from '../../dist/topic.js'
import { because, readAclCases } from '../helpers/acl-cases.js'

const one = (line: string): AclCase | string => {
  const { cases, problems } = parseAclCases(line, 'c')
  return cases[0] ?? problems[0]?.message ?? 'nothing'
}

t.test('words, quotes and comments', async t => {
  const at = { file: 'c', line: 1 }
  t.same(one('ann read plant/a allow acl:2 # why'), {
    identity: { clientId: anyClientId, username: 'ann' },
    access: 'read',
    topic: 'plant/a',
    expected: 'allow',
    because: 'acl:2',
    at
  })
  t.same(one('\t-\tp-1  write a/# deny'), "'a/#' is no topic name: reading and writing is about one topic, subscribing about filters.")
  t.match(one('- p-1 subscribe # deny'), { identity: { clientId: 'p-1' }, topic: '#', expected: 'deny' })
  t.notHas(one('- read a deny'), { identity: { username: '-' } })
  t.match(one('"-" read a deny'), { identity: { username: '-' } })
  t.match(one('"#a" "read" read "two  words" deny #'), { identity: { username: '#a', clientId: 'read' }, topic: 'two  words' })
  t.match(one('"" read a deny'), { identity: { username: '' } })
  t.match(one('ann read a deny # say "so\r'), { expected: 'deny' })
  for (const line of ['', '  ', '# ann read a allow', '\t#', '\r']) t.equal(one(line), 'nothing', JSON.stringify(line))
})

t.test('each line has its number, and each that is wrong is named', async t => {
  const { cases, problems } = parseAclCases('# head\nann read a allow\nwrong\n\nann read a deny\n- subscribe a/#/b allow', 'c')
  t.same(
    cases.map(({ at }) => at.line),
    [2, 5]
  )
  t.match(problems, [
    { severity: 'error', code: 'ERR_ACL_CASE', at: { file: 'c', line: 3 } },
    { message: "'a/#/b' is no topic filter.", at: { line: 6 } }
  ])
})

t.test('the rule is compared from its end: a file lies elsewhere on another machine', async t => {
  const acl = compileAcl(parseAcl('topic read a', '/etc/mosquitto/acl').rules)
  const does = (rule: string): boolean => {
    const expectation = one(`- read a allow ${rule}`)
    if (typeof expectation === 'string') throw new Error(expectation)
    return meets(expectation, explain({ acl, subscribeCheck: 'warn' }, expectation))
  }
  for (const rule of ['acl:1', 'mosquitto/acl:1', '/etc/mosquitto/acl:1']) t.ok(does(rule), rule)
  for (const rule of ['acl:2', 'cl:1', 'other/acl:1', 'no-rule']) t.notOk(does(rule), rule)
})

t.test('our own golden cases, in this form, are met', async t => {
  let asked = 0
  for (const { acl, questions } of readAclCases()) {
    const rights: Rights = { acl: acl === undefined ? openAcl : compileAcl(parseAcl(acl, 'acl').rules), subscribeCheck: 'warn' }
    for (const { at, identity, access, topic, allowed, because: reason } of questions) {
      const isValid = access === 'subscribe' ? typeof parseFilter(topic) !== 'string' : isTopicName(topic)
      if (access === 'unsubscribe' || identity.clientId === '' || !isValid) continue
      const user = identity.username === undefined ? '-' : JSON.stringify(identity.username)
      const verdict = allowed ? 'allow' : 'deny'
      const expectation = one([user, JSON.stringify(identity.clientId), access, JSON.stringify(topic), verdict, reason].join(' '))
      if (typeof expectation === 'string') throw new Error(`${at}: ${expectation}`)
      t.ok(meets(expectation, explain(rights, expectation)), at)
      t.equal(because(decide(rights.acl, identity, access, topic)), reason)
      asked += 1
    }
  }
  t.ok(asked > 100, `${asked}`)
})

const word = fc.oneof(fc.string(), fc.constantFrom('ann', '-', '#', '"', 'read', 'two words', '%u', 'a#b', '\\', '\n'))
const topicName = fc.string({ unit: fc.constantFrom('a', '/', ' ', '#', '+', '"', '$', 'é') }).filter(isTopicName)
const topicFilter = fc
  .array(fc.constantFrom('a', '+', '', 'b c', '$share'))
  .map(levels => [...levels, '#'].join('/'))
  .filter(text => isTopicFilter(text) && typeof parseFilter(text) !== 'string')
const request = fc.oneof(
  fc.record({ access: fc.constantFrom('read', 'write'), topic: topicName, expected: fc.constantFrom('allow', 'deny') }),
  fc.record({
    access: fc.constant('subscribe'),
    topic: topicFilter,
    expected: fc.constantFrom('allow', 'deny', 'all', 'part', 'nothing')
  })
)
const maybe = fc.option(word, { nil: undefined })

t.test('whatever is written in quotes is read back as it was', async t => {
  fc.assert(
    fc.property(maybe, maybe, request, word, (username, clientId, { access, topic, expected }, comment) => {
      const user = username === undefined ? '-' : JSON.stringify(username)
      const client = clientId === undefined ? [] : [JSON.stringify(clientId)]
      const line = [user, ...client, access, JSON.stringify(topic), expected, `#${comment.replaceAll('\n', ' ')}`].join(' ')
      t.strictSame(one(line), {
        identity: { clientId: clientId ?? anyClientId, ...(username !== undefined && { username }) },
        access,
        topic,
        expected,
        at: { file: 'c', line: 1 }
      })
    }),
    { numRuns: 300 }
  )
})

t.test('any text is read without an exception, and every line that says something is a case or a problem', async t => {
  const known = fc.constantFrom('read', 'allow', 'subscribe', 'a/b', 'acl:1')
  const line = fc.oneof(
    fc.string(),
    fc.array(fc.oneof(word, known), { maxLength: 7 }).map(words => words.join(' '))
  )
  fc.assert(
    fc.property(fc.array(line), lines => {
      const text = lines.join('\n')
      const { cases, problems } = parseAclCases(text, 'c')
      const saying = text.split('\n').filter(line => !/^\s*(#|$)/.test(line)).length
      return cases.length + problems.length === saying
    }),
    { numRuns: 1000 }
  )
  t.pass()
})
