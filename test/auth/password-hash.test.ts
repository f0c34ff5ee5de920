import { Buffer } from 'node:buffer'
import { execFile } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import { promisify } from 'node:util'
import t, { type Test } from 'tap'
import { type PasswordEntry, parsePasswordFile } from '../../dist/auth/password-file.js'
import { defaultSettings, type HasherOptions, openPasswordHasher } from '../../dist/auth/password-hash.js'

const run = promisify(execFile)

function open(t: Test, options?: HasherOptions) {
  const hasher = openPasswordHasher(options)
  t.teardown(() => hasher.close())
  return hasher
}

function entriesOf(...lines: string[]): ReadonlyMap<string, PasswordEntry> {
  const { entries, problems } = parsePasswordFile(lines.join('\n'), 'passwd', { lenient: false })
  if (problems.length > 0) throw new Error(problems.map(problem => problem.message).join('\n'))
  return entries
}

const entryOf = (hash: string): PasswordEntry => {
  const entry = entriesOf(`ann:${hash}`).get('ann')
  if (entry === undefined) throw new Error('no entry')
  return entry
}

const secret = Buffer.from('secret')

// The first three by Python's hashlib, those of Argon2 by the command of the reference implementation.
const vectors: [what: string, password: string, hash: string][] = [
  [
    '$6$, 12 bytes of salt',
    'secret',
    '$6$c2FsdHNhbHRzYWx0$3aiBbchfIZo+1WYrkPzJjQxZ79F/NmwLQ+wF073kTd+6ANhaic8G/jWF/X4sqSFUKpLNdm1FZjBck6HQ8knM3A=='
  ],
  [
    '$7$, 12 bytes of salt',
    'secret',
    '$7$101$c2FsdHNhbHRzYWx0$Hd71hnNoKcARd6Fkl1rUE+opfs3V78ZJB2AgXXC1kaKQiWfi5S5qX7D1mY5b+bIzvyidWMnS8VA+YAsAygq9EA=='
  ],
  [
    '$7$, 64 bytes of salt',
    'secret',
    '$7$1000$QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQQ==$nJJV9cBGqdj93tUK37O4gAR6F2sCRYEWED7S/OFXo2VhGngwb7RLx/YfS8pg0guO0TJIp33nkyyuzHDXN989Mw=='
  ],
  [
    'Argon2id as mosquitto_passwd 2.1 makes it',
    'secret',
    '$argon2id$v=19$m=47104,t=1,p=1$QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQQ$+xXmcrMl7ygw8wH0Xw6ZOXcqUYsGG7pj+O2tRdGmg602uLzVE4idYBn6C1df8Lw+xdGEMSOmpg4lYbpjKH+CQw'
  ],
  [
    'Argon2id, three passes and four lanes',
    'secret',
    '$argon2id$v=19$m=1024,t=3,p=4$c2FsdHlzYWx0$QHgQS9Og/W5IvQ45NZcxYw7C6U6u9ycRdfk2P6/vTHc'
  ],
  [
    'Argon2id, longer than its hash function, password in UTF-8',
    'p@ss wörd',
    '$argon2id$v=19$m=256,t=2,p=2$QkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQg$joomq3aVFnxO9CXn8D4/tHbQHAIUfYu83fy1SdC7hu7dOG6AXDBgQiN3Klgd1BtrU03I//29KfuzNBTSn7IsxiLdvlDKLervu4FeSkbyb6EWeldzV5biZaSZpM+LVOLeXBBJqw'
  ]
]

t.test('hashes made elsewhere are verified', async t => {
  const hasher = open(t)
  for (const [what, password, hash] of vectors) {
    const entry = entryOf(hash)
    t.equal(await hasher.verify(entry, Buffer.from(password)), true, what)
    t.equal(await hasher.verify(entry, Buffer.from(`${password}x`)), false, `${what}, wrong password`)
    t.equal(await hasher.verify(entry, Buffer.alloc(0)), false, `${what}, empty password`)
  }
})

t.test('hashes of our own are verified, and each has its own salt', async t => {
  const hasher = open(t)
  for (const [scheme, setting] of Object.entries(defaultSettings)) {
    const [one, two] = [await hasher.hash(setting, secret), await hasher.hash(setting, secret)]
    t.equal(one.scheme, scheme)
    t.equal(one.salt.length, scheme === 'argon2id' ? 64 : 12)
    t.not(one.salt.toString('hex'), two.salt.toString('hex'))
    const entry = { username: 'ann', password: one, at: { file: 'passwd' } }
    t.equal(await hasher.verify(entry, secret), true)
    t.equal(await hasher.verify(entry, Buffer.from('Secret')), false)
  }
  await t.rejects(hasher.hash(defaultSettings.argon2id, Buffer.from('\0x')), TypeError, 'a password that Mosquitto would read as empty')
})

t.test('a password ends at its first NUL, as in Mosquitto 2.1', async t => {
  const hasher = open(t)
  const entry = entryOf(vectors[1]?.[2] ?? '')
  t.equal(await hasher.verify(entry, Buffer.from('secret\0anything')), true)
  t.equal(await hasher.verify(entry, Buffer.from('\0secret')), false)
})

// A worker that answers `{ hash: <64 times the first byte of the password> }` once the test lets it, and tells what it was asked.
function openWithGate(t: Test, options: HasherOptions = {}) {
  const name = t.testdirName
  const file = join(t.testdir(), 'worker.mjs')
  writeFileSync(
    file,
    `import { parentPort, threadId } from 'node:worker_threads'
    const gate = new BroadcastChannel(${JSON.stringify(name)})
    let asked
    gate.onmessage = ({ data }) => {
      if (data.release === undefined || asked !== data.release) return
      asked = undefined
      if (data.how === 'die') process.exit(3)
      if (data.how === 'throw') throw new Error('worker failed')
      if (data.how === 'fail') parentPort.postMessage({ failure: 'out of memory' })
      else parentPort.postMessage({ hash: new Uint8Array(64).fill(data.release.charCodeAt(0)) })
    }
    parentPort.on('message', ({ password, setting }) => {
      asked = Buffer.from(password).toString()
      gate.postMessage({ asked, threadId, scheme: setting.scheme })
    })`
  )
  const gate = new BroadcastChannel(name)
  const asked: { asked: string; threadId: number; scheme: string }[] = []
  let wake = () => {}
  gate.onmessage = event => {
    const { data } = event as MessageEvent
    if (data.asked === undefined) return
    asked.push(data)
    wake()
  }
  t.teardown(() => gate.close())
  return {
    hasher: open(t, { worker: pathToFileURL(file), ...options }),
    asked,
    release: (password: string, how = 'answer') => gate.postMessage({ release: password, how }),
    async untilAsked(count: number) {
      while (asked.length < count) await new Promise<void>(resolve => (wake = resolve))
    }
  }
}

const hashOf = (letter: string) => `$6$c2FsdHNhbHRzYWx0$${Buffer.alloc(64, letter).toString('base64')}`

t.test('two at a time, the rest in order, and beyond the queue it is busy', async t => {
  const { hasher, asked, release, untilAsked } = openWithGate(t, { maxWaiting: 2 })
  const entry = entryOf(hashOf('c'))
  const answers = ['a', 'b', 'c', 'd'].map(password => hasher.verify(entry, Buffer.from(password)))
  await t.rejects(hasher.verify(entry, Buffer.from('e')), { code: 'ERR_PASSWORD_BUSY' })
  await untilAsked(2)
  release('b')
  await untilAsked(3)
  t.same(asked.map(({ asked }) => asked).sort(), ['a', 'b', 'c'])
  t.equal(new Set(asked.map(({ threadId }) => threadId)).size, 2)
  release('a')
  await untilAsked(4)
  release('c')
  release('d')
  t.same(await Promise.all(answers), [false, false, true, false])
  t.equal(asked.length, 4, 'what was refused was never asked')
})

t.test('the same question asked meanwhile is one job', async t => {
  const { hasher, asked, release, untilAsked } = openWithGate(t)
  const entry = entryOf(hashOf('s'))
  const answers = Array.from({ length: 50 }, () => hasher.verify(entry, secret))
  await untilAsked(1)
  release('secret')
  t.same(new Set(await Promise.all(answers)), new Set([true]))
  t.equal(asked.length, 1)
})

t.test('answers are remembered one minute, right and wrong, until the entry changes', async t => {
  let now = 0
  const { hasher, asked, release, untilAsked } = openWithGate(t, { now: () => now })
  const ask = async (entry: PasswordEntry, password: string) => {
    const before = asked.length
    const answer = hasher.verify(entry, Buffer.from(password))
    await Promise.race([answer, untilAsked(before + 1)])
    release(password)
    return { right: await answer, computed: asked.length > before }
  }
  const entry = entryOf(hashOf('s'))
  t.same(await ask(entry, 'secret'), { right: true, computed: true })
  t.same(await ask(entry, 'wrong'), { right: false, computed: true })
  now = 59_999
  t.same(await ask(entryOf(hashOf('s')), 'secret'), { right: true, computed: false }, 'also after a reload that changed nothing')
  t.same(await ask(entry, 'wrong'), { right: false, computed: false })
  t.same(await ask({ ...entry, username: 'bob' }, 'secret'), { right: true, computed: true }, 'another user with the same line')
  t.same(await ask(entryOf(hashOf('x')), 'secret'), { right: false, computed: true }, 'a changed password')
  now = 60_000
  t.same(await ask(entry, 'secret'), { right: true, computed: true })
})

t.test('the oldest answers are forgotten when there are many, and wrong ones do not push out right ones', async t => {
  const hasher = open(t, { maxRemembered: 3 })
  const costly = entryOf(vectors[0]?.[2] ?? '')
  t.equal(await hasher.verify(costly, secret), true)
  for (let i = 0; i < 10; i++) t.equal(await hasher.verify(costly, Buffer.from(`guess ${i}`)), false)
  await hasher.close()
  t.equal(await hasher.verify(costly, secret), true, 'remembered: no thread is left to compute it')
  t.equal(await hasher.verify(costly, Buffer.from('guess 9')), false)
  await t.rejects(hasher.verify(costly, Buffer.from('guess 0')), { code: 'ERR_PASSWORD_HASH', message: 'the password hasher is closed' })
})

t.test('an unknown user is worked for like a known one, remembered, and never let in', async t => {
  const { hasher, asked, release, untilAsked } = openWithGate(t)
  const entries = entriesOf(`ann:${hashOf('s')}`)
  const unknown = hasher.verifyUnknown(entries, 'nobody', secret)
  await untilAsked(1)
  release('secret')
  t.equal(await unknown, false, 'even with the password of the entry it is measured by')
  t.equal(await hasher.verifyUnknown(entries, 'nobody', secret), false)
  t.equal(asked.length, 1, 'the second time it was remembered')

  const known = entries.get('ann')
  t.ok(known)
  if (known === undefined) return
  const right = hasher.verify(known, secret)
  await untilAsked(2)
  release('secret')
  t.equal(await right, true, 'and the answer for the unknown user is not that of the known one')
})

t.test('unknown users cost what the users of the file cost, the same user always the same', async t => {
  const { hasher, asked, release, untilAsked } = openWithGate(t)
  const pbkdf2 = `$7$101$c2FsdHNhbHRzYWx0$${Buffer.alloc(64, 'h').toString('base64')}`
  const entries = entriesOf(`ann:${hashOf('s')}`, `bob:${pbkdf2}`)
  const ask = async (username: string, password: string) => {
    const before = asked.length
    const answer = hasher.verifyUnknown(entries, username, Buffer.from(password))
    await untilAsked(before + 1)
    release(password)
    await answer
    return asked[before]?.scheme
  }
  const schemes = []
  for (let i = 0; i < 40; i++) schemes.push(await ask(`user${i}`, `p${i}`))
  t.same([...new Set(schemes)].sort(), ['sha512', 'sha512-pbkdf2'])
  const again = []
  for (let i = 0; i < 10; i++) again.push(await ask('user0', `again ${i}`))
  t.same(new Set(again), new Set([schemes[0]]))
})

t.test('with an empty file an unknown user still costs a check', async t => {
  const { hasher, asked, release, untilAsked } = openWithGate(t)
  const answer = hasher.verifyUnknown(new Map(), 'ann', secret)
  await untilAsked(1)
  release('secret')
  t.equal(await answer, false)
  t.match(asked, [{ scheme: 'argon2id' }])
})

t.test('a thread that dies costs its job only, and another takes its place', async t => {
  const { hasher, asked, release, untilAsked } = openWithGate(t)
  const entry = entryOf(hashOf('a'))
  const jobs = ['a1', 'a2', 'a3', 'a4'].map(password => hasher.verify(entry, Buffer.from(password)))
  const settled = Promise.allSettled(jobs)
  await untilAsked(2)
  release('a1', 'die')
  release('a2', 'throw')
  await untilAsked(4)
  release('a3', 'fail')
  release('a4')
  t.match(await settled, [
    { reason: { code: 'ERR_PASSWORD_HASH', message: 'the thread that hashes passwords ended' } },
    { reason: { code: 'ERR_PASSWORD_HASH', cause: { message: 'worker failed' } } },
    { reason: { code: 'ERR_PASSWORD_HASH', message: 'the password could not be hashed: out of memory' } },
    { value: true }
  ])
  t.equal(new Set(asked.map(({ threadId }) => threadId)).size, 4)

  const again = hasher.verify(entry, Buffer.from('a1'))
  await untilAsked(5)
  release('a1')
  t.equal(await again, true, 'a failure is not remembered')
})

t.test('a thread that cannot be started rejects and does not hang', async t => {
  const hasher = open(t, { worker: new URL('file:///nonexistent/worker.js') })
  await t.rejects(hasher.verify(entryOf(hashOf('a')), secret), { code: 'ERR_PASSWORD_HASH' })
})

t.test('closing rejects what waits and what is under way', async t => {
  const { hasher, untilAsked } = openWithGate(t)
  const entry = entryOf(hashOf('a'))
  const settled = Promise.allSettled(['a', 'b', 'c'].map(password => hasher.verify(entry, Buffer.from(password))))
  await untilAsked(2)
  await hasher.close()
  const closed = { reason: { message: 'the password hasher is closed' } }
  t.match(await settled, [closed, closed, closed])
  await t.rejects(hasher.hash(defaultSettings.sha512, secret), closed.reason)
  await hasher.close()
})

const hasherUrl = pathToFileURL(resolve('dist/auth/password-hash.js')).href

t.test('idle threads do not keep the process alive, a job does', async t => {
  const script = `import { openPasswordHasher } from ${JSON.stringify(hasherUrl)}
    openPasswordHasher().hash({ scheme: 'sha512' }, Buffer.from('x')).then(hash => console.log(hash.scheme))`
  const { stdout } = await run(process.execPath, ['--input-type=module', '-e', script], { timeout: 30_000 })
  t.equal(stdout, 'sha512\n')
})

t.test("hashing leaves libuv's pool free", async t => {
  const script = `import { openPasswordHasher } from ${JSON.stringify(hasherUrl)}
    import { readFile } from 'node:fs/promises'
    const hasher = openPasswordHasher()
    const slow = () => hasher.hash({ scheme: 'sha512-pbkdf2', iterations: 500_000 }, Buffer.from('x')).then(() => console.log('hash'))
    await Promise.all([slow(), slow(), readFile(${JSON.stringify(resolve('package.json'))}).then(() => console.log('file'))])`
  const env = { ...process.env, UV_THREADPOOL_SIZE: '1' }
  const { stdout } = await run(process.execPath, ['--input-type=module', '-e', script], { env, timeout: 30_000 })
  t.equal(stdout, 'file\nhash\nhash\n')
})
