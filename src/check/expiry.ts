// What a configuration names and ends soon: certificates and revocation lists of its listeners, each file once.

import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { readReason } from '../account.js'
import { readCertificate } from '../auth/certificate.js'
import { parseRevocationList } from '../auth/revocation.js'
import type { Config, TlsConfig } from '../config/types.js'
import { BrokerError, errorMessage, formatLocation, systemCode } from '../errors.js'
import { readFileBounded } from '../pki/files.js'
import { parsePkiFile, subjectOf } from '../pki/x509.js'
import { readConfig } from '../snapshot.js'

export interface Expiring {
  readonly file: string
  readonly option: 'certfile' | 'cafile' | 'capath' | 'crlfile' | '#!enrolment_ca'
  readonly subject: string
  readonly notAfter: Date
  /** Whole days; negative: it has ended. */
  readonly daysLeft: number
}

export interface ExpiryResult {
  /** The first to end first. */
  readonly found: readonly Expiring[]
  /** Why some of it could not be looked at, a sentence each. */
  readonly problems: readonly string[]
}

/** Reads the configuration as a start does; what it can't read is a problem and hides nothing else. */
export async function findExpiring(
  file: string,
  env: Readonly<Record<string, string | undefined>>,
  { days, now }: { readonly days: number; readonly now: Date }
): Promise<ExpiryResult> {
  const { config, problems: wrong } = await readConfig({ file, env })
  const problems = wrong.flatMap(({ severity, message, at }) =>
    severity === 'error' ? [at === undefined ? message : `${formatLocation(at)}: ${message}`] : []
  )
  const found: Expiring[] = []
  const seen = new Set<string>()
  for (const [option, path] of config ? await filesOf(config, problems) : []) {
    if (seen.has(`${option} ${path}`)) continue
    seen.add(`${option} ${path}`)
    try {
      for (const [subject, notAfter] of endsIn(await readFileBounded(path), path)) {
        const daysLeft = Math.floor((notAfter.getTime() - now.getTime()) / 86_400_000)
        if (daysLeft < days) found.push({ file: path, option, subject, notAfter, daysLeft })
      }
    } catch (error) {
      // What the broker makes for itself is there after its first start.
      const isToCome = path === config?.ownCertificate?.certificate && error instanceof BrokerError && systemCode(error.cause) === 'ENOENT'
      if (!isToCome) problems.push(errorMessage(error))
    }
  }
  return { found: found.toSorted((a, b) => a.notAfter.getTime() - b.notAfter.getTime()), problems }
}

type NamedFile = readonly [Expiring['option'], string]

async function filesOf({ listeners, enrolmentCa }: Config, problems: string[]): Promise<readonly NamedFile[]> {
  const files: NamedFile[] = []
  for (const { tls } of listeners) if (tls) files.push(...(await filesOfListener(tls, problems)))
  if (enrolmentCa) files.push(['#!enrolment_ca', enrolmentCa.certificate])
  return files
}

async function filesOfListener({ certfile, cafile, capath, crlfile }: TlsConfig, problems: string[]): Promise<readonly NamedFile[]> {
  const files: NamedFile[] = [['certfile', certfile.path]]
  if (cafile) files.push(['cafile', cafile.path])
  if (crlfile) files.push(['crlfile', crlfile.path])
  if (capath) {
    try {
      const names = await readdir(capath.path)
      for (const name of names.filter(name => /^[\da-f]{8}\.\d+$/.test(name))) files.push(['capath', join(capath.path, name)])
    } catch (error) {
      problems.push(`Unable to read ${capath.path}: ${readReason(error)}.`)
    }
  }
  return files
}

function endsIn(content: Buffer, file: string): (readonly [subject: string, notAfter: Date])[] {
  return parsePkiFile(content, file).flatMap(object => {
    if (object.kind === 'certificate')
      return [[subjectOf(object.certificate.subject), readCertificate(object.certificate.raw).notAfter] as const]
    if (object.kind !== 'revocation list') return []
    const { issuer, nextUpdate } = parseRevocationList(Buffer.from(object.crl.rawData))
    return nextUpdate === undefined ? [] : [[issuer, nextUpdate] as const]
  })
}
