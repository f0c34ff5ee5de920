// What is in force on one listener: its policy, and whether the transport of a connection would still be let in. A reload puts another
// snapshot in here; connections hold on to the configuration they came by, and are judged by what is in here now.

import { decide } from './auth/acl.js'
import type { Connection } from './auth/identity.js'
import { buildPolicy, type Policy, type PolicyParts } from './auth/policy.js'
import type { ClientFacts, SlowVerdict, Verdict } from './broker/broker.js'
import type { ListenerConfig } from './config/types.js'
import type { LogFields } from './log-events.js'
import { recheckPeer } from './net/peer.js'
import { listenerName } from './reload.js'
import type { ListenerSnapshot } from './snapshot.js'

/** What all policies of a server share. */
export type PolicyMeans = Pick<PolicyParts, 'hasher' | 'throttle' | 'log' | 'now' | 'sleep'>

const no = { ok: false, refusal: 'not-authorised' } as const

/** For a connection that came by none of our listeners. */
export const closedPolicy: Policy = Object.freeze({
  authenticate: async () => no,
  recheck: () => no,
  authorize: (identity, access, topic) => decide({ kind: 'closed' }, identity, access, topic)
} satisfies Policy)

export class Enforcement {
  readonly #means: PolicyMeans
  #snapshot: ListenerSnapshot
  #policy: Policy

  constructor(snapshot: ListenerSnapshot, means: PolicyMeans) {
    this.#means = means
    this.#snapshot = snapshot
    this.#policy = policyOf(snapshot, means)
  }

  get config(): ListenerConfig {
    return this.#snapshot.config
  }

  /** Another one after each `replace`. */
  get policy(): Policy {
    return this.#policy
  }

  replace(snapshot: ListenerSnapshot): void {
    this.#snapshot = snapshot
    this.#policy = policyOf(snapshot, this.#means)
  }

  /** Would this client still come in by the door it came by? */
  recheck({ connection, admitted }: ClientFacts): Verdict | SlowVerdict {
    return stillStands(connection, this.#snapshot) ? this.#policy.recheck(connection, admitted) : 'administrative-action'
  }

  /** What the log says of the listener: at its start, and when a reload changes it. */
  get logFields(): LogFields<'listenerEnforces'> {
    const { config } = this.#snapshot
    const { tls, security, username } = config
    return {
      listener: listenerName(config),
      certificate: tls?.requireCertificate ? 'required' : 'not asked for',
      username,
      anonymous: security.allowAnonymous,
      ...(tls && { tls: tls.minVersion }),
      ...(security.passwordFile && { passwordFile: security.passwordFile.path }),
      ...(security.aclFile && { aclFile: security.aclFile.path })
    }
  }
}

function policyOf(snapshot: ListenerSnapshot, means: PolicyMeans): Policy {
  const { config, acl, passwords, clientIdPrefix } = snapshot
  const policy = buildPolicy({ listener: config, acl, passwords, clientIdPrefix, ...means })
  return Object.freeze({
    ...policy,
    // The rest of a CONNECT may come, and its password be hashed, after a reload that judged only who was in.
    authenticate: async (connection, credentials) =>
      stillStands(connection, snapshot) ? policy.authenticate(connection, credentials) : { ok: false, refusal: 'not-authorised' }
  } satisfies Policy)
}

/** Would the transport of this connection, TLS and certificate, be accepted now? No question for one that came by these very settings. */
function stillStands({ listener, tls }: Connection, snapshot: ListenerSnapshot): boolean {
  if (snapshot.tls === undefined || listener === snapshot.config) return true
  return tls !== undefined && recheckPeer(tls.certificate, snapshot.tls, new Date()).ok
}
