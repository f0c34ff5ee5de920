// The configuration as values: what mosquitto.conf says once defaults and scopes are settled. Frozen; shared by everybody who asks.

import type { Location } from '../errors.js'

export type LogType = 'error' | 'warning' | 'notice' | 'information' | 'debug' | 'subscribe' | 'unsubscribe' | 'internal' | 'websockets'

/** `-v` logs everything, `-q` nothing, whatever the configuration says. */
export type Verbosity = 'configured' | 'verbose' | 'quiet'

/** A path as written (relative to the working directory, as Mosquitto's) and the line that names it. */
export interface FileSetting {
  readonly path: string
  readonly at: Location
}

/** One that the environment may name, too. */
export type NamedFile = Pick<FileSetting, 'path'> & Partial<FileSetting>

export type LogDestination =
  | { readonly kind: 'stderr' | 'stdout' | 'syslog' | 'topic' }
  | { readonly kind: 'file'; readonly path: string; readonly at: Location }

export interface LogConfig {
  readonly destinations: readonly LogDestination[]
  readonly types: ReadonlySet<LogType>
  readonly timestamp: boolean
  /** strftime format; absent: seconds since 1970. */
  readonly timestampFormat?: string
  /** 0-7 for local0-local7; absent: daemon. */
  readonly facility?: number
  /** `#!log_format`: Mosquitto's lines, or one JSON object per line with the same events as fields. */
  readonly format: 'mosquitto' | 'json'
}

/** Who may come in and what they may do, settled per listener (global unless `per_listener_settings true`). */
export interface SecurityConfig {
  readonly allowAnonymous: boolean
  readonly passwordFile?: FileSetting
  readonly aclFile?: FileSetting
  /** Read whether or not a `psk_hint` makes use of it [Mosquitto]. */
  readonly pskFile?: FileSetting
  readonly allowZeroLengthClientId: boolean
  readonly autoIdPrefix: string
}

export interface TlsConfig {
  readonly certfile: FileSetting
  readonly keyfile: FileSetting
  readonly cafile?: FileSetting
  readonly capath?: FileSetting
  readonly crlfile?: FileSetting
  /** OpenSSL cipher list for TLS 1.2. */
  readonly ciphers?: { readonly value: string; readonly at: Location }
  /** TLS 1.3 suites. */
  readonly ciphersTls13?: { readonly value: string; readonly at: Location }
  /** `tls_version`: the lowest version spoken. */
  readonly minVersion: 'TLSv1.2' | 'TLSv1.3'
  /** Absent: TLS 1.3. `psk_file` switches that off on every listener that it is for. */
  readonly maxVersion?: 'TLSv1.2'
  readonly requireCertificate: boolean
  readonly peers: PeerRules
}

/** What is forgiven of client certificates and revocation lists, and how far those reach. Empty: as Mosquitto. */
export interface PeerRules {
  /** `disable_client_cert_date_checks`: of the client's own certificate; those of its CAs count. */
  readonly forgivesDates?: true
  /** `#!crl_expired warn`. */
  readonly forgivesExpiredLists?: true
  /** `#!crl_check chain`: the CAs between the client's certificate and the root are looked up too. */
  readonly checksAuthorities?: true
  /** `#!revocation next_handshake`: who is connected stays, whatever becomes of its certificate. */
  readonly sparesConnected?: true
}

/** TLS 1.2 with pre-shared keys instead of certificates. */
export interface PskConfig {
  /** What the broker tells clients, of which most make nothing. */
  readonly hint: string
  readonly file: FileSetting
  readonly ciphers?: { readonly value: string; readonly at: Location }
}

/** A CA's certificate and key. */
export interface AuthorityFiles {
  readonly certificate: string
  readonly key: string
  readonly at?: Location
}

/** `#!enrolment_listener`. */
export interface EnrolmentConfig {
  readonly port: number
  /** Absent: every address of this machine. */
  readonly host?: string
  readonly ca: AuthorityFiles
  readonly at?: Location
}

/** `#!tls_dns_list`. */
export interface OwnCertificateConfig {
  /** Host names and addresses as they are written. */
  readonly names: readonly string[]
  readonly ca: AuthorityFiles
  readonly certificate: string
  readonly key: string
  readonly at?: Location
}

export type Bind =
  /** `0.0.0.0` and `::`. */
  | { readonly kind: 'any' }
  /** `127.0.0.1` and `::1`: local only mode. */
  | { readonly kind: 'loopback' }
  | { readonly kind: 'host'; readonly host: string }
  | { readonly kind: 'unix'; readonly path: string }

/** Where the username of a connection comes from. */
export type UsernameSource =
  | 'from-connect'
  | 'from-common-name'
  | 'from-subject'
  | 'from-san-dns'
  | 'from-san-uri'
  | 'from-san-email'
  | 'from-serial'
  | 'from-fingerprint'
  | 'from-psk-identity'

export interface ListenerConfig {
  /** The `listener` (or `port`) line; absent for the listener of local only mode. */
  readonly at?: Location
  /** 0 for a Unix socket, and in tests for any free port. */
  readonly port: number
  readonly bind: Bind
  readonly socketDomain?: 'ipv4' | 'ipv6'
  readonly tls?: TlsConfig
  /** Never beside `tls`. */
  readonly psk?: PskConfig
  readonly security: SecurityConfig
  readonly username: UsernameSource
  readonly useUsernameAsClientId: boolean
  /** `#!clientid_must_match`: the client id is the common name of the certificate, or has it behind a colon. Absent: it may be any. */
  readonly clientIdMustMatch?: 'cn' | '*:cn'
  /** -1: no limit. Counted when a connection is accepted, before TLS. */
  readonly maxConnections: number
  /** From a client. */
  readonly maxTopicAlias: number
  /** Towards a client. */
  readonly maxTopicAliasBroker: number
  readonly maxQos: 0 | 1 | 2
  readonly acceptProtocolVersions?: readonly (3 | 4 | 5)[]
  /** Stands before every topic of the listener's clients, who never see it. Not empty, no wildcards. */
  readonly mountPoint?: string
}

export interface LimitsConfig {
  /** -1: no limit. */
  readonly globalMaxConnections: number
  /** Sessions, connected or not; -1: no limit. */
  readonly globalMaxClients: number
  // 0: no limit, for all that follow.
  readonly maxInflightMessages: number
  readonly maxInflightBytes: number
  readonly maxQueuedMessages: number
  readonly maxQueuedBytes: number
  readonly maxKeepalive: number
  readonly maxPacketSize: number
  readonly messageSizeLimit: number
}

/** How messages find their way to their receivers. */
export interface DeliveryConfig {
  readonly allowDuplicateMessages: boolean
  readonly checkRetainSource: boolean
  readonly queueQos0Messages: boolean
  readonly upgradeOutgoingQos: boolean
  readonly retainAvailable: boolean
  /** Seconds; 0: never. */
  readonly retainExpiryInterval: number
  /** Seconds; absent: never. */
  readonly persistentClientExpiration?: number
  /** Seconds; 0: no $SYS topics. */
  readonly sysInterval: number
  /** `#!acl_subscribe_check`: what becomes of a subscription of which nothing may be delivered. */
  readonly aclSubscribeCheck: 'strict' | 'warn' | 'off'
  /** `#!acknowledge`: what a client is told waits for the store, or not. */
  readonly acknowledge: 'stored' | 'received'
}

/** `file`: `persistence_file` in `persistence_location`; the store lies beside it. */
export type StoreConfig =
  | { readonly kind: 'memory' }
  | { readonly kind: 'disk'; readonly file: string; readonly at?: Location }
  | { readonly kind: 'redis'; readonly url: string; readonly at?: Location }

/** When `persistence_file` is written, but for SIGUSR1 and the end. */
export interface AutosaveConfig {
  /** Seconds, or changes; 0: never. */
  readonly interval: number
  readonly onChanges: boolean
}

export interface Config {
  /** The main file as given to `-c`; absent when started without one. */
  readonly file?: string
  readonly listeners: readonly ListenerConfig[]
  /** No `listener`, `port` or bind option anywhere: loopback and anonymous, as Mosquitto without a configuration. */
  readonly localOnly: boolean
  readonly perListenerSettings: boolean
  readonly log: LogConfig
  readonly connectionMessages: boolean
  readonly setTcpNodelay: boolean
  readonly pidFile?: FileSetting
  /** `user`: the account to change to when started as root. */
  readonly user?: { readonly name: string; readonly at: Location }
  /** `clientid_prefixes`: client identifiers must begin so. */
  readonly clientIdPrefixes?: string
  /** `#!password_file_lines`: a bad line stops the start as in Mosquitto 2.1, or is skipped as in 2.0. */
  readonly passwordFileLines: 'strict' | 'lenient'
  /** `#!watch_files`: files that change are read again by themselves. */
  readonly watchFiles: boolean
  /** `#!expiry_warning`: days; 0: nothing is said. */
  readonly expiryWarning: number
  /** `#!acl_shadow`: an ACL file that is asked beside each listener's own, to no effect but for the log. */
  readonly aclShadow?: NamedFile
  /** `#!enrolment_ca`: the CA that signs for this broker. */
  readonly enrolmentCa?: AuthorityFiles
  /** `#!enrolment_listener`. */
  readonly enrolment?: EnrolmentConfig
  /** `#!tls_dns_list`, with a CA: the certificate that the broker makes for itself. */
  readonly ownCertificate?: OwnCertificateConfig
  readonly limits: LimitsConfig
  readonly delivery: DeliveryConfig
  readonly store: StoreConfig
  readonly autosave: AutosaveConfig
  readonly adminSocket: AdminSocketConfig
}

/** `#!admin_socket`. */
export interface AdminSocketConfig {
  /** As it is set; absent: it follows `pid_file` or the store. */
  readonly written?: string
  /** Absent: there is none. */
  readonly path?: string
  readonly at?: Location
}
