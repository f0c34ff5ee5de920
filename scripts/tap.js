// Runs tap and shows of its stream what a person wants to see: a line for each file, and all that is known about a failure.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { root, runPackage } from './prepare.js'

const tap = 'tap/dist/esm/run.mjs'

/** Resolves with tap's exit status and with its own count; there is none when it ended before it could count. */
export async function runTap(args) {
  buildTap()
  const child = spawn(process.execPath, [join(root, 'node_modules', tap), '--reporter=tap', ...args], {
    cwd: root,
    stdio: ['ignore', 'pipe', 'inherit']
  })
  const ended = once(child, 'close')
  const counts = await show(createInterface({ input: child.stdout }))
  const [status] = await ended
  return { status: status ?? 1, counts }
}

// tap is put together anew when the configuration leaves out a plugin that it came with, as it does after each installation. Left to
// itself it does so when the tests are already on their way with the old plugins, and all of them fail.
function buildTap() {
  const built = readFileSync(join(root, 'node_modules/@tapjs/test/test-built/dist/esm/index.js'), 'utf8')
  const { plugin } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')).tap
  if (plugin.some(name => name.startsWith('!') && built.includes(`"${name.slice(1)}"`))) runPackage(tap, ['build'])
}

async function show(lines) {
  let counts
  let detail // the line that ends the block under a failure
  for await (const line of lines) {
    const [, indent, result] = /^( *)(ok|not ok|Bail out!)/.exec(line) ?? []
    if (result === 'not ok' || result === 'Bail out!' || (result === 'ok' && indent === '')) {
      process.stdout.write(`${line}\n`)
      detail = result === 'not ok' ? `${indent}  ...` : undefined
    } else if (detail !== undefined) {
      process.stdout.write(`${line}\n`)
      if (line === detail) detail = undefined
    }
    counts = parseCounts(line) ?? counts
  }
  return counts
}

// The last but one line of the stream, such as `# { total: 12, pass: 11, fail: 1 }`. Whatever did not pass has failed, be it skipped.
function parseCounts(line) {
  const [, total, passed] = /^# \{ total: (\d+)(?:, pass: (\d+))?[^{}]*\}$/.exec(line) ?? []
  return total === undefined ? undefined : { passed: Number(passed ?? 0), failed: Number(total) - Number(passed ?? 0) }
}
