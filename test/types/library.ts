// Compiled, never run: what a program may write, and what the compiler keeps it from.

import {
  Broker,
  BrokerError,
  type ConfigObject,
  createServer,
  type Problem,
  type ReloadReport,
  type Server,
  type ServerOptions
} from 'mosquitero'

const config: ConfigObject = {
  listeners: [
    {
      port: 8883,
      cafile: 'ca.crt',
      certfile: 'server.crt',
      keyfile: 'server.key',
      require_certificate: true,
      accept_protocol_versions: [4, 5]
    },
    { path: '/run/mqtt.sock', allow_anonymous: true }
  ],
  acl_file: 'acl',
  max_inflight_messages: 20,
  log_type: ['error', 'warning'],
  store: 'redis://localhost:6379',
  acknowledge: 'received'
}

export async function use(): Promise<void> {
  const server: Server = await createServer({
    config,
    hooks: {
      authenticate: (client, username, _password, done) => done(null, client.id !== '' && username === 'ann'),
      authorizePublish: (_client, packet, done) => done(packet.topic === 'x' ? new Error('no') : null)
    }
  })
  const ports: readonly number[] = server.ports
  const report: ReloadReport = await server.reload()
  const problems: readonly Problem[] = report.problems
  server.broker.publish({ cmd: 'publish', topic: 'a', payload: `${ports} ${problems}`, qos: 1, retain: false, dup: false }, () => {})
  await server.close()
  const broker = await Broker.createBroker({ id: 'b' })
  broker.on('clientReady', client => client.close())
}

export const isOurs = (error: unknown): error is BrokerError => error instanceof BrokerError

// @ts-expect-error A QoS is a number.
export const wrongType: ConfigObject = { listeners: [{ max_qos: '1' }] }
// @ts-expect-error There is no such option.
export const unknown: ConfigObject = { max_inflight: 20 }
// @ts-expect-error One of a closed set.
export const wrongWord: ConfigObject = { acknowledge: 'late' }
// @ts-expect-error An option of a listener.
export const wrongPlace: ConfigObject = { certfile: 'server.crt' }
// @ts-expect-error `ports` are numbers.
export const wrongPorts: ServerOptions = { ports: ['1883'] }
