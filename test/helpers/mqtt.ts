// A raw MQTT client on mqtt-packet: it says what it is told, answers nothing by itself, and keeps the broker's bytes for exact assertions.

import { connect as connectTcp } from 'node:net'
import type { Duplex } from 'node:stream'
import { generate, type IConnackPacket, type IConnectPacket, type IPublishPacket, type Packet, parser, type QoS } from 'mqtt-packet'

/** Long enough for a busy machine, and never waited for by a test that passes. */
const deadline = 30_000

export interface ConnectOptions extends Partial<IConnectPacket> {
  readonly protocolVersion?: 3 | 4 | 5
}

export class MqttClient {
  /** Everything that the broker sent and that no `next` has taken. */
  readonly packets: Packet[] = []
  readonly stream: Duplex
  #protocolVersion: 3 | 4 | 5
  #bytes: Buffer[] = []
  #closed = false
  #wake: () => void = () => {}

  constructor(stream: Duplex, protocolVersion: 3 | 4 | 5 = 4) {
    this.stream = stream
    this.#protocolVersion = protocolVersion
    const incoming = parser({ protocolVersion })
    incoming.on('packet', packet => {
      this.packets.push(packet)
      this.#wake()
    })
    // What can't be parsed is no packet; its bytes can still be asserted.
    incoming.on('error', () => {})
    stream.on('data', (chunk: Buffer) => {
      this.#bytes.push(chunk)
      incoming.parse(chunk)
      this.#wake()
    })
    stream.on('error', () => {})
    stream.on('close', () => {
      this.#closed = true
      this.#wake()
    })
  }

  /** CONNECT, and what the broker says to it. */
  async connect(options: ConnectOptions = {}): Promise<IConnackPacket> {
    this.send({
      cmd: 'connect',
      protocolId: this.#protocolVersion === 3 ? 'MQIsdp' : 'MQTT',
      protocolVersion: this.#protocolVersion,
      clean: true,
      clientId: 'test',
      keepalive: 60,
      ...options
    })
    return this.next('connack')
  }

  async subscribe(topic: string, qos: QoS = 0, messageId = 1): Promise<Packet> {
    this.send({ cmd: 'subscribe', messageId, subscriptions: [{ topic, qos, nl: false, rap: false, rh: 0 }] })
    return this.next('suback')
  }

  publish(topic: string, payload: string | Buffer, options: Partial<IPublishPacket> = {}): void {
    this.send({ cmd: 'publish', topic, payload, qos: 0, dup: false, retain: false, ...options })
  }

  /** PINGREQ, and its answer: what was sent before has been handled. */
  async ping(): Promise<void> {
    this.send({ cmd: 'pingreq' })
    await this.next('pingresp')
  }

  send(packet: Packet): void {
    this.stream.write(generate(packet, { protocolVersion: this.#protocolVersion }))
  }

  /** The next packet, which must be of this kind. */
  async next<Cmd extends Packet['cmd']>(cmd: Cmd): Promise<Extract<Packet, { cmd: Cmd }>> {
    await this.#until(() => this.packets.length > 0 || this.#closed, cmd)
    const packet = this.packets.shift()
    if (packet === undefined) throw new Error(`closed before ${cmd.toUpperCase()}`)
    if (!isCmd(packet, cmd)) throw new Error(`expected ${cmd.toUpperCase()}, got ${JSON.stringify(packet)}`)
    return packet
  }

  /** The broker's bytes since the last call, in hex. */
  takeBytes(): string {
    const taken = Buffer.concat(this.#bytes).toString('hex')
    this.#bytes = []
    return taken
  }

  /** So many bytes that no `takeBytes` has taken, in hex. */
  async nextBytes(count: number): Promise<string> {
    await this.#until(() => this.#closed || Buffer.concat(this.#bytes).length >= count, `${count} bytes`)
    return this.takeBytes()
  }

  /** Resolves when the broker has closed. */
  async closed(): Promise<void> {
    await this.#until(() => this.#closed, 'the end of the connection')
  }

  destroy(): void {
    this.stream.destroy()
  }

  async #until(condition: () => boolean, wanted: string): Promise<void> {
    const end = Date.now() + deadline
    while (!condition()) {
      const left = end - Date.now()
      if (left <= 0) throw new Error(`no ${wanted} within ${deadline} ms`)
      await new Promise<void>(resolve => {
        const timer = setTimeout(resolve, left)
        this.#wake = () => {
          clearTimeout(timer)
          resolve()
        }
      })
    }
  }
}

/** A client on a new TCP connection to this port of the loopback. */
export async function connectMqtt(port: number, protocolVersion: 3 | 4 | 5 = 4): Promise<MqttClient> {
  // Else small packets wait for the other side's TCP.
  const socket = connectTcp({ port, host: '127.0.0.1', noDelay: true })
  await new Promise<void>((resolve, reject) => {
    socket.once('connect', resolve)
    socket.once('error', reject)
  })
  return new MqttClient(socket, protocolVersion)
}

/** Waits for a condition, with a deadline. */
export async function until(condition: () => boolean, what: string): Promise<void> {
  const end = Date.now() + deadline
  while (!condition()) {
    if (Date.now() > end) throw new Error(`not within ${deadline} ms: ${what}`)
    await new Promise(resolve => setTimeout(resolve, 5))
  }
}

function isCmd<Cmd extends Packet['cmd']>(packet: Packet, cmd: Cmd): packet is Extract<Packet, { cmd: Cmd }> {
  return packet.cmd === cmd
}
