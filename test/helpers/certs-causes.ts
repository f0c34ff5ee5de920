// What can go wrong with `mosquitero certs` once there is a CA, caused for real: the rows of docs/errors.md about requests and the record.

import { appendFileSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Test } from 'tap'
import { mosquitero } from './command.js'
import type { Command } from './command-causes.js'
import { openssl } from './openssl.js'

export async function makeCa(t: Test, dir: string): Promise<void> {
  await mosquitero(t, ['certs', 'init'], { cwd: dir, input: '' }).ended
}

async function makeClient(t: Test, dir: string): Promise<void> {
  await makeCa(t, dir)
  await mosquitero(t, ['certs', 'client', 'ann'], { cwd: dir, input: '' }).ended
}

const refused = { code: 'ERR_PKI_INPUT', status: 1 } as const

export const certsCauses: readonly Command[] = [
  {
    args: ['certs', 'renew', 'bob'],
    code: 'ERR_PKI_FILE',
    said: 'There is no certificate of "bob" in certs/client/, and no such file.',
    status: 1,
    prepare: makeCa
  },
  {
    args: ['certs', 'show', 'localhost:1'],
    code: 'ERR_PKI_FILE',
    said: /^No certificate to be had from localhost:1: \w[^:]*\.$/,
    status: 1
  },
  {
    args: ['certs', 'renew', 'certs/ca/ca.key'],
    ...refused,
    said: 'certs/ca/ca.key holds no certificate that can be read.',
    prepare: makeCa
  },
  {
    args: ['certs', 'show', 'x.p12'],
    ...refused,
    env: { MOSQUITERO_KEY_PASSPHRASE: 'x' },
    said: 'x.p12 is damaged, or encrypted in a way that is not known here (RC2, for example).',
    prepare: (_, dir) => writeFileSync(join(dir, 'x.p12'), Buffer.from('3003020103', 'hex'))
  },
  {
    args: ['certs', 'sign', 'x.csr'],
    ...refused,
    files: { 'x.csr': 'x' },
    said: 'The certificate request in x.csr is refused: there is no certificate request in it.'
  },
  {
    args: ['certs', 'renew', 'ann'],
    ...refused,
    said: /^The certificate with the serial [\dA-F]{32} is revoked; what is revoked is not renewed\.$/,
    async prepare(t, dir) {
      await makeClient(t, dir)
      await mosquitero(t, ['certs', 'revoke', 'ann'], { cwd: dir, input: '' }).ended
    }
  },
  {
    args: ['certs', 'revoke', 'ann.crt', '--dir', 'other'],
    ...refused,
    said: /^The certificate with the serial [\dA-F]{32} was not signed by this CA\.$/,
    async prepare(t, dir) {
      await makeClient(t, dir)
      writeFileSync(join(dir, 'ann.crt'), readFileSync(join(dir, 'certs/client/ann.crt')))
      await mosquitero(t, ['certs', 'init', '--dir', 'other'], { cwd: dir, input: '' }).ended
    }
  },
  {
    args: ['certs', 'renew', 'old.crt'],
    ...refused,
    said: 'The certificate does not say whether it is for a client or a server; say it with --as client or --as server.',
    async prepare(t, dir) {
      await makeCa(t, dir)
      const at = (name: string) => join(dir, name)
      openssl('req', '-new', '-newkey', 'rsa:2048', '-nodes', '-keyout', at('old.key'), '-out', at('old.csr'), '-subj', '/CN=old')
      const ca = ['-CA', at('certs/ca/ca.crt'), '-CAkey', at('certs/ca/ca.key'), '-CAcreateserial']
      openssl('x509', '-req', '-in', at('old.csr'), ...ca, '-out', at('old.crt'), '-days', '100')
    }
  },
  {
    args: ['certs', 'revoke', 'bob'],
    ...refused,
    said: 'What is "bob"? certs/ca/index.txt has no certificate of that name or serial, and there is no such file.',
    prepare: makeCa
  },
  {
    args: ['certs', 'crl'],
    ...refused,
    said: 'certs/ca/index.txt:2 is damaged, and it may have said that a certificate is revoked. Mend or remove the line.',
    async prepare(t, dir) {
      await makeClient(t, dir)
      appendFileSync(join(dir, 'certs/ca/index.txt'), 'R\t29\n')
    }
  },
  {
    args: ['certs', 'show', 'x.p12'],
    code: 'ERR_TLS_KEY_ENCRYPTED',
    said: 'x.p12 is protected by a passphrase. Give it in the environment as MOSQUITERO_KEY_PASSPHRASE.',
    status: 1,
    prepare: (_, dir) => writeFileSync(join(dir, 'x.p12'), Buffer.from('3003020103', 'hex'))
  },
  {
    args: ['certs', 'client', 'ann', '--passphrase'],
    code: 'ERR_TLS_KEY_ENCRYPTED',
    said: 'Nobody is there to ask for a passphrase; give it as MOSQUITERO_KEY_PASSPHRASE.',
    status: 1,
    prepare: makeCa
  },
  {
    args: ['certs', 'client', 'ann'],
    code: 'ERR_TLS_KEY_ENCRYPTED',
    env: { MOSQUITERO_CA_PASSPHRASE: 'y' },
    said: 'The passphrase does not open certs/ca/ca.key.',
    status: 1,
    async prepare(t, dir) {
      await makeCa(t, dir)
      const key = join(dir, 'certs/ca/ca.key')
      openssl('ec', '-in', key, '-aes256', '-passout', 'pass:x', '-out', key)
    }
  }
]
