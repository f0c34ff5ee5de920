// What goes wrong in brokers when several things happen at once, when names are unlucky, and when a client stops reading.

import { setTimeout as pause } from 'node:timers/promises'
import type { Peer, Scenario } from '../helpers/arena.js'
import { connectText } from '../helpers/arena.js'
import { id } from '../helpers/packet-text.js'

const unlucky = ['constructor', '__proto__', 'prototype', 'hasOwnProperty', 'toString', 'valueOf', 'then', 'length'] as const

interface Message {
  readonly topic: string
  readonly payload: string
}

/** The next messages of MQTT 3.1.1 with short packets, each taken through its handshake. */
async function receive(reader: Peer, count: number): Promise<Message[]> {
  const messages: Message[] = []
  while (messages.length < count) {
    const packet = await reader.next()
    const type = packet.readUInt8(0)
    if (type === 0x62) {
      reader.send(`70 ${id(packet.readUInt16BE(2))}`)
      continue
    }
    if (type >> 4 !== 3) throw new Error(`no PUBLISH: ${packet.toString('hex')}`)
    const qos = (type >> 1) & 3
    const end = 4 + packet.readUInt16BE(2)
    messages.push({ topic: packet.subarray(4, end).toString(), payload: packet.subarray(qos > 0 ? end + 2 : end).toString() })
    if (qos > 0) reader.send(`${qos === 1 ? '40' : '50'} ${id(packet.readUInt16BE(end))}`)
  }
  return messages
}

const ascending = (numbers: readonly number[]): boolean => numbers.every((value, i) => i === 0 || value > (numbers[i - 1] ?? 0))

export const adversity: readonly Scenario[] = [
  {
    name: 'nothing is lost or out of order where many publish at all levels of QoS at once',
    global: 'max_inflight_messages 0\nmax_queued_messages 0',
    async run(broker) {
      const reader = await broker.client('reader', { clean: false })
      await reader.subscribe('#', 2)
      const writers = await Promise.all([0, 1, 2, 3, 4].map(n => broker.client(`writer-${n}`)))
      const count = 60
      for (const [n, writer] of writers.entries()) {
        const packets = Array.from({ length: count }, (_, i) => {
          const qos = (i + n) % 3
          return [`3${qos * 2} "w${n}" ${qos > 0 ? id(i + 1) : ''} '${i}'`, ...(qos === 2 ? [`62 ${id(i + 1)}`] : [])]
        })
        writer.send(...packets.flat())
      }
      const messages = await receive(reader, count * writers.length)
      for (const n of writers.keys()) {
        const mine = messages.filter(({ topic }) => topic === `w${n}`).map(({ payload }) => Number(payload))
        if (mine.length !== count || !ascending(mine)) throw new Error(`from writer ${n} came ${mine}`)
      }
    }
  },
  {
    name: 'a client that comes and goes while others publish gets CONNACK first, then everything in order and nothing left out',
    global: 'max_queued_messages 0',
    async run(broker) {
      const first = await broker.client('reader', { clean: false })
      await first.subscribe('a', 1)
      await first.disconnect()
      const writer = await broker.client('writer')
      let published = 0
      let stopped = false
      const publishing = (async () => {
        while (!stopped) await writer.publish('a', String(published++), { qos: 1 })
      })()
      let highest = -1
      const take = async (reader: Peer, count: number) => {
        const numbers = (await receive(reader, count)).map(({ payload }) => Number(payload))
        if (!ascending(numbers)) throw new Error(`out of order: ${numbers}`)
        for (const n of numbers) {
          // What was not acknowledged comes again, so it was seen, or is the next.
          if (n > highest + 1) throw new Error(`after ${highest} comes ${n}`)
          highest = Math.max(highest, n)
        }
      }
      try {
        for (let round = 0; round < 15; round++) {
          const reader = await broker.wire()
          reader.send(connectText('reader', { clean: false }))
          await reader.expect('20 01 00')
          await take(reader, 10)
          await reader.drop()
        }
      } finally {
        stopped = true
        await publishing
      }
      const last = await broker.client('reader', { clean: false, present: 1 })
      while (highest < published - 1) await take(last, 1)
      await last.expectNothing()
    }
  },
  {
    name: 'a client that stops reading holds up nobody',
    async run(broker) {
      const frozen = await broker.client('frozen')
      await frozen.subscribe('flood', 0)
      frozen.socket.pause()
      const [reader, writer] = [await broker.client('reader'), await broker.client('writer')]
      await reader.subscribe('a', 1)
      const payload = 'x'.repeat(100_000)
      for (let i = 0; i < 200; i++) {
        writer.send(`30 "flood" '${payload}'`)
        if (i % 20 > 0) continue
        await writer.publish('a', 'y', { qos: 1 })
        await reader.expect(`32 "a" ${id(i / 20 + 1)} 'y'`)
        reader.send(`40 ${id(i / 20 + 1)}`)
      }
      await reader.expectNothing()
      // It is still there, or was closed; either way everybody else goes on.
      frozen.socket.destroy()
      await writer.publish('a', 'z', { qos: 0 })
      await reader.expect(`30 "a" 'z'`)
    }
  },
  ...([4, 5] as const).map(
    (version): Scenario => ({
      name: `MQTT ${version}: names that mean something in JavaScript are names`,
      async run(broker) {
        const kept = { version, clean: false, properties: '11 0000003c' } as const
        for (const name of unlucky) {
          const client = await broker.client(name, { ...kept, username: name })
          client.send(`82 0001 {} "${name}" 01 "${name}/#" 01 "$share/${name}/s" 00`)
          await client.expect('90 0001 {} 01 01 00')
          client.send(`32 "${name}/a" 0001 {} 'x'`)
          await client.expect(`32 "${name}/a" 0001 {} 'x'`, '40 0001')
          await client.drop()
          const again = await broker.client(name, { ...kept, username: name, present: 1 })
          await again.expect(`3a "${name}/a" 0001 {} 'x'`)
          again.send('40 0001', `a2 0002 {} "${name}" "${name}/#"`)
          await again.expect(version === 5 ? 'b0 0002 {} 00 00' : 'b0 0002')
          await again.disconnect()
        }
      }
    })
  ),
  {
    name: 'a PUBREL twice in one segment is answered twice, and releases once',
    async run(broker) {
      const client = await broker.client('one')
      await client.subscribe('a')
      client.send(`34 "a" 0001 'x'`, '62 0001', '62 0001', '62 0001')
      await client.expect('50 0001', `30 "a" 'x'`, '70 0001', '70 0001', '70 0001')
      await client.expectNothing()
    }
  },
  {
    name: 'a flood of half QoS 2 handshakes harms nobody else, and what was first is released',
    async run(broker) {
      const client = await broker.client('flood')
      const [reader, writer] = [await broker.client('reader'), await broker.client('writer')]
      await reader.subscribe('#')
      for (let i = 1; i <= 3000; i++) client.send(`34 "f" ${id(i)} '${i}'`)
      for (let i = 1; i <= 3000; i++) await client.expect(`50 ${id(i)}`)
      await writer.publish('a', 'x', { qos: 2 })
      await reader.expect(`30 "a" 'x'`)
      client.send('62 0001', '62 0002')
      await client.expect('70 0001', '70 0002')
      await reader.expect(`30 "f" '1'`, `30 "f" '2'`)
      await reader.expectNothing()
    }
  },
  {
    name: 'packets right behind CONNECT wait for it, as many as there are',
    async run(broker) {
      const client = await broker.wire()
      client.send(connectText('one', {}), '82 0001 "a" 00', ...Array.from({ length: 300 }, (_, i) => `32 "a" ${id(i + 1)} '${i}'`), 'c0')
      await client.expect('20 00 00', '90 0001 00')
      for (let i = 0; i < 300; i++) await client.expect(`30 "a" '${i}'`, `40 ${id(i + 1)}`)
      await client.expect('d0')
      await client.expectNothing()
    }
  },
  {
    name: 'a clean connection drops a long queue whole',
    async run(broker) {
      const reader = await broker.client('reader', { clean: false })
      await reader.subscribe('a', 1)
      await reader.disconnect()
      const writer = await broker.client('writer')
      for (let i = 0; i < 100; i++) writer.send(`32 "a" 0001 'x'`)
      for (let i = 0; i < 100; i++) await writer.expect('40 0001')
      const clean = await broker.client('reader')
      await clean.disconnect()
      const again = await broker.client('reader', { clean: false })
      await again.subscribe('a', 1)
      await again.expectNothing()
      await writer.publish('a', 'y', { qos: 1 })
      await again.expect(`32 "a" 0001 'y'`)
    }
  },
  {
    name: 'a long queue comes whole, through a small window',
    global: 'max_inflight_messages 3',
    async run(broker) {
      const reader = await broker.client('reader', { clean: false })
      await reader.subscribe('a', 2)
      await reader.disconnect()
      const writer = await broker.client('writer')
      for (let i = 0; i < 200; i += 2) writer.send(`32 "a" 0001 '${i}'`, `34 "a" 0002 '${i + 1}'`, '62 0002')
      for (let i = 0; i < 200; i += 2) await writer.expect('40 0001', '50 0002', '70 0002')
      const again = await broker.client('reader', { clean: false, present: 1 })
      const numbers = (await receive(again, 200)).map(({ payload }) => Number(payload))
      if (!ascending(numbers)) throw new Error(`out of order: ${numbers}`)
    }
  },
  {
    name: 'a retained message to a persistent session is kept until it is acknowledged',
    async run(broker) {
      const writer = await broker.client('writer')
      await writer.publish('a', 'x', { qos: 1, retain: true })
      const reader = await broker.client('reader', { clean: false })
      await reader.subscribe('a', 1)
      await reader.expect(`33 "a" 0001 'x'`)
      await reader.drop()
      const again = await broker.client('reader', { clean: false, present: 1 })
      await again.expect(`3b "a" 0001 'x'`)
      again.send('40 0001')
      await again.expectNothing()
    }
  },
  {
    name: 'a message that may not be read takes no other one of the queue with it',
    global: 'acl_file DIR/acl',
    files: { acl: 'topic write #\ntopic read open/#\n' },
    async run(broker) {
      const reader = await broker.client('reader', { clean: false })
      await reader.subscribe('#', 2)
      await reader.disconnect()
      const writer = await broker.client('writer')
      await writer.publish('open/a', '1', { qos: 1 })
      for (const qos of [0, 1, 2] as const) await writer.publish('closed', 'no', { qos })
      await writer.publish('open/a', '2', { qos: 2 })
      const again = await broker.client('reader', { clean: false, present: 1 })
      for (const qos of [0, 1, 2] as const) await writer.publish('closed', 'no', { qos })
      const messages = await receive(again, 2)
      const payloads = messages.map(({ payload }) => payload).join()
      if (payloads !== '1,2') throw new Error(`got ${payloads}`)
      await again.expect('62 ????')
      await again.expectNothing()
    }
  },
  {
    name: 'overlapping filters of a client that is away: a copy each, as when it is there',
    global: 'allow_duplicate_messages true',
    async run(broker) {
      for (const version of [4, 5] as const) {
        const kept = { version, clean: false, properties: '11 0000003c' } as const
        const reader = await broker.client(`reader-${version}`, kept)
        await reader.subscribe('o/#', 1)
        await reader.subscribe('o/+', 2)
        await reader.disconnect()
        const writer = await broker.client('writer')
        await writer.publish('o/a', 'x', { qos: 2 })
        const again = await broker.client(`reader-${version}`, { ...kept, present: 1 })
        await again.expect(`34 "o/a" 0001 {} 'x'`, `32 "o/a" 0002 {} 'x'`)
        await again.expectNothing()
        await again.disconnect()
      }
    }
  },
  {
    name: 'allow_duplicate_messages false: one copy for a client that is away, too',
    global: 'allow_duplicate_messages false',
    async run(broker) {
      const reader = await broker.client('reader', { clean: false })
      await reader.subscribe('o/#', 1)
      await reader.subscribe('o/+', 1)
      await reader.disconnect()
      const writer = await broker.client('writer')
      await writer.publish('o/a', 'x', { qos: 2 })
      const again = await broker.client('reader', { clean: false, present: 1 })
      await again.expect(`32 "o/a" 0001 'x'`)
      await again.expectNothing()
    }
  },
  {
    name: 'MQTT 5: No Local keeps its own will from a session',
    async run(broker) {
      const kept = { version: 5, clean: false, properties: '11 0000003c' } as const
      const self = await broker.client('self', { ...kept, will: { topic: 'w', qos: 1 } })
      await self.subscribe('#', 1, { options: 0x04 })
      await self.drop()
      const again = await broker.client('self', { ...kept, present: 1 })
      await again.expectNothing()
    }
  },
  {
    name: '$SYS/# shows what the broker says of itself, and nothing else below $SYS',
    async run(broker) {
      const reader = await broker.client('reader')
      await broker.client('somebody', { clean: false, will: { topic: 'w' } })
      reader.send('82 0001 "$SYS/#" 00')
      await reader.expect('90 0001 00')
      reader.send('c0')
      for (;;) {
        const packet = await reader.next()
        if (packet[0] === 0xd0) break
        if (!packet.includes('$SYS/broker/')) throw new Error(packet.toString())
      }
    }
  },
  {
    name: 'a client cannot send others away, or subscribe in their name, through $SYS',
    async run(broker) {
      const victim = await broker.client('victim')
      const writer = await broker.client('writer')
      for (const topic of ['$SYS/x/new/clients', '$SYS/x/birth', '$SYS/sub/add', '$SYS/x/will', '$SYS/x/heartbeat']) {
        await writer.publish(topic, 'victim', { qos: 1 })
        await writer.publish(topic, '{"clientId":"victim","subs":[{"topic":"#","qos":0}]}', { qos: 1 })
      }
      await writer.publish('a', 'x')
      await victim.expectNothing()
    }
  },
  {
    name: 'what came before a client closed its side is handled, however much it is, and so is its goodbye',
    global: 'max_queued_messages 0',
    async run(broker) {
      const count = 3000
      const numbers = Array.from({ length: count }, (_, i) => i)
      const reader = await broker.client('reader')
      await reader.subscribe('#')
      for (const says of [['e0'], []]) {
        const writer = await broker.client('writer', { will: { topic: 'w' } })
        writer.send(...numbers.map(i => `30 "a" '${i}'`), ...says)
        writer.socket.end()
        const payloads = (await receive(reader, count)).map(({ payload }) => Number(payload))
        if (payloads.some((number, i) => number !== i)) throw new Error(`out of order: ${payloads}`)
        if (says.length === 0) await reader.expect(`30 "w" 'gone'`)
        await reader.expectNothing()
      }
    }
  },
  {
    name: 'what waits while a message is on its way to many is not lost when its client closes its side',
    global: 'max_queued_messages 0\nallow_duplicate_messages true',
    async run(broker) {
      const levels = ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'j']
      const filters = Array.from({ length: 1 << levels.length }, (_, bits) =>
        levels.map((level, i) => ((bits >> i) & 1 ? '+' : level)).join('/')
      )
      const reader = await broker.client('reader')
      for (let at = 0; at < filters.length; at += 64) {
        const some = filters.slice(at, at + 64)
        reader.send(`82 0001 ${some.map(filter => `"${filter}" 00`).join(' ')}`)
        await reader.expect(`90 0001 ${some.map(() => '00').join('')}`)
      }
      const other = await broker.client('other')
      await other.subscribe('#')
      const writer = await broker.client('writer', { will: { topic: 'w' } })
      writer.send(`30 "${levels.join('/')}" 'first'`, `32 "second" 0001 'x'`, 'e0')
      writer.socket.end()
      await receive(reader, filters.length)
      await other.expect(`30 "${levels.join('/')}" 'first'`, `30 "second" 'x'`)
      await other.expectNothing()
      await writer.expect('40 0001')
      await writer.expectClosed()
    }
  },
  {
    name: 'who has closed its side still gets its answers',
    async run(broker) {
      const writer = await broker.client('writer')
      const ids = Array.from({ length: 900 }, (_, i) => i + 1)
      writer.send(...ids.map(each => `32 "a" ${id(each)} 'x'`))
      writer.socket.end()
      await writer.expect(...ids.map(each => `40 ${id(each)}`))
      await writer.expectClosed()
    }
  },
  {
    name: 'clients that go in the middle of SUBSCRIBE and of a handshake leave nothing that others notice',
    async run(broker) {
      const writer = await broker.client('writer')
      await writer.publish('a', 'x', { retain: true, qos: 2 })
      for (let i = 0; i < 50; i++) {
        const peer = await broker.wire()
        peer.send(connectText('brief', { clean: i % 2 === 0 }), '82 0001 "#" 02 "$share/g/#" 02', `34 "a" 0001 'y'`)
        if (i % 3 === 0) await peer.next()
        await peer.drop()
      }
      await writer.publish('a', 'z', { qos: 2 })
      const last = await broker.client('last')
      await last.subscribe('a')
      await last.expect(`31 "a" 'x'`)
      await last.expectNothing()
    }
  },
  {
    name: 'a long upload keeps its connection alive',
    slow: true,
    notIn20: 'it looks at its clock before it reads, so that a busy machine ends it',
    async run(broker) {
      const reader = await broker.client('reader')
      await reader.subscribe('a')
      const writer = await broker.client('writer', { keepalive: 2 })
      const payload = 'x'.repeat(12_000)
      const packet = Buffer.concat([Buffer.from([0x30, 0xe3, 0x5d, 0, 1]), Buffer.from('a'), Buffer.from(payload)])
      for (let at = 0; at < packet.length; at += 1_500) {
        writer.socket.write(packet.subarray(at, at + 1_500))
        await pause(500)
      }
      await reader.expect(`30 "a" '${payload}'`)
      await writer.ping()
    }
  },
  {
    name: 'MQTT 3.1: an identifier may be longer than 23 characters, sessions and wills are as in 3.1.1',
    async run(broker) {
      const clientId = 'c'.repeat(100)
      const watcher = await broker.client('watcher')
      await watcher.subscribe('w')
      const first = await broker.client(clientId, { version: 3, clean: false, will: { topic: 'w' } })
      await first.subscribe('a', 2)
      await first.drop()
      await watcher.expect(`30 "w" 'gone'`)
      const writer = await broker.client('writer', { version: 3 })
      await writer.publish('a', 'x', { qos: 2 })
      // Session Present came with 3.1.1.
      const again = await broker.wire(3)
      again.send(connectText(clientId, { version: 3, clean: false }))
      await again.expect('20 ?? 00', `34 "a" 0001 'x'`)
    }
  },
  ...(['a+', '+b', 'a#', 'b+/c', 'a/+b', '#/a', 'a/#/b', '##'] as const).map(
    (filter): Scenario => ({
      name: `the filter ${filter} ends the connection`,
      async run(broker) {
        for (const version of [4, 5] as const) {
          for (const packet of [`82 0001 {} "${filter}" 00`, `a2 0001 {} "${filter}"`]) {
            const client = await broker.client('one', { version })
            client.send(packet)
            await client.expectClosed(...(version === 5 ? ['e0 81'] : []))
          }
        }
      }
    })
  )
]
