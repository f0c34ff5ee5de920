// The acknowledgements one connection is owed, in the order of what they answer [MQTT-4.6.0-2]: each leaves when what it promises is
// durable and everything before it has left. CONNACK is the first of all [MQTT-3.2.0-1].

import type { Answer } from '../protocol/encode.js'
import type { Commit, Waiter } from './ledger.js'

interface Debt {
  readonly packet: Answer | undefined
  readonly commit: Commit | undefined
  readonly after: (() => void) | undefined
}

export class Owed implements Waiter {
  readonly #send: (packet: Answer) => void
  readonly #paid: () => void
  readonly #isEarly: boolean
  #debts: Debt[] = []
  #isOpen = false

  /** `paid`: some of it has left. `isEarly`: nothing waits to be durable, but what isn't is still counted. */
  constructor(send: (packet: Answer) => void, paid: () => void, isEarly = false) {
    this.#send = send
    this.#paid = paid
    this.#isEarly = isEarly
  }

  /** CONNACK is on its way. */
  get isOpen(): boolean {
    return this.#isOpen
  }

  get size(): number {
    return this.#debts.length
  }

  /** CONNACK, before what an embedder has asked for meanwhile. */
  open(connack: Buffer, commit: Commit | undefined, then: () => void): void {
    this.#isOpen = true
    this.#debts.unshift({ packet: connack, commit: this.#isEarly ? undefined : commit, after: then })
    for (const debt of this.#debts) if (debt.commit?.isDurable === false) debt.commit.wait(this)
    this.settle()
  }

  /** `then` is called when the packet has left, with or without one. */
  add(packet: Answer | undefined, commit: Commit | undefined, then?: () => void): void {
    if (!this.#isOpen) {
      this.#debts.push({ packet, commit: this.#isEarly ? undefined : commit, after: then })
      return
    }
    if (this.#debts.length === 0 && (commit === undefined || commit.isDurable)) {
      if (packet !== undefined) this.#send(packet)
      then?.()
      return
    }
    if (this.#isEarly) {
      this.#debts.push({ packet: undefined, commit, after: undefined })
      if (packet !== undefined) this.#send(packet)
      then?.()
    } else {
      this.#debts.push({ packet, commit, after: then })
    }
    commit?.wait(this)
  }

  settle(): void {
    const debts = this.#debts
    let count = 0
    for (const { packet, commit, after } of debts) {
      if (commit !== undefined && !commit.isDurable) break
      count += 1
      if (packet !== undefined) this.#send(packet)
      after?.()
      // What was to happen behind it ended the connection.
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
