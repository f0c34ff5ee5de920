// An entry of a queue as a session makes it. A class and no literal: V8 makes what a literal gives in the old generation once it has seen many of
// them survive, as in a queue that is long for a moment. From then on each holds its message there until the next full collection, dead as it is.

import type { Message } from '../message.js'
import type { Qos } from '../protocol/packets.js'
import type { QueueEntry } from '../storage.js'

export class Entry implements QueueEntry {
  readonly clientId: string
  readonly sequence: number
  readonly message: Message
  readonly qos: Qos
  readonly retain: boolean
  readonly subscriptionIdentifier: number
  packetId: number
  state: QueueEntry['state'] = 'queued'
  record: unknown = undefined

  constructor(
    clientId: string,
    sequence: number,
    message: Message,
    qos: Qos,
    retain: boolean,
    subscriptionIdentifier: number,
    packetId: number
  ) {
    this.clientId = clientId
    this.sequence = sequence
    this.message = message
    this.qos = qos
    this.retain = retain
    this.subscriptionIdentifier = subscriptionIdentifier
    this.packetId = packetId
  }
}
