import { Buffer } from 'node:buffer'
import { type ChildProcess, execFile, spawn } from 'node:child_process'
import {
  chmodSync,
  chownSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  statSync,
  symlinkSync,
  writeFileSync
} from 'node:fs'
import { join, resolve } from 'node:path'
import { promisify } from 'node:util'
import t, { type Test } from 'tap'
import { parsePasswordFile } from '../../dist/auth/password-file.js'
import { openPasswordHasher } from '../../dist/auth/password-hash.js'
import { passwd } from '../helpers/passwd-run.js'

const run = promisify(execFile)
const runner = resolve('build/helpers/passwd-runner.js')
const isRoot = process.getuid?.() === 0
const nobody = 65534

const hasher = openPasswordHasher()
t.teardown(() => hasher.close())

const read = (file: string) => parsePasswordFile(readFileSync(file), file, { lenient: false })

async function accepts(file: string, username: string, password: string): Promise<boolean> {
  const entry = read(file).entries.get(username)
  return entry !== undefined && (await hasher.verify(entry, Buffer.from(password)))
}

const cheap = ['-H', 'sha512-pbkdf2', '-I', '1']

t.test('-c creates a file for its owner only, argon2id as mosquitto_passwd 2.1 makes it', async t => {
  const file = join(t.testdir(), 'passwd')
  t.same(await passwd(['-c', '-b', file, 'ann', 'secret']), { code: 0, stdout: 'Adding password for user ann\n', stderr: '' })
  t.match(readFileSync(file, 'utf8'), /^ann:\$argon2id\$v=19\$m=47104,t=1,p=1\$[A-Za-z0-9+/]{86}\$[A-Za-z0-9+/]{86}\n$/)
  t.equal(statSync(file).mode & 0o777, 0o600)
  t.equal(await accepts(file, 'ann', 'secret'), true)
})

t.test('-c does not touch a file that exists', async t => {
  const dir = t.testdir({ passwd: 'precious\n', link: t.fixture('symlink', 'nowhere') })
  for (const name of ['passwd', 'link']) {
    const file = join(dir, name)
    const { code, stdout, stderr } = await passwd(['-cb', ...cheap, file, 'ann', 'x'])
    t.same([code, stdout], [1, ''])
    t.match(stderr, `Error: Unable to open file ${file} for writing. File exists.`)
  }
  t.equal(readFileSync(join(dir, 'passwd'), 'utf8'), 'precious\n')
  t.same(readdirSync(dir).sort(), ['link', 'passwd'])
})

t.test('-c with - prints the line and nothing else', async t => {
  const { code, stdout, stderr } = await passwd(['-c', '-H', 'sha512', '-', 'ann'], 'secret\nsecret\n')
  t.equal(code, 0)
  t.match(stdout, /^ann:\$6\$[A-Za-z0-9+/]{16}\$[A-Za-z0-9+/]{86}==\n$/)
  t.equal(stderr, '')
})

t.test('-H and -I choose the hash', async t => {
  const file = join(t.testdir({ passwd: '' }), 'passwd')
  await passwd(['-b', '-H', 'sha512', file, 'six', 'p'])
  await passwd(['-b', '-H', 'sha512-pbkdf2', file, 'seven', 'p'])
  await passwd(['-b', '-H', 'sha512-pbkdf2', '-I', '77', file, 'own', 'p'])
  t.match(readFileSync(file, 'utf8'), /^six:\$6\$.{16}\$.{88}\nseven:\$7\$1000\$.{16}\$.{88}\nown:\$7\$77\$.{16}\$.{88}\n$/)
  for (const username of ['six', 'seven', 'own']) t.equal(await accepts(file, username, 'p'), true)
})

t.test('a user is updated in its place, everything else stays byte for byte', async t => {
  const second = `ann:$6$${'A'.repeat(16)}$${'A'.repeat(86)}==`
  const before = Buffer.from(`# J\xfcrgen \xff\n\nbob:plain\r\nno colon\n  ann : old : more\r\n${second}\nbroken:$7$x\nlast:x`, 'latin1')
  const file = join(t.testdir(), 'passwd')
  writeFileSync(file, before)
  const { code, stdout, stderr } = await passwd([...cheap, '-b', file, 'ann', 'new'])
  t.same([code, stdout], [0, 'Updating password for user ann\n'])
  t.match(stderr, new RegExp(`^Warning: ${file}:3: Unable to decode line .* user 'bob' has a plain text password`), 'told, not changed')
  t.match(stderr, `Warning: ${file}:6: Duplicate user 'ann'`)
  const after = readFileSync(file).toString('latin1')
  const [head, tail] = before.toString('latin1').split('  ann : old : more')
  const line = after.slice(head?.length, -(tail?.length ?? 0))
  t.equal(after, `${head}${line}${tail}`)
  t.match(line, /^ann:\$7\$1\$[^\s]+$/)

  await passwd([...cheap, '-b', file, 'new', 'x'])
  t.match(readFileSync(file).toString('latin1').slice(after.length), /^\nnew:\$7\$.*\n$/, 'the last line gets its end before a new one')
})

t.test('-D removes a user, and says when there is none', async t => {
  const content = '# users\nann:x\nbob:y\nann:z\n'
  const file = join(t.testdir({ passwd: content }), 'passwd')
  t.match(await passwd(['-D', file, 'nobody']), { code: 1, stdout: '', stderr: 'Warning: User nobody not found in password file.\n' })
  t.equal(readFileSync(file, 'utf8'), content)
  t.match(await passwd(['-D', file, 'ann']), { code: 0, stdout: '' })
  t.equal(readFileSync(file, 'utf8'), '# users\nbob:y\n')
})

t.test('-U hashes what is plain text and keeps hashes, comments and blank lines', async t => {
  const hashed = `bob:$6$${Buffer.alloc(12).toString('base64')}$${Buffer.alloc(64).toString('base64')}`
  const file = join(t.testdir({ passwd: `# users\n\nann: s\u00e9cret \r\n${hashed}\nz:$HOME$x:y\n` }), 'passwd')
  const { code, stderr } = await passwd(['-U', ...cheap, file])
  t.equal(code, 0)
  t.equal(stderr, `Warning: ${file}:5: only the text up to the second ':' is taken as the password.\n`)
  t.match(readFileSync(file, 'utf8').split(/(?<=\n)/), ['# users\n', '\n', /^ann:\$7\$1\$.*\r\n$/, `${hashed}\n`, /^z:\$7\$1\$.*\n$/])
  t.same(read(file).problems, [])
  t.equal(await accepts(file, 'ann', 's\u00e9cret'), true)
  t.equal(await accepts(file, 'z', '$HOME$x'), true)
})

t.test('-U refuses a file that it cannot make right, and leaves it', async t => {
  const dir = t.testdir()
  const file = join(dir, 'passwd')
  const rows: [line: string, message: RegExp][] = [
    ['ann:', /^Error: Corrupt password file at line 2\.\n$/],
    [' :x', /^Error: Corrupt password file at line 2\.\n$/],
    ['ann:$7$tooshort', /^Error: Corrupt password file at line 2: user 'ann' has a hash that is not \$7\$iterations\$salt\$hash\.\n$/]
  ]
  for (const [line, message] of rows) {
    writeFileSync(file, `bob:plain\n${line}\n`)
    const { code, stdout, stderr } = await passwd(['-U', ...cheap, file])
    t.same([code, stdout], [1, ''])
    t.match(stderr, message)
    t.equal(readFileSync(file, 'utf8'), `bob:plain\n${line}\n`)
  }
  t.same(readdirSync(dir), ['passwd'])
})

t.test('wrong arguments give the message of mosquitto_passwd, and change nothing', async t => {
  const dir = t.testdir({ passwd: 'ann:x\n' })
  const file = join(dir, 'passwd')
  const rows: [argv: string[], message: string][] = [
    [['-c', '-D', file, 'ann'], '-c and -D cannot be used together.'],
    [['-c', '-U', file], '-c and -U cannot be used together.'],
    [['-D', '-U', file], '-D and -U cannot be used together.'],
    [['-D', '-b', file, 'ann'], '-b and -D cannot be used together.'],
    [['-H'], '-H argument given but not enough other arguments.'],
    [['-I'], '-I argument given but not enough other arguments.'],
    [['-H', 'md5', file, 'ann'], "Unknown hash type 'md5'"],
    [['-H', '-b', file, 'ann'], "Unknown hash type '-b'"],
    [['-H', 'constructor', file, 'ann'], "Unknown hash type 'constructor'"],
    [['-H', 'sha512-pbkdf2', '-I', '0', '-b', file, 'ann', 'x'], 'Number of iterations must be > 0.'],
    [['-H', 'sha512-pbkdf2', '-I', '12x', '-b', file, 'ann', 'x'], 'Number of iterations must be > 0.'],
    [['-H', 'sha512-pbkdf2', '-I', '5000001', '-b', file, 'ann', 'x'], 'Number of iterations must be <= 5000000.'],
    [['-I', '10', '-b', file, 'ann', 'x'], '-I is for sha512-pbkdf2, the hash type is argon2id.'],
    [['-c', file], '-c argument given but password file or username missing.'],
    [['-c', '-b', file, 'ann'], '-c argument given but password file, username, or password missing.'],
    [['-D', file], '-D argument given but password file or username missing.'],
    [['-U', file, 'ann'], '-U argument given but password file missing.'],
    [['-x', file, 'ann'], `Unknown option '-x'. "mosquitero passwd --help" prints the usage.`],
    [['-b', file, 'a\x07b', 'x'], 'Username must not contain control characters.'],
    [['-b', file, 'a:b', 'x'], "Username must not contain the ':' character."],
    [['-b', file, 'x'.repeat(65536), 'x'], 'Username must be less than 65536 characters long.'],
    [['-b', file, '', 'x'], 'Username must not be empty.'],
    [['-b', file, '#ann', 'x'], "Username must not start with '#', which makes the line a comment."],
    [['-b', file, 'ann ', 'x'], 'Username must not start or end with a space, which the broker removes.'],
    [['-b', file, 'ann', ''], 'Empty password.'],
    [['-b', file, 'ann', 'x'.repeat(65536)], 'Password must be less than 65536 characters long.'],
    [['-b', join(dir, 'none'), 'ann', 'x'], `Unable to open password file ${join(dir, 'none')}. No such file or directory.`],
    [['-b', dir, 'ann', 'x'], `Unable to open password file ${dir}. Is a directory.`],
    [['-D', join(dir, 'none'), 'ann'], `Unable to open password file ${join(dir, 'none')}. No such file or directory.`]
  ]
  for (const [argv, message] of rows) t.same(await passwd(argv), { code: 1, stdout: '', stderr: `Error: ${message}\n` }, message)
  for (const argv of [[], [file], ['-b', file, 'ann']])
    t.match(await passwd(argv), { code: 1, stdout: '', stderr: /^mosquitero passwd .*\nUsage: /s })
  t.equal(readFileSync(file, 'utf8'), 'ann:x\n')
  t.same(readdirSync(dir), ['passwd'])
})

t.test('help goes to standard output and shows a real call', async t => {
  for (const option of ['-h', '--help']) {
    t.match(await passwd([option]), { code: 0, stdout: /Usage: mosquitero passwd .*For example: mosquitero passwd -c /s, stderr: '' })
  }
})

t.test('a password may begin with a dash, and -- ends the options', async t => {
  const file = join(t.testdir({ passwd: '' }), 'passwd')
  t.match(await passwd(['-b', ...cheap, file, 'ann', '-c']), { code: 0 })
  t.match(await passwd(['-b', ...cheap, '--', file, '-D', '--help']), { code: 0 })
  t.equal(await accepts(file, 'ann', '-c'), true)
  t.equal(await accepts(file, '-D', '--help'), true)
})

t.test('from a pipe come two lines, or one', async t => {
  const file = join(t.testdir({ passwd: '' }), 'passwd')
  const rows: [input: string, code: number, stderr: string][] = [
    ['secret\nsecret\n', 0, ''],
    ['secret\r\nsecret\r\n', 0, ''],
    ['secret\nsecret', 0, ''],
    ['secret\nsecret\nmore\n', 0, ''],
    ['secret\n', 0, ''],
    ['secret', 0, ''],
    ['secret\nother\n', 1, 'Error: Passwords do not match.\n'],
    ['secret\n\n', 1, 'Error: Passwords do not match.\n'],
    ['\n\n', 1, 'Error: Empty password.\n'],
    ['', 1, 'Error: Empty password.\n'],
    ['a\0b\na\0b\n', 1, 'Error: Password must not contain a NUL character.\n'],
    [`${'x'.repeat(70_000)}\n`, 1, 'Error: Password must be less than 65536 characters long.\n']
  ]
  for (const [index, [input, code, stderr]] of rows.entries()) {
    t.match(await passwd([...cheap, file, `user${index}`], input), { code, stderr }, `row ${index}`)
    if (code === 0) t.equal(await accepts(file, `user${index}`, 'secret'), true, `row ${index}`)
  }
})

t.test('mode, owner and group of the file stay', async t => {
  const file = join(t.testdir({ passwd: '' }), 'passwd')
  chmodSync(file, 0o640)
  if (isRoot) chownSync(file, nobody, nobody)
  const before = statSync(file)
  await passwd(['-b', ...cheap, file, 'ann', 'x'])
  const after = statSync(file)
  t.same([after.mode, after.uid, after.gid], [before.mode, before.uid, before.gid])
  t.not(after.ino, before.ino, 'it was replaced, not written over')
})

t.test('of a symbolic link the target is changed, beside the target', async t => {
  const dir = t.testdir({ real: { passwd: '' }, link: t.fixture('symlink', 'real/passwd') })
  mkdirSync(join(dir, 'far'))
  symlinkSync('../link', join(dir, 'far', 'link'))
  t.match(await passwd(['-b', ...cheap, join(dir, 'far', 'link'), 'ann', 'x']), { code: 0 })
  t.equal(readlinkSync(join(dir, 'link')), 'real/passwd')
  t.ok(lstatSync(join(dir, 'real', 'passwd')).isFile())
  t.equal(await accepts(join(dir, 'real', 'passwd'), 'ann', 'x'), true)
})

// Permissions bind root only when it gives up its right to pass over them; another account may not even reach this clone.
const bound = isRoot ? ['setpriv', '--bounding-set', '-dac_override,-dac_read_search', process.execPath] : [process.execPath]

function runBound(...args: string[]) {
  const [command = process.execPath, ...before] = bound
  return run(command, [...before, runner, '-b', ...cheap, ...args]).catch(error => error)
}

t.test('a directory without write permission: a clear message, the file as it was', async t => {
  const dir = t.testdir({ passwd: 'ann:x\n' })
  const file = join(dir, 'passwd')
  chmodSync(dir, 0o555)
  t.match(await runBound(file, 'ann', 'new'), {
    code: 1,
    stdout: '',
    stderr: `Error: Unable to replace password file ${file}, which is as it was. Permission denied: ${file}.passwd-new.\n`
  })
  chmodSync(dir, 0o755)
  chmodSync(file, 0o444)
  t.match(await runBound(file, 'ann', 'new'), {
    code: 1,
    stderr: `Error: Unable to open password file ${file}. Permission denied.\n`
  })
  t.equal(readFileSync(file, 'utf8'), 'ann:x\n')
  t.same(readdirSync(dir), ['passwd'])
})

t.test('several at once lose nothing', async t => {
  const file = join(t.testdir({ passwd: '' }), 'passwd')
  const users = Array.from({ length: 12 }, (_, index) => `user${index}`)
  const results = await Promise.all(users.map(username => passwd(['-b', ...cheap, file, username, 'x'])))
  t.same(
    results.map(({ code }) => code),
    users.map(() => 0),
    results.map(({ stderr }) => stderr).join('')
  )
  t.same([...read(file).entries.keys()].sort(), users.toSorted())
})

t.test('a file left beside by a crash is named, not removed', async t => {
  const dir = t.testdir({ passwd: 'ann:x\n', 'passwd.passwd-new': 'half' })
  const file = join(dir, 'passwd')
  t.match(await passwd(['-b', ...cheap, file, 'ann', 'x']), {
    code: 1,
    stderr: `Error: ${file}.passwd-new exists: another change is under way, or one was cut short. If none is, remove it and try again.\n`
  })
  t.equal(readFileSync(file, 'utf8'), 'ann:x\n')
  t.equal(readFileSync(`${file}.passwd-new`, 'utf8'), 'half')
})

/** The command on a terminal of its own, made by script(1). */
class Terminal {
  readonly process: ChildProcess
  screen = ''

  constructor(t: Test, command: string) {
    this.process = spawn('script', ['-q', '-e', '-c', command, '/dev/null'], { stdio: 'pipe', env: { ...process.env, TERM: 'dumb' } })
    this.process.stdout?.on('data', data => {
      this.screen += data
    })
    t.teardown(() => this.process.kill())
  }

  /** Types the keys once the screen shows the text. */
  async answer(text: string, keys: string): Promise<void> {
    while (!this.screen.includes(text)) await new Promise(resolve => this.process.stdout?.once('data', resolve))
    this.process.stdin?.write(keys)
  }

  ended(): Promise<number | null> {
    return new Promise(resolve => this.process.on('close', resolve))
  }
}

const command = (file: string) => `${process.execPath} ${runner} ${cheap.join(' ')} -c ${file} ann`

t.test('on a terminal the password is asked for twice and not shown', async t => {
  const file = join(t.testdir(), 'passwd')
  const terminal = new Terminal(t, `${command(file)}; code=$?; stty -a; exit $code`)
  const ended = terminal.ended()
  await terminal.answer('Password: ', 'secrex\x7ft\r')
  await terminal.answer('Reenter password: ', 'wrong\x15secré\x7fet\n')
  t.equal(await ended, 0)
  t.equal(await accepts(file, 'ann', 'secret'), true, 'rubbed out and retyped')
  t.match(terminal.screen, /^Password: \r\nReenter password: \r\nAdding password for user ann\r\n/)
  t.notMatch(terminal.screen, /secre|wrong/)
  t.match(terminal.screen, / icanon .* echo /s, 'the terminal is as it was')
})

t.test('pasted lines, a mismatch and Ctrl-C on a terminal', async t => {
  const dir = t.testdir()
  const pasted = new Terminal(t, command(join(dir, 'pasted')))
  await pasted.answer('Password: ', 'secret\rsecret\r')
  t.equal(await pasted.ended(), 0)

  const different = new Terminal(t, command(join(dir, 'different')))
  const ended = different.ended()
  await different.answer('Password: ', 'one\r')
  await different.answer('Reenter password: ', 'two\r')
  t.equal(await ended, 1)
  t.match(different.screen, 'Error: Passwords do not match.')

  const interrupted = new Terminal(t, `${command(join(dir, 'interrupted'))}; code=$?; stty -a; exit $code`)
  await interrupted.answer('Password: ', 'se\x03')
  t.equal(await interrupted.ended(), 1)
  t.match(interrupted.screen, / icanon .* echo /s)
  t.same(readdirSync(dir), ['pasted'])
})
