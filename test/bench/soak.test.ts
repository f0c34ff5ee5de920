// `npm run bench:soak` for a quarter of a minute: everything that it checks but what takes longer to show. With MOSQUITERO_LONG=1 the half hour
// that it is made for, in which memory has to stay flat.

import t from 'tap'
import { run } from '../helpers/command.js'

const long = process.env.MOSQUITERO_LONG === '1'
const seed = process.env.MOSQUITERO_SEED ?? String(Date.now() % 1_000_000_007)

t.test('mixed load at half capacity', { timeout: long ? 2_600_000 : 200_000 }, async t => {
  const minutes = long ? '30' : '0.25'
  const { status, stdout, stderr } = await run(t, process.execPath, ['bench/soak.js', '--minutes', minutes, '--seed', seed])
  t.comment(stdout)
  t.match(stdout, /^ok {5}what clients met with/m, 'it came to its end')
  t.same(stdout.match(/^FAILED .*$/gm) ?? [], [])
  t.equal(status, 0, stderr)
})
