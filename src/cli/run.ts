// Runs the broker: arguments, account, pid file, signals and exit status around a server that knows none of them.

import { basename } from 'node:path'
import { BrokerError, errorMessage, exitStatus } from '../errors.js'
import { loadAll } from '../on-demand.js'
import { checkConfiguration, createServer, type Server, type ServerOptions } from '../server.js'
import { version } from '../version.js'
import { parseArguments, type RunArguments, usage } from './arguments.js'
import { isDaemon, reportReady, startDaemon } from './daemon.js'
import { writePidFile } from './pid-file.js'
import { dropPrivileges, givesUpRoot } from './privileges.js'
import { ServiceManager } from './service-manager.js'

/** Mosquitto's status for a wrong command line. */
const wrongUsage = 3

/** How long an orderly stop may take before the process ends anyway, but for what it saves, in milliseconds. */
const stopLimit = 10_000

/** How long what still runs behind an orderly stop, such as a delivery to a client that is gone, may keep the process. */
const leaveLimit = 200

/** Runs until a signal ends it; resolves with the exit status. `onRunning` is told when clients can connect. */
export async function runBroker(argv: readonly string[], onRunning?: (server: Server) => void): Promise<number> {
  const name = basename(process.argv[1] ?? '') === 'mosquitto' ? 'mosquitto' : 'mosquitero'
  const parsed = parseArguments(argv)
  switch (parsed.kind) {
    case 'help':
      process.stdout.write(usage(name, version))
      return 0
    case 'version':
      process.stdout.write(`${name} version ${version}\n`)
      return 0
    case 'error':
      process.stderr.write(`${parsed.message}\n`)
      if (parsed.usage) process.stderr.write(`\n${usage(name, version)}`)
      return wrongUsage
    case 'run':
      if (parsed.arguments.testConfig) return testConfig(name, parsed.arguments)
      if (parsed.arguments.daemon && !isDaemon(process.env)) return startDaemon(argv, process.env)
      return serve(name, parsed.arguments, onRunning)
  }
}

async function serve(name: string, args: RunArguments, onRunning?: (server: Server) => void): Promise<number> {
  // From the first moment on: a signal without a handler would end the process on the spot.
  const manager = new ServiceManager(process.env)
  const lifetime = handleSignals(manager)
  try {
    const server = await createServer({
      ...serverOptions(name, args),
      async beforeFiles(config, log) {
        if (givesUpRoot(config.user, process.env)) await loadAll()
        dropPrivileges(config.user, process.env, log)
        // However the process ends: in order, by a second signal, or because an orderly stop takes too long.
        if (config.pidFile) process.once('exit', writePidFile(config.pidFile))
        manager.starting()
      },
      abandon: lifetime.abandoned
    })
    const ended = lifetime.follow(server)
    if (!lifetime.abandoned.aborted) manager.ready(server.log)
    onRunning?.(server)
    if (isDaemon(process.env)) reportReady()
    return await ended
  } catch (error) {
    if (lifetime.abandoned.aborted) return 0
    // createServer has logged what a person did wrong; anything else is a fault of ours and says so itself.
    if (error instanceof BrokerError) return exitStatus[error.code]
    process.stderr.write(`Error: ${errorMessage(error)}\n`)
    return 1
  }
}

async function testConfig(name: string, args: RunArguments): Promise<number> {
  if (args.config === undefined) {
    process.stderr.write('Please provide a configuration file to test.\n')
    return wrongUsage
  }
  try {
    await checkConfiguration(serverOptions(name, args))
    process.stderr.write('Configuration file is OK.\n')
    return 0
  } catch (error) {
    if (error instanceof BrokerError) return exitStatus[error.code]
    throw error
  }
}

function serverOptions(name: string, args: RunArguments): ServerOptions {
  return {
    name,
    ports: args.ports,
    verbosity: args.quiet ? 'quiet' : args.verbose ? 'verbose' : 'configured',
    env: process.env,
    detached: isDaemon(process.env),
    ...(args.config !== undefined && { config: args.config }),
    ...(args.tlsKeylog !== undefined && { tlsKeylog: args.tlsKeylog })
  }
}

interface Lifetime {
  /** Aborted by a signal that came before the server ran. */
  readonly abandoned: AbortSignal
  /** From now on signals are the server's; resolves with the exit status once it is stopped, by one of them or by a fault of ours. */
  follow(server: Server): Promise<number>
}

function handleSignals(manager: ServiceManager): Lifetime {
  const abandon = new AbortController()
  const { promise: ended, resolve: end } = withResolvers<number>()
  let server: Server | undefined
  let stopping = false
  const stop = (status: number): void => {
    // A second signal means: now.
    if (stopping) process.exit(status)
    stopping = true
    manager.stopping()
    const giveUp = (): void => {
      if (server?.isSaving) setTimeout(giveUp, stopLimit).unref()
      else process.exit(status)
    }
    setTimeout(giveUp, stopLimit).unref()
    if (server) close(server, status)
    else abandon.abort()
  }
  const close = (server: Server, status: number): void => {
    const leave = (status: number): void => {
      setTimeout(() => process.exit(status), leaveLimit).unref()
      end(status)
    }
    server.close().then(
      () => leave(status),
      () => leave(1)
    )
  }
  const reload = async (server: Server): Promise<void> => {
    manager.reloading()
    const { applied } = await server.reload().catch((error: unknown) => {
      report(errorMessage(error))
      return { applied: false }
    })
    manager.reloaded(applied)
  }
  const report = (reason: string): void => {
    if (server) server.log.write('fault', { reason })
    else process.stderr.write(`Error: ${reason}\n`)
  }
  process.on('SIGTERM', () => stop(0))
  process.on('SIGINT', () => stop(0))
  process.on('SIGHUP', () => server && void reload(server))
  process.on('SIGUSR1', () => void server?.save().then(isSaved => isSaved || server?.log.write('nothingToSave', {})))
  process.on('SIGUSR2', () => server?.log.write('noSubscriptionTree', {}))
  process.on('unhandledRejection', reason => report(errorMessage(reason)))
  process.on('uncaughtException', error => {
    report(error.stack ?? errorMessage(error))
    stop(1)
  })
  return {
    abandoned: abandon.signal,
    follow(running) {
      server = running
      // A signal that came when the start was all but over.
      if (stopping) close(running, 0)
      return ended
    }
  }
}

// Promise.withResolvers is younger than Node 20.
function withResolvers<T>(): { promise: Promise<T>; resolve: (value: T) => void } {
  let resolve: (value: T) => void = () => {}
  const promise = new Promise<T>(settle => {
    resolve = settle
  })
  return { promise, resolve }
}
