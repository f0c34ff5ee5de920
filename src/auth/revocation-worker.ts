// The thread that reads one file of revocation lists and ends.

import { Buffer } from 'node:buffer'
import { parentPort } from 'node:worker_threads'
import { readRevocationFile } from './revocation-file.js'
import { type FileAnswer, type FileQuestion, ownBytes } from './revocation-thread.js'

const port = parentPort
port?.once('message', ({ bytes, signers }: FileQuestion) => {
  const read = readRevocationFile(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length), signers)
  if ('reason' in read) {
    port.postMessage(read satisfies FileAnswer)
    return
  }
  const lists = read.lists.map(({ der, index }) => ({ der: ownBytes(der), index }))
  const moved = lists.flatMap(({ der, index }) => [der.buffer, index.serials.places.buffer].filter(buffer => buffer instanceof ArrayBuffer))
  port.postMessage({ lists } satisfies FileAnswer, moved)
})
