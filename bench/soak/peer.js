// A client of the soak: a connection with all that QoS 1 and 2 ask of both its ends, over a session that may outlive it.

import { once } from 'node:events'
import { field, flushLater, Link, lengthOf, packet, uint16 } from '../link.js'

/** What the broker lets a client have on its way, in either direction (`max_inflight_messages`, and the Receive Maximum that it tells). */
export const inflight = 20

/** What a client keeps between its connections. */
export class ClientSession {
  /** By packet identifier, in their order: `{ bytes, number, isReleased, done }`. */
  outgoing = new Map()
  /** Identifiers of QoS 2 that came and are not released. */
  incoming = new Set()
  #lastId = 0

  nextId() {
    do this.#lastId = (this.#lastId % 65_535) + 1
    while (this.outgoing.has(this.#lastId))
    return this.#lastId
  }
}

export class Peer extends Link {
  publishesSent = 0
  publishesReceived = 0
  /** MQTT 5: why the broker ended it. */
  reason
  #options
  #tally
  #bytes = []
  /** How it is to end, once that is wanted. */
  #ending
  #isReceiver = false

  /** `place`: port, certificates, tally. `onMessage(topic, payload, { dup, retain })`; `session`: for one that is to come back. */
  constructor(place, options) {
    const { clientId, version = 4, clean = true, will, session = new ClientSession(), onMessage = () => {}, resumes = false } = options
    super({
      port: place.port,
      secure: place.secure,
      // MQTT 5: the session stays for an hour.
      ...(version === 5 && !clean && { properties: Buffer.from('1100000e10', 'hex') }),
      ...(resumes && { session: place.ticket }),
      ...(!resumes && { onTicket: ticket => (place.ticket = ticket) }),
      clientId,
      version,
      clean,
      will,
      fail: error => place.tally.trouble('a client was refused', `${clientId}: ${error.message}`),
      take: (...given) => this.#take(...given),
      ended: () => this.#ended()
    })
    this.#tally = place.tally
    this.#options = { version, clean, clientId, onMessage }
    this.session = session
  }

  get unanswered() {
    return this.session.outgoing.size
  }

  /** With what was not answered on the connection before. */
  async open() {
    this.#tally.sockets += 1
    this.#tally.opened(this)
    await super.open()
    const { clientId, clean } = this.#options
    if (this.isClosed) throw new Error(`${clientId} was not let in`)
    this.#tally.handshakes[this.socket.isSessionReused() ? 'resumed' : 'full'] += 1
    if (clean || !this.sessionPresent) this.session.outgoing.clear()
    for (const [id, { bytes, isReleased }] of this.session.outgoing) {
      if (isReleased) this.acknowledge(0x62, id)
      else this.#write(Buffer.concat([Buffer.of(bytes[0] | 8), bytes.subarray(1)]))
    }
    return this
  }

  /** `done(code)`: it is acknowledged; 0 or a reason code. */
  publish(topic, payload, { qos = 0, retain = false, number, done } = {}) {
    const id = qos > 0 ? this.session.nextId() : 0
    const list = this.#options.version === 5 ? [Buffer.of(0)] : []
    const bytes = packet(0x30 | (qos << 1) | (retain ? 1 : 0), field(topic), ...(qos > 0 ? [uint16(id)] : []), ...list, payload)
    if (qos > 0) this.session.outgoing.set(id, { bytes, number, isReleased: false, done })
    this.#write(bytes)
  }

  /** Resolves when it is acknowledged, with 0 or a reason code. */
  published(topic, payload, options) {
    return new Promise(resolve => this.publish(topic, payload, { ...options, done: resolve }))
  }

  /** What was published before has been looked at, and what was on its way to here has come. */
  ping() {
    return this.ask(Buffer.of(0xc0, 0))
  }

  /** Says goodbye; resolves when the broker has closed. */
  async leave() {
    this.#end('left')
    const closed = this.#whenClosed()
    this.flush()
    this.close()
    await closed
  }

  /** Is gone, without a word. */
  kill() {
    this.#end('killed')
    this.socket.destroy()
  }

  /** Another connection of its client is about to take over; resolves when the broker has closed this one. */
  yield() {
    this.#end('taken over')
    return this.#whenClosed()
  }

  flush() {
    if (this.isClosed) return
    this.socket.cork()
    if (this.#bytes.length > 0) {
      const bytes = Buffer.concat(this.#bytes)
      this.#bytes = []
      this.socket.write(bytes)
    }
    super.flush()
    this.socket.uncork()
  }

  #write(bytes) {
    this.sent += 1
    this.publishesSent += 1
    this.#bytes.push(bytes)
    flushLater(this)
  }

  // What is on its way when it is cut may or may not arrive: of each message in a window one packet at the most.
  #end(how) {
    this.#ending = how
    this.#tally.ends[how] += 1
    const [ours, theirs] = [this.unanswered, this.#isReceiver ? inflight : 0]
    if (how === 'left' || ours + theirs === 0) return
    this.#tally.unsure({ sent: ours + theirs, received: ours + theirs, publishesSent: ours, publishesReceived: theirs })
  }

  /** What comes to it comes without pause: some of it may be on its way at any time. */
  receivesSteadily() {
    this.#isReceiver = true
    return this
  }

  async #whenClosed() {
    if (!this.isClosed) await once(this.socket, 'close')
  }

  #ended() {
    this.#tally.closed(this)
    const { clientId } = this.#options
    if (this.#ending === undefined)
      this.#tally.trouble('a connection ended that nobody ended', `${clientId}, reason ${this.reason ?? 'none'}`)
  }

  #take(bytes, at, start, end) {
    const type = bytes[at] >> 4
    if (type === 3) {
      this.#message(bytes, at, start, end)
      return
    }
    if (type === 14) {
      this.reason = end > start ? bytes[start] : 0
      return
    }
    // What comes behind our own goodbye is for the next connection.
    if (this.#ending !== undefined) return
    const id = bytes.readUInt16BE(start)
    const code = end > start + 2 ? bytes[start + 2] : 0
    if (type === 4 || type === 7 || (type === 5 && code >= 0x80)) this.#answered(id, code)
    else if (type === 5) {
      const message = this.session.outgoing.get(id)
      if (message) message.isReleased = true
      this.acknowledge(0x62, id)
    } else if (type === 6) {
      this.session.incoming.delete(id)
      this.acknowledge(0x70, id)
    }
  }

  #answered(id, code) {
    const message = this.session.outgoing.get(id)
    this.session.outgoing.delete(id)
    message?.done?.(code)
  }

  #message(bytes, at, start, end) {
    this.publishesReceived += 1
    if (this.#ending !== undefined) return
    const head = bytes[at]
    const qos = (head >> 1) & 3
    let from = start + 2 + bytes.readUInt16BE(start)
    const topic = bytes.latin1Slice(start + 2, from)
    let isNew = true
    if (qos > 0) {
      const id = bytes.readUInt16BE(from)
      from += 2
      if (qos === 2) {
        isNew = !this.session.incoming.has(id)
        this.session.incoming.add(id)
      }
      this.acknowledge(qos === 1 ? 0x40 : 0x50, id)
    }
    if (this.#options.version === 5) {
      const size = bytes[from] & 0x7f
      from += lengthOf(size).length + size
    }
    if (isNew) this.#options.onMessage(topic, Buffer.from(bytes.subarray(from, end)), { dup: (head & 8) !== 0, retain: (head & 1) !== 0 })
  }
}
