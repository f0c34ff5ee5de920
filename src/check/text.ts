// The report of `check` for people: each listener, the broker, line by line what became of the options, the problems, the verdict.

import type { OptionLine } from '../config/lines.js'
import type { LimitsConfig } from '../config/types.js'
import { formatLocation, type Location, type Problem } from '../errors.js'
import { clientIdForms, nameSources } from '../log-events.js'
import { printable } from '../printable.js'
import type { BrokerReport, ListenerReport, Report, TlsReport } from './report.js'

type Row = readonly [label: string, value: string | undefined]

/** All of it, line by line, without a control character of anybody's. */
export function formatReport(report: Report): string {
  const parts = [
    ...report.listeners.map(listener => [...listenerLines(listener), '']),
    ...(report.broker ? [[...brokerLines(report.broker, report.readAs), '']] : []),
    ...(report.options.length > 0 ? [[...optionLines(report), '']] : []),
    ...(report.problems.length > 0 ? [[...problemLines(report.problems), '']] : []),
    [verdict(report)]
  ]
  return parts
    .flat()
    .map(line => `${printable(line)}\n`)
    .join('')
}

function listenerLines(listener: ListenerReport): string[] {
  const { at, enforces, limits, mountPoint, clientIdPrefix } = listener
  return [
    `Listener on ${enforces.listener}${at ? ` (${formatLocation(at)})` : ''}`,
    ...rows([
      ['address', addressOf(listener)],
      ['speaks', `MQTT ${listOf(listener.versions.map(version => versionNames[version]))}, ${transportOf(listener)}`],
      ['shows', listener.tls && certificateOf(listener.tls)],
      ['asks for', demandsOf(listener)],
      ['username', usernameOf(listener)],
      ['client id', clientIdOf(listener, clientIdPrefix)],
      ['rights', rightsOf(listener)],
      ['topics', mountPoint === undefined ? undefined : `all below ${mountPoint}`],
      [
        'limits',
        `${limitOf(limits.maxConnections, 'connection')}, QoS ${limits.maxQos}, topic aliases: ${limits.maxTopicAlias} of a client, ${limits.maxTopicAliasBroker} towards it`
      ]
    ])
  ]
}

function brokerLines({ limits, store, log, pidFile, user }: BrokerReport, readAs: string): string[] {
  return [
    'Broker',
    ...rows([
      [
        'account',
        `files were read as ${readAs}${user === undefined || user === readAs ? '' : `; started as root, the broker becomes ${user}`}`
      ],
      ['sessions', sessionsOf(store)],
      ['limits', limitsOf(limits)],
      ['log', log.destinations.length === 0 ? 'none' : `${log.destinations.join(', ')}: ${log.types.join(', ') || 'nothing'}`],
      ['pid file', pidFile]
    ])
  ]
}

const versionNames = { 3: '3.1', 4: '3.1.1', 5: '5.0' } as const

function addressOf({ bind, port, socketDomain }: ListenerReport): string {
  const family = socketDomain === undefined ? '' : `, ${socketDomain === 'ipv4' ? 'IPv4' : 'IPv6'} only`
  switch (bind.kind) {
    case 'any':
      return `every address of this machine, port ${port}${family}`
    case 'loopback':
      return `this machine alone, port ${port}${family}`
    case 'host':
      return `${bind.host}, port ${port}${family}`
    case 'unix':
      return `socket ${bind.path}`
  }
}

function transportOf({ enforces: { tls, pskFile } }: ListenerReport): string {
  if (pskFile !== undefined) return 'over TLS 1.2, with pre-shared keys'
  return tls === undefined ? 'in plain text' : `over TLS ${tls.replace('TLSv', '')}${tls === 'TLSv1.3' ? '' : ' or newer'}`
}

function certificateOf({ certificate: { subject, issuer, notAfter, names } }: TlsReport): string {
  const hosts =
    names.length === 0 ? 'without a subjectAltName' : `for ${names.map(name => name.replace(/^(DNS|IP Address):/, '')).join(', ')}`
  return `${quiet(subject)}, signed by ${subject === issuer ? 'itself' : quiet(issuer)}, ${hosts}, good until ${dayOf(notAfter)}`
}

function demandsOf({ enforces, tls, passwords, keys }: ListenerReport): string {
  const certificate = enforces.certificate === 'required' ? [`a certificate${tls ? ` signed by ${authoritiesOf(tls)}` : ''}`] : []
  if (enforces.pskFile !== undefined)
    certificate.push(`a pre-shared key (${enforces.pskFile}${keys === undefined ? '' : `, ${count(keys, 'key')}`})`)
  if (enforces.username !== 'from-connect') return certificate[0] ?? 'no certificate, from which the username should come: nobody comes in'
  if (enforces.passwordFile !== undefined) {
    const users = passwords ? `, ${count(passwords.users, 'user')}` : ''
    const login = `username and password (${enforces.passwordFile}${users})${enforces.anonymous ? ', or no username' : ''}`
    return [...certificate, login].join(' and ')
  }
  if (!enforces.anonymous) return 'a password, and there is no password_file: nobody comes in'
  return certificate[0] ?? 'nothing'
}

const shownAuthorities = 3

function authoritiesOf({ authorities, revocation }: TlsReport): string {
  const names = authorities.slice(0, shownAuthorities).map(({ subject, notAfter }) => `${quiet(subject)} (good until ${dayOf(notAfter)})`)
  const more = authorities.length - names.length
  const lists = revocation?.map(
    ({ revoked, nextUpdate }) => `${revoked} revoked${nextUpdate === undefined ? '' : `, list good until ${dayOf(nextUpdate)}`}`
  )
  return [`${names.join(', ')}${more > 0 ? ` and ${count(more, 'other CA')}` : ''}`, ...(lists ?? [])].join('; ')
}

function usernameOf({ enforces }: ListenerReport): string {
  const source = nameSources[enforces.username].replace(/^username (from )?/, '')
  if (enforces.username !== 'from-connect') return source
  return `${source}${enforces.passwordFile === undefined ? ', unproven' : ', proven by the password'}`
}

function clientIdOf({ useUsernameAsClientId, enforces }: ListenerReport, prefix: string | undefined): string | undefined {
  const bound = enforces.clientId && clientIdForms[enforces.clientId]
  if (useUsernameAsClientId) return bound === undefined ? 'the username' : `the username, which must be ${bound}`
  const begins = prefix === undefined ? undefined : `begins with ${prefix}`
  return [bound, begins].filter(text => text !== undefined).join(', ') || undefined
}

function rightsOf({ enforces, acl }: ListenerReport): string {
  if (enforces.aclFile === undefined) return 'no ACL file: everything'
  if (!acl) return `${enforces.aclFile}, which cannot be used`
  const parts = [
    acl.users > 0 ? `${count(acl.userRules, 'rule')} for ${count(acl.users, 'user')}` : undefined,
    acl.anonymousRules > 0 ? `${count(acl.anonymousRules, 'rule')} for clients without a username` : undefined,
    acl.patterns > 0 ? `${count(acl.patterns, 'pattern')} for all` : undefined
  ].filter(part => part !== undefined)
  return `${acl.file}: ${parts.join(', ') || 'no rules, nobody may do anything'}`
}

function sessionsOf({ kind, place }: BrokerReport['store']): string {
  switch (kind) {
    case 'memory':
      return 'in memory: they end with the process'
    case 'disk':
      return `on disk, in ${place}`
    case 'redis':
      return `in Redis, ${place}`
  }
}

function limitsOf(limits: LimitsConfig): string {
  return [
    limitOf(limits.globalMaxConnections, 'connection'),
    limitOf(limits.globalMaxClients, 'session'),
    `packets of ${limits.maxPacketSize} bytes`,
    ...(limits.messageSizeLimit > 0 ? [`payloads of ${limits.messageSizeLimit} bytes`] : []),
    `${limitOf(limits.maxInflightMessages, 'message')} in flight`,
    `${limitOf(limits.maxQueuedMessages, 'message')} queued`,
    ...(limits.maxKeepalive > 0 ? [`keep alive of ${limits.maxKeepalive} seconds`] : [])
  ].join(', ')
}

// Options

function optionLines({ options, file }: Report): string[] {
  const width = Math.min(widest, Math.max(...options.map(line => textOf(line).length)))
  const byFile = new Map<string, OptionLine[]>()
  for (const line of options) {
    const place = line.at === undefined ? 'Environment' : headOf(line.at, file)
    byFile.set(place, [...(byFile.get(place) ?? []), line])
  }
  return [...byFile].flatMap(([place, lines]) => [place, ...lines.map(line => optionLine(line, width))])
}

const widest = 48

function headOf({ file, includedFrom }: Location, main: string): string {
  return includedFrom ? `Options of ${file}, included by ${formatLocation(includedFrom)}` : `Options of ${main}`
}

function optionLine(line: OptionLine, width: number): string {
  const number = line.at === undefined ? '' : String(line.at.line)
  const why = line.why === undefined ? '' : `  ${line.why}`
  return `${number.padStart(5)}  ${cut(textOf(line), width).padEnd(width)}  ${line.standing}${why}`
}

const textOf = ({ option, value }: OptionLine): string => (value === undefined ? option : `${option} ${value}`)

// Problems

function problemLines(problems: readonly Problem[]): string[] {
  return ['Problems', ...problems.map(problemLine)]
}

function problemLine({ severity, message, at }: Problem): string {
  const included = at?.includedFrom ? ` (included by ${formatLocation(at.includedFrom)})` : ''
  return `  ${severity.padEnd(7)}  ${at ? `${formatLocation(at)}${included}: ` : ''}${message}`
}

function verdict({ file, usable, exitStatus, counts }: Report): string {
  const found = [count(counts.errors, 'error'), count(counts.warnings, 'warning'), count(counts.notices, 'notice')].join(', ')
  return usable ? `${file} can be used: ${found}.` : `${file} cannot be used, a broker would end with status ${exitStatus}: ${found}.`
}

// Words

function rows(all: readonly Row[]): string[] {
  return all.flatMap(([label, value]) => (value === undefined ? [] : [`  ${label.padEnd(9)}  ${value}`]))
}

const count = (number: number, noun: string): string => `${number} ${noun}${number === 1 ? '' : 's'}`

/** Not above 0: no limit. */
const limitOf = (limit: number, noun: string): string => (limit > 0 ? count(limit, noun) : `any number of ${noun}s`)

const dayOf = (date: string): string => date.slice(0, 10)

const cut = (text: string, width: number): string => (text.length > width ? `${text.slice(0, width - 1)}…` : text)

const quiet = (name: string): string => (name === '' ? '(no name)' : name)

function listOf(words: readonly string[]): string {
  return words.length < 2 ? words.join('') : `${words.slice(0, -1).join(', ')} and ${words.at(-1)}`
}
