// Listeners that a reload opens, closes and moves, under live clients; and what the reload says of it.

import { once } from 'node:events'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { connect as connectTcp, createServer as createTcpServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { createServer, type ReloadReport } from '../../dist/index.js'
import { freePort, must } from '../helpers/command.js'
import { type ConnectOptions, connectMqtt, MqttClient } from '../helpers/mqtt.js'
import { testPki } from '../helpers/pki.js'
import { tlsClient } from '../helpers/tls-listener.js'
import { until } from '../helpers/until.js'

const kept = { clean: false, properties: { sessionExpiryInterval: 3600 } } as const

/** A server whose configuration is the given lines, with its log in a file. */
async function startWith(t: Test, lines: string) {
  const dir = mkdtempSync(join(tmpdir(), 'mosquitero-'))
  t.teardown(() => rmSync(dir, { recursive: true, force: true }))
  const [file, log] = [join(dir, 'm.conf'), join(dir, 'log')]
  const write = (lines: string) => writeFileSync(file, `log_dest file ${log}\nlog_type all\n${lines}\n`)
  write(lines)
  const server = await createServer({ config: file })
  t.teardown(() => server.close())
  return {
    server,
    dir,
    log: () => readFileSync(log, 'utf8'),
    reload: (lines: string): Promise<ReloadReport> => {
      write(lines)
      return server.reload()
    }
  }
}

async function login(t: Test, port: number, clientId: string, options: ConnectOptions = {}) {
  const client = await connectMqtt(port, options.protocolVersion ?? 5)
  t.teardown(() => client.destroy())
  const connack = await client.connect({ clientId, ...options })
  t.equal(connack.reasonCode ?? connack.returnCode, 0, `${clientId} is in`)
  return client
}

function isOpen(port: number, host = '127.0.0.1'): Promise<boolean> {
  return new Promise(resolve => {
    const socket = connectTcp(port, host)
    socket.once('connect', () => {
      socket.destroy()
      resolve(true)
    })
    socket.once('error', () => resolve(false))
  })
}

async function occupy(t: Test): Promise<number> {
  const port = await freePort()
  const other = createTcpServer().listen(port, '127.0.0.1')
  await once(other, 'listening')
  t.teardown(() => other.close())
  return port
}

t.test('a new listener is open when the reload is done; the clients of one that is gone are told, and their sessions stay', async t => {
  const [first, second] = [await freePort(), await freePort()]
  const { server, reload, log } = await startWith(t, `allow_anonymous true\nlistener ${first} 127.0.0.1`)
  const five = await login(t, first, 'five', kept)
  await five.subscribe('t', 1)
  const four = await login(t, first, 'four', { protocolVersion: 4 })

  t.match(await reload(`allow_anonymous true\nlistener ${first} 127.0.0.1\nlistener ${second} 127.0.0.1`), {
    applied: true,
    problems: [],
    changed: [],
    listeners: { added: [`port ${second} on 127.0.0.1`], removed: [] },
    disconnected: []
  })
  const other = await login(t, second, 'other')
  await five.ping()
  t.same(server.addresses, [
    { family: 'ipv4', address: '127.0.0.1', port: first },
    { family: 'ipv4', address: '127.0.0.1', port: second }
  ])

  const report = await reload(`allow_anonymous true\nlistener ${second} 127.0.0.1`)
  t.match(report, {
    listeners: { added: [], removed: [`port ${first} on 127.0.0.1`] },
    disconnected: [{ reason: 'listener-removed', count: 2 }]
  })
  t.equal((await five.next('disconnect')).reasonCode, 0x8b)
  await Promise.all([five.closed(), four.closed()])
  t.notOk(await isOpen(first))
  t.match(log(), /: Client five \[127\.0\.0\.1:\d+\] disconnected: listener removed\.$/m)
  t.match(
    log(),
    new RegExp(
      `: Config reloaded: listener on port ${first} on 127\\.0\\.0\\.1 removed; 2 clients disconnected: listener removed \\(2\\)\\.$`,
      'm'
    )
  )

  // Its session may hear what the remaining listener's rules allow, and goes on there.
  other.publish('t', 'kept', { qos: 1, messageId: 1 })
  t.notMatch(await other.next('puback'), { reasonCode: 16 }, 'there is a receiver')
  const again = await connectMqtt(second, 5)
  t.teardown(() => again.destroy())
  t.equal((await again.connect({ clientId: 'five', ...kept })).sessionPresent, true)
  t.equal((await again.next('publish')).payload.toString(), 'kept')
})

t.test('with per_listener_settings a session whose listener is gone has no rights until it comes back by another', async t => {
  const [first, second] = [await freePort(), await freePort()]
  const one = (port: number) => `listener ${port} 127.0.0.1\nlistener_allow_anonymous true\n`
  const { reload } = await startWith(t, `per_listener_settings true\n${one(first)}${one(second)}`)
  const client = await login(t, first, 'c', kept)
  await client.subscribe('t', 1)
  const other = await login(t, second, 'other')
  await reload(`per_listener_settings true\n${one(second)}`)
  await client.closed()
  other.publish('t', 'lost', { qos: 1, messageId: 1 })
  await other.next('puback')
  await reload(`per_listener_settings true\n${one(first)}${one(second)}`)
  other.publish('t', 'heard', { qos: 1, messageId: 2 })
  await other.next('puback')
  const again = await login(t, first, 'c', kept)
  t.equal((await again.next('publish')).payload.toString(), 'heard')
})

t.test('a listener moves from one address to all of them and back, and its port is closed for a moment only', async t => {
  const port = await freePort()
  const { server, reload } = await startWith(t, `allow_anonymous true\nlistener ${port}`)
  const before = await login(t, port, 'before')
  t.match(await reload(`allow_anonymous true\nlistener ${port} 127.0.0.1`), {
    applied: true,
    listeners: { added: [`port ${port} on 127.0.0.1`], removed: [`port ${port}`] },
    disconnected: [{ reason: 'listener-removed', count: 1 }]
  })
  await before.closed()
  t.same(
    server.addresses.map(address => address.family !== 'unix' && address.address),
    ['127.0.0.1']
  )
  await login(t, port, 'one')
  t.ok((await reload(`allow_anonymous true\nport ${port}`)).applied)
  await login(t, port, 'all')
  t.ok((await reload(`allow_anonymous true\nport ${port}\nbind_address 127.0.0.1`)).applied)
  await login(t, port, 'one')
  t.ok((await reload(`allow_anonymous true\nlistener ${port}\nsocket_domain ipv4`)).applied)
  t.same(
    server.addresses.map(({ family }) => family),
    ['ipv4']
  )
  await login(t, port, 'all')
})

t.test('a listener that cannot be opened refuses the reload: nothing is opened, nothing is closed, nothing changes', async t => {
  const [port, free, taken] = [await freePort(), await freePort(), await occupy(t)]
  const before = `allow_anonymous true\nlistener ${port}`
  const { server, reload, log } = await startWith(t, before)
  const client = await login(t, port, 'c')
  const { addresses } = server
  // The first is open when the second fails, and has asked the old one for its port.
  const report = await reload(
    `allow_anonymous false\nlistener ${port} 127.0.0.1\nlistener ${free} 127.0.0.1\nlistener ${taken} 127.0.0.1\nmax_connections 1`
  )
  t.match(report, {
    applied: false,
    changed: [],
    listeners: { added: [], removed: [] },
    disconnected: [],
    problems: [{ severity: 'error', code: 'ERR_LISTEN_ADDRESS_IN_USE', message: 'Address already in use', at: { line: 6 } }]
  })
  t.match(log(), /Error: Address already in use\n\d+: Error found at \S+m\.conf:6\.\n\d+: Error: Reload refused/)
  await client.ping()
  t.same(server.addresses, addresses)
  await login(t, port, 'still')
  t.notOk(await isOpen(free))

  const twice = await reload(`${before}\nlistener ${port}\nmax_connections 5`)
  t.match(twice, { applied: false, problems: [{ code: 'ERR_LISTEN_ADDRESS_IN_USE', at: { line: 5 } }] }, 'two lines for one address')
  await login(t, port, 'still')
  t.match(await reload(before), { applied: true, listeners: { added: [], removed: [] } })
  await client.ping()
})

t.test('a log file that cannot be opened closes again what was opened before', async t => {
  const [port, free] = [await freePort(), await freePort()]
  const { server, dir } = await startWith(t, `allow_anonymous true\nlistener ${port}`)
  writeFileSync(join(dir, 'm.conf'), `log_dest file ${dir}/none/log\nallow_anonymous true\nlistener ${free}\n`)
  t.match(await server.reload(), { applied: false, problems: [{ code: 'ERR_LOG_FILE' }] })
  t.notOk(await isOpen(free))
  await login(t, port, 'still')
})

t.test('a Unix socket comes and goes with its line', async t => {
  const port = await freePort()
  const { reload, dir } = await startWith(t, `allow_anonymous true\nlistener ${port} 127.0.0.1`)
  const path = join(dir, 'socket')
  await reload(`allow_anonymous true\nlistener ${port} 127.0.0.1\nlistener 0 ${path}`)
  const socket = connectTcp(path)
  await once(socket, 'connect')
  const client = new MqttClient(socket, 5)
  t.equal((await client.connect({ clientId: 'local' })).reasonCode, 0)
  await reload(`allow_anonymous true\nlistener ${port} 127.0.0.1\nlistener 0 ${dir}/./socket`)
  await client.closed()
  const again = connectTcp(path)
  await once(again, 'connect')
  again.destroy()
  await reload(`allow_anonymous true\nlistener ${port} 127.0.0.1`)
  t.notOk(existsSync(path))
})

t.test('who has not sent its CONNECT yet does not come in by a listener that is gone', async t => {
  const [port, other] = [await freePort(), await freePort()]
  const { reload } = await startWith(t, `allow_anonymous true\nlistener ${port} 127.0.0.1`)
  const silent = await connectMqtt(port, 5)
  const begun = await connectMqtt(port, 5)
  begun.stream.write(Buffer.from([0x10]))
  // Handed to the broker by now: a later connection was.
  await login(t, port, 'later')
  await reload(`allow_anonymous true\nlistener ${other} 127.0.0.1`)
  await silent.closed()
  begun.stream.write(Buffer.from('0d00044d515454050200000000', 'hex'))
  begun.stream.write(Buffer.from('0000', 'hex'))
  await begun.closed()
  t.notMatch(begun.takeBytes(), /^20..0000/)
})

t.test('TLS that is switched on sends plain clients away; switched off it lets them in, and who is there stays', async t => {
  const port = await freePort()
  const pki = await testPki(t)
  const server = await pki.server()
  const plain = `allow_anonymous true\nlistener ${port} 127.0.0.1`
  const tls = `${plain}\ncertfile ${server.cert}\nkeyfile ${server.key}`
  const { reload } = await startWith(t, plain)
  const client = await login(t, port, 'plain')
  t.match(await reload(tls), {
    changed: [{ option: 'certfile' }, { option: 'keyfile' }, { option: 'tls_version' }],
    disconnected: [{ reason: 'tls-required', count: 1 }]
  })
  t.equal((await client.next('disconnect')).reasonCode, 0x98)
  const secure = await tlsClient(t, port, {})
  t.ok(secure.isAccepted)
  t.match(await reload(plain), { applied: true, disconnected: [] })
  await login(t, port, 'again')
  t.notOk(secure.socket.destroyed)
})

t.test('a reload tells as fields what it did: options, files, restarts, clients', async t => {
  const [first, second] = [await freePort(), await freePort()]
  const { reload, dir, log } = await startWith(t, `allow_anonymous true\nlistener ${first} 127.0.0.1`)
  const file = (name: string, text: string) => {
    writeFileSync(join(dir, name), text)
    return join(dir, name)
  }
  const acl = file('acl', 'topic read a\ntopic read b\nuser ann\ntopic read a\n')
  const passwords = join(dir, 'p')
  await must(t, 'mosquitto_passwd', ['-b', '-c', passwords, 'ann', 'a'])
  await must(t, 'mosquitto_passwd', ['-b', passwords, 'bob', 'b'])
  const lines = `#!log_format json\nacl_file ${acl}\npassword_file ${passwords}\nallow_anonymous true\n`
  const listeners = `listener ${first} 127.0.0.1\nlistener ${second} 127.0.0.1\n`
  await reload(lines + listeners)
  await login(t, first, 'ann', { username: 'ann', password: Buffer.from('a') })
  file('acl', 'topic read b\nuser ann\ntopic write a\ntopic read c\n')
  await must(t, 'mosquitto_passwd', ['-D', passwords, 'ann'])
  await must(t, 'mosquitto_passwd', ['-b', passwords, 'bob', 'another'])
  await must(t, 'mosquitto_passwd', ['-b', passwords, 'eve', 'e'])
  const expected = {
    changed: [
      { option: 'max_keepalive' },
      { option: 'max_qos', listener: `port ${second} on 127.0.0.1` },
      { option: 'password_file', file: passwords, of: 'user', added: 1, removed: 1, altered: 1 },
      { option: 'acl_file', file: acl, of: 'rule', added: 2, removed: 2 }
    ],
    needsRestart: ['pid_file'],
    listeners: { added: [], removed: [] },
    disconnected: [{ reason: 'unknown-user', count: 1 }]
  }
  const report = await reload(`pid_file ${dir}/pid\nmax_keepalive 50\n${lines}${listeners}max_qos 1\n`)
  t.match(report, { ...expected, applied: true })
  const entries: { event: string }[] = log()
    .split('\n')
    .filter(line => line.startsWith('{'))
    .map(line => JSON.parse(line))
  t.match(
    entries.findLast(({ event }) => event === 'reloaded'),
    {
      level: 'information',
      ...expected,
      msg: `Config reloaded: max_keepalive changed, max_qos of the listener on port ${second} on 127.0.0.1 changed, password_file ${passwords} changed (+1/-1 users, 1 user changed), acl_file ${acl} changed (+2/-2 rules); 1 client disconnected: username no longer known (1); needs a restart: pid_file.`
    }
  )
  t.match(
    entries.find(({ event }) => event === 'clientDisconnected'),
    { clientId: 'ann', reason: 'not authorised', loss: 'unknown-user', why: 'username no longer known' }
  )
  t.match(await reload(`max_keepalive 50\n${lines}${listeners}max_qos 1\n`), { changed: [], needsRestart: [], disconnected: [] })
  t.match(log(), /"msg":"Config reloaded: nothing changed; 0 clients disconnected\."/)
})

t.test('many reloads at once, and an end among them, leave no port open', async t => {
  const ports = await Promise.all([freePort(), freePort(), freePort()])
  const lines = (...open: number[]) => `allow_anonymous true\n${open.map(port => `listener ${port} 127.0.0.1`).join('\n')}`
  const [a, b, c] = ports
  const { server, reload } = await startWith(t, lines(a))
  const reloads = [reload(lines(a, b)), reload(lines(b, c)), reload(lines(c)), reload(lines(a, b, c))]
  await until(() => server.addresses.length > 1)
  const closing = server.close()
  await Promise.all([...reloads, closing])
  for (const port of ports) t.notOk(await isOpen(port), `${port}`)
})
