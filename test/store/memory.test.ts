// The store in memory, and what the engine relies on beyond the contract: a commit is done at once, and entries are the very objects.

import t from 'tap'
import { Message } from '../../dist/message.js'
import type { QueueEntry } from '../../dist/storage.js'
import { openMemoryStore } from '../../dist/store/memory.js'
import { storeContract } from '../contract/store.js'

storeContract(t, 'memory', async () => {
  const store = openMemoryStore()
  return { store, reopen: async () => store }
})

t.test('a commit is done when it returns, a page is there at once, with the objects that were queued', async t => {
  const store = openMemoryStore()
  const message = new Message({ topic: 't', payload: Buffer.from('x'), qos: 1, retain: false })
  const entry: QueueEntry = {
    clientId: 'c',
    sequence: 4,
    message,
    qos: 1,
    retain: false,
    subscriptionIdentifier: 0,
    packetId: 9,
    state: 'queued'
  }
  t.equal(store.commit([{ kind: 'session', session: { clientId: 'c', version: 4, expiryInterval: 0 } }]), undefined)
  t.equal(store.commit([{ kind: 'enqueue', message, entries: [entry] }]), undefined)
  const page = store.page('c', 0, 10)
  t.ok(Array.isArray(page) && page[0] === entry)
})

t.test('packet identifiers go on behind the last one that was ever given, not behind those of an older queue', async t => {
  const store = openMemoryStore()
  const session = { clientId: 'c', version: 4, expiryInterval: 0xffffffff } as const
  const lastAfter = async (...packetIds: readonly number[]) => {
    for (const packetId of packetIds) {
      const message = new Message({ topic: 't', payload: Buffer.from('x'), qos: 1, retain: false })
      const entry: QueueEntry = {
        clientId: 'c',
        sequence: packetId,
        message,
        qos: 1,
        retain: false,
        subscriptionIdentifier: 0,
        packetId,
        state: 'queued'
      }
      await store.commit([{ kind: 'enqueue', message, entries: [entry] }])
    }
    return (await store.open()).sessions[0]?.lastPacketId
  }
  await store.commit([{ kind: 'session', session }])
  t.equal(await lastAfter(60_000), 60_000)
  await store.commit([{ kind: 'session', session, lastPacketId: 65_530 }])
  t.equal(await lastAfter(65_000, 65_001), 65_530)
  await store.commit([{ kind: 'session', session }])
  t.equal(await lastAfter(65_531), 65_531)
  t.equal(await lastAfter(1), 1)
})
