// Reads the configuration and every file it names, once, into one value that is then asked at run time. Reports everything that is wrong.

import { readdir, readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { readReason } from './account.js'
import { type Acl, compileAcl, openAcl } from './auth/acl.js'
import { parseAcl } from './auth/acl-file.js'
import { type PasswordEntry, parsePasswordFile } from './auth/password-file.js'
import {
  buildConfig,
  type ConfigFile,
  type ConfigInput,
  type ConfigResult,
  type Included,
  includeDirs,
  includedNames
} from './config/build.js'
import type { Config, FileSetting, ListenerConfig } from './config/types.js'
import { type ErrorCode, type Problem, systemCode } from './errors.js'
import { readTlsMaterial, type TlsMaterial } from './net/tls.js'

/** Where a configuration comes from: a file, the command line, the environment. */
export interface ConfigSource extends Omit<ConfigInput, 'main'> {
  /** Absent: Mosquitto's defaults, on this machine only. */
  readonly file?: string | undefined
}

/** One listener, with what its files held. */
export interface ListenerSnapshot {
  readonly config: ListenerConfig
  readonly acl: Acl
  /** The entries of its password_file; absent: it has none. */
  readonly passwords?: ReadonlyMap<string, PasswordEntry>
  /** `clientid_prefixes`, which is global. */
  readonly clientIdPrefix?: string
  readonly tls?: TlsMaterial
}

export interface Snapshot {
  readonly config: Config
  readonly listeners: readonly ListenerSnapshot[]
}

export interface SnapshotResult {
  /** Absent when a problem is an error. */
  readonly snapshot?: Snapshot
  readonly problems: readonly Problem[]
}

/** Reads mosquitto.conf and its include_dir folders. Never throws on what a person wrote. */
export async function readConfig({ file, ...settings }: ConfigSource): Promise<ConfigResult> {
  if (file === undefined) return buildConfig(settings)
  let main: ConfigFile
  try {
    main = await readConfigFile(file)
  } catch (error) {
    const message = systemCode(error) === 'EISDIR' ? `Config file ${file} is a directory.` : `Unable to open config file '${file}'.`
    return { problems: [{ severity: 'error', code: 'ERR_CONF_OPEN', message: `${message} ${readReason(error)}.` }] }
  }
  return buildConfig({ main, ...settings })
}

async function readConfigFile(file: string): Promise<ConfigFile> {
  const content = await readFile(file)
  const includes = new Map<string, Included>()
  for (const dir of includeDirs(content)) includes.set(dir, await readIncluded(dir))
  return { file, content, includes }
}

async function readIncluded(dir: string): Promise<Included> {
  try {
    const names = includedNames(await readdir(dir))
    return await Promise.all(names.map(async name => ({ file: join(dir, name), content: await readFile(join(dir, name)).catch(asError) })))
  } catch (error) {
    return asError(error)
  }
}

const asError = (error: unknown): Error => (error instanceof Error ? error : new Error(String(error)))

/** Reads the ACL, password, certificate, key, CA and CRL files of a configuration, each once. */
export async function readSnapshot(config: Config): Promise<SnapshotResult> {
  const problems: Problem[] = []
  const acls = new Map<string, Promise<Acl>>()
  const passwords = new Map<string, Promise<ReadonlyMap<string, PasswordEntry>>>()
  const listeners: ListenerSnapshot[] = []
  for (const listener of config.listeners) {
    const { passwordFile, aclFile } = listener.security
    const entries = passwordFile && (await once(passwords, passwordFile, () => readPasswords(passwordFile, config, problems)))
    const acl = aclFile ? await once(acls, aclFile, () => readAcl(aclFile, problems)) : openAcl
    const tls = listener.tls && (await readTlsMaterial(listener.tls))
    if (tls) problems.push(...tls.problems)
    listeners.push({
      config: listener,
      acl,
      ...(entries && { passwords: entries }),
      ...(config.clientIdPrefixes !== undefined && { clientIdPrefix: config.clientIdPrefixes }),
      ...(tls?.material && { tls: tls.material })
    })
  }
  if (problems.some(({ severity }) => severity === 'error')) return { problems }
  return { snapshot: { config, listeners }, problems }
}

/** Listeners that share a file share what was read from it. */
function once<T>(read: Map<string, Promise<T>>, { path }: FileSetting, readNow: () => Promise<T>): Promise<T> {
  const known = read.get(path) ?? readNow()
  read.set(path, known)
  return known
}

async function readPasswords(setting: FileSetting, config: Config, problems: Problem[]): Promise<ReadonlyMap<string, PasswordEntry>> {
  const content = await readSecret(setting, 'pwfile', 'ERR_PASSWORD_OPEN', problems)
  const parsed = parsePasswordFile(content ?? '', setting.path, { lenient: config.passwordFileLines === 'lenient' })
  problems.push(...parsed.problems)
  return parsed.entries
}

async function readAcl(setting: FileSetting, problems: Problem[]): Promise<Acl> {
  const content = await readSecret(setting, 'acl_file', 'ERR_ACL_OPEN', problems)
  const parsed = parseAcl(content ?? '', setting.path)
  problems.push(...parsed.problems)
  return compileAcl(parsed.rules)
}

/** A file that says who may do what: following symbolic links, as Kubernetes hands them out, and warning when others can read it. */
async function readSecret({ path, at }: FileSetting, what: string, code: ErrorCode, problems: Problem[]): Promise<Buffer | undefined> {
  try {
    const [content, { mode }] = await Promise.all([readFile(path), stat(path)])
    // Rights are no secret; password hashes are.
    if (mode & 0o004 && code === 'ERR_PASSWORD_OPEN') {
      const message = `File ${path} has world readable permissions. To fix this, use 'chmod o-rwx ${path}'.`
      problems.push({ severity: 'warning', code: 'ERR_FILE_PERMISSIONS', message, at })
    }
    return content
  } catch (error) {
    problems.push({ severity: 'error', code, message: `Unable to open ${what} "${path}". ${readReason(error)}.`, at })
    return undefined
  }
}
