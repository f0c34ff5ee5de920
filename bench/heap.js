// The heap of this process, with what is no longer needed taken out.

import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'

/** Bytes: in JavaScript, and outside of it (buffers). */
export function heapAfterCollection() {
  setFlagsFromString('--expose-gc')
  runInNewContext('gc')()
  const { heapUsed, external } = process.memoryUsage()
  return { heapUsed, external }
}
