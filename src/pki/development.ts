// Certificates to begin with: a CA, the broker's and one client's, made where they are missing, checked where they are there.

import type { X509Certificate } from 'node:crypto'
import { hostname } from 'node:os'
import { BrokerError } from '../errors.js'
import { createAuthority, type Issued } from './authority.js'
import { Ca } from './ca.js'
import { type CertificatePaths, certificatePaths, existing, readFileBounded, writeIssued } from './files.js'
import { type AlternativeName, parseAlternativeName } from './names.js'
import { formatDate, isSignedBy, notAfter, parsePkiFile, subjectOf } from './x509.js'

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
    const ca = await Ca.open(certificatePaths(dir, 'ca'), options.passphrase)
    if (missing.has('broker')) made.push(...(await write(dir, 'broker', await ca.issue({ profile: 'server', names: localNames() }))))
    if (missing.has('client')) made.push(...(await write(dir, 'client', await ca.issue({ profile: 'client', commonName: 'client' }))))
  }
  const problems = made.length === 6 ? [] : await findProblems(dir, options.now ?? new Date())
  return { made, problems }
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
  const anchors = await readCertificates(dir, 'ca')
  const problems =
    typeof anchors === 'string' ? [anchors] : anchors.flatMap(ca => dateProblems(ca, certificatePaths(dir, 'ca').certificate, now))
  for (const name of ['broker', 'client'] as const) {
    const chain = await readCertificates(dir, name)
    if (typeof chain === 'string') problems.push(chain)
    else problems.push(...leafProblems(dir, name, chain, typeof anchors === 'string' ? [] : anchors, now))
  }
  return problems
}

type Certificates = readonly [X509Certificate, ...X509Certificate[]]

/** All of a file, or the sentence that says why there are none. */
async function readCertificates(dir: string, name: Name): Promise<Certificates | string> {
  const { certificate: file } = certificatePaths(dir, name)
  try {
    const objects = parsePkiFile(await readFileBounded(file), file)
    const [first, ...more] = objects.flatMap(object => (object.kind === 'certificate' ? [object.certificate] : []))
    return first === undefined ? `${file} holds no certificate that can be read.` : [first, ...more]
  } catch (error) {
    if (error instanceof BrokerError) return error.message
    throw error
  }
}

function leafProblems(dir: string, name: Name, chain: Certificates, anchors: readonly X509Certificate[], now: Date): string[] {
  const { certificate: file } = certificatePaths(dir, name)
  const [leaf, ...others] = chain
  const problems = dateProblems(leaf, file, now)
  if (anchors.length > 0 && !leadsTo(leaf, others, anchors)) {
    const ca = certificatePaths(dir, 'ca').certificate
    problems.push(`${file} was not signed by ${ca}, but by ${subjectOf(leaf.issuer)}: the other side refuses it.`)
  }
  if (anchors.some(({ subject }) => subject === leaf.subject)) {
    problems.push(`${file} and its CA have the same name, ${subjectOf(leaf.subject)}: clients that use OpenSSL take it for self-signed.`)
  }
  return problems
}

// Directly, or over CAs that are sent with it.
function leadsTo(certificate: X509Certificate, others: readonly X509Certificate[], anchors: readonly X509Certificate[]): boolean {
  if (anchors.some(anchor => isSignedBy(certificate, anchor))) return true
  const issuer = others.find(other => isSignedBy(certificate, other))
  return (
    issuer !== undefined &&
    leadsTo(
      issuer,
      others.filter(other => other !== issuer),
      anchors
    )
  )
}

function dateProblems(certificate: X509Certificate, file: string, now: Date): string[] {
  const end = notAfter(certificate)
  if (end < now) return [`${file} expired on ${formatDate(end)}. Move it and its key away to get a new one.`]
  const begin = new Date(certificate.validFrom)
  if (begin > now) return [`${file} is not valid before ${formatDate(begin)}; is the clock of this machine right?`]
  return []
}
