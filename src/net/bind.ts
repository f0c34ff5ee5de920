// Opens the listening sockets of one listener, as Mosquitto does: one socket for each address family, so that an IPv4 peer is logged
// with its IPv4 address; none stays open when one of them fails.

import { lookup } from 'node:dns/promises'
import { createServer, isIP, type ListenOptions, type Server, type Socket } from 'node:net'
import type { ListenerConfig } from '../config/types.js'
import { BrokerError, type ErrorCode, type Location, systemCode, systemReason } from '../errors.js'
import type { Log } from '../log-events.js'
import { bindFault, bindWithMode, obstacleAt, removeStale } from './unix-socket.js'

/** Where a listener really listens. */
export type BoundAddress =
  | { readonly family: 'ipv4' | 'ipv6'; readonly address: string; readonly port: number }
  | { readonly family: 'unix'; readonly path: string }

export interface BoundSocket {
  readonly server: Server
  readonly address: BoundAddress
}

/** Opens all sockets of a listener; `onSocket` gets every accepted connection, paused. */
export async function bindSockets(config: ListenerConfig, log: Log, onSocket: (socket: Socket) => void): Promise<readonly BoundSocket[]> {
  if (config.bind.kind === 'unix') return [await bindUnix(config.bind.path, config, log, onSocket)]
  const targets = await targetsOf(config)
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await bindAll(targets, config, log, onSocket)
    } catch (error) {
      // Port 0: the free port that the first family got may be taken in the other.
      if (config.port !== 0 || systemCode(error) !== 'EADDRINUSE' || attempt === maxAttempts) throw bindError(error, config, log)
    }
  }
}

const maxAttempts = 5

/** Closes the sockets: the ports are free when it returns. Accepted connections go on. */
export function closeSockets(sockets: readonly BoundSocket[]): void {
  for (const { server } of sockets) server.close()
}

/** A socket that a listener opens. */
export interface Target {
  readonly family: 'ipv4' | 'ipv6'
  readonly address: string
  /** IPv6 beside IPv4: a machine without it is no reason not to start. */
  readonly optional: boolean
}

/** Where a listener is to be reached; none for a Unix socket. Rejects with a BrokerError where its host has no such address. */
export async function targetsOf(config: Wanted): Promise<readonly Target[]> {
  const { bind, socketDomain } = config
  const wanted = ({ family }: Target): boolean => socketDomain === undefined || family === socketDomain
  const both = (ipv4: string, ipv6: string): Target[] => [
    { family: 'ipv4', address: ipv4, optional: false },
    { family: 'ipv6', address: ipv6, optional: socketDomain === undefined }
  ]
  switch (bind.kind) {
    case 'any':
      return both('0.0.0.0', '::').filter(wanted)
    case 'loopback':
      return both('127.0.0.1', '::1').filter(wanted)
    case 'host': {
      const targets = (await resolve(bind.host, config)).filter(wanted)
      if (targets.length === 0) {
        throw new BrokerError('ERR_LISTEN_ADDRESS', `"${bind.host}" has no address of socket_domain ${socketDomain}`, config.at)
      }
      return targets
    }
    case 'unix':
      return []
  }
}

type Wanted = Pick<ListenerConfig, 'bind' | 'socketDomain' | 'at'>

async function resolve(host: string, config: Wanted): Promise<readonly Target[]> {
  const familyOf = (family: number): Target['family'] => (family === 6 ? 'ipv6' : 'ipv4')
  const literal = isIP(host)
  if (literal !== 0) return [{ family: familyOf(literal), address: host, optional: false }]
  try {
    const found = await lookup(host, { all: true, verbatim: true })
    const unique = new Map(found.map(({ address, family }) => [address, family]))
    return [...unique].map(([address, family]) => ({ family: familyOf(family), address, optional: false }))
  } catch (error) {
    const message = `Unable to find an address for listener host "${host}": ${systemReason(error)}`
    throw new BrokerError('ERR_LISTEN_ADDRESS', message, config.at, { cause: error })
  }
}

async function bindAll(
  targets: readonly Target[],
  config: ListenerConfig,
  log: Log,
  onSocket: (socket: Socket) => void
): Promise<readonly BoundSocket[]> {
  const open: BoundSocket[] = []
  let { port } = config
  try {
    for (const { family, address, optional } of targets) {
      if (port !== 0) log.write('opening', { family, port })
      try {
        const server = await listen({ host: address, port, ipv6Only: family === 'ipv6', exclusive: true }, log, onSocket)
        const opened = portOf(server)
        if (port === 0) log.write('opening', { family, port: opened })
        port = opened
        open.push({ server, address: { family, address, port } })
      } catch (error) {
        if (!optional || open.length === 0 || !isFamilyMissing(error)) throw error
        log.write('ipv6Missing', { port, why: systemReason(error) })
      }
    }
    return open
  } catch (error) {
    closeSockets(open)
    throw error
  }
}

// No IPv6 in the kernel, or none on any interface.
const isFamilyMissing = (error: unknown): boolean => ['EAFNOSUPPORT', 'EADDRNOTAVAIL', 'EPROTONOSUPPORT'].includes(systemCode(error) ?? '')

function listen(options: ListenOptions, log: Log, onSocket: (socket: Socket) => void): Promise<Server> {
  return new Promise((resolve, reject) => {
    const server = createServer({ pauseOnConnect: true }, onSocket)
    server.once('error', reject)
    server.listen(options, () => {
      server.removeListener('error', reject)
      server.on('error', error => log.write('acceptFailed', { why: systemReason(error) }))
      resolve(server)
    })
  })
}

function portOf(server: Server): number {
  const address = server.address()
  return typeof address === 'object' && address !== null ? address.port : 0
}

const codes: ReadonlyMap<string, ErrorCode> = new Map([
  ['EADDRINUSE', 'ERR_LISTEN_ADDRESS_IN_USE'],
  ['EACCES', 'ERR_LISTEN_PERMISSION'],
  ['EPERM', 'ERR_LISTEN_PERMISSION']
])

function bindError(error: unknown, config: ListenerConfig, log: Log): BrokerError {
  if (error instanceof BrokerError) return error
  const code = codes.get(systemCode(error) ?? '') ?? 'ERR_LISTEN_ADDRESS'
  if (code === 'ERR_LISTEN_PERMISSION' && config.port > 0 && config.port < 1024) log.write('privilegedPort', { port: config.port })
  return new BrokerError(code, systemReason(error), config.at, { cause: error })
}

/** Mosquitto creates its socket for owner and group alone. */
const socketMode = 0o770

async function bindUnix(path: string, config: ListenerConfig, log: Log, onSocket: (socket: Socket) => void): Promise<BoundSocket> {
  await makeRoom(path, config)
  log.write('openingUnix', { path })
  try {
    return { server: await bindWithMode(path, socketMode, () => listen({ path }, log, onSocket)), address: { family: 'unix', path } }
  } catch (cause) {
    const error = await bindFault(cause, path)
    const { code } = bindError(error, config, log)
    throw new BrokerError(code, `Unable to open unix socket "${path}": ${systemReason(error)}`, config.at, { cause })
  }
}

/** Why no socket can be made at this path, whether or not somebody listens there already; undefined: one can. */
export async function pathRefusal(path: string, at: Location | undefined): Promise<BrokerError | undefined> {
  switch (await obstacleAt(path)) {
    case 'long':
      return new BrokerError('ERR_LISTEN_ADDRESS', `Path to unix socket is too long "${path}"`, at)
    case 'file':
      return pathInUse(path, 'there is a file of that name', at)
    case undefined:
      return undefined
  }
}

const pathInUse = (path: string, why: string, at: Location | undefined): BrokerError =>
  new BrokerError('ERR_LISTEN_ADDRESS_IN_USE', `Unable to open unix socket "${path}": ${why}`, at)

async function makeRoom(path: string, { at }: ListenerConfig): Promise<void> {
  const refusal = await pathRefusal(path, at)
  if (refusal) throw refusal
  if ((await removeStale(path)) !== undefined) throw pathInUse(path, 'Address already in use', at)
}
