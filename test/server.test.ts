// The broker as a library: started, reloaded and closed inside somebody's process.

import { createHook } from 'node:async_hooks'
import { once } from 'node:events'
import { readFileSync, writeFileSync } from 'node:fs'
import { connect, createServer as createTcpServer } from 'node:net'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { createServer, ProblemsError, type ReloadReport } from '../dist/index.js'
import { portOf } from './helpers/bare-broker.js'
import { freePort, must } from './helpers/command.js'
import { type ConnectOptions, connectMqtt, type MqttClient } from './helpers/mqtt.js'
import { hasNoDelay } from './helpers/socket-option.js'
import { until } from './helpers/until.js'

const quiet = { verbosity: 'quiet' } as const

/** A server with one listener for everybody; `reload` puts other lines before it. */
async function startWith(t: Test, lines: string, more = '') {
  const [file, port] = [join(t.testdir(), 'm.conf'), await freePort()]
  const write = (lines: string) => writeFileSync(file, `${lines}allow_anonymous true\nlistener ${port} 127.0.0.1\n${more}`)
  write(lines)
  const server = await createServer({ config: file, ...quiet })
  t.teardown(() => server.close())
  return {
    server,
    port,
    async reload(lines: string) {
      write(lines)
      const { problems } = await server.reload()
      t.same(
        problems.filter(({ severity }) => severity === 'error'),
        []
      )
    }
  }
}

/** Connects with MQTT 5 unless told otherwise, and ends with the test. */
async function login(t: Test, port: number, options: ConnectOptions) {
  const client: MqttClient = await connectMqtt(port, options.protocolVersion ?? 5)
  t.teardown(() => client.destroy())
  return { client, connack: await client.connect(options) }
}

// As Mosquitto, which counts what it accepts. One that says nothing, or that TLS refuses, is a socket too.
t.test('$SYS counts every socket that came to a listener, whatever became of it', async t => {
  const { port } = await startWith(t, 'sys_interval 1\n', 'max_connections 2\n')
  const { client } = await login(t, port, { clientId: 'watcher', protocolVersion: 4 })
  const come = async () => {
    const socket = connect(port, '127.0.0.1').on('error', () => {})
    await once(socket, 'connect')
    return socket
  }
  const silent = await come()
  const refused = await come()
  await once(refused.resume(), 'close')
  silent.destroy()
  await client.subscribe('$SYS/broker/connections/socket/count')
  let count = ''
  while (count !== '3') count = String((await client.next('publish')).payload)
})

t.test('a configuration is started, read again and closed', async t => {
  const dir = t.testdir({ acl: 'topic readwrite #\n' })
  const [file, port] = [join(dir, 'm.conf'), await freePort()]
  writeFileSync(file, `listener ${port} 127.0.0.1\nallow_anonymous true\nacl_file ${join(dir, 'acl')}\n`)
  const server = await createServer({ config: file, ...quiet })
  t.teardown(() => server.close())
  t.match(server.addresses, [{ family: 'ipv4', address: '127.0.0.1', port }])
  await must(t, 'mosquitto_pub', ['-h', '127.0.0.1', '-p', `${port}`, '-q', '1', '-t', 't', '-m', 'x'])

  writeFileSync(join(dir, 'acl'), 'nonsense\n')
  t.match(await server.reload(), { applied: false, problems: [{ severity: 'error', code: 'ERR_ACL_SYNTAX', at: { line: 1 } }] })
  writeFileSync(join(dir, 'acl'), 'topic read #\n')
  t.match(await server.reload(), { applied: true, problems: [] })

  await Promise.all([server.close(), server.close()])
  writeFileSync(file, 'nonsense\n')
  t.match(await server.reload(), { applied: false, problems: [] }, 'a reload after the end does nothing, and reads nothing')
  await t.rejects(must(t, 'mosquitto_pub', ['-h', '127.0.0.1', '-p', `${port}`, '-t', 't', '-m', 'x']))
})

t.test('a program asks and acts without a socket', async t => {
  const { server, port } = await startWith(t, '#!admin_socket none\n')
  const { client } = await login(t, port, { clientId: 'press-7', clean: false, properties: { sessionExpiryInterval: 60 } })
  await client.subscribe('plant/#', 1)
  const clientIds = async (): Promise<string[]> => {
    const found: string[] = []
    for await (const { clientId } of server.admin.clients({ match: 'press-*', connected: true })) found.push(clientId)
    return found
  }
  t.same(await clientIds(), ['press-7'])
  for await (const subscription of server.admin.subscriptions({ topic: 'plant/1' }))
    t.match(subscription, { clientId: 'press-7', mayRead: true })
  t.same(await server.admin.kick('press-7', { forget: true }), { disconnected: true, forgotten: true })
  t.match(await client.next('disconnect'), { reasonCode: 0x98 })
  t.equal(await server.admin.queue('press-7'), undefined)
  await t.rejects(server.admin.clearRetained('$SYS/#'), TypeError)
})

t.test('a reload that the end overtakes applies nothing and opens no log file again', async t => {
  const dir = t.testdir()
  const [file, log] = [join(dir, 'm.conf'), join(dir, 'broker.log')]
  writeFileSync(file, `listener ${await freePort()} 127.0.0.1\nlog_dest file ${log}\n`)
  const server = await createServer({ config: file })
  const reloading = server.reload()
  // It begins in this turn of the event loop, and no file is read before the next one.
  while (!readFileSync(log, 'utf8').includes('Reloading')) await undefined
  await server.close()
  t.match(await reloading, { applied: false, problems: [] })
  t.match(readFileSync(log, 'utf8'), /Reloading config\.\n.* terminating\n$/)
})

t.test('what a person wrote wrong rejects with every problem and its place', async t => {
  const file = join(t.testdir({ 'm.conf': 'listener 1883\nfoo\nbar\n' }), 'm.conf')
  const error = await createServer({ config: file, ...quiet }).then(
    () => undefined,
    (error: unknown) => error
  )
  t.ok(error instanceof ProblemsError)
  t.match(error, { code: 'ERR_CONF_UNKNOWN', problems: [{ at: { file, line: 2 } }, { at: { file, line: 3 } }] })
})

t.test('a text is the path of a file, and an option that belongs elsewhere is refused', async t => {
  const file = join(t.testdir(), 'm.conf')
  writeFileSync(file, `listener ${await freePort()} 127.0.0.1\nlog_type none\n`)
  const server = await createServer(file)
  t.equal(server.config.file, file)
  await server.close()
  const misplaced = { ...quiet, listeners: [{ port: 0 }], acl_file: 'acl' }
  await t.rejects(createServer(misplaced), {
    code: 'ERR_CONF_UNKNOWN',
    message: "'listeners' is no option of createServer: what mosquitto.conf says belongs into 'config'.",
    problems: [{ at: { file: 'options.listeners' } }, { at: { file: 'options.acl_file' } }]
  })
})

t.test('a broker that could not make its certificate, and so was never started, does not try it later', async t => {
  const long = new Set<number>()
  let seen = 0
  const hook = createHook({
    init: (id, type, _, resource) => {
      if (type !== 'Timeout' || Number(Reflect.get(resource, '_idleTimeout')) < 3_600_000) return
      long.add(id)
      seen += 1
    },
    destroy: id => long.delete(id)
  }).enable()
  t.teardown(() => hook.disable())
  const file = join(t.testdir(), 'm.conf')
  writeFileSync(
    file,
    `#!tls_dns_list localhost\n#!enrolment_ca no.crt no.key\nlistener ${await freePort()} 127.0.0.1\nallow_anonymous true\n`
  )
  await t.rejects(createServer({ config: file, ...quiet }), ProblemsError)
  t.ok(seen > 0)
  await until(() => long.size === 0)
})

t.test('when one listener cannot be opened, those before it are closed again', async t => {
  const [first, second] = [await freePort(), await freePort()]
  const file = join(t.testdir(), 'm.conf')
  writeFileSync(file, `listener ${first} 127.0.0.1\nlistener ${second} 127.0.0.1\nlistener ${first} 127.0.0.1\n`)
  await t.rejects(createServer({ config: file, ...quiet }), { code: 'ERR_LISTEN_ADDRESS_IN_USE', at: { file, line: 3 } })
  for (const port of [first, second]) {
    const refused = await new Promise<boolean>(resolve => {
      const socket = connect(port, '127.0.0.1')
      socket.once('connect', () => resolve(false)).once('error', () => resolve(true))
      t.teardown(() => socket.destroy())
    })
    t.ok(refused, `port ${port} is closed`)
  }
})

t.test('a file that several listeners share is read once, and what is wrong in it is said once', async t => {
  const dir = t.testdir({ acl: 'nonsense\n', passwords: 'ann:$9$x\n' })
  const file = join(dir, 'm.conf')
  const rights = `acl_file ${join(dir, 'acl')}\npassword_file ${join(dir, 'passwords')}\n`
  writeFileSync(file, `listener 0 ${join(dir, 'a')}\nlistener 0 ${join(dir, 'b')}\n${rights}`)
  const error = await createServer({ config: file, ...quiet }).then(
    () => undefined,
    (error: unknown) => error
  )
  const errors = error instanceof ProblemsError ? error.problems.filter(({ severity }) => severity === 'error') : []
  t.same(errors.map(({ code }) => code).sort(), ['ERR_ACL_SYNTAX', 'ERR_PASSWORD_SYNTAX'])
})

t.test('the environment is asked only when it is given', async t => {
  const file = join(t.testdir({ 'm.conf': '' }), 'm.conf')
  writeFileSync(file, `listener ${await freePort()} 127.0.0.1\n`)
  const env = { MOSQUITERO_LOG_FORMAT: 'json' }
  const server = await createServer({ config: file, env, ...quiet })
  t.equal(server.config.log.format, 'json')
  await server.close()
})

t.test('clientid_prefixes decides who comes in, from a reload on as well', async t => {
  const { port, reload } = await startWith(t, 'clientid_prefixes plant-\n')
  const codeOf = async (clientId: string) => (await login(t, port, { clientId })).connack.reasonCode
  t.equal(await codeOf('plant-7'), 0)
  t.equal(await codeOf('guest-7'), 0x87)
  await reload('clientid_prefixes guest-\n')
  t.equal(await codeOf('plant-8'), 0x87)
  t.equal(await codeOf('guest-8'), 0)
})

t.test('global_max_connections of a reload counts for the next connection', async t => {
  const { port, reload } = await startWith(t, '')
  await login(t, port, { clientId: 'first' })
  await reload('global_max_connections 1\n')
  await t.rejects(login(t, port, { clientId: 'second' }), { message: 'closed before CONNACK' })
  await reload('global_max_connections 2\n')
  t.equal((await login(t, port, { clientId: 'second' })).connack.reasonCode, 0)
})

t.test('the limits of a reload count from the next packet on', async t => {
  const { server, port, reload } = await startWith(t, '')
  const { client, connack } = await login(t, port, { clientId: 'c' })
  t.equal(connack.properties?.maximumPacketSize, 2_000_000)
  const publish = async (size: number, answerLength: number) => {
    client.takeBytes()
    client.publish('t', 'x'.repeat(size), { qos: 1, messageId: 1 })
    return client.nextBytes(answerLength)
  }
  t.match(await publish(100, 4), /^40..0001(?!95)/)

  await reload('message_size_limit 99\nmax_packet_size 5000\nmax_keepalive 30\n')

  t.match(server.config.limits, { messageSizeLimit: 99, maxPacketSize: 5000, maxKeepalive: 30 })
  t.equal(await publish(100, 5), '4003000195', 'packet too large')
  const after = await login(t, port, { clientId: 'five', keepalive: 31 })
  t.match(after.connack.properties, { maximumPacketSize: 5000, serverKeepAlive: 30 })
  t.equal((await login(t, port, { protocolVersion: 4, clientId: 'four', keepalive: 31 })).connack.returnCode, 2)
  t.equal((await login(t, port, { protocolVersion: 4, clientId: 'four', keepalive: 30 })).connack.returnCode, 0)
  after.client.publish('t', 'x'.repeat(5001))
  t.equal((await after.client.next('disconnect')).reasonCode, 0x95)
})

t.test('a connection that came by none of the listeners is not let in', async t => {
  const { server } = await startWith(t, '')
  const door = createTcpServer(server.broker.handle).listen(0, '127.0.0.1')
  await once(door, 'listening')
  t.teardown(() => door.close())
  t.equal((await login(t, portOf(door.address()), { clientId: 'c' })).connack.reasonCode, 0x87)
})

t.test('set_tcp_nodelay of a reload counts for the next connection', async t => {
  const { server, port, reload } = await startWith(t, 'set_tcp_nodelay false\n')
  const connectionOf = async (clientId: string) => {
    await login(t, port, { clientId })
    const conn = server.broker.clients[clientId]?.conn
    if (conn === undefined) throw new Error('not connected')
    return conn
  }
  t.notOk(server.config.setTcpNodelay)
  const before = await connectionOf('before')
  await reload('')
  t.ok(server.config.setTcpNodelay)
  t.equal(await hasNoDelay(before), false)
  t.equal(await hasNoDelay(await connectionOf('after')), true)
})

t.test('each listener promises its own max_topic_alias', async t => {
  const second = await freePort()
  const { port } = await startWith(t, '', `max_topic_alias 7\nlistener ${second} 127.0.0.1\nmax_topic_alias 3\n`)
  for (const [at, maximum] of [
    [port, 7],
    [second, 3]
  ] as const) {
    t.equal((await login(t, at, { clientId: `c${at}` })).connack.properties?.topicAliasMaximum, maximum)
  }
})

t.test('onReload hears of each reload that was one, and what it throws is its own matter', async t => {
  const dir = t.testdir({ acl: 'topic a\n' })
  const [file, acl] = [join(dir, 'm.conf'), join(dir, 'acl')]
  writeFileSync(file, `#!watch_files true\nallow_anonymous true\nlistener ${await freePort()} 127.0.0.1\nacl_file ${acl}\n`)
  const reports: ReloadReport[] = []
  const onReload = (report: ReloadReport) => {
    reports.push(report)
    throw new Error('not mine')
  }
  const server = await createServer({ config: file, ...quiet, onReload })
  t.teardown(() => server.close())
  t.same(await server.reload(), reports[0])
  writeFileSync(acl, 'topic b\n')
  await until(() => reports.length > 1)
  writeFileSync(acl, 'nonsense\n')
  await until(() => reports.length > 2)
  t.match(reports, [
    { applied: true, changed: [] },
    { applied: true, changed: [{ option: 'acl_file', file: acl, of: 'rule', added: 1, removed: 1 }] },
    { applied: false, problems: [{ code: 'ERR_ACL_SYNTAX' }] }
  ])
  await server.close()
  await server.reload()
  t.equal(reports.length, 3)
})
