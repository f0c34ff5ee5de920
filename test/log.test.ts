import { chmodSync, existsSync, readdirSync, readFileSync, readlinkSync, renameSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import type { LogConfig, LogType } from '../dist/config/types.js'
import { openLog } from '../dist/log.js'
import { until } from './helpers/until.js'

const everything = new Set<LogType>(['error', 'warning', 'notice', 'information', 'debug', 'subscribe', 'unsubscribe'])

function fileConfig(path: string, options: Partial<LogConfig> = {}): LogConfig {
  return {
    destinations: [{ kind: 'file', path, at: { file: 'mosquitto.conf', line: 1 } }],
    types: everything,
    timestamp: true,
    format: 'mosquitto',
    ...options
  }
}

const peer = { remoteAddress: '192.0.2.7', remotePort: 50123, port: 8883 }

t.test('a line is the epoch in seconds, a colon and the words of Mosquitto', async t => {
  const path = join(t.testdir(), 'broker.log')
  const log = openLog(fileConfig(path))
  log.write('accepted', peer)
  log.flush()
  t.match(readFileSync(path, 'utf8'), /^\d{10}: New connection from 192\.0\.2\.7:50123 on port 8883\.\n$/)
  log.close()
})

t.test('log_timestamp_format is strftime, log_timestamp false leaves the time out', async t => {
  const path = join(t.testdir(), 'broker.log')
  const log = openLog(fileConfig(path, { timestampFormat: '%Y-%m-%dT%H:%M:%S' }))
  log.write('configDefault', {})
  log.flush()
  t.match(readFileSync(path, 'utf8'), /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d: Using default config\.\n$/)
  log.reconfigure(fileConfig(`${path}2`, { timestamp: false }), true)
  log.write('configDefault', {})
  log.flush()
  t.equal(readFileSync(`${path}2`, 'utf8'), 'Using default config.\n')
  log.close()
})

t.test('the JSON form has the same event as fields, one object per line', async t => {
  const path = join(t.testdir(), 'broker.log')
  const log = openLog(fileConfig(path, { format: 'json' }))
  log.write('accepted', peer)
  log.flush()
  const line: unknown = JSON.parse(readFileSync(path, 'utf8'))
  t.match(line, {
    level: 'notice',
    event: 'accepted',
    remoteAddress: '192.0.2.7',
    remotePort: 50123,
    port: 8883,
    msg: 'New connection from 192.0.2.7:50123 on port 8883.'
  })
  log.close()
})

t.test('only the types of log_type are written, and connection_messages false leaves connections out', async t => {
  const path = join(t.testdir(), 'broker.log')
  const log = openLog(fileConfig(path, { types: new Set<LogType>(['information']) }))
  log.write('accepted', peer)
  log.write('configDefault', {})
  t.same([log.enabled('notice'), log.enabled('debug')], [false, false])
  log.reconfigure(fileConfig(path, { types: everything }), false)
  t.same([log.enabled('notice'), log.enabled('debug')], [true, true])
  log.reconfigure(fileConfig(path, { timestamp: false }), false)
  log.write('accepted', peer)
  log.write('configDefault', {})
  log.flush()
  t.match(readFileSync(path, 'utf8'), /^\d+: Using default config\.\nUsing default config\.\n$/)
  log.close()
})

t.test('what a client names itself cannot forge a line or reach the terminal', async t => {
  const path = join(t.testdir(), 'broker.log')
  const log = openLog(fileConfig(path, { timestamp: false }))
  log.write('configLoaded', { file: 'x\n1700000000: Error: forged\r\u001b[2J\u0085\u2028end' })
  log.flush()
  t.equal(readFileSync(path, 'utf8'), 'Config loaded from x\\x0a1700000000: Error: forged\\x0d\\x1b[2J\\x85\\u2028end.\n')
  log.close()
})

t.test('a line is cut at 1000 characters', async t => {
  const path = join(t.testdir(), 'broker.log')
  const log = openLog(fileConfig(path, { timestamp: false }))
  log.write('configLoaded', { file: 'x'.repeat(5000) })
  log.flush()
  t.equal(readFileSync(path, 'utf8').length, 1001)
  log.close()
})

t.test('so is each text of the JSON form', async t => {
  const path = join(t.testdir(), 'broker.log')
  const log = openLog(fileConfig(path, { format: 'json' }))
  log.write('configLoaded', { file: 'x'.repeat(5000) })
  log.flush()
  const line: unknown = JSON.parse(readFileSync(path, 'utf8'))
  t.match(line, { event: 'configLoaded', file: /^x{1000}$/, msg: /^Config loaded from x{981}$/ })
  log.close()
})

t.test('a log file is made readable by its owner alone', async t => {
  const path = join(t.testdir(), 'broker.log')
  openLog(fileConfig(path)).close()
  t.equal(statSync(path).mode & 0o777, 0o600)
})

t.test('a log file that was renamed is opened anew by reopen', async t => {
  const path = join(t.testdir(), 'broker.log')
  const log = openLog(fileConfig(path, { timestamp: false }))
  log.write('configDefault', {})
  log.flush()
  renameSync(path, `${path}.1`)
  log.reopen()
  log.write('configDefault', {})
  log.flush()
  t.equal(readFileSync(`${path}.1`, 'utf8'), 'Using default config.\n')
  t.equal(readFileSync(path, 'utf8'), 'Using default config.\n')
  log.close()
})

t.test('a log file that cannot be opened names file, reason and line, and the old destinations stay', async t => {
  const dir = t.testdir()
  const path = join(dir, 'broker.log')
  const log = openLog(fileConfig(path, { timestamp: false }))
  t.throws(() => log.reconfigure(fileConfig(join(dir, 'missing', 'x.log')), true), {
    code: 'ERR_LOG_FILE',
    message: /^Unable to open log file .*x\.log for writing\. No such file or directory\.$/,
    at: { file: 'mosquitto.conf', line: 1 }
  })
  log.write('configDefault', {})
  log.flush()
  t.equal(readFileSync(path, 'utf8'), 'Using default config.\n')
  log.close()
})

t.test('a topic destination gets level letter and line, and what it logs itself is not published again', async t => {
  const published: string[] = []
  const log = openLog({ destinations: [{ kind: 'topic' }], types: everything, timestamp: false, format: 'mosquitto' })
  log.write('configDefault', {})
  log.publishWith((suffix, line) => {
    published.push(`${suffix} ${line}`)
    log.write('accepted', peer)
  })
  log.write('configDefault', {})
  t.same(published, ['I Using default config.'])
  log.close()
})

t.test('reading the configuration again, or closing, leaves no log file open', async t => {
  const dir = t.testdir()
  const openFiles = () =>
    readdirSync('/proc/self/fd')
      .map(targetOf)
      .filter(path => path.startsWith(dir))
  const log = openLog(fileConfig(join(dir, 'first')))
  for (const name of ['second', 'third', 'third']) log.reconfigure(fileConfig(join(dir, name)), true)
  t.same(openFiles(), [join(dir, 'third')])
  log.close()
  t.same(openFiles(), [])
})

/** Where a descriptor leads; that of the listing itself is gone by now. */
function targetOf(fd: string): string {
  try {
    return readlinkSync(`/proc/self/fd/${fd}`)
  } catch {
    return ''
  }
}

/** Puts a script before every other `logger`. */
function replaceLogger(t: Test, dir: string, script: string): void {
  writeFileSync(join(dir, 'logger'), `#!/bin/sh\n${script}\n`)
  chmodSync(join(dir, 'logger'), 0o755)
  const path = process.env.PATH
  process.env.PATH = `${dir}:${path}`
  t.teardown(() => {
    process.env.PATH = path
  })
}

t.test("the real logger takes our arguments and lines, and writes them with priority, name and the broker's number", async t => {
  const dir = t.testdir()
  const out = join(dir, 'out')
  // A test can't read this machine's syslog: what would go there goes to a file.
  replaceLogger(t, dir, `PATH=\${PATH#*:} exec logger "$@" --no-act --stderr --socket-errors=off 2> ${out}`)
  const log = openLog({ destinations: [{ kind: 'syslog' }], types: everything, timestamp: false, format: 'mosquitto' })
  log.write('configDefault', {})
  log.write('accepted', peer)
  log.close()
  await until(() => existsSync(out) && readFileSync(out, 'utf8').split('\n').length === 3)
  const expected = [
    /^<30>.* mosquitto\[PID\]: Using default config\.$/,
    /^<29>.* mosquitto\[PID\]: New connection from 192\.0\.2\.7:50123 /
  ]
  t.match(readFileSync(out, 'utf8').replaceAll(`[${process.pid}]`, '[PID]').split('\n'), expected)
})

t.test('syslog lines go through logger, each behind its facility and severity', async t => {
  const dir = t.testdir()
  const out = join(dir, 'out')
  replaceLogger(t, dir, `echo "$@" > ${out}.args\ncat > ${out}`)
  const log = openLog({ destinations: [{ kind: 'syslog' }], types: everything, timestamp: false, facility: 3, format: 'mosquitto' })
  log.write('configDefault', {})
  log.write('accepted', peer)
  log.close()
  await until(() => existsSync(out) && readFileSync(out, 'utf8').split('\n').length === 3)
  t.equal(readFileSync(out, 'utf8'), '<158>Using default config.\n<157>New connection from 192.0.2.7:50123 on port 8883.\n')
  t.match(readFileSync(`${out}.args`, 'utf8'), /--prio-prefix --tag mosquitto/)
})

t.test('a full disk costs lines, and neither a reload nor the end waits for it', async t => {
  const log = openLog(fileConfig('/dev/full'))
  log.write('configDefault', {})
  const path = join(t.testdir(), 'broker.log')
  log.reconfigure(fileConfig(path), true)
  log.write('configDefault', {})
  log.reconfigure(fileConfig('/dev/full'), true)
  log.write('configDefault', {})
  log.close()
  t.match(readFileSync(path, 'utf8'), /Using default config/)
})
