import { Buffer } from 'node:buffer'
import fc from 'fast-check'
import t from 'tap'
import {
  formatEntry,
  formatPasswordHash,
  type PasswordHash,
  parsePasswordFile,
  parsePasswordHash,
  passwordLimits
} from '../../dist/auth/password-file.js'

const salt12 = Buffer.alloc(12, 's').toString('base64')
const hash64 = Buffer.alloc(64, 'h').toString('base64')
const good = `$7$101$${salt12}$${hash64}`
const argon2 = (parameters: string, salt = 'c2FsdHNhbHQ', hash = 'aGFzaA') => `$argon2id$v=19$${parameters}$${salt}$${hash}`

const strict = (content: Buffer | string) => parsePasswordFile(content, 'passwd', { lenient: false })

t.test('the three schemes are read with their parameters', async t => {
  const { entries, problems } = strict(
    `# users\n\nann:$6$${salt12}$${hash64}\nbob:${good}\nzoë:$argon2id$v=19$m=47104,t=1,p=1$${'QUFB'.repeat(21)}QQ$${'QUFB'.repeat(21)}QQ\n`
  )
  t.same(problems, [])
  const salt = Buffer.alloc(12, 's')
  const hash = Buffer.alloc(64, 'h')
  const fill = Buffer.alloc(64, 'A')
  t.strictSame(
    [...entries],
    [
      ['ann', { username: 'ann', password: { scheme: 'sha512', salt, hash }, at: { file: 'passwd', line: 3 } }],
      ['bob', { username: 'bob', password: { scheme: 'sha512-pbkdf2', iterations: 101, salt, hash }, at: { file: 'passwd', line: 4 } }],
      [
        'zoë',
        {
          username: 'zoë',
          password: { scheme: 'argon2id', memory: 47104, iterations: 1, parallelism: 1, salt: fill, hash: fill },
          at: { file: 'passwd', line: 5 }
        }
      ]
    ]
  )
})

t.test('a byte order mark is a part of the first username, as in Mosquitto, and that is said', async t => {
  const { entries, problems } = strict(`\ufeffann:${good}\nbob:${good}\n`)
  t.same([...entries.keys()], ['\ufeffann', 'bob'])
  t.match(problems, [{ severity: 'warning', at: { line: 1 }, message: /^A byte order mark at the beginning of password file 'passwd' / }])
  t.equal(problems.length, 1)
})

t.test('fields are taken as Mosquitto takes them', async t => {
  const lines: [line: string, username: string][] = [
    [`  ann\t: ${good} \r`, 'ann'],
    [`ann::${good}`, 'ann'],
    [`:ann:${good}`, 'ann'],
    [`ann:${good}:ignored:too`, 'ann'],
    [`a b:${good}`, 'a b'],
    [` # ann:${good}`, '# ann'],
    [`\u00a0ann:${good}`, '\u00a0ann'],
    [`__proto__:${good}`, '__proto__']
  ]
  for (const [line, username] of lines) {
    const { entries, problems } = strict(line)
    t.same(problems, [], line)
    t.same([...entries.keys()], [username], line)
  }
})

t.test('what Mosquitto skips is skipped, and said unless it is blank or a comment', async t => {
  const { entries, problems } = strict(`\n \t\r\n#ann:secret\nsecret-without-colon\n:\nbob:${good}\n`)
  t.same([...entries.keys()], ['bob'])
  t.match(problems, [
    { severity: 'warning', at: { line: 4 } },
    { severity: 'warning', at: { line: 5 } }
  ])
  t.notMatch(JSON.stringify(problems), /secret/)
})

const faulty: [line: string, sentence: string][] = [
  ['ann:secret', `user 'ann' has a plain text password, which "mosquitero passwd -U" turns into a hash.`],
  ['ann:$2b$10$abc', `user 'ann' has a hash of an unknown kind, known are $6$, $7$ and $argon2id$.`],
  ['ann:$6$abc', `user 'ann' has a hash that is not $6$salt$hash.`],
  [`ann:$6$c2Fs$${hash64}`, `user 'ann' has a salt of 3 bytes, which must be 12 or 64.`],
  [`ann:$6$*${salt12}$${hash64}`, `user 'ann' has a salt that is not base64.`],
  [`ann:$6$${salt12}$${hash64.slice(0, -2)}`, `user 'ann' has a hash that is not base64.`],
  [`ann:$6$${salt12}$${salt12}`, `user 'ann' has a hash of 12 bytes, which must be 64.`],
  [`ann:$7$${salt12}$${hash64}`, `user 'ann' has a hash that is not $7$iterations$salt$hash.`],
  [`ann:$7$0$${salt12}$${hash64}`, `user 'ann' has a hash of 0 iterations, which must be 1 to 5000000.`],
  [`ann:$7$2000000000$${salt12}$${hash64}`, `user 'ann' has a hash of 2000000000 iterations, which must be 1 to 5000000.`],
  ['ann:$argon2id$x', `user 'ann' has a hash that is not $argon2id$v=19$m=...,t=...,p=...$salt$hash.`],
  ['ann:$argon2id$m=64,t=1,p=1$c2FsdHNhbHQ$aGFzaA', `user 'ann' has a hash of Argon2 version 16, which must be 19.`],
  [`ann:${argon2('m=104857600,t=1,p=1')}`, `user 'ann' has a hash with m=104857600, which must be 8 to 262144 KiB.`],
  [`ann:${argon2('m=65536,t=1000000,p=1')}`, `user 'ann' has a hash with t=1000000, which must be 1 to 16 with m=65536.`],
  [`ann:${argon2('m=64,t=0,p=1')}`, `user 'ann' has a hash with t=0, which must be 1 to 16384 with m=64.`],
  [`ann:${argon2('m=64,t=1,p=9')}`, `user 'ann' has a hash with m=64, which must be 72 to 262144 KiB.`],
  [`ann:${argon2('m=64,t=1,p=300')}`, `user 'ann' has a hash with p=300, which must be 1 to 255.`],
  [`ann:${argon2('m=64,t=1,p=1', 'c2FsdA')}`, `user 'ann' has a salt of 4 bytes, which must be 8 to 1024.`],
  [`ann:${argon2('m=64,t=1,p=1', 'c2FsdHNhbHQ', 'aGFzaB')}`, `user 'ann' has a hash that is not base64 without padding.`],
  [`ann$6$${salt12}$${hash64}:x`, `user 'ann$6$...' has a plain text password, which "mosquitero passwd -U" turns into a hash.`],
  [`a\x1bb\u2028:x`, `user 'a\\x1bb\\x2028' has a plain text password, which "mosquitero passwd -U" turns into a hash.`]
]

t.test('a line that cannot be decoded is refused with user and reason, never with the hash', async t => {
  for (const [line, sentence] of faulty) {
    const { entries, problems } = strict(`# first\n${line}\n`)
    t.equal(entries.size, 0, sentence)
    t.strictSame(
      problems,
      [
        {
          severity: 'error',
          code: 'ERR_PASSWORD_SYNTAX',
          message: `Unable to decode line in password file 'passwd': ${sentence}`,
          at: { file: 'passwd', line: 2 }
        }
      ],
      sentence
    )
  }
})

t.test('every bad line is reported at once, and the good ones still count', async t => {
  const { entries, problems } = strict(
    [`ann:${good}`, ` :${good}`, 'bob:', `ann:$7$102$${salt12}$${hash64}`, `${'x'.repeat(65536)}:${good}`, `c\0d:${good}`, `:${good}`].join(
      '\n'
    )
  )
  t.same([...entries.keys()], ['ann'])
  t.match(entries.get('ann'), { password: { iterations: 101 } }, 'the first of two counts')
  t.same(
    problems.map(({ severity, message, at }) => [severity, at?.line, message]),
    [
      ['error', 2, "Empty username in password file 'passwd'."],
      ['error', 3, "Invalid line in password file 'passwd': user 'bob' has no password hash."],
      ['error', 4, "Duplicate user 'ann' in password file 'passwd', first seen on line 1."],
      ['error', 5, "Invalid line in password file 'passwd', username too long."],
      ['error', 6, "Invalid line in password file 'passwd': it holds a NUL byte."],
      ['error', 7, "Empty username in password file 'passwd'."]
    ]
  )
})

t.test('lenient, the same lines are warnings and skipped', async t => {
  const { entries, problems } = parsePasswordFile(`ann:secret\nbob:${good}\nbob:${good}\n`, 'passwd', { lenient: true })
  t.same([...entries.keys()], ['bob'])
  t.same(
    problems.map(({ severity, at }) => [severity, at?.line]),
    [
      ['warning', 1],
      ['warning', 3]
    ]
  )
})

t.test('a name that is not UTF-8 is skipped, so that it cannot match another one', async t => {
  const { entries, problems } = strict(Buffer.from(`J\xfcrgen:${good}\n# J\xfcrgen\nann:${good}\n`, 'latin1'))
  t.same([...entries.keys()], ['ann'])
  t.match(problems, [{ severity: 'warning', at: { line: 1 } }])
  t.equal(problems.length, 1)
})

const bytes = (minLength: number, maxLength: number) => fc.uint8Array({ minLength, maxLength }).map(array => Buffer.from(array))
const saltOf12Or64 = fc.oneof(bytes(12, 12), bytes(64, 64))
const anyHash: fc.Arbitrary<PasswordHash> = fc.oneof(
  fc.record({ scheme: fc.constant('sha512' as const), salt: saltOf12Or64, hash: bytes(64, 64) }),
  fc.record({
    scheme: fc.constant('sha512-pbkdf2' as const),
    iterations: fc.integer({ min: 1, max: passwordLimits.pbkdf2Iterations }),
    salt: saltOf12Or64,
    hash: bytes(64, 64)
  }),
  fc.record({
    scheme: fc.constant('argon2id' as const),
    memory: fc.integer({ min: 2048, max: 65536 }),
    iterations: fc.integer({ min: 1, max: 16 }),
    parallelism: fc.integer({ min: 1, max: 255 }),
    salt: bytes(8, 80),
    hash: bytes(4, 80)
  })
)

t.test('every entry survives being written and read', async t => {
  const name = fc.string({ unit: 'grapheme', minLength: 1 }).filter(name => /^[^\s#:][^:\n\0]*$/.test(name) && name.trim() === name)
  fc.assert(
    fc.property(name, anyHash, (username, password) => {
      const { entries, problems } = strict(formatEntry({ username, password }))
      t.same([problems, entries.get(username)?.password], [[], password])
      t.same(parsePasswordHash(formatPasswordHash(password)), password)
    }),
    { numRuns: 200 }
  )
})

t.test('any bytes are parsed to entries or problems, whose messages hold no password field', async t => {
  const line = fc.oneof(
    fc.uint8Array({ maxLength: 60 }).map(array => Buffer.from(array).toString('latin1')),
    fc.tuple(fc.string(), fc.constantFrom(':', '::', ': ', ''), anyHash.map(formatPasswordHash), fc.string()).map(parts => parts.join('')),
    fc.tuple(fc.nat(200), anyHash.map(formatPasswordHash)).map(([cut, hash]) => `u:${hash.slice(0, cut)}`)
  )
  fc.assert(
    fc.property(fc.array(line), fc.boolean(), (lines, lenient) => {
      const { entries, problems } = parsePasswordFile(Buffer.from(lines.join('\n'), 'latin1'), 'passwd', { lenient })
      t.ok(entries.size + problems.length <= lines.join('\n').split('\n').length)
      for (const { message, severity, at } of problems) {
        t.notMatch(message, /[A-Za-z0-9+/]{60}/)
        t.ok(typeof at?.line === 'number' && !(lenient && severity === 'error'))
      }
    }),
    { numRuns: 500 }
  )
})
