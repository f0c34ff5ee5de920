// The golden ACL cases, asked of the real Mosquitto (Debian's 2.0). Cases marked 2.1 must be decided otherwise there, or the mark is wrong.

import t from 'tap'
import { parseAcl } from '../../dist/auth/acl-file.js'
import { readAclCases } from '../helpers/acl-cases.js'
import { refusalOf, startArbiter } from '../helpers/arbiter.js'

t.test('Mosquitto decides the golden cases as we do', async t => {
  const cases = readAclCases()
  const arbiter = await startArbiter(
    t.testdir(),
    cases.map(({ acl }) => acl)
  )
  t.teardown(() => arbiter.close())
  let asked = 0
  for (const [i, { questions }] of cases.entries()) {
    const answers = await arbiter.ask(
      i,
      questions.filter(({ local }) => !local)
    )
    for (const [{ at, allowed, differsFrom20 }, answer] of answers)
      t.strictSame({ at, allowed: answer }, { at, allowed: allowed !== differsFrom20 })
    asked += answers.size
  }
  t.ok(asked >= 60, `${asked} decisions asked`)
})

const wrong = [
  'topic',
  'topic reads a/b',
  'topic read a/#/b',
  'user',
  'user   ',
  'topics read a',
  '\ttopic read a',
  ' # indented',
  'pattern write x+'
]

for (const line of wrong) {
  t.test(`Mosquitto refuses ${JSON.stringify(line)} with our words`, async t => {
    const acl = `# first\ntopic read ok\n${line}\n`
    const [problem] = parseAcl(acl, 'acl').problems
    t.strictSame(problem?.at, { file: 'acl', line: 3 })
    t.ok((await refusalOf(t.testdir(), acl)).includes(`Error: ${problem?.message}`), `${problem?.message}`)
  })
}
