// Which options have another value in one configuration than in another, by the names that people write.

import { basename, dirname } from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import type { Config, ListenerConfig, LogDestination, NamedFile } from './types.js'

type Getters<T> = Readonly<Record<string, (config: T) => unknown>>

/** The path alone: another line of the configuration is no change. */
const pathOf = (setting: NamedFile | undefined): string | undefined => setting?.path
const textOf = (setting: { readonly value: string } | undefined): string | undefined => setting?.value
const placeOf = (destination: LogDestination): string =>
  destination.kind === 'file' ? `${destination.kind} ${destination.path}` : destination.kind

const globalOptions: Getters<Config> = {
  per_listener_settings: config => config.perListenerSettings,
  clientid_prefixes: config => config.clientIdPrefixes,
  global_max_connections: ({ limits }) => limits.globalMaxConnections,
  global_max_clients: ({ limits }) => limits.globalMaxClients,
  max_packet_size: ({ limits }) => limits.maxPacketSize,
  message_size_limit: ({ limits }) => limits.messageSizeLimit,
  max_keepalive: ({ limits }) => limits.maxKeepalive,
  max_inflight_messages: ({ limits }) => limits.maxInflightMessages,
  max_inflight_bytes: ({ limits }) => limits.maxInflightBytes,
  max_queued_messages: ({ limits }) => limits.maxQueuedMessages,
  max_queued_bytes: ({ limits }) => limits.maxQueuedBytes,
  set_tcp_nodelay: config => config.setTcpNodelay,
  allow_duplicate_messages: ({ delivery }) => delivery.allowDuplicateMessages,
  check_retain_source: ({ delivery }) => delivery.checkRetainSource,
  queue_qos0_messages: ({ delivery }) => delivery.queueQos0Messages,
  upgrade_outgoing_qos: ({ delivery }) => delivery.upgradeOutgoingQos,
  retain_available: ({ delivery }) => delivery.retainAvailable,
  retain_expiry_interval: ({ delivery }) => delivery.retainExpiryInterval,
  persistent_client_expiration: ({ delivery }) => delivery.persistentClientExpiration,
  sys_interval: ({ delivery }) => delivery.sysInterval,
  persistence: ({ store }) => store.kind === 'disk',
  persistence_location: ({ store }) => (store.kind === 'disk' ? dirname(store.file) : undefined),
  persistence_file: ({ store }) => (store.kind === 'disk' ? basename(store.file) : undefined),
  autosave_interval: ({ autosave }) => autosave.interval,
  autosave_on_changes: ({ autosave }) => autosave.onChanges,
  user: config => config.user?.name,
  pid_file: config => pathOf(config.pidFile),
  connection_messages: config => config.connectionMessages,
  log_dest: ({ log }) => log.destinations.map(placeOf),
  log_type: ({ log }) => log.types,
  log_timestamp: ({ log }) => log.timestamp,
  log_timestamp_format: ({ log }) => log.timestampFormat,
  log_facility: ({ log }) => log.facility,
  '#!log_format': ({ log }) => log.format,
  '#!store': ({ store }) => (store.kind === 'redis' ? store.url : undefined),
  '#!acknowledge': ({ delivery }) => delivery.acknowledge,
  '#!admin_socket': config => config.adminSocket.written,
  '#!watch_files': config => config.watchFiles,
  '#!expiry_warning': config => config.expiryWarning,
  '#!acl_shadow': config => pathOf(config.aclShadow),
  '#!enrolment_ca': ({ enrolmentCa: ca }) => ca && [ca.certificate, ca.key],
  '#!enrolment_listener': ({ enrolment }) => enrolment && [enrolment.port, enrolment.host],
  '#!tls_dns_list': config => config.ownCertificate?.names,
  '#!acl_subscribe_check': ({ delivery }) => delivery.aclSubscribeCheck,
  '#!password_file_lines': config => config.passwordFileLines
}

// But its port and address, which make it another one.
const listenerOptions: Getters<ListenerConfig> = {
  max_connections: listener => listener.maxConnections,
  accept_protocol_versions: listener => listener.acceptProtocolVersions,
  max_qos: listener => listener.maxQos,
  max_topic_alias: listener => listener.maxTopicAlias,
  max_topic_alias_broker: listener => listener.maxTopicAliasBroker,
  mount_point: listener => listener.mountPoint,
  use_username_as_clientid: listener => listener.useUsernameAsClientId,
  certfile: ({ tls }) => pathOf(tls?.certfile),
  keyfile: ({ tls }) => pathOf(tls?.keyfile),
  cafile: ({ tls }) => pathOf(tls?.cafile),
  capath: ({ tls }) => pathOf(tls?.capath),
  crlfile: ({ tls }) => pathOf(tls?.crlfile),
  require_certificate: ({ tls }) => tls?.requireCertificate ?? false,
  disable_client_cert_date_checks: ({ tls }) => tls?.peers.forgivesDates,
  '#!revocation': ({ tls }) => tls?.peers.sparesConnected,
  '#!crl_check': ({ tls }) => tls?.peers.checksAuthorities,
  '#!crl_expired': ({ tls }) => tls?.peers.forgivesExpiredLists,
  use_identity_as_username: ({ username }) => username !== 'from-connect' && username !== 'from-subject',
  use_subject_as_username: ({ username }) => username === 'from-subject',
  // The three that Mosquitto knows are told by its own options.
  psk_hint: ({ psk }) => psk?.hint,
  psk_file: ({ security }) => pathOf(security.pskFile),
  '#!identity_source': ({ username }) => (/^from-(connect|common-name|subject)$/.test(username) ? undefined : username),
  '#!clientid_must_match': listener => listener.clientIdMustMatch,
  ciphers: ({ tls, psk }) => textOf(tls?.ciphers ?? psk?.ciphers),
  'ciphers_tls1.3': ({ tls }) => textOf(tls?.ciphersTls13),
  tls_version: ({ tls }) => tls?.minVersion,
  allow_anonymous: ({ security }) => security.allowAnonymous,
  password_file: ({ security }) => pathOf(security.passwordFile),
  acl_file: ({ security }) => pathOf(security.aclFile),
  allow_zero_length_clientid: ({ security }) => security.allowZeroLengthClientId,
  auto_id_prefix: ({ security }) => security.autoIdPrefix
}

/** Every option that the two functions below can name. */
export const comparedOptions: readonly string[] = [...Object.keys(globalOptions), ...Object.keys(listenerOptions)]

/** Of the whole broker. */
export function changedGlobalOptions(before: Config, after: Config): readonly string[] {
  const names = changed(globalOptions, before, after)
  // Where the place on disk is all that comes or goes with it.
  return names.includes('persistence') ? names.filter(name => !/^persistence_/.test(name)) : names
}

/** Of one listener; those of the security section are told here, whatever `per_listener_settings` says. */
export function changedListenerOptions(before: ListenerConfig, after: ListenerConfig): readonly string[] {
  return changed(listenerOptions, before, after)
}

function changed<T>(getters: Getters<T>, before: T, after: T): string[] {
  return Object.entries(getters).flatMap(([name, get]) => (isDeepStrictEqual(get(before), get(after)) ? [] : [name]))
}
