// `mosquitero check` as a person types it: what it prints, and how it ends.

import { chmodSync, copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir, userInfo } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { mosquitero, userLine } from '../helpers/command.js'
import { passwordLine } from '../helpers/hash.js'
import { testPki } from '../helpers/pki.js'

const isRoot = process.getuid?.() === 0
const account = userInfo().username

const check = (t: Test, args: readonly string[], cwd: string, env: NodeJS.ProcessEnv = {}) =>
  mosquitero(t, ['check', ...args], { cwd, env, input: '' }).ended

/** What most installations have: devices with certificates, people with passwords, a store; and some things that are not as they should be. */
const typical: Readonly<Record<string, string>> = {
  'm.conf': `# Devices
per_listener_settings true
listener 8883
cafile ca.crt
certfile broker.crt
keyfile broker.key
crlfile ca.crl
tls_version tlsv1.2
require_certificate true
use_identity_as_username true
acl_file acl
max_connections 500
max_connections 1000

# People
listener 1883 127.0.0.1
password_file passwords
acl_file people
max_qos 1

# The browser
listener 9001
protocol websockets

persistence true
autosave_interval 600
max_queued_messages 0
memory_limit 100000000
dhparamfile dh.pem
log_dest syslog
log_type all
include_dir conf.d
${userLine}`,
  'conf.d/plant.conf': `#!log_format json
connection works
address 192.0.2.1
topic plant/# out
remote_password geheim
`,
  acl: 'pattern readwrite device/%u/#\npattern read news\n',
  people: 'topic read public/#\nuser ann\ntopic read #\ntopic deny secret/#\nuser carl\ntopic read #\n',
  passwords: `${passwordLine('ann', 'x')}\n${passwordLine('bob', 'x')}\n`
}

/** With certificates that begin and end on the same days in every run. */
async function typicalFolder(t: Test): Promise<string> {
  const pki = await testPki(t)
  const dir = t.testdir()
  const period = { notBefore: new Date('2026-01-01T00:00:00Z'), notAfter: new Date('2049-01-01T00:00:00Z') }
  const ca = await pki.authority('Plant CA', { period })
  const server = await pki.server({ ca, period, subject: [['CN', 'broker.example.org']], names: ['broker.example.org', '192.0.2.10'] })
  const device = await pki.client('press-7', { ca })
  await pki.revoke(device, { file: join(dir, 'ca.crl'), days: 30 })
  for (const [from, to] of [
    [ca.cert, 'ca.crt'],
    [server.cert, 'broker.crt'],
    [server.key, 'broker.key']
  ] as const) {
    copyFileSync(from, join(dir, to))
  }
  mkdirSync(join(dir, 'conf.d'))
  for (const [name, text] of Object.entries(typical)) writeFileSync(join(dir, name), text)
  chmodSync(join(dir, 'passwords'), 0o600)
  return dir
}

t.test('a typical configuration, to the letter', async t => {
  const dir = await typicalFolder(t)
  const { status, stdout, stderr } = await check(t, ['-c', 'm.conf'], dir, { MOSQUITERO_ACKNOWLEDGE: 'stored' })
  t.equal(stderr, '')
  t.equal(status, 0)
  const golden = readFileSync('test/cases/check/typical.txt', 'utf8')
  // The list is made anew in each run, and ends a month later.
  const steady = stdout
    .replace(`files were read as ${account}`, 'files were read as ACCOUNT')
    .replace(/^ +\d+ {2}user .*\n/m, '')
    .replace(/list good until \d{4}-\d\d-\d\d/, 'list good until DAY')
    .replace(/expires on \d{4}-\d\d-\d\d, in (29|30) days/, 'expires on DAY, in N days')
  t.equal(steady, golden)
})

t.test('the example of the README is true', async t => {
  const dir = t.testdir({ acl: 'pattern readwrite user/%u/#\npattern read news\n' })
  const [, example = ''] =
    /mosquitero check -c mosquitto\.conf\n.*?\n\n( {4}Listener.*?)\nIt ends with/s.exec(readFileSync('README.md', 'utf8')) ?? []
  const text = example.replaceAll(/^ {4}/gm, '')
  const lines = [...text.matchAll(/^ {4}\d {2}(.*?) {2,}\w+/gm)].map(([, line]) => `${line}\n`)
  t.equal(lines.length, 8)
  writeFileSync(join(dir, 'mosquitto.conf'), lines.join('') + userLine)
  for (const args of [['init'], ['server', 'broker.example.org', '192.0.2.10']]) await mosquitero(t, ['certs', ...args], { cwd: dir }).ended
  const { stdout } = await check(t, ['-c', 'mosquitto.conf'], dir)
  const steady = (text: string) => text.replaceAll(/\d{4}-\d\d-\d\d/g, 'DAY').replaceAll(/^ +\d+ {2}user .*\n|^ {2}account .*$/gm, '')
  t.equal(steady(stdout), steady(text))
})

t.test('--json says the same in the shape that docs/check.md tells', async t => {
  const dir = await typicalFolder(t)
  const { status, stdout } = await check(t, ['--json', '--config', 'm.conf'], dir)
  t.equal(status, 0)
  const report: Record<string, unknown> = JSON.parse(stdout)
  t.match(report, {
    format: 1,
    file: 'm.conf',
    usable: true,
    exitStatus: 0,
    readAs: account,
    counts: { errors: 0 },
    listeners: [
      {
        at: { file: 'm.conf', line: 3 },
        enforces: { listener: 'port 8883', certificate: 'required', username: 'from-common-name', tls: 'TLSv1.2', aclFile: 'acl' },
        port: 8883,
        bind: { kind: 'any' },
        protocol: 'mqtt',
        versions: [3, 4, 5],
        tls: {
          certificate: { subject: 'CN=broker.example.org', names: ['DNS:broker.example.org', 'IP Address:192.0.2.10'] },
          authorities: [{ subject: 'CN=Plant CA', notAfter: '2049-01-01T00:00:00.000Z' }],
          revocation: [{ issuer: 'CN=Plant CA', revoked: 1 }]
        },
        acl: { file: 'acl', users: 0, userRules: 0, anonymousRules: 0, patterns: 2 },
        limits: { maxConnections: 1000, maxQos: 2, maxTopicAlias: 10, maxTopicAliasBroker: 10 }
      },
      { passwords: { file: 'passwords', users: 2 }, acl: { users: 2, userRules: 3, anonymousRules: 1, patterns: 0 } }
    ],
    broker: { store: { kind: 'disk', place: 'mosquitto.db.mosquitero' }, limits: { maxQueuedMessages: 0 } },
    options: [{ at: { file: 'm.conf', line: 2 }, option: 'per_listener_settings', value: 'true', standing: 'honoured' }]
  })
  t.notMatch(stdout, /geheim/)
  const documented = new Set([...readFileSync('docs/check.md', 'utf8').matchAll(/`([A-Za-z0-9]+)`/g)].map(([, name]) => name))
  const undocumented = [...new Set(fieldsOf(report))].filter(name => !documented.has(name))
  t.same(undocumented, [], 'every field is in docs/check.md')
})

function fieldsOf(value: unknown): string[] {
  if (typeof value !== 'object' || value === null) return []
  if (Array.isArray(value)) return value.flatMap(fieldsOf)
  return Object.entries(value).flatMap(([name, field]) => [name, ...fieldsOf(field)])
}

t.test('an error ends with 1, names its line and says what the broker would end with', async t => {
  const dir = t.testdir({ 'm.conf': `listener 1883 127.0.0.1\nacl_file nope\nallow_anonymous true\n${userLine}` })
  const { status, stdout } = await check(t, ['-c', 'm.conf'], dir)
  t.equal(status, 1)
  t.match(stdout, /^ {4}2 {2}acl_file nope +refused {2}Unable to open acl_file "nope"\. No such file or directory\.$/m)
  t.match(stdout, /^ {2}error {4}m\.conf:2: Unable to open acl_file "nope"\. No such file or directory\.$/m)
  t.match(stdout, /^m\.conf cannot be used, a broker would end with status 13: 1 error, 0 warnings, 0 notices\.\n$/m)
  t.equal((await mosquitero(t, ['-c', 'm.conf'], { cwd: dir, input: '' }).ended).status, 13, 'and it does')
})

t.test('a configuration that cannot be built shows its lines and everything that is wrong', async t => {
  const dir = t.testdir({ 'm.conf': 'listener x\nfoo\nsys_interval 3\n' })
  const { status, stdout } = await check(t, ['-c', 'm.conf'], dir)
  t.equal(status, 1)
  t.equal(
    stdout,
    `Options of m.conf
    1  listener x      refused  'listener port' value not a number.
    2  foo             refused  Unknown configuration variable 'foo'.
    3  sys_interval 3  honoured

Problems
  error    m.conf:1: 'listener port' value not a number.
  error    m.conf:2: Unknown configuration variable 'foo'.

m.conf cannot be used, a broker would end with status 3: 2 errors, 0 warnings, 0 notices.
`
  )
  const missing = await check(t, ['-c', 'nope.conf'], dir)
  t.equal(missing.status, 1)
  t.match(missing.stdout, /^ {2}error {4}Unable to open config file 'nope\.conf'\. No such file or directory\.$/m)
})

t.test('warnings alone end with 0', async t => {
  const dir = t.testdir({ 'm.conf': `listener 1883\nallow_anonymous true\n${userLine}` })
  const { status, stdout } = await check(t, ['-c', 'm.conf'], dir)
  t.equal(status, 0)
  t.match(stdout, /^m\.conf can be used: 0 errors, 1 warning, 0 notices\.\n$/m)
})

t.test('wrong usage ends with 2, and help with 0', async t => {
  const dir = t.testdir()
  for (const [args, line] of [
    [[], 'Error: Name the configuration by -c FILE.'],
    [['-c'], "Error: Option '-c, --config <value>' argument missing."],
    [['--nope'], "Error: Unknown option '--nope'."],
    [['-c', 'm.conf', 'more'], "Error: Unexpected argument 'more'."]
  ] as const) {
    const { status, stdout, stderr } = await check(t, args, dir)
    t.equal(status, 2)
    t.equal(stdout, '')
    t.equal(stderr.split('\n')[0], line)
    t.match(stderr, /^Usage: mosquitero check -c FILE \[--json\]$/m)
  }
  const help = await check(t, ['--help'], dir)
  t.equal(help.status, 0)
  t.match(help.stdout, /^ {2}mosquitero check -c \/etc/m)
})

t.test('a file that the account of the broker may not read is an error, also when root asks', async t => {
  const pki = await testPki(t)
  const server = await pki.server()
  // Not t.testdir(): a repository in root's home is nothing that other accounts can reach.
  const dir = mkdtempSync(join(tmpdir(), 'mosquitero-'))
  t.teardown(() => rmSync(dir, { recursive: true }))
  chmodSync(dir, 0o755)
  writeFileSync(join(dir, 'm.conf'), 'listener 1 127.0.0.1\ncertfile broker.crt\nkeyfile broker.key\nuser nobody\n')
  copyFileSync(server.cert, join(dir, 'broker.crt'))
  chmodSync(join(dir, 'broker.crt'), 0o644)
  copyFileSync(server.key, join(dir, 'broker.key'))
  chmodSync(join(dir, 'broker.key'), isRoot ? 0o600 : 0)
  const { status, stdout } = await check(t, ['-c', 'm.conf'], dir)
  t.equal(status, 1)
  const name = isRoot ? 'nobody' : account
  t.match(
    stdout,
    new RegExp(`m\\.conf:3: Unable to load server key file "broker\\.key"\\. Check keyfile\\. Permission denied for user ${name}\\.$`, 'm')
  )
  t.match(stdout, new RegExp(`^ {2}account {4}files were read as ${name}`, 'm'))
})

t.test('an account that does not exist is an error where the broker would need it', { skip: isRoot ? false : 'not root' }, async t => {
  const dir = t.testdir({ 'm.conf': 'listener 1883 127.0.0.1\nallow_anonymous true\nuser no-such-user\n' })
  const { status, stdout } = await check(t, ['-c', 'm.conf'], dir)
  t.equal(status, 1)
  t.match(stdout, /m\.conf:3: Unable to drop privileges to 'no-such-user' because this user does not exist\.$/m)
})

t.test('what files hold cannot move the cursor of a terminal', async t => {
  const dir = t.testdir({ 'm.conf': `listener 1883 127.0.0.1\nacl_file acl\n${userLine}`, acl: 'pattern read \x1b[2Jx\n' })
  const { stdout } = await check(t, ['-c', 'm.conf'], dir)
  t.notMatch(stdout, /\x1b/)
  t.match(stdout, /ACL pattern '\\u\{1b\}\[2Jx'/)
})
