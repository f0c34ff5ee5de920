// Revocation lists: parsed once, with the places of their serial numbers, and asked for leaf certificates alone unless more is wanted, as
// Mosquitto does (Node's own `crl` option demands a list for every CA of the chain). What a list says counts only when the certificate's
// own issuer has signed it.

import { constants, createHash, type KeyObject, randomInt, verify } from 'node:crypto'
import { readExtension } from './certificate.js'
import type { Certificate } from './chain.js'
import {
  childrenOf,
  contentOf,
  type DerElement,
  DerError,
  elements,
  encodingOf,
  readElement,
  readObjectIdentifier,
  readTime,
  tags
} from './der.js'
import { canonicalName, formatName } from './distinguished-name.js'
import { findSerial, indexSerials, type SerialIndex } from './revocation-index.js'

export interface RevocationList {
  /** RFC 2253. */
  readonly issuer: string
  readonly issuerKey: string
  readonly thisUpdate: Date
  /** Absent: the list does not say when it ends. */
  readonly nextUpdate?: Date
  /** It says nothing about CAs. */
  readonly coversUsersOnly: boolean
  /** Hexadecimal SHA-256 of the whole list. */
  readonly digest: string
  /** Number of revoked certificates. */
  readonly size: number
  /** The moment of revocation of a serial number (`CertificateFields.serial`). */
  revokedAt(serial: string): Date | undefined
  /** Is it signed by this CA, and may that CA sign lists? */
  isSignedBy(issuer: Certificate): boolean
}

export type RevocationResult =
  | { readonly revoked: false }
  | { readonly revoked: true; readonly at: Date }
  /** No answer, so nobody gets in: no list of this issuer, or it is past its nextUpdate, or its time has not come. */
  | { readonly revoked: 'unknown'; readonly why: 'missing' }
  | { readonly revoked: 'unknown'; readonly why: 'expired' | 'not-yet-valid'; readonly date: Date }

/** What is asked of lists beyond Mosquitto's way. */
export interface RevocationRules {
  /** `#!crl_expired warn`: a list that is past its nextUpdate still says who is revoked, and refuses nobody else. */
  readonly forgivesExpired?: boolean
  /** It is a CA that is asked about: lists of user certificates alone don't count. */
  readonly isAuthority?: boolean
}

/** Is this certificate revoked? `issuer` is the CA that signed it. */
export function checkRevocation(
  lists: readonly RevocationList[],
  certificate: Certificate,
  issuer: Certificate,
  now: Date,
  { forgivesExpired = false, isAuthority = false }: RevocationRules = {}
): RevocationResult {
  const ofIssuer = lists.filter(list => list.issuerKey === issuer.fields.subjectKey && !(isAuthority && list.coversUsersOnly))
  const signed = ofIssuer.filter(list => list.isSignedBy(issuer))
  const newest = newestOf(signed.filter(({ thisUpdate }) => thisUpdate <= now))
  if (newest === undefined) {
    const future = newestOf(signed)
    return future === undefined
      ? { revoked: 'unknown', why: 'missing' }
      : { revoked: 'unknown', why: 'not-yet-valid', date: future.thisUpdate }
  }
  // Who was revoked stays so, however old the list.
  const at = newest.revokedAt(certificate.fields.serial)
  if (at !== undefined) return { revoked: true, at }
  const { nextUpdate } = newest
  return nextUpdate !== undefined && nextUpdate < now && !forgivesExpired
    ? { revoked: 'unknown', why: 'expired', date: nextUpdate }
    : { revoked: false }
}

/** What takes long to find out about a list, so that another thread may do it. */
export interface ListIndex {
  readonly serials: SerialIndex
  /** Hexadecimal SHA-256 of the whole list. */
  readonly digest: string
  /** By fingerprint of a CA's certificate: has its key signed the list? */
  readonly verdicts: ReadonlyMap<string, boolean>
}

/** A CA that a list may be of. */
export interface Signer {
  /** `CertificateFields.subjectKey`. */
  readonly subjectKey: string
  readonly fingerprint: string
  readonly publicKey: KeyObject
}

/** Looks at every entry of a list, and at its signature. Throws a DerError, whose message says why, for what cannot be honoured. */
export function indexRevocationList(der: Buffer, signers: readonly Signer[] = []): ListIndex {
  const { issuerKey, entries, isSigned } = readList(der)
  const verdicts = signers
    .filter(({ subjectKey }) => subjectKey === issuerKey)
    .map(({ fingerprint, publicKey }) => [fingerprint, isSigned(publicKey)] as const)
  return {
    serials: indexSerials(entries, randomInt(0x1_0000_0000)),
    digest: createHash('sha256').update(der).digest('hex'),
    verdicts: new Map(verdicts)
  }
}

/** Parses one list; quick where its index is there already. */
export function parseRevocationList(der: Buffer, { serials, digest, verdicts: known } = indexRevocationList(der)): RevocationList {
  const { isSigned, entries, ...fields } = readList(der)
  const verdicts = new Map(known)
  return {
    issuer: fields.issuer,
    issuerKey: fields.issuerKey,
    thisUpdate: fields.thisUpdate,
    ...(fields.nextUpdate !== undefined && { nextUpdate: fields.nextUpdate }),
    coversUsersOnly: fields.coversUsersOnly,
    digest,
    size: serials.size,
    revokedAt: serial => {
      const entry = findSerial(entries, serials, serial)
      return entry === undefined ? undefined : revocationTime(readElement(entries, entry), fields.thisUpdate)
    },
    isSignedBy: issuer => {
      if (issuer.fields.keyUsage?.crlSign === false) return false
      const key = issuer.x509.fingerprint256
      let verdict = verdicts.get(key)
      if (verdict === undefined) {
        verdict = isSigned(issuer.x509.publicKey)
        if (verdicts.size < maxVerdicts) verdicts.set(key, verdict)
      }
      return verdict
    }
  }
}

type ReadList = SignedFields & { readonly isSigned: (key: KeyObject) => boolean }

function readList(der: Buffer): ReadList {
  const [signed, algorithm, signature] = childrenOf(readElement(der))
  const container = contentOf(readElement(der), tags.sequence)
  const fields = readSigned(contentOf(signed, tags.sequence))
  if (signed === undefined || algorithm === undefined || !encodingOf(container, algorithm).equals(fields.algorithm)) {
    throw new DerError('the two signature algorithms differ')
  }
  return { ...fields, isSigned: signatureCheck(encodingOf(container, signed), algorithm, readBitString(signature)) }
}

// A signature is whole bytes: the count of unused bits in front of them is 0.
function readBitString(element: DerElement | undefined): Buffer {
  const content = contentOf(element, tags.bitString)
  if (content[0] !== 0) throw new DerError('signature of another form')
  return content.subarray(1)
}

// A list has one signer, or a few while a CA changes its key; peers may show look-alikes without end.
const maxVerdicts = 64

interface SignedFields {
  readonly algorithm: Buffer
  readonly issuer: string
  readonly issuerKey: string
  readonly thisUpdate: Date
  readonly nextUpdate: Date | undefined
  readonly coversUsersOnly: boolean
  readonly entries: Buffer
}

function readSigned(content: Buffer): SignedFields {
  const fields = [...elements(content)]
  if (fields[0]?.tag === tags.integer) fields.shift()
  const [algorithm, issuer, thisUpdate] = fields.splice(0, 3)
  if (algorithm === undefined || issuer === undefined) throw new DerError('issuer missing')
  const nextUpdate = isTime(fields[0]) ? fields.shift() : undefined
  const entries = fields[0]?.tag === tags.sequence ? fields.shift() : undefined
  const [extensions] = fields
  const parts = extensions === undefined ? [] : childrenOf(childrenOf(extensions, tags.context(0))[0])
  const scopes = parts.map(checkExtension)
  const name = encodingOf(content, issuer)
  return {
    algorithm: encodingOf(content, algorithm),
    issuer: formatName(name),
    issuerKey: canonicalName(name),
    thisUpdate: readTime(thisUpdate),
    nextUpdate: nextUpdate && readTime(nextUpdate),
    coversUsersOnly: scopes.includes('users'),
    entries: entries?.content ?? Buffer.alloc(0)
  }
}

const isTime = (element: DerElement | undefined): boolean => element?.tag === tags.utcTime || element?.tag === tags.generalizedTime

/** An entry counts whatever its date looks like: it was there when the list was made. */
function revocationTime(entry: DerElement, thisUpdate: Date): Date {
  try {
    return readTime(childrenOf(entry)[1])
  } catch {
    return thisUpdate
  }
}

const oids = { issuingDistributionPoint: '2.5.29.28', deltaIndicator: '2.5.29.27' }

// A list that we half understand would let revoked certificates in: it is refused as a whole [RFC 5280, 5.2].
function checkExtension(extension: DerElement): 'users' | undefined {
  const { oid, critical, value } = readExtension(extension)
  if (oid === oids.deltaIndicator) throw new DerError('it is a delta CRL; a complete one is needed')
  if (oid === oids.issuingDistributionPoint) return checkDistributionPoint(value)
  if (critical) throw new DerError(`it has the critical extension ${oid}, which is not supported`)
  return undefined
}

// onlyContainsUserCerts, [1], changes nothing for a leaf. All else makes it a part of a list, or one of other certificates.
function checkDistributionPoint(value: Buffer): 'users' | undefined {
  const onlyUserCertificates = 0x81
  const parts = childrenOf(readElement(value))
  if (parts.some(({ tag }) => tag !== onlyUserCertificates)) {
    throw new DerError('it covers a part of the certificates only (issuing distribution point); a complete CRL is needed')
  }
  return parts.some(({ content }) => content[0] !== 0) ? 'users' : undefined
}

function newestOf(lists: readonly RevocationList[]): RevocationList | undefined {
  return lists.reduce<RevocationList | undefined>(
    (newest, list) => (newest === undefined || list.thisUpdate > newest.thisUpdate ? list : newest),
    undefined
  )
}

// Signature algorithms and the digest that goes with them; null: the algorithm has its own.
const digests = new Map<string, string | null>([
  ['1.2.840.113549.1.1.5', 'sha1'],
  ['1.2.840.113549.1.1.14', 'sha224'],
  ['1.2.840.113549.1.1.11', 'sha256'],
  ['1.2.840.113549.1.1.12', 'sha384'],
  ['1.2.840.113549.1.1.13', 'sha512'],
  ['1.2.840.10045.4.1', 'sha1'],
  ['1.2.840.10045.4.3.1', 'sha224'],
  ['1.2.840.10045.4.3.2', 'sha256'],
  ['1.2.840.10045.4.3.3', 'sha384'],
  ['1.2.840.10045.4.3.4', 'sha512'],
  ['1.3.101.112', null],
  ['1.3.101.113', null]
])

const hashes = new Map<string, string>([
  ['1.3.14.3.2.26', 'sha1'],
  ['2.16.840.1.101.3.4.2.1', 'sha256'],
  ['2.16.840.1.101.3.4.2.2', 'sha384'],
  ['2.16.840.1.101.3.4.2.3', 'sha512']
])

const rsaPss = '1.2.840.113549.1.1.10'

function signatureCheck(signed: Buffer, algorithm: DerElement, signature: Buffer): (key: KeyObject) => boolean {
  const [type, parameters] = childrenOf(algorithm)
  const oid = readObjectIdentifier(contentOf(type, tags.objectIdentifier))
  const digest = digests.get(oid)
  if (digest !== undefined) return key => verifies(() => verify(digest, signed, key, signature))
  if (oid !== rsaPss) throw new DerError(`it is signed with algorithm ${oid}, which is not supported`)
  const { hash, saltLength } = readPssParameters(parameters)
  return key => verifies(() => verify(hash, signed, { key, padding: constants.RSA_PKCS1_PSS_PADDING, saltLength }, signature))
}

// A key of another kind than the signature's throws.
function verifies(check: () => boolean): boolean {
  try {
    return check()
  } catch {
    return false
  }
}

function readPssParameters(parameters: DerElement | undefined): { hash: string; saltLength: number } {
  let hash: string | undefined = 'sha1'
  let saltLength = 20
  for (const parameter of childrenOf(parameters)) {
    const inner = readElement(parameter.content)
    if (parameter.tag === tags.context(0)) hash = hashes.get(readObjectIdentifier(contentOf(childrenOf(inner)[0], tags.objectIdentifier)))
    if (parameter.tag === tags.context(2)) saltLength = contentOf(inner, tags.integer).readUIntBE(0, Math.min(inner.content.length, 4))
  }
  if (hash === undefined) throw new DerError('it is signed with an RSA-PSS hash that is not supported')
  return { hash, saltLength }
}
