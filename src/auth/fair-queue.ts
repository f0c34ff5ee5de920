// A queue with an end that several sources share: they take turns, and when it is full the one that fills it most gives way.

export class FairQueue<Entry> {
  readonly #limit: number
  /** The entries of each source; whose turn is next stands first. */
  readonly #sources = new Map<string, Entry[]>()
  #size = 0

  constructor(limit: number) {
    this.#limit = limit
  }

  get size(): number {
    return this.#size
  }

  /** Returns the entry that there is no place for: this one, or the newest of a source that has more waiting. */
  push(source: string, entry: Entry): Entry | undefined {
    const own = this.#sources.get(source) ?? []
    const displaced = this.#size < this.#limit ? undefined : this.#displace(own.length)
    if (this.#size >= this.#limit) return entry
    own.push(entry)
    this.#sources.set(source, own)
    this.#size += 1
    return displaced
  }

  shift(): Entry | undefined {
    for (const [source, entries] of this.#sources) {
      // To the end of the line of sources, or out of it.
      this.#sources.delete(source)
      const entry = entries.shift()
      if (entries.length > 0) this.#sources.set(source, entries)
      if (entry === undefined) continue
      this.#size -= 1
      return entry
    }
    return undefined
  }

  // Not for a source that would then have as many itself.
  #displace(length: number): Entry | undefined {
    let most: Entry[] = []
    for (const entries of this.#sources.values()) if (entries.length > most.length) most = entries
    if (most.length <= length + 1) return undefined
    this.#size -= 1
    return most.pop()
  }
}
