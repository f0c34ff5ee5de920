// The acknowledgements one connection is owed, in the order of what they answer [MQTT-4.6.0-2]: each leaves when what it promises is
// durable and everything before it has left.

import type { Commit, Waiter } from './ledger.js'

interface Debt {
  readonly packet: Buffer | undefined
  readonly commit: Commit | undefined
  readonly then: (() => void) | undefined
}

export class Owed implements Waiter {
  readonly #send: (packet: Buffer) => void
  readonly #paid: () => void
  #debts: Debt[] = []

  /** `paid`: some of it has left. */
  constructor(send: (packet: Buffer) => void, paid: () => void) {
    this.#send = send
    this.#paid = paid
  }

  get size(): number {
    return this.#debts.length
  }

  /** `then` is called when the packet has left, with or without one. */
  add(packet: Buffer | undefined, commit: Commit | undefined, then?: () => void): void {
    if (this.#debts.length === 0 && (commit === undefined || commit.isDurable)) {
      if (packet !== undefined) this.#send(packet)
      then?.()
      return
    }
    this.#debts.push({ packet, commit, then })
    commit?.wait(this)
  }

  settle(): void {
    const debts = this.#debts
    let count = 0
    for (const { packet, commit, then } of debts) {
      if (commit !== undefined && !commit.isDurable) break
      count += 1
      if (packet !== undefined) this.#send(packet)
      then?.()
      // What was to happen then ended the connection.
      if (this.#debts !== debts) return
    }
    if (count === 0) return
    debts.splice(0, count)
    this.#paid()
  }

  /** Nobody is left to be told. */
  cancel(): void {
    this.#debts = []
  }
}
