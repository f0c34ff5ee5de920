// A LevelDB in a folder, opened whatever became of it: `classic-level`, and what it leaves to its user. It drops what it can't read from a
// log with no more than a line in a file of its own, and passes by a damaged part of a table in silence; after a write that failed it refuses
// all others until it is opened again. So the files are looked at before it is let in, and what they were is kept beside it when they are damaged.

import { copyFile, link, mkdir, open as openFile, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { crc32 } from 'node:zlib'
import { ClassicLevel } from 'classic-level'
import { BrokerError, errorMessage, systemCode, systemReason } from '../errors.js'
import { isTableWhole, salvageTable } from './level-table.js'

/** What happens together: keys with their values, and keys that go. */
export class Operations {
  readonly keys: Buffer[] = []
  readonly values: (Buffer | undefined)[] = []

  get size(): number {
    return this.keys.length
  }

  put(key: Buffer, value: Buffer): void {
    this.keys.push(key)
    this.values.push(value)
  }

  delete(key: Buffer): void {
    this.keys.push(key)
    this.values.push(undefined)
  }
}

export interface Range {
  readonly from: Buffer
  /** Without it. */
  readonly to: Buffer
}

export type Entry = readonly [key: Buffer, value: Buffer]

/** As it was at one moment. */
export interface View {
  close(): Promise<void>
}

type Database = ClassicLevel<Buffer, Buffer>

/** Open in this process. */
const openHere = new Set<string>()

/** Operations that are given to LevelDB between two looks at the clock, and how long that may take in one turn, milliseconds. */
const perLook = 64
const slice = 4
/** As much gathers in memory before a table is made of it. */
const writeBufferSize = 32 * 1024 * 1024
const cacheSize = 16 * 1024 * 1024

const sumsName = 'SUMS'
/** The last line of it where the store was closed, and all its files are in it. */
const closedText = 'closed\n'
const beforeText = '.before-'
const isTable = (name: string): boolean => /^\d+\.(ldb|sst)$/.test(name)
const isPart = (name: string): boolean => isTable(name) || /^\d+\.log$|^MANIFEST-\d+$/.test(name)
const isFile = (name: string): boolean => isPart(name) || name === 'CURRENT'

export class Level {
  readonly path: string
  #database: Database
  /** Its files as they were before LevelDB touched them. */
  readonly #before: Before
  /** What was found to be wrong with them. */
  readonly damage: string[]
  /** Of its tables, which never change. */
  readonly #sums = new Map<string, number>()
  #isNoted = false
  #isClosed = false
  #reopening: Promise<void> = Promise.resolve()

  private constructor(path: string, database: Database, before: Before, damage: string[]) {
    this.path = path
    this.#database = database
    this.#before = before
    this.damage = damage
    openHere.add(path)
  }

  /**
   * Opens or makes it. Rejects with a BrokerError: another process has it, or the folder can't be used. What is damaged is mended as far as
   * that goes and stands in `damage`; until `settle` or `setAside` its files as they were lie beside it.
   */
  static async open(path: string): Promise<Level> {
    const damage = await makeFolder(path)
    const before = new Before(path)
    let halves: string[] = []
    try {
      const names = await readdir(path)
      const isOld = names.some(isPart)
      if (isOld) await before.link(names)
      const notes = await readNotes(path)
      const harmed = await harmedFiles(path, notes)
      damage.push(...harmed.map(({ words }) => words))
      // Half a table may be what a crash left of one that nobody has missed yet. It is, if all can be opened without it.
      halves = await halfTables(path, names, notes)
      if (harmed.length + halves.length > 0) await refuseIfOpen(path)
      for (const name of halves) await rm(join(path, name))
      // What is done from here on may be cut off: only what never changes stays noted.
      if (notes.isComplete) await writeNotes(path, notes.lines.filter(isTableNote))
      let database = harmed.length > 0 ? undefined : await openOr(path, isOld, damage)
      const isWhole = database !== undefined
      if (database === undefined) {
        // Kept from here on, whatever becomes of this process.
        await before.keep()
        await before.restore()
        for (const name of [...harmed.map(({ name }) => name), ...halves]) if (isTable(name)) await mendTable(path, name)
        database = await openRepaired(path)
      }
      damage.push(...(await droppedFromLog(path)))
      await before.removeOlder()
      await rm(join(path, sumsName), { force: true })
      const level = new Level(path, database, before, damage)
      if (isWhole) for (const { name, sum } of notes.lines.filter(isTableNote)) level.#sums.set(name, sum)
      return level
    } catch (error) {
      if (halves.length > 0) await before.restore().catch(() => {})
      await before.remove()
      throw refusal(path, error, before.place)
    }
  }

  /** It can't be read: what of it can is gathered anew. */
  async repair(error: unknown): Promise<void> {
    this.damage.push(wordsOf(this.path, error))
    await this.#before.keep()
    await this.#database.close()
    this.#database = await openRepaired(this.path)
  }

  /** Nothing of it can be used: it begins anew. */
  async clear(error: unknown): Promise<void> {
    this.damage.push(wordsOf(this.path, error))
    await this.#before.keep()
    await this.#database.close()
    this.#database = await openEmpty(this.path)
  }

  /** Everything could be read: what the files were before need not be kept. */
  async settle(): Promise<void> {
    await this.#before.remove()
  }

  /** Something could not: what the files were is kept. Resolves with its place. */
  async setAside(): Promise<string | undefined> {
    await this.#before.keep()
    return this.#before.place
  }

  /** Resolves when all of it is written; with `sync`, when it will be there after a power cut. */
  async write({ keys, values }: Operations, sync: boolean): Promise<void> {
    const batch = this.#database.batch()
    let start = performance.now()
    for (let i = 0; i < keys.length; i++) {
      const [key, value] = [keys[i], values[i]]
      if (key === undefined) continue
      if (value === undefined) batch.del(key)
      else batch.put(key, value)
      if (i % perLook < perLook - 1 || performance.now() - start < slice) continue
      await nextTurn()
      start = performance.now()
    }
    await batch.write({ sync })
  }

  /** In order, at most `size` at a time. */
  async *read({ from, to }: Range, size: number, view?: View): AsyncGenerator<readonly Entry[], void> {
    const iterator = this.#database.iterator({ gte: from, lt: to, ...(view instanceof LevelView && { snapshot: view.snapshot }) })
    try {
      for (;;) {
        const entries = await iterator.nextv(size)
        if (entries.length === 0) return
        yield entries
      }
    } finally {
      await iterator.close()
    }
  }

  get(keys: Buffer[], view?: View): Promise<(Buffer | undefined)[]> {
    return this.#database.getMany(keys, view instanceof LevelView ? { snapshot: view.snapshot } : {})
  }

  view(): View {
    return new LevelView(this.#database.snapshot())
  }

  /** After a write that failed. Rejects while it can't be opened. */
  reopen(): Promise<void> {
    const reopened = this.#reopen()
    this.#reopening = reopened.catch(() => {})
    return reopened
  }

  async #reopen(): Promise<void> {
    await this.#database.close()
    if (this.#isClosed) return
    const database = newDatabase(this.path)
    await database.open()
    this.#database = database
  }

  /** Notes what its tables are, so that whatever changes them is seen at the next start. */
  async noteSums(): Promise<void> {
    const names = liveTables(this.#database)
    if (this.#isNoted && names.length === this.#sums.size && names.every(name => this.#sums.has(name))) return
    for (const name of [...this.#sums.keys()]) if (!names.includes(name)) this.#sums.delete(name)
    for (const name of names) await this.#noteSum(name)
    await this.#writeSums()
    this.#isNoted = true
  }

  async #noteSum(name: string): Promise<void> {
    const sum = this.#sums.get(name) ?? (await sumOf(join(this.path, name)))
    if (sum !== undefined) this.#sums.set(name, sum)
  }

  async #writeSums(more = ''): Promise<void> {
    const notes: Note[] = Array.from(this.#sums, ([name, sum]) => ({ name, sum }))
    // It only grows, while this goes on.
    const manifest = (await readdir(this.path))
      .filter(name => name.startsWith('MANIFEST-'))
      .sort()
      .at(-1)
    const content = manifest && (await readFile(join(this.path, manifest)))
    if (manifest && content) notes.push({ name: manifest, sum: crc32(content), length: content.length })
    await writeNotes(this.path, notes, more)
  }

  async close(): Promise<void> {
    this.#isClosed = true
    await this.#reopening
    await this.#database.close()
    openHere.delete(this.path)
  }

  /** Notes all of its files, so that it is seen at the next start when one is gone, or shorter than it was. */
  async closeNoted(): Promise<void> {
    await this.noteSums().catch(() => {})
    await this.close()
    const names = (await readdir(this.path)).filter(isFile)
    // A compaction may just have ended.
    for (const name of [...this.#sums.keys()]) if (!names.includes(name)) this.#sums.delete(name)
    for (const name of names) if (!isTable(name) && !name.startsWith('MANIFEST-')) await this.#noteSum(name)
    await this.#writeSums(closedText)
  }
}

/** The files of a store as they are before LevelDB is let in, which mends and removes without asking: links beside them. */
class Before {
  readonly #path: string
  #links: string | undefined
  /** Where they are kept for good. */
  place: string | undefined

  constructor(path: string) {
    this.#path = path
  }

  // A table or log is never written again once LevelDB has been opened anew.
  async link(names: readonly string[]): Promise<void> {
    const links = `${this.#path}${beforeText}${process.pid}`
    await rm(links, { recursive: true, force: true })
    await mkdir(links, { mode: 0o700 })
    this.#links = links
    for (const name of names.filter(isFile)) {
      const [from, to] = [join(this.#path, name), join(links, name)]
      // Where another broker is at work files come and go; this one will be refused.
      await link(from, to).catch(() =>
        copyFile(from, to).catch(error => (systemCode(error) === 'ENOENT' ? undefined : Promise.reject(error)))
      )
    }
  }

  async keep(): Promise<void> {
    if (this.#links === undefined) return
    const place = await freeName(this.#path, 'damaged')
    await rename(this.#links, place)
    this.#links = undefined
    this.place = place
  }

  /** What LevelDB took for no part of it, and removed, is there again. */
  async restore(): Promise<void> {
    const place = this.place ?? this.#links
    if (place === undefined) return
    for (const name of (await readdir(place)).filter(name => isPart(name) && !name.startsWith('MANIFEST'))) {
      const [from, to] = [join(place, name), join(this.#path, name)]
      await link(from, to).catch(error => (systemCode(error) === 'EEXIST' ? undefined : copyFile(from, to)))
    }
  }

  async remove(): Promise<void> {
    if (this.#links !== undefined) await rm(this.#links, { recursive: true, force: true })
    this.#links = undefined
  }

  /** Of starts that were cut off. */
  async removeOlder(): Promise<void> {
    const folder = dirname(this.#path)
    const older = (await readdir(folder)).filter(name => name.startsWith(`${basename(this.#path)}${beforeText}`))
    for (const name of older) if (join(folder, name) !== this.#links) await rm(join(folder, name), { recursive: true, force: true })
  }
}

class LevelView implements View {
  readonly snapshot: ReturnType<Database['snapshot']>

  constructor(snapshot: ReturnType<Database['snapshot']>) {
    this.snapshot = snapshot
  }

  close(): Promise<void> {
    return this.snapshot.close()
  }
}

/** When its files were written last, milliseconds since 1970; -Infinity: there is none. Opening it writes. */
export async function writtenAt(path: string): Promise<number> {
  const names = await readdir(path).catch(() => [])
  const found = await Promise.all(names.filter(isPart).map(name => stat(join(path, name)).catch(() => undefined)))
  return Math.max(Number.NEGATIVE_INFINITY, ...found.map(one => one?.mtimeMs ?? Number.NEGATIVE_INFINITY))
}

/** Puts a file or folder out of the way; its new place. */
export async function moveAside(path: string, why: 'damaged' | 'replaced' | 'foreign' | 'older' | 'unfinished'): Promise<string> {
  const place = await freeName(path, why)
  await rename(path, place)
  return place
}

function newDatabase(path: string): Database {
  return new ClassicLevel<Buffer, Buffer>(path, {
    keyEncoding: 'buffer',
    valueEncoding: 'buffer',
    writeBufferSize,
    cacheSize,
    compression: false
  })
}

/** Undefined: it is damaged. Rejects when that is not the reason. */
async function openOr(path: string, isOld: boolean, damage: string[]): Promise<Database | undefined> {
  const database = newDatabase(path)
  try {
    // Where CURRENT is missing it would begin anew, and throw away what is there.
    await database.open({ createIfMissing: !isOld })
    return database
  } catch (error) {
    if (!isDamage(error)) throw error
    damage.push(wordsOf(path, error))
    return undefined
  }
}

/** Is it what lies there that is wrong? Else nothing can be said about it: the disk is full, or fails. */
export function isDamage(error: unknown): boolean {
  const cause = causeOf(error)
  return systemCode(cause) === 'LEVEL_CORRUPTION' || /No such file|Invalid argument|does not exist/.test(errorMessage(cause))
}

// At worst empty.
async function openRepaired(path: string): Promise<Database> {
  try {
    await ClassicLevel.repair(path)
    const database = newDatabase(path)
    await database.open()
    return database
  } catch (error) {
    if (!isDamage(error)) throw error
    return openEmpty(path)
  }
}

async function openEmpty(path: string): Promise<Database> {
  await rm(path, { recursive: true })
  await mkdir(path, { mode: 0o700 })
  const database = newDatabase(path)
  await database.open()
  return database
}

/** Names of the tables it reads. */
function liveTables(database: Database): string[] {
  const numbers = Array.from(database.getProperty('leveldb.sstables').matchAll(/^ (\d+):\d+\[/gm), ([, number = '']) => number)
  return numbers.map(number => `${number.padStart(6, '0')}.ldb`)
}

// LevelDB goes on without it.
async function droppedFromLog(path: string): Promise<string[]> {
  const text = await readFile(join(path, 'LOG'), 'utf8').catch(() => '')
  return /: dropping \d+ bytes; /.test(text) ? ['a part of its log is not what was written'] : []
}

/** Makes it, and sees whether it can be written to; what was in its place. */
async function makeFolder(path: string): Promise<string[]> {
  const found = await stat(path).catch(() => undefined)
  const isFolder = found === undefined || found.isDirectory()
  const probe = join(path, 'probe')
  try {
    const place = isFolder ? '' : basename(await moveAside(path, 'damaged'))
    await mkdir(path, { mode: 0o700 }).catch(error => (systemCode(error) === 'EEXIST' ? undefined : Promise.reject(error)))
    await writeFile(probe, '')
    await rm(probe)
    return isFolder ? [] : [`there was a file, which is now ${place}`]
  } catch (error) {
    throw refusal(path, error)
  }
}

interface Note {
  readonly name: string
  readonly sum: number
  /** Of the part that the sum is of, where more may have come behind it. */
  readonly length?: number
}

interface Notes {
  readonly lines: readonly Note[]
  /** All files are in it, as they were when the store was closed. */
  readonly isComplete: boolean
}

const isTableNote = ({ name }: Note): boolean => isTable(name)

async function readNotes(path: string): Promise<Notes> {
  const text = await readFile(join(path, sumsName), 'utf8').catch(() => '')
  const lines = Array.from(text.matchAll(/^([0-9a-f]{8}) (\S+)(?: (\d+))?$/gm), ([, sum = '', name = '', length]): Note => {
    return { name, sum: Number.parseInt(sum, 16), ...(length !== undefined && { length: Number(length) }) }
  })
  return { lines: lines.filter(({ name }) => isFile(name)), isComplete: text.endsWith(closedText) }
}

async function writeNotes(path: string, notes: readonly Note[], more = ''): Promise<void> {
  const lines = notes.map(
    ({ name, sum, length }) => `${sum.toString(16).padStart(8, '0')} ${name}${length === undefined ? '' : ` ${length}`}\n`
  )
  const draft = join(path, `${sumsName}.new`)
  await writeFile(draft, `${lines.join('')}${more}`)
  await rename(draft, join(path, sumsName))
}

interface Harmed {
  readonly name: string
  readonly words: string
}

/** Before LevelDB is let in: what it would take from a table that is not what was written ends the process, if not at once, then later. */
async function harmedFiles(path: string, { lines, isComplete }: Notes): Promise<Harmed[]> {
  const harmed: Harmed[] = []
  for (const { name, sum, length } of lines) {
    const found = await sumOf(join(path, name), length)
    if (found === undefined && isComplete) harmed.push({ name, words: `${name} is missing` })
    if (found !== undefined && found !== sum) harmed.push({ name, words: `${name} is not what was written` })
  }
  return harmed
}

/** Of those that were not noted. */
async function halfTables(path: string, names: readonly string[], { lines }: Notes): Promise<string[]> {
  const noted = new Set(lines.map(({ name }) => name))
  const halves: string[] = []
  for (const name of names) {
    if (!isTable(name) || noted.has(name)) continue
    const table = await readFile(join(path, name)).catch(() => undefined)
    if (table !== undefined && !isTableWhole(table)) halves.push(name)
  }
  return halves
}

// Only what of it is right; it lies beside as it was.
async function mendTable(path: string, name: string): Promise<void> {
  const file = join(path, name)
  const table = await readFile(file).catch(() => undefined)
  const rest = table && salvageTable(table)
  // Never into the file itself, which the one set aside may be a link to.
  await rm(file, { force: true })
  if (rest !== undefined) await writeFile(file, rest)
}

/** Rejects when somebody has it: LevelDB's lock is taken through another folder, and nothing of the store is read. */
export async function refuseIfOpen(path: string): Promise<void> {
  // A process gets the lock that it has, and gives both back.
  if (openHere.has(path)) throw Object.assign(new Error('open'), { code: 'LEVEL_LOCKED' })
  const folder = `${path}${beforeText}${process.pid}-lock`
  await rm(folder, { recursive: true, force: true })
  await mkdir(folder, { mode: 0o700 })
  try {
    await link(join(path, 'LOCK'), join(folder, 'LOCK')).catch(() => {})
    const database = newDatabase(folder)
    await database.open()
    await database.close()
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

/** Undefined: there is no such file, or none that could be read. */
export async function sumOf(path: string, length = Number.POSITIVE_INFINITY): Promise<number | undefined> {
  const file = await openFile(path, 'r').catch(() => undefined)
  if (file === undefined) return undefined
  try {
    const buffer = Buffer.allocUnsafe(1024 * 1024)
    let sum = 0
    for (let rest = length; ; ) {
      const { bytesRead } = await file.read(buffer, 0, Math.min(buffer.length, rest))
      if (bytesRead === 0) return sum
      sum = crc32(buffer.subarray(0, bytesRead), sum)
      rest -= bytesRead
    }
  } finally {
    await file.close()
  }
}

async function freeName(path: string, why: string): Promise<string> {
  const name = `${path}.${why}-${new Date().toISOString().slice(0, 19).replaceAll(':', '')}`
  for (let i = 0; ; i++) {
    const place = i === 0 ? name : `${name}-${i}`
    if (!(await exists(place))) return place
  }
}

export async function exists(path: string): Promise<boolean> {
  return (await stat(path).catch(() => undefined)) !== undefined
}

/** What was renamed in it will be so after a power cut. Some file systems know no such thing. */
export async function syncFolder(path: string): Promise<void> {
  const handle = await openFile(path, 'r').catch(() => undefined)
  await handle?.sync().catch(() => {})
  await handle?.close()
}

function causeOf(error: unknown): unknown {
  return error instanceof Error && error.cause !== undefined ? error.cause : error
}

/** LevelDB's sentence without its own place in it. */
export function wordsOf(path: string, error: unknown): string {
  return (
    errorMessage(causeOf(error))
      .replaceAll(`${path}/`, '')
      .replace(/^(Corruption|IO error): /, '')
      // Of a file that was scribbled over: it names others.
      .replace(/\p{Cc}/gu, '?')
  )
}

/** `kept`: where its files as they were lie now. */
export function refusal(path: string, error: unknown, kept?: string): unknown {
  if (error instanceof BrokerError) return error
  const cause = causeOf(error)
  if (systemCode(cause) === 'LEVEL_LOCKED') {
    return new BrokerError('ERR_STORE_IN_USE', `Another broker, or a mosquitero store command, is using ${path}.`, undefined, { cause })
  }
  const code = systemCode(cause) ?? ''
  const reason = code === '' || code.startsWith('LEVEL_') ? wordsOf(path, error) : systemReason(cause)
  const where = kept === undefined ? '' : ` What it was is set aside as ${kept}.`
  return new BrokerError('ERR_STORE_OPEN', `Unable to open the store ${path}: ${reason}.${where}`, undefined, { cause })
}
