// A revocation list of as many entries as one likes, which `openssl ca` would take minutes for.

import { sign, X509Certificate } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { readCertificate } from '../../dist/auth/certificate.js'
import type { TestAuthority } from './pki.js'

/** PEM. The serial numbers are `longSerial(0)` to `longSerial(count - 1)`, and those in `more`, in hexadecimal. */
export function longList(ca: TestAuthority, count: number, more: readonly string[] = []): string {
  const issuer = readCertificate(new X509Certificate(readFileSync(ca.cert)).raw).subject
  const time = (date: Date): Buffer => der(0x17, Buffer.from(`${date.toISOString().replace(/[-:T]/g, '').slice(2, 14)}Z`))
  const revokedAt = time(new Date('2026-01-01T00:00:00Z'))
  const entries = [...Array.from({ length: count }, (_, i) => longSerial(i)), ...more.map(hex => Buffer.from(hex, 'hex'))]
  const list = der(0x30, Buffer.concat(entries.map(serial => der(0x30, Buffer.concat([der(0x02, serial), revokedAt])))))
  // ecdsa-with-SHA256
  const algorithm = Buffer.from('300a06082a8648ce3d040302', 'hex')
  const [thisUpdate, nextUpdate] = [time(new Date(Date.now() - 60_000)), time(new Date(Date.now() + 60 * 86_400_000))]
  const signed = der(0x30, Buffer.concat([der(0x02, Buffer.of(1)), algorithm, issuer, thisUpdate, nextUpdate, list]))
  const signature = der(0x03, Buffer.concat([Buffer.of(0), sign('sha256', signed, readFileSync(ca.key))]))
  const base64 = der(0x30, Buffer.concat([signed, algorithm, signature])).toString('base64')
  return `-----BEGIN X509 CRL-----\n${base64.replaceAll(/.{64}/g, '$&\n')}\n-----END X509 CRL-----\n`
}

/** Sixteen octets, the first of them not zero, as CAs make them. */
export function longSerial(i: number): Buffer {
  const serial = Buffer.alloc(16, 0x5a)
  serial.writeUInt32BE(i, 6)
  return serial
}

function der(tag: number, content: Buffer): Buffer {
  const { length } = content
  if (length < 0x80) return Buffer.concat([Buffer.of(tag, length), content])
  const octets = Buffer.alloc(4)
  octets.writeUInt32BE(length)
  return Buffer.concat([Buffer.of(tag, 0x84), octets, content])
}
