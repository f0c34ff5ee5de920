import { spawn } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { createServer, connect as tcpConnect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Duplex } from 'node:stream'
import t from 'tap'
import type { Bind } from '../../dist/config/types.js'
import { BrokerError } from '../../dist/errors.js'
import { openListener } from '../../dist/net/listener.js'
import { testPki } from '../helpers/pki.js'
import { hasNoDelay } from '../helpers/socket-option.js'
import {
  connect,
  dial,
  disconnect,
  listenerConfig,
  materialOf,
  publish,
  run,
  testListener,
  testLog,
  tlsClient,
  tlsConfig,
  until
} from '../helpers/tls-listener.js'

const host = () => ({ log: testLog(), total: { count: 0, limit: -1 }, onConnection: (stream: Duplex) => void stream.destroy() })

t.test('each kind of address opens its sockets, both families on one port, with Mosquitto’s lines', async t => {
  const cases: [bind: Bind, socketDomain: 'ipv4' | 'ipv6' | undefined, addresses: string[]][] = [
    [{ kind: 'any' }, undefined, ['0.0.0.0', '::']],
    [{ kind: 'loopback' }, undefined, ['127.0.0.1', '::1']],
    [{ kind: 'any' }, 'ipv4', ['0.0.0.0']],
    [{ kind: 'any' }, 'ipv6', ['::']],
    [{ kind: 'host', host: '127.0.0.1' }, undefined, ['127.0.0.1']],
    [{ kind: 'host', host: '::1' }, undefined, ['::1']],
    [{ kind: 'host', host: 'localhost' }, 'ipv4', ['127.0.0.1']]
  ]
  for (const [bind, socketDomain, expected] of cases) {
    const { listener, log } = await testListener(t, { config: { bind, ...(socketDomain && { socketDomain }) } })
    const { port } = listener
    t.match(
      listener.addresses,
      expected.map(address => ({ address, port }))
    )
    t.same(
      log.lines,
      expected.map(address => `Opening ipv${address.includes(':') ? 6 : 4} listen socket on port ${port}.`)
    )
    await listener.close()
    t.equal(await isOpen(port), false, 'closed at once')
  }
})

t.test('peers are named with their address, on either family', async t => {
  const { listener, accepted, log } = await testListener(t, { config: { bind: { kind: 'any' } } })
  for (const address of ['127.0.0.1', '::1']) {
    tcpConnect(listener.port, address).end(connect)
  }
  await until(
    () => accepted.length === 2,
    () => 'two connections'
  )
  t.same(accepted.map(({ connection }) => connection.remoteAddress).sort(), ['127.0.0.1', '::1'])
  t.match(log.of('accepted').sort(), [
    new RegExp(`^New connection from 127\\.0\\.0\\.1:\\d+ on port ${listener.port}\\.$`),
    new RegExp(`^New connection from ::1:\\d+ on port ${listener.port}\\.$`)
  ])
})

t.test('a port in use, an address that is not here and an unknown host are one clear error with the line', async t => {
  const taken = createServer().listen(0, '::1')
  await new Promise(resolve => taken.once('listening', resolve))
  t.teardown(() => taken.close())
  const address = taken.address()
  const port = typeof address === 'object' && address !== null ? address.port : 0
  const cases: [config: Parameters<typeof listenerConfig>[0], code: string, message: RegExp][] = [
    [{ port, bind: { kind: 'loopback' } }, 'ERR_LISTEN_ADDRESS_IN_USE', /^Address already in use$/],
    [{ port, bind: { kind: 'any' } }, 'ERR_LISTEN_ADDRESS_IN_USE', /^Address already in use$/],
    [{ bind: { kind: 'host', host: '192.0.2.1' } }, 'ERR_LISTEN_ADDRESS', /^Cannot assign requested address$/],
    [
      { bind: { kind: 'host', host: 'no-such-host.invalid' } },
      'ERR_LISTEN_ADDRESS',
      /^Unable to find an address for listener host "no-such-host\.invalid": /
    ],
    [
      { bind: { kind: 'host', host: '127.0.0.1' }, socketDomain: 'ipv6' },
      'ERR_LISTEN_ADDRESS',
      /^"127\.0\.0\.1" has no address of socket_domain ipv6$/
    ]
  ]
  for (const [config, code, message] of cases) {
    const error: unknown = await openListener({ config: listenerConfig(config) }, host()).catch((error: unknown) => error)
    if (!(error instanceof BrokerError)) throw new Error('it opened')
    t.match(error, { code, message, at: { file: 'mosquitto.conf', line: 1 } })
  }
  t.equal(await isOpen(port, '127.0.0.1'), false, 'the family that was free is not left open')
})

t.test('a privileged port without the right to it is one clear error', async t => {
  const script = `
    import { openListener } from ${JSON.stringify(new URL('../../dist/net/listener.js', import.meta.url).href)}
    if (process.getuid() === 0) { process.setgid(65534); process.setuid(65534) }
    const log = { write: (name, fields) => console.log(name, JSON.stringify(fields)), enabled: () => true }
    const config = ${JSON.stringify(listenerConfig({ port: 883 }))}
    await openListener({ config }, { log, total: { count: 0, limit: -1 }, onConnection() {} }).catch(error => console.log(error.code, error.message))`
  const { output } = await run(process.execPath, ['--input-type=module', '-e', script])
  t.match(output, /privilegedPort \{"port":883\}\nERR_LISTEN_PERMISSION Permission denied\n/)
})

t.test('without IPv6 it goes on with IPv4 and a warning', async t => {
  const script = `
    import { openListener } from ${JSON.stringify(new URL('../../dist/net/listener.js', import.meta.url).href)}
    import { logEvents } from ${JSON.stringify(new URL('../../dist/log-events.js', import.meta.url).href)}
    const log = { write: (name, fields) => console.log(logEvents[name].text(fields)), enabled: () => true }
    const config = ${JSON.stringify(listenerConfig({ port: 1883 }))}
    const listener = await openListener({ config }, { log, total: { count: 0, limit: -1 }, onConnection() {} })
    console.log(JSON.stringify(listener.addresses))
    await listener.close()`
  const { status, output } = await run('unshare', [
    '-n',
    'sh',
    '-c',
    'ip link set lo up 2>/dev/null; echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6 && exec "$@"',
    'sh',
    process.execPath,
    '--input-type=module',
    '-e',
    script
  ])
  if (status !== 0) {
    t.comment(`this machine gives no network namespace to try it in: ${output}`)
    return
  }
  t.match(output, /Warning: IPv6 is not available \(.*\): port 1883 is open for IPv4 only\./)
  t.match(output, /\[\{"family":"ipv4","address":"127\.0\.0\.1","port":1883\}\]/)
})

t.test('a Unix socket is opened for owner and group, taken over when stale, and removed', async t => {
  // Not in t.testdir(): such a path is too long for a socket.
  const dir = mkdtempSync(join(tmpdir(), 'mosquitero-'))
  t.teardown(() => rmSync(dir, { recursive: true }))
  const path = join(dir, 'mqtt.sock')
  const config = { port: 0, bind: { kind: 'unix', path } } as const
  const { listener, accepted, log } = await testListener(t, { config })
  t.same(log.lines, [`Opening unix listen socket on path ${path}.`])
  t.equal(statSync(path).mode & 0o777, 0o770)
  const { status, output } = await run('mosquitto_pub', ['--unix', path, '-t', 'a', '-m', 'b'])
  t.equal(status, 0, output)
  t.match(accepted[0]?.connection, { remoteAddress: path, remotePort: 0 })
  t.equal(log.of('accepted')[0], `New connection from ${path}:0 on port 0.`)
  await t.rejects(openListener({ config: listenerConfig(config) }, host()), {
    code: 'ERR_LISTEN_ADDRESS_IN_USE',
    message: /Address already in use/
  })
  t.ok(existsSync(path), 'the one in use is left alone')
  await listener.close()
  t.notOk(existsSync(path))

  // A broker that was killed leaves its socket behind.
  const child = spawn(process.execPath, [
    '-e',
    `require('net').createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, 'SIGKILL'))`
  ])
  await new Promise(resolve => child.once('exit', resolve))
  t.ok(existsSync(path))
  const second = await testListener(t, { config })
  await second.listener.close()

  writeFileSync(path, 'precious')
  await t.rejects(openListener({ config: listenerConfig(config) }, host()), { message: /there is a file of that name/ })
  t.equal(readFileSync(path, 'utf8'), 'precious')
  const missing = listenerConfig({ bind: { kind: 'unix', path: join(path, 'x', 'y') } })
  await t.rejects(openListener({ config: missing }, host()), { message: /^Unable to open unix socket ".*": / })
  const long = listenerConfig({ bind: { kind: 'unix', path: `/tmp/${'x'.repeat(200)}` } })
  await t.rejects(openListener({ config: long }, host()), { message: /^Path to unix socket is too long/ })
})

t.test('a Unix socket may speak TLS', async t => {
  const pki = await testPki(t)
  const path = join(pki.dir, 's')
  const client = await pki.client('dev')
  const tls = tlsConfig({ ...(await pki.server()), cafile: pki.ca })
  const { accepted, log } = await testListener(t, { tls, config: { bind: { kind: 'unix', path } } })
  const sClient = ['s_client', '-unix', path, '-quiet']
  await run('openssl', sClient, Buffer.concat([connect, disconnect]))
  t.equal(await log.waitFor('rejected'), `Connection from ${path}:0 rejected, client did not send a certificate.`)
  await run('openssl', [...sClient, '-cert', client.cert, '-key', client.key], Buffer.concat([connect, disconnect]))
  t.match(accepted[0]?.connection, { remoteAddress: path, tls: { certificate: { commonName: 'dev' } } })
})

t.test('max_connections counts from the accept on, for the listener and for all', async t => {
  const { listener, log } = await testListener(t, { config: { maxConnections: 2 } })
  const [first] = [await dial(t, listener.port), await dial(t, listener.port)]
  await dial(t, listener.port)
  t.equal(await log.waitFor('tooManyConnections'), 'Client connection from 127.0.0.1 denied: max_connections exceeded.')
  await log.waitFor('accepted', 2)
  await until(
    () => listener.connections === 2,
    () => 'the end of the third'
  )
  first?.destroy()
  await until(
    () => listener.connections === 1,
    () => 'the end of the first'
  )
  await dial(t, listener.port)
  await log.waitFor('accepted', 3)

  const total = { count: 0, limit: 1 }
  const [a, b] = [await testListener(t, { host: { total } }), await testListener(t, { host: { total } })]
  await dial(t, a.listener.port)
  await a.log.waitFor('accepted')
  await dial(t, b.listener.port)
  t.equal(await b.log.waitFor('tooManyConnections'), 'Client connection from 127.0.0.1 denied: max_connections exceeded.')
  await until(
    () => total.count === 1,
    () => 'one connection'
  )
})

t.test('TLS on a plain port is named', async t => {
  const pki = await testPki(t)
  const { listener, log, accepted } = await testListener(t)
  t.not((await publish(listener.port, '--cafile', pki.ca)).status, 0)
  t.match(await log.waitFor('tlsOnPlainPort'), /^Client from 127\.0\.0\.1:\d+ appears to be using TLS to connect to a non-TLS listener\.$/)
  t.equal((await publish(listener.port)).status, 0)
  t.equal(accepted.length, 1)
  t.equal(accepted[0]?.connection.tls, undefined)
})

t.test('what is handed over reads from its first byte, whichever way it is read', async t => {
  const pki = await testPki(t)
  const server = await pki.server()
  const text = Buffer.alloc(200_000, 'mqtt')
  const readers: Record<string, (stream: Duplex, add: (chunk: Buffer) => void) => void> = {
    data: (stream, add) => void stream.on('data', add),
    'data, later': (stream, add) => void setImmediate(() => stream.on('data', add)),
    readable: (stream, add) =>
      void stream.on('readable', () => {
        for (let chunk: unknown = stream.read(); Buffer.isBuffer(chunk); chunk = stream.read()) add(chunk)
      }),
    'for await': async (stream, add) => {
      for await (const chunk of stream) add(chunk)
    }
  }
  for (const tls of [undefined, tlsConfig(server)]) {
    for (const [name, read] of Object.entries(readers)) {
      const chunks: Buffer[] = []
      const { listener } = await testListener(t, {
        ...(tls && { tls }),
        host: {
          onConnection: stream => {
            stream.on('error', () => {})
            read(stream, chunk => chunks.push(chunk))
          }
        }
      })
      if (tls) {
        const { connect } = await import('node:tls')
        connect({ port: listener.port, host: '127.0.0.1', rejectUnauthorized: false }).end(text)
      } else (await dial(t, listener.port)).end(text)
      const size = () => chunks.reduce((sum, { length }) => sum + length, 0)
      await until(
        () => size() === text.length,
        () => `${text.length} bytes, had ${size()}`
      )
      t.ok(Buffer.concat(chunks).equals(text), `${tls ? 'TLS' : 'plain'}, ${name}`)
    }
  }
})

t.test('errors of a connection never leave it, at any stage', async t => {
  const pki = await testPki(t)
  const tls = tlsConfig(await pki.server())
  let handed = 0
  for (const config of [undefined, tls]) {
    const { listener } = await testListener(t, {
      ...(config && { tls: config }),
      // A careless consumer: no error handler at all.
      host: {
        onConnection: stream => {
          handed += 1
          stream.resume()
        }
      }
    })
    const open = await dial(t, listener.port)
    open.write(connect, () => open.resetAndDestroy())
    if (config) {
      const { socket } = await new Promise<{ socket: Awaited<ReturnType<typeof dial>> }>(resolve => {
        void dial(t, listener.port).then(async socket => {
          const { connect: secure } = await import('node:tls')
          const stream = secure({ socket, rejectUnauthorized: false }, () => stream.write(connect, () => resolve({ socket })))
          stream.on('error', () => {})
        })
      })
      await until(
        () => handed === 2,
        () => 'the connection'
      )
      socket.resetAndDestroy()
    }
    await until(
      () => listener.connections === 0,
      () => 'the end of all connections'
    )
  }
  t.equal(handed, 2)
})

t.test('a reload puts other settings, another certificate, or TLS itself behind the same port', async t => {
  const pki = await testPki(t)
  const server = tlsConfig(await pki.server())
  const { listener, accepted, log } = await testListener(t)
  const { port } = listener
  const silent = await dial(t, port)
  await log.waitFor('accepted')
  listener.update({ config: listenerConfig({ tls: server }), material: await materialOf(server), noDelay: true })
  silent.write(connect)
  t.match(
    await log.waitFor('rejected'),
    /rejected, TLS of this listener was switched on or off meanwhile\.$/,
    'who came before and said nothing yet'
  )
  const before = await tlsClient(t, port, {})
  t.match(before.isAccepted, true)
  t.equal(accepted[0]?.connection.listener, listener.config)

  const renewed = tlsConfig(await pki.server({ file: 'renewed' }))
  listener.update({ config: listenerConfig({ tls: renewed }), material: await materialOf(renewed) })
  const after = await tlsClient(t, port, {})
  t.equal(after.isAccepted, true)
  t.not(after.socket.getPeerX509Certificate()?.serialNumber, before.socket.getPeerX509Certificate()?.serialNumber)
  t.equal(before.socket.destroyed, false)

  const strict = tlsConfig({ ...(await pki.server()), cafile: pki.ca })
  listener.update({ config: listenerConfig({ tls: strict }), material: await materialOf(strict) })
  t.equal((await tlsClient(t, port, {})).isAccepted, false)
  t.match(await log.waitFor('rejected', 2), /client did not send a certificate/)
})

t.test('a listener with TLS is never opened, or reloaded, without', async t => {
  const pki = await testPki(t)
  const tls = tlsConfig(await pki.server())
  await t.rejects(openListener({ config: listenerConfig({ tls }) }, host()), TypeError)
  const { listener } = await testListener(t, { tls })
  t.throws(() => listener.update({ config: listenerConfig({ tls }) }), TypeError)
  t.equal((await tlsClient(t, listener.port, {})).isAccepted, true)
})

t.test('closing drops what is on its way and leaves what has been handed over', async t => {
  const pki = await testPki(t)
  const { listener, accepted } = await testListener(t, { tls: tlsConfig(await pki.server()) })
  const { socket } = await tlsClient(t, listener.port, {})
  const pending = await dial(t, listener.port)
  const closed = new Promise(resolve => pending.once('close', resolve))
  await until(
    () => listener.connections === 2,
    () => 'two connections'
  )
  await listener.close()
  await closed
  t.equal(socket.destroyed, false)
  t.equal(accepted.length, 1)
})

t.test('key log lines go to whoever wants them', async t => {
  const pki = await testPki(t)
  const lines: string[] = []
  const { listener } = await testListener(t, {
    tls: tlsConfig(await pki.server()),
    host: { onKeylog: line => void lines.push(line.toString()) }
  })
  await tlsClient(t, listener.port, {})
  t.match(lines[0], /^(CLIENT|SERVER|EXPORTER)_/)
})

t.test('TCP_NODELAY is set where it is asked for, in the kernel', async t => {
  const { listener, accepted } = await testListener(t)
  for (const noDelay of [false, true]) {
    listener.update({ config: listener.config, noDelay })
    ;(await dial(t, listener.port)).write(connect)
    await until(
      () => accepted.length === 1,
      () => 'the connection'
    )
    const { stream } = accepted.pop() ?? {}
    t.equal(stream && (await hasNoDelay(stream)), noDelay)
  }
})

function isOpen(port: number, address = '127.0.0.1'): Promise<boolean> {
  return new Promise(resolve => {
    const socket = tcpConnect(port, address)
    socket.once('connect', () => {
      socket.destroy()
      resolve(true)
    })
    socket.once('error', () => resolve(false))
  })
}
