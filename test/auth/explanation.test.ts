import t from 'tap'
import { compileAcl, decide, explainDecision, openAcl } from '../../dist/auth/acl.js'
import { parseAcl } from '../../dist/auth/acl-file.js'
import { type AclQuestion, explain, type Rights } from '../../dist/auth/explanation.js'
import { readAclCases } from '../helpers/acl-cases.js'
import { plainListener } from '../helpers/bare-broker.js'

const compile = (text: string) => compileAcl(parseAcl(text, 'acl').rules)
const rights = (acl: string, rest: Partial<Rights> = {}): Rights => ({ acl: compile(acl), subscribeCheck: 'warn', ...rest })
const ask = (access: AclQuestion['access'], topic: string, username?: string): AclQuestion => ({
  identity: { clientId: 'c', ...(username !== undefined && { username }) },
  access,
  topic
})

t.test('every golden question is explained by the broker’s own decision', async t => {
  for (const { acl, questions } of readAclCases()) {
    const compiled = acl === undefined ? openAcl : compile(acl)
    for (const { identity, access, topic } of questions) {
      if (access === 'unsubscribe') continue
      const { decision, why, allowed } = explain({ acl: compiled, subscribeCheck: 'warn' }, { identity, access, topic })
      const expected = decide(compiled, identity, access, topic)
      t.equal(decision, expected)
      t.same([why, allowed], [explainDecision(expected), expected.allowed])
    }
  }
})

t.test('what would have been decided next, line after line', async t => {
  const lines = ['topic deny a', 'topic deny +', 'topic read a', 'topic read #', 'pattern deny a', 'pattern read a']
  for (let from = 0; from <= lines.length; from++) {
    const text = lines.map((line, i) => (i < from ? '#' : line)).join('\n')
    const { rule, next } = explain(rights(text), ask('read', 'a'))
    t.equal(rule?.at.line, from < lines.length ? from + 1 : undefined)
    t.equal(next?.rule?.at.line, from + 1 < lines.length ? from + 2 : undefined)
  }
})

t.test('without a rule, the one that gives the other right is named, if there is one', async t => {
  const acl = 'topic read a\ntopic write b\ntopic deny c\npattern read c'
  t.match(explain(rights(acl), ask('write', 'a')).instead, { access: 'read', decision: { rule: { at: { line: 1 } } } })
  t.match(explain(rights(acl), ask('read', 'b')).instead, { access: 'write', decision: { rule: { at: { line: 2 } } } })
  t.equal(explain(rights(acl), ask('read', 'd')).instead, undefined)
  t.equal(explain(rights(acl), ask('write', 'c')).instead, undefined, 'it is a deny rule that decides')
  t.equal(explain(rights('user x\ntopic read a'), ask('write', '$SYS/a', 'x')).instead, undefined)
})

t.test('a mount point stands before names and filters, and behind the group of a shared subscription', async t => {
  const mounted = rights('topic read m/a/#', { listener: { ...plainListener, mountPoint: 'm/' } })
  t.match(explain(mounted, ask('read', 'a/b')), { allowed: true, topic: 'm/a/b' })
  t.match(explain(mounted, ask('read', 'm/a/b')), { allowed: false, topic: 'm/m/a/b' })
  t.match(explain(mounted, ask('subscribe', '$share/g/#')), { topic: 'm/#', reach: { extent: 'part', delivered: [{ filter: 'm/a/#' }] } })
})

t.test('a client that is not let in may nothing, whatever the ACL says', async t => {
  const listener = { ...plainListener, security: { ...plainListener.security, allowAnonymous: false } }
  const closed = rights('topic readwrite #\npattern readwrite #', { listener, passwords: new Map() })
  for (const question of [ask('read', 'a'), ask('subscribe', '#'), ask('write', 'a', 'ann')]) {
    const { allowed, reason, decision, reach, next } = explain(closed, question)
    t.match({ allowed, reason, decision }, { allowed: false, reason: 'not-connected', decision: { allowed: true } })
    t.same([reach, next], [undefined, undefined])
  }
  t.match(explain({ ...closed, passwords: 'unknown' }, ask('write', 'a', 'ann')), { allowed: true, needsPassword: 'unknown' })
})

t.test('strict: a subscription of which nothing comes is denied for the reason that nothing comes', async t => {
  const acl = 'topic read a/#\ntopic deny a/secret/#'
  const strict = rights(acl, { subscribeCheck: 'strict' })
  const dead = explain(strict, ask('subscribe', 'a/secret/+'))
  t.match(dead, { allowed: false, reason: 'rule', rule: { at: { line: 2 } }, reach: { extent: 'nothing' } })
  t.match(explain(strict, ask('subscribe', 'a/+')), { allowed: true, rule: { at: { line: 1 } }, reach: { extent: 'part' } })
  const warned = explain(rights(acl), ask('subscribe', 'a/secret/+'))
  t.match(warned, { allowed: true, reason: 'subscribe', dead: { rule: { at: { line: 2 } } } })
})
