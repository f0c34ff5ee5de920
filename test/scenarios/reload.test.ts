// SIGHUP under live clients: every file is read again, a broken one changes nothing, and only who lost a right goes.

import { once } from 'node:events'
import { copyFileSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { type TLSSocket, connect as tlsConnect } from 'node:tls'
import t from 'tap'
import { freePort, must, type Running, run, start, startBroker, userLine } from '../helpers/command.js'
import { testPki } from '../helpers/pki.js'
import { connect } from '../helpers/tls-listener.js'
import { until } from '../helpers/until.js'

type TestScope = Parameters<typeof must>[0]

/** Sends SIGHUP and waits for one more line that matches. */
async function reload(broker: Running, expected: RegExp): Promise<void> {
  const count = () =>
    broker
      .stderr()
      .split('\n')
      .filter(line => expected.test(line)).length
  const before = count()
  broker.child.kill('SIGHUP')
  await until(() => count() > before)
}

const reloaded = /: Config reloaded: .*; \d+ clients? disconnected/
const refused = /: Error: Reload refused, the previous configuration stays in force\.$/

/** A subscriber that stays connected, named `id`. */
async function subscriber(t: TestScope, broker: Running, id: string, args: readonly string[]): Promise<Running> {
  const client = start(t, 'mosquitto_sub', ['-i', id, '-v', ...args])
  await broker.line(new RegExp(`: ${id} 0 `))
  return client
}

t.test('a new ACL takes effect on existing subscriptions and publishers', async t => {
  const port = await freePort()
  const dir = t.testdir({
    'm.conf': `listener ${port} 127.0.0.1\nallow_anonymous true\nacl_file acl\n${userLine}`,
    acl: 'topic readwrite old/#\n'
  })
  const broker = await startBroker(t, ['-v', '-c', 'm.conf'], { cwd: dir })
  const at = ['-h', '127.0.0.1', '-p', `${port}`]
  const client = await subscriber(t, broker, 'sub', [...at, '-t', '#'])
  const publish = (topic: string) => must(t, 'mosquitto_pub', [...at, '-q', '1', '-t', topic, '-m', 'x'])
  await publish('new/1')
  await publish('old/1')
  await client.line(/^old\/1 x$/)
  writeFileSync(join(dir, 'acl'), 'topic readwrite new/#\n')
  await reload(broker, reloaded)
  await publish('old/2')
  await publish('new/2')
  await client.line(/^new\/2 x$/)
  t.equal(client.stdout(), 'old/1 x\nnew/2 x\n')
})

t.test('who publishes to one topic all the time loses the right with the next message, and has it back with the one after', async t => {
  const port = await freePort()
  const dir = t.testdir({
    'm.conf': `listener ${port} 127.0.0.1\nallow_anonymous true\nacl_file acl\n${userLine}`,
    acl: 'topic readwrite one\n'
  })
  const broker = await startBroker(t, ['-v', '-c', 'm.conf'], { cwd: dir })
  const at = ['-h', '127.0.0.1', '-p', `${port}`, '-t', 'one']
  const client = await subscriber(t, broker, 'sub', at)
  const publisher = start(t, 'mosquitto_pub', [...at, '-q', '1', '-i', 'pub', '-l'])
  const say = (text: string) => publisher.child.stdin?.write(`${text}\n`)
  say('allowed')
  say('allowed again')
  await client.line(/^one allowed again$/)
  writeFileSync(join(dir, 'acl'), 'topic read one\n')
  await reload(broker, reloaded)
  say('denied')
  await broker.line(/: Denied PUBLISH from pub /)
  writeFileSync(join(dir, 'acl'), 'topic readwrite one\n')
  await reload(broker, reloaded)
  say('at last')
  await client.line(/^one at last$/)
  t.equal(client.stdout(), 'one allowed\none allowed again\none at last\n')
  t.notMatch(broker.stderr(), /Client pub .*disconnected/)
})

t.test('a removed user, a changed password and a closed door disconnect who came by them, and nobody else', async t => {
  const port = await freePort()
  const dir = t.testdir({ 'm.conf': `listener ${port} 127.0.0.1\nallow_anonymous true\npassword_file p\n${userLine}` })
  const passwd = (...args: string[]) => must(t, 'mosquitto_passwd', args, { cwd: dir })
  await passwd('-b', '-c', 'p', 'removed', 'secret')
  for (const user of ['changed', 'rehashed', 'untouched']) await passwd('-b', 'p', user, 'secret')
  const broker = await startBroker(t, ['-v', '-c', 'm.conf'], { cwd: dir })
  const at = ['-h', '127.0.0.1', '-p', `${port}`, '-t', 't']
  for (const user of ['removed', 'changed', 'rehashed', 'untouched']) await subscriber(t, broker, user, [...at, '-u', user, '-P', 'secret'])
  await subscriber(t, broker, 'anonymous', at)

  await passwd('-D', 'p', 'removed')
  await passwd('-b', 'p', 'changed', 'another')
  await passwd('-b', 'p', 'rehashed', 'secret')
  writeFileSync(join(dir, 'm.conf'), `listener ${port} 127.0.0.1\nallow_anonymous false\npassword_file p\n${userLine}`)
  await reload(
    broker,
    /: Config reloaded: allow_anonymous changed, password_file p changed \(\+0\/-1 users, 2 users changed\); 3 clients disconnected: ([\w ]+ \(1\)(, |\.$)){3}/
  )
  for (const [id, why] of [
    ['removed', 'username no longer known'],
    ['changed', 'password no longer accepted'],
    ['anonymous', 'no longer allowed without a username']
  ])
    await broker.line(new RegExp(`: Client ${id} \\[127\\.0\\.0\\.1:\\d+\\] disconnected: not authorised, ${why}\\.$`))
  for (const id of ['rehashed', 'untouched']) t.notMatch(broker.stderr(), new RegExp(`Client ${id} .*disconnected`))
})

t.test('a broken file keeps everything as it was and is named with its line', async t => {
  const port = await freePort()
  const conf = `listener ${port} 127.0.0.1\nallow_anonymous true\nacl_file acl\n${userLine}`
  const dir = t.testdir({ 'm.conf': conf, acl: 'topic readwrite t\n' })
  const broker = await startBroker(t, ['-v', '-c', 'm.conf'], { cwd: dir })
  const at = ['-h', '127.0.0.1', '-p', `${port}`, '-t', 't']
  const client = await subscriber(t, broker, 'sub', at)

  writeFileSync(join(dir, 'acl'), 'topic read x\nnonsense\n')
  await reload(broker, refused)
  await broker.line(/Error found at acl:2\.$/)
  writeFileSync(join(dir, 'acl'), 'topic read x\n')
  writeFileSync(join(dir, 'm.conf'), `${conf}nonsense\n`)
  await reload(broker, refused)
  await broker.line(/Error: Unknown configuration variable 'nonsense'\.$/)
  await must(t, 'mosquitto_pub', [...at, '-m', 'still allowed'])
  await client.line(/^t still allowed$/)
})

t.test('a configuration that was emptied, or has lost its listeners, keeps everything as it was', async t => {
  const port = await freePort()
  const conf = `allow_anonymous true\n${userLine}listener ${port} 127.0.0.1\n`
  const dir = t.testdir({ 'm.conf': conf })
  const broker = await startBroker(t, ['-v', '-c', 'm.conf'], { cwd: dir })
  const at = ['-h', '127.0.0.1', '-p', `${port}`, '-t', 't']
  const client = await subscriber(t, broker, 'sub', at)
  for (const rest of ['', conf.slice(0, conf.indexOf('listener'))]) {
    writeFileSync(join(dir, 'm.conf'), rest)
    await reload(broker, refused)
  }
  await broker.line(/: Error: The configuration has no listener any more: every client would be disconnected\. /)
  writeFileSync(join(dir, 'm.conf'), conf)
  await reload(broker, reloaded)
  await must(t, 'mosquitto_pub', [...at, '-m', 'still here'])
  await client.line(/^t still here$/)
})

t.test('certificates, keys, CA files and CRLs are read again, and who is no longer accepted goes', async t => {
  const port = await freePort()
  const [pki, dir] = [await testPki(t), t.testdir()]
  const other = await pki.authority('Other CA')
  const server = await pki.server()
  const [first, second, stranger] = [await pki.client('first'), await pki.client('second'), await pki.client('stranger', { ca: other })]
  const file = (name: string) => join(dir, name)
  copyFileSync(server.cert, file('broker.crt'))
  copyFileSync(server.key, file('broker.key'))
  copyFileSync(pki.ca, file('ca.crt'))
  const conf = `listener ${port} 127.0.0.1
cafile ca.crt
certfile broker.crt
keyfile broker.key
require_certificate true
use_identity_as_username true
${userLine}`
  writeFileSync(file('m.conf'), conf)
  const broker = await startBroker(t, ['-v', '-c', 'm.conf'], { cwd: dir })
  const at = (who: { cert: string; key: string }, serverCa = pki.ca) => [
    '-h',
    '127.0.0.1',
    '-p',
    `${port}`,
    '-t',
    't',
    '--cafile',
    serverCa,
    '--cert',
    who.cert,
    '--key',
    who.key
  ]
  await subscriber(t, broker, 'first', at(first))
  await subscriber(t, broker, 'second', at(second))
  t.not((await run(t, 'mosquitto_pub', [...at(stranger), '-m', 'x'])).status, 0)

  // A revocation list: one of two is on it.
  copyFileSync(await pki.revoke(first), file('ca.crl'))
  writeFileSync(file('m.conf'), `${conf}crlfile ca.crl\n`)
  await reload(broker, /: Config reloaded: crlfile changed; 1 client disconnected: certificate revoked \(1\)\.$/)
  await broker.line(
    /: Client first \[127\.0\.0\.1:\d+\] disconnected: administrative action, certificate is revoked \(serial \w+, on [\d-]+\)\.$/
  )
  t.not((await run(t, 'mosquitto_pub', [...at(first), '-m', 'x'])).status, 0)
  await broker.line(/rejected, certificate is revoked .*subject CN=first/)

  // Another CA for clients, another certificate for the broker.
  const renewed = await pki.server({ file: 'renewed', ca: other })
  copyFileSync(renewed.cert, file('broker.crt'))
  copyFileSync(renewed.key, file('broker.key'))
  copyFileSync(other.cert, file('ca.crt'))
  writeFileSync(file('m.conf'), conf)
  await reload(
    broker,
    /: Config reloaded: crlfile changed, certfile broker\.crt changed \(valid until [\d-]+\), keyfile broker\.key changed, cafile ca\.crt changed \(\+1\/-1 CAs\); 1 client disconnected: certificate of an unknown CA \(1\)\.$/
  )
  await broker.line(/: Client second \[127\.0\.0\.1:\d+\] disconnected: /)
  await must(t, 'mosquitto_pub', [...at(stranger, other.cert), '-m', 'x'])
  t.not((await run(t, 'mosquitto_pub', [...at(second, other.cert), '-m', 'x'])).status, 0)

  // A key that does not fit: everything stays.
  copyFileSync(server.key, file('broker.key'))
  await reload(broker, refused)
  await must(t, 'mosquitto_pub', [...at(stranger, other.cert), '-m', 'x'])
})

t.test('a CONNECT that began before its certificate was revoked does not come in after', async t => {
  const port = await freePort()
  const [pki, dir] = [await testPki(t), t.testdir()]
  const [server, leaf, good] = [await pki.server(), await pki.client('revoked'), await pki.client('good')]
  const crlfile = await pki.crl()
  writeFileSync(
    join(dir, 'm.conf'),
    `listener ${port} 127.0.0.1
cafile ${pki.ca}
certfile ${server.cert}
keyfile ${server.key}
crlfile ${crlfile}
require_certificate true
use_identity_as_username true
${userLine}`
  )
  const broker = await startBroker(t, ['-v', '-c', 'm.conf'], { cwd: dir })
  // The first bytes are what makes it a connection of the broker; the rest waits for the reload.
  const [head, rest] = [connect.subarray(0, 3), connect.subarray(3)]
  const begin = async (files: { cert: string; key: string }): Promise<TLSSocket> => {
    const socket = tlsConnect({
      port,
      host: '127.0.0.1',
      ca: readFileSync(pki.ca),
      cert: readFileSync(files.cert),
      key: readFileSync(files.key)
    })
    t.teardown(() => socket.destroy())
    socket.on('error', () => {})
    await once(socket, 'secureConnect')
    // TLS 1.3 tickets come behind the handshake: the broker has seen the certificate.
    await once(socket, 'session')
    // Not from within the event: OpenSSL is still reading there, and what is written now would be garbled.
    await nextTurn()
    socket.write(head)
    return socket
  }
  const [out, still] = [await begin(leaf), await begin(good)]
  // A third connection that goes all the way: what the two have sent before has been read.
  await must(t, 'mosquitto_pub', [
    '-h',
    '127.0.0.1',
    '-p',
    `${port}`,
    '--cafile',
    pki.ca,
    '--cert',
    good.cert,
    '--key',
    good.key,
    '-t',
    't',
    '-n'
  ])
  await pki.revoke(leaf)
  await reload(broker, reloaded)
  for (const socket of [out, still]) socket.write(rest)
  const [[refusal], [welcome]] = await Promise.all([once(out, 'data'), once(still, 'data')])
  t.equal(refusal.toString('hex'), '20020005')
  t.equal(welcome.toString('hex'), '20020000')
  t.notMatch(broker.stderr(), /u'revoked'/)
})

t.test('what a reload changes about who comes in is said again, for the listeners that it changes', async t => {
  const [port, other] = [await freePort(), await freePort()]
  const conf = (rights: string) =>
    `per_listener_settings true\nlistener ${port} 127.0.0.1\nallow_anonymous true\n${rights}listener ${other} 127.0.0.1\n${userLine}`
  const dir = t.testdir({ 'm.conf': conf('acl_file acl\n'), acl: 'topic read a\n' })
  const broker = await startBroker(t, ['-v', '-c', 'm.conf'], { cwd: dir })
  writeFileSync(join(dir, 'm.conf'), conf(''))
  await reload(broker, reloaded)
  await reload(broker, reloaded)
  const said = broker
    .stderr()
    .split('\n')
    .filter(line => line.includes(`Listener on port ${port} `) || line.includes(`Listener on port ${other} `))
  t.match(said, [/rights from acl\.$/, /, no ACL file\.$/, /anonymous clients allowed, no ACL file\.$/])
  t.equal(said.length, 3)
})

t.test('log options change at a reload, and the log file is opened anew', async t => {
  const port = await freePort()
  const dir = t.testdir({ 'm.conf': `listener ${port} 127.0.0.1\nlog_dest stderr\nlog_dest file broker.log\n${userLine}` })
  const broker = await startBroker(t, ['-c', 'm.conf'], { cwd: dir })
  writeFileSync(join(dir, 'm.conf'), `listener ${port} 127.0.0.1\nlog_timestamp false\n${userLine}`)
  await reload(broker, /^Config reloaded: log_dest, log_timestamp changed; 0 clients disconnected\.$/)
})

t.test('an option that waits for a restart is said at every reload until it is as it was', async t => {
  const port = await freePort()
  const conf = `listener ${port} 127.0.0.1\n${userLine}`
  const dir = t.testdir({ 'm.conf': conf })
  const broker = await startBroker(t, ['-c', 'm.conf'], { cwd: dir })
  const said = () => broker.stderr().split("The new value of 'pid_file' takes effect at the next restart").length - 1
  writeFileSync(join(dir, 'm.conf'), `${conf}pid_file broker.pid\n`)
  await reload(broker, reloaded)
  await reload(broker, reloaded)
  t.equal(said(), 2)
  writeFileSync(join(dir, 'm.conf'), conf)
  await reload(broker, reloaded)
  t.equal(said(), 2)
})
