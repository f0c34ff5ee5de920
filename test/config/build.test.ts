import t from 'tap'
import { buildCase, problemLine, readConfCases, valueLine } from '../helpers/conf-cases.js'

const groups = readConfCases()

t.test('there are cases', async t => {
  t.ok([...groups.values()].flat().length >= 60)
})

for (const [group, cases] of groups) {
  t.test(group, async t => {
    for (const conf of cases) {
      await t.test(conf.title, async t => {
        const result = buildCase(conf)
        const values = conf.expected.filter(line => / = /.test(line) && !/^(?:error|warning|notice) /.test(line))
        const problems = conf.expected.filter(line => !values.includes(line))
        t.same(result.problems.map(problemLine), problems)
        t.equal(
          result.config === undefined,
          problems.some(line => line.startsWith('error ')),
          'a configuration unless there is an error'
        )
        for (const line of values) t.equal(valueLine(result, line.slice(0, line.indexOf(' = '))), line)
      })
    }
  })
}
