// What `check` says about the places that a start would use without using them: addresses that collide or are not this machine's, files
// and folders that could not be written, files that everybody may change. Looks, and neither makes nor opens anything.

import { constants } from 'node:fs'
import { access, stat } from 'node:fs/promises'
import { networkInterfaces } from 'node:os'
import { dirname, resolve } from 'node:path'
import { readReason } from '../account.js'
import type { AdminSocketConfig, Bind, Config, EnrolmentConfig, FileSetting, ListenerConfig } from '../config/types.js'
import { BrokerError, formatLocation, type Location, type Problem, systemCode, systemReason } from '../errors.js'
import { adminObstacle } from '../net/admin-server.js'
import { pathRefusal, type Target, targetsOf } from '../net/bind.js'
import { listenerName } from '../reload.js'
import { storePath } from '../store/disk.js'

/** What a start does first: the pid file and the log. */
export async function adviseOnProcess({ pidFile, log }: Config): Promise<readonly Problem[]> {
  const problems: Problem[] = []
  const pidReason = pidFile && (await refusalToWrite(pidFile.path, 'file'))
  if (pidFile && pidReason !== undefined) {
    problems.push(error('ERR_PID_FILE', `Unable to write pid file. ${pidFile.path}: ${pidReason}.`, pidFile.at))
  }
  for (const destination of log.destinations) {
    const reason = destination.kind === 'file' ? await refusalToWrite(destination.path, 'file') : undefined
    if (destination.kind !== 'file' || reason === undefined) continue
    problems.push(error('ERR_LOG_FILE', `Unable to open log file ${destination.path} for writing. ${reason}.`, destination.at))
  }
  return problems
}

/** What it does last: the store, then the listeners. `files`: what was read meanwhile. */
export async function adviseOnPlaces(config: Config, files: readonly FileSetting[]): Promise<readonly Problem[]> {
  const { store, adminSocket } = config
  const problems: Problem[] = []
  if (store.kind === 'disk') {
    const path = storePath(store.file)
    const reason = await refusalToWrite(path, 'folder')
    if (reason !== undefined) problems.push(error('ERR_STORE_OPEN', `Unable to open the store ${path}: ${reason}.`, store.at))
  }
  problems.push(...(await adviseOnListeners(config)), ...(await adviseOnAdminSocket(adminSocket)))
  for (const file of files) problems.push(...(await changeable(file)))
  return problems
}

/** Something that a start opens. */
interface Claim {
  readonly kind: 'listener' | 'enrolment listener'
  readonly place: string
  readonly at: Location | undefined
  readonly port: number
  /** Of a Unix socket. */
  readonly path?: string
  readonly targets: readonly Target[]
}

async function adviseOnListeners({ listeners, enrolment }: Config): Promise<readonly Problem[]> {
  const problems: Problem[] = []
  const claims: Claim[] = []
  for (const claiming of [...listeners.map(claimOf), ...(enrolment ? [claimOfEnrolment(enrolment)] : [])]) {
    try {
      claims.push(await claiming)
    } catch (cause) {
      problems.push(problemOf(cause))
    }
  }
  problems.push(...collisions(claims), ...foreignAddresses(claims))
  for (const listener of listeners) problems.push(...(await closedPath(listener)))
  return problems
}

async function claimOf(listener: ListenerConfig): Promise<Claim> {
  const { at, port, bind } = listener
  const path = bind.kind === 'unix' ? { path: resolve(bind.path) } : {}
  return { kind: 'listener', place: listenerName(listener), at, port, ...path, targets: await targetsOf(listener) }
}

async function claimOfEnrolment({ port, host, at }: EnrolmentConfig): Promise<Claim> {
  const bind: Bind = host === undefined ? { kind: 'any' } : { kind: 'host', host }
  const targets = await targetsOf({ bind, ...(at && { at }) })
  // Of the addresses of a name it opens the first.
  return {
    kind: 'enrolment listener',
    place: listenerName({ port, bind }),
    at,
    port,
    targets: host === undefined ? targets : targets.slice(0, 1)
  }
}

/** What wants what an earlier one has: the second cannot be opened. */
function* collisions(claims: readonly Claim[]): Generator<Problem> {
  for (const [index, claim] of claims.entries()) {
    const first = claims.slice(0, index).find(other => collide(other, claim))
    if (first === undefined) continue
    const where = first.at ? ` (${formatLocation(first.at)})` : ''
    const message = `Address already in use: the ${claim.kind} on ${claim.place} wants what the one on ${first.place}${where} has.`
    yield error('ERR_LISTEN_ADDRESS_IN_USE', message, claim.at)
  }
}

function collide(a: Claim, b: Claim): boolean {
  if (a.path !== undefined || b.path !== undefined) return a.path === b.path
  if (a.port !== b.port || a.port === 0) return false
  return a.targets.some(({ family, address }) =>
    b.targets.some(other => family === other.family && (address === other.address || isTaken(address, other.address)))
  )
}

// Linux gives a port to all addresses or to single ones, others (BSD, macOS) to both.
const isTaken = (address: string, other: string): boolean => process.platform === 'linux' && (isWildcard(address) || isWildcard(other))
const isWildcard = (address: string): boolean => address === '0.0.0.0' || address === '::'

// A warning, no error: an address may come later, as one that moves between machines does.
function* foreignAddresses(claims: readonly Claim[]): Generator<Problem> {
  const own = Object.values(networkInterfaces()).flatMap(addresses => addresses?.map(({ address }) => address) ?? [])
  const isOwn = (address: string): boolean => isWildcard(address) || address.startsWith('127.') || own.includes(address)
  for (const { kind, at, targets } of claims) {
    for (const { address, optional } of targets) {
      if (optional || isOwn(address)) continue
      const message = `No network interface of this machine has the address ${address}: the ${kind} cannot be opened here.`
      yield { severity: 'warning', code: 'ERR_LISTEN_ADDRESS', message, ...(at && { at }) }
    }
  }
}

/** A path at which no Unix socket can be made. */
async function closedPath({ at, bind }: ListenerConfig): Promise<readonly Problem[]> {
  if (bind.kind !== 'unix') return []
  const refusal = await pathRefusal(bind.path, at)
  if (refusal) return [problemOf(refusal)]
  const cause = await folderFault(bind.path)
  if (cause === undefined) return []
  const code = systemCode(cause) === 'EACCES' ? 'ERR_LISTEN_PERMISSION' : 'ERR_LISTEN_ADDRESS'
  return [error(code, `Unable to open unix socket "${bind.path}": ${systemReason(cause)}`, at)]
}

// A broker runs without it too, and who has not asked for it hardly misses it.
async function adviseOnAdminSocket({ path, written, at }: AdminSocketConfig): Promise<readonly Problem[]> {
  if (path === undefined || written === undefined) return []
  const fault = await folderFault(path)
  const why = (await adminObstacle(path)) ?? (fault === undefined ? undefined : systemReason(fault))
  if (why === undefined) return []
  return [{ severity: 'warning', code: 'ERR_LISTEN_ADDRESS', message: `There is no admin socket ${path}: ${why}.`, ...(at && { at }) }]
}

/** Why nothing can be made in the folder of a path; undefined: it can. */
function folderFault(path: string): Promise<unknown> {
  return access(dirname(path), constants.W_OK | constants.X_OK).then(
    () => undefined,
    (fault: unknown) => fault
  )
}

async function changeable({ path, at }: FileSetting): Promise<readonly Problem[]> {
  const { mode } = await stat(path).catch(() => ({ mode: 0 }))
  if ((mode & 0o002) === 0) return []
  const message = `File ${path} can be changed by everybody. To fix this, use 'chmod o-w ${path}'.`
  return [{ severity: 'warning', code: 'ERR_FILE_PERMISSIONS', message, at }]
}

/** Why this could not be written, or made if it is not there; undefined: it could. */
async function refusalToWrite(path: string, kind: 'file' | 'folder'): Promise<string | undefined> {
  try {
    const found = await stat(path)
    await access(path, constants.W_OK)
    // A file where the store belongs is set aside.
    return kind === 'file' && found.isDirectory() ? 'Is a directory' : undefined
  } catch (cause) {
    if (systemCode(cause) !== 'ENOENT') return readReason(cause)
  }
  const fault = await folderFault(path)
  return fault === undefined ? undefined : readReason(fault)
}

function problemOf(cause: unknown): Problem {
  if (!(cause instanceof BrokerError)) throw cause
  return error(cause.code, cause.message, cause.at)
}

const error = (code: Problem['code'], message: string, at: Location | undefined): Problem => ({
  severity: 'error',
  code,
  message,
  ...(at && { at })
})
