// Directives in order → what each listener, bridge and the whole broker were told. Knows which line may follow which; settles nothing.

import { basename } from 'node:path'
import { type ErrorCode, type Location, type Problem, systemReason } from '../errors.js'
import { beginsPem, nameOf } from '../words.js'
import { type Reading, readArgument, readsText, type Value } from './argument.js'
import type { ConfigFile, Included } from './include.js'
import { type ConfigObject, objectDirectives } from './object.js'
import { findOption, findOwnOption, type Option } from './options.js'
import { type Setting, Settings } from './settings.js'
import { type Directive, parseDirectives } from './syntax.js'

export interface ListenerDraft {
  /** The line that made it. */
  readonly at: Location
  /** The default listener: the option that made it, for want of a `listener` line above. */
  readonly defaultFor?: string
  readonly settings: Settings
}

export interface BridgeDraft {
  readonly at: Location
  readonly settings: Settings
}

/** Mosquitto's own plugins that are options of ours. */
export interface PluginDraft {
  readonly at: Location
  readonly name: string | undefined
  readonly path: string
  /** The option it stands for; absent: a plugin we cannot run. */
  readonly option: 'acl_file' | 'password_file' | undefined
  /** Who uses it. */
  readonly users: Settings[]
  readonly settings: Settings
}

/** A line that says something, whatever came of it. */
export interface DraftLine {
  readonly directive: Directive
  /** Absent: there is no such option. */
  readonly known?: readonly [name: string, option: Option]
  /** Where it was said; absent: nowhere, for it stands in the wrong place. */
  readonly target?: Settings
  /** The listener it belongs to. */
  readonly listener?: ListenerDraft
}

export interface Draft {
  readonly global: Settings
  readonly own: Settings
  readonly listeners: readonly ListenerDraft[]
  readonly bridges: readonly BridgeDraft[]
  readonly plugins: readonly PluginDraft[]
  readonly perListenerSettings: boolean
  /** Every line, those of an included file before the one that includes it. */
  readonly lines: readonly DraftLine[]
  readonly problems: readonly Problem[]
}

/** Reads everything; whatever is wrong is a problem of the draft, and reading goes on. `object`: instead of a file. */
export function readDraft(main: ConfigFile | undefined, object?: ConfigObject): Draft {
  const reader = new DraftReader(main?.includes)
  if (main) reader.readFile(main.file, main.content)
  if (object) reader.readObject(object)
  return reader
}

/** What the lines of one file have opened so far; never carried into another file. */
interface Context {
  readonly included: boolean
  listener?: ListenerDraft
  bridge?: BridgeDraft
  plugin?: PluginDraft
}

/** A line in its place. */
interface Line {
  /** Of the option; the line itself may say an alias. */
  readonly name: string
  readonly option: Option
  readonly target: Settings
  readonly directive: Directive
  readonly context: Context
}

class DraftReader implements Draft {
  readonly global = new Settings()
  readonly own = new Settings()
  readonly listeners: ListenerDraft[] = []
  readonly bridges: BridgeDraft[] = []
  readonly plugins: PluginDraft[] = []
  readonly lines: DraftLine[] = []
  readonly problems: Problem[] = []
  perListenerSettings = false
  readonly #includes: ReadonlyMap<string, Included> | undefined
  readonly #said = new Set<string>()
  #defaultListener: ListenerDraft | undefined
  #securityTouched = false

  constructor(includes: ReadonlyMap<string, Included> | undefined) {
    this.#includes = includes
  }

  readFile(file: string, content: Uint8Array | string, includedFrom?: Location): void {
    const { directives, problems } = parseDirectives(content, file, includedFrom)
    const context: Context = { included: includedFrom !== undefined }
    const unsaid = [...problems]
    for (const directive of directives) {
      // What the syntax had to say about earlier lines goes first: problems come in the order of the file.
      while (unsaid[0] && isBefore(unsaid[0], directive)) this.problems.push(...unsaid.splice(0, 1))
      this.#readDirective(directive, context)
    }
    this.problems.push(...unsaid)
  }

  readObject(object: ConfigObject): void {
    const { directives, problems, perListenerSettings } = objectDirectives(object)
    this.perListenerSettings = perListenerSettings
    const context: Context = { included: false }
    for (const directive of directives) this.#readDirective(directive, context)
    this.problems.push(...problems)
  }

  #readDirective(read: Directive, context: Context): void {
    const found = read.own ? findOwnOption(read.name) : findOption(read.name)
    const directive = { ...read, name: nameOf(read.name) }
    if (!found) {
      const hint = hintAt(read.name)
      this.#error('ERR_CONF_UNKNOWN', `Unknown configuration variable '${directive.name}'.${hint}`, directive.at)
      this.lines.push({ directive })
      return
    }
    const target = this.#readOption(found, directive, context)
    const isOfListener = target !== undefined && target === context.listener?.settings
    const listener = isOfListener || found[0] === 'listener' ? context.listener : undefined
    this.lines.push({ directive, known: found, ...(target && { target }), ...(listener && { listener }) })
  }

  /** Returns where it was said; undefined: nowhere. */
  #readOption([name, option]: readonly [string, Option], directive: Directive, context: Context): Settings | undefined {
    // Once true it cannot be taken back; Mosquitto doesn't even read the line.
    if (name === 'per_listener_settings' && this.perListenerSettings) return undefined
    const target = directive.own && option.scope === 'global' ? this.own : this.#target(name, option, directive, context)
    if (!target) return undefined
    this.#announce(name, option, directive)
    const label = directive.own ? `#!${name}` : (option.label ?? directive.name)
    const reading = this.#readValue(label, option, directive)
    // A line that opens something opens it even when its argument is wrong, so that what follows is judged in its place.
    if (name === 'listener') this.#openListener(directive.at, context)
    if (name === 'connection') this.#openBridge(directive.at, context)
    const stored = option.sets ?? name
    if ('refusal' in reading) {
      target.touch(stored)
    } else if (option.again === 'refused' && target.last(stored)) {
      this.#error('ERR_CONF_DUPLICATE', option.twice ?? `Duplicate '${label}' value in configuration.`, directive.at)
    } else if (option.unavailable !== undefined) {
      const message = `The '${directive.name}' option is not supported yet: ${option.unavailable}.`
      this.#error('ERR_CONF_UNAVAILABLE', message, directive.at)
    } else {
      this.#apply({ name, option, target, directive, context }, reading.value)
    }
    return target
  }

  #readValue(label: string, option: Option, { value, words, malformed, at }: Directive): Reading {
    if (words !== undefined) return { value: words }
    if (malformed && readsText(option.argument)) return this.#refuse('Malformed UTF-8 in configuration.', at)
    const reading = readArgument(option.argument, label, value)
    if ('refusal' in reading) {
      this.#error('ERR_CONF_VALUE', reading.refusal, at)
      return reading
    }
    if (reading.notice !== undefined) this.#say('notice', 'ERR_CONF_VALUE', reading.notice, at)
    if (reading.warning !== undefined) this.#say('warning', 'ERR_CONF_VALUE', reading.warning, at)
    return reading
  }

  /** The scope that the line writes to; undefined when it stands in the wrong place, which has been said. */
  #target(name: string, option: Option, directive: Directive, context: Context): Settings | undefined {
    switch (option.scope) {
      case 'global':
        return this.global
      case 'listener':
        return name === 'listener' ? this.global : this.#listenerOf(name, option, directive, context)?.settings
      case 'security':
        if (!this.perListenerSettings) return this.#touchSecurity(this.global)
        if (context.listener) return this.#touchSecurity(context.listener.settings)
        return this.#misplaced(`The '${directive.name}' option requires a listener to be defined first.`, directive)
      case 'bridge':
        if (name === 'connection') return this.global
        return (
          context.bridge?.settings ?? this.#misplaced(`The '${directive.name}' option requires a bridge to be defined first.`, directive)
        )
      case 'plugin':
        if (context.plugin) return context.plugin.settings
        return this.#misplaced(`The '${directive.name}' option requires plugin/global_plugin/plugin_load to be defined first.`, directive)
    }
  }

  #listenerOf(name: string, option: Option, directive: Directive, context: Context): ListenerDraft | undefined {
    if (name === 'port' || name === 'bind_address') {
      context.listener = this.#openDefaultListener(directive)
      return context.listener
    }
    const { listener } = context
    const missing = option.place === 'own' ? !listener || listener.defaultFor !== undefined : option.place === 'listener' && !listener
    const written = directive.own ? `#!${directive.name}` : directive.name
    if (missing) return this.#misplaced(`The '${written}' option requires a listener to be defined first.`, directive)
    context.listener = listener ?? this.#openDefaultListener(directive)
    return context.listener
  }

  #openDefaultListener({ name, at }: Directive): ListenerDraft {
    if (!this.#defaultListener) {
      this.#defaultListener = { at, defaultFor: name, settings: new Settings() }
      this.listeners.push(this.#defaultListener)
    }
    return this.#defaultListener
  }

  #touchSecurity(settings: Settings): Settings {
    this.#securityTouched = true
    return settings
  }

  #apply(line: Line, value: Value): void {
    const { name, target, context } = line
    const { at } = line.directive
    const words = typeof value === 'object' ? value : [String(value)]
    switch (name) {
      case 'listener':
        context.listener?.settings.add('listener', { value, at })
        return
      case 'connection':
        this.#nameBridge(String(value), at, context)
        return
      case 'include_dir':
        this.#include(String(value), at, context)
        return
      case 'per_listener_settings':
        this.#setPerListener(value === true, at)
        return
      case 'plugin':
      case 'global_plugin':
        this.#touchSecurity(target)
        this.#openPlugin({ name: undefined, path: words[0] ?? '', users: [target] }, at, context)
        return
      case 'plugin_load':
        this.#openPlugin({ name: words[0], path: words[1] ?? '', users: [] }, at, context)
        return
      case 'plugin_use':
        this.#usePlugin(String(value), target, at, context)
        return
      case 'plugin_opt_*':
        this.#setPluginOption(line.directive, String(value), context)
        return
    }
    this.#remark(line, words)
    this.#warnUnsupported(line, words)
    this.#checkBridgeTls(name, target, at)
    target.add(line.option.sets ?? name, { value, at })
  }

  #openListener(at: Location, context: Context): void {
    context.listener = { at, settings: new Settings() }
    this.listeners.push(context.listener)
  }

  #openBridge(at: Location, context: Context): void {
    context.bridge = { at, settings: new Settings() }
  }

  #nameBridge(name: string, at: Location, { bridge }: Context): void {
    if (!bridge) return
    if (this.bridges.some(({ settings }) => settings.text('connection') === name)) {
      this.#error('ERR_CONF_DUPLICATE', `Duplicate bridge name '${name}'.`, at)
    }
    bridge.settings.add('connection', { value: name, at })
    this.bridges.push(bridge)
    this.#warnOnce('connection', "The 'connection' option is accepted but has no effect yet: no bridge is opened.", at)
  }

  #include(dir: string, at: Location, context: Context): void {
    if (context.included) {
      this.#error('ERR_CONF_PLACE', 'The include_dir option is only valid in the main configuration file.', at)
      return
    }
    const included = this.#includes?.get(dir)
    if (!included) throw new TypeError(`include_dir ${dir} was not read: pass what includeDirs() names`)
    if (included instanceof Error) {
      this.#error('ERR_CONF_OPEN', `Unable to open include_dir '${dir}'. ${systemReason(included)}.`, at)
      return
    }
    for (const { file, content } of included) {
      if (content instanceof Error) this.#error('ERR_CONF_OPEN', `Unable to open config file '${file}'. ${systemReason(content)}.`, at)
      else this.readFile(file, content, at)
    }
  }

  #setPerListener(value: boolean, at: Location): void {
    if (value && this.#securityTouched) {
      this.#error('ERR_CONF_PLACE', 'per_listener_settings must be set before any other security settings.', at)
    }
    this.perListenerSettings = value
  }

  /** What Mosquitto says about single lines that it takes. */
  #remark({ name, target, directive: { at } }: Line, words: readonly string[]): void {
    if (name === 'port' && target.has('port')) {
      this.#say('warning', 'ERR_CONF_DUPLICATE', 'Default listener port specified multiple times. Only the latest will be used.', at)
    }
    if (name === 'log_dest' && words[0] === 'file' && target.all(name).some(isLogFile)) {
      this.#error('ERR_CONF_DUPLICATE', 'Duplicate "log_dest file" value.', at)
    }
    // In an object each listener has its own.
    if (name === 'allow_anonymous' && this.perListenerSettings && at.line !== undefined) {
      const message = `You are using the '${name}' option with 'per_listener_settings true'. Please replace this with 'listener_allow_anonymous'.`
      this.#say('notice', 'ERR_CONF_DEPRECATED', message, at)
    }
  }

  #openPlugin({ name, path, users }: Pick<PluginDraft, 'name' | 'path' | 'users'>, at: Location, context: Context): void {
    if (name !== undefined && this.plugins.some(plugin => plugin.name === name)) {
      this.#error('ERR_CONF_DUPLICATE', `Duplicate plugin name '${name}'.`, at)
    }
    const option = bundledPlugins.get(basename(path))
    if (!option) {
      const message = `Plugin '${path}' cannot be loaded: C plugins are not run, only Mosquitto's acl-file and password-file plugins have a counterpart here.`
      this.#error('ERR_CONF_UNAVAILABLE', message, at)
    }
    context.plugin = { at, name, path, option, users, settings: new Settings() }
    this.plugins.push(context.plugin)
  }

  #usePlugin(name: string, user: Settings, at: Location, context: Context): void {
    const plugin = this.plugins.find(loaded => loaded.name === name)
    if (!plugin) {
      this.#error('ERR_CONF_PLACE', `Plugin '${name}' not previously loaded.`, at)
      return
    }
    plugin.users.push(user)
    context.plugin = plugin
  }

  #setPluginOption({ name, at }: Directive, value: string, { plugin }: Context): void {
    const key = name.slice(name.indexOf('_opt_') + '_opt_'.length)
    if (key.length < 3) {
      this.#error('ERR_CONF_VALUE', "Invalid 'plugin_opt_' config option.", at)
      return
    }
    if (!plugin?.option) return
    if (key === plugin.option) plugin.settings.add(key, { value, at })
    else this.#warnOnce(name, `The '${name}' option is accepted but has no effect yet.`, at)
  }

  // A bridge is encrypted with certificates or with a pre-shared key.
  #checkBridgeTls(name: string, bridge: Settings, at: Location): void {
    if (bridgeCertificateOptions.has(name) && bridgeKeyOptions.some(other => bridge.has(other))) {
      this.#error('ERR_CONF_COMBINATION', `'${name}': Cannot use both certificate and psk encryption in a single bridge.`, at)
    }
    if (bridgeKeyOptions.includes(name) && [...bridgeCertificateOptions].some(other => bridge.has(other))) {
      this.#error('ERR_CONF_COMBINATION', `'${name}': Cannot use both certificate and identity encryption in a single bridge.`, at)
    }
  }

  #announce(name: string, option: Option, { name: written, at }: Directive): void {
    if (option.deprecated === undefined || this.#said.has(`deprecated ${name}`)) return
    this.#said.add(`deprecated ${name}`)
    const message = `The '${written}' option is now deprecated and will be removed in version 3.0 of Mosquitto. ${option.deprecated}`
    this.#say('notice', 'ERR_CONF_DEPRECATED', message.trimEnd(), at)
  }

  #warnUnsupported({ name, option, directive: { name: written, at } }: Line, words: readonly string[]): void {
    if (option.support === 'later') this.#warnOnce(name, `The '${written}' option is accepted but has no effect yet.`, at)
    if (option.support === 'meaningless') this.#warnOnce(name, `The '${written}' option is accepted but has no meaning here.`, at)
    if (name === 'log_dest' && words[0] === 'dlt') this.#warnOnce('log_dest dlt', "'log_dest dlt' is accepted but has no effect.", at)
    if (name === 'tls_version' && words[0] === 'tlsv1.1') {
      this.#warnOnce('tlsv1.1', 'TLS 1.1 is not offered: the lowest version is TLS 1.2.', at)
    }
  }

  #warnOnce(what: string, message: string, at: Location): void {
    if (this.#said.has(what)) return
    this.#said.add(what)
    this.#say('warning', 'ERR_CONF_NOT_SUPPORTED', message, at)
  }

  #refuse(refusal: string, at: Location): Reading {
    this.#error('ERR_CONF_VALUE', refusal, at)
    return { refusal }
  }

  #misplaced(message: string, { at }: Directive): undefined {
    this.#error('ERR_CONF_PLACE', message, at)
  }

  #error(code: ErrorCode, message: string, at: Location): void {
    this.#say('error', code, message, at)
  }

  #say(severity: Problem['severity'], code: ErrorCode, message: string, at: Location): void {
    this.problems.push({ severity, code, message, at })
  }
}

function hintAt(name: string): string {
  if (beginsPem(name)) return ' This is a key or certificate, and is not read any further.'
  return name.startsWith('\ufeff') ? ' A byte order mark stands before it: save the file without.' : ''
}

const bundledPlugins: ReadonlyMap<string, 'acl_file' | 'password_file'> = new Map([
  ['mosquitto_acl_file.so', 'acl_file'],
  ['mosquitto_password_file.so', 'password_file']
])

const bridgeCertificateOptions: ReadonlySet<string> = new Set(['bridge_cafile', 'bridge_capath', 'bridge_certfile', 'bridge_keyfile'])
const bridgeKeyOptions: readonly string[] = ['bridge_identity', 'bridge_psk']

function isBefore(problem: Problem, { at }: Directive): boolean {
  return (problem.at?.line ?? 0) <= (at.line ?? 0)
}

const isLogFile = ({ value }: Setting): boolean => typeof value === 'object' && value[0] === 'file'
