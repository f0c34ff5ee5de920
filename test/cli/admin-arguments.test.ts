// The command lines that ask a running broker.

import t from 'tap'
import { type AdminCommandName, adminUsage, parseAdminArguments } from '../../dist/cli/admin-arguments.js'

const understood: readonly (readonly [name: AdminCommandName, argv: readonly string[], expected: object])[] = [
  ['clients', ['-c', 'm.conf'], { command: { name: 'clients' }, config: 'm.conf', json: false }],
  ['clients', ['press-*', '--json'], { command: { name: 'clients', match: 'press-*' }, json: true }],
  [
    'clients',
    ['--username', 'ann', '--away', '--socket', 's'],
    { command: { name: 'clients', username: 'ann', connected: false }, socket: 's', json: false }
  ],
  [
    'clients',
    ['--connected', '--address', '10.*', '--listener', '8883'],
    { command: { name: 'clients', address: '10.*', listener: '8883', connected: true }, json: false }
  ],
  ['kick', ['a', '--forget'], { command: { name: 'kick', id: 'a', forget: true }, json: false }],
  ['kick', ['--', '-a'], { command: { name: 'kick', id: '-a', forget: false }, json: false }],
  ['subscriptions', [], { command: { name: 'subscriptions' }, json: false }],
  ['subscriptions', ['a', '--topic', 'x/y'], { command: { name: 'subscriptions', id: 'a', topic: 'x/y' }, json: false }],
  ['queue', ['a', '--payload'], { command: { name: 'queue', id: 'a', payload: true }, json: false }],
  ['retained', ['list'], { command: { name: 'retained list' }, json: false }],
  ['retained', ['list', 'a/#'], { command: { name: 'retained list', filter: 'a/#' }, json: false }],
  ['retained', ['clear', '#'], { command: { name: 'retained clear', filter: '#' }, json: false }],
  ['reload', [], { command: { name: 'reload' }, json: false }]
]

for (const [name, argv, expected] of understood) {
  t.test([name, ...argv].join(' '), async t => {
    t.same(parseAdminArguments(name, argv), expected)
  })
}

const wrong: readonly (readonly [name: AdminCommandName, argv: readonly string[], what: RegExp])[] = [
  ['clients', ['a', 'b'], /^'b' is one argument too many$/],
  ['clients', ['--connected', '--away'], /leave nobody/],
  ['clients', ['--forget'], /^clients has no option --forget$/],
  ['clients', ['--bogus'], /^Unknown option '--bogus'$/],
  ['clients', ['--username', '--json'], /^Option '--username' argument is ambiguous$/],
  ['clients', ['-c', 'a', '--socket', 'b'], /not both/],
  ['kick', [], /client identifier/],
  ['queue', [], /client identifier/],
  ['retained', [], /list or retained clear/],
  ['retained', ['clear'], /topic filter/],
  ['reload', ['now'], /'now'/]
]

for (const [name, argv, what] of wrong) {
  t.test(`wrong: ${[name, ...argv].join(' ')}`, async t => {
    const parsed = parseAdminArguments(name, argv)
    t.match(parsed, { wrong: what })
  })
}

t.test('help is asked for by any of them', async t => {
  t.equal(parseAdminArguments('kick', ['-h']), 'help')
  t.match(adminUsage, /Example:/)
})
