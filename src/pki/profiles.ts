// What each kind of certificate is for and how long it lives. The profile decides these things, never the caller or a request.

/** The key usage bits of RFC 5280, 4.2.1.3, that a broker's PKI needs. */
export type KeyUsage = 'digitalSignature' | 'keyEncipherment' | 'keyCertSign' | 'cRLSign'

export interface Profile {
  /** From notBefore to notAfter, when nobody asks for another number. */
  readonly days: number
  /** Nobody gets more than this. */
  readonly maxDays: number
  readonly ca: boolean
  readonly keyUsage: readonly KeyUsage[]
  /** Added when the certificate's key is RSA. */
  readonly rsaKeyUsage: readonly KeyUsage[]
  readonly extendedKeyUsage: readonly ('serverAuth' | 'clientAuth')[]
}

export const profiles = {
  // Ten years: replacing a CA means visiting every device. The bound only keeps dates within four-digit years.
  ca: {
    days: 3650,
    maxDays: 36500,
    ca: true,
    // cRLSign as well: the same key signs the revocation lists, and verifiers check for it [RFC 5280, 6.3.3 (f)].
    keyUsage: ['keyCertSign', 'cRLSign'],
    rsaKeyUsage: [],
    extendedKeyUsage: []
  },
  // 825 days: Apple's systems refuse a server certificate that lives longer, also one of a private CA.
  server: {
    days: 825,
    maxDays: 825,
    ca: false,
    keyUsage: ['digitalSignature'],
    // TLS 1.2 without ECDHE, which small devices still speak, encrypts its secret to the server's RSA key.
    rsaKeyUsage: ['keyEncipherment'],
    extendedKeyUsage: ['serverAuth']
  },
  // A device certificate may live as long as the device: whoever needs that says so. clientAuth alone, so that a stolen
  // device cannot pose as the broker.
  client: {
    days: 825,
    maxDays: 36500,
    ca: false,
    keyUsage: ['digitalSignature'],
    rsaKeyUsage: ['keyEncipherment'],
    extendedKeyUsage: ['clientAuth']
  }
} as const satisfies Record<string, Profile>

export type ProfileName = keyof typeof profiles

/** Clocks differ: a certificate is valid from an hour before it was made, so that a device that is slow by that much takes it. */
export const clockSkew = 60 * 60 * 1000
