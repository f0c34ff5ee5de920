// What a TLS listener works with: certificate, key, CAs, revocation lists and ciphers, read from their files once and checked as a whole
// before anything uses them. Each reading has ticket keys of its own, so that no session outlives the files it was judged by.

import { constants, createHash, createPrivateKey, type KeyObject, randomBytes, X509Certificate } from 'node:crypto'
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { createSecureContext, type SecureContextOptions, type TlsOptions } from 'node:tls'
import { readReason } from '../account.js'
import { readCertificate } from '../auth/certificate.js'
import { type Certificate, TrustStore, toCertificate } from '../auth/chain.js'
import { formatName } from '../auth/distinguished-name.js'
import { parseRevocationList, type RevocationList } from '../auth/revocation.js'
import type { FileSetting, TlsConfig } from '../config/types.js'
import { type ErrorCode, errorMessage, type Location, type Problem, systemCode, systemReason } from '../errors.js'
import { isEncryptedKey, pemBlocks } from '../pem.js'

export interface TlsMaterial {
  readonly requireCertificate: boolean
  readonly trust: TrustStore
  /** Present with `crlfile`: then a leaf without a valid list of its issuer is refused. */
  readonly revocation?: readonly RevocationList[]
  /** For `tls.createServer`. */
  readonly serverOptions: TlsOptions
  /** Equal for equal configuration and file contents. */
  readonly digest: string
  /** Intermediate CAs that clients have proven themselves with; a resumed session brings the leaf alone. */
  readonly intermediates: Map<string, Certificate>
}

type Report = (severity: Problem['severity'], code: ErrorCode, message: string, at: Location) => void
/** Reports a file as unusable; returns what its reader then returns. */
type Fail = (reason: string) => undefined

/** Reads and checks all files that a TLS listener names. No material when one of them is unusable; warnings don't prevent it. */
export async function readTlsMaterial(
  config: TlsConfig,
  now = new Date()
): Promise<{ readonly material?: TlsMaterial; readonly problems: readonly Problem[] }> {
  const problems: Problem[] = []
  const report: Report = (severity, code, message, at) => {
    problems.push({ severity, code, message, at })
  }
  const certificates = await readCertfile(config.certfile, report)
  const key = await readKeyfile(config.keyfile, report)
  const authorities = await readAuthorities(config, report)
  const lists = config.crlfile && (await readCrlfile(config.crlfile, report))
  const ciphers = cipherList(config, report)
  const [own] = certificates ?? []
  if (own !== undefined && key !== undefined && !own.checkPrivateKey(key.key)) {
    const message = `Server certificate/key are inconsistent. keyfile "${config.keyfile.path}" does not belong to certfile "${config.certfile.path}".`
    report('error', 'ERR_TLS_KEY_MISMATCH', message, config.keyfile.at)
  }
  const trust = new TrustStore(authorities ?? [])
  if (own !== undefined) warnAboutCertificate(own, trust, config.certfile, now, report)
  if (authorities !== undefined) warnAboutAuthorities(config, authorities, report)
  if (config.crlfile !== undefined && lists !== undefined) checkLists(lists, trust, config.crlfile, now, report)

  if (certificates === undefined || own === undefined || key === undefined || hasError(problems)) return { problems }
  const context = secureContextOptions(config, certificates, key.pem, authorities ?? [], ciphers)
  if (!isUsable(context, config.certfile, report)) return { problems }
  return {
    problems,
    material: {
      requireCertificate: config.requireCertificate,
      trust,
      ...(lists !== undefined && { revocation: lists.map(({ list }) => list) }),
      serverOptions: serverOptions(context, config.requireCertificate),
      digest: digestOf(context, config, lists ?? []),
      intermediates: new Map()
    }
  }
}

// OpenSSL's default as Mosquitto narrows it. The TLS 1.3 suites are OpenSSL's own default.
const defaultCiphers = 'DEFAULT:!aNULL:!eNULL:!LOW:!EXPORT:!SSLv2:@STRENGTH'
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
    maxVersion: 'TLSv1.3',
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

function digestOf({ cert, key, ca, ciphers }: SecureContextOptions, config: TlsConfig, lists: readonly LoadedList[]): string {
  const hash = createHash('sha256')
  hash.update(JSON.stringify([cert, String(key), ca, ciphers, config.minVersion, config.requireCertificate, config.crlfile !== undefined]))
  for (const { der } of lists) hash.update(der)
  return hash.digest('hex')
}

async function readCertfile(setting: FileSetting, report: Report): Promise<X509Certificate[] | undefined> {
  const fail: Fail = reason => {
    report('error', 'ERR_TLS_CERTIFICATE', `Unable to load server certificate "${setting.path}". Check certfile. ${reason}`, setting.at)
    return undefined
  }
  const bytes = await readBytes(setting.path, fail)
  return bytes && parseCertificates(bytes, fail)
}

async function readKeyfile(setting: FileSetting, report: Report): Promise<{ key: KeyObject; pem: Buffer } | undefined> {
  const failAs =
    (code: ErrorCode): Fail =>
    reason => {
      report('error', code, `Unable to load server key file "${setting.path}". Check keyfile. ${reason}`, setting.at)
      return undefined
    }
  const fail = failAs('ERR_TLS_KEY')
  const pem = await readBytes(setting.path, fail)
  if (pem === undefined) return undefined
  const text = pem.toString('latin1')
  if (isEncryptedKey(text)) {
    const advice = 'It is encrypted and no passphrase is asked for: decrypt it once with "openssl pkey -in KEY -out NEWKEY".'
    return failAs('ERR_TLS_KEY_ENCRYPTED')(advice)
  }
  if (!/-----BEGIN [A-Z ]*PRIVATE KEY-----/.test(text)) return fail('There is no PEM private key in it.')
  try {
    return { key: createPrivateKey(pem), pem }
  } catch (error) {
    return fail(sentence(opensslReason(error)))
  }
}

async function readAuthorities({ cafile, capath }: TlsConfig, report: Report): Promise<X509Certificate[] | undefined> {
  const ofFile = cafile ? await readCafile(cafile, report) : []
  const ofPath = capath ? await readCapath(capath, report) : []
  return ofFile && ofPath && [...ofFile, ...ofPath]
}

async function readCafile(setting: FileSetting, report: Report): Promise<X509Certificate[] | undefined> {
  const fail: Fail = reason => {
    report('error', 'ERR_TLS_CA', `Unable to load CA certificates. Check cafile "${setting.path}". ${reason}`, setting.at)
    return undefined
  }
  const bytes = await readBytes(setting.path, fail)
  return bytes && parseCertificates(bytes, fail)
}

/** A folder as `openssl rehash` leaves it: `xxxxxxxx.N`, mostly links. Other names are not looked at, as in OpenSSL. */
async function readCapath(setting: FileSetting, report: Report): Promise<X509Certificate[] | undefined> {
  const names = await readdir(setting.path).catch((error: unknown) => {
    const message = `Unable to load CA certificates. Check capath "${setting.path}". ${sentence(systemReason(error))}`
    report('error', 'ERR_TLS_CA', message, setting.at)
    return undefined
  })
  if (names === undefined) return undefined
  const certificates: X509Certificate[] = []
  for (const name of names.filter(name => /^[\da-f]{8}\.\d+$/.test(name)).sort()) {
    const path = join(setting.path, name)
    const skip: Fail = reason => {
      report('warning', 'ERR_TLS_CA', `CA certificate "${path}" is left out. ${reason}`, setting.at)
      return undefined
    }
    const bytes = await readBytes(path, skip)
    certificates.push(...((bytes && parseCertificates(bytes, skip)) ?? []))
  }
  return certificates
}

interface LoadedList {
  readonly list: RevocationList
  readonly der: Buffer
}

async function readCrlfile(setting: FileSetting, report: Report): Promise<LoadedList[] | undefined> {
  const fail: Fail = reason => {
    report('error', 'ERR_TLS_CRL', `Unable to load certificate revocation file "${setting.path}". Check crlfile. ${reason}`, setting.at)
    return undefined
  }
  const bytes = await readBytes(setting.path, fail)
  if (bytes === undefined) return undefined
  const blocks = readBlocks(bytes, /^X509 CRL$/, fail)
  if (blocks === undefined) return undefined
  if (blocks.length === 0) return fail(`There is no PEM revocation list in it.${derHint(bytes, 'crl')}`)
  const lists: LoadedList[] = []
  for (const block of blocks) {
    const der = Buffer.from(block.replaceAll(/-----[^-]+-----/g, ''), 'base64')
    try {
      lists.push({ list: parseRevocationList(der), der })
    } catch (error) {
      return fail(sentence(`revocation list ${lists.length + 1} cannot be used: ${errorMessage(error)}`))
    }
  }
  return lists
}

function checkLists(lists: readonly LoadedList[], trust: TrustStore, { path, at }: FileSetting, now: Date, report: Report): void {
  for (const { list } of lists) {
    const signers = trust.named(list.issuerKey)
    if (signers.length === 0) {
      report('warning', 'ERR_TLS_CRL', `The CRL of ${list.issuer} in crlfile "${path}" belongs to no CA in cafile or capath.`, at)
    } else if (!signers.some(signer => list.isSignedBy(signer))) {
      const message = `Unable to load certificate revocation file "${path}". Check crlfile. The CRL of ${list.issuer} is not signed by that CA.`
      report('error', 'ERR_TLS_CRL', message, at)
    }
    if (list.nextUpdate !== undefined && list.nextUpdate < now) {
      const message = `The CRL of ${list.issuer} in crlfile "${path}" expired on ${dateOf(list.nextUpdate)}: every client of that CA will be refused.`
      report('warning', 'ERR_TLS_CRL', message, at)
    }
  }
}

function warnAboutCertificate(own: X509Certificate, trust: TrustStore, { path, at }: FileSetting, now: Date, report: Report): void {
  const { subject, subjectKey, issuerKey, notBefore, notAfter } = readCertificate(own.raw)
  const warn = (message: string): void => report('warning', 'ERR_TLS_CERTIFICATE', message, at)
  if (notAfter < now) warn(`certfile "${path}" expired on ${dateOf(notAfter)}: clients will refuse it.`)
  if (notBefore > now) warn(`certfile "${path}" is not valid before ${dateOf(notBefore)}: clients will refuse it.`)
  if (own.subjectAltName === undefined) {
    warn(`certfile "${path}" has no subjectAltName: OpenSSL clients go by its CN, most others refuse it.`)
  }
  // OpenSSL takes a certificate whose issuer bears its own name for a self-signed one.
  if (subjectKey === issuerKey && trust.named(issuerKey).some(({ x509 }) => !x509.raw.equals(own.raw))) {
    const message = `certfile "${path}" has the same subject as its CA (${formatName(subject)}): OpenSSL takes it for self-signed, so clients refuse it. Give the CA another subject.`
    report('warning', 'ERR_TLS_SAME_SUBJECT', message, at)
  }
}

function warnAboutAuthorities(config: TlsConfig, authorities: readonly X509Certificate[], report: Report): void {
  if (authorities.length > 0) return
  if (config.capath !== undefined) {
    const message = `There is no certificate with a hashed name in capath "${config.capath.path}": run "openssl rehash" on it.`
    report('warning', 'ERR_TLS_CA', message, config.capath.at)
  }
  if (config.requireCertificate) {
    report('warning', 'ERR_TLS_CA', 'require_certificate is true, and there is no CA: every client will be refused.', config.certfile.at)
  }
}

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

async function readBytes(path: string, fail: Fail): Promise<Buffer | undefined> {
  try {
    return await readFile(path)
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

/** The day, in UTC: `2026-01-02`. */
export function dateOf(date: Date): string {
  return date.toISOString().slice(0, 10)
}

function hasError(problems: readonly Problem[]): boolean {
  return problems.some(({ severity }) => severity === 'error')
}

function sentence(text: string): string {
  return `${text.slice(0, 1).toUpperCase()}${text.slice(1)}${text.endsWith('.') ? '' : '.'}`
}
