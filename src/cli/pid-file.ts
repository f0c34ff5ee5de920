// pid_file: holds the number of the running process, and goes when it ends.

import { rmSync, writeFileSync } from 'node:fs'
import type { FileSetting } from '../config/types.js'
import { BrokerError, systemReason } from '../errors.js'

/** Writes the number of this process; returns what removes the file again. Throws ERR_PID_FILE. */
export function writePidFile(setting: FileSetting): () => void {
  try {
    writeFileSync(setting.path, String(process.pid), { mode: 0o644 })
  } catch (error) {
    throw new BrokerError('ERR_PID_FILE', `Unable to write pid file. ${setting.path}: ${systemReason(error)}.`, setting.at, {
      cause: error
    })
  }
  return () => {
    try {
      rmSync(setting.path, { force: true })
    } catch {
      // The folder may no longer be ours to write to; a stale number is what Mosquitto leaves then, too.
    }
  }
}
