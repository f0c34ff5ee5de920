// A stricter ACL on its way into force, as people do it: beside the old one first, with Mosquitto's own clients, then in its place, with
// clients that are told at once what they will never get.

import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { freePort, mosquitero, must, type Running, run, start, startBroker, userLine } from '../helpers/command.js'
import { until } from '../helpers/until.js'

async function reload(broker: Running, expected: RegExp): Promise<void> {
  const count = () => broker.stderr().split(expected).length
  const before = count()
  broker.child.kill('SIGHUP')
  await until(() => count() > before)
}

const reloaded = /: Config reloaded.*\n/
const refused = /: Error: Reload refused, the previous configuration stays in force\.\n/

/** Lines of the log that match, without their time. */
const said = (broker: Running, pattern: RegExp): string[] =>
  broker
    .stderr()
    .split('\n')
    .map(line => line.replace(/^\d+: /, ''))
    .filter(line => pattern.test(line))

t.test('a shadow ACL is tried beside the old one, mended, and read again with each reload', async t => {
  const port = await freePort()
  const conf = `listener ${port} 127.0.0.1\nallow_anonymous true\nacl_file acl\n${userLine}`
  const dir = t.testdir({
    'm.conf': `${conf}#!acl_shadow new.acl\n`,
    acl: 'topic readwrite #\n',
    'new.acl': 'topic write plant/#\ntopic red plant/#\n'
  })
  const file = (name: string) => join(dir, name)

  const broken = await mosquitero(t, ['-c', 'm.conf'], { cwd: dir }).ended
  t.equal(broken.status, 3)
  t.match(broken.stderr, /Error: Invalid topic access type "red" in acl_file "new\.acl"\.\n\d+: Error found at new\.acl:2\.\n/)

  writeFileSync(file('new.acl'), 'topic write plant/#\ntopic read plant/+\ntopic deny plant/secret\n')
  const broker = await startBroker(t, ['-v', '-c', 'm.conf'], { cwd: dir })
  await broker.line(/: Listener on port \d+ on 127\.0\.0\.1: .*, rights from acl, compared with new\.acl\.$/)
  const at = ['-h', '127.0.0.1', '-p', `${port}`]
  const reader = start(t, 'mosquitto_sub', [...at, '-i', 'reader', '-v', '-t', '#'])
  await broker.line(/: reader 0 #$/)
  const publish = (topic: string) => must(t, 'mosquitto_pub', [...at, '-i', 'writer', '-q', '1', '-t', topic, '-m', 'x'])
  for (const topic of ['plant/a', 'plant/secret', 'plant/b/c', 'other', 'plant/secret']) await publish(topic)
  await reader.line(/^other x$/)
  await until(() => reader.stdout().split('\n').length > 5)
  t.equal(reader.stdout(), 'plant/a x\nplant/secret x\nplant/b/c x\nother x\nplant/secret x\n', 'everything goes on as before')
  const none = 'no username, no rule allows it.'
  const secret = 'no username, deny rule "topic deny plant/secret" at new.acl:3.'
  t.same(said(broker, /^Shadow/), [
    `Shadow ACL would deny PUBLISH from writer ('plant/secret'): ${secret}`,
    `Shadow ACL would deny delivery of 'plant/secret' to reader: ${secret}`,
    `Shadow ACL would deny delivery of 'plant/b/c' to reader: ${none}`,
    `Shadow ACL would deny PUBLISH from writer ('other'): ${none}`,
    `Shadow ACL would deny delivery of 'other' to reader: ${none}`
  ])

  writeFileSync(file('new.acl'), 'topics read x\n')
  await reload(broker, refused)
  await broker.line(/: Error found at new\.acl:1\.$/)
  writeFileSync(file('new.acl'), '# mended\ntopic readwrite plant/#\ntopic deny plant/secret\n')
  await reload(broker, reloaded)
  t.match(said(broker, /^Config reloaded/).join(), /#!acl_shadow/, 'the reload says that its rules are others')
  await publish('plant/new/c')
  await publish('plant/secret')
  await reader.line(/^plant\/new\/c x$/)
  t.same(said(broker, /^Shadow.*plant\/new/), [])

  writeFileSync(file('m.conf'), conf)
  await reload(broker, reloaded)
  await broker.line(/: Listener on port \d+ on 127\.0\.0\.1: .*, rights from acl\.$/)
  await publish('no-shadow')
  await reader.line(/^no-shadow x$/)
  t.same(said(broker, /^Shadow.*no-shadow/), [])

  const { stderr } = await broker.stop()
  t.match(
    stderr,
    /The shadow ACL would have denied since the start:\n\d+: \tdeny rule "topic deny plant\/secret" at new\.acl:3: 3 publishes, 3 deliveries\n\d+: \tno rule allows it: 1 publish, 2 deliveries\n/
  )
  t.notMatch(stderr, /Denied by the ACL/)
})

t.test('strict: mosquitto_sub is told at once what it will never get', async t => {
  const port = await freePort()
  const dir = t.testdir({
    'm.conf': `listener ${port} 127.0.0.1\nallow_anonymous true\nacl_file acl\n#!acl_subscribe_check strict\nlog_type all\n${userLine}`,
    acl: 'topic readwrite plant/#\ntopic deny plant/secret/#\n'
  })
  const broker = await startBroker(t, ['-c', 'm.conf'], { cwd: dir })
  const at = ['-h', '127.0.0.1', '-p', `${port}`]
  const subscribe = (version: string, ...filters: readonly string[]) =>
    run(t, 'mosquitto_sub', [...at, '-V', version, '-i', version, '-d', '-W', '3', ...filters.flatMap(filter => ['-t', filter])])
  const [v311, v5] = await Promise.all([subscribe('mqttv311', 'plant/secret/#'), subscribe('mqttv5', 'elsewhere', 'plant/secret/+')])
  t.match(v311.stdout + v311.stderr, /Subscribed \(mid: 1\): 128\n.*All subscription requests were denied\./s)
  t.match(v5.stdout + v5.stderr, /Subscribed \(mid: 1\): 135, 135\n.*All subscription requests were denied\./s)
  t.same(said(broker, /^Denied SUBSCRIBE from mqttv5/), [
    "Denied SUBSCRIBE from mqttv5 ('elsewhere'): no username, no rule allows it.",
    `Denied SUBSCRIBE from mqttv5 ('plant/secret/+'): no username, deny rule "topic deny plant/secret/#" at acl:2.`
  ])

  const reader = start(t, 'mosquitto_sub', [...at, '-i', 'reader', '-v', '-t', 'plant/#', '-t', 'plant/secret/#'])
  await broker.line(/: reader 0 plant\/#$/)
  const publish = (topic: string) => must(t, 'mosquitto_pub', [...at, '-t', topic, '-m', 'x'])
  await publish('plant/secret/a')
  await publish('plant/a')
  await reader.line(/^plant\/a x$/)
  t.equal(reader.stdout(), 'plant/a x\n')
  const { stderr } = await broker.stop()
  t.match(
    stderr,
    /Denied by the ACL since the start:\n\d+: \tdeny rule "topic deny plant\/secret\/#" at acl:2: 1 publish, 3 subscriptions\n\d+: \tno rule allows it: 1 subscription\n\d+: mosquitero version \S+ terminating\n/
  )
})
