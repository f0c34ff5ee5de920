// One encoding for all receivers: what each is given is what it would have been given alone, and never changes.

import assert from 'node:assert/strict'
import fc from 'fast-check'
import t from 'tap'
import { Message } from '../../dist/message.js'
import { encodePublish } from '../../dist/protocol/encode.js'
import { Frames, largePayload } from '../../dist/protocol/frames.js'
import type { Qos, Version } from '../../dist/protocol/packets.js'
import { messageOf } from '../helpers/session-bench.js'

const ask = fc.record({
  version: fc.constantFrom<Version>(3, 4, 5),
  qos: fc.constantFrom<Qos>(0, 1, 2),
  retain: fc.boolean(),
  dup: fc.boolean(),
  packetId: fc.oneof(fc.constantFrom(1, 255, 256, 257, 65_535), fc.integer({ min: 1, max: 4 }))
})

const size = fc.oneof(fc.nat(200), fc.constantFrom(largePayload - 1, largePayload, largePayload + 1, 200_000))

t.test('every frame is the encoding of its packet, and stays it', async () => {
  fc.assert(
    fc.property(fc.array(ask, { minLength: 1, maxLength: 25 }), size, fc.constantFrom('a', 'ä/ö', 'x'.repeat(300)), (asks, size, topic) => {
      const payload = Buffer.alloc(size, 'p')
      const properties = Buffer.of(0x01, 1)
      const frames = new Frames({ topic, payload, properties })
      assert.equal(frames.isLarge, size >= largePayload)
      assert.equal(frames.tail, frames.isLarge ? payload : undefined)
      const given: { frame: Buffer; copy: Buffer }[] = []
      for (const { version, qos, retain, dup, packetId } of asks) {
        const frame = qos === 0 ? frames.plain(version, retain) : frames.numbered(version, qos, retain, dup, packetId)
        const expected = encodePublish({ version, topic, payload, qos, dup: qos > 0 && dup, retain, packetId, properties })
        assert.ok(Buffer.concat([frame, frames.tail ?? Buffer.alloc(0)]).equals(expected))
        given.push({ frame, copy: Buffer.from(frame) })
      }
      for (const { frame, copy } of given) assert.ok(frame.equals(copy), 'a frame changed')
    })
  )
})

t.test('a packet that came in is the first one that goes out, and the mould, for its family', async t => {
  let stampedOnes = 0
  const came = fc.record({
    version: fc.constantFrom<4 | 5>(4, 5),
    qos: fc.constantFrom<1 | 2>(1, 2),
    retain: fc.boolean(),
    dup: fc.boolean()
  })
  fc.assert(
    fc.property(came, fc.array(ask, { maxLength: 10 }), size, fc.boolean(), ({ version, ...flags }, asks, length, isSeenBefore) => {
      const [payload, properties] = [Buffer.alloc(length, 'p'), Buffer.of(0x01, 1)]
      const packet = encodePublish({ version, topic: 'ä/ö', payload, properties, packetId: 513, ...flags })
      const chunk = Buffer.concat([Buffer.alloc(20, 'c'), packet, Buffer.alloc(20_000, 'c')])
      const before = Buffer.from(chunk)
      const payloadAt = 20 + packet.length - length
      const message = new Message({
        topic: 'ä/ö',
        qos: flags.qos,
        retain: flags.retain,
        raw: {
          isNew: version === 5,
          buffer: chunk,
          start: 20,
          propertiesAt: payloadAt - (version === 5 ? 2 : 0),
          payloadAt,
          end: 20 + packet.length
        }
      })
      if (isSeenBefore) assert.ok(message.payload.equals(payload))
      message.keep()
      assert.equal(message.raw, undefined)
      const expectedProperties = version === 5 ? properties : Buffer.alloc(0)
      const given: { frame: Buffer; copy: Buffer }[] = []
      for (const { version: asked, qos, retain, dup, packetId } of asks) {
        const at = qos === 0 ? -1 : message.stampPacket(asked, qos, retain, dup, packetId)
        stampedOnes += at < 0 ? 0 : 1
        const { frames } = message
        const other = () => (qos === 0 ? frames.plain(asked, retain) : frames.numbered(asked, qos, retain, dup, packetId))
        const frame = at < 0 ? other() : message.buffer.subarray(at, message.end)
        const tail = at < 0 ? frames.tail : undefined
        const fields = { version: asked, topic: 'ä/ö', payload, qos, dup: qos > 0 && dup, retain, packetId, properties: expectedProperties }
        assert.ok(Buffer.concat([frame, tail ?? Buffer.alloc(0)]).equals(encodePublish(fields)))
        given.push({ frame, copy: Buffer.from(frame) })
      }
      for (const { frame, copy } of given) assert.ok(frame.equals(copy), 'a frame changed')
      assert.ok(message.payload.equals(payload))
      assert.equal(message.payloadLength, length)
      assert.ok(message.properties.equals(expectedProperties))
      assert.ok(chunk.equals(before), 'the chunk changed')
    })
  )
  t.ok(stampedOnes > 10, 'the packet itself was given')
})

t.test('the packet that came in is for the first receiver and for who is in step with it', async t => {
  const chunk = encodePublish({ version: 4, topic: 'a', payload: Buffer.from('x'), qos: 1, retain: false, packetId: 9 })
  const raw = { isNew: false, buffer: chunk, start: 0, propertiesAt: chunk.length - 1, payloadAt: chunk.length - 1, end: chunk.length }
  const message = new Message({ topic: 'a', qos: 1, retain: false, raw })
  t.equal(message.stampPacket(4, 1, false, false, 7), -1, 'not while it lies in memory of others')
  message.keep()
  t.equal(message.stampPacket(5, 1, false, false, 7), -1)
  const first = message.stampPacket(4, 1, false, false, 7)
  t.ok(first >= 0)
  t.equal(message.stampPacket(3, 1, false, false, 7), first)
  t.equal(message.stampPacket(4, 1, false, false, 8), -1)
  t.equal(message.stampPacket(4, 1, false, true, 7), -1)
  t.equal(message.stampPacket(4, 2, false, false, 7), -1)
  t.equal(message.stampPacket(4, 1, true, false, 7), -1)
  t.equal(message.buffer.readUInt16BE(message.payloadAt - 2), 7)
  t.equal(message.frames.numbered(4, 1, false, false, 8).readUInt16BE(chunk.length - 3), 8)
  t.equal(message.buffer.readUInt16BE(message.payloadAt - 2), 7, 'it may be on its way')
})

t.test('receivers in step share a frame; each family has its own', async t => {
  const { frames } = messageOf('a')
  const first = frames.numbered(4, 1, false, false, 7)
  t.equal(frames.numbered(3, 1, false, false, 7), first)
  t.equal(frames.numbered(4, 1, false, false, 7), first)
  t.not(frames.numbered(4, 1, false, false, 8), first)
  t.not(frames.numbered(4, 1, false, false, 7 + 256), first)
  t.not(frames.numbered(4, 2, false, false, 7), first)
  t.not(frames.numbered(4, 1, true, false, 7), first)
  t.not(frames.numbered(4, 1, false, true, 7), first)
  t.not(frames.numbered(5, 1, false, false, 7), first)
  t.equal(frames.plain(4, false), frames.plain(3, false))
  t.equal(frames.plain(5, true), frames.plain(5, true))
  t.not(frames.plain(5, true), frames.plain(5, false))
})

t.test('a message that stays keeps its own bytes, not the chunk they came in', async t => {
  const chunk = Buffer.allocUnsafeSlow(65_536).fill('c')
  const fields = { topic: 'a', qos: 1, retain: false } as const
  const small = new Message({ ...fields, payload: chunk.subarray(0, 100), properties: chunk.subarray(100, 110) })
  const most = new Message({ ...fields, payload: chunk.subarray(0, 60_000) })
  small.keep()
  most.keep()
  t.not(small.payload.buffer, chunk.buffer)
  t.not(small.properties.buffer, chunk.buffer)
  t.equal(small.payload.toString(), 'c'.repeat(100))
  t.equal(most.payload.buffer, chunk.buffer)
  const pooled = new Message({ ...fields, payload: Buffer.from('pooled') })
  const { payload } = pooled
  pooled.keep()
  t.equal(pooled.payload, payload)
})

t.test('a message that stays for long lies alone, whatever was made of it before', async t => {
  const payload = Buffer.from('x'.repeat(40))
  const properties = Buffer.of(0x01, 1)
  const chunk = Buffer.concat([
    encodePublish({ version: 5, topic: 'a', payload, properties, qos: 1, retain: false, packetId: 9 }),
    Buffer.alloc(9000)
  ])
  const end = chunk.length - 9000
  const raw = { isNew: true, buffer: chunk, start: 0, propertiesAt: end - 42, payloadAt: end - 40, end }
  const came = Buffer.from(chunk)
  const isAlone = (message: Message) => [message.payload, message.properties].every(({ buffer }) => buffer.byteLength < 100)
  for (const before of ['nothing', 'kept', 'sent', 'framed'] as const) {
    const message = new Message({ topic: 'a', qos: 1, retain: false, raw })
    if (before !== 'nothing') message.keep()
    const first = before === 'sent' || before === 'framed' ? message.stampPacket(5, 1, false, false, 7) : -1
    const [sent, copy] = [message.buffer, Buffer.from(message.buffer)]
    if (before === 'framed') message.frames.numbered(5, 1, false, false, 8)
    message.settle()
    t.ok(isAlone(message), before)
    t.same([message.payload, message.properties, message.raw], [payload, properties, undefined], before)
    t.equal(message.payloadLength, 40)
    t.equal(message.frames.numbered(5, 1, false, false, 700).readUInt16BE(5), 700, before)
    t.ok(message.frames.numbered(5, 1, false, false, 700).subarray(-40).equals(payload))
    if (first >= 0) t.ok(sent.equals(copy), 'what was sent stays')
    t.ok(message.stampPacket(5, 1, false, false, 7) >= 0, before)
    t.ok(chunk.equals(came), 'the chunk stays')
    message.settle()
    message.keep()
    t.ok(isAlone(message))
  }
  const apart = new Message({ topic: 'a', qos: 0, retain: true, payload: chunk.subarray(0, 10), properties: chunk.subarray(20, 25) })
  apart.settle()
  t.ok(isAlone(apart))
  t.same([apart.payload, apart.properties], [chunk.subarray(0, 10), chunk.subarray(20, 25)])
  t.not(apart.frames, apart.frames, 'frames do not stay with it')
})

t.test('nobody can give away the memory that kept messages share', async t => {
  const chunk = encodePublish({ version: 4, topic: 'a', payload: Buffer.from('x'), qos: 1, retain: false, packetId: 9 })
  const [payloadAt, end] = [chunk.length - 1, chunk.length]
  const raw = { isNew: false, buffer: chunk, start: 0, propertiesAt: payloadAt, payloadAt, end }
  const [one, other] = [new Message({ topic: 'a', qos: 1, retain: false, raw }), new Message({ topic: 'a', qos: 1, retain: false, raw })]
  one.keep()
  other.keep()
  t.equal(one.payload.buffer, other.payload.buffer)
  const { port1, port2 } = new MessageChannel()
  // Node 20 ignores it, later ones throw.
  const give = () => port1.postMessage(one.payload, [one.payload.buffer as ArrayBuffer])
  try {
    give()
  } catch (error) {
    t.match(error, { name: 'DataCloneError' })
  }
  port1.close()
  port2.close()
  t.equal(other.payload.toString(), 'x')
})

t.test('how long a message lives', async t => {
  const message = messageOf('a', { expiresAt: 10_000 })
  t.same([message.hasExpired(9999), message.hasExpired(10_000)], [false, true])
  t.same(
    [0, 8999, 9000, 9001, 9999].map(now => message.secondsLeft(now)),
    [10, 2, 1, 1, 1]
  )
  t.equal(messageOf('a').hasExpired(Number.MAX_SAFE_INTEGER), false)
})
