// npm run bench:soak: mixed load at about half of what the broker can do, for half an hour. Memory stays flat, the event loop in time, and what
// the broker counts is what was sent and received. Ends with status 1 where one of these does not hold.
//
//   --minutes N  how long, after the warm-up (30)
//   --seed N     of the mix, to have the same one again
//   --json       the figures as JSON

import { mkdirSync, writeFileSync } from 'node:fs'
import { loadavg } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { confText, fail, freePort, importing, isPinned, moveToLoadCore, scratchFolder, startBroker } from './brokers.js'
import { slope, table, verdictLines } from './figures.js'
import { secureWith } from './link.js'
import { clientTls, makeCertificates, tlsLines } from './mutual-tls.js'
import { describeMachine, heapOf, machine, memoryOf, startMeasuring } from './process.js'
import { holds } from './soak/holds.js'
import { openKept } from './soak/kept.js'
import { Log } from './soak/log.js'
import { openMalformed } from './soak/malformed.js'
import { Pace } from './soak/pace.js'
import { Peer } from './soak/peer.js'
import { Random } from './soak/random.js'
import { firstAcl, firstLimit, Reloads } from './soak/reloads.js'
import { openRetained } from './soak/retained.js'
import { openSteady } from './soak/steady.js'
import { Sys } from './soak/sys.js'
import { Tally } from './soak/tally.js'
import { openVisits } from './soak/visits.js'

const { values: options } = parseArgs({
  options: {
    minutes: { type: 'string', default: '30' },
    seed: { type: 'string', default: String(Date.now() % 1_000_000_007) },
    json: { type: 'boolean', default: false }
  }
})
const minutes = Number(options.minutes)
if (!(minutes > 0)) fail('--minutes takes a number above 0')

/** Of the broker's core. */
const wantedShare = 0.5
const isLong = minutes >= 10
/** Seconds. */
const times = {
  fullThrottle: isLong ? 10 : 2,
  regulation: isLong ? 40 : 5,
  // What is compiled, cached and allocated once is so after that.
  warmUp: Math.min(120, minutes * 20),
  measured: minutes * 60,
  betweenSamples: isLong ? 5 : Math.max(0.5, minutes),
  betweenReloads: Math.min(60, minutes * 10)
}
const megabyte = 2 ** 20
/** Megabytes. In less than ten minutes neither Node's heap nor what it has compiled has found its size. */
const bounds = isLong ? { heap: 4, outside: 4, trend: 16 } : { heap: 16, outside: 16, trend: 96 }

const loadBefore = loadavg()[0]
const folder = scratchFolder()
moveToLoadCore()
const certificates = join(folder, 'certs')
makeCertificates(certificates, ['bench', 'stranger'])

const place = join(folder, 'broker')
mkdirSync(place)
const port = await freePort()
const acl = join(folder, 'acl')
writeFileSync(acl, firstAcl)
const linesWith = limit => [
  `listener ${port} 127.0.0.1`,
  ...tlsLines(certificates),
  'use_identity_as_username true',
  `acl_file ${acl}`,
  // Else a small packet may wait for the acknowledgement of the one before, and full throttle is none.
  'set_tcp_nodelay true',
  'sys_interval 1',
  `max_queued_messages ${limit}`
]
const log = new Log()
const logTypes = ['error', 'warning', 'notice', 'information']
const broker = await startBroker('mosquitero', place, port, linesWith(firstLimit), {
  nodeArgs: importing('delay.js'),
  logTypes,
  onLine: line => log.take(line)
})
let isOver = false
broker.process.once('exit', status => isOver || fail(`the broker ended with status ${status}: ${log.unexpected().join('\n')}`))

const tally = new Tally()
// The look whether it is there.
tally.sockets = 1
const load = { port, secure: secureWith(clientTls(certificates)), stranger: secureWith(clientTls(certificates, 'stranger')), tally }
const random = new Random(Number(options.seed))
const pace = new Pace()
const sys = await new Sys().open(load)
const steady = await openSteady(load, pace)
const kept = await openKept(load, pace, random)
const visits = await openVisits(load, pace, random)
const retained = await openRetained(load, pace, random)
const malformed = openMalformed(load, pace, random)
const reloads = new Reloads(load, {
  files: { acl, conf: join(place, 'bench.conf'), confText: limit => confText(place, linesWith(limit), { logTypes }) },
  lines: kind => log.count(kind),
  signal: signal => broker.process.kill(signal)
})
await reloads.open()

const delivered = () => [...steady, ...kept.streams].reduce((sum, stream) => sum + stream.delivered, 0)
const verdicts = []
const verdict = (what, expected, found, holds) => verdicts.push({ what, expected, found: String(found), holds })

say('full throttle')
pace.factor = 1000
pace.start()
await sleep(1000)
const full = await during(times.fullThrottle)
say(`${full.perSecond.toFixed(0)} deliveries/s at ${percent(full.share)} of a core; regulating`)
await regulate()
say(`warming up at ${pace.factor.toFixed(1)} times the mix`)
await sleep(times.warmUp * 1000)
const heapStart = await heapOf(broker)
say('measuring')
await broker.ask('begin')
const samples = []
const measured = await during(times.measured, true)
const { whole: delay } = await broker.ask('delay')
const heapEnd = await heapOf(broker)
say('settling')
await settle()
const counts = { connections: tally.sockets, ...tally.handshakes, ...tally.ends }
await checkCounters()
const heapEmpty = await heapOf(broker)
const rssEnd = memoryOf(broker.pid) / megabyte
await sys.peer.leave()
isOver = true
const status = await broker.stop()
judge()

const report = {
  ...machine(isPinned),
  loadAverage: [loadBefore, loadavg()[0]],
  minutes,
  seed: Number(options.seed),
  pace: pace.factor,
  fullThrottle: full,
  measured,
  delay,
  heap: { start: heapStart, end: heapEnd, empty: heapEmpty },
  rss: { start: samples[0]?.rss, end: samples.at(-1)?.rss, most: Math.max(...samples.map(({ rss }) => rss)), empty: rssEnd },
  counts,
  malformed,
  reloads: { done: reloads.done, refused: reloads.refused },
  wills: visits.wills.counts,
  retainedReads: retained.reads,
  repeats: kept.streams.reduce((sum, { repeats }) => sum + repeats, 0),
  log: log.counts(),
  verdicts,
  samples
}
const isGood = verdicts.every(each => each.holds)
process.stdout.write(options.json ? `${JSON.stringify(report, undefined, 2)}\n` : text(report), () => process.exit(isGood ? 0 : 1))

function say(words) {
  process.stderr.write(`${words}\n`)
}

function percent(part) {
  return `${(100 * part).toFixed(0)} %`
}

/** Deliveries a second and the broker's part of its core, for so many seconds. */
async function during(seconds, isSampled = false) {
  const figures = startMeasuring(broker.pid, delivered)
  if (isSampled) await sampleFor(seconds)
  else await sleep(seconds * 1000)
  const { perSecond, brokerLoad: share } = figures()
  return { perSecond, share }
}

/** Where others use the machine, half of what it gives to the broker at full throttle. */
async function regulate() {
  const wanted = wantedShare * Math.min(1, full.share)
  const found = []
  pace.factor = 2
  await sleep(1000)
  for (let i = 0; i < times.regulation; i++) {
    const { share } = await during(1)
    pace.factor = Math.max(0.2, pace.factor * Math.min(2, Math.max(0.5, (wanted / share) ** 0.7)))
    found.push(pace.factor)
  }
  const last = found.slice(-Math.ceil(found.length / 2))
  pace.factor = last.reduce((sum, factor) => sum + factor, 0) / last.length
}

async function sampleFor(seconds) {
  const start = performance.now()
  const elapsed = () => (performance.now() - start) / 1000
  let nextReload = times.betweenReloads
  while (elapsed() < seconds) {
    const { perSecond, share } = await during(Math.min(times.betweenSamples, seconds - elapsed()))
    const { interval } = await broker.ask('delay')
    samples.push({ at: elapsed(), rss: memoryOf(broker.pid) / megabyte, share, perSecond, ...interval })
    if (elapsed() < nextReload) continue
    nextReload += times.betweenReloads
    await reloads.next()
  }
}

/** Nothing more is said, everything that was said comes, and whoever is away comes back. */
async function settle() {
  pace.stop()
  const streams = [...steady, ...kept.streams]
  const isQuiet = () =>
    streams.every(({ behind }) => behind === 0) &&
    kept.ends.every(({ peer }) => peer !== undefined && peer.unanswered === 0 && peer.session.incoming.size === 0) &&
    pace.running === 0 &&
    visits.wills.due.size === 0
  if (!(await holds(isQuiet, 30_000)))
    tally.trouble('not everything came to rest', `${streams.filter(({ behind }) => behind > 0).map(({ name }) => name)}`)
  await clearRubbish()
}

/** What changed bytes made retained. */
async function clearRubbish() {
  const found = new Set()
  const peer = new Peer({ ...load, secure: load.stranger }, { clientId: 'sweeper', onMessage: topic => found.add(topic) })
  await peer.open()
  await peer.subscribe(Buffer.from('rubbish/#'), 0)
  await peer.ping()
  await sleep(500)
  await peer.leave()
  const sweeper = await new Peer({ ...load, secure: load.stranger }, { clientId: 'sweeper' }).open()
  for (const topic of found) await sweeper.published(topic, Buffer.alloc(0), { qos: 1, retain: true })
  await sweeper.leave()
}

async function checkCounters() {
  const exact = (when, value, rows) => {
    for (const [name, expected] of rows) verdict(`$SYS ${name}, ${when}`, expected, value(name), value(name) === expected)
  }
  const streams = [...steady, ...kept.streams]
  const receivers = streams.reduce((sum, { readers }) => sum + readers, 0)
  const own = ['watcher', 'heir', 'switch'].length
  const first = await sys.next()
  const keptMessages = retained.model.size + first.topics
  exact('everybody there', first.value, [
    ['clients/connected', tally.connected],
    ['clients/total', tally.connected],
    ['clients/disconnected', 0],
    ['subscriptions/count', receivers + own + visits.subscriptions],
    ['retained messages/count', keptMessages],
    ['messages/stored', keptMessages],
    ['packet/out/count', 0],
    ['publish/messages/dropped', 0],
    ['connections/socket/count', tally.sockets]
  ])
  const said = [
    ['messages/received', first.bounds.sent],
    ['messages/sent', first.bounds.received],
    ['publish/messages/received', first.bounds.publishesSent],
    ['publish/messages/sent', first.bounds.publishesReceived]
  ]
  for (const [name, { atLeast, atMost }] of said) {
    const value = first.value(name)
    verdict(`$SYS ${name}`, atLeast === atMost ? atLeast : `${atLeast} to ${atMost}`, value, value >= atLeast && value <= atMost)
  }
  await tally.leaveAll(sys.peer)
  const second = await sys.next()
  exact('kept sessions alone', second.value, [
    ['clients/connected', 1],
    ['clients/total', 1 + kept.ends.length],
    ['clients/disconnected', kept.ends.length],
    ['subscriptions/count', 1 + kept.streams.length]
  ])
  for (const end of kept.ends) await end.forget()
  const third = await sys.next()
  exact('nobody', third.value, [
    ['clients/connected', 1],
    ['clients/total', 1],
    ['clients/disconnected', 0],
    ['subscriptions/count', 1],
    ['messages/stored', retained.model.size + third.topics],
    ['packet/out/count', 0]
  ])
}

function judge() {
  const troubles = tally.troubles()
  verdict(
    'what clients met with',
    'nothing lost, twice or out of order, no connection lost, wills and retained messages right',
    troubles.join('; ') || 'just that',
    troubles.length === 0
  )
  const { heap, outside } = { heap: heapEnd.heap - heapStart.heap, outside: heapEnd.outside - heapStart.outside }
  verdict('heap after a collection, end against start', `at most ${bounds.heap} MB more`, `${heap.toFixed(1)} MB more`, heap <= bounds.heap)
  verdict(
    'buffers outside of it, end against start',
    `at most ${bounds.outside} MB more`,
    `${outside.toFixed(1)} MB more`,
    outside <= bounds.outside
  )
  const late = samples.slice(Math.floor(samples.length / 3))
  const trend = slope(late.map(({ at, rss }) => ({ x: at, y: rss }))) * ((late.at(-1)?.at ?? 0) - (late[0]?.at ?? 0))
  verdict('trend of RSS over the last two thirds', `at most ${bounds.trend} MB up`, `${trend.toFixed(1)} MB`, trend <= bounds.trend)
  verdict(
    'reloads',
    'all done, and the broken ones refused',
    `${reloads.done} done, ${reloads.refused} refused`,
    reloads.done + reloads.refused > 0
  )
  const unexpected = log.unexpected()
  verdict('lines of the log that nothing of the mix causes', 'none', unexpected.join('; ') || 'none', unexpected.length === 0)
  verdict('status of the broker', 0, status, status === 0)
}

function text(found) {
  const number = (value, digits = 1) => value.toFixed(digits)
  const load = found.loadAverage.map(value => value.toFixed(1)).join(' → ')
  const facts = [
    ['deliveries/s at full throttle', `${number(full.perSecond, 0)}, at ${percent(full.share)} of a core`],
    ['deliveries/s measured', `${number(measured.perSecond, 0)}, at ${percent(measured.share)} of a core`],
    ['event loop delay, p50 / p99 / longest', `${number(delay.p50)} / ${number(delay.p99)} / ${number(delay.max)} ms`],
    [
      'heap after a collection: start, end, nobody there',
      [heapStart, heapEnd, heapEmpty].map(({ heap }) => `${number(heap)} MB`).join(', ')
    ],
    ['buffers outside of it', [heapStart, heapEnd, heapEmpty].map(({ outside }) => `${number(outside)} MB`).join(', ')],
    ['RSS: start, end, most, nobody there', ['start', 'end', 'most', 'empty'].map(name => `${number(found.rss[name], 0)} MB`).join(', ')],
    [
      'connections',
      Object.entries(counts)
        .map(([name, count]) => `${name} ${count}`)
        .join(', ')
    ],
    ['wills heard, clients with one that said goodbye', `${found.wills.heard}, ${found.wills.notDue}`],
    ['retained messages read, times', found.retainedReads],
    ['repeats of QoS 1 that a lost connection excuses', found.repeats],
    ['reloads, broken ones refused', `${found.reloads.done}, ${found.reloads.refused}`],
    [
      'lines of the log',
      Object.entries(found.log)
        .map(([kind, count]) => `${kind} ${count}`)
        .join(', ')
    ]
  ]
  // Of a long run not every sample.
  const step = Math.ceil(samples.length / 30)
  const rows = samples
    .filter((_, i) => i % step === 0 || i === samples.length - 1)
    .map(({ at, rss, share, perSecond, p50, p99, max }) => [
      number(at, 0),
      number(perSecond, 0),
      percent(share),
      number(rss, 0),
      number(p50),
      number(p99),
      number(max)
    ])
  return `${describeMachine(found)}, load average ${load}
${minutes} minutes at ${number(found.pace)} times the mix, seed ${found.seed}

${table(['', ''], facts)}
${table(['second', 'deliveries/s', 'of a core', 'RSS, MB', 'delay p50, ms', 'p99', 'longest'], rows)}
${verdictLines(verdicts)}`
}
