// `mosquitero store`: what lies in the store of `persistence true`, as lines of text and back, and whether it is sound.

import { statSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { createInterface } from 'node:readline'
import { finished } from 'node:stream/promises'
import { parseArgs } from 'node:util'
import type { ListenerConfig, LogConfig } from '../config/types.js'
import { BrokerError, exitStatus, formatProblem, systemCode, systemReason } from '../errors.js'
import { openLog } from '../log.js'
import { listenerKeyAt } from '../reload.js'
import { readConfig } from '../snapshot.js'
import type { Change } from '../storage.js'
import { DiskStore, hasStore, storePath } from '../store/disk.js'
import { checkDumpHead, dumpHead, dumpLine, parseDumpLine } from '../store/dump.js'
import { databaseFault } from '../store/mosquitto-file.js'
import { wrongUsageWords } from './wrong-usage.js'

/** What a command has of the world; `process` fits. */
interface StoreIo {
  readonly stdout: NodeJS.WritableStream
  readonly stderr: { write(text: string): unknown }
  readonly stdin: NodeJS.ReadableStream
  readonly env: Readonly<Record<string, string | undefined>>
}

const usage = `Usage: mosquitero store export (-c FILE | PERSISTENCE-FILE) [--out FILE]
       mosquitero store import (-c FILE | PERSISTENCE-FILE) [--in FILE] [--replace]
       mosquitero store check (-c FILE | PERSISTENCE-FILE)

What \`persistence true\` keeps, as lines of JSON: sessions, subscriptions, messages held and queued, retained messages. The broker must not
run meanwhile. \`import\` takes all or nothing, and wants an empty store; with --replace what was there is set aside. \`check\` opens the store as
a broker would, mends what is damaged, and says what lies in it.

  -c FILE           a mosquitto.conf that says where the store is
  PERSISTENCE-FILE  where it is: the path of mosquitto.db, beside which it lies

Example:
  mosquitero store export -c /etc/mosquitto/mosquitto.conf --out store.jsonl
`

const wrongUsage = 2
/** Lines that are committed at a time. */
const batchSize = 500

interface Arguments {
  readonly command: 'export' | 'import' | 'check'
  readonly file: string
  /** Of the configuration: a file of Mosquitto that is taken over names them by their ports. */
  readonly listeners: readonly ListenerConfig[]
  readonly out?: string
  readonly in?: string
  readonly replace: boolean
}

/** Resolves with the exit status: 0 done, 1 the store is damaged or can't be used, 2 wrong usage. */
export async function runStore(argv: readonly string[], io: StoreIo): Promise<number> {
  // Whoever reads it may have enough: the write says so.
  io.stdout.on('error', () => {})
  try {
    const args = await parseCommand(argv, io)
    if (typeof args === 'number') return args
    await mustBeStore(args)
    const log = openLog(toPeople)
    const { file, listeners } = args
    const disk = new DiskStore({ file, log, sync: true, listenerOf: port => listenerKeyAt(listeners, port) })
    try {
      return await commands[args.command](disk, args, io)
    } finally {
      await disk.close()
      log.close()
    }
  } catch (error) {
    if (systemCode(error) === 'EPIPE') return 1
    const status = error instanceof BrokerError ? exitStatus[error.code] : 1
    io.stderr.write(`Error: ${error instanceof BrokerError ? error.message : systemReason(error)}\n`)
    return status
  }
}

const commands = { export: exportStore, import: importStore, check: checkStore } as const

/** What a store says of itself beside the answer. */
const toPeople: LogConfig = {
  destinations: [{ kind: 'stderr' }],
  types: new Set(['error', 'warning', 'notice']),
  timestamp: false,
  format: 'mosquitto'
}

async function exportStore(disk: DiskStore, { out }: Arguments, io: StoreIo): Promise<number> {
  await disk.open()
  const sink = out === undefined ? io.stdout : await createNew(out)
  await write(sink, `${JSON.stringify(dumpHead)}\n`)
  for await (const change of disk.export()) await write(sink, `${dumpLine(change)}\n`)
  if (out !== undefined) {
    sink.end()
    await finished(sink)
  }
  return 0
}

// The store is not opened before the input is seen to be one that can be, and not touched before all of it is read.
async function importStore(disk: DiskStore, args: Arguments, io: StoreIo): Promise<number> {
  const name = args.in ?? 'standard input'
  const lines = linesOf(args.in === undefined ? io.stdin : await openInput(args.in), name)
  try {
    const head = await lines.next()
    if (head.done) throw new BrokerError('ERR_STORE_OPEN', `There is nothing to import in ${name}.`)
    const fault = checkDumpHead(head.value)
    if (fault !== undefined) throw new BrokerError('ERR_STORE_OPEN', `${name}:1: ${fault}.`)
    const { sessions, retained } = await disk.open()
    if (!args.replace && sessions.length + retained.length > 0) {
      throw new BrokerError('ERR_STORE_OPEN', `The store ${disk.path} is not empty: --replace empties it first.`)
    }
    const place = await disk.replace(draft => takeLines(lines, name, draft))
    if (place !== undefined) io.stderr.write(`What the store had is set aside as ${place}.\n`)
    return 0
  } finally {
    await lines.return()
  }
}

/** All but the first. */
async function takeLines(lines: AsyncIterable<string>, name: string, store: DiskStore): Promise<void> {
  let line = 1
  let batch: Change[] = []
  for await (const text of lines) {
    line += 1
    if (text.trim() === '') continue
    const change = parseDumpLine(text)
    if (typeof change === 'string') throw new BrokerError('ERR_STORE_OPEN', `${name}:${line}: ${change}. The store is as it was.`)
    batch.push(change)
    if (batch.length < batchSize) continue
    await store.commit(batch)
    batch = []
  }
  await store.commit(batch)
}

async function openInput(file: string): Promise<NodeJS.ReadableStream> {
  const handle = await open(file).catch(error => Promise.reject(unreadable(file, error)))
  return handle.createReadStream()
}

async function* linesOf(input: NodeJS.ReadableStream, name: string): AsyncGenerator<string, void, void> {
  const lines = createInterface({ input, crlfDelay: Number.POSITIVE_INFINITY })
  // Whether the lines of a stream that fails throw, or just end, is not said by Node.
  let fault: unknown
  input.once('error', error => {
    fault = error
  })
  try {
    yield* lines
  } catch (error) {
    fault = error
  }
  if (fault !== undefined) throw unreadable(name, fault)
}

function unreadable(name: string, error: unknown): BrokerError {
  return new BrokerError('ERR_STORE_OPEN', `Unable to read ${name}: ${systemReason(error)}.`, undefined, { cause: error })
}

async function checkStore(disk: DiskStore, _: Arguments, io: StoreIo): Promise<number> {
  const { sessions, retained } = await disk.open()
  const total = (count: (session: (typeof sessions)[number]) => number): number =>
    sessions.reduce((sum, session) => sum + count(session), 0)
  await write(
    io.stdout,
    [
      `store          ${disk.path}`,
      `sessions       ${sessions.length}`,
      `subscriptions  ${total(({ subscriptions }) => subscriptions.length)}`,
      `queued         ${total(({ queued }) => queued.messages)} (${total(({ queued }) => queued.bytes)} bytes)`,
      `held           ${total(({ held }) => held.size)}`,
      `retained       ${retained.length}`,
      disk.wasDamaged ? 'It was damaged; what could be read is kept.' : 'It is sound.',
      ''
    ].join('\n')
  )
  return disk.wasDamaged ? 1 : 0
}

async function parseCommand(argv: readonly string[], io: StoreIo): Promise<Arguments | number> {
  const [command, ...rest] = argv
  if (command === undefined || command === '-h' || command === '--help') {
    await write(io.stdout, usage)
    return command === undefined ? wrongUsage : 0
  }
  try {
    const { values, positionals } = parseArgs({
      args: rest,
      allowPositionals: true,
      options: {
        config: { type: 'string', short: 'c' },
        out: { type: 'string', short: 'o' },
        in: { type: 'string', short: 'i' },
        replace: { type: 'boolean' },
        help: { type: 'boolean', short: 'h' }
      }
    })
    if (values.help) {
      await write(io.stdout, usage)
      return 0
    }
    if (command !== 'export' && command !== 'import' && command !== 'check') throw new TypeError(`There is no command '${command}'`)
    const [path, ...more] = positionals
    if ((values.config === undefined) === (path === undefined) || more.length > 0)
      throw new TypeError('Name the store by -c FILE or by its path')
    const place = values.config === undefined ? { file: path ?? '', listeners: [] } : await placeOf(values.config, io)
    if (place === undefined) return 1
    return {
      command,
      ...place,
      replace: values.replace ?? false,
      ...(values.out !== undefined && { out: values.out }),
      ...(values.in !== undefined && { in: values.in })
    }
  } catch (error) {
    io.stderr.write(`Error: ${wrongUsageWords(error)}.\n\n${usage}`)
    return wrongUsage
  }
}

/** Undefined: the configuration has no such store, and that was said. */
async function placeOf(conf: string, { env, stderr }: StoreIo): Promise<Pick<Arguments, 'file' | 'listeners'> | undefined> {
  const { config, problems } = await readConfig({ file: conf, ports: undefined, verbosity: undefined, env })
  if (config === undefined) {
    for (const problem of problems) for (const line of formatProblem(problem)) stderr.write(`${line}\n`)
    return undefined
  }
  if (config.store.kind === 'disk') return { file: config.store.file, listeners: config.listeners }
  stderr.write(`Error: ${conf} has no store on disk: persistence true would make one.\n`)
  return undefined
}

// Opening would make it, and put away what lies in its place.
async function mustBeStore({ command, file }: Arguments): Promise<void> {
  if (hasStore(file)) return
  const isThere = statSync(file, { throwIfNoEntry: false })?.isFile() === true
  if (!isThere && command === 'import') return
  const fault = isThere ? await databaseFault(file) : ''
  if (fault === undefined) return
  throw new BrokerError('ERR_STORE_OPEN', `There is no store ${storePath(file)}${fault && `, and ${file} ${fault}`}.`)
}

async function createNew(path: string): Promise<NodeJS.WritableStream> {
  try {
    return (await open(path, 'wx', 0o600)).createWriteStream()
  } catch (error) {
    throw new BrokerError('ERR_STORE_OPEN', `Unable to write ${path}: ${systemReason(error)}.`, undefined, { cause: error })
  }
}

function write(sink: NodeJS.WritableStream, text: string): Promise<void> {
  return new Promise((resolve, reject) => {
    sink.write(text, error => (error ? reject(error) : resolve()))
  })
}
