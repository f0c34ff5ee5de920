// docs/errors.md is complete and true: every code, every sentence, every exit status, and each row caused for real.

import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { examine } from '../dist/check/examine.js'
import { buildConfig } from '../dist/config/build.js'
import { type Option, options, ownOptions } from '../dist/config/options.js'
import { type ErrorCode, exitStatus, type Location, type Problem } from '../dist/errors.js'
import { createServer, ProblemsError } from '../dist/index.js'
import { causeFolder, fixtures, refusal } from './helpers/cause-folder.js'
import { type Cause, confCauses, fileCauses, hashCauses, objectCauses, warnings } from './helpers/causes.js'
import { run, userLine } from './helpers/command.js'
import { type Command, commandCauses, isRoot, privileged, start } from './helpers/command-causes.js'
import { document, type ErrorRow, readErrorTable, rowOfMessage } from './helpers/error-table.js'
import { sentences } from './helpers/sentences.js'

const rows = readErrorTable()
const root = process.cwd()
const caused = new Set<ErrorRow>()
/** The first of each code, to be tried by the command as well. */
const firsts = new Map<ErrorCode, Cause>()
const shared = fixtures(t)

const isCode = (code: string): code is ErrorCode => Object.hasOwn(exitStatus, code)

t.test('every code has a row, and every row a code that exists with its exit status', async t => {
  const documented = new Set([...document.matchAll(/`(ERR_[A-Z_]+)`/g)].map(([, code]) => code))
  t.same([...documented].toSorted(), Object.keys(exitStatus).toSorted())
  for (const { code, status, message } of rows) {
    if (code === undefined || typeof status !== 'number') continue
    t.ok(isCode(code) && exitStatus[code] === status, `${code} ${message}`)
  }
})

t.test('no message has two rows', async t => {
  const messages = rows.map(({ code, message, status }) => `${code} ${message} ${typeof status === 'number' ? '' : status}`)
  t.same(
    messages.filter((message, index) => messages.indexOf(message) !== index),
    []
  )
})

/** Where sentences for people stand that name what they did wrong. */
const rooms = [
  ...['argument', 'build', 'check', 'draft', 'environment', 'object', 'syntax'].map(name => `config/${name}`),
  ...['auth/acl-cases', 'auth/acl-file', 'auth/password-file', 'auth/hash-threads', 'permissions', 'snapshot', 'keylog', 'log-sinks'],
  ...['net/tls', 'net/tls-warnings', 'net/crl-file', 'net/bind', 'store/level', 'store/redis', 'store/mosquitto-file'],
  ...['cli/acl', 'cli/arguments', 'cli/run', 'cli/main', 'cli/privileges', 'cli/pid-file', 'cli/store'],
  ...readdirSync('src/check')
    .filter(name => !['report.ts', 'text.ts'].includes(name))
    .map(name => `check/${name.replace(/\.ts$/, '')}`)
]

/** Sentences in these rooms that are no such message, and why. */
const others: readonly (readonly [pattern: RegExp, reason: string])[] = [
  [/^name and path$|^certificate and key$|^port and address$/, 'a kind of argument'],
  [/^include_dir \{\} was not read: pass what includeDirs\(\) names$/, 'a fault of ours'],
  [/^DEFAULT:|^TLS_/, 'a list of ciphers'],
  [/^Warning: log_dest syslog needs the logger command/, 'said while it runs'],
  [
    /^there was a file, which is now|^\{\} is missing$|^\{\} is not what was written$/,
    'a damaged store is no error: it is mended, and the log says what was wrong'
  ],
  [/^ What it was is set aside as/, 'of a store that could not be mended'],
  [
    /^redis:\/\/\[USER|^\{\}: it reads \{\}\.$|^The Redis (address|database)|^Redis Cluster is not supported$|^A Redis address can't/,
    'refused as the value of #!store before'
  ],
  [/^Closed before Redis|^it closed the connection$|^Command timed out$/, 'said while it runs'],
  [/^the password hasher is closed$|^a configuration without a listener$/, 'a fault of ours'],
  [/^a case is written USER|^\{\} \{\}, \{\} as expected\.\n$|^is an ACL file and has none$/, 'a part of a sentence, or no error'],
  [
    /^A command is missing$|^Name the (mosquitto\.conf|client) |^Say (read, write or subscribe|one topic)|^Whom a case is about/,
    "wrong usage of 'mosquitero acl', told with the right one"
  ],
  [/is an MQTT v5\.0|^\{\} version \{\}|^Usage:|^Configuration file is OK\./, 'not an error'],
  [/^What the store had is set aside|^It (was damaged; what could be read is kept|is sound)\.$/, 'not an error'],
  [
    /^Name the store by -c FILE or by its path$|^There is no command|^Error: \{\}\.\n|^queued |has no store on disk: persistence true/,
    "an answer of 'mosquitero store', which tells all of it"
  ]
]

t.test('every sentence about what a person did wrong is in the document', async t => {
  const spans = [...document.matchAll(/`([^`]+)`/g)].map(([, text = '']) => text)
  const said = rooms.flatMap(room => sentences(readFileSync(`src/${room}.ts`, 'utf8')).map(sentence => ({ room, sentence })))
  t.ok(said.length > 150)
  const missing = said.filter(({ sentence }) => {
    const shape = new RegExp(
      sentence
        .trim()
        .replace(/^Error: /, '')
        .split('{}')
        .map(part => part.replaceAll(/[\\^$.*+?()[\]{}|]/g, '\\$&'))
        .join('.*')
    )
    return !others.some(([pattern]) => pattern.test(sentence)) && !spans.some(span => shape.test(span))
  })
  t.same(
    missing.map(({ room, sentence }) => `${room}: ${sentence}`),
    []
  )
})

t.test('every sentence of the table of options is in the document', async t => {
  const all: readonly [string, Option][] = [...Object.entries(options), ...Object.entries(ownOptions)]
  for (const [name, { argument, twice, deprecated, unavailable }] of all) {
    const numbers = argument.kind === 'integer' ? [argument.low, argument.high, argument.outside] : []
    const words = argument.kind === 'keyword' ? [argument.outside?.replaceAll('{value}', 'x')] : []
    for (const sentence of [...numbers, ...words, twice]) {
      if (sentence)
        t.ok(
          rows.some(({ message }) => rowOfMessage(rows, sentence, 'ERR_CONF_VALUE') || message === sentence),
          sentence
        )
    }
    if (deprecated) t.ok(document.includes(`\`${deprecated}\``), deprecated)
    if (unavailable !== undefined)
      t.ok(rowOfMessage(rows, `The '${name}' option is not supported yet: ${unavailable}.`, 'ERR_CONF_UNAVAILABLE'))
  }
})

/** Compares what was said with the document: the sentence, its place, how grave it is. */
function compare(t: Test, cause: Cause, problems: readonly Problem[]): void {
  const { said, at, env } = cause
  const isSaid = ({ message }: Problem): boolean => (typeof said === 'string' ? message === said : said.test(message))
  const problem = problems.find(isSaid)
  if (problem === undefined) {
    t.fail(`not said: ${said}`, { found: problems.map(({ message }) => message) })
    return
  }
  const { code, message, severity } = problem
  t.equal(problem.at && formatLine(problem.at), at)
  const row = rowOfMessage(rows, message, code)
  if (row === undefined) {
    t.fail(`docs/errors.md has no row for ${code} ${message}`)
    return
  }
  caused.add(row)
  if (severity === 'error' && env === undefined && !firsts.has(code)) firsts.set(code, cause)
  if (typeof row.status === 'number') t.equal(exitStatus[code], row.status)
  t.equal(typeof row.status === 'number' ? 'error' : row.status, severity)
  // What a line may be wrong in, a property may be too.
  const isIn = (place: string): boolean => row.places.includes(place) || (place === 'property' && row.places.includes('conf line'))
  t.ok(isIn(placeOf(problem.at, env)), `${placeOf(problem.at, env)} is one of ${row.places.join(', ')}`)
}

const formatLine = ({ file, line }: Location): string => (line === undefined ? file : `${file}:${line}`)

function placeOf(at: Location | undefined, env: Cause['env']): string {
  if (at === undefined) return env === undefined ? '-' : 'environment'
  if (at.line === undefined) return /^(config|options)\b/.test(at.file) ? 'property' : 'the file'
  return { acl: 'acl_file line', p: 'password_file line', k: 'psk_file line' }[at.file] ?? 'conf line'
}

const title = ({ said }: Cause): string => String(said).slice(0, 120)

for (const cause of [...confCauses, ...fileCauses, ...hashCauses].filter(({ byCommand }) => !byCommand)) {
  t.test(`a start is refused: ${title(cause)}`, async t => {
    const error = await refusal(await causeFolder(t, await shared, cause), cause)
    const { code, message, at } = error
    const problems = error instanceof ProblemsError ? error.problems : [{ severity: 'error', code, message, ...(at && { at }) } as const]
    compare(t, cause, problems)
  })
}

for (const cause of warnings) {
  t.test(`it is said: ${title(cause)}`, async t => {
    process.chdir(await causeFolder(t, await shared, cause))
    const { problems } = await examine({ file: 'm.conf', env: { ...cause.env } })
    process.chdir(root)
    compare(t, cause, problems)
  })
}

for (const { config, ...cause } of objectCauses) {
  t.test(`a program's object is refused: ${title(cause)}`, async t => {
    const { problems } = buildConfig({ object: config })
    compare(t, cause, problems)
  })
}

t.test("createServer is given what it doesn't know", async t => {
  const misplaced = { verbosity: 'quiet', listeners: [] } as const
  const problems = await createServer(misplaced).then(
    () => [],
    (error: unknown) => (error instanceof ProblemsError ? error.problems : [])
  )
  const said = "'listeners' is no option of createServer: what mosquitto.conf says belongs into 'config'."
  compare(t, { conf: '', said, at: 'options.listeners' }, problems)
})

for (const command of commandCauses) tryCommand(t, command)

t.test('one cause of every other code, by the command', async t => {
  const tried = new Set(commandCauses.map(({ code }) => code))
  for (const [code, { conf, files, said, at }] of firsts) {
    if (tried.has(code)) continue
    const command = { args: start, conf, said, code, status: exitStatus[code], ...(files && { files }), ...(at !== undefined && { at }) }
    tryCommand(t, command)
  }
})

function tryCommand(t: Test, command: Command): void {
  void t.test(`mosquitero ${command.args.join(' ')}: ${String(command.said).slice(0, 80)} (${command.status})`, async t => {
    const conf = command.conf ?? ''
    const dir = await causeFolder(t, await shared, {
      conf: /^user /m.test(conf) ? conf : `${conf}${userLine}`,
      said: '',
      ...(command.files && { files: command.files })
    })
    await command.prepare?.(t, dir, await shared)
    const before = command.before === undefined ? [] : ['--import', command.before]
    const main = join(root, 'dist/cli/main.js')
    const ended = await run(t, process.execPath, [...before, main, ...command.args], { cwd: dir, ...(command.env && { env: command.env }) })
    t.equal(ended.status, command.status, ended.stderr)
    const lines = ended.stderr.split('\n').map(line => line.replace(/^\d+: /, ''))
    const isSaid = (line: string): boolean => (typeof command.said === 'string' ? line === command.said : command.said.test(line))
    const index = lines.findIndex(line => isSaid(line.replace(/^Error: /, '')))
    t.ok(index >= 0, ended.stderr)
    const [, place] = /^Error found at (.*)\.$/.exec(lines[index + 1] ?? '') ?? []
    t.equal(place, command.at)
    t.notMatch(ended.stderr, /\n\s+at /, 'no stack')
    const message = lines[index]?.replace(/^Error: /, '') ?? ''
    const row = rowOfMessage(rows, message, command.code)
    t.ok(row, message)
    t.equal(row?.status, command.status)
    if (row) caused.add(row)
  })
}

t.test('every row was caused', async t => {
  const missing = rows.filter(row => !caused.has(row))
  const cannot = missing.filter(
    ({ code, message }) =>
      (code === 'ERR_USER' && !isRoot) || (code === 'ERR_LISTEN_PERMISSION' && message === '{reason}' && privileged <= 0)
  )
  t.same(
    missing.filter(row => !cannot.includes(row)).map(({ section, code, message }) => `${section}: ${code} ${message}`),
    []
  )
})
