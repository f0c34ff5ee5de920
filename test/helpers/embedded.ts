// The broker as a program on aedes uses it: no configuration file, hooks instead, and clients at the other end of a pair of streams.

import type { EventEmitter } from 'node:events'
import { duplexPair } from 'node:stream'
import type { AedesOptions, Client, PublishPacket } from 'aedes'
import type { IConnackPacket, IPublishPacket } from 'mqtt-packet'
import type { Test } from 'tap'
import { Broker } from '../../dist/index.js'
import { type ConnectOptions, MqttClient, until } from './mqtt.js'

type Tap = Pick<Test, 'teardown'>

/** A broker that ends with the test. */
export async function createBroker(t: Tap, options?: AedesOptions): Promise<Broker> {
  const broker = await Broker.createBroker(options)
  t.teardown(() => close(broker))
  return broker
}

export async function close(broker: Broker): Promise<void> {
  await new Promise<void>(resolve => broker.close(resolve))
}

/** One connection: the client's end of it, and what `broker.handle` returned for the other. */
export class Peer extends MqttClient {
  readonly client: Client

  constructor(broker: Broker, version: 3 | 4 | 5 = 4) {
    const [near, far] = duplexPair()
    super(near, version)
    // A pair of streams, other than a socket, doesn't carry the end of one side to the other. What was written is read first.
    far.on('close', () => setImmediate(() => near.destroy()))
    near.on('close', () => far.destroy())
    this.client = broker.handle(far)
  }

  /** The messages that were on the way: they come before the answer to a PINGREQ. */
  async messages(): Promise<IPublishPacket[]> {
    this.send({ cmd: 'pingreq' })
    await until(() => this.packets.some(({ cmd }) => cmd === 'pingresp'), 'PINGRESP')
    return this.packets.splice(0).filter(packet => packet.cmd === 'publish')
  }
}

/** A connected client. What it sent and got so far is taken. */
export async function join(broker: Broker, options: ConnectOptions & { readonly clientId: string }): Promise<Peer> {
  const { peer } = await joinWith(broker, options)
  return peer
}

export async function joinWith(
  broker: Broker,
  options: ConnectOptions
): Promise<{ readonly peer: Peer; readonly connack: IConnackPacket }> {
  const peer = new Peer(broker, options.protocolVersion)
  const connack = await peer.connect(options)
  await until(() => peer.client.connected || peer.client.closed, 'a client that is ready or refused')
  peer.takeBytes()
  return { peer, connack }
}

/** A whole message, as the types of aedes want it. */
export function message(topic: string, payload: string, more: Partial<PublishPacket> = {}): PublishPacket {
  return { cmd: 'publish', topic, payload: Buffer.from(payload), qos: 0, retain: false, dup: false, ...more }
}

/** `broker.publish` as a promise: its callback came, without an error. */
export async function publish(broker: Broker, packet: PublishPacket): Promise<void> {
  await new Promise<void>((resolve, reject) => broker.publish(packet, error => (error ? reject(error) : resolve())))
}

/** What `broker.subscribe` gets, as `topic payload`. */
export async function listen(broker: Broker, filter: string): Promise<string[]> {
  const seen: string[] = []
  await new Promise<void>(resolve =>
    broker.subscribe(
      filter,
      ({ topic, payload }, done) => {
        seen.push(`${topic} ${payload}`)
        done()
      },
      resolve
    )
  )
  return seen
}

/** The next PUBLISH as `topic payload`. */
export async function received(peer: MqttClient): Promise<string> {
  const { topic, payload } = await peer.next('publish')
  return `${topic} ${payload}`
}

/** The names of these events, each as often as it came, with what `tell` makes of its arguments. */
export function record(
  emitter: EventEmitter,
  events: readonly string[],
  tell: (event: string, args: readonly unknown[]) => string
): string[] {
  const seen: string[] = []
  for (const event of events) emitter.on(event, (...args: readonly unknown[]) => seen.push(tell(event, args)))
  return seen
}

/** What comes by the event `error`, which Aedes' types don't have. */
export function errorsOf(broker: Broker): Error[] {
  const errors: Error[] = []
  const emitter: EventEmitter = broker
  emitter.on('error', (error: Error) => errors.push(error))
  return errors
}

/** Promise and its resolve, for a hook that is to wait. */
export function gate(): { readonly opened: Promise<void>; open(): void } {
  let open = () => {}
  const opened = new Promise<void>(resolve => {
    open = resolve
  })
  return { opened, open: () => open() }
}
