// Our store over aedes-persistence, as an embedder gives it, and over one that is in trouble.

import { createRequire } from 'node:module'
import t from 'tap'
import { Message } from '../../dist/message.js'
import { type AedesPersistence, openAedesStore } from '../../dist/store/aedes.js'
import { everything, storeContract } from '../contract/store.js'

const memoryPersistence: () => AedesPersistence = createRequire(import.meta.url)('aedes-persistence')

storeContract(
  t,
  'aedes-persistence',
  async () => {
    const persistence = memoryPersistence()
    const open = () => openAedesStore(persistence, { failed: error => t.fail(String(error)) })
    return { store: open(), reopen: async () => open() }
  },
  { ...everything, listsSessions: false, keepsRecord: false, keepsSource: false, keepsPublished: false, keepsLast: false }
)

t.test('a deep message is kept for a session that nobody has asked for yet', async t => {
  const persistence = memoryPersistence()
  const open = () => openAedesStore(persistence, { failed: error => t.fail(String(error)) })
  const first = open()
  await first.open()
  const filters = { all: '#', below: `${'a/'.repeat(99)}#`, other: 'b/#', exact: 'a'.padEnd(199, '/a') }
  for (const [clientId, filter] of Object.entries(filters)) {
    const subscription = { filter, qos: 1, noLocal: false, retainAsPublished: false, retainHandling: 0, identifier: 0 } as const
    await first.commit([{ kind: 'session', session: { clientId, version: 4, expiryInterval: 0xffffffff } }])
    await first.commit([{ kind: 'subscribe', clientId, subscription }])
  }
  const second = open()
  await second.open()
  const message = new Message({ topic: 'a/'.repeat(200), payload: Buffer.from('x'), qos: 1, retain: false })
  await second.commit([{ kind: 'enqueue', message, entries: [] }])
  const queued: Record<string, number | undefined> = {}
  for (const clientId of Object.keys(filters)) queued[clientId] = (await second.load?.(clientId))?.queued.messages
  t.same(queued, { all: 1, below: 1, other: 0, exact: 0 })
})
