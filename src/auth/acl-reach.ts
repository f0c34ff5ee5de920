// What of a topic filter an ACL lets through to a client. A filter matches endlessly many names, yet a few of them tell about all: of the
// names that a filter and a line of the file have in common, and that have the same number of levels, take the one that has a word nobody
// ever wrote wherever there is a wildcard. A line that matches this one matches all of them. So what `decide` denies there is denied
// everywhere, and names that are longer than any line are all alike.

import { startsWithDollar } from '../topic.js'
import { type Acl, type Decision, decide, type Entry, hasWildcard, readBit, sectionFor, subscribing } from './acl.js'
import type { Identity } from './identity.js'
import { isVariable, valueFor } from './pattern-variables.js'

/** How much of what a filter matches may be delivered, and the lines that say so. */
export interface Reach {
  readonly extent: 'all' | 'part' | 'nothing'
  readonly delivered: readonly Part[]
  /** What deny rules take away of that. */
  readonly denied: readonly Part[]
}

/** `filter`: within the one that was asked about. */
export interface Part {
  readonly filter: string
  readonly decision: Decision
}

/**
 * May anything that matches this filter be delivered? Denied: nothing may, whatever its topic, and the decision says why. Where it would
 * take too long to tell, in a file of very many lines that take back each other, it is allowed.
 */
export function decideFilter(acl: Acl, identity: Identity, filter: string): Decision {
  const asked = filter.split('/')
  let denial: Decision | undefined
  let left = mostQuestions(acl, identity)
  for (const { levels } of shares(acl, identity, asked, letsRead)) {
    for (const topic of samples(acl, levels)) {
      const decision = decide(acl, identity, 'read', topic)
      if (decision.allowed || left === 0) return decision.allowed ? decision : subscribing
      denial ??= decision
      left -= 1
    }
  }
  return denial ?? decideFirst(acl, identity, asked)
}

/** The same in full, for people, however long it takes. */
export function reachOf(acl: Acl, identity: Identity, filter: string): Reach {
  const asked = filter.split('/')
  const decisions = (levels: readonly string[]): Decision[] =>
    Array.from(samples(acl, levels), topic => decide(acl, identity, 'read', topic))
  const all = decisions(asked)
  const isAll = all.every(({ allowed }) => allowed)
  const [first] = all
  // Without a file there are no lines that could say more.
  if (acl.kind !== 'file' && first !== undefined) {
    return { extent: isAll ? 'all' : 'nothing', delivered: isAll ? [{ filter, decision: first }] : [], denied: [] }
  }
  const delivered: Share[] = []
  for (const line of shares(acl, identity, asked, letsRead)) {
    if (delivered.some(({ levels }) => isWithin(line.levels, levels))) continue
    if (decisions(line.levels).some(({ allowed }) => allowed)) delivered.push(line)
  }
  const takes = ({ entry, levels }: Share, from: Share): boolean => {
    const taken = common(from.levels, levels)
    return taken !== undefined && decisions(taken).includes(entry.decision)
  }
  const denied = [...shares(acl, identity, asked, denies)].filter(line => delivered.some(part => takes(line, part)))
  const extent = isAll && denied.length === 0 ? 'all' : delivered.length === 0 ? 'nothing' : 'part'
  return { extent, delivered: delivered.map(partOf), denied: denied.map(partOf) }
}

/** A line that concerns the client, and what it has in common with the filter asked about: again a filter. */
interface Share {
  readonly entry: Entry
  readonly levels: readonly string[]
}

const partOf = ({ entry, levels }: Share): Part => ({ filter: levels.join('/'), decision: entry.decision })

/** Lines that are compared with a topic for one filter: a millisecond or two. */
const mostComparisons = 50_000
const fewestQuestions = 8

function mostQuestions(acl: Acl, identity: Identity): number {
  if (acl.kind !== 'file') return fewestQuestions
  const lines = (sectionFor(acl, identity)?.length ?? 0) + acl.patterns.length
  return Math.max(fewestQuestions, Math.floor(mostComparisons / Math.max(lines, 1)))
}

const letsRead = ({ rights }: Entry): boolean => (rights & readBit) !== 0
const denies = ({ rights }: Entry): boolean => rights === 0

// In the order in which they decide.
function* shares(acl: Acl, identity: Identity, asked: readonly string[], isWanted: (entry: Entry) => boolean): Generator<Share> {
  if (acl.kind !== 'file') return
  for (const entry of sectionFor(acl, identity) ?? []) {
    const levels = isWanted(entry) && mayMeet(entry.levels, asked) ? share(entry, entry.levels, asked) : undefined
    if (levels !== undefined) yield { entry, levels }
  }
  const { username, clientId } = identity
  if (hasWildcard(clientId) || (username !== undefined && hasWildcard(username))) return
  for (const entry of acl.patterns) {
    if (!isWanted(entry) || (entry.namesUser && username === undefined) || !mayMeet(entry.levels, asked, identity, entry.isOwn)) continue
    const line = entry.levels.map(level => filled(level, identity, entry.isOwn))
    const levels = line.every(isLevel) ? share(entry, line, asked) : undefined
    if (levels !== undefined) yield { entry, levels }
  }
}

// Allocates nothing but for `%{c:N}`: most lines are about something else.
function mayMeet(line: readonly string[], asked: readonly string[], identity?: Identity, isOwn = false): boolean {
  for (let i = 0; ; i++) {
    const [x, y] = [line[i], asked[i]]
    if (x === '#' || y === '#') return true
    if (x === undefined || y === undefined) return x === y
    if (x !== '+' && y !== '+' && (identity === undefined ? x : filled(x, identity, isOwn)) !== y) return false
  }
}

// What stands in this place of a pattern for the client. An empty name, or one that holds `/`, is no level and meets none.
function filled(level: string, identity: Identity, isOwn: boolean): string {
  const isFilled = isOwn ? isVariable(level) : level === '%c' || level === '%u'
  const name = isFilled ? (valueFor(level, identity) ?? '') : level
  return name === level || (name !== '' && !name.includes('/')) ? name : noLevel
}

const noLevel = '/'
const isLevel = (level: string): boolean => level !== noLevel

function share({ filter }: Entry, line: readonly string[], asked: readonly string[]): readonly string[] | undefined {
  const levels = common(line, asked)
  if (levels === undefined) return undefined
  // Both stand with the `$` topics or both apart; what a name brings into a pattern counts for nothing.
  const isDollar = startsWithDollar(levels[0] ?? '')
  return startsWithDollar(filter) === isDollar && startsWithDollar(asked[0] ?? '') === isDollar ? levels : undefined
}

/** What both match: one filter again, or nothing. */
function common(a: readonly string[], b: readonly string[]): readonly string[] | undefined {
  const levels: string[] = []
  for (let i = 0; ; i++) {
    const [x, y] = [a[i], b[i]]
    if (x === '#') return named([...levels, ...b.slice(i)])
    if (y === '#') return named([...levels, ...a.slice(i)])
    if (x === undefined && y === undefined) return named(levels)
    if (x === undefined || y === undefined) return undefined
    if (x === '+') levels.push(y)
    else if (y === '+' || x === y) levels.push(x)
    else return undefined
  }
}

// `/#` and `+` have nothing in common but the empty name, which is none.
function named(levels: readonly string[]): readonly string[] | undefined {
  return levels.length === 1 && levels[0] === '' ? undefined : levels
}

function isWithin(inner: readonly string[], outer: readonly string[]): boolean {
  for (let i = 0; ; i++) {
    const [x, y] = [inner[i], outer[i]]
    if (y === '#' || (x === undefined && y === undefined)) return true
    if (x !== y && (y !== '+' || x === '#' || x === undefined)) return false
  }
}

/** What no line and no topic holds. */
const unwritten = '\0'
/** Of a topic name. */
const mostLevels = 201

// One name for each number of levels that makes a difference.
function* samples(acl: Acl, levels: readonly string[]): Generator<string> {
  const names = levels.map(level => (level === '+' ? unwritten : level))
  if (names.at(-1) !== '#') {
    yield names.join('/')
    return
  }
  names.pop()
  const longest = Math.min(Math.max(names.length, acl.kind === 'file' ? acl.depth : 0) + 1, mostLevels)
  for (; names.length <= longest; names.push(unwritten)) {
    const name = names.join('/')
    if (name !== '') yield name
  }
}

function decideFirst(acl: Acl, identity: Identity, asked: readonly string[]): Decision {
  const [topic = unwritten] = samples(acl, asked)
  return decide(acl, identity, 'read', topic)
}
