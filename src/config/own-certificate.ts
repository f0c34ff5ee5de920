// What the CA of `#!enrolment_ca` signs: the certificate that the broker makes for itself, where it lies and which listeners get it; and
// those of the devices that come to `#!enrolment_listener`.

import { join } from 'node:path'
import type { Problem } from '../errors.js'
import { fail, warn } from './check.js'
import type { ListenerDraft } from './draft.js'
import type { Setting, Settings } from './settings.js'
import type { AuthorityFiles, EnrolmentConfig, OwnCertificateConfig } from './types.js'

/** `#!enrolment_ca`: the CA that signs for this broker. */
export function settleAuthority(setting: Setting | undefined): AuthorityFiles | undefined {
  if (typeof setting?.value !== 'object') return undefined
  const [certificate = '', key = ''] = setting.value
  return { certificate, key, ...(setting.at && { at: setting.at }) }
}

/** `#!enrolment_listener`: what it needs beside its port is the CA, and a certificate to show. */
export function settleEnrolment(
  setting: Setting | undefined,
  ca: AuthorityFiles | undefined,
  listeners: readonly ListenerDraft[],
  problems: Problem[]
): EnrolmentConfig | undefined {
  if (typeof setting?.value !== 'object') return undefined
  const { value, at } = setting
  const [port = '', host] = value
  if (ca === undefined) {
    fail(problems, 'ERR_CONF_COMBINATION', "'#!enrolment_listener' needs '#!enrolment_ca', the CA that signs.", at)
    return undefined
  }
  if (!listeners.some(({ settings }) => settings.has('certfile'))) {
    const message = "'#!enrolment_listener' needs a listener with 'certfile' and 'keyfile': it shows the same certificate."
    fail(problems, 'ERR_CONF_COMBINATION', message, at)
    return undefined
  }
  return { port: Number(port), ca, ...(host !== undefined && { host }), ...(at && { at }) }
}

/** With `#!tls_dns_list` and `#!enrolment_ca` both: what to make, and where. */
export function settleOwnCertificate(
  list: Setting | undefined,
  ca: AuthorityFiles | undefined,
  folder: string
): OwnCertificateConfig | undefined {
  if (typeof list?.value !== 'string' || ca === undefined) return undefined
  const place = join(folder, 'certs', 'broker', 'own')
  return {
    names: [...new Set(namesIn(list.value))],
    ca,
    certificate: `${place}.crt`,
    key: `${place}.key`,
    ...(list.at && { at: list.at })
  }
}

/** As if the lines of the listeners named it. Every one without a certfile that isn't plain by its port: what is meant to be protected is. */
export function giveOwnCertificate(own: OwnCertificateConfig, listeners: readonly ListenerDraft[], problems: Problem[]): void {
  const takers = listeners.filter(takesOwn)
  for (const { settings, at } of takers) {
    settings.add('certfile', { value: own.certificate, at })
    settings.add('keyfile', { value: own.key, at })
  }
  if (takers.length > 0) return
  const message = "'#!tls_dns_list' has no effect: no listener is without a certfile, but for port 1883 and Unix sockets, which are plain."
  warn(problems, message, own.at)
}

const namesIn = (list: string): string[] =>
  list
    .split(',')
    .map(name => name.trim())
    .filter(name => name !== '')

const plainPort = 1883
const tlsOptions = ['cafile', 'capath', 'crlfile', 'require_certificate', 'tls_version', 'ciphers', 'ciphers_tls1.3']

function takesOwn({ settings }: ListenerDraft): boolean {
  if (settings.has('certfile') || settings.has('keyfile')) return false
  const port = portOf(settings)
  return port !== 0 && (port !== plainPort || tlsOptions.some(name => settings.has(name)))
}

// A port of 0 is a Unix socket in a file, and any free port in an object, where a third word says so.
function portOf(settings: Settings): number {
  const [port, , kind] = settings.words('listener') ?? []
  if (port === undefined) return settings.number('port') ?? plainPort
  return port === '0' && (kind === 'host' || settings.words('listener')?.length === 1) ? -1 : Number(port)
}
