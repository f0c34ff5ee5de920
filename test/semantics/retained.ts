// Retained messages: which come, in which order, how long they live, and who may have published them.

import { setTimeout as pause } from 'node:timers/promises'
import type { Scenario } from '../helpers/arena.js'

export const retained: readonly Scenario[] = [
  {
    name: 'a parent comes before its children, whatever was published first',
    async run(broker) {
      const writer = await broker.client('writer')
      for (const topic of ['1/2/3/4/5/6/7', '1/2/3/4', '1']) await writer.publish(topic, 'x', { retain: true })
      const reader = await broker.client('reader')
      await reader.subscribe('#')
      await reader.expect(`31 "1" 'x'`, `31 "1/2/3/4" 'x'`, `31 "1/2/3/4/5/6/7" 'x'`)
      await reader.expectNothing()
    }
  },
  {
    name: 'children come in the order of their first message, each with what is below it; of x/# the topic x is the last',
    async run(broker) {
      const writer = await broker.client('writer')
      for (const topic of ['x/b', 'x/a', 'x', 'y', 'x/b/c', 'x/a/d', 'x/b']) await writer.publish(topic, 'x', { retain: true })
      const reader = await broker.client('reader')
      await reader.subscribe('x/#')
      await reader.expect(...['x/b', 'x/b/c', 'x/a', 'x/a/d', 'x'].map(topic => `31 "${topic}" 'x'`))
      await reader.subscribe('x/+')
      await reader.expect(...['x/b', 'x/a'].map(topic => `31 "${topic}" 'x'`))
      await reader.subscribe('#')
      await reader.expect(...['x', 'x/b', 'x/b/c', 'x/a', 'x/a/d', 'y'].map(topic => `31 "${topic}" 'x'`))
      await reader.subscribe('+/+/+')
      await reader.expect(...['x/b/c', 'x/a/d'].map(topic => `31 "${topic}" 'x'`))
      await reader.expectNothing()
    }
  },
  {
    name: 'several filters of one SUBSCRIBE: SUBACK first, then what each of them finds',
    async run(broker) {
      const writer = await broker.client('writer')
      for (const topic of ['a', 'b']) await writer.publish(topic, 'x', { retain: true, qos: 1 })
      const reader = await broker.client('reader')
      reader.send('82 0001 "b" 00 "#" 01')
      const suback = '90 0001 00 01'
      await reader.expectAnyOrder(suback, `31 "b" 'x'`, `33 "a" 0001 'x'`, `33 "b" 0002 'x'`)
      await reader.expectNothing()
    }
  },
  {
    name: 'an empty last level is a level',
    async run(broker) {
      const writer = await broker.client('writer')
      await writer.publish('e/', 'x', { retain: true })
      const reader = await broker.client('reader')
      await reader.subscribe('e/+')
      await reader.expect(`31 "e/" 'x'`)
      await reader.subscribe('e')
      await reader.expectNothing()
      await reader.subscribe('+/')
      await reader.expect(`31 "e/" 'x'`)
    }
  },
  {
    name: 'characters that mean something elsewhere are just characters',
    async run(broker) {
      const writer = await broker.client('writer')
      const topics = ['room[1]/a', 'room*/a', 'room?/a', 'room\\/a', 'constructor/a', '__proto__/a']
      for (const topic of topics) await writer.publish(topic, 'x', { retain: true })
      const reader = await broker.client('reader')
      for (const topic of topics) {
        await reader.subscribe(topic.replace('/a', '/#'))
        await reader.expect(`31 "${topic}" 'x'`)
      }
      await reader.expectNothing()
    }
  },
  {
    name: 'wildcards at the start do not find what begins with $',
    async run(broker) {
      const writer = await broker.client('writer')
      await writer.publish('$x/a', 'x', { retain: true })
      const reader = await broker.client('reader')
      for (const filter of ['#', '+/a', '+/#']) await reader.subscribe(filter)
      await reader.expectNothing()
      await reader.subscribe('$x/#')
      await reader.expect(`31 "$x/a" 'x'`)
    }
  },
  {
    name: 'a later message replaces the earlier, an empty one clears it and is given out itself',
    async run(broker) {
      const reader = await broker.client('reader')
      await reader.subscribe('a')
      const writer = await broker.client('writer')
      await writer.publish('a', '1', { retain: true, qos: 1 })
      await writer.publish('a', '2', { retain: true })
      await reader.expect(`30 "a" '1'`, `30 "a" '2'`)
      const late = await broker.client('late')
      await late.subscribe('a', 1)
      await late.expect(`31 "a" '2'`)
      await writer.publish('a', '', { retain: true })
      await reader.expect(`30 "a"`)
      await late.expect(`30 "a"`)
      await late.subscribe('a', 1)
      await late.expectNothing()
    }
  },
  {
    name: 'each SUBSCRIBE brings them again',
    async run(broker) {
      const writer = await broker.client('writer')
      await writer.publish('a', 'x', { retain: true })
      const reader = await broker.client('reader')
      for (let i = 0; i < 3; i++) {
        await reader.subscribe('a')
        await reader.expect(`31 "a" 'x'`)
      }
    }
  },
  {
    name: 'more of them than the window: the rest comes with the acknowledgements',
    global: 'max_inflight_messages 2',
    async run(broker) {
      const writer = await broker.client('writer')
      for (const topic of ['a', 'b', 'c', 'd', 'e']) await writer.publish(topic, 'x', { retain: true, qos: 1 })
      const reader = await broker.client('reader')
      await reader.subscribe('#', 1)
      await reader.expect(`33 "a" 0001 'x'`, `33 "b" 0002 'x'`)
      await reader.expectNothing()
      reader.send('40 0001', '40 0002')
      await reader.expect(`33 "c" 0003 'x'`, `33 "d" 0004 'x'`)
      reader.send('40 0003', '40 0004')
      await reader.expect(`33 "e" 0005 'x'`)
      await reader.expectNothing()
    }
  },
  {
    name: 'MQTT 5: a retained message has its properties, MQTT 3.1.1 gets it without',
    async run(broker) {
      const writer = await broker.client('writer', { version: 5 })
      await writer.publish('a', 'x', { retain: true, properties: '01 01 03 "text/plain" 08 "answer" 09 "77" 26 "k" "v" 26 "k" "w"' })
      const modern = await broker.client('modern', { version: 5 })
      await modern.subscribe('a')
      const packet = await modern.next()
      for (const part of [
        '0101',
        hex('03', 'text/plain'),
        hex('08', 'answer'),
        hex('09', '77'),
        `${hex('26', 'k')}${hex('', 'v')}${hex('26', 'k')}${hex('', 'w')}`
      ]) {
        if (!packet.toString('hex').includes(part)) throw new Error(`${part} is missing in ${packet.toString('hex')}`)
      }
      const old = await broker.client('old')
      await old.subscribe('a')
      await old.expect(`31 "a" 'x'`)
    }
  },
  {
    name: 'upgrade_outgoing_qos true: delivered at the QoS of the subscription, live and retained',
    global: 'upgrade_outgoing_qos true',
    async run(broker) {
      const reader = await broker.client('reader')
      await reader.subscribe('a', 2)
      const writer = await broker.client('writer')
      await writer.publish('a', 'x', { retain: true })
      await reader.expect(`34 "a" 0001 'x'`)
      const late = await broker.client('late')
      await late.subscribe('a', 1)
      await late.expect(`33 "a" 0001 'x'`)
    }
  },
  {
    name: 'check_retain_source: what its publisher may no longer write is not sent any more',
    global: 'check_retain_source true\nacl_file DIR/acl',
    files: { acl: 'topic read #\nuser ann\ntopic readwrite #\nuser bob\ntopic readwrite #\n' },
    async run(broker) {
      const ann = await broker.client('ann', { username: 'ann' })
      const bob = await broker.client('bob', { username: 'bob' })
      await ann.publish('a', 'by ann', { retain: true })
      await ann.publish('c', 'by ann', { retain: true })
      await bob.publish('b', 'by bob', { retain: true })
      await bob.publish('c', 'by bob', { retain: true })
      const reader = await broker.client('reader')
      await reader.subscribe('#')
      await reader.expect(`31 "a" 'by ann'`, `31 "c" 'by bob'`, `31 "b" 'by bob'`)
      await ann.disconnect()
      broker.write('acl', 'topic read #\nuser bob\ntopic readwrite #\n')
      await broker.reload()
      await reader.subscribe('#')
      await reader.expect(`31 "c" 'by bob'`, `31 "b" 'by bob'`)
      await reader.subscribe('a')
      await reader.expectNothing()
      broker.write('acl', 'topic read #\n')
      await broker.reload()
      await reader.subscribe('#')
      await reader.expectNothing()
    }
  },
  {
    name: 'check_retain_source false: it is sent as it was',
    global: 'check_retain_source false\nacl_file DIR/acl',
    files: { acl: 'topic read #\nuser ann\ntopic readwrite #\n' },
    async run(broker) {
      const ann = await broker.client('ann', { username: 'ann' })
      await ann.publish('a', 'by ann', { retain: true })
      broker.write('acl', 'topic read #\n')
      await broker.reload()
      const reader = await broker.client('reader')
      await reader.subscribe('#')
      await reader.expect(`31 "a" 'by ann'`)
    }
  },
  {
    name: 'MQTT 5: Message Expiry Interval is passed on, what is left of it, and nothing comes after it',
    slow: true,
    async run(broker) {
      const live = await broker.client('live', { version: 5 })
      await live.subscribe('#')
      const queued = await broker.client('queued', { version: 5, clean: false, properties: '11 0000003c' })
      await queued.subscribe('#', 1)
      await queued.disconnect()
      const writer = await broker.client('writer', { version: 5 })
      await writer.publish('short', 'x', { qos: 1, retain: true, properties: '02 00000001' })
      const published = Date.now()
      await writer.publish('long', 'x', { qos: 1, retain: true, properties: '02 00000064' })
      await live.expect(`30 "short" {02 000000??} 'x'`, `30 "long" {02 000000??} 'x'`)
      const soon = await broker.client('soon', { version: 5 })
      await soon.subscribe('#')
      await soon.expect(`31 "short" {02 000000??} 'x'`, `31 "long" {02 000000??} 'x'`)
      await pause(2_300)
      const late = await broker.client('late', { version: 5 })
      await late.subscribe('#')
      remaining(await late.next(), '31', 'long', published)
      await late.expectNothing()
      const again = await broker.client('queued', { version: 5, clean: false, properties: '11 0000003c', present: 1 })
      remaining(await again.next(), '32', 'long', published)
      await again.expectNothing()
      const old = await broker.client('old')
      await old.subscribe('#')
      await old.expect(`31 "long" 'x'`)
      await old.expectNothing()
    }
  },
  {
    name: 'MQTT 5: what waits behind a full window expires there',
    notIn20: 'what is behind it is forgotten',
    slow: true,
    global: 'max_inflight_messages 1',
    async run(broker) {
      const reader = await broker.client('reader', { version: 5 })
      await reader.subscribe('#', 1)
      const writer = await broker.client('writer', { version: 5 })
      await writer.publish('a', '1', { qos: 1 })
      await writer.publish('b', '2', { qos: 1, properties: '02 00000001' })
      await writer.publish('c', '3', { qos: 1 })
      await reader.expect(`32 "a" 0001 {} '1'`)
      await pause(2_300)
      reader.send('40 0001')
      await reader.expect(`32 "c" ???? {} '3'`)
      await reader.expectNothing()
    }
  }
]

/** A hundred seconds at first, and now as many fewer as have passed: two at least, both clocks rounding. */
function remaining(packet: Buffer, head: string, topic: string, published: number): void {
  const text = packet.toString('hex')
  const interval = packet.indexOf(Buffer.from([5, 2, 0, 0, 0]))
  const seconds = packet[interval + 5] ?? 0
  const least = 98 - Math.ceil((Date.now() - published) / 1000)
  if (!text.startsWith(head) || !packet.includes(topic) || interval === -1 || seconds < least || seconds > 98) {
    throw new Error(`not ${topic} with ${least} to 98 seconds left: ${text}`)
  }
}

function hex(identifier: string, text: string): string {
  return identifier + text.length.toString(16).padStart(4, '0') + Buffer.from(text).toString('hex')
}
