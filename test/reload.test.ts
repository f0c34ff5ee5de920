import t from 'tap'
import { buildConfig } from '../dist/config/build.js'
import type { Config } from '../dist/config/types.js'
import { listenerKey, listenerName, listenerPort, planReload } from '../dist/reload.js'

function config(...lines: string[]): Config {
  const { config, problems } = buildConfig({ main: { file: 'm.conf', content: lines.join('\n') } })
  if (!config) throw new Error(problems.map(({ message }) => message).join('\n'))
  return config
}

t.test('a listener is known again by port and address, whatever else its lines say', async t => {
  const before = config('listener 1883', 'listener 8883 127.0.0.1', 'listener 0 /tmp/socket')
  const after = config('listener 0 /tmp/socket', 'listener 8883 127.0.0.1', 'max_connections 5', 'listener 1883')
  t.same(planReload(before, after, before.listeners), { added: [], removed: [], restart: [] })
})

t.test('another port, address or socket is another listener', async t => {
  const before = config('listener 1883', 'listener 8883 127.0.0.1')
  const plan = planReload(before, config('listener 1884', 'listener 8883 127.0.0.2'), before.listeners)
  t.same(plan.added.map(listenerName), ['port 1884', 'port 8883 on 127.0.0.2'])
  t.same(plan.removed.map(listenerName), ['port 1883', 'port 8883 on 127.0.0.1'])
})

t.test('the port of a listener is found in its key', async t => {
  const { listeners } = config(
    'listener 1883',
    'socket_domain ipv6',
    'listener 8883 127.0.0.1',
    'listener 0 /tmp/a 1883 ',
    'listener 9883 ::1'
  )
  t.same(
    listeners.map(listener => listenerPort(listenerKey(listener))),
    [1883, 8883, 0, 9883]
  )
})

t.test('where things are kept waits for a restart; when they are saved does not', async t => {
  const started = config('persistence true', 'persistence_location /a', 'autosave_interval 5')
  const plan = (...lines: string[]) => planReload(started, config(...lines), started.listeners).restart
  t.same(plan('persistence true', 'persistence_location /a', 'autosave_interval 6', 'autosave_on_changes true'), [])
  t.same(plan('persistence true', 'persistence_location /b', 'persistence_file x'), ['persistence_location', 'persistence_file'])
  t.same(plan('persistence false'), ['persistence'])
  t.same(plan('persistence true', 'persistence_location /a', '#!acknowledge received'), ['#!acknowledge'])
})

t.test('what is read once at start waits for a restart', async t => {
  const started = config('listener 1883', 'user root', 'pid_file a', '#!store memory')
  t.same(planReload(started, started, []).restart, [])
  const after = config('listener 1883', 'user nobody', 'pid_file b', '#!store redis://localhost')
  t.same(planReload(started, after, []).restart, ['user', 'pid_file', '#!store'])
})

t.test('two lines for one address: the second is to be opened, and cannot be', async t => {
  const started = config('listener 1883')
  const next = config('listener 1883', 'listener 1883', 'max_connections 5')
  t.same(
    planReload(started, next, started.listeners).added.map(({ at }) => at?.line),
    [2]
  )
})
