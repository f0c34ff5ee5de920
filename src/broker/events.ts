// What the engine tells an embedder's listeners, as events of an Aedes. What nobody listens to costs no more than the question.

import type { AedesPublishPacket, ConnackPacket } from 'aedes'
import { decodeProperties } from '../protocol/properties.js'
import type { Connection } from '../session/connection.js'
import type { Events } from '../session/host.js'
import type { Session } from '../session/session.js'
import type { QueueEntry } from '../storage.js'
import { packetOf } from './aedes-packets.js'
import { guarded, type HookOwner } from './hooks.js'

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

  // As with Aedes a client may have read its CONNACK by then.
  ready(connection: Connection): void {
    setImmediate(() => this.announce(connection))
  }

  announce(connection: Connection): void {
    if (connection.isAnnounced || connection.closed) return
    connection.isAnnounced = true
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

  /** What ended it, for who listens to the client alone. */
  failed(connection: Connection, error: Error): void {
    guarded(
      () => this.#owner.clientOf(connection).emit('error', error),
      wrong => this.#owner.embedderFailed(wrong)
    )
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
