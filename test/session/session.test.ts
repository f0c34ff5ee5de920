// The queue towards one client, beside a model of it: whatever comes and goes, in whatever order a store answers.

import assert from 'node:assert/strict'
import fc from 'fast-check'
import t from 'tap'
import type { LimitsConfig } from '../../dist/config/types.js'
import { Message } from '../../dist/message.js'
import type { Qos } from '../../dist/protocol/packets.js'
import { Ledger } from '../../dist/session/ledger.js'
import { type Receiver, Session, type SessionHost } from '../../dist/session/session.js'
import type { QueueEntry, Store } from '../../dist/storage.js'
import { openMemoryStore } from '../../dist/store/memory.js'
import {
  longTurns,
  messageOf,
  NotingReceiver,
  no,
  noLimits,
  replay,
  SlowStore,
  silent,
  subscriptionOf,
  turn,
  usualDelivery,
  yes
} from '../helpers/session-bench.js'

type Kind = 'unstored' | 'at once' | 'later' | 'several at a time'

type Step =
  | { kind: 'enqueue'; count: number; qos: Qos; size: number; topic: string; life: number | undefined }
  | { kind: 'turn'; pick: number }
  | { kind: 'connect'; receiveMaximum: number; largest: number; isReady: boolean }
  | { kind: 'lose' }
  | { kind: 'ready' }
  | { kind: 'acknowledge'; index: number; count: number }
  | { kind: 'wrong'; index: number; what: 'puback' | 'pubrec' | 'pubcomp'; unknown: boolean }
  | { kind: 'refuse'; index: number }
  | { kind: 'room'; packets: number }
  | { kind: 'rules'; topic: string; allowed: boolean }
  | { kind: 'wait'; seconds: number }
  | { kind: 'limits'; inflight: number; inflightBytes: number; queued: number; queuedBytes: number }
  | { kind: 'empty' }
  | { kind: 'restart' }

const topics = ['a', 'b', 'c']
const clientId = 'c'

/** What the model knows of one message. */
interface Known {
  readonly n: number
  readonly message: Message
  readonly qos: Qos
  id: number
  phase: 'queued' | 'sent' | 'received' | 'done'
  /** Number of the connection it was sent by last. */
  connection: number
  /** The broker that knew how it was sent is gone. */
  isForgotten: boolean
}

class Bench implements SessionHost {
  readonly log = silent
  limits: LimitsConfig = noLimits
  readonly delivery = usualDelivery
  readonly turns = longTurns
  readonly forward = undefined
  policyVersion = 0
  readonly store: Store
  readonly ledger: Ledger
  readonly slow: SlowStore | undefined
  readonly kind: Kind
  session: Session
  drops = 0

  // The receiver: one after the other.
  isReady = false
  receiveMaximum = 65_535
  #room = Number.POSITIVE_INFINITY
  #largest = Number.POSITIVE_INFINITY
  #connection = 0

  // The model.
  readonly #denied = new Set<string>()
  readonly #known = new Map<Message, Known>()
  /** Not under way, in order. */
  #queue: Known[] = []
  #flight = new Map<number, Known>()
  #last = 0
  #clock = 1_000_000
  readonly #emptying: Promise<void>[] = []

  constructor(kind: Kind) {
    this.kind = kind
    const takesMore = kind === 'several at a time'
    this.slow = kind === 'later' || takesMore ? new SlowStore(takesMore) : undefined
    this.store = this.slow ?? openMemoryStore()
    this.ledger = new Ledger(this.store, longTurns)
    const record = { clientId, version: 4, expiryInterval: kind === 'unstored' ? 0 : 1000 } as const
    this.session = new Session(this, record)
    if (kind !== 'unstored') this.ledger.record({ kind: 'session', session: record })
  }

  get now(): number {
    return this.#clock
  }

  // What the session asks.

  mayRead(_: Session, topic: string) {
    return this.#denied.has(topic) ? no : yes
  }

  mayWrite() {
    return yes
  }

  deniedDelivery(_: Session, { topic }: Message) {
    assert.ok(this.#denied.has(topic), 'called denied although it is not')
  }

  shadowedDelivery(): never {
    assert.fail('there is no shadow')
  }

  replayOf(): never {
    assert.fail('nothing is retained')
  }

  deliverRetained(): void {
    assert.fail('nothing is retained')
  }

  dropped(): void {
    this.drops += 1
  }

  get hasRoom(): boolean {
    return this.#room > 0
  }

  sendQueued({ message, qos, packetId, state }: QueueEntry): boolean {
    assert.ok(this.isReady && this.#room > 0, 'sent although there is no room')
    this.#checkWindow(qos)
    const known = this.#pop(each => each.message === message)
    assert.equal(qos, known.qos)
    assert.notEqual(known.phase, 'received', 'PUBREC came, yet the message comes again')
    assert.ok(!this.#denied.has(message.topic), 'a message that may not be read')
    assert.ok(!message.hasExpired(this.#clock), 'an expired message')
    const isAgain = known.phase === 'sent'
    if (!known.isForgotten) assert.equal(state, isAgain ? 'sent' : 'queued', 'DUP')
    assert.notEqual(known.connection, this.#connection, 'twice by one connection')
    if (message.payload.length > this.#largest) {
      known.phase = 'done'
      return false
    }
    known.connection = this.#connection
    known.isForgotten = false
    if (qos === 0) {
      assert.equal(packetId, 0)
      known.phase = 'done'
    } else {
      if (isAgain) assert.equal(packetId, known.id, 'another identifier')
      assert.ok(packetId >= 1 && packetId <= 65_535)
      assert.ok(!this.#flight.has(packetId), 'an identifier that is in use')
      known.id = packetId
      known.phase = 'sent'
      this.#flight.set(packetId, known)
    }
    this.#room -= 1
    return true
  }

  sendPubrel(packetId: number): void {
    assert.ok(this.isReady && this.#room > 0)
    this.#checkWindow(2)
    const known = this.#pop(each => each.phase === 'received' && each.id === packetId)
    assert.equal(known.phase, 'received')
    known.connection = this.#connection
    this.#flight.set(packetId, known)
    this.#room -= 1
  }

  // What happens.

  async take(step: Step): Promise<void> {
    switch (step.kind) {
      case 'enqueue':
        for (let i = 0; i < step.count; i++) this.#enqueue(step)
        break
      case 'turn':
        await turn()
        this.slow?.step(step.pick)
        await turn()
        break
      case 'connect':
        if (this.session.connection !== undefined) this.#lose()
        if (this.session.connection === undefined) this.#connect(step.receiveMaximum, step.largest, step.isReady)
        break
      case 'ready':
        if (this.session.connection !== undefined) this.isReady = true
        this.session.pump()
        break
      case 'lose':
        this.#lose()
        break
      case 'acknowledge':
        for (let i = 0; i < step.count; i++) this.#acknowledge(step.index)
        break
      case 'wrong':
        this.#acknowledgeWrong(step)
        break
      case 'refuse': {
        const known = this.#flightAt(step.index)
        if (known?.qos !== 2) break
        this.session.pubrec(known.id, 0x80)
        this.#finish(known)
        this.session.pump()
        break
      }
      case 'room':
        this.#room = step.packets
        this.session.pump()
        break
      case 'rules':
        if (step.allowed) this.#denied.delete(step.topic)
        else this.#denied.add(step.topic)
        this.policyVersion += 1
        break
      case 'wait':
        this.#clock += step.seconds * 1000
        break
      case 'limits':
        this.limits = {
          ...noLimits,
          maxInflightMessages: step.inflight,
          maxInflightBytes: step.inflightBytes,
          maxQueuedMessages: step.queued,
          maxQueuedBytes: step.queuedBytes
        }
        this.session.pump()
        break
      case 'empty':
        this.#empty()
        break
      case 'restart':
        await this.#restart()
    }
    this.check()
  }

  check(): void {
    const { session } = this
    if (session.connection !== undefined) assert.equal(session.inflight, this.#flight.size, 'inflight')
    // What it let go of unseen stands at the head of the model's queue.
    const unseen = this.#queue.length + this.#flight.size - session.pending
    assert.ok(unseen >= 0, 'pending')
    for (const known of this.#queue.splice(0, unseen)) assert.ok(this.#mayGo(known), 'pending')
    let bytes = 0
    for (const { message } of [...this.#queue, ...this.#flight.values()]) bytes += message.payload.length
    assert.equal(session.pendingBytes, bytes, 'pendingBytes')
    if (this.slow !== undefined || !this.isReady || this.#room <= 0 || session.connection === undefined) return
    const [next] = this.#queue
    if (next !== undefined) assert.ok(next.qos > 0 && !this.#isWindowOpen(), 'it could be sent, and is not')
  }

  /** Everything that was taken arrives, and nothing is left. */
  async finish(): Promise<void> {
    this.limits = noLimits
    this.#lose()
    if (this.session.connection === undefined) this.#connect(65_535, Number.POSITIVE_INFINITY, true)
    this.isReady = true
    this.#room = Number.POSITIVE_INFINITY
    this.receiveMaximum = 65_535
    this.#largest = Number.POSITIVE_INFINITY
    for (let quiet = 0, pick = 1; quiet < 3; pick += 1) {
      this.session.pump()
      while (this.#flight.size > 0) this.#acknowledge(0)
      await turn()
      const isIdle = this.slow?.isIdle ?? true
      quiet = isIdle && this.#flight.size === 0 && this.ledger.latest === undefined ? quiet + 1 : 0
      if (!isIdle) this.slow?.step(pick)
    }
    this.check()
    assert.equal(this.session.pending, 0, 'pending at the end')
    await Promise.all(this.#emptying)
    await this.#drain()
    assert.equal((await this.#pageOfAll()).length, 0, 'left in the store')
  }

  async #pageOfAll(): Promise<readonly QueueEntry[]> {
    return this.slow === undefined ? this.store.page(clientId, 0, 10) : [...(this.slow.queues.get(clientId)?.values() ?? [])]
  }

  async #drain(): Promise<void> {
    for (let pick = 1, quiet = 0; quiet < 3; pick += 1) {
      await turn()
      const isIdle = this.slow?.isIdle ?? true
      quiet = isIdle && this.ledger.latest === undefined ? quiet + 1 : 0
      if (!isIdle) this.slow?.step(pick)
    }
  }

  #enqueue({ qos, size, topic, life }: Extract<Step, { kind: 'enqueue' }>): void {
    // The exchange would not.
    if (this.#denied.has(topic)) return
    const message = messageOf(topic, {
      payload: Buffer.alloc(size),
      qos,
      ...(life !== undefined && { expiresAt: this.#clock + life * 1000 })
    })
    const { drops, session } = this
    const hasPlace = this.#hasPlace(qos)
    const entry = session.enqueue(message, qos, false, 0)
    assert.equal(entry !== undefined, hasPlace, 'room in the queue')
    assert.equal(this.drops, hasPlace ? drops : drops + 1)
    if (entry === undefined) return
    assert.ok(entry.sequence > this.#last)
    this.#last = entry.sequence
    const known: Known = { n: this.#known.size, message, qos, id: entry.packetId, phase: 'queued', connection: 0, isForgotten: false }
    this.#known.set(message, known)
    this.#queue.push(known)
    if (this.kind === 'unstored') {
      session.take(entry)
      return
    }
    const commit = this.ledger.record({ kind: 'enqueue', message, entries: [entry] })
    if (commit === undefined) session.take(entry)
    else commit.hand(entry, session)
  }

  #hasPlace(qos: Qos): boolean {
    const { session } = this
    const { maxQueuedMessages, maxQueuedBytes } = this.limits
    const isConnected = session.connection !== undefined
    const free = isConnected && qos > 0 ? this.#freeWindow() : 0
    const queued = session.pending - this.#flight.size
    if (queued < free) return true
    const beyond = Math.max(0, queued - free)
    const messages = isConnected ? beyond : session.pending
    const bytes = isConnected ? (beyond > 0 ? (this.#queuedBytes * beyond) / queued : 0) : session.pendingBytes
    return (maxQueuedMessages === 0 || messages < maxQueuedMessages) && (maxQueuedBytes === 0 || bytes < maxQueuedBytes)
  }

  get #flightBytes(): number {
    let bytes = 0
    for (const { message } of this.#flight.values()) bytes += message.payload.length
    return bytes
  }

  get #queuedBytes(): number {
    return this.session.pendingBytes - this.#flightBytes
  }

  // What waits for the store, or for room, will be under way as well.
  #freeWindow(): number {
    const { maxInflightMessages, maxInflightBytes } = this.limits
    if (maxInflightBytes > 0 && this.session.pendingBytes >= maxInflightBytes) return 0
    return Math.max(0, Math.min(this.receiveMaximum, maxInflightMessages || 65_535) - this.#flight.size)
  }

  #isWindowOpen(): boolean {
    const { maxInflightMessages, maxInflightBytes } = this.limits
    const bytes = this.#flightBytes
    return (
      this.#flight.size < this.receiveMaximum &&
      (maxInflightMessages === 0 || this.#flight.size < maxInflightMessages) &&
      (maxInflightBytes === 0 || bytes < maxInflightBytes)
    )
  }

  #checkWindow(qos: Qos): void {
    if (qos > 0) assert.ok(this.#isWindowOpen(), 'beyond the window')
  }

  // Whatever is before it must have had a reason to go.
  #pop(isIt: (known: Known) => boolean): Known {
    for (;;) {
      const known = this.#queue.shift()
      assert.ok(known !== undefined, 'a message that is not in the queue')
      if (isIt(known)) return known
      assert.ok(this.#mayGo(known), `message ${known.n} was passed over`)
      known.phase = 'done'
    }
  }

  #mayGo({ message, phase }: Known): boolean {
    if (phase === 'received') return false
    return phase === 'done' || this.#denied.has(message.topic) || message.hasExpired(this.#clock)
  }

  #connect(receiveMaximum: number, largest: number, isReady: boolean): void {
    this.#connection += 1
    this.receiveMaximum = receiveMaximum
    this.#largest = largest
    this.#room = Number.POSITIVE_INFINITY
    this.isReady = isReady
    this.#queue = [...this.#flight.values(), ...this.#queue]
    this.#flight.clear()
    this.session.resume(this.#receiver())
    this.session.pump()
  }

  // Another one for each connection: the session tells them apart.
  #receiver(): Receiver {
    const bench = this
    return {
      get isReady() {
        return bench.isReady
      },
      get hasRoom() {
        return bench.hasRoom
      },
      get receiveMaximum() {
        return bench.receiveMaximum
      },
      isBehind: false,
      sendQueued: entry => bench.sendQueued(entry),
      sendPubrel: packetId => bench.sendPubrel(packetId),
      sendLive: () => assert.fail('nothing is live'),
      displaced: () => {}
    }
  }

  #lose(): void {
    // Such a session ends with its connection.
    if (this.kind === 'unstored' || this.session.connection === undefined) return
    this.session.suspend()
    this.isReady = false
  }

  #flightAt(index: number): Known | undefined {
    if (this.session.connection === undefined) return undefined
    return [...this.#flight.values()][index % Math.max(1, this.#flight.size)]
  }

  #acknowledge(index: number): void {
    const known = this.#flightAt(index)
    if (known === undefined) return
    const { session } = this
    if (known.qos === 1) {
      this.#same(session.puback(known.id), known)
      this.#finish(known)
    } else if (known.phase === 'sent') {
      this.#receive(known)
    } else {
      this.#same(session.pubcomp(known.id), known)
      this.#finish(known)
    }
    session.pump()
  }

  #receive(known: Known): void {
    const entry = this.session.pubrec(known.id, 0)
    this.#same(entry, known)
    known.phase = 'received'
    if (this.kind !== 'unstored' && typeof entry === 'object') this.ledger.record({ kind: 'received', entry })
  }

  #acknowledgeWrong({ index, what, unknown }: Extract<Step, { kind: 'wrong' }>): void {
    const { session } = this
    if (unknown || session.connection === undefined) {
      const id = [1, 2, 77, 65_535].find(each => !this.#flight.has(each)) ?? 0
      if (session.connection === undefined) return
      assert.equal(what === 'pubrec' ? session.pubrec(id, 0) : session[what](id), undefined)
      return
    }
    const known = this.#flightAt(index)
    if (known === undefined) return
    const isRight = { puback: known.qos === 1, pubrec: known.qos === 2, pubcomp: known.phase === 'received' }[what]
    if (isRight) return
    const answer = what === 'pubrec' ? session.pubrec(known.id, 0) : session[what](known.id)
    assert.equal(answer, 'protocol error')
    this.#lose()
  }

  #same(entry: QueueEntry | string | undefined, { message, id }: Known): void {
    assert.ok(typeof entry === 'object')
    assert.equal(entry.message, message)
    assert.equal(entry.packetId, id)
  }

  #finish(known: Known): void {
    known.phase = 'done'
    this.#flight.delete(known.id)
  }

  #empty(): void {
    // Else what is there when it fails comes again after a restart.
    if (this.slow !== undefined) this.slow.fails = false
    this.#emptying.push(this.session.empty())
    for (const known of [...this.#queue, ...this.#flight.values()]) known.phase = 'done'
    this.#queue = []
    this.#flight.clear()
  }

  // In an orderly way: everything is in the store.
  async #restart(): Promise<void> {
    if (this.kind === 'unstored') return
    this.#lose()
    await this.#drain()
    const record = { clientId, version: 4, expiryInterval: 1000 } as const
    const stored = this.slow?.stored(record) ?? (await this.store.open()).sessions[0]
    assert.ok(stored)
    this.session = new Session(this, stored, stored)
    this.#queue = [...this.#flight.values(), ...this.#queue]
    this.#flight.clear()
    for (const known of this.#queue) known.isForgotten = true
  }
}

const usualLimits = fc.record({
  kind: fc.constant('limits' as const),
  inflight: fc.constantFrom(0, 0, 1, 2, 5),
  inflightBytes: fc.constantFrom(0, 0, 0, 50, 200),
  queued: fc.constantFrom(0, 0, 3, 10),
  queuedBytes: fc.constantFrom(0, 0, 100)
})

function steps(size: number): fc.Arbitrary<Step[]> {
  const index = fc.nat(30)
  const enqueue = {
    kind: fc.constant('enqueue' as const),
    qos: fc.constantFrom<Qos>(0, 1, 1, 2, 2),
    size: fc.nat(60),
    topic: fc.constantFrom(...topics),
    life: fc.oneof({ weight: 9, arbitrary: fc.constant(undefined) }, { weight: 1, arbitrary: fc.nat(20) })
  }
  const connect = {
    kind: fc.constant('connect' as const),
    receiveMaximum: fc.constantFrom(1, 2, 3, 20, 65_535),
    largest: fc.constantFrom(1000, 1000, 1000, 50),
    isReady: fc.integer({ min: 0, max: 4 }).map(n => n > 0)
  }
  const each = fc.oneof(
    { weight: 12, arbitrary: fc.record({ ...enqueue, count: fc.integer({ min: 1, max: 4 }) }) },
    { weight: 1, arbitrary: fc.record({ ...enqueue, count: fc.integer({ min: 200, max: 900 }) }) },
    { weight: 12, arbitrary: fc.record({ kind: fc.constant('turn' as const), pick: fc.nat(1000) }) },
    { weight: 4, arbitrary: fc.record(connect) },
    { weight: 2, arbitrary: fc.constant({ kind: 'lose' as const }) },
    { weight: 2, arbitrary: fc.constant({ kind: 'ready' as const }) },
    { weight: 12, arbitrary: fc.record({ kind: fc.constant('acknowledge' as const), index, count: fc.constantFrom(1, 1, 2, 300) }) },
    {
      weight: 2,
      arbitrary: fc.record({
        kind: fc.constant('wrong' as const),
        index,
        what: fc.constantFrom('puback' as const, 'pubrec' as const, 'pubcomp' as const),
        unknown: fc.boolean()
      })
    },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant('refuse' as const), index }) },
    {
      weight: 2,
      arbitrary: fc.record({ kind: fc.constant('room' as const), packets: fc.constantFrom(0, 1, 3, Number.POSITIVE_INFINITY) })
    },
    {
      weight: 2,
      arbitrary: fc.record({
        kind: fc.constant('rules' as const),
        topic: fc.constantFrom(...topics),
        allowed: fc.integer({ min: 0, max: 2 }).map(n => n > 0)
      })
    },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant('wait' as const), seconds: fc.nat(10) }) },
    { weight: 2, arbitrary: usualLimits },
    { weight: 1, arbitrary: fc.constant({ kind: 'empty' as const }) },
    { weight: 1, arbitrary: fc.constant({ kind: 'restart' as const }) }
  )
  return fc.array(each, { maxLength: size, size: 'max' })
}

// The session asks for the time as everybody does.
async function at<T>(clock: () => number, work: () => Promise<T>): Promise<T> {
  const { now } = Date
  Date.now = clock
  try {
    return await work()
  } finally {
    Date.now = now
  }
}

const runs = { unstored: 300, 'at once': 800, later: 1500, 'several at a time': 1500 } as const

for (const kind of ['unstored', 'at once', 'later', 'several at a time'] as const) {
  t.test(`a queue keeps its order, its window and its count: ${kind}`, async () => {
    await fc.assert(
      fc.asyncProperty(steps(70), async steps => {
        const bench = new Bench(kind)
        await at(
          () => bench.now,
          async () => {
            for (const step of steps) await bench.take(step)
            await bench.finish()
          }
        )
      }),
      { numRuns: runs[kind] * (process.env.MOSQUITERO_LONG === undefined ? 1 : 30) }
    )
  })
}

async function run(kind: Kind, steps: readonly Step[]): Promise<Bench> {
  const bench = new Bench(kind)
  await at(
    () => bench.now,
    async () => {
      for (const step of steps) await bench.take(step)
      await bench.finish()
    }
  )
  return bench
}

const plain = { kind: 'enqueue', qos: 1, size: 1, topic: 'a', life: undefined } as const
const connected = { kind: 'connect', receiveMaximum: 20, largest: 1000, isReady: true } as const

for (const kind of ['at once', 'later', 'several at a time'] as const) {
  t.test(`three thousand wait for who was away, and more come while they are read: ${kind}`, async () => {
    await run(kind, [
      { ...plain, count: 3000 },
      connected,
      ...Array.from({ length: 300 }, (_, i): Step[] => [
        { kind: 'turn', pick: i },
        { kind: 'acknowledge', index: 0, count: 20 },
        { ...plain, count: 5, qos: 2 }
      ]).flat(),
      { kind: 'lose' },
      connected
    ])
  })
}

/** Its identifiers under way, and nothing else: there are many. */
class Counting extends NotingReceiver {
  readonly open = new Set<number>()
  count = 0

  override sendQueued({ packetId, state }: QueueEntry): boolean {
    assert.ok(packetId >= 1 && packetId <= 65_535)
    assert.ok(!this.open.has(packetId), `${packetId} twice, ${state}`)
    this.open.add(packetId)
    this.count += 1
    return true
  }
}

function enqueueMany(session: Session, count: number): void {
  const message = messageOf('a')
  for (let i = 0; i < count; i++) {
    const entry = session.enqueue(message, 1, false, 0)
    if (entry !== undefined) session.take(entry)
  }
}

function acknowledgeMany(session: Session, { open }: Counting, count: number, spared = 0): void {
  for (const id of open) {
    if (id === spared) continue
    if (count-- === 0) return
    open.delete(id)
    session.puback(id)
    session.pump()
  }
}

t.test('what waits in memory for who is away keeps nothing that came with it', async t => {
  const payload = Buffer.alloc(8000, 'x').subarray(0, 5)
  const host = new Bench('at once')
  const [away, here] = [host.session, new Session(hostOf(new Bench('at once')), { clientId, version: 4, expiryInterval: 1000 })]
  here.resume(new NotingReceiver())
  for (const [session, bytes] of [
    [away, 5],
    [here, payload.buffer.byteLength]
  ] as const) {
    const entry = session.enqueue(new Message({ topic: 'a', payload, qos: 1, retain: false }), 1, false, 0)
    t.equal(entry?.message.payload.buffer.byteLength, bytes)
    t.equal(entry?.message.payload.toString(), 'xxxxx')
  }
})

t.test('an identifier that comes round is not given twice', async t => {
  // The first is never acknowledged; all others overtake it, once around and on.
  const session = new Session(hostOf(new Bench('unstored')), { clientId, version: 5, expiryInterval: 0 })
  const receiver = new Counting()
  session.resume(receiver)
  for (let i = 0; i < 14; i++) {
    enqueueMany(session, 5000)
    acknowledgeMany(session, receiver, 5000, 1)
  }
  t.equal(receiver.count, 70_000)
  t.same([...receiver.open], [1])
  t.equal(session.inflight, 1)
})

t.test('after a crash whatever may have been sent before has DUP, also after a second one, and nothing else has', async t => {
  const bench = new Bench('unstored')
  const entries = [1, 2, 3].map((sequence): QueueEntry => {
    const fields = { qos: 1, retain: false, subscriptionIdentifier: 0, state: 'queued' } as const
    return { ...fields, clientId, sequence, packetId: sequence, message: messageOf('a') }
  })
  const record = { clientId, version: 5, expiryInterval: 100 } as const
  const queue = { lastSequence: 3, lastPacketId: 3, queued: { messages: 3, bytes: 3 } }
  const stored = { ...record, ...queue, subscriptions: [], held: new Map<number, Message>() }
  const host = { ...hostOf(bench), store: storeOf(bench.store, async after => copies(after)) }
  const copies = (after: number) => entries.filter(({ sequence }) => sequence > after).map(entry => ({ ...entry }))
  const sent = async (session: Session) => {
    const receiver = new NotingReceiver()
    session.resume(receiver)
    session.pump()
    while (session.pending > session.inflight) await turn()
    return receiver.queued.map(({ state }) => state)
  }
  const crashed = new Session(host, stored, stored)
  crashed.leftAt = 1
  t.equal(crashed.record.leftAt, undefined, 'the next crash will know')
  const again = new Session(host, { ...stored, ...crashed.record }, { ...stored, ...crashed.record })
  const last = again.enqueue(messageOf('a'), 1, false, 0)
  if (last !== undefined) entries.push(last)
  t.same(await sent(again), ['sent', 'sent', 'sent', 'queued'])
  again.suspend()
  again.leftAt = 1
  t.equal(again.record.leftAt, 1)
  const orderly = new Session(host, { ...stored, leftAt: 1 }, { ...stored, leftAt: 1 })
  t.same((await sent(orderly)).slice(0, 3), ['queued', 'queued', 'queued'])
})

t.test('nor is one that waits in a long queue', async t => {
  const session = new Session(hostOf(new Bench('unstored')), { clientId, version: 5, expiryInterval: 0 })
  const receiver = new Counting()
  receiver.receiveMaximum = 30_000
  enqueueMany(session, 200_000)
  session.resume(receiver)
  session.pump()
  let count = 200_000
  while (receiver.open.size > 0) {
    // Those in front stay long, those behind get identifiers while they wait.
    const spared = [...receiver.open][0]
    acknowledgeMany(session, receiver, 20_000, spared)
    if (count < 400_000) {
      enqueueMany(session, 15_000)
      count += 15_000
    } else acknowledgeMany(session, receiver, 30_000)
  }
  t.equal(receiver.count, count)
  t.equal(session.pending, 0)
})

t.test('in a queue longer than there are identifiers each message has its own all the same, which the store knows', async t => {
  const session = new Session(hostOf(new Bench('unstored')), { clientId, version: 5, expiryInterval: 0 })
  const given = Array.from({ length: 70_000 }, () => session.enqueue(messageOf('a'), 1, false, 0)?.packetId)
  t.same(
    [0, 59_999, 60_000, 65_534, 65_535, 69_999].map(i => given[i]),
    [1, 60_000, 60_001, 65_535, 1, 4465]
  )
})

t.test('a session with every identifier under way takes more', async t => {
  const session = new Session(hostOf(new Bench('unstored')), { clientId, version: 5, expiryInterval: 0 })
  const receiver = new Counting()
  session.resume(receiver)
  enqueueMany(session, 66_000)
  t.equal(session.inflight, 65_535)
  for (let i = 0; i < 2; i++) acknowledgeMany(session, receiver, 66_000)
  t.equal(receiver.count, 66_000)
})

t.test('where an identifier is given only when the packet is sent, the store is told, once', async t => {
  const told: (readonly [sequence: number, packetId: number])[] = []
  const ledger = new Ledger(openMemoryStore(), longTurns)
  ledger.record = change => {
    if (change.kind === 'sent') told.push([change.entry.sequence, change.entry.packetId])
    return undefined
  }
  // As Mosquitto's file, and a store of before, have them.
  const fields = {
    clientId,
    message: messageOf('a'),
    qos: 2,
    retain: false,
    subscriptionIdentifier: 0,
    packetId: 0,
    state: 'queued'
  } as const
  const entries = [1, 2].map((sequence): QueueEntry => ({ ...fields, sequence }))
  const host = { ...hostOf(new Bench('unstored')), ledger, store: storeOf(openMemoryStore(), async after => entries.slice(after)) }
  const record = { clientId, version: 5, expiryInterval: 1000, leftAt: 1 } as const
  const queue = { lastSequence: 2, lastPacketId: 7, queued: { messages: 2, bytes: 2 } }
  const session = new Session(host, record, { ...record, ...queue, subscriptions: [], held: new Map<number, Message>() })
  session.resume(new NotingReceiver())
  session.pump()
  while (session.pending > session.inflight) await turn()
  const third = session.enqueue(messageOf('a'), 2, false, 0)
  if (third !== undefined) session.take(third)
  session.resume(new NotingReceiver())
  session.pump()
  t.equal(session.inflight, 3)
  t.same(told, [
    [1, 8],
    [2, 9]
  ])
})

t.test('what is held for PUBREL: counted, replaced, released once', async t => {
  const bench = new Bench('unstored')
  const { session } = bench
  const [one, two] = [messageOf('a', { payload: 'one' }), messageOf('a', { payload: 'second' })]
  session.hold(7, one)
  session.hold(8, one)
  session.hold(7, two)
  t.equal(session.heldBytes, 'one'.length + 'second'.length + 4, 'topics twice, as they are kept')
  t.equal(session.held, 2)
  t.equal(session.release(7), two)
  t.equal(session.release(7), undefined)
  t.equal(session.heldBytes, 5)
})

t.test('a new connection begins to count repeats anew, and what it may no longer write is forgotten', async t => {
  const host = new Bench('unstored')
  const session = new Session(
    { ...hostOf(host), mayWrite: (_, topic) => (topic === 'b' ? no : yes) },
    { clientId: 'c', version: 4, expiryInterval: 0 }
  )
  session.hold(1, messageOf('a'))
  session.hold(2, messageOf('b'))
  const held = session.heldAs(1)
  if (held !== undefined) held.repeats = 3
  session.resume(new NotingReceiver())
  t.equal(session.held, 1)
  t.equal(session.heldAs(1)?.repeats, 0)
  t.equal(session.heldBytes, 3)
})

function storeOf(store: Store, page: (after: number) => Promise<readonly QueueEntry[]>): Store {
  return {
    isDurableAtOnce: false,
    open: () => store.open(),
    commit: () => Promise.resolve(),
    page: (_, after) => page(after),
    close: () => store.close()
  }
}

function hostOf({ log, limits, delivery, store, ledger }: SessionHost): SessionHost {
  const turns = longTurns
  const replayOf: SessionHost['replayOf'] = (_, subscription) => ({ subscription, next: () => undefined })
  return {
    log,
    limits,
    delivery,
    store,
    ledger,
    turns,
    replayOf,
    policyVersion: 0,
    forward: undefined,
    mayRead: () => yes,
    mayWrite: () => yes,
    deniedDelivery: () => {},
    shadowedDelivery: () => {},
    deliverRetained: () => {},
    dropped: () => {}
  }
}

t.test('retained messages come behind the queue, one at a time, as there is room', async t => {
  const order: string[] = []
  const replayed = [messageOf('r1'), 'pause' as const, messageOf('r2')]
  const rest = [messageOf('r3')]
  const host: SessionHost = {
    ...hostOf(new Bench('unstored')),
    replayOf: (_, subscription) => ({
      subscription,
      next: () => ({ x: replayed, z: rest })[subscription.filter]?.shift()
    }),
    deliverRetained: (session, { filter }, message) => {
      order.push(`${filter} ${message.topic}`)
      const entry = session.enqueue(message, 1, true, 0)
      if (entry !== undefined) session.take(entry)
    }
  }
  const session = new Session(host, { clientId: 'c', version: 4, expiryInterval: 0 })
  const receiver = new NotingReceiver()
  receiver.receiveMaximum = 1
  session.resume(receiver)
  const first = session.enqueue(messageOf('live'), 1, false, 0)
  if (first !== undefined) session.take(first)
  const second = session.enqueue(messageOf('live2'), 1, false, 0)
  if (second !== undefined) session.take(second)
  replay(session, [subscriptionOf('x'), subscriptionOf('y')])
  const acknowledge = () => {
    session.puback(receiver.queued.at(-1)?.packetId ?? 0)
    session.pump()
  }
  const sent = () => receiver.queued.map(({ message }) => message.topic)
  t.same(sent(), ['live'])
  acknowledge()
  t.same([sent(), order], [['live', 'live2'], ['x r1']])
  acknowledge()
  t.same(sent(), ['live', 'live2', 'r1'])
  acknowledge()
  await turn()
  await turn()
  t.same(sent(), ['live', 'live2', 'r1', 'r2'])
  t.same(order, ['x r1', 'x r2'])
  // What is left of a replay belongs to the connection that asked.
  receiver.hasRoom = false
  replay(session, [subscriptionOf('z')])
  session.suspend()
  session.resume(new NotingReceiver())
  session.pump()
  t.equal(rest.length, 1)
})

/** A session whose client has room for one retained message, whenever it goes on. */
function replaying(replayOf: SessionHost['replayOf']) {
  const receiver = new NotingReceiver()
  const deliverRetained = () => {
    receiver.hasRoom = false
  }
  const host: SessionHost = { ...hostOf(new Bench('unstored')), replayOf, deliverRetained }
  const session = new Session(host, { clientId: 'c', version: 5, expiryInterval: 0 })
  session.resume(receiver)
  const goOn = () => {
    receiver.hasRoom = true
    session.pump()
  }
  return { session, receiver, goOn }
}

t.test('a filter that waits for its retained messages waits once, with what was asked last', t => {
  const begun: string[] = []
  const { session, receiver, goOn } = replaying((_, subscription) => {
    begun.push(`${subscription.filter} ${subscription.identifier}`)
    let left = 2
    return { subscription, next: () => (left-- > 0 ? messageOf('r') : undefined) }
  })
  for (let identifier = 1; identifier <= 1000; identifier++) {
    replay(session, [subscriptionOf('x', { identifier }), subscriptionOf('y', { identifier })])
  }
  for (let i = 0; i < 20; i++) goOn()
  // The first had begun when the others came: what it has sent by then is owed again [MQTT-3.8.4-3].
  t.same(begun, ['x 1', 'y 1000', 'x 1000'])
  replay(session, [subscriptionOf('x', { identifier: 7 })])
  for (let i = 0; i < 20; i++) goOn()
  t.same(begun.at(-1), 'x 7', 'who asks when nothing waits is answered')
  replay(session, [subscriptionOf('y'), subscriptionOf('x')])
  session.suspend()
  session.resume(receiver)
  replay(session, [subscriptionOf('x', { identifier: 9 })])
  for (let i = 0; i < 20; i++) goOn()
  t.same(begun.slice(4), ['y 0', 'x 9'], 'nothing is left of what another connection asked for')
  t.end()
})

t.test('a filter that is unsubscribed waits no more, whether it has begun or not, and leaves nothing behind', t => {
  const begun: string[] = []
  let steps = 0
  const { session, receiver, goOn } = replaying((_, subscription) => {
    begun.push(subscription.filter)
    return { subscription, next: () => (steps++ % 3 < 2 ? messageOf('r') : undefined) }
  })
  replay(
    session,
    ['x', 'y', 'z'].map(filter => subscriptionOf(filter))
  )
  t.same([begun, steps], [['x'], 1])
  session.forgetReplay('x')
  session.forgetReplay('y')
  steps = 0
  for (let i = 0; i < 20; i++) goOn()
  t.same([begun, steps], [['x', 'z'], 3])
  receiver.hasRoom = false
  const filters = Array.from({ length: 100_000 }, (_, i) => `f${i}`)
  for (const filter of filters) {
    replay(session, [subscriptionOf(filter)])
    session.forgetReplay(filter)
  }
  replay(
    session,
    filters.map(filter => subscriptionOf(filter))
  )
  for (const filter of filters.slice(0, -1)) session.forgetReplay(filter)
  for (let i = 0; i < 20; i++) goOn()
  t.same(begun, ['x', 'z', 'f99999'])
  t.end()
})

t.test('all that wait come, however many, in their order', t => {
  const begun: string[] = []
  const host: SessionHost = {
    ...hostOf(new Bench('unstored')),
    replayOf: (_, subscription) => {
      begun.push(subscription.filter)
      return { subscription, next: () => undefined }
    }
  }
  const session = new Session(host, { clientId: 'c', version: 5, expiryInterval: 0 })
  const receiver = new NotingReceiver()
  receiver.hasRoom = false
  session.resume(receiver)
  const filters = Array.from({ length: 200_000 }, (_, i) => `f${i}`)
  replay(
    session,
    filters.map(filter => subscriptionOf(filter))
  )
  receiver.hasRoom = true
  session.pump()
  replay(session, [subscriptionOf('f0')])
  t.same(begun, [...filters, 'f0'])
  t.end()
})

t.test('a page that was asked for by a connection that is gone says nothing', async () => {
  const count = { ...plain, size: 0 }
  await run('later', [
    { ...count, qos: 0, count: 1 },
    { kind: 'turn', pick: 22 },
    { ...connected, receiveMaximum: 1 },
    { kind: 'turn', pick: 0 },
    { kind: 'empty' },
    { ...count, qos: 2, count: 2 },
    { kind: 'turn', pick: 179 }
  ])
})
