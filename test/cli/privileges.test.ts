// The account of the running broker, as the kernel tells it. What only root can give up is tried as root; for others nothing changes.

import { appendFileSync, chmodSync, cpSync, mkdtempSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { type CommandOptions, freePort, must, type Running, start, userLine } from '../helpers/command.js'

const isRoot = process.getuid?.() === 0

/** Not t.testdir(): a repository in root's home is nothing that other accounts can reach. */
function openFolder(t: Test): string {
  const dir = mkdtempSync(join(tmpdir(), 'mosquitero-'))
  t.teardown(() => rmSync(dir, { recursive: true }))
  chmodSync(dir, 0o777)
  return dir
}

/** Starts the broker with these lines; as root it has supplementary groups to lose, as a login shell's would. */
async function startWith(t: Test, lines: string, options: CommandOptions = {}) {
  const dir = openFolder(t)
  writeFileSync(join(dir, 'm.conf'), `listener ${await freePort()} 127.0.0.1\npid_file broker.pid\n${lines}`)
  const command = [process.execPath, join(process.cwd(), 'dist/cli/main.js'), '-c', 'm.conf']
  const [first = '', ...rest] = isRoot ? ['setpriv', '--groups', '0,4', ...command] : command
  const broker = start(t, first, rest, { cwd: dir, ...options })
  await broker.line(/ running$/)
  return { broker, pidFile: join(dir, 'broker.pid') }
}

interface Account {
  readonly uids: readonly string[]
  readonly gids: readonly string[]
  readonly groups: readonly string[]
}

/** Real, effective, saved and file system ids, and the supplementary groups. */
function accountOf(pid: number | undefined): Account {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8')
  const field = (name: string) => new RegExp(`^${name}:(.*)$`, 'm').exec(status)?.[1]?.trim().split(/\s+/).filter(Boolean) ?? []
  return { uids: field('Uid'), gids: field('Gid'), groups: field('Groups').sort() }
}

const four = (id: string): string[] => [id, id, id, id]
const idsOf = async (t: Test, ...args: string[]) => (await must(t, 'id', args)).trim().split(' ').sort()

async function isUnchanged(t: Test, broker: Running): Promise<void> {
  t.same(accountOf(broker.child.pid), accountOf(process.pid), 'who is not root stays who it is')
}

t.test('root becomes the configured user with the groups of that user and no other', async t => {
  const { broker } = await startWith(t, 'user nobody\n')
  if (!isRoot) return isUnchanged(t, broker)
  const [[uid = ''], [gid = ''], groups] = [await idsOf(t, '-u', 'nobody'), await idsOf(t, '-g', 'nobody'), await idsOf(t, '-G', 'nobody')]
  t.same(accountOf(broker.child.pid), { uids: four(uid), gids: four(gid), groups })
  await broker.line(/: Info: running as user: nobody\.$/)
})

t.test('PUID and PGID go before the configured user', async t => {
  const { broker } = await startWith(t, 'user nobody\n', { env: { PUID: '4321', PGID: '4322' } })
  if (!isRoot) return isUnchanged(t, broker)
  t.same(accountOf(broker.child.pid), { uids: four('4321'), gids: four('4322'), groups: ['4322'] })
})

t.test('one of PUID and PGID leaves the other as it is', async t => {
  const { broker } = await startWith(t, 'user nobody\n', { env: { PUID: '4321' } })
  if (!isRoot) return isUnchanged(t, broker)
  t.match(accountOf(broker.child.pid), { uids: four('4321'), gids: four('0') })
})

t.test('UMASK_SET decides about the mode of new files', async t => {
  for (const [umask, mode] of [
    ['000', 0o644],
    ['027', 0o640],
    ['0077', 0o600]
  ] as const) {
    const { broker, pidFile } = await startWith(t, userLine, { env: { UMASK_SET: umask } })
    t.equal(statSync(pidFile).mode & 0o777, mode, umask)
    t.equal((await broker.stop()).status, 0)
  }
})

t.test('an id or a mask that is none ends the start with a sentence', async t => {
  const dir = openFolder(t)
  writeFileSync(join(dir, 'm.conf'), `listener ${await freePort()} 127.0.0.1\n${userLine}`)
  const refusalOf = async (env: NodeJS.ProcessEnv) => {
    const broker = start(t, process.execPath, [join(process.cwd(), 'dist/cli/main.js'), '-c', 'm.conf'], { cwd: dir, env })
    const { status, stderr } = await broker.ended
    t.equal(status, 1)
    return stderr
  }
  t.match(await refusalOf({ UMASK_SET: '8' }), /Error: UMASK_SET environment variable not a valid octal number\.$/m)
  if (!isRoot) return
  t.match(await refusalOf({ PUID: 'ann' }), /Error: PUID not a valid ID 'ann'\.$/m)
  t.match(await refusalOf({ PGID: '-1' }), /Error: PGID not a valid ID '-1'\.$/m)
})

t.test('a program that only root can read goes on, and what it will not be able to do is said', async t => {
  const own = mkdtempSync(join(tmpdir(), 'mosquitero-'))
  t.teardown(() => rmSync(own, { recursive: true }))
  for (const name of ['dist', 'package.json']) cpSync(name, join(own, name), { recursive: true })
  symlinkSync(join(process.cwd(), 'node_modules'), join(own, 'node_modules'))
  const main = join(own, 'dist/cli/main.js')
  const dir = openFolder(t)
  await must(t, process.execPath, [main, 'certs', 'init', '--dir', join(dir, 'certs')])
  if (isRoot) await must(t, 'chown', ['-R', 'nobody', join(dir, 'certs')])
  const [port, enrolmentPort] = [await freePort(), await freePort()]
  const lines = [`listener ${port} 127.0.0.1`, '#!tls_dns_list localhost', '#!enrolment_ca certs/ca/ca.crt certs/ca/ca.key', 'user nobody']
  const conf = join(dir, 'm.conf')
  writeFileSync(conf, `${lines.join('\n')}\n`)
  const broker = start(t, process.execPath, [main, '-c', 'm.conf'], { cwd: dir })
  await broker.line(/ running$/)
  const said = /'nobody' cannot read the program in \S+\/dist: passwords cannot be checked, nor long revocation lists read\./
  if (isRoot) await broker.line(said)
  // What signs is loaded only then, and was there before.
  appendFileSync(conf, `#!enrolment_listener ${enrolmentPort} 127.0.0.1\n`)
  broker.child.kill('SIGHUP')
  await broker.line(/Config reloaded: #!enrolment_listener changed/)
})
