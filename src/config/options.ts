// Every option of mosquitto.conf as Mosquitto 2.1 knows them, and our own `#!` options: one row each. The parser, the reload, the
// documentation and the tests read this table, so an option that is missing here exists nowhere.

import { withinOneEdit } from '../words.js'

/** Where an option may stand. `security` is global, or per listener after `per_listener_settings true`. */
export type Scope = 'global' | 'listener' | 'security' | 'bridge' | 'plugin'

/** What a line says after the option's name, and what is complained about when it does not. */
export type Argument =
  /** Next word: `true`, `1`, `false` or `0`. */
  | { readonly kind: 'boolean' }
  /** Next word: a number as strtol(3) reads it with base 0. */
  | IntegerArgument
  /** The rest of the line, blanks trimmed. */
  | { readonly kind: 'string'; readonly maxLength?: number }
  | { readonly kind: 'path' }
  /** A string that could be published to: no wildcards. */
  | { readonly kind: 'topic name' }
  /** One of a closed set; the next word, or with `rest` the rest of the line. */
  | {
      readonly kind: 'keyword'
      readonly words: readonly string[]
      readonly rest?: true
      readonly outside?: string
    }
  /** `PORT [ADDRESS or SOCKET PATH]`. */
  | { readonly kind: 'listener' }
  /** A list of 3, 4, 5. */
  | { readonly kind: 'protocol versions' }
  /** A number with a unit: s, h, d, w, m, y. */
  | { readonly kind: 'duration' }
  | { readonly kind: 'log destination' }
  /** The next word, any. */
  | { readonly kind: 'word' }
  /** `NAME PATH`. */
  | { readonly kind: 'name and path' }
  /** `HOST[:PORT]`, several. */
  | { readonly kind: 'bridge addresses' }
  | { readonly kind: 'bridge topic' }
  | { readonly kind: 'tcp keepalive' }
  | { readonly kind: 'restart timeout' }
  /** `memory` or a redis:// address; never shown in a message, since it may hold a password. */
  | { readonly kind: 'store' }
  /** `CERTIFICATE KEY`. */
  | { readonly kind: 'certificate and key' }
  /** `PORT [ADDRESS]`. */
  | { readonly kind: 'port and address' }
  /** Never read. */
  | { readonly kind: 'none' }

export interface IntegerArgument {
  readonly kind: 'integer'
  readonly min?: number
  readonly max?: number
  readonly unit?: 'seconds' | 'minutes' | 'bytes'
  /** A smaller number becomes `min`, with this notice ('' = silently). Absent: it is refused. */
  readonly low?: string
  /** A larger number becomes `max`, with this warning. Absent: it is refused. */
  readonly high?: string
  /** The sentence that refuses a number outside; absent: Mosquitto's usual `Invalid 'x' value (y).` */
  readonly outside?: string
}

/**
 * `otherwise`: honoured, in a way of our own that `doc` tells. `partly`: the documentation says which part. `later`: read, checked, warned
 * about. `meaningless`: has no sense outside Mosquitto's C code.
 */
export type Support = 'honoured' | 'otherwise' | 'partly' | 'later' | 'meaningless'

export interface Option {
  readonly scope: Scope
  readonly argument: Argument
  /** For people: the default as the documentation prints it. */
  readonly default: string
  readonly reload: 'live' | 'restart'
  readonly support: Support
  /** One sentence in our own words. */
  readonly doc: string
  readonly aliases?: readonly string[]
  /**
   * Listener options without a listener above them: `listener` is an error, `own` is an error under the default listener too. Absent:
   * makes the default listener, on port 1883, as Mosquitto does.
   */
  readonly place?: 'listener' | 'own'
  /** The second line of that name in one scope: absent, it replaces the first. */
  readonly again?: 'refused' | 'adds'
  /** The sentence for `again: 'refused'`, where Mosquitto has a special one. */
  readonly twice?: string
  /** The setting it writes, when two options share one. */
  readonly sets?: string
  /** The name that Mosquitto's messages use for it. */
  readonly label?: string
  /** Said once when it is used: what Mosquitto 2.1 says about a deprecated option. */
  readonly deprecated?: string
  /** Cannot be honoured yet, and ignoring it would open the broker wider than the file says: refused, with this advice. */
  readonly unavailable?: string
  /** Its value may be a password: it is shown nowhere. */
  readonly secret?: true
}

/** What of a client certificate may be a username. */
export const identitySources = ['cn', 'subject', 'san:dns', 'san:uri', 'san:email', 'serial', 'fingerprint'] as const

/** What client ids may be bound to. */
export const clientIdForms = ['cn', '*:cn'] as const

const uint16 = 65535
const boolean = { kind: 'boolean' } as const
const string = { kind: 'string' } as const
const path = { kind: 'path' } as const
const word = { kind: 'word' } as const
const number = (rest: Omit<IntegerArgument, 'kind'> = {}): IntegerArgument => ({ kind: 'integer', ...rest })
const keyword = <const Words extends readonly string[]>(...words: Words) => ({ kind: 'keyword', words }) as const
const once = { again: 'refused' } as const
const live = { reload: 'live' } as const
const restart = { reload: 'restart' } as const

const global = { scope: 'global' } as const
const security = { scope: 'security' } as const
const listener = { scope: 'listener' } as const
const bridge = { scope: 'bridge' } as const
const plugin = { scope: 'plugin' } as const

const honoured = { support: 'honoured' } as const
const otherwise = { support: 'otherwise' } as const
const partly = { support: 'partly' } as const
const later = { support: 'later' } as const
const meaningless = { support: 'meaningless' } as const

// biome-ignore format: a table is read by its rows.
export const options = {
  // Listeners
  listener: { ...listener, place: 'own', argument: { kind: 'listener' }, default: 'none: loopback on 1883, anonymous', ...live, ...honoured, again: 'adds', label: 'listener port', doc: 'Opens a port, on one address or all; port 0 with a path opens a Unix socket. What follows belongs to it.' },
  port: { ...listener, argument: number({ min: 1, max: uint16 }), default: '1883', ...live, ...honoured, deprecated: "Please use 'listener' instead.", doc: 'The port of the default listener.' },
  bind_address: { ...listener, argument: string, default: 'all addresses', ...live, ...honoured, ...once, label: 'default listener bind_address', deprecated: "Please use 'listener' instead.", doc: 'The address of the default listener.' },
  bind_interface: { ...listener, argument: string, default: 'none', ...restart, ...later, ...once, unavailable: 'write the address of the interface after the port: listener PORT ADDRESS', doc: 'Listens on one network interface only; refused for now, since all interfaces would be open without it.' },
  socket_domain: { ...listener, argument: { ...keyword('ipv4', 'ipv6'), outside: "Invalid 'socket_domain' value '{value}' in configuration." }, default: 'both', ...live, ...honoured, doc: 'Listens with IPv4 or IPv6 only.' },
  protocol: { ...listener, argument: keyword('mqtt', 'websockets', 'http_api'), default: 'mqtt', ...live, ...partly, doc: 'What is spoken on the listener; `mqtt` only for now: a listener with another stays closed, with a warning.' },
  max_connections: { ...listener, argument: number(), default: '-1 (no limit)', ...live, ...honoured, doc: 'How many clients a listener takes; counted at accept, before TLS.' },
  accept_protocol_versions: { ...listener, place: 'own', argument: { kind: 'protocol versions' }, default: '3, 4, 5', ...live, ...honoured, doc: 'MQTT versions that may connect: 3 is 3.1, 4 is 3.1.1.' },
  max_qos: { ...listener, argument: number({ min: 0, max: 2, outside: "'max_qos' must be between 0 and 2 inclusive." }), aliases: ['maximum_qos'], default: '2', ...live, ...honoured, doc: 'The highest QoS that clients may publish with; a higher one ends the connection.' },
  max_topic_alias: { ...listener, place: 'listener', argument: number({ min: 0, max: uint16, outside: "Invalid 'max_topic_alias' value in configuration." }), default: '10', ...live, ...honoured, doc: 'How many MQTT 5 topic aliases a client may use; 0 forbids them.' },
  max_topic_alias_broker: { ...listener, place: 'listener', argument: number({ min: 0, max: uint16, outside: "Invalid 'max_topic_alias_broker' value in configuration." }), default: '10', ...live, ...honoured, doc: 'How many MQTT 5 topic aliases the broker uses towards a client, at most as many as the client takes.' },
  mount_point: { ...listener, place: 'listener', argument: { kind: 'topic name' }, default: 'none', ...live, ...honoured, doc: 'A prefix of all topics of the listener: its clients neither see it nor reach anything outside.' },
  enable_proxy_protocol: { ...listener, place: 'listener', argument: number({ min: 1, max: 2, outside: 'enable_proxy_protocol must be 1 or 2.' }), default: 'off', ...restart, ...later, unavailable: 'remove the option, or the listener', doc: 'Takes the address of clients from a PROXY header; refused for now.' },
  proxy_protocol_v2_require_tls: { ...listener, place: 'listener', argument: boolean, default: 'false', ...restart, ...later, doc: 'Refuses clients that reached the proxy without TLS; only with `enable_proxy_protocol 2`.' },
  http_dir: { ...listener, place: 'listener', argument: path, default: 'none', ...restart, ...later, ...once, doc: 'Files served on a websockets listener.' },
  websockets_origin: { ...listener, place: 'listener', argument: string, default: 'any', ...live, ...later, again: 'adds', doc: 'An origin that web pages may connect from.' },
  use_username_as_clientid: { ...listener, argument: boolean, default: 'false', ...live, ...honoured, doc: 'The username becomes the client identifier; clients without one are refused.' },

  // TLS
  certfile: { ...listener, argument: path, default: 'none', ...live, ...honoured, doc: 'The broker\'s certificate, PEM, with its chain; with `keyfile` it turns TLS on.' },
  keyfile: { ...listener, argument: path, default: 'none', ...live, ...honoured, doc: 'The private key of `certfile`, PEM, not encrypted.' },
  cafile: { ...listener, place: 'listener', argument: path, default: 'none', ...live, ...honoured, doc: 'The CA certificates that client certificates must lead to, PEM.' },
  capath: { ...listener, argument: path, default: 'none', ...live, ...honoured, doc: 'A folder of CA certificates, as `cafile`.' },
  crlfile: { ...listener, argument: path, default: 'none', ...live, ...honoured, doc: 'Certificate revocation lists, PEM; only with `require_certificate true`.' },
  require_certificate: { ...listener, argument: boolean, default: 'false', ...live, ...honoured, doc: 'Clients must present a certificate that a CA of `cafile` or `capath` signed.' },
  use_identity_as_username: { ...listener, argument: boolean, default: 'false', ...live, ...honoured, doc: 'The first CN of the client certificate, or the identity of its pre-shared key, is the username; the password is not asked for.' },
  use_subject_as_username: { ...listener, argument: boolean, default: 'false', ...live, ...honoured, doc: 'The whole subject of the client certificate is the username (`CN=…,O=…`).' },
  disable_client_cert_date_checks: { ...listener, place: 'listener', argument: boolean, default: 'false', ...live, ...honoured, doc: 'Accepts client certificates that have expired or are not valid yet; the dates of CAs count all the same.' },
  ciphers: { ...listener, argument: string, default: 'OpenSSL\'s list, without the weak ones', ...live, ...honoured, doc: 'Cipher list for TLS 1.2.' },
  'ciphers_tls1.3': { ...listener, argument: string, default: 'OpenSSL\'s list', ...live, ...honoured, doc: 'Cipher suites for TLS 1.3.' },
  tls_version: { ...listener, place: 'listener', argument: { ...keyword('tlsv1.3', 'tlsv1.2', 'tlsv1.1'), rest: true, outside: "Unsupported tls_version '{value}'." }, default: 'tlsv1.2', ...live, ...honoured, ...once, doc: 'The lowest TLS version spoken; TLS 1.1 is never offered.' },
  psk_hint: { ...listener, argument: { kind: 'string', maxLength: 128 }, default: 'none', ...live, ...honoured, ...once, doc: 'TLS 1.2 with the pre-shared keys of `psk_file` instead of certificates; the text itself is a hint to clients.' },
  dhparamfile: { ...listener, argument: { kind: 'none' }, default: '', ...restart, ...meaningless, doc: 'Has no effect in Mosquitto 2.1 either.' },
  tls_engine: { ...listener, argument: string, default: 'none', ...restart, ...meaningless, ...once, doc: 'An OpenSSL engine for the private key.' },
  tls_engine_kpass_sha1: { ...listener, argument: string, default: 'none', ...restart, ...meaningless, secret: true, doc: 'The engine\'s password, hashed.' },
  tls_keyform: { ...listener, argument: string, default: 'pem', ...restart, ...meaningless, doc: 'Whether the key comes from the engine.' },

  // Who may come in, and what they may do
  per_listener_settings: { ...global, argument: boolean, default: 'false', ...live, ...honoured, deprecated: 'Please see the documentation for how to achieve the same effect.', doc: 'The options of this section belong to the listener above them; must come before any of them.' },
  allow_anonymous: { ...security, argument: boolean, default: 'false; true without any listener', ...live, ...honoured, doc: 'Clients without a username may connect.' },
  listener_allow_anonymous: { ...listener, place: 'listener', argument: boolean, default: 'as allow_anonymous', ...live, ...honoured, sets: 'allow_anonymous', doc: '`allow_anonymous` for one listener.' },
  password_file: { ...security, argument: path, default: 'none', ...live, ...honoured, doc: 'Usernames and password hashes, as `mosquitto_passwd` writes them.' },
  acl_file: { ...security, argument: path, default: 'none: all topics', ...live, ...honoured, doc: 'Who may read and write which topics.' },
  psk_file: { ...security, argument: path, default: 'none', ...live, ...honoured, doc: 'The keys of clients for `psk_hint`, `IDENTITY:HEX` a line; has to be readable and right without one too; switches TLS 1.3 off on the listeners that it is for.' },
  allow_zero_length_clientid: { ...security, argument: boolean, default: 'true', ...live, ...honoured, doc: 'MQTT 3.1.1 clients may leave the client identifier to the broker.' },
  auto_id_prefix: { ...security, argument: { kind: 'string', maxLength: 50 }, default: 'auto-', ...live, ...honoured, ...once, deprecated: "Please use 'listener_auto_id_prefix' instead.", doc: 'How client identifiers begin that the broker makes.' },
  listener_auto_id_prefix: { ...listener, place: 'listener', argument: { kind: 'string', maxLength: 50 }, default: 'auto-', ...live, ...honoured, ...once, sets: 'auto_id_prefix', doc: '`auto_id_prefix` for one listener.' },
  clientid_prefixes: { ...global, argument: string, default: 'none', ...live, ...honoured, deprecated: '', doc: 'Only client identifiers that begin so may connect.' },

  // Plugins
  plugin: { ...security, argument: word, aliases: ['auth_plugin'], default: 'none', ...restart, ...partly, again: 'adds', doc: 'Mosquitto\'s own `mosquitto_acl_file.so` and `mosquitto_password_file.so` mean `acl_file` and `password_file`; any other is refused, we run no C plugins.' },
  global_plugin: { ...global, argument: word, default: 'none', ...restart, ...partly, again: 'adds', doc: 'As `plugin`, for all listeners.' },
  plugin_load: { ...global, argument: { kind: 'name and path' }, default: 'none', ...restart, ...partly, again: 'adds', doc: 'As `plugin`, with a name for `plugin_use`.' },
  plugin_use: { ...listener, place: 'own', argument: string, default: 'none', ...restart, ...partly, again: 'adds', doc: 'Uses a loaded plugin for one listener.' },
  'plugin_opt_*': { ...plugin, argument: string, aliases: ['auth_opt_*'], default: 'none', ...restart, ...partly, secret: true, again: 'adds', label: 'plugin_opt_', doc: 'An option of the plugin above: `plugin_opt_acl_file`, `plugin_opt_password_file`.' },
  auth_plugin_deny_special_chars: { ...plugin, argument: boolean, default: 'true', ...restart, ...meaningless, doc: 'Refuses usernames and client identifiers with `+`, `#`, `/` before a plugin is asked.' },

  // Limits
  global_max_connections: { ...global, argument: number(), default: '-1 (no limit)', ...live, ...honoured, doc: 'How many clients all listeners together take.' },
  global_max_clients: { ...global, argument: number(), default: '-1 (no limit)', ...live, ...honoured, doc: 'How many sessions there may be, connected or not; one more is refused.' },
  max_packet_size: { ...global, argument: number({ min: 20, unit: 'bytes', outside: "'max_packet_size' must be >= 20." }), default: '2000000', ...live, ...honoured, doc: 'A larger packet ends its connection; announced to MQTT 5 clients.' },
  message_size_limit: { ...global, argument: number({ min: 0, max: 268435455, unit: 'bytes' }), default: '0 (no limit)', ...live, ...honoured, doc: 'A larger payload is acknowledged and dropped.' },
  max_keepalive: { ...global, argument: number({ min: 0, max: uint16, unit: 'seconds' }), default: '0 (no limit)', ...live, ...honoured, doc: 'The longest keep alive a client may ask for.' },
  max_inflight_messages: { ...global, argument: number({ min: 0, low: '', max: uint16, outside: "'max_inflight_messages' must be <= 65535." }), default: '20', ...live, ...honoured, doc: 'QoS 1 and 2 messages sent to a client and not yet acknowledged, at most; an MQTT 5 client may ask for fewer and is held to the same number. 0 is no limit.' },
  max_inflight_bytes: { ...global, argument: number({ min: 0, low: '', unit: 'bytes' }), default: '0 (no limit)', ...live, ...honoured, doc: 'The same for the payloads in bytes.' },
  max_queued_messages: { ...global, argument: number({ min: 0, low: '' }), default: '1000', ...live, ...honoured, doc: 'QoS 1 and 2 messages that wait for a client beyond those under way; more are dropped. 0 is no limit.' },
  max_queued_bytes: { ...global, argument: number({ min: 0, low: '', unit: 'bytes' }), default: '0 (no limit)', ...live, ...honoured, doc: 'The same for the payloads in bytes; with both, the smaller counts.' },
  memory_limit: { ...global, argument: number({ min: 0, max: Number.MAX_SAFE_INTEGER, unit: 'bytes' }), default: '0 (no limit)', ...live, ...later, doc: 'Memory the broker may take.' },
  // What is for one connection in one turn leaves in one write anyway. Waiting for the peer's acknowledgement on top of that costs 40 ms
  // where a ticket and CONNACK follow one another, and spares us nothing.
  set_tcp_nodelay: { ...global, argument: boolean, default: 'true', ...live, ...otherwise, doc: 'Sends small packets at once: on by default, unlike in Mosquitto, as the packets of a moment leave together anyway.' },
  packet_buffer_size: { ...global, argument: number({ min: 0, max: uint16, unit: 'bytes', outside: 'Packet buffer size must be between 0 and 65535 inclusive.' }), aliases: ['websockets_headers_size'], default: '4096', ...live, ...meaningless, doc: 'Size of a buffer inside Mosquitto.' },

  // Messages and sessions
  allow_duplicate_messages: { ...global, argument: boolean, default: 'true', ...live, ...honoured, deprecated: 'The behaviour will default to true.', doc: 'A message that matches several subscriptions of a client comes once for each; `false`: once, except to MQTT 5 clients.' },
  check_retain_source: { ...global, argument: boolean, default: 'true', ...live, ...honoured, doc: 'A retained message is sent only while its publisher may still write to its topic.' },
  queue_qos0_messages: { ...global, argument: boolean, default: 'false', ...live, ...honoured, doc: 'Keeps QoS 0 messages too for a client that is away and has a session.' },
  upgrade_outgoing_qos: { ...global, argument: boolean, default: 'false', ...live, ...honoured, doc: 'Sends with the QoS of the subscription, even when the message was published with a lower one.' },
  retain_available: { ...global, argument: boolean, default: 'true', ...live, ...honoured, doc: 'Clients may publish retained messages; `false`: one that does is disconnected.' },
  retain_expiry_interval: { ...global, argument: number({ min: 1, max: 10000000, unit: 'minutes', outside: 'retain_expiry_interval must be >= 1.', high: 'retain_expiry_interval being capped at 19 years.' }), default: 'never', ...live, ...honoured, doc: 'How long a retained message is kept.' },
  persistent_client_expiration: { ...global, argument: { kind: 'duration' }, default: 'never', ...live, ...honoured, doc: 'How long the session of a client that is away is kept, from when it left; an MQTT 5 client may ask for less.' },
  sys_interval: { ...global, argument: number({ min: 0, max: uint16, unit: 'seconds' }), default: '10', ...live, ...honoured, doc: 'How often `$SYS` is published; 0: never.' },
  enable_control_api: { ...global, argument: boolean, default: 'false', ...live, ...later, doc: 'Answers on `$CONTROL/broker/v1`.' },
  retry_interval: { ...global, argument: { kind: 'none' }, default: '', ...restart, ...meaningless, doc: 'Has no effect in Mosquitto 2.1 either.' },

  // Persistence
  persistence: { ...global, argument: boolean, aliases: ['retained_persistence'], default: 'false', ...restart, ...otherwise, doc: 'Keeps sessions, queued and retained messages on disk, in a store of its own beside `persistence_file`; `#!store` names another place.' },
  persistence_file: { ...global, argument: path, default: 'mosquitto.db', ...restart, ...otherwise, ...once, doc: 'Name of the database in Mosquitto\'s format: read at start when it is newer than the store, and written for the way back; the store is the folder of that name with `.mosquitero` behind it.' },
  persistence_location: { ...global, argument: path, default: 'working directory', ...restart, ...honoured, ...once, doc: 'Folder of the store and of `persistence_file`; it must be there. Environment: `MOSQUITTO_PERSISTENCE_LOCATION`.' },
  autosave_interval: { ...global, argument: number({ min: 0, low: '', unit: 'seconds' }), default: '1800', ...live, ...otherwise, doc: 'How often `persistence_file` is written; 0: only at SIGUSR1 and at the end. The store itself needs none of it.' },
  autosave_on_changes: { ...global, argument: boolean, default: 'false', ...live, ...honoured, doc: '`autosave_interval` counts changes, not seconds.' },

  // The process and its log
  user: { ...global, argument: string, default: 'mosquitto, else nobody', ...restart, ...honoured, doc: 'The account to change to when started as root.' },
  pid_file: { ...global, argument: path, default: 'none', ...restart, ...honoured, ...once, doc: 'Where the process id is written.' },
  include_dir: { ...global, argument: path, default: 'none', ...live, ...honoured, again: 'adds', doc: 'Reads the `.conf` files of a folder here; only in the main file.' },
  connection_messages: { ...global, argument: boolean, default: 'true', ...live, ...honoured, doc: 'Logs clients that come and go.' },
  log_dest: { ...global, argument: { kind: 'log destination' }, default: 'stderr', ...live, ...partly, again: 'adds', doc: '`none`, `stdout`, `stderr`, `syslog`, `topic`, `file PATH`; several lines add up. `dlt` is not supported, and is passed over: alone it leaves stderr.' },
  log_type: { ...global, argument: keyword('none', 'information', 'notice', 'warning', 'error', 'debug', 'subscribe', 'unsubscribe', 'internal', 'websockets', 'all'), default: 'error, warning, notice, information', ...live, ...honoured, again: 'adds', doc: 'What is logged; several lines add up, `none` and `all` replace.' },
  log_timestamp: { ...global, argument: boolean, default: 'true', ...live, ...honoured, doc: 'Log lines begin with the time.' },
  log_timestamp_format: { ...global, argument: string, default: 'seconds since 1970', ...live, ...honoured, ...once, doc: 'The time in the form of strftime.' },
  log_facility: { ...global, argument: number({ min: 0, max: 7 }), default: 'daemon', ...live, ...honoured, doc: 'The syslog facility: local0 to local7.' },
  websockets_log_level: { ...global, argument: number(), default: '0', ...live, ...meaningless, doc: 'Log level of a C library.' },

  // Bridges
  connection: { ...bridge, argument: word, default: '', ...live, ...later, again: 'adds', doc: 'Begins a bridge to another broker. What follows belongs to it.' },
  address: { ...bridge, argument: { kind: 'bridge addresses' }, aliases: ['addresses'], default: 'port 1883', ...live, ...later, ...once, twice: "Invalid bridge configuration, 'address' only allowed once.", doc: 'The other broker; several are tried in turn.' },
  topic: { ...bridge, argument: { kind: 'bridge topic' }, default: 'out 0', ...live, ...later, again: 'adds', doc: '`PATTERN [out, in, both] [QoS] [local prefix] [remote prefix]`' },
  remote_clientid: { ...bridge, argument: string, aliases: ['clientid'], default: 'host name and connection', ...live, ...later, ...once, label: 'bridge remote clientid', doc: 'Client identifier at the other broker.' },
  remote_username: { ...bridge, argument: string, aliases: ['username'], default: 'none', ...live, ...later, ...once, label: 'bridge remote_username', doc: 'Username at the other broker.' },
  remote_password: { ...bridge, argument: string, aliases: ['password'], default: 'none', ...live, ...later, secret: true, ...once, label: 'bridge remote_password', doc: 'Password at the other broker.' },
  local_clientid: { ...bridge, argument: string, default: 'local. and the remote one', ...live, ...later, ...once, label: 'bridge local clientid', doc: 'Client identifier here.' },
  local_username: { ...bridge, argument: string, default: 'none', ...live, ...later, ...once, label: 'bridge local_username', doc: 'Username here.' },
  local_password: { ...bridge, argument: string, default: 'none', ...live, ...later, secret: true, ...once, label: 'bridge local_password', doc: 'Password here.' },
  cleansession: { ...bridge, argument: boolean, default: 'false', ...live, ...later, doc: 'Begins without the old session at the other broker.' },
  local_cleansession: { ...bridge, argument: boolean, default: 'as cleansession', ...live, ...later, doc: 'The same here.' },
  keepalive_interval: { ...bridge, argument: number({ min: 5, max: uint16, unit: 'seconds', low: 'keepalive interval too low, using 5 seconds.', outside: 'Bridge keepalive value too high.' }), default: '60', ...live, ...later, doc: 'Keep alive of the bridge.' },
  start_type: { ...bridge, argument: { ...keyword('automatic', 'lazy', 'once'), outside: "Invalid 'start_type' value in configuration ({value})." }, default: 'automatic', ...live, ...later, doc: 'When the bridge connects.' },
  idle_timeout: { ...bridge, argument: number({ min: 1, unit: 'seconds', low: 'idle_timeout interval too low, using 1 second.' }), default: '60', ...live, ...later, doc: 'A lazy bridge ends after this silence.' },
  threshold: { ...bridge, argument: number({ min: 1, low: 'threshold too low, using 1 message.' }), default: '10', ...live, ...later, doc: 'A lazy bridge starts with this many messages.' },
  restart_timeout: { ...bridge, argument: { kind: 'restart timeout' }, default: '5 to 30 seconds', ...live, ...later, doc: 'How long the bridge waits before it connects again.' },
  round_robin: { ...bridge, argument: boolean, default: 'false', ...live, ...later, doc: 'All addresses are equal; else the first is the main one.' },
  try_private: { ...bridge, argument: boolean, default: 'true', ...live, ...later, doc: 'Tells the other broker that this is a bridge.' },
  notifications: { ...bridge, argument: boolean, default: 'true', ...live, ...later, doc: 'Publishes whether the bridge is connected.' },
  notifications_local_only: { ...bridge, argument: boolean, default: 'false', ...live, ...later, doc: 'The same, here only.' },
  notification_topic: { ...bridge, argument: string, default: '$SYS/broker/connection/ID/state', ...live, ...later, ...once, doc: 'Where that is published.' },
  bridge_protocol_version: { ...bridge, argument: { ...keyword('mqttv31', 'mqttv311', 'mqttv50'), rest: true }, default: 'mqttv311', ...live, ...later, doc: 'MQTT version of the bridge.' },
  bridge_attempt_unsubscribe: { ...bridge, argument: boolean, default: 'true', ...live, ...later, doc: 'Ends old subscriptions of outgoing topics.' },
  bridge_bind_address: { ...bridge, argument: string, default: 'any', ...live, ...later, ...once, doc: 'The address the bridge connects from.' },
  bridge_max_packet_size: { ...bridge, argument: number({ min: 0, low: '', unit: 'bytes' }), default: '0 (no limit)', ...live, ...later, doc: 'Largest packet over the bridge.' },
  bridge_max_topic_alias: { ...bridge, argument: number({ min: 0, max: uint16, outside: 'bridge_max_topic_alias must be > 0 and <= 65535.' }), default: '10', ...live, ...later, doc: 'MQTT 5 topic aliases over the bridge.' },
  bridge_outgoing_retain: { ...bridge, argument: boolean, default: 'true', ...live, ...later, doc: 'Keeps the retain flag on the way out.' },
  bridge_receive_maximum: { ...bridge, argument: number({ min: 1, max: uint16, outside: 'bridge_receive_maximum must be greater than 0 and lower than 65536.' }), default: 'as max_inflight_messages', ...live, ...later, doc: 'MQTT 5 Receive Maximum of the bridge.' },
  bridge_session_expiry_interval: { ...bridge, argument: number({ min: 0, unit: 'seconds', outside: 'bridge_session_expiry_interval must not be negative.' }), default: '0', ...live, ...later, doc: 'MQTT 5 session expiry of the bridge.' },
  bridge_reload_type: { ...bridge, argument: { ...keyword('lazy', 'immediate'), outside: "Invalid 'bridge_reload_type' value in configuration ({value})." }, default: 'lazy', ...live, ...later, doc: 'Whether a reload makes the bridge connect again at once.' },
  bridge_tcp_keepalive: { ...bridge, argument: { kind: 'tcp keepalive' }, default: 'off', ...live, ...later, doc: '`IDLE INTERVAL COUNT` of TCP keepalive.' },
  bridge_tcp_user_timeout: { ...bridge, argument: number({ min: 0, outside: 'invalid TCP user timeout value.' }), default: 'off', ...live, ...later, doc: 'TCP user timeout in milliseconds.' },
  bridge_cafile: { ...bridge, argument: path, default: 'none', ...live, ...later, ...once, doc: 'CA certificates of the other broker.' },
  bridge_capath: { ...bridge, argument: path, default: 'none', ...live, ...later, ...once, doc: 'A folder of them.' },
  bridge_certfile: { ...bridge, argument: path, default: 'none', ...live, ...later, ...once, doc: 'The bridge\'s certificate.' },
  bridge_keyfile: { ...bridge, argument: path, default: 'none', ...live, ...later, doc: 'Its key.' },
  bridge_tls_use_os_certs: { ...bridge, argument: boolean, default: 'false', ...live, ...later, doc: 'Trusts the CA certificates of the system.' },
  bridge_insecure: { ...bridge, argument: boolean, default: 'false', ...live, ...later, doc: 'Does not compare the name in the other broker\'s certificate.' },
  bridge_alpn: { ...bridge, argument: string, default: 'none', ...live, ...later, ...once, doc: 'ALPN protocol of the bridge.' },
  bridge_ciphers: { ...bridge, argument: string, default: 'OpenSSL\'s list', ...live, ...later, ...once, doc: 'Cipher list for TLS 1.2.' },
  'bridge_ciphers_tls1.3': { ...bridge, argument: string, default: 'OpenSSL\'s list', ...live, ...later, ...once, doc: 'Cipher suites for TLS 1.3.' },
  bridge_tls_version: { ...bridge, argument: string, default: 'tlsv1.2', ...live, ...later, ...once, doc: 'TLS version of the bridge.' },
  bridge_require_ocsp: { ...bridge, argument: boolean, default: 'false', ...live, ...later, doc: 'The other broker must staple an OCSP answer.' },
  bridge_identity: { ...bridge, argument: string, default: 'none', ...live, ...later, ...once, doc: 'Identity for a pre-shared key.' },
  bridge_psk: { ...bridge, argument: string, default: 'none', ...live, ...later, secret: true, ...once, doc: 'The pre-shared key.' }
} as const satisfies Record<string, Option>

// biome-ignore format: a table is read by its rows.
export const ownOptions = {
  log_format: { ...global, argument: keyword('mosquitto', 'json'), default: 'mosquitto', ...live, ...honoured, ...once, doc: 'Log lines as Mosquitto writes them, or one JSON object per line.' },
  store: { ...global, argument: { kind: 'store' }, default: 'memory, or disk with persistence true', ...restart, ...honoured, ...once, doc: 'Where sessions and retained messages live: `memory`, or `redis://HOST:PORT/DB` (`rediss://` over TLS).' },
  acknowledge: { ...global, argument: keyword('stored', 'received'), default: 'stored', ...restart, ...honoured, ...once, doc: 'When QoS 1 and 2 are acknowledged: once what is to be kept is safe in the store, or as soon as it is received, as Mosquitto does.' },
  watch_files: { ...global, argument: boolean, default: 'false', ...live, ...honoured, ...once, doc: 'Files that the configuration names, and the configuration itself, are read again when they change, as at SIGHUP.' },
  identity_source: { ...listener, place: 'listener', argument: keyword(...identitySources), default: 'cn', ...live, ...honoured, ...once, doc: 'What of the client certificate is the username under `use_identity_as_username`: its first CN, the whole subject, the first subjectAltName of a kind, its serial number (upper-case hex) or its SHA-256 fingerprint (lower-case hex).' },
  clientid_must_match: { ...listener, place: 'listener', argument: keyword(...clientIdForms), default: 'none: any client id', ...live, ...honoured, ...once, doc: 'Client ids that don\'t belong to the certificate are refused: `cn` wants its common name, `*:cn` a tenant before it, as `admin:f60c28`. `%{c:1}` and `%{c:2}` in `#!pattern` lines are the parts.' },
  admin_socket: { ...global, argument: path, default: 'beside pid_file, else in the persistence folder, else none', ...restart, ...honoured, ...once, doc: 'The Unix socket, for its owner alone, that `mosquitero clients`, `kick`, `queue` and their like ask the running broker by; `none`: there is none.' },
  acl_shadow: { ...global, argument: path, default: 'none', ...live, ...honoured, ...once, doc: 'Another ACL file, asked beside each listener\'s own to no effect: what it would have denied, or allowed, is said in the log and counted.' },
  enrolment_ca: { ...global, argument: { kind: 'certificate and key' }, default: 'none', ...live, ...honoured, ...once, doc: 'The CA that signs for this broker: the paths of its certificate and its key, without blanks in them. A key under a passphrase is opened with `MOSQUITERO_CA_PASSPHRASE`.' },
  enrolment_listener: { ...global, argument: { kind: 'port and address' }, default: 'none', ...live, ...honoured, ...once, doc: 'Opens HTTPS for devices that fetch their certificates by EST, signed by the CA of `#!enrolment_ca`; on one address or all, with the certificate of the first listener with TLS.' },
  tls_dns_list: { ...global, argument: string, default: 'none', ...live, ...honoured, ...once, doc: 'Host names and addresses, with commas between. With `#!enrolment_ca` the broker makes its certificate for them by itself, in `certs/broker` of the persistence folder, and makes it anew before it ends: for every listener without `certfile`, but for Unix sockets and, unless it has other TLS options, port 1883.' },
  acl_subscribe_check: { ...global, argument: keyword('strict', 'warn', 'off'), default: 'warn', ...live, ...honoured, ...once, doc: 'What becomes of a subscription when the ACL lets nothing through that its filter matches: `strict` refuses it (0x80, for MQTT 5 0x87 with a reason), `warn` grants it as Mosquitto does and says so in the log, `off` says nothing.' },
  crl_check: { ...global, argument: keyword('leaf', 'chain'), default: 'leaf', ...live, ...honoured, ...once, doc: 'Which certificates are looked up in `crlfile`: the client\'s own, as Mosquitto does, or the CAs between it and the root as well.' },
  crl_expired: { ...global, argument: keyword('refuse', 'warn'), default: 'refuse', ...live, ...honoured, ...once, doc: 'What becomes of the clients of a CA whose list in `crlfile` is past its date: `refuse` lets none in, as Mosquitto; `warn` refuses those that the list names, and says every day that it is old.' },
  revocation: { ...global, argument: keyword('now', 'next_handshake'), default: 'now', ...live, ...honoured, ...once, doc: 'When a connected client has to go whose certificate is revoked, has expired or has lost its CA: at once, or, as with Mosquitto, it is not let in again.' },
  expiry_warning: { ...global, argument: number({ min: 0, max: 3650 }), default: '30', ...live, ...honoured, ...once, doc: 'So many days before they expire, certificates, CAs and revocation lists, and connected clients, are named in the log at start and once a day; 0: never.' },
  password_file_lines: { ...global, argument: keyword('strict', 'lenient'), default: 'strict', ...live, ...honoured, ...once, doc: 'A bad line in a password file stops the start as in Mosquitto 2.1, or is skipped as in 2.0.' }
} as const satisfies Record<string, Option>

export type OwnOptionName = keyof typeof ownOptions

/** The table behind a scope name, for lookups by what a person wrote: a Map, so that `constructor` is just an unknown option. */
function byName(table: Readonly<Record<string, Option>>): ReadonlyMap<string, readonly [name: string, option: Option]> {
  const names = new Map<string, readonly [string, Option]>()
  for (const [name, option] of Object.entries(table)) {
    for (const written of [name, ...(option.aliases ?? [])]) names.set(written, [name, option])
  }
  return names
}

const optionsByName = byName(options)
const ownOptionsByName = byName(ownOptions)
const pluginOption = /^(?:plugin|auth)_opt_/

/** The option that a line names, under its main name; undefined when there is none. */
export function findOption(written: string): readonly [name: string, option: Option] | undefined {
  return optionsByName.get(written) ?? (pluginOption.test(written) ? optionsByName.get('plugin_opt_*') : undefined)
}

/** The `#!` option of that name. */
export function findOwnOption(written: string): readonly [name: string, option: Option] | undefined {
  return ownOptionsByName.get(written)
}

/** The environment variable of one of our own options. */
export function environmentName(name: string): string {
  return `MOSQUITERO_${name.toUpperCase()}`
}

/** The own option that a slip of one letter, a wrong case, a blank before it or another one than a space behind it hides; undefined when nothing is near. */
export function nearOwnOption(written: string): string | undefined {
  const [name = ''] = written
    .trim()
    .toLowerCase()
    .split(/[\s:=]/, 1)
  return [...ownOptionsByName.keys()].find(known => withinOneEdit(name, known))
}
