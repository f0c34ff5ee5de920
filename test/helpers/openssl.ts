// The real openssl, as a second opinion on what our pki writes and as the maker of what it must read.

import { execFileSync } from 'node:child_process'

/** Runs openssl without input and returns what it prints; throws with its words when it says no. */
export function openssl(...args: readonly string[]): string {
  return execFileSync('openssl', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] })
}

/** Makes a CA as people do by hand; the subject and the passphrase are what they answer at the prompts. */
export function opensslCa(files: { readonly cert: string; readonly key: string }, subject: string, passphrase: string): void {
  const command = 'req -new -x509 -days 365 -extensions v3_ca'.split(' ')
  openssl(...command, '-keyout', files.key, '-out', files.cert, '-subj', subject, '-passout', `pass:${passphrase}`)
}
