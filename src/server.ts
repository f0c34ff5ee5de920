// The whole broker in one value: reads a configuration, opens what it names, reads it again, closes. Owns the current snapshot and is
// the only place that wires the parts.

import { setTimeout as sleep } from 'node:timers/promises'
import { isDeepStrictEqual } from 'node:util'
import { openPasswordHasher, type PasswordHasher } from './auth/password-hash.js'
import type { Policy } from './auth/policy.js'
import { LoginThrottle } from './auth/throttle.js'
import { Broker } from './broker/broker.js'
import type { EngineLimits } from './broker/engine.js'
import type { Config, ListenerConfig, LogConfig, LogType, Verbosity } from './config/types.js'
import { closedPolicy, Enforcement, type PolicyMeans } from './enforcement.js'
import { BrokerError, type Problem, ProblemsError } from './errors.js'
import { type KeylogFile, openKeylog } from './keylog.js'
import { type OpenLog, openLog } from './log.js'
import type { Log } from './log-events.js'
import type { BoundAddress } from './net/bind.js'
import { type ConnectionTotal, type Listener, type ListenerSetup, openListener } from './net/listener.js'
import { listenerKey, listenerName, planReload, type ReloadPlan } from './reload.js'
import { type ConfigSource, type ListenerSnapshot, readConfig, readSnapshot, type Snapshot } from './snapshot.js'
import { openMemoryStore } from './store/memory.js'
import { openRedisStore, type RedisStore } from './store/redis.js'
import { version } from './version.js'

export interface ServerOptions {
  /** Path of a mosquitto.conf. Absent: Mosquitto's defaults, port 1883 of this machine, for everybody. */
  readonly config?: string
  /** Ports instead of 1883 where the configuration opens none. */
  readonly ports?: readonly number[]
  /** `verbose` logs everything and `quiet` nothing, whatever the configuration says. */
  readonly verbosity?: Verbosity
  /** Where `MOSQUITERO_…` variables are looked up; none when left out. */
  readonly env?: Readonly<Record<string, string | undefined>>
  /** What the broker calls itself in its log. */
  readonly name?: string
  /** A file that gets the TLS keys of every connection. Whoever reads it reads the traffic. */
  readonly tlsKeylog?: string
  /** Nobody will read stdout and stderr once the broker runs: lines for them end then. */
  readonly detached?: boolean
  /** Gives up a start that is under way, such as one that waits for Redis. */
  readonly abandon?: AbortSignal
  /** Called once the configuration is read, before any other file is: where a process gives up its privileges. */
  beforeFiles?(config: Config, log: Log): void
}

interface Reload {
  readonly problems: readonly Problem[]
  /** Resolves with how many clients had to go; absent: nothing was applied. */
  readonly ended?: Promise<number>
}

export class Server {
  readonly log: OpenLog
  readonly broker: Broker
  readonly #options: ServerOptions
  readonly #hasher: PasswordHasher
  readonly #store: RedisStore | undefined
  readonly #listeners = new Map<string, Listener>()
  /** By every configuration object a listener has had: that of its start and of each reload. */
  readonly #enforced = new WeakMap<ListenerConfig, Enforcement>()
  readonly #keylog: KeylogFile | undefined
  /** Of all listeners, for `global_max_connections`. */
  readonly #total: ConnectionTotal
  readonly #started: Config
  #snapshot: Snapshot
  /** Reloads come one after the other, and none after the end. */
  #reloads: Promise<unknown> = Promise.resolve()
  #closed: Promise<void> | undefined

  private constructor(snapshot: Snapshot, log: OpenLog, options: ServerOptions) {
    const { store, limits } = snapshot.config
    this.log = log
    this.#options = options
    this.#started = snapshot.config
    this.#snapshot = snapshot
    this.#keylog = options.tlsKeylog === undefined ? undefined : openKeylog(options.tlsKeylog)
    this.#total = { count: 0, limit: limits.globalMaxConnections }
    this.#hasher = openPasswordHasher()
    this.#store = store.kind === 'redis' ? openRedisStore(store.url, log, store.at) : undefined
    const means: PolicyMeans = {
      hasher: this.#hasher,
      throttle: new LoginThrottle(),
      log,
      now: () => performance.now(),
      sleep: milliseconds => sleep(milliseconds, undefined, { ref: false })
    }
    for (const listener of snapshot.listeners) this.#enforced.set(listener.config, new Enforcement(listener, means))
    this.broker = new Broker({
      engine: {
        ...engineLimits(snapshot.config),
        log,
        policyOf: ({ listener }) => this.#enforced.get(listener)?.policy ?? closedPolicy,
        listenerOf: ({ listener }) => this.#enforced.get(listener)?.config ?? listener,
        policyOfAbsent: listener => this.#policyOfAbsent(listener),
        store: this.#store?.store ?? openMemoryStore()
      }
    })
  }

  /** Opens the store, then the listeners. What was opened is closed again when one of them cannot be. */
  static async open(snapshot: Snapshot, log: OpenLog, options: ServerOptions): Promise<Server> {
    const server = new Server(snapshot, log, options)
    const abandon = () => void server.#store?.close()
    options.abandon?.addEventListener('abort', abandon)
    try {
      // Redis that is away is waited for: a session that cannot be looked up could neither be resumed nor cleared.
      await server.#store?.ready
      await server.broker.listen()
      log.publishWith((suffix, line) => server.#publishLogLine(suffix, line))
      for (const listener of snapshot.listeners) await server.#openListener(listener)
      options.abandon?.throwIfAborted()
      return server
    } catch (error) {
      await server.#release()
      throw error
    } finally {
      options.abandon?.removeEventListener('abort', abandon)
    }
  }

  /** The configuration in force. */
  get config(): Config {
    return this.#snapshot.config
  }

  /** Where clients can connect: address and port, or the path of a Unix socket, in the order of the configuration. */
  get addresses(): readonly BoundAddress[] {
    return [...this.#listeners.values()].flatMap(({ addresses }) => addresses)
  }

  /**
   * Reads the configuration and all its files again, and applies them at once or, when anything is wrong, not at all. Resolves with what
   * was found: an `error` among it means that everything stays as it was.
   */
  async reload(): Promise<readonly Problem[]> {
    const read = this.#reloads.then(() => (this.#closed ? { problems: [] } : this.#reload()))
    this.#reloads = read.catch(() => {})
    const { problems, ended } = await read
    // Judging may take long, where many passwords are to be hashed: the next reload does not wait for it.
    if (ended !== undefined) this.log.write('reloaded', { disconnected: await ended })
    return problems
  }

  /** Stops accepting, ends every connection, closes the store. Bounded in time; a second call waits for the first. */
  close(): Promise<void> {
    this.#closed ??= this.#close()
    return this.#closed
  }

  async #reload(): Promise<Reload> {
    this.log.write('reloading', {})
    const { config, problems } = await readConfig(sourceOf(this.#options))
    const { snapshot, problems: found } = config ? await readSnapshot(config) : { problems: [] }
    const all = [...problems, ...found]
    if (!snapshot) return this.#refuseReload(all)
    const open = Array.from(this.#listeners.values(), listener => listener.config)
    const plan = planReload(this.#started, snapshot.config, open)
    const leftOpen = await readAgain(plan.removed, snapshot.config)
    // The end came while files were read: what is closed, such as the log, is not opened again.
    if (this.#closed) return { problems: all }
    try {
      this.log.reconfigure(visible(snapshot.config.log, this.#options), snapshot.config.connectionMessages)
    } catch (error) {
      if (!(error instanceof BrokerError)) throw error
      return this.#refuseReload([...all, ...problemsOf(error)])
    }
    writeProblems(this.log, all)
    this.#apply(snapshot, plan, leftOpen)
    return { problems: all, ended: this.broker.recheckClients(facts => this.#enforcementOf(facts.connection.listener).recheck(facts)) }
  }

  #refuseReload(problems: readonly Problem[]): Reload {
    writeProblems(this.log, problems)
    this.log.write('reloadRefused', {})
    return { problems }
  }

  // Everything that could fail has been done: from here on it is assignments.
  #apply(snapshot: Snapshot, plan: ReloadPlan, leftOpen: readonly ListenerSnapshot[]): void {
    for (const listener of plan.added) this.log.write('listenerNotAdded', { listener: listenerName(listener) })
    for (const listener of plan.removed) this.log.write('listenerNotRemoved', { listener: listenerName(listener) })
    for (const option of plan.restart) this.log.write('optionNeedsRestart', { option })
    this.#snapshot = snapshot
    this.#total.limit = snapshot.config.limits.globalMaxConnections
    for (const listener of [...snapshot.listeners, ...leftOpen]) this.#replace(listener)
    this.broker.applyLimits(engineLimits(snapshot.config))
  }

  #replace(snapshot: ListenerSnapshot): void {
    const listener = this.#listeners.get(listenerKey(snapshot.config))
    if (!listener) return
    const enforcement = this.#enforcementOf(listener.config)
    const before = enforcement.logFields
    enforcement.replace(snapshot)
    if (!isDeepStrictEqual(enforcement.logFields, before)) this.log.write('listenerEnforces', enforcement.logFields)
    this.#enforced.set(snapshot.config, enforcement)
    listener.update(this.#setupOf(snapshot))
  }

  #enforcementOf(listener: ListenerConfig): Enforcement {
    const enforcement = this.#enforced.get(listener)
    if (!enforcement) throw new TypeError('a connection of a listener that this server never opened')
    return enforcement
  }

  // With `per_listener_settings` a session has no rights without the listener it came by, as with Mosquitto.
  #policyOfAbsent(key: string | undefined): Policy | undefined {
    const listener = key === undefined ? undefined : this.#listeners.get(key)
    if (listener !== undefined) return this.#enforcementOf(listener.config).policy
    const [first] = this.#snapshot.listeners
    return first === undefined || this.#snapshot.config.perListenerSettings ? undefined : this.#enforcementOf(first.config).policy
  }

  #setupOf({ config, tls }: ListenerSnapshot): ListenerSetup {
    return { config, noDelay: this.#snapshot.config.setTcpNodelay, ...(tls && { material: tls }) }
  }

  async #openListener(snapshot: ListenerSnapshot): Promise<void> {
    const { config } = snapshot
    const keylog = this.#keylog
    const listener = await openListener(this.#setupOf(snapshot), {
      log: this.log,
      total: this.#total,
      onConnection: (stream, connection) => this.broker.accept(stream, connection),
      ...(keylog && { onKeylog: line => keylog.write(line) })
    })
    this.#listeners.set(listenerKey(config), listener)
    this.log.write('listenerEnforces', this.#enforcementOf(config).logFields)
  }

  // Quality of service 2 and an end after 20 seconds, as Mosquitto gives its log messages.
  #publishLogLine(suffix: string, line: string): void {
    this.broker.publish({
      cmd: 'publish',
      topic: `$SYS/broker/log/${suffix}`,
      payload: Buffer.from(line),
      qos: 2,
      dup: false,
      retain: false,
      properties: { messageExpiryInterval: 20 }
    })
  }

  async #close(): Promise<void> {
    this.log.write('terminating', { name: nameOf(this.#options), version })
    await this.#release()
    this.log.close()
  }

  async #release(): Promise<void> {
    this.log.publishWith(undefined)
    const closing = [...this.#listeners.values()].map(listener => listener.close())
    await this.broker.close()
    await Promise.allSettled([...closing, this.#store?.close(), this.#hasher.close()])
    this.#keylog?.close()
  }
}

/**
 * Starts a broker. Rejects with a ProblemsError (what a person wrote is wrong) or a BrokerError (a port, a file, an account); both are
 * logged already.
 */
export async function createServer(options: ServerOptions = {}): Promise<Server> {
  const name = nameOf(options)
  const early = openLog(defaultLog(options))
  let log = early
  try {
    const { config, problems } = await readConfig(sourceOf(options))
    if (!config) throw new ProblemsError(problems)
    options.beforeFiles?.(config, early)
    log = openLog(config.log, config.connectionMessages)
    early.close()
    log.write('starting', { name, version })
    if (config.file === undefined) log.write('configDefault', {})
    else log.write('configLoaded', { file: config.file })
    writeProblems(log, problems)
    if (config.localOnly) log.write('localOnly', {})
    const { snapshot, problems: found } = await readSnapshot(config)
    if (!snapshot) throw new ProblemsError(found)
    writeProblems(log, found)
    const server = await Server.open(snapshot, log, options)
    log.write('running', { name, version })
    if (options.detached) log.reconfigure(visible(config.log, options), config.connectionMessages)
    return server
  } catch (error) {
    writeProblems(log, problemsOf(error))
    log.close()
    throw error
  }
}

/** Reads a configuration and every file it names, and starts nothing. Rejects with a ProblemsError, whose problems are logged already. */
export async function checkConfiguration(options: ServerOptions): Promise<void> {
  const log = openLog(defaultLog({}))
  try {
    const read = await readConfig(sourceOf(options))
    const found = read.config && (await readSnapshot(read.config))
    const problems = [...read.problems, ...(found?.problems ?? [])]
    if (!found?.snapshot) throw new ProblemsError(problems)
    writeProblems(log, problems)
  } catch (error) {
    writeProblems(log, problemsOf(error))
    throw error
  } finally {
    log.close()
  }
}

/**
 * Listeners that the configuration names no more stay open until a restart: who is struck from their files has to go all the same. One
 * whose files are gone with its lines stays as it was.
 */
async function readAgain(listeners: readonly ListenerConfig[], config: Config): Promise<readonly ListenerSnapshot[]> {
  const read = listeners.map(listener => readSnapshot({ ...config, listeners: [{ ...listener }] }))
  return (await Promise.all(read)).flatMap(({ snapshot }) => snapshot?.listeners ?? [])
}

const nameOf = ({ name }: ServerOptions): string => name ?? 'mosquitero'

function sourceOf({ config, ports, verbosity, env }: ServerOptions): ConfigSource {
  return { file: config, ports, verbosity, env }
}

/** Until the configuration says otherwise. */
function defaultLog({ verbosity }: ServerOptions): LogConfig {
  const types: LogType[] = verbosity === 'quiet' ? [] : ['error', 'warning', 'notice', 'information']
  return { destinations: [{ kind: 'stderr' }], types: new Set(types), timestamp: true, format: 'mosquitto' }
}

/** Leaves out what nobody would see. */
function visible(config: LogConfig, { detached }: ServerOptions): LogConfig {
  if (!detached) return config
  return { ...config, destinations: config.destinations.filter(({ kind }) => kind !== 'stderr' && kind !== 'stdout') }
}

function engineLimits({ limits, delivery }: Config): EngineLimits {
  return { limits, delivery }
}

/** What a person can mend of what was thrown; a fault of ours is none of it. */
function problemsOf(error: unknown): readonly Problem[] {
  if (error instanceof ProblemsError) return error.problems
  if (!(error instanceof BrokerError)) return []
  const { code, message, at } = error
  return [{ severity: 'error', code, message, ...(at && { at }) }]
}

function writeProblems(log: Log, problems: readonly Problem[]): void {
  for (const problem of problems) log.write(problemEvents[problem.severity], problem)
}

const problemEvents = { error: 'problemError', warning: 'problemWarning', notice: 'problemNotice' } as const
