// The load: pairs of a QoS 1 publisher and a subscriber whose session is kept, so many messages outstanding for each pair. A message is
// outstanding until its publisher has the PUBACK and its subscriber the message. A process of its own, with one write per connection and turn
// and no more parsing than it needs, so that the broker is what is measured. Its one argument is JSON, its result too.

import { setTimeout as sleep } from 'node:timers/promises'
import { percentile } from './figures.js'
import { flushLater, Link, packet, secureWith, uint16 } from './link.js'
import { startMeasuring } from './process.js'

const { port, tls, pairs, window, seconds, warmUp, payload, brokerPid } = JSON.parse(process.argv[2])

/** Without a message in so many seconds it is over. */
const patience = 20

const secure = secureWith(tls)

let isMeasured = false
let done = 0
let lastDone = 0
const latencies = []

class Pair {
  publisher
  subscriber
  #sentAt = new Float64Array(window)
  /** Both of it came: 3. */
  #parts = new Uint8Array(window)
  #toSend = []
  #template

  constructor(number) {
    const topic = Buffer.from(`bench/plant/${number}/state`)
    this.topic = topic
    this.#template = packet(0x32, uint16(topic.length), topic, uint16(0), Buffer.alloc(payload, 'x'))
    this.idAt = this.#template.length - payload - 2
    this.number = number
  }

  async open() {
    this.subscriber = await linkOf(`sub-${this.number}`, false, (bytes, at, _start, end) => this.#delivered(bytes, at, end)).open()
    await this.subscriber.subscribe(this.topic, 1)
    this.publisher = await linkOf(`pub-${this.number}`, true, (bytes, at, start) => {
      if (bytes[at] === 0x40) this.#half(bytes.readUInt16BE(start) - 1, 1)
    }).open()
    this.publisher.flush = () => this.#flush()
  }

  start() {
    for (let slot = 0; slot < window; slot++) this.#toSend.push(slot)
    flushLater(this.publisher)
  }

  #delivered(bytes, at, end) {
    if (bytes[at] >> 4 !== 3) return
    this.subscriber.acknowledge(0x40, bytes.readUInt16BE(end - payload - 2))
    this.#half(bytes.readUInt32BE(end - payload), 2)
  }

  #half(slot, part) {
    this.#parts[slot] |= part
    if (this.#parts[slot] !== 3) return
    done += 1
    if (isMeasured) latencies.push(performance.now() - this.#sentAt[slot])
    this.#toSend.push(slot)
    flushLater(this.publisher)
  }

  #flush() {
    const slots = this.#toSend
    this.#toSend = []
    const size = this.#template.length
    const bytes = Buffer.allocUnsafe(slots.length * size)
    const now = performance.now()
    for (let i = 0; i < slots.length; i++) {
      const at = i * size
      const slot = slots[i]
      this.#template.copy(bytes, at)
      bytes.writeUInt16BE(slot + 1, at + this.idAt)
      bytes.writeUInt32BE(slot, at + this.idAt + 2)
      this.#sentAt[slot] = now
      this.#parts[slot] = 0
    }
    this.publisher.socket.write(bytes)
  }
}

function linkOf(clientId, clean, take) {
  return new Link({ port, secure, fail, clientId, clean, take })
}

function fail(error) {
  process.stderr.write(`${error.message}\n`)
  process.exit(1)
}

const all = Array.from({ length: pairs }, (_, number) => new Pair(number))
for (const pair of all) await pair.open()
for (const pair of all) pair.start()
setInterval(() => {
  if (done === lastDone) fail(new Error(`no message came for ${patience} seconds`))
  lastDone = done
}, patience * 1000).unref()
await sleep(warmUp * 1000)
isMeasured = true
const figures = startMeasuring(brokerPid, () => done)
await sleep(seconds * 1000)
const { perSecond: throughput, cpuPerMillion, brokerLoad, generatorLoad } = figures()
latencies.sort((a, b) => a - b)
const [p50, p99] = [0.5, 0.99].map(part => percentile(latencies, part))
const result = { throughput, cpuPerMillion, brokerLoad, generatorLoad, p50, p99 }
process.stdout.write(JSON.stringify(result), () => process.exit(0))
