// A connection as Aedes' Client, for hooks, events and `broker.clients`.

import { EventEmitter } from 'node:events'
import type { IncomingMessage } from 'node:http'
import { type Duplex, PassThrough } from 'node:stream'
import type { Client as AedesClient, PublishPacket } from 'aedes'
import type { Connection as Transport } from '../auth/identity.js'
import { errorMessage, errorOf } from '../errors.js'
import { encodeProperties, type Properties, places } from '../protocol/properties.js'
import { reasonCodes } from '../protocol/reason-codes.js'
import { Connection } from '../session/connection.js'
import type { ConnectionHost } from '../session/host.js'
import type { Session } from '../session/session.js'
import { handleSubscribe, handleUnsubscribe } from '../session/subscribe.js'
import { type Filters, messageOf, reasonCodeOf, subscribeOf, unsubscribeOf } from './aedes-packets.js'
import { type Done, Pending } from './pending.js'

export interface DisconnectOptions {
  readonly reasonCode?: number | undefined
  readonly properties?: Properties | undefined
}

const nothing = (): void => {}

/** A connection that is known to an embedder. */
export class ClientConnection extends Connection {
  readonly client: Client

  /** `failed`: told of what an embedder's program did wrong, where no callback is. */
  constructor(conn: Duplex, transport: Transport, host: ConnectionHost, failed: (error: Error) => void, req?: IncomingMessage) {
    super(conn, transport, host, req)
    this.client = new Client(this, failed)
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
  readonly #failed: (error: Error) => void
  readonly #pending: Pending

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

  constructor(connection: Connection, failed: (error: Error) => void) {
    super()
    const { conn, req } = connection
    this.#connection = connection
    this.#failed = failed
    this.#pending = new Pending({ threw: failed, schedule: setImmediate })
    this.conn = conn
    if (req !== undefined) this.req = req
    this.connDetails = req === undefined ? null : (Reflect.get(req, 'connDetails') ?? null)
  }

  /** Undefined: one of another broker, or a former one. */
  static connectionOf(client: AedesClient): Connection | undefined {
    return client instanceof Client ? client.#connection : undefined
  }

  get connecting(): boolean {
    const { state, isAnnounced } = this.#connection
    return state === 'connecting' || (state === 'active' && !isAnnounced)
  }

  get connected(): boolean {
    return this.#connection.state === 'active' && this.#connection.isAnnounced
  }

  get closed(): boolean {
    return this.#connection.closed
  }

  /** Its CONNECT was accepted, and it was told so. */
  get connackSent(): boolean {
    return this.#connection.hasConnack
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

  // As with Aedes, an error that is emitted here ends the connection; nobody needs to listen. Who does is told by the end itself.
  override emit(event: string | symbol, ...details: unknown[]): boolean {
    if (event !== 'error') return super.emit(event, ...details)
    if (!this.#connection.closed) {
      const [cause] = details
      this.#connection.finish({ words: errorMessage(cause), error: errorOf(cause) })
    } else if (this.listenerCount('error') > 0) {
      super.emit(event, ...details)
    }
    return true
  }

  /** To this client alone. `done`: it is on its way, or waits in its queue. */
  publish(packet: PublishPacket, done?: Done): void {
    this.#request(done, (connection, session, answer) => {
      const original = messageOf(packet)
      const { host } = connection
      const { authorizeForward } = host.hooks
      const message = authorizeForward === undefined ? original : authorizeForward(session, original)
      if (message === undefined) {
        answer()
      } else if (message.qos === 0) {
        if (connection.isReady) connection.sendLive(message, message.retain, 0)
        else connection.sendBehind(message, message.retain, 0)
        answer()
      } else {
        const commit = host.enqueueAlone(session, message, message.qos, message.retain, 0)
        if (commit === 'full') answer(new Error('the queue of the client is full'))
        else if (commit === undefined) answer()
        else commit.wait({ settle: answer })
      }
    })
  }

  /** Adds subscriptions as if the client had asked for them; SUBACK is sent for a whole packet with an identifier. `done`: they are durable. */
  subscribe(filters: Filters, done?: Done): void {
    this.#request(done, (connection, _session, answer) => handleSubscribe(connection, subscribeOf(filters), answer))
  }

  unsubscribe(filters: Filters | string | readonly string[], done?: Done): void {
    this.#request(done, (connection, _session, answer) => {
      handleUnsubscribe(connection, unsubscribeOf(filters), answer)
    })
  }

  /** Without a word, and without its will being void. */
  close(done: () => void = nothing): void {
    this.#connection.finish({ words: 'administrative action' })
    this.#whenGone(done)
  }

  /** Tells an MQTT 5 client why. What can't be sent to it ends it too, with an error. */
  disconnect(options: DisconnectOptions | (() => void) = {}, done: () => void = nothing): void {
    const connection = this.#connection
    const { reasonCode, properties } = typeof options === 'function' ? {} : (options ?? {})
    try {
      const code = reasonCodeOf(reasonCode ?? reasonCodes.success)
      const bytes = encodeProperties(properties ?? {}, places.disconnect)
      connection.finish({ words: 'administrative action', reasonCode: code, properties: bytes })
    } catch (error) {
      this.emit('error', error)
    }
    this.#whenGone(typeof options === 'function' ? options : done)
  }

  /** Forgets what waits for this client. */
  emptyOutgoingQueue(done: Done = nothing): void {
    const emptied = this.#connection.session?.empty() ?? Promise.resolve()
    emptied.then(() => done(), done)
  }

  /** Nothing comes any more of what was asked of it. */
  left(): void {
    this.#pending.fail('client is closed')
  }

  // What is asked for wrongly is an error for the callback or, without one, where the broker's own errors go.
  #request(done: Done | undefined, work: (connection: Connection, session: Session, answer: Done) => void): void {
    const connection = this.#connection
    const { session } = connection
    const answer = this.#pending.add(done ?? nothing)
    if (session === undefined || connection.closed) {
      answer(new Error(connection.closed ? 'client is closed' : 'client is not connected yet'))
      return
    }
    try {
      work(connection, session, answer)
    } catch (error) {
      if (done === undefined) this.#failed(errorOf(error))
      answer(errorOf(error))
    }
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
