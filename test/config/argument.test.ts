import t from 'tap'
import { durationSeconds, parseInteger, readArgument } from '../../dist/config/argument.js'

t.test('numbers are read as strtol does with base 0', async t => {
  const rows: [string, number | undefined][] = [
    ['0', 0],
    ['-0', 0],
    ['+7', 7],
    ['-12', -12],
    ['0x1F', 31],
    ['-0x10', -16],
    ['017', 15],
    ['08', undefined],
    ['0x', undefined],
    ['', undefined],
    ['-', undefined],
    ['1e3', undefined],
    ['1.5', undefined],
    ['12 ', undefined],
    ['\t12', 12],
    ['Infinity', undefined]
  ]
  for (const [word, value] of rows) t.equal(parseInteger(word), value, JSON.stringify(word))
})

t.test('a text has at most 65535 bytes', async t => {
  t.same(readArgument({ kind: 'string' }, 'user', 'a'.repeat(65535)), { value: 'a'.repeat(65535) })
  t.same(readArgument({ kind: 'string' }, 'user', `é${'a'.repeat(65534)}`), { refusal: "'user' value is longer than 65535 bytes." })
})

t.test('control characters and non-characters are no text', async t => {
  for (const character of ['\u0001', '\u007f', '\u0085', '\ufdd0', '\uffff']) {
    t.same(readArgument({ kind: 'path' }, 'pid_file', `a${character}b`), { refusal: 'Malformed UTF-8 in configuration.' })
  }
  t.same(readArgument({ kind: 'path' }, 'pid_file', '/tmp/ä\u00a0€😀 '), { value: '/tmp/ä\u00a0€😀' }, 'a no-break space is text')
})

t.test('a duration is counted in days of 24 hours, months of 30 days, years of 365', async t => {
  const rows: [string, number][] = [
    ['90s', 90],
    ['2h', 7200],
    ['14d', 14 * 86_400],
    ['3w', 21 * 86_400],
    ['2m', 60 * 86_400],
    ['01y', 365 * 86_400]
  ]
  for (const [written, seconds] of rows) {
    t.same(readArgument({ kind: 'duration' }, 'persistent_client_expiration', written), { value: written })
    t.equal(durationSeconds(written), seconds, written)
  }
})

t.test('the value of store is never repeated', async t => {
  for (const value of ['redis://', 'http://user:secret@h', 'secret', 'redis://:secret@']) {
    const reading = readArgument({ kind: 'store' }, '#!store', value)
    t.ok('refusal' in reading, value)
    t.notMatch(JSON.stringify(reading), 'secret')
  }
})
