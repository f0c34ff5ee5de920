// What `cost.js` measures: parts of the way of a PUBLISH, and the whole of it, through the broker's own entry points. A stage does the same
// each time: its packets are made before, no clock is asked, and a way goes on when all that is to come has come.

import { Duplex } from 'node:stream'
import { compileAcl } from '../dist/auth/acl.js'
import { parseAcl } from '../dist/auth/acl-file.js'
import { buildPolicy } from '../dist/auth/policy.js'
import { Broker } from '../dist/broker/broker.js'
import { Exchange } from '../dist/broker/exchange.js'
import { defaultLimits, plainListener } from '../dist/broker/standalone.js'
import { Stats } from '../dist/broker/stats.js'
import { Message } from '../dist/message.js'
import { encodePublish } from '../dist/protocol/encode.js'
import { Framing } from '../dist/protocol/framing.js'
import { encodeProperties } from '../dist/protocol/properties.js'
import { handlePacket } from '../dist/session/dispatch.js'
import { Sender } from '../dist/session/sender.js'
import { Session } from '../dist/session/session.js'
import { openMemoryStore } from '../dist/store/memory.js'
import { lengthOf, packet, uint16 } from './link.js'

const none = Buffer.alloc(0)
const payload = Buffer.alloc(100, 'x')
const properties = encodeProperties({
  contentType: 'application/json',
  responseTopic: 'plant/7/answers',
  userProperties: { plant: '7', schema: 'v2' }
})
const log = { write() {}, enabled: () => false }

/** Packets that come in one chunk. */
const atOnce = 10
/** That any stage is asked for, one behind the other: what differs from each to the next was made before. */
const mostMessages = 24_000

/**
 * `count`: of what a figure is for, as often as it is done to be measured; before, half as often to warm up. `make` resolves with `run`,
 * which does it as often as it is told, and, where there is something to close, `close`.
 */
export const stages = [
  { name: 'decode-0', what: 'decode, QoS 0', count: 2000, make: () => decoder(publishes({})) },
  { name: 'decode-1', what: 'decode, QoS 1', count: 2000, make: () => decoder(publishes({ qos: 1 })) },
  { name: 'decode-new', what: 'decode, each time another topic', count: 2000, make: () => decoder(publishes({ topics: atOnce })) },
  { name: 'decode-5', what: 'decode, MQTT 5 with properties', count: 2000, make: () => decoder(publishes({ version: 5 }), 5) },
  { name: 'decode-cut', what: 'decode, each packet in two chunks', count: 2000, make: () => decoder(halves(publishes({}))) },
  { name: 'decide-rule', what: "decide by a line of the user's", count: 2000, make: () => decider('bench', 'bench/plant/7/state') },
  { name: 'decide-pattern', what: 'decide by the pattern', count: 2000, make: () => decider('press-7', 'device/press-7/state') },
  { name: 'decide-refused', what: 'decide that nothing allows it', count: 2000, make: () => decider('bench', 'other/3/state') },
  { name: 'route-known', what: 'route to 10 of 1000 filters, known topic', count: 2000, make: () => exchange(false) },
  { name: 'route-new', what: 'route to 10 of 1000 filters, new topic', count: 4000, make: () => exchange(true) },
  {
    name: 'encode-raw',
    what: 'pass on as it came',
    count: 2000,
    make: () => sender(4, ({ came }, to) => to.sendLive(came(0), false, 0))
  },
  { name: 'encode-0', what: 'encode, QoS 0', count: 2000, make: () => sender(4, ({ plain }, to) => to.sendLive(plain(), false, 0)) },
  { name: 'encode-1', what: 'encode, QoS 1', count: 2000, make: () => sender(4, ({ numbered }, to) => to.sendQueued(numbered())) },
  {
    name: 'encode-came-1',
    what: 'keep as it came and number, QoS 1',
    count: 2000,
    make: () => sender(4, ({ cameNumbered }, to) => to.sendQueued(cameNumbered()))
  },
  {
    name: 'encode-5',
    what: 'encode, MQTT 5 with properties',
    count: 2000,
    make: () => sender(5, ({ rich }, to) => to.sendLive(rich(), false, 0))
  },
  {
    name: 'encode-own',
    what: 'encode for one receiver alone',
    count: 2000,
    make: () => sender(5, ({ rich }, to) => to.sendLive(rich(), false, 7))
  },
  { name: 'pair-0', what: '1 → 1, QoS 0', count: 2000, make: () => way({}) },
  { name: 'pair-1', what: '1 → 1, QoS 1', count: 2000, make: () => way({ qos: 1 }) },
  { name: 'pair-2', what: '1 → 1, QoS 2', count: 4000, make: () => way({ qos: 2 }) },
  { name: 'pair-5', what: '1 → 1, QoS 1, MQTT 5 with properties', count: 2000, make: () => way({ qos: 1, version: 5 }) },
  { name: 'kept-1', what: '1 → 1, QoS 1, session that is kept', count: 4000, make: () => way({ qos: 1, isKept: true }) },
  { name: 'single-1', what: '1 → 1, QoS 1, one at a time', count: 500, make: () => way({ qos: 1, window: 1 }) },
  { name: 'fan-out-0', what: '1 → 100, QoS 0, a delivery', count: 5000, make: () => way({ receivers: 100 }) },
  { name: 'fan-out-1', what: '1 → 100, QoS 1, a delivery', count: 5000, make: () => way({ qos: 1, receivers: 100 }) }
]

/** The ACL of `compare.js`: twenty users and a pattern. */
function policy() {
  const others = Array.from({ length: 19 }, (_, i) => `user other-${i}\ntopic readwrite other/${i}/#\ntopic read news/#\n`)
  const text = `${others.join('')}user bench\ntopic readwrite bench/#\npattern readwrite device/%u/#\n`
  return buildPolicy({
    listener: plainListener,
    acl: compileAcl(parseAcl(text, 'acl').rules),
    log,
    // Without a password_file there is nobody to be slowed down, and nothing to be hashed.
    throttle: undefined,
    hasher: undefined,
    now: () => 0,
    sleep: async () => {}
  })
}

function publishes({ qos = 0, version = 4, topics = 1, window = atOnce }) {
  return Array.from({ length: window }, (_, i) =>
    encodePublish({
      version,
      topic: `bench/plant/${i % topics}/state`,
      payload,
      qos,
      retain: false,
      packetId: i + 1,
      properties: version === 5 ? properties : none
    })
  )
}

// The end of a packet and the beginning of the next in one chunk, as large packets come.
function halves(packets) {
  const middle = packet => packet.length >> 1
  return packets.map((one, i) => {
    const next = packets[(i + 1) % packets.length]
    return Buffer.concat([one.subarray(middle(one)), next.subarray(0, middle(next))])
  })
}

/** From a chunk to the handler of PUBLISH, which finds that the session is gone. */
function decoder(chunks, version = 4) {
  const framing = new Framing()
  const stats = new Stats()
  const connection = { connect: {}, session: undefined, version, clientId: 'pub', lastTopic: '', host: { stats } }
  const isCut = (chunks[0][0] & 0xf0) !== 0x30
  const all = isCut ? chunks : [Buffer.concat(chunks)]
  if (isCut) framing.append(Buffer.from(chunks.at(-1).subarray(chunks.at(-1).length - (chunks[0].length >> 1))))
  return {
    run(count) {
      const before = stats.messagesReceived
      for (let done = 0; done < count; done += chunks.length) {
        for (const chunk of all) {
          framing.append(chunk)
          while (framing.next()) handlePacket(connection, framing)
        }
      }
      const packets = stats.messagesReceived - before
      if (packets !== count) throw new Error(`decode: ${packets} packets, not ${count}`)
    }
  }
}

function decider(username, topic) {
  const { authorize } = policy()
  const identity = { clientId: 'pub', username }
  return {
    run(count) {
      for (let i = 0; i < count; i++) authorize(identity, 'write', topic)
    }
  }
}

/** A message to its receivers, who do nothing with it: 200 sessions with five filters each. Ten of them hear of each machine of plant 7. */
function exchange(isNew) {
  const { authorize } = policy()
  let sent = 0
  const host = {
    ...defaultLimits({}),
    log,
    store: openMemoryStore(),
    policyVersion: 0,
    mayRead: ({ identity }, topic) => authorize(identity, 'read', topic),
    deniedDelivery() {
      throw new Error('route: a receiver may not read')
    },
    deliveryFailed(_session, error) {
      throw error
    }
  }
  const receiver = {
    isReady: true,
    hasRoom: true,
    sendLive() {
      sent += 1
    }
  }
  const { subscribe, route } = bound(new Exchange(host))
  for (let i = 0; i < 200; i++) {
    const session = new Session(host, { clientId: `sub-${i}`, username: 'bench', version: 4, expiryInterval: 0 })
    session.resume(receiver)
    const plant = i % 20
    const filters = [`${plant}/machine/+/state`, `${plant}/order/#`, `${plant}/machine/${i}/#`, `all/${i}/stop`, `${plant}/+/${i}/alarm`]
    for (const filter of filters) subscribe(session, subscriptionTo(`bench/${filter}`))
  }
  const topicOf = i => `bench/7/machine/${isNew ? 1000 + i : 1000}/state`
  // Before it is counted: who publishes, and to what, is known by then.
  const topics = Array.from({ length: mostMessages }, (_, i) => topicOf(i))
  let at = 0
  return {
    run(count) {
      const before = sent
      for (let i = 0; i < count; i++) route(new Message({ topic: topics[at++], payload, qos: 0, retain: false }))
      if (sent !== before + 10 * count) throw new Error(`route: ${sent - before} deliveries of ${count} messages, not ten of each`)
    }
  }
}

const bound = exchange => ({ subscribe: exchange.subscribe.bind(exchange), route: exchange.route.bind(exchange) })

function subscriptionTo(filter) {
  return { filter, qos: 2, noLocal: false, retainAsPublished: false, retainHandling: 0, identifier: 0 }
}

/** From a message to what a connection's outbox gets. */
function sender(version, send) {
  const { limits } = defaultLimits({})
  const host = { stats: new Stats(), limits, isDebugging: false }
  let packets = 0
  const outbox = {
    isBehind: false,
    push() {
      packets += 1
    },
    forward() {
      packets += 1
    }
  }
  const sender = new Sender({ host, version, listener: plainListener, session: undefined }, outbox)
  const topic = 'bench/plant/0/state'
  const camePackets = [0, 1].map(qos => publishes({ version, qos })[0])
  const came = qos => {
    const buffer = camePackets[qos]
    const payloadAt = buffer.length - payload.length
    const raw = { isNew: version === 5, buffer, start: 0, propertiesAt: payloadAt, payloadAt, end: buffer.length }
    return new Message({ topic, qos, retain: false, raw })
  }
  const plain = () => new Message({ topic, payload, qos: 0, retain: false })
  const rich = () => new Message({ topic, payload, qos: 0, retain: false, properties })
  let packetId = 0
  const entry = message => {
    packetId = (packetId % 60_000) + 1
    message.keep()
    return { message, qos: 1, retain: false, state: 'queued', packetId, subscriptionIdentifier: 0 }
  }
  const numbered = () => entry(new Message({ topic, payload, qos: 1, retain: false }))
  const cameNumbered = () => entry(came(1))
  const given = { came, plain, rich, numbered, cameNumbered }
  return {
    run(count) {
      const before = packets
      for (let i = 0; i < count; i++) send(given, sender)
      if (packets !== before + count) throw new Error(`encode: ${packets - before} packets, not ${count}`)
    }
  }
}

/** What is written to all clients of a way, in bytes, and who waits for how much of it. */
class Counter {
  bytes = 0
  #awaited = 0
  #resolve = () => {}

  add(length) {
    this.bytes += length
    if (this.bytes === this.#awaited) setImmediate(this.#resolve)
  }

  /** Resolves in the turn after so many more have come than were waited for before. Where they don't come, nothing else does: the process ends. */
  more(length) {
    this.#awaited += length
    if (this.bytes >= this.#awaited) throw new Error(`${this.bytes} bytes have come, before they were to become ${this.#awaited}`)
    return new Promise(resolve => {
      this.#resolve = resolve
    })
  }

  /** What has come was not waited for. */
  settle() {
    this.#awaited = this.bytes
  }
}

/** The client's end of a connection within the process: what is written to it is counted, and what it sends was made before. */
class Client extends Duplex {
  #counter

  constructor(broker, counter) {
    super({
      read() {},
      write(chunk, _encoding, done) {
        counter.add(chunk.length)
        done()
      }
    })
    this.#counter = counter
    broker.accept(this, { listener: plainListener, remoteAddress: '127.0.0.1', remotePort: 1 })
  }

  /** Resolves when the answer has come, which is one write. */
  async ask(request) {
    const { bytes } = this.#counter
    this.push(request)
    while (this.#counter.bytes === bytes) await turn()
  }
}

/** Everything from a chunk of the publisher's to the writes to its receivers, and back. */
async function way({ qos = 0, version = 4, receivers = 1, window = atOnce, isKept = false }) {
  const enforced = policy()
  const broker = await Broker.createBroker({
    engine: { ...defaultLimits({}), log, policyOf: () => enforced, policyOfAbsent: () => enforced, store: openMemoryStore() }
  })
  const counter = new Counter()
  const join = async clientId => {
    const client = new Client(broker, counter)
    await client.ask(connectOf(clientId, version, isKept))
    return client
  }
  const subscribers = []
  for (let i = 0; i < receivers; i++) {
    const subscriber = await join(`sub-${i}`)
    await subscriber.ask(subscribeOf('bench/plant/+/state', qos, version))
    subscribers.push(subscriber)
  }
  const publisher = await join('pub')
  counter.settle()

  const chunk = Buffer.concat(publishes({ qos, version, window }))
  const answer = 4 * window
  const releases = acknowledgements(0x62, 0, window)
  const answers = qos === 0 ? [] : answersOf(qos, window)
  let round = 0
  const toAll = bytes => {
    for (const subscriber of subscribers) subscriber.push(bytes)
  }
  const once = async () => {
    publisher.push(chunk)
    if (qos === 0) {
      await counter.more(chunk.length * receivers)
      return
    }
    if (qos === 2) {
      await counter.more(answer)
      publisher.push(releases)
    }
    await counter.more(chunk.length * receivers + answer)
    const { first, last } = answers[round++]
    toAll(first)
    if (qos === 2) {
      await counter.more(answer * receivers)
      toAll(last)
    }
    // Nothing answers that.
    await turn()
  }
  return {
    async run(count) {
      for (let done = 0; done < count; done += window * receivers) await once()
    },
    close: () => broker.close()
  }
}

const turn = () => new Promise(resolve => setImmediate(resolve))

/** What a receiver answers to each chunk of its life. All of them answer the same, since they get the same messages with the same identifiers. */
function answersOf(qos, window) {
  return Array.from({ length: mostMessages / window }, (_, round) => ({
    first: acknowledgements(qos === 1 ? 0x40 : 0x50, round * window, window),
    last: qos === 2 ? acknowledgements(0x70, round * window, window) : none
  }))
}

function acknowledgements(head, after, count) {
  const bytes = Buffer.alloc(4 * count)
  for (let i = 0; i < count; i++) bytes.writeUInt32BE(((head << 24) | (2 << 16) | (after + i + 1)) >>> 0, 4 * i)
  return bytes
}

function connectOf(clientId, version, isKept) {
  const list = version === 5 ? [isKept ? Buffer.of(5, 0x11, 0, 0, 1, 0) : Buffer.of(0)] : []
  const flags = 0x80 | (isKept ? 0 : 2)
  return packet(0x10, text('MQTT'), Buffer.of(version, flags, 0, 0), ...list, text(clientId), text('bench'))
}

function subscribeOf(filter, qos, version) {
  return packet(0x82, uint16(1), ...(version === 5 ? [lengthOf(0)] : []), text(filter), Buffer.of(qos))
}

function text(value) {
  const bytes = Buffer.from(value)
  return Buffer.concat([uint16(bytes.length), bytes])
}
