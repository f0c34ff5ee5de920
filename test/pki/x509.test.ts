import { generateKeyPairSync } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import t from 'tap'
import { issueCrl } from '../../dist/pki/authority.js'
import { type Description, describe, describeCertificate, formatDescription, parsePkiFile } from '../../dist/pki/x509.js'
import { openssl } from '../helpers/openssl.js'
import { testPki } from '../helpers/pki.js'

const day = 86_400_000

/** All files as `certs show` sees them: together. */
async function show(...files: string[]): Promise<Description[]> {
  const objects = files.flatMap(file => parsePkiFile(readFileSync(file), file))
  return Promise.all(objects.map(object => describe(object, { others: objects })))
}

const row = (description: Description | undefined, label: string) => description?.rows.find(([name]) => name === label)?.[1]

t.test('a good broker certificate is told without a note, and as openssl tells it', async t => {
  const pki = await testPki(t)
  const server = await pki.server({ names: ['localhost', '127.0.0.1', '::1'] })
  const [description] = await show(server.cert)
  t.equal(description?.title, 'certificate')
  t.equal(row(description, 'subject'), 'CN=localhost')
  t.equal(row(description, 'issuer'), 'CN=Test CA')
  t.equal(row(description, 'names'), 'DNS localhost, IP 127.0.0.1, IP ::1')
  t.equal(row(description, 'key'), 'EC P-256')
  t.equal(row(description, 'signature'), 'ECDSA with SHA-256')
  t.equal(row(description, 'uses'), 'digital signature; TLS server (broker)')
  t.match(row(description, 'valid'), /^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC to .* UTC, valid now, 59 days left$/)
  t.match(openssl('x509', '-in', server.cert, '-noout', '-serial'), `serial=${row(description, 'serial')}`)
  t.match(openssl('x509', '-in', server.cert, '-noout', '-fingerprint', '-sha256'), `=${row(description, 'SHA-256')}`)
  t.same(description?.notes, [])
  const [, ...others] = await show(pki.ca, server.cert, server.key)
  t.equal(row(others[0], 'issuer'), 'CN=Test CA (shown, and its signature is good)')
  t.equal(row(others[1], 'belongs to'), 'CN=localhost (shown)')
})

t.test('a subject is shown in the order of RFC 2253', async t => {
  const pki = await testPki(t)
  const client = await pki.client('x', {
    subject: [
      ['C', 'ES'],
      ['O', 'Casa, S.A.'],
      ['CN', 'dev']
    ]
  })
  const [description] = await show(client.cert)
  t.equal(row(description, 'subject'), 'CN=dev,O=Casa\\, S.A.,C=ES')
})

t.test('what people stumble over is said', async t => {
  const pki = await testPki(t)
  const twin = await pki.authority('Test CA', { file: 'twin' })
  const other = await pki.client('other')
  const stumbling: readonly (readonly [files: string[], note: RegExp])[] = [
    [[(await pki.client('a', { expired: true })).cert], /^It expired on /],
    [[(await pki.client('b', { notYetValid: true })).cert], /not valid before .*clock/],
    [[(await pki.client('c', { v1: true })).cert], /X\.509 v1/],
    [[(await pki.client('c2', { v1: true })).cert], /no subjectAltName/],
    [[(await pki.server({ names: [] })).cert], /no subjectAltName/],
    [[(await pki.client('d', { subject: [] })).cert], /no common name/],
    [
      [
        (
          await pki.client('e', {
            subject: [
              ['CN', 'one'],
              ['CN', 'two']
            ]
          })
        ).cert
      ],
      /2 common names; .* "one"/
    ],
    [[(await pki.client('f', { subject: [['CN', 'a/b']] })).cert], /bad username: it holds "\/"/],
    [[(await pki.client('g', { subject: [['CN', 'Test CA']] })).cert], /Subject and issuer are the same name/],
    [[(await pki.client('h')).cert, other.key], /The private key shown does not belong to it/],
    [[(await pki.client('i')).cert, twin.cert], /name of its issuer is shown, but another key/],
    [
      [(await pki.server({ file: 'long', period: { notBefore: new Date(), notAfter: new Date(Date.now() + 3650 * day) } })).cert],
      /lives 3650 days; Apple/
    ]
  ]
  for (const [files, note] of stumbling) {
    const [description] = await show(...files)
    t.ok(
      description?.notes.some(text => note.test(text)),
      `${note}`,
      { notes: description?.notes }
    )
  }
  openssl(
    'req',
    '-x509',
    '-newkey',
    'rsa:1024',
    '-nodes',
    '-keyout',
    join(pki.dir, 's.key'),
    '-out',
    join(pki.dir, 's.crt'),
    '-subj',
    '/CN=s',
    '-addext',
    'basicConstraints=critical,CA:FALSE'
  )
  const [weak] = await show(join(pki.dir, 's.crt'))
  t.equal(row(weak, 'issuer'), 'itself (self-signed)')
  t.equal(row(weak, 'key'), 'RSA 1024 bit')
  t.match(weak?.notes.join('\n'), /self-signed and no CA[\s\S]*1024 bits is too short/)
})

t.test('a key that fits one of the certificates is no reason to doubt the others', async t => {
  const pki = await testPki(t)
  const server = await pki.server()
  const descriptions = await show(pki.ca, server.cert, server.key)
  t.notMatch(JSON.stringify(descriptions), /does not belong|belongs to none/)
  const [, lost] = await show(pki.ca, server.key)
  t.same(lost?.notes, ['It belongs to none of the certificates shown.'])
})

t.test('every kind of PEM block in one file is shown in its order', async t => {
  const pki = await testPki(t)
  const client = await pki.client('press-7')
  const path = (file: string) => join(pki.dir, file)
  openssl('ecparam', '-name', 'secp384r1', '-genkey', '-out', path('ec.key'))
  openssl(
    'req',
    '-new',
    '-key',
    path('ec.key'),
    '-subj',
    '/C=ES/O=a\\,b/CN=dev',
    '-addext',
    'subjectAltName=DNS:dev.local',
    '-out',
    path('dev.csr')
  )
  openssl('pkcs8', '-topk8', '-in', path('ec.key'), '-passout', 'pass:secret', '-out', path('enc.key'))
  openssl('ec', '-in', path('ec.key'), '-aes256', '-passout', 'pass:secret', '-out', path('trad.key'))
  openssl('pkey', '-in', path('ec.key'), '-pubout', '-out', path('pub'))
  const crl = await pki.revoke(client)
  const files = [client.cert, path('ec.key'), path('dev.csr'), path('enc.key'), path('trad.key'), path('pub'), crl]
  writeFileSync(
    path('all.pem'),
    `some words\r\n${files
      .map(file => readFileSync(file, 'utf8'))
      .join('')
      .replaceAll('\n', '\r\n')}`
  )
  const descriptions = await show(path('all.pem'))
  t.same(
    descriptions.map(({ title }) => title),
    ['certificate', 'private key', 'certificate request', 'private key', 'private key', 'public key', 'revocation list']
  )
  const [, key, request, encrypted, traditional, publicKey, list] = descriptions
  t.equal(row(key, 'key'), 'EC P-384')
  t.equal(row(request, 'subject'), 'CN=dev,O=a\\,b,C=ES')
  t.equal(row(request, 'names'), 'DNS dev.local')
  t.same(request?.notes, [])
  t.equal(row(encrypted, 'key'), 'protected by a passphrase')
  t.equal(row(traditional, 'key'), 'protected by a passphrase')
  t.equal(row(publicKey, 'key'), 'EC P-384')
  t.equal(row(list, 'issuer'), 'CN=Test CA')
  t.equal(row(list, 'revoked'), '1 certificate')
  t.match(row(list, 'serial'), client.serial.replace(/^0+/, ''))
})

t.test('a request with a changed signature and a list out of date are told', async t => {
  const pki = await testPki(t)
  const path = (file: string) => join(pki.dir, file)
  openssl(
    'req',
    '-new',
    '-newkey',
    'rsa:2048',
    '-nodes',
    '-keyout',
    path('k'),
    '-subj',
    '/CN=dev',
    '-outform',
    'DER',
    '-out',
    path('dev.der')
  )
  const der = readFileSync(path('dev.der'))
  der.writeUInt8(der.readUInt8(der.length - 1) ^ 1, der.length - 1)
  writeFileSync(path('dev.der'), der)
  const [request, list] = await show(path('dev.der'), await pki.crl({ expired: true }))
  t.match(request, { title: 'certificate request', notes: [/signature is wrong/] })
  t.match(list?.notes, [/out of date/])
})

t.test('DER files are read, too', async t => {
  const pki = await testPki(t)
  for (const [command, file] of [
    ['x509', pki.ca],
    ['crl', await pki.crl()]
  ] as const) {
    openssl(command, '-in', file, '-outform', 'DER', '-out', join(pki.dir, 'der'))
    t.match(await show(join(pki.dir, 'der')), [{ title: command === 'x509' ? 'CA certificate' : 'revocation list' }])
  }
})

t.test('a list of 2,500 revoked certificates is counted, its first twenty shown', async t => {
  const pki = await testPki(t)
  const revoked = Array.from({ length: 2500 }, (_, n) => ({
    serial: (n + 1).toString(16).padStart(4, '0'),
    at: new Date(),
    reason: 'superseded' as const
  }))
  const crl = await issueCrl(pki.root.authority, revoked, { thisUpdate: new Date(), nextUpdate: new Date(Date.now() + day) })
  const [description] = await Promise.all(parsePkiFile(Buffer.from(crl), 'ca.crl').map(object => describe(object)))
  t.equal(row(description, 'revoked'), '2500 certificates')
  t.equal(description?.rows.filter(([label]) => label === 'serial').length, 20)
  t.equal(row(description, ''), 'and 2480 more')
})

t.test('damaged, unknown and unfinished blocks are named, the rest is shown', async t => {
  const pki = await testPki(t)
  const good = readFileSync(pki.ca, 'utf8')
  const damaged = '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n'
  const unknown = '-----BEGIN CATS-----\nAAAA\n-----END CATS-----\n'
  const objects = parsePkiFile(Buffer.from(`${damaged}${good}${unknown}-----BEGIN CERTIFICATE-----\nMIIB`), 'x')
  const descriptions = await Promise.all(objects.map(object => describe(object)))
  t.match(descriptions, [
    { title: 'certificate', notes: [/is damaged/] },
    { title: 'CA certificate' },
    { title: 'cats', notes: [/not known here/] },
    { title: 'certificate', notes: [/cut off/] }
  ])
  t.throws(() => parsePkiFile(Buffer.from('hello'), 'x.txt'), {
    code: 'ERR_PKI_INPUT',
    message: 'x.txt holds no certificate, key, certificate request or revocation list.'
  })
})

t.test('names from a certificate cannot play with the terminal', async t => {
  const pki = await testPki(t)
  const client = await pki.client('x', { subject: [['CN', 'a\u001b[2J\u202eb']] })
  const text = formatDescription(describeCertificate(readFileSync(client.cert, 'utf8')))
  t.notMatch(text, /[\u001b\u202e]/)
  t.match(text, /a\\/)
})

t.test('neither text nor bytes nor broken DER bring more than a sentence', async t => {
  const pki = await testPki(t)
  const client = await pki.client('press-7')
  openssl('req', '-new', '-key', client.key, '-subj', '/CN=dev', '-addext', 'subjectAltName=DNS:dev', '-out', join(pki.dir, 'csr'))
  const toDer = (file: string) => Buffer.from(readFileSync(file, 'utf8').replaceAll(/-----.*-----|\n/g, ''), 'base64')
  const seeds = [(await pki.server()).cert, await pki.revoke(client), join(pki.dir, 'csr')].map(toDer)
  const key = generateKeyPairSync('ed25519').privateKey.export({ format: 'der', type: 'pkcs8' })
  const broken = fc.tuple(fc.constantFrom(...seeds, key), fc.nat(), fc.nat(255)).map(([der, at, octet]) => {
    const copy = Buffer.from(der)
    copy.writeUInt8(octet, at % copy.length)
    return copy
  })
  const armoured = fc
    .tuple(fc.constantFrom('CERTIFICATE', 'X509 CRL', 'CERTIFICATE REQUEST', 'PRIVATE KEY', 'PUBLIC KEY', '__proto__'), broken)
    .map(([label, der]) => Buffer.from(`-----BEGIN ${label}-----\n${der.toString('base64')}\n-----END ${label}-----\n`))
  const anything = fc.oneof(
    fc.uint8Array({ maxLength: 300 }).map(bytes => Buffer.from(bytes)),
    broken,
    armoured
  )
  await fc.assert(
    fc.asyncProperty(anything, async content => {
      try {
        for (const object of parsePkiFile(content, 'x')) formatDescription(await describe(object))
        return true
      } catch (error) {
        return error instanceof Error && 'code' in error && error.code === 'ERR_PKI_INPUT'
      }
    }),
    { numRuns: 1000 }
  )
})
