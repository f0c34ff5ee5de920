// One MQTT connection of a load generator: raw socket, framing of its own, one write per turn. It does no more than the load needs, so that the
// broker is what is measured.

import { readFileSync } from 'node:fs'
import { connect as connectTcp } from 'node:net'
import { connect as connectTls, createSecureContext } from 'node:tls'

/**
 * For `connectTls`, from the paths of CA, certificate and key, which are read once for all connections; undefined: plain TCP. `isBlind`: the
 * broker's certificate is not looked at, which spares the load a part of each handshake.
 */
export function secureWith(tls, isBlind = false) {
  if (tls === undefined) return undefined
  const own = { cert: readFileSync(tls.cert), key: readFileSync(tls.key) }
  const secureContext = createSecureContext(isBlind ? own : { ca: readFileSync(tls.ca), ...own })
  return { secureContext, servername: 'localhost', rejectUnauthorized: !isBlind }
}

/** What any connection has just read: each takes all of it before another reads. */
const input = Buffer.allocUnsafeSlow(65_536)

/** Milliseconds, as `performance.now()` was when the last bytes came. */
export let inputTime = performance.now()

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
  /** The beginning of a packet whose end has not come. */
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
   * `take(bytes, at, start, end)`: a packet, from its first byte and from its body on, in memory that is another's when it returns; not CONNACK,
   * SUBACK and PINGRESP. `fail(error)`: it was
   * refused, or has ended unasked; where `ended()` is given, the end is told there, whoever wanted it. `will`: topic, payload,
   * qos. `session`: the TLS session of an earlier handshake, as `onTicket` heard of it.
   */
  constructor(options) {
    this.#options = { version: 4, clean: true, take: () => {}, ...options }
  }

  async open() {
    const { port, secure, session, fail, ended, onTicket } = this.#options
    const onread = { buffer: input, callback: size => this.#received(size) }
    const address = { host: '127.0.0.1', port, noDelay: true, onread }
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
    const answers = this.takeAnswers()
    if (answers !== undefined && !this.isClosed) this.socket.write(answers)
  }

  /** What `acknowledge` was called for, to be written now. */
  takeAnswers() {
    const waiting = this.#waiting
    if (waiting.length === 0) return undefined
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
    return bytes
  }

  close() {
    if (this.#options.ended === undefined) this.socket.removeAllListeners('close')
    this.socket.end(Buffer.of(0xe0, 0))
    this.sent += 1
  }

  #received(size) {
    inputTime = performance.now()
    let at = 0
    // Of what was cut no more is put together than that one packet.
    while (this.#rest !== undefined) {
      const lack = lackOf(this.#rest, this.#rest.length)
      if (at === size) return
      const until = Math.min(size, at + lack)
      this.#rest = Buffer.concat([this.#rest, input.subarray(at, until)])
      at = until
      if (lackOf(this.#rest, this.#rest.length) > 0) continue
      const packet = this.#rest
      this.#rest = undefined
      this.#packets(packet, 0, packet.length)
    }
    at = this.#packets(input, at, size)
    if (at < size) this.#rest = Buffer.from(input.subarray(at, size))
  }

  /** Those that are whole; where the first begins that is not. */
  #packets(bytes, from, size) {
    const { take } = this.#options
    let at = from
    while (size - at >= 2) {
      const isLong = bytes[at + 1] > 0x7f
      if (isLong && size - at < 3) break
      const start = at + (isLong ? 3 : 2)
      const end = start + (isLong ? (bytes[at + 1] & 0x7f) | (bytes[at + 2] << 7) : bytes[at + 1])
      if (end > size) break
      const type = bytes[at] >> 4
      this.received += 1
      if (type === 2 || type === 9 || type === 13) this.#answer(type, bytes, start, end)
      else take(bytes, at, start, end)
      at = end
    }
    return at
  }

  #answer(type, bytes, start, end) {
    if (type === 2) this.sessionPresent = bytes[start] === 1
    const code = type === 13 ? 0 : bytes[type === 2 ? start + 1 : end - 1]
    if (code > 2) this.#options.fail(new Error(`refused: ${code}`))
    this.#answered()
  }
}

/** How many bytes of its packet are missing, as far as it can be seen. */
function lackOf(bytes, size) {
  if (size < 2) return 2 - size
  const isLong = bytes[1] > 0x7f
  if (isLong && size < 3) return 1
  return (isLong ? 3 + ((bytes[1] & 0x7f) | (bytes[2] << 7)) : 2 + bytes[1]) - size
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
