import { X509Certificate } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { createAuthority, issueClient, issueServer, parseAuthority } from '../../dist/pki/authority.js'
import { parseAlternativeName } from '../../dist/pki/names.js'
import { openssl, opensslCa } from '../helpers/openssl.js'
import { testPki } from '../helpers/pki.js'

const day = 86_400_000

t.test('openssl verifies what the CA signs, for its purpose alone', async t => {
  const pki = await testPki(t)
  const server = await pki.server()
  const client = await pki.client('press-7')
  openssl('verify', '-x509_strict', '-purpose', 'sslserver', '-verify_hostname', 'localhost', '-CAfile', pki.ca, server.cert)
  openssl('verify', '-x509_strict', '-purpose', 'sslserver', '-verify_ip', '::1', '-CAfile', pki.ca, server.cert)
  openssl('verify', '-x509_strict', '-purpose', 'sslclient', '-CAfile', pki.ca, client.cert)
  t.throws(() => openssl('verify', '-purpose', 'sslclient', '-CAfile', pki.ca, server.cert))
  t.throws(() => openssl('verify', '-purpose', 'sslserver', '-CAfile', pki.ca, client.cert))
})

t.test('a certificate without extensions is X.509 v1 and still verifies', async t => {
  const pki = await testPki(t)
  const client = await pki.client('old', { v1: true })
  openssl('verify', '-CAfile', pki.ca, client.cert)
  t.match(openssl('x509', '-in', client.cert, '-noout', '-text'), /Version: 1 \(0x0\)/)
})

t.test('a chain over an intermediate CA verifies', async t => {
  const pki = await testPki(t)
  const plant = await pki.authority('Plant CA', { issuer: pki.root })
  const client = await pki.client('press-8', { ca: plant })
  t.match(openssl('verify', '-x509_strict', '-CAfile', pki.ca, '-untrusted', client.cert, client.cert), /OK/)
})

t.test('openssl reads a CRL and refuses what it lists', async t => {
  const pki = await testPki(t)
  const client = await pki.client('lost')
  const other = await pki.client('kept')
  const crl = await pki.revoke(client)
  openssl('verify', '-x509_strict', '-crl_check', '-CRLfile', crl, '-CAfile', pki.ca, other.cert)
  t.throws(() => openssl('verify', '-crl_check', '-CRLfile', crl, '-CAfile', pki.ca, client.cert), /certificate revoked/)
  t.match(openssl('crl', '-in', crl, '-noout', '-text', '-CAfile', pki.ca), /X509v3 CRL Number[\s\S]*Key Compromise/)
  const expired = await pki.crl({ expired: true })
  t.throws(() => openssl('verify', '-crl_check', '-CRLfile', expired, '-CAfile', pki.ca, other.cert), /CRL has expired/)
})

t.test('the CRL of a CA that revoked nothing is valid too', async t => {
  const pki = await testPki(t)
  const client = await pki.client('kept')
  openssl('verify', '-x509_strict', '-crl_check', '-CRLfile', await pki.crl(), '-CAfile', pki.ca, client.cert)
})

t.test('openssl reads the extensions, names and dates that the profile promises', async t => {
  const dir = t.testdir()
  const now = new Date('2026-03-01T12:00:00Z')
  const ca = await createAuthority({ commonName: 'Plant CA', now })
  const authority = await parseAuthority(ca)
  const names = ['broker.example.org', '*.example.org', '192.168.5.1', 'fe80::1'].map(parseAlternativeName)
  const text = (certificate: string) => {
    writeFileSync(join(dir, 'x.crt'), certificate)
    return openssl('x509', '-in', join(dir, 'x.crt'), '-noout', '-text')
  }

  const root = text(ca.certificate)
  t.match(root, /Basic Constraints: critical\n\s+CA:TRUE\n/)
  t.match(root, /Key Usage: critical\n\s+Certificate Sign, CRL Sign\n/)
  t.match(root, /Subject Key Identifier/)
  t.match(root, /Not Before: Mar\s+1 11:00:00 2026 GMT\s+Not After : Feb 27 11:00:00 2036 GMT/)

  const server = text((await issueServer(authority, { names, now })).certificate)
  t.match(server, /Issuer: CN = Plant CA\n/)
  t.match(server, /Subject: CN = broker.example.org\n/)
  t.match(server, /CA:FALSE/)
  t.match(server, /Key Usage: critical\n\s+Digital Signature\n/)
  t.match(server, /Extended Key Usage: \n\s+TLS Web Server Authentication\n/)
  t.match(server, /DNS:broker.example.org, DNS:\*.example.org, IP Address:192.168.5.1, IP Address:FE80:0:0:0:0:0:0:1\n/)
  t.match(server, /Not Before: Mar\s+1 11:00:00 2026 GMT\s+Not After : Jun\s+3 11:00:00 2028 GMT/, '825 days')
  const identifier = /Subject Key Identifier: \n\s+([0-9A-F:]+)/.exec(root)?.[1] ?? 'none'
  t.ok(server.includes(`Authority Key Identifier: \n                ${identifier}`), 'the leaf names its CA by key')

  const client = text((await issueClient(authority, { commonName: 'press-7', days: 3, now, key: 'rsa:2048' })).certificate)
  t.match(client, /Extended Key Usage: \n\s+TLS Web Client Authentication\n/)
  t.match(client, /Public-Key: \(2048 bit\)/)
  t.match(client, /Key Usage: critical\n\s+Digital Signature, Key Encipherment\n/)
  t.match(client, /Not After : Mar\s+4 11:00:00 2026 GMT/)
  t.notMatch(client, /Alternative Name/)
})

t.test('serial numbers are positive, 128 bit wide and differ', async t => {
  const authority = await parseAuthority(await createAuthority({ commonName: 'ca' }))
  const serials = new Set<string>()
  let high = 0
  for (let n = 0; n < 24; n++) {
    const { certificate, serial } = await issueClient(authority, { commonName: `c${n}` })
    t.equal(new X509Certificate(certificate).serialNumber.padStart(32, '0'), serial)
    if (serial >= '8') high++
    serials.add(serial)
  }
  t.equal(serials.size, 24)
  t.ok(high > 0, 'also those whose first bit is set, which DER would read as negative')
})

t.test('a RSA authority signs', async t => {
  const dir = t.testdir()
  const ca = await createAuthority({ commonName: 'RSA CA', key: 'rsa:2048' })
  const server = await issueServer(await parseAuthority(ca), { names: [{ type: 'dns', value: 'b' }], key: 'rsa:2048' })
  writeFileSync(join(dir, 'ca'), ca.certificate)
  writeFileSync(join(dir, 'b'), server.certificate)
  openssl('verify', '-x509_strict', '-purpose', 'sslserver', '-CAfile', join(dir, 'ca'), join(dir, 'b'))
  t.match(openssl('x509', '-in', join(dir, 'b'), '-noout', '-text'), /sha256WithRSAEncryption/)
})

const secret = ['-passout', 'pass:secret']

// Made by OpenSSL as people do; `-subj` and `-passout` answer its questions.
const adopted: readonly (readonly [name: string, make: (path: (file: string) => string) => void, passphrase?: string])[] = [
  ['RSA, passphrase', p => opensslCa({ cert: p('ca.crt'), key: p('ca.key') }, '/C=ES/O=Casa/CN=ca', 'secret'), 'secret'],
  [
    'RSA, open',
    p => openssl('req', '-new', '-x509', '-extensions', 'v3_ca', '-nodes', '-keyout', p('ca.key'), '-out', p('ca.crt'), '-subj', '/CN=ca')
  ],
  [
    'RSA PRIVATE KEY',
    p => {
      openssl('genrsa', '-traditional', '-out', p('ca.key'), '2048')
      openssl('req', '-new', '-x509', '-extensions', 'v3_ca', '-key', p('ca.key'), '-out', p('ca.crt'), '-subj', '/CN=ca')
    }
  ],
  [
    'RSA PRIVATE KEY, passphrase',
    p => {
      openssl('genrsa', '-traditional', '-aes256', ...secret, '-out', p('ca.key'), '2048')
      openssl(
        'req',
        '-new',
        '-x509',
        '-extensions',
        'v3_ca',
        '-key',
        p('ca.key'),
        '-passin',
        'pass:secret',
        '-out',
        p('ca.crt'),
        '-subj',
        '/CN=ca'
      )
    },
    'secret'
  ],
  ...(['prime256v1', 'secp384r1', 'secp521r1'] as const).map(
    curve =>
      [
        `EC PARAMETERS and EC PRIVATE KEY, ${curve}`,
        (p: (file: string) => string) => {
          openssl('ecparam', '-name', curve, '-genkey', '-out', p('ca.key'))
          openssl('req', '-new', '-x509', '-extensions', 'v3_ca', '-key', p('ca.key'), '-out', p('ca.crt'), '-subj', '/O=Casa/CN=ca')
        }
      ] as const
  ),
  [
    'Ed25519',
    p => {
      openssl('genpkey', '-algorithm', 'ed25519', '-out', p('ca.key'))
      openssl('req', '-new', '-x509', '-extensions', 'v3_ca', '-key', p('ca.key'), '-out', p('ca.crt'), '-subj', '/CN=ca')
    }
  ]
]

for (const [name, make, passphrase] of adopted) {
  t.test(`a CA made by openssl is adopted: ${name}`, async t => {
    const dir = t.testdir()
    const path = (file: string) => join(dir, file)
    make(path)
    const source = { certificate: readFileSync(path('ca.crt'), 'utf8'), key: readFileSync(path('ca.key'), 'utf8') }
    const authority = await parseAuthority({ ...source, passphrase })
    writeFileSync(path('client.crt'), (await issueClient(authority, { commonName: 'press-7', days: 7 })).certificate)
    // Not -x509_strict: v3_ca itself leaves the key usage out.
    openssl('verify', '-purpose', 'sslclient', '-CAfile', path('ca.crt'), path('client.crt'))
    if (passphrase === undefined) return
    await t.rejects(parseAuthority(source), { code: 'ERR_TLS_KEY_ENCRYPTED', message: 'the CA key is protected by a passphrase.' })
    await t.rejects(parseAuthority({ ...source, passphrase: 'wrong' }), { code: 'ERR_TLS_KEY_ENCRYPTED', message: /does not open/ })
  })
}

t.test('what is no CA, has no fitting key or has ended signs nothing', async t => {
  const pki = await testPki(t)
  const server = await pki.server()
  const read = (file: string) => readFileSync(file, 'utf8')
  const files = { certificate: 'a.crt', key: 'a.key' }
  await t.rejects(parseAuthority({ certificate: read(server.cert), key: read(server.key), files }), {
    message: /^a.crt is not a CA certificate/
  })
  await t.rejects(parseAuthority({ certificate: read(pki.ca), key: read(server.key), files }), {
    code: 'ERR_TLS_KEY_MISMATCH',
    message: 'a.key is not the key of a.crt.'
  })
  await t.rejects(parseAuthority({ certificate: 'x', key: read(server.key), files }), {
    message: 'a.crt holds no certificate that can be read.'
  })
  await t.rejects(parseAuthority({ certificate: read(pki.ca), key: 'x', files }), {
    message: 'a.key holds no private key that can be read.'
  })
  const { authority } = await pki.authority('Old CA', { expired: true })
  await t.rejects(async () => issueClient(authority, { commonName: 'a' }), {
    code: 'ERR_PKI_INPUT',
    message: /^The CA certificate expired on /
  })
})

t.test('no certificate outlives its CA', async t => {
  const authority = await parseAuthority(await createAuthority({ commonName: 'ca', days: 30 }))
  const { certificate } = await issueClient(authority, { commonName: 'a' })
  t.equal(new Date(new X509Certificate(certificate).validTo).getTime(), authority.x509.notAfter.getTime())
  await t.rejects(async () => issueClient(authority, { commonName: 'a', days: 31 }), { message: /more than the CA has left/ })
})

t.test('a server certificate lives 825 days at most, in whole days', async t => {
  const authority = await parseAuthority(await createAuthority({ commonName: 'ca' }))
  const names = [parseAlternativeName('localhost')]
  for (const days of [0, -1, 1.5, 826, Number.NaN]) {
    await t.rejects(async () => issueServer(authority, { names, days }), { code: 'ERR_PKI_INPUT', message: /from 1 to 825/ }, String(days))
  }
  const { certificate } = await issueServer(authority, { names, days: 825 })
  const { validFrom, validTo } = new X509Certificate(certificate)
  t.equal(Date.parse(validTo) - Date.parse(validFrom), 825 * day)
})

t.test('nobody is called like the CA: OpenSSL would take the certificate for self-signed', async t => {
  const authority = await parseAuthority(await createAuthority({ commonName: 'Localhost' }))
  await t.rejects(async () => issueClient(authority, { commonName: 'localhost' }), { code: 'ERR_PKI_INPUT', message: /The CA itself/ })
  const { certificate } = await issueServer(authority, { names: [parseAlternativeName('localhost')] })
  t.equal(new X509Certificate(certificate).subject, 'CN=broker')
})

t.test('a broker certificate without a name is refused, a name too long for a CN is a SAN only', async t => {
  const authority = await parseAuthority(await createAuthority({ commonName: 'ca' }))
  await t.rejects(async () => issueServer(authority, { names: [] }), { code: 'ERR_PKI_INPUT' })
  const host = `${'a'.repeat(60)}.example.org`
  const certificate = new X509Certificate((await issueServer(authority, { names: [parseAlternativeName(host)] })).certificate)
  t.equal(certificate.subject, 'CN=broker')
  t.equal(certificate.checkHost(host), host)
})
