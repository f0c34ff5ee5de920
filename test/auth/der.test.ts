import assert from 'node:assert/strict'
import fc from 'fast-check'
import t from 'tap'
import { DerError, readObjectIdentifier } from '../../dist/auth/der.js'

/** Seven bits in each byte, the first one last. */
function encodeArc(arc: bigint): number[] {
  const bytes = [Number(arc & 0x7fn)]
  for (let rest = arc >> 7n; rest > 0n; rest >>= 7n) bytes.unshift(Number(rest & 0x7fn) | 0x80)
  return bytes
}

t.test('object identifiers with arcs of any size', async t => {
  const arc = fc.oneof(fc.bigInt(0n, 300n), fc.bigInt(0n, 1n << 130n), fc.constantFrom((1n << 49n) - 1n, 1n << 49n, 1n << 53n))
  const root = fc.oneof(fc.tuple(fc.constantFrom(0n, 1n), fc.bigInt(0n, 39n)), fc.tuple(fc.constant(2n), arc))
  fc.assert(
    fc.property(root, fc.array(arc, { maxLength: 5 }), ([first, second], rest) => {
      const bytes = [first * 40n + second, ...rest].flatMap(encodeArc)
      assert.equal(readObjectIdentifier(Buffer.from(bytes)), [first, second, ...rest].join('.'))
    })
  )
  t.throws(() => readObjectIdentifier(Buffer.concat([Buffer.alloc(90_000, 0x81), Buffer.of(1)])), { message: 'object identifier too long' })
  for (const cut of ['', '80', '2a86', '55049f']) t.throws(() => readObjectIdentifier(Buffer.from(cut, 'hex')), DerError, cut)
})
