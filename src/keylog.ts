// --tls-keylog: the TLS keys of every connection in the format of NSS, for decrypting a capture. A file for its owner alone.

import { closeSync, fchmodSync, openSync, writeSync } from 'node:fs'
import { BrokerError, systemReason } from './errors.js'

export interface KeylogFile {
  write(line: Buffer): void
  close(): void
}

/** Opens the file to append to it, and takes it away from others. Throws ERR_TLS_FILE. */
export function openKeylog(path: string): KeylogFile {
  const fd = open(path)
  return {
    write(line) {
      try {
        writeSync(fd, line)
      } catch {
        // A full disk costs these lines, not the connection.
      }
    },
    close: () => closeSync(fd)
  }
}

function open(path: string): number {
  try {
    const fd = openSync(path, 'a', 0o600)
    fchmodSync(fd, 0o600)
    return fd
  } catch (error) {
    throw new BrokerError('ERR_TLS_FILE', `Unable to open TLS keylog file ${path} for writing. ${systemReason(error)}.`, undefined, {
      cause: error
    })
  }
}
