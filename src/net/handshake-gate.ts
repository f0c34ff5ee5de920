// Lets a bounded number of TLS handshakes run at a time. Whoever comes beyond that waits, because clients that are turned away come
// straight back; established connections get their turns in between. No address may take more than a quarter of the places, running
// or waiting, so that one flooding machine can't keep all others out.

interface Queue {
  running: number
  readonly waiting: Set<() => void>
}

/** Frees the place when the handshake is over or given up. A second call does nothing. */
export type Leave = () => void

export class HandshakeGate {
  readonly #places: number
  readonly #waitingPlaces: number
  /** By address, the one whose turn is next first. */
  readonly #queues = new Map<string, Queue>()
  #running = 0
  #waiting = 0

  constructor(places = 256, waitingPlaces = 4096) {
    this.#places = places
    this.#waitingPlaces = waitingPlaces
  }

  /** Handshakes that run now. */
  get running(): number {
    return this.#running
  }

  /** Calls `start` now or when there is a place. Undefined: nobody more can wait. */
  enter(address: string, start: () => void): Leave | undefined {
    const queue = this.#queues.get(address) ?? { running: 0, waiting: new Set() }
    const mustWait = !this.#hasPlaceFor(queue)
    if (mustWait && (this.#waiting >= this.#waitingPlaces || queue.waiting.size >= quarterOf(this.#waitingPlaces))) return undefined
    this.#queues.set(address, queue)
    let running = false
    let left = false
    const begin = (): void => {
      running = true
      queue.running += 1
      this.#running += 1
      start()
    }
    if (mustWait) {
      queue.waiting.add(begin)
      this.#waiting += 1
    } else begin()
    return () => {
      if (left) return
      left = true
      if (running) {
        queue.running -= 1
        this.#running -= 1
      } else if (queue.waiting.delete(begin)) this.#waiting -= 1
      if (queue.running === 0 && queue.waiting.size === 0) this.#queues.delete(address)
      this.#next()
    }
  }

  #hasPlaceFor(queue: Queue): boolean {
    return this.#running < this.#places && queue.running < quarterOf(this.#places)
  }

  #next(): void {
    for (const [address, queue] of this.#queues) {
      const [begin] = queue.waiting
      if (begin === undefined || !this.#hasPlaceFor(queue)) continue
      // To the end of the line of addresses: they take turns.
      this.#queues.delete(address)
      this.#queues.set(address, queue)
      queue.waiting.delete(begin)
      this.#waiting -= 1
      begin()
      return
    }
  }
}

const quarterOf = (places: number): number => Math.max(1, Math.floor(places / 4))
