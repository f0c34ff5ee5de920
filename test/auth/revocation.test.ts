import { X509Certificate } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import t from 'tap'
import { type Certificate, toCertificate } from '../../dist/auth/chain.js'
import { integerKey } from '../../dist/auth/der.js'
import { checkRevocation, parseRevocationList, type RevocationList } from '../../dist/auth/revocation.js'
import { findSerial, indexSerials } from '../../dist/auth/revocation-index.js'
import { loadRevocationFile } from '../../dist/auth/revocation-thread.js'
import { longList, longSerial } from '../helpers/long-list.js'
import { type TestPki, testPki } from '../helpers/pki.js'
import { run } from '../helpers/tls-listener.js'
import { timeTurns } from '../helpers/turn-clock.js'

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

t.test('who is on an expired list stays revoked; others come in only where that is forgiven', async t => {
  const pki = await testPki(t)
  const [good, bad] = [read((await pki.client('good')).cert), await pki.client('bad')]
  const expired = listOf(await pki.revoke(bad, { expired: true }))
  const ca = read(pki.ca)
  for (const forgivesExpired of [false, true]) {
    t.match(checkRevocation([expired], read(bad.cert), ca, new Date(), { forgivesExpired }), { revoked: true, at: Date })
  }
  t.match(checkRevocation([expired], good, ca, new Date()), { revoked: 'unknown', why: 'expired' })
  t.same(checkRevocation([expired], good, ca, new Date(), { forgivesExpired: true }), { revoked: false })
  const namesake = await pki.authority('Test CA', { file: 'namesake' })
  const forged = listOf(await pki.crl({ ca: namesake, expired: true }))
  t.match(
    checkRevocation([forged], good, ca, new Date(), { forgivesExpired: true }),
    { revoked: 'unknown', why: 'missing' },
    'signed all the same'
  )
})

t.test('a list of user certificates alone says nothing about a CA', async t => {
  const pki = await testPki(t)
  const ca = await opensslCa(pki, ['ec', '-pkeyopt', 'ec_paramgen_curve:P-256'])
  writeFileSync(`${ca.config}.x`, `${readFileSync(ca.config)}\n[x]\nissuingDistributionPoint=critical,@user\n[user]\nonlyuser=TRUE\n`)
  await openssl('ca', '-config', `${ca.config}.x`, '-gencrl', '-crlexts', 'x', '-out', ca.crl)
  const list = listOf(ca.crl)
  const issuer = read(ca.cert)
  t.same(checkRevocation([list], issuer, issuer, new Date()), { revoked: false })
  t.match(checkRevocation([list], issuer, issuer, new Date(), { isAuthority: true }), { revoked: 'unknown', why: 'missing' })
})

t.test('every serial number of a list is found, and no other', async t => {
  const serial = fc.uint8Array({ minLength: 1, maxLength: 20 }).map(bytes => Buffer.from(bytes))
  fc.assert(
    fc.property(fc.array(serial, { maxLength: 60 }), fc.array(serial, { maxLength: 20 }), fc.nat(0xffffffff), (listed, others, seed) => {
      const content = Buffer.concat(listed.map(entryOf))
      const index = indexSerials(content, seed)
      const keys = new Set(listed.map(integerKey))
      const isFound = (key: string): boolean => findSerial(content, index, key) !== undefined
      return (
        index.size === keys.size &&
        [...keys].every(isFound) &&
        others.every(other => isFound(integerKey(other)) === keys.has(integerKey(other)))
      )
    }),
    { numRuns: 500 }
  )
  t.pass('at random')
  t.throws(() => indexSerials(Buffer.from('3003020101', 'hex'), 0), { message: 'revocation without a date' })
  t.throws(() => indexSerials(Buffer.from('30130200170d3236303130313030303030305a', 'hex'), 0), { name: 'DerError' })
})

for (const count of [100_000, 1_000_000]) {
  t.test(`${count.toLocaleString('en')} entries are read, by a thread, without a turn of more than 10 ms`, async t => {
    const pki = await testPki(t)
    const pem = longList(pki.root, count)
    const ca = read(pki.ca)
    const signer = { subjectKey: ca.fields.subjectKey, fingerprint: ca.x509.fingerprint256, publicKey: ca.x509.publicKey }
    let list: RevocationList | undefined
    let isSigned: boolean | undefined
    const rounds: number[] = []
    // What the thread does counts as ours where it takes the processor in the middle of a turn: once in three times it won't.
    while (rounds.length < 3 && !rounds.some(turn => turn < 10)) {
      const bytes = Buffer.from(pem, 'latin1')
      const { longest } = await timeTurns(async () => {
        const found = await loadRevocationFile(bytes, [signer])
        list = 'lists' in found ? found.lists[0] : undefined
        isSigned = list?.isSignedBy(ca)
      })
      rounds.push(longest[0] ?? 0)
    }
    t.equal(isSigned, true)
    t.equal(list?.size, count)
    for (const i of [0, 4711, count - 1]) t.same(list?.revokedAt(integerKey(longSerial(i))), new Date('2026-01-01T00:00:00Z'))
    t.equal(list?.revokedAt(integerKey(longSerial(count))), undefined)
    t.ok(
      rounds.some(turn => turn < 10),
      `turns of ${rounds.join(', ')} ms`
    )
  })
}

t.test('a long list that is malformed, cut off or none is refused with the reason, as a short one', async t => {
  const pki = await testPki(t)
  const pem = longList(pki.root, 3000)
  const cases: [name: string, text: string, reason: RegExp][] = [
    ['cut off', pem.slice(0, -100), /^it is cut off: the END line/],
    ['bytes lost in the middle', pem.slice(0, 50_000) + pem.slice(50_065), /^revocation list 1 cannot be used: /],
    ['no list', 'x'.repeat(100_000), /^there is no PEM revocation list in it/]
  ]
  for (const [name, text, reason] of cases) t.match(await loadRevocationFile(Buffer.from(text), []), { reason }, name)
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

/** An entry of a list: serial number and date. */
function entryOf(serial: Buffer): Buffer {
  const content = Buffer.concat([Buffer.of(0x02, serial.length), serial, Buffer.from('170d3236303130313030303030305a', 'hex')])
  return Buffer.concat([Buffer.of(0x30, content.length), content])
}

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
