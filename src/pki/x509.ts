// Certificates, keys, requests and revocation lists in words for people: who, by whom, from when to when, for what, what is odd about it.

import { createPrivateKey, createPublicKey, type KeyObject, X509Certificate as NodeCertificate } from 'node:crypto'
import { BrokerError } from '../errors.js'
import { isEncryptedKey, type PemBlock, pemBlocks } from '../pem.js'
import { printable } from '../printable.js'
import {
  BasicConstraintsExtension,
  ExtendedKeyUsageExtension,
  KeyUsageFlags,
  KeyUsagesExtension,
  type Name,
  Pkcs10CertificateRequest,
  SubjectAlternativeNameExtension,
  X509Certificate,
  X509Crl
} from './library.js'
import { commonNameProblem } from './names.js'

/** One thing found in a file. */
export type PkiObject =
  | { readonly kind: 'certificate'; readonly certificate: NodeCertificate }
  | { readonly kind: 'private key'; readonly key: KeyObject }
  | { readonly kind: 'encrypted private key' }
  | { readonly kind: 'public key'; readonly key: KeyObject }
  | { readonly kind: 'certificate request'; readonly request: Pkcs10CertificateRequest }
  | { readonly kind: 'revocation list'; readonly crl: X509Crl }
  /** `reason` completes "it …". */
  | { readonly kind: 'unreadable'; readonly label: string; readonly reason: string }

/** A person's view of one object. */
export interface Description {
  readonly title: string
  readonly rows: readonly Row[]
  /** What is odd about it or wrong with it, a sentence each. */
  readonly notes: readonly string[]
  /** Nothing could be told; the note says why. */
  readonly unreadable?: true
}

type Row = readonly [label: string, value: string]

/** What else is at hand when an object is described: keys and issuers among the same files. */
export interface DescriptionContext {
  readonly now?: Date
  readonly others?: readonly PkiObject[]
}

/** Everything in a file: its PEM blocks in order, or one DER object. Throws ERR_PKI_INPUT when there is nothing of the kind. */
export function parsePkiFile(content: Buffer, file: string): PkiObject[] {
  const objects = pemBlocks(content.toString('latin1')).flatMap(parseBlock)
  if (objects.length > 0) return objects
  const der = parseDer(content)
  if (der !== undefined) return [der]
  throw new BrokerError('ERR_PKI_INPUT', `${file} holds no certificate, key, certificate request or revocation list.`, { file })
}

/** Any object in words. */
export async function describe(object: PkiObject, context: DescriptionContext = {}): Promise<Description> {
  try {
    return await describeKind(object, context)
  } catch {
    // The libraries read some parts only when asked for them, and a damaged part may show as late as here.
    return describeUnreadable(object.kind, 'is damaged')
  }
}

/** A certificate in words. `others` may hold its key and its issuer: whether they fit is said too. */
export function describeCertificate(source: NodeCertificate | string, context: DescriptionContext = {}): Description {
  const facts = factsOf(typeof source === 'string' ? new NodeCertificate(source) : source, context)
  const { certificate } = facts
  return {
    title: `${facts.ca ? 'CA certificate' : 'certificate'}${facts.version === 3 ? '' : `, X.509 v${facts.version}`}`,
    rows: [
      ['subject', subjectOf(certificate.subject)],
      [
        'issuer',
        facts.selfSigned
          ? 'itself (self-signed)'
          : `${subjectOf(certificate.issuer)}${facts.signer === undefined ? '' : ' (shown, and its signature is good)'}`
      ],
      ['valid', validity(facts)],
      ['names', facts.names.join(', ') || 'none'],
      ['key', facts.publicKey === undefined ? 'of an unknown kind' : describeKey(facts.publicKey)],
      ['signature', facts.signature],
      ['uses', usesOf(facts)],
      ['serial', certificate.serialNumber],
      ['SHA-256', certificate.fingerprint256]
    ],
    notes: certificateNotes.flatMap(([applies, text]) => (applies(facts) ? [typeof text === 'string' ? text : text(facts)] : []))
  }
}

/** Lines for a terminal. What came from a file can't move the cursor there: control characters are written as escapes. */
export function formatDescription({ title, rows, notes }: Description): string {
  const lines = [title, ...rows.map(([label, value]) => `  ${label.padEnd(12)}${value}`), ...notes.map(note => `  ! ${note}`)]
  return lines.map(printable).join('\n')
}

/** Whether this CA's key made that certificate's signature, and the names agree. */
export function isSignedBy(certificate: NodeCertificate, ca: NodeCertificate): boolean {
  try {
    return certificate.checkIssued(ca) && certificate.verify(ca.publicKey)
  } catch {
    return false
  }
}

/** The end of a certificate's life. */
export function notAfter(certificate: NodeCertificate): Date {
  return new Date(certificate.validTo)
}

/** The whole subject (or issuer) in the order of RFC 2253, most specific first, from Node's one line per field. */
export function subjectOf(fields: string | undefined): string {
  return fields ? fields.split('\n').reverse().join(',') : '(empty)'
}

/** `2026-11-21 23:30:00 UTC`. */
export function formatDate(date: Date): string {
  return Number.isNaN(date.getTime()) ? '(unreadable date)' : `${date.toISOString().slice(0, 19).replace('T', ' ')} UTC`
}

async function describeKind(object: PkiObject, context: DescriptionContext): Promise<Description> {
  switch (object.kind) {
    case 'certificate':
      return describeCertificate(object.certificate, context)
    case 'private key':
      return describePrivateKey(object.key, context)
    case 'encrypted private key':
      return { title: 'private key', rows: [['key', 'protected by a passphrase']], notes: ['A broker cannot start with it unattended.'] }
    case 'public key':
      return { title: 'public key', rows: [['key', describeKey(object.key)]], notes: [] }
    case 'certificate request':
      return describeRequest(object.request)
    case 'revocation list':
      return describeCrl(object.crl, context.now ?? new Date())
    case 'unreadable':
      return describeUnreadable(object.label.toLowerCase(), object.reason)
  }
}

function describeUnreadable(title: string, reason: string): Description {
  return { title, rows: [], notes: [`It cannot be shown: it ${reason}.`], unreadable: true }
}

interface CertificateFacts {
  readonly certificate: NodeCertificate
  readonly now: Date
  readonly version: number
  readonly notBefore: Date
  readonly notAfter: Date
  readonly ca: boolean
  readonly selfSigned: boolean
  readonly publicKey: KeyObject | undefined
  readonly names: readonly string[]
  readonly commonNames: readonly string[]
  /** Undefined: the extension is missing, so nothing is excluded. */
  readonly keyUsage: number | undefined
  readonly extendedKeyUsage: readonly string[] | undefined
  readonly signature: string
  /** The certificate at hand that signed this one. */
  readonly signer: NodeCertificate | undefined
  /** There is one at hand that has the issuer's name, but another key. */
  readonly impostor: boolean
  /** There is a key at hand that belongs to nothing, so it was probably meant for this one, and doesn't fit. */
  readonly wrongKey: boolean
}

const serverAuth = '1.3.6.1.5.5.7.3.1'
const clientAuth = '1.3.6.1.5.5.7.3.2'
const dayInMilliseconds = 86_400_000
const appleLimit = 825

// What people stumble over, in the order of importance.
const certificateNotes: readonly (readonly [
  applies: (facts: CertificateFacts) => boolean,
  text: string | ((facts: CertificateFacts) => string)
])[] = [
  [f => f.notAfter < f.now, f => `It expired on ${formatDate(f.notAfter)}: every peer that checks dates refuses it.`],
  [f => f.notBefore > f.now, f => `It is not valid before ${formatDate(f.notBefore)}; is the clock of this machine right?`],
  [f => f.notAfter >= f.now && daysLeft(f) < 30, f => `It expires in ${days(daysLeft(f))}: renew it.`],
  [f => f.wrongKey, 'The private key shown does not belong to it.'],
  [f => f.impostor, 'A certificate with the name of its issuer is shown, but another key signed this one.'],
  [
    f => f.certificate.subject === f.certificate.issuer && !f.selfSigned,
    'Subject and issuer are the same name, but it is not self-signed: OpenSSL takes it for self-signed and refuses it. Give CA and certificate different names.'
  ],
  [f => f.selfSigned && !f.ca, 'It is self-signed and no CA: a peer accepts it only when it has this very certificate as its CA file.'],
  [
    f => f.version === 1,
    'X.509 v1 has no extensions: no names for hosts, no limits on its use. Mosquitto and its clients accept it; others may not.'
  ],
  [
    f => !f.ca && f.names.length === 0 && mayServe(f) && !mayBeClientOnly(f),
    'It has no subjectAltName: as a broker certificate only clients that still look at the CN accept it.'
  ],
  [f => !f.ca && f.commonNames.length === 0 && !isServerOnly(f), 'It has no common name, so use_identity_as_username refuses it.'],
  [
    f => f.commonNames.length > 1,
    f => `It has ${f.commonNames.length} common names; use_identity_as_username takes the first, "${f.commonNames[0]}".`
  ],
  [
    f => !f.ca && !isServerOnly(f) && f.commonNames[0] !== undefined && commonNameProblem(f.commonNames[0]) !== undefined,
    f => `Its common name is a bad username: ${commonNameProblem(f.commonNames[0] ?? '')}.`
  ],
  [
    f => f.ca && f.keyUsage !== undefined && (f.keyUsage & KeyUsageFlags.keyCertSign) === 0,
    'It calls itself a CA, but its key usage does not allow it to sign certificates.'
  ],
  [
    f => isServerOnly(f) && lifetime(f) > appleLimit,
    f => `It lives ${Math.round(lifetime(f))} days; Apple's systems refuse server certificates of more than ${appleLimit}.`
  ],
  [f => rsaBits(f) < 2048, f => `Its RSA key of ${rsaBits(f)} bits is too short: OpenSSL's default security level refuses less than 2048.`],
  [f => /MD5|SHA-1$/.test(f.signature) && !f.selfSigned, 'It is signed over a broken hash, which OpenSSL refuses by default.']
]

const mayServe = (f: CertificateFacts) => f.extendedKeyUsage === undefined || f.extendedKeyUsage.includes(serverAuth)
const mayBeClientOnly = (f: CertificateFacts) =>
  f.extendedKeyUsage?.includes(clientAuth) === true && !f.extendedKeyUsage.includes(serverAuth)
const isServerOnly = (f: CertificateFacts) => f.extendedKeyUsage?.includes(serverAuth) === true && !f.extendedKeyUsage.includes(clientAuth)
const lifetime = (f: CertificateFacts) => (f.notAfter.getTime() - f.notBefore.getTime()) / dayInMilliseconds
const daysLeft = (f: CertificateFacts) => Math.floor((f.notAfter.getTime() - f.now.getTime()) / dayInMilliseconds)
const days = (count: number) => (count === 1 ? '1 day' : `${count} days`)

function rsaBits(f: CertificateFacts): number {
  return f.publicKey?.asymmetricKeyType === 'rsa' ? (f.publicKey.asymmetricKeyDetails?.modulusLength ?? 0) : Number.POSITIVE_INFINITY
}

function factsOf(certificate: NodeCertificate, { now = new Date(), others = [] }: DescriptionContext): CertificateFacts {
  const certificates = [certificate, ...certificatesOf(others)]
  const shown = certificates.filter(other => !other.raw.equals(certificate.raw))
  const keys = privateKeysOf(others)
  const signer = shown.find(other => isSignedBy(certificate, other))
  return {
    certificate,
    now,
    version: versionOf(certificate.raw),
    notBefore: new Date(certificate.validFrom),
    notAfter: notAfter(certificate),
    selfSigned: isSignedBy(certificate, certificate),
    publicKey: attempt(() => certificate.publicKey),
    commonNames: (certificate.subject ?? '').split('\n').flatMap(field => (field.startsWith('CN=') ? [field.slice(3)] : [])),
    signer,
    impostor: signer === undefined && shown.some(other => other.subject === certificate.issuer),
    wrongKey: !keys.some(key => keyFits(certificate, key)) && keys.some(key => !certificates.some(other => keyFits(other, key))),
    ...extensionsOf(certificate.raw)
  }
}

function extensionsOf(raw: Buffer): Pick<CertificateFacts, 'ca' | 'names' | 'keyUsage' | 'extendedKeyUsage' | 'signature'> {
  const x509 = attempt(() => new X509Certificate(raw))
  return {
    ca: attempt(() => x509?.getExtension(BasicConstraintsExtension)?.ca) ?? false,
    names: attempt(() => alternativeNames(x509?.getExtension(SubjectAlternativeNameExtension))) ?? [],
    keyUsage: attempt(() => x509?.getExtension(KeyUsagesExtension)?.usages),
    extendedKeyUsage: attempt(() => x509?.getExtension(ExtendedKeyUsageExtension)?.usages.map(String)),
    signature: attempt(() => describeSignature(x509?.signatureAlgorithm)) ?? 'of an unknown kind'
  }
}

function alternativeNames(extension: SubjectAlternativeNameExtension | null | undefined): string[] {
  return (extension?.names.items ?? []).map(({ type, value }) => `${nameTypes[type] ?? type} ${value}`)
}

const nameTypes: Readonly<Record<string, string>> = {
  dns: 'DNS',
  ip: 'IP',
  email: 'e-mail',
  url: 'URI',
  dn: 'directory name',
  id: 'registered ID'
}

function describeSignature(algorithm: object | undefined): string | undefined {
  const name = algorithmName(algorithm)
  const hash = algorithm !== undefined && 'hash' in algorithm ? algorithmName(algorithm.hash) : undefined
  return [name === 'RSASSA-PKCS1-v1_5' ? 'RSA' : name, hash].filter(Boolean).join(' with ') || undefined
}

// The library describes algorithms by the browser's types, which a program for Node doesn't have.
function algorithmName(algorithm: unknown): string | undefined {
  return algorithm instanceof Object && 'name' in algorithm && typeof algorithm.name === 'string' ? algorithm.name : undefined
}

const keyUsageWords: readonly (readonly [flag: number, words: string])[] = [
  [KeyUsageFlags.digitalSignature, 'digital signature'],
  [KeyUsageFlags.nonRepudiation, 'non-repudiation'],
  [KeyUsageFlags.keyEncipherment, 'key encipherment'],
  [KeyUsageFlags.dataEncipherment, 'data encipherment'],
  [KeyUsageFlags.keyAgreement, 'key agreement'],
  [KeyUsageFlags.keyCertSign, 'signing certificates'],
  [KeyUsageFlags.cRLSign, 'signing revocation lists'],
  [KeyUsageFlags.encipherOnly, 'encipher only'],
  [KeyUsageFlags.decipherOnly, 'decipher only']
]

const extendedKeyUsageWords: Readonly<Record<string, string>> = {
  [serverAuth]: 'TLS server (broker)',
  [clientAuth]: 'TLS client',
  '1.3.6.1.5.5.7.3.3': 'code signing',
  '1.3.6.1.5.5.7.3.4': 'e-mail',
  '1.3.6.1.5.5.7.3.8': 'time stamping',
  '1.3.6.1.5.5.7.3.9': 'OCSP signing',
  '2.5.29.37.0': 'any'
}

function usesOf({ keyUsage, extendedKeyUsage }: CertificateFacts): string {
  const bits = keyUsage === undefined ? [] : keyUsageWords.flatMap(([flag, words]) => ((keyUsage & flag) === 0 ? [] : [words]))
  const purposes = (extendedKeyUsage ?? []).map(oid => extendedKeyUsageWords[oid] ?? oid)
  return [bits.join(', '), purposes.join(', ')].filter(Boolean).join('; ') || 'any (not limited)'
}

function validity(facts: CertificateFacts): string {
  const range = `${formatDate(facts.notBefore)} to ${formatDate(facts.notAfter)}`
  if (facts.notAfter < facts.now) return `${range}, expired`
  if (facts.notBefore > facts.now) return `${range}, not yet valid`
  return `${range}, valid now, ${days(daysLeft(facts))} left`
}

const curveNames: Readonly<Record<string, string>> = { prime256v1: 'P-256', secp384r1: 'P-384', secp521r1: 'P-521' }

function describeKey(key: KeyObject): string {
  const { modulusLength, namedCurve } = key.asymmetricKeyDetails ?? {}
  switch (key.asymmetricKeyType) {
    case 'rsa':
    case 'rsa-pss':
    case 'dsa':
      return `${key.asymmetricKeyType.toUpperCase()} ${modulusLength} bit`
    case 'ec':
      return `EC ${curveNames[namedCurve ?? ''] ?? namedCurve}`
    default:
      return key.asymmetricKeyType ?? 'of an unknown kind'
  }
}

function describePrivateKey(key: KeyObject, { others = [] }: DescriptionContext): Description {
  const certificates = certificatesOf(others)
  const owner = certificates.find(certificate => keyFits(certificate, key))
  return {
    title: 'private key',
    rows: [['key', describeKey(key)], ...(owner === undefined ? [] : [['belongs to', `${subjectOf(owner.subject)} (shown)`] as const])],
    notes: owner === undefined && certificates.length > 0 ? ['It belongs to none of the certificates shown.'] : []
  }
}

const certificatesOf = (objects: readonly PkiObject[]) =>
  objects.flatMap(object => (object.kind === 'certificate' ? [object.certificate] : []))
const privateKeysOf = (objects: readonly PkiObject[]) => objects.flatMap(object => (object.kind === 'private key' ? [object.key] : []))

function keyFits(certificate: NodeCertificate, key: KeyObject): boolean {
  return attempt(() => certificate.checkPrivateKey(key)) ?? false
}

async function describeRequest(request: Pkcs10CertificateRequest): Promise<Description> {
  const signed = await request.verify().catch(() => false)
  const key = attempt(() => createPublicKey({ key: Buffer.from(request.publicKey.rawData), format: 'der', type: 'spki' }))
  const names = request.extensions.flatMap(extension =>
    extension instanceof SubjectAlternativeNameExtension ? alternativeNames(extension) : []
  )
  return {
    title: 'certificate request',
    rows: [
      ['subject', nameOf(request.subjectName)],
      ['names', names.join(', ') || 'none'],
      ['key', key === undefined ? 'of an unknown kind' : describeKey(key)],
      ['signature', attempt(() => describeSignature(request.signatureAlgorithm)) ?? 'of an unknown kind']
    ],
    notes: signed ? [] : ['Its signature is wrong: whoever made it does not have the key, or it was changed.']
  }
}

const serialsShown = 20

function describeCrl(crl: X509Crl, now: Date): Description {
  const { entries, nextUpdate } = crl
  const serials = entries
    .slice(0, serialsShown)
    .map(entry => `${entry.serialNumber.toUpperCase()} since ${formatDate(entry.revocationDate)}`)
  const rest = entries.length - serials.length
  return {
    title: 'revocation list',
    rows: [
      ['issuer', nameOf(crl.issuerName)],
      ['valid', `${formatDate(crl.thisUpdate)} to ${nextUpdate === undefined ? 'no end' : formatDate(nextUpdate)}`],
      ['revoked', entries.length === 1 ? '1 certificate' : `${entries.length} certificates`],
      ...serials.map(serial => ['serial', serial] as const),
      ...(rest > 0 ? [['', `and ${rest} more`] as const] : []),
      ['signature', attempt(() => describeSignature(crl.signatureAlgorithm)) ?? 'of an unknown kind']
    ],
    notes:
      nextUpdate !== undefined && nextUpdate < now
        ? ['It is out of date: a broker that uses it refuses every client of this CA until there is a newer one.']
        : []
  }
}

// The library writes the most general field first; certificates are shown the other way round.
function nameOf(name: Name): string {
  const fields = name.toString().match(/(?:\\.|[^\\,])+/gsu) ?? []
  return (
    fields
      .map(field => field.replace(/^ /, ''))
      .reverse()
      .join(',') || '(empty)'
  )
}

type Parse = (source: string | Buffer) => PkiObject

const parseCertificate: Parse = source => ({ kind: 'certificate', certificate: new NodeCertificate(source) })
const parseRequest: Parse = source => ({ kind: 'certificate request', request: new Pkcs10CertificateRequest(source) })
// The library's own bound stops at some three thousand entries; the size of the file bounds ours.
const parseCrl: Parse = source => ({ kind: 'revocation list', crl: new X509Crl(source, { berOptions: { maxNodes: 4_000_000 } }) })
const parsePublicKey: Parse = source => ({ kind: 'public key', key: createPublicKey(source) })
const parsePrivateKey: Parse = source =>
  typeof source === 'string' && isEncryptedKey(source)
    ? { kind: 'encrypted private key' }
    : { kind: 'private key', key: createPrivateKey(source) }

const parsers: Readonly<Record<string, Parse>> = {
  CERTIFICATE: parseCertificate,
  'X509 CERTIFICATE': parseCertificate,
  'TRUSTED CERTIFICATE': parseCertificate,
  'CERTIFICATE REQUEST': parseRequest,
  'NEW CERTIFICATE REQUEST': parseRequest,
  'X509 CRL': parseCrl,
  CRL: parseCrl,
  'PUBLIC KEY': parsePublicKey,
  'RSA PUBLIC KEY': parsePublicKey,
  'PRIVATE KEY': parsePrivateKey,
  'RSA PRIVATE KEY': parsePrivateKey,
  'EC PRIVATE KEY': parsePrivateKey,
  'DSA PRIVATE KEY': parsePrivateKey,
  'ENCRYPTED PRIVATE KEY': () => ({ kind: 'encrypted private key' })
}

// OpenSSL puts these beside a key; they say nothing that the key doesn't.
const silentLabels = new Set(['EC PARAMETERS', 'DH PARAMETERS', 'DSA PARAMETERS'])

function parseBlock({ label, text, closed }: PemBlock): PkiObject[] {
  if (silentLabels.has(label)) return []
  if (!closed) return [{ kind: 'unreadable', label, reason: 'is cut off: its END line is missing' }]
  const parse = Object.hasOwn(parsers, label) ? parsers[label] : undefined
  if (parse === undefined) return [{ kind: 'unreadable', label, reason: 'is of a kind that is not known here' }]
  return [attempt(() => parse(text)) ?? { kind: 'unreadable', label, reason: 'is damaged' }]
}

function parseDer(content: Buffer): PkiObject | undefined {
  if (content[0] !== 0x30) return undefined
  for (const parse of [parseCertificate, parseRequest, parseCrl]) {
    const object = attempt(() => parse(content))
    if (object !== undefined) return object
  }
  return attempt((): PkiObject => ({ kind: 'private key', key: createPrivateKey({ key: content, format: 'der', type: 'pkcs8' }) }))
}

// Certificate ::= SEQUENCE { tbs SEQUENCE { [0] version … } … }: Node doesn't tell the version, and v1 leaves the field out.
function versionOf(der: Buffer): number {
  const start = (position: number) => position + 2 + ((der[position + 1] ?? 0) & 0x80 ? (der[position + 1] ?? 0) & 0x7f : 0)
  const first = start(start(0))
  return der[first] === 0xa0 ? (der[first + 4] ?? 0) + 1 : 1
}

function attempt<Value>(read: () => Value): Value | undefined {
  try {
    return read()
  } catch {
    return undefined
  }
}
