// A device's certificate as the broker's listener sees it, by the broker's own judgement.

import { clientCertificate, signatureAlgorithm } from '../auth/certificate.js'
import type { Certificate } from '../auth/chain.js'
import type { TlsConfig } from '../config/types.js'
import type { Location } from '../errors.js'
import { type PeerReason, recheckPeer } from '../net/peer.js'
import type { TlsMaterial } from '../net/tls.js'
import { authoritySource } from '../net/tls-warnings.js'
import { hasNameOfIssuer, isFor, issuerOf, nameOf, namesIn, strangerOf } from './certificate-words.js'
import { type Cause, type Finding, odd, wrong } from './finding.js'

export interface DeviceCertificateCase {
  readonly config: TlsConfig
  readonly material: TlsMaterial
  /** Its own certificate first; empty: it has none. */
  readonly chain: readonly Certificate[]
  /** Certificates at hand that might be missing in between. */
  readonly others: readonly Certificate[]
  readonly now: Date
}

/** What the listener would not like about it. */
export function judgeDeviceCertificate(given: DeviceCertificateCase): readonly Finding[] {
  const { config, material, now } = given
  const [own, ...sent] = given.chain
  const { at } = authoritySource(config)
  if (!material.requireCertificate) {
    if (own === undefined) return []
    const mend = "Set 'require_certificate true' if it should count."
    return [odd('not-asked', 'The listener does not ask for a client certificate: what the device has is not looked at.', mend, at)]
  }
  if (own === undefined) {
    const mend = 'Give the device a certificate by a CA of the listener, and name it by --cert and --key.'
    return [wrong('no-device', `The listener lets nobody in without a certificate by ${namesIn(material.trust)}.`, mend, at)]
  }
  if (hasNameOfIssuer(own)) {
    const mend = 'Have it made anew with another subject than its CA.'
    return [
      wrong(
        'device-same-subject',
        `The device's certificate has the same subject as its CA (${issuerOf(own.fields)}): OpenSSL takes it for self-signed.`,
        mend
      )
    ]
  }
  const purpose = judgePurpose(own)
  const verdict = recheckPeer(
    clientCertificate(
      own.x509.raw,
      sent.map(({ x509 }) => x509.raw)
    ),
    material,
    now
  )
  const refusal = verdict.ok ? [] : [explainRefusal(verdict.reason, verdict.words, own, sent, given, at)]
  return [...refusal, ...purpose, ...judgeStrength(given.chain, config)]
}

/** Signatures that OpenSSL 3 accepts at no security level but 0 (SSL_CTX_set_security_level), with the hash. */
const weakSignatures: ReadonlyMap<string, string> = new Map([
  ['1.2.840.113549.1.1.4', 'MD5'],
  ['1.2.840.113549.1.1.5', 'SHA-1'],
  ['1.2.840.10045.4.1', 'SHA-1'],
  ['1.2.840.10040.4.3', 'SHA-1']
])

function judgeStrength(chain: readonly Certificate[], { ciphers }: TlsConfig): readonly Finding[] {
  if (ciphers?.value.includes('@SECLEVEL=0') === true) return []
  for (const certificate of chain) {
    const hash = weakSignatures.get(signatureAlgorithm(certificate.x509.raw))
    if (hash === undefined) continue
    const whose = certificate === chain[0] ? "The device's certificate" : `The certificate of ${nameOf(certificate.fields)}`
    return [wrong(other[0], `${whose} is signed with ${hash}, which OpenSSL takes for too weak.`, other[1])]
  }
  return []
}

function judgePurpose(own: Certificate): readonly Finding[] {
  if (isFor('client', own)) return []
  const mend = 'Have it made for clients (extendedKeyUsage clientAuth): mosquitero certs client NAME.'
  return [wrong('device-not-for-clients', "The device's certificate is not made for clients: its extended key usage says so.", mend)]
}

function explainRefusal(
  reason: PeerReason,
  words: string,
  own: Certificate,
  sent: readonly Certificate[],
  given: DeviceCertificateCase,
  at: Location
): Finding {
  const { config, material, others, now } = given
  const crl = config.crlfile
  if (reason === 'unknown-ca' || reason === 'self-signed') return explainStranger(own, sent, others, material, now, at)
  const [cause, mend, place] = mends[reason] ?? other
  return wrong(cause, `${capital(words)}.`, mend, place === 'crlfile' ? crl?.at : place === 'cafile' ? at : undefined)
}

type Mend = readonly [cause: Cause, mend: string, place?: 'cafile' | 'crlfile']

const renew = 'Renew it: have a new one signed for the same name.'
const caMend = 'Renew that CA and put its certificate into cafile; or have the device certified by another.'
const other: Mend = ['device-not-accepted', 'Have it made anew: EC P-256 or RSA of 2048 bits at least, signed with SHA-256.']

const mends: Partial<Record<PeerReason, Mend>> = {
  expired: ['device-expired', renew],
  'not-yet-valid': ['device-not-yet-valid', 'Set the clock of this machine if it is wrong; else wait.'],
  'ca-expired': ['device-ca-expired', caMend, 'cafile'],
  'ca-not-yet-valid': ['device-ca-expired', caMend, 'cafile'],
  'not-a-ca': ['device-ca-expired', 'Have it signed by a CA: a certificate of a device or server signs nothing.', 'cafile'],
  'path-too-long': ['device-ca-expired', 'Have it signed by a CA that is allowed below the one above it.', 'cafile'],
  'ca-revoked': ['device-ca-expired', 'Have the device certified by another CA.', 'crlfile'],
  revoked: ['device-revoked', 'If that is not meant have a new one signed: a revocation is not taken back.', 'crlfile'],
  'crl-missing': ['crl-missing', 'Append the CRL of that CA to crlfile: without one nobody of that CA is let in.', 'crlfile'],
  'crl-expired': [
    'crl-expired',
    'Make a new one (mosquitero certs crl, or openssl ca -gencrl), put it in its place, and reload.',
    'crlfile'
  ],
  'crl-not-yet-valid': ['crl-not-yet-valid', 'Set the clock of this machine if it is wrong; else wait.', 'crlfile']
}

function explainStranger(
  own: Certificate,
  sent: readonly Certificate[],
  others: readonly Certificate[],
  { trust }: TlsMaterial,
  now: Date,
  at: Location
): Finding {
  const stranger = strangerOf(own, sent, others, trust, now)
  const known = namesIn(trust)
  switch (stranger.kind) {
    case 'self-signed': {
      const mend = 'Have it signed by a CA of the listener, or put the certificate itself into cafile.'
      return wrong('device-self-signed', `The device's certificate is self-signed; the listener trusts ${known}.`, mend, at)
    }
    case 'incomplete': {
      const name = nameOf(stranger.missing.fields)
      const mend = `Append the certificate of ${name} to the device's, in the same file.`
      return wrong('device-chain-incomplete', `The device does not show the intermediate CA that signed for it, ${name}.`, mend)
    }
    case 'same-name': {
      const mend = `Put the certificate that ${stranger.issuer} has today into cafile, or have the device's signed anew.`
      const what = `The device's certificate was signed by ${stranger.issuer}, but not with the key of the CA of this name that the listener trusts.`
      return wrong('device-other-ca', what, mend, at)
    }
    case 'unknown': {
      const mend = `Have it signed by one of these, or put the certificate of ${stranger.issuer} into cafile.`
      return wrong(
        'device-unknown-ca',
        `The device's certificate was signed by ${stranger.issuer}; the listener trusts ${known}.`,
        mend,
        at
      )
    }
  }
}

const capital = (text: string): string => text.charAt(0).toUpperCase() + text.slice(1)
