// A program of broker/turns.test.ts: what an administrator asks of a broker with a hundred thousand sessions and retained messages, what it counts
// for $SYS by itself, and how long the turns of its event loop are meanwhile. A process of its own, as tap watches every promise of its tests, and
// each item of a list is one: with Node 24 that takes ten times as long as the work. Argument: milliseconds; a longer turn is measured again, up to
// ten times.

import { setImmediate as nextTurn } from 'node:timers/promises'
import { AdminRoutes } from '../../dist/net/admin-routes.js'
import { openMemoryStore } from '../../dist/store/memory.js'
import { startBareBroker } from './bare-broker.js'
import { dial } from './light-client.js'
import { subscribe } from './raw-mqtt.js'
import { timeTurns } from './turn-clock.js'

/** What it prints, a line of JSON for each. */
export interface AdministratorTurns {
  readonly what: string
  /** Items. */
  readonly count: number
  /** Of the best attempt, milliseconds, the longest first. */
  readonly turns: readonly number[]
}

const many = 100_000
const attempts = 10
const bound = Number(process.argv[2])

const store = openMemoryStore()
const subscription = { qos: 1, noLocal: false, retainAsPublished: false, retainHandling: 0, identifier: 0 } as const
for (let i = 0; i < many; i++) {
  void store.commit([
    { kind: 'session', session: { clientId: `client-${i}`, username: 'somebody', version: 5, expiryInterval: 1000, leftAt: Date.now() } },
    { kind: 'subscribe', clientId: `client-${i}`, subscription: { ...subscription, filter: `a/${i}/#` } },
    { kind: 'subscribe', clientId: `client-${i}`, subscription: { ...subscription, filter: 'a/+/b' } }
  ])
}
const { broker, port } = await startBareBroker({ teardown: () => {} }, { store, debug: false, delivery: { sysInterval: 1 } })
const { administration } = broker
const routes = new AdminRoutes({ administration, name: '', version: '', reload: async () => Promise.reject(new Error('nobody asks')) })

await measure('counted', () => counted())
await measure('clients', () => list('/v1/clients?limit=10000&match=client-'))
await measure('none', () => list('/v1/clients?limit=10000&match=*nobody*'))
await measure('subscriptions', () => list('/v1/subscriptions?topic=a/77/b'))
await measure('cleared', () => administration.clearRetained('r/#'), fill)
await fill()
await measure('retained', () => list('/v1/retained?filter=r/%23&limit=10000'))
process.exit(0)

async function measure(what: string, act: () => Promise<number>, prepare = async (): Promise<void> => {}): Promise<void> {
  let best: AdministratorTurns | undefined
  for (let attempt = 0; attempt < attempts && (best?.turns[0] ?? Number.POSITIVE_INFINITY) > bound; attempt++) {
    await prepare()
    await nextTurn()
    let count = 0
    const { longest: turns } = await timeTurns(async () => {
      count = await act()
    })
    if (best === undefined || (turns[0] ?? 0) < (best.turns[0] ?? 0)) best = { what, count, turns }
  }
  process.stdout.write(`${JSON.stringify(best)}\n`)
}

/** How many items there are, page by page. */
async function list(target: string): Promise<number> {
  let count = 0
  const [path = ''] = target.split('?')
  for (let page = target; ; ) {
    const { body } = await routes.answer('GET', page)
    await nextTurn()
    if (!body.includes('[]')) count += 1
    for (let at = body.indexOf('},{'); at >= 0; at = body.indexOf('},{', at + 1)) count += 1
    const next = body.lastIndexOf('"next":"')
    if (next < 0) return count
    page = `${path}?limit=10000&next=${body.slice(next + 8, -2)}`
  }
}

/** How often the uptime was told: as retained, and once $SYS has been made anew. */
async function counted(): Promise<number> {
  const client = await (await dial(port)).connect({ clientId: 'reader' })
  client.send(subscribe(['$SYS/broker/uptime'], 4, 0))
  await client.has(3, 2)
  client.destroy()
  return client.publishes
}

async function fill(): Promise<void> {
  for (let i = 0; i < many; i++) {
    broker.publish({ cmd: 'publish', topic: `r/${i % 300}/${i}`, payload: Buffer.from('value'), qos: 0, retain: true, dup: false })
    if (i % 1000 === 0) await nextTurn()
  }
}
