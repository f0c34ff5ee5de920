// What `check` says about the places that a start would use, and that it leaves them as they are.

import { chmodSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs'
import { networkInterfaces } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { examine } from '../../dist/check/examine.js'
import { examined } from '../helpers/examined.js'

const isLinux = process.platform === 'linux'
const anonymous = 'allow_anonymous true\n'

const said = async (t: Test, conf: string): Promise<readonly string[]> =>
  (await examined(t, conf)).lines.filter(line => !line.includes('ERR_ACCESS'))
const taken = (line: number, listener: string, other: string, first = 2): string =>
  `error m.conf:${line} ERR_LISTEN_ADDRESS_IN_USE Address already in use: the listener on ${listener} wants what the one on ${other} (m.conf:${first}) has.`

type Pairs = readonly (readonly [first: string, second: string])[]

const alike: Pairs = ['', '127.0.0.1', '::1', 'localhost'].map(address => [address, address])
const oneOfAll: Pairs = [
  ['', '127.0.0.1'],
  ['::1', ''],
  ['0.0.0.0', '127.0.0.1']
]
const apart: Pairs = [
  ['127.0.0.1', '127.0.0.2'],
  ['127.0.0.1', '::1'],
  ['0.0.0.0', '::']
]

t.test('two listeners that want the same', async t => {
  const name = (address: string) => (address === '' ? 'port 1883' : `port 1883 on ${address}`)
  const both = (first: string, second: string) => said(t, `${anonymous}listener 1883 ${first}\nlistener 1883 ${second}\n`)
  for (const [first, second] of [...alike, ...(isLinux ? oneOfAll : [])]) {
    t.same(await both(first, second), [taken(3, name(second), name(first))], `${first} ${second}`)
  }
  for (const [first, second] of apart) t.same(await both(first, second), [], `${first} ${second}`)
  t.same(await said(t, `${anonymous}listener 1883\nsocket_domain ipv4\nlistener 1883\nsocket_domain ipv6\n`), [])
  t.same(await said(t, `${anonymous}listener 0 @/a.sock\nlistener 0 @/b.sock\n`), [])
  t.same(await said(t, `${anonymous}listener 0 @/a.sock\nlistener 0 @/a.sock\n`), [taken(3, 'socket a.sock', 'socket a.sock')])
})

t.test('an address of another machine', async t => {
  t.same(await said(t, `${anonymous}listener 1883 192.0.2.77\n`), [
    'warning m.conf:2 ERR_LISTEN_ADDRESS No network interface of this machine has the address 192.0.2.77: the listener cannot be opened here.'
  ])
  for (const { address } of Object.values(networkInterfaces()).flatMap(found => found ?? [])) {
    t.same(await said(t, `${anonymous}listener 1883 ${address}\n`), [], address)
  }
})

t.test('files and folders that a start could not write', async t => {
  const lines = await said(
    t,
    `${anonymous}listener 1883\npid_file @/no/pid\nlog_dest file @/no/log\npersistence true\npersistence_location @/no/\n`
  )
  t.same(lines, [
    'error m.conf:3 ERR_PID_FILE Unable to write pid file. no/pid: No such file or directory.',
    'error m.conf:4 ERR_LOG_FILE Unable to open log file no/log for writing. No such file or directory.',
    'error m.conf:6 ERR_STORE_OPEN Unable to open the store no/mosquitto.db.mosquitero: No such file or directory.'
  ])
  const { dir, report } = await examined(t, `${anonymous}listener 1883 localhost\npid_file @/\n`)
  t.match(report.problems, [{ code: 'ERR_PID_FILE', message: `Unable to write pid file. ${dir}/: Is a directory.` }])
})

t.test('a socket in a folder that is not there', async t => {
  t.same(await said(t, `${anonymous}listener 0 @/no/s.sock\n`), [
    'error m.conf:2 ERR_LISTEN_ADDRESS Unable to open unix socket "no/s.sock": No such file or directory'
  ])
})

t.test('sockets', async t => {
  const { lines } = await examined(t, `${anonymous}listener 0 @/m.conf\nlistener 0 @/d\nlistener 0 /${'x'.repeat(120)}\n`, { 'd/f': '' })
  t.same(lines, [
    'error m.conf:2 ERR_LISTEN_ADDRESS_IN_USE Unable to open unix socket "m.conf": there is a file of that name',
    'error m.conf:3 ERR_LISTEN_ADDRESS_IN_USE Unable to open unix socket "d": there is a file of that name',
    `error m.conf:4 ERR_LISTEN_ADDRESS Path to unix socket is too long "/${'x'.repeat(120)}"`
  ])
  t.same(await said(t, `${anonymous}listener 0 @/s.sock\nlistener 0 @/./s.sock\n`), [taken(3, 'socket ./s.sock', 'socket s.sock')])
})

t.test('a host that has no address, or none that is wanted', async t => {
  for (const [address, family] of [
    ['127.0.0.1', 'ipv6'],
    ['::1', 'ipv4']
  ]) {
    t.same(await said(t, `${anonymous}listener 1883 ${address}\nsocket_domain ${family}\n`), [
      `error m.conf:2 ERR_LISTEN_ADDRESS "${address}" has no address of socket_domain ${family}`
    ])
  }
  const [line, ...others] = await said(t, `${anonymous}listener 1883 no-such-host.invalid\n`)
  t.match(line, /^error m\.conf:2 ERR_LISTEN_ADDRESS Unable to find an address for listener host "no-such-host\.invalid": ./)
  t.same(others, [])
})

t.test('an enrolment listener that cannot be opened', async t => {
  const listener = 'listener 8883 127.0.0.1\ncertfile @/c\nkeyfile @/k\n#!enrolment_ca @/ca @/cakey\n'
  const enrolment = async (written: string) =>
    (await said(t, `${anonymous}${listener}#!enrolment_listener ${written}\n`)).filter(line => line.includes('ERR_LISTEN'))
  const same = (place: string) => [taken(6, place, 'port 8883 on 127.0.0.1').replace('the listener', 'the enrolment listener')]
  t.same(await enrolment('8883 127.0.0.1'), same('port 8883 on 127.0.0.1'))
  if (isLinux) t.same(await enrolment('8883'), same('port 8883'))
  t.same(await enrolment('8443'), [])
  t.same(await enrolment('8443 192.0.2.77'), [
    'warning m.conf:6 ERR_LISTEN_ADDRESS No network interface of this machine has the address 192.0.2.77: the enrolment listener cannot be opened here.'
  ])
  t.match(await enrolment('8443 no-such-host.invalid'), [/^error m\.conf:6 ERR_LISTEN_ADDRESS Unable to find an address for listener host/])
})

t.test('an admin socket that cannot be made', async t => {
  const admin = (path: string) => said(t, `${anonymous}listener 1883 localhost\n#!admin_socket ${path}\n`)
  t.same(await admin('@/m.conf'), ['warning m.conf:3 ERR_LISTEN_ADDRESS There is no admin socket m.conf: there is a file of that name.'])
  t.same(await admin('@/no/a.sock'), ['warning m.conf:3 ERR_LISTEN_ADDRESS There is no admin socket no/a.sock: No such file or directory.'])
  t.same(await admin('@/a.sock'), [])
})

t.test('a check makes nothing and changes nothing', async t => {
  const { dir, report } = await examined(
    t,
    `${anonymous}listener 0 @/s.sock\npid_file @/pid\nlog_dest file @/log\npersistence true\npersistence_location @/\n`
  )
  t.same(report.problems, [])
  t.equal(report.broker?.store.place, join(dir, 'mosquitto.db.mosquitero'))
  t.same(readdirSync(dir), ['m.conf'])
})

t.test('files that everybody may change, those of an include_dir too', async t => {
  const dir = t.testdir()
  const at = (name: string) => join(dir, name)
  mkdirSync(at('d'))
  for (const [name, text] of Object.entries({
    'm.conf': `listener 1883 localhost\nacl_file ${at('acl')}\ninclude_dir ${at('d')}\n`,
    acl: 'topic a\n',
    'd/a.conf': 'sys_interval 3\nallow_anonymous true\n'
  })) {
    writeFileSync(at(name), text)
    chmodSync(at(name), 0o646)
  }
  const { problems } = await examine({ file: at('m.conf') })
  t.same(
    problems.map(({ code, message }) => `${code} ${message.replaceAll(`${dir}/`, '')}`),
    ['m.conf', 'd/a.conf', 'acl'].map(
      name => `ERR_FILE_PERMISSIONS File ${name} can be changed by everybody. To fix this, use 'chmod o-w ${name}'.`
    )
  )
})
