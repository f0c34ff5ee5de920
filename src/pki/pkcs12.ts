// PKCS#12: key, certificate and CAs in one file under a passphrase, for devices and programs that take nothing else [RFC 7292].

import { createPrivateKey, type KeyObject, X509Certificate as NodeCertificate, webcrypto } from 'node:crypto'
import * as asn1js from 'asn1js'
import * as pkijs from 'pkijs'
import { BrokerError } from '../errors.js'

export interface Pkcs12Content {
  /** PEM. */
  readonly certificate: string
  readonly key: string
  /** PEM, those that sign the certificate. */
  readonly authorities: readonly string[]
  /** What programs call it for people. */
  readonly name: string
}

const oids = {
  keyBag: '1.2.840.113549.1.12.10.1.1',
  shroudedKeyBag: '1.2.840.113549.1.12.10.1.2',
  certBag: '1.2.840.113549.1.12.10.1.3',
  friendlyName: '1.2.840.113549.1.9.20',
  localKeyId: '1.2.840.113549.1.9.21'
} as const
const engine = new pkijs.CryptoEngine({ name: 'node', crypto: webcrypto })
const plainContent = 0
const passwordIntegrity = 0
/** As OpenSSL 3: a passphrase that can be guessed is not saved by more, and a device has to do it too. */
const iterations = 2048

/** The file's bytes. The key is encrypted (PBES2, AES-256-CBC), all of it is sealed (HMAC-SHA-256); certificates are no secret. */
export async function encodePkcs12({ certificate, key, authorities, name }: Pkcs12Content, passphrase: string): Promise<Buffer> {
  const own = new NodeCertificate(certificate)
  // Java looks for the certificate of a key by it, Windows by either.
  const attributes = [
    attribute(oids.friendlyName, new asn1js.BmpString({ value: name })),
    attribute(oids.localKeyId, new asn1js.OctetString({ valueHex: bytesOf(Buffer.from(own.fingerprint.replaceAll(':', ''), 'hex')) }))
  ]
  const shrouded = createPrivateKey(key).export({ type: 'pkcs8', format: 'der', cipher: 'aes-256-cbc', passphrase })
  const keyBag = new pkijs.SafeBag({
    bagId: oids.shroudedKeyBag,
    bagValue: pkijs.PKCS8ShroudedKeyBag.fromBER(bytesOf(shrouded)),
    bagAttributes: attributes
  })
  const certificateBags = [own, ...authorities.map(pem => new NodeCertificate(pem))].map(
    ({ raw }, index) =>
      new pkijs.SafeBag({
        bagId: oids.certBag,
        bagValue: new pkijs.CertBag({ parsedValue: pkijs.Certificate.fromBER(bytesOf(raw)) }),
        ...(index === 0 && { bagAttributes: attributes })
      })
  )
  const file = new pkijs.PFX({
    parsedValue: {
      integrityMode: passwordIntegrity,
      authenticatedSafe: new pkijs.AuthenticatedSafe({
        parsedValue: { safeContents: [contents([keyBag]), contents(certificateBags)] }
      })
    }
  })
  await file.parsedValue?.authenticatedSafe?.makeInternalValues({ safeContents: [{}, {}] }, engine)
  const password = bytesOf(Buffer.from(passphrase))
  await file.makeInternalValues({ password, iterations, pbkdf2HashAlgorithm: 'SHA-256', hmacHashAlgorithm: 'SHA-256' }, engine)
  return Buffer.from(file.toSchema().toBER())
}

/** Is this a PKCS#12 file? Only its first bytes are looked at: a SEQUENCE that begins with the version, 3. */
export function isPkcs12(content: Buffer): boolean {
  const start = content[1] === 0x80 ? 2 : (content[1] ?? 0) > 0x80 ? 2 + ((content[1] ?? 0) & 0x7f) : 2
  return content[0] === 0x30 && content.subarray(start, start + 3).equals(Buffer.from([0x02, 0x01, 0x03]))
}

/** What a file holds, in its order. A wrong passphrase is an ERR_TLS_KEY_ENCRYPTED, anything else that is wrong an ERR_PKI_INPUT. */
export async function decodePkcs12(content: Buffer, passphrase: string, file: string): Promise<readonly (NodeCertificate | KeyObject)[]> {
  const password = bytesOf(Buffer.from(passphrase))
  const pfx = await readable(file, async () => pkijs.PFX.fromBER(bytesOf(content)))
  try {
    // The seal is checked first: behind it nothing is read that the passphrase doesn't vouch for.
    await pfx.parseInternalValues({ password, checkIntegrity: true }, engine)
  } catch (cause) {
    throw new BrokerError('ERR_TLS_KEY_ENCRYPTED', `The passphrase does not open ${file}.`, { file }, { cause })
  }
  return readable(file, async () => {
    const safe = pfx.parsedValue?.authenticatedSafe
    await safe?.parseInternalValues({ safeContents: safe.safeContents.map(() => ({ password })) }, engine)
    const bags: pkijs.SafeBag[] = (safe?.parsedValue?.safeContents ?? []).flatMap(
      ({ value }: { value: pkijs.SafeContents }) => value.safeBags
    )
    return bags.flatMap(bag => objectOf(bag, passphrase) ?? [])
  })
}

async function readable<Value>(file: string, read: () => Promise<Value>): Promise<Value> {
  try {
    return await read()
  } catch (cause) {
    const reason = 'is damaged, or encrypted in a way that is not known here (RC2, for example)'
    throw new BrokerError('ERR_PKI_INPUT', `${file} ${reason}.`, { file }, { cause })
  }
}

function objectOf({ bagId, bagValue }: pkijs.SafeBag, passphrase: string): NodeCertificate | KeyObject | undefined {
  const der = Buffer.from(bagValue.toSchema().toBER())
  switch (bagId) {
    case oids.shroudedKeyBag:
      return createPrivateKey({ key: der, format: 'der', type: 'pkcs8', passphrase })
    case oids.keyBag:
      return createPrivateKey({ key: der, format: 'der', type: 'pkcs8' })
    case oids.certBag:
      return bagValue instanceof pkijs.CertBag && bagValue.parsedValue instanceof pkijs.Certificate
        ? new NodeCertificate(Buffer.from(bagValue.parsedValue.toSchema(true).toBER()))
        : undefined
    default:
      return undefined
  }
}

function contents(safeBags: pkijs.SafeBag[]): object {
  return { privacyMode: plainContent, value: new pkijs.SafeContents({ safeBags }) }
}

function attribute(type: string, value: asn1js.BmpString | asn1js.OctetString): pkijs.Attribute {
  return new pkijs.Attribute({ type, values: [value] })
}

/** A Buffer may be a part of a larger one. */
function bytesOf(buffer: Buffer): ArrayBuffer {
  return new Uint8Array(buffer).buffer
}
