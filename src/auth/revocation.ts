// Revocation lists: parsed once into the serial numbers of each issuer, asked for leaf certificates alone, as Mosquitto does (Node's
// own `crl` option demands a list for every CA of the chain). What a list says counts only when the leaf's own issuer has signed it.

import { constants, type KeyObject, verify } from 'node:crypto'
import { readExtension } from './certificate.js'
import type { Certificate } from './chain.js'
import {
  childrenOf,
  contentOf,
  type DerElement,
  DerError,
  elements,
  encodingOf,
  integerKey,
  readElement,
  readObjectIdentifier,
  readTime,
  tags
} from './der.js'
import { canonicalName, formatName } from './distinguished-name.js'

export interface RevocationList {
  /** RFC 2253. */
  readonly issuer: string
  readonly issuerKey: string
  readonly thisUpdate: Date
  /** Absent: the list does not say when it ends. */
  readonly nextUpdate?: Date
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

/** Is this leaf revoked? `issuer` is the CA that signed it. */
export function checkRevocation(lists: readonly RevocationList[], leaf: Certificate, issuer: Certificate, now: Date): RevocationResult {
  const signed = lists.filter(list => list.issuerKey === issuer.fields.subjectKey && list.isSignedBy(issuer))
  const current = signed.filter(({ thisUpdate }) => thisUpdate <= now)
  const newest = newestOf(current)
  if (newest === undefined) {
    const future = newestOf(signed)
    return future === undefined
      ? { revoked: 'unknown', why: 'missing' }
      : { revoked: 'unknown', why: 'not-yet-valid', date: future.thisUpdate }
  }
  if (newest.nextUpdate !== undefined && newest.nextUpdate < now) return { revoked: 'unknown', why: 'expired', date: newest.nextUpdate }
  const at = newest.revokedAt(leaf.fields.serial)
  return at === undefined ? { revoked: false } : { revoked: true, at }
}

/** Parses one list. Throws a DerError, whose message says why, for what is malformed or cannot be honoured as a whole. */
export function parseRevocationList(der: Buffer): RevocationList {
  const [signed, algorithm, signature] = childrenOf(readElement(der))
  const container = contentOf(readElement(der), tags.sequence)
  const fields = readSigned(contentOf(signed, tags.sequence))
  if (signed === undefined || algorithm === undefined || !encodingOf(container, algorithm).equals(fields.algorithm)) {
    throw new DerError('the two signature algorithms differ')
  }
  const isSigned = signatureCheck(encodingOf(container, signed), algorithm, readBitString(signature))
  const verdicts = new Map<string, boolean>()
  const { entries, ...rest } = fields
  return {
    issuer: rest.issuer,
    issuerKey: rest.issuerKey,
    thisUpdate: rest.thisUpdate,
    ...(rest.nextUpdate !== undefined && { nextUpdate: rest.nextUpdate }),
    size: entries.offsets.size,
    revokedAt: serial => {
      const entry = entries.offsets.get(serial)
      return entry === undefined ? undefined : revocationTime(readElement(entries.content, entry), rest.thisUpdate)
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

// A signature is whole bytes: the count of unused bits in front of them is 0.
function readBitString(element: DerElement | undefined): Buffer {
  const content = contentOf(element, tags.bitString)
  if (content[0] !== 0) throw new DerError('signature of another form')
  return content.subarray(1)
}

// A list has one signer, or a few while a CA changes its key; peers may show look-alikes without end.
const maxVerdicts = 64

/** The entries as they came, and where in them each serial number has its own: a few bytes for each. */
interface Entries {
  readonly content: Buffer
  readonly offsets: ReadonlyMap<string, number>
}

interface SignedFields {
  readonly algorithm: Buffer
  readonly issuer: string
  readonly issuerKey: string
  readonly thisUpdate: Date
  readonly nextUpdate: Date | undefined
  readonly entries: Entries
}

function readSigned(content: Buffer): SignedFields {
  const fields = [...elements(content)]
  if (fields[0]?.tag === tags.integer) fields.shift()
  const [algorithm, issuer, thisUpdate] = fields.splice(0, 3)
  if (algorithm === undefined || issuer === undefined) throw new DerError('issuer missing')
  const nextUpdate = isTime(fields[0]) ? fields.shift() : undefined
  const entries = fields[0]?.tag === tags.sequence ? fields.shift() : undefined
  const [extensions] = fields
  if (extensions !== undefined) {
    for (const extension of childrenOf(childrenOf(extensions, tags.context(0))[0])) checkExtension(extension)
  }
  const name = encodingOf(content, issuer)
  return {
    algorithm: encodingOf(content, algorithm),
    issuer: formatName(name),
    issuerKey: canonicalName(name),
    thisUpdate: readTime(thisUpdate),
    nextUpdate: nextUpdate && readTime(nextUpdate),
    entries: readEntries(entries)
  }
}

const isTime = (element: DerElement | undefined): boolean => element?.tag === tags.utcTime || element?.tag === tags.generalizedTime

// A list may have hundreds of thousands of entries: each is looked at just enough to be found and to be sure that we understand it.
function readEntries(list: DerElement | undefined): Entries {
  const offsets = new Map<string, number>()
  const content = list?.content ?? Buffer.alloc(0)
  for (const entry of elements(content)) {
    const serial = readElement(contentOf(entry, tags.sequence))
    const time = readElement(entry.content, serial.end)
    if (!isTime(time)) throw new DerError('revocation without a date')
    if (time.end < entry.content.length) checkEntryExtensions(readElement(entry.content, time.end))
    offsets.set(integerKey(contentOf(serial, tags.integer)), entry.start)
  }
  return { content, offsets }
}

/** An entry counts whatever its date looks like: it was there when the list was made. */
function revocationTime(entry: DerElement, thisUpdate: Date): Date {
  try {
    return readTime(childrenOf(entry)[1])
  } catch {
    return thisUpdate
  }
}

const oids = {
  issuingDistributionPoint: '2.5.29.28',
  deltaIndicator: '2.5.29.27',
  certificateIssuer: '2.5.29.29'
}

// A list that we half understand would let revoked certificates in: it is refused as a whole [RFC 5280, 5.2].
function checkExtension(extension: DerElement): void {
  const { oid, critical, value } = readExtension(extension)
  if (oid === oids.deltaIndicator) throw new DerError('it is a delta CRL; a complete one is needed')
  if (oid === oids.issuingDistributionPoint) checkDistributionPoint(value)
  else if (critical) throw new DerError(`it has the critical extension ${oid}, which is not supported`)
}

// onlyContainsUserCerts, [1], changes nothing for a leaf. All else makes it a part of a list, or one of other certificates.
function checkDistributionPoint(value: Buffer): void {
  const onlyUserCertificates = 0x81
  if (childrenOf(readElement(value)).some(({ tag }) => tag !== onlyUserCertificates)) {
    throw new DerError('it covers a part of the certificates only (issuing distribution point); a complete CRL is needed')
  }
}

function checkEntryExtensions(extensions: DerElement): void {
  for (const extension of childrenOf(extensions)) {
    const { oid, critical } = readExtension(extension)
    if (oid === oids.certificateIssuer) throw new DerError('it is an indirect CRL, which is not supported')
    if (critical) throw new DerError(`one of its entries has the critical extension ${oid}, which is not supported`)
  }
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
