// Looks at a configuration as a start would, by the same readers, and starts nothing.

import { withoutPassword } from '../config/argument.js'
import type { OptionLine } from '../config/lines.js'
import type { Config, FileSetting, ListenerConfig } from '../config/types.js'
import { enrolmentProblems } from '../enrolment-door.js'
import { BrokerError, type Problem } from '../errors.js'
import { FileReader } from '../files.js'
import { draftFiles } from '../pki/own-certificate.js'
import { type ListenerSnapshot, readConfig, readSnapshot } from '../snapshot.js'
import { storePath } from '../store/disk.js'
import { adviseOnAccess } from './access.js'
import { adviseOnCertificates } from './certificates.js'
import { adviseOnPlaces, adviseOnProcess } from './places.js'
import { buildReport, type Report } from './report.js'

export interface ExamineOptions {
  /** Path of a mosquitto.conf. */
  readonly file: string
  /** Where `MOSQUITERO_…` variables are looked up; none when left out. */
  readonly env?: Readonly<Record<string, string | undefined>>
  readonly now?: Date
  /** Called once the configuration is read, before any other file is: where a process gives up its privileges, as at a start. */
  beforeFiles?(config: Config): void
}

/** Everything that can be said about a configuration. Never rejects because of what a person wrote. */
export async function examine({ file, env = {}, now = new Date(), beforeFiles }: ExamineOptions): Promise<Report> {
  const { config, problems, lines } = await readConfig({ file, ports: undefined, verbosity: undefined, env })
  if (!config) return buildReport({ file, config, lines, listeners: [], problems })
  const refusal = become(config, beforeFiles)
  const { given, problems: failed } = await draftFiles(config, env, now)
  const { read, problems: found } = await readSnapshot(config, new FileReader(given))
  const unsigned = await enrolmentProblems(config, env)
  const advice = [
    ...read.flatMap(listener => certificates(listener, now, config.expiryWarning)),
    ...adviseOnAccess(read, !found.some(isOfAccess))
  ]
  return buildReport({
    file,
    config,
    lines,
    listeners: read,
    storePlace: placeOf(config),
    // In the order of a start.
    problems: [
      ...problems,
      ...refusal,
      ...(await adviseOnProcess(config)),
      ...failed,
      ...found,
      ...unsigned,
      ...(await adviseOnPlaces(config, [...filesOf(file, config, lines)])),
      ...advice
    ]
  })
}

const isOfAccess = ({ severity, code }: Problem): boolean => severity === 'error' && /^ERR_(ACL|PASSWORD)_/.test(code)

function become(config: Config, beforeFiles: ExamineOptions['beforeFiles']): readonly Problem[] {
  try {
    beforeFiles?.(config)
    return []
  } catch (error) {
    if (!(error instanceof BrokerError)) throw error
    const { code, message, at } = error
    return [{ severity: 'error', code, message, ...(at && { at }) }]
  }
}

function certificates({ config, tls }: ListenerSnapshot, now: Date, days: number): readonly Problem[] {
  return config.tls && tls ? adviseOnCertificates(config.tls, tls, now, days) : []
}

function placeOf({ store }: Config): string | undefined {
  switch (store.kind) {
    case 'memory':
      return undefined
    case 'disk':
      return storePath(store.file)
    case 'redis':
      return withoutPassword(store.url)
  }
}

/** The files that say who may do what, each once. */
function filesOf(file: string, config: Config, lines: readonly OptionLine[]): Iterable<FileSetting> {
  const files = config.listeners.flatMap(({ tls, psk, security }: ListenerConfig) => [
    security.passwordFile,
    security.aclFile,
    tls?.certfile,
    tls?.keyfile,
    tls?.cafile,
    tls?.crlfile,
    psk?.file
  ])
  const written = [file, ...lines.flatMap(({ at }) => at?.file ?? [])].map((path): FileSetting => ({ path, at: { file: path } }))
  return new Map([...written, ...files].flatMap(setting => (setting ? [[setting.path, setting]] : []))).values()
}
