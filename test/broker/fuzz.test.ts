// Mutated packets on a live server in this process, while two well-behaved clients talk to each other the whole time: not one of their
// messages is lost, late or out of order, and at the end the server has the connections and the memory it had at the beginning. What each
// attack does to the running command is in hostile.test.ts. MOSQUITERO_SEED repeats a run, MOSQUITERO_LONG=1 makes it a hundred times longer.

import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { connect as connectTcp, type Socket } from 'node:net'
import { join } from 'node:path'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import t from 'tap'
import { createServer } from '../../dist/server.js'
import { freePort } from '../helpers/command.js'
import { MqttClient } from '../helpers/mqtt.js'
import {
  below,
  connect,
  field,
  packet,
  pick,
  ping,
  publish,
  pubrel,
  type Random,
  randomBytes,
  seededRandom,
  subscribe,
  uint16,
  unsubscribe,
  type Version
} from '../helpers/raw-mqtt.js'
import { until } from '../helpers/until.js'

const long = process.env.MOSQUITERO_LONG === '1'
const connections = long ? 200_000 : 2000
const atOnce = 40
const seed = Number(process.env.MOSQUITERO_SEED ?? Date.now() % 1_000_000_007)
/** Of the heap after a collection, in MB. What 2,000 connections would leave behind at 5 KB each. */
const memoryGrowth = 10

setFlagsFromString('--expose-gc')
const collectGarbage: () => void = runInNewContext('gc')

/** What a client says in one connection, each piece a packet. Clean sessions, no retained message: nothing of it may stay. */
function conversation(version: Version, random: Random): Buffer[] {
  const clientId = `fuzz-${below(random, 50)}`
  const id = 1 + below(random, 30)
  const properties =
    version === 5 ? { properties: Buffer.from(pick(random, ['', '0101', '230001', '02000000ff', '2600016b000176']), 'hex') } : {}
  const will = random() < 0.3 ? { will: { topic: 'fuzz/will', payload: 'gone', qos: below(random, 3) } } : {}
  const talk: readonly [Buffer, ...Buffer[]] = [
    ping,
    subscribe(['fuzz/+', 'fuzz/#'], version, below(random, 3)),
    subscribe(['$share/g/fuzz/x'], version, 1),
    unsubscribe(['fuzz/+', 'nothing'], version),
    publish('fuzz/x', { version, ...properties }),
    publish('fuzz/x', { version, qos: 1, messageId: id, ...properties }),
    publish('fuzz/y', { version, qos: 2, messageId: id, payload: 'x'.repeat(below(random, 300)), ...properties }),
    pubrel(id),
    packet(pick(random, [0x40, 0x50, 0x70]), uint16(id)),
    packet(0x82, uint16(id), ...(version === 5 ? [Buffer.from('020b05', 'hex')] : []), field('fuzz/z'), Buffer.from([below(random, 256)])),
    packet(0xf0, randomBytes(random, below(random, 4))),
    packet(0xe0, ...(version === 5 ? [randomBytes(random, below(random, 3))] : []))
  ]
  return [
    connect({ version, clientId: random() < 0.1 ? '' : clientId, keepalive: 60, ...will }),
    ...Array.from({ length: 3 + below(random, 8) }, () => pick(random, talk))
  ]
}

function mutate(bytes: Buffer, random: Random): Buffer {
  const at = below(random, bytes.length)
  const copy = Buffer.from(bytes)
  switch (below(random, 7)) {
    case 0:
      copy[at] = below(random, 256)
      return copy
    case 1:
      copy[at] = (copy[at] ?? 0) ^ (1 << below(random, 8))
      return copy
    case 2:
      return copy.subarray(0, at)
    case 3:
      return Buffer.concat([copy.subarray(0, at), randomBytes(random, 1 + below(random, 8)), copy.subarray(at)])
    case 4:
      return Buffer.concat([copy.subarray(0, at), copy.subarray(at + 1 + below(random, 4))])
    case 5:
      return Buffer.concat([copy, copy.subarray(at)])
    default:
      copy.fill(pick(random, [0, 0xff, 0x80, 0x7f]), at, Math.min(bytes.length, at + 1 + below(random, 4)))
      return copy
  }
}

/** One connection: packets of which some are mutated, cut anywhere; then a last good packet, and the end, in one of three ways. */
async function fuzz(port: number, random: Random): Promise<void> {
  const packets = conversation(pick(random, [3, 4, 5]), random).map((bytes, i) =>
    random() < (i === 0 ? 0.1 : 0.3) ? mutate(bytes, random) : bytes
  )
  const all = Buffer.concat(packets)
  const socket: Socket = connectTcp({ port, host: '127.0.0.1', noDelay: true })
  socket.on('error', () => {})
  const closed = new Promise<void>(resolve => socket.once('close', () => resolve()))
  socket.resume()
  await Promise.race([once(socket, 'connect').catch(() => {}), closed])
  for (let from = 0; from < all.length && !socket.destroyed; ) {
    const to = from + 1 + below(random, random() < 0.5 ? 8 : all.length)
    const written = new Promise<void>(resolve => socket.write(all.subarray(from, to), () => resolve()))
    await Promise.race([written, closed])
    from = to
  }
  const ending = random()
  if (ending < 0.4) socket.end()
  else if (ending < 0.7) socket.resetAndDestroy()
  else socket.destroy()
  await closed
}

const qualities = [0, 1, 2] as const

/** Publishes one message after the other, of every QoS, and waits for each at the other client: the numbers come in order and all of them. */
async function talk(port: number, version: 4 | 5, ended: () => boolean): Promise<number> {
  const [publisher, subscriber] = [await mqtt(port, version), await mqtt(port, version)]
  await publisher.connect({ clientId: `good-publisher-${version}` })
  await subscriber.connect({ clientId: `good-subscriber-${version}` })
  const topic = `good/${version}`
  await subscriber.subscribe(topic, 2)
  let number = 0
  while (!ended()) {
    const qos = qualities[number++ % 3] ?? 0
    const messageId = 1 + (number % 1000)
    publisher.publish(topic, `${number}`, { qos, messageId })
    if (qos === 1) await publisher.next('puback')
    if (qos === 2) {
      await publisher.next('pubrec')
      publisher.send({ cmd: 'pubrel', messageId })
      await publisher.next('pubcomp')
    }
    const got = await subscriber.next('publish')
    if (String(got.payload) !== `${number}` || got.qos !== qos)
      throw new Error(`expected ${number} of QoS ${qos}, got ${got.payload} of QoS ${got.qos}`)
    if (qos === 1) subscriber.send({ cmd: 'puback', messageId: got.messageId ?? 0 })
    if (qos === 2) {
      subscriber.send({ cmd: 'pubrec', messageId: got.messageId ?? 0 })
      await subscriber.next('pubrel')
      subscriber.send({ cmd: 'pubcomp', messageId: got.messageId ?? 0 })
    }
    await subscriber.ping()
    for (const client of [publisher, subscriber]) client.takeBytes()
  }
  publisher.destroy()
  subscriber.destroy()
  return number
}

async function mqtt(port: number, version: 4 | 5): Promise<MqttClient> {
  const socket = connectTcp({ port, host: '127.0.0.1', noDelay: true })
  await once(socket, 'connect')
  return new MqttClient(socket, version)
}

t.test('mutated packets disturb nobody else and leave nothing behind', { timeout: long ? 1_800_000 : 60_000 }, async t => {
  t.comment(`MOSQUITERO_SEED=${seed}`)
  const [file, port] = [join(t.testdir(), 'm.conf'), await freePort()]
  writeFileSync(file, `listener ${port} 127.0.0.1\nallow_anonymous true\nset_tcp_nodelay true\n`)
  const server = await createServer({ config: file, verbosity: 'quiet' })
  t.teardown(() => server.close())
  const faults: unknown[] = []
  const keep = (error: unknown) => faults.push(error)
  process.on('unhandledRejection', keep)
  t.teardown(() => process.off('unhandledRejection', keep))
  const clients = () => Object.keys(server.broker.clients).length
  const round = async (count: number, first: number) => {
    let next = 0
    const one = async () => {
      while (next < count) await fuzz(port, seededRandom(first + next++))
    }
    await Promise.all(Array.from({ length: atOnce }, one))
    await until(() => clients() === 4)
  }
  // A mutation can make a client persistent, or a message retained: what was asked for stays, and is no leak.
  const tidy = async () => {
    for await (const { clientId } of server.admin.clients({ connected: false })) await server.admin.kick(clientId, { forget: true })
    await server.admin.clearRetained('#')
  }
  const memory = async () => {
    await tidy()
    collectGarbage()
    return process.memoryUsage().heapUsed / 2 ** 20
  }

  let over = false
  const talks = Promise.all(([4, 5] as const).map(version => talk(port, version, () => over)))
  // It is said at once, not only at the end, when they are disturbed.
  const disturbed = talks.then(() => {})
  try {
    await Promise.race([until(() => clients() === 4), disturbed])
    // What is compiled, cached and allocated once is so after a first round.
    await Promise.race([round(connections / 4, seed + connections), disturbed])
    const before = await memory()
    await Promise.race([round(connections, seed), disturbed])
    const grown = (await memory()) - before
    t.ok(grown < memoryGrowth, `the heap grew by ${grown.toFixed(1)} MB`)
  } finally {
    over = true
  }
  const numbers = await talks
  for (const number of numbers) t.ok(number > 100, `${number} messages of the well-behaved came through meanwhile`)
  await until(() => clients() === 0)
  t.same(faults, [])
})
