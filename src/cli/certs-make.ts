// `certs init`, `server` and `client`: new keys and their certificates.

import { type Authority, createAuthority, type Issued } from '../pki/authority.js'
import type { Order } from '../pki/ca.js'
import { ensureDevelopmentCerts, localNames } from '../pki/development.js'
import { type CertificatePaths, certificatePaths, checkAbsent, writeIssued, writeNew } from '../pki/files.js'
import { encryptKey } from '../pki/keys.js'
import { checkCommonName, parseAddress, parseAlternativeName } from '../pki/names.js'
import { encodePkcs12 } from '../pki/pkcs12.js'
import { profiles } from '../pki/profiles.js'
import {
  type Arguments,
  type Command,
  type CommandIo,
  clientDays,
  dirArgument,
  dirHelp,
  keyHelp,
  keyPassphraseVariable,
  newPassphrase,
  openCa,
  outHelp,
  pairOf,
  passphraseVariable,
  quote,
  reportCertificate,
  secretHelp,
  UsageError,
  type Values,
  wishOf,
  withPassphrase
} from './certs-command.js'

export const makeCommands: Readonly<Record<string, Command>> = {
  init: {
    usage: 'certs init [--dir certs] [--cn NAME] [--key ec|rsa] [--days N] [--passphrase] [--dev]',
    help: `Makes a certificate authority: DIR/ca/ca.crt and its key.

${dirHelp}
  --cn NAME    name of the CA, "Mosquitero CA" when left out
${keyHelp}, ${profiles.ca.days} days when left out
  --passphrase puts the key under a passphrase, asked for or from ${passphraseVariable}
  --dev        makes what is missing of a CA, a broker and a client certificate, and checks what is there

Example:
  mosquitero certs init --cn "Plant 7 CA"`,
    options: ['dir', 'cn', 'key', 'days', 'passphrase', 'dev'],
    run: runInit
  },
  server: {
    usage: 'certs server [NAME...] [--dir certs] [--ip ADDRESS]... [--key ec|rsa] [--days N] [--passphrase] [--p12] [--out PREFIX]',
    help: `Makes the broker's certificate, signed by the CA in DIR/ca: DIR/broker/broker.crt and its key.

  NAME         host name or address that clients connect to; this machine's when there is none
  --ip ADDRESS one more address
${dirHelp}
${keyHelp}, at most ${profiles.server.maxDays} days
${secretHelp}
${outHelp}

Example:
  mosquitero certs server broker.example.org 192.168.5.1`,
    options: ['dir', 'key', 'days', 'ip', 'passphrase', 'p12', 'out'],
    run: runServer
  },
  client: {
    usage: 'certs client NAME [--dir certs] [--key ec|rsa] [--days N] [--passphrase] [--p12] [--out PREFIX]',
    help: `Makes a client's certificate, signed by the CA in DIR/ca: DIR/client/NAME.crt and its key.

  NAME         its common name, the username under use_identity_as_username
${dirHelp}
${keyHelp}, ${clientDays} days when left out
${secretHelp}
${outHelp}

Example:
  mosquitero certs client press-7`,
    options: ['dir', 'key', 'days', 'passphrase', 'p12', 'out'],
    run: runClient
  }
}

async function runInit({ names, values }: Arguments, io: CommandIo): Promise<number> {
  if (names.length > 0) throw new UsageError(`"certs init" takes no name; write --cn ${JSON.stringify(names[0])} to call the CA so.`)
  if (values.dev) return runDevelopment(values, io)
  const wish = wishOf(values)
  const paths = certificatePaths(values.dir, 'ca')
  await checkAbsent(paths)
  const secret = values.passphrase ? await newPassphrase(paths.key, passphraseVariable, io) : undefined
  const issued = await createAuthority({ commonName: values.cn ?? 'Mosquitero CA', ...wish })
  await writeIssued(paths, secret === undefined ? issued : { ...issued, key: encryptKey(issued.key, secret) })
  report(io, paths, issued, values, `Next: mosquitero certs server${dirArgument(values)}`)
  return 0
}

async function runDevelopment({ dir, cn, key, days, passphrase }: Values, io: CommandIo): Promise<number> {
  if (cn ?? key ?? days ?? passphrase) {
    throw new UsageError('--dev decides names, keys and dates itself; leave --cn, --key, --days and --passphrase out.')
  }
  const ca = certificatePaths(dir, 'ca').key
  const { made, problems } = await withPassphrase(ca, passphraseVariable, io, secret => ensureDevelopmentCerts(dir, { passphrase: secret }))
  for (const file of made) io.stdout.write(`${file}\n`)
  for (const problem of problems) io.stderr.write(`Error: ${problem}\n`)
  return problems.length === 0 ? 0 : 1
}

async function runServer({ names, values }: Arguments, io: CommandIo): Promise<number> {
  const wish = wishOf(values)
  const asked = [...names.map(parseAlternativeName), ...(values.ip ?? []).map(parseAddress)]
  const paths = pairOf(values, 'broker')
  const issued = await make(paths, { profile: 'server', names: asked.length === 0 ? localNames() : asked, ...wish }, values, io)
  const ca = certificatePaths(values.dir, 'ca').certificate
  report(io, paths, issued, values, `For mosquitto.conf:\n  certfile ${paths.certificate}\n  keyfile ${paths.key}\n  cafile ${ca}`)
  return 0
}

async function runClient({ names, values }: Arguments, io: CommandIo): Promise<number> {
  const [name, ...others] = names
  if (name === undefined) throw new UsageError('A name is missing: the common name of the client.')
  if (others.length > 0) throw new UsageError('One client at a time; put a name with spaces in quotes.')
  checkCommonName(name)
  const wish = wishOf(values)
  const paths = pairOf(values, 'client', name)
  const issued = await make(paths, { profile: 'client', commonName: name, ...wish }, values, io)
  const ca = certificatePaths(values.dir, 'ca').certificate
  const use = `--cafile ${quote(ca)} --cert ${quote(paths.certificate)} --key ${quote(paths.key)}`
  report(io, paths, issued, values, `For mosquitto_pub and mosquitto_sub: ${use}`)
  return 0
}

// The names are looked at before a passphrase is asked for or a key is made: the answer would be no anyway.
async function make(paths: CertificatePaths, order: Order, values: Values, io: CommandIo): Promise<Issued> {
  await checkAbsent(paths)
  if (values.p12) await checkAbsent({ certificate: bundleOf(paths), key: bundleOf(paths) })
  const ca = await openCa(values.dir, io)
  const secret =
    values.passphrase || values.p12 ? await newPassphrase(values.p12 ? bundleOf(paths) : paths.key, keyPassphraseVariable, io) : undefined
  const issued = await ca.issue(order)
  const isSecret = values.passphrase === true && secret !== undefined
  await writeIssued(paths, isSecret ? { ...issued, key: encryptKey(issued.key, secret) } : issued)
  if (values.p12 && secret !== undefined) await writeNew(bundleOf(paths), await bundle(issued, order, ca.authority, secret), 0o600)
  return issued
}

function bundle(issued: Issued, order: Order, { certificate }: Authority, secret: string): Promise<Buffer> {
  const name = order.profile === 'client' ? order.commonName : 'broker'
  return encodePkcs12({ ...issued, authorities: [certificate], name }, secret)
}

const bundleOf = ({ certificate }: CertificatePaths): string => certificate.replace(/crt$/, 'p12')

function report(io: CommandIo, paths: CertificatePaths, issued: Issued, { passphrase, p12 }: Values, next: string): void {
  reportCertificate(io, paths.certificate, issued)
  io.stdout.write(`${paths.key}: its private key, ${passphrase ? 'under a passphrase, ' : ''}readable by its owner alone\n`)
  if (p12) io.stdout.write(`${bundleOf(paths)}: key, certificate and CA under a passphrase\n`)
  io.stdout.write(`${next}\n`)
}
