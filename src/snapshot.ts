// Reads the configuration and every file it names, once, into one value that is then asked at run time. Reports everything that is wrong.

import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import { readReason } from './account.js'
import { type Acl, compileAcl, openAcl } from './auth/acl.js'
import { type AclRule, parseAcl } from './auth/acl-file.js'
import { type PasswordEntry, parsePasswordFile } from './auth/password-file.js'
import { isClientIdPart } from './auth/pattern-variables.js'
import { type PskEntries, parsePskFile } from './auth/psk-file.js'
import {
  buildConfig,
  type ConfigFile,
  type ConfigInput,
  type ConfigResult,
  findAdminSocket,
  type Included,
  includeDirs,
  includedNames
} from './config/build.js'
import type { AdminSocketConfig, Config, FileSetting, ListenerConfig, NamedFile } from './config/types.js'
import { type ErrorCode, type Problem, systemCode } from './errors.js'
import { FileReader } from './files.js'
import { pskMaterial } from './net/psk.js'
import { readTlsMaterial, type TlsMaterial } from './net/tls.js'
import { worldReadable } from './permissions.js'
import { listenerName } from './reload.js'

/** Where a configuration comes from: a file, the command line, the environment. */
export interface ConfigSource extends Omit<ConfigInput, 'main'> {
  /** Absent: Mosquitto's defaults, on this machine only. */
  readonly file?: string | undefined
}

/** One listener, with what its files say of who may do what. */
export interface ListenerRights {
  readonly config: ListenerConfig
  readonly acl: Acl
  /** The rules of its acl_file; absent: it has none. */
  readonly rules?: readonly AclRule[]
  /** `#!acl_shadow`, which is global. */
  readonly shadow?: { readonly path: string } & ReadAcl
  /** The entries of its password_file; absent: it has none. */
  readonly passwords?: ReadonlyMap<string, PasswordEntry>
  /** `clientid_prefixes`, which is global. */
  readonly clientIdPrefix?: string
}

/** One listener, with what its files held. */
export interface ListenerSnapshot extends ListenerRights {
  readonly tls?: TlsMaterial
  /** The entries of its psk_file; absent: it has no `psk_hint`. */
  readonly keys?: PskEntries
}

export interface Snapshot {
  readonly config: Config
  readonly listeners: readonly ListenerSnapshot[]
}

export interface SnapshotResult {
  /** Absent when a problem is an error. */
  readonly snapshot?: Snapshot
  /** What could be read, for people: with an error it is incomplete and nothing to enforce. */
  readonly read: readonly ListenerSnapshot[]
  readonly problems: readonly Problem[]
}

/** A configuration and all its files as they are now. */
export interface Reading extends SnapshotResult {
  readonly files: FileReader
}

/** Makes what the configuration wants to have made before its files are read; resolves with why that failed. */
export type Prepare = (config: Config) => Promise<readonly Problem[]>

/** Reads mosquitto.conf and every file it names. Never throws on what a person wrote. */
export async function readAll(source: ConfigSource, prepare?: Prepare): Promise<Reading> {
  const files = new FileReader()
  const { config, problems } = await readConfig(source, files)
  if (config === undefined) return { files, read: [], problems }
  const failed = (await prepare?.(config)) ?? []
  if (failed.length > 0) return { files, read: [], problems: [...problems, ...failed] }
  const read = await readSnapshot(config, files)
  return { ...read, files, problems: [...problems, ...read.problems] }
}

/** Reads mosquitto.conf and its include_dir folders. Never throws on what a person wrote. */
export async function readConfig({ file, ...settings }: ConfigSource, files = new FileReader()): Promise<ConfigResult> {
  if (file === undefined || settings.object !== undefined) return buildConfig(settings)
  let main: ConfigFile
  try {
    main = await readConfigFile(file, files)
  } catch (error) {
    const message =
      systemCode(error) === 'EISDIR' ? `Config file ${file} is a directory.` : `Unable to open config file '${file}'. ${readReason(error)}.`
    return { problems: [{ severity: 'error', code: 'ERR_CONF_OPEN', message }], lines: [] }
  }
  return buildConfig({ main, ...settings })
}

/** Where a broker that was started with this configuration is asked. Rejects when the file can't be read. */
export async function readAdminSocket(file: string | undefined, env: ConfigInput['env']): Promise<AdminSocketConfig> {
  return findAdminSocket({ main: file === undefined ? undefined : await readConfigFile(file, new FileReader()), env })
}

async function readConfigFile(file: string, files: FileReader): Promise<ConfigFile> {
  const content = await files.read(file)
  const includes = new Map<string, Included>()
  for (const dir of includeDirs(content)) includes.set(dir, await readIncluded(dir, files))
  return { file, content, includes }
}

async function readIncluded(dir: string, files: FileReader): Promise<Included> {
  try {
    const names = includedNames(await files.list(dir, name => includedNames([name]).length > 0))
    return await Promise.all(
      names.map(async name => ({ file: join(dir, name), content: await files.read(join(dir, name)).catch(asError) }))
    )
  } catch (error) {
    return asError(error)
  }
}

const asError = (error: unknown): Error => (error instanceof Error ? error : new Error(String(error)))

/** Reads the ACL, password, certificate, key, CA and CRL files of a configuration, each once. */
export async function readSnapshot(config: Config, files = new FileReader()): Promise<SnapshotResult> {
  const { rights, problems: found } = await readRights(config, files)
  const problems = [...found]
  const listeners: ListenerSnapshot[] = []
  const keyFiles = new Map<string, Promise<PskEntries>>()
  for (const each of rights) {
    const { tls: certified, psk, security } = each.config
    const { pskFile } = security
    // Also where nobody has use for them: a file that is named and cannot be used is a mistake, to Mosquitto as well.
    const read = pskFile && (await once(keyFiles, pskFile, () => readKeys(pskFile, files, problems)))
    const keys = psk && read
    const tls = psk && keys ? pskMaterial(psk, keys) : certified && (await readTlsMaterial(certified, new Date(), files))
    if (tls) problems.push(...tls.problems)
    listeners.push({ ...each, ...(tls?.material && { tls: tls.material }), ...(keys && { keys }) })
  }
  if (problems.some(({ severity }) => severity === 'error')) return { read: listeners, problems }
  return { snapshot: { config, listeners }, read: listeners, problems }
}

export interface RightsResult {
  /** With an error among the problems it is incomplete. */
  readonly rights: readonly ListenerRights[]
  readonly problems: readonly Problem[]
}

/** The part of it that says who may do what: without keys and certificates, which who asks about rights may not be able to read. */
export async function readRights(config: Config, files = new FileReader()): Promise<RightsResult> {
  const problems: Problem[] = []
  const acls = new Map<string, Promise<ReadAcl>>()
  const passwords = new Map<string, Promise<ReadonlyMap<string, PasswordEntry>>>()
  const rights: ListenerRights[] = []
  const { aclShadow } = config
  const shadow = aclShadow && (await once(acls, aclShadow, () => readAcl(aclShadow, files, '#!acl_shadow', problems)))
  for (const listener of config.listeners) {
    const { passwordFile, aclFile } = listener.security
    const entries = passwordFile && (await once(passwords, passwordFile, () => readPasswords(passwordFile, config, files, problems)))
    const acl = aclFile ? await once(acls, aclFile, () => readAcl(aclFile, files, 'acl_file', problems)) : { acl: openAcl }
    for (const each of [acl, shadow]) if (each && 'rules' in each) problems.push(...unboundParts(each.rules, listener))
    rights.push({
      config: listener,
      ...acl,
      ...(aclShadow && shadow && { shadow: { path: aclShadow.path, ...shadow } }),
      ...(entries && { passwords: entries }),
      ...(config.clientIdPrefixes !== undefined && { clientIdPrefix: config.clientIdPrefixes })
    })
  }
  return { rights, problems }
}

// Parts of a client id that anybody may choose are no ground for rights.
function unboundParts(rules: readonly AclRule[], listener: ListenerConfig): readonly Problem[] {
  if (listener.clientIdMustMatch !== undefined) return []
  return rules.flatMap(({ kind, filter, at }) => {
    const part = kind === '#!pattern' ? filter.split('/').find(isClientIdPart) : undefined
    if (part === undefined) return []
    const message = `'${part}' needs '#!clientid_must_match' on every listener of this file: by the one on ${listenerName(listener)} a client may say any client id.`
    return [{ severity: 'error', code: 'ERR_ACL_SYNTAX', message, at }]
  })
}

/** Listeners that share a file share what was read from it. */
function once<T>(read: Map<string, Promise<T>>, { path }: NamedFile, readNow: () => Promise<T>): Promise<T> {
  const known = read.get(path) ?? readNow()
  read.set(path, known)
  return known
}

async function readPasswords(
  setting: FileSetting,
  config: Config,
  files: FileReader,
  problems: Problem[]
): Promise<ReadonlyMap<string, PasswordEntry>> {
  const content = await readSecret(setting, files, 'pwfile', 'ERR_PASSWORD_OPEN', problems)
  const parsed = parsePasswordFile(content ?? '', setting.path, { lenient: config.passwordFileLines === 'lenient' })
  problems.push(...parsed.problems)
  return parsed.entries
}

async function readKeys(setting: FileSetting, files: FileReader, problems: Problem[]): Promise<PskEntries> {
  const content = await readSecret(setting, files, 'psk_file', 'ERR_PSK_OPEN', problems)
  const parsed = parsePskFile(content ?? Buffer.alloc(0), setting.path)
  problems.push(...parsed.problems)
  return parsed.entries
}

type ReadAcl = Required<Pick<ListenerSnapshot, 'acl' | 'rules'>>

async function readAcl(setting: NamedFile, files: FileReader, option: string, problems: Problem[]): Promise<ReadAcl> {
  const content = await readSecret(setting, files, option, 'ERR_ACL_OPEN', problems)
  const parsed = parseAcl(content ?? '', setting.path)
  problems.push(...parsed.problems)
  return { acl: compileAcl(parsed.rules), rules: parsed.rules }
}

/** A file that says who may do what: following symbolic links, as Kubernetes hands them out, and warning when others can read it. */
async function readSecret(
  { path, at }: NamedFile,
  files: FileReader,
  what: string,
  code: ErrorCode,
  problems: Problem[]
): Promise<Buffer | undefined> {
  try {
    const [content, { mode }] = await Promise.all([files.read(path), stat(path)])
    // Rights are no secret; password hashes and keys are.
    const warning = code !== 'ERR_ACL_OPEN' ? worldReadable(path, mode, at) : undefined
    if (warning) problems.push(warning)
    return content
  } catch (error) {
    problems.push({ severity: 'error', code, message: `Unable to open ${what} "${path}". ${readReason(error)}.`, ...(at && { at }) })
    return undefined
  }
}
