// A configuration with its files in a folder of the test, and what `check` says of it. `@/` in a file is that folder.

import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { type ExamineOptions, examine } from '../../dist/check/examine.js'
import type { Report } from '../../dist/check/report.js'
import { formatLocation, type Problem } from '../../dist/errors.js'

interface TestScope {
  teardown(end: () => void): void
}

export interface Examined {
  readonly report: Report
  readonly dir: string
  /** `warning m.conf:3 ERR_X Sentence.`, without the folder. */
  readonly lines: readonly string[]
}

export async function examined(
  t: TestScope,
  conf: string,
  files: Readonly<Record<string, string>> = {},
  options: Partial<ExamineOptions> = {}
): Promise<Examined> {
  // A Unix socket in it needs a short path.
  const dir = mkdtempSync(join(tmpdir(), 'check-'))
  t.teardown(() => rmSync(dir, { recursive: true, force: true }))
  for (const [name, text] of Object.entries({ 'm.conf': conf, ...files })) {
    mkdirSync(dirname(join(dir, name)), { recursive: true })
    writeFileSync(join(dir, name), text.replaceAll('@/', `${dir}/`))
  }
  const report = await examine({ file: join(dir, 'm.conf'), ...options })
  return { report, dir, lines: report.problems.map(problem => problemLine(problem).replaceAll(`${dir}/`, '')) }
}

function problemLine({ severity, code, message, at }: Problem): string {
  return `${severity} ${at ? formatLocation(at) : '-'} ${code} ${message}`
}
