// Keeps the broker's own certificate good while the broker runs: looks when it is due, at least once a day, and tells when there is a new one.

import type { Config, OwnCertificateConfig } from '../config/types.js'
import { BrokerError, errorMessage, type Problem } from '../errors.js'
import type { Log } from '../log-events.js'
import type { ensureOwnCertificate } from './own-certificate.js'

interface KeeperMeans {
  /** `ensureOwnCertificate`. */
  readonly ensure: typeof ensureOwnCertificate
  readonly log: Log
  /** `MOSQUITERO_CA_PASSPHRASE` opens a CA key under a passphrase. */
  readonly env: Readonly<Record<string, string | undefined>>
  /** There is a new one to be read. */
  renewed(): unknown
}

/** Timers take no more than 24 days, and a clock may be set: so it is looked at each day. Milliseconds, as the other. */
const longest = 86_400_000
const afterFailure = 3_600_000

export class CertificateKeeper {
  readonly #means: KeeperMeans
  #timer: NodeJS.Timeout | undefined
  #closed = false

  constructor(means: KeeperMeans) {
    this.#means = means
  }

  /** Makes the certificate if it isn't there, and keeps it from now on, if there is to be one. */
  async prepare({ ownCertificate: own }: Config): Promise<readonly Problem[]> {
    const { problems } = await this.#look(own)
    return problems
  }

  close(): void {
    this.#closed = true
    clearTimeout(this.#timer)
  }

  async #look(own: OwnCertificateConfig | undefined): Promise<{ readonly made: boolean; readonly problems: readonly Problem[] }> {
    clearTimeout(this.#timer)
    if (own === undefined || this.#closed) return { made: false, problems: [] }
    const { log, env, ensure } = this.#means
    const { certificate: file, names } = own
    try {
      const { made, notAfter, renewAt, failure } = await ensure({ config: own, passphrase: env.MOSQUITERO_CA_PASSPHRASE })
      if (made) log.write('ownCertificateMade', { file, names, notAfter })
      if (failure !== undefined) log.write('ownCertificateNotRenewed', { file, notAfter, reason: failure })
      this.#wait(own, failure === undefined ? renewAt.getTime() - Date.now() : afterFailure)
      return { made, problems: [] }
    } catch (error) {
      if (!(error instanceof BrokerError)) throw error
      const { code, message, at } = error
      this.#wait(own, afterFailure)
      return { made: false, problems: [{ severity: 'error', code, message, ...(at && { at }) }] }
    }
  }

  #wait(own: OwnCertificateConfig, time: number): void {
    clearTimeout(this.#timer)
    if (this.#closed) return
    this.#timer = setTimeout(() => void this.#renew(own), Math.min(Math.max(time, 1000), longest)).unref()
  }

  async #renew(own: OwnCertificateConfig): Promise<void> {
    try {
      const { made, problems } = await this.#look(own)
      for (const { message } of problems) this.#means.log.write('fault', { reason: message })
      if (made) this.#means.renewed()
    } catch (error) {
      this.#means.log.write('fault', { reason: errorMessage(error) })
    }
  }
}
