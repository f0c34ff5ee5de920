// What stands after an option's name → a value, or the sentence that refuses it, in Mosquitto 2.1's words where it has some.

import { trimBlanks } from '../blanks.js'
import { isTopicName } from '../topic.js'
import type { Argument, IntegerArgument } from './options.js'

/** Lists are the words of a composite argument, in order: `listener 8883 ::1` → `['8883', '::1']`. */
export type Value = boolean | number | string | readonly string[]

export type Reading = { readonly value: Value; readonly notice?: string; readonly warning?: string } | { readonly refusal: string }

const maxInt = 2 ** 31 - 1
const maxStringBytes = 65535

/** Reads the argument of the option called `name` in messages. Never throws. */
export function readArgument(argument: Argument, name: string, text: string): Reading {
  switch (argument.kind) {
    case 'boolean':
      return readBoolean(name, text)
    case 'integer':
      return readInteger(argument, name, text)
    case 'string':
      return readString(name, text, argument.maxLength)
    case 'path':
      return readString(name, text)
    case 'topic name':
      return readTopicName(name, text)
    case 'keyword':
      return readKeyword(argument, name, text)
    case 'word':
      return nextWord(name, text)
    case 'listener':
      return readListener(name, text)
    case 'protocol versions':
      return readProtocolVersions(name, text)
    case 'duration':
      return readDuration(name, text)
    case 'log destination':
      return readLogDestination(name, text)
    case 'name and path':
      return readNameAndPath(name, text)
    case 'bridge addresses':
      return readBridgeAddresses(name, text)
    case 'bridge topic':
      return readBridgeTopic(name, text)
    case 'tcp keepalive':
      return readTcpKeepalive(name, text)
    case 'restart timeout':
      return readRestartTimeout(name, text)
    case 'store':
      return readStore(name, text)
    case 'port and address':
      return readPortAndAddress(name, text)
    case 'certificate and key':
      return readCertificateAndKey(name, text)
    case 'none':
      return { value: true }
  }
}

/** Whether a line that is not UTF-8 matters: a boolean or a number is the next word, and whatever follows is not read. */
export function readsText(argument: Argument): boolean {
  return argument.kind !== 'boolean' && argument.kind !== 'integer' && argument.kind !== 'none'
}

/** strtol(3) with base 0: decimal, 0x hexadecimal, leading 0 octal; undefined when a character is left over. */
export function parseInteger(word: string): number | undefined {
  const match = /^[\t\v\f\r]*([+-]?)(0[xX][\da-fA-F]+|0[0-7]*|[1-9]\d*)$/.exec(word)
  const digits = match?.[2]
  if (digits === undefined) return undefined
  const size = /^0[0-7]+$/.test(digits) ? Number.parseInt(digits, 8) : Number(digits)
  return match?.[1] === '-' && size !== 0 ? -size : size
}

const refuse = (refusal: string): Reading => ({ refusal })
const empty = (name: string): Reading => refuse(`Empty '${name}' value in configuration.`)
const invalid = (name: string, value: string | number): Reading => refuse(`Invalid '${name}' value (${value}).`)

/** Words as strtok(3) gives them: only spaces separate. */
const splitWords = (text: string): string[] => text.split(' ').filter(word => word !== '')

function nextWord(name: string, text: string): Reading {
  const [word] = splitWords(text)
  return word === undefined ? empty(name) : { value: word }
}

function readBoolean(name: string, text: string): Reading {
  const [word] = splitWords(text)
  if (word === undefined) return empty(name)
  if (word === 'true' || word === '1') return { value: true }
  if (word === 'false' || word === '0') return { value: false }
  return invalid(name, word)
}

function readInteger(argument: IntegerArgument, name: string, text: string): Reading {
  const { min = -maxInt - 1, max = maxInt, low, high, outside } = argument
  const [word] = splitWords(text)
  if (word === undefined) return empty(name)
  const value = parseInteger(word)
  if (value === undefined) return refuse(`'${name}' value not a number.`)
  if (Math.abs(value) > Math.max(max, maxInt)) return refuse(`'${name}' value out of range.`)
  if (value < min && low !== undefined) return low === '' ? { value: min } : { value: min, notice: low }
  if (value > max && high !== undefined) return { value: max, warning: high }
  if (value < min || value > max) return outside === undefined ? invalid(name, value) : refuse(outside)
  return { value }
}

// A control character (a tab inside a path, say) or a non-character counts as malformed, as in Mosquitto.
const forbidden = /[\u0000-\u001f\u007f-\u009f\ufdd0-\ufdef]|[\ufffe\uffff]/u

function readString(name: string, text: string, maxLength?: number): Reading {
  const value = trimBlanks(text)
  if (value === '') return empty(name)
  const bytes = Buffer.byteLength(value)
  if (bytes > maxStringBytes) return refuse(`'${name}' value is longer than ${maxStringBytes} bytes.`)
  if (forbidden.test(value)) return refuse('Malformed UTF-8 in configuration.')
  if (maxLength !== undefined && bytes > maxLength) return refuse(`${name} length must be <= ${maxLength}.`)
  return { value }
}

function readTopicName(name: string, text: string): Reading {
  const read = readString(name, text)
  if ('refusal' in read || isTopicName(String(read.value))) return read
  return refuse(`Invalid '${name}' value (${read.value}). Does it contain a wildcard character?`)
}

function readKeyword(argument: Argument & { kind: 'keyword' }, name: string, text: string): Reading {
  const value = argument.rest ? trimBlanks(text) : splitWords(text)[0]
  if (value === undefined || value === '') return empty(name)
  if (!argument.words.includes(value)) {
    return argument.outside === undefined ? invalid(name, value) : refuse(argument.outside.replaceAll('{value}', () => value))
  }
  return { value }
}

function readListener(name: string, text: string): Reading {
  const [word, address] = splitWords(text)
  const port = readInteger({ kind: 'integer' }, name, text)
  if ('refusal' in port || word === undefined) return port
  if (typeof port.value !== 'number' || port.value < 0 || port.value > 65535) return invalid('port', String(port.value))
  const place = address?.startsWith('#') ? undefined : address
  if (port.value === 0 && place === undefined) return refuse('A listener with port 0 must provide a Unix socket path.')
  return { value: place === undefined ? [String(port.value)] : [String(port.value), place] }
}

function readProtocolVersions(name: string, text: string): Reading {
  const words = text.split(/[, \t]/).filter(word => word !== '')
  if (words.length === 0) return empty(name)
  // Mosquitto skips what it doesn't know, which would leave a listener that accepts nobody, or fewer than meant.
  const unknown = words.find(word => !['3', '4', '5'].includes(word))
  return unknown === undefined ? { value: words } : invalid(name, unknown)
}

function readDuration(name: string, text: string): Reading {
  const [word] = splitWords(text)
  if (word === undefined) return empty(name)
  const match = /^0*([1-9]\d{0,8})[shdwmy]$/.exec(word)
  return match ? { value: word } : refuse(`Invalid '${name}' duration in configuration.`)
}

const durationUnits: Readonly<Record<string, number>> = { s: 1, h: 3600, d: 86_400, w: 604_800, m: 2_592_000, y: 31_536_000 }

/** What `readArgument` took as a duration, in seconds: a month has 30 days and a year 365, as in Mosquitto. */
export function durationSeconds(duration: string): number {
  return Number(duration.slice(0, -1)) * (durationUnits[duration.slice(-1)] ?? 1)
}

function readLogDestination(name: string, text: string): Reading {
  const [word] = splitWords(text)
  switch (word) {
    case undefined:
      return empty(name)
    case 'none':
    case 'syslog':
    case 'stdout':
    case 'stderr':
    case 'topic':
    case 'dlt':
      return { value: [word] }
    case 'file': {
      const file = readString('log_dest file', text.slice(text.indexOf('file') + 'file'.length))
      if ('refusal' in file) return file.refusal.startsWith('Empty') ? refuse('Empty "log_dest file" value in configuration.') : file
      return { value: ['file', String(file.value)] }
    }
    default:
      return invalid(name, word)
  }
}

function readNameAndPath(name: string, text: string): Reading {
  const [word] = splitWords(text)
  if (word === undefined) return empty(name)
  const path = readString(name, text.slice(text.indexOf(word) + word.length))
  return 'refusal' in path ? path : { value: [word, String(path.value)] }
}

function readBridgeAddresses(name: string, text: string): Reading {
  const words = splitWords(text)
  const comment = words.findIndex(word => word.startsWith('#'))
  const addresses = comment === -1 ? words : words.slice(0, comment)
  if (addresses.length === 0) return refuse(`Empty ${name} value in configuration.`)
  for (const address of addresses) {
    const colon = address.lastIndexOf(':')
    if (colon === -1) continue
    const port = Number(address.slice(colon + 1))
    if (!Number.isInteger(port) || port < 1 || port > 65535) {
      return refuse(`Invalid bridge port value (${address.slice(colon + 1)}).`)
    }
  }
  return { value: addresses }
}

function readBridgeTopic(name: string, text: string): Reading {
  if (splitWords(text).length === 0) return empty(name)
  const quoted = /^ *"[^" ]/.test(text)
  const match = quoted ? /^ *"([^"]+)"(.*)$/s.exec(text) : /^ *([^ ]+)(.*)$/s.exec(text)
  if (!match) return refuse(`Missing closing quote in topic value (${trimBlanks(text)}).`)
  const [, pattern = '', rest = ''] = match
  const [direction = 'out', qos = '0', local = '""', remote = '""'] = splitWords(rest)
  if (!['out', 'in', 'both'].includes(direction.toLowerCase())) return refuse(`Invalid bridge topic direction '${direction}'.`)
  if (!/^[012]$/.test(qos) && !qos.startsWith('#')) return refuse(`Invalid bridge QoS level '${qos}'.`)
  return { value: [pattern, direction.toLowerCase(), qos, local, remote] }
}

function readTcpKeepalive(name: string, text: string): Reading {
  const words = splitWords(text)
  for (const [index, part] of ['idle', 'interval', 'counter'].entries()) {
    const number = readInteger(
      { kind: 'integer', min: 1, outside: `invalid TCP keepalive ${part} value.` },
      `${name}_${part}`,
      words[index] ?? ''
    )
    if ('refusal' in number) return number
  }
  return { value: words.slice(0, 3) }
}

function readRestartTimeout(name: string, text: string): Reading {
  const words = splitWords(text).slice(0, 3)
  if (words.length === 0) return empty(name)
  const [base = 0, cap, stable] = words.map(word => parseInteger(word) ?? Number.NaN)
  if ([base, cap, stable].some(Number.isNaN)) return refuse(`'${name}' value not a number.`)
  if (cap !== undefined && cap < base) return refuse('backoff cap is lower than the base in restart_timeout.')
  if (stable !== undefined && stable < 0) return refuse('stable connection period cannot be negative.')
  if (base < 1) return { value: words, notice: 'restart_timeout interval too low, using 1 second.' }
  if (base > 3600) return { value: words, notice: 'restart_timeout interval too high, using 3600 seconds.' }
  return { value: words }
}

function readPortAndAddress(name: string, text: string): Reading {
  const read = readString(name, text)
  if ('refusal' in read) return read
  const [port, ...rest] = splitWords(trimBlanks(text))
  const number = port === undefined ? undefined : parseInteger(port)
  return number !== undefined && number >= 1 && number <= 65535 && rest.length <= 1
    ? { value: [String(number), ...rest] }
    : refuse(`Invalid '${name}' value: a port from 1 to 65535, and an address if it is not to be all, would be right.`)
}

function readCertificateAndKey(name: string, text: string): Reading {
  const read = readString(name, text)
  if ('refusal' in read) return read
  const words = splitWords(trimBlanks(text))
  return words.length === 2
    ? { value: words }
    : refuse(`Invalid '${name}' value: the paths of a certificate and of its key would be right.`)
}

function readStore(name: string, text: string): Reading {
  const value = trimBlanks(text)
  if (value === '') return empty(name)
  if (value === 'memory') return { value }
  const url = parseUrl(value)
  if (url && /^rediss?[-+]cluster:$/.test(url.protocol)) return refuse(`Invalid '${name}' value: a Redis Cluster is not supported yet.`)
  if (url && isStoreAddress(url)) return { value }
  return refuse(`Invalid '${name}' value: 'memory', or an address like redis://localhost:6379/0, would be right.`)
}

const parseUrl = (text: string): URL | undefined => (URL.canParse(text) ? new URL(text) : undefined)

/** The address of a store as it may be shown; undefined: in one that can't be meant a password may stand anywhere. */
export function withoutPassword(address: string): string | undefined {
  if (address === 'memory') return address
  const url = parseUrl(address)
  return url && isStoreAddress(url) ? `${url.protocol}//${url.host}${url.pathname}` : undefined
}

function isStoreAddress({ protocol, hostname, pathname, searchParams, username, password }: URL): boolean {
  try {
    decodeURIComponent(username + password)
  } catch {
    return false // A percent sign that stands for nothing: the password would be another.
  }
  const isNumber = (database: string): boolean => /^\d*$/.test(database)
  // With a slash too few what should be a password is a part of the path.
  if (protocol === 'unix:') return /^\/(?!.*:.*@)./.test(pathname) && isNumber(searchParams.get('db') ?? '')
  return (protocol === 'redis:' || protocol === 'rediss:') && hostname !== '' && isNumber(pathname.slice(1))
}
