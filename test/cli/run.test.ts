// The command line as a person meets it: messages, exit status, signals, pid file, the background.

import { chmodSync, copyFileSync, existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir, userInfo } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { freePort, mosquitero, must, run, startBroker, userLine } from '../helpers/command.js'
import { testPki } from '../helpers/pki.js'
import { until } from '../helpers/until.js'

const isRoot = process.getuid?.() === 0

t.test("started without a configuration, the three lines of local only mode are Mosquitto's", async t => {
  const broker = await startBroker(t, ['-p', `${await freePort()}`])
  const lines = broker
    .stderr()
    .split('\n')
    .map(line => line.replace(/^\d+: /, ''))
  const first = lines.findIndex(line => line.startsWith('Starting in local only mode.'))
  t.match(lines.slice(first + 1, first + 3), [
    'Create a configuration file which defines a listener to allow remote access.',
    'For more details see https://mosquitto.org/documentation/authentication-methods/'
  ])
})

t.test('-h prints the usage on stdout and ends with 0', async t => {
  const { status, stdout, stderr } = await mosquitero(t, ['-h'], { input: '' }).ended
  t.equal(status, 0)
  t.match(stdout, /^Usage: mosquitero \[-c config_file\] \[-d\] \[-h\] \[-p port\] \[-q\] \[-v\]$/m)
  t.equal(stderr, '')
})

t.test('--version prints the version of the package', async t => {
  const { status, stdout } = await mosquitero(t, ['--version'], { input: '' }).ended
  const manifest: { version: string } = JSON.parse(readFileSync('package.json', 'utf8'))
  t.equal(status, 0)
  t.equal(stdout, `mosquitero version ${manifest.version}\n`)
})

t.test('an unknown option is named, without a time stamp, and ends with 3', async t => {
  const { status, stderr } = await mosquitero(t, ['--x'], { input: '' }).ended
  t.equal(status, 3)
  t.match(stderr, /^Error: Unknown option '--x'\.$/m)
})

/** Files that cannot be used: what is printed, and the exit status. */
const refusals: readonly [name: string, files: Record<string, string>, status: number, lines: readonly RegExp[]][] = [
  [
    'an unknown option',
    { 'm.conf': 'foo bar\n' },
    3,
    [/^\d{10}: Error: Unknown configuration variable 'foo'\.$/m, /^\d{10}: Error found at m\.conf:1\.$/m]
  ],
  [
    'every further problem too',
    { 'm.conf': 'listener 1\nallow_anonymous yes\nfoo\n' },
    3,
    [
      /Error: Invalid 'allow_anonymous' value \(yes\)\.\n\d+: Error found at m\.conf:2\.\n\d+: Error: Unknown configuration variable 'foo'\.\n\d+: Error found at m\.conf:3\./
    ]
  ],
  [
    'an acl_file that cannot be opened',
    { 'm.conf': 'listener PORT 127.0.0.1\nacl_file nope\n' },
    13,
    [/ starting$/m, /Error: Unable to open acl_file "nope"\. No such file/, /Error found at m\.conf:2\./]
  ],
  [
    'a bad line in the acl_file',
    { 'm.conf': 'listener PORT 127.0.0.1\nacl_file acl\n', acl: 'topic read a\nfoo\n' },
    3,
    [/Error: Invalid line in acl_file "acl": foo\.$/m, /Error found at acl:2\.$/m]
  ],
  [
    'a password_file that cannot be opened',
    { 'm.conf': 'listener PORT 127.0.0.1\npassword_file nope\n' },
    13,
    [/Error: Unable to open pwfile "nope"\. No such file/]
  ],
  [
    'a bad line in the password_file',
    { 'm.conf': 'listener PORT 127.0.0.1\npassword_file p\n', p: 'ann:plain\n' },
    3,
    [/Error: Unable to decode line in password file/, /Error found at p:1\.$/m]
  ],
  [
    'a certificate that is not there',
    { 'm.conf': 'listener PORT 127.0.0.1\ncertfile nope\nkeyfile nope\n' },
    1,
    [/Error: Unable to load server certificate "nope"\. Check certfile\..*No such file/, /Error found at m\.conf:2\.$/m]
  ],
  [
    'a log file in a folder that is not there',
    { 'm.conf': 'listener PORT 127.0.0.1\nlog_dest file nope/x\n' },
    1,
    [/Error: Unable to open log file nope\/x for writing\./]
  ],
  [
    'a pid file in a folder that is not there',
    { 'm.conf': 'listener PORT 127.0.0.1\npid_file nope/x\n' },
    1,
    [/Error: Unable to write pid file\./]
  ],
  [
    'a store that is none',
    { 'm.conf': 'listener PORT 127.0.0.1\n#!store http://user:secret@host\n' },
    3,
    [/Error: .*store/, /Error found at m\.conf:2\.$/m]
  ]
]

for (const [name, files, status, lines] of refusals) {
  t.test(`${name} is said with its place and ends with ${status}`, async t => {
    const port = await freePort()
    const dir = t.testdir(Object.fromEntries(Object.entries(files).map(([file, text]) => [file, text.replace('PORT', `${port}`)])))
    writeFileSync(join(dir, 'm.conf'), readFileSync(join(dir, 'm.conf'), 'utf8') + userLine)
    const ended = await mosquitero(t, ['-c', 'm.conf'], { cwd: dir, input: '' }).ended
    t.equal(ended.status, status, ended.stderr)
    for (const line of lines) t.match(ended.stderr, line)
    t.notMatch(ended.stderr, /\n\s+at |secret/, 'no stack, no secret')
  })
}

t.test('a configuration file that is not there, or is a folder, ends with 3', async t => {
  const dir = t.testdir()
  const missing = await mosquitero(t, ['-c', 'nope.conf'], { cwd: dir, input: '' }).ended
  t.equal(missing.status, 3)
  t.match(missing.stderr, /^\d{10}: Error: Unable to open config file 'nope\.conf'\./m)
  const folder = await mosquitero(t, ['-c', '.'], { cwd: dir, input: '' }).ended
  t.equal(folder.status, 3)
  t.match(folder.stderr, /Error: Config file \. is a directory\.$/m)
})

t.test('a port in use is one clear line and ends with 1', async t => {
  const server = createServer().listen(0, '127.0.0.1')
  t.teardown(() => server.close())
  await new Promise(resolve => server.once('listening', resolve))
  const address = server.address()
  const port = typeof address === 'object' && address ? address.port : 0
  const ended = await mosquitero(t, ['-p', `${port}`], { input: '' }).ended
  t.equal(ended.status, 1)
  t.match(ended.stderr, /^\d{10}: Error: Address already in use/m)
  t.notMatch(ended.stderr, /\n\s+at /)
})

t.test('--test-config opens every file, and says what is wrong or that all is well', async t => {
  const dir = t.testdir({ 'm.conf': `listener 1\nacl_file acl\n${userLine}`, acl: 'topic read #\n' })
  const good = await mosquitero(t, ['--test-config', '-c', 'm.conf'], { cwd: dir, input: '' }).ended
  t.equal(good.status, 0)
  t.match(good.stderr, /^(\d{10}: )?Configuration file is OK\.$/m)
  writeFileSync(join(dir, 'acl'), 'nonsense\n')
  const bad = await mosquitero(t, ['-c', 'm.conf', '--test-config'], { cwd: dir, input: '' }).ended
  t.equal(bad.status, 3)
  t.match(bad.stderr, /Error found at acl:1\./)
  t.equal((await mosquitero(t, ['--test-config'], { input: '' }).ended).status, 3)
})

t.test('--test-config opens the CA that the enrolment listener signs by', async t => {
  const pki = await testPki(t)
  const { cert, key } = await pki.server()
  const listener = `listener 1 127.0.0.1\ncertfile ${cert}\nkeyfile ${key}\n#!enrolment_listener 2\n${userLine}`
  const dir = t.testdir({
    'good.conf': `${listener}#!enrolment_ca ${pki.root.cert} ${pki.root.key}\n`,
    'bad.conf': `${listener}#!enrolment_ca nope nope2\n`
  })
  const test = (file: string) => mosquitero(t, ['--test-config', '-c', file], { cwd: dir, input: '' }).ended
  t.equal((await test('good.conf')).status, 0)
  const bad = await test('bad.conf')
  t.equal(bad.status, 1)
  t.match(bad.stderr, /Error: The enrolment listener cannot sign\. Unable to read nope: No such file or directory\./)
})

t.test('a key that belongs to another certificate is refused with both names and the line', async t => {
  const pki = await testPki(t)
  const [server, other] = [await pki.server(), await pki.client('other')]
  const dir = t.testdir({ 'm.conf': `listener 1 127.0.0.1\ncertfile ${server.cert}\nkeyfile ${other.key}\n${userLine}` })
  const ended = await mosquitero(t, ['-c', 'm.conf'], { cwd: dir, input: '' }).ended
  t.equal(ended.status, 1)
  t.match(ended.stderr, /Error: .*does not belong to certfile/)
  t.match(ended.stderr, /Error found at m\.conf:3\./)
})

t.test('a key that the account of the broker may not read is refused with the name of that account', async t => {
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
  // Root's own key for root; for anybody else one that even its owner may not read.
  chmodSync(join(dir, 'broker.key'), isRoot ? 0o600 : 0)
  const ended = await mosquitero(t, ['-c', 'm.conf'], { cwd: dir, input: '' }).ended
  const account = isRoot ? 'nobody' : userInfo().username
  t.equal(ended.status, 1)
  t.match(
    ended.stderr,
    new RegExp(`Error: Unable to load server key file "broker\\.key"\\. Check keyfile\\. Permission denied for user ${account}\\.$`, 'm')
  )
})

t.test('SIGTERM and SIGINT stop with 0, and the pid file goes', async t => {
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    const port = await freePort()
    const dir = t.testdir({ 'm.conf': `listener ${port} 127.0.0.1\npid_file broker.pid\n${userLine}` })
    const broker = await startBroker(t, ['-c', 'm.conf'], { cwd: dir })
    t.equal(readFileSync(join(dir, 'broker.pid'), 'utf8'), `${broker.child.pid}`)
    const ended = await broker.stop(signal)
    t.equal(ended.status, 0)
    t.match(ended.stderr, /mosquitero version \S+ terminating$/m)
    t.notOk(existsSync(join(dir, 'broker.pid')))
  }
})

t.test('SIGUSR1 and SIGUSR2 neither end the broker nor open an inspector', async t => {
  const port = await freePort()
  const broker = await startBroker(t, ['-p', `${port}`])
  broker.child.kill('SIGUSR1')
  await broker.line(/SIGUSR1/)
  broker.child.kill('SIGUSR2')
  await broker.line(/SIGUSR2/)
  t.notMatch(broker.stderr(), /Debugger listening/)
  t.equal((await broker.stop()).status, 0)
})

t.test('-d returns once the broker runs in the background', async t => {
  const port = await freePort()
  const dir = t.testdir({
    'm.conf': `listener ${port} 127.0.0.1\nallow_anonymous true\npid_file broker.pid\nlog_dest file broker.log\n${userLine}`
  })
  const ended = await mosquitero(t, ['-d', '-c', 'm.conf'], { cwd: dir, input: '' }).ended
  t.equal(ended.status, 0, ended.stderr)
  const pid = Number(readFileSync(join(dir, 'broker.pid'), 'utf8'))
  t.teardown(() => {
    if (existsSync(join(dir, 'broker.pid'))) process.kill(pid, 'SIGKILL')
  })
  await must(t, 'mosquitto_pub', ['-h', '127.0.0.1', '-p', `${port}`, '-t', 't', '-m', 'x'])
  process.kill(pid, 'SIGTERM')
  await until(() => !existsSync(join(dir, 'broker.pid')))
  t.match(readFileSync(join(dir, 'broker.log'), 'utf8'), /terminating$/m)
})

t.test('-d with a broken configuration says so and ends with its status', async t => {
  const dir = t.testdir({ 'm.conf': 'foo\n' })
  const ended = await mosquitero(t, ['-d', '-c', 'm.conf'], { cwd: dir, input: '' }).ended
  t.equal(ended.status, 3)
  t.match(ended.stderr, /Error: Unknown configuration variable 'foo'\./)
})

t.test('a user that does not exist ends root with 1, and is no matter to others', async t => {
  const port = await freePort()
  const dir = t.testdir({ 'm.conf': `listener ${port} 127.0.0.1\nuser no-such-user\n` })
  const broker = mosquitero(t, ['-c', 'm.conf'], { cwd: dir })
  if (isRoot) {
    t.equal((await broker.ended).status, 1)
    t.match(
      broker.stderr(),
      /Error: Unable to drop privileges to 'no-such-user' because this user does not exist\.\n\d+: Error found at m\.conf:2\./
    )
  } else {
    await broker.line(/ running$/)
    t.equal((await broker.stop()).status, 0)
  }
})

t.test('--tls-keylog writes the keys of real clients into a file for its owner alone', async t => {
  const pki = await testPki(t)
  const server = await pki.server()
  const port = await freePort()
  const dir = t.testdir({
    'm.conf': `listener ${port} 127.0.0.1\nallow_anonymous true\ncertfile ${server.cert}\nkeyfile ${server.key}\n${userLine}`,
    'keys.log': '# of a capture before\n'
  })
  const file = join(dir, 'keys.log')
  chmodSync(file, 0o644)
  const broker = await startBroker(t, ['-c', 'm.conf', '--tls-keylog', 'keys.log'], { cwd: dir })
  t.equal(statSync(file).mode & 0o777, 0o600, 'also one that was there')
  await must(t, 'mosquitto_pub', ['-h', 'localhost', '-p', `${port}`, '--cafile', pki.ca, '-q', '1', '-t', 't', '-m', 'x'])
  await must(t, 'openssl', ['s_client', '-connect', `localhost:${port}`, '-tls1_2'], { input: '' })
  await broker.stop()
  const keys = readFileSync(file, 'utf8')
  t.match(keys, /^# of a capture before\n/)
  for (const label of ['CLIENT_TRAFFIC_SECRET_0', 'SERVER_TRAFFIC_SECRET_0', 'CLIENT_RANDOM']) {
    t.match(keys, new RegExp(`^${label} [0-9a-f]{64} [0-9a-f]{64,96}$`, 'm'))
  }
})

t.test('-q logs nothing, -v logs packets, whatever the configuration says', async t => {
  const port = await freePort()
  const dir = t.testdir({ 'm.conf': `listener ${port} 127.0.0.1\nallow_anonymous true\nlog_type error\n${userLine}` })
  const quiet = mosquitero(t, ['-q', '-v', '-c', 'm.conf'], { cwd: dir })
  await until(async () => (await run(t, 'mosquitto_pub', ['-h', '127.0.0.1', '-p', `${port}`, '-t', 't', '-m', 'x'])).status === 0)
  t.equal((await quiet.stop()).stderr, '')
  const verbose = await startBroker(t, ['-v', '-c', 'm.conf'], { cwd: dir })
  await must(t, 'mosquitto_pub', ['-h', '127.0.0.1', '-p', `${port}`, '-i', 'pub', '-t', 't', '-m', 'x'])
  await verbose.line(/: Received PUBLISH from pub \(d0, q0, r0, m0, 't', \.\.\. \(1 bytes\)\)$/)
})

t.test('#!log_format json writes one JSON object per line', async t => {
  const port = await freePort()
  const dir = t.testdir({ 'm.conf': `listener ${port} 127.0.0.1\nallow_anonymous true\n#!log_format json\n${userLine}` })
  const broker = mosquitero(t, ['-c', 'm.conf'], { cwd: dir })
  await broker.line(/running"/)
  await must(t, 'mosquitto_pub', ['-h', '127.0.0.1', '-p', `${port}`, '-i', 'pub', '-t', 't', '-m', 'x'])
  const line = await broker.line(/"event":"clientConnected"/)
  t.match(JSON.parse(line), { level: 'notice', clientId: 'pub', remoteAddress: '127.0.0.1', protocolVersion: 4 })
})

t.test('a listener says at start what it enforces', async t => {
  const pki = await testPki(t)
  const server = await pki.server()
  const [plain, secure] = [await freePort(), await freePort()]
  const dir = t.testdir({
    'm.conf': `per_listener_settings true
listener ${plain} 127.0.0.1
allow_anonymous true
listener ${secure} 127.0.0.1
cafile ${pki.ca}
certfile ${server.cert}
keyfile ${server.key}
require_certificate true
use_identity_as_username true
acl_file acl
${userLine}`,
    acl: 'pattern readwrite %u/#\n'
  })
  const broker = await startBroker(t, ['-c', 'm.conf'], { cwd: dir })
  await broker.line(
    new RegExp(
      `: Listener on port ${plain} on 127\\.0\\.0\\.1: plain text, username as the client says, anonymous clients allowed, no ACL file\\.$`
    )
  )
  await broker.line(
    new RegExp(
      `: Listener on port ${secure} on 127\\.0\\.0\\.1: TLSv1\\.2 or newer, client certificate required, username from the common name of the certificate, rights from acl\\.$`
    )
  )
})

t.test('a Node that is too old is told in one line', async t => {
  const old = 'data:text/javascript,Object.defineProperty(process,"versions",{value:{...process.versions,node:"18.0.0"}})'
  const ended = await run(t, process.execPath, ['--import', old, 'dist/cli/main.js', '-h'])
  t.equal(ended.status, 1)
  t.match(ended.stderr, /^Mosquitero needs Node 20\.17 or newer; this is v\S+\.\n$/)
})
