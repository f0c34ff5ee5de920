import fc from 'fast-check'
import t from 'tap'
import { decoyKey, isKeyOf, keyMark, parsePskFile } from '../../dist/auth/psk-file.js'

const read = (text: string | Buffer) => {
  const { entries, problems } = parsePskFile(Buffer.from(text), 'psk')
  return {
    keys: Object.fromEntries([...entries].map(([identity, { key }]) => [identity, key.toString('hex')])),
    said: problems.map(({ severity, message, at }) => `${severity} ${at?.file}:${at?.line} ${message}`)
  }
}

t.test('lines are split and trimmed as Mosquitto does it', async t => {
  t.strictSame(read('# keys\nann:0a0B\n bob : 0c0d \r\n\ncyd:0e:more\n__proto__:ff\nodd:abc\nzero:0001\n').keys, {
    ann: '0a0b',
    bob: '0c0d',
    cyd: '0e',
    ['__proto__']: 'ff',
    odd: '0abc',
    zero: '0001'
  })
  t.strictSame(read('ann:0a').said, [])
})

t.test('what Mosquitto skips is skipped, with a line that says so and shows no key', async t => {
  const { keys, said } = read(`nocolon00ff\n:0a0b\nann:\nann:01\nann:02\n${'x'.repeat(129)}:0a\nlong:${'ab'.repeat(257)}\n`)
  t.strictSame(keys, { ann: '01' })
  t.strictSame(said, [
    "warning psk:1 Invalid line in psk_file 'psk', skipped: it is not written IDENTITY:HEX.",
    "warning psk:2 Invalid line in psk_file 'psk', skipped: it has no identity.",
    "warning psk:3 Invalid line in psk_file 'psk', skipped: 'ann' has no key.",
    "warning psk:5 Invalid line in psk_file 'psk', skipped: 'ann' is on line 4 already.",
    "warning psk:6 Invalid line in psk_file 'psk', skipped: the identity is longer than 128 bytes.",
    "warning psk:7 Invalid line in psk_file 'psk', skipped: the key of 'long' is longer than 256 bytes."
  ])
})

t.test('a byte order mark is a part of the first identity, as in Mosquitto, and that is said', async t => {
  const { keys, said } = read('\ufeffann:01\nbob:02\n')
  t.strictSame(keys, { '\ufeffann': '01', bob: '02' })
  t.strictSame(said, [
    "warning psk:1 A byte order mark at the beginning of psk_file 'psk' is a part of the first identity: save the file without."
  ])
})

t.test('a key that is not hexadecimal is an error, without the key', async t => {
  t.strictSame(read('ann:secret\n').said, ["error psk:1 psk for identity 'ann' in psk_file 'psk' contains non-hexadecimal characters."])
  t.match(read(Buffer.from('\xff\xfe:0a', 'latin1')).said, [/^warning psk:1 .*skipped: the identity is not UTF-8\.$/])
})

t.test('any bytes are keys and problems, each with its line', async t => {
  const line = fc.oneof(fc.string(), fc.stringMatching(/^[a-c]{0,2}:?[\da-fg]{0,5}:?$/))
  const content = fc.oneof(
    fc.array(line).map(lines => Buffer.from(lines.join('\n'))),
    fc.uint8Array({ maxLength: 100 }).map(bytes => Buffer.from(bytes))
  )
  fc.assert(
    fc.property(content, content => {
      const { entries, problems } = parsePskFile(content, 'psk')
      return (
        [...entries].every(([identity, { key }]) => identity !== '' && key.length > 0 && key.length <= 256) &&
        problems.every(({ at }) => at?.line !== undefined && at.line >= 1)
      )
    }),
    { numRuns: 3000 }
  )
  t.pass()
})

t.test('a key is known again without being kept, and a decoy is nobody’s', async t => {
  const { entries } = parsePskFile(Buffer.from('ann:0a0b\nbob:0a0b\n'), 'psk')
  const mark = keyMark(Buffer.from('0a0b', 'hex'))
  t.ok(isKeyOf(entries, { identity: 'ann', mark }))
  t.notOk(isKeyOf(entries, { identity: 'eve', mark }))
  t.notOk(isKeyOf(entries, { identity: 'ann', mark: keyMark(Buffer.from('0a0c', 'hex')) }))
  t.equal(decoyKey('eve').length, 32)
  t.same(decoyKey('eve'), decoyKey('eve'))
  t.notSame(decoyKey('eve'), decoyKey('mallory'))
})
