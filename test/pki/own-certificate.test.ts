// The certificate that the broker makes for itself: S4.1, its renewal, and what stands in the way.

import { existsSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { examine } from '../../dist/check/examine.js'
import { createAuthority, issueCertificate, parseAuthority } from '../../dist/pki/authority.js'
import { pathsOf, writeIssued } from '../../dist/pki/files.js'
import { parseAlternativeName } from '../../dist/pki/names.js'
import { ensureOwnCertificate } from '../../dist/pki/own-certificate.js'
import { freePort, must, startBroker, userLine } from '../helpers/command.js'
import { openssl } from '../helpers/openssl.js'
import { until } from '../helpers/until.js'

const day = 86_400_000

async function made(t: Test) {
  const dir = t.testdir({ ca: {} })
  const ca = pathsOf(join(dir, 'ca/ca'))
  const authority = await createAuthority({ commonName: 'Platform CA' })
  await writeIssued(ca, authority)
  const own = pathsOf(join(dir, 'certs/broker/own'))
  const config = (...names: string[]) => ({ names, ca, ...own })
  /** Puts one there as an earlier start would have. */
  const put = async (notBefore: Date, notAfter: Date) => {
    const issued = await issueCertificate(await parseAuthority(authority), {
      profile: 'server',
      subject: [['CN', 'localhost']],
      names: [parseAlternativeName('localhost')],
      period: { notBefore, notAfter }
    })
    mkdirSync(join(dir, 'certs/broker'), { recursive: true })
    writeFileSync(own.certificate, issued.certificate)
    writeFileSync(own.key, issued.key)
  }
  return { dir, ca, own, config, put }
}

t.test('made where it is missing, recorded, and left alone while it is good', async t => {
  const { ca, dir, own, config } = await made(t)
  const ensure = (...names: string[]) => ensureOwnCertificate({ config: config(...names), passphrase: undefined })
  t.match(await ensure('broker.example.org', '192.0.2.1', '*.x.org'), { made: true })
  t.equal(statSync(own.key).mode & 0o777, 0o600)
  openssl('verify', '-x509_strict', '-verify_hostname', 'a.x.org', '-CAfile', ca.certificate, own.certificate)
  openssl('verify', '-verify_ip', '192.0.2.1', '-CAfile', ca.certificate, own.certificate)
  t.match(readFileSync(join(dir, 'ca/index.txt'), 'utf8'), /^V.*\/CN=broker\.example\.org\n$/)
  t.match(await ensure('broker.example.org', '192.0.2.1', '*.x.org'), { made: false })
  t.match(await ensure('broker.example.org', '192.0.2.1'), { made: true }, 'one name less')
  t.match(await ensure('broker.example.org', '192.0.2.2'), { made: true }, 'another name')
  writeFileSync(own.key, readFileSync(ca.key))
  t.match(await ensure('broker.example.org', '192.0.2.2'), { made: true }, 'a key that is not its own')
  rmSync(ca.certificate)
  rmSync(ca.key)
  await writeIssued(ca, await createAuthority({ commonName: 'Platform CA' }))
  t.match(await ensure('broker.example.org', '192.0.2.2'), { made: true }, 'another CA')
})

t.test('made anew after two thirds of its life; kept with a reason while that fails, refused once it has ended', async t => {
  const { ca, config, put } = await made(t)
  const ensure = () => ensureOwnCertificate({ config: config('localhost'), passphrase: undefined })
  await put(new Date(Date.now() - 19 * day), new Date(Date.now() + 11 * day))
  t.match(await ensure(), { made: false })
  await put(new Date(Date.now() - 21 * day), new Date(Date.now() + 9 * day))
  t.match(await ensure(), { made: true })
  await put(new Date(Date.now() - 21 * day), new Date(Date.now() + 9 * day))
  rmSync(ca.key)
  t.match(await ensure(), { made: false, failure: /Unable to read .*ca\.key: No such file or directory\./ })
  await put(new Date(Date.now() - 21 * day), new Date(Date.now() - day))
  await t.rejects(ensure(), { code: 'ERR_TLS_CERTIFICATE', message: /^The broker's certificate cannot be made\. Unable to read / })
})

t.test('one that ends with its CA is not made again and again', async t => {
  const { config } = await made(t)
  const now = new Date(Date.now() + 3600 * day)
  const ensure = (at: Date) => ensureOwnCertificate({ config: config('localhost'), passphrase: undefined, now: at })
  t.match(await ensure(now), { made: true })
  t.match(await ensure(new Date(now.getTime() + 45 * day)), { made: false })
})

t.test('a CA key under a passphrase is opened with it, and not without', async t => {
  const { ca, config } = await made(t)
  openssl('ec', '-in', ca.key, '-aes256', '-passout', 'pass:secret', '-out', ca.key)
  const ensure = (passphrase: string | undefined) => ensureOwnCertificate({ config: config('localhost'), passphrase })
  await t.rejects(ensure(undefined), { message: /is protected by a passphrase/ })
  await t.rejects(ensure('other'), { message: /The passphrase does not open/ })
  t.match(await ensure('secret'), { made: true })
})

t.test('bad names are refused', async t => {
  const { config } = await made(t)
  for (const name of ['a b', '1.2.3', '../x', 'a\nb', '']) {
    await t.rejects(
      ensureOwnCertificate({ config: config('localhost', name), passphrase: undefined }),
      { code: 'ERR_TLS_CERTIFICATE' },
      name
    )
  }
})

t.test('the command: a list of names is enough, check says what a start would do, and a running broker renews', async t => {
  const { dir, ca, own, put } = await made(t)
  const port = await freePort()
  writeFileSync(join(dir, 'm.conf'), `${userLine}#!enrolment_ca ca/ca.crt ca/ca.key\nlistener ${port} 127.0.0.1\nallow_anonymous true\n`)
  const env = { MOSQUITERO_TLS_DNS_LIST: 'localhost' }
  const before = process.cwd()
  process.chdir(dir)
  try {
    const { problems } = await examine({ file: 'm.conf', env })
    t.same(
      problems.filter(({ severity }) => severity === 'error'),
      []
    )
    const broken = await examine({ file: 'm.conf', env: { MOSQUITERO_TLS_DNS_LIST: 'a b' } })
    t.match(
      broken.problems.find(({ severity }) => severity === 'error'),
      { message: /cannot be a name of the broker/ }
    )
  } finally {
    process.chdir(before)
  }
  t.notOk(existsSync(own.certificate), 'looking makes nothing')
  t.notOk(existsSync(join(dir, 'ca/index.txt')))

  const first = await startBroker(t, ['-c', 'm.conf'], { cwd: dir, env })
  await first.line(/Made the broker's certificate certs\/broker\/own\.crt for localhost, valid to /)
  await must(t, 'mosquitto_pub', ['-h', 'localhost', '-p', `${port}`, '--cafile', ca.certificate, '-t', 'a', '-m', 'b'])
  t.equal((await first.stop()).status, 0)

  // Due two seconds from now: the next start takes it, and it is followed while the broker runs.
  const life = 3_000_000
  const begin = Date.now() - (life * 2) / 3 + 3000
  await put(new Date(Math.floor(begin / 1000) * 1000), new Date(Math.floor((begin + life) / 1000) * 1000))
  const old = readFileSync(own.certificate, 'utf8')
  const second = await startBroker(t, ['-c', 'm.conf'], { cwd: dir, env })
  t.notMatch(second.stderr(), /Made the broker's certificate/)
  await second.line(/Made the broker's certificate/)
  await second.line(/Config reloaded: /)
  t.not(readFileSync(own.certificate, 'utf8'), old)
  const shown = await until(() => must(t, 'openssl', ['s_client', '-connect', `127.0.0.1:${port}`, '-showcerts']))
  t.match(shown, readFileSync(own.certificate, 'utf8').trim())
  await second.stop()
})

t.test('a folder that cannot be written to stops the start with a sentence', async t => {
  const { dir } = await made(t)
  writeFileSync(join(dir, 'certs'), '')
  const port = await freePort()
  writeFileSync(
    join(dir, 'm.conf'),
    `#!enrolment_ca ca/ca.crt ca/ca.key\n#!tls_dns_list localhost\nlistener ${port} 127.0.0.1\n${userLine}`
  )
  await t.rejects(
    startBroker(t, ['-c', 'm.conf'], { cwd: dir }),
    /Error: The broker's certificate cannot be made\. Unable to make the folder certs\/broker: [\s\S]*Error found at m\.conf:2\./
  )
})
