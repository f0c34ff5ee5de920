// The running broker is killed at random moments under load, and started again: what was acknowledged is there, QoS 2 comes once, order and
// packet identifiers are kept. MOSQUITERO_SEED=N repeats a round of choices; the moments themselves are the machine's.

import { readdirSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import type { Packet } from 'mqtt-packet'
import t, { type Test } from 'tap'
import { DiskStore } from '../../dist/store/disk.js'
import { Level } from '../../dist/store/level.js'
import { recordLog, startBareBroker } from '../helpers/bare-broker.js'
import { freePort, mosquitero, type Running, startBroker, userLine } from '../helpers/command.js'
import { FieldClient, FieldPublisher, FieldSubscriber, FieldVisitor, type Sendings } from '../helpers/field-client.js'
import { type ConnectOptions, connectMqtt, type MqttClient } from '../helpers/mqtt.js'
import { below, pick, type Random, seededRandom } from '../helpers/raw-mqtt.js'
import { until } from '../helpers/until.js'

const rounds = process.env.MOSQUITERO_LONG === '1' ? 50 : 5
const seed = Number(process.env.MOSQUITERO_SEED ?? Math.floor(Math.random() * 1e9))
/** Messages that each publisher may begin in a round. */
const budget = 400

/** A broker that can be killed and started again with the same store and port. */
class Mortal {
  readonly port: number
  readonly #test: Test
  readonly #file: string
  #running: Running | undefined

  private constructor(test: Test, file: string, port: number) {
    this.#test = test
    this.#file = file
    this.port = port
  }

  static async start(t: Test, options = ''): Promise<Mortal> {
    const port = await freePort()
    const dir = t.testdir()
    const file = join(dir, 'm.conf')
    const lines = ['persistence true', `persistence_location ${dir}`, 'allow_anonymous true', 'max_queued_messages 0', options]
    writeFileSync(file, `listener ${port} 127.0.0.1\n${lines.join('\n')}\n${userLine}`)
    const mortal = new Mortal(t, file, port)
    await mortal.start()
    return mortal
  }

  async start(): Promise<void> {
    this.#running = await startBroker(this.#test, ['-c', this.#file])
  }

  /** What lies where its store does. */
  stored(): string[] {
    return readdirSync(dirname(this.#file)).filter(name => name !== 'm.conf')
  }

  get running(): Running {
    if (this.#running === undefined) throw new Error('not started')
    return this.#running
  }

  async kill(): Promise<void> {
    await this.running.stop('SIGKILL')
  }

  /** Killed while it starts, as often as told; then left to run. */
  async startThroughCrashes(count: number, random: Random): Promise<void> {
    for (let i = 0; i < count; i++) {
      const starting = mosquitero(this.#test, ['-c', this.#file])
      await pause(100 + below(random, 300))
      await starting.stop('SIGKILL')
    }
    await this.start()
  }
}

async function newClient(port: number, clientId: string, version: 4 | 5 = 5): Promise<MqttClient> {
  const client = await connectMqtt(port, version)
  await client.connect({ clientId, clean: true })
  return client
}

/** What lies on the retained topics, as a new client is told. */
async function retainedNow(port: number): Promise<Map<string, string>> {
  const client = await newClient(port, 'looks')
  await client.subscribe('kept/#')
  for (let i = 1; i <= 3; i++) {
    client.send({ cmd: 'pingreq' })
    await until(() => client.packets.filter(({ cmd }) => cmd === 'pingresp').length === i)
  }
  const found = new Map<string, string>()
  for (const packet of client.packets) if (packet.cmd === 'publish') found.set(packet.topic, String(packet.payload))
  client.destroy()
  return found
}

t.test(`killed ${rounds} times under load: nothing acknowledged is lost, QoS 2 comes once, order is kept (seed ${seed})`, async t => {
  t.comment(`MOSQUITERO_SEED=${seed}`)
  const random = seededRandom(seed)
  const faults: string[] = []
  const sendings: Sendings = new Map()
  const mortal = await Mortal.start(t)
  const { port } = mortal
  const optionsOf = (clientId: string, i: number) => ({ clientId, version: i % 2 === 0 ? 4 : 5, faults, random }) as const
  const publishers = Array.from({ length: 4 }, (_, i) => new FieldPublisher(optionsOf(`p${i}`, i), sendings))
  const subscribers = Array.from({ length: 6 }, (_, i) => {
    const qos = i % 3 === 0 ? 1 : 2
    return new FieldSubscriber(optionsOf(`s${i}`, i), qos, pick(random, [0, 0, 5, 30]), sendings)
  })
  const visitors = Array.from({ length: 3 }, (_, i) => new FieldVisitor(optionsOf(`v${i}`, i)))
  const watcher = new WillWatcher(optionsOf('watcher', 1))
  const all: FieldClient[] = [...publishers, ...subscribers, ...visitors, watcher]
  t.teardown(() => Promise.all(all.map(client => client.drop())))
  await watcher.connect(port)
  await Promise.all(subscribers.map(subscriber => subscriber.connect(port)))
  await until(() => watcher.isSubscribed && subscribers.every(({ isSubscribed }) => isSubscribed))

  const expectedWills: string[] = []
  for (let round = 0; round < rounds; round++) {
    await Promise.all(publishers.map(publisher => publisher.isUp || publisher.connect(port)))
    const will = `wills/${round}`
    await leaveWill(mortal, will)
    expectedWills.push(will)
    let isOver = false
    const visits = visitors.map(visitor => visitor.comeAndGo(port, () => isOver))
    for (const publisher of publishers) {
      publisher.budget = budget
      publisher.fill()
    }
    const flapping = flap(subscribers, port, random, () => isOver)
    await pause(below(random, 700))
    await mortal.kill()
    isOver = true
    await Promise.all([...visits, flapping])
    await Promise.all(all.map(client => client.ended()))
    await mortal.startThroughCrashes(below(random, 2), random)
    t.notMatch(mortal.running.stderr(), /damaged|Internal fault/, 'a crash is no damage')
    t.same(mortal.stored(), ['mosquitto.db.mosquitero'])
    checkRetained(t, publishers, await retainedNow(port), round)
    await watcher.connect(port)
    // Some stay away for a round.
    await Promise.all(subscribers.filter(() => below(random, 3) > 0).map(subscriber => subscriber.connect(port)))
    if (!t.same(faults, [], `round ${round}`)) return
  }

  for (const publisher of publishers) publisher.budget = 20
  for (const subscriber of subscribers) subscriber.patience = 0
  await Promise.all([...publishers, ...subscribers].map(client => client.isUp || client.connect(port)))
  for (const publisher of publishers) publisher.fill()
  await until(() => publishers.every(({ pending, budget }) => pending === 0 && budget === 0))
  const streams = publishers.flatMap(({ last }) => [...last]).filter(([stream]) => stream.startsWith('load/'))
  const missing = () =>
    subscribers.flatMap(({ clientId, last }) =>
      streams
        .filter(([stream, count]) => last.get(stream) !== count)
        .map(([stream, count]) => `${clientId}: ${stream} ${last.get(stream)}/${count}`)
    )
  await until(() => faults.length > 0 || missing().length === 0).catch(() => {})
  t.same(missing(), [])
  await until(() => expectedWills.every(topic => watcher.topics.includes(topic))).catch(() => {})
  t.same([...watcher.topics].sort(), [...expectedWills].sort(), 'each will once, and none of who came back')
  await checkVisitors(t, visitors, port)
  t.same(faults, [])
  t.comment(
    `${streams.reduce((sum, [, count]) => sum + count, 0)} messages, ${subscribers.reduce((sum, { accepted }) => sum + accepted, 0)} deliveries`
  )
})

/** Takes every will, once. */
class WillWatcher extends FieldClient {
  readonly topics: string[] = []
  isSubscribed = false
  readonly #halfDone = new Set<number>()

  protected override resumed(): void {
    if (!this.isSubscribed) this.send({ cmd: 'subscribe', messageId: 1, subscriptions: [{ topic: 'wills/#', qos: 2 }] })
  }

  protected override took(packet: Parameters<FieldClient['send']>[0]): void {
    const { messageId = 0 } = packet
    if (packet.cmd === 'suback') this.isSubscribed = true
    if (packet.cmd === 'publish') {
      if (!this.#halfDone.has(messageId)) this.topics.push(packet.topic)
      this.#halfDone.add(messageId)
      this.send({ cmd: 'pubrec', messageId })
    }
    if (packet.cmd === 'pubrel') {
      this.#halfDone.delete(messageId)
      this.send({ cmd: 'pubcomp', messageId })
    }
  }
}

// One that does not come back, and one that does: only the will of the first is sent.
async function leaveWill({ port, running }: Mortal, topic: string): Promise<void> {
  const will = (topic: string, willDelayInterval: number) =>
    ({
      clean: false,
      properties: { sessionExpiryInterval: 3600 },
      will: { topic, payload: Buffer.from('gone'), qos: 2, retain: false, properties: { willDelayInterval } }
    }) as const
  const [lost, back] = [await connectMqtt(port, 5), await connectMqtt(port, 5)]
  const names = [topic, 'wills/back'].map(name => name.replace('/', '-'))
  await lost.connect({ clientId: names[0] ?? '', ...will(topic, 2) })
  await back.connect({ clientId: names[1] ?? '', ...will('wills/back', 60) })
  for (const [i, client] of [lost, back].entries()) {
    client.destroy()
    await running.line(new RegExp(`Client ${names[i]} .*(closed|disconnected)`))
  }
  // What is acknowledged later is kept later.
  const other = await newClient(port, 'later')
  other.publish('later', 'x', { qos: 1, messageId: 1, retain: true })
  await other.next('puback')
  other.destroy()
}

/** Connections that break, and are made again. */
async function flap(subscribers: readonly FieldSubscriber[], port: number, random: Random, isOver: () => boolean): Promise<void> {
  while (!isOver()) {
    const subscriber = subscribers[below(random, subscribers.length)]
    if (subscriber?.isUp === true) await subscriber.drop()
    else await subscriber?.connect(port).catch(() => false)
    await pause(below(random, 60))
  }
}

function checkRetained(t: Test, publishers: readonly FieldPublisher[], found: ReadonlyMap<string, string>, round: number): void {
  const wrong = publishers.flatMap(({ kept }) =>
    [...kept]
      .filter(([topic, values]) => !values.includes(found.get(topic) ?? ''))
      .map(([topic, values]) => [topic, values, found.get(topic)])
  )
  t.same(wrong, [], `retained, round ${round}`)
}

async function checkVisitors(t: Test, visitors: readonly FieldVisitor[], port: number): Promise<void> {
  const sender = await newClient(port, 'sender')
  for (const visitor of visitors) {
    await visitor.connect(port)
    for (const filter of visitor.filters.keys()) {
      sender.publish(filter, 'x', { qos: 1, messageId: 1 })
      await sender.next('puback')
    }
    const states = [...visitor.filters]
    const expected = states.filter(([, state]) => state === 'subscribed').map(([filter]) => filter)
    await until(() => expected.every(filter => visitor.messages.has(filter))).catch(() => {})
    t.same(
      expected.filter(filter => !visitor.messages.has(filter)),
      [],
      `${visitor.clientId} has its subscriptions`
    )
    t.same(
      states.filter(([filter, state]) => state === 'gone' && visitor.messages.has(filter)),
      [],
      'and no others'
    )
  }
  sender.destroy()
}

for (const end of ['a crash', 'a clean stop'] as const) {
  t.test(`deadlines over ${end}: session expiry, will delay and message expiry go on where they were`, async t => {
    const mortal = await Mortal.start(t)
    const { port } = mortal
    const kept = (sessionExpiryInterval: number) => ({ clean: false, properties: { sessionExpiryInterval } })
    const open = async (clientId: string, more: ConnectOptions) => {
      const client = await connectMqtt(port, 5)
      t.teardown(() => client.destroy())
      const { sessionPresent } = await client.connect({ clientId, ...more })
      return { client, sessionPresent }
    }
    const watcher = await open('watcher', kept(3600))
    await watcher.client.subscribe('#', 1)
    watcher.client.destroy()
    const short = await open('short', kept(2))
    const long = await open('long', kept(3600))
    for (const { client } of [short, long]) client.send({ cmd: 'disconnect' })
    await Promise.all([short, long].map(({ client }) => client.closed()))
    const sender = await open('sender', { clean: true })
    const publishFor = async (topic: string, messageExpiryInterval: number, retain: boolean) => {
      sender.client.publish(topic, topic, { qos: 1, messageId: 1, retain, properties: { messageExpiryInterval } })
      await sender.client.next('puback')
    }
    const published = Date.now()
    for (const retain of [false, true]) {
      await publishFor(`short/${retain}`, 1, retain)
      await publishFor(`long/${retain}`, 60, retain)
    }
    const will = { topic: 'will', payload: Buffer.from('gone'), qos: 1, retain: false, properties: { willDelayInterval: 4 } } as const
    const mourned = await open('mourned', { ...kept(3600), will })
    const left = Date.now()
    mourned.client.destroy()
    await mortal.running.line(/Client mourned .*disconnected/)
    await publishFor('last', 60, false)
    if (end === 'a crash') await mortal.kill()
    else t.equal((await mortal.running.stop()).status, 0)
    const due = published + 2100
    await pause(due - Date.now())
    await mortal.start()
    // It ended while the broker was away, and nobody may have looked since.
    t.equal((await open('short', kept(3600))).sessionPresent, false)

    const again = await open('watcher', kept(3600))
    t.ok(again.sessionPresent)
    const found = () => again.client.packets.flatMap(packet => (packet.cmd === 'publish' ? [packet] : []))
    await until(() => found().some(({ topic }) => topic === 'will'))
    const waited = Date.now() - left
    // As with Mosquitto an orderly end sends them all.
    t.equal(waited >= 4000, end === 'a crash', `the will came after ${waited} ms`)
    const elapsed = (Date.now() - published) / 1000
    for (const retain of [false, true]) {
      const packet = found().find(({ topic }) => topic === `long/${retain}`)
      const remaining = Number(packet?.properties?.messageExpiryInterval)
      t.ok(remaining < 60 && remaining >= 59 - elapsed, `${remaining} s are left of 60 after ${elapsed} s`)
    }
    t.equal((await open('long', kept(3600))).sessionPresent, true)
    const late = await open('late', { clean: true })
    await late.client.subscribe('#', 0)
    await until(() => late.client.packets.some(({ cmd }) => cmd === 'publish'))
    t.same(
      late.client.packets.flatMap(packet => (packet.cmd === 'publish' ? [packet.topic] : [])),
      ['long/true']
    )
  })
}

/** Every write of a disk store waits while the gate is shut. */
function gatedWrites(t: Test) {
  const { write } = Level.prototype
  t.teardown(() => {
    Level.prototype.write = write
  })
  const syncs: boolean[] = []
  let gate = Promise.resolve()
  let open = () => {}
  Level.prototype.write = async function (operations, sync) {
    syncs.push(sync)
    await gate
    return write.call(this, operations, sync)
  }
  return {
    syncs,
    shut: () => {
      gate = new Promise(resolve => {
        open = resolve
      })
    },
    open: () => open()
  }
}

interface Step {
  readonly name: string
  readonly awaited: Packet['cmd']
  readonly from: MqttClient
  readonly send: Packet
}

for (const acknowledge of ['stored', 'received'] as const) {
  const early = acknowledge === 'received'
  t.test(
    `acknowledge ${acknowledge}: ${early ? 'nothing but a delivery waits for the disk' : 'all that promises something waits for its sync'}`,
    async t => {
      const writes = gatedWrites(t)
      const store = new DiskStore({ file: join(t.testdir(), 'm.db'), log: recordLog(), sync: !early })
      const { connect } = await startBareBroker(t, { store, delivery: { acknowledge } })
      const open = async (clientId: string, clean = false) => {
        const client = await connect()
        await client.connect({ clientId, clean })
        return client
      }
      const [reader, writer, passer, other] = [
        await open('reader'),
        await open('writer'),
        await open('passer', true),
        await open('other', true)
      ]
      await reader.subscribe('a', 2)
      await reader.subscribe('d', 1)
      writer.publish('a', '1', { qos: 2, messageId: 9 })
      await writer.next('pubrec')
      passer.publish('a', 'early', { qos: 2, messageId: 9 })
      await passer.next('pubrec')
      passer.send({ cmd: 'pubrel', messageId: 9 })
      await passer.next('pubcomp')
      const { messageId: delivered = 0 } = await reader.next('publish')
      const away = await open('away')
      away.destroy()
      const [fresh, resumed, cleaned] = [await connect(), await connect(), await connect()]
      const publish = { cmd: 'publish', payload: 'x', dup: false, retain: false } as const
      const steps: Step[] = [
        { name: 'PUBACK of what is queued', awaited: 'puback', from: passer, send: { ...publish, topic: 'a', qos: 1, messageId: 1 } },
        {
          name: 'PUBACK of what is retained',
          awaited: 'puback',
          from: passer,
          send: { ...publish, topic: 'b', qos: 1, messageId: 2, retain: true }
        },
        { name: 'PUBREC', awaited: 'pubrec', from: writer, send: { ...publish, topic: 'c', qos: 2, messageId: 3 } },
        { name: 'PUBCOMP', awaited: 'pubcomp', from: writer, send: { cmd: 'pubrel', messageId: 9 } },
        { name: 'PUBREL', awaited: 'pubrel', from: reader, send: { cmd: 'pubrec', messageId: delivered } },
        {
          name: 'SUBACK',
          awaited: 'suback',
          from: writer,
          send: { cmd: 'subscribe', messageId: 4, subscriptions: [{ topic: 'c', qos: 1 }] }
        },
        { name: 'UNSUBACK', awaited: 'unsuback', from: writer, send: { cmd: 'unsubscribe', messageId: 5, unsubscriptions: ['c'] } },
        { name: 'CONNACK of a new session', awaited: 'connack', from: fresh, send: connectAs('fresh', false) },
        { name: 'CONNACK of a resumed session', awaited: 'connack', from: resumed, send: connectAs('away', false) },
        { name: 'CONNACK where a session ends', awaited: 'connack', from: cleaned, send: connectAs('away', true) }
      ]
      const waits = async (receiver: MqttClient, awaited: Packet['cmd'], act: () => void) => {
        receiver.packets.splice(0)
        writes.shut()
        const before = writes.syncs.length
        act()
        await until(() => writes.syncs.length > before)
        // What it was to be sent at once has been sent.
        await other.ping()
        const isThere = () => receiver.packets.some(({ cmd }) => cmd === awaited)
        if (early && awaited !== 'publish') await until(isThere)
        const came = isThere()
        writes.open()
        await until(isThere)
        t.equal(writes.syncs[before], !early, 'synced')
        return !came
      }
      for (const { name, awaited, from, send } of steps) t.equal(await waits(from, awaited, () => from.send(send)), !early, name)
      const deliver = () => passer.publish('d', 'x', { qos: 1, messageId: 7 })
      t.equal(await waits(reader, 'publish', deliver), true, 'a delivery to a session that is kept')
    }
  )
}

function connectAs(clientId: string, clean: boolean): Packet {
  return { cmd: 'connect', protocolId: 'MQTT', protocolVersion: 4, clientId, clean, keepalive: 60 }
}
