// `#!acl_subscribe_check`: what a client reads in its SUBACK, and a person in the log, when nothing of a filter could ever be delivered.

import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { createServer } from '../../dist/index.js'
import { type BareBroker, type BareOptions, startBareBroker } from '../helpers/bare-broker.js'
import { freePort } from '../helpers/command.js'
import { type ConnectOptions, connectMqtt, type MqttClient } from '../helpers/mqtt.js'

const acl = 'topic write #\ntopic read open/#\ntopic deny open/secret/#\npattern read by/%c/#'
const strict: BareOptions = { acl, delivery: { aclSubscribeCheck: 'strict' } }

async function login({ connect }: BareBroker, protocolVersion: 3 | 4 | 5 = 4, options: ConnectOptions = {}): Promise<MqttClient> {
  const client = await connect(protocolVersion)
  await client.connect({ clientId: 'reader', ...options })
  client.takeBytes()
  return client
}

async function codes(client: MqttClient, ...filters: readonly string[]): Promise<readonly unknown[]> {
  const subscriptions = filters.map(topic => ({ topic, qos: 1, nl: false, rap: false, rh: 0 }) as const)
  client.send({ cmd: 'subscribe', messageId: 7, subscriptions })
  return (await client.next('suback')).granted
}

const rows: readonly [filter: string, code: number][] = [
  ['#', 1],
  ['+', 1],
  ['+/+', 1],
  ['open', 1],
  ['open/#', 1],
  ['open/secret', 0x80],
  ['open/secret/#', 0x80],
  ['+/secret/x', 0x80],
  ['+/+/x', 1],
  ['closed/#', 0x80],
  ['by/reader/x', 1],
  ['by/+/x', 1],
  ['by/other/#', 0x80],
  ['$SYS/#', 0x80],
  ['$share/g/open/+', 1],
  ['$share/g/closed', 0x80]
]

t.test('strict: a filter of which nothing can be delivered is refused, all others are granted', async t => {
  const bare = await startBareBroker(t, strict)
  const client = await login(bare)
  t.same(
    await codes(client, ...rows.map(([filter]) => filter)),
    rows.map(([, code]) => code)
  )
  for (const [filter, code] of rows) t.same(await codes(client, filter), [code], filter)
  t.same(
    bare.log.lines.filter(line => line.startsWith('Denied SUBSCRIBE')),
    [
      `Denied SUBSCRIBE from reader ('open/secret'): no username, deny rule "topic deny open/secret/#" at acl:3.`,
      `Denied SUBSCRIBE from reader ('open/secret/#'): no username, deny rule "topic deny open/secret/#" at acl:3.`,
      `Denied SUBSCRIBE from reader ('+/secret/x'): no username, deny rule "topic deny open/secret/#" at acl:3.`,
      "Denied SUBSCRIBE from reader ('closed/#'): no username, no rule allows it.",
      "Denied SUBSCRIBE from reader ('by/other/#'): no username, no rule allows it.",
      "Denied SUBSCRIBE from reader ('$SYS/#'): no username, no rule allows it.",
      "Denied SUBSCRIBE from reader ('$share/g/closed'): no username, no rule allows it."
    ],
    'each once, though each was asked twice'
  )
  t.match(bare.broker.aclCounts.denied, [
    { why: 'no rule allows it', subscriptions: 8 },
    { why: 'deny rule "topic deny open/secret/#" at acl:3', subscriptions: 6 }
  ])
})

t.test('strict: the refused subscription is none, also when the right comes later', async t => {
  const bare = await startBareBroker(t, strict)
  const client = await login(bare)
  t.same(await codes(client, 'closed/#', 'open/#'), [0x80, 1])
  bare.reload({ acl: 'topic readwrite #' })
  const writer = await login(bare, 4, { clientId: 'writer' })
  writer.publish('closed/a', 'x')
  writer.publish('open/a', 'x')
  t.equal((await client.next('publish')).topic, 'open/a')
  t.same(await codes(client, 'closed/#'), [1], 'now it can be had')
})

t.test('strict: an earlier subscription stays when the right is gone and the client asks again', async t => {
  const bare = await startBareBroker(t, strict)
  const client = await login(bare)
  t.same(await codes(client, 'open/#'), [1])
  bare.reload({ acl: 'topic write #' })
  t.same(await codes(client, 'open/#'), [0x80])
  bare.reload({ acl: 'topic readwrite #' })
  const writer = await login(bare, 4, { clientId: 'writer' })
  writer.publish('open/a', 'x')
  t.equal((await client.next('publish')).topic, 'open/a')
})

t.test('MQTT 5 is told 0x87 and the reason, which says nothing of the file', async t => {
  const bare = await startBareBroker(t, strict)
  const client = await login(bare, 5)
  t.same(await codes(client, 'open/#', 'open/secret/#', 'closed'), [1, 0x87, 0x87])
  const reason = Buffer.from("nothing that matches 'open/secret/#' may be delivered to this client")
  const property = Buffer.concat([Buffer.of(0x1f, 0, reason.length), reason]).toString('hex')
  const length = (2 + 1 + property.length / 2 + 3).toString(16)
  t.equal(client.takeBytes(), `90${length}0007${(property.length / 2).toString(16)}${property}018787`)
})

t.test('MQTT 5: no reason where the client wants none, or could not take it', async t => {
  const bare = await startBareBroker(t, strict)
  for (const properties of [{ requestProblemInformation: false }, { maximumPacketSize: 40 }]) {
    const client = await login(bare, 5, { properties })
    t.same(await codes(client, 'closed'), [0x87])
    t.equal(client.takeBytes(), '900400070087')
  }
})

t.test('MQTT 3.1 has no word for it: its client reads the QoS it asked for, and gets nothing', async t => {
  const bare = await startBareBroker(t, strict)
  const client = await login(bare, 3)
  t.same(await codes(client, 'closed', 'open/#'), [1, 1])
  bare.reload({ acl: 'topic readwrite #' })
  client.publish('closed', 'x')
  client.publish('open/a', 'x')
  t.equal((await client.next('publish')).topic, 'open/a')
})

t.test('warn: it is granted, as by Mosquitto, and said once for each client and filter', async t => {
  const bare = await startBareBroker(t, { acl })
  const client = await login(bare)
  for (let i = 0; i < 3; i++) t.same(await codes(client, 'closed/#', 'open/#'), [1, 1])
  const other = await login(bare, 5, { clientId: 'other' })
  t.same(await codes(other, 'closed/#'), [1])
  const warning = (clientId: string) =>
    `Warning: ${clientId} subscribes to 'closed/#', of which nothing can be delivered to it: no username, no rule allows it.`
  t.same(
    bare.log.lines.filter(line => line.startsWith('Warning')),
    [warning('reader'), warning('other')]
  )
})

t.test('off: nothing is said and nothing counted', async t => {
  const bare = await startBareBroker(t, { acl, delivery: { aclSubscribeCheck: 'off' } })
  const client = await login(bare)
  t.same(await codes(client, 'closed/#'), [1])
  t.notOk(bare.log.lines.some(line => line.includes('closed/#') && !line.startsWith('reader 1 ')))
  t.same(bare.broker.aclCounts.denied, [])
})

t.test('behind a mount point the whole topic counts', async t => {
  const bare = await startBareBroker(t, { ...strict, listener: { mountPoint: 'open/' } })
  const client = await login(bare)
  t.same(await codes(client, '#', 'a', 'secret/#', '$share/g/secret/a', '$share/g/a'), [1, 1, 0x80, 0x80, 1])
})

t.test('a log is not flooded by a client that subscribes to thousands of filters that are of no use', async t => {
  const bare = await startBareBroker(t, strict)
  const client = await login(bare)
  const filters = Array.from({ length: 2000 }, (_, i) => `closed/${i}`)
  t.same(new Set(await codes(client, ...filters)), new Set([0x80]))
  t.equal(bare.log.lines.filter(line => line.startsWith('Denied SUBSCRIBE')).length, 60)
  t.match(bare.broker.aclCounts.denied, [{ subscriptions: 2000 }])
})

t.test('a reload changes the check for clients that are connected', async t => {
  const port = await freePort()
  const dir = t.testdir({ acl: 'topic read open/#' })
  const file = join(dir, 'm.conf')
  const write = (check: string) => writeFileSync(file, `listener ${port} 127.0.0.1\nallow_anonymous true\nacl_file ${dir}/acl\n${check}\n`)
  write('')
  const server = await createServer({ config: file, verbosity: 'quiet' })
  t.teardown(() => server.close())
  const client = await connectMqtt(port)
  await client.connect()
  t.same(await codes(client, 'closed'), [1])
  write('#!acl_subscribe_check strict')
  await server.reload()
  t.same(await codes(client, 'closed'), [0x80])
  t.match(server.aclCounts.denied, [{ subscriptions: 2 }])
  client.destroy()
})
