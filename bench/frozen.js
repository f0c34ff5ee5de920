// npm run bench:frozen: twenty clients that all get two fan-outs, of QoS 0 and 1, and cross traffic among them; one of the twenty stops reading.
// The others keep their rate, and what waits for it stays within the limits of its queue. Slices without it and with it in turn, so that what
// the machine does otherwise meanwhile favours neither. Ends with status 1 where one of these does not hold.
//
//   --seconds N  measured in all, each way (60)
//   --slice N    seconds of each (5)
//   --json       the figures as JSON

import { mkdirSync, writeFileSync } from 'node:fs'
import { loadavg } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { fail, freePort, importing, isPinned, moveToLoadCore, scratchFolder, startBroker } from './brokers.js'
import { median, table, verdictLines } from './figures.js'
import { Group, openReceiver } from './group.js'
import { Link, secureWith } from './link.js'
import { aclText, clientTls, makeCertificates, tlsLines } from './mutual-tls.js'
import { describeMachine, heapOf, machine, memoryOf, startMeasuring, unsentTo } from './process.js'

const { values: options } = parseArgs({
  options: {
    seconds: { type: 'string', default: '60' },
    slice: { type: 'string', default: '5' },
    json: { type: 'boolean', default: false }
  }
})
const slice = Number(options.slice)
const rounds = Math.ceil(Number(options.seconds) / slice)
if (!(slice > 0 && rounds > 0)) fail('--seconds and --slice take numbers above 0')

const megabyte = 2 ** 20
/** Those who read, and the one that does not. */
const clients = 20
const payload = 512
const shared = { version: 4, payload, window: 10 }
/** The others may lose that much. */
const tolerance = 0.95
const queued = 1000
/** Bytes that the broker gives to a socket at a time. */
const oneWrite = 65_536
/**
 * What may wait for a client: `max_queued_messages` of QoS 0 and as many of QoS 1, the window, and one write. A message is its payload, its
 * frame and what the heap needs to know of it.
 */
const queueLimit = ((2 * queued + 20) * (payload + 1024) + 2 * oneWrite) / megabyte
/** Megabytes beside: what a heap under load is larger at one look than at another, and a process as the collector leaves it. */
const slack = { heap: 4, rss: 32 }
/** Seconds for the frozen one's socket to fill. */
const patience = 120

const loadBefore = loadavg()[0]
const folder = scratchFolder()
moveToLoadCore()
const certificates = join(folder, 'certs')
makeCertificates(certificates)
const place = join(folder, 'broker')
mkdirSync(place)
const port = await freePort()
const acl = join(folder, 'acl')
writeFileSync(acl, aclText())
const conf = [
  `listener ${port} 127.0.0.1`,
  ...tlsLines(certificates),
  'use_identity_as_username true',
  `acl_file ${acl}`,
  // Else a small packet may wait for the acknowledgement of the one before, and the broker idles.
  'set_tcp_nodelay true',
  `max_queued_messages ${queued}`
]
let dropping = ''
const broker = await startBroker('mosquitero', place, port, conf, {
  nodeArgs: importing('delay.js'),
  logTypes: ['error', 'warning', 'notice'],
  onLine: line => {
    ;[, dropping = dropping] = /Outgoing messages are being dropped for client (\S+)\./.exec(line) ?? []
  }
})

let isOver = false
let deliveries = 0
const common = {
  port,
  secure: secureWith(clientTls(certificates)),
  fail: ({ message }) => isOver || fail(message),
  delivered: () => {
    deliveries += 1
  },
  completed: () => {}
}
// The last of the twenty is the one that freezes: nobody waits for it. Each of them has what one other client publishes, and the next one has it too.
const readers = clients - 1
const fanOuts = [0, 1].map(qos => new Group(qos, { ...shared, qos, receivers: readers }, common))
const cross = Array.from({ length: clients }, (_, i) => {
  const receivers = [i, (i + 1) % clients].filter(reader => reader < readers).length
  return new Group(fanOuts.length + i, { ...shared, qos: 1, receivers }, common)
})
/** Of one of the twenty. */
const groupsOf = i => [...fanOuts, cross[i], cross[(i + clients - 1) % clients]]

for (let i = 0; i < readers; i++) {
  const groups = groupsOf(i)
  await openReceiver(
    `reader-${i}`,
    groups,
    groups.map(({ topic }) => topic),
    common
  )
}
for (const group of [...fanOuts, ...cross]) {
  await group.open()
  group.start()
}
say('warming up')
await sleep(3 * slice * 1000)

const start = await memory()
const without = []
const frozen = []
for (let round = 0; round < rounds; round++) {
  say(`round ${round + 1} of ${rounds}`)
  // What drifts favours neither.
  for (const isFrozen of round % 2 === 0 ? [false, true] : [true, false]) await (isFrozen ? withFrozen(round) : withoutFrozen())
}
await sleep(1000)
const after = await memory()

const ratio = medianOf(frozen, 'rate') / medianOf(without, 'rate')
const grown = {
  heap: medianOf(frozen, 'heap') - medianOf(without, 'heap'),
  rss: medianOf(frozen, 'rss') - medianOf(without, 'rss')
}
const allowed = { heap: queueLimit + slack.heap, rss: queueLimit + slack.rss }
const inWords = name => `at most ${allowed[name].toFixed(1)} MB more: ${queueLimit.toFixed(1)} of queue, ${slack[name]} beside`
const verdicts = [
  { what: 'rate of the others, frozen to without', expected: `at least ${tolerance}`, found: ratio.toFixed(3), holds: ratio >= tolerance },
  ...Object.entries({ heap: 'heap and buffers after a collection', rss: 'RSS' }).map(([name, what]) => ({
    what: `${what}, frozen against without`,
    expected: inWords(name),
    found: `${grown[name].toFixed(1)} MB more`,
    holds: grown[name] <= allowed[name]
  })),
  {
    what: 'heap and buffers after a collection, at the end against the start',
    expected: `at most ${slack.heap} MB more`,
    found: `${(after.heap - start.heap).toFixed(1)} MB more`,
    holds: after.heap - start.heap <= slack.heap
  }
]
// The load ends with it.
isOver = true
const status = await broker.stop()
verdicts.push({ what: 'status of the broker', expected: 0, found: status, holds: status === 0 })
const report = {
  ...machine(isPinned),
  loadAverage: [loadBefore, loadavg()[0]],
  seconds: rounds * slice,
  slice,
  payload,
  without: summary(without),
  frozen: { ...summary(frozen), unsent: medianOf(frozen, 'unsent'), filling: medianOf(frozen, 'filling') },
  ratio,
  start,
  after,
  most: Math.max(...frozen.map(({ rss }) => rss)),
  verdicts,
  slices: { without, frozen }
}
process.stdout.write(options.json ? `${JSON.stringify(report, undefined, 2)}\n` : text(report), () =>
  process.exit(verdicts.every(({ holds }) => holds) ? 0 : 1)
)

async function withoutFrozen() {
  without.push(await measure())
}

/** It subscribes to the same, reads no more, and is measured with once the kernel takes nothing more for it and its queue drops. */
async function withFrozen(round) {
  const clientId = `frozen-${round}`
  const link = await new Link({ port, secure: common.secure, clientId, ended: () => {}, fail: common.fail }).open()
  for (const { topic, shape } of groupsOf(readers)) await link.subscribe(topic, shape.qos)
  link.socket.pause()
  const filling = await filled(link.socket.localPort, clientId)
  const before = unsentTo(port, link.socket.localPort)
  const figures = await measure()
  const unsent = unsentTo(port, link.socket.localPort)
  if (link.isClosed) fail('the frozen one was thrown off')
  if (Math.abs(unsent - before) > oneWrite)
    fail(`the frozen one's socket was not full: ${before} bytes at the beginning of a slice, ${unsent} at its end`)
  frozen.push({ ...figures, unsent: unsent / megabyte, filling })
  link.socket.destroy()
  // What waited for it is let go.
  await sleep(500)
}

/** Seconds that it took. */
async function filled(localPort, clientId) {
  const start = performance.now()
  let last = -1
  for (;;) {
    await sleep(1000)
    const unsent = unsentTo(port, localPort)
    const elapsed = (performance.now() - start) / 1000
    if (unsent > 0 && unsent === last && dropping === clientId) return elapsed
    if (elapsed > patience) fail(`the socket of the frozen one was not full after ${patience} seconds`)
    last = unsent
  }
}

/** For one slice: what the others get in a second, and the broker's memory at its end. */
async function measure() {
  const figures = startMeasuring(broker.pid, () => deliveries)
  await sleep(slice * 1000)
  const { perSecond: rate, brokerLoad: share } = figures()
  return { rate, share, ...(await memory()) }
}

/** Megabytes. RSS is looked at first: a collection changes it. */
async function memory() {
  const rss = memoryOf(broker.pid) / megabyte
  const { heap, outside } = await heapOf(broker)
  return { rss, heap: heap + outside }
}

function medianOf(slices, name) {
  return median(slices.map(each => each[name]))
}

function summary(slices) {
  return Object.fromEntries(['rate', 'share', 'rss', 'heap'].map(name => [name, medianOf(slices, name)]))
}

function say(words) {
  process.stderr.write(`${words}\n`)
}

function text(found) {
  const row = (name, { rate, share, rss, heap }) => [
    name,
    ...[rate, share && share * 100, rss, heap].map((value, i) => (value === undefined ? '' : value.toFixed(i === 3 ? 1 : 0)))
  ]
  const rows = [row('at the start', start), row('without', found.without), row('frozen', found.frozen), row('at the end', after)]
  return `${describeMachine(found)}, load average ${found.loadAverage.map(value => value.toFixed(1)).join(' → ')}
mutual TLS, ${clients} clients, ${payload} bytes, ${rounds} slices of ${slice} s each way, medians

${table(['', 'deliveries/s to the others', 'broker, % of a core', 'RSS, MB', 'heap and buffers, MB'], rows)}
The frozen one's socket held ${found.frozen.unsent.toFixed(1)} MB and took ${found.frozen.filling.toFixed(0)} s to fill; the ratio is ${ratio.toFixed(3)}.

${verdictLines(verdicts)}`
}
