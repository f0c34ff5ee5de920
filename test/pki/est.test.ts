// The messages of EST, with openssl as the second opinion, and rubbish.

import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import t from 'tap'
import { BrokerError } from '../../dist/errors.js'
import { decodeCertificates, decodeRequest, encodeCertificates, requestAttributes } from '../../dist/pki/est.js'
import { openssl } from '../helpers/openssl.js'
import { testPki } from '../helpers/pki.js'

t.test('certificates there and back, and openssl reads them', async t => {
  const pki = await testPki(t)
  const middle = await pki.authority('Middle CA', { issuer: pki.root })
  const leaf = await pki.client('press-7', { ca: middle })
  const pem = readFileSync(leaf.cert, 'utf8') + readFileSync(pki.ca, 'utf8')
  const message = encodeCertificates(pem)
  t.match(message, /^([A-Za-z0-9+/=]{1,76}\n)+$/)
  t.equal(decodeCertificates(message).length, 3)
  t.same(new Set(decodeCertificates(message).map(one => one.trim())), new Set(pem.match(/-----BEGIN[\s\S]*?END CERTIFICATE-----/g)))
  const file = join(pki.dir, 'm.p7')
  writeFileSync(file, Buffer.from(message, 'base64'))
  const printed = openssl('pkcs7', '-inform', 'DER', '-in', file, '-print_certs')
  for (const name of ['press-7', 'Middle CA', 'Test CA']) t.match(printed, `CN = ${name}`)
  t.equal(printed.match(/BEGIN CERTIFICATE/g)?.length, 3)
  openssl('crl2pkcs7', '-nocrl', '-certfile', leaf.cert, '-outform', 'DER', '-out', file)
  t.equal(decodeCertificates(readFileSync(file).toString('base64')).length, 2, 'and we read those of openssl')
})

t.test('the attributes are what they say', async t => {
  const file = join(t.testdir(), 'a.der')
  writeFileSync(file, Buffer.from(requestAttributes, 'base64'))
  t.match(openssl('asn1parse', '-inform', 'DER', '-in', file), /ecdsa-with-SHA256[\s\S]*id-ecPublicKey[\s\S]*prime256v1/)
})

t.test('rubbish is refused, and nothing else happens', async t => {
  const pki = await testPki(t)
  const good = Buffer.from(encodeCertificates(readFileSync(pki.ca, 'utf8')), 'base64')
  const refused = (body: string): void => {
    try {
      decodeCertificates(body)
    } catch (error) {
      if (!(error instanceof BrokerError && error.code === 'ERR_PKI_INPUT')) throw error
    }
  }
  fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), bytes => refused(Buffer.from(bytes).toString('base64'))))
  fc.assert(
    fc.property(fc.nat(good.length - 1), fc.nat(255), (at, byte) => {
      const copy = Buffer.from(good)
      copy[at] = byte
      refused(copy.toString('base64'))
    }),
    { numRuns: 2000 }
  )
  // Lengths within lengths.
  let bomb = Buffer.of(0x30, 0)
  for (let i = 0; i < 5000; i++) {
    const length = Buffer.alloc(4)
    length.writeUInt32BE(bomb.length)
    bomb = Buffer.concat([Buffer.of(0x30, 0x84), length, bomb])
  }
  t.throws(() => decodeCertificates(bomb.toString('base64')), { code: 'ERR_PKI_INPUT' })
  for (const body of ['', '   ', '%%%', 'a'.repeat(5), '-----BEGIN X-----']) t.throws(() => decodeRequest(body), { code: 'ERR_PKI_INPUT' })
})
