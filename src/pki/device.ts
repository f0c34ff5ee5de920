// A device that enrols: its key and request, and what it looks at before it keeps a certificate. Values in, values out.

import { createHash, createPrivateKey, createPublicKey, X509Certificate as NodeCertificate, webcrypto } from 'node:crypto'
import { BrokerError } from '../errors.js'
import { type KeyType, keyTypes } from './authority.js'
import { signingAlgorithmOf } from './keys.js'
import { Name, PemConverter, Pkcs10CertificateRequestGenerator, X509Certificate } from './library.js'
import { isSignedBy } from './x509.js'

/** A new private key, PEM. */
export async function createKey(type: KeyType = 'ec'): Promise<string> {
  const { privateKey } = await webcrypto.subtle.generateKey(keyTypes[type], true, ['sign', 'verify'])
  return `${PemConverter.encode(await webcrypto.subtle.exportKey('pkcs8', privateKey), 'PRIVATE KEY')}\n`
}

/** A request for a certificate of this name by the owner of this key, base64 of its DER in lines. */
export async function createRequest(commonName: string, keyPem: string, file: string): Promise<string> {
  const key = createPrivateKey(keyPem)
  const algorithm = signingAlgorithmOf(key)
  if (algorithm === undefined) throw new BrokerError('ERR_PKI_INPUT', `${file} is a key of a kind that cannot sign a request here.`)
  const { subtle } = webcrypto
  const spki = createPublicKey(key).export({ type: 'spki', format: 'der' })
  const keys = {
    privateKey: await subtle.importKey('pkcs8', key.export({ type: 'pkcs8', format: 'der' }), algorithm, false, ['sign']),
    publicKey: await subtle.importKey('spki', spki, algorithm, true, ['verify'])
  }
  const request = await Pkcs10CertificateRequestGenerator.create({
    name: new Name([{ CN: [{ utf8String: commonName }] }]),
    keys,
    signingAlgorithm: algorithm
  })
  return `${(
    Buffer.from(request.rawData)
      .toString('base64')
      .match(/.{1,76}/g) ?? []
  ).join('\n')}\n`
}

/** SHA-256 of a certificate, 64 hexadecimal digits. */
export function fingerprintOf(pem: string): string {
  return createHash('sha256').update(new NodeCertificate(pem).raw).digest('hex')
}

/** Is this what was asked for: this name, this key, signed by that CA? Throws with what is not. */
export function checkEnrolled(
  pem: string,
  { commonName, key, authority }: { readonly commonName: string; readonly key: string; readonly authority: string }
): void {
  const certificate = new NodeCertificate(pem)
  const refuse = (what: string) => new BrokerError('ERR_PKI_INPUT', `The certificate that came is not kept: ${what}.`)
  if (!certificate.checkPrivateKey(createPrivateKey(key))) throw refuse('it is for another key')
  if (!isSignedBy(certificate, new NodeCertificate(authority))) throw refuse('the CA did not sign it')
  // Node's text of a subject has backslashes in it.
  const [name] = new X509Certificate(certificate.raw).subjectName.getField('CN')
  if (name !== commonName) throw refuse(`it is for ${JSON.stringify(name)}, not for ${JSON.stringify(commonName)}`)
}
