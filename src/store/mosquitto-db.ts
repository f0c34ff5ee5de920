// Mosquitto's own persistence database (`mosquitto.db`) read as changes, so that we can be started where Mosquitto stopped.
//
// What the format has no place for: wills, the protocol version of a session, which of the listeners on one port it was. Beyond that 2.0 and 2.1
// write no shared subscriptions, and 2.0 neither the retain handling of the others nor a session that began with a clean start.

import { Message, type MessageSource } from '../message.js'
import { neverExpires, type Qos } from '../protocol/packets.js'
import type { Change, QueueEntry, SessionRecord, Subscription } from '../storage.js'
import { isTopicName, parseFilter } from '../topic.js'
import {
  type Chunk,
  type ClientChunk,
  type ClientMessageChunk,
  headLength,
  type MessageChunk,
  magic,
  newestVersion,
  oldestVersion,
  optionBits,
  readChunk,
  readChunkHead,
  type SubscriptionChunk,
  states
} from './mosquitto-chunk.js'

/** What a database can hold. Sessions come before what is theirs, messages of one session in the order of its queue. */
export type KeptChange =
  | Extract<Change, { kind: 'session' | 'subscribe' | 'hold' | 'received' | 'retain' }>
  | (Extract<Change, { kind: 'enqueue' }> & {
      /** The same number is the same message, which may be another object each time that it is read. */
      readonly body?: number
    })

export interface DatabaseProblem {
  /** `foreign`: not Mosquitto's file; `version`: of a Mosquitto that is not known. Nothing was read then. `damaged`: what can be read was. */
  readonly kind: 'foreign' | 'version' | 'damaged'
  readonly message: string
}

export interface ReadOptions {
  /** The `listenerKey` of the listener with this port, if there is one. */
  listenerOf?(port: number): string | undefined
}

/**
 * The changes that make what the file says, in an order in which they can be committed; payloads are slices of `bytes`. Never throws. A chunk
 * that makes no sense is left out, and the next one is looked for behind its length.
 */
export function* parseMosquittoDb(bytes: Buffer, options: ReadOptions = {}): Generator<KeptChange, DatabaseProblem | undefined> {
  const version = readVersion(bytes)
  if (typeof version !== 'number') return version
  const restored = new Restored(options)
  const damage = new Damage()
  let at = headLength
  while (at < bytes.length) {
    const head = readChunkHead(bytes, at, version)
    const start = at + (head?.size ?? 0)
    if (head === undefined || head.length > bytes.length - start) return damage.cutOff(at)
    const chunk = readChunk(head.type, bytes.subarray(start, start + head.length), version)
    const changes = chunk === undefined ? undefined : restored.take(chunk)
    if (changes === undefined) damage.note(at)
    else yield* changes
    at = start + head.length
  }
  return damage.problem
}

function readVersion(bytes: Buffer): number | DatabaseProblem {
  if (bytes.length === 0) return { kind: 'damaged', message: 'is empty' }
  if (!bytes.subarray(0, magic.length).equals(magic.subarray(0, bytes.length))) {
    return { kind: 'foreign', message: 'is not a persistence database of Mosquitto' }
  }
  if (bytes.length < headLength) return new Damage().cutOff(0)
  const version = bytes.readUInt32BE(magic.length + 4)
  if (version >= oldestVersion && version <= newestVersion) return version
  return {
    kind: 'version',
    message: `has version ${version} of Mosquitto's database; versions ${oldestVersion} to ${newestVersion} can be read`
  }
}

class Damage {
  #count = 0
  #first = 0

  note(at: number): void {
    if (this.#count++ === 0) this.#first = at
  }

  get problem(): DatabaseProblem | undefined {
    return this.#count === 0 ? undefined : { kind: 'damaged', message: this.#unreadable }
  }

  /** Also what a length that is wrong looks like. */
  cutOff(at: number): DatabaseProblem {
    return { kind: 'damaged', message: `is cut off in what begins at byte ${at}${this.#count === 0 ? '' : `; ${this.#unreadable}`}` }
  }

  get #unreadable(): string {
    return `is damaged: ${this.#count} of its parts can't be read, the first at byte ${this.#first}`
  }
}

class Restored {
  readonly #listenerOf: (port: number) => string | undefined
  readonly #messages = new Map<bigint, Message>()
  /** The last sequence of each session. */
  readonly #sequences = new Map<string, number>()

  constructor({ listenerOf = () => undefined }: ReadOptions) {
    this.#listenerOf = listenerOf
  }

  /** Undefined: it makes no sense. */
  take(chunk: Chunk): readonly KeptChange[] | undefined {
    switch (chunk.kind) {
      case 'config':
        return []
      case 'client':
        return this.#takeClient(chunk)
      case 'message':
        return this.#takeMessage(chunk)
      case 'clientMessage':
        return this.#takeClientMessage(chunk)
      case 'subscription':
        return this.#takeSubscription(chunk)
      case 'retained': {
        const message = this.#messages.get(chunk.messageId)
        return message && [{ kind: 'retain', topic: message.topic, message }]
      }
    }
  }

  #takeClient({ clientId, username, port, expiryInterval, expiryTime, lastPacketId }: ClientChunk): readonly KeptChange[] | undefined {
    if (clientId === '') return undefined
    this.#sequences.set(clientId, this.#sequences.get(clientId) ?? 0)
    const listener = this.#listener(port)
    const session: SessionRecord = {
      clientId,
      ...(username !== '' && { username }),
      // Nobody wrote it down: what has an end is of MQTT 5, where sessions that never end are rare.
      version: expiryInterval === neverExpires ? 4 : 5,
      ...(listener !== undefined && { listener }),
      expiryInterval,
      ...(expiryTime > 0 && { expiresAt: expiryTime * 1000 })
    }
    return [{ kind: 'session', session, ...(lastPacketId > 0 && { lastPacketId }) }]
  }

  #takeMessage(chunk: MessageChunk): readonly KeptChange[] | undefined {
    const { id, topic, payload, properties, retain, expiryTime, sourceClientId, sourceUsername, sourcePort } = chunk
    if (!isTopicName(topic) || this.#messages.has(id)) return undefined
    const listener = this.#listener(sourcePort)
    const source: MessageSource | undefined =
      sourceClientId === ''
        ? undefined
        : {
            clientId: sourceClientId,
            ...(sourceUsername !== '' && { username: sourceUsername }),
            ...(listener !== undefined && { listener })
          }
    const message = new Message({
      topic,
      payload,
      qos: qosOf(chunk),
      retain,
      properties,
      ...(expiryTime > 0 && { expiresAt: expiryTime * 1000 }),
      ...(source !== undefined && { source })
    })
    this.#messages.set(id, message)
    return []
  }

  #takeClientMessage(chunk: ClientMessageChunk): readonly KeptChange[] | undefined {
    const message = this.#messages.get(chunk.messageId)
    if (message === undefined || chunk.clientId === '') return undefined
    const { clientId, packetId } = chunk
    const qos = qosOf(chunk)
    const session = this.#sessionOf(clientId)
    // Of the incoming ones QoS 2 alone waits for something; Mosquitto forgets the others when their client comes back.
    if (chunk.isIncoming) return qos < 2 || packetId === 0 ? [] : [...session, { kind: 'hold', clientId, packetId, message }]
    const sequence = (this.#sequences.get(clientId) ?? 0) + 1
    this.#sequences.set(clientId, sequence)
    const { retain, subscriptionIdentifier } = chunk
    const entry: QueueEntry = {
      clientId,
      sequence,
      message,
      qos,
      retain,
      subscriptionIdentifier,
      packetId: qos === 0 ? 0 : packetId,
      state: stateOf(chunk)
    }
    const received: readonly KeptChange[] = entry.state === 'received' ? [{ kind: 'received', entry }] : []
    return [...session, { kind: 'enqueue', message, entries: [entry] }, ...received]
  }

  #takeSubscription({ clientId, filter: text, options, identifier, ...chunk }: SubscriptionChunk): readonly KeptChange[] | undefined {
    const parsed = parseFilter(text)
    if (typeof parsed === 'string' || clientId === '') return undefined
    const subscription: Subscription = {
      ...parsed,
      qos: qosOf(chunk),
      noLocal: (options & optionBits.noLocal) !== 0,
      retainAsPublished: (options & optionBits.retainAsPublished) !== 0,
      retainHandling: retainHandlingOf(options),
      identifier
    }
    return [...this.#sessionOf(clientId), { kind: 'subscribe', clientId, subscription }]
  }

  // As Mosquitto: what belongs to a session of which nothing else is said makes one. Its own chunk was damaged, or is still to come.
  #sessionOf(clientId: string): readonly KeptChange[] {
    if (this.#sequences.has(clientId)) return []
    this.#sequences.set(clientId, 0)
    return [{ kind: 'session', session: { clientId, version: 4, expiryInterval: neverExpires } }]
  }

  #listener(port: number): string | undefined {
    return port === 0 ? undefined : this.#listenerOf(port)
  }
}

function qosOf({ qos }: { readonly qos: number }): Qos {
  return qos === 1 || qos === 2 ? qos : 0
}

function retainHandlingOf(options: number): Subscription['retainHandling'] {
  const value = (options >> optionBits.retainHandlingShift) & 3
  return value === 1 || value === 2 ? value : 0
}

function stateOf({ qos, state, dup, packetId }: ClientMessageChunk): QueueEntry['state'] {
  if (qos === 0 || packetId === 0) return 'queued'
  if (qos === 2 && (state === states.waitForPubcomp || state === states.resendPubrel)) return 'received'
  return dup || state === states.waitForPuback || state === states.waitForPubrec ? 'sent' : 'queued'
}
