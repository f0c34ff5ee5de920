// Messages that carry their sender's signature, so that nobody on the way can change, invent or repeat them, whoever runs the broker:
//
//   TIME MESSAGE ":" SIGNATURE
//
// TIME is ten digits, seconds since 1970. The signature is over TIME and MESSAGE: ECDSA with SHA-256 on P-256 or secp256k1, in base64.

import { createPrivateKey, createPublicKey, type KeyObject, sign, verify } from 'node:crypto'

export type Verdict =
  | { readonly ok: true; readonly time: number; readonly message: Buffer }
  | { readonly ok: false; readonly reason: 'malformed' | 'wrong signature' | 'replayed' | 'too old' | 'from the future' }

export interface VerifierOptions {
  /** Seconds since 1970. */
  readonly now?: () => number
  /** Of its clock and the sender's, and of the way between, in seconds. */
  readonly tolerance?: number
  /** The time of the last message that was accepted, from an earlier run. */
  readonly last?: number
}

const timeLength = 10
const colon = 0x3a
const curves: ReadonlySet<string | undefined> = new Set(['prime256v1', 'secp256k1'])
const now = (): number => Math.floor(Date.now() / 1000)

/** The private key in a PEM text; a TypeError when it is of another kind. */
export function readPrivateKey(pem: string | Buffer): KeyObject {
  return checked(createPrivateKey(pem))
}

/** The public key in a PEM text: a key or a certificate. */
export function readPublicKey(pem: string | Buffer): KeyObject {
  return checked(createPublicKey(pem))
}

function checked(key: KeyObject): KeyObject {
  if (!curves.has(key.asymmetricKeyDetails?.namedCurve)) throw new TypeError('the key must be an EC key on P-256 or secp256k1')
  return key
}

/** Signs messages with times that only grow: two in one second get two times. */
export class Signer {
  readonly #key: KeyObject
  readonly #now: () => number
  #last = 0

  constructor(key: KeyObject, clock: () => number = now) {
    this.#key = checked(key)
    this.#now = clock
  }

  /** The payload to publish. */
  sign(message: string | Buffer): Buffer {
    this.#last = Math.max(this.#now(), this.#last + 1)
    const signed = Buffer.concat([Buffer.from(String(this.#last).padStart(timeLength, '0')), Buffer.from(message)])
    const signature = sign('sha256', signed, { key: this.#key, dsaEncoding: 'ieee-p1363' })
    return Buffer.concat([signed, Buffer.of(colon), Buffer.from(signature.toString('base64'))])
  }
}

/** Checks the messages of one sender, in the order in which they come. */
export class Verifier {
  readonly #key: KeyObject
  readonly #now: () => number
  readonly #tolerance: number
  #last: number

  constructor(key: KeyObject, options: VerifierOptions = {}) {
    this.#key = checked(key)
    this.#now = options.now ?? now
    this.#tolerance = options.tolerance ?? 300
    this.#last = options.last ?? 0
  }

  /** The time of the last message that was accepted: to be kept, so that a replay is seen after a restart too. */
  get last(): number {
    return this.#last
  }

  verify(payload: Buffer): Verdict {
    // The message may hold colons, base64 none.
    const end = payload.lastIndexOf(colon)
    const digits = payload.subarray(0, timeLength).toString('latin1')
    const signature = end < timeLength ? undefined : signatureIn(payload.subarray(end + 1).toString('latin1'))
    if (signature === undefined || !/^\d{10}$/.test(digits)) return { ok: false, reason: 'malformed' }
    const signed = payload.subarray(0, end)
    // First of all: what nobody signed must change nothing here.
    if (!this.#isSigned(signed, signature)) return { ok: false, reason: 'wrong signature' }
    const time = Number(digits)
    if (time <= this.#last) return { ok: false, reason: 'replayed' }
    if (time < this.#now() - this.#tolerance) return { ok: false, reason: 'too old' }
    // Accepted, it would shut out everything that comes before its time.
    if (time > this.#now() + this.#tolerance) return { ok: false, reason: 'from the future' }
    this.#last = time
    return { ok: true, time, message: signed.subarray(timeLength) }
  }

  // Small libraries write the two numbers one after the other, OpenSSL writes DER.
  #isSigned(signed: Buffer, signature: Buffer): boolean {
    const dsaEncoding = signature.length === 64 ? 'ieee-p1363' : 'der'
    return verify('sha256', signed, { key: this.#key, dsaEncoding }, signature)
  }
}

// In the one way to write it: Buffer.from passes over what is no base64, and over bits that are left over at its end.
function signatureIn(base64: string): Buffer | undefined {
  const signature = Buffer.from(base64, 'base64')
  return signature.length > 0 && signature.toString('base64') === base64 ? signature : undefined
}
