// Clients whose certificate, or one of its CAs, ends while they are connected: each has a moment at which it is to be looked at again, all of
// them share the clock of the engine, and a turn takes as many as it has time for.

import type { Connection as Transport } from '../auth/identity.js'
import type { Connection } from '../session/connection.js'
import { Deadlines } from './deadlines.js'
import type { Dismissal } from './dismissal.js'
import type { SysTopic } from './sys-topics.js'

/** What is asked about the certificate of a connection. */
export interface CertificateRules {
  /** When it is to be looked at, having been good at `since`; undefined: never. Milliseconds since 1970. */
  nextLook(transport: Transport, since: number): number | undefined
  /** Why the client has to go; undefined: it stays. */
  outdated(transport: Transport): Dismissal | undefined
  /** What `$SYS` says of certificates. `lost`: clients that had to go because of theirs. */
  sysTopics?(lost: number): readonly SysTopic[]
}

/** More than a client may take from its handshake to its CONNACK, milliseconds. Too much costs a look. */
const longestArrival = 300_000

interface WatchHost {
  readonly turns: { readonly isOver: boolean }
  /** To be ended. */
  dismiss(connection: Connection, dismissal: Dismissal): void
}

export class CertificateWatch {
  readonly #rules: CertificateRules
  readonly #host: WatchHost
  readonly #looks = new Deadlines<Connection>()

  constructor(rules: CertificateRules, host: WatchHost) {
    this.#rules = rules
    this.#host = host
  }

  /** Of a client that has come. Its certificate was judged with its handshake, and its CONNECT has taken its time since. */
  begin(connection: Connection): void {
    this.follow(connection, Date.now() - longestArrival)
  }

  /** Of one that has just been judged, as when other files are in force. */
  follow(connection: Connection, since = Date.now()): void {
    const at = connection.transport.tls?.certificate && this.#rules.nextLook(connection.transport, since)
    if (at === undefined) this.#looks.delete(connection)
    else this.#looks.set(connection, at)
  }

  forget(connection: Connection): void {
    this.#looks.delete(connection)
  }

  /** Looks at those whose time has come, as far as there is time; false: there are more. */
  sweep(now: number): boolean {
    while (!this.#host.turns.isOver) {
      const [connection] = this.#looks.takeDue(now, 1)
      if (connection === undefined) return true
      const dismissal = this.#rules.outdated(connection.transport)
      if (dismissal === undefined) this.follow(connection)
      else this.#host.dismiss(connection, dismissal)
    }
    return (this.#looks.next ?? now + 1) > now
  }
}
