// One application message on its way through the broker, shared by everybody who receives it, who keeps it and who stores it. What it
// says never changes; where its bytes lie may.

import type { CertificateFacts } from './auth/identity.js'
import { Arena } from './protocol/arena.js'
import { Frames, headOf, largePayload, stampFirst } from './protocol/frames.js'
import { payloadOf, type Qos, type Version } from './protocol/packets.js'

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
  /** MQTT 5 properties without their length, up to the payload, which goes up to `end`. */
  readonly propertiesAt: number
  readonly payloadAt: number
  readonly end: number
}

export type MessageFields = CommonFields & (OfPayload | OfPacket)

interface OfPayload {
  readonly payload: Buffer
  /** MQTT 5 properties that go on to receivers, encoded, without their length and without the message expiry interval. */
  readonly properties?: Buffer
  readonly raw?: undefined
}

interface OfPacket {
  /** The packet that it came in, where nothing but its first byte and its identifier would differ for receivers. */
  readonly raw: RawPublish
  readonly payload?: undefined
  readonly properties?: undefined
}

interface CommonFields {
  readonly topic: string
  readonly qos: Qos
  /** As published; whether a receiver is told depends on its subscription. */
  readonly retain: boolean
  /** Milliseconds since 1970; absent: never. */
  readonly expiresAt?: number
  /** Absent: the broker itself. */
  readonly source?: MessageSource
}

const none = Buffer.alloc(0)

/** Where the packets of messages that stay lie. */
const kept = new Arena()

export class Message {
  readonly topic: string
  readonly qos: Qos
  readonly retain: boolean
  /** Milliseconds since 1970; Infinity: never. */
  readonly expiresAt: number
  readonly source: MessageSource | undefined
  /** In memory that others use: nobody has it any more once the message is kept. */
  raw: RawPublish | undefined
  /** Where it lies; only `keep` and `settle` give it another place. */
  buffer: Buffer
  /** In `buffer`, up to `payloadAt`, where they are not apart from it. */
  propertiesAt: number
  /** In `buffer`, up to `end`. */
  payloadAt: number
  end: number
  /** Made when first asked for: most messages are passed on without them. */
  #properties: Buffer | undefined
  #payload: Buffer | undefined
  #frames: Frames | undefined
  /** Where the packet that it came in is kept, in `buffer` up to `end`. */
  #packetAt = -1
  #isNew = false
  #isSent = false
  #isKept = false
  #isSettled = false

  constructor({ topic, payload, qos, retain, properties, expiresAt = Number.POSITIVE_INFINITY, source, raw }: MessageFields) {
    this.topic = topic
    this.qos = qos
    this.retain = retain
    this.expiresAt = expiresAt
    this.source = source
    this.raw = raw
    this.#properties = properties
    this.#payload = payload
    this.buffer = raw?.buffer ?? payload ?? none
    this.propertiesAt = raw?.propertiesAt ?? 0
    this.payloadAt = raw?.payloadAt ?? 0
    this.end = raw?.end ?? this.buffer.length
  }

  get properties(): Buffer {
    this.#properties ??= this.propertiesAt === this.payloadAt ? none : this.buffer.subarray(this.propertiesAt, this.payloadAt)
    return this.#properties
  }

  get payload(): Buffer {
    this.#payload ??= payloadOf(this)
    return this.#payload
  }

  /** Bytes. */
  get payloadLength(): number {
    return this.end - this.payloadAt
  }

  /** Bytes that it takes while it is kept, or a little fewer: its topic is there as text, and once more where the packet that it came in is kept. */
  get weight(): number {
    return 2 * this.topic.length + (this.#properties?.length ?? this.payloadAt - this.propertiesAt) + this.payloadLength
  }

  /**
   * Its PUBLISH packets, made when first asked for. Where it has the packet that it came in, `stampPacket` was asked before for one with a
   * number. What stays for long keeps none beside its own.
   */
  get frames(): Frames {
    if (this.#packetAt < 0) {
      if (this.#isSettled) return new Frames(this)
      this.#frames ??= new Frames(this)
    }
    this.#frames ??= new Frames(this, this.#isNew ? 5 : 4, this.buffer.subarray(this.#packetAt, this.end))
    return this.#frames
  }

  /**
   * The packet that it came in, made the one that this receiver is to get, QoS 1 or 2: it begins there in `buffer` and goes up to `end`. Only
   * the first receiver, and those in step with it, can have it; -1: `frames` has another.
   */
  stampPacket(version: Version, qos: 1 | 2, retain: boolean, dup: boolean, packetId: number): number {
    const at = this.#packetAt
    if (at < 0 || this.#isNew !== (version === 5)) return -1
    const isFirst = !this.#isSent
    this.#isSent = true
    return stampFirst(this.buffer, at, headOf(qos, retain, dup), packetId, isFirst) ? at : -1
  }

  /**
   * It is about to stay for longer than a turn of the event loop: a payload that is a small part of the chunk it came in gets memory
   * of ours, else it would keep all of it. Before anything is encoded.
   */
  keep(): void {
    if (this.#isKept) return
    this.#isKept = true
    const { raw, qos } = this
    this.raw = undefined
    if (raw !== undefined && qos > 0 && this.payloadLength < largePayload) {
      this.#keepPacket(raw)
      return
    }
    this.#properties = own(this.properties)
    this.#place(own(this.payload))
  }

  // The one copy is the first receiver's packet, and the mould of the others.
  #keepPacket({ isNew, buffer, start, end }: RawPublish): void {
    const at = kept.copy(buffer, start, end)
    this.#packetAt = at
    this.#isNew = isNew
    this.#shift(kept.buffer, at - start)
  }

  /**
   * It is about to stay for as long as nobody knows: it gets memory that nothing else would stay in. Behind `keep`, or instead of it, which
   * is quicker and packs what comes together.
   */
  settle(): void {
    if (this.#isSettled) return
    this.#isSettled = true
    // Its frames may have been made from what is left behind.
    this.#frames = undefined
    const { raw, buffer } = this
    this.raw = undefined
    this.#isKept = true
    // Where it is not kept yet its packet is copied from memory of others, which nobody may stamp.
    const isRaw = raw !== undefined && this.qos > 0 && this.payloadLength < largePayload
    if (isRaw) this.#isNew = raw.isNew
    const at = isRaw ? raw.start : this.#packetAt
    if (at < 0) {
      this.#properties = alone(this.properties)
      this.#place(alone(this.payload))
    } else if (isRaw || isPart(this.end - at, buffer)) {
      this.#packetAt = 0
      this.#shift(copyOf(buffer.subarray(at, this.end)), -at)
    }
  }

  #place(payload: Buffer): void {
    if (payload === this.payload) return
    this.#payload = payload
    this.buffer = payload
    this.payloadAt = 0
    this.end = payload.length
  }

  #shift(buffer: Buffer, by: number): void {
    this.buffer = buffer
    this.propertiesAt += by
    this.payloadAt += by
    this.end += by
    this.#properties = undefined
    this.#payload = undefined
  }

  hasExpired(now: number): boolean {
    return now >= this.expiresAt
  }

  /** Whole seconds that are left, as receivers are told; at least 1 while it has not expired. */
  secondsLeft(now: number): number {
    return Math.max(1, Math.ceil((this.expiresAt - now) / 1000))
  }
}

const isPart = (length: number, { buffer }: Buffer): boolean => length * 2 < buffer.byteLength

// In memory that others lie in too, as long as that is no more than an outbox takes for small.
function own(bytes: Buffer): Buffer {
  return isPart(bytes.length, bytes) && bytes.buffer.byteLength > Buffer.poolSize ? Buffer.from(bytes) : bytes
}

/** In memory of which it is all, or half. */
export const alone = (bytes: Buffer): Buffer => (isPart(bytes.length, bytes) ? copyOf(bytes) : bytes)

function copyOf(bytes: Buffer): Buffer {
  const copy = Buffer.allocUnsafeSlow(bytes.length)
  copy.set(bytes)
  return copy
}
