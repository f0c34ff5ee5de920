// When `persistence_file` is written while the broker runs: every so many seconds or, with `autosave_on_changes`, changes. Our store needs none
// of it; whoever goes back to Mosquitto, or copies the file, does.

import type { AutosaveConfig } from '../config/types.js'
import type { DiskStore } from './disk.js'

export class Autosave {
  readonly #store: DiskStore
  #config: AutosaveConfig = { interval: 0, onChanges: false }
  #timer: NodeJS.Timeout | undefined

  constructor(store: DiskStore) {
    this.#store = store
    store.committed = () => this.#committed()
  }

  configure(config: AutosaveConfig): void {
    const { interval, onChanges } = this.#config
    if (interval === config.interval && onChanges === config.onChanges) return
    this.stop()
    this.#config = config
    if (config.onChanges || config.interval === 0) return
    this.#timer = setInterval(() => this.#save(), config.interval * 1000)
    this.#timer.unref()
  }

  stop(): void {
    clearInterval(this.#timer)
    this.#config = { interval: 0, onChanges: false }
  }

  #committed(): void {
    const { interval, onChanges } = this.#config
    if (onChanges && interval > 0 && this.#store.unsaved >= interval) this.#save()
  }

  // It says itself what goes wrong.
  #save(): void {
    if (!this.#store.isSaved) void this.#store.save()
  }
}
