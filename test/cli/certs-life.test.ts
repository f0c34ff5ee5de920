// The life of certificates behind their making: signed, renewed, revoked, listed, shown.

import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, renameSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { createServer } from 'node:tls'
import t, { type Test } from 'tap'
import { certs } from '../helpers/certs.js'
import { start } from '../helpers/command.js'
import { openssl, opensslCa } from '../helpers/openssl.js'

async function made(t: Test): Promise<{ dir: string; at: (name: string) => string; run: (...args: string[]) => ReturnType<typeof certs> }> {
  const dir = t.testdir()
  const run = (...args: string[]) => certs([...args, '--dir', join(dir, 'certs')])
  t.match(await run('init', '--cn', 'Casa CA'), { status: 0 })
  return { dir, at: name => join(dir, name), run }
}

function request(dir: string, name: string, ...more: string[]): string {
  const [csr, key] = [join(dir, `${name}.csr`), join(dir, `${name}.key`)]
  const ec = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256']
  openssl('req', '-new', ...ec, '-nodes', '-keyout', key, '-out', csr, '-subj', '/CN=root/O=evil', ...more)
  return csr
}

const text = (file: string) => openssl('x509', '-in', file, '-noout', '-text')

t.test('a request is signed as the profile says, whatever it asks for', async t => {
  const { dir, at, run } = await made(t)
  const more = ['-addext', 'basicConstraints=critical,CA:TRUE', '-addext', 'subjectAltName=DNS:a.example.org,IP:10.0.0.1']
  const csr = request(dir, 'press-7', ...more, '-addext', 'keyUsage=keyCertSign')
  t.match(await run('sign', csr), { status: 0, stderr: '', stdout: /The request called itself "CN=root, O=evil"/ })
  const client = text(at('certs/client/press-7.crt'))
  t.match(client, /Subject: CN = press-7\n/)
  t.match(client, /CA:FALSE[\s\S]*Digital Signature\n[\s\S]*TLS Web Client Authentication\n/)
  t.notMatch(client, /example\.org|Certificate Sign|evil/)
  openssl('verify', '-purpose', 'sslclient', '-CAfile', at('certs/ca/ca.crt'), at('certs/client/press-7.crt'))
  t.notOk(existsSync(at('certs/client/press-7.key')), 'the key stays where it is')
  t.match(await run('sign', csr), { status: 1, stdout: '', stderr: /press-7\.crt exists and is not overwritten/ })

  t.match(await run('sign', csr, 'b.example.org', '--as', 'server', '--days', '9'), { status: 0 })
  const server = text(at('certs/broker/broker.crt'))
  t.match(server, /DNS:b\.example\.org\n[\s\S]*/)
  t.notMatch(server, /a\.example\.org/, 'names of the request are taken only when that is asked for')
  t.match(await run('sign', csr, '--as', 'server', '--names-from-csr', '--out', at('s')), {
    status: 0,
    stdout: /DNS a\.example\.org, IP 10\.0\.0\.1/
  })
})

t.test('bad names are refused, and no file is made anywhere', async t => {
  const { dir, at, run } = await made(t)
  const csr = request(dir, 'x')
  const before = readdirSync(dir, { recursive: true })
  for (const name of [
    '../x',
    'a/b',
    'a+b',
    '#',
    'a\nb',
    'a\u0007',
    '',
    '.',
    '..',
    'x'.repeat(65),
    '$SYS',
    ' x',
    'a\\b',
    '\u202ex',
    'Casa CA'
  ]) {
    t.match(await run('sign', csr, `--cn=${name}`), { status: 1, stdout: '', stderr: /^Error: .*\n$/ }, JSON.stringify(name))
  }
  t.same(readdirSync(dir, { recursive: true }), before)
  renameSync(csr, at('a+b.csr'))
  t.match(await run('sign', at('a+b.csr')), { status: 1, stderr: /holds "\+"/ }, 'also when the name comes from the file')
})

t.test('what does not fit together is wrong usage', async t => {
  const { dir, run } = await made(t)
  const csr = request(dir, 'x')
  for (const args of [
    ['sign'],
    ['sign', csr, 'host'],
    ['sign', csr, '--as', 'ca'],
    ['sign', csr, '--as', 'server'],
    ['sign', csr, '--as', 'server', '--cn', 'x', 'host'],
    ['renew'],
    ['renew', 'a', 'b'],
    ['renew', 'a', '--passphrase'],
    ['revoke'],
    ['revoke', 'a', '--reason', 'boredom'],
    ['crl', 'x'],
    ['crl', '--days', '0'],
    ['list', 'x'],
    ['list', '--expiring', '9', '--revoked']
  ]) {
    t.match(await run(...args), { status: 2, stdout: '', stderr: /^Error: [\s\S]*Usage: mosquitero certs / }, args.join(' '))
  }
})

t.test('renewed: same subject, names and key; the old one is kept beside it', async t => {
  const { at, run } = await made(t)
  await run('server', 'broker.example.org', '10.0.0.1')
  await run('client', 'ann', '--days', '9')
  for (const [name, file] of [
    ['broker', at('certs/broker/broker')],
    ['ann', at('certs/client/ann')]
  ] as const) {
    const [old, key] = [readFileSync(`${file}.crt`), readFileSync(`${file}.key`)]
    t.match(await run('renew', name), { status: 0, stderr: '' })
    const serial = openssl('x509', '-in', `${file}.crt`, '-noout', '-serial')
    t.not(readFileSync(`${file}.crt`, 'utf8'), old.toString())
    t.same(readFileSync(`${file}.key`), key)
    const kept = readdirSync(join(file, '..')).filter(each => each.startsWith(`${name}-`))
    t.equal(kept.length, 1)
    t.same(readFileSync(join(file, '..', kept[0] ?? '')), old)
    t.equal(openssl('x509', '-in', `${file}.crt`, '-noout', '-pubkey'), openssl('pkey', '-in', `${file}.key`, '-pubout'))
    t.match(await run('list'), { stdout: new RegExp(`replaced by ${serial.trim().slice(7)}`) })
  }
  t.match(text(at('certs/broker/broker.crt')), /DNS:broker\.example\.org, IP Address:10\.0\.0\.1/)
  t.match(await run('renew', 'ann', '--new-key'), { status: 0 })
  openssl('verify', '-CAfile', at('certs/ca/ca.crt'), at('certs/client/ann.crt'))
  t.equal(
    openssl('x509', '-in', at('certs/client/ann.crt'), '-noout', '-pubkey'),
    openssl('pkey', '-in', at('certs/client/ann.key'), '-pubout')
  )
  t.equal(statSync(at('certs/client/ann.key')).mode & 0o777, 0o600)
})

t.test('keys under a passphrase, and a PKCS#12 file', async t => {
  const { dir, at, run } = await made(t)
  const secret = { MOSQUITERO_KEY_PASSPHRASE: 'secret' }
  const client = ['client', 'ann', '--passphrase', '--p12', '--dir', at('certs')]
  const { status, stdout } = await certs(client, secret)
  t.equal(status, 0)
  t.match(stdout, /ann\.key: its private key, under a passphrase[\s\S]*ann\.p12: key, certificate and CA/)
  t.notMatch(stdout, /secret/)
  for (const file of ['ann.key', 'ann.p12']) t.equal(statSync(at(`certs/client/${file}`)).mode & 0o777, 0o600)
  openssl('pkey', '-in', at('certs/client/ann.key'), '-passin', 'pass:secret', '-noout')
  t.match(openssl('pkcs12', '-in', at('certs/client/ann.p12'), '-passin', 'pass:secret', '-nodes'), /CN = ann[\s\S]*CN = Casa CA/)
  t.match(await certs(client, secret), { status: 1, stderr: /exists and is not overwritten/ })
  t.match(await run('renew', 'ann', '--new-key'), { status: 2, stderr: /is under a passphrase; write --passphrase/ })
  t.match(await certs(['show', at('certs/client/ann.p12')], secret), {
    status: 0,
    stdout: /EC P-256\n {2}belongs to {2}CN=ann[\s\S]*CN=Casa CA/
  })
  t.match(await certs(['show', at('certs/client/ann.p12')], { MOSQUITERO_KEY_PASSPHRASE: 'x' }), {
    status: 1,
    stderr: /The passphrase does not open/
  })
  const typed = ['one', 'two']
  const ask = async () => typed.shift() ?? ''
  t.match(await certs(['client', 'bob', '--passphrase', '--dir', at('certs')], {}, ask), {
    status: 1,
    stderr: 'Error: The two passphrases differ.\n'
  })
  t.notOk(existsSync(join(dir, 'certs/client/bob.key')))
})

t.test('a CA key under a passphrase, made and opened', async t => {
  const dir = t.testdir()
  const secret = { MOSQUITERO_CA_PASSPHRASE: 'secret' }
  t.match(await certs(['init', '--passphrase', '--dir', dir], secret), { status: 0, stdout: /under a passphrase/ })
  t.match(readFileSync(join(dir, 'ca/ca.key'), 'utf8'), /ENCRYPTED/)
  t.match(await certs(['client', 'ann', '--dir', dir]), { status: 1, stderr: /Give it in the environment as MOSQUITERO_CA_PASSPHRASE/ })
  t.match(await certs(['client', 'ann', '--dir', dir], secret), { status: 0 })
  t.match(await certs(['init', '--passphrase', '--dir', join(dir, 'other')]), { status: 1, stderr: /Nobody is there to ask/ })
})

t.test('a list of a folder that is not there is no empty list', async t => {
  const { run } = await made(t)
  t.match(await run('list'), { status: 0 })
  for (const more of [[], ['--expiring', '30'], ['--json']]) {
    t.match(await certs(['list', ...more, '--dir', join(t.testdirName, 'typo')]), {
      status: 1,
      stdout: '',
      stderr: /^Error: Unable to read .*\/ca: No such file or directory\.\n$/
    })
  }
})

t.test('revoked by name, serial or file, and the list says so', async t => {
  const { at, run } = await made(t)
  for (const name of ['ann', 'bob', 'eve']) await run('client', name)
  await run('renew', 'ann')
  const serial = openssl('x509', '-in', at('certs/client/bob.crt'), '-noout', '-serial').trim().slice(7)
  t.match(await run('revoke', 'ann', '--reason', 'keyCompromise'), {
    status: 0,
    stdout: /(Revoked: .*\/CN=ann\n){2}Next: mosquitero certs crl --dir /
  })
  t.match(await run('revoke', serial), { status: 0, stdout: `Revoked: ${serial} /CN=bob` })
  t.match(await run('revoke', serial), { status: 0, stdout: /is revoked already/ })
  t.match(await run('revoke', at('certs/client/eve.crt')), { status: 0, stdout: /CN=eve/ })
  t.match(await run('crl', '--days', '7'), { status: 0, stdout: /revocation list, 4 certificates/ })
  const crl = at('certs/ca/ca.crl')
  t.match(openssl('crl', '-in', crl, '-noout', '-text', '-CAfile', at('certs/ca/ca.crt')), serial)
  const refuse = (file: string) => openssl('verify', '-crl_check', '-CRLfile', crl, '-CAfile', at('certs/ca/ca.crt'), file)
  for (const name of ['ann', 'bob', 'eve']) t.throws(() => refuse(at(`certs/client/${name}.crt`)), /certificate revoked/)
  await run('client', 'dan')
  t.match(await run('crl'), { status: 0 }, 'the list is made anew')
  t.match(refuse(at('certs/client/dan.crt')), /OK/)
  t.match(await run('list', '--revoked'), { stdout: /^(.*revoked.*\n){4}$/ })
  const [first] = (await run('list', '--json')).stdout.split('\n')
  t.match(JSON.parse(first ?? ''), {
    commonName: 'ann',
    state: 'revoked',
    revoked: { reason: 'keyCompromise' },
    details: { profile: 'client' }
  })
})

t.test('a CA made by openssl is adopted, with what it signed before', async t => {
  const dir = t.testdir({ certs: { ca: {} } })
  const at = (name: string) => join(dir, name)
  opensslCa({ cert: at('certs/ca/ca.crt'), key: at('certs/ca/ca.key') }, '/C=ES/O=Casa/CN=Casa', 'secret')
  const csr = request(dir, 'old')
  const ca = ['-CA', at('certs/ca/ca.crt'), '-CAkey', at('certs/ca/ca.key'), '-passin', 'pass:secret', '-CAcreateserial']
  openssl('x509', '-req', '-in', csr, ...ca, '-out', at('old.crt'), '-days', '100')
  const run = (...args: string[]) => certs([...args, '--dir', at('certs')], { MOSQUITERO_CA_PASSPHRASE: 'secret' })
  t.match(await run('renew', at('old.crt'), '--as', 'client', '--days', '9'), { status: 0 })
  t.match(await run('revoke', join(dir, readdirSync(dir).find(name => /^old-.*crt$/.test(name)) ?? '')), { status: 0, stdout: /CN=root/ })
  t.match(await run('crl'), { status: 0, stdout: /1 certificate,/ })
  openssl('verify', '-crl_check', '-CRLfile', at('certs/ca/ca.crl'), '-CAfile', at('certs/ca/ca.crt'), at('old.crt'))
})

t.test('certs expiring: what a configuration names and ends soon', async t => {
  const { dir, at, run } = await made(t)
  await run('server', 'localhost', '--days', '20')
  await run('crl', '--days', '3')
  mkdirSync(at('path'))
  writeFileSync(at('path/0123abcd.0'), readFileSync(at('certs/ca/ca.crt')))
  const tls = `certfile ${dir}/certs/broker/broker.crt\nkeyfile ${dir}/certs/broker/broker.key\ncafile ${dir}/certs/ca/ca.crt\ncapath ${dir}/path\n`
  writeFileSync(at('m.conf'), `listener 1\n${tls}crlfile ${dir}/certs/ca/ca.crl\nrequire_certificate true\nlistener 2\n${tls}`)
  const expiring = (...args: string[]) => certs(['expiring', '-c', at('m.conf'), ...args])
  t.match(await expiring(), {
    status: 1,
    stderr: '',
    stdout:
      /^.*ca\.crl \(crlfile\): revocation list of CN=Casa CA ends on .*, in 2 days\n.*broker\.crt \(certfile\): CN=localhost ends on .*, in 19 days\n$/
  })
  t.same(await expiring('--days', '2'), { status: 0, stdout: '', stderr: '' })
  const all = await expiring('--days', '9999', '--json')
  t.same(
    all.stdout
      .trim()
      .split('\n')
      .map(line => JSON.parse(line).option),
    ['crlfile', 'certfile', 'cafile', 'capath']
  )
  writeFileSync(at('certs/broker/broker.crt'), 'x')
  t.match(await expiring(), { status: 1, stdout: /crlfile/, stderr: /^Error: .*broker\.crt holds no certificate/ })
  const ca = `${dir}/certs/ca/ca`
  writeFileSync(
    at('own.conf'),
    `#!enrolment_ca ${ca}.crt ${ca}.key\n#!tls_dns_list localhost\npersistence_location ${dir}\nlistener 8883\n`
  )
  t.same(await certs(['expiring', '-c', at('own.conf')]), { status: 0, stdout: '', stderr: '' }, 'what a start will make is not missing')
  t.match(await certs(['expiring', '-c', at('own.conf'), '--days', '9999']), {
    status: 1,
    stdout: /ca\.crt \(#!enrolment_ca\): CN=Casa CA/
  })
  t.match(await certs(['expiring', '-c', at('none')]), { status: 1, stderr: /Unable to open config file/ })
  t.match(await certs(['expiring']), { status: 2 })
})

t.test('show says what is wrong with a file and its neighbours', async t => {
  const { at, run } = await made(t)
  await run('client', 'ann')
  await run('client', 'bob')
  const key = at('certs/client/ann.key')
  chmodSync(key, 0o644)
  t.match(await certs(['show', key]), { status: 0, stdout: /Everybody on this machine can read it: chmod go-r/ })
  chmodSync(key, 0o600)
  const clean = await certs(['show', key])
  t.notMatch(clean.stdout, /chmod/)
  t.notMatch(clean.stdout, readFileSync(key, 'utf8').split('\n')[1] ?? '-', 'never its value')
  writeFileSync(key, readFileSync(at('certs/client/bob.key')))
  t.match(await certs(['show', at('certs/client/ann.crt')]), { stdout: /The private key shown does not belong to it/ })
})

t.test('show --as says what is wrong with a certificate for its use', async t => {
  const { dir, at, run } = await made(t)
  await run('server', 'localhost')
  await run('client', 'ann')
  const notes = async (...args: string[]) => (await certs(['show', ...args])).stdout.split('\n').filter(line => line.startsWith('  ! '))
  const [ca, broker, ann] = [at('certs/ca/ca.crt'), at('certs/broker/broker.crt'), at('certs/client/ann.crt')]
  t.match(await notes(broker, '--as', 'client'), [/leaves TLS clients out: a broker refuses it/])
  t.match(await notes(ann, '--as', 'server'), [/leaves TLS servers out: clients refuse it/])
  t.match(await notes(ann, '--as', 'ca'), [/It is no CA/])
  t.match(await notes(ca, '--as', 'server'), [/It is a CA certificate/])
  for (const [file, use] of [
    [ca, 'ca'],
    [broker, 'server'],
    [ann, 'client']
  ] as const)
    t.same(await notes(file, '--as', use), [], use)
  openssl(
    'req',
    '-new',
    '-x509',
    '-key',
    at('certs/client/ann.key'),
    '-out',
    at('same.crt'),
    '-subj',
    '/CN=Casa CA',
    '-addext',
    'basicConstraints=CA:FALSE'
  )
  t.match((await notes(ca, at('same.crt'))).join('\n'), /It has the same name as a CA shown/)
  const below = ['-CA', at('same.crt'), '-CAkey', at('certs/client/ann.key'), '-CAcreateserial']
  openssl('x509', '-req', '-in', request(dir, 'x'), ...below, '-out', at('x.crt'))
  t.match((await notes(at('same.crt'), at('x.crt'))).join('\n'), /It signed a certificate shown, but is no CA/)
  t.match(await certs(['show', ca, '--as', 'x']), { status: 2 })
})

t.test('show HOST:PORT tells what a server presents', async t => {
  const { at, run } = await made(t)
  await run('server', 'broker.example.org', '127.0.0.1')
  await run('client', 'ann')
  const read = (name: string) => readFileSync(at(`certs/${name}`))
  const tls = { cert: read('broker/broker.crt'), key: read('broker/broker.key'), ca: read('ca/ca.crt') }
  for (const maxVersion of ['TLSv1.2', 'TLSv1.3'] as const) {
    const server = createServer({ ...tls, maxVersion, requestCert: true, rejectUnauthorized: true }, socket => socket.end())
    server.on('tlsClientError', () => {})
    await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
    t.teardown(() => server.close())
    const address = server.address()
    const port = typeof address === 'object' ? address?.port : 0
    const bare = await certs(['show', `127.0.0.1:${port}`])
    t.match(bare.stdout, /CN=broker\.example\.org[\s\S]*it may want a client certificate/, maxVersion)
    t.notMatch(bare.stdout, /It is not for/)
    const pair = ['--cert', at('certs/client/ann.crt'), '--key', at('certs/client/ann.key')]
    const named = await certs(['show', `localhost:${port}`, ...pair])
    t.match(named, { status: 0, stderr: '', stdout: new RegExp(`speaks ${maxVersion}[\\s\\S]*It is not for localhost`) })
    t.notMatch(named.stdout, /client certificate/)
  }
  t.match(await certs(['show', 'localhost:1']), { status: 1, stdout: '', stderr: /No certificate to be had from localhost:1: / })
})

t.test('a folder that can never be is refused at once', async t => {
  const { dir } = await made(t)
  const command = start(
    t,
    process.execPath,
    [join(process.cwd(), 'dist/cli/main.js'), 'certs', 'client', 'ann', '--out', '/proc/x/y/ann'],
    { cwd: dir }
  )
  t.match(await command.ended, { status: 1, stderr: 'Error: Unable to make the folder /proc/x/y: No such file or directory.\n' })
})
