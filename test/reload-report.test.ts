import t from 'tap'
import { describeReload, type ReloadResult } from '../dist/reload-report.js'

const nothing: ReloadResult = { changed: [], needsRestart: [], listeners: { added: [], removed: [] }, disconnected: [] }

const rows: readonly [result: Partial<ReloadResult>, sentence: string][] = [
  [{}, 'nothing changed; 0 clients disconnected'],
  [{ changed: [{ option: 'max_qos' }, { option: 'user' }] }, 'max_qos, user changed; 0 clients disconnected'],
  [{ changed: [{ option: 'max_qos', listener: 'port 8883' }] }, 'max_qos of the listener on port 8883 changed; 0 clients disconnected'],
  [
    {
      changed: [
        { option: 'acl_file', file: 'acl', of: 'rule', added: 2, removed: 1 },
        { option: 'password_file', file: 'p', of: 'user', added: 0, removed: 0, altered: 1 },
        { option: 'certfile', file: 'c', validUntil: '2027-01-31' },
        { option: 'crlfile', file: 'crl', of: 'revoked certificate', total: 1 }
      ]
    },
    'acl_file acl changed (+2/-1 rules), password_file p changed (1 user changed), certfile c changed (valid until 2027-01-31), crlfile crl changed (1 revoked certificate); 0 clients disconnected'
  ],
  [
    {
      listeners: { added: ['port 1'], removed: ['socket /s'] },
      disconnected: [
        { reason: 'revoked', count: 2 },
        { reason: 'anonymous', count: 1 }
      ],
      needsRestart: ['user', '#!store']
    },
    'listener on port 1 added, listener on socket /s removed; 3 clients disconnected: certificate revoked (2), no longer allowed without a username (1); needs a restart: user, #!store'
  ]
]

for (const [result, sentence] of rows) {
  t.test(sentence, async t => {
    t.equal(describeReload({ ...nothing, ...result }), sentence)
  })
}

t.test('of a long list the first are said, and how many more there are', async t => {
  const changed = Array.from({ length: 40 }, (_, i) => ({ option: 'acl_file', file: `acl${i}`, of: 'rule', added: 1, removed: 0 }) as const)
  t.match(describeReload({ ...nothing, changed }), /acl_file acl11 changed \(\+1\/-0 rules\) and 28 more; 0 clients disconnected$/)
})
