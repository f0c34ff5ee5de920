// What a reload would do to all clients of a CA at once: a crlfile that has no list of it any more, as when another CA's list was put in its
// place, lets none of them in. Such a reload is refused. At a start nobody knows what was meant, and Mosquitto starts.

import { buildChain, type Certificate } from '../auth/chain.js'
import { formatName } from '../auth/distinguished-name.js'
import type { RevocationList } from '../auth/revocation.js'
import type { TlsConfig } from '../config/types.js'
import type { Problem } from '../errors.js'
import type { TlsMaterial } from './tls.js'

/** CAs that had a list, are as good as before, and have none now: those of the files, and those that clients have shown. */
export function lostLists({ crlfile }: TlsConfig, before: TlsMaterial, after: TlsMaterial, now: Date): readonly Problem[] {
  const [old, lists] = [before.revocation, after.revocation]
  if (crlfile === undefined || old === undefined || lists === undefined || !after.requireCertificate) return []
  const shown = [...before.intermediates.values()]
  const isTrusted = (ca: Certificate): boolean => !('fault' in buildChain(ca, shown, after.trust, now))
  const authorities = [...after.trust.certificates, ...shown.filter(isTrusted)]
  return authorities.flatMap(ca => {
    if (!hasList(old, ca) || hasList(lists, ca)) return []
    const message = `There is no CRL of the CA ${formatName(ca.fields.subject)} in crlfile "${crlfile.path}" any more: every client of that CA would be refused.`
    return [{ severity: 'error', code: 'ERR_TLS_CRL', message, at: crlfile.at }]
  })
}

function hasList(lists: readonly RevocationList[], ca: Certificate): boolean {
  return lists.some(list => list.issuerKey === ca.fields.subjectKey && list.isSignedBy(ca))
}
