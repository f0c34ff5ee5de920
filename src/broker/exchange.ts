// A message on its way to everybody who subscribed: who they are is looked up once for each topic and kept, with the decision whether each
// may read it, until a subscription or a rule changes.

import type { Decision } from '../auth/acl.js'
import { Message } from '../message.js'
import type { Qos } from '../protocol/packets.js'
import type { Routing } from '../session/host.js'
import type { Commit } from '../session/ledger.js'
import type { RawPublish, Receiver, Replay, Session, SessionHost } from '../session/session.js'
import type { QueueEntry, Subscription } from '../storage.js'
import { MatchCache } from './match-cache.js'
import { RetainedMessages } from './retained.js'
import { Router, type SharedGroup, type Target } from './router.js'

export interface ExchangeHost extends SessionHost {
  /** May who published it still write to its topic? */
  mayStillWrite(message: Message): boolean
  deniedDelivery(session: Session, message: Message, decision: Decision): void
}

interface Delivery {
  readonly session: Session
  readonly subscription: Subscription
  readonly decision: Decision
}

/** Everybody who is to get what is published to one topic. */
interface Plan {
  readonly deliveries: readonly Delivery[]
  readonly groups: readonly SharedGroup<Session>[]
}

const cacheLimits = { topics: 20_000, weight: 400_000 }

export class Exchange {
  readonly retained = new RetainedMessages(Date.now)
  readonly #router = new Router<Session>()
  readonly #plans = new MatchCache<Plan>(cacheLimits)
  readonly #host: ExchangeHost
  readonly #routing: { isMatched: boolean; commit: Commit | undefined } = { isMatched: false, commit: undefined }
  /** Grows by the receivers of each message. */
  effort = 0
  /** Under way, and what has to be durable of it. */
  #current: Message | undefined
  #commit: Commit | undefined
  /** Of stored sessions, for the message under way. */
  #entries: QueueEntry[] = []
  #sessions: Session[] = []

  constructor(host: ExchangeHost) {
    this.#host = host
  }

  get subscriptionCount(): number {
    return this.#router.subscriptionCount
  }

  get sharedCount(): number {
    return this.#router.sharedCount
  }

  /** True: the session had none of that filter and group. */
  subscribe(session: Session, subscription: Subscription): boolean {
    return this.#router.add(session, subscription)
  }

  unsubscribe(session: Session, filter: string, group: string | undefined): boolean {
    return this.#router.remove(session, filter, group)
  }

  /** Stored sessions get it when it is durable, the others now. `raw`: the bytes it came in, where they may go on as they are. */
  route(message: Message, raw: RawPublish | undefined): Routing {
    const outer = this.#current
    const outerCommit = this.#commit
    // A log line that goes to a topic, or a hook that publishes: what is on its way keeps its place before it.
    const before = outer !== undefined && this.#entries.length > 0 ? this.#store(outer) : outerCommit
    this.#current = message
    this.#commit = undefined
    try {
      return this.#route(message, raw)
    } finally {
      this.#current = outer
      this.#commit = before
      if (this.#entries.length > 0) this.#forgetEntries()
    }
  }

  #route(message: Message, raw: RawPublish | undefined): Routing {
    const { deliveries, groups } = this.#plan(message.topic)
    this.effort += deliveries.length
    this.#commit = message.retain ? this.#retain(message) : undefined
    for (let i = 0; i < deliveries.length; i++) {
      const delivery = deliveries[i]
      if (delivery !== undefined) this.#deliver(delivery, message, raw)
    }
    for (const group of groups) this.#deliverShared(group, message)
    if (this.#entries.length > 0 || (message.qos > 0 && this.#host.store.load !== undefined)) this.#commit = this.#store(message)
    const routing = this.#routing
    routing.isMatched = deliveries.length > 0 || groups.length > 0
    routing.commit = this.#commit
    return routing
  }

  /** The retained messages that a new subscription gets. */
  replayOf(session: Session, subscription: Subscription): Replay {
    const walk = this.retained.walk(subscription.filter)
    const mayRead = (topic: string): boolean => this.#host.mayRead(session, topic).allowed
    return {
      subscription,
      next: () => {
        const { done, value } = walk.next()
        if (done) return undefined
        if (value === undefined || !mayRead(value.topic) || !this.#host.mayStillWrite(value)) return 'pause'
        return value
      }
    }
  }

  /** One retained message to one session, told that it is one. */
  deliverRetained(session: Session, subscription: Subscription, message: Message, connection: Receiver): void {
    const forwarded = this.#forward(session, message)
    if (forwarded === undefined) return
    const qos = this.#qosOf(forwarded, subscription)
    if (qos === 0) {
      connection.sendLive(forwarded, true, subscription.identifier, undefined)
      return
    }
    const entry = session.enqueue(forwarded, qos, true, subscription.identifier)
    if (entry === undefined) return
    // On its own: a message may be on its way to others just now.
    const commit = session.isStored ? this.#host.ledger.record({ kind: 'enqueue', message: forwarded, entries: [entry] }) : undefined
    if (commit === undefined) session.take(entry)
    else commit.hand(entry, session)
  }

  /** Removes retained messages whose time is over; each step is a part that fits into a turn. */
  *expireRetained(now: number): Generator<void, void> {
    for (const message of this.retained.expire(now)) {
      if (message === undefined) yield
      else this.#host.ledger.record({ kind: 'retain', topic: message.topic })
    }
  }

  // Without a payload it is removed [MQTT-3.3.1-10]. What $SYS says is true for this process alone.
  #retain(message: Message): Commit | undefined {
    const { topic, payload } = message
    const kept = payload.length === 0 ? undefined : this.#keptForm(message)
    if (kept === undefined) this.retained.delete(topic)
    else this.retained.set(kept)
    if (topic.startsWith('$SYS/')) return undefined
    return this.#host.ledger.record({ kind: 'retain', topic, ...(kept && { message: kept }) })
  }

  // In memory of its own, and with the end that the configuration gives it.
  #keptForm(message: Message): Message {
    const { retainExpiryInterval } = this.#host.delivery
    message.keep()
    const { topic, payload, qos, retain, properties, source } = message
    const limit = retainExpiryInterval > 0 ? Date.now() + retainExpiryInterval * 1000 : Number.POSITIVE_INFINITY
    const expiresAt = Math.min(message.expiresAt, limit)
    return new Message({ topic, payload, qos, retain, properties, expiresAt, ...(source && { source }) })
  }

  #deliver({ session, subscription, decision }: Delivery, message: Message, raw: RawPublish | undefined): void {
    if (!decision.allowed) {
      this.#host.deniedDelivery(session, message, decision)
      return
    }
    if (session.hasEnded) return
    // Its own will too [MQTT-3.8.3-3].
    if (subscription.noLocal && message.source?.clientId === session.clientId) return
    const forwarded = this.#forward(session, message)
    if (forwarded === undefined) return
    const qos = this.#qosOf(forwarded, subscription)
    const retain = subscription.retainAsPublished && forwarded.retain
    if (qos === 0 && session.connection !== undefined) {
      session.connection.sendLive(forwarded, retain, subscription.identifier, forwarded === message ? raw : undefined)
    } else if (qos > 0 || (session.connection === undefined && session.isStored && this.#host.delivery.queueQos0Messages)) {
      this.#enqueue(session, forwarded, qos, retain, subscription.identifier)
    }
  }

  // Who is there comes before who is away: that one's queue would keep what others could have now.
  #deliverShared(group: SharedGroup<Session>, message: Message): void {
    const { topic } = message
    const mayRead = ({ subscriber }: Target<Session>): boolean => !subscriber.hasEnded && this.#host.mayRead(subscriber, topic).allowed
    const target = group.next(each => each.subscriber.connection !== undefined && mayRead(each)) ?? group.next(mayRead)
    if (target === undefined) return
    const { subscriber: session, subscription } = target
    this.#deliver({ session, subscription, decision: this.#host.mayRead(session, topic) }, message, undefined)
  }

  #enqueue(session: Session, message: Message, qos: Qos, retain: boolean, identifier: number): void {
    const entry = session.enqueue(message, qos, retain, identifier)
    if (entry === undefined) return
    if (session.isStored) {
      this.#entries.push(entry)
      this.#sessions.push(session)
    } else {
      session.take(entry)
    }
  }

  #forgetEntries(): void {
    this.#entries = []
    this.#sessions = []
  }

  #store(message: Message): Commit | undefined {
    const entries = this.#entries
    const sessions = this.#sessions
    this.#forgetEntries()
    const commit = this.#host.ledger.record({ kind: 'enqueue', message, entries })
    for (let i = 0; i < entries.length; i++) {
      const [entry, session] = [entries[i], sessions[i]]
      if (entry === undefined || session === undefined) continue
      if (commit === undefined) session.take(entry)
      else commit.hand(entry, session)
    }
    return commit
  }

  #forward(session: Session, message: Message): Message | undefined {
    const { forward } = this.#host
    return forward === undefined ? message : forward(session, message)
  }

  #qosOf(message: Message, { qos }: Subscription): Qos {
    return this.#host.delivery.upgradeOutgoingQos || qos < message.qos ? qos : message.qos
  }

  #plan(topic: string): Plan {
    // Both numbers only grow: no two states have the same sum.
    const version = this.#router.version + this.#host.policyVersion
    const known = this.#plans.get(topic, version)
    if (known !== undefined) return known
    const { targets, groups } = this.#router.match(topic)
    const deliveries = this.#merge(targets).map(({ subscriber: session, subscription }) => {
      return { session, subscription, decision: this.#host.mayRead(session, topic) }
    })
    const plan = { deliveries, groups }
    this.#plans.set(topic, plan, 1 + deliveries.length)
    return plan
  }

  // `allow_duplicate_messages false`: an MQTT 3 client gets one copy, with the highest QoS of its filters [MQTT-3.3.5-1].
  #merge(targets: readonly Target<Session>[]): readonly Target<Session>[] {
    if (this.#host.delivery.allowDuplicateMessages || targets.length < 2) return targets
    const best = new Map<Session, Target<Session>>()
    for (const target of targets) {
      const { subscriber, subscription } = target
      const known = best.get(subscriber)
      if (known === undefined || known.subscription.qos < subscription.qos) best.set(subscriber, target)
    }
    return targets.filter(target => target.subscriber.version === 5 || best.get(target.subscriber) === target)
  }
}
