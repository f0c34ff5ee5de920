// Where log lines go: stderr, stdout, a file, syslog, $SYS topics. Each takes whole lines, drops when its reader is too slow, and never throws once open.

import { type ChildProcess, spawn } from 'node:child_process'
import { closeSync, fstatSync, openSync, statSync, writeSync } from 'node:fs'
import type { LogConfig, LogDestination, LogType } from './config/types.js'
import { BrokerError, type Location, systemCode, systemReason } from './errors.js'

/** Called for `log_dest topic`: the letter or word of `$SYS/broker/log/<suffix>`, and the line. */
export type TopicSink = (suffix: string, line: string) => void

export interface Sink {
  write(type: LogType, line: string): void
  /** Opens a file anew, for logrotate and its kin. */
  reopen(): void
  /** Writes out what is buffered, now. */
  flush(): void
  close(): void
}

/** What a person's terminal or a log file may get behind before lines are dropped, in bytes. */
const bufferLimit = 1 << 20

/** When a full pipe is tried again, in milliseconds. */
const retryAfter = 100

/** syslog's severities [RFC 5424 6.2.1]. */
const severities: Readonly<Record<LogType, number>> = {
  error: 3,
  warning: 4,
  notice: 5,
  subscribe: 5,
  unsubscribe: 5,
  information: 6,
  websockets: 6,
  internal: 6,
  debug: 7
}

/** `$SYS/broker/log/…` by type; debug lines are never published, as with Mosquitto. */
const topics: Readonly<Partial<Record<LogType, string>>> = {
  error: 'E',
  warning: 'W',
  notice: 'N',
  information: 'I',
  subscribe: 'M/subscribe',
  unsubscribe: 'M/unsubscribe',
  websockets: 'WS'
}

/** Opens every destination of `config`, or none: throws ERR_LOG_FILE when a log file cannot be written. */
export function openSinks(config: LogConfig, publishLine: TopicSink): Sink[] {
  const open: Sink[] = []
  try {
    for (const destination of config.destinations) open.push(openSink(destination, config, publishLine))
    return open
  } catch (error) {
    for (const sink of open) sink.close()
    throw error
  }
}

function openSink(destination: LogDestination, config: LogConfig, publishLine: TopicSink): Sink {
  switch (destination.kind) {
    case 'stderr':
      return openDescriptor(2)
    case 'stdout':
      return openDescriptor(1)
    case 'file':
      return openFile(destination)
    case 'syslog':
      return openSyslog(config.facility)
    case 'topic':
      return openTopic(publishLine)
  }
}

function openTopic(publishLine: TopicSink): Sink {
  return {
    write(type, line) {
      const topic = topics[type]
      if (topic !== undefined) publishLine(topic, line)
    },
    reopen() {},
    flush() {},
    close() {}
  }
}

interface Writer {
  write(line: string): void
  /** Writes out what is left as far as that is possible now. */
  flush(): void
}

// Written at once, so that order and the last line before an end are certain. A full pipe is not waited for: its lines stay here, up to the
// limit, and are tried again. What a closed pipe (EPIPE) or a full disk (ENOSPC) does not take is lost: lines, not the broker and not its end.
// pino's own destination retries the latter for ever when it is flushed, and holds up the process.
function startWriting(fd: number): Writer {
  let left = Buffer.alloc(0)
  let again: NodeJS.Timeout | undefined

  function flush(): void {
    clearTimeout(again)
    again = undefined
    try {
      while (left.length > 0) left = left.subarray(writeSync(fd, left))
    } catch (error) {
      if (systemCode(error) === 'EAGAIN') again = setTimeout(flush, retryAfter).unref()
      else left = Buffer.alloc(0)
    }
  }

  return {
    write(line) {
      const bytes = Buffer.from(`${line}\n`)
      if (left.length + bytes.length > bufferLimit) return
      left = left.length === 0 ? bytes : Buffer.concat([left, bytes])
      if (!again) flush()
    },
    flush() {
      flush()
      clearTimeout(again)
      again = undefined
    }
  }
}

function openDescriptor(fd: number): Sink {
  const out = startWriting(fd)
  return {
    write: (_, line) => out.write(line),
    reopen() {},
    flush: () => out.flush(),
    close: () => out.flush()
  }
}

function openFile({ path, at }: { path: string; at: Location }): Sink {
  const open = (): number => {
    try {
      // Readable by its owner alone, as Mosquitto 2 makes it: lines name clients and topics.
      return openSync(path, 'a', 0o600)
    } catch (error) {
      throw new BrokerError('ERR_LOG_FILE', `Unable to open log file ${path} for writing. ${systemReason(error)}.`, at, { cause: error })
    }
  }
  let fd = open()
  let out = startWriting(fd)
  let checked = Date.now()

  function reopen(): void {
    let next: number
    try {
      next = open()
    } catch {
      return // The old descriptor still takes lines; losing them would hide the reason.
    }
    const [old, oldFd] = [out, fd]
    fd = next
    out = startWriting(fd)
    old.flush()
    closeQuietly(oldFd)
  }

  // Node cannot catch SIGRTMIN, Mosquitto's signal for this, so a file that was renamed or removed is noticed here.
  function moved(): boolean {
    try {
      const [named, ours] = [statSync(path), fstatSync(fd)]
      return named.ino !== ours.ino || named.dev !== ours.dev
    } catch {
      return true
    }
  }

  return {
    write(_, line) {
      const now = Date.now()
      if (now - checked > 1000) {
        checked = now
        if (moved()) reopen()
      }
      out.write(line)
    },
    reopen,
    flush: () => out.flush(),
    close() {
      out.flush()
      closeQuietly(fd)
    }
  }
}

function closeQuietly(fd: number): void {
  try {
    closeSync(fd)
  } catch {
    // It was ours and is gone.
  }
}

/** syslog speaks over Unix datagrams, which Node has not: a `logger` child reads the lines, each behind its priority in angle brackets. */
function openSyslog(facility: number | undefined): Sink {
  // Facility 3 is daemon, 16 to 23 are local0 to local7 [RFC 5424 6.2.1].
  const code = facility === undefined ? 3 : 16 + facility
  let child: ChildProcess | undefined
  let restartAt = 0
  let failures = 0

  function start(): ChildProcess {
    const started = spawn('logger', ['--prio-prefix', '--tag', 'mosquitto', `--id=${process.pid}`], {
      stdio: ['pipe', 'ignore', 'ignore']
    })
    const ended = (): void => {
      if (child === started) child = undefined
      failures++
      restartAt = Date.now() + Math.min(60_000, 500 * 2 ** failures)
      if (failures === 1) process.stderr.write('Warning: log_dest syslog needs the logger command, which could not be run or ended.\n')
    }
    started.once('error', ended)
    started.once('exit', ended)
    started.stdin?.on('error', () => {})
    started.unref()
    return started
  }

  return {
    write(type, line) {
      if (!child && Date.now() >= restartAt) child = start()
      const stdin = child?.stdin
      if (!stdin || stdin.writableLength > bufferLimit) return
      stdin.write(`<${code * 8 + severities[type]}>${line}\n`)
    },
    reopen() {},
    flush() {},
    close() {
      child?.removeAllListeners('exit')
      child?.stdin?.end()
    }
  }
}
