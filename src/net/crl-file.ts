// `crlfile`: the revocation lists of a listener, each signed by the CA whose name it bears where that CA is known.

import { readReason } from '../account.js'
import type { Certificate, TrustStore } from '../auth/chain.js'
import type { RevocationList, Signer } from '../auth/revocation.js'
import { loadRevocationFile } from '../auth/revocation-thread.js'
import type { FileSetting, TlsConfig } from '../config/types.js'
import type { FileReader } from '../files.js'
import { type Report, sentence, warnAboutList } from './tls-warnings.js'

/** Undefined: the file can't be used, which is reported. */
export async function readCrlfile(
  { path, at }: FileSetting,
  trust: TrustStore,
  files: FileReader,
  report: Report
): Promise<readonly RevocationList[] | undefined> {
  const read = await loadOnce(path, trust, files)
  if (!('reason' in read)) return read.lists
  report('error', 'ERR_TLS_CRL', `Unable to load certificate revocation file "${path}". Check crlfile. ${sentence(read.reason)}`, at)
  return undefined
}

/** Reports what is wrong with lists that can be read, or odd about them. */
export function checkLists(
  lists: readonly RevocationList[],
  { crlfile, peers }: TlsConfig,
  trust: TrustStore,
  now: Date,
  report: Report
): void {
  if (crlfile === undefined) return
  const { path, at } = crlfile
  for (const list of lists) {
    const signers = trust.named(list.issuerKey)
    if (signers.length > 0 && !signers.some(signer => list.isSignedBy(signer))) {
      const message = `Unable to load certificate revocation file "${path}". Check crlfile. The CRL of ${list.issuer} is not signed by that CA.`
      report('error', 'ERR_TLS_CRL', message, at)
    }
    warnAboutList(list, signers.length > 0, crlfile, peers, now, report)
  }
}

type Loading = ReturnType<typeof loadRevocationFile>

const loading = new WeakMap<FileReader, Map<string, Loading>>()

/** Listeners with the same file and the same CAs share its lists, which may be large. */
function loadOnce(path: string, trust: TrustStore, files: FileReader): Loading {
  const known = loading.get(files) ?? new Map<string, Loading>()
  loading.set(files, known)
  const key = [path, ...trust.certificates.map(({ x509 }) => x509.fingerprint256)].join('\0')
  const lists = known.get(key) ?? load(path, trust, files)
  known.set(key, lists)
  return lists
}

async function load(path: string, trust: TrustStore, files: FileReader): Loading {
  let bytes: Buffer
  try {
    bytes = await files.read(path)
  } catch (error) {
    return { reason: readReason(error) }
  }
  return loadRevocationFile(bytes, trust.certificates.map(toSigner))
}

function toSigner({ x509, fields }: Certificate): Signer {
  return { subjectKey: fields.subjectKey, fingerprint: x509.fingerprint256, publicKey: x509.publicKey }
}
