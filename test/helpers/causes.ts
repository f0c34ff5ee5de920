// What a person does wrong, and what is said of it: for every row of docs/errors.md a configuration that causes it. PORT is a free port,
// TAKEN one that is not; `\xHH` in a file is a byte. Certificates and sockets are those of `fixtures`, in cause-folder.ts.

/** A configuration, with the line that is pointed to. */
export interface Cause {
  readonly conf: string
  /** `m.conf:2`; absent: nowhere. */
  readonly at?: string
  readonly said: string | RegExp
  readonly files?: Readonly<Record<string, string>>
  readonly env?: Readonly<Record<string, string>>
  /** Needs a process of its own. */
  readonly byCommand?: true
}

type Row = readonly [conf: string, at: string | undefined, said: string | RegExp, more?: Omit<Cause, 'conf' | 'at' | 'said'>]

const causesOf = (rows: readonly Row[]): readonly Cause[] =>
  rows.map(([conf, at, said, more]) => ({ conf, said, ...(at !== undefined && { at }), ...more }))

const listener = 'listener PORT 127.0.0.1\n'
const tls = `${listener}certfile server.crt\nkeyfile server.key\n`
const psk = `${listener}psk_hint x\npsk_file k\n`
const passwords = `${listener}password_file p\n`
const acl = `${listener}acl_file acl\n`
const bridge = 'connection c\naddress localhost\ntopic # in\n'
const long = 'x'.repeat(65536)
const pattern = (line: string) => ({ files: { acl: `${line}\n` } })
const lines = (text: string) => ({ files: { p: text } })
const salt = Buffer.alloc(12).toString('base64')
const hash = Buffer.alloc(64).toString('base64')
const decode = (fault: string) => `Unable to decode line in password file 'p': user 'ann' ${fault}.`

/** What the lines of a configuration say. */
export const confCauses = causesOf([
  [`${listener}include_dir d\n`, 'm.conf:2', "Unable to open include_dir 'd'. No such file or directory."],
  [`${listener}include_dir d\n`, 'm.conf:2', "Unable to open config file 'd/x.conf'. Is a directory.", { files: { 'd/x.conf/y': '' } }],
  [`${listener}foo bar\n`, 'm.conf:2', "Unknown configuration variable 'foo'."],
  [
    '\\xef\\xbb\\xbflistener 1\n',
    'm.conf:1',
    /^Unknown configuration variable '\ufefflistener'\. A byte order mark stands before it: save the file without\.$/
  ],
  [
    '-----BEGIN PRIVATE KEY-----\nMHcCAQEEIFake\n-----END PRIVATE KEY-----\n',
    'm.conf:1',
    "Unknown configuration variable '-----BEGIN'. This is a key or certificate, and is not read any further."
  ],
  [`${listener}max_qos\n`, 'm.conf:2', "Empty 'max_qos' value in configuration."],
  [`${listener}allow_anonymous yes\n`, 'm.conf:2', "Invalid 'allow_anonymous' value (yes)."],
  [`${listener}max_connections 3x\n`, 'm.conf:2', "'max_connections' value not a number."],
  [`${listener}max_connections 99999999999\n`, 'm.conf:2', "'max_connections' value out of range."],
  [`${listener}acl_file ${long}\n`, 'm.conf:2', "'acl_file' value is longer than 65535 bytes."],
  [`${listener}listener_auto_id_prefix ${'x'.repeat(51)}\n`, 'm.conf:2', 'listener_auto_id_prefix length must be <= 50.'],
  [`${listener}acl_file \\xff\n`, 'm.conf:2', 'Malformed UTF-8 in configuration.'],
  [`${listener}sys_interval 3\\x00\n`, 'm.conf:2', 'NUL byte in configuration.'],
  [`${listener}mount_point a/#\n`, 'm.conf:2', "Invalid 'mount_point' value (a/#). Does it contain a wildcard character?"],
  [`${listener}persistent_client_expiration 3\n`, 'm.conf:2', "Invalid 'persistent_client_expiration' duration in configuration."],
  ['listener 0\n', 'm.conf:1', 'A listener with port 0 must provide a Unix socket path.'],
  [`${listener}log_dest file\n`, 'm.conf:2', 'Empty "log_dest file" value in configuration.'],
  [
    `${listener}#!store mysql://x\n`,
    'm.conf:2',
    "Invalid '#!store' value: 'memory', or an address like redis://localhost:6379/0, would be right."
  ],
  [
    listener,
    undefined,
    "Invalid 'MOSQUITERO_STORE' value: 'memory', or an address like redis://localhost:6379/0, would be right.",
    { env: { MOSQUITERO_STORE: 'x' } }
  ],
  [
    `${listener}#!enrolment_ca ca.crt\n`,
    'm.conf:2',
    "Invalid '#!enrolment_ca' value: the paths of a certificate and of its key would be right."
  ],
  [
    `${listener}#!enrolment_listener https\n`,
    'm.conf:2',
    "Invalid '#!enrolment_listener' value: a port from 1 to 65535, and an address if it is not to be all, would be right."
  ],
  [`${listener}#!enrolment_listener 8443\n`, 'm.conf:2', "'#!enrolment_listener' needs '#!enrolment_ca', the CA that signs."],
  [
    `${listener}#!enrolment_ca a b\n#!enrolment_listener 8443\n`,
    'm.conf:3',
    "'#!enrolment_listener' needs a listener with 'certfile' and 'keyfile': it shows the same certificate."
  ],
  [`${listener}#!store redis-cluster://x\n`, 'm.conf:2', "Invalid '#!store' value: a Redis Cluster is not supported yet."],
  [`${listener}plugin /x/mosquitto_acl_file.so\nplugin_opt_x 1\n`, 'm.conf:3', "Invalid 'plugin_opt_' config option."],
  [`${listener}max_qos 3\n`, 'm.conf:2', "'max_qos' must be between 0 and 2 inclusive."],
  [`${listener}max_packet_size 19\n`, 'm.conf:2', "'max_packet_size' must be >= 20."],
  [`${listener}max_inflight_messages 65536\n`, 'm.conf:2', "'max_inflight_messages' must be <= 65535."],
  [`${listener}max_topic_alias 65536\n`, 'm.conf:2', "Invalid 'max_topic_alias' value in configuration."],
  [`${listener}max_topic_alias_broker -1\n`, 'm.conf:2', "Invalid 'max_topic_alias_broker' value in configuration."],
  [`${listener}retain_expiry_interval 0\n`, 'm.conf:2', 'retain_expiry_interval must be >= 1.'],
  [`${listener}socket_domain ipx\n`, 'm.conf:2', "Invalid 'socket_domain' value 'ipx' in configuration."],
  [`${listener}tls_version sslv3\n`, 'm.conf:2', "Unsupported tls_version 'sslv3'."],
  [`${listener}enable_proxy_protocol 3\n`, 'm.conf:2', 'enable_proxy_protocol must be 1 or 2.'],
  [`${listener}packet_buffer_size 65536\n`, 'm.conf:2', 'Packet buffer size must be between 0 and 65535 inclusive.'],
  [`${listener}connection c\naddress\n`, 'm.conf:3', 'Empty address value in configuration.'],
  [`${listener}connection c\naddress localhost:0\ntopic # in\n`, 'm.conf:3', 'Invalid bridge port value (0).'],
  [`${listener}connection c\naddress localhost\ntopic "a b\n`, 'm.conf:4', 'Missing closing quote in topic value ("a b).'],
  [`${listener}connection c\naddress localhost\ntopic a up\n`, 'm.conf:4', "Invalid bridge topic direction 'up'."],
  [`${listener}connection c\naddress localhost\ntopic a in 3\n`, 'm.conf:4', "Invalid bridge QoS level '3'."],
  [`${listener}${bridge}bridge_tcp_keepalive 1 0 1\n`, 'm.conf:5', 'invalid TCP keepalive interval value.'],
  [`${listener}${bridge}bridge_tcp_user_timeout -1\n`, 'm.conf:5', 'invalid TCP user timeout value.'],
  [`${listener}${bridge}restart_timeout 10 5\n`, 'm.conf:5', 'backoff cap is lower than the base in restart_timeout.'],
  [`${listener}${bridge}restart_timeout 1 5 -1\n`, 'm.conf:5', 'stable connection period cannot be negative.'],
  [`${listener}${bridge}keepalive_interval 65536\n`, 'm.conf:5', 'Bridge keepalive value too high.'],
  [`${listener}${bridge}bridge_max_topic_alias 65536\n`, 'm.conf:5', 'bridge_max_topic_alias must be > 0 and <= 65535.'],
  [`${listener}${bridge}bridge_receive_maximum 0\n`, 'm.conf:5', 'bridge_receive_maximum must be greater than 0 and lower than 65536.'],
  [`${listener}${bridge}bridge_session_expiry_interval -1\n`, 'm.conf:5', 'bridge_session_expiry_interval must not be negative.'],
  [`${listener}${bridge}start_type never\n`, 'm.conf:5', "Invalid 'start_type' value in configuration (never)."],
  [`${listener}pid_file a\npid_file b\n`, 'm.conf:3', "Duplicate 'pid_file' value in configuration."],
  [`${listener}log_dest file a\nlog_dest file b\n`, 'm.conf:3', 'Duplicate "log_dest file" value.'],
  [
    `plugin_load x /x/mosquitto_acl_file.so\nplugin_opt_acl_file acl\nplugin_load x /x/mosquitto_acl_file.so\nplugin_opt_acl_file acl\n${listener}`,
    'm.conf:3',
    "Duplicate plugin name 'x'."
  ],
  [`${listener}${bridge}${bridge}`, 'm.conf:5', "Duplicate bridge name 'c'."],
  [
    `${listener}${bridge}local_clientid x\n${bridge.replace(' c', ' d')}local_clientid x\n`,
    'm.conf:9',
    "Bridge local_clientid 'x' is not unique. Try changing or setting the local_clientid value for one of the bridges."
  ],
  [`${listener}${bridge}address localhost\n`, 'm.conf:5', "Invalid bridge configuration, 'address' only allowed once."],
  ['cafile x\n', 'm.conf:1', "The 'cafile' option requires a listener to be defined first."],
  [`${listener}topic # in\n`, 'm.conf:2', "The 'topic' option requires a bridge to be defined first."],
  [
    `${listener}plugin_opt_abc x\n`,
    'm.conf:2',
    "The 'plugin_opt_abc' option requires plugin/global_plugin/plugin_load to be defined first."
  ],
  [
    `${listener}include_dir d\n`,
    'd/a.conf:1',
    'The include_dir option is only valid in the main configuration file.',
    { files: { 'd/a.conf': 'include_dir x\n' } }
  ],
  [
    `allow_anonymous true\nper_listener_settings true\n${listener}`,
    'm.conf:2',
    'per_listener_settings must be set before any other security settings.'
  ],
  [`${listener}plugin_use x\n`, 'm.conf:2', "Plugin 'x' not previously loaded."],
  [`${listener}certfile x\n`, 'm.conf:2', 'Both certfile and keyfile must be provided to enable a TLS listener.'],
  [`${listener}cafile x\n`, 'm.conf:2', 'cafile specified without certfile and keyfile.'],
  [
    `${listener}require_certificate true\n`,
    'm.conf:2',
    "'require_certificate true' needs certfile and keyfile: without them the listener would be plain text."
  ],
  [
    `${tls}require_certificate true\n`,
    'm.conf:4',
    "'require_certificate true' needs cafile or capath: without them no client certificate can be accepted."
  ],
  [`${tls}psk_file k\npsk_hint x\n`, 'm.conf:5', 'Only one of certificate or PSK encryption can be enabled for a listener.'],
  [`${listener}psk_hint x\n`, 'm.conf:2', "'psk_hint' needs 'psk_file': without it nobody has a key."],
  [`${psk}tls_version tlsv1.3\n`, 'm.conf:4', "'tls_version tlsv1.3' leaves no TLS version: 'psk_file' switches TLS 1.3 off."],
  [
    `${psk}use_subject_as_username true\n`,
    'm.conf:4',
    "'use_subject_as_username' refuses every client of a listener with 'psk_hint': there is no certificate."
  ],
  [
    `${psk}use_identity_as_username true\n#!identity_source cn\n`,
    'm.conf:5',
    "'#!identity_source' is about certificates: a listener with 'psk_hint' has none."
  ],
  [`${psk}#!clientid_must_match cn\n`, 'm.conf:4', "'#!clientid_must_match' is about certificates: a listener with 'psk_hint' has none."],
  [
    `${tls}use_subject_as_username true\n#!identity_source cn\n`,
    'm.conf:5',
    "'#!identity_source' says another username than 'use_subject_as_username true': leave one of them out."
  ],
  [
    `${listener}#!identity_source serial\n`,
    'm.conf:2',
    "'#!identity_source' needs 'use_identity_as_username true': without it the username is what the client says."
  ],
  [
    `${tls}#!clientid_must_match cn\n`,
    'm.conf:4',
    "'#!clientid_must_match' needs 'require_certificate true': without it no client has a certificate."
  ],
  [`${listener}plugin /x/mosquitto_acl_file.so\n`, 'm.conf:2', "Plugin '/x/mosquitto_acl_file.so' needs a 'plugin_opt_acl_file' line."],
  [`${listener}connection c\naddress localhost\n`, 'm.conf:2', 'Invalid bridge configuration: no topics defined.'],
  [
    `${listener}${bridge}bridge_identity i\nbridge_psk 00\nbridge_cafile x\n`,
    'm.conf:7',
    "'bridge_cafile': Cannot use both certificate and psk encryption in a single bridge."
  ],
  [
    `${listener}${bridge}bridge_cafile x\nbridge_identity i\nbridge_psk 00\n`,
    'm.conf:6',
    "'bridge_identity': Cannot use both certificate and identity encryption in a single bridge."
  ],
  [
    `${listener}bind_interface lo\n`,
    'm.conf:2',
    "The 'bind_interface' option is not supported yet: write the address of the interface after the port: listener PORT ADDRESS."
  ],
  [`${listener}protocol websockets\n`, 'm.conf:2', "'protocol websockets' is not supported yet, and no other listener is left."],
  [
    `${listener}plugin /x/y.so\n`,
    'm.conf:2',
    "Plugin '/x/y.so' cannot be loaded: C plugins are not run, only Mosquitto's acl-file and password-file plugins have a counterpart here."
  ],
  [
    `${listener}acl_file acl\nplugin /x/mosquitto_acl_file.so\nplugin_opt_acl_file acl\n`,
    'm.conf:3',
    "Plugin '/x/mosquitto_acl_file.so' comes beside another 'acl_file': two are not supported yet."
  ],
  [
    `acl_file acl\nplugin_load x /x/mosquitto_acl_file.so\nplugin_opt_acl_file other\n${listener}plugin_use x\n`,
    'm.conf:3',
    "The listener has a 'acl_file' of its own beside the global one: two for one listener are not supported yet."
  ]
])

/** What files hold, and files that are not there. */
export const fileCauses = causesOf([
  [`${listener}acl_file nope\n`, 'm.conf:2', 'Unable to open acl_file "nope". No such file or directory.'],
  [`${listener}#!acl_shadow nope\n`, 'm.conf:2', 'Unable to open #!acl_shadow "nope". No such file or directory.'],
  [listener, undefined, 'Unable to open #!acl_shadow "nope". No such file or directory.', { env: { MOSQUITERO_ACL_SHADOW: 'nope' } }],
  [`${listener}psk_hint x\npsk_file nope\n`, 'm.conf:3', 'Unable to open psk_file "nope". No such file or directory.'],
  [`${listener}psk_file nope\n`, 'm.conf:2', 'Unable to open psk_file "nope". No such file or directory.'],
  ['psk_file nope\n', 'm.conf:1', 'Unable to open psk_file "nope". No such file or directory.'],
  [`${listener}psk_file k\n`, 'k:1', /^psk for identity 'ann' .* non-hexadecimal characters\.$/, { files: { k: 'ann:zz\n' } }],
  [psk, 'k:1', "psk for identity 'ann' in psk_file 'k' contains non-hexadecimal characters.", { files: { k: 'ann:secret\n' } }],
  [
    `${listener}#!enrolment_ca no.crt no.key\n#!tls_dns_list localhost\n`,
    'm.conf:3',
    "The broker's certificate cannot be made. Unable to read no.crt: No such file or directory."
  ],
  [
    `${tls}#!enrolment_ca no.crt no.key\n#!enrolment_listener 8443\n`,
    'm.conf:4',
    'The enrolment listener cannot sign. Unable to read no.crt: No such file or directory.'
  ],
  [
    acl,
    'acl:1',
    'Invalid line in acl_file "acl": \ufefftopic. A byte order mark stands before it: save the file without.',
    pattern('\\xef\\xbb\\xbftopic read #')
  ],
  [acl, 'acl:1', 'Invalid line in acl_file "acl": tpoic.', pattern('tpoic read #')],
  [
    acl,
    'acl:1',
    'Invalid line in acl_file "acl": it holds bytes that are not UTF-8, which no topic or username can.',
    pattern('topic \\xff')
  ],
  [acl, 'acl:1', 'Missing username in acl_file "acl".', pattern('user')],
  [acl, 'acl:1', 'Empty topic in acl_file "acl".', pattern('topic')],
  [acl, 'acl:1', 'Invalid topic access type "raed" in acl_file "acl".', pattern('topic raed #')],
  [acl, 'acl:1', 'Invalid ACL topic "a/#/b" in acl_file "acl".', pattern('topic read a/#/b')],
  [
    acl,
    'acl:1',
    "Invalid '#!pattern' \"a/%x\": '%x' is none of '%c', '%u', '%o', '%ou', '%s' and '%{c:1}' to '%{c:9}', which stand for whole levels.",
    pattern('#!pattern a/%x')
  ],
  [
    acl,
    'acl:1',
    /^'%\{c:1\}' needs '#!clientid_must_match' on every listener of this file: by the one on port \d+ on 127\.0\.0\.1 a client may say any client id\.$/,
    pattern('#!pattern a/%{c:1}')
  ],
  [`${listener}password_file nope\n`, 'm.conf:2', 'Unable to open pwfile "nope". No such file or directory.'],
  [passwords, 'p:1', "Empty username in password file 'p'.", lines(':x\n')],
  [passwords, 'p:1', "Invalid line in password file 'p', username too long.", lines(`${long}:x\n`)],
  [passwords, 'p:1', "Invalid line in password file 'p', password too long.", lines(`ann:${long}\n`)],
  [passwords, 'p:1', "Invalid line in password file 'p': it holds a NUL byte.", lines('an\\x00n:x\n')],
  [passwords, 'p:1', "Invalid line in password file 'p': user 'ann' has no password hash.", lines('ann:\n')],
  [passwords, 'p:1', decode('has a plain text password, which "mosquitero passwd -U" turns into a hash'), lines('ann:secret\n')],
  [passwords, 'p:2', "Duplicate user 'ann' in password file 'p', first seen on line 1.", lines(`ann:$6$${salt}$${hash}\n`.repeat(2))],
  [
    `${listener}certfile nope\nkeyfile server.key\n`,
    'm.conf:2',
    'Unable to load server certificate "nope". Check certfile. No such file or directory.'
  ],
  [
    `${listener}certfile server.crt\nkeyfile nope\n`,
    'm.conf:3',
    'Unable to load server key file "nope". Check keyfile. No such file or directory.'
  ],
  [
    `${listener}certfile server.crt\nkeyfile locked.key\n`,
    'm.conf:3',
    'Unable to load server key file "locked.key". Check keyfile. It is encrypted and no passphrase is asked for: decrypt it once with "openssl pkey -in KEY -out NEWKEY".'
  ],
  [
    `${listener}certfile server.crt\nkeyfile other.key\n`,
    'm.conf:3',
    'Server certificate/key are inconsistent. keyfile "other.key" does not belong to certfile "server.crt".'
  ],
  [`${tls}cafile nope\n`, 'm.conf:4', 'Unable to load CA certificates. Check cafile "nope". No such file or directory.'],
  [
    `${tls}cafile server.key\n`,
    'm.conf:4',
    'Unable to load CA certificates. Check cafile "server.key". There is no PEM certificate in it.'
  ],
  [`${tls}capath nope\n`, 'm.conf:4', 'Unable to load CA certificates. Check capath "nope". No such file or directory.'],
  [
    `${tls}cafile ca.crt\ncrlfile nope\n`,
    'm.conf:5',
    'Unable to load certificate revocation file "nope". Check crlfile. No such file or directory.'
  ],
  [
    `${tls}cafile ca.crt\ncrlfile forged.crl\n`,
    'm.conf:5',
    'Unable to load certificate revocation file "forged.crl". Check crlfile. The CRL of CN=Test CA is not signed by that CA.'
  ],
  [`${tls}ciphers FOO\n`, 'm.conf:4', 'Unable to set TLS ciphers. Check cipher list "FOO".'],
  [`${tls}ciphers_tls1.3 FOO\n`, 'm.conf:4', 'Unable to set TLS 1.3 ciphersuites. Check cipher_tls13 list "FOO".'],
  ['listener TAKEN 127.0.0.1\n', 'm.conf:1', 'Address already in use'],
  ['listener 0 taken.sock\n', 'm.conf:1', 'Unable to open unix socket "taken.sock": Address already in use'],
  ['listener 0 server.key\n', 'm.conf:1', 'Unable to open unix socket "server.key": there is a file of that name'],
  ['listener PORT 192.0.2.77\n', 'm.conf:1', 'Cannot assign requested address'],
  ['listener PORT no-such-host.invalid\n', 'm.conf:1', /^Unable to find an address for listener host "no-such-host\.invalid": ./],
  ['listener PORT 127.0.0.1\nsocket_domain ipv6\n', 'm.conf:1', '"127.0.0.1" has no address of socket_domain ipv6'],
  [`listener 0 ${'x'.repeat(108)}\n`, 'm.conf:1', `Path to unix socket is too long "${'x'.repeat(108)}"`],
  ['listener 0 no/s.sock\n', 'm.conf:1', 'Unable to open unix socket "no/s.sock": No such file or directory'],
  [`${listener}log_dest file no/log\n`, 'm.conf:2', 'Unable to open log file no/log for writing. No such file or directory.'],
  [
    `${listener}persistence true\npersistence_location no/\n`,
    undefined,
    'Unable to open the store no/mosquitto.db.mosquitero: No such file or directory.'
  ],
  [
    `${listener}persistence true\npersistence_location newer/\n`,
    undefined,
    /^The store newer\/mosquitto\.db\.mosquitero is of a newer Mosquitero, of format \d+; this one reads format \d+\.$/
  ],
  [
    `${listener}persistence true\npersistence_location busy/\n`,
    undefined,
    'Another broker, or a mosquitero store command, is using busy/mosquitto.db.mosquitero.',
    { byCommand: true }
  ],
  [
    `${listener}persistence true\npersistence_file server.key/x\n`,
    undefined,
    /^Unable to (open the store|read persistence_file) server\.key\/x.*: Not a directory\.$/
  ]
])

/** Sentences about the hash of a password, which share a row. */
export const hashFaults: readonly (readonly [hash: string, fault: string])[] = [
  ['$5$x$y', 'has a hash of an unknown kind, known are $6$, $7$ and $argon2id$'],
  ['$6$x', 'has a hash that is not $6$salt$hash'],
  ['$7$x', 'has a hash that is not $7$iterations$salt$hash'],
  ['$argon2id$x', 'has a hash that is not $argon2id$v=19$m=...,t=...,p=...$salt$hash'],
  ['$6$!$x', 'has a salt that is not base64'],
  [`$6$AAAA$${hash}`, 'has a salt of 3 bytes, which must be 12 or 64'],
  [`$6$${salt}$!`, 'has a hash that is not base64'],
  [`$6$${salt}$AAAA`, 'has a hash of 3 bytes, which must be 64'],
  [`$7$0$${salt}$${hash}`, 'has a hash of 0 iterations, which must be 1 to 5000000'],
  ['$argon2id$v=16$m=8,t=1,p=1$AAAAAAAAAAA$AAAAAA', 'has a hash of Argon2 version 16, which must be 19'],
  ['$argon2id$v=19$m=8,t=1,p=0$AAAAAAAAAAA$AAAAAA', 'has a hash with p=0, which must be 1 to 255'],
  ['$argon2id$v=19$m=7,t=1,p=1$AAAAAAAAAAA$AAAAAA', 'has a hash with m=7, which must be 8 to 262144 KiB'],
  ['$argon2id$v=19$m=8,t=0,p=1$AAAAAAAAAAA$AAAAAA', 'has a hash with t=0, which must be 1 to 131072 with m=8'],
  ['$argon2id$v=19$m=8,t=1,p=1$!$AAAAAA', 'has a salt that is not base64 without padding'],
  ['$argon2id$v=19$m=8,t=1,p=1$AAAA$AAAAAA', 'has a salt of 3 bytes, which must be 8 to 1024'],
  ['$argon2id$v=19$m=8,t=1,p=1$AAAAAAAAAAA$!', 'has a hash that is not base64 without padding'],
  ['$argon2id$v=19$m=8,t=1,p=1$AAAAAAAAAAA$AAAA', 'has a hash of 3 bytes, which must be 4 to 1024']
]

export const hashCauses: readonly Cause[] = hashFaults.map(([hash, fault]) => ({
  conf: passwords,
  at: 'p:1',
  said: decode(fault),
  ...lines(`ann:${hash}\n`)
}))

/** What is said and changes nothing. */
export const warnings = causesOf([
  [`${listener}memory_limit 3\n`, 'm.conf:2', "The 'memory_limit' option is accepted but has no effect yet."],
  [`${listener}${bridge}`, 'm.conf:2', "The 'connection' option is accepted but has no effect yet: no bridge is opened."],
  [`${listener}dhparamfile x\n`, 'm.conf:2', "The 'dhparamfile' option is accepted but has no meaning here."],
  [`${listener}log_dest dlt\n`, 'm.conf:2', "'log_dest dlt' is accepted but has no effect."],
  [`${listener}#!tls_dns_list localhost\n`, 'm.conf:2', "'#!tls_dns_list' has no effect without '#!enrolment_ca', the CA that signs."],
  [
    `${tls}#!enrolment_ca a b\n#!tls_dns_list localhost\n`,
    'm.conf:5',
    "'#!tls_dns_list' has no effect: no listener is without a certfile, but for port 1883 and Unix sockets, which are plain."
  ],
  [`${tls}tls_version tlsv1.1\n`, 'm.conf:4', 'TLS 1.1 is not offered: the lowest version is TLS 1.2.'],
  [`${listener}listener 2\nprotocol websockets\n`, 'm.conf:3', "'protocol websockets' is not supported yet: this listener stays closed."],
  [
    'clientid_prefixes x\n',
    'm.conf:1',
    "The 'clientid_prefixes' option is now deprecated and will be removed in version 3.0 of Mosquitto."
  ],
  [
    'port PORT\n',
    'm.conf:1',
    "The 'port' option is now deprecated and will be removed in version 3.0 of Mosquitto. Please use 'listener' instead."
  ],
  ['port PORT\n', 'm.conf:1', "Creating default listener due to 'port' option. It is best practice to define a 'listener' first."],
  [
    `per_listener_settings true\n${listener}allow_anonymous true\n`,
    'm.conf:3',
    "You are using the 'allow_anonymous' option with 'per_listener_settings true'. Please replace this with 'listener_allow_anonymous'."
  ],
  ['port 1\nport PORT\n', 'm.conf:2', 'Default listener port specified multiple times. Only the latest will be used.'],
  ['#!stor memory\n', 'm.conf:1', "A line '#!' with 'stor' is a comment: the option is written '#!store'."],
  [
    listener,
    undefined,
    'The environment variable MOSQUITERO_STOR has no meaning: MOSQUITERO_STORE has.',
    { env: { MOSQUITERO_STOR: 'memory' } }
  ],
  ['max_connections 3\n', 'm.conf:1', "The 'max_connections' option has no effect: no listener is defined, so that only loopback is open."],
  [
    `${listener}use_identity_as_username true\n`,
    'm.conf:2',
    "The 'use_identity_as_username' option has no effect without certfile and keyfile."
  ],
  [
    `${tls}use_identity_as_username true\n`,
    'm.conf:4',
    "The 'use_identity_as_username' option without 'require_certificate true' refuses every client: no certificate is asked for."
  ],
  [
    `plugin_load x /x/mosquitto_acl_file.so\nplugin_opt_acl_file acl\n${listener}`,
    'm.conf:1',
    "Plugin 'x' is loaded but no listener uses it."
  ],
  [`${listener}retain_expiry_interval 10000001\n`, 'm.conf:2', 'retain_expiry_interval being capped at 19 years.'],
  [`${listener}${bridge}keepalive_interval 1\n`, 'm.conf:5', 'keepalive interval too low, using 5 seconds.'],
  [`${listener}${bridge}idle_timeout 0\n`, 'm.conf:5', 'idle_timeout interval too low, using 1 second.'],
  [`${listener}${bridge}threshold 0\n`, 'm.conf:5', 'threshold too low, using 1 message.'],
  [`${listener}${bridge}restart_timeout 0\n`, 'm.conf:5', 'restart_timeout interval too low, using 1 second.'],
  [`${listener}${bridge}restart_timeout 3601\n`, 'm.conf:5', 'restart_timeout interval too high, using 3600 seconds.'],
  [
    `${tls}psk_file k\n`,
    'm.conf:2',
    "'psk_file' switches TLS 1.3 off on this listener too, as in Mosquitto.",
    { files: { k: 'ann:0a\n' } }
  ],
  [
    listener,
    undefined,
    'The environment variable MOSQUITERO_IDENTITY_SOURCE has no effect: no listener takes anything from certificates.',
    { env: { MOSQUITERO_IDENTITY_SOURCE: 'serial' } }
  ],
  [
    psk,
    'k:1',
    "A byte order mark at the beginning of psk_file 'k' is a part of the first identity: save the file without.",
    { files: { k: '\\xef\\xbb\\xbfann:0a\n' } }
  ],
  [psk, 'k:1', "Invalid line in psk_file 'k', skipped: 'ann' has no key.", { files: { k: 'ann:\n' } }],
  [acl, 'acl:1', "A line '#!' with 'patern' is a comment: a line of ours is written '#!pattern'.", pattern('#!patern a/%c')],
  [acl, 'acl:1', "ACL pattern 'a' does not contain '%c' or '%u'.", pattern('pattern a')],
  [
    acl,
    'acl:1',
    "ACL pattern 'a/x%u' has '%c' or '%u' beside other text: it is replaced only where it is a whole level.",
    pattern('pattern a/x%u')
  ],
  [
    acl,
    'acl:1',
    /^ACL topic "a\t" holds a tab and never matches: words are separated by spaces only\.$|^ACL topic "a\tb" holds a tab/,
    pattern('topic read a\tb')
  ],
  [
    passwords,
    'p:1',
    "A byte order mark at the beginning of password file 'p' is a part of the first username: save the file without.",
    lines(`\\xef\\xbb\\xbfann:$6$${salt}$${hash}\n`)
  ],
  [passwords, 'p:1', "Invalid line in password file 'p', skipped: it is not of the form name:hash.", lines('ann\n')],
  [passwords, 'p:1', "Invalid line in password file 'p', skipped: the username is not UTF-8.", lines('\\xff:x\n')],
  [passwords, 'm.conf:2', "File p has world readable permissions. To fix this, use 'chmod o-rwx p'.", lines('')],
  [
    `${listener}certfile nameless.crt\nkeyfile nameless.key\n`,
    'm.conf:2',
    'certfile "nameless.crt" has no subjectAltName: OpenSSL clients go by its CN, most others refuse it.'
  ],
  [
    `${listener}certfile expired.crt\nkeyfile expired.key\n`,
    'm.conf:2',
    /^certfile "expired\.crt" expired on \S+: clients will refuse it\.$/
  ],
  [
    `${listener}certfile early.crt\nkeyfile early.key\n`,
    'm.conf:2',
    /^certfile "early\.crt" is not valid before \S+: clients will refuse it\.$/
  ],
  [
    `${listener}certfile below.crt\nkeyfile below.key\n`,
    'm.conf:2',
    /^The CA certificate CN=Old CA in certfile "below\.crt" expired on \S+: clients will refuse it\.$/
  ],
  [
    `${listener}certfile namesake.crt\nkeyfile namesake.key\ncafile ca.crt\n`,
    'm.conf:2',
    'certfile "namesake.crt" has the same subject as its CA (CN=Test CA): OpenSSL takes it for self-signed, so clients refuse it. Give the CA another subject.'
  ],
  [
    `${tls}cafile Old_CA.crt\n`,
    'm.conf:4',
    /^The CA certificate CN=Old CA in cafile "Old_CA\.crt" expired on \S+: certificates that it signed are refused\.$/
  ],
  [
    `${tls}cafile New_CA.crt\n`,
    'm.conf:4',
    /^The CA certificate CN=New CA in cafile "New_CA\.crt" is not valid before \S+: certificates that it signed are refused\.$/
  ],
  [
    `${tls}capath d\n`,
    'm.conf:4',
    'There is no certificate with a hashed name in capath "d": run "openssl rehash" on it.',
    { files: { 'd/x': '' } }
  ],
  [
    `${tls}capath d\n`,
    'm.conf:4',
    'CA certificate "d/12345678.0" is left out. There is no PEM certificate in it.',
    { files: { 'd/12345678.0': 'x' } }
  ],
  [
    `${tls}capath d\nrequire_certificate true\n`,
    'm.conf:2',
    'require_certificate is true, and there is no CA: every client will be refused.',
    { files: { 'd/x': '' } }
  ],
  [
    `${tls}cafile ca.crt\ncrlfile other.crl\n`,
    'm.conf:5',
    'The CRL of CN=Old CA in crlfile "other.crl" belongs to no CA in cafile or capath.'
  ],
  [
    `${tls}cafile ca.crt\ncrlfile expired.crl\n`,
    'm.conf:5',
    /^The CRL of CN=Test CA in crlfile "expired\.crl" expired on \S+: every client of that CA will be refused\.$/
  ],
  [
    `${tls}cafile ca.crt\ncrlfile expired.crl\n#!crl_expired warn\n`,
    'm.conf:5',
    /^The CRL of CN=Test CA in crlfile "expired\.crl" expired on \S+: who has been revoked since then comes in\.$/
  ],
  [
    `${tls}cafile ca.crt\ncrlfile early.crl\n`,
    'm.conf:5',
    /^The CRL of CN=Test CA in crlfile "early\.crl" is not valid before \S+: every client of that CA will be refused until then\.$/
  ],
  // What `check` alone says.
  [
    `${tls}cafile namesake-ca.crt\n`,
    'm.conf:2',
    'certfile "server.crt" is not signed by the CA CN=Test CA that is named here, but by another of that name: clients that trust this one will refuse it.'
  ],
  [tls, 'm.conf:2', /^certfile "server\.crt" expires on \S+, in 29 days: clients will refuse it from then on\. Renew it\.$/],
  [
    `${listener}certfile similar.crt\nkeyfile similar.key\ncafile ca.crt\n`,
    'm.conf:2',
    'certfile "similar.crt" has the same CN as the CA CN=Test CA: people and tools take one for the other. Give the CA a name of its own.'
  ],
  [
    `${listener}certfile client.crt\nkeyfile client.key\n`,
    'm.conf:2',
    'certfile "client.crt" is not for servers (extended key usage): clients will refuse it. "mosquitero certs server" makes one that is.'
  ],
  [
    `${tls}cafile ca.crt\ncrlfile other.crl\nrequire_certificate true\n`,
    'm.conf:5',
    'There is no CRL of the CA CN=Test CA in crlfile "other.crl": every client of that CA will be refused.'
  ],
  [
    'listener PORT\nallow_anonymous true\n',
    'm.conf:1',
    /^The listener on port \d+ can be reached from outside and lets everybody in without proof; without an ACL file they may read and write everything\. /
  ],
  [
    listener,
    'm.conf:1',
    /^Nobody can come in by the listener on port \d+ on 127\.0\.0\.1: 'allow_anonymous' is false \(the default\) and there is no 'password_file'\.$/
  ],
  [passwords, 'm.conf:2', /^Nobody can come in by the listener on port \d+ on 127\.0\.0\.1: password_file "p" has no users\.$/, lines('')],
  [
    `${acl}allow_anonymous true\n`,
    'm.conf:1',
    /^The listener on port \d+ on 127\.0\.0\.1 takes any username unproven, and acl_file "acl" gives rights by username\. /,
    pattern('pattern a/%u')
  ],
  [
    'listener PORT\npassword_file p\n',
    'm.conf:1',
    /^Passwords travel in clear text to the listener on port \d+: 'certfile' and 'keyfile' encrypt them\.$/,
    lines('')
  ],
  [
    `${passwords}acl_file acl\n`,
    'acl:2',
    'User \'bob\' has rules and no entry in password_file "p": nobody can use them.',
    { files: { p: `ann:$6$${salt}$${hash}\n`, acl: 'user bob\ntopic a\n' } }
  ],
  [
    `${passwords}acl_file acl\n`,
    'p:1',
    'User \'ann\' has no rules in acl_file "acl", which has no patterns: it may neither read nor write anything.',
    { files: { p: `ann:$6$${salt}$${hash}\n`, acl: 'user bob\ntopic a\n' } }
  ],
  [
    `${passwords}acl_file acl\n`,
    'acl:42',
    'The same is true of 5 further users.',
    { files: { p: '', acl: Array.from({ length: 25 }, (_, i) => `user u${i}\ntopic a\n`).join('') } }
  ],
  [`${acl}`, 'm.conf:2', "File acl can be changed by everybody. To fix this, use 'chmod o-w acl'.", { files: { acl: 'MODE 666' } }],
  [
    'listener PORT 192.0.2.77\n',
    'm.conf:1',
    'No network interface of this machine has the address 192.0.2.77: the listener cannot be opened here.'
  ],
  [
    'listener PORT 127.0.0.1\nlistener PORT 127.0.0.1\n',
    'm.conf:2',
    /^Address already in use: the listener on port \d+ on 127\.0\.0\.1 wants what the one on port \d+ on 127\.0\.0\.1 \(m\.conf:1\) has\.$/
  ],
  [`${listener}#!admin_socket server.key\n`, 'm.conf:2', 'There is no admin socket server.key: there is a file of that name.']
])

/** What is wrong with an object that a JavaScript program gives instead of a file. */
export const objectCauses: readonly (Cause & { readonly config: object })[] = (
  [
    [
      { max_inflight_messages: { of: 20 } },
      'config.max_inflight_messages',
      "'max_inflight_messages' must be a text, a number or a boolean."
    ],
    [{ log_type: ['all', null] }, 'config.log_type[1]', "'log_type' must be a text, a number or a boolean."],
    [{ listeners: 8883 }, 'config.listeners', "'listeners' must be an array of objects."],
    [{ listeners: [8883] }, 'config.listeners[0]', "'listeners' must be an array of objects."],
    [{ listeners: [{}, { port: '1884' }] }, 'config.listeners[1].port', "'port' must be a whole number from 0 to 65535."],
    [{ listeners: [{ address: '' }] }, 'config.listeners[0].address', "'address' must be a text, without blanks."],
    [
      { listeners: [{ path: '/x', port: 1 }] },
      'config.listeners[0].path',
      "'path' opens a Unix socket, which has no 'port' and no 'address'."
    ],
    [{ port: 1883 }, 'config.port', "'port' has no place in an object: its listeners are { port, address, path }."],
    [{ listeners: [{ max_qos: 3 }] }, 'config.listeners[0].max_qos', "'max_qos' must be between 0 and 2 inclusive."],
    [
      { listeners: [{ certfile: 'x' }] },
      'config.listeners[0].certfile',
      'Both certfile and keyfile must be provided to enable a TLS listener.'
    ],
    [{ Max_Qos: 1 }, 'config.Max_Qos', "Unknown configuration variable 'Max_Qos'."]
  ] as const
).map(([config, at, said]) => ({ conf: '', config, at, said }))
