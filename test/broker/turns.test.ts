// Nobody waits for another's long work: it is done in slices. While it goes on, a neighbour gets its PINGRESP, and what the broker does in one
// turn of the event loop takes no more than ten milliseconds.

import { Duplex } from 'node:stream'
import { setImmediate as nextTurn } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { type BareBroker, type BareOptions, plainListener, startBareBroker } from '../helpers/bare-broker.js'
import { dial, type LightClient } from '../helpers/light-client.js'
import { connect, disconnect, publish, type RawConnect, subscribe, unsubscribe } from '../helpers/raw-mqtt.js'
import { timeTurns } from '../helpers/turn-clock.js'

/** Milliseconds. */
const longest = 10
/** The same where the client that reads fifty thousand messages works in the same turns. */
const withReader = 15
/** Code that is still cold, or a busy machine, may be measured again. What is not sliced is too long each time. */
const attempts = 10

/** The broker's end of a connection that costs nothing: what is written there is counted. */
class Sink extends Duplex {
  bytes = 0

  constructor({ broker }: BareBroker, options: RawConnect) {
    super({
      read() {},
      write: (chunk: Buffer, _encoding, done) => {
        this.bytes += chunk.length
        done()
      }
    })
    broker.accept(this, { listener: plainListener, remoteAddress: '127.0.0.1', remotePort: 1 })
    this.push(connect(options))
  }
}

/** So many clients at once; their packets behind CONNECT. */
async function crowd(broker: BareBroker, count: number, make: (i: number) => readonly [RawConnect, ...Buffer[]]): Promise<Sink[]> {
  const sinks: Sink[] = []
  for (let i = 0; i < count; i++) {
    const [options, ...packets] = make(i)
    const sink = new Sink(broker, options)
    for (const packet of packets) sink.push(packet)
    sinks.push(sink)
    if (i % 50 === 0) await nextTurn()
  }
  while (sinks.some(({ bytes }) => bytes < 4)) await nextTurn()
  return sinks
}

const start = (t: Test, options: BareOptions = {}): Promise<BareBroker> => startBareBroker(t, { ...options, debug: false })

function retain(broker: BareBroker, topic: string): void {
  broker.broker.publish({ cmd: 'publish', topic, payload: Buffer.from('value'), qos: 0, retain: true, dup: false })
}

/** PINGREQ after PINGREQ on a socket of its own; resolves with the milliseconds of the longest wait. */
function neighbour(client: LightClient): { stop(): Promise<number> } {
  let isOn = true
  let most = 0
  const pinging = (async () => {
    while (isOn && !client.isClosed) {
      const sent = performance.now()
      await client.ping()
      most = Math.max(most, performance.now() - sent)
    }
  })()
  return {
    stop: async () => {
      isOn = false
      await pinging
      return most
    }
  }
}

/** Does the work until it keeps the bound. `work` gives the time to what it waits for. */
async function keepsTurnsShort(
  t: Test,
  broker: BareBroker,
  work: (attempt: number) => Promise<() => Promise<void>>,
  bound = longest
): Promise<void> {
  const pinger = await (await dial(broker.port)).connect({ clientId: 'neighbour', keepalive: 0 })
  const found: string[] = []
  let best = Number.POSITIVE_INFINITY
  for (let attempt = 0; attempt < attempts && best > bound; attempt++) {
    const measured = await work(attempt)
    await nextTurn()
    let waited = 0
    const { longest: turns } = await timeTurns(async () => {
      const pinging = neighbour(pinger)
      try {
        await measured()
      } finally {
        waited = await pinging.stop()
      }
    })
    best = Math.min(best, turns[0] ?? 0)
    found.push(`turns ${turns.map(turn => turn.toFixed(1)).join(', ')} ms, PINGRESP after ${waited.toFixed(1)} ms`)
  }
  t.ok(best <= bound, found.join('; '))
  if (process.env.MOSQUITERO_LONG === '1') t.comment(found.join('; '))
  pinger.destroy()
}

const numbers = (count: number): number[] => Array.from({ length: count }, (_, i) => i)

t.test('a hundred thousand retained messages', async t => {
  const broker = await start(t)
  for (const i of numbers(100_000)) {
    retain(broker, `r/${i % 300}/${i}/x`)
    if (i % 1000 === 0) await nextTurn()
  }
  for (const filters of [['#'], ['+/+/none'], ['+/+/+/none'], numbers(300).map(i => `r/+/${i}/#`)]) {
    await t.test(`for ${filters.slice(0, 2)}`, async t => {
      await keepsTurnsShort(t, broker, async attempt => {
        const reader = await (await dial(broker.port)).connect({ clientId: `reader-${attempt}` })
        return async () => {
          reader.send(subscribe(filters))
          await reader.has(9, 1)
          if (filters[0] === '#') await reader.has(3, 100_000)
          else await reader.ping()
          reader.destroy()
        }
      })
    })
  }
})

for (const maxInflightMessages of [20, 0]) {
  t.test(`a session with fifty thousand queued messages comes back, max_inflight_messages ${maxInflightMessages}`, async t => {
    const broker = await start(t, { limits: { maxQueuedMessages: 0, maxInflightMessages } })
    const [first] = await crowd(broker, 1, () => [{ clientId: 'reader', clean: false }, subscribe(['q'])])
    first?.destroy()
    await nextTurn()
    let left = 0
    const fill = async () => {
      for (; left < 50_000; left++) {
        broker.broker.publish({ cmd: 'publish', topic: 'q', payload: Buffer.from('message'), qos: 1, retain: false, dup: false })
        if (left % 1000 === 0) await nextTurn()
      }
    }
    // What is sent and not acknowledged is there for the next one.
    const expected = maxInflightMessages === 0 ? 50_000 : 20
    await keepsTurnsShort(t, broker, async () => {
      await fill()
      return async () => {
        const reader = await (await dial(broker.port)).connect({ clientId: 'reader', clean: false })
        await reader.has(3, expected)
        reader.destroy()
      }
    })
    await keepsTurnsShort(t, broker, async () => {
      await fill()
      return async () => {
        const reader = await (await dial(broker.port, { acknowledges: true })).connect({ clientId: 'reader', clean: false })
        await reader.has(3, 50_000)
        await reader.ping()
        left = 0
        reader.send(disconnect)
      }
    })
  })
}

t.test('thirty thousand filters in one SUBSCRIBE, and in one UNSUBSCRIBE', async t => {
  const broker = await start(t)
  retain(broker, 'sub/1/1/x/y')
  const filters = numbers(30_000).map(i => `sub/${i % 100}/${i}/+/${'x'.repeat(40)}`)
  const [subscribing, unsubscribing] = [subscribe(filters), unsubscribe(filters)]
  for (const clean of [true, false]) {
    const client = await (await dial(broker.port)).connect({ clientId: `many-${clean}`, clean })
    for (const [what, packet, answer] of [
      ['subscribe', subscribing, 9],
      ['unsubscribe', unsubscribing, 11]
    ] as const) {
      await t.test(`${what}, clean start ${clean}`, async t => {
        let count = client.counts[answer] ?? 0
        await keepsTurnsShort(t, broker, async () => async () => {
          // The next packet waits for it.
          client.send(packet)
          const pinged = client.ping()
          await client.has(answer, ++count)
          await pinged
        })
        t.notOk(client.isClosed)
      })
    }
    client.destroy()
  }
})

for (const end of ['DISCONNECT', 'a clean start']) {
  t.test(`a session with fifty thousand subscriptions ends by ${end}`, async t => {
    const broker = await start(t)
    const clean = end === 'DISCONNECT'
    await keepsTurnsShort(t, broker, async () => {
      const client = await (await dial(broker.port)).connect({ clientId: 'many', clean })
      for (const part of numbers(50)) client.send(subscribe(numbers(1000).map(i => `many/${part}/${i}/+`)))
      await client.has(9, 50)
      await client.ping()
      return async () => {
        if (clean) client.send(disconnect)
        const next = await (await dial(broker.port)).connect({ clientId: clean ? 'other' : 'many' })
        // Nothing of the old session comes to the new one.
        next.send(subscribe(['many/0/0/z']), publish('many/0/0/z'))
        await next.has(3, 1)
        for (const _ of numbers(60)) await next.ping()
        t.equal(next.publishes, 1)
        next.destroy()
      }
    })
  })
}

t.test('five thousand clients among twenty thousand sessions are judged again', async t => {
  const broker = await start(t)
  const here = await crowd(broker, 5000, i => [{ clientId: `here-${i}`, clean: false }])
  await crowd(broker, 15_000, i => [{ clientId: `away-${i}`, clean: false }, disconnect])
  await keepsTurnsShort(t, broker, async () => async () => {
    t.equal(await broker.broker.recheckClients(({ connection, admitted }) => broker.policyOf(connection).recheck(connection, admitted)), 0)
  })
  for (const sink of here) sink.destroy()
})

t.test('fifty thousand sessions end in the same second, each with a will', async t => {
  const broker = await start(t)
  const reader = await (await dial(broker.port)).connect({ clientId: 'reader' })
  reader.send(subscribe(['will/#'], 4, 0))
  await reader.has(9, 1)
  let round = 0
  await keepsTurnsShort(
    t,
    broker,
    async () => {
      const [count, before] = [50_000 >> Math.min(round, 1), reader.publishes]
      round += 1
      // A will that is due 200 s later than everything else goes with the session.
      const properties = Buffer.from('1100000001', 'hex')
      const sinks = await crowd(broker, count, i => [
        {
          version: 5,
          clientId: `e${i}`,
          properties,
          will: { topic: `will/${i}`, payload: 'x', properties: Buffer.from('18000000c8', 'hex') }
        }
      ])
      for (const [i, sink] of sinks.entries()) {
        sink.destroy()
        if (i % 200 === 0) await nextTurn()
      }
      return () => reader.has(3, before + count)
    },
    withReader
  )
})
