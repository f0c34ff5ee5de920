import { readFileSync } from 'node:fs'
import t from 'tap'
import { options, ownOptions } from '../../dist/config/options.js'
import { embedOptionsTable, optionsTable } from '../../dist/config/options-table.js'

t.test('every option has one row', async t => {
  const table = optionsTable().split('\n')
  for (const name of Object.keys(options)) t.equal(table.filter(line => line.startsWith(`| \`${name}\``)).length, 1, name)
  for (const name of Object.keys(ownOptions)) t.equal(table.filter(line => line.startsWith(`| \`#!${name}\``)).length, 1, name)
})

t.test('every row has as many cells as the head', async t => {
  for (const line of optionsTable()
    .split('\n')
    .filter(line => line.startsWith('|'))) {
    t.equal(line.replaceAll('\\|', '').split('|').length, 8, line)
  }
})

t.test('a document without a place for the table is refused', async t => {
  t.throws(() => embedOptionsTable('# Options'), TypeError)
})

t.test('the README lists exactly our own options, with their values and defaults', async t => {
  const readme = readFileSync('README.md', 'utf8')
  const rows = readme.split('\n').filter(line => line.startsWith('| `#!'))
  t.same(rows.map(line => /^\| `#!(\w+)`/.exec(line)?.[1]).toSorted(), Object.keys(ownOptions).toSorted())
  for (const [name, { default: initial, argument }] of Object.entries(ownOptions)) {
    const row = rows.find(line => line.startsWith(`| \`#!${name}\``)) ?? ''
    t.match(row, `default \`${initial}\``)
    if (argument.kind === 'keyword') for (const word of argument.words) t.match(row, `\`${word}\``)
  }
})

t.test('docs/options.md is what the table says (node scripts/options-table.js renews it)', async t => {
  const document = readFileSync('docs/options.md', 'utf8')
  t.equal(embedOptionsTable(document), document)
})
