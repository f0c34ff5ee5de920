// `-d`: the broker in the background. Node cannot fork, so the command starts itself again, detached, and waits until that one runs or gives up.

import { spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'

const childMark = 'MOSQUITERO_DAEMON'

/** Is this process the one in the background? */
export function isDaemon(env: NodeJS.ProcessEnv): boolean {
  return env[childMark] === '1' && process.send !== undefined
}

/** Starts the command again in the background; resolves with the exit status to end with: 0 once it runs, else its own. */
export function startDaemon(argv: readonly string[], env: NodeJS.ProcessEnv): Promise<number> {
  const main = fileURLToPath(new URL('main.js', import.meta.url))
  const child = spawn(process.execPath, [...process.execArgv, main, ...argv], {
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    env: { ...env, [childMark]: '1' }
  })
  child.stdout?.pipe(process.stdout)
  child.stderr?.pipe(process.stderr)
  return new Promise((resolve, reject) => {
    child.once('error', reject)
    child.once('close', code => resolve(code ?? 1))
    child.once('message', () => {
      child.removeAllListeners('close')
      child.disconnect()
      child.unref()
      child.stdout?.destroy()
      child.stderr?.destroy()
      resolve(0)
    })
  })
}

/** Told by the one in the background once it runs; from then on nobody reads its stdout and stderr. */
export function reportReady(): void {
  process.send?.('ready')
  process.disconnect?.()
}
