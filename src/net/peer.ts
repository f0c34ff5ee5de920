// Decides about the client certificate of a TLS connection, and says why not. Node's `authorized` is never enough: a resumed session is
// looked at again, revocation is ours, and a missing certificate is a no whatever Node says. It is necessary, too, but where the dates of
// the certificate are forgiven: then everything that Node would have looked at is looked at here.

import { X509Certificate } from 'node:crypto'
import type { TLSSocket } from 'node:tls'
import { clientCertificate, dateOf, readCertificate } from '../auth/certificate.js'
import { type BrokenChain, buildChain, type Certificate, type ChainFault, isSelfSigned, toCertificate } from '../auth/chain.js'
import { formatName } from '../auth/distinguished-name.js'
import type { ClientCertificate } from '../auth/identity.js'
import { type BrokenRule, brokenRule } from '../auth/path-rules.js'
import { checkRevocation, type RevocationList } from '../auth/revocation.js'
import { errorMessage } from '../errors.js'
import { peerCertificate, peerLeaf } from './peer-chain.js'
import type { TlsMaterial } from './tls.js'

export type PeerReason =
  | 'no-certificate'
  | 'unreadable'
  | 'expired'
  | 'not-yet-valid'
  | 'self-signed'
  | ChainFault
  | BrokenRule['rule']
  | 'revoked'
  | 'ca-revoked'
  | 'crl-missing'
  | 'crl-expired'
  | 'crl-not-yet-valid'
  | 'not-authorized'

export interface PeerRefusal {
  readonly ok: false
  readonly reason: PeerReason
  /** Goes behind `Connection from ADDRESS:PORT rejected, `. */
  readonly words: string
  /** RFC 2253, of the certificate that was shown. */
  readonly subject?: string
  readonly issuer?: string
}

export type PeerVerdict = { readonly ok: true; readonly certificate?: ClientCertificate } | PeerRefusal

// What a peer may show between its certificate and a root. Longer is nobody's; OpenSSL has already seen a way if there is one.
const maxSent = 10

/** May this client come in? To be asked in `secureConnection`, before a byte of MQTT is read. */
export function judgePeer(socket: TLSSocket, material: TlsMaterial, now: Date): PeerVerdict {
  if (!material.requireCertificate) return { ok: true }
  return orUnreadable(() => verifiedPeer(socket, material) ?? judgeShown(socket, material, now))
}

// Node has just verified the whole way, unless the session is resumed; without a list nobody asks who the issuer is. What the client has
// brought along matters only where its issuer is not one of our roots, and OpenSSL reads each of those certificates once more for us.
function verifiedPeer(socket: TLSSocket, { revocation, trust }: TlsMaterial): PeerVerdict | undefined {
  if (socket.authorized !== true || socket.isSessionReused() || revocation !== undefined) return undefined
  const raw = peerLeaf(socket)
  if (raw === undefined) return undefined
  const fields = readCertificate(raw)
  return trust.rootAbove(fields) && { ok: true, certificate: clientCertificate(raw, [], fields) }
}

function judgeShown(socket: TLSSocket, material: TlsMaterial, now: Date): PeerVerdict {
  const x509 = peerCertificate(socket)
  // Asked first and apart: Node calls a resumed TLS 1.3 session authorized even when its client never sent a certificate.
  if (x509 === undefined) return noCertificate
  const leaf = toCertificate(x509)
  const sent = sentWith(x509).map(toCertificate)
  if (socket.authorized !== true) {
    const error = String(socket.authorizationError)
    return isForgiven(error, leaf, material, now)
      ? judgeCertificate(leaf, sent, material, now, error)
      : diagnose(leaf, sent, material, now, error)
  }
  return judgeCertificate(leaf, sent, material, now)
}

// Node names the last of several errors. The dates of the leaf come last but for the names and policies of its CAs, so that another name
// means that something else is wrong for certain, and this one nothing: all the rest is asked by `judgeCertificate` [X509_verify_cert(3)].
function isForgiven(error: string, leaf: Certificate, { peers }: TlsMaterial, now: Date): boolean {
  const isDate = error === 'CERT_HAS_EXPIRED' || error === 'CERT_NOT_YET_VALID'
  return peers.forgivesDates === true && isDate && checkDates(leaf, now) !== undefined
}

/**
 * Does a connection that was let in still stand by this material: dates, issuer, revocation? For connections that are open when the
 * configuration is read again, and for those whose handshake was under way.
 */
export function recheckPeer(certificate: ClientCertificate | undefined, material: TlsMaterial, now: Date): PeerVerdict {
  if (!material.requireCertificate) return { ok: true, ...(certificate && { certificate }) }
  if (certificate === undefined) return noCertificate
  return orUnreadable(() => {
    const leaf = toCertificate(new X509Certificate(certificate.raw))
    const sent = (certificate.chain ?? []).map(der => toCertificate(new X509Certificate(der)))
    return judgeCertificate(leaf, sent, material, now)
  })
}

/**
 * When what a connection was let in by is to be looked at again, milliseconds since 1970: the earliest end of its certificate and of the
 * CAs it may be of. What had ended before `since`, when it was last found to be good, says nothing. Undefined: nothing of that ends.
 */
export function nextLook({ notAfter }: ClientCertificate, { trust, intermediates, peers }: TlsMaterial, since: Date): number | undefined {
  const ends = [...trust.certificates, ...intermediates.values()].map(({ fields }) => fields.notAfter).filter(end => end >= since)
  if (!peers.forgivesDates) ends.push(notAfter)
  // Good for the whole of its last moment.
  return ends.length === 0 ? undefined : Math.min(...ends.map(Number)) + 1
}

/** Whatever OpenSSL lets through and we can't read is a no, never an exception. */
function orUnreadable(judge: () => PeerVerdict): PeerVerdict {
  try {
    return judge()
  } catch (error) {
    return { ok: false, reason: 'unreadable', words: `client sent a certificate that cannot be read (${errorMessage(error)})` }
  }
}

const noCertificate: PeerRefusal = { ok: false, reason: 'no-certificate', words: 'client did not send a certificate' }

/** `error`: what OpenSSL had against it. */
function judgeCertificate(leaf: Certificate, sent: readonly Certificate[], material: TlsMaterial, now: Date, error?: string): PeerVerdict {
  const outdated = checkDates(leaf, now)
  if (outdated !== undefined && material.peers.forgivesDates === undefined) return outdated
  const others = [...sent, ...material.intermediates.values()]
  const chain = buildChain(leaf, others, material.trust, now, { isStranger: error !== undefined })
  if ('fault' in chain) return refuseChain(leaf, chain, material, error)
  const broken = outdated && brokenRule(chain.path)
  if (broken !== undefined) return refuseRule(leaf, broken)
  const revoked = checkAgainstLists(chain.path, material, now)
  if (revoked !== undefined) return revoked
  const intermediates = chain.path.slice(1, -1).map(certificate => remember(certificate, material))
  return { ok: true, certificate: clientCertificate(leaf.x509.raw, intermediates, leaf.fields) }
}

/** Node has said no, and names just the last of several errors: find the one that helps. */
function diagnose(leaf: Certificate, sent: readonly Certificate[], material: TlsMaterial, now: Date, error: string): PeerRefusal {
  const chain = buildChain(leaf, sent, material.trust, now, { isStranger: true })
  if ('fault' in chain) return refuseChain(leaf, chain, material, error)
  const refusal = checkDates(leaf, now)
  if (refusal !== undefined) return refusal
  return refuse('not-authorized', leaf, authorizationWords.get(error) ?? `certificate is not accepted by OpenSSL (${error})`)
}

const authorizationWords: ReadonlyMap<string, string> = new Map([
  ['DEPTH_ZERO_SELF_SIGNED_CERT', 'certificate has the same subject as its CA, so that OpenSSL takes it for self-signed'],
  ['INVALID_PURPOSE', 'certificate is not made for clients (its extended key usage lacks clientAuth)'],
  ['UNSPECIFIED', 'certificate or one of its CAs is not accepted by OpenSSL: key too small, hash too weak, or a rule of the CA broken']
])

function checkDates(leaf: Certificate, now: Date): PeerRefusal | undefined {
  const { notBefore, notAfter } = leaf.fields
  if (now > notAfter) return refuse('expired', leaf, `certificate expired on ${dateOf(notAfter)}`)
  if (now < notBefore) return refuse('not-yet-valid', leaf, `certificate is not valid before ${dateOf(notBefore)}`)
  return undefined
}

function refuseChain(leaf: Certificate, broken: BrokenChain, material: TlsMaterial, error = 'no chain'): PeerRefusal {
  if (broken.fault === 'unknown-ca') return broken.isUnverified ? refuseUnverified(leaf, error) : refuseStranger(leaf, material)
  const { fault, by } = broken
  const ca = shown(by.fields.subject)
  switch (fault) {
    case 'ca-expired':
      return refuse(fault, leaf, `the CA ${ca} expired on ${dateOf(by.fields.notAfter)}`)
    case 'ca-not-yet-valid':
      return refuse(fault, leaf, `the CA ${ca} is not valid before ${dateOf(by.fields.notBefore)}`)
    case 'not-a-ca':
      return refuse(fault, leaf, `certificate is signed by ${ca}, which may not sign certificates`)
    case 'path-too-long':
      return refuse(fault, leaf, `there are more CAs below ${ca} than its path length allows`)
  }
}

function refuseRule(leaf: Certificate, { rule, by, words }: BrokenRule): PeerRefusal {
  return refuse(rule, leaf, `${by === leaf ? 'certificate' : `the CA ${shown(by.fields.subject)}`} ${words}`)
}

// Whether its CAs lead to ours is not known here, and OpenSSL's last error is all that there is to say.
function refuseUnverified(leaf: Certificate, error: string): PeerRefusal {
  const words = `certificate is not accepted by OpenSSL (${error}), and shows CAs whose signatures would take too long to verify`
  return refuse('not-authorized', leaf, words)
}

function refuseStranger(leaf: Certificate, { trust }: TlsMaterial): PeerRefusal {
  if (isSelfSigned(leaf)) return refuse('self-signed', leaf, 'certificate is self-signed')
  const issuer = shown(leaf.fields.issuer)
  const namesake = trust.named(leaf.fields.issuerKey).length > 0 ? ' (another CA than ours of that name)' : ''
  return refuse('unknown-ca', leaf, `certificate is signed by an unknown CA: ${issuer}${namesake}`)
}

// The leaf alone, as Mosquitto, or every certificate below the root.
function checkAgainstLists(path: readonly Certificate[], material: TlsMaterial, now: Date): PeerRefusal | undefined {
  const [leaf] = path
  if (material.revocation === undefined || leaf === undefined) return undefined
  const asked = material.peers.checksAuthorities ? path.slice(0, Math.max(1, path.length - 1)) : [leaf]
  for (const [depth, certificate] of asked.entries()) {
    // A self-signed leaf that is itself in cafile is its own issuer.
    const refusal = checkAgainstList(certificate, path[depth + 1] ?? certificate, leaf, material.revocation, material, now)
    if (refusal !== undefined) return refusal
  }
  return undefined
}

function checkAgainstList(
  certificate: Certificate,
  issuer: Certificate,
  leaf: Certificate,
  lists: readonly RevocationList[],
  { peers }: TlsMaterial,
  now: Date
): PeerRefusal | undefined {
  const isAuthority = certificate !== leaf
  const result = checkRevocation(lists, certificate, issuer, now, { isAuthority, forgivesExpired: peers.forgivesExpiredLists === true })
  if (result.revoked === false) return undefined
  if (result.revoked === true) {
    const what = isAuthority ? `the CA ${shown(certificate.fields.subject)}` : 'certificate'
    const words = `${what} is revoked (serial ${certificate.x509.serialNumber}, on ${dateOf(result.at)})`
    return refuse(isAuthority ? 'ca-revoked' : 'revoked', leaf, words)
  }
  const ca = shown(issuer.fields.subject)
  switch (result.why) {
    case 'missing':
      return refuse('crl-missing', leaf, `there is no CRL for ${ca}`)
    case 'expired':
      return refuse(
        'crl-expired',
        leaf,
        `the CRL of ${ca} expired on ${dateOf(result.date)}: until crlfile has a newer one, no client of that CA is let in`
      )
    case 'not-yet-valid':
      return refuse('crl-not-yet-valid', leaf, `the CRL of ${ca} is not valid before ${dateOf(result.date)}`)
  }
}

function refuse(reason: PeerReason, { fields }: Certificate, words: string): PeerRefusal {
  return { ok: false, reason, words, subject: shown(fields.subject), issuer: shown(fields.issuer) }
}

// A name may be as long as its owner likes, a log line may not.
function shown(name: Buffer): string {
  const text = formatName(name)
  return text.length > 256 ? `${text.slice(0, 255)}…` : text
}

function sentWith(leaf: X509Certificate): X509Certificate[] {
  const sent: X509Certificate[] = []
  for (let next = leaf.issuerCertificate; next !== undefined && sent.length < maxSent; next = next.issuerCertificate) sent.push(next)
  return sent
}

// Only CAs that lead to a root of ours come here, so nobody but our CAs can fill it.
const maxIntermediates = 256

/** The DER of an intermediate, one copy for all its clients. */
function remember(certificate: Certificate, { intermediates }: TlsMaterial): Buffer {
  const key = certificate.x509.fingerprint256
  const known = intermediates.get(key)
  if (known !== undefined) return known.x509.raw
  if (intermediates.size < maxIntermediates) intermediates.set(key, certificate)
  return certificate.x509.raw
}
