// The topics of $SYS and the form of what they say, ours and those of the real mosquitto.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { join, relative } from 'node:path'
import t from 'tap'
import { Stats } from '../../dist/broker/stats.js'
import { SysTopics } from '../../dist/broker/sys-topics.js'
import { mosquittoVersion } from '../helpers/real-mosquitto.js'
import { until } from '../helpers/until.js'

/** Mosquitto 2.1 has these, 2.0 has not. */
const since21 = ['packet/out/count', 'packet/out/bytes', 'connections/socket/count'].map(name => `$SYS/broker/${name}`)
const is20 = mosquittoVersion().startsWith('2.0.')

function form(payload: string): string {
  return payload.replace(/^mosquit(to|ero) version .*$/, 'NAME version X').replace(/^\d+/, 'N')
}

/** Topic → form, as our first tick says it. */
function ours(): Map<string, string> {
  const zero = { messagesStored: 0, messageBytesStored: 0, subscriptions: 0, sharedSubscriptions: 0, retainedMessages: 0 }
  const gauges = { ...zero, clientsTotal: 0, clientsConnected: 0, packetsOut: 0, packetBytesOut: 0, heapCurrent: 0, heapMaximum: 0 }
  const news = new SysTopics('1', 0).tick(new Stats(), gauges, 0)
  return new Map(news.map(({ topic, payload }) => [topic, form(payload).replace(/^N\.\d\d$/, 'N.dd')]))
}

t.test('the same topics in the same form', { timeout: 60_000 }, async t => {
  const dir = relative(process.cwd(), t.testdir())
  const socket = join(dir, 's.sock')
  writeFileSync(join(dir, 'm.conf'), `user root\nlistener 0 ${socket}\nallow_anonymous true\nsys_interval 1\n`)
  const broker = spawn('mosquitto', ['-c', join(dir, 'm.conf')], { stdio: ['ignore', 'ignore', 'pipe'] })
  t.teardown(() => broker.kill('SIGKILL'))
  let log = ''
  broker.stderr.setEncoding('utf8').on('data', text => {
    log += text
  })
  await until(() => log.includes(' running\n'))
  const client = spawn('mosquitto_sub', ['--unix', socket, '-t', '$SYS/#', '-q', '2', '-F', '%q %t\t%p'], {
    stdio: ['ignore', 'pipe', 'ignore']
  })
  t.teardown(() => client.kill('SIGKILL'))
  const theirs = new Map<string, string>()
  let text = ''
  client.stdout.setEncoding('utf8').on('data', chunk => {
    text += chunk
    const lines = text.split('\n')
    text = lines.pop() ?? ''
    for (const line of lines) {
      const [, topic = '', payload = ''] = /^2 (.*)\t(.*)$/.exec(line) ?? []
      theirs.set(topic, form(payload).replace(/^N\.\d\d$/, 'N.dd'))
    }
  })
  const expected = new Map([...ours()].filter(([topic]) => !is20 || !since21.includes(topic)))
  // The uptime comes first of each tick: two of them frame a whole one.
  const version = '$SYS/broker/version'
  await until(() => theirs.has(version) && [...expected.keys()].every(topic => theirs.has(topic)))
  theirs.delete('$SYS/broker/uptime')
  await until(() => theirs.has('$SYS/broker/uptime'))
  t.same([...theirs].toSorted(), [...expected].toSorted())
  client.kill()
  await once(client, 'close')
})
