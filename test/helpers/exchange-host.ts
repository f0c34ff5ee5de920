// An exchange with sessions around it, and receivers that note what they are sent.

import { Exchange, type ExchangeHost } from '../../dist/broker/exchange.js'
import type { DeliveryConfig } from '../../dist/config/types.js'
import type { Message } from '../../dist/message.js'
import type { Version } from '../../dist/protocol/packets.js'
import { Ledger } from '../../dist/session/ledger.js'
import { type Receiver, Session } from '../../dist/session/session.js'
import type { Turns } from '../../dist/session/turns.js'
import type { Change, Store, Subscription } from '../../dist/storage.js'
import { openMemoryStore } from '../../dist/store/memory.js'
import { longTurns, NotingReceiver, no, noLimits, silent, usualDelivery, yes } from './session-bench.js'

/** Sessions without connections around an exchange; who may read or write what is a set of names. */
export class Host implements ExchangeHost {
  readonly log = silent
  readonly limits = noLimits
  delivery: DeliveryConfig = usualDelivery
  readonly store: Store
  readonly ledger: Ledger
  readonly changes: Change[] = []
  readonly turns: Turns
  policyVersion = 0
  forward: ((session: Session, message: Message) => Message | undefined) | undefined = undefined
  readonly exchange: Exchange
  /** `CLIENT TOPIC` */
  readonly denied = new Set<string>()
  readonly deniedWriters = new Set<string>()
  readonly deniedDeliveries: string[] = []
  readonly failures: string[] = []
  asked = 0

  constructor(store: Store = openMemoryStore(), turns: Turns = longTurns) {
    const { commit } = store
    this.store = store
    this.turns = turns
    store.commit = changes => {
      this.changes.push(...changes)
      return Reflect.apply(commit, store, [changes])
    }
    this.ledger = new Ledger(store, turns)
    this.exchange = new Exchange(this)
  }

  mayRead({ clientId }: Session, topic: string) {
    this.asked += 1
    return this.denied.has(`${clientId} ${topic}`) ? no : yes
  }

  mayWrite() {
    return yes
  }

  mayStillWrite({ topic }: Message) {
    return !this.deniedWriters.has(topic)
  }

  deliveryFailed({ clientId }: Session, error: unknown) {
    this.failures.push(`${clientId} ${error}`)
  }

  deniedDelivery({ clientId }: Session, { topic }: Message) {
    this.deniedDeliveries.push(`${clientId} ${topic}`)
  }

  shadowedDelivery() {}

  replayOf(session: Session, subscription: Subscription) {
    return this.exchange.replayOf(session, subscription)
  }

  deliverRetained(session: Session, subscription: Subscription, message: Message, connection: Receiver) {
    this.exchange.deliverRetained(session, subscription, message, connection)
  }

  dropped() {}

  add(
    clientId: string,
    fields: { isStored?: boolean; isAway?: boolean; version?: Version } = {}
  ): { session: Session; receiver: NotingReceiver } {
    const { isStored = false, isAway = false, version = 4 } = fields
    const session = new Session(this, { clientId, version, expiryInterval: isStored ? 100 : 0 })
    if (isStored) this.ledger.record({ kind: 'session', session: session.record })
    const receiver = new NotingReceiver()
    if (!isAway) session.resume(receiver)
    return { session, receiver }
  }

  get enqueued(): { topic: string; to: string[] }[] {
    return this.changes.flatMap(change =>
      change.kind === 'enqueue' ? [{ topic: change.message.topic, to: change.entries.map(({ clientId }) => clientId) }] : []
    )
  }
}
