import { spawn } from 'node:child_process'
import { once } from 'node:events'
import fs, { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'
import { join, resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import fc from 'fast-check'
import t, { type Test } from 'tap'
import { certificatePaths, checkAbsent, existing, pathsOf, readFileBounded, writeIssued, writeNew } from '../../dist/pki/files.js'

const issued = { certificate: 'certificate\n', key: 'key\n', serial: '01' }

t.test('a pair is written into new folders, the key for its owner alone', async t => {
  const paths = certificatePaths(join(t.testdir(), 'a', 'certs'), 'broker')
  t.match(paths, { certificate: /a\/certs\/broker\/broker\.crt$/, key: /a\/certs\/broker\/broker\.key$/ })
  await writeIssued(paths, issued)
  t.equal(readFileSync(paths.certificate, 'utf8'), issued.certificate)
  t.equal(readFileSync(paths.key, 'utf8'), issued.key)
  t.equal(statSync(paths.key).mode & 0o777, 0o600)
  t.equal(statSync(paths.certificate).mode & 0o777, 0o644 & ~process.umask())
})

t.test('nothing is overwritten, and nothing is written beside it', async t => {
  for (const taken of ['x.crt', 'x.key']) {
    const dir = t.testdir({ [taken]: 'mine' })
    await t.rejects(writeIssued(pathsOf(join(dir, 'x')), issued), {
      code: 'ERR_PKI_EXISTS',
      message: `${join(dir, taken)} exists and is not overwritten; move it away to make a new one.`
    })
    t.same(readdirSync(dir), [taken])
    t.equal(readFileSync(join(dir, taken), 'utf8'), 'mine')
  }
})

t.test('a broken symbolic link is not followed: it belongs to somebody', async t => {
  const dir = t.testdir()
  symlinkSync(join(dir, 'elsewhere'), join(dir, 'x.key'))
  await t.rejects(checkAbsent(pathsOf(join(dir, 'x'))), { code: 'ERR_PKI_EXISTS' })
  await t.rejects(writeNew(join(dir, 'x.key'), 'key', 0o600), { code: 'ERR_PKI_EXISTS' })
  t.notOk(existsSync(join(dir, 'elsewhere')))
})

t.test('of many writers of one file one wins, and the file is whole', async t => {
  const dir = t.testdir()
  const file = join(dir, 'x.key')
  const texts = Array.from({ length: 8 }, (_, n) => String(n).repeat(100_000))
  const results = await Promise.allSettled(texts.map(text => writeNew(file, text, 0o600)))
  t.equal(results.filter(({ status }) => status === 'fulfilled').length, 1)
  t.ok(texts.includes(readFileSync(file, 'utf8')))
  t.same(readdirSync(dir), ['x.key'])
})

t.test('a writer that is killed leaves the whole file or none', async t => {
  const dir = t.testdir()
  const module = pathToFileURL(resolve('dist/pki/files.js')).href
  // Writes file after file, saying which one begins; it is killed in the middle of some.
  const script = `import { writeNew } from ${JSON.stringify(module)}
    for (let n = 0; ; n++) { process.stdout.write('.'); await writeNew(${JSON.stringify(dir)} + '/' + n + '.key', 'k'.repeat(4000000), 0o600) }`
  for (let round = 0; round < 3; round++) {
    const writer = spawn(process.execPath, ['--input-type=module', '-e', script], { stdio: ['ignore', 'pipe', 'inherit'] })
    await once(writer.stdout, 'data')
    writer.kill('SIGKILL')
    await once(writer, 'close')
    for (const name of readdirSync(dir)) if (name.endsWith('.key')) t.equal(statSync(join(dir, name)).size, 4_000_000)
  }
})

t.test('a folder that cannot be written gets a sentence', async t => {
  const dir = t.testdir({ file: '' })
  await t.rejects(writeNew(join(dir, 'file', 'x.crt'), '', 0o644), {
    code: 'ERR_PKI_FILE',
    message: /^Unable to make the folder .*file: a file of that name is in the way\.$/
  })
  await t.rejects(writeNew(join(dir, `${'n'.repeat(300)}.crt`), '', 0o644), { code: 'ERR_PKI_FILE' })
  t.same(readdirSync(dir), ['file'])
  mkdirSync(join(dir, 'locked'))
  chmodSync(join(dir, 'locked'), 0o500)
  // root may write everywhere.
  if (process.getuid?.() !== 0) await t.rejects(writeNew(join(dir, 'locked', 'x'), '', 0o600), { message: /Permission denied/ })
})

t.test('a certificate that cannot be written leaves no key behind', async t => {
  const dir = t.testdir()
  // The key itself is in the way of the certificate's folder, which nobody can know before it is there.
  const paths = { key: join(dir, 'x'), certificate: join(dir, 'x', 'x.crt') }
  await t.rejects(writeIssued(paths, issued), { code: 'ERR_PKI_FILE', message: /a file of that name is in the way/ })
  t.same(readdirSync(dir), [])
})

t.test('without hard links a file is written all the same, and still none is overwritten', async t => {
  withoutHardLinks(t)
  const dir = t.testdir({ 'taken.key': 'mine' })
  await writeIssued(pathsOf(join(dir, 'x')), issued)
  t.same([readFileSync(join(dir, 'x.key'), 'utf8'), statSync(join(dir, 'x.key')).mode & 0o777], [issued.key, 0o600])
  await t.rejects(writeNew(join(dir, 'taken.key'), 'ours', 0o600), { code: 'ERR_PKI_EXISTS' })
  t.equal(readFileSync(join(dir, 'taken.key'), 'utf8'), 'mine')
  t.same(readdirSync(dir).sort(), ['taken.key', 'x.crt', 'x.key'])
})

/** Answers as FAT does: a test can't count on the right to mount one. */
function withoutHardLinks(t: Test): void {
  const { link } = fs.promises
  const use = (replacement: typeof link) => {
    fs.promises.link = replacement
    syncBuiltinESMExports()
  }
  use(() => Promise.reject(Object.assign(new Error('operation not permitted'), { code: 'EPERM' })))
  t.teardown(() => use(link))
}

t.test('no name leads out of its folder', async () => {
  const text = fc.oneof(fc.string({ unit: 'binary' }), fc.stringMatching(/^[./\\\0a]{0,8}$/))
  fc.assert(
    fc.property(text, name => {
      try {
        const { key } = certificatePaths('/srv/certs', 'client', name)
        return resolve(key) === `/srv/certs/client/${name}.key`
      } catch (error) {
        return error instanceof Error && 'code' in error && error.code === 'ERR_PKI_INPUT'
      }
    }),
    { numRuns: 2000 }
  )
})

t.test('a missing file, a folder and a file without end are not read', async t => {
  const dir = t.testdir({ big: '' })
  await t.rejects(readFileBounded(join(dir, 'no')), { code: 'ERR_PKI_FILE', message: /No such file or directory\.$/ })
  await t.rejects(readFileBounded(dir), { code: 'ERR_PKI_FILE', message: /Is a directory\.$/ })
  await t.rejects(readFileBounded('/dev/zero'), { code: 'ERR_PKI_FILE', message: /larger than 16 MB/ })
  writeFileSync(join(dir, 'big'), Buffer.alloc(16 * 1024 * 1024))
  t.equal((await readFileBounded(join(dir, 'big'))).length, 16 * 1024 * 1024)
})

t.test('existing says which half is there', async t => {
  const dir = t.testdir({ 'x.key': '' })
  t.same(await existing(pathsOf(join(dir, 'x'))), { certificate: false, key: true })
})
