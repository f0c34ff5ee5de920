// The extensions of what a CA issues: what a profile says, for one key, under one issuer.

import type { webcrypto } from 'node:crypto'
import {
  AuthorityKeyIdentifierExtension,
  BasicConstraintsExtension,
  ExtendedKeyUsage,
  ExtendedKeyUsageExtension,
  Extension,
  KeyUsageFlags,
  KeyUsagesExtension,
  SubjectAlternativeNameExtension,
  SubjectKeyIdentifierExtension,
  type X509Certificate
} from './library.js'
import type { AlternativeName } from './names.js'
import { type Profile, type ProfileName, profiles } from './profiles.js'

/** What they are made of. */
export interface ExtensionFacts {
  readonly profile: ProfileName
  readonly names: readonly AlternativeName[]
  readonly hasSubject: boolean
  readonly publicKey: webcrypto.CryptoKey
  /** Absent: self-signed. */
  readonly issuer: X509Certificate | undefined
}

export async function extensionsOf({ profile: name, names, hasSubject, publicKey, issuer }: ExtensionFacts): Promise<Extension[]> {
  const profile: Profile = profiles[name]
  const extensions: Extension[] = [
    // Critical for a CA, as RFC 5280, 4.2.1.9 wants it.
    new BasicConstraintsExtension(profile.ca, undefined, profile.ca),
    new KeyUsagesExtension(keyUsageBits(profile, publicKey), true),
    await SubjectKeyIdentifierExtension.create(publicKey)
  ]
  if (issuer !== undefined) extensions.push(await authorityKeyIdentifier(issuer))
  if (profile.extendedKeyUsage.length > 0) {
    extensions.push(new ExtendedKeyUsageExtension(profile.extendedKeyUsage.map(usage => ExtendedKeyUsage[usage])))
  }
  // An empty subject makes the alternative name the only one, and critical [RFC 5280, 4.2.1.6].
  if (names.length > 0) extensions.push(new SubjectAlternativeNameExtension([...names], !hasSubject))
  return extensions
}

/** The issuer's own identifier, if it has one: an adopted CA may have computed it in another way [RFC 5280, 4.2.1.1]. */
export async function authorityKeyIdentifier(issuer: X509Certificate): Promise<Extension> {
  const own = issuer.getExtension(SubjectKeyIdentifierExtension)
  return own === null ? AuthorityKeyIdentifierExtension.create(issuer.publicKey) : new AuthorityKeyIdentifierExtension(own.keyId)
}

/** An INTEGER of six octets: milliseconds since 1970 fit until the year 6429, and the first octet stays below 0x80. */
export function crlNumber(at: Date): Extension {
  const value = Buffer.alloc(8)
  value.set([0x02, 6])
  value.writeUIntBE(at.getTime(), 2, 6)
  return new Extension('2.5.29.20', false, value)
}

function keyUsageBits(profile: Profile, publicKey: webcrypto.CryptoKey): number {
  const isRsa = publicKey.algorithm.name.startsWith('RSA')
  const usages = isRsa ? [...profile.keyUsage, ...profile.rsaKeyUsage] : profile.keyUsage
  return usages.reduce((bits, usage) => bits | KeyUsageFlags[usage], 0)
}
