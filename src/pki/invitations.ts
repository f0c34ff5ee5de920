// Who may ask for a first certificate: a device id, and a secret that is good once and not for long. Beside the CA, hashed; commands write
// and the broker reads, both under a lock.

import { createHash, randomBytes, timingSafeEqual } from 'node:crypto'
import { join } from 'node:path'
import { BrokerError, systemCode } from '../errors.js'
import { readFileBounded, replaceFile } from './files.js'
import { withLock } from './lock.js'
import { checkCommonName } from './names.js'

export interface Invitation {
  readonly deviceId: string
  readonly expires: Date
  /** How many wrong secrets are still allowed. */
  readonly triesLeft: number
}

/** What is wrong with a secret. All are one to whoever tries. */
export type RefusedSecret = 'not-invited' | 'expired' | 'wrong-secret'

/** Wrong secrets until an invitation is void. */
const tries = 5
/** At a time; those that have expired go first. */
const mostInvitations = 5000
const day = 86_400_000
export const invitationTimes = { usual: 3_600_000, longest: 30 * day } as const

interface Row {
  readonly deviceId: string
  /** SHA-256 of salt and secret: of a random secret of 118 bits nobody finds another with the same. */
  readonly hash: string
  readonly salt: string
  /** Milliseconds since 1970. */
  readonly expires: number
  readonly failures: number
}

export class Invitations {
  readonly path: string

  /** `folder`: where the CA's certificate lies. */
  constructor(folder: string) {
    this.path = join(folder, 'invitations.jsonl')
  }

  /** Makes a secret for a device; an earlier one of the same device is void. It is never to be had again. */
  async invite(
    deviceId: string,
    lifetime: number = invitationTimes.usual,
    now: Date = new Date()
  ): Promise<{ secret: string; expires: Date }> {
    checkDeviceId(deviceId)
    if (!(lifetime >= 1000 && lifetime <= invitationTimes.longest)) {
      throw new BrokerError('ERR_PKI_INPUT', 'An invitation is good for a second at least and 30 days at most.')
    }
    const secret = newSecret()
    const salt = randomBytes(16).toString('hex')
    const expires = now.getTime() + lifetime
    await this.#change(rows => {
      const others = rows.filter(row => row.deviceId !== deviceId && row.expires > now.getTime())
      if (others.length >= mostInvitations) throw new BrokerError('ERR_PKI_INPUT', `There are ${mostInvitations} invitations already.`)
      return [...others, { deviceId, hash: hashOf(salt, secret), salt, expires, failures: 0 }]
    })
    return { secret, expires: new Date(expires) }
  }

  /**
   * Runs `issue` for whoever has the secret, and the invitation is used up once that is done; where it fails the invitation stays.
   */
  async redeem<Issued>(
    deviceId: string,
    secret: string,
    issue: () => Promise<Issued>,
    now: Date = new Date()
  ): Promise<Issued | RefusedSecret> {
    let outcome: Issued | RefusedSecret = 'not-invited'
    await this.#change(async rows => {
      const row = rows.find(each => each.deviceId === deviceId)
      const rest = rows.filter(each => each !== row)
      // A stranger costs what a device does, so that time does not tell who is invited.
      const isRight = timingSafeEqual(Buffer.from(hashOf(row?.salt ?? '', secret)), Buffer.from(row?.hash ?? '0'.repeat(64)))
      if (row === undefined) return rows
      if (row.expires <= now.getTime()) {
        outcome = 'expired'
        return rest
      }
      if (!isRight) {
        outcome = 'wrong-secret'
        return row.failures + 1 >= tries ? rest : [...rest, { ...row, failures: row.failures + 1 }]
      }
      outcome = await issue()
      return rest
    })
    return outcome
  }

  /** Makes the invitation of a device void; false: it has none. */
  async withdraw(deviceId: string): Promise<boolean> {
    let isGone = false
    await this.#change(rows => {
      const others = rows.filter(row => row.deviceId !== deviceId)
      isGone = others.length < rows.length
      return isGone ? others : rows
    })
    return isGone
  }

  /** Those that are good, in the order in which they were made. */
  async list(now: Date = new Date()): Promise<readonly Invitation[]> {
    const rows = (await this.#read()).filter(({ expires }) => expires > now.getTime())
    return rows.map(({ deviceId, expires, failures }) => ({ deviceId, expires: new Date(expires), triesLeft: tries - failures }))
  }

  async #change(change: (rows: readonly Row[]) => readonly Row[] | Promise<readonly Row[]>): Promise<void> {
    await withLock(`${this.path}.lock`, async held => {
      const rows = await this.#read()
      const next = await change(rows)
      if (next === rows) return
      await held()
      await replaceFile(this.path, next.map(row => `${JSON.stringify(row)}\n`).join(''), 0o600)
    })
  }

  // A line that is damaged invites nobody.
  async #read(): Promise<readonly Row[]> {
    try {
      return (await readFileBounded(this.path)).toString().split('\n').flatMap(parseRow)
    } catch (error) {
      if (error instanceof BrokerError && systemCode(error.cause) === 'ENOENT') return []
      throw error
    }
  }
}

/** As a common name; and it is the user of an HTTP request, which ends at a colon. */
export function checkDeviceId(deviceId: string): string {
  checkCommonName(deviceId)
  const refuse = (reason: string) => new BrokerError('ERR_PKI_INPUT', `The name ${JSON.stringify(deviceId)} cannot be used: ${reason}.`)
  if (deviceId.includes(':')) throw refuse('it holds ":", which ends a name in HTTP')
  if (deviceId.toLowerCase() === 'ca') throw refuse("on the device ca.crt is the CA's file")
  return deviceId
}

// Letters and digits that are not taken for each other, in groups that a person can read out: 24 of 31 are 118 bits.
const alphabet = 'abcdefghjkmnpqrstuvwxyz23456789'

function newSecret(): string {
  const letters: string[] = []
  while (letters.length < 24) {
    for (const byte of randomBytes(32)) if (byte < 248 && letters.length < 24) letters.push(alphabet[byte % alphabet.length] ?? '')
  }
  return (letters.join('').match(/.{6}/g) ?? []).join('-')
}

const hashOf = (salt: string, secret: string): string => createHash('sha256').update(salt).update(secret.trim().toLowerCase()).digest('hex')

function parseRow(line: string): Row[] {
  try {
    const row: unknown = JSON.parse(line)
    return isRow(row) ? [row] : []
  } catch {
    return []
  }
}

function isRow(value: unknown): value is Row {
  if (typeof value !== 'object' || value === null) return false
  const row: Partial<Record<keyof Row, unknown>> = value
  const texts = [row.deviceId, row.hash, row.salt].every(text => typeof text === 'string')
  return texts && [row.expires, row.failures].every(number => typeof number === 'number') && String(row.hash).length === 64
}
