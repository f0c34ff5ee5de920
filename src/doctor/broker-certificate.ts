// The broker's certificate as a device sees it: what it shows, or what certfile holds.

import type { X509Certificate } from 'node:crypto'
import { isIP } from 'node:net'
import { dateOf } from '../auth/certificate.js'
import { buildChain, type Certificate, type TrustStore } from '../auth/chain.js'
import type { Location } from '../errors.js'
import { faultWords, hasNameOfIssuer, isFor, issuerOf, nameOf, namesIn, strangerOf } from './certificate-words.js'
import { type Cause, type Finding, odd, wrong } from './finding.js'

export interface BrokerCertificateCase {
  /** Its own certificate first, then what comes with it. */
  readonly shown: readonly Certificate[]
  /** The line that names it. */
  readonly at?: Location | undefined
  /** By which CAs the device knows brokers; absent: nobody said. */
  readonly trust?: TrustStore | undefined
  /** Certificates at hand that might be missing in between. */
  readonly others: readonly Certificate[]
  /** What the device calls the broker; absent: nobody said. */
  readonly host?: string | undefined
  readonly now: Date
}

/** What a device would not like about it. */
export function judgeBrokerCertificate(given: BrokerCertificateCase): readonly Finding[] {
  const [own, ...sent] = given.shown
  if (own === undefined) return []
  return [...judgeDates(own, given), ...judgeIssuer(own, sent, given), ...judgePurpose(own, given), ...judgeNames(own, given)]
}

function judgeDates({ fields: { notBefore, notAfter } }: Certificate, { at, now }: BrokerCertificateCase): readonly Finding[] {
  if (now > notAfter) {
    const mend = 'Have a new one signed for the same names, put it in its place, and reload.'
    return [wrong('broker-expired', `The broker's certificate expired on ${dateOf(notAfter)}.`, mend, at)]
  }
  if (now < notBefore) {
    const mend = `Set the clock of this machine, which says ${now.toISOString()}, if it is wrong; else wait.`
    return [wrong('broker-not-yet-valid', `The broker's certificate is not valid before ${notBefore.toISOString()}.`, mend, at)]
  }
  return []
}

function judgeIssuer(own: Certificate, sent: readonly Certificate[], given: BrokerCertificateCase): readonly Finding[] {
  const { at, trust, others, now } = given
  if (hasNameOfIssuer(own)) {
    const mend = 'Make the certificate anew with another subject than its CA.'
    const what = `The broker's certificate has the same subject as its CA (${issuerOf(own.fields)}): OpenSSL takes it for self-signed.`
    return [wrong('broker-same-subject', what, mend, at)]
  }
  if (trust === undefined) return []
  const chain = buildChain(own, sent, trust, now)
  if ('path' in chain) return []
  if (chain.fault !== 'unknown-ca') {
    const mend = 'Renew that CA, and give its new certificate to the devices; or have the broker certified by another.'
    return [wrong('broker-ca-expired', `The CA of the broker's certificate, ${nameOf(chain.by.fields)}, ${faultWords(chain)}.`, mend, at)]
  }
  const stranger = strangerOf(own, sent, others, trust, now)
  const known = namesIn(trust)
  switch (stranger.kind) {
    case 'self-signed': {
      const mend = 'Give the device this certificate as its --cafile, or have it signed by a CA that devices trust.'
      return [wrong('broker-unknown-ca', `The broker's certificate is self-signed; the device trusts ${known}.`, mend, at)]
    }
    case 'incomplete': {
      const name = nameOf(stranger.missing.fields)
      const mend = `Append the certificate of ${name} to certfile, behind the broker's own, and reload.`
      return [wrong('broker-chain-incomplete', `The broker does not show the intermediate CA that signed for it, ${name}.`, mend, at)]
    }
    case 'same-name': {
      const mend = `Copy the certificate that ${stranger.issuer} has today to the device: it was made anew, or is another CA of that name.`
      const what = `The broker's certificate was signed by ${stranger.issuer}, but not with the key of the one that the device has under this name.`
      return [wrong('broker-other-ca', what, mend, at)]
    }
    case 'unknown': {
      const mend = `Give the device the certificate of ${stranger.issuer} as its --cafile; where that is an intermediate CA, append it to certfile.`
      return [
        wrong('broker-unknown-ca', `The broker's certificate was signed by ${stranger.issuer}; the device trusts ${known}.`, mend, at)
      ]
    }
  }
}

function judgePurpose(own: Certificate, { at }: BrokerCertificateCase): readonly Finding[] {
  if (isFor('server', own)) return []
  const mend = 'Have it made for servers (extendedKeyUsage serverAuth): mosquitero certs server NAME.'
  return [wrong('broker-not-for-servers', "The broker's certificate is not made for servers: its extended key usage says so.", mend, at)]
}

function judgeNames({ x509 }: Certificate, { at, host }: BrokerCertificateCase): readonly Finding[] {
  const names = x509.subjectAltName
  if (names === undefined) {
    const mend = `Have one made with its names in it: mosquitero certs server ${host ?? 'NAME'}.`
    const what = "The broker's certificate has no subjectAltName: OpenSSL goes by its CN, most others refuse it."
    return [host === undefined || isCalled(host, x509) ? odd('broker-no-names', what, mend, at) : wrong('broker-no-names', what, mend, at)]
  }
  if (host === undefined) return []
  if (isCalled(host, x509)) return []
  const cause: Cause = 'broker-wrong-name'
  const mend = `Connect to one of its names, or have a certificate made that has this one: mosquitero certs server ${isIP(host) ? '--ip ' : ''}${host}.`
  return [wrong(cause, `The device calls the broker ${host}; its certificate is for ${names}.`, mend, at)]
}

/** Is that one of its names? Of one without names it is the CN, for addresses too. */
export function isCalled(host: string, x509: X509Certificate): boolean {
  const isAddress = isIP(host) !== 0 && x509.subjectAltName !== undefined
  return (isAddress ? x509.checkIP(host) : x509.checkHost(host)) !== undefined
}
