import { execFileSync } from 'node:child_process'
import { X509Certificate } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { clientCertificate, readCertificate } from '../../dist/auth/certificate.js'
import { canonicalName, firstCommonName, formatName } from '../../dist/auth/distinguished-name.js'

// One attribute: [object identifier, string type, bytes]; an array of several is a multi-valued RDN.
type Attribute = readonly [oid: string, tag: number, value: string | Buffer]
const [utf8, printable, t61, ia5, bmp, universal] = [12, 19, 20, 22, 30, 28]
const cn = '2.5.4.3'
const o = '2.5.4.10'

const der = (tag: number, ...parts: Buffer[]): Buffer => {
  const content = Buffer.concat(parts)
  const length = content.length < 128 ? [content.length] : [0x82, content.length >> 8, content.length & 255]
  return Buffer.concat([Buffer.from([tag, ...length]), content])
}
const oid = (text: string): Buffer => {
  const [first = 0, second = 0, ...rest] = text.split('.').map(Number)
  const bytes = [first * 40 + second]
  for (const arc of rest) {
    const digits = [arc & 127]
    for (let left = arc >> 7; left > 0; left >>= 7) digits.unshift((left & 127) | 128)
    bytes.push(...digits)
  }
  return der(6, Buffer.from(bytes))
}
const attribute = ([type, tag, value]: Attribute): Buffer => der(0x30, oid(type), der(tag, Buffer.from(value)))
const name = (...rdns: (Attribute | Attribute[])[]): Buffer =>
  der(0x30, ...rdns.map(rdn => der(0x31, ...(Array.isArray(rdn[0]) ? (rdn as Attribute[]) : [rdn as Attribute]).map(attribute))))
const wide = (text: string): Buffer => Buffer.from(text, 'utf16le').swap16()

const names: [what: string, name: Buffer, commonName: string | undefined][] = [
  ['plain', name(['2.5.4.6', printable, 'ES'], [o, utf8, 'Casa'], ['2.5.4.11', utf8, 'x'], [cn, utf8, 'dev']), 'dev'],
  ['two CNs: the first', name([cn, utf8, 'first'], [cn, utf8, 'second']), 'first'],
  ['a newline and a CN inside O', name([o, utf8, 'x\nCN=admin'], [cn, utf8, 'dev']), 'dev'],
  ['a newline and a CN inside O, no CN', name([o, utf8, 'x\nCN=admin']), undefined],
  ['a comma and a CN inside O', name([o, utf8, 'x,CN=admin'], [cn, utf8, 'dev']), 'dev'],
  ['a CN that looks like more', name([cn, utf8, 'dev\nCN=admin']), 'dev\nCN=admin'],
  [
    'multi-valued RDN',
    name(
      [
        [cn, utf8, 'dev'],
        [o, utf8, 'Casa'],
        ['2.5.4.5', printable, '7']
      ],
      ['2.5.4.11', utf8, 'x']
    ),
    'dev'
  ],
  ['every special character', name([cn, utf8, ' #a,b+c"d\\e<f>g;h=i '], [o, utf8, '#x'], ['2.5.4.11', utf8, ' ']), ' #a,b+c"d\\e<f>g;h=i '],
  ['UTF-8 beyond ASCII', name([cn, utf8, 'Müller – 東京 😀']), 'Müller – 東京 😀'],
  ['control characters', name([cn, utf8, 'a\x01b\x7fc\x1b[31m']), 'a\x01b\x7fc\x1b[31m'],
  ['NUL in the first CN, a good second one', name([cn, utf8, 'dev\0.evil'], [cn, utf8, 'admin']), undefined],
  ['invalid UTF-8', name([cn, utf8, Buffer.from([0x61, 0xff, 0xfe])]), undefined],
  ['T61String in Latin-1', name([cn, t61, Buffer.from('Müller', 'latin1')]), undefined],
  ['T61String in ASCII', name([cn, t61, 'dev']), 'dev'],
  ['BMPString', name([cn, bmp, wide('dévice')]), undefined],
  ['BMPString whose bytes read "admin!"', name([cn, bmp, 'admin!'], [cn, utf8, 'x']), undefined],
  ['BMPString with half a character', name([cn, bmp, 'abc']), undefined],
  ['UniversalString', name([cn, universal, Buffer.from([0, 0, 0, 0x64, 0, 1, 0xf6, 0])]), undefined],
  [
    'e-mail, DC and UID',
    name(['0.9.2342.19200300.100.1.25', ia5, 'example'], ['0.9.2342.19200300.100.1.1', utf8, 'u1'], ['1.2.840.113549.1.9.1', ia5, 'a@b']),
    undefined
  ],
  ['unknown attribute', name(['1.3.6.1.4.1.99999.1', utf8, 'x'], [cn, utf8, 'dev']), 'dev'],
  ['attribute that is no string', name([cn, 3, Buffer.from([0, 5])], ['2.5.4.45', 3, Buffer.from([0, 0xa5])]), undefined],
  ['empty CN', name([cn, utf8, '']), undefined],
  ['empty name', name(), undefined],
  [
    'surname and the rest of X.520',
    name(
      ['2.5.4.4', utf8, 's'],
      ['2.5.4.42', utf8, 'g'],
      ['2.5.4.9', utf8, 'st'],
      ['2.5.4.17', utf8, 'pc'],
      ['2.5.4.65', utf8, 'ps'],
      ['2.5.4.97', utf8, 'id'],
      ['2.5.4.54', utf8, 'dmd']
    ),
    undefined
  ]
]

const unreadable = new Set(['invalid UTF-8', 'BMPString with half a character'])

t.test('subjects are printed as openssl prints them, and the CN is the first one', async t => {
  const dir = t.testdir()
  const original = makeCertificate(join(dir, 'template.der'))
  const { subject: old } = readCertificate(original)
  for (const [what, subject, commonName] of names) {
    const path = join(dir, 'case.der')
    writeFileSync(path, withSubject(original, old, subject))
    if (unreadable.has(what)) {
      t.throws(() => new X509Certificate(readFileSync(path)), `${what}: OpenSSL does not even read it`)
      t.equal(firstCommonName(subject), undefined, `CN: ${what}`)
      continue
    }
    const printed = execFileSync('openssl', ['x509', '-inform', 'DER', '-in', path, '-noout', '-subject', '-nameopt', 'RFC2253']).toString()
    t.equal(`subject=${formatName(subject)}\n`, printed, what)
    t.equal(firstCommonName(subject), commonName, `CN: ${what}`)
  }
})

t.test('a certificate whose O holds a newline and a CN gets the CN of its CN', t => {
  const dir = t.testdir()
  const original = makeCertificate(join(dir, 'template.der'))
  const forged = withSubject(original, readCertificate(original).subject, name([o, utf8, 'x\nCN=admin'], [cn, utf8, 'dev']))
  t.match(clientCertificate(new X509Certificate(forged).raw), { commonName: 'dev', subject: 'CN=dev,O=x\\0ACN=admin', issuer: 'CN=T' })
  t.end()
})

t.test('a name of a stranger is read in no time, whatever its length', t => {
  const original = makeCertificate(join(t.testdir(), 'template.der'))
  const spaced = (spaces: number) => name([cn, utf8, `a${' '.repeat(spaces)}b`])
  t.equal(canonicalName(spaced(60_000)), canonicalName(spaced(1)))
  const { subject } = readCertificate(original)
  t.equal(readCertificate(withSubject(original, subject, spaced(8000))).subjectKey, canonicalName(spaced(1)))
  t.throws(() => readCertificate(withSubject(original, subject, spaced(60_000))), { message: 'name too long' })
  t.end()
})

t.test('names are equal whatever their string type, letter case and spaces, and only then', t => {
  const key = (...rdns: (Attribute | Attribute[])[]): string => canonicalName(name(...rdns))
  const same = key([cn, utf8, 'My CA'])
  t.equal(key([cn, printable, 'my  ca ']), same)
  t.equal(key([cn, bmp, wide('MY CA')]), same)
  t.not(key([cn, utf8, 'MyCA']), same)
  t.not(key([o, utf8, 'My CA']), same)
  t.not(key([cn, utf8, 'My CA'], [o, utf8, 'x']), same)
  t.not(
    key([
      [cn, utf8, 'a'],
      [o, utf8, 'b']
    ]),
    key([cn, utf8, 'a'], [o, utf8, 'b']),
    'one RDN of two is not two RDNs'
  )
  t.equal(
    key([
      [cn, utf8, 'a'],
      [o, utf8, 'b']
    ]),
    key([
      [o, utf8, 'b'],
      [cn, utf8, 'a']
    ]),
    'a set has no order'
  )
  t.end()
})

function makeCertificate(path: string): Buffer {
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', `${path}.key`]
  execFileSync('openssl', ['req', '-x509', ...key, '-subj', '/CN=T', '-outform', 'DER', '-out', path], { stdio: 'ignore' })
  return readFileSync(path)
}

// Only names are looked at, so the signature need not fit any more.
function withSubject(certificate: Buffer, old: Buffer, subject: Buffer): Buffer {
  const at = certificate.lastIndexOf(old)
  const outer = 4
  const inner = certificate.subarray(outer)
  const signedEnd = outer + 4 + inner.readUInt16BE(2)
  const signed = Buffer.concat([certificate.subarray(outer + 4, at), subject, certificate.subarray(at + old.length, signedEnd)])
  return der(0x30, der(0x30, signed), certificate.subarray(signedEnd))
}
