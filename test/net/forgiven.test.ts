import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import type { PeerRules } from '../../dist/config/types.js'
import { openssl } from '../helpers/openssl.js'
import { type CertificateFiles, type TestPki, testPki } from '../helpers/pki.js'
import { publish, type TestListener, testListener, tlsClient, tlsConfig } from '../helpers/tls-listener.js'

const rules: readonly PeerRules[] = [true, undefined].flatMap(dates =>
  [true, undefined].flatMap(lists =>
    [true, undefined].map(authorities => ({
      ...(dates && { forgivesDates: dates }),
      ...(lists && { forgivesExpiredLists: lists }),
      ...(authorities && { checksAuthorities: authorities })
    }))
  )
)

const nameOf = (peers: PeerRules): string => Object.keys(peers).join(', ') || 'nothing'

/** A listener with a list of the root, which names nobody unless it is given. */
async function open(t: Parameters<typeof testListener>[0], pki: TestPki, peers: PeerRules, crlfile?: string): Promise<TestListener> {
  const files = { ...(await pki.server()), cafile: pki.ca, crlfile: crlfile ?? (await pki.crl()) }
  return testListener(t, { tls: tlsConfig(files, { peers }) })
}

const come = ({ listener }: TestListener, { ca, cert, key }: CertificateFiles) =>
  publish(listener.port, '--cafile', ca, '--cert', cert, '--key', key)

t.test('a certificate whose dates are forgiven comes in, by the real client; without the option it is refused', async t => {
  const pki = await testPki(t)
  const middle = await pki.authority('Middle', { issuer: pki.root })
  const clients = [
    await pki.client('old', { expired: true }),
    await pki.client('young', { notYetValid: true }),
    await pki.client('below', { ca: middle, expired: true }),
    await pki.client('rsa', { expired: true, keyType: 'rsa' }),
    await pki.client('v1', { expired: true, v1: true })
  ]
  const lists = join(pki.dir, 'both.crl')
  writeFileSync(lists, readFileSync(await pki.crl(), 'latin1') + readFileSync(await pki.crl({ ca: middle }), 'latin1'))
  for (const client of clients) {
    const files = { ...client, ca: pki.ca }
    const forgiving = await open(t, pki, { forgivesDates: true, checksAuthorities: true }, lists)
    const { status, output } = await come(forgiving, files)
    t.equal(status, 0, `${client.cert} ${output}`)
    t.equal(forgiving.accepted.length, 1)
    const strict = await open(t, pki, {}, lists)
    t.not((await come(strict, files)).status, 0)
    t.match(await strict.log.waitFor('rejected'), /certificate (expired on|is not valid before)/)
  }
})

for (const peers of rules) {
  t.test(`refused, whatever is forgiven (${nameOf(peers)}): expired and of an unknown CA, of a forged one, revoked`, async t => {
    const pki = await testPki(t)
    const expired = { expired: true }
    const stranger = await pki.authority('Stranger')
    const namesake = await pki.authority('Test CA', { file: 'namesake' })
    const revoked = await pki.client('revoked', expired)
    const crl = await pki.revoke(revoked, { expired: peers.forgivesExpiredLists === true })
    const attacks: [name: string, client: CertificateFiles, line: RegExp][] = [
      ['unknown CA', await pki.client('alien', { ...expired, ca: stranger }), /signed by an unknown CA: CN=Stranger/],
      ['forged CA of the same name', await pki.client('forged', { ...expired, ca: namesake }), /another CA than ours of that name/],
      // Where dates count they are what is said first.
      ['revoked', revoked, peers.forgivesDates ? /certificate is revoked/ : /certificate expired on/]
    ]
    for (const [name, client, line] of attacks) {
      const listener = await open(t, pki, peers, crl)
      t.not((await come(listener, { ...client, ca: pki.ca })).status, 0, name)
      t.match(await listener.log.waitFor('rejected'), line, name)
      t.equal(listener.accepted.length, 0, name)
      for (const maxVersion of ['TLSv1.2', 'TLSv1.3'] as const) {
        const options = { maxVersion, cert: readFileSync(client.cert), key: readFileSync(client.key) }
        t.equal((await tlsClient(t, listener.listener.port, options)).isAccepted, false, `${name}, ${maxVersion}`)
      }
    }
  })
}

t.test('forgiven dates forgive nothing else: a CA’s dates, purpose, strength, constraints, who may sign', async t => {
  const pki = await testPki(t)
  const oldCa = await pki.authority('Old', { issuer: pki.root, expired: true })
  const leaf = await pki.client('leaf', { expired: true })
  const short = await by(pki, pki.root.cert, pki.root.key, 'short', ['-newkey', 'rsa:1024'], '')
  const cases: [name: string, client: CertificateFiles, line: RegExp][] = [
    ['the CA has expired too', await pki.client('a', { ca: oldCa, expired: true }), /the CA CN=Old expired on/],
    ['made for servers', await pki.server({ file: 'b', expired: true }), /extended key usage lacks clientAuth/],
    ['a short key', short, /certificate has an RSA key of 1024 bits; 2048 are needed/],
    ['signed by a client', await by(pki, leaf.cert, leaf.key, 'c', ec, ''), /signed by an unknown CA: CN=leaf/],
    [
      'unknown and critical',
      await by(pki, pki.root.cert, pki.root.key, 'd', ec, '1.2.3.4=critical,ASN1:NULL'),
      /critical extension 1\.2\.3\.4/
    ]
  ]
  for (const [name, client, line] of cases) {
    const { listener, log, accepted } = await open(t, pki, { forgivesDates: true })
    // A client of ours: mosquitto_pub itself takes no short key.
    const options = { ciphers: 'DEFAULT@SECLEVEL=0', cert: readFileSync(client.cert), key: readFileSync(client.key) }
    t.equal((await tlsClient(t, listener.port, options)).isAccepted, false, name)
    t.match(await log.waitFor('rejected'), line, name)
    t.equal(accepted.length, 0, name)
  }
})

t.test('an expired list: refused and said so, or with crl_expired warn only those that it names', async t => {
  const pki = await testPki(t)
  const [good, bad] = [await pki.client('good'), await pki.client('bad')]
  const crl = await pki.revoke(bad, { expired: true })
  const strict = await open(t, pki, {}, crl)
  t.not((await come(strict, good)).status, 0)
  t.match(
    await strict.log.waitFor('rejected'),
    /the CRL of CN=Test CA expired on \d{4}-\d\d-\d\d: until crlfile has a newer one, no client of that CA is let in/
  )
  const mild = await open(t, pki, { forgivesExpiredLists: true }, crl)
  t.equal((await come(mild, good)).status, 0)
  t.not((await come(mild, bad)).status, 0)
  t.match(await mild.log.waitFor('rejected'), /certificate is revoked/)
})

t.test('a revoked CA: with crl_check chain its clients are refused, with leaf they are not looked at', async t => {
  const pki = await testPki(t)
  const middle = await pki.authority('Middle', { issuer: pki.root })
  const client = { ...(await pki.client('dev', { ca: middle })), ca: pki.ca }
  const [ofMiddle, lists] = [await pki.crl({ ca: middle, file: join(pki.dir, 'm.crl') }), join(pki.dir, 'both.crl')]
  const both = (ofRoot: string): void => writeFileSync(lists, readFileSync(ofRoot, 'latin1') + readFileSync(ofMiddle, 'latin1'))

  const alone = await open(t, pki, { checksAuthorities: true }, ofMiddle)
  t.not((await come(alone, client)).status, 0)
  t.match(await alone.log.waitFor('rejected'), /there is no CRL for CN=Test CA/)

  both(await pki.crl())
  t.equal((await come(await open(t, pki, { checksAuthorities: true }, lists), client)).status, 0)

  pki.root.revoked.push({
    serial: openssl('x509', '-in', middle.cert, '-noout', '-serial').trim().slice(7),
    at: new Date(),
    reason: 'cACompromise'
  })
  both(await pki.crl())
  t.equal((await come(await open(t, pki, {}, lists), client)).status, 0, 'as Mosquitto')
  const chain = await open(t, pki, { checksAuthorities: true }, lists)
  t.not((await come(chain, client)).status, 0)
  t.match(await chain.log.waitFor('rejected'), /the CA CN=Middle is revoked \(serial /)
})

for (const version of ['TLSv1.2', 'TLSv1.3'] as const) {
  t.test(`${version}: a resumed session is judged by the same rules`, async t => {
    const pki = await testPki(t)
    const client = await pki.client('old', { expired: true })
    const options = { minVersion: version, maxVersion: version, cert: readFileSync(client.cert), key: readFileSync(client.key) }
    const { listener, log, accepted } = await open(t, pki, { forgivesDates: true })
    const { session } = await tlsClient(t, listener.port, options)
    t.match(await tlsClient(t, listener.port, { ...options, session }), { isAccepted: true, isReused: true })
    t.match(accepted[1]?.connection.tls?.certificate, { commonName: 'old' })
    t.equal(log.of('rejected').length, 0)

    // The same ticket keys, so that the session is resumed, and nothing is forgiven any more.
    const { material, config } = listener
    if (material === undefined) throw new TypeError('a listener without TLS')
    listener.update({ config, material: { ...material, peers: {}, digest: 'another' } })
    t.match(await tlsClient(t, listener.port, { ...options, session }), { isAccepted: false, isReused: true })
    t.match(await log.waitFor('rejected'), /certificate expired on/)
  })
}

t.test('a list that expires while a session can be resumed is judged as for a new one', async t => {
  const pki = await testPki(t)
  const client = await pki.client('dev')
  const crl = await pki.crl({ days: 1 })
  const options = { cert: readFileSync(client.cert), key: readFileSync(client.key) }
  for (const peers of [{}, { forgivesExpiredLists: true }] as const) {
    let now = new Date()
    const tls = tlsConfig({ ...(await pki.server()), cafile: pki.ca, crlfile: crl }, { peers })
    const { listener, log } = await testListener(t, { tls, host: { now: () => now } })
    const { session } = await tlsClient(t, listener.port, options)
    now = new Date(Date.now() + 2 * 86_400_000)
    const isAccepted = 'forgivesExpiredLists' in peers
    t.match(await tlsClient(t, listener.port, { ...options, session }), { isAccepted, isReused: true })
    if (!isAccepted) t.match(await log.waitFor('rejected'), /the CRL of CN=Test CA expired on/)
  }
})

const ec = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256']

/** An expired certificate as OpenSSL makes it, for what our own CA refuses to sign. */
async function by(pki: TestPki, cert: string, key: string, name: string, newKey: string[], extension: string): Promise<CertificateFiles> {
  const file = (ending: string): string => join(pki.dir, `${name}.${ending}`)
  writeFileSync(file('cnf'), `[req]\ndistinguished_name=n\n[n]\n[x]\nbasicConstraints=CA:FALSE\n${extension}\n`)
  openssl('req', '-new', '-config', file('cnf'), ...newKey, '-nodes', '-keyout', file('key'), '-subj', `/CN=${name}`, '-out', file('csr'))
  openssl(
    ...['x509', '-req', '-in', file('csr'), '-CA', cert, '-CAkey', key, '-CAcreateserial', '-out', file('crt')],
    ...['-days', '-1', '-extfile', file('cnf'), '-extensions', 'x']
  )
  const issuer = cert === pki.root.cert ? '' : readFileSync(cert, 'latin1')
  writeFileSync(file('chain'), readFileSync(file('crt'), 'latin1') + issuer)
  return { ...(await pki.client(`unused-${name}`)), cert: file('chain'), key: file('key') }
}
