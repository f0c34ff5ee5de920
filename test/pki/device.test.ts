// What a device looks at before it keeps a certificate.

import t from 'tap'
import { createAuthority, issueClient, parseAuthority } from '../../dist/pki/authority.js'
import { checkEnrolled } from '../../dist/pki/device.js'

t.test('whatever a device is called, its certificate is kept, and no other', async t => {
  const authority = await parseAuthority(await createAuthority({ commonName: 'Casa CA' }))
  for (const commonName of ['press-7', 'plant 7, press 2', 'a="b"', 'prensa ñ', '<x>;y']) {
    const { certificate, key } = await issueClient(authority, { commonName })
    const asked = { commonName, key, authority: authority.certificate }
    t.doesNotThrow(() => checkEnrolled(certificate, asked), commonName)
    t.throws(() => checkEnrolled(certificate, { ...asked, commonName: 'x' }), { message: /is for ".*", not for "x"/ })
    const other = await issueClient(authority, { commonName })
    t.throws(() => checkEnrolled(other.certificate, asked), { message: /it is for another key/ })
  }
})
