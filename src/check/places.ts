// What `check` says about the places that a start would use without using them: addresses that collide or are not this machine's, files
// and folders that could not be written, files that everybody may change. Looks, and neither makes nor opens anything.

import { constants } from 'node:fs'
import { access, stat } from 'node:fs/promises'
import { isIP } from 'node:net'
import { networkInterfaces } from 'node:os'
import { dirname } from 'node:path'
import { readReason } from '../account.js'
import type { Bind, Config, FileSetting, ListenerConfig } from '../config/types.js'
import { formatLocation, type Location, type Problem, systemCode, systemReason } from '../errors.js'
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
export async function adviseOnPlaces({ store, listeners }: Config, files: readonly FileSetting[]): Promise<readonly Problem[]> {
  const problems: Problem[] = []
  if (store.kind === 'disk') {
    const path = storePath(store.file)
    const reason = await refusalToWrite(path, 'folder')
    if (reason !== undefined) problems.push(error('ERR_STORE_OPEN', `Unable to open the store ${path}: ${reason}.`, store.at))
  }
  problems.push(...collisions(listeners), ...foreignAddresses(listeners))
  for (const listener of listeners) problems.push(...(await closedFolder(listener)))
  for (const file of files) problems.push(...(await changeable(file)))
  return problems
}

/** Listeners that want what an earlier one has: the second cannot be opened. */
function* collisions(listeners: readonly ListenerConfig[]): Generator<Problem> {
  for (const [index, listener] of listeners.entries()) {
    const first = listeners.slice(0, index).find(other => collide(other, listener))
    if (first === undefined) continue
    const where = first.at ? ` (${formatLocation(first.at)})` : ''
    const message = `Address already in use: the listener on ${listenerName(listener)} wants what the one on ${listenerName(first)}${where} has.`
    yield error('ERR_LISTEN_ADDRESS_IN_USE', message, listener.at)
  }
}

function collide(a: ListenerConfig, b: ListenerConfig): boolean {
  if (a.bind.kind === 'unix' || b.bind.kind === 'unix')
    return a.bind.kind === 'unix' && b.bind.kind === 'unix' && a.bind.path === b.bind.path
  if (a.port !== b.port || a.port === 0) return false
  return addressesOf(a).some(([family, address]) =>
    addressesOf(b).some(([otherFamily, other]) => family === otherFamily && (address === other || isTaken(address, other)))
  )
}

// Linux gives a port to all addresses or to single ones, others (BSD, macOS) to both.
const isTaken = (address: string, other: string): boolean => process.platform === 'linux' && (isWildcard(address) || isWildcard(other))
const isWildcard = (address: string): boolean => address === '0.0.0.0' || address === '::'

/** What a listener opens, as far as it can be told without asking for a host name. */
function addressesOf({ bind, socketDomain }: ListenerConfig): readonly (readonly [family: 'ipv4' | 'ipv6', address: string])[] {
  return (['ipv4', 'ipv6'] as const)
    .filter(family => socketDomain === undefined || socketDomain === family)
    .flatMap(family => addressOf(bind, family).map(address => [family, address] as const))
}

function addressOf(bind: Bind, family: 'ipv4' | 'ipv6'): readonly string[] {
  switch (bind.kind) {
    case 'any':
      return [family === 'ipv4' ? '0.0.0.0' : '::']
    case 'loopback':
      return [family === 'ipv4' ? '127.0.0.1' : '::1']
    case 'host': {
      const kind = isIP(bind.host)
      // A name may stand for either: it meets itself.
      return kind === 0 || kind === (family === 'ipv4' ? 4 : 6) ? [bind.host] : []
    }
    case 'unix':
      return []
  }
}

function* foreignAddresses(listeners: readonly ListenerConfig[]): Generator<Problem> {
  const own = Object.values(networkInterfaces()).flatMap(addresses => addresses?.map(({ address }) => address) ?? [])
  for (const { at, bind } of listeners) {
    if (bind.kind !== 'host' || isIP(bind.host) === 0 || isWildcard(bind.host) || bind.host.startsWith('127.') || own.includes(bind.host))
      continue
    const message = `No network interface of this machine has the address ${bind.host}: the listener cannot be opened here.`
    yield { severity: 'warning', code: 'ERR_LISTEN_ADDRESS', message, ...(at && { at }) }
  }
}

/** The folder of a Unix socket in which none can be made. */
async function closedFolder({ at, bind }: ListenerConfig): Promise<readonly Problem[]> {
  if (bind.kind !== 'unix') return []
  try {
    await access(dirname(bind.path), constants.W_OK | constants.X_OK)
    return []
  } catch (cause) {
    const code = systemCode(cause) === 'EACCES' ? 'ERR_LISTEN_PERMISSION' : 'ERR_LISTEN_ADDRESS'
    return [error(code, `Unable to open unix socket "${bind.path}": ${systemReason(cause)}`, at)]
  }
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
  try {
    await access(dirname(path), constants.W_OK | constants.X_OK)
    return undefined
  } catch (cause) {
    return readReason(cause)
  }
}

const error = (code: Problem['code'], message: string, at: Location | undefined): Problem => ({
  severity: 'error',
  code,
  message,
  ...(at && { at })
})
