// What has to be durable before anybody is told: the changes of one turn go to the store together, while the ones before are still being
// written. With a store that is durable at once nothing waits and nothing is kept here.

import type { Change, QueueEntry, Store } from '../storage.js'

/** Where an entry goes once it is durable. */
export interface EntryTaker {
  take(entry: QueueEntry): void
}

/** Who waits for a commit, once for each. */
export interface Waiter {
  settle(): void
}

/** Changes that become durable together. */
export class Commit {
  readonly changes: Change[] = []
  readonly #entries: QueueEntry[] = []
  readonly #takers: EntryTaker[] = []
  readonly #waiters = new Set<Waiter>()
  #durable = false

  get isDurable(): boolean {
    return this.#durable
  }

  /** In the order of the queue. */
  hand(entry: QueueEntry, taker: EntryTaker): void {
    this.#entries.push(entry)
    this.#takers.push(taker)
  }

  wait(waiter: Waiter): void {
    this.#waiters.add(waiter)
  }

  /** Entries first: a copy for the publisher itself goes out before its acknowledgement. */
  settle(): void {
    this.#durable = true
    for (const [i, entry] of this.#entries.entries()) this.#takers[i]?.take(entry)
    for (const waiter of this.#waiters) waiter.settle()
  }
}

export class Ledger {
  readonly #store: Store
  /** Used again and again while the store is durable at once. */
  readonly #single: Change[] = []
  readonly #atOnce: boolean
  #open: Commit | undefined
  #underWay: Commit | undefined
  #sealedAt = 0
  #scheduled = false
  #idle: (() => void)[] = []

  constructor(store: Store) {
    this.#store = store
    this.#atOnce = store.isDurableAtOnce
  }

  /** The commit that the change is in; undefined: it is durable. */
  record(change: Change): Commit | undefined {
    if (this.#atOnce) {
      this.#single[0] = change
      void this.#store.commit(this.#single)
      return undefined
    }
    this.#open ??= new Commit()
    this.#open.changes.push(change)
    this.#schedule()
    return this.#open
  }

  /** Since when the store owes an answer, milliseconds of `performance.now()`; undefined: it owes none. */
  get waitingSince(): number | undefined {
    return this.#underWay === undefined ? undefined : this.#sealedAt
  }

  /** Resolves when everything recorded until now is durable. */
  async drained(): Promise<void> {
    if (this.#open === undefined && this.#underWay === undefined) return
    await new Promise<void>(resolve => this.#idle.push(resolve))
  }

  // At the end of the turn: many publishers share one commit.
  #schedule(): void {
    if (this.#scheduled || this.#underWay !== undefined) return
    this.#scheduled = true
    setImmediate(this.#seal)
  }

  readonly #seal = (): void => {
    this.#scheduled = false
    const commit = this.#open
    if (commit === undefined || this.#underWay !== undefined) return
    this.#open = undefined
    this.#underWay = commit
    this.#sealedAt = performance.now()
    const done = this.#store.commit(commit.changes)
    if (done === undefined) this.#settle(commit)
    else void done.then(() => this.#settle(commit))
  }

  #settle(commit: Commit): void {
    this.#underWay = undefined
    commit.settle()
    if (this.#open !== undefined) {
      this.#schedule()
      return
    }
    const idle = this.#idle
    this.#idle = []
    for (const resolve of idle) resolve()
  }
}
