// What a message keeps on its way: properties, between the versions of MQTT, through topic aliases and mount points.

import type { Scenario } from '../helpers/arena.js'
import { connectText } from '../helpers/arena.js'

export const passing: readonly Scenario[] = [
  {
    name: 'MQTT 5: properties pass through, user properties in their order',
    async run(broker) {
      const reader = await broker.client('reader', { version: 5 })
      await reader.subscribe('a')
      const writer = await broker.client('writer', { version: 5 })
      const one = ['01 01', '03 "text/plain"', '08 "answer/here"', '09 "77"']
      for (const property of one) {
        await writer.publish('a', 'x', { properties: property })
        await reader.expect(`30 "a" {${property}} 'x'`)
      }
      const users = '26 "b" "1" 26 "a" "2" 26 "b" "3" 26 "" ""'
      await writer.publish('a', 'x', { properties: users })
      await reader.expect(`30 "a" {${users}} 'x'`)
      await reader.expectNothing()
    }
  },
  {
    name: 'MQTT 5: properties come in the order of their publisher, then the expiry that is left, then the subscription identifier',
    async run(broker) {
      const reader = await broker.client('reader', { version: 5 })
      await reader.subscribe('#', 0, { properties: '0b 07' })
      const writer = await broker.client('writer', { version: 5 })
      const sent = '26 "k" "1" 09 "77" 02 00000064 08 "r" 26 "k" "2" 03 "t" 01 01'
      const passed = '26 "k" "1" 09 "77" 08 "r" 26 "k" "2" 03 "t" 01 01 02 000000??'
      const received = broker.is20 ? `0b 07 ${passed}` : `${passed} 0b 07`
      await writer.publish('a', 'x', { properties: `${sent} 23 0001` })
      await reader.expect(`30 "a" {${received}} 'x'`)
      const dying = await broker.client('dying', { version: 5, will: { topic: 'w', properties: `18 00000000 ${sent}` } })
      await dying.drop()
      await reader.expect(`30 "w" {${received}} 'gone'`)
    }
  },
  {
    name: 'MQTT 5 to 3.1.1 and 3.1: the same message without properties',
    async run(broker) {
      const [old, oldest] = [await broker.client('old', { version: 4 }), await broker.client('oldest', { version: 3 })]
      for (const client of [old, oldest]) await client.subscribe('a', 1)
      const writer = await broker.client('writer', { version: 5 })
      await writer.publish('a', 'x', { qos: 1, properties: '03 "text/plain" 26 "k" "v" 02 00000064' })
      for (const client of [old, oldest]) await client.expect(`32 "a" 0001 'x'`)
    }
  },
  {
    name: 'MQTT 3.1 and 3.1.1 to 5: with no properties',
    async run(broker) {
      const reader = await broker.client('reader', { version: 5 })
      await reader.subscribe('a', 1)
      for (const version of [3, 4] as const) {
        const writer = await broker.client('writer', { version })
        await writer.publish('a', 'x', { qos: 1 })
        await reader.expect(`32 "a" 000${version - 2} {} 'x'`)
      }
    }
  },
  {
    name: 'MQTT 5: what was queued has its properties',
    async run(broker) {
      const kept = { version: 5, clean: false, properties: '11 0000003c' } as const
      const reader = await broker.client('reader', kept)
      await reader.subscribe('a', 2)
      await reader.disconnect()
      const writer = await broker.client('writer', { version: 5 })
      await writer.publish('a', 'x', { qos: 2, properties: '03 "text/plain"' })
      await writer.publish('a', 'y', { qos: 1, properties: '26 "k" "1" 26 "k" "2"' })
      const again = await broker.client('reader', { ...kept, present: 1 })
      await again.expect(`34 "a" 0001 {03 "text/plain"} 'x'`, `32 "a" 0002 {26 "k" "1" 26 "k" "2"} 'y'`)
      await again.drop()
      const third = await broker.client('reader', { ...kept, present: 1 })
      await third.expect(`3c "a" 0001 {03 "text/plain"} 'x'`, `3a "a" 0002 {26 "k" "1" 26 "k" "2"} 'y'`)
    }
  },
  {
    name: 'MQTT 5: request and response',
    async run(broker) {
      const asking = await broker.client('asking', { version: 5 })
      await asking.subscribe('reply/asking')
      const answering = await broker.client('answering', { version: 5 })
      await answering.subscribe('request')
      await asking.publish('request', '?', { properties: '08 "reply/asking" 09 "id"' })
      await answering.expect(`30 "request" {08 "reply/asking" 09 "id"} '?'`)
      await answering.publish('reply/asking', '!', { properties: '09 "id"' })
      await asking.expect(`30 "reply/asking" {09 "id"} '!'`)
    }
  },
  {
    name: 'MQTT 5: a topic alias stands for its topic, may stand for another, and ends with the connection',
    async run(broker) {
      const reader = await broker.client('reader', { version: 5 })
      await reader.subscribe('#')
      const writer = await broker.client('writer', { version: 5 })
      writer.send(`30 "a" {23 0001} '1'`, `30 "" {23 0001} '2'`, `30 "b" {23 000a} '3'`, `30 "" {23 000a} '4'`, `30 "" {23 0001} '5'`)
      writer.send(`30 "c" {23 0001} '6'`, `30 "" {23 0001} '7'`, `32 "" 0001 {23 000a} '8'`)
      await writer.expect('40 0001')
      const expected = ['a1', 'a2', 'b3', 'b4', 'a5', 'c6', 'c7', 'b8']
      await reader.expect(...expected.map(([topic, payload]) => `30 "${topic}" {} '${payload}'`))
      await writer.disconnect()
      const again = await broker.client('writer', { version: 5 })
      again.send(`30 "" {23 0001} 'x'`)
      await again.expectClosed(broker.is20 ? 'e0 ??' : 'e0 81')
      await reader.expectNothing()
    }
  },
  {
    name: 'MQTT 5: a message that came by an alias is retained and queued under its topic',
    async run(broker) {
      const kept = await broker.client('kept', { clean: false })
      await kept.subscribe('#', 1)
      await kept.disconnect()
      const writer = await broker.client('writer', { version: 5 })
      writer.send(`30 "a" {23 0001} '1'`, `33 "" 0001 {23 0001} '2'`)
      await writer.expect('40 0001')
      const reader = await broker.client('reader')
      await reader.subscribe('a')
      await reader.expect(`31 "a" '2'`)
      const again = await broker.client('kept', { clean: false, present: 1 })
      await again.expect(`32 "a" 0001 '2'`)
    }
  },
  {
    name: 'MQTT 5: a client that takes topic aliases gets them, in the order of the topics, up to its maximum',
    notIn20: 'sends no aliases',
    async run(broker) {
      const reader = await broker.client('reader', { version: 5, properties: '22 0002' })
      await reader.subscribe('#')
      const writer = await broker.client('writer')
      for (const topic of ['a', 'b', 'a', 'c', 'b', 'c']) await writer.publish(topic, 'x')
      await reader.expect(
        `30 "a" {23 0001} 'x'`,
        `30 "b" {23 0002} 'x'`,
        `30 "" {23 0001} 'x'`,
        `30 "c" {} 'x'`,
        `30 "" {23 0002} 'x'`,
        `30 "c" {} 'x'`
      )
    }
  },
  {
    name: 'MQTT 5: Payload Format Indicator is passed on unjudged',
    async run(broker) {
      const reader = await broker.client('reader', { version: 5 })
      await reader.subscribe('a')
      const writer = await broker.client('writer', { version: 5 })
      writer.send(`30 "a" {01 01} ff fe`)
      await reader.expect(`30 "a" {01 01} ff fe`)
    }
  },
  {
    name: 'a payload may be empty or large, and comes whole',
    async run(broker) {
      const reader = await broker.client('reader')
      await reader.subscribe('a', 1)
      const writer = await broker.client('writer')
      for (const size of [0, 1, 100, 121, 122, 123, 16_378, 16_379, 16_380, 100_000, 300_000]) {
        const payload = 'x'.repeat(size)
        writer.send(`30 "a" '${payload}'`)
        await reader.expect(`30 "a" '${payload}'`)
      }
    }
  },
  {
    name: 'mount_point is put before what comes in and taken from what goes out',
    notIn20: 'does not take it off',
    listener: 'mount_point m/',
    second: '',
    async run(broker) {
      const inside = await broker.client('inside')
      const outside = await broker.client('outside', { listener: 1 })
      await outside.subscribe('#')
      await inside.subscribe('#')
      inside.send(`30 "a" '1'`)
      await inside.expect(`30 "a" '1'`)
      await outside.expect(`30 "m/a" '1'`)
      outside.send(`30 "m/b" '2'`)
      await outside.expect(`30 "m/b" '2'`)
      await inside.expect(`30 "b" '2'`)
      outside.send(`30 "c" '3'`)
      await outside.expect(`30 "c" '3'`)
      await inside.expectNothing()
      await inside.unsubscribe('#')
      outside.send(`30 "m/b" '4'`)
      await outside.expect(`30 "m/b" '4'`)
      await inside.expectNothing()
    }
  },
  {
    name: 'mount_point holds for retained messages, wills and shared subscriptions',
    notIn20: 'does not take it off',
    listener: 'mount_point m/',
    second: '',
    async run(broker) {
      const outside = await broker.client('outside', { listener: 1 })
      await outside.subscribe('m/will/#')
      const dying = await broker.client('dying', { will: { topic: 'will/a' } })
      await dying.publish('kept', 'x', { retain: true })
      await dying.drop()
      await outside.expect(`30 "m/will/a" 'gone'`)
      await outside.subscribe('m/kept')
      await outside.expect(`31 "m/kept" 'x'`)
      const inside = await broker.client('inside')
      await inside.subscribe('kept')
      await inside.expect(`31 "kept" 'x'`)
      const modern = await broker.client('modern', { version: 5 })
      await modern.subscribe('$share/g/s')
      await outside.publish('m/s', 'y')
      await modern.expect(`30 "s" {} 'y'`)
      await outside.publish('s', 'z')
      await modern.expectNothing()
    }
  },
  {
    name: 'mount_point holds for what is queued and for topic aliases',
    notIn20: 'does not take it off',
    listener: 'mount_point m/',
    second: '',
    async run(broker) {
      const kept = await broker.client('kept', { clean: false })
      await kept.subscribe('a', 1)
      await kept.disconnect()
      const writer = await broker.client('writer', { version: 5 })
      writer.send(`32 "a" 0001 {23 0001} '1'`, `32 "" 0002 {23 0001} '2'`)
      await writer.expect('40 0001', '40 0002')
      const again = await broker.client('kept', { clean: false, present: 1 })
      await again.expect(`32 "a" 0001 '1'`, `32 "a" 0002 '2'`)
    }
  },
  {
    name: 'acl_file: the topics of a listener with mount_point are judged with it',
    global: 'acl_file DIR/acl',
    files: { acl: 'topic read m/#\ntopic write m/open\n' },
    notIn20: 'does not take it off',
    listener: 'mount_point m/',
    async run(broker) {
      const client = await broker.client('one', { version: 5 })
      await client.subscribe('#')
      client.send(`32 "open" 0001 {} 'x'`, `32 "closed" 0002 {} 'x'`)
      await client.expect(`30 "open" {} 'x'`, '40 0001', '40 0002 87')
    }
  },
  {
    name: 'max_qos: a higher QoS ends the connection with 0x9B, SUBACK grants no more than it',
    listener: 'max_qos 1',
    async run(broker) {
      const client = await broker.client('one', { version: 5 })
      client.send('82 0001 {} "a" 02')
      await client.expect('90 0001 {} 01')
      client.send(`34 "a" 0001 {} 'x'`)
      await client.expectClosed('e0 9b')
      const old = await broker.client('old')
      old.send(`34 "a" 0001 'x'`)
      await old.expectClosed()
    }
  },
  {
    name: 'retain_available false: a retained message ends the connection with 0x9A, a retained will is refused so',
    global: 'retain_available false',
    async run(broker) {
      const client = await broker.client('one', { version: 5 })
      client.send(`31 "a" {} 'x'`)
      await client.expectClosed('e0 9a')
      const will = await broker.wire(5)
      will.send(connectText('will', { version: 5, will: { topic: 'a', retain: true } }))
      await will.expectClosed('20 00 9a {}')
    }
  }
]
