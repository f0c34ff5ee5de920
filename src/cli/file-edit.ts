// Changes a small file so that at any moment either the old or the new content is there, whole: written beside, synced, renamed. Owner,
// group and mode stay; of a symbolic link the target is changed. The file beside is also the lock against a second change.

import { constants } from 'node:fs'
import { access, type FileHandle, open, readFile, realpath, rename, stat, unlink } from 'node:fs/promises'
import { dirname } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { systemCode } from '../errors.js'

/** Somebody else is changing the file, or something that looks like it. */
export class FileConflict extends Error {}

/** Fails as opening the file for reading and writing would, before anybody is asked for anything. */
export async function checkEditable(path: string): Promise<void> {
  await access(path, constants.R_OK | constants.W_OK)
  const found = await stat(path)
  if (found.isDirectory()) throw Object.assign(new Error('is a directory'), { code: 'EISDIR' })
  if (!found.isFile()) throw new Error('Not a regular file')
}

/** Gives the content to `edit` and puts in its place what it returns; asks again if the file changed meanwhile. */
export async function editFile(path: string, edit: (content: Buffer) => Promise<Buffer>): Promise<void> {
  const target = await realpath(path)
  await checkEditable(target)
  for (let attempt = 0; attempt < 5; attempt++) {
    const before = await readFile(target)
    const after = await edit(before)
    if (after.equals(before) || (await replace(target, before, after))) return
  }
  throw new FileConflict(`${path} was changed by somebody else again and again; nothing was written.`)
}

/** Creates a file that must not exist, readable by its owner only. */
export async function createFile(path: string, content: string): Promise<void> {
  const handle = await open(path, 'wx', 0o600)
  try {
    await handle.writeFile(content)
    await handle.sync()
  } catch (error) {
    await unlink(path)
    throw error
  } finally {
    await handle.close()
  }
  await syncDirectory(path)
}

async function replace(target: string, before: Buffer, after: Buffer): Promise<boolean> {
  const beside = `${target}.passwd-new`
  const handle = await openLock(beside)
  try {
    await writeAs(handle, target, after)
    // The last look is as late as can be: an editor knows nothing of our lock.
    const unchanged = before.equals(await readFile(target))
    await (unchanged ? rename(beside, target) : unlink(beside))
    if (unchanged) await syncDirectory(target)
    return unchanged
  } catch (error) {
    await unlink(beside).catch(() => {})
    throw error
  }
}

async function writeAs(handle: FileHandle, target: string, content: Buffer): Promise<void> {
  try {
    const [old, own] = await Promise.all([stat(target), handle.stat()])
    if (old.uid !== own.uid || old.gid !== own.gid) await handle.chown(old.uid, old.gid)
    // After chown, which may clear bits of the mode.
    await handle.chmod(old.mode & 0o7777)
    await handle.writeFile(content)
    await handle.sync()
  } finally {
    await handle.close()
  }
}

// Nobody holds the lock for longer than a write takes. One that stays was left by a crash, or is somebody's own file: not ours to remove.
async function openLock(path: string): Promise<FileHandle> {
  for (let attempt = 0; attempt < 40; attempt++) {
    try {
      return await open(path, 'wx', 0o600)
    } catch (error) {
      if (systemCode(error) !== 'EEXIST') throw error
    }
    await sleep(50)
  }
  throw new FileConflict(`${path} exists: another change is under way, or one was cut short. If none is, remove it and try again.`)
}

// The rename has happened; a file system that cannot sync a directory does not undo it.
async function syncDirectory(path: string): Promise<void> {
  const handle = await open(dirname(path), 'r').catch(() => undefined)
  await handle?.sync().catch(() => {})
  await handle?.close()
}
