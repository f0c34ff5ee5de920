// Tries what a device does: a connection, a TLS handshake with its files, a CONNECT. Tells what came of it, and judges nothing.

import { X509Certificate } from 'node:crypto'
import { connect as connectPlain, isIP, type Socket } from 'node:net'
import { type ConnectionOptions, connect as connectTls, type SecureVersion, type TLSSocket } from 'node:tls'
import { type Certificate, toCertificate } from '../auth/chain.js'
import { errorMessage, systemCode, tlsCode } from '../errors.js'
import { opensslReason } from '../net/tls.js'
import { Framing } from '../protocol/framing.js'
import { packetTypes } from '../protocol/packets.js'
import { isCalled } from './broker-certificate.js'
import type { Device, DeviceKey } from './device.js'
import { type Connack, type ConnectWish, decodeConnack, disconnect, encodeConnect } from './packets.js'

export type Target = { readonly host: string; readonly port: number } | { readonly path: string }

export interface AttemptOptions {
  readonly target: Target
  /** Absent: plain text. */
  readonly tls?: {
    readonly device: Device
    /** Said in the handshake, where it is a name. */
    readonly serverName?: string
    readonly versions?: { readonly min?: SecureVersion; readonly max?: SecureVersion }
    readonly ciphers?: string
  }
  readonly connect: ConnectWish
  /** How long nothing may come, milliseconds. */
  readonly patience: number
}

export interface Attempt {
  readonly end: /** No connection: `code` is the system's. */
    | { readonly kind: 'unreachable'; readonly code: string }
    /** No TLS. */
    | { readonly kind: 'handshake'; readonly code: string; readonly words: string }
    /** The other side had its say and ended it without a CONNACK; `code` with a TLS alert, or the system's. */
    | { readonly kind: 'closed'; readonly code?: string }
    /** Nothing came. `after` what. */
    | { readonly kind: 'silent'; readonly after: 'start' | 'connection' | 'connect' }
    /** Something else answers: its first byte. */
    | { readonly kind: 'not-mqtt'; readonly head: number }
    | { readonly kind: 'connack'; readonly connack: Connack }
    /** The password was not sent: the broker is not one that the device trusts. */
    | { readonly kind: 'withheld' }
  /** What the broker showed, its own first. */
  readonly shown: readonly Certificate[]
  /** `TLSv1.3`, `TLS_AES_256_GCM_SHA384`. */
  readonly tls?: { readonly version: string; readonly cipher: string; readonly isAccepted: boolean; readonly problem?: string }
}

// What a peer may show between its certificate and a root.
const mostShown = 10

/** Never rejects. A session that this made is gone again, one that was there stays. */
export async function attempt(options: AttemptOptions): Promise<Attempt> {
  const first = await attemptOnce(options)
  const { connect } = options
  if (first.end.kind === 'connack' && first.end.connack.code === 0 && !first.end.connack.sessionPresent && !connect.clean) {
    await attemptOnce({ ...options, connect: { ...connect, clean: true } })
  }
  return first
}

function attemptOnce(options: AttemptOptions): Promise<Attempt> {
  return new Promise(resolve => {
    const { target, tls, connect, patience } = options
    let shown: readonly Certificate[] = []
    let secure: Attempt['tls']
    let after: 'start' | 'connection' | 'connect' = 'start'
    const plain = connectPlain({ ...target })
    let socket: Socket | TLSSocket = plain
    const finish = (end: Attempt['end']): void => {
      clearTimeout(timer)
      socket.destroy()
      plain.destroy()
      resolve({ end, shown, ...(secure && { tls: secure }) })
    }
    let accepted: Connack | undefined
    const timer = setTimeout(() => finish(accepted ? { kind: 'connack', connack: accepted } : { kind: 'silent', after }), patience)
    plain.once('error', error => {
      if (after === 'start') finish({ kind: 'unreachable', code: systemCode(error) ?? errorMessage(error) })
    })
    plain.once('connect', () => {
      after = 'connection'
      if (tls === undefined) {
        talk(plain)
        return
      }
      let wrapped: TLSSocket
      try {
        wrapped = connectTls({ socket: plain, ...tlsOptions(tls, target) })
      } catch (error) {
        finish({ kind: 'handshake', code: tlsCode(error) ?? '', words: opensslReason(error) })
        return
      }
      socket = wrapped
      let hasAnswered = false
      // There are keys once the other side has said its part, and what it is shown then it may refuse: in TLS 1.2 before the handshake has ended.
      wrapped.once('keylog', () => {
        hasAnswered = true
      })
      wrapped.once('secureConnect', () => {
        shown = shownBy(wrapped)
        secure = {
          version: wrapped.getProtocol() ?? '',
          cipher: wrapped.getCipher().standardName,
          isAccepted: wrapped.authorized,
          ...(wrapped.authorizationError && { problem: String(wrapped.authorizationError) })
        }
        // A device that knows its broker says no more to another.
        if (tls.device.trust !== undefined && !wrapped.authorized && connect.password !== undefined) finish({ kind: 'withheld' })
        else talk(wrapped)
      })
      wrapped.on('error', error => {
        const code = tlsCode(error) ?? ''
        const isShut = secure !== undefined || (hasAnswered && code === 'ECONNRESET')
        finish(!isShut ? { kind: 'handshake', code, words: opensslReason(error) } : { kind: 'closed', code })
      })
      wrapped.once('close', () =>
        finish(
          secure === undefined && !hasAnswered ? { kind: 'handshake', code: 'ECONNRESET', words: 'it was closed' } : { kind: 'closed' }
        )
      )
    })

    function talk(stream: Socket): void {
      const framing = new Framing()
      framing.limit = 65_536
      stream.on('error', error => finish({ kind: 'closed', code: tlsCode(error) ?? '' }))
      stream.once('close', () => finish({ kind: 'closed' }))
      stream.on('data', (chunk: Buffer) => {
        framing.append(chunk)
        const isWhole = framing.next()
        const { head } = framing
        if (framing.fault !== undefined || (head !== -1 && head !== packetTypes.connack << 4)) finish({ kind: 'not-mqtt', head })
        if (!isWhole) return
        const connack = decodeConnack(framing.buffer.subarray(framing.start, framing.end), connect.version)
        if (connack === undefined) finish({ kind: 'not-mqtt', head })
        else if (connack.code !== 0) finish({ kind: 'connack', connack })
        else leave(stream, connack)
      })
      after = 'connect'
      stream.write(encodeConnect(connect))
    }

    // The broker closes, so it has had the DISCONNECT. What it sends until then, such as messages that waited, is not acknowledged and stays.
    function leave(stream: Socket, connack: Connack): void {
      accepted = connack
      for (const event of ['close', 'error', 'data']) stream.removeAllListeners(event)
      stream
        .on('error', () => {})
        .once('close', () => finish({ kind: 'connack', connack }))
        .resume()
        .end(disconnect)
    }
  })
}

// Node's own list has none of them.
const pskCiphers = 'PSK+AESGCM:PSK+CHACHA20:PSK+AES'

function tlsOptions({ device, serverName, versions, ciphers }: NonNullable<AttemptOptions['tls']>, target: Target): ConnectionOptions {
  const name = serverName ?? ('host' in target ? target.host : '')
  return {
    // Judged by us, to say more than the last of several errors.
    rejectUnauthorized: false,
    // Node would ask for "localhost" where nobody has said a name.
    checkServerIdentity: (_, { raw }) =>
      serverName === undefined || isCalled(serverName, new X509Certificate(raw)) ? undefined : new Error('HOSTNAME_MISMATCH'),
    ca: device.trust?.certificates.map(({ x509 }) => x509.toString()) ?? [],
    ...(device.key && {
      cert: device.chain.map(({ x509 }) => x509.toString()).join(''),
      key: device.key.export({ type: 'pkcs8', format: 'pem' }).toString()
    }),
    ...(device.psk && keyOptions(device.psk)),
    ...(name !== '' && isIP(name) === 0 && { servername: name }),
    ...(versions?.min && { minVersion: versions.min }),
    ...(versions?.max && { maxVersion: versions.max }),
    ...(ciphers !== undefined && { ciphers })
  }
}

function keyOptions({ identity, key }: DeviceKey): ConnectionOptions {
  return { pskCallback: () => ({ identity, psk: key }), ciphers: pskCiphers, maxVersion: 'TLSv1.2', checkServerIdentity: () => undefined }
}

function shownBy(socket: TLSSocket): readonly Certificate[] {
  const shown: Certificate[] = []
  let next: X509Certificate | undefined = socket.getPeerX509Certificate()
  for (; next !== undefined && shown.length < mostShown; next = next.issuerCertificate) {
    try {
      shown.push(toCertificate(next))
    } catch {
      break
    }
  }
  return shown
}
