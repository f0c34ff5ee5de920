// Why a TLS handshake failed, in words for the log. What OpenSSL says is looked up in a table; what is not there keeps OpenSSL's words.

import { tlsCode } from '../errors.js'
import { opensslReason } from './tls.js'

/** What the words of the log line are made of: one code for each, for counters and tests. */
export type HandshakeReason =
  | 'plain-mqtt'
  | 'http'
  | 'broker-not-trusted'
  | 'no-common-version'
  | 'no-common-cipher'
  | 'closed'
  | 'timeout'
  | 'no-place'
  | 'unknown-psk'
  | 'wrong-psk'
  | 'listener-changed'
  | 'handshake-error'

export interface HandshakeFault {
  readonly reason: HandshakeReason
  /** Goes behind `Connection from ADDRESS:PORT rejected, `. */
  readonly words: string
}

const untrusted = (alert: string): HandshakeFault => ({
  reason: 'broker-not-trusted',
  words: `client does not trust our certificate (TLS alert ${alert})`
})

// mosquitto_pub answers a host name that is not in the certificate with internal_error, as OpenSSL does when an application says no.
const refusedByClient: HandshakeFault = {
  reason: 'broker-not-trusted',
  words: 'client does not accept our certificate, mostly because the host name that it connects to is not in it (TLS alert internal_error)'
}
const plainMqtt: HandshakeFault = { reason: 'plain-mqtt', words: 'client speaks plain MQTT on a TLS port' }
const http: HandshakeFault = { reason: 'http', words: 'client speaks HTTP on a TLS port' }
const noVersion: HandshakeFault = { reason: 'no-common-version', words: 'no TLS version in common' }
const noCipher: HandshakeFault = { reason: 'no-common-cipher', words: 'no cipher in common' }
const closed: HandshakeFault = { reason: 'closed', words: 'client closed the connection during the handshake' }
const timedOut: HandshakeFault = { reason: 'timeout', words: 'handshake timed out' }

/** Faults that are seen without OpenSSL. */
export const handshakeFaults = {
  closed,
  timedOut,
  noPlace: { reason: 'no-place', words: 'too many handshakes are waiting' },
  changed: { reason: 'listener-changed', words: 'TLS of this listener was switched on or off meanwhile' }
} as const satisfies Record<string, HandshakeFault>

// By `tlsCode`. The alerts are what the client sent us; their names in brackets help whoever searches for them.
const faults: ReadonlyMap<string, HandshakeFault> = new Map([
  ['ERR_SSL_WRONG_VERSION_NUMBER', plainMqtt],
  ['ERR_SSL_HTTP_REQUEST', http],
  ['ERR_SSL_HTTPS_PROXY_REQUEST', http],
  ['ERR_SSL_TLSV1_ALERT_UNKNOWN_CA', untrusted('unknown_ca')],
  ['ERR_SSL_SSLV3_ALERT_BAD_CERTIFICATE', untrusted('bad_certificate')],
  ['ERR_SSL_SSLV3_ALERT_CERTIFICATE_UNKNOWN', untrusted('certificate_unknown')],
  ['ERR_SSL_SSLV3_ALERT_CERTIFICATE_EXPIRED', untrusted('certificate_expired')],
  ['ERR_SSL_SSLV3_ALERT_CERTIFICATE_REVOKED', untrusted('certificate_revoked')],
  ['ERR_SSL_SSLV3_ALERT_UNSUPPORTED_CERTIFICATE', untrusted('unsupported_certificate')],
  ['ERR_SSL_TLSV1_ALERT_ACCESS_DENIED', untrusted('access_denied')],
  ['ERR_SSL_TLSV1_ALERT_INTERNAL_ERROR', refusedByClient],
  ['ERR_SSL_UNSUPPORTED_PROTOCOL', noVersion],
  ['ERR_SSL_VERSION_TOO_LOW', noVersion],
  ['ERR_SSL_UNKNOWN_PROTOCOL', noVersion],
  ['ERR_SSL_TLSV1_ALERT_PROTOCOL_VERSION', noVersion],
  ['ERR_SSL_NO_SHARED_CIPHER', noCipher],
  ['ERR_SSL_SSLV3_ALERT_HANDSHAKE_FAILURE', noCipher],
  ['ERR_SSL_NO_SUITABLE_SIGNATURE_ALGORITHM', { ...noCipher, words: 'no signature algorithm in common' }],
  ['ERR_SSL_NO_SHARED_GROUP', { ...noCipher, words: 'no key exchange group in common' }],
  ['ERR_SSL_NO_SUITABLE_KEY_SHARE', { ...noCipher, words: 'no key exchange group in common' }],
  ['ECONNRESET', closed],
  ['EPIPE', closed],
  ['ERR_SSL_UNEXPECTED_EOF_WHILE_READING', closed],
  ['ETIMEDOUT', timedOut],
  ['ERR_TLS_HANDSHAKE_TIMEOUT', timedOut]
])

/** The fault behind an error of `tlsClientError`, or of a socket before its first byte of MQTT. */
export function handshakeFault(error: Error): HandshakeFault {
  const known = faults.get(tlsCode(error) ?? '')
  return known ?? { reason: 'handshake-error', words: `TLS handshake failed: ${opensslReason(error)}` }
}
