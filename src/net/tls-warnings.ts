// What is odd about the files of a TLS listener that can be used all the same: said at start, at a reload and by `check`.

import { dateOf } from '../auth/certificate.js'
import { type Certificate, isSelfSigned, type TrustStore } from '../auth/chain.js'
import { formatName } from '../auth/distinguished-name.js'
import type { RevocationList } from '../auth/revocation.js'
import type { FileSetting, PeerRules, TlsConfig } from '../config/types.js'
import type { ErrorCode, Location, Problem } from '../errors.js'

export type Report = (severity: Problem['severity'], code: ErrorCode, message: string, at: Location) => void

/** `chain`: what certfile holds, the broker's own certificate first. */
export function warnAboutCertificates(
  [own, ...others]: readonly Certificate[],
  trust: TrustStore,
  { path, at }: FileSetting,
  now: Date,
  report: Report
): void {
  if (own === undefined) return
  const { subject, subjectKey, issuerKey } = own.fields
  const warn = (message: string): void => report('warning', 'ERR_TLS_CERTIFICATE', message, at)
  const outdated = (what: string, certificate: Certificate): void => {
    const fault = dateFault(certificate, now)
    if (fault !== undefined) warn(`${what} ${fault}: clients will refuse it.`)
  }
  outdated(`certfile "${path}"`, own)
  // A root that stands at the end of the chain is looked at by nobody.
  for (const other of others) {
    if (!isSelfSigned(other)) outdated(`The CA certificate ${formatName(other.fields.subject)} in certfile "${path}"`, other)
  }
  if (own.x509.subjectAltName === undefined) {
    warn(`certfile "${path}" has no subjectAltName: OpenSSL clients go by its CN, most others refuse it.`)
  }
  // OpenSSL takes a certificate whose issuer bears its own name for a self-signed one.
  if (subjectKey === issuerKey && trust.named(issuerKey).some(({ x509 }) => !x509.raw.equals(own.x509.raw))) {
    const message = `certfile "${path}" has the same subject as its CA (${formatName(subject)}): OpenSSL takes it for self-signed, so clients refuse it. Give the CA another subject.`
    report('warning', 'ERR_TLS_SAME_SUBJECT', message, at)
  }
}

export function warnAboutAuthorities(config: TlsConfig, { certificates }: TrustStore, now: Date, report: Report): void {
  const { what, at } = authoritySource(config)
  for (const certificate of certificates) {
    const fault = dateFault(certificate, now)
    if (fault === undefined) continue
    const message = `The CA certificate ${formatName(certificate.fields.subject)} in ${what} ${fault}: certificates that it signed are refused.`
    report('warning', 'ERR_TLS_CA', message, at)
  }
  if (certificates.length > 0) return
  if (config.capath !== undefined) {
    const message = `There is no certificate with a hashed name in capath "${config.capath.path}": run "openssl rehash" on it.`
    report('warning', 'ERR_TLS_CA', message, config.capath.at)
  }
  if (config.requireCertificate) {
    report('warning', 'ERR_TLS_CA', 'require_certificate is true, and there is no CA: every client will be refused.', config.certfile.at)
  }
}

/** Where the CA certificates of a listener come from, for a sentence. */
export function authoritySource({ cafile, capath, certfile }: TlsConfig): { readonly what: string; readonly at: Location } {
  const at = (cafile ?? capath ?? certfile).at
  if (cafile && capath) return { what: 'cafile or capath', at }
  return { what: cafile ? `cafile "${cafile.path}"` : `capath "${capath?.path}"`, at }
}

export function warnAboutList(
  list: RevocationList,
  isOfTrusted: boolean,
  { path, at }: FileSetting,
  { forgivesExpiredLists }: PeerRules,
  now: Date,
  report: Report
): void {
  const warn = (message: string): void => report('warning', 'ERR_TLS_CRL', message, at)
  const what = `The CRL of ${list.issuer} in crlfile "${path}"`
  if (!isOfTrusted) warn(`${what} belongs to no CA in cafile or capath.`)
  if (list.nextUpdate !== undefined && list.nextUpdate < now) {
    const day = dateOf(list.nextUpdate)
    if (forgivesExpiredLists) warn(`${what} expired on ${day}: who has been revoked since then comes in.`)
    else warn(`${what} expired on ${day}: every client of that CA will be refused.`)
  }
  if (list.thisUpdate > now)
    warn(`${what} is not valid before ${dateOf(list.thisUpdate)}: every client of that CA will be refused until then.`)
}

function dateFault({ fields: { notBefore, notAfter } }: Certificate, now: Date): string | undefined {
  if (notAfter < now) return `expired on ${dateOf(notAfter)}`
  if (notBefore > now) return `is not valid before ${dateOf(notBefore)}`
  return undefined
}

/** A reason as a sentence of its own. */
export function sentence(text: string): string {
  return `${text.slice(0, 1).toUpperCase()}${text.slice(1)}${text.endsWith('.') ? '' : '.'}`
}
