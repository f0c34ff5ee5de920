// Two brokers behind one port, as docs/several-cores.md and examples/several-cores have them: HAProxy reads the name that a device asks for.

import { cpSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { certs } from '../helpers/certs.js'
import { freePort, must, start, startBroker, userLine } from '../helpers/command.js'
import { dial, tlsClient } from '../helpers/tls-listener.js'
import { until } from '../helpers/until.js'

const sites = ['north', 'south'] as const

t.test('the name in the handshake says which broker a device is for, and the broker sees its certificate', async t => {
  const dir = t.testdir({})
  const file = (name: string) => join(dir, name)
  cpSync('examples/several-cores', dir, { recursive: true })
  const isOpen = (port = 0) =>
    dial(t, port).then(
      socket => socket.destroy(),
      () => false
    )
  const make = async (...args: string[]) => t.equal((await certs([...args, '--key', 'ec', '--dir', file('certs')])).status, 0)
  await make('init')
  await make('server', ...sites.map(site => `${site}.example.org`), '--ip', '127.0.0.1')
  for (const name of ['pump', 'overseer']) await make('client', name)
  const [shared, hub, ...own] = [await freePort(), await freePort(), await freePort(), await freePort()]
  const ports = new Map([8883, 1883, 8884, 8885].map((documented, i) => [`${documented}`, `${[shared, hub, ...own][i]}`]))
  for (const name of ['haproxy.cfg', 'north.conf', 'south.conf', 'hub.conf']) {
    const text = readFileSync(file(name), 'utf8').replace(/\b\d{4}\b/g, port => ports.get(port) ?? port)
    writeFileSync(file(name), name.endsWith('.conf') ? `${userLine}${text}` : text)
  }
  for (const site of sites) mkdirSync(file(`data/${site}`), { recursive: true })
  const brokers = await Promise.all(sites.map(site => startBroker(t, ['-c', `${site}.conf`], { cwd: dir })))
  await must(t, 'haproxy', ['-c', '-f', 'haproxy.cfg'], { cwd: dir })
  start(t, 'haproxy', ['-f', 'haproxy.cfg'], { cwd: dir })
  await until(() => isOpen(shared))

  const pem = (name: string) => readFileSync(file(`certs/${name}`))
  const options = { ca: pem('ca/ca.crt'), cert: pem('client/pump.crt'), key: pem('client/pump.key') }
  for (const [i, site] of sites.entries()) {
    t.ok((await tlsClient(t, shared, { ...options, servername: `${site}.example.org` })).isAccepted)
    await brokers[i]?.line(/ as a \(p4, c1, k0, u'pump'\)/)
  }
  t.notOk((await tlsClient(t, shared, { ...options, servername: 'west.example.org' })).isAccepted, 'a name that nobody serves')

  // What is said on one is not heard on the other. Who watches both connects to both, or to a Mosquitto that does.
  const at = (port: number, name: string) => [
    '-h',
    '127.0.0.1',
    '-p',
    `${port}`,
    '--cafile',
    'certs/ca/ca.crt',
    '--cert',
    `certs/client/${name}.crt`,
    '--key',
    `certs/client/${name}.key`
  ]
  const watching = own.map((port, i) =>
    start(t, 'mosquitto_sub', [...at(port, 'overseer'), '-i', `w${i}`, '-v', '-t', 'devices/#'], { cwd: dir })
  )
  for (const broker of brokers) await broker.line(/as w\d \(/)
  for (const [i, port] of own.entries())
    await must(t, 'mosquitto_pub', [...at(port, 'pump'), '-r', '-q', '1', '-t', 'devices/pump/state', '-m', sites[i] ?? ''], { cwd: dir })
  for (const [i, watcher] of watching.entries()) await watcher.line(new RegExp(`^devices/pump/state ${sites[i]}$`))
  start(t, 'mosquitto', ['-c', 'hub.conf'], { cwd: dir })
  await until(() => isOpen(hub))
  const joined = start(t, 'mosquitto_sub', ['-h', '127.0.0.1', '-p', `${hub}`, '-v', '-t', '#'])
  for (const site of sites) await joined.line(new RegExp(`^${site}/pump/state ${site}$`))
  t.same(
    watching.map(watcher => watcher.stdout()),
    sites.map(site => `devices/pump/state ${site}\n`)
  )
  for (const broker of brokers) t.equal((await broker.stop('SIGTERM')).status, 0)
})
