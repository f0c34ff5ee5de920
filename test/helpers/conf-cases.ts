// The golden cases of test/cases/conf: a title, what a person wrote, dashes, what becomes of it.
//
//   ==== a title that is the sentence the case proves
//   @ args -p 1884 -v                 (optional: command line)
//   @ env MOSQUITERO_STORE=memory     (optional: environment, one per line)
//   port 1883                         (m.conf; \t \r \0 and \xHH stand for bytes)
//   @ file conf.d/a.conf              (what follows is that file, found by include_dir conf.d; a folder without one cannot be read)
//   ----
//   error m.conf:1 ERR_CONF_VALUE …   (every problem, in order, and no other; `a.conf:1<m.conf:3` for an included file)
//   listeners.0.port = 8883           (values of the configuration, as JSON; sets are sorted lists)

import { readdirSync, readFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { buildConfig, type ConfigResult, type Included, includeDirs, includedNames } from '../../dist/config/build.js'
import type { Location, Problem } from '../../dist/errors.js'

export interface ConfCase {
  readonly title: string
  readonly args: readonly string[]
  readonly env: Readonly<Record<string, string>>
  readonly files: ReadonlyMap<string, Buffer>
  readonly expected: readonly string[]
}

export const caseFolder = 'test/cases/conf'

export function readConfCases(): Map<string, readonly ConfCase[]> {
  const files = readdirSync(caseFolder).filter(name => name.endsWith('.case'))
  return new Map(files.sort().map(name => [basename(name, '.case'), parseCases(readFileSync(join(caseFolder, name), 'utf8'))]))
}

export function parseCases(text: string): ConfCase[] {
  return text
    .split(/^==== /m)
    .slice(1)
    .map(parseCase)
}

function parseCase(text: string): ConfCase {
  const [title = '', ...lines] = text.trimEnd().split('\n')
  const dashes = lines.indexOf('----')
  if (dashes === -1) throw new Error(`case without dashes: ${title}`)
  const args: string[] = []
  const env: Record<string, string> = {}
  const files = new Map<string, string[]>([['m.conf', []]])
  let current = files.get('m.conf') ?? []
  for (const line of lines.slice(0, dashes)) {
    const [, kind, rest = ''] = /^@ (args|env|file) (.*)$/.exec(line) ?? []
    if (kind === 'args') args.push(...rest.split(' '))
    else if (kind === 'env') env[rest.slice(0, rest.indexOf('='))] = rest.slice(rest.indexOf('=') + 1)
    else if (kind === 'file') {
      current = []
      files.set(rest, current)
    } else current.push(line)
  }
  const contents = [...files].map(([name, body]): [string, Buffer] => [name, bytes(body)])
  return { title, args, env, files: new Map(contents), expected: lines.slice(dashes + 1).filter(line => line !== '') }
}

const escapes: Readonly<Record<string, string>> = { '\\t': '\t', '\\r': '\r', '\\0': '\0' }

function bytes(lines: readonly string[]): Buffer {
  const parts = lines
    .map(line => `${line}\n`)
    .join('')
    .split(/(\\x[\da-f]{2}|\\[tr0])/)
  return Buffer.concat(parts.map(part => (/^\\x/.test(part) ? Buffer.from(part.slice(2), 'hex') : Buffer.from(escapes[part] ?? part))))
}

/** What our engine makes of a case. */
export function buildCase({ args, env, files }: ConfCase): ConfigResult {
  const content = files.get('m.conf') ?? Buffer.alloc(0)
  return buildConfig({
    main: { file: 'm.conf', content, includes: new Map(includeDirs(content).map(dir => [dir, folder(dir, files)])) },
    ports: args.flatMap((arg, index) => (args[index - 1] === '-p' ? [Number(arg)] : [])),
    verbosity: args.includes('-q') ? 'quiet' : args.includes('-v') ? 'verbose' : 'configured',
    env
  })
}

function folder(dir: string, files: ReadonlyMap<string, Buffer>): Included {
  const names = [...files.keys()].filter(name => name.startsWith(`${dir}/`)).map(name => name.slice(dir.length + 1))
  if (names.length === 0) return Object.assign(new Error('missing'), { code: 'ENOENT' })
  return includedNames(names).map(name => ({ file: `${dir}/${name}`, content: files.get(`${dir}/${name}`) ?? '' }))
}

/** A problem as a case writes it. */
export function problemLine({ severity, code, message, at }: Problem): string {
  return `${severity} ${at ? place(at) : '-'} ${code} ${message.replaceAll('\t', '\\t')}`
}

function place({ file, line, includedFrom }: Location): string {
  return `${file}:${line}${includedFrom ? `<${place(includedFrom)}` : ''}`
}

/** The value at a path of the configuration, as JSON with sets as sorted lists and places left out. */
export function valueLine(result: ConfigResult, path: string): string {
  const value = path
    .split('.')
    .reduce<unknown>((at, key) => (typeof at === 'object' && at !== null ? Reflect.get(at, key) : undefined), result.config)
  return `${path} = ${JSON.stringify(value, (key, part: unknown) => (key === 'at' ? undefined : part instanceof Set ? [...part].sort() : part))}`
}
