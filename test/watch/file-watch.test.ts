// The watch by itself, with short times: every way in which a file is replaced is noticed, once, and nothing else is.

import {
  appendFileSync,
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readlinkSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync
} from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { FileReader } from '../../dist/files.js'
import { FileWatch, type WatchTimes } from '../../dist/watch/file-watch.js'
import { placesOf } from '../../dist/watch/places.js'
import { until } from '../helpers/until.js'

const quick: WatchTimes = { settle: 60, patience: 600, poll: 100_000 }
const isConf = (name: string): boolean => name.endsWith('.conf')

function folder(t: Test): string {
  const dir = mkdtempSync(join(tmpdir(), 'mosquitero-watch-'))
  t.teardown(() => rmSync(dir, { recursive: true, force: true }))
  return dir
}

/** Watches, and reads again whatever is said to have changed; `next` waits until that is done. */
function watchFiles(t: Test, files: readonly string[], folders: readonly string[] = [], times = quick) {
  const said: (readonly string[])[] = []
  let readings = 0
  const failed: string[] = []
  const read = async () => {
    const reader = new FileReader()
    for (const path of files) await reader.read(path).catch(() => {})
    for (const path of folders) await reader.list(path, isConf).catch(() => {})
    watch.follow(reader.paths)
    readings += 1
  }
  /** What was written just now is read once more a little later, in case it changes in the same tick of the clock: not meant here. */
  const start = async () => {
    await sleep(60)
    await read()
  }
  const watch = new FileWatch({
    changed(paths) {
      said.push(paths)
      void read()
    },
    unwatched: folder => failed.push(folder),
    times
  })
  t.teardown(() => watch.close())
  return { said, failed, watch, start, next: (count = 1) => until(() => said.length >= count && readings > count) }
}

/** How people and programs replace a file. The path may be a link into a folder of its own. */
const ways: Readonly<Record<string, (path: string, text: string) => void>> = {
  'written in place': (path, text) => writeFileSync(path, text),
  'appended to': (path, text) => appendFileSync(path, text),
  'renamed over': (path, text) => {
    writeFileSync(`${path}.new`, text)
    renameSync(`${path}.new`, path)
  },
  'deleted and made again': (path, text) => {
    rmSync(path)
    writeFileSync(path, text)
  },
  'moved aside and made again, as editors do': (path, text) => {
    renameSync(path, `${path}~`)
    writeFileSync(path, text)
    rmSync(`${path}~`)
  },
  'linked to another file': (path, text) => {
    writeFileSync(`${path}.other`, text)
    symlinkSync(basename(`${path}.other`), `${path}.link`)
    renameSync(`${path}.link`, path)
  },
  'made readable': path => chmodSync(path, (statSync(path).mode ^ 0o040) & 0o777)
}

for (const [way, replace] of Object.entries(ways)) {
  t.test(`a file that is ${way} is noticed, each time`, async t => {
    const path = join(folder(t), 'file')
    writeFileSync(path, 'old')
    const { said, start, next } = watchFiles(t, [path])
    await start()
    for (let i = 1; i <= 3; i++) {
      replace(path, `new ${i}`)
      await next(i)
    }
    t.same(said, [[path], [path], [path]])
  })
}

/** As kubelet writes a volume: files are links through `..data`, which is swapped. */
function publish(dir: string, version: string, files: Readonly<Record<string, string>>): void {
  mkdirSync(join(dir, `..${version}`))
  for (const [name, text] of Object.entries(files)) writeFileSync(join(dir, `..${version}`, name), text)
  symlinkSync(`..${version}`, join(dir, '..data_tmp'))
  const before = (() => {
    try {
      return readlinkSync(join(dir, '..data'))
    } catch {
      return undefined
    }
  })()
  renameSync(join(dir, '..data_tmp'), join(dir, '..data'))
  if (before !== undefined) rmSync(join(dir, before), { recursive: true })
}

t.test('a folder whose files are links through one that is swapped: all of them at once', async t => {
  const dir = folder(t)
  publish(dir, '1', { 'tls.crt': 'a', 'tls.key': 'b' })
  const paths = ['tls.crt', 'tls.key'].map(name => join(dir, name))
  for (const path of paths) symlinkSync(`..data/${basename(path)}`, path)
  const { said, start, next } = watchFiles(t, paths)
  await start()
  for (let i = 1; i <= 3; i++) {
    publish(dir, `v${i}`, { 'tls.crt': `a${i}`, 'tls.key': `b${i}` })
    await next(i)
  }
  t.same(said, [paths, paths, paths])
})

t.test('a path through links: each of them is a place, with `..` behind them as the kernel takes it', async t => {
  const dir = folder(t)
  mkdirSync(join(dir, 'a/b'), { recursive: true })
  mkdirSync(join(dir, 'c'))
  writeFileSync(join(dir, 'a/file'), '')
  symlinkSync(join(dir, 'a/b'), join(dir, 'c/link'))
  const places = await placesOf(`${dir}/c/link/../file`)
  t.same(
    places.map(({ folder, pick }) => [folder, ['link', 'file', 'other'].filter(pick)]),
    [
      [join(dir, 'c'), ['link']],
      [join(dir, 'a'), ['file']]
    ]
  )
  symlinkSync('round', join(dir, 'round'))
  t.equal((await placesOf(join(dir, 'round'))).length, 41, 'a link to itself comes to an end')
})

t.test('in a folder names that count come, go and change; others do not matter', async t => {
  const dir = folder(t)
  writeFileSync(join(dir, 'a.conf'), 'a')
  const { said, start, next } = watchFiles(t, [join(dir, 'a.conf')], [dir], { ...quick, patience: 100_000 })
  await start()
  for (let i = 0; i < 20; i++) writeFileSync(join(dir, 'data.db'), `${i}`)
  writeFileSync(join(dir, 'b.conf'), 'b')
  await next(1)
  rmSync(join(dir, 'b.conf'))
  await next(2)
  writeFileSync(join(dir, 'a.conf'), 'other')
  await next(3)
  // One of its files that goes is not waited for, as it may well have been taken away.
  rmSync(join(dir, 'a.conf'))
  await next(4)
  t.same(said, [[dir], [dir], [join(dir, 'a.conf')], [join(dir, 'a.conf'), dir]])
})

t.test('what has changed before the watch began is noticed', async t => {
  const path = join(folder(t), 'file')
  writeFileSync(path, 'old')
  const { said, watch } = watchFiles(t, [path])
  const reader = new FileReader()
  await reader.read(path)
  writeFileSync(path, 'newer')
  watch.follow(reader.paths)
  await until(() => said.length > 0)
  t.same(said, [[path]])
})

t.test('a file that is not there yet is noticed when it comes, its folder too', async t => {
  const path = join(folder(t), 'folder/file')
  const { said, start, next } = watchFiles(t, [path], [], { ...quick, poll: 50 })
  await start()
  mkdirSync(dirname(path))
  writeFileSync(path, 'x')
  await next()
  t.same(said, [[path]])
})

t.test('a folder that is renamed gives no event, and is found by looking', async t => {
  const dir = folder(t)
  for (const name of ['certs', 'next']) {
    mkdirSync(join(dir, name))
    writeFileSync(join(dir, name, 'file'), name)
  }
  const path = join(dir, 'certs/file')
  const { said, start, next } = watchFiles(t, [path], [], { ...quick, poll: 50 })
  await start()
  renameSync(join(dir, 'certs'), join(dir, 'old'))
  renameSync(join(dir, 'next'), join(dir, 'certs'))
  await next()
  t.same(said, [[path]])
})

t.test('a file that is being written is waited for', async t => {
  const path = join(folder(t), 'file')
  writeFileSync(path, 'old')
  const { said, start, next } = watchFiles(t, [path], [], { ...quick, settle: 300, patience: 20_000 })
  await start()
  let longest = 0
  for (let i = 0; i < 30; i++) {
    const before = performance.now()
    appendFileSync(path, 'more')
    await sleep(20)
    longest = Math.max(longest, performance.now() - before)
  }
  t.equal(said.length, longest < 300 ? 0 : said.length, 'not before its end, unless this process stood still')
  await next()
  t.match(said, [[path]])
})

t.test('an empty or missing file is waited for, and what comes instead counts', async t => {
  const dir = folder(t)
  const [path, other] = [join(dir, 'file'), join(dir, 'other')]
  for (const each of [path, other]) writeFileSync(each, 'old')
  const { said, start, next } = watchFiles(t, [path, other], [], { ...quick, patience: 20_000 })
  await start()
  truncateSync(path)
  rmSync(other)
  await sleep(200)
  t.same(said, [])
  writeFileSync(path, 'new')
  writeFileSync(other, 'new')
  await next()
  t.same(said, [[path, other]])
})

t.test('one that stays away, and one that never stops changing, are waited for only so long', async t => {
  const dir = folder(t)
  const [gone, busy] = [join(dir, 'gone'), join(dir, 'busy')]
  for (const path of [gone, busy]) writeFileSync(path, 'old')
  const first = watchFiles(t, [gone], [], { ...quick, patience: 300 })
  const second = watchFiles(t, [busy], [], { ...quick, settle: 10_000, patience: 300 })
  await Promise.all([first.start(), second.start()])
  rmSync(gone)
  const timer = setInterval(() => appendFileSync(busy, 'x'), 10)
  t.teardown(() => clearInterval(timer))
  await Promise.all([first.next(), second.next(2)])
  clearInterval(timer)
  t.same(first.said, [[gone]])
})

t.test('a flood of changes is said a few times', async t => {
  const path = join(folder(t), 'file')
  writeFileSync(path, 'old')
  const { said, start } = watchFiles(t, [path], [], { ...quick, settle: 200, patience: 2000 })
  await start()
  for (let i = 0; i < 2000; i++) {
    writeFileSync(path, `${i}`)
    if (i % 50 === 0) await sleep(1)
  }
  await until(async () => {
    const count = said.length
    await sleep(500)
    return count > 0 && said.length === count
  })
  // Where the machine is slow each pause is one.
  t.ok(said.length <= 20, `${said.length} times`)
})

t.test('what is as it was again before the time is up is not mentioned', async t => {
  const dir = folder(t)
  const [path, other] = [join(dir, 'file'), join(dir, 'other')]
  for (const each of [path, other]) writeFileSync(each, 'old')
  const { said, start, next } = watchFiles(t, [path, other], [], { ...quick, settle: 200 })
  await start()
  renameSync(path, `${path}.aside`)
  await sleep(50)
  renameSync(`${path}.aside`, path)
  // Its time of change is another now, which a reading finds to be nothing.
  await next()
  utimesSync(other, new Date(), new Date())
  await next(2)
  t.same(said, [[path], [other]])
})

t.test('after the end nothing is said', async t => {
  const path = join(folder(t), 'file')
  writeFileSync(path, 'old')
  const { said, start, watch } = watchFiles(t, [path])
  await start()
  writeFileSync(path, 'new')
  watch.close()
  await sleep(200)
  t.same(said, [])
})
