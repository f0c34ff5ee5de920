// The text of an acl_file → its rules, each with its line, and everything that is wrong with it. Reads as Mosquitto reads it: words are
// separated by spaces only, trailing white space is cut, `#` in the first column starts a comment.

import { trimBlanksEnd, trimBlanksStart } from '../blanks.js'
import type { Location, Problem } from '../errors.js'
import { isTopicFilter } from '../topic.js'
import { beginsPem, nameOf, withinOneEdit } from '../words.js'
import { isVariable, variableNames } from './pattern-variables.js'

export const aclAccesses = ['read', 'write', 'readwrite', 'deny'] as const
export type AclAccess = (typeof aclAccesses)[number]

/** One `topic` or `pattern` line. */
export interface AclRule {
  /** `#!pattern` is a line of ours: a comment to Mosquitto. */
  readonly kind: 'topic' | 'pattern' | '#!pattern'
  readonly access: AclAccess
  readonly filter: string
  /** The `user` a `topic` line stands under; absent: clients without a username. A `pattern` is for everybody and has none. */
  readonly username?: string
  readonly at: Location
}

export interface ParsedAcl {
  readonly rules: readonly AclRule[]
  /** With an `error` among them the rules are incomplete and must not be enforced. */
  readonly problems: readonly Problem[]
}

/** Every rule and every problem of an acl_file. `file` is its name as messages should show it. */
export function parseAcl(content: Buffer | string, file: string): ParsedAcl {
  const acl: OpenAcl = { file, rules: [], problems: [], username: undefined }
  const bytes = typeof content === 'string' ? Buffer.from(content) : content
  let line = 0
  for (let start = 0; start < bytes.length; ) {
    const newline = bytes.indexOf(lineFeed, start)
    const end = newline === -1 ? bytes.length : newline
    const text = bytes.subarray(start, end)
    parseLine(text, { file, line: ++line }, acl)
    // Somebody named a key or certificate file: one problem says so, and its lines are not for the log.
    if (beginsPem(text.subarray(0, longestHeader).toString())) break
    start = end + 1
  }
  return { rules: acl.rules, problems: acl.problems }
}

interface OpenAcl {
  readonly file: string
  readonly rules: AclRule[]
  readonly problems: Problem[]
  /** The section that `topic` lines now belong to. */
  username: string | undefined
}

const lineFeed = 0x0a
const numberSign = 0x23
const exclamationMark = 0x21
/** Bytes of a line that are looked at for one, with what blanks may stand before it. */
const longestHeader = 64
const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

function parseLine(bytes: Buffer, at: Location, acl: OpenAcl): void {
  // Before decoding: a comment may be in any encoding.
  if (bytes[0] === numberSign && bytes[1] !== exclamationMark) return
  const text = decode(bytes)
  if (bytes[0] === numberSign && !isOwnLine(text, at, acl)) return
  if (text === undefined || text.includes('\0')) {
    const found = text === undefined ? 'bytes that are not UTF-8' : 'a NUL character'
    fail(acl, at, `Invalid line in acl_file "${acl.file}": it holds ${found}, which no topic or username can.`)
    return
  }
  const line = trimBlanksEnd(text)
  const [keyword, rest] = splitWord(line)
  switch (keyword) {
    case '':
      return
    case 'user':
      parseUser(rest, at, acl)
      return
    case 'topic':
    case 'pattern':
      parseRule(keyword, rest, at, acl)
      return
    case '#!pattern':
      // Indented it is no comment to Mosquitto, which would not start.
      if (bytes[0] !== numberSign) break
      parseRule(keyword, rest, at, acl)
      return
  }
  // Mosquitto repeats the spaces before the word: ` #` is a comment that does not begin in the first column.
  const [indent = ''] = /^ */.exec(line) ?? []
  const hint = keyword.startsWith('\ufeff') && !beginsPem(keyword) ? ' A byte order mark stands before it: save the file without.' : ''
  fail(acl, at, `Invalid line in acl_file "${acl.file}": ${indent}${nameOf(keyword)}.${hint}`)
}

// Anything else behind `#!` is a comment, but for what looks like a slip.
function isOwnLine(text: string | undefined, at: Location, acl: OpenAcl): boolean {
  const [, written = ''] = /^#!\s*(\S*)/.exec(text ?? '') ?? []
  if (text?.startsWith('#!pattern ') || text === '#!pattern') return true
  const word = written.toLowerCase()
  const isSlip = withinOneEdit(word, 'pattern') || word === 'topic' || word === 'user'
  if (isSlip) warn(acl, at, `A line '#!' with '${excerpt(written)}' is a comment: a line of ours is written '#!pattern'.`)
  return false
}

function parseUser(rest: string, at: Location, acl: OpenAcl): void {
  const username = trimBlanksStart(rest)
  if (username === '') {
    fail(acl, at, `Missing username in acl_file "${acl.file}".`)
    return
  }
  acl.username = username
}

function parseRule(kind: AclRule['kind'], rest: string, at: Location, acl: OpenAcl): void {
  const [word, more] = splitWord(rest)
  if (word === '') {
    fail(acl, at, `Empty topic in acl_file "${acl.file}".`)
    return
  }
  // With one word only, that word is the filter, even if it reads like an access.
  const filter = more === '' ? word : trimBlanksStart(more)
  const access = more === '' ? 'readwrite' : aclAccesses.find(name => name === word)
  if (access === undefined) {
    fail(acl, at, `Invalid topic access type "${excerpt(word)}" in acl_file "${acl.file}".`)
    return
  }
  if (!isTopicFilter(filter)) {
    fail(acl, at, `Invalid ACL topic "${excerpt(filter)}" in acl_file "${acl.file}".`)
    return
  }
  if (kind === '#!pattern' && !checkVariables(filter, at, acl)) return
  warnOfDeadText(kind, filter, at, acl)
  const section = kind === 'topic' && acl.username !== undefined ? { username: acl.username } : {}
  acl.rules.push(Object.freeze({ kind, access, filter, ...section, at }))
}

// Nobody has such lines from before, so that what is put nowhere can be refused instead of never matching.
function checkVariables(filter: string, at: Location, acl: OpenAcl): boolean {
  const wrong = filter.split('/').find(level => level.includes('%') && !isVariable(level))
  if (wrong === undefined) return true
  fail(acl, at, `Invalid '#!pattern' "${excerpt(filter)}": '${excerpt(wrong)}' is none of ${variableNames}, which stand for whole levels.`)
  return false
}

// Accepted by Mosquitto and by us, but surely not what was meant.
function warnOfDeadText(kind: AclRule['kind'], filter: string, at: Location, acl: OpenAcl): void {
  if (filter.includes('\t')) {
    warn(acl, at, `ACL topic "${excerpt(filter)}" holds a tab and never matches: words are separated by spaces only.`)
  }
  if (kind !== 'pattern') return
  if (!filter.includes('%c') && !filter.includes('%u')) {
    warn(acl, at, `ACL pattern '${filter}' does not contain '%c' or '%u'.`)
  } else if (filter.split('/').some(level => /%[cu]/.test(level) && level.length > 2)) {
    warn(acl, at, `ACL pattern '${filter}' has '%c' or '%u' beside other text: it is replaced only where it is a whole level.`)
  }
}

function fail(acl: OpenAcl, at: Location, message: string): void {
  acl.problems.push({ severity: 'error', code: 'ERR_ACL_SYNTAX', message, at })
}

function warn(acl: OpenAcl, at: Location, message: string): void {
  acl.problems.push({ severity: 'warning', code: 'ERR_ACL_SYNTAX', message, at })
}

function decode(bytes: Buffer): string | undefined {
  try {
    return utf8.decode(bytes)
  } catch {
    return undefined
  }
}

// The first word, and what follows the space that ends it.
function splitWord(text: string): [word: string, rest: string] {
  const line = text.replace(/^ +/, '')
  const space = line.indexOf(' ')
  return space === -1 ? [line, ''] : [line.slice(0, space), line.slice(space + 1)]
}

// The word that could not be understood, short, and without a hash.
function excerpt(word: string): string {
  const [shown = ''] = word.split(/(?<=:)\$/, 1)
  if (shown.length < word.length) return `${shown}…`
  return word.length > 60 ? `${word.slice(0, 60)}…` : word
}
