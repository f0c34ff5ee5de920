// What is in force on one listener: its policy, and whether the transport of a connection would still be let in. A reload puts another
// snapshot in here; connections hold on to the configuration they came by, and are judged by what is in here now.

import { closedAcl, decide } from './auth/acl.js'
import { decideFilter } from './auth/acl-reach.js'
import type { Connection } from './auth/identity.js'
import { type Admission, type Admitted, buildPolicy, type Policy, type PolicyParts, type Refusal } from './auth/policy.js'
import type { ClientFacts, SlowVerdict, Verdict } from './broker/broker.js'
import type { Dismissal } from './broker/dismissal.js'
import type { ListenerConfig } from './config/types.js'
import type { LogFields } from './log-events.js'
import { nextLook, recheckPeer } from './net/peer.js'
import { recheckPsk } from './net/psk.js'
import { listenerName } from './reload.js'
import { describeLoss, type LossReason } from './reload-report.js'
import type { ListenerSnapshot } from './snapshot.js'

/** What all policies of a server share. */
export type PolicyMeans = Pick<PolicyParts, 'hasher' | 'throttle' | 'log' | 'now' | 'sleep'>

const no = { ok: false, refusal: 'not-authorised' } as const

/** For a connection that came by none of our listeners. */
export const closedPolicy: Policy = Object.freeze({
  authenticate: async () => no,
  recheck: () => no,
  authorize: (identity, access, topic) => decide(closedAcl, identity, access, topic),
  authorizeFilter: (identity, filter) => decideFilter(closedAcl, identity, filter)
} satisfies Policy)

export class Enforcement {
  readonly #means: PolicyMeans
  #snapshot: ListenerSnapshot
  #policy: Policy
  #isOver = false

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

  /** The listener is no more: nobody comes in, and sessions that came by it have the rights of `absent`. */
  close(absent: () => Policy | undefined): void {
    this.#isOver = true
    this.#policy = Object.freeze({
      ...closedPolicy,
      authorize: (identity, access, topic) => (absent() ?? closedPolicy).authorize(identity, access, topic),
      authorizeFilter: (identity, filter) => (absent() ?? closedPolicy).authorizeFilter(identity, filter)
    } satisfies Policy)
    // The sessions that came by it may live long; what was read for it need not.
    this.#snapshot = { config: this.config, acl: closedAcl }
  }

  /** Would this client still come in by the door it came by? */
  recheck({ connection, admitted }: ClientFacts): Verdict | SlowVerdict {
    if (this.#isOver) return { reason: 'listener-removed', loss: 'listener-removed' }
    const objection = objectionTo(connection, this.#snapshot, { isConnected: true })
    if (objection !== undefined) return objection
    const explain = (admission: Admission): Verdict => (admission.ok ? admission : dismissal(admission.refusal, admitted, this.#snapshot))
    const verdict = this.#policy.recheck(asAskedFor(connection, this.#snapshot), admitted)
    return typeof verdict === 'function' ? () => verdict().then(explain) : explain(verdict)
  }

  /** When the certificate of a client that is connected, and was good at `since`, is to be looked at again; undefined: never. Milliseconds since 1970. */
  nextLook({ tls }: Connection, since: number): number | undefined {
    const material = this.#snapshot.tls
    if (!material?.requireCertificate || material.peers.sparesConnected || tls?.certificate === undefined) return undefined
    return nextLook(tls.certificate, material, new Date(since))
  }

  /** What time has made of the certificate of a client that is connected; undefined: it stands. */
  outdated({ tls }: Connection): Dismissal | undefined {
    const material = this.#snapshot.tls
    if (material === undefined) return undefined
    const verdict = recheckPeer(tls?.certificate, material, new Date())
    // A list that has expired says nothing of this client: it is for those who come, and for a reload.
    if (verdict.ok || /^crl-/.test(verdict.reason)) return undefined
    // Nobody has done anything, so that this is no administrative action [MQTT5 3.14.2.1].
    return { ...certificateObjection(verdict.reason, verdict.words), reason: 'not-authorised' }
  }

  /** What the log says of the listener: at its start, and when a reload changes it. */
  get logFields(): LogFields<'listenerEnforces'> {
    const { config, shadow } = this.#snapshot
    return enforcedBy(config, shadow?.path)
  }
}

/** What a listener asks of those who connect. `aclShadow`: the file of `#!acl_shadow`. */
export function enforcedBy(config: ListenerConfig, aclShadow: string | undefined): LogFields<'listenerEnforces'> {
  const { tls, psk, security, username, clientIdMustMatch } = config
  return {
    listener: listenerName(config),
    certificate: !tls?.requireCertificate ? 'not asked for' : tls.peers.forgivesDates ? 'required, whatever its dates' : 'required',
    username,
    anonymous: security.allowAnonymous,
    ...(clientIdMustMatch !== undefined && { clientId: clientIdMustMatch }),
    ...(tls && { tls: tls.minVersion }),
    ...(psk && { tls: 'TLSv1.2', pskFile: psk.file.path }),
    ...(security.passwordFile && { passwordFile: security.passwordFile.path }),
    ...(security.aclFile && { aclFile: security.aclFile.path }),
    ...(aclShadow !== undefined && { aclShadow })
  }
}

function policyOf(snapshot: ListenerSnapshot, means: PolicyMeans): Policy {
  const { config, acl, shadow, passwords, clientIdPrefix } = snapshot
  const policy = buildPolicy({ listener: config, acl, shadow: shadow?.acl, passwords, clientIdPrefix, ...means })
  return Object.freeze({
    ...policy,
    // The rest of a CONNECT may come, and its password be hashed, after a reload that judged only who was in.
    authenticate: async (connection, credentials) =>
      stillStands(connection, snapshot)
        ? policy.authenticate(asAskedFor(connection, snapshot), credentials)
        : { ok: false, refusal: 'not-authorised' }
  } satisfies Policy)
}

/** Would the transport of this connection, TLS and certificate, be accepted now? No question for one that came by these very settings. */
function stillStands(connection: Connection, snapshot: ListenerSnapshot): boolean {
  return objectionTo(connection, snapshot) === undefined
}

// A certificate that a reload asks nobody for any more is judged no more either: it names nobody and gives no rights.
function asAskedFor(connection: Connection, { tls }: ListenerSnapshot): Connection {
  if (tls?.requireCertificate || connection.tls?.certificate === undefined) return connection
  const { certificate: _, ...rest } = connection.tls
  return { ...connection, tls: rest }
}

function objectionTo({ listener, tls }: Connection, snapshot: ListenerSnapshot, { isConnected = false } = {}): Dismissal | undefined {
  if (snapshot.tls === undefined || listener === snapshot.config) return undefined
  if (tls === undefined) return objection('tls-required')
  const fault = recheckPsk(tls.psk, snapshot.tls)
  if (fault !== undefined) return objection('psk', fault.words)
  if (isConnected && snapshot.tls.peers.sparesConnected && tls.certificate !== undefined) return undefined
  const verdict = recheckPeer(tls.certificate, snapshot.tls, new Date())
  return verdict.ok ? undefined : certificateObjection(verdict.reason, verdict.words)
}

// The words for the log may name a CA and a date; the client is told the short ones.
function certificateObjection(loss: LossReason, why: string): Dismissal {
  return { ...objection(loss, why), ofCertificate: describeLoss(loss) }
}

function objection(loss: LossReason, why = describeLoss(loss)): Dismissal {
  return { reason: 'administrative-action', loss, why }
}

function dismissal(refusal: Refusal, admitted: Admitted, snapshot: ListenerSnapshot): Dismissal {
  const loss = lossOf(refusal, admitted, snapshot)
  return { reason: 'not-authorised', loss, why: describeLoss(loss) }
}

// The policy says no and not why: strangers are told nothing. This is for the log, of a client that was in.
function lossOf(
  refusal: Refusal,
  { credentials: { clientId, username } }: Admitted,
  { config, passwords, clientIdPrefix }: ListenerSnapshot
): LossReason {
  if (refusal === 'busy') return 'busy'
  if (refusal === 'client-id') return 'client-id'
  if (clientIdPrefix !== undefined && !clientId.startsWith(clientIdPrefix)) return 'client-id'
  if (config.username !== 'from-connect') return 'no-username'
  if (username === undefined || passwords === undefined) return 'anonymous'
  return passwords.has(username) ? 'password' : 'unknown-user'
}
