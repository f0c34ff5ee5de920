// What `mosquitero acl` asks: the listeners of a mosquitto.conf with their ACL files, or an ACL file alone. Keys and certificates are not
// read, so that it works where nobody has them.

import { readFile } from 'node:fs/promises'
import { compileAcl } from '../auth/acl.js'
import { parseAcl } from '../auth/acl-file.js'
import type { Rights } from '../auth/explanation.js'
import type { Problem } from '../errors.js'
import { isListenerNamed, listenerName } from '../reload.js'
import { readConfig, readRights } from '../snapshot.js'

export interface RightsResult {
  /** Empty when something is wrong. */
  readonly rights: readonly Rights[]
  readonly problems: readonly Problem[]
}

/** Reads FILE, whichever of the two it is: what can be read as an ACL file without an error is one, else it is what it has fewer errors as. */
export async function readRightsOf(file: string, env: Readonly<Record<string, string | undefined>>): Promise<RightsResult> {
  const asAcl = await readAclAlone(file)
  if (asAcl !== undefined && asAcl.rights.length > 0) return asAcl
  const { config, problems } = await readConfig({ file, env })
  if (config === undefined) return { rights: [], problems: asAcl && errorsOf(asAcl) < errorsOf({ problems }) ? asAcl.problems : problems }
  const read = await readRights(config)
  const isPasswordUnknown = read.problems.some(isAboutPasswords)
  const fatal = read.problems.filter(problem => problem.severity === 'error' && !isAboutPasswords(problem))
  const rights = read.rights.map(({ config: listener, acl, passwords, clientIdPrefix }): Rights => {
    const entries = isPasswordUnknown && passwords ? 'unknown' : passwords
    return {
      listener,
      acl,
      subscribeCheck: config.delivery.aclSubscribeCheck,
      ...(entries !== undefined && { passwords: entries }),
      ...(clientIdPrefix !== undefined && { clientIdPrefix })
    }
  })
  return { rights: fatal.length > 0 ? [] : rights, problems: fatal }
}

/** Those of the listener that `--listener` names: by its port, its port and address, or the path of its socket. */
export function listenersNamed(rights: readonly Rights[], name: string): readonly Rights[] {
  return rights.filter(({ listener }) => listener !== undefined && isListenerNamed(listener, name))
}

/** `port 8883`; undefined: an ACL file alone. */
export const nameOfRights = ({ listener }: Rights): string | undefined => listener && listenerName(listener)

// Undefined: it can't be read, which is said of it as a mosquitto.conf.
async function readAclAlone(file: string): Promise<RightsResult | undefined> {
  let content: Buffer
  try {
    content = await readFile(file)
  } catch {
    return undefined
  }
  const { rules, problems } = parseAcl(content, file)
  if (problems.some(({ severity }) => severity === 'error')) return { rights: [], problems }
  return { rights: [{ acl: compileAcl(rules), subscribeCheck: 'warn' }], problems: [] }
}

function isAboutPasswords({ severity, code }: Problem): boolean {
  return severity === 'error' && (code === 'ERR_PASSWORD_OPEN' || code === 'ERR_PASSWORD_SYNTAX')
}

function errorsOf({ problems }: Pick<RightsResult, 'problems'>): number {
  return problems.filter(({ severity }) => severity === 'error').length
}
