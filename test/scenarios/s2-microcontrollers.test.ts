// S2: microcontrollers: small TLS stacks, TLS 1.2 with one cipher suite, certificates forgotten.

import { chmodSync, existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { freePort, must, run, startBroker, userLine } from '../helpers/command.js'
import { testPki } from '../helpers/pki.js'
import { until } from '../helpers/until.js'

const suite = ['--tls-version', 'tlsv1.2', '--ciphers', 'ECDHE-RSA-AES128-GCM-SHA256']

t.test('one-way TLS on one address, logging to syslog: the device comes in without a certificate', async t => {
  const dir = t.testdir()
  const port = await freePort()
  const pki = await testPki(t)
  const server = await pki.server({ keyType: 'rsa' })
  // Stands for the system's logger(1), and keeps what it is given.
  const syslog = join(dir, 'syslog')
  writeFileSync(join(dir, 'logger'), `#!/bin/sh\nexec cat > ${syslog}\n`)
  chmodSync(join(dir, 'logger'), 0o755)
  writeFileSync(
    join(dir, 'mosquitto.conf'),
    `listener ${port} 127.0.0.1
log_dest syslog
log_dest stderr
allow_anonymous true
cafile ${server.ca}
certfile ${server.cert}
keyfile ${server.key}
${userLine}`
  )
  await startBroker(t, ['-c', 'mosquitto.conf'], { cwd: dir, env: { PATH: `${dir}:${process.env.PATH}` } })
  await must(t, 'mosquitto_pub', ['-h', '127.0.0.1', '-p', `${port}`, '-i', 'esp32', '-t', 't', '-m', 'x', '--cafile', server.ca, ...suite])
  await until(() => existsSync(syslog) && /<29>\d+: New client connected from 127\.0\.0\.1:\d+ as esp32/.test(readFileSync(syslog, 'utf8')))
})

t.test('mutual TLS: a device that forgets its certificate is refused in words a person understands', async t => {
  const dir = t.testdir()
  const port = await freePort()
  const pki = await testPki(t)
  const server = await pki.server({ keyType: 'rsa' })
  const device = await pki.client('esp32-7', { keyType: 'rsa' })
  writeFileSync(
    join(dir, 'mosquitto.conf'),
    `listener ${port} 127.0.0.1
cafile ${server.ca}
certfile ${server.cert}
keyfile ${server.key}
require_certificate true
use_identity_as_username true
${userLine}`
  )
  const broker = await startBroker(t, ['-c', 'mosquitto.conf'], { cwd: dir })
  const pub = ['-h', '127.0.0.1', '-p', `${port}`, '-i', 'esp32', '-t', 't', '-m', 'x', '--cafile', server.ca, ...suite]
  const forgotten = await run(t, 'mosquitto_pub', pub)
  t.not(forgotten.status, 0)
  await broker.line(/127\.0\.0\.1:\d+.*did not send a certificate/)
  await must(t, 'mosquitto_pub', [...pub, '--cert', device.cert, '--key', device.key])
  await broker.line(/New client connected from 127\.0\.0\.1:\d+ as esp32 \(p4, c1, k60, u'esp32-7'\)\.$/)
})
