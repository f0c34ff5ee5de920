// Clients that come and go: some to say something and hear it, some in the place of one that is there already, some to die and leave a will.

import { setTimeout as sleep } from 'node:timers/promises'
import { holds } from './holds.js'
import { Peer } from './peer.js'

const takenIds = 10

export async function openVisits(place, pace, random) {
  const { tally } = place
  const failed = what => error => tally.trouble(`${what} did not go as it should`, error.message)
  let number = 0
  const taken = Array.from({ length: takenIds }, () => ({ peer: undefined, isBusy: false }))
  const wills = await openWills(place, random)

  pace.everyAtMost(12, 4, () => visit(place, random, `visitor-${number++}`), failed('a visit'))
  pace.everyAtMost(takenIds, 1, () => takeOver(place, random, taken), failed('a take-over'))
  pace.everyAtMost(20, 1, () => wills.leaveOne(number++), failed('a client with a will'))
  return {
    wills,
    /** Of those who are there. */
    get subscriptions() {
      return taken.filter(({ peer }) => peer !== undefined).length
    }
  }
}

/** By a full handshake, or a resumed one. */
async function visit(place, random, clientId) {
  const topic = `bench/visit/${clientId}`
  const qos = random.below(3)
  let heard = ''
  const onMessage = (_topic, payload) => {
    heard += payload.toString()
  }
  const peer = new Peer(place, { clientId, version: random.pick([4, 5]), onMessage, resumes: random.next() < 0.5 })
  await peer.open()
  await peer.subscribe(Buffer.from(topic), qos)
  if (qos === 0) peer.publish(topic, Buffer.from('hello'))
  else await peer.published(topic, Buffer.from('hello'), { qos })
  if (!(await holds(() => heard.length >= 5 && peer.session.incoming.size === 0)))
    place.tally.trouble('a visitor did not hear itself', clientId)
  await peer.ping()
  if (heard !== 'hello') place.tally.trouble('a visitor did not hear itself once', `${clientId} heard "${heard}"`)
  await peer.leave()
}

async function takeOver(place, random, taken) {
  const i = random.below(taken.length)
  const one = taken[i]
  if (one.isBusy) return
  one.isBusy = true
  const topic = `bench/taken/${i}`
  let heard = 0
  const gone = one.peer?.yield()
  const version = random.pick([4, 5])
  const peer = new Peer(place, { clientId: `taken-${i}`, version, onMessage: () => (heard += 1) })
  await Promise.all([peer.open(), gone])
  if (one.version === 5 && one.peer.reason !== 0x8e) place.tally.trouble('who was taken over was not told', `reason ${one.peer.reason}`)
  await peer.subscribe(Buffer.from(topic), 1)
  await peer.published(topic, Buffer.from('mine'), { qos: 1 })
  await holds(() => heard > 0)
  await peer.ping()
  if (heard !== 1) place.tally.trouble('who took over did not hear itself once', `${heard} times`)
  Object.assign(one, { peer, version, isBusy: false })
}

/** One client hears all wills. */
async function openWills(place, random) {
  const due = new Set()
  const counts = { heard: 0, notDue: 0 }
  const heir = new Peer(place, {
    clientId: 'heir',
    version: 5,
    onMessage: (_topic, payload) => {
      const name = payload.toString()
      if (due.delete(name)) counts.heard += 1
      else place.tally.trouble('a will came that was not due, or twice', name)
    }
  })
  await heir.open()
  await heir.subscribe(Buffer.from('bench/will/+'), 2)
  return {
    due,
    counts,
    async leaveOne(number) {
      const clientId = `mortal-${number}`
      const will = { topic: `bench/will/${number % 100}`, payload: clientId, qos: random.below(3) }
      const peer = await new Peer(place, { clientId, version: random.pick([4, 5]), will, resumes: random.next() < 0.5 }).open()
      await sleep(random.below(500))
      if (random.next() < 0.2) {
        counts.notDue += 1
        await peer.leave()
        return
      }
      due.add(clientId)
      peer.kill()
      if (!(await holds(() => !due.has(clientId)))) place.tally.trouble('a will did not come', clientId)
    }
  }
}
