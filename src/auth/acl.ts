// Compiles ACL rules and decides. Synchronous and free of allocation: asked once per receiver of every message. A decision says why.

import { formatLocation } from '../errors.js'
import { matchesFilter, startsWithDollar } from '../topic.js'
import type { AclAccess, AclRule } from './acl-file.js'
import type { CertificateFacts, Identity } from './identity.js'
import { factAsked, matchesVariable } from './pattern-variables.js'

/** `write`: publishing, also of a will. `read`: delivery, also of a retained message. */
export type Access = 'read' | 'write' | 'subscribe' | 'unsubscribe'

/** Shared and frozen: the same question gives the same object. */
export type Decision = Verdict &
  ({ readonly reason: 'rule'; readonly rule: AclRule } | { readonly reason: Exclude<Reason, 'rule'>; readonly rule?: never })

interface Verdict {
  readonly allowed: boolean
  /** What the file of `#!acl_shadow` says, where it says otherwise. */
  readonly shadow?: Decision
}

/** What one listener enforces: an acl_file, or one of the two constants below. */
export type Acl = AclOfFile | { readonly kind: 'open' } | { readonly kind: 'closed' }

export interface AclOfFile {
  readonly kind: 'file'
  /** By username. A Map, so that a client called `__proto__` is a name like any other. */
  readonly sections: ReadonlyMap<string, readonly Entry[]>
  readonly anonymous: readonly Entry[]
  readonly patterns: readonly PatternEntry[]
  /** What its `#!pattern` lines ask of the client certificate. */
  readonly facts: ReadonlySet<keyof CertificateFacts>
  /** Levels of the longest filter. */
  readonly depth: number
}

/** A line of the file. */
export interface Entry {
  readonly filter: string
  /** `+`, `#`, and in a pattern its variables, stand for themselves: a valid filter has none of the first two as text. */
  readonly levels: readonly string[]
  /** No bit: a deny rule. */
  readonly rights: number
  readonly decision: Decision
}

interface PatternEntry extends Entry {
  readonly namesUser: boolean
  /** `#!pattern`: it has more variables than Mosquitto's two. */
  readonly isOwn: boolean
}

/** No acl_file: everything but the `$` topics that belong to the broker. */
export const openAcl: Acl = Object.freeze({ kind: 'open' })

/** `per_listener_settings true` and a client that has no listener, the session of an absent client: nothing. */
export const closedAcl: Acl = Object.freeze({ kind: 'closed' })

// Whatever is not decided by a rule. The sentences are for the log and for people who ask why.
const outcomes = {
  'no-rule': { allowed: false, sentence: 'no rule allows it' },
  'no-section': { allowed: false, sentence: 'the ACL file has no rules for this user' },
  'no-acl-file': { allowed: true, sentence: 'there is no ACL file' },
  'no-listener': { allowed: false, sentence: 'the client has no listener whose ACL file could allow it' },
  'no-client-id': { allowed: false, sentence: 'the client has no client id' },
  subscribe: { allowed: true, sentence: 'subscribing is never refused, each message is checked when it is delivered' },
  'sys-write': { allowed: false, sentence: 'only the broker writes to $SYS' },
  'share-name': { allowed: false, sentence: '$share is for subscribing, it is no topic' },
  'dangerous-username': { allowed: false, sentence: 'the username holds + or #, and the ACL file has patterns' },
  'dangerous-client-id': { allowed: false, sentence: 'the client id holds + or #, and the ACL file has patterns' }
} as const satisfies Record<string, { allowed: boolean; sentence: string }>

export type Outcome = keyof typeof outcomes
export type Reason = 'rule' | Outcome

export function isOutcome(text: string): text is Outcome {
  return Object.hasOwn(outcomes, text)
}

const outcome = (reason: Outcome): Decision => Object.freeze({ allowed: outcomes[reason].allowed, reason })
const noRule = outcome('no-rule')
const noSection = outcome('no-section')
const noAclFile = outcome('no-acl-file')
const noListener = outcome('no-listener')
const noClientId = outcome('no-client-id')
export const subscribing = outcome('subscribe')
const sysWrite = outcome('sys-write')
const shareName = outcome('share-name')
const dangerousUsername = outcome('dangerous-username')
const dangerousClientId = outcome('dangerous-client-id')

export const readBit = 1
const writeBit = 2
const rightsOf: Readonly<Record<AclAccess, number>> = { read: readBit, write: writeBit, readwrite: readBit | writeBit, deny: 0 }

/** The rules of a file without errors, arranged for `decide`. No rule at all: nothing is allowed, as with an empty acl_file. */
export function compileAcl(rules: readonly AclRule[]): Acl {
  const sections = new Map<string, Entry[]>()
  const anonymous: Entry[] = []
  const patterns: PatternEntry[] = []
  // Deny rules are tried first, whatever their place in the file.
  for (const rule of [...rules.filter(isDeny), ...rules.filter(rule => !isDeny(rule))]) {
    if (rule.kind !== 'topic') patterns.push(patternEntry(rule))
    else if (rule.username === undefined) anonymous.push(entry(rule))
    else sectionOf(sections, rule.username).push(entry(rule))
  }
  const depth = rules.reduce((most, { filter }) => Math.max(most, filter.split('/').length), 0)
  const asked = patterns.flatMap(({ isOwn, levels }) => (isOwn ? levels.map(factAsked) : []))
  const facts = new Set(asked.filter(fact => fact !== undefined))
  return Object.freeze({ kind: 'file', sections, anonymous, patterns, facts, depth })
}

/** May this client do this with this topic, and why? The order of questions is Mosquitto's. */
export function decide(acl: Acl, identity: Identity, access: Access, topic: string): Decision {
  if (identity.clientId === '') return noClientId
  if (access === 'subscribe' || access === 'unsubscribe') return subscribing
  if (startsWithDollar(topic)) {
    if (topic.startsWith('$share')) return shareName
    if (access === 'write' && topic.startsWith('$SYS') && !matchesFilter(bridgeState, topic)) return sysWrite
  }
  switch (acl.kind) {
    case 'open':
      return noAclFile
    case 'closed':
      return noListener
    case 'file':
      return decideByFile(acl, identity, access === 'read' ? readBit : writeBit, topic)
  }
}

/** Why, for a person: `deny rule "topic deny plant/secret/#" at acl:3`, `no rule allows it`. */
export function explainDecision({ reason, allowed, rule }: Decision): string {
  if (reason !== 'rule') return outcomes[reason].sentence
  return `${allowed ? 'rule' : 'deny rule'} "${rule.kind} ${rule.access} ${rule.filter}" at ${formatLocation(rule.at)}`
}

// Another broker that bridges to us says here that it is alive; all else below $SYS is ours. Mosquitto takes every first level that
// begins with `$SYS` or `$share` for those two.
const bridgeState = '$SYS/broker/connection/+/state'

// The user's own lines come first: they beat every pattern, also a `pattern deny`.
function decideByFile(acl: AclOfFile, identity: Identity, right: number, topic: string): Decision {
  const { username, clientId } = identity
  const section = sectionFor(acl, identity)
  if (section !== undefined) {
    for (const { rights, filter, decision } of section) {
      if ((rights === 0 || (rights & right) !== 0) && matchesFilter(filter, topic)) return decision
    }
  }
  if (acl.patterns.length === 0) return section === undefined || section.length === 0 ? noSection : noRule
  // Such a name would have been a wildcard once it stands in a pattern (CVE-2017-7650); refused as Mosquitto does.
  if (username !== undefined && hasWildcard(username)) return dangerousUsername
  if (hasWildcard(clientId)) return dangerousClientId
  for (const pattern of acl.patterns) {
    if (pattern.rights !== 0 && (pattern.rights & right) === 0) continue
    if (pattern.namesUser && username === undefined) continue
    if (matchesPattern(pattern, identity, topic)) return pattern.decision
  }
  return noRule
}

/** The lines that are this client's own; undefined: it has none. */
export function sectionFor({ sections, anonymous }: AclOfFile, { username }: Identity): readonly Entry[] | undefined {
  return username === undefined ? anonymous : sections.get(username)
}

// A name that holds `/` never matches: it is compared with one level.
function matchesPattern({ filter, levels, isOwn }: PatternEntry, identity: Identity, topic: string): boolean {
  if (startsWithDollar(filter) !== startsWithDollar(topic)) return false
  let start = 0
  for (const level of levels) {
    if (level === '#') return true
    if (start > topic.length) return false
    const slash = topic.indexOf('/', start)
    const end = slash === -1 ? topic.length : slash
    if (level !== '+' && !matchesLevel(level, isOwn, identity, topic, start, end)) return false
    start = end + 1
  }
  return start > topic.length
}

function matchesLevel(level: string, isOwn: boolean, identity: Identity, topic: string, start: number, end: number): boolean {
  const { clientId, username } = identity
  switch (level) {
    case '%c':
      return isLevel(clientId, topic, start, end)
    case '%u':
      return username !== undefined && username !== '' && isLevel(username, topic, start, end)
    default:
      // A level of ours that holds `%` is a variable: others were refused with the file.
      if (isOwn && level.startsWith('%')) return matchesVariable(level, identity, topic, start, end)
      return isLevel(level, topic, start, end)
  }
}

function isLevel(text: string, topic: string, start: number, end: number): boolean {
  return end - start === text.length && topic.startsWith(text, start)
}

export function hasWildcard(name: string): boolean {
  return name.includes('+') || name.includes('#')
}

function isDeny(rule: AclRule): boolean {
  return rule.access === 'deny'
}

function sectionOf(sections: Map<string, Entry[]>, username: string): Entry[] {
  const known = sections.get(username)
  if (known !== undefined) return known
  const section: Entry[] = []
  sections.set(username, section)
  return section
}

function entry(rule: AclRule): Entry {
  const decision = Object.freeze({ allowed: !isDeny(rule), reason: 'rule', rule } as const)
  return { filter: rule.filter, levels: rule.filter.split('/'), rights: rightsOf[rule.access], decision }
}

// Mosquitto looks for the letters anywhere: a pattern that names `%u` is not for clients without a username, even where it is plain text.
function patternEntry(rule: AclRule): PatternEntry {
  return { ...entry(rule), namesUser: rule.filter.includes('%u'), isOwn: rule.kind === '#!pattern' }
}
