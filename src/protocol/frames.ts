// The PUBLISH packets of one message for all its receivers: encoded once for each protocol family and kept. With QoS 1 and 2 only the
// packet identifier differs, so one encoding is the mould of the others; receivers in step share even that.

import { encodePublish, encodePublishHead, packetIdAt } from './encode.js'
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

  /** `packet`: one with QoS 1 or 2 in this version that is there already. Somebody has been sent it: it stays as it is. */
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
    const head = headOf(qos, retain, dup)
    const mould = family.numbered
    if (mould === undefined) {
      const frame = this.#encode(family.version, qos, retain)
      family.setMould(frame)
      return stamped(frame, head, family.idAt, packetId)
    }
    if (isStamped(mould, 0, head, family.idAt, packetId)) return mould
    // The first one may still be on its way out: it stays as it is.
    return stamped(Buffer.from(mould), head, family.idAt, packetId)
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
  idAt = 0

  constructor(version: Version) {
    this.version = version
  }

  setMould(packet: Buffer): void {
    this.numbered = packet
    this.idAt = packetIdAt(packet, 0)
  }
}

/**
 * Makes the PUBLISH at `start` one with that first byte and packet identifier, if nobody has been sent it yet: `isFirst`. False: it is another
 * one, and stays so.
 */
export function stampFirst(buffer: Buffer, start: number, head: number, packetId: number, isFirst: boolean): boolean {
  const idAt = packetIdAt(buffer, start)
  if (!isFirst) return isStamped(buffer, start, head, idAt, packetId)
  stamp(buffer, start, head, idAt, packetId)
  return true
}

/** The first byte of a PUBLISH. */
export function headOf(qos: Qos, retain: boolean, dup: boolean): number {
  return 0x30 | (qos << 1) | (retain ? retainFlag : 0) | (dup ? dupFlag : 0)
}

function stamp(buffer: Buffer, start: number, head: number, idAt: number, packetId: number): void {
  buffer[start] = head
  buffer[idAt] = packetId >> 8
  buffer[idAt + 1] = packetId & 0xff
}

function isStamped(buffer: Buffer, start: number, head: number, idAt: number, packetId: number): boolean {
  return buffer[start] === head && buffer[idAt] === packetId >> 8 && buffer[idAt + 1] === (packetId & 0xff)
}

function stamped(frame: Buffer, head: number, idAt: number, packetId: number): Buffer {
  stamp(frame, 0, head, idAt, packetId)
  return frame
}
