// One application message on its way through the broker, shared by everybody who receives it, who keeps it and who stores it. What it
// says never changes; where its bytes lie may.

import type { CertificateFacts } from './auth/identity.js'
import { Frames, largePayload } from './protocol/frames.js'
import type { Qos } from './protocol/packets.js'

/** Who published it: `check_retain_source` asks for their right to write again. */
export interface MessageSource {
  readonly clientId: string
  readonly username?: string
  /** `listenerKey` of the listener it came by. */
  readonly listener?: string
  /** What the ACL asked of its certificate. */
  readonly certificate?: CertificateFacts
}

/** A PUBLISH as it came in, for as long as its chunk is looked at: the same bytes are right for receivers of the same protocol family. */
export interface RawPublish {
  /** MQTT 5. */
  readonly isNew: boolean
  readonly buffer: Buffer
  readonly start: number
  readonly end: number
}

export interface MessageFields {
  readonly topic: string
  readonly payload: Buffer
  readonly qos: Qos
  /** As published; whether a receiver is told depends on its subscription. */
  readonly retain: boolean
  /** MQTT 5 properties that go on to receivers, encoded, without their length and without the message expiry interval. */
  readonly properties?: Buffer
  /** Milliseconds since 1970; absent: never. */
  readonly expiresAt?: number
  /** Absent: the broker itself. */
  readonly source?: MessageSource
  /** The packet that it came in, where nothing but its first byte and its identifier would differ for receivers. */
  readonly raw?: RawPublish | undefined
}

// Newer versions of Node 24 make the pool of small buffers eight times as large: a message that stays would keep all of the 64 KB it lies
// in, and nobody could tell them from a chunk that came in. The property is there to be set.
Buffer.poolSize = Math.min(Buffer.poolSize, 8192)

const none = Buffer.alloc(0)

export class Message {
  readonly topic: string
  readonly qos: Qos
  readonly retain: boolean
  /** Milliseconds since 1970; Infinity: never. */
  readonly expiresAt: number
  readonly source: MessageSource | undefined
  /** Only `keep` gives it another place. */
  payload: Buffer
  properties: Buffer
  /** In memory that others use: nobody has it any more once the message is kept. */
  raw: RawPublish | undefined
  #frames: Frames | undefined
  #isKept = false

  constructor({ topic, payload, qos, retain, properties = none, expiresAt = Number.POSITIVE_INFINITY, source, raw }: MessageFields) {
    this.topic = topic
    this.payload = payload
    this.qos = qos
    this.retain = retain
    this.properties = properties
    this.expiresAt = expiresAt
    this.source = source
    this.raw = raw
  }

  /** Its PUBLISH packets, made when first asked for. */
  get frames(): Frames {
    this.#frames ??= new Frames(this)
    return this.#frames
  }

  /**
   * It is about to stay for longer than a turn of the event loop: a payload that is a small part of the chunk it came in gets memory of
   * its own, else it would keep all of it. Before anything is encoded.
   */
  keep(): void {
    if (this.#isKept) return
    this.#isKept = true
    const { raw, qos, payload } = this
    this.raw = undefined
    if (raw !== undefined && qos > 0 && payload.length < largePayload) {
      this.#keepPacket(raw)
      return
    }
    this.payload = own(this.payload)
    this.properties = own(this.properties)
  }

  // The one copy is the first receiver's packet, and the mould of the others.
  #keepPacket({ isNew, buffer, start, end }: RawPublish): void {
    const packet = Buffer.from(buffer.subarray(start, end))
    const payloadAt = packet.length - this.payload.length
    const propertiesAt = payloadAt - this.properties.length
    this.payload = packet.subarray(payloadAt)
    if (propertiesAt < payloadAt) this.properties = packet.subarray(propertiesAt, payloadAt)
    this.#frames = new Frames(this, isNew ? 5 : 4, packet)
  }

  hasExpired(now: number): boolean {
    return now >= this.expiresAt
  }

  /** Whole seconds that are left, as receivers are told; at least 1 while it has not expired. */
  secondsLeft(now: number): number {
    return Math.max(1, Math.ceil((this.expiresAt - now) / 1000))
  }
}

function own(bytes: Buffer): Buffer {
  return bytes.length * 2 < bytes.buffer.byteLength && bytes.buffer.byteLength > Buffer.poolSize ? Buffer.from(bytes) : bytes
}
