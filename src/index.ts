// The library: start the broker of the command line in your own process, or embed the Aedes that it is.

export type {
  Administration,
  CertificateReport,
  ClientQuery,
  ClientReport,
  KickReport,
  QueueReport,
  RetainedReport,
  SubscriptionQuery,
  SubscriptionReport
} from './admin/report.js'
export type { Access, Decision, Reason } from './auth/acl.js'
export type { AclAccess, AclRule } from './auth/acl-file.js'
export type { DecisionCount } from './auth/decision-counters.js'
export type { ClientCertificate, Connection, Identity } from './auth/identity.js'
export type { AclCounts } from './broker/acl-log.js'
export type { Hear, Mq } from './broker/audience.js'
export { Broker, type BrokerOptions } from './broker/broker.js'
export type { Client, DisconnectOptions } from './broker/client.js'
export type { Done } from './broker/pending.js'
export type { ConfigObject, ListenerObject } from './config/object.js'
export type {
  AdminSocketConfig,
  AutosaveConfig,
  Bind,
  Config,
  DeliveryConfig,
  FileSetting,
  LimitsConfig,
  ListenerConfig,
  LogConfig,
  LogDestination,
  LogType,
  NamedFile,
  SecurityConfig,
  StoreConfig,
  TlsConfig,
  UsernameSource,
  Verbosity
} from './config/types.js'
export { BrokerError, type ErrorCode, exitStatus, type Location, type Problem, ProblemsError } from './errors.js'
export type { BoundAddress } from './net/bind.js'
export type { Qos, Version } from './protocol/packets.js'
export type { Properties, UserProperties } from './protocol/properties.js'
export type { Change, Counted, Loss, LossReason, ReloadReport, ReloadResult } from './reload-report.js'
export { createServer, type Server, type ServerHooks, type ServerOptions } from './server.js'
