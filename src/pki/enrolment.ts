// Enrols devices: a first certificate for whoever has a secret, the next one for whoever has the certificate of today. The request brings a
// key; all else is decided here.

import { X509Certificate } from 'node:crypto'
import { readCertificate } from '../auth/certificate.js'
import { firstCommonName } from '../auth/distinguished-name.js'
import { BrokerError } from '../errors.js'
import type { Ca } from './ca.js'
import { decodeRequest } from './est.js'
import type { Invitations, RefusedSecret } from './invitations.js'
import { ExtendedKeyUsage } from './library.js'
import { commonNameOf, recordSerial } from './record.js'
import { parseRequest } from './request.js'
import { isSignedBy } from './x509.js'

export interface Enrolled {
  readonly deviceId: string
  /** PEM. */
  readonly certificate: string
  readonly serial: string
}

export type EnrolmentRefusal = RefusedSecret | 'no-certificate' | 'not-ours' | 'out-of-date' | 'not-a-client' | 'revoked' | 'unknown'

export class Enrolment {
  readonly #ca: Ca
  readonly #invitations: Invitations
  readonly #issuer: X509Certificate

  constructor(ca: Ca, invitations: Invitations) {
    this.#ca = ca
    this.#invitations = invitations
    this.#issuer = new X509Certificate(ca.authority.certificate)
  }

  /** PEM. */
  get authority(): string {
    return this.#ca.authority.certificate
  }

  /**
   * With a secret. Rejects with an ERR_PKI_INPUT for a request that is not to be signed; the secret is good for another then. So it is when
   * `isWaiting` says that whoever asked has gone meanwhile.
   */
  async enrol(deviceId: string, secret: string, body: string, isWaiting = () => true): Promise<Enrolled | EnrolmentRefusal> {
    return this.#invitations.redeem(deviceId, secret, () => {
      if (!isWaiting()) throw new BrokerError('ERR_PKI_INPUT', 'Whoever asked has gone.')
      return this.#sign(deviceId, body)
    })
  }

  /**
   * With the certificate of today. The handshake has proven that its owner has the key, and counts for nothing else: it may be that of a
   * resumed session, or of a connection that is older than what is known now.
   */
  async reenrol(current: X509Certificate, body: string, now: Date = new Date()): Promise<Enrolled | EnrolmentRefusal> {
    if (!isSignedBy(current, this.#issuer)) return 'not-ours'
    const { notBefore, notAfter, subject } = readCertificate(current.raw)
    if (now < notBefore || now > notAfter) return 'out-of-date'
    if (!isForClients(current)) return 'not-a-client'
    const { record } = this.#ca
    const serial = recordSerial(current.serialNumber)
    const entry = await record.find(serial)
    // Whatever this CA signed elsewhere is none of ours to renew.
    if (entry === undefined) return 'unknown'
    if (entry.revoked !== undefined) return 'revoked'
    const deviceId = commonNameOf(entry)
    if (deviceId === undefined || deviceId !== firstCommonName(subject)) return 'unknown'
    const enrolled = await this.#sign(deviceId, body)
    // Whoever revoked the name before the new one was recorded did not see it.
    const { revoked } = (await record.find(serial)) ?? {}
    if (revoked === undefined) return enrolled
    await this.#ca.revoke([recordSerial(enrolled.serial)], revoked.reason)
    return 'revoked'
  }

  async #sign(deviceId: string, body: string): Promise<Enrolled> {
    const request = await parseRequest(decodeRequest(body), 'the request')
    const { certificate, serial } = await this.#ca.sign(request, { profile: 'client', commonName: deviceId })
    return { deviceId, certificate, serial }
  }
}

/** Neither a CA's nor a server's: those have other rights, and go by other names. */
function isForClients({ ca, keyUsage }: X509Certificate): boolean {
  // Node calls the extended key usage so. Without it a certificate is for everything [RFC 5280, 4.2.1.12].
  const uses: readonly string[] | undefined = keyUsage
  return !ca && (uses === undefined || uses.includes(ExtendedKeyUsage.clientAuth))
}
