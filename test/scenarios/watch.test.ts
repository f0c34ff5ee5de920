// `#!watch_files true` under live clients: every kind of file, replaced in every way that people and programs have for it, is read again
// by itself; what is half written changes nothing.

import { X509Certificate } from 'node:crypto'
import { once } from 'node:events'
import {
  appendFileSync,
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync
} from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { connect as tlsConnect } from 'node:tls'
import t, { type Test } from 'tap'
import { createServer } from '../../dist/index.js'
import { freePort, must, start, startBroker, userLine } from '../helpers/command.js'
import { passwordLine } from '../helpers/hash.js'
import { connectMqtt } from '../helpers/mqtt.js'
import { type CertificateFiles, type TestPki, testPki } from '../helpers/pki.js'
import { reachableMain } from '../helpers/reachable.js'
import { tlsClient } from '../helpers/tls-listener.js'
import { until } from '../helpers/until.js'

type Files = Readonly<Record<string, string>>

/** Replaces files of a folder. */
type Way = (dir: string, files: Files) => void

const each =
  (replace: (path: string, text: string) => void): Way =>
  (dir, files) => {
    for (const [name, text] of Object.entries(files)) replace(join(dir, name), text)
  }

const writeOver = (path: string, text: string): void => {
  writeFileSync(`${path}.part`, text)
  renameSync(`${path}.part`, path)
}

const ways: Readonly<Record<string, Way>> = {
  'written in place': each((path, text) => writeFileSync(path, text)),
  'renamed over': each(writeOver),
  'deleted and made again': each((path, text) => {
    rmSync(path, { force: true })
    writeFileSync(path, text)
  }),
  'saved by an editor that keeps the old one': each((path, text) => {
    writeFileSync(path, '', { flag: 'a' })
    renameSync(path, `${path}~`)
    writeFileSync(path, text)
    rmSync(`${path}~`)
  }),
  'swapped with their folder, as Kubernetes does': publish
}

/** All files in a folder of their own, links to them through `..data`, which is swapped. */
function publish(dir: string, files: Files): void {
  const data = join(dir, '..data')
  const before = readFolder(data)
  const next = mkdtempSync(join(dir, '..'))
  for (const [name, text] of Object.entries({ ...before, ...files })) {
    mkdirSync(dirname(join(next, name)), { recursive: true })
    writeFileSync(join(next, name), text)
    const [top = ''] = name.split('/')
    try {
      symlinkSync(`..data/${top}`, join(dir, top))
    } catch {
      // It is there.
    }
  }
  symlinkSync(next, join(dir, '..data_tmp'))
  const old = before === undefined ? undefined : readlinkSync(data)
  renameSync(join(dir, '..data_tmp'), data)
  if (old !== undefined) rmSync(old, { recursive: true })
}

const names = ['m.conf', 'inc/a.conf', 'acl', 'passwords', 'broker.crt', 'broker.key', 'ca.crt', 'ca.crl'] as const

function readFolder(dir: string): Files | undefined {
  try {
    return Object.fromEntries(names.map(name => [name, readFileSync(join(dir, name), 'utf8')]))
  } catch {
    return undefined
  }
}

function folder(t: Test): string {
  const dir = mkdtempSync(join(tmpdir(), 'mosquitero-watch-'))
  t.teardown(() => rmSync(dir, { recursive: true, force: true }))
  return dir
}

const read = (path: string): string => readFileSync(path, 'utf8')

/** A server on a folder of files: one listener with TLS and client certificates, one with passwords and an ACL. */
async function startOn(t: Test, way: Way) {
  const [dir, place, pki] = [folder(t), folder(t), await testPki(t)]
  const [secure, plain] = [await freePort(), await freePort()]
  const server = await pki.server()
  const conf = (limit: number) => `#!watch_files true
log_dest file ${place}/log
log_type all
per_listener_settings true
max_keepalive ${limit}
include_dir ${dir}/inc
listener ${secure} 127.0.0.1
cafile ${dir}/ca.crt
certfile ${dir}/broker.crt
keyfile ${dir}/broker.key
crlfile ${dir}/ca.crl
require_certificate true
use_identity_as_username true
listener ${plain} 127.0.0.1
password_file ${dir}/passwords
acl_file ${dir}/acl
`
  const files: Files = {
    'm.conf': conf(100),
    'inc/a.conf': 'message_size_limit 100\n',
    acl: 'user ann\ntopic write old\n',
    passwords: `${passwordLine('ann', 'a')}\n`,
    'broker.crt': read(server.cert),
    'broker.key': read(server.key),
    'ca.crt': read(pki.ca),
    'ca.crl': read(await pki.crl())
  }
  mkdirSync(join(dir, 'inc'), { recursive: true })
  if (way === publish) rmSync(join(dir, 'inc'), { recursive: true })
  way(dir, files)
  const broker = await createServer({ config: join(dir, 'm.conf') })
  t.teardown(() => broker.close())
  const log = () => read(join(place, 'log'))
  const reloads = () => log().split('Config reloaded: ').length - 1
  let count = 0
  return {
    dir,
    pki,
    secure,
    plain,
    broker,
    conf,
    log,
    reloads,
    /** Replaces files and waits until they are read; resolves with what the log says was changed. */
    async replace(files: Files): Promise<string> {
      way(dir, files)
      count += 1
      await until(() => reloads() >= count, 90_000).catch(error => {
        throw new Error(`${Object.keys(files)} not read: ${log()}`, { cause: error })
      })
      return log().split('Config reloaded: ').at(-1)?.split(/;|\n/)[0] ?? ''
    }
  }
}

const filesOf = ({ cert, key }: CertificateFiles) => ({ cert: readFileSync(cert), key: readFileSync(key) })

async function servedBy(port: number): Promise<string | undefined> {
  const socket = tlsConnect({ port, host: '127.0.0.1', rejectUnauthorized: false })
  socket.on('error', () => {})
  await once(socket, 'secureConnect')
  const certificate = socket.getPeerX509Certificate()
  socket.destroy()
  return certificate?.fingerprint256
}

async function codeOf(t: Test, port: number, username: string, password: string): Promise<number | undefined> {
  const client = await connectMqtt(port, 5)
  t.teardown(() => client.destroy())
  return (await client.connect({ clientId: username, username, password: Buffer.from(password) })).reasonCode
}

async function tryAll(t: Test, name: string, way: Way): Promise<void> {
  const { pki, secure, plain, broker, conf, reloads, replace } = await startOn(t, way)
  const [ann, known] = [await connectMqtt(plain, 5), await pki.client('known')]
  t.teardown(() => ann.destroy())
  await ann.connect({ clientId: 'watcher', username: 'ann', password: Buffer.from('a') })
  const mayWrite = async (topic: string) => {
    ann.publish(topic, 'x', { qos: 1, messageId: 1 })
    return (await ann.next('puback')).reasonCode !== 0x87
  }

  t.match(await replace({ 'm.conf': conf(77) }), /^max_keepalive changed/, `${name}: configuration`)
  t.equal(broker.config.limits.maxKeepalive, 77)

  t.match(await replace({ 'inc/a.conf': 'message_size_limit 50\n' }), /^message_size_limit changed/, `${name}: included file`)
  t.equal(broker.config.limits.messageSizeLimit, 50)

  t.notOk(await mayWrite('new'))
  t.match(await replace({ acl: 'user ann\ntopic write new\n' }), /^acl_file \S+ changed \(\+1\/-1 rules\)/, `${name}: ACL`)
  t.ok(await mayWrite('new'))

  const users = `${passwordLine('ann', 'a')}\n${passwordLine('bob', 'b')}\n`
  t.match(await replace({ passwords: users }), /^password_file \S+ changed \(\+1\/-0 users, 1 user changed\)/, `${name}: passwords`)
  t.equal(await codeOf(t, plain, 'bob', 'b'), 0)
  t.ok(await mayWrite('new'), 'whose password is still the same has stayed')

  const renewed = await pki.server({ file: 'renewed' })
  t.match(
    await replace({ 'broker.crt': read(renewed.cert), 'broker.key': read(renewed.key) }),
    /^certfile \S+ changed \(valid until [\d-]+\), keyfile \S+ changed/,
    `${name}: certificate and key`
  )
  t.equal(await servedBy(secure), new X509Certificate(readFileSync(renewed.cert)).fingerprint256, 'is served at the next handshake')

  const other = await pki.authority('Other CA')
  const stranger = await pki.client('stranger', { ca: other })
  t.notOk((await tlsClient(t, secure, filesOf(stranger))).isAccepted)
  const [old, crls] = [read(pki.ca), read(await pki.crl()) + read(await pki.crl({ ca: other, file: join(pki.dir, 'other.crl') }))]
  t.match(
    await replace({ 'ca.crt': old + read(other.cert), 'ca.crl': crls }),
    /^cafile \S+ changed \(\+1\/-0 CAs\), crlfile \S+ changed \(0 revoked certificates\)/,
    `${name}: CA`
  )
  t.ok((await tlsClient(t, secure, filesOf(stranger))).isAccepted)

  const guest = await tlsClient(t, secure, filesOf(known))
  t.ok(guest.isAccepted)
  const list = read(await pki.revoke(known)) + read(join(pki.dir, 'other.crl'))
  t.match(await replace({ 'ca.crl': list }), /^crlfile \S+ changed \(1 revoked certificate\)/, `${name}: CRL`)
  await until(() => guest.socket.destroyed)
  t.notOk((await tlsClient(t, secure, filesOf(known))).isAccepted)
  t.equal(reloads(), 7, `${name}: one reload for each`)
}

// They wait for files and for clocks.
t.jobs = 4

t.test('each kind of file, replaced in each way, is read again, once', async t => {
  await Promise.all(Object.entries(ways).map(([name, way]) => tryAll(t, name, way)))
})

t.test('a file that comes into include_dir, or goes, counts', async t => {
  const { dir, broker, log } = await startOn(t, each(writeFileSync))
  writeFileSync(join(dir, 'inc/b.conf'), 'max_queued_messages 5\n')
  await until(() => broker.config.limits.maxQueuedMessages === 5)
  rmSync(join(dir, 'inc/b.conf'))
  await until(() => broker.config.limits.maxQueuedMessages === 1000)
  t.match(log(), /: Changed on disk: \S+\/inc, \S+\/inc\/b\.conf\.\n\d+: Reloading config\.$/m)
})

t.test('a CA that comes into capath counts', async t => {
  const [dir, pki, port] = [folder(t), await testPki(t), await freePort()]
  const server = await pki.server()
  mkdirSync(join(dir, 'cas'))
  const add = async (cert: string) => {
    const hash = await must(t, 'openssl', ['x509', '-hash', '-noout', '-in', cert])
    symlinkSync(cert, join(dir, 'cas', `${hash.trim()}.0`))
  }
  await add(pki.ca)
  writeFileSync(
    join(dir, 'm.conf'),
    `#!watch_files true\nlog_dest none\nlistener ${port} 127.0.0.1\ncapath ${dir}/cas\ncertfile ${server.cert}\nkeyfile ${server.key}\nrequire_certificate true\nuse_identity_as_username true\n`
  )
  const broker = await createServer({ config: join(dir, 'm.conf') })
  t.teardown(() => broker.close())
  const other = await pki.authority('Other CA')
  const stranger = await pki.client('stranger', { ca: other })
  await add(other.cert)
  await until(async () => (await tlsClient(t, port, filesOf(stranger))).isAccepted)
})

async function renew(pki: TestPki, file: string) {
  const { cert, key } = await pki.server({ file })
  return { cert: read(cert), key: read(key), fingerprint: new X509Certificate(readFileSync(cert)).fingerprint256 }
}

t.test('a certificate whose key has not come yet changes nothing, is said once, and counts when the key comes', async t => {
  const { dir, pki, secure, log, reloads } = await startOn(t, each(writeFileSync))
  const before = await servedBy(secure)
  const { cert, key, fingerprint } = await renew(pki, 'renewed')
  writeFileSync(join(dir, 'broker.crt'), cert)
  await until(() => log().includes('Reload refused'))
  t.equal(await servedBy(secure), before)
  // Touched, and written anew with what it held: not worth a word.
  utimesSync(join(dir, 'broker.crt'), new Date(), new Date())
  await sleep(700)
  writeOver(join(dir, 'broker.crt'), cert)
  await sleep(700)
  writeFileSync(join(dir, 'broker.key'), key)
  await until(() => reloads() === 1)
  t.equal(await servedBy(secure), fingerprint)
  t.equal(log().split('does not belong to certfile').length - 1, 1)
  t.equal(log().split('Reload refused').length - 1, 1)
})

t.test('a file that is cut off, emptied or still being written is not taken for one', async t => {
  const { dir, pki, secure, log, reloads } = await startOn(t, each(writeFileSync))
  const { cert, key, fingerprint } = await renew(pki, 'renewed')
  // In pieces, as over a slow line.
  writeFileSync(join(dir, 'broker.key'), key)
  writeFileSync(join(dir, 'broker.crt'), '')
  for (let at = 0; at < cert.length; at += Math.ceil(cert.length / 8)) {
    appendFileSync(join(dir, 'broker.crt'), cert.slice(at, at + Math.ceil(cert.length / 8)))
    await sleep(100)
  }
  await until(() => reloads() === 1)
  t.equal(await servedBy(secure), fingerprint)
  t.notMatch(log(), /Reload refused/)
  // One that stays cut off.
  writeFileSync(join(dir, 'broker.crt'), cert.slice(0, 200))
  await until(() => log().includes('Reload refused'))
  t.match(log(), /It is cut off/)
  t.equal(await servedBy(secure), fingerprint)
  writeFileSync(join(dir, 'broker.crt'), cert)
  writeFileSync(join(dir, 'inc/a.conf'), 'message_size_limit 7\n')
  await until(() => reloads() === 2)
})

t.test('what the broker writes itself beside its files makes it read nothing', async t => {
  const [dir, port] = [folder(t), await freePort()]
  const conf = `#!watch_files true
persistence true
persistence_location ${dir}
autosave_on_changes true
autosave_interval 1
log_dest file ${dir}/log
log_type all
pid_file ${dir}/pid
allow_anonymous true
listener ${port} 127.0.0.1
acl_file ${dir}/acl
${userLine}`
  writeFileSync(join(dir, 'm.conf'), conf)
  writeFileSync(join(dir, 'acl'), 'topic #\n')
  const broker = await createServer({ config: join(dir, 'm.conf') })
  t.teardown(() => broker.close())
  const client = await connectMqtt(port, 5)
  t.teardown(() => client.destroy())
  await client.connect({ clientId: 'c', clean: false, properties: { sessionExpiryInterval: 100 } })
  for (let i = 1; i <= 50; i++) {
    client.publish(`t/${i}`, 'x', { qos: 1, messageId: i, retain: true })
    await client.next('puback')
  }
  await broker.save()
  writeFileSync(join(dir, 'acl'), 'topic t/#\n')
  await until(() => read(join(dir, 'log')).includes('Config reloaded: '))
  t.equal(read(join(dir, 'log')).split('Reloading config.').length - 1, 1)
  t.match(read(join(dir, 'log')), new RegExp(`Changed on disk: ${dir}/acl\\.$`, 'm'))
})

t.test('SIGHUP goes on working beside it, and switches it on and off', async t => {
  const port = await freePort()
  const conf = (lines: string) => `${lines}allow_anonymous true\nlistener ${port} 127.0.0.1\nacl_file acl\n${userLine}`
  const dir = t.testdir({ 'm.conf': conf(''), acl: 'topic a\n' })
  const broker = await startBroker(t, ['-c', 'm.conf'], { cwd: dir })
  const reloads = () => broker.stderr().split('Config reloaded: ').length - 1
  writeFileSync(join(dir, 'acl'), 'topic b\n')
  writeFileSync(join(dir, 'm.conf'), conf('#!watch_files true\n'))
  broker.child.kill('SIGHUP')
  await broker.line(/Config reloaded: #!watch_files changed, acl_file acl changed \(\+1\/-1 rules\); 0 clients disconnected\.$/)
  writeFileSync(join(dir, 'acl'), 'topic c\ntopic d\n')
  await broker.line(/Config reloaded: acl_file acl changed \(\+2\/-1 rules\); 0 clients disconnected\.$/)
  writeFileSync(join(dir, 'acl'), 'topic e\n')
  broker.child.kill('SIGHUP')
  await broker.line(/Config reloaded: acl_file acl changed \(\+1\/-2 rules\); 0 clients disconnected\.$/)
  // Read at the signal, so that the watch has nothing more to say of it.
  writeFileSync(join(dir, 'm.conf'), conf(''))
  await broker.line(/Config reloaded: #!watch_files changed; 0 clients disconnected\.$/)
  t.equal(reloads(), 4)
})

t.test('the environment switches it on', async t => {
  const port = await freePort()
  const dir = t.testdir({ 'm.conf': `allow_anonymous true\nlistener ${port} 127.0.0.1\nacl_file acl\n${userLine}`, acl: 'topic a\n' })
  const broker = await startBroker(t, ['-c', 'm.conf'], { cwd: dir, env: { MOSQUITERO_WATCH_FILES: 'true' } })
  writeFileSync(join(dir, 'acl'), 'topic b\n')
  await broker.line(/: Changed on disk: acl\.$/)
  await broker.line(/Config reloaded: acl_file acl changed/)
  t.equal((await broker.stop()).status, 0)
})

t.test('in a folder that may not be watched changes are found by looking', async t => {
  const [dir, port] = [folder(t), await freePort()]
  writeFileSync(join(dir, 'm.conf'), `#!watch_files true\nallow_anonymous true\nlistener ${port} 127.0.0.1\nacl_file ${dir}/acl\n`)
  writeFileSync(join(dir, 'acl'), 'topic a\n')
  // Files can be opened by name, and that is all.
  chmodSync(dir, 0o311)
  t.teardown(() => chmodSync(dir, 0o700))
  const command = [process.execPath, reachableMain(t), '-c', join(dir, 'm.conf')]
  const asNobody = process.getuid?.() === 0 ? ['setpriv', '--reuid', '4321', '--regid', '4321', '--clear-groups'] : []
  const [first = '', ...rest] = [...asNobody, ...command]
  const broker = start(t, first, rest, { cwd: '/' })
  await broker.line(/: The folder \S+ cannot be watched \(Permission denied\): a changed file in it is noticed within 5 seconds\.$/)
  writeFileSync(join(dir, 'acl'), 'topic b\n')
  await broker.line(/Config reloaded: acl_file \S+ changed/)
})
