import fc from 'fast-check'
import t from 'tap'
import { isControlTopic, isTopicFilter, isTopicName, matchesFilter, parseFilter } from '../dist/topic.js'

t.test('a topic name has at least one character, no wildcard, no NUL, at most 200 slashes and 65535 bytes', async t => {
  for (const name of ['a', '/', '//', 'a/b', ' ', '$SYS', 'a$b', 'é', '/'.repeat(200), 'x'.repeat(65_535), '€'.repeat(21_845)])
    t.ok(isTopicName(name), name)
  for (const name of ['', '+', '#', 'a/+', 'a#', 'a+b', 'a\0', '/'.repeat(201), 'x'.repeat(65_536), `${'€'.repeat(21_845)}a`])
    t.notOk(isTopicName(name), name)
})

t.test('in a topic filter + and # are alone in their level, # in the last', async t => {
  for (const filter of ['a', '+', '#', '/', '+/+', '+/#', '/+', '/#', 'a/+/b', 'a/#', '$SYS/#', '//', '/'.repeat(200)])
    t.ok(isTopicFilter(filter), filter)
  for (const filter of [
    '',
    'a+',
    '+a',
    'a#',
    '#a',
    '#/',
    '#/a',
    'a/#/b',
    '++',
    '+#',
    '##',
    'a/b+',
    'a/+b/c',
    '\0',
    '/'.repeat(201),
    'x'.repeat(65_536)
  ]) {
    t.notOk(isTopicFilter(filter), filter)
  }
})

t.test('a filter matches a name as MQTT says', async t => {
  const rows: [filter: string, name: string, matches: boolean][] = [
    ['a/b', 'a/b', true],
    ['a/b', 'a/B', false],
    ['a/#', 'a', true],
    ['a/#', 'a/', true],
    ['a/#', 'ab', false],
    ['a/+', 'a', false],
    ['a/+', 'a/', true],
    ['+', '/', false],
    ['+/+', '/', true],
    ['/+', '/finance', true],
    ['+', '/finance', false],
    ['+/#', 'a', true],
    ['a/+/#', 'a', false],
    ['a/+/#', 'a/', true],
    ['#', 'a/b/c', true],
    ['#', '$SYS/x', false],
    ['+/x', '$SYS/x', false],
    ['$SYS/#', '$SYS', true],
    ['$SYS/#', 'SYS/x', false],
    ['a/b', 'a', false],
    ['a', 'a/b', false],
    ['a/+/c', 'a/b/c/d', false],
    ['a', '', false],
    ['#', '', false]
  ]
  for (const [filter, name, matches] of rows) t.equal(matchesFilter(filter, name), matches, `${filter} and ${name}`)
})

// Level by level, as the specification describes it.
function matchesByLevels(filter: string, name: string): boolean {
  if (name === '' || filter.startsWith('$') !== name.startsWith('$')) return false
  const [levels, names] = [filter.split('/'), name.split('/')]
  const all = levels.at(-1) === '#'
  if (all) levels.pop()
  if (all ? names.length < levels.length : names.length !== levels.length) return false
  return levels.every((level, i) => level === '+' || level === names[i])
}

function isFilterByLevels(text: string): boolean {
  const levels = text.split('/')
  const isLevel = (level: string, i: number) => !/[+#\0]/.test(level) || level === '+' || (level === '#' && i === levels.length - 1)
  return text !== '' && levels.length <= 201 && Buffer.byteLength(text) <= 65_535 && levels.every(isLevel)
}

const path = (levels: string[]) => fc.array(fc.constantFrom(...levels), { minLength: 1, maxLength: 6 }).map(parts => parts.join('/'))

t.test('matching is the same as comparing level by level', async t => {
  const filter = path(['', 'a', 'b', 'ab', '+', '$', '#']).filter(isTopicFilter)
  fc.assert(
    fc.property(
      filter,
      path(['', 'a', 'b', 'ab', '$', 'é']),
      (filter, name) => matchesFilter(filter, name) === matchesByLevels(filter, name)
    ),
    { numRuns: 20_000 }
  )
  t.pass()
})

t.test('validity is the same as looking at each level', async t => {
  const text = fc.oneof(path(['', 'a', '+', '#', 'a+', '#b', '++', '\0']), fc.string())
  fc.assert(
    fc.property(
      text,
      text => isTopicFilter(text) === isFilterByLevels(text) && isTopicName(text) === (isFilterByLevels(text) && !/[+#]/.test(text))
    ),
    { numRuns: 5000 }
  )
  t.pass()
})

t.test('a shared subscription is taken apart as Mosquitto does', async t => {
  for (const [text, parsed] of [
    ['a/b', { filter: 'a/b' }],
    ['$shared/g/a', { filter: '$shared/g/a' }],
    ['$share/g/a/+/#', { filter: 'a/+/#', group: 'g' }],
    ['$share/g//', { filter: '/', group: 'g' }],
    ['$share/g/$SYS/x', { filter: '$SYS/x', group: 'g' }],
    ['$share//a', 'protocol-error'],
    ['$share', 'protocol-error'],
    ['$share/', 'protocol-error'],
    ['$share/g', 'protocol-error'],
    ['$share/g/', 'protocol-error'],
    ['$share//', 'protocol-error'],
    ['$share/+', 'protocol-error'],
    ['$share/#', 'protocol-error'],
    ['$share/+/a', 'protocol-error'],
    ['$share/#/a', 'malformed'],
    ['$share/g+/a', 'malformed'],
    ['$share/g/a+', 'malformed'],
    ['', 'malformed'],
    [`$share/g/${'/'.repeat(199)}`, 'malformed']
  ] as const) {
    t.same(parseFilter(text), parsed, text)
  }
})

t.test('what lies below $CONTROL is for plugins', async t => {
  for (const name of ['$CONTROL/broker/v1', '$CONTROL/']) t.ok(isControlTopic(name), name)
  for (const name of ['$CONTROL', 'CONTROL/a', '$SYS/a', 'a/$CONTROL/b']) t.notOk(isControlTopic(name), name)
})

t.test('a level of any length is one level, and a long one costs next to nothing', t => {
  for (const length of [0, 1, 63, 64, 65, 1000]) {
    const level = 'x'.repeat(length)
    t.ok(matchesFilter('+/b', `${level}/b`), `${length}`)
    t.ok(matchesFilter('a/+', `a/${level}`), `${length} at the end`)
    t.ok(matchesFilter('a/+/#', `a/${level}`), `${length} above #`)
    t.notOk(matchesFilter('+/b', `${level}/b/c`), `${length} and one level more`)
    t.notOk(matchesFilter('+', `${level}/`), `${length} and an empty level`)
  }
  const name = 'x'.repeat(65_000)
  const before = process.cpuUsage()
  for (let i = 0; i < 10_000; i++) matchesFilter('+/value/#', name)
  const milliseconds = process.cpuUsage(before).user / 1000
  t.ok(milliseconds < 500, `${milliseconds.toFixed(0)} ms of a processor; by single characters it takes 1000`)
  t.end()
})
