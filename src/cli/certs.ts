// `mosquitero certs`: makes a CA and certificates, and shows what is in files. Nothing that exists is overwritten.

import { parseArgs } from 'node:util'
import { BrokerError, errorMessage, exitStatus } from '../errors.js'
import { type Authority, createAuthority, type Issued, issueClient, issueServer, type KeyType, keyTypes } from '../pki/authority.js'
import { ensureDevelopmentCerts, localNames, readAuthority } from '../pki/development.js'
import { type CertificatePaths, certificatePaths, checkAbsent, existing, pathsOf, readFileBounded, writeIssued } from '../pki/files.js'
import { checkCommonName, parseAddress, parseAlternativeName } from '../pki/names.js'
import { profiles } from '../pki/profiles.js'
import { describe, describeCertificate, formatDescription, type PkiObject, parsePkiFile } from '../pki/x509.js'
import { PromptError } from './password-prompt.js'

/** What a command has of the world; `process` fits. */
export interface CommandIo {
  readonly stdout: Sink
  readonly stderr: Sink
  readonly env: Readonly<Record<string, string | undefined>>
  /** Asks without echo. Without it, a passphrase comes from the environment only. */
  readonly askPassphrase?: (prompt: string) => Promise<string>
}

interface Sink {
  write(text: string): unknown
}

const passphraseVariable = 'MOSQUITERO_CA_PASSPHRASE'

const options = {
  dir: { type: 'string' },
  cn: { type: 'string' },
  key: { type: 'string' },
  days: { type: 'string' },
  ip: { type: 'string', multiple: true },
  out: { type: 'string' },
  dev: { type: 'boolean' },
  help: { type: 'boolean', short: 'h' }
} as const

type OptionName = keyof typeof options

const defaultDir = 'certs'

interface Arguments {
  readonly names: readonly string[]
  readonly values: {
    readonly dir: string
    readonly cn?: string
    readonly key?: string
    readonly days?: string
    readonly ip?: readonly string[]
    readonly out?: string
    readonly dev?: boolean
    readonly help?: boolean
  }
}

interface Command {
  readonly usage: string
  readonly help: string
  readonly options: readonly OptionName[]
  run(args: Arguments, io: CommandIo): Promise<number>
}

const keyHelp = `  --key TYPE   ${Object.keys(keyTypes).join(', ')}; ec (P-256) when left out, rsa is rsa:3072
  --days N     how long it is valid`

const commands: Readonly<Record<string, Command>> = {
  init: {
    usage: 'certs init [--dir certs] [--cn NAME] [--key ec|rsa] [--days N] [--dev]',
    help: `Makes a certificate authority: DIR/ca/ca.crt and its key.

  --dir DIR    folder of all certificates, "certs" when left out
  --cn NAME    name of the CA, "Mosquitero CA" when left out
${keyHelp}, ${profiles.ca.days} days when left out
  --dev        makes what is missing of a CA, a broker and a client certificate, and checks what is there

Example:
  mosquitero certs init --cn "Plant 7 CA"`,
    options: ['dir', 'cn', 'key', 'days', 'dev'],
    run: runInit
  },
  server: {
    usage: 'certs server [NAME...] [--dir certs] [--ip ADDRESS]... [--key ec|rsa] [--days N] [--out PREFIX]',
    help: `Makes the broker's certificate, signed by the CA in DIR/ca: DIR/broker/broker.crt and its key.

  NAME         host name or address that clients connect to; this machine's when there is none
  --ip ADDRESS one more address
  --dir DIR    folder of all certificates, "certs" when left out
${keyHelp}, at most ${profiles.server.maxDays} days
  --out PREFIX writes PREFIX.crt and PREFIX.key instead

Example:
  mosquitero certs server broker.example.org 192.168.5.1`,
    options: ['dir', 'key', 'days', 'ip', 'out'],
    run: runServer
  },
  client: {
    usage: 'certs client NAME [--dir certs] [--key ec|rsa] [--days N] [--out PREFIX]',
    help: `Makes a client's certificate, signed by the CA in DIR/ca: DIR/client/NAME.crt and its key.

  NAME         its common name, the username under use_identity_as_username
  --dir DIR    folder of all certificates, "certs" when left out
${keyHelp}, ${profiles.client.days} days when left out
  --out PREFIX writes PREFIX.crt and PREFIX.key instead

Example:
  mosquitero certs client press-7`,
    options: ['dir', 'key', 'days', 'out'],
    run: runClient
  },
  show: {
    usage: 'certs show FILE...',
    help: `Shows certificates, keys, certificate requests and revocation lists in words, and whether they fit together.

Example:
  mosquitero certs show certs/ca/ca.crt certs/broker/broker.crt certs/broker/broker.key`,
    options: [],
    run: runShow
  }
}

const overview = `Usage: ${Object.values(commands)
  .map(({ usage }) => `mosquitero ${usage}`)
  .join('\n       ')}

A CA key with a passphrase, as OpenSSL makes it, is opened with ${passphraseVariable} or by asking.

Example:
  mosquitero certs init && mosquitero certs server localhost && mosquitero certs client press-7
`

class UsageError extends Error {}

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
    // Node's first sentence is for people, what follows it for programmers.
    throw new UsageError(`${errorMessage(error).split('. ')[0]?.replace(/\.$/, '')}.`)
  }
}

async function runInit({ names, values }: Arguments, io: CommandIo): Promise<number> {
  if (names.length > 0) throw new UsageError(`"certs init" takes no name; write --cn ${JSON.stringify(names[0])} to call the CA so.`)
  if (values.dev) return runDevelopment(values, io)
  const wish = wishOf(values)
  const paths = certificatePaths(values.dir, 'ca')
  const issued = await make(paths, () => createAuthority({ commonName: values.cn ?? 'Mosquitero CA', ...wish }))
  report(io, paths, issued, `Next: mosquitero certs server${dirArgument(values)}`)
  return 0
}

async function runDevelopment({ dir, cn, key, days }: Arguments['values'], io: CommandIo): Promise<number> {
  if (cn ?? key ?? days) throw new UsageError('--dev decides names, keys and dates itself; leave --cn, --key and --days out.')
  const { made, problems } = await withPassphrase(dir, io, passphrase => ensureDevelopmentCerts(dir, { passphrase }))
  for (const file of made) io.stdout.write(`${file}\n`)
  for (const problem of problems) io.stderr.write(`Error: ${problem}\n`)
  return problems.length === 0 ? 0 : 1
}

async function runServer({ names, values }: Arguments, io: CommandIo): Promise<number> {
  const wish = wishOf(values)
  const asked = [...names.map(parseAlternativeName), ...(values.ip ?? []).map(parseAddress)]
  const paths = values.out === undefined ? certificatePaths(values.dir, 'broker') : pathsOf(values.out)
  const issued = await make(paths, async () =>
    issueServer(await openAuthority(values.dir, io), { names: asked.length === 0 ? localNames() : asked, ...wish })
  )
  const ca = certificatePaths(values.dir, 'ca').certificate
  report(io, paths, issued, `For mosquitto.conf:\n  certfile ${paths.certificate}\n  keyfile ${paths.key}\n  cafile ${ca}`)
  return 0
}

async function runClient({ names, values }: Arguments, io: CommandIo): Promise<number> {
  const [name, ...others] = names
  if (name === undefined) throw new UsageError('A name is missing: the common name of the client.')
  if (others.length > 0) throw new UsageError('One client at a time; put a name with spaces in quotes.')
  checkCommonName(name)
  const wish = wishOf(values)
  const paths = values.out === undefined ? certificatePaths(values.dir, 'client', name) : pathsOf(values.out)
  const issued = await make(paths, async () => issueClient(await openAuthority(values.dir, io), { commonName: name, ...wish }))
  const ca = certificatePaths(values.dir, 'ca').certificate
  report(
    io,
    paths,
    issued,
    `For mosquitto_pub and mosquitto_sub: --cafile ${quote(ca)} --cert ${quote(paths.certificate)} --key ${quote(paths.key)}`
  )
  return 0
}

async function runShow({ names }: Arguments, io: CommandIo): Promise<number> {
  if (names.length === 0) throw new UsageError('A file is missing.')
  const { shown, failed } = await readAll(names, io)
  const others = shown.map(({ object }) => object)
  const descriptions = await Promise.all(others.map(object => describe(object, { others })))
  const texts = descriptions.map((description, index) => `${quote(shown[index]?.file ?? '')}: ${formatDescription(description)}\n`)
  io.stdout.write(texts.join('\n'))
  return failed || descriptions.some(({ unreadable }) => unreadable) ? 1 : 0
}

async function readAll(
  files: readonly string[],
  io: CommandIo
): Promise<{ shown: { file: string; object: PkiObject }[]; failed: boolean }> {
  const shown: { file: string; object: PkiObject }[] = []
  let failed = false
  for (const file of files) {
    try {
      shown.push(...parsePkiFile(await readFileBounded(file), file).map(object => ({ file, object })))
    } catch (error) {
      if (!(error instanceof BrokerError)) throw error
      io.stderr.write(`Error: ${error.message}\n`)
      failed = true
    }
  }
  return { shown, failed }
}

// The names are looked at before a passphrase is asked for or a key is made: the answer would be no anyway.
async function make(paths: CertificatePaths, issue: () => Promise<Issued>): Promise<Issued> {
  await checkAbsent(paths)
  const issued = await issue()
  await writeIssued(paths, issued)
  return issued
}

function report(io: CommandIo, paths: CertificatePaths, issued: Issued, next: string): void {
  const { title, rows } = describeCertificate(issued.certificate)
  const facts = rows.filter(([label, value]) => ['subject', 'valid', 'names'].includes(label) && value !== 'none')
  io.stdout.write(`${paths.certificate}: ${formatDescription({ title, rows: facts, notes: [] })}\n`)
  io.stdout.write(`${paths.key}: its private key, readable by its owner alone\n${next}\n`)
}

async function openAuthority(dir: string, io: CommandIo): Promise<Authority> {
  const paths = certificatePaths(dir, 'ca')
  const found = await existing(paths)
  if (!found.certificate || !found.key) {
    const file = found.certificate ? paths.key : paths.certificate
    throw new BrokerError(
      'ERR_PKI_FILE',
      `${file} is missing: the CA that signs. Put yours there, or make one with "mosquitero certs init".`
    )
  }
  return withPassphrase(dir, io, passphrase => readAuthority(dir, passphrase))
}

// First with what the environment says; asked for only when the key turns out to need it.
async function withPassphrase<Value>(
  dir: string,
  io: CommandIo,
  action: (passphrase: string | undefined) => Promise<Value>
): Promise<Value> {
  const passphrase = io.env[passphraseVariable]
  try {
    return await action(passphrase)
  } catch (error) {
    if (!(error instanceof BrokerError) || error.code !== 'ERR_TLS_KEY_ENCRYPTED' || passphrase !== undefined) throw error
    const { key } = certificatePaths(dir, 'ca')
    if (io.askPassphrase === undefined) {
      throw new BrokerError(error.code, `${error.message} Give it in the environment as ${passphraseVariable}.`, undefined, {
        cause: error
      })
    }
    return action(await io.askPassphrase(`Passphrase of ${key}: `))
  }
}

function wishOf({ key, days }: Arguments['values']): { key?: KeyType; days?: number } {
  return { ...(key === undefined ? {} : { key: parseKeyType(key) }), ...(days === undefined ? {} : { days: parseDays(days) }) }
}

function parseKeyType(text: string): KeyType {
  const types = Object.keys(keyTypes)
  if (isKeyType(text)) return text
  throw new UsageError(`--key ${JSON.stringify(text)} is none of ${types.join(', ')}.`)
}

function isKeyType(text: string): text is KeyType {
  return Object.hasOwn(keyTypes, text)
}

function parseDays(text: string): number {
  if (/^[1-9]\d{0,5}$/.test(text)) return Number(text)
  throw new UsageError(`--days ${JSON.stringify(text)} is not a number of days.`)
}

function dirArgument({ dir }: Arguments['values']): string {
  return dir === defaultDir ? '' : ` --dir ${quote(dir)}`
}

/** For a line that a person pastes into a shell. */
function quote(text: string): string {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`
}
