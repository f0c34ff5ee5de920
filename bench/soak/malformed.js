// What no client should say: before TLS, in its handshake, instead of CONNECT, behind it. It costs the connection it came on and nothing else.
// By a user of its own, so that what a changed byte makes of a packet reaches nobody.

import { once } from 'node:events'
import { connect as connectTcp } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { connect as connectTls } from 'node:tls'
import { connectPacket, field, packet, uint16 } from '../link.js'
import { patience } from './holds.js'

/** The beginning of a ClientHello, which then says no more. */
const helloStart = Buffer.from('1603010200010001fc0303', 'hex')
const topic = field('rubbish/x')
const hello = (clientId, version) => connectPacket({ clientId, version, clean: true })

/** `raw`: without TLS. `isLong`: of more than two packets. `stays`: it may be that nothing is wrong with it, or nothing comes after it; we close then. */
const kinds = {
  'rubbish instead of TLS': { raw: true, say: ({ random }) => random.bytes(200) },
  'MQTT instead of TLS': { raw: true, say: ({ clientId }) => hello(clientId, 4) },
  'half a ClientHello': { raw: true, stays: true, say: ({ random }) => Buffer.concat([helloStart, random.bytes(50)]) },
  'TLS and no certificate': { bare: true, say: ({ clientId }) => hello(clientId, 4) },
  'rubbish instead of CONNECT': { say: ({ random }) => Buffer.concat([Buffer.of(0), random.bytes(60)]) },
  'another protocol': { say: ({ clientId }) => packet(0x10, field('MQXX'), Buffer.of(4, 2, 0, 0), field(clientId)) },
  'a protocol of the future': { say: ({ clientId }) => packet(0x10, field('MQTT'), Buffer.of(9, 2, 0, 0), field(clientId)) },
  'a reserved flag': { say: ({ clientId }) => packet(0x10, field('MQTT'), Buffer.of(4, 3, 0, 0), field(clientId)) },
  'half a CONNECT': { stays: true, say: ({ clientId }) => hello(clientId, 5).subarray(0, 9) },
  'PUBLISH before CONNECT': { say: () => packet(0x30, topic, Buffer.from('x')) },
  'a second CONNECT': { behind: true, say: ({ clientId, version }) => hello(clientId, version) },
  'a length of five bytes': { behind: true, say: () => Buffer.from('30ffffffff01', 'hex') },
  'QoS 3': { behind: true, say: () => packet(0x36, topic, uint16(1), Buffer.from('x')) },
  'a topic with a wildcard': { behind: true, say: ({ list }) => packet(0x30, field('rubbish/#'), list, Buffer.from('x')) },
  'a topic that is not UTF-8': { behind: true, say: ({ list }) => packet(0x30, field(Buffer.from('727562ff', 'hex')), list) },
  'SUBSCRIBE to nothing': { behind: true, say: ({ list }) => packet(0x82, uint16(1), list) },
  'an unknown property': { behind: true, only: 5, say: () => packet(0x30, topic, Buffer.from('02fe01', 'hex')) },
  'half a PUBLISH': { behind: true, stays: true, say: ({ list }) => packet(0x30, topic, list, Buffer.alloc(100)).subarray(0, 40) },
  'changed bytes': { behind: true, stays: true, isLong: true, say: ({ random, list }) => mutated(conversation(list), random) }
}

export function openMalformed(place, pace, random) {
  const names = Object.keys(kinds)
  const counts = Object.fromEntries(names.map(name => [name, 0]))
  let number = 0
  const one = async () => {
    // Each of them in turn, so that a short run has all of them too.
    const name = names[number++ % names.length]
    counts[name] += 1
    await misbehave(place, random, kinds[name], name, `bad-${number}`)
  }
  pace.everyAtMost(5, 0.075, one, error => place.tally.trouble('a malformed connection failed', error.message))
  return counts
}

async function misbehave({ port, secure, stranger, tally }, random, kind, name, clientId) {
  const version = kind.only ?? random.pick([4, 5])
  const list = version === 5 ? Buffer.of(0) : Buffer.alloc(0)
  const address = { host: '127.0.0.1', port, noDelay: true }
  const socket = kind.raw
    ? connectTcp(address)
    : connectTls({ ...address, ...(kind.bare ? { ca: secure.ca, servername: 'localhost' } : stranger) })
  tally.sockets += 1
  tally.ends.malformed += 1
  let came = 0
  socket.on('error', () => {})
  socket.on('data', chunk => {
    came += chunk.length
  })
  const closed = new Promise(resolve => socket.once('close', resolve))
  const start = kind.behind ? hello(clientId, version) : Buffer.alloc(0)
  const words = kind.say({ clientId, version, list, random })
  await Promise.race([closed, once(socket, kind.raw ? 'connect' : 'secureConnect').catch(() => {})])
  if (!socket.destroyed) socket.write(Buffer.concat([start, words]))
  const isClosed = await Promise.race([closed.then(() => true), sleep(kind.stays ? 300 : patience, false, { ref: false })])
  if (!isClosed && !kind.stays) tally.trouble('the broker went on with a malformed connection', name)
  socket.destroy()
  if (kind.raw) return
  // Of changed bytes nobody knows what the broker made: packets of two bytes at the least, or nothing. Its last words may not have come.
  tally.strangers({ said: kind.isLong ? Math.ceil((start.length + words.length) / 2) : 2, heard: Math.ceil(came / 2) + 2 })
}

const conversation = list => [
  packet(0x82, uint16(1), list, field('rubbish/+'), Buffer.of(1)),
  packet(0x30, topic, list, Buffer.from('rubbish')),
  packet(0x32, topic, uint16(2), list, Buffer.from('rubbish')),
  packet(0x34, topic, uint16(3), list, Buffer.from('rubbish')),
  packet(0x62, uint16(3)),
  Buffer.of(0xc0, 0)
]

/** One of them otherwise. */
function mutated(packets, random) {
  const chosen = random.below(packets.length)
  return Buffer.concat(packets.map((bytes, i) => (i === chosen ? mutate(bytes, random) : bytes)))
}

function mutate(bytes, random) {
  const at = random.below(bytes.length)
  const copy = Buffer.from(bytes)
  switch (random.below(5)) {
    case 0:
      copy[at] = random.below(256)
      return copy
    case 1:
      copy[at] ^= 1 << random.below(8)
      return copy
    case 2:
      return copy.subarray(0, at)
    case 3:
      return Buffer.concat([copy.subarray(0, at), random.bytes(1 + random.below(8)), copy.subarray(at)])
    default:
      return Buffer.concat([copy.subarray(0, at), copy.subarray(at + 1 + random.below(4))])
  }
}
