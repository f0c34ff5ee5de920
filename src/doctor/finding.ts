// What `mosquitero doctor` can find: a cause by name, a sentence that says it, one that mends it. docs/doctor.md has a row for each.

import type { Location } from '../errors.js'

/** Every cause, in the order in which a connection meets them. */
export const causes = [
  'configuration',
  'device-file',
  'device-not-pem',
  'device-key-encrypted',
  'device-key-mismatch',
  'device-is-ca',
  'clock',
  'broker-stale',
  'broker-expired',
  'broker-not-yet-valid',
  'broker-ca-expired',
  'broker-other-ca',
  'broker-chain-incomplete',
  'broker-unknown-ca',
  'broker-same-subject',
  'broker-not-for-servers',
  'broker-no-names',
  'broker-wrong-name',
  'broker-not-accepted',
  'no-device',
  'not-asked',
  'device-expired',
  'device-not-yet-valid',
  'device-ca-expired',
  'device-other-ca',
  'device-chain-incomplete',
  'device-self-signed',
  'device-unknown-ca',
  'device-same-subject',
  'device-not-for-clients',
  'device-not-accepted',
  'device-revoked',
  'crl-missing',
  'crl-expired',
  'crl-not-yet-valid',
  'device-no-name',
  'no-psk',
  'psk-unknown',
  'psk-wrong',
  'unknown-host',
  'nobody-listens',
  'no-answer',
  'plain-port',
  'tls-port',
  'not-mqtt',
  'tls-version',
  'tls-cipher',
  'tls-failed',
  'protocol-version',
  'client-id',
  'credentials',
  'not-authorised',
  'busy',
  'closed',
  'acl-publish',
  'acl-subscribe'
] as const

export type Cause = (typeof causes)[number]

export interface Finding {
  readonly cause: Cause
  /** A warning keeps this device out of nothing, but others, or soon. */
  readonly severity: 'error' | 'warning'
  /** What was found, sentences. */
  readonly what: string
  /** What would be right, a sentence. */
  readonly mend: string
  /** Where a person wrote what is wrong. */
  readonly at?: Location
}

export function wrong(cause: Cause, what: string, mend: string, at?: Location): Finding {
  return { cause, severity: 'error', what, mend, ...(at && { at }) }
}

export function odd(cause: Cause, what: string, mend: string, at?: Location): Finding {
  return { ...wrong(cause, what, mend, at), severity: 'warning' }
}
