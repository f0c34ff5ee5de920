// Retained messages and persistent sessions in Redis. Redis may be away, at the start or later: that is said once, nothing is
// acknowledged that isn't stored, and it goes on by itself when Redis is back. A Redis that is there and refuses (full, a replica) is named
// once a minute, and counts as one that is away. The address in a message never holds the password.

import redisPersistence from 'aedes-persistence-redis'
import { Redis, type RedisOptions } from 'ioredis'
import { BrokerError, errorMessage, type Location, systemReason } from '../errors.js'
import type { Log } from '../log-events.js'
import type { Store } from '../storage.js'
import { type AedesPersistence, openAedesStore } from './aedes.js'
import { removeLeftovers } from './redis-leftovers.js'

/** Is the store there? A broker asks before it promises anything. */
export interface Availability {
  readonly up: boolean
  /** Resolves when the store is there again. Never rejects: after a close it stays silent. */
  whenUp(): Promise<void>
  /** Is this error the store's answer, rather than a client's doing? */
  caused(error: Error): boolean
}

export interface RedisStore extends Availability {
  readonly persistence: AedesPersistence
  /** For the session engine; `close` of it leaves Redis open. */
  readonly store: Store
  /** Redis answered for the first time. Rejects if it is one we can't use (a cluster), or when closed before. */
  readonly ready: Promise<void>
  close(): Promise<void>
}

/** Longest time between two tries. */
const longestPause = 3000
/** The persistence reads no more of a queue in one go: all of it. */
const maxSessionDelivery = 0x7fff_ffff
/** A Redis that hangs is a Redis that is away. */
const commandTimeout = 5000
/** Whoever is putting a packet into a queue, or removing it, is through by then, or his commands have timed out. */
const leftoverPatience = 2 * commandTimeout
/** A Redis that is full or a replica, or where our account lacks a right, refuses every command: said once in this time. */
const refusalPause = 60_000
const schemes = 'redis://[USER:PASSWORD@]HOST[:PORT][/DB], rediss:// for TLS, or unix:///PATH[?db=N]'

/** Connects in the background. Throws only for a URL that can't be meant. `patience`: before leftovers of a crash are removed. */
export function openRedisStore(url: string, log: Log, at?: Location, patience = leftoverPatience): RedisStore {
  const { address, options } = parseRedisUrl(url, at)
  const redis = new Redis({
    ...options,
    // Fail at once while Redis is away: queued commands would grow without bound and be promises that nobody may rely on.
    enableOfflineQueue: false,
    maxRetriesPerRequest: 0,
    autoResendUnfulfilledCommands: false,
    commandTimeout,
    connectTimeout: commandTimeout,
    keepAlive: 10_000,
    // It waits so long even for a connection that never came to be, and so would the end of the process.
    disconnectTimeout: 200,
    retryStrategy: attempt => Math.min(attempt * 100, longestPause)
  })
  const state = new RedisState(redis, address, log, at)
  const conn = guardCommands(redis, error => state.refuses(error))
  const persistence = redisPersistence({ conn, maxSessionDelivery })
  const closed = new AbortController()
  const store = openAedesStore(persistence, {
    availability: state,
    clientIds: () => conn.smembers('clients'),
    // A counter that was lowered and not removed would stay.
    sweep: (brokerId, counter) => conn.del(`packet:${brokerId}:${counter}`, `packet:${brokerId}:${counter}:offlineCount`),
    // Without the guard: an account that may not do this loses nothing, and the next start tries again.
    opened: (run, queued) => {
      const isInUse = (name: string): boolean => queued.has(name) || name.startsWith(`${run}:`)
      removeLeftovers(redis, { isInUse, patience, signal: closed.signal }).catch(() => {})
    },
    // That Redis is away or refuses is said already.
    failed: error => {
      if (state.up && !isRefusal(error)) log.write('storeFailed', { reason: errorMessage(error) })
    }
  })
  return {
    persistence,
    store,
    ready: state.ready,
    get up() {
      return state.up
    },
    whenUp: () => state.whenUp(),
    caused: isRefusal,
    async close() {
      closed.abort()
      await store.close()
      await state.close()
    }
  }
}

/** The options and the printable address of a `#!store` value. Nothing of the URL is repeated in an error: it may hold a password. */
export function parseRedisUrl(text: string, at?: Location): { readonly address: string; readonly options: RedisOptions } {
  const refuse = (message: string): never => {
    throw new BrokerError('ERR_STORE', `${message}: it reads ${schemes}.`, at)
  }
  if (!URL.canParse(text)) return refuse('The Redis address is not a URL')
  const url = new URL(text)
  switch (url.protocol) {
    case 'redis:':
    case 'rediss:': {
      if (url.hostname === '') return refuse('The Redis address has no host')
      const host = url.hostname.replace(/^\[(.*)\]$/, '$1')
      const port = url.port === '' ? 6379 : Number(url.port)
      const db = databaseNumber(url.pathname.slice(1))
      if (db === undefined) return refuse('The Redis database is not a number')
      return {
        address: `${url.hostname}:${port}`,
        options: { host, port, db, ...credentials(url), ...(url.protocol === 'rediss:' && { tls: {} }) }
      }
    }
    case 'unix:': {
      const db = databaseNumber(url.searchParams.get('db') ?? '')
      if (db === undefined) return refuse('The Redis database is not a number')
      const path = decodeURIComponent(url.pathname)
      return { address: path, options: { path, db, ...credentials(url) } }
    }
    case 'redis-cluster:':
    case 'rediss-cluster:':
    case 'redis+cluster:':
      return refuse('Redis Cluster is not supported')
    default:
      return refuse(`A Redis address can't start with ${url.protocol}`)
  }
}

function databaseNumber(text: string): number | undefined {
  if (text === '') return 0
  return /^\d+$/.test(text) ? Number(text) : undefined
}

function credentials({ username, password }: URL): RedisOptions {
  return {
    ...(username !== '' && { username: decodeURIComponent(username) }),
    ...(password !== '' && { password: decodeURIComponent(password) })
  }
}

// Knows whether Redis is there, and says it once when that changes.
class RedisState {
  readonly ready: Promise<void>
  readonly #redis: Redis
  readonly #address: string
  readonly #log: Log
  readonly #at: Location | undefined
  #resolveReady: () => void = () => {}
  #rejectReady: (error: Error) => void = () => {}
  #status: 'connecting' | 'up' | 'lost' | 'refused' | 'closed' = 'connecting'
  #lastError: string | undefined
  #said: string | undefined
  #lostAt = 0
  #back = Promise.resolve()
  /** When a refusal was said, by its code. */
  readonly #refusals = new Map<string, number>()
  #resolveBack: () => void = () => {}

  constructor(redis: Redis, address: string, log: Log, at: Location | undefined) {
    this.#redis = redis
    this.#address = address
    this.#log = log
    this.#at = at
    this.ready = new Promise((resolve, reject) => {
      this.#resolveReady = resolve
      this.#rejectReady = reject
    })
    // Nobody has to wait for it: an unhandled rejection would end the process.
    this.ready.catch(() => {})
    this.#waitAgain()
    redis.on('error', (error: unknown) => {
      this.#lastError = reasonOf(error)
    })
    redis.on('close', () => this.#isAway())
    redis.on('ready', () => {
      this.#isThere().catch((error: unknown) => {
        this.#lastError = reasonOf(error)
        redis.disconnect(true)
      })
    })
  }

  get up(): boolean {
    // Between two events ioredis knows it first.
    return this.#status === 'up' && this.#redis.status === 'ready'
  }

  async whenUp(): Promise<void> {
    while (!this.up) {
      if (this.#status === 'up') this.#isAway()
      await this.#back
    }
  }

  /** Redis said no to a command. */
  refuses(error: Error): void {
    const reason = reasonOf(error)
    const [code = ''] = reason.split(' ', 1)
    const now = Date.now()
    if (now - (this.#refusals.get(code) ?? 0) < refusalPause) return
    this.#refusals.set(code, now)
    this.#log.write('redisRefuses', { address: this.#address, reason })
  }

  async close(): Promise<void> {
    const wasUp = this.up
    this.#status = 'closed'
    this.#rejectReady(new BrokerError('ERR_STORE', `Closed before Redis at ${this.#address} answered.`, this.#at))
    // QUIT waits for what is under way; its timeout is that of every command.
    if (wasUp) await this.#redis.quit().catch(() => {})
    this.#redis.disconnect()
  }

  async #isThere(): Promise<void> {
    if (this.#status === 'connecting' && (await this.#isCluster())) return this.#refuseCluster()
    const address = this.#address
    switch (this.#status) {
      case 'connecting':
        this.#log.write('redisConnected', { address })
        break
      case 'lost':
        this.#log.write('redisBack', { address, seconds: Math.round((Date.now() - this.#lostAt) / 1000) })
        break
      case 'up':
      case 'refused':
      case 'closed':
        return
    }
    this.#status = 'up'
    this.#said = undefined
    this.#lastError = undefined
    this.#resolveReady()
    this.#resolveBack()
  }

  // ioredis tells of every failed try. A reason is said when it is new.
  #isAway(): void {
    const reason = this.#lastError ?? 'it closed the connection'
    switch (this.#status) {
      case 'connecting':
        if (this.#said !== reason) this.#log.write('redisUnreachable', { address: this.#address, reason })
        break
      case 'up':
        this.#status = 'lost'
        this.#lostAt = Date.now()
        this.#waitAgain()
        this.#log.write('redisLost', { address: this.#address, reason })
        break
      case 'lost':
      case 'refused':
      case 'closed':
        return
    }
    this.#said = reason
  }

  #waitAgain(): void {
    this.#back = new Promise(resolve => {
      this.#resolveBack = resolve
    })
  }

  // The persistence would write half of its keys and fail at the other half.
  async #isCluster(): Promise<boolean> {
    return /^cluster_enabled:1/m.test(await this.#redis.info('cluster'))
  }

  #refuseCluster(): void {
    this.#status = 'refused'
    this.#redis.disconnect()
    const message = `Redis at ${this.#address} is part of a cluster, which is not supported. A single server is.`
    this.#rejectReady(new BrokerError('ERR_STORE', message, this.#at))
  }
}

// The persistence doesn't wait for some of its commands: each gets a `catch` here, whoever else looks at it, so that none ends the
// process. A command that timed out means that Redis hangs: a new connection shows whether it lives.
function guardCommands(redis: Redis, refused: (error: Error) => void): Redis {
  const failed = (error: unknown) => {
    if (isRefusal(error)) refused(error)
    if (errorMessage(error) === 'Command timed out' && redis.status === 'ready') redis.disconnect(true)
  }
  return new Proxy(redis, {
    get(target, property) {
      const member: unknown = Reflect.get(target, property, target)
      if (typeof member !== 'function') return member
      return (...args: unknown[]) => {
        const result: unknown = Reflect.apply(member, target, args)
        if (result instanceof Promise) result.catch(failed)
        return result
      }
    }
  })
}

/** Redis' own answer to a command, such as `OOM command not allowed …`; ioredis does not export its class. */
function isRefusal(error: unknown): error is Error {
  return error instanceof Error && error.name === 'ReplyError'
}

// A host with several addresses fails with one error for each, and no message of its own.
function reasonOf(error: unknown): string {
  return error instanceof AggregateError && error.message === '' ? systemReason(error.errors[0]) : systemReason(error)
}
