// The MQTT broker: Aedes' connections with our decisions. Every hook asks the policy of the connection's listener, so that a reload
// applies with the next message. Everything that leans on Aedes beyond its documentation is in this file and checked at the start.

import { randomUUID } from 'node:crypto'
import type { Duplex } from 'node:stream'
import { Aedes, type Client, type ConnectPacket, type PublishPacket } from 'aedes'
import { explainDecision, type Reason } from '../auth/acl.js'
import { Denials } from '../auth/denials.js'
import type { Connection } from '../auth/identity.js'
import type { Admission, Admitted, Policy } from '../auth/policy.js'
import type { LimitsConfig } from '../config/types.js'
import { BrokerError, errorMessage, systemCode, systemReason } from '../errors.js'
import type { Log } from '../log-events.js'
import { type Availability, guardPersistence, type Persistence } from '../store/persistence.js'
import { isTopicName } from '../topic.js'
import { type Refusal, refusalBytes, refusals } from './connack.js'
import { type IncomingPacket, logConnected, logEnd, logReceived, nameOf, newSession, publishFields, type Session } from './session.js'

// What Aedes has and its types don't tell.
declare module 'aedes' {
  interface Aedes {
    clients: Record<string, Client>
    persistence: Persistence
    topicAliasMaximum: number
    maximumPacketSize: number
    receiveMaximum: number
    keepaliveLimit: number
    readonly version: string
    publish(packet: PublishPacket, client: Client | null, callback?: (error?: Error) => void): void
    publishWill(client: Client, will: Will): void
    registerClient(client: Client): void
    on(event: 'error', listener: (error: unknown) => void): this
  }
  interface Client {
    subscriptions: object
    duplicates: object
    _assignedClientId?: string
    readonly _disconnected: boolean
    readonly _parser: {
      /** The one that comes now; a part of it is here. */
      readonly packet?: { readonly length: number }
      prependListener(event: 'packet', listener: (packet: IncomingPacket) => void): unknown
    }
  }
}

type Will = NonNullable<ConnectPacket['will']>
type PreConnectDone = (error: Error | null, success: boolean) => void

export interface BrokerOptions {
  readonly limits: BrokerLimits
  readonly log: Log
  /** What the listener of this connection enforces now. Asked anew for every decision. */
  policyOf(connection: Connection): Policy
  /** Absent: memory. */
  readonly persistence?: Persistence
  /** Of the persistence; absent: always there. */
  readonly availability?: Availability
}

/** The limits that Aedes' connections can keep. */
export interface BrokerLimits extends Pick<LimitsConfig, 'maxInflightMessages' | 'maxKeepalive' | 'maxPacketSize' | 'messageSizeLimit'> {
  /** Of all listeners: Aedes knows one number. */
  readonly maxTopicAlias: number
}

/** What a decision about a connected client goes by. */
export interface ClientFacts {
  readonly connection: Connection
  readonly admitted: Admitted
}

/** What becomes of a client: its admission, or why it goes. */
export type Verdict = Admission | DisconnectReason

/** A verdict that has to be worked out, when its turn comes. */
export type SlowVerdict = () => Promise<Verdict>

/** Why the broker ends a connection, for MQTT 5 clients and for the log. */
export type DisconnectReason = keyof typeof disconnectReasons

const disconnectReasons = {
  'not-authorised': { code: 0x87, words: 'not authorised' },
  'administrative-action': { code: 0x98, words: 'administrative action' }
} as const satisfies Record<string, { code: number; words: string }>

/** The Aedes that this file was written against. */
const aedesVersion = '2.0.0-beta.1'
const aedesMethods = ['listen', 'publish', 'publishWill', 'registerClient', 'close'] as const
const aedesFields = ['handle', 'clients', 'brokers', 'mq', 'opts', 'counter', 'topicAliasMaximum', 'maximumPacketSize'] as const
const hooks = ['preConnect', 'authenticate', 'authorizePublish', 'authorizeSubscribe', 'authorizeForward', 'published'] as const

/** Clients judged in one turn of the event loop after a reload, and how many of the slow judgements (hashing) are under way at once. */
const clientsPerTurn = 100
const slowJudgements = 2

/** How long a client may take to read its last packet, and all of them together when the broker stops. */
const goodbyeTimeout = 2000
const closeTimeout = 5000

/** Mosquitto's limit for a CONNECT: a stranger may not make us keep `max_packet_size` for each of its connections. */
const maxConnectLength = 100_000

const reasonCodes = { notAuthorised: 0x87, packetTooLarge: 0x95 } as const

export class Broker extends Aedes {
  readonly #log: Log
  readonly #policyOf: (connection: Connection) => Policy
  readonly #availability: Availability | undefined
  #limits: BrokerLimits
  readonly #denials = new Denials()
  /** Also of clients that are gone: their wills are still to be judged. */
  readonly #sessions = new WeakMap<Client, Session>()
  /** Those whose connection exists. Aedes' `clients` can lose one when two with the same identifier come at once. */
  readonly #open = new Map<Client, Session>()
  /** Publishes that are acknowledged, yet go nowhere. */
  readonly #dropped = new WeakSet<object>()
  /** Deliveries that were refused. */
  readonly #refused = new WeakSet<object>()
  /** How often the clients were judged again. */
  #rechecks = 0
  readonly #inMemory: boolean
  #stopping = false

  constructor({ limits, log, policyOf, persistence, availability }: BrokerOptions) {
    checkPrototype()
    super({
      ...(persistence !== undefined && { persistence }),
      queueLimit: 65536,
      // Mosquitto has no limit of its own.
      maxClientsIdLength: 65535
    })
    this.#log = log
    this.#policyOf = policyOf
    this.#availability = availability
    this.#inMemory = persistence === undefined
    this.#limits = limits
    checkInstance(this)
    this.applyLimits(limits)
    // Client identifiers are names like any other, `constructor` and `__proto__` included.
    this.clients = Object.create(null)
    this.#setHooks()
    this.#listenToEvents()
  }

  /** A broker that is ready for `accept`. With a store that is away this waits until it is there. */
  static override async createBroker(options: BrokerOptions): Promise<Broker> {
    const broker = new Broker(options)
    await broker.listen()
    return broker
  }

  override async listen(): Promise<void> {
    await super.listen()
    guardPersistence(this.persistence, {
      withoutPause: this.#inMemory,
      mayQueue: (clientId, { topic }) => {
        const client = this.clients[clientId]
        const session = client && this.#sessions.get(client)
        // The rights of an absent client are judged when it comes back.
        return session === undefined || (topic !== undefined && this.#mayRead(session, topic))
      },
      wasRefused: packet => this.#refused.has(packet),
      failed: error => this.#log.write('storeFailed', { reason: errorMessage(error) })
    })
  }

  /** Takes over an accepted transport, TLS done. */
  accept(stream: Duplex, connection: Connection): void {
    if (stream.destroyed || this.#stopping) {
      stream.destroy()
      return
    }
    const client = this.handle(stream)
    client.subscriptions = Object.create(null)
    client.duplicates = Object.create(null)
    const session = newSession(connection)
    this.#sessions.set(client, session)
    this.#open.set(client, session)
    let awaitsConnect = true
    client._parser.prependListener('packet', packet => {
      awaitsConnect = false
      this.#received(session, packet)
    })
    // Behind Aedes' own listener, which has parsed what came.
    stream.on('readable', () => {
      const length = client._parser.packet?.length ?? 0
      if (awaitsConnect && length > maxConnectLength) client.emit('error', new Error('packet too large'))
    })
    stream.once('close', () => {
      this.#open.delete(client)
      this.#ended(session)
    })
  }

  /** Connections whose CONNECT was accepted and that still are. */
  get clientCount(): number {
    let count = 0
    for (const [client, { admitted }] of this.#open) if (admitted !== undefined && !client.closed) count++
    return count
  }

  /** New limits count from the next CONNECT or packet on. */
  applyLimits(limits: BrokerLimits): void {
    this.#limits = limits
    this.topicAliasMaximum = limits.maxTopicAlias
    this.maximumPacketSize = limits.maxPacketSize
    this.receiveMaximum = limits.maxInflightMessages
    // Aedes tells MQTT 5 clients; the others are refused by us before it answers with a code of its own.
    this.keepaliveLimit = limits.maxKeepalive
  }

  /** Ends a connection: from now on it has no rights, whether or not it reads what it is told. */
  disconnect(client: Client, reason: DisconnectReason): void {
    const session = this.#sessions.get(client)
    if (session === undefined || session.revoked) return
    const { code, words } = disconnectReasons[reason]
    session.revoked = true
    session.end ??= words
    const timer = setTimeout(() => client.conn.destroy(), goodbyeTimeout)
    client.conn.once('close', () => clearTimeout(timer))
    client.disconnect({ reasonCode: code })
  }

  /**
   * Judges every connected client again, a few in each turn, and those whose judgement takes time (hashing) last, so that nobody stays
   * because others are being thought about. An admission replaces the client's own; a refusal or a reason ends the connection. What
   * throws ends it too. Resolves with how many were ended. A later call judges everybody anew, and this one stops.
   */
  async recheckClients(decide: (facts: ClientFacts) => Verdict | SlowVerdict): Promise<number> {
    this.#rechecks += 1
    const round = this.#rechecks
    const slow: [Client, Session, SlowVerdict][] = []
    let judged = 0
    let ended = 0
    const apply = (client: Client, session: Session, verdict: Verdict) => {
      if (!this.#applyVerdict(client, session, verdict)) ended++
    }
    for (const [client, session] of [...this.#open]) {
      const { admitted, connection } = session
      if (admitted === undefined || session.revoked) continue
      if (++judged % clientsPerTurn === 0) await nextTurn()
      if (round !== this.#rechecks) return ended
      const verdict = attempt(() => decide({ connection, admitted }))
      if (typeof verdict === 'function') slow.push([client, session, verdict])
      else apply(client, session, verdict)
    }
    const work = async (): Promise<void> => {
      for (let next = slow.shift(); next !== undefined; next = slow.shift()) {
        const [client, session, judge] = next
        if (session.revoked || !this.#open.has(client)) continue
        const verdict = await judge().catch(() => 'not-authorised' as const)
        if (round !== this.#rechecks) return
        apply(client, session, verdict)
      }
    }
    await Promise.all(Array.from({ length: slowJudgements }, work))
    return ended
  }

  /** Sends what Aedes sends (MQTT 5: "server shutting down", and wills), then ends every connection, in bounded time. */
  override async close(callback?: () => void): Promise<void> {
    this.#stopping = true
    let timer: NodeJS.Timeout | undefined
    const deadline = new Promise<void>(resolve => {
      timer = setTimeout(resolve, closeTimeout)
    })
    await Promise.race([new Promise<void>(resolve => super.close(resolve)), deadline])
    clearTimeout(timer)
    for (const client of this.#open.keys()) client.conn.destroy()
    callback?.()
  }

  override publish(packet: PublishPacket, client?: Client | null | ((error?: Error) => void), callback?: (error?: Error) => void): void {
    const done = typeof client === 'function' ? client : callback
    if (this.#dropped.delete(packet)) {
      done?.()
      return
    }
    super.publish(packet, typeof client === 'function' ? null : (client ?? null), done)
  }

  // Not left to Aedes: it would ask the hook for publishes, whose answers are made for a client that is there. The delay is over and is
  // not told to the receivers, as with Mosquitto.
  override publishWill(client: Client, will: Will): void {
    const session = this.#sessions.get(client)
    if (session === undefined || !this.#mayPublishWill(session, will)) return
    const { topic, payload, qos = 0, retain = false } = will
    const { willDelayInterval: _, ...properties } = will.properties ?? {}
    const packet: PublishPacket = { cmd: 'publish', topic, payload, qos, retain, dup: false, ...(will.properties && { properties }) }
    this.#whenStored(client, qos > 0 || retain, () => this.publish(packet, client))
  }

  override registerClient(client: Client): void {
    const old = this.clients[client.id]
    const session = old && this.#sessions.get(old)
    if (session !== undefined) session.end ??= 'session taken over'
    super.registerClient(client)
  }

  // Hooks are plain fields, which an embedder could replace and our decisions with them: from here on they are read only.
  #setHooks(): void {
    this.preConnect = (client, packet, done) => {
      const session = this.#sessions.get(client)
      if (session === undefined) done(new Error('a connection comes in by accept()'), false)
      else void this.#preConnect(client, session, packet, done)
    }
    // Decided before: here Aedes has named the client.
    this.authenticate = (client, _username, _password, done) => {
      const session = this.#sessions.get(client)
      if (session?.assigned) client._assignedClientId = client.id
      done(null, session?.admitted !== undefined && !session.revoked)
    }
    this.authorizePublish = (client, packet, done) => {
      const session = client === null ? undefined : this.#sessions.get(client)
      if (client === null || session === undefined) return done(new Error('nobody publishes this'))
      this.#whenStored(client, packet.qos > 0 || packet.retain, () => {
        const refused = this.#judgePublish(session, packet)
        if (refused !== undefined) this.#drop(client, session, packet, refused)
        done()
      })
    }
    // Never refused, as with Mosquitto's acl_file: each message is judged when it is delivered.
    this.authorizeSubscribe = (client, subscription, done) => {
      if (this.#sessions.has(client)) this.#whenStored(client, true, () => done(null, subscription))
      else done(null, null)
    }
    this.authorizeForward = (client, packet) => {
      const session = this.#sessions.get(client)
      if (session !== undefined && this.#mayRead(session, packet.topic)) return packet
      this.#refused.add(packet)
      return null
    }
    this.published = (_packet, _client, done) => done()
    for (const hook of hooks) Object.defineProperty(this, hook, { writable: false })
  }

  #listenToEvents(): void {
    const log = this.#log
    // Without a listener this event ends the process.
    this.on('error', error => log.write('storeFailed', { reason: errorMessage(error) }))
    this.on('client', client => {
      const session = this.#sessions.get(client)
      if (session !== undefined) logConnected(log, session)
    })
    this.on('clientDisconnect', client => {
      const session = this.#sessions.get(client)
      if (session !== undefined) this.#ended(session)
    })
    this.on('keepaliveTimeout', client => this.#noteEnd(client, 'exceeded timeout'))
    const failed = (client: Client, error: Error) => this.#noteEnd(client, this.#reasonOf(client, error))
    this.on('clientError', failed)
    this.on('connectionError', failed)
    this.on('connackSent', ({ sessionPresent, returnCode, reasonCode }, client) => {
      const { clientId } = this.#sessions.get(client) ?? { clientId: client.id }
      log.write('connackSent', { clientId, sessionPresent, code: reasonCode ?? returnCode ?? 0 })
    })
    this.on('subscribe', (subscriptions, client) => {
      for (const { topic, qos } of subscriptions) {
        if (qos <= 2) log.write('subscribed', { clientId: client.id, qos, filter: topic })
      }
    })
    this.on('unsubscribe', (filters, client) => {
      // Aedes also says so when a connection ends.
      if (client.closed) return
      for (const filter of filters) log.write('unsubscribed', { clientId: client.id, filter })
    })
  }

  async #preConnect(client: Client, session: Session, packet: ConnectPacket, done: PreConnectDone): Promise<void> {
    let refusal: Refusal | 'malformed' | undefined
    try {
      refusal = await this.#admit(session, packet)
    } catch (error) {
      this.#log.write('storeFailed', { reason: errorMessage(error) })
      refusal = 'unavailable'
    }
    if (client.closed) return
    if (refusal === undefined) {
      done(null, true)
      return
    }
    // Mosquitto says nothing to who breaks the protocol.
    session.end ??= refusal === 'malformed' ? 'protocol error' : refusals[refusal].words
    const refused = new Error(session.end)
    if (refusal === 'malformed') {
      done(refused, false)
      return
    }
    const { clientId, protocolVersion } = session
    const connack = refusalBytes(refusal, protocolVersion)
    this.#log.write('connackSent', { clientId, sessionPresent: false, code: connack[3] ?? 0 })
    client.conn.write(connack, () => done(refused, false))
  }

  // In Mosquitto's order. Afterwards `packet` names the client as the policy does.
  async #admit(session: Session, packet: ConnectPacket): Promise<Refusal | 'malformed' | undefined> {
    const { connection } = session
    const protocolVersion = packet.protocolVersion ?? 4
    const { listener } = connection
    session.protocolVersion = protocolVersion
    session.keepalive = packet.keepalive ?? 0
    session.clean = packet.clean ?? true
    if (packet.clientId !== '') session.clientId = packet.clientId

    if (listener.acceptProtocolVersions?.every(version => version !== protocolVersion)) return 'protocol-version'
    const { maxKeepalive, messageSizeLimit } = this.#limits
    if (packet.clientId === '') {
      const { allowZeroLengthClientId, autoIdPrefix } = listener.security
      if (!allowZeroLengthClientId || protocolVersion === 3 || (protocolVersion === 4 && !session.clean)) return 'empty-client-id'
      session.clientId = `${autoIdPrefix}${randomUUID().toUpperCase()}`
      session.assigned = true
    }
    if (packet.will !== undefined) {
      if (!isTopicName(packet.will.topic)) return 'malformed'
      if (messageSizeLimit > 0 && packet.will.payload.length > messageSizeLimit) return 'will-too-large'
      session.will = packet.will
    }
    if (protocolVersion < 5) {
      if (packet.password !== undefined && packet.username === undefined) return 'malformed'
      if (maxKeepalive > 0 && (session.keepalive === 0 || session.keepalive > maxKeepalive)) return 'keepalive'
    }
    // A session could neither be found nor cleared.
    if (this.#availability?.up === false) return 'unavailable'

    const { username, password } = packet
    const credentials = {
      clientId: session.clientId,
      ...(username !== undefined && { username }),
      ...(password !== undefined && { password: Buffer.from(password) })
    }
    for (;;) {
      const policy = this.#policyOf(connection)
      const admission = await policy.authenticate(connection, credentials)
      // A reload while the password was hashed: what the old policy said counts no more.
      if (policy !== this.#policyOf(connection)) continue
      if (!admission.ok) return admission.refusal
      // In the turn of that comparison: from here on the client is among those whom a reload judges.
      this.#letIn(session, packet, admission)
      return undefined
    }
  }

  #letIn(session: Session, packet: ConnectPacket, admitted: Admitted): void {
    const { clientId, username } = admitted.identity
    session.admitted = admitted
    session.assigned &&= session.clientId === clientId
    session.clientId = clientId
    packet.clientId = clientId
    if (username !== undefined) packet.username = username
  }

  #applyVerdict(client: Client, session: Session, verdict: Verdict): boolean {
    // A new name may come from a certificate; a new client identifier would be another session.
    if (typeof verdict !== 'string' && verdict.ok && verdict.identity.clientId === session.clientId) {
      session.admitted = verdict
      return true
    }
    this.disconnect(client, typeof verdict === 'string' ? verdict : 'not-authorised')
    return false
  }

  // Aedes acknowledges before it stores. While the store is away nothing may be acknowledged that needs it: the packet waits, its
  // sender's next ones behind it, until the store is back or the keep alive ends the connection.
  #whenStored(client: Client, needed: boolean, proceed: () => void): void {
    if (!needed || this.#availability === undefined || this.#availability.up) {
      proceed()
      return
    }
    const { closed } = client
    void this.#availability.whenUp().then(() => {
      if (client.closed === closed) proceed()
    })
  }

  // Denied, yet acknowledged: MQTT 3 has no negative PUBACK, and Mosquitto keeps the connection.
  #drop(client: Client, { protocolVersion }: Session, packet: PublishPacket, reasonCode: number): void {
    const { qos, messageId = 0 } = packet
    if (protocolVersion < 5 || qos === 0) {
      this.#dropped.add(packet)
      return
    }
    // Aedes leaves a packet with this mark alone; its own refusal is longer than Mosquitto's and knows one code.
    Object.assign(packet, { _notAuthorized: true })
    client.conn.write(Buffer.from([qos === 1 ? 0x40 : 0x50, 3, messageId >> 8, messageId & 0xff, reasonCode]))
  }

  /** The reason code of a publish that goes nowhere. */
  #judgePublish(session: Session, packet: PublishPacket): number | undefined {
    const { messageSizeLimit } = this.#limits
    if (messageSizeLimit > 0 && packet.payload.length > messageSizeLimit) {
      this.#log.write('publishTooLarge', publishFields(session, packet))
      return reasonCodes.packetTooLarge
    }
    const denial = session.revoked ? revoked : this.#denialOf(session, packet.topic)
    if (denial === undefined) return undefined
    const fields = publishFields(session, packet)
    if (this.#mayLog(session, packet.topic, denial)) this.#log.write('publishDenied', { ...fields, ...nameOf(session), why: denial.why })
    else this.#log.write('publishDeniedAgain', fields)
    return reasonCodes.notAuthorised
  }

  #mayPublishWill(session: Session, { topic }: Will): boolean {
    const denial = this.#denialOf(session, topic)
    if (denial === undefined) return true
    if (this.#mayLog(session, topic, denial)) {
      this.#log.write('willDenied', { clientId: session.clientId, ...nameOf(session), topic, why: denial.why })
    }
    return false
  }

  #denialOf({ admitted, connection }: Session, topic: string): Denial | undefined {
    if (admitted === undefined) return revoked
    if (isInternal(topic)) return internal
    const decision = this.#policyOf(connection).authorize(admitted.identity, 'write', topic)
    return decision.allowed ? undefined : { why: explainDecision(decision), reason: decision.reason }
  }

  #mayRead({ admitted, connection, revoked }: Session, topic: string): boolean {
    if (admitted === undefined || revoked || isInternal(topic)) return false
    return this.#policyOf(connection).authorize(admitted.identity, 'read', topic).allowed
  }

  // Sees every packet before Aedes.
  #received(session: Session, packet: IncomingPacket): void {
    if (packet.cmd === 'disconnect') session.end ??= ''
    if (packet.cmd === 'subscribe') {
      // Aedes sorts the filters into a plain object and trips over this one; an empty filter it refuses.
      for (const subscription of packet.subscriptions) if (subscription.topic === '__proto__') subscription.topic = ''
    }
    logReceived(this.#log, session, packet)
  }

  // Said when Aedes lets the client go, or when the connection is gone that never became one. A stop ends them all; Mosquitto has no
  // line for each.
  #ended(session: Session): void {
    if (!this.#stopping) logEnd(this.#log, session)
  }

  #noteEnd(client: Client, reason: string): void {
    const session = this.#sessions.get(client)
    if (session !== undefined) session.end ??= reason
  }

  #reasonOf(client: Client, error: Error): string {
    const code = systemCode(error)
    if (this.#availability?.up === false || this.#availability?.caused(error)) return 'server unavailable'
    if (error.message === 'packet too large') return 'oversize packet'
    if (error.message === 'connect did not arrive in time' || error.message === 'drain timeout') return 'exceeded timeout'
    if (code === 'ECONNRESET' || code === 'EPIPE' || code === 'ERR_STREAM_PREMATURE_CLOSE') return 'connection closed by client'
    if (code !== undefined) return `bad socket read/write: ${systemReason(error)}`
    return client.connected ? 'malformed packet' : 'protocol error'
  }

  // Each client and topic once, so many a minute: a client in a loop doesn't fill the log.
  #mayLog(session: Session, topic: string, { reason }: Denial): boolean {
    const { show, hidden } = this.#denials.report(session.clientId, topic, performance.now())
    if (hidden > 0) this.#log.write('denialsNotShown', { count: hidden })
    if (show && reason === 'dangerous-username') this.#log.write('dangerousUsername', { username: '', ...nameOf(session) })
    if (show && reason === 'dangerous-client-id') this.#log.write('dangerousClientId', { clientId: session.clientId })
    return show
  }
}

// Why a publish is denied.
interface Denial {
  readonly why: string
  readonly reason?: Reason
}

const revoked: Denial = { why: 'the client is being disconnected' }
const internal: Denial = { why: 'only the broker writes to $SYS' }

// Aedes speaks to other brokers below `$SYS/<broker id>/` and `$SYS/sub/`: who is connected, who subscribes to what. A client that could
// write there could throw off others. Of `$SYS`, only Mosquitto's part is for clients.
function isInternal(topic: string): boolean {
  return topic.startsWith('$SYS/') && !topic.startsWith('$SYS/broker/')
}

function attempt(decide: () => Verdict | SlowVerdict): Verdict | SlowVerdict {
  try {
    return decide()
  } catch {
    return 'not-authorised'
  }
}

function nextTurn(): Promise<void> {
  return new Promise(resolve => setImmediate(resolve))
}

function checkPrototype(): void {
  for (const method of aedesMethods) {
    if (typeof Aedes.prototype[method] !== 'function') throw unexpectedAedes(`has no method ${method}`)
  }
}

function checkInstance(aedes: Aedes): void {
  for (const field of [...aedesFields, ...hooks]) if (!Object.hasOwn(aedes, field)) throw unexpectedAedes(`has no field ${field}`)
  if (aedes.version !== aedesVersion) throw unexpectedAedes(`is version ${aedes.version}`)
}

function unexpectedAedes(what: string): BrokerError {
  return new BrokerError('ERR_AEDES', `The installed aedes ${what}; this broker needs exactly ${aedesVersion}. Run npm ci.`)
}
