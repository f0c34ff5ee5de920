// The load of `npm run bench:filters`: clients with many filters each, and one that publishes to as many topics in turn, each of which one client
// has a filter for.

import { setTimeout as sleep } from 'node:timers/promises'
import { fail } from './brokers.js'
import { flushLater, Link, packet, uint16 } from './link.js'
import { startMeasuring } from './process.js'

const perPacket = 200
/** Messages on their way at a time. */
const window = 20
const payload = 100

/** Three of four filters are topics, the fourth has a wildcard at its end. Each topic matches one of them. */
function filterOf(client, number) {
  return `bench/line/${client}/${number}/${number % 4 === 3 ? '+' : 'state'}`
}

export class FilterLoad {
  filters = 0
  #each = 0
  #port
  #secure
  #links = []
  #publisher
  #delivered = 0
  #toSend = 0
  /** Goes through all filters in a stride that meets each, so that none comes again before all have. */
  #at = 0
  #idle = () => {}
  #isSending = false
  #onTheirWay = 0

  constructor(port, secure) {
    this.#port = port
    this.#secure = secure
  }

  /** `clients`: how many have filters; as many from beginning to end, so that a message is a write of its own in each step. */
  async open(clients) {
    this.#publisher = await this.#link('publisher', () => {}).open()
    this.#publisher.flush = () => this.#flush()
    for (let i = 0; i < clients; i++) {
      const take = (bytes, at) => {
        if (bytes[at] >> 4 === 3) this.#arrived()
      }
      this.#links.push(await this.#link(`line-${i}`, take).open())
    }
  }

  #link(clientId, take) {
    return new Link({ port: this.#port, secure: this.#secure, fail: error => fail(error.message), clientId, take })
  }

  /** Subscribes until each client has so many filters. */
  async grow(each) {
    for (const [client, link] of this.#links.entries()) {
      for (let first = this.#each; first < each; first += perPacket) {
        const numbers = Array.from({ length: Math.min(perPacket, each - first) }, (_, i) => first + i)
        const parts = numbers.map(number => Buffer.from(filterOf(client, number)))
        await link.ask(packet(0x82, uint16(1), ...parts.flatMap(part => [uint16(part.length), part, Buffer.of(0)])))
        this.filters += parts.length
      }
    }
    this.#each = each
  }

  /** For so many seconds; what that cost the broker. */
  async send(pid, seconds) {
    this.#isSending = true
    this.#onTheirWay = window
    this.#toSend = window
    flushLater(this.#publisher)
    await sleep(500)
    const done = startMeasuring(pid, () => this.#delivered)
    await sleep(seconds * 1000)
    const figures = done()
    this.#isSending = false
    await new Promise(resolve => {
      this.#idle = resolve
    })
    return figures
  }

  #arrived() {
    this.#delivered += 1
    if (this.#isSending) {
      this.#toSend += 1
      flushLater(this.#publisher)
      return
    }
    this.#onTheirWay -= 1
    if (this.#onTheirWay === 0) this.#idle()
  }

  #flush() {
    const packets = []
    for (; this.#toSend > 0; this.#toSend--) {
      // Prime, and no divisor of any number of filters here.
      this.#at = (this.#at + 7919) % this.filters
      const [client, number] = [this.#at % this.#links.length, Math.floor(this.#at / this.#links.length)]
      const topic = Buffer.from(`bench/line/${client}/${number}/state`)
      packets.push(packet(0x30, uint16(topic.length), topic, Buffer.alloc(payload, 'x')))
    }
    this.#publisher.socket.write(Buffer.concat(packets))
  }

  close() {
    for (const link of [this.#publisher, ...this.#links]) link.close()
  }
}
