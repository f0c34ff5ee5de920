// Sessions that outlive their connections, on both sides of a stream: again and again one of them says goodbye, is cut off or is taken over,
// stays away for a while, and comes back. Nothing that was acknowledged is lost, the order stays, and QoS 2 comes once.

import { setTimeout as sleep } from 'node:timers/promises'
import { ClientSession, inflight, Peer } from './peer.js'
import { Stream } from './stream.js'

/** Below `max_queued_messages`: what is queued for one who is away is not dropped. */
const window = 500
/** Streams of each QoS and protocol. */
const each = 3
/** Milliseconds. */
const longestAway = 3000

export async function openKept(place, pace, random) {
  const ends = []
  const streams = []
  for (const qos of [1, 2]) {
    for (const version of [4, 5]) {
      for (let i = 0; i < each; i++) {
        const name = `kept-${qos}-${version}-${i}`
        const stream = new Stream(name, qos, 100, place.tally)
        const receiver = new End(place, `${name}-reader`, version, { onMessage: stream.reader(`${name}-reader`).onMessage })
        const publisher = new End(place, `${name}-writer`, version, { comesBack: session => stream.sendsAgain(session) })
        await receiver.open()
        await receiver.peer.subscribe(Buffer.from(stream.topic), qos)
        await publisher.open()
        pace.every(30, () => {
          const { peer } = publisher
          if (peer === undefined || peer.unanswered >= inflight || stream.behind >= window) return false
          stream.publish(peer)
          return true
        })
        ends.push(receiver, publisher)
        streams.push(stream)
      }
    }
  }
  const goAway = async () => {
    const end = random.pick(ends)
    if (end.peer !== undefined) await end.interrupt(random)
  }
  pace.everyAtMost(6, 0.5, goAway, error => place.tally.trouble('a session could not go on', error.message))
  return { streams, ends }
}

/** One side of a stream. */
class End {
  /** Undefined: it is away. */
  peer
  #place
  #options
  #session = new ClientSession()
  #comesBack
  #isKnown = false

  constructor(place, clientId, version, { onMessage, comesBack = () => {} }) {
    this.#place = place
    this.clientId = clientId
    this.#comesBack = comesBack
    this.#options = { clientId, version, clean: false, session: this.#session, ...(onMessage && { onMessage }) }
    this.isReceiver = onMessage !== undefined
  }

  async open(resumes = false) {
    const peer = new Peer(this.#place, { ...this.#options, resumes })
    if (this.isReceiver) peer.receivesSteadily()
    if (this.#isKnown) this.#comesBack(this.#session)
    await peer.open()
    if (this.#isKnown !== peer.sessionPresent) this.#place.tally.trouble('the broker forgot a session, or made one up', this.clientId)
    this.#isKnown = true
    this.peer = peer
  }

  async interrupt(random) {
    const { peer } = this
    this.peer = undefined
    const how = random.pick(['leave', 'kill', 'take over'])
    if (how === 'take over') {
      const gone = peer.yield()
      await Promise.all([this.open(), gone])
      return
    }
    if (how === 'leave') await peer.leave()
    else peer.kill()
    await sleep(random.below(longestAway))
    await this.open(random.next() < 0.5)
  }

  /** Ends the session. */
  async forget() {
    const { clientId } = this.#options
    const peer = await new Peer(this.#place, { clientId }).open()
    await peer.leave()
  }
}
