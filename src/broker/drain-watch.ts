// An embedder's `drainTimeout`: ends a client that has taken nothing of what it was sent for that long. Without it such a client fills its
// own bounded queue and stays until its keep alive ends it.

import type { Connection } from '../session/connection.js'

interface Stall {
  /** What it had taken then. */
  readonly written: number
  readonly since: number
}

/** How often it is looked, within the time that is allowed. */
const looks = 4

export class DrainWatch {
  readonly #connections: Iterable<Connection>
  readonly #timeout: number
  readonly #timer: NodeJS.Timeout
  #stalls = new Map<Connection, Stall>()

  /** `timeout`: milliseconds. */
  constructor(connections: Iterable<Connection>, timeout: number) {
    this.#connections = connections
    this.#timeout = timeout
    this.#timer = setInterval(() => this.#look(), Math.max(1, timeout / looks))
    this.#timer.unref()
  }

  stop(): void {
    clearInterval(this.#timer)
  }

  #look(): void {
    const now = performance.now()
    const stalls = new Map<Connection, Stall>()
    for (const connection of this.#connections) {
      if (!connection.isWriting || connection.closed) continue
      const { written } = connection
      const known = this.#stalls.get(connection)
      const stall = known?.written === written ? known : { written, since: now }
      if (now - stall.since >= this.#timeout) connection.finish({ words: 'drain timeout' })
      else stalls.set(connection, stall)
    }
    this.#stalls = stalls
  }
}
