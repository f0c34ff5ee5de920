// Clients that are there all the time: pairs of a publisher and a receiver, and a publisher to ten, in each QoS and by both protocols.

import { inflight, Peer } from './peer.js'
import { Stream } from './stream.js'

/** A receiver that has so many to come holds its publisher up. */
const window = 100
const versions = [4, 5]
const sizes = [20, 200, 2000]

/** Resolves with the streams, whose publishers have begun. */
export async function openSteady(place, pace) {
  const streams = []
  for (const qos of [0, 1, 2]) {
    for (const version of versions) {
      for (const size of sizes)
        streams.push(await openStream(place, pace, `pair-${qos}-${version}-${size}`, { qos, version, size, perSecond: 60 }))
    }
    streams.push(
      await openStream(place, pace, `fan-out-${qos}`, { qos, version: versions[qos % 2], size: 100, perSecond: 30, receivers: 10 })
    )
  }
  return streams
}

async function openStream(place, pace, name, { qos, version, size, perSecond, receivers = 1 }) {
  const stream = new Stream(name, qos, size, place.tally)
  for (let i = 0; i < receivers; i++) {
    const clientId = `${name}-reader-${i}`
    const reader = stream.reader(clientId)
    // Of many, those of both protocols.
    const peer = new Peer(place, { clientId, version: receivers > 1 ? versions[i % 2] : version, onMessage: reader.onMessage })
    await peer.open()
    await peer.subscribe(Buffer.from(stream.topic), qos)
  }
  const publisher = await new Peer(place, { clientId: `${name}-writer`, version }).open()
  pace.every(perSecond, () => {
    if (publisher.unanswered >= inflight || stream.behind >= window) return false
    stream.publish(publisher)
    return true
  })
  return stream
}
