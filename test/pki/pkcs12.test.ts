import { KeyObject } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import t from 'tap'
import { createAuthority, issueClient, parseAuthority } from '../../dist/pki/authority.js'
import { decodePkcs12, encodePkcs12, isPkcs12 } from '../../dist/pki/pkcs12.js'
import { openssl } from '../helpers/openssl.js'

const dir = t.testdir()
const ca = await createAuthority({ commonName: 'Casa CA' })
const ann = await issueClient(await parseAuthority(ca), { commonName: 'ann' })
const content = { ...ann, authorities: [ca.certificate], name: 'ann' }

t.test('openssl opens it, and finds the pair by its id', async t => {
  for (const passphrase of ['secret', 'sécrét€', 'a b"c']) {
    const file = join(dir, 'a.p12')
    writeFileSync(file, await encodePkcs12(content, passphrase))
    const text = openssl('pkcs12', '-in', file, '-passin', `pass:${passphrase}`, '-nodes')
    t.match(text, /friendlyName: ann[\s\S]*BEGIN PRIVATE KEY[\s\S]*subject=CN = ann[\s\S]*subject=CN = Casa CA/)
    t.equal(text.match(/localKeyID/g)?.length, 2)
    t.throws(() => openssl('pkcs12', '-in', file, '-passin', 'pass:x', '-noout'))
  }
})

t.test('ours and that of openssl are read; a wrong passphrase is told', async t => {
  writeFileSync(join(dir, 'ann.crt'), ann.certificate)
  writeFileSync(join(dir, 'ann.key'), ann.key)
  openssl(
    'pkcs12',
    '-export',
    '-in',
    join(dir, 'ann.crt'),
    '-inkey',
    join(dir, 'ann.key'),
    '-passout',
    'pass:secret',
    '-out',
    join(dir, 'o.p12')
  )
  for (const file of [await encodePkcs12(content, 'secret'), readFileSync(join(dir, 'o.p12'))]) {
    t.ok(isPkcs12(file))
    const objects = await decodePkcs12(file, 'secret', 'x.p12')
    t.ok(objects.some(object => object instanceof KeyObject))
    t.ok(objects.some(object => 'subject' in object && object.subject === 'CN=ann'))
    await t.rejects(decodePkcs12(file, 'other', 'x.p12'), { code: 'ERR_TLS_KEY_ENCRYPTED', message: 'The passphrase does not open x.p12.' })
  }
})

t.test('whatever is changed in it, it is refused with a sentence or read', async () => {
  const file = await encodePkcs12(content, 'secret')
  await fc.assert(
    fc.asyncProperty(fc.nat(file.length - 1), fc.integer({ min: 1, max: 255 }), async (offset, change) => {
      const mutated = Buffer.from(file)
      mutated[offset] = (mutated[offset] ?? 0) ^ change
      const result = await decodePkcs12(mutated, 'secret', 'x.p12').catch((error: unknown) => error)
      return Array.isArray(result) || (result instanceof Error && 'code' in result && String(result.code).startsWith('ERR_'))
    }),
    { numRuns: 100 }
  )
})
