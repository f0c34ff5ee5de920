// Waiting for what is due.

import { setTimeout as sleep } from 'node:timers/promises'

/** Milliseconds until it must have come. */
export const patience = 20_000

/** Resolves when it holds; false: it did not, for as long as one may wait. */
export async function holds(condition, milliseconds = patience) {
  const end = performance.now() + milliseconds
  while (!condition()) {
    if (performance.now() > end) return false
    await sleep(5)
  }
  return true
}
