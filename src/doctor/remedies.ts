// What an attempt that did not end well means, in words.

import type { ListenerConfig } from '../config/types.js'
import type { Version } from '../protocol/packets.js'
import { reasonCodes, returnCodes } from '../protocol/reason-codes.js'
import type { Attempt } from './attempt.js'
import { type Finding, wrong } from './finding.js'
import type { Connack } from './packets.js'

export interface Ending {
  readonly end: Attempt['end']
  readonly listener: ListenerConfig
  /** `localhost, port 8883`. */
  readonly place: string
  readonly version: Version
  /** Why the listener would not let such a client in, where its configuration alone says so. */
  readonly why?: string | undefined
}

/** Undefined: it was let in. */
export function explainEnding(ending: Ending): Finding | undefined {
  const { end, listener, place } = ending
  switch (end.kind) {
    case 'connack':
      return end.connack.code === 0 ? undefined : explainConnack(end.connack, ending)
    // Why it is not trusted is said of its certificate.
    case 'withheld':
      return undefined
    case 'unreachable':
      return explainUnreachable(end.code, place, listener)
    case 'handshake':
      return explainHandshake(end.code, end.words, place, listener)
    case 'not-mqtt':
      return explainStrange(end.head, place, listener)
    case 'silent': {
      if (end.after === 'start') return noAnswer(place)
      const what = end.after === 'connect' ? 'CONNECT' : 'the TLS handshake'
      return wrong(
        'not-mqtt',
        `What listens at ${place} does not answer ${what}.`,
        `Look which program that is: it is no MQTT broker${listener.tls ? ' with TLS' : ''}, or it hangs.`
      )
    }
    case 'closed': {
      const alert = end.code ? ` (${end.code})` : ''
      const mend = "The broker's log has a line with the reason; 'log_type all' shows more."
      return wrong('closed', `The broker at ${place} closed the connection without an answer${alert}.`, mend)
    }
  }
}

function explainUnreachable(code: string, place: string, { at }: ListenerConfig): Finding {
  switch (code) {
    case 'ENOTFOUND':
    case 'EAI_AGAIN':
    case 'EAI_NONAME':
      return wrong(
        'unknown-host',
        `There is no host of that name: ${place}.`,
        'Correct the name, or enter it in DNS or in the hosts file of the device.'
      )
    case 'ECONNREFUSED':
    case 'ENOENT':
    case 'EADDRNOTAVAIL': {
      const mend =
        'Start the broker, or see in its log which ports it opened; from elsewhere the listener must not be bound to this machine alone.'
      return wrong('nobody-listens', `Nothing listens at ${place}.`, mend, at)
    }
    default:
      return noAnswer(place, code)
  }
}

function noAnswer(place: string, code?: string): Finding {
  const mend = 'Let the port through in every firewall on the way, or correct the address.'
  return wrong('no-answer', `There is no answer from ${place}${code === undefined ? '' : ` (${code})`}.`, mend)
}

function explainHandshake(code: string, words: string, place: string, { tls, at }: ListenerConfig): Finding {
  if (plainCodes.has(code)) {
    const mend = 'Restart the broker with this configuration, or see which program has the port.'
    return wrong('plain-port', `What listens at ${place} does not speak TLS, although the configuration says so.`, mend, at)
  }
  if (versionCodes.has(code)) {
    const lowest = tls?.minVersion.replace('TLSv', 'TLS ') ?? 'TLS 1.2'
    const mend = `Let the device speak ${lowest} or newer, or set 'tls_version'.`
    return wrong('tls-version', `The device and the broker have no TLS version in common; the broker speaks ${lowest} and newer.`, mend, at)
  }
  if (cipherCodes.has(code)) {
    const { ciphers, ciphersTls13 } = tls ?? {}
    const mend = "Let the device offer one of the broker's, or widen 'ciphers' (TLS 1.2) or 'ciphers_tls1.3'."
    return wrong(
      'tls-cipher',
      `The device and the broker have no cipher or key exchange in common (${words}).`,
      mend,
      (ciphers ?? ciphersTls13)?.at ?? at
    )
  }
  if (weakCodes.has(code)) {
    const mend = 'Have it made anew: EC P-256 or RSA of 2048 bits at least, signed with SHA-256.'
    return wrong('device-not-accepted', `OpenSSL takes the device's certificate for too weak (${words}).`, mend)
  }
  return wrong(
    'tls-failed',
    `The TLS handshake with ${place} failed: ${words}${code ? ` (${code})` : ''}.`,
    "The broker's log has a line with its side of it."
  )
}

const plainCodes = new Set(['ERR_SSL_WRONG_VERSION_NUMBER', 'ERR_SSL_PACKET_LENGTH_TOO_LONG', 'ERR_SSL_HTTP_REQUEST'])
const versionCodes = new Set([
  'ERR_SSL_UNSUPPORTED_PROTOCOL',
  'ERR_SSL_TLSV1_ALERT_PROTOCOL_VERSION',
  'ERR_SSL_VERSION_TOO_LOW',
  'ERR_SSL_NO_PROTOCOLS_AVAILABLE'
])
// An alert handshake_failure is how a server says that nothing of what was offered is to its liking.
const cipherCodes = new Set([
  'ERR_SSL_SSLV3_ALERT_HANDSHAKE_FAILURE',
  'ERR_SSL_NO_CIPHERS_AVAILABLE',
  'ERR_SSL_NO_CIPHER_MATCH',
  'ERR_SSL_NO_SHARED_CIPHER'
])

const weakCodes = new Set(['ERR_SSL_EE_KEY_TOO_SMALL', 'ERR_SSL_CA_KEY_TOO_SMALL', 'ERR_SSL_CA_MD_TOO_WEAK'])

/** The first byte of a TLS alert. */
export const tlsAlert = 0x15

function explainStrange(head: number, place: string, { tls, at }: ListenerConfig): Finding {
  if (tls === undefined && head === tlsAlert) {
    const mend = 'Restart the broker with this configuration, or name the TLS listener that is meant by --listener.'
    return wrong('tls-port', `What listens at ${place} speaks TLS, although the configuration says plain text.`, mend, at)
  }
  return wrong(
    'not-mqtt',
    `What listens at ${place} is no MQTT broker.`,
    'See which program has the port, and give the broker another.',
    at
  )
}

function explainConnack({ code, reason }: Connack, { listener, version, why }: Ending): Finding {
  const said = `${version === 5 ? `0x${code.toString(16)}` : code}${reason === undefined ? '' : `: ${reason}`}`
  const because = why === undefined ? '' : `: ${why}`
  const { at } = listener
  switch (meaningOf(code, version)) {
    case 'protocol-version':
      return wrong(
        'protocol-version',
        `The broker refuses this MQTT version (CONNACK ${said}).`,
        "Let the device speak another, or widen 'accept_protocol_versions'.",
        at
      )
    case 'client-id':
      return wrong(
        'client-id',
        `The broker refuses the client id (CONNACK ${said})${because}.`,
        'Give the device a client id as the configuration wants it.',
        at
      )
    case 'credentials':
      return wrong(
        'credentials',
        `The broker does not accept username and password (CONNACK ${said})${because}.`,
        'Give the device a username and password that the listener knows.',
        at
      )
    case 'not-authorised':
      return wrong(
        'not-authorised',
        `The broker does not let the device in (CONNACK ${said})${because}.`,
        'Correct the username or password, or what the listener demands.',
        at
      )
    case 'busy':
      return wrong(
        'busy',
        `The broker takes no more clients just now (CONNACK ${said}).`,
        "Try again; see 'max_connections' and 'global_max_clients', and whether its store is there.",
        at
      )
    default:
      return wrong('closed', `The broker refuses the device (CONNACK ${said}).`, "The broker's log has a line with the reason.", at)
  }
}

type Meaning = 'protocol-version' | 'client-id' | 'credentials' | 'not-authorised' | 'busy'

const meanings3: ReadonlyMap<number, Meaning> = new Map([
  [returnCodes.unacceptableProtocolVersion, 'protocol-version'],
  [returnCodes.identifierRejected, 'client-id'],
  [returnCodes.serverUnavailable, 'busy'],
  [returnCodes.badUserNameOrPassword, 'credentials'],
  [returnCodes.notAuthorized, 'not-authorised']
])

const meanings5: ReadonlyMap<number, Meaning> = new Map([
  [reasonCodes.unsupportedProtocolVersion, 'protocol-version'],
  [reasonCodes.clientIdentifierNotValid, 'client-id'],
  [reasonCodes.badUserNameOrPassword, 'credentials'],
  [reasonCodes.notAuthorized, 'not-authorised'],
  [reasonCodes.banned, 'not-authorised'],
  [reasonCodes.serverUnavailable, 'busy'],
  [reasonCodes.serverBusy, 'busy'],
  [reasonCodes.quotaExceeded, 'busy'],
  [reasonCodes.connectionRateExceeded, 'busy']
])

// A broker that does not know MQTT 5 answers in MQTT 3's codes.
function meaningOf(code: number, version: Version): Meaning | undefined {
  return (version === 5 && code >= reasonCodes.unspecifiedError ? meanings5 : meanings3).get(code)
}
