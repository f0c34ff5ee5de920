import t from 'tap'
import { buildConfig } from '../../dist/config/build.js'
import { changedGlobalOptions, changedListenerOptions, comparedOptions } from '../../dist/config/difference.js'
import { options, ownOptions } from '../../dist/config/options.js'
import type { Config } from '../../dist/config/types.js'

function config(...lines: string[]): Config {
  const { config, problems } = buildConfig({ main: { file: 'm.conf', content: lines.join('\n') } })
  if (!config) throw new Error(problems.map(({ message }) => message).join('\n'))
  return config
}

const base = ['listener 1883', 'certfile a', 'keyfile a', 'cafile a']

const listenerLines = [
  'max_connections 5',
  'accept_protocol_versions 5',
  'max_qos 1',
  'max_topic_alias 3',
  'max_topic_alias_broker 3',
  'mount_point m/',
  'use_username_as_clientid true',
  'certfile b',
  'keyfile b',
  'cafile b',
  'capath b',
  'crlfile b',
  'require_certificate true',
  'disable_client_cert_date_checks true',
  '#!revocation next_handshake',
  '#!crl_check chain',
  '#!crl_expired warn',
  'use_identity_as_username true',
  'use_subject_as_username true',
  'ciphers HIGH',
  'ciphers_tls1.3 TLS_AES_128_GCM_SHA256',
  'tls_version tlsv1.3',
  'allow_anonymous true',
  'password_file b',
  'acl_file b',
  'allow_zero_length_clientid false',
  'auto_id_prefix b'
]

const globalLines = [
  'per_listener_settings true',
  'clientid_prefixes a',
  'global_max_connections 5',
  'global_max_clients 5',
  'max_packet_size 5000',
  'message_size_limit 5000',
  'max_keepalive 5',
  'max_inflight_messages 5',
  'max_inflight_bytes 5',
  'max_queued_messages 5',
  'max_queued_bytes 5',
  'set_tcp_nodelay false',
  'allow_duplicate_messages false',
  'check_retain_source false',
  'queue_qos0_messages true',
  'upgrade_outgoing_qos true',
  'retain_available false',
  'retain_expiry_interval 5',
  'persistent_client_expiration 5d',
  'sys_interval 5',
  'persistence true',
  'autosave_interval 5',
  'autosave_on_changes true',
  'user a',
  'pid_file a',
  'connection_messages false',
  'log_dest stdout',
  'log_type error',
  'log_timestamp false',
  'log_timestamp_format %S',
  'log_facility 5',
  '#!log_format json',
  '#!store redis://localhost',
  '#!acknowledge received',
  '#!watch_files true',
  '#!acl_subscribe_check strict',
  '#!acl_shadow a',
  '#!enrolment_ca a b',
  '#!password_file_lines lenient'
]

const nameOf = (line: string): string => line.split(' ')[0] ?? ''

t.test('each option is named when its value is another, and no other is', async t => {
  const before = config(...base)
  for (const line of globalLines) t.same(changedGlobalOptions(before, config(line, ...base)), [nameOf(line)], line)
  const [listener] = before.listeners
  for (const line of listenerLines) {
    const lines = line.startsWith('require_') ? [...base, line] : [...base.filter(other => nameOf(other) !== nameOf(line)), line]
    const [next] = config(...lines).listeners
    if (!listener || !next) throw new Error('no listener')
    t.same(changedListenerOptions(listener, next), [nameOf(line)], line)
  }
})

t.test('keys instead of certificates, and other keys', async t => {
  const difference = (before: readonly string[], after: readonly string[]) => {
    const [[old], [next]] = [config(...before).listeners, config(...after).listeners]
    return old && next && changedListenerOptions(old, next)
  }
  const psk = ['listener 1883', 'psk_hint a', 'psk_file a']
  t.same(difference(psk, ['listener 1883', 'psk_hint b', 'psk_file a']), ['psk_hint'])
  t.same(difference(psk, ['listener 1883', 'psk_hint a', 'psk_file b']), ['psk_file'])
  t.same(difference(psk, ['listener 1883']), ['psk_hint', 'psk_file'])
  t.same(difference(base, [...base, 'psk_file a']), ['psk_file'], 'TLS 1.3 goes')
})

t.test('what of a certificate names a client, and its client id', async t => {
  const named = [...base, 'require_certificate true', 'use_identity_as_username true']
  const [[plain], [serial], [bound]] = [
    config(...named).listeners,
    config(...named, '#!identity_source serial').listeners,
    config(...named, '#!clientid_must_match cn').listeners
  ]
  if (!plain || !serial || !bound) throw new Error('no listener')
  t.same(changedListenerOptions(plain, serial), ['#!identity_source'])
  t.same(changedListenerOptions(plain, bound), ['#!clientid_must_match'])
})

t.test('the names of the certificate that the broker makes are named when they are others', async t => {
  const lines = (names: string) => config('listener 8883', '#!enrolment_ca a b', `#!tls_dns_list ${names}`)
  t.same(changedGlobalOptions(lines('a'), lines('a,b')), ['#!tls_dns_list'])
  t.same(changedGlobalOptions(lines('a,b'), lines(' a, b ')), [])
})

t.test('the place of what is kept on disk is named when it is another', async t => {
  const before = config('persistence true', 'persistence_location /a')
  t.same(changedGlobalOptions(before, config('persistence true', 'persistence_location /b')), ['persistence_location'])
  t.same(changedGlobalOptions(before, config('persistence true', 'persistence_location /a', 'persistence_file b')), ['persistence_file'])
})

t.test('lines that move are no change', async t => {
  const lines = [...base, 'acl_file b', 'password_file b']
  const [before, after] = [config(...lines), config('# a comment', '', ...lines)]
  t.same(changedGlobalOptions(before, after), [])
  const [[old], [next]] = [before.listeners, after.listeners]
  t.ok(old && next)
  if (old && next) t.same(changedListenerOptions(old, next), [])
})

t.test('every option that is honoured is compared, but for those that are no value of a configuration', async t => {
  const own = Object.entries(ownOptions).map(([name, option]) => [`#!${name}`, option] as const)
  // A listener's address makes another listener; the next two are other names, the last is what was read.
  const others = /^(listener|port|bind_address|socket_domain|listener_allow_anonymous|listener_auto_id_prefix|include_dir)$/
  const honoured = [...Object.entries(options), ...own].flatMap(([name, { support }]) => (support === 'honoured' ? [name] : []))
  t.same(
    honoured.filter(name => !others.test(name) && !comparedOptions.includes(name)),
    []
  )
})
