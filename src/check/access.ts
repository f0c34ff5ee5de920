// What `check` says about who comes in and what they may do: doors that stand open or let nobody in, names that nobody has to prove, and
// rights that nobody can use.

import { quoteName } from '../auth/password-file.js'
import type { Bind } from '../config/types.js'
import type { Location, Problem } from '../errors.js'
import { listenerName } from '../reload.js'
import type { ListenerSnapshot } from '../snapshot.js'

/** Of a file that does not fit another one, so many users are named. */
const named = 20

/** `isComplete`: every ACL and password file could be read, so that what is missing in one is missing indeed. */
export function adviseOnAccess(listeners: readonly ListenerSnapshot[], isComplete: boolean): readonly Problem[] {
  const open = listeners.flatMap(listener => [...doors(listener)])
  if (!isComplete) return open
  return [...open, ...listeners.flatMap(listener => [...emptyFile(listener)]), ...strangers(listeners), ...powerless(listeners)]
}

/** Whether a listener is open to this machine alone, as far as its address tells. */
export function isLocal(bind: Bind): boolean {
  switch (bind.kind) {
    case 'loopback':
    case 'unix':
      return true
    case 'any':
      return false
    case 'host':
      return bind.host === 'localhost' || bind.host === '::1' || /^127\.\d+\.\d+\.\d+$/.test(bind.host)
  }
}

function* doors({ config, acl }: ListenerSnapshot): Generator<Problem> {
  const { at, bind, security, tls, psk, username } = config
  // Where certificates give the names, nobody comes in without one.
  if (username !== 'from-connect') return
  const [name, hasFile] = [listenerName(config), security.passwordFile !== undefined]
  const warn = (code: Problem['code'], message: string): Problem => ({ severity: 'warning', code, message, ...(at && { at }) })

  if (!security.allowAnonymous && !hasFile) {
    const reason = "'allow_anonymous' is false (the default) and there is no 'password_file'"
    yield warn('ERR_ACCESS_CLOSED', `Nobody can come in by the listener on ${name}: ${reason}.`)
  }
  if (security.allowAnonymous && !tls?.requireCertificate && !psk && !isLocal(bind)) {
    const who = hasFile ? 'whoever gives no username' : 'everybody'
    const rights =
      acl.kind === 'file' ? 'the ACL file alone says what they may do' : 'without an ACL file they may read and write everything'
    const advice = "'allow_anonymous false' with a 'password_file', or 'require_certificate true', asks for proof"
    yield warn(
      'ERR_ACCESS_OPEN',
      `The listener on ${name} can be reached from outside and lets ${who} in without proof; ${rights}. ${advice}.`
    )
  }
  if (security.allowAnonymous && !hasFile && goesByUsername(acl)) {
    const advice = "A 'password_file', or certificates with 'use_identity_as_username true', proves them"
    const message = `The listener on ${name} takes any username unproven, and acl_file "${security.aclFile?.path}" gives rights by username. ${advice}.`
    yield warn('ERR_ACCESS_UNPROVEN', message)
  }
  if (hasFile && !tls && !psk && !isLocal(bind)) {
    const message = `Passwords travel in clear text to the listener on ${name}: 'certfile' and 'keyfile' encrypt them.`
    yield { ...warn('ERR_ACCESS_UNPROVEN', message), severity: 'notice' }
  }
}

function* emptyFile({ config, passwords }: ListenerSnapshot): Generator<Problem> {
  const { security, username } = config
  if (username !== 'from-connect' || security.allowAnonymous || !security.passwordFile || passwords?.size !== 0) return
  const { path, at } = security.passwordFile
  const message = `Nobody can come in by the listener on ${listenerName(config)}: password_file "${path}" has no users.`
  yield { severity: 'warning', code: 'ERR_ACCESS_CLOSED', message, at }
}

const goesByUsername = (acl: ListenerSnapshot['acl']): boolean =>
  acl.kind === 'file' && (acl.sections.size > 0 || acl.patterns.some(({ namesUser }) => namesUser))

// A name in an acl_file that can come in by no listener of that file.
function* strangers(listeners: readonly ListenerSnapshot[]): Generator<Problem> {
  for (const [acl, users] of groupBy(listeners, listener => listener.acl)) {
    const closed = users.filter(({ passwords }) => passwords !== undefined)
    const [first] = closed
    if (acl.kind !== 'file' || first?.passwords === undefined || !users.every(asksForEntry)) continue
    const file = first.config.security.passwordFile?.path
    const unknown = [...acl.sections].filter(([user]) => closed.every(({ passwords }) => !passwords?.has(user)))
    const places = unknown.map(([user, rules]) => ({ user, at: firstOf(rules.flatMap(({ decision }) => decision.rule?.at ?? [])) }))
    yield* each(
      places,
      'warning',
      user => `User ${quoteName(user)} has rules and no entry in password_file "${file}": nobody can use them.`
    )
  }
}

/** Whether a name has to be in the listener's password_file. */
function asksForEntry({ config, passwords }: ListenerSnapshot): boolean {
  if (config.username !== 'from-connect') return false
  return passwords !== undefined || !config.security.allowAnonymous
}

// A user of a password_file whom the acl_file of the same listener allows nothing at all.
function* powerless(listeners: readonly ListenerSnapshot[]): Generator<Problem> {
  for (const [passwords, users] of groupBy(listeners, listener => listener.passwords)) {
    if (passwords === undefined) continue
    const idle = [...passwords.values()].filter(({ username }) => users.every(listener => !mayAnything(listener, username)))
    const [first] = users
    const file = first?.config.security.aclFile?.path
    yield* each(
      idle.map(({ username, at }) => ({ user: username, at })),
      'notice',
      user => `User ${quoteName(user)} has no rules in acl_file "${file}", which has no patterns: it may neither read nor write anything.`
    )
  }
}

function mayAnything({ acl }: ListenerSnapshot, username: string): boolean {
  return acl.kind !== 'file' || acl.sections.has(username) || acl.patterns.length > 0
}

function* each(
  users: readonly { readonly user: string; readonly at: Location | undefined }[],
  severity: Problem['severity'],
  sentence: (user: string) => string
): Generator<Problem> {
  for (const { user, at } of users.slice(0, named)) yield { severity, code: 'ERR_ACL_USER', message: sentence(user), ...(at && { at }) }
  const [more] = users.slice(named)
  if (more === undefined) return
  const message = `The same is true of ${users.length - named} further users.`
  yield { severity, code: 'ERR_ACL_USER', message, ...(more.at && { at: more.at }) }
}

/** The one that stands first in its file. */
function firstOf(places: readonly Location[]): Location | undefined {
  return places.reduce<Location | undefined>(
    (first, at) => (first === undefined || (at.line ?? 0) < (first.line ?? 0) ? at : first),
    undefined
  )
}

function groupBy<Key>(listeners: readonly ListenerSnapshot[], key: (listener: ListenerSnapshot) => Key): Map<Key, ListenerSnapshot[]> {
  const groups = new Map<Key, ListenerSnapshot[]>()
  for (const listener of listeners) {
    const group = groups.get(key(listener))
    if (group) group.push(listener)
    else groups.set(key(listener), [listener])
  }
  return groups
}
