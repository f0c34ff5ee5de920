// Certificates to begin with: a CA, the broker's and one client's, made where they are missing, checked where they are there.

import { X509Certificate } from 'node:crypto'
import { hostname } from 'node:os'
import { BrokerError } from '../errors.js'
import { type Authority, createAuthority, type Issued, issueClient, issueServer, parseAuthority } from './authority.js'
import { type CertificatePaths, certificatePaths, existing, readFileBounded, writeIssued } from './files.js'
import { type AlternativeName, parseAlternativeName } from './names.js'
import { formatDate, isSignedBy, notAfter, subjectOf } from './x509.js'

export interface DevelopmentOptions {
  /** For a CA key under a passphrase. */
  readonly passphrase?: string | undefined
  readonly now?: Date
}

export interface DevelopmentCerts {
  /** Files that were made just now; none when all were there. */
  readonly made: readonly string[]
  /** What is wrong with those that were there, a sentence each. Nothing of them is touched. */
  readonly problems: readonly string[]
}

type Name = 'ca' | 'broker' | 'client'

/** How this machine is reached from itself: what a broker's certificate is for when nobody names another host. */
export function localNames(): AlternativeName[] {
  const names = ['localhost', '127.0.0.1', '::1', hostname()].flatMap(name => {
    try {
      return [parseAlternativeName(name)]
    } catch {
      // A machine may be called anything, also what no certificate can hold.
      return []
    }
  })
  return names.filter((name, index) => names.findIndex(other => other.value === name.value) === index)
}

/**
 * Makes what is missing of `ca/ca`, `broker/broker` and `client/client` in `dir`; never overwrites. Throws a BrokerError when something
 * is missing that can't be made without touching what is there.
 */
export async function ensureDevelopmentCerts(dir: string, options: DevelopmentOptions = {}): Promise<DevelopmentCerts> {
  const missing = await findMissing(dir)
  const made: string[] = []
  if (missing.has('ca')) made.push(...(await write(dir, 'ca', await createAuthority({ commonName: 'Mosquitero development CA' }))))
  if (missing.has('broker') || missing.has('client')) {
    const authority = await readAuthority(dir, options.passphrase)
    if (missing.has('broker')) made.push(...(await write(dir, 'broker', await issueServer(authority, { names: localNames() }))))
    if (missing.has('client')) made.push(...(await write(dir, 'client', await issueClient(authority, { commonName: 'client' }))))
  }
  const problems = made.length === 6 ? [] : await findProblems(dir, options.now ?? new Date())
  return { made, problems }
}

/** The CA of a folder, ready to sign. */
export async function readAuthority(dir: string, passphrase?: string): Promise<Authority> {
  const files = certificatePaths(dir, 'ca')
  const [certificate, key] = [await readFileBounded(files.certificate), await readFileBounded(files.key)]
  return parseAuthority({ certificate: certificate.toString('latin1'), key: key.toString('latin1'), passphrase, files })
}

async function write(dir: string, name: Name, issued: Issued): Promise<string[]> {
  const paths = certificatePaths(dir, name)
  await writeIssued(paths, issued)
  return [paths.certificate, paths.key]
}

async function findMissing(dir: string): Promise<Set<Name>> {
  const missing = new Set<Name>()
  const there: CertificatePaths[] = []
  for (const name of ['ca', 'broker', 'client'] as const) {
    const paths = certificatePaths(dir, name)
    const found = await existing(paths)
    if (found.certificate) there.push(paths)
    // A CA certificate without its key is a CA that is kept elsewhere: fine, as long as it needs to sign nothing.
    if (!found.certificate && !found.key) missing.add(name)
    else if (!found.certificate) throw halfError(paths.key, paths.certificate)
    else if (!found.key && name !== 'ca') throw halfError(paths.certificate, paths.key)
  }
  const [orphan] = there
  if (missing.has('ca') && orphan !== undefined) {
    const ca = certificatePaths(dir, 'ca').certificate
    throw new BrokerError(
      'ERR_PKI_INPUT',
      `${ca} is missing, but ${orphan.certificate} exists, which a new CA would not have signed. Put the CA back, or move the others away.`
    )
  }
  return missing
}

function halfError(present: string, absent: string): BrokerError {
  return new BrokerError('ERR_PKI_INPUT', `${present} exists without ${absent}. Put the missing file back, or move the other one away.`)
}

async function findProblems(dir: string, now: Date): Promise<string[]> {
  const ca = await readCertificate(dir, 'ca')
  const problems = typeof ca === 'string' ? [ca] : dateProblems(ca, certificatePaths(dir, 'ca').certificate, now)
  for (const name of ['broker', 'client'] as const) {
    const certificate = await readCertificate(dir, name)
    if (typeof certificate === 'string') problems.push(certificate)
    else problems.push(...(await leafProblems(dir, name, certificate, typeof ca === 'string' ? undefined : ca, now)))
  }
  return problems
}

async function readCertificate(dir: string, name: Name): Promise<X509Certificate | string> {
  const { certificate } = certificatePaths(dir, name)
  try {
    return new X509Certificate(await readFileBounded(certificate))
  } catch (error) {
    return error instanceof BrokerError ? error.message : `${certificate} holds no certificate that can be read.`
  }
}

async function leafProblems(
  dir: string,
  name: Name,
  certificate: X509Certificate,
  ca: X509Certificate | undefined,
  now: Date
): Promise<string[]> {
  const paths = certificatePaths(dir, name)
  const problems = dateProblems(certificate, paths.certificate, now)
  if (ca === undefined) return problems
  if (!isSignedBy(certificate, ca)) {
    const ours = certificatePaths(dir, 'ca').certificate
    problems.push(`${paths.certificate} was not signed by ${ours}, but by ${subjectOf(certificate.issuer)}: the other side refuses it.`)
  }
  if (certificate.subject === ca.subject) {
    problems.push(
      `${paths.certificate} and its CA have the same name, ${subjectOf(ca.subject)}: clients that use OpenSSL take it for self-signed.`
    )
  }
  return problems
}

function dateProblems(certificate: X509Certificate, file: string, now: Date): string[] {
  const end = notAfter(certificate)
  if (end < now) return [`${file} expired on ${formatDate(end)}. Move it and its key away to get a new one.`]
  const begin = new Date(certificate.validFrom)
  if (begin > now) return [`${file} is not valid before ${formatDate(begin)}; is the clock of this machine right?`]
  return []
}
