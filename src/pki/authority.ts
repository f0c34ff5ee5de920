// Makes certificates and revocation lists. Values in, values out: PEM text comes and goes, no file is touched, nothing is remembered.

import { createPrivateKey, type KeyObject, X509Certificate as NodeCertificate, randomBytes, webcrypto } from 'node:crypto'
import { BrokerError } from '../errors.js'
import { isEncryptedKey } from '../pem.js'
import {
  AuthorityKeyIdentifierExtension,
  BasicConstraintsExtension,
  ExtendedKeyUsage,
  ExtendedKeyUsageExtension,
  Extension,
  KeyUsageFlags,
  KeyUsagesExtension,
  Name,
  PemConverter,
  SubjectAlternativeNameExtension,
  SubjectKeyIdentifierExtension,
  X509Certificate,
  X509CertificateGenerator,
  X509CrlGenerator,
  X509CrlReason
} from './library.js'
import { type AlternativeName, checkCommonName, commonNameProblem } from './names.js'
import { clockSkew, type Profile, type ProfileName, profiles } from './profiles.js'

/** The keys we make. `rsa` without a size is 3072 bit: 2048 is not for what lives beyond 2030 [NIST SP 800-57, part 1, table 4]. */
export const keyTypes = {
  ec: { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' },
  rsa: rsa(3072),
  'rsa:2048': rsa(2048),
  'rsa:3072': rsa(3072),
  'rsa:4096': rsa(4096)
} as const

export type KeyType = keyof typeof keyTypes

/** A CA that can sign, its own or an adopted one. */
export interface Authority {
  /** PEM. */
  readonly certificate: string
  readonly x509: X509Certificate
  readonly signingKey: webcrypto.CryptoKey
  readonly signingAlgorithm: SigningAlgorithm
}

/** A new certificate and its private key. */
export interface Issued {
  /** PEM. */
  readonly certificate: string
  /** PEM, PKCS#8, without passphrase. */
  readonly key: string
  /** Upper-case hexadecimal. */
  readonly serial: string
}

/** The subject in the order it is encoded: most general first. */
export type Subject = readonly (readonly [type: 'C' | 'ST' | 'L' | 'O' | 'OU' | 'CN' | 'E' | 'SERIALNUMBER', value: string])[]

export interface Period {
  readonly notBefore: Date
  readonly notAfter: Date
}

/** What a certificate is to hold, already decided. */
export interface CertificateRequest {
  readonly profile: ProfileName
  readonly subject: Subject
  readonly names?: readonly AlternativeName[]
  readonly period: Period
  readonly key?: KeyType
}

interface Wish {
  readonly key?: KeyType
  readonly days?: number
  readonly now?: Date
}

export interface Revocation {
  /** Hexadecimal. */
  readonly serial: string
  readonly at: Date
  readonly reason: RevocationReason
}

export type RevocationReason = Exclude<keyof typeof X509CrlReason, 'unspecified' | 'removeFromCRL'>

interface SigningAlgorithm {
  readonly name: string
  readonly hash?: string
  readonly namedCurve?: string
}

/** A new CA: self-signed, or under `issuer` when one is given. */
export async function createAuthority(wish: Wish & { commonName: string }, issuer?: Authority): Promise<Issued> {
  const subject: Subject = [['CN', checkCommonName(wish.commonName)]]
  return issueCertificate(issuer, { profile: 'ca', subject, period: periodOf('ca', wish, issuer), ...keyOf(wish) })
}

/** The broker's certificate. Its first name is its CN as well: some devices look there alone. */
export async function issueServer(authority: Authority, wish: Wish & { names: readonly AlternativeName[] }): Promise<Issued> {
  const [first] = wish.names
  if (first === undefined) throw new BrokerError('ERR_PKI_INPUT', 'A broker certificate needs at least one host name or IP address.')
  const usable = commonNameProblem(first.value) === undefined && !hasSameName([['CN', first.value]], authority)
  const subject: Subject = [['CN', usable ? first.value : 'broker']]
  return issueCertificate(authority, {
    profile: 'server',
    subject,
    names: wish.names,
    period: periodOf('server', wish, authority),
    ...keyOf(wish)
  })
}

/** A client's certificate; its CN is the username under `use_identity_as_username`. */
export async function issueClient(authority: Authority, wish: Wish & { commonName: string }): Promise<Issued> {
  const subject: Subject = [['CN', checkCommonName(wish.commonName)]]
  if (hasSameName(subject, authority)) {
    const name = JSON.stringify(wish.commonName)
    throw new BrokerError(
      'ERR_PKI_INPUT',
      `The CA itself is called ${name}: OpenSSL would take the certificate for self-signed. Choose another name.`
    )
  }
  return issueCertificate(authority, { profile: 'client', subject, period: periodOf('client', wish, authority), ...keyOf(wish) })
}

/** Makes a key and a certificate exactly as asked, self-signed without `issuer`. The functions above decide what may be asked. */
export async function issueCertificate(issuer: Authority | undefined, request: CertificateRequest): Promise<Issued> {
  const algorithm = keyTypes[request.key ?? 'ec']
  const keys = await webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify'])
  const subject = encodeName(request.subject)
  const serial = randomSerial()
  const certificate = await X509CertificateGenerator.create({
    serialNumber: serial,
    subject,
    issuer: issuer?.x509.subjectName ?? subject,
    notBefore: request.period.notBefore,
    notAfter: request.period.notAfter,
    publicKey: keys.publicKey,
    signingKey: issuer?.signingKey ?? keys.privateKey,
    signingAlgorithm: issuer?.signingAlgorithm ?? algorithm,
    extensions: await extensionsOf(request, keys.publicKey, issuer)
  })
  return { certificate: `${certificate.toString('pem')}\n`, key: await exportKey(keys.privateKey), serial: serial.toUpperCase() }
}

/**
 * The revocation list of a CA. `number` must grow from list to list [RFC 5280, 5.2.3]; the time of the list does.
 */
export async function issueCrl(
  authority: Authority,
  revoked: readonly Revocation[],
  { thisUpdate, nextUpdate }: { readonly thisUpdate: Date; readonly nextUpdate: Date }
): Promise<string> {
  const crl = await X509CrlGenerator.create({
    issuer: authority.x509.subjectName,
    thisUpdate,
    nextUpdate,
    signingAlgorithm: authority.signingAlgorithm,
    signingKey: authority.signingKey,
    // Always with a reason: the library writes an empty extension list otherwise, which RFC 5280 doesn't allow.
    entries: revoked.map(({ serial, at, reason }) => ({ serialNumber: serial, revocationDate: at, reason: X509CrlReason[reason] })),
    extensions: [await authorityKeyIdentifier(authority), crlNumber(thisUpdate)]
  })
  // RFC 7468 calls it "X509 CRL", and OpenSSL reads nothing else; the library says "CRL".
  return `${PemConverter.encode(crl.rawData, 'X509 CRL')}\n`
}

/** What `parseAuthority` reads. `files` are only for its messages. */
export interface AuthoritySource {
  readonly certificate: string
  readonly key: string
  readonly passphrase?: string | undefined
  readonly files?: { readonly certificate: string; readonly key: string }
}

/** A CA from its two files' texts: one of ours, or one made by OpenSSL (PKCS#1, SEC1 or PKCS#8 key, also with a passphrase). */
export async function parseAuthority(source: AuthoritySource): Promise<Authority> {
  const files = source.files ?? { certificate: 'the CA certificate', key: 'the CA key' }
  const certificate = parseCertificate(source.certificate, files.certificate)
  const key = parseKey(source, files.key)
  if (!certificate.checkPrivateKey(key)) {
    throw new BrokerError('ERR_TLS_KEY_MISMATCH', `${files.key} is not the key of ${files.certificate}.`)
  }
  const x509 = new X509Certificate(certificate.raw)
  if (!canSign(x509)) {
    throw new BrokerError('ERR_PKI_INPUT', `${files.certificate} is not a CA certificate: its uses don't include signing others.`)
  }
  const signingAlgorithm = signingAlgorithmOf(key, files.key)
  const signingKey = await webcrypto.subtle.importKey('pkcs8', key.export({ type: 'pkcs8', format: 'der' }), signingAlgorithm, false, [
    'sign'
  ])
  return { certificate: certificate.toString(), x509, signingKey, signingAlgorithm }
}

function parseCertificate(pem: string, file: string): NodeCertificate {
  try {
    return new NodeCertificate(pem)
  } catch (cause) {
    throw new BrokerError('ERR_PKI_INPUT', `${file} holds no certificate that can be read.`, undefined, { cause })
  }
}

function parseKey({ key, passphrase }: AuthoritySource, file: string): KeyObject {
  const encrypted = isEncryptedKey(key)
  if (encrypted && passphrase === undefined) throw new BrokerError('ERR_TLS_KEY_ENCRYPTED', `${file} is protected by a passphrase.`)
  try {
    return createPrivateKey({ key, ...(passphrase === undefined ? {} : { passphrase }) })
  } catch (cause) {
    if (encrypted) throw new BrokerError('ERR_TLS_KEY_ENCRYPTED', `The passphrase does not open ${file}.`, undefined, { cause })
    throw new BrokerError('ERR_PKI_INPUT', `${file} holds no private key that can be read.`, undefined, { cause })
  }
}

function canSign(certificate: X509Certificate): boolean {
  const usage = certificate.getExtension(KeyUsagesExtension)
  return (
    certificate.getExtension(BasicConstraintsExtension)?.ca === true && (usage === null || (usage.usages & KeyUsageFlags.keyCertSign) !== 0)
  )
}

const curves: Readonly<Record<string, SigningAlgorithm>> = {
  prime256v1: { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' },
  secp384r1: { name: 'ECDSA', namedCurve: 'P-384', hash: 'SHA-384' },
  secp521r1: { name: 'ECDSA', namedCurve: 'P-521', hash: 'SHA-512' }
}

function signingAlgorithmOf(key: KeyObject, file: string): SigningAlgorithm {
  const { namedCurve = '' } = key.asymmetricKeyDetails ?? {}
  const algorithm =
    key.asymmetricKeyType === 'rsa'
      ? { name: 'RSASSA-PKCS1-v1_5', hash: 'SHA-256' }
      : key.asymmetricKeyType === 'ed25519'
        ? { name: 'Ed25519' }
        : curves[namedCurve]
  if (algorithm !== undefined) return algorithm
  const found = [key.asymmetricKeyType, namedCurve].filter(Boolean).join(' ')
  throw new BrokerError('ERR_PKI_INPUT', `${file} is a key of type ${found}; RSA, EC P-256, P-384, P-521 and Ed25519 can sign.`)
}

async function exportKey(key: webcrypto.CryptoKey): Promise<string> {
  return `${PemConverter.encode(await webcrypto.subtle.exportKey('pkcs8', key), 'PRIVATE KEY')}\n`
}

async function extensionsOf(
  request: CertificateRequest,
  publicKey: webcrypto.CryptoKey,
  issuer: Authority | undefined
): Promise<Extension[]> {
  const profile: Profile = profiles[request.profile]
  const { names = [] } = request
  const extensions: Extension[] = [
    // Critical for a CA, as RFC 5280, 4.2.1.9 wants it.
    new BasicConstraintsExtension(profile.ca, undefined, profile.ca),
    new KeyUsagesExtension(keyUsageBits(profile, request.key ?? 'ec'), true),
    await SubjectKeyIdentifierExtension.create(publicKey)
  ]
  if (issuer !== undefined) extensions.push(await authorityKeyIdentifier(issuer))
  if (profile.extendedKeyUsage.length > 0) {
    extensions.push(new ExtendedKeyUsageExtension(profile.extendedKeyUsage.map(usage => ExtendedKeyUsage[usage])))
  }
  if (names.length > 0) {
    // An empty subject makes the alternative name the only one, and critical [RFC 5280, 4.2.1.6].
    extensions.push(new SubjectAlternativeNameExtension([...names], request.subject.length === 0))
  }
  return extensions
}

function keyUsageBits(profile: Profile, key: KeyType): number {
  const usages = key === 'ec' ? profile.keyUsage : [...profile.keyUsage, ...profile.rsaKeyUsage]
  return usages.reduce((bits, usage) => bits | KeyUsageFlags[usage], 0)
}

// The issuer's own identifier, if it has one: an adopted CA may have computed it in another way [RFC 5280, 4.2.1.1].
async function authorityKeyIdentifier({ x509 }: Authority): Promise<Extension> {
  const own = x509.getExtension(SubjectKeyIdentifierExtension)
  return own === null ? AuthorityKeyIdentifierExtension.create(x509.publicKey) : new AuthorityKeyIdentifierExtension(own.keyId)
}

// An INTEGER of six octets: milliseconds since 1970 fit until the year 6429, and the first octet stays below 0x80.
function crlNumber(at: Date): Extension {
  const value = Buffer.alloc(8)
  value.set([0x02, 6])
  value.writeUIntBE(at.getTime(), 2, 6)
  return new Extension('2.5.29.20', false, value)
}

// OpenSSL compares names without regard to case and to the kind of string.
function hasSameName(subject: Subject, { x509 }: Authority): boolean {
  return encodeName(subject).toString().toLowerCase() === x509.subject.toLowerCase()
}

function encodeName(subject: Subject): Name {
  // country is a PrintableString and an e-mail address an IA5String by definition; all else is UTF-8.
  return new Name(
    subject.map(([type, value]) => ({
      [type]: [
        type === 'C' || type === 'SERIALNUMBER' ? { printableString: value } : type === 'E' ? { ia5String: value } : { utf8String: value }
      ]
    }))
  )
}

// 128 random bits: nobody can foresee what a CA signs, and no two CAs of one name collide. The library adds the zero octet that
// keeps the number positive.
function randomSerial(): string {
  const serial = randomBytes(16)
  return serial.some(octet => octet !== 0) ? serial.toString('hex') : randomSerial()
}

function periodOf(name: ProfileName, { days, now = new Date() }: Wish, issuer: Authority | undefined): Period {
  const profile = profiles[name]
  const wanted = days ?? profile.days
  if (!Number.isInteger(wanted) || wanted < 1 || wanted > profile.maxDays) {
    throw new BrokerError(
      'ERR_PKI_INPUT',
      `A ${name} certificate lives a whole number of days from 1 to ${profile.maxDays}, not ${wanted}.`
    )
  }
  const notBefore = new Date(Math.floor((now.getTime() - clockSkew) / 1000) * 1000)
  const notAfter = new Date(notBefore.getTime() + wanted * 86_400_000)
  if (issuer === undefined) return { notBefore, notAfter }
  const end = issuer.x509.notAfter
  if (end <= now) {
    throw new BrokerError('ERR_PKI_INPUT', `The CA certificate expired on ${day(end)}, so nothing that it signs would be accepted.`)
  }
  if (notAfter <= end) return { notBefore, notAfter }
  // What outlives its CA is refused from that day on: a wish for that is refused now, a default gives way.
  if (days === undefined) return { notBefore, notAfter: end }
  throw new BrokerError('ERR_PKI_INPUT', `${days} days are more than the CA has left: it expires on ${day(end)}.`)
}

const day = (date: Date): string => date.toISOString().slice(0, 10)

function keyOf({ key }: Wish): { key?: KeyType } {
  return key === undefined ? {} : { key }
}

function rsa(modulusLength: number) {
  return { name: 'RSASSA-PKCS1-v1_5', modulusLength, publicExponent: new Uint8Array([1, 0, 1]), hash: 'SHA-256' } as const
}
