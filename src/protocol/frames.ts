// The PUBLISH packets of one message for all its receivers: encoded once for each protocol family and kept. With QoS 1 and 2 only the
// packet identifier differs, so one encoding is the mould of the others; receivers in step share even that.

import { encodePublish, encodePublishHead, packetIdOffset } from './encode.js'
import type { Qos, Version } from './packets.js'

/** What is encoded. */
export interface FrameContent {
  readonly topic: string
  readonly payload: Buffer
  /** MQTT 5. */
  readonly properties: Buffer
}

/** From this size on a payload is worth a write of its own: it is sent behind its packets, not in them. */
export const largePayload = 16_384

const dupFlag = 0x08
const retainFlag = 0x01
const none = Buffer.alloc(0)

export class Frames {
  readonly #content: FrameContent
  /** The packets hold all but the payload, which is sent behind them. */
  readonly isLarge: boolean
  #old: Family | undefined
  #new: Family | undefined

  /** `packet`: one with QoS 1 or 2 in this version that is there already, and is nobody else's. */
  constructor(content: FrameContent, version: Version = 4, packet?: Buffer) {
    this.#content = content
    this.isLarge = content.payload.length >= largePayload
    if (packet !== undefined) this.#family(version).setMould(packet)
  }

  /** What follows each packet. */
  get tail(): Buffer | undefined {
    return this.isLarge ? this.#content.payload : undefined
  }

  /** QoS 0. */
  plain(version: Version, retain: boolean): Buffer {
    const family = this.#family(version)
    const known = retain ? family.retained : family.plain
    if (known !== undefined) return known
    const frame = this.#encode(family.version, 0, retain)
    if (retain) family.retained = frame
    else family.plain = frame
    return frame
  }

  /** QoS 1 or 2. */
  numbered(version: Version, qos: 1 | 2, retain: boolean, dup: boolean, packetId: number): Buffer {
    const family = this.#family(version)
    const head = 0x30 | (qos << 1) | (retain ? retainFlag : 0) | (dup ? dupFlag : 0)
    const mould = family.numbered
    if (mould === undefined) {
      const frame = this.#encode(family.version, qos, retain)
      family.setMould(frame)
      family.isUsed = true
      return stamp(frame, head, family.idOffset, packetId)
    }
    const at = family.idOffset
    if (!family.isUsed) {
      family.isUsed = true
      return stamp(mould, head, at, packetId)
    }
    if (mould[0] === head && mould[at] === packetId >> 8 && mould[at + 1] === (packetId & 0xff)) return mould
    // The first one may still be on its way out: it stays as it is.
    return stamp(Buffer.from(mould), head, at, packetId)
  }

  #family(version: Version): Family {
    if (version !== 5) {
      this.#old ??= new Family(4)
      return this.#old
    }
    this.#new ??= new Family(5)
    return this.#new
  }

  #encode(version: Version, qos: Qos, retain: boolean): Buffer {
    const { topic, payload, properties } = this.#content
    const packet = { version, topic, payload, qos, dup: false, retain, packetId: 0, properties: version === 5 ? properties : none }
    return this.isLarge ? encodePublishHead(packet) : encodePublish(packet)
  }
}

class Family {
  readonly version: Version
  plain: Buffer | undefined
  retained: Buffer | undefined
  numbered: Buffer | undefined
  idOffset = 0
  /** Somebody has been sent the mould itself. */
  isUsed = false

  constructor(version: Version) {
    this.version = version
  }

  setMould(packet: Buffer): void {
    this.numbered = packet
    this.idOffset = packetIdOffset(packet)
  }
}

function stamp(frame: Buffer, head: number, at: number, packetId: number): Buffer {
  frame[0] = head
  frame[at] = packetId >> 8
  frame[at + 1] = packetId & 0xff
  return frame
}
