// `mosquitero doctor` as a person types it: what it prints, and how it ends; a broker of ours and the real Mosquitto alike.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { freePort, mosquitero, start, startBroker, userLine } from '../helpers/command.js'
import { testPki } from '../helpers/pki.js'

const doctor = (t: Test, args: readonly string[], cwd: string, env: NodeJS.ProcessEnv = {}) =>
  mosquitero(t, ['doctor', ...args], { cwd, env, input: '' }).ended

async function folder(t: Test) {
  const dir = mkdtempSync(join(tmpdir(), 'mosquitero-doctor-'))
  t.teardown(() => rmSync(dir, { recursive: true, force: true }))
  const pki = await testPki(t, dir)
  await pki.server()
  await pki.client('press-7')
  const port = await freePort()
  writeFileSync(join(dir, 'acl'), 'pattern write plant/%u/#\n')
  const conf = `listener ${port} 127.0.0.1
cafile ca.crt
certfile server.crt
keyfile server.key
require_certificate true
use_identity_as_username true
acl_file acl
${userLine}`
  writeFileSync(join(dir, 'm.conf'), conf)
  return { dir, pki, port }
}

const device = ['-c', 'm.conf', '--host', 'localhost', '--cert', 'press-7.crt', '--key', 'press-7.key', '--cafile', 'ca.crt']

t.test('a device that gets in, and one topic that it does not', async t => {
  const { dir, port } = await folder(t)
  await startBroker(t, ['-c', 'm.conf'], { cwd: dir })
  const good = await doctor(t, [...device, '--publish', 'plant/press-7/on', '-i', 'panel'], dir)
  t.equal(good.status, 0)
  t.match(good.stdout, `Listener on port ${port} on 127.0.0.1 (m.conf:1)\n  device     CN=press-7, signed by CN=Test CA, good until `)
  t.match(good.stdout, `\n  CONNECT    accepted at localhost, port ${port}, client id 'panel', username 'press-7'\n`)
  t.match(good.stdout, `\n  publish    'plant/press-7/on': rule "pattern write plant/%u/#" at acl:1\n`)
  t.match(good.stdout, /\nNothing was found that keeps the device out\.\n$/)
  const bad = await doctor(t, [...device, '--publish', 'plant/press-8/on'], dir)
  t.equal(bad.status, 1)
  t.match(bad.stdout, "\n  wrong      The device may not publish to 'plant/press-8/on': no rule allows it. [acl-publish]\n             -> ")
  const json = await doctor(t, [...device, '--subscribe', 'a/#', '--json'], dir)
  t.equal(json.status, 1)
  t.match(JSON.parse(json.stdout), { isWell: false, listeners: [{ findings: [{ cause: 'acl-subscribe', severity: 'error' }] }] })
})

t.test('the same of the real Mosquitto', async t => {
  const { dir, pki } = await folder(t)
  const stranger = await pki.client('stranger', { ca: await pki.authority('Another CA') })
  await start(t, 'mosquitto', ['-c', 'm.conf'], { cwd: dir }).line(/version \S+ running$/)
  const good = await doctor(t, device, dir)
  t.equal(good.status, 0, good.stdout)
  const bad = await doctor(t, ['-c', 'm.conf', '--cert', stranger.cert, '--key', stranger.key, '--cafile', 'ca.crt'], dir)
  t.equal(bad.status, 1)
  t.match(bad.stdout, 'signed by CN=Another CA; the listener trusts CN=Test CA. [device-unknown-ca]')
  t.notMatch(bad.stdout, '[closed]', 'what the broker closed for is known')
})

t.test('offline, nothing is connected to', async t => {
  const { dir } = await folder(t)
  const { status, stdout } = await doctor(t, [...device, '--offline'], dir)
  t.equal(status, 0)
  t.match(stdout, /that keeps the device out\. Nothing was connected to\.\n$/)
})

t.test('no passphrase, password or key is shown', async t => {
  const { dir } = await folder(t)
  const env = { MOSQUITERO_KEY_PASSPHRASE: 'geheim1', MOSQUITERO_PASSWORD: 'geheim2' }
  for (const more of [[], ['--json']]) {
    const { stdout, stderr } = await doctor(t, [...device, '-u', 'ann', ...more], dir, env)
    t.notMatch(stdout + stderr, /geheim|PRIVATE KEY/)
  }
})

t.test('wrong usage', async t => {
  const { dir } = await folder(t)
  for (const [args, said] of [
    [[], 'Error: Name the configuration by -c FILE.'],
    [['-c', 'm.conf', '--key', 'x'], 'Error: A key is tried with its certificate: name it by --cert FILE.'],
    [['-c', 'm.conf', '--host', ''], 'Error: --host is a name or an address; without it this machine is meant.'],
    [['-c', 'm.conf', '--psk', 'aa'], 'Error: A pre-shared key is named by --psk-identity and --psk.'],
    [['-c', 'm.conf', '--psk', 'x', '--psk-identity', 'a'], 'Error: --psk is a key in hexadecimal digits.'],
    [['-c', 'm.conf', '-V', '6'], "Error: There is no MQTT version '6': mqttv31, mqttv311 or mqttv5."],
    [['-c', 'm.conf', '--tls-version', 'ssl'], "Error: There is no TLS version 'ssl': tlsv1, tlsv1.1, tlsv1.2 or tlsv1.3."],
    [['-c', 'm.conf', '--publish', 'a/#'], "Error: 'a/#' is no topic to publish to."],
    [['-c', 'm.conf', '--subscribe', 'a#'], "Error: 'a#' is no topic filter."],
    [['-c', 'm.conf', '--listener', '1'], "Error: There is no listener '1': m.conf has port "],
    [['--nonsense'], "Error: Unknown option '--nonsense'"]
  ] as const) {
    const { status, stderr, stdout } = await doctor(t, args, dir)
    t.equal(status, 2, args.join(' '))
    t.match(stderr, said)
    t.equal(stdout, '')
  }
  const help = await doctor(t, ['--help'], dir)
  t.equal(help.status, 0)
  t.match(help.stdout, /^Usage: mosquitero doctor /)
})
