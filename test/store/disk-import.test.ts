// `persistence_file` of somebody else beside a store: it is taken over once and whole, whatever ends a start meanwhile, and nothing goes that
// somebody was promised.

import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { ClassicLevel } from 'classic-level'
import t, { type Test } from 'tap'
import { Message } from '../../dist/message.js'
import type { Change } from '../../dist/storage.js'
import { DiskStore } from '../../dist/store/disk.js'
import { encodeJson, metaKey } from '../../dist/store/disk-records.js'
import { Level } from '../../dist/store/level.js'
import { headLength, newestVersion, readChunk, readChunkHead } from '../../dist/store/mosquitto-chunk.js'
import { parseMosquittoDb } from '../../dist/store/mosquitto-db.js'
import { type RecordedLog, recordLog } from '../helpers/bare-broker.js'
import { keptBy } from '../helpers/kept.js'

const topicsOf = (name: string, count: number): string[] => Array.from({ length: count }, (_, i) => `${name}/${i}`)
const retain = (topic: string): Change => ({
  kind: 'retain',
  topic,
  message: new Message({ topic, payload: Buffer.from('x'), qos: 1, retain: true })
})

async function open(t: Test, file: string, log: RecordedLog = recordLog()) {
  const store = new DiskStore({ file, log, sync: true })
  t.teardown(() => store.close())
  const { retained } = await store.open()
  return { store, log, topics: retained.map(({ topic }) => topic).sort(), said: log.lines.join('\n') }
}

const root = (t: Test): string => (existsSync(t.testdirName) ? t.testdirName : t.testdir())

/** A file of somebody else, which says this. */
async function foreignFile(t: Test, topics: readonly string[]): Promise<Buffer> {
  const file = join(root(t), `elsewhere ${places++}.db`)
  const { store } = await open(t, file)
  await store.commit(topics.map(retain))
  await store.save()
  await store.close()
  return readFileSync(file)
}

/** A folder with a store of yesterday that has this, and a file of now, or of so many days later: an opened store is newer than the former. */
async function folder(t: Test, { ours, file, days = 0 }: { ours?: readonly string[]; file?: Buffer; days?: number }): Promise<string> {
  const path = join(root(t), `place ${places++}`, 'mosquitto.db')
  mkdirSync(dirname(path), { recursive: true })
  if (ours !== undefined) {
    const { store } = await open(t, path)
    await store.commit(ours.map(retain))
    await store.close()
    for (const name of readdirSync(store.path)) setDate(join(store.path, name), -1)
  }
  if (file !== undefined) write(path, file, days)
  return path
}

let places = 0

function write(path: string, file: Buffer, days: number): void {
  writeFileSync(path, file)
  setDate(path, days)
}

function setDate(path: string, days: number): void {
  const date = Date.now() / 1000 + days * 86_400
  utimesSync(path, date, date)
}

/** As after a crash at this moment. */
function crashed(path: string): string {
  const copy = `${dirname(path)} crashed ${places++}`
  cpSync(dirname(path), copy, { recursive: true, preserveTimestamps: true })
  return join(copy, 'mosquitto.db')
}

const asides = (path: string): string[] =>
  readdirSync(dirname(path))
    .filter(name => !/^mosquitto\.db(\.mosquitero)?$/.test(name))
    .map(name => name.replace(/-\d{4}-.*/, ''))

/** What each write of any store does first, for one test. */
function beforeWrites(t: Test, act: (level: Level) => void): void {
  const { write } = Level.prototype
  t.intercept(Level.prototype, 'write', {
    value(this: Level, operations: Parameters<typeof write>[0], sync: boolean) {
      act(this)
      return write.call(this, operations, sync)
    }
  })
}

const newer = topicsOf('newer', 1200).sort()

for (const [what, ours] of [
  ['no store', undefined],
  ['a store of before', ['ours']]
] as const) {
  t.test(`the end of a start at any moment of an import, over ${what}: the next one takes it over, whole`, async t => {
    const path = await folder(t, { ...(ours && { ours }), file: await foreignFile(t, newer) })
    const copies: string[] = []
    let isDone = false
    beforeWrites(t, () => {
      if (!isDone) copies.push(crashed(path))
    })
    const first = await open(t, path)
    isDone = true
    t.same(first.topics, newer)
    await first.store.close()
    // Between its last steps.
    const [accepted, between] = [crashed(path), crashed(path)]
    for (const copy of [accepted, between]) {
      renameSync(`${copy}.mosquitero`, `${copy}.mosquitero.imported`)
      writeFileSync(`${copy}.mosquitero.start`, '{"lastWritten":1}')
    }
    const [replaced] = readdirSync(dirname(accepted)).filter(name => name.includes('.replaced-'))
    if (replaced !== undefined) renameSync(join(dirname(accepted), replaced), `${accepted}.mosquitero`)
    t.ok(copies.length >= 5, `${copies.length}`)
    for (const copy of [...copies, accepted, between]) {
      const next = await open(t, copy)
      t.same(next.topics, newer)
      await next.store.close()
      const expected = ours === undefined ? [] : ['mosquitto.db.mosquitero.replaced']
      t.same(asides(copy), expected)
      const later = await open(t, copy)
      t.same(later.topics, newer)
      t.notMatch(later.said, /Took over/, 'once')
      await later.store.close()
    }
  })
}

t.test(
  'a start that is refused in the import leaves all as it was, and closed: the next one, of the same process, takes it over',
  async t => {
    for (const ours of [undefined, ['ours']]) {
      const path = await folder(t, { ...(ours && { ours }), file: await foreignFile(t, newer) })
      let isFull = true
      beforeWrites(t, ({ path }) => {
        if (isFull && path.endsWith('.draft')) throw Object.assign(new Error('no space'), { code: 'ENOSPC' })
      })
      const store = new DiskStore({ file: path, log: recordLog(), sync: true })
      const refusal = { code: 'ERR_STORE_OPEN', message: `Unable to open the store ${path}.mosquitero: No space left on device.` }
      await t.rejects(store.open(), refusal)
      await t.rejects(open(t, path), refusal)
      isFull = false
      const { retained } = await store.open()
      t.same(retained.map(({ topic }) => topic).sort(), newer)
      await store.close()
    }
  }
)

t.test('an import was cut off and its file is gone, or another: what was taken over is set aside, and the store is as it was', async t => {
  const path = await folder(t, { ours: ['ours'], file: await foreignFile(t, newer) })
  let cut = ''
  let writes = 0
  beforeWrites(t, ({ path: level }) => {
    if (level.endsWith('.draft') && ++writes === 3) cut = crashed(path)
  })
  await (await open(t, path)).store.close()
  const unfinished = 'mosquitto.db.mosquitero.draft.unfinished'
  for (const [file, topics, places] of [
    [undefined, ['ours'], [unfinished]],
    [Buffer.from('something else'), ['ours'], ['mosquitto.db.foreign', unfinished]],
    [await foreignFile(t, ['another']), ['another'], [unfinished, 'mosquitto.db.mosquitero.replaced']]
  ] as const) {
    const copy = crashed(cut)
    rmSync(copy)
    if (file !== undefined) write(copy, file, 2)
    const { store, said, topics: found } = await open(t, copy)
    t.match(
      said,
      /Warning: An earlier start was cut off while it took over .*mosquitto\.db, which is gone since, or another file\. What was /
    )
    t.same(found, topics)
    t.same(asides(copy), places)
    await store.close()
    const again = await open(t, copy)
    t.same([again.topics, asides(copy)], [topics, places])
    t.notMatch(again.said, /Warning/)
    await again.store.close()
  }
})

t.test('a part of an import that an older version left: nothing that comes to it is taken for a part', async t => {
  for (const isGone of [true, false]) {
    const path = await folder(t, { ours: ['part'] })
    const level = new ClassicLevel<Buffer, Buffer>(`${path}.mosquitero`, { keyEncoding: 'buffer', valueEncoding: 'buffer' })
    await level.put(metaKey('importing'), encodeJson(metaKey('importing'), {}))
    await level.close()
    rmSync(join(`${path}.mosquitero`, 'SUMS'))
    if (!isGone) write(path, await foreignFile(t, newer), -2)
    const { store, said, topics } = await open(t, path)
    t.match(said, isGone ? /cut off while it took over .* The store has what was taken over of it\.$/m : /Took over/)
    t.same(topics, isGone ? ['part'] : newer)
    t.same(asides(path), isGone ? [] : ['mosquitto.db.mosquitero.replaced'])
    await store.save()
    await store.commit([retain('acknowledged')])
    const next = await open(t, crashed(path))
    t.same(next.topics, [...topics, 'acknowledged'].sort())
    t.notMatch(next.said, /Took over|cut off/)
  }
})

t.test('a file that is older than the store and not of it is not written over, and one beside an empty store is taken over', async t => {
  const file = await foreignFile(t, ['theirs'])
  const path = await folder(t, { ours: ['ours'], file, days: -2 })
  const first = await open(t, path)
  t.match(
    first.said,
    /Warning: .*mosquitto\.db is older than the store, which knows nothing of it: it is not taken over\. It is set aside as /
  )
  t.same(first.topics, ['ours'])
  await first.store.save()
  await first.store.close()
  const [aside = ''] = readdirSync(dirname(path)).filter(name => name.startsWith('mosquitto.db.older-'))
  t.ok(readFileSync(join(dirname(path), aside)).equals(file))

  const empty = await folder(t, { ours: [], file, days: -2 })
  const { topics, said, store } = await open(t, empty)
  t.same(topics, ['theirs'])
  t.match(said, /Took over .* from .*mosquitto\.db, as the store was empty\./)
  await store.close()
  t.same(asides(empty), [])
})

t.test(
  'our own file is known by what is in it, whatever became of its date, and an earlier one is a backup that somebody restored',
  async t => {
    const path = await folder(t, { ours: ['first'] })
    const { store } = await open(t, path)
    await store.save()
    const backup = readFileSync(path)
    await store.commit([retain('second')])
    await store.save()
    await store.commit([retain('acknowledged')])
    const touched = crashed(path)
    write(touched, readFileSync(touched), 1)
    const next = await open(t, touched)
    t.same(next.topics, ['acknowledged', 'first', 'second'])
    t.notMatch(next.said, /Took over|Warning/)
    const restored = crashed(path)
    write(restored, backup, 1)
    const old = await open(t, restored)
    t.same(old.topics, ['first'])
    t.same(asides(restored), ['mosquitto.db.mosquitero.replaced'])
    // What was taken over is known as well.
    await old.store.commit([retain('later')])
    await old.store.close()
    write(restored, backup, 2)
    t.same((await open(t, restored)).topics, ['first', 'later'])
  }
)

t.test('a crash between what the store notes of a file and its rename: the file that is still there is ours', async t => {
  const path = await folder(t, { ours: ['ours'] })
  const { store } = await open(t, path)
  await store.save()
  await store.commit([{ kind: 'retain', topic: 'ours' }])
  const { mtimeMs } = statSync(path)
  let copy = ''
  let isNoted = false
  beforeWrites(t, () => {
    // The next write is behind the rename.
    if (isNoted && copy === '') copy = crashed(path)
    isNoted ||= existsSync(`${path}.new`)
  })
  const before = readFileSync(path)
  await store.save()
  t.not(copy, '')
  writeFileSync(copy, before)
  utimesSync(copy, mtimeMs / 1000, mtimeMs / 1000)
  const { topics, said } = await open(t, copy)
  t.same(topics, [])
  t.notMatch(said, /Took over/)
})

/** What Mosquitto would have of it. */
const savedIn = (path: string): string[] => Object.keys(keptBy(parseMosquittoDb(readFileSync(path))).retained).sort()

t.test('a stop while the file is being written: what came meanwhile is in it, and the limit holds for that one too', async t => {
  const path = await folder(t, { ours: topicsOf('many', 3000) })
  const { store, log } = await open(t, path)
  const { view } = Level.prototype
  const read = new Promise<void>(resolve => {
    t.intercept(Level.prototype, 'view', {
      value(this: Level) {
        resolve()
        return view.call(this)
      }
    })
  })
  const first = store.save()
  await read
  await store.commit([retain('late')])
  t.ok(store.isSaving)
  await store.saveRest(new AbortController().signal)
  await first
  t.ok(savedIn(path).includes('late'))
  t.ok(store.isSaved)
  const saved = readFileSync(path)
  await store.commit([retain('later')])
  const limit = new AbortController()
  const second = store.save()
  const rest = store.saveRest(limit.signal)
  limit.abort()
  await Promise.all([second, rest])
  t.ok(readFileSync(path).equals(saved), 'it is as it was')
  t.equal(log.lines.filter(line => /Error saving .*: it takes too long\./.test(line)).length, 1)
  t.equal(store.isSaved, false)
})

t.test('whether the file says all that the store does is known after a crash as well', async t => {
  const path = await folder(t, {})
  let { store } = await open(t, path)
  t.equal(store.isSaved, true, 'there is nothing')
  await store.commit([retain('first')])
  t.equal(store.isSaved, false)
  await store.save()
  t.equal(store.isSaved, true)
  await store.close()
  store = (await open(t, path)).store
  t.equal(store.isSaved, true, 'after a stop')
  await store.commit([retain('second')])
  const next = crashed(path)
  const { store: crash } = await open(t, next)
  t.equal(crash.isSaved, false, 'after a crash')
  t.same(savedIn(next), ['first'])
  await crash.saveRest(new AbortController().signal)
  t.same(savedIn(next), ['first', 'second'])
  await crash.close()
  rmSync(next)
  t.equal((await open(t, next)).store.isSaved, false, 'the file is gone')
})

t.test('what many sessions share is in the file once, and not theirs each when it is taken over', async t => {
  const path = await folder(t, {})
  const { store } = await open(t, path)
  const ids = ['a', 'b', 'c', 'd']
  // More than are kept in memory, and larger ones.
  const payloads = [...topicsOf('small', 1100), ...topicsOf('x'.repeat(20_000), 10)]
  const changes = payloads.map((payload, i): Change => {
    const message = new Message({ topic: 't', payload: Buffer.from(payload), qos: 1, retain: false })
    const fields = { message, qos: 1, retain: false, subscriptionIdentifier: 0, packetId: 0, state: 'queued' } as const
    return { kind: 'enqueue', message, entries: ids.map(clientId => ({ clientId, sequence: i + 1, ...fields })) }
  })
  await store.commit(ids.map((clientId): Change => ({ kind: 'session', session: { clientId, version: 4, expiryInterval: 0xffffffff } })))
  await store.commit(changes)
  await store.close()
  const { store: again } = await open(t, path)
  await again.save()
  const bytes = readFileSync(path)
  t.same(countsIn(bytes), [payloads.length, payloads.length * ids.length])
  const there = await folder(t, { file: bytes })
  const { store: taken } = await open(t, there)
  for (const clientId of ids) {
    const page = await taken.page(clientId, 0, 2000)
    t.ok(page.map(({ message }) => `${message.payload}`).join() === payloads.join(), clientId)
  }
  await taken.save()
  const [messages = 0, entries] = countsIn(readFileSync(there))
  t.ok(messages <= 2 * payloads.length, `${messages}: of the first entry, and of all others`)
  t.equal(entries, payloads.length * ids.length)
})

/** How many messages a file has, and entries of queues. */
function countsIn(bytes: Buffer): number[] {
  let [messages, entries] = [0, 0]
  for (let at = headLength; at < bytes.length; ) {
    const head = readChunkHead(bytes, at, newestVersion)
    if (head === undefined) break
    const start = at + head.size
    at = start + head.length
    const kind = readChunk(head.type, bytes.subarray(start, at), newestVersion)?.kind
    if (kind === 'message') messages += 1
    else if (kind === 'clientMessage') entries += 1
  }
  return [messages, entries]
}
