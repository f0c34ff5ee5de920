import { readFileSync } from 'node:fs'
import t from 'tap'
import { parseArguments, usage } from '../../dist/cli/arguments.js'

const defaults = { ports: [], daemon: false, verbose: false, quiet: false, testConfig: false }

const accepted: readonly [args: string, expected: object][] = [
  ['', {}],
  ['-c mosquitto.conf', { config: 'mosquitto.conf' }],
  ['--config-file mosquitto.conf', { config: 'mosquitto.conf' }],
  ['-v -c FILE -p 1884', { verbose: true, config: 'FILE', ports: [1884] }],
  ['-v -p 1884', { verbose: true, ports: [1884] }],
  ['-p 1 --port 65535', { ports: [1, 65535] }],
  ['-c a -c b', { config: 'b' }],
  ['-d -q --verbose --daemon', { daemon: true, quiet: true, verbose: true }],
  ['--test-config -c a', { testConfig: true, config: 'a' }],
  ['--tls-keylog keys.log', { tlsKeylog: 'keys.log' }]
]

for (const [args, expected] of accepted) {
  t.test(`mosquitero ${args}`, async t => {
    const parsed = parseArguments(args.split(' ').filter(Boolean))
    t.same(parsed, { kind: 'run', arguments: { ...defaults, ...expected } })
  })
}

const refused: readonly [args: string, message: string, usage: boolean][] = [
  ['--x', "Error: Unknown option '--x'.", true],
  ['-x', "Error: Unknown option '-x'.", true],
  ['mosquitto.conf', "Error: Unknown option 'mosquitto.conf'.", true],
  ['--daemon=yes', "Error: Unknown option '--daemon=yes'.", true],
  ['--__proto__', "Error: Unknown option '--__proto__'.", true],
  ['-c', 'Error: -c argument given, but no config file specified.', false],
  ['-c -v', 'Error: -c argument given, but no config file specified.', false],
  ['-p', 'Error: -p argument given, but no port specified.', false],
  ['-p x', 'Error: Invalid port specified (x).', false],
  ['-p 0', 'Error: Invalid port specified (0).', false],
  ['-p 99999', 'Error: Invalid port specified (99999).', false],
  [Array.from({ length: 11 }, (_, i) => `-p ${i + 1}`).join(' '), 'Error: Only 10 ports can be specified.', false],
  ['--tls-keylog', 'Error: --tls-keylog argument given, but no file specified.', false],
  ['-v --foo -p x', "Error: Unknown option '--foo'.", true]
]

for (const [args, message, withUsage] of refused) {
  t.test(`mosquitero ${args} is refused`, async t => {
    t.same(parseArguments(args.split(' ')), { kind: 'error', message, usage: withUsage })
  })
}

t.test('-h and --version win over what follows them', async t => {
  t.same(parseArguments(['-h', '--nonsense']), { kind: 'help' })
  t.same(parseArguments(['--help']), { kind: 'help' })
  t.same(parseArguments(['--version']), { kind: 'version' })
  t.match(usage('mosquitto', '1.0'), /^Usage: mosquitto \[-c config_file\] \[-d\] \[-h\] \[-p port\] \[-q\] \[-v\]$/m)
})

t.test('-h lists every command, and the line of the broker every option of one letter', async t => {
  const text = usage('mosquitero', '1')
  const commands = [...readFileSync('src/cli/main.ts', 'utf8').matchAll(/case '(\w+)'/g)].map(([, command = '']) => command)
  t.ok(commands.length > 10)
  for (const command of commands) t.match(text, new RegExp(`^ +mosquitero (\\w+\\|)*${command}\\b`, 'm'), command)
  const [, line = ''] = /^Usage: (.*)$/m.exec(text) ?? []
  const letters = [...text.matchAll(/^ (-\w) :/gm)].map(([, letter = '']) => letter)
  t.ok(letters.length > 5)
  for (const letter of letters) t.ok(line.includes(`[${letter}`), letter)
})
