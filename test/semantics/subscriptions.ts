// What a subscription gets: QoS, overlapping filters, shared ones, retained messages by Retain Handling, the options of MQTT 5, and what the
// acl_file says to it.

import type { Peer, Scenario } from '../helpers/arena.js'

const qosLevels = [0, 1, 2] as const

const acl = 'user ann\ntopic read #\ntopic write open/#\nuser bob\ntopic read open/#\ntopic write #\n'

export const subscriptions: readonly Scenario[] = [
  ...qosLevels.flatMap(published =>
    qosLevels.map(
      (granted): Scenario => ({
        name: `published at QoS ${published}, subscribed at QoS ${granted}: live, retained and queued at ${Math.min(published, granted)}`,
        global: 'queue_qos0_messages true',
        async run(broker) {
          const delivered = Math.min(published, granted)
          const head = (retained: boolean) => (0x30 | (delivered << 1) | (retained ? 1 : 0)).toString(16)
          const packetId = (n: number) => (delivered === 0 ? '' : `000${n}`)
          const reader = await broker.client('reader', { clean: false })
          await reader.subscribe('w/+', granted)
          const writer = await broker.client('writer')
          await writer.publish('w/a', 'live', { qos: published, retain: true })
          await reader.expect(`${head(false)} "w/a" ${packetId(1)} 'live'`)
          reader.send(...(delivered === 1 ? ['40 0001'] : delivered === 2 ? ['50 0001'] : []))
          if (delivered === 2) {
            await reader.expect('62 0001')
            reader.send('70 0001')
          }
          await reader.disconnect()
          await writer.publish('w/b', 'queued', { qos: published })
          const again = await broker.client('reader', { clean: false, present: 1 })
          await again.expect(`${head(false)} "w/b" ${packetId(2)} 'queued'`)
          const late = await broker.client('late')
          await late.subscribe('w/#', granted)
          await late.expect(`${head(true)} "w/a" ${packetId(1)} 'live'`)
          await late.expectNothing()
        }
      })
    )
  ),
  {
    name: 'MQTT 5: each of overlapping filters gets its copy, with its QoS and its identifier',
    async run(broker) {
      const reader = await broker.client('reader', { version: 5 })
      await reader.subscribe('o/#', 2, { properties: '0b 01' })
      await reader.subscribe('o/+', 1, { properties: '0b 02' })
      const writer = await broker.client('writer')
      await writer.publish('o/a', 'x', { qos: 2 })
      await reader.expect(`32 "o/a" 0001 {0b 02} 'x'`, `34 "o/a" 0002 {0b 01} 'x'`)
      await reader.expectNothing()
    }
  },
  {
    name: 'allow_duplicate_messages true: MQTT 3.1.1 gets a copy for each of overlapping filters',
    global: 'allow_duplicate_messages true',
    async run(broker) {
      const reader = await broker.client('reader')
      await reader.subscribe('o/#', 2)
      await reader.subscribe('o/+', 1)
      await reader.subscribe('o/a', 0)
      const writer = await broker.client('writer')
      await writer.publish('o/a', 'x', { qos: 2 })
      await reader.expect(`30 "o/a" 'x'`, `32 "o/a" 0001 'x'`, `34 "o/a" 0002 'x'`)
      await reader.expectNothing()
    }
  },
  {
    name: 'allow_duplicate_messages is true when nothing is said',
    notIn20: 'false by default',
    async run(broker) {
      const reader = await broker.client('reader')
      await reader.subscribe('o/#')
      await reader.subscribe('o/+')
      const writer = await broker.client('writer')
      await writer.publish('o/a', 'x')
      await reader.expect(`30 "o/a" 'x'`, `30 "o/a" 'x'`)
      await reader.expectNothing()
    }
  },
  {
    name: 'allow_duplicate_messages false: one copy for MQTT 3.1.1, one for each filter for MQTT 5',
    global: 'allow_duplicate_messages false',
    async run(broker) {
      const old = await broker.client('old')
      const reader = await broker.client('reader', { version: 5 })
      for (const client of [old, reader]) {
        await client.subscribe('o/#', 1)
        await client.subscribe('o/+', 1)
      }
      const writer = await broker.client('writer')
      await writer.publish('o/a', 'x', { qos: 1 })
      await old.expect(`32 "o/a" 0001 'x'`)
      await old.expectNothing()
      await reader.expect(`32 "o/a" 0001 {} 'x'`, `32 "o/a" 0002 {} 'x'`)
      await reader.expectNothing()
    }
  },
  {
    name: 'the same filter twice in one SUBSCRIBE: two reason codes, the second counts',
    async run(broker) {
      const reader = await broker.client('reader')
      reader.send('82 0001 "a" 01 "a" 02')
      await reader.expect('90 0001 01 02')
      const writer = await broker.client('writer')
      await writer.publish('a', 'x', { qos: 2 })
      await reader.expect(`34 "a" 0001 'x'`)
      await reader.expectNothing()
    }
  },
  {
    name: 'subscribing again replaces QoS, options and identifier',
    notIn20: 'keeps the options',
    async run(broker) {
      const reader = await broker.client('reader', { version: 5 })
      await reader.subscribe('a', 2, { properties: '0b 01', options: 0x08 })
      await reader.subscribe('a', 0, { properties: '0b 8001' })
      const writer = await broker.client('writer')
      await writer.publish('a', 'x', { qos: 2, retain: true })
      await reader.expect(`30 "a" {0b 8001} 'x'`)
      await reader.subscribe('a', 1, { options: 0x20 })
      await writer.publish('a', 'y', { qos: 2 })
      await reader.expect(`32 "a" 0001 {} 'y'`)
      await reader.expectNothing()
    }
  },
  {
    name: 'subscribing again brings the retained messages again, in every version',
    async run(broker) {
      const writer = await broker.client('writer')
      await writer.publish('a', 'x', { retain: true })
      for (const version of [3, 4, 5] as const) {
        const reader = await broker.client('reader', { version })
        await reader.subscribe('a')
        await reader.expect(`31 "a" {} 'x'`)
        await reader.subscribe('a')
        await reader.expect(`31 "a" {} 'x'`)
        await reader.expectNothing()
      }
    }
  },
  {
    name: 'UNSUBSCRIBE ends one filter of several; of none MQTT 5 says so',
    async run(broker) {
      const reader = await broker.client('reader', { version: 5 })
      reader.send('82 0001 {} "a/b" 00 "a/#" 01 "+/b" 02')
      await reader.expect('90 0001 {} 00 01 02')
      reader.send('a2 0002 {} "a/b" "+/b" "nothing"')
      await reader.expect('b0 0002 {} 00 00 11')
      const writer = await broker.client('writer')
      await writer.publish('a/b', 'x', { qos: 2 })
      await reader.expect(`32 "a/b" 0001 {} 'x'`)
      await reader.expectNothing()
    }
  },
  {
    name: 'wildcards: # takes the parent and all below, + one level, neither takes $',
    async run(broker) {
      const reader = await broker.client('reader')
      const topics = ['a', 'a/', 'a/b', 'a/b/c', '/', '/a', 'b', '$x/a']
      const writer = await broker.client('writer')
      const cases: [string, string[]][] = [
        ['#', ['a', 'a/', 'a/b', 'a/b/c', '/', '/a', 'b']],
        ['a/#', ['a', 'a/', 'a/b', 'a/b/c']],
        ['a/+', ['a/', 'a/b']],
        ['+', ['a', 'b']],
        ['+/+', ['a/', 'a/b', '/', '/a']],
        ['/+', ['/', '/a']],
        ['+/b/+', ['a/b/c']],
        ['$x/#', ['$x/a']],
        ['$x/+', ['$x/a']]
      ]
      for (const [filter, matching] of cases) {
        await reader.subscribe(filter)
        for (const topic of topics) await writer.publish(topic, 'x')
        await reader.expect(...matching.map(topic => `30 "${topic}" 'x'`))
        await reader.expectNothing()
        await reader.unsubscribe(filter)
      }
    }
  },
  ...([4, 5] as const).flatMap((version): Scenario[] => [
    {
      name: `MQTT ${version}: a shared subscription goes round its group, beginning with the first`,
      async run(broker) {
        const members = await group(broker.client, version, 2)
        for (const member of members) await member.subscribe('$share/g/t/+', 1)
        const writer = await broker.client('writer')
        for (let i = 0; i < 6; i++) await writer.publish('t/a', String(i), { qos: 1 })
        const [first, second] = members
        await first.expect(...[0, 2, 4].map((n, i) => `32 "t/a" 000${i + 1} {} '${n}'`))
        await second.expect(...[1, 3, 5].map((n, i) => `32 "t/a" 000${i + 1} {} '${n}'`))
        for (const member of members) await member.expectNothing()
        await first.unsubscribe('$share/g/t/+')
        await writer.publish('t/a', '6', { qos: 0 })
        await writer.publish('t/a', '7', { qos: 0 })
        await second.expect(`30 "t/a" {} '6'`, `30 "t/a" {} '7'`)
        await first.expectNothing()
      }
    },
    {
      name: `MQTT ${version}: a shared subscription gets no retained messages`,
      notIn20: 'sends them',
      async run(broker) {
        const writer = await broker.client('writer')
        await writer.publish('t', 'kept', { retain: true })
        const member = await broker.client('member', { version })
        await member.subscribe('$share/g/t')
        await member.expectNothing()
        await writer.publish('t', 'live', { retain: true })
        await member.expect(`30 "t" {} 'live'`)
      }
    }
  ]),
  {
    name: 'groups do not share with each other, nor with plain subscriptions, and versions share one group',
    async run(broker) {
      const [old, other, plain] = [await broker.client('old'), await broker.client('other'), await broker.client('plain')]
      const modern = await broker.client('modern', { version: 5 })
      await old.subscribe('$share/g/t')
      await modern.subscribe('$share/g/t')
      await other.subscribe('$share/h/t')
      await plain.subscribe('t')
      const writer = await broker.client('writer')
      for (const payload of ['1', '2']) await writer.publish('t', payload)
      await old.expect(`30 "t" '1'`)
      await modern.expect(`30 "t" {} '2'`)
      for (const client of [other, plain]) await client.expect(`30 "t" '1'`, `30 "t" '2'`)
      for (const client of [old, modern, other, plain]) await client.expectNothing()
    }
  },
  {
    name: 'a member of a group that leaves is not served any more',
    async run(broker) {
      const [first, second] = await group(broker.client, 4, 2)
      for (const member of [first, second]) await member.subscribe('$share/g/t')
      const writer = await broker.client('writer')
      await writer.publish('t', '0')
      await first.expect(`30 "t" '0'`)
      await second.disconnect()
      for (const payload of ['1', '2']) await writer.publish('t', payload)
      await first.expect(`30 "t" '1'`, `30 "t" '2'`)
    }
  },
  {
    name: 'MQTT 5: a shared subscription has its identifier and its QoS',
    async run(broker) {
      const member = await broker.client('member', { version: 5 })
      await member.subscribe('$share/g/t', 1, { properties: '0b 05' })
      const writer = await broker.client('writer')
      await writer.publish('t', 'x', { qos: 2 })
      await member.expect(`32 "t" 0001 {0b 05} 'x'`)
      await member.expectNothing()
    }
  },
  ...(['$share/g', '$share/g/', '$share/g+/t', '$share/#/t'] as const).map(
    (filter): Scenario => ({
      name: `MQTT 5: ${filter} is refused`,
      ...(!/[+#]/.test(filter) && { notIn20: 'is granted' }),
      async run(broker) {
        const client = await broker.client('one', { version: 5 })
        client.send(`82 0001 {} "${filter}" 00`)
        await client.expectClosed(/[+#]/.test(filter) ? 'e0 81' : 'e0 82')
      }
    })
  ),
  {
    name: 'MQTT 5: No Local on a shared subscription is a protocol error',
    notIn20: 'is granted',
    async run(broker) {
      const client = await broker.client('one', { version: 5 })
      client.send('82 0001 {} "$share/g/t" 04')
      await client.expectClosed('e0 82')
    }
  },
  {
    name: 'MQTT 5: Retain Handling 0 always, 1 for a new subscription only, 2 never',
    async run(broker) {
      const writer = await broker.client('writer')
      await writer.publish('a', 'x', { retain: true })
      const reader = await broker.client('reader', { version: 5 })
      const kept = `31 "a" {} 'x'`
      await reader.subscribe('a', 0, { options: 0x20 })
      await reader.expectNothing()
      await reader.subscribe('a', 0, { options: 0x10 })
      await reader.expectNothing()
      await reader.subscribe('a', 0, { options: 0x00 })
      await reader.expect(kept)
      await reader.unsubscribe('a')
      await reader.subscribe('a', 0, { options: 0x10 })
      await reader.expect(kept)
      await reader.subscribe('a', 0, { options: 0x10 })
      await reader.expectNothing()
      await reader.subscribe('a')
      await reader.expect(kept)
      await reader.expectNothing()
    }
  },
  {
    name: 'MQTT 5: No Local keeps a message from its publisher, live and retained when published, not from others',
    async run(broker) {
      const self = await broker.client('self', { version: 5 })
      const other = await broker.client('other', { version: 5 })
      for (const client of [self, other]) await client.subscribe('a', 1, { options: 0x04 })
      await self.publish('a', 'x', { qos: 1 })
      await self.expectNothing()
      await other.expect(`32 "a" 0001 {} 'x'`)
      await other.publish('a', 'y', { qos: 0 })
      await self.expect(`30 "a" {} 'y'`)
      await other.expectNothing()
    }
  },
  {
    name: 'MQTT 5: No Local holds after a reconnect',
    async run(broker) {
      const kept = { version: 5, clean: false, properties: '11 0000003c' } as const
      const first = await broker.client('self', kept)
      await first.subscribe('a', 1, { options: 0x04 })
      await first.drop()
      const self = await broker.client('self', { ...kept, present: 1 })
      self.send(`32 "a" 0001 {} 'x'`)
      self.send('c0')
      // With no subscriber but the publisher itself: Mosquitto says whether anybody was found, not whether it was given.
      const puback = await self.next()
      if (puback[0] !== 0x40) throw new Error(`expected PUBACK, got ${puback.toString('hex')}`)
      await self.expect('d0')
      const writer = await broker.client('writer')
      await writer.publish('a', 'y', { qos: 1 })
      await self.expect(`32 "a" 0001 {} 'y'`)
    }
  },
  {
    name: 'MQTT 5: Retain As Published keeps the flag of a live message, else it is cleared',
    async run(broker) {
      const asPublished = await broker.client('as-published', { version: 5 })
      const plain = await broker.client('plain', { version: 5 })
      await asPublished.subscribe('a', 0, { options: 0x08 })
      await plain.subscribe('a')
      const writer = await broker.client('writer')
      await writer.publish('a', 'kept', { retain: true })
      await writer.publish('a', 'live')
      await asPublished.expect(`31 "a" {} 'kept'`, `30 "a" {} 'live'`)
      await plain.expect(`30 "a" {} 'kept'`, `30 "a" {} 'live'`)
    }
  },
  {
    name: 'MQTT 5: subscription identifiers come with retained and queued messages, of up to four bytes',
    async run(broker) {
      const writer = await broker.client('writer')
      await writer.publish('a', 'kept', { retain: true })
      const kept = { version: 5, clean: false, properties: '11 0000003c' } as const
      const reader = await broker.client('reader', kept)
      await reader.subscribe('a', 1, { properties: '0b ffffff7f' })
      await reader.expect(`31 "a" {0b ffffff7f} 'kept'`)
      await reader.disconnect()
      await writer.publish('a', 'queued', { qos: 1 })
      const again = await broker.client('reader', { ...kept, present: 1 })
      await again.expect(`32 "a" 0001 {0b ffffff7f} 'queued'`)
    }
  },
  {
    name: 'a client that publishes below $SYS: MQTT 3.1.1 is acknowledged, MQTT 5 told 0x87, nobody gets it',
    async run(broker) {
      const reader = await broker.client('reader')
      await reader.subscribe('$SYS/x/#')
      const old = await broker.client('old')
      old.send(`30 "$SYS/x/y" 'z'`, `32 "$SYS/x/y" 0001 'z'`, `34 "$SYS/x/y" 0002 'z'`, `33 "$SYS/x/y" 0003 'z'`)
      await old.expect('40 0001', '50 0002', '40 0003')
      await old.expectNothing()
      const modern = await broker.client('modern', { version: 5 })
      modern.send(`30 "$SYS/x/y" {} 'z'`, `32 "$SYS/x/y" 0001 {} 'z'`, `34 "$SYS/x/y" 0002 {} 'z'`)
      await modern.expect('40 0001 87', '50 0002 87')
      await modern.expectNothing()
      await reader.expectNothing()
    }
  },
  {
    name: 'acl_file: SUBSCRIBE is granted, and what may not be read is not delivered, live, retained or queued',
    global: 'acl_file DIR/acl',
    files: { acl },
    async run(broker) {
      const kept = { username: 'bob', clean: false } as const
      const bob = await broker.client('bob', kept)
      await bob.publish('closed/a', 'retained', { retain: true })
      await bob.publish('open/a', 'retained', { retain: true })
      await bob.subscribe('#', 1)
      await bob.expect(`31 "open/a" 'retained'`)
      await bob.publish('closed/a', 'live', { qos: 1 })
      await bob.expectNothing()
      await bob.disconnect()
      const ann = await broker.client('ann', { username: 'ann' })
      const writer = await broker.client('writer', { username: 'bob' })
      await writer.publish('closed/a', 'queued', { qos: 1 })
      await ann.publish('open/a', 'queued', { qos: 1 })
      const again = await broker.client('bob', { ...kept, present: 1 })
      await again.expect(`32 "open/a" ${broker.kind === 'ours' ? '0001' : '00??'} 'queued'`)
      await again.expectNothing()
    }
  },
  {
    name: 'acl_file: what may not be written is acknowledged to MQTT 3.1.1, refused with 0x87 to MQTT 5, and goes nowhere',
    global: 'acl_file DIR/acl',
    files: { acl },
    async run(broker) {
      const ann = await broker.client('ann', { username: 'ann' })
      await ann.subscribe('#', 2)
      ann.send(`30 "closed" 'z'`, `32 "closed" 0001 'z'`, `34 "closed" 0002 'z'`)
      await ann.expect('40 0001', '50 0002')
      ann.send('62 0002')
      await ann.expect('70 0002')
      await ann.expectNothing()
      const modern = await broker.client('modern', { version: 5, username: 'ann' })
      modern.send(`30 "closed" {} 'z'`, `32 "closed" 0001 {} 'z'`, `35 "closed" 0002 {} 'z'`, `32 "open/a" 0003 {} 'y'`)
      await modern.expect('40 0001 87', '50 0002 87', '40 0003')
      await ann.expect(`32 "open/a" 0001 'y'`)
      await ann.expectNothing()
    }
  }
]

async function group(client: (id: string, options: { version: 4 | 5 }) => Promise<Peer>, version: 4 | 5, _size: 2): Promise<[Peer, Peer]> {
  return [await client('first', { version }), await client('second', { version })]
}
