// The programs of examples/, run as they stand there, with Mosquitto's own clients.

import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { freePort, run, start } from '../helpers/command.js'

const example = (name: string): string => join(process.cwd(), 'examples', name)
const portOf = (line: string): string => /(\d+)$/.exec(line)?.[1] ?? ''
const client = (port: string, ...more: readonly string[]): string[] => ['-h', '127.0.0.1', '-p', port, ...more]

t.test('with a file: ports, reload by SIGHUP, an end', async t => {
  const dir = t.testdir({})
  const port = await freePort()
  const write = (lines: string) => writeFileSync(join(dir, 'm.conf'), `listener ${port} 127.0.0.1\nallow_anonymous true\n${lines}`)
  write('')
  const program = start(t, 'node', [example('with-a-file.js'), 'm.conf'], { cwd: dir })
  t.equal(portOf(await program.line(/^ports /)), String(port))
  const { status } = await run(t, 'mosquitto_pub', client(String(port), '-q', '1', '-t', 'a', '-m', 'x'))
  t.equal(status, 0)
  write('max_qos 3\n')
  program.child.kill('SIGHUP')
  t.match(await program.line(/^refused: /), /max_qos/)
  write('max_qos 1\n')
  program.child.kill('SIGHUP')
  await program.line(/^reloaded/)
  t.equal((await program.stop('SIGTERM')).status, 0)
})

t.test('without a file: the configuration and the hook, both', async t => {
  const program = start(t, 'node', [example('without-a-file.js')], { env: { PORT: '0' } })
  const port = portOf(await program.line(/^port /))
  const publish = (topic: string) => run(t, 'mosquitto_pub', client(port, '-i', 'press', '-q', '1', '-t', topic, '-m', 'on'))
  await program.line(/^listening/)
  t.equal((await publish('other/press')).status, 0, 'denied, yet acknowledged')
  t.equal((await publish('plant/press')).status, 0)
  await program.line(/^press is here/)
  await program.line(/^plant\/press: on$/)
  t.notMatch(program.stdout(), /other\/press/)
  t.equal((await program.stop('SIGTERM')).status, 0)
})

t.test('from Aedes: the program of docs/from-aedes.md', async t => {
  const text = readFileSync(example('from-aedes.js'), 'utf8')
  const documented = /```js\n([\s\S]*?)```/.exec(readFileSync('docs/from-aedes.md', 'utf8'))?.[1] ?? ''
  t.ok(documented.length > 500 && text.includes(documented))
  const program = start(t, 'node', [example('from-aedes.js')], { env: { PORT: '0' } })
  const port = portOf(await program.line(/^port /))
  const login = ['-i', 'press', '-u', 'ann', '-P', 'secret']
  t.equal((await run(t, 'mosquitto_pub', client(port, ...login, '-q', '1', '-t', 'plant/a', '-m', 'on'))).status, 0)
  await program.line(/^press: plant\/a on$/)
  t.not((await run(t, 'mosquitto_pub', client(port, '-u', 'ann', '-P', 'wrong', '-t', 'plant/a', '-m', 'on'))).status, 0)
})
