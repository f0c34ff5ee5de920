import t from 'tap'
import { buildConfig } from '../../dist/config/build.js'
import { buildCase, problemLine, readConfCases, valueLine } from '../helpers/conf-cases.js'

const groups = readConfCases()

t.test('there are cases', async t => {
  t.ok([...groups.values()].flat().length >= 60)
})

t.test('MOSQUITTO_PERSISTENCE_LOCATION goes before persistence_location, as with Mosquitto', async t => {
  const storeOf = (content: string, env: Record<string, string>) => buildConfig({ main: { file: 'm.conf', content }, env }).config?.store
  const env = { MOSQUITTO_PERSISTENCE_LOCATION: '/run/m' }
  const lines = 'persistence true\npersistence_location /var/lib/m\npersistence_file x.db\n'
  t.match(storeOf(lines, env), { kind: 'disk', file: '/run/m/x.db' })
  t.match(storeOf(lines, { MOSQUITTO_PERSISTENCE_LOCATION: '' }), { kind: 'disk', file: '/var/lib/m/x.db' })
  t.match(storeOf('persistence false\n', env), { kind: 'memory' })
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
