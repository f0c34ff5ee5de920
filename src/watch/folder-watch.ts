// Tells when something happens to a name that counts, in any of some folders. Folders and not files: what is renamed over a file, or
// takes the place of one that was deleted, is another file, which nobody watches yet.

import { type FSWatcher, watch } from 'node:fs'
import { stat } from 'node:fs/promises'
import { systemCode, systemReason } from '../errors.js'
import type { NamePick } from '../files.js'
import type { Place } from './places.js'

export interface FolderWatchOptions {
  happened(): void
  /** Once for each folder. */
  failed(folder: string, reason: string): void
}

interface Watched {
  /** Of the very folder: another of its name has another. */
  readonly id: string
  readonly watcher: FSWatcher
  picks: readonly NamePick[]
}

export class FolderWatch {
  readonly #options: FolderWatchOptions
  readonly #watched = new Map<string, Watched>()
  readonly #failed = new Set<string>()
  #isClosed = false

  constructor(options: FolderWatchOptions) {
    this.#options = options
  }

  /** From now on these places, and no others. One call at a time. */
  async follow(places: readonly Place[]): Promise<void> {
    const wanted = new Map<string, NamePick[]>()
    for (const { folder, pick } of places) wanted.set(folder, [...(wanted.get(folder) ?? []), pick])
    for (const folder of this.#watched.keys()) if (!wanted.has(folder)) this.#unwatch(folder)
    for (const [folder, picks] of wanted) {
      const id = await idOf(folder)
      if (this.#isClosed) return
      const known = this.#watched.get(folder)
      if (known !== undefined && known.id === id) known.picks = picks
      else this.#watch(folder, id, picks)
    }
  }

  close(): void {
    this.#isClosed = true
    for (const folder of this.#watched.keys()) this.#unwatch(folder)
  }

  #watch(folder: string, id: string | undefined, picks: readonly NamePick[]): void {
    this.#unwatch(folder)
    if (id === undefined) return
    try {
      const watcher = watch(folder, { persistent: false }, (_, name) => this.#happened(folder, name))
      watcher.on('error', error => {
        this.#unwatch(folder)
        this.#fail(folder, error)
      })
      this.#watched.set(folder, { id, watcher, picks })
    } catch (error) {
      this.#fail(folder, error)
    }
  }

  #unwatch(folder: string): void {
    this.#watched.get(folder)?.watcher.close()
    this.#watched.delete(folder)
  }

  #happened(folder: string, name: string | null): void {
    const picks = this.#watched.get(folder)?.picks ?? []
    if (name === null || picks.some(pick => pick(name))) this.#options.happened()
  }

  #fail(folder: string, error: unknown): void {
    if (systemCode(error) === 'ENOENT' || this.#failed.has(folder)) return
    this.#failed.add(folder)
    this.#options.failed(folder, systemReason(error))
  }
}

async function idOf(folder: string): Promise<string | undefined> {
  try {
    const { dev, ino } = await stat(folder, { bigint: true })
    return `${dev}:${ino}`
  } catch {
    return undefined
  }
}
