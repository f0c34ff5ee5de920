import { mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { FileReader } from '../../dist/files.js'
import { readTlsMaterial } from '../../dist/net/tls.js'
import { testPki } from '../helpers/pki.js'
import { run, tlsConfig } from '../helpers/tls-listener.js'

t.test('each unusable file is reported with the line that names it, its reason, and all at once', async t => {
  const pki = await testPki(t)
  const { cert, key } = await pki.server()
  const { key: otherKey } = await pki.client('other')
  const path = (name: string): string => join(pki.dir, name)
  writeFileSync(path('junk'), 'junk')
  writeFileSync(path('broken.crt'), '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n')
  writeFileSync(path('cut.crt'), readFileSync(cert, 'utf8') + readFileSync(cert, 'utf8').slice(0, 200))
  writeFileSync(path('broken.crl'), '-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n')
  writeFileSync(path('broken.key'), '-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n')
  await run('openssl', ['x509', '-in', cert, '-outform', 'DER', '-out', path('der.crt')])
  await run('openssl', ['pkey', '-in', key, '-aes256', '-passout', 'pass:x', '-out', path('pkcs8.key')])
  await run('openssl', ['ec', '-in', key, '-aes256', '-passout', 'pass:x', '-out', path('traditional.key')])
  const missing = path('missing')
  const namesake = await pki.authority('Test CA', { file: 'namesake' })
  const forged = await pki.crl({ ca: namesake, file: path('forged.crl') })
  const cases: [what: string, files: Parameters<typeof tlsConfig>[0], code: string, message: RegExp, line: number][] = [
    [
      'certfile missing',
      { cert: missing, key },
      'ERR_TLS_CERTIFICATE',
      /^Unable to load server certificate ".*missing"\. Check certfile\. No such file or directory\.$/,
      2
    ],
    ['certfile is a folder', { cert: pki.dir, key }, 'ERR_TLS_CERTIFICATE', /Check certfile\. Is a directory\.$/, 2],
    ['certfile is not PEM', { cert: path('junk'), key }, 'ERR_TLS_CERTIFICATE', /Check certfile\. There is no PEM certificate in it\.$/, 2],
    ['certfile is DER', { cert: path('der.crt'), key }, 'ERR_TLS_CERTIFICATE', /openssl x509 -inform DER/, 2],
    // As a file looks while it is written: what is there already must not count as all there is.
    [
      'certfile is cut off',
      { cert: path('cut.crt'), key },
      'ERR_TLS_CERTIFICATE',
      /It is cut off: the END line of a CERTIFICATE is missing\.$/,
      2
    ],
    [
      'cafile is cut off',
      { cert, key, cafile: path('cut.crt') },
      'ERR_TLS_CA',
      /It is cut off: the END line of a CERTIFICATE is missing\.$/,
      4
    ],
    ['certfile is broken', { cert: path('broken.crt'), key }, 'ERR_TLS_CERTIFICATE', /Check certfile\. .+\.$/, 2],
    [
      'keyfile missing',
      { cert, key: missing },
      'ERR_TLS_KEY',
      /^Unable to load server key file ".*missing"\. Check keyfile\. No such file or directory\.$/,
      3
    ],
    ['keyfile is a certificate', { cert, key: cert }, 'ERR_TLS_KEY', /There is no PEM private key in it\.$/, 3],
    ['keyfile is broken', { cert, key: path('broken.key') }, 'ERR_TLS_KEY', /Check keyfile\. .+\.$/, 3],
    ['keyfile is encrypted', { cert, key: path('pkcs8.key') }, 'ERR_TLS_KEY_ENCRYPTED', /It is encrypted/, 3],
    ['keyfile is encrypted, old format', { cert, key: path('traditional.key') }, 'ERR_TLS_KEY_ENCRYPTED', /It is encrypted/, 3],
    [
      'keyfile of another certificate',
      { cert, key: otherKey },
      'ERR_TLS_KEY_MISMATCH',
      /^Server certificate\/key are inconsistent\. keyfile ".*other\.key" does not belong to certfile ".*server\.crt"\.$/,
      3
    ],
    [
      'cafile missing',
      { cert, key, cafile: missing },
      'ERR_TLS_CA',
      /^Unable to load CA certificates\. Check cafile ".*missing"\. No such file or directory\.$/,
      4
    ],
    ['cafile without a certificate', { cert, key, cafile: key }, 'ERR_TLS_CA', /There is no PEM certificate in it\.$/, 4],
    [
      'capath missing',
      { cert, key, capath: missing },
      'ERR_TLS_CA',
      /^Unable to load CA certificates\. Check capath ".*missing"\. No such file or directory\.$/,
      5
    ],
    [
      'crlfile missing',
      { cert, key, cafile: pki.ca, crlfile: missing },
      'ERR_TLS_CRL',
      /^Unable to load certificate revocation file ".*missing"\. Check crlfile\. No such file or directory\.$/,
      6
    ],
    ['crlfile without a list', { cert, key, cafile: pki.ca, crlfile: cert }, 'ERR_TLS_CRL', /There is no PEM revocation list in it\.$/, 6],
    [
      'crlfile is broken',
      { cert, key, cafile: pki.ca, crlfile: path('broken.crl') },
      'ERR_TLS_CRL',
      /Revocation list 1 cannot be used: /,
      6
    ],
    [
      'crlfile of a CA of the same name',
      { cert, key, cafile: pki.ca, crlfile: forged },
      'ERR_TLS_CRL',
      /The CRL of CN=Test CA is not signed by that CA\.$/,
      6
    ]
  ]
  for (const [what, files, code, message, line] of cases) {
    const { material, problems } = await readTlsMaterial(tlsConfig(files))
    t.equal(material, undefined, what)
    const errors = problems.filter(({ severity }) => severity === 'error')
    t.match(errors, [{ code, message, at: { file: 'mosquitto.conf', line } }], what)
    t.equal(errors.length, 1, what)
  }

  const { problems } = await readTlsMaterial(tlsConfig({ cert: missing, key: missing, cafile: missing, crlfile: missing }))
  t.same(
    problems.map(({ at }) => at?.line),
    [2, 3, 4, 6],
    'everything wrong at once'
  )
  t.notMatch(JSON.stringify(problems), /PRIVATE KEY-----/)
})

t.test('cipher lists that OpenSSL does not know are reported with their line', async t => {
  const pki = await testPki(t)
  const files = { ...(await pki.server()), cafile: pki.ca }
  const at = (value: string, line: number) => ({ value, at: { file: 'mosquitto.conf', line } })
  const problemsOf = async (rest: Parameters<typeof tlsConfig>[1]) => (await readTlsMaterial(tlsConfig(files, rest))).problems
  t.match(await problemsOf({ ciphers: at('FOO', 7) }), [
    { code: 'ERR_TLS_CIPHERS', message: 'Unable to set TLS ciphers. Check cipher list "FOO".', at: { line: 7 } }
  ])
  t.match(await problemsOf({ ciphersTls13: at('FOO', 8) }), [
    { code: 'ERR_TLS_CIPHERS', message: 'Unable to set TLS 1.3 ciphersuites. Check cipher_tls13 list "FOO".', at: { line: 8 } }
  ])
  t.match(await problemsOf({ ciphersTls13: at('TLS_FOO', 8) }), [{ code: 'ERR_TLS_CIPHERS', at: { line: 8 } }])
  t.match(
    await problemsOf({ ciphers: at('TLS_AES_128_GCM_SHA256', 7) }),
    [{ code: 'ERR_TLS_CIPHERS', at: { line: 7 } }],
    'no list for TLS 1.2'
  )
  t.equal((await problemsOf({ ciphers: at('FOO', 7), ciphersTls13: at('FOO', 8) })).length, 2)
  for (const rest of [
    { ciphers: at('ECDHE-ECDSA-AES128-GCM-SHA256', 7) },
    { ciphers: at('ECDHE+AESGCM:!aNULL:@STRENGTH', 7) },
    { ciphersTls13: at('TLS_CHACHA20_POLY1305_SHA256', 8) },
    { minVersion: 'TLSv1.3' as const }
  ]) {
    t.ok((await readTlsMaterial(tlsConfig(files, rest))).material, JSON.stringify(rest))
  }
})

t.test('what works but will surprise is a warning', async t => {
  const pki = await testPki(t)
  const warningsOf = async (...args: Parameters<typeof tlsConfig>): Promise<string[]> => {
    const { material, problems } = await readTlsMaterial(tlsConfig(...args))
    t.ok(material)
    t.same(
      problems.filter(({ severity }) => severity !== 'warning'),
      []
    )
    return problems.map(({ message }) => message)
  }
  const good = await pki.server()
  const cafile = pki.ca
  t.same(await warningsOf({ ...good, cafile }), [])
  t.match(await warningsOf({ ...(await pki.server({ file: 'old', expired: true })), cafile }), [
    /old\.crt" expired on \d{4}-\d\d-\d\d: clients will refuse it/
  ])
  t.match(await warningsOf({ ...(await pki.server({ file: 'new', notYetValid: true })), cafile }), [/new\.crt" is not valid before/])
  t.match(await warningsOf({ ...(await pki.server({ file: 'bare', names: [] })), cafile }), [/bare\.crt" has no subjectAltName/])
  const same = await pki.server({ file: 'same', subject: [['CN', 'Test CA']], v1: true })
  t.match((await warningsOf({ ...same, cafile })).join('\n'), /same\.crt" has the same subject as its CA \(CN=Test CA\)/)
  t.match(await warningsOf(good, { requireCertificate: true }), [
    'require_certificate is true, and there is no CA: every client will be refused.'
  ])
  t.match(await warningsOf({ ...good, cafile, crlfile: await pki.crl({ expired: true }) }), [
    /The CRL of CN=Test CA .* expired on .*: every client of that CA will be refused/
  ])
  const other = await pki.authority('Other')
  t.match(await warningsOf({ ...good, cafile, crlfile: await pki.crl({ ca: other }) }), [/The CRL of CN=Other .* belongs to no CA/])
  mkdirSync(join(pki.dir, 'empty'))
  t.match(await warningsOf({ ...good, capath: join(pki.dir, 'empty') }), [
    /no certificate with a hashed name/,
    /every client will be refused/
  ])
})

t.test('capath is read as openssl rehash leaves it, links and all', async t => {
  const pki = await testPki(t)
  const folder = join(pki.dir, 'cas')
  mkdirSync(folder)
  symlinkSync(pki.ca, join(folder, 'root.pem'))
  writeFileSync(join(folder, 'second.pem'), readFileSync((await pki.authority('Second')).cert))
  t.equal((await run('openssl', ['rehash', folder])).status, 0)
  t.equal(readdirSync(folder).length, 4)
  const { material, problems } = await readTlsMaterial(tlsConfig({ ...(await pki.server()), capath: folder }))
  t.same(problems, [])
  t.same(material?.trust.certificates.map(({ x509 }) => x509.subject).sort(), ['CN=Second', 'CN=Test CA'])

  writeFileSync(join(folder, '00000000.0'), 'junk')
  const second = await readTlsMaterial(tlsConfig({ ...(await pki.server()), capath: folder }))
  t.equal(second.material?.trust.certificates.length, 2)
  t.match(second.problems, [{ severity: 'warning', message: /00000000\.0" is left out\. There is no PEM certificate in it\./ }])
})

t.test('material is the same exactly when its files and options are', async t => {
  const pki = await testPki(t)
  const server = await pki.server()
  const crlfile = await pki.crl()
  const digest = async (...args: Parameters<typeof tlsConfig>): Promise<string | undefined> =>
    (await readTlsMaterial(tlsConfig(...args))).material?.digest
  const files = { ...server, cafile: pki.ca, crlfile }
  const first = await digest(files)
  t.type(first, 'string')
  t.equal(await digest(files), first)
  const changes = new Set([
    first,
    await digest({ ...server, cafile: pki.ca }),
    await digest({ ...server, cafile: (await pki.authority('Other')).cert }),
    await digest(files, { requireCertificate: false }),
    await digest(files, { minVersion: 'TLSv1.3' }),
    await digest({ ...files, ...(await pki.server({ file: 'renewed' })) })
  ])
  await pki.revoke(await pki.client('bad'))
  changes.add(await digest(files))
  t.equal(changes.size, 7)
})

t.test('listeners with the same crlfile and the same CAs share its lists; with other CAs each has its own', async t => {
  const pki = await testPki(t)
  const server = await pki.server()
  const crlfile = await pki.crl()
  const other = await pki.authority('Other')
  const files = new FileReader()
  const read = async (cafile: string) => (await readTlsMaterial(tlsConfig({ ...server, cafile, crlfile }), new Date(), files)).material
  const [one, two, third] = [await read(pki.ca), await read(pki.ca), await read(other.cert)]
  t.ok(one?.revocation?.[0])
  t.equal(two?.revocation?.[0], one?.revocation?.[0])
  t.not(third?.revocation?.[0], one?.revocation?.[0])
})
