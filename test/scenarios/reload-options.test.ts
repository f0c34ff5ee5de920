// Each option that takes effect at a reload, under clients that are connected: a configuration, what is there, the configuration that
// replaces it, and what is other then. What CONNACK promised as a number stands for that connection.

import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { options } from '../../dist/config/options.js'
import { createServer, type Server } from '../../dist/index.js'
import { freePort } from '../helpers/command.js'
import { type ConnectOptions, connectMqtt, type MqttClient } from '../helpers/mqtt.js'

interface Scene {
  readonly server: Server
  /** A client of MQTT 5 that is connected, unless told otherwise. */
  login(clientId: string, options?: ConnectOptions): Promise<MqttClient>
  /** The code of CONNACK, or `closed`. */
  answer(options: ConnectOptions): Promise<number | 'closed' | undefined>
  /** QoS 1 from a client of its own. */
  publish(topic: string, payload?: string): Promise<void>
  /** Publishes `b`, QoS 1, and tells what `reader` got until then; it has to subscribe to `b` with QoS 0. */
  seen(reader: MqttClient): Promise<string[]>
  write(file: string, text: string): void
  reload(): Promise<void>
}

interface Row {
  readonly options: readonly string[]
  readonly before: string
  readonly after: string
  run(scene: Scene, t: Test): Promise<void>
}

const away = { clean: false, properties: { sessionExpiryInterval: 3600 } } as const

/** A session that is away, subscribed to `a` with QoS 1. */
async function leaveSession({ login }: Scene): Promise<void> {
  const client = await login('away', away)
  await client.subscribe('a', 1)
  await client.subscribe('b')
  client.send({ cmd: 'disconnect' })
  await client.closed()
}

/** How many messages wait for it. */
async function waiting(scene: Scene): Promise<number> {
  const client = await scene.login('away', away)
  return (await scene.seen(client)).length
}

async function reader({ login }: Scene, ...filters: readonly string[]): Promise<MqttClient> {
  const client = await login('reader', { protocolVersion: 4 })
  for (const filter of [...filters, 'b']) await client.subscribe(filter, filter === 'b' ? 0 : 1)
  return client
}

const rows: readonly Row[] = [
  {
    options: ['max_inflight_messages'],
    before: 'max_inflight_messages 1',
    after: 'max_inflight_messages 3',
    async run(scene, t) {
      const client = await reader(scene, 'a')
      for (const payload of ['1', '2', '3', '4']) await scene.publish('a', payload)
      t.same(await scene.seen(client), ['a 1'])
      await scene.reload()
      t.same(await scene.seen(client), ['a 2', 'a 3'], 'without an acknowledgement')
    }
  },
  {
    options: ['max_inflight_messages'],
    before: 'max_inflight_messages 3',
    after: 'max_inflight_messages 1',
    async run({ login, reload }, t) {
      const old = await login('old')
      const codes: number[] = []
      await reload()
      for (const messageId of [1, 2, 3, 4]) {
        old.publish('a', 'x', { qos: 2, messageId })
        codes.push((await old.next('pubrec')).reasonCode ?? 0)
      }
      t.same(codes, [0, 0, 0, 0x97], 'the Receive Maximum that it was told')
    }
  },
  {
    options: ['max_inflight_bytes'],
    before: 'max_inflight_bytes 1',
    after: 'max_inflight_bytes 0',
    async run(scene, t) {
      const client = await reader(scene, 'a')
      for (const payload of ['1', '2']) await scene.publish('a', payload)
      t.same(await scene.seen(client), ['a 1'])
      await scene.reload()
      t.same(await scene.seen(client), ['a 2'])
    }
  },
  ...(['max_queued_messages 1', 'max_queued_bytes 1'] as const).map(before => ({
    options: [before.slice(0, -2)],
    before,
    after: `${before.slice(0, -2)} 0`,
    async run(scene: Scene, t: Test) {
      await leaveSession(scene)
      for (const payload of ['1', '2']) await scene.publish('a', payload)
      await scene.reload()
      for (const payload of ['3', '4']) await scene.publish('a', payload)
      t.equal(await waiting(scene), 3, 'the second was dropped')
    }
  })),
  {
    options: ['queue_qos0_messages'],
    before: 'queue_qos0_messages false',
    after: 'queue_qos0_messages true',
    async run(scene, t) {
      await leaveSession(scene)
      const writer = await scene.login('writer')
      writer.publish('a', '1')
      await writer.ping()
      await scene.reload()
      writer.publish('a', '2')
      await writer.ping()
      t.equal(await waiting(scene), 1)
    }
  },
  {
    options: ['upgrade_outgoing_qos'],
    before: 'upgrade_outgoing_qos false',
    after: 'upgrade_outgoing_qos true',
    async run({ login, reload }, t) {
      const client = await login('c')
      await client.subscribe('a', 1)
      client.publish('a', 'x')
      t.equal((await client.next('publish')).qos, 0)
      await reload()
      client.publish('a', 'x')
      t.equal((await client.next('publish')).qos, 1)
    }
  },
  {
    options: ['allow_duplicate_messages'],
    before: 'allow_duplicate_messages true',
    after: 'allow_duplicate_messages false',
    async run(scene, t) {
      const client = await reader(scene, 'a', 'a/#')
      await scene.publish('a', '1')
      t.same(await scene.seen(client), ['a 1', 'a 1'])
      await scene.reload()
      await scene.publish('a', '2')
      t.same(await scene.seen(client), ['a 2'])
    }
  },
  {
    options: ['check_retain_source'],
    before: 'check_retain_source true\nacl_file acl',
    after: 'check_retain_source false\nacl_file acl',
    async run(scene, t) {
      const writer = await scene.login('writer')
      writer.publish('kept', 'x', { qos: 1, messageId: 1, retain: true })
      await writer.next('puback')
      scene.write('acl', 'topic read #\ntopic write b\n')
      // The broker reads the ACL anew, and nothing else is other yet.
      await scene.server.reload()
      const client = await scene.login('c')
      await client.subscribe('b')
      await client.subscribe('kept')
      t.same(await scene.seen(client), [])
      await scene.reload()
      await client.subscribe('kept')
      t.same(await scene.seen(client), ['kept x'])
    }
  },
  {
    options: ['retain_available'],
    before: 'retain_available true',
    after: 'retain_available false',
    async run({ login, reload }, t) {
      const client = await login('c')
      await reload()
      client.publish('a', 'x', { retain: true })
      t.equal((await client.next('disconnect')).reasonCode, 0x9a)
    }
  },
  {
    options: ['persistent_client_expiration'],
    before: '',
    after: 'persistent_client_expiration 1s',
    async run({ server, login, reload }, t) {
      const client = await login('c', away)
      await reload()
      const expired = once(server.broker, 'sessionExpired')
      client.destroy()
      t.match(await expired, [{ id: 'c' }])
    }
  },
  {
    options: ['sys_interval'],
    before: 'sys_interval 0',
    after: 'sys_interval 1',
    async run({ login, reload }, t) {
      const client = await login('c')
      await client.subscribe('$SYS/broker/uptime')
      await client.ping()
      t.same(client.packets, [])
      await reload()
      t.equal((await client.next('publish')).topic, '$SYS/broker/uptime')
    }
  },
  {
    options: ['global_max_clients'],
    before: '',
    after: 'global_max_clients 1',
    async run({ login, answer, reload }, t) {
      await login('first')
      await reload()
      t.equal(await answer({ clientId: 'second' }), 0x89)
    }
  },
  {
    options: ['max_connections'],
    before: 'listen',
    after: 'listen\nmax_connections 1',
    async run({ login, answer, reload }, t) {
      await login('first')
      await reload()
      t.equal(await answer({ clientId: 'second' }), 'closed')
    }
  },
  {
    options: ['accept_protocol_versions'],
    before: 'listen',
    after: 'listen\naccept_protocol_versions 5',
    async run({ login, answer, reload }, t) {
      const four = await login('four', { protocolVersion: 4 })
      await reload()
      t.equal(await answer({ clientId: 'another', protocolVersion: 4 }), 1)
      await four.ping()
    }
  },
  {
    options: ['max_qos'],
    before: 'listen',
    after: 'listen\nmax_qos 1',
    async run({ login, reload }, t) {
      const [client, other] = [await login('c'), await login('other')]
      await reload()
      t.match(await other.subscribe('a', 2), { granted: [1] })
      client.publish('a', 'x', { qos: 2, messageId: 1 })
      t.equal((await client.next('disconnect')).reasonCode, 0x9b)
    }
  },
  {
    options: ['max_topic_alias'],
    before: 'listen\nmax_topic_alias 3',
    after: 'listen\nmax_topic_alias 1',
    async run({ login, reload }, t) {
      const old = await login('old')
      await reload()
      old.publish('a', 'x', { properties: { topicAlias: 3 } })
      await old.ping()
      const other = await login('other')
      other.publish('a', 'x', { properties: { topicAlias: 3 } })
      t.equal((await other.next('disconnect')).reasonCode, 0x94)
    }
  },
  {
    options: ['max_topic_alias_broker'],
    before: 'listen\nmax_topic_alias_broker 2',
    after: 'listen\nmax_topic_alias_broker 0',
    async run({ login, publish, reload }, t) {
      const takes = { properties: { topicAliasMaximum: 5 } }
      const old = await login('old', takes)
      await old.subscribe('a')
      await reload()
      const other = await login('other', takes)
      await other.subscribe('a')
      await publish('a')
      t.equal((await old.next('publish')).properties?.topicAlias, 1)
      t.equal((await other.next('publish')).properties?.topicAlias, undefined)
    }
  },
  {
    options: ['mount_point'],
    before: 'listen',
    after: 'listen\nmount_point m/',
    async run(scene, t) {
      const client = await scene.login('c')
      for (const filter of ['a', 'm/#']) await client.subscribe(filter)
      await scene.reload()
      client.publish('a', '1')
      t.same(await textOf(client), 'a 1', 'by m/#, and its clients never see the prefix')
      await client.subscribe('a')
      client.publish('a', '2')
      t.same([await textOf(client), await textOf(client)], ['a 2', 'a 2'])
      await client.ping()
      t.same(client.packets, [])
    }
  },
  {
    options: ['use_username_as_clientid'],
    before: 'listen',
    after: 'listen\nuse_username_as_clientid true',
    async run({ server, login, reload }, t) {
      await reload()
      await login('c', { username: 'ann' })
      t.same(Object.keys(server.broker.clients), ['ann'])
    }
  },
  {
    options: ['allow_zero_length_clientid'],
    before: '',
    after: 'allow_zero_length_clientid false',
    async run({ answer, reload }, t) {
      t.equal(await answer({ clientId: '', protocolVersion: 4 }), 0)
      await reload()
      t.equal(await answer({ clientId: '', protocolVersion: 4 }), 2)
    }
  },
  ...(['auto_id_prefix', 'listener_auto_id_prefix'] as const).map(name => ({
    options: [name],
    before: 'listen',
    after: name === 'auto_id_prefix' ? `${name} own-\nlisten` : `listen\n${name} own-`,
    async run({ server, login, reload }: Scene, t: Test) {
      await reload()
      await login('')
      t.match(Object.keys(server.broker.clients), [/^own-/])
    }
  }))
]

async function textOf(client: MqttClient): Promise<string> {
  const { topic, payload } = await client.next('publish')
  return `${topic} ${payload}`
}

for (const { options: [name = ''] = [], before, after, run } of rows) {
  t.test(`${name}: ${before || 'nothing'} becomes ${after}`.replaceAll('\n', ', '), async t => {
    const dir = t.testdir({ acl: 'topic readwrite #\n' })
    const port = await freePort()
    const write = (file: string, text: string) => writeFileSync(join(dir, file), text)
    const conf = (text: string) => {
      const lines = /^listen$/m.test(text) ? text : `${text}\nlisten`
      const written = lines.replace(/^listen$/m, `listener ${port} 127.0.0.1`).replace('acl_file acl', `acl_file ${join(dir, 'acl')}`)
      write('m.conf', `allow_anonymous true\n${written}\n`)
    }
    conf(before)
    const server = await createServer({ config: join(dir, 'm.conf'), verbosity: 'quiet' })
    t.teardown(() => server.close())
    const dial = async (version: 3 | 4 | 5 = 5) => {
      const client = await connectMqtt(port, version)
      t.teardown(() => client.destroy())
      return client
    }
    const answer: Scene['answer'] = async options => {
      const connack = await (await dial(options.protocolVersion)).connect(options).catch(() => undefined)
      return connack === undefined ? 'closed' : options.protocolVersion === 4 ? connack.returnCode : connack.reasonCode
    }
    const login: Scene['login'] = async (clientId, options = {}) => {
      const client = await dial(options.protocolVersion)
      const { returnCode = 0, reasonCode = 0 } = await client.connect({ clientId, ...options })
      t.equal(returnCode + reasonCode, 0, `${clientId} is in`)
      return client
    }
    const publish: Scene['publish'] = async (topic, payload = 'x') => {
      const client = await dial()
      await client.connect({ clientId: 'publisher' })
      client.publish(topic, payload, { qos: 1, messageId: 1 })
      await client.next('puback')
      client.destroy()
    }
    await run(
      {
        server,
        login,
        answer,
        publish,
        async seen(reader) {
          await publish('b')
          const texts: string[] = []
          for (let text = await textOf(reader); text !== 'b x'; text = await textOf(reader)) texts.push(text)
          return texts
        },
        write,
        async reload() {
          conf(after)
          t.ok((await server.reload()).applied)
        }
      },
      t
    )
  })
}

/** Where the others are tested. */
const elsewhere: Readonly<Record<string, readonly string[]>> = {
  'test/server.test.ts': [
    'clientid_prefixes',
    'global_max_connections',
    'max_keepalive',
    'max_packet_size',
    'message_size_limit',
    'set_tcp_nodelay'
  ],
  'test/scenarios/psk.test.ts': ['psk_file', 'psk_hint'],
  'test/scenarios/live-revocation.test.ts': ['disable_client_cert_date_checks'],
  'test/scenarios/reload-listeners.test.ts': ['listener', 'port', 'bind_address', 'socket_domain'],
  'test/broker/exchange.test.ts': ['retain_expiry_interval'],
  'test/scenarios/back-and-forth.test.ts': ['autosave_interval', 'autosave_on_changes'],
  'test/scenarios/reload.test.ts': [
    'acl_file',
    'allow_anonymous',
    'cafile',
    'certfile',
    'crlfile',
    'keyfile',
    'password_file',
    'per_listener_settings'
  ]
}

/** Of TLS and of the log, which are built anew as a whole. */
const wholes =
  /^(log_|connection_messages$|include_dir$|capath$|ciphers|tls_version$|require_certificate$|use_(identity|subject)_as_username$|listener_allow_anonymous$)/

t.test('every option that a reload is to change is here, or its test has another place', async t => {
  const tested = new Set([...rows.flatMap(row => row.options), ...Object.values(elsewhere).flat()])
  const missing = Object.entries(options).flatMap(([name, { reload, support }]) =>
    reload === 'live' && support === 'honoured' && !tested.has(name) && !wholes.test(name) ? [name] : []
  )
  t.same(missing, [])
})
