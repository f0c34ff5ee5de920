// One connection of a client, from its first byte to its end: what comes in is taken packet by packet, strictly in order; what goes out
// gathers in its outbox. Whatever a client sends ends this connection at most.

import type { IncomingMessage } from 'node:http'
import { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import type { Decision } from '../auth/acl.js'
import { hasSameRights, type Identity, type Connection as Transport } from '../auth/identity.js'
import type { Admitted } from '../auth/policy.js'
import type { ListenerConfig } from '../config/types.js'
import { errorMessage, errorOf, systemCode, systemReason } from '../errors.js'
import type { Message, MessageSource } from '../message.js'
import { faultOfFraming, longestConnect } from '../protocol/decode.js'
import { type Answer, encodeAcknowledgement, encodeDisconnect } from '../protocol/encode.js'
import { Framing } from '../protocol/framing.js'
import { type Connect, packetTypes, type Version } from '../protocol/packets.js'
import { reasonCodes } from '../protocol/reason-codes.js'
import { variableLength } from '../protocol/writer.js'
import { listenerKey } from '../reload.js'
import type { LossReason } from '../reload-report.js'
import type { QueueEntry } from '../storage.js'
import { handlePacket, refusePacket } from './dispatch.js'
import type { ConnectionHost } from './host.js'
import type { Commit } from './ledger.js'
import { Outbox } from './outbox.js'
import { Owed } from './owed.js'
import { Sender } from './sender.js'
import type { Receiver, Session } from './session.js'
import type { TopicAliases } from './topic-aliases.js'

/** How long a client may take to read its last packet. */
const goodbyeTimeout = 2000
/** Packets between two looks at the clock, and how much each of them may have to do. */
const packetsPerLook = 16
const effortPerLook = 256
/** So much is more than a turn has time for, also where nobody has looked at the clock before: who looks first has all of the turn. */
const effortPerTurn = 4096
/** Answers that wait to be written to a client which doesn't read them, and their bytes: over either, nothing more is read from it. */
const mostAnswers = 4096
const mostAnswerBytes = 262_144
/** What a client sent may wait for the store this far, then reading stops until half of it is settled. */
const mostOwed = 1000

/** Why a connection ends. */
export interface End {
  /** For the log; '': the client said goodbye. */
  readonly words: string
  /** For an MQTT 5 client; absent: none is sent. */
  readonly reasonCode?: number
  /** What its DISCONNECT says beside the code, as bytes without their length. */
  readonly properties?: Buffer
  /** It said goodbye, but not to its will. */
  readonly keepsWill?: true
  /** What embedders are told instead of these words. */
  readonly error?: Error
  /** What a reload took from it, and that in words that tell more. */
  readonly loss?: LossReason
  readonly why?: string
  /** Refused for what it asked, before anybody looked at who it is. */
  readonly isStranger?: boolean
}

const closedByClient: End = { words: 'connection closed by client' }

/** What of a CONNECT is asked for later: its will and its password are kept elsewhere, in memory of their own, and the rest by nobody. */
type Asked = Omit<Connect, 'password' | 'will' | 'properties'>

export type ConnectionState = 'new' | 'connecting' | 'active' | 'closed'

export class Connection implements Receiver {
  readonly conn: Duplex
  readonly req: IncomingMessage | undefined
  readonly transport: Transport
  readonly host: ConnectionHost
  /** As it is configured now: a reload may have put another one behind the same port. */
  listener: ListenerConfig
  state: ConnectionState = 'new'
  /** As it calls itself; the broker may have given it. */
  clientId = ''
  /** The broker gave it its identifier. */
  isAssigned = false
  version: Version = 4
  /** The CONNECT, from the moment its identifier counts. */
  asked: Asked | undefined
  /** The CONNECT, once it is accepted. */
  connect: Asked | undefined
  admitted: Admitted | undefined
  session: Session | undefined
  /** Seconds, as the broker imposes it. */
  keepalive = 0
  /** When its CONNECT was accepted, milliseconds since 1970. */
  connectedAt = 0
  receiveMaximum = 65_535
  /** How many QoS 2 messages at a time it was told it may send; 0: no limit. */
  inboundMaximum = 0
  disconnectReasonCode: number | null = null
  /** Milliseconds of `performance.now()`: a clock that is set throws nobody out. */
  lastInput = performance.now()
  isReady = false
  /** It was let in, and told so. */
  hasConnack = false
  /** And so were embedders. */
  isAnnounced = false
  /** The topic that came last: the next is often the same. */
  lastTopic = ''
  /** What was decided last, of whom, and by which rules. */
  #decision: Decision | undefined
  #decidedTopic = ''
  #decidedFor: Identity | undefined
  #decidedBy = 0
  #framing = new Framing()
  readonly #outbox: Outbox
  readonly #owed: Owed
  readonly #sender: Sender
  /** Why reading waits: hooks, authentication, the next slice, the store, answers that are not read. */
  #holds = 0
  /** What was sent other than PUBLISH since there was room in the outbox. */
  #answers = 0
  #answerBytes = 0
  #isClogged = false
  #isOwedMuch = false
  #isWorking = false
  #isPaused = false
  #connectTimer: NodeJS.Timeout | undefined
  /** Nothing more comes. */
  #inputEnd: End | undefined
  #end: End | undefined
  #source: MessageSource | undefined

  constructor(conn: Duplex, transport: Transport, host: ConnectionHost, req?: IncomingMessage) {
    this.conn = conn
    this.req = req
    this.transport = transport
    this.host = host
    this.listener = host.listenerOf(transport)
    // A stranger may not make us keep `max_packet_size` for each of its connections.
    this.#framing.limit = longestConnect + 1
    this.#outbox = new Outbox(conn, host.flusher, () => this.#written())
    this.#sender = new Sender(this, this.#outbox)
    this.#owed = new Owed(
      packet => this.send(packet),
      () => this.#owedLess(),
      host.delivery.acknowledge === 'received'
    )
    if (host.connectTimeout > 0) this.#connectTimer = setTimeout(() => this.#connectTimedOut(), host.connectTimeout)
    // Whoever has said all it has to say may still read the answers.
    conn.allowHalfOpen = true
    conn.on('error', error => this.#failed(error))
    conn.on('end', () => this.#inputEnded(closedByClient))
    conn.on('close', () => this.#streamGone(closedByClient))
    // A stream within the process may hand over what is written to it before `write` returns: who writes may listen afterwards.
    if (conn instanceof Socket) conn.on('data', (chunk: Buffer) => this.#received(chunk))
    else conn.on('data', (chunk: Buffer) => process.nextTick(this.#received, chunk))
  }

  get closed(): boolean {
    return this.state === 'closed'
  }

  get maximumPacketSize(): number | undefined {
    return this.#sender.maximumPacketSize || undefined
  }

  get aliases(): TopicAliases {
    return this.#sender.aliases
  }

  /** Who publishes here, for messages that are kept. */
  get source(): MessageSource {
    if (this.#source === undefined || !hasSameRights(this.#source, this.admitted?.identity)) this.#source = sourceOf(this)
    return this.#source
  }

  /** May its client publish there? Looked up once while neither topic, client nor rules change. */
  mayWrite(session: Session, topic: string): Decision {
    const { host } = this
    const { identity } = session
    const { policyVersion } = host
    const isKnown = topic === this.#decidedTopic && identity === this.#decidedFor && policyVersion === this.#decidedBy
    if (isKnown && this.#decision !== undefined) return this.#decision
    const decision = host.mayWrite(session, topic)
    this.#decision = decision
    this.#decidedTopic = topic
    this.#decidedFor = identity
    this.#decidedBy = policyVersion
    return decision
  }

  // What comes in.

  /** The next packet waits until `release`. */
  hold(): void {
    this.#holds += 1
  }

  release(): void {
    this.#holds -= 1
    if (this.#holds > 0 || this.state === 'closed') return
    // Its keep alive doesn't run while we don't read.
    this.lastInput = performance.now()
    this.#work()
  }

  /** The CONNECT is accepted: from now on its session is its own. */
  begin(connect: Connect, session: Session): void {
    const { limits } = this.host
    const { password: _password, will: _will, properties: _properties, ...asked } = connect
    this.asked = asked
    this.connect = asked
    this.session = session
    this.receiveMaximum = connect.receiveMaximum
    this.#sender.maximumPacketSize = connect.maximumPacketSize
    this.inboundMaximum = limits.maxInflightMessages
    this.aliases.limit(this.listener, connect.topicAliasMaximum)
    this.#framing.limit = limits.maxPacketSize
    this.connectedAt = Date.now()
    this.state = 'connecting'
  }

  /** CONNACK went out. */
  ready(): void {
    if (this.state !== 'connecting') return
    this.state = 'active'
    this.isReady = true
    this.hasConnack = true
    this.session?.pump()
  }

  /** New limits, perhaps another configuration of its listener. What CONNACK promised as a number of messages or aliases stands. */
  applyLimits(): void {
    const { host, session } = this
    this.listener = host.listenerOf(this.transport)
    if (this.connect === undefined) return
    this.#framing.limit = host.limits.maxPacketSize
    session?.pump()
  }

  /** When silence has lasted too long, milliseconds of `performance.now()` [MQTT-3.1.2-22]. */
  get silenceEnd(): number {
    // A client that doesn't read has itself to blame that it isn't heard.
    return this.#isReadingHeld && !this.#isClogged ? Number.POSITIVE_INFINITY : this.lastInput + this.keepalive * 1500
  }

  /** Goes on with a packet in a later turn; the next packet waits. */
  defer(work: () => void): void {
    this.hold()
    this.host.turns.later(() => this.goOn(work))
  }

  /** Goes on with the packet that `hold` was called for, then with the next. `isOwn`: also where its client has left by itself meanwhile. */
  goOn(work: () => void, isOwn = false): void {
    if (this.state !== 'closed' || (isOwn && this.#inputEnd !== undefined)) this.#guard(work)
    this.release()
  }

  /** Gives this packet an answer of its own: a DISCONNECT with the code for MQTT 5, then the end. */
  fail(reasonCode: number, words: string): void {
    this.finish({ words, reasonCode })
  }

  // What goes out.

  get hasRoom(): boolean {
    return this.#outbox.hasRoom
  }

  /** Bytes that wait to be written. */
  get waitingBytes(): number {
    return this.#outbox.bytes
  }

  get isWriting(): boolean {
    return this.#outbox.isWriting
  }

  /** How many writes the client has taken. */
  get written(): number {
    return this.#outbox.writes
  }

  /** Packets that wait to be written. */
  get waiting(): number {
    return this.#outbox.waiting
  }

  /** A packet that isn't a PUBLISH. */
  send(packet: Answer): void {
    // What it has sent is still handled.
    if (this.#outbox.isClosed) return
    const { stats } = this.host
    const bytes = typeof packet === 'number' ? 4 : packet.length
    stats.messagesSent += 1
    stats.bytesSent += bytes
    if (typeof packet === 'number') this.#outbox.pushWord(packet)
    else this.#outbox.push(packet)
    this.#answers += 1
    this.#answerBytes += bytes
    if (this.#isClogged || (this.#answers < mostAnswers && this.#answerBytes < mostAnswerBytes)) return
    this.#isClogged = true
    this.hold()
  }

  /** An answer in the order of what it answers, once what it promises is durable. */
  owe(packet: Answer | undefined, commit: Commit | undefined, then?: () => void): void {
    this.#owed.add(packet, commit, then)
    if (this.#isOwedMuch || this.#owed.size < mostOwed) return
    this.#isOwedMuch = true
    this.hold()
  }

  /** CONNACK. What was owed before follows it. */
  welcome(connack: Buffer, commit: Commit | undefined, then: () => void): void {
    this.#owed.open(connack, commit, then)
  }

  // What an embedder publishes when he is told of the client comes before its CONNACK is on its way.
  sendLive(message: Message, retain: boolean, subscriptionIdentifier: number): void {
    if (this.isReady) this.#sender.sendLive(message, retain, subscriptionIdentifier)
    else if (this.state === 'connecting' && !this.#owed.isOpen) this.sendBehind(message, retain, subscriptionIdentifier)
  }

  /** QoS 0, behind CONNACK and all that is owed by now. */
  sendBehind(message: Message, retain: boolean, subscriptionIdentifier: number): void {
    message.keep()
    this.owe(undefined, undefined, () => this.sendLive(message, retain, subscriptionIdentifier))
  }

  sendQueued(entry: QueueEntry): boolean {
    return this.#sender.sendQueued(entry)
  }

  get isBehind(): boolean {
    return this.#outbox.isBehind
  }

  sendPubrel(packetId: number): void {
    this.send(encodeAcknowledgement(packetTypes.pubrel, packetId, 0, this.version))
    this.logSent('PUBREL', packetId, 0)
  }

  logSent(packet: 'PUBACK' | 'PUBREC' | 'PUBREL' | 'PUBCOMP', packetId: number, reasonCode: number): void {
    if (this.host.isDebugging) this.host.log.write('acknowledgementSent', { clientId: this.clientId, packet, packetId, reasonCode })
  }

  // The end.

  displaced(): void {
    this.session = undefined
    this.finish({ words: 'session taken over', reasonCode: reasonCodes.sessionTakenOver })
  }

  /** Why it ended, or is about to. */
  get end(): End | undefined {
    return this.#end
  }

  /** Ends it; the first reason is the one that counts. What has been sent before still arrives, if the client reads it. */
  finish(end: End): void {
    if (this.state === 'closed') return
    const { version, session, connect, host } = this
    this.#end = end
    this.isReady = false
    clearTimeout(this.#connectTimer)
    host.unwatch(this)
    this.#owed.cancel()
    if (connect !== undefined && version === 5 && end.reasonCode !== undefined) {
      this.disconnectReasonCode = end.reasonCode
      // Not before its CONNACK [MQTT-3.14.0-1].
      if (this.state === 'active') this.#sendDisconnect(end.reasonCode, end.properties)
    }
    this.state = 'closed'
    this.#framing = new Framing()
    this.#endStream()
    if (session !== undefined) host.leaveSession(this, session, end.words === '' && end.keepsWill === undefined)
    host.closed(this)
  }

  #sendDisconnect(reasonCode: number, properties: Buffer | undefined): void {
    const { host, clientId, maximumPacketSize = Number.POSITIVE_INFINITY } = this
    const packet = encodeDisconnect(reasonCode, properties)
    // Words are left out where the packet would be too large with them [MQTT-3.14.2-3].
    this.send(packet.length > maximumPacketSize ? encodeDisconnect(reasonCode) : packet)
    if (host.isDebugging) host.log.write('disconnectSent', { clientId, reasonCode })
  }

  #endStream(): void {
    const { conn } = this
    this.#outbox.end()
    // What the peer still sends is of no interest, but its end is.
    conn.resume()
    if (conn.destroyed) return
    const timer = setTimeout(() => conn.destroy(), goodbyeTimeout)
    conn.once('finish', () => conn.destroy())
    conn.once('close', () => clearTimeout(timer))
  }

  // Input.

  /** Stops the clock that runs until the CONNECT. */
  connectCame(): void {
    clearTimeout(this.#connectTimer)
  }

  readonly #received = (chunk: Buffer): void => {
    if (this.state === 'closed') return
    this.lastInput = performance.now()
    this.host.stats.bytesReceived += chunk.length
    this.#framing.append(chunk)
    this.#work()
  }

  #work(): void {
    if (this.#isWorking || this.#isReadingHeld) {
      this.#pauseOrResume()
      return
    }
    this.#isWorking = true
    this.#guard(() => this.#handleAll())
    this.#isWorking = false
    this.#finishAtEnd()
    this.#pauseOrResume()
  }

  // The stream may be at its end while packets still wait for their turn, a hook or the store: they count, and so does a DISCONNECT among them.
  #inputEnded(end: End): void {
    this.#inputEnd ??= end
    this.#finishAtEnd()
  }

  #finishAtEnd(): void {
    const hasMore = this.#isWorking || (this.#isReadingHeld && this.#framing.buffered > 0)
    if (this.#inputEnd !== undefined && !hasMore) this.finish(this.#inputEnd)
  }

  // Nobody reads any more either.
  #streamGone(end: End): void {
    this.#inputEnd ??= end
    this.#outbox.close()
    if (this.#isClogged) {
      this.#isClogged = false
      this.release()
    }
    this.#finishAtEnd()
  }

  #guard(work: () => void): void {
    try {
      work()
    } catch (error) {
      this.host.log.write('fault', { reason: errorMessage(error) })
      this.finish({ words: 'internal fault', reasonCode: reasonCodes.unspecifiedError })
    }
  }

  #handleAll(): void {
    const framing = this.#framing
    const { host } = this
    if (!this.isAnnounced && this.state === 'active' && framing.buffered > 0) host.events.announce(this)
    let { effort } = host
    let count = 0
    while (this.#holds === 0 && this.state !== 'closed' && framing.next()) {
      handlePacket(this, framing)
      count += 1
      if (count % packetsPerLook > 0 && host.effort - effort < effortPerLook) continue
      const isLong = host.effort - effort >= effortPerTurn
      effort = host.effort
      if (isLong || host.turns.isOver) {
        this.hold()
        host.turns.later(() => this.release())
      }
    }
    if (this.state === 'closed' || this.#holds > 0) return
    // Not even begun as it should: nobody needs to wait for the rest.
    const isStranger = this.connect === undefined && framing.head >= 0 && framing.head >> 4 !== packetTypes.connect
    if (isStranger) this.finish({ words: 'protocol error' })
    else if (framing.fault === 'oversize') this.finish({ ...faultOfFraming(framing.fault), error: sizeError(framing) })
    else if (framing.fault !== undefined) refusePacket(this, faultOfFraming(framing.fault))
  }

  get #isReadingHeld(): boolean {
    return this.#holds > 0
  }

  #pauseOrResume(): void {
    const { conn } = this
    if (this.state === 'closed') return
    if (this.#isReadingHeld === this.#isPaused) return
    this.#isPaused = this.#isReadingHeld
    if (this.#isPaused) conn.pause()
    else conn.resume()
  }

  // The client took something.
  #written(): void {
    if (this.#isClogged) this.lastInput = performance.now()
    if (!this.#outbox.hasRoom) return
    this.#answers = 0
    this.#answerBytes = 0
    if (this.#isClogged) {
      this.#isClogged = false
      this.release()
    }
    this.session?.pump()
  }

  #owedLess(): void {
    if (!this.#isOwedMuch || this.#owed.size > mostOwed / 2) return
    this.#isOwedMuch = false
    this.release()
  }

  #connectTimedOut(): void {
    this.finish({ words: 'exceeded timeout' })
  }

  #failed(error: Error): void {
    const code = systemCode(error)
    const isGone = code === 'ECONNRESET' || code === 'EPIPE' || code === 'ERR_STREAM_PREMATURE_CLOSE' || code === undefined
    this.#streamGone({ words: isGone ? closedByClient.words : `bad socket read/write: ${systemReason(error)}`, error: errorOf(error) })
  }
}

// In Aedes' words and with its fields.
function sizeError({ oversize, limit }: Framing): Error {
  return Object.assign(new Error('packet too large'), { size: 1 + variableLength(oversize) + oversize, maximumPacketSize: limit })
}

function sourceOf({ clientId, admitted, transport }: Connection): MessageSource {
  const { username, certificate } = admitted?.identity ?? {}
  return Object.freeze({
    clientId,
    ...(username !== undefined && { username }),
    listener: listenerKey(transport.listener),
    ...(certificate !== undefined && { certificate })
  })
}
