// The topics `$SYS/broker/…` as Mosquitto 2.1 names and counts them: counters and gauges in, the messages that are news out. They are
// published retained with quality of service 2.

import type { Gauges, Stats } from './stats.js'

export interface SysTopic {
  readonly topic: string
  readonly payload: string
}

interface Value {
  /** More than one where an older name lives on. */
  readonly topics: readonly string[]
  read(stats: Stats, gauges: Gauges): number
}

const value = (read: Value['read'], ...names: string[]): Value => ({ topics: names.map(name => `$SYS/broker/${name}`), read })

const values: readonly Value[] = [
  value((_, gauges) => gauges.clientsTotal, 'clients/total'),
  value(stats => stats.clientsMaximum, 'clients/maximum'),
  value((_, gauges) => gauges.clientsTotal - gauges.clientsConnected, 'clients/disconnected', 'clients/inactive'),
  value((_, gauges) => gauges.clientsConnected, 'clients/connected', 'clients/active'),
  value(stats => stats.clientsExpired, 'clients/expired'),
  value((_, gauges) => gauges.messagesStored, 'messages/stored', 'store/messages/count'),
  value((_, gauges) => gauges.messageBytesStored, 'store/messages/bytes'),
  value((_, gauges) => gauges.subscriptions, 'subscriptions/count'),
  value((_, gauges) => gauges.sharedSubscriptions, 'shared_subscriptions/count'),
  value((_, gauges) => gauges.retainedMessages, 'retained messages/count'),
  value((_, gauges) => gauges.heapCurrent, 'heap/current'),
  value((_, gauges) => gauges.heapMaximum, 'heap/maximum'),
  value(stats => stats.messagesReceived, 'messages/received'),
  value(stats => stats.messagesSent, 'messages/sent'),
  value(stats => stats.bytesReceived, 'bytes/received'),
  value(stats => stats.bytesSent, 'bytes/sent'),
  value(stats => stats.publishBytesReceived, 'publish/bytes/received'),
  value(stats => stats.publishBytesSent, 'publish/bytes/sent'),
  value((_, gauges) => gauges.packetsOut, 'packet/out/count'),
  value((_, gauges) => gauges.packetBytesOut, 'packet/out/bytes'),
  value(stats => stats.socketConnections, 'connections/socket/count'),
  value(stats => stats.publishDropped, 'publish/messages/dropped'),
  value(stats => stats.publishReceived, 'publish/messages/received'),
  value(stats => stats.publishSent, 'publish/messages/sent')
]

/** Counters whose rate per minute is averaged. */
const loads: readonly (readonly [name: string, read: (stats: Stats) => number])[] = [
  ['messages/received', stats => stats.messagesReceived],
  ['messages/sent', stats => stats.messagesSent],
  ['publish/dropped', stats => stats.publishDropped],
  ['publish/received', stats => stats.publishReceived],
  ['publish/sent', stats => stats.publishSent],
  ['bytes/received', stats => stats.bytesReceived],
  ['bytes/sent', stats => stats.bytesSent],
  ['sockets', stats => stats.socketConnections],
  ['connections', stats => stats.connections]
]

const windows: readonly (readonly [name: string, seconds: number])[] = [
  ['1min', 60],
  ['5min', 300],
  ['15min', 900]
]

/** One exponentially decayed average of one counter. */
class Load {
  readonly topic: string
  readonly #read: (stats: Stats) => number
  readonly #window: number
  #counted = 0
  #average = 0

  constructor(name: string, read: (stats: Stats) => number, [windowName, seconds]: readonly [string, number]) {
    this.topic = `$SYS/broker/load/${name}/${windowName}`
    this.#read = read
    this.#window = seconds
  }

  /** The average per minute, `seconds` after it was last asked for; unchanged when no time has passed. */
  advance(stats: Stats, seconds: number): number {
    if (seconds <= 0) return this.#average
    const counted = this.#read(stats)
    const perMinute = ((counted - this.#counted) * 60) / seconds
    this.#counted = counted
    this.#average = perMinute + Math.exp(-seconds / this.#window) * (this.#average - perMinute)
    return this.#average
  }
}

export class SysTopics {
  readonly #version: string
  readonly #startedAt: number
  readonly #loads = loads.flatMap(([name, read]) => windows.map(window => new Load(name, read, window)))
  /** What was last said on each topic. */
  readonly #said = new Map<string, string>()
  #more: ReadonlySet<string> = new Set()
  #lastTick: number

  /** Both clocks are one, in milliseconds, and never go back: that of the ticks. */
  constructor(version: string, startedAt: number) {
    this.#version = version
    this.#startedAt = startedAt
    this.#lastTick = startedAt
  }

  /** What has changed since the last tick; everything the first time. `more`: what others have to say; what is no longer among it is cleared. */
  tick(stats: Stats, gauges: Gauges, now: number, more: readonly SysTopic[] = []): SysTopic[] {
    const news: SysTopic[] = []
    const say = (topic: string, payload: string): void => {
      if (this.#said.get(topic) === payload) return
      this.#said.set(topic, payload)
      news.push({ topic, payload })
    }
    say('$SYS/broker/version', `mosquitero version ${this.#version}`)
    say('$SYS/broker/uptime', `${Math.floor((now - this.#startedAt) / 1000)} seconds`)
    const elapsed = (now - this.#lastTick) / 1000
    this.#lastTick = now
    // As printed: Mosquitto compares what it computes, so that a load that fades by less than 0.01 a tick never is told to be over.
    for (const load of this.#loads) say(load.topic, load.advance(stats, elapsed).toFixed(2))
    for (const { topics, read } of values) {
      const payload = String(read(stats, gauges))
      for (const topic of topics) say(topic, payload)
    }
    const left = this.#more
    this.#more = new Set(more.map(({ topic }) => topic))
    for (const { topic, payload } of more) say(topic, payload)
    for (const topic of left) {
      if (this.#more.has(topic)) continue
      this.#said.delete(topic)
      // An empty payload removes what is retained [MQTT5 3.3.1.3].
      news.push({ topic, payload: '' })
    }
    return news
  }
}

/**
 * Milliseconds to the next tick, which is a multiple of the interval on the wall clock (as in Mosquitto 2.1); undefined: no ticks.
 * `now`: since 1970.
 */
export function untilNextTick(now: number, intervalSeconds: number): number | undefined {
  if (intervalSeconds === 0) return undefined
  const interval = intervalSeconds * 1000
  return interval - (now % interval)
}
