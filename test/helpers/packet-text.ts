// MQTT packets as text that can be read beside the specification: "32 "a/b" 0001 {} 'x'" is a PUBLISH at QoS 1.
// Hex digits are bytes, "text" is a string behind its length, 'text' is just its bytes, {…} are properties behind their length (and nothing at
// all before MQTT 5), ?? is a byte of any value. The remaining length is put behind the first byte, in its shortest form.

import { field, variable } from './raw-mqtt.js'

export type Version = 3 | 4 | 5

/** A byte, or null where any will do. */
export type Pattern = readonly (number | null)[]

const tokens = /"([^"]*)"|'([^']*)'|\{([^}]*)\}|(\?\?)|([0-9a-f]{2})|(\s+)|(.)/gis

export function patternOf(text: string, version: Version): Pattern {
  const [head, ...body] = parse(text, version)
  return head === undefined ? [] : [head, ...variable(body.length), ...body]
}

/** The packets in one piece. */
export function bytesOf(texts: readonly string[], version: Version): Buffer {
  const pattern = texts.flatMap(text => patternOf(text, version))
  return Buffer.from(
    pattern.map(byte => {
      if (byte === null) throw new TypeError(`?? can only be expected: ${texts.join(', ')}`)
      return byte
    })
  )
}

function parse(text: string, version: Version): (number | null)[] {
  return [...text.matchAll(tokens)].flatMap(([all, string, raw, properties, any, hex, blank]): readonly (number | null)[] => {
    if (string !== undefined) return [...field(string)]
    if (raw !== undefined) return [...Buffer.from(raw)]
    if (any !== undefined) return [null]
    if (hex !== undefined) return [Number.parseInt(hex, 16)]
    if (blank !== undefined) return []
    if (properties === undefined) throw new TypeError(`${all} is no part of a packet: ${text}`)
    if (version < 5) return []
    const inner = parse(properties, version)
    return [...variable(inner.length), ...inner]
  })
}

/** One byte in hex. */
export const byte = (value: number): string => value.toString(16).padStart(2, '0')

/** Two bytes in hex: a packet identifier. */
export const id = (value: number): string => value.toString(16).padStart(4, '0')

/** Four bytes in hex: an interval or a subscription identifier's like. */
export const uint32 = (value: number): string => value.toString(16).padStart(8, '0')

/** Bytes as a person reads them: one packet a line, hex and then what is text in it. */
export function readable(bytes: Buffer): string {
  const lines: string[] = []
  let rest = bytes
  while (rest.length > 0) {
    const length = packetLength(rest) ?? rest.length
    const packet = rest.subarray(0, length)
    rest = rest.subarray(length)
    const shown = packet.length > 80 ? packet.subarray(0, 80) : packet
    lines.push(`  ${shown.toString('hex')}${shown.length < packet.length ? `… ${packet.length} bytes` : ''}  ${printable(shown)}`)
  }
  return lines.length === 0 ? '  nothing' : lines.join('\n')
}

/** How many bytes the first packet has, with its head; undefined while it isn't whole. */
export function packetLength(bytes: Buffer): number | undefined {
  let length = 0
  for (let i = 1; i < 5; i++) {
    const byte = bytes[i]
    if (byte === undefined) return undefined
    length += (byte & 0x7f) * 128 ** (i - 1)
    if (byte < 0x80) return i + 1 + length <= bytes.length ? i + 1 + length : undefined
  }
  return undefined
}

const printable = (bytes: Buffer): string => bytes.toString('latin1').replace(/[^\x20-\x7e]/g, '.')
