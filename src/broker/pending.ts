// Callbacks that an embedder is owed: each is called once, at the latest when nothing can come of what they wait for. What they throw is
// theirs: it is reported, and whoever called goes on.

import { errorOf } from '../errors.js'

export type Done = (error?: Error) => void

interface PendingOptions {
  /** Told what a callback threw. */
  threw(error: Error): void
  /** When to call; absent: at once. */
  schedule?(call: () => void): void
}

export class Pending {
  readonly #waiting = new Set<Done>()
  readonly #options: PendingOptions

  constructor(options: PendingOptions) {
    this.#options = options
  }

  /** What is to be called in its place. */
  add(done: Done): Done {
    const settle: Done = error => {
      if (!this.#waiting.delete(settle)) return
      const { schedule } = this.#options
      if (schedule === undefined) this.#call(done, error)
      else schedule(() => this.#call(done, error))
    }
    this.#waiting.add(settle)
    return settle
  }

  /** Whoever waits is told why. */
  fail(reason: string): void {
    // An error is dear, and mostly nobody waits.
    if (this.#waiting.size === 0) return
    const error = new Error(reason)
    for (const settle of this.#waiting) settle(error)
  }

  #call(done: Done, error: Error | undefined): void {
    try {
      if (error === undefined) done()
      else done(error)
    } catch (thrown) {
      this.#options.threw(errorOf(thrown))
    }
  }
}
