// One accepted socket on its way to the broker: a place for its handshake, the handshake, our judgement, its first byte. It ends handed
// over or refused, and then, exactly once, with a line that says why. Whatever the peer does here ends this socket alone.

import { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import type { TLSSocket, Server as TlsServer } from 'node:tls'
import type { ClientCertificate, Connection, Peer, PskIdentity } from '../auth/identity.js'
import type { ListenerConfig } from '../config/types.js'
import { systemCode } from '../errors.js'
import type { Log } from '../log-events.js'
import { handshakeFault, handshakeFaults } from './handshake-fault.js'
import type { HandshakeGate, Leave } from './handshake-gate.js'
import { judgePeer, recheckPeer } from './peer.js'
import { pskFault, pskIdentityOf, recheckPsk } from './psk.js'
import type { TlsMaterial } from './tls.js'

/** What an arrival needs of its listener. */
export interface Reception {
  readonly log: Log
  readonly gate: HandshakeGate
  /** Milliseconds from the accept to the first byte of MQTT. */
  readonly patience: number
  /** Of this moment: a reload may change them while a handshake is under way. */
  readonly config: ListenerConfig
  readonly material: TlsMaterial | undefined
  /** The one that is open. */
  readonly port: number
  now(): Date
  /** The arrival is over, either way. */
  settled(socket: Socket): void
  handOver(stream: Duplex, connection: Connection): void
}

interface Refusal {
  readonly reason: string
  readonly words: string
  readonly subject?: string
  readonly issuer?: string
}

/** What the handshake has shown of the client. */
interface Proof {
  readonly certificate?: ClientCertificate | undefined
  readonly psk?: PskIdentity | undefined
}

// The first byte of every TLS connection: a record of type handshake [RFC 8446, 5.1]. No MQTT packet begins a connection with it.
const tlsHandshake = 0x16

export class Arrival {
  readonly #socket: Socket
  readonly #peer: Peer
  readonly #reception: Reception
  readonly #timer: NodeJS.Timeout
  /** What the handshake under way is judged by. */
  #material: TlsMaterial | undefined
  #leave: Leave | undefined
  #stage: 'handshake' | 'silent' | 'done' = 'handshake'

  constructor(socket: Socket, peer: Peer, reception: Reception) {
    this.#socket = socket
    this.#peer = peer
    this.#reception = reception
    this.#timer = setTimeout(() => this.#timedOut(), reception.patience)
    socket.once('close', () => this.#closed())
  }

  /** Nothing to negotiate: only the first byte is awaited, so that a client that speaks TLS gets its line. */
  beginPlain(): void {
    this.#awaitFirstByte(this.#socket)
  }

  /** Starts the handshake as soon as there is a place for it. */
  beginTls(server: TlsServer, material: TlsMaterial): void {
    this.#material = material
    const leave = this.#reception.gate.enter(this.#peer.remoteAddress, {
      start: () => server.emit('connection', this.#socket),
      giveUp: () => this.#timedOut(),
      received: () => this.#socket.bytesRead
    })
    if (leave === undefined) this.#refuse(handshakeFaults.noPlace)
    else if (this.#stage === 'done') leave()
    else this.#leave = leave
  }

  /** The handshake is complete. */
  secured(stream: TLSSocket): void {
    stream.on('error', error => this.failed(error, stream))
    if (this.#stage !== 'handshake') {
      stream.destroy()
      return
    }
    this.#freePlace()
    if (this.#material === undefined) throw new TypeError('handshake without beginTls')
    const psk = pskIdentityOf(stream)
    const fault = recheckPsk(psk, this.#material)
    const verdict = judgePeer(stream, this.#material, this.#reception.now())
    if (fault !== undefined) this.#refuse(fault)
    else if (verdict.ok) this.#awaitFirstByte(stream, { certificate: verdict.certificate, psk })
    else this.#refuse(verdict)
  }

  /** The handshake failed, or the peer gave up behind it: a TLS 1.3 client may check our certificate after we are done. */
  failed(error: Error, stream: TLSSocket): void {
    const isAlert = systemCode(error)?.startsWith('ERR_SSL_') === true
    const fault = this.#stage === 'handshake' && isAlert ? pskFault(stream) : undefined
    if (this.#stage === 'handshake' || isAlert) this.#refuse(fault ?? handshakeFault(error))
  }

  /** The listener closes. */
  abandon(): void {
    this.#finish()
    this.#socket.destroy()
  }

  #awaitFirstByte(stream: Socket, proof: Proof = {}): void {
    this.#stage = 'silent'
    const onReadable = (): void => {
      // Null announces the end; having asked for data is what lets the stream report it.
      const chunk: unknown = stream.read()
      if (!Buffer.isBuffer(chunk) || this.#stage === 'done') return
      stream.removeListener('readable', onReadable)
      if (stream === this.#socket && chunk[0] === tlsHandshake) {
        this.#refuseTls()
        return
      }
      const objection = this.#objection(proof)
      if (objection !== undefined) {
        this.#refuse(objection)
        return
      }
      this.#finish()
      stream.unshift(chunk)
      this.#reception.handOver(stream, this.#describe(stream, proof))
    }
    stream.on('readable', onReadable)
  }

  /** Whoever looks after open connections at a reload does not know of this one yet: what has changed since counts here. */
  #objection({ certificate, psk }: Proof): Refusal | undefined {
    const { material } = this.#reception
    if (material === this.#material) return undefined
    if (material === undefined || this.#material === undefined) return handshakeFaults.changed
    const fault = recheckPsk(psk, material)
    if (fault !== undefined) return fault
    const verdict = recheckPeer(certificate, material, this.#reception.now())
    return verdict.ok ? undefined : verdict
  }

  #describe(stream: Socket, { certificate, psk }: Proof): Connection {
    const connection = { listener: this.#reception.config, ...this.#peer }
    if (!isTls(stream)) return Object.freeze(connection)
    const tls = {
      version: stream.getProtocol() ?? '',
      cipher: stream.getCipher().name,
      ...(certificate && { certificate }),
      ...(psk && { psk })
    }
    return Object.freeze({ ...connection, tls: Object.freeze(tls) })
  }

  #refuse({ reason, words, subject, issuer }: Refusal): void {
    if (this.#stage === 'done') return
    this.#finish()
    this.#reception.log.write('rejected', {
      ...this.#peer,
      port: this.#reception.port,
      reason,
      words,
      ...(subject && issuer && { subject, issuer })
    })
    this.#socket.destroy()
  }

  #refuseTls(): void {
    this.#finish()
    this.#reception.log.write('tlsOnPlainPort', { ...this.#peer, port: this.#reception.port })
    this.#socket.destroy()
  }

  #closed(): void {
    if (this.#stage === 'handshake') this.#refuse(handshakeFaults.closed)
    if (this.#stage === 'silent') this.#leftBeforeConnect('connection closed by client')
  }

  #timedOut(): void {
    if (this.#stage === 'handshake') this.#refuse(handshakeFaults.timedOut)
    if (this.#stage === 'silent') this.#leftBeforeConnect('exceeded timeout')
  }

  #leftBeforeConnect(reason: string): void {
    this.#finish()
    this.#reception.log.write('leftBeforeConnect', { ...this.#peer, reason })
    this.#socket.destroy()
  }

  #freePlace(): void {
    this.#leave?.()
    this.#leave = undefined
  }

  #finish(): void {
    this.#stage = 'done'
    clearTimeout(this.#timer)
    this.#freePlace()
    this.#reception.settled(this.#socket)
  }
}

const isTls = (stream: Socket): stream is TLSSocket => 'encrypted' in stream && stream.encrypted === true

/**
 * The accepted socket below a TLS socket. Node has no documented way to it, and a failed handshake whose peer is gone has no address
 * left to be recognised by; `_parent` has been there since Node 0.12.
 */
export function socketBelow(stream: TLSSocket): Socket | undefined {
  const parent: unknown = Reflect.get(stream, '_parent')
  return parent instanceof Socket ? parent : undefined
}
