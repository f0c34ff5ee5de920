// What a TLS listener works with: certificate, key, CAs, revocation lists and ciphers, read from their files once and checked as a whole
// before anything uses them. Each reading has ticket keys of its own, so that no session outlives the files it was judged by.

import { constants, createHash, createPrivateKey, type KeyObject, randomBytes, X509Certificate } from 'node:crypto'
import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import { createSecureContext, type SecureContextOptions, type TlsOptions } from 'node:tls'
import { readReason } from '../account.js'
import { readCertificate } from '../auth/certificate.js'
import { type Certificate, TrustStore, toCertificate } from '../auth/chain.js'
import type { PskEntries } from '../auth/psk-file.js'
import type { RevocationList } from '../auth/revocation.js'
import type { FileSetting, PeerRules, TlsConfig } from '../config/types.js'
import { type ErrorCode, errorMessage, type Problem, systemCode, systemReason } from '../errors.js'
import { FileReader } from '../files.js'
import { isEncryptedKey, pemBlocks } from '../pem.js'
import { worldReadable } from '../permissions.js'
import { checkLists, readCrlfile } from './crl-file.js'
import { type Report, sentence, warnAboutAuthorities, warnAboutCertificates } from './tls-warnings.js'

export interface TlsMaterial {
  readonly requireCertificate: boolean
  readonly peers: PeerRules
  /** What certfile holds: the broker's own certificate first. */
  readonly chain: readonly Certificate[]
  readonly trust: TrustStore
  /** Present with `crlfile`: then a leaf without a valid list of its issuer is refused. */
  readonly revocation?: readonly RevocationList[]
  /** For `tls.createServer`. */
  readonly serverOptions: TlsOptions
  /** Equal for equal configuration and file contents. */
  readonly digest: string
  /** Absent with pre-shared keys. */
  readonly held?: HeldFiles
  /** Intermediate CAs that clients have proven themselves with; a resumed session brings the leaf alone. */
  readonly intermediates: Map<string, Certificate>
  /** Present with `psk_hint`: the keys that stand for certificates. */
  readonly psk?: PskEntries
}

/** What the files held, to be compared with what they hold at the next reading. */
export interface HeldFiles {
  readonly certfile: { readonly digest: string; readonly notAfter: Date }
  /** A digest. */
  readonly keyfile: string
  /** Fingerprints of CAs. */
  readonly cafile: readonly string[]
  readonly capath: readonly string[]
  readonly crlfile?: { readonly digest: string; readonly revoked: number }
}

/** Reports a file as unusable; returns what its reader then returns. */
type Fail = (reason: string) => undefined

/** Reads and checks all files that a TLS listener names. No material when one of them is unusable; warnings don't prevent it. */
export async function readTlsMaterial(
  config: TlsConfig,
  now = new Date(),
  files = new FileReader()
): Promise<{ readonly material?: TlsMaterial; readonly problems: readonly Problem[] }> {
  const problems: Problem[] = []
  const report: Report = (severity, code, message, at) => {
    problems.push({ severity, code, message, at })
  }
  const certificates = await readCertfile(config.certfile, files, report)
  const key = await readKeyfile(config.keyfile, files, report)
  const { cafile, capath } = await readAuthorities(config, files, report)
  const authorities = cafile && capath && [...cafile, ...capath]
  const trust = new TrustStore(authorities ?? [])
  const lists = config.crlfile && (await readCrlfile(config.crlfile, trust, files, report))
  const ciphers = cipherList(config, report)
  const [own] = certificates ?? []
  if (own !== undefined && key !== undefined && !own.checkPrivateKey(key.key)) {
    const message = `Server certificate/key are inconsistent. keyfile "${config.keyfile.path}" does not belong to certfile "${config.certfile.path}".`
    report('error', 'ERR_TLS_KEY_MISMATCH', message, config.keyfile.at)
  }
  const chain = (certificates ?? []).map(toCertificate)
  warnAboutCertificates(chain, trust, config.certfile, now, report)
  if (authorities !== undefined) warnAboutAuthorities(config, trust, now, report)
  if (lists !== undefined) checkLists(lists, config, trust, now, report)

  if (certificates === undefined || own === undefined || key === undefined || hasError(problems)) return { problems }
  const context = secureContextOptions(config, certificates, key.pem, authorities ?? [], ciphers)
  if (!isUsable(context, config.certfile, report)) return { problems }
  return {
    problems,
    material: {
      requireCertificate: config.requireCertificate,
      peers: config.peers,
      chain,
      trust,
      ...(lists !== undefined && { revocation: lists }),
      serverOptions: serverOptions(context, config.requireCertificate),
      digest: digestOf(context, config, lists ?? []),
      held: {
        certfile: { digest: sha256(certificates.map(({ raw }) => raw)), notAfter: readCertificate(own.raw).notAfter },
        keyfile: sha256([key.pem]),
        cafile: fingerprints(cafile),
        capath: fingerprints(capath),
        ...(lists && {
          crlfile: { digest: lists.map(({ digest }) => digest).join(), revoked: lists.reduce((sum, { size }) => sum + size, 0) }
        })
      },
      intermediates: new Map()
    }
  }
}

// OpenSSL's default as Mosquitto narrows it. The TLS 1.3 suites are OpenSSL's own default.
export const defaultCiphers = 'DEFAULT:!aNULL:!eNULL:!LOW:!EXPORT:!SSLv2:@STRENGTH'
const defaultSuites = 'TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256'

function secureContextOptions(
  config: TlsConfig,
  certificates: readonly X509Certificate[],
  key: Buffer,
  authorities: readonly X509Certificate[],
  ciphers: string
): SecureContextOptions {
  return {
    cert: certificates.map(certificate => certificate.toString()).join(''),
    key,
    // Never left out: Node takes a missing `ca` for the public roots of the web.
    ca: authorities.map(certificate => certificate.toString()),
    ciphers,
    minVersion: config.minVersion,
    maxVersion: config.maxVersion ?? 'TLSv1.3',
    honorCipherOrder: true,
    ecdhCurve: 'auto',
    dhparam: 'auto',
    // Renegotiation would let a client change its certificate after we have judged it; Mosquitto switches it off as well.
    secureOptions: constants.SSL_OP_NO_RENEGOTIATION | constants.SSL_OP_NO_COMPRESSION
  }
}

function serverOptions(context: SecureContextOptions, requireCertificate: boolean): TlsOptions {
  return {
    ...context,
    requestCert: requireCertificate,
    // The decision is `judgePeer`'s: only so the log can name who was refused, and why.
    rejectUnauthorized: false,
    // A session of other material, or of another listener, can be neither decrypted nor resumed here.
    ticketKeys: randomBytes(48),
    sessionIdContext: randomBytes(16).toString('hex')
  }
}

function digestOf({ cert, key, ca, ciphers }: SecureContextOptions, config: TlsConfig, lists: readonly RevocationList[]): string {
  const hash = createHash('sha256')
  const { minVersion, maxVersion, requireCertificate, crlfile, peers } = config
  hash.update(JSON.stringify([cert, String(key), ca, ciphers, minVersion, maxVersion, requireCertificate, crlfile !== undefined, peers]))
  for (const { digest } of lists) hash.update(digest)
  return hash.digest('hex')
}

function sha256(parts: readonly Buffer[]): string {
  const hash = createHash('sha256')
  for (const part of parts) hash.update(part)
  return hash.digest('hex')
}

function fingerprints(certificates: readonly X509Certificate[] | undefined): readonly string[] {
  return (certificates ?? []).map(({ fingerprint256 }) => fingerprint256)
}

async function readCertfile(setting: FileSetting, files: FileReader, report: Report): Promise<X509Certificate[] | undefined> {
  const fail: Fail = reason => {
    report('error', 'ERR_TLS_CERTIFICATE', `Unable to load server certificate "${setting.path}". Check certfile. ${reason}`, setting.at)
    return undefined
  }
  const bytes = await readBytes(setting.path, files, fail)
  return bytes && parseCertificates(bytes, fail)
}

async function readKeyfile(setting: FileSetting, files: FileReader, report: Report): Promise<{ key: KeyObject; pem: Buffer } | undefined> {
  const failAs =
    (code: ErrorCode): Fail =>
    reason => {
      report('error', code, `Unable to load server key file "${setting.path}". Check keyfile. ${reason}`, setting.at)
      return undefined
    }
  const fail = failAs('ERR_TLS_KEY')
  const pem = await readBytes(setting.path, files, fail)
  if (pem === undefined) return undefined
  const text = pem.toString('latin1')
  if (isEncryptedKey(text)) {
    const advice = 'It is encrypted and no passphrase is asked for: decrypt it once with "openssl pkey -in KEY -out NEWKEY".'
    return failAs('ERR_TLS_KEY_ENCRYPTED')(advice)
  }
  if (!/-----BEGIN [A-Z ]*PRIVATE KEY-----/.test(text)) return fail('There is no PEM private key in it.')
  // It may be replaced just now: then the next reading says it.
  const mode = await stat(setting.path).then(
    found => found.mode,
    () => 0
  )
  const warning = worldReadable(setting.path, mode, setting.at)
  if (warning) report(warning.severity, warning.code, warning.message, setting.at)
  try {
    return { key: createPrivateKey(pem), pem }
  } catch (error) {
    return fail(sentence(opensslReason(error)))
  }
}

/** Absent: what should be there is not to be had. */
interface Authorities {
  readonly cafile: X509Certificate[] | undefined
  readonly capath: X509Certificate[] | undefined
}

async function readAuthorities({ cafile, capath }: TlsConfig, files: FileReader, report: Report): Promise<Authorities> {
  return {
    cafile: cafile ? await readCafile(cafile, files, report) : [],
    capath: capath ? await readCapath(capath, files, report) : []
  }
}

async function readCafile(setting: FileSetting, files: FileReader, report: Report): Promise<X509Certificate[] | undefined> {
  const fail: Fail = reason => {
    report('error', 'ERR_TLS_CA', `Unable to load CA certificates. Check cafile "${setting.path}". ${reason}`, setting.at)
    return undefined
  }
  const bytes = await readBytes(setting.path, files, fail)
  return bytes && parseCertificates(bytes, fail)
}

/** A folder as `openssl rehash` leaves it: `xxxxxxxx.N`, mostly links. Other names are not looked at, as in OpenSSL. */
async function readCapath(setting: FileSetting, files: FileReader, report: Report): Promise<X509Certificate[] | undefined> {
  const names = await files.list(setting.path, isHashedName).catch((error: unknown) => {
    const message = `Unable to load CA certificates. Check capath "${setting.path}". ${sentence(systemReason(error))}`
    report('error', 'ERR_TLS_CA', message, setting.at)
    return undefined
  })
  if (names === undefined) return undefined
  const certificates: X509Certificate[] = []
  for (const name of names.sort()) {
    const path = join(setting.path, name)
    const skip: Fail = reason => {
      report('warning', 'ERR_TLS_CA', `CA certificate "${path}" is left out. ${reason}`, setting.at)
      return undefined
    }
    const bytes = await readBytes(path, files, skip)
    certificates.push(...((bytes && parseCertificates(bytes, skip)) ?? []))
  }
  return certificates
}

const isHashedName = (name: string): boolean => /^[\da-f]{8}\.\d+$/.test(name)

/** Both lists in one, as Node wants them: TLS 1.3 suites alone would switch TLS 1.2 off, and the other way round. */
function cipherList({ ciphers, ciphersTls13 }: TlsConfig, report: Report): string {
  // OpenSSL passes over the TLS 1.3 names in this list, which Node would take for the other one.
  const list = ciphers?.value
    .split(/[:, ]+/)
    .filter(name => !name.startsWith('TLS_'))
    .join(':')
  if (ciphers !== undefined && (!list || !accepts(`${list}:${defaultSuites}`))) {
    report('error', 'ERR_TLS_CIPHERS', `Unable to set TLS ciphers. Check cipher list "${ciphers.value}".`, ciphers.at)
  }
  const suites = ciphersTls13?.value
  const areSuites = suites?.split(':').every(name => name.startsWith('TLS_'))
  if (ciphersTls13 !== undefined && (!areSuites || !accepts(`${defaultCiphers}:${suites}`))) {
    const message = `Unable to set TLS 1.3 ciphersuites. Check cipher_tls13 list "${ciphersTls13.value}".`
    report('error', 'ERR_TLS_CIPHERS', message, ciphersTls13.at)
  }
  return `${list ?? defaultCiphers}:${suites ?? defaultSuites}`
}

function accepts(ciphers: string): boolean {
  try {
    createSecureContext({ ciphers, ca: [] })
    return true
  } catch {
    return false
  }
}

/** The last word is OpenSSL's: it refuses small keys and weak signatures, for example. */
function isUsable(context: SecureContextOptions, { path, at }: FileSetting, report: Report): boolean {
  try {
    createSecureContext(context)
    return true
  } catch (error) {
    const message = `Unable to load server certificate "${path}". Check certfile. ${sentence(opensslReason(error))}`
    report('error', 'ERR_TLS_CERTIFICATE', message, at)
    return false
  }
}

async function readBytes(path: string, files: FileReader, fail: Fail): Promise<Buffer | undefined> {
  try {
    return await files.read(path)
  } catch (error) {
    return fail(sentence(readReason(error)))
  }
}

function parseCertificates(bytes: Buffer, fail: Fail): X509Certificate[] | undefined {
  const blocks = readBlocks(bytes, /^(X509 |TRUSTED )?CERTIFICATE$/, fail)
  if (blocks === undefined) return undefined
  if (blocks.length === 0) return fail(`There is no PEM certificate in it.${derHint(bytes, 'x509')}`)
  try {
    const certificates = blocks.map(block => new X509Certificate(block))
    // Our own reader sees them now, so that what it can't read is found at start and not at a handshake.
    for (const certificate of certificates) toCertificate(certificate)
    return certificates
  } catch (error) {
    return fail(sentence(opensslReason(error)))
  }
}

/** The texts of all blocks of a kind. A file that ends in the middle of one is still being written: nothing of it counts. */
function readBlocks(bytes: Buffer, label: RegExp, fail: Fail): string[] | undefined {
  const blocks = pemBlocks(bytes.toString('latin1')).filter(block => label.test(block.label))
  const cut = blocks.find(({ closed }) => !closed)
  return cut === undefined ? blocks.map(({ text }) => text) : fail(`It is cut off: the END line of a ${cut.label} is missing.`)
}

function derHint(bytes: Buffer, command: 'x509' | 'crl'): string {
  return bytes[0] === 0x30 ? ` It looks like DER: convert it with "openssl ${command} -inform DER -in FILE -out NEWFILE".` : ''
}

/** OpenSSL's own words, without its codes and source files. */
export function opensslReason(error: unknown): string {
  if (error instanceof Error && 'reason' in error && typeof error.reason === 'string') return error.reason
  const [, reason] = /^(?:[\dA-F]+:)?error:[\dA-F]+:[^:]*:[^:]*:([^:]+)/i.exec(errorMessage(error)) ?? []
  return reason ?? systemCode(error) ?? errorMessage(error)
}

function hasError(problems: readonly Problem[]): boolean {
  return problems.some(({ severity }) => severity === 'error')
}
