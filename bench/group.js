// The traffic of a load generator: one publisher and those who receive from it. A message is outstanding until its publisher has its
// acknowledgement and each of its receivers the message, and no more than `window` of a publisher are.

import { flushLater, Link, lengthOf, packet, uint16 } from './link.js'

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
export class Group {
  publisher
  #common
  #slots
  #toSend = []
  #template
  #idAt

  /**
   * `receivers` of `shape`: those that count. `common`: where the broker is, what to call for each delivery and when a message is with all of
   * them, with the milliseconds that it took.
   */
  constructor(number, shape, common) {
    const { qos, payload, window, receivers, version } = shape
    this.number = number
    this.shape = shape
    this.#common = common
    const topic = Buffer.from(`bench/plant/${number}/state`)
    this.topic = topic
    const list = version === 5 ? [lengthOf(properties5.length), properties5] : []
    const id = qos > 0 ? [uint16(0)] : []
    this.#template = packet(0x30 | (qos << 1), uint16(topic.length), topic, ...id, ...list, Buffer.alloc(payload, 'x'))
    this.#idAt = this.#template.length - payload - list.reduce((sum, { length }) => sum + length, 0) - 2
    // What each slot waits for: its receivers, and its acknowledgement.
    this.#slots = { sentAt: new Float64Array(window), open: new Uint32Array(window), each: receivers + (qos > 0 ? 1 : 0) }
  }

  async open() {
    const { version } = this.shape
    const { port, secure, fail } = this.#common
    this.publisher = await new Link({
      port,
      secure,
      fail,
      version,
      clientId: `pub-${this.number}`,
      take: (...given) => this.#acknowledged(...given)
    }).open()
    this.publisher.flush = () => this.#flush()
  }

  start() {
    for (let slot = 0; slot < this.shape.window; slot++) this.#toSend.push(slot)
    flushLater(this.publisher)
  }

  /** At a steady rate instead of as fast as it goes. */
  startAt(rate) {
    let next = performance.now() + Math.random() * (1000 / rate)
    const free = Array.from({ length: this.shape.window }, (_, slot) => slot)
    this.freed = slot => free.push(slot)
    setInterval(() => {
      for (const now = performance.now(); next <= now; next += 1000 / rate) {
        const slot = free.pop()
        if (slot !== undefined) this.#toSend.push(slot)
      }
      if (this.#toSend.length > 0) flushLater(this.publisher)
    }, 1)
  }

  /** A receiver that counts has it. */
  delivered(slot) {
    this.#common.delivered()
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
    this.#common.completed(performance.now() - sentAt[slot])
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
    const { qos, payload } = this.shape
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

/** A receiver of the topics of some groups, for which it counts; by its topic's number a message finds its group. */
export async function openReceiver(clientId, groups, filters, { port, secure, fail }) {
  const [only] = groups
  const byNumber = []
  for (const group of groups) byNumber[group.number] = group
  const link = await new Link({
    port,
    secure,
    fail,
    version: only.shape.version,
    clientId,
    take: (bytes, at, start, end) => {
      const head = bytes[at] >> 4
      if (head === 6) {
        link.acknowledge(0x70, bytes.readUInt16BE(start))
        return
      }
      if (head !== 3) return
      const qos = (bytes[at] >> 1) & 3
      if (qos > 0) link.acknowledge(qos === 1 ? 0x40 : 0x50, bytes.readUInt16BE(start + 2 + bytes.readUInt16BE(start)))
      const group =
        groups.length === 1 ? only : byNumber[Number(bytes.latin1Slice(start + 2 + 12, start + 2 + bytes.readUInt16BE(start) - 6))]
      group.delivered(bytes.readUInt32BE(end - group.shape.payload))
    }
  }).open()
  for (const filter of filters) await link.subscribe(filter, only.shape.qos)
  return link
}
