// `certs list` and `expiring`: what a CA has issued, and what a configuration names that ends soon.

import { dirname } from 'node:path'
import { type Expiring, findExpiring } from '../check/expiry.js'
import { certificatePaths, checkFolder } from '../pki/files.js'
import { type ListedCertificate, listRecord } from '../pki/listing.js'
import { RecordFile } from '../pki/record-file.js'
import { printable } from '../printable.js'
import { type Arguments, type Command, type CommandIo, dirHelp, parseDays, UsageError } from './certs-command.js'

export const listCommands: Readonly<Record<string, Command>> = {
  list: {
    usage: 'certs list [--expiring DAYS] [--revoked] [--json] [--dir certs]',
    help: `Lists what the CA in DIR/ca has issued, as its record has it: serial, end, state, name. Its key is not needed.

  --expiring N those that end within N days, and were not replaced by a newer one
  --revoked    those that are revoked
  --json       one JSON object per line
${dirHelp}

Example:
  mosquitero certs list --expiring 30`,
    options: ['dir', 'expiring', 'revoked', 'json'],
    run: runList
  },
  expiring: {
    usage: 'certs expiring -c FILE [--days 30] [--json]',
    help: `Lists the certificates and revocation lists that a configuration names and that end within a number of days, or have ended. Exit status 0: none; 1: some.

  -c FILE      a mosquitto.conf; certfile, cafile, capath and crlfile of each listener are looked at, and #!enrolment_ca
  --days N     30 when left out
  --json       one JSON object per line

Example:
  mosquitero certs expiring -c /etc/mosquitto/mosquitto.conf --days 14 || mail -s certificates admin`,
    options: ['config', 'days', 'json'],
    run: runExpiring
  }
}

async function runList({ names, values }: Arguments, io: CommandIo): Promise<number> {
  if (names.length > 0) throw new UsageError('"certs list" takes no name; "certs show FILE" shows one certificate.')
  const days = values.expiring === undefined ? undefined : parseDays(values.expiring, '--expiring')
  if (days !== undefined && values.revoked) throw new UsageError('--expiring and --revoked leave nothing: what is revoked has ended.')
  const now = new Date()
  const folder = dirname(certificatePaths(values.dir, 'ca').certificate)
  await checkFolder(folder)
  const record = new RecordFile(folder)
  const { certificates, damaged } = await listRecord(record, now)
  const shown = certificates.filter(each => isWanted(each, days, values.revoked === true, now))
  io.stdout.write(values.json ? shown.map(each => `${JSON.stringify(each)}\n`).join('') : table(shown))
  if (certificates.length === 0) io.stderr.write(`${record.path} has no certificates yet.\n`)
  for (const line of damaged) io.stderr.write(`Warning: ${record.path}:${line} is damaged and left out.\n`)
  return 0
}

function isWanted({ state, notAfter, replacedBy }: ListedCertificate, days: number | undefined, revoked: boolean, now: Date): boolean {
  if (revoked) return state === 'revoked'
  if (days === undefined) return true
  return state !== 'revoked' && replacedBy === undefined && notAfter.getTime() - now.getTime() < days * 86_400_000
}

function table(certificates: readonly ListedCertificate[]): string {
  const rows = certificates.map(({ serial, notAfter, state, commonName, subject, revoked, replacedBy, details }) => {
    const since = revoked && `since ${day(revoked.at)}${revoked.reason === 'unspecified' ? '' : `, ${revoked.reason}`}`
    const more = [details?.profile, details?.names, since, replacedBy && `replaced by ${replacedBy}`].filter(Boolean).join('; ')
    return [serial, day(notAfter), state.padEnd(7), `${commonName ?? subject}${more === '' ? '' : ` (${more})`}`].join('  ')
  })
  return rows.map(row => `${printable(row)}\n`).join('')
}

async function runExpiring({ names, values }: Arguments, io: CommandIo): Promise<number> {
  if (values.config === undefined) throw new UsageError('A configuration is missing: -c FILE.')
  if (names.length > 0) throw new UsageError('"certs expiring" takes no name; -c FILE names the configuration.')
  const days = values.days === undefined ? 30 : parseDays(values.days)
  const { found, problems } = await findExpiring(values.config, io.env, { days, now: new Date() })
  for (const each of found) io.stdout.write(`${values.json ? JSON.stringify(each) : printable(sentence(each))}\n`)
  for (const problem of problems) io.stderr.write(`Error: ${problem}\n`)
  return found.length === 0 && problems.length === 0 ? 0 : 1
}

function sentence({ file, option, subject, notAfter, daysLeft }: Expiring): string {
  const what = option === 'crlfile' ? `revocation list of ${subject}` : subject
  const left = daysLeft < 0 ? `ended on ${day(notAfter)}` : `ends on ${day(notAfter)}, in ${daysLeft === 1 ? '1 day' : `${daysLeft} days`}`
  return `${file} (${option}): ${what} ${left}`
}

const day = (date: Date): string => date.toISOString().slice(0, 10)
