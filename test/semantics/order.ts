// Order of packets on one connection, and the handshakes of QoS 1 and 2.

import type { Scenario } from '../helpers/arena.js'
import { id } from '../helpers/packet-text.js'

const versions = [4, 5] as const

export const order: readonly Scenario[] = [
  {
    name: 'a retained message published right before a SUBSCRIBE in one segment comes once, as retained',
    async run(broker) {
      const client = await broker.client('one')
      client.send(`31 "a" 'x'`, '82 0001 "a" 00')
      await client.expect('90 0001 00', `31 "a" 'x'`)
      await client.expectNothing()
    }
  },
  {
    name: 'SUBSCRIBE, PUBLISH and UNSUBSCRIBE of one segment take effect in turn',
    async run(broker) {
      const client = await broker.client('one')
      client.send('82 0001 "a" 01', `32 "a" 0002 '1'`, 'a2 0003 "a"', `32 "a" 0004 '2'`, '82 0005 "a" 00', `30 "a" '3'`)
      await client.expect('90 0001 01', `32 "a" 0001 '1'`, '40 0002', 'b0 0003', '40 0004', '90 0005 00', `30 "a" '3'`)
      await client.expectNothing()
    }
  },
  ...versions.map(
    (version): Scenario => ({
      name: `MQTT ${version}: who subscribes to its own message gets it before the acknowledgement`,
      async run(broker) {
        const client = await broker.client('self', { version })
        await client.subscribe('a', 2)
        client.send(`32 "a" 0001 {} 'x'`)
        await client.expect(`32 "a" 0001 {} 'x'`, '40 0001')
        client.send('40 0001', `34 "a" 0002 {} 'y'`)
        await client.expect('50 0002')
        client.send('62 0002')
        await client.expect(`34 "a" 0002 {} 'y'`, '70 0002')
        await client.expectNothing()
      }
    })
  ),
  {
    name: 'acknowledgements come in the order of what they acknowledge',
    async run(broker) {
      const client = await broker.client('one')
      client.send(`32 "a" 0007 'x'`, `34 "a" 0005 'x'`, `32 "b" 0003 'x'`, '82 0009 "c" 00', 'c0', `34 "b" 0001 'x'`, `62 0005`)
      await client.expect('40 0007', '50 0005', '40 0003', '90 0009 00', 'd0', '50 0001', '70 0005')
      await client.expectNothing()
    }
  },
  {
    name: 'QoS 2 is given to subscribers when PUBREL comes',
    async run(broker) {
      const reader = await broker.client('reader')
      await reader.subscribe('a', 2)
      const writer = await broker.client('writer')
      writer.send(`34 "a" 0001 'x'`)
      await writer.expect('50 0001')
      await reader.expectNothing()
      writer.send('62 0001')
      await writer.expect('70 0001')
      await reader.expect(`34 "a" 0001 'x'`)
      reader.send('50 0001')
      await reader.expect('62 0001')
      reader.send('70 0001')
      await reader.expectNothing()
    }
  },
  {
    name: 'QoS 2 messages are given out in the order of their PUBRELs',
    async run(broker) {
      const reader = await broker.client('reader')
      await reader.subscribe('#')
      const writer = await broker.client('writer')
      writer.send(`34 "a" 0001 '1'`, `34 "b" 0002 '2'`, `34 "c" 0003 '3'`)
      await writer.expect('50 0001', '50 0002', '50 0003')
      writer.send('62 0003')
      await writer.expect('70 0003')
      writer.send('62 0001', '62 0002')
      await writer.expect('70 0001', '70 0002')
      await reader.expect(`30 "c" '3'`, `30 "a" '1'`, `30 "b" '2'`)
    }
  },
  {
    name: 'a retained QoS 2 message is kept when PUBREL comes',
    async run(broker) {
      const writer = await broker.client('writer')
      writer.send(`35 "a" 0001 'x'`)
      await writer.expect('50 0001')
      const reader = await broker.client('reader')
      await reader.subscribe('a')
      await reader.expectNothing()
      writer.send('62 0001')
      await writer.expect('70 0001')
      await reader.expect(`30 "a" 'x'`)
      const late = await broker.client('late')
      late.send('82 0001 "a" 00')
      await late.expect('90 0001 00', `31 "a" 'x'`)
    }
  },
  {
    name: 'a used packet identifier with another message replaces what it stood for',
    async run(broker) {
      const reader = await broker.client('reader')
      await reader.subscribe('#')
      const writer = await broker.client('writer')
      writer.send(`34 "a" 0001 'one'`)
      await writer.expect('50 0001')
      writer.send(`34 "b" 0001 'two'`)
      await writer.expect('50 0001')
      writer.send('62 0001')
      await writer.expect('70 0001')
      await reader.expect(`30 "b" 'two'`)
      writer.send('62 0001')
      await writer.expect('70 0001')
      await reader.expectNothing()
    }
  },
  {
    name: 'the same QoS 2 message sent again, marked as such, is acknowledged again and given out once',
    async run(broker) {
      const reader = await broker.client('reader')
      await reader.subscribe('#')
      const writer = await broker.client('writer')
      writer.send(`34 "a" 0001 'x'`)
      await writer.expect('50 0001')
      writer.send(`3c "a" 0001 'x'`)
      await writer.expect('50 0001')
      writer.send('62 0001')
      await writer.expect('70 0001')
      await reader.expect(`30 "a" 'x'`)
      await reader.expectNothing()
    }
  },
  {
    name: 'a packet identifier is free again after its PUBCOMP, for the same message too',
    async run(broker) {
      const reader = await broker.client('reader')
      await reader.subscribe('#')
      const writer = await broker.client('writer')
      for (let i = 0; i < 3; i++) {
        writer.send(`34 "a" 0001 'x'`)
        await writer.expect('50 0001')
        writer.send('62 0001')
        await writer.expect('70 0001')
        await reader.expect(`30 "a" 'x'`)
      }
      await reader.expectNothing()
    }
  },
  {
    name: 'QoS 2 from a client that comes back: PUBREL alone releases what it had published',
    async run(broker) {
      const reader = await broker.client('reader')
      await reader.subscribe('#')
      const writer = await broker.client('writer', { clean: false })
      writer.send(`34 "a" 0001 'x'`)
      await writer.expect('50 0001')
      await writer.drop()
      const again = await broker.client('writer', { clean: false, present: 1 })
      again.send('62 0001')
      await again.expect('70 0001')
      await reader.expect(`30 "a" 'x'`)
      await reader.expectNothing()
    }
  },
  {
    name: 'QoS 2 from a client that comes back and publishes again, marked as sent before: given out once',
    async run(broker) {
      const reader = await broker.client('reader')
      await reader.subscribe('#')
      const writer = await broker.client('writer', { clean: false })
      writer.send(`34 "a" 0001 'x'`)
      await writer.expect('50 0001')
      await writer.drop()
      const again = await broker.client('writer', { clean: false, present: 1 })
      again.send(`3c "a" 0001 'x'`)
      await again.expect('50 0001')
      again.send('62 0001')
      await again.expect('70 0001')
      await reader.expect(`30 "a" 'x'`)
      await reader.expectNothing()
    }
  },
  {
    name: 'a clean connection of a session that was kept forgets its half QoS 2 handshakes',
    async run(broker) {
      const reader = await broker.client('reader')
      await reader.subscribe('#')
      const writer = await broker.client('writer', { clean: false })
      writer.send(`34 "a" 0001 'old'`)
      await writer.expect('50 0001')
      await writer.drop()
      const again = await broker.client('writer')
      again.send('62 0001')
      await again.expect('70 0001')
      await reader.expectNothing()
    }
  },
  {
    name: 'a clean session forgets half a QoS 2 handshake: the identifier stands for a new message',
    async run(broker) {
      const reader = await broker.client('reader')
      await reader.subscribe('#')
      const writer = await broker.client('writer')
      writer.send(`34 "a" 0001 'old'`)
      await writer.expect('50 0001')
      await writer.drop()
      const again = await broker.client('writer')
      again.send('62 0001')
      await again.expect('70 0001')
      again.send(`34 "a" 0001 'new'`)
      await again.expect('50 0001')
      again.send('62 0001')
      await again.expect('70 0001')
      await reader.expect(`30 "a" 'new'`)
      await reader.expectNothing()
    }
  },
  ...versions.map(
    (version): Scenario => ({
      name: `MQTT ${version}: what was not acknowledged is sent again with DUP and the same identifier, in order`,
      async run(broker) {
        const kept = { version, clean: false, properties: '11 0000003c' }
        const reader = await broker.client('reader', kept)
        await reader.subscribe('#', 2)
        const writer = await broker.client('writer')
        await writer.publish('a', '1', { qos: 1 })
        await writer.publish('b', '2', { qos: 2 })
        await writer.publish('c', '3', { qos: 2 })
        await writer.publish('d', '4', { qos: 1 })
        await reader.expect(`32 "a" 0001 {} '1'`, `34 "b" 0002 {} '2'`, `34 "c" 0003 {} '3'`, `32 "d" 0004 {} '4'`)
        reader.send('50 0002')
        await reader.expect('62 0002')
        await reader.drop()
        const again = await broker.client('reader', { ...kept, present: 1 })
        await again.expect(`3a "a" 0001 {} '1'`, '62 0002', `3c "c" 0003 {} '3'`, `3a "d" 0004 {} '4'`)
        again.send('40 0001', '70 0002', '50 0003', '40 0004')
        await again.expect('62 0003')
        again.send('70 0003')
        await again.expectNothing()
        await again.drop()
        const last = await broker.client('reader', { ...kept, present: 1 })
        await last.expectNothing()
      }
    })
  ),
  {
    name: 'what was never sent goes out without DUP after a reconnect, behind what was',
    global: 'max_inflight_messages 2',
    async run(broker) {
      const reader = await broker.client('reader', { clean: false })
      await reader.subscribe('#', 1)
      const writer = await broker.client('writer')
      for (let i = 1; i <= 4; i++) await writer.publish('a', String(i), { qos: 1 })
      await reader.expect(`32 "a" 0001 '1'`, `32 "a" 0002 '2'`)
      await reader.expectNothing()
      await reader.drop()
      await writer.publish('a', '5', { qos: 1 })
      const again = await broker.client('reader', { clean: false, present: 1 })
      await again.expect(`3a "a" 0001 '1'`, `3a "a" 0002 '2'`)
      for (let i = 1; i <= 3; i++) {
        again.send(`40 ${id(i)}`)
        await again.expect(`32 "a" ${id(i + 2)} '${i + 2}'`)
      }
      again.send('40 0004', '40 0005')
      await again.expectNothing()
    }
  },
  {
    name: 'what was published while nobody was there comes in order and without DUP',
    async run(broker) {
      const reader = await broker.client('reader', { clean: false })
      await reader.subscribe('#', 2)
      await reader.disconnect()
      const writer = await broker.client('writer')
      for (let i = 1; i <= 6; i++) await writer.publish('a', String(i), { qos: i % 2 === 0 ? 2 : 1 })
      const again = await broker.client('reader', { clean: false, present: 1 })
      await again.expect(...[1, 2, 3, 4, 5, 6].map(i => `${i % 2 === 0 ? '34' : '32'} "a" ${id(i)} '${i}'`))
      await again.expectNothing()
    }
  },
  {
    name: 'packet identifiers count from 1 for each client, one sequence for QoS 1 and 2',
    async run(broker) {
      const [one, two] = [await broker.client('one'), await broker.client('two')]
      await one.subscribe('#', 2)
      await two.subscribe('b', 2)
      const writer = await broker.client('writer')
      await writer.publish('a', '1', { qos: 1 })
      await writer.publish('b', '2', { qos: 2 })
      await writer.publish('c', '3', { qos: 0 })
      await writer.publish('b', '4', { qos: 1 })
      await one.expect(`32 "a" 0001 '1'`, `34 "b" 0002 '2'`, `30 "c" '3'`, `32 "b" 0003 '4'`)
      await two.expect(`34 "b" 0001 '2'`, `32 "b" 0002 '4'`)
    }
  },
  {
    name: 'a topic may have 200 slashes',
    async run(broker) {
      const deep = '/'.repeat(200)
      const client = await broker.client('one', { version: 5 })
      await client.subscribe(deep)
      client.send(`30 "${deep}" {} 'x'`)
      await client.expect(`30 "${deep}" {} 'x'`)
      await client.expectNothing()
    }
  },
  ...versions.flatMap((version): Scenario[] => {
    const deep = '/'.repeat(201)
    const refused = version === 5 ? ['e0 81'] : []
    return [
      {
        name: `MQTT ${version}: a topic with 201 slashes is malformed`,
        async run(broker) {
          const client = await broker.client('one', { version })
          client.send(`30 "${deep}" {} 'x'`)
          await client.expectClosed(...(broker.is20 ? refused.map(() => 'e0 82') : refused))
        }
      },
      {
        name: `MQTT ${version}: a filter with 201 slashes is malformed`,
        async run(broker) {
          const client = await broker.client('one', { version })
          client.send(`82 0001 {} "${deep}" 00`)
          await client.expectClosed(...refused)
        }
      }
    ]
  })
]
