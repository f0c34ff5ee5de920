// A whole server in this process with one TLS listener, and MQTT clients with certificates.

import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { connect as tlsConnect } from 'node:tls'
import { createServer, type Server } from '../../dist/index.js'
import { freePort } from './command.js'
import { MqttClient, until } from './mqtt.js'
import type { CertificateFiles, TestPki } from './pki.js'

interface TestScope {
  teardown(close: () => unknown): void
}

export interface TlsServer {
  readonly server: Server
  readonly port: number
  /** m.conf, to be written anew. */
  readonly conf: string
  /** The lines of the log so far. */
  lines(): readonly string[]
  /** Waits for a line. */
  line(pattern: RegExp): Promise<string>
  client(files: CertificateFiles, version?: 4 | 5): Promise<MqttClient>
}

/** `more`: further lines of mosquitto.conf. A list of the root CA is `ca.crl` in the folder. */
export async function startTlsServer(t: TestScope, pki: TestPki, more = ''): Promise<TlsServer> {
  const file = (name: string): string => join(pki.dir, name)
  const server = await pki.server()
  await pki.crl()
  writeFileSync(file('log'), '')
  const port = await freePort()
  const base = `log_dest file ${file('log')}\nlog_type all\nlistener ${port} 127.0.0.1\ncertfile ${server.cert}\nkeyfile ${server.key}\ncafile ${pki.ca}\ncrlfile ${file('ca.crl')}\nrequire_certificate true\nuse_identity_as_username true\n`
  writeFileSync(file('m.conf'), base + more)
  const running = await createServer({ config: file('m.conf') })
  t.teardown(() => running.close())
  const lines = (): string[] => readFileSync(file('log'), 'utf8').split('\n')
  return {
    server: running,
    port,
    conf: base,
    lines,
    async line(pattern) {
      await until(() => lines().some(line => pattern.test(line)), `${pattern}`)
      return lines().find(line => pattern.test(line)) ?? ''
    },
    async client(files, version = 5) {
      const options = { host: '127.0.0.1', port, ca: readFileSync(pki.ca), cert: readFileSync(files.cert), key: readFileSync(files.key) }
      const socket = tlsConnect({ ...options, checkServerIdentity: () => undefined })
      t.teardown(() => socket.destroy())
      await new Promise<void>((resolve, reject) => {
        socket.once('secureConnect', resolve)
        socket.once('error', reject)
      })
      socket.on('error', () => {})
      return new MqttClient(socket, version)
    }
  }
}
