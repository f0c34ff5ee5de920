// Every cause that the doctor knows, produced for real: files, brokers, and what else may listen on a port. The page says the same.

import { readFileSync, writeFileSync } from 'node:fs'
import { createServer as createTcpServer, type Socket } from 'node:net'
import { join } from 'node:path'
import { createServer as createTlsServer } from 'node:tls'
import t, { type Test } from 'tap'
import { diagnose, type Question } from '../../dist/doctor/diagnose.js'
import { type Cause, causes } from '../../dist/doctor/finding.js'
import { createServer } from '../../dist/server.js'
import { freePort } from '../helpers/command.js'
import { openssl } from '../helpers/openssl.js'
import { testPki } from '../helpers/pki.js'
import { run } from '../helpers/tls-listener.js'

const pki = await testPki(t)
const { dir } = pki
const path = (name: string): string => join(dir, name)
const days = (count: number): Date => new Date(Date.now() + count * 86_400_000)

// The broker's
const server = await pki.server()
const chained = await pki.authority('Intermediate CA', { issuer: pki.root })
const below = await pki.server({ ca: chained, file: 'below' })
const expired = await pki.server({ expired: true, file: 'expired-server' })
const early = await pki.server({ notYetValid: true, file: 'early-server' })
const nameless = await pki.server({ names: [], file: 'nameless-server' })
const namelessAddress = await pki.server({ names: [], subject: [['CN', '127.0.0.1']], file: 'nameless-address' })
const namesake = await pki.server({ subject: [['CN', 'Test CA']], file: 'namesake-server' })
const elsewhere = await pki.server({ names: ['mqtt.example.org'], file: 'elsewhere' })
const clientAsServer = await pki.client('not-a-server', { file: 'client-as-server' })
const oldCa = await pki.authority('Old CA', { expired: true })
const belowOldCa = await pki.server({ ca: oldCa, file: 'below-old' })
const another = await pki.authority('Another CA')
const remade = await pki.authority('Test CA', { file: 'remade-ca' })
// The devices'
const press = await pki.client('press-7')
const device = { cert: press.cert, key: press.key, cafile: pki.ca }
const own = ({ cert, key }: { readonly cert: string; readonly key: string }) => ({ cert, key, cafile: pki.ca })
const revoked = await pki.client('revoked')
const crl = await pki.revoke(revoked)
const oldCrl = await pki.crl({ expired: true, file: path('old.crl') })
const otherCrl = await pki.crl({ ca: another, file: path('other.crl') })
writeFileSync(path('acl'), 'user press-7\ntopic write plant/press-7/#\ntopic read plant/orders\n')
writeFileSync(path('passwords'), '')
openssl('x509', '-in', press.cert, '-outform', 'DER', '-out', path('press.der'))
openssl('pkey', '-in', press.key, '-aes256', '-passout', 'pass:secret', '-out', path('locked.key'))
openssl(
  'req',
  '-x509',
  '-newkey',
  'ec',
  '-pkeyopt',
  'ec_paramgen_curve:P-256',
  '-nodes',
  '-subj',
  '/CN=lonely',
  '-days',
  '9',
  '-addext',
  'basicConstraints=critical,CA:FALSE',
  '-keyout',
  path('lonely.key'),
  '-out',
  path('lonely.crt')
)
writeFileSync(path('weak.ext'), 'subjectAltName=DNS:localhost\n')
writeFileSync(path('both.crt'), readFileSync(pki.ca, 'utf8') + readFileSync(chained.cert, 'utf8'))
openssl('req', '-new', '-newkey', 'rsa:2048', '-nodes', '-subj', '/CN=weak', '-keyout', path('weak.key'), '-out', path('weak.csr'))
openssl(
  'x509',
  '-req',
  '-sha1',
  '-in',
  path('weak.csr'),
  '-CA',
  pki.root.cert,
  '-CAkey',
  pki.root.key,
  '-days',
  '9',
  '-out',
  path('weak.crt')
)
openssl(
  'x509',
  '-req',
  '-sha1',
  '-in',
  path('weak.csr'),
  '-CA',
  pki.root.cert,
  '-CAkey',
  pki.root.key,
  '-days',
  '9',
  '-extfile',
  path('weak.ext'),
  '-out',
  path('weak-server.crt')
)
const leafOf = (file: string, to: string): string => {
  writeFileSync(path(to), `${readFileSync(file, 'utf8').split('-----END CERTIFICATE-----')[0]}-----END CERTIFICATE-----\n`)
  return path(to)
}
const alone = leafOf(below.cert, 'below-alone.crt')
const deviceBelow = await pki.client('below', { ca: chained, file: 'device-below' })
const deviceBelowAlone = leafOf(deviceBelow.cert, 'device-alone.crt')

interface TlsFiles {
  readonly cert?: string
  readonly key?: string
  readonly ca?: string
  readonly more?: string
}

/** A listener that asks for certificates. */
function mutual(port: number, { cert = server.cert, key = server.key, ca = pki.ca, more = '' }: TlsFiles = {}): string {
  return `listener ${port} 127.0.0.1\ncafile ${ca}\ncertfile ${cert}\nkeyfile ${key}\nrequire_certificate true\nuse_identity_as_username true\nacl_file ${path('acl')}\n${more}`
}

const plain = (port: number, more = 'allow_anonymous true\n'): string => `listener ${port} 127.0.0.1\n${more}`

const key = Buffer.from('c0ffee', 'hex')
writeFileSync(path('keys'), 'press-7:c0ffee\n')
const keyed = (port: number): string =>
  `listener ${port} 127.0.0.1\npsk_hint plant\npsk_file ${path('keys')}\nuse_identity_as_username true\nacl_file ${path('acl')}\n`

interface Trial {
  readonly cause: Cause
  readonly severity?: 'warning'
  readonly conf: (port: number) => string
  /** What runs, where that is not the configuration; `nothing`, or something that does as it likes. */
  readonly runs?: ((port: number) => string) | 'nothing' | 'a weak server' | { readonly does: (socket: Socket) => unknown }
  readonly ask?: Partial<Question>
  /** Further causes that come with it. */
  readonly also?: readonly Cause[]
}

const trials: readonly Trial[] = [
  { cause: 'configuration', conf: port => `${mutual(port)}nonsense\n`, runs: 'nothing', ask: { device } },
  { cause: 'device-file', conf: mutual, ask: { device: { ...device, cert: path('missing.crt') } } },
  { cause: 'device-file', conf: mutual, ask: { device: { cert: press.cert, cafile: pki.ca } } },
  { cause: 'device-not-pem', conf: mutual, ask: { device: { ...device, cert: path('press.der') } } },
  { cause: 'device-not-pem', conf: mutual, ask: { device: { ...device, key: press.cert } } },
  { cause: 'device-key-encrypted', conf: mutual, ask: { device: { ...device, key: path('locked.key') } } },
  { cause: 'device-key-encrypted', conf: mutual, ask: { device: { ...device, key: path('locked.key'), passphrase: 'wrong' } } },
  { cause: 'device-key-mismatch', conf: mutual, ask: { device: { ...device, key: revoked.key } } },
  { cause: 'device-is-ca', conf: mutual, ask: { device: { cert: pki.root.cert, key: pki.root.key, cafile: pki.ca } } },
  {
    cause: 'clock',
    conf: port => mutual(port, early),
    ask: { device: own(await pki.client('both-early', { notYetValid: true })) }
  },
  { cause: 'broker-stale', severity: 'warning', conf: port => mutual(port, below), runs: port => mutual(port), ask: { device } },
  { cause: 'broker-expired', conf: port => mutual(port, expired), ask: { device } },
  { cause: 'broker-not-yet-valid', conf: port => mutual(port, early), ask: { device } },
  {
    cause: 'broker-ca-expired',
    conf: port => mutual(port, { cert: belowOldCa.cert, key: belowOldCa.key }),
    ask: { device: { ...device, cafile: oldCa.cert } }
  },
  { cause: 'broker-other-ca', conf: mutual, ask: { device: { ...device, cafile: remade.cert } } },
  { cause: 'broker-chain-incomplete', conf: port => mutual(port, { cert: alone, key: below.key }), ask: { device: own(deviceBelow) } },
  { cause: 'broker-unknown-ca', conf: mutual, ask: { device: { ...device, cafile: another.cert } } },
  {
    cause: 'broker-unknown-ca',
    conf: port => mutual(port, { cert: path('lonely.crt'), key: path('lonely.key') }),
    ask: { device },
    also: ['broker-no-names']
  },
  { cause: 'broker-same-subject', conf: port => mutual(port, namesake), ask: { device } },
  { cause: 'broker-not-for-servers', conf: port => mutual(port, clientAsServer), ask: { device }, also: ['broker-no-names'] },
  { cause: 'broker-no-names', severity: 'warning', conf: port => mutual(port, nameless), ask: { device, host: 'localhost' } },
  { cause: 'broker-no-names', conf: port => mutual(port, nameless), ask: { device, host: '127.0.0.1' } },
  { cause: 'broker-no-names', severity: 'warning', conf: port => mutual(port, namelessAddress), ask: { device, host: '127.0.0.1' } },
  { cause: 'broker-wrong-name', conf: port => mutual(port, elsewhere), ask: { device, host: 'localhost' } },
  { cause: 'broker-not-accepted', conf: mutual, runs: 'a weak server', ask: { device }, also: ['broker-stale'] },
  { cause: 'no-device', conf: mutual },
  { cause: 'not-asked', severity: 'warning', conf: port => plain(port), ask: { device } },
  {
    cause: 'not-asked',
    severity: 'warning',
    conf: port => plain(port, `certfile ${server.cert}\nkeyfile ${server.key}\nallow_anonymous true\n`),
    ask: { device }
  },
  { cause: 'device-expired', conf: mutual, ask: { device: own(await pki.client('late', { expired: true })) } },
  { cause: 'device-not-yet-valid', conf: mutual, ask: { device: own(await pki.client('early', { notYetValid: true })) } },
  {
    cause: 'device-ca-expired',
    conf: port => mutual(port, { ca: oldCa.cert }),
    ask: { device: { ...own(await pki.client('below-old', { ca: oldCa, file: 'device-below-old' })) } }
  },
  { cause: 'device-other-ca', conf: mutual, ask: { device: own(await pki.client('remade', { ca: remade })) } },
  {
    cause: 'device-chain-incomplete',
    conf: mutual,
    ask: { device: { cert: deviceBelowAlone, key: deviceBelow.key, cafile: path('both.crt') } }
  },
  { cause: 'device-self-signed', conf: mutual, ask: { device: { cert: path('lonely.crt'), key: path('lonely.key'), cafile: pki.ca } } },
  { cause: 'device-unknown-ca', conf: mutual, ask: { device: own(await pki.client('stranger', { ca: another })) } },
  { cause: 'no-device', conf: mutual, ask: { device: { cafile: pki.ca }, tlsVersion: 'TLSv1.2' } },
  {
    cause: 'device-revoked',
    conf: port => mutual(port, { more: `crlfile ${crl}\n` }),
    ask: { device: own(revoked), tlsVersion: 'TLSv1.2' }
  },
  { cause: 'device-same-subject', conf: mutual, ask: { device: own(await pki.client('Test CA', { file: 'namesake-device' })) } },
  { cause: 'device-not-for-clients', conf: mutual, ask: { device: own(server) } },
  { cause: 'device-not-accepted', conf: mutual, ask: { device: { cert: path('weak.crt'), key: path('weak.key'), cafile: pki.ca } } },
  { cause: 'device-revoked', conf: port => mutual(port, { more: `crlfile ${crl}\n` }), ask: { device: own(revoked) } },
  { cause: 'crl-missing', conf: port => mutual(port, { more: `crlfile ${otherCrl}\n` }), ask: { device } },
  { cause: 'crl-expired', conf: port => mutual(port, { more: `crlfile ${oldCrl}\n` }), ask: { device } },
  { cause: 'crl-not-yet-valid', conf: port => mutual(port, { more: `crlfile ${crl}\n` }), ask: { device, now: days(-0.5) } },
  { cause: 'device-no-name', conf: mutual, ask: { device: own(await pki.client('x', { subject: [['O', 'Plant']], file: 'no-name' })) } },
  { cause: 'no-psk', conf: keyed },
  { cause: 'psk-unknown', conf: keyed, ask: { device: { psk: { identity: 'press-8', key } } } },
  { cause: 'psk-wrong', conf: keyed, ask: { device: { psk: { identity: 'press-7', key: Buffer.of(1, 2, 3) } } } },
  { cause: 'not-asked', severity: 'warning', conf: port => plain(port), ask: { device: { psk: { identity: 'press-7', key } } } },
  { cause: 'unknown-host', conf: mutual, ask: { device, host: 'no-such-host.invalid' }, also: ['broker-wrong-name'] },
  { cause: 'no-answer', conf: mutual, runs: 'nothing', ask: { device, host: 'fe80::1' }, also: ['broker-wrong-name'] },
  { cause: 'nobody-listens', conf: mutual, runs: 'nothing', ask: { device } },
  { cause: 'plain-port', conf: mutual, runs: port => plain(port), ask: { device } },
  { cause: 'tls-port', conf: port => plain(port), runs: port => mutual(port) },
  { cause: 'not-mqtt', conf: port => plain(port), runs: { does: socket => socket.end('220 mail.example.org ESMTP\r\n') } },
  { cause: 'not-mqtt', conf: port => plain(port), runs: { does: () => {} }, ask: { patience: 200 } },
  { cause: 'tls-version', conf: mutual, ask: { device, tlsVersion: 'TLSv1.1' } },
  { cause: 'tls-version', conf: port => mutual(port, { more: 'tls_version tlsv1.3\n' }), ask: { device, tlsVersion: 'TLSv1.2' } },
  { cause: 'tls-cipher', conf: mutual, ask: { device, tlsVersion: 'TLSv1.2', ciphers: 'ECDHE-RSA-AES128-GCM-SHA256' } },
  { cause: 'tls-failed', conf: mutual, runs: { does: socket => socket.once('data', () => socket.end()) }, ask: { device } },
  { cause: 'protocol-version', conf: port => plain(port, 'accept_protocol_versions 5\nallow_anonymous true\n') },
  { cause: 'protocol-version', conf: port => plain(port, 'accept_protocol_versions 4\nallow_anonymous true\n'), ask: { version: 5 } },
  {
    cause: 'client-id',
    conf: port => plain(port),
    runs: { does: socket => socket.once('data', () => socket.write(Buffer.of(0x20, 2, 0, 2))) }
  },
  {
    cause: 'credentials',
    conf: port => plain(port),
    runs: { does: socket => socket.once('data', () => socket.write(Buffer.of(0x20, 2, 0, 4))) }
  },
  {
    cause: 'not-authorised',
    conf: port => plain(port, `password_file ${path('passwords')}\nallow_anonymous false\n`),
    ask: { username: 'ann', password: 'x' }
  },
  { cause: 'not-authorised', conf: port => plain(port, 'allow_anonymous false\n'), ask: { version: 5 } },
  {
    cause: 'busy',
    conf: port => plain(port),
    runs: { does: socket => socket.once('data', () => socket.write(Buffer.of(0x20, 3, 0, 0x89, 0))) },
    ask: { version: 5 }
  },
  { cause: 'closed', conf: port => plain(port), runs: { does: socket => socket.once('data', () => socket.destroy()) } },
  { cause: 'acl-publish', conf: mutual, ask: { device, publish: ['plant/press-8/on'] } },
  { cause: 'acl-subscribe', conf: mutual, ask: { device, subscribe: ['plant/press-8/#'] } }
]

for (const [i, trial] of trials.entries()) {
  const { cause, severity = 'error', conf, ask = {}, also = [] } = trial
  t.test(`${cause} (${i})`, async t => {
    const port = await freePort()
    const file = path(`${i}.conf`)
    writeFileSync(file, conf(port))
    await start(t, trial, port, file)
    const usual = { file, device: {}, version: 4, publish: [], subscribe: [], patience: 5000 } as const
    const { findings, listeners, isWell } = await diagnose({ ...usual, ...ask })
    const found = [...findings, ...listeners.flatMap(each => each.findings)]
    t.same([...new Set(found.map(each => each.cause))].toSorted(), [cause, ...also].toSorted(), JSON.stringify(found, undefined, 1))
    const finding = found.find(each => each.cause === cause)
    t.equal(finding?.severity, severity)
    t.match(finding?.what, /^[A-Z].*\.$/s)
    t.match(finding?.mend, /^[A-Z].*\.$|^Convert it: /s)
    t.equal(
      isWell,
      found.every(each => each.severity === 'warning')
    )
    t.notMatch(JSON.stringify(found), /secret|undefined|NaN/)
  })
}

t.test('a device without the name that #!identity_source takes is not advised to have another', async t => {
  const ask = { file: path('san.conf'), device, version: 4, publish: [], subscribe: [], offline: true } as const
  writeFileSync(ask.file, mutual(await freePort(), { more: '#!identity_source san:uri\n' }))
  const { listeners } = await diagnose(ask)
  const [finding] = listeners.flatMap(({ findings }) => findings)
  t.equal(finding?.cause, 'device-no-name')
  t.equal(finding?.mend, "Have one made with it as subjectAltName, or let '#!identity_source' take a name that it has.")
})

async function start(t: Test, { conf, runs = conf }: Trial, port: number, file: string): Promise<void> {
  if (runs === 'nothing') return
  if (typeof runs === 'function') {
    const running = `${file}.running`
    writeFileSync(running, runs(port))
    const broker = await createServer({ config: running, verbosity: 'quiet' })
    t.teardown(() => broker.close())
    return
  }
  const weak = { cert: readFileSync(path('weak-server.crt')), key: readFileSync(path('weak.key')), ciphers: 'DEFAULT@SECLEVEL=0' }
  const sockets = new Set<Socket>()
  const accept = (socket: Socket) => void socket.once('data', () => socket.write(Buffer.of(0x20, 2, 0, 0)))
  const other = runs === 'a weak server' ? createTlsServer(weak, accept) : createTcpServer(runs.does)
  other.on('connection', (socket: Socket) => sockets.add(socket.on('error', () => {})))
  await new Promise<void>(resolve => other.listen(port, '127.0.0.1', resolve))
  t.teardown(() => {
    for (const socket of sockets) socket.destroy()
    other.close()
  })
}

t.test('a device that is in order gets in, and is told what was seen', async t => {
  const port = await freePort()
  const file = path('good.conf')
  writeFileSync(file, mutual(port))
  const broker = await createServer({ config: file, verbosity: 'quiet' })
  t.teardown(() => broker.close())
  const question = { file, device, host: 'localhost', version: 5, publish: ['plant/press-7/on'], subscribe: ['plant/orders'] } as const
  const { findings, listeners, isWell } = await diagnose(question)
  t.ok(isWell)
  t.same([findings, listeners[0]?.findings], [[], []])
  t.same(
    listeners[0]?.facts.map(([name]) => name),
    ['device', 'broker', 'TLS', 'CONNECT', 'publish', 'subscribe']
  )
})

t.test('so is one with a pre-shared key', async t => {
  const port = await freePort()
  const file = path('keyed.conf')
  writeFileSync(file, keyed(port))
  const broker = await createServer({ config: file, verbosity: 'quiet' })
  t.teardown(() => broker.close())
  const device = { psk: { identity: 'press-7', key } }
  const { findings, listeners, isWell } = await diagnose({ file, device, version: 4, publish: ['plant/press-7/on'], subscribe: [] })
  t.ok(isWell)
  t.same([findings, listeners[0]?.findings], [[], []])
  t.same(
    listeners[0]?.facts.map(([name]) => name),
    ['TLS', 'CONNECT', 'publish']
  )
})

t.test('a session that was there stays, and none is left behind', async t => {
  const port = await freePort()
  const file = path('sessions.conf')
  writeFileSync(file, mutual(port))
  const broker = await createServer({ config: file, verbosity: 'quiet' })
  t.teardown(() => broker.close())
  const sessions = async (): Promise<string[]> => {
    const ids: string[] = []
    for await (const { clientId } of broker.admin.clients({})) ids.push(clientId)
    return ids
  }
  for (const version of [4, 5] as const) {
    t.ok((await diagnose({ file, device, clientId: 'panel', version, publish: [], subscribe: [] })).isWell)
    t.same(await sessions(), [], `MQTT ${version}: none is left behind`)
  }
  const subscribe = ['-h', 'localhost', '-p', String(port), '--cafile', pki.ca, '--cert', press.cert, '--key', press.key]
  await run('mosquitto_sub', [...subscribe, '-i', 'panel', '-c', '-q', '1', '-t', 'plant/orders', '-E'])
  t.same(await sessions(), ['panel'])
  for (const version of [4, 5] as const) {
    t.ok((await diagnose({ file, device, clientId: 'panel', version, publish: [], subscribe: [] })).isWell)
    t.same(await sessions(), ['panel'], `MQTT ${version}: it stays`)
  }
})

t.test('what waits in a session is no answer of something else, and still waits afterwards', async t => {
  const port = await freePort()
  const file = path('queue.conf')
  writeFileSync(file, plain(port))
  const broker = await createServer({ config: file, verbosity: 'quiet' })
  t.teardown(() => broker.close())
  const at = ['-h', 'localhost', '-p', String(port)]
  await run('mosquitto_sub', [...at, '-i', 'panel', '-c', '-q', '1', '-t', 'orders', '-E'])
  for (let i = 0; i < 20; i += 1) await run('mosquitto_pub', [...at, '-q', '1', '-t', 'orders', '-m', 'x'.repeat(30_000)])
  for (const version of [4, 5] as const) {
    const diagnosis = await diagnose({ file, device: {}, clientId: 'panel', version, publish: [], subscribe: [] })
    t.same(diagnosis.listeners[0]?.findings, [])
    t.ok(diagnosis.isWell)
  }
  const { output } = await run('mosquitto_sub', [...at, '-i', 'panel', '-c', '-q', '1', '-t', 'orders', '-C', '20', '-F', '%l'])
  t.equal(output, '30000\n'.repeat(20))
})

t.test('without a host no name is asked for; an address is looked up among the addresses', async t => {
  for (const [names, host] of [
    [['mqtt.example.org'], undefined],
    [['127.0.0.1'], '127.0.0.1']
  ] as const) {
    const port = await freePort()
    const file = path('names.conf')
    writeFileSync(file, mutual(port, await pki.server({ names, file: `named-${names[0]}` })))
    const broker = await createServer({ config: file, verbosity: 'quiet' })
    t.teardown(() => broker.close())
    const { listeners } = await diagnose({ file, device, host, version: 4, publish: [], subscribe: [] })
    t.same(listeners[0]?.findings, [], names[0])
  }
})

t.test('a password is not told to a broker that the device does not trust', async t => {
  const port = await freePort()
  const file = path('told.conf')
  const secured = `certfile ${server.cert}\nkeyfile ${server.key}\nallow_anonymous true\n`
  writeFileSync(file, plain(port, secured))
  const heard: string[] = []
  const keys = { cert: readFileSync(server.cert), key: readFileSync(server.key) }
  const eve = createTlsServer(keys, socket => {
    socket
      .on('error', () => {})
      .on('data', data => {
        heard.push(data.toString('latin1'))
        socket.write(Buffer.of(0x20, 2, 0, 0))
      })
  })
  eve.on('tlsClientError', () => {})
  await new Promise<void>(resolve => eve.listen(port, '127.0.0.1', resolve))
  t.teardown(() => eve.close())
  const question = { file, username: 'ann', password: 'geheim', version: 4, publish: [], subscribe: [] } as const
  const { listeners, isWell } = await diagnose({ ...question, device: { cafile: another.cert } })
  t.notOk(isWell)
  t.match(listeners[0]?.findings, [{ cause: 'broker-unknown-ca' }])
  t.match(listeners[0]?.facts.at(-1), ['CONNECT', /^not tried: the password/])
  t.same(heard, [])
  t.ok((await diagnose({ ...question, device: { cafile: pki.ca } })).isWell)
  t.match(heard.join(''), 'geheim')
})

t.test('every cause is tried, and has a row in the page', async t => {
  t.same([...new Set(trials.map(({ cause }) => cause))].toSorted(), [...causes].toSorted())
  const page = readFileSync('docs/doctor.md', 'utf8')
  t.same(
    Array.from(page.matchAll(/^\| `([a-z-]+)` \|/gm), ([, cause]) => cause),
    [...causes]
  )
})
