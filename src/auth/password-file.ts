// Reads and writes the lines of a password file: `name:hash`, as made by mosquitto_passwd of 2.0 and 2.1 or by `mosquitero passwd`.
// A line that gives no usable entry is a Problem with its line and user; no message ever holds a hash or a password.

import { Buffer, isUtf8 } from 'node:buffer'
import { startsWithMark, trimBlanks } from '../blanks.js'
import type { Location, Problem } from '../errors.js'

/** A stored password: how it was derived, and the result. */
export type PasswordHash = Sha512Hash | Pbkdf2Hash | Argon2Hash
export type PasswordScheme = PasswordHash['scheme']

/** `$6$`: one round of SHA-512 over password and salt. */
export interface Sha512Hash {
  readonly scheme: 'sha512'
  readonly salt: Buffer
  readonly hash: Buffer
}

/** `$7$`: PBKDF2 with HMAC-SHA512. */
export interface Pbkdf2Hash {
  readonly scheme: 'sha512-pbkdf2'
  readonly iterations: number
  readonly salt: Buffer
  readonly hash: Buffer
}

/** `$argon2id$`: Argon2id version 19, in the notation that the reference implementation prints. */
export interface Argon2Hash {
  readonly scheme: 'argon2id'
  /** KiB. */
  readonly memory: number
  readonly iterations: number
  readonly parallelism: number
  readonly salt: Buffer
  readonly hash: Buffer
}

export interface PasswordEntry {
  readonly username: string
  readonly password: PasswordHash
  readonly at: Location
}

export interface PasswordFile {
  readonly entries: ReadonlyMap<string, PasswordEntry>
  readonly problems: readonly Problem[]
}

/**
 * What one check may cost, since every line of the file is work that a client can ask for: a few seconds at most and, two at
 * a time, half a gigabyte. mosquitto_passwd asks for 46 MiB once, and 1000 iterations of PBKDF2.
 */
export const passwordLimits = {
  pbkdf2Iterations: 5_000_000,
  /** KiB. */
  argon2Memory: 256 * 1024,
  /** KiB written in all: memory times iterations. */
  argon2Work: 1024 * 1024
} as const

/**
 * Parses a whole password file. What Mosquitto 2.1 refuses to start with is an error; with `lenient` it is a warning and the line is
 * skipped, as in 2.0. Of two lines for one user the first counts.
 */
export function parsePasswordFile(content: Buffer | string, file: string, { lenient }: { readonly lenient: boolean }): PasswordFile {
  const entries = new Map<string, PasswordEntry>()
  const problems: Problem[] = []
  const report = (severity: Problem['severity'], message: string, at: Location) =>
    problems.push({ severity, code: 'ERR_PASSWORD_SYNTAX', message, at })

  const bytes = typeof content === 'string' ? Buffer.from(content) : content
  if (startsWithMark(bytes)) {
    const message = `A byte order mark at the beginning of password file '${file}' is a part of the first username: save the file without.`
    report('warning', message, { file, line: 1 })
  }
  for (const [index, line] of bytes.toString('latin1').split('\n').entries()) {
    const at = { file, line: index + 1 }
    const verdict = parseLine(line, file, at)
    if (verdict === undefined) continue
    if ('warning' in verdict) {
      report('warning', verdict.warning, at)
    } else if ('fault' in verdict) {
      report(lenient ? 'warning' : 'error', verdict.fault, at)
    } else {
      const first = entries.get(verdict.username)
      if (first === undefined) entries.set(verdict.username, verdict)
      else report(lenient ? 'warning' : 'error', duplicate(verdict.username, file, first.at), at)
    }
  }
  return { entries, problems }
}

/** The line of the file that an entry is, without its end of line. */
export function formatEntry(entry: Pick<PasswordEntry, 'username' | 'password'>): string {
  return `${entry.username}:${formatPasswordHash(entry.password)}`
}

/** A hash in the file's notation; two hashes are the same password setting exactly if these strings are equal. */
export function formatPasswordHash(hash: PasswordHash): string {
  switch (hash.scheme) {
    case 'sha512':
      return `$6$${hash.salt.toString('base64')}$${hash.hash.toString('base64')}`
    case 'sha512-pbkdf2':
      return `$7$${hash.iterations}$${hash.salt.toString('base64')}$${hash.hash.toString('base64')}`
    case 'argon2id': {
      const { memory, iterations, parallelism, salt } = hash
      return `$argon2id$v=19$m=${memory},t=${iterations},p=${parallelism}$${unpadded(salt)}$${unpadded(hash.hash)}`
    }
  }
}

/** The hash that a string of the file means, or what is wrong with it as the end of a sentence about its user. */
export function parsePasswordHash(text: string): PasswordHash | { readonly fault: string } {
  if (text.startsWith('$6$')) return parseSha512(text)
  if (text.startsWith('$7$')) return parsePbkdf2(text)
  if (text.startsWith('$argon2id$')) return parseArgon2(text)
  if (/^\$[^$]+\$/.test(text)) return { fault: 'has a hash of an unknown kind, known are $6$, $7$ and $argon2id$' }
  return { fault: 'has a plain text password, which "mosquitero passwd -U" turns into a hash' }
}

/** The two fields of a line, as bytes in a latin1 string. */
export interface PasswordFields {
  readonly username: string
  /** Empty if the line has none. */
  readonly password: string
  /** The line has a third field, which Mosquitto ignores. */
  readonly more: boolean
}

/**
 * Splits a line (bytes as latin1) as Mosquitto does, by strtok: colons before, between and after the fields count as one, what
 * follows a second field is ignored, and both are trimmed of blanks. Undefined for comments and lines without a colon or a field.
 */
export function splitFields(line: string): PasswordFields | undefined {
  if (line.startsWith('#') || !line.includes(':')) return undefined
  const [username, password, third] = line.split(':').filter(field => field !== '')
  if (username === undefined) return undefined
  return { username: trimBlanks(username), password: trimBlanks(password ?? ''), more: third !== undefined }
}

/** The name as it may be shown: control characters escaped, cut when it is very long or when a hash has slipped into it. */
export function quoteName(name: string): string {
  const clean = name.replace(/\$(6|7|argon2id)\$.*/su, '$$$1$$...')
  const shown = clean.length > 100 ? `${clean.slice(0, 100)}...` : clean
  return `'${shown.replace(/[\p{Cc}\u2028\u2029]/gu, character => `\\x${character.charCodeAt(0).toString(16).padStart(2, '0')}`)}'`
}

// The sentences are those of Mosquitto 2.1, made longer by who and what.
function parseLine(line: string, file: string, at: Location): PasswordEntry | { fault: string } | { warning: string } | undefined {
  const fields = splitFields(line)
  if (fields === undefined) {
    if (line.startsWith('#') || trimBlanks(line) === '') return undefined
    return { warning: `Invalid line in password file '${file}', skipped: it is not of the form name:hash.` }
  }
  const name = Buffer.from(fields.username, 'latin1')
  if (name.length === 0 || (line.startsWith(':') && fields.password === '')) return { fault: `Empty username in password file '${file}'.` }
  if (name.length > 65535) return { fault: `Invalid line in password file '${file}', username too long.` }
  if (fields.password.length > 65535) return { fault: `Invalid line in password file '${file}', password too long.` }
  if (line.includes('\0')) return { fault: `Invalid line in password file '${file}': it holds a NUL byte.` }
  // No client can send such a name [MQTT-1.5.4-1]; decoded with replacement characters it might match another's.
  if (!isUtf8(name)) return { warning: `Invalid line in password file '${file}', skipped: the username is not UTF-8.` }

  const username = name.toString()
  if (fields.password === '') return { fault: `Invalid line in password file '${file}': user ${quoteName(username)} has no password hash.` }
  const password = parsePasswordHash(fields.password)
  if ('fault' in password) {
    return { fault: `Unable to decode line in password file '${file}': user ${quoteName(username)} ${password.fault}.` }
  }
  return { username, password, at }
}

function duplicate(username: string, file: string, first: Location): string {
  return `Duplicate user ${quoteName(username)} in password file '${file}', first seen on line ${first.line}.`
}

function parseSha512(text: string): PasswordHash | { fault: string } {
  const parts = /^\$6\$([^$]*)\$([^$]*)$/.exec(text)
  if (parts === null) return { fault: 'has a hash that is not $6$salt$hash' }
  const decoded = decodeSaltAndHash(parts[1], parts[2])
  return 'fault' in decoded ? decoded : { scheme: 'sha512', ...decoded }
}

function parsePbkdf2(text: string): PasswordHash | { fault: string } {
  const parts = /^\$7\$(\d{1,10})\$([^$]*)\$([^$]*)$/.exec(text)
  if (parts === null) return { fault: 'has a hash that is not $7$iterations$salt$hash' }
  const iterations = Number(parts[1])
  if (iterations < 1 || iterations > passwordLimits.pbkdf2Iterations) {
    return { fault: `has a hash of ${iterations} iterations, which must be 1 to ${passwordLimits.pbkdf2Iterations}` }
  }
  const decoded = decodeSaltAndHash(parts[2], parts[3])
  return 'fault' in decoded ? decoded : { scheme: 'sha512-pbkdf2', iterations, ...decoded }
}

// 12 bytes of salt are from Mosquitto 2.0 and before, 64 from 2.1; the key is as long as SHA-512's output in all of them.
function decodeSaltAndHash(salt64 = '', hash64 = ''): { salt: Buffer; hash: Buffer } | { fault: string } {
  const salt = decodeBase64(salt64)
  if (salt === undefined) return { fault: 'has a salt that is not base64' }
  if (salt.length !== 12 && salt.length !== 64) return { fault: `has a salt of ${salt.length} bytes, which must be 12 or 64` }
  const hash = decodeBase64(hash64)
  if (hash === undefined) return { fault: 'has a hash that is not base64' }
  if (hash.length !== 64) return { fault: `has a hash of ${hash.length} bytes, which must be 64` }
  return { salt, hash }
}

// Lower limits and order of the parameters are those of the reference implementation, which Mosquitto hands the string to.
function parseArgon2(text: string): PasswordHash | { fault: string } {
  const parts = /^\$argon2id\$(?:v=(\d{1,10})\$)?m=(\d{1,10}),t=(\d{1,10}),p=(\d{1,10})\$([^$]*)\$([^$]*)$/.exec(text)
  if (parts === null) return { fault: 'has a hash that is not $argon2id$v=19$m=...,t=...,p=...$salt$hash' }
  // A string without a version is of version 16 (1.0), which nothing that writes password files makes.
  if (parts[1] !== '19') return { fault: `has a hash of Argon2 version ${parts[1] ?? 16}, which must be 19` }
  const [memory, iterations, parallelism] = [Number(parts[2]), Number(parts[3]), Number(parts[4])]
  if (parallelism < 1 || parallelism > 255) return { fault: `has a hash with p=${parallelism}, which must be 1 to 255` }
  if (memory < 8 * parallelism || memory > passwordLimits.argon2Memory) {
    return { fault: `has a hash with m=${memory}, which must be ${8 * parallelism} to ${passwordLimits.argon2Memory} KiB` }
  }
  if (iterations < 1 || memory * iterations > passwordLimits.argon2Work) {
    return {
      fault: `has a hash with t=${iterations}, which must be 1 to ${Math.floor(passwordLimits.argon2Work / memory)} with m=${memory}`
    }
  }
  const salt = decodeUnpadded(parts[5])
  if (salt === undefined) return { fault: 'has a salt that is not base64 without padding' }
  if (salt.length < 8 || salt.length > 1024) return { fault: `has a salt of ${salt.length} bytes, which must be 8 to 1024` }
  const hash = decodeUnpadded(parts[6])
  if (hash === undefined) return { fault: 'has a hash that is not base64 without padding' }
  if (hash.length < 4 || hash.length > 1024) return { fault: `has a hash of ${hash.length} bytes, which must be 4 to 1024` }
  return { scheme: 'argon2id', memory, iterations, parallelism, salt, hash }
}

// Node's decoder skips what it does not know; only what encodes back to itself was base64.
function decodeBase64(text: string): Buffer | undefined {
  const bytes = Buffer.from(text, 'base64')
  return bytes.toString('base64') === text ? bytes : undefined
}

function decodeUnpadded(text = ''): Buffer | undefined {
  const bytes = Buffer.from(text, 'base64')
  return unpadded(bytes) === text ? bytes : undefined
}

function unpadded(bytes: Buffer): string {
  return bytes.toString('base64').replace(/=+$/, '')
}
