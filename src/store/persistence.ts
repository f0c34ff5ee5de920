// What we know of an Aedes persistence, and a guard for its known holes: no rejection or stream error of a store ends the process.

import { Readable } from 'node:stream'

/** A client as a persistence sees it. */
export interface StoredClient {
  readonly id: string
}

/** A stored message or an acknowledgement of one. */
export interface StoredPacket {
  readonly topic?: string
  readonly messageId?: number | undefined
}

export interface StoredSubscription {
  readonly clientId: string
  readonly topic: string
}

/** The part of Aedes' persistence contract that is changed here; the rest goes to Aedes untouched. */
export interface Persistence {
  setup(broker: unknown): Promise<void>
  createRetainedStream(filter: string): Readable
  createRetainedStreamCombi(filters: readonly string[]): Readable
  addSubscriptions(client: StoredClient, subscriptions: readonly object[]): Promise<void>
  outgoingEnqueueCombi(subscriptions: readonly StoredSubscription[], packet: StoredPacket): Promise<void>
  outgoingClearMessageId(client: StoredClient, packet: StoredPacket): Promise<StoredPacket | undefined>
  incomingDelPacket(client: StoredClient, packet: StoredPacket): Promise<void>
  putWill(client: StoredClient, packet: unknown): Promise<unknown>
  delWill(client: StoredClient): Promise<unknown>
  streamWill(brokers?: unknown): Readable
}

/** Is the store there? A broker asks before it promises anything. */
export interface Availability {
  readonly up: boolean
  /** Resolves when the store is there again. Never rejects: after a close it stays silent. */
  whenUp(): Promise<void>
  /** Is this error the store's answer, rather than a client's doing? */
  caused(error: Error): boolean
}

export interface PersistenceGuard {
  /** Does it look through all it has without a pause, as the memory store does? */
  readonly withoutPause: boolean
  /** May this client, if it is connected, have this message put into its queue? */
  mayQueue(clientId: string, packet: StoredPacket): boolean
  /** Was the delivery of this message refused a moment ago? */
  wasRefused(packet: StoredPacket): boolean
  failed(error: unknown): void
}

/** Changes the persistence in place: most of them keep private fields, so that neither a proxy nor a subclass would work. */
export function guardPersistence(persistence: Persistence, guard: PersistenceGuard): void {
  const {
    createRetainedStream,
    createRetainedStreamCombi,
    addSubscriptions,
    outgoingEnqueueCombi,
    outgoingClearMessageId,
    incomingDelPacket
  } = persistence

  const added = new WeakMap<object, Promise<void>>()

  const guarded: Partial<Persistence> = {
    // Aedes pipes this stream without a listener for its errors: one Redis hiccup would end the process.
    createRetainedStreamCombi(filters) {
      const stream = guard.withoutPause
        ? Readable.from(oneByOne(filters, filter => createRetainedStream.call(persistence, filter)))
        : createRetainedStreamCombi.call(persistence, filters)
      return stream.on('error', guard.failed)
    },

    // Aedes has all filters of a SUBSCRIBE stored once for each of them: ten thousand would be a hundred million.
    addSubscriptions(client, subscriptions) {
      const known = added.get(subscriptions)
      if (known !== undefined) return known
      const adding = addSubscriptions.call(persistence, client, subscriptions)
      added.set(subscriptions, adding)
      return adding
    },

    // What a client may not read must not wait in its queue either.
    outgoingEnqueueCombi(subscriptions, packet) {
      const allowed = subscriptions.filter(({ clientId }) => guard.mayQueue(clientId, packet))
      return outgoingEnqueueCombi.call(persistence, allowed, packet)
    },

    // Aedes answers a refused delivery by clearing the message from the queue, but it has no identifier yet: the memory store would then
    // drop the first message that waits there. And an acknowledgement that can't be stored must not cost the client its connection:
    // the message comes again, as QoS 1 allows.
    async outgoingClearMessageId(client, packet) {
      if (packet.messageId === undefined && guard.wasRefused(packet)) return undefined
      try {
        return await outgoingClearMessageId.call(persistence, client, packet)
      } catch (error) {
        guard.failed(error)
        return undefined
      }
    },

    // Aedes lets this rejection escape: two PUBREL for one identifier in one segment would end the process.
    async incomingDelPacket(client, packet) {
      try {
        await incomingDelPacket.call(persistence, client, packet)
      } catch (error) {
        // The identifier is free, which is all that was asked for.
        if (error instanceof Error && error.message === 'no such packet') return
        guard.failed(error)
      }
    },

    // Stored wills are read by nothing but Aedes' sweep, which would publish them past our policy, and which ends at the first one that
    // is refused. A will is kept by its connection; as with Mosquitto it does not survive the broker.
    putWill: async () => undefined,
    delWill: async () => undefined,
    streamWill: () => Readable.from([])
  }
  Object.assign(persistence, guarded)
}

let turn = Promise.resolve()

// Each filter is held against every retained message: thousands of them at once would stop everybody. All who ask share one line, so
// that a turn of the event loop has one filter in it however many clients subscribe.
async function* oneByOne(filters: readonly string[], messagesOf: (filter: string) => Readable): AsyncGenerator<unknown, void> {
  for (const filter of filters) {
    turn = turn.then(() => new Promise(resolve => setImmediate(resolve)))
    await turn
    yield* messagesOf(filter)
  }
}
