// The certificates that a client sends with its own. Node 24.21 and 26.8 read the client's certificate themselves before `secureConnection`,
// and that takes the others off OpenSSL's list [nodejs/node#65579]; so there they are read a moment earlier.

import type { X509Certificate } from 'node:crypto'
import type { PeerCertificate, Server, TLSSocket } from 'node:tls'

const taken = new WeakMap<TLSSocket, X509Certificate | undefined>()

/** Node 20 leaves the list alone, and is spared five calls for each handshake; what the others will do nobody knows. */
const mayLoseChains = Number.parseInt(process.versions.node, 10) > 20

/** To be called once for a server that asks for certificates. */
export function keepPeerChains(server: Server): void {
  if (!mayLoseChains) return
  // The one event that hands out the socket while the handshake is under way; the line, a secret, is not looked at.
  server.on('keylog', (_line: Buffer, socket: TLSSocket) => {
    if (taken.has(socket)) return
    taken.set(socket, undefined)
    socket.prependOnceListener('secure', () => taken.set(socket, socket.getPeerX509Certificate()))
  })
}

/** What the client showed, with what it sent along as its issuers. */
export function peerCertificate(socket: TLSSocket): X509Certificate | undefined {
  return taken.get(socket) ?? socket.getPeerX509Certificate()
}

/** The DER of what the client showed, without the others. */
export function peerLeaf(socket: TLSSocket): Buffer | undefined {
  const early = taken.get(socket)
  // An empty object where there is none.
  return early === undefined ? (socket.getPeerCertificate() as PeerCertificate | undefined)?.raw : early.raw
}
