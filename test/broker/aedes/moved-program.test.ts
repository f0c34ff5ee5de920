// The program of docs/from-aedes.md, as it stands there.

import { spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { pathToFileURL } from 'node:url'
import t from 'tap'
import { received } from '../../helpers/embedded.js'
import { MqttClient, until } from '../../helpers/mqtt.js'

t.test('a program for Aedes runs with another import', async t => {
  const program = /```js\n([\s\S]*?)```/.exec(readFileSync('docs/from-aedes.md', 'utf8'))?.[1] ?? ''
  const library = pathToFileURL(join(process.cwd(), 'dist/index.js')).href
  const dir = t.testdir({ 'program.mjs': program.replace("'mosquitero'", `'${library}'`) })
  const child = spawn(process.execPath, [join(dir, 'program.mjs')], {
    env: { ...process.env, PORT: '0' },
    stdio: ['ignore', 'pipe', 'inherit']
  })
  t.teardown(() => child.kill())
  const lines: string[] = []
  createInterface(child.stdout).on('line', line => lines.push(line))
  await until(() => lines.length > 0, 'the port')
  const port = Number(lines.shift()?.split(' ')[1])

  const open = (): MqttClient => {
    const socket = connect(port, '127.0.0.1')
    t.teardown(() => socket.destroy())
    return new MqttClient(socket)
  }
  const eve = open()
  t.equal((await eve.connect({ clientId: 'eve', username: 'ann', password: Buffer.from('guess') })).returnCode, 5)
  const ann = open()
  t.equal((await ann.connect({ clientId: 'ann', username: 'ann', password: Buffer.from('secret') })).returnCode, 0)
  t.match(await ann.subscribe('secret'), { granted: [128] })
  await ann.subscribe('#')
  ann.publish('office/1', 'no')
  ann.publish('plant/1', 'yes')
  t.equal(await received(ann), 'plant/1 yes')
  await until(() => lines.length === 4, 'four lines')
  t.same(lines, ['eve: not authorized', 'ann is here', 'ann: wrong topic', 'ann: plant/1 yes'])
})
