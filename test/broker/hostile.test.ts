// Everything that hostile clients do to the running command: after each attack the process lives, a well-behaved client is served in time,
// no fault is in the log, no line is forged, memory has bounds. With MOSQUITERO_LONG=1 each attack is repeated for longer, each time with
// other random numbers; MOSQUITERO_SEED repeats a run.

import { once } from 'node:events'
import { readFileSync, writeFileSync } from 'node:fs'
import { connect as connectTcp, createServer, type Socket } from 'node:net'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { connect as connectTls } from 'node:tls'
import t, { type Test } from 'tap'
import { freePort, must, type Running, startBroker, userLine } from '../helpers/command.js'
import { connectMqtt } from '../helpers/mqtt.js'
import { testPki } from '../helpers/pki.js'
import {
  below,
  connect,
  disconnect,
  field,
  packet,
  pick,
  ping,
  publish,
  pubrel,
  type Random,
  randomBytes,
  seededRandom,
  subscribe,
  uint16,
  unsubscribe,
  type Version,
  variable
} from '../helpers/raw-mqtt.js'

const long = process.env.MOSQUITERO_LONG === '1'
const rounds = long ? 20 : 1
const seed = Number(process.env.MOSQUITERO_SEED ?? Date.now() % 1_000_000_007)
const versions = [3, 4, 5] as const

/** After this a well-behaved client counts as stalled. A deadline, not a measure: how fast a flood is parsed is the machine's matter. */
const patience = 30_000
/** Of the process, in MB, at any time. Without an attack it is near 90. */
const memoryLimit = 450

interface Target {
  readonly broker: Running
  /** Anybody may come in. */
  readonly plain: number
  /** Only who has a password. */
  readonly guarded: number
  /** Only who has a certificate. */
  readonly tls: number
  readonly ca: string
}

type Attack = (target: Target, random: Random) => Promise<void>

async function startTarget(scope: Test): Promise<Target> {
  const pki = await testPki(scope)
  const server = await pki.server({ names: ['localhost'] })
  const dir = scope.testdir({ acl: 'topic readwrite #\npattern readwrite private/%u/%c/#\n' })
  await must(scope, 'mosquitto_passwd', ['-b', '-c', 'passwords', 'ann', 'secret'], { cwd: dir })
  const [plain, guarded, tls] = [await freePort(), await freePort(), await freePort()]
  const conf = `per_listener_settings true
listener ${plain} 127.0.0.1
allow_anonymous true
acl_file ${join(dir, 'acl')}
listener ${guarded} 127.0.0.1
password_file ${join(dir, 'passwords')}
listener ${tls} 127.0.0.1
cafile ${server.ca}
certfile ${server.cert}
keyfile ${server.key}
require_certificate true
use_identity_as_username true
${userLine}`
  writeFileSync(join(dir, 'm.conf'), conf)
  const broker = await startBroker(scope, [...(long ? [] : ['-v']), '-c', 'm.conf'], { cwd: dir })
  return { broker, plain, guarded, tls, ca: server.ca }
}

function dial(port: number): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connectTcp({ port, host: '127.0.0.1', noDelay: true })
    socket.once('connect', () => resolve(socket))
    socket.once('error', reject)
    socket.on('error', () => {})
  })
}

/** Sends on a connection of its own; goes when the broker ends it or after a while, sometimes by a reset. */
async function send(port: number, chunks: readonly Buffer[], random: Random, linger = 100): Promise<void> {
  const socket = await dial(port)
  socket.resume()
  const closed = new Promise<void>(resolve => socket.once('close', () => resolve()))
  for (const chunk of chunks) {
    if (socket.destroyed) break
    socket.write(chunk)
  }
  await Promise.race([closed, pause(linger)])
  if (random() < 0.5) socket.resetAndDestroy()
  else socket.destroy()
}

async function volley(port: number, volleys: readonly (readonly Buffer[])[], random: Random, linger = 100): Promise<void> {
  const atOnce = 50
  for (let i = 0; i < volleys.length; i += atOnce) {
    await Promise.all(volleys.slice(i, i + atOnce).map(chunks => send(port, chunks, random, linger)))
  }
}

const times = <T>(count: number, make: (index: number) => T): T[] => Array.from({ length: count }, (_, index) => make(index))

/** One of everything that a client may rightly say. */
function conversation(version: Version, random: Random): Buffer[] {
  const clientId = `c${below(random, 20)}`
  const clean = random() < 0.5
  const will = random() < 0.5 ? { will: { topic: 'will/x', payload: 'gone' } } : {}
  return [
    connect({ version, clientId, clean, ...will, ...(random() < 0.3 && { username: 'u' }) }),
    subscribe(['a/+', 'b/#', 'c'], version, below(random, 3)),
    publish('a/b', { version }),
    publish('b/c', { version, qos: 1, messageId: 2, retain: random() < 0.3 }),
    publish('c', { version, qos: 2, messageId: 3 }),
    pubrel(3),
    packet(0x40, uint16(below(random, 5))),
    packet(0x50, uint16(below(random, 5))),
    packet(0x70, uint16(below(random, 5))),
    unsubscribe(['a/+', 'unknown'], version),
    ping,
    ...(random() < 0.5 ? [disconnect] : [])
  ]
}

function mutate(bytes: Buffer, random: Random): Buffer {
  const at = below(random, bytes.length)
  const copy = Buffer.from(bytes)
  switch (below(random, 6)) {
    case 0:
      copy[at] = below(random, 256)
      return copy
    case 1:
      copy[at] = (copy[at] ?? 0) ^ (1 << below(random, 8))
      return copy
    case 2:
      return copy.subarray(0, at)
    case 3:
      return Buffer.concat([copy.subarray(0, at), randomBytes(random, below(random, 8)), copy.subarray(at)])
    case 4:
      return Buffer.concat([copy.subarray(0, at), copy.subarray(at + 1 + below(random, 4))])
    default:
      copy.fill(pick(random, [0, 0xff, 0x80, 0x7f]), at, Math.min(bytes.length, at + 1 + below(random, 4)))
      return copy
  }
}

/** The first flight of a real TLS client. */
async function clientHello(): Promise<Buffer> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  const port = typeof address === 'object' && address !== null ? address.port : 0
  const client = connectTls({ port, host: '127.0.0.1', rejectUnauthorized: false })
  client.on('error', () => {})
  const [socket]: Socket[] = await once(server, 'connection')
  if (socket === undefined) throw new Error('nobody came')
  const [hello]: Buffer[] = await once(socket, 'data')
  socket.destroy()
  client.destroy()
  server.close()
  if (hello === undefined) throw new Error('no ClientHello')
  return hello
}

const names = [
  '__proto__',
  'constructor',
  'prototype',
  'toString',
  'hasOwnProperty',
  'valueOf',
  '__defineGetter__',
  'isPrototypeOf'
] as const

const wrongTexts: readonly Buffer[] = [
  Buffer.from(''),
  Buffer.from('a\0b'),
  Buffer.from([0xc0, 0x80]),
  Buffer.from([0xed, 0xa0, 0x80]),
  Buffer.from([0xff, 0xfe, 0xfd]),
  Buffer.from([0xf4, 0x90, 0x80, 0x80]),
  Buffer.from('a/'.repeat(99)),
  Buffer.from('a/'.repeat(150)),
  Buffer.from('/'.repeat(300)),
  Buffer.from('/'.repeat(65_535)),
  Buffer.from('x'.repeat(65_535)),
  Buffer.from('a/#/b'),
  Buffer.from('a+'),
  Buffer.from('+/#'),
  Buffer.from('#'),
  Buffer.from('$SYS/#'),
  Buffer.from('$share/g/a'),
  Buffer.from('$share//'),
  Buffer.from('$share'),
  Buffer.from('\x1b[2J\x1b]0;owned\x07'),
  Buffer.from('x\n1795302666: Internal fault forged'),
  Buffer.from('x\r\n\u2028\u2066\u202eforged')
]

const attacks: Readonly<Record<string, Attack>> = {
  async 'random bytes'({ plain, guarded, tls }, random) {
    for (const port of [plain, guarded, tls]) {
      await volley(
        port,
        times(50, () => [randomBytes(random, below(random, 400))]),
        random
      )
    }
    // Behind a CONNECT, where the decoder takes more.
    await volley(
      plain,
      times(200, i => [connect({ version: pick(random, versions), clientId: `r${i}` }), randomBytes(random, below(random, 200))]),
      random
    )
  },

  async 'right packets with something wrong'({ plain }, random) {
    const spoil = (packets: readonly Buffer[]): Buffer[] =>
      packets.map(bytes => (random() < 0.3 ? mutate(bytes, random) : bytes)).sort(() => (random() < 0.1 ? 1 : 0))
    await volley(
      plain,
      times(400, () => spoil(conversation(pick(random, versions), random))),
      random
    )
  },

  async 'right packets in any order, in one segment or byte by byte'({ plain }, random) {
    await volley(
      plain,
      times(100, () => {
        const [first = ping, ...rest] = conversation(pick(random, versions), random)
        const shuffled = rest.sort(() => random() - 0.5)
        const all = random() < 0.7 ? [first, ...shuffled] : [...shuffled, first, first]
        return random() < 0.5 ? [Buffer.concat(all)] : [...Buffer.concat(all)].map(byte => Buffer.from([byte]))
      }),
      random
    )
  },

  async 'lengths that nobody sends'({ plain }, random) {
    const heads = times(16, type => type << 4)
    const lengths = ['ffffff7f', 'ffffffff', '80808080', '808000', 'ff', '80ffff7f']
    const bodies = heads.flatMap(head => lengths.map(length => Buffer.concat([Buffer.from([head]), Buffer.from(length, 'hex')])))
    const drip = times(20, () => Buffer.alloc(60_000))
    await volley(
      plain,
      bodies.map(head => [head, ...drip]),
      random
    )
    await volley(
      plain,
      bodies.map((head, i) => [connect({ version: pick(random, versions), clientId: `l${i}` }), head, ...drip]),
      random
    )
  },

  async 'sockets that say nothing or little'({ plain, guarded, tls }) {
    const hello = await clientHello()
    const opened: Socket[] = []
    const half = connect({ clientId: 'slow' }).subarray(0, 5)
    const first: [number, Buffer][] = [
      [plain, Buffer.alloc(0)],
      [plain, half],
      [guarded, half],
      [tls, Buffer.alloc(0)],
      [tls, hello.subarray(0, 30)]
    ]
    for (const [port, bytes] of first) {
      const batch = await Promise.all(times(long ? 600 : 150, () => dial(port)))
      for (const socket of batch) if (bytes.length > 0) socket.write(bytes)
      opened.push(...batch)
    }
    // Let go by the caller's check only: they are served meanwhile.
    held.push(...opened)
  },

  async 'TLS where it is not spoken, and what is not TLS where it is'({ plain, tls }, random) {
    const hello = await clientHello()
    const wrong = times(60, () => [mutate(hello, random)])
    await volley(tls, wrong, random)
    await volley(
      tls,
      times(40, i => conversation(pick(random, versions), random).slice(0, 1 + (i % 3))),
      random
    )
    await volley(
      tls,
      times(40, () => [hello, randomBytes(random, 100)]),
      random
    )
    await volley(
      tls,
      times(40, () => [hello.subarray(0, below(random, hello.length))]),
      random,
      5
    )
    await volley(
      plain,
      times(40, () => [hello]),
      random
    )
  },

  async 'handshakes that are reset half-way, and real ones without a certificate'({ tls, ca }) {
    const handshake = async (stop: 'at once' | 'later' | 'secured') => {
      const socket = await dial(tls)
      const client = connectTls({ socket, servername: 'localhost', ca: readFileSync(ca) })
      const closed = new Promise<void>(resolve => client.once('close', () => resolve()))
      client.on('error', () => {})
      client.on('data', () => {})
      if (stop === 'at once') setImmediate(() => socket.resetAndDestroy())
      if (stop === 'later') setTimeout(() => socket.resetAndDestroy(), 3)
      if (stop === 'secured') client.once('secureConnect', () => client.write(connect({ clientId: 'no-certificate' })))
      await Promise.race([closed, pause(3000)])
      socket.destroy()
    }
    for (let i = 0; i < 3; i++) await Promise.all(times(30, n => handshake((['at once', 'later', 'secured'] as const)[n % 3] ?? 'later')))
  },

  async 'many packets before the CONNACK'({ plain, guarded }, random) {
    const many = (clientId: string) => [
      Buffer.concat([connect({ clientId, username: 'ann', password: 'wrong' }), ...times(2000, () => publish('t', { payload: 'early' }))])
    ]
    await volley(
      plain,
      times(10, i => many(`early${i}`)),
      random
    )
    await volley(
      guarded,
      times(10, i => many(`early${i}`)),
      random
    )
  },

  async 'a storm of take-overs'({ plain }, random) {
    await volley(
      plain,
      times(400, () => [
        connect({ clientId: 'same', version: pick(random, versions), clean: random() < 0.5, will: { topic: 'w', payload: 'x' } }),
        subscribe(['same/#'])
      ]),
      random,
      20
    )
  },

  async 'names of the language'({ plain, guarded, tls }, random) {
    for (const version of versions) {
      const all = names.map(name => [
        connect({ version, clientId: name, username: name, password: name, clean: false, will: { topic: name, payload: name } }),
        subscribe([name, ...names, `${name}/#`], version),
        publish(name, { version, qos: 1, retain: true }),
        publish(name, { version, qos: 2 }),
        pubrel(1),
        unsubscribe([...names], version),
        disconnect
      ])
      for (const port of [plain, guarded, tls]) await volley(port, all, random)
      await volley(plain, [...all, ...all], random)
    }
  },

  async 'floods of QoS 2 and PUBREL'({ plain }, random) {
    const flood = (version: Version) => [
      connect({ version, clientId: `flood${version}` }),
      Buffer.concat(times(3000, i => publish('flood', { version, qos: 2, messageId: i + 1, payload: Buffer.alloc(100) }))),
      Buffer.concat(times(6000, i => pubrel((i >> 1) + 1))),
      Buffer.concat(times(3000, () => pubrel(1))),
      Buffer.concat([publish('double', { version, qos: 2, messageId: 9 }), pubrel(9), pubrel(9), pubrel(9), pubrel(0)])
    ]
    await volley(plain, versions.map(flood), random, 1500)
  },

  async 'thousands of filters'({ plain }, random) {
    for (const version of versions) {
      const filters = times(4000, i => `many/${i}/+/x/#`)
      await volley(
        plain,
        [
          [connect({ version, clientId: `many${version}`, clean: false }), subscribe(filters, version), unsubscribe(filters, version)],
          [
            connect({ version, clientId: `more${version}` }),
            ...times(10, i =>
              subscribe(
                times(300, n => `${i}/${n}/#`),
                version
              )
            )
          ],
          [connect({ version, clientId: `none${version}` }), unsubscribe(filters, version)],
          [connect({ version, clientId: `void${version}` }), subscribe([], version), unsubscribe([], version)]
        ],
        random,
        300
      )
    }
  },

  async 'thousands of filters, each held against thousands of retained messages'({ plain }, random) {
    const retained = times(10_000, i => publish(`kept/${i}`, { retain: true }))
    const forget = times(10_000, i => publish(`kept/${i}`, { retain: true, payload: '' }))
    const filters = times(3000, i => `kept/+/${i}`)
    await volley(plain, [[connect({ clientId: 'keeper' }), Buffer.concat(retained), ping]], random, 800)
    // A second one, kept by its session, whose filters are stored.
    await volley(plain, [[connect({ clientId: 'many' }), subscribe(filters)]], random, 500)
    await volley(plain, [[connect({ clientId: 'many', clean: false }), subscribe(filters)]], random, 500)
    await isServed(plain, 4)
    await volley(plain, [[connect({ clientId: 'keeper' }), Buffer.concat(forget), ping]], random, 800)
  },

  async 'texts that no topic, filter or name may be'({ plain, guarded }, random) {
    for (const version of versions) {
      const id = `text${version}`
      await volley(
        plain,
        wrongTexts.flatMap(text => [
          [connect({ version, clientId: text }), publish('seen', { version })],
          [connect({ version, clientId: `${id}u`, username: text, password: text }), publish('seen', { version })],
          [connect({ version, clientId: `${id}w`, will: { topic: text, payload: text } })],
          [connect({ version, clientId: `${id}p` }), publish(text, { version, qos: 1 }), publish(text, { version, retain: true })],
          [connect({ version, clientId: `${id}s`, clean: false }), subscribe([text, 'a', text], version), unsubscribe([text], version)]
        ]),
        random,
        60
      )
      await volley(
        guarded,
        wrongTexts.map(text => [connect({ version, clientId: text, username: text, password: text })]),
        random,
        20
      )
    }
  },

  async 'properties of MQTT 5 that are wrong, and too many of them'({ plain }, random) {
    const version = 5
    const userProperty = Buffer.concat([Buffer.from([0x26]), field('k'), field('v')])
    const many = Buffer.concat(times(5000, () => userProperty))
    const proto = Buffer.concat([Buffer.from([0x26]), field('__proto__'), field('v')])
    const wrong = [
      many,
      proto,
      Buffer.concat([proto, proto]),
      ...times(150, () => randomBytes(random, 1 + below(random, 20))),
      ...times(128, id => Buffer.concat([Buffer.from([id]), randomBytes(random, 6)]))
    ]
    await volley(
      plain,
      wrong.flatMap((properties, i) => [
        [connect({ version, clientId: `prop${i % 10}`, properties })],
        [connect({ version, clientId: `prop${i % 10}` }), subscribe(['p/#'], 5), publish('p/x', { version, qos: 1, properties })],
        [
          connect({ version, clientId: `prop${i % 10}` }),
          packet(0x82, uint16(1), variable(properties.length), properties, field('p'), Buffer.from([1])),
          packet(0xe0, Buffer.from([4]), variable(properties.length), properties)
        ]
      ]),
      random,
      10
    )
  },

  async 'aliases and lengths at their ends'({ plain }, random) {
    const version = 5
    const alias = (value: number) => Buffer.concat([Buffer.from([0x23]), uint16(value)])
    await volley(
      plain,
      [0, 1, 10, 11, 65_535].map(value => [
        connect({ version, clientId: `alias${value}` }),
        publish('', { version, properties: alias(value) }),
        publish('t', { version, properties: alias(value) }),
        publish('', { version, properties: alias(value) })
      ]),
      random
    )
    await volley(
      plain,
      times(5, i => [
        connect({ clientId: `big${i}` }),
        publish('big', { payload: Buffer.alloc(1_999_000) }),
        publish('big', { payload: Buffer.alloc(2_001_000) })
      ]),
      random,
      500
    )
  },

  async 'more passwords than can be checked'({ guarded }, random) {
    await volley(
      guarded,
      times(150, i => [connect({ clientId: `guess${i}`, username: i % 2 ? 'ann' : `user${i}`, password: `wrong-password-${i}` })]),
      random,
      50
    )
  }
}

/** Connections that an attack leaves open while the well-behaved client is served. */
const held: Socket[] = []

/** A client that comes in, subscribes, and gets its own message. */
async function isServed(port: number, version: 4 | 5): Promise<void> {
  const client = await connectMqtt(port, version)
  const topic = `well/behaved/${version}`
  await client.connect({ clientId: `well-behaved-${version}` })
  await client.subscribe(topic, 1)
  client.publish(topic, 'hello', { qos: 1, messageId: 5 })
  const got = new Set([(await nextOf(client)).cmd, (await nextOf(client)).cmd])
  if (!got.has('puback') || !got.has('publish')) throw new Error(`got ${[...got]}`)
  client.send({ cmd: 'disconnect' })
  client.destroy()
}

async function nextOf(client: Awaited<ReturnType<typeof connectMqtt>>) {
  const end = Date.now() + patience
  while (client.packets.length === 0) {
    if (Date.now() > end) throw new Error(`no packet within ${patience} ms`)
    await pause(2)
  }
  const [first] = client.packets.splice(0, 1)
  if (first === undefined) throw new Error('no packet')
  return first
}

/** Resident memory in MB. */
function memoryOf({ broker }: Target): number {
  const [, kilobytes] = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${broker.child.pid}/status`, 'utf8')) ?? []
  return Number(kilobytes) / 1024
}

t.test(
  'whatever is sent, the broker lives, serves others, keeps its memory and an honest log',
  { timeout: long ? 1_800_000 : 120_000 },
  async t => {
    const target = await startTarget(t)
    t.teardown(() => {
      for (const socket of held) socket.destroy()
    })
    const random = seededRandom(seed)
    for (let round = 0; round < rounds; round++) {
      for (const [name, attack] of Object.entries(attacks)) {
        const began = performance.now()
        await attack(target, random)
        t.equal(target.broker.child.exitCode, null, `${name}: the process lives`)
        const attacked = performance.now()
        for (const version of [4, 5] as const) await isServed(target.plain, version)
        const waited = performance.now() - attacked
        for (const socket of held.splice(0)) socket.destroy()
        const memory = memoryOf(target)
        t.ok(waited < patience, `${name}: others are served`)
        t.ok(memory < memoryLimit, `${name}: ${Math.round(memory)} MB`)
        t.comment(`${name}: ${Math.round(attacked - began)} ms, then served in ${Math.round(waited)} ms, ${Math.round(memory)} MB`)
      }
    }
    const lines = target.broker.stderr().trimEnd().split('\n')
    t.same(lines.filter(line => !/^\d{10}: /.test(line)).slice(0, 5), [], 'every line is the broker’s own')
    t.same(
      lines.filter(line => /Internal fault(?! forged)|node:internal|node_modules|^\s+at /.test(line)).slice(0, 5),
      [],
      'no fault of ours'
    )
    t.same(
      lines.filter(line => /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u2028-\u202e\u2066-\u2069]/.test(line)).slice(0, 5),
      [],
      'no control characters'
    )
    t.ok(
      lines.every(line => line.length < 5000),
      'no endless lines'
    )
    t.notMatch(target.broker.stderr(), /wrong-password|secret/)
    t.equal((await target.broker.stop()).status, 0)
    t.comment(`seed ${seed}`)
  }
)
