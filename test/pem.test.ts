import fc from 'fast-check'
import t from 'tap'
import { isEncryptedKey, pemBlocks } from '../dist/pem.js'

const block = (label: string, body: string) => `-----BEGIN ${label}-----\n${body}\n-----END ${label}-----\n`

t.test('blocks come in order, without the text around them, whatever ends their lines', async t => {
  const text = `a comment\n${block('CERTIFICATE', 'AAAA')}between\n${block('X509 CRL', 'BBBB')}after\n`
  const blocks = [
    { label: 'CERTIFICATE', text: block('CERTIFICATE', 'AAAA'), closed: true },
    { label: 'X509 CRL', text: block('X509 CRL', 'BBBB'), closed: true }
  ]
  t.same(pemBlocks(text), blocks)
  t.same(pemBlocks(text.replaceAll('\n', '\r\n')), blocks)
})

t.test('a block without its END line is there, and not closed', async t => {
  const cut = { label: 'CERTIFICATE', text: '', closed: false }
  t.same(pemBlocks('-----BEGIN CERTIFICATE-----\nAAAA\n'), [cut])
  t.same(pemBlocks(`-----BEGIN CERTIFICATE-----\nAAAA\n${block('CRL', 'B')}`), [
    cut,
    { label: 'CRL', text: block('CRL', 'B'), closed: true }
  ])
  t.same(pemBlocks('-----BEGIN CERTIFICATE-----\nAAAA\n-----END CRL-----\n'), [cut])
})

t.test('a byte order mark before the first block is passed by, as OpenSSL does it', async t => {
  const text = block('ENCRYPTED PRIVATE KEY', 'AAAA')
  for (const mark of ['\ufeff', '\u00ef\u00bb\u00bf']) {
    t.same(pemBlocks(mark + text), pemBlocks(text))
    t.ok(isEncryptedKey(mark + text))
    t.same(pemBlocks(text + mark + text), pemBlocks(text), 'and nowhere else')
  }
})

t.test('a marker inside a line is none', async t => {
  t.same(pemBlocks('see -----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n'), [])
})

t.test('a key under a passphrase is told by its text, in the new form and the old', async t => {
  t.ok(isEncryptedKey(block('ENCRYPTED PRIVATE KEY', 'AAAA')))
  t.ok(isEncryptedKey('-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAAAA\n-----END RSA PRIVATE KEY-----\n'))
  t.notOk(isEncryptedKey(block('PRIVATE KEY', 'AAAA')))
})

t.test('any text is read, and what was written is found', async t => {
  fc.assert(fc.property(fc.string({ unit: 'binary' }), text => Array.isArray(pemBlocks(text))))
  const label = fc.stringMatching(/^[A-Z0-9 ]{1,20}$/)
  const body = fc.stringMatching(/^[A-Za-z0-9+/=]{0,64}$/)
  fc.assert(
    fc.property(fc.array(fc.tuple(label, body)), pairs => {
      const found = pemBlocks(pairs.map(([label, body]) => block(label, body)).join(''))
      t.same(
        found.map(({ label }) => label),
        pairs.map(([label]) => label)
      )
    })
  )
})
