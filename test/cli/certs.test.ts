import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join, relative, resolve } from 'node:path'
import fc from 'fast-check'
import t from 'tap'
import { certs } from '../helpers/certs.js'
import { start } from '../helpers/command.js'
import { openssl, opensslCa } from '../helpers/openssl.js'

const isRecord = (file: string) => /^ca\/(index\.txt(\.attr)?|newcerts(\/[\dA-F]+\.pem)?)$/.test(file)
const tree = (dir: string) => readdirSync(dir, { recursive: true, encoding: 'utf8' }).sort()

t.test('init, server and client make what the next command of the scenario needs', async t => {
  const dir = join(t.testdir(), 'certs')
  const init = await certs(['init', '--dir', dir, '--cn', 'Casa CA'])
  t.match(init, { status: 0, stderr: '', stdout: `Next: mosquitero certs server --dir ${dir}\n` })
  t.match(init.stdout, /^.*ca\/ca\.crt: CA certificate\n {2}subject {5}CN=Casa CA\n/)
  const server = await certs(['server', 'broker.example.org', '10.0.0.1', '--ip', '::1', '--dir', dir])
  t.match(server, {
    status: 0,
    stdout: `  certfile ${dir}/broker/broker.crt\n  keyfile ${dir}/broker/broker.key\n  cafile ${dir}/ca/ca.crt\n`
  })
  t.match(server.stdout, 'DNS broker.example.org, IP 10.0.0.1, IP ::1')
  const client = await certs(['client', 'press 7', '--dir', dir, '--days', '90'])
  t.match(client, { status: 0, stdout: `--cafile ${dir}/ca/ca.crt --cert '${dir}/client/press 7.crt' --key '${dir}/client/press 7.key'` })
  t.match(client.stdout, '89 days left')
  openssl(
    'verify',
    '-x509_strict',
    '-verify_hostname',
    'broker.example.org',
    '-CAfile',
    join(dir, 'ca/ca.crt'),
    join(dir, 'broker/broker.crt')
  )
  openssl('verify', '-x509_strict', '-purpose', 'sslclient', '-CAfile', join(dir, 'ca/ca.crt'), join(dir, 'client/press 7.crt'))
  t.equal(statSync(join(dir, 'client/press 7.key')).mode & 0o777, 0o600)
})

t.test('a broker without a name gets those of this machine', async t => {
  const dir = t.testdir()
  await certs(['init', '--dir', dir])
  t.match((await certs(['server', '--dir', dir])).stdout, /names {7}DNS localhost, IP 127\.0\.0\.1, IP ::1/)
})

t.test('--out and --key decide where and of what kind', async t => {
  const dir = t.testdir()
  await certs(['init', '--dir', dir, '--key', 'rsa:2048'])
  t.equal((await certs(['client', 'a', '--dir', dir, '--out', join(dir, 'x/dev'), '--key', 'rsa:2048'])).status, 0)
  t.match(
    (await certs(['show', join(dir, 'x/dev.crt'), join(dir, 'x/dev.key')])).stdout,
    /RSA 2048 bit\n {2}signature {3}RSA with SHA-256[\s\S]*belongs to {2}CN=a/
  )
})

t.test('what exists is not overwritten and the command says so', async t => {
  const dir = t.testdir()
  await certs(['init', '--dir', dir])
  await certs(['server', '--dir', dir])
  await certs(['client', 'a', '--dir', dir])
  const before = tree(dir).map(file => (statSync(join(dir, file)).isFile() ? readFileSync(join(dir, file), 'utf8') : ''))
  for (const args of [['init'], ['server'], ['client', 'a']]) {
    const { status, stdout, stderr } = await certs([...args, '--dir', dir])
    t.same([status, stdout], [1, ''])
    t.match(stderr, /^Error: .* exists and is not overwritten; move it away to make a new one\.\n$/)
  }
  t.same(
    tree(dir).map(file => (statSync(join(dir, file)).isFile() ? readFileSync(join(dir, file), 'utf8') : '')),
    before
  )
})

t.test('without a CA the next step is told', async t => {
  const dir = t.testdir()
  t.match(await certs(['server', '--dir', dir]), { status: 1, stdout: '', stderr: /ca\.crt is missing: .*mosquitero certs init/ })
  t.same(tree(dir), [])
})

t.test('on a terminal the passphrase of a CA key is asked for and not shown', async t => {
  const dir = t.testdir({ ca: {} })
  const [crt, key] = [join(dir, 'ca/ca.crt'), join(dir, 'ca/ca.key')]
  openssl('req', '-new', '-x509', '-extensions', 'v3_ca', '-keyout', key, '-out', crt, '-subj', '/CN=Casa', '-passout', 'pass:secret')
  const ask = async (name: string, typed: string) => {
    const command = `'${process.execPath}' dist/cli/main.js certs client ${name} --days 9 --dir '${dir}'`
    const terminal = start(t, 'script', ['-qec', command, '/dev/null'])
    await terminal.line(/Passphrase of /)
    terminal.child.stdin?.write(typed)
    return terminal.ended
  }
  const made = await ask('a', 'secret\r')
  t.equal(made.status, 0, made.stdout)
  t.notMatch(made.stdout, /secret/)
  openssl('verify', '-CAfile', crt, join(dir, 'client/a.crt'))
  const given = await ask('b', '\x03')
  t.equal(given.status, 1)
  t.match(given.stdout, /Error: Interrupted\./)
  t.notMatch(given.stdout, /\n\s+at /)
})

t.test('a CA made by openssl under a passphrase is opened by environment or by asking', async t => {
  const dir = t.testdir({ ca: {} })
  const [crt, key] = [join(dir, 'ca/ca.crt'), join(dir, 'ca/ca.key')]
  opensslCa({ cert: crt, key }, '/CN=Casa', 'secret')
  const secret = { MOSQUITERO_CA_PASSPHRASE: 'secret' }
  t.match(await certs(['client', 'a', '--days', '9', '--dir', dir]), {
    status: 1,
    stderr: /protected by a passphrase\. Give it in the environment as MOSQUITERO_CA_PASSPHRASE\.\n$/
  })
  t.match(await certs(['client', 'a', '--days', '9', '--dir', dir], { MOSQUITERO_CA_PASSPHRASE: 'x' }), {
    status: 1,
    stderr: /The passphrase does not open/
  })
  t.equal((await certs(['client', 'a', '--days', '9', '--dir', dir], secret)).status, 0)
  const prompts: string[] = []
  const ask = async (prompt: string) => {
    prompts.push(prompt)
    return 'secret'
  }
  const asked = await certs(['client', 'b', '--days', '9', '--dir', dir], {}, ask)
  t.equal(asked.status, 0)
  t.same(prompts, [`Passphrase of ${key}: `])
  t.notMatch(asked.stdout + asked.stderr, 'secret')
  openssl('verify', '-CAfile', crt, join(dir, 'client/b.crt'))
  t.equal((await certs(['client', 'b', '--dir', dir], {}, ask)).status, 1, 'a name that is taken is refused before anything is asked')
  t.equal(prompts.length, 1)
})

t.test('--dev makes what npm start needs, and only once', async t => {
  const dir = join(t.testdir(), 'certs')
  const first = await certs(['init', '--dev', '--dir', dir])
  t.same([first.status, first.stderr, first.stdout.trim().split('\n').length], [0, '', 6])
  t.same(await certs(['init', '--dev', '--dir', dir]), { status: 0, stdout: '', stderr: '' })
  writeFileSync(join(dir, 'client/client.crt'), 'cats')
  t.match(await certs(['init', '--dev', '--dir', dir]), {
    status: 1,
    stdout: '',
    stderr: /^Error: .*client\.crt holds no certificate, key, certificate request or revocation list\.\n$/
  })
})

t.test('bad names and days are refused with a reason', async t => {
  const dir = t.testdir()
  await certs(['init', '--dir', dir])
  const before = tree(dir)
  for (const [args, reason] of [
    [['client', '../ca/ca'], /cannot be used: it holds "\/"/],
    [['client', 'a\u0007'], /control character/],
    [['client', '#'], /wildcards/],
    [['server', 'a b'], /not a host name/],
    [['server', '300.1.1.1'], /neither an IP address nor a host name/],
    [['server', '--ip', 'localhost'], /not an IP address/],
    [['server', '--days', '826'], /from 1 to 825/],
    [['client', 'a', '--days', '36500'], /more than the CA has left/]
  ] as const) {
    t.match(await certs([...args, '--dir', dir]), { status: 1, stdout: '', stderr: reason }, args.join(' '))
  }
  t.same(tree(dir), before)
})

t.test('wrong usage exits with 2 and shows how it goes', async t => {
  for (const args of [
    [],
    ['reneww'],
    ['__proto__'],
    ['init', 'name'],
    ['init', '--ip', '1.1.1.1'],
    ['init', '--dev', '--cn', 'x'],
    ['init', '--nonsense'],
    ['init', '--days'],
    ['init', '--days', '1e3'],
    ['init', '--days', '-1'],
    ['init', '--key', 'dsa'],
    ['init', '--key', 'constructor'],
    ['client'],
    ['client', 'a', 'b'],
    ['show'],
    ['show', '--dir', 'x', 'y']
  ]) {
    t.match(await certs(args), { status: 2, stdout: '', stderr: /Usage: mosquitero certs/ }, args.join(' '))
  }
})

t.test('wrong usage is said before what is wrong with the folder', async t => {
  const dir = t.testdir()
  t.match(await certs(['init', '--dir', dir]), { status: 0 })
  t.match(await certs(['server', '--dir', dir]), { status: 0 })
  t.match(await certs(['client', 'a', '--dir', dir]), { status: 0 })
  for (const args of [['init'], ['server'], ['client', 'a']]) {
    const result = await certs([...args, '--days', '1e3', '--dir', dir])
    t.match(result, { status: 2, stdout: '', stderr: /"1e3" is not a number of days[\s\S]*Usage: / }, args.join(' '))
  }
})

t.test('every help text shows a real call', async t => {
  for (const args of [
    ['--help'],
    ['-h'],
    ['help'],
    ['init', '--help'],
    ['server', '-h'],
    ['client', '--help'],
    ['show', '--help'],
    ['sign', '-h'],
    ['renew', '-h'],
    ['revoke', '-h'],
    ['crl', '-h'],
    ['list', '-h'],
    ['expiring', '-h']
  ]) {
    t.match(await certs(args), { status: 0, stderr: '', stdout: /Usage: [\s\S]*Example:\n {2}mosquitero certs / }, args.join(' '))
  }
})

t.test('show on what is no certificate exits with 1 and a sentence, and still shows the rest', async t => {
  const dir = t.testdir({ cats: 'meow', cut: '-----BEGIN CERTIFICATE-----\nMIIB' })
  await certs(['init', '--dir', dir])
  const mixed = await certs(['show', join(dir, 'cats'), join(dir, 'ca/ca.crt'), join(dir, 'nothing')])
  t.equal(mixed.status, 1)
  t.match(mixed.stdout, 'CN=Mosquitero CA')
  t.equal(
    mixed.stderr,
    `Error: ${dir}/cats holds no certificate, key, certificate request or revocation list.\nError: Unable to read ${dir}/nothing: No such file or directory.\n`
  )
  t.match(await certs(['show', join(dir, 'cut')]), { status: 1, stdout: /cut off/ })
})

t.test('whatever the name, nothing appears outside the client folder', async t => {
  const dir = t.testdir()
  await certs(['init', '--dir', dir])
  const ca = tree(dir)
  const piece = fc.constantFrom('..', '.', '/', '\\', '\0', '~', 'a', ' ', '%2f', '-', '$', 'ca', '\n', '😀')
  const name = fc.oneof(
    fc.array(piece, { maxLength: 6 }).map(pieces => pieces.join('')),
    fc.string({ unit: 'binary', maxLength: 80 })
  )
  let taken = 0
  await fc.assert(
    fc.asyncProperty(name, async text => {
      const before = tree(dir)
      const { status } = await certs(['client', '--dir', dir, '--', text])
      if (status === 0) taken++
      const added = tree(dir).filter(file => !before.includes(file) && file !== 'client' && !isRecord(file))
      const inside = added.every(file => relative(join(dir, 'client'), resolve(dir, file)) === `${text}.${file.slice(-3)}`)
      return inside && (status === 0 ? added.length === 2 : added.length === 0)
    }),
    { numRuns: 200 }
  )
  t.ok(taken > 0, 'good names are among them')
  t.same(
    tree(dir).filter(file => !file.startsWith('client') && !isRecord(file)),
    ca
  )
  t.notOk(existsSync(join(dir, '..', 'ca.crt')))
})
