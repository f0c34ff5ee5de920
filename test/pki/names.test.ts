import fc from 'fast-check'
import t from 'tap'
import { checkCommonName, commonNameProblem, parseAddress, parseAlternativeName } from '../../dist/pki/names.js'

t.test('names that people give to devices are taken', async t => {
  for (const name of [
    'press-7',
    'f60c28',
    'admin:f60c28',
    'Müller 2',
    'dev@example.org',
    '温度計',
    'a$b',
    '...',
    'x'.repeat(64),
    '😀'.repeat(64)
  ]) {
    t.equal(checkCommonName(name), name)
  }
})

const refused: readonly (readonly [name: string, reason: RegExp])[] = [
  ['', /empty/],
  ['a\nb', /control character/],
  ['a\0', /control character/],
  ['\u001b[2J', /control character/],
  ['a\u200bb', /cannot be seen/],
  ['\u202egnp.exe', /cannot be seen/],
  ['\ud800', /cannot be seen/],
  [' a', /space/],
  ['a ', /space/],
  ['a/b', /"\/"/],
  ['../ca/ca', /"\/"/],
  ['..\\ca', /"\\"/],
  ['a+b', /wildcards/],
  ['#', /wildcards/],
  ['$SYS', /"\$"/],
  ['.', /folder/],
  ['..', /folder/],
  ['x'.repeat(65), /64 characters/],
  ['😀'.repeat(65), /64 characters/]
]

for (const [name, reason] of refused) {
  t.test(`the name ${JSON.stringify(name).slice(0, 20)} is refused with its reason`, async t => {
    t.throws(() => checkCommonName(name), { code: 'ERR_PKI_INPUT', message: reason })
  })
}

t.test('a name that passes is harmless as username, in a pattern and as a file name', async () => {
  const text = fc.oneof(fc.string({ unit: 'binary' }), fc.stringMatching(/^[./\\$+# a]{0,6}$/), fc.string({ minLength: 60, maxLength: 70 }))
  fc.assert(
    fc.property(text, name => {
      const harmless =
        /^(?![$\s])[^\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}/\\+#]+$/su.test(name) &&
        name.trim() === name &&
        !/^\.\.?$/.test(name) &&
        [...name].length <= 64
      return commonNameProblem(name) !== undefined || harmless
    }),
    { numRuns: 2000 }
  )
})

t.test('a word is an address or a host name by its look', async t => {
  t.same(parseAlternativeName('localhost'), { type: 'dns', value: 'localhost' })
  t.same(parseAlternativeName('127.0.0.1'), { type: 'ip', value: '127.0.0.1' })
  t.same(parseAlternativeName('::1'), { type: 'ip', value: '::1' })
  t.same(parseAlternativeName('::ffff:10.0.0.1'), { type: 'ip', value: '::ffff:10.0.0.1' })
  t.same(parseAlternativeName('*.example.org'), { type: 'dns', value: '*.example.org' })
  t.same(parseAlternativeName('my_container'), { type: 'dns', value: 'my_container' })
  t.same(parseAlternativeName('Bücher.example'), { type: 'dns', value: 'xn--bcher-kva.example' })
  t.same(parseAlternativeName('3com.example'), { type: 'dns', value: '3com.example' })
  t.same(parseAddress('10.1.2.3'), { type: 'ip', value: '10.1.2.3' })
})

t.test('what is neither address nor host name is refused', async t => {
  const wrong = [
    '',
    ' ',
    '*',
    '*.',
    'a..b',
    '-a',
    'a-',
    'a b',
    '256.1.1.1',
    '1.2.3',
    '1:2',
    'a/b',
    'a,b',
    'fe80::1%eth0',
    `${'a'.repeat(64)}.org`,
    'a\0b',
    'a.*.b',
    'http://x',
    '$x'
  ]
  for (const text of wrong) t.throws(() => parseAlternativeName(text), { code: 'ERR_PKI_INPUT' }, JSON.stringify(text))
  t.throws(() => parseAddress('localhost'), { code: 'ERR_PKI_INPUT' })
})

t.test('any text is a name or refused, nothing else', async () => {
  fc.assert(
    fc.property(fc.oneof(fc.string({ unit: 'binary' }), fc.domain(), fc.ipV6(), fc.ipV4()), text => {
      try {
        return /^[\x21-\x7e]+$/.test(parseAlternativeName(text).value)
      } catch (error) {
        return error instanceof Error && 'code' in error && error.code === 'ERR_PKI_INPUT'
      }
    }),
    { numRuns: 1000 }
  )
})
