// The options as Markdown tables for the documentation: what the table says is what the code does.

import { type Argument, environmentName, type Option, options, ownOptions, type Scope } from './options.js'

const titles: Readonly<Record<Scope, string>> = {
  global: 'Global options',
  listener: 'Listener options',
  security: 'Security options (global, or per listener with `per_listener_settings true`)',
  plugin: 'Plugin options',
  bridge: 'Bridge options'
}

const begin = '<!-- options: generated from src/config/options.ts -->'
const end = '<!-- /options -->'

/** All options as Markdown. */
export function optionsTable(): string {
  const rows: readonly [string, Option][] = Object.entries(options)
  const scopes = Object.entries(titles).map(([scope, title]) => table(title, rows.filter(([, option]) => option.scope === scope).map(row)))
  const own: readonly [string, Option][] = Object.entries(ownOptions)
  const ours = own.map(([name, option]) => cells(`\`#!${name}\``, option, ` Environment: \`${environmentName(name)}\`.`))
  return [...scopes, table('Our own options', ours)].join('\n')
}

/** The document with its generated part renewed; a TypeError when it has no place for it. */
export function embedOptionsTable(document: string): string {
  const from = document.indexOf(begin)
  const to = document.indexOf(end)
  if (from === -1 || to < from) throw new TypeError(`no '${begin}' … '${end}' in the document`)
  return `${document.slice(0, from + begin.length)}\n\n${optionsTable()}\n${document.slice(to)}`
}

function table(title: string, rows: readonly string[]): string {
  const head = '| option | value | default | change takes effect | support | meaning |\n|---|---|---|---|---|---|'
  return `### ${title}\n\n${head}\n${rows.join('\n')}\n`
}

function row([name, option]: readonly [string, Option]): string {
  const aliases = option.aliases?.map(alias => `, \`${alias}\``).join('') ?? ''
  const deprecated = option.deprecated === undefined ? '' : ' Deprecated.'
  return cells(`\`${name}\`${aliases}`, option, deprecated)
}

function cells(name: string, { argument, default: usual, reload, support, doc }: Option, more: string): string {
  const effect = reload === 'live' ? 'on reload' : 'on restart'
  return `| ${[name, argumentText(argument), usual, effect, support, doc + more].map(cell).join(' | ')} |`
}

// A pipe would end the cell, an angle bracket begin HTML.
const cell = (text: string): string => text.replaceAll('|', '\\|').replaceAll('<', '&lt;')

function argumentText(argument: Argument): string {
  switch (argument.kind) {
    case 'boolean':
      return 'true, false'
    case 'integer':
      return integerText(argument.min, argument.max, argument.unit)
    case 'keyword':
      return argument.words.join(', ')
    case 'port and address':
      return 'port, address'
    case 'certificate and key':
      return 'certificate and key'
    case 'string':
      return argument.maxLength === undefined ? 'text' : `text, at most ${argument.maxLength} bytes`
    case 'none':
      return '-'
    case 'path':
    case 'topic name':
    case 'word':
    case 'listener':
    case 'protocol versions':
    case 'duration':
    case 'log destination':
    case 'name and path':
    case 'bridge addresses':
    case 'bridge topic':
    case 'tcp keepalive':
    case 'restart timeout':
    case 'store':
      return argumentWords[argument.kind]
  }
}

const argumentWords = {
  path: 'path',
  'topic name': 'topic',
  word: 'one word',
  listener: 'port, then an address or a socket path',
  'protocol versions': 'list of 3, 4, 5',
  duration: 'number with s, h, d, w, m or y',
  'log destination': 'destination',
  'name and path': 'name, path',
  'bridge addresses': 'host[:port], several',
  'bridge topic': 'topic rule',
  'tcp keepalive': 'three numbers',
  'restart timeout': 'seconds, or base, cap and stable time',
  store: 'memory, or an address'
} as const

function integerText(min: number | undefined, max: number | undefined, unit = 'number'): string {
  if (min === undefined) return unit
  return max === undefined ? `${unit}, ${min} or more` : `${unit}, ${min} to ${max}`
}
