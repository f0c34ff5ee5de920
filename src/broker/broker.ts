// The MQTT broker: our engine as an Aedes, with its hooks, events, `publish` and `subscribe`. Everything that leans on Aedes beyond its
// documentation is in this file and checked at the start.

import type { IncomingMessage } from 'node:http'
import type { Duplex } from 'node:stream'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { Aedes, type Client as AedesClient, type AedesOptions, type AedesPublishPacket, type PublishPacket } from 'aedes'
import type { Administration } from '../admin/report.js'
import { hasSameRights, type Connection as Transport } from '../auth/identity.js'
import type { Admission, Admitted, Policy } from '../auth/policy.js'
import { BrokerError, errorMessage, errorOf } from '../errors.js'
import type { Log } from '../log-events.js'
import { Message } from '../message.js'
import { describeLoss, type LossReason } from '../reload-report.js'
import type { Connection } from '../session/connection.js'
import type { Session } from '../session/session.js'
import type { Store } from '../storage.js'
import { type AedesPersistence, openAedesStore } from '../store/aedes.js'
import { openMemoryStore } from '../store/memory.js'
import { version } from '../version.js'
import type { AclCounts } from './acl-log.js'
import { EngineAdministration } from './administration.js'
import { messageOf, sourceIn } from './aedes-packets.js'
import { Audience, afterAll, type Hear, type Mq } from './audience.js'
import type { CertificateRules } from './certificate-watch.js'
import { Client, ClientConnection, FormerClient } from './client.js'
import type { DisconnectReason, Dismissal } from './dismissal.js'
import { DrainWatch } from './drain-watch.js'
import { Engine, type EngineLimits, openPolicy } from './engine.js'
import { AedesEvents } from './events.js'
import { AedesHooks, type HookOwner, neutralHooks } from './hooks.js'
import { Emitter } from './mq.js'
import { type Done, Pending } from './pending.js'
import { boundsOf, defaultLimits, plainListener, standaloneLog, transportOf } from './standalone.js'

// What Aedes has and its types don't tell.
declare module 'aedes' {
  interface Aedes {
    clients: Record<string, Client>
    persistence: unknown
    mq: Mq
    counter: number
    opts: { readonly heartbeatInterval: number }
    responseInformation: AedesOptions['responseInformation']
    pendingSessionsLimit: number
    publish(packet: PublishPacket, client: AedesClient | null, callback?: (error?: Error) => void): void
  }
}

/** What Aedes takes, and how our server runs it. */
export interface BrokerOptions extends AedesOptions {
  /** Absent: hooks decide alone, and Mosquitto's limits apply. @internal */
  readonly engine?: BrokerEngine
}

export interface BrokerEngine extends EngineLimits {
  readonly log: Log
  /** What the listener of this connection enforces now. */
  policyOf(transport: Transport): Policy
  /** The same for a session whose connection was one of an earlier start. */
  policyOfAbsent(listener: string | undefined): Policy | undefined
  /** Absent: connections outlast their certificates. */
  readonly certificates?: CertificateRules
  readonly store: Store
}

/** What a decision about a connected client goes by. */
export interface ClientFacts {
  readonly connection: Transport
  readonly admitted: Admitted
}

/** What becomes of a client: its admission, or why it goes. */
export type Verdict = Admission | DisconnectReason | Dismissal

/** A verdict that has to be worked out, when its turn comes. */
export type SlowVerdict = () => Promise<Verdict>

/** How many had to go, by reason. */
export type Losses = ReadonlyMap<LossReason, number>

/** The Aedes that this file was written against. */
const aedesVersion = '2.0.0-beta.1'
const aedesMethods = ['listen', 'publish', 'subscribe', 'unsubscribe', 'close'] as const
const aedesFields = ['handle', 'clients', 'brokers', 'mq', 'opts', 'counter', 'id', 'closed'] as const

/** Clients judged in one turn of the event loop after a reload, and how many of the slow judgements (hashing) are under way at once. */
const clientsPerTurn = 100
const slowJudgements = 2

/** Below `$SYS/<id>/`, between brokers and for `broker.subscribe`: who is connected where, who subscribes to what. */
const chatter: ReadonlySet<string> = new Set([
  'heartbeat',
  'birth',
  'new/clients',
  'disconnect/clients',
  'new/subscribes',
  'new/unsubscribes'
])

/** As Aedes: how many heartbeats a broker may miss, and after how many it is looked. */
const heartbeats = { missed: 3, sweep: 4 } as const

/** How long all clients together may take to go when the broker stops. */
const closeTimeout = 5000

export class Broker extends Aedes implements HookOwner {
  declare clients: Record<string, Client>
  declare persistence: unknown
  declare connectedClients: number
  declare closed: boolean
  /** To look into the running broker, and for what only a person decides. */
  readonly administration: Administration
  readonly #engine: Engine
  readonly #options: BrokerOptions
  readonly #emitter: Emitter<AedesPublishPacket> | undefined
  readonly #events: AedesEvents
  readonly #hooks: AedesHooks
  readonly #audience: Audience
  /** Whoever published here and waits. */
  readonly #pending = new Pending({ threw: error => this.#emitError(error) })
  #drainWatch: DrainWatch | undefined
  /** How often the clients were judged again. */
  #rechecks = 0
  /** Undefined: nobody has asked for it, or it has failed. */
  #opening: Promise<void> | undefined
  #isOpen = false
  #closing: Promise<void> | undefined
  /** Nothing goes anywhere any more. */
  #isOver = false

  constructor(options: BrokerOptions = {}) {
    checkPrototype()
    const emitter = options.mq === undefined ? new Emitter<AedesPublishPacket>({ onError: error => this.#emitError(error) }) : undefined
    const { engine: _, persistence: __, ...rest } = options
    super({ ...neutralHooks, ...definedOf(rest), ...(emitter !== undefined && { mq: emitter }), persistence: noPersistence })
    checkInstance(this)
    // Client identifiers are names like any other, `constructor` and `__proto__` included.
    this.clients = Object.create(null)
    this.connectedClients = 0
    this.#options = options
    this.#emitter = emitter
    this.#events = new AedesEvents(this)
    this.#hooks = new AedesHooks(this)
    const standalone = options.engine ?? this.#standalone(options)
    this.#engine = new Engine({
      ...standalone,
      version,
      hooks: this.#hooks,
      events: this.#events,
      connectTimeout: options.connectTimeout ?? 30_000,
      bounds: boundsOf(options),
      routed: (message, from, isHookDue, done) => this.#audience.tell(message, from, isHookDue, done),
      registered: connection => this.#registered(connection),
      gone: connection => this.#gone(connection),
      expired: session => this.#events.expired(session)
    })
    this.administration = new EngineAdministration(this.#engine)
    this.#audience = new Audience({
      mq: this.mq,
      emitter,
      counter: this,
      hooks: this.#hooks,
      events: this.#events,
      turns: this.#engine.turns,
      failed: error => this.#emitError(error)
    })
  }

  /** A broker that is ready for connections. With a store that is away this waits until it is there. */
  static override async createBroker(options: BrokerOptions = {}): Promise<Broker> {
    const broker = new Broker(options)
    await broker.listen()
    return broker
  }

  /** Once for each broker. What could not be opened may be tried again. */
  override async listen(): Promise<void> {
    if (this.#closing !== undefined) throw new Error('the broker was closed: make another one')
    this.#opening ??= this.#open()
    await this.#opening
  }

  /** A connection of an embedder's own server: any stream. An arrow function, so that it can be passed on as it is. */
  override handle = (stream: Duplex, request?: IncomingMessage): AedesClient => {
    const { topicAliasMaximum } = this.#options
    const listener = topicAliasMaximum === undefined ? plainListener : { ...plainListener, maxTopicAlias: topicAliasMaximum }
    this.noteSocket()
    return this.accept(stream, transportOf(stream, listener), request)
  }

  /** One that came to a listener, before anything is known about it: counted as Mosquitto does, whatever becomes of it. @internal */
  noteSocket(): void {
    this.#engine.stats.socketConnections += 1
  }

  /** An accepted transport of our own listeners, TLS done. @internal */
  accept(stream: Duplex, transport: Transport, request?: IncomingMessage): AedesClient {
    const connection = new ClientConnection(stream, transport, this.#engine, error => this.#emitError(error), request)
    this.#engine.connections.add(connection)
    if (stream.destroyed || this.closed) connection.finish({ words: 'server shutting down' })
    else if (!this.#isOpen) this.#holdUntilOpen(connection)
    return connection.client
  }

  /** Connections whose CONNECT was accepted and that still are. */
  get clientCount(): number {
    let count = 0
    for (const { session } of this.#engine.connections) if (session !== undefined) count += 1
    return count
  }

  /** What the ACL has decided since the start, by rule. @internal */
  get aclCounts(): AclCounts {
    return this.#engine.aclLog.counts
  }

  /** The same, into the log. @internal */
  logAclCounts(): void {
    this.#engine.aclLog.sum()
  }

  /** New limits count from now on. @internal */
  applyLimits(limits: EngineLimits): void {
    this.#engine.applyLimits(limits)
  }

  /** Who is connected by a certificate, and when that ends. Without a value for each: there may be very many. @internal */
  eachCertificate(visit: (clientId: string, end: Date) => void): void {
    for (const { admitted, clientId, transport } of this.#engine.connections) {
      const end = transport.tls?.certificate?.notAfter
      if (admitted !== undefined && end !== undefined) visit(clientId, end)
    }
  }

  /** Policies are others: what was decided before counts no more. */
  policiesChanged(): void {
    this.#engine.policiesChanged()
  }

  /**
   * Judges every connected client again, a few in each turn, and those whose judgement takes time (hashing) last, so that nobody stays
   * because others are being thought about. An admission replaces the client's own; a refusal or a reason ends the connection. What
   * throws ends it too. Resolves with how many were ended, and why. A later call judges everybody anew, and this one stops.
   * @internal
   */
  async recheckClients(decide: (facts: ClientFacts) => Verdict | SlowVerdict): Promise<Losses> {
    this.policiesChanged()
    this.#rechecks += 1
    const round = this.#rechecks
    const slow: [Connection, SlowVerdict][] = []
    let judged = 0
    const ended = new Map<LossReason, number>()
    const apply = (connection: Connection, verdict: Verdict) => {
      const loss = this.#applyVerdict(connection, verdict)
      if (loss !== undefined) ended.set(loss, (ended.get(loss) ?? 0) + 1)
    }
    for (const connection of [...this.#engine.connections]) {
      const { admitted, transport } = connection
      if (admitted === undefined || connection.closed) continue
      // A certificate takes a thousand times as long as a name.
      if (++judged % clientsPerTurn === 0 || this.#engine.turns.isOver) await nextTurn()
      if (round !== this.#rechecks) return ended
      const verdict = attempt(() => decide({ connection: transport, admitted }))
      if (typeof verdict === 'function') slow.push([connection, verdict])
      else apply(connection, verdict)
    }
    const work = async (): Promise<void> => {
      for (let next = slow.shift(); next !== undefined; next = slow.shift()) {
        const [connection, judge] = next
        if (connection.closed) continue
        const verdict = await judge().catch(() => 'not-authorised' as const)
        if (round !== this.#rechecks) return
        apply(connection, verdict)
      }
    }
    await Promise.all(Array.from({ length: slowJudgements }, work))
    return ended
  }

  /** Sends wills, tells MQTT 5 clients that the server stops, then ends every connection, in bounded time. */
  override async close(callback?: () => void): Promise<void> {
    if (!this.closed) this.#closing ??= this.#end()
    await this.#closing
    callback?.()
  }

  /** A listener that throws is its own matter: what the broker was doing for others goes on. */
  override emit(event: string | symbol, ...details: unknown[]): boolean {
    try {
      return super.emit(event, ...details)
    } catch (error) {
      if (event === 'error') this.#engine.log.write('embedderFault', { reason: errorMessage(error) })
      else this.#emitError(error)
      return true
    }
  }

  /** To everybody who subscribed, in the name of the broker. What can't be sent is an error for the callback. */
  override publish(packet: PublishPacket, client?: AedesClient | null | Done, callback?: Done): void {
    const done = typeof client === 'function' ? client : callback
    const publisher = typeof client === 'object' && client !== null ? client : undefined
    let message: Message
    try {
      message = messageOf(packet, publisher === undefined ? sourceIn(packet) : { clientId: publisher.id })
    } catch (error) {
      this.#reject(errorOf(error), done)
      return
    }
    const answer = done === undefined ? undefined : this.#pending.add(done)
    if (this.#isOver) answer?.(new Error('the broker is closed'))
    else this.#publish(message, publisher && Client.connectionOf(publisher), answer)
  }

  override subscribe(topic: string, listener: Hear, done?: () => void): void {
    if (this.#isSubscribable(topic, listener, done)) super.subscribe(topic, listener, done ?? nothing)
  }

  override unsubscribe(topic: string, listener: Hear, done?: () => void): void {
    if (this.#isSubscribable(topic, listener, done)) super.unsubscribe(topic, listener, done ?? nothing)
  }

  // What hooks and events ask.

  /** @internal */
  clientOf(connection: Connection): Client {
    if (connection instanceof ClientConnection) return connection.client
    throw new TypeError('a connection of another broker')
  }

  /** @internal */
  clientOfSession(session: Session): AedesClient {
    return this.clients[session.clientId] ?? new FormerClient(session)
  }

  isTold(name: string): boolean {
    return this.#audience.isHeard(`$SYS/${this.id}/${name}`)
  }

  /** @internal */
  tell(name: string, text: string): void {
    this.#audience.tell(
      new Message({ topic: `$SYS/${this.id}/${name}`, payload: Buffer.from(text), qos: 0, retain: false }),
      undefined,
      true,
      // As with Aedes it is nobody's trouble where an emitter that brokers share was closed by another one.
      nothing
    )
  }

  // An error event without a listener would end the process.
  embedderFailed(error: Error): void {
    this.#emitError(error)
  }

  #isSubscribable(topic: unknown, listener: unknown, done: Done | undefined): boolean {
    if (typeof topic === 'string' && topic !== '' && typeof listener === 'function') return true
    this.#reject(new TypeError('broker.subscribe takes a topic and a function'), done)
    return false
  }

  // Whoever gave no callback learns of it where the broker's own errors go.
  #reject(error: Error, done: Done | undefined): void {
    if (done === undefined) this.#emitError(error)
    else done(error)
  }

  async #open(): Promise<void> {
    this.closed = false
    try {
      const { persistence } = this.#options
      if (persistence !== undefined) checkPersistence(persistence)
      await this.#engine.open()
      await super.listen()
    } catch (error) {
      this.closed = true
      this.#opening = undefined
      throw error
    }
    // Aedes' sweep would publish stored wills past our policy; the engine has its own. What else it does stays.
    stopTimer(Reflect.get(this, '_clearWillInterval'))
    Reflect.set(
      this,
      '_clearWillInterval',
      setInterval(() => this.#forgetSilentBrokers(), heartbeats.sweep * this.opts.heartbeatInterval)
    )
    this.persistence = this.#options.persistence ?? this.persistence
    if (this.#emitter === undefined) this.mq.on('#', (packet, done) => this.#heard(packet, done))
    const { drainTimeout = 0 } = this.#options
    if (drainTimeout > 0) this.#drainWatch = new DrainWatch(this.#engine.connections, drainTimeout)
    this.#isOpen = true
  }

  #forgetSilentBrokers(): void {
    const silent = Date.now() - heartbeats.missed * this.opts.heartbeatInterval
    for (const [id, heard] of Object.entries(this.brokers)) if (heard.valueOf() < silent) Reflect.deleteProperty(this.brokers, id)
  }

  // Its client may have been here before: that is known when the store is open.
  #holdUntilOpen(connection: Connection): void {
    connection.hold()
    const end = () => connection.finish({ words: 'server shutting down' })
    this.#opening?.then(() => connection.release(), end)
  }

  async #end(): Promise<void> {
    // From here on nobody is let in.
    this.closed = true
    this.#drainWatch?.stop()
    const open = [...this.#engine.connections]
    const gone = Promise.all(open.map(({ conn }) => goneOf(conn)))
    const closing = Promise.all([this.#engine.close(), gone])
    let timer: NodeJS.Timeout | undefined
    const deadline = new Promise<void>(resolve => {
      timer = setTimeout(resolve, closeTimeout)
    })
    await Promise.race([closing, deadline])
    clearTimeout(timer)
    for (const { conn } of open) conn.destroy()
    this.#isOver = true
    this.#pending.fail('the broker is closed')
    // Aedes' own does nothing for who is closed.
    this.closed = false
    await new Promise<void>(resolve => super.close(resolve))
    if (this.#options.engine === undefined) await this.#engine.store.close()
  }

  #publish(message: Message, from: Connection | undefined, answer: Done | undefined): void {
    // Never for connections: whoever could write there could throw off others.
    if (isChatter(this.id, message.topic)) {
      this.#audience.tell(message, from, true, answer)
    } else if (answer === undefined) {
      this.#engine.publish(message, from)
    } else {
      const finished = afterAll(2, answer)
      this.#engine.publish(message, from, finished, finished)
    }
  }

  #standalone(options: BrokerOptions): BrokerEngine {
    return {
      ...defaultLimits(options),
      log: standaloneLog,
      policyOf: () => openPolicy,
      policyOfAbsent: () => openPolicy,
      store: this.#openStore(options.persistence)
    }
  }

  #openStore(persistence: AedesPersistence | undefined): Store {
    if (persistence === undefined) return openMemoryStore()
    return openAedesStore(persistence, { broker: this, failed: error => this.#emitError(error) })
  }

  /** Why it had to go; undefined: it stays, or has left by itself. */
  #applyVerdict(connection: Connection, verdict: Verdict): LossReason | undefined {
    // It left while it was judged: its session may be somebody else's by now.
    if (connection.closed) return undefined
    // A new name may come from a certificate; a new client identifier would be another session.
    if (typeof verdict !== 'string' && 'ok' in verdict && verdict.ok && verdict.identity.clientId === connection.clientId) {
      const { session } = connection
      connection.admitted = verdict
      this.#engine.certificates.follow(connection)
      if (session !== undefined && !hasSameRights(session.identity, verdict.identity)) {
        session.identity = verdict.identity
        this.#engine.sessionChangedHands()
      }
      return undefined
    }
    const dismissal = dismissalOf(verdict)
    this.#engine.dismiss(connection, dismissal)
    return dismissal.loss
  }

  #registered(connection: Connection): void {
    this.clients[connection.clientId] = this.clientOf(connection)
    this.connectedClients += 1
    this.#events.registered(connection)
    if (this.isTold('new/clients')) this.tell('new/clients', connection.clientId)
  }

  #gone(connection: Connection): void {
    const { clientId } = connection
    if (connection.connect === undefined) {
      // As with Aedes it may have read by then why it was refused.
      setImmediate(() => this.#sayFault(connection))
      return
    }
    if (this.clients[clientId] === this.clientOf(connection)) delete this.clients[clientId]
    this.connectedClients -= 1
    this.#sayFault(connection)
    this.#events.gone(connection)
    this.clientOf(connection).left()
    if (this.isTold('disconnect/clients')) this.tell('disconnect/clients', clientId)
  }

  #sayFault(connection: Connection): void {
    const { end, asked } = connection
    if (end === undefined) return
    const error = end.error ?? faultOf(end.words, asked !== undefined)
    if (error === undefined) return
    if (asked === undefined || end.isStranger) this.#events.connectionError(connection, error)
    else this.#events.clientError(connection, error)
    this.#events.failed(connection, error)
  }

  // From a broker that shares our emitter, or from a program without one that emits there.
  #heard(packet: AedesPublishPacket, done: () => void): void {
    const { brokerId, topic } = packet
    if (brokerId === this.id || isChatter(brokerId ?? this.id, topic)) {
      done()
      return
    }
    try {
      this.#engine.relay(messageOf(packet, sourceIn(packet)), done)
    } catch (error) {
      this.#emitError(error)
      done()
    }
  }

  // Without a listener the event would end the process.
  #emitError(error: unknown): void {
    if (this.listenerCount('error') > 0) this.emit('error', error)
    else this.#engine.log.write('embedderFault', { reason: errorMessage(error) })
  }
}

/** For Aedes itself: what is stored is the engine's. */
const noPersistence = Object.freeze({ setup: async () => {} })

/** Ends that are nobody's fault. */
const ordinary: ReadonlySet<string> = new Set([
  '',
  'connection closed by client',
  'disconnected with will',
  'session taken over',
  'server shutting down',
  'listener removed',
  'administrative action'
])

/** What programs match on in an error, in Aedes' words. */
const aedesWords: Readonly<Record<string, string>> = { 'oversize packet': 'packet too large' }

function faultOf(words: string, isClient: boolean): Error | undefined {
  if (words === 'exceeded timeout') return new Error(isClient ? 'keep alive timeout' : 'connect did not arrive in time')
  return ordinary.has(words) ? undefined : new Error(aedesWords[words] ?? words)
}

// What lies below `$SYS/sub/` comes from persistences that several brokers share.
function isChatter(brokerId: string, topic: string): boolean {
  const prefix = `$SYS/${brokerId}/`
  return topic.startsWith('$SYS/sub/') || (topic.startsWith(prefix) && chatter.has(topic.slice(prefix.length)))
}

const nothing = (): void => {}

function stopTimer(timer: unknown): void {
  if (isTimer(timer)) clearInterval(timer)
}

function isTimer(value: unknown): value is NodeJS.Timeout {
  return value instanceof Object && 'hasRef' in value && 'refresh' in value
}

function goneOf(stream: Duplex): Promise<void> | undefined {
  if (stream.destroyed || stream.closed) return undefined
  return new Promise(resolve => stream.once('close', () => resolve()))
}

function dismissalOf(verdict: Verdict): Dismissal {
  if (typeof verdict === 'string') return { reason: verdict, loss: verdict }
  if (!('ok' in verdict)) return verdict
  if (!verdict.ok) return { reason: 'not-authorised', loss: 'not-authorised' }
  return { reason: 'not-authorised', loss: 'client-id', why: describeLoss('client-id') }
}

function attempt(decide: () => Verdict | SlowVerdict): Verdict | SlowVerdict {
  try {
    return decide()
  } catch {
    return 'not-authorised'
  }
}

/** Aedes takes an option that is undefined for one that is given. */
function definedOf(options: AedesOptions): AedesOptions {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined))
}

// As Aedes does it.
function checkPersistence({ setup }: AedesPersistence): void {
  if (setup.constructor.name !== 'AsyncFunction') throw new Error('persistence.setup() must be an async function')
}

function checkPrototype(): void {
  for (const method of aedesMethods) {
    if (typeof Aedes.prototype[method] !== 'function') throw unexpectedAedes(`has no method ${method}`)
  }
}

function checkInstance(aedes: Aedes): void {
  for (const field of [...aedesFields, ...Object.keys(neutralHooks)]) {
    if (!Object.hasOwn(aedes, field)) throw unexpectedAedes(`has no field ${field}`)
  }
  const found: unknown = Reflect.get(aedes, 'version')
  if (found !== aedesVersion) throw unexpectedAedes(`is version ${found}`)
}

function unexpectedAedes(what: string): BrokerError {
  return new BrokerError('ERR_AEDES', `The installed aedes ${what}; this broker needs exactly ${aedesVersion}. Run npm ci.`)
}
