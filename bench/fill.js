// A store such as a large plant leaves behind, made through the store itself: sessions with ten subscriptions and a queued message each, and
// retained messages. Its arguments are the `persistence_file` and the number of sessions.

import { Message } from '../dist/message.js'
import { neverExpires } from '../dist/protocol/packets.js'
import { DiskStore } from '../dist/store/disk.js'

const [file, count] = [process.argv[2], Number(process.argv[3])]
const retainedCount = Math.ceil(count / 10)
const atOnce = 500

const filtersOf = (line, machine) => [
  `plant/${line}/machine/${machine}/order`,
  `plant/${line}/machine/${machine}/command/+`,
  `plant/${line}/machine/${machine}/recipe/#`,
  `plant/${line}/machine/${machine + 1}/state`,
  `plant/${line}/conveyor/+/speed`,
  `plant/${line}/alarm/#`,
  `plant/${line}/shift`,
  `config/machine/${machine}/#`,
  `firmware/press/v${machine % 7}/released`,
  'plant/all/stop'
]

const options = { qos: 1, noLocal: false, retainAsPublished: false, retainHandling: 0, identifier: 0 }
const store = new DiskStore({ file, sync: false, log: { write() {}, enabled: () => false } })
await store.open()
let changes = []
for (let i = 0; i < count; i++) {
  const clientId = `press-${i}`
  const line = i % 200
  changes.push({ kind: 'session', session: { clientId, version: 4, expiryInterval: neverExpires, leftAt: Date.now() } })
  for (const filter of filtersOf(line, i)) changes.push({ kind: 'subscribe', clientId, subscription: { ...options, filter } })
  const message = new Message({ topic: `plant/${line}/machine/${i}/order`, payload: Buffer.alloc(100, 'x'), qos: 1, retain: false })
  const entry = { clientId, sequence: 1, message, qos: 1, retain: false, subscriptionIdentifier: 0, packetId: 1, state: 'queued' }
  changes.push({ kind: 'enqueue', message, entries: [entry] })
  if (i < retainedCount) {
    const topic = `plant/${line}/machine/${i}/state`
    changes.push({ kind: 'retain', topic, message: new Message({ topic, payload: Buffer.alloc(100, 'x'), qos: 1, retain: true }) })
  }
  if (i % atOnce < atOnce - 1 && i < count - 1) continue
  await store.commit(changes)
  changes = []
}
await store.close()
