import { X509Certificate } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { clientCertificate } from '../../dist/auth/certificate.js'
import { recheckPeer } from '../../dist/net/peer.js'
import { testPki } from '../helpers/pki.js'
import { connect, disconnect, materialOf, publish, run, testListener, tlsConfig, until } from '../helpers/tls-listener.js'

t.test('a client with a certificate of the CA comes in, and its CN, subject and dates are known', async t => {
  const pki = await testPki(t)
  const server = await pki.server()
  const client = await pki.client('dev', {
    subject: [
      ['C', 'ES'],
      ['O', 'Casa'],
      ['CN', 'dev']
    ]
  })
  const { listener, accepted, log } = await testListener(t, { tls: tlsConfig({ ...server, cafile: pki.ca }) })

  const { status, output } = await publish(listener.port, '--cafile', pki.ca, '--cert', client.cert, '--key', client.key)

  t.equal(status, 0, output)
  const [first] = accepted
  const x509 = new X509Certificate(readFileSync(client.cert))
  t.match(first?.connection, {
    remoteAddress: '127.0.0.1',
    remotePort: Number,
    tls: {
      version: 'TLSv1.3',
      cipher: /^TLS_/,
      certificate: {
        commonName: 'dev',
        subject: 'CN=dev,O=Casa,C=ES',
        issuer: 'CN=Test CA',
        serial: x509.serialNumber,
        notAfter: new Date(x509.validTo)
      }
    }
  })
  t.equal(log.of('rejected').length, 0)
})

t.test('each certificate that is not accepted gives one line with its reason', async t => {
  const pki = await testPki(t)
  const server = await pki.server()
  const stranger = await pki.authority('Stranger')
  const namesake = await pki.authority('Test CA', { file: 'namesake' })
  const day = (offset: number): string => new Date(Date.now() + offset * 86_400_000).toISOString().slice(0, 10)
  const cases = [
    { name: 'none', client: undefined, line: /rejected, client did not send a certificate\.$/ },
    {
      name: 'expired',
      client: await pki.client('old', { expired: true }),
      line: new RegExp(`rejected, certificate expired on ${day(-1)} \\(subject CN=old, issuer CN=Test CA\\)\\.$`)
    },
    {
      name: 'not yet valid',
      client: await pki.client('new', { notYetValid: true }),
      line: new RegExp(`rejected, certificate is not valid before ${day(1)} \\(subject CN=new, issuer CN=Test CA\\)\\.$`)
    },
    {
      name: 'unknown CA',
      client: await pki.client('alien', { ca: stranger }),
      line: /rejected, certificate is signed by an unknown CA: CN=Stranger \(subject CN=alien, issuer CN=Stranger\)\.$/
    },
    {
      name: 'another CA of the same name',
      client: await pki.client('forged', { ca: namesake }),
      line: /signed by an unknown CA: CN=Test CA \(another CA than ours of that name\) \(subject CN=forged/
    },
    {
      name: 'expired and of an unknown CA',
      client: await pki.client('both', { ca: stranger, expired: true }),
      line: /signed by an unknown CA: CN=Stranger/
    },
    {
      name: 'self-signed',
      client: { cert: stranger.cert, key: stranger.key },
      line: /rejected, certificate is self-signed \(subject CN=Stranger/
    },
    {
      name: 'a certificate for servers',
      client: await pki.server({ file: 'server2' }),
      line: /certificate is not made for clients \(its extended key usage lacks clientAuth\) \(subject CN=localhost/
    }
  ]
  for (const { name, client, line } of cases) {
    const { listener, accepted, log } = await testListener(t, { tls: tlsConfig({ ...server, cafile: pki.ca }) })
    const mosquitto = client ? ['--cert', client.cert, '--key', client.key] : []
    const { status } = await publish(listener.port, '--cafile', pki.ca, ...mosquitto)
    t.not(status, 0, `${name}: the client fails`)
    t.match(await log.waitFor('rejected'), line, name)

    const openssl = client ? ['-cert', client.cert, '-key', client.key] : []
    await run('openssl', ['s_client', '-connect', `localhost:${listener.port}`, '-tls1_2', ...openssl])
    t.match(await log.waitFor('rejected', 2), line, `${name}, TLS 1.2`)

    await until(
      () => listener.connections === 0,
      () => 'the end of both connections'
    )
    t.equal(log.of('rejected').length, 2, `${name}: one line for each`)
    t.match(log.of('rejected')[0], /^Connection from 127\.0\.0\.1:\d+ rejected, /)
    t.equal(log.lines.length, 6, 'two sockets opened, two connections, two refusals')
    t.equal(accepted.length, 0, `${name}: nothing is handed over`)
  }
})

t.test('a chain over an intermediate CA is accepted, and refused without its middle', async t => {
  const pki = await testPki(t)
  const server = await pki.server()
  const middle = await pki.authority('Middle', { issuer: pki.root })
  const client = await pki.client('dev', { ca: middle })
  const { listener, accepted, log } = await testListener(t, { tls: tlsConfig({ ...server, cafile: pki.ca }) })
  const { status, output } = await publish(listener.port, '--cafile', pki.ca, '--cert', client.cert, '--key', client.key)
  t.equal(status, 0, output)
  const chain = accepted[0]?.connection.tls?.certificate?.chain ?? []
  t.same(
    chain.map(der => new X509Certificate(der).subject),
    ['CN=Middle']
  )

  const alone = join(pki.dir, 'alone.crt')
  writeFileSync(alone, new X509Certificate(readFileSync(client.cert)).toString())
  await publish(listener.port, '--cafile', pki.ca, '--cert', alone, '--key', client.key)
  t.match(await log.waitFor('rejected'), /signed by an unknown CA: CN=Middle \(subject CN=dev, issuer CN=Middle\)/)
})

t.test('a certificate that a certificate without CA flag has signed is refused', async t => {
  const pki = await testPki(t)
  const server = await pki.server()
  const leaf = await pki.client('leaf')
  const dir = pki.dir
  await run('openssl', [
    'req',
    '-new',
    '-newkey',
    'ec',
    '-pkeyopt',
    'ec_paramgen_curve:P-256',
    '-nodes',
    '-keyout',
    `${dir}/x.key`,
    '-out',
    `${dir}/x.csr`,
    '-subj',
    '/CN=x'
  ])
  await run('openssl', [
    'x509',
    '-req',
    '-in',
    `${dir}/x.csr`,
    '-CA',
    leaf.cert,
    '-CAkey',
    leaf.key,
    '-CAcreateserial',
    '-days',
    '9',
    '-out',
    `${dir}/x.crt`
  ])
  writeFileSync(`${dir}/chain.crt`, `${readFileSync(`${dir}/x.crt`)}${readFileSync(leaf.cert)}`)
  const { listener, log, accepted } = await testListener(t, { tls: tlsConfig({ ...server, cafile: pki.ca }) })
  await publish(listener.port, '--cafile', pki.ca, '--cert', `${dir}/chain.crt`, '--key', `${dir}/x.key`)
  t.match(
    await log.waitFor('rejected'),
    /rejected, certificate is signed by (an unknown CA: CN=leaf|CN=leaf, which may not sign certificates) \(subject CN=x/
  )
  t.equal(accepted.length, 0)
})

t.test('a certificate that OpenSSL finds too weak is refused, and the line says so', async t => {
  const pki = await testPki(t)
  const server = await pki.server()
  const client = await pki.client('dev')
  const path = join(pki.dir, 'sha1')
  await run('openssl', ['req', '-new', '-key', client.key, '-subj', '/CN=weak', '-out', `${path}.csr`])
  const signer = ['-CA', pki.ca, '-CAkey', pki.root.key, '-CAcreateserial', '-days', '9']
  await run('openssl', ['x509', '-req', '-sha1', '-in', `${path}.csr`, ...signer, '-out', `${path}.crt`])
  const { listener, log, accepted } = await testListener(t, { tls: tlsConfig({ ...server, cafile: pki.ca }) })
  await run('openssl', [
    's_client',
    '-connect',
    `localhost:${listener.port}`,
    '-cipher',
    'DEFAULT@SECLEVEL=0',
    '-cert',
    `${path}.crt`,
    '-key',
    client.key
  ])
  t.match(await log.waitFor('rejected'), /not accepted by OpenSSL: key too small, hash too weak, .* \(subject CN=weak, issuer CN=Test CA\)/)
  t.equal(accepted.length, 0)
})

t.test('a stranger whose CAs have keys that take long to verify with is refused without', async t => {
  const pki = await testPki(t)
  const key = `${pki.dir}/dear.key`
  const cert = `${pki.dir}/dear.crt`
  const options = ['rsa_keygen_bits:2048', 'rsa_keygen_pubexp:18446744073709551629'].flatMap(option => ['-pkeyopt', option])
  await run('openssl', ['genpkey', '-algorithm', 'RSA', ...options, '-out', key])
  await run('openssl', ['req', '-x509', '-new', '-key', key, '-subj', '/CN=dear', '-days', '9', '-out', cert])
  const { listener, log } = await testListener(t, { tls: tlsConfig({ ...(await pki.server()), cafile: pki.ca }) })
  await publish(listener.port, '--cafile', pki.ca, '--cert', cert, '--key', key)
  const words =
    'certificate is not accepted by OpenSSL (DEPTH_ZERO_SELF_SIGNED_CERT), and shows CAs whose signatures would take too long to verify'
  t.ok((await log.waitFor('rejected')).endsWith(`rejected, ${words} (subject CN=dear, issuer CN=dear).`))
})

t.test('without require_certificate no certificate is asked for', async t => {
  const pki = await testPki(t)
  const server = await pki.server()
  const { listener, accepted } = await testListener(t, { tls: tlsConfig({ ...server, cafile: pki.ca }, { requireCertificate: false }) })
  const { status, output } = await publish(listener.port, '--cafile', pki.ca)
  t.equal(status, 0, output)
  t.equal(accepted[0]?.connection.tls?.certificate, undefined)
})

t.test('certificates made by plain OpenSSL commands, X.509 v1 and RSA, work both ways', async t => {
  const dir = (await testPki(t)).dir
  const openssl = async (...args: string[]): Promise<void> => {
    const { status, output } = await run('openssl', args)
    t.equal(status, 0, output)
  }
  await openssl(
    'req',
    '-new',
    '-x509',
    '-days',
    '365',
    '-extensions',
    'v3_ca',
    '-nodes',
    '-keyout',
    `${dir}/s1.key`,
    '-out',
    `${dir}/s1.crt`,
    '-subj',
    '/C=ES/O=Casa/CN=My CA'
  )
  for (const who of ['broker', 'device']) {
    await openssl('genrsa', '-out', `${dir}/${who}.key`, '2048')
    await openssl('req', '-out', `${dir}/${who}.csr`, '-key', `${dir}/${who}.key`, '-new', '-subj', '/C=ES/O=Casa/CN=localhost')
    await openssl(
      'x509',
      '-req',
      '-in',
      `${dir}/${who}.csr`,
      '-CA',
      `${dir}/s1.crt`,
      '-CAkey',
      `${dir}/s1.key`,
      '-CAcreateserial',
      '-out',
      `${dir}/${who}.crt`,
      '-days',
      '100'
    )
  }
  const { listener, accepted } = await testListener(t, {
    tls: tlsConfig({ cert: `${dir}/broker.crt`, key: `${dir}/broker.key`, cafile: `${dir}/s1.crt` })
  })
  const { status, output } = await publish(
    listener.port,
    '--cafile',
    `${dir}/s1.crt`,
    '--cert',
    `${dir}/device.crt`,
    '--key',
    `${dir}/device.key`
  )
  t.equal(status, 0, output)
  t.equal(accepted[0]?.connection.tls?.certificate?.subject, 'CN=localhost,O=Casa,C=ES')

  const small = ['-tls1_2', '-cipher', 'ECDHE-RSA-AES128-GCM-SHA256', '-quiet', '-cert', `${dir}/device.crt`, '-key', `${dir}/device.key`]
  await run('openssl', ['s_client', '-connect', `localhost:${listener.port}`, ...small], Buffer.concat([connect, disconnect]))
  await until(
    () => accepted.length === 2,
    () => 'the second connection'
  )
  t.match(accepted[1]?.connection.tls, { version: 'TLSv1.2', cipher: 'ECDHE-RSA-AES128-GCM-SHA256' }, 'as small TLS stacks speak')
})

t.test('a client certificate with the subject of its CA is refused as OpenSSL does, and the line says why', async t => {
  const pki = await testPki(t)
  const server = await pki.server()
  const client = await pki.client('Test CA', { v1: true, file: 'same' })
  const { listener, log } = await testListener(t, { tls: tlsConfig({ ...server, cafile: pki.ca }) })
  await publish(listener.port, '--cafile', pki.ca, '--cert', client.cert, '--key', client.key)
  t.match(await log.waitFor('rejected'), /certificate has the same subject as its CA, so that OpenSSL takes it for self-signed/)
})

t.test('what lies between a client and its root is known, whatever its name, and needed at the next look', async t => {
  const pki = await testPki(t)
  const server = await pki.server()
  for (const name of ['Middle', 'Test CA']) {
    const middle = await pki.authority(name, { issuer: pki.root, file: `between-${name}` })
    const client = await pki.client('under', { ca: middle, file: `under-${name}` })
    const chain = join(pki.dir, `chain-${name}.crt`)
    writeFileSync(chain, readFileSync(client.cert, 'utf8') + readFileSync(middle.cert, 'utf8'))
    const tls = tlsConfig({ ...server, cafile: pki.ca })
    const { listener, accepted } = await testListener(t, { tls })
    const { status, output } = await publish(listener.port, '--cafile', pki.ca, '--cert', chain, '--key', client.key)
    t.equal(status, 0, output)
    const certificate = accepted[0]?.connection.tls?.certificate
    t.equal(certificate?.chain?.length, 1, name)
    t.match(recheckPeer(certificate, await materialOf(tls), new Date()), { ok: true }, name)
  }
})

t.test('an established connection is checked again: dates, CA, revocation, and whether a certificate is demanded now', async t => {
  const pki = await testPki(t)
  const server = await pki.server()
  const stranger = await pki.authority('Stranger')
  const middle = await pki.authority('Middle', { issuer: pki.root })
  const certificates = [
    clientCertificate(new X509Certificate(readFileSync((await pki.client('dev')).cert)).raw),
    clientCertificate(new X509Certificate(readFileSync((await pki.client('under', { ca: middle })).cert)).raw, [
      new X509Certificate(readFileSync(middle.cert)).raw
    ])
  ]
  const now = new Date()
  const trusting = await materialOf(tlsConfig({ ...server, cafile: pki.ca }))
  const other = await materialOf(tlsConfig({ ...server, cafile: stranger.cert }))
  const open = await materialOf(tlsConfig(server))
  for (const certificate of certificates) {
    t.match(recheckPeer(certificate, trusting, now), { ok: true })
    t.match(recheckPeer(certificate, other, now), { ok: false, reason: 'unknown-ca' })
    t.match(recheckPeer(certificate, trusting, new Date(Date.now() + 365 * 86_400_000)), { ok: false, reason: 'expired' })
    t.match(recheckPeer(certificate, open, now), { ok: true })
  }
  t.match(recheckPeer(undefined, trusting, now), { ok: false, reason: 'no-certificate' })
  const [, under] = certificates
  if (under === undefined) throw new Error('no certificate')
  const { chain, ...bare } = under
  t.equal(chain?.length, 1)
  t.match(recheckPeer(bare, trusting, now), { ok: true }, 'the middle is remembered')
  const fresh = await materialOf(tlsConfig({ ...server, cafile: pki.ca }))
  t.match(recheckPeer(bare, fresh, now), { ok: false, reason: 'unknown-ca' }, 'the middle is needed')
})

t.test('of the intermediates 256 are remembered, and a client below another still comes in', async t => {
  const pki = await testPki(t)
  const material = await materialOf(tlsConfig({ ...(await pki.server()), cafile: pki.ca }))
  const below = async (name: string) => {
    const middle = await pki.authority(name, { issuer: pki.root })
    const leaf = await pki.client(`below ${name}`, { ca: middle })
    const chain = [new X509Certificate(readFileSync(middle.cert)).raw]
    return clientCertificate(new X509Certificate(readFileSync(leaf.cert)).raw, chain)
  }
  t.match(recheckPeer(await below('first'), material, new Date()), { ok: true })
  const [first] = material.intermediates.values()
  if (first === undefined) throw new Error('nothing is remembered')
  for (let n = material.intermediates.size; n < 255; n++) material.intermediates.set(`${n}`, first)
  for (const name of ['last', 'one too many']) t.match(recheckPeer(await below(name), material, new Date()), { ok: true }, name)
  t.equal(material.intermediates.size, 256)
})

t.test('a name in the line of a refusal is cut at 256 characters, whoever chose it', async t => {
  const pki = await testPki(t)
  const tls = tlsConfig({ ...(await pki.server()), cafile: pki.ca })
  const { listener, log } = await testListener(t, { tls })
  const subjectOf = async (nth: number, length: number) => {
    const client = await pki.client(`old-${nth}`, { subject: [['CN', 'x'.repeat(length)]], expired: true })
    await publish(listener.port, '--cafile', pki.ca, '--cert', client.cert, '--key', client.key)
    return /\(subject (.*), issuer CN=Test CA\)\.$/.exec(await log.waitFor('rejected', nth))?.[1]
  }
  t.equal(await subjectOf(1, 253), `CN=${'x'.repeat(253)}`)
  t.equal(await subjectOf(2, 254), `CN=${'x'.repeat(252)}…`)

  const stranger = await pki.authority('Stranger', { subject: [['CN', 's'.repeat(300)]] })
  const alien = await pki.client('alien', { ca: stranger })
  await publish(listener.port, '--cafile', pki.ca, '--cert', alien.cert, '--key', alien.key)
  const name = `CN=${'s'.repeat(252)}…`
  t.ok((await log.waitFor('rejected', 3)).endsWith(`signed by an unknown CA: ${name} (subject CN=alien, issuer ${name}).`))
})
