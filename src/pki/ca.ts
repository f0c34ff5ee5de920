// A CA at work: what it issues it records, what it has recorded it can renew, revoke and list. For commands and for a broker that enrols
// devices; safe when several ask at once.

import { X509Certificate as NodeCertificate } from 'node:crypto'
import { dirname } from 'node:path'
import { BrokerError } from '../errors.js'
import {
  type Authority,
  type CertificateRequest,
  type Certified,
  certify,
  clientRequest,
  type Issued,
  issueCertificate,
  issueCrl,
  type KeyType,
  parseAuthority,
  periodOf,
  type RevocationReason,
  serverRequest,
  type Wish
} from './authority.js'
import { type CertificatePaths, readFileBounded } from './files.js'
import { importPublicKey } from './keys.js'
import { ExtendedKeyUsage, ExtendedKeyUsageExtension, SubjectAlternativeNameExtension, X509Certificate } from './library.js'
import type { AlternativeName } from './names.js'
import { commonNameOf, type RecordEntry, recordSerial, subjectLine } from './record.js'
import { RecordFile } from './record-file.js'
import type { CheckedRequest } from './request.js'
import { isSignedBy } from './x509.js'

/** What whoever asks for a certificate may choose, by profile. */
export type Order =
  | (Wish & { readonly profile: 'client'; readonly commonName: string })
  | (Wish & { readonly profile: 'server'; readonly names: readonly AlternativeName[] })

export class Ca {
  readonly authority: Authority
  readonly record: RecordFile

  constructor(authority: Authority, record: RecordFile) {
    this.authority = authority
    this.record = record
  }

  /** The CA of two files, one of ours or one made by OpenSSL. Its record lies beside its certificate. */
  static async open(files: CertificatePaths, passphrase?: string): Promise<Ca> {
    const [certificate, key] = [await readFileBounded(files.certificate), await readFileBounded(files.key)]
    const source = { certificate: certificate.toString('latin1'), key: key.toString('latin1'), passphrase, files }
    return new Ca(await parseAuthority(source), new RecordFile(dirname(files.certificate)))
  }

  /** A new key and its certificate. */
  async issue(order: Order): Promise<Issued> {
    return this.#recorded(await issueCertificate(this.authority, this.#requestOf(order)))
  }

  /** A certificate for the key of a request. What it holds is in the order; of the request it takes nothing but the key. */
  async sign({ publicKey }: CheckedRequest, order: Order): Promise<Certified> {
    return this.#recorded(await certify(this.authority, this.#requestOf(order), publicKey))
  }

  /** A certificate of the same subject, names and key as an earlier one of this CA; with `key` of a new key. Revoked ones stay so. */
  async renew(
    pem: string,
    wish: Wish & { readonly profile?: 'client' | 'server' | undefined; newKey?: boolean }
  ): Promise<Certified | Issued> {
    const certificate = new NodeCertificate(pem)
    this.#checkOurs(certificate)
    const serial = recordSerial(certificate.serialNumber)
    const { entries } = await this.record.read()
    if (entries.some(entry => entry.serial === serial && entry.revoked !== undefined)) {
      throw new BrokerError('ERR_PKI_INPUT', `The certificate with the serial ${serial} is revoked; what is revoked is not renewed.`)
    }
    const x509 = new X509Certificate(certificate.raw)
    const profile = profileOf(x509) ?? wish.profile
    if (profile === undefined) {
      const reason = 'The certificate does not say whether it is for a client or a server'
      throw new BrokerError('ERR_PKI_INPUT', `${reason}; say it with --as client or --as server.`)
    }
    const key = wish.key ?? keyTypeLike(certificate)
    const request: CertificateRequest = {
      profile,
      subject: x509.subjectName,
      names: namesOf(x509),
      period: periodOf(profile, wish, this.authority),
      ...(key && { key })
    }
    if (wish.newKey) return this.#recorded(await issueCertificate(this.authority, request))
    const spki = certificate.publicKey.export({ type: 'spki', format: 'der' })
    return this.#recorded(await certify(this.authority, request, await importPublicKey(spki)))
  }

  /** Marks certificates as revoked; resolves with those that were not yet. They count once a new list is made. */
  async revoke(serials: readonly string[], reason: RevocationReason, at: Date = new Date()): Promise<readonly RecordEntry[]> {
    const wanted = new Set(serials)
    return this.#revoke(({ serial }) => wanted.has(serial), reason, at)
  }

  /** The same for whatever of this name is recorded by then, such as what a device gets just now. */
  async revokeName(commonName: string, reason: RevocationReason, at: Date = new Date()): Promise<readonly RecordEntry[]> {
    return this.#revoke(entry => commonNameOf(entry) === commonName, reason, at)
  }

  #revoke(isMeant: (entry: RecordEntry) => boolean, reason: RevocationReason, at: Date): Promise<readonly RecordEntry[]> {
    return this.record.change(entry => (!entry.revoked && isMeant(entry) ? { ...entry, revoked: { at, reason } } : entry))
  }

  /** Takes a certificate into the record that it doesn't have: made by this CA before there was one. Resolves with its serial. */
  async adopt(certificate: NodeCertificate): Promise<string> {
    this.#checkOurs(certificate)
    const serial = recordSerial(certificate.serialNumber)
    const { entries } = await this.record.read()
    if (!entries.some(entry => entry.serial === serial)) await this.#add(certificate.toString())
    return serial
  }

  /** The valid ones of a common name, or the one of a serial. */
  async find(name: string): Promise<readonly RecordEntry[]> {
    const { entries } = await this.record.read()
    const serial = /^[\dA-Fa-f:]+$/.test(name) ? recordSerial(name.replaceAll(':', '')) : undefined
    const bySerial = entries.filter(entry => entry.serial === serial)
    return bySerial.length > 0 ? bySerial : entries.filter(entry => commonNameOf(entry) === name)
  }

  /** The revocation list of everything that is recorded as revoked. */
  async crl({ days, now = new Date() }: { readonly days: number; readonly now?: Date }): Promise<string> {
    const { entries, damaged } = await this.record.read()
    const [line] = damaged
    // What it said may have been a revocation: a list without it would let somebody in again.
    if (line !== undefined) {
      const place = `${this.record.path}:${line}`
      throw new BrokerError(
        'ERR_PKI_INPUT',
        `${place} is damaged, and it may have said that a certificate is revoked. Mend or remove the line.`
      )
    }
    const revoked = entries.flatMap(({ serial, revoked }) => (revoked ? [{ serial, ...revoked }] : []))
    return issueCrl(this.authority, revoked, { thisUpdate: now, nextUpdate: new Date(now.getTime() + days * 86_400_000) })
  }

  #requestOf(order: Order): CertificateRequest {
    return order.profile === 'client' ? clientRequest(this.authority, order) : serverRequest(this.authority, order)
  }

  #checkOurs(certificate: NodeCertificate): void {
    if (isSignedBy(certificate, new NodeCertificate(this.authority.certificate))) return
    throw new BrokerError('ERR_PKI_INPUT', `The certificate with the serial ${certificate.serialNumber} was not signed by this CA.`)
  }

  async #recorded<Made extends Certified>(made: Made): Promise<Made> {
    await this.#add(made.certificate)
    return made
  }

  async #add(pem: string): Promise<void> {
    const x509 = new X509Certificate(pem)
    const entry = { notAfter: x509.notAfter, serial: recordSerial(x509.serialNumber), subject: subjectLine(x509.subjectName) }
    await this.record.add(entry, pem)
  }
}

/** What a certificate is for, as its extended key usage says. */
export function profileOf(x509: X509Certificate): 'client' | 'server' | undefined {
  const usages = x509.getExtension(ExtendedKeyUsageExtension)?.usages.map(String) ?? []
  if (usages.includes(ExtendedKeyUsage.serverAuth)) return 'server'
  return usages.includes(ExtendedKeyUsage.clientAuth) ? 'client' : undefined
}

function namesOf(x509: X509Certificate): AlternativeName[] {
  const items = x509.getExtension(SubjectAlternativeNameExtension)?.names.items ?? []
  return items.flatMap(({ type, value }): AlternativeName[] => (type === 'dns' || type === 'ip' ? [{ type, value }] : []))
}

/** Of the kind that the old one was. */
function keyTypeLike({ publicKey }: NodeCertificate): KeyType | undefined {
  const bits = publicKey.asymmetricKeyDetails?.modulusLength ?? 0
  if (publicKey.asymmetricKeyType !== 'rsa') return undefined
  return bits > 3072 ? 'rsa:4096' : bits > 2048 ? 'rsa:3072' : 'rsa:2048'
}
