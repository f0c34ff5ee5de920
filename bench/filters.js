// npm run bench:filters: what a large number of subscriptions costs, for us and for Mosquitto. A hundred clients subscribe to 10, 100, 1000 and
// 10,000 filters each, a million in the end; at each step messages go to as many topics in turn, each to one client.
//
//   --clients N  how many clients (100)
//   --seconds N  how long messages are sent at each step (2)
//   --json       the figures as JSON
//
// MOSQUITTO in the environment names another mosquitto than the one on PATH.

import { spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { loadavg, tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { fail, freePort, isPinned, loadCore, mosquittoVersion, startBroker } from './brokers.js'
import { table } from './figures.js'
import { FilterLoad } from './filter-load.js'
import { secureWith } from './link.js'
import { aclText, clientTls, makeCertificates, tlsLines } from './mutual-tls.js'
import { describeMachine, machine, memoryOf, startMeasuring } from './process.js'

const kinds = ['mosquitero', 'mosquitto']

const { values: options } = parseArgs({
  options: {
    clients: { type: 'string', default: '100' },
    seconds: { type: 'string', default: '2' },
    json: { type: 'boolean', default: false }
  }
})
const clients = Number(options.clients)
if (!Number.isInteger(clients) || clients < 1) fail('--clients is a number from 1 on')
const steps = [10, 100, 1000, 10_000]

const folder = mkdtempSync(join(tmpdir(), 'mosquitero-bench-'))
process.on('exit', () => rmSync(folder, { recursive: true, force: true }))
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => process.exit(1))
const certificates = join(folder, 'certs')
makeCertificates(certificates)
writeFileSync(join(folder, 'acl'), aclText())
if (isPinned) spawnSync('taskset', ['-pc', String(loadCore), String(process.pid)])

const report = { ...machine(isPinned), mosquitto: mosquittoVersion(), clients, loadAverage: [loadavg()[0]], steps: {} }
for (const kind of kinds) report.steps[kind] = await measure(kind)
report.loadAverage.push(loadavg()[0])
process.stdout.write(options.json ? `${JSON.stringify(report, undefined, 2)}\n` : tables())
process.exit(0)

async function measure(kind) {
  const place = join(folder, kind)
  mkdirSync(place)
  const port = await freePort()
  const lines = [
    `listener ${port} 127.0.0.1`,
    ...tlsLines(certificates),
    'use_identity_as_username true',
    `acl_file ${join(folder, 'acl')}`
  ]
  const broker = await startBroker(kind, place, port, lines, { persistence: false })
  const load = new FilterLoad(port, secureWith(clientTls(certificates)))
  await load.open(clients)
  const empty = memoryOf(broker.pid)
  const found = []
  let subscribing = 0
  for (const step of steps) {
    process.stderr.write(`${kind}: ${clients} times ${step} filters\n`)
    const done = startMeasuring(broker.pid, () => load.filters)
    const before = load.filters
    await load.grow(step)
    subscribing += (done().cpuPerMillion * (load.filters - before)) / 1e6
    await sleep(500)
    const memory = memoryOf(broker.pid)
    const { perSecond, cpuPerMillion } = await load.send(broker.pid, Number(options.seconds))
    found.push({ filters: load.filters, memory, bytesPerFilter: (memory - empty) / load.filters, subscribing, perSecond, cpuPerMillion })
  }
  load.close()
  await broker.stop()
  return found
}

function tables() {
  const [we, they] = kinds.map(kind => report.steps[kind])
  const rows = we.map((step, i) => [
    step.filters.toLocaleString('en'),
    ...[step, they[i]].map(({ cpuPerMillion }) => cpuPerMillion.toFixed(1)),
    ...[step, they[i]].map(({ perSecond }) => Math.round(perSecond)),
    ...[step, they[i]].map(({ bytesPerFilter }) => Math.round(bytesPerFilter)),
    ...[step, they[i]].map(({ memory }) => Math.round(memory / 1e6)),
    ...[step, they[i]].map(({ subscribing }) => subscribing.toFixed(2))
  ])
  const names = ['CPU µs for each message', 'messages/s', 'bytes of RSS for each filter', 'MB', 'CPU s to subscribe to all']
  const head = ['filters', ...names.flatMap(name => [`we, ${name}`, 'Mosquitto'])]
  const load = report.loadAverage.map(value => value.toFixed(2)).join(' before, ')
  return `${describeMachine(report)}, Mosquitto ${report.mosquitto}; load average ${load} after\n\n${table(head, rows)}`
}
