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

export type BrokenChain = { readonly fault: 'unknown-ca' } | { readonly fault: CaFault; readonly by: Certificate }

// Enough for cross-signed hierarchies; an end to what a peer can make us compute by sending look-alikes.
const maxSignatureChecks = 32
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

/** The way from a certificate to a root of the store, over `intermediates` where needed: issuer, signature, CA flag, key usage, path length, dates of the CAs. */
export function buildChain(leaf: Certificate, intermediates: readonly Certificate[], trust: TrustStore, now: Date): ChainResult {
  let checks = maxSignatureChecks
  let broken: BrokenChain = { fault: 'unknown-ca' }

  function extend(path: readonly Certificate[], last: Certificate): readonly Certificate[] | undefined {
    if (isSelfSigned(last)) return trust.has(last) ? path : undefined
    const ours = trust.named(last.fields.issuerKey)
    const candidates = [...ours, ...intermediates.filter(({ fields }) => fields.subjectKey === last.fields.issuerKey)]
    for (const [index, candidate] of candidates.entries()) {
      if (path.length >= maxLength || path.includes(candidate) || checks === 0) continue
      checks -= 1
      if (!(index < ours.length ? trust.hasSigned(candidate, last) : hasSigned(candidate, last))) continue
      const fault = faultOf(candidate, countBelow(path), now)
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
  return path === undefined ? broken : { path }
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

function faultOf(ca: Certificate, casBelow: number, now: Date): CaFault | undefined {
  const { version, basicConstraints, keyUsage, notBefore, notAfter } = ca.fields
  // Without the extension: a version 1 root, or a key that may sign certificates [X509_check_ca(3)].
  const mayIssue = basicConstraints?.ca ?? ((version === 1 && isSelfSigned(ca)) || keyUsage !== undefined)
  if (!mayIssue || keyUsage?.certificateSign === false) return 'not-a-ca'
  if (basicConstraints?.pathLength !== undefined && casBelow > basicConstraints.pathLength) return 'path-too-long'
  if (now > notAfter) return 'ca-expired'
  if (now < notBefore) return 'ca-not-yet-valid'
  return undefined
}
