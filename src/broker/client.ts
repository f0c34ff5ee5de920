// A connection as Aedes' Client, for hooks, events and `broker.clients`.

import { EventEmitter } from 'node:events'
import type { IncomingMessage } from 'node:http'
import { type Duplex, PassThrough } from 'node:stream'
import type { Client as AedesClient, PublishPacket, SubscribePacket, Subscription, Subscriptions, UnsubscribePacket } from 'aedes'
import type { Connection as Transport } from '../auth/identity.js'
import { errorMessage } from '../errors.js'
import { encodeDisconnect } from '../protocol/encode.js'
import { packetTypes, type SubscriptionRequest } from '../protocol/packets.js'
import { encodeProperties, type Properties } from '../protocol/properties.js'
import { reasonCodes } from '../protocol/reason-codes.js'
import { Connection } from '../session/connection.js'
import type { ConnectionHost } from '../session/host.js'
import type { Session } from '../session/session.js'
import { handleSubscribe, handleUnsubscribe } from '../session/subscribe.js'
import { parseFilter } from '../topic.js'
import { messageOf, qosOf } from './aedes-packets.js'

type Done = (error?: Error) => void
type Filters = Subscriptions | Subscription | Subscription[] | SubscribePacket | UnsubscribePacket

interface DisconnectOptions {
  readonly reasonCode?: number | undefined
  readonly properties?: Properties | undefined
}

const nothing = (): void => {}

/** A connection that is known to an embedder. */
export class ClientConnection extends Connection {
  readonly client: Client

  constructor(conn: Duplex, transport: Transport, host: ConnectionHost, req?: IncomingMessage) {
    super(conn, transport, host, req)
    this.client = new Client(this)
  }
}

export class Client extends EventEmitter implements AedesClient {
  // Null until the CONNECT is known, though Aedes' types don't say so.
  declare readonly id: string
  declare readonly version: number
  readonly conn: Duplex
  readonly req?: IncomingMessage
  /** Of a proxy in front of a WebSocket server: whoever made the request object has put it there. */
  readonly connDetails: unknown
  /** Another broker's birth clears them in every client that Aedes knows. */
  readonly duplicates: Record<string, unknown> = {}
  readonly #connection: Connection

  static {
    Object.defineProperties(Client.prototype, {
      id: {
        get(this: Client): string | null {
          return this.#connection.asked === undefined ? null : this.#connection.clientId
        }
      },
      version: {
        get(this: Client): number | null {
          return this.#connection.asked === undefined ? null : this.#connection.version
        }
      }
    })
  }

  constructor(connection: Connection) {
    super()
    const { conn, req } = connection
    this.#connection = connection
    this.conn = conn
    if (req !== undefined) this.req = req
    this.connDetails = req === undefined ? null : (Reflect.get(req, 'connDetails') ?? null)
  }

  get connecting(): boolean {
    return this.#connection.state === 'connecting'
  }

  get connected(): boolean {
    return this.#connection.state === 'active'
  }

  get closed(): boolean {
    return this.#connection.closed
  }

  /** Its CONNECT was accepted. */
  get connackSent(): boolean {
    return this.#connection.connect !== undefined
  }

  /** Its session ends with the connection. */
  get clean(): boolean {
    return this.sessionExpiryInterval === 0
  }

  get sessionExpiryInterval(): number {
    const { session, asked } = this.#connection
    return session?.expiryInterval ?? asked?.sessionExpiryInterval ?? 0
  }

  get receiveMaximum(): number {
    return this.#connection.receiveMaximum
  }

  get maximumPacketSize(): number | undefined {
    return this.#connection.maximumPacketSize
  }

  /** Packets that wait to be written, and their bytes. */
  get waiting(): number {
    return this.#connection.waiting
  }

  get waitingBytes(): number {
    return this.#connection.waitingBytes
  }

  get disconnectReasonCode(): number | null {
    return this.#connection.disconnectReasonCode
  }

  // As with Aedes, an error that is emitted here ends the connection; nobody needs to listen.
  override emit(event: string | symbol, ...details: unknown[]): boolean {
    if (event === 'error') {
      const [cause] = details
      this.#connection.finish({ words: errorMessage(cause), ...(cause instanceof Error && { error: cause }) })
      if (this.listenerCount('error') === 0) return true
    }
    return super.emit(event, ...details)
  }

  /** To this client alone. `done`: it is on its way, or waits in its queue. */
  publish(packet: PublishPacket, done: Done = nothing): void {
    const connection = this.#connection
    const { session, host } = connection
    if (session === undefined || connection.closed) {
      done(new Error('client is closed'))
      return
    }
    const original = messageOf(packet)
    const { authorizeForward } = host.hooks
    const message = authorizeForward === undefined ? original : authorizeForward(session, original)
    if (message === undefined) {
      setImmediate(done)
      return
    }
    if (message.qos === 0) {
      connection.sendLive(message, message.retain, 0, undefined)
      setImmediate(done)
      return
    }
    const entry = session.enqueue(message, message.qos, message.retain, 0)
    if (entry === undefined) {
      setImmediate(done, new Error('the queue of the client is full'))
      return
    }
    const commit = session.isStored ? host.ledger.record({ kind: 'enqueue', message, entries: [entry] }) : undefined
    if (commit === undefined) session.take(entry)
    else commit.hand(entry, session)
    if (commit === undefined) setImmediate(done)
    else commit.wait({ settle: () => done() })
  }

  /** Adds subscriptions as if the client had asked for them; SUBACK is sent for a whole packet with an identifier. */
  subscribe(filters: Filters, done: Done = nothing): void {
    const connection = this.#connection
    if (connection.session === undefined || connection.closed) {
      done(new Error('client is closed'))
      return
    }
    const subscriptions = requestsOf(filters)
    const wrong = subscriptions.find(({ filter }) => typeof parseFilter(filter) === 'string')
    if (wrong !== undefined) {
      done(new Error(`${wrong.filter} is no topic filter`))
      return
    }
    const packet = { type: packetTypes.subscribe, packetId: identifierOf(filters), subscriptions, subscriptionIdentifier: 0 } as const
    handleSubscribe(connection, packet, error => setImmediate(done, error))
  }

  unsubscribe(filters: Filters | string | readonly string[], done: Done = nothing): void {
    const connection = this.#connection
    if (connection.session === undefined || connection.closed) {
      done(new Error('client is closed'))
      return
    }
    handleUnsubscribe(connection, { type: packetTypes.unsubscribe, packetId: identifierOf(filters), filters: namesOf(filters) })
    setImmediate(done)
  }

  /** Without a word, and without its will being void. */
  close(done: () => void = nothing): void {
    this.#connection.finish({ words: 'administrative action' })
    this.#whenGone(done)
  }

  /** Tells an MQTT 5 client why. */
  disconnect(options: DisconnectOptions | (() => void) = {}, done: () => void = nothing): void {
    const connection = this.#connection
    const { reasonCode = reasonCodes.success, properties } = typeof options === 'function' ? {} : options
    if (properties !== undefined && connection.version === 5 && !connection.closed) {
      connection.disconnectReasonCode = reasonCode
      connection.send(encodeDisconnect(reasonCode, encodeProperties(properties)))
      connection.finish({ words: 'administrative action' })
    } else {
      connection.finish({ words: 'administrative action', reasonCode })
    }
    this.#whenGone(typeof options === 'function' ? options : done)
  }

  /** Forgets what waits for this client. */
  emptyOutgoingQueue(done: Done = nothing): void {
    const emptied = this.#connection.session?.empty() ?? Promise.resolve()
    emptied.then(() => done(), done)
  }

  #whenGone(done: () => void): void {
    if (this.conn.destroyed) setImmediate(done)
    else this.conn.once('close', done)
  }
}

/** One whose session has ended long after its connection. */
export class FormerClient extends EventEmitter implements AedesClient {
  readonly id: string
  readonly version: number
  readonly clean = false
  readonly connecting = false
  readonly connected = false
  readonly closed = true
  readonly connackSent = true
  readonly disconnectReasonCode = null
  readonly sessionExpiryInterval: number
  readonly maximumPacketSize = undefined
  readonly receiveMaximum = 65_535
  readonly conn: Duplex = new PassThrough().destroy()

  constructor({ clientId, version, expiryInterval }: Session) {
    super()
    this.id = clientId
    this.version = version
    this.sessionExpiryInterval = expiryInterval
  }

  publish(_packet: PublishPacket, done: Done = nothing): void {
    setImmediate(done, new Error('client is closed'))
  }

  subscribe(_filters: Filters, done: Done = nothing): void {
    setImmediate(done, new Error('client is closed'))
  }

  unsubscribe(_filters: Filters, done: Done = nothing): void {
    setImmediate(done, new Error('client is closed'))
  }

  close(done: () => void = nothing): void {
    setImmediate(done)
  }

  disconnect(options: DisconnectOptions | (() => void) = {}, done: () => void = nothing): void {
    setImmediate(typeof options === 'function' ? options : done)
  }

  emptyOutgoingQueue(done: () => void = nothing): void {
    setImmediate(done)
  }
}

function requestsOf(filters: Filters): SubscriptionRequest[] {
  const list: readonly Subscription[] = Array.isArray(filters)
    ? filters
    : 'subscriptions' in filters
      ? filters.subscriptions
      : 'topic' in filters
        ? [filters]
        : []
  return list.map(({ topic, qos, nl = false, rap = false, rh }) => ({
    filter: topic,
    qos: qosOf(qos),
    noLocal: nl,
    retainAsPublished: rap,
    retainHandling: rh === 1 || rh === 2 ? rh : 0
  }))
}

function namesOf(filters: Filters | string | readonly string[]): string[] {
  if (typeof filters === 'string') return [filters]
  if (Array.isArray(filters)) return filters.map(nameOf)
  if ('unsubscriptions' in filters && Array.isArray(filters.unsubscriptions)) return filters.unsubscriptions.map(nameOf)
  if ('subscriptions' in filters && Array.isArray(filters.subscriptions)) return filters.subscriptions.map(nameOf)
  return 'topic' in filters && typeof filters.topic === 'string' ? [filters.topic] : []
}

function nameOf(filter: string | { readonly topic: string }): string {
  return typeof filter === 'string' ? filter : filter.topic
}

function identifierOf(filters: Filters | string | readonly string[]): number {
  return typeof filters === 'object' && 'messageId' in filters && typeof filters.messageId === 'number' ? filters.messageId : 0
}
