// The same configuration with us and with Mosquitto, one after the other: who comes next finds what the other had. With the real commands.

import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { freePort, must, type Running, start, startBroker, userLine } from '../helpers/command.js'
import { until } from '../helpers/until.js'

interface Place {
  readonly dir: string
  readonly file: string
  ours(): Promise<Running>
  mosquitto(): Promise<Running>
  publish(topic: string, message: string, ...args: string[]): Promise<string>
  /** Subscribes and goes. */
  register(clientId: string, filter: string, ...args: string[]): Promise<string>
  /** So many that wait for it, as `QOS RETAIN TOPIC PAYLOAD`. */
  collect(clientId: string, count: number, ...args: string[]): Promise<string[]>
}

function placeOf(t: Test, port: number, more = ''): Place {
  const dir = t.testdir()
  const conf = join(dir, 'm.conf')
  writeFileSync(conf, `listener ${port} 127.0.0.1\nallow_anonymous true\npersistence true\npersistence_location ${dir}\n${more}${userLine}`)
  const where = ['-h', '127.0.0.1', '-p', `${port}`]
  const sub = (...args: string[]) => must(t, 'mosquitto_sub', [...where, '-c', ...args])
  const publish = (...args: string[]) => must(t, 'mosquitto_pub', [...where, ...args])
  return {
    dir,
    file: join(dir, 'mosquitto.db'),
    ours: () => startBroker(t, ['-c', conf]),
    mosquitto: async () => {
      const broker = start(t, 'mosquitto', ['-c', conf])
      await broker.line(/version \S+ running$/)
      // A signal that comes right behind this line is forgotten by 2.0.
      await publish('-t', 'nobody', '-n')
      return broker
    },
    publish: (topic, message, ...args) => publish('-q', '1', '-t', topic, '-m', message, ...args),
    register: (clientId, filter, ...args) => sub('-i', clientId, '-q', '2', '-t', filter, '-E', ...args),
    collect: async (clientId, count, ...args) => {
      const text = await sub('-i', clientId, '-q', '2', '-t', 'none', '-C', `${count}`, '-W', '20', '-F', '%q %r %t %p', ...args)
      return text.trim().split('\n')
    }
  }
}

const v5 = ['-V', '5', '-x', '100000']
const asides = (dir: string): string[] => readdirSync(dir).filter(name => name.includes('.mosquitero.'))

t.test('from us to Mosquitto, and back, with what came in between', async t => {
  const place = placeOf(t, await freePort())
  let broker = await place.ours()
  await place.register('old', 'a/#')
  await place.register('new', 'a/+', ...v5)
  await place.publish('a/1', 'of us')
  await place.publish('a/2', 'of us too', '-q', '2')
  await place.publish('kept', 'retained by us', '-r')
  t.equal((await broker.stop()).status, 0)
  t.ok(existsSync(place.file), 'written at the end')
  t.equal(statSync(place.file).mode & 0o077, 0, 'for its owner alone')

  broker = await place.mosquitto()
  t.same(await place.collect('new', 2, ...v5), ['1 0 a/1 of us', '2 0 a/2 of us too'])
  await place.publish('a/3', 'of Mosquitto')
  await place.publish('kept/too', 'retained by Mosquitto', '-r')
  await broker.stop()

  broker = await place.ours()
  t.match(broker.stderr(), /Took over 2 sessions, 4 queued messages and 2 retained messages from /)
  // The client shows one of QoS 2 once it is released, and others meanwhile.
  t.same((await place.collect('old', 3)).sort(), ['1 0 a/1 of us', '1 0 a/3 of Mosquitto', '2 0 a/2 of us too'])
  t.same(await place.collect('new', 1, ...v5), ['1 0 a/3 of Mosquitto'])
  t.same((await place.collect('reader', 2, '-t', 'kept/#')).sort(), ['1 1 kept retained by us', '1 1 kept/too retained by Mosquitto'])
  await broker.stop()

  // Nobody else wrote since.
  broker = await place.ours()
  t.notMatch(broker.stderr(), /Took over/)
  await place.publish('a/4', 'again')
  t.same(await place.collect('old', 1), ['1 0 a/4 again'])
  t.ok(asides(place.dir).length <= 1)
})

t.test('after a crash the file of the last save is older than what we have, and is left alone', async t => {
  const place = placeOf(t, await freePort())
  let broker = await place.ours()
  await place.register('c', 'a')
  broker.child.kill('SIGUSR1')
  await broker.line(/Saving in-memory database to /)
  await until(() => existsSync(place.file))
  const saved = readFileSync(place.file)
  await place.publish('a', 'after it was saved')
  await broker.stop('SIGKILL')
  t.ok(readFileSync(place.file).equals(saved))
  broker = await place.ours()
  t.notMatch(broker.stderr(), /Took over/)
  t.same(await place.collect('c', 1), ['1 0 a after it was saved'])
  await broker.stop('SIGKILL')

  // Mosquitto goes on from the older file. What it says counts then, and what only we had is kept beside.
  const mosquitto = await place.mosquitto()
  await place.publish('a', 'of Mosquitto')
  await mosquitto.stop()
  broker = await place.ours()
  t.match(broker.stderr(), /Took over 1 session, 1 queued message .*; what the store had is set aside as .*\.replaced-/)
  t.same(await place.collect('c', 1), ['1 0 a of Mosquitto'])
  t.equal(asides(place.dir).length, 1)
})

t.test('a crash, a start and a stop: Mosquitto has all of it', async t => {
  const place = placeOf(t, await freePort())
  let broker = await place.ours()
  await place.register('c', 'a')
  await broker.stop()
  broker = await place.ours()
  await place.publish('a', 'before the crash')
  await broker.stop('SIGKILL')
  broker = await place.ours()
  t.equal((await broker.stop()).status, 0)
  const mosquitto = await place.mosquitto()
  t.same(await place.collect('c', 1), ['1 0 a before the crash'])
  await mosquitto.stop()
})

for (const [what, lines, work] of [
  ['every so many changes', 'autosave_interval 3\nautosave_on_changes true\n', 3],
  ['every so many seconds', 'autosave_interval 1\n', 1]
] as const) {
  t.test(`autosave_interval: the file is written ${what}`, async t => {
    const place = placeOf(t, await freePort(), lines)
    const broker = await place.ours()
    t.notOk(existsSync(place.file))
    for (let i = 0; i < work; i++) await place.publish(`kept/${i}`, 'x', '-r')
    await until(() => existsSync(place.file))
    await broker.stop('SIGKILL')
    const real = await place.mosquitto()
    t.same(await place.collect('c', 1, '-t', 'kept/0'), ['1 1 kept/0 x'])
    // It saves now and then, and the folder goes with the test.
    await real.stop()
  })
}

t.test('a reload changes when the file is written', async t => {
  const place = placeOf(t, await freePort(), 'autosave_interval 0\n')
  const broker = await place.ours()
  const conf = join(place.dir, 'm.conf')
  writeFileSync(conf, readFileSync(conf, 'utf8').replace('autosave_interval 0', 'autosave_interval 2\nautosave_on_changes true'))
  broker.child.kill('SIGHUP')
  await broker.line(/Reloading config\./)
  await until(async () => {
    await place.publish('kept', `${Math.random()}`, '-r')
    return existsSync(place.file)
  })
})

t.test('a file of Mosquitto that is cut off gives what can be read, and one that is none is set aside', async t => {
  const place = placeOf(t, await freePort())
  let broker = await place.mosquitto()
  for (let i = 0; i < 5; i++) await place.publish(`kept/${i}`, 'x', '-r')
  await broker.stop()
  const whole = readFileSync(place.file)
  truncateSync(place.file, whole.length - 3)
  broker = await place.ours()
  t.match(broker.stderr(), /Warning: .*mosquitto\.db is damaged \(.*\)\. What can be read of it is kept; it is set aside as /)
  t.match(broker.stderr(), / 4 retained messages, read in /)
  await broker.stop()

  writeFileSync(place.file, 'no database')
  broker = await place.ours()
  t.match(broker.stderr(), /Warning: .*mosquitto\.db can't be taken over: .* It is set aside as .*\.foreign-/)
  t.match(broker.stderr(), / 4 retained messages, read in /)
})

t.test("what can't be saved is said, and the broker goes on and stops as ever", async t => {
  const place = placeOf(t, await freePort())
  const broker = await place.ours()
  await place.publish('kept', 'x', '-r')
  await until(async () => (await place.collect('c', 1, '-t', 'kept')).length === 1)
  // In the way of its draft.
  mkdirSync(`${place.file}.new`)
  broker.child.kill('SIGUSR1')
  await broker.line(/Error saving in-memory database to .*mosquitto\.db: Is a directory\. The store itself has everything\./)
  await place.publish('kept', 'y', '-r')
  t.equal((await broker.stop()).status, 0)
})
