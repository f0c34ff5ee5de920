import { execFileSync } from 'node:child_process'
import t from 'tap'
import { testPki } from '../helpers/pki.js'

function openssl(...args: string[]): string {
  return execFileSync('openssl', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] })
}

t.test('openssl verifies what the CA signs, for its purpose alone', async t => {
  const pki = await testPki(t)
  const server = await pki.server()
  const client = await pki.client('press-7')
  openssl('verify', '-x509_strict', '-purpose', 'sslserver', '-verify_hostname', 'localhost', '-CAfile', pki.ca, server.cert)
  openssl('verify', '-x509_strict', '-purpose', 'sslserver', '-verify_ip', '::1', '-CAfile', pki.ca, server.cert)
  openssl('verify', '-x509_strict', '-purpose', 'sslclient', '-CAfile', pki.ca, client.cert)
  t.throws(() => openssl('verify', '-purpose', 'sslclient', '-CAfile', pki.ca, server.cert))
  t.throws(() => openssl('verify', '-purpose', 'sslserver', '-CAfile', pki.ca, client.cert))
})

t.test('a certificate without extensions is X.509 v1 and still verifies', async t => {
  const pki = await testPki(t)
  const client = await pki.client('old', { v1: true })
  openssl('verify', '-CAfile', pki.ca, client.cert)
  t.match(openssl('x509', '-in', client.cert, '-noout', '-text'), /Version: 1 \(0x0\)/)
})

t.test('a chain over an intermediate CA verifies', async t => {
  const pki = await testPki(t)
  const plant = await pki.authority('Plant CA', { issuer: pki.root })
  const client = await pki.client('press-8', { ca: plant })
  openssl('verify', '-x509_strict', '-CAfile', pki.ca, '-untrusted', client.cert, client.cert)
})

t.test('openssl reads a CRL and refuses what it lists', async t => {
  const pki = await testPki(t)
  const client = await pki.client('lost')
  const other = await pki.client('kept')
  const crl = await pki.revoke(client)
  openssl('verify', '-x509_strict', '-crl_check', '-CRLfile', crl, '-CAfile', pki.ca, other.cert)
  t.throws(() => openssl('verify', '-crl_check', '-CRLfile', crl, '-CAfile', pki.ca, client.cert), /certificate revoked/)
  const expired = await pki.crl({ expired: true })
  t.throws(() => openssl('verify', '-crl_check', '-CRLfile', expired, '-CAfile', pki.ca, other.cert), /CRL has expired/)
})
