// What is wrong with a certificate for what it is to be used for, and for the company that it is shown in.

import type { X509Certificate } from 'node:crypto'
import { BasicConstraintsExtension, X509Certificate as ReadCertificate } from './library.js'
import { isSignedBy } from './x509.js'

export type Use = 'server' | 'client' | 'ca'

interface UseFacts {
  readonly certificate: X509Certificate
  /** Absent: nobody has said it. */
  readonly use: Use | undefined
  readonly isCa: boolean
  /** X.509 v1 can't say whether it is one. */
  readonly isOld: boolean
  readonly purposes: readonly string[] | undefined
  readonly others: readonly X509Certificate[]
}

const purposes = { server: '1.3.6.1.5.5.7.3.1', client: '1.3.6.1.5.5.7.3.2', any: '2.5.29.37.0' } as const

const rules: readonly (readonly [applies: (facts: UseFacts) => boolean, text: string])[] = [
  [f => f.use === 'ca' && !f.isCa && !f.isOld, 'It is no CA (CA:FALSE, or nothing about it): what it signs is accepted by nobody.'],
  [
    f => f.use !== undefined && f.use !== 'ca' && f.isCa,
    'It is a CA certificate: it is for signing others, and a peer may refuse it here.'
  ],
  [f => f.use === 'server' && !serves('server', f), "Its extended key usage leaves TLS servers out: clients refuse it as a broker's."],
  [f => f.use === 'client' && !serves('client', f), 'Its extended key usage leaves TLS clients out: a broker refuses it.'],
  [
    f => !f.isCa && !f.isOld && f.others.some(other => isSignedBy(other, f.certificate)),
    'It signed a certificate shown, but is no CA (CA:FALSE, or nothing about it).'
  ],
  [
    f => !f.isCa && f.others.some(other => other.ca && other.subject === f.certificate.subject && !other.raw.equals(f.certificate.raw)),
    'It has the same name as a CA shown: OpenSSL takes it for self-signed. Give CA and certificate different names.'
  ]
]

/** Sentences; none when nothing is wrong. */
export function useNotes(certificate: X509Certificate, use: Use | undefined, others: readonly X509Certificate[]): readonly string[] {
  const constraints = attempt(() => new ReadCertificate(certificate.raw).getExtension(BasicConstraintsExtension))
  const isOld = attempt(() => new ReadCertificate(certificate.raw).extensions.length === 0) ?? false
  // Node calls the extended key usage so.
  const purposes: readonly string[] | undefined = certificate.keyUsage
  const facts = { certificate, use, isCa: constraints?.ca === true, isOld, purposes, others }
  return rules.flatMap(([applies, text]) => (applies(facts) ? [text] : []))
}

/** Without the extension it is for everything [RFC 5280, 4.2.1.12]. */
function serves(use: 'server' | 'client', { purposes: found }: UseFacts): boolean {
  return found === undefined || found.includes(purposes[use]) || found.includes(purposes.any)
}

function attempt<Value>(read: () => Value): Value | undefined {
  try {
    return read()
  } catch {
    return undefined
  }
}
