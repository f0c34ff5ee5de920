// All sessions by client identifier, from CONNECT to their end: take-over, resumption, expiry, wills. Everything that is to happen later
// is a deadline in the session's data.

import { hasSameRights } from '../auth/identity.js'
import type { Admitted } from '../auth/policy.js'
import { Message } from '../message.js'
import type { Connect, Will } from '../protocol/packets.js'
import { listenerKey } from '../reload.js'
import type { Connection } from '../session/connection.js'
import type { ConnectionHost, OpenedSession } from '../session/host.js'
import type { Commit } from '../session/ledger.js'
import { Session, sessionEnd } from '../session/session.js'
import type { StoredSession, StoredWill, Subscription } from '../storage.js'
import { Deadlines } from './deadlines.js'

/** How much is taken of what is due before the next look at the clock. */
const perLook = 10
/** Subscriptions of a session that ends, between two looks at the clock. */
const filtersPerLook = 64

/** How long after a crash of the broker the clients that had a will may take to come back, seconds. */
const crashGrace = 30

export interface SessionsHost extends ConnectionHost {
  /** A session has another user, listener or version: what was decided for it before counts no more. */
  sessionChangedHands(): void
  /** Its will is published, if it may be. */
  publishWill(session: Session, will: StoredWill): void
  /** It outlived its connection, and its time is over. */
  expired(session: Session): void
}

export class Sessions {
  readonly #host: SessionsHost
  readonly #byId = new Map<string, Session>()
  readonly #expiries = new Deadlines<Session>()
  readonly #wills = new Deadlines<Session>()
  /** Those of MQTT 5 without a connection, where they are limited. */
  readonly #pending = new Set<Session>()
  #newest = 0

  constructor(host: SessionsHost) {
    this.#host = host
  }

  get count(): number {
    return this.#byId.size
  }

  /** The number of the one that was made last. */
  get newest(): number {
    return this.#newest
  }

  get(clientId: string): Session | undefined {
    return this.#byId.get(clientId)
  }

  all(): Iterable<Session> {
    return this.#byId.values()
  }

  /** One that the store had. Known ones stay. */
  restore(stored: StoredSession): void {
    if (this.#byId.has(stored.clientId)) return
    const session = new Session(this.#host, stored, stored)
    this.#byId.set(session.clientId, session)
    this.#newest = session.number
    for (const subscription of stored.subscriptions) this.#host.subscribe(session, subscription)
    if (session.will?.dueAt !== undefined) this.#wills.set(session, session.will.dueAt)
    this.#expireLater(session)
    if (session.leftAt === undefined && this.#host.store.load === undefined) this.#leftByCrash(session)
    this.#host.stats.noteClients(this.#byId.size)
  }

  /** In one go: whoever had this identifier has lost it when this returns. */
  open(connection: Connection, connect: Connect, admitted: Admitted): OpenedSession | 'too-many-clients' | 'unavailable' {
    const { clientId } = admitted.identity
    const old = this.#byId.get(clientId)
    const { globalMaxClients } = this.#host.limits
    if (old === undefined && globalMaxClients > 0 && this.#byId.size >= globalMaxClients) return 'too-many-clients'
    if (this.#host.store.up === false && this.#needsStore(connect, old)) return 'unavailable'
    const isPresent = old !== undefined && !connect.clean && old.expiryInterval > 0 && !old.isOver
    let commit: Commit | undefined
    if (old !== undefined) {
      this.#takeOver(old)
      if (!isPresent) commit = this.end(old)
    }
    const session = old !== undefined && isPresent ? old : this.#begin(connect, clientId)
    this.#settle(session, connection, connect, admitted)
    if (session.isStored) commit = this.#host.ledger.record({ kind: 'session', session: session.record })
    return { session, isPresent, commit }
  }

  /** `isClean`: the client said goodbye, and its will is void [MQTT-3.14.4-3]. */
  leave(connection: Connection, session: Session, isClean: boolean): void {
    if (session.connection !== undefined && session.connection !== connection) return
    if (session.connection === undefined && connection.session !== session) return
    if (this.#byId.get(session.clientId) !== session) return
    session.suspend()
    session.leftAt = Date.now()
    session.expiresAt = undefined
    const { will } = session
    if (isClean) forgetWill(session)
    else if (will !== undefined) this.#sendWillLater(session, will)
    if (session.expiryInterval === 0 || this.#isOnePendingTooMany(session)) {
      this.end(session)
      return
    }
    this.#expireLater(session)
    this.#host.ledger.record({ kind: 'session', session: session.record })
  }

  /** Does what is due by now, as far as there is time in this turn. False: there may be more. */
  sweep(now: number): boolean {
    const { turns } = this.#host
    for (;;) {
      const due = this.#wills.takeDue(now, perLook)
      for (const session of due) this.#sendWillOnce(session)
      const expired = this.#expiries.takeDue(now, perLook)
      for (const session of expired) {
        if (session.connection !== undefined) continue
        this.sendWill(session)
        this.#host.expired(session)
        this.end(session)
      }
      if (due.length < perLook && expired.length < perLook) return true
      if (turns.isOver) return false
    }
  }

  /** The wills of everybody, as Mosquitto sends them when it stops. */
  sendWills(): void {
    for (const session of this.#byId.values()) if (session.will?.dueAt !== undefined) this.#sendWillOnce(session)
  }

  /** Sends its will, drops what it had. The commit that forgets it, where it was stored. */
  end(session: Session): Commit | undefined {
    this.sendWill(session)
    this.#byId.delete(session.clientId)
    this.#expiries.delete(session)
    this.#wills.delete(session)
    this.#pending.delete(session)
    session.hasEnded = true
    this.#unsubscribeAll(session, session.subscriptions.values())
    return session.isStored ? this.#host.ledger.record({ kind: 'drop', clientId: session.clientId }) : undefined
  }

  // Before CONNACK: what it is, or that it is no more.
  #needsStore({ sessionExpiryInterval, clean }: Connect, old: Session | undefined): boolean {
    return sessionExpiryInterval > 0 || old?.isStored === true || (!clean && this.#host.store.load !== undefined)
  }

  #begin({ version, sessionExpiryInterval }: Connect, clientId: string): Session {
    const session = new Session(this.#host, { clientId, version, expiryInterval: sessionExpiryInterval })
    this.#byId.set(clientId, session)
    this.#newest = session.number
    this.#host.stats.noteClients(this.#byId.size)
    return session
  }

  #settle(session: Session, connection: Connection, connect: Connect, { identity }: Admitted): void {
    const listenerName = listenerKey(connection.transport.listener)
    const isSame = hasSameRights(session.identity, identity) && session.listenerName === listenerName
    // Whoever has the client identifier resumes the session, as with Mosquitto; the rights are those of its user.
    if (session.subscriptions.size > 0 && (!isSame || session.version !== connect.version)) this.#host.sessionChangedHands()
    this.#expiries.delete(session)
    this.#wills.delete(session)
    this.#pending.delete(session)
    session.identity = identity
    session.version = connect.version
    session.transport = connection.transport
    session.listenerName = listenerName
    session.expiryInterval = connect.sessionExpiryInterval
    session.isStored ||= connect.sessionExpiryInterval > 0
    session.expiresAt = undefined
    session.leftAt = undefined
    session.will = connect.will === undefined ? undefined : willOf(connect.will, connection)
    session.testator = connect.will === undefined ? undefined : connection
  }

  #takeOver(old: Session): void {
    const { connection } = old
    if (connection === undefined) return
    old.suspend()
    connection.displaced()
  }

  // Nothing is delivered to it meanwhile. Whoever has its identifier next is another session.
  #unsubscribeAll(session: Session, rest: Iterator<Subscription>): void {
    const { turns } = this.#host
    for (let count = 1; ; count++) {
      const { done, value } = rest.next()
      if (done === true) return
      this.#host.unsubscribe(session, value.filter, value.group)
      if (count % filtersPerLook > 0 || !turns.isOver) continue
      turns.later(() => this.#unsubscribeAll(session, rest))
      return
    }
  }

  // Its time began when it was left, however often the broker was started since; if nobody knows when, its connection died with the broker,
  // and it begins now. An end that was recorded stays, unless the configuration asks for an earlier one.
  #expireLater(session: Session): void {
    const { persistentClientExpiration } = this.#host.delivery
    const end = sessionEnd(session.expiryInterval, persistentClientExpiration, session.leftAt ?? Date.now())
    session.expiresAt = end === undefined ? session.expiresAt : Math.min(end, session.expiresAt ?? end)
    if (session.expiresAt !== undefined) this.#expiries.set(session, session.expiresAt)
  }

  // Not after the end of its session [MQTT-3.1.3-9].
  #sendWillLater(session: Session, will: StoredWill): void {
    const delay = Math.min(will.delayInterval, session.expiryInterval)
    const { pendingSessions } = this.#host.bounds
    if (delay === 0 || this.#wills.size >= pendingSessions) {
      this.sendWill(session)
      if (delay > 0) this.#host.events.sessionLimitReached(session, 'willDelay')
      return
    }
    const dueAt = Date.now() + delay * 1000
    session.will = { ...will, dueAt }
    this.#wills.set(session, dueAt)
  }

  // Whoever lived through it comes back within a moment, and has no will to be sent.
  #leftByCrash(session: Session): void {
    const now = Date.now()
    const { will } = session
    session.leftAt = now
    if (will !== undefined && will.dueAt === undefined) {
      const delay = Math.min(Math.max(will.delayInterval, crashGrace), session.expiryInterval)
      session.will = { ...will, dueAt: now + delay * 1000 }
      this.#wills.set(session, now + delay * 1000)
    }
    this.#host.ledger.record({ kind: 'session', session: session.record })
  }

  // Its session stays: after a restart it must not come again.
  #sendWillOnce(session: Session): void {
    this.sendWill(session)
    if (session.isStored) this.#host.ledger.record({ kind: 'session', session: session.record })
  }

  // An embedder's limit, for MQTT 5 alone as with Aedes.
  #isOnePendingTooMany(session: Session): boolean {
    const { pendingSessions } = this.#host.bounds
    if (session.version !== 5 || pendingSessions === Number.POSITIVE_INFINITY) return false
    if (this.#pending.size < pendingSessions) {
      this.#pending.add(session)
      return false
    }
    this.#host.events.sessionLimitReached(session, 'sessionExpiry')
    return true
  }

  /** The session has none from then on. */
  sendWill(session: Session): void {
    const { will } = session
    session.will = undefined
    if (will !== undefined) this.#host.publishWill(session, will)
    session.testator = undefined
  }
}

function forgetWill(session: Session): void {
  session.will = undefined
  session.testator = undefined
}

function willOf(
  { topic, payload, qos, retain, properties, delayInterval, messageExpiryInterval }: Will,
  connection: Connection
): StoredWill {
  const { mountPoint = '' } = connection.listener
  const message = new Message({ topic: `${mountPoint}${topic}`, payload, qos, retain, properties, source: connection.source })
  message.keep()
  return { message, delayInterval, ...(messageExpiryInterval !== undefined && { messageExpiryInterval }) }
}
