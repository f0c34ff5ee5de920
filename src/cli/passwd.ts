// The command `mosquitero passwd`: the arguments, messages and exit codes of mosquitto_passwd 2.1. Lines that it was not asked to change
// stay byte for byte, and the file is never seen half written.

import { Buffer } from 'node:buffer'
import { access } from 'node:fs/promises'
import { parseArgs } from 'node:util'
import type { HashSetting } from '../auth/hash-threads.js'
import {
  formatEntry,
  type PasswordHash,
  parsePasswordFile,
  parsePasswordHash,
  passwordLimits,
  quoteName,
  splitFields
} from '../auth/password-file.js'
import { defaultSettings, openPasswordHasher } from '../auth/password-hash.js'
import { BrokerError, errorMessage, formatLocation, systemCode, systemReason } from '../errors.js'
import { checkEditable, createFile, editFile } from './file-edit.js'
import { type PromptIo, readNewPassword } from './password-prompt.js'

export interface PasswdIo extends PromptIo {
  readonly stdout: { write(text: string): unknown }
}

/** Runs the command with the arguments after its name; resolves with the exit code, 0 or 1. */
export async function runPasswd(argv: readonly string[], io: PasswdIo): Promise<number> {
  const request = parseRequest(argv)
  if ('fault' in request) {
    io.stderr.write(request.fault)
    return 1
  }
  try {
    return await perform(request, io)
  } catch (error) {
    io.stderr.write(`Error: ${errorMessage(error)}\n`)
    return 1
  }
}

type Request =
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

type SetRequest = Extract<Request, { action: 'create' | 'set' }>

const usage = `mosquitero passwd manages password files, of mosquitero and of Mosquitto.

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

// ---- Arguments

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

function parseRequest(argv: readonly string[]): Request | { readonly fault: string } {
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

// ---- Actions

function perform(request: Request, io: PasswdIo): Promise<number> | number {
  switch (request.action) {
    case 'help':
      io.stdout.write(usage)
      return 0
    case 'create':
      return create(request, io)
    case 'set':
      return set(request, io)
    case 'delete':
      return remove(request, io)
    case 'hash-file':
      return hashFile(request, io)
  }
}

async function create(request: SetRequest, io: PasswdIo): Promise<number> {
  const { file, username } = request
  const toStdout = file === '-'
  if (!toStdout && (await exists(file))) throw new Error(alreadyThere(file))
  const line = `${formatEntry({ username, password: await newHash(request, io) })}\n`
  if (toStdout) {
    io.stdout.write(line)
    return 0
  }
  await createFile(file, line).catch(error => {
    throw new Error(
      systemCode(error) === 'EEXIST' ? alreadyThere(file) : `Unable to open file ${file} for writing. ${systemReason(error)}.`
    )
  })
  io.stdout.write(`Adding password for user ${username}\n`)
  return 0
}

async function set(request: SetRequest, io: PasswdIo): Promise<number> {
  const { file, username } = request
  await checkEditable(file).catch(error => cannotOpen(file, error))
  const entry = formatEntry({ username: toLatin1(username), password: await newHash(request, io) })
  let found = false
  await edit(file, io, async lines => {
    const place = lines.findIndex(line => namesUser(line, username))
    found = place !== -1
    if (found) return lines.with(place, entry + lineEnd(lines[place]))
    const last = lines.at(-1)
    return last === undefined || last.endsWith('\n') ? [...lines, `${entry}\n`] : [...lines, `\n${entry}\n`]
  })
  io.stdout.write(`${found ? 'Updating' : 'Adding'} password for user ${username}\n`)
  return 0
}

async function remove({ file, username }: { file: string; username: string }, io: PasswdIo): Promise<number> {
  let found = false
  await edit(file, io, async lines => {
    const kept = lines.filter(line => !namesUser(line, username))
    found = kept.length < lines.length
    return kept
  })
  if (found) return 0
  io.stderr.write(`Warning: User ${username} not found in password file.\n`)
  return 1
}

async function hashFile({ file, setting }: { file: string; setting: HashSetting }, io: PasswdIo): Promise<number> {
  const hasher = openPasswordHasher()
  try {
    await edit(file, io, async lines => {
      const hashed: string[] = []
      for (const [index, line] of lines.entries()) {
        const plain = plainText(line, index + 1)
        if (plain === undefined) {
          hashed.push(line)
          continue
        }
        if (plain.more) io.stderr.write(`Warning: ${file}:${index + 1}: only the text up to the second ':' is taken as the password.\n`)
        const password = await hasher.hash(setting, Buffer.from(plain.password, 'latin1'))
        hashed.push(formatEntry({ username: plain.username, password }) + lineEnd(line))
      }
      return hashed
    })
    return 0
  } finally {
    await hasher.close()
  }
}

// The user of a line and its password in plain text; undefined for what stays as it is. mosquitto_passwd hashes hashes again, after
// which nobody can log in.
function plainText(line: string, number: number) {
  const fields = splitFields(line)
  if (fields === undefined) return undefined
  if (fields.username === '' || fields.password === '') throw new Error(`Corrupt password file at line ${number}.`)
  const parsed = parsePasswordHash(fields.password)
  if (!('fault' in parsed)) return undefined
  if (/^\$(6|7|argon2id)\$/.test(fields.password)) {
    throw new Error(`Corrupt password file at line ${number}: user ${quoteName(fromLatin1(fields.username))} ${parsed.fault}.`)
  }
  return fields
}

async function newHash({ password, setting }: SetRequest, io: PasswdIo): Promise<PasswordHash> {
  const bytes = password === undefined ? await readNewPassword(io) : Buffer.from(password)
  if (bytes.length === 0) throw new Error('Empty password.')
  if (bytes.length > 65535) throw new Error('Password must be less than 65536 characters long.')
  if (bytes.includes(0)) throw new Error('Password must not contain a NUL character.')
  const hasher = openPasswordHasher()
  try {
    return await hasher.hash(setting, bytes)
  } finally {
    await hasher.close()
  }
}

// ---- The file as lines: bytes as latin1, each with its end, so that what is not changed stays as it is

async function edit(file: string, io: PasswdIo, change: (lines: string[]) => Promise<string[]>): Promise<void> {
  let result = Buffer.alloc(0)
  await checkEditable(file).catch(error => cannotOpen(file, error))
  await editFile(file, async content => {
    const lines = content.length === 0 ? [] : content.toString('latin1').split(/(?<=\n)/)
    result = Buffer.from((await change(lines)).join(''), 'latin1')
    return result
  }).catch(error => cannotChange(file, error))
  warnOfProblems(result, file, io)
}

// What the broker would refuse is left alone, yet said.
function warnOfProblems(content: Buffer, file: string, io: PasswdIo): void {
  for (const { message, at } of parsePasswordFile(content, file, { lenient: true }).problems) {
    io.stderr.write(`Warning: ${at ? `${formatLocation(at)}: ` : ''}${message}\n`)
  }
}

function namesUser(line: string, username: string): boolean {
  return splitFields(line)?.username === toLatin1(username)
}

function lineEnd(line = ''): string {
  return /\r?\n$/.exec(line)?.[0] ?? ''
}

function toLatin1(text: string): string {
  return Buffer.from(text).toString('latin1')
}

function fromLatin1(bytes: string): string {
  return Buffer.from(bytes, 'latin1').toString()
}

async function exists(file: string): Promise<boolean> {
  return access(file).then(
    () => true,
    () => false
  )
}

function alreadyThere(file: string): string {
  return `Unable to open file ${file} for writing. File exists. Leave out -c to change it.`
}

function cannotOpen(file: string, error: unknown): never {
  throw new Error(`Unable to open password file ${file}. ${systemReason(error)}.`, { cause: error })
}

function cannotChange(file: string, error: unknown): never {
  if (error instanceof BrokerError || systemCode(error) === undefined) throw error
  const hint = systemCode(error) === 'EBUSY' ? ' It is a mount point of its own: mount its directory instead.' : ''
  const reason = `${systemReason(error)}${pathOf(error)}`
  throw new Error(`Unable to replace password file ${file}, which is as it was. ${reason}.${hint}`, { cause: error })
}

function pathOf(error: unknown): string {
  return error instanceof Error && 'path' in error && typeof error.path === 'string' ? `: ${error.path}` : ''
}
