// MQTT packets byte by byte, right and wrong ones: for what no encoder would write.

export type Random = () => number

/** The same numbers for the same seed (mulberry32), so that what a fuzz finds can be found again. */
export function seededRandom(seed: number): Random {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296
  }
}

export const below = (random: Random, limit: number): number => Math.floor(random() * limit)

export function randomBytes(random: Random, length: number): Buffer {
  return Buffer.from(Array.from({ length }, () => below(random, 256)))
}

export function pick<T>(random: Random, [first, ...more]: readonly [T, ...T[]]): T {
  return more[below(random, more.length + 1) - 1] ?? first
}

/** A length in seven bits a byte. */
export function variable(length: number): Buffer {
  const bytes: number[] = []
  let rest = length
  do {
    bytes.push((rest & 0x7f) | (rest > 0x7f ? 0x80 : 0))
    rest >>>= 7
  } while (rest > 0)
  return Buffer.from(bytes)
}

export function uint16(value: number): Buffer {
  return Buffer.from([(value >> 8) & 0xff, value & 0xff])
}

/** A string or bytes behind their length. */
export function field(value: string | Buffer): Buffer {
  const bytes = Buffer.from(value)
  return Buffer.concat([uint16(bytes.length), bytes])
}

/** A whole packet: type and flags, length, body. */
export function packet(head: number, ...body: readonly Buffer[]): Buffer {
  const bytes = Buffer.concat(body)
  return Buffer.concat([Buffer.from([head]), variable(bytes.length), bytes])
}

export type Version = 3 | 4 | 5

export interface RawWill {
  readonly topic: string | Buffer
  readonly payload: string | Buffer
  readonly qos?: number
  readonly retain?: boolean
  /** Without their length, which is put before them. MQTT 5. */
  readonly properties?: Buffer
}

export interface RawConnect {
  readonly version?: Version
  readonly clientId?: string | Buffer
  readonly clean?: boolean
  readonly username?: string | Buffer
  readonly password?: string | Buffer
  readonly will?: RawWill
  /** Seconds. */
  readonly keepalive?: number
  /** Without their length, which is put before them. MQTT 5. */
  readonly properties?: Buffer
}

export function connect(options: RawConnect): Buffer {
  const { version = 4, clientId = '', clean = true, keepalive = 60, username, password, will, properties } = options
  const willFlags = will ? 4 | ((will.qos ?? 0) << 3) | (will.retain ? 0x20 : 0) : 0
  const flags = (clean ? 2 : 0) | willFlags | (password === undefined ? 0 : 0x40) | (username === undefined ? 0 : 0x80)
  return packet(
    0x10,
    field(version === 3 ? 'MQIsdp' : 'MQTT'),
    Buffer.from([version, flags]),
    uint16(keepalive),
    propertiesOf(version, properties),
    field(clientId),
    ...(will ? [propertiesOf(version, will.properties), field(will.topic), field(will.payload)] : []),
    ...(username === undefined ? [] : [field(username)]),
    ...(password === undefined ? [] : [field(password)])
  )
}

/** CONNECT of MQTT 3.1.1. */
export const connectV3 = (clientId: string | Buffer, options: RawConnect = {}): Buffer => connect({ version: 4, clientId, ...options })

/** CONNECT of MQTT 5. */
export const connectV5 = (clientId: string | Buffer, options: RawConnect = {}): Buffer => connect({ version: 5, clientId, ...options })

interface RawPublish {
  readonly version?: Version
  readonly qos?: number
  readonly retain?: boolean
  readonly messageId?: number
  readonly payload?: string | Buffer
  readonly properties?: Buffer
}

export function publish(topic: string | Buffer, options: RawPublish = {}): Buffer {
  const { version = 4, qos = 0, retain = false, messageId = 1, payload = 'x', properties } = options
  return packet(
    0x30 | (qos << 1) | (retain ? 1 : 0),
    field(topic),
    qos > 0 ? uint16(messageId) : Buffer.alloc(0),
    propertiesOf(version, properties),
    Buffer.from(payload)
  )
}

export function subscribe(filters: readonly (string | Buffer)[], version: Version = 4, options = 1): Buffer {
  return packet(0x82, uint16(7), propertiesOf(version), ...filters.flatMap(filter => [field(filter), Buffer.from([options])]))
}

export function unsubscribe(filters: readonly (string | Buffer)[], version: Version = 4): Buffer {
  return packet(0xa2, uint16(8), propertiesOf(version), ...filters.map(filter => field(filter)))
}

export const pubrel = (messageId: number): Buffer => packet(0x62, uint16(messageId))
export const ping = packet(0xc0)
export const disconnect = packet(0xe0)

function propertiesOf(version: Version, properties: Buffer = Buffer.alloc(0)): Buffer {
  return version === 5 ? Buffer.concat([variable(properties.length), properties]) : Buffer.alloc(0)
}
