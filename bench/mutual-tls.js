// Mutual TLS and rights as a plant has them: one CA, a certificate for each side, an ACL in which the broker has to look.

import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { fail, main } from './brokers.js'

/** A CA with P-256 keys, a certificate for localhost and one for each of the clients. */
export function makeCertificates(folder, clients = ['bench']) {
  const certs = (...args) => {
    const { status, stderr } = spawnSync(process.execPath, [main, 'certs', ...args, '--dir', folder], { encoding: 'utf8' })
    if (status !== 0) fail(`certs ${args[0]}: ${stderr}`)
  }
  certs('init', '--key', 'ec')
  certs('server', 'localhost', '--ip', '127.0.0.1', '--key', 'ec')
  for (const client of clients) certs('client', client, '--key', 'ec')
}

/** The paths of CA, certificate and key for a broker. */
export function brokerFiles(folder) {
  return ['ca/ca.crt', 'broker/broker.crt', 'broker/broker.key'].map(name => join(folder, name))
}

/** For the listener. */
export function tlsLines(folder) {
  const [ca, cert, key] = brokerFiles(folder)
  return [`cafile ${ca}`, `certfile ${cert}`, `keyfile ${key}`, 'require_certificate true']
}

/** The paths for `secureWith`. */
export function clientTls(folder, client = 'bench') {
  return { ca: join(folder, 'ca/ca.crt'), cert: join(folder, `client/${client}.crt`), key: join(folder, `client/${client}.key`) }
}

/** Twenty users, of whom nobody is nineteen, and a pattern: the broker has to look. `more`: lines for the twentieth, and users beside. */
export function aclText(more = '') {
  const others = Array.from({ length: 19 }, (_, i) => `user other-${i}\ntopic readwrite other/${i}/#\ntopic read news/#\n`)
  return `${others.join('')}user bench\ntopic readwrite bench/#\n${more}pattern readwrite device/%u/#\n`
}
