// Names that go into certificates: which common names and host names are taken, and why the others are not.

import { isIP } from 'node:net'
import { domainToASCII } from 'node:url'
import { BrokerError } from '../errors.js'

/** One subjectAltName. */
export interface AlternativeName {
  readonly type: 'dns' | 'ip'
  readonly value: string
}

/** X.520, ub-common-name: OpenSSL and others refuse more. */
const maxCommonName = 64

// A common name becomes a username, the %u of an ACL pattern and a file name, so it must be harmless in all three places.
const commonNameRules: readonly (readonly [wrong: RegExp, reason: string])[] = [
  [/^$/, 'it is empty'],
  [/\p{Cc}/u, 'it holds a control character'],
  [/[\p{Cs}\p{Cf}\p{Zl}\p{Zp}]/u, 'it holds a character that cannot be seen, so it could pass for another name'],
  [/^\s|\s$/, 'it begins or ends with a space'],
  [/\//, 'it holds "/", which separates topic levels and folders'],
  [/\\/, 'it holds "\\", which separates folders on some systems'],
  [/[+#]/, 'it holds "+" or "#", which are wildcards in topic filters'],
  [/^\$/, 'it begins with "$", which is kept for the broker\'s own topics'],
  [/^\.{1,2}$/, 'it is the name of a folder'],
  [new RegExp(`^.{${maxCommonName + 1}}`, 'su'), `it is longer than ${maxCommonName} characters`]
]

/** Why this text cannot be a common name, or undefined when it can. */
export function commonNameProblem(commonName: string): string | undefined {
  return commonNameRules.find(([wrong]) => wrong.test(commonName))?.[1]
}

/** Passes a good common name on; any other is an ERR_PKI_INPUT with its reason. */
export function checkCommonName(commonName: string): string {
  const reason = commonNameProblem(commonName)
  if (reason === undefined) return commonName
  throw new BrokerError('ERR_PKI_INPUT', `The name ${JSON.stringify(commonName)} cannot be used: ${reason}.`)
}

/** A host name or an address as a person types it, as the subjectAltName it has to be. */
export function parseAlternativeName(text: string): AlternativeName {
  if (isIP(text) !== 0) return parseAddress(text)
  const host = toAscii(text.startsWith('*.') ? text.slice(2) : text)
  if (!isHostName(host)) {
    const reason = /^[\d.]+$/.test(text) || text.includes(':') ? 'it is neither an IP address nor a host name' : 'it is not a host name'
    throw new BrokerError('ERR_PKI_INPUT', `${JSON.stringify(text)} cannot be a name of the broker: ${reason}.`)
  }
  return { type: 'dns', value: text.startsWith('*.') ? `*.${host}` : host }
}

/** As `parseAlternativeName`, for what must be an address. */
export function parseAddress(text: string): AlternativeName {
  if (isIP(text) === 0) throw new BrokerError('ERR_PKI_INPUT', `${JSON.stringify(text)} is not an IP address.`)
  // A zone names an interface of one machine; a certificate has no place for it.
  if (text.includes('%'))
    throw new BrokerError('ERR_PKI_INPUT', `${JSON.stringify(text)} names a network interface; leave "%" and what follows out.`)
  return { type: 'ip', value: text }
}

// Node's function reads a URL's host, so "a/b" would be "a": it gets letters, digits, dots and dashes alone.
function toAscii(host: string): string {
  return /^[\p{L}\p{M}\p{N}._-]+$/u.test(host) && /[^\0-\x7f]/.test(host) ? domainToASCII(host) : host
}

// RFC 1123 with underscores, which containers have in their names. All-numeric last labels would be taken for addresses.
function isHostName(host: string): boolean {
  const labels = host.split('.')
  return (
    host.length <= 253 &&
    labels.every(label => /^[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?$/i.test(label)) &&
    !/^\d+$/.test(labels.at(-1) ?? '')
  )
}
