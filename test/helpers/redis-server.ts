// A redis-server of the test's own: on a port or socket that nobody else has, in a folder of the test, ended by its process id.

import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Test } from 'tap'

export interface RedisServer {
  /** As after a crash: no goodbye, what was written is on the disk. */
  kill(): Promise<void>
  /** Starts again on the same address and data. */
  start(): Promise<void>
  /** It hangs: takes connections and bytes, and answers nothing. */
  pause(): void
  resume(): void
}

export async function startRedis(t: Pick<Test, 'teardown'>, dir: string, args: readonly string[]): Promise<RedisServer> {
  let child: ChildProcess | undefined
  const kill = async () => {
    const running = child
    child = undefined
    if (running === undefined || running.exitCode !== null) return
    const exited = new Promise(resolve => running.once('exit', resolve))
    running.kill('SIGKILL')
    await exited
  }
  const start = async () => {
    child = spawn('redis-server', ['--dir', dir, '--save', '', '--appendonly', 'yes', '--appendfsync', 'always', ...args], {
      stdio: ['ignore', 'pipe', 'inherit']
    })
    await ready(child)
  }
  t.teardown(kill)
  await start()
  return { kill, start, pause: () => void child?.kill('SIGSTOP'), resume: () => void child?.kill('SIGCONT') }
}

/** A test's own folder has too long a name for a socket in it. */
export function socketPath(t: Pick<Test, 'teardown'>): string {
  const dir = mkdtempSync(join(tmpdir(), 'redis-'))
  t.teardown(() => rmSync(dir, { recursive: true, force: true }))
  return join(dir, 'redis.sock')
}

function ready(child: ChildProcess): Promise<void> {
  return new Promise((resolve, reject) => {
    let output = ''
    const timer = setTimeout(() => reject(new Error(`redis-server is not ready:\n${output}`)), 20_000)
    child.stdout?.on('data', (chunk: Buffer) => {
      output += chunk
      if (!/Ready to accept connections|now ready to accept connections/.test(output)) return
      clearTimeout(timer)
      resolve()
    })
    child.once('error', reject)
    child.once('exit', code => reject(new Error(`redis-server ended with ${code}:\n${output}`)))
  })
}
