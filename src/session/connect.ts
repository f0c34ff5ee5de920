// CONNECT: may this client come in, as whom, and with which session? In Mosquitto's order of questions; whoever is refused is told why in
// the bytes Mosquitto would send, and everybody gets a line in the log.

import { randomUUID } from 'node:crypto'
import type { Admitted, Refusal as PolicyRefusal, Refused } from '../auth/policy.js'
import { errorMessage, errorOf } from '../errors.js'
import { alone } from '../message.js'
import { connackProperties, encodeConnack } from '../protocol/encode.js'
import type { Connect, ConnectFault, SubscriptionRequest, Version } from '../protocol/packets.js'
import { encodeProperties } from '../protocol/properties.js'
import { isWellFormed } from '../protocol/reader.js'
import { reasonCodes, returnCodes } from '../protocol/reason-codes.js'
import type { Subscription } from '../storage.js'
import { isControlTopic, isTopicName } from '../topic.js'
import type { Connection } from './connection.js'
import { logConnected, logConnectFault, logNameless } from './connection-log.js'
import type { Hooks, OpenedSession } from './host.js'
import { askHook, forgetSubscription, subscriptionKey } from './subscribe.js'

interface Refusal {
  /** CONNACK return code of MQTT 3.1 and 3.1.1; absent: just close. */
  readonly v3?: number
  /** CONNACK reason code of MQTT 5; absent: just close. */
  readonly v5?: number
  readonly words: string
  /** What embedders are told instead, in Aedes' words. */
  readonly told?: string
  readonly error?: Error
  /** For what it asked, not for who it is. */
  readonly isStranger?: boolean
  /** Where an MQTT 5 client may go instead. */
  readonly serverReference?: string
}

const refusals = {
  'empty-client-id': { v3: 2, v5: 0x80, words: 'protocol error', told: 'identifier rejected', isStranger: true },
  'long-client-id': { v3: 2, words: 'client identifier too long', told: 'identifier rejected', isStranger: true },
  // MQTT 3 has no code for it; Mosquitto takes 2. MQTT 5 clients are told the limit instead [MQTT-3.2.2-22].
  keepalive: { v3: 2, words: 'keep alive above max_keepalive', told: 'keep alive limit exceeded', isStranger: true },
  'will-topic': { words: 'bad socket read/write: Invalid input', isStranger: true },
  'will-retain': { v5: 0x9a, words: 'used disallowed feature (retain)', isStranger: true },
  'will-qos': { v5: 0x9b, words: 'used disallowed feature (QoS too high)', isStranger: true },
  // Mosquitto keeps it for its plugins, and just closes.
  'will-control': { words: 'not authorised', isStranger: true },
  'will-too-large': { v3: 5, v5: 0x95, words: 'oversize payload', isStranger: true },
  'authentication-method': { v5: 0x8c, words: 'bad authentication method', isStranger: true },
  'too-many-clients': { v5: 0x89, words: 'server busy' },
  unavailable: { v3: 3, v5: 0x88, words: 'server unavailable', told: 'Server unavailable' },
  busy: { v3: 3, v5: 0x97, words: 'server busy' },
  'bad-credentials': { v3: 4, v5: 0x86, words: 'bad username or password', told: 'bad user name or password' },
  'client-id': { v3: 2, v5: 0x85, words: 'client identifier not valid', told: 'identifier rejected' },
  'not-authorised': { v3: 5, v5: 0x87, words: 'not authorised', told: 'not authorized' }
} as const satisfies Record<PolicyRefusal, Refusal> & Record<string, Refusal>

/** Takes the connection from its CONNECT to a CONNACK. Never rejects. */
export async function admit(connection: Connection, connect: Connect): Promise<void> {
  const { host } = connection
  try {
    const outcome = await decide(connection, connect)
    if (outcome !== undefined && !connection.closed) refuse(connection, outcome)
  } catch (error) {
    host.log.write('fault', { reason: errorMessage(error) })
    if (!connection.closed) refuse(connection, refusals.unavailable)
  }
}

async function decide(connection: Connection, sent: Connect): Promise<Refusal | undefined> {
  const { host } = connection
  connection.clientId = sent.clientId
  const wanted = host.hooks.preConnect === undefined ? sent : await askPreConnect(connection, sent, host.hooks.preConnect)
  if ('words' in wanted) return wanted
  const objection = objectionTo(connection, wanted)
  if (objection !== undefined) return objection
  const connect = limitSession(nameClient(connection, wanted), host.bounds.sessionExpiry)
  connection.clientId = connect.clientId
  connection.asked = connect

  for (;;) {
    const policy = host.policyOf(connection.transport)
    const { clientId, username, password } = connect
    // Kept for another look after a reload, as long as the connection lasts: the packet around it may have 100 KB.
    const admission = await policy.authenticate(connection.transport, {
      clientId,
      ...(username !== undefined && { username }),
      ...(password !== undefined && { password: alone(password) })
    })
    if (connection.closed) return undefined
    // A reload while the password was hashed: what the old policy said counts no more.
    if (policy !== host.policyOf(connection.transport)) continue
    if (!admission.ok) return refusalOf(connection, admission)
    const refused = await askAuthenticate(connection, connect)
    if (refused !== undefined) return refused
    const finding = host.findSession(admission.identity.clientId)
    if (finding !== undefined && !(await isFound(connection, finding))) return refusals.unavailable
    const { authorizeSubscribe } = host.hooks
    const asked = authorizeSubscribe === undefined || connect.clean ? [] : host.subscriptionsOf(admission.identity.clientId)
    const lost = authorizeSubscribe === undefined || asked.length === 0 ? [] : await askAgain(connection, asked, authorizeSubscribe)
    if ('words' in lost) return lost
    if (connection.closed) return undefined
    if (policy !== host.policyOf(connection.transport)) continue
    // From here to its CONNACK nothing waits: whoever comes with the same identifier comes before or after, never in between.
    return letIn(connection, connect, admission, sent.sessionExpiryInterval !== connect.sessionExpiryInterval, lost)
  }
}

// Strangers are told nothing; the log tells what a certificate should have held, or the client id of whoever has shown one have been.
function refusalOf(connection: Connection, { refusal, why }: Refused): Refusal {
  if (refusal === 'bad-credentials' && why !== undefined) logNameless(connection, why)
  return refusal === 'client-id' && why !== undefined ? { ...refusals[refusal], words: why } : refusals[refusal]
}

async function isFound({ host }: Connection, finding: Promise<void>): Promise<boolean> {
  try {
    await finding
    return true
  } catch (error) {
    host.log.write('storeFailed', { reason: errorMessage(error) })
    return false
  }
}

// What the bytes alone decide.
function objectionTo(connection: Connection, { version, clientId, will, authenticationMethod }: Connect): Refusal | undefined {
  const { host, listener } = connection
  if (version === 3 && clientId.length > host.bounds.clientIdLength) return refusals['long-client-id']
  if (will !== undefined && !isTopicName(`${listener.mountPoint ?? ''}${will.topic}`)) return refusals['will-topic']
  if (will?.retain && !host.delivery.retainAvailable) return refusals['will-retain']
  if (will !== undefined && will.qos > listener.maxQos) return refusals['will-qos']
  if (clientId === '' && !listener.security.allowZeroLengthClientId) {
    logConnectFault(connection, { event: 'connectInvalid', what: 'CONNECT with zero length clientid when forbidden' })
    return refusals['empty-client-id']
  }
  if (will !== undefined && isControlTopic(`${listener.mountPoint ?? ''}${will.topic}`)) return refusals['will-control']
  const { messageSizeLimit } = host.limits
  if (will !== undefined && messageSizeLimit > 0 && will.payload.length > messageSizeLimit) {
    host.log.write('willTooLarge', { clientId })
    return refusals['will-too-large']
  }
  if (authenticationMethod !== undefined) return refusals['authentication-method']
  return undefined
}

function nameClient(connection: Connection, connect: Connect): Connect {
  if (connect.clientId !== '') return connect
  connection.isAssigned = true
  return { ...connect, clientId: `${connection.listener.security.autoIdPrefix}${randomUUID().toUpperCase()}` }
}

// MQTT 5 clients are told [MQTT-3.2.2-21]; for the others an embedder's limit doesn't count, as with Aedes.
function limitSession(connect: Connect, limit: number): Connect {
  if (connect.version !== 5 || connect.sessionExpiryInterval <= limit) return connect
  return { ...connect, sessionExpiryInterval: limit }
}

/** `lost`: subscriptions of the session that the embedder's hook no longer grants. */
function letIn(
  connection: Connection,
  connect: Connect,
  admitted: Admitted,
  isLimited: boolean,
  lost: readonly Subscription[]
): Refusal | undefined {
  const { host } = connection
  const { clientId } = admitted.identity
  connection.isAssigned &&= connect.clientId === clientId
  connection.clientId = clientId
  connection.admitted = admitted
  const { maxKeepalive } = host.limits
  const isKeepaliveImposed = maxKeepalive > 0 && (connect.keepalive === 0 || connect.keepalive > maxKeepalive)
  if (isKeepaliveImposed && connect.version !== 5) return refusals.keepalive
  const opened = host.openSession(connection, connect, admitted)
  if (typeof opened === 'string') return refusals[opened]
  if (opened.isPresent) for (const { filter, group } of lost) forgetSubscription(connection, opened.session, filter, group)
  connection.keepalive = isKeepaliveImposed ? maxKeepalive : connect.keepalive
  connection.begin(connect, opened.session)
  logConnected(connection, connect)
  opened.session.resume(connection)
  host.registered(connection)
  // Whoever was told of it may have closed it.
  if (connection.closed) return undefined
  acknowledge(connection, connect, opened, { isKeepaliveImposed, isLimited })
  return undefined
}

function acknowledge(connection: Connection, connect: Connect, { isPresent, commit }: OpenedSession, imposed: Imposed): void {
  const { host, version } = connection
  // MQTT 3.1 knows no session present.
  const present = isPresent && version !== 3
  const properties = version === 5 ? propertiesOf(connection, connect, imposed) : undefined
  const connack = encodeConnack(version, present, 0, properties)
  const { maximumPacketSize } = connect
  if (maximumPacketSize > 0 && connack.length > maximumPacketSize) {
    connection.finish({ words: 'oversize packet' })
    return
  }
  connection.welcome(connack, commit, () => {
    host.log.write('connackSent', { clientId: connection.clientId, sessionPresent: present, code: 0 })
    host.events.connackSent(connection, present, 0, properties)
    if (connection.keepalive > 0) host.watch(connection, connection.lastInput + connection.keepalive * 1500)
    connection.ready()
    host.events.ready(connection)
  })
}

interface Imposed {
  readonly isKeepaliveImposed: boolean
  /** Its session ends sooner than it asked. */
  readonly isLimited: boolean
}

function propertiesOf(connection: Connection, connect: Connect, { isKeepaliveImposed, isLimited }: Imposed): Buffer {
  const { host, listener, keepalive, isAssigned, clientId } = connection
  const { maxTopicAlias, maxQos } = listener
  const responseInformation = connect.requestResponseInformation ? host.hooks.responseInformation?.(connection) : undefined
  const known = connackProperties({
    ...(isKeepaliveImposed && { serverKeepAlive: keepalive }),
    topicAliasMaximum: maxTopicAlias,
    ...(isAssigned && { assignedClientIdentifier: clientId }),
    retainAvailable: host.delivery.retainAvailable,
    maximumPacketSize: host.limits.maxPacketSize,
    receiveMaximum: host.limits.maxInflightMessages,
    maximumQos: maxQos
  })
  if (responseInformation === undefined && !isLimited) return known
  const own = { ...(isLimited && { sessionExpiryInterval: connect.sessionExpiryInterval }), responseInformation }
  return Buffer.concat([known, encodeProperties(own)])
}

/** A CONNECT that can't be taken as it is. */
export function refuseConnect(connection: Connection, { answer, words, detail }: ConnectFault): void {
  if (detail !== undefined) logConnectFault(connection, detail)
  if (answer !== undefined) sendRefusal(connection, answer.version, answer.code, {})
  if (answer?.code === returnCodes.identifierRejected) connection.finish({ words, error: rejectedIdentifier() })
  else connection.finish({ words })
}

// What embedders are told, as by Aedes.
function rejectedIdentifier(): Error {
  const errorCode = returnCodes.identifierRejected
  return Object.assign(new Error(aedesWords[errorCode]), { errorCode })
}

function refuse(connection: Connection, refusal: Refusal): void {
  const { version } = connection
  const { words, told, isStranger = false } = refusal
  const code = version === 5 ? refusal.v5 : refusal.v3
  if (code !== undefined && !connection.closed) sendRefusal(connection, version, code, refusal)
  const error = refusal.error ?? new Error(told ?? words)
  // A hook that says no more than a code, as with Aedes.
  if (error.message === '') error.message = aedesWords[refusal.v3 ?? 5] ?? words
  if (refusal.v3 !== undefined) Object.assign(error, { errorCode: refusal.v3 })
  connection.finish({ words, error, isStranger })
}

// Of its own properties Mosquitto sends Maximum QoS alone here.
function sendRefusal(connection: Connection, version: Version, code: number, { serverReference }: Pick<Refusal, 'serverReference'>): void {
  const { host, clientId, transport } = connection
  const own = version === 5 ? connackProperties({ maximumQos: transport.listener.maxQos }) : undefined
  const properties = own !== undefined && serverReference !== undefined ? Buffer.concat([own, encodeProperties({ serverReference })]) : own
  connection.send(encodeConnack(version, false, code, properties))
  host.log.write('connackSent', { clientId: clientId === '' ? transport.remoteAddress : clientId, sessionPresent: false, code })
  host.events.connackSent(connection, false, code, properties)
}

// As Aedes: whoever is turned away here is not told, but for where to go instead.
function askPreConnect(connection: Connection, connect: Connect, ask: NonNullable<Hooks['preConnect']>): Promise<Connect | Refusal> {
  return new Promise(resolve => {
    ask(connection, connect, (error, edited) => {
      if (error === null && edited !== undefined) resolve(edited)
      else
        resolve({
          words: error?.message || 'refused',
          isStranger: true,
          ...(error !== null && { error }),
          ...redirection(connection, error)
        })
    })
  })
}

function askAuthenticate(connection: Connection, connect: Connect): Promise<Refusal | undefined> | undefined {
  const { authenticate } = connection.host.hooks
  if (authenticate === undefined) return undefined
  return new Promise(resolve => {
    authenticate(connection, connect, (error, isAllowed) => {
      if (error === null && isAllowed) resolve(undefined)
      else
        resolve({ ...refusals['not-authorised'], ...(error !== null && { error }), ...codesOf(error), ...redirection(connection, error) })
    })
  })
}

// Those of a session that goes on, as if its client asked for them once more.
async function askAgain(
  connection: Connection,
  subscriptions: readonly Subscription[],
  ask: NonNullable<Hooks['authorizeSubscribe']>
): Promise<Subscription[] | Refusal> {
  try {
    const answers = await askHook(connection, subscriptions.map(requestOf), ask)
    return subscriptions.filter((_, i) => answers[i] === null)
  } catch (error) {
    return { words: 'not authorised', error: errorOf(error) }
  }
}

function requestOf({ filter, group, qos, noLocal, retainAsPublished, retainHandling }: Subscription): SubscriptionRequest {
  return { filter: subscriptionKey(filter, group), qos, noLocal, retainAsPublished, retainHandling }
}

/** What Aedes says for them. */
const aedesWords: Readonly<Record<number, string>> = {
  2: 'identifier rejected',
  3: 'Server unavailable',
  4: 'bad user name or password',
  5: 'not authorized'
}

/** The reason codes of MQTT 5 for the return codes of MQTT 3 [MQTT 5.0, 3.2.2.2]. */
const newCodes: Readonly<Record<number, number>> = { 2: 0x85, 3: 0x88, 4: 0x86, 5: 0x87 }

// `returnCode` of an error is 2 to 5, as Aedes documents it; `reasonCode` is the one of MQTT 5.
function codesOf(error: Error | null): Partial<Refusal> {
  if (error === null) return {}
  const returnCode: unknown = Reflect.get(error, 'returnCode')
  const reasonCode: unknown = Reflect.get(error, 'reasonCode')
  return {
    ...(typeof returnCode === 'number' && returnCode >= 2 && returnCode <= 5 && { v3: returnCode, v5: newCodes[returnCode] ?? 0x87 }),
    ...(typeof reasonCode === 'number' && reasonCode >= 0x80 && reasonCode <= 0xff && { v5: reasonCode })
  }
}

// Only these two codes go with a server reference [MQTT 5.0, 4.13]. The error tells which it was.
function redirection({ version }: Connection, error: Error | null): Partial<Refusal> {
  const serverReference: unknown = error === null ? undefined : Reflect.get(error, 'serverReference')
  if (error === null || version !== 5 || typeof serverReference !== 'string') return {}
  if (!isWellFormed(serverReference) || Buffer.byteLength(serverReference) > 0xffff) return {}
  const v5 = Reflect.get(error, 'reasonCode') === reasonCodes.serverMoved ? reasonCodes.serverMoved : reasonCodes.useAnotherServer
  Object.assign(error, { reasonCode: v5 })
  return { v5, serverReference }
}
