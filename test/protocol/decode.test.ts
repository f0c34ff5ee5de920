import fc from 'fast-check'
import mqttPacket from 'mqtt-packet'
import t from 'tap'
import { decodeConnect, decodePacket, decodePublish, faultOfFraming } from '../../dist/protocol/decode.js'
import { encodeConnack } from '../../dist/protocol/encode.js'
import { Framing } from '../../dist/protocol/framing.js'
import {
  type Connect,
  type ConnectFault,
  type Fault,
  type Packet,
  type Publish,
  packetTypes,
  payloadOf,
  propertiesOf,
  type Version
} from '../../dist/protocol/packets.js'
import { decodeProperties, type UserProperties } from '../../dist/protocol/properties.js'
import { below, connect, field, packet, pick, publish, randomBytes, seededRandom, subscribe, unsubscribe } from '../helpers/raw-mqtt.js'
import { type Answer, acknowledgementRows, connectRows, otherRows, publishRows, subscribeRows } from './cases.js'

const hex = (text: string): Buffer => Buffer.from(text.replaceAll(' ', ''), 'hex')

function decode(version: Version, bytes: Buffer): Packet | Fault {
  const framing = new Framing()
  framing.append(bytes)
  if (framing.next()) return decodePacket(version, framing)
  if (framing.fault === undefined) throw new Error(`cut off: ${bytes.toString('hex')}`)
  return faultOfFraming(framing.fault)
}

function decodeFirst(bytes: Buffer, accepted?: readonly number[]): Connect | ConnectFault {
  const framing = new Framing()
  framing.append(bytes)
  if (!framing.next()) throw new Error(`cut off: ${bytes.toString('hex')}`)
  return decodeConnect(framing.head, framing.buffer, framing.start, framing.end, accepted)
}

// A CONNACK that refuses.
function answerTo(found: Connect | ConnectFault): string {
  if (found.type !== 0) return 'ok'
  return found.answer === undefined ? '' : encodeConnack(found.answer.version, false, found.answer.code).toString('hex')
}

// What goes to the client: an MQTT 3 client is told nothing.
function answerOf(version: Version, found: Packet | Fault): Answer {
  if (found.type !== 0) return 'ok'
  return version === 5 ? found.reasonCode : 0
}

function published(version: Version, bytes: Buffer): Publish {
  const found = decode(version, bytes)
  if (found.type !== packetTypes.publish) throw new Error(`no PUBLISH: ${JSON.stringify(found)}`)
  return found
}

function connected(bytes: Buffer): Connect {
  const found = decodeFirst(bytes)
  if (found.type === 0) throw new Error(found.words)
  return found
}

for (const [name, rows] of Object.entries({ publishRows, acknowledgementRows, subscribeRows, otherRows })) {
  t.test(`${name}: packets are refused as Mosquitto does`, async t => {
    for (const { name, bytes, version, answer } of rows) {
      t.equal(answerOf(version, decode(version, bytes)), version < 5 && answer !== 'ok' ? 0 : answer, name)
    }
  })
}

t.test('a CONNECT is refused as Mosquitto does', async t => {
  for (const { name, bytes, answer } of connectRows) {
    t.equal(answerTo(decodeFirst(bytes)), answer.replaceAll(' ', ''), name)
  }
})

t.test('accept_protocol_versions: 3 and 4 are answered in their words, 5 and what is none in those of MQTT 5', async t => {
  for (const [version, accepted, answer] of [
    [3, [4, 5], '20020001'],
    [4, [3, 5], '20020001'],
    [5, [3, 4], '2003008400'],
    [3, [3], 'ok'],
    [5, [5], 'ok']
  ] as const) {
    t.equal(answerTo(decodeFirst(connect({ version, clientId: 'a' }), accepted)), answer)
  }
})

t.test('a packet is read no further than its end', async t => {
  for (const { bytes, version, answer, name } of [...publishRows, ...acknowledgementRows, ...subscribeRows, ...otherRows]) {
    for (const filler of [0x00, 0x01, 0xff]) {
      const framing = new Framing()
      framing.append(Buffer.concat([bytes, Buffer.alloc(40, filler)]))
      if (!framing.next()) continue
      const found = decodePacket(version, framing)
      t.equal(answerOf(version, found), version < 5 && answer !== 'ok' ? 0 : answer, name)
    }
  }
})

t.test('a CONNECT gives all that it says', async t => {
  const bytes = packet(
    0x10,
    hex('0004 4d515454 05 ee 0102'),
    hex('1e 11 0000000a 21 0003 27 00000100 22 0005 17 00 19 01 15 0001 6d 26 0001 61 0000'),
    field('client'),
    hex('13 18 00000007 01 01 02 00000009 26 0001 61 0001 62'),
    field('will/é'),
    field(Buffer.of(0, 255)),
    field('user'),
    field(Buffer.of(0, 1))
  )
  const { properties, password, will, ...rest } = connected(bytes)
  t.same(rest, {
    type: 1,
    version: 5,
    bridge: false,
    clean: true,
    keepalive: 258,
    clientId: 'client',
    username: 'user',
    sessionExpiryInterval: 10,
    receiveMaximum: 3,
    maximumPacketSize: 256,
    topicAliasMaximum: 5,
    requestProblemInformation: false,
    requestResponseInformation: true,
    authenticationMethod: 'm'
  })
  t.equal(properties.toString('hex'), '110000000a2100032700000100220005170019011500016d260001610000')
  t.same(password, Buffer.of(0, 1))
  t.same(
    { ...will, properties: will?.properties.toString('hex') },
    {
      topic: 'will/é',
      payload: Buffer.of(0, 255),
      qos: 1,
      retain: true,
      delayInterval: 7,
      messageExpiryInterval: 9,
      properties: '010126000161000162'
    }
  )
})

t.test('what a CONNECT does not say has its default', async t => {
  const { receiveMaximum, maximumPacketSize, topicAliasMaximum, requestProblemInformation, requestResponseInformation, ...rest } =
    connected(connect({ version: 5, clientId: 'a', clean: false }))
  t.same(
    [receiveMaximum, maximumPacketSize, topicAliasMaximum, requestProblemInformation, requestResponseInformation],
    [65_535, 0, 0, true, false]
  )
  t.equal(rest.sessionExpiryInterval, 0)
  t.notOk('username' in rest || 'password' in rest || 'will' in rest || 'authenticationMethod' in rest)
  t.equal(connected(connect({ version: 4, clientId: 'a', clean: false })).sessionExpiryInterval, 0xffffffff)
  t.equal(connected(connect({ version: 4, clientId: 'a' })).sessionExpiryInterval, 0)
  t.equal(connected(hex('10 0f 0006 4d5149736470 83 02 003c 0001 61')).bridge, true)
})

t.test('properties that go on are a slice, and a copy only where alias or expiry stand between them', async t => {
  const rows: [properties: string, forwarded: string][] = [
    ['', ''],
    ['03 0001 61', '03000161'],
    ['23 0001 03 0001 61 01 01', '030001610101'],
    ['03 0001 61 23 0001', '03000161'],
    ['03 0001 61 23 0001 01 01', '030001610101'],
    ['01 01 02 00000009 03 0001 61 23 0001 26 0000 0000 09 0000', '010103000161260000' + '0000090000'],
    ['23 0001 02 00000009', '']
  ]
  for (const [text, forwarded] of rows) {
    const properties = hex(text)
    const found = published(5, publish('a', { version: 5, properties }))
    t.equal(propertiesOf(found).toString('hex'), forwarded, text)
    t.equal(found.topicAlias, text.includes('23 0001') ? 1 : undefined)
    t.equal(found.messageExpiryInterval, text.includes('02 00000009') ? 9 : undefined)
    t.equal(payloadOf(found).toString(), 'x')
  }
})

t.test('a list of very many properties costs no more than its length', async t => {
  const ofMany = (each: string): Buffer => Buffer.from(each.replaceAll(' ', '').repeat(200_000), 'hex')
  const started = performance.now()
  t.equal(decode(5, publish('a', { version: 5, properties: ofMany('23 0001 26 0000 0000') })).type, 0)
  const properties = propertiesOf(published(5, publish('a', { version: 5, properties: ofMany('26 0000 0000') })))
  t.equal(properties.length, 1_000_000)
  t.equal(decodeProperties(properties).userProperties?.['']?.length, 200_000)
  // Quadratic, it would be minutes.
  t.ok(performance.now() - started < 5000)
})

t.test('a PUBLISH is forwardable when its very bytes may go out again, but for its first and its packet identifier', async t => {
  const plain = publish('a')
  const rows: [version: Version, bytes: Buffer, forwardable: boolean][] = [
    [3, plain, true],
    [4, plain, true],
    [4, publish('a', { retain: true }), true],
    [4, publish('a', { qos: 1 }), true],
    [4, publish('a', { qos: 2 }), true],
    [4, Buffer.concat([hex('30 84 00'), plain.subarray(2)]), false],
    [5, publish('a', { version: 5 }), true],
    [5, publish('a', { version: 5, properties: hex('03 0001 61 26 0000 0000') }), true],
    [5, publish('a', { version: 5, properties: hex('23 0001') }), false],
    [5, publish('a', { version: 5, properties: hex('02 00000001') }), false],
    [5, publish('a', { version: 5, retain: true, properties: hex('03 0001 61') }), true],
    [5, publish('a', { version: 5, qos: 1, properties: hex('03 0001 61 02 00000001') }), false]
  ]
  for (const [version, bytes, forwardable] of rows) t.equal(published(version, bytes).forwardable, forwardable, bytes.toString('hex'))
})

t.test('an equal topic is taken from the one before, and only an equal one', async t => {
  const read = (topic: string | Buffer, previous: string) => {
    const bytes = publish(topic)
    return decodePublish(4, { head: 0x30, buffer: bytes, frameStart: 0, start: 2, end: bytes.length, minimal: true }, previous)
  }
  for (const [topic, previous] of [
    ['a/b', 'a/b'],
    ['a/b', 'a/c'],
    ['a/b', ''],
    ['a/b', 'a/bc'],
    ['é', 'é'],
    ['é', 'Ã©'],
    ['Ã©', 'é']
  ] as const) {
    const found = read(topic, previous)
    t.equal(found.type !== 0 && found.topic, topic)
  }
  // A byte that is no UTF-8 by itself is the code unit of a character.
  t.equal(read(Buffer.of(0xe9), 'é').type, 0)
})

t.test('SUBSCRIBE and UNSUBSCRIBE give filters and options', async t => {
  t.same(decode(5, packet(0x82, hex('0102 02 0b 07'), field('a/+'), hex('2e'), field('$share/g/b'), hex('11'))), {
    type: 8,
    packetId: 258,
    subscriptionIdentifier: 7,
    subscriptions: [
      { filter: 'a/+', qos: 2, noLocal: true, retainAsPublished: true, retainHandling: 2 },
      { filter: '$share/g/b', qos: 1, noLocal: false, retainAsPublished: false, retainHandling: 1 }
    ]
  })
  t.same(decode(4, unsubscribe(['a', 'b/#'])), { type: 10, packetId: 8, filters: ['a', 'b/#'] })
  t.same(decode(5, hex('e0 07 04 05 11 0000000a')), { type: 14, reasonCode: 4, sessionExpiryInterval: 10 })
  t.same(decode(5, hex('50 03 0007 87')), { type: 5, packetId: 7, reasonCode: 0x87 })
})

t.test('what mqtt-packet writes is read, cut at every byte boundary', async t => {
  // Characters that Mosquitto refuses are not written.
  const text = fc.stringMatching(/^[a-zA-Z0-9 é€😀/]{1,12}$/u)
  const bytes = fc.uint8Array({ maxLength: 40 }).map(array => Buffer.from(array))
  const id = fc.integer({ min: 1, max: 65_535 })
  const qos = fc.constantFrom<(0 | 1 | 2)[]>(0, 1, 2)
  const properties = fc.record(
    {
      payloadFormatIndicator: fc.boolean(),
      messageExpiryInterval: fc.integer({ min: 0, max: 0xffffffff }),
      topicAlias: fc.integer({ min: 1, max: 65_535 }),
      responseTopic: text,
      correlationData: bytes,
      contentType: text,
      userProperties: fc.constant<UserProperties>({ a: 'b', c: ['d', 'e'] })
    },
    { requiredKeys: [] }
  )
  fc.assert(
    fc.property(
      fc.constantFrom<(3 | 4 | 5)[]>(3, 4, 5),
      fc.record({ topic: text, payload: bytes, qos, retain: fc.boolean(), messageId: id }),
      properties,
      (protocolVersion, fields, properties) => {
        const stream = mqttPacket.generate(
          { cmd: 'publish', dup: false, ...fields, ...(protocolVersion === 5 && { properties }) },
          { protocolVersion }
        )
        for (let cut = 1; cut <= stream.length; cut++) {
          const framing = new Framing()
          framing.append(stream.subarray(0, cut))
          t.equal(framing.next(), cut === stream.length)
          framing.append(stream.subarray(cut))
          if (cut < stream.length) t.equal(framing.next(), true)
          const found = decodePublish(protocolVersion, framing)
          if (found.type === 0) throw new Error(`${found.words}: ${stream.toString('hex')}`)
          t.equal(found.topic, fields.topic)
          t.same(payloadOf(found), fields.payload)
          t.equal(found.qos, fields.qos)
          t.equal(found.retain, fields.retain)
          t.equal(found.packetId, fields.qos === 0 ? 0 : fields.messageId)
          if (protocolVersion < 5) continue
          t.equal(found.messageExpiryInterval, properties.messageExpiryInterval)
          t.equal(found.topicAlias, properties.topicAlias)
        }
      }
    ),
    { numRuns: 60 }
  )
})

t.test('CONNECT, SUBSCRIBE and UNSUBSCRIBE of mqtt-packet are read', async t => {
  const text = fc.stringMatching(/^[a-zA-Z0-9 é€😀]{1,12}$/u)
  fc.assert(
    fc.property(
      fc.constantFrom<(3 | 4 | 5)[]>(3, 4, 5),
      text,
      text,
      text,
      fc.boolean(),
      fc.nat(65_535),
      (version, clientId, username, topic, clean, keepalive) => {
        const will = { topic, payload: Buffer.from(username), qos: 2 as const, retain: true }
        const protocolId = version === 3 ? ('MQIsdp' as const) : ('MQTT' as const)
        const stream = mqttPacket.generate({
          cmd: 'connect',
          protocolId,
          protocolVersion: version,
          clientId,
          clean,
          keepalive,
          username,
          password: Buffer.from('p'),
          will
        })
        const found = connected(stream)
        t.same(
          [found.version, found.clientId, found.clean, found.keepalive, found.username],
          [version, clientId, clean, keepalive, username]
        )
        t.same([found.will?.topic, found.will?.payload, found.will?.qos, found.will?.retain], [topic, will.payload, 2, true])
        const options = { protocolVersion: version }
        const subscriptions = [{ topic, qos: 1 as const, nl: version === 5, rap: false, rh: 0 }]
        const asked = decode(version, mqttPacket.generate({ cmd: 'subscribe', messageId: 9, subscriptions }, options))
        t.equal(asked.type === 8 && asked.subscriptions[0]?.filter, topic)
        t.equal(asked.type === 8 && asked.subscriptions[0]?.noLocal, version === 5)
        t.same(decode(version, mqttPacket.generate({ cmd: 'unsubscribe', messageId: 9, unsubscriptions: [topic] }, options)), {
          type: 10,
          packetId: 9,
          filters: [topic]
        })
      }
    )
  )
})

t.test('no bytes make the decoder throw', async t => {
  const random = seededRandom(20_260)
  const rows = [...publishRows, ...acknowledgementRows, ...subscribeRows, ...otherRows]
  const valid: [Buffer, ...Buffer[]] = [
    publish('a/b', { version: 5, qos: 1, properties: hex('01 01 02 00000009 03 0001 61 23 0001 26 0001 61 0001 62') }),
    ...connectRows.map(({ bytes }) => bytes),
    ...rows.map(({ bytes }) => bytes),
    subscribe(['a/+', '$share/g/b'], 5)
  ]
  const versions: [Version, ...Version[]] = [3, 4, 5]
  const rounds = process.env.MOSQUITERO_LONG ? 1_000_000 : 20_000
  let packets = 0
  let refused = 0
  for (let round = 0; round < rounds; round++) {
    const bytes = mutate(Buffer.from(pick(random, valid)))
    const version = pick(random, versions)
    const framing = new Framing()
    framing.limit = pick(random, [0, 0, 0, 200])
    const cut = below(random, bytes.length + 1)
    for (const chunk of [bytes.subarray(0, cut), bytes.subarray(cut)]) {
      framing.append(chunk)
      while (framing.next()) {
        const { head, buffer, start, end } = framing
        packets++
        if (decodePacket(version, framing, 'a/b').type === 0) refused++
        decodeConnect(head, buffer, start, end)
      }
    }
  }
  t.ok(packets > rounds / 2)
  t.ok(refused > rounds / 10 && refused < packets)

  function mutate(bytes: Buffer): Buffer {
    for (let changes = below(random, 4); changes > 0; changes--) {
      const at = below(random, Math.max(bytes.length, 1))
      switch (below(random, 5)) {
        case 0:
          bytes[at] = below(random, 256)
          break
        case 1:
          bytes[at] = (bytes[at] ?? 0) ^ (1 << below(random, 8))
          break
        case 2:
          bytes = Buffer.concat([bytes.subarray(0, at), randomBytes(random, below(random, 6)), bytes.subarray(at)])
          break
        case 3:
          bytes = Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + below(random, 6))])
          break
        default:
          bytes = Buffer.concat([bytes.subarray(0, at), pick(random, valid)])
      }
    }
    return bytes
  }
})
