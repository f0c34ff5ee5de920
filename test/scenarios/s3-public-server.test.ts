// S3: a public test server: users, rights, several listeners, with Mosquitto's own clients and tools.

import { appendFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { freePort, mosquitero, must, run, start, startBroker, userLine } from '../helpers/command.js'
import { testPki } from '../helpers/pki.js'

t.test('started with no options it says its version and its sockets, or that the port is taken', async t => {
  const broker = mosquitero(t, [])
  const line = await broker.line(/version \S+ running$|Address already in use/)
  t.match(broker.stderr(), /^\d{10}: mosquitero version \S+ starting$/m)
  t.match(broker.stderr(), /^\d{10}: Using default config\.$/m)
  t.match(broker.stderr(), /^\d{10}: Starting in local only mode\./m)
  t.match(broker.stderr(), /^\d{10}: Opening ipv4 listen socket on port 1883\.$/m)
  const ended = line.includes('running') ? await broker.stop('SIGINT') : await broker.ended
  t.equal(ended.status, line.includes('running') ? 0 : 1)
})

t.test('local only mode listens on this machine alone and lets anybody in', async t => {
  const port = await freePort()
  const broker = await startBroker(t, ['-v', '-p', `${port}`])
  const subscriber = start(t, 'mosquitto_sub', ['-p', `${port}`, '-i', 'sub', '-v', '-t', '#'])
  await broker.line(/: sub 0 #$/)
  await must(t, 'mosquitto_pub', ['-p', `${port}`, '-t', 'public/test1', '-m', 'Hello World'])
  await subscriber.line(/^public\/test1 Hello World$/)
})

t.test('lines piped into mosquitto_pub -l arrive in order', async t => {
  const port = await freePort()
  const broker = await startBroker(t, ['-v', '-p', `${port}`])
  const subscriber = start(t, 'mosquitto_sub', ['-p', `${port}`, '-i', 'sub', '-t', 't'])
  await broker.line(/: sub 0 t$/)
  const lines = Array.from({ length: 200 }, (_, i) => `line ${i}`)
  await must(t, 'mosquitto_pub', ['-p', `${port}`, '-t', 't', '-q', '1', '-l'], { input: `${lines.join('\n')}\n` })
  await subscriber.line(/^line 199$/)
  t.same(subscriber.stdout().trim().split('\n'), lines)
})

t.test('a password file made by mosquitto_passwd or by mosquitero passwd lets in who knows the password', async t => {
  const dir = t.testdir()
  const port = await freePort()
  await must(t, 'mosquitto_passwd', ['-b', '-c', 'passwords', 'testuser', 'secret'], { cwd: dir })
  for (const [hash, user] of [
    ['argon2id', 'ann'],
    ['sha512-pbkdf2', 'bob'],
    ['sha512', 'cyd']
  ] as const) {
    t.equal((await mosquitero(t, ['passwd', '-b', '-H', hash, 'passwords', user, 'secret'], { cwd: dir, input: '' }).ended).status, 0)
  }
  writeFileSync(join(dir, 'mosquitto.conf'), `listener ${port} 127.0.0.1\npassword_file passwords\n${userLine}`)
  const broker = await startBroker(t, ['-c', 'mosquitto.conf'], { cwd: dir })
  const publish = (...credentials: string[]) =>
    run(t, 'mosquitto_pub', ['-h', '127.0.0.1', '-p', `${port}`, '-t', 't', '-m', 'x', ...credentials])
  for (const user of ['testuser', 'ann', 'bob', 'cyd']) t.equal((await publish('-u', user, '-P', 'secret')).status, 0, user)
  t.equal((await publish('-u', 'ann', '-P', 'wrong')).status, 5, 'mosquitto_pub ends with the CONNACK code')
  t.equal((await publish('-u', 'nobody', '-P', 'secret')).status, 5)
  t.equal((await publish()).status, 5)
  t.equal((await publish('-V', '5', '-u', 'ann', '-P', 'wrong')).status, 135)
  await broker.line(/disconnected: not authorised\.$/)
  t.notMatch(broker.stderr(), /secret|wrong|\$7\$|\$argon2/)
})

t.test('the ACL file of the scenario: everybody reads all, writes below user/<name> and the playground', async t => {
  const dir = t.testdir()
  const port = await freePort()
  await must(t, 'mosquitto_passwd', ['-b', '-c', 'passwords', 'ann', 'secret'], { cwd: dir })
  writeFileSync(
    join(dir, 'acl'),
    `topic read #
pattern write $SYS/broker/connection/%c/state
pattern readwrite user/%u/#
pattern readwrite pub/playground/#
user ann
topic read #
`
  )
  writeFileSync(
    join(dir, 'mosquitto.conf'),
    `listener ${port} 127.0.0.1\npassword_file passwords\nacl_file acl\nallow_anonymous true\n${userLine}`
  )
  const broker = await startBroker(t, ['-v', '-c', 'mosquitto.conf'], { cwd: dir })
  const subscriber = start(t, 'mosquitto_sub', ['-h', '127.0.0.1', '-p', `${port}`, '-i', 'sub', '-v', '-t', '#'])
  await broker.line(/: sub 0 #$/)
  const publish = (topic: string, ...more: string[]) =>
    must(t, 'mosquitto_pub', ['-h', '127.0.0.1', '-p', `${port}`, '-q', '1', '-t', topic, '-m', 'x', ...more])
  const ann = ['-u', 'ann', '-P', 'secret', '-i', 'ann-1']
  await publish('other', ...ann) // acknowledged, dropped
  await publish('user/bob/t', ...ann)
  await publish('user/ann/t', ...ann)
  await publish('user/ann/t', '-i', 'anonymous')
  await publish('pub/playground/end', '-i', 'anonymous')
  await subscriber.line(/^pub\/playground\/end x$/)
  t.equal(subscriber.stdout(), 'user/ann/t x\npub/playground/end x\n')
  await broker.line(/: Denied PUBLISH from ann-1 .*'other'.*user 'ann'.*no rule/)
  await broker.line(/: Denied PUBLISH from anonymous .*'user\/ann\/t'/)
})

t.test('a plain and a TLS listener side by side; a host name that is not in the certificate fails on the client only', async t => {
  const dir = t.testdir()
  const [plain, secure] = [await freePort(), await freePort()]
  const pki = await testPki(t)
  const server = await pki.server({ names: ['test.example'] })
  writeFileSync(
    join(dir, 'mosquitto.conf'),
    `allow_anonymous true
listener ${plain} 127.0.0.1
listener ${secure} 127.0.0.1
cafile ${server.ca}
keyfile ${server.key}
certfile ${server.cert}
${userLine}`
  )
  const broker = await startBroker(t, ['-v', '-c', 'mosquitto.conf'], { cwd: dir })
  const common = ['-h', '127.0.0.1', '-p', `${secure}`, '-t', '#', '--cafile', server.ca]
  const mistaken = await run(t, 'mosquitto_sub', [...common, '-W', '5'])
  t.not(mistaken.status, 0)
  await broker.line(/Connection from 127\.0\.0\.1:\d+ rejected, client does not accept our certificate, .*host name/)

  const subscriber = start(t, 'mosquitto_sub', [...common, '--insecure', '-v', '-i', 'sub'])
  await broker.line(/: sub 0 #$/)
  await must(t, 'mosquitto_pub', ['-h', '127.0.0.1', '-p', `${plain}`, '-t', 'from/plain', '-m', 'hello'])
  await subscriber.line(/^from\/plain hello$/)
})

t.test('a signed message passes on unchanged to the byte', async t => {
  const port = await freePort()
  const broker = await startBroker(t, ['-v', '-p', `${port}`])
  const subscriber = start(t, 'mosquitto_sub', ['-p', `${port}`, '-i', 'sub', '-t', 'signed', '-C', '1', '-N'])
  await broker.line(/: sub 0 signed$/)
  const message = `1795302666{"on":true}\u0000ÿ€😀:${Buffer.from('a signature').toString('base64')}`
  const dir = t.testdir()
  appendFileSync(join(dir, 'message'), message)
  await must(t, 'mosquitto_pub', ['-p', `${port}`, '-t', 'signed', '-f', join(dir, 'message')])
  t.equal((await subscriber.ended).stdout, message)
})
