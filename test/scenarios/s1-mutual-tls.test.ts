// S1: MQTTS with mutual authentication on a workstation, with certificates made by OpenSSL alone: X.509 v1, no subjectAltName.

import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { freePort, must, run, start, startBroker, userLine } from '../helpers/command.js'

type TestScope = Parameters<typeof must>[0]
type Names = { readonly ca: string; readonly broker: string; readonly client: string }

/** The commands as people type them; `-subj` and `-passout` stand for what they answer at the prompts. */
async function makeCertificates(t: TestScope, dir: string, names: Names): Promise<void> {
  for (const folder of ['ca', 'broker', 'client']) mkdirSync(join(dir, 'certs', folder), { recursive: true })
  const openssl = (folder: string, command: string, ...answers: string[]) =>
    must(t, 'openssl', [...command.split(' '), ...answers], { cwd: join(dir, 'certs', folder) })
  const pass = 'pass:a passphrase'
  await openssl('ca', 'req -new -x509 -days 365 -extensions v3_ca -keyout ca.key -out ca.crt', '-subj', names.ca, '-passout', pass)
  for (const who of ['broker', 'client'] as const) {
    await openssl(who, `genrsa -out ${who}.key 2048`)
    await openssl(who, `req -out ${who}.csr -key ${who}.key -new`, '-subj', names[who])
    await openssl(
      who,
      `x509 -req -in ${who}.csr -CA ../ca/ca.crt -CAkey ../ca/ca.key -CAcreateserial -out ${who}.crt -days 100`,
      '-passin',
      pass
    )
  }
}

function writeConf(dir: string, port: number): void {
  writeFileSync(
    join(dir, 'mosquitto.conf'),
    `listener ${port}
certfile certs/broker/broker.crt
keyfile certs/broker/broker.key
require_certificate true
cafile certs/ca/ca.crt
use_identity_as_username true
${userLine}`
  )
}

const topic = 'casa/habitaciones/hab1/luz'
const tls = '--cafile certs/ca/ca.crt --cert certs/client/client.crt --key certs/client/client.key'
const clientArgs = (port: number, more: string): string[] => `-h localhost -p ${port} -t ${topic} ${tls} ${more}`.trim().split(' ')

t.test('a subscriber prints ON1, and the console names both clients and the username from the CN', async t => {
  const dir = t.testdir()
  const port = await freePort()
  await makeCertificates(t, dir, {
    ca: '/C=ES/O=Casa/CN=Casa CA',
    broker: '/C=ES/O=Casa/CN=localhost',
    client: '/C=ES/O=Casa/CN=termostato'
  })
  writeConf(dir, port)
  const broker = await startBroker(t, ['-c', 'mosquitto.conf', '-v'], { cwd: dir })

  const subscriber = start(t, 'mosquitto_sub', clientArgs(port, '-i sub-1'), { cwd: dir })
  await broker.line(/: sub-1 0 casa\/habitaciones\/hab1\/luz$/)
  await must(t, 'mosquitto_pub', clientArgs(port, '-i pub-1 -m ON1'), { cwd: dir })
  await subscriber.line(/^ON1$/)

  await broker.line(/: New client connected from (127\.0\.0\.1|::1):\d+ as sub-1 \(p4, c1, k60, u'termostato'\)\.$/)
  await broker.line(/: New client connected from (127\.0\.0\.1|::1):\d+ as pub-1 \(p4, c1, k60, u'termostato'\)\.$/)
  await broker.line(/: Client pub-1 \[(127\.0\.0\.1|::1):\d+\] disconnected\.$/)
  const ended = await broker.stop()
  t.equal(ended.status, 0)
})

t.test('broker and client may carry the same subject', async t => {
  const dir = t.testdir()
  const port = await freePort()
  await makeCertificates(t, dir, { ca: '/CN=Casa CA', broker: '/CN=localhost', client: '/CN=localhost' })
  writeConf(dir, port)
  const broker = await startBroker(t, ['-c', 'mosquitto.conf'], { cwd: dir })
  await must(t, 'mosquitto_pub', clientArgs(port, '-m ON1'), { cwd: dir })
  await broker.line(/New client connected .* u'localhost'\)\.$/)
})

t.test('when the CA carries it too, the start says that clients will refuse the broker', async t => {
  const dir = t.testdir()
  const port = await freePort()
  await makeCertificates(t, dir, { ca: '/CN=localhost', broker: '/CN=localhost', client: '/CN=localhost' })
  writeConf(dir, port)
  const broker = await startBroker(t, ['-c', 'mosquitto.conf'], { cwd: dir })
  await broker.line(/Warning: .*same subject/)
  // OpenSSL's clients take the broker's certificate for a self-signed one; our side would accept them.
  const refused = await run(t, 'mosquitto_pub', clientArgs(port, '-m ON1'), { cwd: dir })
  t.not(refused.status, 0)
})

t.test('a client without certificate, or with one of another CA, is refused and the log says why', async t => {
  const dir = t.testdir()
  const port = await freePort()
  await makeCertificates(t, dir, { ca: '/CN=Casa CA', broker: '/CN=localhost', client: '/CN=termostato' })
  writeConf(dir, port)
  const broker = await startBroker(t, ['-c', 'mosquitto.conf'], { cwd: dir })
  const without = await run(t, 'mosquitto_pub', `-h localhost -p ${port} -t ${topic} -m x --cafile certs/ca/ca.crt`.split(' '), {
    cwd: dir
  })
  t.not(without.status, 0)
  await broker.line(/(127\.0\.0\.1|::1).*did not send a certificate/)

  const other = join(dir, 'other')
  await makeCertificates(t, other, { ca: '/CN=Another CA', broker: '/CN=localhost', client: '/CN=intruso' })
  const stranger = await run(
    t,
    'mosquitto_pub',
    `-h localhost -p ${port} -t ${topic} -m x --cafile certs/ca/ca.crt --cert other/certs/client/client.crt --key other/certs/client/client.key`.split(
      ' '
    ),
    { cwd: dir }
  )
  t.not(stranger.status, 0)
  await broker.line(/Connection from (127\.0\.0\.1|::1):\d+ rejected, .*signed by an unknown CA: CN=Another CA \(subject CN=intruso, /)
  t.notMatch(broker.stderr(), /New client connected/)
})
