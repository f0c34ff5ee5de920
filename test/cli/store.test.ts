// `mosquitero store`: a store as lines of text, the same store from them, and what is said of one that can't be used.

import { cpSync, existsSync, readdirSync, readFileSync, renameSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import t, { type Test } from 'tap'
import { Message } from '../../dist/message.js'
import type { Change } from '../../dist/storage.js'
import { DiskStore } from '../../dist/store/disk.js'
import { Run } from '../../dist/store/disk-run.js'
import { dumpLine, parseDumpLine } from '../../dist/store/dump.js'
import { recordLog } from '../helpers/bare-broker.js'
import { mosquitero } from '../helpers/command.js'
import { said } from '../helpers/kept.js'
import { until } from '../helpers/until.js'

const message = new Message({
  topic: 'a/€',
  payload: Buffer.from([0, 255, 10]),
  qos: 2,
  retain: true,
  properties: Buffer.from('0300037478740900020001', 'hex'),
  expiresAt: 1_900_000_000_000,
  source: { clientId: 'writer', username: 'ann', listener: 'any 1883 ', certificate: { organization: 'Größe' } }
})

const content: readonly Change[] = [
  {
    kind: 'session',
    session: {
      clientId: 'c "1"\n',
      version: 5,
      expiryInterval: 60,
      expiresAt: 1_900_000_000_000,
      leftAt: 5,
      username: 'bob',
      certificate: { organizationalUnit: 'press', serial: '0A' },
      listener: 'any 8883 ',
      will: { message, delayInterval: 3, messageExpiryInterval: 7, dueAt: 9 }
    },
    lastPacketId: 12
  },
  { kind: 'session', session: { clientId: 'other', version: 3, expiryInterval: 0xffffffff } },
  {
    kind: 'subscribe',
    clientId: 'c "1"\n',
    subscription: { filter: 'a/#', group: 'g', qos: 1, noLocal: false, retainAsPublished: true, retainHandling: 2, identifier: 7 }
  },
  { kind: 'hold', clientId: 'other', packetId: 9, message },
  ...(['queued', 'sent', 'received'] as const).map((state, i): Change => {
    const entry = {
      clientId: 'other',
      sequence: i + 1,
      message,
      qos: 2,
      retain: false,
      subscriptionIdentifier: 3,
      packetId: i + 1,
      state
    } as const
    return { kind: 'enqueue', message, entries: [entry] }
  }),
  { kind: 'retain', topic: message.topic, message }
]

async function filled(t: Test, changes: readonly Change[] = content): Promise<string> {
  const file = join(t.testdir(), 'mosquitto.db')
  const store = new DiskStore({ file, log: recordLog(), sync: false })
  await store.open()
  await store.commit(changes)
  await store.close()
  return file
}

const store = (t: Test, args: readonly string[], input = '') => mosquitero(t, ['store', ...args], { input }).ended

t.test('what is exported and imported is the same store', async t => {
  const file = await filled(t)
  const { stdout, stderr, status } = await store(t, ['export', file])
  t.equal(status, 0, stderr)
  t.equal(stdout.trim().split('\n').length, 1 + content.length)
  const copy = join(file, '..', 'copy.db')
  t.match(await store(t, ['import', copy], stdout), { status: 0, stderr: '' })
  t.equal((await store(t, ['export', copy])).stdout, stdout)
  t.match(await store(t, ['check', copy]), {
    status: 0,
    stdout: /sessions +2\nsubscriptions +1\nqueued +3 \(9 bytes\)\nheld +1\nretained +1\nIt is sound\.\n/
  })

  const out = join(file, '..', 'dump')
  t.equal((await store(t, ['export', file, '--out', out])).status, 0)
  t.equal(readFileSync(out, 'utf8'), stdout)
  t.match(await store(t, ['export', file, '--out', out]), { status: 1, stderr: /^Error: Unable to write .*dump: File exists\.\n$/ })
  t.match(await store(t, ['import', copy, '--in', out]), { status: 1, stderr: /is not empty: --replace empties it first/ })
  t.match(await store(t, ['import', copy, '--in', out, '--replace']), { status: 0, stderr: /set aside as .*\.replaced-/ })
  t.equal((await store(t, ['export', copy])).stdout, stdout)
})

t.test('the store of a configuration', async t => {
  const dir = t.testdir({
    'm.conf': 'persistence true\npersistence_file x.db\n',
    'none.conf': 'persistence false\n',
    'bad.conf': 'persistence maybe\n'
  })
  t.match(await mosquitero(t, ['store', 'import', '-c', 'm.conf'], { cwd: dir, input: '{"dump":"mosquitero","version":1}\n' }).ended, {
    status: 0
  })
  t.ok(readdirSync(dir).includes('x.db.mosquitero'))
  t.match(await store(t, ['check', '-c', join(dir, 'none.conf')]), { status: 1, stderr: /has no store on disk/ })
  t.match(await store(t, ['check', '-c', join(dir, 'bad.conf')]), { status: 1, stderr: /Invalid 'persistence' value/ })
})

t.test('a file of Mosquitto is taken over with its listeners, as at a start', async t => {
  const listener = '127.0.0.1 18831 '
  const source = { clientId: 'writer', listener }
  const kept = new Message({ topic: 'kept', payload: Buffer.from('x'), qos: 1, retain: true, source })
  const file = await filled(t, [
    { kind: 'session', session: { clientId: 'c', version: 4, expiryInterval: 0xffffffff, listener } },
    { kind: 'retain', topic: 'kept', message: kept }
  ])
  const first = new DiskStore({ file, log: recordLog(), sync: false })
  await first.open()
  await first.save()
  await first.close()
  const conf = join(file, '..', 'm.conf')
  const lines = [
    'per_listener_settings true',
    'listener 18831 127.0.0.1',
    'allow_anonymous true',
    'persistence true',
    'persistence_file x.db'
  ]
  writeFileSync(conf, `${lines.join('\n')}\npersistence_location ${join(file, '..')}\n`)
  renameSync(file, join(file, '..', 'x.db'))
  t.match(await store(t, ['check', '-c', conf]), { status: 0, stderr: /Took over 1 session, .* 1 retained message/ })
  const { stdout } = await store(t, ['export', '-c', conf])
  t.equal(stdout.split(`"listener":"${listener}"`).length, 3, stdout)
})

t.test("what can't be read is named with its line", async t => {
  const head = '{"dump":"mosquitero","version":1}\n'
  for (const [input, expected] of [
    ['', /There is nothing to import/],
    ['nonsense\n', /standard input:1: the first line is not that of a dump/],
    ['{"dump":"mosquitero","version":2}\n', /standard input:1: it is a dump of version 2/],
    [`${head}\n{"kind":"session","clientId":"c"}\n`, /standard input:3: a session has clientId, version \(3, 4 or 5\) and expiryInterval/],
    [`${head}{"kind":"other"}\n`, /standard input:2: its kind is none of/],
    [`${head}[]\n`, /standard input:2: it is not a JSON object/]
  ] as const) {
    const file = join(t.testdir(), 'mosquitto.db')
    t.match(await store(t, ['import', file], input), { status: 1, stderr: expected })
  }
})

t.test('what is in a store stays when what is to replace it can not be had', async t => {
  const file = await filled(t)
  const dir = join(file, '..')
  const { stdout: before } = await store(t, ['export', file])
  const long = before
    .split('\n', 1)
    .concat(Array.from({ length: 600 }, (_, i) => `{"kind":"session","clientId":"${i}","version":4,"expiryInterval":9}`))
  const inputs = { empty: '', 'p.log': '1700000000: mosquitto version 2.0.11 starting\n', bad: `${long.join('\n')}\nnonsense\n` }
  for (const [name, content] of Object.entries(inputs)) writeFileSync(join(dir, name), content)
  const names = readdirSync(dir)
  for (const [name, expected] of [
    ['typo.jsonl', /^Error: Unable to read .*\/typo\.jsonl: No such file or directory\.\n$/],
    ['.', /^Error: Unable to read .*: Is a directory\.\n$/],
    ['empty', /^Error: There is nothing to import in .*\/empty\.\n$/],
    ['p.log', /^Error: .*\/p\.log:1: the first line is not that of a dump\.\n$/],
    ['bad', /^Error: .*\/bad:602: it is not a JSON object\. The store is as it was\.\n$/]
  ] as const) {
    for (const more of [[], ['--replace']]) {
      if (name === 'bad' && more.length === 0) continue
      t.match(await store(t, ['import', file, '--in', join(dir, name), ...more]), { status: 1, stdout: '', stderr: expected })
      t.equal((await store(t, ['export', file])).stdout, before)
      t.same(readdirSync(dir), names)
    }
  }
  const other = join(dir, 'other.db')
  t.match(await store(t, ['import', other, '--in', join(dir, 'bad')]), { status: 1, stderr: /bad:602/ })
  t.match(await store(t, ['check', other]), { stdout: /sessions +0\n/ }, 'an empty one too')
})

t.test('an import that is cut off leaves what was there, or all of what came', async t => {
  const file = await filled(t)
  const path = `${file}.mosquitero`
  const { stdout: before } = await store(t, ['export', file])
  const head = before.split('\n', 1)[0] ?? ''
  const next = `${head}\n{"kind":"session","clientId":"next","version":4,"expiryInterval":9}\n`

  const importing = mosquitero(t, ['store', 'import', file, '--replace'], {})
  importing.child.stdin?.write(next)
  await until(() => existsSync(`${path}.next`))
  importing.child.kill('SIGKILL')
  await importing.ended
  t.equal((await store(t, ['export', file])).stdout, before, 'cut off while it came in')

  t.match(await store(t, ['import', file, '--replace'], next), { status: 0, stderr: /set aside as / })
  t.notOk(existsSync(`${path}.next`), 'and what that left is gone')
  const after = (await store(t, ['export', file])).stdout
  t.match(after, /"clientId":"next"/)

  cpSync(path, `${path}.imported`, { recursive: true })
  t.equal((await store(t, ['export', file])).stdout, after, 'cut off once it was whole')
  t.notOk(existsSync(`${path}.imported`))
  renameSync(path, `${path}.imported`)
  t.match(await store(t, ['check', file]), { status: 0, stdout: /sessions +1\n/ }, 'cut off before the last rename')
  t.equal((await store(t, ['export', file])).stdout, after)
})

t.test('a store that is damaged is mended, and that is said', async t => {
  const file = await filled(t)
  const folder = `${file}.mosquitero`
  truncateSync(join(folder, 'CURRENT'), 0)
  t.match(await store(t, ['check', file]), {
    status: 1,
    stderr: /is damaged \(CURRENT/,
    stdout: /sessions +2\n[\s\S]*It was damaged; what could be read is kept\.\n/
  })
  t.match(await store(t, ['check', file]), { status: 0, stdout: /It is sound\./ })
})

t.test('wrong usage, and a store that is not there', async t => {
  t.match(await store(t, []), { status: 2, stdout: /^Usage: mosquitero store export/ })
  t.match(await store(t, ['--help']), { status: 0, stdout: /^Usage: / })
  t.match(await store(t, ['destroy', 'x']), { status: 2, stderr: /There is no command 'destroy'/ })
  t.match(await store(t, ['check']), { status: 2, stderr: /Name the store/ })
  t.match(await store(t, ['check', 'a', 'b']), { status: 2, stderr: /Name the store/ })
  t.match(await store(t, ['check', '--wrong']), { status: 2, stderr: /--wrong/ })
  t.match(await store(t, ['export', join(t.testdir(), 'nothing.db')]), { status: 1, stderr: /There is no store .*nothing\.db\.mosquitero/ })
  t.same(readdirSync(t.testdir()), [], 'and none is made')
})

t.test('a file that is no store stays where it is, whatever was meant', async t => {
  const files = { 'mosquitto.conf': 'listener 18850\n', empty: '', 'half.db': '\0\xB5', folder: {} }
  const dir = t.testdir(files)
  const head = '{"dump":"mosquitero","version":1}\n'
  for (const name of Object.keys(files)) {
    for (const command of ['check', 'export', 'import']) {
      if (name === 'folder' && command === 'import') continue
      const { status, stdout, stderr } = await store(t, [command, join(dir, name)], head)
      t.match(
        { status, stdout, stderr },
        { status: 1, stdout: '', stderr: /^Error: There is no store .*\.mosquitero(, and .* is .*)?\.\n$/ },
        name
      )
    }
  }
  t.same(readdirSync(dir).sort(), Object.keys(files).sort())
  t.equal(readFileSync(join(dir, 'mosquitto.conf'), 'utf8'), 'listener 18850\n')
})

t.test("a file of Mosquitto's is a store without one of ours beside it", async t => {
  const file = await filled(t)
  const open = new DiskStore({ file, log: recordLog(), sync: false })
  await open.open()
  await open.save()
  await open.close()
  rmSync(`${file}.mosquitero`, { recursive: true })
  t.match(await store(t, ['check', file]), { status: 0, stdout: /sessions +2\n[\s\S]*It is sound\.\n/ })
  t.ok(readFileSync(file).length > 0, 'and stays')
})

t.test('lines: there and back, and nothing that is wrong throws', async t => {
  for (const change of content) {
    const back = parseDumpLine(dumpLine(change))
    t.same(said(back), said(change))
    if (change.kind !== 'enqueue') continue
    const entries = change.entries.map(entry => ({ ...entry, record: new Run(1, 1) }))
    t.equal(dumpLine({ ...change, entries }), dumpLine(change), 'what the store keeps with an entry is its own')
  }
  const lines = content.map(dumpLine)
  fc.assert(
    fc.property(fc.constantFrom(...lines), fc.nat(), fc.string(), (line, at, text) => {
      const cut = at % line.length
      parseDumpLine(line.slice(0, cut) + text + line.slice(cut + 1))
    })
  )
  fc.assert(fc.property(fc.json(), text => typeof parseDumpLine(text) === 'string'))
  t.throws(() => dumpLine({ kind: 'drop', clientId: 'c' }), TypeError)
})

t.test('a store that a broker has open is left alone', async t => {
  const file = join(t.testdir(), 'mosquitto.db')
  const open = new DiskStore({ file, log: recordLog(), sync: false })
  await open.open()
  await open.commit(content)
  writeFileSync(join(file, '..', 'd'), '{"dump":"mosquitero","version":1}\n')
  for (const args of [
    ['check', file],
    ['export', file],
    ['import', file, '--replace', '--in', join(file, '..', 'd')]
  ]) {
    t.match(await store(t, args), { status: 1, stderr: /Another broker, or a mosquitero store command, is using / })
  }
  t.equal((await open.page('other', 0, 10)).length, 3)
  await open.close()
  t.same(readdirSync(join(file, '..')).sort(), ['d', 'mosquitto.db.mosquitero'])
})
