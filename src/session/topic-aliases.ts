// Topic aliases of one connection, both ways [MQTT-3.3.2.3.4]. Most connections never use one: then nothing is kept.

import type { ListenerConfig } from '../config/types.js'

export interface OutgoingAlias {
  readonly number: number
  /** It was sent before: the topic need not be. */
  readonly isKnown: boolean
}

export class TopicAliases {
  /** What the client may send. */
  #incomingLimit = 0
  #outgoingLimit = 0
  #incoming: Map<number, string> | undefined
  #outgoing: Map<string, OutgoingAlias> | undefined

  /** `clientMaximum`: what the client takes. */
  limit({ maxTopicAlias, maxTopicAliasBroker }: ListenerConfig, clientMaximum: number): void {
    this.#incomingLimit = maxTopicAlias
    this.#outgoingLimit = Math.min(maxTopicAliasBroker, clientMaximum)
  }

  get mayBeSent(): boolean {
    return this.#outgoingLimit > 0
  }

  /** The topic a PUBLISH means; undefined: the alias is unknown. `too high`: above the limit. */
  incoming(alias: number, topic: string): string | 'too high' | undefined {
    if (alias > this.#incomingLimit) return 'too high'
    if (topic === '') return this.#incoming?.get(alias)
    this.#incoming ??= new Map()
    this.#incoming.set(alias, topic)
    return topic
  }

  /** The first topics get the numbers from 1 on, and keep them; undefined: they are used up. */
  outgoing(topic: string): OutgoingAlias | undefined {
    if (this.#outgoingLimit === 0) return undefined
    this.#outgoing ??= new Map()
    const known = this.#outgoing.get(topic)
    if (known !== undefined) return known
    if (this.#outgoing.size >= this.#outgoingLimit) return undefined
    const number = this.#outgoing.size + 1
    this.#outgoing.set(topic, { number, isKnown: true })
    return { number, isKnown: false }
  }

  /** The packet that was to tell it was not sent. Only of the one given last. */
  forget(topic: string): void {
    this.#outgoing?.delete(topic)
  }
}
