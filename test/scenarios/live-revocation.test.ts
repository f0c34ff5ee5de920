// Who is connected and loses its certificate: by a list, by its end, by the loss of its CA.

import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { until } from '../helpers/mqtt.js'
import { testPki } from '../helpers/pki.js'
import { startTlsServer } from '../helpers/tls-server.js'

const keep = { clean: false, properties: { sessionExpiryInterval: 1000 } }

// They wait for certificates that end.
t.jobs = 4

t.test(
  'a list that names a connected client ends its connection with a reason, and keeps its session and will as Mosquitto does',
  async t => {
    const pki = await testPki(t)
    const { server, client, line } = await startTlsServer(t, pki)
    const [bad, good] = [await pki.client('bad'), await pki.client('good')]
    const other = await client(good)
    await other.connect({ clientId: 'good' })
    await other.subscribe('will/#')
    const five = await client(bad)
    await five.connect({ clientId: 'five', ...keep, will: { topic: 'will/five', payload: Buffer.from('gone'), qos: 0, retain: false } })
    await five.subscribe('a', 1)
    const four = await client(bad, 4)
    await four.connect({ clientId: 'four' })

    await pki.revoke(bad)
    const report = await server.reload()
    t.match(report, { applied: true, disconnected: [{ reason: 'revoked', count: 2 }] })
    t.match(await five.next('disconnect'), { reasonCode: 0x98, properties: { reasonString: 'certificate revoked' } })
    await five.closed()
    await four.closed()
    t.match(await other.next('publish'), { topic: 'will/five' })
    await other.ping()
    await line(/Client five \[127\.0\.0\.1:\d+\] disconnected: administrative action, certificate is revoked \(serial \w+, on [\d-]+\)\.$/)
    await t.rejects(async () => (await client(bad)).connect({ clientId: 'five', ...keep }), 'it is not let in again')

    // Taken off the list again: what came meanwhile has waited.
    other.publish('a', 'meanwhile', { qos: 1, messageId: 7 })
    await other.next('puback')
    bad.issuer.revoked.length = 0
    await pki.crl()
    await server.reload()
    const again = await client(bad)
    t.match(await again.connect({ clientId: 'five', ...keep }), { sessionPresent: true })
    t.match(await again.next('publish'), { topic: 'a' })
  }
)

t.test('with #!watch_files nobody needs to ask for it', async t => {
  const pki = await testPki(t)
  const { client, line } = await startTlsServer(t, pki, '#!watch_files true\n')
  const bad = await pki.client('bad')
  const five = await client(bad)
  await five.connect({ clientId: 'five' })
  await pki.revoke(bad)
  t.match(await five.next('disconnect'), { reasonCode: 0x98 })
  await line(/Config reloaded: crlfile .*; 1 client disconnected: certificate revoked \(1\)/)
})

t.test('with #!revocation next_handshake who is connected stays, and does not come in again', async t => {
  const pki = await testPki(t)
  const { server, client, line } = await startTlsServer(t, pki, '#!revocation next_handshake\n')
  const bad = await pki.client('bad')
  const short = await pki.client('short', { period: { notBefore: new Date(Date.now() - 60_000), notAfter: new Date(Date.now() + 2500) } })
  const [five, brief] = [await client(bad), await client(short)]
  await five.connect({ clientId: 'five' })
  await brief.connect({ clientId: 'brief' })
  await pki.revoke(bad)
  t.match(await server.reload(), { applied: true, disconnected: [] })
  await five.ping()
  await t.rejects(async () => (await client(bad)).connect({ clientId: 'five' }))
  await line(/rejected, certificate is revoked/)
  // As long as it lasts it lets others in.
  await t.rejects(async () => {
    for (;;) await (await client(short)).connect({ clientId: 'other' })
  })
  await line(/rejected, certificate expired on/)
  await brief.ping()
})

t.test('a certificate that ends while its client is connected ends the connection: MQTT 5 is told 0x87', async t => {
  const pki = await testPki(t)
  const { client, line, server } = await startTlsServer(t, pki)
  const end = Math.floor(Date.now() / 1000) * 1000 + 3000
  const short = await pki.client('short', { period: { notBefore: new Date(Date.now() - 60_000), notAfter: new Date(end) } })
  const lasting = await client(await pki.client('lasting'))
  await lasting.connect({ clientId: 'lasting' })
  const five = await client(short)
  await five.connect({ clientId: 'short', ...keep })
  t.match(await five.next('disconnect'), { reasonCode: 0x87, properties: { reasonString: 'certificate expired' } })
  t.ok(Date.now() > end, 'not before')
  await line(/Client short \[.*\] disconnected: not authorised, certificate expired on [\d-]+\.$/)
  await lasting.ping()
  const sessions = []
  for await (const session of server.admin.clients()) sessions.push(session.clientId)
  t.same(sessions.toSorted(), ['lasting', 'short'], 'its session is kept')
})

t.test('where dates are forgiven its end is none', async t => {
  const pki = await testPki(t)
  const { client, server } = await startTlsServer(t, pki, 'disable_client_cert_date_checks true\n')
  const end = Math.floor(Date.now() / 1000) * 1000 + 2000
  const five = await client(await pki.client('short', { period: { notBefore: new Date(Date.now() - 60_000), notAfter: new Date(end) } }))
  await five.connect({ clientId: 'short' })
  await until(() => Date.now() > end + 2500, 'the end')
  await five.ping()
  t.match(await server.reload(), { disconnected: [] })
  await five.ping()
})

t.test('a reload changes what is forgiven: dates, expired lists, CAs between', async t => {
  const pki = await testPki(t)
  const { client, server, conf } = await startTlsServer(t, pki)
  const middle = await pki.authority('Middle', { issuer: pki.root })
  const lists = (...names: readonly string[]): void =>
    writeFileSync(join(pki.dir, 'ca.crl'), names.map(name => readFileSync(join(pki.dir, `${name}.crl`), 'latin1')).join(''))
  await pki.crl({ file: join(pki.dir, 'root.crl') })
  await pki.crl({ ca: middle, file: join(pki.dir, 'middle.crl') })
  lists('root', 'middle')
  const old = await pki.client('old', { expired: true })
  const below = { ...(await pki.client('below', { ca: middle })), ca: pki.ca }
  const reload = (lines: string) => {
    writeFileSync(join(pki.dir, 'm.conf'), conf + lines)
    return server.reload()
  }
  await t.rejects(async () => (await client(old)).connect({ clientId: 'old' }))
  t.match(await reload('disable_client_cert_date_checks true\n'), {
    changed: [{ option: 'disable_client_cert_date_checks' }, { option: 'crlfile' }]
  })
  const forgiven = await client(old)
  await forgiven.connect({ clientId: 'old' })
  t.match(await reload(''), { disconnected: [{ reason: 'expired', count: 1 }] })
  t.match(await forgiven.next('disconnect'), { reasonCode: 0x98, properties: { reasonString: 'certificate expired' } })

  const good = await client(below)
  await good.connect({ clientId: 'below' })
  t.match(await reload('#!crl_check chain\n'), { applied: true, disconnected: [] })
  await pki.crl({ file: join(pki.dir, 'root.crl'), expired: true })
  lists('root', 'middle')
  t.match(await reload('#!crl_check chain\n#!crl_expired warn\n'), { applied: true, disconnected: [] })
  await good.ping()
  t.match(await reload('#!crl_check chain\n'), { disconnected: [{ reason: 'crl-expired', count: 1 }] })
  t.match(await good.next('disconnect'), { properties: { reasonString: 'CRL expired' } })
  t.match(await reload(''), { applied: true })
  await (await client(below)).connect({ clientId: 'below' })
})

t.test('a CA that ends, or is taken out of cafile, takes its clients with it', async t => {
  const pki = await testPki(t)
  const end = Math.floor(Date.now() / 1000) * 1000 + 4000
  const brief = await pki.authority('Brief CA', { period: { notBefore: new Date(Date.now() - 60_000), notAfter: new Date(end) } })
  const second = await pki.authority('Second CA')
  const first = readFileSync(pki.ca, 'latin1')
  writeFileSync(pki.ca, first + readFileSync(brief.cert, 'latin1') + readFileSync(second.cert, 'latin1'))
  const lists = join(pki.dir, 'all.crl')
  const { client, line, server, conf } = await startTlsServer(t, pki)
  await pki.crl({ ca: brief, file: join(pki.dir, 'brief.crl') })
  await pki.crl({ ca: second, file: join(pki.dir, 'second.crl') })
  writeFileSync(lists, ['ca', 'brief', 'second'].map(name => readFileSync(join(pki.dir, `${name}.crl`), 'latin1')).join(''))
  writeFileSync(join(pki.dir, 'm.conf'), conf.replace(/crlfile .*/, `crlfile ${lists}`))
  t.match(await server.reload(), { applied: true })
  const clients = []
  for (const [name, ca] of [
    ['root', undefined],
    ['brief', brief],
    ['second', second]
  ] as const) {
    const mqtt = await client(await pki.client(name, ca && { ca }))
    await mqtt.connect({ clientId: name })
    clients.push(mqtt)
  }
  const [ofRoot, ofBrief, ofSecond] = clients
  t.match(await ofBrief?.next('disconnect'), { reasonCode: 0x87, properties: { reasonString: 'CA expired' } })
  await line(/Client brief \[.*\] disconnected: not authorised, the CA CN=Brief CA expired on [\d-]+\.$/)
  await ofSecond?.ping()
  writeFileSync(pki.ca, first)
  t.match(await server.reload(), { applied: true, disconnected: [{ reason: 'unknown-ca', count: 1 }] })
  t.match(await ofSecond?.next('disconnect'), { reasonCode: 0x98, properties: { reasonString: 'certificate of an unknown CA' } })
  await ofRoot?.ping()
})

t.test('a list that another CA has signed, forged or by mistake, is refused at a reload, and the old one stays', async t => {
  const pki = await testPki(t)
  const { server, client, line } = await startTlsServer(t, pki)
  const [good, bad] = [await client(await pki.client('good')), await pki.client('bad')]
  await good.connect({ clientId: 'good' })
  await pki.revoke(bad)
  t.match(await server.reload(), { applied: true })
  const namesake = await pki.authority('Test CA', { file: 'namesake' })
  await pki.crl({ ca: namesake })
  t.match(await server.reload(), { applied: false })
  await line(/Error: .*The CRL of CN=Test CA is not signed by that CA\.$/)
  await pki.crl({ ca: await pki.authority('Other CA') })
  t.match(await server.reload(), { applied: false })
  await line(/Error: There is no CRL of the CA CN=Test CA in crlfile ".*ca\.crl" any more: every client of that CA would be refused\.$/)
  await t.rejects(async () => (await client(bad)).connect({ clientId: 'bad' }))
  await good.ping()
})

/** In whole seconds, as certificates have it. */
const soon = (): Date => new Date(Math.floor(Date.now() / 1000) * 1000 + 3000)

t.test('a CA between that ends takes its clients with it, also those that came after a reload that changed nothing', async t => {
  const pki = await testPki(t)
  const { client, line, server, conf } = await startTlsServer(t, pki)
  writeFileSync(join(pki.dir, 'm.conf'), conf.replace(/crlfile .*\n/, ''))
  t.match(await server.reload(), { applied: true })
  t.match(await server.reload(), { applied: true, changed: [] })
  const middle = await pki.authority('Middle', { issuer: pki.root, period: { notBefore: new Date(Date.now() - 60_000), notAfter: soon() } })
  const five = await client({ ...(await pki.client('below', { ca: middle })), ca: pki.ca })
  await five.connect({ clientId: 'below' })
  t.match(await five.next('disconnect'), { reasonCode: 0x87, properties: { reasonString: 'CA expired' } })
  await line(/Client below \[.*\] disconnected: not authorised, the CA CN=Middle expired on [\d-]+\.$/)
})

t.test('a CA that ends between the handshake and the CONNECT takes its client with it', async t => {
  const pki = await testPki(t)
  const { client, line, server, conf } = await startTlsServer(t, pki)
  const end = soon()
  const brief = await pki.authority('Brief CA', { period: { notBefore: new Date(Date.now() - 60_000), notAfter: end } })
  writeFileSync(pki.ca, readFileSync(pki.ca, 'latin1') + readFileSync(brief.cert, 'latin1'))
  writeFileSync(join(pki.dir, 'm.conf'), conf.replace(/crlfile .*\n/, ''))
  t.match(await server.reload(), { applied: true })
  const late = await client(await pki.client('late', { ca: brief }))
  await until(() => Date.now() > end.getTime() + 1000, 'the end of the CA')
  await late.connect({ clientId: 'late' })
  t.match(await late.next('disconnect'), { reasonCode: 0x87, properties: { reasonString: 'CA expired' } })
  await line(/Client late \[.*\] disconnected: not authorised, the CA CN=Brief CA expired on/)
})

t.test('a certificate that nobody is asked for any more names nobody: who is connected by it goes', async t => {
  const pki = await testPki(t)
  const { client, server, conf } = await startTlsServer(t, pki)
  const bad = await pki.client('bad')
  const [five, slow] = [await client(bad), await client(bad)]
  await five.connect({ clientId: 'five' })
  await pki.revoke(bad)
  writeFileSync(join(pki.dir, 'm.conf'), conf.replace('require_certificate true', 'require_certificate false'))
  t.match(await server.reload(), { applied: true, disconnected: [{ reason: 'no-username', count: 1 }] })
  t.match(await five.next('disconnect'), { reasonCode: 0x87 })
  t.match(await slow.connect({ clientId: 'slow' }), { reasonCode: 0x86 }, 'nor does it come in when its handshake was before')
})

t.test('who brings a CA between along stays when a reload takes that one out of cafile, and goes with the root', async t => {
  const pki = await testPki(t)
  const { client, server, conf } = await startTlsServer(t, pki)
  const middle = await pki.authority('Middle', { issuer: pki.root })
  const root = readFileSync(pki.ca, 'latin1')
  writeFileSync(pki.ca, root + readFileSync(middle.cert, 'latin1'))
  writeFileSync(join(pki.dir, 'm.conf'), conf.replace(/crlfile .*\n/, ''))
  t.match(await server.reload(), { applied: true })
  const five = await client({ ...(await pki.client('below', { ca: middle })), ca: pki.ca })
  await five.connect({ clientId: 'below' })
  writeFileSync(pki.ca, root)
  t.match(await server.reload(), { applied: true, disconnected: [] })
  await five.ping()
  writeFileSync(pki.ca, readFileSync((await pki.authority('Other CA')).cert, 'latin1'))
  t.match(await server.reload(), { applied: true, disconnected: [{ reason: 'unknown-ca', count: 1 }] })
})
