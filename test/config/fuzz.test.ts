import fc from 'fast-check'
import t from 'tap'
import { buildConfig, includeDirs } from '../../dist/config/build.js'
import { options, ownOptions } from '../../dist/config/options.js'
import { formatProblem } from '../../dist/errors.js'

const names = [...Object.keys(options), ...Object.keys(ownOptions).map(name => `#!${name}`), '__proto__', 'constructor', 'include_dir']
const words = [
  'true',
  '0',
  '1883',
  '0x10',
  '-1',
  '65536',
  '127.0.0.1',
  '/run/x',
  'none',
  'all',
  'file',
  'mqtt',
  'websockets',
  '#',
  '"a',
  '""',
  'a:1'
]

const word = fc.oneof(fc.constantFrom(...words), fc.string({ unit: 'binary', maxLength: 12 }))
const line = fc
  .tuple(
    fc.constantFrom('', '', '', ' ', '\t'),
    fc.oneof(fc.constantFrom(...names), fc.string({ maxLength: 8 })),
    fc.array(word, { maxLength: 4 })
  )
  .map(([indent, name, values]) => `${indent}${[name, ...values].join(' ')}`)
const text = fc.array(line, { maxLength: 12 }).map(lines => Buffer.from(lines.join('\n')))
const bytes = fc.uint8Array({ maxLength: 200 }).map(array => Buffer.from(array))
const content = fc.oneof({ weight: 4, arbitrary: text }, { weight: 1, arbitrary: bytes })

t.test('whatever a file holds: nothing is thrown, and every problem has its file and line', async t => {
  fc.assert(
    fc.property(
      content,
      content,
      fc.dictionary(fc.constantFrom('MOSQUITERO_STORE', 'MOSQUITERO_LOG_FORMAT', 'MOSQUITERO_STOR'), word),
      (main, other, env) => {
        const included = [{ file: 'd/a.conf', content: other }]
        const lines = main.toString('latin1').split('\n').length
        const result = buildConfig({
          main: { file: 'm.conf', content: main, includes: new Map(includeDirs(main).map(dir => [dir, included])) },
          env
        })
        for (const problem of result.problems) {
          if (problem.message.includes('MOSQUITERO_')) continue
          const { at } = problem
          const outer = at?.includedFrom ?? at
          if (at?.line === undefined || at.line < 1 || outer?.file !== 'm.conf' || (outer.line ?? 0) > lines) {
            throw new Error(`no place: ${formatProblem(problem).join(' ')}`)
          }
        }
        const refused = result.problems.some(({ severity }) => severity === 'error')
        if (refused !== (result.config === undefined)) throw new Error('a configuration with errors, or none without')
        if (result.config && !Object.isFrozen(result.config.listeners)) throw new Error('not frozen')
      }
    ),
    { numRuns: 3000 }
  )
  t.pass()
})

t.test('whatever the listeners say, one that requires certificates has TLS and a CA', async t => {
  const tls = [
    'listener 8883',
    'port 1883',
    'certfile c',
    'keyfile k',
    'cafile a',
    'capath p',
    'require_certificate true',
    'max_connections 1',
    'per_listener_settings true',
    'certfile'
  ]
  fc.assert(
    fc.property(fc.array(fc.constantFrom(...tls), { maxLength: 12 }), chosen => {
      const { config } = buildConfig({ main: { file: 'm.conf', content: chosen.join('\n') } })
      if (!config) return
      const asked = chosen.includes('require_certificate true')
      const strict = config.listeners.filter(({ tls }) => tls?.requireCertificate)
      if (asked && strict.length === 0) throw new Error('require_certificate was lost')
      if (strict.some(({ tls }) => !tls?.cafile && !tls?.capath)) throw new Error('no CA')
    }),
    { numRuns: 2000 }
  )
  t.pass()
})
