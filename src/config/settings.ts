// What has been said in one scope: option → values, each with its line. Read back by type, so that no caller guesses.

import type { Location } from '../errors.js'
import type { Value } from './argument.js'
import type { FileSetting } from './types.js'

export interface Setting {
  readonly value: Value
  readonly at: Location | undefined
}

export class Settings {
  readonly #entries = new Map<string, Setting[]>()

  add(name: string, setting: Setting): void {
    const entries = this.#entries.get(name)
    if (entries) entries.push(setting)
    else this.#entries.set(name, [setting])
  }

  /** Something was said but refused: it has a place, no value, and nobody should call it missing. */
  touch(name: string): void {
    if (!this.has(name)) this.#entries.set(name, [])
  }

  has(name: string): boolean {
    return this.#entries.has(name)
  }

  names(): readonly string[] {
    return [...this.#entries.keys()]
  }

  /** Every line of an option that adds up, in the order of the file. */
  all(name: string): readonly Setting[] {
    return this.#entries.get(name) ?? []
  }

  /** The line that counts: the last one. */
  last(name: string): Setting | undefined {
    return this.all(name).at(-1)
  }

  at(name: string): Location | undefined {
    return this.last(name)?.at
  }

  boolean(name: string): boolean | undefined {
    const value = this.last(name)?.value
    return typeof value === 'boolean' ? value : undefined
  }

  number(name: string): number | undefined {
    const value = this.last(name)?.value
    return typeof value === 'number' ? value : undefined
  }

  text(name: string): string | undefined {
    const value = this.last(name)?.value
    return typeof value === 'string' ? value : undefined
  }

  words(name: string): readonly string[] | undefined {
    const value = this.last(name)?.value
    return typeof value === 'object' ? value : undefined
  }

  /** A text with its line. */
  placed(name: string): { readonly value: string; readonly at: Location } | undefined {
    const value = this.text(name)
    const at = this.at(name)
    return value === undefined || at === undefined ? undefined : { value, at }
  }

  /** A path with its line. */
  file(name: string): FileSetting | undefined {
    const path = this.placed(name)
    return path && { path: path.value, at: path.at }
  }
}
