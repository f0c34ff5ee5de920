// SUBSCRIBE and UNSUBSCRIBE. Subscriptions are never refused by an ACL file, as with Mosquitto: each message is judged when it is
// delivered. Retained messages follow the SUBACK.

import { errorOf } from '../errors.js'
import { encodeSuback, encodeUnsuback } from '../protocol/encode.js'
import type { Subscribe, SubscriptionRequest, Unsubscribe } from '../protocol/packets.js'
import { reasonCodes } from '../protocol/reason-codes.js'
import type { Subscription } from '../storage.js'
import { parseFilter } from '../topic.js'
import type { Connection } from './connection.js'
import type { Commit } from './ledger.js'
import type { Session } from './session.js'

const nothing = (): void => {}

/** Refused, as MQTT 3.1.1 says it [MQTT-3.9.3-2]. */
const failure = 0x80

interface Granted {
  readonly code: number
  /** Absent: refused. */
  readonly subscription?: Subscription
  readonly isNew?: boolean
}

/** Of a long packet, what is done between two looks at the clock. */
const perLook = 64

/** The key of a subscription in its session. */
export function subscriptionKey(filter: string, group: string | undefined): string {
  return group === undefined ? filter : `$share/${group}/${filter}`
}

/** Without a packet identifier it is an embedder who subscribes for the client: nobody is sent a SUBACK. */
export function handleSubscribe(connection: Connection, packet: Subscribe, done: (error?: Error) => void = nothing): void {
  const { session, host } = connection
  if (session === undefined) return
  if (host.isDebugging && packet.packetId > 0) {
    host.log.write('packetReceived', { clientId: connection.clientId, packet: 'SUBSCRIBE' })
  }
  const { authorizeSubscribe } = host.hooks
  if (authorizeSubscribe === undefined) {
    subscribeAll(connection, session, packet, packet.subscriptions)
    done()
    return
  }
  connection.hold()
  void askHook(connection, packet.subscriptions, authorizeSubscribe)
    .then(requests => {
      if (!connection.closed) subscribeAll(connection, session, packet, requests)
      done()
    })
    .catch((cause: unknown) => {
      // As Aedes: an error of this hook ends the connection, `null` refuses the subscription.
      const error = errorOf(cause)
      connection.finish({ words: 'not authorised', reasonCode: reasonCodes.notAuthorized, error })
      done(error)
    })
    .finally(() => connection.release())
}

export function handleUnsubscribe(connection: Connection, { packetId, filters }: Unsubscribe): void {
  const { session, host, clientId, version, listener } = connection
  if (session === undefined) return
  const { isDebugging, log } = host
  if (isDebugging && packetId > 0) log.write('packetReceived', { clientId, packet: 'UNSUBSCRIBE' })
  let commit: Commit | undefined
  const codes: number[] = []
  const unsubscribe = (text: string): void => {
    const parsed = parseFilter(text)
    if (typeof parsed === 'string') return
    if (isDebugging) log.write('unsubscribing', { clientId, filter: text })
    const filter = `${listener.mountPoint ?? ''}${parsed.filter}`
    const existed = host.unsubscribe(session, filter, parsed.group)
    codes.push(existed ? reasonCodes.success : reasonCodes.noSubscriptionExisted)
    if (existed && session.isStored) commit = host.ledger.record(unsubscription(session, filter, parsed.group))
    log.write('unsubscribed', { clientId, filter: text })
  }
  eachInTurns(connection, filters, unsubscribe, () => {
    const unsuback = packetId > 0 ? encodeUnsuback(version, packetId, codes) : undefined
    connection.owe(unsuback, commit, () => host.events.unsubscribed(connection, filters))
    if (isDebugging && packetId > 0) log.write('packetSent', { clientId, packet: 'UNSUBACK' })
  })
}

function subscribeAll(
  connection: Connection,
  session: Session,
  packet: Subscribe,
  requests: readonly (SubscriptionRequest | null)[]
): void {
  const { host, clientId, version, listener } = connection
  const { packetId, subscriptionIdentifier } = packet
  let commit: Commit | undefined
  const granted: Granted[] = []
  const subscribe = (request: SubscriptionRequest | null): void => {
    const asked = packet.subscriptions[granted.length]
    const one = grant(connection, session, request, subscriptionIdentifier)
    granted.push(one)
    const { subscription } = one
    // With the mount point, as Mosquitto has it.
    const filter = `${listener.mountPoint ?? ''}${request?.filter ?? asked?.filter}`
    if (host.isDebugging) host.log.write('subscribing', { clientId, filter, ...(subscription && { qos: subscription.qos }) })
    if (subscription === undefined) return
    if (session.isStored) commit = host.ledger.record({ kind: 'subscribe', clientId: session.clientId, subscription })
    host.log.write('subscribed', { clientId, qos: subscription.qos, filter })
  }
  const answer = (): void => {
    const codes = granted.map(({ code }) => code)
    const suback = packetId > 0 ? encodeSuback(version, packetId, codes) : undefined
    connection.owe(suback, commit, () => acknowledged(connection, session, packet, requests, granted))
  }
  eachInTurns(connection, requests, subscribe, answer)
}

function acknowledged(
  connection: Connection,
  session: Session,
  packet: Subscribe,
  requests: readonly (SubscriptionRequest | null)[],
  granted: readonly Granted[]
): void {
  const { host, clientId } = connection
  if (host.isDebugging && packet.packetId > 0) host.log.write('packetSent', { clientId, packet: 'SUBACK' })
  if (host.events.wantsSubscribed) {
    const told = packet.subscriptions.map(({ filter }, i) => ({ topic: requests[i]?.filter ?? filter, qos: granted[i]?.code ?? failure }))
    host.events.subscribed(connection, told)
  }
  const fresh: Subscription[] = []
  for (const { subscription, isNew } of granted) {
    if (subscription !== undefined && wantsRetained(subscription, isNew === true)) fresh.push(subscription)
  }
  if (fresh.length > 0) session.replay(fresh)
}

// Thousands of filters may come in one packet: then it takes several turns, and the next packet waits.
function eachInTurns<Item>(connection: Connection, items: readonly Item[], each: (item: Item) => void, then: () => void): void {
  const { turns } = connection.host
  let next = 0
  const go = (): void => {
    while (next < items.length) {
      const item = items[next++]
      if (item !== undefined) each(item)
      if (next % perLook > 0 || !turns.isOver) continue
      connection.defer(go)
      return
    }
    then()
  }
  go()
}

function grant(connection: Connection, session: Session, request: SubscriptionRequest | null, identifier: number): Granted {
  const { host, version, listener, connect } = connection
  const refused = { code: version === 5 ? reasonCodes.notAuthorized : failure }
  if (request === null) return refused
  const parsed = parseFilter(request.filter)
  if (typeof parsed === 'string') return refused
  const { maxQos, mountPoint = '' } = listener
  const isBridge = connect?.bridge === true
  const qos = request.qos > maxQos ? maxQos : request.qos
  const subscription: Subscription = {
    filter: `${mountPoint}${parsed.filter}`,
    ...(parsed.group !== undefined && { group: parsed.group }),
    qos,
    noLocal: request.noLocal || isBridge,
    retainAsPublished: request.retainAsPublished || isBridge,
    retainHandling: request.retainHandling,
    identifier
  }
  return { code: qos, subscription, isNew: host.subscribe(session, subscription) }
}

/** Without the client having asked. */
export function forgetSubscription({ host }: Connection, session: Session, filter: string, group: string | undefined): void {
  host.unsubscribe(session, filter, group)
  if (session.isStored) host.ledger.record(unsubscription(session, filter, group))
}

// Never for a shared subscription [MQTT-4.8.2].
function wantsRetained({ group, retainHandling }: Subscription, isNew: boolean): boolean {
  return group === undefined && (retainHandling === 0 || (retainHandling === 1 && isNew))
}

function unsubscription(session: Session, filter: string, group: string | undefined) {
  return { kind: 'unsubscribe', clientId: session.clientId, filter, ...(group !== undefined && { group }) } as const
}

/** Asks the embedder for each of them, side by side as Aedes: a slow answer is waited for once. Rejects with the first error of the hook. */
export function askHook(
  connection: Connection,
  requests: readonly SubscriptionRequest[],
  ask: NonNullable<Connection['host']['hooks']['authorizeSubscribe']>
): Promise<(SubscriptionRequest | null)[]> {
  const answers = requests.map(request => {
    return new Promise<SubscriptionRequest | null>((resolve, reject) => {
      ask(connection, request, (error, answer) => (error === null ? resolve(answer) : reject(error)))
    })
  })
  return Promise.all(answers)
}
