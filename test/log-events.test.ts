import t from 'tap'
import { type LogEventName, type LogFields, logEvents } from '../dist/log-events.js'

function line<Name extends LogEventName>(name: Name, fields: LogFields<Name>): string {
  return `${logEvents[name].type}: ${logEvents[name].text(fields)}`
}

const peer = { remoteAddress: '192.0.2.7', remotePort: 50123 }
const clientId = 'press-7'
const at = 'Protocol error from 192.0.2.7:50123:'

// Mosquitto 2.1's words where 2.0 has others or none; test/parity/log-lines.test.ts has those that the real one says.
t.test('a CONNECT that breaks the rules is told as Mosquitto 2.1 does', async t => {
  const what = 'CONNECT with incorrect protocol string length (5)'
  t.equal(line('connectInvalid', { ...peer, what }), `information: ${at} CONNECT with incorrect protocol string length (5).`)
  const flag = 'CONNECT with non-zero connect reserved flag (03)'
  t.equal(line('connectInvalid', { ...peer, what: flag }), `information: ${at} CONNECT with non-zero connect reserved flag (03).`)
  const v31 = 'v3.1 CONNECT with zero length clientid'
  t.equal(line('connectInvalid', { ...peer, what: v31 }), `information: ${at} v3.1 CONNECT with zero length clientid.`)
  t.equal(
    line('connectProtocolUnknown', { ...peer, what: 'invalid protocol "HTTP"' }),
    `information: ${at} CONNECT with invalid protocol "HTTP".`
  )
  t.ok(logEvents.connectProtocolUnknown.connection)
  t.equal(
    line('protocolError', { clientId, what: 'Will with empty topic' }),
    'information: Protocol error from press-7: Will with empty topic.'
  )
  t.equal(
    line('passwordWithoutUsername', { clientId }),
    'error: Protocol error from press-7: password without username, closing connection.'
  )
  t.equal(line('willTooLarge', { clientId }), 'debug: Client press-7 connected with too large Will payload')
})

t.test('other lines that are 2.1 alone', async t => {
  t.equal(
    line('publishInvalid', { clientId, what: 'Invalid PUBLISH (QoS=0 and DUP=1)' }),
    'information: Invalid PUBLISH (QoS=0 and DUP=1) from press-7, disconnecting.'
  )
  t.equal(
    line('protocolError', { clientId, what: '$share subscription with no-local set' }),
    'information: Protocol error from press-7: $share subscription with no-local set.'
  )
  t.equal(
    line('receiveMaximumExceeded', { clientId }),
    'warning: Client press-7 has exceeded its receive-maximum quota. This behaviour must be fixed on the client.'
  )
})

// The words of Mosquitto's source; a build with bridges never says it, since an #ifdef there swallows the call.
t.test('a DISCONNECT that is sent is told with its reason code', async t => {
  t.equal(line('disconnectSent', { clientId, reasonCode: 142 }), 'debug: Sending DISCONNECT to press-7 (rc142)')
})

t.test('denials are summed up, those of which there are most', async t => {
  const nothing = { publishes: 0, deliveries: 0, wills: 0, subscriptions: 0 }
  const rules = [
    { ...nothing, why: 'deny rule "topic deny a" at acl:3', publishes: 2, deliveries: 1, wills: 1, subscriptions: 2 },
    { ...nothing, why: 'no rule allows it', publishes: 1, deliveries: 2, wills: 2, subscriptions: 1 }
  ]
  const { type, text } = logEvents.deniedInAll
  t.equal(type, 'information')
  const lines = [
    'Denied by the ACL since the start:',
    '\tdeny rule "topic deny a" at acl:3: 2 publishes, 1 delivery, 1 will, 2 subscriptions',
    '\tno rule allows it: 1 publish, 2 deliveries, 2 wills, 1 subscription'
  ]
  t.same(text({ rules, more: 0 }), lines)
  t.same(text({ rules: [], more: 2 }), [lines[0], '\tand by 2 more rules'])
})

t.test('what a shadow ACL says otherwise reads like a denial', async t => {
  const fields = { clientId, username: 'ann', topic: 'plant/a', why: 'no rule allows it' }
  t.equal(
    line('shadowDenies', { ...fields, what: 'publish' }),
    "notice: Shadow ACL would deny PUBLISH from press-7 ('plant/a'): user 'ann', no rule allows it."
  )
  t.equal(
    line('shadowDenies', { clientId, topic: 'plant/a', what: 'will', why: 'no rule allows it' }),
    "notice: Shadow ACL would deny will of press-7 ('plant/a'): no username, no rule allows it."
  )
  const why = 'rule "topic read plant/#" at new.acl:2'
  t.equal(
    line('shadowAllows', { ...fields, what: 'delivery', why }),
    `notice: Shadow ACL would allow delivery of 'plant/a' to press-7: user 'ann', ${why}.`
  )
})

t.test('lines of our own', async t => {
  const why = 'rule "topic deny plant/#" at acl:12'
  t.equal(
    line('deliveryDenied', { clientId, username: 'ann', topic: 'plant/a', why }),
    `debug: Denied delivery of 'plant/a' to press-7: user 'ann', ${why}.`
  )
  t.match(line('storeWaiting', { seconds: 1 }), /^warning: Warning: The store has not answered for 1 second: /)
  t.equal(line('storeAnswers', { seconds: 5 }), 'notice: The store answers again after 5 seconds.')
})
