// npm test: installs, builds, gets Debian's tools, then formatter, linter and every test. Skips nothing: what is missing is named and fails.
// Ends with the line `N passed, N failed`. Arguments go to tap, e.g. `npm test -- build/auth/acl.test.js`.

import { accessSync, constants } from 'node:fs'
import { delimiter, join } from 'node:path'
import { fail, prepare, run, runPackage } from './prepare.js'
import { runTap } from './tap.js'

const tools = {
  mosquitto: 'mosquitto',
  mosquitto_pub: 'mosquitto-clients',
  mosquitto_sub: 'mosquitto-clients',
  mosquitto_passwd: 'mosquitto',
  'redis-server': 'redis-server',
  openssl: 'openssl',
  curl: 'curl',
  script: 'bsdutils',
  logger: 'bsdutils',
  setpriv: 'util-linux',
  perl: 'perl-base',
  'systemd-notify': 'systemd',
  haproxy: 'haproxy'
}

// Debian keeps daemons where an ordinary account's PATH does not look.
process.env.PATH = [process.env.PATH, '/usr/local/sbin', '/usr/sbin', '/sbin'].join(delimiter)

prepare()
getTools()
runPackage('@biomejs/biome/bin/biome', ['ci', '.'])
runPackage('typescript/bin/tsc', ['--build', 'test'])
await test()

async function test() {
  const { status, counts } = await runTap(process.argv.slice(2))
  // Where a count is missing, or does not explain the status, no number would be true.
  if (counts === undefined || counts.passed + counts.failed === 0 || (status !== 0 && counts.failed === 0)) {
    fail(`tap ended with status ${status} and does not say which tests passed.`)
  }
  process.stdout.write(`${counts.passed} passed, ${counts.failed} failed\n`)
  process.exitCode = status === 0 && counts.failed > 0 ? 1 : status
}

function getTools() {
  const packages = missingPackages()
  if (packages.length === 0) return
  const command = `apt-get update && apt-get install -y ${packages.join(' ')}`
  const mayInstall = process.getuid?.() === 0 && isInstalled('apt-get')
  if (!mayInstall) fail(`The tests need ${packages.join(', ')}. On Debian: sudo sh -c '${command}'`)
  // RUNLEVEL=1 keeps the packages' own services from being started on this machine.
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive', RUNLEVEL: '1' }
  run('apt-get', ['update', '-qq'], { env })
  run('apt-get', ['install', '-y', '-qq', '--no-install-recommends', ...packages], { env })
  const still = missingPackages()
  if (still.length > 0) fail(`Installed, but still not to be found: ${still.join(', ')}.`)
}

function missingPackages() {
  return [...new Set(Object.entries(tools).flatMap(([tool, name]) => (isInstalled(tool) ? [] : [name])))]
}

function isInstalled(tool) {
  return process.env.PATH.split(delimiter).some(folder => {
    try {
      accessSync(join(folder, tool), constants.X_OK)
      return true
    } catch {
      return false
    }
  })
}
