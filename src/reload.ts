// What a reload changes at once and what waits for a restart: configurations in, a plan out.

import type { Config, ListenerConfig } from './config/types.js'

export interface ReloadPlan {
  /** Ports are opened and closed at start only, as with Mosquitto. */
  readonly added: readonly ListenerConfig[]
  readonly removed: readonly ListenerConfig[]
  /** Options whose new value waits for a restart. */
  readonly restart: readonly string[]
}

/** Global options that are read once at start. What is not in this table takes effect at once. */
const restartOptions: Readonly<Record<string, (config: Config) => unknown>> = {
  user: config => config.user?.name,
  pid_file: config => config.pidFile?.path,
  '#!store': config => (config.store.kind === 'redis' ? config.store.url : config.store.kind)
}

/**
 * `started`: what the process was started with. `open`: the listeners that are there, which an earlier reload may have left without a line
 * in the configuration.
 */
export function planReload(started: Config, next: Config, open: Iterable<ListenerConfig>): ReloadPlan {
  const before = keyed(open)
  const after = keyed(next.listeners)
  const added = [...after].flatMap(([key, listener]) => (before.has(key) ? [] : [listener]))
  const removed = [...before].flatMap(([key, listener]) => (after.has(key) ? [] : [listener]))
  const restart = Object.entries(restartOptions).flatMap(([name, value]) => (value(started) === value(next) ? [] : [name]))
  return { added, removed, restart }
}

function keyed(listeners: Iterable<ListenerConfig>): Map<string, ListenerConfig> {
  return new Map(Array.from(listeners, listener => [listenerKey(listener), listener]))
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

/** A listener as a person knows it: `port 8883`, `port 8883 on 192.0.2.1`, `socket /run/mqtt`. */
export function listenerName({ port, bind }: ListenerConfig): string {
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
