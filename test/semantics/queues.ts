// Windows and queues: how much is on its way to a client, how much waits for it, and what is dropped.

import type { ArenaBroker, Peer, Scenario } from '../helpers/arena.js'
import { id } from '../helpers/packet-text.js'
import { until } from '../helpers/until.js'

const dropped = (client: string) => `Outgoing messages are being dropped for client ${client}.`

/** Acknowledges QoS 1 one by one; resolves with the payloads, of one character, until nothing more comes. */
async function drain(reader: Peer, first: readonly number[]): Promise<string> {
  let payloads = ''
  for (const packetId of first) reader.send(`40 ${id(packetId)}`)
  for (;;) {
    reader.send('c0')
    let came = false
    for (;;) {
      const packet = await reader.next()
      if (packet[0] === 0xd0) break
      came = true
      payloads += packet.subarray(-1).toString()
      const at = 2 + 2 + packet.readUInt16BE(2)
      if ((packet[0] ?? 0) & 0x06) reader.send(`40 ${id(packet.readUInt16BE(at))}`)
    }
    if (!came) return payloads
  }
}

function same(found: string, expected: string): void {
  if (found !== expected) throw new Error(`expected ${expected}, got ${found}`)
}

async function saidOnce(broker: ArenaBroker, client: string): Promise<void> {
  const lines = () => broker.log().filter(line => line === dropped(client))
  await until(() => lines().length > 0, 5_000)
  if (lines().length > 1) throw new Error(`${lines().length} lines say ${dropped(client)}`)
}

/** `count` messages of QoS 1 on topic a, with payloads 1, 2, 3 … a, b, c */
async function publish(broker: ArenaBroker, count: number, qos: 0 | 1 | 2 = 1): Promise<void> {
  const writer = await broker.client('writer')
  for (let i = 1; i <= count; i++) await writer.publish('a', i.toString(36), { qos })
  await writer.disconnect()
}

export const queues: readonly Scenario[] = [
  {
    name: 'twenty are on their way, the rest waits; each acknowledgement sends the next',
    notIn20: 'the first acknowledgement sends two',
    async run(broker) {
      const reader = await broker.client('reader')
      await reader.subscribe('a', 1)
      await publish(broker, 24)
      await reader.expect(...Array.from({ length: 20 }, (_, i) => `32 "a" ${id(i + 1)} '${(i + 1).toString(36)}'`))
      await reader.expectNothing()
      reader.send('40 0003')
      await reader.expect(`32 "a" 0015 'l'`)
      reader.send('40 0001', '40 0002')
      await reader.expect(`32 "a" 0016 'm'`, `32 "a" 0017 'n'`)
      await reader.expectNothing()
    }
  },
  {
    name: 'the queue begins behind the window, however large its messages are',
    global: 'max_queued_messages 2',
    async run(broker) {
      const reader = await broker.client('reader')
      await reader.subscribe('a', 1)
      const writer = await broker.client('writer')
      const text = 'x'.repeat(20_000)
      writer.send(...Array.from({ length: 20 }, (_, i) => `32 "a" ${id(i + 1)} '${text}'`))
      await writer.expect(...Array.from({ length: 20 }, (_, i) => `40 ${id(i + 1)}`))
      for (let i = 0; i < 20; i++) await reader.next()
      if (broker.log().includes(dropped('reader'))) throw new Error('one was dropped')
    }
  },
  ...(['max_queued_messages 10', 'max_queued_bytes 10'] as const).map(
    (limit): Scenario => ({
      name: `${limit}: what comes at once to a session on disk fills its window first`,
      global: `persistence true\npersistence_location DIR/\n${limit}`,
      async run(broker) {
        const reader = await broker.client('reader', { clean: false })
        await reader.subscribe('a', 1)
        const writer = await broker.client('writer')
        writer.send(...Array.from({ length: 20 }, (_, i) => `32 "a" ${id(i + 1)} '${(i + 1).toString(36)}'`))
        await reader.expect(...Array.from({ length: 20 }, (_, i) => `32 "a" ${id(i + 1)} '${(i + 1).toString(36)}'`))
        if (broker.log().includes(dropped('reader'))) throw new Error('one was dropped')
      }
    })
  ),
  {
    name: 'max_inflight_messages 0 is no limit',
    global: 'max_inflight_messages 0',
    async run(broker) {
      const reader = await broker.client('reader')
      await reader.subscribe('a', 1)
      await publish(broker, 30)
      await reader.expect(...Array.from({ length: 30 }, (_, i) => `32 "a" ${id(i + 1)} '${(i + 1).toString(36)}'`))
    }
  },
  {
    name: 'MQTT 5: Receive Maximum 1 lets the next QoS 2 message go with PUBCOMP',
    async run(broker) {
      const reader = await broker.client('reader', { version: 5, properties: '21 0001' })
      await reader.subscribe('a', 2)
      await publish(broker, 3, 2)
      await reader.expect(`34 "a" 0001 {} '1'`)
      await reader.expectNothing()
      reader.send('50 0001')
      await reader.expect('62 0001')
      await reader.expectNothing()
      reader.send('70 0001')
      await reader.expect(`34 "a" 0002 {} '2'`)
      reader.send('50 0002 80')
      await reader.expect(`34 "a" 0003 {} '3'`)
      await reader.expectNothing()
    }
  },
  {
    name: 'MQTT 5: QoS 0 does not wait for the window',
    async run(broker) {
      const reader = await broker.client('reader', { version: 5, properties: '21 0001' })
      await reader.subscribe('a', 1)
      await publish(broker, 2, 1)
      await publish(broker, 2, 0)
      await reader.expect(`32 "a" 0001 {} '1'`, `30 "a" {} '1'`, `30 "a" {} '2'`)
      reader.send('40 0001')
      await reader.expect(`32 "a" 0002 {} '2'`)
    }
  },
  {
    name: 'max_inflight_bytes: the next goes while the payloads on their way are below it',
    notIn20: 'a window that has room for it by count has room by bytes',
    global: 'max_inflight_bytes 25',
    async run(broker) {
      const reader = await broker.client('reader')
      await reader.subscribe('a', 1)
      const writer = await broker.client('writer')
      for (let i = 1; i <= 5; i++) await writer.publish('a', String(i).repeat(10), { qos: 1 })
      const message = (n: number) => `32 "a" ${id(n)} '${String(n).repeat(10)}'`
      await reader.expect(message(1), message(2), message(3))
      await reader.expectNothing()
      reader.send('40 0001')
      await reader.expect(message(4))
      await reader.expectNothing()
      reader.send('40 0002')
      await reader.expect(message(5))
      await reader.expectNothing()
    }
  },
  {
    name: 'max_queued_messages: what comes beyond window and queue of a connected client is dropped, the newest, and said once',
    global: 'max_inflight_messages 2\nmax_queued_messages 5',
    async run(broker) {
      const reader = await broker.client('reader')
      await reader.subscribe('a', 1)
      await publish(broker, 12)
      await reader.expect(`32 "a" 0001 '1'`, `32 "a" 0002 '2'`)
      same(await drain(reader, [1, 2]), '34567')
      await saidOnce(broker, 'reader')
      await publish(broker, 3)
      same(await drain(reader, []), '123')
    }
  },
  {
    name: 'max_queued_messages: for a client that is away the queue alone counts',
    global: 'max_inflight_messages 2\nmax_queued_messages 5',
    async run(broker) {
      const reader = await broker.client('reader', { clean: false })
      await reader.subscribe('a', 1)
      await reader.disconnect()
      await publish(broker, 12)
      const again = await broker.client('reader', { clean: false, present: 1 })
      await again.expect(`32 "a" 0001 '1'`, `32 "a" 0002 '2'`)
      same(await drain(again, [1, 2]), '345')
      await saidOnce(broker, 'reader')
    }
  },
  {
    name: 'max_queued_messages 0 is no limit',
    global: 'max_queued_messages 0',
    async run(broker) {
      const reader = await broker.client('reader', { clean: false })
      await reader.subscribe('a', 1)
      await reader.disconnect()
      const writer = await broker.client('writer')
      for (let i = 0; i < 1100; i++) writer.send(`32 "a" 0001 'x'`)
      for (let i = 0; i < 1100; i++) await writer.expect('40 0001')
      const again = await broker.client('reader', { clean: false, present: 1 })
      same(String((await drain(again, [])).length), '1100')
    }
  },
  {
    name: 'without a word the queue holds 1000',
    async run(broker) {
      const reader = await broker.client('reader', { clean: false })
      await reader.subscribe('a', 1)
      await reader.disconnect()
      const writer = await broker.client('writer')
      for (let i = 0; i < 1100; i++) writer.send(`32 "a" 0001 'x'`)
      for (let i = 0; i < 1100; i++) await writer.expect('40 0001')
      const again = await broker.client('reader', { clean: false, present: 1 })
      same(String((await drain(again, [])).length), '1000')
    }
  },
  {
    name: 'max_queued_bytes: payloads that wait are counted, and what goes beyond is dropped',
    global: 'max_queued_messages 0\nmax_queued_bytes 25',
    async run(broker) {
      const reader = await broker.client('reader', { clean: false })
      await reader.subscribe('a', 1)
      await reader.disconnect()
      const writer = await broker.client('writer')
      for (let i = 1; i <= 6; i++) await writer.publish('a', String(i).repeat(10), { qos: 1 })
      const again = await broker.client('reader', { clean: false, present: 1 })
      same(await drain(again, []), '123')
      await saidOnce(broker, 'reader')
    }
  },
  {
    name: 'queue_qos0_messages false: QoS 0 is not kept for who is away',
    async run(broker) {
      const reader = await broker.client('reader', { clean: false })
      await reader.subscribe('a', 1)
      await reader.disconnect()
      await publish(broker, 2, 0)
      await publish(broker, 1, 1)
      const again = await broker.client('reader', { clean: false, present: 1 })
      await again.expect(`32 "a" 0001 '1'`)
      await again.expectNothing()
    }
  },
  {
    name: 'queue_qos0_messages true: QoS 0 is kept in its place, while there is room beside the others',
    global: 'queue_qos0_messages true\nmax_queued_messages 5',
    async run(broker) {
      const reader = await broker.client('reader', { clean: false })
      await reader.subscribe('a', 1)
      const zero = await broker.client('zero', { clean: false })
      await zero.subscribe('a', 0)
      for (const client of [reader, zero]) await client.disconnect()
      await publish(broker, 1, 1)
      await publish(broker, 2, 0)
      await publish(broker, 2, 1)
      const again = await broker.client('reader', { clean: false, present: 1 })
      await again.expect(`32 "a" 0001 '1'`, `30 "a" '1'`, `30 "a" '2'`, `32 "a" 0002 '1'`, `32 "a" 0003 '2'`)
      await again.expectNothing()
      const zeroAgain = await broker.client('zero', { clean: false, present: 1 })
      await zeroAgain.expect(...['1', '1', '2', '1', '2'].map(payload => `30 "a" '${payload}'`))
      await zeroAgain.expectNothing()
    }
  },
  {
    name: 'what does not reach one full queue reaches the others',
    global: 'max_inflight_messages 1\nmax_queued_messages 1',
    async run(broker) {
      const slow = await broker.client('slow')
      const quick = await broker.client('quick')
      for (const client of [slow, quick]) await client.subscribe('a', 1)
      const writer = await broker.client('writer')
      for (let i = 1; i <= 5; i++) {
        await writer.publish('a', String(i), { qos: 1 })
        await quick.expect(`32 "a" ${id(i)} '${i}'`)
        quick.send(`40 ${id(i)}`)
        await quick.ping()
      }
      await slow.expect(`32 "a" 0001 '1'`)
      same(await drain(slow, [1]), '2')
    }
  },
  {
    name: 'MQTT 5: what is larger than a client takes is dropped for it alone, and does not fill its window',
    notIn20: 'it does fill the window',
    async run(broker) {
      const small = await broker.client('small', { version: 5, properties: '27 00000028 21 0001' })
      const large = await broker.client('large', { version: 5 })
      for (const client of [small, large]) await client.subscribe('a', 1)
      const writer = await broker.client('writer')
      await writer.publish('a', 'x'.repeat(60), { qos: 1 })
      await writer.publish('a', 'fits', { qos: 1 })
      await large.expect(`32 "a" 0001 {} '${'x'.repeat(60)}'`, `32 "a" 0002 {} 'fits'`)
      await small.expect(`32 "a" ???? {} 'fits'`)
      await small.expectNothing()
    }
  }
]
