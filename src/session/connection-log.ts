// The lines of a connection's life, in Mosquitto's words.

import type { Connect, ConnectFaultDetail, FaultDetail } from '../protocol/packets.js'
import type { Connection } from './connection.js'

/** `{ username }` of a client that has one. */
export function nameOf({ admitted }: Connection): { username?: string } {
  const username = admitted?.identity.username
  return username === undefined ? {} : { username }
}

export function logConnected(connection: Connection, { bridge, clean, will, version }: Connect): void {
  const { transport, clientId, keepalive, host } = connection
  const { remoteAddress, remotePort, tls } = transport
  const { log } = host
  log.write('clientConnected', {
    remoteAddress,
    remotePort,
    clientId,
    protocolVersion: version,
    clean,
    keepalive,
    ...nameOf(connection),
    ...(bridge && { bridge })
  })
  if (will === undefined) log.write('noWillSpecified', { clientId })
  else log.write('willSpecified', { clientId, qos: will.qos, retain: will.retain, topic: will.topic, bytes: will.payload.length })
  if (tls !== undefined) log.write('clientNegotiated', { clientId, version: tls.version, cipher: tls.cipher })
}

/** Why a certificate that was let in names nobody. Mosquitto says "bad username or password" of it and no more. */
export function logNameless({ host, listener, transport }: Connection, words: string): void {
  const { remoteAddress, remotePort, tls } = transport
  const { subject, issuer } = tls?.certificate ?? {}
  host.log.write('rejected', {
    remoteAddress,
    remotePort,
    port: listener.port,
    reason: 'no-name',
    words,
    ...(subject && issuer && { subject, issuer })
  })
}

/** What was wrong with a packet, before the line of the end. */
export function logFault({ host, clientId, transport }: Connection, detail: FaultDetail): void {
  const { log } = host
  switch (detail.event) {
    case 'publishInvalid':
      log.write(detail.event, { clientId, what: detail.what })
      break
    case 'subscribeInvalid':
      log.write(detail.event, { remoteAddress: transport.remoteAddress, what: detail.what })
      break
    case 'unsubscribeInvalid':
      log.write(detail.event, { clientId, what: detail.what })
      break
    case 'protocolError':
      log.write(detail.event, { clientId, what: detail.what })
  }
}

/** The same for a CONNECT. */
export function logConnectFault({ host, transport }: Connection, detail: ConnectFaultDetail): void {
  const { log } = host
  const { remoteAddress, remotePort } = transport
  switch (detail.event) {
    case 'connectInvalid':
      log.write(detail.event, { remoteAddress, remotePort, what: detail.what })
      break
    case 'connectProtocolUnknown':
      log.write(detail.event, { remoteAddress, remotePort, what: detail.what })
      break
    case 'protocolError':
      log.write(detail.event, { clientId: detail.clientId, what: detail.what })
      break
    case 'passwordWithoutUsername':
      log.write(detail.event, { clientId: detail.clientId })
  }
}

/** Without words the client said goodbye itself. */
export function logEnd(connection: Connection): void {
  const { transport, clientId, end, host } = connection
  const { remoteAddress, remotePort } = transport
  const words = end?.words ?? 'connection closed by client'
  const name = clientId === '' ? '<unknown>' : clientId
  host.log.write('clientDisconnected', {
    remoteAddress,
    remotePort,
    clientId: name,
    ...(words !== '' && { reason: words }),
    ...(end?.loss !== undefined && { loss: end.loss }),
    ...(end?.why !== undefined && { why: end.why })
  })
}
