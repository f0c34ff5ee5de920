// examples/signed-messages, compiled and, where Node can, as it stands there: with keys of OpenSSL, Mosquitto's clients and a real broker.

import type { KeyObject } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import fc from 'fast-check'
import t, { type Test } from 'tap'
import { freePort, must, run, start, startBroker, userLine } from '../helpers/command.js'
import { openssl } from '../helpers/openssl.js'

interface Options {
  readonly now?: () => number
  readonly last?: number
}

/** What it exports: it lies outside of what is compiled here. */
interface Example {
  readonly Signer: new (key: KeyObject, clock?: () => number) => { sign(message: string): Buffer }
  readonly Verifier: new (
    key: KeyObject,
    options?: Options
  ) => { readonly last: number; verify(payload: Buffer): { readonly ok: boolean; readonly reason?: string } }
  readPrivateKey(pem: Buffer): KeyObject
  readPublicKey(pem: Buffer): KeyObject
}

const source = join(process.cwd(), 'examples', 'signed-messages')
const compiled = join(process.cwd(), 'build', 'examples', 'signed-messages')
const [major = 0, minor = 0] = process.versions.node.split('.').map(Number)
const stripsTypes = major > 22 || (major === 22 && minor >= 18)
const curves = ['secp256k1', 'prime256v1']

await must(t, process.execPath, [join('node_modules', 'typescript', 'bin', 'tsc'), '-p', source])
const { Signer, Verifier, readPrivateKey, readPublicKey }: Example = await import(pathToFileURL(join(compiled, 'signed-message.js')).href)

function keys(t: Test, curve: string): { readonly dir: string; readonly key: string; readonly pub: string } {
  const dir = t.testdir()
  const [key, pub] = [join(dir, 'device.key'), join(dir, 'device.pub')]
  openssl('ecparam', '-name', curve, '-genkey', '-noout', '-out', key)
  openssl('pkey', '-in', key, '-pubout', '-out', pub)
  return { dir, key, pub }
}

const clock = 1_795_782_000
const now = () => clock

function pair(t: Test, curve = 'secp256k1', options: Options = {}) {
  const { dir, key, pub } = keys(t, curve)
  const [secret, known] = [readPrivateKey(readFileSync(key)), readPublicKey(readFileSync(pub))]
  return { dir, key, signer: new Signer(secret, now), verifier: new Verifier(known, { now, ...options }), known }
}

for (const curve of curves) {
  t.test(`${curve}: what was signed is taken once, in the form TIME MESSAGE : SIGNATURE`, async t => {
    const { signer, verifier } = pair(t, curve)
    const payload = signer.sign('a:b 5 °C')
    t.match(payload.toString(), /^1795782000a:b 5 °C:[A-Za-z\d+/]{86}==$/)
    t.match(verifier.verify(payload), { ok: true, time: clock, message: Buffer.from('a:b 5 °C') })
    t.same(verifier.verify(payload), { ok: false, reason: 'replayed' })
    t.match(verifier.verify(signer.sign('a:b 5 °C')), { ok: true, time: clock + 1 })
  })

  t.test(`${curve}: what the shell signs with OpenSSL, in DER, is taken`, async t => {
    const { dir, key, verifier } = pair(t, curve)
    writeFileSync(join(dir, 'signed'), `${clock}Hello World`)
    openssl('dgst', '-sha256', '-sign', key, '-out', join(dir, 'signature'), join(dir, 'signed'))
    const payload = Buffer.from(`${clock}Hello World:${readFileSync(join(dir, 'signature')).toString('base64')}`)
    t.match(verifier.verify(payload), { ok: true, message: Buffer.from('Hello World') })
  })
}

t.test('what OpenSSL says of our signatures', async t => {
  const { dir, signer } = pair(t)
  const payload = signer.sign('Hello World').toString()
  const [signed = '', base64 = ''] = payload.split(':')
  const [r, s] = [Buffer.from(base64, 'base64').subarray(0, 32), Buffer.from(base64, 'base64').subarray(32)]
  writeFileSync(
    join(dir, 'numbers'),
    `asn1=SEQUENCE:numbers\n[numbers]\nr=INTEGER:0x${r?.toString('hex')}\ns=INTEGER:0x${s?.toString('hex')}\n`
  )
  writeFileSync(join(dir, 'signed'), signed)
  openssl('asn1parse', '-genconf', join(dir, 'numbers'), '-noout', '-out', join(dir, 'der'))
  t.match(
    openssl('dgst', '-sha256', '-verify', join(dir, 'device.pub'), '-signature', join(dir, 'der'), join(dir, 'signed')),
    'Verified OK'
  )
})

t.test('a changed message, time or signature, and another’s key, are refused and move nothing', async t => {
  const { signer, verifier } = pair(t)
  const payload = signer.sign('open')
  const other = pair(t)
  fc.assert(
    fc.property(fc.nat(payload.length - 1), fc.integer({ min: 1, max: 255 }), (at, change) => {
      const changed = Buffer.from(payload)
      changed[at] = (changed[at] ?? 0) ^ change
      return !verifier.verify(changed).ok
    })
  )
  // The last letter of the base64 has bits that are no part of the signature.
  const spare = Buffer.from(payload.toString().replace(/.==$/, letters => `${String.fromCharCode(letters.charCodeAt(0) + 1)}==`))
  t.same(verifier.verify(spare), { ok: false, reason: 'malformed' })
  t.same(other.verifier.verify(payload), { ok: false, reason: 'wrong signature' })
  t.same(other.verifier.last, 0)
  t.match(verifier.verify(payload), { ok: true })
})

t.test('what is no such message is malformed', async t => {
  const { verifier } = pair(t)
  for (const text of [
    '',
    ':',
    'x',
    '1795782000',
    '1795782000:',
    '1795782000x:%%%%',
    '179578200x:AAAA',
    '1795782000x:AAA',
    'Hello World:AAAA'
  ]) {
    t.same(verifier.verify(Buffer.from(text)), { ok: false, reason: 'malformed' }, text)
  }
  fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), bytes => !verifier.verify(Buffer.from(bytes)).ok))
})

t.test('the order of times, and the clock, are kept', async t => {
  const { signer, known } = pair(t)
  const [first, second] = [signer.sign('1'), signer.sign('2')]
  const verifier = new Verifier(known, { now })
  t.ok(verifier.verify(second).ok)
  t.same(verifier.verify(first), { ok: false, reason: 'replayed' }, 'an earlier one that comes late')
  t.same(new Verifier(known, { now: () => clock + 301 }).verify(first), { ok: false, reason: 'too old' })
  t.same(new Verifier(known, { now: () => clock - 301 }).verify(first), { ok: false, reason: 'from the future' })
  t.same(new Verifier(known, { now, last: clock }).verify(first), { ok: false, reason: 'replayed' }, 'after a restart')
})

t.test('a key of another kind is refused', async t => {
  const { dir } = keys(t, 'secp384r1')
  t.throws(() => readPrivateKey(readFileSync(join(dir, 'device.key'))), { message: /P-256 or secp256k1/ })
  openssl('genpkey', '-algorithm', 'ED25519', '-out', join(dir, 'ed.key'))
  t.throws(() => readPrivateKey(readFileSync(join(dir, 'ed.key'))), { message: /P-256 or secp256k1/ })
})

for (const [form, program] of [
  ['compiled', (name: string) => join(compiled, `${name}.js`)],
  ...(stripsTypes ? ([['as it stands', (name: string) => join(source, `${name}.ts`)]] as const) : [])
] as const) {
  for (const curve of curves) {
    t.test(`${form}, ${curve}: through the broker, once and unchanged`, async t => {
      const { dir, key, pub } = keys(t, curve)
      const port = await freePort()
      writeFileSync(join(dir, 'm.conf'), `listener ${port} 127.0.0.1\nallow_anonymous true\n${userLine}`)
      const broker = await startBroker(t, ['-c', 'm.conf', '-v'], { cwd: dir })
      const where = ['-h', '127.0.0.1', '-p', `${port}`, '-t', 'press-7/signed']
      const subscriber = start(t, 'mosquitto_sub', [...where, '-i', 'sub', '-F', '%x'])
      await broker.line(/: sub 0 press-7\/signed$/)
      const receive = (message: string) => run(t, process.execPath, [program('verify'), pub, join(dir, 'last')], { input: message })
      const sign = (message: string) => must(t, process.execPath, [program('sign'), key, message])
      const publish = (input: string) => must(t, 'mosquitto_pub', [...where, '-s'], { input })

      const signed = await sign('Hello: Wörld')
      await publish(signed)
      const hex = await subscriber.line(/^[\da-f]+$/)
      t.equal(Buffer.from(hex, 'hex').toString(), signed)
      t.match(await receive(`${hex}\n${hex}\n`), { status: 0, stdout: /^\d{4}-\S+Z Hello: Wörld\n$/, stderr: 'refused: replayed\n' })
      t.match(await receive(`${hex}\n`), { status: 0, stdout: '', stderr: 'refused: replayed\n' }, 'after a restart')
      const forged = Buffer.from(signed.replace('Hello', 'Hallo')).toString('hex')
      t.match(await receive(`${forged}\nnonsense\n`), { stdout: '', stderr: 'refused: wrong signature\nrefused: malformed\n' })
    })
  }

  t.test(`${form}: what is wrong with a file is said`, async t => {
    t.match(await run(t, process.execPath, [program('sign')]), { status: 2, stderr: /^Usage: / })
    t.match(await run(t, process.execPath, [program('verify')]), { status: 2, stderr: /^Usage: / })
    t.match(await run(t, process.execPath, [program('sign'), join(t.testdir(), 'nothing')]), {
      status: 1,
      stderr: /^Error: .*no such file/
    })
  })
}
