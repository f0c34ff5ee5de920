// Text, command line and environment → Config: defaults and scopes settled, combinations checked. Reports everything that is wrong.

import type { Problem } from '../errors.js'
import { durationSeconds } from './argument.js'
import { checkDraft, inOrder, speaksMqtt, warn } from './check.js'
import { type Draft, type ListenerDraft, readDraft } from './draft.js'
import { readEnvironment } from './environment.js'
import type { ConfigFile } from './include.js'
import type { OwnOptionName } from './options.js'
import { Settings } from './settings.js'
import type {
  Bind,
  Config,
  DeliveryConfig,
  LimitsConfig,
  ListenerConfig,
  LogConfig,
  LogDestination,
  LogType,
  SecurityConfig,
  StoreConfig,
  TlsConfig,
  UsernameSource,
  Verbosity
} from './types.js'

export type { ConfigFile, Included } from './include.js'
export { includeDirs, includedNames } from './include.js'

export interface ConfigInput {
  /** Absent: started without `-c`. */
  readonly main?: ConfigFile | undefined
  /** `-p`: used only when the file opens no listener. */
  readonly ports?: readonly number[] | undefined
  readonly verbosity?: Verbosity | undefined
  readonly env?: Readonly<Record<string, string | undefined>> | undefined
}

export interface ConfigResult {
  /** Absent when a problem is an error. */
  readonly config?: Config
  /** What the lines say in the order of the files, then what their combination says. */
  readonly problems: readonly Problem[]
}

/** Builds the configuration. Opens nothing and never throws on what a person wrote. */
export function buildConfig(input: ConfigInput): ConfigResult {
  const draft = readDraft(input.main)
  const checks: Problem[] = []
  const environment = readEnvironment(input.env ?? {}, checks)
  const localOnly = !draft.listeners.some(opensPort)
  checkDraft(draft, localOnly, checks)
  const listeners = localOnly
    ? localListeners(draft, input.ports ?? [])
    : draft.listeners.filter(speaksMqtt).map(listener => settleListener(listener, draft, checks))
  const problems = [...draft.problems, ...inOrder(checks)]
  if (problems.some(({ severity }) => severity === 'error')) return { problems }
  return { config: freeze(settle(draft, environment, listeners, localOnly, input)), problems }
}

function settle(draft: Draft, environment: Settings, listeners: ListenerConfig[], localOnly: boolean, input: ConfigInput): Config {
  const { global, own } = draft
  const settled = (name: OwnOptionName) => environment.last(name) ?? own.last(name)
  const pidFile = global.file('pid_file')
  const user = global.placed('user')
  const clientIdPrefixes = global.text('clientid_prefixes')
  return {
    ...(input.main && { file: input.main.file }),
    listeners,
    localOnly,
    perListenerSettings: draft.perListenerSettings,
    log: settleLog(global, settled('log_format')?.value === 'json' ? 'json' : 'mosquitto', input.verbosity),
    connectionMessages: global.boolean('connection_messages') ?? true,
    setTcpNodelay: global.boolean('set_tcp_nodelay') ?? false,
    ...(pidFile && { pidFile }),
    ...(user && { user: { name: user.value, at: user.at } }),
    ...(clientIdPrefixes !== undefined && { clientIdPrefixes }),
    passwordFileLines: settled('password_file_lines')?.value === 'lenient' ? 'lenient' : 'strict',
    limits: settleLimits(global),
    delivery: settleDelivery(global),
    store: settleStore(settled('store'))
  }
}

function settleLimits(global: Settings): LimitsConfig {
  const inflight = global.number('max_inflight_messages') ?? 20
  return {
    globalMaxConnections: limit(global.number('global_max_connections')),
    globalMaxClients: limit(global.number('global_max_clients')),
    // Mosquitto takes the largest number for no limit, which it writes as 0.
    maxInflightMessages: inflight === 65535 ? 0 : inflight,
    maxInflightBytes: global.number('max_inflight_bytes') ?? 0,
    maxQueuedMessages: global.number('max_queued_messages') ?? 1000,
    maxQueuedBytes: global.number('max_queued_bytes') ?? 0,
    maxKeepalive: global.number('max_keepalive') ?? 0,
    maxPacketSize: global.number('max_packet_size') ?? 2_000_000,
    messageSizeLimit: global.number('message_size_limit') ?? 0
  }
}

function settleDelivery(global: Settings): DeliveryConfig {
  const expiration = global.text('persistent_client_expiration')
  return {
    allowDuplicateMessages: global.boolean('allow_duplicate_messages') ?? true,
    // As the manual says: Mosquitto 2.1 itself leaves it false.
    checkRetainSource: global.boolean('check_retain_source') ?? true,
    queueQos0Messages: global.boolean('queue_qos0_messages') ?? false,
    upgradeOutgoingQos: global.boolean('upgrade_outgoing_qos') ?? false,
    retainAvailable: global.boolean('retain_available') ?? true,
    retainExpiryInterval: (global.number('retain_expiry_interval') ?? 0) * 60,
    ...(expiration !== undefined && { persistentClientExpiration: durationSeconds(expiration) }),
    sysInterval: global.number('sys_interval') ?? 10
  }
}

// For these three 0 is no limit either [Mosquitto 2.1].
function limit(value = -1): number {
  return value > 0 ? value : -1
}

// Listeners

// A default listener that some other option made stays unused: loopback alone is open [Mosquitto 2.1, local_only].
function opensPort({ defaultFor, settings }: ListenerDraft): boolean {
  return defaultFor === undefined || settings.has('port') || settings.has('bind_address')
}

function localListeners(draft: Draft, ports: readonly number[]): ListenerConfig[] {
  const security = settleSecurity(new Settings(), draft, true)
  return (ports.length === 0 ? [1883] : ports).map(port => ({ port, bind: { kind: 'loopback' }, security, ...listenerDefaults }))
}

const listenerDefaults = {
  username: 'from-connect',
  useUsernameAsClientId: false,
  maxConnections: -1,
  maxQos: 2,
  maxTopicAlias: 10,
  maxTopicAliasBroker: 10
} as const

function settleListener({ at, settings }: ListenerDraft, draft: Draft, checks: Problem[]): ListenerConfig {
  const tls = settleTls(settings)
  const socketDomain = settings.text('socket_domain')
  const versions = settings.words('accept_protocol_versions')
  const maxQos = settings.number('max_qos')
  const mountPoint = settings.text('mount_point')
  return {
    at,
    ...settleAddress(settings),
    ...((socketDomain === 'ipv4' || socketDomain === 'ipv6') && { socketDomain }),
    ...(tls && { tls }),
    security: settleSecurity(settings, draft, false),
    username: settleUsername(settings, tls, checks),
    useUsernameAsClientId: settings.boolean('use_username_as_clientid') ?? false,
    maxConnections: limit(settings.number('max_connections')),
    maxQos: maxQos === 0 || maxQos === 1 ? maxQos : listenerDefaults.maxQos,
    maxTopicAlias: settings.number('max_topic_alias') ?? listenerDefaults.maxTopicAlias,
    maxTopicAliasBroker: settings.number('max_topic_alias_broker') ?? listenerDefaults.maxTopicAliasBroker,
    ...(versions && { acceptProtocolVersions: ([3, 4, 5] as const).filter(version => versions.includes(String(version))) }),
    ...(mountPoint !== undefined && { mountPoint })
  }
}

function settleAddress(settings: Settings): { port: number; bind: Bind } {
  const [written, place] = settings.words('listener') ?? []
  const port = written === undefined ? (settings.number('port') ?? 1883) : Number(written)
  const host = place ?? settings.text('bind_address')
  if (host === undefined) return { port, bind: { kind: 'any' } }
  return { port, bind: port === 0 ? { kind: 'unix', path: host } : { kind: 'host', host } }
}

function settleSecurity(settings: Settings, { global, perListenerSettings }: Draft, localOnly: boolean): SecurityConfig {
  const passwordFile = settings.file('password_file') ?? global.file('password_file')
  const aclFile = settings.file('acl_file') ?? global.file('acl_file')
  const globalAnonymous = perListenerSettings ? undefined : global.boolean('allow_anonymous')
  return {
    allowAnonymous: settings.boolean('allow_anonymous') ?? globalAnonymous ?? localOnly,
    ...(passwordFile && { passwordFile }),
    ...(aclFile && { aclFile }),
    allowZeroLengthClientId: settings.boolean('allow_zero_length_clientid') ?? global.boolean('allow_zero_length_clientid') ?? true,
    autoIdPrefix: settings.text('auto_id_prefix') ?? global.text('auto_id_prefix') ?? 'auto-'
  }
}

function settleTls(settings: Settings): TlsConfig | undefined {
  const certfile = settings.file('certfile')
  const keyfile = settings.file('keyfile')
  if (!certfile || !keyfile) return undefined
  const cafile = settings.file('cafile')
  const capath = settings.file('capath')
  const crlfile = settings.file('crlfile')
  const ciphers = settings.placed('ciphers')
  const ciphersTls13 = settings.placed('ciphers_tls1.3')
  return {
    certfile,
    keyfile,
    ...(cafile && { cafile }),
    ...(capath && { capath }),
    ...(crlfile && { crlfile }),
    ...(ciphers && { ciphers }),
    ...(ciphersTls13 && { ciphersTls13 }),
    minVersion: settings.text('tls_version') === 'tlsv1.3' ? 'TLSv1.3' : 'TLSv1.2',
    requireCertificate: settings.boolean('require_certificate') ?? false
  }
}

function settleUsername(settings: Settings, tls: TlsConfig | undefined, checks: Problem[]): UsernameSource {
  // With both, the identity wins [Mosquitto 2.1].
  const name = ['use_identity_as_username', 'use_subject_as_username'].find(option => settings.boolean(option))
  if (name === undefined) return 'from-connect'
  if (!tls) {
    warn(checks, `The '${name}' option has no effect without certfile and keyfile.`, settings.at(name))
    return 'from-connect'
  }
  if (!tls.requireCertificate) {
    const message = `The '${name}' option without 'require_certificate true' refuses every client: no certificate is asked for.`
    warn(checks, message, settings.at(name))
  }
  return name === 'use_identity_as_username' ? 'from-common-name' : 'from-subject'
}

// Log and store

// In the order of Mosquitto's bits, so that what is printed has one order.
const logTypes: readonly LogType[] = [
  'error',
  'warning',
  'notice',
  'information',
  'debug',
  'subscribe',
  'unsubscribe',
  'internal',
  'websockets'
]

function settleLog(global: Settings, format: LogConfig['format'], verbosity: Verbosity = 'configured'): LogConfig {
  const timestampFormat = global.text('log_timestamp_format')
  const facility = global.number('log_facility')
  return {
    destinations: settleLogDestinations(global),
    types: settleLogTypes(global, verbosity),
    timestamp: global.boolean('log_timestamp') ?? true,
    ...(timestampFormat !== undefined && { timestampFormat }),
    ...(facility !== undefined && { facility }),
    format
  }
}

function settleLogTypes(global: Settings, verbosity: Verbosity): ReadonlySet<LogType> {
  if (verbosity !== 'configured') return new Set(verbosity === 'verbose' ? logTypes : [])
  const lines = global.all('log_type')
  if (lines.length === 0) return new Set(['error', 'warning', 'notice', 'information'])
  let types = new Set<LogType>()
  for (const { value } of lines) {
    if (value === 'none') types = new Set()
    else for (const type of logTypes) if (value === 'all' || value === type) types.add(type)
  }
  return types
}

function settleLogDestinations(global: Settings): readonly LogDestination[] {
  const lines = global.all('log_dest')
  if (lines.length === 0) return [{ kind: 'stderr' }]
  const destinations = new Map<string, LogDestination>()
  for (const { value, at } of lines) {
    const [kind, path] = typeof value === 'object' ? value : []
    if (kind === 'none') destinations.clear()
    else if (kind === 'stderr' || kind === 'stdout' || kind === 'syslog' || kind === 'topic') destinations.set(kind, { kind })
    else if (kind === 'file' && path !== undefined && at) destinations.set(kind, { kind, path, at })
  }
  return [...destinations.values()]
}

function settleStore(setting: ReturnType<Settings['last']>): StoreConfig {
  if (typeof setting?.value !== 'string' || setting.value === 'memory') return { kind: 'memory' }
  return { kind: 'redis', url: setting.value, ...(setting.at && { at: setting.at }) }
}

/** Frozen to the ground; sets cannot be frozen and are ReadonlySet by type. */
function freeze<T>(value: T): T {
  if (typeof value === 'object' && value !== null && !Object.isFrozen(value)) {
    Object.freeze(value)
    Object.values(value).forEach(freeze)
  }
  return value
}
