// What was worked out for a topic, as long as what it was worked out from stays the same. Bounded in topics and in weight: two
// generations, of which the older one goes as a whole, so that a hit is one look into a Map and moves nothing. Once one is full, only what is
// asked for again comes in: of topics that come once and no more, keeping each would cost more than the look that it saves.

import { Sightings } from './sightings.js'

/** Who publishes chooses the topics: up to 64 KB each, if they were kept. */
const longestTopic = 1024

interface Entry<Value> {
  readonly value: Value
  readonly weight: number
}

interface Limits {
  readonly topics: number
  /** Of all values together, in the measure of `set`. */
  readonly weight: number
}

export class MatchCache<Value> {
  /** Of one generation: half of what is allowed. */
  readonly #topics: number
  readonly #weight: number
  #version = 0
  #young = new Map<string, Entry<Value>>()
  #youngWeight = 0
  #old = new Map<string, Entry<Value>>()
  #oldWeight = 0
  #sightings: Sightings | undefined

  constructor({ topics, weight }: Limits) {
    this.#topics = Math.max(1, Math.floor(topics / 2))
    this.#weight = weight / 2
  }

  get size(): number {
    return this.#young.size + this.#old.size
  }

  get weight(): number {
    return this.#youngWeight + this.#oldWeight
  }

  /** What was set under this version of the source; another version drops all that is there. */
  get(topic: string, version: number): Value | undefined {
    if (version !== this.#version) {
      this.#renew(version)
      return undefined
    }
    return (this.#young.get(topic) ?? this.#revive(topic))?.value
  }

  /** For the version of the last `get`. What alone weighs more than half of the limit is not kept, nor is a long topic. */
  set(topic: string, value: Value, weight: number): void {
    if (topic.length > longestTopic) return
    if (this.#old.size > 0 && !this.#isWanted(topic)) return
    this.#forget(topic)
    if (weight <= this.#weight) this.#keep(topic, { value, weight })
  }

  #isWanted(topic: string): boolean {
    this.#sightings ??= new Sightings(2 * this.#topics)
    return this.#young.has(topic) || this.#old.has(topic) || this.#sightings.see(topic)
  }

  #keep(topic: string, entry: Entry<Value>): void {
    if (this.#young.size >= this.#topics || this.#youngWeight + entry.weight > this.#weight) {
      this.#old = this.#young
      this.#oldWeight = this.#youngWeight
      this.#young = new Map()
      this.#youngWeight = 0
    }
    this.#young.set(topic, entry)
    this.#youngWeight += entry.weight
  }

  #forget(topic: string): void {
    this.#youngWeight -= this.#young.get(topic)?.weight ?? 0
    this.#young.delete(topic)
    this.#oldWeight -= this.#old.get(topic)?.weight ?? 0
    this.#old.delete(topic)
  }

  // Asked for again in its second generation: it is young again.
  #revive(topic: string): Entry<Value> | undefined {
    const entry = this.#old.get(topic)
    if (entry === undefined) return undefined
    this.#old.delete(topic)
    this.#oldWeight -= entry.weight
    this.#keep(topic, entry)
    return entry
  }

  #renew(version: number): void {
    this.#version = version
    if (this.size === 0) return
    this.#young = new Map()
    this.#youngWeight = 0
    this.#old = new Map()
    this.#oldWeight = 0
  }
}
