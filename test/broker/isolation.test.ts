// What one client does or fails to do costs nobody else: who stops reading has a bounded queue, who floods is slowed down, who says nothing is
// let go. On the running command, whose memory is looked at from outside. With MOSQUITERO_LONG=1 the measurements take as long as they should.

import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { freePort, type Running, startBroker, userLine } from '../helpers/command.js'
import { dial, type LightClient } from '../helpers/light-client.js'
import { packet, ping, publish, subscribe, uint16, unsubscribe } from '../helpers/raw-mqtt.js'
import { until } from '../helpers/until.js'

const long = process.env.MOSQUITERO_LONG === '1'
const megabyte = 1_048_576

interface Target {
  readonly broker: Running
  readonly port: number
}

async function start(t: Test, lines = ''): Promise<Target> {
  const dir = t.testdir({})
  const port = await freePort()
  const conf = `listener ${port} 127.0.0.1\nallow_anonymous true\nset_tcp_nodelay true\nlog_type warning\nlog_type notice\nlog_type error\nlog_type information\n${lines}\n${userLine}`
  writeFileSync(join(dir, 'm.conf'), conf)
  return { broker: await startBroker(t, ['-c', 'm.conf'], { cwd: dir }), port }
}

/** Megabytes of the broker's process. */
function memoryOf({ child }: Running): number {
  const status = readFileSync(`/proc/${child.pid}/status`, 'utf8')
  return Number(/VmRSS:\s+(\d+)/.exec(status)?.[1]) / 1024
}

const client = async ({ port }: Target, clientId: string, options: Parameters<typeof dial>[1] = {}): Promise<LightClient> =>
  (await dial(port, options)).connect({ clientId, keepalive: 0 })

async function reader(target: Target, clientId: string, filter: string, qos = 0): Promise<LightClient> {
  const made = await client(target, clientId, { acknowledges: true })
  made.send(subscribe([filter], 4, qos))
  await made.has(9, 1)
  return made
}

async function frozen(target: Target, clientId: string, filter: string, qos = 0): Promise<LightClient> {
  const made = await reader(target, clientId, filter, qos)
  made.stream.pause()
  return made
}

/** Publishes as fast as the readers take it, for so long; how many. Nothing may be lost on the way to them. */
async function run(
  t: Test,
  writer: LightClient,
  readers: readonly LightClient[],
  payload: Buffer,
  qos: 0 | 1,
  duration: number
): Promise<number> {
  const before = readers.map(({ publishes }) => publishes)
  const acknowledged = writer.counts[4] ?? 0
  const end = performance.now() + duration
  const batch = Math.max(1, Math.min(50, Math.floor(megabyte / payload.length)))
  let count = 0
  while (performance.now() < end) {
    writer.send(...Array.from({ length: batch }, (_, i) => publish('all', { qos, messageId: i + 1, payload })))
    count += batch
    // The slowest of them is the measure.
    await Promise.all(readers.map((each, i) => each.has(3, (before[i] ?? 0) + count)))
    if (qos > 0) await writer.has(4, acknowledged + count)
  }
  const got = readers.map(({ publishes }, i) => publishes - (before[i] ?? 0))
  if (got.some(each => each !== count)) t.same(got, count, 'everybody who reads gets everything, once')
  return count
}

interface Window {
  readonly count: number
  /** Messages a second. */
  readonly rate: number
  /** Seconds of the processor, by the broker. */
  readonly used: number
}

async function measure({ broker }: Target, work: () => Promise<number>): Promise<Window> {
  const [began, before] = [performance.now(), processorOf(broker)]
  const count = await work()
  return { count, rate: (1000 * count) / (performance.now() - began), used: processorOf(broker) - before }
}

/** Seconds, in steps of ten milliseconds. */
function processorOf({ child }: Running): number {
  const fields = readFileSync(`/proc/${child.pid}/stat`, 'utf8')
    .replace(/^.*\) /, '')
    .split(' ')
  return (Number(fields[11]) + Number(fields[12])) / 100
}

interface Figures {
  readonly median: number
  readonly mean: number
  /** Microseconds of the processor for each message. */
  readonly cost: number
}

function figuresOf(windows: readonly Window[]): Figures {
  const rates = windows.map(({ rate }) => rate)
  const cost = (1e6 * sum(windows.map(({ used }) => used))) / sum(windows.map(({ count }) => count))
  return { median: median(rates), mean: sum(rates) / rates.length, cost }
}

const textOf = ({ median, mean, cost }: Figures): string =>
  `${median.toFixed(0)}/s (mean ${mean.toFixed(0)}) at ${cost.toFixed(1)} us of processor each`

const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0)

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = sorted.length >> 1
  return sorted.length % 2 === 1 ? (sorted[middle] ?? 0) : ((sorted[middle - 1] ?? 0) + (sorted[middle] ?? 0)) / 2
}

const droppingOf = ({ broker }: Target, clientId: string): number =>
  broker.stdout().concat(broker.stderr()).split(`Outgoing messages are being dropped for client ${clientId}.`).length - 1

for (const [qos, size, freezing, conf] of [
  [0, 200, 1, ''],
  [1, 200, 1, ''],
  [1, 200, 1, 'max_inflight_messages 0'],
  [0, 65_536, 1, 'max_queued_messages 200'],
  [1, 65_536, 1, 'max_inflight_messages 0\nmax_queued_messages 200'],
  [0, 200, 200, ''],
  [1, 200, 200, '']
] as const) {
  t.test(`${freezing} frozen, 20 in all or more, QoS ${qos}, ${size} bytes ${conf.replace('\n', ', ')}`, async t => {
    const target = await start(t, conf)
    const writer = await client(target, 'writer')
    const readers = await Promise.all(Array.from({ length: 19 }, (_, i) => reader(target, `reader-${i}`, 'all', qos)))
    const payload = Buffer.alloc(size, 'x')
    const publishAll = (duration: number) => run(t, writer, readers, payload, qos, duration)
    // Many short windows of both kinds in turn: runs of one kind, minutes apart, differ by more than what is to be measured.
    const rounds = (long ? 60 : 2) / (freezing === 1 ? 1 : 2)
    const length = long ? 60_000 / rounds : 150
    const alone: Window[] = []
    const together: Window[] = []
    await publishAll(long ? 10_000 : 500)
    const baseline = memoryOf(target.broker)
    let most = 0
    const watching = setInterval(() => {
      most = Math.max(most, memoryOf(target.broker))
    }, 50)
    const withoutFrozen = async () => {
      alone.push(await measure(target, () => publishAll(length)))
    }
    const withFrozen = async (round: number) => {
      const names = Array.from({ length: freezing }, (_, i) => `frozen-${round}-${i}`)
      const ice = await Promise.all(names.map(name => frozen(target, name, 'all', qos)))
      // Until the kernel takes no more for them.
      const warmUp = performance.now() + 20_000
      while (names.some(name => droppingOf(target, name) === 0) && performance.now() < warmUp) await publishAll(100)
      together.push(await measure(target, () => publishAll(length)))
      for (const name of names) if (droppingOf(target, name) !== 1) t.fail(`${name}: said once, not ${droppingOf(target, name)} times`)
      for (const each of ice) each.destroy()
      await publishAll(100)
    }
    for (let round = 0; round < rounds; round++) {
      // What drifts favours neither.
      const order = round % 2 === 0 ? [withoutFrozen, withFrozen] : [withFrozen, withoutFrozen]
      for (const each of order) await each(round)
    }
    clearInterval(watching)
    const [before, after] = [figuresOf(alone), figuresOf(together)]
    const stays = after.median / before.median
    const pairs = median(together.map(({ rate }, i) => rate / (alone[i]?.rate ?? 0)))
    t.comment(`alone ${textOf(before)}; together ${textOf(after)}; medians ${stays.toFixed(3)}, median of pairs ${pairs.toFixed(3)}`)
    t.comment(`${baseline.toFixed(0)} MB before, ${most.toFixed(0)} MB at most`)
    if (long && freezing === 1) {
      t.ok(stays >= 0.95, `the throughput stays: ${stays}`)
      // The frozen one is a receiver too, and one of twenty.
      t.ok(after.cost <= before.cost * 1.05, `so does what a message costs: ${before.cost}, ${after.cost}`)
    }
    t.ok(most < baseline + 150, `memory: ${baseline} MB before, ${most} MB`)
  })
}

for (const qos of [0, 1] as const) {
  t.test(`one reader of A is frozen, QoS ${qos}: publishers of A and everybody on B notice nothing`, async t => {
    const most = 100
    const target = await start(t, `max_queued_messages ${most}\nsys_interval 1`)
    const gauge = await watchGauge(target, '$SYS/broker/packet/out/count')
    const ice = await frozen(target, 'frozen', 'a', qos)
    const seen: number[] = []
    const readerB = await client(target, 'reader-b', { acknowledges: true, onPublish: (_topic, payload) => seen.push(Number(payload)) })
    readerB.send(subscribe(['b'], 4, qos))
    await readerB.has(9, 1)
    const [onA, onB] = [await client(target, 'on-a'), await client(target, 'on-b')]
    const payload = Buffer.alloc(4096, 'x')
    let [sentA, sentB, latest] = [0, 0, 0]
    const end = performance.now() + (long ? 20_000 : 1500)
    const batch = 20
    while (performance.now() < end || (droppingOf(target, 'frozen') === 0 && performance.now() < end + 20_000)) {
      onA.send(...Array.from({ length: batch }, (_, i) => publish('a', { qos: 1, messageId: i + 1, payload })))
      onB.send(...Array.from({ length: batch }, (_, i) => publish('b', { qos, messageId: i + 1, payload: String(sentB + i) })))
      sentA += batch
      sentB += batch
      const began = performance.now()
      await Promise.all([onA.has(4, sentA), readerB.has(3, sentB), ...(qos > 0 ? [onB.has(4, sentB)] : [])])
      latest = Math.max(latest, performance.now() - began)
    }
    t.equal(onA.counts[4], sentA, 'each publisher of A gets its acknowledgements')
    t.same(
      seen,
      Array.from({ length: sentB }, (_, i) => i),
      'B gets everything, once and in order'
    )
    t.ok(latest < 500, `no round takes long: ${latest} ms`)
    t.equal(droppingOf(target, 'frozen'), 1, 'said once')
    // Nobody else has anything to wait for by now.
    const waiting = await gauge.next()
    t.ok(waiting <= most && (qos > 0 || waiting > 0), `${waiting} packets wait for it`)
    ice.stream.resume()
    await ice.ping()
    await settled(ice)
    t.ok(ice.publishes < sentA, `${ice.publishes} of ${sentA} came`)
    if (qos === 1) t.ok(ice.publishes <= most + 20, 'what was queued, and the window')
    onA.send(publish('a', { qos: 1, payload: 'after' }))
    await onA.has(4, sentA + 1)
    const before = ice.publishes
    await ice.ping()
    t.ok(ice.publishes >= before && !ice.isClosed, 'it goes on')
    for (const each of [ice, readerB, onA, onB, gauge.client]) each.destroy()
  })
}

/** Until a PINGRESP comes with no message before it. */
async function settled(reading: LightClient): Promise<void> {
  for (let before = -1; before !== reading.publishes; ) {
    before = reading.publishes
    await reading.ping()
  }
}

/** A number that the broker tells of itself. */
async function watchGauge(target: Target, topic: string): Promise<{ client: LightClient; next(): Promise<number> }> {
  let value = Number.NaN
  let rounds = 0
  const made = await client(target, 'gauge', {
    onPublish: (name, payload) => {
      if (name.toString() === topic) value = Number(payload)
      else rounds += 1
    }
  })
  made.send(subscribe([topic, '$SYS/broker/uptime'], 4, 0))
  await made.has(9, 1)
  return {
    client: made,
    // It is told again only when it is another one; the uptime is another one each time.
    next: async () => {
      const before = rounds
      await until(() => rounds >= before + 2)
      return value
    }
  }
}

t.test('one filter five thousand times, by a client that hardly reads, while ten thousand retained messages match', async t => {
  const target = await start(t)
  const neighbour = await client(target, 'neighbour')
  const [retained, asked] = [10_000, 5000]
  for (let i = 0; i < retained; i += 100) {
    neighbour.send(...Array.from({ length: 100 }, (_, n) => publish(`kept/${i + n}`, { retain: true, payload: 'y'.repeat(100) })))
    await neighbour.ping()
  }
  const baseline = memoryOf(target.broker)
  const slow = await client(target, 'slow')
  slow.stream.pause()
  slow.send(...Array.from({ length: asked }, () => subscribe(['kept/#'], 4, 0)))
  // A little now and then.
  let isSlow = true
  const reading = setInterval(() => {
    slow.stream.resume()
    setImmediate(() => isSlow && slow.stream.pause())
  }, 5)
  let [most, latest, pings] = [0, 0, 0]
  const end = performance.now() + (long ? 20_000 : 1500)
  while (performance.now() < end) {
    const sent = performance.now()
    await neighbour.ping()
    latest = Math.max(latest, performance.now() - sent)
    most = Math.max(most, memoryOf(target.broker))
    pings += 1
    await pause(1)
  }
  clearInterval(reading)
  t.ok(pings > 20 && latest < 500, `${pings} pings, the latest after ${latest} ms`)
  t.ok(most < baseline + 100, `memory: ${baseline} MB before, ${most} MB`)
  isSlow = false
  slow.stream.resume()
  await slow.has(9, asked)
  await settled(slow)
  t.equal(slow.counts[9], asked, 'each is answered')
  t.equal(slow.publishes % retained, 0, 'all of them come each time')
  // Those that come behind the last answer are owed to all that were asked before [MQTT-3.8.4-3].
  const times = slow.publishes / retained
  t.ok(times >= 1 && times < asked / 100, `${times} times, not ${asked}`)
  t.comment(`${pings} pings, the latest after ${latest.toFixed(0)} ms; ${baseline.toFixed(0)} MB before, ${most.toFixed(0)} MB at most`)
  slow.destroy()
  neighbour.destroy()
})

const times = (count: number, make: (i: number) => Buffer): Buffer => Buffer.concat(Array.from({ length: count }, (_, i) => make(i)))

/** What floods, in one go of about a hundred kilobytes. */
const floods: Readonly<Record<string, Buffer>> = {
  'tiny QoS 0': times(10_000, () => publish('t', { payload: '' })),
  'QoS 1 whose PUBACK is not read': times(10_000, i => publish('t', { qos: 1, messageId: (i % 65_535) + 1 })),
  'halves of QoS 2': times(9_000, i => publish('t', { qos: 2, messageId: i + 1 })),
  'PINGREQ whose PINGRESP is not read': times(50_000, () => ping),
  'SUBSCRIBE and UNSUBSCRIBE': times(3000, i => (i % 2 === 0 ? subscribe(['a/b']) : unsubscribe(['a/b']))),
  'SUBSCRIBE to what is retained': times(5000, () => subscribe(['#'])),
  'PUBREL of nothing': times(10_000, i => packet(0x62, uint16(i + 1))),
  'messages to itself, which it does not read': times(10_000, i =>
    publish('own', { qos: i % 2, messageId: i + 1, payload: 'x'.repeat(20) })
  )
}

for (const [name, bytes] of Object.entries(floods)) {
  t.test(`a flood is slowed down, and nobody waits for it: ${name}`, async t => {
    const target = await start(t)
    const neighbour = await client(target, 'neighbour')
    neighbour.send(...Array.from({ length: 100 }, (_, i) => publish(`kept/${i}`, { retain: true, payload: 'y'.repeat(100) })))
    await neighbour.ping()
    const baseline = memoryOf(target.broker)
    const flooders = await Promise.all([0, 1, 2].map(i => client(target, `flooder-${i}`)))
    for (const flooder of flooders) {
      flooder.send(subscribe(['own'], 4, 1))
      await flooder.has(9, 1)
      flooder.stream.pause()
    }
    const end = performance.now() + (long ? 20_000 : 800)
    let [most, latest, pings] = [0, 0, 0]
    while (performance.now() < end) {
      for (const flooder of flooders) if (!flooder.isClosed && flooder.stream.writableLength < 4 * megabyte) flooder.send(bytes)
      const sent = performance.now()
      await neighbour.ping()
      latest = Math.max(latest, performance.now() - sent)
      most = Math.max(most, memoryOf(target.broker))
      pings += 1
      await pause(1)
    }
    t.comment(`${pings} pings, the latest after ${latest.toFixed(0)} ms; ${baseline.toFixed(0)} MB before, ${most.toFixed(0)} MB at most`)
    t.ok(pings > 20 && latest < 500, `${pings} pings, the latest after ${latest} ms`)
    t.ok(most < baseline + 100, `${most} MB`)
    t.notMatch(target.broker.stderr(), /fault/)
    for (const flooder of flooders) flooder.destroy()
    await neighbour.ping()
  })
}
