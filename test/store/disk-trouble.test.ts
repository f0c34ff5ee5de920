// The running broker over a disk that takes nothing for a while: it goes on, tells nobody what isn't true, and resumes by itself.

import { execFileSync } from 'node:child_process'
import { chmodSync, chownSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { ClassicLevel } from 'classic-level'
import t, { type Test } from 'tap'
import { encodeJson, metaKey } from '../../dist/store/disk-records.js'
import { freePort, mosquitero, type Running, startBroker, userLine } from '../helpers/command.js'
import { FieldPublisher, FieldSubscriber, type Sendings } from '../helpers/field-client.js'
import { connectMqtt } from '../helpers/mqtt.js'
import { seededRandom } from '../helpers/raw-mqtt.js'
import { until } from '../helpers/until.js'

const isRoot = process.getuid?.() === 0
const nobody = 65_534

interface Place {
  readonly dir: string
  /** The `user` line of mosquitto.conf. */
  readonly user?: string
  harm(broker: Running): void
  mend(broker: Running): void
}

/** False: this machine, or this account, has no such way. */
type Way = (t: Test) => Place | false

function newFolder(t: Test): string {
  const dir = mkdtempSync(join(tmpdir(), 'mosquitero-'))
  t.teardown(() => rmSync(dir, { recursive: true, force: true }))
  return dir
}

function succeeds(command: string, ...args: readonly string[]): boolean {
  try {
    execFileSync(command, args, { stdio: 'ignore' })
    return true
  } catch {
    return false
  }
}

function mountSmall(t: Test): string | false {
  const dir = newFolder(t)
  if (!isRoot || !succeeds('mount', '-t', 'tmpfs', '-o', 'size=40m', 'tmpfs', dir)) return false
  t.teardown(() => succeeds('umount', '-l', dir))
  return dir
}

// A byte at a time at the end: nothing is left.
function fill(dir: string): void {
  for (const [i, size] of [1_000_000, 10_000, 1000, 1].entries()) {
    for (let n = 0; ; n++) {
      try {
        writeFileSync(join(dir, `filler-${i}-${n}`), Buffer.alloc(size))
      } catch {
        break
      }
    }
  }
}

const ways: Record<string, Way> = {
  'a full disk (a small tmpfs)': t => {
    const dir = mountSmall(t)
    return (
      dir !== false && {
        dir,
        harm: () => fill(dir),
        mend: () => {
          for (const name of readdirSync(dir)) if (name.startsWith('filler')) rmSync(join(dir, name))
        }
      }
    )
  },
  'files that may not grow (RLIMIT_FSIZE, by prlimit)': t => {
    const limit = (size: string) => (broker: Running) =>
      void execFileSync('prlimit', ['--pid', `${broker.child.pid}`, `--fsize=${size}:unlimited`])
    return succeeds('prlimit', '--version') && { dir: newFolder(t), harm: limit('1'), mend: limit('unlimited') }
  },
  'a folder that became read-only (chmod, under another account than root)': t => {
    const dir = newFolder(t)
    const store = join(dir, 'mosquitto.db.mosquitero')
    if (isRoot) chownSync(dir, nobody, nobody)
    const user = isRoot ? 'user nobody\n' : ''
    return { dir, user, harm: () => chmodSync(store, 0o500), mend: () => chmodSync(store, 0o700) }
  }
}

function configFile(t: Test, port: number, { dir, user = userLine }: Pick<Place, 'dir' | 'user'>): string {
  const file = join(newFolder(t), 'm.conf')
  const lines = [
    `listener ${port} 127.0.0.1`,
    'persistence true',
    `persistence_location ${dir}/`,
    'allow_anonymous true',
    'max_queued_messages 0'
  ]
  writeFileSync(file, `${lines.join('\n')}\n${user}`)
  chmodSync(join(file, '..'), 0o755)
  return file
}

/** But for the admin socket, which a killed broker leaves. */
const storesIn = (dir: string): string[] => readdirSync(dir).filter(name => !name.endsWith('.sock'))

for (const [name, way] of Object.entries(ways)) {
  t.test(`${name}: nobody is told what isn't true, one line says it, and it goes on by itself`, async t => {
    const place = way(t)
    if (place === false) {
      t.pass('not on this machine, or not with this account', { skip: true })
      return
    }
    const port = await freePort()
    const args = ['-c', configFile(t, port, place)]
    const broker = await startBroker(t, args)
    const faults: string[] = []
    const sendings: Sendings = new Map()
    const random = seededRandom(5)
    const publisher = new FieldPublisher({ clientId: 'publisher', version: 5, faults, random }, sendings)
    const away = new FieldSubscriber({ clientId: 'away', version: 4, faults, random }, 2, 0, sendings)
    const here = new FieldSubscriber({ clientId: 'here', version: 5, faults, random }, 2, 5, sendings)
    t.teardown(() => Promise.all([publisher, away, here].map(client => client.drop())))
    for (const client of [publisher, away, here]) await client.connect(port)
    await until(() => away.isSubscribed && here.isSubscribed)
    await away.disconnect()
    const publish = (count: number) => {
      publisher.budget += count
      publisher.fill()
    }
    publish(100)
    await until(() => publisher.pending === 0)

    place.harm(broker)
    publish(100_000)
    // More than the file that is open takes where only new ones are refused.
    const flood = await connectMqtt(port)
    t.teardown(() => flood.destroy())
    await flood.connect({ clientId: 'flood' })
    let sent = 0
    const isTroubled = () => / Nothing can be written to the store /.test(`\n${broker.stderr().replaceAll('Error:', '')}`)
    while (!isTroubled()) {
      flood.publish('big', Buffer.alloc(500_000, sent), { qos: 1, messageId: ++sent, retain: true })
      await pause(20)
    }
    publisher.budget = 0
    // What was said before may still be on its way.
    flood.send({ cmd: 'pingreq' })
    await until(() => flood.packets.some(({ cmd }) => cmd === 'pingresp'))
    const acknowledged = () => flood.packets.filter(({ cmd }) => cmd === 'puback').length
    const before = [publisher.pending, acknowledged()]
    const other = await connectMqtt(port)
    t.teardown(() => other.destroy())
    await other.connect({ clientId: 'other' })
    await other.subscribe('live')
    other.publish('live', 'x')
    await other.next('publish')
    for (const [version, code] of [
      [4, 3],
      [5, 0x88]
    ] as const) {
      const late = await connectMqtt(port, version)
      const { returnCode, reasonCode } = await late.connect({
        clientId: `late${version}`,
        clean: false,
        ...(version === 5 && { properties: { sessionExpiryInterval: 9 } })
      })
      t.equal(version === 5 ? reasonCode : returnCode, code, 'a session that would have to be kept is refused')
      late.destroy()
    }
    await pause(1500)
    await other.ping()
    t.same([publisher.pending, acknowledged()], before, 'nobody was acknowledged')

    place.mend(broker)
    await broker.line(/ can be written to again\.$/)
    await until(() => publisher.pending === 0 && acknowledged() === sent)
    publish(50)
    await until(() => publisher.pending === 0)
    t.equal(broker.stderr().match(/Nothing can be written/g)?.length, 1, 'it is said once')
    t.match(broker.stderr(), /Nothing can be written to the store \S+mosquitto\.db\.mosquitero \([^()/]+\)\. Until/)
    await broker.stop('SIGKILL')
    await here.ended()

    const again = await startBroker(t, args)
    t.notMatch(again.stderr(), /damaged/)
    for (const client of [away, here]) await client.connect(port)
    const streams = [...publisher.last].filter(([stream]) => stream.startsWith('load/'))
    const isComplete = ({ last }: FieldSubscriber) => streams.every(([stream, count]) => last.get(stream) === count)
    await until(() => faults.length > 0 || (isComplete(away) && isComplete(here))).catch(() => {})
    t.ok(isComplete(away) && isComplete(here), 'nothing is lost')
    t.same(faults, [])
  })
}

t.test('a second broker on one store is refused with 1, and does the first no harm', async t => {
  const dir = newFolder(t)
  const port = await freePort()
  await startBroker(t, ['-c', configFile(t, port, { dir })])
  const client = await connectMqtt(port)
  t.teardown(() => client.destroy())
  await client.connect({ clientId: 'c', clean: false })
  const second = await mosquitero(t, ['-c', configFile(t, await freePort(), { dir })]).ended
  t.equal(second.status, 1)
  t.match(second.stderr, /Error: Another broker, or a mosquitero store command, is using \S+mosquitto\.db\.mosquitero\.\n/)
  t.notMatch(second.stderr, /\n\s+at /)
  t.same(storesIn(dir), ['mosquitto.db.mosquitero'])
  await client.subscribe('a', 1)
  client.publish('a', 'x', { qos: 1, messageId: 1, retain: true })
  await client.next('publish')
  await client.next('puback')
})

const refusals: Record<string, { readonly make: (t: Test) => Pick<Place, 'dir' | 'user'> | false; readonly words: RegExp }> = {
  'that is not there': { make: t => ({ dir: join(newFolder(t), 'nowhere') }), words: /No such file or directory/ },
  'that is a file': {
    make: t => {
      const dir = join(newFolder(t), 'file')
      writeFileSync(dir, '')
      return { dir }
    },
    words: /Not a directory/
  },
  'that may not be written to (chmod, under another account than root)': {
    make: t => {
      const dir = newFolder(t)
      chmodSync(dir, 0o555)
      return { dir, user: isRoot ? 'user nobody\n' : '' }
    },
    words: /Permission denied/
  },
  'on a disk that is mounted read-only (tmpfs)': {
    make: t => {
      const dir = mountSmall(t)
      return dir !== false && succeeds('mount', '-o', 'remount,ro', dir) && { dir }
    },
    words: /[Rr]ead-only file system/
  },
  'on a disk that is full (tmpfs)': {
    make: t => {
      const dir = mountSmall(t)
      if (dir !== false) fill(dir)
      return dir !== false && { dir }
    },
    words: /[Nn]o space left on device/
  }
}

for (const [name, { make, words }] of Object.entries(refusals)) {
  t.test(`a persistence_location ${name}: one line, status 1`, async t => {
    const place = make(t)
    if (place === false) {
      t.pass('not on this machine, or not with this account', { skip: true })
      return
    }
    const { status, stderr } = await mosquitero(t, ['-c', configFile(t, await freePort(), place)]).ended
    t.equal(status, 1)
    const lines = stderr.split('\n').filter(line => line.includes('Error'))
    t.equal(lines.length, 1, stderr)
    t.match(lines[0], /Error: Unable to open the store \S+mosquitto\.db\.mosquitero: /)
    t.match(lines[0], words)
    t.notMatch(stderr, /\n\s+at /)
  })
}

t.test('a store that cannot be opened for want of room is whole once there is some', async t => {
  const dir = mountSmall(t)
  if (dir === false) {
    t.pass('not on this machine, or not with this account', { skip: true })
    return
  }
  const args = ['-c', configFile(t, await freePort(), { dir })]
  const file = join(dir, 'mosquitto.db.mosquitero')
  const first = await startBroker(t, args)
  const port = Number(/port (\d+)/.exec(first.stderr())?.[1])
  const client = await connectMqtt(port)
  await client.connect({ clientId: 'c', clean: false })
  for (let i = 1; i <= 20; i++) client.publish(`kept/${i}`, Buffer.alloc(10_000, i), { qos: 1, messageId: i, retain: true })
  for (let i = 1; i <= 20; i++) await client.next('puback')
  client.destroy()
  await first.stop('SIGKILL')
  fill(dir)
  for (let i = 0; i < 3; i++) {
    const { status, stderr } = await mosquitero(t, args).ended
    t.equal(status, 1)
    t.match(stderr, /Error: Unable to open the store .*[Nn]o space left on device/)
  }
  for (const name of readdirSync(dir)) if (name.startsWith('filler')) rmSync(join(dir, name))
  t.same(storesIn(dir), ['mosquitto.db.mosquitero'])
  const again = await startBroker(t, args)
  t.match(again.stderr(), / 1 session, 0 subscriptions, 0 queued messages, 20 retained messages,/)
  t.notMatch(again.stderr(), /damaged/)
  t.ok(file)
})

t.test('a store of a newer format: one line, status 1', async t => {
  const dir = newFolder(t)
  mkdirSync(join(dir, 'mosquitto.db.mosquitero'))
  const newer = new ClassicLevel<Buffer, Buffer>(join(dir, 'mosquitto.db.mosquitero'), { keyEncoding: 'buffer', valueEncoding: 'buffer' })
  await newer.put(metaKey('format'), encodeJson(metaKey('format'), { store: 'mosquitero', version: 9 }))
  await newer.close()
  const { status, stderr } = await mosquitero(t, ['-c', configFile(t, await freePort(), { dir })]).ended
  t.equal(status, 1)
  t.match(stderr, /Error: The store \S+ is of a newer Mosquitero, of format 9; this one reads format 2\.\n/)
  t.same(storesIn(dir), ['mosquitto.db.mosquitero'])
})
