// One MQTT connection of a load generator: raw socket, framing of its own, one write per turn. It does no more than the load needs, so that the
// broker is what is measured.

import { readFileSync } from 'node:fs'
import { connect as connectTcp } from 'node:net'
import { connect as connectTls } from 'node:tls'

/** For `connectTls`, from the paths of CA, certificate and key; undefined: plain TCP. */
export function secureWith(tls) {
  return tls && { ca: readFileSync(tls.ca), cert: readFileSync(tls.cert), key: readFileSync(tls.key), servername: 'localhost' }
}

// What wrote in this turn, once each.
let dirty = []

/** Has `flush` called at the end of this turn. */
export function flushLater(link) {
  if (link.isDirty) return
  link.isDirty = true
  if (dirty.length === 0) setImmediate(flushAll)
  dirty.push(link)
}

function flushAll() {
  const links = dirty
  dirty = []
  for (const link of links) {
    link.isDirty = false
    link.flush()
  }
}

export class Link {
  isDirty = false
  /** Four bytes each: acknowledgements that wait for the end of the turn. */
  #waiting = []
  #rest
  #answered = () => {}
  #options

  /** Packets, in each direction. */
  sent = 0
  received = 0
  /** Whether CONNACK said that there is a session. */
  sessionPresent = false
  isClosed = false

  /**
   * `take(bytes, at, start, end)`: a packet, from its first byte and from its body on; not CONNACK, SUBACK and PINGRESP. `fail(error)`: it was
   * refused, or has ended unasked; where `ended()` is given, the end is told there, whoever wanted it. `will`: topic, payload,
   * qos. `session`: the TLS session of an earlier handshake, as `onTicket` heard of it.
   */
  constructor(options) {
    this.#options = { version: 4, clean: true, take: () => {}, ...options }
  }

  async open() {
    const { port, secure, session, fail, ended, onTicket } = this.#options
    const address = { host: '127.0.0.1', port, noDelay: true }
    this.socket = secure ? connectTls({ ...address, ...secure, ...(session && { session }) }) : connectTcp(address)
    this.socket.on('error', ended ? () => {} : fail)
    this.socket.on('close', () => {
      this.isClosed = true
      this.#answered()
      if (ended) ended()
      else fail(new Error(`the connection of ${this.#options.clientId} was closed`))
    })
    if (onTicket) this.socket.on('session', onTicket)
    await new Promise(resolve => {
      this.socket.once(secure ? 'secureConnect' : 'connect', resolve)
      this.socket.once('close', resolve)
    })
    if (this.isClosed) return this
    this.socket.setNoDelay(true)
    this.socket.on('data', chunk => this.#received(chunk))
    await this.ask(connectPacket(this.#options))
    return this
  }

  subscribe(topic, qos) {
    const list = this.#options.version === 5 ? [Buffer.of(0)] : []
    return this.ask(packet(0x82, uint16(1), ...list, uint16(topic.length), topic, Buffer.of(qos)))
  }

  /** Sends, and resolves at the next CONNACK, SUBACK or PINGRESP, or at the end. */
  ask(bytes) {
    this.socket.write(bytes)
    this.sent += 1
    return new Promise(resolve => {
      this.#answered = resolve
    })
  }

  /** PUBACK, PUBREC, PUBREL or PUBCOMP, by its first byte. */
  acknowledge(head, id) {
    this.#waiting.push((head << 16) | id)
    flushLater(this)
  }

  flush() {
    if (this.#waiting.length === 0 || this.isClosed) return
    const waiting = this.#waiting
    this.#waiting = []
    this.sent += waiting.length
    const bytes = Buffer.allocUnsafe(4 * waiting.length)
    for (let i = 0; i < waiting.length; i++) {
      const at = 4 * i
      bytes[at] = waiting[i] >> 16
      bytes[at + 1] = 2
      bytes[at + 2] = (waiting[i] >> 8) & 0xff
      bytes[at + 3] = waiting[i] & 0xff
    }
    this.socket.write(bytes)
  }

  close() {
    if (this.#options.ended === undefined) this.socket.removeAllListeners('close')
    this.socket.end(Buffer.of(0xe0, 0))
    this.sent += 1
  }

  #received(chunk) {
    const { take, fail } = this.#options
    const bytes = this.#rest === undefined ? chunk : Buffer.concat([this.#rest, chunk])
    let at = 0
    while (bytes.length - at >= 2) {
      const isLong = bytes[at + 1] > 0x7f
      if (isLong && bytes.length - at < 3) break
      const start = at + (isLong ? 3 : 2)
      const end = start + (isLong ? (bytes[at + 1] & 0x7f) | (bytes[at + 2] << 7) : bytes[at + 1])
      if (end > bytes.length) break
      const type = bytes[at] >> 4
      this.received += 1
      if (type === 2) this.sessionPresent = bytes[start] === 1
      if (type === 2 || type === 9 || type === 13) {
        const code = type === 13 ? 0 : bytes[type === 2 ? start + 1 : end - 1]
        if (code > 2) fail(new Error(`refused: ${code}`))
        this.#answered()
      } else take(bytes, at, start, end)
      at = end
    }
    this.#rest = at < bytes.length ? bytes.subarray(at) : undefined
  }
}

/** A CONNECT. */
export function connectPacket({ clientId, version, clean, properties = Buffer.alloc(0), will }) {
  const list = version === 5 ? [lengthOf(properties.length), properties] : []
  const flags = (clean ? 2 : 0) | (will ? 4 | (will.qos << 3) : 0)
  const last = will ? [...(version === 5 ? [Buffer.of(0)] : []), field(will.topic), field(will.payload)] : []
  return packet(0x10, field('MQTT'), Buffer.of(version, flags, 0, 0), ...list, field(clientId), ...last)
}

/** A string or bytes behind their length. */
export function field(value) {
  const bytes = Buffer.from(value)
  return Buffer.concat([uint16(bytes.length), bytes])
}

export function packet(head, ...parts) {
  const body = Buffer.concat(parts)
  return Buffer.concat([Buffer.of(head), lengthOf(body.length), body])
}

export function uint16(value) {
  return Buffer.of(value >> 8, value & 0xff)
}

// Nothing here is longer than two bytes can say.
export function lengthOf(length) {
  return length < 128 ? Buffer.of(length) : Buffer.of((length & 0x7f) | 0x80, length >> 7)
}
