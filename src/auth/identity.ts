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
    readonly psk?: PskIdentity
  }
}

/** Who has proven to have a pre-shared key. */
export interface PskIdentity {
  readonly identity: string
  /** Tells that key from another; it is not the key. */
  readonly mark: Buffer
}

/**
 * What `#!pattern` lines ask of a client certificate. Nothing here is empty or holds `/`, `+` or `#`, and nothing is here that no line asks
 * for.
 */
export interface CertificateFacts {
  /** The first O of the subject. */
  readonly organization?: string
  /** The first OU. */
  readonly organizationalUnit?: string
  /** As `openssl x509 -serial` prints it. */
  readonly serial?: string
}

/** What the ACL decides about. */
export interface Identity {
  readonly clientId: string
  readonly username?: string
  /** Absent: there is no certificate, or no line of the ACL asks for anything that it says. */
  readonly certificate?: CertificateFacts
}

/** Has the one the rights of the other, as far as a name and a certificate give them? Asked for each message: allocates nothing. */
export function hasSameRights(one: Omit<Identity, 'clientId'> | undefined, other: Omit<Identity, 'clientId'> | undefined): boolean {
  const a = one?.certificate
  const b = other?.certificate
  return (
    one?.username === other?.username &&
    a?.organization === b?.organization &&
    a?.organizationalUnit === b?.organizationalUnit &&
    a?.serial === b?.serial
  )
}

/** Facts as a store gives them back; undefined: there are none. */
export function readCertificateFacts(value: unknown): CertificateFacts | undefined {
  if (typeof value !== 'object' || value === null) return undefined
  const { organization, organizationalUnit, serial }: Record<string, unknown> = { ...value }
  const facts = {
    ...(typeof organization === 'string' && { organization }),
    ...(typeof organizationalUnit === 'string' && { organizationalUnit }),
    ...(typeof serial === 'string' && { serial })
  }
  return Object.keys(facts).length === 0 ? undefined : facts
}
