// A store as lines of text, one JSON object each, so that nobody is locked in: everything that makes it again elsewhere, in the order in which it
// can be taken over. Bytes are base64, times milliseconds since 1970.

import { readCertificateFacts } from '../auth/identity.js'
import { Message, type MessageFields } from '../message.js'
import type { Qos } from '../protocol/packets.js'
import type { Change, QueueEntry, SessionRecord, StoredWill, Subscription } from '../storage.js'

/** What the first line says. */
export const dumpHead = { dump: 'mosquitero', version: 1 } as const

/** A change that a dump may hold, without the line's end. */
export function dumpLine(change: Change): string {
  switch (change.kind) {
    case 'session': {
      const { will, ...session } = change.session
      return JSON.stringify({
        kind: 'session',
        ...session,
        ...(change.lastPacketId !== undefined && { lastPacketId: change.lastPacketId }),
        ...(will && { will: { ...will, message: messageFields(will.message) } })
      })
    }
    case 'subscribe':
      return JSON.stringify({ kind: 'subscription', clientId: change.clientId, ...change.subscription })
    case 'hold':
      return JSON.stringify({ kind: 'held', clientId: change.clientId, packetId: change.packetId, message: messageFields(change.message) })
    case 'enqueue':
      return change.entries
        .map(({ message, record: _, ...entry }) => JSON.stringify({ kind: 'queued', ...entry, message: messageFields(message) }))
        .join('\n')
    case 'retain':
      if (change.message !== undefined) return JSON.stringify({ kind: 'retained', message: messageFields(change.message) })
      break
  }
  throw new TypeError(`a dump says what there is, not that it changes: ${change.kind}`)
}

/** The change of a line; a sentence says what is wrong with it. */
export function parseDumpLine(line: string): Change | string {
  const value = parseJson(line)
  if (value === undefined) return 'it is not a JSON object'
  switch (value.kind) {
    case 'session':
      return parseSession(value)
    case 'subscription':
      return parseSubscription(value)
    case 'held': {
      const message = parseMessage(value.message)
      const { clientId, packetId } = value
      if (message === undefined || !isText(clientId) || !isPacketId(packetId)) return 'a held message has clientId, packetId and message'
      return { kind: 'hold', clientId, packetId, message }
    }
    case 'queued':
      return parseEntry(value)
    case 'retained': {
      const message = parseMessage(value.message)
      return message === undefined ? 'a retained message has a message' : { kind: 'retain', topic: message.topic, message }
    }
    default:
      return "its kind is none of 'session', 'subscription', 'held', 'queued' and 'retained'"
  }
}

/** Whether the first line is that of a dump which can be read; a sentence says why not. */
export function checkDumpHead(line: string): string | undefined {
  const value = parseJson(line)
  if (value?.dump !== dumpHead.dump) return 'the first line is not that of a dump'
  return value.version === dumpHead.version
    ? undefined
    : `it is a dump of version ${String(value.version)}; version ${dumpHead.version} can be read`
}

type Fields = Readonly<Record<string, unknown>>

const isText = (value: unknown): value is string => typeof value === 'string'
const isNumber = (value: unknown): value is number => typeof value === 'number' && Number.isFinite(value) && value >= 0
const isPacketId = (value: unknown): value is number => isNumber(value) && Number.isInteger(value) && value <= 0xffff
const isQos = (value: unknown): value is Qos => value === 0 || value === 1 || value === 2
const isBoolean = (value: unknown): value is boolean => typeof value === 'boolean'

function parseJson(line: string): Fields | undefined {
  try {
    return fieldsOf(JSON.parse(line))
  } catch {
    return undefined
  }
}

function fieldsOf(value: unknown): Fields | undefined {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? Object.fromEntries(Object.entries(value)) : undefined
}

function parseSession(value: Fields): Change | string {
  const { clientId, username, version, listener, expiryInterval, expiresAt, leftAt, lastPacketId } = value
  if (!isText(clientId) || !isNumber(expiryInterval) || (version !== 3 && version !== 4 && version !== 5)) {
    return 'a session has clientId, version (3, 4 or 5) and expiryInterval'
  }
  const certificate = readCertificateFacts(value.certificate)
  const will = value.will === undefined ? undefined : parseWill(value.will)
  if (value.will !== undefined && will === undefined) return 'its will has message and delayInterval'
  const session: SessionRecord = {
    clientId,
    version,
    expiryInterval,
    ...(isText(username) && { username }),
    ...(certificate && { certificate }),
    ...(isText(listener) && { listener }),
    ...(isNumber(expiresAt) && { expiresAt }),
    ...(isNumber(leftAt) && { leftAt }),
    ...(will && { will })
  }
  return { kind: 'session', session, ...(isPacketId(lastPacketId) && { lastPacketId }) }
}

function parseWill(value: unknown): StoredWill | undefined {
  const { message: fields, delayInterval, messageExpiryInterval, dueAt } = fieldsOf(value) ?? {}
  const message = parseMessage(fields)
  if (message === undefined || !isNumber(delayInterval)) return undefined
  return { message, delayInterval, ...(isNumber(messageExpiryInterval) && { messageExpiryInterval }), ...(isNumber(dueAt) && { dueAt }) }
}

function parseSubscription(value: Fields): Change | string {
  const { clientId, filter, group, qos, noLocal, retainAsPublished, retainHandling, identifier } = value
  const isWhole = isText(clientId) && isText(filter) && isQos(qos) && isBoolean(noLocal) && isBoolean(retainAsPublished)
  if (!isWhole || !isQos(retainHandling) || !isNumber(identifier)) {
    return 'a subscription has clientId, filter, qos, noLocal, retainAsPublished, retainHandling and identifier'
  }
  const subscription: Subscription = {
    filter,
    ...(isText(group) && { group }),
    qos,
    noLocal,
    retainAsPublished,
    retainHandling,
    identifier
  }
  return { kind: 'subscribe', clientId, subscription }
}

function parseEntry(value: Fields): Change | string {
  const { clientId, sequence, qos, retain, subscriptionIdentifier, packetId, state } = value
  const message = parseMessage(value.message)
  const isWhole = isText(clientId) && isNumber(sequence) && isQos(qos) && isBoolean(retain) && isNumber(subscriptionIdentifier)
  if (message === undefined || !isWhole || !isPacketId(packetId) || (state !== 'queued' && state !== 'sent' && state !== 'received')) {
    return 'a queued message has clientId, sequence, qos, retain, subscriptionIdentifier, packetId, state and message'
  }
  const entry: QueueEntry = { clientId, sequence, message, qos, retain, subscriptionIdentifier, packetId, state }
  return { kind: 'enqueue', message, entries: [entry] }
}

function messageFields({ topic, payload, qos, retain, properties, expiresAt, source }: Message): object {
  return {
    topic,
    payload: payload.toString('base64'),
    qos,
    retain,
    ...(properties.length > 0 && { properties: properties.toString('base64') }),
    ...(expiresAt !== Number.POSITIVE_INFINITY && { expiresAt }),
    ...(source && { source })
  }
}

function parseMessage(value: unknown): Message | undefined {
  const { topic, payload, qos, retain, properties, expiresAt, source: publisher } = fieldsOf(value) ?? {}
  if (!isText(topic) || !isText(payload) || !isQos(qos) || !isBoolean(retain)) return undefined
  const { clientId, username, listener, certificate: facts } = fieldsOf(publisher) ?? {}
  const certificate = readCertificateFacts(facts)
  const fields: MessageFields = {
    topic,
    payload: Buffer.from(payload, 'base64'),
    qos,
    retain,
    ...(isText(properties) && { properties: Buffer.from(properties, 'base64') }),
    ...(isNumber(expiresAt) && { expiresAt }),
    ...(isText(clientId) && {
      source: {
        clientId,
        ...(isText(username) && { username }),
        ...(isText(listener) && { listener }),
        ...(certificate && { certificate })
      }
    })
  }
  return new Message(fields)
}
