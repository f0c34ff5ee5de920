import t from 'tap'
import { compileAcl, decide, openAcl } from '../../dist/auth/acl.js'
import { parseAcl } from '../../dist/auth/acl-file.js'
import { decideBeside } from '../../dist/auth/acl-shadow.js'
import { readAclCases } from '../helpers/acl-cases.js'

const compile = (text: string, file = 'acl') => compileAcl(parseAcl(text, file).rules)

t.test('whatever the two files are, the first decides, and the second is told of where it says otherwise', async t => {
  const cases = readAclCases()
  const acls = cases.map(({ acl }) => (acl === undefined ? openAcl : compile(acl)))
  let differing = 0
  for (const acl of acls) {
    for (const shadow of acls) {
      const ask = decideBeside(acl, shadow)
      for (const { identity, access, topic } of cases.flatMap(({ questions }) => questions)) {
        const alone = decide(acl, identity, access, topic)
        const other = decide(shadow, identity, access, topic)
        const both = ask(identity, access, topic)
        const expected = alone.allowed === other.allowed ? undefined : other
        if (expected !== undefined) differing += 1
        if (both.allowed !== alone.allowed || both.reason !== alone.reason || both.rule !== alone.rule || both.shadow !== expected)
          t.fail(`${JSON.stringify({ identity, access, topic, alone, other, both })}`)
      }
    }
  }
  t.ok(differing > 1000, `${differing}`)
})

t.test('the same question gives the same frozen object', async t => {
  const ask = decideBeside(compile('topic read #'), compile('topic read a\ntopic deny b', 'new.acl'))
  const client = { clientId: 'c' }
  t.equal(ask(client, 'read', 'b'), ask(client, 'read', 'b'))
  t.equal(ask(client, 'read', 'c'), ask(client, 'read', 'd'), 'for want of a rule')
  t.ok(Object.isFrozen(ask(client, 'read', 'b')))
  t.equal(ask(client, 'read', 'b').shadow?.rule?.at.file, 'new.acl')
  t.equal(ask(client, 'read', 'a').shadow, undefined)
})
