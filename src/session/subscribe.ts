// SUBSCRIBE and UNSUBSCRIBE. Subscriptions are not refused by an ACL file, as with Mosquitto: each message is judged when it is delivered.
// Only where nothing ever could be is that said, and with `#!acl_subscribe_check strict` refused. Retained messages follow the SUBACK.

import { errorOf } from '../errors.js'
import { encodeSuback, encodeUnsuback } from '../protocol/encode.js'
import type { Subscribe, SubscriptionRequest, Unsubscribe } from '../protocol/packets.js'
import { encodeProperties } from '../protocol/properties.js'
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
  /** Refused since the ACL lets nothing of it through. */
  readonly isDead?: true
}

/** Of a long packet, what is done between two looks at the clock. */
const usualPerLook = 64
/** Characters of a filter in the answer. */
const longestShown = 500

/** The key of a subscription in its session. */
export function subscriptionKey(filter: string, group: string | undefined): string {
  return group === undefined ? filter : `$share/${group}/${filter}`
}

/**
 * Without a packet identifier it is an embedder who subscribes for the client: nobody is sent a SUBACK. `done`: the subscriptions are durable,
 * or the hook has answered with an error; never, where the client goes first.
 */
export function handleSubscribe(connection: Connection, packet: Subscribe, done: (error?: Error) => void = nothing): void {
  const { session, host } = connection
  if (session === undefined) return
  if (host.isDebugging && packet.packetId > 0) {
    host.log.write('packetReceived', { clientId: connection.clientId, packet: 'SUBSCRIBE' })
  }
  const { authorizeSubscribe } = host.hooks
  if (authorizeSubscribe === undefined) {
    subscribeAll(connection, session, packet, packet.subscriptions, done)
    return
  }
  connection.hold()
  void askHook(connection, packet.subscriptions, authorizeSubscribe)
    .then(requests => {
      if (!connection.closed) subscribeAll(connection, session, packet, requests, done)
    })
    .catch((cause: unknown) => {
      // As Aedes: an error of this hook ends the connection, `null` refuses the subscription.
      const error = errorOf(cause)
      connection.finish({ words: 'not authorised', reasonCode: reasonCodes.notAuthorized, error })
      done(error)
    })
    .finally(() => connection.release())
}

/** The same for UNSUBSCRIBE. */
export function handleUnsubscribe(connection: Connection, { packetId, filters }: Unsubscribe, done: () => void = nothing): void {
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
    connection.owe(unsuback, commit, () => {
      host.events.unsubscribed(connection, filters)
      done()
    })
    if (isDebugging && packetId > 0) log.write('packetSent', { clientId, packet: 'UNSUBACK' })
  })
}

function subscribeAll(
  connection: Connection,
  session: Session,
  packet: Subscribe,
  requests: readonly (SubscriptionRequest | null)[],
  done: () => void
): void {
  const { host, clientId, listener } = connection
  const { packetId, subscriptionIdentifier } = packet
  let commit: Commit | undefined
  const granted: Granted[] = []
  // Gathered on the way: of half a million there is no time for that at the end.
  const codes: number[] = []
  let dead: string | undefined
  const subscribe = (request: SubscriptionRequest | null): void => {
    const asked = packet.subscriptions[granted.length]
    const one = grant(connection, session, request, subscriptionIdentifier, asked)
    granted.push(one)
    codes.push(one.code)
    if (one.isDead) dead ??= request?.filter
    const { subscription } = one
    // With the mount point, as Mosquitto has it.
    const filter = `${listener.mountPoint ?? ''}${request?.filter ?? asked?.filter}`
    if (host.isDebugging) host.log.write('subscribing', { clientId, filter, ...(subscription && { qos: subscription.qos }) })
    if (subscription === undefined) return
    if (session.isStored) commit = host.ledger.record({ kind: 'subscribe', clientId: session.clientId, subscription })
    host.log.write('subscribed', { clientId, qos: subscription.qos, filter })
  }
  const answer = (): void => {
    const suback = packetId > 0 ? subackOf(connection, packetId, codes, dead) : undefined
    connection.owe(suback, commit, () => {
      acknowledged(connection, session, packet, requests, granted, done)
    })
  }
  // A filter is compared with many lines of an ACL file.
  eachInTurns(connection, requests, subscribe, answer, host.delivery.aclSubscribeCheck === 'off' ? usualPerLook : 1)
}

// `dead`: the first filter of which the ACL lets nothing through.
function subackOf(connection: Connection, packetId: number, codes: readonly number[], dead: string | undefined): Buffer {
  const { version, connect } = connection
  const plain = encodeSuback(version, packetId, codes)
  if (dead === undefined || version !== 5 || connect?.requestProblemInformation !== true) return plain
  const reasonString = `nothing that matches '${dead.slice(0, longestShown)}' may be delivered to this client`
  const explained = encodeSuback(version, packetId, codes, encodeProperties({ reasonString }))
  // Left out where the packet would be too large with it [MQTT-3.9.2-1].
  return explained.length > (connection.maximumPacketSize ?? Number.POSITIVE_INFINITY) ? plain : explained
}

function acknowledged(
  connection: Connection,
  session: Session,
  packet: Subscribe,
  requests: readonly (SubscriptionRequest | null)[],
  granted: readonly Granted[],
  done: () => void
): void {
  const { host, clientId, version } = connection
  if (host.isDebugging && packet.packetId > 0) host.log.write('packetSent', { clientId, packet: 'SUBACK' })
  if (host.events.wantsSubscribed) {
    // As with Aedes a filter that comes twice is told once, as it is now.
    const told = new Map<string, number>()
    for (const [i, { filter }] of packet.subscriptions.entries()) {
      const { code = failure, subscription } = granted[i] ?? {}
      told.set(requests[i]?.filter ?? filter, subscription === undefined && version < 5 ? failure : code)
    }
    host.events.subscribed(
      connection,
      Array.from(told, ([topic, qos]) => ({ topic, qos }))
    )
  }
  const replay = ({ subscription, isNew }: Granted): void => {
    if (subscription === undefined || !wantsRetained(subscription, isNew === true)) return
    // UNSUBSCRIBE may have come while the store kept SUBACK waiting.
    if (session.subscriptions.has(subscription.filter)) session.replayLater(subscription)
  }
  eachInTurns(connection, granted, replay, () => {
    session.pump()
    done()
  })
}

// Thousands of filters may come in one packet: then it takes several turns, and the next packet waits.
function eachInTurns<Item>(
  connection: Connection,
  items: readonly Item[],
  each: (item: Item) => void,
  then: () => void,
  perLook = usualPerLook
): void {
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

function grant(
  connection: Connection,
  session: Session,
  request: SubscriptionRequest | null,
  identifier: number,
  asked: SubscriptionRequest | undefined
): Granted {
  const { host, version, listener, connect } = connection
  // MQTT 3.1 has no word for it: as with Mosquitto its client reads the QoS it asked for, and gets nothing.
  const refused = { code: version === 5 ? reasonCodes.notAuthorized : version === 4 ? failure : (asked?.qos ?? 0) }
  if (request === null) return refused
  const parsed = parseFilter(request.filter)
  if (typeof parsed === 'string') return refused
  const { maxQos, mountPoint = '' } = listener
  const isBridge = connect?.bridge === true
  if (isDead(connection, session, `${mountPoint}${parsed.filter}`, `${mountPoint}${request.filter}`)) return { ...refused, isDead: true }
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

// `shown`: as the log has it. Said in either case; refused only if that is asked for.
function isDead({ host }: Connection, session: Session, filter: string, shown: string): boolean {
  const { aclSubscribeCheck } = host.delivery
  if (aclSubscribeCheck === 'off') return false
  const decision = host.mayReceive(session, filter)
  if (decision.allowed) return false
  host.deniedSubscription(session, shown, decision)
  return aclSubscribeCheck === 'strict'
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
