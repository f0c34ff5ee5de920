// TLS with pre-shared keys: Mosquitto's own clients with our broker, and the same questions to the real Mosquitto.

import { chmodSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { freePort, type Running, run, start, startBroker, userLine } from '../helpers/command.js'

type Client = readonly [identity: string, key: string, ...more: string[]]

interface Place {
  readonly dir: string
  readonly port: number
  conf(options?: string): void
  keys(text: string): void
  publish(client: Client): Promise<number | null>
}

async function place(t: Test): Promise<Place> {
  const dir = t.testdir()
  const port = await freePort()
  const where = ['-h', '127.0.0.1', '-p', `${port}`]
  const conf = (options = 'use_identity_as_username true\n') =>
    writeFileSync(join(dir, 'm.conf'), `listener ${port} 127.0.0.1\npsk_hint plant\npsk_file keys\n${options}${userLine}`)
  const keys = (text: string) => writeFileSync(join(dir, 'keys'), text, { mode: 0o600 })
  conf()
  return {
    dir,
    port,
    conf,
    keys,
    publish: async ([identity, key, ...more]) =>
      (await run(t, 'mosquitto_pub', [...where, '--psk-identity', identity, '--psk', key, '-t', 't', '-m', 'x', ...more])).status
  }
}

const mosquitto = async (t: Test, { dir }: Place): Promise<Running> => {
  const broker = start(t, 'mosquitto', ['-c', 'm.conf'], { cwd: dir })
  await broker.line(/running$/)
  return broker
}

const keyFile = 'ann:0a0b0c0d\n# comment\n:ff\nnocolon\nodd:abc\n spaced : 0102 \ntwice:01\ntwice:02\nthird:0a:more\n'

// [who, whether Mosquitto and we let them in].
const clients: readonly [client: Client, isIn: boolean][] = [
  [['ann', '0a0b0c0d'], true],
  [['ann', '0A0B0C0D'], true],
  [['ann', '0a0b0c0e'], false],
  [['ann', '0a0b0c'], false],
  [['eve', '0a0b0c0d'], false],
  [['ANN', '0a0b0c0d'], false],
  [['odd', '0abc'], true],
  [['spaced', '0102'], true],
  [['twice', '01'], true],
  [['twice', '02'], false],
  [['third', '0a'], true]
]

t.test('who has the key of an identity comes in, as with Mosquitto', async t => {
  const ours = await place(t)
  ours.keys(keyFile)
  await startBroker(t, ['-c', 'm.conf'], { cwd: ours.dir })
  await t.test('Mosquitto', async t => {
    const theirs = await place(t)
    theirs.keys(keyFile)
    await mosquitto(t, theirs)
    for (const [client, isIn] of clients) t.equal((await theirs.publish(client)) === 0, isIn, client.join(' '))
  })
  for (const [client, isIn] of clients) t.equal((await ours.publish(client)) === 0, isIn, client.join(' '))
})

t.test('the log names the identity of who came in and of who did not, and shows no key', async t => {
  const { dir, keys, publish } = await place(t)
  keys('ann:0a0b0c0d\n')
  const broker = await startBroker(t, ['-c', 'm.conf'], { cwd: dir })
  await broker.line(/^\d+: Listener on .*: TLSv1\.2 with pre-shared keys from keys, username from the identity of the pre-shared key/)
  await publish(['ann', '0a0b0c0d'])
  await broker.line(/New client connected from 127\.0\.0\.1:\d+ as .* \(p4, c1, k60, u'ann'\)\.$/)
  await publish(['eve', '00112233'])
  await broker.line(/Connection from 127\.0\.0\.1:\d+ rejected, PSK identity 'eve' is not in psk_file\.$/)
  await publish(['ann', '44556677'])
  await broker.line(/rejected, client does not have the key of PSK identity 'ann'\.$/)
  t.notMatch(broker.stderr(), /0a0b0c0d|00112233|44556677/)
})

t.test('whoever is turned away learns nothing of who is in the file', async t => {
  const { dir, keys, port } = await place(t)
  keys('ann:0a0b0c0d\n')
  await startBroker(t, ['-c', 'm.conf'], { cwd: dir })
  const answers: string[] = []
  for (const identity of ['ann', 'eve']) {
    const args = ['s_client', '-connect', `127.0.0.1:${port}`, '-tls1_2', '-psk_identity', identity, '-psk', 'ffffffff', '-cipher', 'PSK']
    const { stderr } = await run(t, 'openssl', args)
    answers.push(/alert [\w ]+/.exec(stderr)?.[0] ?? stderr)
  }
  t.match(answers[0], /^alert /)
  t.equal(answers[1], answers[0])
})

t.test('TLS 1.2 and no other version, and no certificate', async t => {
  const { dir, keys, port } = await place(t)
  keys('ann:0a0b0c0d\n')
  const broker = await startBroker(t, ['-c', 'm.conf'], { cwd: dir })
  const connect = (...more: string[]) =>
    run(t, 'openssl', ['s_client', '-connect', `127.0.0.1:${port}`, ...more, '-psk_identity', 'ann', '-psk', '0a0b0c0d'])
  const good = await connect('-tls1_2')
  t.match(good.stdout, /no peer certificate available/)
  t.match(good.stdout, /PSK identity hint: plant/)
  t.match(good.stdout, /Cipher +: \S*PSK\S*/)
  t.notMatch(good.stdout, /TLS session ticket/, 'which would say nobody’s name')
  t.not((await connect('-tls1_3')).status, 0)
  await broker.line(/rejected, no TLS version in common/)
})

t.test('without use_identity_as_username it is encryption alone: names and passwords are as ever', async t => {
  const { dir, conf, keys, publish } = await place(t)
  keys('ann:0a0b0c0d\n')
  conf('allow_anonymous true\n')
  const broker = await startBroker(t, ['-c', 'm.conf'], { cwd: dir })
  t.equal(await publish(['ann', '0a0b0c0d', '-u', 'bob']), 0)
  await broker.line(/u'bob'\)\.$/)
  t.not(await publish(['ann', '0a0b0c0e', '-u', 'bob']), 0)
})

t.test('a reload takes new keys, and disconnects whose key was changed or is gone', async t => {
  const { dir, keys, publish, port } = await place(t)
  keys('ann:0a0b\nbob:0c0d\ncyd:0e0f\n')
  const broker = await startBroker(t, ['-c', 'm.conf', '-v'], { cwd: dir })
  const subscribe = (identity: string, key: string) =>
    start(t, 'mosquitto_sub', ['-h', '127.0.0.1', '-p', `${port}`, '-i', identity, '--psk-identity', identity, '--psk', key, '-t', 'news'])
  const [, , cyd] = [subscribe('ann', '0a0b'), subscribe('bob', '0c0d'), subscribe('cyd', '0e0f')]
  for (const name of ['ann', 'bob', 'cyd']) await broker.line(new RegExp(`: ${name} 0 news$`))
  keys('ann:0a0c\ncyd:0e0f\ndan:0102\n')
  broker.child.kill('SIGHUP')
  await broker.line(
    /psk_file keys changed \(\+1\/-1 keys, 1 key changed\); 2 clients disconnected: pre-shared key no longer accepted \(2\)/
  )
  await broker.line(/Client ann \[.*\] disconnected: administrative action, the key of PSK identity 'ann' is another one now/)
  await broker.line(/Client bob \[.*\] disconnected: administrative action, PSK identity 'bob' is not in psk_file/)
  t.not(await publish(['ann', '0a0b']), 0, 'the old key')
  t.equal(await publish(['ann', '0a0c', '-t', 'news']), 0, 'the new one')
  t.equal(await publish(['dan', '0102']), 0)
  await cyd?.line(/^x$/)
})

t.test('a listener becomes one with keys at a reload, and whoever came without one goes', async t => {
  const { dir, keys, publish, port } = await place(t)
  keys('ann:0a0b\n')
  writeFileSync(join(dir, 'm.conf'), `listener ${port} 127.0.0.1\nallow_anonymous true\n${userLine}`)
  const broker = await startBroker(t, ['-c', 'm.conf', '-v'], { cwd: dir })
  const plain = start(t, 'mosquitto_sub', ['-h', '127.0.0.1', '-p', `${port}`, '-i', 'plain', '-t', 'news'])
  await broker.line(/: plain 0 news$/)
  const conf = (hint: string) =>
    writeFileSync(
      join(dir, 'm.conf'),
      `listener ${port} 127.0.0.1\npsk_hint ${hint}\npsk_file keys\nuse_identity_as_username true\n${userLine}`
    )
  conf('plant')
  broker.child.kill('SIGHUP')
  await broker.line(/Client plain \[.*\] disconnected: administrative action, TLS is required now/)
  await plain.stop()
  t.equal(await publish(['ann', '0a0b']), 0)
  conf('other')
  broker.child.kill('SIGHUP')
  await broker.line(/psk_hint changed; 0 clients disconnected/)
  const shown = await run(t, 'openssl', ['s_client', '-connect', `127.0.0.1:${port}`, '-tls1_2', '-psk_identity', 'ann', '-psk', '0a0b'])
  t.match(shown.stdout, /PSK identity hint: other/)
})

t.test('a broken key file stops the start, and at a reload changes nothing', async t => {
  const { dir, keys, publish } = await place(t)
  keys('ann:0a0b\n')
  const broker = await startBroker(t, ['-c', 'm.conf'], { cwd: dir })
  keys('ann:0a0b\nbob:xyz\n')
  broker.child.kill('SIGHUP')
  await broker.line(/psk for identity 'bob' in psk_file 'keys' contains non-hexadecimal characters\./)
  t.equal(await publish(['ann', '0a0b']), 0)
  t.equal((await broker.stop()).status, 0)
  for (const command of ['mosquitto', 'ours']) {
    const program = command === 'ours' ? [process.execPath, join(process.cwd(), 'dist/cli/main.js')] : ['mosquitto']
    const [first = '', ...rest] = program
    const ended = await run(t, first, [...rest, '-c', 'm.conf'], { cwd: dir })
    t.equal(ended.status, 3, command)
    t.match(ended.stderr, /contains non-hexadecimal characters/)
  }
})

t.test('a key file that everybody may read is warned of', async t => {
  const { dir, keys } = await place(t)
  keys('ann:0a0b\n')
  chmodSync(join(dir, 'keys'), 0o644)
  const broker = await startBroker(t, ['-c', 'm.conf'], { cwd: dir })
  await broker.line(/Warning: File keys has world readable permissions\./)
})

t.test('patterns know the identity as %u', async t => {
  const { dir, conf, keys, publish, port } = await place(t)
  keys('ann:0a0b\n')
  writeFileSync(join(dir, 'acl'), 'pattern readwrite plant/%u/#\n')
  conf('use_identity_as_username true\nacl_file acl\n')
  const broker = await startBroker(t, ['-c', 'm.conf', '-v'], { cwd: dir })
  const args = ['-h', '127.0.0.1', '-p', `${port}`, '-i', 'sub', '--psk-identity', 'ann', '--psk', '0a0b', '-v', '-t', '#']
  const heard = start(t, 'mosquitto_sub', args)
  await broker.line(/: sub 0 #$/)
  await publish(['ann', '0a0b', '-t', 'plant/bob/x'])
  await publish(['ann', '0a0b', '-t', 'plant/ann/x'])
  await heard.line(/^plant\/ann\/x x$/)
  t.equal(heard.stdout().trim(), 'plant/ann/x x')
})
