// What systemd hears of a broker that it started, by a socket like its own and the real systemd-notify; and the unit file.

import { chmodSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { type CommandOptions, freePort, mosquitero, must, run, userLine } from '../helpers/command.js'
import { connectMqtt } from '../helpers/mqtt.js'
import { openNotifySocket } from '../helpers/notify-socket.js'
import { until } from '../helpers/until.js'

/** A broker in a folder of its own that other accounts can reach. */
async function startIn(t: Test, env: CommandOptions['env'] & object, lines = userLine) {
  const dir = mkdtempSync(join(tmpdir(), 'mosquitero-'))
  t.teardown(() => rmSync(dir, { recursive: true, force: true }))
  chmodSync(dir, 0o755)
  const port = await freePort()
  const conf = `listener ${port} 127.0.0.1\nallow_anonymous true\n${lines}`
  writeFileSync(join(dir, 'm.conf'), conf)
  return { dir, conf, port, broker: mosquitero(t, ['-c', 'm.conf'], { cwd: dir, env }) }
}

function childrenOf(pid: number | undefined): string[] {
  return readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ').filter(Boolean)
}

t.test('a service hears ready, reloading and stopping, each when it is true', async t => {
  const socket = await openNotifySocket(t)
  const { dir, conf, port, broker } = await startIn(t, { NOTIFY_SOCKET: socket.path })
  t.equal(await socket.next(/READY=1/), `READY=1 MAINPID=${broker.child.pid} STATUS=Running.`)
  const client = await connectMqtt(port)
  t.teardown(() => client.destroy())
  t.equal((await client.connect()).returnCode, 0)

  const before = process.hrtime.bigint() / 1000n
  broker.child.kill('SIGHUP')
  const [, at = ''] = /^RELOADING=1 MONOTONIC_USEC=(\d+)$/.exec(await socket.next(/RELOADING/)) ?? []
  t.ok(BigInt(at) >= before && BigInt(at) <= process.hrtime.bigint() / 1000n, "the kernel's clock, as systemd compares it with its own")
  t.equal(await socket.next(/READY/), 'READY=1 STATUS=Running.')

  writeFileSync(join(dir, 'm.conf'), `${conf}nonsense\n`)
  broker.child.kill('SIGHUP')
  await socket.next(/^RELOADING=1 /)
  t.match(await socket.next(/READY/), /^READY=1 STATUS=Running with the configuration before: the last reload was refused/)

  broker.child.kill('SIGTERM')
  t.equal(await socket.next(/STOPPING/), 'STOPPING=1 STATUS=Stopping. EXTEND_TIMEOUT_USEC=60000000')
  t.equal((await broker.ended).status, 0)
  t.same(socket.messages().slice(0, 1), ['EXTEND_TIMEOUT_USEC=60000000'], 'a start may take long')
  t.equal(socket.messages().length, 7, 'and nothing else')
})

t.test('the watchdog hears of the event loop as long as it turns', async t => {
  const socket = await openNotifySocket(t)
  const { broker } = await startIn(t, { NOTIFY_SOCKET: socket.path, WATCHDOG_USEC: '100000' })
  await socket.next(/READY=1/)
  for (let i = 0; i < 5; i++) t.equal(await socket.next(/WATCHDOG/), 'WATCHDOG=1')
  broker.child.kill('SIGSTOP')
  // What was under way arrives; then there is silence.
  await until(async () => {
    const count = socket.messages().length
    await sleep(500)
    return socket.messages().length === count
  })
  broker.child.kill('SIGCONT')
  const count = socket.messages().length
  await until(() => socket.messages().length > count)
  t.equal((await broker.stop()).status, 0)
})

t.test('a watchdog that waits for another process, or for nothing, hears nothing', async t => {
  for (const env of [{ WATCHDOG_USEC: '20000', WATCHDOG_PID: '1' }, { WATCHDOG_USEC: 'soon' }, { WATCHDOG_USEC: '0' }]) {
    const socket = await openNotifySocket(t)
    const { broker } = await startIn(t, { NOTIFY_SOCKET: socket.path, ...env })
    await socket.next(/READY=1/)
    broker.child.kill('SIGHUP')
    await socket.next(/^READY=1/)
    t.notMatch(socket.messages().join('\n'), /WATCHDOG/)
    await broker.stop()
  }
})

t.test('one that waits for Redis is not ready, asks for time, and stops when it is told to', async t => {
  const socket = await openNotifySocket(t)
  const { broker } = await startIn(t, { NOTIFY_SOCKET: socket.path }, `#!store redis://127.0.0.1:${await freePort()}\n${userLine}`)
  await broker.line(/Redis at \S+ does not answer/)
  await socket.next(/^EXTEND_TIMEOUT_USEC=/)
  broker.child.kill('SIGTERM')
  await socket.next(/^STOPPING=1/)
  t.equal((await broker.ended).status, 0)
  t.notMatch(socket.messages().join('\n'), /READY/)
})

t.test('the account that root becomes is heard too', async t => {
  const socket = await openNotifySocket(t)
  const { broker } = await startIn(t, { NOTIFY_SOCKET: socket.path }, 'user nobody\n')
  await socket.next(/READY=1/)
  t.equal((await broker.stop()).status, 0)
})

t.test('what speaks to systemd ends with the broker, however that ends', async t => {
  const socket = await openNotifySocket(t)
  const { broker } = await startIn(t, { NOTIFY_SOCKET: socket.path })
  await socket.next(/READY=1/)
  const children = childrenOf(broker.child.pid)
  t.equal(children.length, 1, 'one shell for all messages')
  broker.child.kill('SIGKILL')
  await broker.ended
  await until(() => !children.some(isRunning))
})

function isRunning(pid: string): boolean {
  try {
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'))
  } catch {
    return false
  }
}

t.test('without systemd-notify the broker runs, and says once what is missing', async t => {
  const socket = await openNotifySocket(t)
  const dir = t.testdir({ bin: {} })
  for (const tool of ['sh', 'env', 'id']) symlinkSync((await must(t, 'sh', ['-c', `command -v ${tool}`])).trim(), join(dir, 'bin', tool))
  const env = { NOTIFY_SOCKET: socket.path, WATCHDOG_USEC: '40000', PATH: join(dir, 'bin') }
  const { port, broker } = await startIn(t, env)
  await broker.line(/: Warning: systemd does not hear how the broker is doing: the command systemd-notify is not there\./)
  const client = await connectMqtt(port)
  t.teardown(() => client.destroy())
  t.equal((await client.connect()).returnCode, 0)
  await sleep(200)
  t.equal((await broker.stop()).status, 0)
  t.equal(broker.stderr().split('does not hear').length - 1, 1)
})

t.test('a socket that is gone costs a line and no more', async t => {
  const { broker } = await startIn(t, { NOTIFY_SOCKET: '/nowhere/socket' })
  await broker.line(/: Warning: systemd does not hear how the broker is doing: systemd-notify failed\./)
  t.equal((await broker.stop()).status, 0)
})

t.test('started by nobody who wants to hear, it starts no other process', async t => {
  const { broker } = await startIn(t, {})
  await broker.line(/ running$/)
  t.same(childrenOf(broker.child.pid), [])
  t.equal((await broker.stop()).status, 0)
})

t.test('the unit file is one that systemd takes', async t => {
  const unit = readFileSync('config/mosquitero.service', 'utf8')
  const dir = t.testdir()
  // The command is not installed here.
  writeFileSync(join(dir, 'mosquitero.service'), unit.replace('ExecStart=mosquitero ', `ExecStart=${process.execPath} `))
  const { status, stdout, stderr } = await run(t, 'systemd-analyze', ['verify', '--man=no', join(dir, 'mosquitero.service')])
  t.equal(status, 0)
  t.equal(
    (stdout + stderr)
      .split('\n')
      .filter(line => line.includes('mosquitero.service'))
      .join('\n'),
    ''
  )
  t.match(unit, /^NotifyAccess=all$/m, 'it is a child of ours that speaks')
  t.match(unit, /^KillMode=mixed$/m, 'and it has to live as long as we do')
})
