// A broker behind a plain TCP port, with real policies and no configuration file: for tests of the broker alone.

import { type AddressInfo, createServer } from 'node:net'
import type { Test } from 'tap'
import { compileAcl, openAcl } from '../../dist/auth/acl.js'
import { parseAcl } from '../../dist/auth/acl-file.js'
import type { Connection } from '../../dist/auth/identity.js'
import { type PasswordEntry, parsePasswordFile } from '../../dist/auth/password-file.js'
import { openPasswordHasher, type PasswordHasher } from '../../dist/auth/password-hash.js'
import { buildPolicy, type Policy } from '../../dist/auth/policy.js'
import { LoginThrottle } from '../../dist/auth/throttle.js'
import { Broker } from '../../dist/broker/broker.js'
import type { DeliveryConfig, LimitsConfig, ListenerConfig } from '../../dist/config/types.js'
import { type Log, type LogEventName, type LogFields, logEvents } from '../../dist/log-events.js'
import type { Store } from '../../dist/storage.js'
import { type AedesPersistence, type AedesStoreOptions, openAedesStore } from '../../dist/store/aedes.js'
import { openMemoryStore } from '../../dist/store/memory.js'
import { connectMqtt, type MqttClient } from './mqtt.js'

type Tap = Pick<Test, 'teardown'>

export interface RecordedLog extends Log {
  /** Lines of all types but debug, in the text format. */
  readonly lines: string[]
  readonly debug: string[]
  /** Both, in the order they came. */
  readonly all: string[]
}

export function recordLog({ debug: isDebugging = true } = {}): RecordedLog {
  const lines: string[] = []
  const debug: string[] = []
  const all: string[] = []
  return {
    lines,
    debug,
    all,
    enabled: type => isDebugging || type !== 'debug',
    write<Name extends LogEventName>(name: Name, fields: LogFields<Name>) {
      const { type, text } = logEvents[name]
      const found = [text(fields)].flat()
      const target = type === 'debug' ? debug : lines
      target.push(...found)
      all.push(...found)
    }
  }
}

export const plainListener: ListenerConfig = {
  port: 0,
  bind: { kind: 'loopback' },
  security: { allowAnonymous: true, allowZeroLengthClientId: true, autoIdPrefix: 'auto-' },
  username: 'from-connect',
  useUsernameAsClientId: false,
  maxConnections: -1,
  maxQos: 2,
  maxTopicAlias: 10,
  maxTopicAliasBroker: 10
}

export const mosquittoLimits: LimitsConfig = {
  globalMaxConnections: -1,
  globalMaxClients: -1,
  maxInflightMessages: 20,
  maxInflightBytes: 0,
  maxQueuedMessages: 1000,
  maxQueuedBytes: 0,
  maxKeepalive: 0,
  maxPacketSize: 2_000_000,
  messageSizeLimit: 0
}

export const mosquittoDelivery: DeliveryConfig = {
  allowDuplicateMessages: true,
  checkRetainSource: true,
  queueQos0Messages: false,
  upgradeOutgoingQos: false,
  retainAvailable: true,
  retainExpiryInterval: 0,
  sysInterval: 0,
  aclSubscribeCheck: 'warn',
  acknowledge: 'stored'
}

export interface BareOptions {
  readonly listener?: Partial<ListenerConfig>
  readonly allowAnonymous?: boolean
  /** The text of an acl_file; absent: none. */
  readonly acl?: string
  /** The text of an ACL file that is asked beside it. */
  readonly shadow?: string
  /** The text of a password_file; absent: none. */
  readonly passwords?: string
  readonly clientIdPrefix?: string
  readonly limits?: Partial<LimitsConfig>
  readonly delivery?: Partial<DeliveryConfig>
  /** Absent: memory. */
  readonly store?: Store
  /** An Aedes persistence instead. */
  readonly persistence?: AedesPersistence
  readonly availability?: NonNullable<AedesStoreOptions['availability']>
  /** False: no lines of the type debug, which cost time. */
  readonly debug?: boolean
  /** What net would have found out about the transport. */
  readonly tls?: Connection['tls']
}

export interface BareBroker {
  readonly broker: Broker
  readonly port: number
  readonly log: RecordedLog
  /** Builds the policy anew, as a reload would. */
  reload(options: BareOptions): void
  policyOf(connection: Connection): Policy
  connect(protocolVersion?: 3 | 4 | 5): Promise<MqttClient>
  close(): Promise<void>
}

export function policyFrom(options: BareOptions, hasher: PasswordHasher, log: Log, sleep = async (_milliseconds: number) => {}): Policy {
  const listener = listenerFrom(options)
  return buildPolicy({
    listener,
    acl: options.acl === undefined ? openAcl : compileAcl(parseAcl(options.acl, 'acl').rules),
    shadow: options.shadow === undefined ? undefined : compileAcl(parseAcl(options.shadow, 'new.acl').rules),
    passwords: options.passwords === undefined ? undefined : entriesOf(options.passwords),
    clientIdPrefix: options.clientIdPrefix,
    hasher,
    log,
    throttle: new LoginThrottle(),
    now: () => performance.now(),
    sleep
  })
}

export async function startBareBroker(t: Tap, options: BareOptions = {}): Promise<BareBroker> {
  const log = recordLog(options)
  const hasher = openPasswordHasher()
  let policy = policyFrom(options, hasher, log)
  const broker = await Broker.createBroker({
    engine: {
      limits: { ...mosquittoLimits, ...options.limits },
      delivery: { ...mosquittoDelivery, ...options.delivery },
      log,
      policyOf: () => policy,
      policyOfAbsent: () => policy,
      store: storeFrom(options, log)
    }
  })
  const listener = listenerFrom(options)
  const server = createServer(socket => {
    const { remoteAddress = '', remotePort = 0 } = socket
    broker.accept(socket, { listener, remoteAddress, remotePort, ...(options.tls !== undefined && { tls: options.tls }) })
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const port = portOf(server.address())
  const clients: MqttClient[] = []
  const close = async () => {
    for (const client of clients) client.destroy()
    server.close()
    await broker.close()
    await hasher.close()
  }
  t.teardown(close)
  return {
    broker,
    port,
    log,
    reload: next => {
      policy = policyFrom(next, hasher, log)
      broker.policiesChanged()
    },
    policyOf: () => policy,
    connect: async (protocolVersion = 4) => {
      const client = await connectMqtt(port, protocolVersion)
      clients.push(client)
      return client
    },
    close
  }
}

export function portOf(address: AddressInfo | string | null): number {
  if (address === null || typeof address === 'string') throw new Error('not a TCP port')
  return address.port
}

function listenerFrom({ listener, allowAnonymous = true }: BareOptions): ListenerConfig {
  const security = { ...plainListener.security, allowAnonymous, ...listener?.security }
  return { ...plainListener, ...listener, security }
}

function entriesOf(text: string): ReadonlyMap<string, PasswordEntry> {
  const { entries, problems } = parsePasswordFile(text, 'passwords', { lenient: false })
  if (problems.length > 0) throw new Error(problems.map(problem => problem.message).join('\n'))
  return entries
}

function storeFrom({ store, persistence, availability }: BareOptions, log: Log): Store {
  if (persistence === undefined) return store ?? openMemoryStore()
  const failed = (error: unknown) => log.write('storeFailed', { reason: String(error) })
  return openAedesStore(persistence, { failed, ...(availability !== undefined && { availability }) })
}
