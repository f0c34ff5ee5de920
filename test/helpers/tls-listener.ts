// A listener on a free loopback port with its log in hand. What it hands over is greeted as a broker would: CONNECT gets its CONNACK.

import { spawn } from 'node:child_process'
import { type Socket, connect as tcpConnect } from 'node:net'
import type { Duplex } from 'node:stream'
import { type ConnectionOptions, type TLSSocket, connect as tlsConnect } from 'node:tls'
import type { Connection } from '../../dist/auth/identity.js'
import type { ListenerConfig, TlsConfig } from '../../dist/config/types.js'
import { type Log, type LogEventName, logEvents } from '../../dist/log-events.js'
import { type Listener, type ListenerHost, openListener } from '../../dist/net/listener.js'
import { readTlsMaterial, type TlsMaterial } from '../../dist/net/tls.js'

export interface TestScope {
  teardown(close: () => void | Promise<void>): void
}

export interface Accepted {
  readonly stream: Duplex
  readonly connection: Connection
}

export interface TestListener {
  readonly listener: Listener
  readonly accepted: Accepted[]
  readonly log: TestLog
}

export interface TestLog extends Log {
  /** Every line so far. */
  readonly lines: string[]
  /** The lines of one event. */
  of(name: LogEventName): string[]
  /** Waits for the nth line (the first when left out) of an event. */
  waitFor(name: LogEventName, nth?: number): Promise<string>
}

export function testLog(): TestLog {
  const written: { name: LogEventName; line: string }[] = []
  const of = (name: LogEventName): string[] => written.filter(entry => entry.name === name).map(({ line }) => line)
  return {
    get lines() {
      return written.map(({ line }) => line)
    },
    of,
    write(name, fields) {
      written.push({ name, line: (logEvents[name].text as (fields: unknown) => string)(fields) })
    },
    enabled: () => true,
    async waitFor(name, nth = 1) {
      await until(
        () => of(name).length >= nth,
        () => `${nth} × ${name} in:\n${written.map(({ line }) => line).join('\n')}`
      )
      return of(name)[nth - 1] ?? ''
    }
  }
}

/** Waits for a condition, up to ten seconds. */
export async function until(condition: () => boolean, what: () => string): Promise<void> {
  const deadline = Date.now() + 10_000
  while (!condition()) {
    if (Date.now() > deadline) throw new Error(`waited in vain for ${what()}`)
    await new Promise(resolve => setTimeout(resolve, 5))
  }
}

export function listenerConfig(config: Partial<ListenerConfig> = {}): ListenerConfig {
  return {
    at: { file: 'mosquitto.conf', line: 1 },
    port: 0,
    bind: { kind: 'loopback' },
    security: { allowAnonymous: true, allowZeroLengthClientId: true, autoIdPrefix: 'auto-' },
    username: 'from-connect',
    useUsernameAsClientId: false,
    maxConnections: -1,
    maxQos: 2,
    maxTopicAlias: 10,
    maxTopicAliasBroker: 10,
    ...config
  }
}

/** A TLS configuration with each option on a line of its own: certfile 2, keyfile 3, cafile 4, capath 5, crlfile 6. */
export function tlsConfig(
  files: { cert: string; key: string; cafile?: string; capath?: string; crlfile?: string },
  rest: Partial<TlsConfig> = {}
): TlsConfig {
  const setting = (path: string, line: number) => ({ path, at: { file: 'mosquitto.conf', line } })
  return {
    certfile: setting(files.cert, 2),
    keyfile: setting(files.key, 3),
    ...(files.cafile !== undefined && { cafile: setting(files.cafile, 4) }),
    ...(files.capath !== undefined && { capath: setting(files.capath, 5) }),
    ...(files.crlfile !== undefined && { crlfile: setting(files.crlfile, 6) }),
    minVersion: 'TLSv1.2',
    requireCertificate: files.cafile !== undefined || files.capath !== undefined,
    peers: {},
    ...rest
  }
}

/** The material, or an exception that lists the problems. */
export async function materialOf(config: TlsConfig, now?: Date): Promise<TlsMaterial> {
  const { material, problems } = await readTlsMaterial(config, now)
  if (material === undefined) throw new Error(problems.map(({ message }) => message).join('\n'))
  return material
}

export async function testListener(
  t: TestScope,
  {
    tls,
    material,
    config,
    host
  }: { tls?: TlsConfig; material?: TlsMaterial; config?: Partial<ListenerConfig>; host?: Partial<ListenerHost> } = {}
): Promise<TestListener> {
  const log = testLog()
  const accepted: Accepted[] = []
  const listener = await openListener(
    { config: listenerConfig({ ...config, ...(tls && { tls }) }), ...(tls && { material: material ?? (await materialOf(tls)) }) },
    {
      log,
      total: { count: 0, limit: -1 },
      onConnection(stream, connection) {
        accepted.push({ stream, connection })
        greet(stream)
      },
      ...host
    }
  )
  t.teardown(async () => {
    await listener.close()
    for (const { stream } of accepted) stream.destroy()
  })
  return { listener, accepted, log }
}

const connack = Buffer.from([0x20, 0x02, 0x00, 0x00])
export const connect = Buffer.from('100d00044d515454040200000001' + '61', 'hex')
export const disconnect = Buffer.from('e000', 'hex')

function greet(stream: Duplex): void {
  stream.on('error', () => {})
  stream.once('data', (bytes: Buffer) => {
    stream.write(connack)
    if (bytes.subarray(-2).equals(disconnect)) stream.end()
  })
  stream.on('data', () => {})
}

/** Runs a real client to its end: exit status and everything that it printed. */
export function run(command: string, args: readonly string[], input?: string | Buffer): Promise<{ status: number | null; output: string }> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { stdio: [input === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'] })
    const timer = setTimeout(() => child.kill(), 15_000)
    let output = ''
    child.stdout?.on('data', (chunk: Buffer) => {
      output += chunk
    })
    child.stderr?.on('data', (chunk: Buffer) => {
      output += chunk
    })
    child.once('error', reject)
    child.once('close', status => {
      clearTimeout(timer)
      resolve({ status, output })
    })
    if (input !== undefined) child.stdin?.end(input)
  })
}

/** Publishes with the real mosquitto_pub. */
export function publish(port: number, ...args: readonly string[]): Promise<{ status: number | null; output: string }> {
  return run('mosquitto_pub', ['-h', 'localhost', '-p', String(port), '-t', 'a', '-m', 'b', ...args])
}

export interface TlsClient {
  readonly socket: TLSSocket
  /** Was its CONNECT answered before the connection closed? */
  readonly isAccepted: boolean
  readonly isReused: boolean
  /** The last ticket that it got. */
  readonly session: Buffer | undefined
}

/** Connects with Node's TLS, sends CONNECT and waits for the CONNACK or the end. */
export function tlsClient(t: TestScope, port: number, options: ConnectionOptions): Promise<TlsClient> {
  return new Promise(resolve => {
    let session: Buffer | undefined
    let isReused = false
    const socket = tlsConnect({ port, host: '127.0.0.1', rejectUnauthorized: false, ...options }, () => {
      isReused = socket.isSessionReused()
      socket.write(connect)
    })
    const settle = (isAccepted: boolean): void => resolve({ socket, isAccepted, isReused, session })
    socket.on('session', ticket => {
      session = ticket
    })
    socket.on('error', () => {})
    socket.once('data', () => settle(true))
    socket.once('close', () => settle(false))
    t.teardown(() => {
      socket.destroy()
    })
  })
}

/** A bare TCP connection. */
export function dial(t: TestScope, port: number): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = tcpConnect(port, '127.0.0.1', () => resolve(socket))
    socket.once('error', reject)
    socket.on('error', () => {})
    t.teardown(() => {
      socket.destroy()
    })
  })
}
