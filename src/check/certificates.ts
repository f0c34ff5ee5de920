// What `check` says about certificates and revocation lists that can be used today: what ends soon, and what is easily taken for another.

import type { Certificate } from '../auth/chain.js'
import { firstCommonName, formatName } from '../auth/distinguished-name.js'
import type { TlsConfig } from '../config/types.js'
import type { Location, Problem } from '../errors.js'
import { endingSoon, endingsOf } from '../net/expiry.js'
import type { TlsMaterial } from '../net/tls.js'

const serverAuth = '1.3.6.1.5.5.7.3.1'
const anyPurpose = '2.5.29.37.0'

/** `days`: what ends within so many is worth a warning. */
export function adviseOnCertificates(config: TlsConfig, material: TlsMaterial, now: Date, days: number): readonly Problem[] {
  return [
    ...endingSoon(endingsOf(config, material), now, days),
    ...resemblances(config, material),
    ...strangers(config, material),
    ...purposes(config, material),
    ...missingLists(config, material)
  ]
}

// With the whole subject alike clients refuse the broker, which is said at every start. The CN alone misleads people, and tools that go by it.
function* resemblances({ certfile }: TlsConfig, { chain: [own], trust }: TlsMaterial): Generator<Problem> {
  const commonName = own && firstCommonName(own.fields.subject)
  if (own === undefined || commonName === undefined) return
  for (const authority of trust.certificates) {
    if (firstCommonName(authority.fields.subject) !== commonName || authority.fields.subjectKey === own.fields.subjectKey) continue
    const message = `certfile "${certfile.path}" has the same CN as the CA ${nameOf(authority)}: people and tools take one for the other. Give the CA a name of its own.`
    yield warning('ERR_TLS_SAME_SUBJECT', message, certfile.at)
  }
}

// As when a CA was made anew under its old name, and the certificates were not.
function* strangers({ certfile }: TlsConfig, { chain: [own, ...others], trust }: TlsMaterial): Generator<Problem> {
  if (own === undefined) return
  const { issuerKey, issuer } = own.fields
  const namesakes = [...trust.named(issuerKey), ...others.filter(({ fields }) => fields.subjectKey === issuerKey)]
  if (namesakes.length === 0 || namesakes.some(authority => isSignedBy(own, authority))) return
  const message = `certfile "${certfile.path}" is not signed by the CA ${formatName(issuer)} that is named here, but by another of that name: clients that trust this one will refuse it.`
  yield warning('ERR_TLS_CERTIFICATE', message, certfile.at)
}

function isSignedBy({ x509 }: Certificate, authority: Certificate): boolean {
  try {
    return x509.checkIssued(authority.x509) && x509.verify(authority.x509.publicKey)
  } catch {
    return false
  }
}

function* purposes({ certfile }: TlsConfig, { chain: [own] }: TlsMaterial): Generator<Problem> {
  // Node's types forget that a certificate may leave its purpose open.
  const purposes: readonly string[] | undefined = own?.x509.keyUsage
  if (purposes === undefined || purposes.some(purpose => purpose === serverAuth || purpose === anyPurpose)) return
  const message = `certfile "${certfile.path}" is not for servers (extended key usage): clients will refuse it. "mosquitero certs server" makes one that is.`
  yield warning('ERR_TLS_CERTIFICATE', message, certfile.at)
}

// A CA that has signed another of these CAs is not expected to sign clients as well.
function* missingLists({ crlfile, requireCertificate }: TlsConfig, { trust, revocation = [] }: TlsMaterial): Generator<Problem> {
  if (!crlfile || !requireCertificate) return
  for (const authority of trust.certificates) {
    const { subjectKey } = authority.fields
    const signsAuthorities = trust.certificates.some(other => other !== authority && other.fields.issuerKey === subjectKey)
    if (signsAuthorities || revocation.some(({ issuerKey }) => issuerKey === subjectKey)) continue
    const message = `There is no CRL of the CA ${nameOf(authority)} in crlfile "${crlfile.path}": every client of that CA will be refused.`
    yield warning('ERR_TLS_CRL', message, crlfile.at)
  }
}

const nameOf = ({ fields }: Certificate): string => formatName(fields.subject)

const warning = (code: Problem['code'], message: string, at: Location): Problem => ({ severity: 'warning', code, message, at })
