// What is put into `#!pattern` lines, and that it is never more than one level and never somebody else's.

import fc from 'fast-check'
import t from 'tap'
import { compileAcl, decide } from '../../dist/auth/acl.js'
import { parseAcl } from '../../dist/auth/acl-file.js'
import type { Identity } from '../../dist/auth/identity.js'
import { hasSameRights, readCertificateFacts } from '../../dist/auth/identity.js'

const acl = compileAcl(
  parseAcl(
    [
      '#!pattern write plant/%o/%u/#',
      '#!pattern write unit/%ou',
      '#!pattern write serial/%s/x',
      '#!pattern write /%{c:1}/%{c:2}/attrs',
      '#!pattern deny plant/%o/%u/secret',
      'pattern write mosquitto/%o/%c',
      'pattern write literal/%{c:1}'
    ].join('\n'),
    'acl'
  ).rules
)

const certificate = { organization: 'Acme', organizationalUnit: 'press', serial: '0A1B' }
const whole: Identity = { clientId: 'admin:f60c28', username: 'ann', certificate }
const { certificate: _, ...bare } = whole

const rows: readonly [who: Identity, topic: string, line: number | undefined][] = [
  [whole, 'plant/Acme/ann/a/b', 1],
  [whole, 'plant/Acme/ann', 1],
  [whole, 'plant/Acme/ann/secret', 5],
  [whole, 'plant/Other/ann/a', undefined],
  [whole, 'plant/Acm/ann/a', undefined],
  [whole, 'plant/Acmee/ann/a', undefined],
  [whole, 'plant/%o/ann/a', undefined],
  [whole, 'plant//ann/a', undefined],
  [whole, 'unit/press', 2],
  [whole, 'unit/%ou', undefined],
  [whole, 'serial/0A1B/x', 3],
  [whole, 'serial/0a1b/x', undefined],
  [whole, '/admin/f60c28/attrs', 4],
  [whole, '/admin/f60c29/attrs', undefined],
  [whole, '/admin/f60c2/attrs', undefined],
  [whole, '/other/f60c28/attrs', undefined],
  [whole, '/admin//attrs', undefined],
  [whole, '/%{c:1}/%{c:2}/attrs', undefined],
  // A `pattern` line is Mosquitto's: what is ours is text there.
  [whole, 'mosquitto/Acme/admin:f60c28', undefined],
  [whole, 'mosquitto/%o/admin:f60c28', 6],
  [whole, 'literal/admin', undefined],
  [whole, 'literal/%{c:1}', 7],
  // Whoever has no certificate, or nothing of the kind in it, is none of those who are meant.
  [bare, 'plant/Acme/ann/a', undefined],
  [bare, 'plant//ann/a', undefined],
  [bare, 'plant/undefined/ann/a', undefined],
  [bare, 'plant/%o/ann/a', undefined],
  [{ ...whole, certificate: { serial: '0A1B' } }, 'unit/press', undefined],
  [{ ...whole, certificate: { serial: '0A1B' } }, 'unit/', undefined],
  [{ clientId: 'admin', certificate }, '/admin//attrs', undefined],
  [{ clientId: ':x', certificate }, '//x/attrs', undefined],
  [{ clientId: 'a:', certificate }, '/a//attrs', undefined],
  [{ clientId: 'a:b:c', certificate }, '/a/b/attrs', 4],
  [{ clientId: 'a:b:c', certificate }, '/a/b:c/attrs', undefined],
  [{ clientId: '+:b', certificate }, '/+/b/attrs', undefined]
]

for (const [identity, topic, line] of rows) {
  const verdict = line === undefined ? 'is denied' : `is for line ${line} to say`
  t.test(`${topic} by ${JSON.stringify(identity)} ${verdict}`, async t => {
    t.equal(decide(acl, identity, 'write', topic).rule?.at.line, line)
  })
}

t.test('it is known what the lines ask of a certificate', async t => {
  const facts = (text: string) => {
    const compiled = compileAcl(parseAcl(text, 'acl').rules)
    return compiled.kind === 'file' ? [...compiled.facts].sort() : []
  }
  t.strictSame(facts('#!pattern a/%o\n#!pattern b/%s/%o'), ['organization', 'serial'])
  t.strictSame(facts('#!pattern a/%ou'), ['organizationalUnit'])
  t.strictSame(facts('pattern a/%o/%u\n#!pattern %c/%{c:1}\ntopic %o'), [])
})

const part = fc.constantFrom('a', 'b', 'ab', '', 'é', '%u', '+', '#')
t.test('a part of a client id is what split gives', async t => {
  const parts = fc.array(part, { minLength: 1, maxLength: 4 })
  const levels = fc.array(fc.constantFrom('a', 'b', 'ab', '', 'é', '%u', 'a:b'), { minLength: 1, maxLength: 2 })
  const numbers = fc.array(fc.integer({ min: 1, max: 4 }), { minLength: 1, maxLength: 2 })
  let allowed = 0
  fc.assert(
    fc.property(parts, levels, numbers, (parts, levels, numbers) => {
      const filter = numbers.map(number => `%{c:${number}}`).join('/')
      const identity = { clientId: parts.join(':') }
      if (identity.clientId === '') return true
      const decision = decide(compileAcl(parseAcl(`#!pattern ${filter}`, 'acl').rules), identity, 'write', levels.join('/'))
      if (decision.allowed) allowed += 1
      const isDangerous = /[+#]/.test(identity.clientId)
      const found = identity.clientId.split(':')
      const expected = numbers.length === levels.length && numbers.every((number, i) => levels[i] !== '' && found[number - 1] === levels[i])
      return decision.allowed === (expected && !isDangerous)
    }),
    { numRuns: 5000 }
  )
  t.ok(allowed > 20, `${allowed}`)
})

t.test('facts survive a store, and rubbish in one gives none', async t => {
  t.strictSame(readCertificateFacts(JSON.parse(JSON.stringify(certificate))), certificate)
  for (const rubbish of [undefined, null, 'x', 3, [], {}, { organization: 3 }]) t.equal(readCertificateFacts(rubbish), undefined)
  t.ok(hasSameRights(whole, { ...whole, certificate: { ...certificate } }))
  t.notOk(hasSameRights(whole, bare))
  t.notOk(hasSameRights(whole, { ...whole, certificate: { ...certificate, serial: '0B' } }))
})
