// The record of a CA on disk, beside its certificate: `index.txt`, copies of what was issued in `newcerts`. It only grows by whole lines and is
// only changed by a rename, both under a lock.

import { open, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { BrokerError, systemCode, systemReason } from '../errors.js'
import { readFileBounded, replaceFile, writeNew } from './files.js'
import { type Held, withLock } from './lock.js'
import { formatEntry, type RecordEntry, type RecordLine, recordLines } from './record.js'

export interface RecordReading {
  readonly entries: readonly RecordEntry[]
  /** Numbers of lines that say nothing any more. */
  readonly damaged: readonly number[]
}

/** Some million lines. Bytes. */
const longest = 256 * 2 ** 20

/** A broker that enrols does other things too: milliseconds of one turn. */
const slice = 4

async function inSlices<Item>(items: Iterable<Item>, handle: (item: Item) => unknown): Promise<void> {
  let start = performance.now()
  for (const item of items) {
    handle(item)
    if (performance.now() - start < slice) continue
    await nextTurn()
    start = performance.now()
  }
}

export class RecordFile {
  readonly path: string
  readonly #folder: string

  /** `folder`: where the CA's certificate lies. */
  constructor(folder: string) {
    this.#folder = folder
    this.path = join(folder, 'index.txt')
  }

  async read(): Promise<RecordReading> {
    const lines = await this.#lines()
    return {
      entries: lines.flatMap(({ entry }) => entry ?? []),
      damaged: lines.flatMap(({ entry, number }) => (entry === undefined ? [number] : []))
    }
  }

  /** The entry of a serial; where there are several, one that is revoked. However long the record is, only those lines are taken apart. */
  async find(serial: string): Promise<RecordEntry | undefined> {
    const text = await this.#text()
    const field = `\t${serial}\t`
    let found: RecordEntry | undefined
    for (let at = text.indexOf(field); at !== -1; at = text.indexOf(field, at + field.length - 1)) {
      const end = text.indexOf('\n', at)
      const [line] = recordLines(text.slice(text.lastIndexOf('\n', at) + 1, end === -1 ? text.length : end))
      if (line?.entry?.serial === serial && !found?.revoked) found = line.entry
    }
    return found
  }

  /** The PEM of an entry's certificate; undefined: there is no copy. */
  async certificate({ serial }: RecordEntry): Promise<string | undefined> {
    return readFile(join(this.#folder, this.#copyOf(serial)), 'latin1').catch(() => undefined)
  }

  /** Adds a certificate, before it is given to anybody: what a crash leaves is one too many in the record, never one too few. */
  async add(entry: Omit<RecordEntry, 'file'>, certificate: string): Promise<void> {
    const file = this.#copyOf(entry.serial)
    await writeNew(join(this.#folder, file), certificate, 0o644)
    await this.#locked(held => this.#append(formatEntry({ ...entry, file }), held))
  }

  /** Replaces entries for which `change` gives another; those that are new follow. Resolves with the former. */
  async change(change: (entry: RecordEntry) => RecordEntry): Promise<readonly RecordEntry[]> {
    return this.#locked(async held => {
      const changed: RecordEntry[] = []
      const text: string[] = []
      await inSlices(await this.#lines(), ({ entry, text: line }) => {
        const next = entry && change(entry)
        if (next !== undefined && next !== entry) changed.push(next)
        text.push(next === undefined || next === entry ? `${line}\n` : formatEntry(next))
      })
      if (changed.length > 0) {
        await held()
        await replaceFile(this.path, text.join(''), 0o644)
      }
      return changed
    })
  }

  #copyOf(serial: string): string {
    return join('newcerts', `${serial}.pem`)
  }

  #locked<Value>(action: (held: Held) => Promise<Value>): Promise<Value> {
    return withLock(`${this.path}.lock`, action)
  }

  async #lines(): Promise<RecordLine[]> {
    const lines: RecordLine[] = []
    await inSlices(recordLines(await this.#text()), line => lines.push(line))
    return lines
  }

  async #text(): Promise<string> {
    try {
      return (await readFileBounded(this.path, longest)).toString()
    } catch (error) {
      if (error instanceof BrokerError && systemCode(error.cause) === 'ENOENT') return ''
      throw error
    }
  }

  async #append(line: string, held: Held): Promise<void> {
    await this.#makeFiles()
    try {
      const handle = await open(this.path, 'a+', 0o644)
      try {
        const { size } = await handle.stat()
        const last = Buffer.alloc(1)
        if (size > 0) await handle.read(last, 0, 1, size - 1)
        // A line that a crash cut off stays what it is and doesn't spoil the next one.
        const start = size === 0 || last[0] === 0x0a ? '' : '\n'
        await held()
        await handle.appendFile(start + line)
        await handle.sync()
      } finally {
        await handle.close()
      }
    } catch (cause) {
      if (cause instanceof BrokerError) throw cause
      throw new BrokerError('ERR_PKI_FILE', `Unable to write ${this.path}: ${systemReason(cause)}.`, { file: this.path }, { cause })
    }
  }

  // `openssl ca` refuses a record with two valid certificates of one subject unless the second file says otherwise; renewing makes such.
  async #makeFiles(): Promise<void> {
    const files = { [this.path]: '', [`${this.path}.attr`]: 'unique_subject = no\n' }
    for (const [file, text] of Object.entries(files)) {
      try {
        await writeNew(file, text, 0o644)
      } catch (error) {
        if (!(error instanceof BrokerError) || error.code !== 'ERR_PKI_EXISTS') throw error
      }
    }
  }
}
