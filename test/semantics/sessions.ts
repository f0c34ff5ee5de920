// How long a session lives, who may have it, and the will of a connection that ends.

import { setTimeout as pause } from 'node:timers/promises'
import type { ArenaBroker, ClientOptions, Peer, Scenario } from '../helpers/arena.js'
import { connectText } from '../helpers/arena.js'
import { until } from '../helpers/until.js'

const minute = '11 0000003c'
const kept5 = { version: 5, clean: false, properties: minute } as const

interface Kind {
  readonly name: string
  readonly version: 4 | 5
  readonly clean: boolean
}

const kinds: readonly Kind[] = [
  { name: 'clean 3.1.1', version: 4, clean: true },
  { name: 'persistent 3.1.1', version: 4, clean: false },
  { name: 'clean 5', version: 5, clean: true },
  { name: 'persistent 5', version: 5, clean: false }
]

const optionsOf = ({ version, clean }: Kind): ClientOptions => ({ version, clean, ...(!clean && { properties: minute }) })

async function watcher(broker: ArenaBroker): Promise<Peer> {
  const client = await broker.client('watcher', { version: 5 })
  await client.subscribe('will/#', 2)
  return client
}

export const sessions: readonly Scenario[] = [
  ...kinds.flatMap(old =>
    kinds.map((now): Scenario => {
      const sent = old.clean || now.clean
      return {
        name: `${now.name} takes over ${old.name}: ${sent ? 'one will' : 'no will'}${old.version === 5 ? ', 0x8E to the old one' : ''}`,
        async run(broker) {
          const watching = await watcher(broker)
          const first = await broker.client('same', { ...optionsOf(old), will: { topic: 'will/a' } })
          const second = await broker.client('same', { ...optionsOf(now), present: old.clean || now.clean ? 0 : 1 })
          await first.expectClosed(...(old.version === 5 && !broker.is20 ? ['e0 8e'] : []))
          await second.ping()
          if (sent) await watching.expect(`30 "will/a" {} 'gone'`)
          await watching.expectNothing()
        }
      }
    })
  ),
  {
    name: 'a session without subscriptions is a session: session present 1',
    async run(broker) {
      const first = await broker.client('kept', { clean: false })
      await first.disconnect()
      const second = await broker.client('kept', { clean: false, present: 1 })
      await second.disconnect()
      const third = await broker.client('kept', { clean: true })
      await third.disconnect()
      await broker.client('kept', { clean: false, present: 0 })
    }
  },
  {
    name: 'a clean connection ends the session that was kept: subscriptions, queue and handshakes',
    async run(broker) {
      const first = await broker.client('kept', { clean: false })
      await first.subscribe('a', 1)
      first.send(`34 "half" 0001 'x'`)
      await first.expect('50 0001')
      await first.disconnect()
      const writer = await broker.client('writer')
      await writer.subscribe('half')
      await writer.publish('a', 'x', { qos: 1 })
      const clean = await broker.client('kept')
      await clean.expectNothing()
      clean.send('62 0001')
      await clean.expect('70 0001')
      await writer.expectNothing()
      await clean.disconnect()
      const again = await broker.client('kept', { clean: false })
      await writer.publish('a', 'y', { qos: 1 })
      await again.expectNothing()
    }
  },
  {
    name: 'MQTT 5: who comes back without Session Expiry gets its session and what is queued, and ends it by going',
    async run(broker) {
      const first = await broker.client('kept', kept5)
      await first.subscribe('a', 1)
      await first.disconnect()
      const writer = await broker.client('writer')
      for (const payload of ['1', '2']) await writer.publish('a', payload, { qos: 1 })
      const second = await broker.client('kept', { version: 5, clean: false, present: 1 })
      await second.expect(`32 "a" 0001 {} '1'`, `32 "a" 0002 {} '2'`)
      await second.disconnect()
      await broker.client('kept', { ...kept5, present: 0 })
    }
  },
  {
    name: 'a session is the same for MQTT 3.1.1 and MQTT 5',
    async run(broker) {
      const old = await broker.client('kept', { clean: false })
      await old.subscribe('a', 1)
      await old.disconnect()
      const writer = await broker.client('writer', { version: 5 })
      await writer.publish('a', '1', { qos: 1, properties: '03 "text/plain"' })
      const modern = await broker.client('kept', { ...kept5, present: 1 })
      await modern.expect(`32 "a" 0001 {03 "text/plain"} '1'`)
      await modern.drop()
      const last = await broker.client('kept', { clean: false, present: 1 })
      await last.expect(`3a "a" 0001 '1'`)
    }
  },
  {
    name: 'MQTT 5: DISCONNECT may not raise Session Expiry from 0',
    async run(broker) {
      const client = await broker.client('one', { version: 5 })
      client.send(`e0 00 {${minute}}`)
      await client.expectClosed('e0 82')
    }
  },
  {
    name: 'MQTT 5: DISCONNECT may change Session Expiry, to 0 too',
    async run(broker) {
      const first = await broker.client('kept', kept5)
      await first.disconnect('e0 00 {11 00000064}')
      const second = await broker.client('kept', { ...kept5, present: 1 })
      await second.disconnect('e0 00 {11 00000000}')
      await broker.client('kept', { ...kept5, present: 0 })
    }
  },
  {
    name: 'MQTT 5: a session ends when its expiry has passed, with its queue',
    slow: true,
    async run(broker) {
      const short = { version: 5, clean: false, properties: '11 00000001' } as const
      const first = await broker.client('short', short)
      await first.subscribe('a', 1)
      await first.disconnect()
      const forever = await broker.client('forever', { ...short, properties: '11 ffffffff' })
      await forever.disconnect()
      const old = await broker.client('old', { clean: false })
      await old.disconnect()
      await pause(3_000)
      const again = await broker.client('short', { ...short, present: 0 })
      await again.expectNothing()
      await broker.client('forever', { ...short, present: 1 })
      await broker.client('old', { clean: false, present: 1 })
      if (!broker.is20) await until(() => broker.log().includes('Expiring client short due to timeout.'), 5_000)
    }
  },
  {
    name: 'MQTT 5: who comes back in time keeps the session',
    slow: true,
    async run(broker) {
      const short = { version: 5, clean: false, properties: '11 00000005' } as const
      const first = await broker.client('short', short)
      await first.disconnect()
      const second = await broker.client('short', { ...short, present: 1 })
      await pause(6_500)
      await second.ping()
      await second.disconnect()
      await broker.client('short', { ...short, present: 1 })
    }
  },
  ...([4, 5] as const).flatMap((version): Scenario[] => [
    {
      name: `MQTT ${version}: no PINGREQ within one and a half of keep alive ends the connection, with its will`,
      slow: true,
      async run(broker) {
        const watching = await watcher(broker)
        const began = Date.now()
        const client = await broker.client('silent', { version, keepalive: 1, will: { topic: 'will/a' } })
        await client.expectClosed(...(version === 5 && !broker.is20 ? ['e0 8d'] : []))
        if (Date.now() - began < 1_000) throw new Error('too early')
        await watching.expect(`30 "will/a" {} 'gone'`)
      }
    },
    {
      name: `MQTT ${version}: any packet keeps the connection alive, and keep alive 0 needs none`,
      slow: true,
      async run(broker) {
        const client = await broker.client('lively', { version, keepalive: 1 })
        const silent = await broker.client('silent', { version, keepalive: 0 })
        for (let i = 0; i < 6; i++) {
          await pause(600)
          client.send(`30 "a" {} 'x'`)
        }
        await client.ping()
        await silent.ping()
      }
    },
    {
      name: `MQTT ${version}: DISCONNECT sends no will, an end without one does`,
      async run(broker) {
        const watching = await watcher(broker)
        const polite = await broker.client('polite', { version, will: { topic: 'will/polite' } })
        await polite.disconnect()
        const gone = await broker.client('gone', { version, will: { topic: 'will/gone', qos: 1, retain: true, payload: 'bye' } })
        await gone.drop()
        await watching.expect(`32 "will/gone" 0001 {} 'bye'`)
        const late = await broker.client('late')
        await late.subscribe('will/#', 2)
        await late.expect(`33 "will/gone" 0001 'bye'`)
        await watching.expectNothing()
      }
    },
    {
      name: `MQTT ${version}: a protocol violation sends the will`,
      async run(broker) {
        const watching = await watcher(broker)
        const client = await broker.client('wrong', { version, will: { topic: 'will/a' } })
        client.send(`36 "a" 0001 {} 'x'`)
        await client.expectClosed(...(version === 5 ? ['e0 81'] : []))
        await watching.expect(`30 "will/a" {} 'gone'`)
        await watching.expectNothing()
      }
    }
  ]),
  {
    name: 'MQTT 5: DISCONNECT 0x04 sends the will',
    async run(broker) {
      const watching = await watcher(broker)
      const client = await broker.client('one', { version: 5, will: { topic: 'will/a' } })
      await client.disconnect('e0 04')
      await watching.expect(`30 "will/a" {} 'gone'`)
    }
  },
  {
    name: 'a persistent session that drops sends its will at once, and once',
    async run(broker) {
      const watching = await watcher(broker)
      const client = await broker.client('kept', { clean: false, will: { topic: 'will/a' } })
      await client.drop()
      await watching.expect(`30 "will/a" {} 'gone'`)
      await broker.client('kept', { clean: false, present: 1 })
      await broker.client('other')
      await watching.expectNothing()
    }
  },
  {
    name: 'the will of a connection is its own: the next one without a will has none',
    async run(broker) {
      const watching = await watcher(broker)
      const first = await broker.client('kept', { clean: false, will: { topic: 'will/a' } })
      await first.disconnect()
      const second = await broker.client('kept', { clean: false, present: 1 })
      await second.drop()
      const third = await broker.client('kept', { clean: false, present: 1, will: { topic: 'will/b' } })
      await third.drop()
      await watching.expect(`30 "will/b" {} 'gone'`)
      await watching.expectNothing()
    }
  },
  {
    name: 'MQTT 5: a will has its properties, but not its delay',
    slow: true,
    async run(broker) {
      const watching = await watcher(broker)
      const properties = '18 00000001 03 "text/plain" 26 "k" "v"'
      const client = await broker.client('one', { ...kept5, will: { topic: 'will/a', qos: 1, properties } })
      await client.drop()
      await watching.expect(`32 "will/a" 0001 {03 "text/plain" 26 "k" "v"} 'gone'`)
    }
  },
  {
    name: 'MQTT 5: a will without a session to wait for is sent at once, whatever its delay',
    notIn20: 'waits',
    async run(broker) {
      const watching = await watcher(broker)
      const client = await broker.client('one', { version: 5, will: { topic: 'will/a', properties: '18 00000064' } })
      await client.drop()
      await watching.expect(`30 "will/a" {} 'gone'`)
    }
  },
  {
    name: 'MQTT 5: session expiry cuts the delay of a will short',
    slow: true,
    async run(broker) {
      const watching = await watcher(broker)
      const client = await broker.client('one', {
        version: 5,
        properties: '11 00000001',
        will: { topic: 'will/a', properties: '18 00000064' }
      })
      await client.drop()
      await watching.expect(`30 "will/a" {} 'gone'`)
    }
  },
  {
    name: 'MQTT 5: who comes back within the delay of its will has not gone',
    slow: true,
    async run(broker) {
      const watching = await watcher(broker)
      const client = await broker.client('one', { ...kept5, will: { topic: 'will/a', properties: '18 00000002' } })
      await client.drop()
      const again = await broker.client('one', { ...kept5, present: 1 })
      await pause(3_500)
      await watching.expectNothing()
      await again.ping()
    }
  },
  {
    name: 'MQTT 5: who comes back within the delay of its will with a clean start ends the session, and the will is sent at once',
    notIn20: 'the will is dropped',
    async run(broker) {
      const watching = await watcher(broker)
      const client = await broker.client('one', { ...kept5, will: { topic: 'will/a', properties: '18 00000064' } })
      await client.drop()
      const again = await broker.client('one', { version: 5, properties: minute })
      await again.ping()
      await watching.expect(`30 "will/a" {} 'gone'`)
      await watching.expectNothing()
    }
  },
  {
    name: 'an empty will topic: MQTT 3.1.1 is closed, MQTT 5 is told 0x82',
    async run(broker) {
      const old = await broker.wire(4)
      old.send(connectText('old', { will: { topic: '' } }))
      await old.expectClosed()
      const modern = await broker.wire(5)
      modern.send(connectText('modern', { version: 5, will: { topic: '' } }))
      await modern.expectClosed(...(broker.is20 ? [] : ['20 00 82 {}']))
    }
  },
  ...(['a/+', '#', 'a#b'] as const).map(
    (topic): Scenario => ({
      name: `a wildcard in a will topic (${topic}) closes without an answer`,
      async run(broker) {
        for (const version of [4, 5] as const) {
          const client = await broker.wire(version)
          client.send(connectText('one', { version, will: { topic } }))
          await client.expectClosed()
        }
      }
    })
  ),
  {
    name: 'a will may be empty',
    async run(broker) {
      const watching = await watcher(broker)
      for (const version of [4, 5] as const) {
        const client = await broker.client('one', { version, will: { topic: 'will/a', payload: '' } })
        await client.drop()
        await watching.expect('30 "will/a" {}')
      }
    }
  },
  {
    name: 'acl_file: a will that may not be written is not sent',
    global: 'acl_file DIR/acl',
    files: { acl: 'topic read #\npattern write will/%c\n' },
    async run(broker) {
      const watching = await watcher(broker)
      const bad = await broker.client('bad', { will: { topic: 'will/other' } })
      await bad.drop()
      const good = await broker.client('good', { will: { topic: 'will/good' } })
      await good.drop()
      await watching.expect(`30 "will/good" {} 'gone'`)
      await watching.expectNothing()
    }
  },
  {
    name: 'six connections at once with one identifier, forty times: one stays, and the count is right',
    async run(broker) {
      for (let round = 0; round < 40; round++) {
        const clean = round % 2 === 0
        const version = round % 4 < 2 ? 4 : 5
        const peers = await Promise.all(Array.from({ length: 6 }, () => broker.wire(version)))
        for (const peer of peers) peer.send(connectText('same', { version, clean, ...(version === 5 && !clean && { properties: minute }) }))
        for (const peer of peers) await peer.next()
        const open = await alone(peers)
        const connected = broker.connected()
        if (connected !== undefined && connected !== 1) throw new Error(`round ${round}: ${connected} are counted`)
        await open.disconnect()
      }
      const [none, last] = [broker.connected(), await broker.client('last')]
      if (none !== undefined && none !== 0) throw new Error(`${none} are counted, and nobody is there`)
      await last.ping()
    }
  }
]

/** Waits until all but one are closed, which answers. */
async function alone(peers: readonly Peer[]): Promise<Peer> {
  const end = Date.now() + 5_000
  for (;;) {
    const open = peers.filter(({ isClosed }) => !isClosed)
    const [one] = open
    if (one === undefined) throw new Error('nobody is left')
    if (open.length === 1) {
      await one.ping()
      return one
    }
    if (Date.now() > end) throw new Error(`${open.length} are left`)
    await pause(2)
  }
}
