// What was asked for lately, as far as that can be told from very little memory: a byte for each place that a text's hash points to. It forgets
// what another text has taken the place of, and takes one of 255 strangers for an acquaintance; neither costs more than some memory.

export class Sightings {
  readonly #marks: Uint8Array

  /** `size`: about so many are remembered. */
  constructor(size: number) {
    this.#marks = new Uint8Array(2 ** Math.ceil(Math.log2(Math.max(2, size))))
  }

  /** Was it seen lately? From now on it was. */
  see(text: string): boolean {
    const hash = hashOf(text)
    const place = hash & (this.#marks.length - 1)
    // 0: nothing was seen here.
    const mark = ((hash >>> 24) % 255) + 1
    const isKnown = this.#marks[place] === mark
    this.#marks[place] = mark
    return isKnown
  }
}

// FNV-1a, 32 bits, by UTF-16 units [RFC 9923].
function hashOf(text: string): number {
  let hash = 0x811c9dc5
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193)
  return hash >>> 0
}
