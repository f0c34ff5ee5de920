// As in a container: an account that has no name, in group 0 as platforms give it out, on files that it may only read. It writes to the
// folder that it is given for that, and to nothing else.

import { chmodSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { freePort, must, type Running, run, start } from '../helpers/command.js'
import { passwordLine } from '../helpers/hash.js'
import { connectMqtt } from '../helpers/mqtt.js'
import { testPki } from '../helpers/pki.js'
import { reachableMain } from '../helpers/reachable.js'

const isRoot = process.getuid?.() === 0
/** No account of Debian has such a number. */
const uid = 400_000 + (process.pid % 100_000)

async function place(t: Test) {
  const dir = mkdtempSync(join(tmpdir(), 'mosquitero-'))
  const close = () => {
    chmodSync(dir, 0o755)
    rmSync(dir, { recursive: true, force: true })
  }
  t.teardown(close)
  const [pki, port, secure] = [await testPki(t, join(dir, 'certs')), await freePort(), await freePort()]
  const server = await pki.server()
  const client = await pki.client('device')
  for (const name of readdirSync(join(dir, 'certs'))) chmodSync(join(dir, 'certs', name), 0o644)
  chmodSync(join(dir, 'certs'), 0o555)
  writeFileSync(
    join(dir, 'm.conf'),
    `#!watch_files true
per_listener_settings true
persistence true
persistence_location data/
log_dest file data/log
log_dest stderr
pid_file data/pid
listener ${port} 127.0.0.1
password_file passwords
acl_file acl
listener ${secure} 127.0.0.1
cafile certs/ca.crt
certfile ${server.cert}
keyfile ${server.key}
require_certificate true
use_identity_as_username true
`
  )
  writeFileSync(join(dir, 'passwords'), `${passwordLine('ann', 'a')}\n`)
  writeFileSync(join(dir, 'acl'), 'user ann\ntopic readwrite t/#\n')
  // As the image has it.
  mkdirSync(join(dir, 'data'))
  chmodSync(join(dir, 'data'), 0o770)
  chmodSync(dir, 0o555)
  return { dir, port, secure, pki, client }
}

async function startHere(t: Test, dir: string): Promise<Running> {
  const account = isRoot ? ['setpriv', '--reuid', `${uid}`, '--regid', '0', '--clear-groups', '--bounding-set', '-all'] : []
  const [first = '', ...rest] = [...account, process.execPath, reachableMain(t), '-c', 'm.conf']
  const broker = start(t, first, rest, { cwd: dir, env: { HOME: '/nonexistent', TMPDIR: '/nonexistent', XDG_CACHE_HOME: '/nonexistent' } })
  await broker.line(/ running$/)
  return broker
}

t.test(
  'the broker runs under any account on read-only files, and keeps what it is to keep in the one folder that it may write to',
  async t => {
    const { dir, port, secure, pki, client } = await place(t)
    const before = readdirSync(dir)
    const broker = await startHere(t, dir)
    if (isRoot) await broker.line(new RegExp(`: Info: running as user: id ${uid}\\.$`))
    const login = async () => {
      const ann = await connectMqtt(port, 5)
      t.teardown(() => ann.destroy())
      const { reasonCode, sessionPresent } = await ann.connect({
        clientId: 'ann',
        username: 'ann',
        password: Buffer.from('a'),
        clean: false,
        properties: { sessionExpiryInterval: 1000 }
      })
      t.equal(reasonCode, 0)
      return { ann, sessionPresent }
    }
    const { ann } = await login()
    await ann.subscribe('t/#', 1)
    ann.publish('t/kept', 'x', { qos: 1, messageId: 1, retain: true })
    ann.publish('denied', 'x', { qos: 1, messageId: 2 })
    const tls = ['--cafile', pki.ca, '--cert', client.cert, '--key', client.key]
    await must(t, 'mosquitto_pub', ['-h', 'localhost', '-p', `${secure}`, ...tls, '-q', '1', '-t', 'x', '-m', 'x'])
    broker.child.kill('SIGHUP')
    await broker.line(/: Config reloaded: nothing changed; 0 clients disconnected\.$/)
    broker.child.kill('SIGUSR1')
    await broker.line(/: Saving in-memory database to data\/mosquitto\.db\.$/)
    t.equal(readFileSync(join(dir, 'data/pid'), 'utf8'), `${broker.child.pid}`)
    t.equal((await broker.stop()).status, 0)
    t.notMatch(broker.stderr(), /Error|EACCES|EROFS/)
    t.ok(existsSync(join(dir, 'data/mosquitto.db')))

    const again = await startHere(t, dir)
    t.equal((await login()).sessionPresent, true)
    t.equal((await again.stop()).status, 0)
    t.same(readdirSync(dir), before)
    if (!isRoot) return
    // Nobody else has this number: whatever is its own lies in the folder.
    const { stdout } = await run(t, 'find', [
      '/tmp',
      '/var/tmp',
      '/dev/shm',
      tmpdir(),
      '-xdev',
      '-uid',
      `${uid}`,
      '-not',
      '-path',
      `${dir}/data*`
    ])
    t.equal(stdout, '')
  }
)

t.test('a folder that may not be written to is named, with the account', async t => {
  const { dir } = await place(t)
  chmodSync(join(dir, 'data'), 0o555)
  const account = isRoot ? ['setpriv', '--reuid', `${uid}`, '--regid', '0', '--clear-groups', '--bounding-set', '-all'] : []
  const [first = '', ...rest] = [...account, process.execPath, reachableMain(t), '-c', 'm.conf']
  const { status, stderr } = await run(t, first, rest, { cwd: dir })
  t.equal(status, 1)
  t.match(stderr, /Error: Unable to (open log file data\/log for writing|write pid file\. data\/pid).*Permission denied\./)
  t.notMatch(stderr, /\n\s+at /)
})
