// Clients as they are in the field: they keep what they have not finished, come back with the same session, send again what was not
// acknowledged, and take QoS 2 once. What the broker does against the specification is noted in `faults`.

import { connect as connectTcp, type Socket } from 'node:net'
import { setTimeout as pause } from 'node:timers/promises'
import { generate, type IConnackPacket, type IConnectPacket, type IPublishPacket, type Packet, parser } from 'mqtt-packet'
import { below, type Random } from './raw-mqtt.js'

/** Seconds; longer than any test. */
const sessionExpiry = 3600

export interface FieldOptions {
  readonly clientId: string
  readonly version: 4 | 5
  readonly faults: string[]
  readonly random: Random
}

/** How often each message was sent: it may come as often, and more often only with DUP. */
export type Sendings = Map<string, number>

export class FieldClient {
  readonly clientId: string
  readonly version: 4 | 5
  readonly random: Random
  isUp = false
  readonly #faults: string[]
  #socket: Socket | undefined
  #closed: Promise<void> = Promise.resolve()
  #answer: (packet: IConnackPacket | undefined) => void = () => {}
  /** What the broker knows of its session; `unknown`: the connection ended before CONNACK. */
  #session: 'none' | 'kept' | 'unknown' = 'none'

  constructor({ clientId, version, faults, random }: FieldOptions) {
    this.clientId = clientId
    this.version = version
    this.random = random
    this.#faults = faults
  }

  /** False: it ended before CONNACK, or was refused. */
  async connect(port: number, more: Partial<IConnectPacket> = {}): Promise<boolean> {
    const { version, clientId } = this
    const { clean = false } = more
    const socket = connectTcp({ port, host: '127.0.0.1', noDelay: true })
    this.#socket = socket
    const incoming = parser({ protocolVersion: version })
    incoming.on('packet', packet => this.#take(packet, socket))
    incoming.on('error', error => this.fault(`bytes that are no packet: ${error.message}`))
    socket.on('data', chunk => incoming.parse(chunk))
    socket.on('error', () => {})
    this.#closed = new Promise(resolve => {
      socket.once('close', () => {
        if (this.#socket === socket) this.isUp = false
        this.#answer(undefined)
        resolve()
      })
    })
    const before = this.#session
    this.#session = 'unknown'
    const isIn = new Promise<boolean>(resolve => {
      // At once: what comes behind CONNACK comes in the same turn.
      this.#answer = answer => {
        this.#answer = () => {}
        resolve(answer !== undefined && this.#isIn(answer, before, clean))
      }
    })
    this.#write({
      cmd: 'connect',
      protocolId: 'MQTT',
      protocolVersion: version,
      clean,
      clientId,
      keepalive: 60,
      ...(version === 5 && { properties: { sessionExpiryInterval: sessionExpiry } }),
      ...more
    })
    return isIn
  }

  #isIn({ returnCode, reasonCode, sessionPresent }: IConnackPacket, before: 'none' | 'kept' | 'unknown', clean: boolean): boolean {
    if ((returnCode ?? reasonCode ?? 0) !== 0) return false
    if (before === 'kept' && !clean && !sessionPresent) this.fault('its session is gone')
    if ((before === 'none' || clean) && sessionPresent) this.fault('a session that it never had')
    this.#session = clean && this.version === 4 ? 'none' : 'kept'
    this.isUp = true
    this.resumed()
    return true
  }

  /** Its connection breaks. */
  async drop(): Promise<void> {
    this.#socket?.destroy()
    await this.#closed
  }

  async ended(): Promise<void> {
    await this.#closed
  }

  async disconnect(): Promise<void> {
    this.#write({ cmd: 'disconnect' })
    this.#socket?.end()
    await this.#closed
  }

  send(packet: Packet): void {
    if (this.isUp) this.#write(packet)
  }

  fault(words: string): void {
    this.#faults.push(`${this.clientId}: ${words}`)
  }

  /** CONNACK came: what is unfinished goes on. */
  protected resumed(): void {}

  protected took(_packet: Packet): void {}

  #write(packet: Packet): void {
    const { version: protocolVersion } = this
    if (this.#socket?.writable === true) this.#socket.write(generate(packet, { protocolVersion }))
  }

  #take(packet: Packet, socket: Socket): void {
    if (socket !== this.#socket || socket.destroyed) return
    if (packet.cmd === 'connack') this.#answer(packet)
    else this.took(packet)
  }
}

interface Pending {
  readonly packet: IPublishPacket & { readonly messageId: number }
  readonly name: string
  phase: 'publish' | 'pubrel'
}

/** Topics of its own, each with messages that are counted; the window is always full until it has sent enough. */
export class FieldPublisher extends FieldClient {
  /** So many it may still begin. */
  budget = 0
  readonly sendings: Sendings
  /** The number of the last message of each stream. */
  readonly last = new Map<string, number>()
  /** What may lie on each retained topic: the values from the last that was acknowledged on; '' for none. */
  readonly kept = new Map<string, string[]>()
  readonly #pending = new Map<number, Pending>()
  #lastPacketId = 0

  constructor(options: FieldOptions, sendings: Sendings) {
    super(options)
    this.sendings = sendings
  }

  get pending(): number {
    return this.#pending.size
  }

  fill(): void {
    while (this.isUp && this.budget > 0 && this.#pending.size < 15) {
      this.budget -= 1
      if (below(this.random, 5) === 0) this.#publishRetained()
      else this.#publishLoad()
    }
  }

  protected override resumed(): void {
    for (const entry of this.#pending.values()) this.#sendAgain(entry)
    this.fill()
  }

  protected override took(packet: Packet): void {
    if (packet.cmd !== 'puback' && packet.cmd !== 'pubrec' && packet.cmd !== 'pubcomp') return
    const { messageId = 0 } = packet
    const entry = this.#pending.get(messageId)
    if (entry === undefined) this.fault(`${packet.cmd} for ${messageId}, which is not under way`)
    else if ((packet.reasonCode ?? 0) >= 0x80) this.fault(`${packet.cmd} with ${packet.reasonCode} for ${entry.name}`)
    else if (packet.cmd === 'pubrec') this.#release(entry)
    else this.#finish(entry, packet.cmd === 'puback' ? 1 : 2)
    this.fill()
  }

  #release(entry: Pending): void {
    if (entry.packet.qos !== 2) this.fault(`PUBREC for ${entry.name}`)
    entry.phase = 'pubrel'
    this.send({ cmd: 'pubrel', messageId: entry.packet.messageId })
  }

  #finish({ packet, name }: Pending, qos: 1 | 2): void {
    if (packet.qos !== qos) this.fault(`an acknowledgement of QoS ${qos} for ${name}`)
    this.#pending.delete(packet.messageId)
    const values = this.kept.get(packet.topic)
    const value = String(packet.payload)
    if (packet.retain && values !== undefined) values.splice(0, values.indexOf(value))
  }

  #sendAgain(entry: Pending): void {
    const { packet, name, phase } = entry
    if (phase === 'publish') this.#send({ ...packet, dup: true }, name)
    else this.send({ cmd: 'pubrel', messageId: packet.messageId })
  }

  // One stream for each topic and QoS: what is released by PUBREL may come behind what is not.
  #publishLoad(): void {
    const qos = below(this.random, 2) === 0 ? 1 : 2
    const stream = `load/${this.clientId}/${below(this.random, 2)}/${qos}`
    const number = (this.last.get(stream) ?? 0) + 1
    this.last.set(stream, number)
    // Now and then one that lies apart in the store.
    const padding = below(this.random, 20) === 0 ? 5000 : below(this.random, 40)
    this.#begin({ topic: stream, payload: `${number} ${'x'.repeat(padding)}`, qos, retain: false }, `${stream} ${number}`)
  }

  // Each topic with a QoS of its own, as with the streams.
  #publishRetained(): void {
    const qos = below(this.random, 2) === 0 ? 1 : 2
    const topic = `kept/${this.clientId}/${below(this.random, 2)}/${qos}`
    const number = (this.last.get(topic) ?? 0) + 1
    this.last.set(topic, number)
    const payload = number % 7 === 0 ? '' : String(number)
    const values = this.kept.get(topic) ?? ['']
    this.kept.set(topic, [...values, payload])
    this.#begin({ topic, payload, qos, retain: true }, `${topic} ${number}`)
  }

  #begin(fields: Pick<IPublishPacket, 'topic' | 'payload' | 'qos' | 'retain'>, name: string): void {
    do this.#lastPacketId = (this.#lastPacketId % 65_535) + 1
    while (this.#pending.has(this.#lastPacketId))
    const packet = { ...fields, cmd: 'publish', dup: false, messageId: this.#lastPacketId } as const
    this.#pending.set(packet.messageId, { packet, name, phase: 'publish' })
    this.#send(packet, name)
  }

  #send(packet: IPublishPacket, name: string): void {
    this.sendings.set(name, (this.sendings.get(name) ?? 0) + 1)
    this.send(packet)
  }
}

interface Received {
  readonly name: string
  readonly isAnswered: boolean
}

/** Takes `load/#`, acknowledges at its own pace, and checks everything that comes. */
export class FieldSubscriber extends FieldClient {
  readonly qos: 1 | 2
  /** Milliseconds; 0: at once. */
  patience: number
  /** The number of the last message of each stream that it took. */
  readonly last = new Map<string, number>()
  accepted = 0
  readonly #sendings: Sendings
  /** How often each came without DUP. */
  readonly #fresh: Sendings = new Map()
  /** By packet identifier: PUBACK or PUBREC may be answered and not known to the broker. */
  #received = new Map<number, Received>()
  /** QoS 2 that was taken, PUBREL not seen. */
  readonly #halfDone = new Map<number, string>()
  /** PUBCOMP was sent. */
  readonly #completed = new Set<number>()
  /** What has to come again on this connection before anything new, in this order. */
  #due: number[] = []
  #answers: Packet[] = []
  #timer: NodeJS.Timeout | undefined
  isSubscribed = false

  constructor(options: FieldOptions, qos: 1 | 2, patience: number, sendings: Sendings) {
    super(options)
    this.qos = qos
    this.patience = patience
    this.#sendings = sendings
  }

  protected override resumed(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
    this.#answers = []
    this.#due = [...this.#received].filter(([, { isAnswered }]) => !isAnswered).map(([packetId]) => packetId)
    const { qos } = this
    if (!this.isSubscribed) this.send({ cmd: 'subscribe', messageId: 1, subscriptions: [{ topic: 'load/#', qos }] })
  }

  protected override took(packet: Packet): void {
    if (packet.cmd === 'suback') this.isSubscribed = true
    else if (packet.cmd === 'publish') this.#takePublish(packet)
    else if (packet.cmd === 'pubrel') this.#takePubrel(packet.messageId ?? 0)
  }

  #takePublish(packet: IPublishPacket): void {
    const { topic, dup, messageId = 0, qos } = packet
    const name = `${topic} ${String(packet.payload).split(' ')[0]}`
    this.#checkResend(messageId, name, dup)
    if (!dup) this.#countFresh(name)
    const isKnown = qos === 2 && this.#halfDone.has(messageId)
    if (isKnown && this.#halfDone.get(messageId) !== name) this.fault(`${name} came with ${messageId}, which is taken`)
    // What comes again keeps its place: a connection may end when only a part of it has.
    if (this.#received.get(messageId)?.name !== name) this.#received.delete(messageId)
    this.#received.set(messageId, { name, isAnswered: false })
    if (qos === 2) {
      this.#halfDone.set(messageId, name)
      this.#completed.delete(messageId)
    }
    if (!isKnown) this.#accept(topic, Number(name.split(' ')[1]), dup && qos === 1)
    this.#answer(qos === 2 ? { cmd: 'pubrec', messageId } : { cmd: 'puback', messageId })
  }

  // [MQTT-4.4.0-1, MQTT-3.3.1-1]
  #checkResend(messageId: number, name: string, dup: boolean): void {
    const before = this.#received.get(messageId)
    const due = this.#due[0]
    if (due === messageId) {
      this.#due.shift()
      if (before?.name !== name) this.fault(`${messageId} was ${before?.name}, and is ${name}`)
      if (!dup) this.fault(`${name} came again as ${messageId} without DUP`)
      return
    }
    const isKnown = before?.name === name
    if (isKnown && !dup && this.#sendings.get(name) === 1) this.fault(`${name} came again without DUP`)
    if (due !== undefined && !isKnown) this.fault(`${name} came before ${due}, which was not acknowledged`)
  }

  #countFresh(name: string): void {
    const count = (this.#fresh.get(name) ?? 0) + 1
    this.#fresh.set(name, count)
    const sent = name.includes('/2 ') ? 1 : (this.#sendings.get(name) ?? 0)
    if (count > sent) this.fault(`${name} came ${count} times without DUP, and was sent ${sent} times`)
  }

  // Nothing between the last and this may be missing: every stream is complete from its beginning on.
  #accept(stream: string, number: number, isResend: boolean): void {
    const last = this.last.get(stream) ?? 0
    this.accepted += 1
    if (number === last + 1) this.last.set(stream, number)
    else if (number > last) this.fault(`${stream} ${number} came after ${last}`)
    else if (stream.endsWith('/2') && this.qos === 2) this.fault(`${stream} ${number} was taken twice`)
    else if (!isResend && stream.endsWith('/2')) this.fault(`${stream} ${number} came twice as if it were new`)
  }

  #takePubrel(messageId: number): void {
    if (!this.#halfDone.has(messageId) && !this.#completed.has(messageId)) this.fault(`PUBREL for ${messageId}, which it never had`)
    // The broker has the PUBREC.
    this.#received.delete(messageId)
    this.#due = this.#due.filter(due => due !== messageId)
    this.#halfDone.delete(messageId)
    this.#completed.add(messageId)
    this.#answer({ cmd: 'pubcomp', messageId })
  }

  #answer(packet: Packet): void {
    this.#answers.push(packet)
    if (this.patience === 0) this.#sendAnswers()
    else this.#timer ??= setTimeout(() => this.#sendAnswers(), below(this.random, this.patience))
  }

  #sendAnswers(): void {
    this.#timer = undefined
    const answers = this.#answers
    this.#answers = []
    if (!this.isUp) return
    for (const packet of answers) {
      this.send(packet)
      const { messageId = 0 } = packet
      const received = this.#received.get(messageId)
      if (received !== undefined && packet.cmd !== 'pubcomp') this.#received.set(messageId, { ...received, isAnswered: true })
    }
  }
}

/** Comes and goes with filters of its own: what was acknowledged of them holds. */
export class FieldVisitor extends FieldClient {
  /** By filter; `unknown`: SUBACK or UNSUBACK is missing. */
  readonly filters = new Map<string, 'subscribed' | 'gone' | 'unknown'>()
  readonly messages = new Set<string>()
  #acknowledged = () => {}

  /** One change of its subscriptions, if the connection lives long enough. */
  async change(): Promise<void> {
    const filter = `visit/${this.clientId}/${below(this.random, 8)}`
    const subscribes = this.filters.get(filter) !== 'subscribed'
    this.filters.set(filter, 'unknown')
    const acknowledged = new Promise<boolean>(resolve => {
      this.#acknowledged = () => resolve(true)
      void this.ended().then(() => resolve(false))
    })
    if (subscribes) this.send({ cmd: 'subscribe', messageId: 7, subscriptions: [{ topic: filter, qos: 1 }] })
    else this.send({ cmd: 'unsubscribe', messageId: 7, unsubscriptions: [filter] })
    if (await acknowledged) this.filters.set(filter, subscribes ? 'subscribed' : 'gone')
  }

  /** In and out, with changes between, until told to stop. */
  async comeAndGo(port: number, isOver: () => boolean): Promise<void> {
    while (!isOver()) {
      if (await this.connect(port)) {
        for (let i = below(this.random, 4); i > 0 && this.isUp; i--) await this.change()
        if (below(this.random, 2) === 0) await this.disconnect()
      }
      await this.drop()
      await pause(below(this.random, 10))
    }
  }

  protected override took(packet: Packet): void {
    if (packet.cmd === 'suback' || packet.cmd === 'unsuback') this.#acknowledged()
    if (packet.cmd !== 'publish') return
    this.messages.add(packet.topic)
    if (packet.qos === 1) this.send({ cmd: 'puback', messageId: packet.messageId ?? 0 })
  }
}
