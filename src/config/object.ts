// A configuration as an object in a program instead of a file: the same options by the same names, made into the directives that the lines
// of a file would be, so that they are read, checked and complained about by the same code.

import type { Problem } from '../errors.js'
import { type Argument, findOption, findOwnOption, type options, type ownOptions, type Scope } from './options.js'
import type { Directive } from './syntax.js'

type Table = typeof options

type ValueOf<A extends Argument> = A extends { readonly kind: 'boolean' }
  ? boolean
  : A extends { readonly kind: 'integer' }
    ? number
    : A extends { readonly kind: 'keyword'; readonly words: readonly (infer Word)[] }
      ? Word
      : A extends { readonly kind: 'protocol versions' }
        ? readonly (3 | 4 | 5)[]
        : string

/** What adds up in a file is an array here, or a single one. */
type Given<O extends { readonly argument: Argument }> = O extends { readonly again: 'adds' }
  ? ValueOf<O['argument']> | readonly ValueOf<O['argument']>[]
  : ValueOf<O['argument']>

type Names<S extends Scope> = { [Name in keyof Table]: Table[Name]['scope'] extends S ? Name : never }[keyof Table]

type Options<S extends Scope, Without extends string> = {
  readonly [Name in Exclude<Names<S>, Without>]?: Given<Table[Name]>
}

/** One listener: mosquitto.conf's options by their names. */
export interface ListenerObject
  extends Options<'listener' | 'security', 'listener' | 'port' | 'bind_address' | PluginName>,
    OwnOptions<'listener'> {
  /** TCP; 0: one that is free, which `server.ports` tells. Default: 1883. */
  readonly port?: number
  /** A host name or address to listen on; absent: all. */
  readonly address?: string
  /** Of a Unix socket, instead of `port` and `address`. */
  readonly path?: string
}

/**
 * mosquitto.conf as an object: its global options by their names, our own without `#!`, and `listeners`. Paths are relative to the process'
 * folder. Options of authentication (`acl_file`, `password_file`, `allow_anonymous`, …) hold for all listeners, except those that have the same
 * option themselves.
 */
export interface ConfigObject
  extends Options<'global' | 'security', 'include_dir' | 'per_listener_settings' | PluginName>,
    OwnOptions<'global'> {
  /** None: port 1883 of this machine, for everybody, as Mosquitto without a configuration. */
  readonly listeners?: readonly ListenerObject[]
}

type OwnTable = typeof ownOptions

type OwnOptions<S extends Scope> = {
  readonly [Name in keyof OwnTable as OwnTable[Name]['scope'] extends S ? Name : never]?: Given<OwnTable[Name]>
}

type PluginName = 'plugin' | 'global_plugin' | 'plugin_load' | 'plugin_use' | 'auth_plugin'

export interface ObjectDirectives {
  /** A listener has options of authentication of its own. */
  readonly perListenerSettings: boolean
  readonly directives: readonly Directive[]
  readonly problems: readonly Problem[]
}

/** What problems call the object. */
const root = 'config'
/** What an object has another form for, or a file alone can have. */
const notHere: ReadonlySet<string> = new Set(['listener', 'port', 'bind_address', 'include_dir', 'per_listener_settings', 'connection'])

/** The directives of an object, in an order in which a file could have them. Never throws on what a person wrote. */
export function objectDirectives(config: ConfigObject): ObjectDirectives {
  return new ObjectReader().read(config)
}

class ObjectReader implements ObjectDirectives {
  readonly directives: Directive[] = []
  readonly problems: Problem[] = []
  perListenerSettings = false

  read(config: ConfigObject): ObjectDirectives {
    const { listeners = [], ...rest } = config
    const all = Array.isArray(listeners) ? listeners : []
    if (!Array.isArray(listeners)) this.#refuse("'listeners' must be an array of objects.", `${root}.listeners`)
    const [general, security] = split(entriesOf(rest), isSecurity)
    const isPerListener = all.some(listener => entriesOf(listener).some(isSecurity))
    this.perListenerSettings = isPerListener
    for (const [name, value] of isPerListener ? general : [...general, ...security]) this.#addOption(name, value, root)
    for (const [i, listener] of all.entries()) this.#readListener(listener, `${root}.listeners[${i}]`, isPerListener ? security : [])
    return this
  }

  // `shared`: what holds for all that don't say otherwise.
  #readListener(listener: ListenerObject, place: string, shared: readonly Entry[]): void {
    if (typeof listener !== 'object' || listener === null) {
      this.#refuse("'listeners' must be an array of objects.", place)
      return
    }
    const { port, address, path, ...rest } = listener
    if (path !== undefined && (port !== undefined || address !== undefined)) {
      this.#refuse("'path' opens a Unix socket, which has no 'port' and no 'address'.", `${place}.path`)
    }
    if (port !== undefined && !isPort(port)) this.#refuse("'port' must be a whole number from 0 to 65535.", `${place}.port`)
    for (const [name, value] of Object.entries({ address, path })) {
      if (value !== undefined && !isWord(value)) this.#refuse(`'${name}' must be a text, without blanks.`, `${place}.${name}`)
    }
    this.#openListener(path === undefined ? tcpWords(port ?? 1883, address) : ['0', String(path)], place)
    const own = entriesOf(rest)
    for (const [name, value] of shared) if (!own.some(([known]) => known === name)) this.#addOption(name, value, root)
    for (const [name, value] of own) this.#addOption(name, value, place)
  }

  #openListener(words: readonly string[], place: string): void {
    this.directives.push({ name: 'listener', value: '', words, own: false, malformed: false, at: { file: place } })
  }

  #addOption(name: string, value: unknown, place: string): void {
    if (notHere.has(name)) {
      this.#refuse(`'${name}' has no place in an object: its listeners are { port, address, path }.`, `${place}.${name}`)
      return
    }
    const several = Array.isArray(value) && !isList(name)
    for (const [i, one] of (several ? value : [value]).entries()) {
      const at = several ? `${place}.${name}[${i}]` : `${place}.${name}`
      const text = textOf(one)
      if (text === undefined) this.#refuse(`'${name}' must be a text, a number or a boolean.`, at)
      else this.#add(name, text, at)
    }
  }

  #add(name: string, value: string, file: string): void {
    const own = findOwnOption(name) !== undefined && findOption(name) === undefined
    this.directives.push({ name, value, own, malformed: false, at: { file } })
  }

  #refuse(message: string, file: string): void {
    this.problems.push({ severity: 'error', code: 'ERR_CONF_VALUE', message, at: { file } })
  }
}

const isPort = (value: unknown): boolean => typeof value === 'number' && Number.isInteger(value) && value >= 0 && value <= 65_535
const isWord = (value: unknown): boolean => typeof value === 'string' && /^\S+$/.test(value)

/** With port 0 a line of a file could only mean a Unix socket. */
const tcpWords = (port: number, address: string | undefined): readonly string[] =>
  address === undefined ? [String(port)] : [String(port), address, 'host']

type Entry = readonly [name: string, value: unknown]

const entriesOf = (object: object | null): readonly Entry[] => Object.entries(object ?? {}).filter(([, value]) => value !== undefined)

const isSecurity = ([name]: Entry): boolean => findOption(name)?.[1].scope === 'security'

const isList = (name: string): boolean => findOption(name)?.[1].argument.kind === 'protocol versions'

function split(entries: readonly Entry[], is: (entry: Entry) => boolean): readonly [readonly Entry[], readonly Entry[]] {
  return [entries.filter(entry => !is(entry)), entries.filter(is)]
}

/** As a line of a file would say it; undefined: no line could. */
function textOf(value: unknown): string | undefined {
  if (typeof value === 'string' || typeof value === 'boolean' || typeof value === 'number') return String(value)
  if (Array.isArray(value) && value.every(each => typeof each === 'number')) return value.join(' ')
  return undefined
}
