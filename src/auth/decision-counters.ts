// How often each rule has decided something that somebody wants counted. Decisions are shared objects, one for each rule, so one more is a
// number raised; a message that many may not read is denied to all of them by the same one, which is then not even looked up.

import { type Decision, explainDecision, type Reason } from './acl.js'
import type { AclRule } from './acl-file.js'

/** A `subscription` is one that nothing can be delivered of, whether it was refused or only warned of. */
const kinds = ['publishes', 'deliveries', 'wills', 'subscriptions'] as const
export type Decided = (typeof kinds)[number]

export interface DecisionCount extends Readonly<Record<Decided, number>> {
  /** `deny rule "topic deny plant/#" at acl:3`, `no rule allows it`. */
  readonly why: string
  readonly reason: Reason
  /** Where it stood when it decided last; absent: no rule did. */
  readonly rule?: AclRule
}

type Counts = Record<Decided, number>

interface Entry {
  readonly decision: Decision
  readonly counts: Counts
}

/** Of earlier rule files, those that are remembered. */
const mostEarlier = 10_000

export class DecisionCounters {
  readonly #counts = new Map<Decision, Counts>()
  /** Of files that were read again since, by what the rule says. */
  readonly #earlier = new Map<string, Entry>()
  #last: Decision | undefined
  #lastCounts: Counts = nothing()

  add(decision: Decision, decided: Decided): void {
    if (decision !== this.#last) {
      this.#last = decision
      this.#lastCounts = this.#countsOf(decision)
    }
    this.#lastCounts[decided] += 1
  }

  /** The files were read again: the same rules are other objects from now on, and go on being counted. */
  renew(): void {
    for (const [decision, counts] of this.#counts) addTo(this.#earlier, decision, counts)
    for (const key of this.#earlier.keys()) {
      if (this.#earlier.size <= mostEarlier) break
      this.#earlier.delete(key)
    }
    this.#counts.clear()
    this.#last = undefined
  }

  /** Whatever decided anything since the start, most first. */
  list(): readonly DecisionCount[] {
    const entries = new Map<string, Entry>()
    for (const { decision, counts } of this.#earlier.values()) addTo(entries, decision, counts)
    for (const [decision, counts] of this.#counts) addTo(entries, decision, counts)
    return Array.from(entries.values(), countOf).sort((a, b) => inAll(b) - inAll(a))
  }

  #countsOf(decision: Decision): Counts {
    const known = this.#counts.get(decision)
    if (known !== undefined) return known
    const counts = nothing()
    this.#counts.set(decision, counts)
    return counts
  }
}

function nothing(): Counts {
  return { publishes: 0, deliveries: 0, wills: 0, subscriptions: 0 }
}

// The later one says where the rule stands now.
function addTo(entries: Map<string, Entry>, decision: Decision, counts: Counts): void {
  const key = keyOf(decision)
  const sum = { ...(entries.get(key)?.counts ?? nothing()) }
  for (const kind of kinds) sum[kind] += counts[kind]
  entries.set(key, { decision, counts: sum })
}

// By what it says, not by its line: lines move.
function keyOf({ reason, rule }: Decision): string {
  return rule === undefined ? reason : JSON.stringify([rule.at.file, rule.username ?? null, rule.kind, rule.access, rule.filter])
}

function countOf({ decision, counts }: Entry): DecisionCount {
  const { reason, rule } = decision
  return { why: explainDecision(decision), reason, ...(rule !== undefined && { rule }), ...counts }
}

function inAll(count: DecisionCount): number {
  return kinds.reduce((sum, kind) => sum + count[kind], 0)
}
