// Enrollment over Secure Transport [RFC 7030] by HTTPS: devices fetch the CA, and their certificates with a secret or with the certificate that
// they have. Open to everybody, so everything is bounded: connections, headers, bodies, silence, tries of an address, work under way.

import { randomBytes, type X509Certificate } from 'node:crypto'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { createServer, type Server } from 'node:https'
import type { AddressInfo, Socket } from 'node:net'
import { TLSSocket, type TlsOptions } from 'node:tls'
import { readCertificate } from '../auth/certificate.js'
import { Denials } from '../auth/denials.js'
import { formatName } from '../auth/distinguished-name.js'
import { RecentMap } from '../auth/recent-map.js'
import { addressGroup, LoginThrottle } from '../auth/throttle.js'
import { BrokerError, errorMessage } from '../errors.js'
import type { Log } from '../log-events.js'
import type { Enrolled, Enrolment, EnrolmentRefusal } from '../pki/enrolment.js'
import { encodeCertificates, estPath, estTypes, requestAttributes } from '../pki/est.js'
import { socketBelow } from './arrival.js'
import { HandshakeGate } from './handshake-gate.js'
import type { TlsMaterial } from './tls.js'

export interface EnrolmentServerOptions {
  readonly port: number
  /** Absent: every address of this machine. */
  readonly host?: string | undefined
  /** Whose certificate it shows. */
  readonly material: TlsMaterial
  readonly enrolment: Enrolment
  readonly log: Log
}

export interface EnrolmentServer {
  readonly port: number
  /** Another certificate, or another CA, for handshakes and requests from now on. */
  update(material: TlsMaterial, enrolment: Enrolment): void
  /** Ends everything that is under way. */
  close(): Promise<void>
}

/** At a time. */
const mostConnections = 256
const mostWaiting = 512
/** Requests that are worked on at a time; each may cost a signature. */
const mostAtWork = 16
/** The base64 of the largest request that is taken. */
const longestBody = 96 * 1024
const longestHeader = 8 * 1024
/** Certificates of one device by renewal within an hour: each is a file and a line of the record for good. */
const mostRenewals = 20
const hour = 3_600_000
/** For a place to get free, for a request to come, and for an answer to be read. Milliseconds. */
const patience = 15_000
/** Between two lines of which one would do. */
const lineInterval = 60_000

/** Rejects when the port can't be opened. */
export function openEnrolmentServer(options: EnrolmentServerOptions): Promise<EnrolmentServer> {
  const { port, host, material, enrolment, log } = options
  const desk = new EnrolmentDesk(enrolment, log)
  const server = createServer(
    {
      ...tlsOptions(material, enrolment),
      requestCert: true,
      // Who has none may still have a secret.
      rejectUnauthorized: false,
      maxHeaderSize: longestHeader,
      headersTimeout: patience,
      requestTimeout: patience,
      handshakeTimeout: patience,
      connectionsCheckingInterval: 1000
    },
    (request, response) => void desk.serve(request, response)
  )
  // Node's own closing forgets those that have not asked for anything yet.
  const sockets = new Set<Socket>()
  const hall = new Hall(desk, log)
  // Node's own listener begins the handshake; here there must be a place for it first.
  const begins = server.listeners('connection')
  server.removeAllListeners('connection')
  server.on('connection', (socket: Socket) => {
    sockets.add(socket.once('close', () => sockets.delete(socket)))
    hall.enter(socket, () => {
      for (const begin of begins) begin.call(server, socket)
    })
  })
  server.keepAliveTimeout = patience
  server.timeout = patience
  server.on('clientError', (_, socket) => socket.destroy())
  server.on('tlsClientError', (_, socket) => socket.destroy())
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen({ port, ...(host !== undefined && { host }) }, () => {
      server.removeListener('error', reject)
      server.on('error', error => log.write('acceptFailed', { why: errorMessage(error) }))
      const clock = setInterval(() => desk.settle(), lineInterval)
      clock.unref()
      resolve({
        port: portOf(server),
        update: (newMaterial, newEnrolment) => {
          server.setSecureContext(tlsOptions(newMaterial, newEnrolment))
          // What was resumed would not be asked for its certificate again.
          server.setTicketKeys(randomBytes(48))
          desk.change(newEnrolment)
        },
        close: () => {
          clearInterval(clock)
          return close(server, sockets)
        }
      })
    })
  })
}

function tlsOptions({ serverOptions }: TlsMaterial, { authority }: Enrolment): TlsOptions {
  // Not the listener's ticket keys: nobody comes in by a session that was judged by its CAs.
  return { ...serverOptions, ca: authority, ticketKeys: randomBytes(48), sessionIdContext: randomBytes(16).toString('hex') }
}

function portOf(server: Server): number {
  const address = server.address() as AddressInfo | null
  return address?.port ?? 0
}

function close(server: Server, sockets: ReadonlySet<Socket>): Promise<void> {
  return new Promise(resolve => {
    server.close(() => resolve())
    for (const socket of sockets) socket.destroy()
  })
}

/** Who may connect, and who waits: a place for each connection while it lasts, shared by addresses as those for handshakes. */
class Hall {
  readonly #gate = new HandshakeGate(mostConnections, mostWaiting)
  readonly #desk: EnrolmentDesk
  readonly #log: Log
  #said = Number.NEGATIVE_INFINITY

  constructor(desk: EnrolmentDesk, log: Log) {
    this.#desk = desk
    this.#log = log
  }

  enter(socket: Socket, begin: () => void): void {
    // Stays: an error without a listener would end the process.
    socket.on('error', () => {})
    const giveUp = () => socket.destroy()
    const timer = setTimeout(giveUp, patience)
    const start = () => {
      clearTimeout(timer)
      if (!socket.destroyed) begin()
    }
    const { remoteAddress = '' } = socket
    const leave = this.#gate.enter(remoteAddress, {
      start,
      giveUp,
      received: () => socket.bytesRead,
      isBusy: () => this.#desk.isWorkingFor(socket)
    })
    if (leave === undefined || this.#gate.running >= mostConnections) this.#sayCrowded(remoteAddress)
    if (leave === undefined) giveUp()
    socket.once('close', () => {
      clearTimeout(timer)
      leave?.()
    })
  }

  #sayCrowded(remoteAddress: string): void {
    const now = performance.now()
    if (now - this.#said < lineInterval) return
    this.#said = now
    this.#log.write('enrolmentCrowded', { remoteAddress, open: this.#gate.running, waiting: this.#gate.waiting })
  }
}

interface Answer {
  readonly status: number
  readonly type: string
  readonly body: string
  readonly headers?: Readonly<Record<string, string>>
}

const refuse = (status: number, reason: string, headers: Answer['headers'] = {}): Answer => ({
  status,
  type: 'text/plain; charset=utf-8',
  body: `${reason}\n`,
  headers
})

const challenge = { 'WWW-Authenticate': 'Basic realm="enrolment", charset="UTF-8"' }
/** One sentence for all reasons: whoever guesses learns nothing. The log tells which it was. */
const badSecret = refuse(401, 'Device id and secret are not right, or not any more. Ask for a new invitation.', challenge)

const refusalAnswers: Readonly<Record<EnrolmentRefusal, Answer>> = {
  'not-invited': badSecret,
  expired: badSecret,
  'wrong-secret': badSecret,
  'no-certificate': refuse(401, 'Renewing takes the certificate of today in the TLS handshake.'),
  'not-ours': refuse(403, 'The certificate of the TLS handshake is of another CA.'),
  'out-of-date': refuse(403, 'The certificate of the TLS handshake has expired, or is not valid yet. Ask for a new invitation.'),
  'not-a-client': refuse(403, 'The certificate of the TLS handshake is that of a CA or a server; only those of clients are renewed here.'),
  revoked: refuse(403, 'The certificate of the TLS handshake is revoked.'),
  unknown: refuse(403, 'The certificate of the TLS handshake is in no record of this CA.')
}

class EnrolmentDesk {
  #enrolment: Enrolment
  /** What everybody may fetch is made once. */
  #authorities: string
  readonly #log: Log
  readonly #throttle = new LoginThrottle(1000)
  /** Whose lines: the same of one address once a minute, and one address has not all of them. */
  readonly #lines = new Denials({ window: lineInterval, memory: lineInterval, topicsPerClient: 20 })
  /** When, by subject. */
  readonly #renewals = new RecentMap<readonly number[]>(10_000)
  /** Connections with a request that is not answered yet. */
  readonly #asking = new WeakSet<Socket>()
  /** Those whose requests are worked on. */
  readonly #working = new Set<Socket>()

  constructor(enrolment: Enrolment, log: Log) {
    this.#enrolment = enrolment
    this.#authorities = encodeCertificates(enrolment.authority)
    this.#log = log
  }

  /** `socket`: the one below TLS. */
  isWorkingFor(socket: Socket): boolean {
    return [...this.#working].some(stream => stream instanceof TLSSocket && socketBelow(stream) === socket)
  }

  change(enrolment: Enrolment): void {
    this.#enrolment = enrolment
    this.#authorities = encodeCertificates(enrolment.authority)
  }

  async serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { socket } = request
    response.on('error', () => {})
    request.on('error', () => {})
    // No client of EST asks before it was answered, and of those that do a thousand come in one turn.
    if (this.#asking.has(socket)) {
      socket.destroy()
      return
    }
    this.#asking.add(socket)
    try {
      send(response, await this.#answer(request))
    } catch (error) {
      this.#log.write('fault', { reason: errorMessage(error) })
      response.destroy()
    } finally {
      this.#asking.delete(socket)
    }
  }

  async #answer(request: IncomingMessage): Promise<Answer> {
    const { method = '', url = '' } = request
    const [path = ''] = url.split('?')
    const operation = path.startsWith(`${estPath}/`) ? path.slice(estPath.length + 1) : ''
    switch (operation) {
      case 'cacerts':
        if (method !== 'GET') return refuse(405, 'GET fetches the CA certificate.', { Allow: 'GET' })
        return { status: 200, type: estTypes.certificates, body: this.#authorities, headers: base64 }
      case 'csrattrs':
        if (method !== 'GET') return refuse(405, 'GET fetches the attributes.', { Allow: 'GET' })
        return { status: 200, type: estTypes.attributes, body: requestAttributes, headers: base64 }
      case 'simpleenroll':
      case 'simplereenroll':
        if (method !== 'POST') return refuse(405, 'POST sends a certificate request.', { Allow: 'POST' })
        return this.#work(request, operation)
      default:
        return refuse(404, `There is ${estPath}/cacerts, csrattrs, simpleenroll and simplereenroll.`)
    }
  }

  async #work(request: IncomingMessage, operation: 'simpleenroll' | 'simplereenroll'): Promise<Answer> {
    const type = (request.headers['content-type'] ?? '').split(';')[0]?.trim().toLowerCase()
    if (type !== estTypes.request) return refuse(415, `A certificate request is sent as ${estTypes.request}.`)
    const body = await readBody(request)
    if (body === undefined) return refuse(413, 'The request is too large, or did not come whole.', { Connection: 'close' })
    // Only now: who is slow to send takes nobody's place.
    if (this.#working.size >= mostAtWork) return refuse(503, 'Too many requests are being worked on.', { 'Retry-After': '5' })
    this.#working.add(request.socket)
    try {
      return operation === 'simpleenroll' ? await this.#enrol(request, body) : await this.#reenrol(request, body)
    } catch (error) {
      if (error instanceof BrokerError && error.code === 'ERR_PKI_INPUT') {
        this.#refused(request, error.message)
        return refuse(400, error.message)
      }
      this.#log.write('fault', { reason: errorMessage(error) })
      return refuse(500, 'The CA cannot sign just now; its log says why.')
    } finally {
      this.#working.delete(request.socket)
    }
  }

  async #enrol(request: IncomingMessage, body: string): Promise<Answer> {
    const credentials = basicCredentials(request.headers.authorization)
    if (credentials === undefined) return badSecret
    const [deviceId, secret] = credentials
    const address = request.socket.remoteAddress ?? ''
    const delay = this.#throttle.delay(address, deviceId, performance.now())
    if (delay > 0) return refuse(429, 'Too many wrong secrets.', { 'Retry-After': String(Math.ceil(delay / 1000)) })
    const outcome = await this.#enrolment.enrol(deviceId, secret, body, () => !request.socket.destroyed)
    if (typeof outcome === 'string') this.#throttle.failed(address, deviceId, performance.now())
    else this.#throttle.succeeded(address, deviceId, performance.now())
    return this.#settle(request, outcome, deviceId)
  }

  async #reenrol(request: IncomingMessage, body: string): Promise<Answer> {
    const { socket } = request
    const current = socket instanceof TLSSocket ? socket.getPeerX509Certificate() : undefined
    if (current === undefined) return this.#settle(request, 'no-certificate')
    const subject = subjectOf(current)
    const key = subject ?? ''
    const now = performance.now()
    const before = (this.#renewals.get(key) ?? []).filter(time => now - time < hour)
    if (before.length >= mostRenewals) return refuse(429, 'So many certificates within an hour are enough.', { 'Retry-After': '3600' })
    const outcome = await this.#enrolment.reenrol(current, body)
    if (typeof outcome !== 'string') this.#renewals.set(key, [...before, now])
    return this.#settle(request, outcome, subject)
  }

  #settle(request: IncomingMessage, outcome: Enrolled | EnrolmentRefusal, who?: string): Answer {
    if (typeof outcome === 'string') {
      this.#refused(request, refusalWords[outcome], who)
      return refusalAnswers[outcome]
    }
    const { deviceId, serial, certificate } = outcome
    this.#log.write('enrolled', { deviceId, serial, ...peerOf(request) })
    return { status: 200, type: estTypes.issued, body: encodeCertificates(certificate), headers: base64 }
  }

  /** For a timer: refusals that got no line are told as a number, even if nothing follows. */
  settle(): void {
    this.#sayHidden(this.#lines.settle(performance.now()))
  }

  #sayHidden(count: number): void {
    if (count > 0) this.#log.write('enrolmentRefusalsNotShown', { count })
  }

  #refused(request: IncomingMessage, reason: string, who = ''): void {
    const address = addressGroup(request.socket.remoteAddress ?? '')
    const { show, hidden } = this.#lines.report(address, `${reason} ${who}`, performance.now())
    this.#sayHidden(hidden)
    if (!show) return
    this.#log.write('enrolmentRefused', { reason, ...peerOf(request), ...(who !== '' && { who: clipped(who) }) })
  }
}

const refusalWords: Readonly<Record<EnrolmentRefusal, string>> = {
  'not-invited': 'nobody of that name is invited',
  expired: 'its invitation has expired',
  'wrong-secret': 'its secret is wrong',
  'no-certificate': 'it shows no certificate to renew',
  'not-ours': 'the certificate that it shows is of another CA',
  'out-of-date': 'the certificate that it shows has expired, or is not valid yet',
  'not-a-client': 'the certificate that it shows is that of a CA or a server',
  revoked: 'the certificate that it shows is revoked',
  unknown: 'the certificate that it shows is in no record of the CA'
}

// The older header, which some clients still want [RFC 8951, 3].
const base64 = { 'Content-Transfer-Encoding': 'base64' }

// One socket for both families: an IPv4 client is logged as the other listeners log it, which have a socket for each.
const peerOf = ({ socket }: IncomingMessage) => ({
  remoteAddress: (socket.remoteAddress ?? '').replace(/^::ffff:(?=\d+\.)/i, ''),
  remotePort: socket.remotePort ?? 0
})

/** Undefined: whoever made it has made nothing that can be read. */
function subjectOf({ raw }: X509Certificate): string | undefined {
  try {
    return formatName(readCertificate(raw).subject)
  } catch {
    return undefined
  }
}

const clipped = (text: string): string => (text.length > 200 ? `${text.slice(0, 199)}…` : text)

/** Undefined: it is too large, or was cut off. */
async function readBody(request: IncomingMessage): Promise<string | undefined> {
  const announced = Number(request.headers['content-length'] ?? 0)
  if (announced > longestBody) return undefined
  const chunks: Buffer[] = []
  let size = 0
  try {
    // Kept open for the answer.
    for await (const chunk of request.iterator({ destroyOnReturn: false })) {
      size += chunk.length
      if (size > longestBody) return undefined
      chunks.push(chunk)
    }
  } catch {
    return undefined
  }
  return Buffer.concat(chunks).toString('latin1')
}

/** Name and secret of an Authorization header [RFC 7617]. */
function basicCredentials(header: string | undefined): readonly [name: string, secret: string] | undefined {
  const [, encoded] = /^Basic +([A-Za-z0-9+/=]{1,4000})$/i.exec(header ?? '') ?? []
  if (encoded === undefined) return undefined
  const [, name, secret] = /^([^:]*):(.*)$/s.exec(Buffer.from(encoded, 'base64').toString()) ?? []
  return name === undefined || secret === undefined ? undefined : [name, secret]
}

function send(response: ServerResponse, { status, type, body, headers }: Answer): void {
  if (response.destroyed) return
  response.writeHead(status, { 'Content-Type': type, 'Content-Length': Buffer.byteLength(body), 'Cache-Control': 'no-store', ...headers })
  response.end(body)
}
