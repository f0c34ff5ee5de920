// The text of a psk_file → keys by identity, and what is wrong with it. A line is `IDENTITY:HEX`, split as Mosquitto splits it.

import { isUtf8 } from 'node:buffer'
import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto'
import { startsWithMark } from '../blanks.js'
import type { Location, Problem } from '../errors.js'
import { quoteName, splitFields } from './password-file.js'

export interface PskEntry {
  readonly key: Buffer
  readonly at: Location
}

/** By identity. A Map, so that `__proto__` is an identity like any other. */
export type PskEntries = ReadonlyMap<string, PskEntry>

export interface ParsedPskFile {
  /** With an `error` among the problems they are incomplete and must not be used. */
  readonly entries: PskEntries
  readonly problems: readonly Problem[]
}

/** OpenSSL's limits [PSK_MAX_PSK_LEN, PSK_MAX_IDENTITY_LEN of 1.1, which 3 made larger]. */
const longestKey = 256
const longestIdentity = 128

/** What Mosquitto skips is skipped with a warning here; a key that is no hexadecimal stops the start there as here. */
export function parsePskFile(content: Buffer, file: string): ParsedPskFile {
  const entries = new Map<string, PskEntry>()
  const problems: Problem[] = []
  const report = (severity: Problem['severity'], message: string, at: Location) =>
    problems.push({ severity, code: 'ERR_PSK_SYNTAX', message, at })
  if (startsWithMark(content)) {
    const message = `A byte order mark at the beginning of psk_file '${file}' is a part of the first identity: save the file without.`
    report('warning', message, { file, line: 1 })
  }
  for (const [index, line] of content.toString('latin1').split('\n').entries()) {
    const at = { file, line: index + 1 }
    const verdict = parseLine(line, at)
    if (verdict === undefined) continue
    if ('skipped' in verdict) {
      report('warning', `Invalid line in psk_file '${file}', skipped: ${verdict.skipped}.`, at)
    } else if ('fault' in verdict) {
      report('error', verdict.fault, at)
    } else {
      const first = entries.get(verdict.identity)
      if (first === undefined) entries.set(verdict.identity, { key: verdict.key, at })
      else
        report(
          'warning',
          `Invalid line in psk_file '${file}', skipped: ${quoteName(verdict.identity)} is on line ${first.at.line} already.`,
          at
        )
    }
  }
  return { entries, problems }
}

type Line = { readonly identity: string; readonly key: Buffer } | { readonly skipped: string } | { readonly fault: string }

function parseLine(line: string, at: Location): Line | undefined {
  if (line.startsWith('#') || line.trim() === '') return undefined
  const fields = splitFields(line)
  const name = Buffer.from(fields?.username ?? '', 'latin1')
  // Not repeated: a line without a colon may be the key alone.
  if (fields === undefined || name.length === 0) return { skipped: 'it is not written IDENTITY:HEX' }
  if (!isUtf8(name) || name.includes(0)) return { skipped: 'the identity is not UTF-8' }
  const identity = name.toString()
  const { password: hex } = fields
  if (hex === '') return { skipped: line.startsWith(':') ? 'it has no identity' : `${quoteName(identity)} has no key` }
  if (!/^[\da-f]+$/i.test(hex))
    return { fault: `psk for identity ${quoteName(identity)} in psk_file '${at.file}' contains non-hexadecimal characters.` }
  if (name.length > longestIdentity) return { skipped: `the identity is longer than ${longestIdentity} bytes` }
  if (hex.length > longestKey * 2) return { skipped: `the key of ${quoteName(identity)} is longer than ${longestKey} bytes` }
  // An odd number of digits is a number all the same.
  return { identity, key: Buffer.from(hex.padStart(hex.length + (hex.length % 2), '0'), 'hex') }
}

const secret = randomBytes(32)

/** What tells one key from another without being it. Another one for each process. */
export function keyMark(key: Buffer): Buffer {
  return createHmac('sha256', secret).update(key).digest()
}

/** A key for an identity that nobody has: to be refused by a wrong key, as everybody is, tells strangers nothing of who is in the file. */
export function decoyKey(identity: string): Buffer {
  return createHmac('sha256', secret).update('decoy').update(identity).digest()
}

/** Is that still the key of that identity? */
export function isKeyOf(entries: PskEntries, { identity, mark }: { readonly identity: string; readonly mark: Buffer }): boolean {
  const entry = entries.get(identity)
  return entry !== undefined && timingSafeEqual(keyMark(entry.key), mark)
}
