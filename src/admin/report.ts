// What an administrator is told and may do: shapes whose field names stay, since scripts read them as JSON. Times are ISO 8601, sizes bytes,
// durations seconds. What is not known or does not apply is absent.

import type { Qos, Version } from '../protocol/packets.js'

/** One session, connected or not. */
export interface ClientReport {
  readonly clientId: string
  readonly username?: string
  readonly connected: boolean
  /** Of a connected client; a Unix socket has its path and 0. */
  readonly address?: string
  readonly port?: number
  /** That of its last connection: `port 8883`, `port 8883 on 192.0.2.1`, `socket /run/mqtt`. */
  readonly listener?: string
  /** 3: MQTT 3.1, 4: 3.1.1, 5: 5.0. */
  readonly protocolVersion: Version
  readonly tls?: { readonly version: string; readonly cipher: string }
  readonly certificate?: CertificateReport
  readonly connectedAt?: string
  readonly disconnectedAt?: string
  /** As the broker imposes it; 0: none. */
  readonly keepalive?: number
  /** Of the session; absent: it never ends. */
  readonly sessionExpiryInterval?: number
  /** When the session of a client that is away ends. */
  readonly sessionExpiresAt?: string
  readonly subscriptions: number
  /** Messages that wait, those under way apart. */
  readonly queued: number
  /** Sent, and not acknowledged to the end. */
  readonly inflight: number
  /** Payloads of both. */
  readonly queuedBytes: number
  /** QoS 2 messages from the client whose PUBREL is awaited. */
  readonly incoming: number
  readonly hasWill: boolean
}

export interface CertificateReport {
  /** RFC 2253. */
  readonly subject: string
  readonly issuer: string
  /** Upper-case hexadecimal. */
  readonly serial: string
  readonly notBefore: string
  readonly notAfter: string
}

export interface SubscriptionReport {
  readonly clientId: string
  readonly connected: boolean
  /** With the mount point of its listener, without `$share/GROUP/`. */
  readonly filter: string
  /** Of a shared subscription. */
  readonly group?: string
  readonly qos: Qos
  readonly noLocal: boolean
  readonly retainAsPublished: boolean
  readonly retainHandling: 0 | 1 | 2
  /** Absent: none. */
  readonly subscriptionIdentifier?: number
  /** May the client read the topic that was asked for? Present when one was. */
  readonly mayRead?: boolean
}

/** One message that a client is still to get. */
export interface QueueReport {
  /** Its place: increasing, not gapless. */
  readonly sequence: number
  readonly topic: string
  readonly qos: Qos
  readonly retain: boolean
  /** `queued`: it waits. `sent`: its PUBLISH went out. `received`: the client has it, PUBCOMP is awaited. */
  readonly state: 'queued' | 'sent' | 'received'
  readonly bytes: number
  readonly expiresAt?: string
  /** Who published it; absent: the broker, or a store that doesn't keep it. */
  readonly from?: string
  /** Base64, only when asked for: at most `mostPayload` bytes of it. */
  readonly payload?: string
}

/** Of a payload that is shown. */
export const mostPayload = 65_536

export interface RetainedReport {
  readonly topic: string
  readonly qos: Qos
  readonly bytes: number
  readonly expiresAt?: string
  readonly from?: string
}

/** All that is given has to fit. Patterns: `*` is anything, `?` one character; a pattern without either is looked for anywhere within. */
export interface ClientQuery {
  readonly match?: string | undefined
  readonly username?: string | undefined
  readonly address?: string | undefined
  /** `8883`, `port 8883`, the path of a socket. */
  readonly listener?: string | undefined
  readonly connected?: boolean | undefined
}

export interface SubscriptionQuery {
  readonly clientId?: string | undefined
  /** Those that a message to this topic would match. */
  readonly topic?: string | undefined
}

export interface KickReport {
  /** There was a connection, and it was ended. */
  readonly disconnected: boolean
  /** There was a session, and it was ended. */
  readonly forgotten: boolean
}

/**
 * What can be asked of a running broker. Lists are walked in slices, so that nobody waits for them, whatever comes and goes meanwhile: who was
 * there all the time is in them once, who came later is not.
 */
export interface Administration {
  clients(query?: ClientQuery): AsyncGenerator<ClientReport, void>
  subscriptions(query?: SubscriptionQuery): AsyncGenerator<SubscriptionReport, void>
  /** Resolves with undefined: there is no such session. */
  queue(clientId: string, options?: { readonly payload?: boolean }): Promise<AsyncGenerator<QueueReport, void> | undefined>
  /** As a subscription to the filter sees them: a leading wildcard does not see `$SYS`. */
  retained(filter: string): AsyncGenerator<RetainedReport, void>
  /**
   * Removes what the filter matches, without a word to subscribers; resolves with how many there were once the store has done so too. A
   * TypeError: a filter of `$SYS`, or none.
   */
  clearRetained(filter: string): Promise<number>
  /**
   * Ends the connection, as the broker's own doing: 0x98 for MQTT 5 clients; its will is sent. `forget` ends the session too. Resolves with
   * undefined: there is no such session.
   */
  kick(clientId: string, options?: { readonly forget?: boolean }): Promise<KickReport | undefined>
}
