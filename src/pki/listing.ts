// What a CA has issued, for people: the record's lines with what the copies of the certificates say.

import { X509Certificate as NodeCertificate } from 'node:crypto'
import { profileOf } from './ca.js'
import { X509Certificate } from './library.js'
import type { ProfileName } from './profiles.js'
import { commonNameOf, type RecordEntry } from './record.js'
import type { RecordFile } from './record-file.js'

/** One line of `list`. */
export interface ListedCertificate {
  readonly serial: string
  readonly subject: string
  readonly commonName?: string
  readonly state: 'valid' | 'expired' | 'revoked'
  readonly notAfter: Date
  readonly revoked?: RecordEntry['revoked']
  /** The serial of a later certificate of the same subject. */
  readonly replacedBy?: string
  /** What the copy says; absent: there is none, as of certificates that OpenSSL made elsewhere. */
  readonly details?: {
    readonly profile?: ProfileName
    readonly notBefore: Date
    readonly names: string
    /** SHA-256. */
    readonly fingerprint: string
  }
}

/** Everything in the record, in its order, and the numbers of its damaged lines. */
export async function listRecord(
  record: RecordFile,
  now: Date
): Promise<{ readonly certificates: readonly ListedCertificate[]; readonly damaged: readonly number[] }> {
  const { entries, damaged } = await record.read()
  const latest = new Map<string, number>()
  for (const [index, { subject, revoked }] of entries.entries()) if (!revoked) latest.set(subject, index)
  const certificates: ListedCertificate[] = []
  for (const [index, entry] of entries.entries()) {
    const details = detailsOf(await record.certificate(entry))
    const commonName = commonNameOf(entry)
    const successor = entries[latest.get(entry.subject) ?? -1]
    certificates.push({
      serial: entry.serial,
      subject: entry.subject,
      ...(commonName !== undefined && { commonName }),
      state: entry.revoked ? 'revoked' : entry.notAfter < now ? 'expired' : 'valid',
      notAfter: entry.notAfter,
      ...(entry.revoked && { revoked: entry.revoked }),
      ...(successor && (latest.get(entry.subject) ?? 0) > index && { replacedBy: successor.serial }),
      ...(details && { details })
    })
  }
  return { certificates, damaged }
}

function detailsOf(pem: string | undefined): ListedCertificate['details'] | undefined {
  if (pem === undefined) return undefined
  try {
    const certificate = new NodeCertificate(pem)
    const profile = profileOf(new X509Certificate(certificate.raw))
    return {
      ...(profile && { profile }),
      notBefore: new Date(certificate.validFrom),
      names: certificate.subjectAltName ?? '',
      fingerprint: certificate.fingerprint256
    }
  } catch {
    return undefined // A copy that somebody has damaged costs what it would have told.
  }
}
