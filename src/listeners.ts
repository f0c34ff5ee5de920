// The listeners of a server and what is in force on each. A reload opens new ones beside the old, and can still take that back; then it
// swaps, and who came by one that is gone has to go.

import type { Duplex } from 'node:stream'
import { isDeepStrictEqual } from 'node:util'
import type { Connection } from './auth/identity.js'
import type { Policy } from './auth/policy.js'
import type { ClientFacts, SlowVerdict, Verdict } from './broker/broker.js'
import type { Dismissal } from './broker/dismissal.js'
import type { Config, ListenerConfig, TlsConfig } from './config/types.js'
import { closedPolicy, Enforcement, type PolicyMeans } from './enforcement.js'
import { BrokerError, errorMessage, type Problem } from './errors.js'
import type { Log } from './log-events.js'
import type { BoundAddress } from './net/bind.js'
import { bindListener, type ConnectionTotal, type Listener, type ListenerSetup } from './net/listener.js'
import { lostLists } from './net/revocation-loss.js'
import type { TlsMaterial } from './net/tls.js'
import { listenerKey, listenerName, type ReloadPlan } from './reload.js'
import type { ListenerSnapshot, Snapshot } from './snapshot.js'

export interface ListenersHost {
  readonly log: Log
  /** For the policy of each. */
  readonly means: PolicyMeans
  onSocket(): void
  onConnection(stream: Duplex, connection: Connection): void
  onKeylog?(line: Buffer): void
}

export interface SecuredListener {
  readonly port: number
  readonly config: TlsConfig
  readonly material: TlsMaterial
}

/** Listeners that are open and let nobody in yet. */
export interface Prepared {
  /** Closes them, and opens again what was closed to make room. */
  abandon(): Promise<void>
  readonly opened: ReadonlyMap<string, Listener>
}

export class Listeners {
  readonly #host: ListenersHost
  /** Of all of them, for `global_max_connections`. */
  readonly #total: ConnectionTotal
  #snapshot: Snapshot
  // Both by key, in the order of the configuration.
  #open = new Map<string, Listener>()
  #inForce = new Map<string, Enforcement>()
  /** By every configuration object a listener has had: that of its start and of each reload. */
  readonly #enforced = new WeakMap<ListenerConfig, Enforcement>()
  #isClosed = false

  constructor(snapshot: Snapshot, host: ListenersHost) {
    this.#host = host
    this.#snapshot = snapshot
    this.#total = { count: 0, limit: snapshot.config.limits.globalMaxConnections }
    for (const listener of snapshot.listeners) this.#enforce(listener)
  }

  get addresses(): readonly BoundAddress[] {
    return [...this.#open.values()].flatMap(({ addresses }) => addresses)
  }

  /** Those that speak TLS, with the port that is really open; 0: a Unix socket. */
  get secured(): readonly SecuredListener[] {
    return [...this.#open.values()].flatMap(({ config: { tls }, material, port }) =>
      tls && material ? [{ port, config: tls, material }] : []
    )
  }

  get configs(): readonly ListenerConfig[] {
    return Array.from(this.#open.values(), ({ config }) => config)
  }

  policyOf(listener: ListenerConfig): Policy {
    return this.#enforced.get(listener)?.policy ?? closedPolicy
  }

  /** A listener as it is configured now. */
  configOf(listener: ListenerConfig): ListenerConfig {
    return this.#enforced.get(listener)?.config ?? listener
  }

  // With `per_listener_settings` a session has no rights without the listener it came by, as with Mosquitto.
  policyOfAbsent(key: string | undefined): Policy | undefined {
    const enforcement = key === undefined ? undefined : this.#inForce.get(key)
    if (enforcement !== undefined) return enforcement.policy
    const [first] = this.#inForce.values()
    return this.#snapshot.config.perListenerSettings ? undefined : first?.policy
  }

  recheck(facts: ClientFacts): Verdict | SlowVerdict {
    const enforcement = this.#enforced.get(facts.connection.listener)
    if (!enforcement) throw new TypeError('a connection of a listener that this server never opened')
    return enforcement.recheck(facts)
  }

  nextLook(connection: Connection, since: number): number | undefined {
    return this.#enforced.get(connection.listener)?.nextLook(connection, since)
  }

  outdated(connection: Connection): Dismissal | undefined {
    return this.#enforced.get(connection.listener)?.outdated(connection)
  }

  /** Opens all of them, or none, and then lets clients in. */
  async openAll(): Promise<void> {
    const { listeners, config } = this.#snapshot
    const { opened } = await this.#bindAll(listeners, config, [])
    this.#open = new Map(opened)
    for (const key of opened.keys()) this.#begin(key)
  }

  /** Why this snapshot would lock clients out that are let in now. */
  lostLists({ listeners }: Snapshot): readonly Problem[] {
    const now = new Date()
    return listeners.flatMap(({ config, tls }) => {
      const before = this.#open.get(listenerKey(config))?.material
      return config.tls && tls && before ? lostLists(config.tls, before, tls, now) : []
    })
  }

  /** Opens what is new, or rejects with a BrokerError and everything is as it was. */
  prepare(plan: ReloadPlan, snapshot: Snapshot): Promise<Prepared> {
    const added = snapshot.listeners.filter(({ config }) => plan.added.includes(config))
    const removed = plan.removed.flatMap(config => this.#open.get(listenerKey(config)) ?? [])
    return this.#bindAll(added, snapshot.config, removed)
  }

  /** Puts another snapshot in force. What can fail has been done by `prepare`. */
  swap(plan: ReloadPlan, snapshot: Snapshot, { opened }: Prepared): void {
    this.#snapshot = snapshot
    this.#total.limit = snapshot.config.limits.globalMaxConnections
    for (const config of plan.removed) this.#remove(config)
    for (const listener of snapshot.listeners) {
      const key = listenerKey(listener.config)
      if (opened.has(key)) this.#enforce(listener)
      else this.#replace(key, listener)
    }
    const keys = snapshot.listeners.map(({ config }) => listenerKey(config))
    this.#open = inOrder(keys, new Map([...this.#open, ...opened]))
    this.#inForce = inOrder(keys, this.#inForce)
    for (const key of opened.keys()) this.#begin(key)
  }

  async close(): Promise<void> {
    this.#isClosed = true
    await Promise.allSettled([...this.#open.values()].map(listener => listener.close()))
  }

  #enforce(listener: ListenerSnapshot): void {
    const enforcement = new Enforcement(listener, this.#host.means)
    this.#enforced.set(listener.config, enforcement)
    // Of two lines with one address the first has it.
    const key = listenerKey(listener.config)
    if (!this.#inForce.has(key)) this.#inForce.set(key, enforcement)
  }

  #begin(key: string): void {
    const enforcement = this.#inForce.get(key)
    if (enforcement) this.#host.log.write('listenerEnforces', enforcement.logFields)
    this.#open.get(key)?.begin()
  }

  #replace(key: string, read: ListenerSnapshot): void {
    const enforcement = this.#inForce.get(key)
    if (!enforcement) return
    const snapshot = withMaterialInUse(read, this.#open.get(key)?.material)
    const before = enforcement.logFields
    enforcement.replace(snapshot)
    if (!isDeepStrictEqual(enforcement.logFields, before)) this.#host.log.write('listenerEnforces', enforcement.logFields)
    this.#enforced.set(snapshot.config, enforcement)
    this.#open.get(key)?.update(setupOf(snapshot, this.#snapshot.config))
  }

  #remove(config: ListenerConfig): void {
    const key = listenerKey(config)
    void this.#open.get(key)?.close()
    this.#open.delete(key)
    this.#inForce.get(key)?.close(() => this.policyOfAbsent(key))
    this.#inForce.delete(key)
    this.#host.log.write('listenerRemoved', { listener: listenerName(config) })
  }

  async #bindAll(listeners: readonly ListenerSnapshot[], config: Config, leaving: readonly Listener[]): Promise<Prepared> {
    const opened = new Map<string, Listener>()
    const shut = new Set<Listener>()
    const abandon = async (): Promise<void> => {
      await Promise.allSettled([...opened.values()].map(listener => listener.close()))
      for (const listener of shut) await this.#openAgain(listener)
    }
    try {
      for (const listener of listeners) {
        const rivals = leaving.filter(other => other.config.port === listener.config.port && !shut.has(other))
        opened.set(listenerKey(listener.config), await this.#bind(setupOf(listener, config), rivals, shut))
      }
      return { opened, abandon }
    } catch (error) {
      await abandon()
      throw error
    }
  }

  /** Where the address is one that a leaving listener has, as one address of all of them, that one makes room first. */
  async #bind(setup: ListenerSetup, rivals: readonly Listener[], shut: Set<Listener>): Promise<Listener> {
    try {
      return await this.#listen(setup)
    } catch (error) {
      if (rivals.length === 0 || !(error instanceof BrokerError && error.code === 'ERR_LISTEN_ADDRESS_IN_USE')) throw error
    }
    for (const rival of rivals) {
      rival.shut()
      shut.add(rival)
    }
    return this.#listen(setup)
  }

  #listen(setup: ListenerSetup): Promise<Listener> {
    const { log, onSocket, onConnection, onKeylog } = this.#host
    return bindListener(setup, {
      log,
      total: this.#total,
      onSocket: () => onSocket(),
      onConnection: (stream, connection) => onConnection(stream, connection),
      ...(onKeylog && { onKeylog: line => onKeylog(line) })
    })
  }

  async #openAgain(listener: Listener): Promise<void> {
    if (this.#isClosed) return
    try {
      await listener.open()
      if (this.#isClosed) await listener.close()
    } catch (error) {
      this.#host.log.write('listenerLost', { listener: listenerName(listener.config), reason: errorMessage(error) })
    }
  }
}

/** Where the files hold what they held the material stays, with the CAs that clients have shown: handshakes and what is asked later share it. */
function withMaterialInUse(read: ListenerSnapshot, inUse: TlsMaterial | undefined): ListenerSnapshot {
  return inUse !== undefined && inUse.digest === read.tls?.digest ? { ...read, tls: inUse } : read
}

function setupOf({ config, tls }: ListenerSnapshot, { setTcpNodelay }: Config): ListenerSetup {
  return { config, noDelay: setTcpNodelay, ...(tls && { material: tls }) }
}

function inOrder<T>(keys: readonly string[], map: ReadonlyMap<string, T>): Map<string, T> {
  const sorted = new Map<string, T>()
  for (const key of keys) {
    const value = map.get(key)
    if (value !== undefined) sorted.set(key, value)
  }
  return sorted
}
