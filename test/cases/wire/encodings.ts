// How Mosquitto encodes what it sends: properties of CONNACK, lengths of acknowledgements, packet identifiers, assigned client identifiers.

import { connect, connectV3, connectV5, field, pubrel, publish, subscribe, variable } from '../../helpers/raw-mqtt.js'
import { by, type Bytes, closes, drop, expect, hexOf, type Like, send, type WireCase } from '../../helpers/wire.js'

/** CONNACK of MQTT 5 by default. */
export const connack5 = '20 0e 00 00 0b 22000a 27001e8480 210014'
/** The same with session present. */
export const resumed5 = '20 0e 01 00 0b 22000a 27001e8480 210014'
export const connack3 = '20 02 00 00'

/** Session Expiry Interval, so that a session outlives its connection. */
export const keeps = { properties: Buffer.from('1100000064', 'hex') }

// auto- and a UUID in upper case.
const uuid = '(3[0-9]|4[1-6]){8}(2d(3[0-9]|4[1-6]){4}){3}2d(3[0-9]|4[1-6]){12}'
const prefixed = (prefix: string): Like => ({
  length: prefix.length + 36,
  hex: new RegExp(`^${Buffer.from(prefix).toString('hex')}${uuid}$`)
})

/** A CONNACK of MQTT 5 with these properties, of which one may be an assigned client identifier. */
function connackOf(...properties: readonly (Bytes | Like)[]): (Bytes | Like)[] {
  const length = properties.reduce((sum, part) => sum + (typeof part === 'string' || Buffer.isBuffer(part) ? hexOf(part).length / 2 : part.length), 0)
  const head = variable(length)
  return ['20', variable(2 + head.length + length), '0000', head, ...properties]
}

/** Options that show in CONNACK, in the order of their properties: the line, and what is sent with it and without. */
const announced = [
  { line: 'max_keepalive 30', set: '13 001e', unset: '' },
  { line: 'max_topic_alias 0', set: '', unset: '22 000a' },
  { line: undefined, set: [`12 0029`, prefixed('auto-')], unset: '' },
  { line: 'retain_available false', set: '25 00', unset: '' },
  { line: 'max_packet_size 1000', set: '27 000003e8', unset: '27 001e8480' },
  { line: 'max_inflight_messages 7', set: '21 0007', unset: '21 0014' },
  { line: 'max_qos 1', set: '24 01', unset: '' }
] as const

const keepAliveLater = 'Server Keep Alive came behind Topic Alias Maximum'

/** Every combination: of the options each its own broker, and on each a client with an identifier and one without. */
const connacks: readonly WireCase[] = Array.from({ length: 1 << announced.length }, (_, bits) => {
  const chosen = announced.map(({ line, set, unset }, i) => {
    const on = (bits & (1 << i)) !== 0
    return { line: on ? line : undefined, assigned: on && line === undefined, sends: [on ? set : unset].flat() }
  })
  const assigned = chosen.some(({ assigned }) => assigned)
  return {
    name: `CONNACK of MQTT 5 ${assigned ? 'with' : 'without'} an assigned client identifier`,
    conf: chosen.flatMap(({ line }) => line ?? []).join('\n'),
    steps: [send(connectV5(assigned ? '' : 'connack')), expect(...connackOf(...chosen.flatMap(({ sends }) => sends)))],
    ...(chosen[0]?.line !== undefined && chosen[1]?.line === undefined && { since21: keepAliveLater })
  }
})

const connackValues: readonly WireCase[] = [
  {
    name: 'a keep alive of 0 is above max_keepalive',
    conf: 'max_keepalive 30',
    steps: [send(connectV5('keep', { keepalive: 0 })), expect(...connackOf('13001e', '22000a', '27001e8480', '210014'))],
    since21: keepAliveLater
  },
  {
    name: 'a keep alive that max_keepalive allows is not imposed',
    conf: 'max_keepalive 30',
    steps: [send(connectV5('keep', { keepalive: 30 })), expect(connack5)]
  },
  {
    name: 'max_qos 0 is announced',
    conf: 'max_qos 0',
    steps: [send(connectV5('connack')), expect(...connackOf('22000a', '27001e8480', '210014', '2400'))]
  },
  {
    name: 'max_inflight_messages 0 is the most there is, which needs no word',
    conf: 'max_inflight_messages 0',
    steps: [send(connectV5('connack')), expect(...connackOf('22000a', '27001e8480'))]
  },
  {
    name: 'so is max_inflight_messages 65535',
    conf: 'max_inflight_messages 65535',
    steps: [send(connectV5('connack')), expect(...connackOf('22000a', '27001e8480'))]
  },
  {
    name: 'max_topic_alias 65535 is announced',
    conf: 'max_topic_alias 65535',
    steps: [send(connectV5('connack')), expect(...connackOf('22ffff', '27001e8480', '210014'))]
  },
  { name: 'CONNACK of MQTT 3.1.1', steps: [send(connectV3('connack')), expect(connack3)] },
  { name: 'CONNACK of MQTT 3.1', steps: [send(connect({ version: 3, clientId: 'connack' })), expect(connack3)] }
]

const refusals: readonly WireCase[] = [
  {
    name: 'an authentication method that nobody knows: CONNACK 0x8C',
    steps: [send(connectV5('r', { properties: Buffer.concat([Buffer.from('15', 'hex'), field('SCRAM')]) })), expect('20 03 00 8c 00'), closes]
  },
  {
    name: 'a user name is required: CONNACK 0x87 for MQTT 5',
    conf: 'allow_anonymous false',
    steps: [send(connectV5('r')), expect('20 03 00 87 00'), closes]
  },
  {
    name: 'a user name is required: CONNACK 5 for MQTT 3.1.1',
    conf: 'allow_anonymous false',
    steps: [send(connectV3('r')), expect('20 02 00 05'), closes]
  },
  {
    name: 'refused where max_qos is 1, CONNACK tells that',
    conf: 'allow_anonymous false\nmax_qos 1',
    steps: [send(connectV5('r')), expect('20 05 00 87 02 2401'), closes]
  },
  {
    name: 'an identifier is required: CONNACK 0x80 for MQTT 5',
    conf: 'allow_zero_length_clientid false',
    steps: [send(connectV5('')), expect('20 03 00 80 00'), closes]
  },
  {
    name: 'an identifier is required: CONNACK 2 for MQTT 3.1.1',
    conf: 'allow_zero_length_clientid false',
    steps: [send(connectV3('')), expect('20 02 00 02'), closes]
  },
  {
    name: 'an identifier with another prefix: CONNACK 0x87 for MQTT 5',
    conf: 'clientid_prefixes plant-',
    steps: [send(connectV5('guest-1')), expect('20 03 00 87 00'), closes]
  },
  {
    name: 'an identifier with another prefix: CONNACK 5 for MQTT 3.1.1',
    conf: 'clientid_prefixes plant-',
    steps: [send(connectV3('guest-1')), expect('20 02 00 05'), closes]
  },
  {
    name: 'MQTT 3.1.1 without identifier cannot keep a session: CONNACK 2',
    steps: [send(connectV3('', { clean: false })), expect('20 02 00 02'), closes]
  }
]

const subscriber5 = (id: string, topic: string, qos: number) => [
  send(connectV5(id), subscribe([topic], 5, qos)),
  expect(connack5, '90 04 0007 00', Buffer.from([qos]))
]

const takenOverSilently = 'the old client was told nothing'

const acknowledgements: readonly WireCase[] = [
  {
    name: 'a QoS 1 message that somebody gets: PUBACK without reason code',
    steps: [
      ...subscriber5('ack-1', 'ack/1', 0),
      send(publish('ack/1', { version: 5, qos: 1, messageId: 0x1234 })),
      expect('30 09 0005 61636b2f31 00 78', '40 02 1234')
    ]
  },
  {
    name: 'a QoS 2 message that somebody gets: PUBREC and PUBCOMP without reason code',
    steps: [
      ...subscriber5('ack-2', 'ack/2', 0),
      send(publish('ack/2', { version: 5, qos: 2, messageId: 0x1234 })),
      expect('50 02 1234'),
      send(pubrel(0x1234)),
      expect('30 09 0005 61636b2f32 00 78', '70 02 1234')
    ]
  },
  {
    name: 'PUBREL of the broker has no reason code',
    steps: [
      ...subscriber5('ack-3', 'ack/3', 2),
      ...by('publisher', send(connectV5('ack-3-publisher')), expect(connack5)),
      ...by('publisher', send(publish('ack/3', { version: 5, qos: 2, messageId: 1 })), expect('50 02 0001')),
      ...by('publisher', send(pubrel(1)), expect('70 02 0001')),
      expect('34 0b 0005 61636b2f33 0001 00 78'),
      send('50 02 0001'),
      expect('62 02 0001'),
      send('70 02 0001')
    ]
  },
  {
    name: 'a QoS 1 message that nobody gets: PUBACK 0x10',
    steps: [send(connectV5('ack-4')), expect(connack5), send(publish('ack/4', { version: 5, qos: 1, messageId: 5 })), expect('40 03 0005 10')]
  },
  {
    name: 'a QoS 2 message that nobody gets: PUBREC without reason code, since it is released only by PUBREL',
    steps: [
      send(connectV5('ack-5')),
      expect(connack5),
      send(publish('ack/5', { version: 5, qos: 2, messageId: 5 })),
      expect('50 02 0005'),
      send(pubrel(5)),
      expect('70 02 0005')
    ]
  },
  {
    name: 'a retained message that nobody gets: PUBACK 0x10',
    steps: [
      send(connectV5('ack-6')),
      expect(connack5),
      send(publish('ack/6', { version: 5, qos: 1, messageId: 5, retain: true })),
      expect('40 03 0005 10')
    ]
  },
  {
    name: 'a message of MQTT 3.1.1 that nobody gets: plain PUBACK, PUBREC and PUBCOMP',
    steps: [
      send(connectV3('ack-7')),
      expect(connack3),
      send(publish('ack/7', { qos: 1, messageId: 5 }), publish('ack/7', { qos: 2, messageId: 6 }), pubrel(6)),
      expect('40 02 0005', '50 02 0006', '70 02 0006')
    ]
  },
  {
    name: 'SUBACK of MQTT 5 has the QoS of every filter behind empty properties',
    steps: [
      send(connectV5('ack-8'), '82 0f 0001 00 0001 61 00 0001 62 01 0001 63 02'),
      expect(connack5, '90 06 0001 00 00 01 02')
    ]
  },
  {
    name: 'SUBACK of MQTT 3.1.1 has the QoS of every filter',
    steps: [send(connectV3('ack-9'), '82 0e 0001 0001 61 00 0001 62 01 0001 63 02'), expect(connack3, '90 05 0001 00 01 02')]
  },
  {
    name: 'UNSUBACK of MQTT 5: 0 where there was a subscription, 0x11 where there was none',
    steps: [
      ...subscriber5('ack-10', 'ack/10', 0),
      send('a2 0e 0002 00 0006 61636b2f3130 0001 7a'),
      expect('b0 05 0002 00 00 11')
    ]
  },
  {
    name: 'UNSUBACK of MQTT 3.1.1',
    steps: [send(connectV3('ack-11'), 'a2 05 0002 0001 7a'), expect(connack3, 'b0 02 0002')]
  },
  { name: 'PINGRESP', steps: [send(connectV3('ack-12'), 'c0 00'), expect(connack3, 'd0 00')] },
  { name: 'DISCONNECT is answered by the end of the connection', steps: [send(connectV5('ack-13')), expect(connack5), send('e0 00'), closes] },
  { name: 'so it is in MQTT 3.1.1', steps: [send(connectV3('ack-14')), expect(connack3), send('e0 00'), closes] },
  {
    name: 'a take-over: DISCONNECT 0x8E to the old client, without properties',
    steps: [
      send(connectV5('ack-15')),
      expect(connack5),
      ...by('newer', send(connectV5('ack-15')), expect(connack5)),
      expect('e0 01 8e'),
      closes
    ],
    since21: takenOverSilently
  },
  {
    name: 'a take-over ends the old client of MQTT 3.1.1 without a word',
    steps: [send(connectV3('ack-16')), expect(connack3), ...by('newer', send(connectV3('ack-16')), expect(connack3)), closes]
  }
]

/** Mosquitto's plugins are spoken to there. */
const control: readonly WireCase[] = [
  ...([4, 5] as const).map((version): WireCase => ({
    name: `what is published below $CONTROL is acknowledged, and nobody gets it, level ${version}`,
    steps: [
      send(connect({ version, clientId: 'control' }), subscribe(['$CONTROL/#'], version, 0)),
      expect(...(version === 5 ? [connack5, '9004 0007 00 00'] : [connack3, '9003 0007 00'])),
      send(publish('$CONTROL/broker/v1', { version, qos: 0 }), publish('$CONTROL/broker/v1', { version, qos: 1, messageId: 6 })),
      expect('40 02 0006')
    ]
  })),
  ...([4, 5] as const).map((version): WireCase => ({
    name: `a will below $CONTROL ends the connection, level ${version}`,
    steps: [send(connect({ version, clientId: 'control', will: { topic: '$CONTROL/broker/v1', payload: 'x' } })), closes],
    since21: 'it was taken'
  }))
]

const identifiers: readonly WireCase[] = [
  {
    name: 'packet identifiers begin at 1 and go on by 1, of QoS 1 and 2 alike, also when earlier ones are free again',
    steps: [
      send(connectV3('ids-1'), '82 0a 0001 0005 6964732f31 02'),
      expect(connack3, '90 03 0001 02'),
      ...by('publisher', send(connectV3('ids-1-publisher')), expect(connack3)),
      ...by('publisher', send(publish('ids/1', { qos: 1, messageId: 900 })), expect('40 02 0384')),
      expect('32 0a 0005 6964732f31 0001 78'),
      ...by('publisher', send(publish('ids/1', { qos: 2, messageId: 901 }), pubrel(901)), expect('50 02 0385', '70 02 0385')),
      expect('34 0a 0005 6964732f31 0002 78'),
      send('40 02 0001', '50 02 0002'),
      expect('62 02 0002'),
      send('70 02 0002'),
      ...by('publisher', send(publish('ids/1', { qos: 1, messageId: 902 })), expect('40 02 0386')),
      expect('32 0a 0005 6964732f31 0003 78')
    ]
  },
  {
    name: 'packet identifiers of retained messages begin at 1 too',
    steps: [
      ...by('publisher', send(connectV3('ids-2-publisher')), expect(connack3)),
      ...by('publisher', send(publish('ids/2', { qos: 1, messageId: 7, retain: true })), expect('40 02 0007')),
      send(connectV3('ids-2'), '82 0a 0001 0005 6964732f32 01'),
      expect(connack3, '90 03 0001 01', '33 0a 0005 6964732f32 0001 78')
    ]
  },
  {
    name: 'they are counted for each client',
    steps: [
      send(connectV3('ids-3'), '82 0a 0001 0005 6964732f33 01'),
      expect(connack3, '90 03 0001 01'),
      send(publish('ids/3', { qos: 1, messageId: 9 })),
      expect('32 0a 0005 6964732f33 0001 78', '40 02 0009'),
      ...by('second', send(connectV3('ids-3-second'), '82 0a 0001 0005 6964732f33 01'), expect(connack3, '90 03 0001 01')),
      send(publish('ids/3', { qos: 1, messageId: 9 })),
      expect('32 0a 0005 6964732f33 0002 78', '40 02 0009'),
      ...by('second', expect('32 0a 0005 6964732f33 0001 78'))
    ]
  }
]

const sessions: readonly WireCase[] = [
  {
    name: 'a session without subscriptions is present too, MQTT 3.1.1',
    steps: [
      send(connectV3('here-1', { clean: false })),
      expect(connack3),
      send('e000'),
      closes,
      send(connectV3('here-1', { clean: false })),
      expect('20 02 01 00')
    ]
  },
  {
    name: 'a session without subscriptions is present too, MQTT 5',
    steps: [
      send(connectV5('here-2', keeps)),
      expect(connack5),
      send('e000'),
      closes,
      send(connectV5('here-2', { ...keeps, clean: false })),
      expect(resumed5)
    ]
  },
  {
    name: 'a session is present after a connection that broke, and for the next that takes it over',
    steps: [
      send(connectV5('here-3', keeps)),
      expect(connack5),
      drop,
      ...by('second', send(connectV5('here-3', { ...keeps, clean: false })), expect(resumed5)),
      ...by('third', send(connectV5('here-3', { ...keeps, clean: false })), expect(resumed5)),
      ...by('second', expect('e0 01 8e'), closes)
    ],
    since21: takenOverSilently
  },
  {
    name: 'a session that ended with its connection is not present',
    steps: [send(connectV5('here-4')), expect(connack5), send('e000'), closes, send(connectV5('here-4', { clean: false })), expect(connack5)]
  },
  {
    name: 'a clean start finds nothing present',
    steps: [
      send(connectV3('here-5', { clean: false })),
      expect(connack3),
      send('e000'),
      closes,
      send(connectV3('here-5')),
      expect(connack3)
    ]
  },
  {
    name: 'MQTT 3.1 is told nothing of a session that is present',
    steps: [
      send(connect({ version: 3, clientId: 'here-6', clean: false })),
      expect(connack3),
      send('e000'),
      closes,
      send(connect({ version: 3, clientId: 'here-6', clean: false })),
      expect(connack3)
    ]
  }
]

const assigned: readonly WireCase[] = [
  {
    name: 'auto_id_prefix is put before the assigned identifier',
    conf: 'auto_id_prefix line7-',
    steps: [send(connectV5('')), expect(...connackOf('22000a', '12002a', prefixed('line7-'), '27001e8480', '210014'))]
  },
  {
    name: 'listener_auto_id_prefix is put before the assigned identifier',
    conf: 'listener_auto_id_prefix x',
    steps: [send(connectV5('')), expect(...connackOf('22000a', '120025', prefixed('x'), '27001e8480', '210014'))],
    since21: 'listener_auto_id_prefix is new'
  },
  {
    name: 'an identifier is assigned without a clean start too',
    steps: [send(connectV5('', { clean: false })), expect(...connackOf('22000a', '120029', prefixed('auto-'), '27001e8480', '210014'))]
  },
  { name: 'MQTT 3.1.1 is not told the identifier that it got', steps: [send(connectV3('')), expect(connack3)] }
]

export const encodings: readonly WireCase[] = [
  ...connacks,
  ...connackValues,
  ...refusals,
  ...acknowledgements,
  ...control,
  ...identifiers,
  ...sessions,
  ...assigned
]
