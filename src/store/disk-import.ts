// Beside a store: what a start that ends early leaves for the next one, so that `persistence_file` of Mosquitto is taken over whatever happens.
//
// A file that the store does not know (neither wrote nor took over) is taken over when it was written after the store, or when the store has
// nothing. LevelDB renews its files as soon as it is opened, so a start that ended between that and the end of the import would look like a store
// that is newer than the file, and the next save would write over it. So:
//
// 1. Before a store is opened beside a newer file, `.start` notes when it was written last. As long as that note is there, no start has come so
//    far that it could promise anything, and its time counts instead of that of LevelDB's files, whatever file lies there by then.
// 2. What the file says goes into a store of its own, `.draft`. An end meanwhile, a refusal, a full disk: file and store are as they were, and
//    the next start begins the draft anew.
// 3. Once the draft is whole and synced it is renamed `.imported`: from here on it is the store, and it knows the file.
// 4. The older store is set aside, `.imported` gets its name (or the next start does both), and `.start` goes.
//
// A draft whose file is gone, or was changed for another, is set aside: nobody else may have what is in it.

import { open, readFile, rename, rm } from 'node:fs/promises'
import { dirname } from 'node:path'
import { systemCode } from '../errors.js'
import { exists, moveAside, refusal, refuseIfOpen, syncFolder, writtenAt } from './level.js'
import type { FileMark } from './mosquitto-file.js'

export const draftOf = (path: string): string => `${path}.draft`
export const importedOf = (path: string): string => `${path}.imported`
const noteOf = (path: string): string => `${path}.start`

export interface StartNote {
  /** When the store was written last by a start that came to its end, milliseconds since 1970; 0: never. */
  readonly lastWritten: number
  /** The file that the draft is made of. */
  readonly source?: FileMark
}

/** Before the store is opened beside `file`. */
export async function beginStart(path: string, file: FileMark | undefined): Promise<StartNote> {
  try {
    await finishImport(path)
    const noted = await readNote(path)
    if (noted !== undefined) return noted
    const note = { lastWritten: Math.max(0, await writtenAt(path)) }
    // Of a store that is open the note would be wrong with its next commit; one that is not there yet has nothing, which is enough.
    if (file === undefined || note.lastWritten === 0 || file.mtimeMs <= note.lastWritten) return note
    await refuseIfOpen(path)
    await writeNote(path, note)
    return note
  } catch (error) {
    throw refusal(path, error)
  }
}

/** It is decided, and done, what becomes of the file. */
export async function endStart(path: string): Promise<void> {
  await rm(noteOf(path), { force: true })
  await syncFolder(dirname(path))
}

/** Makes way for a draft of this file; the place of one of another file. */
export async function beginDraft(path: string, note: StartNote, source: FileMark): Promise<string | undefined> {
  const isSame = note.source?.size === source.size && note.source.mtimeMs === source.mtimeMs
  if (isSame) await rm(draftOf(path), { recursive: true, force: true })
  const place = await setDraftAside(path)
  await writeNote(path, { ...note, source })
  return place
}

/** Undefined: there was none. */
export async function setDraftAside(path: string): Promise<string | undefined> {
  return (await exists(draftOf(path))) ? moveAside(draftOf(path), 'unfinished') : undefined
}

/** The draft is whole and closed. */
export async function acceptDraft(path: string, draft = draftOf(path)): Promise<void> {
  await rename(draft, importedOf(path))
  await syncFolder(dirname(path))
}

/** Puts what was taken over into the place of the store, where that is still to be done; where that lies now, if there was one. */
export async function finishImport(path: string): Promise<string | undefined> {
  if (!(await exists(importedOf(path)))) return undefined
  let place: string | undefined
  if (await exists(path)) {
    await refuseIfOpen(path)
    place = await moveAside(path, 'replaced')
  }
  await rename(importedOf(path), path)
  await syncFolder(dirname(path))
  return place
}

// One that can't be read says nothing: it was cut off, and so was the start, before it touched the store.
async function readNote(path: string): Promise<StartNote | undefined> {
  const text = await readFile(noteOf(path), 'utf8').catch(error => (systemCode(error) === 'ENOENT' ? '' : Promise.reject(error)))
  try {
    const { lastWritten, size, mtimeMs } = JSON.parse(text)
    if (typeof lastWritten !== 'number') return undefined
    return { lastWritten, ...(typeof size === 'number' && typeof mtimeMs === 'number' && { source: { size, mtimeMs } }) }
  } catch {
    return undefined
  }
}

async function writeNote(path: string, { lastWritten, source }: StartNote): Promise<void> {
  const draft = `${noteOf(path)}.new`
  const handle = await open(draft, 'w', 0o600)
  try {
    await handle.writeFile(JSON.stringify({ lastWritten, ...source }))
    await handle.sync()
  } finally {
    await handle.close()
  }
  await rename(draft, noteOf(path))
  await syncFolder(dirname(path))
}
