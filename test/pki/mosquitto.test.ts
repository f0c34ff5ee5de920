// The real mosquitto and its clients take our certificates, and refuse those that they should.

import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t, { type Test } from 'tap'
import { runCerts } from '../../dist/cli/certs.js'
import { certificatePaths } from '../../dist/pki/files.js'
import { type CertificateFiles, testPki } from '../helpers/pki.js'

const run = promisify(execFile)

/** Debian keeps daemons where the PATH of a person may not look. */
const env = { ...process.env, PATH: `${process.env.PATH}:/usr/sbin:/usr/local/sbin` }

interface Mosquitto {
  readonly port: number
  /** Everything it logged so far. */
  log(): string
}

async function startMosquitto(t: Test, server: Pick<CertificateFiles, 'cert' | 'key' | 'ca'>, ...lines: string[]): Promise<Mosquitto> {
  const port = await freePort()
  const conf = join(t.testdir(), 'mosquitto.conf')
  const tls = [
    `cafile ${server.ca}`,
    `certfile ${server.cert}`,
    `keyfile ${server.key}`,
    'require_certificate true',
    'use_identity_as_username true'
  ]
  // As root it would give up its rights and then could not read the keys of the test.
  writeFileSync(conf, [`listener ${port} 127.0.0.1`, ...tls, ...lines, process.getuid?.() === 0 ? 'user root' : '', ''].join('\n'))
  const broker = spawn('mosquitto', ['-c', conf, '-v'], { stdio: ['ignore', 'pipe', 'pipe'], env })
  let log = ''
  for (const stream of [broker.stdout, broker.stderr]) {
    stream.setEncoding('utf8').on('data', text => {
      log += text
    })
  }
  t.teardown(() => stop(broker))
  while (!/running\n/.test(log)) {
    const [text] = await Promise.race([once(broker.stderr, 'data'), once(broker, 'exit').then(() => [])])
    if (text === undefined) throw new Error(`mosquitto did not start: ${log}`)
  }
  return { port, log: () => log }
}

async function stop(broker: ChildProcess): Promise<void> {
  if (broker.exitCode !== null || broker.signalCode !== null) return
  broker.kill()
  await once(broker, 'exit')
}

// Mosquitto cannot take port 0 and tell which it got.
async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  server.close()
  await once(server, 'close')
  if (address === null || typeof address === 'string') throw new TypeError('no port')
  return address.port
}

function publish({ port }: Mosquitto, { cert, key, ca }: Pick<CertificateFiles, 'cert' | 'key' | 'ca'>, ...more: string[]) {
  const tls = ['--cafile', ca, '--cert', cert, '--key', key]
  return run('mosquitto_pub', ['-h', 'localhost', '-p', String(port), ...tls, '-t', 'casa/luz', '-m', 'ON1', '-q', '1', ...more], {
    env,
    timeout: 20_000
  })
}

t.test('what certs makes carries a publish over mutual TLS, and the CN is the username', async t => {
  const dir = join(t.testdir(), 'certs')
  const quiet = { stdout: { write: () => true }, stderr: process.stderr, env: {} }
  for (const args of [['init'], ['server', 'localhost'], ['client', 'press-7', '--key', 'rsa:2048']])
    t.equal(await runCerts([...args, '--dir', dir], quiet), 0)
  const ca = certificatePaths(dir, 'ca').certificate
  const filesOf = ({ certificate, key }: { certificate: string; key: string }) => ({ cert: certificate, key, ca })
  // In a test of its own: its folder is not this one's.
  await t.test('with the real broker', async t => {
    const broker = await startMosquitto(t, filesOf(certificatePaths(dir, 'broker')))
    const client = filesOf(certificatePaths(dir, 'client', 'press-7'))
    await publish(broker, client)
    await publish(broker, client, '--tls-version', 'tlsv1.2')
    t.match(broker.log(), /u'press-7'/)
  })
})

t.test('test certificates are taken or refused by mosquitto as their options say', async t => {
  const pki = await testPki(t)
  const revoked = await pki.client('lost')
  const crl = await pki.revoke(revoked)
  const broker = await startMosquitto(t, await pki.server(), `crlfile ${crl}`)
  for (const [name, client] of [
    ['EC', await pki.client('ec')],
    ['RSA', await pki.client('rsa', { keyType: 'rsa:2048' })],
    ['X.509 v1', await pki.client('v1', { v1: true })],
    [
      'two CNs',
      await pki.client('two', {
        subject: [
          ['CN', 'first'],
          ['CN', 'second']
        ]
      })
    ]
  ] as const) {
    await t.resolves(publish(broker, client), name)
  }
  t.match(broker.log(), /u'first'/, 'the first CN is the username')
  const other = await pki.authority('Other CA')
  for (const [name, client] of [
    ['expired', await pki.client('expired', { expired: true })],
    ['not yet valid', await pki.client('early', { notYetValid: true })],
    ['revoked', revoked],
    ['another CA', { ...(await pki.client('other', { ca: other })), ca: pki.ca }],
    [
      'another CA of the same name',
      { ...(await pki.client('twin', { ca: await pki.authority('Test CA', { file: 'twin-ca' }) })), ca: pki.ca }
    ],
    ['a server certificate', await pki.server({ file: 'thief' })],
    ['no CN', await pki.client('nobody', { subject: [['O', 'x']] })]
  ] as const) {
    await t.rejects(publish(broker, client), name)
  }
  // A clean certificate still is taken after all those.
  await t.resolves(publish(broker, await pki.client('last')))
})

t.test('a client of an intermediate CA sends its chain and is taken', async t => {
  const pki = await testPki(t)
  const plant = await pki.authority('Plant CA', { issuer: pki.root })
  const broker = await startMosquitto(t, await pki.server({ ca: plant }))
  await t.resolves(publish(broker, await pki.client('press-8', { ca: plant })))
})
