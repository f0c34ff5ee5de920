// What leaves an outbox is what came in, in order, in writes of a size that has an end, whatever the stream does.

import assert from 'node:assert/strict'
import { Writable } from 'node:stream'
import fc from 'fast-check'
import t from 'tap'
import { Flusher } from '../../dist/session/flusher.js'
import { Outbox } from '../../dist/session/outbox.js'
import { turn } from '../helpers/session-bench.js'

const writeSize = 65_536

/** Takes a write when it is told to. */
class SlowStream extends Writable {
  readonly got: Buffer[] = []
  /** Bytes of each write: corked ones are one. */
  readonly writes: number[] = []
  #held: (() => void) | undefined
  isOpen: boolean

  constructor(isOpen: boolean) {
    super({ highWaterMark: 1 })
    this.isOpen = isOpen
  }

  override _writev(chunks: { chunk: Buffer }[], done: (error?: Error | null) => void): void {
    const all = Buffer.concat(chunks.map(({ chunk }) => chunk))
    this.writes.push(all.length)
    const take = () => {
      // As it is when it leaves.
      this.got.push(all)
      done()
    }
    if (this.isOpen) take()
    else this.#held = take
  }

  release(): void {
    const held = this.#held
    this.#held = undefined
    held?.()
  }

  get text(): Buffer {
    return Buffer.concat(this.got)
  }
}

type Step =
  | { kind: 'push'; to: number; piece: number; more: number | undefined; each: boolean }
  | { kind: 'words'; to: number; word: number; count: number; each: boolean }
  | { kind: 'forward'; to: number; chunk: number; count: number; length: number; each: boolean }
  | { kind: 'turn' }
  | { kind: 'release'; to: number }

// Views of the same memory too: the same place with another length, another place with the same length.
const base = Buffer.from(Array.from({ length: 200_000 }, (_, i) => (i * 31 + (i >> 8)) & 0xff))
const sizes = [1, 2, 30, 48, 49, 500, 1023, 1024, 5000, 16_384, 65_535, 65_536, 65_537, 150_000]
const pieces = sizes.flatMap((size, i) => [
  base.subarray(0, size),
  base.subarray(i + 1, i + 1 + size),
  Buffer.from(base.subarray(7, 7 + size))
])
const chunks = Array.from({ length: 3 }, (_, i) => Buffer.from(base.subarray(i, 65_536 + i)))

class Bench {
  readonly stream: SlowStream
  readonly outbox: Outbox
  readonly #expected: Buffer[] = []
  /** Where each packet begins. */
  readonly #starts: number[] = []
  #length = 0
  #at = 0

  constructor(flusher: Flusher, isOpen: boolean) {
    this.stream = new SlowStream(isOpen)
    this.outbox = new Outbox(this.stream, flusher, () => {})
  }

  push(packet: Buffer, more: Buffer | undefined): void {
    this.outbox.push(packet, more)
    this.#expect(more === undefined ? packet : Buffer.concat([packet, more]))
  }

  forward(chunk: Buffer, count: number, length: number): void {
    for (let i = 0; i < count; i++) {
      if (this.#at + length > chunk.length) this.#at = 0
      this.outbox.forward(chunk, this.#at, this.#at + length)
      this.#expect(chunk.subarray(this.#at, this.#at + length))
      this.#at += length
    }
    this.#at += 3
  }

  words(word: number, count: number): void {
    for (let i = 0; i < count; i++) {
      const bytes = Buffer.alloc(4)
      bytes.writeInt32BE(word + i)
      this.outbox.pushWord(word + i)
      this.#expect(bytes)
    }
  }

  #expect(bytes: Buffer): void {
    this.#starts.push(this.#length)
    this.#expected.push(bytes)
    this.#length += bytes.length
  }

  check(): void {
    const { stream, outbox } = this
    assert.ok(stream.writableLength <= writeSize, `${stream.writableLength} bytes under way`)
    const got = stream.got.reduce((sum, { length }) => sum + length, 0)
    assert.equal(got + stream.writableLength + outbox.bytes, this.#length, 'bytes')
    const left = this.#length - outbox.bytes
    const notBegun = this.#starts.filter(start => start >= left).length
    assert.ok(outbox.waiting >= notBegun, 'waiting')
    if (outbox.bytes === 0) assert.equal(outbox.waiting, 0)
    assert.equal(outbox.hasRoom, outbox.bytes < writeSize)
  }

  async finish(byEnd: boolean): Promise<void> {
    if (byEnd) {
      this.outbox.end()
      this.stream.isOpen = true
      this.stream.release()
      await turn()
      this.outbox.push(Buffer.from('more'))
      this.outbox.forward(base, 0, 10)
      assert.ok(this.stream.writableEnded)
    } else {
      for (let i = 0; i < 5000 && (this.outbox.bytes > 0 || this.stream.writableLength > 0); i++) {
        await turn()
        this.stream.release()
        this.check()
      }
      assert.ok(this.stream.writes.every(bytes => bytes <= writeSize))
    }
    await turn()
    assert.equal(this.outbox.bytes, 0)
    assert.equal(this.outbox.waiting, 0)
    assert.ok(this.stream.text.equals(Buffer.concat(this.#expected)), 'what arrived')
  }
}

const outboxes = 3

const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constant('push' as const),
      to: fc.nat(outboxes - 1),
      piece: fc.oneof({ weight: 5, arbitrary: fc.nat(14) }, { weight: 1, arbitrary: fc.nat(pieces.length - 1) }),
      more: fc.option(fc.nat(pieces.length - 1), { nil: undefined, freq: 4 }),
      each: fc.boolean()
    })
  },
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constant('forward' as const),
      to: fc.nat(outboxes - 1),
      chunk: fc.nat(chunks.length - 1),
      count: fc.integer({ min: 1, max: 5 }),
      length: fc.constantFrom(2, 40, 700, 20_000),
      each: fc.boolean()
    })
  },
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constant('words' as const),
      to: fc.nat(outboxes - 1),
      word: fc.constantFrom(0x40020001, 0x7002fff0, 0x6202ffff),
      // Of all three together more than the room for words has at a time.
      count: fc.oneof(fc.constantFrom(1, 2, 20, 80), fc.constant(700)),
      each: fc.boolean()
    })
  },
  { weight: 3, arbitrary: fc.constant({ kind: 'turn' as const }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('release' as const), to: fc.nat(outboxes - 1) }) }
)

t.test('bytes leave in the order in which they came, each outbox its own', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(step, { maxLength: 40, size: 'max' }),
      fc.array(fc.boolean(), { minLength: 6, maxLength: 6 }),
      async (steps, how) => {
        const flusher = new Flusher()
        const benches = Array.from({ length: outboxes }, (_, i) => new Bench(flusher, how[i] === true))
        const each = (to: number, all: boolean) => benches.filter((_, i) => all || i === to)
        for (const step of steps) {
          if (step.kind === 'push') {
            const [packet, more] = [pieces[step.piece], step.more === undefined ? undefined : pieces[step.more]]
            if (packet !== undefined) for (const bench of each(step.to, step.each)) bench.push(packet, more)
          } else if (step.kind === 'forward') {
            const chunk = chunks[step.chunk]
            if (chunk !== undefined) for (const bench of each(step.to, step.each)) bench.forward(chunk, step.count, step.length)
          } else if (step.kind === 'words') {
            for (const bench of each(step.to, step.each)) bench.words(step.word, step.count)
          } else if (step.kind === 'turn') await turn()
          else benches[step.to]?.stream.release()
          for (const bench of benches) bench.check()
        }
        for (const [i, bench] of benches.entries()) await bench.finish(how[i + 3] === true)
      }
    ),
    { numRuns: 400 }
  )
})

t.test('words that follow one another leave as one piece, those of others between them or not', async t => {
  const flusher = new Flusher()
  const [a, b] = [new SlowStream(true), new SlowStream(true)]
  const [first, second] = [new Outbox(a, flusher, () => {}), new Outbox(b, flusher, () => {})]
  for (let i = 0; i < 2; i++) {
    first.pushWord(0x40020001 + i)
    second.pushWord(0x70020101 + i)
  }
  t.equal(first.waiting, 2)
  await turn()
  t.same([a.text.toString('hex'), b.text.toString('hex')], ['4002000140020002', '7002010170020102'])
  t.same([a.writes, b.writes], [[8], [8]])
})

t.test('packets of one turn are one write, and receivers of the same share its bytes', async t => {
  const flusher = new Flusher()
  const streams = [new SlowStream(true), new SlowStream(true)]
  const sent: unknown[] = []
  const boxes = streams.map(stream => {
    const { write } = stream
    stream.write = ((...args: Parameters<typeof write>) => {
      sent.push(args[0])
      return Reflect.apply(write, stream, args)
    }) as typeof write
    return new Outbox(stream, flusher, () => {})
  })
  const packets = ['one', 'two', 'three'].map(text => Buffer.from(text))
  for (const packet of packets) for (const box of boxes) box.push(packet)
  t.same(
    streams.map(({ writes }) => writes.length),
    [0, 0]
  )
  await turn()
  await turn()
  t.same(
    streams.map(({ writes }) => writes),
    [[11], [11]]
  )
  t.equal(sent.length, 2)
  t.equal(sent[0], sent[1])
})

t.test('what stays longer than a turn has memory of its own, unless it is most of what it lies in', async t => {
  const stream = new SlowStream(false)
  const outbox = new Outbox(stream, new Flusher(), () => {})
  const small = Buffer.allocUnsafeSlow(40_000).fill('s')
  const most = Buffer.allocUnsafeSlow(40_000).fill('m')
  outbox.push(Buffer.from('first '))
  await turn()
  outbox.forward(small, 10, 13)
  outbox.forward(small, 13, 15)
  outbox.push(small.subarray(0, 4))
  outbox.forward(most, 0, 30_000)
  t.equal(outbox.isBehind, false)
  await turn()
  t.equal(outbox.isBehind, true)
  t.equal(outbox.waiting, 4)
  small.fill('X')
  most.fill('Y')
  stream.isOpen = true
  stream.release()
  await turn()
  await turn()
  t.equal(stream.text.subarray(0, 15).toString(), 'first sssssssss')
  t.equal(stream.text.subarray(15).toString(), 'Y'.repeat(30_000))
  t.equal(outbox.isBehind, false)
})

t.test('what a write leaves behind has memory of its own too', async t => {
  const stream = new SlowStream(false)
  const outbox = new Outbox(stream, new Flusher(), () => {})
  const chunk = Buffer.allocUnsafeSlow(40_000).fill('s')
  outbox.push(Buffer.alloc(writeSize, 'a'))
  outbox.forward(chunk, 0, 5)
  await turn()
  chunk.fill('X')
  stream.isOpen = true
  stream.release()
  await turn()
  await turn()
  t.equal(stream.text.subarray(writeSize).toString(), 'sssss')
})

t.test('memory that was given away before its turn costs that connection alone', async t => {
  const flusher = new Flusher()
  const [given, other] = [new SlowStream(true), new SlowStream(true)]
  const outbox = new Outbox(given, flusher, () => {})
  const next = new Outbox(other, flusher, () => {})
  const failed = new Promise(resolve => given.once('error', resolve))
  const memory = new ArrayBuffer(100)
  outbox.forward(Buffer.from(memory), 0, 10)
  next.push(Buffer.from('other'))
  structuredClone(memory, { transfer: [memory] })
  t.ok((await failed) instanceof Error)
  t.equal(other.text.toString(), 'other')
  next.push(Buffer.from(' again'))
  await turn()
  t.equal(other.text.toString(), 'other again')
})

t.test('a burst counts as behind before its turn ends only from a size on', async t => {
  const outbox = new Outbox(new SlowStream(true), new Flusher(), () => {})
  outbox.push(Buffer.alloc(1_048_576))
  t.equal(outbox.isBehind, false)
  outbox.push(Buffer.alloc(1))
  t.equal(outbox.isBehind, true)
})

t.test('each write that has left is told of', async t => {
  const stream = new SlowStream(false)
  let written = 0
  const outbox = new Outbox(stream, new Flusher(), () => written++)
  outbox.push(Buffer.alloc(3 * writeSize + 1))
  await turn()
  t.same([outbox.bytes, outbox.hasRoom], [2 * writeSize + 1, false])
  stream.release()
  await turn()
  t.same([outbox.bytes, written], [writeSize + 1, 1])
  stream.release()
  await turn()
  t.same([outbox.bytes, written], [1, 2])
  stream.release()
  await turn()
  stream.release()
  await turn()
  t.same([outbox.bytes, written, outbox.waiting], [0, 4, 0])
})

t.test('after an error, or once closed, nothing is sent and nobody called', async t => {
  const stream = new SlowStream(false)
  let drained = 0
  const outbox = new Outbox(stream, new Flusher(), () => drained++)
  stream.on('error', () => {})
  outbox.push(Buffer.from('one'))
  await turn()
  outbox.push(Buffer.from('two'))
  stream.destroy(new Error('gone'))
  await turn()
  await turn()
  t.same([drained, stream.text.length], [0, 0])
  outbox.close()
  outbox.push(Buffer.from('three'))
  t.same([outbox.bytes, outbox.waiting], [0, 0])
  const other = new SlowStream(true)
  const closed = new Outbox(other, new Flusher(), () => drained++)
  closed.push(Buffer.from('x'))
  closed.close()
  closed.end()
  await turn()
  t.same([other.writes, other.writableEnded, drained], [[], false, 0])
})

t.test('a flusher that takes long lets others come first, and forgets nobody', async t => {
  const flusher = new Flusher()
  let flushed = 0
  const slow = {
    flush: () => {
      for (const start = performance.now(); performance.now() - start < 0.5; );
      flushed++
    }
  }
  for (let i = 0; i < 300; i++) flusher.schedule(slow)
  await turn()
  const first = flushed
  t.ok(first >= 64 && first < 300, `${first}`)
  while (flushed < 300) await turn()
  await turn()
  t.equal(flushed, 300)
})

t.test('packets count as waiting until their last byte is handed over', async t => {
  const stream = new SlowStream(false)
  const outbox = new Outbox(stream, new Flusher(), () => {})
  for (let i = 0; i < 5; i++) outbox.push(Buffer.alloc(20_000))
  await turn()
  t.equal(outbox.waiting, 2)
})

t.test('pieces that begin alike are not the same', async t => {
  const flusher = new Flusher()
  const streams = [new SlowStream(true), new SlowStream(true)]
  for (const [i, stream] of streams.entries()) {
    const outbox = new Outbox(stream, flusher, () => {})
    outbox.push(base.subarray(0, 2 + i))
    outbox.push(base.subarray(10, 12))
  }
  await turn()
  await turn()
  t.same(
    streams.map(({ text }) => text.length),
    [4, 5]
  )
})

t.test('a stream that throws ends alone: who comes behind it in the same turn is written', async t => {
  const flusher = new Flusher()
  const broken = new Writable()
  Object.assign(broken, {
    write: () => {
      throw new Error('no such stream')
    }
  })
  const failed = new Promise<unknown>(resolve => broken.once('error', resolve))
  const written: Buffer[] = []
  const sound = new Writable({
    write(chunk, _, done) {
      written.push(chunk)
      done()
    }
  })
  new Outbox(broken, flusher, () => {}).push(Buffer.from('a'))
  new Outbox(sound, flusher, () => {}).push(Buffer.from('b'))
  t.match(await failed, { message: 'no such stream' })
  await new Promise(resolve => setImmediate(resolve))
  t.equal(Buffer.concat(written).toString(), 'b')
  t.equal(broken.destroyed, true)
})
