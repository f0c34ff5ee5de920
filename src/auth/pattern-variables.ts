// What stands for what in `#!pattern` lines, beyond the `%c` and `%u` that Mosquitto knows: the first organization and organizational unit of
// the client certificate, its serial number, and the parts of the client id between colons.

import type { CertificateFacts, Identity } from './identity.js'

const factNames: ReadonlyMap<string, keyof CertificateFacts> = new Map([
  ['%o', 'organization'],
  ['%ou', 'organizationalUnit'],
  ['%s', 'serial']
])

const partForm = /^%\{c:([1-9])\}$/

/** For people who wrote something else. */
export const variableNames = "'%c', '%u', '%o', '%ou', '%s' and '%{c:1}' to '%{c:9}'"

/** Is this level of a `#!pattern` one that something is put in for? */
export function isVariable(level: string): boolean {
  return level === '%c' || level === '%u' || factNames.has(level) || isClientIdPart(level)
}

/** Is it a part of the client id? */
export const isClientIdPart = (level: string): boolean => partForm.test(level)

/** What it asks of the certificate. */
export function factAsked(level: string): keyof CertificateFacts | undefined {
  return factNames.get(level)
}

/** What such a level is for a client; undefined: nothing, and no topic has it. */
export function valueFor(level: string, { clientId, username, certificate }: Identity): string | undefined {
  const fact = factNames.get(level)
  if (fact !== undefined) return certificate?.[fact]
  if (level === '%c') return clientId
  if (level === '%u') return username
  const [, number] = partForm.exec(level) ?? []
  return number === undefined ? undefined : clientId.split(':')[Number(number) - 1]
}

/**
 * Is the part of `topic` from `start` to `end` what such a level is for the client? Allocates nothing. What is put in holds no `/`, so that it
 * is one level at most, and an empty one is none.
 */
export function matchesVariable(level: string, { clientId, certificate }: Identity, topic: string, start: number, end: number): boolean {
  switch (level) {
    case '%o':
      return isText(certificate?.organization, topic, start, end)
    case '%ou':
      return isText(certificate?.organizationalUnit, topic, start, end)
    case '%s':
      return isText(certificate?.serial, topic, start, end)
    default:
      return isPart(clientId, level.charCodeAt(digitAt) - zero, topic, start, end)
  }
}

/** In `%{c:1}`. */
const digitAt = 4
const zero = 0x30

function isText(text: string | undefined, topic: string, start: number, end: number): boolean {
  return text !== undefined && end > start && end - start === text.length && topic.startsWith(text, start)
}

// Compared character by character: to cut the part out would make a text for each message.
function isPart(clientId: string, number: number, topic: string, start: number, end: number): boolean {
  let from = 0
  for (let skipped = 1; skipped < number; skipped++) {
    const colon = clientId.indexOf(':', from)
    if (colon === -1) return false
    from = colon + 1
  }
  const colon = clientId.indexOf(':', from)
  const length = (colon === -1 ? clientId.length : colon) - from
  if (length === 0 || end - start !== length) return false
  for (let i = 0; i < length; i++) if (clientId.charCodeAt(from + i) !== topic.charCodeAt(start + i)) return false
  return true
}
