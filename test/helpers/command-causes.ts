// What only a process can do wrong: with its command line, its environment, its account, its subcommands.

import { chmodSync, copyFileSync, existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Test } from 'tap'
import type { ErrorCode } from '../../dist/errors.js'
import { DiskStore } from '../../dist/store/disk.js'
import { recordLog } from './bare-broker.js'
import type { Cause } from './causes.js'
import { certsCauses, makeCa } from './certs-causes.js'
import { freePort } from './command.js'
import { openssl } from './openssl.js'
import { startRedis } from './redis-server.js'

export interface Command {
  readonly args: readonly string[]
  readonly said: string | RegExp
  readonly status: number
  readonly at?: string
  readonly conf?: string
  readonly files?: Cause['files']
  readonly env?: NodeJS.ProcessEnv
  /** A module that is loaded first. */
  readonly before?: string
  /** Of the row; absent: that of the command line. */
  readonly code?: ErrorCode
  /** `fixtures`: where certificates lie. */
  readonly prepare?: (t: Test, dir: string, fixtures: string) => Promise<void> | void
}

export const isRoot = process.getuid?.() === 0
const usual = 'listener PORT 127.0.0.1\nallow_anonymous true\n'
export const start = ['-c', 'm.conf']
const unprivileged = '/proc/sys/net/ipv4/ip_unprivileged_port_start'
/** The highest port that takes a privilege; in some containers none does. */
export const privileged = existsSync(unprivileged) ? Number(readFileSync(unprivileged, 'utf8')) - 1 : 1023

const rights = { acl: 'topic read a\n' }
const explain = ['acl', 'explain', '-i', 'p', '-c']
const form = 'a case is written USER [CLIENTID] read|write|subscribe TOPIC allow|deny [RULE]'

const dump = '{"dump":"mosquitero","version":1}\n'

async function makeStore(file: string): Promise<void> {
  const store = new DiskStore({ file, log: recordLog(), sync: false })
  await store.open()
  await store.commit([{ kind: 'session', session: { clientId: 'c', version: 4, expiryInterval: 60 } }])
  await store.close()
}

const commands: readonly Command[] = [
  { args: ['-c'], said: '-c argument given, but no config file specified.', status: 3 },
  { args: ['-p'], said: '-p argument given, but no port specified.', status: 3 },
  { args: ['-p', '65536'], said: 'Invalid port specified (65536).', status: 3 },
  { args: Array.from({ length: 11 }, (_, i) => ['-p', String(i + 1)]).flat(), said: 'Only 10 ports can be specified.', status: 3 },
  { args: ['--tls-keylog'], said: '--tls-keylog argument given, but no file specified.', status: 3 },
  { args: ['--nope'], said: "Unknown option '--nope'.", status: 3 },
  { args: ['--test-config'], said: 'Please provide a configuration file to test.', status: 3 },
  {
    args: ['-h'],
    before: 'data:text/javascript,Object.defineProperty(process,"versions",{value:{...process.versions,node:"18.0.0"}})',
    said: /^Mosquitero needs Node 20\.17 or newer; this is v\S+\.$/,
    status: 1
  },
  {
    args: ['-c', 'nope.conf'],
    code: 'ERR_CONF_OPEN',
    said: "Unable to open config file 'nope.conf'. No such file or directory.",
    status: 3
  },
  { args: ['-c', '.'], code: 'ERR_CONF_OPEN', said: 'Config file . is a directory.', status: 3 },
  {
    args: [...start, '--tls-keylog', 'no/keys'],
    conf: usual,
    code: 'ERR_TLS_FILE',
    said: 'Unable to open TLS keylog file no/keys for writing. No such file or directory.',
    status: 1
  },
  {
    args: start,
    conf: `${usual}pid_file no/pid\n`,
    code: 'ERR_PID_FILE',
    said: 'Unable to write pid file. no/pid: No such file or directory.',
    at: 'm.conf:3',
    status: 1
  },
  {
    args: start,
    conf: `${usual}persistence true\npersistence_location busy/\n`,
    code: 'ERR_STORE_IN_USE',
    said: 'Another broker, or a mosquitero store command, is using busy/mosquitto.db.mosquitero.',
    status: 1
  },
  {
    args: start,
    conf: `${usual}#!store redis://127.0.0.1:CLUSTER\n`,
    code: 'ERR_STORE',
    said: /^Redis at 127\.0\.0\.1:\d+ is part of a cluster, which is not supported\. A single server is\.$/,
    at: 'm.conf:3',
    status: 1,
    async prepare(t, dir) {
      const port = await freePort()
      await startRedis(t, dir, ['--port', String(port), '--bind', '127.0.0.1', '--cluster-enabled', 'yes'])
      writeFileSync(join(dir, 'm.conf'), readFileSync(join(dir, 'm.conf'), 'utf8').replace('CLUSTER', String(port)))
    }
  },
  {
    args: start,
    conf: usual,
    before: `data:text/javascript,import{Aedes}from"${import.meta.resolve('aedes')}";delete(Aedes.prototype.publish)`,
    code: 'ERR_AEDES',
    said: /^The installed aedes has no method publish; this broker needs exactly \S+\. Run npm ci\.$/,
    status: 1
  },
  {
    args: ['certs', 'init'],
    files: { 'certs/ca/ca.key': 'x' },
    code: 'ERR_PKI_EXISTS',
    said: 'certs/ca/ca.key exists and is not overwritten; move it away to make a new one.',
    status: 1
  },
  {
    args: ['certs', 'client', 'ann'],
    code: 'ERR_PKI_FILE',
    said: 'certs/ca/ca.crt is missing: the CA that signs. Put yours there, or make one with "mosquitero certs init".',
    status: 1
  },
  { args: ['certs', 'show', 'nope'], code: 'ERR_PKI_FILE', said: 'Unable to read nope: No such file or directory.', status: 1 },
  {
    args: ['certs', 'init', '--dir', 'x'],
    files: { x: '' },
    code: 'ERR_PKI_FILE',
    said: 'Unable to look for x/ca/ca.crt: Not a directory.',
    status: 1
  },
  { args: ['certs', 'init', '--dir', '/sys/x'], code: 'ERR_PKI_FILE', said: /^Unable to make the folder \/sys\/x\/ca: \w/, status: 1 },
  {
    args: ['certs', 'client', 'ann', '--out', '/sys/ann'],
    code: 'ERR_PKI_FILE',
    said: /^Unable to write \/sys\/ann\.key: \w/,
    status: 1,
    prepare: makeCa
  },
  {
    args: ['certs', 'client', 'a/b'],
    code: 'ERR_PKI_INPUT',
    said: 'The name "a/b" cannot be used: it holds "/", which separates topic levels and folders.',
    status: 1
  },
  {
    args: ['certs', 'server', 'a b'],
    code: 'ERR_PKI_INPUT',
    said: '"a b" cannot be a name of the broker: it is not a host name.',
    status: 1
  },
  { args: ['certs', 'server', '--ip', 'x'], code: 'ERR_PKI_INPUT', said: '"x" is not an IP address.', status: 1 },
  {
    args: ['certs', 'client', 'ann', '--days', '99999'],
    code: 'ERR_PKI_INPUT',
    said: 'A client certificate lives a whole number of days from 1 to 36500, not 99999.',
    status: 1,
    prepare: makeCa
  },
  {
    args: ['certs', 'client', 'ann', '--days', '9999'],
    code: 'ERR_PKI_INPUT',
    said: /^9999 days are more than the CA has left: it expires on \S+\.$/,
    status: 1,
    prepare: makeCa
  },
  {
    args: ['certs', 'show', 'x'],
    files: { x: 'x' },
    code: 'ERR_PKI_INPUT',
    said: 'x holds no certificate, key, certificate request or revocation list.',
    status: 1
  },
  {
    args: ['certs', 'client', 'ann'],
    code: 'ERR_TLS_KEY_ENCRYPTED',
    said: 'certs/ca/ca.key is protected by a passphrase. Give it in the environment as MOSQUITERO_CA_PASSPHRASE.',
    status: 1,
    async prepare(t, dir) {
      await makeCa(t, dir)
      const key = join(dir, 'certs/ca/ca.key')
      openssl('ec', '-in', key, '-aes256', '-passout', 'pass:x', '-out', key)
    }
  },
  {
    args: ['certs', 'client', 'ann'],
    code: 'ERR_TLS_KEY_MISMATCH',
    said: 'certs/ca/ca.key is not the key of certs/ca/ca.crt.',
    status: 1,
    async prepare(t, dir, fixtures) {
      await makeCa(t, dir)
      copyFileSync(join(fixtures, 'other.key'), join(dir, 'certs/ca/ca.key'))
    }
  },
  ...[
    ['ann read a', `This is no case: ${form}.`],
    ['ann read a allow acl:1 acl:2', `There are too many words: ${form}.`],
    ['ann read "a allow', 'The quotes of "a are not those of a JSON string.'],
    ['ann read a all', "'all' is nothing that can be expected of read: allow or deny would be right."],
    ['ann read a/# allow', "'a/#' is no topic name: reading and writing is about one topic, subscribing about filters."],
    ['ann subscribe a/#/b allow', "'a/#/b' is no topic filter."],
    ['ann subscribe a/# all acl:1', "'all' is not for one rule to say: leave 'acl:1' out."],
    ['ann read a allow 1', "'1' names no rule: FILE:LINE, such as acl:3, or a reason, such as no-rule, would be right."]
  ].map(
    ([line = '', said = '']): Command => ({
      args: ['acl', 'test', 'acl', 'cases'],
      files: { acl: 'topic read a\n', cases: `${line}\n` },
      code: 'ERR_ACL_CASE',
      said,
      at: 'cases:1',
      status: 1
    })
  ),
  { args: ['acl', 'test', 'acl', 'nope'], files: rights, said: 'Unable to open "nope". No such file or directory.', status: 1 },
  {
    args: ['acl', 'test', 'acl', 'acl.cases'],
    files: { ...rights, 'acl.cases': '# none\n' },
    said: 'There is no case in acl.cases.',
    status: 1
  },
  {
    args: [...explain, 'acl', '--listener', '1', 'read', 'a'],
    files: rights,
    said: "There is no listener '1': acl is an ACL file and has none.",
    status: 1
  },
  {
    args: [...explain, 'm.conf', 'read', 'a'],
    conf: 'per_listener_settings true\nlistener 1\nallow_anonymous true\nlistener 2\n',
    said: 'The listeners answer differently: name the one that is meant by --listener PORT.',
    status: 2
  },
  {
    args: [...explain, 'acl', 'read', 'a/#'],
    files: rights,
    said: "'a/#' is no topic name: ask what comes of subscribing to it, or about one topic.",
    status: 1
  },
  { args: [...explain, 'acl', 'read', 'a#'], files: rights, said: "'a#' is no topic name.", status: 1 },
  {
    args: [...explain, 'acl', '--cert', 'acl', 'read', 'a'],
    files: rights,
    said: 'There is no certificate in "acl" that can be read.',
    status: 1
  },
  { args: [...explain, 'acl', 'subscribe', 'a/#/b'], files: rights, said: "'a/#/b' is no topic filter.", status: 1 },
  { args: ['store', 'check', 'nope.db'], code: 'ERR_STORE_OPEN', said: 'There is no store nope.db.mosquitero.', status: 1 },
  {
    args: ['store', 'check', 'm.conf'],
    conf: usual,
    code: 'ERR_STORE_OPEN',
    said: 'There is no store m.conf.mosquitero, and m.conf is not a persistence database of Mosquitto.',
    status: 1
  },
  {
    args: ['store', 'export', 'm.db', '--out', 'x'],
    files: { x: '' },
    code: 'ERR_STORE_OPEN',
    said: 'Unable to write x: File exists.',
    status: 1,
    prepare: (_, dir) => makeStore(join(dir, 'm.db'))
  },
  {
    args: ['store', 'import', 'm.db', '--in', 'nope'],
    code: 'ERR_STORE_OPEN',
    said: 'Unable to read nope: No such file or directory.',
    status: 1
  },
  {
    args: ['store', 'import', 'm.db', '--in', 'x'],
    files: { x: '' },
    code: 'ERR_STORE_OPEN',
    said: 'There is nothing to import in x.',
    status: 1
  },
  {
    args: ['store', 'import', 'm.db', '--in', 'x'],
    files: { x: 'mosquitto 2.0 starting\n' },
    code: 'ERR_STORE_OPEN',
    said: 'x:1: the first line is not that of a dump.',
    status: 1
  },
  {
    args: ['store', 'import', 'm.db', '--in', 'x'],
    files: { x: `${dump}{"kind":"retained"}\n` },
    code: 'ERR_STORE_OPEN',
    said: 'x:2: a retained message has a message. The store is as it was.',
    status: 1
  },
  {
    args: ['store', 'import', 'm.db', '--in', 'x'],
    files: { x: dump },
    code: 'ERR_STORE_OPEN',
    said: 'The store m.db.mosquitero is not empty: --replace empties it first.',
    status: 1,
    prepare: (_, dir) => makeStore(join(dir, 'm.db'))
  }
]

/** What only root can do wrong, or another account. */
const accounts: readonly Command[] = isRoot
  ? [
      {
        args: start,
        conf: `${usual}user no-such-user\n`,
        code: 'ERR_USER',
        said: "Unable to drop privileges to 'no-such-user' because this user does not exist.",
        at: 'm.conf:3',
        status: 1
      },
      { args: start, conf: usual, env: { PUID: 'x' }, code: 'ERR_USER', said: "PUID not a valid ID 'x'.", status: 1 },
      {
        args: start,
        conf: usual,
        env: { PUID: '9999999999' },
        code: 'ERR_USER',
        said: /^Error setting uid whilst dropping privileges: ./,
        status: 1
      }
    ]
  : []

const nobody = isRoot ? 'user nobody\n' : ''

const ports: readonly Command[] = [
  {
    args: start,
    conf: `listener 0 closed/s.sock\n${nobody}`,
    files: { 'closed/x': '' },
    code: 'ERR_LISTEN_PERMISSION',
    said: 'Unable to open unix socket "closed/s.sock": Permission denied',
    at: 'm.conf:1',
    status: 1,
    prepare(t, dir) {
      chmodSync(join(dir, 'closed'), 0o555)
      t.teardown(() => chmodSync(join(dir, 'closed'), 0o755))
    }
  },
  {
    args: start,
    conf: `${usual}persistence true\npersistence_location open/\n${nobody}`,
    files: { 'open/mosquitto.db': 'x' },
    code: 'ERR_STORE_OPEN',
    said: 'Unable to read persistence_file open/mosquitto.db: Permission denied.',
    status: 1,
    prepare(_, dir) {
      chmodSync(join(dir, 'open'), 0o777)
      chmodSync(join(dir, 'open/mosquitto.db'), isRoot ? 0o600 : 0)
    }
  },
  {
    args: start,
    conf: usual,
    env: { UMASK_SET: '9' },
    code: 'ERR_USER',
    said: 'UMASK_SET environment variable not a valid octal number.',
    status: 1
  },
  // Where every port is free for everybody nobody can be refused one.
  ...(privileged > 0
    ? [
        {
          args: start,
          conf: `listener ${privileged} 127.0.0.1\n${nobody}`,
          code: 'ERR_LISTEN_PERMISSION' as const,
          said: 'Permission denied',
          at: 'm.conf:1',
          status: 1
        }
      ]
    : [])
]

export const commandCauses: readonly Command[] = [...commands, ...certsCauses, ...accounts, ...ports]
