import { X509Certificate } from 'node:crypto'
import { mkdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { hostname } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { ensureDevelopmentCerts, localNames } from '../../dist/pki/development.js'
import { openssl, opensslCa } from '../helpers/openssl.js'
import { type CertificateFiles, testPki } from '../helpers/pki.js'

const files = ['ca/ca.crt', 'ca/ca.key', 'broker/broker.crt', 'broker/broker.key', 'client/client.crt', 'client/client.key']

/** A folder as `npm start` leaves it, but with these certificates. */
function place(dir: string, folder: string, { cert, key }: Pick<CertificateFiles, 'cert' | 'key'>): void {
  mkdirSync(join(dir, folder), { recursive: true })
  renameSync(cert, join(dir, folder, `${folder}.crt`))
  renameSync(key, join(dir, folder, `${folder}.key`))
}

t.test('an empty folder gets a CA, a broker and a client that fit, and keys for the owner alone', async t => {
  const dir = join(t.testdir(), 'certs')
  t.same(await ensureDevelopmentCerts(dir), { made: files.map(file => join(dir, file)), problems: [] })
  const path = (file: string) => join(dir, file)
  openssl(
    'verify',
    '-x509_strict',
    '-purpose',
    'sslserver',
    '-verify_hostname',
    'localhost',
    '-CAfile',
    path('ca/ca.crt'),
    path('broker/broker.crt')
  )
  openssl(
    'verify',
    '-x509_strict',
    '-purpose',
    'sslserver',
    '-verify_ip',
    '127.0.0.1',
    '-CAfile',
    path('ca/ca.crt'),
    path('broker/broker.crt')
  )
  openssl('verify', '-x509_strict', '-purpose', 'sslserver', '-verify_ip', '::1', '-CAfile', path('ca/ca.crt'), path('broker/broker.crt'))
  openssl('verify', '-x509_strict', '-purpose', 'sslclient', '-CAfile', path('ca/ca.crt'), path('client/client.crt'))
  t.equal(new X509Certificate(readFileSync(path('client/client.crt'))).subject, 'CN=client')
  t.ok(new X509Certificate(readFileSync(path('broker/broker.crt'))).checkHost(hostname()), 'the host name is in it')
  for (const file of files) if (file.endsWith('.key')) t.equal(statSync(path(file)).mode & 0o777, 0o600, file)
})

t.test('a second call makes nothing and finds nothing wrong', async t => {
  const dir = t.testdir()
  await ensureDevelopmentCerts(dir)
  const before = files.map(file => readFileSync(join(dir, file), 'utf8'))
  t.same(await ensureDevelopmentCerts(dir), { made: [], problems: [] })
  t.same(
    files.map(file => readFileSync(join(dir, file), 'utf8')),
    before
  )
})

t.test('only what is missing is made, from the CA that is there', async t => {
  const dir = t.testdir()
  await ensureDevelopmentCerts(dir)
  rmSync(join(dir, 'client'), { recursive: true })
  t.same(await ensureDevelopmentCerts(dir), { made: [join(dir, 'client/client.crt'), join(dir, 'client/client.key')], problems: [] })
})

t.test('a CA made by openssl under a passphrase signs the rest', async t => {
  const dir = t.testdir({ ca: {} })
  const [crt, key] = [join(dir, 'ca/ca.crt'), join(dir, 'ca/ca.key')]
  opensslCa({ cert: crt, key }, '/CN=Casa', 'secret')
  await t.rejects(ensureDevelopmentCerts(dir), { code: 'ERR_TLS_KEY_ENCRYPTED', message: `${key} is protected by a passphrase.` })
  const { made, problems } = await ensureDevelopmentCerts(dir, { passphrase: 'secret' })
  t.equal(made.length, 4)
  t.same(problems, [])
  openssl('verify', '-CAfile', crt, join(dir, 'broker/broker.crt'))
})

t.test('a CA that is gone, or half a pair, is told and nothing is made', async t => {
  const dir = t.testdir()
  await ensureDevelopmentCerts(dir)
  rmSync(join(dir, 'ca'), { recursive: true })
  await t.rejects(ensureDevelopmentCerts(dir), { code: 'ERR_PKI_INPUT', message: /ca\/ca\.crt is missing, but .*broker\.crt exists/ })
  t.throws(() => statSync(join(dir, 'ca')), { code: 'ENOENT' })

  const half = t.testdir()
  await ensureDevelopmentCerts(half)
  for (const file of ['broker/broker.crt', 'client/client.key', 'ca/ca.crt']) {
    const path = join(half, file)
    const text = readFileSync(path, 'utf8')
    rmSync(path)
    await t.rejects(ensureDevelopmentCerts(half), { code: 'ERR_PKI_INPUT', message: new RegExp(`exists without ${path}`) }, file)
    writeFileSync(path, text)
  }
  // The key of the CA may live elsewhere, as long as nothing is to be signed.
  rmSync(join(half, 'ca/ca.key'))
  t.same(await ensureDevelopmentCerts(half), { made: [], problems: [] })
  rmSync(join(half, 'client'), { recursive: true })
  await t.rejects(ensureDevelopmentCerts(half), { code: 'ERR_PKI_FILE', message: /ca\.key: No such file/ })
})

t.test('certificates that have ended, or that another CA signed, are told and kept', async t => {
  const pki = await testPki(t)
  const dir = t.testdir()
  const other = await pki.authority('Other CA')
  place(dir, 'broker', await pki.server({ ca: other }))
  place(dir, 'client', await pki.client('client', { expired: true }))
  place(dir, 'ca', { cert: pki.ca, key: pki.root.key })
  const { made, problems } = await ensureDevelopmentCerts(dir)
  t.same(made, [])
  t.match(problems, [/broker\.crt was not signed by .*ca\.crt, but by CN=Other CA/, /client\.crt expired on /])
  t.equal(problems.length, 2)
})

t.test('a broker certificate of an intermediate CA that comes with its chain is fine', async t => {
  const pki = await testPki(t)
  const dir = t.testdir()
  place(dir, 'broker', await pki.server({ ca: await pki.authority('Plant CA', { issuer: pki.root }) }))
  place(dir, 'client', await pki.client('client'))
  place(dir, 'ca', { cert: pki.ca, key: pki.root.key })
  t.same(await ensureDevelopmentCerts(dir), { made: [], problems: [] })
})

t.test('a CA that has ended, one name for all, and damage are told', async t => {
  const pki = await testPki(t)
  const dir = t.testdir()
  place(dir, 'broker', await pki.server({ subject: [['CN', 'Test CA']] }))
  place(dir, 'client', await pki.client('client', { notYetValid: true }))
  place(dir, 'ca', { cert: pki.ca, key: pki.root.key })
  t.match((await ensureDevelopmentCerts(dir)).problems, [/broker\.crt and its CA have the same name/, /client\.crt is not valid before/])
  t.match((await ensureDevelopmentCerts(dir, { now: new Date(Date.now() + 6e9) })).problems[0], /ca\.crt expired on/)
  writeFileSync(join(dir, 'client/client.crt'), 'cats')
  writeFileSync(join(dir, 'ca/ca.crt'), 'dogs')
  t.match((await ensureDevelopmentCerts(dir)).problems, [/ca\.crt holds no certificate/, /client\.crt holds no certificate/])
})

t.test('the names of this machine are each there once', async t => {
  const names = localNames().map(({ value }) => value)
  t.same(names.slice(0, 3), ['localhost', '127.0.0.1', '::1'])
  t.equal(new Set(names).size, names.length)
})
