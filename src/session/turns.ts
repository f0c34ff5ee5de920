// Fair shares of a turn of the event loop: what takes long is done in slices, and all who have such work together get so much of a turn.
// Somebody with one packet waits for that and not for all who have many.

import { Deque } from './deque.js'

/** Of all slices in one turn, milliseconds: before and after the sockets were looked at. */
const slice = 2

export class Turns {
  readonly #jobs = new Deque<() => void>()
  /** What many others wait for. */
  readonly #urgent = new Deque<() => void>()
  /** Until when there is time in this turn; 0: nobody has asked yet. */
  #until = 0
  #scheduled = false
  readonly #failed: (error: unknown) => void

  /** `failed`: a job threw. */
  constructor(failed: (error: unknown) => void) {
    this.#failed = failed
  }

  /** The time of this turn is up. Whoever asks first in a turn has all of it. */
  get isOver(): boolean {
    if (this.#until > 0) return performance.now() > this.#until
    this.#until = performance.now() + slice
    this.#schedule()
    return false
  }

  /** Called in a later turn, after those who asked before. */
  later(job: () => void): void {
    this.#jobs.push(job)
    this.#schedule()
  }

  /** The same, before those who asked by `later`: where both are waiting each gets half of the time. */
  soon(job: () => void): void {
    this.#urgent.push(job)
    this.#schedule()
  }

  #schedule(): void {
    if (this.#scheduled) return
    this.#scheduled = true
    setImmediate(this.#run)
  }

  readonly #run = (): void => {
    this.#scheduled = false
    const start = performance.now()
    this.#until = start + (this.#jobs.size > 0 ? slice / 2 : slice)
    this.#runSome(this.#urgent)
    this.#until = start + slice
    this.#runSome(this.#jobs)
    if (this.#urgent.size + this.#jobs.size > 0) this.#schedule()
    this.#until = 0
  }

  // Those that ask while these are running have their turn in the next round.
  #runSome(jobs: Deque<() => void>): void {
    for (let left = jobs.size; left > 0; left--) {
      try {
        jobs.shift()?.()
      } catch (error) {
        this.#failed(error)
      }
      if (performance.now() > this.#until) break
    }
  }
}
