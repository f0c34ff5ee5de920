import fc from 'fast-check'
import t from 'tap'
import { Framing } from '../../dist/protocol/framing.js'
import { packet, publish } from '../helpers/raw-mqtt.js'

interface Found {
  readonly head: number
  readonly frame: string
  readonly body: string
  readonly minimal: boolean
}

function drain(framing: Framing): Found[] {
  const found: Found[] = []
  while (framing.next()) {
    const { head, buffer, frameStart, start, end, minimal } = framing
    found.push({ head, frame: buffer.toString('hex', frameStart, end), body: buffer.toString('hex', start, end), minimal })
  }
  return found
}

function feed(chunks: readonly Buffer[]): Found[] {
  const framing = new Framing()
  return chunks.flatMap(chunk => {
    framing.append(chunk)
    return drain(framing)
  })
}

t.test('packets are found however the stream is cut', async t => {
  const bodies = fc.array(fc.uint8Array({ maxLength: 300 }), { minLength: 1, maxLength: 5 })
  fc.assert(
    fc.property(bodies, fc.array(fc.nat(1600), { maxLength: 8 }), fc.boolean(), (bodies, cuts, atOnce) => {
      const packets = bodies.map((body, i) => packet(0x30 + i, Buffer.from(body)))
      const stream = Buffer.concat(packets)
      const places = [0, ...cuts.filter(cut => cut < stream.length).sort((a, b) => a - b), stream.length]
      const chunks = places.slice(1).map((end, i) => stream.subarray(places[i], end))
      const framing = new Framing()
      if (atOnce) for (const chunk of chunks) framing.append(chunk)
      const found = atOnce ? drain(framing) : feed(chunks)
      t.same(
        found.map(({ frame }) => frame),
        packets.map(bytes => bytes.toString('hex'))
      )
      t.same(
        found.map(({ body }) => body),
        bodies.map(body => Buffer.from(body).toString('hex'))
      )
    })
  )
})

t.test('a stream is cut at every byte boundary, and comes byte by byte', async t => {
  const packets = [packet(0xc0), publish('a/b', { payload: 'x'.repeat(200) }), packet(0xc0), publish('c', { payload: 'y'.repeat(20_000) })]
  const stream = Buffer.concat(packets)
  const expected = feed([stream])
  t.equal(expected.length, 4)
  for (let cut = 1; cut < 300; cut++) t.same(feed([stream.subarray(0, cut), stream.subarray(cut)]), expected)
  t.same(feed([...stream].map(byte => Buffer.of(byte))), expected)
})

t.test('a packet that lies in one chunk is not copied', async t => {
  const chunk = Buffer.concat([packet(0xc0), publish('a')])
  const framing = new Framing()
  framing.append(chunk)
  t.ok(framing.next())
  t.equal(framing.buffer, chunk)
  t.equal(framing.end, 2)
  t.ok(framing.next())
  t.equal(framing.buffer, chunk)
  t.equal(framing.frameStart, 2)
  t.notOk(framing.next())
  t.equal(framing.buffer.length, 0)
})

t.test('a chunk that is appended before the earlier ones are used up waits for its turn', async t => {
  const framing = new Framing()
  framing.append(packet(0x30, Buffer.from('a')))
  framing.append(packet(0x31, Buffer.from('b')))
  t.ok(framing.next())
  t.equal(framing.buffered, 3)
  framing.append(packet(0x32, Buffer.from('c')))
  t.same(
    drain(framing).map(({ head }) => head),
    [0x31, 0x32]
  )
})

t.test('it says how many bytes it holds, and the first byte of the packet that has begun', async t => {
  const framing = new Framing()
  t.equal(framing.head, -1)
  framing.append(Buffer.from('320a00', 'hex'))
  t.notOk(framing.next())
  t.equal(framing.head, 0x32)
  t.equal(framing.buffered, 3)
  framing.append(Buffer.alloc(11))
  t.ok(framing.next())
  t.equal(framing.buffered, 2)
})

t.test('a length that is longer than it must be is told', async t => {
  for (const [bytes, minimal] of [
    ['c000', true],
    ['c08000', false],
    ['c0808000', false],
    ['c080808000', false],
    [`30808001${'00'.repeat(16_384)}`, true],
    [`307f${'00'.repeat(127)}`, true]
  ] as const) {
    const stream = Buffer.from(bytes, 'hex')
    t.same(
      feed([stream]).map(found => found.minimal),
      [minimal]
    )
    t.same(
      feed([...stream].map(byte => Buffer.of(byte))).map(found => found.minimal),
      [minimal]
    )
  }
})

t.test('a fault is known as soon as the header is, however it comes, and nothing follows it', async t => {
  for (const [bytes, limit, fault] of [
    ['30 80 80 80 80', 0, 'malformed'],
    ['30 ff ff ff ff 7f', 100, 'malformed'],
    ['30 64', 100, 'oversize'],
    ['30 63', 100, undefined],
    ['30 ff ff ff 7f', 100, 'oversize'],
    ['30 ff ff ff 7f', 0, undefined],
    ['00', 0, 'reserved'],
    ['0a c0', 0, 'reserved']
  ] as const) {
    const stream = Buffer.from(bytes.replaceAll(' ', ''), 'hex')
    for (const chunks of [[stream], [...stream].map(byte => Buffer.of(byte))]) {
      const framing = new Framing()
      framing.limit = limit
      for (const chunk of chunks) {
        framing.append(chunk)
        t.notOk(framing.next())
      }
      t.equal(framing.fault, fault, bytes)
      if (fault === undefined) continue
      framing.append(packet(0xc0))
      t.notOk(framing.next())
      t.equal(framing.buffered, 0)
    }
  }
})

t.test('a megabyte that comes byte by byte costs no quadratic time, an announced length no memory', async t => {
  const stream = publish('a', { payload: Buffer.alloc(1_000_000, 1) })
  t.equal(feed([...stream].map(byte => Buffer.of(byte)))[0]?.frame.length, 2 * stream.length)

  const before = process.memoryUsage().arrayBuffers
  const many = Array.from({ length: 50 }, () => {
    const framing = new Framing()
    framing.append(Buffer.from('30ffffff7f0000', 'hex'))
    t.notOk(framing.next())
    return framing
  })
  t.ok(process.memoryUsage().arrayBuffers - before < many.length * 100_000)
})
