// The broker as a library: started, reloaded and closed inside somebody's process.

import { writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import t from 'tap'
import { createServer, ProblemsError } from '../dist/index.js'
import { freePort, must } from './helpers/command.js'

const quiet = { verbosity: 'quiet' } as const

t.test('a configuration is started, read again and closed', async t => {
  const dir = t.testdir({ acl: 'topic readwrite #\n' })
  const [file, port] = [join(dir, 'm.conf'), await freePort()]
  writeFileSync(file, `listener ${port} 127.0.0.1\nallow_anonymous true\nacl_file ${join(dir, 'acl')}\n`)
  const server = await createServer({ config: file, ...quiet })
  t.teardown(() => server.close())
  t.match(server.addresses, [{ family: 'ipv4', address: '127.0.0.1', port }])
  await must(t, 'mosquitto_pub', ['-h', '127.0.0.1', '-p', `${port}`, '-q', '1', '-t', 't', '-m', 'x'])

  writeFileSync(join(dir, 'acl'), 'nonsense\n')
  t.match(await server.reload(), [{ severity: 'error', code: 'ERR_ACL_SYNTAX', at: { line: 1 } }])
  writeFileSync(join(dir, 'acl'), 'topic read #\n')
  t.same(await server.reload(), [])

  await Promise.all([server.close(), server.close()])
  t.same(await server.reload(), [], 'a reload after the end does nothing')
  await t.rejects(must(t, 'mosquitto_pub', ['-h', '127.0.0.1', '-p', `${port}`, '-t', 't', '-m', 'x']))
})

t.test('what a person wrote wrong rejects with every problem and its place', async t => {
  const file = join(t.testdir({ 'm.conf': 'listener 1883\nfoo\nbar\n' }), 'm.conf')
  const error = await createServer({ config: file, ...quiet }).then(
    () => undefined,
    (error: unknown) => error
  )
  t.ok(error instanceof ProblemsError)
  t.match(error, { code: 'ERR_CONF_UNKNOWN', problems: [{ at: { file, line: 2 } }, { at: { file, line: 3 } }] })
})

t.test('when one listener cannot be opened, those before it are closed again', async t => {
  const [first, second] = [await freePort(), await freePort()]
  const file = join(t.testdir(), 'm.conf')
  writeFileSync(file, `listener ${first} 127.0.0.1\nlistener ${second} 127.0.0.1\nlistener ${first} 127.0.0.1\n`)
  await t.rejects(createServer({ config: file, ...quiet }), { code: 'ERR_LISTEN_ADDRESS_IN_USE', at: { file, line: 3 } })
  for (const port of [first, second]) {
    const refused = await new Promise<boolean>(resolve => {
      const socket = connect(port, '127.0.0.1')
      socket.once('connect', () => resolve(false)).once('error', () => resolve(true))
      t.teardown(() => socket.destroy())
    })
    t.ok(refused, `port ${port} is closed`)
  }
})

t.test('a file that several listeners share is read once, and what is wrong in it is said once', async t => {
  const dir = t.testdir({ acl: 'nonsense\n', passwords: 'ann:$9$x\n' })
  const file = join(dir, 'm.conf')
  const rights = `acl_file ${join(dir, 'acl')}\npassword_file ${join(dir, 'passwords')}\n`
  writeFileSync(file, `listener 0 ${join(dir, 'a')}\nlistener 0 ${join(dir, 'b')}\n${rights}`)
  const error = await createServer({ config: file, ...quiet }).then(
    () => undefined,
    (error: unknown) => error
  )
  const errors = error instanceof ProblemsError ? error.problems.filter(({ severity }) => severity === 'error') : []
  t.same(errors.map(({ code }) => code).sort(), ['ERR_ACL_SYNTAX', 'ERR_PASSWORD_SYNTAX'])
})

t.test('the environment is asked only when it is given', async t => {
  const file = join(t.testdir({ 'm.conf': '' }), 'm.conf')
  writeFileSync(file, `listener ${await freePort()} 127.0.0.1\n`)
  const env = { MOSQUITERO_LOG_FORMAT: 'json' }
  const server = await createServer({ config: file, env, ...quiet })
  t.equal(server.config.log.format, 'json')
  await server.close()
})
