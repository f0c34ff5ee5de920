// The engine: connections, sessions and messages, and the clock they share. It knows no Aedes: `broker.ts` puts it into one.

import type { Decision } from '../auth/acl.js'
import { decide, explainDecision, openAcl } from '../auth/acl.js'
import { Denials } from '../auth/denials.js'
import type { Identity, Connection as Transport } from '../auth/identity.js'
import type { Admitted, Policy } from '../auth/policy.js'
import type { DeliveryConfig, LimitsConfig, ListenerConfig } from '../config/types.js'
import { errorMessage } from '../errors.js'
import type { Log } from '../log-events.js'
import { Message } from '../message.js'
import type { Connect } from '../protocol/packets.js'
import { reasonCodes } from '../protocol/reason-codes.js'
import type { Connection } from '../session/connection.js'
import { logEnd, nameOf } from '../session/connection-log.js'
import { Flusher } from '../session/flusher.js'
import type { Bounds, DeniedPublish, Events, Hooks, OpenedSession, Routing } from '../session/host.js'
import { type Commit, Ledger } from '../session/ledger.js'
import type { RawPublish, Receiver, Replay, Session } from '../session/session.js'
import { subscriptionKey } from '../session/subscribe.js'
import { Turns } from '../session/turns.js'
import type { Store, StoredWill, Subscription } from '../storage.js'
import { Deadlines } from './deadlines.js'
import { Exchange, type ExchangeHost } from './exchange.js'
import { Sessions, type SessionsHost } from './sessions.js'
import { type Gauges, Stats } from './stats.js'
import { SysTopics, untilNextTick } from './sys-topics.js'

export interface EngineLimits {
  readonly limits: LimitsConfig
  readonly delivery: DeliveryConfig
  /** The listener of a connection as it is configured now; absent: as it was when the connection came. */
  listenerOf?(transport: Transport): ListenerConfig
}

export interface EngineOptions extends EngineLimits {
  readonly log: Log
  readonly store: Store
  readonly hooks: Hooks
  readonly events: Events
  readonly connectTimeout: number
  readonly bounds: Bounds
  /** What $SYS calls the broker's version. */
  readonly version: string
  policyOf(transport: Transport): Policy
  /** What is in force for a session whose connection came by this listener, before a restart; undefined: it has no rights. */
  policyOfAbsent(listener: string | undefined): Policy | undefined
  /** Everything that is published, after it was routed. */
  routed(message: Message, from: Connection | undefined, done?: () => void): void
  registered(connection: Connection): void
  gone(connection: Connection): void
  expired(session: Session): void
}

/** How often deadlines are looked at, milliseconds. */
const tick = 1000
/** Connections whose silence is looked at in one go. */
const perTurn = 500
/** A store that is there and doesn't answer for so long is mentioned. Milliseconds. */
const longWait = 10_000
/** How often retained messages are looked through for expired ones, ticks. */
const retainedSweep = 60

export class Engine implements SessionsHost, ExchangeHost {
  readonly log: Log
  readonly store: Store
  readonly ledger: Ledger
  readonly flusher = new Flusher()
  readonly turns: Turns
  readonly stats = new Stats()
  readonly hooks: Hooks
  readonly events: Events
  readonly connectTimeout: number
  readonly bounds: Bounds
  readonly sessions: Sessions
  readonly exchange: Exchange
  /** Those whose socket exists. */
  readonly connections = new Set<Connection>()
  limits: LimitsConfig
  delivery: DeliveryConfig
  policyVersion = 0
  readonly #options: EngineOptions
  readonly #denials = new Denials()
  readonly #silences = new Deadlines<Connection>()
  readonly #sys: SysTopics
  #heapMaximum = 0
  /** The answer of the store that is waited for, if that was said. */
  #saidWaiting: number | undefined
  #ticks = 0
  #ticker: NodeJS.Timeout | undefined
  #sysTimer: NodeJS.Timeout | undefined
  #isStopping = false

  constructor(options: EngineOptions) {
    const { log, store, hooks, events, limits, delivery, connectTimeout, bounds, version } = options
    this.#options = options
    this.log = log
    this.store = store
    this.hooks = hooks
    this.events = events
    this.limits = limits
    this.delivery = delivery
    this.connectTimeout = connectTimeout
    this.bounds = bounds
    this.ledger = new Ledger(store)
    this.turns = new Turns(error => log.write('fault', { reason: errorMessage(error) }))
    this.sessions = new Sessions(this)
    this.exchange = new Exchange(this)
    this.#sys = new SysTopics(version, performance.now())
  }

  /** Takes up what the store kept. */
  async open(): Promise<void> {
    const { sessions, retained } = await this.store.open()
    for (const message of retained) this.exchange.retained.set(message)
    for (const session of sessions) this.sessions.restore(session)
    this.#ticker = setInterval(() => this.#tick(), tick)
    this.#ticker.unref()
    if (this.delivery.sysInterval > 0) this.#publishSys()
    this.#scheduleSys()
  }

  /** Tells everybody, sends their wills, and gives the store time to take what it was given. */
  async close(): Promise<void> {
    this.#isStopping = true
    clearInterval(this.#ticker)
    clearTimeout(this.#sysTimer)
    for (const connection of [...this.connections])
      connection.finish({ words: 'server shutting down', reasonCode: reasonCodes.serverShuttingDown })
    this.sessions.sendWills()
    // What waits for a store that is away was promised to nobody.
    if (this.store.up !== false) await this.ledger.drained()
  }

  applyLimits({ limits, delivery }: Pick<EngineLimits, 'limits' | 'delivery'>): void {
    const wasDuplicating = this.delivery.allowDuplicateMessages
    const interval = this.delivery.sysInterval
    this.limits = limits
    this.delivery = delivery
    if (wasDuplicating !== delivery.allowDuplicateMessages) this.policyVersion += 1
    if (interval !== delivery.sysInterval) this.#scheduleSys()
    for (const connection of this.connections) connection.applyLimits()
  }

  /** Decisions are made anew from now on. */
  policiesChanged(): void {
    this.policyVersion += 1
  }

  sessionChangedHands(): void {
    this.policyVersion += 1
  }

  /** A message of the broker itself. `done`: whoever listens beside the clients has done so. */
  publish(message: Message, done?: () => void): Commit | undefined {
    const { commit } = this.exchange.route(message, undefined)
    this.#options.routed(message, undefined, done)
    return commit
  }

  // What connections ask.

  get effort(): number {
    return this.exchange.effort
  }

  get isDebugging(): boolean {
    return this.log.enabled('debug')
  }

  policyOf(transport: Transport): Policy {
    return this.#options.policyOf(transport)
  }

  listenerOf(transport: Transport): ListenerConfig {
    return this.#options.listenerOf?.(transport) ?? transport.listener
  }

  findSession(clientId: string): Promise<void> | undefined {
    const { store } = this
    if (store.load === undefined || this.sessions.get(clientId) !== undefined) return undefined
    return store.load(clientId).then(stored => {
      if (stored !== undefined) this.sessions.restore(stored)
    })
  }

  subscriptionsOf(clientId: string): readonly Subscription[] {
    return [...(this.sessions.get(clientId)?.subscriptions.values() ?? [])]
  }

  openSession(connection: Connection, connect: Connect, admitted: Admitted): OpenedSession | 'too-many-clients' | 'unavailable' {
    return this.sessions.open(connection, connect, admitted)
  }

  leaveSession(connection: Connection, session: Session, isClean: boolean): void {
    const ended = session.expiryInterval === 0 ? [...session.subscriptions.keys()] : []
    this.sessions.leave(connection, session, isClean)
    if (ended.length > 0) this.events.unsubscribed(connection, ended)
  }

  route(message: Message, raw: RawPublish | undefined): Routing {
    return this.exchange.route(message, raw)
  }

  routed(message: Message, connection: Connection): void {
    this.#options.routed(message, connection)
  }

  subscribe(session: Session, subscription: Subscription): boolean {
    session.subscriptions.set(subscriptionKey(subscription.filter, subscription.group), subscription)
    return this.exchange.subscribe(session, subscription)
  }

  unsubscribe(session: Session, filter: string, group: string | undefined): boolean {
    session.subscriptions.delete(subscriptionKey(filter, group))
    return this.exchange.unsubscribe(session, filter, group)
  }

  replayOf(session: Session, subscription: Subscription): Replay {
    return this.exchange.replayOf(session, subscription)
  }

  deliverRetained(session: Session, subscription: Subscription, message: Message, connection: Receiver): void {
    this.exchange.deliverRetained(session, subscription, message, connection)
  }

  watch(connection: Connection, deadline: number): void {
    this.#silences.set(connection, deadline)
  }

  unwatch(connection: Connection): void {
    this.#silences.delete(connection)
  }

  registered(connection: Connection): void {
    this.stats.connections += 1
    this.#options.registered(connection)
  }

  closed(connection: Connection): void {
    this.connections.delete(connection)
    // A stop ends them all; Mosquitto has no line for each.
    if (!this.#isStopping) logEnd(connection)
    this.#options.gone(connection)
  }

  sayDenied(connection: Connection, { denial, ...publish }: DeniedPublish): void {
    const { clientId } = connection
    const { dup, qos, retain, packetId, topic, payload } = publish
    const fields = { clientId, dup, qos, retain, packetId, topic, bytes: payload.length }
    if (this.#mayLog(connection, topic, denial.reason))
      this.log.write('publishDenied', { ...fields, ...nameOf(connection), why: denial.why })
    else this.log.write('publishDeniedAgain', fields)
  }

  // What sessions and the exchange ask.

  mayRead(session: Session, topic: string): Decision {
    return this.#decide(session, 'read', topic)
  }

  mayWrite(session: Session, topic: string): Decision {
    return this.#decide(session, 'write', topic)
  }

  mayStillWrite({ source, topic }: Message): boolean {
    if (!this.delivery.checkRetainSource || source === undefined) return true
    const { clientId, username, listener } = source
    const policy = this.#options.policyOfAbsent(listener)
    if (policy === undefined) return false
    const identity: Identity = username === undefined ? { clientId } : { clientId, username }
    return policy.authorize(identity, 'write', topic).allowed
  }

  get forward(): ((session: Session, message: Message) => Message | undefined) | undefined {
    const { authorizeForward } = this.hooks
    if (authorizeForward === undefined) return undefined
    return (session, message) => authorizeForward(session, message)
  }

  dropped(): void {
    this.stats.publishDropped += 1
  }

  deniedDelivery(session: Session, { topic }: Message, decision: Decision): void {
    if (!this.isDebugging) return
    const { clientId, username } = session.identity
    this.log.write('deliveryDenied', { clientId, ...(username !== undefined && { username }), topic, why: explainDecision(decision) })
  }

  publishWill(session: Session, { message, messageExpiryInterval }: StoredWill): void {
    const decision = this.mayWrite(session, message.topic)
    const { topic, payload, qos, retain, properties, source } = message
    if (!decision.allowed) {
      this.#sayWillDenied(session, topic, decision)
      return
    }
    const expiresAt = messageExpiryInterval === undefined ? undefined : Date.now() + messageExpiryInterval * 1000
    const will = new Message({
      topic,
      payload,
      qos,
      retain,
      properties,
      ...(source !== undefined && { source }),
      ...(expiresAt !== undefined && { expiresAt })
    })
    const { authorizeWill } = this.hooks
    if (authorizeWill === undefined) this.publish(will)
    else authorizeWill(session, will, allowed => allowed !== undefined && this.publish(allowed))
  }

  expired(session: Session): void {
    this.stats.clientsExpired += 1
    this.log.write('sessionExpired', { clientId: session.clientId })
    this.#options.expired(session)
  }

  #decide(session: Session, access: 'read' | 'write', topic: string): Decision {
    const policy = session.transport === undefined ? this.#options.policyOfAbsent(session.listenerName) : this.policyOf(session.transport)
    return policy === undefined
      ? decide({ kind: 'closed' }, session.identity, access, topic)
      : policy.authorize(session.identity, access, topic)
  }

  #sayWillDenied(session: Session, topic: string, decision: Decision): void {
    const { clientId, username } = session.identity
    const { show } = this.#denials.report(clientId, topic, performance.now())
    if (!show) return
    this.log.write('willDenied', { clientId, ...(username !== undefined && { username }), topic, why: explainDecision(decision) })
  }

  // Each client and topic once, so many a minute: a client in a loop doesn't fill the log.
  #mayLog(connection: Connection, topic: string, reason: string | undefined): boolean {
    const { show, hidden } = this.#denials.report(connection.clientId, topic, performance.now())
    this.#sayHidden(hidden)
    if (show && reason === 'dangerous-username') this.log.write('dangerousUsername', { username: '', ...nameOf(connection) })
    if (show && reason === 'dangerous-client-id') this.log.write('dangerousClientId', { clientId: connection.clientId })
    return show
  }

  #sayHidden(count: number): void {
    if (count > 0) this.log.write('denialsNotShown', { count })
  }

  // Time.

  #tick(): void {
    this.#sweep()
    this.#watchStore(performance.now())
    this.#ticks += 1
    if (this.#ticks % retainedSweep === 0) this.#expireRetained(this.exchange.expireRetained(Date.now()))
  }

  // One that knows that it is away, or in trouble, says so itself.
  #watchStore(now: number): void {
    const { waitingSince } = this.ledger
    const said = this.#saidWaiting
    if (said !== undefined && said !== waitingSince) {
      this.#saidWaiting = undefined
      this.log.write('storeAnswers', { seconds: Math.round((now - said) / 1000) })
    } else if (said === undefined && waitingSince !== undefined && now - waitingSince >= longWait && this.store.up !== false) {
      this.#saidWaiting = waitingSince
      this.log.write('storeWaiting', { seconds: Math.round((now - waitingSince) / 1000) })
    }
  }

  // A part in each turn.
  #expireRetained(sweep: Iterator<unknown>): void {
    if (!this.#isStopping && sweep.next().done !== true) setImmediate(() => this.#expireRetained(sweep))
  }

  #sweep(): void {
    if (this.#isStopping) return
    try {
      const now = Date.now()
      this.#sayHidden(this.#denials.settle(performance.now()))
      const isDone = this.#endSilent(performance.now())
      if (this.sessions.sweep(now) && isDone) return
    } catch (error) {
      this.log.write('fault', { reason: errorMessage(error) })
    }
    this.turns.later(() => this.#sweep())
  }

  #endSilent(now: number): boolean {
    const due = this.#silences.takeDue(now, perTurn)
    const silent = due.filter(connection => !this.#isHeard(connection, now))
    // What they sent may lie in their sockets still, when it was us who were busy: one look there before the verdict.
    if (silent.length > 0) setImmediate(() => setImmediate(() => this.#endAll(silent)))
    return due.length < perTurn
  }

  #endAll(silent: readonly Connection[]): void {
    for (const connection of silent) {
      if (connection.closed || this.#isHeard(connection, performance.now())) continue
      this.events.keepaliveTimeout(connection)
      connection.finish({ words: 'exceeded timeout', reasonCode: reasonCodes.keepAliveTimeout })
    }
  }

  #isHeard(connection: Connection, now: number): boolean {
    const { silenceEnd, keepalive } = connection
    if (silenceEnd <= now) return false
    this.watch(connection, Math.min(silenceEnd, now + keepalive * 1500))
    return true
  }

  #scheduleSys(): void {
    clearTimeout(this.#sysTimer)
    const wait = untilNextTick(Date.now(), this.delivery.sysInterval)
    if (wait === undefined || this.#isStopping) return
    this.#sysTimer = setTimeout(() => {
      this.#publishSys()
      this.#scheduleSys()
    }, wait)
    this.#sysTimer.unref()
  }

  #publishSys(): void {
    for (const { topic, payload } of this.#sys.tick(this.stats, this.#gauges(), performance.now())) {
      this.exchange.route(new Message({ topic, payload: Buffer.from(payload), qos: 2, retain: true }), undefined)
    }
  }

  #gauges(): Gauges {
    const { sessions, exchange, connections } = this
    const heapCurrent = process.memoryUsage().heapUsed
    this.#heapMaximum = Math.max(this.#heapMaximum, heapCurrent)
    let messages = exchange.retained.count
    let bytes = exchange.retained.bytes
    let connected = 0
    for (const session of sessions.all()) {
      messages += session.pending
      bytes += session.pendingBytes
      if (session.connection !== undefined) connected += 1
    }
    let packetsOut = 0
    let packetBytesOut = 0
    for (const connection of connections) {
      packetsOut += connection.waiting
      packetBytesOut += connection.waitingBytes
    }
    return {
      clientsTotal: sessions.count,
      clientsConnected: connected,
      messagesStored: messages,
      messageBytesStored: bytes,
      subscriptions: exchange.subscriptionCount,
      sharedSubscriptions: exchange.sharedCount,
      retainedMessages: exchange.retained.count,
      packetsOut,
      packetBytesOut,
      heapCurrent,
      heapMaximum: this.#heapMaximum
    }
  }
}

/** For a broker without a configuration: everybody may do everything but write what is the broker's own. */
export const openPolicy: Policy = Object.freeze({
  authenticate: async (_transport, credentials) => {
    const { clientId, username } = credentials
    const identity = username === undefined ? { clientId } : { clientId, username }
    return { ok: true, identity, provenBy: 'anonymous', credentials }
  },
  recheck: (_transport, admitted) => admitted,
  authorize: (identity, access, topic) => decide(openAcl, identity, access, topic)
} satisfies Policy)
