import t from 'tap'
import { findOption, findOwnOption, nearOwnOption, type Option, options, ownOptions } from '../../dist/config/options.js'

const rows: [string, Option][] = [...Object.entries(options), ...Object.entries(ownOptions)]

t.test('every option is found by its name and its aliases', async t => {
  for (const [name, option] of rows.slice(0, Object.keys(options).length)) {
    for (const written of [name, ...(option.aliases ?? [])]) t.equal(findOption(written)?.[0], name, written)
  }
})

t.test('no alias hides another option', async t => {
  const names = rows.flatMap(([name, { aliases }]) => [name, ...(aliases ?? [])])
  t.equal(new Set(names).size, names.length)
})

t.test('every option says in one sentence what it does', async t => {
  for (const [name, { doc }] of rows) t.match(doc, /[.`]$/, name)
})

t.test('plugin options are one option, whatever their end', async t => {
  t.equal(findOption('plugin_opt_anything')?.[0], 'plugin_opt_*')
  t.equal(findOption('auth_opt_')?.[0], 'plugin_opt_*')
})

t.test('the names of object properties are no options', async t => {
  for (const name of ['__proto__', 'constructor', 'toString', 'hasOwnProperty', '']) {
    t.equal(findOption(name), undefined)
    t.equal(findOwnOption(name), undefined)
  }
})

t.test('one slip is near, two are not', async t => {
  for (const near of ['stor', 'storee', 'stxre', 'tsore', 'STORE', ' store']) t.equal(nearOwnOption(near), 'store', near)
  for (const far of ['', 's', 'sto', 'stoer2', 'restore', 'log_forma1t']) t.not(nearOwnOption(far), 'store', far)
})
