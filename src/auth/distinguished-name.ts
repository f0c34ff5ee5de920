// The names inside certificates, from their DER: Node's own text form puts one attribute per line, so a newline in a value could pass
// for another attribute. Printed exactly as `openssl x509 -nameopt RFC2253` does, which is what Mosquitto calls the subject.

import { isUtf8 } from 'node:buffer'
import { childrenOf, type DerElement, DerError, encodingOf, readElement, readObjectIdentifier, tags } from './der.js'

interface Attribute {
  readonly type: string
  readonly value: DerElement
  /** The value's whole encoding. */
  readonly encoding: Buffer
  /** Shared by the attributes of a multi-valued RDN. */
  readonly rdn: number
}

const commonName = '2.5.4.3'

// OpenSSL's short names. 2.5.4.x in order of x, from 3; the empty ones are unassigned.
const x520 =
  'CN SN serialNumber C L ST street O OU title description searchGuide businessCategory postalAddress postalCode postOfficeBox physicalDeliveryOfficeName telephoneNumber telexNumber teletexTerminalIdentifier facsimileTelephoneNumber x121Address internationaliSDNNumber registeredAddress destinationIndicator preferredDeliveryMethod presentationAddress supportedApplicationContext member owner roleOccupant seeAlso userPassword userCertificate cACertificate authorityRevocationList certificateRevocationList crossCertificatePair name GN initials generationQualifier x500UniqueIdentifier dnQualifier enhancedSearchGuide protocolInformation distinguishedName uniqueMember houseIdentifier supportedAlgorithms deltaRevocationList dmdName'
const shortNames = new Map<string, string>([
  ...x520.split(' ').map((name, index): [string, string] => [`2.5.4.${index + 3}`, name]),
  ['2.5.4.65', 'pseudonym'],
  ['2.5.4.72', 'role'],
  ['2.5.4.97', 'organizationIdentifier'],
  ['2.5.4.98', 'c3'],
  ['2.5.4.99', 'n3'],
  ['2.5.4.100', 'dnsName'],
  ['1.2.840.113549.1.9.1', 'emailAddress'],
  ['1.2.840.113549.1.9.2', 'unstructuredName'],
  ['1.2.840.113549.1.9.7', 'challengePassword'],
  ['1.2.840.113549.1.9.8', 'unstructuredAddress'],
  ['0.9.2342.19200300.100.1.1', 'UID'],
  ['0.9.2342.19200300.100.1.3', 'mail'],
  ['0.9.2342.19200300.100.1.5', 'favouriteDrink'],
  ['0.9.2342.19200300.100.1.6', 'roomNumber'],
  ['0.9.2342.19200300.100.1.8', 'userClass'],
  ['0.9.2342.19200300.100.1.9', 'host'],
  ['0.9.2342.19200300.100.1.25', 'DC'],
  ['0.9.2342.19200300.100.1.41', 'mobileTelephoneNumber'],
  ['0.9.2342.19200300.100.1.43', 'friendlyCountryName'],
  ['0.9.2342.19200300.100.1.44', 'uid'],
  ['1.3.6.1.4.1.311.60.2.1.1', 'jurisdictionL'],
  ['1.3.6.1.4.1.311.60.2.1.2', 'jurisdictionST'],
  ['1.3.6.1.4.1.311.60.2.1.3', 'jurisdictionC']
])

// The string types by tag and the bytes of one character; 0 is UTF-8.
const stringTypes = new Map<number, 0 | 1 | 2 | 4>([
  [12, 0], // UTF8String
  [18, 1], // NumericString
  [19, 1], // PrintableString
  [20, 1], // T61String: taken for Latin-1, as OpenSSL does
  [22, 1], // IA5String
  [23, 1], // UTCTime
  [24, 1], // GeneralizedTime
  [26, 1], // VisibleString
  [28, 4], // UniversalString
  [30, 2] // BMPString
])

/** RFC 2253: most specific first, what is not printable ASCII escaped byte by byte. */
export function formatName(name: Buffer): string {
  let text = ''
  let previous: Attribute | undefined
  for (const attribute of attributesOf(name).reverse()) {
    if (previous !== undefined) text += previous.rdn === attribute.rdn ? '+' : ','
    text += formatAttribute(attribute)
    previous = attribute
  }
  return text
}

/**
 * The value of the first CN, as Mosquitto takes it: its bytes, if they are UTF-8 without NUL. When the first one will not do there is
 * none: a second CN must not step in. BMPString and UniversalString never do, whose bytes could read as another name.
 */
export function firstCommonName(name: Buffer): string | undefined {
  return firstAttribute(name, commonName)
}

/** The same of any attribute, by its object identifier. */
export function firstAttribute(name: Buffer, identifier: string): string | undefined {
  const first = attributesOf(name).find(({ type }) => type === identifier)
  const width = first && stringTypes.get(first.value.tag)
  if (first === undefined || (width !== 0 && width !== 1)) return undefined
  const { content } = first.value
  return content.length > 0 && isUtf8(content) && !content.includes(0) ? content.toString('utf8') : undefined
}

/** Equal for names that OpenSSL calls equal: string type, letter case and extra spaces don't matter [RFC 5280, 7.1]. */
export function canonicalName(name: Buffer): string {
  const sets: string[][] = []
  for (const attribute of attributesOf(name)) {
    const set = sets[attribute.rdn] ?? []
    set.push(JSON.stringify([attribute.type, canonicalValue(attribute)]))
    sets[attribute.rdn] = set
  }
  return JSON.stringify(sets.map(set => set.sort()))
}

function attributesOf(name: Buffer): Attribute[] {
  const attributes: Attribute[] = []
  for (const [rdn, set] of childrenOf(readElement(name)).entries()) {
    for (const pair of childrenOf(set, tags.set)) {
      const [type, value] = childrenOf(pair)
      if (type?.tag !== tags.objectIdentifier || value === undefined) throw new DerError('attribute without type or value')
      attributes.push({ type: readObjectIdentifier(type.content), value, encoding: encodingOf(pair.content, value), rdn })
    }
  }
  return attributes
}

function formatAttribute({ type, value, encoding }: Attribute): string {
  const name = shortNames.get(type)
  const text = name === undefined ? undefined : utf8Of(value)
  return `${name ?? type}=${text === undefined ? `#${encoding.toString('hex').toUpperCase()}` : escapeValue(text)}`
}

function canonicalValue({ value, encoding }: Attribute): string {
  const text = utf8Of(value)
  if (text === undefined) return `#${encoding.toString('hex')}`
  // First to single spaces: an expression that looks for the end of each run of them again and again would take seconds for a long one.
  const single = text.toString('latin1').replace(/[ \t-\r]+/g, ' ')
  const start = single.startsWith(' ') ? 1 : 0
  const end = single.endsWith(' ') ? -1 : single.length
  return single.slice(start, end).replace(/[A-Z]/g, letter => letter.toLowerCase())
}

/** The characters as UTF-8, or undefined for what is not a string. */
function utf8Of({ tag, content }: DerElement): Buffer | undefined {
  const width = stringTypes.get(tag)
  switch (width) {
    case undefined:
      return undefined
    case 0:
      return content
    case 1:
      return Buffer.from(content.toString('latin1'), 'utf8')
    case 2:
    case 4:
      return wideToUtf8(content, width)
  }
}

function wideToUtf8(content: Buffer, width: 2 | 4): Buffer | undefined {
  if (content.length % width !== 0) return undefined
  let text = ''
  for (let offset = 0; offset < content.length; offset += width) {
    const codePoint = content.readUIntBE(offset, width)
    if (codePoint > 0x10ffff || (codePoint >= 0xd800 && codePoint < 0xe000)) return undefined
    text += String.fromCodePoint(codePoint)
  }
  return Buffer.from(text, 'utf8')
}

const special = new Set(Buffer.from(',+"\\<>;'))
const space = 0x20
const hash = 0x23

function escapeValue(utf8: Buffer): string {
  let text = ''
  for (const [index, byte] of utf8.entries()) {
    const atEdge = (index === 0 && (byte === space || byte === hash)) || (index === utf8.length - 1 && byte === space)
    if (byte < space || byte >= 0x7f) text += `\\${byte.toString(16).toUpperCase().padStart(2, '0')}`
    else text += (special.has(byte) || atEdge ? '\\' : '') + String.fromCharCode(byte)
  }
  return text
}
