import fc from 'fast-check'
import mqttPacket from 'mqtt-packet'
import t from 'tap'
import { decodePublish } from '../../dist/protocol/decode.js'
import {
  type Answer,
  connackProperties,
  encodeAcknowledgement,
  encodeConnack,
  encodeDisconnect,
  encodePublish,
  encodePublishHead,
  encodeSuback,
  encodeUnsuback,
  type OutgoingPublish,
  packetIdAt,
  pingresp,
  publishSize
} from '../../dist/protocol/encode.js'
import { Framing } from '../../dist/protocol/framing.js'
import { payloadOf, propertiesOf } from '../../dist/protocol/packets.js'

const plain: OutgoingPublish = { version: 4, topic: 'a/b', payload: Buffer.from('xy'), qos: 0, retain: false }

// As they are sent.
function bytesOf(answer: Answer): Buffer {
  if (typeof answer !== 'number') return answer
  const bytes = Buffer.alloc(4)
  bytes.writeInt32BE(answer)
  return bytes
}

t.test("every packet has Mosquitto's bytes", async t => {
  const defaults = { topicAliasMaximum: 10, maximumPacketSize: 2_000_000, receiveMaximum: 20 }
  const rows: [bytes: Buffer, expected: string][] = [
    [encodeConnack(4, false, 0), '20020000'],
    [encodeConnack(3, true, 0), '20020100'],
    [encodeConnack(4, false, 5), '20020005'],
    [encodeConnack(5, false, 0, connackProperties(defaults)), '200e00000b22000a27001e8480210014'],
    [encodeConnack(5, true, 0, connackProperties({})), '2003010000'],
    [encodeConnack(5, false, 0x87), '2003008700'],
    [
      connackProperties({
        ...defaults,
        serverKeepAlive: 60,
        assignedClientIdentifier: 'ab',
        retainAvailable: false,
        maximumQos: 1
      }),
      '13003c22000a12000261622500' + '27001e8480' + '210014' + '2401'
    ],
    [connackProperties({ maximumQos: 0 }), '2400'],
    [bytesOf(encodeAcknowledgement(4, 0x1234, 0, 4)), '40021234'],
    [bytesOf(encodeAcknowledgement(4, 0x1234, 0x87, 4)), '40021234'],
    [bytesOf(encodeAcknowledgement(4, 1, 0, 5)), '40020001'],
    [bytesOf(encodeAcknowledgement(4, 1, 0x10, 5)), '4003000110'],
    [bytesOf(encodeAcknowledgement(5, 1, 0x97, 5)), '5003000197'],
    [bytesOf(encodeAcknowledgement(6, 1, 0, 5)), '62020001'],
    [bytesOf(encodeAcknowledgement(6, 1, 0x92, 5)), '6203000192'],
    [bytesOf(encodeAcknowledgement(7, 65_535, 0, 3)), '7002ffff'],
    [encodeSuback(4, 7, [0, 1, 2, 0x80]), '9006000700010280'],
    [encodeSuback(5, 7, [0, 1]), '90050007000001'],
    [encodeSuback(5, 7, [0x87], Buffer.from('1f000161', 'hex')), '90080007041f00016187'],
    [encodeUnsuback(4, 7, [0, 0x11]), 'b0020007'],
    [encodeUnsuback(5, 7, [0, 0x11]), 'b0050007000011'],
    [encodeDisconnect(0x81), 'e00181'],
    [encodeDisconnect(0x8e, Buffer.from('1f000161', 'hex')), 'e0068e041f000161'],
    [pingresp, 'd000'],
    [encodePublish(plain), '30070003612f627879'],
    [encodePublish({ ...plain, qos: 1, packetId: 258, dup: true, retain: true }), '3b090003612f6201027879'],
    [encodePublish({ ...plain, qos: 2, packetId: 1, payload: Buffer.alloc(0) }), '34070003612f620001'],
    [encodePublish({ ...plain, topic: 'é', topicAlias: 1, subscriptionIdentifier: 3 }), '30060002c3a97879'],
    [encodePublish({ ...plain, version: 5 }), '30080003612f62007879'],
    [
      encodePublish({
        ...plain,
        version: 5,
        properties: Buffer.from('0101', 'hex'),
        messageExpiryInterval: 0xfffffffe,
        topicAlias: 2,
        subscriptionIdentifier: 300
      }),
      '30150003612f620d010102fffffffe2300020bac027879'
    ],
    [encodePublish({ ...plain, version: 5, topicAlias: 2, aliasOnly: true }), '300800000323000278' + '79']
  ]
  for (const [bytes, expected] of rows) t.equal(bytes.toString('hex'), expected)
})

t.test('lengths are right at every border of their encoding', async t => {
  for (const length of [0, 1, 120, 121, 122, 123, 16_376, 16_377, 16_378, 16_379, 2_097_144, 2_097_145, 2_097_146, 2_097_147]) {
    const publish = { ...plain, payload: Buffer.alloc(length, 7) }
    const bytes = encodePublish(publish)
    t.equal(bytes.length, publishSize(publish))
    t.same(Buffer.concat([encodePublishHead(publish), publish.payload]), bytes)
    const framing = new Framing()
    framing.append(bytes)
    t.ok(framing.next() && framing.end === bytes.length && framing.minimal)
  }
  const codes = Array.from({ length: 200 }, () => 1)
  t.equal(encodeSuback(5, 1, codes).toString('hex', 0, 6), '90cb01000100')
})

t.test('the packet identifier can be patched', async t => {
  for (const length of [0, 200, 20_000]) {
    for (const version of [4, 5] as const) {
      const publish = { ...plain, version, qos: 1 as const, payload: Buffer.alloc(length) }
      const frame = encodePublish({ ...publish, packetId: 1 })
      frame.writeUInt16BE(0xabcd, packetIdAt(frame, 0))
      t.same(frame, encodePublish({ ...publish, packetId: 0xabcd }))
    }
  }
})

t.test('what is written is read by the decoder and by mqtt-packet', async t => {
  const publishes = fc.record({
    version: fc.constantFrom<(3 | 4 | 5)[]>(3, 4, 5),
    topic: fc.stringMatching(/^[a-z é€😀/]{1,20}$/u),
    payload: fc.uint8Array({ maxLength: 300 }).map(array => Buffer.from(array)),
    qos: fc.constantFrom<(0 | 1 | 2)[]>(0, 1, 2),
    retain: fc.boolean(),
    packetId: fc.integer({ min: 1, max: 65_535 }),
    properties: fc.constantFrom(Buffer.alloc(0), Buffer.from('0101030001612600016100' + '0162', 'hex')),
    messageExpiryInterval: fc.option(fc.nat(), { nil: undefined }),
    topicAlias: fc.integer({ min: 1, max: 10 }),
    subscriptionIdentifier: fc.constantFrom(0, 1, 268_435_455)
  })
  fc.assert(
    fc.property(publishes, publish => {
      const bytes = encodePublish(publish)
      t.equal(bytes.length, publishSize(publish))
      const parser = mqttPacket.parser({ protocolVersion: publish.version })
      parser.on('packet', read => {
        if (read.cmd !== 'publish') throw new Error(read.cmd)
        t.same([read.topic, read.payload, read.qos, read.retain], [publish.topic, publish.payload, publish.qos, publish.retain])
        if (publish.version < 5) return
        t.equal(read.properties?.messageExpiryInterval, publish.messageExpiryInterval)
        t.equal(read.properties?.topicAlias, publish.topicAlias)
        t.equal(read.properties?.subscriptionIdentifier ?? 0, publish.subscriptionIdentifier)
        t.equal(read.properties?.contentType, publish.properties.length > 0 ? 'a' : undefined)
      })
      t.equal(parser.parse(bytes), 0)

      const framing = new Framing()
      // Only the broker may send a subscription identifier.
      framing.append(encodePublish({ ...publish, subscriptionIdentifier: 0 }))
      t.ok(framing.next())
      const found = decodePublish(publish.version, framing)
      if (found.type === 0) throw new Error(found.words)
      t.same([found.topic, payloadOf(found), found.qos, found.retain], [publish.topic, publish.payload, publish.qos, publish.retain])
      t.equal(found.packetId, publish.qos === 0 ? 0 : publish.packetId)
      if (publish.version < 5) return
      t.same(propertiesOf(found), publish.properties)
      t.equal(found.messageExpiryInterval, publish.messageExpiryInterval)
      t.equal(found.topicAlias, publish.topicAlias)
    })
  )
})
