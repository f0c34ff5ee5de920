import { X509Certificate } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import t from 'tap'
import { type Certificate, toCertificate } from '../../dist/auth/chain.js'
import { brokenRule } from '../../dist/auth/path-rules.js'
import { openssl } from '../helpers/openssl.js'
import { testPki } from '../helpers/pki.js'

interface Case {
  readonly name: string
  readonly leaf?: string
  readonly ca?: string
  /** Of the leaf, of the CA. */
  readonly keys?: readonly [leaf: string, ca: string]
  readonly digest?: string
  readonly sigopt?: readonly string[]
  /** Absent: OpenSSL and we accept it. */
  readonly broken?: { readonly rule: string; readonly words: RegExp; readonly by?: 'ca' }
}

const plain = 'basicConstraints=critical,CA:FALSE'
const ca = 'basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign'
const cases: readonly Case[] = [
  { name: 'nothing said' },
  { name: 'made for clients', leaf: 'extendedKeyUsage=clientAuth\nkeyUsage=critical,digitalSignature' },
  { name: 'made for both', leaf: 'extendedKeyUsage=serverAuth,clientAuth' },
  { name: 'key agreement is enough', leaf: 'keyUsage=keyAgreement' },
  { name: 'RSA', keys: ['rsa:2048', 'rsa:2048'] },
  {
    name: 'RSA-PSS',
    keys: ['rsa:2048', 'rsa:2048'],
    sigopt: ['-sigopt', 'rsa_padding_mode:pss', '-sigopt', 'rsa_pss_saltlen:32']
  },
  { name: 'Ed25519', keys: ['ed25519', 'ed25519'] },
  { name: 'a critical extension that is known', leaf: 'certificatePolicies=critical,1.2.3.4' },
  {
    name: 'made for servers',
    leaf: 'extendedKeyUsage=serverAuth',
    broken: { rule: 'purpose', words: /extended key usage lacks clientAuth/ }
  },
  {
    name: 'any purpose is not this one',
    leaf: 'extendedKeyUsage=anyExtendedKeyUsage',
    broken: { rule: 'purpose', words: /extended key usage lacks clientAuth/ }
  },
  { name: 'a key that may not sign', leaf: 'keyUsage=keyEncipherment', broken: { rule: 'purpose', words: /lacks digitalSignature/ } },
  { name: 'of another Netscape type', leaf: 'nsCertType=server', broken: { rule: 'purpose', words: /Netscape/ } },
  {
    name: 'a CA for servers',
    ca: `${ca}\nextendedKeyUsage=serverAuth`,
    broken: { rule: 'purpose', words: /extended key usage lacks clientAuth/, by: 'ca' }
  },
  {
    name: 'an unknown critical extension',
    leaf: '1.2.3.4=critical,ASN1:NULL',
    broken: { rule: 'constraint', words: /critical extension 1\.2\.3\.4/ }
  },
  {
    name: 'an unknown critical extension of the CA',
    ca: `${ca}\n1.2.3.4=critical,ASN1:NULL`,
    broken: { rule: 'constraint', words: /critical extension 1\.2\.3\.4/, by: 'ca' }
  },
  {
    name: 'name constraints that the name breaks',
    ca: `${ca}\nnameConstraints=critical,permitted;DNS:example.org`,
    leaf: 'subjectAltName=DNS:other.test',
    broken: { rule: 'constraint', words: /name constraints, which cannot be judged here/, by: 'ca' }
  },
  { name: 'a short RSA key', keys: ['rsa:1024', 'rsa:2048'], broken: { rule: 'strength', words: /RSA key of 1024 bits/ } },
  { name: 'a CA with a short key', keys: ['rsa:2048', 'rsa:1024'], broken: { rule: 'strength', words: /RSA key of 1024 bits/, by: 'ca' } },
  {
    name: 'a small curve',
    keys: ['ec:secp160r1', 'ec:P-256'],
    broken: { rule: 'strength', words: /curve secp160r1/ }
  },
  { name: 'SHA-1', digest: 'sha1', broken: { rule: 'strength', words: /weak algorithm \(1\.2\.840\.10045\.4\.1\)/ } },
  {
    name: 'SHA-1 with RSA-PSS',
    keys: ['rsa:2048', 'rsa:2048'],
    digest: 'sha1',
    sigopt: ['-sigopt', 'rsa_padding_mode:pss'],
    broken: { rule: 'strength', words: /weak algorithm \(1\.2\.840\.113549\.1\.1\.10\)/ }
  }
]

for (const each of cases) {
  t.test(`${each.name}: as OpenSSL judges it at security level 2`, async t => {
    const { path, files } = make(t.testdir(), each)
    const broken = brokenRule(path)
    if (each.broken === undefined) t.equal(broken, undefined)
    else {
      t.match(broken, { rule: each.broken.rule, words: each.broken.words })
      t.equal(broken?.by, path[each.broken.by === 'ca' ? 1 : 0])
    }
    t.equal(opensslAccepts(files), each.broken === undefined, 'OpenSSL says the same')
  })
}

t.test('whatever bytes change in a certificate, it is judged or refused; nothing else is thrown', async t => {
  const pki = await testPki(t)
  const leaf = read((await pki.client('dev')).cert)
  const root = read(pki.ca)
  t.equal(brokenRule([leaf, root]), undefined)
  const der = leaf.x509.raw
  fc.assert(
    fc.property(fc.nat(der.length - 1), fc.integer({ min: 1, max: 255 }), (at, change) => {
      const bytes = Buffer.from(der)
      bytes[at] = (bytes[at] ?? 0) ^ change
      try {
        brokenRule([toCertificate(new X509Certificate(bytes)), root])
      } catch (error) {
        return error instanceof Error && !(error instanceof TypeError) && !(error instanceof RangeError)
      }
      return true
    }),
    { numRuns: 2000 }
  )
})

function read(path: string): Certificate {
  return toCertificate(new X509Certificate(readFileSync(path)))
}

interface Made {
  readonly path: readonly Certificate[]
  readonly files: { readonly ca: string; readonly leaf: string }
}

function make(dir: string, { leaf = '', ca: caExtensions = ca, keys = ['ec:P-256', 'ec:P-256'], digest, sigopt = [] }: Case): Made {
  const file = (name: string): string => join(dir, name)
  const hash = digest === undefined ? [] : [`-${digest}`]
  writeFileSync(file('x.cnf'), `[req]\ndistinguished_name=n\n[n]\n[ca]\n${caExtensions}\n[leaf]\n${plain}\n${leaf}\n`)
  const request = (name: string, key: string): string[] => {
    const [kind = '', curve] = key.startsWith('ec:') ? ['ec', key.slice(3)] : [key]
    const options = curve === undefined ? [] : ['-pkeyopt', `ec_paramgen_curve:${curve}`]
    return ['req', '-config', file('x.cnf'), '-newkey', kind, ...options, '-nodes', '-keyout', file(`${name}.key`), '-subj', `/CN=${name}`]
  }
  openssl(...request('ca', keys[1]), '-x509', '-days', '30', '-extensions', 'ca', '-out', file('ca.crt'))
  openssl(...request('leaf', keys[0]), '-new', '-out', file('leaf.csr'))
  const signer = ['-CA', file('ca.crt'), '-CAkey', file('ca.key'), '-CAcreateserial', '-days', '30', ...hash, ...sigopt]
  openssl('x509', '-req', '-in', file('leaf.csr'), ...signer, '-extfile', file('x.cnf'), '-extensions', 'leaf', '-out', file('leaf.crt'))
  return { path: [read(file('leaf.crt')), read(file('ca.crt'))], files: { ca: file('ca.crt'), leaf: file('leaf.crt') } }
}

function opensslAccepts({ ca, leaf }: Made['files']): boolean {
  try {
    openssl('verify', '-auth_level', '2', '-purpose', 'sslclient', '-CAfile', ca, leaf)
    return true
  } catch {
    return false
  }
}
