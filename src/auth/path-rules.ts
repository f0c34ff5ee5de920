// What OpenSSL asks of a path beyond issuers, signatures, CA flags and dates: purpose, strength, constraints. Asked here where OpenSSL's own
// yes is missing because something is forgiven; what can't be judged here is a no. By RFC 5280, 4.2 and 6.1, and X509_verify_cert(3).

import type { X509Certificate } from 'node:crypto'
import { readExtension } from './certificate.js'
import type { Certificate } from './chain.js'
import { childrenOf, contentOf, readElement, readObjectIdentifier, tags } from './der.js'

export interface BrokenRule {
  readonly rule: 'purpose' | 'strength' | 'constraint'
  readonly by: Certificate
  /** Goes behind the name of a CA, or behind `certificate`. */
  readonly words: string
}

/** The first rule that a path, leaf first, does not keep; undefined: it keeps all. Throws a DerError for what can't be read. */
export function brokenRule(path: readonly Certificate[]): BrokenRule | undefined {
  const [leaf] = path
  if (leaf !== undefined && path.length > 1 && leaf.fields.subjectKey === leaf.fields.issuerKey) {
    return { rule: 'constraint', by: leaf, words: 'has the same subject as its CA, so that OpenSSL takes it for self-signed' }
  }
  for (const [depth, by] of path.entries()) {
    const extensions = readExtensions(by.x509.raw)
    const broken =
      constraintIn(extensions) ??
      (depth === 0 ? leafPurpose(extensions) : undefined) ??
      extendedPurpose(extensions) ??
      weakKey(by.x509) ??
      // Nobody relies on what a root says of itself.
      (depth < path.length - 1 ? weakSignature(by.x509.raw) : undefined)
    if (broken !== undefined) return { ...broken, by }
  }
  return undefined
}

type Broken = Omit<BrokenRule, 'by'>

interface Extension {
  readonly oid: string
  readonly critical: boolean
  readonly value: Buffer
}

const oids = {
  keyUsage: '2.5.29.15',
  extendedKeyUsage: '2.5.29.37',
  nameConstraints: '2.5.29.30',
  netscapeType: '2.16.840.1.113730.1.1',
  proxyCertificate: '1.3.6.1.5.5.7.1.14',
  clientAuth: '1.3.6.1.5.5.7.3.2'
}

// What is understood here or in chain.ts, or says nothing against anybody unless it is asked about: key usage, alternative names, basic
// constraints, policies and their constraints (which OpenSSL looks at on demand alone), distribution points, extended key usage.
const understood: ReadonlySet<string> = new Set([
  ...['15', '17', '18', '19', '31', '32', '33', '36', '37', '54'].map(last => `2.5.29.${last}`),
  oids.netscapeType
])

function readExtensions(der: Buffer): readonly Extension[] {
  const [signed] = childrenOf(readElement(der))
  const list = childrenOf(signed).find(({ tag }) => tag === tags.context(3))
  return list === undefined ? [] : childrenOf(childrenOf(list, tags.context(3))[0]).map(readExtension)
}

function constraintIn(extensions: readonly Extension[]): Broken | undefined {
  const seen = new Set<string>()
  for (const { oid, critical } of extensions) {
    if (seen.has(oid)) return { rule: 'constraint', words: `has the extension ${oid} twice` }
    seen.add(oid)
    if (oid === oids.nameConstraints) return { rule: 'constraint', words: 'has name constraints, which cannot be judged here' }
    if (oid === oids.proxyCertificate) return { rule: 'constraint', words: 'is a proxy certificate' }
    if (critical && !understood.has(oid)) return { rule: 'constraint', words: `has the critical extension ${oid}, which is not supported` }
  }
  return undefined
}

const find = (extensions: readonly Extension[], oid: string): Buffer | undefined => extensions.find(each => each.oid === oid)?.value

// digitalSignature is bit 0 and keyAgreement bit 4 of keyUsage, SSL client bit 0 of Netscape's type.
function leafPurpose(extensions: readonly Extension[]): Broken | undefined {
  const usage = find(extensions, oids.keyUsage)
  const type = find(extensions, oids.netscapeType)
  if (usage !== undefined && (bitsOf(usage) & 0x88) === 0) {
    return { rule: 'purpose', words: 'is not made for clients (its key usage lacks digitalSignature)' }
  }
  return type !== undefined && (bitsOf(type) & 0x80) === 0
    ? { rule: 'purpose', words: 'is not made for clients (its Netscape type says so)' }
    : undefined
}

// Of CAs too: who may sign for servers alone has signed no client [OpenSSL, X509_check_purpose(3)].
function extendedPurpose(extensions: readonly Extension[]): Broken | undefined {
  const value = find(extensions, oids.extendedKeyUsage)
  const purposes = value && childrenOf(readElement(value)).map(purpose => readObjectIdentifier(contentOf(purpose, tags.objectIdentifier)))
  return purposes === undefined || purposes.includes(oids.clientAuth)
    ? undefined
    : { rule: 'purpose', words: 'is not made for clients (its extended key usage lacks clientAuth)' }
}

const bitsOf = (value: Buffer): number => contentOf(readElement(value), tags.bitString)[1] ?? 0

// OpenSSL's security level 2, its default from 3.2 on: 112 bits [SSL_CTX_set_security_level(3)].
const strongCurve = /(?:^|[^\d])(?:224|233|239|256|283|320|368|384|409|431|512|521|571)/

function weakKey({ publicKey }: X509Certificate): Broken | undefined {
  const { modulusLength = 0, namedCurve = '' } = publicKey.asymmetricKeyDetails ?? {}
  switch (publicKey.asymmetricKeyType) {
    case 'rsa':
    case 'rsa-pss':
      return modulusLength >= 2048 ? undefined : { rule: 'strength', words: `has an RSA key of ${modulusLength} bits; 2048 are needed` }
    case 'ec':
      return strongCurve.test(namedCurve) ? undefined : { rule: 'strength', words: `has a key on the curve ${namedCurve}; P-256 would do` }
    case 'ed25519':
    case 'ed448':
      return undefined
    default:
      return { rule: 'strength', words: `has a key of type ${publicKey.asymmetricKeyType}, which is not accepted` }
  }
}

// SHA-2 and SHA-3 from 224 bits on, with RSA and ECDSA; Ed25519 and Ed448.
const strongSignatures: ReadonlySet<string> = new Set([
  ...['11', '12', '13', '14'].map(last => `1.2.840.113549.1.1.${last}`),
  ...['1', '2', '3', '4'].map(last => `1.2.840.10045.4.3.${last}`),
  ...['9', '10', '11', '12', '13', '14', '15', '16'].map(last => `2.16.840.1.101.3.4.3.${last}`),
  '1.3.101.112',
  '1.3.101.113'
])
const rsaPss = '1.2.840.113549.1.1.10'
const strongHashes: ReadonlySet<string> = new Set(['1', '2', '3', '4', '7', '8', '9', '10'].map(last => `2.16.840.1.101.3.4.2.${last}`))

function weakSignature(der: Buffer): Broken | undefined {
  const [, algorithm] = childrenOf(readElement(der))
  const [type, parameters] = childrenOf(algorithm)
  const oid = readObjectIdentifier(contentOf(type, tags.objectIdentifier))
  if (strongSignatures.has(oid)) return undefined
  // Its hash is [0] of its parameters, SHA-1 when that is left out.
  const [hash] = oid === rsaPss && parameters ? childrenOf(parameters).filter(({ tag }) => tag === tags.context(0)) : []
  const [hashType] = hash === undefined ? [] : childrenOf(readElement(hash.content))
  if (hashType !== undefined && strongHashes.has(readObjectIdentifier(contentOf(hashType, tags.objectIdentifier)))) return undefined
  return { rule: 'strength', words: `is signed with a weak algorithm (${oid})` }
}
