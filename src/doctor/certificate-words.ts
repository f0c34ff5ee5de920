// What both sides' certificates have in common when they are not accepted: who signed them, and whether they are made for their use.

import { dateOf } from '../auth/certificate.js'
import { type BrokenChain, buildChain, type Certificate, isSelfSigned, type TrustStore } from '../auth/chain.js'
import { formatName } from '../auth/distinguished-name.js'

/** A name in words; as long as a line may be. */
export function nameOf({ subject }: Certificate['fields']): string {
  return clipped(formatName(subject))
}

export const issuerOf = ({ issuer }: Certificate['fields']): string => clipped(formatName(issuer))

const clipped = (text: string): string => (text.length > 200 ? `${text.slice(0, 199)}…` : text)

export function namesIn({ certificates }: TrustStore): string {
  const [first, second, third, ...more] = certificates.map(({ fields }) => nameOf(fields))
  if (first === undefined) return 'no CA at all'
  return [first, second, third, more.length > 0 ? `${more.length} more` : undefined].filter(Boolean).join(', ')
}

/** Why nobody who trusts `trust` follows it to a root. */
export type Stranger =
  | { readonly kind: 'self-signed' }
  /** `missing`: with it the way would be complete. */
  | { readonly kind: 'incomplete'; readonly missing: Certificate }
  | { readonly kind: 'same-name'; readonly issuer: string }
  | { readonly kind: 'unknown'; readonly issuer: string }

/**
 * What is unknown about a certificate that leads to no root: its last issuer, or one of `others` that should have come with it (they lie
 * about on this machine, and the peer does not have them).
 */
export function strangerOf(
  own: Certificate,
  sent: readonly Certificate[],
  others: readonly Certificate[],
  trust: TrustStore,
  now: Date
): Stranger {
  if (isSelfSigned(own)) return { kind: 'self-signed' }
  const complete = buildChain(own, [...sent, ...others], trust, now)
  if ('path' in complete) {
    const missing = complete.path.slice(1, -1).find(({ x509 }) => !sent.some(one => one.x509.raw.equals(x509.raw)))
    if (missing !== undefined) return { kind: 'incomplete', missing }
  }
  const last = lastOf(own, sent)
  // Where the root was sent along it is the one that is missing.
  const { subjectKey, issuerKey } = last.fields
  const isNameKnown = trust.named(isSelfSigned(last) ? subjectKey : issuerKey).length > 0
  return { kind: isNameKnown ? 'same-name' : 'unknown', issuer: issuerOf(last.fields) }
}

/** The end of what was sent. */
function lastOf(own: Certificate, sent: readonly Certificate[]): Certificate {
  let last = own
  for (let i = 0; i < sent.length && !isSelfSigned(last); i++) {
    const next = sent.find(each => each !== last && each.fields.subjectKey === last.fields.issuerKey)
    if (next === undefined) break
    last = next
  }
  return last
}

/** Of a CA on the way to the root, behind its name. */
export function faultWords(broken: Exclude<BrokenChain, { readonly fault: 'unknown-ca' }>): string {
  switch (broken.fault) {
    case 'ca-expired':
      return `expired on ${dateOf(broken.by.fields.notAfter)}`
    case 'ca-not-yet-valid':
      return `is not valid before ${dateOf(broken.by.fields.notBefore)}`
    case 'not-a-ca':
      return 'may not sign certificates'
    case 'path-too-long':
      return 'has more CAs below it than its path length allows'
  }
}

/** An issuer that bears the certificate's own name: OpenSSL takes that for self-signed. */
export function hasNameOfIssuer(certificate: Certificate): boolean {
  return certificate.fields.subjectKey === certificate.fields.issuerKey && !isSelfSigned(certificate)
}

const anyUse = '2.5.29.37.0'
export const uses = { server: '1.3.6.1.5.5.7.3.1', client: '1.3.6.1.5.5.7.3.2' } as const

/** Without an extended key usage a certificate is for everything [RFC 5280, 4.2.1.12]. */
export function isFor(use: keyof typeof uses, { x509 }: Certificate): boolean {
  // Node calls the extended key usage so.
  const found: readonly string[] | undefined = x509.keyUsage
  return found === undefined || found.includes(uses[use]) || found.includes(anyUse)
}

/** `CN=press-7, signed by CN=Plant CA, good until 2027-01-02`. */
export function describeCertificate(certificate: Certificate): string {
  const { fields } = certificate
  const signed = isSelfSigned(certificate) ? 'self-signed' : `signed by ${issuerOf(fields)}`
  return `${nameOf(fields) || 'a certificate without a subject'}, ${signed}, good until ${dateOf(fields.notAfter)}`
}
