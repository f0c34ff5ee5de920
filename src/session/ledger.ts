// What has to be durable before anybody is told: the changes of one turn go to the store together, while the ones before are still being
// written. With a store that is durable at once nothing waits and nothing is kept here.

import type { Change, QueueEntry, Store } from '../storage.js'
import { Deque } from './deque.js'
import type { Turns } from './turns.js'

/** Where an entry goes once it is durable. */
export interface EntryTaker {
  take(entry: QueueEntry): void
}

/** Who waits for a commit, once for each. */
export interface Waiter {
  settle(): void
}

/** Between two looks at the clock; a waiter may have many packets to send. */
const entriesPerLook = 32
const waitersPerLook = 8

/** Changes that become durable together. */
export class Commit {
  readonly changes: Change[] = []
  /** When it went to the store, milliseconds of `performance.now()`. */
  sealedAt = 0
  readonly #entries: QueueEntry[] = []
  readonly #takers: EntryTaker[] = []
  #handed = 0
  readonly #waiters = new Set<Waiter>()
  #durable = false

  /** It is, and its entries are with their sessions. */
  get isDurable(): boolean {
    return this.#durable
  }

  /** In the order of the queue. */
  hand(entry: QueueEntry, taker: EntryTaker): void {
    this.#entries.push(entry)
    this.#takers.push(taker)
  }

  wait(waiter: Waiter): void {
    if (this.#durable) waiter.settle()
    else this.#waiters.add(waiter)
  }

  /** Entries first: a copy for the publisher itself goes out before its acknowledgement. False: there is more to do, in a later turn. */
  settle(turns: Turns): boolean {
    while (this.#handed < this.#entries.length) {
      const at = this.#handed++
      const entry = this.#entries[at]
      if (entry !== undefined) this.#takers[at]?.take(entry)
      if (this.#handed % entriesPerLook === 0 && turns.isOver) return false
    }
    this.#durable = true
    let count = 0
    for (const waiter of this.#waiters) {
      this.#waiters.delete(waiter)
      waiter.settle()
      if (++count % waitersPerLook === 0 && turns.isOver) return false
    }
    return true
  }
}

/** As many may be with a store that takes them one behind the other. */
const mostUnderWay = 2
/** A sync costs the processor as much as several messages. So a commit waits while more comes in each turn, but no longer than this. Milliseconds. */
const longestGathering = 0.5
/** A single message, perhaps with the end of the one before: nothing is to be expected behind it. */
const few = 2

export class Ledger {
  readonly #store: Store
  readonly #turns: Turns
  /** Used again and again while the store is durable at once. */
  readonly #single: Change[] = []
  readonly #limit: number
  readonly #patience: number
  #open: Commit | undefined
  /** In the order in which they went to the store. */
  readonly #underWay = new Deque<Commit>()
  /** So many of them are durable, and wait to be settled. */
  #durable = 0
  #isSettling = false
  /** How many changes the open commit had a turn ago, and when it was first looked at, milliseconds of `performance.now()`. */
  #seen = 0
  #gatheringSince = 0
  #scheduled = false
  #timer: NodeJS.Timeout | undefined
  #idle: (() => void)[] = []

  /** `patience`: how long what nobody waits for may wait for a commit that somebody does, milliseconds. */
  constructor(store: Store, turns: Turns, patience = 5) {
    this.#patience = patience
    this.#store = store
    this.#turns = turns
    this.#limit = store.takesMore === true ? mostUnderWay : 1
  }

  /** The commit that the change is in; undefined: it is durable. */
  record(change: Change): Commit | undefined {
    if (this.#store.isDurableAtOnce) {
      this.#single[0] = change
      void this.#store.commit(this.#single)
      return undefined
    }
    this.#open ??= new Commit()
    this.#open.changes.push(change)
    if (isPatient(change)) this.#scheduleLate()
    else this.#schedule()
    return this.#open
  }

  /** The last commit that there is something to wait for in. */
  get latest(): Commit | undefined {
    if (this.#open === undefined) return this.#underWay.last
    this.#schedule()
    return this.#open
  }

  /** Since when the store owes an answer, milliseconds of `performance.now()`; undefined: it owes none. */
  get waitingSince(): number | undefined {
    return this.#underWay.first?.sealedAt
  }

  /** Resolves when everything recorded until now is durable. */
  async drained(): Promise<void> {
    if (this.#open === undefined && this.#underWay.size === 0) return
    if (this.#open !== undefined) this.#schedule()
    await new Promise<void>(resolve => this.#idle.push(resolve))
  }

  // Many publishers share one commit.
  #schedule(): void {
    if (this.#scheduled || this.#underWay.size - this.#durable >= this.#limit) return
    this.#scheduled = true
    setImmediate(this.#seal)
  }

  #scheduleLate(): void {
    if (!this.#scheduled) this.#timer ??= setTimeout(() => this.#tired(), this.#patience)
  }

  #tired(): void {
    this.#timer = undefined
    if (this.#open !== undefined) this.#schedule()
  }

  readonly #seal = (): void => {
    this.#scheduled = false
    const commit = this.#open
    if (commit === undefined) return
    if (this.#isGathering(commit)) {
      this.#schedule()
      return
    }
    this.#seen = 0
    this.#open = undefined
    clearTimeout(this.#timer)
    this.#timer = undefined
    commit.sealedAt = performance.now()
    this.#underWay.push(commit)
    const done = this.#store.commit(commit.changes)
    if (done === undefined) this.#isDurable()
    else void done.then(() => this.#isDurable())
  }

  #isGathering({ changes }: Commit): boolean {
    const seen = this.#seen
    this.#seen = changes.length
    if (seen > 0) return changes.length > seen && performance.now() - this.#gatheringSince < longestGathering
    this.#gatheringSince = performance.now()
    return changes.length > few
  }

  #isDurable(): void {
    this.#durable += 1
    // Before this one is settled: the store need not wait for that.
    if (this.#open !== undefined) this.#schedule()
    if (this.#isSettling) return
    this.#isSettling = true
    this.#settle()
  }

  // One behind the other, each when all of the one before is where it belongs: queues keep their order.
  readonly #settle = (): void => {
    let isDone = false
    try {
      isDone = this.#underWay.first?.settle(this.#turns) ?? true
    } finally {
      if (!isDone) this.#turns.soon(this.#settle)
    }
    if (!isDone) return
    this.#underWay.shift()
    this.#durable -= 1
    if (this.#durable > 0) {
      this.#turns.soon(this.#settle)
      return
    }
    this.#isSettling = false
    if (this.#open !== undefined || this.#underWay.size > 0) return
    const idle = this.#idle
    this.#idle = []
    for (const resolve of idle) resolve()
  }
}

/** Nobody is told of it, and if a crash forgets it a message goes out once more, as one that did before. */
function isPatient({ kind }: Change): boolean {
  return kind === 'done'
}
