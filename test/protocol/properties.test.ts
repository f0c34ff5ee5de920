import mqttPacket from 'mqtt-packet'
import t from 'tap'
import { decodeProperties, encodeProperties, type Properties, places, properties } from '../../dist/protocol/properties.js'

const all: Properties = {
  payloadFormatIndicator: true,
  messageExpiryInterval: 4_000_000_000,
  contentType: 'text/é',
  responseTopic: 'a/b',
  correlationData: Buffer.of(0, 255),
  subscriptionIdentifier: 300,
  sessionExpiryInterval: 7,
  assignedClientIdentifier: 'auto-1',
  serverKeepAlive: 60,
  authenticationMethod: 'm',
  authenticationData: Buffer.of(1),
  requestProblemInformation: false,
  willDelayInterval: 3,
  requestResponseInformation: true,
  responseInformation: 'i',
  serverReference: 's',
  reasonString: '',
  receiveMaximum: 65_535,
  topicAliasMaximum: 10,
  topicAlias: 1,
  maximumQoS: 1,
  retainAvailable: false,
  userProperties: { a: 'b', c: ['d', 'e'] },
  maximumPacketSize: 2_000_000,
  wildcardSubscriptionAvailable: true,
  subscriptionIdentifiersAvailable: true,
  sharedSubscriptionAvailable: true
}

t.test('every property is read as it was written', async t => {
  t.same(Object.keys(all), Object.keys(properties))
  const read = decodeProperties(encodeProperties(all))
  t.same(JSON.stringify(read), JSON.stringify(all))
})

t.test("names and shapes are mqtt-packet's", async t => {
  const { payloadFormatIndicator, messageExpiryInterval, contentType, responseTopic, correlationData, userProperties, topicAlias } = all
  const publish = { payloadFormatIndicator, messageExpiryInterval, contentType, responseTopic, correlationData, userProperties, topicAlias }
  const bytes = Buffer.concat([Buffer.from('0001610000', 'hex').subarray(0, 3), Buffer.alloc(1), encodeProperties(publish)])
  bytes[3] = bytes.length - 4
  const parser = mqttPacket.parser({ protocolVersion: 5 })
  const seen: unknown[] = []
  parser.on('packet', packet => seen.push(packet.cmd === 'publish' && packet.properties))
  parser.parse(Buffer.concat([Buffer.of(0x30, bytes.length), bytes]))
  t.equal(JSON.stringify(seen), JSON.stringify([publish]))
  t.equal(JSON.stringify(decodeProperties(encodeProperties(publish))), JSON.stringify(publish))
})

t.test('a repeated subscription identifier and a user property called __proto__ are kept', async t => {
  t.same(decodeProperties(Buffer.from('0b010b02', 'hex')).subscriptionIdentifier, [1, 2])
  t.equal(encodeProperties({ subscriptionIdentifier: [1, 2] }).toString('hex'), '0b010b02')
  const read = decodeProperties(Buffer.concat([Buffer.from('260009', 'hex'), Buffer.from('__proto__'), Buffer.from('000161', 'hex')]))
  t.equal(Object.entries(read.userProperties ?? {}).join(), '__proto__,a')
})

t.test('bytes that are cut off give what stands before', async t => {
  const bytes = encodeProperties(all)
  for (let length = 0; length < bytes.length; length++) {
    const read = decodeProperties(bytes.subarray(0, length))
    t.ok(Object.keys(read).length < Object.keys(all).length || JSON.stringify(read) !== JSON.stringify(all))
  }
  t.same(decodeProperties(Buffer.from('0400', 'hex')), {})
})

t.test('values that a property can not have are a TypeError', async t => {
  for (const [wrong, message] of [
    [{ topicAlias: 65_536 }, /topicAlias is a whole number from 1 to 65535/],
    [{ topicAlias: 0 }, /topicAlias/],
    [{ contentType: 'a\0' }, /contentType is text without control characters/],
    [{ contentType: '\udc00' }, /contentType is text without control characters/],
    [{ responseTopic: 'a/+' }, /responseTopic is a topic name/],
    [{ userProperties: { a: 'b\0' } }, /userProperties is text without control characters/],
    [{ topicAlias: -1 }, /topicAlias/],
    [{ messageExpiryInterval: 1.5 }, /messageExpiryInterval/],
    [{ subscriptionIdentifier: 268_435_456 }, /subscriptionIdentifier/],
    [{ contentType: 'x'.repeat(65_536) }, /contentType is at most 65535 bytes long/]
  ] as const) {
    t.throws(() => encodeProperties(wrong), { name: 'TypeError', message })
  }
  const untyped: object = JSON.parse('{"topicAlias":"1","userProperties":3,"contentType":5,"unknown":1}')
  for (const [name, value] of Object.entries(untyped).slice(0, 3)) t.throws(() => encodeProperties({ [name]: value }), TypeError)
  t.equal(encodeProperties(JSON.parse('{"unknown":1,"contentType":null}')).length, 0)
  t.throws(() => encodeProperties(JSON.parse('{"payloadFormatIndicator":2}')), TypeError)
  t.throws(() => encodeProperties(JSON.parse('{"contentType":["a","b"]}')), TypeError)
  t.throws(() => encodeProperties({ sessionExpiryInterval: 1 }, places.publish), TypeError)
  t.equal(encodeProperties({ sessionExpiryInterval: 1 }, places.connect).length, 5)
})
