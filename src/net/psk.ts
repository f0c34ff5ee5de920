// TLS with keys that both sides have beforehand instead of certificates: the material of such a listener, and who is at the other end.

import { constants, createHash } from 'node:crypto'
import { createSecureContext, type TLSSocket } from 'node:tls'
import { TrustStore } from '../auth/chain.js'
import type { PskIdentity } from '../auth/identity.js'
import { decoyKey, isKeyOf, keyMark, type PskEntries } from '../auth/psk-file.js'
import type { PskConfig } from '../config/types.js'
import type { Problem } from '../errors.js'
import type { HandshakeFault } from './handshake-fault.js'
import { defaultCiphers, type TlsMaterial } from './tls.js'

/** What a client said in the handshake, whether or not that can be. */
interface Claim extends PskIdentity {
  readonly isKnown: boolean
}

/** Node doesn't tell afterwards who it was. */
const claims = new WeakMap<TLSSocket, Claim>()

/** What a listener with `psk_hint` works with. */
export function pskMaterial(
  { hint, ciphers }: PskConfig,
  entries: PskEntries
): { readonly material?: TlsMaterial; readonly problems: readonly Problem[] } {
  const list = ciphers?.value ?? defaultCiphers
  try {
    createSecureContext({ ciphers: list, maxVersion: 'TLSv1.2' })
  } catch {
    const message = `Unable to set TLS ciphers. Check cipher list "${list}".`
    return { problems: [{ severity: 'error', code: 'ERR_TLS_CIPHERS', message, ...(ciphers && { at: ciphers.at }) }] }
  }
  const material: TlsMaterial = {
    requireCertificate: false,
    peers: {},
    chain: [],
    trust: new TrustStore([]),
    serverOptions: {
      ciphers: list,
      // As Mosquitto; and Node's keys are those of TLS 1.2.
      minVersion: 'TLSv1.2',
      maxVersion: 'TLSv1.2',
      honorCipherOrder: true,
      // And no DH of 3072 bits, which OpenSSL would prefer and which takes its time on either side: ECDHE-PSK keeps secrets as well.
      ecdhCurve: 'auto',
      // A resumed session would say nobody's name, and outlive its key.
      secureOptions: constants.SSL_OP_NO_TICKET | constants.SSL_OP_NO_RENEGOTIATION | constants.SSL_OP_NO_COMPRESSION,
      pskIdentityHint: hint,
      pskCallback: (socket, identity) => {
        const entry = entries.get(identity)
        const key = entry?.key ?? decoyKey(identity)
        claims.set(socket, { identity, mark: keyMark(key), isKnown: entry !== undefined })
        return key
      }
    },
    digest: digestOf(hint, list, entries),
    intermediates: new Map(),
    psk: entries
  }
  return { material, problems: [] }
}

/** Who has proven to have the key of whom. */
export function pskIdentityOf(socket: TLSSocket): PskIdentity | undefined {
  const claim = claims.get(socket)
  return claim?.isKnown ? { identity: claim.identity, mark: claim.mark } : undefined
}

/** Why the handshake failed, where that has to do with keys. */
export function pskFault(socket: TLSSocket): HandshakeFault | undefined {
  const claim = claims.get(socket)
  if (claim === undefined) return undefined
  const name = claim.identity.length > 128 ? `${claim.identity.slice(0, 127)}…` : claim.identity
  return claim.isKnown ? { reason: 'wrong-psk', words: `client does not have the key of PSK identity '${name}'` } : unknownIdentity(name)
}

const unknownIdentity = (name: string): HandshakeFault => ({ reason: 'unknown-psk', words: `PSK identity '${name}' is not in psk_file` })

/** Does a client that was let in still stand by this material? Undefined: it does. */
export function recheckPsk(psk: PskIdentity | undefined, { psk: entries }: TlsMaterial): HandshakeFault | undefined {
  if (entries === undefined) return undefined
  if (psk === undefined) return { reason: 'unknown-psk', words: 'client has no pre-shared key' }
  if (!entries.has(psk.identity)) return unknownIdentity(psk.identity)
  return isKeyOf(entries, psk) ? undefined : { reason: 'wrong-psk', words: `the key of PSK identity '${psk.identity}' is another one now` }
}

function digestOf(hint: string, ciphers: string, entries: PskEntries): string {
  const hash = createHash('sha256').update(JSON.stringify([hint, ciphers]))
  for (const [identity, { key }] of entries) hash.update(JSON.stringify([identity, key.toString('hex')]))
  return hash.digest('hex')
}
