// The entries of a revocation list. The library takes minutes for a hundred thousand of them, so it makes the list without any, and here they are
// put in and the whole is signed again: DER that is only written [RFC 5280, 5.1].

import { KeyObject, sign } from 'node:crypto'
import { childrenOf, encodingOf, readElement, tags } from '../auth/der.js'
import type { Authority, Revocation } from './authority.js'
import { X509CrlReason } from './library.js'

type Signer = Pick<Authority, 'signingKey' | 'signingAlgorithm'>

/** The list with these entries, signed by the same key that signed it without. */
export function withEntries(list: Buffer, revoked: readonly Revocation[], { signingKey, signingAlgorithm }: Signer): Buffer {
  if (revoked.length === 0) return list
  const [signed, algorithm] = childrenOf(readElement(list))
  const fields = childrenOf(signed)
  const parts = fields.map(field => encodingOf(signed?.content ?? list, field))
  // version, signature, issuer, thisUpdate, nextUpdate, then the entries, then the extensions.
  parts.splice(5, 0, encode(tags.sequence, revoked.map(encodeEntry)))
  const toBeSigned = encode(tags.sequence, parts)
  const signature = sign(signingAlgorithm.hash?.replace('-', ''), toBeSigned, KeyObject.from(signingKey))
  const outer = readElement(list).content
  return encode(tags.sequence, [
    toBeSigned,
    algorithm === undefined ? Buffer.alloc(0) : encodingOf(outer, algorithm),
    encode(tags.bitString, [Buffer.from([0]), signature])
  ])
}

function encodeEntry({ serial, at, reason }: Revocation): Buffer {
  const number = Buffer.from(serial.length % 2 === 0 ? serial : `0${serial}`, 'hex')
  const first = number[0] ?? 0
  const parts = [encode(tags.integer, first < 0x80 ? [number] : [Buffer.from([0]), number]), encodeTime(at)]
  // No reason is said by leaving it out [RFC 5280, 5.3.1].
  return encode(tags.sequence, reason === 'unspecified' ? parts : [...parts, reasonExtensions(X509CrlReason[reason])])
}

/** id-ce-cRLReasons with an ENUMERATED in it. */
function reasonExtensions(reason: number): Buffer {
  return Buffer.from([0x30, 0x0c, 0x30, 0x0a, 0x06, 0x03, 0x55, 0x1d, 0x15, 0x04, 0x03, 0x0a, 0x01, reason])
}

function encodeTime(date: Date): Buffer {
  const digits = `${date.toISOString().replaceAll(/[-:T]/g, '').slice(0, 14)}Z`
  const isShort = date.getUTCFullYear() >= 1950 && date.getUTCFullYear() < 2050
  return encode(isShort ? tags.utcTime : tags.generalizedTime, [Buffer.from(isShort ? digits.slice(2) : digits, 'latin1')])
}

function encode(tag: number, parts: readonly Buffer[]): Buffer {
  const length = parts.reduce((sum, part) => sum + part.length, 0)
  return Buffer.concat([Buffer.from([tag, ...encodeLength(length)]), ...parts])
}

function encodeLength(length: number): number[] {
  if (length < 0x80) return [length]
  const bytes: number[] = []
  for (let rest = length; rest > 0; rest = Math.floor(rest / 256)) bytes.unshift(rest % 256)
  return [0x80 + bytes.length, ...bytes]
}
