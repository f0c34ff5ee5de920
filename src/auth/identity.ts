// Who a connection is: the facts of its transport, and the name and client identifier that follow from them and its CONNECT.

import type { ListenerConfig } from '../config/types.js'

/** The client certificate of a connection, read once when the handshake ends. */
export interface ClientCertificate {
  /** The first CN of the subject, as Mosquitto takes it [mosquitto.conf(5), use_identity_as_username]. */
  readonly commonName?: string
  /** The whole subject in the order and escaping of RFC 2253, most specific first: `CN=dev,OU=x,O=y,C=z`. */
  readonly subject: string
  readonly issuer: string
  /** Upper-case hexadecimal. */
  readonly serial: string
  readonly notBefore: Date
  readonly notAfter: Date
  /** DER. */
  readonly raw: Buffer
  /** DER of the intermediate CAs between it and its root, nearest first, so that a reload can check it again. */
  readonly chain?: readonly Buffer[]
}

/** The other end of a transport. A Unix socket has no address: then both are as Mosquitto logs them, its path and 0. */
export interface Peer {
  readonly remoteAddress: string
  readonly remotePort: number
}

/** An accepted transport before its CONNECT. */
export interface Connection extends Peer {
  readonly listener: ListenerConfig
  readonly tls?: {
    readonly version: string
    readonly cipher: string
    readonly certificate?: ClientCertificate
  }
}

/** What the ACL decides about. */
export interface Identity {
  readonly clientId: string
  readonly username?: string
}
