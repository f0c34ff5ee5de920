// What of a client certificate beside its common name may name a client, or stand in an ACL pattern. Read from its DER when it is asked for:
// once for a connection, and only where the configuration asks.

import { isUtf8 } from 'node:buffer'
import { createHash } from 'node:crypto'
import { certificateParts, readExtension } from './certificate.js'
import { childrenOf, DerError, readElement } from './der.js'
import { firstAttribute } from './distinguished-name.js'
import type { CertificateFacts, ClientCertificate } from './identity.js'

/** GeneralName's choices that are text [RFC 5280, 4.2.1.6]: context-specific, primitive. */
const alternativeNames = { email: 0x81, dns: 0x82, uri: 0x86 } as const

export type AlternativeNameKind = keyof typeof alternativeNames

const subjectAltName = '2.5.29.17'
const organization = '2.5.4.10'
const organizationalUnit = '2.5.4.11'

/**
 * The first subjectAltName of a kind: its bytes, if they are UTF-8 without NUL. When the first one will not do there is none, and neither
 * where the extension is there twice, which no CA may sign: another name must not step in.
 */
export function firstAlternativeName({ raw }: ClientCertificate, kind: AlternativeNameKind): string | undefined {
  return orNone(() => {
    const found = certificateParts(raw)
      .extensions.map(readExtension)
      .filter(({ oid }) => oid === subjectAltName)
    const [extension, another] = found
    if (extension === undefined || another !== undefined) return undefined
    const first = childrenOf(readElement(extension.value)).find(({ tag }) => tag === alternativeNames[kind])
    return first === undefined ? undefined : textOf(first.content)
  })
}

/** SHA-256 of the DER: lower-case hexadecimal without colons. */
export function fingerprintOf({ raw }: ClientCertificate): string {
  return createHash('sha256').update(raw).digest('hex')
}

/** As `openssl x509 -serial` prints it. */
export function serialOf({ serial }: ClientCertificate): string {
  return serial.length % 2 === 0 ? serial : `0${serial}`
}

/** What patterns can ask of it, but for what could stand for more than one level of a topic. */
export function factsOf(certificate: ClientCertificate, asked: ReadonlySet<keyof CertificateFacts>): CertificateFacts | undefined {
  if (asked.size === 0) return undefined
  const inSubject = (type: string) => orNone(() => firstAttribute(certificateParts(certificate.raw).subject, type))
  const o = asked.has('organization') ? asLevel(inSubject(organization)) : undefined
  const ou = asked.has('organizationalUnit') ? asLevel(inSubject(organizationalUnit)) : undefined
  const serial = asked.has('serial') ? asLevel(serialOf(certificate)) : undefined
  if (o === undefined && ou === undefined && serial === undefined) return undefined
  return Object.freeze({
    ...(o !== undefined && { organization: o }),
    ...(ou !== undefined && { organizationalUnit: ou }),
    ...(serial !== undefined && { serial })
  })
}

const asLevel = (text: string | undefined): string | undefined =>
  text === undefined || text === '' || /[/+#]/.test(text) ? undefined : text

const textOf = (content: Buffer): string | undefined =>
  content.length > 0 && isUtf8(content) && !content.includes(0) ? content.toString('utf8') : undefined

// OpenSSL lets certificates through whose extensions nobody can read: such a one has no name.
function orNone(read: () => string | undefined): string | undefined {
  try {
    return read()
  } catch (error) {
    if (error instanceof DerError) return undefined
    throw error
  }
}
