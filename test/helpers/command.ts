// Runs commands as a person would: the broker itself, Mosquitto's clients, openssl. What is started here ends with the test.

import { type ChildProcess, spawn } from 'node:child_process'
import { randomInt } from 'node:crypto'
import { createServer } from 'node:net'
import { userInfo } from 'node:os'
import { join } from 'node:path'
import { until } from './until.js'

interface TestScope {
  teardown(close: () => unknown): void
}

export interface CommandOptions {
  readonly cwd?: string
  readonly env?: NodeJS.ProcessEnv
  /** Given to standard input, which is then closed. */
  readonly input?: string
}

export interface Ended {
  readonly status: number | null
  readonly stdout: string
  readonly stderr: string
}

export interface Running {
  readonly child: ChildProcess
  readonly ended: Promise<Ended>
  /** What it has printed so far. */
  stdout(): string
  stderr(): string
  /** Waits for a line on stdout or stderr that matches; says what was printed instead when it does not come. */
  line(pattern: RegExp): Promise<string>
  /** Sends a signal and waits for the end. */
  stop(signal?: NodeJS.Signals): Promise<Ended>
}

const main = join(process.cwd(), 'dist', 'cli', 'main.js')

// Debian keeps daemons where an ordinary account's PATH does not look.
const path = [process.env.PATH, '/usr/local/sbin', '/usr/sbin', '/sbin'].join(':')

/** Starts a command; it is killed at the end of the test if it still runs. */
export function start(t: TestScope, command: string, args: readonly string[], options: CommandOptions = {}): Running {
  // tap adds a NODE_OPTIONS to every child, with which the broker would be another, slower one, and write files where its account may not.
  const child = spawn('env', ['-u', 'NODE_OPTIONS', command, ...args], {
    cwd: options.cwd,
    env: { ...process.env, PATH: path, ...options.env }
  })
  let stdout = ''
  let stderr = ''
  child.stdout.setEncoding('utf8').on('data', text => {
    stdout += text
  })
  child.stderr.setEncoding('utf8').on('data', text => {
    stderr += text
  })
  child.stdin.on('error', () => {}) // It may end before it has read everything.
  if (options.input !== undefined) child.stdin.end(options.input)
  const ended = new Promise<Ended>((resolve, reject) => {
    child.once('error', reject)
    child.once('close', status => resolve({ status, stdout, stderr }))
  })
  ended.catch(() => {})
  t.teardown(async () => {
    child.kill('SIGKILL')
    await ended.catch(() => {})
  })
  return {
    child,
    ended,
    stdout: () => stdout,
    stderr: () => stderr,
    async line(pattern) {
      const find = () => `${stdout}\n${stderr}`.split('\n').find(line => pattern.test(line))
      try {
        return await until(() => find() ?? (child.exitCode === null ? undefined : ended.then(() => find() ?? 'ended'))).then(line =>
          line === 'ended' ? Promise.reject(new Error('ended')) : line
        )
      } catch {
        throw new Error(`${command} ${args.join(' ')}: no line matches ${pattern} in\n${stdout}\n${stderr}`)
      }
    },
    stop(signal = 'SIGTERM') {
      child.kill(signal)
      return ended
    }
  }
}

/** Runs a command to its end. */
export function run(t: TestScope, command: string, args: readonly string[], options: CommandOptions = {}): Promise<Ended> {
  return start(t, command, args, { input: '', ...options }).ended
}

/** Runs a command that must succeed; resolves with its stdout. */
export async function must(t: TestScope, command: string, args: readonly string[], options: CommandOptions = {}): Promise<string> {
  const { status, stdout, stderr } = await run(t, command, args, options)
  if (status !== 0) throw new Error(`${command} ${args.join(' ')} ended with ${status}:\n${stdout}\n${stderr}`)
  return stdout
}

/** Starts the command `mosquitero`. */
export function mosquitero(t: TestScope, args: readonly string[], options: CommandOptions = {}): Running {
  return start(t, process.execPath, [main, ...args], options)
}

/** Starts the broker and waits until it runs. */
export async function startBroker(t: TestScope, args: readonly string[], options: CommandOptions = {}): Promise<Running> {
  const broker = mosquitero(t, args, options)
  await broker.line(/version \S+ running$/)
  return broker
}

/**
 * A port that was free a moment ago: mosquitto.conf has no way to ask for any. Below those that the system gives to outgoing connections,
 * one of which would take it before the broker does.
 */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = randomInt(20_000, 32_000)
    if (await isFree(port)) return port
  }
}

function isFree(port: number): Promise<boolean> {
  return new Promise(resolve => {
    const server = createServer().once('error', () => resolve(false))
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)))
  })
}

/**
 * The line that keeps a broker started as root able to read a test's folder; the account itself otherwise, which changes nothing.
 */
export const userLine = `user ${userInfo().username}\n`
