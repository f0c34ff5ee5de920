#!/usr/bin/env node
// The command `mosquitero`: with a subcommand its tool, without one the broker, with Mosquitto's arguments.

// Node opens its inspector on SIGUSR1, which Mosquitto's scripts send to have the database saved, until somebody handles it: so this is first.
process.on('SIGUSR1', () => {})

const [major = 0, minor = 0] = process.versions.node.split('.').map(Number)
if (major < 20 || (major === 20 && minor < 17)) {
  process.stderr.write(`Mosquitero needs Node 20.17 or newer; this is ${process.version}.\n`)
  process.exit(1)
}

process.exitCode = await main(process.argv.slice(2))

/** Runs one command line and resolves with its exit status. What it imports depends on the command, so that small tools start fast. */
async function main(argv: readonly string[]): Promise<number> {
  const [command, ...rest] = argv
  // Whoever reads what a tool prints may have enough, as `head` has.
  if (command !== undefined && !command.startsWith('-')) process.stdout.on('error', () => {})
  switch (command) {
    case 'passwd':
      return (await import('./passwd.js')).runPasswd(rest, process)
    case 'acl':
      return (await import('./acl.js')).runAcl(rest, process)
    case 'certs':
      return (await import('./certs.js')).runCerts(rest, (await import('./terminal.js')).terminalIo())
    case 'check':
      return (await import('./check.js')).runCheck(rest, process)
    case 'doctor':
      return (await import('./doctor.js')).runDoctor(rest, process)
    case 'store':
      return (await import('./store.js')).runStore(rest, process)
    case 'clients':
    case 'kick':
    case 'subscriptions':
    case 'queue':
    case 'retained':
    case 'reload':
      return (await import('./admin.js')).runAdmin(command, rest, process)
    default:
      return (await import('./run.js')).runBroker(argv)
  }
}
