// What `check` says about certificates, keys and revocation lists, with real files.

import { chmodSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { daysLeft } from '../../dist/net/expiry.js'
import { issueCrl } from '../../dist/pki/authority.js'
import { examined } from '../helpers/examined.js'
import { type CertificateFiles, type TestAuthority, type TestPki, testPki } from '../helpers/pki.js'

const day = 86_400_000
const daysFromNow = (days: number): Date => new Date(Date.now() + days * day + 3_600_000)
const dateOf = (days: number): string => daysFromNow(days).toISOString().slice(0, 10)
const period = (from: number, to: number) => ({ period: { notBefore: daysFromNow(from), notAfter: daysFromNow(to) } })
const long = period(-1, 400)

interface Files {
  readonly server: Pick<CertificateFiles, 'cert' | 'key'>
  readonly ca: string
  readonly crl?: string
}

/** What is said of these files, without the folder of the certificates. certfile is line 3, keyfile 4, cafile 5, crlfile 6. */
async function said(t: Test, { dir }: TestPki, { server, ca, crl }: Files): Promise<readonly string[]> {
  const lines = ['use_identity_as_username true', `certfile ${server.cert}`, `keyfile ${server.key}`, `cafile ${ca}`]
  if (crl !== undefined) lines.push(`crlfile ${crl}`)
  const found = await examined(t, `listener 8883 localhost\n${lines.join('\n')}\nrequire_certificate true\n`)
  return found.lines.map(line => line.replaceAll(`${dir}/`, ''))
}

/** A CA that lives long, unless `options` say otherwise. */
async function plant(pki: TestPki, options: Parameters<TestPki['authority']>[1] = long): Promise<TestAuthority> {
  return pki.authority('Plant CA', { file: 'plant', ...options })
}

async function crlOf(pki: TestPki, ca: TestAuthority, from: number, to: number): Promise<string> {
  const file = join(pki.dir, `${ca.name}.crl`)
  writeFileSync(file, await issueCrl(ca.authority, [], { thisUpdate: daysFromNow(from), nextUpdate: daysFromNow(to) }))
  return file
}

t.test('files that are right for long are nothing to talk about', async t => {
  const pki = await testPki(t)
  const ca = await plant(pki)
  const server = await pki.server({ ca, ...long })
  t.same(await said(t, pki, { server, ca: ca.cert, crl: await crlOf(pki, ca, -1, 40) }), [])
})

t.test('whatever ends within thirty days is said with its day', async t => {
  const pki = await testPki(t)
  const ca = await plant(pki, period(-1, 20))
  const server = await pki.server({ ca, ...period(-1, 10) })
  t.same(await said(t, pki, { server, ca: ca.cert, crl: await crlOf(pki, ca, -1, 1) }), [
    `warning m.conf:3 ERR_TLS_EXPIRES_SOON certfile "server.crt" expires on ${dateOf(10)}, in 10 days: clients will refuse it from then on. Renew it.`,
    `warning m.conf:5 ERR_TLS_EXPIRES_SOON The CA certificate CN=Plant CA in cafile "plant.crt" expires on ${dateOf(20)}, in 20 days: what it signed will be refused from then on. Renew it.`,
    `warning m.conf:6 ERR_TLS_EXPIRES_SOON The CRL of CN=Plant CA in crlfile "Plant CA.crl" expires on ${dateOf(1)}, in one day: every client of that CA will be refused from then on. Renew it.`
  ])
})

t.test('a CA between the certificate and its root counts too', async t => {
  const pki = await testPki(t)
  const root = await plant(pki)
  const ends = await pki.authority('Hall 3', { issuer: root, ...period(-1, 5) })
  const ended = await pki.authority('Hall 4', { issuer: root, expired: true })
  const soon = await pki.server({ ca: ends, ...long, file: 'soon' })
  t.same(await said(t, pki, { server: soon, ca: root.cert }), [
    `warning m.conf:3 ERR_TLS_EXPIRES_SOON The CA certificate CN=Hall 3 in certfile "soon.crt" expires on ${dateOf(5)}, in 5 days: clients will refuse it from then on. Renew it.`
  ])
  const over = await pki.server({ ca: ended, ...long, file: 'over' })
  t.match(await said(t, pki, { server: over, ca: root.cert }), [
    /^warning m\.conf:3 ERR_TLS_CERTIFICATE The CA certificate CN=Hall 4 in certfile "over\.crt" expired on \S+: clients will refuse it\.$/
  ])
})

t.test('what has ended, or has not begun, is said by the broker at its start too', async t => {
  const pki = await testPki(t)
  const ca = await plant(pki, { expired: true })
  const server = await pki.server({ ca, expired: true })
  t.match(await said(t, pki, { server, ca: ca.cert, crl: await crlOf(pki, ca, -9, -2) }), [
    /^warning m\.conf:3 ERR_TLS_CERTIFICATE certfile "server\.crt" expired on \S+: clients will refuse it\.$/,
    /^warning m\.conf:5 ERR_TLS_CA The CA certificate CN=Plant CA in cafile "plant\.crt" expired on \S+: certificates that it signed are refused\.$/,
    /^warning m\.conf:6 ERR_TLS_CRL The CRL of CN=Plant CA in crlfile "Plant CA\.crl" expired on \S+: every client of that CA will be refused\.$/
  ])
  const future = await plant(pki, { notYetValid: true, period: period(1, 400).period })
  const early = await pki.server({ ca: future, ...period(1, 300) })
  t.match(await said(t, pki, { server: early, ca: future.cert, crl: await crlOf(pki, future, 2, 60) }), [
    /^warning m\.conf:3 ERR_TLS_CERTIFICATE certfile "server\.crt" is not valid before \S+: clients will refuse it\.$/,
    /^warning m\.conf:5 ERR_TLS_CA The CA certificate CN=Plant CA in cafile "plant\.crt" is not valid before \S+: certificates that it signed are refused\.$/,
    /^warning m\.conf:6 ERR_TLS_CRL The CRL of CN=Plant CA in crlfile "Plant CA\.crl" is not valid before \S+: every client of that CA will be refused until then\.$/
  ])
})

t.test('a certificate without host names, one for clients, one that bears the name of its CA', async t => {
  const pki = await testPki(t)
  const ca = await plant(pki)
  const nameless = await pki.server({ ca, ...long, names: [] })
  t.same(await said(t, pki, { server: nameless, ca: ca.cert }), [
    'warning m.conf:3 ERR_TLS_CERTIFICATE certfile "server.crt" has no subjectAltName: OpenSSL clients go by its CN, most others refuse it.'
  ])
  const client = await pki.client('press-7', { ca, ...long, names: ['localhost'] })
  t.same(await said(t, pki, { server: client, ca: ca.cert }), [
    'warning m.conf:3 ERR_TLS_CERTIFICATE certfile "press-7.crt" is not for servers (extended key usage): clients will refuse it. "mosquitero certs server" makes one that is.'
  ])
  const namesake = await pki.server({ ca, ...long, subject: [['CN', 'Plant CA']] })
  t.match(await said(t, pki, { server: namesake, ca: ca.cert }), [
    /^warning m\.conf:3 ERR_TLS_SAME_SUBJECT certfile "server\.crt" has the same subject as its CA \(CN=Plant CA\)/
  ])
  const similar = await pki.server({
    ca,
    ...long,
    subject: [
      ['O', 'Works'],
      ['CN', 'Plant CA']
    ]
  })
  t.same(await said(t, pki, { server: similar, ca: ca.cert }), [
    'warning m.conf:3 ERR_TLS_SAME_SUBJECT certfile "server.crt" has the same CN as the CA CN=Plant CA: people and tools take one for the other. Give the CA a name of its own.'
  ])
})

t.test('a CA without a list refuses its clients, unless it signs CAs alone', async t => {
  const pki = await testPki(t)
  const [ca, other] = [await plant(pki), await pki.authority('Old CA', long)]
  const hall = await pki.authority('Hall 3', { issuer: ca, ...long })
  const server = await pki.server({ ca, ...long })
  const all = join(pki.dir, 'all.crt')
  writeFileSync(all, [ca, other, hall].map(({ authority }) => authority.certificate).join(''))
  t.same(await said(t, pki, { server, ca: all, crl: await crlOf(pki, hall, -1, 60) }), [
    'warning m.conf:6 ERR_TLS_CRL There is no CRL of the CA CN=Old CA in crlfile "Hall 3.crl": every client of that CA will be refused.'
  ])
})

t.test('a key that everybody may read, and one of another certificate', async t => {
  const pki = await testPki(t)
  const ca = await plant(pki)
  const server = await pki.server({ ca, ...long })
  chmodSync(server.key, 0o644)
  t.same(await said(t, pki, { server, ca: ca.cert }), [
    "warning m.conf:4 ERR_FILE_PERMISSIONS File server.key has world readable permissions. To fix this, use 'chmod o-rwx server.key'."
  ])
  chmodSync(server.key, 0o640)
  t.same(await said(t, pki, { server, ca: ca.cert }), [], 'a group may be meant to')
  const { key } = await pki.client('other')
  t.same(await said(t, pki, { server: { cert: server.cert, key }, ca: ca.cert }), [
    'error m.conf:4 ERR_TLS_KEY_MISMATCH Server certificate/key are inconsistent. keyfile "other.key" does not belong to certfile "server.crt".'
  ])
})

t.test('thirty days are counted to the second', async t => {
  const now = new Date('2026-01-01T00:00:00Z')
  const after = (milliseconds: number) => daysLeft(new Date(now.getTime() + milliseconds), now)
  t.same([after(-1), after(0), after(day - 1), after(day), after(30 * day - 1), after(30 * day)], [-1, 0, 0, 1, 29, 30])
})
