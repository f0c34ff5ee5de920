// Flow control and limits: windows in both directions, sizes, qualities of service, keep alive, connections, topic aliases.

import { connect, connectV3, connectV5, publish, pubrel, type RawConnect, subscribe } from '../../helpers/raw-mqtt.js'
import { by, closes, drop, expect, hexOf, type Step, send, silent, type WireCase } from '../../helpers/wire.js'
import { connack3, connack5, keeps } from './encodings.js'

const properties = (hex: string): RawConnect => ({ properties: Buffer.from(hexOf(hex), 'hex') })
const suback = (qos: number): Step => expect('90 03 0007', Buffer.from([qos]))
const suback5 = (qos: number): Step => expect('90 04 0007 00', Buffer.from([qos]))

/** Messages `from`..`to` of one topic as publisher or receiver sees them: the packet identifier of each is its number. */
const messages = (version: 4 | 5, topic: string, qos: number, from: number, to: number): Buffer =>
  Buffer.concat(
    Array.from({ length: to - from + 1 }, (_, i) => publish(topic, { version, qos, messageId: from + i, payload: `message ${from + i}` }))
  )
const numbered = (head: string, from: number, to: number): string =>
  Array.from({ length: to - from + 1 }, (_, i) => `${head} 02 ${(from + i).toString(16).padStart(4, '0')}`).join(' ')

const publisher = (...steps: readonly Step[]): Step[] => by('publisher', ...steps)

/** A subscriber that acknowledges nothing, and a publisher that has sent it so many messages. */
const flooded = (topic: string, qos: 1 | 2, count: number): Step[] => [
  send(connectV3(topic), subscribe([topic], 4, qos)),
  expect(connack3),
  suback(qos),
  ...publisher(send(connectV3(`${topic}-publisher`)), expect(connack3)),
  ...Array.from({ length: count }, (_, i) => [
    ...publisher(send(messages(4, topic, qos, i + 1, i + 1)), expect(numbered(qos === 1 ? '40' : '50', i + 1, i + 1))),
    ...(qos === 2 ? publisher(send(pubrel(i + 1)), expect(numbered('70', i + 1, i + 1))) : [])
  ]).flat()
]

const released = 'an acknowledgement let more than one message go'

const windows: readonly WireCase[] = [
  {
    name: 'twenty messages of QoS 1 are in flight, each PUBACK lets the next one go, in order',
    steps: [
      ...flooded('window/1', 1, 24),
      expect(messages(4, 'window/1', 1, 1, 20)),
      silent,
      send('40 02 0001'),
      expect(messages(4, 'window/1', 1, 21, 21)),
      silent,
      send('40 02 0003', '40 02 0002'),
      expect(messages(4, 'window/1', 1, 22, 23)),
      silent,
      send('40 02 0004'),
      expect(messages(4, 'window/1', 1, 24, 24))
    ],
    since21: released
  },
  {
    name: 'twenty messages of QoS 2 are in flight, until PUBCOMP',
    steps: [
      ...flooded('window/2', 2, 22),
      expect(messages(4, 'window/2', 2, 1, 20)),
      silent,
      send('50 02 0001'),
      expect('62 02 0001'),
      silent,
      send('70 02 0001'),
      expect(messages(4, 'window/2', 2, 21, 21)),
      silent
    ],
    since21: released
  },
  {
    name: 'QoS 0 does not wait for the window',
    steps: [
      ...flooded('window/3', 1, 21),
      expect(messages(4, 'window/3', 1, 1, 20)),
      ...publisher(send(publish('window/3', { payload: 'now' })), silent),
      expect(publish('window/3', { payload: 'now' })),
      send('40 02 0001'),
      expect(messages(4, 'window/3', 1, 21, 21))
    ]
  },
  {
    name: 'max_inflight_messages 2 is the window',
    conf: 'max_inflight_messages 2',
    steps: [
      ...flooded('window/4', 1, 4),
      expect(messages(4, 'window/4', 1, 1, 2)),
      silent,
      send('40 02 0001'),
      expect(messages(4, 'window/4', 1, 3, 3)),
      silent
    ],
    since21: released
  },
  {
    name: 'max_inflight_messages 0 is no window',
    conf: 'max_inflight_messages 0',
    steps: [...flooded('window/5', 1, 40), expect(messages(4, 'window/5', 1, 1, 40))]
  },
  {
    name: 'max_inflight_bytes is a window too: as long as it is not reached the next one goes',
    conf: 'max_inflight_bytes 20',
    steps: [
      // Nine bytes each.
      ...flooded('window/6', 1, 4),
      expect(messages(4, 'window/6', 1, 1, 3)),
      silent,
      send('40 02 0001'),
      expect(messages(4, 'window/6', 1, 4, 4))
    ]
  },
  ...([
    ['2', '21 0002', 2],
    ['1', '21 0001', 1],
    ['65535, of which only max_inflight_messages are used', '21 ffff', 20]
  ] as const).map(
    ([name, property, count]): WireCase => ({
      name: `Receive Maximum ${name}`,
      steps: [
        send(connectV5('receive', properties(property)), subscribe(['receive'], 5, 1)),
        expect(connack5),
        suback5(1),
        ...publisher(send(connectV3('receive-publisher')), expect(connack3)),
        ...publisher(send(messages(4, 'receive', 1, 1, 20)), expect(numbered('40', 1, 20))),
        ...publisher(send(messages(4, 'receive', 1, 21, 24)), expect(numbered('40', 21, 24))),
        expect(messages(5, 'receive', 1, 1, count)),
        silent,
        send('40 02 0001'),
        expect(messages(5, 'receive', 1, count + 1, count + 1)),
        silent
      ],
      ...(count > 1 && { since21: released })
    })
  ),
  {
    name: 'a publisher beyond Receive Maximum of the broker gets PUBREC 0x97, and stays',
    conf: 'max_inflight_messages 2',
    steps: [
      send(connectV5('quota')),
      expect('20 0e 00 00 0b 22000a 27001e8480 210002'),
      send(messages(5, 'quota', 2, 1, 3)),
      expect('50 02 0001', '50 02 0002', '50 03 0003 97'),
      silent,
      send(pubrel(1)),
      expect('70 02 0001'),
      send(messages(5, 'quota', 2, 4, 4)),
      expect('50 02 0004')
    ]
  }
]

const big = (topic: string, qos: number, messageId: number, length: number, version: 4 | 5) =>
  publish(topic, { version, qos, messageId, payload: 'x'.repeat(length) })

const sizes: readonly WireCase[] = [
  {
    name: 'a message beyond Maximum Packet Size of its receiver is left out, and its publisher told nothing of it',
    steps: [
      send(connectV5('size-1', properties('27 00000028')), subscribe(['size/1'], 5, 1)),
      expect(connack5),
      suback5(1),
      ...publisher(send(connectV5('size-1-publisher')), expect(connack5)),
      // 2 + 2 + 6 + 1 + 29 bytes are 40: it just fits. Mosquitto does not count the first byte, so 41 are no question for a test.
      ...publisher(send(big('size/1', 0, 0, 29, 5), big('size/1', 0, 0, 31, 5)), silent),
      expect(big('size/1', 0, 0, 29, 5)),
      silent,
      ...publisher(send(big('size/1', 1, 5, 100, 5)), expect('40 02 0005')),
      silent,
      ...publisher(send(big('size/1', 1, 6, 27, 5)), expect('40 02 0006')),
      // Of QoS 1 or 2 the identifier of what was left out is used up.
      expect(big('size/1', 1, 2, 27, 5))
    ]
  },
  {
    name: 'a CONNACK beyond Maximum Packet Size of the client is not sent, and the connection ended',
    steps: [send(connectV5('size-2', properties('27 0000000e'))), closes]
  },
  { name: 'a CONNACK that just fits is sent', steps: [send(connectV5('size-3', properties('27 00000010'))), expect(connack5)] },
  ...([4, 5] as const).flatMap((version): WireCase[] => {
    const conf = 'message_size_limit 10'
    const begin = [
      send(connect({ version, clientId: 'payload' }), subscribe(['payload'], version, 0)),
      ...(version === 4 ? [expect(connack3), suback(0)] : [expect(connack5), suback5(0)])
    ]
    const puback = version === 4 ? '40 02 0001' : '40 03 0001 95'
    const pubrec = version === 4 ? '50 02 0001' : '50 03 0001 95'
    return [
      {
        name: `a payload of just message_size_limit, level ${version}`,
        conf,
        steps: [...begin, send(big('payload', 1, 1, 10, version)), expect(big('payload', 0, 0, 10, version), '40 02 0001')]
      },
      { name: `a payload beyond message_size_limit, QoS 0, level ${version}`, conf, steps: [...begin, send(big('payload', 0, 1, 11, version)), silent] },
      {
        name: `a payload beyond message_size_limit, QoS 1, level ${version}`,
        conf,
        steps: [...begin, send(big('payload', 1, 1, 11, version)), expect(puback)]
      },
      {
        name: `a payload beyond message_size_limit, QoS 2, level ${version}`,
        conf,
        steps: [...begin, send(big('payload', 2, 1, 11, version)), expect(pubrec)]
      },
      {
        name: `a will beyond message_size_limit, level ${version}`,
        conf,
        steps: [
          send(connect({ version, clientId: 'payload-will', will: { topic: 'payload', payload: 'x'.repeat(11) } })),
          expect(version === 4 ? '20 02 00 05' : '20 03 00 95 00'),
          closes
        ]
      },
      {
        name: `a will of just message_size_limit, level ${version}`,
        conf,
        steps: [
          send(connect({ version, clientId: 'payload-will', will: { topic: 'payload', payload: 'x'.repeat(10) } })),
          expect(version === 4 ? connack3 : connack5),
          send('e000'),
          closes
        ]
      }
    ]
  }),
  {
    name: 'a packet beyond max_packet_size: DISCONNECT 0x95',
    conf: 'max_packet_size 1000',
    steps: [send(connectV5('packet')), expect('20 0e 00 00 0b 22000a 27000003e8 210014'), send(big('packet', 0, 0, 1000, 5)), expect('e0 01 95'), closes]
  },
  {
    name: 'a packet beyond max_packet_size ends the connection of MQTT 3.1.1',
    conf: 'max_packet_size 1000',
    steps: [send(connectV3('packet')), expect(connack3), send(big('packet', 0, 0, 1000, 4)), closes]
  },
  {
    name: 'its length alone is enough',
    conf: 'max_packet_size 1000',
    steps: [send(connectV5('packet')), expect('20 0e 00 00 0b 22000a 27000003e8 210014'), send('30 ffffff7f'), expect('e0 01 95'), closes]
  },
  {
    name: 'a packet of just max_packet_size is taken',
    conf: 'max_packet_size 1000',
    // 1 + 2 + 2 + 6 + 2 + 987 bytes.
    steps: [send(connectV3('packet')), expect(connack3), send(big('packet', 1, 1, 987, 4)), expect('40 02 0001')]
  }
]

const willOf = (qos: number, retain: boolean): RawConnect => ({ will: { topic: 'will', payload: 'x', qos, retain } })

const qualities: readonly WireCase[] = [
  ...([0, 1] as const).flatMap((maxQos): WireCase[] => {
    const conf = `max_qos ${maxQos}`
    const connack = `20 10 00 00 0d 22000a 27001e8480 210014 240${maxQos}`
    const above = maxQos + 1
    return [
      {
        name: 'PUBLISH above max_qos: DISCONNECT 0x9B',
        conf,
        steps: [send(connectV5('qos')), expect(connack), send(publish('qos', { version: 5, qos: above })), expect('e0 01 9b'), closes]
      },
      {
        name: 'PUBLISH above max_qos ends the connection of MQTT 3.1.1',
        conf,
        steps: [send(connectV3('qos')), expect(connack3), send(publish('qos', { qos: above })), closes]
      },
      {
        name: 'SUBACK grants at most max_qos, MQTT 5',
        conf,
        steps: [send(connectV5('qos'), subscribe(['qos'], 5, 2)), expect(connack), suback5(maxQos)]
      },
      {
        name: 'SUBACK grants at most max_qos, MQTT 3.1.1',
        conf,
        steps: [send(connectV3('qos'), subscribe(['qos'], 4, 2)), expect(connack3), suback(maxQos)]
      },
      {
        name: 'a will above max_qos: CONNACK 0x9B, which tells max_qos',
        conf,
        steps: [send(connectV5('qos', willOf(above, false))), expect(`20 05 00 9b 02 240${maxQos}`), closes]
      },
      {
        name: 'a will above max_qos ends the connection of MQTT 3.1.1',
        conf,
        steps: [send(connectV3('qos', willOf(above, false))), closes]
      }
    ]
  }),
  {
    name: 'a retained PUBLISH where there is none: DISCONNECT 0x9A',
    conf: 'retain_available false',
    steps: [
      send(connectV5('retain')),
      expect('20 10 00 00 0d 22000a 2500 27001e8480 210014'),
      send(publish('retain', { version: 5, retain: true })),
      expect('e0 01 9a'),
      closes
    ]
  },
  {
    name: 'a retained PUBLISH where there is none ends the connection of MQTT 3.1.1',
    conf: 'retain_available false',
    steps: [send(connectV3('retain')), expect(connack3), send(publish('retain', { retain: true })), closes]
  },
  {
    name: 'a retained will where there is none: CONNACK 0x9A',
    conf: 'retain_available false',
    steps: [send(connectV5('retain', willOf(0, true))), expect('20 03 00 9a 00'), closes]
  },
  {
    name: 'a retained will where there is none ends the connection of MQTT 3.1.1',
    conf: 'retain_available false',
    steps: [send(connectV3('retain', willOf(0, true))), closes]
  }
]

const keepAlives: readonly WireCase[] = ([3, 4] as const).flatMap(version => [
  ...[0, 31, 65535].map(keepalive => ({
    name: `keep alive ${keepalive} above max_keepalive: CONNACK 2, level ${version}`,
    conf: 'max_keepalive 30',
    steps: [send(connect({ version, clientId: 'keep', keepalive })), expect('20 02 00 02'), closes],
    since21: 'MQTT 3 was let in'
  })),
  {
    name: `keep alive 30 of max_keepalive, level ${version}`,
    conf: 'max_keepalive 30',
    steps: [send(connect({ version, clientId: 'keep', keepalive: 30 })), expect(connack3)]
  }
])

const connections: readonly WireCase[] = [
  {
    name: 'beyond max_connections the socket is closed without a word',
    conf: 'max_connections 1',
    alone: true,
    steps: [send(connectV5('one')), expect(connack5), ...by('second', closes)]
  },
  {
    name: 'a connection without CONNECT counts for max_connections',
    conf: 'max_connections 1',
    alone: true,
    steps: [send('10'), ...by('second', closes), drop]
  },
  {
    name: 'beyond global_max_connections the socket is closed without a word',
    conf: 'global_max_connections 1',
    alone: true,
    steps: [send(connectV5('one')), expect(connack5), ...by('second', closes)],
    since21: 'global_max_connections is new'
  },
  {
    name: 'beyond global_max_clients: CONNACK 0x89 for MQTT 5, nothing for MQTT 3.1.1',
    conf: 'global_max_clients 1',
    alone: true,
    steps: [
      send(connectV5('one')),
      expect(connack5),
      ...by('second', send(connectV5('two')), expect('20 03 00 89 00'), closes),
      ...by('third', send(connectV3('three')), closes)
    ],
    since21: 'global_max_clients is new'
  },
  {
    name: 'a session without connection counts for global_max_clients',
    conf: 'global_max_clients 1',
    alone: true,
    steps: [send(connectV5('one', keeps)), expect(connack5), send('e000'), closes, send(connectV5('two')), expect('20 03 00 89 00'), closes],
    since21: 'global_max_clients is new'
  }
]

const aliased = (topic: string, number: number): Buffer =>
  publish(topic, { version: 5, qos: 0, properties: Buffer.from([0x23, 0, number]), payload: 'x' })
const alias = (number: number): Buffer => Buffer.from([0x23, 0, number])
const numberedAlias = (topic: string, number: number, messageId: number, qos = 1): Buffer =>
  publish(topic, { version: 5, qos, messageId, properties: alias(number), payload: 'x' })
const plain = (topic: string): Buffer => publish(topic, { version: 5, payload: 'x' })

/** A receiver with that Topic Alias Maximum, and messages on these topics, as they come. */
const receives = (alias: string, topics: readonly string[], come: readonly Buffer[]): Step[] => [
  send(connectV5('alias', properties(`22 ${alias}`)), subscribe(['alias/#'], 5, 0)),
  expect(connack5),
  suback5(0),
  ...publisher(send(connectV5('alias-publisher'), ...topics.map(plain)), expect(connack5), silent),
  expect(...come)
]
const many = Array.from({ length: 11 }, (_, i) => `alias/${i + 1}`)
const outgoing = 'the broker used no aliases'

const aliases: readonly WireCase[] = [
  {
    name: 'the broker gives each new topic an alias, and then leaves the topic out, as far as the client allows',
    steps: receives('0002', ['alias/a', 'alias/a', 'alias/b', 'alias/c', 'alias/b', 'alias/c', 'alias/a'], [
      aliased('alias/a', 1),
      aliased('', 1),
      aliased('alias/b', 2),
      plain('alias/c'),
      aliased('', 2),
      plain('alias/c'),
      aliased('', 1)
    ]),
    since21: outgoing
  },
  {
    name: 'no more than ten aliases, whatever the client allows',
    steps: receives('ffff', [...many, ...many], [
      ...many.map((topic, i) => (i < 10 ? aliased(topic, i + 1) : plain(topic))),
      ...many.map((topic, i) => (i < 10 ? aliased('', i + 1) : plain(topic)))
    ]),
    since21: outgoing
  },
  {
    name: 'max_topic_alias_broker 1 is the limit of the broker',
    conf: 'max_topic_alias_broker 1',
    steps: receives('000a', ['alias/a', 'alias/b', 'alias/a'], [aliased('alias/a', 1), plain('alias/b'), aliased('', 1)]),
    since21: outgoing
  },
  {
    name: 'max_topic_alias_broker 0: none',
    conf: 'max_topic_alias_broker 0',
    steps: receives('000a', ['alias/a', 'alias/a'], [plain('alias/a'), plain('alias/a')]),
    since21: 'max_topic_alias_broker is new'
  },
  {
    name: 'a client that allows no alias gets none',
    steps: receives('0000', ['alias/a', 'alias/a'], [plain('alias/a'), plain('alias/a')])
  },
  {
    name: 'aliases begin anew with every connection',
    steps: [
      ...receives('0001', ['alias/a'], [aliased('alias/a', 1)]),
      send('e000'),
      closes,
      send(connectV5('alias', properties('22 0001')), subscribe(['alias/#'], 5, 0)),
      expect(connack5),
      suback5(0),
      ...publisher(send(plain('alias/b')), silent),
      expect(aliased('alias/b', 1))
    ],
    since21: outgoing
  },
  {
    name: 'an alias of a publisher stands for its topic, until it is given to another; the receiver does not see it',
    steps: [
      send(connectV5('in-alias'), subscribe(['in/#'], 5, 0)),
      expect(connack5),
      suback5(0),
      send(aliased('in/a', 10), aliased('', 10), aliased('in/b', 10), aliased('', 10), aliased('in/a', 1), aliased('', 1), aliased('', 10)),
      expect(plain('in/a'), plain('in/a'), plain('in/b'), plain('in/b'), plain('in/a'), plain('in/a'), plain('in/b'))
    ]
  },
  {
    name: 'an alias where max_topic_alias is 0: DISCONNECT 0x94',
    conf: 'max_topic_alias 0',
    steps: [send(connectV5('in-alias')), expect('20 0b 00 00 08 27001e8480 210014'), send(aliased('in/a', 1)), expect('e0 01 94'), closes]
  },
  {
    name: 'aliases of a publisher end with its connection',
    steps: [
      send(connectV5('in-alias'), aliased('in/c', 3)),
      expect(connack5),
      send('e000'),
      closes,
      send(connectV5('in-alias'), aliased('', 3)),
      expect(connack5, 'e0 01 81'),
      closes
    ],
    since21: 'the reason code was another'
  },
  {
    name: 'an alias counts though its message is denied',
    steps: [
      send(connectV5('in-denied')),
      expect(connack5),
      send(numberedAlias('$SYS/a', 1, 1), numberedAlias('', 1, 2)),
      expect('40 03 0001 87', '40 03 0002 87')
    ]
  },
  {
    name: 'an alias counts though its message is too large',
    conf: 'message_size_limit 10',
    steps: [
      send(connectV5('in-large'), subscribe(['in/large'], 5, 0)),
      expect(connack5, '90 04 0007 00 00'),
      send(publish('in/large', { version: 5, properties: alias(4), payload: 'x'.repeat(11) }), aliased('', 4)),
      expect(plain('in/large'))
    ]
  },
  {
    name: 'an alias stands for the topic of a QoS 2 message, also when that comes again, whatever the alias stands for by then',
    steps: [
      send(connectV5('in-two'), subscribe(['in/two/#'], 5, 0)),
      expect(connack5, '90 04 0007 00 00'),
      send(aliased('in/two/a', 1)),
      expect(plain('in/two/a')),
      send(numberedAlias('', 1, 7, 2), numberedAlias('', 1, 7, 2), aliased('in/two/b', 1)),
      expect('50 02 0007', '50 02 0007', plain('in/two/b')),
      send(pubrel(7)),
      expect(plain('in/two/a'), '70 02 0007')
    ]
  },
  {
    name: 'Topic Alias 0: DISCONNECT 0x82',
    steps: [send(connectV5('in-alias')), expect(connack5), send(aliased('in/a', 0)), expect('e0 01 82'), closes],
    since21: 'the reason code was another'
  }
]

export const limits: readonly WireCase[] = [...windows, ...sizes, ...qualities, ...keepAlives, ...connections, ...aliases]
