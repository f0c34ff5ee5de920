// Runs the passwd command in this process and gives back what it printed.

import { PassThrough } from 'node:stream'
import { runPasswd } from '../../dist/cli/passwd.js'

export interface PasswdResult {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

/** Resolves when the command ends; `input` is all of its standard input. */
export async function passwd(argv: readonly string[], input = ''): Promise<PasswdResult> {
  const stdin = new PassThrough()
  stdin.end(input)
  let stdout = ''
  let stderr = ''
  const code = await runPasswd(argv, {
    stdin,
    stdout: { write: text => (stdout += text) },
    stderr: { write: text => (stderr += text) }
  })
  return { code, stdout, stderr }
}
