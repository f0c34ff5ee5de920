import { readFileSync } from 'node:fs'
import t from 'tap'
import { testPki } from '../helpers/pki.js'
import { dial, materialOf, testListener, tlsClient, tlsConfig, until } from '../helpers/tls-listener.js'

const day = 86_400_000

for (const version of ['TLSv1.2', 'TLSv1.3'] as const) {
  const versions = { minVersion: version, maxVersion: version }

  t.test(`${version}: a ticket from before a change of CA is void, and the client is refused`, async t => {
    const pki = await testPki(t)
    const server = await pki.server()
    const client = await pki.client('dev')
    const credentials = { ...versions, cert: readFileSync(client.cert), key: readFileSync(client.key) }
    const { listener, log } = await testListener(t, { tls: tlsConfig({ ...server, cafile: pki.ca }) })
    const first = await tlsClient(t, listener.port, credentials)
    t.match(first, { isAccepted: true, isReused: false, session: Buffer })
    const resumed = await tlsClient(t, listener.port, { ...credentials, session: first.session })
    t.match(resumed, { isAccepted: true, isReused: true }, 'good as long as nothing changes')

    const other = await pki.authority('Other')
    const swapped = tlsConfig({ ...server, cafile: other.cert })
    listener.update({ config: { ...listener.config, tls: swapped }, material: await materialOf(swapped) })

    const refused = await tlsClient(t, listener.port, { ...credentials, session: first.session })
    t.match(refused, { isAccepted: false, isReused: false })
    t.match(await log.waitFor('rejected'), /signed by an unknown CA: CN=Test CA \(subject CN=dev, issuer CN=Test CA\)/)
    t.equal(first.socket.destroyed, false, 'open connections are not the listener’s to close')
  })

  t.test(`${version}: a ticket from before a revocation is void, and the client is refused`, async t => {
    const pki = await testPki(t)
    const client = await pki.client('dev')
    const credentials = { ...versions, cert: readFileSync(client.cert), key: readFileSync(client.key) }
    const tls = tlsConfig({ ...(await pki.server()), cafile: pki.ca, crlfile: await pki.crl() })
    const { listener, log } = await testListener(t, { tls })
    const first = await tlsClient(t, listener.port, credentials)
    t.match(first, { isAccepted: true, session: Buffer })
    await pki.revoke(client)
    listener.update({ config: listener.config, material: await materialOf(tls) })
    t.match(await tlsClient(t, listener.port, { ...credentials, session: first.session }), { isAccepted: false, isReused: false })
    // One in 256 begins with a zero octet, which nobody writes.
    const serial = client.serial.replace(/^(00)+/, '')
    t.match(await log.waitFor('rejected'), new RegExp(`certificate is revoked \\(serial ${serial}, on \\d{4}-\\d\\d-\\d\\d\\)`))
  })

  t.test(`${version}: reading unchanged files again keeps tickets good`, async t => {
    const pki = await testPki(t)
    const client = await pki.client('dev')
    const credentials = { ...versions, cert: readFileSync(client.cert), key: readFileSync(client.key) }
    const tls = tlsConfig({ ...(await pki.server()), cafile: pki.ca })
    const { listener } = await testListener(t, { tls })
    const first = await tlsClient(t, listener.port, credentials)
    listener.update({ config: listener.config, material: await materialOf(tls) })
    t.match(await tlsClient(t, listener.port, { ...credentials, session: first.session }), { isAccepted: true, isReused: true })
  })

  t.test(`${version}: a resumed session is checked again: dates, revocation list, way to the CA`, async t => {
    const pki = await testPki(t)
    const middle = await pki.authority('Middle', { issuer: pki.root })
    const client = await pki.client('dev', { ca: middle })
    const credentials = { ...versions, cert: readFileSync(client.cert), key: readFileSync(client.key) }
    const tls = tlsConfig({ ...(await pki.server()), cafile: pki.ca, crlfile: await pki.crl({ ca: middle }) })
    // Not before the list, which is valid from its own second on.
    let now = new Date()
    const { listener, log, accepted } = await testListener(t, { tls, host: { now: () => now } })
    const { session } = await tlsClient(t, listener.port, credentials)
    t.match(await tlsClient(t, listener.port, { ...credentials, session }), { isAccepted: true, isReused: true })
    t.match(accepted[1]?.connection.tls?.certificate, { commonName: 'dev', chain: { length: 1 } }, 'the intermediate is remembered')

    listener.material?.intermediates.clear()
    t.match(await tlsClient(t, listener.port, { ...credentials, session }), { isAccepted: false, isReused: true })
    t.match(await log.waitFor('rejected'), /signed by an unknown CA: CN=Middle/)

    now = new Date(Date.now() + 61 * day)
    t.match(await tlsClient(t, listener.port, { ...credentials, session }), { isAccepted: false, isReused: true })
    t.match(await log.waitFor('rejected', 2), /certificate expired on/)
  })

  t.test(`${version}: a session that never had a certificate brings none, though Node may call it authorized`, async t => {
    const pki = await testPki(t)
    const server = await pki.server()
    const { listener, log } = await testListener(t, { tls: tlsConfig(server) })
    const { session } = await tlsClient(t, listener.port, versions)
    const strict = await materialOf(tlsConfig({ ...server, cafile: pki.ca }))
    // Our own material would never share its ticket keys; the check must hold without that.
    const { ticketKeys, sessionIdContext } = listener.material?.serverOptions ?? {}
    const leaky = {
      ...strict,
      serverOptions: { ...strict.serverOptions, ...(ticketKeys && sessionIdContext && { ticketKeys, sessionIdContext }) }
    }
    listener.update({ config: listener.config, material: leaky })
    t.match(await tlsClient(t, listener.port, { ...versions, session }), { isAccepted: false, isReused: true })
    t.match(await log.waitFor('rejected'), /client did not send a certificate/)
  })

  t.test(`${version}: a ticket of another listener is void`, async t => {
    const pki = await testPki(t)
    const client = await pki.client('dev')
    const credentials = { ...versions, cert: readFileSync(client.cert), key: readFileSync(client.key) }
    const tls = tlsConfig({ ...(await pki.server()), cafile: pki.ca })
    const { session } = await tlsClient(t, (await testListener(t, { tls })).listener.port, credentials)
    const second = await testListener(t, { tls })
    t.match(await tlsClient(t, second.listener.port, { ...credentials, session }), { isAccepted: true, isReused: false })
  })

  t.test(`${version}: a handshake under way during a reload is judged by the new files`, async t => {
    const pki = await testPki(t)
    const server = await pki.server()
    const client = await pki.client('dev')
    const other = await materialOf(tlsConfig({ ...server, cafile: (await pki.authority('Other')).cert }))
    const { listener, log } = await testListener(t, { tls: tlsConfig({ ...server, cafile: pki.ca }) })
    const credentials = { ...versions, cert: readFileSync(client.cert), key: readFileSync(client.key) }
    const socket = await dial(t, listener.port)
    await log.waitFor('accepted')
    listener.update({ config: listener.config, material: other })
    t.match(await tlsClient(t, listener.port, { ...credentials, socket }), { isAccepted: false })
    t.match(await log.waitFor('rejected'), /signed by an unknown CA: CN=Test CA/)
    await until(
      () => listener.connections === 0,
      () => 'the end of the connection'
    )
  })
}

t.test('a TLS 1.2 client cannot renegotiate', async t => {
  const pki = await testPki(t)
  const client = await pki.client('dev')
  const { listener } = await testListener(t, { tls: tlsConfig({ ...(await pki.server()), cafile: pki.ca }) })
  const { socket } = await tlsClient(t, listener.port, {
    maxVersion: 'TLSv1.2',
    cert: readFileSync(client.cert),
    key: readFileSync(client.key)
  })
  const outcome = await new Promise<Error | null>(resolve => {
    socket.once('error', resolve)
    socket.renegotiate({}, resolve)
  })
  t.match(outcome, { message: /no renegotiation|no_renegotiation|handshake/i })
})
