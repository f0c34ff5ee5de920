// What one listener enforces: who comes in, under which name, and what they may do. Frozen; a reload builds new ones beside the old.
// No clock, timer or socket: waiting and hashing are done by what is passed in.

import type { ListenerConfig } from '../config/types.js'
import { BrokerError, errorMessage } from '../errors.js'
import { type Log, nameSources } from '../log-events.js'
import { type Access, type Acl, type Decision, decide } from './acl.js'
import { decideFilter } from './acl-reach.js'
import { decideBeside } from './acl-shadow.js'
import { factsOf, fingerprintOf, firstAlternativeName, serialOf } from './certificate-names.js'
import type { CertificateFacts, ClientCertificate, Connection, Identity } from './identity.js'
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

export type Refusal = 'not-authorised' | 'bad-credentials' | 'client-id' | 'busy'

/** Let in. `credentials` and `hash` are for a later `recheck`; they hold a secret and go into no log. */
export interface Admitted {
  readonly ok: true
  readonly identity: Identity
  readonly provenBy: 'anonymous' | 'password' | 'certificate' | 'psk'
  readonly credentials: Credentials
  /** The entry of password_file that the password was found to match. */
  readonly hash?: string
}

export interface Refused {
  readonly ok: false
  readonly refusal: Refusal
  /** A sentence without its full stop, where the configuration alone decides. */
  readonly why?: string
}

export type Admission = Admitted | Refused

export interface Policy {
  /** May this connection come in, and as whom? */
  authenticate(connection: Connection, credentials: Credentials): Promise<Admission>
  /** The same question about a client that is in, after a reload. Where a password is to be hashed: what does that, when called. */
  recheck(connection: Connection, admitted: Admitted): Admission | (() => Promise<Admission>)
  authorize(identity: Identity, access: Access, topic: string): Decision
  /** May anything that matches this filter be delivered to this client? */
  authorizeFilter(identity: Identity, filter: string): Decision
}

export interface PolicyParts {
  readonly listener: ListenerConfig
  readonly acl: Acl
  /** Asked beside it, to no effect; absent: there is none. */
  readonly shadow?: Acl | undefined
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
  const { acl, shadow } = parts
  return Object.freeze({
    authenticate: (connection, credentials) => authenticate(parts, connection, credentials),
    recheck: (connection, admitted) => recheck(parts, connection, admitted),
    authorize: shadow === undefined ? (identity, access, topic) => decide(acl, identity, access, topic) : decideBeside(acl, shadow),
    authorizeFilter: (identity, filter) => decideFilter(acl, identity, filter)
  } satisfies Policy)
}

/** Who a client will be for the ACL. */
export interface Foreseen {
  readonly identity: Identity
  /** It has to prove that with a password: has password_file an entry for it? */
  readonly hasEntry?: boolean
}

/**
 * Who a client would be, or why it is refused, as far as that is known before it comes: for people who ask what it may do. Without a
 * certificate `username` is the name in it, where the listener takes that one, and its common name where client ids must match that.
 */
export function foresee(
  parts: ClaimParts,
  { clientId, username, certificate: facts }: Identity,
  certificate?: ClientCertificate
): Foreseen | Refused {
  const { listener, acl } = parts
  // One that isn't asked for is not shown.
  const shown = listener.tls?.requireCertificate ? certificate : undefined
  const bearer =
    certificate === undefined
      ? { name: username, commonName: username, facts }
      : { name: nameInCertificate(listener, shown), commonName: shown?.commonName, facts: shown && factsFor(acl, shown) }
  const claim = judgeClaim(parts, bearer, { clientId, ...(username !== undefined && { username }) })
  if (!('ok' in claim)) return { identity: claim.identity, hasEntry: claim.entry !== undefined }
  return claim.ok ? { identity: claim.identity } : claim
}

const refuse = (refusal: Refusal, why?: string): Refused => Object.freeze({ ok: false, refusal, ...(why !== undefined && { why }) })
const notAuthorised = refuse('not-authorised')
const busy = refuse('busy')
const wrongPrefix = refuse('not-authorised', 'client ids have to begin as clientid_prefixes says')
const noUsername = refuse('not-authorised', 'use_username_as_clientid needs a username')
const noAnonymous = refuse('not-authorised', 'allow_anonymous is false, and the client has no username')
const noProof = refuse('not-authorised', 'allow_anonymous is false, and there is no password_file that could prove a username')

const nameless = ({ username }: ListenerConfig): Refused =>
  refuse('bad-credentials', `the listener takes the ${nameSources[username]}, and there is none`)

async function authenticate(parts: PolicyParts, connection: Connection, credentials: Credentials): Promise<Admission> {
  const claim = judgeClaim(parts, bearerOf(parts, connection), credentials)
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
  const claim = judgeClaim(parts, bearerOf(parts, connection), credentials)
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

type ClaimParts = Pick<PolicyParts, 'listener' | 'acl' | 'shadow' | 'passwords' | 'clientIdPrefix'>

/** What the transport says of who is at its other end. */
interface Bearer {
  /** The username that the listener takes from it. */
  readonly name: string | undefined
  /** Of the certificate. */
  readonly commonName: string | undefined
  readonly facts: CertificateFacts | undefined
  readonly hasKey?: boolean
}

function bearerOf({ listener, acl, shadow }: PolicyParts, { tls }: Connection): Bearer {
  const { certificate, psk } = tls ?? {}
  const facts = certificate && factsFor(acl, certificate, shadow)
  const name = listener.username === 'from-psk-identity' ? psk?.identity : nameInCertificate(listener, certificate)
  return { name, commonName: certificate?.commonName, facts, hasKey: psk !== undefined }
}

/** What an ACL asks of a client certificate. */
export function factsFor(acl: Acl, certificate: ClientCertificate, shadow?: Acl): CertificateFacts | undefined {
  const asked = [acl, shadow].flatMap(each => (each?.kind === 'file' ? [...each.facts] : []))
  return factsOf(certificate, new Set(asked))
}

// Everything that can be said without hashing, in Mosquitto's order: prefix, name, client identifier from the name, password.
function judgeClaim(parts: ClaimParts, bearer: Bearer, sent: Credentials): Admission | PasswordClaim {
  const claim = judgeName(parts, bearer, sent)
  if ('ok' in claim && !claim.ok) return claim
  const { clientIdMustMatch } = parts.listener
  return clientIdMustMatch === undefined ? claim : (objectionToClientId(clientIdMustMatch, claim.identity.clientId, bearer) ?? claim)
}

function judgeName(
  { listener, passwords, clientIdPrefix }: ClaimParts,
  { name, facts, hasKey = false }: Bearer,
  sent: Credentials
): Admission | PasswordClaim {
  if (clientIdPrefix !== undefined && !sent.clientId.startsWith(clientIdPrefix)) return wrongPrefix

  if (listener.username !== 'from-connect') {
    const username = name
    // Either name is compared with ACL lines and put into patterns; a NUL would cut it short elsewhere.
    if (username === undefined || username === '' || username.includes('\0')) return nameless(listener)
    // The certificate is the proof. What CONNECT says of name and password is ignored, and the name need not be in password_file.
    const credentials = { clientId: sent.clientId }
    return admit(listener, withFacts({ clientId: sent.clientId, username }, facts), hasKey ? 'psk' : 'certificate', credentials)
  }

  const { username, password } = sent
  // An empty client identifier is none: no ACL line could be meant for it.
  if (listener.useUsernameAsClientId && (username === undefined || username === '')) return noUsername
  if (passwords === undefined || username === undefined) {
    // No file, or no name to look up in it: neither proves anything.
    if (!listener.security.allowAnonymous) return username === undefined ? noAnonymous : noProof
    return admit(listener, withFacts(identityOf(sent), facts), 'anonymous', sent)
  }
  // A name that is not in the file is refused even where anonymous clients are welcome.
  return {
    identity: nameClient(listener, withFacts(identityOf(sent), facts)),
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

/** The username that the listener takes from a client certificate; undefined: it takes none, or there is none in it. */
export function nameInCertificate(
  listener: Pick<ListenerConfig, 'username'>,
  certificate: ClientCertificate | undefined
): string | undefined {
  if (certificate === undefined) return undefined
  switch (listener.username) {
    case 'from-common-name':
      return certificate.commonName
    case 'from-subject':
      return certificate.subject
    case 'from-san-dns':
      return firstAlternativeName(certificate, 'dns')
    case 'from-san-uri':
      return firstAlternativeName(certificate, 'uri')
    case 'from-san-email':
      return firstAlternativeName(certificate, 'email')
    case 'from-serial':
      return serialOf(certificate)
    case 'from-fingerprint':
      return fingerprintOf(certificate)
    case 'from-connect':
    case 'from-psk-identity':
      return undefined
  }
}

// The tenant may be any, yet neither it nor the common name may be what a part of a client id can't be: with a colon in one of them the
// parts would be others' parts.
function objectionToClientId(form: '*:cn' | 'cn', clientId: string, { commonName }: Bearer): Refused | undefined {
  if (commonName === undefined || commonName === '') {
    return refuse('client-id', 'client id must match the common name of the certificate, and there is none')
  }
  if (form === 'cn')
    return clientId === commonName ? undefined : refuse('client-id', `client id must be '${commonName}', as the certificate says`)
  if (isUnfit(commonName))
    return refuse(
      'client-id',
      `common name '${commonName}' holds what no part of a client id can hold: '/', '+', '#', ':' or a control character`
    )
  const tenant = clientId.endsWith(`:${commonName}`) ? clientId.slice(0, -commonName.length - 1) : ''
  if (tenant !== '' && !isUnfit(tenant)) return undefined
  return refuse('client-id', `client id must be a tenant and ':${commonName}', as the certificate says`)
}

const isUnfit = (part: string): boolean => /[/+#:\p{Cc}]/u.test(part)

function nameClient(listener: ListenerConfig, identity: Identity): Identity {
  const { clientId, username } = identity
  if (username === undefined) return Object.freeze(identity)
  return Object.freeze({ ...identity, clientId: listener.useUsernameAsClientId ? username : clientId })
}

function withFacts(identity: Identity, certificate: CertificateFacts | undefined): Identity {
  return certificate === undefined ? identity : { ...identity, certificate }
}

function identityOf({ clientId, username }: Credentials): Identity {
  return username === undefined ? { clientId } : { clientId, username }
}
