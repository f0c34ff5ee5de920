// What a reload changes at once and what waits for a restart: configurations in, a plan out.

import { changedGlobalOptions } from './config/difference.js'
import { findOption, findOwnOption } from './config/options.js'
import type { Config, ListenerConfig } from './config/types.js'
import type { Problem } from './errors.js'

export interface ReloadPlan {
  /** To be opened, in the order of the configuration. One whose address another line has already is among them: it can't be opened. */
  readonly added: readonly ListenerConfig[]
  /** To be closed. */
  readonly removed: readonly ListenerConfig[]
  /** Options whose new value waits for a restart. */
  readonly restart: readonly string[]
}

/** `started`: what the process was started with. `open`: the listeners that are there. */
export function planReload(started: Config, next: Config, open: Iterable<ListenerConfig>): ReloadPlan {
  const before = keyed(open)
  const after = keyed(next.listeners)
  const added = next.listeners.filter(listener => !before.has(listenerKey(listener)) || after.get(listenerKey(listener)) !== listener)
  const removed = [...before].flatMap(([key, listener]) => (after.has(key) ? [] : [listener]))
  return { added, removed, restart: changedGlobalOptions(started, next).filter(isReadAtStart) }
}

/**
 * A file that was emptied, or cut off before its listeners, would shut everybody out, and let in without a name who is on this machine: port 1883
 * there is what a configuration without listeners means. Such a reload is refused; at a start it is what was wanted.
 */
export function lostListeners(open: Iterable<ListenerConfig>, { listeners }: Config): readonly Problem[] {
  const isImplied = ({ bind }: ListenerConfig): boolean => bind.kind === 'loopback'
  if (!listeners.every(isImplied) || [...open].every(isImplied)) return []
  const message =
    'The configuration has no listener any more: every client would be disconnected. To do without, stop the broker and start it again.'
  return [{ severity: 'error', code: 'ERR_CONF_VALUE', message }]
}

/** An option that a reload doesn't change. */
export function isReadAtStart(name: string): boolean {
  const [, option] = (name.startsWith('#!') ? findOwnOption(name.slice(2)) : findOption(name)) ?? []
  return option?.reload === 'restart'
}

// Of two lines with one address the first has it.
function keyed(listeners: Iterable<ListenerConfig>): Map<string, ListenerConfig> {
  const map = new Map<string, ListenerConfig>()
  for (const listener of listeners) if (!map.has(listenerKey(listener))) map.set(listenerKey(listener), listener)
  return map
}

/** Mosquitto knows a listener again by its port and address, or by its socket's path. */
export function listenerKey({ port, bind, socketDomain }: ListenerConfig): string {
  switch (bind.kind) {
    case 'unix':
      return `unix ${bind.path}`
    case 'host':
      return `${bind.host} ${port} ${socketDomain ?? ''}`
    case 'any':
    case 'loopback':
      return `${bind.kind} ${port} ${socketDomain ?? ''}`
  }
}

/** `listenerName` of such a text. */
export function nameOfListenerKey(key: string | undefined): string | undefined {
  if (key?.startsWith('unix ')) return `socket ${key.slice('unix '.length)}`
  const [, host, port] = /^(\S+) (\d{1,5}) \S*$/.exec(key ?? '') ?? []
  if (host === undefined) return undefined
  return host === 'any' || host === 'loopback' ? `port ${port}` : `port ${port} on ${host}`
}

/** Is it the listener that a person calls so: by its port, its port and address, or the path of its socket? */
export function isListenerNamed({ port, bind }: ListenerConfig, name: string): boolean {
  const place = bind.kind === 'unix' ? bind.path : bind.kind === 'host' ? `${port} ${bind.host}` : String(port)
  return name === place || (bind.kind !== 'unix' && name === String(port))
}

/** The port in such a text, 0 for a socket: what Mosquitto writes down of a listener. */
export function listenerPort(key: string): number {
  const port = /^\S+ (\d{1,5}) \S*$/.exec(key)?.[1]
  return port === undefined ? 0 : Number(port)
}

/** The key of the listener with this port: Mosquitto's database knows no more of one. */
export function listenerKeyAt(listeners: readonly ListenerConfig[], port: number): string | undefined {
  const listener = listeners.find(each => each.port === port)
  return listener && listenerKey(listener)
}

/** A listener as a person knows it: `port 8883`, `port 8883 on 192.0.2.1`, `socket /run/mqtt`. */
export function listenerName({ port, bind }: Pick<ListenerConfig, 'port' | 'bind'>): string {
  switch (bind.kind) {
    case 'unix':
      return `socket ${bind.path}`
    case 'host':
      return `port ${port} on ${bind.host}`
    case 'any':
    case 'loopback':
      return `port ${port}`
  }
}
