// The load of `npm run bench` and others: one shape of traffic for so many seconds, in a process of its own. Its one argument is JSON, its result too. A
// message is outstanding until its publisher has its acknowledgement and each of its receivers the message, and no more than `window` of a publisher are.

import { setTimeout as sleep } from 'node:timers/promises'
import { connect as connectTls } from 'node:tls'
import { percentile } from './figures.js'
import { Group, openReceiver } from './group.js'
import { Link, packet, secureWith, uint16 } from './link.js'
import { memoryOf, startMeasuring } from './process.js'

const { port, tls, shape, seconds, warmUp, brokerPid } = JSON.parse(process.argv[2])
const secure = secureWith(tls)
/** Without a message in so many seconds it is over. */
const patience = 20

let isMeasured = false
/** Deliveries, or handshakes. */
let done = 0
const latencies = []
/** What the groups have in common. */
const common = {
  port,
  secure,
  fail,
  delivered: () => {
    done += 1
  },
  completed: took => {
    if (isMeasured) latencies.push(took)
  }
}

/** Several at a time: a small packet may have to wait for the acknowledgement of the one before, 40 ms. */
async function each(list, act) {
  const waiting = list.values()
  const work = async () => {
    for (const one of waiting) await act(one)
  }
  await Promise.all(Array.from({ length: 32 }, work))
}

async function openGroups() {
  const { kind, count, receivers } = shape
  const groups = Array.from(
    { length: count },
    (_, number) => new Group(number, { ...shape, receivers: kind === 'fan-in' ? 1 : receivers }, common)
  )
  if (kind === 'fan-in') await openReceiver('sub', groups, [Buffer.from('bench/plant/#')], common)
  else {
    const all = groups.flatMap(group => Array.from({ length: receivers }, (_, i) => [group, i]))
    await each(all, ([group, i]) => openReceiver(`sub-${group.number}-${i}`, [group], [group.topic], common))
  }
  await each(groups, group => group.open())
  for (const group of groups) {
    if (shape.rate === undefined) group.start()
    else group.startAt(shape.rate / count)
  }
}

/** Connections that come, are answered, and go, so many at a time. */
function shakeHands() {
  const secure = secureWith(tls, true)
  let session
  let number = 0
  const next = () => {
    const clientId = Buffer.from(`h-${number++}`)
    const socket = connectTls({ host: '127.0.0.1', port, noDelay: true, ...secure, ...(shape.resumed && session && { session }) })
    socket.on('error', fail)
    socket.on('session', ticket => {
      session ??= ticket
    })
    socket.on('data', () => {
      done += 1
      if (shape.resumed && isMeasured && !socket.isSessionReused()) fail(new Error('a session was not resumed'))
      socket.end(Buffer.of(0xe0, 0))
    })
    socket.on('close', next)
    socket.write(packet(0x10, uint16(4), Buffer.from('MQTT'), Buffer.of(4, 2, 0, 0), uint16(clientId.length), clientId))
  }
  for (let i = 0; i < shape.count; i++) next()
}

/** What one idle connection costs, kilobytes. */
async function idle() {
  const open = async from => {
    const numbers = Array.from({ length: shape.count }, (_, i) => from + i)
    await each(numbers, i => new Link({ port, secure, fail, clientId: `idle-${i}` }).open())
    await sleep(3000)
    return memoryOf(brokerPid)
  }
  // What is allocated once is so by the first ones.
  const before = await open(0)
  return { kilobytes: ((await open(shape.count)) - before) / 1024 / shape.count }
}

function fail(error) {
  process.stderr.write(`${error.message}\n`)
  process.exit(1)
}

async function measure() {
  if (shape.kind === 'handshakes') shakeHands()
  else await openGroups()
  let last = 0
  setInterval(() => {
    if (done === last) fail(new Error(`nothing came for ${patience} seconds`))
    last = done
  }, patience * 1000).unref()
  await sleep(warmUp * 1000)
  isMeasured = true
  const figures = startMeasuring(brokerPid, () => done)
  await sleep(seconds * 1000)
  const measured = figures()
  latencies.sort((a, b) => a - b)
  return {
    ...measured,
    megabytes: memoryOf(brokerPid) / 2 ** 20,
    p50: percentile(latencies, 0.5),
    p99: percentile(latencies, 0.99)
  }
}

const result = shape.kind === 'idle' ? await idle() : await measure()
process.stdout.write(JSON.stringify(result), () => process.exit(0))
