// `persistence_file`, the database in Mosquitto's own format beside our store: the way in, when Mosquitto wrote it last, and the way back.

import { open, readFile, rename, rm, stat } from 'node:fs/promises'
import { dirname } from 'node:path'
import { crc32 } from 'node:zlib'
import { BrokerError, systemCode, systemReason } from '../errors.js'
import { syncFolder } from './level.js'
import { type KeptChange, parseMosquittoDb } from './mosquitto-db.js'
import { writeMosquittoDb } from './mosquitto-db-writer.js'

/** Which file it is: another one of that name is somebody else's. */
export interface FileMark {
  readonly size: number
  /** When it was written, milliseconds since 1970. */
  readonly mtimeMs: number
  /** CRC-32 of its bytes, where they were read or written: with them it is the same file, whatever became of its date. */
  readonly sum?: number
}

/** Of the draft that becomes the file. */
const draftEnd = '.new'

/** Undefined: there is none. */
export async function markOf(file: string): Promise<FileMark | undefined> {
  const found = await stat(file).catch(error => (isNoFile(error) ? undefined : Promise.reject(refusal(file, error))))
  return found?.isFile() ? { size: found.size, mtimeMs: found.mtimeMs } : undefined
}

// Where its folder is none the store says so.
const isNoFile = (error: unknown): boolean => ['ENOENT', 'ENOTDIR'].includes(systemCode(error) ?? '')

export async function readMosquittoFile(file: string): Promise<Buffer> {
  return readFile(file).catch(error => Promise.reject(refusal(file, error)))
}

/** Why nothing of it can be taken over, as the end of a sentence; undefined: something can. */
export async function databaseFault(file: string): Promise<string | undefined> {
  const first = parseMosquittoDb(await readMosquittoFile(file)).next()
  return first.done ? first.value?.message : undefined
}

/**
 * Writes all of it beside the file and puts it in its place at once; `beforeRename` is told which file it will be. Rejects with what the
 * system says, and then the file is as it was; also when the signal says that it takes too long.
 */
export async function writeMosquittoFile(
  file: string,
  changes: AsyncIterable<KeptChange>,
  beforeRename: (mark: FileMark) => Promise<unknown>,
  signal: AbortSignal
): Promise<FileMark> {
  const draft = `${file}${draftEnd}`
  const handle = await open(draft, 'w', 0o600)
  try {
    let sum = 0
    for await (const block of writeMosquittoDb(changes)) {
      signal.throwIfAborted()
      sum = crc32(block, sum)
      await handle.appendFile(block)
    }
    await handle.sync()
    const { size, mtimeMs } = await handle.stat()
    await handle.close()
    const mark = { size, mtimeMs, sum }
    await beforeRename(mark)
    await rename(draft, file)
    await syncFolder(dirname(file))
    return mark
  } catch (error) {
    await handle.close().catch(() => {})
    await rm(draft, { force: true }).catch(() => {})
    throw error
  }
}

function refusal(file: string, error: unknown): BrokerError {
  return new BrokerError('ERR_STORE_OPEN', `Unable to read persistence_file ${file}: ${systemReason(error)}.`, undefined, { cause: error })
}
