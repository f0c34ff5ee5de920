// The messages of Enrollment over Secure Transport [RFC 7030, with RFC 8951's corrections]: certificates in a CMS without signers, what a
// request should hold, and base64 as it travels. Values in, values out.

import { X509Certificate } from 'node:crypto'
import { BrokerError } from '../errors.js'
import { pemBlocks } from '../pem.js'
import {
  AsnConvert,
  Certificate,
  CertificateChoices,
  CertificateSet,
  ContentInfo,
  EncapsulatedContentInfo,
  id_data,
  id_signedData,
  SignedData
} from './library.js'

/** Where the requests go [RFC 7030, 3.2.2]. */
export const estPath = '/.well-known/est'

export const estTypes = {
  certificates: 'application/pkcs7-mime',
  /** Of one that was just issued [RFC 7030, 4.2.3]. */
  issued: 'application/pkcs7-mime; smime-type=certs-only',
  request: 'application/pkcs10',
  attributes: 'application/csrattrs'
} as const

/** PEM certificates as a CMS "certs-only" message, in base64. */
export function encodeCertificates(pem: string): string {
  const certificates = pemBlocks(pem)
    .filter(({ label }) => label === 'CERTIFICATE')
    .map(({ text }) => new CertificateChoices({ certificate: AsnConvert.parse(derOf(text), Certificate) }))
  const signed = new SignedData({
    version: 1,
    encapContentInfo: new EncapsulatedContentInfo({ eContentType: id_data }),
    certificates: new CertificateSet(certificates)
  })
  const info = new ContentInfo({ contentType: id_signedData, content: AsnConvert.serialize(signed) })
  return inLines(Buffer.from(AsnConvert.serialize(info)))
}

/** The certificates of such a message, PEM, in its order. Throws ERR_PKI_INPUT for anything else. */
export function decodeCertificates(body: string): readonly string[] {
  try {
    const info = AsnConvert.parse(fromBase64(body), ContentInfo)
    if (info.contentType !== id_signedData) throw new TypeError('not a CMS of that kind')
    const { certificates } = AsnConvert.parse(info.content, SignedData)
    const found = (certificates ?? []).flatMap(({ certificate }) => (certificate ? [certificate] : []))
    // OpenSSL must be able to read them too.
    return found.map(certificate => new X509Certificate(Buffer.from(AsnConvert.serialize(certificate))).toString())
  } catch (cause) {
    throw new BrokerError('ERR_PKI_INPUT', 'The answer is no certificate in PKCS#7.', undefined, { cause })
  }
}

/**
 * What a request had best hold [RFC 7030, 4.5.2; RFC 9908]: a key on P-256 and a signature over SHA-256. RSA from 2048 bits, P-384 and Ed25519
 * are taken too, which the form has no words for.
 */
export const requestAttributes = inLines(
  // SEQUENCE { OID ecdsa-with-SHA256, SEQUENCE { OID ecPublicKey, SET { OID prime256v1 } } }
  Buffer.from('302106082a8648ce3d040302301506072a8648ce3d0201310a06082a8648ce3d030107', 'hex')
)

/** The request in a POST. Throws ERR_PKI_INPUT when it is no base64. */
export function decodeRequest(body: string): Buffer {
  return fromBase64(body)
}

/** PEM or base64: both are sent in the wild. */
function fromBase64(body: string): Buffer {
  const text = body.replaceAll(/-----[^-]{1,80}-----/g, '').replaceAll(/\s/g, '')
  if (text.length % 4 === 1 || !/^[A-Za-z0-9+/]+={0,2}$/.test(text)) throw new BrokerError('ERR_PKI_INPUT', 'That is no base64.')
  return Buffer.from(text, 'base64')
}

const derOf = (pem: string): Buffer => Buffer.from(pem.replaceAll(/-----[^-]+-----/g, ''), 'base64')

function inLines(der: Buffer): string {
  return `${(der.toString('base64').match(/.{1,76}/g) ?? []).join('\n')}\n`
}
