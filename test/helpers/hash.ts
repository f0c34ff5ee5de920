// Password file lines with the cheapest hash that Mosquitto knows.

import { createHash, randomBytes } from 'node:crypto'

/** `name:$6$…` with a new salt. */
export function passwordLine(username: string, password: string): string {
  const salt = randomBytes(12)
  const hash = createHash('sha512').update(password).update(salt).digest()
  return `${username}:$6$${salt.toString('base64')}$${hash.toString('base64')}`
}
