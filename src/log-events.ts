// Every event the broker logs: its type and its line in the words of Mosquitto 2.1, from fields that the JSON format prints as they are.

import type { LogType } from './config/types.js'

interface LogEvent<Fields> {
  readonly type: LogType
  /** Left out with `connection_messages false`. */
  readonly connection?: true
  /** The line, or several that belong together. */
  text(fields: Fields): string | readonly string[]
}

type Text<Fields> = (fields: Fields) => string | readonly string[]

const event = <Fields>(type: LogType, text: Text<Fields>): LogEvent<Fields> => ({ type, text })
const connectionEvent = <Fields>(type: LogType, text: Text<Fields>): LogEvent<Fields> => ({ type, connection: true, text })

interface Peer {
  readonly remoteAddress: string
  readonly remotePort: number
}

interface Who {
  readonly clientId: string
  readonly username?: string
}

interface DeniedPublish extends Who {
  readonly dup: boolean
  readonly qos: 0 | 1 | 2
  readonly retain: boolean
  /** 0 for QoS 0. */
  readonly packetId: number
  readonly topic: string
  readonly bytes: number
  /** `explainDecision`'s words. */
  readonly why: string
}

const user = ({ username }: Who): string => (username === undefined ? 'no username' : `user '${username}'`)
const peer = ({ remoteAddress, remotePort }: Peer): string => `${remoteAddress}:${remotePort}`

const table = {
  // The process
  starting: event('information', (f: { name: string; version: string }) => `${f.name} version ${f.version} starting`),
  running: event('information', (f: { name: string; version: string }) => `${f.name} version ${f.version} running`),
  terminating: event('information', (f: { name: string; version: string }) => `${f.name} version ${f.version} terminating`),
  configLoaded: event('information', (f: { file: string }) => `Config loaded from ${f.file}.`),
  configDefault: event('information', (_: object) => 'Using default config.'),

  // Listeners and their connections
  accepted: connectionEvent('notice', (f: Peer & { port: number }) => `New connection from ${peer(f)} on port ${f.port}.`),

  // What the ACL denies. Mosquitto says the first at debug level and without the reason.
  publishDenied: event(
    'notice',
    (f: DeniedPublish) =>
      `Denied PUBLISH from ${f.clientId} (d${f.dup ? 1 : 0}, q${f.qos}, r${f.retain ? 1 : 0}, m${f.packetId}, '${f.topic}', ... (${f.bytes} bytes)): ` +
      `${user(f)}, ${f.why}.`
  ),
  willDenied: event(
    'notice',
    (f: Who & { topic: string; why: string }) => `Denied will of ${f.clientId} ('${f.topic}'): ${user(f)}, ${f.why}.`
  ),
  denialsNotShown: event('notice', (f: { count: number }) => `${f.count} further denied publishes not shown.`),
  dangerousUsername: event('notice', (f: { username: string }) => `ACL denying access to client with dangerous username "${f.username}"`),
  dangerousClientId: event('notice', (f: { clientId: string }) => `ACL denying access to client with dangerous client id "${f.clientId}"`),

  // Passwords
  loginDelayed: connectionEvent(
    'notice',
    (f: Peer & { username?: string; delay: number }) =>
      `Login from ${peer(f)}${f.username === undefined ? '' : ` as '${f.username}'`} delayed by ${f.delay} ms after failed logins.`
  ),
  passwordsBusy: event('warning', (_: object) => 'Too many passwords are waiting to be checked, connections are refused as server busy.'),
  passwordCheckFailed: event('error', (f: { reason: string }) => `Error: Unable to check a password: ${f.reason}.`)
} as const

export type LogEventName = keyof typeof table
export type LogFields<Name extends LogEventName> = Parameters<(typeof table)[Name]['text']>[0]

export const logEvents: { readonly [Name in LogEventName]: LogEvent<LogFields<Name>> } = table

/** What every room may say; `log.ts` is the one that writes it. */
export interface Log {
  write<Name extends LogEventName>(name: Name, fields: LogFields<Name>): void
  /** For callers that would have to compute fields: is anybody listening? */
  enabled(type: LogType): boolean
}
