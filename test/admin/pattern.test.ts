// Patterns for clients: stars and question marks for the whole text, anything else anywhere in it.

import fc from 'fast-check'
import t from 'tap'
import { fits } from '../../dist/admin/pattern.js'

const rows: readonly (readonly [pattern: string, text: string, fits: boolean])[] = [
  ['press', 'press-7', true],
  ['ess-', 'press-7', true],
  ['gauge', 'press-7', false],
  ['', 'anything', true],
  ['*', '', true],
  ['press-*', 'press-7', true],
  ['press-*', 'my press-7', false],
  ['press-?', 'press-7', true],
  ['press-?', 'press-17', false],
  ['*-7', 'press-7', true],
  ['*-7', 'press-77', false],
  ['*a*b?', 'xxaabbc', true],
  ['*a*b?', 'xxaabb', true],
  ['*a*b?', 'xxaab', false],
  ['a.c*', 'abc', false],
  ['(*', '(a', true]
]

for (const [pattern, text, expected] of rows) {
  t.test(`'${pattern}' ${expected ? 'fits' : "doesn't fit"} '${text}'`, async t => {
    t.equal(fits(pattern, text), expected)
  })
}

t.test('as a regular expression says, for whatever is typed', async () => {
  const letter = fc.constantFrom('a', 'b', '*', '?', '.')
  fc.assert(
    fc.property(
      fc.string({ unit: letter, maxLength: 8 }),
      fc.string({ unit: fc.constantFrom('a', 'b', '.'), maxLength: 12 }),
      (pattern, text) => {
        const source = pattern.replaceAll('.', '\\.').replaceAll('*', '.*').replaceAll('?', '.')
        const anchored = /[*?]/.test(pattern) ? `^${source}$` : source
        return fits(pattern, text) === new RegExp(anchored).test(text)
      }
    )
  )
})

t.test('a pattern and a text that are made to be slow are not', async t => {
  const start = performance.now()
  t.equal(fits('*a*a*a*a*a*a*a*a*b', 'a'.repeat(65_535)), false)
  t.ok(performance.now() - start < 500)
})
