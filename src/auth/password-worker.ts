// The thread that derives hashes: one job in, one answer out. Everything is computed on this thread (synchronous crypto, WebAssembly),
// never in libuv's pool, which files and the store need.

import { Buffer } from 'node:buffer'
import { createHash, pbkdf2Sync } from 'node:crypto'
import { parentPort } from 'node:worker_threads'
import { argon2id } from 'hash-wasm'
import { errorMessage } from '../errors.js'
import type { Derivation, DerivationAnswer } from './hash-threads.js'

const port = parentPort
port?.on('message', (derivation: Derivation) => {
  derive(derivation).then(
    hash => port.postMessage({ hash } satisfies DerivationAnswer),
    (error: unknown) => port.postMessage({ failure: errorMessage(error) } satisfies DerivationAnswer)
  )
})

async function derive({ setting, salt, length, password }: Derivation): Promise<Uint8Array> {
  switch (setting.scheme) {
    case 'sha512':
      return createHash('sha512').update(password).update(salt).digest()
    case 'sha512-pbkdf2':
      return pbkdf2Sync(password, salt, setting.iterations, length, 'sha512')
    case 'argon2id': {
      // The library refuses an empty password. Its check costs as much as any other, and the answer is no: an empty hash matches nothing.
      const { memory: memorySize, iterations, parallelism } = setting
      const bytes = password.length === 0 ? Buffer.from([0]) : password
      const hash = await argon2id({ password: bytes, salt, memorySize, iterations, parallelism, hashLength: length, outputType: 'binary' })
      return password.length === 0 ? new Uint8Array() : hash
    }
  }
}
