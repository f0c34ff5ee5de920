// What a CA has issued and revoked, in the form of the `index.txt` of `openssl ca`: both programs can go on where the other stopped. One
// line for each certificate, of six fields between tabs: V, R or E; end; when revoked and why; serial; file; subject.

import type { RevocationReason } from './authority.js'
import type { Name } from './library.js'

/** One certificate of the record. */
export interface RecordEntry {
  readonly notAfter: Date
  readonly revoked?: { readonly at: Date; readonly reason: RevocationReason }
  /** Upper-case hexadecimal, of an even number of digits. */
  readonly serial: string
  /** Where a copy lies, from the record's folder; `unknown` in OpenSSL's lines. */
  readonly file: string
  /** `/C=ES/CN=press-7`. */
  readonly subject: string
}

/** A line as it stands in the file; without an entry it is damaged. */
export interface RecordLine {
  readonly number: number
  readonly text: string
  readonly entry?: RecordEntry
}

/** All lines. A damaged one costs what it said and nothing else; OpenSSL would refuse the whole file. */
export function parseRecord(text: string): RecordLine[] {
  return [...recordLines(text)]
}

/** The same one by one, for who has other things to do in between. */
export function* recordLines(text: string): Generator<RecordLine> {
  let number = 0
  for (let start = 0; start < text.length; ) {
    const next = text.indexOf('\n', start)
    const end = next === -1 ? text.length : next
    const line = text.slice(start, end)
    start = end + 1
    number += 1
    if (/^\s*$|^#/.test(line)) continue
    const entry = parseEntry(line)
    yield { number, text: line, ...(entry && { entry }) }
  }
}

/** The line of an entry, with its line feed. */
export function formatEntry({ notAfter, revoked, serial, file, subject }: RecordEntry): string {
  const revocation = revoked === undefined ? '' : `${formatTime(revoked.at)}${reasonSuffix(revoked.reason)}`
  return `${[revoked === undefined ? 'V' : 'R', formatTime(notAfter), revocation, serial, file, subject].join('\t')}\n`
}

/** The common name of an entry's subject, the first of several. */
export function commonNameOf({ subject }: RecordEntry): string | undefined {
  const [, name] = /\/CN=((?:[^/\\]|\\.)*)/.exec(subject) ?? []
  if (name === undefined) return undefined
  return Buffer.from(
    name.replaceAll(/\\x([\dA-Fa-f]{2})/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16))),
    'latin1'
  ).toString()
}

/** A subject as OpenSSL writes it on one line: what is not a printable ASCII character is written as `\xC3`. */
export function subjectLine(name: Name): string {
  const fields = name.toJSON().flatMap(relative => Object.entries(relative).flatMap(([type, values]) => values.map(v => `/${type}=${v}`)))
  return fields.map(escapeBytes).join('')
}

/** A serial number as the record has it. */
export function recordSerial(hex: string): string {
  const digits = hex.replace(/^0+(?=.)/, '').toUpperCase()
  return digits.length % 2 === 0 ? digits : `0${digits}`
}

function escapeBytes(text: string): string {
  const code = (byte: string) => `\\x${byte.charCodeAt(0).toString(16).toUpperCase().padStart(2, '0')}`
  return Buffer.from(text)
    .toString('latin1')
    .replaceAll(/[^ -~]/g, code)
}

function parseEntry(line: string): RecordEntry | undefined {
  const fields = line.replace(/\r$/, '').split('\t')
  const [status = '', end = '', revocation = '', serial = '', file = '', subject = ''] = fields
  const notAfter = parseTime(end)
  if (fields.length !== 6 || notAfter === undefined || !/^([\dA-F]{2}){1,21}$/.test(serial) || !subject.startsWith('/')) return undefined
  const entry = { notAfter, serial, file, subject }
  if (status === 'V' || status === 'E') return revocation === '' ? entry : undefined
  const revoked = status === 'R' ? parseRevocation(revocation) : undefined
  return revoked && { ...entry, revoked }
}

// OpenSSL's words [crl_reasons in its apps/ca.c]; the last three have a further field.
const reasons: Readonly<Record<string, RevocationReason>> = {
  unspecified: 'unspecified',
  keyCompromise: 'keyCompromise',
  CACompromise: 'cACompromise',
  affiliationChanged: 'affiliationChanged',
  superseded: 'superseded',
  cessationOfOperation: 'cessationOfOperation',
  certificateHold: 'certificateHold',
  removeFromCRL: 'unspecified',
  holdInstruction: 'certificateHold',
  keyTime: 'keyCompromise',
  CAkeyTime: 'cACompromise'
}

/** The reasons that both OpenSSL's record and a revocation list can hold. */
export const revocationReasons = [
  'unspecified',
  'keyCompromise',
  'cACompromise',
  'affiliationChanged',
  'superseded',
  'cessationOfOperation',
  'certificateHold'
] as const satisfies readonly RevocationReason[]

function parseRevocation(text: string): RecordEntry['revoked'] | undefined {
  const [time = '', word] = text.split(',')
  const at = parseTime(time)
  // OpenSSL doesn't care about case here either.
  const known = Object.keys(reasons).find(name => name.toLowerCase() === word?.toLowerCase())
  const reason = word === undefined ? 'unspecified' : reasons[known ?? '']
  return at && reason && { at, reason }
}

function reasonSuffix(reason: RevocationReason): string {
  if (reason === 'unspecified') return ''
  return `,${reason === 'cACompromise' ? 'CACompromise' : reason}`
}

// ASN.1's UTCTime with two digits of the year up to 2049, GeneralizedTime from then on [RFC 5280, 4.1.2.5].
function formatTime(date: Date): string {
  const digits = date.toISOString().replaceAll(/[-:T]/g, '').slice(0, 14)
  return `${date.getUTCFullYear() < 2050 ? digits.slice(2) : digits}Z`
}

function parseTime(text: string): Date | undefined {
  const [, year = '', ...rest] = /^(\d{2}|\d{4})(\d{2})(\d{2})(\d{2})(\d{2})(\d{2})Z$/.exec(text) ?? []
  const [month, day, hours, minutes, seconds] = rest
  const century = year.length === 4 ? '' : Number(year) < 50 ? '20' : '19'
  const time = new Date(`${century}${year}-${month}-${day}T${hours}:${minutes}:${seconds}Z`)
  return Number.isNaN(time.getTime()) ? undefined : time
}
