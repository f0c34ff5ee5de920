// The MQTT broker: our engine as an Aedes, with its hooks, events, `publish` and `subscribe`. Everything that leans on Aedes beyond its
// documentation is in this file and checked at the start.

import type { IncomingMessage } from 'node:http'
import type { Duplex } from 'node:stream'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { Aedes, type Client as AedesClient, type AedesOptions, type AedesPublishPacket, type PublishPacket } from 'aedes'
import type { Connection as Transport } from '../auth/identity.js'
import type { Admission, Admitted, Policy } from '../auth/policy.js'
import { BrokerError, errorMessage } from '../errors.js'
import type { Log } from '../log-events.js'
import { Message } from '../message.js'
import { reasonCodes } from '../protocol/reason-codes.js'
import type { Connection } from '../session/connection.js'
import type { Session } from '../session/session.js'
import type { Store } from '../storage.js'
import { type AedesPersistence, openAedesStore } from '../store/aedes.js'
import { openMemoryStore } from '../store/memory.js'
import { version } from '../version.js'
import { messageOf, packetOf, sourceIn } from './aedes-packets.js'
import { type Client, ClientConnection, FormerClient } from './client.js'
import { DrainWatch } from './drain-watch.js'
import { Engine, type EngineLimits, openPolicy } from './engine.js'
import { AedesEvents, AedesHooks, type HookOwner, neutralHooks } from './hooks.js'
import { Emitter } from './mq.js'
import { boundsOf, defaultLimits, plainListener, silentLog, transportOf } from './standalone.js'

// What Aedes has and its types don't tell.
declare module 'aedes' {
  interface Aedes {
    clients: Record<string, Client>
    persistence: unknown
    mq: Mq
    counter: number
    responseInformation: AedesOptions['responseInformation']
    pendingSessionsLimit: number
    publish(packet: PublishPacket, client: AedesClient | null, callback?: (error?: Error) => void): void
  }
}

type Done = (error?: Error) => void
type Hear = (packet: AedesPublishPacket, done: () => void) => void

/** Aedes' contract of what delivers to `broker.subscribe`, and between brokers that share one. */
export interface Mq {
  on(topic: string, listener: Hear, done?: () => void): unknown
  removeListener(topic: string, listener: Hear, done?: () => void): unknown
  emit(packet: AedesPublishPacket, done?: Done): unknown
  close(done?: () => void): unknown
}

/** What Aedes takes, and how our server runs it. */
export interface BrokerOptions extends AedesOptions {
  /** Absent: hooks decide alone, and Mosquitto's limits apply. */
  readonly engine?: BrokerEngine
}

export interface BrokerEngine extends EngineLimits {
  readonly log: Log
  /** What the listener of this connection enforces now. */
  policyOf(transport: Transport): Policy
  /** The same for a session whose connection was one of an earlier start. */
  policyOfAbsent(listener: string | undefined): Policy | undefined
  readonly store: Store
}

/** What a decision about a connected client goes by. */
export interface ClientFacts {
  readonly connection: Transport
  readonly admitted: Admitted
}

/** What becomes of a client: its admission, or why it goes. */
export type Verdict = Admission | DisconnectReason

/** A verdict that has to be worked out, when its turn comes. */
export type SlowVerdict = () => Promise<Verdict>

/** Why the broker ends a connection, for MQTT 5 clients and for the log. */
export type DisconnectReason = keyof typeof disconnectReasons

const disconnectReasons = {
  'not-authorised': { reasonCode: reasonCodes.notAuthorized, words: 'not authorised' },
  'administrative-action': { reasonCode: reasonCodes.administrativeAction, words: 'administrative action' }
} as const satisfies Record<string, { reasonCode: number; words: string }>

/** The Aedes that this file was written against. */
const aedesVersion = '2.0.0-beta.1'
const aedesMethods = ['listen', 'publish', 'subscribe', 'unsubscribe', 'close'] as const
const aedesFields = ['handle', 'clients', 'brokers', 'mq', 'opts', 'counter', 'id', 'closed'] as const

/** Clients judged in one turn of the event loop after a reload, and how many of the slow judgements (hashing) are under way at once. */
const clientsPerTurn = 100
const slowJudgements = 2

/** How long all clients together may take to go when the broker stops. */
const closeTimeout = 5000

export class Broker extends Aedes implements HookOwner {
  declare clients: Record<string, Client>
  declare persistence: unknown
  declare connectedClients: number
  declare closed: boolean
  readonly #engine: Engine
  readonly #options: BrokerOptions
  readonly #emitter: Emitter<AedesPublishPacket> | undefined
  readonly #events: AedesEvents
  readonly #hooks: AedesHooks
  #drainWatch: DrainWatch | undefined
  /** How often the clients were judged again. */
  #rechecks = 0
  #isListening = false

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
      routed: (message, from, done) => this.#routed(message, from, done),
      registered: connection => this.#registered(connection),
      gone: connection => this.#gone(connection),
      expired: session => this.#events.expired(session)
    })
  }

  /** A broker that is ready for connections. With a store that is away this waits until it is there. */
  static override async createBroker(options: BrokerOptions = {}): Promise<Broker> {
    const broker = new Broker(options)
    await broker.listen()
    return broker
  }

  override async listen(): Promise<void> {
    if (this.#isListening) return
    this.#isListening = true
    await super.listen()
    // Aedes' sweep would publish stored wills past our policy; the engine has its own.
    stopTimer(Reflect.get(this, '_clearWillInterval'))
    this.persistence = this.#options.persistence ?? this.persistence
    if (this.#emitter === undefined) this.mq.on('#', (packet, done) => this.#heard(packet, done))
    try {
      await this.#engine.open()
    } catch (error) {
      stopTimer(Reflect.get(this, '_heartbeatInterval'))
      throw error
    }
    const { drainTimeout = 0 } = this.#options
    if (drainTimeout > 0) this.#drainWatch = new DrainWatch(this.#engine.connections, drainTimeout)
  }

  /** A connection of an embedder's own server: any stream. An arrow function, so that it can be passed on as it is. */
  override handle = (stream: Duplex, request?: IncomingMessage): AedesClient => {
    const { topicAliasMaximum } = this.#options
    const listener = topicAliasMaximum === undefined ? plainListener : { ...plainListener, maxTopicAlias: topicAliasMaximum }
    return this.accept(stream, transportOf(stream, listener), request)
  }

  /** An accepted transport of our own listeners, TLS done. */
  accept(stream: Duplex, transport: Transport, request?: IncomingMessage): AedesClient {
    const connection = new ClientConnection(stream, transport, this.#engine, request)
    this.#engine.connections.add(connection)
    if (stream.destroyed || this.closed) connection.finish({ words: 'server shutting down' })
    return connection.client
  }

  /** Connections whose CONNECT was accepted and that still are. */
  get clientCount(): number {
    let count = 0
    for (const { session } of this.#engine.connections) if (session !== undefined) count += 1
    return count
  }

  /** New limits count from now on. */
  applyLimits(limits: EngineLimits): void {
    this.#engine.applyLimits(limits)
  }

  /** Policies are others: what was decided before counts no more. */
  policiesChanged(): void {
    this.#engine.policiesChanged()
  }

  /**
   * Judges every connected client again, a few in each turn, and those whose judgement takes time (hashing) last, so that nobody stays
   * because others are being thought about. An admission replaces the client's own; a refusal or a reason ends the connection. What
   * throws ends it too. Resolves with how many were ended. A later call judges everybody anew, and this one stops.
   */
  async recheckClients(decide: (facts: ClientFacts) => Verdict | SlowVerdict): Promise<number> {
    this.policiesChanged()
    this.#rechecks += 1
    const round = this.#rechecks
    const slow: [Connection, SlowVerdict][] = []
    let judged = 0
    let ended = 0
    const apply = (connection: Connection, verdict: Verdict) => {
      if (!this.#applyVerdict(connection, verdict)) ended++
    }
    for (const connection of [...this.#engine.connections]) {
      const { admitted, transport } = connection
      if (admitted === undefined || connection.closed) continue
      if (++judged % clientsPerTurn === 0) await nextTurn()
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
    if (this.closed) {
      callback?.()
      return
    }
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
    await new Promise<void>(resolve => super.close(resolve))
    if (this.#options.engine === undefined) await this.#engine.store.close()
    callback?.()
  }

  /** A listener that throws is its own matter: what the broker was doing for others goes on. */
  override emit(event: string | symbol, ...details: unknown[]): boolean {
    try {
      return super.emit(event, ...details)
    } catch (error) {
      if (event === 'error') this.#engine.log.write('fault', { reason: errorMessage(error) })
      else this.#emitError(error)
      return true
    }
  }

  /** To everybody who subscribed, in the name of the broker. */
  override publish(packet: PublishPacket, client?: AedesClient | null | Done, callback?: Done): void {
    const done = typeof client === 'function' ? client : callback
    const message = messageOf(packet, typeof client === 'object' && client !== null ? { clientId: client.id } : sourceIn(packet))
    if (this.#isInternal(message.topic)) {
      this.#routed(message, undefined, done)
      return
    }
    if (done === undefined) {
      this.#engine.publish(message)
      return
    }
    const finished = afterAll(2, done)
    const commit = this.#engine.publish(message, finished)
    if (commit === undefined) queueMicrotask(finished)
    else commit.wait({ settle: finished })
  }

  // What hooks and events ask.

  clientOf(connection: Connection): Client {
    if (connection instanceof ClientConnection) return connection.client
    throw new TypeError('a connection of another broker')
  }

  clientOfSession(session: Session): AedesClient {
    return this.clients[session.clientId] ?? new FormerClient(session)
  }

  isTold(name: string): boolean {
    return this.#isHeard(`$SYS/${this.id}/${name}`)
  }

  tell(name: string, text: string): void {
    this.#routed(new Message({ topic: `$SYS/${this.id}/${name}`, payload: Buffer.from(text), qos: 0, retain: false }), undefined)
  }

  // An error event without a listener would end the process.
  embedderFailed(error: Error): void {
    this.#emitError(error)
  }

  // Between brokers, and for `broker.subscribe`: who is connected where, who subscribes to what. Never for connections: whoever could write
  // there could throw off others.
  #isInternal(topic: string): boolean {
    return topic.startsWith(`$SYS/${this.id}/`) || topic.startsWith('$SYS/sub/')
  }

  #standalone(options: BrokerOptions): BrokerEngine {
    return {
      ...defaultLimits(options),
      log: silentLog,
      policyOf: () => openPolicy,
      policyOfAbsent: () => openPolicy,
      store: this.#openStore(options.persistence)
    }
  }

  #openStore(persistence: AedesPersistence | undefined): Store {
    if (persistence === undefined) return openMemoryStore()
    checkPersistence(persistence)
    return openAedesStore(persistence, { broker: this, failed: error => this.#emitError(error) })
  }

  #applyVerdict(connection: Connection, verdict: Verdict): boolean {
    // It left while it was judged: its session may be somebody else's by now.
    if (connection.closed) return true
    // A new name may come from a certificate; a new client identifier would be another session.
    if (typeof verdict !== 'string' && verdict.ok && verdict.identity.clientId === connection.clientId) {
      const { session } = connection
      connection.admitted = verdict
      if (session !== undefined && session.identity.username !== verdict.identity.username) {
        session.identity = verdict.identity
        this.#engine.sessionChangedHands()
      }
      return true
    }
    connection.finish(disconnectReasons[typeof verdict === 'string' ? verdict : 'not-authorised'])
    return false
  }

  #registered(connection: Connection): void {
    this.clients[connection.clientId] = this.clientOf(connection)
    this.connectedClients += 1
    this.#events.registered(connection)
    if (this.isTold('new/clients')) this.tell('new/clients', connection.clientId)
  }

  #gone(connection: Connection): void {
    const { clientId } = connection
    const wasRegistered = connection.connect !== undefined
    if (wasRegistered) {
      if (this.clients[clientId] === this.clientOf(connection)) delete this.clients[clientId]
      this.connectedClients -= 1
    }
    this.#sayFault(connection)
    if (!wasRegistered) return
    this.#events.gone(connection)
    if (this.isTold('disconnect/clients')) this.tell('disconnect/clients', clientId)
  }

  #sayFault(connection: Connection): void {
    const { end, asked } = connection
    if (end === undefined) return
    const error = end.error ?? faultOf(end.words, asked !== undefined)
    if (error === undefined) return
    if (asked === undefined || end.isStranger) this.#events.connectionError(connection, error)
    else this.#events.clientError(connection, error)
  }

  #isHeard(topic: string): boolean {
    return this.#emitter?.matches(topic) ?? true
  }

  #routed(message: Message, from: Connection | undefined, done?: () => void): void {
    const isHeard = this.#isHeard(message.topic)
    const isListened = this.#events.has('publish')
    // A client's own is asked about by its connection, which waits for the answer.
    const published = from === undefined ? this.#hooks.published : undefined
    if (!isHeard && !isListened && published === undefined) {
      if (done !== undefined) queueMicrotask(done)
      return
    }
    const finished = done === undefined ? nothing : afterAll((isHeard ? 1 : 0) + (published === undefined ? 0 : 1) + 1, done)
    const packet = packetOf(message, this)
    if (isHeard) this.mq.emit(packet, done === undefined ? undefined : finished)
    published?.(message, undefined, finished)
    if (isListened) this.#events.published(packet, from)
    if (done !== undefined) queueMicrotask(finished)
  }

  // From a broker that shares our emitter.
  #heard(packet: AedesPublishPacket, done: () => void): void {
    const { brokerId, topic } = packet
    const isForeign = brokerId !== undefined && brokerId !== this.id
    if (isForeign && !topic.startsWith(`$SYS/${brokerId}/`) && !topic.startsWith('$SYS/sub/')) {
      const { commit } = this.#engine.route(messageOf(packet, sourceIn(packet)), undefined)
      if (commit !== undefined) {
        commit.wait({ settle: done })
        return
      }
    }
    done()
  }

  // Without a listener this event would end the process.
  #emitError(error: unknown): void {
    if (this.listenerCount('error') > 0) this.emit('error', error)
    else this.#engine.log.write('fault', { reason: errorMessage(error) })
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
  'administrative action'
])

/** What programs match on in an error, in Aedes' words. */
const aedesWords: Readonly<Record<string, string>> = { 'oversize packet': 'packet too large' }

function faultOf(words: string, isClient: boolean): Error | undefined {
  if (words === 'exceeded timeout') return new Error(isClient ? 'keep alive timeout' : 'connect did not arrive in time')
  return ordinary.has(words) ? undefined : new Error(aedesWords[words] ?? words)
}

const nothing = (): void => {}

/** Calls back when it was itself called so often. */
function afterAll(times: number, done: () => void): () => void {
  let left = times
  return () => {
    left -= 1
    if (left === 0) done()
  }
}

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
