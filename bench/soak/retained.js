// Retained messages are set, replaced and cleared, and who subscribes then gets them as they are.

import { holds } from './holds.js'
import { Peer } from './peer.js'

const topics = 100
const changesAtOnce = 10

export async function openRetained(place, pace, random) {
  /** What is retained, by topic. */
  const model = new Map()
  const keeper = await new Peer(place, { clientId: 'keeper', version: 5 }).open()
  let version = 0
  let reads = 0

  const change = async () => {
    const chosen = new Set(Array.from({ length: changesAtOnce }, () => `bench/kept/${random.below(topics)}`))
    const answers = [...chosen].map(topic => {
      const payload = random.next() < 0.3 ? '' : `${topic} as of change ${version++}`
      if (payload === '') model.delete(topic)
      else model.set(topic, payload)
      return keeper.published(topic, Buffer.from(payload), { qos: random.pick([1, 2]), retain: true })
    })
    await Promise.all(answers)
  }
  const read = async () => {
    const found = new Map()
    let count = 0
    const onMessage = (topic, payload, { retain }) => {
      count += 1
      if (!retain) place.tally.trouble('a retained message came without its flag', topic)
      found.set(topic, payload.toString())
    }
    const peer = new Peer(place, { clientId: `kept-reader-${reads++}`, version: random.pick([4, 5]), onMessage })
    await peer.open()
    await peer.subscribe(Buffer.from('bench/kept/+'), random.below(3))
    await holds(() => count >= model.size && peer.session.incoming.size === 0)
    await peer.ping()
    const isRight = count === model.size && [...model].every(([topic, payload]) => found.get(topic) === payload)
    if (!isRight) place.tally.trouble('retained messages were not what they should be', `${count} of ${model.size} came`)
    await peer.leave()
  }
  const changeAndRead = async () => {
    await change()
    await read()
  }
  pace.everyAtMost(1, 0.5, changeAndRead, error => place.tally.trouble('retained messages could not be read', error.message))
  return {
    model,
    get reads() {
      return reads
    }
  }
}
