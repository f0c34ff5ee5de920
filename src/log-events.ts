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

const peer = ({ remoteAddress, remotePort }: Peer): string => `${remoteAddress}:${remotePort}`

const table = {
  // The process
  starting: event('information', (f: { name: string; version: string }) => `${f.name} version ${f.version} starting`),
  running: event('information', (f: { name: string; version: string }) => `${f.name} version ${f.version} running`),
  terminating: event('information', (f: { name: string; version: string }) => `${f.name} version ${f.version} terminating`),
  configLoaded: event('information', (f: { file: string }) => `Config loaded from ${f.file}.`),
  configDefault: event('information', (_: object) => 'Using default config.'),

  // Listeners and their connections
  accepted: connectionEvent('notice', (f: Peer & { port: number }) => `New connection from ${peer(f)} on port ${f.port}.`)
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
