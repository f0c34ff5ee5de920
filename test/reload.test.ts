import t from 'tap'
import { buildConfig } from '../dist/config/build.js'
import type { Config } from '../dist/config/types.js'
import { listenerName, planReload } from '../dist/reload.js'

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

t.test('what is read once at start waits for a restart', async t => {
  const started = config('listener 1883', 'user root', 'pid_file a', '#!store memory')
  t.same(planReload(started, started, []).restart, [])
  const after = config('listener 1883', 'user nobody', 'pid_file b', '#!store redis://localhost')
  t.same(planReload(started, after, []).restart, ['user', 'pid_file', '#!store'])
})
