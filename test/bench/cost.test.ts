// What a message costs has not grown since bench/cost.json was written; and it would be seen if it had.

import { cpSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { type Ended, run } from '../helpers/command.js'

type Figures = Readonly<Record<string, Readonly<Record<string, number>>>>

interface Values {
  readonly work: Figures
  readonly bytes: Readonly<Record<string, Figures>>
}

const major = process.versions.node.split('.')[0] ?? ''
const program = join(process.cwd(), 'bench', 'cost.js')
const kept = (): Values => JSON.parse(readFileSync('bench/cost.json', 'utf8'))

function cost(t: Test, ...args: readonly string[]): Promise<Ended> {
  return run(t, process.execPath, [program, ...args])
}

/** Other last values than those of the repository, in a file. */
function valuesFile(t: Test, values: Values): string {
  const file = join(t.testdir({}), 'values.json')
  writeFileSync(file, JSON.stringify(values))
  return file
}

function scaled(figures: Figures, factor: number): Figures {
  return Object.fromEntries(
    Object.entries(figures).map(([stage, each]) => [
      stage,
      Object.fromEntries(Object.entries(each).map(([name, value]) => [name, value * factor]))
    ])
  )
}

t.test('no part of the way of a message costs more than it did', async t => {
  const { status, stdout, stderr } = await cost(t)
  t.equal(status, 0, status === 0 ? 'nothing has grown' : `${stderr}${stdout}`)
})

t.test('each version of Node has bytes of each stage', async t => {
  const { work, bytes } = kept()
  t.ok(Object.keys(work).length > 20)
  t.same(Object.keys(bytes), ['20', '22', '24'])
  for (const figures of Object.values(bytes)) t.same(Object.keys(figures), Object.keys(work))
})

t.test('a figure that is a tenth more than the last one is a sentence and exit status 1', async t => {
  const { work, bytes } = kept()
  const file = valuesFile(t, { work: scaled(work, 1 / 1.1), bytes: { [major]: scaled(bytes[major] ?? {}, 1 / 1.1) } })
  const { status, stderr } = await cost(t, '--only', 'pair-1', '--values', file)
  t.equal(status, 1)
  t.match(stderr, /^pair-1 \(1 → 1, QoS 1\): [\d.]+ calls of functions for each message, 10\.0 % more than the [\d.]+ before\.$/m)
  t.match(stderr, /^pair-1 .* runs of blocks .* more than/m)
  if (bytes[major] !== undefined) t.match(stderr, /^pair-1 .* bytes on the heap .* more than/m)
  t.match(stderr, /--write/)
})

t.test('one that is less is told, and is no fault', async t => {
  const { work } = kept()
  const { status, stdout, stderr } = await cost(t, '--only', 'decode-0', '--values', valuesFile(t, { work: scaled(work, 1.1), bytes: {} }))
  t.equal(status, 0)
  t.match(stdout, /^decode-0 .* calls of functions .* less than/m)
  t.match(stdout, /--write/)
  t.equal(stderr.match(/^There are no bytes of Node \d+ in .*: work alone is compared\.$/m)?.length, 1)
})

t.test('a stage without last values is a fault, until they are written', async t => {
  const file = valuesFile(t, { work: {}, bytes: { [major]: {}, 18: {} } })
  const before = await cost(t, '--only', 'decode-0', '--values', file)
  t.equal(before.status, 1)
  t.match(before.stderr, /^decode-0: there is no last figure of calls of functions/m)
  const written = await cost(t, '--only', 'decode-0', '--values', file, '--write')
  t.equal(written.status, 0)
  t.match(written.stdout, /The bytes of Node 18 are as they were/)
  const after = await cost(t, '--only', 'decode-0', '--values', file, '--json')
  t.equal(after.status, 0)
  t.same(JSON.parse(after.stdout).grown, [])
})

t.test('one more array, and one more call, for each packet are seen', async t => {
  const dir = t.testdir({})
  for (const name of ['bench', 'dist', 'package.json']) cpSync(name, join(dir, name), { recursive: true })
  const dispatch = join(dir, 'dist', 'session', 'dispatch.js')
  const text = readFileSync(dispatch, 'utf8')
  const line = 'host.stats.messagesReceived += 1;'
  t.ok(text.includes(line))
  writeFileSync(dispatch, text.replace(line, `[head, start, end].some(byte => byte < 0);\n    ${line}`))
  const { status, stderr } = await run(t, process.execPath, [join(dir, 'bench', 'cost.js'), '--only', 'decode-0'])
  t.equal(status, 1)
  t.match(stderr, /^decode-0 \(decode, QoS 0\): 11\.4 calls of functions for each message/m)
  if (kept().bytes[major] !== undefined) t.match(stderr, /^decode-0 .* bytes on the heap .* more than/m)
})

t.test('wrong usage', async t => {
  t.equal((await cost(t, '--wrong')).status, 2)
  const { status, stderr } = await cost(t, '--only', 'none')
  t.equal(status, 2)
  t.match(stderr, /--only takes one of decode-0, /)
})
