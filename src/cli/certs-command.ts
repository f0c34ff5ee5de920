// What the commands of `mosquitero certs` share: their options, the CA, passphrases, and how what was made is reported.

import { BrokerError } from '../errors.js'
import { type Certified, type KeyType, keyTypes } from '../pki/authority.js'
import { Ca } from '../pki/ca.js'
import { type CertificatePaths, certificatePaths, existing } from '../pki/files.js'
import { profiles } from '../pki/profiles.js'
import { describeCertificate, formatDescription } from '../pki/x509.js'

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

export const passphraseVariable = 'MOSQUITERO_CA_PASSPHRASE'
export const keyPassphraseVariable = 'MOSQUITERO_KEY_PASSPHRASE'
export const secretVariable = 'MOSQUITERO_ENROLMENT_SECRET'

/** Of all commands; each says which are its own. */
export const options = {
  dir: { type: 'string' },
  cn: { type: 'string' },
  key: { type: 'string' },
  days: { type: 'string' },
  ip: { type: 'string', multiple: true },
  out: { type: 'string' },
  dev: { type: 'boolean' },
  as: { type: 'string' },
  'names-from-csr': { type: 'boolean' },
  'new-key': { type: 'boolean' },
  passphrase: { type: 'boolean' },
  p12: { type: 'boolean' },
  reason: { type: 'string' },
  expiring: { type: 'string' },
  revoked: { type: 'boolean' },
  json: { type: 'boolean' },
  config: { type: 'string', short: 'c' },
  cert: { type: 'string' },
  ttl: { type: 'string' },
  url: { type: 'string' },
  cafile: { type: 'string' },
  fingerprint: { type: 'string' },
  secret: { type: 'string' },
  renew: { type: 'boolean' },
  help: { type: 'boolean', short: 'h' }
} as const

export type OptionName = keyof typeof options

export const defaultDir = 'certs'

export interface Arguments {
  readonly names: readonly string[]
  readonly values: Values
}

export interface Values {
  readonly dir: string
  readonly cn?: string
  readonly key?: string
  readonly days?: string
  readonly ip?: readonly string[]
  readonly out?: string
  readonly dev?: boolean
  readonly as?: string
  readonly 'names-from-csr'?: boolean
  readonly 'new-key'?: boolean
  readonly passphrase?: boolean
  readonly p12?: boolean
  readonly reason?: string
  readonly expiring?: string
  readonly revoked?: boolean
  readonly json?: boolean
  readonly config?: string
  readonly cert?: string
  readonly ttl?: string
  readonly url?: string
  readonly cafile?: string
  readonly fingerprint?: string
  readonly secret?: string
  readonly renew?: boolean
  readonly help?: boolean
}

export interface Command {
  readonly usage: string
  readonly help: string
  readonly options: readonly OptionName[]
  run(args: Arguments, io: CommandIo): Promise<number>
}

export class UsageError extends Error {}

export const dirHelp = '  --dir DIR    folder of all certificates, "certs" when left out'
export const outHelp = '  --out PREFIX writes PREFIX.crt and PREFIX.key instead'
export const daysHelp = '  --days N     how long it is valid'
export const keyHelp = `  --key TYPE   ${Object.keys(keyTypes).join(', ')}; ec (P-256) when left out, rsa is rsa:3072
${daysHelp}`
export const secretHelp = `  --passphrase puts the key under a passphrase, asked for or from ${keyPassphraseVariable}
  --p12        writes PREFIX.p12 as well: key, certificate and CA in one file under that passphrase`

/** The CA in DIR/ca, which must be there. */
export async function openCa(dir: string, io: CommandIo): Promise<Ca> {
  const paths = certificatePaths(dir, 'ca')
  const found = await existing(paths)
  if (!found.certificate || !found.key) {
    const file = found.certificate ? paths.key : paths.certificate
    throw new BrokerError(
      'ERR_PKI_FILE',
      `${file} is missing: the CA that signs. Put yours there, or make one with "mosquitero certs init".`
    )
  }
  return withPassphrase(paths.key, passphraseVariable, io, passphrase => Ca.open(paths, passphrase))
}

/** First with what the environment says; a person is asked only when the key turns out to need it. */
export async function withPassphrase<Value>(
  file: string,
  variable: string,
  io: CommandIo,
  action: (passphrase: string | undefined) => Promise<Value>
): Promise<Value> {
  const passphrase = io.env[variable]
  try {
    return await action(passphrase)
  } catch (error) {
    if (!(error instanceof BrokerError) || error.code !== 'ERR_TLS_KEY_ENCRYPTED' || passphrase !== undefined) throw error
    if (io.askPassphrase === undefined) {
      const message = `${error.message} Give it in the environment as ${variable}.`
      throw new BrokerError(error.code, message, undefined, { cause: error })
    }
    return action(await io.askPassphrase(`Passphrase of ${file}: `))
  }
}

/** One that a new key is to be under: typed twice, since nothing else could tell a slip of the hand. */
export async function newPassphrase(file: string, variable: string, io: CommandIo): Promise<string> {
  const given = io.env[variable]
  if (given !== undefined && given !== '') return given
  if (io.askPassphrase === undefined) {
    throw new BrokerError('ERR_TLS_KEY_ENCRYPTED', `Nobody is there to ask for a passphrase; give it as ${variable}.`)
  }
  const typed = await io.askPassphrase(`New passphrase of ${file}: `)
  if (typed === '') throw new BrokerError('ERR_PKI_INPUT', 'The passphrase is empty.')
  if (typed !== (await io.askPassphrase('The same again: '))) throw new BrokerError('ERR_PKI_INPUT', 'The two passphrases differ.')
  return typed
}

/** Says what a new certificate is. */
export function reportCertificate(io: CommandIo, file: string, { certificate }: Pick<Certified, 'certificate'>): void {
  const { title, rows } = describeCertificate(certificate)
  const facts = rows.filter(([label, value]) => ['subject', 'valid', 'names'].includes(label) && value !== 'none')
  io.stdout.write(`${file}: ${formatDescription({ title, rows: facts, notes: [] })}\n`)
}

export function wishOf({ key, days }: Values): { key?: KeyType; days?: number } {
  return { ...(key === undefined ? {} : { key: parseKeyType(key) }), ...(days === undefined ? {} : { days: parseDays(days) }) }
}

export function parseKeyType(text: string): KeyType {
  const types = Object.keys(keyTypes)
  if (isKeyType(text)) return text
  throw new UsageError(`--key ${JSON.stringify(text)} is none of ${types.join(', ')}.`)
}

function isKeyType(text: string): text is KeyType {
  return Object.hasOwn(keyTypes, text)
}

export function parseDays(text: string, option = '--days'): number {
  if (/^[1-9]\d{0,5}$/.test(text)) return Number(text)
  throw new UsageError(`${option} ${JSON.stringify(text)} is not a number of days.`)
}

/** `--as`, where a request or an old certificate doesn't say what it is for. */
export function parseProfile(text: string | undefined): 'client' | 'server' | undefined {
  if (text === undefined || text === 'client' || text === 'server') return text
  throw new UsageError(`--as ${JSON.stringify(text)} is neither client nor server.`)
}

export function dirArgument({ dir }: Values): string {
  return dir === defaultDir ? '' : ` --dir ${quote(dir)}`
}

/** For a line that a person pastes into a shell. */
export function quote(text: string): string {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`
}

/** Where the pair of a prefix, or of a name in a folder, goes. */
export function pairOf({ dir, out }: Values, folder: 'broker' | 'client', name?: string): CertificatePaths {
  return out === undefined ? certificatePaths(dir, folder, name) : { certificate: `${out}.crt`, key: `${out}.key` }
}

export const clientDays = profiles.client.days
