// The real openssl, as a second opinion on what our pki writes and as the maker of what it must read.

import { execFileSync } from 'node:child_process'

/** Runs openssl without input and returns what it prints; throws with its words when it says no. */
export function openssl(...args: readonly string[]): string {
  return execFileSync('openssl', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] })
}
