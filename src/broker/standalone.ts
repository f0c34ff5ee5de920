// A broker without a configuration file, as programs written for Aedes make it: hooks decide alone, and Mosquitto's limits apply.

import type { Duplex } from 'node:stream'
import { TLSSocket } from 'node:tls'
import type { AedesOptions } from 'aedes'
import type { Connection as Transport } from '../auth/identity.js'
import type { ListenerConfig } from '../config/types.js'
import { type Log, logEvents } from '../log-events.js'
import type { Bounds } from '../session/host.js'
import type { EngineLimits } from './engine.js'

/** What an embedder's own server listens as. */
export const plainListener: ListenerConfig = Object.freeze({
  port: 0,
  bind: { kind: 'any' },
  security: { allowAnonymous: true, allowZeroLengthClientId: true, autoIdPrefix: 'auto-' },
  username: 'from-connect',
  useUsernameAsClientId: false,
  maxConnections: -1,
  maxQos: 2,
  maxTopicAlias: 10,
  maxTopicAliasBroker: 10
} satisfies ListenerConfig)

/** Mosquitto's, but for what Aedes' options say. */
export function defaultLimits({ maximumPacketSize, receiveMaximum, keepaliveLimit }: AedesOptions): EngineLimits {
  return {
    limits: {
      globalMaxConnections: -1,
      globalMaxClients: -1,
      maxInflightMessages: receiveMaximum ?? 20,
      maxInflightBytes: 0,
      maxQueuedMessages: 1000,
      maxQueuedBytes: 0,
      maxKeepalive: keepaliveLimit ?? 0,
      maxPacketSize: maximumPacketSize ?? 2_000_000,
      messageSizeLimit: 0
    },
    delivery: {
      allowDuplicateMessages: true,
      checkRetainSource: false,
      queueQos0Messages: false,
      upgradeOutgoingQos: false,
      retainAvailable: true,
      retainExpiryInterval: 0,
      sysInterval: 0,
      aclSubscribeCheck: 'off',
      acknowledge: 'stored'
    }
  }
}

/** As with Aedes, 0 is no limit. */
export function boundsOf({ maxClientsIdLength, sessionExpiryIntervalLimit, pendingSessionsLimit }: AedesOptions): Bounds {
  const none = Number.POSITIVE_INFINITY
  return {
    clientIdLength: maxClientsIdLength ?? none,
    sessionExpiry: sessionExpiryIntervalLimit || none,
    pendingSessions: pendingSessionsLimit || none
  }
}

/** An embedder listens to events instead. What went wrong and is no event, or was heard by nobody, is a warning of the process. */
export const standaloneLog: Log = {
  write(name, fields) {
    if (name === 'fault' || name === 'embedderFault')
      process.emitWarning([logEvents[name].text(fields)].flat().join(' '), 'MosquiteroWarning')
  },
  enabled: () => false
}

/** What an embedder's stream tells of itself. */
export function transportOf(stream: Duplex, listener: ListenerConfig): Transport {
  const remoteAddress = textOf(stream, 'remoteAddress')
  const remotePort: unknown = Reflect.get(stream, 'remotePort')
  return {
    listener,
    remoteAddress,
    remotePort: typeof remotePort === 'number' ? remotePort : 0,
    ...(stream instanceof TLSSocket && { tls: { version: stream.getProtocol() ?? '', cipher: stream.getCipher()?.name ?? '' } })
  }
}

function textOf(stream: Duplex, name: string): string {
  const value: unknown = Reflect.get(stream, name)
  return typeof value === 'string' ? value : ''
}
