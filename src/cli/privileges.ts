// What the process is allowed: gives up root for the account that the configuration names, as Mosquitto does right after reading it.

import { execFileSync } from 'node:child_process'
import { accessSync, constants } from 'node:fs'
import { dirname } from 'node:path'
import { fileURLToPath } from 'node:url'
import { accountName } from '../account.js'
import type { Config } from '../config/types.js'
import { BrokerError, errorMessage } from '../errors.js'
import type { Log } from '../log-events.js'

const ours = fileURLToPath(import.meta.url)

// Node has it, its types do not.
declare global {
  namespace NodeJS {
    interface Process {
      initgroups?(user: string, extraGroup: number): void
    }
  }
}

/**
 * Changes to `user` (default `mosquitto`, else `nobody`) when started as root; `PUID` and `PGID` go before it, `UMASK_SET` sets the umask.
 * Throws ERR_USER when that cannot be done. Files are opened afterwards, so they must be readable by that account.
 */
export function dropPrivileges(user: Config['user'], env: NodeJS.ProcessEnv, log: Log): void {
  if (givesUpRoot(user, env)) {
    if (isByIds(env)) changeToIds(env)
    else changeToAccount(user, log)
  }
  log.write('runningAs', { user: accountName() })
  if (!isReadable(ours)) log.write('codeUnreadable', { user: accountName(), path: dirname(dirname(ours)) })
  if (process.geteuid?.() === 0) log.write('runningAsRoot', {})
  setUmask(env.UMASK_SET)
}

// Threads begin with a file of ours, whenever they do.
function isReadable(file: string): boolean {
  try {
    accessSync(file, constants.R_OK)
    return true
  } catch {
    return false
  }
}

/** It was started as root, and does not stay so. */
export function givesUpRoot(user: Config['user'], env: NodeJS.ProcessEnv): boolean {
  return process.geteuid?.() === 0 && env.SNAP_NAME !== 'mosquitto' && (isByIds(env) || user?.name !== 'root')
}

function isByIds({ PUID, PGID }: NodeJS.ProcessEnv): boolean {
  return PUID !== undefined || PGID !== undefined
}

function changeToAccount(user: Config['user'], log: Log): void {
  const wanted = user?.name ?? 'mosquitto'
  let account = lookUp(wanted)
  if (!account && wanted === 'mosquitto') {
    log.write('userFallback', { user: wanted, instead: 'nobody' })
    account = lookUp('nobody')
  }
  if (!account) {
    throw new BrokerError('ERR_USER', `Unable to drop privileges to '${wanted}' because this user does not exist.`, user?.at)
  }
  attempt('groups', () => process.initgroups?.(account.name, account.gid))
  attempt('gid', () => process.setgid?.(account.gid))
  attempt('uid', () => process.setuid?.(account.uid))
}

function changeToIds(env: NodeJS.ProcessEnv): void {
  const gid = parseId('PGID', env.PGID)
  const uid = parseId('PUID', env.PUID)
  if (gid > 0) {
    attempt('groups', () => process.setgroups?.([gid]))
    attempt('gid', () => process.setgid?.(gid))
  }
  if (uid > 0) attempt('uid', () => process.setuid?.(uid))
}

function parseId(name: string, text: string | undefined): number {
  if (text === undefined) return 0
  if (!/^\d{1,10}$/.test(text)) throw new BrokerError('ERR_USER', `${name} not a valid ID '${text}'.`)
  return Number(text)
}

function attempt(what: string, change: () => void): void {
  try {
    change()
  } catch (error) {
    throw new BrokerError('ERR_USER', `Error setting ${what} whilst dropping privileges: ${errorMessage(error)}.`, undefined, {
      cause: error
    })
  }
}

// id(1) knows every account the system knows (LDAP and its kin too), /etc/passwd does not.
function lookUp(name: string): { name: string; uid: number; gid: number } | undefined {
  try {
    const [uid, gid] = ['-u', '-g'].map(flag => Number(execFileSync('id', [flag, '--', name], { stdio: ['ignore', 'pipe', 'ignore'] })))
    return uid === undefined || gid === undefined ? undefined : { name, uid, gid }
  } catch {
    return undefined
  }
}

function setUmask(text: string | undefined): void {
  if (text === undefined) return
  if (!/^[0-7]{1,4}$/.test(text)) throw new BrokerError('ERR_USER', 'UMASK_SET environment variable not a valid octal number.')
  process.umask(Number.parseInt(text, 8) & 0o777)
}
