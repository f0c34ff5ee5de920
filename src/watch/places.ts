// Where a file can become another: the folder it lies in, and that of every symbolic link on the way to it. Kubernetes swaps such a link
// to replace all files of a folder at once.

import { readlink } from 'node:fs/promises'
import { dirname, isAbsolute, join } from 'node:path'
import type { NamePick } from '../files.js'

/** A folder, free of links, and the names in it that count. */
export interface Place {
  readonly folder: string
  readonly pick: NamePick
}

/** As many as Linux follows. */
const mostLinks = 40

/** The places of a path as it is now; with `pick` it is a folder, and these of its names count. What is not there has its place all the same. */
export async function placesOf(path: string, pick?: NamePick): Promise<readonly Place[]> {
  const places: Place[] = []
  // Not `resolve`: it takes away a `..` before the link in front of it is known.
  const left = partsOf(isAbsolute(path) ? path : `${process.cwd()}/${path}`)
  let at = '/'
  let links = 0
  for (let name = left.shift(); name !== undefined; name = left.shift()) {
    if (name === '..') {
      at = dirname(at)
      continue
    }
    const target = links < mostLinks ? await readlink(join(at, name)).catch(() => undefined) : undefined
    if (target !== undefined || left.length === 0) places.push({ folder: at, pick: isName(name) })
    if (target === undefined) {
      at = join(at, name)
      continue
    }
    links += 1
    left.unshift(...partsOf(target))
    if (isAbsolute(target)) at = '/'
  }
  return pick === undefined ? places : [...places, { folder: at, pick }]
}

function partsOf(path: string): string[] {
  return path.split('/').filter(part => part !== '' && part !== '.')
}

const isName =
  (wanted: string): NamePick =>
  name =>
    name === wanted
