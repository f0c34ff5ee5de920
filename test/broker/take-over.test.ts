// Many connections with one client identifier at once: one of them is left, whatever the store takes, and everything that is counted is right.

import { setTimeout as pause } from 'node:timers/promises'
import t, { type Test } from 'tap'
import type { Store } from '../../dist/storage.js'
import { openMemoryStore } from '../../dist/store/memory.js'
import { type BareOptions, startBareBroker } from '../helpers/bare-broker.js'
import { dial, type LightClient } from '../helpers/light-client.js'
import { below, connect, disconnect, pick, publish, seededRandom, subscribe } from '../helpers/raw-mqtt.js'
import { until } from '../helpers/until.js'

const seed = Number(process.env.MOSQUITERO_SEED ?? Date.now() % 1_000_000_007)

/** Everything takes a moment, never the same. */
function slowStore(random: () => number): Store {
  const memory = openMemoryStore()
  const wait = () => pause(below(random, 4))
  return {
    isDurableAtOnce: false,
    open: () => memory.open(),
    commit: changes => wait().then(() => memory.commit(changes)),
    page: async (clientId, after, limit) => {
      await wait()
      return memory.page(clientId, after, limit)
    },
    close: () => memory.close()
  }
}

async function storm(t: Test, options: BareOptions, random: () => number): Promise<void> {
  const { broker, port, log } = await startBareBroker(t, { ...options, debug: false })
  let live = 0
  let most = 0
  broker.on('client', () => {
    live += 1
    most = Math.max(most, live)
  })
  broker.on('clientDisconnect', () => {
    live -= 1
  })
  for (let round = 0; round < 40; round++) {
    const count = 6 + below(random, 15)
    const clients = await Promise.all(Array.from({ length: count }, () => dial(port)))
    const clean = clients.map(() => random() < 0.5)
    for (const [i, client] of clients.entries()) {
      client.send(connect({ clientId: 'same', clean: clean[i] === true, version: pick(random, [4, 5] as const) }), subscribe(['own'], 4, 1))
      if (random() < 0.3) await pause(below(random, 3))
      if (random() < 0.1) client.destroy()
    }
    // One that was destroyed here may still have taken over there.
    await until(async () => {
      const left = clients.filter(({ isClosed }) => !isClosed)
      await Promise.all(left.map(client => client.ping()))
      return left.length === broker.connectedClients && left.length <= 1 && left.every(({ isClosed }) => !isClosed)
    })
    t.ok(most <= 1, `seed ${seed}, round ${round}: ${most} at once`)
    for (const client of clients) client.destroy()
    await until(() => broker.connectedClients === 0)
    t.equal(live, 0)
    t.same(Object.keys(broker.clients), [])
    if (round % 10 > 0) continue
    const last = await (await dial(port)).connect({ clientId: 'same' })
    last.send(disconnect)
    await until(() => broker.connectedClients === 0)
  }
  t.same(
    log.lines.filter(line => /fault/i.test(line)),
    []
  )
}

t.test('memory', t => storm(t, {}, seededRandom(seed)))
t.test('a store that takes its time', t => {
  const random = seededRandom(seed)
  return storm(t, { store: slowStore(random) }, random)
})

t.test('a will is sent when a session of either side is clean, and not when both go on', async t => {
  const { port } = await startBareBroker(t)
  const wills: string[] = []
  const watcher = await (await dial(port, { onPublish: (_, payload) => wills.push(payload.toString()) })).connect({ clientId: 'watcher' })
  watcher.send(subscribe(['will'], 4, 0))
  await watcher.has(9, 1)
  for (const [before, after, isSent] of [
    [true, true, true],
    [true, false, true],
    [false, true, true],
    [false, false, false]
  ] as const) {
    const name = `${before} ${after}`
    const first = await (await dial(port)).connect({ clientId: name, clean: before, will: { topic: 'will', payload: name } })
    const second: LightClient = await (await dial(port)).connect({ clientId: name, clean: after })
    await until(() => first.isClosed)
    second.send(publish('will', { payload: 'mark' }))
    await until(() => wills.includes('mark'))
    t.same(wills.splice(0), isSent ? [name, 'mark'] : ['mark'], `clean start ${name}`)
    second.destroy()
  }
  watcher.destroy()
})
