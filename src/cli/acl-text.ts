// An explanation in words for a person, and as JSON for a program.

import { type Decision, explainDecision } from '../auth/acl.js'
import { type AclCase, verdictOf } from '../auth/acl-cases.js'
import type { AclRule } from '../auth/acl-file.js'
import type { Part } from '../auth/acl-reach.js'
import type { AclQuestion, Explanation, Rights } from '../auth/explanation.js'
import type { Identity } from '../auth/identity.js'
import type { UsernameSource } from '../config/types.js'
import { formatLocation } from '../errors.js'
import { isControlTopic } from '../topic.js'

/** Parts of a subscription that are listed for a person. */
const mostParts = 20

export interface Answer {
  readonly explanation: Explanation
  /** Of the listener, or the last of those that answer so. */
  readonly rights: Rights
  /** Their names; absent: an ACL file alone. */
  readonly place?: string
}

/** Lines, the verdict first. */
export function explanationText(question: AclQuestion, { explanation, rights, place }: Answer): string {
  const { access, topic } = question
  const verb = access === 'subscribe' ? 'subscribe to' : access
  const who = `${describe(clientIn(question, explanation))}${place === undefined ? '' : ` on ${place}`}`
  const head = `${verdict(explanation)}: ${who} ${explanation.allowed ? 'may' : 'may not'} ${verb} '${topic}'`
  const lines = [
    ...reasons(explanation),
    ...parts(explanation),
    ...notesOn(rights, question, explanation).map(note => ['note', note] as const)
  ]
  return [head, ...lines.map(([label, text]) => `  ${label.padEnd(12)}${text}`), ''].join('\n')
}

/** The same as one object. */
export function explanationJson(question: AclQuestion, { explanation, rights, place }: Answer): object {
  const { allowed, reason, why, rule, identity, topic, decision, next, instead, reach, dead } = explanation
  return {
    allowed,
    access: question.access,
    topic: question.topic,
    ...(topic !== question.topic && { topicInAcl: topic }),
    ...identity,
    ...(place !== undefined && { listener: place }),
    reason,
    why,
    ...(rule !== undefined && { rule: ruleJson(rule) }),
    ...(reason === 'not-connected' && { otherwise: decisionJson(decision) }),
    ...(next !== undefined && { next: decisionJson(next) }),
    ...(instead !== undefined && { instead: { access: instead.access, ...decisionJson(instead.decision) } }),
    ...(reach !== undefined && {
      delivered: { extent: reach.extent, parts: reach.delivered.map(partJson), denied: reach.denied.map(partJson) }
    }),
    ...(dead !== undefined && { nothing: decisionJson(dead) }),
    notes: notesOn(rights, question, explanation)
  }
}

/** A case that is answered otherwise. */
export interface Failure {
  readonly expectation: AclCase & AclQuestion
  readonly answer: Answer
}

/** `acl.cases:3: read 'plant/a' by user 'ann', …: expected deny, is allow, rule "topic read plant/#" at acl:2.` */
export function failureText({ expectation, answer: { explanation, place } }: Failure): string {
  const { at, access, topic, expected, because } = expectation
  const who = `${describe(clientIn(expectation, explanation))}${place === undefined ? '' : ` on ${place}`}`
  const wanted = because === undefined ? expected : `${expected} (${because})`
  const is = verdictOf(expectation, explanation)
  return `${formatLocation(at)}: ${access} '${topic}' by ${who}: expected ${wanted}, is ${is}, ${causeOf(is, explanation)}.\n`
}

/** The same as an object. */
export function failureJson({ expectation, answer }: Failure): object {
  const { at, expected, because } = expectation
  const { file, line } = at
  return {
    file,
    line,
    expected,
    ...(because !== undefined && { because }),
    actual: verdictOf(expectation, answer.explanation),
    explanation: explanationJson(expectation, answer)
  }
}

function causeOf(is: AclCase['expected'], { reach, dead, why }: Explanation): string {
  if (is === 'nothing' && dead !== undefined) return explainDecision(dead)
  if (reach === undefined || (is !== 'all' && is !== 'part')) return why
  const names = (parts: readonly Part[]): string => parts.map(({ filter }) => filter).join(', ')
  return reach.denied.length === 0 ? names(reach.delivered) : `${names(reach.delivered)} but not ${names(reach.denied)}`
}

// Where a certificate is shown, its name and not what was said with it.
function clientIn({ identity, certificate }: AclQuestion, { identity: found }: Explanation): Identity {
  return certificate === undefined ? identity : { ...found, clientId: identity.clientId }
}

/** `user 'ann', client id 'panel-1'`. */
function describe({ username, clientId }: Identity): string {
  return `${username === undefined ? 'no username' : `user '${username}'`}, client id '${clientId}'`
}

type Line = readonly [label: string, text: string]

const verdict = ({ allowed }: { readonly allowed: boolean }): string => (allowed ? 'allow' : 'deny')
const outcome = (decision: Decision): string => `${verdict(decision)}, ${explainDecision(decision)}`

function reasons({ reason, why, decision, next, instead }: Explanation): Line[] {
  if (reason === 'not-connected') {
    return [
      ['because', `it is not let in: ${why}`],
      ['if it were', outcome(decision)]
    ]
  }
  const lines: Line[] = [['because', why]]
  if (next !== undefined) lines.push(['without it', outcome(next)])
  if (instead !== undefined) lines.push(['but', `it may ${instead.access} it, ${explainDecision(instead.decision)}`])
  return lines
}

function parts({ reach, dead, decision }: Explanation): Line[] {
  if (reach === undefined) return []
  if (dead !== undefined) return decision === dead ? [] : [['delivered', `nothing, ${explainDecision(dead)}`]]
  return [...listed('delivered', reach.delivered), ...listed('but not', reach.denied)]
}

function listed(label: string, all: readonly Part[]): Line[] {
  const shown = all.slice(0, mostParts)
  const lines = shown.map(({ filter, decision }, i): Line => [i === 0 ? label : '', `${filter}, ${explainDecision(decision)}`])
  const more = all.length - mostParts
  return more > 0 ? [...lines, ['', `and ${more} more`]] : lines
}

const certificateNames: Readonly<Record<Exclude<UsernameSource, 'from-connect'>, string>> = {
  'from-common-name': 'the common name of the client certificate',
  'from-subject': 'the subject of the client certificate',
  'from-san-dns': 'the first DNS name of the client certificate',
  'from-san-uri': 'the first URI of the client certificate',
  'from-san-email': 'the first email address of the client certificate',
  'from-serial': 'the serial number of the client certificate',
  'from-fingerprint': 'the SHA-256 fingerprint of the client certificate',
  'from-psk-identity': 'the identity of the pre-shared key'
}

// What the listener itself has to do with it.
function notesOn(
  { listener, subscribeCheck }: Rights,
  { identity: asked, topic: written }: AclQuestion,
  explanation: Explanation
): string[] {
  const { identity, topic, needsPassword, dead, reason } = explanation
  const notes: string[] = []
  if (listener !== undefined && listener.username !== 'from-connect') {
    notes.push(`the username is ${certificateNames[listener.username]}, whatever the client says`)
  }
  if (needsPassword === 'known') notes.push(`the client has to know the password of '${identity.username}' in password_file`)
  if (needsPassword === 'unknown') notes.push(`password_file can't be read: whether '${identity.username}' is in it is not known`)
  if (identity.clientId !== asked.clientId) notes.push(`use_username_as_clientid: the client id is '${identity.clientId}'`)
  if (listener?.mountPoint !== undefined) notes.push(`mount_point stands before the topic, for the ACL it is '${topic}'`)
  if (isControlTopic(written)) notes.push('what is published there goes to nobody')
  if (dead !== undefined && reason === 'subscribe') notes.push(checkNotes[subscribeCheck])
  return notes
}

const checkNotes: Readonly<Record<Rights['subscribeCheck'], string>> = {
  warn: 'the broker says so in its log; with #!acl_subscribe_check strict it refuses the subscription',
  off: 'the broker says nothing of it; with #!acl_subscribe_check strict it refuses the subscription',
  strict: 'the broker refuses the subscription'
}

function decisionJson(decision: Decision): object {
  const { allowed, reason, rule } = decision
  return { allowed, reason, why: explainDecision(decision), ...(rule !== undefined && { rule: ruleJson(rule) }) }
}

function partJson({ filter, decision }: Part): object {
  return { filter, ...decisionJson(decision) }
}

function ruleJson({ kind, access, filter, username, at: { file, line } }: AclRule): object {
  return { kind, access, filter, ...(username !== undefined && { username }), file, ...(line !== undefined && { line }) }
}
