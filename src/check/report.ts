// What `mosquitero check` finds out about a configuration, as one value: the text for people and the JSON are made of nothing else.

import { accountName } from '../account.js'
import type { Acl } from '../auth/acl.js'
import type { Certificate } from '../auth/chain.js'
import { formatName } from '../auth/distinguished-name.js'
import type { OptionLine } from '../config/lines.js'
import type { Bind, Config, DeliveryConfig, FileSetting, LimitsConfig, ListenerConfig, LogType } from '../config/types.js'
import { enforcedBy } from '../enforcement.js'
import { exitStatus, type Location, type Problem } from '../errors.js'
import type { LogFields } from '../log-events.js'
import type { TlsMaterial } from '../net/tls.js'
import type { ListenerSnapshot } from '../snapshot.js'

/** Documented in docs/check.md. What may change its meaning raises `format`; new fields don't. */
export interface Report {
  readonly format: 1
  /** As given to `-c`. */
  readonly file: string
  /** A broker would start with it. */
  readonly usable: boolean
  /** What it would end with instead; 0: it starts. */
  readonly exitStatus: number
  /** The account that the files were read as. */
  readonly readAs: string
  readonly counts: { readonly errors: number; readonly warnings: number; readonly notices: number }
  readonly listeners: readonly ListenerReport[]
  /** Absent: the configuration could not be read. */
  readonly broker?: BrokerReport
  readonly options: readonly OptionLine[]
  /** Errors, then warnings, then notices. */
  readonly problems: readonly Problem[]
}

export interface ListenerReport {
  readonly at?: Location
  /** What the broker's log says of it at start. */
  readonly enforces: LogFields<'listenerEnforces'>
  readonly port: number
  readonly bind: Bind
  readonly socketDomain?: 'ipv4' | 'ipv6'
  readonly protocol: 'mqtt'
  /** 3 is MQTT 3.1, 4 is 3.1.1. */
  readonly versions: readonly (3 | 4 | 5)[]
  /** Absent: plain text, or its files could not be used. */
  readonly tls?: TlsReport
  readonly passwords?: { readonly file: string; readonly users: number }
  /** In psk_file. */
  readonly keys?: number
  readonly acl?: AclReport
  readonly useUsernameAsClientId: boolean
  readonly clientIdPrefix?: string
  readonly mountPoint?: string
  readonly limits: {
    /** -1: no limit. */
    readonly maxConnections: number
    readonly maxQos: 0 | 1 | 2
    readonly maxTopicAlias: number
    readonly maxTopicAliasBroker: number
  }
}

export interface TlsReport {
  readonly certificate: CertificateReport
  /** Who may sign client certificates. */
  readonly authorities: readonly Pick<CertificateReport, 'subject' | 'notBefore' | 'notAfter'>[]
  /** Present with `crlfile`. */
  readonly revocation?: readonly { readonly issuer: string; readonly revoked: number; readonly nextUpdate?: string }[]
}

export interface CertificateReport {
  readonly subject: string
  readonly issuer: string
  /** ISO 8601, in UTC. */
  readonly notBefore: string
  readonly notAfter: string
  /** subjectAltName: `DNS:localhost`, `IP Address:127.0.0.1`. */
  readonly names: readonly string[]
}

/** How many rules a file has, and for whom. */
export interface AclReport {
  readonly file: string
  readonly users: number
  readonly userRules: number
  readonly anonymousRules: number
  readonly patterns: number
}

export interface BrokerReport {
  readonly localOnly: boolean
  readonly perListenerSettings: boolean
  readonly limits: LimitsConfig
  readonly delivery: DeliveryConfig
  /** `place`: the folder of the store, or the address of Redis. */
  readonly store: { readonly kind: Config['store']['kind']; readonly place?: string }
  readonly log: { readonly destinations: readonly string[]; readonly types: readonly LogType[] }
  readonly pidFile?: string
  readonly user?: string
}

export interface Findings {
  readonly file: string
  readonly config: Config | undefined
  readonly lines: readonly OptionLine[]
  readonly listeners: readonly ListenerSnapshot[]
  /** Where sessions are kept. */
  readonly storePlace?: string | undefined
  /** In the order in which a start would meet them. */
  readonly problems: readonly Problem[]
}

export function buildReport({ file, config, lines, listeners, storePlace, problems }: Findings): Report {
  const of = (severity: Problem['severity']) => problems.filter(problem => problem.severity === severity)
  const [errors, warnings, notices] = [of('error'), of('warning'), of('notice')]
  const [first] = errors
  return {
    format: 1,
    file,
    usable: first === undefined,
    exitStatus: first === undefined ? 0 : exitStatus[first.code],
    readAs: accountName(),
    counts: { errors: errors.length, warnings: warnings.length, notices: notices.length },
    listeners: listeners.map(listener => reportListener(listener, problems)),
    ...(config && { broker: reportBroker(config, storePlace) }),
    options: lines.map(line => refusedBy(errors, line)),
    problems: [...errors, ...warnings, ...notices]
  }
}

// What the line says is right, and what it names cannot be used.
function refusedBy(errors: readonly Problem[], line: OptionLine): OptionLine {
  const error = line.at && errors.find(({ at }) => at === line.at)
  return error ? { ...line, standing: 'refused', why: error.message } : line
}

function reportListener(
  { config, acl, shadow, passwords, keys, tls, clientIdPrefix }: ListenerSnapshot,
  problems: readonly Problem[]
): ListenerReport {
  const { at, port, bind, socketDomain, acceptProtocolVersions, mountPoint, security } = config
  const isSound = (setting: FileSetting): boolean => !problems.some(problem => problem.severity === 'error' && isAbout(problem, setting))
  const { passwordFile, aclFile } = security
  const [own] = tls?.chain ?? []
  return {
    ...(at && { at }),
    enforces: enforcedBy(config, shadow?.path),
    port,
    bind,
    ...(socketDomain && { socketDomain }),
    protocol: 'mqtt',
    versions: acceptProtocolVersions ?? [3, 4, 5],
    ...(own && tls && { tls: reportTls(own, tls) }),
    ...(passwordFile && passwords && isSound(passwordFile) && { passwords: { file: passwordFile.path, users: passwords.size } }),
    ...(keys && { keys: keys.size }),
    ...(aclFile && isSound(aclFile) && { acl: reportAcl(aclFile.path, acl) }),
    useUsernameAsClientId: config.useUsernameAsClientId,
    ...(clientIdPrefix !== undefined && { clientIdPrefix }),
    ...(mountPoint !== undefined && { mountPoint }),
    limits: limitsOf(config)
  }
}

// An error stands in the file itself, or at the line that names it.
function isAbout({ at }: Problem, setting: FileSetting): boolean {
  return at === setting.at || at?.file === setting.path
}

function limitsOf({ maxConnections, maxQos, maxTopicAlias, maxTopicAliasBroker }: ListenerConfig): ListenerReport['limits'] {
  return { maxConnections, maxQos, maxTopicAlias, maxTopicAliasBroker }
}

function reportTls(own: Certificate, { trust, revocation }: TlsMaterial): TlsReport {
  return {
    certificate: {
      subject: formatName(own.fields.subject),
      issuer: formatName(own.fields.issuer),
      ...datesOf(own),
      names: alternativeNames(own)
    },
    authorities: trust.certificates.map(authority => ({ subject: formatName(authority.fields.subject), ...datesOf(authority) })),
    ...(revocation && {
      revocation: revocation.map(({ issuer, size, nextUpdate }) => ({
        issuer,
        revoked: size,
        ...(nextUpdate && { nextUpdate: nextUpdate.toISOString() })
      }))
    })
  }
}

function datesOf({ fields }: Certificate): Pick<CertificateReport, 'notBefore' | 'notAfter'> {
  return { notBefore: fields.notBefore.toISOString(), notAfter: fields.notAfter.toISOString() }
}

// Node puts a name in quotes that holds a comma.
function alternativeNames({ x509 }: Certificate): readonly string[] {
  return x509.subjectAltName?.match(/[^,"\s](?:"[^"]*"|[^,"])*/g) ?? []
}

function reportAcl(file: string, acl: Acl): AclReport {
  if (acl.kind !== 'file') return { file, users: 0, userRules: 0, anonymousRules: 0, patterns: 0 }
  const userRules = [...acl.sections.values()].reduce((sum, { length }) => sum + length, 0)
  return { file, users: acl.sections.size, userRules, anonymousRules: acl.anonymous.length, patterns: acl.patterns.length }
}

function reportBroker(config: Config, place: string | undefined): BrokerReport {
  const { localOnly, perListenerSettings, limits, delivery, store, log, pidFile, user } = config
  return {
    localOnly,
    perListenerSettings,
    limits,
    delivery,
    store: { kind: store.kind, ...(place !== undefined && { place }) },
    log: {
      destinations: log.destinations.map(destination => (destination.kind === 'file' ? `file ${destination.path}` : destination.kind)),
      types: [...log.types]
    },
    ...(pidFile && { pidFile: pidFile.path }),
    ...(user && { user: user.name })
  }
}
