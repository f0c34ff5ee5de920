// The lines of packets, faults and sessions, ours and those that the real mosquitto writes when the same happens to it.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { createConnection, type Socket } from 'node:net'
import { join, relative } from 'node:path'
import t, { type Test } from 'tap'
import { type LogEventName, type LogFields, logEvents } from '../../dist/log-events.js'
import { until } from '../helpers/until.js'

function ours<Name extends LogEventName>(name: Name, fields: LogFields<Name>): string[] {
  return [logEvents[name].text(fields)].flat()
}

/** A mosquitto that logs everything; `socket` takes any QoS, `lowSocket` 0 and 1. */
async function start(t: Test) {
  const dir = relative(process.cwd(), t.testdir())
  const [socket, lowSocket] = [join(dir, 's.sock'), join(dir, 'low.sock')]
  const conf = [
    'user root',
    'max_queued_messages 1',
    'sys_interval 0',
    `listener 0 ${socket}`,
    'allow_anonymous true',
    `listener 0 ${lowSocket}`
  ]
  writeFileSync(join(dir, 'm.conf'), [...conf, 'max_qos 1', ''].join('\n'))
  const broker = spawn('mosquitto', ['-v', '-c', join(dir, 'm.conf')], { stdio: ['ignore', 'ignore', 'pipe'] })
  t.teardown(() => broker.kill('SIGKILL'))
  let log = ''
  broker.stderr.setEncoding('utf8').on('data', text => {
    log += text
  })
  await until(() => log.includes(' running\n'))
  return { socket, lowSocket, said: (line: string) => log.split('\n').some(found => found.replace(/^\d+: /, '') === line) }
}

const text = (value: string): Buffer => Buffer.concat([Buffer.from([0, value.length]), Buffer.from(value)])
const packet = (first: number, ...parts: Uint8Array[]): Buffer => {
  const body = Buffer.concat(parts)
  return Buffer.concat([Buffer.from([first, body.length]), body])
}
const bytes = (...values: number[]): Buffer => Buffer.from(values)
const connect = (clientId: string, flags = 2): Buffer => packet(0x10, text('MQTT'), bytes(4, flags, 0, 60), text(clientId))
const connect5 = (clientId: string, properties: Buffer): Buffer =>
  packet(0x10, text('MQTT'), bytes(5, 0, 0, 60, properties.length), properties, text(clientId))

/** Sends it all and stays connected until the other side, or the test, ends it. */
function send(t: Test, path: string, ...packets: Buffer[]): Socket {
  const socket = createConnection(path).on('error', () => {})
  socket.resume().write(Buffer.concat(packets))
  t.teardown(() => socket.destroy())
  return socket
}

t.test('the same lines', { timeout: 60_000 }, async t => {
  const { socket, lowSocket, said } = await start(t)
  const expectLines = async (...lines: string[]) => {
    for (const line of lines) t.ok(await until(() => said(line), 20_000).catch(() => false), line)
  }

  // A message of QoS 2 and one of QoS 1 on their way.
  const publish = { dup: false, qos: 2, retain: false, packetId: 1, topic: 'a/b', bytes: 2 } as const
  const receiver = createConnection(socket).on('error', () => {})
  t.teardown(() => receiver.destroy())
  receiver.on('data', (data: Buffer) => {
    if (data[0] === 0x34) receiver.write(bytes(0x50, 2, 0, 1))
    if (data[0] === 0x62) receiver.write(bytes(0x70, 2, 0, 1))
    if (data[0] === 0x32) receiver.write(bytes(0x40, 2, 0, 2))
  })
  receiver.write(Buffer.concat([connect('sub'), packet(0x82, bytes(0, 1), text('a/#'), bytes(2))]))
  await expectLines(...ours('packetSent', { clientId: 'sub', packet: 'SUBACK' }))
  receiver.write(packet(0xa2, bytes(0, 2), text('b')))
  await expectLines(...ours('packetSent', { clientId: 'sub', packet: 'UNSUBACK' }))
  const twice = packet(0x34, text('a/b'), bytes(0, 1), Buffer.from('hi'))
  const sender = send(t, socket, connect('pub'), twice, packet(0x62, bytes(0, 1)))
  await expectLines(
    ...ours('publishReceived', { ...publish, clientId: 'pub' }),
    ...ours('acknowledgementSent', { clientId: 'pub', packetId: 1, reasonCode: 0, packet: 'PUBREC' }),
    ...ours('acknowledgementReceived', { clientId: 'pub', packetId: 1, reasonCode: 0, packet: 'PUBREL' }),
    ...ours('publishSent', { ...publish, clientId: 'sub' }),
    ...ours('acknowledgementSent', { clientId: 'pub', packetId: 1, reasonCode: 0, packet: 'PUBCOMP' }),
    ...ours('acknowledgementReceived', { clientId: 'sub', packetId: 1, reasonCode: 0, packet: 'PUBREC' }),
    ...ours('acknowledgementSent', { clientId: 'sub', packetId: 1, reasonCode: 0, packet: 'PUBREL' }),
    ...ours('acknowledgementReceived', { clientId: 'sub', packetId: 1, reasonCode: 0, packet: 'PUBCOMP' })
  )
  sender.write(Buffer.concat([packet(0x32, text('a/b'), bytes(0, 9), Buffer.from('hi')), bytes(0xc0, 0)]))
  await expectLines(
    ...ours('acknowledgementSent', { clientId: 'pub', packetId: 9, reasonCode: 0, packet: 'PUBACK' }),
    ...ours('acknowledgementReceived', { clientId: 'sub', packetId: 2, reasonCode: 0, packet: 'PUBACK' }),
    ...ours('packetSent', { clientId: 'pub', packet: 'PINGRESP' })
  )

  // Faults.
  send(t, socket, connect('qos3'), packet(0x36, text('a'), bytes(0, 1)))
  send(t, lowSocket, connect('high'), packet(0x34, text('a'), bytes(0, 1)))
  send(t, socket, connect('two'), connect('two'))
  send(t, socket, connect('subx'), packet(0x82, bytes(0, 1), text('a#'), bytes(0)))
  send(t, socket, connect('sub3'), packet(0x82, bytes(0, 1), text('a'), bytes(3)))
  send(t, socket, connect('unsub0'), packet(0xa2, bytes(0, 1), text('')))
  send(t, socket, connect('unsubx'), packet(0xa2, bytes(0, 1), text('a#')))
  send(t, socket, connect('again'), twice, packet(0x34, text('a/b'), bytes(0, 1), Buffer.from('ho')))
  await expectLines(
    ...ours('publishInvalid', { clientId: 'qos3', what: 'Invalid QoS in PUBLISH' }),
    ...ours('publishInvalid', { clientId: 'high', what: 'Too high QoS in PUBLISH' }),
    ...ours('secondConnect', { clientId: 'two' }),
    ...ours('subscribeInvalid', { remoteAddress: socket, what: 'Invalid subscription string' }),
    ...ours('subscribeInvalid', { remoteAddress: socket, what: 'Invalid QoS in subscription command' }),
    ...ours('unsubscribeInvalid', { clientId: 'unsub0', what: 'Empty unsubscription string' }),
    ...ours('unsubscribeInvalid', { clientId: 'unsubx', what: 'Invalid unsubscription string' }),
    ...ours('packetIdReused', { clientId: 'again', packetId: 1 })
  )

  // Sessions without a connection.
  const away = send(t, socket, connect('away', 0), packet(0x82, bytes(0, 1), text('q'), bytes(1)), bytes(0xe0, 0))
  await once(away, 'close')
  const one = (id: number) => packet(0x32, text('q'), bytes(0, id), Buffer.from('x'))
  send(t, socket, connect('filler'), one(1), one(2), one(3))
  const brief = send(t, socket, connect5('brief', bytes(0x11, 0, 0, 0, 1)), bytes(0xe0, 0))
  await once(brief, 'close')
  await expectLines(...ours('outgoingDropped', { clientId: 'away' }), ...ours('sessionExpired', { clientId: 'brief' }))
})
