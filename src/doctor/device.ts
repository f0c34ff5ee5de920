// A device's files, as it would load them: its certificate with what follows in the file, its key, and the CA by which it knows the broker.

import { createPrivateKey, type KeyObject, X509Certificate } from 'node:crypto'
import { readReason } from '../account.js'
import { type Certificate, TrustStore, toCertificate } from '../auth/chain.js'
import { formatName } from '../auth/distinguished-name.js'
import type { FileReader } from '../files.js'
import { isEncryptedKey, pemBlocks } from '../pem.js'
import { type Finding, odd, wrong } from './finding.js'

/** A pre-shared key and who has it. */
export interface DeviceKey {
  readonly identity: string
  readonly key: Buffer
}

export interface DeviceFiles {
  readonly cert?: string
  readonly key?: string
  readonly cafile?: string
  readonly passphrase?: string
  readonly psk?: DeviceKey
}

export interface Device {
  /** What its certificate file holds: its own first. Empty: it has none. */
  readonly chain: readonly Certificate[]
  /** Absent: it has none, or none that belongs to the certificate. */
  readonly key?: KeyObject
  /** Absent: it was not said by which CA it knows the broker. */
  readonly trust?: TrustStore
  /** Instead of a certificate. */
  readonly psk?: DeviceKey
}

/** Reads what there is. What can't be used is left out, and found. */
export async function readDevice(
  paths: DeviceFiles,
  files: FileReader
): Promise<{ readonly device: Device; readonly findings: readonly Finding[] }> {
  const findings: Finding[] = []
  const chain = paths.cert === undefined ? [] : await readCertificates(paths.cert, '--cert', files, findings)
  const key = paths.key === undefined ? undefined : await readKey(paths.key, paths.passphrase, files, findings)
  const authorities = paths.cafile === undefined ? undefined : await readCertificates(paths.cafile, '--cafile', files, findings)
  const [own] = chain
  if (own?.fields.basicConstraints?.ca) {
    const mend = 'Name the certificate that this CA has signed for the device.'
    const what = `The file ${paths.cert} holds the certificate of a CA, ${formatName(own.fields.subject)}, not of a device.`
    // A key that may only sign certificates is none for a handshake; one that says nothing, as of "openssl req -x509", may do both.
    findings.push((own.fields.keyUsage?.certificateSign ? wrong : odd)('device-is-ca', what, mend))
  }
  if (own !== undefined && paths.key === undefined) {
    findings.push(wrong('device-file', `There is a certificate, ${paths.cert}, and no key for it.`, 'Name its private key by --key FILE.'))
  }
  const fits = own !== undefined && key !== undefined && own.x509.checkPrivateKey(key)
  if (own !== undefined && key !== undefined && !fits) {
    findings.push(
      wrong(
        'device-key-mismatch',
        `The key ${paths.key} does not belong to the certificate ${paths.cert}.`,
        'Use the key that the certificate was asked for with: "openssl x509 -in CERT -pubkey -noout" and "openssl pkey -in KEY -pubout" print the same for it.'
      )
    )
  }
  return {
    device: {
      chain,
      ...(fits && { key }),
      ...(paths.psk && { psk: paths.psk }),
      ...(authorities && authorities.length > 0 && { trust: new TrustStore(authorities.map(({ x509 }) => x509)) })
    },
    findings
  }
}

async function readCertificates(path: string, option: string, files: FileReader, findings: Finding[]): Promise<readonly Certificate[]> {
  const bytes = await readBytes(path, option, files, findings)
  if (bytes === undefined) return []
  const blocks = pemBlocks(bytes.toString('latin1')).filter(({ label }) => /^(X509 |TRUSTED )?CERTIFICATE$/.test(label))
  if (blocks.length === 0) {
    findings.push(notPem(path, bytes, 'certificate', 'x509'))
    return []
  }
  try {
    return blocks.map(({ text }) => toCertificate(new X509Certificate(text)))
  } catch {
    const mend = 'Copy the file again: it is cut off, or was changed.'
    findings.push(wrong('device-not-pem', `A certificate in ${path} cannot be read.`, mend))
    return []
  }
}

async function readKey(
  path: string,
  passphrase: string | undefined,
  files: FileReader,
  findings: Finding[]
): Promise<KeyObject | undefined> {
  const bytes = await readBytes(path, '--key', files, findings)
  if (bytes === undefined) return undefined
  const text = bytes.toString('latin1')
  const isEncrypted = isEncryptedKey(text)
  if (!pemBlocks(text).some(({ label }) => label.endsWith('PRIVATE KEY'))) {
    findings.push(notPem(path, bytes, 'private key', 'pkey'))
    return undefined
  }
  if (isEncrypted && passphrase === undefined) {
    const mend = 'Give the passphrase by MOSQUITERO_KEY_PASSPHRASE; the device must know it too.'
    findings.push(wrong('device-key-encrypted', `The key ${path} is protected by a passphrase.`, mend))
    return undefined
  }
  try {
    return createPrivateKey({ key: bytes, ...(isEncrypted && { passphrase }) })
  } catch {
    findings.push(
      isEncrypted
        ? wrong('device-key-encrypted', `The passphrase does not open ${path}.`, 'Give the one that the key was saved with.')
        : wrong('device-not-pem', `The key in ${path} cannot be read.`, 'Copy the file again: it is cut off, or was changed.')
    )
    return undefined
  }
}

function notPem(path: string, bytes: Buffer, what: string, command: 'x509' | 'pkey'): Finding {
  const looks = bytes[0] === 0x30 ? ' It looks like DER.' : ''
  const mend =
    looks === '' ? `Name the file that has "-----BEGIN" in it.` : `Convert it: openssl ${command} -inform DER -in ${path} -out NEWFILE`
  return wrong('device-not-pem', `There is no PEM ${what} in ${path}.${looks}`, mend)
}

async function readBytes(path: string, option: string, files: FileReader, findings: Finding[]): Promise<Buffer | undefined> {
  try {
    return await files.read(path)
  } catch (error) {
    const mend = `Name the file by ${option}, as an account that may read it.`
    findings.push(wrong('device-file', `Unable to read ${path}: ${readReason(error)}.`, mend))
    return undefined
  }
}
