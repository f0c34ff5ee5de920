// What can be wrong, as data: a code, a place, a sentence for a person. Wrong input is a Problem, a failed action a BrokerError.

/** A place in a file that a person wrote. `line` starts at 1; `includedFrom` is the `include_dir` line that led here. */
export interface Location {
  readonly file: string
  readonly line?: number
  readonly includedFrom?: Location
}

/**
 * Exit status by error code; 0 for what is a warning only. The numbers are Mosquitto's: 1 generic (cannot open a port, a log or TLS
 * material), 3 invalid or missing configuration, invalid command line, ACL or password content, 13 ACL or password file that cannot be
 * opened. docs/errors.md has a row for every message.
 */
export const exitStatus = {
  ERR_CONF_OPEN: 3,
  ERR_CONF_UNKNOWN: 3,
  ERR_CONF_VALUE: 3,
  ERR_CONF_DUPLICATE: 3,
  ERR_CONF_PLACE: 3,
  ERR_CONF_COMBINATION: 3,
  // Known to Mosquitto, not yet to us, and ignoring it would open more than the file says.
  ERR_CONF_UNAVAILABLE: 3,
  ERR_CONF_NOT_SUPPORTED: 0,
  ERR_CONF_DEPRECATED: 0,
  ERR_ACL_OPEN: 13,
  ERR_ACL_SYNTAX: 3,
  ERR_ACL_CASE: 1,
  ERR_ACL_USER: 0,
  ERR_ACCESS_OPEN: 0,
  ERR_ACCESS_CLOSED: 0,
  ERR_ACCESS_UNPROVEN: 0,
  ERR_PSK_OPEN: 13,
  ERR_PSK_SYNTAX: 3,
  ERR_PASSWORD_OPEN: 13,
  ERR_PASSWORD_SYNTAX: 3,
  ERR_PASSWORD_BUSY: 1,
  ERR_PASSWORD_HASH: 1,
  ERR_FILE_PERMISSIONS: 0,
  ERR_TLS_FILE: 1,
  ERR_TLS_CERTIFICATE: 1,
  ERR_TLS_KEY: 1,
  ERR_TLS_KEY_ENCRYPTED: 1,
  ERR_TLS_KEY_MISMATCH: 1,
  ERR_TLS_CA: 1,
  ERR_TLS_CRL: 1,
  ERR_TLS_CIPHERS: 1,
  ERR_TLS_SAME_SUBJECT: 0,
  ERR_TLS_EXPIRES_SOON: 0,
  ERR_LISTEN_ADDRESS_IN_USE: 1,
  ERR_LISTEN_PERMISSION: 1,
  ERR_LISTEN_ADDRESS: 1,
  ERR_PID_FILE: 1,
  ERR_LOG_FILE: 1,
  ERR_USER: 1,
  ERR_STORE: 1,
  ERR_STORE_OPEN: 1,
  ERR_STORE_IN_USE: 1,
  ERR_AEDES: 1,
  ERR_PKI_FILE: 1,
  ERR_PKI_EXISTS: 1,
  ERR_PKI_INPUT: 1
} as const

export type ErrorCode = keyof typeof exitStatus

/**
 * One thing wrong with what a person wrote. An `error` refuses the whole snapshot (start ends, reload keeps the old one);
 * a `warning` or `notice` is logged and changes nothing. `message` ends with a full stop and, where Mosquitto has a sentence
 * for it, is that sentence without its leading `Error: `. Never holds a secret.
 */
export interface Problem {
  readonly severity: 'error' | 'warning' | 'notice'
  readonly code: ErrorCode
  readonly message: string
  readonly at?: Location
}

/** An action that failed: a port that cannot be opened, a file that cannot be written. `cause` keeps the original error. */
export class BrokerError extends Error {
  readonly code: ErrorCode
  readonly at: Location | undefined

  constructor(code: ErrorCode, message: string, at?: Location, options?: ErrorOptions) {
    super(message, options)
    this.name = 'BrokerError'
    this.code = code
    this.at = at
  }
}

/** What a person wrote is wrong, in one or more places. Its code is that of the first error. */
export class ProblemsError extends BrokerError {
  readonly problems: readonly Problem[]

  constructor(problems: readonly Problem[]) {
    const first = problems.find(({ severity }) => severity === 'error')
    super(first?.code ?? 'ERR_CONF_VALUE', first?.message ?? 'The configuration cannot be used.', first?.at)
    this.name = 'ProblemsError'
    this.problems = problems
  }
}

/** `FILE:LINE`, or `FILE` alone. */
export function formatLocation(at: Location): string {
  return at.line === undefined ? at.file : `${at.file}:${at.line}`
}

/**
 * The lines of a problem as Mosquitto prints them: an error is followed by `Error found at FILE:LINE.`, once more for the line that
 * included the file; a warning or notice is one line.
 */
export function formatProblem({ severity, message, at }: Omit<Problem, 'code'> & Partial<Pick<Problem, 'code'>>): string[] {
  if (severity === 'error') return [`Error: ${message}`, ...places(at).map(place => `Error found at ${place}.`)]
  const text = at ? `${message} Found at ${formatLocation(at)}.` : message
  return [severity === 'warning' ? `Warning: ${text}` : text]
}

function places(at: Location | undefined): string[] {
  return at ? [formatLocation(at), ...places(at.includedFrom)] : []
}

/** The sentence and reason of anything thrown, without a stack. */
export function errorMessage(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}

/** What was thrown, as an error. */
export function errorOf(thrown: unknown): Error {
  return thrown instanceof Error ? thrown : new Error(String(thrown))
}

/** The system's code (`ENOENT`, `EADDRINUSE`), if the thrown value carries one. */
export function systemCode(error: unknown): string | undefined {
  if (error instanceof Error && 'code' in error && typeof error.code === 'string') return error.code
  return undefined
}

/** The same of a failed TLS connection. The alerts that are as old as SSL 3.0 are called after it until OpenSSL 3.1, which all versions are here. */
export function tlsCode(error: unknown): string | undefined {
  return systemCode(error)?.replace('ERR_SSL_SSL/TLS_ALERT_', 'ERR_SSL_SSLV3_ALERT_')
}

// strerror's words, which Mosquitto prints; Node's own messages repeat the call and the path.
const systemWords: Readonly<Record<string, string>> = {
  EACCES: 'Permission denied',
  EPERM: 'Operation not permitted',
  ENOENT: 'No such file or directory',
  EEXIST: 'File exists',
  EBUSY: 'Device or resource busy',
  EISDIR: 'Is a directory',
  ENOTDIR: 'Not a directory',
  EADDRINUSE: 'Address already in use',
  EAFNOSUPPORT: 'Address family not supported by protocol',
  EADDRNOTAVAIL: 'Cannot assign requested address',
  ECONNREFUSED: 'Connection refused',
  ECONNRESET: 'Connection reset by peer',
  ETIMEDOUT: 'Connection timed out',
  EHOSTUNREACH: 'No route to host',
  ENOSPC: 'No space left on device',
  EROFS: 'Read-only file system',
  ELOOP: 'Too many levels of symbolic links',
  EMFILE: 'Too many open files',
  ENAMETOOLONG: 'File name too long',
  ENOTFOUND: 'Name or service not known'
}

/** The system's reason in the words of strerror(3): `No such file or directory`. */
export function systemReason(error: unknown): string {
  const code = systemCode(error)
  return (code !== undefined && systemWords[code]) || errorMessage(error)
}
