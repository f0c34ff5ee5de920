// The least that a broker in Node does for the shapes of `npm run bench`: TLS with client certificates, packets cut and passed on to whoever subscribed
// to just that topic, one write for each connection and turn, no more than twenty under way to a client with QoS 1 and 2. No rights, no sessions, no
// other limits, no properties, nothing checked. What it costs is Node's part of what ours does; what ours costs more is our own.
//
// Arguments: port, CA, certificate, key.

import { readFileSync } from 'node:fs'
import { createServer } from 'node:tls'

const [port, ca, cert, key] = process.argv.slice(2)
const files = { ca: readFileSync(ca), cert: readFileSync(cert), key: readFileSync(key) }

/** By topic. */
const receivers = new Map()
/** Whose topics are all below this one. */
const listeners = new Map()
let dirty = []

/** `max_inflight_messages`, as it is by default. */
const mostInflight = 20

class Client {
  #socket
  #rest
  #pieces = []
  #isDirty = false
  #lastId = 0
  #inflight = 0
  /** What waits for its turn: packet and place of its identifier. */
  #queue = []
  #queueStart = 0

  constructor(socket) {
    this.#socket = socket
    socket.on('error', () => {})
    socket.on('data', chunk => this.#received(chunk))
  }

  send(bytes) {
    this.#pieces.push(bytes)
    if (this.#isDirty) return
    this.#isDirty = true
    if (dirty.length === 0) setImmediate(flushAll)
    dirty.push(this)
  }

  flush() {
    const pieces = this.#pieces
    this.#pieces = []
    this.#isDirty = false
    this.#socket.write(pieces.length === 1 ? pieces[0] : Buffer.concat(pieces))
  }

  /** As it came, but for its identifier, which lies at `idAt` where it has one. */
  deliver(bytes, idAt) {
    if (idAt === 0) {
      this.send(bytes)
    } else if (this.#inflight === mostInflight) {
      this.#queue.push(bytes, idAt)
    } else {
      this.#inflight += 1
      this.#number(bytes, idAt)
    }
  }

  #number(bytes, idAt) {
    const packet = Buffer.from(bytes)
    this.#lastId = (this.#lastId % 65_535) + 1
    packet.writeUInt16BE(this.#lastId, idAt)
    this.send(packet)
  }

  #done() {
    const queue = this.#queue
    if (this.#queueStart === queue.length) {
      this.#inflight -= 1
      return
    }
    const at = this.#queueStart
    this.#queueStart += 2
    this.#number(queue[at], queue[at + 1])
    if (this.#queueStart < 4096) return
    queue.splice(0, this.#queueStart)
    this.#queueStart = 0
  }

  #received(chunk) {
    const bytes = this.#rest === undefined ? chunk : Buffer.concat([this.#rest, chunk])
    let at = 0
    while (bytes.length - at >= 2) {
      const isLong = bytes[at + 1] > 0x7f
      if (isLong && bytes.length - at < 3) break
      const start = at + (isLong ? 3 : 2)
      const end = start + (isLong ? (bytes[at + 1] & 0x7f) | (bytes[at + 2] << 7) : bytes[at + 1])
      if (end > bytes.length) break
      this.#packet(bytes, at, start, end)
      at = end
    }
    this.#rest = at < bytes.length ? bytes.subarray(at) : undefined
  }

  #packet(bytes, at, start, end) {
    const type = bytes[at] >> 4
    if (type === 3) this.#publish(bytes, at, start, end)
    else if (type === 4 || type === 7) this.#done()
    else if (type === 1) this.send(Buffer.of(0x20, 2, 0, 0))
    else if (type === 8) this.#subscribe(bytes, start, end)
    else if (type === 5 || type === 6) this.send(Buffer.of(type === 5 ? 0x62 : 0x70, 2, bytes[start], bytes[start + 1]))
    else if (type === 14) this.#socket.end()
  }

  #subscribe(bytes, start, end) {
    const filter = bytes.latin1Slice(start + 4, start + 4 + bytes.readUInt16BE(start + 2))
    const [kind, name] = filter.endsWith('#') ? [listeners, filter.slice(0, -1)] : [receivers, filter]
    kind.set(name, [...(kind.get(name) ?? []), this])
    this.send(Buffer.of(0x90, 3, bytes[start], bytes[start + 1], bytes[end - 1]))
  }

  #publish(bytes, at, start, end) {
    const idAt = start + 2 + bytes.readUInt16BE(start)
    const topic = bytes.latin1Slice(start + 2, idAt)
    const qos = (bytes[at] >> 1) & 3
    if (qos > 0) this.send(Buffer.of(qos === 1 ? 0x40 : 0x50, 2, bytes[idAt], bytes[idAt + 1]))
    const packet = bytes.subarray(at, end)
    for (const client of receiversOf(topic)) client.deliver(packet, qos > 0 ? idAt - at : 0)
  }
}

function receiversOf(topic) {
  let found = receivers.get(topic)
  if (found === undefined) {
    found = [...listeners].flatMap(([start, clients]) => (topic.startsWith(start) ? clients : []))
    receivers.set(topic, found)
  }
  return found
}

function flushAll() {
  const clients = dirty
  dirty = []
  for (const client of clients) client.flush()
}

createServer({ ...files, requestCert: true, noDelay: true }, socket => new Client(socket)).listen(Number(port), '127.0.0.1')
process.on('SIGTERM', () => process.exit(0))
