// `mosquitero certs` inside the test's own process, with what it printed.

import { runCerts } from '../../dist/cli/certs.js'

interface Result {
  readonly status: number
  readonly stdout: string
  readonly stderr: string
}

export async function certs(
  args: string[],
  env: Record<string, string> = {},
  askPassphrase?: (prompt: string) => Promise<string>
): Promise<Result> {
  const written = { stdout: '', stderr: '' }
  const sink = (name: 'stdout' | 'stderr') => ({
    write(text: string) {
      written[name] += text
    }
  })
  const io = { stdout: sink('stdout'), stderr: sink('stderr'), env, ...(askPassphrase === undefined ? {} : { askPassphrase }) }
  return { status: await runCerts(args, io), ...written }
}
