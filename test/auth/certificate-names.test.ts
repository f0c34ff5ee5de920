// What beside its common name a certificate gives: from certificates that OpenSSL made, and from what only looks like one.

import { X509Certificate } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import t from 'tap'
import { clientCertificate } from '../../dist/auth/certificate.js'
import { factsOf, fingerprintOf, firstAlternativeName, serialOf } from '../../dist/auth/certificate-names.js'
import type { CertificateFacts, ClientCertificate } from '../../dist/auth/identity.js'
import { openssl } from '../helpers/openssl.js'

const all: ReadonlySet<keyof CertificateFacts> = new Set(['organization', 'organizationalUnit', 'serial'] as const)
const dir = t.testdir()
let made = 0

function certificate(subject: string, ...more: string[]): { readonly file: string; readonly read: ClientCertificate } {
  const file = join(dir, `${++made}.crt`)
  const key = join(dir, 'key.pem')
  const command = `req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -utf8 -days 1 -keyout ${key} -out ${file}`
  openssl(...command.split(' '), '-subj', subject, ...more)
  return { file, read: clientCertificate(new X509Certificate(readFileSync(file)).raw) }
}

const names = 'subjectAltName=DNS:press-7.example,DNS:other,URI:urn:dev:press-7,URI:urn:other,email:press@example.org,IP:192.0.2.1'

t.test('the first name of each kind', async t => {
  const { read } = certificate('/CN=x', '-addext', names)
  t.equal(firstAlternativeName(read, 'dns'), 'press-7.example')
  t.equal(firstAlternativeName(read, 'uri'), 'urn:dev:press-7')
  t.equal(firstAlternativeName(read, 'email'), 'press@example.org')
})

t.test('there is none where there is none of that kind, or no such extension', async t => {
  const { read } = certificate('/CN=x', '-addext', 'subjectAltName=IP:192.0.2.1')
  for (const kind of ['dns', 'uri', 'email'] as const) t.equal(firstAlternativeName(read, kind), undefined)
  t.equal(firstAlternativeName(certificate('/CN=x').read, 'dns'), undefined)
})

// GeneralNames as DER: what OpenSSL's configuration wouldn't write.
const crafted = (...generalNames: string[]) => {
  const content = generalNames.join('')
  const length = (content.length / 2).toString(16).padStart(2, '0')
  return certificate('/CN=x', '-addext', `2.5.29.17=DER:30${length}${content}`).read
}
const dns = (bytes: Buffer) => `82${bytes.length.toString(16).padStart(2, '0')}${bytes.toString('hex')}`

t.test('a first name that will not do is none, and the second does not step in', async t => {
  const good = dns(Buffer.from('good'))
  t.equal(firstAlternativeName(crafted(good), 'dns'), 'good')
  for (const bad of ['', 'a\0b', '\xff\xfe']) {
    t.equal(firstAlternativeName(crafted(dns(Buffer.from(bad, 'latin1')), good), 'dns'), undefined, JSON.stringify(bad))
  }
})

t.test('an extension that nobody can read has no name', async t => {
  const { read } = certificate('/CN=x', '-addext', '2.5.29.17=DER:3082FFFF00')
  t.equal(firstAlternativeName(read, 'dns'), undefined)
})

t.test('serial number and fingerprint are what OpenSSL prints', async t => {
  for (const serial of ['0x0a1b2c', '1', '0x00ffffffffffffffffffffffffffffff', '0x7fffffffffffffffffffffffffffffffffffffff']) {
    const { file, read } = certificate('/CN=x', '-set_serial', serial)
    t.equal(`serial=${serialOf(read)}`, openssl('x509', '-in', file, '-noout', '-serial').trim())
    const printed = openssl('x509', '-in', file, '-noout', '-fingerprint', '-sha256').trim()
    t.equal(fingerprintOf(read), printed.replace(/^.*=/, '').replaceAll(':', '').toLowerCase())
  }
})

t.test('the first O and OU, and nothing that no line asks for', async t => {
  const { read } = certificate('/O=Acme/OU=press/OU=other/O=Second/CN=x', '-set_serial', '10')
  t.strictSame(factsOf(read, all), { organization: 'Acme', organizationalUnit: 'press', serial: '0A' })
  t.strictSame(factsOf(read, new Set(['organization'] as const)), { organization: 'Acme' })
  t.equal(factsOf(read, new Set()), undefined)
  t.equal(factsOf(certificate('/CN=x').read, new Set(['organization'] as const)), undefined)
})

t.test('a value that could be more than one level of a topic is none', async t => {
  for (const value of ['a\\/b', '+', '#', 'a+', 'a#b']) {
    t.equal(factsOf(certificate(`/O=${value.replace('+', '\\+')}/O=good/CN=x`).read, new Set(['organization'] as const)), undefined, value)
  }
  t.strictSame(factsOf(certificate('/O=Jürgen & Söhne/CN=x').read, new Set(['organization'] as const)), { organization: 'Jürgen & Söhne' })
})

t.test('whatever the bytes are, there is a name or none', async t => {
  const { read } = certificate('/O=Acme/CN=x', '-addext', names)
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.nat(read.raw.length - 1), fc.nat(255)), { minLength: 1, maxLength: 4 }), changes => {
      const raw = Buffer.from(read.raw)
      for (const [at, byte] of changes) raw[at] = byte
      const broken = { ...read, raw }
      const found = [firstAlternativeName(broken, 'dns'), firstAlternativeName(broken, 'uri'), factsOf(broken, all)?.organization]
      return found.every(name => name === undefined || (name !== '' && !name.includes('\0')))
    }),
    { numRuns: 5000 }
  )
  t.pass()
})
