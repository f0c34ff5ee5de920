// The engine: connections, sessions and messages, and the clock they share. It knows no Aedes: `broker.ts` puts it into one.

import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises'
import type { Decision } from '../auth/acl.js'
import { closedAcl, decide, openAcl } from '../auth/acl.js'
import { decideFilter } from '../auth/acl-reach.js'
import type { Connection as Transport } from '../auth/identity.js'
import type { Admitted, Policy } from '../auth/policy.js'
import type { DeliveryConfig, LimitsConfig, ListenerConfig } from '../config/types.js'
import { errorMessage } from '../errors.js'
import type { Log } from '../log-events.js'
import { Message, type MessageSource } from '../message.js'
import type { Connect, Qos } from '../protocol/packets.js'
import { reasonCodes } from '../protocol/reason-codes.js'
import { Connection } from '../session/connection.js'
import { logEnd } from '../session/connection-log.js'
import { Flusher } from '../session/flusher.js'
import type { Bounds, DeniedPublish, Events, Hooks, OpenedSession, Release, Routing } from '../session/host.js'
import { type Commit, Ledger } from '../session/ledger.js'
import type { Receiver, Replay, Session } from '../session/session.js'
import { subscriptionKey } from '../session/subscribe.js'
import { Turns } from '../session/turns.js'
import type { Store, StoredWill, Subscription } from '../storage.js'
import { AclLog } from './acl-log.js'
import { type CertificateRules, CertificateWatch } from './certificate-watch.js'
import { Deadlines } from './deadlines.js'
import { type Dismissal, endOf } from './dismissal.js'
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
  /** Absent: connections outlast their certificates. */
  readonly certificates?: CertificateRules
  /** Everything that is published, after it was routed. `isHookDue`: the embedder's `published` is to be asked; a client's connection does that itself. */
  routed(message: Message, from: Connection | undefined, isHookDue: boolean, done?: (error?: Error) => void): void
  registered(connection: Connection): void
  gone(connection: Connection): void
  expired(session: Session): void
}

/** How often deadlines are looked at, milliseconds. */
const tick = 1000
/** Connections whose silence is looked at in one go. */
const perTurn = 500
/** Sessions that are counted for `$SYS` in one turn. */
const countedPerTurn = 10_000
/** A store that is there and doesn't answer for so long is mentioned. Milliseconds. */
const longWait = 10_000
/** How long the wills of all may take when the broker stops, milliseconds; and as long again, once their clients are gone. */
const willTime = 2000
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
  readonly aclLog: AclLog
  readonly certificates: CertificateWatch
  /** Those whose socket exists. */
  readonly connections = new Set<Connection>()
  limits: LimitsConfig
  delivery: DeliveryConfig
  policyVersion = 0
  readonly #options: EngineOptions
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
    this.turns = new Turns(error => log.write('fault', { reason: errorMessage(error) }))
    this.ledger = new Ledger(store, this.turns)
    this.sessions = new Sessions(this)
    this.exchange = new Exchange(this)
    this.aclLog = new AclLog(log)
    this.certificates = new CertificateWatch(options.certificates ?? lasting, this)
    this.#sys = new SysTopics(version, performance.now())
  }

  /** Takes up what the store kept. */
  async open(): Promise<void> {
    const { sessions, retained } = await this.store.open()
    if (this.#isStopping) throw new Error('the broker was closed while its store was opened')
    for (const message of retained) this.exchange.retained.set(message)
    for (const session of sessions) this.sessions.restore(session)
    this.#ticker = setInterval(() => this.#tick(), tick)
    this.#ticker.unref()
    if (this.delivery.sysInterval > 0) void this.#publishSys()
    this.#scheduleSys()
  }

  /** Sends everybody's will, tells them, and gives the store time to take what it was given. */
  async close(): Promise<void> {
    this.#isStopping = true
    clearInterval(this.#ticker)
    clearTimeout(this.#sysTimer)
    // Whatever they still send is not read.
    for (const connection of this.connections) connection.hold()
    const began = performance.now()
    await this.#sendWills(began + willTime)
    const late = this.#takeWills()
    this.exchange.finish()
    for (const connection of [...this.connections])
      connection.finish({ words: 'server shutting down', reasonCode: reasonCodes.serverShuttingDown })
    await this.#sendLateWills(late, began + 2 * willTime)
    this.sessions.sendWills()
    // What waits for a store that is away was promised to nobody.
    if (this.store.up !== false) await this.ledger.drained()
  }

  // While all of them are still there to hear them, as Mosquitto does, as far as there is time.
  async #sendWills(until: number): Promise<void> {
    const inTime = (): boolean => performance.now() < until
    for (const session of this.#withWill()) {
      // To many receivers it goes in slices.
      while (this.exchange.isRouting && inTime()) await nextTurn()
      if (this.turns.isOver) await nextTurn()
      if (!inTime()) return
      this.sessions.sendWill(session)
    }
    while (this.exchange.isRouting && inTime()) await nextTurn()
    // Sessions that are kept hear what is durable.
    const left = Math.max(0, until - performance.now())
    if (this.store.up !== false) await Promise.race([this.ledger.drained(), sleep(left, undefined, { ref: false })])
  }

  // In the order of their connections; what is to be delayed comes last.
  #withWill(): readonly Session[] {
    const sessions = [...this.connections].flatMap(({ session }) => (session?.will === undefined ? [] : [session]))
    const isDelayed = ({ will, expiryInterval }: Session): boolean => Math.min(will?.delayInterval ?? 0, expiryInterval) > 0
    return [...sessions.filter(session => !isDelayed(session)), ...sessions.filter(isDelayed)]
  }

  #takeWills(): readonly (() => void)[] {
    return this.#withWill().flatMap(session => {
      const { will } = session
      session.will = undefined
      return will === undefined ? [] : [() => this.publishWill(session, will)]
    })
  }

  // Nobody is there any more: for sessions that are kept, and as retained messages.
  async #sendLateWills(wills: readonly (() => void)[], until: number): Promise<void> {
    for (const [i, send] of wills.entries()) {
      if (this.turns.isOver) await nextTurn()
      if (performance.now() >= until) {
        this.log.write('willsNotSent', { count: wills.length - i })
        return
      }
      send()
    }
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
    this.aclLog.renew()
  }

  sessionChangedHands(): void {
    this.policyVersion += 1
  }

  /**
   * A message of the broker itself, or of a client that does not publish it now. `heard`: whoever listens beside the clients has done so;
   * `kept`: it is durable.
   */
  publish(message: Message, from?: Connection, heard?: (error?: Error) => void, kept?: () => void): void {
    this.#route(message, commit => {
      this.#options.routed(message, from, true, heard)
      whenDurable(commit, kept)
    })
  }

  /** One that another broker published. `kept`: it is durable. */
  relay(message: Message, kept: () => void): void {
    this.#route(message, commit => whenDurable(commit, kept))
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

  route(message: Message, release?: Release): Routing {
    return this.exchange.route(message, release)
  }

  enqueueAlone(session: Session, message: Message, qos: Qos, retain: boolean, identifier: number): Commit | 'full' | undefined {
    return this.exchange.enqueueAlone(session, message, qos, retain, identifier)
  }

  routed(message: Message, connection: Connection): void {
    this.#options.routed(message, connection, false)
  }

  subscribe(session: Session, subscription: Subscription): boolean {
    session.subscriptions.set(subscriptionKey(subscription.filter, subscription.group), subscription)
    return this.exchange.subscribe(session, subscription)
  }

  unsubscribe(session: Session, filter: string, group: string | undefined): boolean {
    session.subscriptions.delete(subscriptionKey(filter, group))
    if (group === undefined) session.forgetReplay(filter)
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
    this.certificates.begin(connection)
    this.#options.registered(connection)
  }

  closed(connection: Connection): void {
    this.connections.delete(connection)
    this.certificates.forget(connection)
    // A stop ends them all; Mosquitto has no line for each.
    if (!this.#isStopping) logEnd(connection)
    this.#options.gone(connection)
  }

  mayReceive(session: Session, filter: string): Decision {
    const policy = this.#policyOfSession(session)
    return policy === undefined ? decideFilter(closedAcl, session.identity, filter) : policy.authorizeFilter(session.identity, filter)
  }

  deniedSubscription({ identity }: Session, filter: string, decision: Decision): void {
    this.aclLog.subscription(identity, filter, decision, this.delivery.aclSubscribeCheck === 'strict')
  }

  shadowedPublish({ identity }: Session, topic: string, shadow: Decision): void {
    this.aclLog.shadow('publish', identity, topic, shadow)
  }

  shadowedDelivery({ identity }: Session, { topic }: Message, shadow: Decision): void {
    this.aclLog.shadow('delivery', identity, topic, shadow)
  }

  deniedPublish({ identity }: Session, publish: DeniedPublish): void {
    this.aclLog.publish(identity, publish)
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
    const policy = this.#options.policyOfAbsent(source.listener)
    if (policy === undefined) return false
    const decision = policy.authorize(source, 'write', topic)
    if (!decision.allowed) this.#deniedRetained(source, topic, decision)
    return decision.allowed
  }

  #deniedRetained({ listener: _, ...publisher }: MessageSource, topic: string, decision: Decision): void {
    this.aclLog.retained(publisher, topic, decision)
  }

  get forward(): ((session: Session, message: Message) => Message | undefined) | undefined {
    return this.hooks.authorizeForward === undefined ? undefined : this.#askForward
  }

  // Not a function of each call: this is asked for every delivery, most often where there is no hook.
  readonly #askForward = (session: Session, message: Message): Message | undefined => {
    try {
      return this.hooks.authorizeForward?.(session, message)
    } catch (error) {
      this.deliveryFailed(session, error)
      return undefined
    }
  }

  dropped(): void {
    this.stats.publishDropped += 1
  }

  /** Ends the connection of a client that was let in. */
  dismiss(connection: Connection, dismissal: Dismissal): void {
    if (dismissal.ofCertificate !== undefined) this.stats.certificatesLost += 1
    connection.finish(endOf(dismissal))
  }

  deniedDelivery({ identity }: Session, { topic }: Message, decision: Decision): void {
    this.aclLog.delivery(identity, topic, decision)
  }

  deliveryFailed({ clientId }: Session, error: unknown): void {
    this.log.write('fault', { reason: `${errorMessage(error)}, in a delivery to ${clientId}` })
  }

  publishWill(session: Session, { message, messageExpiryInterval }: StoredWill): void {
    const decision = this.mayWrite(session, message.topic)
    const { topic, payload, qos, retain, properties, source } = message
    if (!decision.allowed) {
      this.aclLog.will(session.identity, topic, decision)
      return
    }
    if (decision.shadow !== undefined) this.aclLog.shadow('will', session.identity, topic, decision.shadow)
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
    const { testator } = session
    const from = testator instanceof Connection ? testator : undefined
    if (authorizeWill === undefined) this.publish(will, from)
    else authorizeWill(session, will, allowed => allowed !== undefined && this.publish(allowed, from))
  }

  expired(session: Session): void {
    this.stats.clientsExpired += 1
    this.log.write('sessionExpired', { clientId: session.clientId })
    this.#options.expired(session)
  }

  #route(message: Message, done: (commit: Commit | undefined) => void): void {
    const { commit, underWay } = this.exchange.route(message)
    if (underWay === undefined) done(commit)
    else underWay.done = routing => done(routing.commit)
  }

  #decide(session: Session, access: 'read' | 'write', topic: string): Decision {
    const policy = this.#policyOfSession(session)
    return policy === undefined ? decide(closedAcl, session.identity, access, topic) : policy.authorize(session.identity, access, topic)
  }

  #policyOfSession({ transport, listenerName }: Session): Policy | undefined {
    return transport === undefined ? this.#options.policyOfAbsent(listenerName) : this.policyOf(transport)
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
      this.aclLog.settle()
      const isDone = this.#endSilent(performance.now())
      const isJudged = this.certificates.sweep(now)
      if (this.sessions.sweep(now) && isDone && isJudged) return
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
    this.#sysTimer = setTimeout(() => void this.#publishSys().then(() => this.#scheduleSys()), wait)
    this.#sysTimer.unref()
  }

  async #publishSys(): Promise<void> {
    const { messages, bytes, connected } = await this.#countSessions()
    if (this.#isStopping) return
    const { sessions, exchange } = this
    const heapCurrent = process.memoryUsage().heapUsed
    this.#heapMaximum = Math.max(this.#heapMaximum, heapCurrent)
    let packetsOut = 0
    let packetBytesOut = 0
    for (const connection of this.connections) {
      packetsOut += connection.waiting
      packetBytesOut += connection.waitingBytes
    }
    const gauges: Gauges = {
      clientsTotal: sessions.count,
      clientsConnected: connected,
      messagesStored: messages + exchange.retained.count,
      messageBytesStored: bytes + exchange.retained.bytes,
      subscriptions: exchange.subscriptionCount,
      sharedSubscriptions: exchange.sharedCount,
      retainedMessages: exchange.retained.count,
      packetsOut,
      packetBytesOut,
      heapCurrent,
      heapMaximum: this.#heapMaximum
    }
    const more = this.#options.certificates?.sysTopics?.(this.stats.certificatesLost) ?? []
    for (const { topic, payload } of this.#sys.tick(this.stats, gauges, performance.now(), more)) {
      this.exchange.route(new Message({ topic, payload: Buffer.from(payload), qos: 2, retain: true }))
    }
  }

  // A part in each turn, as a hundred thousand take 15 ms; what comes and goes meanwhile is counted next time.
  async #countSessions(): Promise<{ readonly messages: number; readonly bytes: number; readonly connected: number }> {
    let [messages, bytes, connected, looked] = [0, 0, 0, 0]
    for (const session of this.sessions.all()) {
      messages += session.pending
      bytes += session.pendingBytes
      if (session.connection !== undefined) connected += 1
      if (++looked % countedPerTurn === 0) await nextTurn()
    }
    return { messages, bytes, connected }
  }
}

const lasting: CertificateRules = { nextLook: () => undefined, outdated: () => undefined }

function whenDurable(commit: Commit | undefined, done: (() => void) | undefined): void {
  if (done === undefined) return
  if (commit === undefined) queueMicrotask(done)
  else commit.wait({ settle: done })
}

/** For a broker without a configuration: everybody may do everything but write what is the broker's own. */
export const openPolicy: Policy = Object.freeze({
  authenticate: async (_transport, credentials) => {
    const { clientId, username } = credentials
    const identity = username === undefined ? { clientId } : { clientId, username }
    return { ok: true, identity, provenBy: 'anonymous', credentials }
  },
  recheck: (_transport, admitted) => admitted,
  authorize: (identity, access, topic) => decide(openAcl, identity, access, topic),
  authorizeFilter: (identity, filter) => decideFilter(openAcl, identity, filter)
} satisfies Policy)
