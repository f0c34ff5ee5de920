// The real mosquitto on a configuration file: does it start, and if not, how does it end?

import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { delimiter } from 'node:path'

export interface Start {
  readonly accepted: boolean
  /** The exit status of a refusal. */
  readonly status: number | null
  readonly output: string
}

const deadline = 10_000
// Debian installs it where only root looks.
const env = { ...process.env, PATH: [process.env.PATH, '/usr/sbin', '/usr/local/sbin'].join(delimiter) }

/** `2.0.11`; a clear error when there is none. */
export function mosquittoVersion(): string {
  const { error, stdout, stderr } = spawnSync('mosquitto', ['-h'], { env, encoding: 'utf8' })
  if (error) throw new Error('these tests compare with the real mosquitto: apt-get install mosquitto', { cause: error })
  const version = /version (\d+\.\d+\.\d+)/.exec(stdout + stderr)?.[1]
  if (version === undefined) throw new Error(`mosquitto -h does not say its version: ${stdout}${stderr}`)
  return version
}

/** Starts it on `file` in `cwd`, waits until it runs or ends, and ends it. */
export async function startMosquitto(cwd: string, file: string): Promise<Start> {
  const broker = spawn('mosquitto', ['-v', '-c', file], { cwd, env, stdio: ['ignore', 'pipe', 'pipe'] })
  const timer = setTimeout(() => broker.kill('SIGKILL'), deadline)
  try {
    return await untilSettled(broker)
  } finally {
    clearTimeout(timer)
    if (broker.exitCode === null && broker.signalCode === null) {
      const ended = new Promise(resolve => broker.once('exit', resolve))
      // Not SIGTERM: one that comes right after the line "running" is forgotten by 2.0, which then runs for ever.
      broker.kill('SIGKILL')
      await ended
    }
  }
}

function untilSettled(broker: ChildProcess): Promise<Start> {
  return new Promise((resolve, reject) => {
    let output = ''
    const read = (chunk: Buffer) => {
      output += chunk
      if (/ version \S+ running/.test(output)) resolve({ accepted: true, status: null, output })
    }
    broker.stdout?.on('data', read)
    broker.stderr?.on('data', read)
    broker.once('error', reject)
    broker.once('close', status => resolve({ accepted: false, status, output }))
  })
}
