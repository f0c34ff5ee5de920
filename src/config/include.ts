// `include_dir`: what is to be read from the folders that the main file names, and in which order. Reads nothing itself.

import { readArgument } from './argument.js'
import { parseDirectives } from './syntax.js'

/** A file of an `include_dir` folder as it was read, or why it could not be. */
export interface IncludedFile {
  readonly file: string
  readonly content: Uint8Array | string | Error
}

/** What an `include_dir` line led to: its `.conf` files, or why the folder could not be read. */
export type Included = readonly IncludedFile[] | Error

export interface ConfigFile {
  /** As given to `-c`. */
  readonly file: string
  readonly content: Uint8Array | string
  /** By folder, as `includeDirs()` names them. */
  readonly includes?: ReadonlyMap<string, Included> | undefined
}

/** The folders that `include_dir` lines of the main file name, in order. */
export function includeDirs(content: Uint8Array | string): readonly string[] {
  const { directives } = parseDirectives(content, '')
  return directives.flatMap(({ own, name, value, malformed }) => {
    const reading = readArgument({ kind: 'path' }, name, value)
    return !own && !malformed && name === 'include_dir' && 'value' in reading ? [String(reading.value)] : []
  })
}

/** Of the names in such a folder those that count, in Mosquitto's order: letter case only breaks ties, upper first. */
export function includedNames(names: readonly string[]): readonly string[] {
  const key = (name: string) => name.replace(/[A-Z]/g, letter => letter.toLowerCase())
  const order = (a: string, b: string) => (a < b ? -1 : a > b ? 1 : 0)
  return names.filter(name => /.\.conf$/s.test(name)).sort((a, b) => order(key(a), key(b)) || order(a, b))
}
