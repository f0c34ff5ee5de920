// Golden ACL cases: test/cases/acl/*.case. Above the dashes an acl_file (`no acl_file` for none), below one decision a line:
//
//   USER[@CLIENTID] ACCESS TOPIC allow|deny [acl:LINE|REASON] [2.1] [local] [# comment]
//
// USER `-` has no username; words with spaces, `@` or a leading `#` stand in JSON quotes. `2.1`: Mosquitto 2.0 decides the other way.
// `local`: cannot be asked over the wire.

import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Access } from '../../dist/auth/acl.js'
import type { Identity } from '../../dist/auth/identity.js'

export interface AclCase {
  readonly name: string
  /** Undefined: no acl_file. */
  readonly acl: string | undefined
  readonly questions: readonly AclQuestion[]
}

export interface AclQuestion {
  /** `dollar.case:31`, for messages. */
  readonly at: string
  readonly identity: Identity
  readonly access: Access
  readonly topic: string
  readonly allowed: boolean
  /** `acl:LINE` or a reason. */
  readonly because: string
  readonly differsFrom20: boolean
  readonly local: boolean
}

const folder = 'test/cases/acl'
const defaultClientId = 'probe'

export function readAclCases(): AclCase[] {
  const files = readdirSync(folder).filter(file => file.endsWith('.case'))
  return files.sort().map(file => parseCase(file, readFileSync(join(folder, file), 'utf8')))
}

/** What a decision looks like in a case file: the line that decides, or the reason. */
export function because(decision: { reason: string; rule?: { at: { line?: number } } }): string {
  return decision.rule === undefined ? decision.reason : `acl:${decision.rule.at.line}`
}

function parseCase(file: string, text: string): AclCase {
  const [acl = '', rows] = text.split('\n----\n')
  if (rows === undefined) throw new Error(`${file}: a line of four dashes is missing`)
  const firstRow = acl.split('\n').length + 2
  const questions = rows.split('\n').flatMap((row, i) => (row.trim() === '' ? [] : [parseRow(row, `${file}:${firstRow + i}`)]))
  return { name: file.replace('.case', ''), acl: acl === 'no acl_file' ? undefined : `${acl}\n`, questions }
}

function parseRow(row: string, at: string): AclQuestion {
  const words = row.match(/(?:"(?:[^"\\]|\\.)*"|[^\s"])+/g) ?? []
  const comment = words.findIndex((word, i) => i > 2 && word.startsWith('#'))
  const [who = '', access = '', topic = '', verdict = '', ...rest] = comment === -1 ? words : words.slice(0, comment)
  const marks = new Set(rest)
  const differsFrom20 = marks.delete('2.1')
  const local = marks.delete('local')
  const [reason = verdict === 'deny' ? 'no-rule' : undefined, ...surplus] = marks
  if (!isAccess(access) || (verdict !== 'allow' && verdict !== 'deny') || reason === undefined || surplus.length > 0) {
    throw new Error(`${at}: not a decision: ${row}`)
  }
  const allowed = verdict === 'allow'
  return { at, identity: parseIdentity(who), access, topic: unquote(topic), allowed, because: reason, differsFrom20, local }
}

function parseIdentity(who: string): Identity {
  const [, user = '', clientId = defaultClientId] = /^("(?:[^"\\]|\\.)*"|[^@]*)(?:@(.*))?$/.exec(who) ?? []
  return user === '-' ? { clientId: unquote(clientId) } : { clientId: unquote(clientId), username: unquote(user) }
}

function unquote(word: string): string {
  return word.startsWith('"') ? String(JSON.parse(word)) : word
}

function isAccess(word: string): word is Access {
  return ['read', 'write', 'subscribe', 'unsubscribe'].includes(word)
}
