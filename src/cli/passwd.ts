// The command `mosquitero passwd`: the arguments, messages and exit codes of mosquitto_passwd 2.1. Lines that it was not asked to change
// stay byte for byte, and the file is never seen half written.

import { Buffer } from 'node:buffer'
import { access } from 'node:fs/promises'
import type { HashSetting } from '../auth/hash-threads.js'
import { formatEntry, type PasswordHash, parsePasswordFile, parsePasswordHash, quoteName, splitFields } from '../auth/password-file.js'
import { openPasswordHasher } from '../auth/password-hash.js'
import { BrokerError, errorMessage, formatLocation, systemCode, systemReason } from '../errors.js'
import { checkEditable, createFile, editFile } from './file-edit.js'
import { parseRequest, type Request, type SetRequest, usage } from './passwd-arguments.js'
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

// The file as lines: bytes as latin1, each with its end, so that what is not changed stays as it is

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
