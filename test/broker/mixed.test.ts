// Everything at once on the running command: connects, take-overs, all levels of QoS, wills, retained messages, shared subscriptions, wrong
// packets, reloads. What was sent is what came, the counters agree, memory stays flat. Ten seconds; two minutes with MOSQUITERO_LONG=1.

import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import t from 'tap'
import { freePort, startBroker, userLine } from '../helpers/command.js'
import { dial, type LightClient } from '../helpers/light-client.js'
import { below, connect, disconnect, packet, pick, publish, pubrel, randomBytes, seededRandom, subscribe } from '../helpers/raw-mqtt.js'
import { until } from '../helpers/until.js'

const duration = process.env.MOSQUITERO_LONG === '1' ? 120_000 : 8000
const seed = Number(process.env.MOSQUITERO_SEED ?? Date.now() % 1_000_000_007)
const random = seededRandom(seed)
const pairs = 6
/** Megabytes that memory may grow by once everything has been there. */
// In a few seconds Node's heap has not found its size yet (Node 24 takes 70 MB more); only the long run can tell a leak.
const growth = process.env.MOSQUITERO_LONG === '1' ? 40 : 160

interface Pair {
  readonly writer: LightClient
  readonly reader: LightClient
  readonly qos: 0 | 1 | 2
  sent: number
  got: number
  /** The next number in its order. */
  wrong: string | undefined
}

t.test('mixed load', async t => {
  const dir = t.testdir({})
  const port = await freePort()
  const conf = `listener ${port} 127.0.0.1\nallow_anonymous true\nset_tcp_nodelay true\nsys_interval 1\nmax_queued_messages 0\n${userLine}`
  writeFileSync(join(dir, 'm.conf'), conf)
  const broker = await startBroker(t, ['-c', 'm.conf'], { cwd: dir })
  const memory = () => Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${broker.child.pid}/status`, 'utf8'))?.[1]) / 1024

  const sys = new Map<string, number>()
  const onPublish = (topic: Buffer, payload: Buffer) => sys.set(topic.toString(), Number(payload.toString()))
  const watcher = await (await dial(port, { onPublish })).connect({ clientId: 'watcher', keepalive: 0 })
  watcher.send(subscribe(['$SYS/broker/clients/connected', '$SYS/broker/heap/current'], 4, 0))

  const open = async (i: number): Promise<Pair> => {
    const qos = ([0, 1, 2] as const)[i % 3] ?? 0
    const reader = await (
      await dial(port, {
        acknowledges: true,
        onPublish: (_, payload) => {
          const number = payload.readUInt32BE(0)
          if (number !== pair.got) pair.wrong ??= `${number} came, not ${pair.got}`
          pair.got = number + 1
        }
      })
    ).connect({ clientId: `reader-${i}`, keepalive: 0 })
    reader.send(subscribe([`pair/${i}`], 4, qos))
    await reader.has(9, 1)
    const writer = await (await dial(port, { acknowledges: true })).connect({ clientId: `writer-${i}`, keepalive: 0 })
    const pair: Pair = { writer, reader, qos, sent: 0, got: 0, wrong: undefined }
    return pair
  }
  const all = await Promise.all(Array.from({ length: pairs }, (_, i) => open(i)))
  const members = await Promise.all(
    [0, 1, 2].map(async i => {
      const member = await (await dial(port, { acknowledges: true })).connect({ clientId: `member-${i}`, keepalive: 0 })
      member.send(subscribe(['$share/group/shared'], 4, 1))
      await member.has(9, 1)
      return member
    })
  )
  const shared = await (await dial(port)).connect({ clientId: 'sharer', keepalive: 0 })
  let sharedSent = 0

  const end = Date.now() + duration
  const isOn = () => Date.now() < end
  const traffic = all.map(async (pair, i) => {
    while (isOn()) {
      const count = 20
      const payloads = Array.from({ length: count }, (_, n) => {
        const payload = Buffer.alloc(below(random, 50) === 0 ? 30_000 : 50)
        payload.writeUInt32BE(pair.sent + n)
        return publish(`pair/${i}`, { qos: pair.qos, messageId: n + 1, payload })
      })
      const done = pair.qos === 1 ? 4 : 7
      const before = pair.writer.counts[done] ?? 0
      pair.sent += count
      pair.writer.send(...payloads)
      if (pair.qos > 0) await pair.writer.has(done, before + count)
      await pair.reader.has(3, pair.sent)
    }
  })
  const sharing = (async () => {
    while (isOn()) {
      const before = shared.counts[4] ?? 0
      shared.send(...Array.from({ length: 10 }, (_, i) => publish('shared', { qos: 1, messageId: i + 1 })))
      sharedSent += 10
      await shared.has(4, before + 10)
      await pause(1)
    }
  })()
  // They come, are taken over, keep things, leave wills, and one in a hundred says something wrong.
  const guests = Array.from({ length: 8 }, async () => {
    while (isOn()) {
      const version = pick(random, [3, 4, 5] as const)
      const guest = await dial(port, { acknowledges: random() < 0.8 })
      const clientId = `guest-${below(random, 20)}`
      const will = { topic: `wills/${clientId}`, payload: 'gone', qos: below(random, 3), retain: random() < 0.2 }
      guest.send(connect({ version, clientId, clean: random() < 0.5, ...(random() < 0.5 && { will }) }))
      guest.send(subscribe([`guests/${below(random, 20)}/#`, 'wills/#', 'kept/#'], version, below(random, 3)))
      for (let i = 0; i < 30 && !guest.isClosed; i++) {
        const qos = below(random, 3)
        const topic = random() < 0.1 ? `kept/${below(random, 200)}` : `guests/${below(random, 20)}/x`
        const retain = topic.startsWith('kept')
        guest.send(publish(topic, { version, qos, messageId: i + 1, retain, payload: randomBytes(random, below(random, 100)) }))
        if (qos === 2 && random() < 0.8) guest.send(pubrel(i + 1))
        if (random() < 0.01) guest.send(packet(below(random, 16) << 4, randomBytes(random, 20)))
        if (random() < 0.2) await pause(1)
      }
      if (random() < 0.5) guest.send(disconnect)
      await pause(below(random, 20))
      guest.destroy()
    }
  })
  const reloads = (async () => {
    while (isOn()) {
      await pause(500)
      broker.child.kill('SIGHUP')
    }
  })()
  // A third of the time is for the heap and the queues of those who are away to find their size.
  await pause(duration / 3)
  let warm = 0
  const warming = setInterval(() => {
    warm = Math.max(warm, memory())
  }, 50)
  await pause(duration / 3)
  clearInterval(warming)
  await Promise.all([...traffic, sharing, ...guests, reloads])
  const last = memory()

  for (const [i, pair] of all.entries()) {
    t.equal(pair.wrong, undefined, `order of pair ${i}, seed ${seed}`)
    t.equal(pair.got, pair.sent, `pair ${i}, QoS ${pair.qos}`)
  }
  await until(() => members.reduce((sum, { publishes }) => sum + publishes, 0) >= sharedSent)
  t.equal(
    members.reduce((sum, { publishes }) => sum + publishes, 0),
    sharedSent,
    'each shared message goes to one'
  )
  t.comment(`${all.reduce((sum, { sent }) => sum + sent, 0)} messages; ${warm.toFixed(0)} MB warm, ${last.toFixed(0)} MB at the end`)
  t.ok(last < warm + growth, `${warm} MB warm, ${last} MB at the end`)
  for (const { reader, writer } of all) {
    reader.destroy()
    writer.destroy()
  }
  for (const member of [...members, shared]) member.destroy()
  // The one that asks is there itself.
  await until(() => sys.get('$SYS/broker/clients/connected') === 1)
  watcher.destroy()
  const { status, stdout, stderr } = await broker.stop()
  t.equal(status, 0)
  t.notMatch(stdout + stderr, /internal fault|unhandled|rejection/i)
})
