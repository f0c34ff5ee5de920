// An embedder's hooks and listeners, as the engine asks them: plain properties of an Aedes, which may be replaced at any time. What nobody
// has set costs nothing.

import type { Aedes, Client as AedesClient, AedesOptions, AedesPublishPacket, ConnackPacket, Subscription } from 'aedes'
import { errorOf } from '../errors.js'
import type { Message } from '../message.js'
import type { SubscriptionRequest } from '../protocol/packets.js'
import { decodeProperties } from '../protocol/properties.js'
import { Connection } from '../session/connection.js'
import type { Events, Hooks, PublishRequest } from '../session/host.js'
import type { Session } from '../session/session.js'
import type { QueueEntry } from '../storage.js'
import { connectOf, connectPacketOf, messageOf, type PacketCounter, packetOf, packetOfRequest, qosOf, requestOf } from './aedes-packets.js'

/** As Aedes, but for `$SYS`, which our engine keeps to itself whatever a hook says. */
export const neutralHooks: AedesHookSet = {
  preConnect: (_client, _packet, done) => done(null, true),
  authenticate: (_client, _username, _password, done) => done(null, true),
  authorizePublish: (_client, _packet, done) => done(null),
  authorizeSubscribe: (_client, subscription, done) => done(null, subscription),
  authorizeForward: (_client, packet) => packet,
  published: (_packet, _client, done) => done(null)
}

type AedesHookSet = Pick<
  Aedes,
  'preConnect' | 'authenticate' | 'authorizePublish' | 'authorizeSubscribe' | 'authorizeForward' | 'published'
>

/** What of an Aedes is asked: its hooks as they are at that moment. */
export interface HookOwner
  extends PacketCounter,
    Pick<
      Aedes,
      | 'preConnect'
      | 'authenticate'
      | 'authorizePublish'
      | 'authorizeSubscribe'
      | 'authorizeForward'
      | 'published'
      | 'emit'
      | 'listenerCount'
    > {
  readonly responseInformation: AedesOptions['responseInformation'] | undefined
  readonly pendingSessionsLimit: number
  clientOf(connection: Connection): AedesClient
  /** The client that has the session, or had it. */
  clientOfSession(session: Session): AedesClient
  /** Is anybody told what the broker says of itself by this name, in `$SYS/<id>/`? */
  isTold(name: string): boolean
  tell(name: string, text: string): void
  /** Something of the embedder's threw. */
  embedderFailed(error: Error): void
}

export class AedesHooks implements Hooks {
  readonly #owner: HookOwner

  constructor(owner: HookOwner) {
    this.#owner = owner
  }

  get preConnect(): Hooks['preConnect'] {
    return this.#owner.preConnect === neutralHooks.preConnect ? undefined : this.#preConnect
  }

  get authenticate(): Hooks['authenticate'] {
    return this.#owner.authenticate === neutralHooks.authenticate ? undefined : this.#authenticate
  }

  get authorizePublish(): Hooks['authorizePublish'] {
    return this.#owner.authorizePublish === neutralHooks.authorizePublish ? undefined : this.#authorizePublish
  }

  get authorizeSubscribe(): Hooks['authorizeSubscribe'] {
    return this.#owner.authorizeSubscribe === neutralHooks.authorizeSubscribe ? undefined : this.#authorizeSubscribe
  }

  get authorizeForward(): Hooks['authorizeForward'] {
    return this.#owner.authorizeForward === neutralHooks.authorizeForward ? undefined : this.#authorizeForward
  }

  get authorizeWill(): Hooks['authorizeWill'] {
    return this.#owner.authorizePublish === neutralHooks.authorizePublish ? undefined : this.#authorizeWill
  }

  get published(): Hooks['published'] {
    return this.#owner.published === neutralHooks.published ? undefined : this.#published
  }

  get responseInformation(): Hooks['responseInformation'] {
    const { responseInformation } = this.#owner
    return responseInformation === null || responseInformation === undefined ? undefined : this.#responseInformation
  }

  readonly #preConnect: NonNullable<Hooks['preConnect']> = (connection, connect, done) => {
    const packet = connectPacketOf(connect)
    const answer = once((error: Error | null, isWelcome: boolean) => done(error, isWelcome ? connectOf(packet, connect) : undefined))
    guarded(
      () => this.#owner.preConnect(this.#client(connection), packet, answer),
      error => answer(error, false)
    )
  }

  readonly #authenticate: NonNullable<Hooks['authenticate']> = (connection, { username, password }, done) => {
    const answer = once((error: Error | null, isAllowed: boolean | null) => done(error, isAllowed === true))
    guarded(
      () => this.#owner.authenticate(this.#client(connection), username, password, answer),
      error => answer(error, false)
    )
  }

  readonly #authorizePublish: NonNullable<Hooks['authorizePublish']> = (connection, request, done) => {
    this.#askPublish(this.#client(connection), request, done)
  }

  readonly #authorizeSubscribe: NonNullable<Hooks['authorizeSubscribe']> = (connection, request, done) => {
    const { filter, qos, noLocal, retainAsPublished, retainHandling } = request
    const isNew = connection.version === 5
    const subscription: Subscription = { topic: filter, qos, ...(isNew && { nl: noLocal, rap: retainAsPublished, rh: retainHandling }) }
    const answer = once((error: Error | null, asked?: Subscription | null) => done(error, asked ? requestFor(asked, request) : null))
    guarded(
      () => this.#owner.authorizeSubscribe(this.#client(connection), subscription, answer),
      error => answer(error)
    )
  }

  // A copy for each receiver: what the hook changes in it is for that one.
  readonly #authorizeForward: NonNullable<Hooks['authorizeForward']> = (session, message) => {
    const client = this.#clientOf(session)
    if (client === undefined) return message
    let forwarded: Message | undefined
    guarded(
      () => {
        forwarded = this.#forward(client, message)
      },
      error => this.#owner.emit('clientError', client, error)
    )
    return forwarded
  }

  readonly #authorizeWill: NonNullable<Hooks['authorizeWill']> = (session, will, done) => {
    const { topic, payload, qos, retain, properties } = will
    const request: PublishRequest = { dup: false, qos, retain, packetId: 0, topic, payload, properties }
    this.#askPublish(this.#owner.clientOfSession(session), request, (error, edited) => {
      if (error !== null) done(undefined)
      else done(messageOf(packetOfRequest(edited), will.source))
    })
  }

  readonly #published: NonNullable<Hooks['published']> = (message, connection, done) => {
    const answer = once(() => done())
    // The broker's own come without a client, as with Aedes, though its types don't say so.
    const client = connection === undefined ? null : this.#client(connection)
    guarded(
      () => Reflect.apply(this.#owner.published, this.#owner, [packetOf(message, this.#owner), client, answer]),
      error => {
        this.#owner.embedderFailed(error)
        answer()
      }
    )
  }

  // Whoever can't be told has none.
  readonly #responseInformation: NonNullable<Hooks['responseInformation']> = connection => {
    const { responseInformation } = this.#owner
    if (typeof responseInformation !== 'function') return responseInformation ?? undefined
    const client = this.#client(connection)
    try {
      return responseInformation(client) ?? undefined
    } catch (error) {
      this.#owner.emit('clientError', client, errorOf(error))
      return undefined
    }
  }

  #forward(client: AedesClient, message: Message): Message | undefined {
    const packet = packetOf(message, this.#owner)
    const { payload, properties } = packet
    const expiry = properties?.messageExpiryInterval
    const forwarded = this.#owner.authorizeForward(client, packet)
    if (!forwarded) return undefined
    const { topic, qos, retain } = message
    const isSame = forwarded === packet && packet.topic === topic && packet.payload === payload && packet.properties === properties
    if (isSame && properties === undefined && packet.qos === qos && packet.retain === retain) return message
    const edited = messageOf(forwarded, message.source)
    const isUnchanged = isSame && edited.qos === qos && edited.retain === retain && properties?.messageExpiryInterval === expiry
    return isUnchanged && edited.properties.equals(message.properties) ? message : edited
  }

  #askPublish(client: AedesClient | null, request: PublishRequest, done: (error: Error | null, request: PublishRequest) => void): void {
    const packet = packetOfRequest(request)
    const answer = once((error?: Error | null) => {
      let edited = request
      let refusal = error ?? null
      guarded(
        () => {
          if (refusal === null) edited = requestOf(packet, request)
        },
        wrong => {
          refusal = wrong
        }
      )
      done(refusal, edited)
    })
    guarded(() => this.#owner.authorizePublish(client, packet, answer), answer)
  }

  #client(connection: Connection): AedesClient {
    return this.#owner.clientOf(connection)
  }

  #clientOf({ connection }: Session): AedesClient | undefined {
    return connection instanceof Connection ? this.#owner.clientOf(connection) : undefined
  }
}

export class AedesEvents implements Events {
  readonly #owner: HookOwner

  constructor(owner: HookOwner) {
    this.#owner = owner
  }

  has(event: string): boolean {
    return this.#owner.listenerCount(event) > 0
  }

  connackSent(connection: Connection, sessionPresent: boolean, code: number, properties: Buffer | undefined): void {
    if (!this.has('connackSent')) return
    const packet: ConnackPacket = {
      cmd: 'connack',
      sessionPresent,
      ...(connection.version === 5 ? { reasonCode: code } : { returnCode: code }),
      ...(properties !== undefined && { properties: decodeProperties(properties) })
    }
    this.#owner.emit('connackSent', packet, this.#owner.clientOf(connection))
  }

  ready(connection: Connection): void {
    const client = this.#owner.clientOf(connection)
    this.#owner.emit('clientReady', client)
    guarded(
      () => client.emit('connected'),
      error => this.#owner.embedderFailed(error)
    )
  }

  clientError(connection: Connection, error: Error): void {
    this.#owner.emit('clientError', this.#owner.clientOf(connection), error)
  }

  keepaliveTimeout(connection: Connection): void {
    this.#owner.emit('keepaliveTimeout', this.#owner.clientOf(connection))
  }

  pinged(connection: Connection): void {
    if (this.has('ping')) this.#owner.emit('ping', { cmd: 'pingreq' }, this.#owner.clientOf(connection))
  }

  acknowledged(connection: Connection, { message, qos, packetId }: QueueEntry): void {
    if (!this.has('ack')) return
    const packet = qos === 2 ? { cmd: 'pubrel', messageId: packetId } : { ...packetOf(message, this.#owner), qos, messageId: packetId }
    this.#owner.emit('ack', packet, this.#owner.clientOf(connection))
  }

  get wantsSubscribed(): boolean {
    return this.has('subscribe') || this.#owner.isTold('new/subscribes')
  }

  subscribed(connection: Connection, subscriptions: readonly { readonly topic: string; readonly qos: number }[]): void {
    if (this.has('subscribe')) this.#owner.emit('subscribe', subscriptions, this.#owner.clientOf(connection))
    this.#tell('new/subscribes', connection, subscriptions)
  }

  unsubscribed(connection: Connection, filters: readonly string[]): void {
    if (this.has('unsubscribe')) this.#owner.emit('unsubscribe', filters, this.#owner.clientOf(connection))
    this.#tell('new/unsubscribes', connection, filters)
  }

  sessionLimitReached(session: Session, reason: 'sessionExpiry' | 'willDelay'): void {
    if (!this.has('sessionLimitReached')) return
    const details = { reason, limit: this.#owner.pendingSessionsLimit }
    this.#owner.emit('sessionLimitReached', this.#owner.clientOfSession(session), details)
  }

  registered(connection: Connection): void {
    this.#owner.emit('client', this.#owner.clientOf(connection))
  }

  gone(connection: Connection): void {
    this.#owner.emit('clientDisconnect', this.#owner.clientOf(connection))
  }

  connectionError(connection: Connection, error: Error): void {
    this.#owner.emit('connectionError', this.#owner.clientOf(connection), error)
  }

  expired(session: Session): void {
    if (this.has('sessionExpired')) this.#owner.emit('sessionExpired', this.#owner.clientOfSession(session))
  }

  published(packet: AedesPublishPacket, connection: Connection | undefined): void {
    this.#owner.emit('publish', packet, connection === undefined ? null : this.#owner.clientOf(connection))
  }

  #tell(name: string, { clientId }: Connection, subs: readonly unknown[]): void {
    if (this.#owner.isTold(name)) this.#owner.tell(name, JSON.stringify({ clientId, subs }))
  }
}

function requestFor({ topic, qos, nl, rap, rh }: Subscription, asked: SubscriptionRequest): SubscriptionRequest {
  return {
    filter: topic,
    qos: qosOf(qos),
    noLocal: nl ?? asked.noLocal,
    retainAsPublished: rap ?? asked.retainAsPublished,
    retainHandling: rh === 0 || rh === 1 || rh === 2 ? rh : asked.retainHandling
  }
}

// A hook that calls back twice is asked once.
function once<Args extends unknown[]>(call: (...args: Args) => void): (...args: Args) => void {
  let isCalled = false
  return (...args) => {
    if (isCalled) return
    isCalled = true
    call(...args)
  }
}

// One that throws has refused, and so has an async function that rejects.
function guarded(ask: () => unknown, refuse: (error: Error) => void): void {
  const fail = (error: unknown): void => refuse(errorOf(error))
  try {
    const answer = ask()
    if (answer instanceof Promise) answer.catch(fail)
  } catch (error) {
    fail(error)
  }
}
