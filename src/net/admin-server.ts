// The admin socket: HTTP on a Unix socket that only its owner can open. Whoever comes is the owner, and may be a script gone wild all the same:
// connections, headers, silence and what is answered in one go are bounded.

import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AdminSocketConfig } from '../config/types.js'
import { errorMessage, systemReason } from '../errors.js'
import type { Log } from '../log-events.js'
import { type AdminAnswer, AdminRoutes, type AdminService, refuse } from './admin-routes.js'
import { bindFault, bindWithMode, obstacleAt, removeStale } from './unix-socket.js'

/** At a time. */
const mostConnections = 64
/** A topic has up to 65,535 bytes, and each may be written as three characters. */
const longestHeader = 262_144
/** For a request to come; and after so long to twice as long in which nothing of an answer was read, it is closed. Milliseconds. */
const usualPatience = 10_000
const mode = 0o600

export interface AdminSocket {
  readonly path: string
  /** Ends everything that is under way, and removes the socket. */
  close(): Promise<void>
}

/** Undefined: there is none to be opened, or it can't be, which is said in the log: a broker runs without it too. */
export async function openAdminSocket(
  { path }: AdminSocketConfig,
  service: AdminService,
  log: Log,
  patience = usualPatience
): Promise<AdminSocket | undefined> {
  if (path === undefined) return undefined
  const routes = new AdminRoutes(service)
  try {
    const obstacle = (await adminObstacle(path)) ?? ((await removeStale(path)) && 'another broker answers there')
    if (obstacle !== undefined) {
      log.write('adminUnavailable', { path, why: obstacle })
      return undefined
    }
    const server = await listen(path, routes, log, patience)
    log.write('adminOpened', { path })
    return { path, close: () => close(server, routes) }
  } catch (error) {
    log.write('adminUnavailable', { path, why: systemReason(await bindFault(error, path)) })
    return undefined
  }
}

/** Why no admin socket can be made at this path, whether or not a broker answers there; undefined: one can. */
export async function adminObstacle(path: string): Promise<string | undefined> {
  const obstacle = await obstacleAt(path)
  return obstacle && obstacleWords[obstacle]
}

const obstacleWords = {
  long: 'the path is too long for a socket, 107 bytes at most',
  file: 'there is a file of that name'
} as const

function listen(path: string, routes: AdminRoutes, log: Log, patience: number): Promise<Server> {
  const server = createServer(
    { maxHeaderSize: longestHeader, headersTimeout: patience, requestTimeout: patience, connectionsCheckingInterval: 1000 },
    (request, response) => void respond(request, response, routes, log, patience)
  )
  server.maxConnections = mostConnections
  server.keepAliveTimeout = patience
  server.timeout = patience
  server.on('clientError', (_, socket) => socket.destroy())
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    bindWithMode(path, mode, () => {
      // Node binds a Unix socket inside the call, only the event comes later.
      server.listen(path, () => {
        server.removeListener('error', reject)
        server.on('error', error => log.write('acceptFailed', { why: systemReason(error) }))
        resolve(server)
      })
    })
  })
}

async function respond(request: IncomingMessage, response: ServerResponse, routes: AdminRoutes, log: Log, patience: number): Promise<void> {
  const { method = '', url = '', headers, socket } = request
  response.on('error', () => {})
  if (headers['transfer-encoding'] !== undefined || (headers['content-length'] ?? '0') !== '0') {
    response.setHeader('Connection', 'close')
    send(response, refuse(413, 'a request has no body: parameters stand behind the ?'))
    return
  }
  // Who waits for an answer is not silent.
  socket.setTimeout(0)
  try {
    send(response, await routes.answer(method, url))
  } catch (error) {
    log.write('fault', { reason: errorMessage(error) })
    send(response, refuse(500, 'internal fault, said in the log of the broker'))
  } finally {
    socket.setTimeout(patience)
  }
}

function send(response: ServerResponse, { status, body, allow }: AdminAnswer): void {
  if (response.destroyed) return
  const content = Buffer.from(`${body}\n`)
  response.writeHead(status, {
    'Content-Type': 'application/json',
    'Content-Length': content.length,
    'Cache-Control': 'no-store',
    ...(allow !== undefined && { Allow: allow })
  })
  response.end(content)
}

// Node removes the socket itself.
function close(server: Server, routes: AdminRoutes): Promise<void> {
  routes.close()
  return new Promise(resolve => {
    server.close(() => resolve())
    server.closeAllConnections()
  })
}
