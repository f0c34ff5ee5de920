// PUBLISH packets to one client: from the message's own encodings where they are right for it, else encoded for it alone (topic alias,
// subscription identifier, time to expiry, mount point).

import type { Message } from '../message.js'
import { encodePublish, encodePublishHead } from '../protocol/encode.js'
import { largePayload } from '../protocol/frames.js'
import type { QueueEntry } from '../storage.js'
import type { Connection } from './connection.js'
import type { Outbox } from './outbox.js'
import { TopicAliases } from './topic-aliases.js'

export class Sender {
  readonly aliases = new TopicAliases()
  /** What the client takes, bytes; 0: anything. */
  maximumPacketSize = 0
  readonly #connection: Connection
  readonly #outbox: Outbox

  constructor(connection: Connection, outbox: Outbox) {
    this.#connection = connection
    this.#outbox = outbox
  }

  /** QoS 0, now or never. */
  sendLive(message: Message, retain: boolean, subscriptionIdentifier: number): void {
    const { host, version, session } = this.#connection
    const outbox = this.#outbox
    if (outbox.isBehind && this.#isFull) {
      host.stats.publishDropped += 1
      session?.sayDropping()
      return
    }
    const { raw } = message
    if (
      raw?.isNew === (version === 5) &&
      message.qos === 0 &&
      !message.retain &&
      !retain &&
      this.#isPlain(message, subscriptionIdentifier)
    ) {
      const isSent = this.#forward(message, raw.buffer, raw.start, raw.end)
      if (isSent && host.isDebugging) this.#logPublish(message, 0, retain, false, 0)
      return
    }
    this.#sendPublish(message, 0, retain, false, 0, subscriptionIdentifier)
  }

  /** False: it is nothing for this client. */
  sendQueued({ message, qos, retain, state, packetId, subscriptionIdentifier }: QueueEntry): boolean {
    return this.#sendPublish(message, qos, retain, state === 'sent', packetId, subscriptionIdentifier)
  }

  get #isFull(): boolean {
    const { maxQueuedMessages, maxQueuedBytes } = this.#connection.host.limits
    const { waiting, bytes } = this.#outbox
    return (maxQueuedMessages > 0 && waiting >= maxQueuedMessages) || (maxQueuedBytes > 0 && bytes >= maxQueuedBytes)
  }

  #sendPublish(message: Message, qos: 0 | 1 | 2, retain: boolean, dup: boolean, packetId: number, subscriptionIdentifier: number): boolean {
    if (!this.#isWithin(message.topic)) return false
    let packet: Buffer
    let tail: Buffer | undefined
    let newAlias: string | undefined
    const { version, host } = this.#connection
    if (this.#isPlain(message, subscriptionIdentifier)) {
      const at = qos === 0 ? -1 : message.stampPacket(version, qos, retain, dup, packetId)
      if (at >= 0) {
        const isSent = this.#forward(message, message.buffer, at, message.end)
        if (isSent && host.isDebugging) this.#logPublish(message, qos, retain, dup, packetId)
        return isSent
      }
      const { frames } = message
      packet = qos === 0 ? frames.plain(version, retain) : frames.numbered(version, qos, retain, dup, packetId)
      tail = frames.tail
    } else {
      const { topic, payload, properties } = message
      const own = this.#ownTopic(topic)
      const isNew = version === 5
      const alias = isNew ? this.aliases.outgoing(own) : undefined
      if (alias?.isKnown === false) newAlias = own
      const content = {
        version,
        topic: alias?.isKnown ? '' : own,
        payload,
        qos,
        dup,
        retain,
        packetId,
        properties,
        ...(isNew && subscriptionIdentifier > 0 && { subscriptionIdentifier }),
        ...(isNew && message.expiresAt !== Number.POSITIVE_INFINITY && { messageExpiryInterval: message.secondsLeft(Date.now()) }),
        ...(alias !== undefined && { topicAlias: alias.number })
      }
      const isLarge = payload.length >= largePayload
      packet = isLarge ? encodePublishHead(content) : encodePublish(content)
      if (isLarge) tail = payload
    }
    const size = packet.length + (tail?.length ?? 0)
    if (this.#isTooLarge(size)) {
      if (newAlias !== undefined) this.aliases.forget(newAlias)
      return false
    }
    this.#count(size, message)
    this.#outbox.push(packet, tail)
    if (host.isDebugging) this.#logPublish(message, qos, retain, dup, packetId)
    return true
  }

  // Where it lies. False: it is too large for this client.
  #forward(message: Message, buffer: Buffer, start: number, end: number): boolean {
    const size = end - start
    if (this.#isTooLarge(size)) return false
    this.#count(size, message)
    this.#outbox.forward(buffer, start, end)
    return true
  }

  // No more than its message: what is encoded for one receiver is right for all.
  #isPlain(message: Message, subscriptionIdentifier: number): boolean {
    if (this.#connection.listener.mountPoint !== undefined) return false
    return (
      this.#connection.version !== 5 ||
      (subscriptionIdentifier === 0 && message.expiresAt === Number.POSITIVE_INFINITY && !this.aliases.mayBeSent)
    )
  }

  #isTooLarge(size: number): boolean {
    return this.maximumPacketSize > 0 && size > this.maximumPacketSize
  }

  #count(size: number, { payloadLength }: Message): void {
    const { stats } = this.#connection.host
    stats.messagesSent += 1
    stats.bytesSent += size
    stats.publishSent += 1
    stats.publishBytesSent += payloadLength
  }

  // `m/#` matches `m` too, and a session may have subscribed by another listener: neither shows what lies outside the mount point.
  #isWithin(topic: string): boolean {
    const { mountPoint } = this.#connection.listener
    return mountPoint === undefined || (topic.length > mountPoint.length && topic.startsWith(mountPoint))
  }

  // Without the mount point, which its clients don't know.
  #ownTopic(topic: string): string {
    const { mountPoint } = this.#connection.listener
    return mountPoint !== undefined && topic.startsWith(mountPoint) ? topic.slice(mountPoint.length) : topic
  }

  #logPublish({ topic, payloadLength }: Message, qos: 0 | 1 | 2, retain: boolean, dup: boolean, packetId: number): void {
    const { host, clientId } = this.#connection
    host.log.write('publishSent', {
      clientId,
      dup,
      qos,
      retain,
      packetId,
      topic: this.#ownTopic(topic),
      bytes: payloadLength
    })
  }
}
