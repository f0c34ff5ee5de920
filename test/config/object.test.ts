// A configuration as an object says what a file with the same options says.

import fc from 'fast-check'
import t from 'tap'
import { buildConfig } from '../../dist/config/build.js'
import type { ConfigObject } from '../../dist/config/object.js'
import type { Config } from '../../dist/config/types.js'

const fromObject = (object: ConfigObject) => buildConfig({ object })
const fromText = (content: string) => buildConfig({ main: { file: 'm.conf', content } })

/** Without the places, which differ. */
function plain(config: Config | undefined): unknown {
  const withoutPlace = (key: string, value: unknown): unknown => (key === 'at' ? undefined : value instanceof Set ? [...value] : value)
  const { file: _, ...rest } = config ?? {}
  return JSON.parse(JSON.stringify(rest, withoutPlace))
}

const cases: Readonly<Record<string, readonly [ConfigObject, string]>> = {
  'nothing but defaults': [{}, ''],
  'a TLS listener': [
    {
      listeners: [
        {
          port: 8883,
          cafile: 'ca.crt',
          certfile: 'server.crt',
          keyfile: 'server.key',
          require_certificate: true,
          use_identity_as_username: true,
          'ciphers_tls1.3': 'TLS_AES_128_GCM_SHA256',
          tls_version: 'tlsv1.3',
          accept_protocol_versions: [4, 5],
          max_qos: 1
        }
      ],
      acl_file: 'acl',
      max_inflight_messages: 0,
      persistent_client_expiration: '14d',
      log_type: ['error', 'warning'],
      log_dest: ['stdout', 'file a b.log']
    },
    `listener 8883
cafile ca.crt
certfile server.crt
keyfile server.key
require_certificate true
use_identity_as_username true
ciphers_tls1.3 TLS_AES_128_GCM_SHA256
tls_version tlsv1.3
accept_protocol_versions 4 5
max_qos 1
acl_file acl
max_inflight_messages 0
persistent_client_expiration 14d
log_type error
log_type warning
log_dest stdout
log_dest file a b.log
`
  ],
  'our own options, and several addresses': [
    {
      store: 'redis://localhost:6379',
      acknowledge: 'received',
      allow_anonymous: true,
      listeners: [{ address: '::1' }, { path: '/run/m.sock' }]
    },
    '#!store redis://localhost:6379\n#!acknowledge received\nallow_anonymous true\nlistener 1883 ::1\nlistener 0 /run/m.sock\n'
  ],
  'a listener with rules of its own, and one with those of all': [
    { acl_file: 'acl', password_file: 'p', listeners: [{ port: 1 }, { port: 2, acl_file: 'other', allow_anonymous: true }] },
    `per_listener_settings true
listener 1
acl_file acl
password_file p
listener 2
password_file p
acl_file other
allow_anonymous true
`
  ]
}

for (const [title, [object, text]] of Object.entries(cases)) {
  t.test(title, async t => {
    const { config, problems } = fromObject(object)
    t.same(problems, [])
    t.ok(config)
    t.same(plain(config), plain(fromText(text).config))
  })
}

t.test('port 0 is one that is free, also on one address; a path is a Unix socket', async t => {
  const listeners = fromObject({ listeners: [{ port: 0 }, { port: 0, address: '127.0.0.1' }, { path: '/run/m.sock' }] }).config?.listeners
  t.same(
    listeners?.map(({ port, bind }) => [port, bind.kind]),
    [
      [0, 'any'],
      [0, 'host'],
      [0, 'unix']
    ]
  )
})

t.test('whatever a program gives: problems, and never an exception', async () => {
  const name = fc.oneof(
    fc.constantFrom('listeners', 'acl_file', 'max_qos', 'connection', 'include_dir', 'plugin', 'store', '__proto__'),
    fc.string()
  )
  const value = fc.oneof(fc.anything(), fc.array(fc.dictionary(name, fc.anything())))
  fc.assert(
    fc.property(fc.dictionary(name, value), object => {
      const { config, problems } = buildConfig({ object })
      return (config === undefined) === problems.some(({ severity, at }) => severity === 'error' && at?.file.startsWith('config'))
    }),
    { numRuns: 500 }
  )
})
