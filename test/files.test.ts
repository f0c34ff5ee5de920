import { mkdirSync, rmSync, utimesSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { FileReader, signatureOf } from '../dist/files.js'
import { until } from './helpers/until.js'

const isConf = (name: string): boolean => name.endsWith('.conf')

t.test('two readings of the same content are the same, whatever became of the file meanwhile', async t => {
  const dir = t.testdir({ file: 'a', folder: { 'a.conf': '', 'b.txt': '' } })
  const read = async () => {
    const reader = new FileReader()
    await reader.read(join(dir, 'file')).catch(() => {})
    await reader.list(join(dir, 'folder'), isConf).catch(() => {})
    return reader
  }
  const first = await read()
  t.same([...first.paths.keys()], [join(dir, 'file'), join(dir, 'folder')])
  utimesSync(join(dir, 'file'), 1, 1)
  writeFileSync(join(dir, 'folder/c.txt'), '')
  t.ok((await read()).hasSameContent(first))
  writeFileSync(join(dir, 'folder/c.conf'), '')
  const second = await read()
  t.notOk(second.hasSameContent(first))
  t.same(second.changedSince(first), [join(dir, 'folder')])
  rmSync(join(dir, 'file'))
  const third = await read()
  t.same(third.changedSince(second), [join(dir, 'file')])
  t.ok((await read()).hasSameContent(third), 'what is not there stays as it is')
  t.notOk(new FileReader().hasSameContent(third))
})

t.test('what is wrong with a path rejects as the system says it, and is remembered', async t => {
  const dir = t.testdir({ file: 'a' })
  const reader = new FileReader()
  await t.rejects(reader.read(dir), { code: 'EISDIR' })
  await t.rejects(reader.read(join(dir, 'none')), { code: 'ENOENT' })
  await t.rejects(reader.list(join(dir, 'file'), isConf), { code: 'ENOTDIR' })
  t.equal(reader.paths.size, 3)
  t.match(await signatureOf(join(dir, 'none')), { id: 'ENOENT', isBlank: true })
})

t.test('what comes between two readings of one file is not missed', async t => {
  const path = join(t.testdir({ file: 'a' }), 'file')
  const reader = new FileReader()
  await reader.read(path)
  writeFileSync(path, 'longer')
  await reader.read(path)
  t.not(reader.paths.get(path)?.signature.id, (await signatureOf(path)).id)
})

t.test('a file of the same size and time that takes the place of another is another', async t => {
  const dir = t.testdir({ a: 'x', b: 'y' })
  for (const name of ['a', 'b']) utimesSync(join(dir, name), 1, 1)
  const idOf = async (name: string) => (await signatureOf(join(dir, name))).id
  t.not(await idOf('a'), await idOf('a'), 'so young that another change could look the same')
  await until(async () => [await idOf('a'), await idOf('a')].every((id, _, [first]) => id === first))
  t.not((await signatureOf(join(dir, 'a'))).id, (await signatureOf(join(dir, 'b'))).id)
  mkdirSync(join(dir, 'c'))
  t.same(await signatureOf(join(dir, 'c'), isConf), { id: '', isBlank: false })
  writeFileSync(join(dir, 'a'), '')
  t.equal((await signatureOf(join(dir, 'a'))).isBlank, true)
})
