// The load of `npm run bench` and others: one shape of traffic for so many seconds, in a process of its own. Its one argument is JSON, its result too. A
// message is outstanding until its publisher has its acknowledgement and each of its receivers the message, and no more than `window` of a publisher are.
//
// With `isInTurn` it pauses once it is warm and prints an empty line; from then on each line of standard input is for how many seconds it is to go
// on, and is answered by a line with what was measured. It ends with its input.

import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import { connect as connectTls } from 'node:tls'
import { percentile } from './figures.js'
import { Group, openReceiver } from './group.js'
import { Link, packet, secureWith, uint16 } from './link.js'
import { memoryOf, startMeasuring } from './process.js'

const { port, tls, shape, seconds, warmUp, brokerPid, isInTurn = false } = JSON.parse(process.argv[2])
const secure = secureWith(tls)
/** Without a message in so many seconds it is over. */
const patience = 20

/** Between being paused and standing still, and between going on and being measured, seconds. */
const settling = 0.15

let isMeasured = false
/** Deliveries, or handshakes. */
let done = 0
let latencies = []
/** What goes on publishing or connecting. */
let sources = []
/** What the groups have in common. */
const common = {
  isPaused: false,
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
  for (const group of groups) group.start()
  sources = groups
}

/** Connections that come, are answered, and go, so many at a time. */
function shakeHands() {
  const secure = secureWith(tls, true)
  let session
  let number = 0
  let waiting = 0
  const next = () => {
    if (common.isPaused) {
      waiting += 1
      return
    }
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
  const resume = () => {
    for (; waiting > 0; waiting--) next()
  }
  sources = [{ resume }]
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

async function start() {
  if (shape.kind === 'handshakes') shakeHands()
  else await openGroups()
  let last = 0
  setInterval(() => {
    if (done === last) fail(new Error(`nothing came for ${patience} seconds`))
    // What was paused may have had no time yet when this looks again.
    last = common.isPaused ? undefined : done
  }, patience * 1000).unref()
  await sleep(warmUp * 1000)
  if (shape.rate === undefined) return
  // At its rate a process would be warm after minutes only.
  for (const group of sources) group.slowDown()
  sources = [pacer(sources, shape.rate)]
  await sleep(1000)
}

/** One message after the other, from one group after the other, so many in a second. */
function pacer(groups, rate) {
  let turn = 0
  let timer
  const resume = () => {
    let next = performance.now()
    timer = setInterval(() => {
      for (const now = performance.now(); next <= now; next += 1000 / rate) groups[turn++ % groups.length].publishOne()
    }, 1)
  }
  resume()
  return { resume, pause: () => clearInterval(timer) }
}

async function measure(seconds) {
  latencies = []
  isMeasured = true
  const figures = startMeasuring(brokerPid, () => done)
  await sleep(seconds * 1000)
  const measured = figures()
  isMeasured = false
  latencies.sort((a, b) => a - b)
  return {
    ...measured,
    megabytes: memoryOf(brokerPid) / 2 ** 20,
    p50: percentile(latencies, 0.5),
    p99: percentile(latencies, 0.99)
  }
}

async function pause() {
  common.isPaused = true
  for (const source of sources) source.pause?.()
  await sleep(settling * 1000)
}

async function resume() {
  common.isPaused = false
  for (const source of sources) source.resume()
  await sleep(settling * 1000)
}

async function inTurn() {
  await start()
  await pause()
  process.stdout.write('\n')
  for await (const line of createInterface({ input: process.stdin })) {
    await resume()
    const figures = await measure(Number(line))
    await pause()
    process.stdout.write(`${JSON.stringify(figures)}\n`)
  }
}

async function once() {
  if (shape.kind === 'idle') return await idle()
  await start()
  return await measure(seconds)
}

if (isInTurn) await inTurn()
else process.stdout.write(JSON.stringify(await once()))
// Written by then: standard output is a pipe or a file.
process.exit(0)
