// `certs revoke` and `crl`: what shall not be accepted any more, and the list that says so.

import { dirname } from 'node:path'
import { BrokerError } from '../errors.js'
import type { Ca } from '../pki/ca.js'
import { certificatePaths, existing, readFileBounded, replaceFile } from '../pki/files.js'
import { Invitations } from '../pki/invitations.js'
import { commonNameOf, type RecordEntry, revocationReasons } from '../pki/record.js'
import { formatDate, parsePkiFile } from '../pki/x509.js'
import {
  type Arguments,
  type Command,
  type CommandIo,
  dirArgument,
  dirHelp,
  openCa,
  parseDays,
  quote,
  UsageError
} from './certs-command.js'

const crlDays = 30

export const revokeCommands: Readonly<Record<string, Command>> = {
  revoke: {
    usage: 'certs revoke NAME|SERIAL|FILE [--reason REASON] [--dir certs]',
    help: `Marks certificates as revoked in the record of the CA in DIR/ca. It counts once "certs crl" has made a new list and the broker has read it.

  NAME         a common name: all certificates of that name that are not revoked yet, and its invitation if it has one
  SERIAL       one certificate, as "certs list" or "certs show" tell its serial
  FILE         one certificate, also one that the record doesn't know
  --reason R   ${revocationReasons.join(', ')}
${dirHelp}

Example:
  mosquitero certs revoke press-7 --reason keyCompromise && mosquitero certs crl`,
    options: ['dir', 'reason'],
    run: runRevoke
  },
  crl: {
    usage: 'certs crl [--days 30] [--dir certs] [--out FILE]',
    help: `Makes the revocation list of the CA in DIR/ca from its record: DIR/ca/ca.crl, in the place of the one before. A broker with #!watch_files takes it by
itself, another at SIGHUP. Past its last day a broker that has it refuses everybody, so make a new one before, also when nothing is revoked.

  --days N     how long it is valid, ${crlDays} when left out
${dirHelp}
  --out FILE   writes FILE instead

Example:
  mosquitero certs crl --days 30`,
    options: ['dir', 'days', 'out'],
    run: runCrl
  }
}

async function runRevoke({ names, values }: Arguments, io: CommandIo): Promise<number> {
  const [name, ...others] = names
  if (name === undefined) throw new UsageError('What to revoke is missing: a name, a serial or a file.')
  if (others.length > 0) throw new UsageError('One at a time; put a name with spaces in quotes.')
  const reason = parseReason(values.reason)
  const ca = await openCa(values.dir, io)
  // First: nobody shall get one by it meanwhile.
  const isUninvited = await new Invitations(dirname(ca.record.path)).withdraw(name)
  if (isUninvited) io.stdout.write(`The invitation of ${name} is void.\n`)
  const recorded = await ca.find(name)
  if (isUninvited && recorded.length === 0) return 0
  const isName = recorded.length > 0 && recorded.every(entry => commonNameOf(entry) === name)
  const revoked = isName ? await ca.revokeName(name, reason) : await ca.revoke(await serialsOf(name, recorded, ca), reason)
  for (const { serial, subject } of revoked) io.stdout.write(`Revoked: ${serial} ${subject}\n`)
  if (revoked.length === 0) io.stdout.write(`${name} is revoked already.\n`)
  io.stdout.write(`Next: mosquitero certs crl${dirArgument(values)}\n`)
  return 0
}

function parseReason(text = 'unspecified') {
  const reason = revocationReasons.find(known => known.toLowerCase() === text.toLowerCase())
  if (reason !== undefined) return reason
  throw new UsageError(`--reason ${JSON.stringify(text)} is none of ${revocationReasons.join(', ')}.`)
}

async function serialsOf(name: string, recorded: readonly RecordEntry[], ca: Ca): Promise<readonly string[]> {
  if (recorded.length > 0) return recorded.map(({ serial }) => serial)
  if (!(await existing({ certificate: name, key: name })).certificate) {
    const places = `${ca.record.path} has no certificate of that name or serial, and there is no such file`
    throw new BrokerError('ERR_PKI_INPUT', `What is ${JSON.stringify(name)}? ${places}.`)
  }
  const [object] = parsePkiFile(await readFileBounded(name), name)
  if (object?.kind !== 'certificate') throw new BrokerError('ERR_PKI_INPUT', `${name} holds no certificate that can be read.`)
  return [await ca.adopt(object.certificate)]
}

async function runCrl({ names, values }: Arguments, io: CommandIo): Promise<number> {
  if (names.length > 0) throw new UsageError('"certs crl" takes no name; --out FILE says where the list goes.')
  const days = values.days === undefined ? crlDays : parseDays(values.days)
  const now = new Date()
  const ca = await openCa(values.dir, io)
  const file = values.out ?? certificatePaths(values.dir, 'ca').certificate.replace(/crt$/, 'crl')
  await replaceFile(file, await ca.crl({ days, now }), 0o644)
  const { entries } = await ca.record.read()
  const revoked = entries.filter(entry => entry.revoked)
  const end = formatDate(new Date(now.getTime() + days * 86_400_000))
  io.stdout.write(
    `${file}: revocation list, ${revoked.length === 1 ? '1 certificate' : `${revoked.length} certificates`}, valid to ${end}\n`
  )
  for (const entry of revoked.slice(-5)) io.stdout.write(`  ${entry.serial} ${commonNameOf(entry) ?? entry.subject}\n`)
  io.stdout.write(`For mosquitto.conf:\n  crlfile ${quote(file)}\n`)
  return 0
}
