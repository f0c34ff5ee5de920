// Text, command line and environment → Config: defaults and scopes settled, combinations checked. Reports everything that is wrong.

import { join } from 'node:path'
import type { Problem } from '../errors.js'
import { durationSeconds } from './argument.js'
import { checkDraft, inOrder, speaksMqtt, warn } from './check.js'
import { type Draft, type ListenerDraft, readDraft } from './draft.js'
import { readEnvironment } from './environment.js'
import type { ConfigFile } from './include.js'
import { judgeLines, type OptionLine } from './lines.js'
import type { ConfigObject } from './object.js'
import { clientIdForms, environmentName, identitySources, type OwnOptionName } from './options.js'
import { giveOwnCertificate, settleAuthority, settleEnrolment, settleOwnCertificate } from './own-certificate.js'
import { type Setting, Settings } from './settings.js'
import type {
  AdminSocketConfig,
  Bind,
  Config,
  DeliveryConfig,
  EnrolmentConfig,
  FileSetting,
  LimitsConfig,
  ListenerConfig,
  LogConfig,
  LogDestination,
  LogType,
  OwnCertificateConfig,
  PskConfig,
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
  /** Instead of a file. */
  readonly object?: ConfigObject | undefined
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
  /** What became of every line, and of the environment. */
  readonly lines: readonly OptionLine[]
}

/** Builds the configuration. Opens nothing and never throws on what a person wrote. */
export function buildConfig(input: ConfigInput): ConfigResult {
  const draft = readDraft(input.main, input.object)
  const checks: Problem[] = []
  const environment = readEnvironment(input.env ?? {}, checks)
  const localOnly = !draft.listeners.some(opensPort)
  const own = ownCertificate(draft, environment, input.env ?? {}, checks)
  if (own) giveOwnCertificate(own, localOnly ? [] : draft.listeners, checks)
  const enrolment = enrolmentOf(draft, environment, checks)
  checkDraft(draft, localOnly, checks)
  const listeners = localOnly
    ? localListeners(draft, input.ports ?? [])
    : draft.listeners.filter(speaksMqtt).map(listener => settleListener(listener, draft, environment, checks))
  warnOfIdleVariables(environment, listeners, checks)
  const problems = [...draft.problems, ...inOrder(checks)]
  const isRefused = problems.some(({ severity }) => severity === 'error')
  const config = isRefused ? undefined : freeze(settle(draft, environment, listeners, localOnly, { own, enrolment }, input))
  const lines = judgeLines({ draft, config, localOnly, environment, env: input.env ?? {}, problems })
  return { ...(config && { config }), problems, lines }
}

/** Where a broker of this configuration is asked, also when it has errors: whoever runs may have been started before they were made. */
export function findAdminSocket(input: Pick<ConfigInput, 'main' | 'env'>): AdminSocketConfig {
  const { global, own } = readDraft(input.main)
  const environment = readEnvironment(input.env ?? {}, [])
  const settled = (name: OwnOptionName) => environment.last(name) ?? own.last(name)
  const store = settleStore(settled('store'), global, input.env ?? {})
  return settleAdminSocket(settled('admin_socket'), global.text('pid_file'), store)
}

function ownCertificate(
  { global, own }: Draft,
  environment: Settings,
  env: Readonly<Record<string, string | undefined>>,
  checks: Problem[]
): OwnCertificateConfig | undefined {
  const settled = (name: OwnOptionName) => environment.last(name) ?? own.last(name)
  const list = settled('tls_dns_list')
  const made = settleOwnCertificate(list, settleAuthority(settled('enrolment_ca')), persistenceFolder(global, env))
  if (list && !made) warn(checks, "'#!tls_dns_list' has no effect without '#!enrolment_ca', the CA that signs.", list.at)
  return made
}

function enrolmentOf({ own, listeners }: Draft, environment: Settings, checks: Problem[]): EnrolmentConfig | undefined {
  const settled = (name: OwnOptionName) => environment.last(name) ?? own.last(name)
  return settleEnrolment(settled('enrolment_listener'), settleAuthority(settled('enrolment_ca')), listeners, checks)
}

interface Signed {
  readonly own: OwnCertificateConfig | undefined
  readonly enrolment: EnrolmentConfig | undefined
}

function settle(
  draft: Draft,
  environment: Settings,
  listeners: ListenerConfig[],
  localOnly: boolean,
  { own: ownCertificate, enrolment }: Signed,
  input: ConfigInput
): Config {
  const { global, own } = draft
  const settled = (name: OwnOptionName) => environment.last(name) ?? own.last(name)
  const pidFile = global.file('pid_file')
  const user = global.placed('user')
  const clientIdPrefixes = global.text('clientid_prefixes')
  const shadow = settled('acl_shadow')
  const enrolmentCa = settleAuthority(settled('enrolment_ca'))
  // Nobody takes it where every listener has its own.
  const isTaken = listeners.some(({ tls }) => tls?.certfile.path === ownCertificate?.certificate)
  return {
    ...(input.main && { file: input.main.file }),
    listeners,
    localOnly,
    perListenerSettings: draft.perListenerSettings,
    log: settleLog(global, settled('log_format')?.value === 'json' ? 'json' : 'mosquitto', input.verbosity),
    connectionMessages: global.boolean('connection_messages') ?? true,
    setTcpNodelay: global.boolean('set_tcp_nodelay') ?? true,
    ...(pidFile && { pidFile }),
    ...(user && { user: { name: user.value, at: user.at } }),
    ...(clientIdPrefixes !== undefined && { clientIdPrefixes }),
    passwordFileLines: settled('password_file_lines')?.value === 'lenient' ? 'lenient' : 'strict',
    watchFiles: settled('watch_files')?.value === true,
    expiryWarning: numberOf(settled('expiry_warning')) ?? 30,
    ...(typeof shadow?.value === 'string' && { aclShadow: { path: shadow.value, ...(shadow.at && { at: shadow.at }) } }),
    ...(enrolmentCa && { enrolmentCa }),
    ...(enrolment && { enrolment }),
    ...(ownCertificate && isTaken && { ownCertificate }),
    limits: settleLimits(global),
    delivery: settleDelivery(global, settled),
    store: settleStore(settled('store'), global, input.env ?? {}),
    autosave: { interval: global.number('autosave_interval') ?? 1800, onChanges: global.boolean('autosave_on_changes') ?? false },
    adminSocket: settleAdminSocket(settled('admin_socket'), pidFile?.path, settleStore(settled('store'), global, input.env ?? {}))
  }
}

const numberOf = (setting: Setting | undefined): number | undefined => (typeof setting?.value === 'number' ? setting.value : undefined)

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

function settleDelivery(global: Settings, settled: (name: OwnOptionName) => Setting | undefined): DeliveryConfig {
  const check = settled('acl_subscribe_check')?.value
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
    sysInterval: global.number('sys_interval') ?? 10,
    aclSubscribeCheck: check === 'strict' || check === 'off' ? check : 'warn',
    acknowledge: settled('acknowledge')?.value === 'received' ? 'received' : 'stored'
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

function settleListener({ at, settings }: ListenerDraft, draft: Draft, environment: Settings, checks: Problem[]): ListenerConfig {
  const settled = (name: OwnOptionName) => environment.last(name) ?? draft.own.last(name)
  const tls = settleTls(settings, draft, settled)
  const psk = settlePsk(settings, draft)
  const socketDomain = settings.text('socket_domain')
  const versions = settings.words('accept_protocol_versions')
  const maxQos = settings.number('max_qos')
  const mountPoint = settings.text('mount_point')
  const clientIdMustMatch = settleClientId(settings, tls, environment)
  if (!tls && !psk) warnOfIdleTls(settings, checks)
  return {
    at,
    ...settleAddress(settings),
    ...((socketDomain === 'ipv4' || socketDomain === 'ipv6') && { socketDomain }),
    ...(tls && { tls }),
    ...(psk && { psk }),
    security: settleSecurity(settings, draft, false),
    username: settleUsername(settings, { tls, psk }, environment, checks),
    useUsernameAsClientId: settings.boolean('use_username_as_clientid') ?? false,
    ...(clientIdMustMatch && { clientIdMustMatch }),
    maxConnections: limit(settings.number('max_connections')),
    maxQos: maxQos === 0 || maxQos === 1 ? maxQos : listenerDefaults.maxQos,
    maxTopicAlias: settings.number('max_topic_alias') ?? listenerDefaults.maxTopicAlias,
    maxTopicAliasBroker: settings.number('max_topic_alias_broker') ?? listenerDefaults.maxTopicAliasBroker,
    ...(versions && { acceptProtocolVersions: ([3, 4, 5] as const).filter(version => versions.includes(String(version))) }),
    ...(mountPoint !== undefined && { mountPoint })
  }
}

function settleAddress(settings: Settings): { port: number; bind: Bind } {
  const [written, place, kind] = settings.words('listener') ?? []
  const port = written === undefined ? (settings.number('port') ?? 1883) : Number(written)
  const host = place ?? settings.text('bind_address')
  if (host === undefined) return { port, bind: { kind: 'any' } }
  return { port, bind: port === 0 && kind !== 'host' ? { kind: 'unix', path: host } : { kind: 'host', host } }
}

function settleSecurity(settings: Settings, draft: Draft, localOnly: boolean): SecurityConfig {
  const { global, perListenerSettings } = draft
  const passwordFile = settings.file('password_file') ?? global.file('password_file')
  const aclFile = settings.file('acl_file') ?? global.file('acl_file')
  const pskFile = pskFileOf(settings, draft)
  const globalAnonymous = perListenerSettings ? undefined : global.boolean('allow_anonymous')
  return {
    allowAnonymous: settings.boolean('allow_anonymous') ?? globalAnonymous ?? localOnly,
    ...(passwordFile && { passwordFile }),
    ...(aclFile && { aclFile }),
    ...(pskFile && { pskFile }),
    allowZeroLengthClientId: settings.boolean('allow_zero_length_clientid') ?? global.boolean('allow_zero_length_clientid') ?? true,
    autoIdPrefix: settings.text('auto_id_prefix') ?? global.text('auto_id_prefix') ?? 'auto-'
  }
}

function settleTls(settings: Settings, draft: Draft, settled: (name: OwnOptionName) => Setting | undefined): TlsConfig | undefined {
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
    ...(pskFileOf(settings, draft) && { maxVersion: 'TLSv1.2' }),
    requireCertificate: settings.boolean('require_certificate') ?? false,
    peers: {
      ...(settings.boolean('disable_client_cert_date_checks') && { forgivesDates: true }),
      ...(settled('crl_expired')?.value === 'warn' && { forgivesExpiredLists: true }),
      ...(settled('crl_check')?.value === 'chain' && { checksAuthorities: true }),
      ...(settled('revocation')?.value === 'next_handshake' && { sparesConnected: true })
    }
  }
}

// The file means encryption, and the listener has none.
function warnOfIdleTls(settings: Settings, checks: Problem[]): void {
  for (const name of ['tls_version', 'ciphers', 'ciphers_tls1.3']) if (settings.last(name)) warn(checks, idle(name), settings.at(name))
}

const idle = (name: string): string => `The '${name}' option has no effect without certfile and keyfile.`

const pskFileOf = (settings: Settings, { global }: Draft): FileSetting | undefined => settings.file('psk_file') ?? global.file('psk_file')

function settlePsk(settings: Settings, draft: Draft): PskConfig | undefined {
  const hint = settings.text('psk_hint')
  const file = pskFileOf(settings, draft)
  const ciphers = settings.placed('ciphers')
  return hint === undefined || file === undefined ? undefined : { hint, file, ...(ciphers && { ciphers }) }
}

interface Transport {
  readonly tls: TlsConfig | undefined
  readonly psk: PskConfig | undefined
}

function settleUsername(settings: Settings, { tls, psk }: Transport, environment: Settings, checks: Problem[]): UsernameSource {
  // With both, the identity wins [Mosquitto 2.1].
  const name = ['use_identity_as_username', 'use_subject_as_username'].find(option => settings.boolean(option))
  if (name === undefined) return 'from-connect'
  if (psk) return 'from-psk-identity'
  if (!tls) {
    warn(checks, idle(name), settings.at(name))
    return 'from-connect'
  }
  if (!tls.requireCertificate) {
    const message = `The '${name}' option without 'require_certificate true' refuses every client: no certificate is asked for.`
    warn(checks, message, settings.at(name))
  }
  if (name === 'use_subject_as_username') return 'from-subject'
  const source = environment.text('identity_source') ?? settings.text('identity_source')
  return usernameSources[identitySources.find(known => known === source) ?? 'cn']
}

const usernameSources: Readonly<Record<(typeof identitySources)[number], UsernameSource>> = {
  cn: 'from-common-name',
  subject: 'from-subject',
  'san:dns': 'from-san-dns',
  'san:uri': 'from-san-uri',
  'san:email': 'from-san-email',
  serial: 'from-serial',
  fingerprint: 'from-fingerprint'
}

// A line of the file would have been refused for it.
function warnOfIdleVariables(environment: Settings, listeners: readonly ListenerConfig[], checks: Problem[]): void {
  const isUsed = {
    identity_source: listeners.some(({ username }) => username !== 'from-connect' && username !== 'from-psk-identity'),
    clientid_must_match: listeners.some(({ tls }) => tls?.requireCertificate)
  }
  for (const [name, used] of Object.entries(isUsed)) {
    if (used || !environment.last(name)) continue
    warn(
      checks,
      `The environment variable ${environmentName(name)} has no effect: no listener takes anything from certificates.`,
      undefined
    )
  }
}

// Where no certificate is asked for the environment, which speaks to all listeners, has nothing to say.
function settleClientId(settings: Settings, tls: TlsConfig | undefined, environment: Settings): ListenerConfig['clientIdMustMatch'] {
  const form = (tls?.requireCertificate ? environment.text('clientid_must_match') : undefined) ?? settings.text('clientid_must_match')
  return clientIdForms.find(known => known === form)
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
  // As though it were not there: with nothing else the log goes to stderr, and the warning about it as well.
  const lines = global.all('log_dest').filter(({ value }) => typeof value !== 'object' || value[0] !== 'dlt')
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

function settleStore(
  setting: ReturnType<Settings['last']>,
  global: Settings,
  env: Readonly<Record<string, string | undefined>>
): StoreConfig {
  if (typeof setting?.value === 'string') {
    if (setting.value === 'memory') return { kind: 'memory' }
    return { kind: 'redis', url: setting.value, ...(setting.at && { at: setting.at }) }
  }
  if (global.boolean('persistence') !== true) return { kind: 'memory' }
  const at = global.at('persistence_location') ?? global.at('persistence')
  return { kind: 'disk', file: join(persistenceFolder(global, env), global.text('persistence_file') ?? 'mosquitto.db'), ...(at && { at }) }
}

function persistenceFolder(global: Settings, env: Readonly<Record<string, string | undefined>>): string {
  return env.MOSQUITTO_PERSISTENCE_LOCATION || (global.text('persistence_location') ?? '')
}

// Beside what is the broker's alone and named in its configuration, so that two brokers have two.
function settleAdminSocket(setting: ReturnType<Settings['last']>, pidFile: string | undefined, store: StoreConfig): AdminSocketConfig {
  if (typeof setting?.value === 'string') {
    const at = setting.at && { at: setting.at }
    return { written: setting.value, ...(setting.value !== 'none' && { path: setting.value }), ...at }
  }
  if (pidFile !== undefined) return { path: `${pidFile.replace(/\.pid$/, '')}.admin.sock` }
  return store.kind === 'disk' ? { path: `${store.file}.admin.sock` } : {}
}

/** Frozen to the ground; sets cannot be frozen and are ReadonlySet by type. */
function freeze<T>(value: T): T {
  if (typeof value === 'object' && value !== null && !Object.isFrozen(value)) {
    Object.freeze(value)
    Object.values(value).forEach(freeze)
  }
  return value
}
