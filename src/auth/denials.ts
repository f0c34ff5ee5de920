// What of the denied publishes goes into the log: each client and topic once, and only so many lines a minute, whatever clients send.
// Bounded in memory. The clock is the caller's: milliseconds that never go back.

export interface DenialLimits {
  /** Lines in one window; what is over is counted. */
  readonly lines: number
  readonly window: number
  /** After so long a client's denials are news again. */
  readonly memory: number
  /** So many topics of one client get a line: one client alone doesn't fill the log. */
  readonly topicsPerClient: number
  /** Remembered in all; the clients not heard of for longest are forgotten first. */
  readonly topics: number
}

const usualLimits: DenialLimits = { lines: 60, window: 60_000, memory: 3_600_000, topicsPerClient: 100, topics: 10_000 }

/** `show`: this one gets its line. `hidden`: so many before it got none; said first, once their window is over. */
export interface DenialReport {
  readonly show: boolean
  readonly hidden: number
}

const shown: DenialReport = Object.freeze({ show: true, hidden: 0 })
const quiet: DenialReport = Object.freeze({ show: false, hidden: 0 })

// A client chooses its topics and identifiers, up to 64 KB each: long ones are remembered as one.
const longestKey = 256
const longKey = '\0'

interface Client {
  readonly since: number
  readonly topics: Set<string>
}

export class Denials {
  readonly #limits: DenialLimits
  /** Least recently heard of first. */
  readonly #clients = new Map<string, Client>()
  #remembered = 0
  #windowStart = Number.NEGATIVE_INFINITY
  #lines = 0
  #hidden = 0

  constructor(limits: Partial<DenialLimits> = {}) {
    this.#limits = { ...usualLimits, ...limits }
  }

  /** A publish of this client to this topic was denied: what is to be logged? */
  report(clientId: string, topic: string, now: number): DenialReport {
    const hidden = this.settle(now)
    const show = this.#isNews(key(clientId), key(topic), now)
    if (hidden > 0) return { show, hidden }
    return show ? shown : quiet
  }

  /** How many got no line in a window that is over; 0 while it runs. For a timer, so that the count is told even if nothing follows. */
  settle(now: number): number {
    if (now - this.#windowStart < this.#limits.window) return 0
    const hidden = this.#hidden
    this.#windowStart = now
    this.#lines = 0
    this.#hidden = 0
    return hidden
  }

  /** How many clients and topics are remembered. */
  get size(): number {
    return this.#remembered
  }

  // What gets no line for want of room is not remembered either: its next try may get one.
  #isNews(clientId: string, topic: string, now: number): boolean {
    const client = this.#recall(clientId, now)
    if (client?.topics.has(topic)) return false
    if (this.#lines >= this.#limits.lines || (client !== undefined && client.topics.size >= this.#limits.topicsPerClient)) {
      this.#hidden++
      return false
    }
    this.#lines++
    this.#remembered++
    if (client === undefined) this.#clients.set(clientId, { since: now, topics: new Set([topic]) })
    else client.topics.add(topic)
    this.#forgetOldest()
    return true
  }

  // Moves the client to the end, the place of the most recent.
  #recall(clientId: string, now: number): Client | undefined {
    const client = this.#clients.get(clientId)
    if (client === undefined) return undefined
    this.#clients.delete(clientId)
    if (now - client.since >= this.#limits.memory) {
      this.#remembered -= client.topics.size
      return undefined
    }
    this.#clients.set(clientId, client)
    return client
  }

  #forgetOldest(): void {
    for (const [clientId, client] of this.#clients) {
      if (this.#remembered <= this.#limits.topics) return
      this.#clients.delete(clientId)
      this.#remembered -= client.topics.size
    }
  }
}

function key(text: string): string {
  return text.length > longestKey ? longKey : text
}
