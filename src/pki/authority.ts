// Makes certificates and revocation lists. Values in, values out: PEM text comes and goes, no file is touched, nothing is remembered.

import { X509Certificate as NodeCertificate, randomBytes, webcrypto } from 'node:crypto'
import { BrokerError } from '../errors.js'
import { authorityKeyIdentifier, crlNumber, extensionsOf } from './extensions.js'
import { keyTypeOf, parsePrivateKey, type SigningAlgorithm, signingAlgorithmOf } from './keys.js'
import {
  BasicConstraintsExtension,
  KeyUsageFlags,
  KeyUsagesExtension,
  Name,
  PemConverter,
  X509Certificate,
  X509CertificateGenerator,
  X509CrlGenerator,
  type X509CrlReason
} from './library.js'
import { type AlternativeName, checkCommonName, commonNameProblem } from './names.js'
import { clockSkew, type ProfileName, profiles } from './profiles.js'
import { withEntries } from './revocation-entries.js'

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

/** A new certificate. */
export interface Certified {
  /** PEM. */
  readonly certificate: string
  /** Upper-case hexadecimal. */
  readonly serial: string
}

/** A new certificate and its private key. */
export interface Issued extends Certified {
  /** PEM, PKCS#8, without passphrase. */
  readonly key: string
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
  /** Encoded: taken over from an earlier certificate as it is. */
  readonly subject: Subject | Name
  readonly names?: readonly AlternativeName[]
  readonly period: Period
  readonly key?: KeyType
}

/** What whoever asks for a certificate may choose. */
export interface Wish {
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

export type RevocationReason = Exclude<keyof typeof X509CrlReason, 'removeFromCRL'>

/** A new CA: self-signed, or under `issuer` when one is given. */
export async function createAuthority(wish: Wish & { commonName: string }, issuer?: Authority): Promise<Issued> {
  const subject: Subject = [['CN', checkCommonName(wish.commonName)]]
  return issueCertificate(issuer, { profile: 'ca', subject, period: periodOf('ca', wish, issuer), ...keyOf(wish) })
}

/** The broker's certificate. Its first name is its CN as well: some devices look there alone. */
export async function issueServer(authority: Authority, wish: Wish & { names: readonly AlternativeName[] }): Promise<Issued> {
  return issueCertificate(authority, serverRequest(authority, wish))
}

/** A client's certificate; its CN is the username under `use_identity_as_username`. */
export async function issueClient(authority: Authority, wish: Wish & { commonName: string }): Promise<Issued> {
  return issueCertificate(authority, clientRequest(authority, wish))
}

/** What a broker's certificate holds. */
export function serverRequest(authority: Authority, wish: Wish & { names: readonly AlternativeName[] }): CertificateRequest {
  const [first] = wish.names
  if (first === undefined) throw new BrokerError('ERR_PKI_INPUT', 'A broker certificate needs at least one host name or IP address.')
  const usable = commonNameProblem(first.value) === undefined && !hasSameName([['CN', first.value]], authority)
  const subject: Subject = [['CN', usable ? first.value : 'broker']]
  return { profile: 'server', subject, names: wish.names, period: periodOf('server', wish, authority), ...keyOf(wish) }
}

/** What a client's certificate holds. */
export function clientRequest(authority: Authority, wish: Wish & { commonName: string }): CertificateRequest {
  const subject: Subject = [['CN', checkCommonName(wish.commonName)]]
  if (hasSameName(subject, authority)) {
    const name = JSON.stringify(wish.commonName)
    throw new BrokerError(
      'ERR_PKI_INPUT',
      `The CA itself is called ${name}: OpenSSL would take the certificate for self-signed. Choose another name.`
    )
  }
  return { profile: 'client', subject, period: periodOf('client', wish, authority), ...keyOf(wish) }
}

/** Makes a key and a certificate exactly as asked, self-signed without `issuer`. The functions above decide what may be asked. */
export async function issueCertificate(issuer: Authority | undefined, request: CertificateRequest): Promise<Issued> {
  const algorithm = keyTypes[request.key ?? 'ec']
  const keys = await webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify'])
  const signer = issuer ?? { x509: undefined, signingKey: keys.privateKey, signingAlgorithm: algorithm }
  return { ...(await certify(signer, request, keys.publicKey)), key: await exportKey(keys.privateKey) }
}

/** A certificate, exactly as asked, for a key that somebody else keeps. */
export async function certify(
  {
    x509: issuer,
    signingKey,
    signingAlgorithm
  }: Pick<Authority, 'signingKey' | 'signingAlgorithm'> & { x509: X509Certificate | undefined },
  { profile, subject, names = [], period }: CertificateRequest,
  publicKey: webcrypto.CryptoKey
): Promise<Certified> {
  const name = subject instanceof Name ? subject : encodeName(subject)
  const serial = randomSerial()
  const certificate = await X509CertificateGenerator.create({
    serialNumber: serial,
    subject: name,
    issuer: issuer?.subjectName ?? name,
    notBefore: period.notBefore,
    notAfter: period.notAfter,
    publicKey,
    signingKey,
    signingAlgorithm,
    extensions: await extensionsOf({ profile, names, hasSubject: name.toString() !== '', publicKey, issuer })
  })
  return { certificate: `${certificate.toString('pem')}\n`, serial: serial.toUpperCase() }
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
    entries: [],
    extensions: [await authorityKeyIdentifier(authority.x509), crlNumber(thisUpdate)]
  })
  // RFC 7468 calls it "X509 CRL", and OpenSSL reads nothing else; the library says "CRL".
  return `${PemConverter.encode(withEntries(Buffer.from(crl.rawData), revoked, authority), 'X509 CRL')}\n`
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
  const key = parsePrivateKey(source.key, source.passphrase, files.key)
  if (!certificate.checkPrivateKey(key)) {
    throw new BrokerError('ERR_TLS_KEY_MISMATCH', `${files.key} is not the key of ${files.certificate}.`)
  }
  const x509 = new X509Certificate(certificate.raw)
  if (!canSign(x509)) {
    throw new BrokerError('ERR_PKI_INPUT', `${files.certificate} is not a CA certificate: its uses don't include signing others.`)
  }
  const signingAlgorithm = signingAlgorithmOf(key)
  if (signingAlgorithm === undefined) {
    const found = `${files.key} is a key of type ${keyTypeOf(key)}`
    throw new BrokerError('ERR_PKI_INPUT', `${found}; RSA, EC P-256, P-384, P-521 and Ed25519 can sign.`)
  }
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

function canSign(certificate: X509Certificate): boolean {
  const usage = certificate.getExtension(KeyUsagesExtension)
  return (
    certificate.getExtension(BasicConstraintsExtension)?.ca === true && (usage === null || (usage.usages & KeyUsageFlags.keyCertSign) !== 0)
  )
}

async function exportKey(key: webcrypto.CryptoKey): Promise<string> {
  return `${PemConverter.encode(await webcrypto.subtle.exportKey('pkcs8', key), 'PRIVATE KEY')}\n`
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

/** From when to when a certificate of a profile is valid; refused when that is more than the profile, or the CA, allows. */
export function periodOf(name: ProfileName, { days, now = new Date() }: Wish, issuer: Authority | undefined): Period {
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
