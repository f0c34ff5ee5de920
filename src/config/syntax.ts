// The text of mosquitto.conf → its directives, each with file and line. Knows lines, comments and encodings, and no option's meaning.

import type { Location, Problem } from '../errors.js'
import { beginsPem, nameOf } from '../words.js'
import { findOwnOption, nearOwnOption } from './options.js'

/** One line that says something. */
export interface Directive {
  readonly name: string
  /** The rest of the line after the first space, as written: how much of it counts is the option's matter. */
  readonly value: string
  /** A `#!` line: an option of ours, for Mosquitto a comment. */
  readonly own: boolean
  /** The line is not UTF-8; wrong for text, and of no interest for a boolean or a number [Mosquitto 2.1]. */
  readonly malformed: boolean
  /** The argument of a listener that an object gives: nothing is left to read. */
  readonly words?: readonly string[]
  readonly at: Location
}

export interface Directives {
  readonly directives: readonly Directive[]
  readonly problems: readonly Problem[]
}

const newline = 0x0a
const strictUtf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })
const looseUtf8 = new TextDecoder('utf-8', { ignoreBOM: true })

/** Parses one file. `includedFrom` is the `include_dir` line that led to it. */
export function parseDirectives(content: Uint8Array | string, file: string, includedFrom?: Location): Directives {
  const directives: Directive[] = []
  const problems: Problem[] = []
  let number = 0
  for (const bytes of lines(typeof content === 'string' ? Buffer.from(content) : content)) {
    const at: Location = { file, line: ++number, ...(includedFrom && { includedFrom }) }
    const { text, malformed } = decode(bytes)
    const line = text.replace(/[\r\n]+$/, '')
    const own = line.startsWith('#!')
    if (own) {
      const warning = misspelt(line, at)
      if (warning) problems.push(warning)
    }
    const words = own ? ownDirective(line) : line.startsWith('#') ? undefined : splitName(line)
    if (!words) continue
    if (line.includes('\0')) problems.push({ severity: 'error', code: 'ERR_CONF_VALUE', message: 'NUL byte in configuration.', at })
    else directives.push({ ...words, own, malformed, at })
    // Somebody named a key or certificate: one problem says so.
    if (beginsPem(line)) break
  }
  return { directives, problems }
}

function* lines(content: Uint8Array): Generator<Uint8Array> {
  for (let start = 0; start < content.length; ) {
    const end = content.indexOf(newline, start)
    yield content.subarray(start, end === -1 ? undefined : end)
    start = end === -1 ? content.length : end + 1
  }
}

function decode(bytes: Uint8Array): { text: string; malformed: boolean } {
  try {
    return { text: strictUtf8.decode(bytes), malformed: false }
  } catch {
    return { text: looseUtf8.decode(bytes), malformed: true }
  }
}

// Spaces alone separate: a tab before or after a name is part of it, as in Mosquitto.
function splitName(line: string): { name: string; value: string } | undefined {
  const text = line.replace(/^ +/, '')
  if (text === '') return undefined
  const end = text.indexOf(' ')
  return end === -1 ? { name: text, value: '' } : { name: text.slice(0, end), value: text.slice(end + 1) }
}

function ownDirective(line: string): { name: string; value: string } | undefined {
  if (line.startsWith('#! ')) return undefined
  const words = splitName(line.slice(2))
  return words && findOwnOption(words.name) ? words : undefined
}

function misspelt(line: string, at: Location): Problem | undefined {
  if (ownDirective(line)) return undefined
  const words = splitName(line.slice(2))
  const known = words && nearOwnOption(words.name)
  if (!known) return undefined
  // The name alone is repeated: the value of `store` may hold a password.
  const message = `A line '#!' with '${nameOf(words.name)}' is a comment: the option is written '#!${known}'.`
  return { severity: 'warning', code: 'ERR_CONF_UNKNOWN', message, at }
}
