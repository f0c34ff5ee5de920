// Lets a bounded number of TLS handshakes run at a time. Whoever comes beyond that waits, because clients that are turned away come
// straight back; established connections get their turns in between. No address may take more than a quarter of the places, running
// or waiting, so that one flooding machine can't keep all others out; and when several have filled all places with handshakes that don't
// come to an end, the oldest of them give up theirs to whoever comes from an address with fewer, or none; at once those that say nothing.

import { addressGroup } from '../auth/throttle.js'

interface Queue {
  running: number
  readonly waiting: Set<() => void>
}

interface Running {
  readonly queue: Queue
  readonly entrant: Entrant
  /** While others waited. */
  looks: number
}

/** Who asks for a place. */
interface Entrant {
  start(): void
  /** The place is needed for somebody else. It leaves. */
  giveUp?(): void
  /** Bytes that came, so far. */
  received?(): number
  /** Its place is not to be taken from it now. */
  isBusy?(): boolean
}

/** Milliseconds that a handshake has its place for certain: a slow client on a slow line needs less. */
const defaultGrace = 5000
// They are counted in looks, and not by a clock: between two of them whatever has come is read, so that nobody loses a place because we are slow.
const looksOfGrace = 20
/** A client speaks first, and has said nothing. */
const looksOfSilence = 4

/** Frees the place when the handshake is over or given up. A second call does nothing. */
export type Leave = () => void

export class HandshakeGate {
  readonly #places: number
  readonly #waitingPlaces: number
  /** By address, of IPv6 by /64, the one whose turn is next first. */
  readonly #queues = new Map<string, Queue>()
  /** The oldest first. */
  readonly #running = new Set<Running>()
  #waiting = 0
  readonly #grace: number
  #timer: NodeJS.Timeout | undefined

  constructor(places = 256, waitingPlaces = 4096, grace = defaultGrace) {
    this.#places = places
    this.#waitingPlaces = waitingPlaces
    this.#grace = grace
  }

  /** Handshakes that run now. */
  get running(): number {
    return this.#running.size
  }

  get waiting(): number {
    return this.#waiting
  }

  /** Calls `start` now or when there is a place. Undefined: nobody more can wait. */
  enter(remoteAddress: string, entrant: Entrant): Leave | undefined {
    const address = addressGroup(remoteAddress)
    const queue = this.#queues.get(address) ?? { running: 0, waiting: new Set() }
    const mustWait = !this.#hasPlaceFor(queue)
    if (mustWait && !this.#mayWait(queue)) return undefined
    this.#queues.set(address, queue)
    let running: Running | undefined
    let left = false
    const begin = (): void => {
      running = { queue, entrant, looks: 0 }
      queue.running += 1
      this.#running.add(running)
      entrant.start()
    }
    if (mustWait) {
      queue.waiting.add(begin)
      this.#waiting += 1
      this.#makeRoomLater()
    } else begin()
    return () => {
      if (left) return
      left = true
      if (running !== undefined) {
        queue.running -= 1
        this.#running.delete(running)
      } else if (queue.waiting.delete(begin)) this.#waiting -= 1
      if (queue.running === 0 && queue.waiting.size === 0) this.#queues.delete(address)
      this.#next()
    }
  }

  #hasPlaceFor(queue: Queue): boolean {
    return this.#running.size < this.#places && queue.running < quarterOf(this.#places)
  }

  // The first of an address also when others have filled all places to wait, up to as many again.
  #mayWait({ waiting }: Queue): boolean {
    if (waiting.size === 0) return this.#waiting < 2 * this.#waitingPlaces
    return this.#waiting < this.#waitingPlaces && waiting.size < quarterOf(this.#waitingPlaces)
  }

  // For those who wait although their address has less than its part.
  #makeRoomLater(): void {
    if (this.#timer !== undefined || this.#running.size < this.#places) return
    this.#timer = setTimeout(() => this.#makeRoom(), this.#grace / looksOfGrace)
    this.#timer.unref()
  }

  #makeRoom(): void {
    this.#timer = undefined
    for (const running of this.#running) running.looks += 1
    for (const running of this.#running) {
      if (this.#running.size < this.#places) break
      const poorer = isOverdue(running) ? this.#waitingWithLessThan(running.queue.running) : undefined
      if (poorer === undefined) continue
      // It begins first: the place that gets free is no other's.
      this.#begin(poorer)
      running.entrant.giveUp?.()
    }
    if (this.#waitingWithLessThan(quarterOf(this.#places)) !== undefined) this.#makeRoomLater()
  }

  // None, or two less at least: else they would take it from each other in turns.
  #waitingWithLessThan(running: number): Queue | undefined {
    for (const queue of this.#queues.values()) {
      if (queue.waiting.size > 0 && (queue.running === 0 || queue.running + 1 < running)) return queue
    }
    return undefined
  }

  #begin(queue: Queue): void {
    const [begin] = queue.waiting
    if (begin === undefined) return
    queue.waiting.delete(begin)
    this.#waiting -= 1
    begin()
  }

  #next(): void {
    for (const [address, queue] of this.#queues) {
      if (queue.waiting.size === 0 || !this.#hasPlaceFor(queue)) continue
      // To the end of the line of addresses: they take turns.
      this.#queues.delete(address)
      this.#queues.set(address, queue)
      this.#begin(queue)
      return
    }
  }
}

function isOverdue({ looks, entrant }: Running): boolean {
  return (looks >= looksOfGrace || (looks >= looksOfSilence && entrant.received?.() === 0)) && entrant.isBusy?.() !== true
}

const quarterOf = (places: number): number => Math.max(1, Math.floor(places / 4))
