// Enrolment as a device does it, with curl and openssl alone, and what else may come to an open port.

import { X509Certificate } from 'node:crypto'
import { once } from 'node:events'
import { copyFileSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { request as ask } from 'node:https'
import { connect } from 'node:net'
import { join } from 'node:path'
import { connect as connectTls } from 'node:tls'
import t, { type Test } from 'tap'
import { openEnrolmentServer } from '../../dist/net/enrolment-server.js'
import { Ca } from '../../dist/pki/ca.js'
import { Enrolment } from '../../dist/pki/enrolment.js'
import { Invitations } from '../../dist/pki/invitations.js'
import { withLock } from '../../dist/pki/lock.js'
import { openssl } from '../helpers/openssl.js'
import { testPki } from '../helpers/pki.js'
import { materialOf, run, testListener, testLog, tlsClient, tlsConfig, until } from '../helpers/tls-listener.js'

async function desk(t: Test, { isBelow = false, everywhere = false } = {}) {
  const pki = await testPki(t)
  const signer = isBelow ? await pki.authority('Devices CA', { issuer: pki.root }) : pki.root
  const server = await pki.server()
  mkdirSync(join(pki.dir, 'ca'))
  const files = { certificate: join(pki.dir, 'ca', 'ca.crt'), key: join(pki.dir, 'ca', 'ca.key') }
  copyFileSync(signer.cert, files.certificate)
  copyFileSync(signer.key, files.key)
  const ca = await Ca.open(files)
  const invitations = new Invitations(join(pki.dir, 'ca'))
  const log = testLog()
  const enrolment = new Enrolment(ca, invitations)
  const material = await materialOf(tlsConfig(server, { requireCertificate: false }))
  const opened = await openEnrolmentServer({ port: 0, ...(!everywhere && { host: '127.0.0.1' }), material, enrolment, log })
  t.teardown(() => opened.close())
  const url = `https://localhost:${opened.port}/.well-known/est`
  const at = (name: string): string => join(pki.dir, name)
  /** The status of the answer, and its body in `answer`. */
  const curl = async (...args: readonly string[]): Promise<string> => {
    const { output } = await run('curl', ['-s', '-o', at('answer'), '-w', '%{http_code} %{content_type}', '--cacert', pki.ca, ...args])
    return output
  }
  const post = (operation: string, body: string, ...args: readonly string[]): Promise<string> =>
    curl('-H', 'Content-Type: application/pkcs10', '--data-binary', `@${body}`, ...args, `${url}/${operation}`)
  const request = (
    name: string,
    key: readonly string[] = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-keyout', at(`${name}.key`)]
  ): string => {
    openssl('req', '-new', ...key, '-nodes', '-subj', `/CN=${name}/O=ignored`, '-outform', 'DER', '-out', at(`${name}.der`))
    openssl('base64', '-in', at(`${name}.der`), '-out', at(`${name}.b64`))
    return at(`${name}.b64`)
  }
  const certificate = (name: string): string => {
    openssl('base64', '-d', '-in', at('answer'), '-out', at('answer.p7'))
    openssl('pkcs7', '-inform', 'DER', '-in', at('answer.p7'), '-print_certs', '-out', at(`${name}.crt`))
    return at(`${name}.crt`)
  }
  return { close: opened.close, pki, server, ca, enrolment, invitations, log, url, at, curl, post, request, certificate, port: opened.port }
}

t.test('the CA, a first certificate, and the next one', async t => {
  const { pki, ca, invitations, log, url, at, curl, post, request, certificate } = await desk(t)
  t.equal(await curl(`${url}/cacerts`), '200 application/pkcs7-mime')
  t.match(openssl('x509', '-in', certificate('fetched'), '-noout', '-subject'), 'CN = Test CA')
  t.equal(await curl(`${url}/csrattrs`), '200 application/csrattrs')

  const { secret } = await invitations.invite('f60c28')
  t.equal(await post('simpleenroll', request('anything'), '-u', `f60c28:${secret}`), '200 application/pkcs7-mime; smime-type=certs-only')
  const first = certificate('f60c28')
  copyFileSync(at('anything.key'), at('f60c28.key'))
  t.match(openssl('verify', '-CAfile', pki.ca, '-purpose', 'sslclient', first), 'OK')
  t.match(
    openssl('x509', '-in', first, '-noout', '-subject'),
    /^subject=CN = f60c28\n$/,
    'the name of the invitation, and nothing of the request'
  )
  t.match(log.lines.join('\n'), /Enrolled f60c28 from 127\.0\.0\.1:\d+, certificate [0-9A-F]+\./)
  t.match(await post('simpleenroll', at('anything.b64'), '-u', `f60c28:${secret}`), /^401 /, 'once')

  const current = ['--cert', first, '--key', at('f60c28.key')]
  t.equal(await post('simplereenroll', request('next'), ...current), '200 application/pkcs7-mime; smime-type=certs-only')
  t.match(openssl('x509', '-in', certificate('next'), '-noout', '-subject'), /CN = f60c28\n$/)
  const entries = await ca.find('f60c28')
  t.equal(entries.length, 2)

  await ca.revoke([entries[0]?.serial ?? ''], 'keyCompromise')
  t.match(await post('simplereenroll', at('next.b64'), ...current), /^403 /)
  t.match(readFileSync(at('answer'), 'utf8'), 'is revoked')
})

t.test('an IPv4 client is logged by its IPv4 address, also where one socket is for both families', async t => {
  const { log, post, request } = await desk(t, { everywhere: true })
  t.match(await post('simpleenroll', request('x'), '-4', '-u', 'press-7:wrong'), /^401 /)
  t.match(log.lines.join('\n'), /Enrolment of press-7 from 127\.0\.0\.1:\d+ refused/)
})

t.test('whoever is not invited, or has no good certificate, gets none', async t => {
  const { pki, invitations, log, at, post, request } = await desk(t)
  const body = request('x')
  const { secret } = await invitations.invite('press-7', 1000)
  t.match(await post('simpleenroll', body), /^401 /)
  t.match(await post('simpleenroll', body, '-u', `press-8:${secret}`), /^401 /)
  t.match(await post('simpleenroll', body, '-u', 'press-7:wrong'), /^401 /)
  t.match(await post('simpleenroll', body, '-H', 'Authorization: Basic %%%'), /^401 /)
  t.match(await post('simpleenroll', body, '-H', 'Authorization: Bearer x'), /^401 /)
  const words = readFileSync(at('answer'), 'utf8')
  t.match(log.lines.join('\n'), /Enrolment of press-8 from .* refused, nobody of that name is invited\./)
  t.match(log.lines.join('\n'), /Enrolment of press-7 from .* refused, its secret is wrong\./)
  t.notMatch(log.lines.join('\n'), secret)
  t.notMatch(words, /invited|wrong/, 'which of them it was is for the log alone')

  t.match(await post('simplereenroll', body), /^401 /)
  const stranger = await pki.client('press-7', { ca: await pki.authority('Another CA'), file: 'stranger' })
  t.match(await post('simplereenroll', body, '--cert', stranger.cert, '--key', stranger.key), /^403 /)
  const late = await pki.client('late', { expired: true })
  t.match(await post('simplereenroll', body, '--cert', late.cert, '--key', late.key), /^403 /)
  const elsewhere = await pki.client('elsewhere')
  t.match(await post('simplereenroll', body, '--cert', elsewhere.cert, '--key', elsewhere.key), /^403 /)
  t.match(log.lines.join('\n'), /Enrolment of CN=elsewhere from .* refused, the certificate that it shows is in no record of the CA\./)
})

t.test('a request that is not to be signed is refused with its reason, and the secret stays good', async t => {
  const { invitations, at, post, request } = await desk(t)
  const { secret } = await invitations.invite('press-7')
  const user = ['-u', `press-7:${secret}`]
  writeFileSync(at('rubbish'), 'rubbish!')
  writeFileSync(at('bomb'), Buffer.concat(Array.from({ length: 6000 }, () => Buffer.of(0x30, 0x80))).toString('base64'))
  const good = request('good')
  const broken = Buffer.from(readFileSync(at('good.der')))
  broken[broken.length - 1] = (broken[broken.length - 1] ?? 0) ^ 1
  writeFileSync(at('broken'), broken.toString('base64'))
  openssl('genrsa', '-out', at('small.key'), '1024')
  for (const body of [at('rubbish'), at('bomb'), at('broken'), request('small', ['-key', at('small.key')])]) {
    t.match(await post('simpleenroll', body, ...user), /^400 /, body)
    t.match(readFileSync(at('answer'), 'utf8'), /^[A-Z].*\.\n$/)
  }
  writeFileSync(at('huge'), 'A'.repeat(200_000))
  t.match(await post('simpleenroll', at('huge'), ...user), /^413 /)
  t.match(await post('simpleenroll', good, ...user), /^200 /)
})

t.test('what is no request of EST', async t => {
  const { url, curl, at, request, post, port, log } = await desk(t)
  t.match(await curl(url.replace('/est', '/x')), /^404 /)
  t.match(await curl(`${url}/../../etc/passwd`, '--path-as-is'), /^404 /)
  t.match(await curl(`${url}/label/cacerts`), /^404 /)
  t.match(await curl('-X', 'DELETE', `${url}/cacerts`), /^405 /)
  t.match(await curl(`${url}/simpleenroll`), /^405 /)
  request('x')
  t.match(await curl('--data-binary', `@${at('x.b64')}`, `${url}/simpleenroll`), /^415 /)
  for (const bytes of ['', 'GET / HTTP/1.1\r\n\r\n', '\x16\x03\x01', 'x'.repeat(70_000)]) {
    const socket = connect(port, '127.0.0.1')
    socket.on('error', () => {})
    await new Promise<void>(resolve =>
      socket
        .once('close', () => resolve())
        .end(bytes)
        .resume()
    )
  }
  t.match(await curl('-H', `X: ${'x'.repeat(20_000)}`, `${url}/cacerts`), /^(431|000)/)
  t.match(await post('simpleenroll', at('x.b64'), '-u', `${'x'.repeat(2000)}\u0001:y`), /^401 /)
  t.match(await curl(`${url}/cacerts`), /^200 /, 'it goes on')
  t.notOk(existsSync(at('etc')))
  t.notMatch(log.lines.join('\n'), /[\0-\x08]/)
})

t.test('guessing is slowed down', async t => {
  const { invitations, post, request } = await desk(t)
  const body = request('x')
  await invitations.invite('press-7')
  const statuses: string[] = []
  for (let i = 0; i < 14; i++) statuses.push((await post('simpleenroll', body, '-u', `press-${i}:wrong`)).slice(0, 3))
  t.match(statuses.join(' '), /^(401 ){10,}.*429/)
})

/** What a certificate would be recorded by, if the CA had issued it here. */
const adopt = (ca: Ca, file: string) => ca.adopt(new X509Certificate(readFileSync(file)))

t.test("neither a CA's certificate nor a server's is renewed, nor one whose time is over", async t => {
  const { pki, server, ca, enrolment, at, post, request } = await desk(t)
  const body = request('x')
  const below = await pki.authority('Below', { issuer: pki.root })
  for (const { cert, key } of [server, below]) {
    await adopt(ca, cert)
    t.match(await post('simplereenroll', body, '--cert', cert, '--key', key), /^403 /)
    t.match(readFileSync(at('answer'), 'utf8'), 'that of a CA or a server')
  }
  const { cert, key } = await pki.client('late', { expired: true })
  await adopt(ca, cert)
  t.match(await post('simplereenroll', body, '--cert', cert, '--key', key), /^403 /)
  t.match(readFileSync(at('answer'), 'utf8'), 'has expired')
  const press = await pki.client('press-7')
  await adopt(ca, press.cert)
  const current = new X509Certificate(readFileSync(press.cert))
  const later = new Date(new Date(current.validTo).getTime() + 1000)
  t.equal(await enrolment.reenrol(current, readFileSync(body, 'latin1'), later), 'out-of-date', 'whatever the handshake said')
})

t.test('a session that a listener with more CAs has accepted is worth nothing', async t => {
  const { pki, server, ca, enrolment, log, at, request } = await desk(t)
  const press = await pki.client('press-7')
  await adopt(ca, press.cert)
  const another = await pki.authority('Another CA')
  const names = ['-subj', '/CN=press-7', '-keyout', at('forged.key'), '-out', at('forged.csr')]
  openssl('req', '-new', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', ...names)
  const signer = ['-CA', another.cert, '-CAkey', another.key, '-set_serial', `0x${press.serial}`]
  openssl('x509', '-req', '-in', at('forged.csr'), ...signer, '-days', '9', '-out', at('forged.crt'))
  writeFileSync(at('both.crt'), readFileSync(pki.ca, 'utf8') + readFileSync(another.cert, 'utf8'))

  const tls = tlsConfig({ ...server, cafile: at('both.crt') })
  const material = await materialOf(tls)
  const { listener } = await testListener(t, { tls, material })
  const opened = await openEnrolmentServer({ port: 0, host: '127.0.0.1', material, enrolment, log })
  t.teardown(() => opened.close())
  const credentials = { cert: readFileSync(at('forged.crt')), key: readFileSync(at('forged.key')) }
  const { isAccepted, session } = await tlsClient(t, listener.port, credentials)
  t.ok(isAccepted)

  const status = new Promise<number | undefined>((resolve, reject) => {
    const socket = connectTls({
      ...credentials,
      host: '127.0.0.1',
      port: opened.port,
      rejectUnauthorized: false,
      ...(session && { session })
    })
    const path = '/.well-known/est/simplereenroll'
    const headers = { 'Content-Type': 'application/pkcs10' }
    const sent = ask({ createConnection: () => socket, method: 'POST', path, headers }, response => resolve(response.resume().statusCode))
    sent.on('error', reject).end(readFileSync(request('x')))
  })
  t.equal(await status, 403)
  t.equal((await ca.find('press-7')).length, 1)
})

t.test('a CA below another renews what it has signed', async t => {
  const { invitations, at, post, request, certificate } = await desk(t, { isBelow: true })
  const { secret } = await invitations.invite('press-7')
  t.match(await post('simpleenroll', request('press-7'), '-u', `press-7:${secret}`), /^200 /)
  const first = certificate('press-7')
  t.match(await post('simplereenroll', at('press-7.b64'), '--cert', first, '--key', at('press-7.key')), /^200 /)
})

t.test('who is revoked while a certificate is being made gets none', async t => {
  const { pki, ca, enrolment, request } = await desk(t)
  const { cert } = await pki.client('press-7')
  await adopt(ca, cert)
  const current = new X509Certificate(readFileSync(cert))
  const body = readFileSync(request('x'), 'latin1')
  const outcome = await withLock(`${ca.record.path}.lock`, async () => {
    const revoking = ca.revokeName('press-7', 'keyCompromise')
    return { revoking, renewing: enrolment.reenrol(current, body) }
  })
  t.equal(await outcome.renewing, 'revoked')
  t.equal((await outcome.revoking).length, 1)
  const entries = await ca.find('press-7')
  t.same(
    entries.map(({ revoked }) => revoked?.reason),
    ['keyCompromise', 'keyCompromise']
  )
})

t.test('a device that renews without end is slowed down', async t => {
  const { pki, ca, post, request } = await desk(t)
  const body = request('x')
  const statuses: string[] = []
  for (const name of ['press-7', 'press-8']) {
    const { cert, key } = await pki.client(name)
    await adopt(ca, cert)
    const count = name === 'press-7' ? 21 : 1
    for (let i = 0; i < count; i++) statuses.push((await post('simplereenroll', body, '--cert', cert, '--key', key)).slice(0, 3))
  }
  t.equal(statuses.join(' '), `${'200 '.repeat(20)}429 200`)
  t.equal((await ca.find('press-7')).length, 21)
})

t.test('who has gone before the secret was looked at can come again with it', async t => {
  const { ca, enrolment, invitations, request } = await desk(t)
  const { secret } = await invitations.invite('press-7')
  const body = readFileSync(request('x'), 'latin1')
  const gone = enrolment.enrol('press-7', secret, body, () => false)
  await t.rejects(gone, { code: 'ERR_PKI_INPUT', message: 'Whoever asked has gone.' })
  t.same(await ca.find('press-7'), [])
  t.match(await enrolment.enrol('press-7', secret, body), { deviceId: 'press-7' })
})

t.test('who sends slowly takes no place of others, and who sends without end is told so', async t => {
  const { invitations, at, post, port, request } = await desk(t)
  const { secret } = await invitations.invite('press-7')
  const head =
    'POST /.well-known/est/simpleenroll HTTP/1.1\r\nHost: x\r\nContent-Type: application/pkcs10\r\nContent-Length: 900\r\n\r\nMII'
  let begun = 0
  const slow = Array.from({ length: 40 }, () =>
    connectTls({ host: '127.0.0.1', port, rejectUnauthorized: false }, () => (begun += 1)).on('error', () => {})
  )
  t.teardown(() => {
    for (const socket of slow) socket.destroy()
  })
  for (const socket of slow) socket.write(head)
  await until(
    () => begun === slow.length,
    () => `${slow.length} connections`
  )
  writeFileSync(at('huge'), 'A'.repeat(200_000))
  t.match(await post('simpleenroll', at('huge'), '-H', 'Transfer-Encoding: chunked', '-u', `press-7:${secret}`), /^413 /)
  t.match(await post('simpleenroll', request('x'), '-u', `press-7:${secret}`), /^200 /)
})

t.test('a connection may ask again once it is answered, and not before', async t => {
  const { pki, url, port } = await desk(t)
  const again = await run('curl', ['-s', '-o', '/dev/null', '-w', '%{http_code} %{num_connects}\n', '--cacert', pki.ca, `${url}/[1-3]`])
  t.equal(again.output, '404 1\n404 0\n404 0\n')
  const socket = connectTls({ host: '127.0.0.1', port, rejectUnauthorized: false }).on('error', () => {})
  let heard = ''
  socket.on('data', data => {
    heard += String(data)
  })
  socket.write('GET /.well-known/est/cacerts HTTP/1.1\r\nHost: x\r\n\r\n'.repeat(1000))
  await new Promise(resolve => socket.once('close', resolve))
  t.ok((heard.match(/HTTP\/1\.1 200/g) ?? []).length <= 1)
})

t.test('the same refusal of an address is a line once a minute', async t => {
  const { request, post, log } = await desk(t)
  const body = request('x')
  for (let i = 0; i < 3; i++) t.match(await post('simplereenroll', body), /^401 /)
  t.match(await post('simpleenroll', body, '-u', 'nobody:x'), /^401 /)
  t.match(log.of('enrolmentRefused'), [
    /refused, it shows no certificate to renew\.$/,
    /^Enrolment of nobody from .* refused, nobody of that name/
  ])
})

t.test('silent connections leave places for other addresses, and are said once', async t => {
  const { port, url, curl, log } = await desk(t)
  let closes = false
  const open = (localAddress: string): void => {
    const socket = connect({ port, host: '127.0.0.1', localAddress }).on('error', () => {})
    socket.on('close', () => {
      if (!closes) setTimeout(open, 10, localAddress)
    })
    t.teardown(() => {
      closes = true
      socket.destroy()
    })
  }
  for (let i = 0; i < 260; i++) open('127.0.0.2')
  t.match(
    await log.waitFor('enrolmentCrowded'),
    /^Warning: The enrolment port is crowded: 64 connections open, 128 waiting, the last from 127\.0\.0\.2\.$/
  )
  t.match(await curl('--interface', '127.0.0.1', `${url}/cacerts`), /^200 /)
  for (const address of ['127.0.0.3', '127.0.0.4', '127.0.0.5']) for (let i = 0; i < 64; i++) open(address)
  for (let i = 0; i < 2; i++) t.match(await curl('-m', '10', '--interface', '127.0.0.1', `${url}/cacerts`), /^200 /)
  t.equal(log.of('enrolmentCrowded').length, 1)
})

t.test('it closes at once, whoever is still connected', async t => {
  const { port, close } = await desk(t)
  const silent = connect(port, '127.0.0.1')
  const secured = connectTls({ host: '127.0.0.1', port, rejectUnauthorized: false })
  const asking = connectTls({ host: '127.0.0.1', port, rejectUnauthorized: false })
  asking.write('POST /.well-known/est/simpleenroll HTTP/1.1\r\nHost: x\r\nContent-Type: application/pkcs10\r\nContent-Length: 9\r\n\r\n')
  const connected = [once(silent, 'connect'), once(secured, 'secureConnect'), once(asking, 'secureConnect')]
  const closed = [silent, secured, asking].map(socket => new Promise(resolve => socket.on('error', () => {}).once('close', resolve)))
  await Promise.all(connected)
  const start = performance.now()
  await close()
  await Promise.all(closed)
  t.ok(performance.now() - start < 5000)
})
