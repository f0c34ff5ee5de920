// Certificates for tests: a CA of its own for each call, files on disk, EC unless asked otherwise, so that each takes milliseconds.

import { sign } from 'node:crypto'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import {
  type Authority,
  type Issued,
  issueCertificate,
  issueCrl,
  type KeyType,
  type Period,
  parseAuthority,
  type Revocation,
  type RevocationReason,
  type Subject
} from '../../dist/pki/authority.js'
import { PemConverter, X509Certificate } from '../../dist/pki/library.js'
import { parseAlternativeName } from '../../dist/pki/names.js'
import type { ProfileName } from '../../dist/pki/profiles.js'

/** What `testPki` needs of a tap test. */
interface TestScope {
  teardown(close: () => void): void
}

export interface CertificateFiles {
  /** PEM file; below an intermediate CA: the certificate and then the intermediate's, as a TLS peer sends them. */
  readonly cert: string
  readonly key: string
  /** The root that verifies it. */
  readonly ca: string
  readonly serial: string
  /** The CA that signed it, for `revoke`. */
  readonly issuer: TestAuthority
}

/** A CA with its files. `chain` is empty for a root. */
export interface TestAuthority {
  readonly name: string
  readonly cert: string
  readonly key: string
  /** The root's certificate file: its own for a root. */
  readonly root: string
  /** PEM of the CAs between a leaf and the root. */
  readonly chain: string
  readonly authority: Authority
  readonly revoked: Revocation[]
}

interface ValidityOptions {
  /** Ended yesterday. */
  readonly expired?: boolean
  /** Begins tomorrow. */
  readonly notYetValid?: boolean
  /** Any other dates. */
  readonly period?: Period
  readonly keyType?: KeyType
  /** Replaces the whole subject: two CNs, none, more fields; `[]` is the empty subject. */
  readonly subject?: Subject
}

interface LeafOptions extends ValidityOptions {
  /** Signs it; the root CA when left out. */
  readonly ca?: TestAuthority
  /** File name without ending. */
  readonly file?: string
  /** X.509 v1, without extensions, as OpenSSL's `x509 -req` makes them. EC only. */
  readonly v1?: boolean
  /** subjectAltNames: host names and addresses; `[]` for none. */
  readonly names?: readonly string[]
}

export interface TestPki {
  readonly dir: string
  /** `ca.crt`. */
  readonly ca: string
  readonly root: TestAuthority
  /** Another CA: unrelated, or under `issuer`. The same name may be used twice. */
  authority(name: string, options?: ValidityOptions & { issuer?: TestAuthority; file?: string }): Promise<TestAuthority>
  /** The broker's certificate: localhost, 127.0.0.1 and ::1 unless `names` says otherwise. */
  server(options?: LeafOptions): Promise<CertificateFiles>
  client(commonName: string, options?: LeafOptions): Promise<CertificateFiles>
  /** Adds a certificate to its CA's list, writes the list as `crl()` does and returns its path. */
  revoke(leaf: CertificateFiles, options?: CrlOptions & { reason?: RevocationReason }): Promise<string>
  /** Writes the revocation list of a CA (the root's when left out) and returns its path. */
  crl(options?: CrlOptions & { ca?: TestAuthority }): Promise<string>
}

interface CrlOptions {
  /** `ca.crl` in the folder when left out. */
  readonly file?: string
  /** Its nextUpdate was yesterday. */
  readonly expired?: boolean
  /** Until its nextUpdate; 60 when left out. */
  readonly days?: number
}

/**
 * A CA in a new folder (or in `dir`), with everything that tests need from it. The folder goes away at the end of the test.
 * Not `t.testdir()`: a second call of that in the same test would wipe these files.
 */
export async function testPki(t: TestScope, dir?: string): Promise<TestPki> {
  return createPki(dir ?? ownFolder(t))
}

function ownFolder(t: TestScope): string {
  const dir = mkdtempSync(join(tmpdir(), 'mosquitero-pki-'))
  t.teardown(() => rmSync(dir, { recursive: true, force: true }))
  return dir
}

async function createPki(dir: string): Promise<TestPki> {
  const root = await createTestAuthority(dir, 'Test CA', { file: 'ca' })

  async function leaf(profile: ProfileName, name: string, options: LeafOptions): Promise<CertificateFiles> {
    const issuer = options.ca ?? root
    const issued = await issue(issuer.authority, profile, name, options)
    const certificate = options.v1 ? asVersion1(issued.certificate, issuer) : issued.certificate
    const path = join(dir, options.file ?? name.replaceAll(/[^\w.-]/g, '_'))
    write(`${path}.crt`, certificate + issuer.chain)
    write(`${path}.key`, issued.key)
    return { cert: `${path}.crt`, key: `${path}.key`, ca: issuer.root, serial: issued.serial, issuer }
  }

  async function crl({
    ca = root,
    file = join(dir, 'ca.crl'),
    expired = false,
    days = 60
  }: CrlOptions & { ca?: TestAuthority } = {}): Promise<string> {
    const thisUpdate = expired ? daysFromNow(-30) : new Date()
    write(file, await issueCrl(ca.authority, ca.revoked, { thisUpdate, nextUpdate: daysFromNow(expired ? -1 : days) }))
    return file
  }

  return {
    dir,
    ca: root.cert,
    root,
    authority: (name, options = {}) => createTestAuthority(dir, name, options),
    server: (options = {}) => leaf('server', 'localhost', { file: 'server', names: ['localhost', '127.0.0.1', '::1'], ...options }),
    client: (commonName, options = {}) => leaf('client', commonName, options),
    crl,
    revoke(leaf, { reason = 'keyCompromise', ...options } = {}) {
      leaf.issuer.revoked.push({ serial: leaf.serial, at: new Date(), reason })
      return crl({ ca: leaf.issuer, ...options })
    }
  }
}

async function createTestAuthority(
  dir: string,
  name: string,
  options: ValidityOptions & { issuer?: TestAuthority; file?: string }
): Promise<TestAuthority> {
  const issued = await issue(options.issuer?.authority, 'ca', name, options)
  const path = join(dir, options.file ?? name.replaceAll(/[^\w.-]/g, '_'))
  const cert = `${path}.crt`
  write(cert, issued.certificate)
  write(`${path}.key`, issued.key)
  return {
    name,
    cert,
    key: `${path}.key`,
    root: options.issuer?.root ?? cert,
    chain: options.issuer === undefined ? '' : issued.certificate + options.issuer.chain,
    authority: await parseAuthority(issued),
    revoked: []
  }
}

function issue(issuer: Authority | undefined, profile: ProfileName, commonName: string, options: LeafOptions): Promise<Issued> {
  return issueCertificate(issuer, {
    profile,
    subject: options.subject ?? [['CN', commonName]],
    period: options.period ?? periodOf(options),
    key: options.keyType ?? 'ec',
    names: (options.names ?? []).map(parseAlternativeName)
  })
}

function periodOf({ expired, notYetValid }: ValidityOptions): Period {
  if (expired) return { notBefore: daysFromNow(-30), notAfter: daysFromNow(-1) }
  if (notYetValid) return { notBefore: daysFromNow(1), notAfter: daysFromNow(60) }
  // Long enough that nobody is warned of its end.
  return { notBefore: daysFromNow(-1), notAfter: daysFromNow(60) }
}

const daysFromNow = (days: number): Date => new Date(Date.now() + days * 86_400_000)

function write(path: string, text: string): void {
  mkdirSync(dirname(path), { recursive: true })
  writeFileSync(path, text, { mode: path.endsWith('.key') ? 0o600 : 0o644 })
}

// The library makes v3 alone: take the version and the extensions out of what it made, and sign again.
function asVersion1(pem: string, issuer: TestAuthority): string {
  const [tbs, algorithm] = childrenOf(Buffer.from(new X509Certificate(pem).rawData))
  if (tbs === undefined || algorithm === undefined) throw new TypeError('not a certificate')
  // [0] is the version, [3] the extensions.
  const toBeSigned = sequence(childrenOf(tbs).filter(field => field[0] !== 0xa0 && field[0] !== 0xa3))
  const signature = sign('sha256', toBeSigned, readFileSync(issuer.key))
  return `${PemConverter.encode(sequence([toBeSigned, algorithm, bitString(signature)]), 'CERTIFICATE')}\n`
}

function childrenOf(der: Buffer): Buffer[] {
  const children: Buffer[] = []
  let [position] = extentOf(der, 0)
  while (position < der.length) {
    const [content, length] = extentOf(der, position)
    children.push(der.subarray(position, content + length))
    position = content + length
  }
  return children
}

function extentOf(der: Buffer, position: number): [content: number, length: number] {
  const first = der.readUInt8(position + 1)
  if (first < 0x80) return [position + 2, first]
  const octets = first & 0x7f
  return [position + 2 + octets, der.readUIntBE(position + 2, octets)]
}

const sequence = (fields: Buffer[]): Buffer => element(0x30, Buffer.concat(fields))
const bitString = (bits: Buffer): Buffer => element(0x03, Buffer.concat([Buffer.of(0), bits]))

function element(tag: number, content: Buffer): Buffer {
  const length = Buffer.alloc(2)
  length.writeUInt16BE(content.length)
  if (content.length < 0x80) return Buffer.concat([Buffer.of(tag, content.length), content])
  if (content.length < 0x100) return Buffer.concat([Buffer.of(tag, 0x81, content.length), content])
  return Buffer.concat([Buffer.of(tag, 0x82), length, content])
}
