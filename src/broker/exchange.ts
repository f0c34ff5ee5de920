// A message on its way to everybody who subscribed: who they are is looked up once for each topic and kept, with the decision whether each
// may read it, until a subscription or a rule changes. A message to very many goes to them over several turns of the event loop; all others
// wait behind it meanwhile, so that every order there is stays.

import type { Decision } from '../auth/acl.js'
import { errorMessage } from '../errors.js'
import { Message } from '../message.js'
import type { Qos } from '../protocol/packets.js'
import { Deque } from '../session/deque.js'
import type { Release, Routing, UnderWay } from '../session/host.js'
import type { Commit } from '../session/ledger.js'
import type { Receiver, Replay, Session, SessionHost } from '../session/session.js'
import type { QueueEntry, Subscription } from '../storage.js'
import { MatchCache } from './match-cache.js'
import { RetainedMessages } from './retained.js'
import { Router, type SharedGroup, type Target } from './router.js'

export interface ExchangeHost extends SessionHost {
  /** May who published it still write to its topic? */
  mayStillWrite(message: Message): boolean
  /** Something of ours threw on the way to this session. */
  deliveryFailed(session: Session, error: unknown): void
}

/** Everybody who is to get what is published to one topic. */
interface Plan {
  readonly targets: readonly Target<Session>[]
  readonly groups: readonly SharedGroup<Session>[]
  /** Of the targets, as far as they were asked for. */
  readonly decisions: Decision[]
  /** Of what it was made from. */
  readonly version: number
}

/** To more receivers than these a message goes over several turns. */
const manyReceivers = 1000
/** And so does one for whose groups more members are looked at. */
const manyMembers = 4000
/** Of those, between two looks at the clock; and how much they may come to. */
const perLook = 32
const effortPerLook = 256

const cacheLimits = { topics: 20_000, weight: 400_000 }

export class Exchange {
  readonly retained = new RetainedMessages(Date.now)
  readonly #router = new Router<Session>()
  readonly #plans = new MatchCache<Plan>(cacheLimits)
  readonly #host: ExchangeHost
  readonly #routing: { isMatched: boolean; commit: Commit | undefined; underWay: UnderWay | undefined } = {
    isMatched: false,
    commit: undefined,
    underWay: undefined
  }
  /** Grows by the receivers of each message, by the nodes that were visited to find them, and by members of groups that were looked at. */
  effort = 0
  /** Under way, and what has to be durable of it. */
  #current: Message | undefined
  #commit: Commit | undefined
  /** Of stored sessions, for the message under way. */
  #entries: QueueEntry[] = []
  #sessions: Session[] = []
  /** To very many, the one that is being delivered. */
  #fanOut: Passage | undefined
  /** What came meanwhile, in order. */
  readonly #waiting = new Deque<Passage>()
  /** Of those, how many have their turn before whoever is through is told. */
  #round = 0
  /** They are through; whoever published them doesn't know yet. */
  readonly #through = new Deque<Passage>()
  #isFinishing = false
  /** One is on its way to very many, or others wait behind it. */
  isRouting = false

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

  /**
   * Stored sessions get it when it is durable, the others now. `release` is
   * recorded together with the entries.
   */
  route(message: Message, release?: Release): Routing {
    if (!this.isRouting) return this.#routeNow(message, release)
    message.keep()
    const passage = new Passage(message, release)
    this.#waiting.push(passage)
    return this.#routed(false, undefined, passage)
  }

  /** What is on its way gets there now, and from now on nothing is put off: the broker stops. */
  finish(): void {
    this.#isFinishing = true
    while (this.isRouting || this.#through.size > 0) {
      try {
        if (this.#fanOut === undefined) this.#takeWaiting()
        else this.#goOn()
      } catch (error) {
        this.#host.log.write('fault', { reason: errorMessage(error) })
      }
    }
  }

  #routeNow(message: Message, release: Release | undefined, passage?: Passage): Routing {
    const outer = this.#current
    const outerCommit = this.#commit
    // A log line that goes to a topic, or a hook that publishes: what is on its way keeps its place before it.
    const before = outer !== undefined && this.#entries.length > 0 ? this.#store(outer) : outerCommit
    this.#current = message
    this.#commit = undefined
    try {
      return this.#route(message, release, passage)
    } finally {
      this.#current = outer
      this.#commit = before
      // Something threw: those who had their turn before have their message.
      if (this.#entries.length > 0) this.#store(message)
    }
  }

  #route(message: Message, release: Release | undefined, passage: Passage | undefined): Routing {
    const plan = this.#plan(message.topic)
    const { targets, groups } = plan
    const { effort } = this
    const receivers = targets.length + groups.length
    this.#commit = message.retain ? this.#retain(message) : undefined
    if (receivers > manyReceivers && !this.#isFinishing) {
      return this.#begin(passage ?? new Passage(message, release), plan, this.#commit)
    }
    this.effort += receivers
    for (let i = 0; i < targets.length; i++) {
      const target = targets[i]
      if (target !== undefined)
        this.#deliver(target.subscriber, target.subscription, this.#decisionOf(plan, i, target, message.topic), message)
    }
    for (let i = 0; i < groups.length; i++) {
      const group = groups[i]
      if (group !== undefined) this.#deliverShared(group, message)
      // Members who may not have it are as many as they like, in each of the groups.
      if (this.effort - effort <= manyMembers || this.#isFinishing || this.#fanOut !== undefined) continue
      const rest = passage ?? new Passage(message, release)
      rest.at = targets.length + i + 1
      rest.entries = this.#entries
      rest.sessions = this.#sessions
      this.#forgetEntries()
      return this.#begin(rest, plan, this.#commit)
    }
    this.#record(message, release)
    return this.#routed(isFor(plan), this.#commit, undefined)
  }

  #routed(isMatched: boolean, commit: Commit | undefined, underWay: UnderWay | undefined): Routing {
    const routing = this.#routing
    routing.isMatched = isMatched
    routing.commit = commit
    routing.underWay = underWay
    return routing
  }

  // In one commit. A store that is not atomic and stops in the middle repeats the message rather than losing it.
  #record(message: Message, release: Release | undefined): void {
    if (this.#entries.length > 0 || (message.qos > 0 && this.#host.store.load !== undefined)) this.#commit = this.#store(message)
    if (release === undefined || release.session.hasEnded) return
    const { session, packetId } = release
    this.#commit = this.#host.ledger.record({ kind: 'release', clientId: session.clientId, packetId })
  }

  // To very many.

  #begin(passage: Passage, plan: Plan, commit: Commit | undefined): Routing {
    // It stays for longer than a turn.
    passage.message.keep()
    passage.plan = plan
    passage.isMatched = isFor(plan)
    passage.commit = commit
    this.#fanOut = passage
    this.isRouting = true
    this.#host.turns.soon(this.#goOn)
    return this.#routed(passage.isMatched, undefined, passage)
  }

  readonly #goOn = (): void => {
    const passage = this.#fanOut
    if (passage?.plan === undefined) return
    let isThrough = false
    try {
      isThrough = this.#deliverSome(passage, passage.plan)
    } finally {
      // Also when a hook has thrown: everybody else gets it.
      if (!isThrough) this.#host.turns.soon(this.#goOn)
    }
    if (!isThrough) return
    this.#fanOut = undefined
    this.#through.push(passage)
    this.#takeWaiting()
  }

  // False: there are more, for a later turn.
  #deliverSome(passage: Passage, plan: Plan): boolean {
    const { message, release } = passage
    const end = plan.targets.length + plan.groups.length
    this.#current = message
    this.#commit = passage.commit
    this.#entries = passage.entries
    this.#sessions = passage.sessions
    let { effort } = this
    try {
      while (passage.at < end) {
        const at = passage.at++
        this.#deliverOne(at, plan, message)
        if (passage.at % perLook > 0 && this.effort - effort < effortPerLook) continue
        effort = this.effort
        if (this.#host.store.isDurableAtOnce && this.#entries.length > 0) this.#commit = this.#store(message)
        if (this.#isOver) return false
      }
      this.#dropEnded()
      this.#record(message, release)
      return true
    } finally {
      passage.entries = this.#entries
      passage.sessions = this.#sessions
      passage.commit = this.#commit
      this.#forgetEntries()
      this.#current = undefined
      this.#commit = undefined
    }
  }

  // As it is now: who has unsubscribed, or lost the right, since the message came, gets nothing; who came later isn't in the plan.
  #deliverOne(at: number, plan: Plan, message: Message): void {
    const target = plan.targets[at]
    if (target === undefined) {
      const group = plan.groups[at - plan.targets.length]
      if (group !== undefined) this.#deliverShared(group, message)
      return
    }
    const { subscriber: session, subscription } = target
    if (plan.version === this.#version) {
      this.#deliver(session, subscription, this.#decisionOf(plan, at, target, message.topic), message)
      return
    }
    const current = session.hasEnded ? undefined : this.#router.find(session, subscription.filter)
    if (current !== undefined) this.#deliver(session, current, this.#host.mayRead(session, message.topic), message)
  }

  // What was theirs is dropped in the store already; a session that came after them may have the same identifier.
  #dropEnded(): void {
    const entries = this.#entries
    const sessions = this.#sessions
    if (!sessions.some(({ hasEnded }) => hasEnded)) return
    this.#entries = entries.filter((_, i) => sessions[i]?.hasEnded === false)
    this.#sessions = sessions.filter(({ hasEnded }) => !hasEnded)
  }

  // In rounds: a publisher that is told goes on at once, and the others wait behind it only if it has very many receivers again.
  readonly #takeWaiting = (): void => {
    if (this.#round === 0) this.#round = this.#waiting.size
    while (this.#fanOut === undefined && this.#round > 0) {
      this.#round -= 1
      const passage = this.#waiting.shift()
      if (passage !== undefined) this.#pass(passage)
      if (this.#round === 0 || !this.#isOver) continue
      this.#host.turns.soon(this.#takeWaiting)
      return
    }
    if (this.#fanOut === undefined) {
      this.isRouting = this.#waiting.size > 0
      if (this.isRouting) this.#host.turns.soon(this.#takeWaiting)
    }
    this.#tellThrough()
  }

  #pass(passage: Passage): void {
    const { message, release } = passage
    try {
      const { isMatched, commit, underWay } = this.#routeNow(message, release, passage)
      if (underWay !== undefined) return
      passage.isMatched = isMatched
      passage.commit = commit
    } catch (error) {
      // A hook's. Its publisher goes on.
      this.#host.log.write('fault', { reason: errorMessage(error) })
    }
    this.#through.push(passage)
  }

  readonly #tellThrough = (): void => {
    while (this.#through.size > 0) {
      const passage = this.#through.shift()
      if (passage !== undefined) passage.done?.(this.#routed(passage.isMatched, passage.commit, undefined))
      if (this.#through.size === 0 || !this.#isOver) continue
      this.#host.turns.soon(this.#tellThrough)
      return
    }
  }

  get #isOver(): boolean {
    return !this.#isFinishing && this.#host.turns.isOver
  }

  /** The retained messages that a new subscription gets. */
  replayOf(session: Session, subscription: Subscription): Replay {
    const walk = this.retained.walk(subscription.filter)
    return {
      subscription,
      next: () => {
        const { done, value } = walk.next()
        if (done) return undefined
        if (value === undefined || !this.#mayReplay(session, value)) return 'pause'
        return value
      }
    }
  }

  #mayReplay(session: Session, message: Message): boolean {
    const decision = this.#host.mayRead(session, message.topic)
    if (!decision.allowed) {
      this.#host.deniedDelivery(session, message, decision)
      return false
    }
    if (!this.#host.mayStillWrite(message)) return false
    if (decision.shadow !== undefined) this.#host.shadowedDelivery(session, message, decision.shadow)
    return true
  }

  /** One retained message to one session, told that it is one. */
  deliverRetained(session: Session, subscription: Subscription, message: Message, connection: Receiver): void {
    const forwarded = this.#forward(session, message)
    if (forwarded === undefined) return
    const qos = this.#qosOf(forwarded, subscription)
    if (qos === 0) {
      connection.sendLive(forwarded, true, subscription.identifier)
      return
    }
    this.enqueueAlone(session, forwarded, qos, true, subscription.identifier)
  }

  /** Into one queue, on its own: a message may be on its way to others just now. */
  enqueueAlone(session: Session, message: Message, qos: Qos, retain: boolean, identifier: number): Commit | 'full' | undefined {
    // An entry that was given its place before comes before it into the store.
    if (session.isStored && this.#fanOut !== undefined) this.#recordSome(this.#fanOut)
    const entry = session.enqueue(message, qos, retain, identifier)
    if (entry === undefined) return 'full'
    const commit = session.isStored ? this.#host.ledger.record({ kind: 'enqueue', message, entries: [entry] }) : undefined
    if (commit === undefined) session.take(entry)
    else commit.hand(entry, session)
    return commit
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
    const { topic, payloadLength } = message
    const kept = payloadLength === 0 ? undefined : this.#keptForm(message)
    if (kept === undefined) this.retained.delete(topic)
    else this.retained.set(kept)
    if (topic.startsWith('$SYS/')) return undefined
    return this.#host.ledger.record({ kind: 'retain', topic, ...(kept && { message: kept }) })
  }

  // In memory of its own, and with the end that the configuration gives it.
  #keptForm(message: Message): Message {
    const { retainExpiryInterval } = this.#host.delivery
    const { topic, payload, qos, retain, properties, source } = message
    const limit = retainExpiryInterval > 0 ? Date.now() + retainExpiryInterval * 1000 : Number.POSITIVE_INFINITY
    const expiresAt = Math.min(message.expiresAt, limit)
    const kept = new Message({ topic, payload, qos, retain, properties, expiresAt, ...(source && { source }) })
    kept.settle()
    return kept
  }

  // What goes wrong for one receiver is its own matter: the others get the message, and it is stored for those that are away.
  #deliver(session: Session, subscription: Subscription, decision: Decision, message: Message): void {
    try {
      this.#deliverTo(session, subscription, decision, message)
    } catch (error) {
      this.#host.deliveryFailed(session, error)
    }
  }

  #deliverTo(session: Session, subscription: Subscription, decision: Decision, message: Message): void {
    if (!decision.allowed) {
      this.#host.deniedDelivery(session, message, decision)
      return
    }
    if (session.hasEnded) return
    // Its own will too [MQTT-3.8.3-3].
    if (subscription.noLocal && message.source?.clientId === session.clientId) return
    if (decision.shadow !== undefined) this.#host.shadowedDelivery(session, message, decision.shadow)
    const forwarded = this.#forward(session, message)
    if (forwarded === undefined) return
    const qos = this.#qosOf(forwarded, subscription)
    const retain = subscription.retainAsPublished && forwarded.retain
    if (qos === 0 && session.connection !== undefined) {
      session.connection.sendLive(forwarded, retain, subscription.identifier)
    } else if (qos > 0 || (session.connection === undefined && session.isStored && this.#host.delivery.queueQos0Messages)) {
      this.#enqueue(session, forwarded, qos, retain, subscription.identifier)
    }
  }

  // Who is there comes before who is away: that one's queue would keep what others could have now. Who does
  // not come back gets nothing. All are looked at once.
  #deliverShared(group: SharedGroup<Session>, message: Message): void {
    const { topic } = message
    let away: Target<Session> | undefined
    let denied: { readonly session: Session; readonly decision: Decision }[] | undefined
    const present = group.next(target => {
      this.effort += 1
      const { subscriber: session } = target
      const isAway = session.connection === undefined
      if (session.hasEnded || (isAway && (away !== undefined || session.isOver))) return false
      const decision = this.#host.mayRead(session, topic)
      if (!decision.allowed) {
        denied ??= []
        denied.push({ session, decision })
      } else if (isAway) away = target
      return decision.allowed && !isAway
    })
    const target = present ?? away
    if (target === undefined) {
      for (const { session, decision } of denied ?? []) this.#host.deniedDelivery(session, message, decision)
      return
    }
    if (present === undefined) group.endTurn(target)
    const { subscriber: session, subscription } = target
    this.#deliver(session, subscription, this.#host.mayRead(session, topic), message)
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

  // What is on its way to very many, as far as it has come.
  #recordSome(passage: Passage): void {
    if (this.#current === passage.message) {
      this.#commit = this.#storeSome(passage.message) ?? this.#commit
      return
    }
    const [entries, sessions] = [this.#entries, this.#sessions]
    this.#entries = passage.entries
    this.#sessions = passage.sessions
    passage.commit = this.#storeSome(passage.message) ?? passage.commit
    passage.entries = this.#entries
    passage.sessions = this.#sessions
    this.#entries = entries
    this.#sessions = sessions
  }

  #storeSome(message: Message): Commit | undefined {
    this.#dropEnded()
    return this.#entries.length > 0 ? this.#store(message) : undefined
  }

  #forward(session: Session, message: Message): Message | undefined {
    const { forward } = this.#host
    return forward === undefined ? message : forward(session, message)
  }

  #qosOf(message: Message, { qos }: Subscription): Qos {
    return this.#host.delivery.upgradeOutgoingQos || qos < message.qos ? qos : message.qos
  }

  #plan(topic: string): Plan {
    const version = this.#version
    const known = this.#plans.get(topic, version)
    if (known !== undefined) return known
    const { targets: found, groups, visited } = this.#router.match(topic)
    this.effort += visited
    const targets = this.#merge(found)
    const plan = { targets, groups, decisions: [], version }
    this.#plans.set(topic, plan, 1 + targets.length + groups.length)
    return plan
  }

  // Both numbers only grow: no two states have the same sum.
  get #version(): number {
    return this.#router.version + this.#host.policyVersion
  }

  // Asked for when the message comes to that target: of ten thousands, not all at once.
  #decisionOf({ decisions }: Plan, at: number, { subscriber }: Target<Session>, topic: string): Decision {
    const known = decisions[at]
    if (known !== undefined) return known
    const decision = this.#host.mayRead(subscriber, topic)
    decisions[at] = decision
    return decision
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

const isFor = ({ targets, groups }: Plan): boolean => targets.length > 0 || groups.length > 0

/** A message that takes several turns, or waits for one that does. */
class Passage implements UnderWay {
  readonly message: Message
  readonly release: Release | undefined
  done: ((routing: Routing) => void) | undefined = undefined
  plan: Plan | undefined = undefined
  /** The next target, then the next group. */
  at = 0
  entries: QueueEntry[] = []
  sessions: Session[] = []
  isMatched = false
  commit: Commit | undefined = undefined

  constructor(message: Message, release: Release | undefined) {
    this.message = message
    this.release = release
  }
}
