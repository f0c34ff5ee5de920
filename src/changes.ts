// What differs between two snapshots: options with another value, files with another content.

import { dateOf } from './auth/certificate.js'
import { formatPasswordHash, type PasswordEntry } from './auth/password-file.js'
import type { PskEntries } from './auth/psk-file.js'
import { changedGlobalOptions, changedListenerOptions } from './config/difference.js'
import type { HeldFiles } from './net/tls.js'
import { isReadAtStart, listenerKey, listenerName } from './reload.js'
import { type Change, mostListed } from './reload-report.js'
import type { ListenerSnapshot, Snapshot } from './snapshot.js'

/** Global options, then listeners' options, then files; what waits for a restart, and a listener that is new or gone, is none of it. */
export function changesBetween(before: Snapshot, after: Snapshot): readonly Change[] {
  const old = new Map(before.listeners.map(listener => [listenerKey(listener.config), listener]))
  const pairs = after.listeners.flatMap(listener => {
    const known = old.get(listenerKey(listener.config))
    return known === undefined ? [] : [{ before: known, after: listener }]
  })
  const files = once(pairs.flatMap(({ before, after }) => changedFiles(before, after)))
  const changes = [
    ...changedGlobalOptions(before.config, after.config).flatMap(option => (isReadAtStart(option) ? [] : [{ option }])),
    ...changedOptions(pairs).filter(({ option }) => !files.some(file => file.option === option)),
    ...files
  ]
  return changes.slice(0, mostListed)
}

interface Pair {
  readonly before: ListenerSnapshot
  readonly after: ListenerSnapshot
}

/** With the listener, unless all of them changed alike. */
function changedOptions(pairs: readonly Pair[]): readonly Change[] {
  const places = new Map<string, string[]>()
  for (const { before, after } of pairs) {
    for (const option of changedListenerOptions(before.config, after.config)) {
      places.set(option, [...(places.get(option) ?? []), listenerName(after.config)])
    }
  }
  return [...places].flatMap(([option, listeners]) =>
    listeners.length === pairs.length ? [{ option }] : listeners.map(listener => ({ option, listener }))
  )
}

function changedFiles(before: ListenerSnapshot, after: ListenerSnapshot): readonly Change[] {
  const { passwordFile, aclFile } = after.config.security
  const changes: Change[] = []
  if (passwordFile && before.passwords && after.passwords) {
    const counts = countNames(hashesOf(before.passwords), hashesOf(after.passwords))
    if (isAny(counts)) changes.push({ option: 'password_file', file: passwordFile.path, of: 'user', ...counts })
  }
  if (aclFile && before.rules && after.rules) {
    const counts = compare(before.rules.map(textOfRule), after.rules.map(textOfRule))
    if (isAny(counts)) changes.push({ option: 'acl_file', file: aclFile.path, of: 'rule', ...counts })
  }
  if (after.shadow && after.shadow.path === before.shadow?.path) {
    const counts = compare(before.shadow.rules.map(textOfRule), after.shadow.rules.map(textOfRule))
    if (isAny(counts)) changes.push({ option: '#!acl_shadow', file: after.shadow.path, of: 'rule', ...counts })
  }
  if (after.config.psk && before.keys && after.keys) {
    const [old, now] = [keysOf(before.keys), keysOf(after.keys)]
    const counts = countNames(old, now)
    if (isAny(counts)) changes.push({ option: 'psk_file', file: after.config.psk.file.path, of: 'key', ...counts })
  }
  const [old, held] = [before.tls?.held, after.tls?.held]
  if (after.config.tls && old && held) changes.push(...changedTlsFiles(after.config.tls, old, held))
  return changes
}

type Named = NonNullable<ListenerSnapshot['config']['tls']>

function changedTlsFiles({ certfile, keyfile, cafile, capath, crlfile }: Named, before: HeldFiles, after: HeldFiles): readonly Change[] {
  const changes: Change[] = []
  if (before.certfile.digest !== after.certfile.digest) {
    changes.push({ option: 'certfile', file: certfile.path, validUntil: dateOf(after.certfile.notAfter) })
  }
  if (before.keyfile !== after.keyfile) changes.push({ option: 'keyfile', file: keyfile.path })
  for (const [option, setting] of [
    ['cafile', cafile],
    ['capath', capath]
  ] as const) {
    const counts = compare(before[option], after[option])
    if (setting && isAny(counts)) changes.push({ option, file: setting.path, of: 'CA', ...counts })
  }
  if (crlfile && before.crlfile && after.crlfile && before.crlfile.digest !== after.crlfile.digest) {
    changes.push({ option: 'crlfile', file: crlfile.path, of: 'revoked certificate', total: after.crlfile.revoked })
  }
  return changes
}

interface Counts {
  readonly added: number
  readonly removed: number
  readonly altered?: number
}

const isAny = ({ added, removed, altered = 0 }: Counts): boolean => added + removed + altered > 0

/** Of two lists whose order doesn't matter. */
function compare(before: readonly string[], after: readonly string[]): Counts {
  const left = new Map<string, number>()
  for (const text of before) left.set(text, (left.get(text) ?? 0) + 1)
  let added = 0
  for (const text of after) {
    const count = left.get(text) ?? 0
    if (count === 0) added += 1
    else left.set(text, count - 1)
  }
  return { added, removed: before.length - (after.length - added) }
}

/** Of what stands under each name. */
function countNames(before: ReadonlyMap<string, string>, after: ReadonlyMap<string, string>): Counts {
  let added = 0
  let altered = 0
  for (const [name, content] of after) {
    const known = before.get(name)
    if (known === undefined) added += 1
    else if (known !== content) altered += 1
  }
  const removed = before.size - (after.size - added)
  return { added, removed, ...(altered > 0 && { altered }) }
}

const keysOf = (entries: PskEntries): ReadonlyMap<string, string> =>
  new Map(Array.from(entries, ([identity, { key }]) => [identity, key.toString('hex')]))

const hashesOf = (entries: ReadonlyMap<string, PasswordEntry>): ReadonlyMap<string, string> =>
  new Map(Array.from(entries, ([username, { password }]) => [username, formatPasswordHash(password)]))

const textOfRule = ({ kind, access, filter, username }: NonNullable<ListenerSnapshot['rules']>[number]): string =>
  JSON.stringify([kind, access, filter, username])

// Listeners share files.
function once(changes: readonly Change[]): readonly Change[] {
  return [...new Map(changes.map(change => [JSON.stringify(change), change])).values()]
}
