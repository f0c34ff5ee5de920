// A table of expectations of an ACL → its cases, each with its line, and everything that is wrong with it. One case a line:
//
//   USER [CLIENTID] read|write|subscribe TOPIC EXPECTED [RULE]   # comment
//
// USER is a name, `-` for none, or `cert:FILE` for a client that shows this certificate.

import { formatLocation, type Location, type Problem } from '../errors.js'
import { isTopicName, parseFilter } from '../topic.js'
import { isOutcome } from './acl.js'
import type { Explanation } from './explanation.js'
import type { Identity } from './identity.js'

const accesses = ['read', 'write', 'subscribe'] as const
const verdicts = ['allow', 'deny'] as const
/** Of a subscription: how much of what its filter matches is delivered. */
const extents = ['all', 'part', 'nothing'] as const

export interface AclCase {
  readonly identity: Identity
  readonly access: (typeof accesses)[number]
  readonly topic: string
  readonly expected: (typeof verdicts)[number] | (typeof extents)[number]
  /** The line that decides, as `FILE:LINE`, or the reason for which none does. */
  readonly because?: string
  readonly at: Location
  /** The client shows the certificate in this file. */
  readonly certificateFile?: string
}

export interface ParsedAclCases {
  readonly cases: readonly AclCase[]
  readonly problems: readonly Problem[]
}

/** Stands for any client, where a case names none. */
export const anyClientId = 'any-client'

/** Every case and every problem of such a file. `file` is its name as messages should show it. */
export function parseAclCases(text: string, file: string): ParsedAclCases {
  const cases: AclCase[] = []
  const problems: Problem[] = []
  for (const [i, line] of text.split('\n').entries()) {
    const at: Location = { file, line: i + 1 }
    const parsed = parseLine(line, at)
    if (typeof parsed === 'string') problems.push({ severity: 'error', code: 'ERR_ACL_CASE', message: parsed, at })
    else if (parsed !== undefined) cases.push(parsed)
  }
  return { cases, problems }
}

/** What such an explanation is in the words of a case. */
export function verdictOf({ expected }: AclCase, { allowed, reach }: Explanation): AclCase['expected'] {
  return expected === 'allow' || expected === 'deny' ? (allowed ? 'allow' : 'deny') : (reach?.extent ?? 'nothing')
}

/** Is this what the case expects, and for that reason? */
export function meets(expectation: AclCase, explanation: Explanation): boolean {
  const { expected, because } = expectation
  if (verdictOf(expectation, explanation) !== expected) return false
  if (because === undefined) return true
  const { reason, rule } = (expected === 'nothing' && explanation.dead) || explanation
  if (rule === undefined) return because === reason
  // A file of the repository lies elsewhere on each machine.
  return `/${formatLocation(rule.at)}`.endsWith(`/${because}`)
}

/** `quotes`: it stood in some, so that it is never a mark of the format. */
interface Word {
  readonly text: string
  readonly quotes: 'none' | 'right' | 'wrong'
}

const form = 'a case is written USER [CLIENTID] read|write|subscribe TOPIC allow|deny [RULE]'

// A sentence: what is wrong. Undefined: it says nothing.
function parseLine(line: string, at: Location): AclCase | string | undefined {
  const [user, ...rest] = readWords(line)
  if (user === undefined || isComment(user)) return undefined
  const clientId = accessOf(rest[0]) === undefined ? rest[0] : undefined
  const [accessWord, topic, verdict, ...last] = clientId === undefined ? rest : rest.slice(1)
  const access = accessOf(accessWord)
  if (access === undefined || topic === undefined || verdict === undefined) return `This is no case: ${form}.`
  const comment = last.findIndex(isComment)
  const [because, ...surplus] = comment === -1 ? last : last.slice(0, comment)
  const wrong = [user, clientId, topic, verdict, because].find(word => word?.quotes === 'wrong')
  if (wrong !== undefined) return `The quotes of ${wrong.text} are not those of a JSON string.`
  if (surplus.length > 0) return `There are too many words: ${form}.`
  const expected = access === 'subscribe' ? [...verdicts, ...extents].find(is(verdict)) : verdicts.find(is(verdict))
  if (expected === undefined) return `'${verdict.text}' is nothing that can be expected of ${access}: ${expectations(access)}.`
  const complaint = complaintAbout(access, topic.text) ?? complaintOfRule(expected, because?.text)
  if (complaint !== undefined) return complaint
  const isShown = user.quotes === 'none' && user.text.startsWith(certificateMark)
  const isNamed = !isShown && !is(user)('-')
  return {
    identity: { clientId: clientId?.text ?? anyClientId, ...(isNamed && { username: user.text }) },
    ...(isShown && { certificateFile: user.text.slice(certificateMark.length) }),
    access,
    topic: topic.text,
    expected,
    ...(because !== undefined && { because: because.text }),
    at
  }
}

const certificateMark = 'cert:'

const is =
  ({ text, quotes }: Word) =>
  (name: string): boolean =>
    quotes === 'none' && text === name

const isComment = ({ text, quotes }: Word): boolean => quotes === 'none' && text.startsWith('#')

const accessOf = (word: Word | undefined): AclCase['access'] | undefined => word && accesses.find(is(word))

function expectations(access: AclCase['access']): string {
  const words = access === 'subscribe' ? 'allow, deny, all, part or nothing' : 'allow or deny'
  return `${words} would be right`
}

function complaintAbout(access: AclCase['access'], topic: string): string | undefined {
  if (access === 'subscribe') return typeof parseFilter(topic) === 'string' ? `'${topic}' is no topic filter.` : undefined
  if (isTopicName(topic)) return undefined
  return `'${topic}' is no topic name: reading and writing is about one topic, subscribing about filters.`
}

function complaintOfRule(expected: AclCase['expected'], because: string | undefined): string | undefined {
  if (because === undefined) return undefined
  if (expected === 'all' || expected === 'part') return `'${expected}' is not for one rule to say: leave '${because}' out.`
  if (isOutcome(because) || because === 'not-connected' || /^.+:\d+$/.test(because)) return undefined
  return `'${because}' names no rule: FILE:LINE, such as acl:3, or a reason, such as no-rule, would be right.`
}

// Words are separated by blanks; one in quotes is a JSON string.
function readWords(line: string): Word[] {
  return Array.from(line.matchAll(/"(?:[^"\\]|\\.)*"(?=\s|$)|\S+/g), ([text]): Word => {
    if (!text.startsWith('"')) return { text, quotes: 'none' }
    const value = unquote(text)
    return value === undefined ? { text, quotes: 'wrong' } : { text: value, quotes: 'right' }
  })
}

function unquote(text: string): string | undefined {
  try {
    const value: unknown = JSON.parse(text)
    return typeof value === 'string' ? value : undefined
  } catch {
    return undefined
  }
}
