// An embedder's hooks, as the engine asks them: plain properties of an Aedes, which may be replaced at any time. What nobody has set costs
// nothing.

import type { Aedes, Client as AedesClient, AedesOptions, PublishPacket, Subscription } from 'aedes'
import { errorOf } from '../errors.js'
import type { Message } from '../message.js'
import type { SubscriptionRequest } from '../protocol/packets.js'
import { encodeProperties, places } from '../protocol/properties.js'
import { Connection } from '../session/connection.js'
import type { Hooks } from '../session/host.js'
import type { Session } from '../session/session.js'
import {
  connectOf,
  connectPacketOf,
  messageOf,
  type PacketCounter,
  packetOf,
  packetOfRequest,
  requestOf,
  subscriptionRequestOf
} from './aedes-packets.js'

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
    const answer = once((error: unknown, isWelcome?: unknown) => {
      const refusal = refusalOf(error)
      // As with Aedes nothing but `true` is a yes here.
      const edited = refusal === null && isWelcome === true ? attempt(() => connectOf(packet, connect)) : undefined
      if (edited instanceof Error) done(edited, undefined)
      else done(refusal, edited)
    })
    this.#ask(
      () => this.#owner.preConnect(this.#client(connection), packet, answer),
      error => answer(error)
    )
  }

  readonly #authenticate: NonNullable<Hooks['authenticate']> = (connection, { username, password }, done) => {
    const answer = once((error: unknown, isAllowed?: unknown) => done(refusalOf(error), Boolean(isAllowed)))
    this.#ask(
      () => this.#owner.authenticate(this.#client(connection), username, password, answer),
      error => answer(error)
    )
  }

  readonly #authorizePublish: NonNullable<Hooks['authorizePublish']> = (connection, request, done) => {
    const packet = packetOfRequest(request)
    this.#askPublish(this.#client(connection), packet, refusal => {
      const edited = refusal ?? attempt(() => requestOf(packet, request))
      if (edited instanceof Error) done(edited, request)
      else done(null, edited)
    })
  }

  readonly #authorizeSubscribe: NonNullable<Hooks['authorizeSubscribe']> = (connection, request, done) => {
    const { filter, qos, noLocal, retainAsPublished, retainHandling } = request
    const isNew = connection.version === 5
    const subscription: Subscription = { topic: filter, qos, ...(isNew && { nl: noLocal, rap: retainAsPublished, rh: retainHandling }) }
    const client = this.#client(connection)
    const answer = once((error: unknown, asked?: Subscription | null) => {
      const refusal = refusalOf(error)
      const granted = refusal === null && asked ? attempt(() => requestOfHook(asked, request)) : null
      // What can't be subscribed to is refused; its client has done nothing wrong.
      if (granted instanceof Error) this.#owner.emit('clientError', client, granted)
      done(refusal, granted instanceof Error ? null : granted)
    })
    this.#ask(
      () => this.#owner.authorizeSubscribe(client, subscription, answer),
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
    const { topic, payload, qos, retain, properties, expiresAt, source } = will
    const packet = packetOfRequest({
      dup: false,
      qos,
      retain,
      packetId: 0,
      topic,
      payload,
      properties,
      ...(expiresAt !== Number.POSITIVE_INFINITY && { messageExpiryInterval: will.secondsLeft(Date.now()) })
    })
    const client = this.#testatorOf(session)
    this.#askPublish(client, packet, refusal => {
      const edited = refusal === null ? attempt(() => messageOf(packet, source)) : undefined
      if (edited instanceof Error) this.#owner.emit('clientError', client, edited)
      done(edited instanceof Error ? undefined : edited)
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
    const client = this.#client(connection)
    const found = attempt(() => sendable(typeof responseInformation === 'function' ? responseInformation(client) : responseInformation))
    if (!(found instanceof Error)) return found
    this.#owner.emit('clientError', client, found)
    return undefined
  }

  #forward(client: AedesClient, message: Message): Message | undefined {
    const packet = packetOf(message, this.#owner)
    const { payload, properties } = packet
    const expiry = properties?.messageExpiryInterval
    const forwarded = this.#owner.authorizeForward(client, packet)
    if (!forwarded) return undefined
    if (forwarded instanceof Promise) {
      // What it comes to is nobody's, and must not end the process.
      forwarded.catch(() => {})
      throw new TypeError('authorizeForward answers with a packet, not with a promise of one')
    }
    const { topic, qos, retain } = message
    const isSame = forwarded === packet && packet.topic === topic && packet.payload === payload && packet.properties === properties
    if (isSame && properties === undefined && packet.qos === qos && packet.retain === retain) return message
    // What can't be sent is found here, where it costs this receiver alone.
    const edited = messageOf(forwarded, message.source)
    const isUnchanged = isSame && edited.qos === qos && edited.retain === retain && properties?.messageExpiryInterval === expiry
    return isUnchanged && edited.properties.equals(message.properties) ? message : edited
  }

  #askPublish(client: AedesClient, packet: PublishPacket, done: (refusal: Error | null) => void): void {
    const answer = once((error?: unknown) => done(refusalOf(error)))
    this.#ask(() => this.#owner.authorizePublish(client, packet, answer), answer)
  }

  // One that throws has refused, and so has an async function that rejects; behind its answer it can refuse no more, and that is told.
  #ask(hook: () => unknown, refuse: (error: Error) => boolean): void {
    guarded(hook, error => {
      if (!refuse(error)) this.#owner.embedderFailed(error)
    })
  }

  #testatorOf(session: Session): AedesClient {
    const { testator } = session
    return testator instanceof Connection ? this.#owner.clientOf(testator) : this.#owner.clientOfSession(session)
  }

  #client(connection: Connection): AedesClient {
    return this.#owner.clientOf(connection)
  }

  #clientOf({ connection }: Session): AedesClient | undefined {
    return connection instanceof Connection ? this.#owner.clientOf(connection) : undefined
  }
}

// What the hook left out is as its client asked.
function requestOfHook(
  subscription: Subscription,
  { noLocal, retainAsPublished, retainHandling }: SubscriptionRequest
): SubscriptionRequest {
  const { nl = noLocal, rap = retainAsPublished, rh = retainHandling } = subscription
  return subscriptionRequestOf({ ...subscription, nl, rap, rh })
}

// Whatever is true refuses, as with Aedes: programs in JavaScript answer with text too, and with objects that have a code.
function refusalOf(error: unknown): Error | null {
  if (!error) return null
  if (error instanceof Error) return error
  if (typeof error !== 'object') return new Error(String(error))
  return Object.assign(new Error('message' in error ? String(error.message) : ''), error)
}

// A hook that calls back twice is asked once. True: this was the time that counts.
function once<Args extends unknown[]>(call: (...args: Args) => void): (...args: Args) => boolean {
  let isCalled = false
  return (...args) => {
    if (isCalled) return false
    isCalled = true
    call(...args)
    return true
  }
}

function sendable(responseInformation: string | null | undefined): string | undefined {
  if (responseInformation === undefined || responseInformation === null) return undefined
  encodeProperties({ responseInformation }, places.connack)
  return responseInformation
}

function attempt<Value>(make: () => Value): Value | Error {
  try {
    return make()
  } catch (error) {
    return errorOf(error)
  }
}

/** Async functions are hooks and listeners too. */
export function guarded(ask: () => unknown, failed: (error: Error) => void): void {
  const fail = (error: unknown): void => failed(errorOf(error))
  try {
    const answer = ask()
    if (answer instanceof Promise) answer.catch(fail)
  } catch (error) {
    fail(error)
  }
}
