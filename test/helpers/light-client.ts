// A client that costs little, for crowds: counts what comes by its type, acknowledges if it is to, and stops reading when told.

import { connect as connectTcp } from 'node:net'
import type { Duplex } from 'node:stream'
import { connect, packet, type RawConnect, uint16 } from './raw-mqtt.js'

/** Never waited for by a test that passes. */
const deadline = 60_000

interface LightOptions {
  /** Acknowledges QoS 1 and 2. */
  readonly acknowledges?: boolean
  /** For every PUBLISH. The buffers are slices of what came. */
  readonly onPublish?: (topic: Buffer, payload: Buffer, qos: number) => void
  /** The end of PUBACK or PUBCOMP. */
  readonly onDone?: (packetId: number) => void
}

export class LightClient {
  readonly stream: Duplex
  /** Packets that came, by type. */
  readonly counts: number[] = new Array<number>(16).fill(0)
  /** Of the last CONNACK; -1: none came. */
  connackCode = -1
  isPresent = false
  isClosed = false
  readonly #options: LightOptions
  #rest: Buffer = Buffer.alloc(0)
  #pong = () => {}
  /** True: done. */
  #waiters: (() => boolean)[] = []

  constructor(stream: Duplex, options: LightOptions = {}) {
    this.stream = stream
    this.#options = options
    stream.on('data', (chunk: Buffer) => this.#received(chunk))
    stream.on('error', () => {})
    stream.on('close', () => {
      this.isClosed = true
      this.#pong()
      this.#wake()
    })
  }

  get publishes(): number {
    return this.counts[3] ?? 0
  }

  send(...packets: readonly Buffer[]): boolean {
    return this.stream.write(packets.length === 1 ? (packets[0] ?? '') : Buffer.concat(packets))
  }

  /** CONNECT of MQTT 3.1.1, unless told otherwise; resolves when it is let in or the end has come. */
  async connect(options: RawConnect): Promise<this> {
    this.send(connect(options))
    await this.has(2, (this.counts[2] ?? 0) + 1)
    return this
  }

  /** So many packets of the type have come, or the end has. */
  async has(type: number, count: number): Promise<void> {
    const isThere = () => (this.counts[type] ?? 0) >= count || this.isClosed
    if (isThere()) return
    await new Promise<void>((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`${this.counts[type]} packets of type ${type}, not ${count}`)), deadline)
      this.#waiters.push(() => {
        if (!isThere()) return false
        clearTimeout(timer)
        resolve()
        return true
      })
    })
  }

  /** Resolves when the answer comes, or the end. One at a time. */
  async ping(): Promise<void> {
    if (this.isClosed) return
    const ponged = new Promise<void>(resolve => {
      this.#pong = resolve
    })
    this.send(packet(0xc0))
    await ponged
  }

  destroy(): void {
    this.stream.destroy()
  }

  #received(chunk: Buffer): void {
    const bytes = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk])
    let at = 0
    // All acknowledgements in one write.
    this.stream.cork()
    for (;;) {
      const end = this.#take(bytes, at)
      if (end === undefined) break
      at = end
    }
    this.stream.uncork()
    this.#rest = bytes.subarray(at)
    this.#wake()
  }

  #wake(): void {
    if (this.#waiters.length > 0) this.#waiters = this.#waiters.filter(isDone => !isDone())
  }

  /** Where the packet ends that begins here; undefined: it is not complete. */
  #take(bytes: Buffer, at: number): number | undefined {
    let length = 0
    let start = at + 1
    for (let shift = 0; ; shift += 7) {
      const byte = bytes[start]
      if (byte === undefined) return undefined
      start += 1
      length |= (byte & 0x7f) << shift
      if (byte < 0x80) break
    }
    const end = start + length
    if (end > bytes.length) return undefined
    this.#handle(bytes[at] ?? 0, bytes, start, end)
    return end
  }

  #handle(head: number, bytes: Buffer, start: number, end: number): void {
    const type = head >> 4
    this.counts[type] = (this.counts[type] ?? 0) + 1
    const { acknowledges = false, onPublish, onDone } = this.#options
    if (type === 2) {
      this.isPresent = bytes[start] === 1
      this.connackCode = bytes[start + 1] ?? 255
    } else if (type === 3) {
      const qos = (head >> 1) & 3
      const topicEnd = start + 2 + bytes.readUInt16BE(start)
      if (acknowledges && qos > 0) this.send(packet(qos === 1 ? 0x40 : 0x50, bytes.subarray(topicEnd, topicEnd + 2)))
      onPublish?.(bytes.subarray(start + 2, topicEnd), bytes.subarray(qos > 0 ? topicEnd + 2 : topicEnd, end), qos)
    } else if (type === 4 || type === 7) {
      onDone?.(bytes.readUInt16BE(start))
    } else if (type === 5 && acknowledges) {
      this.send(packet(0x62, uint16(bytes.readUInt16BE(start))))
    } else if (type === 13) {
      this.#pong()
    } else if (type === 6 && acknowledges) {
      this.send(packet(0x70, uint16(bytes.readUInt16BE(start))))
    }
  }
}

export async function dial(port: number, options?: LightOptions): Promise<LightClient> {
  const socket = connectTcp({ port, host: '127.0.0.1', noDelay: true })
  await new Promise<void>((resolve, reject) => socket.once('connect', resolve).once('error', reject))
  return new LightClient(socket, options)
}
