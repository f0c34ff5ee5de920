// Renews the tables of docs/options.md from the code's own table; `--check` only says whether they are up to date.

import { readFileSync, writeFileSync } from 'node:fs'
import { embedOptionsTable } from '../dist/config/options-table.js'

const path = 'docs/options.md'
const before = readFileSync(path, 'utf8')
const after = embedOptionsTable(before)

if (process.argv.includes('--check')) {
  if (after !== before) {
    console.error(`${path} is not what src/config/options.ts says: run node scripts/options-table.js`)
    process.exitCode = 1
  }
} else if (after !== before) {
  writeFileSync(path, after)
}
