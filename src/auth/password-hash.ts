// Checks and makes password hashes, two at a time in threads of its own. Work is bounded: a queue with an end, answers remembered for a
// minute, equal questions asked once; and an unknown user costs what a known one does.

import { Buffer } from 'node:buffer'
import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto'
import { type HashSetting, HashThreads } from './hash-threads.js'
import { formatPasswordHash, type PasswordEntry, type PasswordHash, type PasswordScheme } from './password-file.js'
import { RecentMap } from './recent-map.js'

export interface PasswordHasher {
  /**
   * Whether the password is the entry's. Rejects with `ERR_PASSWORD_BUSY` when the queue is full and with `ERR_PASSWORD_HASH` when
   * the computation failed; neither says anything about the password. Sources take turns: whoever asks much makes itself wait.
   */
  verify(entry: PasswordEntry, password: Buffer, source?: string): Promise<boolean>
  /** What `verify` would have cost had the user been in the file; the answer is always false. */
  verifyUnknown(entries: ReadonlyMap<string, PasswordEntry>, username: string, password: Buffer, source?: string): Promise<false>
  /** A new hash with a new salt. */
  hash(setting: HashSetting, password: Buffer): Promise<PasswordHash>
  /** Ends the threads; what waits is rejected. */
  close(): Promise<void>
}

export interface HasherOptions {
  /**
   * Checks that may wait. Two threads do some 10 to 20 Argon2id checks a second, so the last of 200 waits 10 to 20 seconds; clients
   * that waited longer have mostly gone away, so more would be work for nobody.
   */
  readonly maxWaiting?: number
  /** Answers remembered, right and wrong ones each. */
  readonly maxRemembered?: number
  /** Milliseconds on any steady clock. */
  readonly now?: () => number
  readonly worker?: URL
}

/** What mosquitto_passwd 2.1 makes of each scheme. */
export const defaultSettings = {
  sha512: { scheme: 'sha512' },
  'sha512-pbkdf2': { scheme: 'sha512-pbkdf2', iterations: 1000 },
  argon2id: { scheme: 'argon2id', memory: 47104, iterations: 1, parallelism: 1 }
} as const satisfies { readonly [Scheme in PasswordScheme]: HashSetting }

// Mosquitto 2.0 knows no other length than 12 for $6$ and $7$, 2.1 writes 64 and reads both: 12 is what either can read, and random
// enough for a value that must only be unique. Argon2id is 2.1's alone.
const saltLengths = { sha512: 12, 'sha512-pbkdf2': 12, argon2id: 64 } as const satisfies Record<PasswordScheme, number>
const hashLength = 64

const rememberedFor = 60_000

/** A hasher; its threads start with the first job and do not keep the process alive. */
export function openPasswordHasher(options: HasherOptions = {}): PasswordHasher {
  return new ThreadedHasher(options)
}

interface Claim {
  readonly kind: 'known' | 'unknown'
  readonly username: string
  readonly expected: PasswordHash
  readonly source: string
}

class ThreadedHasher implements PasswordHasher {
  readonly #key = randomBytes(32)
  readonly #threads: HashThreads
  readonly #underWay = new Map<string, Promise<boolean>>()
  // Apart, so that a flood of wrong passwords cannot push out the right ones.
  readonly #right: ExpiringSet
  readonly #wrong: ExpiringSet
  readonly #decoys = new WeakMap<ReadonlyMap<string, PasswordEntry>, readonly PasswordHash[]>()

  constructor({ maxWaiting = 200, maxRemembered = 10_000, now = () => performance.now(), worker }: HasherOptions) {
    this.#threads = new HashThreads(worker ?? new URL('./password-worker.js', import.meta.url), maxWaiting)
    this.#right = new ExpiringSet(maxRemembered, rememberedFor, now)
    this.#wrong = new ExpiringSet(maxRemembered, rememberedFor, now)
  }

  verify(entry: PasswordEntry, password: Buffer, source = ''): Promise<boolean> {
    return this.#check({ kind: 'known', username: entry.username, expected: entry.password, source }, password)
  }

  async verifyUnknown(entries: ReadonlyMap<string, PasswordEntry>, username: string, password: Buffer, source = ''): Promise<false> {
    await this.#check({ kind: 'unknown', username, expected: this.#decoy(entries, username), source }, password)
    return false
  }

  async hash(setting: HashSetting, password: Buffer): Promise<PasswordHash> {
    if (untilNul(password).length === 0) throw new TypeError('the password is empty')
    const salt = randomBytes(saltLengths[setting.scheme])
    const hash = await this.#threads.derive(setting, salt, hashLength, untilNul(password))
    return { ...setting, salt, hash: Buffer.from(hash) }
  }

  close(): Promise<void> {
    return this.#threads.close()
  }

  async #check(claim: Claim, password: Buffer): Promise<boolean> {
    const candidate = untilNul(password)
    const question = this.#question(claim.kind, claim.username, formatPasswordHash(claim.expected), candidate)
    if (this.#right.has(question)) return true
    if (this.#wrong.has(question)) return false
    return this.#underWay.get(question) ?? this.#ask(claim, question, candidate)
  }

  #ask({ kind, expected, source }: Claim, question: string, password: Buffer): Promise<boolean> {
    const job = this.#threads
      .derive(expected, expected.salt, expected.hash.length, password, source)
      .then(hash => {
        const right = hash.length === expected.hash.length && timingSafeEqual(hash, expected.hash) && kind === 'known'
        const remembered = right ? this.#right : this.#wrong
        remembered.add(question)
        return right
      })
      .finally(() => this.#underWay.delete(question))
    this.#underWay.set(question, job)
    return job
  }

  // The stored hash is part of the question: a password changed by a reload is a new question. JSON keeps the parts apart; the
  // password comes last and needs no end.
  #question(kind: string, username: string, stored: string, password: Buffer): string {
    return createHmac('sha256', this.#key)
      .update(JSON.stringify([kind, username, stored]))
      .update(password)
      .digest('base64')
  }

  // An unknown user is checked against the entry of somebody else, always the same one for the same name: so the times of unknown
  // users are spread over the schemes of the file just as those of known ones.
  #decoy(entries: ReadonlyMap<string, PasswordEntry>, username: string): PasswordHash {
    const decoys = this.#decoys.get(entries) ?? Array.from(entries.values(), entry => entry.password)
    this.#decoys.set(entries, decoys)
    const digest = createHmac('sha256', this.#key).update('decoy').update(username).digest()
    return decoys[digest.readUInt32BE() % decoys.length] ?? emptyFileDecoy
  }
}

const emptyFileDecoy: PasswordHash = { ...defaultSettings.argon2id, salt: Buffer.alloc(64), hash: Buffer.alloc(hashLength) }

// Mosquitto 2.1 hands the password to its hash functions as a C string.
function untilNul(password: Buffer): Buffer {
  const end = password.indexOf(0)
  return end === -1 ? password : password.subarray(0, end)
}

/** Strings that are forgotten after a while, the oldest first when there are too many. */
class ExpiringSet {
  readonly #times: RecentMap<number>
  readonly #lifetime: number
  readonly #now: () => number

  constructor(max: number, lifetime: number, now: () => number) {
    this.#times = new RecentMap(max)
    this.#lifetime = lifetime
    this.#now = now
  }

  has(key: string): boolean {
    const time = this.#times.get(key)
    return time !== undefined && this.#now() - time < this.#lifetime
  }

  // What is asked again is not renewed, so no answer outlives its minute.
  add(key: string): void {
    this.#times.set(key, this.#now())
  }
}
