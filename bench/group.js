// The traffic of a load generator: one publisher and those who receive from it. A message is outstanding until its publisher has its
// acknowledgement and each of its receivers the message, and no more than `window` of a publisher are.

import { flushLater, inputTime, Link, lengthOf, packet, uint16 } from './link.js'

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
  /** Slots that wait to be told; undefined: none does. */
  #free
  /** Each slot's packet, which is the same every time, in two rounds: what follows one another leaves as one piece. */
  #packets
  #size

  /**
   * `receivers` of `shape`: those that count; `isKept`: their sessions are. `common`: where the broker is, what to call for each delivery and when a
   * message is with all of them, with the milliseconds that it took; while it `isPaused` nothing is published.
   */
  constructor(number, shape, common) {
    const { qos, window, receivers } = shape
    this.number = number
    this.shape = shape
    this.#common = common
    this.topic = Buffer.from(`bench/plant/${number}/state`)
    // What each slot waits for: its receivers, and its acknowledgement.
    this.#slots = { sentAt: new Float64Array(window), open: new Uint32Array(window), each: receivers + (qos > 0 ? 1 : 0) }
    const packets = Array.from({ length: window }, (_, slot) => packetOf(slot, this.topic, shape))
    this.#size = packets[0].length
    this.#packets = Buffer.concat([...packets, ...packets])
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

  /**
   * From now on it publishes only when it is told to. A message has taken until its receivers had it, and acknowledgements stay with the kernel until
   * they are half a window: to wake up for each would cost more than the broker has to do for a message.
   */
  slowDown() {
    this.#free = this.#toSend.splice(0)
  }

  /** One message, unless the whole window is outstanding. */
  publishOne() {
    if (this.#free.length <= this.shape.window / 2) this.publisher.socket.resume()
    const slot = this.#free.shift()
    if (slot === undefined) return
    this.#toSend.push(slot)
    flushLater(this.publisher)
  }

  /** Publishes what has waited while it was paused. */
  resume() {
    if (this.#toSend.length > 0) flushLater(this.publisher)
  }

  /** A receiver that counts has it. */
  delivered(slot) {
    this.#common.delivered()
    if (this.#free !== undefined) this.#common.completed(inputTime - this.#slots.sentAt[slot])
    this.#part(slot)
  }

  #acknowledged(bytes, at, start) {
    const head = bytes[at] & 0xf0
    const id = bytes.readUInt16BE(start)
    if (head === 0x40 || head === 0x70) this.#part(id - 1)
    else if (head === 0x50) this.publisher.acknowledge(0x62, id)
  }

  #part(slot) {
    const { open, sentAt } = this.#slots
    open[slot] -= 1
    if (open[slot] !== 0) return
    if (this.#free !== undefined) {
      if (this.#free.push(slot) > (this.shape.window * 3) / 4) this.publisher.socket.pause()
      return
    }
    this.#common.completed(inputTime - sentAt[slot])
    this.#toSend.push(slot)
    if (!this.#common.isPaused) flushLater(this.publisher)
  }

  #flush() {
    const slots = this.#common.isPaused ? [] : this.#toSend.splice(0)
    const { sentAt, open, each } = this.#slots
    const { window } = this.shape
    const now = performance.now()
    let isRow = true
    for (let i = 0; i < slots.length; i++) {
      const slot = slots[i]
      sentAt[slot] = now
      open[slot] = each
      if (slot !== (slots[0] + i) % window) isRow = false
    }
    const answers = this.publisher.takeAnswers()
    if (slots.length === 0 && answers === undefined) return
    const pieces = slots.length > 0 && isRow ? [this.#row(slots[0], slots.length)] : slots.map(slot => this.#row(slot, 1))
    if (answers !== undefined) pieces.unshift(answers)
    this.publisher.socket.write(pieces.length === 1 ? pieces[0] : Buffer.concat(pieces))
  }

  #row(slot, count) {
    return this.#packets.subarray(slot * this.#size, (slot + count) * this.#size)
  }
}

/** A PUBLISH whose packet identifier is its slot's number and one, and whose payload begins with the number. */
function packetOf(slot, topic, { qos, payload, version }) {
  const id = qos > 0 ? [uint16(slot + 1)] : []
  const list = version === 5 ? [lengthOf(properties5.length), properties5] : []
  const body = Buffer.alloc(payload, 'x')
  body.writeUInt32BE(slot)
  return packet(0x30 | (qos << 1), uint16(topic.length), topic, ...id, ...list, body)
}

/** The number in the topic of a group that begins there. */
function numberIn(bytes, topic) {
  let number = 0
  for (let at = topic + 'bench/plant/'.length; bytes[at] !== 0x2f; at++) number = number * 10 + bytes[at] - 0x30
  return number
}

/** A receiver of the topics of some groups, for which it counts; by its topic's number a message finds its group. */
export async function openReceiver(clientId, groups, filters, { port, secure, fail }) {
  const [only] = groups
  const byNumber = []
  for (const group of groups) byNumber[group.number] = group
  const { version, qos, isKept } = only.shape
  const link = await new Link({
    port,
    secure,
    fail,
    version,
    clientId,
    clean: !isKept,
    take: (bytes, at, start, end) => {
      const head = bytes[at] >> 4
      if (head === 6) {
        link.acknowledge(0x70, bytes.readUInt16BE(start))
        return
      }
      if (head !== 3) return
      const given = (bytes[at] >> 1) & 3
      if (given > 0) link.acknowledge(given === 1 ? 0x40 : 0x50, bytes.readUInt16BE(start + 2 + bytes.readUInt16BE(start)))
      const group = groups.length === 1 ? only : byNumber[numberIn(bytes, start + 2)]
      group.delivered(bytes.readUInt32BE(end - group.shape.payload))
    }
  }).open()
  for (const filter of filters) await link.subscribe(filter, qos)
  return link
}
