import t from 'tap'
import { parseDirectives } from '../../dist/config/syntax.js'

t.test('a directive has its name, the rest of its line, and its place', async t => {
  const { directives, problems } = parseDirectives('# comment\n\n  listener  1883 x \nport', 'm.conf')
  t.same(directives, [
    { name: 'listener', value: ' 1883 x ', own: false, malformed: false, at: { file: 'm.conf', line: 3 } },
    { name: 'port', value: '', own: false, malformed: false, at: { file: 'm.conf', line: 4 } }
  ])
  t.same(problems, [])
})

t.test('only line feeds end a line', async t => {
  const { directives } = parseDirectives('user a\rport 1\n', 'm.conf')
  t.same(
    directives.map(({ name, value }) => [name, value]),
    [['user', 'a\rport 1']]
  )
})

t.test('an included file knows the line that led to it', async t => {
  const from = { file: 'm.conf', line: 7 }
  const [directive] = parseDirectives('x', 'conf.d/a.conf', from).directives
  t.same(directive?.at, { file: 'conf.d/a.conf', line: 1, includedFrom: from })
})

t.test('bytes that are not UTF-8 mark their own line only', async t => {
  const { directives } = parseDirectives(Buffer.from('a \xff\nb c', 'latin1'), 'm.conf')
  t.same(
    directives.map(({ malformed }) => malformed),
    [true, false]
  )
})

t.test('an own option is told from a comment', async t => {
  const { directives } = parseDirectives('#!store memory\n#!stores memory\n#store memory\n #!store memory', 'm.conf')
  t.same(
    directives.map(({ name, own, at }) => [name, own, at.line]),
    [
      ['store', true, 1],
      ['#!store', false, 4]
    ]
  )
})

t.test('a warning about a misspelt own option never repeats its value', async t => {
  const { problems } = parseDirectives('#!stor redis://:secret@host', 'm.conf')
  t.equal(problems.length, 1)
  t.notMatch(JSON.stringify(problems), 'secret')
})
