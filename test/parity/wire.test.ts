// The cases of test/cases/wire, asked of the real mosquitto: so it is known that what we demand of ours is what Mosquitto does. Where 2.1
// changed, a case says why, and 2.0 must fail it: a mark that is no longer true must go.

import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { wireCases } from '../cases/wire/index.js'
import { freePort, start, userLine } from '../helpers/command.js'
import { mosquittoVersion } from '../helpers/real-mosquitto.js'
import { groupsOf, playWire, type WireGroup, wireConf } from '../helpers/wire.js'

const is20 = mosquittoVersion().startsWith('2.0.')
/** The default of 2.1 for 2.0, which had none. */
const defaults = is20 ? 'max_packet_size 2000000\n' : ''
/** For a case that must fail: 2.0 has answered otherwise long before, or is silent. */
const shortPatience = 100

async function startReal(t: Test, group: WireGroup): Promise<number | undefined> {
  const [dir, port] = [t.testdir(), await freePort()]
  writeFileSync(join(dir, 'mosquitto.conf'), `${defaults}${wireConf(port, group)}set_tcp_nodelay true\n${userLine}`)
  const broker = start(t, 'mosquitto', ['-c', 'mosquitto.conf'], { cwd: dir })
  try {
    await broker.line(/ running$/)
    return port
  } catch (error) {
    // An option that 2.0 does not know.
    if (is20 && group.cases.every(({ since21 }) => since21 !== undefined)) return undefined
    throw error
  }
}

t.jobs = 8
for (const group of groupsOf(wireCases)) {
  void t.test(group.name, async t => {
    const port = await startReal(t, group)
    for (const one of group.cases) {
      await t.test(one.name, async t => {
        if (port === undefined) t.ok(one.since21)
        else if (is20 && one.since21 !== undefined) await t.rejects(playWire(port, one, shortPatience), one.since21)
        else await playWire(port, one)
      })
    }
  })
}
