// What no single line can tell: whether the lines of a listener, a plugin or a bridge fit together. Fails closed where a listener
// would open in a weaker form than the file says.

import type { ErrorCode, Location, Problem } from '../errors.js'
import type { BridgeDraft, Draft, ListenerDraft, PluginDraft } from './draft.js'
import type { Settings } from './settings.js'

/** Checks the whole draft, and gives the files that plugin lines name to those who use them. */
export function checkDraft(draft: Draft, localOnly: boolean, problems: Problem[]): void {
  for (const plugin of draft.plugins) applyPlugin(plugin, problems)
  checkProtocols(draft.listeners, problems)
  for (const listener of draft.listeners) checkListener(listener, draft, localOnly, problems)
  for (const bridge of draft.bridges) checkBridge(bridge, draft.bridges, problems)
}

/** Whether we can speak what the listener is for. One that we cannot stays closed, which opens nothing that the file does not. */
export function speaksMqtt({ settings }: ListenerDraft): boolean {
  return (settings.text('protocol') ?? 'mqtt') === 'mqtt'
}

function checkProtocols(listeners: readonly ListenerDraft[], problems: Problem[]): void {
  const someOpen = listeners.some(speaksMqtt)
  for (const listener of listeners.filter(listener => !speaksMqtt(listener))) {
    const { settings } = listener
    const what = `'protocol ${settings.text('protocol')}' is not supported yet`
    const at = settings.at('protocol')
    if (someOpen) warn(problems, `${what}: this listener stays closed.`, at, 'ERR_CONF_NOT_SUPPORTED')
    else fail(problems, 'ERR_CONF_UNAVAILABLE', `${what}, and no other listener is left.`, at)
  }
}

/** In the order of the main file; what an included file says stands where its `include_dir` line is. */
export function inOrder(problems: readonly Problem[]): readonly Problem[] {
  return problems.toSorted((a, b) => mainLine(a.at) - mainLine(b.at) || (a.at?.line ?? 0) - (b.at?.line ?? 0))
}

export function fail(problems: Problem[], code: ErrorCode, message: string, at: Location | undefined): void {
  problems.push({ severity: 'error', code, message, ...(at && { at }) })
}

export function warn(problems: Problem[], message: string, at: Location | undefined, code: ErrorCode = 'ERR_CONF_COMBINATION'): void {
  problems.push({ severity: 'warning', code, message, ...(at && { at }) })
}

function mainLine(at: Location | undefined): number {
  return at?.includedFrom?.line ?? at?.line ?? 0
}

function checkListener({ settings, defaultFor, at }: ListenerDraft, { global }: Draft, localOnly: boolean, problems: Problem[]): void {
  checkTls(settings, problems)
  checkPsk(settings, global, problems)
  checkIdentity(settings, problems)
  for (const name of ['password_file', 'acl_file']) checkTwoFiles(name, settings, global, problems)
  if (defaultFor === undefined) return
  if (localOnly) {
    checkUnused(settings, problems)
  } else {
    const message = `Creating default listener due to '${defaultFor}' option. It is best practice to define a 'listener' first.`
    problems.push({ severity: 'notice', code: 'ERR_CONF_DEPRECATED', message, at })
  }
}

// Without a listener line these would be lost and a loopback port without TLS be open instead: not what the file says.
const protectingOptions: ReadonlySet<string> = new Set([
  'certfile',
  'keyfile',
  'cafile',
  'capath',
  'crlfile',
  'require_certificate',
  'use_identity_as_username',
  'use_subject_as_username',
  'psk_hint',
  'allow_anonymous',
  'password_file',
  'acl_file'
])

function checkUnused(settings: Settings, problems: Problem[]): void {
  for (const name of settings.names()) {
    if (!settings.last(name)) continue
    if (protectingOptions.has(name)) {
      fail(problems, 'ERR_CONF_PLACE', `The '${name}' option requires a listener to be defined first.`, settings.at(name))
    } else {
      warn(problems, `The '${name}' option has no effect: no listener is defined, so that only loopback is open.`, settings.at(name))
    }
  }
}

function checkTls(settings: Settings, problems: Problem[]): void {
  // A line that was refused has been spoken of already.
  const failAt = (name: string, message: string) =>
    settings.last(name) && fail(problems, 'ERR_CONF_COMBINATION', message, settings.at(name))
  const certified = settings.has('certfile')
  if (certified !== settings.has('keyfile')) {
    failAt(certified ? 'certfile' : 'keyfile', 'Both certfile and keyfile must be provided to enable a TLS listener.')
    return
  }
  for (const name of ['cafile', 'capath', 'crlfile']) {
    if (settings.has(name) && !certified) failAt(name, `${name} specified without certfile and keyfile.`)
  }
  if (!settings.boolean('require_certificate')) return
  // Mosquitto opens a plain text listener in the first case and refuses every client in the second: neither is what was meant.
  if (!certified) {
    failAt('require_certificate', "'require_certificate true' needs certfile and keyfile: without them the listener would be plain text.")
  } else if (!settings.has('cafile') && !settings.has('capath')) {
    failAt('require_certificate', "'require_certificate true' needs cafile or capath: without them no client certificate can be accepted.")
  }
}

// Mosquitto would let nobody in by such a listener, or by other keys than were meant.
function checkPsk(settings: Settings, global: Settings, problems: Problem[]): void {
  const hasFile = settings.last('psk_file') ?? global.last('psk_file')
  const refuse = (name: string, message: string) =>
    settings.last(name) && fail(problems, 'ERR_CONF_COMBINATION', message, settings.at(name))
  if (hasFile && settings.text('tls_version') === 'tlsv1.3') {
    refuse('tls_version', "'tls_version tlsv1.3' leaves no TLS version: 'psk_file' switches TLS 1.3 off.")
  }
  if (!settings.last('psk_hint')) {
    const at = settings.at('certfile')
    if (hasFile && at) warn(problems, "'psk_file' switches TLS 1.3 off on this listener too, as in Mosquitto.", at)
    return
  }
  if (settings.has('certfile') || settings.has('keyfile')) {
    refuse('psk_hint', 'Only one of certificate or PSK encryption can be enabled for a listener.')
  } else if (!hasFile) {
    refuse('psk_hint', "'psk_hint' needs 'psk_file': without it nobody has a key.")
  }
  if (settings.boolean('use_subject_as_username') && !settings.boolean('use_identity_as_username')) {
    refuse(
      'use_subject_as_username',
      "'use_subject_as_username' refuses every client of a listener with 'psk_hint': there is no certificate."
    )
  }
  for (const name of ['identity_source', 'clientid_must_match']) {
    refuse(name, `'#!${name}' is about certificates: a listener with 'psk_hint' has none.`)
  }
}

// Mosquitto knows neither option: a listener on which one could say nothing is a mistake, not something to be passed over.
function checkIdentity(settings: Settings, problems: Problem[]): void {
  const refuse = (name: string, message: string) =>
    settings.last(name) && fail(problems, 'ERR_CONF_COMBINATION', message, settings.at(name))
  if (settings.last('psk_hint')) return
  if (settings.boolean('use_subject_as_username')) {
    refuse('identity_source', "'#!identity_source' says another username than 'use_subject_as_username true': leave one of them out.")
  } else if (!settings.boolean('use_identity_as_username')) {
    refuse('identity_source', "'#!identity_source' needs 'use_identity_as_username true': without it the username is what the client says.")
  }
  if (!settings.boolean('require_certificate')) {
    refuse('clientid_must_match', "'#!clientid_must_match' needs 'require_certificate true': without it no client has a certificate.")
  }
}

// Only plugins can lead here: Mosquitto would ask both, one after the other.
function checkTwoFiles(name: string, listener: Settings, global: Settings, problems: Problem[]): void {
  if (!listener.last(name) || !global.last(name)) return
  const message = `The listener has a '${name}' of its own beside the global one: two for one listener are not supported yet.`
  fail(problems, 'ERR_CONF_UNAVAILABLE', message, listener.at(name))
}

function applyPlugin({ option, path, at, name, users, settings }: PluginDraft, problems: Problem[]): void {
  if (!option) return
  const setting = settings.last(option)
  if (!setting) {
    if (settings.has('plugin_opt_*')) return
    fail(problems, 'ERR_CONF_COMBINATION', `Plugin '${path}' needs a 'plugin_opt_${option}' line.`, at)
    return
  }
  if (users.length === 0) warn(problems, `Plugin '${name}' is loaded but no listener uses it.`, at)
  for (const user of users) {
    if (user.has(option))
      fail(problems, 'ERR_CONF_UNAVAILABLE', `Plugin '${path}' comes beside another '${option}': two are not supported yet.`, at)
    else user.add(option, setting)
  }
}

function checkBridge(bridge: BridgeDraft, bridges: readonly BridgeDraft[], problems: Problem[]): void {
  const { settings, at } = bridge
  const refuse = (missing: string) => fail(problems, 'ERR_CONF_COMBINATION', `Invalid bridge configuration: ${missing}.`, at)
  if (!settings.has('address')) refuse('no remote addresses defined')
  if (!settings.has('topic')) refuse('no topics defined')
  if (settings.has('bridge_psk') && !settings.has('bridge_identity')) refuse('missing bridge_identity')
  if (settings.has('bridge_identity') && !settings.has('bridge_psk')) refuse('missing bridge_psk')
  const id = settings.text('local_clientid')
  const taken = bridges
    .slice(0, bridges.indexOf(bridge))
    .some(({ settings: other }) => id !== undefined && other.text('local_clientid') === id)
  if (!taken) return
  const message = `Bridge local_clientid '${id}' is not unique. Try changing or setting the local_clientid value for one of the bridges.`
  fail(problems, 'ERR_CONF_DUPLICATE', message, settings.at('local_clientid'))
}
