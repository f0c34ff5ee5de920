// One listener of the configuration: its sockets, its limits, and TLS in front of the broker. A reload puts other settings and other
// TLS material behind the same port; connections that are open keep what they have.

import type { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { createServer, type TLSSocket, type Server as TlsServer } from 'node:tls'
import type { Connection, Peer } from '../auth/identity.js'
import type { ListenerConfig } from '../config/types.js'
import type { Log } from '../log-events.js'
import { Arrival, type Reception, socketBelow } from './arrival.js'
import { type BoundAddress, type BoundSocket, bindSockets, closeSockets } from './bind.js'
import { HandshakeGate } from './handshake-gate.js'
import { keepPeerChains } from './peer-chain.js'
import type { TlsMaterial } from './tls.js'

/** What a reload may change. */
export interface ListenerSetup {
  readonly config: ListenerConfig
  /** Present exactly when the listener speaks TLS. */
  readonly material?: TlsMaterial
  /** `set_tcp_nodelay`. */
  readonly noDelay?: boolean
}

/** Shared by all listeners, for `global_max_connections`. Not above 0: no limit. */
export interface ConnectionTotal {
  count: number
  limit: number
}

/** What a listener needs of whoever opens it. */
export interface ListenerHost {
  readonly log: Log
  readonly total: ConnectionTotal
  /** Every socket that came, whatever becomes of it. */
  onSocket?(): void
  /** A connection whose first bytes are there to be read, after TLS and our decision about its certificate. It belongs to the host. */
  onConnection(stream: Duplex, connection: Connection): void
  /** `--tls-keylog`: one line in the format of NSS. */
  onKeylog?(line: Buffer): void
  now?(): Date
  /** Milliseconds from the accept to the first byte of MQTT; 30 s when left out. */
  readonly handshakeTimeout?: number
  /** Handshakes that run at a time, and those that wait; 256 and 4096 when left out. */
  readonly gate?: HandshakeGate
}

export interface Listener {
  readonly config: ListenerConfig
  readonly material: TlsMaterial | undefined
  readonly addresses: readonly BoundAddress[]
  /** The port that is really open, also when the configuration says 0; 0 for a Unix socket. */
  readonly port: number
  /** Open connections, those before their first byte included. */
  readonly connections: number
  /** New connections get this from now on. The addresses stay as they are. Material of an equal digest changes nothing, so that tickets stay good. */
  update(setup: ListenerSetup): void
  /** Lets in who has come since the sockets were opened, and everybody from now on. */
  begin(): void
  /** Frees its ports for another listener; who is there stays. */
  shut(): void
  /** Opens all its sockets, or none: then with a BrokerError that names the line of the configuration. */
  open(): Promise<void>
  /** Stops listening and drops what has not been handed over. */
  close(): Promise<void>
}

/** A listener whose sockets are open. Who comes waits until `begin`. Rejects as `open` does. */
export async function bindListener(setup: ListenerSetup, host: ListenerHost): Promise<Listener> {
  const listener = new OpenListener(setup, host)
  await listener.open()
  return listener
}

/** The same, and it has begun. */
export async function openListener(setup: ListenerSetup, host: ListenerHost): Promise<Listener> {
  const listener = await bindListener(setup, host)
  listener.begin()
  return listener
}

const defaultPatience = 30_000
/** How many may wait for the other listeners to be opened: as many as Node lets wait in the kernel. */
const mostEarly = 511

class OpenListener implements Listener, Reception {
  readonly log: Log
  readonly gate: HandshakeGate
  readonly patience: number
  readonly #host: ListenerHost
  readonly #arrivals = new Map<Socket, Arrival>()
  #sockets: readonly BoundSocket[] = []
  #setup: ListenerSetup
  #tls: TlsServer | undefined
  #connections = 0
  /** Those that came before it began. */
  #early: Socket[] | undefined = []

  constructor(setup: ListenerSetup, host: ListenerHost) {
    assertComplete(setup)
    this.log = host.log
    this.gate = host.gate ?? new HandshakeGate()
    this.patience = host.handshakeTimeout ?? defaultPatience
    this.#host = host
    this.#setup = setup
    this.#tls = this.#tlsServerOf(setup)
  }

  get config(): ListenerConfig {
    return this.#setup.config
  }

  get material(): TlsMaterial | undefined {
    return this.#setup.material
  }

  get addresses(): readonly BoundAddress[] {
    return this.#sockets.map(({ address }) => address)
  }

  get port(): number {
    const [first] = this.addresses
    return first === undefined || first.family === 'unix' ? 0 : first.port
  }

  get connections(): number {
    return this.#connections
  }

  async open(): Promise<void> {
    this.#sockets = await bindSockets(this.config, this.log, socket => this.#came(socket))
  }

  begin(): void {
    const early = this.#early ?? []
    this.#early = undefined
    for (const socket of early) this.#accept(socket)
  }

  shut(): void {
    closeSockets(this.#sockets)
    this.#sockets = []
  }

  update(setup: ListenerSetup): void {
    assertComplete(setup)
    const { material } = this
    if (material !== undefined && material.digest === setup.material?.digest) {
      this.#setup = { ...setup, material }
      return
    }
    this.#tls = this.#tlsServerOf(setup)
    this.#setup = setup
  }

  async close(): Promise<void> {
    closeSockets(this.#sockets)
    for (const socket of this.#early ?? []) socket.destroy()
    this.#early = undefined
    for (const arrival of this.#arrivals.values()) arrival.abandon()
  }

  now(): Date {
    return this.#host.now?.() ?? new Date()
  }

  settled(socket: Socket): void {
    this.#arrivals.delete(socket)
  }

  handOver(stream: Duplex, connection: Connection): void {
    this.#host.onConnection(stream, connection)
  }

  #came(socket: Socket): void {
    // Stays for the life of the socket: an error without a listener would end the process.
    socket.on('error', ignore)
    if (this.#early === undefined) this.#accept(socket)
    else if (this.#early.length < mostEarly) this.#early.push(socket)
    else socket.destroy()
  }

  #accept(socket: Socket): void {
    this.#host.onSocket?.()
    const peer = this.#peerOf(socket)
    if (peer === undefined) {
      // Gone before we looked: there is nobody to name.
      socket.destroy()
      return
    }
    this.#count(socket)
    const { config } = this
    const { total } = this.#host
    if (exceeds(this.#connections, config.maxConnections) || exceeds(total.count, total.limit)) {
      this.log.write('tooManyConnections', { remoteAddress: peer.remoteAddress, port: this.port })
      socket.destroy()
      return
    }
    if (this.#setup.noDelay) socket.setNoDelay(true)
    this.log.write('accepted', { ...peer, port: this.port })
    const arrival = new Arrival(socket, peer, this)
    this.#arrivals.set(socket, arrival)
    if (this.#tls !== undefined && this.material !== undefined) arrival.beginTls(this.#tls, this.material)
    else arrival.beginPlain()
  }

  #count(socket: Socket): void {
    this.#connections += 1
    this.#host.total.count += 1
    socket.once('close', () => {
      this.#connections -= 1
      this.#host.total.count -= 1
    })
  }

  #peerOf({ remoteAddress, remotePort }: Socket): Peer | undefined {
    const { bind } = this.config
    if (bind.kind === 'unix') return { remoteAddress: bind.path, remotePort: 0 }
    return remoteAddress === undefined || remotePort === undefined ? undefined : { remoteAddress, remotePort }
  }

  // One for each material: `setSecureContext` could change the certificate of a running one, but not what it demands of clients.
  #tlsServerOf({ material }: ListenerSetup): TlsServer | undefined {
    if (material === undefined) return undefined
    // Ours is the earlier deadline: it counts from the accept and says so in the log.
    const server = createServer({ ...material.serverOptions, handshakeTimeout: this.patience * 2 })
    const arrivalOf = (stream: TLSSocket): Arrival | undefined => {
      const socket = socketBelow(stream)
      return socket && this.#arrivals.get(socket)
    }
    server.on('secureConnection', stream => {
      const arrival = arrivalOf(stream)
      if (arrival === undefined) stream.destroy()
      else arrival.secured(stream)
    })
    server.on('tlsClientError', (error, stream) => arrivalOf(stream)?.failed(error, stream))
    server.on('error', ignore)
    if (material.requireCertificate) keepPeerChains(server)
    if (this.#host.onKeylog !== undefined) server.on('keylog', line => this.#host.onKeylog?.(line))
    return server
  }
}

/** Never plain MQTT where TLS is configured. */
function assertComplete({ config, material }: ListenerSetup): void {
  const isPlain = config.tls === undefined && config.psk === undefined
  if (isPlain !== (material === undefined)) throw new TypeError('config.tls, or config.psk, and material go together')
}

const exceeds = (count: number, limit: number): boolean => limit > 0 && count > limit

function ignore(): void {}
