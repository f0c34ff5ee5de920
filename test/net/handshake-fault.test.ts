// The words for a failed handshake do not depend on the version of OpenSSL that Node has.

import t from 'tap'
import { handshakeFault } from '../../dist/net/handshake-fault.js'

const failed = (code: string): Error => Object.assign(new Error('as OpenSSL says it'), { code })

t.test('alerts are known by the name that OpenSSL 3.0 gives them, and by that of 3.2 and later', async t => {
  for (const name of ['HANDSHAKE_FAILURE', 'BAD_CERTIFICATE', 'CERTIFICATE_UNKNOWN', 'CERTIFICATE_EXPIRED', 'CERTIFICATE_REVOKED']) {
    const [old, recent] = ['SSLV3', 'SSL/TLS'].map(start => handshakeFault(failed(`ERR_SSL_${start}_ALERT_${name}`)))
    t.not(old?.reason, 'handshake-error', name)
    t.same(recent, old)
  }
  t.equal(handshakeFault(failed('ERR_SSL_TLSV1_ALERT_UNKNOWN_CA')).reason, 'broker-not-trusted')
})

t.test('what is not known keeps its words', async t => {
  t.equal(handshakeFault(failed('ERR_SSL_SSL/TLS_ALERT_UNEXPECTED_MESSAGE')).reason, 'handshake-error')
})
