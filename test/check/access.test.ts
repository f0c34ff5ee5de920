// What `check` says about who comes in and what they may do, with real files.

import { join } from 'node:path'
import t from 'tap'
import { isLocal } from '../../dist/check/access.js'
import { examined } from '../helpers/examined.js'
import { passwordLine } from '../helpers/hash.js'
import { testPki } from '../helpers/pki.js'

const proof = "'allow_anonymous false' with a 'password_file', or 'require_certificate true', asks for proof."

/** A configuration, its files, everything that is said. `passwords` has ann and bob. */
const cases: readonly [title: string, conf: string, acl: string | undefined, lines: readonly string[]][] = [
  [
    'a listener for everybody that can be reached from outside, without an ACL file',
    'listener 1883\nallow_anonymous true\n',
    undefined,
    [
      `warning m.conf:1 ERR_ACCESS_OPEN The listener on port 1883 can be reached from outside and lets everybody in without proof; without an ACL file they may read and write everything. ${proof}`
    ]
  ],
  [
    'the same with an ACL file, and with passwords for those who have a name',
    'listener 1883\nallow_anonymous true\nacl_file @/acl\npassword_file @/passwords\nlistener 8883 127.0.0.1\n',
    'topic read #\nuser ann\ntopic x\nuser bob\ntopic y\n',
    [
      `warning m.conf:1 ERR_ACCESS_OPEN The listener on port 1883 can be reached from outside and lets whoever gives no username in without proof; the ACL file alone says what they may do. ${proof}`,
      "notice m.conf:1 ERR_ACCESS_UNPROVEN Passwords travel in clear text to the listener on port 1883: 'certfile' and 'keyfile' encrypt them."
    ]
  ],
  ['a listener for everybody on this machine alone', 'listener 1883 127.0.0.1\nallow_anonymous true\n', undefined, []],
  ['no listener at all', 'sys_interval 3\n', undefined, []],
  [
    'a listener that lets nobody in',
    'listener 1883 127.0.0.1\n',
    undefined,
    [
      "warning m.conf:1 ERR_ACCESS_CLOSED Nobody can come in by the listener on port 1883 on 127.0.0.1: 'allow_anonymous' is false (the default) and there is no 'password_file'."
    ]
  ],
  [
    'a password file without users',
    'listener 1883 127.0.0.1\npassword_file @/empty\n',
    undefined,
    ['warning m.conf:2 ERR_ACCESS_CLOSED Nobody can come in by the listener on port 1883 on 127.0.0.1: password_file "empty" has no users.']
  ],
  [
    'rights by a username that nobody proves',
    'listener 1883 ::1\nallow_anonymous true\nacl_file @/acl\n',
    'pattern readwrite user/%u/#\n',
    [
      "warning m.conf:1 ERR_ACCESS_UNPROVEN The listener on port 1883 on ::1 takes any username unproven, and acl_file \"acl\" gives rights by username. A 'password_file', or certificates with 'use_identity_as_username true', proves them."
    ]
  ],
  ['rights by client identifier alone', 'listener 1883 ::1\nallow_anonymous true\nacl_file @/acl\n', 'pattern readwrite c/%c/#\n', []],
  [
    'a user of the ACL file who is not in the password file, at the first of its lines',
    'listener 1883 localhost\npassword_file @/passwords\nacl_file @/acl\n',
    'user ann\ntopic a\nuser bob\ntopic b\n\nuser car\\x1bl\ntopic read c\ntopic deny c/d\nuser ann\ntopic e\n'.replace('\\x1b', '\x1b'),
    ['warning acl:7 ERR_ACL_USER User \'car\\x1bl\' has rules and no entry in password_file "passwords": nobody can use them.']
  ],
  [
    'the same where another listener takes any name',
    'per_listener_settings true\nlistener 1883 localhost\npassword_file @/passwords\nacl_file @/acl\nlistener 1884 localhost\nlistener_allow_anonymous true\nacl_file @/acl\n',
    'user carl\ntopic read c\npattern a/%u\n',
    [
      "warning m.conf:5 ERR_ACCESS_UNPROVEN The listener on port 1884 on localhost takes any username unproven, and acl_file \"acl\" gives rights by username. A 'password_file', or certificates with 'use_identity_as_username true', proves them.",
      "notice m.conf:1 ERR_CONF_DEPRECATED The 'per_listener_settings' option is now deprecated and will be removed in version 3.0 of Mosquitto. Please see the documentation for how to achieve the same effect."
    ]
  ],
  [
    'a user of the password file whom the ACL file allows nothing',
    'listener 1883 localhost\npassword_file @/passwords\nacl_file @/acl\n',
    'user ann\ntopic a\n',
    [
      'notice passwords:2 ERR_ACL_USER User \'bob\' has no rules in acl_file "acl", which has no patterns: it may neither read nor write anything.'
    ]
  ],
  [
    'files that cannot be read say nothing about each other',
    'listener 1883 localhost\npassword_file @/nope\nacl_file @/acl\n',
    'user carl\ntopic a\n',
    ['error m.conf:2 ERR_PASSWORD_OPEN Unable to open pwfile "nope". No such file or directory.']
  ],
  [
    'a pattern that is the same for everybody',
    'listener 1883 localhost\npassword_file @/passwords\nacl_file @/acl\n',
    'pattern read news\n',
    ["warning acl:1 ERR_ACL_SYNTAX ACL pattern 'news' does not contain '%c' or '%u'."]
  ]
]

for (const [title, conf, acl, lines] of cases) {
  t.test(title, async t => {
    const files = { passwords: `${passwordLine('ann', 'x')}\n${passwordLine('bob', 'x')}\n`, empty: '', ...(acl !== undefined && { acl }) }
    const found = await examined(t, conf, files)
    // A password file of a test may be read by everybody, which has a test of its own.
    t.same(
      found.lines.filter(line => !line.includes('ERR_FILE_PERMISSIONS')),
      lines
    )
  })
}

t.test('names from certificates need no password file, and a required certificate is proof', async t => {
  const pki = await testPki(t)
  const server = await pki.server()
  const tls = `certfile ${server.cert}\nkeyfile ${server.key}\ncafile ${pki.ca}\nrequire_certificate true\n`
  const found = await examined(
    t,
    `per_listener_settings true
listener 8883
${tls}use_identity_as_username true
acl_file @/acl
listener 8884
${tls}listener_allow_anonymous true
`,
    { acl: 'user carl\ntopic a\n' }
  )
  t.same(
    found.lines.filter(line => /ERR_AC/.test(line)),
    []
  )
})

t.test('of many users twenty are named', async t => {
  const acl = Array.from({ length: 25 }, (_, i) => `user u${i}\ntopic a\n`).join('')
  const found = await examined(t, 'listener 1883 localhost\npassword_file @/p\nacl_file @/acl\n', {
    acl,
    p: `${passwordLine('u3', 'x')}\n`
  })
  const users = found.lines.filter(line => line.includes('ERR_ACL_USER'))
  t.equal(users.length, 21)
  t.equal(users.at(-1), 'warning acl:44 ERR_ACL_USER The same is true of 4 further users.')
  t.notMatch(users.join('\n'), "'u3'")
})

t.test('an address tells whether a listener is open to this machine alone', async t => {
  const host = (host: string) => isLocal({ kind: 'host', host })
  t.same(['127.0.0.1', '127.1.2.3', '::1', 'localhost'].map(host), [true, true, true, true])
  t.same(['192.0.2.1', '0.0.0.0', '::', '127.0.0.1.example.org', 'localhost.example.org'].map(host), [false, false, false, false, false])
  t.ok(isLocal({ kind: 'unix', path: join('/', 'x') }))
  t.notOk(isLocal({ kind: 'any' }))
})
