// npm run bench: us and Mosquitto over mutual TLS, with the same certificates, the same configuration and the same ACL, in turn.
//
// In each round both are started and warmed up for a shape; then they have their load in turn, for half a second each, so that what slows the
// machine down meets both. What counts is the median of all slices, and of the ratios of two that follow one another.
//
//   --rounds N   how often each is started (3)
//   --seconds N  how long each is measured in a round, after five seconds to warm up, or ten where little is done in that time (3)
//   --only NAME  this shape alone, e.g. fan-out-0; may be given again
//   --minimal    beside them the least that a broker in Node does (minimal.js): what of our time is Node's
//   --nodelay    with set_tcp_nodelay true: Mosquitto answers sooner then, at up to twice the cost
//   --json       the figures as JSON
//
// MOSQUITTO in the environment names another mosquitto than the one on PATH.

import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { loadavg } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { fail, freePort, isPinned, loadCore, mosquittoVersion, run, scratchFolder, startBroker, startLoad } from './brokers.js'
import { measureInTurn, mediansOf, ratioOf, slice } from './in-turn.js'
import { aclText, brokerFiles, clientTls, makeCertificates, tlsLines } from './mutual-tls.js'
import { machine } from './process.js'

/** Seconds: a process that is new measures its own compiler, the longer the less often something is done. */
const [warmUp, longWarmUp] = [5, 10]
const usual = { kind: 'pairs', warmUp, count: 1, receivers: 1, window: 20, qos: 0, payload: 64, version: 4 }

/** `goal`: of our processor time for each delivery, in Mosquitto's; `goalOlder`: of MQTT 5 in our own of 3.1.1. */
const shapes = [
  { name: 'fan-out-0', what: '1 → 100, QoS 0', receivers: 100, goal: 0.13 },
  { name: 'fan-out-1', what: '1 → 100, QoS 1', receivers: 100, qos: 1, goal: 0.25 },
  { name: 'fan-out-500', what: '1 → 500, QoS 0', receivers: 500, goal: 0.18 },
  { name: 'pairs-0', what: '50 pairs, 20 in flight, QoS 0', count: 50, goal: 0.25 },
  { name: 'pairs-1', what: '50 pairs, 20 in flight, QoS 1', count: 50, qos: 1, goal: 0.28 },
  { name: 'pairs-2', what: '50 pairs, 20 in flight, QoS 2', count: 50, qos: 2, goal: 0.45 },
  { name: 'pairs-4k', what: '50 pairs, 20 in flight, QoS 0, 4 KB', count: 50, payload: 4096, goal: 0.9 },
  { name: 'fan-in-1', what: '50 → 1, QoS 1', kind: 'fan-in', count: 50, qos: 1, goal: 0.35 },
  { name: 'single-0', what: '300 pairs, one in flight, QoS 0', count: 300, window: 1, goal: 1.3 },
  { name: 'single-1', what: '300 pairs, one in flight, QoS 1', count: 300, window: 1, qos: 1, goal: 1.35 },
  {
    name: 'steady-1',
    what: '1,000 messages/s, 10 pairs, QoS 1',
    count: 10,
    qos: 1,
    rate: 1000,
    goalP50: 1.2,
    goalP99: 2
  },
  {
    name: 'pairs-5',
    what: '50 pairs, 20 in flight, QoS 1, MQTT 5 with properties',
    count: 50,
    qos: 1,
    version: 5,
    goalOlder: 1.3
  },
  {
    name: 'handshakes',
    what: 'full handshake and CONNECT',
    kind: 'handshakes',
    count: 8,
    warmUp: longWarmUp,
    goal: Number(process.versions.node.split('.')[0]) >= 24 ? 1 : 1.35
  },
  {
    name: 'resumed',
    what: 'resumed handshake and CONNECT',
    kind: 'handshakes',
    count: 8,
    warmUp: longWarmUp,
    resumed: true,
    goal: Number(process.versions.node.split('.')[0]) >= 24 ? 0.9 : 1.2
  },
  { name: 'idle', what: 'idle connection, KB', kind: 'idle', count: 1000, most: 70 }
].map(shape => ({ ...usual, ...shape }))

const { values: options } = parseArgs({
  options: {
    rounds: { type: 'string', default: '3' },
    seconds: { type: 'string', default: '3' },
    only: { type: 'string', multiple: true },
    minimal: { type: 'boolean', default: false },
    nodelay: { type: 'boolean', default: false },
    json: { type: 'boolean', default: false }
  }
})
const chosen = shapes.filter(({ name }) => options.only?.includes(name) ?? true)
if (chosen.length === 0) fail(`--only takes one of ${shapes.map(({ name }) => name).join(', ')}`)

/** Who is measured with a shape, each with the shape it gets. */
function contestantsFor(shape) {
  const names = ['mosquitero', 'mosquitto']
  // The least of a broker knows no MQTT 5.
  if (options.minimal && shape.version < 5) names.push('minimal')
  const contestants = names.map(name => ({ name, kind: name, shape }))
  return shape.goalOlder === undefined
    ? contestants
    : [...contestants, { name: 'older', kind: 'mosquitero', shape: { ...shape, version: 4 } }]
}

const folder = scratchFolder()

const certificates = join(folder, 'certs')
makeCertificates(certificates)
const acl = join(folder, 'acl')
writeFileSync(acl, aclText())

const facts = {
  ...machine(isPinned),
  mosquitto: mosquittoVersion(),
  nodelay: options.nodelay,
  rounds: Number(options.rounds),
  seconds: Number(options.seconds)
}
const loadBefore = loadavg()[0]
/** Of each shape a list of slices: what was measured of each contestant, one after the other. */
const slices = new Map(chosen.map(({ name }) => [name, []]))
for (let round = 0; round < facts.rounds; round++) {
  for (const shape of chosen) {
    process.stderr.write(`round ${round + 1}: ${shape.what}\n`)
    slices.get(shape.name).push(...(shape.kind === 'idle' ? [await measureIdle(shape)] : await measureShape(shape)))
  }
}

const figures = chosen.map(shape => ({ ...shape, slices: slices.get(shape.name), ...mediansOf(slices.get(shape.name)) }))
const report = { ...facts, loadAverage: [loadBefore, loadavg()[0]], figures: figures.map(judged) }
process.stdout.write(options.json ? `${JSON.stringify(report, undefined, 2)}\n` : tables(report))

async function measureShape(shape) {
  const contestants = []
  for (const contestant of contestantsFor(shape)) {
    const broker = await start(contestant)
    contestants.push({ name: contestant.name, broker, start: () => startLoad(loadOf(contestant, broker)) })
  }
  return await measureInTurn(contestants, facts.seconds)
}

async function measureIdle(shape) {
  const found = {}
  for (const contestant of contestantsFor(shape)) {
    const broker = await start(contestant)
    found[contestant.name] = JSON.parse(await run(loadCore, ['traffic.js', JSON.stringify(loadOf(contestant, broker))]))
    await broker.stop()
  }
  return found
}

function loadOf({ shape }, { port, pid }) {
  return { port, tls: clientTls(certificates), shape, warmUp: shape.warmUp, brokerPid: pid }
}

async function start({ name, kind }) {
  const place = join(folder, `broker-${name}`)
  rmSync(place, { recursive: true, force: true })
  mkdirSync(place)
  const port = await freePort()
  const lines = [
    `listener ${port} 127.0.0.1`,
    ...tlsLines(certificates),
    'use_identity_as_username true',
    `acl_file ${acl}`,
    // A message that is dropped would be outstanding for ever, and there would be fewer and fewer of them.
    'max_queued_messages 0',
    // Ours does unless it is told not to, as what it writes is put together anyway.
    ...(options.nodelay ? ['set_tcp_nodelay true'] : [])
  ]
  return { ...(await startBroker(kind, place, port, lines, { persistence: false, files: brokerFiles(certificates) })), port }
}

/** With the ratios, and whether the goal is met; absent: there is none, or what it is compared with was not measured. */
function judged({ slices, ...figure }) {
  const { mosquitero: we, goal, goalP50, goalP99, most, goalOlder } = figure
  const ratio = (...names) => ratioOf(slices, ...names)
  const ratios = {
    ...(we.cpuPerMillion && {
      cpu: ratio('mosquitero', 'mosquitto', 'cpuPerMillion'),
      throughput: ratio('mosquitero', 'mosquitto', 'perSecond')
    }),
    ...(we.cpuPerMillion && figure.minimal && { minimal: ratio('minimal', 'mosquitto', 'cpuPerMillion') }),
    ...(we.p50 > 0 && { p50: ratio('mosquitero', 'mosquitto', 'p50'), p99: ratio('mosquitero', 'mosquitto', 'p99') }),
    ...(figure.older && { older: ratio('mosquitero', 'older', 'cpuPerMillion') })
  }
  const goals = [
    [goal, ratios.cpu],
    [goalP50, ratios.p50],
    [goalP99, ratios.p99],
    [goalOlder, ratios.older],
    [most, we.kilobytes]
  ].filter(([wanted, found]) => wanted !== undefined && found !== undefined)
  return { ...figure, ratios, ...(goals.length > 0 && { isMet: goals.every(([wanted, found]) => found <= wanted) }) }
}

function tables({ loadAverage, figures }) {
  const number = (value, digits = 0) => (value === undefined ? '' : value.toFixed(digits))
  const rows = figures.map(({ what, mosquitero: we, mosquitto: they, minimal, ratios, goal, goalP50, goalP99, most, goalOlder, isMet }) => [
    what,
    number(we.perSecond),
    number(they.perSecond),
    number(ratios.throughput, 2),
    number(we.cpuPerMillion ?? we.kilobytes, 1),
    number(they.cpuPerMillion ?? they.kilobytes, 1),
    number(ratios.cpu ?? (we.kilobytes && we.kilobytes / they.kilobytes), 2),
    [
      goal,
      goalP50 && `p50 ${goalP50} (${number(ratios.p50, 2)}), p99 ${goalP99} (${number(ratios.p99, 2)})`,
      goalOlder && `${goalOlder} × 3.1.1 (${number(ratios.older, 2)})`,
      most && `${most} KB`
    ]
      .filter(Boolean)
      .join(''),
    isMet === undefined ? '' : isMet ? 'yes' : 'no',
    we.p50 > 0 ? `${number(we.p50, 2)} / ${number(we.p99, 2)}` : '',
    they.p50 > 0 ? `${number(they.p50, 2)} / ${number(they.p99, 2)}` : '',
    number(we.megabytes),
    number(they.megabytes),
    number(we.generatorCpuPerMillion, 1),
    ...(options.minimal ? [number(minimal?.cpuPerMillion ?? minimal?.kilobytes, 1), number(ratios.minimal, 2)] : [])
  ])
  const head = [
    'load',
    'we, per s',
    'Mosquitto',
    'ratio',
    'we, CPU µs each',
    'Mosquitto',
    'ratio',
    'goal',
    'met',
    'we, p50 / p99 ms',
    'Mosquitto',
    'we, MB',
    'Mosquitto',
    'load, CPU µs each',
    ...(options.minimal ? ['minimal, CPU µs each', 'ratio'] : [])
  ]
  const lines = [head, head.map((_, i) => (i === 0 || i === 7 || i === 8 ? '---' : '---:')), ...rows].map(row => `| ${row.join(' | ')} |`)
  const { processor, cores, kernel, node, mosquitto, pinned: isFixed, rounds, seconds } = facts
  const first = `${processor}, ${cores} cores, Linux ${kernel}, Node ${node}, Mosquitto ${mosquitto}${isFixed ? '' : ', not pinned'}`
  const load = loadAverage.map(value => value.toFixed(2)).join(' before, ')
  return `${first}\nmedians of ${rounds} rounds of ${seconds} s each, in slices of ${slice} s in turn; load average ${load} after\n\n${lines.join('\n')}\n`
}
