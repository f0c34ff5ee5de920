// Slows down guessing: after ten failures of an address or a user within a minute its next tries wait. A delay, never a ban, and whoever
// has logged in from an address before is not slowed by the failures of others there.

import { createHash } from 'node:crypto'
import { RecentMap } from './recent-map.js'

/** Failures within the window that cost nothing: a person who mistypes, a device that starts with an old password. */
const freeFailures = 10
const window = 60_000

// Half a second is what a person does not notice and a list of passwords does. Ten seconds are the end, since clients give up waiting
// for a CONNACK after some thirty: a right password still gets in, also while its user is under attack.
const firstDelay = 500
const longestDelay = 10_000

// Failures beyond this many within the window change nothing more: the delay has reached its end.
const countedFailures = freeFailures + 1 + Math.ceil(Math.log2(longestDelay / firstDelay))

// Who wait out their delay at a time, of one address: with connections enough a delay alone would slow down nobody.
const waitingPlaces = 20

const trustedFor = 24 * 60 * 60_000

/** Failed logins by address and by user. Times are milliseconds of any clock that does not run backwards. */
export class LoginThrottle {
  readonly #addresses: RecentMap<readonly number[]>
  readonly #users: RecentMap<readonly number[]>
  /** By user and address together: failures, and since when it is trusted. */
  readonly #pairs: RecentMap<readonly number[]>
  readonly #trusted: RecentMap<number>
  readonly #waiting = new Map<string, number>()

  /** `size` bounds how many addresses, users and pairs are remembered, each; the longest unused are forgotten. */
  constructor(size = 10_000) {
    this.#addresses = new RecentMap(size)
    this.#users = new RecentMap(size)
    this.#pairs = new RecentMap(size)
    this.#trusted = new RecentMap(size)
  }

  /** Milliseconds that a try has to wait before its password is looked at; 0 for most. */
  delay(address: string, username: string | undefined, now: number): number {
    const keys = keysOf(address, username)
    const trustedSince = this.#trusted.get(keys.pair)
    if (trustedSince !== undefined && now - trustedSince < trustedFor) return delayAfter(this.#pairs.get(keys.pair), now)
    const byUser = username === undefined ? 0 : delayAfter(this.#users.get(keys.user), now)
    return Math.max(delayAfter(this.#addresses.get(keys.address), now), byUser)
  }

  /** A place to wait out a delay, and what gives it back; undefined when too many of this address are waiting already. */
  wait(address: string): (() => void) | undefined {
    const source = addressGroup(address)
    const count = this.#waiting.get(source) ?? 0
    if (count >= waitingPlaces) return undefined
    this.#waiting.set(source, count + 1)
    return () => {
      const left = (this.#waiting.get(source) ?? 0) - 1
      if (left > 0) this.#waiting.set(source, left)
      else this.#waiting.delete(source)
    }
  }

  failed(address: string, username: string | undefined, now: number): void {
    const keys = keysOf(address, username)
    addFailure(this.#addresses, keys.address, now)
    if (username !== undefined) addFailure(this.#users, keys.user, now)
    addFailure(this.#pairs, keys.pair, now)
  }

  /** Forgives the failures of this user at this address; those of others stay counted, else one account would cover guesses at all. */
  succeeded(address: string, username: string | undefined, now: number): void {
    const { pair } = keysOf(address, username)
    this.#pairs.delete(pair)
    this.#trusted.set(pair, now)
  }
}

function addFailure(map: RecentMap<readonly number[]>, key: string, now: number): void {
  map.set(key, [...(map.get(key) ?? []), now].slice(-countedFailures))
}

function delayAfter(failures: readonly number[] = [], now: number): number {
  const recent = failures.filter(time => now - time < window).length
  return recent < freeFailures ? 0 : Math.min(longestDelay, firstDelay * 2 ** (recent - freeFailures))
}

function keysOf(address: string, username = ''): { address: string; user: string; pair: string } {
  const source = addressGroup(address)
  // Names come from clients and may have 65535 bytes; what is kept of them must be short.
  const user = createHash('sha256').update(username).digest('base64')
  return { address: source, user, pair: `${user} ${source}` }
}

/** The address, or for IPv6 its /64, which is what one subscriber commonly gets and can choose addresses from. */
export function addressGroup(address: string): string {
  const [plain = ''] = address.split('%')
  if (!/^[0-9a-f]*:[0-9a-f:]*(\d+\.\d+\.\d+\.\d+)?$/i.test(plain)) return address
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(plain)
  if (mapped?.[1] !== undefined) return mapped[1]
  const [head = '', tail] = plain.split('::')
  const start = head === '' ? [] : head.split(':')
  const end = tail === undefined || tail === '' ? [] : tail.split(':')
  // An IPv4 address at the end stands for two groups, which are beyond the first 64 bits either way.
  const length = end.length + (tail?.includes('.') ? 1 : 0)
  const omitted = Math.max(0, 8 - start.length - length)
  const groups = tail === undefined ? start : [...start, ...Array<string>(omitted).fill('0'), ...end]
  return `${groups
    .slice(0, 4)
    .map(group => Number.parseInt(group, 16).toString(16))
    .join(':')}::/64`
}
