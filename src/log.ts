// Writes the events of log-events.ts with pino: to stderr, stdout, a file, syslog and $SYS topics, as Mosquitto's lines or as JSON.
// Never throws towards the one who logs, never waits for a slow reader, and never lets a client's bytes forge a line.

import pino from 'pino'
import strftime from 'strftime'
import type { LogConfig, LogType } from './config/types.js'
import { type Log, logEvents } from './log-events.js'
import { openSinks, type TopicSink } from './log-sinks.js'

export interface OpenLog extends Log {
  /** Takes over new log options. A file that cannot be opened is thrown as ERR_LOG_FILE and leaves the old ones in force. */
  reconfigure(config: LogConfig, connectionMessages: boolean): void
  /** Opens log files anew, for logrotate and its kin. */
  reopen(): void
  publishWith(sink: TopicSink | undefined): void
  /** Writes out what is buffered, now: the last thing before the process ends. */
  flush(): void
  close(): void
}

/** pino's levels by log type. Mosquitto's types are a set, not a threshold, so the order matters to readers of the JSON form only. */
const levels: Readonly<Record<LogType, number>> = {
  error: 50,
  warning: 40,
  notice: 35,
  information: 30,
  subscribe: 25,
  unsubscribe: 24,
  websockets: 22,
  internal: 21,
  debug: 20
}

/** Mosquitto cuts its lines here too; what a client names itself decides how long a line gets. */
const lineLimit = 1000

/** Opens the log. Throws ERR_LOG_FILE when a log file cannot be written. */
export function openLog(config: LogConfig, connectionMessages = true): OpenLog {
  let current = config
  // Asked several times for each message.
  let isDebugging = config.types.has('debug')
  let connections = connectionMessages
  let publish: TopicSink | undefined
  let publishing = false
  let sinks = openSinks(config, publishLine)

  // A topic destination that itself logs (a delivery, a drop) must not publish about publishing.
  function publishLine(suffix: string, line: string): void {
    if (publishing || !publish) return
    publishing = true
    try {
      publish(suffix, line)
    } finally {
      publishing = false
    }
  }

  // With this symbol pino leaves level and message on the stream, so Mosquitto's form need not parse JSON.
  const stream = {
    [Symbol.for('pino.metadata')]: true,
    lastMsg: '',
    write(json: string): void {
      if (current.format === 'json') emit(json.trimEnd())
      else for (const line of this.lastMsg.split('\n')) emit(stamp(current, new Date()) + line)
    }
  }
  const logger = pino<LogType>(
    {
      base: null,
      customLevels: levels,
      useOnlyCustomLevels: true,
      level: 'debug',
      formatters: { level: label => ({ level: label }) },
      // No event has such a field; this is the second lock on that door.
      redact: ['password', '*.password']
    },
    stream
  )

  // The type of the event being written; pino calls `stream.write` before its own call returns.
  let type: LogType = 'information'

  function emit(line: string): void {
    for (const sink of sinks) sink.write(type, line)
  }

  return {
    write(name, fields) {
      const event = logEvents[name]
      if (!current.types.has(event.type) || (event.connection && !connections)) return
      const text = event.text(fields)
      const message = typeof text === 'string' ? printable(text) : text.map(printable).join('\n')
      const outer = type
      type = event.type
      const entry: object = { event: name, ...shortened(fields) }
      logger[event.type](entry, message)
      type = outer
    },
    enabled: type => (type === 'debug' ? isDebugging : current.types.has(type)),
    reconfigure(config, connectionMessages) {
      const opened = openSinks(config, publishLine)
      const old = sinks
      sinks = opened
      current = config
      isDebugging = config.types.has('debug')
      connections = connectionMessages
      for (const sink of old) sink.close()
    },
    reopen() {
      for (const sink of sinks) sink.reopen()
    },
    publishWith(sink) {
      publish = sink
    },
    flush() {
      for (const sink of sinks) sink.flush()
    },
    close() {
      for (const sink of sinks) sink.close()
      sinks = []
    }
  }
}

function stamp(config: LogConfig, now: Date): string {
  if (!config.timestamp) return ''
  const time = config.timestampFormat === undefined ? Math.floor(now.getTime() / 1000) : strftime(config.timestampFormat, now)
  return `${time}: `
}

/** The fields of the JSON form, which are cut as the line is: they hold what clients name themselves, up to 64 KB. */
function shortened(fields: object): object {
  const isLong = (value: unknown): value is string => typeof value === 'string' && value.length > lineLimit
  if (!Object.values(fields).some(isLong)) return fields
  return Object.fromEntries(Object.entries(fields).map(([key, value]) => [key, isLong(value) ? value.slice(0, lineLimit) : value]))
}

/**
 * One line, whatever a client put into its names: control characters, those that turn the direction of writing included, are shown, not sent
 * to a terminal. A leading tab is Mosquitto's own.
 */
function printable(line: string): string {
  const cut = line.length > lineLimit ? line.slice(0, lineLimit) : line
  return cut.replace(/(?!^\t)[\u0000-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/g, character => {
    const code = character.charCodeAt(0)
    return code < 256 ? `\\x${code.toString(16).padStart(2, '0')}` : `\\u${code.toString(16).padStart(4, '0')}`
  })
}
