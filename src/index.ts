// The library: start the broker of the command line in your own process.

export type { Access, Decision } from './auth/acl.js'
export type { ClientCertificate, Connection, Identity } from './auth/identity.js'
export { Broker, type BrokerOptions } from './broker/broker.js'
export type { Config, ListenerConfig } from './config/types.js'
export { BrokerError, type ErrorCode, type Location, type Problem, ProblemsError } from './errors.js'
export { createServer, type Server, type ServerOptions } from './server.js'
