// What ends soon, said ahead of time: at start and once a day in the log, and all the time by $SYS.

import type { SysTopic } from './broker/sys-topics.js'
import type { Problem } from './errors.js'
import type { SecuredListener } from './listeners.js'
import type { Log } from './log-events.js'
import { daysLeft, type Ending, ended, endingSoon, endingsOf } from './net/expiry.js'

export interface ExpiryHost {
  readonly log: Log
  /** `#!expiry_warning`. */
  readonly days: number
  readonly listeners: readonly SecuredListener[]
  /** Who is connected by a certificate, and when that ends. */
  eachCertificate(visit: (clientId: string, end: Date) => void): void
  warn(problems: readonly Problem[]): void
  now(): Date
}

/** So many clients are named. */
const mostNamed = 5
const day = 86_400_000
/** How often it is looked whether a day is over: a timer of a whole one would be late after the machine has slept. */
const pause = 3_600_000

export class ExpiryReport {
  readonly #host: ExpiryHost
  #saidAt = 0
  #timer: NodeJS.Timeout | undefined

  constructor(host: ExpiryHost) {
    this.#host = host
  }

  /** At start: what is over has been said by whoever read the files. */
  begin(): void {
    this.#saidAt = this.#host.now().getTime()
    this.#say(endings => endingSoon(endings, this.#host.now(), this.#host.days))
    this.#timer = setInterval(() => this.tick(), pause)
    this.#timer.unref()
  }

  /** Says it again when a day is over. A clock that was set back begins a new one. */
  tick(): void {
    const now = this.#host.now()
    if (Math.abs(now.getTime() - this.#saidAt) < day) return
    this.#saidAt = now.getTime()
    const { days } = this.#host
    if (days === 0) return
    this.#say(endings => [...ended(endings, now), ...endingSoon(endings, now, days)])
    this.#sayClients(now, days)
  }

  end(): void {
    clearInterval(this.#timer)
  }

  /** Below `$SYS/broker/certificates/`: by listener, and of all clients. `lost`: how many had to go because of their certificate. */
  sysTopics(lost: number): readonly SysTopic[] {
    const { listeners, days } = this.#host
    if (listeners.length === 0) return []
    const now = this.#host.now()
    const earliest = new Map<string, Date>()
    for (const { port, config, material } of listeners) {
      for (const { of, end } of endingsOf(config, material)) {
        // Several listeners may have one port, on several addresses.
        const place = `${port === 0 ? 'unix' : port}/${of}`
        const known = earliest.get(place)
        if (known === undefined || end < known) earliest.set(place, end)
      }
    }
    const ends = [...earliest].flatMap(([place, end]) => [
      { topic: `$SYS/broker/certificates/${place}/expires`, payload: `${end.toISOString().slice(0, 19)}Z` },
      { topic: `$SYS/broker/certificates/${place}/days`, payload: String(daysLeft(end, now)) }
    ])
    if (!listeners.some(({ config }) => config.requireCertificate)) return ends
    return [
      ...ends,
      { topic: '$SYS/broker/certificates/clients/expiring', payload: String(this.#soonest(now, days).count) },
      { topic: '$SYS/broker/certificates/clients/disconnected', payload: String(lost) }
    ]
  }

  // Listeners share files.
  #say(choose: (endings: readonly Ending[]) => readonly Problem[]): void {
    const problems = this.#host.listeners.flatMap(({ config, material }) => choose(endingsOf(config, material)))
    this.#host.warn([...new Map(problems.map(problem => [problem.message, problem])).values()])
  }

  #sayClients(now: Date, days: number): void {
    const { count, first } = this.#soonest(now, days)
    if (count === 0) return
    const clients = first.map(({ clientId, end }) => ({ clientId, end: end.toISOString() }))
    this.#host.log.write('clientsExpireSoon', { count, days, clients })
  }

  /** Those whose certificate ends within so many days, and the first of them. One look at each client: there may be very many. */
  #soonest(now: Date, days: number): { readonly count: number; readonly first: readonly { clientId: string; end: Date }[] } {
    const limit = now.getTime() + days * day
    const first: { clientId: string; end: Date }[] = []
    let count = 0
    if (days === 0) return { count, first }
    let last = Number.POSITIVE_INFINITY
    this.#host.eachCertificate((clientId, end) => {
      const at = end.getTime()
      if (at >= limit) return
      count += 1
      if (at >= last) return
      const place = first.findIndex(other => other.end > end)
      first.splice(place === -1 ? first.length : place, 0, { clientId, end })
      if (first.length > mostNamed) first.pop()
      if (first.length === mostNamed) last = first.at(-1)?.end.getTime() ?? last
    })
    return { count, first }
  }
}
