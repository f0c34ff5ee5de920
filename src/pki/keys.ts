// Keys of certificates: which algorithms sign with them, which are strong enough, and their text under a passphrase.

import { createPrivateKey, createPublicKey, type KeyObject, webcrypto } from 'node:crypto'
import { BrokerError } from '../errors.js'
import { isEncryptedKey } from '../pem.js'

export interface SigningAlgorithm {
  readonly name: string
  readonly hash?: string
  readonly namedCurve?: string
}

const curves: Readonly<Record<string, SigningAlgorithm>> = {
  prime256v1: { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' },
  secp384r1: { name: 'ECDSA', namedCurve: 'P-384', hash: 'SHA-384' },
  secp521r1: { name: 'ECDSA', namedCurve: 'P-521', hash: 'SHA-512' }
}

/** How a key signs; undefined: it can't here. */
export function signingAlgorithmOf(key: KeyObject): SigningAlgorithm | undefined {
  switch (key.asymmetricKeyType) {
    case 'rsa':
      return { name: 'RSASSA-PKCS1-v1_5', hash: 'SHA-256' }
    case 'ed25519':
      return { name: 'Ed25519' }
    default:
      return curves[key.asymmetricKeyDetails?.namedCurve ?? '']
  }
}

/** `ec secp256k1`, as OpenSSL calls it. */
export function keyTypeOf(key: KeyObject): string {
  return [key.asymmetricKeyType, key.asymmetricKeyDetails?.namedCurve].filter(Boolean).join(' ')
}

/** A public key for the library, from its SubjectPublicKeyInfo. */
export async function importPublicKey(spki: Buffer): Promise<webcrypto.CryptoKey> {
  const algorithm = signingAlgorithmOf(createPublicKey({ key: spki, format: 'der', type: 'spki' }))
  if (algorithm === undefined) throw new BrokerError('ERR_PKI_INPUT', 'The key of the certificate is of a kind that is not known here.')
  return webcrypto.subtle.importKey('spki', spki, algorithm, true, ['verify'])
}

// The upper bounds are for whoever has to check signatures: the time for one grows with the square of the length, and with the length of the
// exponent. Those above 32 bits are not taken by Windows either.
const minRsaBits = 2048
const maxRsaBits = 8192
const maxExponent = 2n ** 32n

/** Why a certificate for this key is not made, or undefined when it is. Completes "its key …". */
export function publicKeyProblem(key: KeyObject): string | undefined {
  const { modulusLength = 0, publicExponent = 0n, namedCurve = '' } = key.asymmetricKeyDetails ?? {}
  switch (key.asymmetricKeyType) {
    case 'rsa':
      if (modulusLength < minRsaBits) return `is RSA with ${modulusLength} bits; at least ${minRsaBits} are needed`
      if (modulusLength > maxRsaBits) return `is RSA with ${modulusLength} bits; at most ${maxRsaBits} are taken`
      // Smaller ones are where implementations of RSA have failed [NIST SP 800-56B, 6.4.1.1].
      if (publicExponent < 65537n) return `is RSA with the exponent ${publicExponent}; at least 65537 is needed`
      return publicExponent > maxExponent ? `is RSA with an exponent above ${maxExponent}; 65537 is usual` : undefined
    case 'ed25519':
      return undefined
    default:
      if (namedCurve === 'prime256v1' || namedCurve === 'secp384r1') return undefined
      return `is of type ${keyTypeOf(key) || 'unknown'}; RSA, EC P-256, EC P-384 and Ed25519 are taken`
  }
}

/** A private key from PEM. One under another passphrase, or under one that isn't given, is an ERR_TLS_KEY_ENCRYPTED. */
export function parsePrivateKey(pem: string, passphrase: string | undefined, file: string): KeyObject {
  const encrypted = isEncryptedKey(pem)
  if (encrypted && passphrase === undefined) throw new BrokerError('ERR_TLS_KEY_ENCRYPTED', `${file} is protected by a passphrase.`)
  try {
    return createPrivateKey({ key: pem, ...(passphrase === undefined ? {} : { passphrase }) })
  } catch (cause) {
    if (encrypted) throw new BrokerError('ERR_TLS_KEY_ENCRYPTED', `The passphrase does not open ${file}.`, undefined, { cause })
    throw new BrokerError('ERR_PKI_INPUT', `${file} holds no private key that can be read.`, undefined, { cause })
  }
}

/** A private key's PEM under a passphrase: PKCS#8 with PBES2, which OpenSSL, Node and most devices open. */
export function encryptKey(pem: string, passphrase: string): string {
  return createPrivateKey(pem).export({ type: 'pkcs8', format: 'pem', cipher: 'aes-256-cbc', passphrase }).toString()
}
