// Our broker's answers, byte for byte, over real sockets: the cases of test/cases/wire, each group of them on a broker in this process.

import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { createServer } from '../../dist/server.js'
import { wireCases } from '../cases/wire/index.js'
import { freePort } from '../helpers/command.js'
import { groupsOf, playWire, type WireGroup, wireConf } from '../helpers/wire.js'

async function startOurs(t: Test, group: WireGroup): Promise<number> {
  const file = join(t.testdir(), 'mosquitto.conf')
  for (let attempt = 1; ; attempt++) {
    const port = await freePort()
    writeFileSync(file, wireConf(port, group))
    try {
      const server = await createServer({ config: file, verbosity: 'quiet' })
      t.teardown(() => server.close())
      return port
    } catch (error) {
      // A client of another group may have got that port meanwhile.
      if (attempt === 5) throw error
    }
  }
}

t.jobs = 8
for (const group of groupsOf(wireCases)) {
  void t.test(group.name, async t => {
    const port = await startOurs(t, group)
    let patience: number | undefined
    for (const one of group.cases) {
      await t.test(one.name, () =>
        playWire(port, one, patience).catch(error => {
          // This test has failed: silence is no longer waited for as long as on a busy machine.
          patience = 200
          throw error
        })
      )
    }
  })
}
