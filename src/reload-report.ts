// What a reload did, as data for programs and the JSON log, and as one sentence for people.

import type { Problem } from './errors.js'

/** An option with another value, or a file with another content. */
export interface Change {
  /** As it is written in mosquitto.conf. */
  readonly option: string
  /** `port 8883`; absent: of the whole broker, or of every listener. */
  readonly listener?: string
  /** The file whose content is another; absent: the value of the option is. */
  readonly file?: string
  /** How many of them came and went, and how many are there under the same name with another content. */
  readonly of?: Counted
  readonly added?: number
  readonly removed?: number
  readonly altered?: number
  /** How many there are now, where who came and who went is not told apart. */
  readonly total?: number
  /** The last day of a certificate, UTC: `2027-01-31`. */
  readonly validUntil?: string
}

export type Counted = 'rule' | 'user' | 'key' | 'CA' | 'revoked certificate'

/** Why a client had to go. */
export type LossReason = keyof typeof lossWords

/** How many clients had to go for one reason. */
export interface Loss {
  readonly reason: LossReason
  readonly count: number
}

/** What was done. Every list is at most `mostListed` long. */
export interface ReloadResult {
  readonly changed: readonly Change[]
  /** Options whose new value waits for a restart. */
  readonly needsRestart: readonly string[]
  /** `port 8883`, `port 8883 on 192.0.2.1`, `socket /run/mqtt`. */
  readonly listeners: { readonly added: readonly string[]; readonly removed: readonly string[] }
  /** By reason, the most frequent first. */
  readonly disconnected: readonly Loss[]
}

export interface ReloadReport extends ReloadResult {
  /** Everything that was found in the files; with an `error` among them nothing was applied. */
  readonly problems: readonly Problem[]
  /** False: everything is as it was. */
  readonly applied: boolean
}

/** Of a list in a report; nobody reads more, and a log line has an end. */
export const mostListed = 100
/** In the sentence. */
const mostSaid = 12

const lossWords = {
  'listener-removed': 'listener removed',
  'tls-required': 'TLS is required now',
  anonymous: 'no longer allowed without a username',
  'unknown-user': 'username no longer known',
  password: 'password no longer accepted',
  'no-username': 'no username in the certificate',
  psk: 'pre-shared key no longer accepted',
  'client-id': 'client identifier no longer accepted',
  busy: 'password could not be checked in time',
  'not-authorised': 'not authorised',
  'administrative-action': 'administrative action',
  // Of certificates.
  'no-certificate': 'no certificate',
  unreadable: 'certificate unreadable',
  expired: 'certificate expired',
  'not-yet-valid': 'certificate not yet valid',
  'self-signed': 'certificate self-signed',
  'unknown-ca': 'certificate of an unknown CA',
  'ca-expired': 'CA expired',
  'ca-not-yet-valid': 'CA not yet valid',
  'not-a-ca': 'signed by what is no CA',
  'path-too-long': 'too many CAs',
  purpose: 'certificate not made for clients',
  strength: 'certificate too weak',
  constraint: 'certificate under a rule that is not supported',
  revoked: 'certificate revoked',
  'ca-revoked': 'CA revoked',
  'crl-missing': 'no CRL of the CA',
  'crl-expired': 'CRL expired',
  'crl-not-yet-valid': 'CRL not yet valid',
  'not-authorized': 'certificate not accepted'
} as const

/** The words for such a reason, as the line of a single client has them too. */
export function describeLoss(reason: LossReason): string {
  return lossWords[reason]
}

/** `acl_file acl changed (+2/-1 rules), listener on port 8884 added; 1 client disconnected: certificate revoked (1); needs a restart: user` */
export function describeReload({ changed, needsRestart, listeners, disconnected }: ReloadResult): string {
  const values = changed.filter(({ file, listener }) => file === undefined && listener === undefined)
  const news = [
    ...(values.length === 0 ? [] : [`${some(values.map(({ option }) => option))} changed`]),
    ...changed.filter(change => !values.includes(change)).map(describeChange),
    ...listeners.added.map(name => `listener on ${name} added`),
    ...listeners.removed.map(name => `listener on ${name} removed`)
  ]
  const lost = disconnected.reduce((sum, { count }) => sum + count, 0)
  const reasons = disconnected.map(({ reason, count }) => `${lossWords[reason]} (${count})`)
  return [
    news.length === 0 ? 'nothing changed' : some(news),
    `${plural(lost, 'client')} disconnected${lost === 0 ? '' : `: ${some(reasons)}`}`,
    ...(needsRestart.length === 0 ? [] : [`needs a restart: ${some(needsRestart)}`])
  ].join('; ')
}

/** `1 client`, `2 clients`. */
export function plural(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? '' : 's'}`
}

function describeChange({ option, listener, file, of, added = 0, removed = 0, altered = 0, total, validUntil }: Change): string {
  const subject = `${option}${file === undefined ? '' : ` ${file}`}${listener === undefined ? '' : ` of the listener on ${listener}`}`
  const details = [
    ...(of !== undefined && added + removed > 0 ? [`+${added}/-${removed} ${of}s`] : []),
    ...(of !== undefined && altered > 0 ? [`${plural(altered, of)} changed`] : []),
    ...(of !== undefined && total !== undefined ? [plural(total, of)] : []),
    ...(validUntil === undefined ? [] : [`valid until ${validUntil}`])
  ]
  return `${subject} changed${details.length === 0 ? '' : ` (${details.join(', ')})`}`
}

function some(texts: readonly string[]): string {
  const more = texts.length - mostSaid
  return more > 0 ? `${texts.slice(0, mostSaid).join(', ')} and ${more} more` : texts.join(', ')
}
