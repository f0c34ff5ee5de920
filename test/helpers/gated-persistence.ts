// An Aedes persistence in memory that takes as long as a test wants, or fails.

import { createRequire } from 'node:module'
import type { BareOptions } from './bare-broker.js'

type Persistence = NonNullable<BareOptions['persistence']>

export const openMemory: () => Persistence = createRequire(import.meta.url)('aedes-persistence')

/** Called before `setup` and each of a persistence's methods that write. */
export type Gate = (method: string) => Promise<void> | void

const writes =
  /^(setup|storeRetained|addSubscriptions|removeSubscriptions|outgoing(?!Stream)|incomingStore|incomingDel|cleanSubscriptions|putWill|delWill)/

export function gated(gate: Gate, persistence = openMemory()): Persistence {
  return new Proxy(persistence, {
    get(target, name) {
      const found: unknown = Reflect.get(target, name)
      if (typeof found !== 'function') return found
      if (typeof name !== 'string' || !writes.test(name)) return found.bind(target)
      return async (...args: readonly unknown[]) => {
        await gate(name)
        return Reflect.apply(found, target, args)
      }
    }
  })
}

/** A gate that can be shut. */
export function openGate(): { gate: Gate; shut(): void; open(): void; readonly waiting: number } {
  let shut = false
  let waiting: (() => void)[] = []
  return {
    gate: () => (shut ? new Promise<void>(resolve => waiting.push(resolve)) : undefined),
    shut: () => {
      shut = true
    },
    open: () => {
      shut = false
      for (const resolve of waiting) resolve()
      waiting = []
    },
    get waiting() {
      return waiting.length
    }
  }
}
