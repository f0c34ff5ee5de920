// Runs of the disk store: entries that are committed together and lie in one record are the same to whoever reads them, whatever becomes of each.

import { cpSync } from 'node:fs'
import { join } from 'node:path'
import { ClassicLevel } from 'classic-level'
import fc from 'fast-check'
import t, { type Test } from 'tap'
import { Message } from '../../dist/message.js'
import type { Change, QueueEntry } from '../../dist/storage.js'
import { DiskStore } from '../../dist/store/disk.js'
import { decodeJson, encodeJson, entryKey, metaKey, sequenceOf, unseal } from '../../dist/store/disk-records.js'
import { decodeProgress, decodeRun, Gathered, type Progress, Run, RunProgress } from '../../dist/store/disk-run.js'
import { Level } from '../../dist/store/level.js'
import { recordLog } from '../helpers/bare-broker.js'
import { said } from '../helpers/kept.js'

const qos = fc.constantFrom<0 | 1 | 2>(0, 1, 2)
const message = fc
  .record({ topic: fc.string({ minLength: 1 }), payload: fc.uint8Array({ maxLength: 3000 }), qos, retain: fc.boolean() })
  .map(({ payload, ...fields }) => new Message({ ...fields, payload: Buffer.from(payload) }))
const fields = fc.record({
  message,
  qos,
  retain: fc.boolean(),
  subscriptionIdentifier: fc.nat(268_435_455),
  packetId: fc.nat(65_535)
})

t.test('a run holds what was gathered, up to where it takes no more', async t => {
  const check = fc.property(fc.integer({ min: 1, max: 2 ** 47 }), fc.array(fields, { minLength: 2, maxLength: 80 }), (first, list) => {
    const gathered = new Gathered()
    const entries = list.map((one, i): QueueEntry => ({ clientId: 'a', sequence: first + i, state: 'queued', ...one }))
    const count = entries.findIndex(entry => !gathered.take(entry))
    const taken = count === -1 ? entries : entries.slice(0, count)
    t.same(gathered.entries, taken)
    const key = entryKey(1, first + taken.length - 1)
    const content = unseal(key, gathered.encode(key))
    t.ok(content && content.length <= 16_384 + 4000, 'no longer than so many, but for a single one')
    if (content === undefined || taken.length < 2) return
    t.same(
      said(decodeRun(content)),
      taken
        .map(({ message, qos, retain, subscriptionIdentifier, packetId }) => {
          return { qos, retain, subscriptionIdentifier, packetId, payloadLength: message.payload.length, content: message }
        })
        .map(said)
    )
  })
  fc.assert(check, { numRuns: 300 })
})

t.test('what is not the next of its queue begins another', async t => {
  const entry = (sequence: number): QueueEntry => entryOf(sequence)
  const gathered = new Gathered()
  t.same(
    [5, 6, 8, 6, 7].map(sequence => gathered.take(entry(sequence))),
    [true, true, false, false, true]
  )
  const many = new Gathered()
  t.equal(Array.from({ length: 100 }, (_, i) => many.take(entry(i + 1))).filter(Boolean).length, 64)
})

t.test('how far each of a run has come', async t => {
  const step = fc.tuple(fc.nat(9), fc.constantFrom<Progress>('sent', 'received', 'done'), fc.nat(65_535))
  const check = fc.property(fc.array(step, { maxLength: 30 }), steps => {
    let progress = new RunProgress(new Run(20, 10))
    const expected = Array.from({ length: 10 }, () => ({ progress: 'queued' as Progress, packetId: 0 }))
    for (const [at, to, packetId] of steps) {
      progress.note(11 + at, to, packetId)
      if (expected[at]?.progress !== 'done') expected[at] = { progress: to, packetId }
      const content = unseal(entryKey(1, 20), progress.encode(entryKey(1, 20)))
      t.same(content && decodeProgress(content, 10), expected)
      t.equal(progress.left, expected.filter(({ progress }) => progress !== 'done').length)
      // As after a restart.
      if (at === 0) progress = new RunProgress(new Run(20, 10, content))
    }
  })
  fc.assert(check, { numRuns: 300 })
})

t.test('no bytes make a reader throw', async t => {
  const check = fc.property(fc.uint8Array({ maxLength: 200 }), fc.nat(70), (array, count) => {
    const content = Buffer.from(array)
    decodeRun(content)
    decodeRun(Buffer.concat([Buffer.of(0x10, 0, count), content]))
    const all = decodeProgress(content, count)
    t.equal(all === undefined, content.length !== count * 3)
    new RunProgress(new Run(100, count + 1, content)).note(100, 'done', 1)
  })
  fc.assert(check, { numRuns: 2000 })
})

let stores = 0

const newStore = (file: string): DiskStore => new DiskStore({ file, log: recordLog(), sync: false })
const session = (clientId: string): Change => ({ kind: 'session', session: { clientId, version: 5, expiryInterval: 100 } })

function entryOf(sequence: number, clientId = 'a'): QueueEntry {
  const message = new Message({ topic: 't', payload: Buffer.from(`${clientId} ${sequence}`), qos: 1, retain: false })
  return { clientId, sequence, message, qos: 1, retain: false, subscriptionIdentifier: 0, packetId: sequence, state: 'queued' }
}

const enqueue = (entry: QueueEntry): Change => ({ kind: 'enqueue', message: entry.message, entries: [entry] })
const numbers = (from: number, to: number): number[] => Array.from({ length: to - from + 1 }, (_, i) => from + i)

async function opened(t: Test, file = join(t.testdir(), `m${stores++}.db`)) {
  const store = newStore(file)
  t.teardown(() => store.close())
  return { file, store, ...(await store.open()) }
}

/** As after a crash at this moment. */
async function openedCopy(t: Test, { path }: DiskStore) {
  const file = `${path}-${stores++}`
  cpSync(path, `${file}.mosquitero`, { recursive: true })
  return opened(t, file)
}

/** Sequences of the records of queues. */
async function recordsOf({ path }: DiskStore): Promise<number[]> {
  const copy = `${path}-${stores++}`
  cpSync(path, copy, { recursive: true })
  const level = new ClassicLevel<Buffer, Buffer>(copy, { keyEncoding: 'buffer', valueEncoding: 'buffer' })
  const keys = await level.keys({ gte: Buffer.from('q'), lt: Buffer.from('r') }).all()
  await level.close()
  return keys.map(sequenceOf)
}

t.test('fifty messages that are committed together are one record, which goes with the last of them', async t => {
  const { store } = await opened(t)
  const entries = numbers(1, 50).map(sequence => entryOf(sequence))
  await store.commit([session('a'), ...entries.map(enqueue)])
  t.same(await recordsOf(store), [50])
  const [first, ...rest] = entries
  if (first === undefined) throw new Error('none')
  await store.commit([{ kind: 'done', entry: first }])
  t.same(await recordsOf(store), [50, 50], 'the run, and how far it has come')
  const copy = await openedCopy(t, store)
  t.same(
    copy.sessions.map(({ queued, lastSequence, lastPacketId }) => [queued, lastSequence, lastPacketId]),
    [[{ messages: 49, bytes: rest.reduce((sum, { message }) => sum + message.payload.length, 0) }, 50, 50]]
  )
  const [second, ...others] = await copy.store.page('a', 0, 100)
  t.equal(second?.sequence, 2)
  t.equal(others.length, 48)
  await store.commit(rest.map(entry => ({ kind: 'done', entry })))
  t.same(await recordsOf(store), [])
  t.same(
    (await openedCopy(t, store)).sessions.map(({ lastSequence, lastPacketId }) => [lastSequence, lastPacketId]),
    [[50, 50]]
  )
  // What was read after a restart goes as well.
  await copy.store.commit([second, ...others].flatMap(entry => (entry === undefined ? [] : [{ kind: 'done' as const, entry }])))
  t.same(await recordsOf(copy.store), [])
})

t.test('what is exported of runs is what is left of them, and makes the same elsewhere', async t => {
  const { store } = await opened(t)
  const entries = [...numbers(1, 150).map(sequence => entryOf(sequence)), ...numbers(1, 3).map(sequence => entryOf(sequence, 'b'))]
  await store.commit([session('a'), session('b'), ...entries.map(enqueue)])
  for (const entry of entries.slice(60, 70)) entry.state = 'received'
  await store.commit(entries.slice(60, 70).map(entry => ({ kind: 'received', entry })))
  await store.commit([...entries.slice(0, 30), ...entries.slice(140, 151)].map(entry => ({ kind: 'done', entry })))
  const changes: Change[] = []
  for await (const change of store.export()) changes.push(change)
  const { store: other } = await opened(t)
  await other.commit(changes)
  for (const clientId of ['a', 'b']) {
    const left = (await store.page(clientId, 0, 1000)).map(shown)
    t.same((await other.page(clientId, 0, 1000)).map(shown), left)
    t.equal(left.length, clientId === 'a' ? 110 : 2)
  }
})

t.test('a session that ends takes its runs along, also in the commit that they come with', async t => {
  const { store } = await opened(t)
  const entries = numbers(1, 20).map(sequence => entryOf(sequence))
  const [first] = entries
  if (first === undefined) throw new Error('none')
  await store.commit([session('a'), ...entries.map(enqueue)])
  await store.commit([
    { kind: 'done', entry: first },
    { kind: 'drop', clientId: 'a' },
    session('a'),
    enqueue(entryOf(1)),
    enqueue(entryOf(2))
  ])
  await store.swept()
  t.same(await recordsOf(store), [2])
  await store.commit([enqueue(entryOf(3)), enqueue(entryOf(4)), { kind: 'drop', clientId: 'a' }])
  await store.swept()
  t.same(await recordsOf(store), [])
})

t.test('what follows on a commit under way does not overtake it where both change one run', async t => {
  const { store } = await opened(t)
  const entries = numbers(1, 30).map(sequence => entryOf(sequence))
  await store.commit([session('a'), ...entries.map(enqueue)])
  const { write } = Level.prototype
  const order: number[] = []
  let open = (): void => {}
  const gate = new Promise<void>(resolve => {
    open = resolve
  })
  let writes = 0
  t.intercept(Level.prototype, 'write', {
    async value(this: Level, operations: Parameters<typeof write>[0], sync: boolean) {
      const number = ++writes
      // The first is held up on its way to the disk.
      if (number === 1) await gate
      await write.call(this, operations, sync)
      order.push(number)
    }
  })
  const done = (entry: QueueEntry): Change => ({ kind: 'done', entry })
  const commits = [store.commit(entries.slice(0, 10).map(done)), store.commit(entries.slice(10, 20).map(done))]
  open()
  await Promise.all(commits)
  t.same(order, [1, 2])
  const { store: copy } = await openedCopy(t, store)
  t.same(
    (await copy.page('a', 0, 100)).map(({ sequence }) => sequence),
    numbers(21, 30)
  )
})

t.test('a store of the format without runs is opened, and is of the new one then', async t => {
  const { file, store } = await opened(t)
  await store.commit([session('a'), enqueue(entryOf(1))])
  await store.close()
  const level = new ClassicLevel<Buffer, Buffer>(store.path, { keyEncoding: 'buffer', valueEncoding: 'buffer' })
  const key = metaKey('format')
  await level.put(key, encodeJson(key, { store: 'mosquitero', version: 1 }))
  await level.close()
  const { store: again } = await opened(t, file)
  t.same(
    (await again.page('a', 0, 10)).map(({ sequence }) => sequence),
    [1]
  )
  await again.close()
  await level.open()
  const content = unseal(key, (await level.get(key)) ?? Buffer.alloc(0))
  t.equal(content && decodeJson(content)?.version, 2)
  await level.close()
})

/** What is done with queues, by numbers that say which and how many. */
type Step =
  | { readonly kind: 'enqueue'; readonly clients: readonly ('a' | 'b')[]; readonly gap: boolean }
  | { readonly kind: 'progress'; readonly to: Progress; readonly which: readonly number[] }
  | { readonly kind: 'page'; readonly client: 'a' | 'b'; readonly after: number; readonly limit: number }
  | { readonly kind: 'reopen'; readonly how: 'stop' | 'crash' }

const client = fc.constantFrom<'a' | 'b'>('a', 'b')
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 3,
    arbitrary: fc.record({ kind: fc.constant('enqueue'), clients: fc.array(client, { minLength: 1, maxLength: 20 }), gap: fc.boolean() })
  },
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constant('progress'),
      to: fc.constantFrom<Progress>('sent', 'received', 'done', 'done'),
      which: fc.array(fc.nat(), { minLength: 1, maxLength: 20 })
    })
  },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('page'), client, after: fc.nat(40), limit: fc.integer({ min: 1, max: 30 }) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('reopen'), how: fc.constantFrom<'stop' | 'crash'>('stop', 'crash') }) }
)

t.test('queues are what lists would be, whatever comes, goes and is read, with commits beside one another', async t => {
  const check = fc.asyncProperty(fc.array(step, { maxLength: 25 }), async steps => {
    let { file, store } = await opened(t)
    await store.commit([session('a'), session('b')])
    const queues = { a: [] as QueueEntry[], b: [] as QueueEntry[] }
    const sequences = { a: 0, b: 0 }
    let under: Promise<void>[] = []
    for (const step of steps) {
      switch (step.kind) {
        case 'enqueue': {
          const entries = step.clients.map(clientId => {
            sequences[clientId] += step.gap && sequences[clientId] % 3 === 0 ? 2 : 1
            return entryOf(sequences[clientId], clientId)
          })
          for (const entry of entries) queues[entry.clientId === 'a' ? 'a' : 'b'].push(entry)
          // Known to nobody before it is there.
          await Promise.all([...under, store.commit(entries.map(enqueue))])
          under = []
          break
        }
        case 'progress': {
          const all = [...queues.a, ...queues.b]
          const chosen = [...new Set(step.which.map(number => all[number % all.length]))].filter(entry => entry !== undefined)
          const { to } = step
          for (const entry of chosen) if (to !== 'done') entry.state = to
          const gone = new Set(to === 'done' ? chosen : [])
          queues.a = queues.a.filter(entry => !gone.has(entry))
          queues.b = queues.b.filter(entry => !gone.has(entry))
          if (chosen.length > 0) under.push(store.commit(chosen.map(entry => ({ kind: to === 'queued' ? 'done' : to, entry }))))
          break
        }
        case 'page': {
          await Promise.all(under)
          under = []
          const expected = queues[step.client].filter(({ sequence }) => sequence > step.after).slice(0, step.limit)
          const page = await store.page(step.client, step.after, step.limit)
          t.same(page.map(shown), expected.map(shown))
          // From now on some are known by what was read, others by what was queued.
          for (const entry of page) {
            const queue = queues[step.client]
            const at = queue.findIndex(({ sequence }) => sequence === entry.sequence)
            if (at % 2 === 0) queue[at] = entry
          }
          break
        }
        case 'reopen': {
          await Promise.all(under)
          under = []
          if (step.how === 'stop') await store.close()
          const next = step.how === 'stop' ? await opened(t, file) : await openedCopy(t, store)
          if (step.how === 'crash') await store.close()
          file = next.file
          store = next.store
          for (const { clientId, queued } of next.sessions) {
            const queue = queues[clientId === 'a' ? 'a' : 'b']
            t.same(queued, { messages: queue.length, bytes: queue.reduce((sum, { message }) => sum + message.payload.length, 0) })
          }
          // Those from before are nobody's any more.
          queues.a = [...(await store.page('a', 0, 10_000))]
          queues.b = [...(await store.page('b', 0, 10_000))]
        }
      }
    }
    await Promise.all(under)
    const { store: copy } = await openedCopy(t, store)
    for (const clientId of ['a', 'b'] as const) t.same((await copy.page(clientId, 0, 10_000)).map(shown), queues[clientId].map(shown))
    for (const clientId of ['a', 'b'] as const) await store.commit(queues[clientId].map(entry => ({ kind: 'done', entry })))
    t.same(await recordsOf(store), [], 'nothing is left of what is done')
    await copy.close()
    await store.close()
  })
  await fc.assert(check, { numRuns: 60, endOnFailure: false })
})

function shown({ clientId, sequence, packetId, state, message }: QueueEntry) {
  return [clientId, sequence, packetId, state, String(message.payload)]
}
