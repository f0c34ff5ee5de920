// `mosquitero certs invite` and `retrieve`, with a broker that has an enrolment listener: scenario S4.2 from both sides.

import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createServer as createTlsServer } from 'node:tls'
import t, { type Test } from 'tap'
import { type Ended, freePort, mosquitero, run, startBroker, userLine } from '../helpers/command.js'
import { openssl } from '../helpers/openssl.js'
import { until } from '../helpers/until.js'

/** A folder with a CA and a broker that enrols; what a device has is a folder of its own. */
async function platform(t: Test) {
  const dir = mkdtempSync(join(tmpdir(), 'mosquitero-enrol-'))
  t.teardown(() => rmSync(dir, { recursive: true, force: true }))
  const certs = (...args: readonly string[]): Promise<Ended> => mosquitero(t, ['certs', ...args], { cwd: dir, input: '' }).ended
  for (const args of [['init'], ['server', 'localhost']]) t.equal((await certs(...args)).status, 0)
  const [port, enrolmentPort] = [await freePort(), await freePort()]
  writeFileSync(join(dir, 'acl'), 'pattern readwrite /plant/%u/#\n')
  writeFileSync(
    join(dir, 'm.conf'),
    `listener ${port} 127.0.0.1
cafile certs/ca/ca.crt
certfile certs/broker/broker.crt
keyfile certs/broker/broker.key
require_certificate true
use_identity_as_username true
acl_file acl
#!enrolment_ca certs/ca/ca.crt certs/ca/ca.key
#!enrolment_listener ${enrolmentPort} 127.0.0.1
log_type all
${userLine}`
  )
  const broker = await startBroker(t, ['-c', 'm.conf'], { cwd: dir })
  const invite = async (deviceId: string, ...more: readonly string[]): Promise<{ secret: string; fingerprint: string }> => {
    const { status, stdout, stderr } = await certs('invite', deviceId, '--json', ...more)
    t.equal(status, 0, stderr)
    return JSON.parse(stdout)
  }
  const url = `https://localhost:${enrolmentPort}`
  return { dir, certs, broker, invite, port, url, enrolmentPort }
}

function device(t: Test) {
  const dir = mkdtempSync(join(tmpdir(), 'mosquitero-device-'))
  t.teardown(() => rmSync(dir, { recursive: true, force: true }))
  const at = (name: string): string => join(dir, 'certs', name)
  const retrieve = (args: readonly string[], secret?: string): Promise<Ended> =>
    mosquitero(t, ['certs', 'retrieve', ...args], {
      cwd: dir,
      input: '',
      env: secret === undefined ? {} : { MOSQUITERO_ENROLMENT_SECRET: secret }
    }).ended
  return { dir, at, retrieve }
}

t.test('from an invitation to a message, renewed, and revoked', async t => {
  const { certs, broker, invite, port, url } = await platform(t)
  const { at, retrieve } = device(t)
  const { secret, fingerprint } = await invite('f60c28')
  const got = await retrieve([url, 'f60c28', '--fingerprint', fingerprint], secret)
  t.equal(got.status, 0, got.stderr)
  t.match(got.stdout, 'certs/f60c28.crt: certificate')
  t.equal(statSync(at('f60c28.key')).mode & 0o777, 0o600)
  const files = ['--cafile', at('ca.crt'), '--cert', at('f60c28.crt'), '--key', at('f60c28.key')]
  const publish = (topic: string) =>
    run(t, 'mosquitto_pub', ['-h', 'localhost', '-p', String(port), ...files, '-t', topic, '-m', 'on', '-q', '1'])
  t.equal((await publish('/plant/f60c28/attrs')).status, 0)
  await broker.line(/Received PUBLISH from .*plant\/f60c28\/attrs/)

  const first = readFileSync(at('f60c28.crt'), 'utf8')
  const renewed = await retrieve([url, 'f60c28', '--renew'])
  t.equal(renewed.status, 0, renewed.stderr)
  t.not(readFileSync(at('f60c28.crt'), 'utf8'), first)
  t.equal((await publish('/plant/f60c28/attrs')).status, 0)
  t.match((await certs('list')).stdout, 'f60c28')

  t.equal((await certs('revoke', 'f60c28')).status, 0)
  const refused = await retrieve([url, 'f60c28', '--renew'])
  t.equal(refused.status, 1)
  t.match(refused.stderr, 'refused (403), The certificate of the TLS handshake is revoked.')
})

t.test('a device stops clearly, and leaves nothing half done', async t => {
  const { dir, invite, url, enrolmentPort } = await platform(t)
  const { at, retrieve } = device(t)
  const { secret, fingerprint } = await invite('f60c28')
  const fails = async (args: readonly string[], given: string | undefined, said: string | RegExp, status = 1): Promise<void> => {
    const ended = await retrieve(args, given)
    t.equal(ended.status, status, `${ended.stdout}${ended.stderr}`)
    t.match(ended.stderr, said)
    t.notMatch(ended.stderr, secret)
    t.notOk(existsSync(at('f60c28.crt')))
  }
  const trusted = ['--fingerprint', fingerprint]
  await fails([url, 'f60c28'], secret, 'By what is the CA known?', 2)
  await fails(
    [url, 'f60c28', '--fingerprint', fingerprint.replace(/^./, digit => (digit === '0' ? '1' : '0'))],
    secret,
    'its CA has another fingerprint'
  )
  await fails([url, 'f60c28', '--fingerprint', 'abc'], secret, '--fingerprint is a SHA-256', 2)
  await fails([url, 'f60c28', ...trusted], undefined, 'There is no secret')
  await fails([url, 'f60c28', ...trusted], 'wrong', 'refused (401), Device id and secret are not right')
  await fails([url, 'f60c29', ...trusted], secret, 'refused (401)')
  await fails([url, 'f60c28', ...trusted, '--renew'], secret, 'There is nothing to renew')
  await fails([url, '../../x', ...trusted], secret, 'cannot be used')
  await fails(['http://localhost', 'f60c28', ...trusted], secret, 'write https://HOST:PORT')
  await fails([`https://127.0.0.1:${enrolmentPort}`, 'f60c28', ...trusted], secret, 'not for that host name')
  await fails([`https://localhost:${await freePort()}`, 'f60c28', ...trusted], secret, 'nothing listens there')

  // Somebody in the middle, who has another CA and passes on what the real one says of itself.
  openssl(
    'req',
    '-x509',
    '-newkey',
    'ec',
    '-pkeyopt',
    'ec_paramgen_curve:P-256',
    '-nodes',
    '-subj',
    '/CN=localhost',
    '-days',
    '2',
    '-addext',
    'subjectAltName=DNS:localhost',
    '-keyout',
    join(dir, 'e.key'),
    '-out',
    join(dir, 'e.crt')
  )
  openssl('crl2pkcs7', '-nocrl', '-certfile', join(dir, 'certs/ca/ca.crt'), '-outform', 'DER', '-out', join(dir, 'e.p7'))
  const heard: string[] = []
  const answer = readFileSync(join(dir, 'e.p7')).toString('base64')
  const eve = createTlsServer({ key: readFileSync(join(dir, 'e.key')), cert: readFileSync(join(dir, 'e.crt')) }, socket => {
    socket
      .on('error', () => {})
      .on('data', chunk => {
        heard.push(String(chunk))
        socket.end(`HTTP/1.1 200 OK\r\nContent-Length: ${answer.length}\r\nConnection: close\r\n\r\n${answer}`)
      })
  })
  eve.on('tlsClientError', () => {})
  await new Promise<void>(resolve => eve.listen(0, '127.0.0.1', resolve))
  t.teardown(() => eve.close())
  const address = eve.address()
  const evil = `https://localhost:${typeof address === 'object' && address ? address.port : 0}`
  await fails([evil, 'f60c28', ...trusted], secret, 'certificate is self-signed')
  t.match(heard.join(''), 'GET /.well-known/est/cacerts')
  t.notMatch(heard.join(''), /POST|Authorization/)

  const key = readFileSync(at('f60c28.key'), 'utf8')
  const got = await retrieve([url, 'f60c28', ...trusted], secret)
  t.equal(got.status, 0, got.stderr)
  t.equal(readFileSync(at('f60c28.key'), 'utf8'), key, 'the key of the first try, never overwritten')
  const again = await retrieve([url, 'f60c28', ...trusted], secret)
  t.equal(again.status, 1)
  t.match(again.stderr, 'exists and is not overwritten; --renew renews it')
})

t.test('files on the device that are of no use are named', async t => {
  const { dir, certs, url } = await platform(t)
  const { at, retrieve } = device(t)
  for (const name of ['f60c28', 'other']) t.equal((await certs('client', name)).status, 0)
  const from = (name: string): string => join(dir, 'certs/client', name)
  mkdirSync(at(''))
  copyFileSync(join(dir, 'certs/ca/ca.crt'), at('ca.crt'))
  openssl('pkey', '-in', from('f60c28.key'), '-aes256', '-passout', 'pass:x', '-out', at('locked.key'))
  writeFileSync(at('rubbish'), 'rubbish')
  for (const [certificate, key, said] of [
    [from('f60c28.crt'), at('locked.key'), 'Error: certs/f60c28.key is protected by a passphrase.\n'],
    [from('f60c28.crt'), at('rubbish'), 'Error: certs/f60c28.key holds no private key that can be read.\n'],
    [at('rubbish'), from('f60c28.key'), 'Error: certs/f60c28.crt holds no certificate that can be read.\n'],
    [from('f60c28.crt'), from('other.key'), 'Error: certs/f60c28.key is not the key of certs/f60c28.crt.\n']
  ] as const) {
    copyFileSync(certificate, at('f60c28.crt'))
    copyFileSync(key, at('f60c28.key'))
    const { status, stderr } = await retrieve([url, 'f60c28', '--renew'])
    t.equal(status, 1)
    t.equal(stderr, said)
  }
})

t.test('with curl and openssl alone, as the README and docs/enrolment.md say', async t => {
  const { dir, invite, enrolmentPort } = await platform(t)
  for (const [page, heading] of [
    ['README.md', '## Devices that fetch their certificates'],
    ['docs/enrolment.md', '## With curl and openssl alone']
  ] as const) {
    const { dir: at } = device(t)
    copyFileSync(join(dir, 'certs/ca/ca.crt'), join(at, 'ca.crt'))
    const { secret } = await invite('f60c28')
    const section = readFileSync(page, 'utf8').split(heading)[1]?.split('\n## ')[0] ?? ''
    const blocks = Array.from(section.matchAll(/```sh\n([\s\S]*?)```/g), ([, commands = '']) => commands)
    t.ok(blocks.length > 0)
    for (const commands of blocks) {
      const script = commands.replaceAll('broker.example.org:8443', `localhost:${enrolmentPort}`)
      const { status, stderr } = await run(t, 'sh', ['-ec', script], { cwd: at, env: { SECRET: secret } })
      t.equal(status, 0, stderr)
    }
    t.match(openssl('verify', '-CAfile', join(at, 'ca.crt'), join(at, 'f60c28.crt')), 'OK')
    t.match(openssl('x509', '-in', join(at, 'f60c28.crt'), '-noout', '-subject'), 'CN = f60c28')
  }
})

t.test('revoking a name ends its invitation too, also before it has a certificate', async t => {
  const { certs, invite, url } = await platform(t)
  const { secret, fingerprint } = await invite('f60c28')
  const revoked = await certs('revoke', 'f60c28')
  t.equal(revoked.status, 0)
  t.equal(revoked.stdout, 'The invitation of f60c28 is void.\n')
  const refused = await device(t).retrieve([url, 'f60c28', '--fingerprint', fingerprint], secret)
  t.match(refused.stderr, 'refused (401)')
  t.equal((await certs('revoke', 'f60c28')).status, 1)
  t.equal((await certs('client', 'f60c28')).status, 0)
  await invite('f60c28')
  t.match((await certs('revoke', 'f60c28')).stdout, /^The invitation of f60c28 is void\.\nRevoked: [0-9A-F]+ \/CN=f60c28\n/)
})

t.test('inviting', async t => {
  const { certs, dir } = await platform(t)
  const unusable = await certs('invite', 'press-7', '--url', 'foo')
  t.match(unusable, { status: 1, stdout: '', stderr: /^Error: "foo" is no address of an enrolment server: write https:\/\/HOST:PORT\.\n$/ })
  t.notOk(existsSync(join(dir, 'certs/ca/invitations.jsonl')), 'no secret is made for it')
  const { status, stdout } = await certs('invite', 'press-7', '--ttl', '15m', '--url', 'https://x:1')
  t.equal(status, 0)
  t.match(
    stdout,
    /^Secret of press-7, good once until .* UTC:\n {2}([a-z2-9-]{27})\nOn the device:\n {2}MOSQUITERO_ENROLMENT_SECRET=\1 mosquitero certs retrieve https:\/\/x:1 press-7 --fingerprint [0-9a-f]{64}\n$/
  )
  for (const [args, said, wrong] of [
    [['invite'], 'Name one device.', 2],
    [['invite', 'a', '--ttl', '1y'], 'is no time', 2],
    [['invite', 'a', '--ttl', '31d'], '30 days at most', 1],
    [['invite', '../a'], 'cannot be used', 1],
    [['invite', 'a:b'], 'cannot be used', 1],
    [['invite', 'a', '--dir', 'nowhere'], 'Unable to read nowhere/ca/ca.crt', 1]
  ] as const) {
    const ended = await certs(...args)
    t.equal(ended.status, wrong, args.join(' '))
    t.match(ended.stderr, said)
  }
  t.notMatch(readFileSync(join(dir, 'certs/ca/invitations.jsonl'), 'utf8'), /[a-z2-9]{6}-[a-z2-9]{6}-/)
})

t.test('the listener comes and goes with a reload', async t => {
  const { dir, broker, invite, url } = await platform(t)
  const conf = readFileSync(join(dir, 'm.conf'), 'utf8')
  const { secret, fingerprint } = await invite('f60c28')
  writeFileSync(join(dir, 'm.conf'), conf.replace(/^#!enrolment_listener.*\n/m, ''))
  broker.child.kill('SIGHUP')
  await broker.line(/Config reloaded/)
  t.match((await device(t).retrieve([url, 'f60c28', '--fingerprint', fingerprint], secret)).stderr, 'nothing listens there')
  writeFileSync(join(dir, 'm.conf'), conf)
  broker.child.kill('SIGHUP')
  await until(() => (broker.stderr().match(/Opening enrolment listen socket/g)?.length ?? 0) === 2)
  const got = await device(t).retrieve([url, 'f60c28', '--fingerprint', fingerprint], secret)
  t.equal(got.status, 0, got.stderr)
  t.equal((await broker.stop()).status, 0)
})
