// One connection as the broker knows it, and the lines of its life in the log, in Mosquitto's words.

import type { Connection } from '../auth/identity.js'
import type { Admitted } from '../auth/policy.js'
import type { Log } from '../log-events.js'

export interface Session {
  readonly connection: Connection
  admitted?: Admitted
  /** As the log calls it: before CONNECT nobody knows. */
  clientId: string
  protocolVersion: number
  keepalive: number
  clean: boolean
  will?: Message
  /** The broker gave it its identifier. */
  assigned: boolean
  /** It has no rights any more, though its connection may take a moment to end. */
  revoked: boolean
  /** Why the connection ends, once that is known; `''` is the client's own DISCONNECT. */
  end?: string
  endLogged: boolean
}

/** A PUBLISH or a will. */
export interface Message {
  readonly topic: string
  readonly payload: string | Buffer
  readonly qos?: 0 | 1 | 2
  readonly retain?: boolean
  readonly dup?: boolean
  readonly messageId?: number
}

/** What a client sends, as far as the log tells of it. */
export type IncomingPacket =
  | ({ readonly cmd: 'publish' } & Message)
  | { readonly cmd: 'puback' | 'pubrec' | 'pubrel' | 'pubcomp'; readonly messageId?: number; readonly reasonCode?: number }
  | { readonly cmd: 'subscribe'; readonly subscriptions: readonly { topic: string; readonly qos: number }[] }
  | { readonly cmd: 'unsubscribe'; readonly unsubscriptions: readonly string[] }
  | { readonly cmd: 'connect' | 'pingreq' | 'disconnect' | 'auth' }

export function newSession(connection: Connection): Session {
  return {
    connection,
    clientId: '<unknown>',
    protocolVersion: 4,
    keepalive: 0,
    clean: true,
    assigned: false,
    revoked: false,
    endLogged: false
  }
}

/** `{ username }` of a client that has one. */
export function nameOf({ admitted }: Session): { username?: string } {
  const username = admitted?.identity.username
  return username === undefined ? {} : { username }
}

/** The fields of a line about a PUBLISH. */
export function publishFields({ clientId }: Session, { dup = false, qos = 0, retain = false, messageId = 0, topic, payload }: Message) {
  return { clientId, dup, qos, retain, packetId: messageId, topic, bytes: payload.length }
}

export function logConnected(log: Log, session: Session): void {
  const { connection, clientId, protocolVersion, clean, keepalive, will } = session
  const { remoteAddress, remotePort, tls } = connection
  log.write('clientConnected', { remoteAddress, remotePort, clientId, protocolVersion, clean, keepalive, ...nameOf(session) })
  if (tls !== undefined) log.write('clientNegotiated', { clientId, version: tls.version, cipher: tls.cipher })
  if (will === undefined) log.write('noWillSpecified', { clientId })
  else log.write('willSpecified', publishFields(session, will))
}

/** Once for each connection, whoever comes first to say it. */
export function logEnd(log: Log, session: Session): void {
  if (session.endLogged) return
  session.endLogged = true
  const { connection, clientId, end = 'connection closed by client' } = session
  const { remoteAddress, remotePort } = connection
  log.write('clientDisconnected', { remoteAddress, remotePort, clientId, ...(end !== '' && { reason: end }) })
}

export function logReceived(log: Log, session: Session, packet: IncomingPacket): void {
  if (!log.enabled('debug')) return
  const { clientId } = session
  const name = packet.cmd.toUpperCase()
  switch (packet.cmd) {
    case 'connect':
      break
    case 'publish':
      log.write('publishReceived', publishFields(session, packet))
      break
    case 'puback':
    case 'pubrec':
    case 'pubrel':
    case 'pubcomp': {
      const { messageId: packetId = 0, reasonCode = 0 } = packet
      log.write('acknowledgementReceived', { clientId, packet: name, packetId, reasonCode })
      break
    }
    case 'subscribe':
      log.write('subscribeReceived', { clientId, filters: packet.subscriptions.map(({ topic, qos }) => ({ filter: topic, qos })) })
      break
    case 'unsubscribe':
      log.write('unsubscribeReceived', { clientId, filters: packet.unsubscriptions })
      break
    case 'pingreq':
    case 'disconnect':
    case 'auth':
      log.write('packetReceived', { clientId, packet: name })
  }
}
