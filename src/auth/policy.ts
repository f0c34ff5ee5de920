// What one listener enforces: who comes in, under which name, and what they may do. Frozen; a reload builds new ones beside the old.
// No clock, timer or socket: waiting and hashing are done by what is passed in.

import type { ListenerConfig } from '../config/types.js'
import { BrokerError, errorMessage } from '../errors.js'
import type { Log } from '../log-events.js'
import { type Access, type Acl, type Decision, decide } from './acl.js'
import type { Connection, Identity } from './identity.js'
import { formatPasswordHash, type PasswordEntry } from './password-file.js'
import type { PasswordHasher } from './password-hash.js'
import { addressGroup, type LoginThrottle } from './throttle.js'

/** What a CONNECT says of its sender. */
export interface Credentials {
  /** Never empty: who sent none has been given one. */
  readonly clientId: string
  readonly username?: string
  readonly password?: Buffer
}

export type Refusal = 'not-authorised' | 'bad-credentials' | 'busy'

/** Let in. `credentials` and `hash` are for a later `recheck`; they hold a secret and go into no log. */
export interface Admitted {
  readonly ok: true
  readonly identity: Identity
  readonly provenBy: 'anonymous' | 'password' | 'certificate'
  readonly credentials: Credentials
  /** The entry of password_file that the password was found to match. */
  readonly hash?: string
}

export interface Refused {
  readonly ok: false
  readonly refusal: Refusal
}

export type Admission = Admitted | Refused

export interface Policy {
  /** May this connection come in, and as whom? */
  authenticate(connection: Connection, credentials: Credentials): Promise<Admission>
  /** The same question about a client that is in, after a reload. Where a password is to be hashed: what does that, when called. */
  recheck(connection: Connection, admitted: Admitted): Admission | (() => Promise<Admission>)
  authorize(identity: Identity, access: Access, topic: string): Decision
}

export interface PolicyParts {
  readonly listener: ListenerConfig
  readonly acl: Acl
  /** The entries of password_file; absent: there is none. */
  readonly passwords?: ReadonlyMap<string, PasswordEntry> | undefined
  /** `clientid_prefixes`: what every client identifier starts with. */
  readonly clientIdPrefix?: string | undefined
  /** Shared by all policies, as its memory and its queue are. */
  readonly hasher: Pick<PasswordHasher, 'verify' | 'verifyUnknown'>
  readonly log: Log
  readonly throttle: Pick<LoginThrottle, 'delay' | 'wait' | 'failed' | 'succeeded'>
  /** Milliseconds of a clock that doesn't run backwards. */
  now(): number
  sleep(milliseconds: number): Promise<void>
}

export function buildPolicy(parts: PolicyParts): Policy {
  return Object.freeze({
    authenticate: (connection, credentials) => authenticate(parts, connection, credentials),
    recheck: (connection, admitted) => recheck(parts, connection, admitted),
    authorize: (identity, access, topic) => decide(parts.acl, identity, access, topic)
  } satisfies Policy)
}

const notAuthorised: Refused = Object.freeze({ ok: false, refusal: 'not-authorised' })
const badCredentials: Refused = Object.freeze({ ok: false, refusal: 'bad-credentials' })
const busy: Refused = Object.freeze({ ok: false, refusal: 'busy' })

async function authenticate(parts: PolicyParts, connection: Connection, credentials: Credentials): Promise<Admission> {
  const claim = judgeClaim(parts, connection, credentials)
  if ('ok' in claim) return claim
  const { throttle, log, sleep, now } = parts
  const { remoteAddress, remotePort } = connection
  const delay = throttle.delay(remoteAddress, claim.username, now())
  if (delay > 0) {
    const leave = throttle.wait(remoteAddress)
    if (leave === undefined) return busy
    log.write('loginDelayed', { remoteAddress, remotePort, username: claim.username, delay })
    await sleep(delay)
    leave()
  }
  const admission = await judgePassword(parts, claim, remoteAddress)
  if (admission.ok) throttle.succeeded(remoteAddress, claim.username, now())
  else if (admission === busy) log.write('passwordsBusy', {})
  else throttle.failed(remoteAddress, claim.username, now())
  return admission
}

// Only a changed entry is hashed for: a client whose entry was written anew with the same password stays, one whose password was changed
// goes, as with Mosquitto. For that the password of every client that sent one is kept in memory.
function recheck(parts: PolicyParts, connection: Connection, { credentials, hash }: Admitted): Admission | (() => Promise<Admission>) {
  const claim = judgeClaim(parts, connection, credentials)
  if ('ok' in claim) return claim
  if (hash !== undefined && claim.entry !== undefined && formatPasswordHash(claim.entry.password) === hash) return admitProven(claim, hash)
  return () => recheckPassword(parts, claim, connection.remoteAddress)
}

/** How often, and after how long, a re-check asks again while the hashing queue is full with logins. */
const recheckTries = 20
const recheckPause = 500

async function recheckPassword(parts: PolicyParts, claim: PasswordClaim, address: string): Promise<Admission> {
  for (let tries = 0; tries < recheckTries; tries++) {
    const admission = await judgePassword(parts, claim, address)
    if (admission !== busy) return admission
    await parts.sleep(recheckPause)
  }
  return busy
}

// Somebody says to be `username`; the hash decides.
interface PasswordClaim {
  readonly identity: Identity
  readonly credentials: Credentials
  readonly username: string
  readonly password: Buffer | undefined
  /** Absent: nobody of that name is in the file. */
  readonly entry: PasswordEntry | undefined
  readonly passwords: ReadonlyMap<string, PasswordEntry>
}

// Everything that can be said without hashing, in Mosquitto's order: prefix, name, client identifier from the name, password.
function judgeClaim(
  { listener, passwords, clientIdPrefix }: PolicyParts,
  connection: Connection,
  sent: Credentials
): Admission | PasswordClaim {
  if (clientIdPrefix !== undefined && !sent.clientId.startsWith(clientIdPrefix)) return notAuthorised

  if (listener.username !== 'from-connect') {
    const username = nameInCertificate(listener, connection)
    // Either name is compared with ACL lines and put into patterns; a NUL would cut it short elsewhere.
    if (username === undefined || username === '' || username.includes('\0')) return badCredentials
    // The certificate is the proof. What CONNECT says of name and password is ignored, and the name need not be in password_file.
    const credentials = { clientId: sent.clientId }
    return admit(listener, { clientId: sent.clientId, username }, 'certificate', credentials)
  }

  const { username, password } = sent
  // An empty client identifier is none: no ACL line could be meant for it.
  if (listener.useUsernameAsClientId && (username === undefined || username === '')) return notAuthorised
  if (passwords === undefined || username === undefined) {
    // No file, or no name to look up in it: neither proves anything.
    if (!listener.security.allowAnonymous) return notAuthorised
    return admit(listener, identityOf(sent), 'anonymous', sent)
  }
  // A name that is not in the file is refused even where anonymous clients are welcome.
  return {
    identity: nameClient(listener, identityOf(sent)),
    credentials: sent,
    username,
    password,
    entry: passwords.get(username),
    passwords
  }
}

async function judgePassword({ hasher, log }: PolicyParts, claim: PasswordClaim, address: string): Promise<Admission> {
  const { username, password, entry, passwords } = claim
  const source = addressGroup(address)
  try {
    if (entry === undefined || password === undefined) {
      // A stranger costs what a known user does, so that time doesn't tell who is in the file.
      await hasher.verifyUnknown(passwords, username, password ?? Buffer.alloc(0), source)
      return notAuthorised
    }
    return (await hasher.verify(entry, password, source)) ? admitProven(claim, formatPasswordHash(entry.password)) : notAuthorised
  } catch (error) {
    // Neither says anything about the password, so it is nobody's failed login.
    if (!(error instanceof BrokerError && error.code === 'ERR_PASSWORD_BUSY'))
      log.write('passwordCheckFailed', { reason: errorMessage(error) })
    return busy
  }
}

function admitProven({ identity, credentials }: PasswordClaim, hash: string): Admitted {
  return Object.freeze({ ok: true, identity, provenBy: 'password', credentials, hash })
}

function admit(listener: ListenerConfig, identity: Identity, provenBy: Admitted['provenBy'], credentials: Credentials): Admitted {
  return Object.freeze({ ok: true, identity: nameClient(listener, identity), provenBy, credentials })
}

function nameInCertificate(listener: ListenerConfig, { tls }: Connection): string | undefined {
  switch (listener.username) {
    case 'from-common-name':
      return tls?.certificate?.commonName
    case 'from-subject':
      return tls?.certificate?.subject
    case 'from-connect':
      return undefined
  }
}

function nameClient(listener: ListenerConfig, { clientId, username }: Identity): Identity {
  if (username === undefined) return Object.freeze({ clientId })
  return Object.freeze({ clientId: listener.useUsernameAsClientId ? username : clientId, username })
}

function identityOf({ clientId, username }: Credentials): Identity {
  return username === undefined ? { clientId } : { clientId, username }
}
