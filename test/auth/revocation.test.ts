import { X509Certificate } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import t from 'tap'
import { type Certificate, toCertificate } from '../../dist/auth/chain.js'
import { checkRevocation, parseRevocationList } from '../../dist/auth/revocation.js'
import { type TestPki, testPki } from '../helpers/pki.js'
import { run } from '../helpers/tls-listener.js'

const read = (path: string): Certificate => toCertificate(new X509Certificate(readFileSync(path)))
const derOf = (pem: string): Buffer => Buffer.from(pem.replaceAll(/-----[^-]+-----/g, ''), 'base64')
const listOf = (path: string) => parseRevocationList(derOf(readFileSync(path, 'latin1')))

t.test('a revoked certificate is found with its date, another one is not', async t => {
  const pki = await testPki(t)
  const [good, bad] = [await pki.client('good'), await pki.client('bad')]
  const list = listOf(await pki.revoke(bad))
  t.match(list, { issuer: 'CN=Test CA', size: 1 })
  const ca = read(pki.ca)
  t.same(checkRevocation([list], read(good.cert), ca, new Date()), { revoked: false })
  t.match(checkRevocation([list], read(bad.cert), ca, new Date()), { revoked: true, at: Date })
})

t.test('without a list of the issuer, or outside its dates, there is no answer', async t => {
  const pki = await testPki(t)
  const leaf = read((await pki.client('dev')).cert)
  const ca = read(pki.ca)
  const other = await pki.authority('Other')
  const foreign = listOf(await pki.crl({ ca: other, file: join(pki.dir, 'other.crl') }))
  t.same(checkRevocation([], leaf, ca, new Date()), { revoked: 'unknown', why: 'missing' })
  t.same(checkRevocation([foreign], leaf, ca, new Date()), { revoked: 'unknown', why: 'missing' })

  const expired = listOf(await pki.crl({ expired: true }))
  t.match(checkRevocation([expired], leaf, ca, new Date()), { revoked: 'unknown', why: 'expired', date: expired.nextUpdate })

  const current = listOf(await pki.crl())
  const before = new Date(current.thisUpdate.getTime() - 1000)
  t.match(checkRevocation([current], leaf, ca, before), { revoked: 'unknown', why: 'not-yet-valid' })
  t.same(checkRevocation([expired, current], leaf, ca, new Date()), { revoked: false }, 'the newest one counts')
})

t.test('a list that another CA of the same name has signed is no list', async t => {
  const pki = await testPki(t)
  const leaf = read((await pki.client('dev')).cert)
  const namesake = await pki.authority('Test CA', { file: 'namesake' })
  const forged = listOf(await pki.crl({ ca: namesake }))
  t.equal(forged.isSignedBy(read(namesake.cert)), true)
  t.equal(forged.isSignedBy(read(pki.ca)), false)
  t.same(checkRevocation([forged], leaf, read(pki.ca), new Date()), { revoked: 'unknown', why: 'missing' })
})

t.test('lists of every common signature algorithm are verified, and a changed one is not', async t => {
  const pki = await testPki(t)
  const algorithms: [name: string, key: string[], sign: string[]][] = [
    ['rsa', ['rsa:2048'], ['-md', 'sha256']],
    ['rsa with sha1', ['rsa:2048'], ['-md', 'sha1']],
    ['rsa with sha512', ['rsa:2048'], ['-md', 'sha512']],
    ['rsa-pss', ['rsa:2048'], ['-md', 'sha256', '-sigopt', 'rsa_padding_mode:pss', '-sigopt', 'rsa_pss_saltlen:32']],
    ['ec P-384', ['ec', '-pkeyopt', 'ec_paramgen_curve:P-384'], ['-md', 'sha384']],
    ['ed25519', ['ed25519'], ['-md', 'null']]
  ]
  for (const [name, key, sign] of algorithms) {
    const ca = await opensslCa(pki, key)
    await openssl('ca', '-config', ca.config, '-gencrl', '-out', ca.crl, ...sign)
    const pem = readFileSync(ca.crl, 'latin1')
    t.equal(parseRevocationList(derOf(pem)).isSignedBy(read(ca.cert)), true, name)
    const changed = derOf(pem)
    changed[changed.length - 1] = (changed[changed.length - 1] ?? 0) ^ 1
    t.equal(parseRevocationList(changed).isSignedBy(read(ca.cert)), false, `${name}, changed`)
  }
})

t.test('partial, delta and indirect lists are refused, and the message says which', async t => {
  const pki = await testPki(t)
  const ca = await opensslCa(pki, ['ec', '-pkeyopt', 'ec_paramgen_curve:P-256'])
  const cases: [extensions: string, expected: RegExp | undefined][] = [
    ['authorityKeyIdentifier=keyid', undefined],
    ['issuingDistributionPoint=critical,@user\n[user]\nonlyuser=TRUE', undefined],
    ['issuingDistributionPoint=critical,@part\n[part]\nfullname=URI:http://x/', /covers a part of the certificates only/],
    ['issuingDistributionPoint=critical,@cas\n[cas]\nonlyCA=TRUE', /covers a part of the certificates only/],
    ['issuingDistributionPoint=critical,@in\n[in]\nindirectCRL=TRUE', /covers a part of the certificates only/],
    ['2.5.29.27=critical,ASN1:INTEGER:1', /delta CRL/],
    ['1.2.3.4=critical,ASN1:NULL', /critical extension 1\.2\.3\.4/],
    ['1.2.3.4=ASN1:NULL', undefined]
  ]
  for (const [extensions, expected] of cases) {
    writeFileSync(`${ca.config}.x`, `${readFileSync(ca.config)}\n[x]\n${extensions}\n`)
    await openssl('ca', '-config', `${ca.config}.x`, '-gencrl', '-crlexts', 'x', '-out', ca.crl)
    if (expected === undefined) t.equal(listOf(ca.crl).isSignedBy(read(ca.cert)), true, extensions)
    else t.throws(() => listOf(ca.crl), { message: expected }, extensions)
  }
})

t.test('a CA that may not sign lists has signed none', async t => {
  const pki = await testPki(t)
  const ca = await opensslCa(pki, ['ec', '-pkeyopt', 'ec_paramgen_curve:P-256'], 'keyCertSign')
  await openssl('ca', '-config', ca.config, '-gencrl', '-out', ca.crl)
  t.equal(listOf(ca.crl).isSignedBy(read(ca.cert)), false)
})

t.test('100,000 entries parse in well under a second', async t => {
  const pki = await testPki(t)
  const ca = await opensslCa(pki, ['ec', '-pkeyopt', 'ec_paramgen_curve:P-256'])
  const entries = Array.from(
    { length: 100_000 },
    (_, i) =>
      `R\t400101000000Z\t260101000000Z\t${(0x10000000n + BigInt(i) * 7919n).toString(16).toUpperCase().padStart(16, '0')}\tunknown\t/CN=x`
  )
  writeFileSync(join(pki.dir, 'index'), `${entries.join('\n')}\n`)
  await openssl('ca', '-config', ca.config, '-gencrl', '-out', ca.crl)
  const der = derOf(readFileSync(ca.crl, 'latin1'))
  const start = performance.now()
  const list = parseRevocationList(der)
  const milliseconds = performance.now() - start
  t.equal(list.size, 100_000)
  t.same(
    list.revokedAt(Buffer.from((0x10000000n + 99_999n * 7919n).toString(16), 'hex').toString('latin1')),
    new Date('2026-01-01T00:00:00Z')
  )
  t.equal(list.revokedAt('\x01'), undefined)
  t.equal(list.isSignedBy(read(ca.cert)), true)
  t.ok(milliseconds < 1000, `${milliseconds} ms`)
  t.comment(`${Math.round(milliseconds)} ms`)
})

t.test('whatever the bytes, a list parses or is refused; it never hangs and never answers for another', async t => {
  const pki = await testPki(t)
  const revoked = await pki.client('bad')
  const der = derOf(readFileSync(await pki.revoke(revoked), 'latin1'))
  const ca = read(pki.ca)
  fc.assert(
    fc.property(fc.nat(der.length - 1), fc.integer({ min: 1, max: 255 }), fc.nat(der.length), (at, change, cut) => {
      const bytes = Buffer.from(der.subarray(0, cut === 0 ? der.length : der.length - (cut % 3)))
      if (at < bytes.length) bytes[at] = (bytes[at] ?? 0) ^ change
      try {
        return bytes.equals(der) || !parseRevocationList(bytes).isSignedBy(ca)
      } catch (error) {
        return error instanceof Error
      }
    }),
    { numRuns: 2000 }
  )
  t.pass('a list with a changed byte')
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), bytes => {
      try {
        parseRevocationList(Buffer.from(bytes))
        return false
      } catch (error) {
        return error instanceof Error
      }
    })
  )
  t.pass('any bytes')
})

interface OpensslCa {
  readonly config: string
  readonly cert: string
  readonly crl: string
}

/** A CA of `openssl ca`, for lists that our own PKI does not make. */
async function opensslCa(pki: TestPki, key: readonly string[], keyUsage = 'keyCertSign,cRLSign'): Promise<OpensslCa> {
  const path = (name: string): string => join(pki.dir, name)
  const config = path('openssl.cnf')
  writeFileSync(
    config,
    `[ca]
default_ca=d
[d]
database=${path('index')}
certificate=${path('o.crt')}
private_key=${path('o.key')}
crlnumber=${path('number')}
default_md=sha256
default_crl_days=30
[req]
distinguished_name=n
[n]
[v]
basicConstraints=critical,CA:TRUE
keyUsage=${keyUsage}
subjectKeyIdentifier=hash
`
  )
  writeFileSync(path('index'), '')
  writeFileSync(path('number'), '01')
  const subject = ['-subj', '/CN=O', '-days', '30', '-extensions', 'v']
  await openssl('req', '-x509', '-config', config, '-newkey', ...key, '-nodes', '-keyout', path('o.key'), '-out', path('o.crt'), ...subject)
  return { config, cert: path('o.crt'), crl: path('o.crl') }
}

async function openssl(...args: string[]): Promise<void> {
  const { status, output } = await run('openssl', args)
  if (status !== 0) throw new Error(output)
}
