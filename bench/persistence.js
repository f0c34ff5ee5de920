// npm run bench:persistence: QoS 1 messages to sessions that are kept, with `persistence true`, through us and through Mosquitto in turn.
//
//   --plain      TCP instead of mutual TLS
//   --rounds N   how often each is measured; the median counts (3)
//   --seconds N  how long, after five seconds to warm up (3)
//   --only PxW   this load alone, e.g. 50x20; may be given again
//   --json       the figures as JSON
//
// MOSQUITTO in the environment names another mosquitto than the one on PATH.

import { mkdirSync, rmSync } from 'node:fs'
import { loadavg } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { brokerCore, fail, freePort, isPinned, loadCore, mosquittoVersion, run, scratchFolder, startBroker } from './brokers.js'
import { median, table } from './figures.js'
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
const sync = [await measureSync()]
const runs = await measureAll()
sync.push(await measureSync())

const figures = chosen.map(([pairs, window], i) => ({
  pairs,
  window,
  ...Object.fromEntries(brokers.map(({ name }) => [name, summary(runs.filter(run => run.load === i && run.name === name))]))
}))
const report = {
  ...facts,
  loadAverage: [loadBefore, loadavg()[0]],
  sync: { level: median(sync.map(({ level }) => level)), plain: median(sync.map(({ plain }) => plain)) },
  figures
}
process.stdout.write(options.json ? `${JSON.stringify(report, undefined, 2)}\n` : tables(report))

async function measureAll() {
  const found = []
  for (let round = 0; round < facts.rounds; round++) {
    for (const [load, [pairs, window]] of chosen.entries()) {
      for (const broker of brokers) {
        process.stderr.write(`round ${round + 1}: ${pairs} × ${window}, ${broker.name}\n`)
        found.push({ load, name: broker.name, ...(await measure(broker, pairs, window)) })
      }
    }
  }
  return found
}

async function measure({ kind, lines }, pairs, window) {
  const place = join(folder, 'broker')
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
  try {
    const tls = options.plain ? undefined : clientTls(certificates)
    const shape = { kind: 'pairs', count: pairs, receivers: 1, window, qos: 1, payload, version: 4, isKept: true }
    const load = { port, tls, shape, seconds: facts.seconds, warmUp, brokerPid: broker.pid }
    return JSON.parse(await run(loadCore, ['traffic.js', JSON.stringify(load)]))
  } finally {
    await broker.stop()
    rmSync(place, { recursive: true, force: true })
  }
}

async function measureSync() {
  const place = join(folder, 'sync')
  mkdirSync(place)
  const result = JSON.parse(await run(brokerCore, ['sync.js', place]))
  rmSync(place, { recursive: true, force: true })
  return result
}

// Of each figure by itself.
function summary(measured) {
  const names = ['perSecond', 'cpuPerMillion', 'brokerLoad', 'generatorLoad', 'p50', 'p99']
  return Object.fromEntries(names.map(name => [name, median(measured.map(one => one[name]))]))
}

function tables({ sync, loadAverage, figures }) {
  const rows = figures.map(({ pairs, window, mosquitero, mosquitto, received }) => [
    `${pairs} × ${window}`,
    Math.round(mosquitero.perSecond),
    Math.round(mosquitto.perSecond),
    (mosquitero.perSecond / mosquitto.perSecond).toFixed(2),
    mosquitero.cpuPerMillion.toFixed(0),
    mosquitto.cpuPerMillion.toFixed(0),
    `${mosquitero.p50.toFixed(2)} / ${mosquitero.p99.toFixed(2)}`,
    `${mosquitto.p50.toFixed(2)} / ${mosquitto.p99.toFixed(2)}`,
    Math.round(received.perSecond),
    (received.perSecond / mosquitto.perSecond).toFixed(2),
    `${received.p50.toFixed(2)} / ${received.p99.toFixed(2)}`
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
    'p50 / p99 ms'
  ]
  const one = figures.find(({ pairs, window }) => pairs * window === 1)
  const verdict = one ? `; one outstanding: p50 is ${(one.mosquitero.p50 / sync.level).toFixed(2)} of them` : ''
  return `${facts.processor}, ${facts.cores} cores, kernel ${facts.kernel}, Node ${facts.node}, Mosquitto ${facts.mosquitto}, ${facts.transport}, \
payload ${payload} bytes, ${facts.pinned ? 'broker and load pinned to a core each' : 'not pinned'}, ${facts.rounds} rounds of ${facts.seconds} s, load average ${loadAverage.map(load => load.toFixed(1)).join(' → ')}
One synced write of 100 bytes: ${sync.level.toFixed(3)} ms through LevelDB, ${sync.plain.toFixed(3)} ms as a plain append and fdatasync${verdict}

${table(head, rows)}`
}
