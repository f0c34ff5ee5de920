// What the configuration makes of retained messages and of sessions that are left, with the time as a number.

import t from 'tap'
import { Exchange, type ExchangeHost } from '../../dist/broker/exchange.js'
import { Message } from '../../dist/message.js'
import { encodePublish } from '../../dist/protocol/encode.js'
import { neverExpires } from '../../dist/protocol/packets.js'
import { Ledger } from '../../dist/session/ledger.js'
import { sessionEnd } from '../../dist/session/session.js'
import { Turns } from '../../dist/session/turns.js'
import type { Change } from '../../dist/storage.js'
import { openMemoryStore } from '../../dist/store/memory.js'
import { mosquittoDelivery, mosquittoLimits, recordLog } from '../helpers/bare-broker.js'

t.test('persistent_client_expiration is the longest a session may be left; a client may ask for less', async t => {
  const now = 1_000_000
  for (const [asked, limit, end] of [
    [60, undefined, now + 60_000],
    [60, 30, now + 30_000],
    [20, 30, now + 20_000],
    [neverExpires, 30, now + 30_000],
    [neverExpires, undefined, undefined]
  ] as const) {
    t.equal(sessionEnd(asked, limit, now), end, `${asked}, ${limit}`)
  }
})

function exchangeWith(seconds: () => number) {
  const changes: Change[] = []
  const memory = openMemoryStore()
  const store = {
    ...memory,
    isDurableAtOnce: true,
    commit(list: readonly Change[]) {
      changes.push(...list)
      return undefined
    }
  }
  const turns = new Turns(() => {})
  const allowed = { allowed: true, reason: 'no-acl-file' } as const
  const host: ExchangeHost = {
    log: recordLog(),
    limits: mosquittoLimits,
    get delivery() {
      return { ...mosquittoDelivery, retainExpiryInterval: seconds() }
    },
    store,
    ledger: new Ledger(store, turns),
    policyVersion: 0,
    forward: undefined,
    mayRead: () => allowed,
    mayWrite: () => allowed,
    mayStillWrite: () => true,
    deliveryFailed: () => {},
    deniedDelivery: () => {},
    shadowedDelivery: () => {},
    deliverRetained: () => {},
    replayOf: (_, subscription) => ({ subscription, next: () => undefined }),
    turns,
    dropped: () => {}
  }
  return { exchange: new Exchange(host), changes }
}

t.test('retain_expiry_interval ends retained messages, from the next one on; the earlier end of the two counts', async t => {
  let seconds = 0
  const { exchange, changes } = exchangeWith(() => seconds)
  const lasting = (expiresAt?: number) => {
    const message = new Message({ topic: 't', payload: Buffer.from('x'), qos: 0, retain: true, ...(expiresAt && { expiresAt }) })
    const before = Date.now()
    exchange.route(message)
    const [change] = changes.splice(0)
    const kept = change?.kind === 'retain' ? change.message?.expiresAt : undefined
    return kept === undefined || kept === Number.POSITIVE_INFINITY ? kept : Math.round((kept - before) / 1000)
  }
  t.equal(lasting(), Number.POSITIVE_INFINITY)
  seconds = 60
  t.equal(lasting(), 60)
  t.equal(lasting(Date.now() + 10_000), 10)
  t.equal(lasting(Date.now() + 100_000), 60)
})

t.test('a retained message whose time is over is removed from the store too', async t => {
  const { exchange, changes } = exchangeWith(() => 60)
  exchange.route(new Message({ topic: 't', payload: Buffer.from('x'), qos: 0, retain: true }))
  changes.length = 0
  for (const _ of exchange.expireRetained(Date.now() + 59_000));
  t.same(changes, [])
  for (const _ of exchange.expireRetained(Date.now() + 61_000));
  t.same(changes, [{ kind: 'retain', topic: 't' }])
})

t.test('a retained message does not keep what came with it', async t => {
  const { exchange, changes } = exchangeWith(() => 0)
  const chunk = Buffer.concat([
    encodePublish({ version: 4, topic: 't', payload: Buffer.from('state'), qos: 1, retain: true, packetId: 1 }),
    Buffer.alloc(100_000)
  ])
  const end = chunk.length - 100_000
  for (const isKept of [false, true]) {
    const raw = { isNew: false, buffer: chunk, start: 0, propertiesAt: end - 5, payloadAt: end - 5, end }
    const message = new Message({ topic: 't', qos: 1, retain: true, raw })
    if (isKept) message.keep()
    exchange.route(message)
    const [retained] = [...exchange.retained.walk('#')]
    t.equal(retained?.payload.toString(), 'state')
    t.equal(retained?.payload.buffer.byteLength, 5)
    t.same(
      changes.splice(0).map(change => change.kind === 'retain' && change.message),
      [retained]
    )
  }
})
