// Reads a file of revocation lists; a large one in a thread of its own, which ends with it: a million entries take seconds, and nobody
// else is to wait for them.

import { Worker } from 'node:worker_threads'
import { errorMessage } from '../errors.js'
import { parseRevocationList, type RevocationList, type Signer } from './revocation.js'
import { type IndexedList, type RevocationFile, readRevocationFile } from './revocation-file.js'

/** What the thread is asked. */
export interface FileQuestion {
  readonly bytes: Uint8Array
  readonly signers: readonly Signer[]
}

/** What it answers: bytes lose on their way that they are a Buffer. */
export type FileAnswer =
  | { readonly lists: readonly (Omit<IndexedList, 'der'> & { readonly der: Uint8Array })[] }
  | { readonly reason: string }

/** Some six hundred entries: a smaller file takes a millisecond or two. */
const inlineLimit = 32 * 1024

/** `reason`: why the file can't be used, a sentence without its capital and full stop. `bytes` are not to be used afterwards. */
export async function loadRevocationFile(
  bytes: Buffer,
  signers: readonly Signer[]
): Promise<{ readonly lists: readonly RevocationList[] } | { readonly reason: string }> {
  const read = bytes.length <= inlineLimit ? readRevocationFile(bytes, signers) : await readApart(bytes, signers)
  return 'reason' in read ? read : { lists: read.lists.map(({ der, index }) => parseRevocationList(der, index)) }
}

function readApart(bytes: Buffer, signers: readonly Signer[]): Promise<RevocationFile> {
  return new Promise(resolve => {
    const own = ownBytes(bytes)
    // No execArgv: flags for the main thread (loaders, inspector) are not meant for this one.
    const worker = new Worker(new URL('./revocation-worker.js', import.meta.url), { execArgv: [], name: 'revocation lists' })
    worker.once('message', (answer: FileAnswer) => {
      resolve('reason' in answer ? answer : { lists: answer.lists.map(({ der, index }) => ({ der: asBuffer(der), index })) })
    })
    worker.once('error', error => resolve({ reason: `it could not be read: ${errorMessage(error)}` }))
    worker.once('exit', () => resolve({ reason: 'it could not be read: the thread that reads it ended' }))
    worker.postMessage({ bytes: own, signers } satisfies FileQuestion, [own.buffer])
  })
}

const asBuffer = ({ buffer, byteOffset, length }: Uint8Array): Buffer => Buffer.from(buffer, byteOffset, length)

/** The same bytes in memory that may be handed to another thread as a whole. */
export function ownBytes(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  const { buffer } = bytes
  return buffer instanceof ArrayBuffer && buffer.byteLength === bytes.length ? new Uint8Array(buffer) : Uint8Array.from(bytes)
}
