// `mosquitero certs invite` on the side of the CA, and `retrieve` on a device: from a secret to the three files that a device needs.

import { createPrivateKey, X509Certificate } from 'node:crypto'
import { dirname, join } from 'node:path'
import { BrokerError } from '../errors.js'
import { pemBlocks } from '../pem.js'
import { checkEnrolled, createKey, createRequest, fingerprintOf } from '../pki/device.js'
import { type CertificatePaths, certificatePaths, existing, pathsOf, readFileBounded, replaceFile, writeNew } from '../pki/files.js'
import { checkDeviceId, Invitations } from '../pki/invitations.js'
import { parsePrivateKey } from '../pki/keys.js'
import {
  type Arguments,
  type Command,
  type CommandIo,
  dirHelp,
  quote,
  reportCertificate,
  secretVariable,
  UsageError
} from './certs-command.js'
import { type EnrolmentClient, enrolmentClient, parseEnrolmentUrl } from './enrolment-client.js'

export const enrolCommands: Readonly<Record<string, Command>> = {
  invite: {
    usage: 'certs invite DEVICE_ID [--ttl 1h] [--url https://HOST:PORT] [--dir certs] [--json]',
    help: `Makes a secret by which a device gets its first certificate from the enrolment listener. It is shown once, good once, and an earlier one of
the same device is void.

  --ttl TIME   how long it is good: 30s, 15m, 1h, 7d; an hour when left out, 30 days at most
  --url URL    the enrolment listener as devices reach it, for the line that is printed
${dirHelp}`,
    options: ['ttl', 'url', 'dir', 'json'],
    run: invite
  },
  retrieve: {
    usage: 'certs retrieve https://HOST:PORT DEVICE_ID [--fingerprint SHA256 | --cafile FILE] [--secret TEXT] [--renew] [--dir certs]',
    help: `On a device: makes a key and a request, gets the certificate for it, and leaves DEVICE_ID.key, DEVICE_ID.crt and ca.crt in the folder. The key
never leaves the device. With --renew the certificate that is there gets a new one for the same key.

  --fingerprint SHA256  of the CA's certificate, as "certs invite" prints it; or
  --cafile FILE         the CA's certificate; ca.crt in the folder when it is there
  --secret TEXT         what "certs invite" printed; better in ${secretVariable}, or asked for
  --renew               renew the certificate in the folder
${dirHelp}`,
    options: ['fingerprint', 'cafile', 'secret', 'renew', 'dir'],
    run: retrieve
  }
}

async function invite({ names, values }: Arguments, io: CommandIo): Promise<number> {
  const [deviceId, ...more] = names
  if (deviceId === undefined || more.length > 0) throw new UsageError('Name one device.')
  // A secret that the printed line cannot use would be lost, and an earlier one with it.
  if (values.url !== undefined) parseEnrolmentUrl(values.url)
  const { certificate } = certificatePaths(values.dir, 'ca')
  const authority = (await readFileBounded(certificate)).toString('latin1')
  const lifetime = values.ttl === undefined ? undefined : parseDuration(values.ttl)
  const { secret, expires } = await new Invitations(dirname(certificate)).invite(deviceId, lifetime)
  const fingerprint = fingerprintOf(authority)
  if (values.json) {
    io.stdout.write(`${JSON.stringify({ deviceId, secret, expires: expires.toISOString(), fingerprint })}\n`)
    return 0
  }
  const url = values.url ?? 'https://HOST:8443'
  io.stdout.write(`Secret of ${deviceId}, good once until ${expires.toISOString().slice(0, 19).replace('T', ' ')} UTC:
  ${secret}
On the device:
  ${secretVariable}=${secret} mosquitero certs retrieve ${quote(url)} ${quote(deviceId)} --fingerprint ${fingerprint}
`)
  return 0
}

const units: Readonly<Record<string, number>> = { s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 }

function parseDuration(text: string): number {
  const [, number, unit = ''] = /^([1-9]\d{0,6})([smhd])$/.exec(text) ?? []
  const factor = units[unit]
  if (number === undefined || factor === undefined) throw new UsageError(`--ttl ${JSON.stringify(text)} is no time: 30s, 15m, 1h or 7d.`)
  return Number(number) * factor
}

async function retrieve({ names, values }: Arguments, io: CommandIo): Promise<number> {
  const [address, deviceId, ...more] = names
  if (address === undefined || deviceId === undefined || more.length > 0) throw new UsageError('Name the enrolment server and the device.')
  const url = parseEnrolmentUrl(address)
  checkDeviceId(deviceId)
  const paths = pathsOf(join(values.dir, deviceId))
  const caPath = join(values.dir, 'ca.crt')
  const found = await existing(paths)
  if (values.renew && !(found.certificate && found.key)) {
    throw new BrokerError('ERR_PKI_FILE', `There is nothing to renew: ${found.key ? paths.certificate : paths.key} is missing.`)
  }
  if (!values.renew && found.certificate) {
    throw new BrokerError('ERR_PKI_EXISTS', `${paths.certificate} exists and is not overwritten; --renew renews it.`)
  }
  const authority = await findAuthority(url, caPath, values)
  const client = enrolmentClient(url, authority)
  if (values.renew) await renew(client, deviceId, paths, authority)
  else await enrol(client, deviceId, paths, authority, found.key, await secretOf(deviceId, values.secret, io))
  if (!(await isThere(caPath))) await writeNew(caPath, authority, 0o644)
  reportCertificate(io, paths.certificate, { certificate: (await readFileBounded(paths.certificate)).toString('latin1') })
  io.stdout.write(`${paths.key}: its private key, readable by its owner alone\n${caPath}: the CA, by which the broker is known\n`)
  return 0
}

async function enrol(
  client: EnrolmentClient,
  deviceId: string,
  paths: CertificatePaths,
  authority: string,
  hasKey: boolean,
  secret: string
): Promise<void> {
  // One that an earlier try has left is as good as a new one.
  if (!hasKey) await writeNew(paths.key, await createKey(), 0o600)
  const key = await readKey(paths.key)
  const certificate = await client.enrol(deviceId, secret, await createRequest(deviceId, key, paths.key))
  checkEnrolled(certificate, { commonName: deviceId, key, authority })
  await writeNew(paths.certificate, certificate, 0o644)
}

async function renew(client: EnrolmentClient, deviceId: string, paths: CertificatePaths, authority: string): Promise<void> {
  const key = await readKey(paths.key)
  const current = firstCertificate((await readFileBounded(paths.certificate)).toString('latin1'), paths.certificate)
  if (!new X509Certificate(current).checkPrivateKey(createPrivateKey(key))) {
    throw new BrokerError('ERR_TLS_KEY_MISMATCH', `${paths.key} is not the key of ${paths.certificate}.`)
  }
  const certificate = await client.reenrol({ certificate: current, key }, await createRequest(deviceId, key, paths.key))
  checkEnrolled(certificate, { commonName: deviceId, key, authority })
  await replaceFile(paths.certificate, certificate, 0o644)
}

/** One that can be used by whoever is alone with it, as devices are. */
async function readKey(file: string): Promise<string> {
  const pem = (await readFileBounded(file)).toString('latin1')
  parsePrivateKey(pem, undefined, file)
  return pem
}

// Nothing secret is sent to anybody who is not proven to be the CA's: by a file that is here, or by the fingerprint of what it sends.
async function findAuthority(url: URL, caPath: string, values: Arguments['values']): Promise<string> {
  const file = values.cafile ?? ((await isThere(caPath)) ? caPath : undefined)
  const fingerprint = values.fingerprint?.replaceAll(':', '').toLowerCase()
  if (fingerprint !== undefined && !/^[\da-f]{64}$/.test(fingerprint))
    throw new UsageError('--fingerprint is a SHA-256: 64 hexadecimal digits.')
  if (file !== undefined) {
    const pem = firstCertificate((await readFileBounded(file)).toString('latin1'), file)
    if (fingerprint === undefined || fingerprintOf(pem) === fingerprint) return pem
    throw new BrokerError('ERR_PKI_INPUT', `${file} has another fingerprint than --fingerprint: ${fingerprintOf(pem)}.`)
  }
  if (fingerprint === undefined) {
    throw new UsageError('By what is the CA known? Give --fingerprint as "certs invite" printed it, or --cafile.')
  }
  const sent = await enrolmentClient(url, undefined).authorities()
  const authority = sent.find(pem => fingerprintOf(pem) === fingerprint)
  if (authority !== undefined) return authority
  const seen = sent.map(fingerprintOf).join(', ') || 'none'
  throw new BrokerError('ERR_PKI_INPUT', `${url.host} is not to be trusted: its CA has another fingerprint (${seen}).`)
}

function firstCertificate(text: string, file: string): string {
  const block = pemBlocks(text).find(({ label }) => label === 'CERTIFICATE')
  try {
    if (block !== undefined) return new X509Certificate(block.text).toString()
  } catch {
    // Said below.
  }
  throw new BrokerError('ERR_PKI_INPUT', `${file} holds no certificate that can be read.`)
}

async function secretOf(deviceId: string, given: string | undefined, io: CommandIo): Promise<string> {
  const secret = given ?? io.env[secretVariable] ?? (await io.askPassphrase?.(`Secret of ${deviceId}: `))
  if (secret !== undefined && secret.trim() !== '') return secret.trim()
  throw new BrokerError('ERR_PKI_INPUT', `There is no secret: give it as ${secretVariable}, as "certs invite" printed it.`)
}

async function isThere(file: string): Promise<boolean> {
  return (await existing({ certificate: file, key: file })).certificate
}
