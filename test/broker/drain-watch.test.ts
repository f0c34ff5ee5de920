// An embedder's `drainTimeout`: who takes nothing of what it was sent for that long is ended, and nobody else.

import { setTimeout as pause } from 'node:timers/promises'
import type { AedesOptions } from 'aedes'
import t, { type Test } from 'tap'
import type { Broker } from '../../dist/index.js'
import { createBroker, join, message, type Peer, publish } from '../helpers/embedded.js'
import { until } from '../helpers/until.js'

/** Milliseconds. */
const drainTimeout = 200

interface Place {
  readonly broker: Broker
  /** Clients that were ended, and why. */
  readonly errors: string[]
  reader(clientId: string, filter?: string): Promise<Peer>
  /** So many messages of 64 KB, each a write of its own. */
  flood(count: number): Promise<void>
}

async function start(t: Test, options: AedesOptions): Promise<Place> {
  const broker = await createBroker(t, options)
  const errors: string[] = []
  broker.on('clientDisconnect', ({ id }) => errors.push(id))
  const payload = 'x'.repeat(65_536)
  return {
    broker,
    errors,
    reader: async (clientId, filter = 'a') => {
      const peer = await join(broker, { clientId, keepalive: 0 })
      await peer.subscribe(filter)
      return peer
    },
    flood: async count => {
      for (let i = 0; i < count; i++) await publish(broker, message('a', payload))
    }
  }
}

t.test('who stops reading is ended after it; who reads, however slowly, or has nothing to read, is not', async t => {
  const { broker, errors, reader, flood } = await start(t, { drainTimeout })
  const [frozen, slow, idle] = [await reader('frozen'), await reader('slow'), await reader('idle', 'nothing')]
  frozen.stream.pause()
  slow.stream.pause()
  const began = performance.now()
  await flood(100)
  // A piece now and then, so that it has more to come all the time.
  let pieces = 0
  slow.stream.removeAllListeners('data')
  slow.stream.on('data', () => {
    pieces += 1
    slow.stream.pause()
  })
  const reading = setInterval(() => slow.stream.resume(), drainTimeout / 10)
  t.teardown(() => clearInterval(reading))
  await until(() => frozen.client.closed)
  t.ok(performance.now() - began >= drainTimeout, 'not before its time')
  // For as long again, and longer.
  const read = pieces
  await until(() => pieces > read + 20 && performance.now() - began > drainTimeout * 4)
  t.ok(slow.client.connected && !slow.client.closed, 'it reads')
  t.ok(idle.client.connected, 'it was sent nothing')
  t.same(errors, ['frozen'])
  await idle.ping()
  t.equal(broker.connectedClients, 2)
})

t.test('who reads again in time is not ended, and its time begins anew', async t => {
  const { errors, reader, flood } = await start(t, { drainTimeout: 500 })
  const peer = await reader('late')
  for (let round = 0; round < 3; round++) {
    peer.stream.pause()
    await flood(5)
    await pause(250)
    peer.stream.resume()
    for (let i = 0; i < 5; i++) await peer.next('publish')
  }
  t.same(errors, [])
  peer.stream.pause()
  await flood(5)
  await until(() => errors.length > 0)
  t.same(errors, ['late'])
})

t.test('without it nobody is ended, and nothing looks for them', async t => {
  const watched = await start(t, { drainTimeout })
  for (const options of [{}, { drainTimeout: 0 }]) {
    const free = await start(t, options)
    const stays = await free.reader('stays')
    stays.stream.pause()
    await free.flood(20)
    const goes = await watched.reader(`goes-${options.drainTimeout}`)
    goes.stream.pause()
    await watched.flood(20)
    // It began later.
    await until(() => goes.client.closed)
    t.ok(stays.client.connected)
    t.same(free.errors, [])
    stays.stream.resume()
    for (let i = 0; i < 20; i++) await stays.next('publish')
  }
})
