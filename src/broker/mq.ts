// The emitter behind Aedes' `mq` contract when an embedder gives none: `broker.subscribe(topic, listener)`. As mqemitter, but
// nobody who doesn't ask to be called back waits for a listener, and one that throws disturbs nobody else.

import type { Subscription } from '../storage.js'
import { MatchCache } from './match-cache.js'
import { type Match, Router } from './router.js'

export interface Emitted {
  readonly topic: string
}

export type Listener<Packet extends Emitted> = (packet: Packet, done: () => void) => void

interface EmitterOptions {
  /** What a listener threw. */
  onError(error: unknown, topic: string): void
}

const cacheLimits = { topics: 10_000, weight: 100_000 }
const none: readonly never[] = []
const nothing = (): void => {}

export class Emitter<Packet extends Emitted> {
  // As in mqemitter, `#` hears `$SYS` too.
  readonly #router = new Router<Registration<Packet>>({ dollar: 'alike' })
  readonly #cache = new MatchCache<Match<Registration<Packet>>>(cacheLimits)
  /** By filter, in the order of registration. */
  readonly #registrations = new Map<string, Registration<Packet>[]>()
  readonly #onError: EmitterOptions['onError']
  /** Registrations of filters that can match what the broker's clients say; the others begin with `$`, as Aedes' own do. */
  #ordinary = 0
  #lastTopic = ''
  #lastVersion = 0
  #lastMatch: Match<Registration<Packet>> | undefined
  #closed = false

  constructor({ onError }: EmitterOptions) {
    this.#onError = onError
  }

  get closed(): boolean {
    return this.#closed
  }

  /** A listener that is given twice is called twice. */
  on(filter: string, listener: Listener<Packet>, done: () => void = nothing): this {
    const registration: Registration<Packet> = { listener }
    const known = this.#registrations.get(filter)
    if (known === undefined) this.#registrations.set(filter, [registration])
    else known.push(registration)
    this.#router.add(registration, subscriptionTo(filter))
    if (!filter.startsWith('$')) this.#ordinary += 1
    setImmediate(done)
    return this
  }

  /** Takes one registration of that listener away: at once, while `done` comes later. */
  removeListener(filter: string, listener: Listener<Packet>, done: () => void = nothing): this {
    const known = this.#registrations.get(filter)
    const at = known?.findIndex(registration => registration.listener === listener) ?? -1
    const [registration] = at < 0 ? [] : (known?.splice(at, 1) ?? [])
    if (known?.length === 0) this.#registrations.delete(filter)
    if (registration !== undefined) {
      this.#router.remove(registration, filter)
      if (!filter.startsWith('$')) this.#ordinary -= 1
    }
    setImmediate(done)
    return this
  }

  /** Would `emit` call anybody? */
  matches(topic: string): boolean {
    return this.#mayMatch(topic) && this.#match(topic).targets.length > 0
  }

  /** Calls each listener that was there at the start; `done` follows when all of them have called back. */
  emit(packet: Packet, done: (error?: Error) => void = nothing): this {
    if (this.#closed) {
      queueMicrotask(() => done(new Error('the emitter is closed')))
      return this
    }
    const targets = this.#mayMatch(packet.topic) ? this.#match(packet.topic).targets : none
    if (done === nothing || targets.length === 0) {
      for (const { subscriber } of targets) this.#call(subscriber.listener, packet, nothing)
      if (done !== nothing) queueMicrotask(done)
      return this
    }
    let left = targets.length
    const one = (): void => {
      left -= 1
      if (left === 0) queueMicrotask(done)
    }
    for (const { subscriber } of targets) this.#call(subscriber.listener, packet, once(one))
    return this
  }

  close(done: () => void = nothing): this {
    this.#closed = true
    setImmediate(done)
    return this
  }

  #call(listener: Listener<Packet>, packet: Packet, done: () => void): void {
    try {
      listener.call(this, packet, done)
    } catch (error) {
      this.#onError(error, packet.topic)
      done()
    }
  }

  #mayMatch(topic: string): boolean {
    return this.#router.subscriptionCount > 0 && (this.#ordinary > 0 || topic.startsWith('$'))
  }

  // One message is asked about several times in a row, which doesn't make its topic one that comes again.
  #match(topic: string): Match<Registration<Packet>> {
    const { version } = this.#router
    if (this.#lastMatch !== undefined && topic === this.#lastTopic && version === this.#lastVersion) return this.#lastMatch
    const known = this.#cache.get(topic, version)
    const match = known ?? this.#router.match(topic)
    if (known === undefined) this.#cache.set(topic, match, 1 + match.targets.length)
    this.#lastTopic = topic
    this.#lastVersion = version
    this.#lastMatch = match
    return match
  }
}

interface Registration<Packet extends Emitted> {
  readonly listener: Listener<Packet>
}

function subscriptionTo(filter: string): Subscription {
  return { filter, qos: 2, noLocal: false, retainAsPublished: true, retainHandling: 2, identifier: 0 }
}

function once(call: () => void): () => void {
  let isCalled = false
  return () => {
    if (isCalled) return
    isCalled = true
    call()
  }
}
