// One scenario, two brokers: ours in this process, or the real mosquitto. A scenario talks raw MQTT and expects exact bytes, so that what it
// proves of Mosquitto it proves of us.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { connect as connectTcp, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { createServer } from '../../dist/server.js'
import { freePort, userLine } from './command.js'
import { byte, bytesOf, id, type Pattern, packetLength, patternOf, readable, type Version } from './packet-text.js'
import { until } from './until.js'

/** Ends only a scenario that has failed. */
const deadline = Number(process.env.ARENA_DEADLINE ?? 20_000)

export interface Scenario {
  readonly name: string
  /** Lines of mosquitto.conf before the listener. DIR stands for the folder of `files`. */
  readonly global?: string
  /** Lines of the listener. */
  readonly listener?: string
  /** A second listener with these lines; `client` reaches it with `listener: 1`. */
  readonly second?: string
  readonly files?: Readonly<Record<string, string>>
  /** Why the installed Mosquitto (2.0) answers otherwise than 2.1, or can't be asked: then it is not. */
  readonly notIn20?: string
  /** Takes seconds since it is about time: runs beside the others. */
  readonly slow?: true
  run(broker: ArenaBroker): Promise<void>
}

export interface ClientOptions {
  readonly version?: Version
  readonly clean?: boolean
  /** In hex, MQTT 5. */
  readonly properties?: string
  readonly keepalive?: number
  readonly username?: string
  readonly will?: Will
  /** What CONNACK must say. */
  readonly present?: 0 | 1
  readonly listener?: 0 | 1
}

export interface Will {
  readonly topic: string
  readonly payload?: string
  readonly qos?: 0 | 1 | 2
  readonly retain?: boolean
  readonly properties?: string
}

export interface PublishOptions {
  readonly qos?: 0 | 1 | 2
  readonly retain?: boolean
  readonly properties?: string
}

export interface ArenaBroker {
  readonly kind: 'ours' | 'mosquitto'
  /** The Mosquitto that is installed says less than 2.1 in some places. */
  readonly is20: boolean
  /** Connects, and expects a CONNACK that lets it in. */
  client(clientId: string, options?: ClientOptions): Promise<Peer>
  /** A TCP connection that has said nothing. */
  wire(version?: Version, listener?: 0 | 1): Promise<Peer>
  write(file: string, text: string): void
  /** Reads configuration and files again. */
  reload(): Promise<void>
  /** Lines so far, without time stamps. */
  log(): readonly string[]
  /** How many are connected, where the broker can be asked at once. */
  connected(): number | undefined
  close(): Promise<void>
}

/** One connection of a scenario: sends what it is told, answers nothing by itself. */
export class Peer {
  readonly version: Version
  readonly socket: Socket
  /** Properties of CONNACK, in hex. */
  connack = ''
  #received: Buffer = Buffer.alloc(0)
  #closed = false
  #wake = () => {}
  #lastId = 100

  constructor(socket: Socket, version: Version) {
    this.socket = socket
    this.version = version
    socket.on('data', (chunk: Buffer) => {
      this.#received = Buffer.concat([this.#received, chunk])
      this.#wake()
    })
    socket.on('error', () => {})
    socket.on('close', () => {
      this.#closed = true
      this.#wake()
    })
  }

  get isClosed(): boolean {
    return this.#closed
  }

  /** All packets in one segment. */
  send(...packets: readonly string[]): void {
    this.socket.write(bytesOf(packets, this.version))
  }

  /** The next bytes, exactly. */
  async expect(...packets: readonly string[]): Promise<void> {
    const expected = packets.flatMap(text => patternOf(text, this.version))
    await this.#until(() => this.#received.length >= expected.length || !this.#agrees(expected), packets)
    if (!this.#agrees(expected) || this.#received.length < expected.length) throw this.#error(packets)
    this.#received = this.#received.subarray(expected.length)
  }

  /** The same packets, in whatever order. */
  async expectAnyOrder(...packets: readonly string[]): Promise<void> {
    const left = packets.map(text => ({ text, pattern: patternOf(text, this.version) }))
    while (left.length > 0) {
      const packet = await this.next()
      const at = left.findIndex(({ pattern }) => pattern.length === packet.length && matches(pattern, packet))
      if (at === -1) throw new Error(`unexpected:\n${readable(packet)}\n${this.#error(left.map(({ text }) => text)).message}`)
      left.splice(at, 1)
    }
  }

  /** The next packet, whatever it is. */
  async next(): Promise<Buffer> {
    await this.#until(() => packetLength(this.#received) !== undefined, ['a packet'])
    const length = packetLength(this.#received)
    if (length === undefined) throw this.#error(['a packet'])
    const packet = this.#received.subarray(0, length)
    this.#received = this.#received.subarray(length)
    return packet
  }

  /** These packets, and then the end. */
  async expectClosed(...packets: readonly string[]): Promise<void> {
    await this.expect(...packets)
    await this.#until(() => this.#closed || this.#received.length > 0, ['the end'])
    if (this.#received.length > 0 || !this.#closed) throw this.#error(['the end'])
  }

  /** Nothing came, and nothing is on its way: PINGRESP is next. */
  async expectNothing(): Promise<void> {
    this.send('c0')
    await this.expect('d0')
  }

  /** What was sent before has been handled. */
  ping(): Promise<void> {
    return this.expectNothing()
  }

  /** SUBSCRIBE with one filter, and the QoS that is asked for granted. */
  async subscribe(filter: string, qos: 0 | 1 | 2 = 0, { options = 0, properties = '' } = {}): Promise<void> {
    const packetId = id(++this.#lastId)
    this.send(`82 ${packetId} {${properties}} "${filter}" ${byte(options | qos)}`)
    await this.expect(`90 ${packetId} {} 0${qos}`)
  }

  async unsubscribe(filter: string): Promise<void> {
    const packetId = id(++this.#lastId)
    this.send(`a2 ${packetId} {} "${filter}"`)
    await this.expect(this.version === 5 ? `b0 ${packetId} {} 00` : `b0 ${packetId}`)
  }

  /** Publishes and goes through the whole handshake. */
  async publish(topic: string, payload: string, { qos = 0, retain = false, properties = '' }: PublishOptions = {}): Promise<void> {
    const head = byte(0x30 | (qos << 1) | (retain ? 1 : 0))
    const packetId = id(++this.#lastId)
    this.send(`${head} "${topic}" ${qos > 0 ? packetId : ''} {${properties}} '${payload}'`)
    if (qos === 0) return this.ping()
    // Without subscribers MQTT 5 says 0x10.
    await this.#acknowledged(qos === 1 ? '40' : '50', packetId)
    if (qos === 1) return
    this.send(`62 ${packetId}`)
    await this.expect(`70 ${packetId}`)
  }

  /** DISCONNECT, and the end. */
  async disconnect(text = 'e0'): Promise<void> {
    this.send(text)
    await this.expectClosed()
  }

  /** Gone without a word. */
  async drop(): Promise<void> {
    this.socket.destroy()
    await this.#until(() => this.#closed, ['the end'])
  }

  async #acknowledged(head: string, packetId: string): Promise<void> {
    const packet = (await this.next()).toString('hex')
    if (packet !== `${head}02${packetId}` && packet !== `${head}03${packetId}10`) {
      throw new Error(`expected ${head} ${packetId}, got ${packet}\n${readable(this.#received)}`)
    }
  }

  #agrees(expected: Pattern): boolean {
    return matches(expected, this.#received.subarray(0, expected.length))
  }

  #error(packets: readonly string[]): Error {
    const wanted = packets.map(text => (/^[0-9a-f]{2}/.test(text) ? `  ${show(patternOf(text, this.version))}  ${text}` : `  ${text}`))
    return new Error(`expected\n${wanted.join('\n')}\ngot\n${readable(this.#received)}${this.#closed ? '\n  the end' : ''}`)
  }

  async #until(condition: () => boolean, wanted: readonly string[]): Promise<void> {
    const end = Date.now() + deadline
    while (!condition() && !this.#closed) {
      const left = end - Date.now()
      if (left <= 0) throw this.#error(wanted)
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

function matches(pattern: Pattern, bytes: Buffer): boolean {
  return bytes.every((byte, i) => pattern[i] === null || pattern[i] === byte)
}

const show = (pattern: Pattern): string =>
  pattern
    .slice(0, 80)
    .map(value => (value === null ? '??' : byte(value)))
    .join('')

interface Running {
  log(): string
  reload(): Promise<void>
  connected(): number | undefined
  close(): Promise<void>
}

/** How often other ports are tried: between looking for a free one and listening somebody else may have taken it. */
const tries = 5

export async function startArena(kind: ArenaBroker['kind'], scenario: Scenario): Promise<ArenaBroker> {
  for (let left = tries; ; left--) {
    try {
      return await startOnce(kind, scenario)
    } catch (error) {
      if (left <= 1 || !/address already in use/i.test(String(error))) throw error
    }
  }
}

async function startOnce(kind: ArenaBroker['kind'], scenario: Scenario): Promise<ArenaBroker> {
  const dir = mkdtempSync(join(tmpdir(), 'arena-'))
  const ports = [await freePort(), ...(scenario.second === undefined ? [] : [await freePort()])]
  const inDir = (text = '') => text.replaceAll('DIR', dir)
  const files = { ...scenario.files }
  for (const [name, text] of Object.entries(files)) writeFileSync(join(dir, name), text)
  const lines = [
    userLine.trimEnd(),
    'allow_anonymous true',
    'log_type all',
    // Else small packets wait for the other side's TCP.
    'set_tcp_nodelay true',
    ...(kind === 'ours' ? [`log_dest file ${join(dir, 'log')}`] : ['log_dest stderr']),
    inDir(scenario.global),
    ...ports.flatMap((port, i) => [`listener ${port} 127.0.0.1`, inDir(i === 0 ? scenario.listener : scenario.second)])
  ]
  const conf = join(dir, 'mosquitto.conf')
  writeFileSync(conf, `${lines.join('\n')}\n`)
  const running = kind === 'ours' ? await startOurs(conf, join(dir, 'log')) : await startMosquitto(conf)
  const peers: Peer[] = []
  const wire = async (version: Version = 4, listener: 0 | 1 = 0) => {
    const socket = connectTcp({ port: ports[listener] ?? 0, host: '127.0.0.1', noDelay: true })
    await once(socket, 'connect')
    const made = new Peer(socket, version)
    peers.push(made)
    return made
  }
  return {
    kind,
    is20: kind === 'mosquitto',
    wire,
    client: async (clientId, options = {}) => {
      const client = await wire(options.version, options.listener)
      client.send(connectText(clientId, options))
      const connack = await client.next()
      const [head, , present, code] = connack
      if (head !== 0x20 || code !== 0) throw new Error(`${clientId} is not let in:\n${readable(connack)}`)
      if (present !== (options.present ?? 0)) throw new Error(`${clientId}: session present is ${present}`)
      client.connack = connack.subarray(5).toString('hex')
      return client
    },
    write: (file, text) => writeFileSync(join(dir, file), text),
    reload: running.reload,
    connected: running.connected,
    log: () =>
      running
        .log()
        .split('\n')
        .map(line => line.replace(/^\d+: /, '')),
    close: async () => {
      for (const { socket } of peers) socket.destroy()
      await running.close()
      rmSync(dir, { recursive: true, force: true })
    }
  }
}

/** Connects as text: for who expects another answer than yes. */
export function connectText(
  clientId: string,
  { version = 4, clean = true, properties = '', keepalive = 60, username, will }: ClientOptions
): string {
  const flags = (clean ? 2 : 0) | (username === undefined ? 0 : 0x80) | (will ? 4 | ((will.qos ?? 0) << 3) | (will.retain ? 0x20 : 0) : 0)
  return [
    `10 "${version === 3 ? 'MQIsdp' : 'MQTT'}" 0${version}`,
    byte(flags),
    `${id(keepalive)} {${properties}} "${clientId}"`,
    ...(will ? [`{${will.properties ?? ''}} "${will.topic}" "${will.payload ?? 'gone'}"`] : []),
    ...(username === undefined ? [] : [`"${username}"`])
  ].join(' ')
}

async function startOurs(config: string, log: string): Promise<Running> {
  const server = await createServer({ config })
  return {
    log: () => readFileSync(log, 'utf8'),
    reload: async () => {
      const { problems, applied } = await server.reload()
      if (!applied) throw new Error(problems.map(({ message }) => message).join('\n'))
    },
    connected: () => server.broker.connectedClients,
    close: () => server.close()
  }
}

async function startMosquitto(config: string): Promise<Running> {
  // Debian installs it where only root looks.
  const env = { ...process.env, PATH: [process.env.PATH, '/usr/sbin', '/usr/local/sbin'].join(delimiter) }
  const child = spawn('mosquitto', ['-c', config], { env, stdio: ['ignore', 'ignore', 'pipe'] })
  let log = ''
  child.stderr.setEncoding('utf8').on('data', text => {
    log += text
  })
  const exited = once(child, 'exit')
  await until(() => / running$/m.test(log) || child.exitCode !== null)
  if (child.exitCode !== null) throw new Error(`mosquitto does not start:\n${log}`)
  return {
    log: () => log,
    reload: async () => {
      const before = log.length
      child.kill('SIGHUP')
      await until(() => log.slice(before).includes('Reloading config.'))
    },
    connected: () => undefined,
    close: async () => {
      // Not SIGTERM: one that comes right after the line "running" is forgotten by 2.0, which then runs for ever.
      child.kill('SIGKILL')
      await exited
    }
  }
}

interface TestScope {
  test(name: string, run: (t: unknown) => Promise<void>): unknown
  comment(text: string): void
}

/** Each scenario on a broker of its own, some at a time. */
export function runScenarios(t: TestScope, kind: ArenaBroker['kind'], scenarios: readonly Scenario[]): void {
  const only = process.env.ARENA_ONLY
  const chosen = scenarios.filter(({ name }) => only === undefined || name.includes(only))
  // What waits for seconds starts first.
  const asked = chosen.filter(({ notIn20 }) => kind === 'ours' || notIn20 === undefined)
  const results = inPool(
    [...asked].sort((a, b) => Number(b.slow ?? false) - Number(a.slow ?? false)),
    kind
  )
  for (const scenario of asked) {
    void t.test(scenario.name, async () => {
      const error = await results.get(scenario)
      if (error !== undefined) throw error
    })
  }
  // Said, not skipped: 2.0 does these otherwise.
  for (const { name, notIn20 } of chosen)
    if (kind === 'mosquitto' && notIn20 !== undefined) t.comment(`not asked of 2.0: ${name} (${notIn20})`)
}

function inPool(scenarios: readonly Scenario[], kind: ArenaBroker['kind']): ReadonlyMap<Scenario, Promise<unknown>> {
  let running = 0
  const waiting: (() => void)[] = []
  const one = async (scenario: Scenario): Promise<unknown> => {
    if (running >= 12) await new Promise<void>(resolve => waiting.push(resolve))
    running++
    const began = Date.now()
    try {
      const broker = await startArena(kind, scenario)
      await scenario.run(broker).finally(() => broker.close())
      return undefined
    } catch (error) {
      return error
    } finally {
      if (process.env.ARENA_TIMES) console.error(Date.now() - began, scenario.name)
      running--
      waiting.shift()?.()
    }
  }
  return new Map(scenarios.map(scenario => [scenario, one(scenario)]))
}
