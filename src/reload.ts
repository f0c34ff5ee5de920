// What a reload changes at once and what waits for a restart: two configurations in, a plan out.

import type { Config, ListenerConfig } from './config/types.js'

export interface ReloadPlan {
  /** Listeners that stay open and from now on follow the new lines. */
  readonly kept: readonly { readonly before: ListenerConfig; readonly after: ListenerConfig }[]
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

/** `open`: the listeners that are there, which an earlier reload may have left without a line in the configuration. */
export function planReload(before: Config, after: Config, open: Iterable<ListenerConfig>): ReloadPlan {
  const old = new Map(Array.from(open, listener => [listenerKey(listener), listener]))
  const kept: { before: ListenerConfig; after: ListenerConfig }[] = []
  const added: ListenerConfig[] = []
  for (const listener of after.listeners) {
    const key = listenerKey(listener)
    const same = old.get(key)
    if (same) kept.push({ before: same, after: listener })
    else added.push(listener)
    old.delete(key)
  }
  const restart = Object.entries(restartOptions).flatMap(([name, value]) => (value(before) === value(after) ? [] : [name]))
  return { kept, added, removed: [...old.values()], restart }
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
