// Reads a certificate's DER: the fields that decisions and names are made of. The parts that need cryptography are Node's.

import {
  childrenOf,
  contentOf,
  type DerElement,
  DerError,
  encodingOf,
  integerKey,
  readElement,
  readObjectIdentifier,
  readTime,
  tags
} from './der.js'
import { canonicalName, firstCommonName, formatName } from './distinguished-name.js'
import type { ClientCertificate } from './identity.js'

/** What a chain and a revocation list are checked against. */
export interface CertificateFields {
  readonly version: number
  /** As OpenSSL and Node print it: hexadecimal, two capital digits for each byte. */
  readonly serialNumber: string
  /** Key of the serial number, comparable with a revocation list's. */
  readonly serial: string
  /** DER. */
  readonly subject: Buffer
  readonly issuer: Buffer
  /** `canonicalName` of subject and issuer. */
  readonly subjectKey: string
  readonly issuerKey: string
  readonly notBefore: Date
  readonly notAfter: Date
  /** basicConstraints, if the certificate has them. */
  readonly basicConstraints?: { readonly ca: boolean; readonly pathLength?: number }
  /** Absent when the certificate does not restrict its key. */
  readonly keyUsage?: { readonly certificateSign: boolean; readonly crlSign: boolean }
  /** subjectKeyIdentifier, if the certificate has one. */
  readonly keyIdentifier?: Buffer
  /** The key that signed it, where authorityKeyIdentifier says that by an identifier and nothing else. */
  readonly issuerKeyIdentifier?: Buffer
}

const oids = {
  subjectKeyIdentifier: '2.5.29.14',
  keyUsage: '2.5.29.15',
  basicConstraints: '2.5.29.19',
  authorityKeyIdentifier: '2.5.29.35'
}

/** The fields of a certificate. Throws a DerError when it is none. */
export function readCertificate(der: Buffer): CertificateFields {
  const [signed] = childrenOf(readElement(der))
  const container = contentOf(signed, tags.sequence)
  const fields = childrenOf(signed)
  const version = fields[0]?.tag === tags.context(0) ? (childrenOf(fields.shift(), tags.context(0))[0]?.content[0] ?? 0) + 1 : 1
  const [serial, , issuer, validity, subject] = fields
  const [notBefore, notAfter] = childrenOf(validity)
  const names = { subject: encodedName(container, subject), issuer: encodedName(container, issuer) }
  const number = contentOf(serial, tags.integer)
  return {
    version,
    serialNumber: serialNumberOf(number),
    serial: integerKey(number),
    ...names,
    subjectKey: canonicalName(names.subject),
    issuerKey: canonicalName(names.issuer),
    notBefore: readTime(notBefore),
    notAfter: readTime(notAfter),
    ...readConstraints(fields.find(({ tag }) => tag === tags.context(3)))
  }
}

/** The parts of a certificate's DER that name its owner. Throws a DerError when it is none. */
export function certificateParts(der: Buffer): { readonly subject: Buffer; readonly extensions: readonly DerElement[] } {
  const [signed] = childrenOf(readElement(der))
  const fields = childrenOf(signed).filter(({ tag }) => tag !== tags.context(0))
  const extensions = fields.find(({ tag }) => tag === tags.context(3))
  return {
    subject: encodedName(contentOf(signed, tags.sequence), fields[4]),
    extensions: extensions === undefined ? [] : childrenOf(childrenOf(extensions, tags.context(3))[0])
  }
}

/** Object identifier of the algorithm that it was signed with. Throws a DerError when it is no certificate. */
export function signatureAlgorithm(der: Buffer): string {
  const [, algorithm] = childrenOf(readElement(der))
  return readObjectIdentifier(contentOf(childrenOf(algorithm)[0], tags.objectIdentifier))
}

/** The client certificate of a connection, from its DER. `chain` is what lies between it and its CA. */
export function clientCertificate(raw: Buffer, chain: readonly Buffer[] = [], fields = readCertificate(raw)): ClientCertificate {
  const commonName = firstCommonName(fields.subject)
  return {
    ...(commonName !== undefined && { commonName }),
    subject: formatName(fields.subject),
    issuer: formatName(fields.issuer),
    serial: fields.serialNumber,
    notBefore: fields.notBefore,
    notAfter: fields.notAfter,
    raw,
    ...(chain.length > 0 && { chain })
  }
}

/** The day, in UTC: `2026-01-02`. */
export function dateOf(date: Date): string {
  return date.toISOString().slice(0, 10)
}

// A serial number is positive, but not everybody's is [RFC 5280, 4.1.2.2].
function serialNumberOf(integer: Buffer): string {
  if ((integer[0] ?? 0) >= 0x80) {
    const magnitude = ((1n << BigInt(8 * integer.length)) - BigInt(`0x${integer.toString('hex')}`)).toString(16).toUpperCase()
    return `-${magnitude.length % 2 === 0 ? '' : '0'}${magnitude}`
  }
  const digits = integer.toString('hex', integer[0] === 0 ? 1 : 0).toUpperCase()
  return digits === '' ? '0' : digits
}

// Strangers show certificates too: what is read of them before anybody has verified them has an end.
const longestName = 8192

function encodedName(container: Buffer, name: DerElement | undefined): Buffer {
  if (name?.tag !== tags.sequence) throw new DerError('name missing')
  if (name.content.length > longestName) throw new DerError('name too long')
  return encodingOf(container, name)
}

type Constraints = Pick<CertificateFields, 'basicConstraints' | 'keyUsage' | 'keyIdentifier' | 'issuerKeyIdentifier'>

function readConstraints(extensions: DerElement | undefined): Constraints {
  const found: { -readonly [Name in keyof Constraints]: Constraints[Name] } = {}
  if (extensions === undefined) return found
  for (const extension of childrenOf(childrenOf(extensions, tags.context(3))[0])) {
    const { oid, value } = readExtension(extension)
    if (oid === oids.basicConstraints) found.basicConstraints = readBasicConstraints(value)
    const identifier = oid === oids.subjectKeyIdentifier ? keyIdentifierIn(value) : undefined
    if (identifier !== undefined) found.keyIdentifier = identifier
    const issuer = oid === oids.authorityKeyIdentifier ? issuerKeyIdentifierIn(value) : undefined
    if (issuer !== undefined) found.issuerKeyIdentifier = issuer
    if (oid === oids.keyUsage) {
      // keyCertSign is bit 5, cRLSign bit 6, counted from the left; the first byte says how many bits are unused.
      const bits = contentOf(readElement(value), tags.bitString)[1] ?? 0
      found.keyUsage = { certificateSign: (bits & 0x04) !== 0, crlSign: (bits & 0x02) !== 0 }
    }
  }
  return found
}

// A key identifier only spares a search: one that can't be read is as good as none, and no reason to refuse a certificate.

function keyIdentifierIn(value: Buffer): Buffer | undefined {
  return orNone(() => contentOf(readElement(value), tags.octetString))
}

// `[0]` alone, and not issuer and serial number beside it or instead.
function issuerKeyIdentifierIn(value: Buffer): Buffer | undefined {
  return orNone(() => {
    const parts = childrenOf(readElement(value))
    return parts.length === 1 && parts[0]?.tag === 0x80 ? parts[0].content : undefined
  })
}

function orNone<Value>(read: () => Value | undefined): Value | undefined {
  try {
    return read()
  } catch (error) {
    if (error instanceof DerError) return undefined
    throw error
  }
}

/** One Extension: its type, whether it is critical, and the DER inside its OCTET STRING. */
export function readExtension(extension: DerElement): { oid: string; critical: boolean; value: Buffer } {
  const parts = childrenOf(extension)
  const critical = parts[1]?.tag === tags.boolean && parts[1].content[0] !== 0
  return {
    oid: readObjectIdentifier(contentOf(parts[0], tags.objectIdentifier)),
    critical,
    value: contentOf(parts.at(-1), tags.octetString)
  }
}

function readBasicConstraints(value: Buffer): { ca: boolean; pathLength?: number } {
  let ca = false
  let pathLength: number | undefined
  for (const { tag, content } of childrenOf(readElement(value))) {
    if (tag === tags.boolean) ca = content[0] !== 0
    if (tag === tags.integer)
      pathLength = content.length > 0 && content.length <= 4 ? content.readUIntBE(0, content.length) : Number.MAX_SAFE_INTEGER
  }
  return pathLength === undefined ? { ca } : { ca, pathLength }
}
