// Whatever becomes of the files of a disk store: what can be read is kept, what they were is set aside, the log says so, and it opens.

import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { ClassicLevel } from 'classic-level'
import t, { type Test } from 'tap'
import { Message } from '../../dist/message.js'
import type { Change, QueueEntry, StoredState } from '../../dist/storage.js'
import { DiskStore } from '../../dist/store/disk.js'
import { encodeJson, metaKey } from '../../dist/store/disk-records.js'
import { isTableWhole, salvageTable } from '../../dist/store/level-table.js'
import { type RecordedLog, recordLog } from '../helpers/bare-broker.js'
import { below, type Random, randomBytes, seededRandom } from '../helpers/raw-mqtt.js'

const random = seededRandom(Number(process.env.MOSQUITERO_SEED ?? 7))
const times = process.env.MOSQUITERO_LONG === '1' ? 30 : 2
const clients = Array.from({ length: 12 }, (_, i) => `client ${i}`)

const messageOf = (topic: string, payload: string): Message =>
  new Message({ topic, payload: Buffer.from(payload), qos: 1, retain: false, source: { clientId: 'w' } })

function entryOf(clientId: string, sequence: number, message: Message): QueueEntry {
  return { clientId, sequence, message, qos: 1, retain: false, subscriptionIdentifier: 0, packetId: sequence, state: 'queued' }
}

/** Sessions with queues of small, large and shared messages, subscriptions, held and retained messages. */
function contents(from: number, to: number): Change[] {
  const changes: Change[] = []
  for (const clientId of clients) {
    changes.push({ kind: 'session', session: { clientId, version: 5, expiryInterval: 3600, leftAt: 1 } })
    const fields = { qos: 1, noLocal: false, retainAsPublished: false, retainHandling: 0, identifier: 0 } as const
    changes.push({ kind: 'subscribe', clientId, subscription: { filter: `f/${from}`, ...fields } })
    changes.push({ kind: 'hold', clientId, packetId: from + 1, message: messageOf('held', `${clientId} ${from}`) })
  }
  for (let i = from; i < to; i++) {
    const message = messageOf(`queued/${i}`, `${i} ${randomBytes(random, i % 10 === 0 ? 5000 : 50).toString('hex')}`)
    const receivers = i % 3 === 0 ? clients : [clients[i % clients.length] ?? '']
    changes.push({ kind: 'enqueue', message, entries: receivers.map(clientId => entryOf(clientId, i + 1, message)) })
    changes.push({ kind: 'retain', topic: `kept/${i}`, message: messageOf(`kept/${i}`, randomBytes(random, 40).toString('hex')) })
  }
  return changes
}

interface Opened {
  readonly store: DiskStore
  readonly state: StoredState
  readonly log: RecordedLog
}

async function open(file: string): Promise<Opened> {
  const log = recordLog()
  const store = new DiskStore({ file, log, sync: false })
  const state = await store.open()
  return { store, state, log }
}

const said = ({ log }: Opened): string[] => log.lines.filter(line => !/^Store /.test(line))

/** All that is known, as text: one for each fact. */
async function factsOf({ store, state }: Opened): Promise<Set<string>> {
  const facts = new Set<string>()
  for (const { clientId, subscriptions, held } of state.sessions) {
    facts.add(`session ${clientId}`)
    for (const subscription of subscriptions) facts.add(`${clientId} ${JSON.stringify(subscription)}`)
    for (const [packetId, message] of held) facts.add(`${clientId} holds ${packetId} ${message.topic} ${message.payload}`)
    for (const { sequence, packetId, message } of await store.page(clientId, 0, 10_000)) {
      // What was lost apart from its entry is dropped as expired.
      if (message.topic !== '') facts.add(`${clientId} is owed ${sequence} ${packetId} ${message.topic} ${message.payload}`)
    }
  }
  for (const { topic, payload } of state.retained) facts.add(`${topic} is ${payload}`)
  return facts
}

/** A store with tables, a log, and `SUMS`; closed in order, or left as by a crash. */
async function sampleStore(t: Test, end: 'closed' | 'crashed'): Promise<{ path: string; facts: ReadonlySet<string> }> {
  const file = join(t.testdir(), 'm.db')
  for (const [from, to] of [
    [0, 60],
    [60, 120],
    [120, 150]
  ] as const) {
    const { store } = await open(file)
    await store.commit(contents(from, to))
    if (to < 150) {
      await store.close()
      continue
    }
    if (end === 'crashed') cpSync(store.path, join(dirname(file), 'crashed.mosquitero'), { recursive: true })
    await store.close()
  }
  const path = end === 'crashed' ? join(dirname(file), 'crashed.mosquitero') : `${file}.mosquitero`
  cpSync(path, join(dirname(file), 'look.mosquitero'), { recursive: true })
  const look = await open(join(dirname(file), 'look'))
  t.same(said(look), [], 'nothing is wrong with it')
  const facts = await factsOf(look)
  await look.store.close()
  return { path, facts }
}

type Harm = (path: string, random: Random) => void

const harms: Record<string, Harm> = {
  'cut off': path => truncateSync(path, below(random, readFileSync(path).length)),
  'scribbled over': path => {
    const bytes = readFileSync(path)
    const rubbish = randomBytes(random, 1 + below(random, 200))
    rubbish.copy(bytes, below(random, bytes.length))
    writeFileSync(path, bytes)
  },
  'one bit is another': path => {
    const bytes = readFileSync(path)
    const at = below(random, bytes.length)
    bytes[at] = (bytes[at] ?? 0) ^ (1 << below(random, 8))
    writeFileSync(path, bytes)
  },
  empty: path => truncateSync(path, 0),
  gone: path => rmSync(path)
}

const kinds = { log: /\.log$/, table: /\.ldb$/, manifest: /^MANIFEST/, current: /^CURRENT$/ } as const

for (const end of ['closed', 'crashed'] as const) {
  t.test(`a store that was ${end}, each kind of file harmed in each way`, async t => {
    const { path, facts } = await sampleStore(t, end)
    let round = 0
    for (const [kind, pattern] of Object.entries(kinds)) {
      for (const [words, harm] of Object.entries(harms)) {
        for (let i = 0; i < times; i++) {
          const file = join(dirname(path), `harmed-${round++}`)
          const copy = `${file}.mosquitero`
          cpSync(path, copy, { recursive: true })
          const names = readdirSync(copy).filter(name => pattern.test(name))
          const name = names[below(random, names.length)] ?? ''
          harm(join(copy, name), random)
          await checkOpens(t, file, facts, `${kind} ${words} (${i})`, end === 'closed')
          rmSync(copy, { recursive: true })
        }
      }
    }
  })
}

/** `isCertain`: whatever is missing is said. */
async function checkOpens(t: Test, file: string, facts: ReadonlySet<string>, words: string, isCertain: boolean): Promise<void> {
  const copy = `${file}.mosquitero`
  const before = filesOf(copy)
  const opened = await open(file)
  const found = await factsOf(opened)
  const invented = [...found].filter(fact => !facts.has(fact))
  if (invented.length > 0) t.same(invented, [], `${words}: nothing is there that was not`)
  const lines = said(opened)
  const isWhole = found.size === facts.size
  if (isCertain || lines.length > 0) t.ok(isWhole || lines.length === 1, `${words}: ${found.size} of ${facts.size}, and it says so`)
  const [, place] = /set aside as (\S+?)\.$/.exec(lines[0] ?? '') ?? []
  if (lines.length > 0) {
    t.match(lines[0], / is damaged \(.+\)\. What can be read of it is kept/)
    if (place !== undefined) t.same(filesOf(place), before, `${words}: all of it is set aside`)
  }
  t.same(
    leftBeside(file).filter(name => name.includes('.before-')),
    []
  )
  await opened.store.commit(contents(200, 201))
  await opened.store.close()
  const again = await open(file)
  t.same(said(again), [], `${words}: once`)
  const kept = await factsOf(again)
  const lost = [...found].filter(fact => !kept.has(fact))
  t.same(lost, [], `${words}: what was kept stays`)
  t.ok(kept.size > found.size)
  await again.store.close()
  if (place !== undefined) rmSync(place, { recursive: true })
}

const leftBeside = (file: string): string[] => readdirSync(dirname(file)).filter(name => name.startsWith(`${basename(file)}.mosquitero.`))

function filesOf(path: string): [string, string][] {
  const names = readdirSync(path).filter(name => /^\d+\.(log|ldb)$|^MANIFEST|^CURRENT$/.test(name))
  return names.sort().map(name => [name, readFileSync(join(path, name)).toString('base64')])
}

t.test('what is left of a table, whatever was done to it, is a table whose blocks are right', async t => {
  const { path } = await sampleStore(t, 'closed')
  const [name = ''] = readdirSync(path).filter(name => kinds.table.test(name))
  const table = readFileSync(join(path, name))
  t.ok(isTableWhole(table))
  t.ok(isTableWhole(salvageTable(table) ?? table))
  let salvaged = 0
  for (let round = 0; round < 300; round++) {
    const harmed = Buffer.from(table.subarray(0, below(random, 4) === 0 ? below(random, table.length) : table.length))
    const length = 1 + below(random, 60)
    randomBytes(random, length).copy(harmed, below(random, Math.max(1, round % 2 === 0 ? harmed.length : table.length)))
    const rest = salvageTable(harmed)
    if (rest === undefined) continue
    salvaged += 1
    if (!isTableWhole(rest)) t.fail(`round ${round}`)
  }
  t.ok(salvaged > 50, `${salvaged} were salvaged`)
})

t.test('half a table, of a crash while it was written, is no damage', async t => {
  const { path, facts } = await sampleStore(t, 'crashed')
  const [table = ''] = readdirSync(path).filter(name => kinds.table.test(name))
  const bytes = readFileSync(join(path, table))
  writeFileSync(join(path, '000990.ldb'), bytes.subarray(0, bytes.length / 2))
  const opened = await open(path.replace(/\.mosquitero$/, ''))
  t.same(said(opened), [])
  t.equal((await factsOf(opened)).size, facts.size)
  await opened.store.close()
})

t.test('a byte of a table that is wrong costs the block it lies in', async t => {
  for (const end of ['closed', 'crashed'] as const) {
    const { path, facts } = await sampleStore(t, end)
    const tables = readdirSync(path).filter(name => kinds.table.test(name))
    for (const table of tables) {
      const bytes = readFileSync(join(path, table))
      bytes[1000] = (bytes[1000] ?? 0) ^ 255
      writeFileSync(join(path, table), bytes)
    }
    const opened = await open(path.replace(/\.mosquitero$/, ''))
    t.equal(said(opened).length, 1)
    const found = await factsOf(opened)
    t.ok(found.size > 0.6 * facts.size && found.size < facts.size, `${end}: ${found.size} of ${facts.size}, ${tables.length} blocks wrong`)
    await opened.store.close()
  }
})

t.test('a table that is lost costs what was in it, and not more', async t => {
  const { path, facts } = await sampleStore(t, 'closed')
  const [table = ''] = readdirSync(path).filter(name => kinds.table.test(name))
  rmSync(join(path, table))
  const opened = await open(path.replace(/\.mosquitero$/, ''))
  const found = await factsOf(opened)
  t.ok(found.size > facts.size / 4, `${found.size} of ${facts.size}`)
  await opened.store.close()
})

t.test('a folder without files, and one that is not there: a new store, without a word', async t => {
  for (const make of [true, false]) {
    const file = join(t.testdir(), 'm.db')
    if (make) mkdirSync(`${file}.mosquitero`)
    const opened = await open(file)
    t.same(said(opened), [])
    t.same(opened.state, { sessions: [], retained: [] })
    await opened.store.close()
  }
})

t.test('a LevelDB of somebody else, which holds what it wants, is set aside as it was', async t => {
  const file = join(t.testdir(), 'm.db')
  const path = `${file}.mosquitero`
  const other = new ClassicLevel(path)
  await other.put('their key', 'their value')
  await other.put('smosquitto', 'x')
  await other.close()
  const opened = await open(file)
  t.equal(said(opened).length, 1)
  const [, place = ''] = /no store of this broker\. It is set aside as (\S+),/.exec(said(opened)[0] ?? '') ?? []
  t.same(opened.state, { sessions: [], retained: [] })
  const kept = new ClassicLevel(place)
  t.equal(await kept.get('their key'), 'their value')
  await kept.close()
  await opened.store.close()
  t.same(leftBeside(file), [basename(place)])
})

t.test('a plain file where the store should be is set aside', async t => {
  const file = join(t.testdir(), 'm.db')
  writeFileSync(`${file}.mosquitero`, 'mine')
  const opened = await open(file)
  t.match(said(opened), [/is damaged \(there was a file, which is now m\.db\.mosquitero\.damaged-\S+\)\./])
  t.equal(readFileSync(join(dirname(file), leftBeside(file)[0] ?? ''), 'utf8'), 'mine')
  await opened.store.close()
})

t.test('rubbish under the names of a store, and under others', async t => {
  for (let round = 0; round < 10; round++) {
    const file = join(t.testdir(), `m${round}.db`)
    const path = `${file}.mosquitero`
    mkdirSync(path)
    for (const name of ['000003.log', '000005.ldb', 'MANIFEST-000002', 'CURRENT', 'SUMS', 'other', 'LOCK', 'LOG']) {
      if (below(random, 3) > 0) writeFileSync(join(path, name), randomBytes(random, below(random, 3000)))
    }
    const opened = await open(file)
    t.same(opened.state, { sessions: [], retained: [] })
    await opened.store.commit(contents(0, 3))
    const facts = await factsOf(opened)
    t.equal(facts.size, 0, 'the state is that of the opening')
    await opened.store.close()
    const again = await open(file)
    t.equal(again.state.sessions.length, clients.length)
    await again.store.close()
  }
})

t.test('a store of a newer format is refused, and left as it is', async t => {
  const file = join(t.testdir(), 'm.db')
  const path = `${file}.mosquitero`
  const newer = new ClassicLevel<Buffer, Buffer>(path, { keyEncoding: 'buffer', valueEncoding: 'buffer' })
  const key = metaKey('format')
  await newer.put(key, encodeJson(key, { store: 'mosquitero', version: 3 }))
  await newer.put(Buffer.from('z'), Buffer.from('new'))
  await newer.close()
  await t.rejects(open(file), { code: 'ERR_STORE_OPEN', message: /is of a newer Mosquitero, of format 3; this one reads format 2\.$/ })
  t.same(leftBeside(file), [])
  t.equal(
    await newer
      .open()
      .then(() => newer.get(Buffer.from('z')))
      .then(String),
    'new'
  )
  await newer.close()
})

t.test('a store that lost its format record is still known by what is in it', async t => {
  const { path, facts } = await sampleStore(t, 'closed')
  const level = new ClassicLevel<Buffer, Buffer>(path, { keyEncoding: 'buffer', valueEncoding: 'buffer' })
  await level.del(metaKey('format'))
  await level.close()
  rmSync(join(path, 'SUMS'))
  const opened = await open(path.replace(/\.mosquitero$/, ''))
  t.match(said(opened), [/damaged \(it does not say what it is\)/])
  t.equal((await factsOf(opened)).size, facts.size)
  await opened.store.close()
})

t.test('one that is open is refused to others, who leave nothing behind', async t => {
  const { path } = await sampleStore(t, 'closed')
  const file = path.replace(/\.mosquitero$/, '')
  const first = await open(file)
  await t.rejects(open(file), { code: 'ERR_STORE_IN_USE' })
  t.same(leftBeside(file), [])
  await first.store.commit(contents(150, 160))
  t.ok(existsSync(path))
  await first.store.close()
  const again = await open(file)
  t.same(said(again), [])
  await again.store.close()
})
