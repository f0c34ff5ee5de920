// The two brokers that are compared, each started on a configuration file of its own and pinned to a core where the machine can do that.

import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import { availableParallelism, userInfo } from 'node:os'
import { delimiter, dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'

const root = dirname(dirname(fileURLToPath(import.meta.url)))
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

/** A CA with P-256 keys, a certificate for localhost and one for the clients. */
export function makeCertificates(folder) {
  const certs = (...args) => {
    const { status, stderr } = spawnSync(process.execPath, [main, 'certs', ...args, '--dir', folder], { encoding: 'utf8' })
    if (status !== 0) fail(`certs ${args[0]}: ${stderr}`)
  }
  certs('init', '--key', 'ec')
  certs('server', 'localhost', '--ip', '127.0.0.1', '--key', 'ec')
  certs('client', 'bench', '--key', 'ec')
}

export async function freePort() {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address()
  server.close()
  await once(server, 'close')
  return port
}

/** Starts one in a folder with these lines of configuration; resolves when its listener is open. */
export async function startBroker(kind, folder, port, lines, { nodeArgs = [], core = brokerCore, persistence = true } = {}) {
  const file = join(folder, 'bench.conf')
  const kept = persistence ? ['persistence true', `persistence_location ${folder}/`] : []
  const common = [...kept, 'log_dest stderr', 'log_type error', 'log_type warning']
  // Mosquitto would give up root for an account that can't write to the folder.
  writeFileSync(file, `${[...common, `user ${userInfo().username}`, ...lines].join('\n')}\n`)
  const command = kind === 'mosquitto' ? [mosquitto, '-c', file] : [process.execPath, ...nodeArgs, main, '-c', file]
  const [program, ...args] = pinned(core, command)
  const child = spawn(program, args, { cwd: folder, stdio: ['ignore', 'ignore', 'pipe'] })
  let said = ''
  child.stderr.on('data', text => {
    said += text
  })
  const ended = once(child, 'close')
  while (!(await accepts(port))) {
    if (child.exitCode !== null) fail(`${kind} ended with status ${child.exitCode}: ${said}`)
    await sleep(20)
  }
  return {
    pid: child.pid,
    process: child,
    async stop() {
      child.kill('SIGTERM')
      await ended
    }
  }
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
