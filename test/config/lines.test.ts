// What `check` says of each line: the table of options, where the line stands, and what else is said.

import t from 'tap'
import { buildConfig } from '../../dist/config/build.js'
import type { OptionLine } from '../../dist/config/lines.js'
import { options } from '../../dist/config/options.js'

const tls = 'listener 8883\ncertfile c\nkeyfile k\ncafile a\n'
const psk = 'listener 8883\npsk_hint h\npsk_file keys\n'

function linesOf(content: string, env: Record<string, string> = {}, included?: string): readonly OptionLine[] {
  const includes = new Map(included === undefined ? [] : [['d', [{ file: 'd/a.conf', content: included }]]])
  return buildConfig({ main: { file: 'm.conf', content, includes }, env }).lines
}

/** The last line, or the one that is named. */
function verdict(content: string, env: Record<string, string> = {}, option?: string): string {
  const lines = linesOf(content, env)
  const line = option === undefined ? lines.at(-1) : lines.findLast(line => line.option === option)
  return line === undefined ? 'no line' : `${line.standing}${line.why === undefined ? '' : ` ${line.why}`}`
}

/** What stands in the file, and what is said of its last line. */
const verdicts: readonly [content: string, said: string, env?: Record<string, string>][] = [
  ['listener 1883', 'honoured'],
  ['max_inflight_messages 10', 'honoured'],
  ['listener 1883\nmax_inflight_messages x', "refused 'max_inflight_messages' value not a number."],
  ['listener 1883\nfoo bar', "refused Unknown configuration variable 'foo'."],
  ['listener 1883\nmemory_limit 10', 'ignored It has no effect yet.'],
  ['listener 1883\nwebsockets_log_level 3', 'ignored It has no meaning here.'],
  ['connection x\naddress a\ntopic # in', 'ignored It has no effect yet.'],
  [
    'listener 1883\nbind_interface eth0',
    "refused The 'bind_interface' option is not supported yet: write the address of the interface after the port: listener PORT ADDRESS."
  ],
  ['#!log_format json', 'honoured A comment to Mosquitto.'],
  ['clientid_prefixes x', 'honoured Deprecated.'],
  ['listener 1883\nauto_id_prefix x', "honoured Deprecated. Please use 'listener_auto_id_prefix' instead."],
  ['per_listener_settings true\nper_listener_settings false', 'ignored Once true it stays so.'],
  ['retain_expiry_interval 10000001', 'otherwise retain_expiry_interval being capped at 19 years.'],
  ['listener 1883\nprotocol mqtt', 'honoured'],
  [
    'listener 1883\nlistener 80\nprotocol websockets\nmax_qos 1',
    "ignored Its listener stays closed: 'protocol websockets' is not supported yet."
  ],
  ['max_connections 3', 'ignored No listener is defined, so that only loopback is open.'],
  ['log_dest dlt', "ignored 'log_dest dlt' is not supported."],
  ['log_dest stdout', 'honoured'],
  ['log_facility 3', "ignored There is no 'log_dest syslog'."],
  ['log_dest syslog\nlog_facility 3', 'honoured'],
  ['log_timestamp false\nlog_timestamp_format %F', "ignored 'log_timestamp' is false."],
  ['persistence_file x', 'ignored Nothing is kept on disk: the store is memory.'],
  ['#!store redis://h\npersistence_location /x', 'ignored Nothing is kept on disk: the store is Redis.'],
  ['#!store redis://h\npersistence true', "ignored '#!store' says where it is kept."],
  ['persistence true\nautosave_on_changes true', 'honoured'],
  [`${tls}tls_version tlsv1.1`, 'otherwise TLS 1.1 is not offered: the lowest version is TLS 1.2.'],
  [`${tls}tls_version tlsv1.3`, 'honoured'],
  [tls, "honoured For the chain of certfile alone: without 'require_certificate true' no client certificate is asked for."],
  [`${tls}require_certificate true\ncafile b`, 'honoured'],
  [`${tls}crlfile r`, "ignored No client certificate is asked for: 'require_certificate true' would."],
  [`${tls}require_certificate true\ncrlfile r`, 'honoured'],
  [`${tls}disable_client_cert_date_checks true`, "ignored No client certificate is asked for: 'require_certificate true' would."],
  [`${tls}require_certificate true\ndisable_client_cert_date_checks true`, 'honoured'],
  [`${tls}require_certificate true\n#!crl_check chain`, "ignored There is no 'crlfile' that is looked at."],
  [`${tls}require_certificate true\ncrlfile r\n#!crl_expired warn`, 'honoured A comment to Mosquitto.'],
  [`${tls}#!revocation next_handshake`, 'ignored No client certificate is asked for.'],
  [`${tls}require_certificate true\n#!revocation next_handshake`, 'honoured A comment to Mosquitto.'],
  [`${psk}#!revocation next_handshake`, 'ignored No client certificate is asked for.'],
  [`${psk}disable_client_cert_date_checks true`, "ignored No client certificate is asked for: 'require_certificate true' would."],
  ['listener 1883\npsk_file keys', "ignored Its keys are for nobody: no listener that it is for has a 'psk_hint'."],
  [`${tls}psk_file keys`, "honoured It switches TLS 1.3 off, and its keys are for nobody: no listener that it is for has a 'psk_hint'."],
  [psk, 'honoured'],
  [`${psk}listener 1883\npsk_file keys`, 'honoured'],
  ['listener 1883\n#!expiry_warning 5', 'ignored There is no certificate.'],
  [`${tls}#!expiry_warning 5`, 'honoured A comment to Mosquitto.'],
  ['listener 1883\nuse_identity_as_username true', 'ignored It has no effect without certfile and keyfile.'],
  ['listener 1883\ntls_version tlsv1.3', 'ignored It has no effect without certfile and keyfile.'],
  ['listener 1883\ntls_version tlsv1.1', 'ignored It has no effect without certfile and keyfile.'],
  ['listener 1883\nciphers x', 'ignored It has no effect without certfile and keyfile.'],
  ['listener 1883\nciphers_tls1.3 x', 'ignored It has no effect without certfile and keyfile.'],
  [`${tls}ciphers x`, 'honoured'],
  [`${psk}ciphers x`, 'honoured'],
  [`${psk}ciphers_tls1.3 x`, "ignored 'psk_file' switches TLS 1.3 off."],
  [
    `${tls}require_certificate true\nuse_identity_as_username true\nuse_subject_as_username true`,
    "ignored 'use_identity_as_username' goes before it."
  ],
  [
    `${tls}require_certificate true\nuse_identity_as_username true\npassword_file p`,
    'ignored Usernames come from certificates: neither passwords nor anonymous clients are asked about.'
  ],
  [`${tls}require_certificate true\nuse_identity_as_username true\nlistener 1883\npassword_file p`, 'honoured'],
  ['listener 1883\nplugin /usr/lib/mosquitto_acl_file.so\nplugin_opt_acl_file a\nplugin_opt_other x', 'ignored It has no effect yet.']
]

for (const [content, said] of verdicts) {
  t.test(`${content.replaceAll('\n', ' · ')}: ${said}`, async t => t.equal(verdict(content), said))
}

t.test('what is honoured in a way of its own says which', async t => {
  t.match(verdict('listener 1883\npersistence true'), /^otherwise Keeps sessions.*'persistence_file'/)
  t.match(
    verdict('listener 1883\nplugin /usr/lib/mosquitto_acl_file.so\nplugin_opt_acl_file a', {}, 'plugin'),
    /^otherwise Mosquitto's own /
  )
})

t.test('a line that a later one replaces names it, unless both count', async t => {
  t.equal(verdict('listener 1\nmax_qos 1\nmax_connections 3\nmax_qos 2', {}, 'max_connections'), 'honoured')
  t.same(
    linesOf('listener 1\nmax_qos 1\nmax_qos 2\nlistener 2\nmax_qos 0').map(({ standing, why }) => [standing, why]),
    [
      ['honoured', undefined],
      ['ignored', 'm.conf:3 says it again.'],
      ['honoured', undefined],
      ['honoured', undefined],
      ['honoured', undefined]
    ]
  )
  t.same(
    linesOf('log_type error\nlog_type debug').map(({ standing }) => standing),
    ['honoured', 'honoured']
  )
})

t.test('the environment goes before the file, and is listed', async t => {
  const lines = linesOf('#!store redis://h\npersistence true\npersistence_location /x\n', {
    MOSQUITERO_STORE: 'memory',
    MOSQUITTO_PERSISTENCE_LOCATION: '/y',
    HOME: '/root'
  })
  t.same(
    lines.map(({ at, option, standing, why }) => [at?.line, option, standing, why]),
    [
      [1, '#!store', 'ignored', 'The environment variable MOSQUITERO_STORE goes before it.'],
      [2, 'persistence', 'ignored', "'#!store' says where it is kept."],
      [3, 'persistence_location', 'ignored', 'The environment variable MOSQUITTO_PERSISTENCE_LOCATION goes before it.'],
      [undefined, 'MOSQUITERO_STORE', 'honoured', undefined],
      [undefined, 'MOSQUITTO_PERSISTENCE_LOCATION', 'ignored', 'Nothing is kept on disk.']
    ]
  )
})

t.test('lines of included files come behind those of the main file, with both places', async t => {
  const lines = linesOf('listener 1883\ninclude_dir d\nmax_qos 1\n', {}, 'sys_interval 3\nfoo\n')
  t.same(
    lines.map(({ at, option, standing }) => [at?.file, at?.line, at?.includedFrom?.line, option, standing]),
    [
      ['m.conf', 1, undefined, 'listener', 'honoured'],
      ['m.conf', 2, undefined, 'include_dir', 'honoured'],
      ['m.conf', 3, undefined, 'max_qos', 'honoured'],
      ['d/a.conf', 1, 2, 'sys_interval', 'honoured'],
      ['d/a.conf', 2, 2, 'foo', 'refused']
    ]
  )
})

t.test('no password is shown', async t => {
  const secrets = `listener 1883
#!store redis://ann:s3cret@host:6379/1
connection b
address h
topic # in
remote_password s3cret
local_password s3cret
password s3cret
bridge_identity i
bridge_psk s3cret
remote_pasword s3cret
plugin /x/mosquitto_acl_file.so
plugin_opt_db_pass s3cret
tls_engine_kpass_sha1 s3cret
`
  const lines = linesOf(secrets, { MOSQUITERO_STORE: 'redis://:s3cret@h' })
  t.notMatch(JSON.stringify(lines), 's3cret')
  t.equal(lines.find(({ option }) => option === '#!store')?.value, 'redis://host:6379/1')
  for (const address of [
    'redis:/ann:s3cret@h',
    'redis:ann:s3cret@h',
    'redis:///ann:s3cret@h',
    'redis://h/ann:s3cret',
    'unix:ann:s3cret@x',
    'unix:ann:s3cret@x?db=z',
    'unix:/ann:s3cret@x',
    'mysql:/ann:s3cret@h'
  ]) {
    const [line] = linesOf(`#!store ${address}\n`)
    t.match(line, { option: '#!store', standing: 'refused' }, address)
    t.notMatch(JSON.stringify(line), 's3cret')
  }
  const socket = 'unix:///run/redis@1.sock'
  t.match(linesOf(`#!store ${socket}?db=1\n`), [{ value: socket, standing: 'honoured' }])
})

t.test('whatever is not simply honoured has a reason', async t => {
  const names = Object.keys(options).filter(name => name !== 'include_dir')
  const lines = linesOf(names.map(name => `${name} 1`).join('\n'))
  t.equal(lines.length, names.length)
  for (const line of lines) if (line.standing !== 'honoured') t.ok(line.why, line.option)
})
