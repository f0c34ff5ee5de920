// The packets that it takes to see whether a device gets in: its CONNECT and DISCONNECT, and the CONNACK that it hears.

import { neverExpires, packetTypes, type Version } from '../protocol/packets.js'
import { decodeProperties, encodeProperties } from '../protocol/properties.js'
import { Reader } from '../protocol/reader.js'
import { variableLength, writeBytes, writeText, writeUint16, writeVariable } from '../protocol/writer.js'

export interface ConnectWish {
  readonly version: Version
  readonly clientId: string
  readonly clean: boolean
  readonly username?: string
  readonly password?: string
}

export interface Connack {
  /** A return code of MQTT 3, or a reason code of MQTT 5. */
  readonly code: number
  readonly sessionPresent: boolean
  /** The broker's own words. */
  readonly reason?: string
}

const keepalive = 60

/** One CONNECT without a will. With `clean` false a session that is there stays. */
export function encodeConnect({ version, clientId, clean, username, password }: ConnectWish): Buffer {
  const name = version === 3 ? 'MQIsdp' : 'MQTT'
  const properties = version === 5 ? listOf(clean ? {} : { sessionExpiryInterval: neverExpires }) : none
  const fields = [clientId, username, password].filter(field => field !== undefined)
  const length = 2 + name.length + 4 + properties.length + fields.reduce((sum, field) => sum + 2 + Buffer.byteLength(field), 0)
  const packet = Buffer.alloc(1 + variableLength(length) + length)
  packet[0] = packetTypes.connect << 4
  let at = writeText(packet, writeVariable(packet, 1, length), name, name.length)
  packet[at++] = version
  packet[at++] = (clean ? 0x02 : 0) | (username === undefined ? 0 : 0x80) | (password === undefined ? 0 : 0x40)
  at = writeBytes(packet, writeUint16(packet, at, keepalive), properties)
  for (const field of fields) at = writeText(packet, at, field, Buffer.byteLength(field))
  return packet
}

export const disconnect = Buffer.of(packetTypes.disconnect << 4, 0)

const none = Buffer.alloc(0)

function listOf(properties: Parameters<typeof encodeProperties>[0]): Buffer {
  const bytes = encodeProperties(properties)
  return Buffer.concat([Buffer.of(bytes.length), bytes])
}

/** Undefined: it is none. */
export function decodeConnack(body: Buffer, version: Version): Connack | undefined {
  const reader = new Reader(body, 0, body.length)
  const [flags, code] = [reader.byte(), reader.byte()]
  if (reader.wrong !== undefined || flags > 1) return undefined
  const connack: Connack = { code, sessionPresent: flags === 1 }
  // Whoever does not know MQTT 5 answers as in MQTT 3.
  if (reader.left === 0) return connack
  if (version !== 5 || reader.varint() !== reader.left) return undefined
  const { reasonString } = decodeProperties(body.subarray(reader.at))
  return { ...connack, ...(reasonString !== undefined && { reason: reasonString }) }
}
