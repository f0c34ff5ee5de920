// `mosquitero certs`: makes a CA and certificates, renews, revokes and lists them, and shows what is in files. Nothing that exists is overwritten.

import { parseArgs } from 'node:util'
import { BrokerError, errorMessage, exitStatus } from '../errors.js'
import {
  type Arguments,
  type Command,
  type CommandIo,
  defaultDir,
  keyPassphraseVariable,
  options,
  passphraseVariable,
  UsageError
} from './certs-command.js'
import { enrolCommands } from './certs-enrol.js'
import { listCommands } from './certs-list.js'
import { makeCommands } from './certs-make.js'
import { revokeCommands } from './certs-revoke.js'
import { showCommands } from './certs-show.js'
import { signCommands } from './certs-sign.js'
import { PromptError } from './password-prompt.js'
import { wrongUsageWords } from './wrong-usage.js'

export type { CommandIo } from './certs-command.js'

const commands: Readonly<Record<string, Command>> = {
  ...makeCommands,
  ...signCommands,
  ...revokeCommands,
  ...listCommands,
  ...showCommands,
  ...enrolCommands
}

const overview = `Usage: ${Object.values(commands)
  .map(({ usage }) => `mosquitero ${usage}`)
  .join('\n       ')}

A CA key with a passphrase, as OpenSSL makes it, is opened with ${passphraseVariable} or by asking, any other with ${keyPassphraseVariable}.
What the CA issues is recorded beside it, in ca/index.txt, which "openssl ca" reads and writes as well.

Example:
  mosquitero certs init && mosquitero certs server localhost && mosquitero certs client press-7
`

/** Runs `certs ARGV`: 0 done, 1 the input is wrong or a file stands in the way, 2 wrong usage. */
export async function runCerts(argv: readonly string[], io: CommandIo): Promise<number> {
  const [name = '', ...rest] = argv
  if (name === '-h' || name === '--help' || name === 'help') {
    io.stdout.write(overview)
    return 0
  }
  const command = Object.hasOwn(commands, name) ? commands[name] : undefined
  if (command === undefined) {
    io.stderr.write(`${name === '' ? '' : `Error: certs has no command ${JSON.stringify(name)}.\n\n`}${overview}`)
    return 2
  }
  try {
    const args = parseArguments(command, rest)
    if (!args.values.help) return await command.run(args, io)
    io.stdout.write(`Usage: mosquitero ${command.usage}\n\n${command.help}\n`)
    return 0
  } catch (error) {
    io.stderr.write(`Error: ${errorMessage(error)}\n`)
    if (error instanceof PromptError) return 1
    if (error instanceof BrokerError) return exitStatus[error.code]
    if (!(error instanceof UsageError)) throw error
    io.stderr.write(`Usage: mosquitero ${command.usage}\n`)
    return 2
  }
}

function parseArguments(command: Command, args: string[]): Arguments {
  const { values, positionals } = parse(args)
  const stray = Object.keys(values).find(name => name !== 'help' && !command.options.some(option => option === name))
  if (stray !== undefined) throw new UsageError(`--${stray} does not go with this command.`)
  return { names: positionals, values: { ...values, dir: values.dir ?? defaultDir } }
}

function parse(args: string[]) {
  try {
    return parseArgs({ args, options, allowPositionals: true, strict: true })
  } catch (error) {
    throw new UsageError(`${wrongUsageWords(error)}.`)
  }
}
