import { generateKeyPairSync, randomBytes, webcrypto } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import t, { type Test } from 'tap'
import { maxRequestSize, parseRequest } from '../../dist/pki/request.js'
import { openssl } from '../helpers/openssl.js'

const dir = t.testdir()
const at = (name: string) => join(dir, name)

function request(name: string, key: readonly string[], more: readonly string[] = []): Buffer {
  openssl(
    'req',
    '-new',
    '-newkey',
    ...key,
    '-nodes',
    '-keyout',
    at(`${name}.key`),
    '-out',
    at(`${name}.csr`),
    '-subj',
    '/CN=asked/O=x',
    ...more
  )
  return readFileSync(at(`${name}.csr`))
}

const ec = (curve: string) => ['ec', '-pkeyopt', `ec_paramgen_curve:${curve}`]
const good = request('good', ec('P-256'), ['-addext', 'subjectAltName=DNS:a.example.org,IP:10.0.0.1,email:a@b.c'])
const toDer = (pem: Buffer) => Buffer.from(pem.toString().replaceAll(/-----[^-]+-----/g, ''), 'base64')
const der = toDer(good)
const refused = (t: Test, content: Buffer, reason: string) =>
  t.rejects(
    parseRequest(content, 'x.csr'),
    { code: 'ERR_PKI_INPUT', message: `The certificate request in x.csr is refused: ${reason}.` },
    reason
  )

t.test('PEM and DER are read, and host names and addresses are told', async t => {
  for (const content of [good, der]) {
    const { subject, names, publicKey } = await parseRequest(content, 'x.csr')
    t.match(subject, /CN=asked/)
    t.same(names(), [
      { type: 'dns', value: 'a.example.org' },
      { type: 'ip', value: '10.0.0.1' }
    ])
    t.match(publicKey.algorithm, { name: 'ECDSA', namedCurve: 'P-256' })
  }
})

t.test('good keys of every kind are taken', async t => {
  openssl('genpkey', '-algorithm', 'ed25519', '-out', at('ed.key'))
  openssl('req', '-new', '-key', at('ed.key'), '-subj', '/CN=x', '-out', at('ed.csr'))
  for (const content of [request('r', ['rsa:2048']), request('p', ec('P-384'), ['-sha384']), readFileSync(at('ed.csr'))]) {
    await t.resolves(parseRequest(content, 'x.csr'))
  }
})

t.test('weak keys and hashes are refused with the reason', async t => {
  await refused(t, request('small', ['rsa:1024']), 'its key is RSA with 1024 bits; at least 2048 are needed')
  await refused(t, request('koblitz', ec('secp256k1')), 'its key is of type ec secp256k1; RSA, EC P-256, EC P-384 and Ed25519 are taken')
  await refused(t, request('p521', ec('P-521')), 'its key is of type ec secp521r1; RSA, EC P-256, EC P-384 and Ed25519 are taken')
  const sha1 = 'it is signed over a hash that is not SHA-256, SHA-384 or SHA-512'
  await refused(t, request('sha1', ec('P-256'), ['-sha1']), sha1)
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048, publicExponent: 3 })
  writeFileSync(at('e3.key'), privateKey.export({ type: 'pkcs8', format: 'pem' }))
  openssl('req', '-new', '-key', at('e3.key'), '-subj', '/CN=x', '-out', at('e3.csr'))
  await refused(t, readFileSync(at('e3.csr')), 'its key is RSA with the exponent 3; at least 65537 is needed')
  const large = request('large', ['rsa:2048', '-pkeyopt', 'rsa_keygen_pubexp:18446744073709551629'])
  await refused(t, large, 'its key is RSA with an exponent above 4294967296; 65537 is usual')
})

t.test('a key that is too long to check is refused before it is', async t => {
  const spki = (modulus: Buffer) => {
    const integer = tlv(0x02, Buffer.concat([Buffer.from([0]), modulus]))
    const key = tlv(0x30, Buffer.concat([integer, Buffer.from('0203010001', 'hex')]))
    const algorithm = Buffer.from('300d06092a864886f70d0101010500', 'hex')
    return tlv(0x30, Buffer.concat([algorithm, tlv(0x03, Buffer.concat([Buffer.from([0]), key]))]))
  }
  const modulus = randomBytes(16384 / 8)
  modulus[0] = 0xff
  const info = tlv(0x30, Buffer.concat([Buffer.from('0201003000', 'hex'), spki(modulus), Buffer.from('a000', 'hex')]))
  const signature = tlv(0x03, Buffer.concat([Buffer.from([0]), randomBytes(2048)]))
  const content = tlv(0x30, Buffer.concat([info, Buffer.from('300d06092a864886f70d01010b0500', 'hex'), signature]))
  await refused(t, content, 'its key is RSA with 16384 bits; at most 8192 are taken')
})

t.test('a signature that is wrong is told: the key is somebody else’s, or a byte was changed', async t => {
  const changed = Buffer.from(der)
  changed[der.indexOf('asked')] = 'b'.charCodeAt(0)
  await refused(t, changed, 'its signature is wrong, so whoever made it does not have the key, or it was changed')
})

t.test('what is no request, cut off, or several, is refused', async t => {
  await refused(t, Buffer.from(''), 'there is no certificate request in it')
  await refused(t, Buffer.from('meow'), 'there is no certificate request in it')
  await refused(t, good.subarray(0, 200), 'it is cut off')
  await refused(t, Buffer.concat([good, good]), 'there are several certificate requests in it')
  await refused(t, Buffer.concat([der, Buffer.from('x')]), 'bytes follow behind its end')
  await refused(t, der.subarray(0, -3), 'it is damaged')
  await refused(t, Buffer.alloc(maxRequestSize + 1, 0x30), 'it is larger than 64 KB')
})

t.test('DER bombs cost nothing', async t => {
  const start = process.cpuUsage()
  let deep: Buffer = Buffer.from('0500', 'hex')
  for (let depth = 0; depth < 10_000; depth += 1) deep = tlv(0x30, deep)
  await refused(t, deep, 'it is nested too deeply')
  await refused(t, tlv(0x30, Buffer.alloc(60_000, Buffer.from('3000', 'hex'))), 'it has too many parts')
  for (const length of ['84ffffffff', '847fffffff', '89ffffffffffffffffff', '80', 'ff']) {
    await refused(t, Buffer.from(`30${length}3000`, 'hex'), 'it is damaged')
  }
  t.ok(process.cpuUsage(start).user < 1_000_000)
})

t.test('whatever is changed in a request, it is refused with a reason or still its own', async () => {
  const spkiOf = async (content: Buffer) =>
    Buffer.from(await webcrypto.subtle.exportKey('spki', (await parseRequest(content, 'x.csr')).publicKey)).toString('hex')
  const own = await spkiOf(der)
  const change = fc.record({ offset: fc.nat(der.length - 1), bytes: fc.uint8Array({ minLength: 1, maxLength: 8 }), cut: fc.nat(8) })
  await fc.assert(
    fc.asyncProperty(fc.array(change, { minLength: 1, maxLength: 4 }), async changes => {
      const mutated = changes.reduce(
        (content, { offset, bytes, cut }) => Buffer.concat([content.subarray(0, offset), bytes, content.subarray(offset + cut)]),
        Buffer.from(der)
      )
      try {
        return (await spkiOf(mutated)) === own
      } catch (error) {
        return error instanceof Error && 'code' in error && error.code === 'ERR_PKI_INPUT' && !error.message.includes('\n')
      }
    }),
    { numRuns: 500 }
  )
})

t.test('any bytes are refused', async () => {
  const bytes = fc.oneof(
    fc.uint8Array({ maxLength: 300 }),
    fc.uint8Array({ maxLength: 300 }).map(some => Uint8Array.from([0x30, ...some]))
  )
  await fc.assert(
    fc.asyncProperty(bytes, async some => {
      const error = await parseRequest(Buffer.from(some), 'x.csr').catch((error: unknown) => error)
      return error instanceof Error && 'code' in error && error.code === 'ERR_PKI_INPUT'
    }),
    { numRuns: 500 }
  )
})

function tlv(tag: number, content: Buffer): Buffer {
  const { length } = content
  const head =
    length < 0x80
      ? [tag, length]
      : length < 0x1_0000
        ? [tag, 0x82, length >> 8, length & 0xff]
        : [tag, 0x83, length >> 16, (length >> 8) & 0xff, length & 0xff]
  return Buffer.concat([Buffer.from(head), content])
}
