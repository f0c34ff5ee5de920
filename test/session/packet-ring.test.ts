// What is under way, as a Map keyed by packet identifier has it, whatever order identifiers come and go in.

import fc from 'fast-check'
import t from 'tap'
import { PacketRing } from '../../dist/session/packet-ring.js'

interface Item {
  readonly packetId: number
}

/** Beside a Map that has the same. */
class Both {
  readonly ring = new PacketRing<Item>()
  readonly model = new Map<number, Item>()

  add(packetId: number): void {
    if (this.model.has(packetId)) return
    const item = { packetId }
    this.ring.add(item)
    this.model.set(packetId, item)
  }

  delete(packetId: number): void {
    const item = this.model.get(packetId)
    if (item === undefined) return
    this.ring.delete(item)
    this.model.delete(packetId)
  }

  get isSame(): boolean {
    const { ring, model } = this
    const all = ring.all()
    if (ring.size !== model.size || all.length !== model.size || new Set(all).size !== all.length) return false
    return all.every(item => model.get(item.packetId) === item && ring.get(item.packetId) === item)
  }
}

t.test('any identifiers in any order', async () => {
  // Few that differ in their last bits: they meet in their places.
  const packetId = fc.oneof(fc.integer({ min: 1, max: 65_535 }), fc.integer({ min: 1, max: 40 }), fc.constantFrom(16, 32, 48, 4096, 65_520))
  const step = fc.oneof(
    fc.record({ kind: fc.constant('add' as const), packetId }),
    fc.record({ kind: fc.constant('delete' as const), packetId }),
    fc.record({ kind: fc.constant('clear' as const), packetId })
  )
  const isModelled = (steps: readonly { readonly kind: 'add' | 'delete' | 'clear'; readonly packetId: number }[]) => {
    const both = new Both()
    for (const { kind, packetId } of steps) {
      if (kind === 'clear') {
        both.ring.clear()
        both.model.clear()
      } else {
        both[kind](packetId)
      }
      if (!both.isSame || both.ring.has(packetId) !== both.model.has(packetId)) return false
    }
    return true
  }
  fc.assert(fc.property(fc.array(step, { maxLength: 200 }), isModelled), { numRuns: 500 })
})

t.test('round and round past some that stay, and with a window that grows', async t => {
  for (const window of [1, 20, 500, 30_000]) {
    const both = new Both()
    for (let i = 0; i < 200_000; i++) {
      both.add((i % 65_535) + 1)
      // Every ten thousandth is never acknowledged.
      const before = i - window
      if (before >= 0 && before % 10_000 !== 0) both.delete((before % 65_535) + 1)
    }
    t.ok(both.isSame, `${window} at a time`)
    for (const packetId of [...both.model.keys()]) both.delete(packetId)
    t.ok(both.isSame)
  }
})
