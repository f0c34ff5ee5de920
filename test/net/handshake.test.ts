import { readFileSync, writeFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { HandshakeGate } from '../../dist/net/handshake-gate.js'
import { testPki } from '../helpers/pki.js'
import { dial, publish, run, testListener, tlsClient, tlsConfig, until } from '../helpers/tls-listener.js'

t.test('each failed handshake gives one line with its reason, with real clients', async t => {
  const pki = await testPki(t)
  const server = await pki.server({ names: ['localhost'] })
  const stranger = await pki.authority('Stranger')
  const client = await pki.client('dev')
  const own = ['--cert', client.cert, '--key', client.key]
  const at = (value: string) => ({ value, at: { file: 'mosquitto.conf', line: 7 } })
  const sClient = (port: number, ...args: string[]) => run('openssl', ['s_client', '-connect', `127.0.0.1:${port}`, ...args])
  const cases: [what: string, reason: RegExp, attempt: (port: number) => Promise<unknown>, rest?: Parameters<typeof tlsConfig>[1]][] = [
    ['plain MQTT', /client speaks plain MQTT on a TLS port/, port => publish(port)],
    ['HTTP', /client speaks HTTP on a TLS port/, port => t.rejects(fetch(`http://127.0.0.1:${port}/`))],
    [
      'another CA',
      /client does not trust our certificate \(TLS alert unknown_ca\)/,
      port => publish(port, '--cafile', stranger.cert, ...own)
    ],
    [
      'another CA, TLS 1.3',
      /client does not trust our certificate/,
      port => sClient(port, '-tls1_3', '-verify_return_error', '-CAfile', stranger.cert)
    ],
    [
      'another CA, TLS 1.2',
      /client does not trust our certificate/,
      port => sClient(port, '-tls1_2', '-verify_return_error', '-CAfile', stranger.cert)
    ],
    [
      'a host name that is not in the certificate',
      /client does not accept our certificate, mostly because the host name that it connects to is not in it/,
      port => run('mosquitto_pub', ['-h', '127.0.0.1', '-p', String(port), '-t', 'a', '-m', 'b', '--cafile', pki.ca, ...own])
    ],
    ['TLS 1.1', /no TLS version in common/, port => sClient(port, '-tls1_1', '-cipher', 'DEFAULT@SECLEVEL=0')],
    ['TLS 1.2 where 1.3 is demanded', /no TLS version in common/, port => sClient(port, '-tls1_2'), { minVersion: 'TLSv1.3' }],
    ['no cipher', /no cipher in common/, port => sClient(port, '-tls1_2', '-cipher', 'AES128-SHA'), { ciphers: at('ECDHE+AESGCM') }],
    ['no TLS 1.3 suite', /no cipher in common/, port => sClient(port, '-tls1_3', '-ciphersuites', 'TLS_AES_128_CCM_SHA256')],
    ['connect and close', /client closed the connection during the handshake/, async port => (await dial(t, port)).end()],
    [
      'half a ClientHello and close',
      /client closed the connection during the handshake/,
      async port => (await dial(t, port)).end(Buffer.from('1603010200', 'hex'))
    ],
    [
      'half a ClientHello and reset',
      /client closed the connection during the handshake/,
      async port => {
        const socket = await dial(t, port)
        socket.write(Buffer.from('1603010200', 'hex'), () => socket.resetAndDestroy())
      }
    ],
    ['rubbish', /TLS handshake failed: |client speaks/, async port => (await dial(t, port)).end(Buffer.from('16030100050102030405', 'hex'))]
  ]
  for (const [what, reason, attempt, rest] of cases) {
    const { listener, accepted, log } = await testListener(t, { tls: tlsConfig({ ...server, cafile: pki.ca }, rest) })
    await attempt(listener.port)
    t.match(await log.waitFor('rejected'), reason, what)
    await until(
      () => listener.connections === 0,
      () => 'the end of the connection'
    )
    t.equal(log.of('rejected').length, 1, `${what}: one line`)
    t.match(log.of('rejected')[0], /^Connection from 127\.0\.0\.1:\d+ rejected, [^()]+( \(.*\))?\.$/)
    t.equal(log.lines.length, 4, `${what}: no further line`)
    t.equal(accepted.length, 0)
    await listener.close()
  }

  const { listener, accepted } = await testListener(t, { tls: tlsConfig({ ...server, cafile: pki.ca }) })
  const args = ['-h', '127.0.0.1', '-p', String(listener.port), '-t', 'a', '-m', 'b', '--cafile', pki.ca, ...own]
  t.equal((await run('mosquitto_pub', ['--insecure', ...args])).status, 0)
  t.equal(accepted.length, 1, 'with --insecure it does not look at the name')
})

t.test('files that an editor saved with a byte order mark do the same', async t => {
  const pki = await testPki(t)
  const server = await pki.server({ names: ['localhost'] })
  const [good, bad] = [await pki.client('good'), await pki.client('bad')]
  const marked = (file: string): string => {
    writeFileSync(`${file}.bom`, `\ufeff${readFileSync(file, 'utf8')}`)
    return `${file}.bom`
  }
  const crlfile = marked(await pki.revoke(bad))
  const files = { cert: marked(server.cert), key: marked(server.key), cafile: marked(pki.ca), crlfile }
  const { listener, accepted, log } = await testListener(t, { tls: tlsConfig(files) })
  const by = ({ cert, key }: { cert: string; key: string }) => publish(listener.port, '--cafile', pki.ca, '--cert', cert, '--key', key)
  t.equal((await by(good)).status, 0)
  t.equal(accepted.length, 1)
  t.not((await by(bad)).status, 0)
  t.match(await log.waitFor('rejected'), /revoked/)
})

t.test('who says nothing is sent away after a while, at every stage', async t => {
  const pki = await testPki(t)
  const server = await pki.server()
  const tls = await testListener(t, { tls: tlsConfig(server), host: { handshakeTimeout: 300 } })
  await dial(t, tls.listener.port)
  t.match(await tls.log.waitFor('rejected'), /rejected, handshake timed out\.$/)
  const stalled = await dial(t, tls.listener.port)
  stalled.write(Buffer.from('1603010200', 'hex'))
  t.match(await tls.log.waitFor('rejected', 2), /rejected, handshake timed out\.$/)

  const { connect } = await import('node:tls')
  const silent = connect({ port: tls.listener.port, host: '127.0.0.1', rejectUnauthorized: false })
  silent.on('error', () => {})
  t.match(await tls.log.waitFor('leftBeforeConnect'), /^Client <unknown> \[127\.0\.0\.1:\d+\] disconnected: exceeded timeout\.$/)

  const plain = await testListener(t, { host: { handshakeTimeout: 300 } })
  await dial(t, plain.listener.port)
  t.match(await plain.log.waitFor('leftBeforeConnect'), /disconnected: exceeded timeout\.$/)
  ;(await dial(t, plain.listener.port)).end()
  t.match(await plain.log.waitFor('leftBeforeConnect', 2), /disconnected: connection closed by client\.$/)
  await until(
    () => tls.listener.connections + plain.listener.connections === 0,
    () => 'the end of all connections'
  )
})

t.test('handshakes beyond the limit wait for a place, and a stalled one does not hold it for ever', async t => {
  const pki = await testPki(t)
  const client = await pki.client('dev')
  const gate = new HandshakeGate(1, 100)
  const { listener, log, accepted } = await testListener(t, {
    tls: tlsConfig({ ...(await pki.server()), cafile: pki.ca }),
    host: { gate, handshakeTimeout: 2000 }
  })
  await dial(t, listener.port)
  await log.waitFor('accepted')
  // Each has a deadline of its own: those that come later still have half of theirs when the first gives up its place.
  await sleep(1000)
  const credentials = { cert: readFileSync(client.cert), key: readFileSync(client.key) }
  const waiting = await Promise.all(Array.from({ length: 5 }, () => tlsClient(t, listener.port, credentials)))
  t.match(log.of('rejected'), [/handshake timed out/])
  t.ok(waiting.filter(({ isAccepted }) => isAccepted).length > 0)
  t.equal(accepted.length, waiting.filter(({ isAccepted }) => isAccepted).length)
  t.equal(gate.running, 0, 'every place is free again')
})

t.test('a connection beyond all waiting places is closed with a line', async t => {
  const pki = await testPki(t)
  const { listener, log } = await testListener(t, {
    tls: tlsConfig(await pki.server()),
    host: { gate: new HandshakeGate(1, 4) }
  })
  await dial(t, listener.port)
  await dial(t, listener.port)
  await dial(t, listener.port)
  t.match(await log.waitFor('rejected'), /rejected, too many handshakes are waiting\.$/)
  await until(
    () => listener.connections === 2,
    () => 'the end of the third'
  )
})

t.test('the gate: places are kept, addresses take turns, and none takes more than a quarter', t => {
  const gate = new HandshakeGate(4, 8)
  const started: string[] = []
  const enter = (address: string) => gate.enter(address, { start: () => started.push(address) })
  const flood = Array.from({ length: 4 }, () => enter('flood'))
  t.same(started, ['flood'])
  t.equal(flood.filter(leave => leave === undefined).length, 1, 'one runs, two wait, one is turned away')
  enter('a')
  enter('b')
  enter('c')
  t.same(started, ['flood', 'a', 'b', 'c'])
  const d = enter('d')
  t.same(started.length, 4, 'all places are taken')
  flood[0]?.()
  t.same(started.at(-1), 'flood', 'its own next one, which came first')
  flood[1]?.()
  t.same(started.at(-1), 'd', 'then the other one’s turn')
  d?.()
  t.same(started.at(-1), 'flood')
  t.equal(started.length, 7)
  t.end()
})

t.test('the gate: when all places are taken, the oldest gives up its own to an address with fewer, after a while', async t => {
  const grace = 200
  const gate = new HandshakeGate(8, 100, grace)
  const given: string[] = []
  const started: string[] = []
  const enter = (address: string, name: string) => {
    const leave = gate.enter(address, {
      start: () => started.push(name),
      giveUp: () => {
        given.push(name)
        leave?.()
      }
    })
    return leave
  }
  const flooders = ['a', 'b', 'c', 'd'].flatMap(address => [1, 2, 3].map(i => enter(address, `${address}${i}`)))
  t.equal(started.length, 8)
  enter('honest', 'h1')
  enter('honest', 'h2')
  await until(
    () => started.includes('h1'),
    () => 'a place'
  )
  t.same(given, ['a1'], 'one place, of the oldest')
  t.equal(gate.running, 8)
  await sleep(2 * grace)
  t.notOk(started.includes('h2'), 'no address gets more than the others have')
  t.same(given, ['a1'])
  for (const leave of flooders) leave?.()
  t.ok(started.includes('h2'))
})

/** A gate of four places; those that came, and what became of them, by address. */
function smallGate(grace: number, received: number) {
  const gate = new HandshakeGate(4, 100, grace)
  const given: string[] = []
  const started: string[] = []
  const enter = (address: string) => {
    const leave = gate.enter(address, {
      start: () => started.push(address),
      giveUp: () => {
        given.push(address)
        leave?.()
      },
      received: () => received
    })
  }
  return { given, started, enter }
}

t.test('the gate: from as many addresses as there are places, too, the oldest gives up its own after a while', async t => {
  const { given, started, enter } = smallGate(200, 100)
  for (const address of ['a', 'b', 'c', 'd', 'honest', 'late']) enter(address)
  await until(
    () => started.includes('late'),
    () => 'a place'
  )
  t.same(given, ['a', 'b'])
})

t.test('the gate: who has said nothing gives up its place much sooner', async t => {
  const slow = smallGate(2000, 1)
  const silent = smallGate(2000, 0)
  for (const { enter } of [slow, silent]) for (const address of ['a', 'b', 'c', 'd', 'honest']) enter(address)
  await until(
    () => silent.started.includes('honest'),
    () => 'a place'
  )
  t.same([silent.given, slow.given], [['a'], []])
})

t.test('the gate: a /64 of IPv6 is one address', t => {
  const { started, enter } = smallGate(60_000, 0)
  for (const address of ['2001:db8::1', '2001:db8::2', '2001:db8:0:1::1', '::ffff:192.0.2.1', '192.0.2.1']) enter(address)
  t.same(started, ['2001:db8::1', '2001:db8:0:1::1', '::ffff:192.0.2.1'])
  t.end()
})

t.test('the gate: whose address has nobody waiting may wait, also when others have filled all places to wait', t => {
  const gate = new HandshakeGate(4, 4)
  const enter = (address: string) => gate.enter(address, { start: () => {} })
  for (const address of ['a', 'b', 'c', 'd']) t.same([enter(address), enter(address), enter(address)].map(Boolean), [true, true, false])
  t.same([enter('honest'), enter('honest')].map(Boolean), [true, false])
  for (const address of ['e', 'f', 'g']) t.ok(enter(address))
  t.notOk(enter('h'), 'up to as many again')
  t.end()
})
