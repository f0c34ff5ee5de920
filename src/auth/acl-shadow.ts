// `#!acl_shadow`: another ACL file is asked beside the one in force, and nothing comes of it but that people can read where the two differ.

import { type Access, type Acl, type Decision, decide } from './acl.js'
import type { Identity } from './identity.js'

/**
 * Decides as `acl` does. Where `shadow` says otherwise the decision carries what it says; such a pair is shared and frozen as well, so that it
 * is kept, compared and counted like any other.
 */
export function decideBeside(acl: Acl, shadow: Acl): (identity: Identity, access: Access, topic: string) => Decision {
  const pairs = new Map<Decision, Map<Decision, Decision>>()
  return (identity, access, topic) => {
    const decision = decide(acl, identity, access, topic)
    const other = decide(shadow, identity, access, topic)
    return decision.allowed === other.allowed ? decision : pairOf(pairs, decision, other)
  }
}

// As many as there are pairs of lines that contradict each other about something somebody asked for.
function pairOf(pairs: Map<Decision, Map<Decision, Decision>>, decision: Decision, shadow: Decision): Decision {
  const known = pairs.get(decision) ?? new Map<Decision, Decision>()
  pairs.set(decision, known)
  const pair = known.get(shadow) ?? Object.freeze({ ...decision, shadow })
  known.set(shadow, pair)
  return pair
}
