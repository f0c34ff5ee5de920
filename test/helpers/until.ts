// Waits for a condition, never for time: the deadline only ends a test that has already failed.

import { setTimeout as pause } from 'node:timers/promises'

/** Resolves with the first truthy value of `condition`; rejects after `deadline` milliseconds. */
export async function until<T>(condition: () => T | Promise<T>, deadline = 30_000): Promise<NonNullable<T>> {
  const end = Date.now() + deadline
  for (;;) {
    const value = await condition()
    if (value) return value
    if (Date.now() > end) throw new Error(`still not true after ${deadline} ms: ${condition}`)
    await pause(10)
  }
}
