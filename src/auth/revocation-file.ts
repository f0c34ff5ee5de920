// A file of revocation lists, PEM: its bytes in, the lists in it with their indexes out, or the reason why it can't be used.

import { errorMessage } from '../errors.js'
import { pemBlocks } from '../pem.js'
import { indexRevocationList, type ListIndex, type Signer } from './revocation.js'

export interface IndexedList {
  readonly der: Buffer
  readonly index: ListIndex
}

/** `reason` is a sentence for a person, without its capital and full stop. */
export type RevocationFile = { readonly lists: readonly IndexedList[] } | { readonly reason: string }

/** `signers`: the CAs that the lists may be of. */
export function readRevocationFile(bytes: Buffer, signers: readonly Signer[]): RevocationFile {
  const blocks = pemBlocks(bytes.toString('latin1')).filter(({ label }) => label === 'X509 CRL')
  if (blocks.some(({ closed }) => !closed)) return { reason: 'it is cut off: the END line of a X509 CRL is missing' }
  if (blocks.length === 0) return { reason: `there is no PEM revocation list in it.${derHint(bytes)}` }
  const lists: IndexedList[] = []
  for (const { text } of blocks) {
    const der = Buffer.from(text.replaceAll(/-----[^-]+-----/g, ''), 'base64')
    try {
      lists.push({ der, index: indexRevocationList(der, signers) })
    } catch (error) {
      return { reason: `revocation list ${lists.length + 1} cannot be used: ${errorMessage(error)}` }
    }
  }
  return { lists }
}

function derHint(bytes: Buffer): string {
  return bytes[0] === 0x30 ? ' It looks like DER: convert it with "openssl crl -inform DER -in FILE -out NEWFILE".' : ''
}
