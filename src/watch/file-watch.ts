// Notices that files are not what was read of them, however they were replaced, and says so once nothing has changed for a while. Events
// of the system only make it look sooner: what counts is the signature of each file, which is also looked at every few seconds, since
// network file systems, bind mounts and renamed folders give no events.

import { basename, join } from 'node:path'
import { type ReadPath, type Signature, signatureOf } from '../files.js'
import { FolderWatch } from './folder-watch.js'
import { type Place, placesOf } from './places.js'

export interface FileWatchOptions {
  /** These are other files now. Nothing more is said until `follow` is called again. */
  changed(paths: readonly string[]): void
  /** Changes in this folder are found by looking alone. */
  unwatched(folder: string, reason: string): void
  readonly times?: WatchTimes
}

/** Milliseconds. */
export interface WatchTimes {
  /** Nothing has changed for so long. */
  readonly settle: number
  /** Whatever goes on changing, or stays away or empty, is waited for so long. */
  readonly patience: number
  /** Between two looks without an event. */
  readonly poll: number
}

export const watchTimes: WatchTimes = { settle: 500, patience: 10_000, poll: 5000 }

/** Events come in flocks. */
const eventDelay = 20

type Signatures = ReadonlyMap<string, Signature>

export class FileWatch {
  readonly #options: FileWatchOptions
  readonly #times: WatchTimes
  readonly #folders: FolderWatch
  readonly #poll: NodeJS.Timeout
  /** What is compared with; undefined: `changed` was called. */
  #paths: ReadonlyMap<string, ReadPath> | undefined
  #following: Promise<void> = Promise.resolve()
  #timer: NodeJS.Timeout | undefined
  #isLooking = false
  #isClosed = false
  /** Since when something is other, and how it looked at last; undefined: all is as it was. */
  #change: { readonly since: number; seen: Signatures; seenAt: number } | undefined

  constructor(options: FileWatchOptions) {
    this.#options = options
    this.#times = options.times ?? watchTimes
    this.#folders = new FolderWatch({
      happened: () => this.#lookIn(eventDelay),
      failed: (folder, reason) => options.unwatched(folder, reason)
    })
    this.#poll = setInterval(() => this.#lookIn(0), this.#times.poll)
    this.#poll.unref()
  }

  /** From now on these are what the files are compared with. What has changed since they were read is noticed too. */
  follow(paths: ReadonlyMap<string, ReadPath>): void {
    this.#paths = paths
    this.#change = undefined
    this.#following = this.#following.then(async () => {
      if (this.#paths !== paths) return
      const places: Place[] = []
      for (const [path, { pick }] of paths) places.push(...(await placesOf(path, pick)))
      await this.#folders.follow(places)
      this.#lookIn(0)
    })
  }

  close(): void {
    this.#isClosed = true
    this.#paths = undefined
    clearInterval(this.#poll)
    clearTimeout(this.#timer)
    this.#folders.close()
  }

  #lookIn(milliseconds: number): void {
    if (this.#timer !== undefined || this.#isLooking || this.#isClosed) return
    this.#timer = setTimeout(() => {
      this.#timer = undefined
      void this.#look()
    }, milliseconds)
    this.#timer.unref()
  }

  async #look(): Promise<void> {
    const paths = this.#paths
    if (paths === undefined) return
    this.#isLooking = true
    const seen = new Map<string, Signature>()
    // One after the other: the store needs libuv's threads more.
    for (const [path, { pick }] of paths) seen.set(path, await signatureOf(path, pick))
    this.#isLooking = false
    if (paths !== this.#paths) this.#lookIn(0)
    else this.#judge(paths, seen)
  }

  #judge(paths: ReadonlyMap<string, ReadPath>, seen: Signatures): void {
    const others = [...seen].filter(([path, { id }]) => paths.get(path)?.signature.id !== id)
    if (others.length === 0) {
      this.#change = undefined
      return
    }
    const now = performance.now()
    const change = this.#change ?? { since: now, seen, seenAt: now }
    if (!isSame(change.seen, seen)) Object.assign(change, { seen, seenAt: now })
    this.#change = change
    const { settle, patience } = this.#times
    const isUnfinished = others.some(([path, { isBlank }]) => isBlank && isExpected(path, paths))
    if ((now - change.seenAt >= settle && !isUnfinished) || now - change.since >= patience) {
      this.#paths = undefined
      this.#change = undefined
      this.#options.changed(others.map(([path]) => path))
    } else {
      // A little more than that: timers are early by up to a millisecond.
      this.#lookIn(Math.min(settle, change.since + patience - now) + 2)
    }
  }
}

/** One that was emptied or taken away is about to be written, or put back; but in a folder whose names are looked at any may go. */
function isExpected(path: string, paths: ReadonlyMap<string, ReadPath>): boolean {
  const isListed = [...paths].some(([folder, { pick }]) => pick !== undefined && join(folder, basename(path)) === join(path))
  return !isListed && paths.get(path)?.signature.isBlank === false
}

function isSame(a: Signatures, b: Signatures): boolean {
  return [...a].every(([path, { id }]) => b.get(path)?.id === id)
}
