// The whole broker in one value: reads a configuration, opens what it names, reads it again, closes. Owns the current snapshot and is
// the only place that wires the parts.

import { setTimeout as sleep } from 'node:timers/promises'
import type { Administration } from './admin/report.js'
import { openPasswordHasher, type PasswordHasher } from './auth/password-hash.js'
import { LoginThrottle } from './auth/throttle.js'
import type { AclCounts } from './broker/acl-log.js'
import { Broker, type BrokerOptions, type Losses } from './broker/broker.js'
import type { EngineLimits } from './broker/engine.js'
import { changesBetween } from './changes.js'
import type { ConfigObject } from './config/object.js'
import type { Config, ListenerConfig, LogConfig, LogType, Verbosity } from './config/types.js'
import { EnrolmentDoor, enrolmentProblems, type PreparedEnrolment } from './enrolment-door.js'
import { BrokerError, errorMessage, type Problem, ProblemsError } from './errors.js'
import { type ExpiryHost, ExpiryReport } from './expiry-report.js'
import { FileReader } from './files.js'
import { type KeylogFile, openKeylog } from './keylog.js'
import { Listeners, type Prepared } from './listeners.js'
import { type OpenLog, openLog } from './log.js'
import type { Log } from './log-events.js'
import { type AdminSocket, openAdminSocket } from './net/admin-server.js'
import type { BoundAddress } from './net/bind.js'
import { loadOwnCertificate, loadRedisStore } from './on-demand.js'
import { CertificateKeeper } from './pki/certificate-keeper.js'
import type { Draft } from './pki/own-certificate.js'
import { listenerKeyAt, listenerName, lostListeners, planReload, type ReloadPlan } from './reload.js'
import { mostListed, type ReloadReport, type ReloadResult } from './reload-report.js'
import { type ConfigSource, type Reading, readAll, readConfig, readSnapshot, type Snapshot } from './snapshot.js'
import { Autosave } from './store/autosave.js'
import { DiskStore } from './store/disk.js'
import { openMemoryStore } from './store/memory.js'
import type { RedisStore } from './store/redis.js'
import { version } from './version.js'
import { FileWatch, watchTimes } from './watch/file-watch.js'

/** What `createServer` takes. */
export interface ServerOptions {
  /** Path of a mosquitto.conf, or what one would say as an object. Absent: Mosquitto's defaults, port 1883 of this machine, for everybody. */
  readonly config?: string | ConfigObject
  /** Asked beside what the configuration decides, and never instead of it: both must agree. As Aedes knows them. */
  readonly hooks?: ServerHooks
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
  /** Called after each reload, whoever asked for it: a program, a signal, `#!watch_files`, an administrator. */
  onReload?(report: ReloadReport): void
  /** Gives up a start that is under way, such as one that waits for Redis. */
  readonly abandon?: AbortSignal
  /** Called once the configuration is read, before any other file is: where a process gives up its privileges. @internal */
  beforeFiles?(config: Config, log: Log): void | Promise<void>
}

/** Aedes' hooks. Each gets what it gets there; see docs/from-aedes.md. */
export type ServerHooks = Pick<
  BrokerOptions,
  'preConnect' | 'authenticate' | 'authorizePublish' | 'authorizeSubscribe' | 'authorizeForward' | 'published'
>

/** How long a stop may take to write `persistence_file`, milliseconds. */
const saveLimit = 60_000

/** Of files that changed, so many are named. */
const mostNamed = 5

/** A reload so far. */
interface Reload {
  readonly problems: readonly Problem[]
  /** There was nothing to do: not worth mentioning. */
  readonly isNothing?: true
  /** What was applied; absent: nothing. */
  readonly done?: Omit<ReloadResult, 'disconnected'>
  /** Resolves with who had to go. */
  readonly ended?: Promise<Losses>
}

/** What a reload needs is open, and nobody comes in yet. */
interface AllPrepared {
  readonly listeners: Prepared
  readonly enrolment: PreparedEnrolment
}

/** A broker that runs. `createServer` makes one. */
export class Server {
  /** @internal */
  readonly log: OpenLog
  /** Our Aedes: its hooks are `options.hooks`, its events and `publish` are for use. */
  readonly broker: Broker
  readonly #options: ServerOptions
  readonly #hasher: PasswordHasher
  readonly #redis: RedisStore | undefined
  readonly #disk: DiskStore | undefined
  readonly #autosave: Autosave | undefined
  readonly #listeners: Listeners
  readonly #keylog: KeylogFile | undefined
  readonly #started: Config
  readonly #expiry: ExpiryReport
  #snapshot: Snapshot
  /** What was read last, whether it could be used or not. */
  #files: FileReader
  /** With `#!watch_files`. */
  #watch: FileWatch | undefined
  #adminSocket: AdminSocket | undefined
  readonly #enrolment: EnrolmentDoor
  readonly #keeper: CertificateKeeper
  /** Reloads come one after the other, and none after the end. */
  #reloads: Promise<unknown> = Promise.resolve()
  #closed: Promise<void> | undefined

  private constructor(
    snapshot: Snapshot,
    files: FileReader,
    log: OpenLog,
    options: ServerOptions,
    keeper: CertificateKeeper,
    redis: RedisStore | undefined
  ) {
    const { store } = snapshot.config
    this.log = log
    this.#options = options
    this.#started = snapshot.config
    this.#snapshot = snapshot
    this.#files = files
    this.#keeper = keeper
    const keylog = options.tlsKeylog === undefined ? undefined : openKeylog(options.tlsKeylog)
    this.#keylog = keylog
    this.#hasher = openPasswordHasher()
    this.#enrolment = new EnrolmentDoor(log, options.env?.MOSQUITERO_CA_PASSPHRASE)
    this.#redis = redis
    this.#disk = store.kind === 'disk' ? openDisk(store.file, snapshot.config, log) : undefined
    this.#autosave = this.#disk && new Autosave(this.#disk)
    this.#listeners = new Listeners(snapshot, {
      log,
      means: {
        hasher: this.#hasher,
        throttle: new LoginThrottle(),
        log,
        now: () => performance.now(),
        sleep: milliseconds => sleep(milliseconds, undefined, { ref: false })
      },
      onSocket: () => this.broker.noteSocket(),
      onConnection: (stream, connection) => this.broker.accept(stream, connection),
      ...(keylog && { onKeylog: line => keylog.write(line) })
    })
    this.#expiry = new ExpiryReport(this.#expiryHost())
    this.broker = new Broker({
      ...options.hooks,
      engine: {
        ...engineLimits(snapshot.config),
        log,
        policyOf: ({ listener }) => this.#listeners.policyOf(listener),
        listenerOf: ({ listener }) => this.#listeners.configOf(listener),
        policyOfAbsent: listener => this.#listeners.policyOfAbsent(listener),
        certificates: {
          nextLook: (transport, since) => this.#listeners.nextLook(transport, since),
          outdated: transport => this.#listeners.outdated(transport),
          sysTopics: lost => this.#expiry.sysTopics(lost)
        },
        store: this.#redis?.store ?? this.#disk ?? openMemoryStore()
      }
    })
  }

  #expiryHost(): ExpiryHost {
    const server = this
    return {
      log: this.log,
      get days() {
        return server.config.expiryWarning
      },
      get listeners() {
        return server.#listeners.secured
      },
      eachCertificate: visit => this.broker.eachCertificate(visit),
      warn: problems => writeProblems(this.log, problems),
      now: () => new Date()
    }
  }

  /** Opens the store, then the listeners. What was opened is closed again when one of them cannot be. */
  static async open(
    snapshot: Snapshot,
    files: FileReader,
    log: OpenLog,
    options: ServerOptions,
    keeper: CertificateKeeper
  ): Promise<Server> {
    const { store } = snapshot.config
    const redis = store.kind === 'redis' ? (await loadRedisStore()).openRedisStore(store.url, log, store.at) : undefined
    const server = new Server(snapshot, files, log, options, keeper, redis)
    const abandon = () => void redis?.close()
    options.abandon?.addEventListener('abort', abandon)
    if (options.abandon?.aborted) abandon()
    try {
      // Redis that is away is waited for: a session that cannot be looked up could neither be resumed nor cleared.
      await redis?.ready
      await server.broker.listen()
      server.#autosave?.configure(snapshot.config.autosave)
      log.publishWith((suffix, line) => server.#publishLogLine(suffix, line))
      await server.#listeners.openAll()
      const enrolment = await server.#enrolment.prepare(snapshot)
      enrolment.apply()
      server.#expiry.begin()
      await server.#openAdminSocket()
      options.abandon?.throwIfAborted()
      server.#followFiles()
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

  /** To look into the running broker: what `#!admin_socket` serves, in this process. */
  get admin(): Administration {
    return this.broker.administration
  }

  /** What the ACL files have denied since the start, by rule, and what the file of `#!acl_shadow` would have decided otherwise. */
  get aclCounts(): AclCounts {
    return this.broker.aclCounts
  }

  /** Where clients can connect: address and port, or the path of a Unix socket, in the order of the configuration. */
  get addresses(): readonly BoundAddress[] {
    return this.#listeners.addresses
  }

  /** The TCP ports among them, in the same order, each once. */
  get ports(): readonly number[] {
    return [...new Set(this.addresses.flatMap(address => (address.family === 'unix' ? [] : [address.port])))]
  }

  /** Of `#!enrolment_listener`; undefined: there is none. */
  get enrolmentPort(): number | undefined {
    return this.#enrolment.port
  }

  /**
   * Reads the configuration and all its files again, and applies them at once or, when anything is wrong, not at all. Resolves with what
   * was found and done, once everybody who lost a right is gone.
   */
  reload(): Promise<ReloadReport> {
    return this.#reloadNext(() => this.#reload())
  }

  async #reloadNext(reload: () => Promise<Reload>): Promise<ReloadReport> {
    const read = this.#reloads.then((): Reload | Promise<Reload> => (this.#closed ? { problems: [], isNothing: true } : reload()))
    this.#reloads = read.catch(() => {})
    const { problems, done = nothingDone, ended, isNothing } = await read
    // Judging may take long, where many passwords are to be hashed: the next reload does not wait for it.
    const result = { ...done, disconnected: ended === undefined ? [] : countLosses(await ended) }
    if (ended !== undefined) this.log.write('reloaded', result)
    const report = { problems, applied: ended !== undefined, ...result }
    if (!isNothing) this.#tellReload(report)
    return report
  }

  /** `persistence_file` is being written. */
  get isSaving(): boolean {
    return this.#disk?.isSaving ?? false
  }

  /** Writes `persistence_file` in Mosquitto's format; false: there is no store that does. What goes wrong is said in the log. */
  async save(): Promise<boolean> {
    await this.#disk?.save()
    return this.#disk !== undefined
  }

  /** Stops accepting, ends every connection, closes the store. Bounded in time; a second call waits for the first. */
  close(): Promise<void> {
    this.#closed ??= this.#close()
    return this.#closed
  }

  #tellReload(report: ReloadReport): void {
    try {
      this.#options.onReload?.(report)
    } catch (error) {
      this.log.write('embedderFault', { reason: errorMessage(error) })
    }
  }

  async #reload(): Promise<Reload> {
    this.log.write('reloading', {})
    return this.#applyReading(await this.#readAll())
  }

  /** Files are not what they were. Quiet where they hold what they held, as after `touch`, and so about each mistake once. */
  async #reloadChanged(): Promise<Reload> {
    const before = this.#files
    const reading = await this.#readAll()
    if (this.#closed || reading.files.hasSameContent(before)) {
      this.#followFiles(reading.files)
      return { problems: reading.problems, isNothing: true }
    }
    const changed = reading.files.changedSince(before)
    this.log.write('filesChanged', { files: changed.slice(0, mostNamed), more: Math.max(0, changed.length - mostNamed) })
    this.log.write('reloading', {})
    return this.#applyReading(reading)
  }

  #readAll(): Promise<Reading> {
    return readAll(sourceOf(this.#options), config => this.#keeper.prepare(config))
  }

  async #applyReading(reading: Reading): Promise<Reload> {
    try {
      return await this.#applySnapshot(reading)
    } finally {
      this.#followFiles(reading.files)
    }
  }

  async #applySnapshot({ snapshot, problems: all }: Reading): Promise<Reload> {
    if (!snapshot) return this.#refuseReload(all)
    // The end came while files were read: what is closed, such as the log, is not opened again.
    if (this.#closed) return { problems: all }
    const lost = [...lostListeners(this.#listeners.configs, snapshot.config), ...this.#listeners.lostLists(snapshot)]
    if (lost.length > 0) return this.#refuseReload([...all, ...lost])
    const plan = planReload(this.#started, snapshot.config, this.#listeners.configs)
    const prepared = await this.#prepare(plan, snapshot)
    if (prepared instanceof BrokerError) return this.#refuseReload([...all, ...problemsOf(prepared)])
    if (this.#closed) {
      await prepared.listeners.abandon()
      await prepared.enrolment.abandon()
      return { problems: all }
    }
    writeProblems(this.log, all)
    const changed = changesBetween(this.#snapshot, snapshot)
    this.#apply(snapshot, plan, prepared)
    return {
      problems: all,
      done: { changed, needsRestart: plan.restart, listeners: { added: namesOf(plan.added), removed: namesOf(plan.removed) } },
      ended: this.broker.recheckClients(facts => this.#listeners.recheck(facts))
    }
  }

  /** Changes of these files are waited for from now on, if they are to be. */
  #followFiles(files = this.#files): void {
    this.#files = files
    if (this.#closed !== undefined || !this.#snapshot.config.watchFiles) {
      this.#watch?.close()
      this.#watch = undefined
      return
    }
    this.#watch ??= new FileWatch({
      changed: () => {
        this.#reloadNext(() => this.#reloadChanged()).catch((error: unknown) => this.log.write('fault', { reason: errorMessage(error) }))
      },
      unwatched: (folder, reason) => this.log.write('folderNotWatched', { folder, reason, seconds: watchTimes.poll / 1000 })
    })
    this.#watch.follow(files.paths)
  }

  #refuseReload(problems: readonly Problem[]): Reload {
    writeProblems(this.log, problems)
    this.log.write('reloadRefused', {})
    return { problems }
  }

  // Everything that can fail, and can be taken back.
  async #prepare(plan: ReloadPlan, snapshot: Snapshot): Promise<AllPrepared | BrokerError> {
    let listeners: Prepared | undefined
    let enrolment: PreparedEnrolment | undefined
    try {
      listeners = await this.#listeners.prepare(plan, snapshot)
      enrolment = await this.#enrolment.prepare(snapshot)
      if (!this.#closed) this.log.reconfigure(visible(snapshot.config.log, this.#options), snapshot.config.connectionMessages)
      return { listeners, enrolment }
    } catch (error) {
      await listeners?.abandon()
      await enrolment?.abandon()
      if (error instanceof BrokerError) return error
      throw error
    }
  }

  // Everything that could fail has been done: from here on it is assignments.
  #apply(snapshot: Snapshot, plan: ReloadPlan, { listeners, enrolment }: AllPrepared): void {
    for (const option of plan.restart) this.log.write('optionNeedsRestart', { option })
    this.#snapshot = snapshot
    this.#listeners.swap(plan, snapshot, listeners)
    enrolment.apply()
    this.#autosave?.configure(snapshot.config.autosave)
    this.broker.applyLimits(engineLimits(snapshot.config))
  }

  async #openAdminSocket(): Promise<void> {
    const service = {
      administration: this.admin,
      name: nameOf(this.#options),
      version,
      reload: () => {
        this.log.write('administratorReloads', {})
        return this.reload()
      }
    }
    this.#adminSocket = await openAdminSocket(this.config.adminSocket, service, this.log)
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

  // The way back to Mosquitto, if that is to be had in time.
  async #closeDisk(): Promise<void> {
    this.#autosave?.stop()
    if (this.#disk?.up) await this.#disk.saveRest(AbortSignal.timeout(saveLimit))
    await this.#disk?.close()
  }

  async #close(): Promise<void> {
    this.broker.logAclCounts()
    this.log.write('terminating', { name: nameOf(this.#options), version })
    await this.#release()
    this.log.close()
  }

  async #release(): Promise<void> {
    this.log.publishWith(undefined)
    this.#watch?.close()
    this.#expiry.end()
    this.#keeper.close()
    const closing = [this.#listeners.close(), this.#enrolment.close(), this.#adminSocket?.close()]
    await this.broker.close()
    await Promise.allSettled([...closing, this.#redis?.close(), this.#closeDisk(), this.#hasher.close()])
    this.#keylog?.close()
  }
}

/**
 * Starts a broker; a text is the path of a mosquitto.conf. Rejects with a ProblemsError (what a person wrote is wrong) or a BrokerError (a
 * port, a file, an account); both are logged already.
 */
export async function createServer(given: string | ServerOptions = {}): Promise<Server> {
  const options: ServerOptions = typeof given === 'string' ? { config: given } : given
  const name = nameOf(options)
  const early = openLog(defaultLog(options))
  let log = early
  try {
    const unknown = unknownOptions(options)
    if (unknown.length > 0) throw new ProblemsError(unknown)
    const files = new FileReader()
    const { config, problems } = await readConfig(sourceOf(options), files)
    if (!config) throw new ProblemsError(problems)
    await options.beforeFiles?.(config, early)
    log = openLog(config.log, config.connectionMessages)
    early.close()
    log.write('starting', { name, version })
    if (options.config === undefined) log.write('configDefault', {})
    else if (config.file !== undefined) log.write('configLoaded', { file: config.file })
    writeProblems(log, problems)
    if (config.localOnly) log.write('localOnly', {})
    let server: Server | undefined
    const fault = (error: unknown) => log.write('fault', { reason: errorMessage(error) })
    const keeper = new CertificateKeeper({
      log,
      env: options.env ?? {},
      ensure: async asked => (await loadOwnCertificate()).ensureOwnCertificate(asked),
      renewed: () => server?.reload().catch(fault)
    })
    const failed = await keeper.prepare(config)
    const { snapshot, problems: found } = failed.length > 0 ? { problems: failed } : await readSnapshot(config, files)
    if (!snapshot) {
      keeper.close()
      throw new ProblemsError(found)
    }
    writeProblems(log, found)
    server = await Server.open(snapshot, files, log, options, keeper)
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
    const { config, problems } = await readConfig(sourceOf(options))
    if (!config) throw new ProblemsError(problems)
    const { given, problems: failed } = await draft(config, options.env ?? {})
    const { snapshot, problems: found } = await readSnapshot(config, new FileReader(given))
    const unsigned = await enrolmentProblems(config, options.env ?? {})
    const all = [...problems, ...failed, ...found, ...unsigned]
    if (!snapshot || failed.length > 0 || unsigned.length > 0) throw new ProblemsError(all)
    writeProblems(log, all)
  } catch (error) {
    writeProblems(log, problemsOf(error))
    throw error
  } finally {
    log.close()
  }
}

async function draft(config: Config, env: NonNullable<ServerOptions['env']>): Promise<Draft> {
  if (config.ownCertificate === undefined) return { given: new Map(), problems: [] }
  const { draftFiles } = await loadOwnCertificate()
  return draftFiles(config, env)
}

const nothingDone: Omit<ReloadResult, 'disconnected'> = { changed: [], needsRestart: [], listeners: { added: [], removed: [] } }

const namesOf = (listeners: readonly ListenerConfig[]): string[] => listeners.slice(0, mostListed).map(listenerName)

function countLosses(losses: Losses): ReloadResult['disconnected'] {
  return [...losses].map(([reason, count]) => ({ reason, count })).sort((a, b) => b.count - a.count)
}

const optionNames: Readonly<Record<keyof ServerOptions, true>> = {
  config: true,
  hooks: true,
  ports: true,
  verbosity: true,
  env: true,
  name: true,
  tlsKeylog: true,
  detached: true,
  onReload: true,
  abandon: true,
  beforeFiles: true
}

// What is left out in silence would open a broker that is not the one that was meant.
function unknownOptions(options: ServerOptions): readonly Problem[] {
  return Object.keys(options)
    .filter(option => !Object.hasOwn(optionNames, option))
    .map(option => ({
      severity: 'error',
      code: 'ERR_CONF_UNKNOWN',
      message: `'${option}' is no option of createServer: what mosquitto.conf says belongs into 'config'.`,
      at: { file: `options.${option}` }
    }))
}

const nameOf = ({ name }: ServerOptions): string => name ?? 'mosquitero'

function sourceOf({ config, ports, verbosity, env }: ServerOptions): ConfigSource {
  return { ...(typeof config === 'object' ? { object: config } : { file: config }), ports, verbosity, env }
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

function openDisk(file: string, { delivery, listeners }: Config, log: Log): DiskStore {
  return new DiskStore({
    file,
    log,
    sync: delivery.acknowledge === 'stored',
    listenerOf: port => listenerKeyAt(listeners, port)
  })
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
