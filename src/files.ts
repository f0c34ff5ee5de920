// Reading files so that it can be told later whether they are still what was read: each path gets the signature it had before, and a
// digest of what it held.

import { createHash } from 'node:crypto'
import { readdir, readFile, stat } from 'node:fs/promises'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { errorMessage, systemCode } from './errors.js'

/** What tells one state of a path from another without reading it. */
export interface Signature {
  readonly id: string
  /** Not there, not to be looked at, or an empty file. */
  readonly isBlank: boolean
}

/** A path that was read, or was to be read. */
export interface ReadPath {
  readonly signature: Signature
  /** Of what it held, or of why it could not be read. */
  readonly digest: string
  /** Of a folder: the names in it that count. */
  readonly pick?: NamePick
}

export type NamePick = (name: string) => boolean

export class FileReader {
  readonly #paths = new Map<string, ReadPath>()
  readonly #given: ReadonlyMap<string, Buffer>

  /** `given`: what is to be read in the place of files that are not there yet. */
  constructor(given: ReadonlyMap<string, Buffer> = new Map()) {
    this.#given = given
  }

  /** Everything that was asked for, by path as it was given. */
  get paths(): ReadonlyMap<string, ReadPath> {
    return this.#paths
  }

  /** The content of a file, following symbolic links. Rejects as `readFile` does. */
  async read(path: string): Promise<Buffer> {
    // Before: what changes while it is read looks changed afterwards, and is read once more.
    const signature = await signatureOf(path)
    return this.#note(path, signature, undefined, async () => this.#given.get(path) ?? readFile(path))
  }

  /** The names in a folder that count, in no order. Rejects as `readdir` does. */
  async list(folder: string, pick: NamePick): Promise<string[]> {
    const signature = await signatureOf(folder, pick)
    return this.#note(folder, signature, pick, async () => (await readdir(folder)).filter(pick))
  }

  /** Did everything hold what it held when the other one read it, and are they the same paths? */
  hasSameContent({ paths }: FileReader): boolean {
    if (paths.size !== this.#paths.size) return false
    return [...this.#paths].every(([path, { digest }]) => paths.get(path)?.digest === digest)
  }

  /** Paths whose content is another than the other one's, or that it did not read. */
  changedSince({ paths }: FileReader): string[] {
    return [...this.#paths].flatMap(([path, { digest }]) => (paths.get(path)?.digest === digest ? [] : [path]))
  }

  async #note<T extends Buffer | string[]>(
    path: string,
    signature: Signature,
    pick: NamePick | undefined,
    read: () => Promise<T>
  ): Promise<T> {
    const known = this.#paths.get(path)
    // Of two readings the earlier signature counts: whatever came in between is looked at again.
    const note = (digest: string) => this.#paths.set(path, { signature: known?.signature ?? signature, digest, ...(pick && { pick }) })
    try {
      const content = await read()
      note(await digestOf(Array.isArray(content) ? content.toSorted().join('\0') : content))
      return content
    } catch (error) {
      note(reasonOf(error))
      throw error
    }
  }
}

/** The state of a path now. With `pick` it is a folder, of which some names count. */
export async function signatureOf(path: string, pick?: NamePick): Promise<Signature> {
  try {
    if (pick !== undefined) {
      const names = (await readdir(path)).filter(pick).sort()
      return { id: names.join('\0'), isBlank: false }
    }
    const { dev, ino, size, mtimeNs, ctimeNs } = await stat(path, { bigint: true })
    const id = [dev, ino, size, mtimeNs, ctimeNs].join(':')
    // Another change in the same tick of the file system's clock would look the same: one so young is never what it was before.
    const isYoung = Math.abs(Date.now() - Number(ctimeNs / 1_000_000n)) < tickLimit
    return { id: isYoung ? `${id}:${performance.now()}` : id, isBlank: size === 0n }
  } catch (error) {
    return { id: reasonOf(error), isBlank: true }
  }
}

/** Longer than a tick of any file system's clock, milliseconds. */
const tickLimit = 50

// A part in each turn: a file may be a revocation list of a million entries.
async function digestOf(content: Buffer | string): Promise<string> {
  const hash = createHash('sha256')
  if (typeof content === 'string') return hash.update(content).digest('base64')
  for (let at = 0; at < content.length; at += digestSlice) {
    if (at > 0) await nextTurn()
    hash.update(content.subarray(at, at + digestSlice))
  }
  return hash.digest('base64')
}

/** A millisecond or two of hashing, bytes. */
const digestSlice = 1 << 20

const reasonOf = (error: unknown): string => systemCode(error) ?? errorMessage(error)
