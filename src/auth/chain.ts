// Our own way from a certificate to a CA. It names the issuer for the revocation check, and says whether a connection that Node once
// authorized still stands after its CA set, or the date, has changed. Alone it lets nobody in: where Node's yes is missing because dates
// are forgiven, path-rules.ts asks what Node would have asked as well.

import type { X509Certificate } from 'node:crypto'
import { type CertificateFields, readCertificate } from './certificate.js'
import { RecentMap } from './recent-map.js'

/** A certificate with its fields, read once. */
export interface Certificate {
  readonly x509: X509Certificate
  readonly fields: CertificateFields
}

/** What is wrong with a CA on the way. */
type CaFault = 'ca-expired' | 'ca-not-yet-valid' | 'not-a-ca' | 'path-too-long'
export type ChainFault = BrokenChain['fault']

/** `path` runs from the leaf to the root, both included. */
export type ChainResult = { readonly path: readonly Certificate[] } | BrokenChain

/** `isUnverified`: there may be a way all the same, over a signature that was too dear to verify. */
export type BrokenChain =
  | { readonly fault: 'unknown-ca'; readonly isUnverified?: boolean }
  | { readonly fault: CaFault; readonly by: Certificate }

// Enough for cross-signed hierarchies; an end to what a peer can make us compute by sending look-alikes.
const maxSignatureChecks = 32
// A stranger's CAs may have RSA keys of 4096 or 8192 bits each: a few are verified on any machine, more while they take no time to speak of.
const certainChecks = 3
const strangersTime = 5
const maxLength = 10
const mostSigned = 10_000

/** The CA certificates of a listener. A certificate of `cafile` that is not self-signed helps to build a path, as in OpenSSL, and ends none. */
export class TrustStore {
  readonly certificates: readonly Certificate[]
  readonly #bySubject = new Map<string, readonly Certificate[]>()
  /** By fingerprint of what they have signed: only what they have can be in here. */
  readonly #signers = new RecentMap<Certificate>(mostSigned)

  constructor(certificates: readonly X509Certificate[]) {
    this.certificates = certificates.map(toCertificate)
    for (const certificate of this.certificates) {
      const { subjectKey } = certificate.fields
      this.#bySubject.set(subjectKey, [...this.named(subjectKey), certificate])
    }
  }

  named(subjectKey: string): readonly Certificate[] {
    return this.#bySubject.get(subjectKey) ?? []
  }

  /** Has this CA, which is in the store, issued and signed that certificate? Clients come back by their tickets: nobody computes it again for them. */
  hasSigned(authority: Certificate, certificate: Certificate): boolean {
    const { fingerprint256 } = certificate.x509
    if (this.#signers.get(fingerprint256) === authority) return true
    const answer = hasSigned(authority, certificate)
    if (answer) this.#signers.set(fingerprint256, authority)
    return answer
  }

  /**
   * The root that has signed a certificate from which OpenSSL has found a way to this store: it looks here first for a CA of that name and key
   * that may sign, and one that is self-signed is the end of the way [X509_V_FLAG_TRUSTED_FIRST]. Undefined: there may be others in between.
   */
  rootAbove({ issuerKey, issuerKeyIdentifier }: CertificateFields): Certificate | undefined {
    const [root, ...namesakes] = this.named(issuerKey)
    if (root === undefined || namesakes.length > 0 || !isSelfSigned(root)) return undefined
    const { keyIdentifier, keyUsage } = root.fields
    if (keyUsage?.certificateSign === false || keyIdentifier === undefined) return undefined
    return issuerKeyIdentifier?.equals(keyIdentifier) ? root : undefined
  }

  has({ x509, fields }: Certificate): boolean {
    return this.named(fields.subjectKey).some(other => other.x509.raw.equals(x509.raw))
  }
}

/** Reads the fields of a certificate of Node's. */
export function toCertificate(x509: X509Certificate): Certificate {
  return { x509, fields: readCertificate(x509.raw) }
}

/**
 * The way from a certificate to a root of the store, over `intermediates` where needed: issuer, signature, CA flag, key usage, path length, dates of the CAs.
 * For a stranger, whose certificate OpenSSL did not accept, little is computed.
 */
export function buildChain(
  leaf: Certificate,
  intermediates: readonly Certificate[],
  trust: TrustStore,
  now: Date,
  { isStranger = false } = {}
): ChainResult {
  const checks = new SignatureChecks(trust, isStranger)
  let broken: Exclude<BrokenChain, { fault: 'unknown-ca' }> | undefined

  function extend(path: readonly Certificate[], last: Certificate): readonly Certificate[] | undefined {
    if (checks.isSelfSigned(last)) return trust.has(last) ? path : undefined
    const named = intermediates.filter(({ fields }) => fields.subjectKey === last.fields.issuerKey)
    for (const candidate of candidatesOf(trust.named(last.fields.issuerKey), named)) {
      if (path.length >= maxLength || path.includes(candidate) || !checks.hasSigned(candidate, last)) continue
      const fault = faultOf(candidate, countBelow(path), now, checks)
      if (fault !== undefined) {
        broken = { fault, by: candidate }
        continue
      }
      const complete = extend([...path, candidate], candidate)
      if (complete !== undefined) return complete
    }
    return undefined
  }

  const path = extend([leaf], leaf)
  if (path !== undefined) return { path }
  return broken ?? { fault: 'unknown-ca', ...(checks.isIncomplete && { isUnverified: true }) }
}

/** The signatures that are verified for one certificate: so many, and for a stranger with what it sends only those that are soon done. */
class SignatureChecks {
  readonly #trust: TrustStore
  readonly #isStranger: boolean
  readonly #end = performance.now() + strangersTime
  #made = 0
  /** A stranger's signature was left out. */
  isIncomplete = false

  constructor(trust: TrustStore, isStranger: boolean) {
    this.#trust = trust
    this.#isStranger = isStranger
  }

  hasSigned(issuer: Certificate, certificate: Certificate): boolean {
    if (this.#made >= maxSignatureChecks || !this.#isAffordable(issuer)) return false
    this.#made += 1
    return this.#isOurs(issuer) ? this.#trust.hasSigned(issuer, certificate) : hasSigned(issuer, certificate)
  }

  isSelfSigned(certificate: Certificate): boolean {
    const { subjectKey, issuerKey } = certificate.fields
    if (subjectKey !== issuerKey || selfSigned.has(certificate.x509) || !this.#isStranger) return isSelfSigned(certificate)
    if (!this.#isAffordable(certificate)) return false
    this.#made += 1
    return isSelfSigned(certificate)
  }

  #isAffordable(issuer: Certificate): boolean {
    if (!this.#isStranger) return true
    const hasTime = this.#made < certainChecks || performance.now() < this.#end
    const affordable = hasTime && (this.#isOurs(issuer) || isCheap(issuer))
    if (!affordable) this.isIncomplete = true
    return affordable
  }

  #isOurs(certificate: Certificate): boolean {
    return this.#trust.named(certificate.fields.subjectKey).includes(certificate)
  }
}

/** Ours first, and last what is dear to verify with: most often another has signed. */
function* candidatesOf(ours: readonly Certificate[], others: readonly Certificate[]): Generator<Certificate> {
  yield* ours
  const dear: Certificate[] = []
  for (const other of others) {
    if (isCheap(other)) yield other
    else dear.push(other)
  }
  yield* dear
}

const longestModulus = 8192
const largestExponent = 2n ** 32n

/**
 * A key that OpenSSL verifies with in two milliseconds at most. It takes exponents as long as the modulus up to 3072 bits, for which one
 * signature takes fifteen, and primes of DSA up to 10000 bits.
 */
function isCheap({ x509 }: Certificate): boolean {
  try {
    const { asymmetricKeyType, asymmetricKeyDetails: { modulusLength = 0, publicExponent = 0n, namedCurve = '' } = {} } = x509.publicKey
    switch (asymmetricKeyType) {
      case 'rsa':
      case 'rsa-pss':
        return modulusLength <= longestModulus && publicExponent <= largestExponent
      case 'ec':
        return /^(prime|secp|brainpool)/.test(namedCurve)
      default:
        return asymmetricKeyType === 'ed25519' || asymmetricKeyType === 'ed448'
    }
  } catch {
    // A key of a kind that OpenSSL does not know: it takes no time to find that out.
    return true
  }
}

/** Has this CA issued and signed that certificate? */
function hasSigned(issuer: Certificate, { x509 }: Certificate): boolean {
  try {
    return x509.checkIssued(issuer.x509) && x509.verify(issuer.x509.publicKey)
  } catch {
    // A key of a kind that OpenSSL does not know has signed nothing that we could accept.
    return false
  }
}

const selfSigned = new WeakMap<X509Certificate, boolean>()

/** Asked of the same roots for every client, so the answer is kept. */
export function isSelfSigned(certificate: Certificate): boolean {
  const { x509, fields } = certificate
  if (fields.subjectKey !== fields.issuerKey) return false
  const known = selfSigned.get(x509)
  if (known !== undefined) return known
  const answer = hasSigned(certificate, certificate)
  selfSigned.set(x509, answer)
  return answer
}

// CAs that bear their issuer's name, as where a CA has changed its key, don't count [RFC 5280, 4.2.1.9].
function countBelow(path: readonly Certificate[]): number {
  return path.slice(1).filter(({ fields }) => fields.subjectKey !== fields.issuerKey).length
}

function faultOf(ca: Certificate, casBelow: number, now: Date, checks: SignatureChecks): CaFault | undefined {
  const { version, basicConstraints, keyUsage, notBefore, notAfter } = ca.fields
  // Without the extension: a version 1 root, or a key that may sign certificates [X509_check_ca(3)].
  const mayIssue = basicConstraints?.ca ?? ((version === 1 && checks.isSelfSigned(ca)) || keyUsage !== undefined)
  if (!mayIssue || keyUsage?.certificateSign === false) return 'not-a-ca'
  if (basicConstraints?.pathLength !== undefined && casBelow > basicConstraints.pathLength) return 'path-too-long'
  if (now > notAfter) return 'ca-expired'
  if (now < notBefore) return 'ca-not-yet-valid'
  return undefined
}
