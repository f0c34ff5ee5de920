// What listeners on a path share: a name that a dead process left is taken away, one that somebody answers on is not, and the socket is never
// open to more than its mode says, not even for a moment.

import { chmodSync } from 'node:fs'
import { lstat, stat, unlink } from 'node:fs/promises'
import { connect } from 'node:net'
import { dirname } from 'node:path'
import { isMainThread } from 'node:worker_threads'
import { systemCode } from '../errors.js'

/** sockaddr_un holds 108 bytes with the NUL at the end. */
const maxPathLength = 107

export function isPathTooLong(path: string): boolean {
  return Buffer.byteLength(path) > maxPathLength
}

/** What keeps a path from being that of a socket, whether or not somebody is there now: it is too long, or something else has the name. */
export async function obstacleAt(path: string): Promise<'long' | 'file' | undefined> {
  if (isPathTooLong(path)) return 'long'
  const found = await lstat(path).catch(() => undefined)
  return found === undefined || found.isSocket() ? undefined : 'file'
}

/** Removes a socket that nobody answers on. Resolves with why the path can't be had: `file`: something else has the name; `live`: somebody answers. */
export async function removeStale(path: string): Promise<'file' | 'live' | undefined> {
  const found = await lstat(path).catch(() => undefined)
  if (found === undefined) return undefined
  if (!found.isSocket()) return 'file'
  if (await answers(path)) return 'live'
  await unlink(path)
  return undefined
}

/** Calls `bind`, which has to bind before it returns, so that the socket gets this mode. */
export function bindWithMode<T>(path: string, mode: number, bind: () => T): T {
  if (!isMainThread) {
    // The mask belongs to the process: a worker may not change it.
    const bound = bind()
    chmodSync(path, mode)
    return bound
  }
  const previous = process.umask(0o777 & ~mode)
  try {
    return bind()
  } finally {
    process.umask(previous)
  }
}

/** Why it could not be bound: libuv says EACCES for a folder that is not there as well. */
export async function bindFault(error: unknown, path: string): Promise<unknown> {
  if (systemCode(error) !== 'EACCES') return error
  return stat(dirname(path)).then(
    () => error,
    (missing: unknown) => missing
  )
}

function answers(path: string): Promise<boolean> {
  return new Promise(resolve => {
    const socket = connect(path)
    socket.once('connect', () => {
      socket.destroy()
      resolve(true)
    })
    // Anything but a refusal (no permission, too many waiting) means that somebody may be there.
    socket.once('error', error => resolve(systemCode(error) !== 'ECONNREFUSED'))
  })
}
