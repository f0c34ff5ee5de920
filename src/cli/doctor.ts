// `mosquitero doctor`: why a device does not get in, tried with its own files, and what mends it.

import { parseArgs } from 'node:util'
import type { DeviceKey } from '../doctor/device.js'
import { type Diagnosis, diagnose, type ListenerDiagnosis, type Question } from '../doctor/diagnose.js'
import type { Finding } from '../doctor/finding.js'
import { formatLocation } from '../errors.js'
import { printable } from '../printable.js'
import { isTopicFilter, isTopicName } from '../topic.js'
import { isParseFault, wrongUsageWords } from './wrong-usage.js'

/** What a command has of the world; `process` fits. */
interface DoctorIo {
  readonly stdout: { write(text: string): unknown }
  readonly stderr: { write(text: string): unknown }
  readonly env: Readonly<Record<string, string | undefined>>
}

const usage = `Usage: mosquitero doctor -c FILE [--listener PORT] [--host NAME] [--cert FILE --key FILE] [--cafile FILE] [more of the device]

Says in words what keeps a device out of a broker, and what mends it. Reads the broker's configuration and the device's files, then connects as
the device does: TLS handshake, CONNECT, and a look at the ACL. Nothing is published or subscribed to.

  -c FILE             the broker's configuration (--config)
  --listener PORT     of several listeners the one that is meant: its port, "PORT ADDRESS", or its socket
  --host NAME         by which name or address the device reaches the broker; without it this machine, and no name is checked
  --cert, --key FILE  the device's certificate and private key (passphrase in MOSQUITERO_KEY_PASSPHRASE)
  --cafile FILE       the CA by which the device knows the broker
  --psk-identity ID, --psk HEX  instead of a certificate, its pre-shared key
  -i ID               its client id (--clientid). A device that is connected under it is disconnected; its session stays
  -u NAME, -P TEXT    its username and password (--username, --password; or MOSQUITERO_PASSWORD)
  -V VERSION          mqttv31, mqttv311 or mqttv5; default mqttv311 (--protocol-version)
  --tls-version V     the newest TLS that the device speaks: tlsv1, tlsv1.1, tlsv1.2 or tlsv1.3
  --ciphers LIST      the ciphers that it offers
  --publish TOPIC     may it publish there? Several are possible
  --subscribe FILTER  will anything of it reach it? Several are possible
  --offline           connect to nothing: the files alone
  --json              the same as JSON, for scripts; docs/doctor.md says what is in it

Ends with 0 when nothing keeps the device out, with 1 when something does, with 2 after wrong usage.

Example:
  mosquitero doctor -c mosquitto.conf --host mqtt.example.org --cert press-7.crt --key press-7.key --cafile ca.crt --publish plant/press-7/on
`

const wrongUsage = 2

class UsageError extends Error {}

const options = {
  config: { type: 'string', short: 'c' },
  listener: { type: 'string' },
  host: { type: 'string', short: 'h' },
  cert: { type: 'string' },
  key: { type: 'string' },
  cafile: { type: 'string' },
  'psk-identity': { type: 'string' },
  psk: { type: 'string' },
  clientid: { type: 'string', short: 'i' },
  username: { type: 'string', short: 'u' },
  password: { type: 'string', short: 'P' },
  'protocol-version': { type: 'string', short: 'V' },
  'tls-version': { type: 'string' },
  ciphers: { type: 'string' },
  publish: { type: 'string', multiple: true },
  subscribe: { type: 'string', multiple: true },
  offline: { type: 'boolean' },
  json: { type: 'boolean' },
  help: { type: 'boolean' }
} as const

/** Runs `doctor ARGV`: 0 nothing keeps the device out, 1 something does, 2 wrong usage. */
export async function runDoctor(argv: readonly string[], io: DoctorIo): Promise<number> {
  try {
    const question = parse(argv, io.env)
    if (question === 'help') {
      io.stdout.write(usage)
      return 0
    }
    const diagnosis = await diagnose(question)
    io.stdout.write(question.json ? `${JSON.stringify(diagnosis, undefined, 2)}\n` : formatDiagnosis(diagnosis, question.offline === true))
    return diagnosis.isWell ? 0 : 1
  } catch (error) {
    if (error instanceof RangeError) {
      io.stderr.write(`Error: ${error.message}.\n`)
      return wrongUsage
    }
    if (!(error instanceof UsageError) && !isParseFault(error)) throw error
    io.stderr.write(`Error: ${wrongUsageWords(error)}.\n\n${usage}`)
    return wrongUsage
  }
}

const versions: Readonly<Record<string, Question['version']>> = { mqttv31: 3, '31': 3, mqttv311: 4, '311': 4, mqttv5: 5, '5': 5 }

const tlsVersions: Readonly<Record<string, NonNullable<Question['tlsVersion']>>> = {
  tlsv1: 'TLSv1',
  'tlsv1.1': 'TLSv1.1',
  'tlsv1.2': 'TLSv1.2',
  'tlsv1.3': 'TLSv1.3'
}

function parse(argv: readonly string[], env: DoctorIo['env']): (Question & { readonly json: boolean }) | 'help' {
  const { values } = parseArgs({ args: argv.map(argument => (argument === '--config-file' ? '--config' : argument)), options })
  if (values.help) return 'help'
  if (values.config === undefined) throw new UsageError('Name the configuration by -c FILE')
  if (values.key !== undefined && values.cert === undefined)
    throw new UsageError('A key is tried with its certificate: name it by --cert FILE')
  if (values.host === '') throw new UsageError('--host is a name or an address; without it this machine is meant')
  const psk = pskOf(values['psk-identity'], values.psk)
  const version = versions[values['protocol-version'] ?? 'mqttv311']
  if (version === undefined) throw new UsageError(`There is no MQTT version '${values['protocol-version']}': mqttv31, mqttv311 or mqttv5`)
  const tlsVersion = values['tls-version']
  if (tlsVersion !== undefined && tlsVersions[tlsVersion] === undefined)
    throw new UsageError(`There is no TLS version '${tlsVersion}': tlsv1, tlsv1.1, tlsv1.2 or tlsv1.3`)
  for (const topic of values.publish ?? []) if (!isTopicName(topic)) throw new UsageError(`'${topic}' is no topic to publish to`)
  for (const filter of values.subscribe ?? []) if (!isTopicFilter(filter)) throw new UsageError(`'${filter}' is no topic filter`)
  const passphrase = env.MOSQUITERO_KEY_PASSPHRASE
  return {
    file: values.config,
    env,
    listener: values.listener,
    host: values.host,
    device: {
      ...(values.cert !== undefined && { cert: values.cert }),
      ...(values.key !== undefined && { key: values.key }),
      ...(values.cafile !== undefined && { cafile: values.cafile }),
      ...(passphrase !== undefined && { passphrase }),
      ...(psk && { psk })
    },
    clientId: values.clientid,
    username: values.username,
    password: values.password ?? env.MOSQUITERO_PASSWORD,
    version,
    tlsVersion: tlsVersion === undefined ? undefined : tlsVersions[tlsVersion],
    ciphers: values.ciphers,
    publish: values.publish ?? [],
    subscribe: values.subscribe ?? [],
    offline: values.offline,
    json: values.json ?? false
  }
}

function pskOf(identity: string | undefined, hex: string | undefined): DeviceKey | undefined {
  if (identity === undefined && hex === undefined) return undefined
  if (identity === undefined || hex === undefined) throw new UsageError('A pre-shared key is named by --psk-identity and --psk')
  if (!/^([\da-f]{2})+$/i.test(hex)) throw new UsageError('--psk is a key in hexadecimal digits')
  return { identity, key: Buffer.from(hex, 'hex') }
}

function formatDiagnosis({ file, findings, listeners, isWell }: Diagnosis, isOffline: boolean): string {
  const lines = [...findings.flatMap(findingLines), ...(findings.length > 0 ? [''] : []), ...listeners.flatMap(listenerLines)]
  const untried = isOffline ? ' Nothing was connected to.' : ''
  const verdict = isWell
    ? `Nothing was found that keeps the device out.${untried}`
    : `The device does not get everything it needs from ${file}.${untried}`
  return [...lines, verdict].map(line => `${printable(line)}\n`).join('')
}

function listenerLines({ listener, at, facts, findings }: ListenerDiagnosis): string[] {
  return [
    `Listener on ${listener}${at ? ` (${formatLocation(at)})` : ''}`,
    ...facts.map(([name, words]) => `  ${name.padEnd(10)} ${words}`),
    ...findings.flatMap(findingLines).map(line => `  ${line}`),
    ''
  ]
}

function findingLines({ cause, severity, what, mend, at }: Finding): string[] {
  const place = at ? `${formatLocation(at)}: ` : ''
  return [`${severity === 'error' ? 'wrong' : 'odd'.padEnd(5)}      ${place}${what} [${cause}]`, `           -> ${mend}`]
}
