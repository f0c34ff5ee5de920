// Files that hold a secret, and who else may read them: the mode of a file in, a warning out.

import type { Location, Problem } from './errors.js'

/** The warning about a secret that everybody may read, in Mosquitto's words; undefined: it is safe from that. */
export function worldReadable(path: string, mode: number, at: Location | undefined): Problem | undefined {
  if ((mode & 0o004) === 0) return undefined
  const message = `File ${path} has world readable permissions. To fix this, use 'chmod o-rwx ${path}'.`
  return { severity: 'warning', code: 'ERR_FILE_PERMISSIONS', message, ...(at && { at }) }
}
