import { Buffer } from 'node:buffer'
import { execFile } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t from 'tap'
import { type PasswordEntry, parsePasswordFile } from '../../dist/auth/password-file.js'
import { openPasswordHasher } from '../../dist/auth/password-hash.js'
import { passwd } from '../helpers/passwd-run.js'
import { startPasswordBroker } from '../helpers/password-mosquitto.js'

const run = promisify(execFile)

const hasher = openPasswordHasher()
t.teardown(() => hasher.close())

const read = (file: string, lenient = false) => parsePasswordFile(readFileSync(file), file, { lenient })

async function accepts(entries: ReadonlyMap<string, PasswordEntry>, username: string, password: string): Promise<boolean> {
  const entry = entries.get(username)
  if (entry === undefined) return hasher.verifyUnknown(entries, username, Buffer.from(password))
  return hasher.verify(entry, Buffer.from(password))
}

const users: [username: string, password: string, scheme: string][] = [
  ['ann', 'secret', 'sha512'],
  ['bob', 'secret', 'sha512-pbkdf2'],
  ['zoë smith', 'pässwörd: with a colon', 'sha512-pbkdf2'],
  ['long', 'x'.repeat(5000), 'sha512'],
  ['$SYS', ' spaces around ', 'sha512-pbkdf2']
]

t.test('the real broker accepts what our command writes for Mosquitto 2.0', async t => {
  const dir = t.testdir({ passwd: '# users\n\n' })
  const file = join(dir, 'passwd')
  for (const [username, password, scheme] of users) {
    t.match(await passwd(['-H', scheme, '-b', file, username, password]), { code: 0, stderr: '' })
  }
  const broker = await startPasswordBroker(t, dir, file)
  for (const [username, password] of users) {
    t.equal(await broker.accepts(username, password), true, username)
    t.equal(await broker.accepts(username, `${password}x`), false, `${username}, wrong password`)
  }
})

t.test('we accept what the real command writes', async t => {
  const file = join(t.testdir({ passwd: '' }), 'passwd')
  for (const [username, password, scheme] of users) await run('mosquitto_passwd', ['-H', scheme, '-b', file, username, password])
  const { entries, problems } = read(file)
  t.same(problems, [])
  t.same(
    users.map(([username]) => entries.get(username)?.password.scheme),
    users.map(([, , scheme]) => scheme)
  )
  for (const [username, password] of users) {
    t.equal(await accepts(entries, username, password), true, username)
    t.equal(await accepts(entries, username, `${password}x`), false, `${username}, wrong password`)
  }
})

t.test('either command goes on with the file of the other', async t => {
  const dir = t.testdir({ passwd: '' })
  const file = join(dir, 'passwd')
  await run('mosquitto_passwd', ['-b', file, 'theirs', 'one'])
  await passwd(['-H', 'sha512-pbkdf2', '-b', file, 'ours', 'two'])
  await run('mosquitto_passwd', ['-b', file, 'ours', 'three'])
  await passwd(['-H', 'sha512', '-b', file, 'theirs', 'four'])
  await run('mosquitto_passwd', ['-b', file, 'gone', 'x'])
  t.match(await passwd(['-D', file, 'gone']), { code: 0 })
  const { entries, problems } = read(file)
  t.same([problems, [...entries.keys()]], [[], ['theirs', 'ours']])
  const broker = await startPasswordBroker(t, dir, file)
  for (const [username, password] of [
    ['ours', 'three'],
    ['theirs', 'four']
  ] as const) {
    t.equal(await accepts(entries, username, password), true)
    t.equal(await broker.accepts(username, password), true)
  }
})

t.test('-U makes of a plain text file what either broker accepts, by both commands', async t => {
  const dir = t.testdir()
  const plain = 'ann:secret\nbob : with space \ncarl:cut:here\n'
  for (const [name, hash] of [
    ['ours', (file: string) => passwd(['-U', '-H', 'sha512-pbkdf2', file])],
    ['theirs', (file: string) => run('mosquitto_passwd', ['-U', file])]
  ] as const) {
    const file = join(dir, name)
    writeFileSync(file, plain)
    await hash(file)
    const { entries, problems } = read(file)
    t.same(problems, [], name)
    const broker = await startPasswordBroker(t, dir, file)
    for (const [username, password, right] of [
      ['ann', 'secret', true],
      ['bob', 'with space', true],
      ['bob', ' with space ', false],
      ['carl', 'cut', true],
      ['carl', 'cut:here', false]
    ] as const) {
      t.equal(await accepts(entries, username, password), right, `${name}: ${username} '${password}'`)
      t.equal(await broker.accepts(username, password), right, `${name}: ${username} '${password}', real broker`)
    }
  }
})

t.test('lines are taken apart as the real broker does, and skipped where 2.0 skips', async t => {
  const dir = t.testdir({ passwd: '' })
  const file = join(dir, 'passwd')
  await passwd(['-H', 'sha512', '-b', file, 'x', 'pw'])
  const hash = readFileSync(file, 'utf8').trim().slice('x:'.length)
  const long = `$6$${Buffer.alloc(64).toString('base64')}$${Buffer.alloc(64).toString('base64')}`
  writeFileSync(
    file,
    [
      `dcolon::${hash}`,
      `:lead:${hash}`,
      `third:${hash}:more`,
      ` spaced : ${hash} \r`,
      ` # blank first:${hash}`,
      `#comment:${hash}`,
      `plain:pw`,
      `nohash:`,
      `short:${hash.slice(0, -4)}`,
      `twice:${hash}`,
      `twice:${long.replace('$6$', '$7$1$')}`,
      'no colon',
      `last:${hash}`
    ].join('\n')
  )
  const { entries } = read(file, true)
  const broker = await startPasswordBroker(t, dir, file)
  const names = [
    'dcolon',
    'lead',
    ':lead',
    'third',
    'spaced',
    ' spaced ',
    '# blank first',
    '#comment',
    'comment',
    'plain',
    'nohash',
    'short',
    'twice',
    'last'
  ]
  const ours = []
  const theirs = []
  for (const name of names) {
    ours.push([name, await accepts(entries, name, 'pw')])
    theirs.push([name, await broker.accepts(name, 'pw')])
  }
  t.same(ours, theirs)
  t.equal(ours.filter(([, accepted]) => accepted).length, 7)
})
