// The command line of `mosquitero passwd`: the arguments of mosquitto_passwd 2.1, and its words for what is wrong with them.

import { Buffer } from 'node:buffer'
import { parseArgs } from 'node:util'
import type { HashSetting } from '../auth/hash-threads.js'
import { passwordLimits } from '../auth/password-file.js'
import { defaultSettings } from '../auth/password-hash.js'

/** What the command is asked to do. */
export type Request =
  | { readonly action: 'help' }
  | {
      readonly action: 'create' | 'set'
      readonly file: string
      readonly username: string
      readonly password?: string
      readonly setting: HashSetting
    }
  | { readonly action: 'delete'; readonly file: string; readonly username: string }
  | { readonly action: 'hash-file'; readonly file: string; readonly setting: HashSetting }

export type SetRequest = Extract<Request, { action: 'create' | 'set' }>

/** The text of `--help`. */
export const usage = `mosquitero passwd manages password files, of mosquitero and of Mosquitto.

Usage: mosquitero passwd [-H argon2id | -H sha512-pbkdf2 | -H sha512] [-I iterations] [-c | -D] passwordfile username
       mosquitero passwd [-H argon2id | -H sha512-pbkdf2 | -H sha512] [-I iterations] [-c] -b passwordfile username password
       mosquitero passwd [-H argon2id | -H sha512-pbkdf2 | -H sha512] [-I iterations] -U passwordfile
 -b : take the password from the command line, where other users of the machine can see it.
 -c : create the password file, which must not exist; with - as its name, print the line instead.
 -D : delete the user rather than adding it or changing its password.
 -H : how to hash. Defaults to argon2id, which Mosquitto reads from 2.1 on; 2.0 reads sha512-pbkdf2 and sha512.
 -I : iterations of sha512-pbkdf2. Defaults to ${defaultSettings['sha512-pbkdf2'].iterations}.
 -U : hash the passwords of a plain text file; those that are hashed already stay as they are.
 -h, --help : print this.

Without -b the password is asked for, or read from standard input if that is no terminal.

For example: mosquitero passwd -c /etc/mosquitto/passwd ann
`

const options = {
  H: { type: 'string', short: 'H' },
  I: { type: 'string', short: 'I' },
  b: { type: 'boolean', short: 'b' },
  c: { type: 'boolean', short: 'c' },
  D: { type: 'boolean', short: 'D' },
  U: { type: 'boolean', short: 'U' },
  help: { type: 'boolean', short: 'h' }
} as const

const known = ['-H', '-I', '-b', '-c', '-D', '-U', '-h', '--help'] as const
type OptionName = (typeof known)[number]

const exclusive = [
  ['-c', '-D'],
  ['-c', '-U'],
  ['-D', '-U'],
  ['-b', '-D'],
  ['-b', '-U']
] as const

/** Wrong arguments; without a message the usage says it all. */
class UsageError extends Error {}

/** The request, or the text that says what is wrong with it. */
export function parseRequest(argv: readonly string[]): Request | { readonly fault: string } {
  try {
    return readRequest(argv)
  } catch (error) {
    if (!(error instanceof UsageError)) throw error
    return { fault: error.message === '' ? usage : `Error: ${error.message}\n` }
  }
}

function readRequest(argv: readonly string[]): Request {
  const { given, operands } = splitArguments(argv)
  if (given.has('-h') || given.has('--help')) return { action: 'help' }
  for (const [one, other] of exclusive) {
    if (given.has(one) && given.has(other)) throw new UsageError(`${one} and ${other} cannot be used together.`)
  }
  const setting = readSetting(given.get('-H'), given.get('-I'))
  const [file, username, password] = operands
  const expect = (count: number, message: string) => {
    if (operands.length !== count) throw new UsageError(message)
  }
  if (given.has('-U')) {
    expect(1, '-U argument given but password file missing.')
    return { action: 'hash-file', file: file ?? '', setting }
  }
  if (given.has('-D')) {
    expect(2, '-D argument given but password file or username missing.')
    checkUsername(username ?? '')
    return { action: 'delete', file: file ?? '', username: username ?? '' }
  }
  const [batch, fresh] = [given.has('-b'), given.has('-c')]
  if (fresh && batch) expect(3, '-c argument given but password file, username, or password missing.')
  else if (fresh) expect(2, '-c argument given but password file or username missing.')
  else expect(batch ? 3 : 2, '')
  checkNewUsername(username ?? '')
  const action = fresh ? 'create' : 'set'
  return { action, file: file ?? '', username: username ?? '', ...(password === undefined ? {} : { password }), setting }
}

// Options end at the first operand, as with mosquitto_passwd: a password may begin with a dash.
function splitArguments(argv: readonly string[]) {
  const { tokens } = parseArgs({ args: [...argv], options, strict: false, allowPositionals: true, tokens: true })
  const given = new Map<OptionName, string | undefined>()
  for (const token of tokens) {
    if (token.kind === 'positional') return { given, operands: argv.slice(token.index) }
    if (token.kind === 'option-terminator') return { given, operands: argv.slice(token.index + 1) }
    const name = known.find(option => option === token.rawName)
    if (name === undefined) throw new UsageError(`Unknown option '${token.rawName}'. "mosquitero passwd --help" prints the usage.`)
    const takesValue = name === '-H' || name === '-I'
    if (takesValue && token.value === undefined) throw new UsageError(`${name} argument given but not enough other arguments.`)
    given.set(name, token.value)
  }
  return { given, operands: [] }
}

function readSetting(scheme = 'argon2id', iterations: string | undefined): HashSetting {
  if (!isScheme(scheme)) throw new UsageError(`Unknown hash type '${scheme}'`)
  const setting = defaultSettings[scheme]
  if (iterations === undefined) return setting
  if (setting.scheme !== 'sha512-pbkdf2') throw new UsageError(`-I is for sha512-pbkdf2, the hash type is ${scheme}.`)
  const count = /^\d+$/.test(iterations) ? Number(iterations) : 0
  if (count < 1) throw new UsageError('Number of iterations must be > 0.')
  if (count > passwordLimits.pbkdf2Iterations) throw new UsageError(`Number of iterations must be <= ${passwordLimits.pbkdf2Iterations}.`)
  return { ...setting, iterations: count }
}

function isScheme(word: string): word is keyof typeof defaultSettings {
  return Object.hasOwn(defaultSettings, word)
}

function checkUsername(name: string): void {
  if (Buffer.byteLength(name) > 65535) throw new UsageError('Username must be less than 65536 characters long.')
  if (/[\x00-\x1f\x7f]/.test(name)) throw new UsageError('Username must not contain control characters.')
  if (name.includes(':')) throw new UsageError("Username must not contain the ':' character.")
}

// mosquitto_passwd writes these too, and then the broker takes the line for a comment, for damage or for another user.
function checkNewUsername(name: string): void {
  checkUsername(name)
  if (name === '') throw new UsageError('Username must not be empty.')
  if (name.startsWith('#')) throw new UsageError("Username must not start with '#', which makes the line a comment.")
  if (name.startsWith(' ') || name.endsWith(' '))
    throw new UsageError('Username must not start or end with a space, which the broker removes.')
}
