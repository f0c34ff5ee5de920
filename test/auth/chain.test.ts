import { X509Certificate } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { buildChain, type Certificate, TrustStore, toCertificate } from '../../dist/auth/chain.js'
import { testPki } from '../helpers/pki.js'
import { run } from '../helpers/tls-listener.js'

const x509 = (path: string): X509Certificate => new X509Certificate(readFileSync(path))
const read = (path: string): Certificate => toCertificate(x509(path))
const trust = (...paths: string[]): TrustStore => new TrustStore(paths.map(x509))
const namesOf = (result: ReturnType<typeof buildChain>): string[] | undefined =>
  'path' in result ? result.path.map(({ x509 }) => x509.subject) : undefined

t.test('the way to a root goes over what the peer sent and what cafile holds', async t => {
  const pki = await testPki(t)
  const outer = await pki.authority('Outer', { issuer: pki.root })
  const inner = await pki.authority('Inner', { issuer: outer })
  const leaf = read((await pki.client('dev', { ca: inner })).cert)
  const whole = ['CN=dev', 'CN=Inner', 'CN=Outer', 'CN=Test CA']
  const now = new Date()
  t.same(namesOf(buildChain(leaf, [read(inner.cert), read(outer.cert)], trust(pki.ca), now)), whole)
  t.same(namesOf(buildChain(leaf, [read(outer.cert), read(inner.cert)], trust(pki.ca), now)), whole, 'in any order')
  t.same(namesOf(buildChain(leaf, [read(inner.cert)], trust(pki.ca, outer.cert), now)), whole)
  t.same(buildChain(leaf, [read(inner.cert)], trust(pki.ca), now), { fault: 'unknown-ca' }, 'a link is missing')
  const withoutRoot = trust(outer.cert, inner.cert)
  t.same(buildChain(leaf, [read(pki.ca)], withoutRoot, now), { fault: 'unknown-ca' }, 'an intermediate ends no way, as in OpenSSL')
})

t.test('every CA on the way must be in its dates, a CA, and allowed so deep', async t => {
  const pki = await testPki(t)
  const expired = await pki.authority('Expired', { issuer: pki.root, expired: true })
  const future = await pki.authority('Future', { issuer: pki.root, notYetValid: true })
  for (const [ca, fault] of [
    [expired, 'ca-expired'],
    [future, 'ca-not-yet-valid']
  ] as const) {
    const leaf = read((await pki.client(`of ${ca.name}`, { ca })).cert)
    t.match(buildChain(leaf, [read(ca.cert)], trust(pki.ca), new Date()), { fault, by: { x509: { subject: `CN=${ca.name}` } } })
  }

  const extensions: [name: string, text: string, fault: string | undefined][] = [
    ['not-a-ca', 'basicConstraints=critical,CA:FALSE', 'not-a-ca'],
    ['no-constraints', 'subjectKeyIdentifier=hash', 'not-a-ca'],
    ['by-key-usage', 'keyUsage=keyCertSign', undefined],
    ['a-ca', 'basicConstraints=CA:TRUE', undefined]
  ]
  for (const [name, text, fault] of extensions) {
    const { cert, key } = await issue(pki.dir, name, text, { cert: pki.ca, key: pki.root.key })
    const leaf = await issue(pki.dir, `under-${name}`, 'basicConstraints=CA:FALSE', { cert, key })
    const result = buildChain(read(leaf.cert), [read(cert)], trust(pki.ca), new Date())
    if (fault === undefined) t.equal(namesOf(result)?.length, 3, name)
    else t.match(result, { fault }, name)
  }

  const shallow = await issue(pki.dir, 'shallow', 'basicConstraints=CA:TRUE,pathlen:0', { cert: pki.ca, key: pki.root.key })
  const below = await issue(pki.dir, 'below', 'basicConstraints=CA:TRUE', shallow)
  const direct = await issue(pki.dir, 'direct', 'basicConstraints=CA:FALSE', shallow)
  const deep = await issue(pki.dir, 'deep', 'basicConstraints=CA:FALSE', below)
  const sent = [read(shallow.cert), read(below.cert)]
  t.equal(namesOf(buildChain(read(direct.cert), sent, trust(pki.ca), new Date()))?.length, 3)
  t.match(buildChain(read(deep.cert), sent, trust(pki.ca), new Date()), { fault: 'path-too-long', by: { x509: { subject: 'CN=shallow' } } })
})

t.test('a root of version 1 is a CA, a self-signed leaf only when it is in cafile itself', async t => {
  const pki = await testPki(t)
  const root = { cert: join(pki.dir, 'v1.crt'), key: join(pki.dir, 'v1.key') }
  await openssl(
    'req',
    '-new',
    '-newkey',
    'ec',
    '-pkeyopt',
    'ec_paramgen_curve:P-256',
    '-nodes',
    '-keyout',
    root.key,
    '-out',
    `${root.key}.csr`,
    '-subj',
    '/CN=v1'
  )
  await openssl('x509', '-req', '-in', `${root.key}.csr`, '-signkey', root.key, '-days', '9', '-out', root.cert)
  const leaf = await issue(pki.dir, 'leaf', 'basicConstraints=CA:FALSE', root)
  t.same(namesOf(buildChain(read(leaf.cert), [], trust(root.cert), new Date())), ['CN=leaf', 'CN=v1'])
  t.same(namesOf(buildChain(read(root.cert), [], trust(root.cert), new Date())), ['CN=v1'])
  t.same(buildChain(read(root.cert), [], trust(pki.ca), new Date()), { fault: 'unknown-ca' })
})

t.test('look-alikes among what a peer sends cost a bounded number of signature checks', async t => {
  const pki = await testPki(t)
  const lookalikes = await Promise.all(Array.from({ length: 60 }, (_, i) => pki.authority('Middle', { file: `m${i}` })))
  const middle = await pki.authority('Middle', { issuer: pki.root })
  const leaf = read((await pki.client('dev', { ca: middle })).cert)
  const sent = [...lookalikes.map(({ cert }) => read(cert)), read(middle.cert)]
  t.same(buildChain(leaf, sent, trust(pki.ca), new Date()), { fault: 'unknown-ca' })
  t.equal(namesOf(buildChain(leaf, sent.slice(-5), trust(pki.ca), new Date()))?.length, 3)
})

t.test('for a stranger no signature is verified with a key that takes long, for others it is, and last', async t => {
  const pki = await testPki(t)
  const key = join(pki.dir, 'dear.key')
  const options = ['rsa_keygen_bits:2048', 'rsa_keygen_pubexp:18446744073709551629'].flatMap(option => ['-pkeyopt', option])
  await openssl('genpkey', '-algorithm', 'RSA', ...options, '-out', key)
  const dear = { cert: join(pki.dir, 'dear.crt'), key }
  const root = { cert: join(pki.dir, 'dear-root.crt'), key }
  await openssl('req', '-new', '-key', key, '-subj', '/CN=Dear', '-out', `${key}.csr`)
  writeFileSync(`${key}.ext`, 'basicConstraints=critical,CA:TRUE')
  const signer = ['-CA', pki.ca, '-CAkey', pki.root.key, '-CAcreateserial', '-extfile', `${key}.ext`]
  await openssl('x509', '-req', '-in', `${key}.csr`, ...signer, '-days', '9', '-out', dear.cert)
  await openssl('x509', '-req', '-in', `${key}.csr`, '-signkey', key, '-extfile', `${key}.ext`, '-days', '9', '-out', root.cert)
  const leaf = read((await issue(pki.dir, 'leaf', '', dear)).cert)
  const now = new Date()
  const isStranger = true
  t.same(namesOf(buildChain(leaf, [read(dear.cert)], trust(pki.ca), now)), ['CN=leaf', 'CN=Dear', 'CN=Test CA'])
  t.same(buildChain(leaf, [read(dear.cert)], trust(pki.ca), now, { isStranger }), { fault: 'unknown-ca', isUnverified: true })
  t.same(namesOf(buildChain(leaf, [], trust(root.cert), now, { isStranger })), ['CN=leaf', 'CN=Dear'], 'the key of an owner’s own CA')
  t.same(buildChain(read(root.cert), [], trust(pki.ca), now, { isStranger }), { fault: 'unknown-ca', isUnverified: true }, 'self-signed')

  const cheap = await pki.authority('Dear', { issuer: pki.root, file: 'cheap' })
  const below = read((await pki.client('below', { ca: cheap })).cert)
  const asked: string[] = []
  below.x509.checkIssued = other => {
    asked.push(other.publicKey.asymmetricKeyType ?? '')
    return false
  }
  buildChain(below, [read(dear.cert), read(cheap.cert)], trust(pki.ca), now)
  t.same(asked, ['ec', 'rsa'])
})

t.test('a stranger’s signatures are verified for some milliseconds', async t => {
  const pki = await testPki(t)
  const middle = await pki.authority('Middle', { issuer: pki.root })
  const leaf = read((await pki.client('dev', { ca: middle })).cert)
  let verified = 0
  leaf.x509.verify = () => {
    verified += 1
    for (const end = performance.now() + 3; performance.now() < end; );
    return false
  }
  const sent = Array.from({ length: 20 }, () => read(middle.cert))
  t.same(buildChain(leaf, sent, trust(pki.ca), new Date(), { isStranger: true }), { fault: 'unknown-ca', isUnverified: true })
  t.equal(verified, 3)
  t.same(buildChain(leaf, sent, trust(pki.ca), new Date()), { fault: 'unknown-ca' })
  t.equal(verified, 3 + 20)
})

t.test('whose root is certain without looking at what the peer sent', async t => {
  const pki = await testPki(t)
  const namesake = await pki.authority('Test CA', { issuer: pki.root, file: 'namesake' })
  const other = await pki.authority('Test CA', { file: 'other' })
  const above = (path: string, ...cas: string[]) => trust(...cas).rootAbove(read(path).fields)?.x509.fingerprint256
  const root = x509(pki.ca).fingerprint256
  const leaf = (await pki.client('dev')).cert
  t.equal(above(leaf, pki.ca), root)
  t.equal(above(leaf, pki.ca, other.cert), undefined, 'two CAs of that name')
  t.equal(above(leaf, namesake.cert), undefined, 'no root')
  t.equal(above((await pki.client('under', { ca: await pki.authority('Middle', { issuer: pki.root }) })).cert, pki.ca), undefined)
  const keyed = { cert: pki.ca, key: pki.root.key }
  const hasKey = read(pki.ca).fields.keyIdentifier !== undefined
  t.ok(hasKey)
  const one = async (name: string, extensions: string, ca: Pair) => (await issue(pki.dir, name, extensions, ca)).cert
  t.equal(above(await one('no-id', 'authorityKeyIdentifier=none', keyed), pki.ca), undefined, 'does not say which key')
  t.equal(above(await one('id', 'authorityKeyIdentifier=keyid:always', keyed), pki.ca), root)
  t.equal(
    above(await one('by-number', 'authorityKeyIdentifier=keyid:always,issuer:always', keyed), pki.ca),
    undefined,
    'said in another way'
  )
  const odd = read(await one('odd', '2.5.29.14=DER:0102\n2.5.29.35=DER:0500', keyed))
  t.match([odd.fields.keyIdentifier, odd.fields.issuerKeyIdentifier], [undefined, undefined], 'none that can be read')
  t.equal(namesOf(buildChain(odd, [], trust(pki.ca), new Date()))?.length, 2)
  const between = await one('below-namesake', 'authorityKeyIdentifier=keyid:always', { cert: namesake.cert, key: namesake.key })
  t.equal(above(between, pki.ca), undefined, 'a CA in between bears its name, and has another key')
})

t.test('what a CA is known to have signed is its own, not that of a CA of the same name', async t => {
  const pki = await testPki(t)
  const other = await pki.authority('Test CA', { file: 'other' })
  const leaf = read((await pki.client('dev')).cert)
  const store = trust(other.cert, pki.ca)
  const [stranger, root] = store.certificates
  if (stranger === undefined || root === undefined) throw new Error('no CAs')
  for (let i = 0; i < 2; i++) {
    t.ok(store.hasSigned(root, leaf))
    t.notOk(store.hasSigned(stranger, leaf))
  }
})

t.test("serial numbers are printed as Node prints them, also one that is nobody's business", async t => {
  const pki = await testPki(t)
  const key = join(pki.dir, 'serial.key')
  const file = join(pki.dir, 'serial.crt')
  for (const serial of [
    '0',
    '1',
    '127',
    '128',
    '255',
    '256',
    '0x8000000000000001',
    `0x7f${'ab'.repeat(18)}`,
    '-1',
    '-128',
    '-129',
    '-65536'
  ]) {
    const command = `req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=x -keyout ${key} -out ${file} -set_serial ${serial}`
    await openssl(...command.split(' '))
    t.equal(read(file).fields.serialNumber, x509(file).serialNumber, serial)
  }
})

interface Pair {
  readonly cert: string
  readonly key: string
}

/** A certificate with extensions that our own PKI would not make. */
async function issue(dir: string, name: string, extensions: string, ca: Pair): Promise<Pair> {
  const path = join(dir, name)
  writeFileSync(`${path}.ext`, extensions)
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', `${path}.key`]
  await openssl('req', '-new', ...key, '-out', `${path}.csr`, '-subj', `/CN=${name}`)
  const signer = ['-CA', ca.cert, '-CAkey', ca.key, '-CAcreateserial', '-days', '9']
  await openssl('x509', '-req', '-in', `${path}.csr`, ...signer, '-extfile', `${path}.ext`, '-out', `${path}.crt`)
  return { cert: `${path}.crt`, key: `${path}.key` }
}

async function openssl(...args: string[]): Promise<void> {
  const { status, output } = await run('openssl', args)
  if (status !== 0) throw new Error(output)
}
