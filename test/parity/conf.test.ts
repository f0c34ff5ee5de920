// The same configuration given to our engine and to the real mosquitto: both take it or both refuse it, with the same exit status
// and the same line.

import { appendFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import t from 'tap'
import { exitStatus } from '../../dist/errors.js'
import { buildCase, type ConfCase, parseCases } from '../helpers/conf-cases.js'
import { mosquittoVersion, startMosquitto } from '../helpers/real-mosquitto.js'

interface Outcome {
  readonly accepted: boolean
  readonly status?: number | null
  /** `FILE:LINE` of the first `Error found at`. */
  readonly place?: string | undefined
}

const batch = 4
const is20 = mosquittoVersion().startsWith('2.0.')
const cases = parseCases(readFileSync('test/cases/parity/conf.case', 'utf8'))

function ours(conf: ConfCase): Outcome {
  const { problems } = buildCase(conf)
  const first = problems.find(({ severity }) => severity === 'error')
  if (!first) return { accepted: true }
  return { accepted: false, status: exitStatus[first.code], place: first.at && `${first.at.file}:${first.at.line}` }
}

async function theirs(conf: ConfCase, dir: string): Promise<Outcome> {
  for (const [name, content] of conf.files) {
    mkdirSync(join(dir, dirname(name)), { recursive: true })
    writeFileSync(join(dir, name), content)
  }
  // Started by root it would become a user that may not create a socket in our folder.
  if (process.getuid?.() === 0) appendFileSync(join(dir, 'm.conf'), 'user root\n')
  const { accepted, status, output } = await startMosquitto(dir, 'm.conf')
  if (accepted) return { accepted }
  return { accepted, status, place: /Error found at '?([^\s']+:\d+)/.exec(output)?.[1] }
}

t.test('there are cases', async t => {
  t.ok(cases.length >= 40)
})

t.test('the same configuration, the same answer', { jobs: batch, timeout: 120_000 }, async t => {
  const dir = t.testdir()
  for (const [index, conf] of cases.entries()) {
    void t.test(conf.title, { buffered: true }, async t => {
      const real = await theirs(conf, join(dir, String(index)))
      const [mark = ''] = conf.expected
      const differs = mark.startsWith('ours: ') || (is20 && mark.startsWith('2.1: '))
      // A mark that is no longer true must go.
      if (differs) t.notSame(ours(conf), real, mark)
      else t.same(ours(conf), real)
    })
  }
})
