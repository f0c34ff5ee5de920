// What an ACL decision leaves behind: the line that explains it, and a count for its rule.

import t, { type Test } from 'tap'
import { AclLog } from '../../dist/broker/acl-log.js'
import { type BareOptions, recordLog, startBareBroker } from '../helpers/bare-broker.js'
import { type MqttClient, until } from '../helpers/mqtt.js'

const acl = 'topic write #\ntopic read open/#\ntopic deny secret/#\ntopic read +/shown'

async function scene(t: Test, options: BareOptions = {}) {
  const bare = await startBareBroker(t, { acl, ...options })
  const login = async (clientId: string, clean = true): Promise<MqttClient> => {
    const client = await bare.connect()
    await client.connect({ clientId, clean })
    return client
  }
  const writer = await login('writer')
  let messageId = 0
  const publish = async (topic: string, fields: { retain?: boolean } = {}): Promise<void> => {
    writer.publish(topic, 'x', { ...fields, qos: 1, messageId: ++messageId })
    await writer.next('puback')
  }
  const counts = () => bare.broker.aclCounts.denied.map(({ why, publishes, deliveries, wills }) => ({ why, publishes, deliveries, wills }))
  const explained = () => bare.log.debug.filter(line => line.startsWith('Denied') && line.includes('rule'))
  return { ...bare, login, publish, counts, explained }
}

t.test('a denied delivery is explained to who debugs, and counted for its rule', async t => {
  const { login, publish, counts, explained } = await scene(t)
  const reader = await login('reader')
  await reader.subscribe('#')
  for (const topic of ['closed', 'open/1', 'closed', 'secret/shown']) await publish(topic)
  t.equal((await reader.next('publish')).topic, 'open/1')
  t.same(explained(), ["Denied delivery of 'closed' to reader: no username, no rule allows it."], 'the same once in a while')
  t.same(counts(), [
    { why: 'no rule allows it', publishes: 0, deliveries: 2, wills: 0 },
    { why: 'deny rule "topic deny secret/#" at acl:3', publishes: 1, deliveries: 0, wills: 0 }
  ])
})

t.test('nobody debugs: nothing is said, everything is counted', async t => {
  const { login, publish, counts, log } = await scene(t, { debug: false })
  const reader = await login('reader')
  await reader.subscribe('#')
  for (let i = 0; i < 5; i++) await publish('closed')
  await publish('open/end')
  await reader.next('publish')
  t.notOk(log.debug.some(line => line.startsWith('Denied delivery')))
  t.same(counts(), [{ why: 'no rule allows it', publishes: 0, deliveries: 5, wills: 0 }])
})

t.test('a retained message that may not be read, or no longer be written, is a denied delivery too', async t => {
  const { login, publish, counts, explained, reload } = await scene(t)
  for (const topic of ['closed', 'open/mine', 'open/kept']) await publish(topic, { retain: true })
  const reader = await login('reader')
  await reader.subscribe('#')
  t.same([(await reader.next('publish')).topic, (await reader.next('publish')).topic].toSorted(), ['open/kept', 'open/mine'])
  reload({ acl: 'topic read #\ntopic write open/kept' })
  await reader.subscribe('open/#')
  t.equal((await reader.next('publish')).topic, 'open/kept')
  await reader.ping()
  t.same(explained(), [
    "Denied delivery of 'closed' to reader: no username, no rule allows it.",
    "Denied retained message 'open/mine' of writer: no username, no rule allows it."
  ])
  t.match(counts(), [{ deliveries: 2 }])
})

t.test('what waited for a client that has lost the right meanwhile is denied when it comes', async t => {
  const { login, publish, counts, explained, reload } = await scene(t)
  const reader = await login('reader', false)
  await reader.subscribe('#', 1)
  reader.send({ cmd: 'disconnect' })
  await reader.closed()
  await publish('open/1')
  await publish('open/2')
  reload({ acl: 'topic read open/2' })
  const again = await login('reader', false)
  t.equal((await again.next('publish')).topic, 'open/2')
  t.same(explained(), ["Denied delivery of 'open/1' to reader: no username, no rule allows it."])
  t.match(counts(), [{ why: 'no rule allows it', deliveries: 1 }])
})

t.test('wills and publishes are counted, each time', async t => {
  const { connect, publish, counts, log } = await scene(t)
  const dying = await connect()
  await dying.connect({ clientId: 'dying', will: { topic: 'secret/will', payload: Buffer.from('x'), qos: 0, retain: false } })
  dying.destroy()
  await until(() => log.lines.some(line => line.startsWith('Denied will of dying')), 'the will')
  for (let i = 0; i < 3; i++) await publish('secret/x')
  t.equal(log.lines.filter(line => line.startsWith('Denied PUBLISH')).length, 1)
  t.match(counts(), [{ why: 'deny rule "topic deny secret/#" at acl:3', publishes: 3, wills: 1 }])
})

const shadow = 'topic write closed\ntopic deny secret/will\ntopic read open/#\ntopic read closed\ntopic write secret/x'

t.test('a shadow ACL denies and allows nothing, and says what it would', async t => {
  const { login, connect, publish, log, broker } = await scene(t, { shadow })
  const reader = await login('reader')
  await reader.subscribe('#')
  const dying = await connect()
  await dying.connect({ clientId: 'dying', will: { topic: 'other/will', payload: Buffer.from('x'), qos: 0, retain: false } })
  dying.destroy()
  await until(() => log.lines.some(line => line.includes('will of dying')), 'the will')
  for (const topic of ['open/1', 'open/1', 'closed', 'closed', 'a/shown', 'secret/x', 'secret/y']) await publish(topic)
  t.same(
    [(await reader.next('publish')).topic, (await reader.next('publish')).topic, (await reader.next('publish')).topic],
    ['open/1', 'open/1', 'a/shown']
  )
  t.same(
    log.lines.filter(line => line.startsWith('Shadow')),
    [
      "Shadow ACL would deny will of dying ('other/will'): no username, no rule allows it.",
      "Shadow ACL would deny PUBLISH from writer ('open/1'): no username, no rule allows it.",
      `Shadow ACL would allow delivery of 'closed' to reader: no username, rule "topic read closed" at new.acl:4.`,
      "Shadow ACL would deny PUBLISH from writer ('a/shown'): no username, no rule allows it.",
      "Shadow ACL would deny delivery of 'a/shown' to reader: no username, no rule allows it.",
      `Shadow ACL would allow PUBLISH from writer ('secret/x'): no username, rule "topic write secret/x" at new.acl:5.`
    ]
  )
  const { denied, shadowDenied, shadowAllowed } = broker.aclCounts
  t.match(shadowDenied, [{ reason: 'no-rule', publishes: 3, deliveries: 1, wills: 1 }])
  t.match(shadowAllowed, [
    { why: 'rule "topic read closed" at new.acl:4', deliveries: 2, publishes: 0 },
    { why: 'rule "topic write secret/x" at new.acl:5', publishes: 1 }
  ])
  t.match(denied, [
    { reason: 'no-rule', deliveries: 3 },
    { rule: { at: { line: 3 } }, publishes: 2 }
  ])
})

t.test('a shadow ACL is asked about retained messages too', async t => {
  const { login, publish, log } = await scene(t, { shadow: 'topic write #\ntopic deny open/2' })
  await publish('open/1', { retain: true })
  await publish('open/2', { retain: true })
  const reader = await login('reader')
  await reader.subscribe('open/2')
  t.equal((await reader.next('publish')).topic, 'open/2')
  t.same(
    log.lines.filter(line => line.startsWith('Shadow')),
    [
      `Shadow ACL would deny PUBLISH from writer ('open/2'): no username, deny rule "topic deny open/2" at new.acl:2.`,
      `Shadow ACL would deny delivery of 'open/2' to reader: no username, deny rule "topic deny open/2" at new.acl:2.`
    ]
  )
})

t.test('lines about deliveries are bounded, and what is left out is told as a number', async t => {
  const log = recordLog()
  const aclLog = new AclLog(log)
  const decision = { allowed: false, reason: 'no-rule' } as const
  for (let i = 0; i < 1000; i++) aclLog.delivery({ clientId: `c${i}` }, 'x', decision)
  t.equal(log.debug.length, 600)
  t.same(aclLog.counts.denied, [
    { why: 'no rule allows it', reason: 'no-rule', publishes: 0, deliveries: 1000, wills: 0, subscriptions: 0 }
  ])
})
