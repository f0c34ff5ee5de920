// What a TLS server presents to those who connect: its chain as it comes over the wire, whoever signed it.

import { X509Certificate } from 'node:crypto'
import { isIP } from 'node:net'
import { connect, type DetailedPeerCertificate, type TLSSocket } from 'node:tls'
import { BrokerError, errorMessage, systemReason } from '../errors.js'

export interface Presented {
  /** The server's own certificate first. */
  readonly chain: readonly X509Certificate[]
  readonly protocol: string
  readonly cipher: string
  /** Whether the certificate is for the name that was asked for. */
  readonly isForHost: boolean
  /** It hung up afterwards, mostly for the want of a client's certificate. */
  readonly refusal?: string
}

export interface Address {
  readonly host: string
  readonly port: number
}

/** A client's own pair, for servers that ask for one. PEM. */
export interface ClientPair {
  readonly cert: string
  readonly key: string
  readonly passphrase?: string
}

/** `localhost:8883`, `[::1]:8883`; undefined: it is something else. */
export function parseAddressAndPort(text: string): Address | undefined {
  const [, bracketed, plain, digits = ''] = /^(?:\[([^\]]+)\]|([^:/\s]+)):(\d{1,5})$/.exec(text) ?? []
  const host = bracketed ?? plain
  const port = Number(digits)
  return host !== undefined && port > 0 && port < 65_536 ? { host, port } : undefined
}

/** How long a server may take, milliseconds: small devices need seconds for a handshake. */
const patience = 10_000
/** A server that refuses a client says so right after the handshake [TLS 1.3: its certificate is judged after ours]. */
const afterthought = 500

/** Connects, looks and hangs up; nothing of MQTT is sent. */
export function readPresented({ host, port }: Address, pair?: ClientPair): Promise<Presented> {
  return new Promise((resolve, reject) => {
    const name = isIP(host) === 0 ? { servername: host } : {}
    const refuse = (reason: string, cause?: unknown) =>
      reject(new BrokerError('ERR_PKI_FILE', `No certificate to be had from ${host}:${port}: ${reason}.`, undefined, { cause }))
    let socket: TLSSocket
    try {
      // Whatever is presented is to be shown, so nothing is refused; and nothing is sent that would need protection.
      socket = connect({ host, port, ...name, ...pair, ca: [], rejectUnauthorized: false, ALPNProtocols: ['mqtt'] })
    } catch (cause) {
      // The pair that was given can't be used.
      refuse(errorMessage(cause), cause)
      return
    }
    let seen: Presented | undefined
    const give = (refusal?: string) => {
      socket.destroy()
      if (seen) resolve({ ...seen, ...(refusal !== undefined && { refusal }) })
    }
    socket.setTimeout(patience).on('timeout', () => {
      if (!seen) refuse('it did not answer in time')
      give()
    })
    socket.once('secureConnect', () => {
      seen = presentedBy(socket, host)
      socket.setTimeout(afterthought)
      socket.resume()
    })
    socket.once('error', error => {
      seen ??= presentedBy(socket, host)
      if (seen) give(reasonOf(error))
      else refuse(reasonOf(error), error)
    })
    socket.once('close', () => (seen ? give('the server closed the connection') : refuse('it closed the connection')))
  })
}

function reasonOf(error: Error): string {
  if (/wrong version number|packet length too long/i.test(error.message)) return 'it does not speak TLS on this port'
  const [, alert] = /alert ([a-z ]+)/i.exec(error.message) ?? []
  if (alert !== undefined) return `the server refused the client: ${alert.trim()}`
  return systemReason(error)
}

function presentedBy(socket: TLSSocket, host: string): Presented | undefined {
  const chain = chainOf(socket.getPeerCertificate(true))
  const [own] = chain
  if (own === undefined) return undefined
  return {
    chain,
    protocol: socket.getProtocol() ?? 'unknown',
    cipher: socket.getCipher()?.name ?? 'unknown',
    isForHost: (isIP(host) === 0 ? own.checkHost(host) : own.checkIP(host)) !== undefined
  }
}

// Node ends a chain with a certificate that is its own issuer, or with an empty object.
function chainOf(first: DetailedPeerCertificate | undefined): X509Certificate[] {
  const chain: X509Certificate[] = []
  for (let next = first; next?.raw !== undefined; next = next.issuerCertificate) {
    const { raw } = next
    if (chain.some(known => known.raw.equals(raw))) break
    chain.push(new X509Certificate(raw))
  }
  return chain
}
