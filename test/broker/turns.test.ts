// Nobody waits for another's long work: it is done in slices. While it goes on, a neighbour gets its PINGRESP, and what the broker does in one
// turn of the event loop takes no more than ten milliseconds. That is asked in the long run, on a machine that is known; elsewhere a slow
// processor is allowed for, and what is not sliced still shows: these works took 28 to 350 ms in one turn.

import { X509Certificate } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import { clientCertificate } from '../../dist/auth/certificate.js'
import { recheckPeer } from '../../dist/net/peer.js'
import type { AdministratorTurns } from '../helpers/administrator-turns.js'
import { type BareBroker, type BareOptions, startBareBroker } from '../helpers/bare-broker.js'
import { must } from '../helpers/command.js'
import { dial, type LightClient } from '../helpers/light-client.js'
import { testPki } from '../helpers/pki.js'
import { disconnect, packet, publish, subscribe, uint16, unsubscribe } from '../helpers/raw-mqtt.js'
import { crowd, Sink } from '../helpers/sink.js'
import { materialOf, tlsConfig } from '../helpers/tls-listener.js'
import { timeTurns } from '../helpers/turn-clock.js'

const isLong = process.env.MOSQUITERO_LONG === '1'
/** Milliseconds. */
const longest = isLong ? 10 : 25
/** The same where the client that reads fifty thousand messages works in the same turns. */
const withReader = isLong ? 15 : 25
/** Code that is still cold, or a busy machine, may be measured again. What is not sliced is too long each time. */
const attempts = 10

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
  if (isLong) t.comment(found.join('; '))
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

t.test('a hundred thousand sessions and retained messages are counted, listed for an administrator, and cleared', async t => {
  const program = fileURLToPath(new URL('../helpers/administrator-turns.js', import.meta.url))
  const lines = (await must(t, process.execPath, [program, `${longest}`])).trim().split('\n')
  const found: readonly AdministratorTurns[] = lines.map(line => JSON.parse(line))
  t.same(
    found.map(({ what, count }) => [what, count]),
    [
      ['counted', 2],
      ['clients', 100_000],
      ['none', 0],
      ['subscriptions', 100_001],
      ['cleared', 100_000],
      ['retained', 100_000]
    ]
  )
  for (const { what, turns } of found)
    t.ok((turns[0] ?? 0) <= longest, `${what}: turns ${turns.map(turn => turn.toFixed(1)).join(', ')} ms`)
})

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

t.test('half a million filters in one SUBSCRIBE', async t => {
  const broker = await start(t)
  const client = await (await dial(broker.port)).connect({ clientId: 'many' })
  const asking = packet(0x82, uint16(7), Buffer.alloc(4 * 490_000, Buffer.from([0, 1, 0x61, 0])))
  let count = 0
  await keepsTurnsShort(t, broker, async () => async () => {
    client.send(asking)
    const pinged = client.ping()
    await client.has(9, ++count)
    await pinged
  })
  client.destroy()
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
    t.equal(
      (await broker.broker.recheckClients(({ connection, admitted }) => broker.policyOf(connection).recheck(connection, admitted))).size,
      0
    )
  })
  for (const sink of here) sink.destroy()
})

t.test('the certificates of ten thousand clients are judged again, and half of them are revoked', async t => {
  const pki = await testPki(t)
  const [good, bad] = [await pki.client('good'), await pki.client('bad')]
  const material = await materialOf(tlsConfig({ ...(await pki.server()), cafile: pki.ca, crlfile: await pki.revoke(bad) }))
  const certificates = [good, bad].map(({ cert }) => clientCertificate(new X509Certificate(readFileSync(cert)).raw))
  const broker = await start(t)
  let sinks: readonly Sink[] = []
  await keepsTurnsShort(t, broker, async () => {
    for (const sink of sinks) sink.destroy()
    sinks = await crowd(broker, 10_000, i => [{ version: 5, clientId: `c-${i}` }])
    return async () => {
      const losses = await broker.broker.recheckClients(({ admitted }) => {
        const { clientId } = admitted.identity
        if (!clientId.startsWith('c-')) return admitted
        const verdict = recheckPeer(certificates[Number(clientId.slice(2)) % 2], material, new Date())
        return verdict.ok ? admitted : { reason: 'administrative-action', loss: verdict.reason, ofCertificate: 'certificate revoked' }
      })
      t.same([...losses], [['revoked', 5000]])
    }
  })
  for (const sink of sinks) sink.destroy()
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

/** So many receivers of the topic `all`, as many of them connected as are to be. */
async function audience(broker: BareBroker, count: number, qos: number, { clean = true, isAway = false } = {}): Promise<Sink[]> {
  return await crowd(broker, count, i => [{ clientId: `r${i}`, clean }, subscribe(['all'], 4, qos), ...(isAway ? [disconnect] : [])])
}

for (const [count, qos, kind] of [
  [20_000, 0, 'connected'],
  [50_000, 0, 'connected'],
  [20_000, 1, 'connected'],
  [50_000, 1, 'connected'],
  [20_000, 1, 'kept'],
  [20_000, 1, 'away']
] as const) {
  t.test(`a message of QoS ${qos} to ${count} receivers, ${kind}`, async t => {
    const broker = await start(t, { limits: { maxQueuedMessages: 0, maxInflightMessages: 0 } })
    const sinks = await audience(broker, count, qos, { clean: kind === 'connected', isAway: kind === 'away' })
    const writer = await (await dial(broker.port)).connect({ clientId: 'writer' })
    const payload = 'x'.repeat(100)
    let acknowledged = 0
    await keepsTurnsShort(t, broker, async attempt => {
      // Every second time the plan is made anew.
      if (attempt % 2 === 0) writer.send(subscribe([`none/${attempt}`]))
      await writer.ping()
      const before = Sink.total
      const each = publish('all', { qos, messageId: 1, payload }).length
      return async () => {
        writer.send(publish('all', { qos: 1, messageId: 1, payload }))
        await writer.has(4, ++acknowledged)
        while (kind !== 'away' && Sink.total < before + count * each) await nextTurn()
      }
    })
    for (const sink of sinks) sink.destroy()
    writer.destroy()
    await nextTurn()
  })
}

t.test('a message to 20000 receivers whose queues an Aedes persistence keeps', async t => {
  const openMemory: () => NonNullable<BareOptions['persistence']> = createRequire(import.meta.url)('aedes-persistence')
  const broker = await start(t, { persistence: openMemory(), limits: { maxQueuedMessages: 0, maxInflightMessages: 0 } })
  const sinks = await audience(broker, 20_000, 1, { clean: false })
  const writer = await (await dial(broker.port)).connect({ clientId: 'writer' })
  let acknowledged = 0
  await keepsTurnsShort(t, broker, async () => {
    await writer.ping()
    return async () => {
      writer.send(publish('all', { qos: 1, messageId: 1, payload: 'x' }))
      await writer.has(4, ++acknowledged)
    }
  })
  for (const sink of sinks) sink.destroy()
  writer.destroy()
  await nextTurn()
})

t.test('a message to thirty thousand shared groups whose member may not read it', async t => {
  const broker = await start(t, { acl: 'topic write all' })
  const member = await (await dial(broker.port)).connect({ clientId: 'member' })
  for (let i = 0; i < 30; i++) member.send(subscribe(numbers(1000).map(n => `$share/g${i}-${n}/#`)))
  await member.has(9, 30)
  const writer = await (await dial(broker.port)).connect({ clientId: 'writer' })
  let acknowledged = 0
  await keepsTurnsShort(t, broker, async () => {
    await writer.ping()
    return async () => {
      writer.send(publish('all', { qos: 1 }), publish('all', { qos: 1 }))
      acknowledged += 2
      await writer.has(4, acknowledged)
    }
  })
  t.equal(member.publishes, 0)
  member.destroy()
  writer.destroy()
  await nextTurn()
})

t.test('thirty messages in one write, each looked up in eight thousand nodes', async t => {
  const broker = await start(t)
  const levels = 12
  const reader = await (await dial(broker.port)).connect({ clientId: 'reader' })
  const filterOf = (i: number): string =>
    numbers(levels)
      .map(n => ((i >> n) & 1 ? '+' : 'a'))
      .join('/')
  reader.send(subscribe(numbers(2 ** levels).map(filterOf)))
  await reader.has(9, 1)
  const writer = await (await dial(broker.port)).connect({ clientId: 'writer' })
  let acknowledged = 0
  await keepsTurnsShort(t, broker, async attempt => {
    await writer.ping()
    return async () => {
      const before = 'a/'.repeat(levels - 1)
      writer.send(...numbers(30).map(i => publish(`${before}b/${attempt}/${i}`, { qos: 1, messageId: i + 1 })))
      acknowledged += 30
      await writer.has(4, acknowledged)
    }
  })
  reader.destroy()
  writer.destroy()
  await nextTurn()
})
