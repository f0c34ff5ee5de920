// What the broker would do with one request of one client, and why: for people who ask before it happens, or after. Every answer is
// `decide`'s and the policy's own.

import type { DeliveryConfig, ListenerConfig } from '../config/types.js'
import { parseFilter } from '../topic.js'
import { type Acl, type Decision, decide, explainDecision, type Reason } from './acl.js'
import type { AclRule } from './acl-file.js'
import { decideFilter, type Reach, reachOf } from './acl-reach.js'
import type { ClientCertificate, Identity } from './identity.js'
import type { PasswordEntry } from './password-file.js'
import { factsFor, foresee, nameInCertificate } from './policy.js'

/** Who may do what on one listener, or by an ACL file alone. */
export interface Rights {
  readonly acl: Acl
  /** Absent: an ACL file alone, and nobody is kept out. */
  readonly listener?: ListenerConfig
  /** The entries of password_file; absent: there is none. `unknown`: it could not be read, and may have anybody. */
  readonly passwords?: ReadonlyMap<string, PasswordEntry> | 'unknown'
  readonly clientIdPrefix?: string
  readonly subscribeCheck: DeliveryConfig['aclSubscribeCheck']
}

/** As the client says it: a mount point is not part of its topics. */
export interface AclQuestion {
  readonly identity: Identity
  readonly access: 'read' | 'write' | 'subscribe'
  readonly topic: string
  /** What the client shows; absent: then `identity` says what its certificate would. */
  readonly certificate?: ClientCertificate
}

export interface Explanation {
  readonly allowed: boolean
  /** `not-connected`: the listener doesn't let such a client in. */
  readonly reason: Reason | 'not-connected'
  /** A sentence without its full stop. */
  readonly why: string
  readonly rule?: AclRule
  /** As the ACL sees them: the listener may take the client id from the username, and put a mount point before topics. */
  readonly identity: Identity
  readonly topic: string
  /** What the ACL says, also of a client that is not let in. */
  readonly decision: Decision
  /** What would be decided without the rule that decides. */
  readonly next?: Decision
  /** Nothing allows it; but this rule allows the client to do with the topic what was not asked for. */
  readonly instead?: { readonly access: 'read' | 'write'; readonly decision: Decision }
  /** Of a subscription: what of it can be delivered. */
  readonly reach?: Reach
  /** Nothing can, and this is why. */
  readonly dead?: Decision
  /** Before all that it has to prove its username with a password: whether there is one is `known`, or `unknown`. */
  readonly needsPassword?: 'known' | 'unknown'
}

/** The topic is a valid one: a name, or a filter to subscribe to. */
export function explain(rights: Rights, { identity: asked, access, topic, certificate }: AclQuestion): Explanation {
  const foreseen = foreseeBy(rights, asked, certificate)
  if ('refusal' in foreseen) return notConnected(foreseen.why, explainAs(rights, whoShows(rights, asked, certificate), access, topic))
  const { identity, hasEntry } = foreseen
  const explanation = explainAs(rights, identity, access, topic)
  if (hasEntry === undefined) return explanation
  const needsPassword = rights.passwords === 'unknown' ? 'unknown' : 'known'
  return hasEntry || needsPassword === 'unknown'
    ? { ...explanation, needsPassword }
    : notConnected('password_file has no such user', explanation)
}

function foreseeBy(rights: Rights, asked: Identity, certificate: ClientCertificate | undefined): ReturnType<typeof foresee> {
  const { acl, listener, passwords, clientIdPrefix } = rights
  if (listener === undefined) return { identity: whoShows(rights, asked, certificate) }
  return foresee({ listener, acl, passwords: passwords === 'unknown' ? new Map() : passwords, clientIdPrefix }, asked, certificate)
}

// An ACL file alone says nothing of where the username comes from: it is the common name, as people mostly have it.
function whoShows({ acl, listener }: Rights, asked: Identity, certificate: ClientCertificate | undefined): Identity {
  if (certificate === undefined) return asked
  const name = listener === undefined ? certificate.commonName : nameInCertificate(listener, certificate)
  const username = listener === undefined || listener.username === 'from-connect' ? (asked.username ?? name) : name
  const facts = factsFor(acl, certificate)
  return { clientId: asked.clientId, ...(username !== undefined && { username }), ...(facts && { certificate: facts }) }
}

function notConnected(why = 'not authorised', { identity, topic, decision }: Explanation): Explanation {
  return { allowed: false, reason: 'not-connected', why, identity, topic, decision }
}

function explainAs(rights: Rights, identity: Identity, access: AclQuestion['access'], written: string): Explanation {
  const { mountPoint = '' } = rights.listener ?? {}
  if (access === 'subscribe') return { identity, ...explainFilter(rights, identity, `${mountPoint}${filterIn(written)}`) }
  return { identity, ...explainTopic(rights, identity, access, `${mountPoint}${written}`) }
}

function explainTopic({ acl }: Rights, identity: Identity, access: 'read' | 'write', topic: string): Omit<Explanation, 'identity'> {
  const decision = decide(acl, identity, access, topic)
  const { rule } = decision
  const opposite = access === 'read' ? 'write' : 'read'
  const other = decide(acl, identity, opposite, topic)
  const isMeant = !decision.allowed && rule === undefined && other.allowed && other.rule !== undefined
  return {
    topic,
    ...explanationOf(decision),
    ...(rule !== undefined && { next: decide(withoutRule(acl, rule), identity, access, topic) }),
    ...(isMeant && { instead: { access: opposite, decision: other } })
  }
}

// The SUBSCRIBE is one thing, what comes of it another.
function explainFilter({ acl, subscribeCheck }: Rights, identity: Identity, topic: string): Omit<Explanation, 'identity'> {
  const delivery = decideFilter(acl, identity, topic)
  const decision = subscribeCheck === 'strict' ? delivery : decide(acl, identity, 'subscribe', topic)
  const reach = reachOf(acl, identity, topic)
  return { topic, ...explanationOf(decision), reach, ...(!delivery.allowed && { dead: delivery }) }
}

function explanationOf(decision: Decision): Pick<Explanation, 'allowed' | 'reason' | 'why' | 'rule' | 'decision'> {
  const { allowed, reason, rule } = decision
  return { allowed, reason, why: explainDecision(decision), decision, ...(rule !== undefined && { rule }) }
}

// Of a shared subscription, what is behind the group.
function filterIn(text: string): string {
  const parsed = parseFilter(text)
  return typeof parsed === 'string' ? text : parsed.filter
}

function withoutRule(acl: Acl, rule: AclRule): Acl {
  if (acl.kind !== 'file') return acl
  const rest = <Line extends { readonly decision: Decision }>(lines: readonly Line[]): readonly Line[] =>
    lines.filter(({ decision }) => decision.rule !== rule)
  const sections = new Map(Array.from(acl.sections, ([username, lines]) => [username, rest(lines)]))
  return { ...acl, sections, anonymous: rest(acl.anonymous), patterns: rest(acl.patterns) }
}
