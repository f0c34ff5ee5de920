// A raw socket to any broker, right or wrong to the byte: what is sent and what must come are given in hex. Waits for bytes, never for time;
// that nothing comes is shown by a PINGREQ, whose answer must be the next thing. `raw-mqtt.ts` builds packets for it.

import { connect as connectTcp, type Socket } from 'node:net'

/** Hex, with blanks between groups as one likes, or bytes. */
export type Bytes = string | Buffer

/** For bytes that the broker makes up: so many, whose hex matches. */
export interface Like {
  readonly length: number
  readonly hex: RegExp
}

export interface Wire {
  send(...parts: readonly Bytes[]): void
  /** The next bytes, exactly these. Fails at the first that differs, or when the broker ends the connection before. */
  expect(...parts: readonly (Bytes | Like)[]): Promise<void>
  /** The broker has nothing more to say, and ends the connection. */
  expectClosed(): Promise<void>
  /** The broker says nothing and keeps the connection: the answer to a PINGREQ is the next that comes. */
  expectNothing(): Promise<void>
  /** Ends the connection without a DISCONNECT. */
  drop(): void
}

/** Never waited for by a test that passes. */
const patience = 5_000
/** Enough of a long packet to see where it goes wrong. */
const shown = 400

export const hexOf = (part: Bytes): string => (typeof part === 'string' ? part.replaceAll(/\s/g, '').toLowerCase() : part.toString('hex'))

export async function openWire(port: number, deadline = patience): Promise<Wire> {
  const socket = connectTcp({ port, host: '127.0.0.1', noDelay: true })
  await new Promise<void>((resolve, reject) => socket.once('connect', resolve).once('error', reject))
  return new RawWire(socket, deadline)
}

class RawWire implements Wire {
  readonly #socket: Socket
  readonly #deadline: number
  /** What came and was not expected yet, in hex. */
  #received = ''
  #ended = false
  #wake: () => void = () => {}

  constructor(socket: Socket, deadline: number) {
    this.#socket = socket
    this.#deadline = deadline
    socket.on('data', chunk => {
      this.#received += chunk.toString('hex')
      this.#wake()
    })
    // A broker that closes with bytes of ours unread resets the connection: for us the same.
    socket.on('error', () => {})
    for (const event of ['end', 'close'] as const) {
      socket.on(event, () => {
        this.#ended = true
        this.#wake()
      })
    }
  }

  send(...parts: readonly Bytes[]): void {
    this.#socket.write(Buffer.from(parts.map(hexOf).join(''), 'hex'))
  }

  async expect(...parts: readonly (Bytes | Like)[]): Promise<void> {
    for (const part of parts) {
      if (typeof part === 'string' || Buffer.isBuffer(part)) await this.#expectBytes(hexOf(part))
      else await this.#expectLike(part)
    }
  }

  async expectClosed(): Promise<void> {
    await this.#until(() => this.#ended || this.#received !== '', 'the end of the connection')
    if (this.#received !== '') throw new Error(`expected the end of the connection\n     got ${this.#rest()}`)
  }

  async expectNothing(): Promise<void> {
    if (this.#received !== '') throw new Error(`expected nothing\n     got ${this.#rest()}`)
    this.send('c000')
    await this.#expectBytes('d000')
  }

  drop(): void {
    this.#socket.destroy()
  }

  async #expectBytes(expected: string): Promise<void> {
    const differs = () => !expected.startsWith(this.#received.slice(0, expected.length))
    await this.#until(() => this.#received.length >= expected.length || differs() || this.#ended, brief(expected))
    if (!this.#received.startsWith(expected)) throw new Error(`expected ${brief(expected)}\n     got ${this.#rest()}`)
    this.#received = this.#received.slice(expected.length)
  }

  async #expectLike({ length, hex }: Like): Promise<void> {
    await this.#until(() => this.#received.length >= length * 2 || this.#ended, String(hex))
    const found = this.#received.slice(0, length * 2)
    if (found.length < length * 2 || !hex.test(found)) throw new Error(`expected ${hex}\n     got ${this.#rest()}`)
    this.#received = this.#received.slice(length * 2)
  }

  #until(condition: () => boolean, expected: string): Promise<void> {
    return new Promise((resolve, reject) => {
      const late = setTimeout(() => {
        this.#wake = () => {}
        reject(new Error(`expected ${expected}\n     got ${this.#rest()} within ${this.#deadline} ms`))
      }, this.#deadline)
      this.#wake = () => {
        if (!condition()) return
        clearTimeout(late)
        this.#wake = () => {}
        resolve()
      }
      this.#wake()
    })
  }

  #rest(): string {
    return `${brief(this.#received) || 'nothing'}${this.#ended ? ', and the end of the connection' : ''}`
  }
}

const brief = (hex: string): string => (hex.length > shown ? `${hex.slice(0, shown)}... (${hex.length / 2} bytes)` : hex)

/** One step of a case, on the connection of that name. A name that is new, or whose connection has ended, opens one. */
export type Step = { readonly on: string } & (
  | { readonly send: readonly Bytes[] }
  | { readonly expect: readonly (Bytes | Like)[] }
  | { readonly closes: true }
  | { readonly silent: true }
  | { readonly drop: true }
)

/** What happens on raw sockets, step by step. At the end every connection that is still open must have nothing more to say. */
export interface WireCase {
  readonly name: string
  readonly steps: readonly Step[]
  /** Lines of mosquitto.conf after its `listener`. Cases with the same lines share one broker: distinct client ids and topics keep them apart. */
  readonly conf?: string
  /** A broker of its own. */
  readonly alone?: true
  /** Why Mosquitto 2.0 answers otherwise than 2.1, which the case has. */
  readonly since21?: string
}

const on = 'client'

export const send = (...parts: readonly Bytes[]): Step => ({ on, send: parts })
export const expect = (...parts: readonly (Bytes | Like)[]): Step => ({ on, expect: parts })
export const closes: Step = { on, closes: true }
export const silent: Step = { on, silent: true }
export const drop: Step = { on, drop: true }

/** Steps of another connection than the first. */
export const by = (name: string, ...steps: readonly Step[]): Step[] => steps.map(step => ({ ...step, on: name }))

/** Plays a case; rejects with the step that went wrong, what it expected and what came. */
export async function playWire(port: number, { steps }: WireCase, deadline?: number): Promise<void> {
  const open = new Map<string, Wire>()
  const wireOf = async (name: string): Promise<Wire> => {
    const wire = open.get(name) ?? (await openWire(port, deadline))
    open.set(name, wire)
    return wire
  }
  const all: Wire[] = []
  try {
    for (const [i, step] of steps.entries()) {
      const wire = await wireOf(step.on)
      if (!all.includes(wire)) all.push(wire)
      await take(wire, step).catch(error => fail(`step ${i + 1}, ${step.on}`, error))
      if ('closes' in step || 'drop' in step) open.delete(step.on)
    }
    for (const [name, wire] of open) await wire.expectNothing().catch(error => fail(`at the end, ${name}`, error))
  } finally {
    for (const wire of all) wire.drop()
  }
}

async function take(wire: Wire, step: Step): Promise<void> {
  if ('send' in step) wire.send(...step.send)
  else if ('expect' in step) await wire.expect(...step.expect)
  else if ('closes' in step) await wire.expectClosed()
  else if ('silent' in step) await wire.expectNothing()
  else wire.drop()
}

function fail(where: string, error: unknown): never {
  throw new Error(`${where}: ${error instanceof Error ? error.message : error}`)
}

export interface WireGroup {
  /** Of no other group: a test's folder is named after it. */
  readonly name: string
  readonly conf: string
  readonly cases: readonly WireCase[]
}

/** Cases by the broker that they share. */
export function groupsOf(cases: readonly WireCase[]): WireGroup[] {
  const groups = new Map<string, { name: string; conf: string; cases: WireCase[] }>()
  for (const one of cases) {
    const conf = one.conf ?? ''
    const options = conf === '' ? 'defaults' : conf.replaceAll('\n', ', ')
    const name = one.alone ? `${options}: ${one.name}` : options
    const group = groups.get(name) ?? { name, conf, cases: [] }
    group.cases.push(one)
    groups.set(name, group)
  }
  return [...groups.values()]
}

/** A listener for everybody; the lines of a group come behind it, so that they may be a listener's options too. */
export const wireConf = (port: number, { conf }: WireGroup): string => `listener ${port} 127.0.0.1\nallow_anonymous true\n${conf}\n`
