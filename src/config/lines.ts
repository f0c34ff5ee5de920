// What became of each line that names an option: honoured, honoured in another way, without effect, refused. For people who ask; the
// configuration itself is built elsewhere, and this reads off what came of it.

import { trimBlanks } from '../blanks.js'
import { formatLocation, type Location, type Problem } from '../errors.js'
import { withoutPassword } from './argument.js'
import { speaksMqtt } from './check.js'
import type { Draft, DraftLine } from './draft.js'
import { environmentName, type Option } from './options.js'
import type { Settings } from './settings.js'
import type { Config, ListenerConfig } from './types.js'

/** `otherwise`: honoured, but not as Mosquitto does it. `ignored`: it has no effect. `refused`: it is an error. */
export type Standing = 'honoured' | 'otherwise' | 'ignored' | 'refused'

/** A line, or an environment variable, and what came of it. */
export interface OptionLine {
  /** Absent: an environment variable. */
  readonly at?: Location
  /** As written: `listener`, `#!store`, `MOSQUITERO_STORE`. */
  readonly option: string
  /** As written; absent when there is none, and where it may be a password. */
  readonly value?: string
  readonly standing: Standing
  /** Of what is not simply honoured: how, or why not. */
  readonly why?: string
}

type Verdict = Pick<OptionLine, 'standing' | 'why'>

interface LineFacts {
  readonly draft: Draft
  /** Absent: it could not be built. */
  readonly config: Config | undefined
  readonly localOnly: boolean
  /** Our own options as the environment sets them. */
  readonly environment: Settings
  readonly env: Readonly<Record<string, string | undefined>>
  readonly said: ReadonlyMap<Location | undefined, readonly Problem[]>
}

/** All lines: those of the main file first, then file by file as they are included, then the environment. */
export function judgeLines({ problems, ...rest }: Omit<LineFacts, 'said'> & { problems: readonly Problem[] }): readonly OptionLine[] {
  const facts: LineFacts = { ...rest, said: byPlace(problems) }
  const lines = facts.draft.lines.toSorted((a, b) => Number(isIncluded(a)) - Number(isIncluded(b)))
  return [...lines.map(line => judge(line, facts)), ...variables(facts)]
}

function byPlace(problems: readonly Problem[]): Map<Location | undefined, readonly Problem[]> {
  const places = new Map<Location | undefined, Problem[]>()
  for (const problem of problems) {
    const known = places.get(problem.at)
    if (known) known.push(problem)
    else places.set(problem.at, [problem])
  }
  return places
}

const isIncluded = ({ directive }: DraftLine): boolean => directive.at.includedFrom !== undefined

function judge(line: DraftLine, facts: LineFacts): OptionLine {
  const { name, own, at } = line.directive
  const value = shownValue(line)
  return { at, option: own ? `#!${name}` : name, ...(value !== undefined && { value }), ...verdictOf(line, facts) }
}

function verdictOf(line: DraftLine, facts: LineFacts): Verdict {
  const said = facts.said.get(line.directive.at) ?? []
  const error = said.find(({ severity }) => severity === 'error')
  if (error || !line.known) return { standing: 'refused', why: error?.message ?? 'There is no such option.' }
  const [name, option] = line.known
  const idle = whyIdle(line, name, option, facts)
  if (idle !== undefined) return { standing: 'ignored', why: idle }
  const corrected = said.find(({ code }) => code === 'ERR_CONF_VALUE')
  if (corrected) return { standing: 'otherwise', why: corrected.message }
  const remark = remarks[name]?.(line, facts)
  if (remark) return remark
  if (option.support === 'otherwise' || (option.support === 'partly' && !wholeHere.has(name))) {
    return { standing: 'otherwise', why: option.doc.replaceAll('`', "'") }
  }
  if (option.deprecated !== undefined) return { standing: 'honoured', why: `Deprecated. ${option.deprecated}`.trimEnd() }
  return line.directive.own ? { standing: 'honoured', why: 'A comment to Mosquitto.' } : { standing: 'honoured' }
}

/** Honoured in part, and the part that isn't shows at the line. */
const wholeHere: ReadonlySet<string> = new Set(['log_dest', 'protocol'])

/** Why a line has no effect; undefined: it has. What the option is, then where it stands, then what else is said. */
function whyIdle(line: DraftLine, name: string, option: Option, facts: LineFacts): string | undefined {
  const { directive, target, listener } = line
  if (option.support === 'later') return 'It has no effect yet.'
  if (option.support === 'meaningless') return 'It has no meaning here.'
  if (target === undefined) return 'Once true it stays so.'
  if (listener && !speaksMqtt(listener))
    return `Its listener stays closed: 'protocol ${listener.settings.text('protocol')}' is not supported yet.`
  if (listener && facts.localOnly) return 'No listener is defined, so that only loopback is open.'
  const last = option.again === undefined ? target.at(option.sets ?? name) : undefined
  if (last !== undefined && last !== directive.at) return `${formatLocation(last)} says it again.`
  if (directive.own && facts.environment.has(name)) return `The environment variable ${environmentName(name)} goes before it.`
  return facts.config && idleWhen[name]?.(line, facts, facts.config)
}

// What makes a line idle that stands in its place and says something right.
const idleWhen: Readonly<Record<string, (line: DraftLine, facts: LineFacts, config: Config) => string | undefined>> = {
  log_dest: ({ directive }) => (nextWord(directive.value) === 'dlt' ? "'log_dest dlt' is not supported." : undefined),
  log_facility: (_, __, { log }) => (log.destinations.some(({ kind }) => kind === 'syslog') ? undefined : "There is no 'log_dest syslog'."),
  log_timestamp_format: (_, __, { log }) => (log.timestamp ? undefined : "'log_timestamp' is false."),
  tls_dns_list: (_, __, { ownCertificate }) => (ownCertificate ? undefined : 'No certificate is made of it: see the warning.'),
  'plugin_opt_*': ({ directive }) => (/_opt_(acl|password)_file$/.test(directive.name) ? undefined : 'It has no effect yet.'),
  persistence: ({ target }, { draft, environment }) =>
    target?.boolean('persistence') && (draft.own.has('store') || environment.has('store')) ? "'#!store' says where it is kept." : undefined,
  persistence_file: whenNotOnDisk,
  persistence_location: (line, facts, config) =>
    facts.env.MOSQUITTO_PERSISTENCE_LOCATION
      ? 'The environment variable MOSQUITTO_PERSISTENCE_LOCATION goes before it.'
      : whenNotOnDisk(line, facts, config),
  autosave_interval: whenNotOnDisk,
  autosave_on_changes: whenNotOnDisk,
  crlfile: (line, _, config) =>
    asksNobody(line, config) ? "No client certificate is asked for: 'require_certificate true' would." : undefined,
  disable_client_cert_date_checks: (line, _, config) =>
    asksNobody(line, config) ? "No client certificate is asked for: 'require_certificate true' would." : undefined,
  crl_check: whenNoList,
  crl_expired: whenNoList,
  revocation: (line, _, config) => (asksNobody(line, config) ? 'No client certificate is asked for.' : undefined),
  expiry_warning: (_, __, { listeners }) => (listeners.some(({ tls }) => tls) ? undefined : 'There is no certificate.'),
  use_identity_as_username: whenPlain,
  use_subject_as_username: (line, facts, config) =>
    line.target?.boolean('use_identity_as_username') ? "'use_identity_as_username' goes before it." : whenPlain(line, facts, config),
  identity_source: whenPlain,
  psk_file: (line, _, config) =>
    listenersOf(line, config).some(({ tls, psk }) => tls ?? psk) ? undefined : `Its keys are for nobody: ${noHint}.`,
  tls_version: whenPlain,
  ciphers: whenPlain,
  'ciphers_tls1.3': (line, facts, config) =>
    whenPlain(line, facts, config) ??
    (listenersOf(line, config).every(({ tls, psk }) => psk ?? tls?.maxVersion === 'TLSv1.2')
      ? "'psk_file' switches TLS 1.3 off."
      : undefined),
  password_file: whenNamedByCertificate,
  allow_anonymous: whenNamedByCertificate,
  listener_allow_anonymous: whenNamedByCertificate
}

// What is to be said of a line that has its effect.
const remarks: Readonly<Record<string, (line: DraftLine, facts: LineFacts) => Verdict | undefined>> = {
  tls_version: ({ target }) =>
    target?.text('tls_version') === 'tlsv1.1'
      ? { standing: 'otherwise', why: 'TLS 1.1 is not offered: the lowest version is TLS 1.2.' }
      : undefined,
  psk_file: (line, { config }) =>
    !config || listenersOf(line, config).some(({ psk }) => psk)
      ? undefined
      : { standing: 'honoured', why: `It switches TLS 1.3 off, and its keys are for nobody: ${noHint}.` },
  cafile: onlyForTheChain,
  capath: onlyForTheChain
}

const noHint = "no listener that it is for has a 'psk_hint'"

// OpenSSL sends the CAs between certfile and its root along with it.
function onlyForTheChain(line: DraftLine, { config }: LineFacts): Verdict | undefined {
  if (!config || !asksNobody(line, config)) return undefined
  return {
    standing: 'honoured',
    why: "For the chain of certfile alone: without 'require_certificate true' no client certificate is asked for."
  }
}

function whenNoList(_: DraftLine, __: LineFacts, { listeners }: Config): string | undefined {
  return listeners.some(({ tls }) => tls?.requireCertificate && tls.crlfile) ? undefined : "There is no 'crlfile' that is looked at."
}

function whenNotOnDisk({ known }: DraftLine, __: LineFacts, { store, ownCertificate }: Config): string | undefined {
  // The broker's own certificate lies there as well.
  if (ownCertificate && known?.[0] === 'persistence_location') return undefined
  return store.kind === 'disk' ? undefined : `Nothing is kept on disk: the store is ${store.kind === 'redis' ? 'Redis' : 'memory'}.`
}

function whenPlain(line: DraftLine, _: LineFacts, config: Config): string | undefined {
  return listenersOf(line, config).some(({ tls, psk }) => tls ?? psk) ? undefined : 'It has no effect without certfile and keyfile.'
}

function whenNamedByCertificate(line: DraftLine, _: LineFacts, config: Config): string | undefined {
  if (listenersOf(line, config).some(({ username }) => username === 'from-connect')) return undefined
  return 'Usernames come from certificates: neither passwords nor anonymous clients are asked about.'
}

function asksNobody(line: DraftLine, config: Config): boolean {
  return listenersOf(line, config).every(({ tls }) => !tls?.requireCertificate)
}

/** Those that a line speaks of: its own, or all. */
function listenersOf({ listener }: DraftLine, { listeners }: Config): readonly ListenerConfig[] {
  return listener ? listeners.filter(({ at }) => at === listener.at) : listeners
}

function variables({ environment, env, config }: LineFacts): readonly OptionLine[] {
  const own = environment.names().map((name): OptionLine => ({ option: environmentName(name), standing: 'honoured' }))
  const location = 'MOSQUITTO_PERSISTENCE_LOCATION'
  if (!env[location]) return own
  const isUsed = config === undefined || config.store.kind === 'disk'
  return [
    ...own,
    {
      option: location,
      value: env[location],
      ...(isUsed ? { standing: 'honoured' } : { standing: 'ignored', why: 'Nothing is kept on disk.' })
    }
  ]
}

/** What a misspelt name stands before may be a password as well. */
function shownValue({ known, directive }: DraftLine): string | undefined {
  const value = trimBlanks(directive.value)
  if (value === '' || !known || known[1].secret) return undefined
  return known[1].argument.kind === 'store' ? withoutPassword(value) : value
}

const nextWord = (text: string): string | undefined => text.split(' ').find(word => word !== '')
