// The broker's own certificate, made by itself: from the names of `#!tls_dns_list`, signed by the CA of `#!enrolment_ca`, made anew before it ends.

import { X509Certificate } from 'node:crypto'
import type { Config, OwnCertificateConfig } from '../config/types.js'
import { BrokerError, type Problem } from '../errors.js'
import { type Issued, issueServer } from './authority.js'
import { Ca } from './ca.js'
import { readFileBounded, replaceFile } from './files.js'
import { parsePrivateKey } from './keys.js'
import { type AlternativeName, parseAlternativeName } from './names.js'
import { isSignedBy, notAfter } from './x509.js'

export interface OwnCertificateResult {
  /** It was made just now. */
  readonly made: boolean
  readonly notAfter: Date
  /** When the next one is to be made. */
  readonly renewAt: Date
  /** It is still good, but it is time for the next one, and that could not be made. */
  readonly failure?: string
}

interface Asked {
  readonly config: OwnCertificateConfig
  /** For a CA key under a passphrase. */
  readonly passphrase: string | undefined
  readonly now?: Date
}

/** Sees to it that the two files are there and good for a while. Throws a BrokerError when there is nothing that could be used. */
export async function ensureOwnCertificate({ config, passphrase, now = new Date() }: Asked): Promise<OwnCertificateResult> {
  const present = await readPresent(config, now)
  if (present && now < present.renewAt) return { made: false, ...present }
  try {
    const { names, ca, certificate, key } = config
    const issued = await (await Ca.open(ca, passphrase)).issue({ profile: 'server', names: names.map(parseAlternativeName), now })
    // Should it end in between, the two don't fit and are made anew at the next start.
    await replaceFile(key, issued.key, 0o600)
    await replaceFile(certificate, issued.certificate, 0o644)
    return { made: true, ...datesOf(new X509Certificate(issued.certificate), await readCertificate(ca.certificate)) }
  } catch (error) {
    if (!(error instanceof BrokerError)) throw error
    if (present === undefined) throw failure(config, error)
    return { made: false, ...present, failure: error.message }
  }
}

function failure({ at }: OwnCertificateConfig, cause: BrokerError): BrokerError {
  return new BrokerError('ERR_TLS_CERTIFICATE', `The broker's certificate cannot be made. ${cause.message}`, at, { cause })
}

/** Undefined: a start would make none. What it would make is neither written nor recorded here. */
async function draftOwnCertificate({ config, passphrase, now = new Date() }: Asked): Promise<Issued | undefined> {
  if (await readPresent(config, now)) return undefined
  try {
    const { authority } = await Ca.open(config.ca, passphrase)
    return await issueServer(authority, { names: config.names.map(parseAlternativeName), now })
  } catch (error) {
    if (error instanceof BrokerError) throw failure(config, error)
    throw error
  }
}

/** Files by their path, to be read in the place of those on disk, and what kept others from being made. */
export interface Draft {
  readonly given: ReadonlyMap<string, Buffer>
  readonly problems: readonly Problem[]
}

/** The two files as a start would make them, where it would, to be read in their place; and why it could not. */
export async function draftFiles(
  { ownCertificate: config }: Config,
  env: Readonly<Record<string, string | undefined>>,
  now = new Date()
): Promise<Draft> {
  const given = new Map<string, Buffer>()
  if (config === undefined) return { given, problems: [] }
  try {
    const issued = await draftOwnCertificate({ config, passphrase: env.MOSQUITERO_CA_PASSPHRASE, now })
    if (issued) {
      given.set(config.certificate, Buffer.from(issued.certificate))
      given.set(config.key, Buffer.from(issued.key))
    }
    return { given, problems: [] }
  } catch (error) {
    if (!(error instanceof BrokerError)) throw error
    const { code, message, at } = error
    return { given, problems: [{ severity: 'error', code, message, ...(at && { at }) }] }
  }
}

/** When the certificate that is there ends and is to be followed by another; undefined: it can't be used. */
async function readPresent({ names, ca, certificate, key }: OwnCertificateConfig, now: Date) {
  try {
    const [own, authority] = [await readCertificate(certificate), await readCertificate(ca.certificate)]
    const privateKey = parsePrivateKey((await readFileBounded(key)).toString('latin1'), undefined, key)
    if (!own.checkPrivateKey(privateKey) || !isSignedBy(own, authority) || notAfter(own) <= now || !hasNames(own, names)) return undefined
    return datesOf(own, authority)
  } catch {
    return undefined // It is not there, or not to be read: another is made, or it is said why not.
  }
}

/** Two thirds of its life; but one that ends with its CA can't be followed by one that ends later. */
function datesOf(own: X509Certificate, authority: X509Certificate): { readonly notAfter: Date; readonly renewAt: Date } {
  const [begin, end] = [new Date(own.validFrom).getTime(), notAfter(own).getTime()]
  const isLast = end >= notAfter(authority).getTime()
  return { notAfter: new Date(end), renewAt: new Date(isLast ? end : begin + ((end - begin) * 2) / 3) }
}

async function readCertificate(file: string): Promise<X509Certificate> {
  return new X509Certificate(await readFileBounded(file))
}

function hasNames(certificate: X509Certificate, names: readonly string[]): boolean {
  const wanted = names.map(parseAlternativeName)
  const count = certificate.subjectAltName?.split(', ').length ?? 0
  return count === wanted.length && wanted.every(name => isFor(certificate, name))
}

function isFor(certificate: X509Certificate, { type, value }: AlternativeName): boolean {
  if (type === 'ip') return certificate.checkIP(value) !== undefined
  return certificate.subjectAltName?.split(', ').some(name => name.toLowerCase() === `dns:${value}`.toLowerCase()) ?? false
}
