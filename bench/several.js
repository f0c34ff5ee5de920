// npm run bench:several: one broker, two, and two behind HAProxy, on the same cores: what docs/several-cores.md says of them. The load of each is
// a process of its own. On two cores broker and load share them, so what counts is the sum of messages.
//
//   --rounds N   how often each is measured; the median counts (3)
//   --seconds N  how long, after three seconds to warm up (3)
//   --json       the figures as JSON

import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { loadavg } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { fail, freePort, isPinned, pinned, run, scratchFolder, startBroker } from './brokers.js'
import { median, table } from './figures.js'
import { aclText, clientTls, makeCertificates, tlsLines } from './mutual-tls.js'
import { describeMachine, machine, memoryOf, processorTime } from './process.js'

const warmUp = 3
const pairs = { kind: 'pairs', count: 50, receivers: 1, window: 20, payload: 100, version: 4 }
const shapes = [
  { ...pairs, what: '50 pairs, 20 in flight, QoS 1', qos: 1 },
  { ...pairs, what: '50 pairs, 20 in flight, QoS 2', qos: 2 },
  { kind: 'handshakes', what: 'full handshake and CONNECT', count: 8 }
]
/** Cores of the brokers; their loads have the others. */
const setups = [
  { name: 'one broker', cores: [0] },
  { name: 'two brokers', cores: [0, 1] },
  { name: 'two behind HAProxy', cores: [0, 1], isBehindProxy: true }
]

const { values: options } = parseArgs({
  options: {
    rounds: { type: 'string', default: '3' },
    seconds: { type: 'string', default: '3' },
    json: { type: 'boolean', default: false }
  }
})
if (spawnSync('haproxy', ['-v']).error) fail('haproxy could not be run. On Debian: apt-get install haproxy')

const folder = scratchFolder()
const certificates = join(folder, 'certs')
makeCertificates(certificates)
const acl = join(folder, 'acl')
writeFileSync(acl, aclText())

const loadBefore = loadavg()[0]
const runs = []
for (let round = 0; round < Number(options.rounds); round++) {
  for (const shape of shapes) {
    for (const setup of setups) {
      process.stderr.write(`round ${round + 1}: ${shape.what}, ${setup.name}\n`)
      runs.push({ what: shape.what, name: setup.name, ...(await measure(shape, setup)) })
    }
  }
}
const figures = shapes.flatMap(({ what }) =>
  setups.map(({ name }) => {
    const found = runs.filter(one => one.what === what && one.name === name)
    const names = ['perSecond', 'brokers', 'proxy', 'megabytes']
    return { what, name, ...Object.fromEntries(names.map(each => [each, median(found.map(one => one[each]))])) }
  })
)
const report = { ...machine(isPinned), loadAverage: [loadBefore, loadavg()[0]], figures }
process.stdout.write(options.json ? `${JSON.stringify(report, undefined, 2)}\n` : text())

async function measure(shape, { cores, isBehindProxy = false }) {
  const servers = []
  for (const core of cores) {
    const place = join(folder, `broker-${core}`)
    mkdirSync(place)
    const port = await freePort()
    const lines = [`listener ${port} 127.0.0.1`, ...tlsLines(certificates), 'use_identity_as_username true', `acl_file ${acl}`]
    servers.push({ core, place, port, broker: await startBroker('mosquitero', place, port, lines, { persistence: false, core }) })
  }
  const proxy = isBehindProxy ? await startProxy(servers) : undefined
  const before = proxy && processorTime(proxy.pid)
  const results = await Promise.all(
    servers.map(({ core, port, broker }, i) => {
      const seconds = Number(options.seconds)
      const load = { port: proxy?.ports[i] ?? port, tls: clientTls(certificates), shape, seconds, warmUp, brokerPid: broker.pid }
      return run(1 - core, ['traffic.js', JSON.stringify(load)]).then(JSON.parse)
    })
  )
  const perSecond = results.reduce((sum, one) => sum + one.perSecond, 0)
  const all = perSecond * (warmUp + Number(options.seconds))
  const figures = {
    perSecond,
    brokers: median(results.map(one => one.cpuPerMillion)),
    // Of the whole time: it starts with the load.
    proxy: proxy ? ((processorTime(proxy.pid) - before) / all) * 1e6 : 0,
    megabytes: servers.reduce((sum, { broker }) => sum + memoryOf(broker.pid), 0) / 2 ** 20
  }
  await proxy?.stop()
  for (const { broker, place } of servers) {
    await broker.stop()
    rmSync(place, { recursive: true, force: true })
  }
  return figures
}

// A port for each broker, so that every connection goes through it as behind one port, and each load knows where it goes.
async function startProxy(servers) {
  const ports = []
  for (const _ of servers) ports.push(await freePort())
  const sections = servers.map(
    ({ port }, i) => `listen b${i}\n  bind 127.0.0.1:${ports[i]}\n  tcp-request inspect-delay 5s
  tcp-request content accept if { req.ssl_hello_type 1 }\n  server s 127.0.0.1:${port}\n`
  )
  const file = join(folder, 'haproxy.cfg')
  writeFileSync(
    file,
    `global\n  nbthread 1\n\ndefaults\n  mode tcp\n  timeout connect 5s\n  timeout client 1h\n  timeout server 1h\n\n${sections.join('\n')}`
  )
  const [program, ...args] = pinned(0, ['haproxy', '-f', file])
  const child = spawn(program, args, { stdio: 'ignore' })
  const kill = () => child.kill('SIGKILL')
  process.once('exit', kill)
  const ended = once(child, 'close')
  await sleep(500)
  return {
    pid: child.pid,
    ports,
    async stop() {
      child.kill('SIGTERM')
      await ended
      process.removeListener('exit', kill)
    }
  }
}

function text() {
  const rows = figures.map(({ what, name, perSecond, brokers, proxy, megabytes }) => {
    const one = figures.find(each => each.what === what)
    return [
      what,
      name,
      Math.round(perSecond),
      (perSecond / one.perSecond).toFixed(2),
      brokers.toFixed(1),
      proxy.toFixed(1),
      Math.round(megabytes)
    ]
  })
  const head = ['load', 'brokers', 'per s, all together', 'ratio to one', 'broker, CPU µs each', 'HAProxy, CPU µs each', 'brokers, MB']
  const load = report.loadAverage.map(value => value.toFixed(2)).join(' before, ')
  return `${describeMachine(report)}; load average ${load} after\n\n${table(head, rows)}`
}
