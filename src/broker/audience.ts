// Who hears of messages beside the clients: `broker.subscribe`, other brokers behind the same emitter, the event `publish` and the hook
// `published`. Each message is told to all of them before the next one: what a listener publishes waits until that is done, so that a chain
// of listeners that publish is as long as it likes.

import type { AedesPublishPacket } from 'aedes'
import type { Message } from '../message.js'
import type { Connection } from '../session/connection.js'
import { Deque } from '../session/deque.js'
import type { Turns } from '../session/turns.js'
import { type PacketCounter, packetOf } from './aedes-packets.js'
import type { AedesEvents } from './events.js'
import type { AedesHooks } from './hooks.js'
import type { Emitter } from './mq.js'
import type { Done } from './pending.js'

/** Aedes' contract of what delivers to `broker.subscribe`, and between brokers that share one. */
export interface Mq {
  on(topic: string, listener: Hear, done?: () => void): unknown
  removeListener(topic: string, listener: Hear, done?: () => void): unknown
  emit(packet: AedesPublishPacket, done?: Done): unknown
  close(done?: () => void): unknown
}

export type Hear = (packet: AedesPublishPacket, done: () => void) => void

export interface AudienceOptions {
  readonly mq: Mq
  /** `mq`, where it is ours: then we know who listens. */
  readonly emitter: Emitter<AedesPublishPacket> | undefined
  readonly counter: PacketCounter
  readonly hooks: AedesHooks
  readonly events: AedesEvents
  readonly turns: Turns
  /** An emitter of the embedder's threw. */
  failed(error: unknown): void
}

interface Tidings {
  readonly message: Message
  readonly from: Connection | undefined
  readonly isHookDue: boolean
  readonly done: Done | undefined
}

/** More levels than Aedes lets through to an emitter: mqemitter throws on them, and is short of a slot from then on. */
const mostLevels = 100

export class Audience {
  readonly #options: AudienceOptions
  /** The first one is being told, or is told in a later turn. */
  readonly #waiting = new Deque<Tidings>()

  constructor(options: AudienceOptions) {
    this.#options = options
  }

  /** Would anybody hear it by `broker.subscribe`, or behind the emitter? */
  isHeard(topic: string): boolean {
    return this.#options.emitter?.matches(topic) ?? true
  }

  /** `isHookDue`: a client's own message comes without; its connection asks `published`, and waits. `done`: all have called back. */
  tell(message: Message, from: Connection | undefined, isHookDue: boolean, done?: Done): void {
    const { events, hooks } = this.#options
    const isOfInterest = events.has('publish') || (isHookDue && hooks.published !== undefined) || this.isHeard(message.topic)
    if (!isOfInterest) {
      if (done !== undefined) queueMicrotask(done)
      return
    }
    this.#waiting.push({ message, from, isHookDue, done })
    if (this.#waiting.size === 1) this.#tellWaiting()
  }

  // Listeners without an end share their turns with everybody else.
  readonly #tellWaiting = (): void => {
    const { turns } = this.#options
    for (let next = this.#waiting.first; next !== undefined; next = this.#waiting.first) {
      this.#say(next)
      this.#waiting.shift()
      if (this.#waiting.size === 0 || !turns.isOver) continue
      turns.soon(this.#tellWaiting)
      return
    }
  }

  // Nothing here throws: listeners and hooks are asked by who keeps what they throw apart.
  #say({ message, from, isHookDue, done }: Tidings): void {
    const { events, hooks, counter } = this.#options
    const published = isHookDue ? hooks.published : undefined
    const isHeard = this.isHeard(message.topic)
    const finished = done === undefined ? undefined : afterAll((isHeard ? 1 : 0) + (published === undefined ? 0 : 1) + 1, done)
    const packet = packetOf(message, counter)
    if (isHeard) this.#emit(packet, finished)
    published?.(message, from, finished ?? nothing)
    if (events.has('publish')) events.published(packet, from)
    if (finished !== undefined) queueMicrotask(finished)
  }

  #emit(packet: AedesPublishPacket, done: Done | undefined): void {
    const { mq, emitter, failed } = this.#options
    if (emitter !== undefined) {
      emitter.emit(packet, done)
      return
    }
    // Of an embedder's emitter we know no more than Aedes does.
    const emitted: Done = error => {
      if (error && done === undefined) failed(error)
      else done?.(error)
    }
    try {
      if (isTooDeep(packet.topic)) throw new Error('topic has too many levels')
      mq.emit(packet, emitted)
    } catch (error) {
      failed(error)
      done?.()
    }
  }
}

const nothing = (): void => {}

function isTooDeep(topic: string): boolean {
  return topic.length > mostLevels && topic.split('/').length > mostLevels
}

/** Calls back when it was itself called so often, with the first error. */
export function afterAll(times: number, done: Done): Done {
  let left = times
  let first: Error | undefined
  return error => {
    first ??= error || undefined
    left -= 1
    if (left === 0) done(first)
  }
}
