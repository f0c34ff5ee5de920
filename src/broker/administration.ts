// What an administrator sees and does, out of the engine's own data: nothing is kept for it. Long lists are looked through in slices of the
// turns that all long work shares.

import { fits } from '../admin/pattern.js'
import {
  type Administration,
  type CertificateReport,
  type ClientQuery,
  type ClientReport,
  type KickReport,
  mostPayload,
  type QueueReport,
  type RetainedReport,
  type SubscriptionQuery,
  type SubscriptionReport
} from '../admin/report.js'
import type { ClientCertificate } from '../auth/identity.js'
import type { Message } from '../message.js'
import { neverExpires } from '../protocol/packets.js'
import { reasonCodes } from '../protocol/reason-codes.js'
import { nameOfListenerKey } from '../reload.js'
import { Connection } from '../session/connection.js'
import type { Commit } from '../session/ledger.js'
import type { Session } from '../session/session.js'
import type { QueueEntry, Subscription } from '../storage.js'
import { isTopicFilter, isTopicName, matchesFilter } from '../topic.js'
import type { Engine } from './engine.js'

/** Between two looks at the clock. */
const perLook = 8
/** Entries of a queue that are read from the store in one go. */
const pageSize = 200
/** Removed before the store is waited for. */
const perCommit = 1000

export class EngineAdministration implements Administration {
  readonly #engine: Engine
  #steps = 0

  constructor(engine: Engine) {
    this.#engine = engine
  }

  clients(query: ClientQuery = {}): AsyncGenerator<ClientReport, void> {
    return this.#paced(this.#clients(query))
  }

  async *subscriptions({ clientId, topic }: SubscriptionQuery = {}): AsyncGenerator<SubscriptionReport, void> {
    if (topic !== undefined && !isTopicName(topic)) throw new TypeError(`'${topic}' is no topic name`)
    const session = clientId === undefined ? undefined : await this.#find(clientId)
    if (clientId === undefined) yield* this.#paced(this.#subscriptions(this.#sessions(), topic))
    else if (session !== undefined) yield* this.#paced(this.#subscriptions([session], topic))
  }

  async queue(clientId: string, { payload = false } = {}): Promise<AsyncGenerator<QueueReport, void> | undefined> {
    const session = await this.#find(clientId)
    return session && this.#queueOf(session, payload)
  }

  retained(filter: string): AsyncGenerator<RetainedReport, void> {
    return this.#paced(this.#retained(filter, reportRetained))
  }

  async clearRetained(filter: string): Promise<number> {
    if (isOfBroker(filter)) throw new TypeError(`what lies under $SYS is the broker's own and can't be cleared: '${filter}'`)
    const { exchange, ledger, log } = this.#engine
    let count = 0
    let commit: Commit | undefined
    for (const topic of this.#retained(filter, ({ topic }) => topic)) {
      if (this.#isTimeUp) await this.#nextTurn()
      if (topic === undefined || !exchange.retained.delete(topic)) continue
      commit = ledger.record({ kind: 'retain', topic })
      count += 1
      if (count % perCommit === 0) await durable(commit)
    }
    await durable(commit)
    log.write('administratorCleared', { filter, count })
    return count
  }

  async kick(clientId: string, { forget = false } = {}): Promise<KickReport | undefined> {
    const { sessions, log } = this.#engine
    const session = await this.#find(clientId)
    if (session === undefined) return undefined
    const { connection } = session
    const disconnected = connection instanceof Connection
    if (disconnected || forget) log.write('administratorKicked', { clientId, forgotten: forget })
    if (disconnected) connection.finish({ words: 'administrative action', reasonCode: reasonCodes.administrativeAction })
    if (forget && sessions.get(clientId) === session) await durable(sessions.end(session))
    return { disconnected, forgotten: forget }
  }

  // One promise for what is given and none for what is passed over: where a program watches its promises, each is expensive.
  async *#paced<T>(steps: Iterable<T | undefined>): AsyncGenerator<T, void> {
    for (const step of steps) {
      if (step !== undefined) yield step
      if (this.#isTimeUp) await this.#nextTurn()
    }
  }

  // Sessions lie in the order in which they were made, and a map is walked on whatever comes and goes.
  *#sessions(): Generator<Session, void> {
    const { sessions } = this.#engine
    const { newest } = sessions
    for (const session of sessions.all()) {
      if (session.number > newest) return
      yield session
    }
  }

  *#clients(query: ClientQuery): Generator<ClientReport | undefined, void> {
    for (const session of this.#sessions()) {
      const report = reportSession(session)
      yield isAskedFor(report, query) ? report : undefined
    }
  }

  *#subscriptions(sessions: Iterable<Session>, topic: string | undefined): Generator<SubscriptionReport | undefined, void> {
    for (const session of sessions) {
      yield undefined
      for (const subscription of session.subscriptions.values()) {
        const isMeant = topic === undefined || matchesFilter(subscription.filter, topic)
        const mayRead = topic === undefined || !isMeant ? undefined : this.#engine.mayRead(session, topic).allowed
        yield isMeant ? reportSubscription(session, subscription, mayRead) : undefined
      }
    }
  }

  *#retained<T>(filter: string, report: (message: Message) => T): Generator<T | undefined, void> {
    if (!isTopicFilter(filter)) throw new TypeError(`'${filter}' is no topic filter`)
    for (const message of this.#engine.exchange.retained.walk(filter)) yield message && report(message)
  }

  // What is under way is the engine's to know, what waits is the store's if the session is.
  async *#queueOf(session: Session, payload: boolean): AsyncGenerator<QueueReport, void> {
    if (!session.isStored) {
      for (const entry of session.waiting()) {
        yield reportEntry(entry, entry.state, payload)
        if (this.#isTimeUp) await this.#nextTurn()
      }
      return
    }
    const { store } = this.#engine
    for (let after = 0; ; ) {
      const page = await store.page(session.clientId, after, pageSize)
      const states = new Map(session.underWay().map(({ sequence, state }) => [sequence, state]))
      for (const entry of page) {
        after = entry.sequence
        yield reportEntry(entry, states.get(entry.sequence) ?? entry.state, payload)
        if (this.#isTimeUp) await this.#nextTurn()
      }
      if (page.length < pageSize) return
    }
  }

  // Where a store can't name its sessions, one that is asked for is read.
  async #find(clientId: string): Promise<Session | undefined> {
    await this.#engine.findSession(clientId)
    return this.#engine.sessions.get(clientId)
  }

  get #isTimeUp(): boolean {
    this.#steps += 1
    return this.#steps % perLook === 0 && this.#engine.turns.isOver
  }

  #nextTurn(): Promise<void> {
    return new Promise(resolve => this.#engine.turns.later(resolve))
  }
}

const isOfBroker = (topic: string): boolean => topic === '$SYS' || topic.startsWith('$SYS/')

function durable(commit: Commit | undefined): Promise<void> | undefined {
  return commit && new Promise(resolve => commit.wait({ settle: resolve }))
}

function isAskedFor(report: ClientReport, { match, username, address, listener, connected }: ClientQuery): boolean {
  if (connected !== undefined && report.connected !== connected) return false
  if (match !== undefined && !fits(match, report.clientId)) return false
  if (username !== undefined && (report.username === undefined || !fits(username, report.username))) return false
  if (address !== undefined && (report.address === undefined || !fits(address, report.address))) return false
  return listener === undefined || (report.listener !== undefined && isListener(report.listener, listener))
}

function isListener(name: string, wanted: string): boolean {
  return name === wanted || name.split(' ').includes(wanted) || (/[*?]/.test(wanted) && fits(wanted, name))
}

function reportSession(session: Session): ClientReport {
  const { clientId, identity, version, expiryInterval, expiresAt, leftAt, listenerName } = session
  const connection = session.connection instanceof Connection ? session.connection : undefined
  const listener = nameOfListenerKey(listenerName)
  return {
    clientId,
    ...(identity.username !== undefined && { username: identity.username }),
    connected: connection !== undefined,
    ...(connection && reportConnection(connection)),
    ...(listener !== undefined && { listener }),
    protocolVersion: version,
    ...(connection === undefined && leftAt !== undefined && { disconnectedAt: timeOf(leftAt) }),
    ...(expiryInterval < neverExpires && { sessionExpiryInterval: expiryInterval }),
    ...(connection === undefined && expiresAt !== undefined && { sessionExpiresAt: timeOf(expiresAt) }),
    subscriptions: session.subscriptions.size,
    queued: session.pending - session.inflight,
    inflight: session.inflight,
    queuedBytes: session.pendingBytes,
    incoming: session.held,
    hasWill: session.will !== undefined
  }
}

function reportConnection({ transport, connectedAt, keepalive }: Connection): Partial<ClientReport> {
  const { remoteAddress, remotePort, tls } = transport
  return {
    address: remoteAddress,
    port: remotePort,
    ...(tls && { tls: { version: tls.version, cipher: tls.cipher } }),
    ...(tls?.certificate && { certificate: reportCertificate(tls.certificate) }),
    connectedAt: timeOf(connectedAt),
    keepalive
  }
}

function reportCertificate({ subject, issuer, serial, notBefore, notAfter }: ClientCertificate): CertificateReport {
  return { subject, issuer, serial, notBefore: notBefore.toISOString(), notAfter: notAfter.toISOString() }
}

function reportSubscription(session: Session, subscription: Subscription, mayRead: boolean | undefined): SubscriptionReport {
  const { filter, group, qos, noLocal, retainAsPublished, retainHandling, identifier } = subscription
  return {
    clientId: session.clientId,
    connected: session.connection !== undefined,
    filter,
    ...(group !== undefined && { group }),
    qos,
    noLocal,
    retainAsPublished,
    retainHandling,
    ...(identifier > 0 && { subscriptionIdentifier: identifier }),
    ...(mayRead !== undefined && { mayRead })
  }
}

function reportEntry({ sequence, message, qos, retain }: QueueEntry, state: QueueEntry['state'], payload: boolean): QueueReport {
  return {
    sequence,
    topic: message.topic,
    qos,
    retain,
    state,
    ...reportMessage(message),
    ...(payload && { payload: message.payload.toString('base64', 0, mostPayload) })
  }
}

function reportRetained(message: Message): RetainedReport {
  return { topic: message.topic, qos: message.qos, ...reportMessage(message) }
}

function reportMessage({ payloadLength, expiresAt, source }: Message): { bytes: number; expiresAt?: string; from?: string } {
  return {
    bytes: payloadLength,
    ...(Number.isFinite(expiresAt) && { expiresAt: timeOf(expiresAt) }),
    ...(source !== undefined && { from: source.clientId })
  }
}

// A date that no calendar has comes from a store alone.
function timeOf(milliseconds: number): string {
  return new Date(Math.min(milliseconds, 8.64e15)).toISOString()
}
