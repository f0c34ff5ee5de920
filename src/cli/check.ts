// `mosquitero check`: whether a configuration is right, what it enforces, and what is odd about it.

import { parseArgs } from 'node:util'
import { examine } from '../check/examine.js'
import { formatReport } from '../check/text.js'
import type { Log } from '../log-events.js'
import { dropPrivileges } from './privileges.js'
import { wrongUsageWords } from './wrong-usage.js'

/** What a command has of the world; `process` fits. */
interface CheckIo {
  readonly stdout: NodeJS.WritableStream
  readonly stderr: { write(text: string): unknown }
  readonly env: NodeJS.ProcessEnv
}

const usage = `Usage: mosquitero check -c FILE [--json]

Reads a mosquitto.conf and every file that it names, as the broker does at its start, and opens nothing: what each listener enforces, what
becomes of each line, and everything that is wrong or will soon be. Started as root it changes to the account of the broker first.

  -c FILE   the configuration (--config)
  --json    the same as JSON, for scripts; docs/check.md says what is in it

Ends with 0 when a broker would start, with warnings too; with 1 when it would not.

Example:
  mosquitero check -c /etc/mosquitto/mosquitto.conf
`

const wrongUsage = 2

/** Runs `check ARGV`: 0 the configuration can be used, 1 it cannot, 2 wrong usage. */
export async function runCheck(argv: readonly string[], io: CheckIo): Promise<number> {
  // Whoever reads it may have enough.
  io.stdout.on('error', () => {})
  const args = parse(argv)
  if (args === 'help') {
    io.stdout.write(usage)
    return 0
  }
  if ('wrong' in args) {
    io.stderr.write(`Error: ${args.wrong}\n\n${usage}`)
    return wrongUsage
  }
  const report = await examine({
    file: args.file,
    env: io.env,
    beforeFiles: config => dropPrivileges(config.user, io.env, silent)
  })
  io.stdout.write(args.json ? `${JSON.stringify(report, undefined, 2)}\n` : formatReport(report))
  return report.usable ? 0 : 1
}

// Which account it is stands in the report.
const silent: Log = { write() {}, enabled: () => false }

function parse(argv: readonly string[]): { readonly file: string; readonly json: boolean } | { readonly wrong: string } | 'help' {
  try {
    const { values } = parseArgs({
      args: argv.map(argument => (argument === '--config-file' ? '--config' : argument)),
      options: {
        config: { type: 'string', short: 'c' },
        json: { type: 'boolean' },
        help: { type: 'boolean', short: 'h' }
      }
    })
    if (values.help) return 'help'
    if (values.config === undefined) return { wrong: 'Name the configuration by -c FILE.' }
    return { file: values.config, json: values.json ?? false }
  } catch (error) {
    return { wrong: `${wrongUsageWords(error)}.` }
  }
}
