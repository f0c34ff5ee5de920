// Our store over aedes-persistence, as an embedder gives it, and over one that is in trouble.

import { createRequire } from 'node:module'
import { Readable } from 'node:stream'
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

t.test('a stream that fails between two pages ends nothing, and the rest is read anew', async t => {
  const persistence = memoryPersistence()
  const streams: Readable[] = []
  const failing = new Proxy(persistence, {
    get(target, name) {
      const found: unknown = Reflect.get(target, name)
      if (typeof found !== 'function') return found
      if (name !== 'outgoingStream') return found.bind(target)
      return (client: { readonly id: string }) => {
        const stream = Readable.from(target.outgoingStream(client))
        streams.push(stream)
        return stream
      }
    }
  })
  const store = openAedesStore(failing, { failed: error => t.fail(String(error)) })
  await store.open()
  const session = { clientId: 'c', version: 4, expiryInterval: 0xffffffff } as const
  const subscription = { filter: 'a', qos: 1, noLocal: false, retainAsPublished: false, retainHandling: 0, identifier: 0 } as const
  await store.commit([{ kind: 'session', session }])
  await store.commit([{ kind: 'subscribe', clientId: 'c', subscription }])
  for (let sequence = 1; sequence <= 9; sequence++) {
    const message = new Message({ topic: 'a', payload: Buffer.from(String(sequence)), qos: 1, retain: false })
    const entry = {
      clientId: 'c',
      sequence,
      message,
      qos: 1,
      retain: false,
      subscriptionIdentifier: 0,
      packetId: sequence,
      state: 'queued'
    } as const
    await store.commit([{ kind: 'enqueue', message, entries: [entry] }])
  }
  const sequences: number[] = []
  for (const limit of [3, 3, 9]) {
    // Where the failure is met while somebody reads, it is his.
    const page = await Promise.resolve(store.page('c', sequences.at(-1) ?? 0, limit)).catch(() => [])
    sequences.push(...page.map(({ sequence }) => sequence))
    streams.at(-1)?.destroy(new Error('connection lost'))
    await new Promise(resolve => setImmediate(resolve))
  }
  for (const { sequence } of await store.page('c', sequences.at(-1) ?? 0, 9)) sequences.push(sequence)
  t.same(sequences, [1, 2, 3, 4, 5, 6, 7, 8, 9])
})

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
