// The enrolment listener of a server: opened with it, and swapped by a reload like the others, all or nothing.

import { dirname } from 'node:path'
import type { Config, EnrolmentConfig } from './config/types.js'
import { BrokerError, type ErrorCode, errorMessage, type Problem, systemCode, systemReason } from './errors.js'
import type { Log } from './log-events.js'
import type { EnrolmentServer } from './net/enrolment-server.js'
import { loadEnrolment } from './on-demand.js'
import type { Enrolment } from './pki/enrolment.js'
import type { Snapshot } from './snapshot.js'

/** What a reload needs is ready, and nothing has changed yet. */
export interface PreparedEnrolment {
  apply(): void
  abandon(): Promise<void>
}

interface Open {
  readonly server: EnrolmentServer
  readonly place: string
}

export class EnrolmentDoor {
  readonly #log: Log
  /** Of the CA's key. */
  readonly #passphrase: string | undefined
  #open: Open | undefined

  constructor(log: Log, passphrase: string | undefined) {
    this.#log = log
    this.#passphrase = passphrase
  }

  /** Its port; undefined: there is none. */
  get port(): number | undefined {
    return this.#open?.server.port
  }

  /** Rejects with a BrokerError when the CA can't be used, or the port can't be opened. */
  async prepare({ config: { enrolment }, listeners }: Snapshot): Promise<PreparedEnrolment> {
    const before = this.#open
    const material = listeners.find(({ tls }) => tls?.chain[0] !== undefined)?.tls
    if (enrolment === undefined || material === undefined) return { apply: () => this.#replace(undefined), abandon: async () => {} }
    const { port, host, ca, at } = enrolment
    const place = `${port} ${host ?? ''}`
    const desk = await openEnrolment(enrolment, this.#passphrase)
    if (before?.place === place) return { apply: () => before.server.update(material, desk), abandon: async () => {} }
    const { openEnrolmentServer } = await loadEnrolment()
    try {
      this.#log.write('enrolmentOpened', { port, ca: ca.certificate })
      const server = await openEnrolmentServer({ port, host, material, enrolment: desk, log: this.#log })
      return { apply: () => this.#replace({ server, place }), abandon: () => server.close() }
    } catch (cause) {
      const code = codes.get(systemCode(cause) ?? '') ?? 'ERR_LISTEN_ADDRESS'
      throw new BrokerError(code, systemReason(cause), at, { cause })
    }
  }

  async close(): Promise<void> {
    const { server } = this.#open ?? {}
    this.#open = undefined
    await server?.close()
  }

  #replace(next: Open | undefined): void {
    const { server } = this.#open ?? {}
    this.#open = next
    server?.close().catch((error: unknown) => this.#log.write('fault', { reason: errorMessage(error) }))
  }
}

/** The CA at work. Rejects with a BrokerError when it can't be used. */
export async function openEnrolment({ ca, at }: EnrolmentConfig, passphrase: string | undefined): Promise<Enrolment> {
  const { Ca, Enrolment, Invitations } = await loadEnrolment()
  try {
    return new Enrolment(await Ca.open(ca, passphrase), new Invitations(dirname(ca.certificate)))
  } catch (cause) {
    if (!(cause instanceof BrokerError)) throw cause
    throw new BrokerError('ERR_TLS_CA', `The enrolment listener cannot sign. ${cause.message}`, ca.at ?? at, { cause })
  }
}

/** What would keep it from signing. */
export async function enrolmentProblems(
  { enrolment }: Config,
  env: Readonly<Record<string, string | undefined>>
): Promise<readonly Problem[]> {
  if (enrolment === undefined) return []
  try {
    await openEnrolment(enrolment, env.MOSQUITERO_CA_PASSPHRASE)
    return []
  } catch (error) {
    if (!(error instanceof BrokerError)) throw error
    const { code, message, at } = error
    return [{ severity: 'error', code, message, ...(at && { at }) }]
  }
}

const codes: ReadonlyMap<string, ErrorCode> = new Map([
  ['EADDRINUSE', 'ERR_LISTEN_ADDRESS_IN_USE'],
  ['EACCES', 'ERR_LISTEN_PERMISSION'],
  ['EPERM', 'ERR_LISTEN_PERMISSION']
])
