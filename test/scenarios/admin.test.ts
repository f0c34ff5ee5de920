// Whoever runs the broker asks it: the real broker, the real commands, clients with certificates.

import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { type Ended, freePort, mosquitero, must, type Running, start, startBroker, userLine } from '../helpers/command.js'
import { connectMqtt } from '../helpers/mqtt.js'
import { testPki } from '../helpers/pki.js'
import { until } from '../helpers/until.js'

interface Started {
  readonly dir: string
  readonly port: number
  readonly broker: Running
  readonly conf: string
  /** Runs a command of the broker to its end, with `-c`. */
  ask(...args: readonly string[]): Promise<Ended>
  /** Its lines as JSON. */
  rows(...args: readonly string[]): Promise<Record<string, unknown>[]>
}

async function startWith(t: Test, lines: string, files: Record<string, string> = {}): Promise<Started> {
  const port = await freePort()
  const dir = t.testdir({ ...files, 'm.conf': `${userLine}listener ${port} 127.0.0.1\nallow_anonymous true\n${lines}` })
  return { ...(await startIn(t, dir)), port }
}

async function startIn(t: Test, dir: string): Promise<Started> {
  const broker = await startBroker(t, ['-c', 'm.conf'], { cwd: dir })
  const ask = (...args: readonly string[]) => mosquitero(t, [...args, '-c', 'm.conf'], { cwd: dir }).ended
  return {
    dir,
    port: 0,
    broker,
    conf: join(dir, 'm.conf'),
    ask,
    async rows(...args) {
      const { status, stdout, stderr } = await ask(...args, '--json')
      if (status !== 0) throw new Error(stderr)
      return stdout
        .split('\n')
        .slice(0, -1)
        .map(line => JSON.parse(line))
    }
  }
}

const at = (port: number): string[] => ['-h', '127.0.0.1', '-p', String(port)]

t.test('clients with certificates: names, addresses, TLS, subject and expiry', async t => {
  const pki = await testPki(t)
  const server = await pki.server()
  const client = await pki.client('press-7', {
    period: { notBefore: new Date('2026-01-01T00:00:00Z'), notAfter: new Date('2036-05-04T03:02:01Z') }
  })
  const plain = await freePort()
  const port = await freePort()
  const dir = t.testdir({
    'm.conf': `${userLine}pid_file m.pid\nper_listener_settings true\nlistener ${plain} 127.0.0.1\nallow_anonymous true
listener ${port} 127.0.0.1\ncafile ${pki.ca}\ncertfile ${server.cert}\nkeyfile ${server.key}\nrequire_certificate true\nuse_identity_as_username true\n`
  })
  const { broker, ask, rows } = await startIn(t, dir)
  t.equal(statSync(join(dir, 'm.admin.sock')).mode & 0o777, 0o600)
  const tls = ['--cafile', pki.ca, '--cert', client.cert, '--key', client.key]
  start(t, 'mosquitto_sub', [...at(port), ...tls, '-i', 'seven', '-V', '5', '-t', 'a/#', '-q', '1', '-k', '77'])
  start(t, 'mosquitto_sub', [...at(plain), '-i', 'eight', '-u', 'bob', '-t', 'b', '-t', '$share/g/c'])
  await broker.line(/as seven /)
  await broker.line(/as eight /)
  await until(async () => (await rows('subscriptions')).length === 3)
  const [seven, ...others] = await rows('clients', '--username', 'press-?')
  t.same(others, [])
  t.match(seven, {
    clientId: 'seven',
    username: 'press-7',
    connected: true,
    address: '127.0.0.1',
    listener: `port ${port} on 127.0.0.1`,
    protocolVersion: 5,
    tls: { version: 'TLSv1.3' },
    certificate: {
      subject: 'CN=press-7',
      issuer: 'CN=Test CA',
      notBefore: '2026-01-01T00:00:00.000Z',
      notAfter: '2036-05-04T03:02:01.000Z'
    },
    keepalive: 77,
    subscriptions: 1,
    queued: 0,
    inflight: 0,
    hasWill: false
  })
  const { status, stdout } = await ask('clients', 'sev*')
  t.equal(status, 0)
  const [head = '', line = '', ...more] = stdout.split('\n')
  t.match(head, /^ID +USERNAME +STATE +ADDRESS +LISTENER +MQTT +TLS +QUEUED +IN FLIGHT +CERTIFICATE +UNTIL$/)
  t.match(line, /^seven +press-7 +connected +127\.0\.0\.1:\d+ +port \d+ on 127\.0\.0\.1 +5\.0 +TLSv1\.3 +0 +0 +CN=press-7 +2036-05-04$/)
  t.same(more, [''])
  t.same(
    (await rows('clients', '--listener', String(plain))).map(({ clientId }) => clientId),
    ['eight']
  )
  t.same(await rows('clients', '--address', '192.*'), [])
  t.same((await rows('clients', '--connected')).length, 2)
  t.same(await rows('clients', '--away'), [])
  t.same(
    (await rows('subscriptions', 'eight')).map(({ filter, group }) => [filter, group]),
    [
      ['b', undefined],
      ['c', 'g']
    ]
  )
  t.equal((await broker.stop()).status, 0)
  t.notOk(existsSync(join(dir, 'm.admin.sock')), 'an orderly stop takes the socket away')
})

t.test('kick: mosquitto_sub is thrown off, an MQTT 5 client reads 0x98, the session stays until it is forgotten', async t => {
  const { port, broker, ask, rows } = await startWith(t, 'persistence true\n')
  const sub = start(t, 'mosquitto_sub', [...at(port), '-i', 'sub', '-c', '-q', '1', '-t', 'a/#', '-v'])
  await broker.line(/as sub /)
  t.match(await ask('kick', 'sub'), { status: 0, stdout: 'Disconnected sub.\n', stderr: '' })
  await broker.line(/Client sub \[.*disconnected: administrative action/)
  // It comes back by itself, to the session that it had.
  await until(() => broker.stderr().split(' as sub ').length > 2)
  await must(t, 'mosquitto_pub', [...at(port), '-q', '1', '-t', 'a/b', '-m', 'still here'])
  await sub.line(/^a\/b still here$/)
  await sub.stop()

  const five = await connectMqtt(port, 5)
  await five.connect({ clientId: 'five', clean: false, properties: { sessionExpiryInterval: 100 } })
  t.match(await ask('kick', 'five', '--json'), { status: 0, stdout: '{"disconnected":true,"forgotten":false}\n' })
  t.match(await five.next('disconnect'), { reasonCode: 0x98 })
  await five.closed()
  t.match(await ask('kick', 'five'), { status: 1, stdout: '', stderr: 'five is not connected; --forget ends its session.\n' })
  t.match(await rows('clients', 'five'), [{ connected: false, sessionExpiryInterval: 100, disconnectedAt: /^20/, sessionExpiresAt: /^20/ }])
  t.match(await ask('kick', 'five', '--forget'), { status: 0, stdout: 'Ended the session of five.\n' })
  t.same(await rows('clients', 'five'), [])
  t.match(await ask('kick', 'five'), { status: 1, stderr: "Error: There is no session 'five'.\n" })
  t.match(broker.stderr(), /Administrator ended the session of five\./)
})

t.test('queue and retained messages, on disk as in memory', async t => {
  for (const store of ['persistence true\n', '#!admin_socket here.sock\n']) {
    const { port, ask, rows, broker, dir } = await startWith(t, store)
    await must(t, 'mosquitto_sub', [...at(port), '-i', 'away', '-c', '-q', '2', '-t', 'a/#', '-E'])
    await must(t, 'mosquitto_pub', [...at(port), '-i', 'p', '-q', '1', '-t', 'a/1', '-m', 'secret', '-r'])
    await must(t, 'mosquitto_pub', [
      ...at(port),
      '-i',
      'p',
      '-V',
      '5',
      '-D',
      'publish',
      'message-expiry-interval',
      '1000',
      '-q',
      '2',
      '-t',
      'a/\u202e2J',
      '-m',
      'x'
    ])
    const queue = await rows('queue', 'away')
    t.match(queue, [
      { topic: 'a/1', qos: 1, state: 'queued', bytes: 6, from: 'p' },
      { topic: 'a/\u202e2J', qos: 2, bytes: 1, expiresAt: /^20/ }
    ])
    t.notOk(JSON.stringify(queue).includes('payload'))
    const text = (await ask('queue', 'away')).stdout
    t.notMatch(text, /\u202e/, 'nothing that a terminal obeys')
    t.match(text, /a\/\\u202e2J/)
    t.match(await rows('queue', 'away', '--payload'), [{ payload: Buffer.from('secret').toString('base64') }, {}])
    t.match(await ask('queue', 'nobody'), { status: 1, stderr: "Error: There is no session 'nobody'.\n" })
    t.match(await rows('clients', 'away'), [{ connected: false, queued: 2, queuedBytes: 7 }])

    t.match(await rows('retained', 'list'), [{ topic: 'a/1', qos: 1, bytes: 6, from: 'p' }])
    t.ok((await rows('retained', 'list', '$SYS/#')).length > 10)
    t.match(await ask('retained', 'clear', '$SYS/#'), { status: 1, stderr: /\$SYS/ })
    t.match(await ask('retained', 'clear', 'a#'), { status: 1, stderr: /no topic filter/ })
    t.match(await ask('retained', 'clear', '#'), { status: 0, stdout: 'Cleared 1 retained message.\n' })
    t.same(await rows('retained', 'list'), [])
    await broker.stop()
    if (store.startsWith('persistence')) {
      const again = await startIn(t, dir)
      t.same(await again.rows('retained', 'list'), [], 'the store forgot it as well')
      t.equal((await again.rows('queue', 'away')).length, 2)
      await again.broker.stop()
    }
  }
})

t.test('who would get a message, and may read it', async t => {
  const { port, rows, ask } = await startWith(t, 'pid_file m.pid\nacl_file acl\n', {
    acl: 'user ann\ntopic read a/#\nuser bob\ntopic read b/#\n'
  })
  for (const user of ['ann', 'bob'])
    await must(t, 'mosquitto_sub', [...at(port), '-i', user, '-u', user, '-c', '-q', '1', '-t', 'a/+', '-E'])
  t.match(await rows('subscriptions', '--topic', 'a/1'), [
    { clientId: 'ann', mayRead: true },
    { clientId: 'bob', mayRead: false }
  ])
  t.same(await rows('subscriptions', '--topic', 'a/1/2'), [])
  t.match((await ask('subscriptions', '--topic', 'a/1')).stdout, /^bob +away +1 +no +a\/\+$/m)
  t.match(await ask('subscriptions', '--topic', 'a/#'), { status: 1, stderr: /no topic name/ })
})

t.test('reload says what is wrong and changes nothing, or does it', async t => {
  const { broker, ask, conf } = await startWith(t, 'pid_file m.pid\n')
  const text = readFileSync(conf, 'utf8')
  t.match(await ask('reload'), { status: 0, stdout: 'Config reloaded: nothing changed; 0 clients disconnected.\n', stderr: '' })
  writeFileSync(conf, `${text}acl_file nowhere\nbogus 1\n`)
  const { status, stdout, stderr } = await ask('reload')
  t.equal(status, 1)
  t.equal(stdout, '')
  t.match(stderr, /Unknown configuration variable 'bogus'/)
  t.match(stderr, /Error found at m\.conf:6\./)
  t.match(stderr, /Reload refused/)
  t.match(await ask('clients'), { status: 0 }, 'a broken file still says where the broker is')
  const json = await ask('reload', '--json')
  t.equal(json.status, 1)
  t.match(JSON.parse(json.stdout), { applied: false, problems: [{ severity: 'error', code: 'ERR_CONF_UNKNOWN', file: 'm.conf', line: 6 }] })
  await broker.line(/Administrator asked for a reload/)
})

t.test('what a crash leaves is replaced; another broker, a file and a missing folder leave the broker without a socket', async t => {
  const first = await startWith(t, 'pid_file m.pid\n')
  const socket = join(first.dir, 'm.admin.sock')
  first.broker.child.kill('SIGKILL')
  await first.broker.ended
  t.ok(existsSync(socket))
  t.match(await first.ask('clients'), {
    status: 1,
    stderr: /^Error: Nobody answers on m\.admin\.sock: the broker that made it is gone\.\n$/
  })
  const second = await startIn(t, first.dir)
  t.match(await second.ask('clients'), { status: 0 })

  // The same path, by another broker.
  const rivalPort = await freePort()
  writeFileSync(join(first.dir, 'rival.conf'), `${userLine}listener ${rivalPort} 127.0.0.1\n#!admin_socket m.admin.sock\n`)
  const rival = await startBroker(t, ['-c', 'rival.conf'], { cwd: first.dir })
  await rival.line(/Warning: There is no admin socket m\.admin\.sock: another broker answers there\.$/)
  await rival.stop()
  t.match(await second.ask('clients'), { status: 0 }, 'the one that was there still answers')
  await second.broker.stop()
  t.notOk(existsSync(socket))
  t.match(await second.ask('clients'), { status: 1, stderr: /^Error: There is no socket m\.admin\.sock: the broker is not running/ })

  for (const [path, why] of [
    ['file', /there is a file of that name/],
    ['nowhere/a.sock', /No such file or directory|Permission denied/],
    ['x'.repeat(120), /too long/]
  ] as const) {
    writeFileSync(join(first.dir, 'file'), '')
    writeFileSync(join(first.dir, 'rival.conf'), `${userLine}listener ${await freePort()} 127.0.0.1\n#!admin_socket ${path}\n`)
    const broker = await startBroker(t, ['-c', 'rival.conf'], { cwd: first.dir })
    t.match(await broker.line(/There is no admin socket/), why)
    t.equal((await broker.stop()).status, 0)
  }
  t.ok(existsSync(join(first.dir, 'file')), 'what is not ours stays')
})

t.test('nobody is named, nothing is there, something else answers', async t => {
  const dir = t.testdir({ 'plain.conf': 'listener 1883\n', 'none.conf': 'pid_file a.pid\n#!admin_socket none\n' })
  const ask = (...args: readonly string[]) => mosquitero(t, args, { cwd: dir }).ended
  t.match(await ask('clients'), {
    status: 2,
    stderr: /^Error: Name the broker by -c FILE, its mosquitto\.conf, or by --socket PATH\.\n\nUsage:/
  })
  t.match(await ask('clients', '-c', 'plain.conf'), { status: 1, stderr: /#!admin_socket PATH would give it one/ })
  t.match(await ask('clients', '-c', 'none.conf'), { status: 1, stderr: /#!admin_socket none switches it off/ })
  t.match(await ask('clients', '-c', 'gone.conf'), { status: 1, stderr: /^Error: Unable to open config file 'gone\.conf'\. No such file/ })
  t.match(await ask('clients', '--socket', 'gone.sock'), { status: 1, stderr: /^Error: There is no socket gone\.sock/ })
  for (const path of ['plain.conf', '.']) {
    t.match(await ask('clients', '--socket', path), { status: 1, stderr: `Error: ${path} is no socket.\n` })
  }
  t.match(await ask('clients', '--socket', `/tmp/${'x'.repeat(110)}`), { status: 1, stderr: /too long for a socket/ })
  t.match(await ask('clients', '--help'), { status: 0, stdout: /^Usage: mosquitero clients/ })
  const server = createServer(socket => socket.end('220 smtp ready\r\n'))
  const place = mkdtempSync(join(tmpdir(), 'mosquitero-'))
  t.teardown(() => rmSync(place, { recursive: true, force: true }))
  const path = join(place, 'other.sock')
  await new Promise<void>(resolve => server.listen(path, resolve))
  t.teardown(() => server.close())
  t.match(await ask('clients', '--socket', path), { status: 1, stderr: /is no broker of this version\.\n$/ })
})

t.test('a reader who has enough ends the command without a word', async t => {
  const { ask, dir, port } = await startWith(t, 'pid_file m.pid\nmax_queued_messages 0\n')
  const client = await connectMqtt(port)
  await client.connect({ clientId: 'retainer' })
  for (let i = 0; i < 3000; i++) client.publish(`a/${i}/${'x'.repeat(100)}`, 'x', { retain: true })
  await client.ping()
  t.equal((await ask('retained', 'list')).stdout.split('\n').length, 3002)
  const main = join(process.cwd(), 'dist', 'cli', 'main.js')
  const { stdout, stderr } = await start(t, 'sh', ['-c', `"${process.execPath}" "${main}" retained list -c m.conf | head -2`], {
    cwd: dir,
    input: ''
  }).ended
  t.equal(stdout.split('\n').length, 3)
  t.equal(stderr, '')
  client.destroy()
})
