// npm run bench:persistence: QoS 1 messages to sessions that are kept, with `persistence true`, through us and through Mosquitto in turn.
//
// In each round all brokers are started and warmed up for a load; then they have it in turn, for half a second each, as the disk and the
// processor may be twice as slow a minute later. What counts is the median of all slices, and of the ratios of those that follow one another.
//
//   --plain      TCP instead of mutual TLS
//   --rounds N   how often each is started (3)
//   --seconds N  how long each is measured in a round, after five seconds to warm up (3)
//   --only PxW   this load alone, e.g. 50x20; may be given again
//   --json       the figures as JSON
//
// MOSQUITTO in the environment names another mosquitto than the one on PATH.

import { mkdirSync, rmSync } from 'node:fs'
import { loadavg } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { fail, freePort, isPinned, mosquittoVersion, scratchFolder, startBroker, startLoad, startSync } from './brokers.js'
import { table } from './figures.js'
import { measureInTurn, mediansOf, ratioOf, slice } from './in-turn.js'
import { clientTls, makeCertificates, tlsLines } from './mutual-tls.js'
import { machine } from './process.js'

const payload = 100
/** Seconds: a process that is new measures its own compiler. */
const warmUp = 5

/** Pairs of publisher and subscriber, messages outstanding for each. */
const loads = [
  [1, 1],
  [1, 50],
  [5, 10],
  [50, 1],
  [50, 20],
  [1, 1000]
]

const brokers = [
  { name: 'mosquitero', kind: 'mosquitero', lines: [] },
  { name: 'mosquitto', kind: 'mosquitto', lines: [] },
  { name: 'received', kind: 'mosquitero', lines: ['#!acknowledge received'] }
]

const { values: options } = parseArgs({
  options: {
    plain: { type: 'boolean', default: false },
    rounds: { type: 'string', default: '3' },
    seconds: { type: 'string', default: '3' },
    only: { type: 'string', multiple: true },
    json: { type: 'boolean', default: false }
  }
})
const chosen = loads.filter(load => options.only?.includes(load.join('x')) ?? true)
if (chosen.length === 0) fail(`--only takes one of ${loads.map(load => load.join('x')).join(', ')}`)

const folder = scratchFolder()

const facts = {
  ...machine(isPinned),
  mosquitto: mosquittoVersion(),
  transport: options.plain ? 'TCP' : 'mutual TLS, P-256',
  payload,
  rounds: Number(options.rounds),
  seconds: Number(options.seconds)
}
const certificates = join(folder, 'certs')
if (!options.plain) makeCertificates(certificates)

const loadBefore = loadavg()[0]
/** Of each load its slices, of which one contestant is a synced write. */
const found = new Map(chosen.map(load => [load, []]))
for (let round = 0; round < facts.rounds; round++) {
  for (const [load, slices] of found) {
    process.stderr.write(`round ${round + 1}: ${load.join(' × ')}\n`)
    slices.push(...(await measureLoad(load)))
  }
}

const figures = [...found].map(([[pairs, window], slices]) => ({
  pairs,
  window,
  ...mediansOf(slices),
  ratios: {
    mosquitero: ratioOf(slices, 'mosquitero', 'mosquitto', 'perSecond'),
    received: ratioOf(slices, 'received', 'mosquitto', 'perSecond'),
    /** How many synced writes a message takes. */
    syncs: { level: ratioOf(slices, 'mosquitero', 'sync', 'p50', 'level'), plain: ratioOf(slices, 'mosquitero', 'sync', 'p50', 'plain') }
  },
  slices
}))
const report = {
  ...facts,
  loadAverage: [loadBefore, loadavg()[0]],
  figures
}
process.stdout.write(options.json ? `${JSON.stringify(report, undefined, 2)}\n` : tables(report))

async function measureLoad(load) {
  const contestants = []
  for (const { name, kind, lines } of brokers) {
    const broker = await start(name, kind, lines)
    contestants.push({ name, broker, start: () => startLoad(loadOf(load, broker)) })
  }
  const place = join(folder, 'sync')
  mkdirSync(place)
  const slices = await measureInTurn([...contestants, { name: 'sync', start: () => startSync(place) }], facts.seconds)
  for (const used of [place, ...brokers.map(({ name }) => placeOf(name))]) rmSync(used, { recursive: true, force: true })
  return slices
}

async function start(name, kind, lines) {
  const place = placeOf(name)
  mkdirSync(place)
  const port = await freePort()
  const broker = await startBroker(kind, place, port, [
    `listener ${port} 127.0.0.1`,
    'allow_anonymous true',
    // Ours always does.
    'set_tcp_nodelay true',
    ...(options.plain ? [] : tlsLines(certificates)),
    ...lines
  ])
  return { ...broker, port }
}

function placeOf(name) {
  return join(folder, `broker-${name}`)
}

function loadOf([pairs, window], { port, pid }) {
  const shape = { kind: 'pairs', count: pairs, receivers: 1, window, qos: 1, payload, version: 4, isKept: true }
  return { port, tls: options.plain ? undefined : clientTls(certificates), shape, warmUp, brokerPid: pid }
}

function tables({ loadAverage, figures }) {
  const rows = figures.map(({ pairs, window, sync, mosquitero, mosquitto, received, ratios }) => [
    `${pairs} × ${window}`,
    Math.round(mosquitero.perSecond),
    Math.round(mosquitto.perSecond),
    ratios.mosquitero.toFixed(2),
    mosquitero.cpuPerMillion.toFixed(0),
    mosquitto.cpuPerMillion.toFixed(0),
    `${mosquitero.p50.toFixed(2)} / ${mosquitero.p99.toFixed(2)}`,
    `${mosquitto.p50.toFixed(2)} / ${mosquitto.p99.toFixed(2)}`,
    Math.round(received.perSecond),
    ratios.received.toFixed(2),
    `${received.p50.toFixed(2)} / ${received.p99.toFixed(2)}`,
    `${sync.level.toFixed(3)} / ${sync.plain.toFixed(3)}`
  ])
  const head = [
    'pairs × outstanding',
    'we, messages/s',
    'Mosquitto',
    'ratio',
    'we, CPU s/million',
    'Mosquitto',
    'we, p50 / p99 ms',
    'Mosquitto',
    '`received`, messages/s',
    'ratio',
    'p50 / p99 ms',
    'synced write, ms'
  ]
  const one = figures.find(({ pairs, window }) => pairs * window === 1)
  const { level, plain } = one?.ratios.syncs ?? {}
  const verdict = one ? `; one outstanding: p50 is ${level.toFixed(2)} of the former, ${plain.toFixed(2)} of the latter` : ''
  return `${facts.processor}, ${facts.cores} cores, kernel ${facts.kernel}, Node ${facts.node}, Mosquitto ${facts.mosquitto}, ${facts.transport}, \
payload ${payload} bytes, ${facts.pinned ? 'broker and load pinned to a core each' : 'not pinned'}, ${facts.rounds} rounds of ${facts.seconds} s in slices of ${slice} s in turn, load average ${loadAverage.map(load => load.toFixed(1)).join(' → ')}
A synced write is one of 100 bytes, through LevelDB and as a plain append and fdatasync${verdict}

${table(head, rows)}`
}
