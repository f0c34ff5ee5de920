// Records of the disk store: what goes in comes out, and whatever bytes are read, nothing throws and nothing wrong is believed.

import fc from 'fast-check'
import t from 'tap'
import { Message } from '../../dist/message.js'
import type { QueueEntry, SessionRecord, StoredWill, Subscription } from '../../dist/storage.js'
import {
  bodyKey,
  decodeEntry,
  decodeJson,
  decodeLast,
  decodeMessage,
  decodeSession,
  decodeState,
  decodeSubscription,
  encodeEntry,
  encodeJson,
  encodeLast,
  encodeMessage,
  encodeSession,
  encodeState,
  encodeSubscription,
  entryKey,
  filterKey,
  filterOf,
  heldKey,
  isEntryKey,
  lastKey,
  metaKey,
  nameOf,
  numberOf,
  packetIdOf,
  retainedKey,
  sequenceOf,
  sessionKey,
  stateKey,
  unseal
} from '../../dist/store/disk-records.js'
import { isTableWhole, salvageTable } from '../../dist/store/level-table.js'
import { said } from '../helpers/kept.js'

const number = fc.integer({ min: 1, max: 2 ** 48 - 1 })
const packetId = fc.integer({ min: 0, max: 65_535 })
const qos = fc.constantFrom<0 | 1 | 2>(0, 1, 2)
const bytes = fc.uint8Array({ maxLength: 300 }).map(array => Buffer.from(array))
const text = fc.string({ unit: 'grapheme', maxLength: 60 })
// A listener's key is not empty and holds no NUL.
const listenerName = text.map(name => `${name.replaceAll('\0', '')} 1883`)
const fact = text.filter(value => value !== '')
const certificate = fc
  .record({ organization: fact, organizationalUnit: fact, serial: fact }, { requiredKeys: [] })
  .filter(facts => Object.keys(facts).length > 0)
const clock = fc.integer({ min: 0, max: 2 ** 45 })

/** Absent fields are absent, not undefined. */
const message: fc.Arbitrary<Message> = fc
  .record(
    {
      topic: text,
      payload: bytes,
      qos,
      retain: fc.boolean(),
      properties: bytes,
      expiresAt: clock,
      source: fc.record({ clientId: text, username: text, listener: listenerName, certificate }, { requiredKeys: ['clientId'] })
    },
    { requiredKeys: ['topic', 'payload', 'qos', 'retain'] }
  )
  .map(fields => new Message(fields))

const will: fc.Arbitrary<StoredWill> = fc.record(
  { message, delayInterval: fc.integer({ min: 0 }), messageExpiryInterval: fc.integer({ min: 0 }), dueAt: clock },
  { requiredKeys: ['message', 'delayInterval'] }
)

const session: fc.Arbitrary<SessionRecord> = fc.record(
  {
    clientId: text,
    version: fc.constantFrom<3 | 4 | 5>(3, 4, 5),
    expiryInterval: fc.integer({ min: 0, max: 0xffffffff }),
    username: text,
    certificate,
    listener: text,
    expiresAt: clock,
    leftAt: clock,
    will
  },
  { requiredKeys: ['clientId', 'version', 'expiryInterval'] }
)

const subscription: fc.Arbitrary<Subscription> = fc.record(
  {
    filter: text.filter(filter => filter !== '' && !filter.startsWith('$share/')),
    group: text.filter(group => group !== '' && !group.includes('/')),
    qos,
    noLocal: fc.boolean(),
    retainAsPublished: fc.boolean(),
    retainHandling: qos,
    identifier: fc.integer({ min: 0, max: 268_435_455 })
  },
  { requiredKeys: ['filter', 'qos', 'noLocal', 'retainAsPublished', 'retainHandling', 'identifier'] }
)

const entry: fc.Arbitrary<QueueEntry> = fc.record({
  clientId: text,
  sequence: number,
  message,
  qos,
  retain: fc.boolean(),
  subscriptionIdentifier: fc.integer({ min: 0, max: 268_435_455 }),
  packetId,
  state: fc.constantFrom<QueueEntry['state']>('queued', 'sent', 'received')
})

function opened(key: Buffer, value: Buffer): Buffer {
  const content = unseal(key, value)
  if (content === undefined) throw new Error('not what was written')
  return content
}

function check<T>(name: string, arbitrary: fc.Arbitrary<T>, isRight: (value: T) => void): void {
  t.test(name, async () => fc.assert(fc.property(arbitrary, isRight), { numRuns: 500 }))
}

check('messages', message, one => t.same(said(decodeMessage(opened(bodyKey(1), encodeMessage(bodyKey(1), one)))), said(one)))

check('sessions', session, one => t.same(said(decodeSession(opened(sessionKey(1), encodeSession(sessionKey(1), one)))), said(one)))

check('subscriptions', fc.tuple(number, subscription), ([owner, one]) => {
  const key = filterKey(owner, one.filter, one.group)
  t.equal(numberOf(key), owner)
  t.same(filterOf(key), one.group === undefined ? { filter: one.filter } : { filter: one.filter, group: one.group })
  t.same(decodeSubscription(key, opened(key, encodeSubscription(key, one))), one)
})

check('entries, with their message or beside it', fc.tuple(number, entry, fc.option(number, { nil: undefined })), ([owner, one, body]) => {
  const key = entryKey(owner, one.sequence)
  t.same([numberOf(key), sequenceOf(key), isEntryKey(key)], [owner, one.sequence, true])
  const { qos, retain, packetId, subscriptionIdentifier, message } = one
  t.same(said(decodeEntry(opened(key, encodeEntry(key, one, body)))), {
    qos,
    retain,
    packetId,
    subscriptionIdentifier,
    payloadLength: message.payload.length,
    content: body ?? said(message)
  })
  const state = stateKey(owner, one.sequence)
  t.equal(isEntryKey(state), false)
  t.same(decodeState(opened(state, encodeState(state, one.state, packetId))), { state: one.state, packetId })
})

check('what was last, held and retained', fc.tuple(number, number, packetId, text), ([owner, sequence, packetId, topic]) => {
  t.same(decodeLast(opened(lastKey(owner), encodeLast(lastKey(owner), { sequence, packetId }))), { sequence, packetId })
  t.same([numberOf(heldKey(owner, packetId)), packetIdOf(heldKey(owner, packetId))], [owner, packetId])
  t.equal(nameOf(retainedKey(topic)), topic)
})

check('keys sort as they are read', fc.array(fc.tuple(number, number), { minLength: 2, maxLength: 20 }), pairs => {
  const sorted = [...pairs].sort(([a, b], [c, d]) => a - c || b - d)
  const keys = pairs.flatMap(([owner, sequence]) => [stateKey(owner, sequence), entryKey(owner, sequence)])
  const expected = sorted.flatMap(([owner, sequence]) => [entryKey(owner, sequence), stateKey(owner, sequence)])
  t.same(keys.sort(Buffer.compare), expected)
})

const decoders = [
  decodeEntry,
  decodeJson,
  decodeLast,
  decodeMessage,
  decodeSession,
  decodeState,
  (content: Buffer) => decodeSubscription(filterKey(1, 'a', undefined), content)
]

check('no bytes make a decoder throw, and no key a reader', fc.tuple(bytes, bytes), ([key, content]) => {
  for (const decode of decoders) decode(content)
  for (const read of [numberOf, nameOf, filterOf, packetIdOf, sequenceOf, isEntryKey]) read(key)
  t.equal(unseal(key, content), undefined)
  isTableWhole(content)
  salvageTable(content)
})

const written = fc.oneof(
  message.map(one => [bodyKey(1), encodeMessage(bodyKey(1), one)] as const),
  session.map(one => [sessionKey(1), encodeSession(sessionKey(1), one)] as const),
  entry.map(one => [entryKey(1, 2), encodeEntry(entryKey(1, 2), one, undefined)] as const),
  fc.object().map(one => [metaKey('x'), encodeJson(metaKey('x'), one)] as const)
)
const harm = fc.array(fc.tuple(fc.nat(), fc.integer({ min: 1, max: 255 })), { minLength: 1, maxLength: 4 })

check(
  'a record that is not what was written is not believed; what a hand made so is no reason to throw',
  fc.tuple(written, harm),
  ([[key, value], changes]) => {
    const wrong = Buffer.from(value)
    for (const [at, mask] of changes) wrong[at % wrong.length] = (wrong[at % wrong.length] ?? 0) ^ mask
    if (!wrong.equals(value)) t.equal(unseal(key, wrong), undefined)
    t.equal(unseal(key, value.subarray(0, -1)), undefined)
    t.equal(unseal(Buffer.concat([key, Buffer.of(0)]), value), undefined, 'under another key')
    for (const decode of decoders) decode(wrong.subarray(4))
    for (let end = 4; end < value.length; end += 7) for (const decode of decoders) decode(value.subarray(4, end))
  }
)
