// Certificate requests (PKCS#10) of people and devices that are not trusted: bounded before anything else looks at them, then checked. What
// is left is a key and names that somebody would like; the profile decides what the certificate says.

import { createPublicKey, type webcrypto } from 'node:crypto'
import { DerError, elements, readElement } from '../auth/der.js'
import { BrokerError } from '../errors.js'
import { pemBlocks } from '../pem.js'
import { importPublicKey, publicKeyProblem } from './keys.js'
import { Pkcs10CertificateRequest, SubjectAlternativeNameExtension } from './library.js'
import { type AlternativeName, parseAlternativeName } from './names.js'

/** A request whose owner has the key, and whose key is good. */
export interface CheckedRequest {
  readonly publicKey: webcrypto.CryptoKey
  /** As the request would have it, for people to compare; nothing of it goes into a certificate. */
  readonly subject: string
  /** The host names and addresses it asks for. Throws ERR_PKI_INPUT for those that can't be given. */
  names(): AlternativeName[]
}

/** A request with an RSA key of 8192 bits and a hundred names has some six kilobytes. */
export const maxRequestSize = 64 * 1024

const maxDepth = 16
const maxElements = 2000

/** Reads PEM or DER. Anything that is wrong with it is an ERR_PKI_INPUT with its reason. */
export async function parseRequest(content: Buffer, file: string): Promise<CheckedRequest> {
  const refuse = (reason: string, cause?: unknown) =>
    new BrokerError('ERR_PKI_INPUT', `The certificate request in ${file} is refused: ${reason}.`, { file }, { cause })
  if (content.length > maxRequestSize) throw refuse('it is larger than 64 KB')
  const der = derOf(content)
  if (typeof der === 'string') throw refuse(der)
  const shape = shapeProblem(der)
  if (shape !== undefined) throw refuse(shape)
  const request = attempt(() => new Pkcs10CertificateRequest(der))
  if (request === undefined) throw refuse('it is damaged')
  const spki = attempt(() => Buffer.from(request.publicKey.rawData))
  const key = spki && attempt(() => createPublicKey({ key: spki, format: 'der', type: 'spki' }))
  if (spki === undefined || key === undefined) throw refuse('its key cannot be read')
  const weak = publicKeyProblem(key)
  if (weak !== undefined) throw refuse(`its key ${weak}`)
  const hash = attempt(() => hashOf(request.signatureAlgorithm))
  if (hash === undefined) throw refuse('it is signed over a hash that is not SHA-256, SHA-384 or SHA-512')
  if (!(await verifies(request))) throw refuse('its signature is wrong, so whoever made it does not have the key, or it was changed')
  return {
    publicKey: await importPublicKey(spki),
    subject: attempt(() => request.subject) ?? '',
    names: () => {
      const names = attempt(() => alternativeNames(request))
      if (names === undefined) throw refuse('the names that it asks for cannot be read')
      return names.map(parseAlternativeName)
    }
  }
}

/** The one request of a file, or why there is none. */
function derOf(content: Buffer): Buffer | string {
  const requests = pemBlocks(content.toString('latin1')).filter(({ label }) => /^(NEW )?CERTIFICATE REQUEST$/.test(label))
  const [first, ...more] = requests
  if (first === undefined) return content[0] === 0x30 ? content : 'there is no certificate request in it'
  if (more.length > 0) return 'there are several certificate requests in it'
  if (!first.closed) return 'it is cut off'
  return Buffer.from(first.text.replaceAll(/-----[^-]+-----/g, ''), 'base64')
}

// The library goes down by recursion and makes an object of each element, so depth and number are looked at before it comes to that. Without
// recursion: a level is what the elements of the level above hold.
function shapeProblem(der: Buffer): string | undefined {
  try {
    let count = 0
    let level = [readElement(der)]
    if (level[0]?.end !== der.length) return 'bytes follow behind its end'
    for (let depth = 0; level.length > 0; depth += 1) {
      if (depth > maxDepth) return 'it is nested too deeply'
      const next = []
      for (const { tag, content } of level) {
        if ((tag & 0x20) === 0) continue
        for (const element of elements(content)) {
          next.push(element)
          count += 1
          if (count > maxElements) return 'it has too many parts'
        }
      }
      level = next
    }
    return undefined
  } catch (error) {
    if (error instanceof DerError) return 'it is damaged'
    throw error
  }
}

// The library names algorithms by the browser's types.
function hashOf(algorithm: object): string | undefined {
  const nameIn = (value: unknown) => (value instanceof Object && 'name' in value ? String(value.name) : String(value))
  if (/^Ed25519$/.test(nameIn(algorithm))) return 'SHA-512'
  const hash = 'hash' in algorithm ? nameIn(algorithm.hash) : ''
  return /^SHA-(256|384|512)$/.test(hash) ? hash : undefined
}

async function verifies(request: Pkcs10CertificateRequest): Promise<boolean> {
  try {
    return await request.verify()
  } catch {
    return false
  }
}

function alternativeNames(request: Pkcs10CertificateRequest): string[] {
  return request.extensions.flatMap(extension =>
    extension instanceof SubjectAlternativeNameExtension
      ? extension.names.items.filter(({ type }) => type === 'dns' || type === 'ip').map(({ value }) => value)
      : []
  )
}

function attempt<Value>(read: () => Value): Value | undefined {
  try {
    return read()
  } catch {
    return undefined
  }
}
