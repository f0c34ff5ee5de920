// A listener with a mount point is a room of its own: nobody reaches out of it, and nothing from outside comes in.

import { createServer } from 'node:net'
import t, { type Test } from 'tap'
import { plainListener, portOf, startBareBroker } from '../helpers/bare-broker.js'
import { connectMqtt, type MqttClient } from '../helpers/mqtt.js'

async function startRooms(t: Test) {
  const { broker, connect } = await startBareBroker(t, { listener: { mountPoint: 'm/' } })
  const server = createServer(socket => {
    broker.accept(socket, { listener: { ...plainListener, port: 1 }, remoteAddress: '127.0.0.1', remotePort: 0 })
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const clients: MqttClient[] = []
  t.teardown(() => {
    for (const client of clients) client.destroy()
    server.close()
  })
  return {
    connectInside: connect,
    connectOutside: async () => {
      const client = await connectMqtt(portOf(server.address()))
      clients.push(client)
      return client
    }
  }
}

t.test('a topic that its mount point makes too long ends the connection of its publisher, and reaches nobody as another one', async t => {
  const { connectInside, connectOutside } = await startRooms(t)
  const [outside, inside] = [await connectOutside(), await connectInside()]
  await outside.connect({ clientId: 'outside' })
  await outside.subscribe('#')
  await inside.connect({ clientId: 'inside' })
  inside.publish('x'.repeat(65_535), 'too long')
  await inside.closed()
  await outside.ping()
  t.equal(outside.packets.length, 0)
})

t.test('a will whose topic gets too long is refused', async t => {
  const { connectInside } = await startRooms(t)
  const inside = await connectInside()
  const will = { topic: 'x'.repeat(65_535), payload: Buffer.from('gone'), qos: 0, retain: false } as const
  await t.rejects(inside.connect({ clientId: 'inside', will }), /closed before CONNACK/)
})

t.test('the topic that is the mount point without its slash is outside', async t => {
  const { connectInside, connectOutside } = await startRooms(t)
  const [outside, inside] = [await connectOutside(), await connectInside()]
  await outside.connect({ clientId: 'outside' })
  await inside.connect({ clientId: 'inside' })
  await inside.subscribe('#', 1)
  for (const qos of [0, 1] as const) outside.publish('m', 'from outside', { qos, messageId: 1 })
  outside.publish('m/a', 'inside')
  const { topic } = await inside.next('publish')
  t.equal(topic, 'a')
})

t.test('a session that comes in by a listener with a mount point gets nothing of what it subscribed to outside', async t => {
  const { connectInside, connectOutside } = await startRooms(t)
  const [before, publisher] = [await connectOutside(), await connectOutside()]
  await publisher.connect({ clientId: 'publisher' })
  await before.connect({ clientId: 'wanderer', clean: false })
  await before.subscribe('#', 1)
  before.destroy()
  const inside = await connectInside()
  publisher.publish('secret', 'queued', { qos: 1, messageId: 1 })
  await publisher.next('puback')
  await inside.connect({ clientId: 'wanderer', clean: false })
  publisher.publish('secret', 'live', { qos: 0 })
  publisher.publish('m/a', 'inside', { qos: 0 })
  const { topic } = await inside.next('publish')
  t.equal(topic, 'a')
})
