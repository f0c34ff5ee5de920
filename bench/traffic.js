// The load of `npm run bench`: one shape of traffic for so many seconds, in a process of its own. Its one argument is JSON, its result too. A
// message is outstanding until its publisher has its acknowledgement and each of its receivers the message, and no more than `window` of a publisher are.

import { readdirSync, readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { connect as connectTls } from 'node:tls'
import { flushLater, Link, lengthOf, packet, secureWith, uint16 } from './link.js'

const { port, tls, shape, seconds, warmUp, brokerPid } = JSON.parse(process.argv[2])
const secure = secureWith(tls)
/** Without a message in so many seconds it is over. */
const patience = 20

let isMeasured = false
/** Deliveries, or handshakes. */
let done = 0
const latencies = []

/** Content type and two user properties, as an MQTT 5 client may send them. */
const properties5 = Buffer.concat([
  Buffer.of(0x03),
  uint16(16),
  Buffer.from('application/json'),
  ...[
    ['plant', '7'],
    ['schema', 'v2']
  ].flatMap(([key, value]) => [Buffer.of(0x26), uint16(key.length), Buffer.from(key), uint16(value.length), Buffer.from(value)])
])

/** One publisher, its receivers, and what is outstanding between them. */
class Group {
  publisher
  #shape
  #slots
  #toSend = []
  #template
  #idAt

  constructor(number, shape) {
    const { qos, payload, window, receivers, version } = shape
    this.number = number
    this.#shape = shape
    const topic = Buffer.from(`bench/plant/${number}/state`)
    this.topic = topic
    const list = version === 5 ? [lengthOf(properties5.length), properties5] : []
    const id = qos > 0 ? [uint16(0)] : []
    this.#template = packet(0x30 | (qos << 1), uint16(topic.length), topic, ...id, ...list, Buffer.alloc(payload, 'x'))
    this.#idAt = this.#template.length - payload - list.reduce((sum, { length }) => sum + length, 0) - 2
    // What each slot waits for: its receivers, and its acknowledgement.
    this.#slots = { sentAt: new Float64Array(window), open: new Uint32Array(window), each: receivers + (qos > 0 ? 1 : 0) }
  }

  /** `receivers`: links that have subscribed to the topic and call `delivered`. */
  async open() {
    const { version, qos } = this.#shape
    this.publisher = await new Link({
      port,
      secure,
      fail,
      version,
      clientId: `pub-${this.number}`,
      take: (...given) => this.#acknowledged(...given)
    }).open()
    this.publisher.flush = () => this.#flush()
    this.isExact = qos > 0
  }

  start() {
    for (let slot = 0; slot < this.#shape.window; slot++) this.#toSend.push(slot)
    flushLater(this.publisher)
  }

  /** At a steady rate instead of as fast as it goes. */
  startAt(rate) {
    let next = performance.now() + Math.random() * (1000 / rate)
    const free = Array.from({ length: this.#shape.window }, (_, slot) => slot)
    this.freed = slot => free.push(slot)
    setInterval(() => {
      for (const now = performance.now(); next <= now; next += 1000 / rate) {
        const slot = free.pop()
        if (slot !== undefined) this.#toSend.push(slot)
      }
      if (this.#toSend.length > 0) flushLater(this.publisher)
    }, 1)
  }

  delivered(slot) {
    done += 1
    this.#part(slot)
  }

  #acknowledged(bytes, at, start) {
    const head = bytes[at] & 0xf0
    const id = bytes.readUInt16BE(start)
    if (head === 0x40 || head === 0x70) this.#part(id - 1)
    else if (head === 0x50) this.#release(id)
  }

  #releases = []
  #release(id) {
    this.#releases.push(id)
    flushLater(this.publisher)
  }

  #part(slot) {
    const { open, sentAt } = this.#slots
    open[slot] -= 1
    if (open[slot] !== 0) return
    if (isMeasured) latencies.push(performance.now() - sentAt[slot])
    if (this.freed) {
      this.freed(slot)
      return
    }
    this.#toSend.push(slot)
    flushLater(this.publisher)
  }

  #flush() {
    const slots = this.#toSend
    this.#toSend = []
    const releases = this.#releases
    this.#releases = []
    const { qos, payload } = this.#shape
    const { sentAt, open, each } = this.#slots
    const size = this.#template.length
    const bytes = Buffer.allocUnsafe(slots.length * size + releases.length * 4)
    const now = performance.now()
    let at = 0
    for (const id of releases) {
      bytes.writeUInt32BE(0x62020000 | id, at)
      at += 4
    }
    for (const slot of slots) {
      this.#template.copy(bytes, at)
      if (qos > 0) bytes.writeUInt16BE(slot + 1, at + this.#idAt)
      bytes.writeUInt32BE(slot, at + size - payload)
      at += size
      sentAt[slot] = now
      open[slot] = each
    }
    this.publisher.socket.write(bytes)
  }
}

/** A receiver of the topics of some groups; by its topic's number a message finds its group. */
async function receiver(clientId, groups, { qos, payload, version }, filter) {
  const [only] = groups
  const link = await new Link({
    port,
    secure,
    fail,
    version,
    clientId,
    take: (bytes, at, start, end) => {
      const head = bytes[at] >> 4
      if (head === 6) {
        link.acknowledge(0x70, bytes.readUInt16BE(start))
        return
      }
      if (head !== 3) return
      if (qos > 0) link.acknowledge(qos === 1 ? 0x40 : 0x50, bytes.readUInt16BE(start + 2 + bytes.readUInt16BE(start)))
      const group =
        groups.length === 1 ? only : groups[Number(bytes.latin1Slice(start + 2 + 12, start + 2 + bytes.readUInt16BE(start) - 6))]
      group.delivered(bytes.readUInt32BE(end - payload))
    }
  }).open()
  await link.subscribe(filter, qos)
  return link
}

/** Several at a time: a small packet may have to wait for the acknowledgement of the one before, 40 ms. */
async function each(list, act) {
  const waiting = list.values()
  const work = async () => {
    for (const one of waiting) await act(one)
  }
  await Promise.all(Array.from({ length: 32 }, work))
}

async function openGroups() {
  const { kind, count, receivers } = shape
  const groups = Array.from({ length: count }, (_, number) => new Group(number, { ...shape, receivers: kind === 'fan-in' ? 1 : receivers }))
  if (kind === 'fan-in') await receiver('sub', groups, shape, Buffer.from('bench/plant/#'))
  else {
    const all = groups.flatMap(group => Array.from({ length: receivers }, (_, i) => [group, i]))
    await each(all, ([group, i]) => receiver(`sub-${group.number}-${i}`, [group], shape, group.topic))
  }
  await each(groups, group => group.open())
  for (const group of groups) {
    if (shape.rate === undefined) group.start()
    else group.startAt(shape.rate / count)
  }
}

/** Connections that come, are answered, and go, so many at a time. */
function shakeHands() {
  let session
  let number = 0
  const next = () => {
    const clientId = Buffer.from(`h-${number++}`)
    const socket = connectTls({ host: '127.0.0.1', port, noDelay: true, ...secure, ...(shape.resumed && session && { session }) })
    socket.on('error', fail)
    socket.on('session', ticket => {
      session ??= ticket
    })
    socket.on('data', () => {
      done += 1
      if (shape.resumed && isMeasured && !socket.isSessionReused()) fail(new Error('a session was not resumed'))
      socket.end(Buffer.of(0xe0, 0))
    })
    socket.on('close', next)
    socket.write(packet(0x10, uint16(4), Buffer.from('MQTT'), Buffer.of(4, 2, 0, 0), uint16(clientId.length), clientId))
  }
  for (let i = 0; i < shape.count; i++) next()
}

/** What one idle connection costs, kilobytes. */
async function idle() {
  const open = async from => {
    const numbers = Array.from({ length: shape.count }, (_, i) => from + i)
    await each(numbers, i => new Link({ port, secure, fail, clientId: `idle-${i}` }).open())
    await sleep(3000)
    return memory()
  }
  // What is allocated once is so by the first ones.
  const before = await open(0)
  return { kilobytes: ((await open(shape.count)) - before) / 1024 / shape.count }
}

function fail(error) {
  process.stderr.write(`${error.message}\n`)
  process.exit(1)
}

/** Seconds of the processor that the broker has used, in all its threads, to the nanosecond. */
function brokerTime() {
  const tasks = `/proc/${brokerPid}/task`
  let sum = 0
  for (const task of readdirSync(tasks)) {
    try {
      sum += Number(readFileSync(`${tasks}/${task}/schedstat`, 'utf8').split(' ')[0])
    } catch {
      // It has ended meanwhile.
    }
  }
  return sum / 1e9
}

function memory() {
  return Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${brokerPid}/status`, 'utf8'))?.[1] ?? 0) * 1024
}

function percentile(sorted, part) {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? 0
}

async function measure() {
  if (shape.kind === 'handshakes') shakeHands()
  else await openGroups()
  let last = 0
  setInterval(() => {
    if (done === last) fail(new Error(`nothing came for ${patience} seconds`))
    last = done
  }, patience * 1000).unref()
  await sleep(warmUp * 1000)
  isMeasured = true
  const before = { at: performance.now(), done, broker: brokerTime(), own: process.cpuUsage() }
  await sleep(seconds * 1000)
  const elapsed = (performance.now() - before.at) / 1000
  const count = done - before.done
  const broker = brokerTime() - before.broker
  const own = process.cpuUsage(before.own)
  latencies.sort((a, b) => a - b)
  return {
    perSecond: count / elapsed,
    // Microseconds each are seconds for a million.
    cpuPerMillion: (broker / count) * 1e6,
    brokerLoad: broker / elapsed,
    generatorCpuPerMillion: ((own.user + own.system) / count) * 1,
    generatorLoad: (own.user + own.system) / 1e6 / elapsed,
    megabytes: memory() / 2 ** 20,
    p50: percentile(latencies, 0.5),
    p99: percentile(latencies, 0.99)
  }
}

const result = shape.kind === 'idle' ? await idle() : await measure()
process.stdout.write(JSON.stringify(result), () => process.exit(0))
