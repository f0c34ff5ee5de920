// The store on this machine's disk, for `persistence true`. What is committed is there after a crash of the process or of the machine;
// what a crash, a full disk or a hand leaves behind is opened all the same.

import { existsSync } from 'node:fs'
import { mkdir, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { setImmediate as nextTurn, setTimeout as pause } from 'node:timers/promises'
import { crc32 } from 'node:zlib'
import { BrokerError, systemCode, systemReason } from '../errors.js'
import type { Log } from '../log-events.js'
import type { Change, QueueEntry, Store, StoredState } from '../storage.js'
import { exportChanges } from './disk-export.js'
import {
  acceptDraft,
  beginDraft,
  beginStart,
  draftOf,
  endStart,
  finishImport,
  importedOf,
  type StartNote,
  setDraftAside
} from './disk-import.js'
import { Index } from './disk-index.js'
import { Plan } from './disk-plan.js'
import { bodiesIn, entriesOf, Rows } from './disk-queue.js'
import { type Reading, readDisk } from './disk-reader.js'
import { decodeJson, encodeJson, entryKey, isEntryKey, metaKey, rangeOf, recordKinds, sessionStart, unseal } from './disk-records.js'
import { type Entry, isDamage, Level, moveAside, Operations, type Range, refusal, sumOf, wordsOf } from './level.js'
import { type DatabaseProblem, type KeptChange, parseMosquittoDb } from './mosquitto-db.js'
import { type FileMark, markOf, readMosquittoFile, writeMosquittoFile } from './mosquitto-file.js'

export interface DiskStoreOptions {
  /** `persistence_file`, in Mosquitto's format; the store is a folder beside it. */
  readonly file: string
  readonly log: Log
  /** False: a commit need not survive a power cut, only the end of the process. */
  readonly sync: boolean
  /** The `listenerKey` of the listener with this port: Mosquitto knows no more of one. */
  listenerOf?(port: number): string | undefined
}

/** 2: queues with runs. What is of format 1 has none, and becomes one of format 2. */
const formatVersion = 2
/** Which `persistence_file` was written or taken over last. */
const fileKey = metaKey('file')
/** There from a stop that left nothing unsaved to the next start. */
const savedKey = metaKey('saved')
/** Older versions: there while `persistence_file` was taken over, and what lies here may be a part of it. */
const importingKey = metaKey('importing')
const everything: Range = { from: Buffer.of(0), to: Buffer.of(0xff) }
/** Records that are read at a time. */
const pageSize = 1000
const firstPause = 100
const longestPause = 3000
/** How long making the operations of a commit may take in one turn, milliseconds. */
const slice = 4
/** Changes of Mosquitto's file that are committed at a time. */
const importSize = 500
/** How often the tables are noted, milliseconds. */
const noteInterval = 60_000
/** Of a commit that the close overtook. */
const never = new Promise<never>(() => {})

type Changes = Generator<KeptChange, DatabaseProblem | undefined>

/** What was taken over. */
interface Drafted {
  readonly sessions: number
  readonly queued: number
  readonly retained: number
  readonly fault?: DatabaseProblem
}

/** Where the store lies that belongs to a `persistence_file`. */
export function storePath(file: string): string {
  return `${file}.mosquitero`
}

/** Whether one of ours lies there. */
export function hasStore(file: string): boolean {
  const path = storePath(file)
  return existsSync(path) || existsSync(importedOf(path))
}

export class DiskStore implements Store {
  readonly isDurableAtOnce = false
  readonly takesMore = true
  readonly path: string
  readonly #file: string
  readonly #listenerOf: (port: number) => string | undefined
  readonly #log: Log
  readonly #sync: boolean
  readonly #closed = new AbortController()
  #index = new Index()
  #level: Level | undefined
  /** Commits that are not written yet; may another be given to LevelDB beside them? */
  #pending = 0
  #mayJoin = true
  /** Commits that were begun, and those of them that are written, in order. */
  #begun = 0
  #written = 0
  #lastCommit: Promise<void> = Promise.resolve()
  /** What the system says, while nothing can be written. */
  #trouble: string | undefined
  /** Numbers of ended sessions whose records are to be removed. */
  #ended: number[] = []
  #sweeping: Promise<void> | undefined
  #noter: NodeJS.Timeout | undefined
  /** Something was found at the opening that could not be read. */
  wasDamaged = false
  /** Changes since `persistence_file` was written. */
  unsaved = 0
  /** Told after each commit. */
  committed: (() => void) | undefined
  #saving: Promise<void> | undefined
  /** `persistence_file` said all that the store did when it was written or taken over last. */
  #wasSaved = false
  /** Of writing it, whoever asked for that: it takes too long. */
  readonly #saveLimit = new AbortController()
  /** The file that lies there, if we wrote it or took it over. */
  #known: FileMark | undefined

  constructor({ file, log, sync, listenerOf }: DiskStoreOptions) {
    this.path = storePath(file)
    this.#file = file
    this.#listenerOf = listenerOf ?? (() => undefined)
    this.#log = log
    this.#sync = sync
  }

  get isSaving(): boolean {
    return this.#saving !== undefined
  }

  /** `persistence_file` says all that the store does, after whatever end of the last start. */
  get isSaved(): boolean {
    return this.#level === undefined || (this.#wasSaved && this.unsaved === 0)
  }

  get up(): boolean {
    return this.#trouble === undefined && !this.#closed.signal.aborted
  }

  async open(): Promise<StoredState> {
    try {
      return await this.#openAll()
    } catch (error) {
      // Whoever mends that may try again, in this process too.
      await this.#level?.settle()
      await this.#level?.close()
      this.#level = undefined
      throw systemCode(error) === undefined ? error : refusal(this.path, error)
    }
  }

  async #openAll(): Promise<StoredState> {
    const started = performance.now()
    const file = await markOf(this.#file)
    const note = await beginStart(this.path, file)
    let level = await this.#openOurs()
    this.#level = level
    level = await this.#settleFile(level, file, note)
    this.#level = level
    await this.#noteSaved(level, false)
    await endStart(this.path)
    const found = await this.#readAll(level)
    // Where that fails the first commit says why, and they are found again at the next start.
    if (found.useless.size > 0) await level.write(found.useless, true).catch(() => {})
    await this.#sayDamage(level)
    await level.noteSums().catch(() => {})
    this.#noter = setInterval(() => void level.noteSums().catch(() => {}), noteInterval)
    this.#noter.unref()
    const { sessions, retained } = found
    // No file says nothing.
    if (this.#known === undefined) this.#wasSaved = sessions.length + retained.length === 0
    this.#log.write('storeOpened', {
      path: this.path,
      sessions: sessions.length,
      subscriptions: sessions.reduce((sum, { subscriptions }) => sum + subscriptions.length, 0),
      queued: sessions.reduce((sum, { queued }) => sum + queued.messages, 0),
      retained: retained.length,
      milliseconds: Math.round(performance.now() - started)
    })
    return { sessions, retained }
  }

  commit(changes: readonly Change[]): Promise<void> {
    const before = this.#lastCommit
    const isLoose = changes.every(isOfQueues)
    const mayJoin = this.#pending === 0 || (isLoose && this.#mayJoin)
    this.#mayJoin = isLoose && mayJoin
    this.#pending += 1
    this.#lastCommit = mayJoin ? this.#commit(changes, before) : before.then(() => this.#commit(changes, before))
    return this.#lastCommit
  }

  // LevelDB syncs what waits behind a write that it syncs at once and together.
  async #commit(changes: readonly Change[], before: Promise<void>): Promise<void> {
    this.#begun += 1
    const plan = new Plan(this.#begun, this.#written, this.#index)
    // What fits into a turn is on its way when this returns.
    const rest = inSlices(plan.take(changes))
    if (rest !== undefined) {
      this.#mayJoin = false
      await rest
    }
    if (plan.isBehind) await before
    await this.#write(plan.operations, this.#sync && changes.some(promisesSomething), before)
    this.#pending -= 1
    this.#written = plan.number
    plan.noteWritten()
    this.unsaved += changes.length
    this.committed?.()
    // Not before it is durable that they ended.
    for (const number of plan.ended) this.#ended.push(number)
    if (this.#ended.length > 0) this.#sweepLater()
  }

  async page(clientId: string, after: number, limit: number): Promise<readonly QueueEntry[]> {
    const place = this.#index.placeOf(clientId)
    if (place === undefined || limit <= 0 || after >= place.readable) return []
    const rows = new Rows(after)
    const range = { from: entryKey(place.number, after + 1), to: entryKey(place.number, place.readable + 1) }
    // Each may have its state behind it.
    for await (const records of this.#open.read(range, 2 * limit)) {
      for (const [key, value] of records) {
        if (rows.size >= limit) break
        rows.add(key, value)
      }
      if (rows.size >= limit) break
    }
    const { bodies, states } = this.#index
    const entries = await entriesOf(clientId, rows.take().slice(0, limit), bodies, this.#open)
    for (const entry of entries) if (entry.state !== 'queued' && entry.record === undefined) states.add(entry)
    return entries
  }

  /** Everything, as changes that make it again elsewhere: sessions first, retained messages last, each queue in its order. As of now. */
  export(): AsyncGenerator<KeptChange, void> {
    return exportChanges(this.#open, this.#index.bodies, clientId => this.#index.placeOf(clientId)?.packetId)
  }

  /**
   * Has what `fill` commits instead of what it has; where that lies now, if it was something. For an open store that nobody uses yet, and that is
   * closed afterwards. All of it is made beside the store: where `fill` rejects, or this is cut off before it is whole, what was there is there.
   */
  async replace(fill: (draft: DiskStore) => Promise<void>): Promise<string | undefined> {
    const folder = `${this.path}.next`
    await rm(folder, { recursive: true, force: true })
    await mkdir(folder, { mode: 0o700 })
    const draft = new DiskStore({ file: join(folder, 'draft'), log: this.#log, sync: this.#sync })
    try {
      await draft.open()
      await fill(draft)
      // That file says nothing of what came now.
      draft.#wasSaved = false
      if (this.#known !== undefined) await draft.#noteFile(this.#known)
      await draft.close()
      return await this.#giveWay(draft.path)
    } finally {
      await draft.close()
      await rm(folder, { recursive: true, force: true })
    }
  }

  async #giveWay(draft: string): Promise<string | undefined> {
    const level = this.#open
    const isEmpty = !(await hasSessions(level))
    this.#level = undefined
    await level.close()
    await acceptDraft(this.path, draft)
    if (isEmpty) await rm(this.path, { recursive: true })
    return await finishImport(this.path)
  }

  /** Resolves when nothing is left of sessions that ended. */
  async swept(): Promise<void> {
    await this.#sweeping
  }

  async close(): Promise<void> {
    this.#closed.abort()
    clearInterval(this.#noter)
    await this.#sweeping
    if (this.#level !== undefined && this.isSaved) await this.#noteSaved(this.#level, true).catch(() => {})
    await this.#level?.closeNoted().catch(() => {})
  }

  get #open(): Level {
    if (this.#level === undefined) throw new TypeError('the store is not open')
    return this.#level
  }

  /**
   * Writes `persistence_file`, so that Mosquitto could be started on it. Resolves when it is there, or when the log says why it isn't; who
   * asks while it is written waits for that.
   */
  save(): Promise<void> {
    this.#saving ??= this.#save(this.#saveLimit.signal).finally(() => {
      this.#saving = undefined
    })
    return this.#saving
  }

  /** For the end, when nothing comes any more: also what came while it was being written; nothing is written once the signal says enough. */
  async saveRest(limit: AbortSignal): Promise<void> {
    const end = () => this.#saveLimit.abort()
    limit.addEventListener('abort', end, { once: true })
    await this.#saving
    if (!this.isSaved && !limit.aborted) await this.save()
    limit.removeEventListener('abort', end)
  }

  async #save(limit: AbortSignal): Promise<void> {
    const unsaved = this.unsaved
    const started = performance.now()
    this.#log.write('saving', { file: this.#file })
    try {
      const mark = await writeMosquittoFile(this.#file, this.export(), mark => this.#noteFile(mark, this.#known), limit)
      this.#known = mark
      this.unsaved -= unsaved
      this.#wasSaved = true
      await this.#noteFile(mark).catch(() => {})
      this.#log.write('saved', { file: this.#file, milliseconds: Math.round(performance.now() - started) })
    } catch (error) {
      // While nothing can be written to the store it can't always be read.
      const reason = limit.aborted ? 'it takes too long' : (this.#trouble ?? systemReason(error))
      this.#log.write('saveFailed', { file: this.#file, reason })
    }
  }

  // Before it is there: a file that we wrote must never be taken for Mosquitto's, whose news would replace what we have since. Until it is, the
  // one that it replaces is ours as well.
  async #noteFile(mark: FileMark, before?: FileMark): Promise<void> {
    const operations = new Operations()
    operations.put(fileKey, encodeJson(fileKey, { ...mark, ...(before && { before }) }))
    await this.#open.write(operations, true)
  }

  async #noteSaved(level: Level, isSaved: boolean): Promise<void> {
    const operations = new Operations()
    if (isSaved) operations.put(savedKey, encodeJson(savedKey, {}))
    else if (await hasKey(level, savedKey)) operations.delete(savedKey)
    if (operations.size > 0) await level.write(operations, true)
  }

  // Opening

  /** What becomes of `persistence_file`, and the store after that; see disk-import. */
  async #settleFile(level: Level, file: FileMark | undefined, note: StartNote): Promise<Level> {
    this.#known = file && (await this.#findKnown(level, file))
    this.#wasSaved = this.#known !== undefined && (await hasKey(level, savedKey))
    if (file !== undefined && this.#known === undefined) {
      const isNewer = file.mtimeMs > note.lastWritten || (await hasKey(level, importingKey))
      if (isNewer || !(await hasSessions(level))) return this.#import(level, file, note, isNewer ? 'older' : 'empty')
      this.#log.write('importOlder', { file: this.#file, place: await moveAside(this.#file, 'older') })
    }
    await this.#goOnWithout(level, await setDraftAside(this.path))
    return level
  }

  async #goOnWithout(level: Level, place: string | undefined): Promise<void> {
    const isPart = await hasKey(level, importingKey)
    if (isPart) {
      const operations = new Operations()
      operations.delete(importingKey)
      await level.write(operations, true)
    }
    if (isPart || place !== undefined) this.#log.write('importEnded', { file: this.#file, ...(place !== undefined && { place }) })
  }

  // By its date, or by what is in it: it may have been copied, or touched.
  async #findKnown(level: Level, file: FileMark): Promise<FileMark | undefined> {
    const known = (await knownFiles(level)).filter(({ size }) => size === file.size)
    const dated = known.find(({ mtimeMs }) => mtimeMs === file.mtimeMs)
    if (dated !== undefined || !known.some(({ sum }) => sum !== undefined)) return dated
    const sum = await sumOf(this.#file)
    return sum === undefined ? undefined : known.find(one => one.sum === sum) && { ...file, sum }
  }

  // What the store had stays beside it: Mosquitto may have been started on an older file, or on none. Where that had everything one is enough.
  async #import(level: Level, file: FileMark, note: StartNote, store: 'older' | 'empty'): Promise<Level> {
    const bytes = await readMosquittoFile(this.#file)
    const changes = parseMosquittoDb(bytes, { listenerOf: this.#listenerOf })
    const first = changes.next()
    if (first.done && first.value !== undefined) {
      this.#log.write('importRefused', { file: this.#file, reason: first.value.message, place: await moveAside(this.#file, 'foreign') })
      await this.#goOnWithout(level, await setDraftAside(this.path))
      return level
    }
    const mark = { ...file, sum: crc32(bytes) }
    const place = await beginDraft(this.path, note, mark)
    if (place !== undefined) this.#log.write('importEnded', { file: this.#file, place })
    const { fault, ...counts } = await this.#draft(changes, first, mark).catch(error => Promise.reject(refusal(this.path, error)))
    await acceptDraft(this.path)
    const replaced = await this.#removeOlder(level)
    await finishImport(this.path)
    this.#known = mark
    this.#wasSaved = fault === undefined
    this.wasDamaged ||= fault !== undefined
    this.#log.write('imported', { file: this.#file, store, ...counts, ...(replaced !== undefined && { replaced }) })
    if (fault !== undefined) {
      const reason = fault.message
      this.#log.write('importDamaged', { file: this.#file, reason, place: await moveAside(this.#file, 'damaged') })
    }
    return this.#openOurs()
  }

  /** A store of what the file says, beside ours. */
  async #draft(changes: Changes, first: IteratorResult<KeptChange, DatabaseProblem | undefined>, mark: FileMark): Promise<Drafted> {
    const draft = await Level.open(draftOf(this.path))
    let [sessions, queued, retained] = [0, 0, 0]
    this.#index = new Index()
    this.#index.bodies.comesOneByOne = true
    try {
      await writeFormat(draft)
      let next = first
      for (let batch: Change[] = []; ; next = changes.next()) {
        if (!next.done) {
          const change = next.value
          batch.push(change.kind === 'session' ? leftAtLeast(change, Math.floor(mark.mtimeMs)) : change)
          if (change.kind === 'session') sessions += 1
          else if (change.kind === 'enqueue') queued += 1
          else if (change.kind === 'retain') retained += 1
        }
        if (batch.length < importSize && !next.done) continue
        await draft.write(await this.#operations(batch), false)
        batch = []
        if (next.done) break
      }
      const end = new Operations()
      end.put(fileKey, encodeJson(fileKey, mark))
      await draft.write(end, true)
      return { sessions, queued, retained, ...(next.done && next.value && { fault: next.value }) }
    } finally {
      await draft.close()
    }
  }

  /** Makes way for what was taken over; where that had something, its place. */
  async #removeOlder(level: Level): Promise<string | undefined> {
    const [hadSome, wasSaved] = [await hasSessions(level), await hasKey(level, savedKey)]
    await this.#sayDamage(level)
    await level.close()
    if (!hadSome) {
      await rm(this.path, { recursive: true })
      return undefined
    }
    const place = await moveAside(this.path, 'replaced')
    return wasSaved ? keepOne(place, `${this.path}.replaced`) : place
  }

  async #operations(changes: readonly Change[]): Promise<Operations> {
    this.#begun += 1
    const plan = new Plan(this.#begun, this.#written, this.#index)
    const rest = inSlices(plan.take(changes))
    if (rest !== undefined) await rest
    this.#written = plan.number
    return plan.operations
  }

  async #openOurs(): Promise<Level> {
    const level = await Level.open(this.path)
    try {
      const version = await formatOf(level)
      if (version === formatVersion) return level
      if (version === 'none' || version === 1) {
        await writeFormat(level)
        return level
      }
      if (version !== 'foreign') {
        throw new BrokerError(
          'ERR_STORE_OPEN',
          `The store ${this.path} is of a newer Mosquitero, of format ${version}; this one reads format ${formatVersion}.`
        )
      }
    } catch (error) {
      await level.settle()
      await level.close()
      throw refusal(this.path, error)
    }
    await level.settle()
    await level.close()
    const place = await moveAside(this.path, 'damaged')
    this.wasDamaged = true
    this.#log.write('storeForeign', { path: this.path, place })
    const own = await Level.open(this.path)
    await writeFormat(own)
    return own
  }

  async #readAll(level: Level): Promise<Reading> {
    for (const mend of ['repair', 'clear'] as const) {
      try {
        return this.#take(await readDisk(level))
      } catch (error) {
        if (!isDamage(error)) throw refusal(this.path, error)
        await level[mend](error)
        if (mend === 'clear') await writeFormat(level)
      }
    }
    return this.#take(await readDisk(level))
  }

  #take(reading: Reading): Reading {
    this.#index = new Index(reading.places, reading.bodies, reading.nextSession)
    for (const place of reading.places.values()) place.readable = place.sequence
    return reading
  }

  async #sayDamage(level: Level): Promise<void> {
    if (level.damage.length === 0) {
      await level.settle()
      return
    }
    this.wasDamaged = true
    const place = await level.setAside()
    this.#log.write('storeDamaged', {
      path: this.path,
      reason: [...new Set(level.damage)].join('; '),
      ...(place !== undefined && { place })
    })
  }

  // Writing

  // Until it is done: whoever waits for it was promised that. Not before what came `before`.
  async #write(operations: Operations, sync: boolean, before?: Promise<void>): Promise<void> {
    let isBeside = before !== undefined
    for (let wait = firstPause; operations.size > 0; wait = Math.min(2 * wait, longestPause)) {
      if (this.#closed.signal.aborted) return never
      try {
        await this.#open.write(operations, sync)
        break
      } catch (error) {
        if (this.#closed.signal.aborted) return never
        if (isBeside) {
          // What failed may be that one, which tries until it is written.
          isBeside = false
          await before
          continue
        }
        this.#sayTrouble(error)
        await pause(wait, undefined, { signal: this.#closed.signal }).catch(() => {})
        // LevelDB takes nothing after a write that failed, until it is opened again.
        await this.#open.reopen().catch(() => {})
      }
    }
    await before
    if (this.#trouble === undefined) return
    this.#trouble = undefined
    this.#log.write('storeMended', { path: this.path })
  }

  #sayTrouble(error: unknown): void {
    if (this.#trouble !== undefined) return
    this.#trouble = wordsOf(this.path, error)
    this.#log.write('storeTrouble', { path: this.path, reason: this.#trouble })
  }

  // Ended sessions

  #sweepLater(): void {
    this.#sweeping ??= this.#sweep().finally(() => {
      this.#sweeping = undefined
    })
  }

  async #sweep(): Promise<void> {
    for (let number = this.#ended[0]; number !== undefined && this.up; number = this.#ended[0]) {
      try {
        await this.#removeRest(number)
      } catch {
        // The next commit says why, and what is left goes after that, or at the next start.
        return
      }
      this.#ended.shift()
    }
  }

  async #removeRest(number: number): Promise<void> {
    const level = this.#open
    for (const kind of [recordKinds.last, recordKinds.filter, recordKinds.held, recordKinds.queue] as const) {
      const range = { from: sessionStart(kind, number), to: sessionStart(kind, number + 1) }
      for await (const records of level.read(range, pageSize)) {
        if (this.#closed.signal.aborted) return
        const operations = new Operations()
        for (const [key] of records) operations.delete(key)
        await level.write(operations, false)
        // Counted once they are gone, as a write that failed is made again.
        if (kind === recordKinds.queue) await this.#releaseBodies(level, records)
        await nextTurn()
      }
    }
  }

  async #releaseBodies(level: Level, records: readonly Entry[]): Promise<void> {
    const operations = new Operations()
    for (const [key, value] of records) {
      if (isEntryKey(key)) for (const body of bodiesIn(key, value)) this.#index.bodies.remove(body, operations)
    }
    if (operations.size > 0) await level.write(operations, false)
  }
}

/**
 * What comes into queues, and what is done with. No two commits that are under way at a time have to do with the same entry: it is done when it
 * was sent, and sent when its commit had ended. So the order in which LevelDB takes them is all the same, as nobody reads one too early; but
 * for the progress of a run, which waits.
 */
function isOfQueues({ kind }: Change): boolean {
  return kind === 'enqueue' || kind === 'done'
}

/** Delivered, confirmed, on its way: nobody is told that we know. */
function promisesSomething({ kind }: Change): boolean {
  return kind !== 'done' && kind !== 'sent'
}

/** `none`: it is new, or has lost it. */
async function formatOf(level: Level): Promise<number | 'none' | 'foreign'> {
  const key = metaKey('format')
  const [value] = await level.get([key]).catch(async error => {
    if (!isDamage(error)) throw error
    await level.repair(error)
    return level.get([key])
  })
  const content = value && unseal(key, value)
  const version = content && decodeJson(content)?.version
  if (typeof version === 'number') return version
  if (await isOurs(level)) {
    level.damage.push('it does not say what it is')
    return 'none'
  }
  return level.damage.length > 0 || (await isEmpty(level)) ? 'none' : 'foreign'
}

// A single record that is what was written is proof.
async function isOurs(level: Level): Promise<boolean> {
  for await (const records of level.read(everything, pageSize)) {
    if (records.some(([key, value]) => unseal(key, value) !== undefined)) return true
  }
  return false
}

async function isEmpty(level: Level): Promise<boolean> {
  for await (const records of level.read(everything, 1)) if (records.length > 0) return false
  return true
}

/** Instead of the one that is there. */
async function keepOne(path: string, as: string): Promise<string> {
  await rm(as, { recursive: true, force: true })
  await rename(path, as)
  return as
}

// Nobody was connected any more when it was written for the last time; else the end of Mosquitto was that of its connections.
function leftAtLeast(change: Extract<Change, { kind: 'session' }>, leftAt: number): Change {
  return { ...change, session: { leftAt, ...change.session } }
}

async function hasKey(level: Level, key: Buffer): Promise<boolean> {
  const [value] = await level.get([key])
  return value !== undefined
}

/** Files that the store has, or had when they were written, in it. */
async function knownFiles(level: Level): Promise<readonly FileMark[]> {
  const [value] = await level.get([fileKey])
  const content = value && unseal(fileKey, value)
  const record = content && decodeJson(content)
  return [record, record?.before].flatMap(parseMark)
}

function parseMark(value: unknown): FileMark[] {
  const { size, mtimeMs, sum }: Readonly<Record<string, unknown>> = typeof value === 'object' && value !== null ? { ...value } : {}
  if (typeof size !== 'number' || typeof mtimeMs !== 'number') return []
  return [{ size, mtimeMs, ...(typeof sum === 'number' && { sum }) }]
}

async function hasSessions(level: Level): Promise<boolean> {
  try {
    for await (const records of level.read(rangeOf(recordKinds.session), 1)) if (records.length > 0) return true
    for await (const records of level.read(rangeOf(recordKinds.retained), 1)) if (records.length > 0) return true
    return false
  } catch (error) {
    // What can't be read is something.
    if (isDamage(error)) return true
    throw error
  }
}

async function writeFormat(level: Level): Promise<void> {
  const operations = new Operations()
  operations.put(metaKey('format'), encodeJson(metaKey('format'), { store: 'mosquitero', version: formatVersion }))
  await level.write(operations, true)
}

/** Undefined: one slice was enough. */
function inSlices(steps: Generator<void, void>): Promise<void> | undefined {
  const end = performance.now() + slice
  while (steps.next().done !== true) if (performance.now() > end) return nextTurn().then(() => inSlices(steps))
  return undefined
}
