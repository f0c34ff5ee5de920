// What the decisions of the ACL leave behind: lines in the log, which no client can flood, and counts by rule.

import { type Decision, explainDecision } from '../auth/acl.js'
import { type DecisionCount, DecisionCounters } from '../auth/decision-counters.js'
import { type DenialLimits, Denials } from '../auth/denials.js'
import type { Identity } from '../auth/identity.js'
import type { Log } from '../log-events.js'
import type { DeniedPublish } from '../session/host.js'

/** Whoever is debugging tries again and wants to see it again. */
const whileDebugging = { lines: 600, memory: 10_000 }

/** Rules in the sum at the end. */
const mostSummed = 20

/** Since the start, most first. */
export interface AclCounts {
  readonly denied: readonly DecisionCount[]
  /** What the file of `#!acl_shadow` would have denied, though it was allowed, and allowed, though it was denied. */
  readonly shadowDenied: readonly DecisionCount[]
  readonly shadowAllowed: readonly DecisionCount[]
}

/** What the shadow may say otherwise. */
export type ShadowedKind = keyof typeof countedAs

const countedAs = { publish: 'publishes', delivery: 'deliveries', will: 'wills' } as const

export class AclLog {
  readonly #log: Log
  readonly #denied = new DecisionCounters()
  readonly #shadowDenied = new DecisionCounters()
  readonly #shadowAllowed = new DecisionCounters()
  readonly #publishes: Lines
  readonly #deliveries: Lines
  readonly #subscriptions: Lines
  readonly #shadows: Lines

  constructor(log: Log) {
    this.#log = log
    this.#publishes = new Lines(log, 'denialsNotShown')
    this.#deliveries = new Lines(log, 'deliveryDenialsNotShown', whileDebugging)
    this.#subscriptions = new Lines(log, 'subscriptionDenialsNotShown')
    this.#shadows = new Lines(log, 'shadowNotShown')
  }

  get counts(): AclCounts {
    return { denied: this.#denied.list(), shadowDenied: this.#shadowDenied.list(), shadowAllowed: this.#shadowAllowed.list() }
  }

  /** A denied publish. Each client and topic once, so many a minute: a client in a loop doesn't fill the log. */
  publish(identity: Identity, { decision, dup, qos, retain, packetId, topic, bytes }: DeniedPublish): void {
    this.#denied.add(decision, 'publishes')
    if (decision.shadow !== undefined) this.shadow('publish', identity, topic, decision.shadow)
    const { clientId } = identity
    const fields = { clientId, dup, qos, retain, packetId, topic, bytes }
    if (!this.#publishes.isNews(clientId, topic)) {
      this.#log.write('publishDeniedAgain', fields)
      return
    }
    if (decision.reason === 'dangerous-username') this.#log.write('dangerousUsername', { username: identity.username ?? '' })
    if (decision.reason === 'dangerous-client-id') this.#log.write('dangerousClientId', { clientId })
    this.#log.write('publishDenied', { ...fields, ...identity, why: explainDecision(decision) })
  }

  will(identity: Identity, topic: string, decision: Decision): void {
    this.#denied.add(decision, 'wills')
    if (decision.shadow !== undefined) this.shadow('will', identity, topic, decision.shadow)
    if (!this.#publishes.isNews(identity.clientId, topic)) return
    this.#log.write('willDenied', { ...identity, topic, why: explainDecision(decision) })
  }

  /** Nothing that matches the filter may be delivered, so it is refused or, by default, only warned of. Once for each client and filter. */
  subscription(identity: Identity, filter: string, decision: Decision, isRefused: boolean): void {
    this.#denied.add(decision, 'subscriptions')
    if (!this.#subscriptions.isNews(identity.clientId, filter)) return
    this.#log.write(isRefused ? 'subscriptionDenied' : 'subscriptionDead', { ...identity, filter, why: explainDecision(decision) })
  }

  /** A message that is not sent to one of its receivers. Said to those who debug alone: a filter that is wider than the rights is no fault. */
  delivery(identity: Identity, topic: string, decision: Decision): void {
    this.#denied.add(decision, 'deliveries')
    if (decision.shadow !== undefined) this.shadow('delivery', identity, topic, decision.shadow)
    if (!this.#log.enabled('debug') || !this.#deliveries.isNews(identity.clientId, topic)) return
    this.#log.write('deliveryDenied', { ...identity, topic, why: explainDecision(decision) })
  }

  /** A retained message that is sent to nobody, since who published it may no longer do so. */
  retained(publisher: Identity, topic: string, decision: Decision): void {
    this.#denied.add(decision, 'deliveries')
    if (!this.#log.enabled('debug') || !this.#deliveries.isNews(publisher.clientId, topic)) return
    this.#log.write('retainedDenied', { ...publisher, topic, why: explainDecision(decision) })
  }

  /** What the other file would have decided. Each client and topic once, as what is denied. */
  shadow(what: ShadowedKind, identity: Identity, topic: string, decision: Decision): void {
    const { allowed } = decision
    const counters = allowed ? this.#shadowAllowed : this.#shadowDenied
    counters.add(decision, countedAs[what])
    if (!this.#shadows.isNews(identity.clientId, `${what} ${topic}`)) return
    this.#log.write(allowed ? 'shadowAllows' : 'shadowDenies', { ...identity, what, topic, why: explainDecision(decision) })
  }

  /** The files were read again. */
  renew(): void {
    for (const counters of [this.#denied, this.#shadowDenied, this.#shadowAllowed]) counters.renew()
  }

  /** Sums up, at the end. */
  sum(): void {
    const { denied, shadowDenied, shadowAllowed } = this.counts
    this.#sayAll('deniedInAll', denied)
    this.#sayAll('shadowDeniedInAll', shadowDenied)
    this.#sayAll('shadowAllowedInAll', shadowAllowed)
  }

  /** For a timer: what got no line is told as a number, even if nothing follows. */
  settle(): void {
    for (const lines of [this.#publishes, this.#deliveries, this.#subscriptions, this.#shadows]) lines.settle()
  }

  #sayAll(event: 'deniedInAll' | 'shadowDeniedInAll' | 'shadowAllowedInAll', all: readonly DecisionCount[]): void {
    if (all.length === 0) return
    this.#log.write(event, { rules: all.slice(0, mostSummed), more: Math.max(0, all.length - mostSummed) })
  }
}

type Hidden = 'denialsNotShown' | 'deliveryDenialsNotShown' | 'subscriptionDenialsNotShown' | 'shadowNotShown'

/** Lines of one kind: each client and topic once, so many a minute, and what is left out is told as a number. */
class Lines {
  readonly #log: Log
  readonly #hidden: Hidden
  readonly #denials: Denials

  constructor(log: Log, hidden: Hidden, limits: Partial<DenialLimits> = {}) {
    this.#log = log
    this.#hidden = hidden
    this.#denials = new Denials(limits)
  }

  isNews(clientId: string, topic: string): boolean {
    const { show, hidden } = this.#denials.report(clientId, topic, performance.now())
    this.#say(hidden)
    return show
  }

  settle(): void {
    this.#say(this.#denials.settle(performance.now()))
  }

  #say(count: number): void {
    if (count > 0) this.#log.write(this.#hidden, { count })
  }
}
