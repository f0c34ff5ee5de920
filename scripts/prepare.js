// What has to be there before anything of ours can run: Node, the packages, the build. Plain JavaScript without dependencies, because it runs first.

import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

export const root = dirname(dirname(fileURLToPath(import.meta.url)))
// What the packages ask for. Node 20.0 could not even run the compiler.
const lowestNode = [20, 17]

/** Ends the process with one line for a person. */
export function fail(message) {
  process.stderr.write(`${message}\n`)
  process.exit(1)
}

/** Runs a command of ours in the project's folder; its failure ends this process with its exit status. */
export function run(command, args, options = {}) {
  const { status, signal, error } = spawnSync(command, args, { cwd: root, stdio: 'inherit', ...options })
  if (error) fail(`${command} could not be run: ${error.message}`)
  if (status !== 0) process.exit(status ?? (signal ? 1 : 0))
}

/** Runs the JavaScript of an installed package under this very Node. */
export function runPackage(file, args, options) {
  run(process.execPath, [join(root, 'node_modules', file), ...args], options)
}

/** Installs and builds, each only when something changed since the last time. */
export function prepare() {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number)
  if (major < lowestNode[0] || (major === lowestNode[0] && minor < lowestNode[1])) {
    fail(`Mosquitero needs Node ${lowestNode.join('.')} or newer; this is ${process.version}.`)
  }
  install()
  build()
}

function install() {
  const stamp = join(root, 'node_modules', '.mosquitero-lock')
  const wanted = createHash('sha256')
    .update(readFileSync(join(root, 'package-lock.json')))
    .digest('hex')
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === wanted) return
  process.stdout.write('Installing packages …\n')
  // The compiler is a development dependency, so a production setting of npm must not leave it out.
  run(process.platform === 'win32' ? 'npm.cmd' : 'npm', ['ci', '--include=dev', '--no-fund', '--no-audit', '--loglevel=error'])
  writeFileSync(stamp, wanted)
}

// The compiler compares the files itself and writes nothing when nothing changed.
function build() {
  runPackage('typescript/bin/tsc', ['--build'])
}
