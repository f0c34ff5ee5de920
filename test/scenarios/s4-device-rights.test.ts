// S4: the certificate's common name is the device id, the client id is TENANT:DEVICE, and a device has its own topics and nobody else's. With
// Mosquitto's own clients.

import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import type { Subject } from '../../dist/pki/authority.js'
import { freePort, must, type Running, run, start, startBroker, userLine } from '../helpers/command.js'
import { type CertificateFiles, testPki } from '../helpers/pki.js'

let made = 0

const rights = `#!pattern write /%{c:1}/%{c:2}/attrs
#!pattern read /%{c:1}/%{c:2}/config
user platform
topic readwrite #
`

interface Platform {
  readonly broker: Running
  readonly port: number
  readonly dir: string
  readonly ca: string
  device(name: string, subject?: Subject): Promise<CertificateFiles>
  /** The arguments of mosquitto_pub and mosquitto_sub. */
  as(device: CertificateFiles, clientId: string, ...more: string[]): string[]
}

async function platform(t: Test, acl = rights, options = '#!clientid_must_match *:cn\n'): Promise<Platform> {
  const pki = await testPki(t)
  const server = await pki.server()
  const port = await freePort()
  writeFileSync(join(pki.dir, 'acl'), acl)
  writeFileSync(
    join(pki.dir, 'mosquitto.conf'),
    `listener ${port}
certfile ${server.cert}
keyfile ${server.key}
cafile ${pki.ca}
require_certificate true
use_identity_as_username true
acl_file acl
${options}${userLine}`
  )
  const broker = await startBroker(t, ['-c', 'mosquitto.conf', '-v'], { cwd: pki.dir })
  const where = ['-h', 'localhost', '-p', `${port}`, '--cafile', pki.ca]
  return {
    broker,
    port,
    dir: pki.dir,
    ca: pki.ca,
    device: (name, subject) => pki.client(name, { file: `device-${++made}`, ...(subject && { subject }) }),
    as: ({ cert, key }, clientId, ...more) => [...where, '--cert', cert, '--key', key, '-i', clientId, ...more]
  }
}

t.test('a device publishes its attributes and hears its configuration', async t => {
  const { broker, as, device } = await platform(t)
  const f60c28 = await device('f60c28')
  const boss = await device('platform')
  const all = start(t, 'mosquitto_sub', as(boss, 'ops:platform', '-v', '-t', '/#'))
  await broker.line(/: ops:platform 0 \/#$/)
  const own = start(t, 'mosquitto_sub', as(f60c28, 'admin:f60c28', '-v', '-t', '/admin/f60c28/config'))
  await broker.line(/: admin:f60c28 0 \/admin\/f60c28\/config$/)
  const configured = await run(t, 'mosquitto_pub', as(boss, 'ops2:platform', '-t', '/admin/f60c28/config', '-m', 'on'))
  t.equal(configured.status, 0)
  await own.line(/^\/admin\/f60c28\/config on$/)
  await own.stop()
  const sent = await run(t, 'mosquitto_pub', as(f60c28, 'admin:f60c28', '-t', '/admin/f60c28/attrs', '-m', '{"attr_example": 10}'))
  t.equal(sent.status, 0)
  await all.line(/^\/admin\/f60c28\/attrs \{"attr_example": 10\}$/)
})

t.test('it neither writes nor reads what is another device’s, another tenant’s, or not for it to do', async t => {
  const { broker, as, device } = await platform(t)
  const f60c28 = await device('f60c28')
  const boss = await device('platform')
  const all = start(t, 'mosquitto_sub', as(boss, 'ops:platform', '-v', '-t', '/#'))
  await broker.line(/: ops:platform 0 \/#$/)
  const topics = [
    '/admin/f60c29/attrs',
    '/other/f60c28/attrs',
    '/admin/f60c28/config',
    '/admin/f60c28',
    '/admin/f60c28/attrs/x',
    'admin/f60c28/attrs'
  ]
  for (const topic of topics) {
    const { status, stderr } = await run(t, 'mosquitto_pub', as(f60c28, 'admin:f60c28', '-V', '5', '-q', '1', '-t', topic, '-m', 'x', '-d'))
    t.match(`${stderr}`, /Not authorized|not authorised/i, topic)
    t.ok(status === 0 || status === 135, 'the connection is kept, the message is refused')
  }
  const others = start(t, 'mosquitto_sub', as(f60c28, 'admin:f60c28', '-v', '-t', '/#', '-t', '/admin/+/config'))
  await broker.line(/: admin:f60c28 0 \/admin\/\+\/config$/)
  for (const device of ['f60c29', 'f60c28']) {
    await run(t, 'mosquitto_pub', as(boss, 'ops2:platform', '-t', `/admin/${device}/config`, '-m', `for ${device}`))
  }
  await others.line(/^\/admin\/f60c28\/config for f60c28$/)
  t.notMatch(others.stdout(), /f60c29/)
  await all.line(/config for f60c28$/)
  t.notMatch(all.stdout(), / x$/m)
})

t.test('under any other client id it is refused, and the log says which it should have been', async t => {
  const { broker, as, device } = await platform(t)
  const f60c28 = await device('f60c28')
  const wrong = [
    'admin:f60c29',
    'f60c28',
    ':f60c28',
    'admin:f60c28:x',
    'a:b:f60c28',
    '+:f60c28',
    '#:f60c28',
    'a+b:f60c28',
    'a/b:f60c28',
    'ADMIN:F60C28'
  ]
  for (const clientId of wrong) {
    const old = await run(t, 'mosquitto_pub', as(f60c28, clientId, '-V', '311', '-t', '/admin/f60c28/attrs', '-m', 'x'))
    t.equal(old.status, 2, `CONNACK 2 for ${clientId}`)
    const newer = await run(t, 'mosquitto_pub', as(f60c28, clientId, '-V', '5', '-t', '/admin/f60c28/attrs', '-m', 'x'))
    t.equal(newer.status, 0x85, `reason 0x85 for ${clientId}`)
  }
  await broker.line(/Client admin:f60c29 \[.*\] disconnected: client id must be a tenant and ':f60c28', as the certificate says\.$/)
  t.notMatch(broker.stderr(), /New client connected/)
})

t.test('a common name that could be read as another device’s id is refused', async t => {
  const { broker, as, device } = await platform(t)
  for (const name of ['x:f60c28', 'a/b', '+', '#']) {
    const { status } = await run(t, 'mosquitto_pub', as(await device(name), `admin:${name}`, '-t', '/admin/f60c28/attrs', '-m', 'x'))
    t.equal(status, 2, name)
  }
  await broker.line(/common name 'x:f60c28' holds what no part of a client id can hold: '\/', '\+', '#', ':' or a control character/)
})

t.test('rights by the organization and the serial number of the certificate', async t => {
  const acl = '#!pattern readwrite plant/%o/%u/#\n#!pattern readwrite serial/%s\n'
  const { broker, as, device } = await platform(t, acl, '')
  const press = await device('press-7', [
    ['O', 'Acme'],
    ['CN', 'press-7']
  ])
  const stray = await device('stray', [
    ['O', 'A/B'],
    ['CN', 'stray']
  ])
  const heard = start(t, 'mosquitto_sub', as(press, 'sub', '-v', '-t', '#'))
  await broker.line(/: sub 0 #$/)
  const publish = (who: CertificateFiles, topic: string) => run(t, 'mosquitto_pub', as(who, 'pub', '-t', topic, '-m', 'x'))
  for (const topic of ['plant/A/B/stray/x', 'plant/Acme/stray/x', 'plant//stray/x', 'plant/%o/stray/x']) await publish(stray, topic)
  for (const topic of ['plant/Acme/stray/x', `serial/${press.serial}`, 'plant/Acme/press-7/x']) await publish(press, topic)
  await heard.line(/^plant\/Acme\/press-7\/x x$/)
  t.same(heard.stdout().trim().split('\n'), [`serial/${press.serial} x`, 'plant/Acme/press-7/x x'])
})

t.test('what an absent device may read is still known after a restart, and so is who retained what', async t => {
  const acl = '#!pattern readwrite plant/%o/#\n'
  const { broker, as, device, dir } = await platform(t, acl, 'persistence true\npersistence_location ./\n')
  const press = await device('press-7', [
    ['O', 'Acme'],
    ['CN', 'press-7']
  ])
  const other = await device('press-8', [
    ['O', 'Acme'],
    ['CN', 'press-8']
  ])
  const stray = await device('stray', [
    ['O', 'Other'],
    ['CN', 'stray']
  ])
  const subscribe = (...more: string[]) => as(press, 'sub', '-c', '-q', '1', '-v', '-t', 'plant/#', ...more)
  t.equal((await run(t, 'mosquitto_sub', subscribe('-E'))).status, 0)
  await run(t, 'mosquitto_pub', as(other, 'retainer', '-t', 'plant/Acme/retained', '-r', '-q', '1', '-m', 'kept'))
  t.equal((await broker.stop()).status, 0)

  const again = await startBroker(t, ['-c', 'mosquitto.conf', '-v'], { cwd: dir })
  await run(t, 'mosquitto_pub', as(other, 'pub', '-q', '1', '-t', 'plant/Acme/x', '-m', 'for Acme'))
  await run(t, 'mosquitto_pub', as(stray, 'pub2', '-q', '1', '-t', 'plant/Other/x', '-m', 'for Other'))
  const back = start(t, 'mosquitto_sub', subscribe())
  await back.line(/^plant\/Acme\/x for Acme$/)
  await back.line(/^plant\/Acme\/retained kept$/)
  t.notMatch(back.stdout(), /Other/)
  await again.stop()
})

t.test('Mosquitto takes the same files, and for it our lines are comments', async t => {
  const { as, device, dir, broker, port } = await platform(t, '#!pattern readwrite plant/%o/#\npattern readwrite user/%u/#\n')
  await broker.stop()
  const theirs = start(t, 'mosquitto', ['-c', 'mosquitto.conf', '-v'], { cwd: dir })
  await theirs.line(/running$/)
  const press = await device('press-7', [
    ['O', 'Acme'],
    ['CN', 'press-7']
  ])
  const heard = start(t, 'mosquitto_sub', as(press, 'anything', '-v', '-t', '#'))
  await theirs.line(/Sending SUBACK to anything/)
  for (const topic of ['plant/Acme/x', 'user/press-7/x']) await must(t, 'mosquitto_pub', as(press, 'pub', '-t', topic, '-m', `${port}`))
  await heard.line(/^user\/press-7\/x/)
  t.notMatch(heard.stdout(), /plant/)
})

async function startNamed(t: Test, source: string, more = '') {
  const pki = await testPki(t)
  const server = await pki.server()
  const port = await freePort()
  writeFileSync(
    join(pki.dir, 'mosquitto.conf'),
    `listener ${port}\ncertfile ${server.cert}\nkeyfile ${server.key}\ncafile ${pki.ca}\nrequire_certificate true\nuse_identity_as_username true\n#!identity_source ${source}\n${more}${userLine}`
  )
  const broker = await startBroker(t, ['-c', 'mosquitto.conf'], { cwd: pki.dir })
  return { pki, broker, port }
}
for (const [source, username] of [
  ['cn', /^press-7$/],
  ['subject', /^CN=press-7$/],
  ['san:dns', /^press-7\.example$/],
  ['serial', /^[0-9A-F]+$/],
  ['fingerprint', /^[0-9a-f]{64}$/]
] as const) {
  t.test(`with #!identity_source ${source} the log names the client so`, async t => {
    const { pki, broker, port } = await startNamed(t, source)
    const { cert, key } = await pki.client('press-7', { names: ['press-7.example', 'b.example'] })
    await must(t, 'mosquitto_pub', [
      '-h',
      'localhost',
      '-p',
      `${port}`,
      '--cafile',
      pki.ca,
      '--cert',
      cert,
      '--key',
      key,
      '-t',
      't',
      '-m',
      'x'
    ])
    const [, found = ''] = /u'(.*)'\)\.$/.exec(await broker.line(/New client connected/)) ?? []
    t.match(found, username)
  })
}

t.test('a certificate without the name that is wanted: the log says which one, and what it should have held', async t => {
  const whole: Subject = [['O', 'Plant']]
  for (const [source, subject, wanted] of [
    ['cn', whole, 'common name'],
    ['san:uri', undefined, 'first URI']
  ] as const) {
    // Said all the same: who is refused is what people look for.
    const { pki, broker, port } = await startNamed(t, source, 'connection_messages false\n')
    const { cert, key } = await pki.client('press-7', subject === undefined ? {} : { subject })
    const args = ['-h', 'localhost', '-p', `${port}`, '--cafile', pki.ca, '--cert', cert, '--key', key, '-t', 't', '-m', 'x']
    t.match((await run(t, 'mosquitto_pub', args)).stderr, /Connection Refused: bad user name or password/)
    const name = subject === undefined ? 'CN=press-7' : 'O=Plant'
    const words = `the listener takes the username from the ${wanted} of the certificate, and there is none`
    const line = await broker.line(/rejected/)
    t.ok(line.endsWith(`rejected, ${words} (subject ${name}, issuer CN=Test CA).`), line)
  }
})
