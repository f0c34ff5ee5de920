// The account this process runs under, for people: a file that root may read is often not readable by the account the broker changed to.

import { userInfo } from 'node:os'
import { systemCode, systemReason } from './errors.js'

/** The account's name; a container's arbitrary uid has none and is shown as a number. */
export function accountName(): string {
  try {
    return userInfo().username
  } catch {
    return `id ${process.geteuid?.()}`
  }
}

/** Why a file could not be read, in strerror's words, and by whom when it is a matter of permission. */
export function readReason(error: unknown): string {
  const reason = systemReason(error)
  return systemCode(error) === 'EACCES' ? `${reason} for user ${accountName()}` : reason
}
