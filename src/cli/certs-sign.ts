// `certs sign` and `renew`: certificates for keys that are there already.

import { basename, extname } from 'node:path'
import { BrokerError } from '../errors.js'
import { isEncryptedKey } from '../pem.js'
import type { Order } from '../pki/ca.js'
import { certificatePaths, existing, keepAs, readFileBounded, replaceFile, writeNew } from '../pki/files.js'
import { encryptKey } from '../pki/keys.js'
import { checkCommonName, parseAddress, parseAlternativeName } from '../pki/names.js'
import { type CheckedRequest, maxRequestSize, parseRequest } from '../pki/request.js'
import { parsePkiFile } from '../pki/x509.js'
import {
  type Arguments,
  type Command,
  type CommandIo,
  clientDays,
  daysHelp,
  dirHelp,
  keyPassphraseVariable,
  newPassphrase,
  openCa,
  pairOf,
  parseDays,
  parseProfile,
  quote,
  reportCertificate,
  UsageError,
  type Values
} from './certs-command.js'

export const signCommands: Readonly<Record<string, Command>> = {
  sign: {
    usage:
      'certs sign CSR [NAME...] [--as client|server] [--cn NAME] [--names-from-csr] [--ip ADDRESS]... [--days N] [--dir certs] [--out PREFIX]',
    help: `Signs a certificate request (PKCS#10, PEM or DER) of a key that stays where it is. What the certificate says is decided here, whatever the
request asks for; its key must be RSA of 2048 to 8192 bits, EC P-256 or P-384, or Ed25519, and its signature good, over SHA-256 or better.

  --as client  the default: DIR/client/CN.crt. --as server: DIR/broker/broker.crt
  --cn NAME    common name of a client; the request's file name without its ending when left out
  NAME         host name or address of a server, --ip ADDRESS one more address
  --names-from-csr  takes the host names and addresses that the request asks for, for a server
${dirHelp}
${daysHelp}, ${clientDays} days when left out
  --out PREFIX writes PREFIX.crt instead

Example:
  mosquitero certs sign press-7.csr`,
    options: ['dir', 'as', 'cn', 'names-from-csr', 'ip', 'days', 'out'],
    run: runSign
  },
  renew: {
    usage: 'certs renew NAME|FILE [--new-key [--passphrase]] [--as client|server] [--days N] [--dir certs]',
    help: `Makes a new certificate of the same subject, names and key in the place of one that was signed by the CA in DIR/ca. The old one is kept beside
it as NAME-SERIAL.crt, and stays valid until its end: revoke it if it should not.

  NAME         a client in DIR/client, or "broker"
  FILE         a certificate file, for others
  --new-key    makes a new key too; the old one is kept as NAME-SERIAL.key
  --passphrase puts the new key under a passphrase, asked for or from ${keyPassphraseVariable}
  --as client  what the certificate is for, where it doesn't say it itself (or server)
${dirHelp}
${daysHelp}, ${clientDays} days when left out

Example:
  mosquitero certs renew press-7`,
    options: ['dir', 'as', 'days', 'new-key', 'passphrase'],
    run: runRenew
  }
}

async function runSign({ names, values }: Arguments, io: CommandIo): Promise<number> {
  const [file, ...hosts] = names
  if (file === undefined) throw new UsageError('A file is missing: the certificate request.')
  const profile = parseProfile(values.as) ?? 'client'
  const days = values.days === undefined ? {} : { days: parseDays(values.days) }
  const request = await parseRequest(await readFileBounded(file, maxRequestSize), file)
  const order: Order =
    profile === 'client'
      ? { profile, commonName: checkCommonName(commonNameFor(file, hosts, values)), ...days }
      : { profile, names: namesFor(request, hosts, values), ...days }
  const paths = order.profile === 'client' ? pairOf(values, 'client', order.commonName) : pairOf(values, 'broker')
  if ((await existing(paths)).certificate) throw new BrokerError('ERR_PKI_EXISTS', existsMessage(paths.certificate))
  const ca = await openCa(values.dir, io)
  const certified = await ca.sign(request, order)
  await writeNew(paths.certificate, certified.certificate, 0o644)
  reportCertificate(io, paths.certificate, certified)
  io.stdout.write(`The request called itself ${request.subject === '' ? 'nothing' : JSON.stringify(request.subject)}.\n`)
  return 0
}

const existsMessage = (file: string): string => `${file} exists and is not overwritten; move it away to make a new one.`

function commonNameFor(file: string, hosts: readonly string[], { cn, ip, 'names-from-csr': fromCsr }: Values): string {
  if (hosts.length > 0 || ip !== undefined || fromCsr)
    throw new UsageError('Host names and addresses are for --as server; a client has --cn NAME.')
  return cn ?? basename(file, extname(file))
}

function namesFor(request: CheckedRequest, hosts: readonly string[], { cn, ip = [], 'names-from-csr': fromCsr }: Values) {
  if (cn !== undefined) throw new UsageError('--cn is for clients; a server is called by its host names.')
  const names = [...hosts.map(parseAlternativeName), ...ip.map(parseAddress), ...(fromCsr ? request.names() : [])]
  if (names.length === 0) throw new UsageError('A name is missing: a host name or address of the server, or --names-from-csr.')
  return names.filter((name, index) => names.findIndex(({ value }) => value === name.value) === index)
}

async function runRenew({ names, values }: Arguments, io: CommandIo): Promise<number> {
  const [name, ...others] = names
  if (name === undefined) throw new UsageError('What to renew is missing: a name or a file.')
  if (others.length > 0) throw new UsageError('One certificate at a time; put a name with spaces in quotes.')
  if (values.passphrase && !values['new-key']) throw new UsageError('--passphrase is for the key of --new-key; the old key stays as it is.')
  const profile = parseProfile(values.as)
  const days = values.days === undefined ? {} : { days: parseDays(values.days) }
  const paths = await pairToRenew(name, values)
  const [old] = parsePkiFile(await readFileBounded(paths.certificate), paths.certificate)
  if (old?.kind !== 'certificate') throw new BrokerError('ERR_PKI_INPUT', `${paths.certificate} holds no certificate that can be read.`)
  const ca = await openCa(values.dir, io)
  const newKey = values['new-key'] === true
  if (newKey && !values.passphrase && (await isUnderPassphrase(paths.key))) {
    throw new UsageError(`${paths.key} is under a passphrase; write --passphrase, so that the new key is too.`)
  }
  const secret = values.passphrase ? await newPassphrase(paths.key, keyPassphraseVariable, io) : undefined
  const renewed = await ca.renew(old.certificate.toString(), { ...days, profile, newKey })
  // The old ones first get their other names, so that at no time one is missing.
  const kept = (file: string) => file.replace(/(\.[^./]*)?$/, `-${old.certificate.serialNumber.slice(0, 16)}$1`)
  await keepAs(paths.certificate, kept(paths.certificate))
  if ('key' in renewed) {
    if ((await existing(paths)).key) await keepAs(paths.key, kept(paths.key))
    await replaceFile(paths.key, secret === undefined ? renewed.key : encryptKey(renewed.key, secret), 0o600)
  }
  await replaceFile(paths.certificate, renewed.certificate, 0o644)
  reportCertificate(io, paths.certificate, renewed)
  if ('key' in renewed) io.stdout.write(`${paths.key}: its new private key, readable by its owner alone\n`)
  io.stdout.write(
    `The old one is ${kept(paths.certificate)}. To end it now: mosquitero certs revoke ${old.certificate.serialNumber} --reason superseded\n`
  )
  return 0
}

async function isUnderPassphrase(file: string): Promise<boolean> {
  const { key } = await existing({ certificate: file, key: file })
  return key && isEncryptedKey((await readFileBounded(file)).toString('latin1'))
}

async function pairToRenew(name: string, { dir }: Values) {
  if (!/[/\\]/.test(name)) {
    const paths = name === 'broker' ? certificatePaths(dir, 'broker') : certificatePaths(dir, 'client', name)
    if ((await existing(paths)).certificate) return paths
  }
  const file = { certificate: name, key: name.replace(/(\.[^./]*)?$/, '.key') }
  if ((await existing(file)).certificate) return file
  const places = `${quote(certificatePaths(dir, 'client').certificate.replace(/[^/]*$/, ''))}, and no such file`
  throw new BrokerError('ERR_PKI_FILE', `There is no certificate of ${JSON.stringify(name)} in ${places}.`)
}
