// What a broker must refuse, as bytes with Mosquitto 2.1's answer: rows for the decoder's tests.

import { connect, field, packet, publish, subscribe, uint16, unsubscribe, variable } from '../helpers/raw-mqtt.js'

/** A number: the reason code of the DISCONNECT to an MQTT 5 client (0: closed without one; MQTT 3 is always so). `ok`: a packet. */
export type Answer = number | 'ok'

export interface Row {
  readonly name: string
  readonly bytes: Buffer
  readonly version: 3 | 4 | 5
  readonly answer: Answer
}

const hex = (...parts: readonly string[]): Buffer => Buffer.from(parts.join('').replaceAll(' ', ''), 'hex')

/** Texts that are none, and what MQTT or Mosquitto does not allow in one. */
export const wrongTexts: readonly (readonly [string, Buffer])[] = [
  ['U+0000', hex('61 00 62')],
  ['U+0001', hex('01')],
  ['U+001F', hex('61 1f')],
  ['U+007F', hex('7f')],
  ['U+0080', hex('c2 80')],
  ['U+009F', hex('61 c2 9f')],
  ['U+D800', hex('ed a0 80')],
  ['U+DFFF', hex('ed bf bf')],
  ['U+FDD0', hex('ef b7 90')],
  ['U+FFFE', hex('ef bf be')],
  ['U+FFFF', hex('ef bf bf')],
  ['U+1FFFF', hex('f0 9f bf bf')],
  ['a lone continuation', hex('61 80')],
  ['C0', hex('c0 80')],
  ['C1', hex('c1 bf')],
  ['an overlong form of three bytes', hex('e0 9f bf')],
  ['an overlong form of four bytes', hex('f0 8f bf bf')],
  ['above U+10FFFF', hex('f4 90 80 80')],
  ['F5', hex('f5 80 80 80')],
  ['FF', hex('ff')],
  ['a cut sequence of two', hex('61 c3')],
  ['a cut sequence of three', hex('e2 82')],
  ['a cut sequence of four', hex('f0 9f 98')],
  ['a sequence that ASCII ends', hex('e2 82 61')]
]

export const rightTexts: readonly string[] = [
  'a',
  ' ~',
  'é',
  'ÿ',
  '€',
  '\u00a0',
  '\ud7ff',
  '\ue000',
  '\ufffd',
  '😀',
  'a😀b€cé',
  '\u{10fffd}',
  '\ufeffa'
]

const none = Buffer.alloc(0)
const slashes = '/'.repeat(201)
const props = (...parts: readonly string[]): Buffer => {
  const bytes = hex(...parts)
  return Buffer.concat([variable(bytes.length), bytes])
}

const each = (version: 3 | 4 | 5, rows: readonly (readonly [string, Buffer, Answer])[]): Row[] =>
  rows.map(([name, bytes, answer]) => ({ name: `MQTT ${version}, ${name}`, bytes, version, answer }))

const forAll = (rows: readonly (readonly [string, Buffer, Answer])[]): Row[] => ([3, 4, 5] as const).flatMap(version => each(version, rows))

/** A body in MQTT 5 and in MQTT 3, which has no properties. */
const withProperties = (build: (version: 3 | 4 | 5) => readonly (readonly [string, Buffer, Answer])[]): Row[] =>
  ([3, 4, 5] as const).flatMap(version => each(version, build(version)))

export const publishRows: readonly Row[] = [
  ...forAll([
    ['PUBLISH QoS 3', hex('36 06 0001 61 0001 00'), 0x81],
    ['PUBLISH DUP with QoS 0', hex('38 05 0001 61 00 78'), 0x81],
    ['an empty PUBLISH', hex('30 00'), 0x81],
    ['PUBLISH with half a topic length', hex('30 01 00'), 0x81],
    ['PUBLISH with a topic that is cut off', hex('30 04 0003 61 62'), 0x81],
    ['PUBLISH QoS 1 without a packet identifier', hex('32 03 0001 61'), 0x81],
    ['PUBLISH QoS 1 with half a packet identifier', hex('32 04 0001 61 00'), 0x81],
    ['PUBLISH QoS 1 with packet identifier 0', hex('32 06 0001 61 0000 00'), 0x82],
    ['PUBLISH QoS 2 with packet identifier 0', hex('34 06 0001 61 0000 00'), 0x82],
    ['PUBLISH with a wildcard and packet identifier 0', hex('32 06 0001 2b 0000 00'), 0x82]
  ]),
  ...withProperties(version => [
    ...['+', '#', 'a/+', 'a/#', 'a+b', slashes].map(
      topic => [`PUBLISH to ${topic.slice(0, 9)}`, publish(topic, { version }), 0x81] as const
    ),
    ...wrongTexts.map(([name, text]) => [`PUBLISH topic with ${name}`, publish(text, { version }), 0x81] as const),
    ...rightTexts.map(text => [`PUBLISH topic with ${JSON.stringify(text)}`, publish(text, { version }), 'ok'] as const),
    ['PUBLISH to 201 levels', publish('/'.repeat(200), { version }), 'ok'],
    ['PUBLISH without a payload', publish('a', { version, payload: '' }), 'ok'],
    ['PUBLISH to no topic', publish('', { version }), 0x81],
    ['PUBLISH QoS 2, DUP, retain', Buffer.concat([hex('3d'), publish('a', { version, qos: 2, retain: true }).subarray(1)]), 'ok']
  ]),
  ...each(
    5,
    (
      [
        ['no property length', none, 0x81],
        ['properties that are cut off', hex('05 01 00'), 0x81],
        ['a property length that is too long', hex('80 80 80 80 01'), 0x81],
        ['an overlong property length', hex('80 00'), 0x81],
        ['a property that goes beyond the list', hex('02 23 00 05'), 0x81],
        ['an unknown property', props('04 00'), 0x81],
        ['an overlong property identifier', props('81 00 00'), 0x81],
        ['a payload format indicator of 2', props('01 02'), 0x82],
        ['two payload format indicators', props('01 00 01 00'), 0x82],
        ['two content types', props('03 0000 03 0000'), 0x82],
        ['two message expiry intervals', props('02 00000001 02 00000001'), 0x82],
        ['two topic aliases', props('23 0001 23 0001'), 0x82],
        ['topic alias 0', props('23 0000'), 0x82],
        ['a response topic with a wildcard', props('08 0001 2b'), 0x82],
        ['an empty response topic', props('08 0000'), 0x82],
        ['a subscription identifier', props('0b 01'), 0x82],
        ['a session expiry interval', props('11 00000001'), 0x82],
        ['a reason string', props('1f 0001 61'), 0x82],
        ['a receive maximum', props('21 0001'), 0x82],
        ['a will delay interval', props('18 00000001'), 0x82],
        ['a server keep alive', props('13 0001'), 0x82],
        ['a wrong property and then half a one', props('21 0001 02 0000'), 0x81],
        ['a user property that is cut off', props('26 0001 61 0002 62'), 0x81],
        ['a user property with U+0000', props('26 0001 00 0001 61'), 0],
        ['a content type with U+FFFF', props('03 0003 ef bf bf'), 0],
        ['correlation data of any bytes', props('09 0003 00 ff c0'), 'ok'],
        [
          'all it may have',
          props('01 01 02 00000009 03 0001 61 08 0001 62 09 0001 63 23 0001 26 0001 61 0001 62 26 0001 61 0001 62'),
          'ok'
        ],
        ['empty user properties', props('26 0000 0000'), 'ok'],
        ['a message expiry interval of 0', props('02 00000000'), 'ok']
      ] as const
    ).map(([name, bytes, answer]) => [`PUBLISH with ${name}`, packet(0x30, field('a'), bytes), answer] as const)
  ),
  ...each(5, [
    ['PUBLISH of an alias alone', packet(0x30, field(''), props('23 0001')), 'ok'],
    ['PUBLISH of no topic with other properties', packet(0x30, field(''), props('01 00')), 0x81]
  ])
]

const acknowledgements = [
  ['PUBACK', 0x40],
  ['PUBREC', 0x50],
  ['PUBREL', 0x62],
  ['PUBCOMP', 0x70]
] as const

export const acknowledgementRows: readonly Row[] = acknowledgements.flatMap(([name, head]) => {
  const known = name === 'PUBACK' || name === 'PUBREC' ? '10' : '92'
  const unknown = name === 'PUBACK' || name === 'PUBREC' ? '92' : '10'
  const flags = name === 'PUBREL' ? head ^ 2 : head | 1
  return [
    ...forAll([
      [`${name}`, packet(head, uint16(7)), 'ok'],
      [`${name} with packet identifier 0`, packet(head, uint16(0)), 0x82],
      [`an empty ${name}`, packet(head), 0x81],
      [`${name} with one byte`, packet(head, hex('01')), 0x81],
      [`${name} with packet identifier 65535`, packet(head, uint16(65_535)), 'ok']
    ]),
    ...([4, 5] as const).flatMap(version =>
      each(version, [[`${name} with wrong flags`, packet(flags, uint16(7)), name === 'PUBREL' ? 0x82 : 0x81]])
    ),
    ...each(3, [[`${name} with wrong flags`, packet(flags, uint16(7)), name === 'PUBREL' ? 'ok' : 0x81]]),
    ...([3, 4] as const).flatMap(version => each(version, [[`${name} with a byte more`, packet(head, uint16(7), hex('00')), 0]])),
    ...each(
      5,
      (
        [
          ['reason code 0', '00', 'ok'],
          ['a reason code of its own', known, 'ok'],
          ['a reason code of another packet', unknown, 0x82],
          ['an unknown reason code', '55', 0x82],
          ['no properties', '00 00', 'ok'],
          ['a byte more', '00 00 00', 0x81],
          ['reason string and user property', '00 0b 1f 0001 61 26 0001 61 0001 62', 'ok'],
          ['two reason strings', '00 08 1f 0001 61 1f 0001 61', 0x82],
          ['a topic alias', '00 03 23 0001', 0x82],
          ['an unknown property', '00 02 04 00', 0x81],
          ['properties that are cut off', '00 05 1f 0001', 0x81],
          ['a reason string with U+0001', '00 04 1f 0001 01', 0]
        ] as const
      ).map(([what, bytes, answer]) => [`${name} with ${what}`, packet(head, uint16(7), hex(bytes)), answer] as const)
    )
  ]
})

const wrongFilters = ['', '+a', 'a+', 'a#', '#a', '#/', '#/a', 'a/#/b', 'a/+b/c', '++', slashes]
const rightFilters = ['a', '+', '#', '/', 'a/+/b', '+/+/#', '$SYS/#', '/'.repeat(200), ...rightTexts]
/** Neither filter behind the group, nor wildcard in it. */
export const wrongShares = ['$share', '$share/', '$share/g', '$share/g/', '$share/#', '$share/+', '$share/+/a', '$share//', '$share//a']
export const rightShares = ['$share/g/a', '$share/g/#', '$share/g/+/b', '$share/g//', '$shared/g', '$share/g/$SYS/a']

export const subscribeRows: readonly Row[] = [
  ...withProperties(version => {
    const options = (byte: number, filter = 'a') => subscribe([filter], version, byte)
    const five = version === 5
    const p5 = five ? hex('00') : none
    return [
      ...[
        ...wrongFilters.map(filter => [filter.slice(0, 9), filter, 0x81] as const),
        ...rightFilters.map(filter => [filter.slice(0, 9), filter, 'ok'] as const),
        ...wrongTexts.map(([name, text]) => [name, text, 0x81] as const),
        ...wrongShares.map(filter => [filter, filter, 0x82] as const),
        ...rightShares.map(filter => [filter, filter, 'ok'] as const),
        ['$share with a bad filter', '$share/g/a+', 0x81] as const,
        ['$share with a bad group', '$share/g+/a', 0x81] as const
      ].flatMap(([name, filter, answer]): [string, Buffer, Answer][] => [
        [`SUBSCRIBE to ${name}`, subscribe([filter], version), answer],
        [`UNSUBSCRIBE from ${name}`, unsubscribe([filter], version), answer]
      ]),
      ['SUBSCRIBE to one right, one wrong', subscribe(['a', 'a+'], version), 0x81],
      ...[0x00, 0x01, 0x02].map((byte): [string, Buffer, Answer] => [`SUBSCRIBE options ${byte}`, options(byte), 'ok']),
      ...[0x03, 0x07, 0x30, 0x40, 0x80, 0xff].map((byte): [string, Buffer, Answer] => [`SUBSCRIBE options ${byte}`, options(byte), 0x81]),
      ...[0x04, 0x08, 0x10, 0x20, 0x2e].map((byte): [string, Buffer, Answer] => [
        `SUBSCRIBE options ${byte}`,
        options(byte),
        five ? 'ok' : 0x81
      ]),
      ['SUBSCRIBE to a shared one with No Local', options(0x04, '$share/g/a'), 0x82],
      ...([0x82, 0xa2] as const).flatMap((head): [string, Buffer, Answer][] => {
        const name = head === 0x82 ? 'SUBSCRIBE' : 'UNSUBSCRIBE'
        const one = head === 0x82 ? hex('0001 61 00') : hex('0001 61')
        return [
          [`${name} with packet identifier 0`, packet(head, uint16(0), p5, one), 0x81],
          [`an empty ${name}`, packet(head), 0x81],
          [`${name} with half a packet identifier`, packet(head, hex('00')), 0x81],
          [`${name} with flags 0`, packet(head & 0xf0, uint16(1), p5, one), 0x81],
          [`${name} with flags 3`, packet(head | 1, uint16(1), p5, one), 0x81],
          [`${name} of nothing`, packet(head, uint16(1), p5), version === 3 ? 'ok' : 0x81],
          [`${name} with a filter that is cut off`, packet(head, uint16(1), p5, hex('0003 61 62')), 0x81],
          [`${name} with half a length`, packet(head, uint16(1), p5, one, hex('00')), 0x81]
        ]
      }),
      ['SUBSCRIBE without options', packet(0x82, uint16(1), p5, hex('0001 61')), 0x81],
      ['SUBSCRIBE and a byte more', packet(0x82, uint16(1), p5, hex('0001 61 00 00')), 0x81]
    ]
  }),
  ...each(
    5,
    ([0x82, 0xa2] as const).flatMap((head): [string, Buffer, Answer][] => {
      const name = head === 0x82 ? 'SUBSCRIBE' : 'UNSUBSCRIBE'
      const one = head === 0x82 ? hex('0001 61 00') : hex('0001 61')
      const build = (bytes: Buffer): Buffer => packet(head, uint16(1), bytes, one)
      return [
        [`${name} with a user property`, build(props('26 0001 61 0001 62')), 'ok'],
        [`${name} with a topic alias`, build(props('23 0001')), 0x81],
        [`${name} with a reason string`, build(props('1f 0001 61')), 0x81],
        [`${name} with an unknown property`, build(props('04 00')), 0x81],
        [`${name} with a user property with U+0000`, build(props('26 0001 00 0001 62')), 0],
        [`${name} with properties that are cut off`, packet(head, uint16(1), hex('09 26 00')), 0x81],
        [`${name} with a subscription identifier`, build(props('0b 01')), head === 0x82 ? 'ok' : 0x81]
      ]
    })
  ),
  ...each(5, [
    ['SUBSCRIBE with subscription identifier 0', packet(0x82, uint16(1), props('0b 00'), hex('0001 61 00')), 0x82],
    ['SUBSCRIBE with two subscription identifiers', packet(0x82, uint16(1), props('0b 01 0b 02'), hex('0001 61 00')), 0x82],
    ['SUBSCRIBE with the largest identifier', packet(0x82, uint16(1), props('0b ff ff ff 7f'), hex('0001 61 00')), 'ok'],
    ['SUBSCRIBE with too large an identifier', packet(0x82, uint16(1), props('0b ff ff ff ff 01'), hex('0001 61 00')), 0x81]
  ])
]

export const otherRows: readonly Row[] = [
  ...forAll([
    ['PINGREQ', hex('c0 00'), 'ok'],
    ['PINGREQ with flags', hex('c1 00'), 0x81],
    ['PINGREQ and a byte more', hex('c0 01 00'), 0x81],
    ['PINGRESP', hex('d0 00'), 0x82],
    ['PINGRESP and a byte more', hex('d0 01 00'), 0x81],
    ['packet type 0', hex('00 00'), 0x82],
    ['CONNACK', hex('20 02 00 00'), 0x82],
    ['SUBACK', hex('90 03 0001 00'), 0x82],
    ['UNSUBACK', hex('b0 02 0001'), 0x82],
    ['DISCONNECT', hex('e0 00'), 'ok']
  ]),
  ...withProperties(version => [
    ['a second CONNECT', connect({ version, clientId: 'twice' }), 0],
    ['DISCONNECT with flags', hex('e1 00'), 0x82]
  ]),
  ...([3, 4] as const).flatMap(version =>
    each(version, [
      ['DISCONNECT and a byte more', hex('e0 01 00'), 0],
      ['AUTH', hex('f0 00'), 0x82]
    ])
  ),
  ...each(5, [
    ['DISCONNECT with a reason code', hex('e0 01 04'), 'ok'],
    ['DISCONNECT with an empty property list', hex('e0 02 00 00'), 'ok'],
    ['DISCONNECT with a session expiry interval', hex('e0 07 00 05 11 0000000a'), 'ok'],
    ['DISCONNECT with two session expiry intervals', hex('e0 0c 00 0a 11 00000000 11 00000000'), 0x82],
    ['DISCONNECT with a topic alias', hex('e0 05 00 03 23 0001'), 0x82],
    ['DISCONNECT with a bad property length', hex('e0 02 00 05'), 0x81],
    ['DISCONNECT and a byte more', hex('e0 03 00 00 00'), 0x82]
  ])
]

// --- CONNECT ---

export interface ConnectRow {
  readonly name: string
  readonly bytes: Buffer
  /** `ok`, or the bytes of the CONNACK in hex; '': none. */
  readonly answer: string
}

const mqtt = (level: string, flags: string, ...rest: readonly string[]): Buffer =>
  packet(0x10, hex('0004 4d515454', level, flags, '003c', ...rest))
const isdp = (level: string, flags: string, ...rest: readonly string[]): Buffer =>
  packet(0x10, hex('0006 4d5149736470', level, flags, '003c', ...rest))
const id = '0001 61'

const five = (bytes: string): Buffer => packet(0x10, hex('0004 4d515454 05 02 003c'), props(bytes), hex(id))
const fiveWill = (bytes: string, topic = '0001 74', flags = '06', payload = '0001 70'): Buffer =>
  packet(0x10, hex('0004 4d515454 05', flags, '003c 00', id), props(bytes), hex(topic, payload))

export const connectRows: readonly ConnectRow[] = (
  [
    ['an empty CONNECT', packet(0x10), ''],
    ['no level', packet(0x10, hex('0004 4d515454')), ''],
    ['a name that is cut off', packet(0x10, hex('0004 4d51')), ''],
    ['another name', packet(0x10, hex('0004 4d515455 04 02 003c', id)), ''],
    ['another name of six', packet(0x10, hex('0006 4d5149736471 03 02 003c', id)), ''],
    ['a name of five', packet(0x10, hex('0005 4d51545454 04 02 003c', id)), ''],
    ['another name with level 6', packet(0x10, hex('0004 4d515455 06 02 003c', id)), '20 03 00 84 00'],
    ['MQTT level 0', mqtt('00', '02', id), '20 03 00 84 00'],
    ['MQTT level 2', mqtt('02', '02', id), '20 03 00 84 00'],
    ['MQTT level 6', mqtt('06', '02', id), '20 03 00 84 00'],
    ['MQTT level 3', mqtt('03', '02', id), '20 02 00 01'],
    ['MQIsdp level 4', isdp('04', '02', id), '20 02 00 01'],
    ['MQIsdp level 5', isdp('05', '02', '00', id), '20 02 00 01'],
    ['a bridge with MQTT 3.1', isdp('83', '02', id), 'ok'],
    ['a bridge with MQTT 3.1.1', mqtt('84', '02', id), 'ok'],
    ['the bridge bit with MQTT 5', mqtt('85', '02', '00', id), ''],
    ['MQTT 3.1.1', mqtt('04', '02', id), 'ok'],
    ['MQTT 3.1', isdp('03', '02', id), 'ok'],
    ['MQTT 5', mqtt('05', '02', '00', id), 'ok'],
    ['header flags', Buffer.concat([hex('11'), mqtt('04', '02', id).subarray(1)]), ''],
    ['header flags in MQTT 5', Buffer.concat([hex('12'), mqtt('05', '02', '00', id).subarray(1)]), ''],
    ['no flags', packet(0x10, hex('0004 4d515454 04')), ''],
    ['the reserved flag', mqtt('04', '03', id), ''],
    ['the reserved flag in MQTT 5', mqtt('05', '03', '00', id), ''],
    ['the reserved flag in MQTT 3.1', isdp('03', '03', id), 'ok'],
    ['half a keep alive', packet(0x10, hex('0004 4d515454 04 02 00')), ''],
    ['no client id', mqtt('04', '02'), ''],
    ['no client id in MQTT 5', mqtt('05', '02', '00'), ''],
    ['a client id that is cut off', mqtt('04', '02', '0002 61'), ''],
    ['an empty client id', mqtt('04', '02', '0000'), 'ok'],
    ['an empty client id that wants a session', mqtt('04', '00', '0000'), '20 02 00 02'],
    ['an empty client id in MQTT 3.1', isdp('03', '02', '0000'), '20 02 00 02'],
    ['an empty client id in MQTT 5', mqtt('05', '00', '00', '0000'), 'ok'],
    ['a client id of 24 characters in MQTT 3.1', isdp('03', '02', '0018', '61'.repeat(24)), 'ok'],
    ['will QoS 3', mqtt('04', '1e', id, '0001 74 0001 70'), ''],
    ['will QoS 3 in MQTT 5', mqtt('05', '1e', '00', id, '00 0001 74 0001 70'), ''],
    ['will QoS 3 without a will', mqtt('04', '1a', id), ''],
    ['will QoS without a will', mqtt('04', '0a', id), ''],
    ['will retain without a will', mqtt('04', '22', id), ''],
    ['will retain without a will in MQTT 5', mqtt('05', '22', '00', id), ''],
    ['will QoS without a will in MQTT 3.1', isdp('03', '0a', id), 'ok'],
    ['a will', mqtt('04', '06', id, '0001 74 0001 70'), 'ok'],
    ['a will without a payload', mqtt('04', '06', id, '0001 74 0000'), 'ok'],
    ['a will without a topic', mqtt('04', '06', id, '0000 0001 70'), ''],
    ['a will without a topic in MQTT 5', fiveWill('', '0000'), '20 03 00 82 00'],
    ['a will to a wildcard', mqtt('04', '06', id, '0001 2b 0001 70'), ''],
    ['a will to a wildcard in MQTT 5', fiveWill('', '0001 23'), ''],
    ['a will that is cut off', mqtt('04', '06', id, '0001 74 0002 70'), ''],
    ['a will that is cut off in MQTT 5', fiveWill('', '0001 74', '06', '0002 70'), '20 03 00 81 00'],
    ['will with its properties', fiveWill('01 01 18 00000003 02 00000009 03 0001 61 26 0001 61 0001 62'), 'ok'],
    ['will with two delays', fiveWill('18 00000003 18 00000003'), '20 03 00 82 00'],
    ['will with a topic alias', fiveWill('23 0001'), '20 03 00 82 00'],
    ['will with a reason string', fiveWill('1f 0001 61'), '20 03 00 82 00'],
    ['will with an unknown property', fiveWill('04 00'), '20 03 00 81 00'],
    ['will with a text of U+0000', fiveWill('03 0001 00'), ''],
    ['username and password', mqtt('04', 'c2', id, '0001 75 0001 70'), 'ok'],
    ['username flag without username', mqtt('04', '82', id), ''],
    ['username flag without username in MQTT 5', mqtt('05', '82', '00', id), ''],
    ['username flag without username in MQTT 3.1', isdp('03', '82', id), 'ok'],
    ['password flag without password', mqtt('04', 'c2', id, '0001 75'), ''],
    ['password flag without password in MQTT 3.1', isdp('03', 'c2', id, '0001 75'), 'ok'],
    ['password without username', mqtt('04', '42', id, '0001 70'), ''],
    ['password without username in MQTT 3.1', isdp('03', '42', id, '0001 70'), ''],
    ['password without username in MQTT 5', mqtt('05', '42', '00', id, '0001 70'), 'ok'],
    ['a byte more', mqtt('04', '02', id, '00'), ''],
    ['a byte more in MQTT 3.1', isdp('03', '02', id, '00'), ''],
    ['a byte more in MQTT 5', mqtt('05', '02', '00', id, '00'), '20 03 00 81 00'],
    ['no properties in MQTT 5', packet(0x10, hex('0004 4d515454 05 02 003c')), '20 03 00 81 00'],
    ['properties that are cut off', packet(0x10, hex('0004 4d515454 05 02 003c 05 11 00')), '20 03 00 81 00'],
    ['an unknown property', five('04 00'), '20 03 00 81 00'],
    ['two receive maximums', five('21 0001 21 0001'), '20 03 00 82 00'],
    ['receive maximum 0', five('21 0000'), '20 03 00 82 00'],
    ['maximum packet size 0', five('27 00000000'), '20 03 00 82 00'],
    ['a topic alias', five('23 0001'), '20 03 00 82 00'],
    ['a will delay', five('18 00000001'), '20 03 00 82 00'],
    ['request problem information 2', five('17 02'), '20 03 00 82 00'],
    ['request response information 2', five('19 02'), '20 03 00 82 00'],
    ['authentication data without a method', five('16 0001 61'), '20 03 00 82 00'],
    ['a user property with U+0000', five('26 0001 00 0001 61'), ''],
    ['all it may have', five('11 0000000a 21 0001 27 00000100 22 0005 17 01 19 01 26 0001 61 0001 62'), 'ok'],
    ...wrongTexts.flatMap(([name, text]): [string, Buffer, string][] => [
      [`client id with ${name}`, connect({ clientId: text }), ''],
      [`client id with ${name} in MQTT 3.1`, connect({ version: 3, clientId: text }), ''],
      [`client id with ${name} in MQTT 5`, connect({ version: 5, clientId: text }), '20 03 00 85 00'],
      [`username with ${name}`, connect({ clientId: 'a', username: text }), ''],
      [`username with ${name} in MQTT 5`, connect({ version: 5, clientId: 'a', username: text }), ''],
      [`will topic with ${name}`, connect({ clientId: 'a', will: { topic: text, payload: 'x' } }), ''],
      [`will topic with ${name} in MQTT 5`, connect({ version: 5, clientId: 'a', will: { topic: text, payload: 'x' } }), '']
    ]),
    ...rightTexts.map((text): [string, Buffer, string] => [`client id ${JSON.stringify(text)}`, connect({ clientId: text }), 'ok'])
  ] as const
).map(([name, bytes, answer]) => ({ name, bytes, answer }))
