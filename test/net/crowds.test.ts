// Crowds that come and say nothing, or half of what they should: time ends them, nobody waits for them, and nothing of them is left. The
// real listener before the real broker, with a short patience. MOSQUITERO_LONG=1: 10,000 at once.

import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { connect as connectTcp, type Socket } from 'node:net'
import { connect as connectTls } from 'node:tls'
import t, { type Test } from 'tap'
import type { Broker } from '../../dist/index.js'
import type { LogEventName } from '../../dist/log-events.js'
import { HandshakeGate } from '../../dist/net/handshake-gate.js'
import type { ConnectionTotal } from '../../dist/net/listener.js'
import { startCrowd } from '../helpers/crowd.js'
import { createBroker } from '../helpers/embedded.js'
import { usedHeap } from '../helpers/heap.js'
import { LightClient } from '../helpers/light-client.js'
import { testPki } from '../helpers/pki.js'
import { connect, publish, subscribe } from '../helpers/raw-mqtt.js'
import { testListener, tlsConfig } from '../helpers/tls-listener.js'
import { until } from '../helpers/until.js'

const long = process.env.MOSQUITERO_LONG === '1'
/** Milliseconds. */
const patience = long ? 12_000 : 2500
/** What a whole crowd may leave on the heap, in bytes: less than a kilobyte for each, where one connection takes several. */
const tolerance = 1_000_000
/** Before the tolerance counts: code gets warm, caches and pools get their size. */
const warmUp = 200

interface Place {
  readonly port: number
  readonly total: ConnectionTotal
  readonly gate: HandshakeGate
  readonly broker: Broker
  /** Ends that were told, by name. */
  readonly ends: Map<string, number>
  connections(): number
}

async function open(t: Test, isTls: boolean, wait: number): Promise<Place> {
  const pki = await testPki(t)
  const broker = await createBroker(t, { connectTimeout: wait })
  const ends = new Map<string, number>()
  const note = (name: string) => ends.set(name, (ends.get(name) ?? 0) + 1)
  broker.on('connectionError', (_client, { message }) => note(message))
  const total = { count: 0, limit: -1 }
  const gate = new HandshakeGate()
  const names: ReadonlySet<LogEventName> = new Set(['rejected', 'leftBeforeConnect'])
  const { listener } = await testListener(t, {
    ...(isTls && { tls: tlsConfig(await pki.server()) }),
    host: {
      total,
      gate,
      handshakeTimeout: wait,
      // Only counted: the lines of a crowd would be what is left of it.
      log: { enabled: () => true, write: (name, fields) => names.has(name) && note(`${name}: ${told(fields)}`) },
      onConnection: (stream, connection) => broker.accept(stream, connection)
    }
  })
  return { port: listener.port, total, gate, broker, ends, connections: () => listener.connections }
}

function told(fields: object): unknown {
  return 'words' in fields ? fields.words : Reflect.get(fields, 'reason')
}

/** From another address, as neighbours are: connects, subscribes, and gets what it publishes. */
async function isServed(port: number, isTls: boolean): Promise<void> {
  const from = { port, host: '127.0.0.1', localAddress: '127.0.0.2' }
  const socket: Socket = isTls ? connectTls({ ...from, rejectUnauthorized: false }) : connectTcp(from)
  await once(socket, isTls ? 'secureConnect' : 'connect')
  const client = new LightClient(socket)
  client.send(connect({ clientId: 'neighbour' }), subscribe(['own'], 4, 0))
  await client.has(9, 1)
  client.send(publish('own'))
  await client.has(3, 1)
  if (client.publishes !== 1) throw new Error('not served')
  client.destroy()
}

/** The first bytes of a real ClientHello. */
async function clientHello(): Promise<string> {
  const { createServer } = await import('node:net')
  const server = createServer()
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  const client = connectTls({ port: typeof address === 'object' && address !== null ? address.port : 0, host: '127.0.0.1' })
  client.on('error', () => {})
  const [socket]: Socket[] = await once(server, 'connection')
  if (socket === undefined) throw new Error('no connection')
  const [bytes]: Buffer[] = await once(socket, 'data')
  client.destroy()
  socket.destroy()
  server.close()
  return (bytes ?? Buffer.alloc(0)).toString('hex')
}

const hello = await clientHello()
const half = (hex: string): string => hex.slice(0, (hex.length >> 2) * 2)

interface Kind {
  readonly name: string
  readonly count: number
  readonly bytes?: string
  readonly handshake?: boolean
  readonly isTls: boolean
  /** How each of them ends. */
  readonly end: string
}

const kinds: readonly Kind[] = [
  { name: 'send nothing', count: long ? 10_000 : 2000, isTls: false, end: 'leftBeforeConnect: exceeded timeout' },
  {
    name: 'send half a CONNECT',
    count: long ? 10_000 : 1000,
    bytes: half(connect({ clientId: 'half-way' }).toString('hex')),
    isTls: false,
    end: 'connect did not arrive in time'
  },
  // As many as one address may have running and waiting.
  { name: 'send half a ClientHello', count: 1000, bytes: half(hello), isTls: true, end: 'rejected: handshake timed out' },
  {
    name: 'complete the handshake and send no CONNECT',
    // Their handshakes, both ends of each in this process, must be done while the first still waits.
    count: long ? 3000 : 150,
    handshake: true,
    isTls: true,
    end: 'leftBeforeConnect: exceeded timeout'
  }
]

/** Of this process, which needs one for each connection. */
function descriptors(): number {
  return Number(/Max open files\s+(\d+)/.exec(readFileSync('/proc/self/limits', 'utf8'))?.[1] ?? 0)
}

for (const { name, count: wanted, end, isTls, ...rest } of kinds) {
  const spare = 500
  const count = Math.min(wanted, descriptors() - spare)
  t.test(`${count} that ${name} are ended by time, and a neighbour is served meanwhile`, async t => {
    if (count < wanted) t.comment(`${count} instead of ${wanted}: ulimit -n is ${descriptors()}`)
    const small = await open(t, isTls, 300)
    const first = await startCrowd(t, { ...rest, port: small.port, count: warmUp })
    await isServed(small.port, isTls)
    await until(() => first.ended() === warmUp && small.total.count === 0)

    const place = await open(t, isTls, patience)
    await isServed(place.port, isTls)
    await until(() => place.total.count === 0)
    const before = usedHeap()
    const crowd = await startCrowd(t, { ...rest, port: place.port, count })
    await until(() => place.connections() === count && (crowd.opened() === count || place.ends.size > 0))
    await isServed(place.port, isTls)
    t.equal(crowd.ended(), 0, 'served while all of them are there')
    const during = usedHeap()
    await until(() => crowd.ended() === count)
    await until(() => place.total.count === 0 && place.connections() === 0)
    t.same([...place.ends], [[end, count]], 'each ended by time, and was told of once')
    t.equal(place.gate.running, 0)
    await until(() => place.broker.connectedClients === 0)
    await isServed(place.port, isTls)
    await until(() => place.total.count === 0)
    // Node lets go of handles some turns after their end.
    const left = () => usedHeap() - before
    await until(() => left() < tolerance, 5000).catch(() => {})
    const more = left()
    t.ok(more < tolerance, `${more} bytes are left of ${during - before}`)
    t.comment(`${during - before} bytes with ${count}, ${more} after`)
  })
}

t.test('half ClientHellos from four addresses take all places, and another address is served within seconds', async t => {
  const place = await open(t, true, 30_000)
  const crowds = await Promise.all(
    ['127.0.0.11', '127.0.0.12', '127.0.0.13', '127.0.0.14'].map(from =>
      startCrowd(t, { port: place.port, count: 100, bytes: half(hello), from })
    )
  )
  await until(() => crowds.every(crowd => crowd.opened() === 100) && place.connections() === 400)
  t.equal(place.gate.running, 256)
  for (const _ of [1, 2]) {
    const began = performance.now()
    await isServed(place.port, true)
    const took = performance.now() - began
    t.ok(took < 7000, `served after ${took.toFixed(0)} ms`)
  }
})

t.test('silent sockets, each from an address of its own, take all places for a second', async t => {
  const place = await open(t, true, 30_000)
  const addresses = Array.from({ length: 300 }, (_, i) => `127.0.${1 + (i >> 7)}.${1 + (i & 127)}`)
  for (const localAddress of addresses) {
    const socket = connectTcp({ port: place.port, host: '127.0.0.1', localAddress }).on('error', () => {})
    t.teardown(() => socket.destroy())
  }
  await until(() => place.connections() === addresses.length)
  t.equal(place.gate.running, 256)
  const began = performance.now()
  await isServed(place.port, true)
  const took = performance.now() - began
  t.ok(took < 4000, `served after ${took.toFixed(0)} ms`)
})
