// What ends of the files of a TLS listener, when, and what happens consequence: its own certificate and the CAs with it, the CAs of its clients,
// revocation lists.

import { dateOf } from '../auth/certificate.js'
import { isSelfSigned } from '../auth/chain.js'
import { formatName } from '../auth/distinguished-name.js'
import type { TlsConfig } from '../config/types.js'
import type { Location, Problem } from '../errors.js'
import type { TlsMaterial } from './tls.js'
import { authoritySource } from './tls-warnings.js'

export interface Ending {
  readonly of: 'certificate' | 'ca' | 'crl'
  /** `certfile "broker.crt"`. */
  readonly what: string
  readonly end: Date
  /** What happens then, behind a colon. */
  readonly consequence: string
  readonly at: Location
}

const day = 86_400_000

export function endingsOf(config: TlsConfig, { chain: [own, ...others], trust, revocation = [] }: TlsMaterial): readonly Ending[] {
  const { certfile, crlfile, peers } = config
  const authorities = authoritySource(config)
  const refused = 'clients will refuse it'
  const inCertfile = { of: 'certificate', consequence: refused, at: certfile.at } as const
  const listed = peers.forgivesExpiredLists ? 'who is revoked later comes in' : 'every client of that CA will be refused'
  return [
    ...(own ? [{ ...inCertfile, what: `certfile "${certfile.path}"`, end: own.fields.notAfter }] : []),
    // A root that stands at the end of the chain is looked at by nobody.
    ...others
      .filter(other => !isSelfSigned(other))
      .map(({ fields }) => ({
        ...inCertfile,
        what: `The CA certificate ${formatName(fields.subject)} in certfile "${certfile.path}"`,
        end: fields.notAfter
      })),
    ...trust.certificates.map(({ fields }) => ({
      of: 'ca' as const,
      what: `The CA certificate ${formatName(fields.subject)} in ${authorities.what}`,
      end: fields.notAfter,
      consequence: 'what it signed will be refused',
      at: authorities.at
    })),
    ...revocation.flatMap(({ issuer, nextUpdate }) =>
      crlfile && nextUpdate
        ? [
            {
              of: 'crl' as const,
              what: `The CRL of ${issuer} in crlfile "${crlfile.path}"`,
              end: nextUpdate,
              consequence: listed,
              at: crlfile.at
            }
          ]
        : []
    )
  ]
}

/** Whole days that are left; below 0: it is over. */
export function daysLeft(end: Date, now: Date): number {
  return Math.floor((end.getTime() - now.getTime()) / day)
}

/** What ends within so many days, 0: nothing does. What is over already is for whoever reads the files. */
export function endingSoon(endings: readonly Ending[], now: Date, days: number): readonly Problem[] {
  return endings.flatMap(({ what, end, consequence, at }) => {
    const left = daysLeft(end, now)
    if (left < 0 || left >= days) return []
    const when = left === 0 ? 'in less than a day' : left === 1 ? 'in one day' : `in ${left} days`
    return [warning(`${what} expires on ${dateOf(end)}, ${when}: ${consequence} from then on. Renew it.`, at)]
  })
}

/** What is over, for whoever is told every day. */
export function ended(endings: readonly Ending[], now: Date): readonly Problem[] {
  return endings.flatMap(({ what, end, consequence, at }) =>
    end < now ? [warning(`${what} expired on ${dateOf(end)}: ${consequence} until it is renewed.`, at)] : []
  )
}

const warning = (message: string, at: Location): Problem => ({ severity: 'warning', code: 'ERR_TLS_EXPIRES_SOON', message, at })
