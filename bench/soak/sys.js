// What the broker says of itself below $SYS, read by one client, beside what the load had said and heard when the broker counted.

import { holds } from './holds.js'
import { Peer } from './peer.js'

export class Sys {
  #values = new Map()
  #ticks = 0
  /** Of the load, when the last values were counted. */
  #bounds

  async open(place) {
    const onMessage = (topic, payload) => {
      if (payload.length === 0) this.#values.delete(topic)
      else this.#values.set(topic, payload.toString())
      if (topic !== '$SYS/broker/uptime') return
      // The first one of each tick; the message itself came behind the count.
      this.#ticks += 1
      const bounds = place.tally.bounds()
      for (const kind of ['received', 'publishesReceived']) {
        bounds[kind].atLeast -= 1
        bounds[kind].atMost -= 1
      }
      this.#bounds = bounds
    }
    this.peer = new Peer(place, { clientId: 'watcher', onMessage })
    await this.peer.open()
    await this.peer.subscribe(Buffer.from('$SYS/#'), 0)
    return this
  }

  /** Values that were counted after now, and are all here. */
  async next() {
    const before = this.#ticks
    await holds(() => this.#ticks >= before + 2)
    await this.peer.ping()
    return {
      value: name => Number(this.#values.get(`$SYS/broker/${name}`)),
      bounds: this.#bounds,
      topics: this.#values.size
    }
  }
}
