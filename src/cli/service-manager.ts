// Tells systemd how the broker is doing [sd_notify(3)]. Its socket takes datagrams, which Node has not for Unix sockets: a shell that lives
// as long as we do has systemd-notify send each message. A shell of its own, because every fork of this process copies its page tables.

import { type ChildProcess, spawn } from 'node:child_process'
import type { Log } from '../log-events.js'

/** How often it hears of a start or an end that takes long, milliseconds. */
const pulse = 15_000
const moreTime = `EXTEND_TIMEOUT_USEC=${4 * pulse * 1000}`
/** What waits for a shell that is stuck, bytes. */
const mostWaiting = 16_384

// The fields of a message are parted by tabs. systemd sends its signals to us: the shell has the last word to pass on.
const script = `trap '' HUP INT TERM
command -v systemd-notify >/dev/null 2>&1 || exit 127
IFS='	'
set -f
while read -r fields; do
  systemd-notify -- $fields || exit 1
done`

export class ServiceManager {
  readonly #env: Readonly<Record<string, string | undefined>>
  #log: Log | undefined
  #shell: ChildProcess | undefined
  #pulse: NodeJS.Timeout | undefined
  #isDeaf = false
  #isStopping = false

  /** `env`: without NOTIFY_SOCKET nobody wants to know, and nothing is done. */
  constructor(env: Readonly<Record<string, string | undefined>>) {
    this.#env = env
  }

  /** A start that takes long, as one that waits for Redis, is no failed one. */
  starting(): void {
    this.#send(moreTime)
    this.#repeat(pulse, moreTime)
  }

  /** Clients can connect. From now on the watchdog hears that our event loop turns, for as long as it does. `log`: when it can't. */
  ready(log: Log): void {
    this.#log = log
    this.#send('READY=1', `MAINPID=${process.pid}`, 'STATUS=Running.')
    const { WATCHDOG_USEC = '', WATCHDOG_PID } = this.#env
    const isOurs = WATCHDOG_PID === undefined || WATCHDOG_PID === `${process.pid}`
    // Twice in the time that it waits, as sd_watchdog_enabled(3) advises.
    if (isOurs && /^[1-9]\d{0,15}$/.test(WATCHDOG_USEC)) this.#repeat(Number(WATCHDOG_USEC) / 2000, 'WATCHDOG=1')
    else clearInterval(this.#pulse)
  }

  reloading(): void {
    if (!this.#isStopping) this.#send('RELOADING=1', `MONOTONIC_USEC=${process.hrtime.bigint() / 1000n}`)
  }

  /** After each `reloading`, whatever became of it. */
  reloaded(isApplied: boolean): void {
    if (this.#isStopping) return
    this.#send(
      'READY=1',
      `STATUS=${isApplied ? 'Running.' : 'Running with the configuration before: the last reload was refused, see the log.'}`
    )
  }

  stopping(): void {
    this.#isStopping = true
    this.#send('STOPPING=1', 'STATUS=Stopping.', moreTime)
    this.#repeat(pulse, moreTime)
  }

  #repeat(milliseconds: number, ...fields: readonly string[]): void {
    clearInterval(this.#pulse)
    if (this.#env.NOTIFY_SOCKET === undefined) return
    this.#pulse = setInterval(() => this.#send(...fields), milliseconds)
    this.#pulse.unref()
  }

  #send(...fields: readonly string[]): void {
    if (!this.#env.NOTIFY_SOCKET) return
    this.#shell ??= this.#openShell()
    const { stdin } = this.#shell
    if (stdin !== null && stdin.writableLength < mostWaiting) stdin.write(`${fields.join('\t')}\n`)
  }

  #openShell(): ChildProcess {
    const shell = spawn('/bin/sh', ['-c', script], { env: this.#env, stdio: ['pipe', 'ignore', 'ignore'] })
    const ended = (status?: number | null): void => {
      if (this.#shell !== shell) return
      this.#shell = undefined
      if (this.#isDeaf || this.#log === undefined) return
      this.#isDeaf = true
      this.#log.write('serviceManagerDeaf', {
        reason: status === 127 ? 'the command systemd-notify is not there' : 'systemd-notify failed'
      })
    }
    shell.once('error', () => ended())
    shell.once('exit', ended)
    shell.stdin.on('error', () => {})
    shell.unref()
    return shell
  }
}
