// Every event the broker logs: its type and its line in the words of Mosquitto 2.1, from fields that the JSON format prints as they are.

import type { Peer } from './auth/identity.js'
import type { LogType, UsernameSource } from './config/types.js'
import { formatProblem, type Problem } from './errors.js'
import { describeReload, type LossReason, plural, type ReloadResult } from './reload-report.js'

interface LogEvent<Fields> {
  readonly type: LogType
  /** Left out with `connection_messages false`. */
  readonly connection?: true
  /** The line, or several that belong together. */
  text(fields: Fields): string | readonly string[]
}

type Text<Fields> = (fields: Fields) => string | readonly string[]

const event = <Fields>(type: LogType, text: Text<Fields>): LogEvent<Fields> => ({ type, text })
const connectionEvent = <Fields>(type: LogType, text: Text<Fields>): LogEvent<Fields> => ({ type, connection: true, text })

interface Who {
  readonly clientId: string
  readonly username?: string
}

/** A PUBLISH as Mosquitto prints it. */
interface Publish {
  readonly clientId: string
  readonly dup: boolean
  readonly qos: 0 | 1 | 2
  readonly retain: boolean
  /** 0 for QoS 0. */
  readonly packetId: number
  readonly topic: string
  readonly bytes: number
}

interface Acknowledgement {
  readonly clientId: string
  readonly packet: 'PUBACK' | 'PUBREC' | 'PUBREL' | 'PUBCOMP'
  readonly packetId: number
  readonly reasonCode: number
}

// What is wrong with a packet, in Mosquitto's words. Two hexadecimal digits for flags.

export type ConnectDetail =
  | `CONNECT with ${
      | 'missing protocol string length'
      | `incorrect protocol string length (${number})`
      | 'missing protocol string'
      | 'missing protocol version'
      | 'missing connect flags'
      | `non-zero reserved flags (${string})`
      | `non-zero connect reserved flag (${string})`
      | `invalid Will QoS (${number})`
      | 'zero length clientid when forbidden'}`
  | 'v3.1 CONNECT with zero length clientid'

/** Not said with `connection_messages false`: scanners and old clients. */
export type ProtocolDetail = `invalid protocol version (${number})` | `invalid protocol "${string}"`

export type ClientDetail =
  | 'Will with empty topic'
  | 'CONNECT with username flag but no username'
  | 'CONNECT with password flag but no password'
  | `CONNECT packet with overlong remaining length (${number}:${number})`
  | '$share subscription with no-local set'

export type PublishDetail = 'Invalid PUBLISH (QoS=0 and DUP=1)' | 'Invalid QoS in PUBLISH' | 'Too high QoS in PUBLISH'
export type SubscribeDetail = 'Empty subscription string' | 'Invalid subscription string' | 'Invalid QoS in subscription command'
export type UnsubscribeDetail = 'Empty unsubscription string' | 'Invalid unsubscription string'

interface DeniedPublish extends Who, Publish {
  /** `explainDecision`'s words. */
  readonly why: string
}

const user = ({ username }: Who): string => (username === undefined ? 'no username' : `user '${username}'`)
const bit = (flag: boolean): number => (flag ? 1 : 0)
const publish = (f: Publish): string =>
  `${f.clientId} (d${bit(f.dup)}, q${f.qos}, r${bit(f.retain)}, m${f.packetId}, '${f.topic}', ... (${f.bytes} bytes))`
const peer = ({ remoteAddress, remotePort }: Peer): string => `${remoteAddress}:${remotePort}`

/** What one listener asks of those who connect. */
interface EnforcementFields {
  /** `port 8883`. */
  readonly listener: string
  /** The lowest version; absent: plain text. */
  readonly tls?: string
  readonly certificate: 'required' | 'required, whatever its dates' | 'not asked for'
  /** The file of pre-shared keys, which stand for certificates. */
  readonly pskFile?: string
  readonly username: UsernameSource
  /** `#!clientid_must_match`. */
  readonly clientId?: 'cn' | '*:cn'
  readonly passwordFile?: string
  readonly anonymous: boolean
  readonly aclFile?: string
  readonly aclShadow?: string
}

/** Where usernames come from, in words. */
export const nameSources: Readonly<Record<UsernameSource, string>> = {
  'from-connect': 'username as the client says',
  'from-common-name': 'username from the common name of the certificate',
  'from-subject': 'username from the subject of the certificate',
  'from-san-dns': 'username from the first DNS name of the certificate',
  'from-san-uri': 'username from the first URI of the certificate',
  'from-san-email': 'username from the first email address of the certificate',
  'from-serial': 'username from the serial number of the certificate',
  'from-fingerprint': 'username from the SHA-256 fingerprint of the certificate',
  'from-psk-identity': 'username from the identity of the pre-shared key'
}

/** What client ids are bound to, in words. */
export const clientIdForms = {
  cn: 'the common name of the certificate',
  '*:cn': 'a tenant, a colon and the common name of the certificate'
} as const

function describeEnforcement(f: EnforcementFields): string {
  const transport =
    f.pskFile !== undefined
      ? `${f.tls} with pre-shared keys from ${f.pskFile}`
      : f.tls === undefined
        ? 'plain text'
        : `${f.tls} or newer, client certificate ${f.certificate}`
  const passwords = f.passwordFile === undefined ? '' : `, passwords from ${f.passwordFile}`
  // With names from certificates nobody can be anonymous.
  const anonymous = f.username !== 'from-connect' ? '' : f.anonymous ? ', anonymous clients allowed' : ', no anonymous clients'
  const shadow = f.aclShadow === undefined ? '' : `, compared with ${f.aclShadow}`
  const clientId = f.clientId === undefined ? '' : `, client id ${clientIdForms[f.clientId]}`
  const rights = `${f.aclFile === undefined ? 'no ACL file' : `rights from ${f.aclFile}`}${shadow}`
  return `Listener on ${f.listener}: ${transport}, ${nameSources[f.username]}${clientId}${passwords}${anonymous}, ${rights}.`
}

/** What another ACL file would have decided otherwise. */
interface Shadowed extends Who {
  readonly what: 'publish' | 'delivery' | 'will'
  readonly topic: string
  readonly why: string
}

const shadowedWords: Readonly<Record<Shadowed['what'], (topic: string, clientId: string) => string>> = {
  publish: (topic, clientId) => `PUBLISH from ${clientId} ('${topic}')`,
  delivery: (topic, clientId) => `delivery of '${topic}' to ${clientId}`,
  will: (topic, clientId) => `will of ${clientId} ('${topic}')`
}

const describeShadowed = (f: Shadowed): string => `${shadowedWords[f.what](f.topic, f.clientId)}: ${user(f)}, ${f.why}`

/** What a rule, or the want of one, has decided since the start. */
interface Decided {
  /** `explainDecision`'s words. */
  readonly why: string
  readonly publishes: number
  readonly deliveries: number
  readonly wills: number
  readonly subscriptions: number
}

const decidedWords = [
  ['publishes', 'publish', 'publishes'],
  ['deliveries', 'delivery', 'deliveries'],
  ['wills', 'will', 'wills'],
  ['subscriptions', 'subscription', 'subscriptions']
] as const

function describeDecided(decided: Decided): string {
  const parts = decidedWords.flatMap(([key, one, many]) => {
    const number = decided[key]
    return number === 0 ? [] : [`${number} ${number === 1 ? one : many}`]
  })
  return `\t${decided.why}: ${parts.join(', ')}`
}

/** Those that decided most, and how many there are beside. */
interface AllDecided {
  readonly rules: readonly Decided[]
  readonly more: number
}

const repeatedWords = {
  packetIdReused: 'reused message IDs that are not free',
  receiveMaximumExceeded: 'exceeded its receive-maximum quota'
} as const

const describeAllDecided =
  (head: string) =>
  ({ rules, more }: AllDecided): readonly string[] => [
    `${head} since the start:`,
    ...rules.map(describeDecided),
    ...(more > 0 ? [`\tand by ${plural(more, 'more rule')}`] : [])
  ]

const table = {
  // The process
  starting: event('information', (f: { name: string; version: string }) => `${f.name} version ${f.version} starting`),
  running: event('information', (f: { name: string; version: string }) => `${f.name} version ${f.version} running`),
  terminating: event('information', (f: { name: string; version: string }) => `${f.name} version ${f.version} terminating`),
  configLoaded: event('information', (f: { file: string }) => `Config loaded from ${f.file}.`),
  configDefault: event('information', (_: object) => 'Using default config.'),
  localOnly: event('warning', (_: object) => [
    'Starting in local only mode. Connections will only be possible from clients running on this machine.',
    'Create a configuration file which defines a listener to allow remote access.',
    'For more details see https://mosquitto.org/documentation/authentication-methods/'
  ]),
  runningAs: event('information', (f: { user: string }) => `Info: running as user: ${f.user}.`),
  runningAsRoot: event('warning', (_: object) => 'Warning: a broker should not be run as root.'),
  userFallback: event(
    'warning',
    (f: { user: string; instead: string }) =>
      `Warning: Unable to drop privileges to '${f.user}' because this user does not exist. Trying '${f.instead}' instead.`
  ),
  codeUnreadable: event(
    'warning',
    (f: { user: string; path: string }) =>
      `Warning: '${f.user}' cannot read the program in ${f.path}: passwords cannot be checked, nor long revocation lists read. Install it where that account can, or configure 'user root'.`
  ),
  serviceManagerDeaf: event(
    'warning',
    (f: { reason: string }) =>
      `Warning: systemd does not hear how the broker is doing: ${f.reason}. A unit of Type=notify ends it for that.`
  ),
  nothingToSave: event('information', (_: object) => 'SIGUSR1: without persistence there is nothing to save.'),
  noSubscriptionTree: event('information', (_: object) => 'SIGUSR2: printing the subscription tree is not supported yet.'),
  /** A fault of ours, not of a person or client. */
  fault: event('error', (f: { reason: string }) => `Error: Internal fault, please report it: ${f.reason}`),
  /** A fault of the program that embeds the broker: its hooks, listeners, callbacks, persistence, emitter. */
  embedderFault: event('error', (f: { reason: string }) => `Error: The program that embeds the broker failed: ${f.reason}`),

  // What a person wrote: at start, and at each reload
  problemError: event('error', (f: Problem) => formatProblem(f)),
  problemWarning: event('warning', (f: Problem) => formatProblem(f)),
  problemNotice: event('notice', (f: Problem) => formatProblem(f)),
  reloading: event('information', (_: object) => 'Reloading config.'),
  reloaded: event('information', (f: ReloadResult) => `Config reloaded: ${describeReload(f)}.`),
  reloadRefused: event('error', (_: object) => 'Error: Reload refused, the previous configuration stays in force.'),
  filesChanged: event('information', (f: { files: readonly string[]; more: number }) => {
    const more = f.more === 0 ? '' : ` and ${f.more} more`
    return `Changed on disk: ${f.files.join(', ')}${more}.`
  }),
  ownCertificateMade: event(
    'notice',
    (f: { file: string; names: readonly string[]; notAfter: Date }) =>
      `Made the broker's certificate ${f.file} for ${f.names.join(', ')}, valid to ${f.notAfter.toISOString().slice(0, 10)}.`
  ),
  ownCertificateNotRenewed: event(
    'warning',
    (f: { file: string; notAfter: Date; reason: string }) =>
      `Warning: The broker's certificate ${f.file} ends on ${f.notAfter.toISOString().slice(0, 10)} and could not be made anew: ${f.reason}`
  ),
  folderNotWatched: event(
    'notice',
    (f: { folder: string; reason: string; seconds: number }) =>
      `The folder ${f.folder} cannot be watched (${f.reason}): a changed file in it is noticed within ${plural(f.seconds, 'second')}.`
  ),
  listenerRemoved: event('information', (f: { listener: string }) => `The listener on ${f.listener} is removed.`),
  listenerLost: event(
    'error',
    (f: { listener: string; reason: string }) =>
      `Error: The listener on ${f.listener} could not be opened again (${f.reason}): it takes no new clients until a reload or restart.`
  ),
  optionNeedsRestart: event(
    'warning',
    (f: { option: string }) => `Warning: The new value of '${f.option}' takes effect at the next restart.`
  ),
  listenerEnforces: event('information', (f: EnforcementFields) => describeEnforcement(f)),

  // The administrator
  adminOpened: event('debug', (f: { path: string }) => `Opening admin socket ${f.path}.`),
  adminUnavailable: event('warning', (f: { path: string; why: string }) => `Warning: There is no admin socket ${f.path}: ${f.why}.`),
  administratorKicked: event(
    'notice',
    (f: { clientId: string; forgotten: boolean }) => `Administrator ${f.forgotten ? 'ended the session of' : 'disconnected'} ${f.clientId}.`
  ),
  administratorCleared: event(
    'notice',
    (f: { filter: string; count: number }) => `Administrator cleared ${plural(f.count, 'retained message')} of '${f.filter}'.`
  ),
  administratorReloads: event('notice', (_: object) => 'Administrator asked for a reload.'),

  // Enrolment
  enrolmentOpened: event(
    'information',
    (f: { port: number; ca: string }) => `Opening enrolment listen socket on port ${f.port}: certificates by the CA ${f.ca}.`
  ),
  enrolled: event(
    'notice',
    (f: Peer & { deviceId: string; serial: string }) =>
      `Enrolled ${f.deviceId} from ${f.remoteAddress}:${f.remotePort}, certificate ${f.serial}.`
  ),
  enrolmentCrowded: event(
    'warning',
    (f: { remoteAddress: string; open: number; waiting: number }) =>
      `Warning: The enrolment port is crowded: ${plural(f.open, 'connection')} open, ${f.waiting} waiting, the last from ${f.remoteAddress}.`
  ),
  enrolmentRefused: event(
    'notice',
    (f: Peer & { reason: string; who?: string }) =>
      `Enrolment${f.who === undefined ? '' : ` of ${f.who}`} from ${f.remoteAddress}:${f.remotePort} refused, ${f.reason.replace(/\.$/, '')}.`
  ),

  enrolmentRefusalsNotShown: event('notice', (f: { count: number }) => `${f.count} further refused enrolments not shown.`),

  // Listeners and their connections
  opening: event('information', (f: { family: 'ipv4' | 'ipv6'; port: number }) => `Opening ${f.family} listen socket on port ${f.port}.`),
  openingUnix: event('information', (f: { path: string }) => `Opening unix listen socket on path ${f.path}.`),
  ipv6Missing: event(
    'warning',
    (f: { port: number; why: string }) => `Warning: IPv6 is not available (${f.why}): port ${f.port} is open for IPv4 only.`
  ),
  privilegedPort: event(
    'error',
    (f: { port: number }) =>
      `Error: Ports below 1024, such as ${f.port}, take the capability CAP_NET_BIND_SERVICE (systemd: AmbientCapabilities=CAP_NET_BIND_SERVICE).`
  ),
  acceptFailed: event('error', (f: { why: string }) => `Error: Unable to accept a connection: ${f.why}.`),
  accepted: connectionEvent('notice', (f: Peer & { port: number }) => `New connection from ${peer(f)} on port ${f.port}.`),
  tooManyConnections: connectionEvent(
    'notice',
    (f: { remoteAddress: string; port: number }) => `Client connection from ${f.remoteAddress} denied: max_connections exceeded.`
  ),
  // Not a connection message: who is refused, and why, is what people look for when `connection_messages` is false.
  rejected: event(
    'notice',
    (f: Peer & { port: number; reason: string; words: string; subject?: string; issuer?: string }) =>
      `Connection from ${peer(f)} rejected, ${f.words}${f.subject === undefined ? '' : ` (subject ${f.subject}, issuer ${f.issuer})`}.`
  ),
  tlsOnPlainPort: event(
    'notice',
    (f: Peer & { port: number }) => `Client from ${peer(f)} appears to be using TLS to connect to a non-TLS listener.`
  ),
  leftBeforeConnect: connectionEvent(
    'notice',
    (f: Peer & { reason: string }) => `Client <unknown> [${peer(f)}] disconnected: ${f.reason}.`
  ),

  clientsExpireSoon: event('warning', (f: { count: number; days: number; clients: readonly { clientId: string; end: string }[] }) => {
    const named = f.clients.map(({ clientId, end }) => `${clientId} (${end.slice(0, 10)})`).join(', ')
    const more = f.count - f.clients.length
    const what = f.count === 1 ? 'The certificate of 1 connected client ends' : `The certificates of ${f.count} connected clients end`
    return `Warning: ${what} within ${plural(f.days, 'day')}: ${named}${more === 0 ? '' : ` and ${more} more`}.`
  }),

  // Clients
  clientConnected: connectionEvent(
    'notice',
    (f: Peer & Who & { protocolVersion: number; clean: boolean; keepalive: number; bridge?: true }) =>
      `New ${f.bridge === undefined ? 'client' : 'bridge'} connected from ${peer(f)} as ${f.clientId} (p${f.protocolVersion}, c${bit(f.clean)}, k${f.keepalive}${
        f.username === undefined ? '' : `, u'${f.username}'`
      }).`
  ),
  clientNegotiated: connectionEvent(
    'notice',
    (f: { clientId: string; version: string; cipher: string }) => `Client ${f.clientId} negotiated ${f.version} cipher ${f.cipher}`
  ),
  /** Without a reason the client said goodbye itself. `loss` and `why`: what a reload took from it. */
  clientDisconnected: connectionEvent(
    'notice',
    (f: Peer & { clientId: string; reason?: string; loss?: LossReason; why?: string }) =>
      `Client ${f.clientId} [${peer(f)}] disconnected${f.reason === undefined ? '' : `: ${f.reason}`}${f.why === undefined ? '' : `, ${f.why}`}.`
  ),
  willSpecified: event('debug', (f: { clientId: string; qos: number; retain: boolean; topic: string; bytes: number }) => [
    `Will message specified (${f.bytes} bytes) (r${bit(f.retain)}, q${f.qos}).`,
    `\t${f.topic}`
  ]),
  willsNotSent: event('warning', (f: { count: number }) => `Warning: There was no time for ${plural(f.count, 'will')} before the end.`),
  noWillSpecified: event('debug', (_: { clientId: string }) => 'No will message specified.'),
  subscribed: event('subscribe', (f: { clientId: string; qos: number; filter: string }) => `${f.clientId} ${f.qos} ${f.filter}`),
  unsubscribed: event('unsubscribe', (f: { clientId: string; filter: string }) => `${f.clientId} ${f.filter}`),

  // Packets
  publishReceived: event('debug', (f: Publish) => `Received PUBLISH from ${publish(f)}`),
  publishTooLarge: event('debug', (f: Publish) => `Dropped too large PUBLISH from ${publish(f)}`),
  /** The denials that `publishDenied` leaves out. */
  publishDeniedAgain: event('debug', (f: Publish) => `Denied PUBLISH from ${publish(f)}`),
  packetReceived: event('debug', (f: { clientId: string; packet: string }) => `Received ${f.packet} from ${f.clientId}`),
  /** PUBREC and PUBREL come without their reason code, as Mosquitto prints them. */
  acknowledgementReceived: event(
    'debug',
    (f: Acknowledgement) =>
      `Received ${f.packet} from ${f.clientId} (Mid: ${f.packetId}${/^PUB(ACK|COMP)$/.test(f.packet) ? `, RC:${f.reasonCode}` : ''})`
  ),
  /** One filter of a SUBSCRIBE, with the QoS that it gets; without one it is refused. */
  subscribing: event(
    'debug',
    (f: { clientId: string; filter: string; qos?: number }) => `\t${f.filter} (${f.qos === undefined ? 'denied' : `QoS ${f.qos}`})`
  ),
  unsubscribing: event('debug', (f: { clientId: string; filter: string }) => `\t${f.filter}`),
  connackSent: event(
    'debug',
    (f: { clientId: string; sessionPresent: boolean; code: number }) =>
      `Sending CONNACK to ${f.clientId} (${bit(f.sessionPresent)}, ${f.code})`
  ),
  publishSent: event('debug', (f: Publish) => `Sending PUBLISH to ${publish(f)}`),
  /** PUBREL and PUBCOMP go without their reason code, as Mosquitto prints them. */
  acknowledgementSent: event(
    'debug',
    (f: Acknowledgement) =>
      `Sending ${f.packet} to ${f.clientId} (m${f.packetId}${/^PUB(ACK|REC)$/.test(f.packet) ? `, rc${f.reasonCode}` : ''})`
  ),
  packetSent: event(
    'debug',
    (f: { clientId: string; packet: 'SUBACK' | 'UNSUBACK' | 'PINGRESP' }) => `Sending ${f.packet} to ${f.clientId}`
  ),
  disconnectSent: event(
    'debug',
    (f: { clientId: string; reasonCode: number }) => `Sending DISCONNECT to ${f.clientId} (rc${f.reasonCode})`
  ),

  // Packets that break the rules. Most of them show in "disconnected: malformed packet" alone, as in Mosquitto.
  connectInvalid: event('information', (f: Peer & { what: ConnectDetail }) => `Protocol error from ${peer(f)}: ${f.what}.`),
  connectProtocolUnknown: connectionEvent(
    'information',
    (f: Peer & { what: ProtocolDetail }) => `Protocol error from ${peer(f)}: CONNECT with ${f.what}.`
  ),
  protocolError: event('information', (f: { clientId: string; what: ClientDetail }) => `Protocol error from ${f.clientId}: ${f.what}.`),
  passwordWithoutUsername: event(
    'error',
    (f: { clientId: string }) => `Protocol error from ${f.clientId}: password without username, closing connection.`
  ),
  willTooLarge: event('debug', (f: { clientId: string }) => `Client ${f.clientId} connected with too large Will payload`),
  secondConnect: event('notice', (f: { clientId: string }) => `Bad client ${f.clientId} sending multiple CONNECT messages.`),
  publishInvalid: event('information', (f: { clientId: string; what: PublishDetail }) => `${f.what} from ${f.clientId}, disconnecting.`),
  /** Mosquitto names the address here, the client below. */
  subscribeInvalid: event(
    'information',
    (f: { remoteAddress: string; what: SubscribeDetail }) => `${f.what} from ${f.remoteAddress}, disconnecting.`
  ),
  unsubscribeInvalid: event(
    'information',
    (f: { clientId: string; what: UnsubscribeDetail }) => `${f.what} from ${f.clientId}, disconnecting.`
  ),
  packetIdReused: event(
    'warning',
    (f: { clientId: string; packetId: number }) => `Reused message ID ${f.packetId} from ${f.clientId} detected. Clearing from storage.`
  ),
  receiveMaximumExceeded: event(
    'warning',
    (f: { clientId: string }) => `Client ${f.clientId} has exceeded its receive-maximum quota. This behaviour must be fixed on the client.`
  ),
  /** What would be a line for each packet. */
  faultRepeated: event(
    'warning',
    (f: { clientId: string; fault: 'packetIdReused' | 'receiveMaximumExceeded'; count: number }) =>
      `Client ${f.clientId} has ${repeatedWords[f.fault]} ${f.count} times since it connected.`
  ),

  // Sessions and their queues
  /** Once per connection. */
  outgoingDropped: event('notice', (f: { clientId: string }) => `Outgoing messages are being dropped for client ${f.clientId}.`),
  sessionExpired: event('notice', (f: { clientId: string }) => `Expiring client ${f.clientId} due to timeout.`),

  // The store
  redisConnected: event('information', (f: { address: string }) => `Redis at ${f.address} answers.`),
  redisUnreachable: event(
    'error',
    (f: { address: string; reason: string }) =>
      `Error: Redis at ${f.address} does not answer (${f.reason}). Clients are let in once it does; trying again until then.`
  ),
  redisLost: event(
    'error',
    (f: { address: string; reason: string }) =>
      `Error: Lost Redis at ${f.address} (${f.reason}). Until it is back, clients whose session is kept are not let in, and messages of QoS 1 and 2 for such sessions wait, unacknowledged.`
  ),
  redisBack: event('notice', (f: { address: string; seconds: number }) => `Redis at ${f.address} is back after ${f.seconds} seconds.`),
  redisRefuses: event(
    'error',
    (f: { address: string; reason: string }) =>
      `Error: Redis at ${f.address} answers, but refuses what is asked of it (${f.reason}). Until that is mended, what is to be kept waits, unacknowledged.`
  ),
  storeWaiting: event(
    'warning',
    (f: { seconds: number }) =>
      `Warning: The store has not answered for ${plural(f.seconds, 'second')}: messages of QoS 1 and 2 wait for it, unacknowledged.`
  ),
  storeAnswers: event('notice', (f: { seconds: number }) => `The store answers again after ${plural(f.seconds, 'second')}.`),
  storeFailed: event('error', (f: { reason: string }) => `Error: The store failed: ${f.reason}`),
  storeOpened: event(
    'information',
    (f: { path: string; sessions: number; subscriptions: number; queued: number; retained: number; milliseconds: number }) =>
      `Store ${f.path}: ${plural(f.sessions, 'session')}, ${plural(f.subscriptions, 'subscription')}, ${plural(f.queued, 'queued message')}, ${plural(f.retained, 'retained message')}, read in ${f.milliseconds} ms.`
  ),
  storeTrouble: event(
    'error',
    (f: { path: string; reason: string }) =>
      `Error: Nothing can be written to the store ${f.path} (${f.reason}). Until that is mended, what is to be kept waits, unacknowledged; it goes on by itself.`
  ),
  storeMended: event('notice', (f: { path: string }) => `The store ${f.path} can be written to again.`),
  storeDamaged: event(
    'warning',
    (f: { path: string; reason: string; place?: string }) =>
      `Warning: The store ${f.path} is damaged (${f.reason}). What can be read of it is kept${f.place === undefined ? '' : `; what it was is set aside as ${f.place}`}.`
  ),
  saving: event('information', (f: { file: string }) => `Saving in-memory database to ${f.file}.`),
  saved: event('debug', (f: { file: string; milliseconds: number }) => `Saved ${f.file} in ${f.milliseconds} ms.`),
  saveFailed: event(
    'error',
    (f: { file: string; reason: string }) => `Error saving in-memory database to ${f.file}: ${f.reason}. The store itself has everything.`
  ),
  imported: event(
    'notice',
    (f: { file: string; store: 'older' | 'empty'; sessions: number; queued: number; retained: number; replaced?: string }) =>
      `Took over ${plural(f.sessions, 'session')}, ${plural(f.queued, 'queued message')} and ${plural(f.retained, 'retained message')} from ${f.file}, ${f.store === 'older' ? 'which is newer than the store' : 'as the store was empty'}${f.replaced === undefined ? '' : `; what the store had is set aside as ${f.replaced}`}.`
  ),
  importDamaged: event(
    'warning',
    (f: { file: string; reason: string; place?: string }) =>
      `Warning: ${f.file} is damaged (${f.reason}). What can be read of it is kept${f.place === undefined ? '' : `; it is set aside as ${f.place}`}.`
  ),
  importRefused: event(
    'warning',
    (f: { file: string; reason: string; place: string }) =>
      `Warning: ${f.file} can't be taken over: ${f.reason}. It is set aside as ${f.place}.`
  ),
  importOlder: event(
    'warning',
    (f: { file: string; place: string }) =>
      `Warning: ${f.file} is older than the store, which knows nothing of it: it is not taken over. It is set aside as ${f.place}.`
  ),
  importEnded: event(
    'warning',
    (f: { file: string; place?: string }) =>
      `Warning: An earlier start was cut off while it took over ${f.file}, which is gone since, or another file. ${f.place === undefined ? 'The store has what was taken over of it' : `What was taken over of it is set aside as ${f.place}`}.`
  ),
  storeForeign: event(
    'warning',
    (f: { path: string; place: string }) =>
      `Warning: What lies in ${f.path} is no store of this broker. It is set aside as ${f.place}, and a new store begun.`
  ),

  // What the ACL denies. Mosquitto says the first at debug level and without the reason.
  publishDenied: event('notice', (f: DeniedPublish) => `Denied PUBLISH from ${publish(f)}: ${user(f)}, ${f.why}.`),
  /** At debug level: a receiver's wildcard that is wider than its rights is no fault. */
  deliveryDenied: event(
    'debug',
    (f: Who & { topic: string; why: string }) => `Denied delivery of '${f.topic}' to ${f.clientId}: ${user(f)}, ${f.why}.`
  ),
  /** Such a message is sent to nobody any more, with `check_retain_source`. */
  retainedDenied: event(
    'debug',
    (f: Who & { topic: string; why: string }) => `Denied retained message '${f.topic}' of ${f.clientId}: ${user(f)}, ${f.why}.`
  ),
  willDenied: event(
    'notice',
    (f: Who & { topic: string; why: string }) => `Denied will of ${f.clientId} ('${f.topic}'): ${user(f)}, ${f.why}.`
  ),
  /** With `#!acl_subscribe_check strict`. */
  subscriptionDenied: event(
    'notice',
    (f: Who & { filter: string; why: string }) => `Denied SUBSCRIBE from ${f.clientId} ('${f.filter}'): ${user(f)}, ${f.why}.`
  ),
  /** With `#!acl_subscribe_check warn`. */
  subscriptionDead: event(
    'warning',
    (f: Who & { filter: string; why: string }) =>
      `Warning: ${f.clientId} subscribes to '${f.filter}', of which nothing can be delivered to it: ${user(f)}, ${f.why}.`
  ),
  /** The file of `#!acl_shadow` says otherwise than the one in force. */
  shadowDenies: event('notice', (f: Shadowed) => `Shadow ACL would deny ${describeShadowed(f)}.`),
  shadowAllows: event('notice', (f: Shadowed) => `Shadow ACL would allow ${describeShadowed(f)}.`),
  shadowNotShown: event('notice', (f: { count: number }) => `${f.count} further differences of the shadow ACL not shown.`),
  denialsNotShown: event('notice', (f: { count: number }) => `${f.count} further denied publishes not shown.`),
  subscriptionDenialsNotShown: event(
    'notice',
    (f: { count: number }) => `${f.count} further subscriptions of which nothing can be delivered not shown.`
  ),
  deliveryDenialsNotShown: event('debug', (f: { count: number }) => `${f.count} further denied deliveries not shown.`),
  /** At the end. */
  deniedInAll: event('information', describeAllDecided('Denied by the ACL')),
  shadowDeniedInAll: event('information', describeAllDecided('The shadow ACL would have denied')),
  shadowAllowedInAll: event('information', describeAllDecided('The shadow ACL would have allowed')),
  dangerousUsername: event('notice', (f: { username: string }) => `ACL denying access to client with dangerous username "${f.username}"`),
  dangerousClientId: event('notice', (f: { clientId: string }) => `ACL denying access to client with dangerous client id "${f.clientId}"`),

  // Passwords
  loginDelayed: connectionEvent(
    'notice',
    (f: Peer & { username?: string; delay: number }) =>
      `Login from ${peer(f)}${f.username === undefined ? '' : ` as '${f.username}'`} delayed by ${f.delay} ms after failed logins.`
  ),
  passwordsBusy: event('warning', (_: object) => 'Too many passwords are waiting to be checked, connections are refused as server busy.'),
  passwordCheckFailed: event('error', (f: { reason: string }) => `Error: Unable to check a password: ${f.reason}.`)
} as const

export type LogEventName = keyof typeof table
export type LogFields<Name extends LogEventName> = Parameters<(typeof table)[Name]['text']>[0]

export const logEvents: { readonly [Name in LogEventName]: LogEvent<LogFields<Name>> } = table

/** What every room may say; `log.ts` is the one that writes it. */
export interface Log {
  write<Name extends LogEventName>(name: Name, fields: LogFields<Name>): void
  /** For callers that would have to compute fields: is anybody listening? */
  enabled(type: LogType): boolean
}
