// Packets that are malformed or come at the wrong time: a client of MQTT 5 is told the reason in DISCONNECT, one of MQTT 3 just loses its connection.

import { connect, connectV3, connectV5, field, packet, pubrel, publish, type RawConnect, subscribe, uint16 } from '../../helpers/raw-mqtt.js'
import { by, type Bytes, closes, expect, hexOf, send, type WireCase } from '../../helpers/wire.js'
import { connack3, connack5, keeps } from './encodings.js'

type Row = readonly [name: string, bytes: Bytes]

/** Each is answered with DISCONNECT and this reason code, then the end of the connection. */
const refused5 = (code: string, rows: readonly Row[]): WireCase[] =>
  rows.map(([name, bytes]) => ({
    name: `MQTT 5: ${name}: ${code}`,
    steps: [send(connectV5('m5')), expect(connack5), send(bytes), expect('e0 01', code), closes]
  }))

/** Each ends the connection of MQTT 3.1.1 without a word. */
const refused4 = (rows: readonly Row[]): WireCase[] =>
  rows.map(([name, bytes]) => ({
    name: `MQTT 3.1.1: ${name}`,
    steps: [send(connectV3('m4')), expect(connack3), send(bytes), closes]
  }))

/** And that of 3.1 as well. */
const refused3 = (rows: readonly Row[]): WireCase[] => [
  ...refused4(rows),
  ...rows.map(([name, bytes]) => ({
    name: `MQTT 3.1: ${name}`,
    steps: [send(connect({ version: 3, clientId: 'm3' })), expect(connack3), send(bytes), closes]
  }))
]

/** Texts that are no UTF-8 string of MQTT. */
const wrongTexts: readonly (readonly [name: string, bytes: Buffer])[] = [
  ['U+0000', Buffer.from('a\0b')],
  ['U+0001', Buffer.from('a\u0001b')],
  ['U+001F', Buffer.from('a\u001fb')],
  ['U+007F', Buffer.from('a\u007fb')],
  ['U+0080', Buffer.from('a\u0080b')],
  ['U+009F', Buffer.from('a\u009fb')],
  ['U+D800, a surrogate', Buffer.from('61eda08062', 'hex')],
  ['U+DFFF, a surrogate', Buffer.from('61edbfbf62', 'hex')],
  ['U+FFFF', Buffer.from('61efbfbf62', 'hex')],
  ['U+FFFE', Buffer.from('61efbfbe62', 'hex')],
  ['U+1FFFF', Buffer.from('61f09fbfbf62', 'hex')],
  ['an overlong U+0000', Buffer.from('61c08062', 'hex')],
  ['an overlong /', Buffer.from('61c0af62', 'hex')],
  ['above U+10FFFF', Buffer.from('61f490808062', 'hex')],
  ['a byte that never begins a character', Buffer.from('61ff62', 'hex')],
  ['a character that is cut off', Buffer.from('61c3', 'hex')],
  ['a continuation without beginning', Buffer.from('618062', 'hex')]
]

const wrongNames: readonly (readonly [name: string, text: string])[] = [
  ['a + in a topic name', 'a/+'],
  ['a # in a topic name', '#'],
  ['a + inside a level of a topic name', 'a+'],
  ['more than 200 levels in a topic name', `a${'/a'.repeat(201)}`]
]

const wrongFilters: readonly (readonly [name: string, text: string])[] = [
  ['an empty filter', ''],
  ['a filter +a', '+a'],
  ['a filter a+', 'a+'],
  ['a filter a#', 'a#'],
  ['a filter #a', '#a'],
  ['a filter #/a', '#/a'],
  ['a filter a/#/b', 'a/#/b'],
  ['a filter a/b+/c', 'a/b+/c'],
  ['a filter a/+b', 'a/+b'],
  ['more than 200 levels in a filter', `a${'/a'.repeat(201)}`]
]

const publishOf = (version: 4 | 5, topic: string | Buffer) => publish(topic, { version })
const subscribeOf = (version: 4 | 5, filter: string | Buffer) => subscribe([filter], version, 0)
const unsubscribeOf = (version: 4 | 5, filter: string | Buffer) =>
  packet(0xa2, uint16(8), Buffer.from(version === 5 ? '00' : '', 'hex'), field(filter))

const texts = (version: 4 | 5): readonly Row[] => [
  ...wrongTexts.flatMap(([name, bytes]): Row[] => [
    [`${name} in the topic of PUBLISH`, publishOf(version, bytes)],
    [`${name} in the filter of SUBSCRIBE`, subscribeOf(version, bytes)],
    [`${name} in the filter of UNSUBSCRIBE`, unsubscribeOf(version, bytes)]
  ]),
  ...wrongNames.map(([name, text]): Row => [name, publishOf(version, text)]),
  ...wrongFilters.flatMap(([name, text]): Row[] => [
    [`${name}, SUBSCRIBE`, subscribeOf(version, text)],
    [`${name}, UNSUBSCRIBE`, unsubscribeOf(version, text)]
  ])
]

/** A PUBLISH of QoS 0 to `t` with these properties. */
const publishWith = (properties: string, head = '30'): Buffer => {
  const bytes = Buffer.from(hexOf(properties), 'hex')
  return publish('t', { version: 5, qos: (Number.parseInt(head, 16) >> 1) & 3, properties: bytes })
}
const subscribeWith = (properties: string): Buffer => {
  const bytes = Buffer.from(hexOf(properties), 'hex')
  return packet(0x82, uint16(1), Buffer.from([bytes.length]), bytes, field('t'), Buffer.from([0]))
}
const unsubscribeWith = (properties: string): Buffer => {
  const bytes = Buffer.from(hexOf(properties), 'hex')
  return packet(0xa2, uint16(1), Buffer.from([bytes.length]), bytes, field('t'))
}

const acknowledgements = [
  ['PUBACK', '40'],
  ['PUBREC', '50'],
  ['PUBREL', '62'],
  ['PUBCOMP', '70']
] as const

const userProperty = '26 0001 6b 0001 76'

const malformed5: readonly WireCase[] = refused5('81', [
  ['PUBACK with flags', '41 02 0001'],
  ['PUBREC with flags', '51 02 0001'],
  ['PUBCOMP with flags', '71 02 0001'],
  ['SUBSCRIBE without its flags', '80 07 0001 00 0001 74 00'],
  ['SUBSCRIBE with other flags', '83 07 0001 00 0001 74 00'],
  ['UNSUBSCRIBE without its flags', 'a0 06 0001 00 0001 74'],
  ['UNSUBSCRIBE with other flags', 'a3 06 0001 00 0001 74'],
  ['PINGREQ with flags', 'c1 00'],
  ['PUBLISH without anything', '30 00'],
  ['PUBLISH with half a length', '30 01 00'],
  ['PUBLISH with a topic that is cut off', '30 04 0005 6161'],
  ['PUBLISH without property length', '30 03 0001 74'],
  ['PUBLISH of QoS 1 without packet identifier', '32 03 0001 74'],
  ['PUBLISH of QoS 1 with half a packet identifier', '32 04 0001 74 00'],
  ['PUBLISH with properties that are cut off', '30 05 0001 74 02 01'],
  ['PUBLISH with a property without value', '30 05 0001 74 01 01'],
  ['PUBLISH with a property whose text is cut off', '30 09 0001 74 05 03 0009 6161'],
  ['PUBLISH with a property length beyond the packet', '30 06 0001 74 7f 0100'],
  ['PUBLISH with a property length in more than four bytes', '30 08 0001 74 8080808001'],
  ['PUBLISH with an unknown property', publishWith('7f 00')],
  ['PUBLISH without topic and alias', '30 03 0000 00'],
  ['PUBLISH of QoS 3', '36 06 0001 74 0001 00'],
  ['PUBLISH of QoS 0 with DUP', '38 04 0001 74 00'],
  ['PUBLISH with an alias that stands for nothing', '30 06 0000 03 23 0005'],
  ['SUBSCRIBE without anything', '82 00'],
  ['SUBSCRIBE without properties', '82 02 0001'],
  ['SUBSCRIBE without filter', '82 03 0001 00'],
  ['SUBSCRIBE without options', '82 06 0001 00 0001 74'],
  ['SUBSCRIBE with a filter that is cut off', '82 07 0001 00 0009 74 00'],
  ['SUBSCRIBE with packet identifier 0', '82 07 0000 00 0001 74 00'],
  ['SUBSCRIBE with QoS 3', '82 07 0001 00 0001 74 03'],
  ['SUBSCRIBE with Retain Handling 3', '82 07 0001 00 0001 74 30'],
  ['SUBSCRIBE with reserved bit 6', '82 07 0001 00 0001 74 40'],
  ['SUBSCRIBE with reserved bit 7', '82 07 0001 00 0001 74 80'],
  ['SUBSCRIBE with a property that belongs elsewhere', subscribeWith('01 00')],
  ['SUBSCRIBE with an unknown property', subscribeWith('7f 00')],
  ['SUBSCRIBE with a property that is cut off', '82 09 0001 02 0b 80 0001 74 00'],
  ['UNSUBSCRIBE without anything', 'a2 00'],
  ['UNSUBSCRIBE without properties', 'a2 02 0001'],
  ['UNSUBSCRIBE without filter', 'a2 03 0001 00'],
  ['UNSUBSCRIBE with a filter that is cut off', 'a2 06 0001 00 0009 74'],
  ['UNSUBSCRIBE with packet identifier 0', 'a2 06 0000 00 0001 74'],
  ['UNSUBSCRIBE with a property that belongs elsewhere', unsubscribeWith('0b 01')],
  ['UNSUBSCRIBE with an unknown property', unsubscribeWith('7f 00')],
  ['SUBSCRIBE to $share/g+/t', subscribeOf(5, '$share/g+/t')],
  ['SUBSCRIBE to $share/g#/t', subscribeOf(5, '$share/g#/t')],
  ['PINGREQ with a byte too many', 'c0 01 00'],
  ['DISCONNECT with a property length that is too large', 'e0 02 00 05'],
  ['DISCONNECT with a property that is cut off', 'e0 04 00 02 11 00'],
  ...acknowledgements.flatMap(([name, head]): Row[] => [
    [`${name} without anything`, `${head} 00`],
    [`${name} with half a packet identifier`, `${head} 01 00`],
    [`${name} with properties that are cut off`, `${head} 04 0001 00 05`],
    [`${name} with bytes behind its properties`, `${head} 05 0001 00 00 00`]
  ]),
  ...texts(5)
])

const protocolErrors5: readonly WireCase[] = refused5('82', [
  ['PUBREL without its flags', '60 02 0001'],
  ['PUBREL with other flags', '63 02 0001'],
  ['DISCONNECT with flags', 'e1 00'],
  ['AUTH with flags', 'f1 00'],
  ['CONNACK', '20 03 00 00 00'],
  ['SUBACK', '90 04 0001 00 00'],
  ['UNSUBACK', 'b0 04 0001 00 00'],
  ['PINGRESP', 'd0 00'],
  ['AUTH without an authentication method in CONNECT', 'f0 00'],
  ['AUTH to go on without an authentication method in CONNECT', 'f0 09 18 07 15 0004 74657374'],
  ['packet type 0', '00 00'],
  ['PUBLISH of QoS 1 with packet identifier 0', '32 06 0001 74 0000 00'],
  ['PUBLISH of QoS 2 with packet identifier 0', '34 06 0001 74 0000 00'],
  ['Payload Format Indicator twice', publishWith('01 00 01 00')],
  ['Payload Format Indicator 2', publishWith('01 02')],
  ['Message Expiry Interval twice', publishWith('02 00000001 02 00000001')],
  ['Content Type twice', publishWith('03 0001 61 03 0001 61')],
  ['Response Topic twice', publishWith('08 0001 61 08 0001 61')],
  ['Response Topic with a wildcard', publishWith('08 0003 612f23')],
  ['Response Topic without a character', publishWith('08 0000')],
  ['Correlation Data twice', publishWith('09 0001 61 09 0001 61')],
  ['Topic Alias twice', publishWith('23 0001 23 0001')],
  ['Topic Alias 0', publishWith('23 0000')],
  ['Subscription Identifier in PUBLISH', publishWith('0b 01')],
  ['Session Expiry Interval in PUBLISH', publishWith('11 00000001')],
  ['Reason String in PUBLISH', publishWith('1f 0001 61')],
  ['Subscription Identifier 0', subscribeWith('0b 00')],
  ['Session Expiry Interval raised from 0 by DISCONNECT', 'e0 07 00 05 11 00000001'],
  ['Session Expiry Interval twice in DISCONNECT', 'e0 0c 00 0a 11 00000000 11 00000000'],
  ['a property in DISCONNECT that belongs elsewhere', 'e0 04 00 02 01 00'],
  ...acknowledgements.flatMap(([name, head]): Row[] => [
    [`${name} with packet identifier 0`, `${head} 02 0000`],
    [`${name} with an unknown reason code`, `${head} 03 0001 02`],
    [`${name} with a property that belongs elsewhere`, `${head} 06 0001 00 02 01 00`],
    [`${name} with two Reason Strings`, `${head} 0c 0001 00 08 1f 0001 61 1f 0001 61`]
  ]),
  ...['$share', '$share/', '$share/g', '$share/g/', '$share//t'].map(
    (filter): Row => [`SUBSCRIBE to ${filter}`, subscribeOf(5, filter)]
  ),
  ...['$share', '$share/', '$share/g', '$share/g/', '$share//t'].map(
    (filter): Row => [`UNSUBSCRIBE from ${filter}`, unsubscribeOf(5, filter)]
  ),
  ['SUBSCRIBE to a shared filter with No Local', subscribe(['$share/g/t'], 5, 4)]
])

/** What is checked in CONNECT is answered with CONNACK, what cannot be read at all with nothing. */
const properties = (hex: string): RawConnect => ({ properties: Buffer.from(hexOf(hex), 'hex') })
const will = (hex = '', options = {}): RawConnect => ({ will: { topic: 'w', payload: 'x', properties: Buffer.from(hexOf(hex), 'hex'), ...options } })

const refusedConnects = (answer: string, rows: readonly Row[]): WireCase[] =>
  rows.map(([name, bytes]) => ({
    name: `CONNECT: ${name}: ${answer === '' ? 'no answer' : answer}`,
    steps: [send(bytes), ...(answer === '' ? [] : [expect(answer)]), closes]
  }))

/** CONNECT with its flags and all that is behind them. */
const flagged = (version: number, flags: string, ...rest: readonly string[]): Buffer =>
  packet(0x10, field(version === 3 ? 'MQIsdp' : 'MQTT'), Buffer.from([version]), Buffer.from(hexOf([flags, '003c', ...rest].join('')), 'hex'))
const named = (name: string | Buffer, level: number, id = 'n'): Buffer => packet(0x10, field(name), Buffer.from([level, 2, 0, 60]), field(id))

const connects: readonly WireCase[] = [
  ...refusedConnects('20 03 00 84 00', [
    ['MQTT level 6', named('MQTT', 6)],
    ['MQTT level 2', named('MQTT', 2)],
    ['MQTT level 0', named('MQTT', 0)],
    ['MQTT level 127', named('MQTT', 127)]
  ]),
  ...refusedConnects('20 02 00 01', [
    ['MQTT level 3', named('MQTT', 3)],
    ['MQIsdp level 4', named('MQIsdp', 4)]
  ]),
  ...refusedConnects('20 02 00 02', [['MQIsdp without client identifier', connect({ version: 3, clientId: '' })]]),
  ...refusedConnects('', [
    ['another name', named('MQTX', 4)],
    ['a name in lower case', named('mqtt', 4)],
    ['a name that is longer', named('MQTTT', 4)],
    ['a name of six letters', named('MQIsdq', 3)],
    ['no name', named('', 4)],
    ['nothing in it', '10 00'],
    ['a name that is cut off', '10 04 0004 4d51'],
    ['no level', '10 06 0004 4d515454'],
    ['flags of the packet', '11 0d 0004 4d515454 04 02 003c 0001 6e']
  ]),
  ...([4, 5] as const).flatMap(version =>
    refusedConnects('', [
      [`reserved flag, level ${version}`, flagged(version, '03', version === 5 ? '00' : '', '0001 6e')],
      [`will QoS 3, level ${version}`, flagged(version, '1e', version === 5 ? '00' : '', '0001 6e', version === 5 ? '00' : '', '0001 77 0001 78')],
      [`will QoS without will, level ${version}`, flagged(version, '0a', version === 5 ? '00' : '', '0001 6e')],
      [`will retain without will, level ${version}`, flagged(version, '22', version === 5 ? '00' : '', '0001 6e')],
      [`user name flag without user name, level ${version}`, flagged(version, '82', version === 5 ? '00' : '', '0001 6e')],
      [`password flag without password, level ${version}`, flagged(version, 'c2', version === 5 ? '00' : '', '0001 6e 0001 75')],
      [`an identifier that is cut off, level ${version}`, flagged(version, '02', version === 5 ? '00' : '', '0009 6e')],
      ...wrongTexts.flatMap(([name, bytes]): Row[] => [
        [`${name} in the user name, level ${version}`, connect({ version, clientId: 'n', username: bytes })],
        [`${name} in the topic of the will, level ${version}`, connect({ version, clientId: 'n', will: { topic: bytes, payload: 'x' } })]
      ]),
      [`+ in the topic of the will, level ${version}`, connect({ version, clientId: 'n', will: { topic: 'a/+', payload: 'x' } })],
      [`# in the topic of the will, level ${version}`, connect({ version, clientId: 'n', will: { topic: '#', payload: 'x' } })]
    ])
  ),
  ...refusedConnects('', [
    ['will flag without will, level 4', flagged(4, '06', '0001 6e')],
    ['a will that is cut off, level 4', flagged(4, '06', '0001 6e 0001 77 0002 78')],
    ['bytes behind it, level 4', flagged(4, '02', '0001 6e 00')],
    ['bytes behind it, level 3', flagged(3, '02', '0001 6e 00')],
    ...wrongTexts.map(([name, bytes]): Row => [`${name} in the client identifier, level 4`, connect({ clientId: bytes })]),
    ['an empty topic of the will, level 4', connect({ version: 4, clientId: 'n', will: { topic: '', payload: 'x' } })],
    ['password without user name, level 4', connect({ version: 4, clientId: 'n', password: 'p' })],
    ['password without user name, level 3', connect({ version: 3, clientId: 'n', password: 'p' })]
  ]),
  {
    name: 'CONNECT: MQTT 5 allows a password without user name',
    steps: [send(connectV5('n', { password: 'p' })), expect(connack5)]
  },
  {
    name: 'CONNECT: MQIsdp allows more than 23 characters in the client identifier',
    steps: [send(connect({ version: 3, clientId: 'a-client-identifier-of-more-than-23-characters' })), expect(connack3)]
  },
  {
    name: 'CONNECT: a will without payload',
    steps: [send(connectV3('n-will', { will: { topic: 'w', payload: '' } })), expect(connack3), send('e000'), closes]
  },
  {
    name: 'CONNECT: the level of a bridge',
    steps: [send(named('MQTT', 0x84, 'bridge-4')), expect(connack3)]
  },
  ...refusedConnects('20 03 00 82 00', [
    ['Session Expiry Interval twice', connectV5('n', properties('11 00000001 11 00000001'))],
    ['Receive Maximum twice', connectV5('n', properties('21 0001 21 0001'))],
    ['Receive Maximum 0', connectV5('n', properties('21 0000'))],
    ['Maximum Packet Size twice', connectV5('n', properties('27 00000100 27 00000100'))],
    ['Maximum Packet Size 0', connectV5('n', properties('27 00000000'))],
    ['Topic Alias Maximum twice', connectV5('n', properties('22 0001 22 0001'))],
    ['Request Response Information twice', connectV5('n', properties('19 00 19 00'))],
    ['Request Response Information 2', connectV5('n', properties('19 02'))],
    ['Request Problem Information twice', connectV5('n', properties('17 00 17 00'))],
    ['Request Problem Information 2', connectV5('n', properties('17 02'))],
    ['Authentication Method twice', connectV5('n', properties('15 0001 61 15 0001 61'))],
    ['Payload Format Indicator', connectV5('n', properties('01 00'))],
    ['Topic Alias', connectV5('n', properties('23 0001'))],
    ['Subscription Identifier', connectV5('n', properties('0b 01'))],
    ['Will Delay Interval outside the will', connectV5('n', properties('18 00000001'))],
    ['will: Will Delay Interval twice', connectV5('n', will('18 00000001 18 00000001'))],
    ['will: Payload Format Indicator twice', connectV5('n', will('01 00 01 00'))],
    ['will: Payload Format Indicator 2', connectV5('n', will('01 02'))],
    ['will: Topic Alias', connectV5('n', will('23 0001'))],
    ['will: an empty topic', connectV5('n', will('', { topic: '' }))]
  ]),
  ...refusedConnects('20 03 00 81 00', [
    ['an unknown property', connectV5('n', properties('7f 00'))],
    ['properties that are cut off', connectV5('n', properties('11 0000'))],
    ['a property whose text is cut off', connectV5('n', properties('15 0009 61'))],
    ['a property length beyond the packet', flagged(5, '02', '7f 0001 6e')],
    ['will flag without will', flagged(5, '06', '00 0001 6e')],
    ['will without topic', flagged(5, '06', '00 0001 6e 00')],
    ['a will that is cut off', flagged(5, '06', '00 0001 6e 00 0001 77 0002 78')],
    ['bytes behind it', flagged(5, '02', '00 0001 6e 00')]
  ]),
  ...refusedConnects(
    '20 03 00 85 00',
    wrongTexts.map(([name, bytes]): Row => [`${name} in the client identifier, MQTT 5`, connectV5(bytes)])
  )
]

const connectAllowed: readonly WireCase[] = [
  {
    name: 'CONNECT: every property of MQTT 5 at once',
    steps: [
      send(connectV5('n-all', properties(`11 00000000 21 000a 27 00010000 22 0005 19 01 17 01 ${userProperty} ${userProperty}`))),
      expect(connack5)
    ]
  },
  ...([3, 4, 5] as const).flatMap((version): WireCase[] => [
    {
      name: `a second CONNECT ends the connection, level ${version}`,
      steps: [
        send(connect({ version, clientId: 'n-twice' })),
        expect(version === 5 ? connack5 : connack3),
        send(connect({ version, clientId: 'n-twice' })),
        closes
      ]
    }
  ]),
  ...(
    [
      ['PUBLISH', '30 04 0001 74 78'],
      ['PUBACK', '40 02 0001'],
      ['PUBREC', '50 02 0001'],
      ['PUBREL', '62 02 0001'],
      ['PUBCOMP', '70 02 0001'],
      ['SUBSCRIBE', '82 06 0001 0001 74 00'],
      ['UNSUBSCRIBE', 'a2 05 0001 0001 74'],
      ['PINGREQ', 'c0 00'],
      ['DISCONNECT', 'e0 00'],
      ['AUTH', 'f0 00'],
      ['CONNACK', '20 02 00 00'],
      ['packet type 0', '00 00'],
      ['HTTP', Buffer.from('GET / HTTP/1.1\r\n\r\n')],
      ['a TLS ClientHello', '16 0301 0005 01 000001 00']
    ] as const
  ).map(([name, bytes]) => ({ name: `${name} before CONNECT ends the connection`, steps: [send(bytes), closes] }))
]

/** MQTT 3.1 knows no reserved flags, and a SUBSCRIBE for nothing. */
const malformed4 = refused4([
  ['PUBACK with flags', '41 02 0001'],
  ['PUBREC with flags', '51 02 0001'],
  ['PUBREL without its flags', '60 02 0001'],
  ['PUBCOMP with flags', '71 02 0001'],
  ['SUBSCRIBE without its flags', '80 06 0001 0001 74 00'],
  ['UNSUBSCRIBE without its flags', 'a0 05 0001 0001 74'],
  ['PINGREQ with flags', 'c1 00'],
  ['DISCONNECT with flags', 'e1 00'],
  ['SUBSCRIBE without filter', '82 02 0001'],
  ['UNSUBSCRIBE without filter', 'a2 02 0001']
])

const malformed3 = refused3([
  ['CONNACK', '20 02 00 00'],
  ['SUBACK', '90 03 0001 00'],
  ['UNSUBACK', 'b0 02 0001'],
  ['PINGRESP', 'd0 00'],
  ['AUTH', 'f0 00'],
  ['packet type 0', '00 00'],
  ['a length in more than four bytes', 'c0 8080808000'],
  ['PUBLISH without anything', '30 00'],
  ['PUBLISH with half a length', '30 01 00'],
  ['PUBLISH without topic', '30 02 0000'],
  ['PUBLISH with a topic that is cut off', '30 04 0005 6161'],
  ['PUBLISH of QoS 1 without packet identifier', '32 03 0001 74'],
  ['PUBLISH of QoS 1 with packet identifier 0', '32 05 0001 74 0000'],
  ['PUBLISH of QoS 2 with packet identifier 0', '34 05 0001 74 0000'],
  ['PUBLISH of QoS 0 with DUP', '38 03 0001 74'],
  ['PUBLISH of QoS 3', '36 05 0001 74 0001'],
  ['SUBSCRIBE without anything', '82 00'],
  ['SUBSCRIBE without QoS', '82 05 0001 0001 74'],
  ['SUBSCRIBE with packet identifier 0', '82 06 0000 0001 74 00'],
  ['SUBSCRIBE with QoS 3', '82 06 0001 0001 74 03'],
  ['SUBSCRIBE with reserved bits', '82 06 0001 0001 74 04'],
  ['SUBSCRIBE with a filter that is cut off', '82 06 0001 0009 74 00'],
  ['UNSUBSCRIBE without anything', 'a2 00'],
  ['UNSUBSCRIBE with packet identifier 0', 'a2 05 0000 0001 74'],
  ['UNSUBSCRIBE with a filter that is cut off', 'a2 05 0001 0009 74'],
  ['UNSUBSCRIBE with bytes behind it', 'a2 06 0001 0001 74 00'],
  ['PINGREQ with a byte too many', 'c0 01 00'],
  ['DISCONNECT with a byte too many', 'e0 01 00'],
  ...acknowledgements.flatMap(([name, head]): Row[] => [
    [`${name} without anything`, `${head} 00`],
    [`${name} with half a packet identifier`, `${head} 01 00`],
    [`${name} with packet identifier 0`, `${head} 02 0000`],
    [`${name} with a byte too many`, `${head} 03 0001 00`]
  ]),
  ...texts(4)
])

/** The 200th / is allowed, in names and filters. */
const deep = `a${'/a'.repeat(200)}`

const allowed: readonly WireCase[] = [
  {
    name: 'MQTT 5: a length in more than four bytes ends the connection without a word, since it is no packet',
    steps: [send(connectV5('m5')), expect(connack5), send('c0 8080808000'), closes]
  },
  {
    name: 'a topic name with 200 slashes',
    steps: [send(connectV3('deep')), expect(connack3), send(publish(deep, { qos: 1, messageId: 1 })), expect('4002 0001')]
  },
  { name: 'a filter with 200 slashes', steps: [send(connectV3('deep-2')), expect(connack3), send(subscribe([deep], 4, 1)), expect('9003 0007 01')] }
]

const flows: readonly WireCase[] = [
  ...([1, 2] as const).flatMap(qos =>
    acknowledgements
      .filter(([name]) => !(qos === 1 ? ['PUBACK', 'PUBREL'] : ['PUBREC', 'PUBREL']).includes(name))
      .flatMap(([name, head]): WireCase[] => [
        {
          name: `MQTT 5: ${name} for a message of QoS ${qos}: 82`,
          steps: [
            send(connectV5('flow-5'), subscribe(['flow/5'], 5, qos)),
            expect(connack5, '9004 0007 00', Buffer.from([qos])),
            ...by('publisher', send(connectV5('flow-5-publisher'), publish('flow/5', { version: 5, qos, messageId: 1 }), qos === 2 ? pubrel(1) : '')),
            ...by('publisher', expect(connack5, qos === 2 ? '5002 0001 7002 0001' : '4002 0001')),
            expect(qos === 2 ? '34' : '32', '0c 0006 666c6f772f35 0001 00 78'),
            send(`${head} 02 0001`),
            expect('e0 01 82'),
            closes
          ]
        },
        {
          name: `MQTT 3.1.1: ${name} for a message of QoS ${qos} ends the connection`,
          steps: [
            send(connectV3('flow-4'), subscribe(['flow/4'], 4, qos)),
            expect(connack3, '9003 0007', Buffer.from([qos])),
            ...by('publisher', send(connectV3('flow-4-publisher'), publish('flow/4', { qos, messageId: 1 }), qos === 2 ? pubrel(1) : '')),
            ...by('publisher', expect(connack3, qos === 2 ? '5002 0001 7002 0001' : '4002 0001')),
            expect(qos === 2 ? '34' : '32', '0b 0006 666c6f772f34 0001 78'),
            send(`${head} 02 0001`),
            closes
          ]
        }
      ])
  ),
  ...([4, 5] as const).flatMap((version): WireCase[] => {
    const begin = [
      send(connect({ version, clientId: 'flow-2' }), subscribe(['flow/2'], version, 2)),
      expect(...(version === 5 ? [connack5, '9004 0007 00 02'] : [connack3, '9003 0007 02'])),
      ...by('publisher', send(connectV3('flow-2-publisher'), publish('flow/2', { qos: 2, messageId: 9 }), pubrel(9))),
      ...by('publisher', expect(connack3, '5002 0009 7002 0009')),
      expect(publish('flow/2', { version, qos: 2, messageId: 1 })),
      send('50 02 0001'),
      expect('62 02 0001')
    ]
    const prefix = version === 5 ? 'MQTT 5' : 'MQTT 3.1.1'
    return [
      {
        name: `${prefix}: PUBACK for a message of QoS 2 after its PUBREL${version === 5 ? ': 82' : ' ends the connection'}`,
        steps: [...begin, send('40 02 0001'), ...(version === 5 ? [expect('e0 01 82')] : []), closes]
      },
      { name: `${prefix}: a second PUBREC is answered like the first`, steps: [...begin, send('50 02 0001'), expect('62 02 0001'), send('70 02 0001')] }
    ]
  }),
  ...([4, 5] as const).flatMap((version): WireCase[] => {
    const begin = [send(connect({ version, clientId: 'unknown-id' })), expect(version === 5 ? connack5 : connack3)]
    return [
      { name: `PUBREC for an unknown packet identifier is answered, level ${version}`, steps: [...begin, send('50 02 1234'), expect('62 02 1234')] },
      { name: `PUBREL for an unknown packet identifier is answered, level ${version}`, steps: [...begin, send('62 02 1234'), expect('70 02 1234')] },
      { name: `PUBACK for an unknown packet identifier is not, level ${version}`, steps: [...begin, send('40 02 1234')] },
      { name: `PUBCOMP for an unknown packet identifier is not, level ${version}`, steps: [...begin, send('70 02 1234')] }
    ]
  }),
  {
    name: 'PUBREC with an error for an unknown packet identifier is not answered',
    steps: [send(connectV5('unknown-id')), expect(connack5), send('50 03 1234 80')]
  },
  ...([4, 5] as const).map((version): WireCase => {
    const one = (qos: number, payload: string) => publish('again', { version, qos, messageId: 5, payload })
    return {
      name: `the packet identifier of a message that waits for its PUBREL comes with QoS 1: that message is given up, level ${version}`,
      steps: [
        send(connect({ version, clientId: 'again' }), subscribe(['again'], version, 0)),
        expect(...(version === 5 ? [connack5, '9004 0007 00 00'] : [connack3, '9003 0007 00'])),
        send(one(2, 'old')),
        expect('50 02 0005'),
        send(one(1, 'new')),
        expect(publish('again', { version, payload: 'new' }), '40 02 0005'),
        send(pubrel(5)),
        expect('70 02 0005')
      ]
    }
  }),
  ...(['03 0001 ff', '03 0001 01', '26 0001 6b 0002 c3c3'] as const).map(
    (property): WireCase => ({
      name: `MQTT 5: text that is none in a property ends the connection without a word: ${property}`,
      steps: [send(connectV5('m5')), expect(connack5), send(publishWith(property)), closes]
    })
  ),
  {
    name: 'MQTT 5: the same PUBLISH of QoS 2 with DUP for the third time: 82',
    steps: [
      send(connectV5('thrice'), subscribe(['thrice'], 5, 0)),
      expect(connack5, '9004 0007 00 00'),
      send('34 0c 0006 746872696365 0001 00 78'),
      expect('5002 0001'),
      send('3c 0c 0006 746872696365 0001 00 78'),
      expect('5002 0001'),
      send('3c 0c 0006 746872696365 0001 00 78'),
      expect('e0 01 82'),
      closes
    ]
  },
  {
    name: 'MQTT 3.1.1: the same PUBLISH of QoS 2 with DUP for the third time ends the connection',
    steps: [
      send(connectV3('thrice-4')),
      expect(connack3),
      send('34 0b 0006 746872696365 0001 78'),
      expect('5002 0001'),
      send('3c 0b 0006 746872696365 0001 78'),
      expect('5002 0001'),
      send('3c 0b 0006 746872696365 0001 78'),
      closes
    ]
  },
  {
    name: 'MQTT 5: Session Expiry Interval may be changed by DISCONNECT where it was not 0',
    steps: [send(connectV5('expiry', keeps)), expect(connack5), send('e0 07 00 05 11 00000000'), closes, send(connectV5('expiry', { clean: false })), expect(connack5)]
  }
]

/** What 2.0 does otherwise. */
const since21: readonly (readonly [reason: string, names: readonly RegExp[]])[] = [
  ['flags were not looked at', [/(PUBACK|PUBREC|PUBCOMP|PINGREQ) with flags/]],
  ['bytes too many were not looked at', [/(PINGREQ|PUBACK|PUBREC|PUBREL|PUBCOMP) with (a byte too many|bytes behind)/]],
  ['what only a server sends was ignored', [/(SUBACK|UNSUBACK|PINGRESP)(: 82)?$/]],
  ['PUBLISH of QoS 0 with DUP was taken', [/PUBLISH of QoS 0 with DUP/]],
  ['the reason code was not looked at', [/with an unknown reason code/]],
  ['$share without group or filter was a filter like others', [/SUBSCRIBE (to|from) \$share\/(g?|g\/|\/t): /, /with No Local/]],
  [
    'the value or place of the property was not looked at',
    [/Payload Format Indicator 2/, /Subscription Identifier in PUBLISH/, /Response Topic with/]
  ],
  [
    'the reason code was another',
    [
      /PUBLISH (without topic and alias|with an alias that)/,
      /MQTT 5: (a . in a|a . inside|more than 200 levels in a) topic name|MQTT 5: a \+ inside/,
      /Topic Alias 0|(Session Expiry Interval|Reason String) in PUBLISH|Subscription Identifier 0/,
      /CONNECT: MQTT level (0|2|6|127)/
    ]
  ],
  [
    'the connection ended without a word',
    [
      /(DISCONNECT|PUBACK|PUBREC|PUBREL|PUBCOMP) with .*propert/,
      /MQTT 5: (PUBACK|PUBREC|PUBREL|PUBCOMP) (without anything|with half|with packet identifier 0|with two|for a message)/,
      /MQTT 5: (PUBREL with.* flags|DISCONNECT with flags|AUTH|CONNACK)/,
      /twice(: | in DISCONNECT: )82/,
      /a property in DISCONNECT/,
      /CONNECT: .*: 20 03 00 8[125] 00/
    ]
  ]
]

function marked(one: WireCase): WireCase {
  const [reason] = since21.find(([, names]) => names.some(name => name.test(one.name))) ?? []
  return reason === undefined ? one : { ...one, since21: reason }
}

const all: readonly WireCase[] = [
  ...malformed5,
  ...protocolErrors5,
  ...refused5('94', [['Topic Alias above the maximum', publishWith('23 000b')]]),
  ...malformed4,
  ...malformed3,
  ...connects,
  ...connectAllowed,
  ...allowed,
  ...flows
]

export const malformed: readonly WireCase[] = all.map(marked)
