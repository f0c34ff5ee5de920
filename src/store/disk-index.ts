// What the disk store keeps in memory of what lies on disk: where the queue of each session ends, and how many entries a shared message has.

import type { QueueEntry } from '../storage.js'
import { Bodies } from './disk-bodies.js'
import type { Last } from './disk-records.js'
import type { RunProgress } from './disk-run.js'

/** What a session of the store is here. */
export interface Place extends Last {
  readonly number: number
  sequence: number
  packetId: number
  /** Up to here the queue may be read: what is behind it is written, or will be, but its commit has not ended. */
  readable: number
  /** Of runs of which some are done and some aren't, by their last sequence. */
  progress?: Map<number, RunProgress>
}

export class Index {
  readonly bodies: Bodies
  /** Entries with a record of how far their delivery has come. */
  readonly states = new WeakSet<QueueEntry>()
  readonly #places: Map<string, Place>
  #nextSession: number

  /** `nextSession`: a number that no session has, nor had. */
  constructor(places = new Map<string, Place>(), bodies = new Bodies(), nextSession = 1) {
    this.#places = places
    this.bodies = bodies
    this.#nextSession = nextSession
  }

  placeOf(clientId: string): Place | undefined {
    return this.#places.get(clientId)
  }

  begin(clientId: string): Place {
    const place = { number: this.#nextSession++, sequence: 0, packetId: 0, readable: 0 }
    this.#places.set(clientId, place)
    return place
  }

  forget(clientId: string): void {
    this.#places.delete(clientId)
  }
}
