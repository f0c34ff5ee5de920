// The brokers that are compared, each started on a configuration file of its own and pinned to a core where the machine can do that, and the programs of this
// folder that put load on them.

import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import { availableParallelism, tmpdir, userInfo } from 'node:os'
import { delimiter, dirname, join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath, pathToFileURL } from 'node:url'

const here = dirname(fileURLToPath(import.meta.url))
const root = dirname(here)
export const main = join(root, 'dist/cli/main.js')

// Debian keeps daemons where an ordinary account's PATH does not look.
process.env.PATH = [process.env.PATH, '/usr/local/sbin', '/usr/sbin', '/sbin'].join(delimiter)

const mosquitto = process.env.MOSQUITTO || 'mosquitto'
const canPin = process.platform === 'linux' && availableParallelism() > 1 && spawnSync('taskset', ['--version']).status === 0

export const brokerCore = 0
export const loadCore = 1

/** The command, on one core. */
export function pinned(core, command) {
  return canPin ? ['taskset', '-c', String(core), ...command] : command
}

export const isPinned = canPin

/** What a program of this folder prints, on one core. */
export async function run(core, [file, ...args]) {
  const [program, ...rest] = pinned(core, [process.execPath, join(here, file), ...args])
  const child = spawn(program, rest, { stdio: ['ignore', 'pipe', 'inherit'] })
  let text = ''
  child.stdout.on('data', more => {
    text += more
  })
  const [status] = await once(child, 'close')
  if (status !== 0) throw new Error(`${file} ended with status ${status}`)
  return text
}

/** A load (traffic.js) that is warm and paused: `measure(seconds)` has it go on for so long, and says what was measured. */
export function startLoad(spec) {
  return startInTurn(loadCore, ['traffic.js', JSON.stringify({ ...spec, isInTurn: true })])
}

/** The same of synced writes in a folder (sync.js), which are the broker's core's. */
export function startSync(folder) {
  return startInTurn(brokerCore, ['sync.js', folder])
}

/** A program of this folder that prints an empty line when it is ready, and then answers each line, a number of seconds, with what it measured. */
async function startInTurn(core, [file, ...rest]) {
  const [program, ...args] = pinned(core, [process.execPath, join(here, file), ...rest])
  const child = spawn(program, args, { stdio: ['pipe', 'pipe', 'inherit'] })
  const kill = () => child.kill('SIGKILL')
  process.once('exit', kill)
  const ended = once(child, 'close')
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  const line = async () => {
    const { value, done } = await lines.next()
    if (done) throw new Error(`${file} ended with status ${(await ended)[0]}`)
    return value
  }
  await line()
  return {
    async measure(seconds) {
      child.stdin.write(`${seconds}\n`)
      return JSON.parse(await line())
    },
    async stop() {
      child.stdin.end()
      await ended
      process.removeListener('exit', kill)
    }
  }
}

/** A folder that is gone when this process is. */
export function scratchFolder() {
  const folder = mkdtempSync(join(tmpdir(), 'mosquitero-bench-'))
  process.on('exit', () => rmSync(folder, { recursive: true, force: true }))
  for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => process.exit(1))
  return folder
}

/** The load is in this process: it moves to its core. */
export function moveToLoadCore() {
  if (canPin) spawnSync('taskset', ['-a', '-pc', String(loadCore), String(process.pid)])
}

/** For `nodeArgs`: loads a program of this folder into the broker. */
export function importing(file) {
  return ['--import', pathToFileURL(join(here, file)).href]
}

/** Ends the process with one line for a person. */
export function fail(message) {
  process.stderr.write(`${message}\n`)
  process.exit(1)
}

/** What `mosquitto -h` says it is. */
export function mosquittoVersion() {
  const { stdout, error } = spawnSync(mosquitto, ['-h'], { encoding: 'utf8' })
  if (error) fail(`${mosquitto} could not be run: ${error.message}. Name another one with the environment variable MOSQUITTO.`)
  return /version (\S+)/.exec(stdout)?.[1] ?? 'unknown'
}

export async function freePort() {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address()
  server.close()
  await once(server, 'close')
  return port
}

/** Of each kind, as it is started on a configuration file, or on a port with `files`: the paths of CA, certificate and key. */
const commands = {
  mosquitero: ({ file, nodeArgs }) => [process.execPath, ...nodeArgs, main, '-c', file],
  mosquitto: ({ file }) => [mosquitto, '-c', file],
  minimal: ({ port, files, nodeArgs }) => [process.execPath, ...nodeArgs, join(here, 'minimal.js'), String(port), ...files]
}

/**
 * Starts one in a folder with these lines of configuration; resolves when its listener is open. `ask` is for what `nodeArgs` load into it, and
 * `onLine` hears its log.
 */
export async function startBroker(kind, folder, port, lines, options = {}) {
  const { nodeArgs = [], core = brokerCore, onLine = () => {}, files = [] } = options
  const file = join(folder, 'bench.conf')
  writeFileSync(file, confText(folder, lines, options))
  const [program, ...args] = pinned(core, commands[kind]({ file, port, files, nodeArgs }))
  const child = spawn(program, args, { cwd: folder, stdio: ['ignore', 'ignore', 'pipe', ...(nodeArgs.length > 0 ? ['ipc'] : [])] })
  let said = ''
  child.stderr.on('data', text => {
    // The last of it is for the case that it ends.
    said = `${said}${text}`.slice(-10_000)
  })
  createInterface({ input: child.stderr }).on('line', onLine)
  const ended = once(child, 'close')
  // Where this process ends early.
  const kill = () => child.kill('SIGKILL')
  process.once('exit', kill)
  while (!(await accepts(port))) {
    if (child.exitCode !== null) fail(`${kind} ended with status ${child.exitCode}: ${said}`)
    await sleep(20)
  }
  return {
    pid: child.pid,
    process: child,
    async ask(question) {
      child.send(question)
      const [answer] = await once(child, 'message')
      return answer
    },
    /** Resolves with its exit status. */
    async stop() {
      child.kill('SIGTERM')
      const [status] = await ended
      process.removeListener('exit', kill)
      return status
    }
  }
}

/** Its configuration. */
export function confText(folder, lines, { persistence = true, logTypes = ['error', 'warning'] } = {}) {
  const kept = persistence ? ['persistence true', `persistence_location ${folder}/`] : []
  const log = ['log_dest stderr', ...logTypes.map(type => `log_type ${type}`)]
  // Mosquitto would give up root for an account that can't write to the folder.
  return `${[...kept, ...log, `user ${userInfo().username}`, ...lines].join('\n')}\n`
}

function accepts(port) {
  return new Promise(resolve => {
    const socket = connect({ port, host: '127.0.0.1' })
    socket.once('connect', () => {
      socket.destroy()
      resolve(true)
    })
    socket.once('error', () => resolve(false))
  })
}
