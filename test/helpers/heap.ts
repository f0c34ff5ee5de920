// What something costs on the heap, in bytes, after a full collection on both sides.

import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'

setFlagsFromString('--expose-gc')
const collect: () => void = runInNewContext('gc')

export function growthOf(work: () => void): number {
  const before = usedHeap()
  work()
  return usedHeap() - before
}

/** Bytes that are alive. */
export function usedHeap(): number {
  collect()
  collect()
  return process.memoryUsage().heapUsed
}
