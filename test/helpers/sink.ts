// Connections without sockets: for crowds of which nothing matters but how much each is sent.

import { Duplex } from 'node:stream'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { type BareBroker, plainListener } from './bare-broker.js'
import { connect, type RawConnect } from './raw-mqtt.js'

/** The broker's end of a connection that costs nothing: what is written there is counted. */
export class Sink extends Duplex {
  /** Of all of them. */
  static total = 0
  bytes = 0

  constructor({ broker }: BareBroker, options: RawConnect) {
    super({
      read() {},
      write: (chunk: Buffer, _encoding, done) => {
        this.bytes += chunk.length
        Sink.total += chunk.length
        done()
      }
    })
    broker.accept(this, { listener: plainListener, remoteAddress: '127.0.0.1', remotePort: 1 })
    this.push(connect(options))
  }
}

/** So many clients at once; their packets behind CONNECT. */
export async function crowd(broker: BareBroker, count: number, make: (i: number) => readonly [RawConnect, ...Buffer[]]): Promise<Sink[]> {
  const sinks: Sink[] = []
  for (let i = 0; i < count; i++) {
    const [options, ...packets] = make(i)
    const sink = new Sink(broker, options)
    for (const packet of packets) sink.push(packet)
    sinks.push(sink)
    if (i % 50 === 0) await nextTurn()
  }
  while (sinks.some(({ bytes }) => bytes < 4)) await nextTurn()
  return sinks
}
