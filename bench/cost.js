// npm run bench:cost: what a message costs on each part of its way through the broker, in figures that do not depend on the machine, beside
// the last ones in cost.json. Exit status 1: one of them has grown.
//
//   --write        takes the figures as the last ones
//   --only NAME    this stage alone, e.g. fan-out-0; may be given again
//   --values FILE  another file than cost.json
//   --json         the figures as JSON

import { spawn } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { stages } from './cost-stages.js'

/**
 * `tolerance`: what it may grow by, as a part of it; `slack`: and in units of its own, of which there may be very few. Work is the same in
 * every run; bytes are not quite, since maps and pages of the heap grow by leaps.
 */
const measures = [
  { name: 'calls', kind: 'work', unit: 'calls of functions', tolerance: 0.01, slack: 0.01 },
  { name: 'blocks', kind: 'work', unit: 'runs of blocks', tolerance: 0.01, slack: 0.01 },
  { name: 'heap', kind: 'bytes', unit: 'bytes on the heap', tolerance: 0.03, slack: 4 },
  { name: 'buffers', kind: 'bytes', unit: 'bytes of buffers', tolerance: 0.03, slack: 8 }
]

/**
 * What is counted is what the code says: the optimising compilers, which leave out calls and objects when they see fit, and see that at another
 * moment in each run, are switched off. The young generation takes all that a stage allocates, so that nothing is collected before it is counted.
 */
const flags = {
  work: ['--no-opt', '--no-maglev'],
  bytes: ['--no-opt', '--no-maglev', '--single-threaded', '--expose-gc', '--min-semi-space-size=128', '--max-semi-space-size=128']
}

const { values: options } = readOptions()
const chosen = stages.filter(({ name }) => options.only?.includes(name) ?? true)
if (chosen.length === 0) fail(`--only takes one of ${stages.map(({ name }) => name).join(', ')}`, 2)
const file = options.values ?? fileURLToPath(new URL('cost.json', import.meta.url))
const major = process.versions.node.split('.')[0]

const last = readValues()
const [work, bytes] = await Promise.all([measure('work'), measure('bytes')])
const rows = chosen.map(stage => ({ stage, cells: measures.map(measured(stage.name)) }))
if (options.write) write()
else report()

function readOptions() {
  try {
    return parseArgs({
      options: {
        write: { type: 'boolean', default: false },
        only: { type: 'string', multiple: true },
        values: { type: 'string' },
        json: { type: 'boolean', default: false }
      }
    })
  } catch (error) {
    return fail(error.message, 2)
  }
}

/** Work is the same on every version of Node, bytes are not. */
function readValues() {
  try {
    return JSON.parse(readFileSync(file, 'utf8'))
  } catch (error) {
    if (options.write && error.code === 'ENOENT') return { work: {}, bytes: {} }
    return fail(`${file} can't be read: ${error.message}`)
  }
}

/** In a process of its own, in which nothing has been compiled, counted or allocated before. */
async function measure(kind) {
  const { NODE_OPTIONS: _, NODE_V8_COVERAGE: __, ...env } = process.env
  const meter = fileURLToPath(new URL('cost-meter.js', import.meta.url))
  const child = spawn(process.execPath, [...flags[kind], meter, kind, ...chosen.map(({ name }) => name)], {
    env,
    stdio: ['ignore', 'pipe', 'inherit']
  })
  let text = ''
  child.stdout.setEncoding('utf8').on('data', part => {
    text += part
  })
  const status = await new Promise(resolve => child.on('close', resolve))
  return status === 0 ? JSON.parse(text) : fail(`What ${kind} a message costs could not be measured: status ${status}.`)
}

function measured(stage) {
  return measure => {
    const { name, kind, tolerance, slack } = measure
    const now = (kind === 'work' ? work : bytes)[stage][name]
    const before = (kind === 'work' ? last.work : last.bytes[major])?.[stage]?.[name]
    const room = (before ?? 0) * tolerance + slack
    return { measure, now, before, hasGrown: now > before + room, hasFallen: now < before - room }
  }
}

function report() {
  const cells = rows.flatMap(({ stage, cells }) => cells.map(cell => ({ stage, ...cell })))
  const isNewNode = last.bytes[major] === undefined
  const unknown = cells.filter(({ measure, before }) => before === undefined && !(isNewNode && measure.kind === 'bytes'))
  const grown = cells.filter(({ hasGrown }) => hasGrown)
  const fallen = cells.filter(({ hasFallen }) => hasFallen)
  if (options.json) {
    const figures = rows.map(({ stage, cells }) => [
      stage.name,
      Object.fromEntries(cells.map(({ measure, now, before }) => [measure.name, { now, last: before }]))
    ])
    const sentences = list => list.map(sentence)
    process.stdout.write(
      `${JSON.stringify({ node: process.version, figures: Object.fromEntries(figures), grown: sentences(grown), fallen: sentences(fallen) }, undefined, 2)}\n`
    )
  } else {
    process.stdout.write(`${table()}\n`)
    for (const cell of fallen) process.stdout.write(`${sentence(cell)}\n`)
    if (fallen.length > 0) process.stdout.write('What has fallen may rise again unseen: keep it with npm run bench:cost -- --write.\n')
  }
  if (isNewNode) process.stderr.write(`There are no bytes of Node ${major} in ${file}: work alone is compared.\n`)
  for (const { stage, measure } of unknown) process.stderr.write(`${stage.name}: there is no last figure of ${measure.unit} in ${file}.\n`)
  for (const cell of grown) process.stderr.write(`${sentence(cell)}\n`)
  if (grown.length + unknown.length === 0) return
  process.stderr.write('If that is what it is worth: npm run bench:cost -- --write, as bench/README.md says.\n')
  process.exitCode = 1
}

function sentence({ stage, measure, now, before, hasGrown }) {
  const difference = before === 0 ? '' : `${percent(Math.abs(now / before - 1))} `
  return `${stage.name} (${stage.what}): ${figure(now)} ${measure.unit} for each message, ${difference}${hasGrown ? 'more' : 'less'} than the ${figure(before)} before.`
}

function table() {
  const head = ['', ...measures.flatMap(({ name }) => [name, 'last', ''])]
  const lines = rows.map(({ stage, cells }) => [
    stage.name,
    ...cells.flatMap(({ now, before }) => [figure(now), before === undefined ? '-' : figure(before), change(now, before)])
  ])
  const widths = head.map((_, column) => Math.max(...[head, ...lines].map(line => line[column].length)))
  const format = line => line.map((text, column) => (column === 0 ? text.padEnd(widths[0]) : text.padStart(widths[column]))).join('  ')
  return [head, ...lines].map(format).join('\n')
}

function change(now, before) {
  if (before === undefined || now === before) return ''
  if (before === 0) return 'new'
  const difference = percent(Math.abs(now / before - 1))
  return difference === percent(0) ? '' : `${now > before ? '+' : '-'}${difference}`
}

/** One line for each stage, so that a difference of two versions shows which of them have changed. */
function write() {
  for (const { stage, cells } of rows) {
    const figures = kind => Object.fromEntries(cells.flatMap(({ measure, now }) => (measure.kind === kind ? [[measure.name, now]] : [])))
    last.work[stage.name] = figures('work')
    last.bytes[major] ??= {}
    last.bytes[major][stage.name] = figures('bytes')
  }
  const lines = (table, indent) =>
    stages
      .filter(({ name }) => table[name] !== undefined)
      .map(
        ({ name }) =>
          `${indent}"${name}": ${JSON.stringify(table[name])
            .replace(/([{:,])/g, '$1 ')
            .replace('}', ' }')}`
      )
      .join(',\n')
  const versions = Object.keys(last.bytes).map(version => `    "${version}": {\n${lines(last.bytes[version], '      ')}\n    }`)
  writeFileSync(file, `{\n  "work": {\n${lines(last.work, '    ')}\n  },\n  "bytes": {\n${versions.join(',\n')}\n  }\n}\n`)
  const others = Object.keys(last.bytes).filter(version => version !== major)
  process.stdout.write(`${file} has the figures of this code now.\n`)
  if (others.length > 0) process.stdout.write(`The bytes of Node ${others.join(' and ')} are as they were: do the same with them.\n`)
}

function figure(value) {
  return String(Math.round(value * 100) / 100)
}

function percent(part) {
  return `${(part * 100).toFixed(1)} %`
}

function fail(message, status = 1) {
  process.stderr.write(`${message}\n`)
  process.exit(status)
}
